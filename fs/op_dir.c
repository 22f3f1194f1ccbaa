/*
 * opendir, readdir, readdirplus, releasedir, mkdir, rmdir.
 *
 * An open directory reads from a snapshot, taken at its first read and again after a rewind: positions in it stay
 * what they are however the directory changes meanwhile. Offset 0 is ".", 1 is "..", then the snapshot's order.
 */
#include "fs_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct dir {
    struct list link;      /* in fs->dirs while a descriptor is on it */
    _Atomic unsigned refs; /* the descriptor, and calls that may outlive it (an interrupted reader's) */
    struct inodes *inodes;
    struct inode *inode; /* open; NULL while it is not known */
    pthread_mutex_t mu;  /* guards the rest: two threads may share the descriptor */
    struct meta_names names;
    bool fresh; /* the snapshot was taken by opendir, and not read from its start yet */
};

static struct dir *dir_of(struct fuse_file_info *fi)
{
    return (struct dir *)(uintptr_t)fi->fh;
}

/* ------------------------------------------------------------------------------------------ snapshots */

static int load(struct fs *fs, struct dir *dir, const char *key)
{
    struct meta_names names;
    int r = cache_snapshot(fs->cache, key, &names);

    if (r)
        return r;
    pthread_mutex_lock(&dir->mu);
    meta_names_free(&dir->names);
    dir->names = names;
    dir->fresh = true;
    pthread_mutex_unlock(&dir->mu);
    return 0;
}

#define LIST_TRIES 8

static void dir_end(struct fs *fs, struct dir *dir);

static void opendir_listed(void *arg, int r)
{
    struct call *call = arg;
    struct fs *fs = call->fs;
    struct dir *dir = call->dir;
    struct fuse_file_info fi = {.fh = (uintptr_t)dir};
    char key[OSS_KEY_MAX + 2];

    if (!r && !(r = inode_key(fs->inodes, dir->inode, key)) && (r = load(fs, dir, key)) == -ENOENT) {
        /* A rename or removal here came in between, and the listing is not believed any more: once more. */
        if (call->set++ < LIST_TRIES) {
            cache_list(fs->cache, key, opendir_listed, call);
            return;
        }
        r = -ESTALE;
    }
    if (r) {
        call_reply_err(call, r);
        return;
    }
    dir->refs++; /* the descriptor's */
    pthread_mutex_lock(&fs->mu);
    list_add_tail(&fs->dirs, &dir->link);
    pthread_mutex_unlock(&fs->mu);
    if (!call_reply_open(call, &fi))
        dir_end(fs, dir);
}

/* The descriptor is gone. */
static void dir_end(struct fs *fs, struct dir *dir)
{
    pthread_mutex_lock(&fs->mu);
    list_del(&dir->link);
    pthread_mutex_unlock(&fs->mu);
    dir_put(dir);
}

void dirs_end(struct fs *fs)
{
    while (!list_empty(&fs->dirs))
        dir_end(fs, list_entry(fs->dirs.next, struct dir, link));
}

void dir_put(struct dir *dir)
{
    if (!dir || --dir->refs > 0)
        return;
    if (dir->inode)
        inode_closed(dir->inodes, dir->inode);
    meta_names_free(&dir->names);
    pthread_mutex_destroy(&dir->mu);
    free(dir);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct call *call = call_new(fs, req);
    struct dir *dir = call ? calloc(1, sizeof(*dir)) : NULL;
    struct inode *inode;
    char key[OSS_KEY_MAX + 2];
    int r;

    (void)fi;
    if (!call)
        return;
    if (!dir) {
        call_reply_err(call, -ENOMEM);
        return;
    }
    pthread_mutex_init(&dir->mu, NULL);
    list_init(&dir->link);
    dir->refs = 1;
    dir->inodes = fs->inodes;
    inode = dir->inode = inode_get(fs->inodes, ino);
    if (inode)
        inode_opened(fs->inodes, inode, NULL);
    inode_put(fs->inodes, inode);
    call->dir = dir; /* released with the call */
    r = dir->inode ? inode_key(fs->inodes, dir->inode, key) : -ESTALE;
    if (r)
        call_reply_err(call, r);
    else
        cache_list(fs->cache, key, opendir_listed, call);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    dir_end(fs_of(req), dir_of(fi));
    fuse_reply_err(req, 0);
}

/* --------------------------------------------------------------------------------------------- reading */

/* What a readdir is answered with. */
struct entries {
    char *data;
    size_t size, used;
    uint64_t *inos; /* looked up by readdirplus, room for all that can be in it */
    size_t n_inos;
};

#define ENTRY_PLUS_MIN 128 /* bytes: an entry of readdirplus is longer (struct fuse_direntplus) */

struct known {
    struct attr attr;
    int64_t ttl_ms; /* 0: not known */
};

static void take_known(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct known *known = arg;

    if (r)
        return;
    known->attr = info->attr;
    known->ttl_ms = ttl_ms;
}

/* What an entry is now, as far as it is known without a request: the snapshot may be old, and holds only names. */
static bool entry_attr(struct fs *fs, struct dir *dir, const char *key, const char *name, struct known *known)
{
    struct inode *inode = inode_find(fs->inodes, dir->inode, name);
    struct cfile *cf = inode ? inode_cfile(fs->inodes, inode) : NULL;

    inode_put(fs->inodes, inode);
    known->ttl_ms = 0;
    if (cf) {
        cfile_attr(cf, &known->attr);
        cfile_release(cf);
        known->ttl_ms = fs->ttl_ms;
    } else if (key) {
        cache_lookup_known(fs->cache, key, name, take_known, known);
    }
    return known->ttl_ms > 0;
}

/*
 * Adds one entry; false when it does not fit. With `plus`, one of unknown attributes goes without a lookup reference
 * (inode number 0): the kernel asks for it when a program does.
 */
static bool add_entry(struct fs *fs, fuse_req_t req, struct dir *dir, const char *key, size_t index, bool plus,
                      struct entries *out)
{
    struct fuse_entry_param e = {.attr.st_ino = 0xffffffff};
    size_t room = out->size - out->used;
    char *at = out->data + out->used;
    bool is_dir = true;
    const char *name = index == 0 ? "." : index == 1 ? ".." : meta_names_get(&dir->names, index - 2, &is_dir);
    struct inode *inode = NULL;
    struct known known;
    size_t need;

    e.attr.st_mode = is_dir ? S_IFDIR : S_IFREG;
    need =
        plus ? fuse_add_direntry_plus(req, NULL, 0, name, NULL, 0) : fuse_add_direntry(req, NULL, 0, name, NULL, 0);
    if (need > room)
        return false;
    if (index >= 2 && entry_attr(fs, dir, key, name, &known)) {
        e.attr.st_mode = known.attr.mode;
        inode = plus ? inode_lookup(fs->inodes, dir->inode, name, known.attr.mode & S_IFMT) : NULL;
        if (inode) {
            e.ino = out->inos[out->n_inos++] = inode->ino;
            e.attr_timeout = e.entry_timeout = (double)known.ttl_ms / 1000;
            attr_to_stat(&known.attr, inode->ino, false, &e.attr);
            inode_put(fs->inodes, inode);
        }
    }
    if (plus)
        fuse_add_direntry_plus(req, at, room, name, &e, (off_t)index + 1);
    else
        fuse_add_direntry(req, at, room, name, &e.attr, (off_t)index + 1);
    out->used += need;
    return true;
}

/* As many entries from `offset` on as fit into `size` bytes. 0 or -ENOMEM; entries_end() in either case. */
static int fill_entries(struct fs *fs, fuse_req_t req, struct dir *dir, size_t size, off_t offset, bool plus,
                        struct entries *out)
{
    bool removed;
    char key[OSS_KEY_MAX + 2];

    *out = (struct entries){.data = malloc(size), .size = size};
    out->inos = plus ? calloc(size / ENTRY_PLUS_MIN + 1, sizeof(*out->inos)) : NULL;
    if (!out->data || (plus && !out->inos))
        return -ENOMEM;
    removed = inode_key(fs->inodes, dir->inode, key) != 0;
    pthread_mutex_lock(&dir->mu);
    for (size_t i = (size_t)offset; i < dir->names.n + 2; i++)
        if (!add_entry(fs, req, dir, removed ? NULL : key, i, plus, out))
            break;
    pthread_mutex_unlock(&dir->mu);
    return 0;
}

/* `got`: the kernel has the entries, and will forget the inodes that it has looked up so. */
static void entries_end(struct fs *fs, struct entries *entries, bool got)
{
    for (size_t i = 0; !got && i < entries->n_inos; i++)
        inode_forget(fs->inodes, entries->inos[i], 1);
    free(entries->data);
    free(entries->inos);
}

/* A rewound directory shows what is there now. */
static void rewound(void *arg, int r)
{
    struct call *call = arg;
    struct fs *fs = call->fs;
    struct entries entries;
    char key[OSS_KEY_MAX + 2];
    bool got = false;

    if (!r && !inode_key(fs->inodes, call->dir->inode, key))
        load(fs, call->dir, key);
    pthread_mutex_lock(&call->dir->mu);
    call->dir->fresh = false;
    pthread_mutex_unlock(&call->dir->mu);
    if (fill_entries(fs, call->req, call->dir, call->size, 0, call->set, &entries))
        call_reply_err(call, -ENOMEM);
    else
        got = call_reply_buf(call, entries.data, entries.used);
    entries_end(fs, &entries, got);
}

static void read_dir(fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
    struct fs *fs = fs_of(req);
    struct dir *dir = dir_of(fi);
    char key[OSS_KEY_MAX + 2];
    struct entries entries;
    struct call *call;
    bool first, got = false;

    pthread_mutex_lock(&dir->mu);
    first = dir->fresh || offset > 0;
    dir->fresh = false;
    pthread_mutex_unlock(&dir->mu);
    if (!first && !inode_key(fs->inodes, dir->inode, key)) {
        dir->refs++; /* the handle may be gone when the reader was killed */
        call = call_new(fs, req);
        if (!call) {
            dir_put(dir);
            return;
        }
        call->dir = dir;
        call->size = size;
        call->set = plus;
        cache_list(fs->cache, key, rewound, call);
        return;
    }
    if (fill_entries(fs, req, dir, size, offset, plus, &entries))
        fuse_reply_err(req, ENOMEM);
    else
        got = !fuse_reply_buf(req, entries.data, entries.used);
    entries_end(fs, &entries, got);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    (void)ino;
    read_dir(req, size, offset, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    (void)ino;
    read_dir(req, size, offset, fi, true);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    (void)fi;
    fuse_reply_err(req, 0); /* every change of names has reached the bucket before it was answered */
}

/* ---------------------------------------------------------------------------------------- mkdir, rmdir */

static void mkdir_done(void *arg, int r)
{
    struct call *call = arg;
    struct inode *inode;

    inode = r ? NULL : inode_lookup(call->fs->inodes, call->parent, call->name, S_IFDIR);
    if (inode)
        call_reply_entry(call, inode, &call->attr, call->fs->ttl_ms);
    else
        call_reply_err(call, r ? r : -ENOMEM);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call = call_on_name(req, parent, name, true, key);

    if (!call)
        return;
    attr_of_new(call->fs, &call->by, call->parent, S_IFDIR | (mode & 07777), &call->attr);
    cache_mkdir(call->fs->cache, key, &call->attr, mkdir_done, call);
}

static void rmdir_done(void *arg, int r)
{
    struct call *call = arg;

    if (!r)
        inode_detach(call->fs->inodes, call->parent, call->name);
    call_reply_err(call, r);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call = call_on_name(req, parent, name, true, key);

    if (call)
        cache_rmdir(call->fs->cache, key, rmdir_done, call);
}
