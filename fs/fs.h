/*
 * fs.h: the face of the file system to main.c.
 *
 * Order of calls: fs_new() (blocks on two requests; starts threads, so after any fork), fuse_session_new() with
 * fs_ops() and the fs as user data, fs_set_session(), mount, fs_mounted(), loop, fs_left(), unmount, fs_drain(),
 * fs_free().
 */
#ifndef FS_FS_H
#define FS_FS_H

#include "options.h"

#include "../oss/oss.h"

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

struct cache;
struct fs;

struct fs_config {
    struct oss *oss;       /* borrowed */
    const char *prefix;    /* key of the root directory: "" or "a/b/" */
    const char *state_dir; /* exists, 0700, locked */
    const struct options *options;
};

/*
 * Asks the bucket for the first page of the root listing and its GetBucketInfo (a 403 on the latter is no failure).
 * 0; or a negative errno with `err` filled: nothing was started then.
 */
int fs_new(struct fs **out, const struct fs_config *config, struct oss_error *err);

const struct fuse_lowlevel_ops *fs_ops(void);

/* Both borrowed. */
void fs_set_session(struct fs *fs, struct fuse_session *session, const char *mountpoint);

/* Before the loop: sends no request. */
void fs_mounted(struct fs *fs, const char *mountpoint);

/*
 * The loop is to end: true when it may (shed.h tells why it must wait); else to be asked again soon. Requests that
 * are unanswered then fail with ENOTCONN, as all do whose mount goes.
 */
bool fs_leave(struct fs *fs);

/* After the loop has ended, before the session is unmounted: nobody speaks to the kernel any more. */
void fs_left(struct fs *fs);

/* What the control socket tells of. */
struct cache *fs_cache(struct fs *fs);
size_t fs_inodes(struct fs *fs); /* how many are in memory */

/* After the loop has ended: sends what is unsent. Blocks, in bounded time (the client's deadlines). */
void fs_drain(struct fs *fs);

void fs_free(struct fs *fs);

#endif
