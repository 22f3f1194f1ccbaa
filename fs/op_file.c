/* create, open, read, write, flush, fsync, release, fallocate, lseek. */
#include "fs_internal.h"

#include "../oss/base_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------- open, create */

static uint32_t etag_hash(const char *etag)
{
    uint32_t h = 2166136261u;

    for (const char *p = etag; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    return *etag ? h | 1 : 0;
}

/* The kernel's pages are those of this content from now on; returns whether they were before. */
static bool note_content(struct fs *fs, struct inode *inode, struct cfile *cf)
{
    char etag[OSS_ETAG_SIZE];

    cfile_etag(cf, etag);
    return inode_note_content(fs->inodes, inode, etag_hash(etag));
}

/* Takes over the open of `cf`. NULL when out of memory (the open is ended then). */
static struct file *file_new(struct fs *fs, struct inode *inode, struct cfile *cf, bool writable)
{
    struct file *file = calloc(1, sizeof(*file));

    if (!file) {
        cfile_close(cf, writable);
        return NULL;
    }
    atomic_init(&file->refs, 1);
    file->inode = inode;
    file->cf = cf;
    file->writable = writable;
    inode_opened(fs->inodes, inode, cf);
    pthread_mutex_lock(&fs->mu);
    list_add_tail(&fs->files, &file->link);
    pthread_mutex_unlock(&fs->mu);
    return file;
}

void file_put(struct fs *fs, struct file *file)
{
    struct cfile *cf = file->cf;
    bool writable = file->writable;

    if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) > 1)
        return;
    pthread_mutex_lock(&fs->mu);
    list_del(&file->link);
    pthread_mutex_unlock(&fs->mu);
    inode_closed(fs->inodes, file->inode);
    free(file);
    cfile_close(cf, writable);
}

void files_end(struct fs *fs)
{
    while (!list_empty(&fs->files))
        file_put(fs, list_entry(fs->files.next, struct file, link));
}

/* What the kernel should do with this handle. */
static void file_info(struct fuse_file_info *fi, struct file *file, bool keep)
{
    fi->fh = (uintptr_t)file;
    fi->keep_cache = keep;
    fi->direct_io = (fi->flags & O_APPEND) != 0; /* the end of the file is ours to know */
    fi->noflush = !file->writable;
}

static void open_known(struct call *call, struct oinfo *info);

static void open_again(void *arg, int r)
{
    (void)r;
    call_with_info(arg, open_known);
}

static void open_known(struct call *call, struct oinfo *info)
{
    struct fs *fs = call->fs;
    struct fuse_file_info fi = {.flags = call->set};
    bool writable = (call->set & O_ACCMODE) != O_RDONLY;
    char key[OSS_KEY_MAX + 2];
    struct cfile *cf = NULL;
    struct file *file;
    int r = inode_key(fs->inodes, call->inode, key);

    if (!r && S_ISDIR(info->attr.mode))
        r = -EISDIR;
    if (!r && (cache_await_name(fs->cache, key, open_again, call) || call_follow(call, key, info, open_again)))
        return;
    if (!r && writable && cache_await_sent(fs->cache, key, open_again, call))
        return;
    if (!r && !(cf = cfile_open(fs->cache, key, info, NULL, writable)))
        r = -ENOMEM;
    if (!r && cfile_too_late(cf)) {
        cfile_close(cf, writable);
        if (!cache_await_name(fs->cache, key, open_again, call))
            open_again(call, 0);
        return;
    }
    if (!r && (call->set & O_TRUNC) && (r = cfile_truncate(cf, 0)))
        cfile_close(cf, writable);
    file = r ? NULL : file_new(fs, call->inode, cf, writable);
    if (!file) {
        call_reply_err(call, r ? r : -ENOMEM);
        return;
    }
    if (call->set & O_TRUNC)
        file->wrote = true;
    file_info(&fi, file, note_content(fs, call->inode, cf));
    if (!call_reply_open(call, &fi))
        file_put(fs, file);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct call *call = call_new(fs, req);

    if (!call)
        return;
    call->set = fi->flags;
    call->inode = inode_get(fs->inodes, ino);
    if (!call->inode)
        call_reply_err(call, -ESTALE);
    else
        call_with_info(call, open_known);
}

/* The kernel has just been told that there is no such name, so nothing is asked. call->attr is what it begins with.
 */
static struct cfile *make_file(struct call *call, int *r)
{
    struct fs *fs = call->fs;
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];
    struct cfile *cf;

    *r = parent_key(fs, call->parent, call->name, false, dir, key);
    if (*r)
        return NULL;
    cf = cfile_open(fs->cache, key, NULL, &call->attr, true);
    if (!cf)
        *r = -ENOMEM;
    else
        cache_created(fs->cache, key, cf);
    return cf;
}

/* Answers with an open of `cf`, which it takes over, or with the error. */
static void created(struct call *call, struct cfile *cf, int r)
{
    struct fs *fs = call->fs;
    struct fuse_entry_param e = {.entry_timeout = (double)fs->ttl_ms / 1000,
                                 .attr_timeout = (double)fs->ttl_ms / 1000};
    struct fuse_file_info fi = {.flags = call->set};
    struct inode *inode = NULL;
    struct file *file = NULL;

    if (!r) {
        inode = inode_lookup(fs->inodes, call->parent, call->name, S_IFREG);
        file = inode ? file_new(fs, inode, cf, true) : NULL;
        if (!inode)
            cfile_close(cf, true);
        r = file ? 0 : -ENOMEM;
    }
    if (r) {
        if (inode)
            inode_forget(fs->inodes, inode->ino, 1);
        call_reply_err(call, r);
    } else {
        file->wrote = true;
        note_content(fs, inode, cf);
        file_info(&fi, file, false);
        e.ino = inode->ino;
        cfile_attr(cf, &call->attr);
        attr_to_stat(&call->attr, e.ino, false, &e.attr);
        if (!call_reply_create(call, &e, &fi)) {
            inode_forget(fs->inodes, e.ino, 1);
            file_put(fs, file);
        }
    }
    inode_put(fs->inodes, inode);
}

static void claimed_known(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct call *call = arg;
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];
    struct cfile *cf = NULL;

    (void)ttl_ms;
    if (r == -ENOENT || (!r && !S_ISREG(info->attr.mode)))
        r = -ESTALE; /* removed or replaced at once */
    if (!r)
        r = parent_key(call->fs, call->parent, call->name, false, dir, key);
    if (!r && !(cf = cfile_open(call->fs->cache, key, info, NULL, true)))
        r = -ENOMEM;
    created(call, cf, r);
}

/* excl=strict: the object is there, and nobody else has made it. */
static void claimed(void *arg, int r)
{
    struct call *call = arg;
    char dir[OSS_KEY_MAX + 2];

    if (!r)
        r = inode_key(call->fs->inodes, call->parent, dir);
    if (r)
        call_reply_err(call, r);
    else
        cache_lookup(call->fs->cache, dir, call->name, claimed_known, call);
}

static void create_now(void *arg, int r)
{
    struct call *call = arg;
    struct fs *fs = call->fs;
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];
    struct cfile *cf;

    if ((call->set & O_EXCL) && !strcmp(fs->options->excl, "strict")) {
        r = parent_key(fs, call->parent, call->name, false, dir, key);
        if (r)
            call_reply_err(call, r);
        else
            cache_claim(fs->cache, key, &call->attr, claimed, call);
        return;
    }
    cf = make_file(call, &r);
    created(call, cf, r);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    char key[OSS_KEY_MAX + 2];
    struct call *call = call_on_name(req, parent, name, false, key);

    if (!call)
        return;
    call->set = fi->flags;
    attr_of_new(call->fs, &call->by, call->parent, S_IFREG | (mode & 07777), &call->attr);
    if (!cache_await_name(call->fs->cache, key, create_now, call))
        create_now(call, 0);
}

static void mknod_sent(void *arg, int r)
{
    struct call *call = arg;
    struct inode *inode;
    struct attr attr;

    inode = r ? NULL : inode_lookup(call->fs->inodes, call->parent, call->name, S_IFREG);
    if (!inode) {
        call_reply_err(call, r ? r : -ENOMEM);
        return;
    }
    cfile_attr(call->cf, &attr);
    call_reply_entry(call, inode, &attr, call->fs->ttl_ms);
}

static void mknod_now(void *arg, int r)
{
    struct call *call = arg;
    struct cfile *cf = make_file(call, &r);

    if (!cf) {
        call_reply_err(call, r);
        return;
    }
    call->cf = cfile_hold(cf);
    cfile_sync(cf, mknod_sent, call);
    cfile_close(cf, true);
}

/* Only plain files have a place in a bucket. */
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct fs *fs = fs_of(req);
    char key[OSS_KEY_MAX + 2];
    struct call *call;

    (void)rdev;
    if (!S_ISREG(mode)) {
        fuse_reply_err(req, EPERM);
        return;
    }
    call = call_on_name(req, parent, name, false, key);
    if (!call)
        return;
    attr_of_new(fs, &call->by, call->parent, S_IFREG | (mode & 07777), &call->attr);
    if (!cache_await_name(fs->cache, key, mknod_now, call))
        mknod_now(call, 0);
}

/* ---------------------------------------------------------------------------------------- read, write */

static void read_done(void *arg, int r, const struct cfile_view *view)
{
    struct call *call = arg;

    if (r < 0)
        call_reply_err(call, r);
    else
        call_reply_view(call, view);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct file *file = file_get(fi);
    struct call *call = call_new(fs, req);

    (void)ino;
    if (call)
        cfile_read(file->cf, size, (uint64_t)offset, read_done, call);
    file_put(fs, file);
}

static ssize_t write_now(struct cfile *cf, const char *data, size_t size, uint64_t offset, bool append, bool more,
                         pid_t by)
{
    return append ? cfile_append(cf, data, size, more, by) : cfile_write(cf, data, size, offset, false);
}

/* There was no room: again now that there may be. */
static void write_again(void *arg, int r)
{
    struct call *call = arg;
    ssize_t n = r;

    /* A program that was interrupted has been told that nothing was written. */
    if (!r && !call_given_up(call))
        n = write_now(call->cf, call->data, call->size, call->offset, call->set & O_APPEND, call->more, call->by.pid);
    if (n == -ENOSPC && !r && cfile_await_room(call->cf, call->size, write_again, call))
        return;
    if (n < 0)
        call_reply_err(call, (int)n);
    else
        call_reply_write(call, (size_t)n);
}

/* What was fsynced before is in the bucket, or could not be sent. */
static void write_sent(void *arg, int r)
{
    struct call *call = arg;

    (void)r;
    if (!cfile_await_sent(call->cf, write_sent, call))
        write_again(call, 0);
}

/* A call that may outlive the handle. NULL: answered, there is no memory. */
static struct call *call_on_file(fuse_req_t req, struct file *file)
{
    struct cfile *cf = cfile_hold(file->cf);
    struct call *call = call_new(fs_of(req), req);

    if (call)
        call->cf = cf;
    else
        cfile_release(cf);
    return call;
}

/* A write that waits. Its data is copied, for the request's is gone. NULL: answered, there is no memory. */
static struct call *write_later(fuse_req_t req, struct file *file, const char *data, size_t size, off_t offset,
                                bool append, bool more)
{
    struct call *call = call_on_file(req, file);

    if (!call)
        return NULL;
    call->data = malloc(size);
    if (!call->data) {
        call_reply_err(call, -ENOMEM);
        return NULL;
    }
    memcpy(call->data, data, size);
    call->size = size;
    call->offset = (uint64_t)offset;
    call->set = append ? O_APPEND : 0;
    call->more = more;
    return call;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct file *file = file_of(fi);
    /* A buffer that does not begin with a page makes the pieces of a long write a little shorter. */
    bool more = size + 4096 > REQUEST_MAX;
    /* A page that was written through a mapping goes where it is, whatever the descriptor's flags. */
    bool append = (fi->flags & O_APPEND) && !fi->writepage;
    pid_t by = fuse_req_ctx(req)->pid;
    struct call *call;
    ssize_t n;

    (void)ino;
    file->wrote = true;
    if (cfile_must_await_sent(file->cf)) {
        call = write_later(req, file, data, size, offset, append, more);
        if (call)
            write_sent(call, 0);
        return;
    }
    n = write_now(file->cf, data, size, (uint64_t)offset, append, more, by);
    if (n == -ENOSPC) {
        call = write_later(req, file, data, size, offset, append, more);
        if (call && !cfile_await_room(call->cf, size, write_again, call))
            call_reply_err(call, -ENOSPC);
    } else if (n < 0)
        reply_err(req, (int)n);
    else
        fuse_reply_write(req, (size_t)n);
}

/* Does it change the file? Space is not set aside, so that all that is left of allocating is to grow. */
static bool fallocates(struct cfile *cf, int mode, uint64_t end)
{
    struct attr attr;

    if (mode & ~FALLOC_FL_KEEP_SIZE)
        return true;
    cfile_attr(cf, &attr);
    return !(mode & FALLOC_FL_KEEP_SIZE) && end > attr.size;
}

static int fallocate_now(struct cfile *cf, int mode, uint64_t offset, uint64_t length)
{
    if (!fallocates(cf, mode, offset + length))
        return 0;
    if (mode & ~FALLOC_FL_KEEP_SIZE)
        return cfile_zero(cf, offset, length, !(mode & FALLOC_FL_KEEP_SIZE));
    return cfile_truncate(cf, offset + length);
}

static void fallocate_sent(void *arg, int r)
{
    struct call *call = arg;

    (void)r; /* as in write_sent() */
    if (!cfile_await_sent(call->cf, fallocate_sent, call))
        call_reply_err(call, fallocate_now(call->cf, call->set, call->offset, call->size));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
    int kind = mode & ~FALLOC_FL_KEEP_SIZE;
    struct file *file = file_of(fi);
    struct call *call;

    (void)ino;
    if (kind != 0 && kind != FALLOC_FL_PUNCH_HOLE && kind != FALLOC_FL_ZERO_RANGE) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    if (!fallocates(file->cf, mode, (uint64_t)offset + (uint64_t)length)) {
        fuse_reply_err(req, 0);
        return;
    }
    file->wrote = true;
    if (!cfile_must_await_sent(file->cf)) {
        reply_err(req, fallocate_now(file->cf, mode, (uint64_t)offset, (uint64_t)length));
        return;
    }
    call = call_on_file(req, file);
    if (!call)
        return;
    call->set = mode;
    call->offset = (uint64_t)offset;
    call->size = (size_t)length;
    fallocate_sent(call, 0);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
    int64_t found = -EINVAL;

    (void)ino;
    if (whence == SEEK_DATA || whence == SEEK_HOLE)
        found = cfile_seek(file_of(fi)->cf, (uint64_t)offset, whence == SEEK_HOLE);
    if (found < 0)
        reply_err(req, (int)found);
    else
        fuse_reply_lseek(req, (off_t)found);
}

/* --------------------------------------------------------------------------------------- flush, fsync */

/* The inode number that an fdinfo tells; 0: none. */
static uint64_t fdinfo_ino(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    char text[1024];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    const char *p;

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    p = strstr(text, "\nino:");
    return p ? strtoull(p + 5, NULL, 10) : 0;
}

/* A file of the same number may be one of another mount: numbers are made of keys. */
static bool is_on_device(pid_t pid, const char *fd, dev_t device)
{
    char path[64];
    dev_t found;

    snprintf(path, sizeof(path), "/proc/%d/fd/%.20s", (int)pid, fd);
    return device == 0 || (device_of(path, &found) == 0 && found == device);
}

/* Does the process hold another descriptor of this inode? The one being closed is out of its table already. */
static bool holds_another(const struct fs *fs, pid_t pid, uint64_t ino)
{
    char path[64];
    bool found = false;
    struct dirent *e;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
    dir = opendir(path);
    while (dir && !found && (e = readdir(dir)))
        found = fdinfo_ino(dirfd(dir), e->d_name) == ino && is_on_device(pid, e->d_name, fs->device);
    if (dir)
        closedir(dir);
    return found;
}

static void flush_done(void *arg, int r)
{
    struct call *call = arg;

    if (!r && call->inode)
        note_content(call->fs, call->inode, call->cf);
    call_reply_err(call, r);
}

/*
 * A flush that publishes nothing although the file is unsent: `cmd > file` makes the shell close a duplicate
 * before the first byte, and if the command then fails, the good old object must still be there. The release
 * publishes what is empty then.
 */
static bool flush_too_early(struct file *file, fuse_req_t req, uint64_t ino)
{
    bool replaces;

    if (!cfile_empty_unpublished(file->cf, &replaces))
        return false;
    return replaces || holds_another(fs_of(req), fuse_req_ctx(req)->pid, ino);
}

static void send_file(fuse_req_t req, uint64_t ino, struct file *file)
{
    struct fs *fs = fs_of(req);
    struct cfile *cf = cfile_hold(file->cf); /* the handle may be gone when a killed program's flush ends */
    struct call *call = call_new(fs, req);

    if (!call) {
        cfile_release(cf);
        return;
    }
    call->cf = cf;
    call->inode = inode_get(fs->inodes, ino);
    cfile_append_over(cf, call->by.pid);
    cfile_sync(call->cf, flush_done, call);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct file *file = file_of(fi);

    if (!file->writable || !file->wrote || flush_too_early(file, req, ino))
        fuse_reply_err(req, 0);
    else
        send_file(req, ino, file);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    send_file(req, ino, file_of(fi));
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    file_put(fs_of(req), file_of(fi));
    fuse_reply_err(req, 0);
}
