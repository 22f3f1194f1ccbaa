/*
 * Holes of a file. Zeros that nobody wrote (the file was made longer), or that were punched, are dirty ranges like
 * any other, and are published; in the data file they are holes, and cost no disk. What stands in the bucket is data,
 * whatever its bytes are: nobody has looked.
 */
#include "journal.h"
#include "keep.h"
#include "stream.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (64u << 10)

/* Zeros in the data file: as a hole where its file system has such. io held. 0 or a negative errno. */
static int punch(int fd, uint64_t offset, uint64_t n)
{
    static const char zeros[CHUNK];
    int r = 0;

    if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)n))
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    while (!r && n > 0) {
        size_t piece = n < CHUNK ? (size_t)n : CHUNK;

        r = pwrite_all(fd, zeros, piece, offset);
        offset += piece;
        n -= piece;
    }
    return r;
}

/* The bytes are zeros now. mu held. */
static int zeroed(struct cfile *cf, uint64_t offset, uint64_t end, bool *streams)
{
    int r = extent_map_write(cf->map, offset, end, cf->epoch);

    if (r)
        return r;
    if (end > cf->attr.size)
        cf->attr.size = end;
    clock_gettime(CLOCK_REALTIME, &cf->attr.mtime);
    cf->times_set = false;
    cf->written = true;
    cfile_changed(cf, CFILE_ON_WRITE);
    cf->plain_gen = cf->gen;
    *streams = stream_wrote(cf, offset, (size_t)(end - offset));
    cfile_check(cf);
    return 0;
}

int cfile_zero(struct cfile *cf, uint64_t offset, uint64_t n, bool grow)
{
    uint64_t end = offset + n;
    bool streams = false;
    int r = 0;

    if (end < offset || end > cf->cache->config.limits.object_max)
        return -EFBIG;
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (!grow && end > cf->attr.size)
        end = cf->attr.size;
    if (offset < end) {
        r = stream_reaches(cf, end) ? cfile_need_fd(cf) : -EFBIG;
        if (!r)
            r = journal_dirty(cf, offset, end);
        keep_cut(cf, offset, end);
        if (!r)
            r = punch(cf->fd, offset, end - offset);
        if (!r)
            r = zeroed(cf, offset, end, &streams);
    }
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    if (streams)
        stream_begin(cf);
    evict_account(cf);
    return r;
}

/* The first byte of [start, end), all of them dirty, that is in a hole (or is not), `end` when there is none. mu
 * held. */
static uint64_t look(struct cfile *cf, uint64_t start, uint64_t end, bool hole)
{
    off_t at;

    if (!cf->has_data)
        return hole ? start : end;
    if (cfile_need_fd(cf))
        return hole ? end : start; /* it may be data */
    at = lseek(cf->fd, (off_t)start, hole ? SEEK_HOLE : SEEK_DATA);
    if (at < 0)
        return hole == (errno == ENXIO) ? start : end; /* ENXIO: the data file ends before */
    return (uint64_t)at < end ? (uint64_t)at : end;
}

int64_t cfile_seek(struct cfile *cf, uint64_t offset, bool hole)
{
    struct extent ex;
    int64_t found = -ENXIO;
    uint64_t size;

    pthread_rwlock_rdlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    size = cf->attr.size;
    for (uint64_t at = offset; found < 0 && at < size && extent_map_find(cf->map, at, &ex); at = ex.end) {
        uint64_t here = ex.base == EXTENT_NEW ? look(cf, at, ex.end, hole) : hole ? ex.end : at;

        if (here < ex.end)
            found = (int64_t)here;
    }
    if (found < 0 && hole && offset < size)
        found = (int64_t)size;
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    return found;
}
