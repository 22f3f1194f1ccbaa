/*
 * fs_internal.h: what the parts of fs/ share.
 */
#ifndef FS_FS_INTERNAL_H
#define FS_FS_INTERNAL_H

#include "fs.h"
#include "inode.h"
#include "path.h"
#include "reply.h"
#include "shed.h"

#include "../cache/cache.h"

#include <pthread.h>

#define REQUEST_MAX (1u << 20) /* bytes of a FUSE write; of a read: MOUNTPOINT_MAX_READ */

struct fs {
    struct oss *oss;
    const struct options *options;
    struct headers *headers; /* of uploads; before the cache, which borrows it */
    struct cache *cache;
    struct inodes *inodes;
    struct shed *shed;
    struct calls *calls;
    struct attr_defaults defaults;
    int64_t ttl_ms;
    dev_t device; /* of the mount, once it is mounted; 0: not known */

    pthread_mutex_t mu;      /* guards what follows */
    struct list files, dirs; /* open handles: the kernel sends no release for those that an unmount cuts off */
    struct attr root_attr;   /* has no object of its own (or its marker is not ours to make): kept in memory */
};

/* An open file. */
/*
 * Who answers a request by a call may see the program end, and the handle be released, before its handler has
 * returned: it holds the handle meanwhile.
 */
struct file {
    struct list link;    /* in fs->files */
    atomic_uint refs;    /* the kernel's, and of handlers at work */
    struct inode *inode; /* referenced */
    struct cfile *cf;    /* one open of it */
    bool writable;
    _Atomic bool wrote; /* close() has something to answer for */
};

/* op_xattr_oss.c: user.oss.*; value NULL: remove. */
bool is_object_xattr(const char *name);
void read_object_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void change_object_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size);

/* header_options.c: 0, or -EINVAL, -ENOMEM with err->message. */
int header_options(const struct options *o, struct headers **out, struct oss_error *err);

static inline struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static inline struct file *file_of(struct fuse_file_info *fi)
{
    return (struct file *)(uintptr_t)fi->fh;
}

static inline struct file *file_get(struct fuse_file_info *fi)
{
    struct file *file = file_of(fi);

    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
    return file;
}
void file_put(struct fs *fs, struct file *file);

/* The device a file is on, by what the kernel has in memory: a stat would come back to us. 0 or a negative errno. */
int device_of(const char *path, dev_t *device);

/* attr.c: the stat of an inode with these attributes. */
void attr_to_stat(const struct attr *attr, uint64_t ino, bool detached, struct stat *st);

/*
 * Owner and mode of something new in `parent`, made by `by`: the parent's group and setgid bit are inherited as
 * POSIX says.
 */
void attr_of_new(struct fs *fs, const struct fuse_ctx *by, struct inode *parent, mode_t mode, struct attr *out);

/*
 * What the bucket (or the file's own unsent state) says of call->inode: then(call, info) on success, else the call is
 * answered with the error. Not for the root, nor for a detached inode (ESTALE).
 */
void call_with_info(struct call *call, void (*then)(struct call *call, struct oinfo *info));

/*
 * An open file that others have appended to, as `info` says, grows first: true when then(call, 0) will go on. Once
 * for each call.
 */
bool call_follow(struct call *call, const char *key, struct oinfo *info, cache_done *then);

/* Directory key and full key of call->parent and name. 0 or a negative errno. */
int parent_key(struct fs *fs, struct inode *parent, const char *name, bool is_dir, char dir[OSS_KEY_MAX + 2],
               char key[OSS_KEY_MAX + 2]);

/* A call about a name in a directory, `key` filled; NULL when the request was answered with an error already. */
struct call *call_on_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir,
                          char key[OSS_KEY_MAX + 2]);

/* The handlers, one file for each group. */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi);

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                        fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
               unsigned int flags);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* Ends the handles that nobody will release any more: after the loop. */
void files_end(struct fs *fs);
void dirs_end(struct fs *fs);

/* op_dir.c */
struct dir;
void dir_put(struct dir *dir); /* NULL is allowed */

#endif
