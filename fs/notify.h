/*
 * notify.h: telling the service manager how far we are, as sd_notify(3) does; a datagram each, no library.
 *
 * Only a mount in the foreground speaks: in the background the end of the command is the word. Where nobody listens
 * (no NOTIFY_SOCKET) nothing happens, and a message that does not get through is no failure of ours.
 *
 *      READY=1                 the bucket is mounted
 *      STOPPING=1              it is unmounted, what is unsent is being sent
 *      EXTEND_TIMEOUT_USEC=    every NOTIFY_EVERY_MS meanwhile: the manager must not lose patience
 *      STATUS=                 a line for whoever looks
 */
#ifndef FS_NOTIFY_H
#define FS_NOTIFY_H

#include "../cache/status.h"

#include <stdbool.h>

#define NOTIFY_EVERY_MS  2000
#define NOTIFY_EXTEND_MS 60000

/*
 * Takes the socket's address out of the environment, so that no program that we start speaks for us; with `listen` it
 * is where the messages go. Before any thread.
 */
void notify_open(bool listen);

void notify_starting(const char *source);
void notify_ready(const char *source, const char *mountpoint);

/* From now until notify_drained() a thread tells what is still unsent in `cache`. */
void notify_draining(struct cache *cache);
void notify_drained(void);

#endif
