/*
 * reply.h: requests that are waiting for something, and the only place that answers them.
 *
 * A handler that cannot answer at once makes a `struct call`, queues the work and returns; whoever completes the work
 * answers with a call_reply_…(), from any thread, holding no lock. Each of these ends the call.
 *
 * A program that is dying of a signal, or that has one pending which ends it or which it wants to be interrupted
 * by (SIGINT, SIGTERM, SIGHUP, SIGQUIT), is not kept: a watcher answers EINTR in its place within a tenth of a
 * second or two, while the work goes on. Other signals (timers, children, window changes) do not interrupt a file
 * operation: programs do not expect EINTR from close() or stat(), and git's progress timer alone would break
 * a clone. That is why FUSE_INTERRUPT, which does not say which signal it was, is not what decides.
 */
#ifndef FS_REPLY_H
#define FS_REPLY_H

#include "fs.h"
#include "inode.h"

#include "../oss/base_list.h"

struct calls;
struct dir;

struct call {
    struct list link; /* of the calls that are unanswered; guarded by calls->mu */
    fuse_req_t req;
    struct fs *fs;
    struct fuse_ctx by; /* who waits: .pid is the thread, 0 when not known */
    int64_t since_ms;
    bool answered; /* guarded by calls->mu */

    /* What the handlers need to remember; references that are released with the call. */
    struct inode *inode; /* the file or directory in question */
    struct inode *parent, *new_parent;
    char *name, *new_name;
    struct dir *dir;  /* a reference */
    struct cfile *cf; /* a hold */
    struct attr attr;
    int set; /* of setattr: FUSE_SET_ATTR_…; of setxattr: flags */
    size_t size;
    uint64_t offset;
    void *data;    /* malloc'ed */
    bool more;     /* of write: another piece is to follow */
    bool followed; /* call_follow() was tried */
    int r;
    void (*then)(struct call *call, struct oinfo *info); /* continuation of call_with_info() */
};

struct calls *calls_new(void);
/* Ends the watcher; all calls must have been answered. */
void calls_free(struct calls *calls);

/*
 * A call for this request; NULL when out of memory (the request is then answered ENOMEM). From here on the request
 * may be answered, and gone, at any moment: what is to be known of it is in the call.
 */
struct call *call_new(struct fs *fs, fuse_req_t req);

/* Answers ENOTCONN to all that wait: the mount goes, and the kernel must not wait for them. */
void calls_give_up(struct calls *calls);

/* Has the watcher answered it already? Then nothing more is to be done for it, but to end it. */
bool call_given_up(struct call *call);

void call_reply_write(struct call *call, size_t n);
void call_reply_err(struct call *call, int r); /* 0 or a negative errno */
void call_reply_none(struct call *call);       /* the call ends, the request was answered otherwise */
void call_reply_attr(struct call *call, const struct stat *st, int64_t ttl_ms);
void call_reply_entry(struct call *call, struct inode *inode, const struct attr *attr, int64_t ttl_ms);
void call_reply_absent(struct call *call, int64_t ttl_ms);                /* ENOENT that may be remembered */
bool call_reply_open(struct call *call, const struct fuse_file_info *fi); /* false: nobody got it, no release comes */
bool call_reply_create(struct call *call, const struct fuse_entry_param *e, const struct fuse_file_info *fi);
void call_reply_text(struct call *call, const char *text);          /* readlink */
bool call_reply_buf(struct call *call, const void *data, size_t n); /* false: nobody got it */
void call_reply_written(struct call *call, size_t n);
void call_reply_view(struct call *call, const struct cfile_view *view); /* read */
void call_reply_xattr(struct call *call, const void *data, size_t n,
                      size_t room); /* room 0: only the size is asked */

/* The errno for a request that is answered at once: a negative one of ours as FUSE wants it. */
void reply_err(fuse_req_t req, int r);

#endif
