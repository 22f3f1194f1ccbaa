/* ossmount flush, ossmount umount: wait until all is sent; with progress on a terminal. */
#include "ask.h"
#include "command.h"
#include "mountpoint.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PACE_MS 200

/* The line on stderr that is written over and over. */
struct progress_line {
    bool on;
    bool shown;
};

static void line_show(struct progress_line *line, const char *text)
{
    if (!line->on)
        return;
    fprintf(stderr, "\r%s\033[K", text);
    line->shown = true;
}

static void line_end(struct progress_line *line)
{
    if (line->shown)
        fputs("\r\033[K", stderr);
    line->shown = false;
}

/* What is on its way, asked on a connection of its own, since the other one waits. */
static void line_update(struct progress_line *line, struct ask *other)
{
    struct buf text = BUF_INIT(65536);
    struct winsize size;
    char width[16];
    int r;

    if (!line->on || other->fd < 0)
        return;
    snprintf(width, sizeof(width), "%d", ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 80);
    if (ask_simple(other, &r, &text, "status", "line", width) == 0 && r == 0)
        line_show(line, buf_str(&text));
    buf_free(&text);
}

/* 0 when all is in the bucket; 1 after the names of what is not. */
static int flush(struct ask *a, struct progress_line *line)
{
    struct buf text = BUF_INIT(64U << 20);
    struct ask other = {.fd = -1};
    struct message message;
    int r = 0, got;

    if (line->on && ask_open(&other, a->mountpoint, &message) < 0)
        line->on = false;
    got = ask_send(a, "flush", NULL);
    while (got == 0 && (got = ask_wait(a, PACE_MS, &r, &text)) == 0)
        line_update(line, &other);
    line_end(line);
    ask_close(&other);
    if (got < 0)
        r = command_fail("%s: its process has ended: what is unsent stays for the next mount", a->mountpoint);
    else if (r < 0)
        r = command_fail("%s", buf_str(&text));
    else if (text.len)
        fprintf(stderr, "ossmount: %s", buf_str(&text));
    buf_free(&text);
    return r;
}

/* Until the daemon has closed the connection: it has sent the rest, and ended. */
static void await_end(struct ask *a, struct progress_line *line)
{
    struct buf text = BUF_INIT(65536);
    int r, got = 0;

    while (got >= 0) {
        got = ask_send(a, "status", "line", "80", NULL);
        if (got == 0)
            got = ask_wait(a, -1, &r, &text);
        if (got > 0 && r == 0)
            line_show(line, buf_str(&text));
        if (got >= 0)
            usleep(PACE_MS * 1000);
    }
    line_end(line);
    buf_free(&text);
}

int cmd_flush(int argc, char **argv)
{
    static const struct option options[] = {
        {"quiet", no_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct progress_line line = {.on = isatty(STDERR_FILENO)};
    struct message message;
    struct ask a;
    int c, r;

    while ((c = command_option(argc, argv, "qh", options)) >= 0)
        line.on = false;
    if (c != -1)
        return command_status(c);
    if (command_misused(argc, 1, 1))
        return 2;
    r = ask_open(&a, argv[optind], &message);
    r = r < 0 ? command_fail("%s", message.text) : flush(&a, &line);
    ask_close(&a);
    return r;
}

static int unmount(struct ask *a, bool force, struct progress_line *line)
{
    int r = force ? 0 : flush(a, line);

    if (r)
        return command_fail("not unmounted (--force does it, and what is unsent is kept)");
    r = mountpoint_remove(a->mountpoint, force);
    if (r == -EBUSY || r == -EPERM)
        return command_fail("%s is in use: close what is open there (lsof %s), or --force", a->mountpoint,
                            a->mountpoint);
    if (r < 0)
        return command_fail("%s: %s", a->mountpoint, strerror(-r));
    if (!force)
        await_end(a, line);
    return 0;
}

int cmd_umount(int argc, char **argv)
{
    static const struct option options[] = {{"force", no_argument, NULL, 'f'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct progress_line line = {.on = isatty(STDERR_FILENO)};
    struct message message;
    bool force = false;
    struct ask a;
    int c, r;

    while ((c = command_option(argc, argv, "fqh", options)) >= 0) {
        force = force || c == 'f';
        line.on = line.on && c != 'q';
    }
    if (c != -1)
        return command_status(c);
    if (command_misused(argc, 1, 1))
        return 2;
    r = ask_open(&a, argv[optind], &message);
    /* Nobody answers: a dead mount, or a daemon without a socket. */
    if (r == -ENOTCONN && force && mountpoint_remove(a.mountpoint, true) == 0)
        r = 0;
    else if (r < 0)
        r = command_fail("%s", message.text);
    else if (*a.below)
        r = command_fail("%s is not a mountpoint: it lies below %s", argv[optind], a.mountpoint);
    else
        r = unmount(&a, force, &line);
    ask_close(&a);
    return r;
}
