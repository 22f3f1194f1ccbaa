/* ossmount restore: an archived object becomes readable; that takes from a minute to two days, by class and tier. */
#include "ask.h"
#include "command.h"
#include "format.h"

#include "../oss/base_time.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAUSE_FIRST_MS 1000
#define PAUSE_MAX_MS   60000

struct wish {
    const char *days, *tier; /* tier: or NULL */
    bool wait;
};

/* One question; the state is malloc'ed into *state, NULL after a line on stderr. `days` "0": only look. */
static void ask_state(struct ask *a, const char *key, const char *days, const char *tier, char **state,
                      struct buf *text)
{
    int r = 0, got;

    *state = NULL;
    got = tier ? ask_send(a, "restore", key, days, tier, NULL) : ask_send(a, "restore", key, days, NULL);
    if (got == 0)
        got = ask_wait(a, -1, &r, text); /* as long as the client's own deadlines */
    if (got < 0)
        command_fail("%s does not answer", a->mountpoint);
    else if (r < 0)
        command_fail("%s: %s", a->below, buf_str(text));
    else if (!(*state = ask_value(text, "state")))
        command_fail("an answer that is none");
}

/* Until it is ready; with a line that tells how long that has taken by now. 0, or 1. */
static int wait_for(struct ask *a, const char *key, struct buf *text)
{
    bool line = isatty(STDERR_FILENO);
    int64_t began = clock_ms(), pause = PAUSE_FIRST_MS, next = began + pause;
    char since[FORMAT_SIZE], *state = NULL;
    int r = 0;

    while (r == 0) {
        if (line)
            fprintf(stderr, "\r%s is being restored, for %s so far (it goes on without this command)\033[K", a->below,
                    format_duration(since, clock_ms() - began));
        poll(NULL, 0, 1000);
        if (clock_ms() < next)
            continue;
        ask_state(a, key, "0", NULL, &state, text);
        if (!state || strcmp(state, "ready") == 0)
            break;
        if (strcmp(state, "ongoing") != 0)
            r = command_fail("%s is %s again: the restoration has ended without success", a->below, state);
        free(state);
        state = NULL;
        pause = pause * 3 / 2 < PAUSE_MAX_MS ? pause * 3 / 2 : PAUSE_MAX_MS;
        next = clock_ms() + pause;
    }
    if (line)
        fputs("\r\033[K", stderr);
    r = state ? 0 : 1;
    free(state);
    return r;
}

/* "Archive object, readable until ...": what the service says of it. */
static void tell_ready(const struct ask *a, const struct buf *text)
{
    char *restore = ask_value(text, "restore"), *klass = ask_value(text, "class");
    const char *until = restore ? strstr(restore, "expiry-date=\"") : NULL;

    if (until)
        printf("%s can be read until %.*s (%s)\n", a->below, (int)strcspn(until + 13, "\""), until + 13, klass);
    else
        printf("%s can be read: it is not archived (%s)\n", a->below, klass);
    free(restore);
    free(klass);
}

static int restore(struct ask *a, const struct wish *wish)
{
    struct buf text = BUF_INIT(1U << 20);
    char *prefix = NULL, *key = NULL, *state = NULL;
    int r = 1, got;

    if (ask_simple(a, &got, &text, "where") < 0 || got < 0 || !(prefix = ask_value(&text, "prefix")) ||
        asprintf(&key, "%s%s", prefix, a->below) < 0)
        command_fail("%s does not answer", a->mountpoint);
    else
        ask_state(a, key, wish->days, wish->tier, &state, &text);
    if (state && strcmp(state, "ready") != 0) {
        printf("%s: %s\n", a->below,
               strcmp(state, "asked") == 0 ? "restoration asked for" : "restoration is going on");
        fflush(stdout);
        r = wish->wait ? wait_for(a, key, &text) : 0;
        if (wish->wait && r == 0)
            tell_ready(a, &text);
    } else if (state) {
        tell_ready(a, &text);
        r = 0;
    }
    free(prefix);
    free(key);
    free(state);
    buf_free(&text);
    return r;
}

static bool is_tier(const char *text)
{
    return strcmp(text, "Expedited") == 0 || strcmp(text, "Standard") == 0 || strcmp(text, "Bulk") == 0;
}

int cmd_restore(int argc, char **argv)
{
    static const struct option options[] = {{"days", required_argument, NULL, 'd'},
                                            {"tier", required_argument, NULL, 't'},
                                            {"no-wait", no_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct wish wish = {.days = "1", .wait = true};
    struct message message;
    struct ask a;
    int c, r;

    while ((c = command_option(argc, argv, "h", options)) >= 0) {
        if (c == 'd')
            wish.days = optarg;
        else if (c == 't')
            wish.tier = optarg;
        else
            wish.wait = false;
        if (c == 'd' && (strspn(optarg, "0123456789") != strlen(optarg) || atoi(optarg) < 1 || atoi(optarg) > 365))
            return command_fail("--days %s: 1 to 365", optarg);
        if (c == 't' && !is_tier(optarg))
            return command_fail("--tier %s: Expedited, Standard or Bulk", optarg);
    }
    if (c != -1)
        return command_status(c);
    if (command_misused(argc, 1, 1))
        return 2;
    r = ask_open(&a, argv[optind], &message);
    if (r < 0)
        r = command_fail("%s", message.text);
    else if (!*a.below)
        r = command_fail("%s is the mountpoint: name a file", argv[optind]);
    else
        r = restore(&a, &wish);
    ask_close(&a);
    return r;
}
