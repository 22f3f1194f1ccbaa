#include "fs_internal.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 100 /* a call younger than this is not looked at; also the watcher's pace */

struct calls {
    pthread_mutex_t mu; /* guards the list, and `answered` of the calls in it */
    pthread_cond_t cond;
    struct list waiting;
    pthread_t watcher;
    bool stop;
};

/* --------------------------------------------------------------------------------------- the watcher */

static ssize_t read_proc(pid_t pid, const char *what, char *text, size_t size)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

static uint64_t status_mask(const char *status, const char *field)
{
    const char *p = strstr(status, field);

    return p ? strtoull(p + strlen(field), NULL, 16) : 0;
}

static bool signal_pending(pid_t pid)
{
    static const int wanted[] = {SIGKILL, SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    char status[4096];
    uint64_t pending;

    if (read_proc(pid, "status", status, sizeof(status)) <= 0)
        return false;
    pending =
        (status_mask(status, "\nSigPnd:") | status_mask(status, "\nShdPnd:")) & ~status_mask(status, "\nSigBlk:");
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
        if (pending & 1ULL << (wanted[i] - 1))
            return true;
    return false;
}

/* Is the process ending by a signal? Its files are closed then by nobody who could hear the answer. */
static bool dying_of_signal(pid_t pid)
{
    char stat[2048], *p;
    unsigned long value = 0, flags = 0;
    int field;

    if (read_proc(pid, "stat", stat, sizeof(stat)) <= 0)
        return false;
    p = strrchr(stat, ')'); /* the name may hold anything; field 3 follows it */
    for (field = 3; p && field <= 52; field++) {
        p = strchr(p, ' ');
        if (!p)
            break;
        value = strtoul(++p, NULL, 10);
        if (field == 9)
            flags = value;
    }
    /* PF_EXITING; the low bits of exit_code, field 52, name the signal. */
    return field > 52 && (flags & 0x4) && (value & 0x7f);
}

/* Answers a call in its completer's place, which waits for the lock to end it. */
static void give_up(struct call *call, int e)
{
    list_del(&call->link);
    call->answered = true;
    fuse_reply_err(call->req, e);
}

void calls_give_up(struct calls *calls)
{
    pthread_mutex_lock(&calls->mu);
    list_for_each_safe (it, &calls->waiting)
        give_up(list_entry(it, struct call, link), ENOTCONN);
    pthread_mutex_unlock(&calls->mu);
}

static void look_at_calls(struct calls *calls)
{
    int64_t now = clock_ms();

    list_for_each_safe (it, &calls->waiting) {
        struct call *call = list_entry(it, struct call, link);

        if (call->by.pid <= 0 || now - call->since_ms < PATIENCE_MS)
            continue;
        if (!signal_pending(call->by.pid) && !dying_of_signal(call->by.pid))
            continue;
        give_up(call, EINTR);
    }
}

static void *watch(void *arg)
{
    struct calls *calls = arg;
    struct timespec next;

    pthread_mutex_lock(&calls->mu);
    while (!calls->stop) {
        if (list_empty(&calls->waiting)) {
            pthread_cond_wait(&calls->cond, &calls->mu);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &next);
        next.tv_nsec += PATIENCE_MS * 1000000L;
        if (next.tv_nsec >= 1000000000L) {
            next.tv_sec++;
            next.tv_nsec -= 1000000000L;
        }
        pthread_cond_timedwait(&calls->cond, &calls->mu, &next);
        look_at_calls(calls);
    }
    pthread_mutex_unlock(&calls->mu);
    return NULL;
}

struct calls *calls_new(void)
{
    struct calls *calls = calloc(1, sizeof(*calls));

    if (!calls)
        return NULL;
    list_init(&calls->waiting);
    pthread_mutex_init(&calls->mu, NULL);
    pthread_cond_init(&calls->cond, NULL);
    if (pthread_create(&calls->watcher, NULL, watch, calls)) {
        free(calls);
        return NULL;
    }
    return calls;
}

void calls_free(struct calls *calls)
{
    if (!calls)
        return;
    pthread_mutex_lock(&calls->mu);
    calls->stop = true;
    pthread_cond_signal(&calls->cond);
    pthread_mutex_unlock(&calls->mu);
    pthread_join(calls->watcher, NULL);
    pthread_cond_destroy(&calls->cond);
    pthread_mutex_destroy(&calls->mu);
    free(calls);
}

/* ------------------------------------------------------------------------------------------- calls */

struct call *call_new(struct fs *fs, fuse_req_t req)
{
    struct call *call = calloc(1, sizeof(*call));
    struct calls *calls = fs->calls;
    bool first;

    if (!call) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    call->fs = fs;
    call->req = req;
    call->by = *fuse_req_ctx(req);
    call->since_ms = clock_ms();
    pthread_mutex_lock(&calls->mu);
    first = list_empty(&calls->waiting);
    list_add_tail(&calls->waiting, &call->link);
    if (first)
        pthread_cond_signal(&calls->cond);
    pthread_mutex_unlock(&calls->mu);
    return call;
}

/* true: the request is still to be answered, by the caller. */
static bool claim(struct call *call)
{
    struct calls *calls = call->fs->calls;
    bool mine;

    pthread_mutex_lock(&calls->mu);
    mine = !call->answered;
    call->answered = true;
    list_del(&call->link);
    pthread_mutex_unlock(&calls->mu);
    return mine;
}

static void call_free(struct call *call)
{
    struct inodes *inodes = call->fs->inodes;

    inode_put(inodes, call->inode);
    inode_put(inodes, call->parent);
    inode_put(inodes, call->new_parent);
    dir_put(call->dir);
    if (call->cf)
        cfile_release(call->cf);
    free(call->name);
    free(call->new_name);
    free(call->data);
    free(call);
}

/* Every negative errno of ours is one that FUSE may carry; what has no meaning to a program becomes EIO. */
static int user_errno(int r)
{
    switch (-r) {
    case ECANCELED: /* the daemon is ending */
    case EBADE:
    case EPROTOTYPE:
    case ERANGE:
        return EIO;
    default:
        return -r;
    }
}

void reply_err(fuse_req_t req, int r)
{
    fuse_reply_err(req, r < 0 ? user_errno(r) : 0);
}

void call_reply_err(struct call *call, int r)
{
    if (claim(call))
        reply_err(call->req, r);
    call_free(call);
}

bool call_given_up(struct call *call)
{
    struct calls *calls = call->fs->calls;
    bool answered;

    pthread_mutex_lock(&calls->mu);
    answered = call->answered;
    pthread_mutex_unlock(&calls->mu);
    return answered;
}

void call_reply_write(struct call *call, size_t n)
{
    if (claim(call))
        fuse_reply_write(call->req, n);
    call_free(call);
}

void call_reply_none(struct call *call)
{
    claim(call);
    call_free(call);
}

void call_reply_attr(struct call *call, const struct stat *st, int64_t ttl_ms)
{
    if (claim(call))
        fuse_reply_attr(call->req, st, (double)ttl_ms / 1000);
    call_free(call);
}

/* `inode` has been looked up for this reply; a kernel that did not get it does not forget it either. */
void call_reply_entry(struct call *call, struct inode *inode, const struct attr *attr, int64_t ttl_ms)
{
    struct inodes *inodes = call->fs->inodes;
    struct fuse_entry_param e = {
        .ino = inode->ino,
        .attr_timeout = (double)ttl_ms / 1000,
        .entry_timeout = (double)ttl_ms / 1000,
    };

    attr_to_stat(attr, inode->ino, false, &e.attr);
    if (!claim(call) || fuse_reply_entry(call->req, &e))
        inode_forget(inodes, e.ino, 1);
    inode_put(inodes, inode);
    call_free(call);
}

void call_reply_absent(struct call *call, int64_t ttl_ms)
{
    struct fuse_entry_param e = {.entry_timeout = (double)ttl_ms / 1000};

    if (claim(call)) {
        if (ttl_ms > 0)
            fuse_reply_entry(call->req, &e);
        else
            fuse_reply_err(call->req, ENOENT);
    }
    call_free(call);
}

void call_reply_text(struct call *call, const char *text)
{
    if (claim(call))
        fuse_reply_readlink(call->req, text);
    call_free(call);
}

bool call_reply_buf(struct call *call, const void *data, size_t n)
{
    bool got = claim(call) && !fuse_reply_buf(call->req, data, n);

    call_free(call);
    return got;
}

void call_reply_written(struct call *call, size_t n)
{
    if (claim(call))
        fuse_reply_write(call->req, n);
    call_free(call);
}

/* Pages of the data file go through a pipe to the kernel; libfuse copies them where that does not pay. */
void call_reply_view(struct call *call, const struct cfile_view *view)
{
    struct fuse_bufvec data = FUSE_BUFVEC_INIT(view->n);

    if (view->n && !view->data) {
        data.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY;
        data.buf[0].fd = view->fd;
        data.buf[0].pos = (off_t)view->offset;
    } else {
        data.buf[0].mem = (void *)(uintptr_t)view->data;
    }
    if (claim(call))
        fuse_reply_data(call->req, &data, 0);
    call_free(call);
}

void call_reply_xattr(struct call *call, const void *data, size_t n, size_t room)
{
    if (claim(call)) {
        if (room == 0)
            fuse_reply_xattr(call->req, n);
        else if (n > room)
            fuse_reply_err(call->req, ERANGE);
        else
            fuse_reply_buf(call->req, data, n);
    }
    call_free(call);
}

bool call_reply_open(struct call *call, const struct fuse_file_info *fi)
{
    bool opened = claim(call) && !fuse_reply_open(call->req, fi);

    call_free(call);
    return opened;
}

bool call_reply_create(struct call *call, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
    bool opened = claim(call) && !fuse_reply_create(call->req, e, fi);

    call_free(call);
    return opened;
}
