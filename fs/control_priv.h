/*
 * control_priv.h: what control.c (the thread, the connections) and control_ask.c (the answers) share.
 */
#ifndef FS_CONTROL_PRIV_H
#define FS_CONTROL_PRIV_H

#include "control.h"
#include "runtime.h"

#include "../oss/base_buf.h"
#include "../oss/base_list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define CONTROL_ANSWER_MAX (64u << 20)
#define CONTROL_LATER      1 /* control_ask(): the answer comes by control_answer() */

struct client {
    int fd; /* -1: nobody */
    uint64_t id;
    char *line; /* CONTROL_LINE bytes, n of them in use */
    size_t n;
    bool busy, broken;
    struct buf out;
    size_t written;
    int64_t moved_ms; /* when a byte of the answer last went */
};

/* The thread's own, but for what mu guards. */
struct control {
    atomic_uint refs; /* 1, and one for each answer that is to come */
    struct control_config config;
    time_t started;
    int dir_fd, listen_fd, event_fd;
    char name[RUNTIME_NAME_SIZE];
    pthread_t thread;
    struct client clients[CONTROL_CLIENTS];
    uint64_t next_id;

    pthread_mutex_t mu; /* guards what follows */
    struct list answers;
    bool stop, detached;
};

struct control *control_ref(struct control *c);
void control_unref(struct control *c);

/* Any thread; takes what is in `text`. `client` may be gone. */
void control_answer(struct control *c, uint64_t client, int r, struct buf *text);

/*
 * Carries out one line (written to). 0 or a negative errno with `text`, or CONTROL_LATER. Does not wait for the
 * network.
 */
int control_ask(struct control *c, uint64_t client, char *line, struct buf *text);

#endif
