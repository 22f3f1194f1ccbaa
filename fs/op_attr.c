/* lookup, forget, getattr, setattr, statfs. */
#include "fs_internal.h"

#include "../oss/base_time.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int parent_key(struct fs *fs, struct inode *parent, const char *name, bool is_dir, char dir[OSS_KEY_MAX + 2],
               char key[OSS_KEY_MAX + 2])
{
    int r = cache_reserved_name(name) ? -EPERM : path_check_name(name);

    if (!r)
        r = inode_key(fs->inodes, parent, dir);
    return r ? r : path_key(dir, name, is_dir, key);
}

struct call *call_on_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir, char key[OSS_KEY_MAX + 2])
{
    struct fs *fs = fs_of(req);
    struct call *call = call_new(fs, req);
    char dir[OSS_KEY_MAX + 2];
    int r;

    if (!call)
        return NULL;
    call->parent = inode_get(fs->inodes, parent);
    call->name = strdup(name);
    r = !call->parent ? -ESTALE : !call->name ? -ENOMEM : parent_key(fs, call->parent, name, is_dir, dir, key);
    if (!r)
        return call;
    call_reply_err(call, r);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- lookup */

static void lookup_done(void *arg, int r, struct oinfo *info, int64_t ttl_ms);

static void lookup_again(void *arg, int r)
{
    struct call *call = arg;
    char dir[OSS_KEY_MAX + 2];

    r = inode_key(call->fs->inodes, call->parent, dir);
    if (r)
        call_reply_err(call, r == -ENOENT ? -ESTALE : r);
    else
        cache_lookup(call->fs->cache, dir, call->name, lookup_done, call);
}

static void lookup_done(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct call *call = arg;
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];
    struct inode *inode;
    struct cfile *cf;
    struct attr attr;

    if (!r && !parent_key(call->fs, call->parent, call->name, false, dir, key) &&
        call_follow(call, key, info, lookup_again))
        return;
    if (r == -ENOENT) {
        call_reply_absent(call, ttl_ms);
        return;
    }
    if (r) {
        call_reply_err(call, r);
        return;
    }
    inode = inode_lookup(call->fs->inodes, call->parent, call->name, info->attr.mode & S_IFMT);
    if (!inode) {
        call_reply_err(call, -ENOMEM);
        return;
    }
    attr = info->attr;
    cf = inode_cfile(call->fs->inodes, inode);
    if (cf) {
        cfile_attr(cf, &attr);
        cfile_release(cf);
    }
    call_reply_entry(call, inode, &attr, ttl_ms);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call = call_on_name(req, parent, name, false, key);

    if (!call)
        return;
    key[strlen(key) - strlen(name)] = '\0'; /* the directory */
    cache_lookup(call->fs->cache, key, call->name, lookup_done, call);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    inode_forget(fs_of(req)->inodes, ino, n);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        inode_forget(fs_of(req)->inodes, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* --------------------------------------------------------------------------------------------- getattr */

static void with_info_done(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct call *call = arg;

    /* The name is gone, or another kind of thing has it: the kernel looks it up anew. */
    if (r == -ENOENT || (!r && (info->attr.mode & S_IFMT) != call->inode->type))
        r = -ESTALE;
    if (r) {
        call_reply_err(call, r);
        return;
    }
    call->offset = (uint64_t)ttl_ms;
    call->then(call, info);
}

void call_with_info(struct call *call, void (*then)(struct call *call, struct oinfo *info))
{
    char dir[OSS_KEY_MAX + 2], name[256];
    int r = inode_place(call->fs->inodes, call->inode, dir, name);

    if (r) {
        call_reply_err(call, r == -ENOENT ? -ESTALE : r);
        return;
    }
    call->then = then;
    cache_lookup(call->fs->cache, dir, name, with_info_done, call);
}

static void getattr_known(struct call *call, struct oinfo *info)
{
    struct stat st;

    attr_to_stat(&info->attr, call->inode->ino, false, &st);
    call_reply_attr(call, &st, (int64_t)call->offset);
}

static void root_stat(struct fs *fs, struct stat *st)
{
    pthread_mutex_lock(&fs->mu);
    attr_to_stat(&fs->root_attr, INODE_ROOT, false, st);
    pthread_mutex_unlock(&fs->mu);
}

bool call_follow(struct call *call, const char *key, struct oinfo *info, cache_done *then)
{
    if (call->followed)
        return false;
    call->followed = true;
    return cache_follow(call->fs->cache, key, info, then, call);
}

/* Answers from an open file's own state, to be believed for so long. */
static void reply_open_attr_for(struct call *call, struct cfile *cf, int64_t ttl_ms)
{
    struct attr attr;
    struct stat st;

    cfile_attr(cf, &attr);
    /* An inode whose kind changed would be a bad one to the kernel for ever (EIO): the name is looked up anew. */
    if ((attr.mode & S_IFMT) != call->inode->type) {
        call_reply_err(call, -ESTALE);
        return;
    }
    attr_to_stat(&attr, call->inode->ino, call->inode->detached, &st);
    call_reply_attr(call, &st, call->inode->detached ? 0 : ttl_ms);
}

static void reply_open_attr(struct call *call, struct cfile *cf)
{
    reply_open_attr_for(call, cf, call->fs->ttl_ms);
}

static void open_attr_followed(void *arg, int r)
{
    struct call *call = arg;

    (void)r;
    reply_open_attr_for(call, call->cf, (int64_t)call->offset);
}

/* What the bucket says of a file that is open and may grow by what others append. */
static void open_attr_known(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct call *call = arg;

    call->offset = (uint64_t)ttl_ms;
    if (r || !cfile_follow(call->cf, info, open_attr_followed, call))
        open_attr_followed(call, 0);
}

/*
 * A removed directory that is still somebody's, as an open descriptor or the working directory. A change of its
 * attributes is answered as made, and lasts for the answer: nobody will see them any more.
 */
static void reply_detached(struct call *call)
{
    const struct attr_defaults *d = &call->fs->defaults;
    struct attr attr = {.mode = call->inode->type, .uid = d->uid, .gid = d->gid};
    struct stat st;

    attr.mode |= S_ISDIR(attr.mode) ? d->dir_mode : d->file_mode;
    if (call->set & FUSE_SET_ATTR_MODE)
        attr.mode = call->inode->type | (call->attr.mode & 07777);
    if (call->set & FUSE_SET_ATTR_UID)
        attr.uid = call->attr.uid;
    if (call->set & FUSE_SET_ATTR_GID)
        attr.gid = call->attr.gid;
    attr.mtime = call->attr.mtime;
    attr_to_stat(&attr, call->inode->ino, true, &st);
    call_reply_attr(call, &st, 0);
}

/* What the handle is of, if there is one: held, and NULL else. `writes`: its content is to be changed. */
static struct cfile *handle_cfile(struct fuse_file_info *fi, bool writes)
{
    struct file *file = fi && fi->fh ? file_of(fi) : NULL;

    if (file && writes)
        file->wrote = true;
    return file ? cfile_hold(file->cf) : NULL;
}

/* A call for an inode, with the hold `cf` or NULL; NULL: answered. */
static struct call *call_on_inode(fuse_req_t req, fuse_ino_t ino, struct cfile *cf)
{
    struct fs *fs = fs_of(req);
    struct call *call = call_new(fs, req);

    if (!call) {
        if (cf)
            cfile_release(cf);
        return NULL;
    }
    call->cf = cf;
    call->inode = inode_get(fs->inodes, ino);
    if (call->inode)
        return call;
    call_reply_err(call, -ESTALE);
    return NULL;
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    char dir[OSS_KEY_MAX + 2], name[256];
    struct call *call;
    struct stat st;

    if (ino == INODE_ROOT) {
        root_stat(fs, &st);
        fuse_reply_attr(req, &st, (double)fs->ttl_ms / 1000);
        return;
    }
    call = call_on_inode(req, ino, handle_cfile(fi, false));
    if (!call)
        return;
    if (!call->cf)
        call->cf = inode_cfile(fs->inodes, call->inode);
    if (call->cf && cfile_may_grow(call->cf) && !inode_place(fs->inodes, call->inode, dir, name))
        cache_lookup(fs->cache, dir, name, open_attr_known, call);
    else if (call->cf)
        reply_open_attr(call, call->cf);
    else if (call->inode->detached)
        reply_detached(call);
    else
        call_with_info(call, getattr_known);
}

/* --------------------------------------------------------------------------------------------- setattr */

static void set_times(const struct stat *st, int set, struct attr *attr)
{
    if (set & FUSE_SET_ATTR_MTIME_NOW)
        attr->mtime = clock_wall();
    else if (set & FUSE_SET_ATTR_MTIME)
        attr->mtime = st->st_mtim;
}

static unsigned cfile_fields(int set)
{
    unsigned fields = 0;

    if (set & FUSE_SET_ATTR_MODE)
        fields |= CFILE_SET_MODE;
    if (set & FUSE_SET_ATTR_UID)
        fields |= CFILE_SET_UID;
    if (set & FUSE_SET_ATTR_GID)
        fields |= CFILE_SET_GID;
    if (set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
        fields |= CFILE_SET_MTIME;
    return fields;
}

static void setattr_sent(void *arg, int r)
{
    struct call *call = arg;

    if (r)
        call_reply_err(call, r);
    else
        reply_open_attr(call, call->cf);
}

/* Changes the file's state; `through`: a truncation by path, which answers after the bucket has. */
static void setattr_cfile(struct call *call, struct cfile *cf, bool through)
{
    unsigned fields = cfile_fields(call->set);
    int r = 0;

    if (call->set & FUSE_SET_ATTR_SIZE)
        r = cfile_truncate(cf, call->attr.size);
    if (!r && fields)
        cfile_set_attr(cf, &call->attr, fields);
    if (r)
        call_reply_err(call, r);
    else if (through && (call->set & FUSE_SET_ATTR_SIZE))
        cfile_sync(cf, setattr_sent, call);
    else
        reply_open_attr(call, cf);
}

static void setattr_known(struct call *call, struct oinfo *info);

static void setattr_again(void *arg, int r)
{
    (void)r;
    call_with_info(arg, setattr_known);
}

static void setattr_known(struct call *call, struct oinfo *info)
{
    struct fs *fs = call->fs;
    bool truncates = call->set & FUSE_SET_ATTR_SIZE;
    char key[OSS_KEY_MAX + 2];
    struct cfile *cf;
    int r = inode_key(fs->inodes, call->inode, key);

    if (r) {
        call_reply_err(call, r == -ENOENT ? -ESTALE : r);
        return;
    }
    if (cache_await_name(fs->cache, key, setattr_again, call))
        return;
    if (truncates && cache_await_sent(fs->cache, key, setattr_again, call))
        return;
    cf = cfile_open(fs->cache, key, info, NULL, truncates);
    if (!cf) {
        call_reply_err(call, -ENOMEM);
        return;
    }
    call->cf = cfile_hold(cf);
    setattr_cfile(call, cf, true);
    cfile_close(cf, truncates);
}

static void setattr_root(struct fs *fs, fuse_req_t req, const struct stat *st, int set)
{
    struct stat now;

    pthread_mutex_lock(&fs->mu);
    if (set & FUSE_SET_ATTR_MODE)
        fs->root_attr.mode = S_IFDIR | (st->st_mode & 07777);
    if (set & FUSE_SET_ATTR_UID)
        fs->root_attr.uid = st->st_uid;
    if (set & FUSE_SET_ATTR_GID)
        fs->root_attr.gid = st->st_gid;
    set_times(st, set, &fs->root_attr);
    fs->root_attr.ctime = clock_wall();
    pthread_mutex_unlock(&fs->mu);
    root_stat(fs, &now);
    fuse_reply_attr(req, &now, (double)fs->ttl_ms / 1000);
}

/* Of an open file, by its descriptor or by its path; what was fsynced before is in the bucket, or could not be sent.
 */
static void setattr_handle(void *arg, int r)
{
    struct call *call = arg;

    (void)r;
    setattr_cfile(call, call->cf, false);
}

static void setattr_path(void *arg, int r)
{
    struct call *call = arg;

    (void)r;
    setattr_cfile(call, call->cf, true);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct call *call;

    if (ino == INODE_ROOT) {
        setattr_root(fs, req, st, set);
        return;
    }
    call = call_on_inode(req, ino, handle_cfile(fi, set & FUSE_SET_ATTR_SIZE));
    if (!call)
        return;
    call->set = set;
    call->attr =
        (struct attr){.mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid, .size = (uint64_t)st->st_size};
    set_times(st, set, &call->attr);
    if (call->cf) {
        if (!(set & FUSE_SET_ATTR_SIZE) || !cfile_await_sent(call->cf, setattr_handle, call))
            setattr_handle(call, 0);
        return;
    }
    call->cf = inode_cfile(fs->inodes, call->inode);
    if (call->cf && (set & FUSE_SET_ATTR_SIZE) && cfile_await_sent(call->cf, setattr_path, call))
        return;
    if (call->cf)
        setattr_path(call, 0);
    else if (call->inode->detached && S_ISDIR(call->inode->type))
        reply_detached(call);
    else
        call_with_info(call, setattr_known);
}

/* ---------------------------------------------------------------------------------------------- statfs */

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    /* A bucket has no end; what is shown is large enough for any copy and small enough for any arithmetic. */
    struct statvfs fs = {
        .f_bsize = 4096,
        .f_frsize = 4096,
        .f_blocks = 1ULL << 38, /* 1 PiB */
        .f_bfree = 1ULL << 38,
        .f_bavail = 1ULL << 38,
        .f_files = 1ULL << 40,
        .f_ffree = 1ULL << 40,
        .f_favail = 1ULL << 40,
        .f_namemax = 255,
    };

    (void)ino;
    fuse_reply_statfs(req, &fs);
}
