/*
 * Bounds of the local disk: clean data of closed files is dropped, least recently used first, when the cache grows
 * over its size or the disk's free space falls under the guard; what is unsent is never dropped. When nothing more
 * can be dropped, a write waits for an upload (space.c), or gets ENOSPC before the disk is full.
 */
#include "hidden.h"
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define FOR_READERS (8u << 20)  /* what writers leave of the cache */
#define CHECK_EVERY (16u << 20) /* bytes written between two looks at the disk's free space */

void evict_account(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    struct stat st;
    uint64_t bytes;
    bool over, less;

    pthread_mutex_lock(&cache->mu);
    pthread_mutex_lock(&cf->mu);
    bytes = extent_map_local_bytes(cf->map) + keep_left_bytes(cf);
    /* A file that was made long without being written takes no room. */
    if (cf->fd >= 0 && !fstat(cf->fd, &st) && (uint64_t)st.st_blocks * 512 < bytes)
        bytes = (uint64_t)st.st_blocks * 512;
    cf->unaccounted = 0;
    pthread_mutex_unlock(&cf->mu);
    less = bytes < cf->cached_bytes && !list_empty(&cache->room_waiters);
    cache->cached_bytes += bytes - cf->cached_bytes;
    cf->cached_bytes = bytes;
    over = cache->cached_bytes > cache->config.cache_size && !list_empty(&cache->idle);
    pthread_mutex_unlock(&cache->mu);
    if (over)
        evict_shrink(cache);
    if (less)
        space_wake(cache);
}

static bool disk_is_low(const struct cache *cache, uint64_t n)
{
    struct statvfs fs;
    uint64_t guard, available;

    if (statvfs(cache->config.state_dir, &fs))
        return false;
    available = (uint64_t)fs.f_bavail * fs.f_frsize;
    guard = (uint64_t)fs.f_blocks * fs.f_frsize / 100 * cache->config.free_percent;
    return available < guard + n;
}

void evict_begin(struct cache *cache)
{
    evict_shrink(cache);
    if (disk_is_low(cache, 0))
        evict_shrink_to(cache, 0);
}

/*
 * Who asks for room: what is on its way, from the bucket or from a program, is counted but for those who hold up an
 * upload. A waiter is a writer that does not come yet.
 */
enum who { SOMEBODY, WRITER, WAITER, FETCH };

/* How much there may be; writers leave some for those who read. */
static uint64_t limit_for(const struct cache *cache, enum who who)
{
    uint64_t size = cache->config.cache_size;

    return who != WRITER && who != WAITER ? size : size - (size / 16 < FOR_READERS ? size / 16 : FOR_READERS);
}

/* May `n` more bytes come? They are counted then, until evict_fetched() or evict_written(). */
static bool fits(struct cache *cache, uint64_t n, enum who who)
{
    uint64_t taken;
    bool yes;

    pthread_mutex_lock(&cache->mu);
    taken = cache->cached_bytes + (who == SOMEBODY ? 0 : cache->fetching + cache->writing);
    yes = taken + n <= limit_for(cache, who);
    if (yes && who == FETCH)
        cache->fetching += n;
    if (yes && who == WRITER)
        cache->writing += n;
    pthread_mutex_unlock(&cache->mu);
    return yes;
}

/* Idle files go, so that `n` bytes may fit. */
static void make_room(struct cache *cache, uint64_t n, enum who who)
{
    uint64_t size = limit_for(cache, who);

    pthread_mutex_lock(&cache->mu);
    n += cache->fetching + cache->writing;
    pthread_mutex_unlock(&cache->mu);
    evict_shrink_to(cache, size > n ? size - n : 0);
}

/* 0 or -ENOSPC. */
static int reserve(struct cache *cache, uint64_t n, enum who who)
{
    bool look;

    if (!fits(cache, n, who)) {
        make_room(cache, n, who);
        if (!fits(cache, n, who))
            return -ENOSPC;
    }
    pthread_mutex_lock(&cache->mu);
    cache->space_check += n;
    look = cache->space_check >= CHECK_EVERY;
    if (look)
        cache->space_check = 0;
    pthread_mutex_unlock(&cache->mu);
    if (!look || !disk_is_low(cache, CHECK_EVERY))
        return 0;
    evict_shrink_to(cache, 0);
    if (!disk_is_low(cache, CHECK_EVERY))
        return 0;
    pthread_mutex_lock(&cache->mu);
    cache->space_check = CHECK_EVERY; /* the next write looks again */
    if (who == FETCH)
        cache->fetching -= n;
    if (who == WRITER)
        cache->writing -= n;
    pthread_mutex_unlock(&cache->mu);
    return -ENOSPC;
}

/* Is there anything that could be dropped? */
static bool has_clean(struct cfile *cf)
{
    bool yes;

    pthread_mutex_lock(&cf->mu);
    yes = extent_map_local_bytes(cf->map) > extent_map_dirty_bytes(cf->map) || keep_left_bytes(cf) > 0;
    pthread_mutex_unlock(&cf->mu);
    return yes;
}

/* mu held. */
static bool can_come_again(const struct cfile *cf, const struct extent *ex)
{
    const struct base *base = ex->base == EXTENT_NEW ? NULL : cfile_base(cf, ex->base);

    /*
     * The object of a file that is removed is gone, but for a copy that was made before; and what was kept aside has
     * nothing but its data file soon.
     */
    return base && !cf->rescued && (!cf->orphan || hidden_is(cf->cache, base->key));
}

/*
 * Drops what is clean of a file that is open: a reader of more than the cache holds. What lies ahead of it is spared,
 * if `spare`. io keeps readers and writers out, and a range that is on its way down is remote, so it is not touched.
 */
static void drop_clean(struct cfile *cf, bool spare)
{
    uint64_t at = 0, size;
    struct extent ex;
    bool left;

    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (keep_left_bytes(cf) > 0)
        cfile_need_fd(cf); /* nothing of it has been read yet */
    left = keep_left_bytes(cf) > 0 && !cf->orphan;
    size = extent_map_local_bytes(cf->map) > extent_map_dirty_bytes(cf->map) || left ? extent_map_size(cf->map) : 0;
    /* Not what somebody needs whole, nor what could not be had again. */
    if (cf->fd < 0 || cf->upload_gen != 0 || cf->wanted_whole > 0 || !list_empty(&cf->changes))
        size = 0;
    for (; at < size && extent_map_find(cf->map, at, &ex); at = ex.end) {
        if (ex.start < at)
            ex.start = at; /* the other half of one that lies around read_from */
        if (spare && ex.start < cf->read_from && ex.end > cf->read_from)
            ex.end = cf->read_from;
        if (!ex.local || !can_come_again(cf, &ex) || (spare && ex.end > cf->read_from && ex.start < cf->read_next))
            continue;
        keep_changed(cf);
        keep_cut(cf, ex.start, ex.end);
        if (extent_map_drop(cf->map, ex.start, ex.end))
            break;
        fallocate(cf->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)ex.start, (off_t)(ex.end - ex.start));
    }
    if (size > 0 && left)
        keep_punch(cf, spare ? cf->read_from : 0, spare ? cf->read_next : 0);
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    evict_account(cf);
}

/* The clean data of all open files, until a fetch fits. 0 or -ENOSPC. */
static int drop_for_fetch(struct cache *cache, uint64_t n)
{
    struct cfile **files;
    ssize_t count = cfile_collect_used(cache, &files);
    int r = -ENOSPC;

    for (ssize_t i = 0; i < count; i++) {
        if (r && has_clean(files[i])) {
            drop_clean(files[i], true);
            r = reserve(cache, n, FETCH);
        }
        cfile_release(files[i]);
    }
    free(count < 0 ? NULL : files);
    return r;
}

int evict_for_fetch(struct cfile *cf, uint64_t n)
{
    int r = reserve(cf->cache, n, FETCH);

    if (r == -ENOSPC) {
        drop_clean(cf, true);
        r = reserve(cf->cache, n, FETCH);
    }
    return r == -ENOSPC ? drop_for_fetch(cf->cache, n) : r;
}

int evict_for_fetch_anyway(struct cfile *cf, uint64_t n, bool *beyond)
{
    struct cache *cache = cf->cache;
    int r = evict_for_fetch(cf, n);

    if (r == -ENOSPC) {
        drop_clean(cf, false);
        r = reserve(cache, n, FETCH);
    }
    *beyond = r == -ENOSPC;
    if (!*beyond || disk_is_low(cache, n))
        return r;
    pthread_mutex_lock(&cache->mu);
    cache->fetching += n;
    pthread_mutex_unlock(&cache->mu);
    return 0;
}

void evict_fetched(struct cfile *cf, uint64_t n, bool beyond)
{
    struct cache *cache = cf->cache;
    bool waited, over;

    pthread_mutex_lock(&cache->mu);
    over = cache->cached_bytes > cache->config.cache_size;
    pthread_mutex_unlock(&cache->mu);
    if (beyond && over && has_clean(cf))
        drop_clean(cf, false);
    pthread_mutex_lock(&cache->mu);
    cache->fetching -= n;
    waited = !list_empty(&cache->room_waiters);
    pthread_mutex_unlock(&cache->mu);
    if (waited)
        space_wake(cache);
}

int evict_reserve(struct cache *cache, uint64_t n)
{
    return reserve(cache, n, SOMEBODY);
}

int evict_for_rescue(struct cache *cache, uint64_t n)
{
    int r = reserve(cache, n, SOMEBODY);

    return r == -ENOSPC && !disk_is_low(cache, n) ? 0 : r;
}

/* The clean data of all open files. */
static void drop_all(struct cache *cache)
{
    struct cfile **files;
    ssize_t n = cfile_collect_used(cache, &files);

    for (ssize_t i = 0; i < n; i++) {
        drop_clean(files[i], true);
        cfile_release(files[i]);
    }
    free(n < 0 ? NULL : files);
}

static int for_write(struct cfile *cf, uint64_t n, enum who who)
{
    int r = reserve(cf->cache, n, who);

    if (r == -ENOSPC) {
        drop_clean(cf, false);
        r = reserve(cf->cache, n, who);
    }
    if (r == -ENOSPC) {
        drop_all(cf->cache);
        r = reserve(cf->cache, n, who);
    }
    return r;
}

int evict_for_write(struct cfile *cf, uint64_t n)
{
    return for_write(cf, n, WRITER);
}

int evict_could_write(struct cfile *cf, uint64_t n)
{
    return for_write(cf, n, WAITER);
}

void evict_written(struct cfile *cf, uint64_t n, bool accounted)
{
    struct cache *cache = cf->cache;
    bool last;

    pthread_mutex_lock(&cache->mu);
    cache->writing -= n;
    cache->written++;
    if (!accounted) {
        cache->cached_bytes += n;
        cf->cached_bytes += n;
    }
    /* Else whatever else is under way wakes them. */
    last = cache->writing == 0 && cache->fetching == 0 && !list_empty(&cache->room_waiters);
    pthread_mutex_unlock(&cache->mu);
    if (last && atomic_load(&cache->freeing) == 0)
        space_wake(cache);
}
