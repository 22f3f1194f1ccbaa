/* ossmount status: the answer is made by the daemon; here it is shown. */
#include "ask.h"
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct wish {
    const char *form; /* "text", "json", "metrics" */
    int watch;        /* seconds, 0: once */
    const char *path; /* or NULL: all mounts */
};

static unsigned columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 100;
}

/* One answer of an open connection; 0, or 1 after a line on stderr. */
static int show(struct ask *a, const struct wish *wish, struct buf *out)
{
    struct buf text = BUF_INIT(64U << 20);
    char width[16];
    int r = 0, got;

    snprintf(width, sizeof(width), "%u", columns());
    got = ask_simple(a, &r, &text, "status", wish->form, width);
    if (got < 0)
        got =
            command_fail("%s: %s", a->mountpoint,
                         got == -ETIMEDOUT ? "its process does not answer (stopped, or very busy)" : "it has ended");
    else if (r < 0)
        got = command_fail("%s: %s", a->mountpoint, buf_str(&text));
    else
        buf_add(out, buf_str(&text), text.len);
    buf_free(&text);
    return got;
}

static int show_path(const struct wish *wish, struct buf *out)
{
    struct message message;
    struct ask a;
    int r = ask_open(&a, wish->path, &message);

    r = r < 0 ? command_fail("%s", message.text) : show(&a, wish, out);
    ask_close(&a);
    return r;
}

/* Those of another user that we may not ask are passed over; a dead one is a failure. */
static int show_all(const struct wish *wish, struct buf *out)
{
    struct mounts mounts;
    struct message message;
    size_t shown = 0;
    int r = mounts_load(MOUNT_TYPE_OURS, &mounts), failed = 0;

    if (r < 0)
        return command_fail("cannot read the table of mounts: %s", strerror(-r));
    if (strcmp(wish->form, "metrics") == 0 && mounts.n > 1) {
        mounts_free(&mounts);
        return command_fail("several buckets are mounted: name one mountpoint");
    }
    for (size_t i = 0; i < mounts.n; i++) {
        struct ask a;

        if (geteuid() != 0 && mounts.v[i].uid != geteuid())
            continue;
        if (shown++ && strcmp(wish->form, "text") == 0)
            buf_adds(out, "\n");
        r = ask_open_mount(&a, &mounts.v[i], &message);
        failed |= r < 0 ? command_fail("%s", message.text) : show(&a, wish, out);
        ask_close(&a);
    }
    mounts_free(&mounts);
    return shown ? failed : command_fail("no bucket is mounted");
}

static int once(const struct wish *wish)
{
    struct buf out = BUF_INIT(256U << 20);
    int r = wish->path ? show_path(wish, &out) : show_all(wish, &out);

    /* In one piece, so that a screen does not flicker. */
    if (wish->watch && isatty(STDOUT_FILENO))
        fputs("\033[H\033[J", stdout);
    fwrite(buf_str(&out), 1, out.len, stdout);
    buf_free(&out);
    return fflush(stdout) == 0 ? r : 1;
}

int cmd_status(int argc, char **argv)
{
    static const struct option options[] = {{"watch", optional_argument, NULL, 'w'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"metrics", no_argument, NULL, 'm'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct wish wish = {.form = "text"};
    int c, r;

    while ((c = command_option(argc, argv, "w::jmh", options)) >= 0) {
        if (c == 'j')
            wish.form = "json";
        else if (c == 'm')
            wish.form = "metrics";
        else
            wish.watch = optarg ? atoi(optarg) : 1;
        if (c == 'w' && (wish.watch < 1 || wish.watch > 3600))
            return command_fail("--watch=SECONDS: 1 to 3600");
    }
    if (c != -1)
        return command_status(c);
    if (command_misused(argc, 0, 1))
        return 2;
    wish.path = argv[optind];
    while ((r = once(&wish)) == 0 && wish.watch)
        poll(NULL, 0, wish.watch * 1000);
    return r;
}
