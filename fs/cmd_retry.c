/* ossmount retry: failed uploads once more, now. */
#include "ask.h"
#include "command.h"

#include "../oss/oss.h"

#include <stdlib.h>
#include <string.h>

/* The key of a path as typed: below the mountpoint, or absolute. NULL after a line on stderr. */
static char *key_of(const struct ask *a, const char *prefix, const char *path)
{
    size_t n = strlen(a->mountpoint);
    char *key = NULL;

    if (*path == '/' && (strncmp(path, a->mountpoint, n) != 0 || path[n] != '/')) {
        command_fail("%s does not lie below %s", path, a->mountpoint);
        return NULL;
    }
    if (asprintf(&key, "%s%s", prefix, *path == '/' ? path + n + 1 : path) < 0)
        return NULL;
    return key;
}

static int retry(struct ask *a, const char *path)
{
    struct buf text = BUF_INIT(65536);
    char *prefix = NULL, *key = NULL;
    int r = -1, got = ask_simple(a, &r, &text, "where");
    unsigned long n = 0;

    if (got == 0 && r == 0 && (prefix = ask_value(&text, "prefix")))
        key = path ? key_of(a, prefix, path) : NULL;
    if (got == 0 && prefix && (key || !path))
        got = key ? ask_simple(a, &r, &text, "retry", key) : ask_simple(a, &r, &text, "retry");
    if (got < 0)
        r = command_fail("%s does not answer: %s", a->mountpoint, strerror(-got));
    else if (r < 0 || (path && !key))
        r = r < 0 ? command_fail("%s", buf_str(&text)) : 1;
    else if ((n = strtoul(buf_str(&text), NULL, 10)) == 0 && path)
        r = command_fail("nothing of %s has failed", path);
    else if (n == 0)
        puts("nothing has failed");
    else
        printf("%lu %s sent again\n", n, n == 1 ? "file is" : "files are");
    free(prefix);
    free(key);
    buf_free(&text);
    return r;
}

int cmd_retry(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int c = command_option(argc, argv, "h", options), r;
    struct message message;
    struct ask a;

    if (c != -1)
        return command_status(c);
    if (command_misused(argc, 1, 2))
        return 2;
    r = ask_open(&a, argv[optind], &message);
    r = r < 0 ? command_fail("%s", message.text) : retry(&a, argv[optind + 1]);
    ask_close(&a);
    return r;
}
