/*
 * state_dir.h: the directory in which a mount keeps what must outlive it, and the lock that makes it one mount's.
 *
 * One sub-directory for each endpoint + bucket + prefix, named readably with a hash behind it. Mode 0700, owned by
 * us; a symbolic link in its place is refused. The lock goes with the process: the kernel drops it however the
 * process ends.
 */
#ifndef FS_STATE_DIR_H
#define FS_STATE_DIR_H

#include "message.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct state_dir;

struct state_dir_config {
    const char *base; /* cache_dir=, absolute; NULL: /var/lib/ossmount for root, else $XDG_STATE_HOME/ossmount or
                         ~/.local/state/ossmount */
    const char *endpoint, *bucket, *prefix;
    int64_t wait_ms; /* how long to wait for a daemon that is still sending what an earlier mount left */
};

/*
 * Finds or makes the directory and takes its lock. 0; -EBUSY another process holds it (`message` names its pid);
 * another negative errno. `message` is one line for the user. Call it in the process that will live on: after
 * the fork. Blocks up to wait_ms.
 */
int state_dir_open(struct state_dir **out, const struct state_dir_config *config, struct message *message);

/* Absolute; valid until the close. */
const char *state_dir_path(const struct state_dir *dir);

/* Drops the lock; the directory stays. NULL is allowed. */
void state_dir_close(struct state_dir *dir);

/* Where `base` is when none is given; 0 or -ENOENT (no home directory). Exported for the tests. */
int state_dir_default_base(char *out, size_t size, uid_t uid);

/*
 * The name of the sub-directory, "bucket-prefix@host-0123456789abcdef". Pure; exported for the tests. http and
 * https, and upper and lower case of the host, make no difference: the bucket is the same.
 */
#define STATE_DIR_NAME_SIZE 160
void state_dir_name(char out[STATE_DIR_NAME_SIZE], const char *endpoint, const char *bucket, const char *prefix);

#endif
