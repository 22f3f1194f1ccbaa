/*
 * daemon.h: going to the background, and telling whoever waits whether it worked.
 *
 * The fork comes first, before any thread; the parent waits until the child says that it is ready, and ends with 0
 * only then. Until that word the child shares the terminal: its messages are seen and Ctrl-C reaches it.
 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

struct message;

struct daemon {
    int ready_fd; /* of the child; -1 in the foreground */
};

/*
 * Forks. Returns 0 in the child. In the parent: does not return before the child is ready or has ended, then the
 * parent's exit status + 1 (1: all is well). A negative errno when there was no child to be had.
 */
int daemon_start(struct daemon *daemon, struct message *message);

/* In the child: leaves the terminal, closes stdin, stdout and stderr, and lets the parent go. */
void daemon_ready(struct daemon *daemon);

/* What must hold before a secret is read: no core dump, no look into our memory, few malloc arenas. */
void daemon_harden(void);

#endif
