/*
 * control.h: the socket on which a running mount answers the commands status, flush, retry, recover, url and restore.
 *
 * One thread serves it; no thread of FUSE and no transfer waits for that thread, and it never waits for the network.
 * A client can cost its own connection and nothing else: there are at most CONTROL_CLIENTS of them, each with one
 * request at a time, and one that does not read its answer is cut off.
 *
 * The socket lies in the runtime directory (runtime.h), mode 0600, named after the mount's device number, which no
 * other living mount has: "0:57.1234" (1234: the daemon's pid). Who is connected is asked of the kernel: the daemon's
 * own user and root are served, others are cut off.
 *
 * Protocol: one line each way, then a body. Words of the request are separated by blanks and URL-escaped.
 *
 *      status text COLUMNS | line COLUMNS | json | metrics
 *      flush                       answers when all that was unsent is sent, or has failed
 *      retry [KEY]
 *      discard KEY
 *      where                       lines "name value", values URL-escaped
 *      url KEY SECONDS
 *      restore KEY DAYS [TIER]     DAYS 0: only look
 *
 *      ok BYTES                    and so many bytes of text
 *      error ERRNO BYTES           the same; what it says is for the user
 */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include "message.h"
#include "options.h"

#include "../cache/status.h"
#include "../oss/oss.h"

#define CONTROL_CLIENTS 16
#define CONTROL_LINE    8192 /* bytes of a request */

struct control;
struct fs;

struct control_config {
    struct cache *cache; /* borrowed, like all here; outlives the control */
    struct fs *fs;
    struct oss *oss;
    const struct options *options;
    const char *mountpoint; /* absolute */
    const char *state_dir;
};

/* After the mount is there. 0, or a negative errno with `message`: the mount works without it. */
int control_start(struct control **out, const struct control_config *config, struct message *message);

/* The mount is gone and its device number may be another's soon: the name goes, connections stay. NULL is allowed. */
void control_detach(struct control *control);

/* Cuts all connections and ends the thread; before cache and client go. NULL is allowed. */
void control_stop(struct control *control);

#endif
