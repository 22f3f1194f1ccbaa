#include "ask.h"

#include "../oss/base_time.h"
#include "../oss/url.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX     (64u << 20)
#define ANSWER_HEAD    64
#define ANSWER_WAIT_MS 10000

/* ------------------------------------------------------------------------------------------------ paths */

/* Absolute, without "//", "/./" and an end "/"; symbolic links stay. */
static char *absolute(const char *path)
{
    char cwd[PATH_MAX], *joined = NULL, *out, *rest, *part;
    size_t n = 0;

    if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
        return NULL;
    if (asprintf(&joined, "%s/%s", *path == '/' ? "" : cwd, path) < 0)
        return NULL;
    out = malloc(strlen(joined) + 2);
    rest = joined;
    while (out && (part = strsep(&rest, "/"))) {
        if (!*part || strcmp(part, ".") == 0)
            continue;
        out[n++] = '/';
        memcpy(out + n, part, strlen(part));
        n += strlen(part);
    }
    if (out && n == 0)
        out[n++] = '/';
    if (out)
        out[n] = '\0';
    free(joined);
    return out;
}

/* The parent without links, the last component as it is: a dead mount cannot be looked at, a link is the file meant.
 */
static char *resolved(const char *path)
{
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL, *parent = NULL, *out = NULL;

    if (slash) {
        *slash = '\0';
        parent = realpath(*copy ? copy : "/", NULL);
    }
    if (parent && asprintf(&out, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, slash + 1) < 0)
        out = NULL;
    free(parent);
    free(copy);
    return out;
}

static int fill(struct ask *a, const struct mount *m, const char *below)
{
    while (*below == '/')
        below++;
    a->mountpoint = strdup(m->path);
    a->source = strdup(m->source);
    a->below = strdup(below);
    a->uid = m->uid;
    return a->mountpoint && a->source && a->below ? 0 : -ENOMEM;
}

static int connect_mount(struct ask *a, const struct mount *m, struct message *message)
{
    a->fd = runtime_connect(m);
    if (a->fd >= 0)
        return 0;
    if (a->fd == -EACCES)
        message_set(message, 0, "%s is mounted by another user (uid %u): only that user and root may ask", m->path,
                    (unsigned)m->uid);
    else
        message_set(
            message, 0,
            "nobody answers for %s: its process has ended or is ending (umount -l removes a dead mount, so does "
            "mounting again)",
            m->path);
    a->fd = -1;
    return -ENOTCONN;
}

/* The mount of a path as typed, else of where it leads. */
static const struct mount *find(const struct mounts *mounts, char **path)
{
    const struct mount *m = mounts_over(mounts, *path);
    char *real;

    if (m)
        return m;
    real = resolved(*path);
    if (!real)
        return NULL;
    free(*path);
    *path = real;
    m = mounts_over(mounts, *path);
    if (!m && (real = realpath(*path, NULL))) {
        free(*path);
        *path = real;
        m = mounts_over(mounts, *path);
    }
    return m;
}

int ask_open(struct ask *a, const char *path, struct message *message)
{
    struct mounts mounts;
    const struct mount *m;
    char *at = absolute(path);
    int r = mounts_load(MOUNT_TYPE_OURS, &mounts);

    *a = (struct ask){.fd = -1};
    buf_init(&a->in, ANSWER_MAX + ANSWER_HEAD);
    if (r == 0 && !at)
        r = -ENOMEM;
    m = r == 0 ? find(&mounts, &at) : NULL;
    if (r < 0)
        message_set(message, r, "cannot read the table of mounts: %s", strerror(-r));
    else if (!m)
        r = message_set(message, -ENOENT, "%s is not on a mount of ossmount%s", path,
                        mounts.n ? " (ossmount status lists them)" : ": none is there");
    else
        r = fill(a, m, at + strlen(m->path));
    if (r == 0)
        r = connect_mount(a, m, message);
    mounts_free(&mounts);
    free(at);
    return r;
}

int ask_open_mount(struct ask *a, const struct mount *mount, struct message *message)
{
    int r;

    *a = (struct ask){.fd = -1};
    buf_init(&a->in, ANSWER_MAX + ANSWER_HEAD);
    r = fill(a, mount, "");
    return r < 0 ? message_set(message, r, "out of memory") : connect_mount(a, mount, message);
}

void ask_close(struct ask *a)
{
    if (a->fd >= 0)
        close(a->fd);
    free(a->mountpoint);
    free(a->source);
    free(a->below);
    buf_free(&a->in);
    *a = (struct ask){.fd = -1};
}

/* -------------------------------------------------------------------------------------------- questions */

int ask_send(struct ask *a, const char *word, ...)
{
    struct buf line = BUF_INIT(65536);
    size_t at = 0;
    va_list ap;
    int r;

    va_start(ap, word);
    for (const char *w = word; w; w = va_arg(ap, const char *)) {
        buf_adds(&line, line.len ? " " : "");
        url_escape(&line, w, strlen(w), true);
    }
    va_end(ap);
    r = buf_adds(&line, "\n");
    while (r == 0 && at < line.len) {
        ssize_t n = send(a->fd, line.data + at, line.len - at, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            r = -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    buf_free(&line);
    return r;
}

/* Is a whole answer there? 1, 0, or -EPROTO. */
static int take(struct ask *a, int *r, struct buf *text)
{
    char *end = a->in.len ? memchr(a->in.data, '\n', a->in.len) : NULL;
    unsigned long err = 0;
    size_t bytes = 0, head;

    if (!end)
        return a->in.len > ANSWER_HEAD ? -EPROTO : 0;
    head = (size_t)(end - a->in.data) + 1;
    if (strncmp(a->in.data, "ok ", 3) == 0)
        bytes = strtoul(a->in.data + 3, NULL, 10);
    else if (strncmp(a->in.data, "error ", 6) == 0)
        err = strtoul(a->in.data + 6, &end, 10), bytes = strtoul(end, NULL, 10);
    else
        return -EPROTO;
    if (bytes > ANSWER_MAX || err > 4095)
        return -EPROTO;
    if (a->in.len < head + bytes)
        return 0;
    buf_reset(text);
    buf_add(text, a->in.data + head, bytes);
    buf_reset(&a->in); /* one answer to one question: nothing follows it */
    *r = -(int)err;
    return 1;
}

int ask_wait(struct ask *a, int timeout_ms, int *r, struct buf *text)
{
    int64_t end = clock_ms() + timeout_ms;
    char chunk[65536];

    for (;;) {
        struct pollfd p = {.fd = a->fd, .events = POLLIN};
        int64_t left = end - clock_ms();
        ssize_t n;
        int got = take(a, r, text);

        if (got != 0)
            return got;
        got = poll(&p, 1, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got <= 0 && timeout_ms >= 0 && clock_ms() >= end)
            return 0;
        if (got <= 0)
            continue;
        n = recv(a->fd, chunk, sizeof(chunk), 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return -ECONNRESET;
        if (n > 0 && buf_add(&a->in, chunk, (size_t)n) < 0)
            return -EPROTO;
    }
}

int ask_answer(struct ask *a, int *r, struct buf *text)
{
    int got = ask_wait(a, ANSWER_WAIT_MS, r, text);

    return got > 0 ? 0 : got == 0 ? -ETIMEDOUT : got;
}

char *ask_value(const struct buf *text, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = buf_str(text); p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        char *value;

        if (strncmp(p, name, n) != 0 || p[n] != ' ')
            continue;
        value = strndup(p + n + 1, strcspn(p + n + 1, "\n"));
        if (value && url_unescape(value) < 0)
            *value = '\0';
        return value;
    }
    return NULL;
}
