/*
 * mountpoint.h: the directory that is mounted on, before and after.
 *
 * Knows the table of mounts and umount; nothing of the bucket. Not thread-safe; blocks on the file system.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include "message.h"
#include "options.h"

#include <stdbool.h>

/*
 * Makes the mountpoint ready: its absolute path without symbolic links into *path (free() it). A dead mount of
 * ours there ("Transport endpoint is not connected") is taken away first, and no other. 0; -EBUSY a living mount
 * of ours is there; -ENOENT, -ENOTDIR, -ENOTCONN (dead, and not ours or not to be removed), another negative errno.
 * `message` is one line for the user. *warning is set when it is not empty: what is there will be hidden.
 */
int mountpoint_prepare(const char *given, char **path, bool *warning, struct message *message);

/* Takes a mount away, lazily when `lazy`: umount2() as root, else fusermount3. 0 or a negative errno. */
int mountpoint_remove(const char *path, bool lazy);

/*
 * Bytes of a read of the kernel, for libfuse in two places. A reply of 1 MiB does not fit a pipe of 1 MiB together
 * with its header: it would be copied through memory that is new each time, at 30 times the cost (measured,
 * O_DIRECT).
 */
#define MOUNTPOINT_MAX_READ (512u << 10)

/* The options of libfuse and the kernel, "fsname=...,subtype=ossmount,..."; free() it. NULL when out of memory. */
char *mountpoint_fuse_options(const struct options *options);

#endif
