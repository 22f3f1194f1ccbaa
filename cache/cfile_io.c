/* The content of a file: its data file, reading, writing, truncation. The second half of cfile.h. */
#include "append.h"
#include "keep.h"
#include "stream.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAME_TICK_NS 20000000     /* the coarse clock stands still for less */
#define ACCOUNT_MAX  (256u << 10) /* bytes written to a file before the cache counts them */

/*
 * A write to the page cache of up to this is cheap; a larger one makes the kernel look for larger runs of free pages,
 * which on a virtual machine the host may have to find first (measured: 0.3 s for each GiB against 1.3 s).
 */
#define WRITE_STEP (128U << 10)

int cfile_need_path(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    uint64_t number;

    if (cf->path)
        return 0;
    number = __atomic_fetch_add(&cache->next_file, 1, __ATOMIC_RELAXED);
    if (asprintf(&cf->path, "%s/data/%016llx", cache->config.state_dir, (unsigned long long)number) < 0) {
        cf->path = NULL;
        return -ENOMEM;
    }
    return 0;
}

int cfile_need_fd(struct cfile *cf)
{
    int r;

    if (cf->fd >= 0)
        return 0;
    r = cfile_need_path(cf);
    if (r)
        return r;
    cf->fd = open(cf->path, O_RDWR | (cf->has_data ? 0 : O_CREAT | O_EXCL) | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (cf->fd < 0) {
        r = -errno;
        log_err("data file %s: %s", cf->path, strerror(errno));
    } else {
        cf->has_data = true;
    }
    return r;
}

int pwrite_all(int fd, const char *from, size_t n, uint64_t offset)
{
    while (n > 0) {
        ssize_t w = pwrite(fd, from, n < WRITE_STEP ? n : WRITE_STEP, (off_t)offset);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        from += w;
        offset += (uint64_t)w;
        n -= (size_t)w;
    }
    return 0;
}

int cfile_pread_locked(struct cfile *cf, void *to, size_t n, uint64_t offset)
{
    char *p = to;
    int fd, r = 0;

    pthread_mutex_lock(&cf->mu);
    if (cf->has_data)
        r = cfile_need_fd(cf);
    fd = cf->fd;
    pthread_mutex_unlock(&cf->mu);
    if (r)
        return r;
    while (n > 0) {
        ssize_t got = fd < 0 ? 0 : pread(fd, p, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            r = -errno;
        if (got <= 0)
            break;
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    if (!r)
        memset(p, 0, n);
    return r;
}

void cfile_io_begin(struct cfile *cf, enum cfile_io kind)
{
    bool shared;

    pthread_rwlock_rdlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    shared = cf->io_shared[kind == CFILE_FILLS ? CFILE_WRITES : CFILE_FILLS] == 0;
    cf->io_shared[kind] += shared;
    pthread_mutex_unlock(&cf->mu);
    if (shared)
        return;
    pthread_rwlock_unlock(&cf->io);
    pthread_rwlock_wrlock(&cf->io); /* then nobody shares it */
}

void cfile_io_end(struct cfile *cf, enum cfile_io kind)
{
    pthread_mutex_lock(&cf->mu);
    cf->io_shared[kind] -= cf->io_shared[kind] > 0;
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
}

int cfile_pread(struct cfile *cf, void *to, size_t n, uint64_t offset)
{
    int r;

    pthread_rwlock_rdlock(&cf->io);
    r = cfile_pread_locked(cf, to, n, offset);
    pthread_rwlock_unlock(&cf->io);
    return r;
}

/* Now, but never the same again: by it the kernel tells whether its pages are of the content as it was. */
static void move_mtime(struct timespec *mtime)
{
    const struct timespec old = *mtime;

    clock_gettime(CLOCK_REALTIME_COARSE, mtime);
    if (old.tv_sec == mtime->tv_sec && old.tv_nsec >= mtime->tv_nsec && old.tv_nsec - mtime->tv_nsec < SAME_TICK_NS &&
        old.tv_nsec < 999999999)
        mtime->tv_nsec = old.tv_nsec + 1;
}

/* There is room. *count: by now it pays to look how much of it was taken. */
static int write_inside(struct cfile *cf, const void *from, size_t n, uint64_t offset, const struct append_write *how,
                        bool *count)
{
    uint64_t account = cf->cache->config.cache_size / 256;
    bool streams = false, timer = false;
    int fd, r;

    pthread_mutex_lock(&cf->mu);
    r = cfile_need_fd(cf);
    fd = cf->fd;
    pthread_mutex_unlock(&cf->mu);
    if (r)
        return r;
    if (how)
        pthread_rwlock_wrlock(&cf->io);
    else
        cfile_io_begin(cf, CFILE_WRITES);
    /* Behind io, so that no COMMIT comes between this mark and the bytes. */
    pthread_mutex_lock(&cf->mu);
    if (how)
        offset = cf->attr.size;
    if (offset + n > cf->cache->config.limits.object_max || offset + n < offset || !stream_reaches(cf, offset + n))
        r = -EFBIG;
    else
        r = journal_dirty(cf, offset, offset + n);
    pthread_mutex_unlock(&cf->mu);
    if (!r) {
        r = pwrite_all(fd, from, n, offset);
        pthread_mutex_lock(&cf->mu);
        keep_cut(cf, offset, offset + n); /* also of one that failed in the middle */
        if (!r)
            r = extent_map_write(cf->map, offset, offset + n, cf->epoch);
        if (!r) {
            if (offset + n > cf->attr.size)
                cf->attr.size = offset + n;
            move_mtime(&cf->attr.mtime);
            cf->times_set = false;
            cf->written = true;
            cfile_changed(cf, CFILE_ON_WRITE);
            if (how)
                timer = append_written(cf, how);
            else
                cf->plain_gen = cf->gen;
            streams = stream_wrote(cf, offset, n);
            cf->unaccounted += n;
            *count = cf->unaccounted >= (account < ACCOUNT_MAX ? account : ACCOUNT_MAX);
        }
        pthread_mutex_unlock(&cf->mu);
    }
    cfile_io_end(cf, CFILE_WRITES);
    if (streams)
        stream_begin(cf);
    if (timer)
        append_timer_start(cf);
    return r;
}

/* `how`: of an append; NULL for a write at `offset`. */
static ssize_t write_bytes(struct cfile *cf, const void *from, size_t n, uint64_t offset,
                           const struct append_write *how)
{
    bool count = true;
    int r = evict_for_write(cf, n);

    if (r)
        return r;
    r = write_inside(cf, from, n, offset, how, &count);
    if (count)
        evict_account(cf);
    evict_written(cf, n, count);
    return r ? r : (ssize_t)n;
}

ssize_t cfile_write(struct cfile *cf, const void *from, size_t n, uint64_t offset, bool append)
{
    static const struct append_write whole;

    return write_bytes(cf, from, n, offset, append ? &whole : NULL);
}

ssize_t cfile_append(struct cfile *cf, const void *from, size_t n, bool more, pid_t by)
{
    const struct append_write how = {.more = more, .by = by};

    return write_bytes(cf, from, n, 0, &how);
}

int cfile_truncate(struct cfile *cf, uint64_t size)
{
    int r = 0;

    if (size > cf->cache->config.limits.object_max)
        return -EFBIG;
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (size != cf->attr.size)
        r = journal_dirty(cf, size, UINT64_MAX);
    if (!r && size < cf->attr.size && cf->has_data) {
        r = cfile_need_fd(cf);
        if (!r && ftruncate(cf->fd, (off_t)size))
            r = -errno;
    }
    if (!r)
        r = extent_map_truncate(cf->map, size, cf->epoch);
    keep_cut(cf, size, UINT64_MAX);
    if (!r) {
        bool differs = size != cf->attr.size;

        if (size < cf->cut)
            cf->cut = size;
        stream_truncated(cf, size);
        cf->times_set = false;
        if (size == 0)
            cf->written = false;
        cf->attr.size = size;
        clock_gettime(CLOCK_REALTIME, &cf->attr.mtime);
        if (differs)
            cfile_prune_bases(cf);
        /* One that cuts nothing off has set the times. */
        cfile_changed(cf, differs || cf->data_gen > cf->data_sent_gen ? CFILE_ON_TRUNCATE : CFILE_ON_ATTRIBUTES);
        if (differs)
            cf->plain_gen = cf->gen;
        cfile_check(cf);
    }
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    evict_account(cf);
    return r;
}

struct read_op {
    struct cfile *cf;
    size_t n;
    uint64_t offset;
    cfile_viewed *viewed;
    void *arg;
    unsigned fetched; /* how often it had to fetch */
};

/*
 * The end of a read. One that needs several pieces keeps what it has had to fetch from being dropped: in a full cache
 * each piece would take the room of the one before, for ever.
 */
static void read_end(struct read_op *op)
{
    struct cfile *cf = op->cf;

    if (op->fetched > 1) {
        pthread_mutex_lock(&cf->mu);
        cf->wanted_whole--;
        pthread_mutex_unlock(&cf->mu);
        evict_fetched(cf, 0, true);
    }
    cfile_release(cf);
    free(op);
}

/* Does the data file hold all of [offset, offset + n)? It may end before a file that was made longer. io held. */
static bool file_covers(int fd, size_t n, uint64_t offset)
{
    struct stat st;

    return fd >= 0 && !fstat(fd, &st) && (uint64_t)st.st_size >= offset + n;
}

/* Shows n bytes, all of them local, to who asked for them. io held. */
static void show(struct read_op *op, size_t n)
{
    struct cfile *cf = op->cf;
    struct cfile_view view = {.n = n, .offset = op->offset};
    char *copy = NULL;
    int r = 0;

    pthread_mutex_lock(&cf->mu);
    if (n && cf->has_data)
        r = cfile_need_fd(cf);
    view.fd = cf->fd;
    pthread_mutex_unlock(&cf->mu);
    if (!r && n && !file_covers(view.fd, n, op->offset)) {
        copy = malloc(n);
        r = copy ? cfile_pread_locked(cf, copy, n, op->offset) : -ENOMEM;
        view.data = copy;
    }
    op->viewed(op->arg, r, &view);
    free(copy);
}

static void read_fetched(void *arg, int r);

/* Shows what is local; else fetches the first missing piece and comes again. */
static void read_step(struct read_op *op)
{
    struct cfile *cf = op->cf;
    struct extent missing;
    size_t n = 0;
    bool remote = false;

    /* What the map calls local stays so until it is read: only behind io may it be dropped. */
    pthread_rwlock_rdlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (op->offset < cf->attr.size) {
        n = op->n < cf->attr.size - op->offset ? op->n : (size_t)(cf->attr.size - op->offset);
        remote = extent_map_next_remote(cf->map, op->offset, op->offset + n, &missing);
        if (!remote)
            cf->served = true;
        else if (op->fetched++ == 1)
            cf->wanted_whole++;
    }
    pthread_mutex_unlock(&cf->mu);
    if (!remote)
        show(op, n);
    pthread_rwlock_unlock(&cf->io);
    if (remote) {
        fetch_range(cf, missing.start, missing.end, read_fetched, op);
        return;
    }
    if (n)
        fetch_ahead(cf, op->offset, op->offset + n);
    read_end(op);
}

static void read_fetched(void *arg, int r)
{
    struct read_op *op = arg;

    if (!r) {
        read_step(op);
        return;
    }
    op->viewed(op->arg, r, &(struct cfile_view){.fd = -1});
    read_end(op);
}

void cfile_read(struct cfile *cf, size_t n, uint64_t offset, cfile_viewed *viewed, void *arg)
{
    struct read_op *op = malloc(sizeof(*op));

    if (!op) {
        viewed(arg, -ENOMEM, &(struct cfile_view){.fd = -1});
        return;
    }
    *op = (struct read_op){.cf = cfile_hold(cf), .n = n, .offset = offset, .viewed = viewed, .arg = arg};
    read_step(op);
}
