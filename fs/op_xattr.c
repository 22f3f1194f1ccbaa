/* Extended attributes: user.* as object metadata (cache/attr.h); user.oss.* are in op_xattr_oss.c. */
#include "fs_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool ours(const char *name)
{
    return !strncmp(name, "user.", 5);
}

/* What is not user.* is not there; ACLs are refused outright: to accept them loses the mode in `cp -a`. */
static int foreign(const char *name)
{
    return !strncmp(name, "system.posix_acl_", 17) ? EOPNOTSUPP : ENODATA;
}

/* ------------------------------------------------------------------------------------------------ reading */

static void reply_value(struct call *call, const struct kvlist *headers)
{
    char *value = NULL;
    ssize_t n = call->name ? xattr_get(headers, call->name, &value) : xattr_list(headers, &value);

    if (n < 0)
        call_reply_err(call, (int)n);
    else
        call_reply_xattr(call, value, (size_t)n, call->size);
    free(value);
}

static void read_known(struct call *call, struct oinfo *info)
{
    reply_value(call, &info->headers);
}

/* name NULL: list them. */
static void read_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    struct fs *fs = fs_of(req);
    struct kvlist headers = {0};
    struct call *call = call_new(fs, req);

    if (!call)
        return;
    call->size = size;
    call->inode = inode_get(fs->inodes, ino);
    if (!call->inode || (name && !(call->name = strdup(name)))) {
        call_reply_err(call, call->inode ? -ENOMEM : -ESTALE);
        return;
    }
    if (ino == INODE_ROOT) {
        reply_value(call, &headers);
        return;
    }
    call->cf = inode_cfile(fs->inodes, call->inode);
    if (!call->cf) {
        call_with_info(call, read_known);
        return;
    }
    if (cfile_headers(call->cf, &headers))
        call_reply_err(call, -ENOMEM);
    else
        reply_value(call, &headers);
    kv_free(&headers);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    if (is_object_xattr(name))
        read_object_xattr(req, ino, name, size);
    else if (ours(name))
        read_xattr(req, ino, name, size);
    else
        fuse_reply_err(req, foreign(name));
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    read_xattr(req, ino, NULL, size);
}

/* ----------------------------------------------------------------------------------------------- changing */

static int change_headers(struct call *call, struct cfile *cf)
{
    struct kvlist headers = {0};
    int r = cfile_headers(cf, &headers);

    if (!r && call->data)
        r = xattr_set(&headers, call->name, call->data, call->size, call->set);
    else if (!r)
        r = xattr_remove(&headers, call->name);
    if (!r)
        r = cfile_set_headers(cf, &headers);
    kv_free(&headers);
    return r;
}

static void change_known(struct call *call, struct oinfo *info);

static void change_again(void *arg, int r)
{
    (void)r;
    call_with_info(arg, change_known);
}

static void change_known(struct call *call, struct oinfo *info)
{
    char key[OSS_KEY_MAX + 2];
    struct cfile *cf;
    int r = inode_key(call->fs->inodes, call->inode, key);

    if (!r && cache_await_name(call->fs->cache, key, change_again, call))
        return;
    cf = r ? NULL : cfile_open(call->fs->cache, key, info, NULL, false);
    if (!cf) {
        call_reply_err(call, r ? r : -ENOMEM);
        return;
    }
    r = change_headers(call, cf);
    cfile_close(cf, false);
    call_reply_err(call, r);
}

/* value NULL: remove. */
static void change_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    struct fs *fs = fs_of(req);
    struct call *call;

    if (!ours(name) || ino == INODE_ROOT) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    if (is_object_xattr(name)) {
        change_object_xattr(req, ino, name, value, size);
        return;
    }
    call = call_new(fs, req);
    if (!call)
        return;
    call->set = flags;
    call->size = size;
    call->name = strdup(name);
    call->inode = inode_get(fs->inodes, ino);
    if (value && (call->data = calloc(1, size + 1)))
        memcpy(call->data, value, size);
    if (!call->inode || !call->name || (value && !call->data)) {
        call_reply_err(call, call->inode ? -ENOMEM : -ESTALE);
        return;
    }
    call->cf = inode_cfile(fs->inodes, call->inode);
    if (call->cf)
        call_reply_err(call, change_headers(call, call->cf));
    else
        call_with_info(call, change_known);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    change_xattr(req, ino, name, value, size, flags);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    change_xattr(req, ino, name, NULL, 0, 0);
}
