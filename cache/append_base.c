/*
 * What an appended file is based on, when that moves: other writers' bytes come to stand between the object as it was
 * known and what was appended here. And a file that is only read grows with its object.
 */
#include "append.h"
#include "keep.h"
#include "spool.h"
#include "stream.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_CHUNK (256u << 10)

static uint64_t size_of(const struct oinfo *info)
{
    return info && S_ISREG(info->attr.mode) ? info->attr.size : 0;
}

bool append_start(const struct cfile *cf, uint64_t *from)
{
    uint64_t size = extent_map_size(cf->map), base = size_of(cf->object), at;
    struct extent ex;

    for (at = 0; at < base; at = ex.end) {
        const struct base *b = extent_map_find(cf->map, at, &ex) ? cfile_base(cf, ex.base) : NULL;

        if (!b || !cfile_is_object(cf, b) || ex.base_offset != ex.start)
            return false;
    }
    if (at != base)
        return false;
    for (; at < size; at = ex.end)
        if (!extent_map_find(cf->map, at, &ex) || ex.base != EXTENT_NEW)
            return false;
    *from = base;
    return true;
}

/* -------------------------------------------------------------------------------------------- the bytes */

int append_copy_bytes(int from_fd, uint64_t from, int to_fd, uint64_t to, uint64_t n)
{
    char *chunk = malloc(COPY_CHUNK);
    int r = chunk ? 0 : -ENOMEM;

    for (uint64_t at = 0; !r && at < n;) {
        size_t want = n - at < COPY_CHUNK ? (size_t)(n - at) : COPY_CHUNK;
        ssize_t got = pread(from_fd, chunk, want, (off_t)(from + at));

        if (got < 0)
            r = errno == EINTR ? 0 : -errno;
        else if (got == 0)
            r = -EIO;
        else
            r = pwrite_all(to_fd, chunk, (size_t)got, to + at);
        at += got > 0 ? (uint64_t)got : 0;
    }
    free(chunk);
    return r;
}

static int journal_at(struct cfile *cf, const struct oinfo *info, uint64_t at, uint64_t n)
{
    int r;

    pthread_mutex_lock(&cf->mu);
    r = journal_moved(cf, info, at, n);
    pthread_mutex_unlock(&cf->mu);
    return r;
}

/*
 * At every moment the journal names a place where all the bytes are: so they never move over themselves, but, if they
 * are more than the distance, by way of a place behind both.
 */
int append_move_bytes(struct cfile *cf, struct oinfo *info, uint64_t from)
{
    uint64_t to = size_of(info), size, n, at = to;
    int fd, r;

    pthread_mutex_lock(&cf->mu);
    size = extent_map_size(cf->map);
    n = size - from;
    r = n ? cfile_need_fd(cf) : 0;
    fd = cf->fd;
    pthread_mutex_unlock(&cf->mu);
    if (r || !n)
        return r;
    if (to != from && (to > from ? to - from : from - to) < n)
        at = size > to + n ? size : to + n;
    /* What is behind the bytes is a hole: room for both copies, before anything is said of them. */
    if (at != from)
        r = fallocate(fd, 0, (off_t)to, (off_t)(at + n - to)) && errno != EOPNOTSUPP ? -errno : 0;
    if (!r && at != from)
        r = append_copy_bytes(fd, from, fd, at, n);
    if (!r)
        r = journal_at(cf, info, at, n);
    if (!r && at != to)
        r = append_copy_bytes(fd, at, fd, to, n);
    if (!r && at != to)
        r = journal_at(cf, info, to, n);
    if (!r && ftruncate(fd, (off_t)(to + n)))
        r = -errno;
    if (r)
        log_err("%s: what was appended cannot be moved from %llu to %llu: %s", cf->path, (unsigned long long)from,
                (unsigned long long)to, strerror(-r));
    return r;
}

/* --------------------------------------------------------------------------------------------- the map */

/* What is local of the object's first `end` bytes is a copy of `base` in the new map too. mu held. */
static int keep_local(const struct cfile *cf, struct extent_map *map, uint64_t end)
{
    struct extent ex;
    int r = 0;

    for (uint64_t at = 0; !r && at < end && extent_map_find(cf->map, at, &ex); at = ex.end) {
        const struct base *b = cfile_base(cf, ex.base);

        if (ex.local && b && cfile_is_object(cf, b) && ex.base_offset == ex.start)
            r = extent_map_fetched(map, ex.start, ex.end < end ? ex.end : end);
    }
    return r;
}

int append_move_map(struct cfile *cf, struct oinfo *info, uint64_t from, bool keep)
{
    uint64_t to = size_of(info), n = extent_map_size(cf->map) - from, old = size_of(cf->object);
    struct extent_map *map = extent_map_new();
    int id = -1, r = map ? 0 : -ENOMEM;

    if (!r && info) {
        id = cfile_add_base(cf, cf->key, info);
        r = id < 0 ? id : extent_map_set_base(map, id, to);
    }
    if (!r && keep)
        r = keep_local(cf, map, old < to ? old : to);
    if (!r && n)
        r = extent_map_write(map, to, to + n, cf->epoch);
    if (r) {
        extent_map_free(map);
        return r;
    }
    keep_changed(cf);
    keep_cut(cf, !keep ? 0 : old < to ? old : to, UINT64_MAX);
    extent_map_free(cf->map);
    cf->map = map;
    cf->attr.size = to + n;
    cfile_prune_bases(cf);
    oinfo_get(info);
    oinfo_put(cf->object);
    cf->object = info;
    cf->absent = false;
    stream_drop(cf); /* it sends what is at other places now */
    cf->frontier = 0;
    cf->read_from = cf->read_next = cf->read_window = 0;
    if (!keep && to > 0 && cf->fd >= 0)
        fallocate(cf->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)to);
    return 0;
}

int append_rebase(struct cfile *cf, struct oinfo *info, uint64_t from, bool keep, bool attributes)
{
    int r = append_move_bytes(cf, info, from);

    if (r)
        return r;
    pthread_mutex_lock(&cf->mu);
    if (attributes && info)
        r = cfile_take_info(cf, info);
    if (!r)
        r = append_move_map(cf, info, from, keep);
    cfile_check(cf);
    pthread_mutex_unlock(&cf->mu);
    evict_account(cf);
    return r;
}

/* ---------------------------------------------------------------------------------------------- looking */

struct look {
    uint64_t n, crc64;
};

static int look_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct look *look = arg;

    (void)offset;
    look->crc64 = crc64(look->crc64, data, n);
    look->n += n;
    return 0;
}

int append_look(struct cache *cache, const char *key, const char *etag, uint64_t offset, uint64_t length, uint64_t *n,
                uint64_t *crc64, struct oss_object *object, struct oss_error *err)
{
    struct look look = {0};
    const struct oss_sink sink = {.write = look_write, .arg = &look};
    int r = cache->oss->ops->get(cache->oss, key, offset, length, etag, &sink, object, err);

    *n = look.n;
    *crc64 = look.crc64;
    return r;
}

/* -------------------------------------------------------------------------------------------- following */

struct follow {
    struct job job;
    struct cfile *cf;
    struct oinfo *base, *info; /* what it grows from, and to */
    cache_done *done;
    void *arg;
};

/* It is open, nothing is unsent or on its way, and the object is one that grows. mu held. */
static bool may_grow(const struct cfile *cf)
{
    return cf->opens > 0 && cf->state == CFILE_CLEAN && !cf->orphan && list_empty(&cf->changes) && cf->object &&
           cf->object->type == OSS_TYPE_APPENDABLE && S_ISREG(cf->attr.mode);
}

bool cfile_may_grow(struct cfile *cf)
{
    bool may;

    pthread_mutex_lock(&cf->mu);
    may = may_grow(cf);
    pthread_mutex_unlock(&cf->mu);
    return may;
}

/* The bytes in the spool come to stand behind what is there. io held for writing. */
static int take_growth(struct follow *f, struct spool *spool)
{
    struct cfile *cf = f->cf;
    uint64_t from = size_of(f->base), to = size_of(f->info);
    bool still;
    int r;

    pthread_mutex_lock(&cf->mu);
    still = may_grow(cf) && cf->object == f->base;
    r = still ? cfile_need_fd(cf) : -ESTALE;
    pthread_mutex_unlock(&cf->mu);
    if (!r)
        r = append_copy_bytes(spool->fd, 0, cf->fd, from, spool->n);
    if (r)
        return r;
    pthread_mutex_lock(&cf->mu);
    /* Attributes may have been changed while mu was free, and then go by themselves. */
    r = may_grow(cf) && cf->object == f->base ? cfile_take_info(cf, f->info) : -ESTALE;
    if (!r)
        r = append_move_map(cf, f->info, from, true);
    if (!r)
        r = extent_map_fetched(cf->map, from, to);
    if (!r)
        cfile_publish(cf);
    cfile_check(cf);
    pthread_mutex_unlock(&cf->mu);
    return r;
}

/* The whole object's CRC must be that of what is known and what came; else it is another object. */
static bool is_growth(const struct follow *f, struct spool *spool)
{
    if (spool->n != size_of(f->info) - size_of(f->base))
        return false;
    if (!f->base->has_crc || !f->info->has_crc)
        return true; /* an appendable object only grows, while it is not removed and made anew */
    return crc64_combine(f->base->crc64, spool->crc64, spool->n) == f->info->crc64;
}

static void follow_run(struct job *job)
{
    struct follow *f = list_entry(job, struct follow, job);
    struct cfile *cf = f->cf;
    struct cache *cache = cf->cache;
    uint64_t from = size_of(f->base);
    struct spool spool = SPOOL_INIT;
    struct oss_error err;
    char key[OSS_KEY_MAX + 2];
    int r;

    pthread_mutex_lock(&cf->mu);
    strcpy(key, cf->key);
    pthread_mutex_unlock(&cf->mu);
    r = spool_get(&spool, cache, key, f->info->etag, from, size_of(f->info) - from, &err);
    if (!r && is_growth(f, &spool)) {
        pthread_rwlock_wrlock(&cf->io);
        take_growth(f, &spool);
        pthread_rwlock_unlock(&cf->io);
        evict_account(cf);
    }
    spool_free(&spool);
    f->done(f->arg, 0);
    oinfo_put(f->base);
    oinfo_put(f->info);
    free(f);
    cfile_release(cf);
    cache_busy(cache, -1);
}

bool cfile_follow(struct cfile *cf, struct oinfo *info, cache_done *done, void *arg)
{
    struct follow *f = calloc(1, sizeof(*f));
    uint64_t growth;
    bool grows;

    if (!f)
        return false;
    pthread_mutex_lock(&cf->mu);
    growth = may_grow(cf) && size_of(info) > size_of(cf->object) ? size_of(info) - size_of(cf->object) : 0;
    grows = growth && info->type == OSS_TYPE_APPENDABLE && strcmp(info->etag, cf->object->etag) &&
            growth <= cf->cache->config.cache_size / 4;
    if (grows)
        f->base = oinfo_get(cf->object);
    pthread_mutex_unlock(&cf->mu);
    if (!grows) {
        free(f);
        return false;
    }
    f->cf = cfile_hold(cf);
    f->info = oinfo_get(info);
    f->done = done;
    f->arg = arg;
    f->job.run = follow_run;
    cache_busy(cf->cache, 1);
    pool_submit(cf->cache->pool, growth > COPY_CHUNK ? POOL_BULK : POOL_META, &f->job);
    return true;
}

bool cache_follow(struct cache *cache, const char *key, struct oinfo *info, cache_done *done, void *arg)
{
    struct cfile *cf = cfile_find(cache, key);
    bool follows = cf && cfile_follow(cf, info, done, arg);

    if (cf)
        cfile_release(cf);
    return follows;
}
