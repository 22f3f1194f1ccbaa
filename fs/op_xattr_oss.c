/*
 * op_xattr_oss.c: extended attributes user.oss.NAME: what the bucket says of the object (cache.h,
 * cache_object_text()).
 *
 * They are never listed: cp -a and rsync -X would try to set on the copy what cannot be set, as an ETag.
 */
#include "fs_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "user.oss."

bool is_object_xattr(const char *name)
{
    return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

/* The call for an inode and the part of the name behind the prefix; NULL: the request is answered. */
static struct call *begin(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct fs *fs = fs_of(req);
    struct call *call = call_new(fs, req);

    if (!call)
        return NULL;
    call->name = strdup(name + strlen(PREFIX));
    call->inode = inode_get(fs->inodes, ino);
    if (call->name && call->inode)
        return call;
    call_reply_err(call, call->inode ? -ENOMEM : -ESTALE);
    return NULL;
}

static void read_done(void *arg, int r, const char *text)
{
    struct call *call = arg;

    if (r)
        call_reply_err(call, r);
    else
        call_reply_xattr(call, text, strlen(text), call->size);
}

void read_object_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call;
    int r;

    if (ino == INODE_ROOT) {
        fuse_reply_err(req, ENODATA);
        return;
    }
    call = begin(req, ino, name);
    if (!call)
        return;
    call->size = size;
    r = inode_key(call->fs->inodes, call->inode, key);
    if (r)
        call_reply_err(call, r == -ENOENT ? -ENODATA : r);
    else
        cache_object_text(call->fs->cache, key, call->name, read_done, call);
}

static void change_done(void *arg, int r)
{
    call_reply_err(arg, r);
}

static void change_cfile(struct call *call, struct cfile *cf)
{
    cfile_set_object_text(cf, call->name, call->data, change_done, call);
}

static void change_known(struct call *call, struct oinfo *info)
{
    char key[OSS_KEY_MAX + 2];
    struct cfile *cf;
    int r = inode_key(call->fs->inodes, call->inode, key);

    cf = r ? NULL : cfile_open(call->fs->cache, key, info, NULL, false);
    if (!cf) {
        call_reply_err(call, r ? r : -ENOMEM);
        return;
    }
    call->cf = cfile_hold(cf);
    change_cfile(call, cf);
    cfile_close(cf, false);
}

void change_object_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size)
{
    struct call *call = begin(req, ino, name);

    if (!call)
        return;
    if (value && (memchr(value, '\0', size) || !(call->data = strndup(value, size)))) {
        call_reply_err(call, memchr(value, '\0', size) ? -EINVAL : -ENOMEM);
        return;
    }
    call->cf = inode_cfile(call->fs->inodes, call->inode);
    if (call->cf)
        change_cfile(call, call->cf);
    else
        call_with_info(call, change_known);
}
