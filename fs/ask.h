/*
 * ask.h: the commands' end of the control socket (control.h): from a path to the daemon of the mount that it is on,
 * and one question at a time.
 */
#ifndef FS_ASK_H
#define FS_ASK_H

#include "message.h"
#include "runtime.h"

#include "../oss/base_buf.h"

#include <errno.h>

struct ask {
    int fd; /* -1: no daemon */
    char *mountpoint, *source;
    char *below; /* the path below the mountpoint, "" for itself */
    uid_t uid;   /* who mounted it */
    struct buf in;
};

/*
 * Connects to the daemon of the mount that `path` is on. 0; -ENOENT: it is on no mount of ours; -ENOTCONN: the mount
 * is there, but nobody answers (everything but fd is filled then). `message` says it. Release with ask_close() in
 * each case.
 */
int ask_open(struct ask *a, const char *path, struct message *message);
/* The same to a mount known already. */
int ask_open_mount(struct ask *a, const struct mount *mount, struct message *message);
void ask_close(struct ask *a);

/* Sends a question: the words up to NULL. 0 or a negative errno. */
int ask_send(struct ask *a, const char *word, ...) __attribute__((sentinel));

/*
 * Waits for the answer at most `timeout_ms` (-1: however long): 1 with *r (0, or the daemon's negative errno) and the
 * text; 0 when it has not come yet; -ECONNRESET when the daemon has ended, or another negative errno.
 */
int ask_wait(struct ask *a, int timeout_ms, int *r, struct buf *text);

/* Both: *r as above. 0, -ETIMEDOUT after ten seconds, or another negative errno. */
#define ask_simple(a, r, text, ...) (ask_send(a, __VA_ARGS__, NULL) < 0 ? -ECONNRESET : ask_answer(a, r, text))
int ask_answer(struct ask *a, int *r, struct buf *text);

/* The value of a line "name value" of a text, unescaped and malloc'ed; NULL when there is none. */
char *ask_value(const struct buf *text, const char *name);

#endif
