/* unlink, rename, symlink, readlink, link. */
#include "fs_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* ---------------------------------------------------------------------------------------------- unlink */

static void unlink_done(void *arg, int r)
{
    struct call *call = arg;

    if (!r)
        inode_detach(call->fs->inodes, call->parent, call->name);
    call_reply_err(call, r);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call = call_on_name(req, parent, name, false, key);

    if (call)
        cache_unlink(call->fs->cache, key, unlink_done, call);
}

/* ---------------------------------------------------------------------------------------------- rename */

static void rename_done(void *arg, int r)
{
    struct call *call = arg;

    if (!r)
        inode_rename(call->fs->inodes, call->parent, call->name, call->new_parent, call->new_name);
    call_reply_err(call, r);
}

/* Keys of both names; the kinds are known by now. */
static int rename_keys(struct call *call, bool is_dir, char from[OSS_KEY_MAX + 2], char to[OSS_KEY_MAX + 2])
{
    char dir[OSS_KEY_MAX + 2];
    int r = parent_key(call->fs, call->parent, call->name, is_dir, dir, from);

    return r ? r : parent_key(call->fs, call->new_parent, call->new_name, is_dir, dir, to);
}

static void rename_target_known(void *arg, int r, struct oinfo *target, int64_t ttl_ms)
{
    struct call *call = arg;
    struct fs *fs = call->fs;
    struct oinfo *source = call->data;
    char from[OSS_KEY_MAX + 2], to[OSS_KEY_MAX + 2];
    bool is_dir = S_ISDIR(source->attr.mode);

    (void)ttl_ms;
    call->data = NULL;
    if (r == -ENOENT)
        r = 0;
    else if (!r && (call->set & RENAME_NOREPLACE))
        r = -EEXIST;
    else if (!r && is_dir && !S_ISDIR(target->attr.mode))
        r = -ENOTDIR;
    else if (!r && !is_dir && S_ISDIR(target->attr.mode))
        r = -EISDIR;
    if (!r)
        r = rename_keys(call, is_dir, from, to);
    if (r)
        call_reply_err(call, r);
    else if (is_dir)
        cache_rename_dir(fs->cache, from, to, rename_done, call);
    else
        cache_rename(fs->cache, from, to, source, target, rename_done, call);
    oinfo_put(source);
}

static void rename_source_known(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct call *call = arg;
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];

    (void)ttl_ms;
    if (!r)
        r = parent_key(call->fs, call->new_parent, call->new_name, false, dir, key);
    if (r) {
        call_reply_err(call, r);
        return;
    }
    call->data = oinfo_get(info);
    cache_lookup(call->fs->cache, dir, call->new_name, rename_target_known, call);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
               unsigned int flags)
{
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];
    struct call *call;
    int r;

    if (flags & ~(unsigned)RENAME_NOREPLACE) {
        fuse_reply_err(req, EINVAL); /* two names cannot change places at once in a bucket */
        return;
    }
    call = call_on_name(req, parent, name, false, key);
    if (!call)
        return;
    call->set = (int)flags;
    call->new_parent = inode_get(call->fs->inodes, new_parent);
    call->new_name = strdup(new_name);
    r = !call->new_parent ? -ESTALE : !call->new_name ? -ENOMEM : inode_key(call->fs->inodes, call->parent, dir);
    if (r)
        call_reply_err(call, r);
    else
        cache_lookup(call->fs->cache, dir, call->name, rename_source_known, call);
}

/* --------------------------------------------------------------------------------------------- symlinks */

static void symlink_done(void *arg, int r)
{
    struct call *call = arg;
    struct inode *inode;

    inode = r ? NULL : inode_lookup(call->fs->inodes, call->parent, call->name, S_IFLNK);
    if (inode)
        call_reply_entry(call, inode, &call->attr, call->fs->ttl_ms);
    else
        call_reply_err(call, r ? r : -ENOMEM);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call = call_on_name(req, parent, name, false, key);

    if (!call)
        return;
    attr_of_new(call->fs, &call->by, call->parent, S_IFLNK | 0777, &call->attr);
    call->attr.size = strlen(target);
    cache_symlink(call->fs->cache, key, target, &call->attr, symlink_done, call);
}

#define LINK_TRIES 3

static void readlink_known(struct call *call, struct oinfo *info);

static void readlink_done(void *arg, int r, const char *target)
{
    struct call *call = arg;

    if (r == -ESTALE && call->r++ < LINK_TRIES)
        call_with_info(call, readlink_known); /* replaced since it was looked up */
    else if (r)
        call_reply_err(call, r);
    else
        call_reply_text(call, target);
}

static void readlink_known(struct call *call, struct oinfo *info)
{
    char key[OSS_KEY_MAX + 2];
    int r = inode_key(call->fs->inodes, call->inode, key);

    if (!r && !S_ISLNK(info->attr.mode))
        r = -EINVAL;
    if (r)
        call_reply_err(call, r);
    else
        cache_readlink(call->fs->cache, key, info, readlink_done, call);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct fs *fs = fs_of(req);
    struct call *call = call_new(fs, req);

    if (!call)
        return;
    call->inode = inode_get(fs->inodes, ino);
    if (call->inode)
        call_with_info(call, readlink_known);
    else
        call_reply_err(call, -ESTALE);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino;
    (void)parent;
    (void)name;
    fuse_reply_err(req, EPERM); /* an object has one key */
}
