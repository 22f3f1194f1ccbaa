/*
 * Bounds of the local disk: clean data of closed files is dropped, least recently used first, when the cache grows
 * over its size or the disk's free space falls under the guard; what is unsent is never dropped. When nothing more
 * can be dropped, a write waits for an upload (space.c), or gets ENOSPC before the disk is full.
 */
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

/* May `n` more bytes come? 0 or -ENOSPC. `writer`: some is left for those who read. */
static int reserve(struct cache *cache, uint64_t n, bool writer)
{
    uint64_t size = cache->config.cache_size;
    bool full, look;

    if (writer)
        size -= size / 16 < FOR_READERS ? size / 16 : FOR_READERS;
    pthread_mutex_lock(&cache->mu);
    cache->space_check += n;
    look = cache->space_check >= CHECK_EVERY;
    if (look)
        cache->space_check = 0;
    full = cache->cached_bytes + n > size;
    pthread_mutex_unlock(&cache->mu);
    if (full) {
        evict_shrink_to(cache, size > n ? size - n : 0);
        pthread_mutex_lock(&cache->mu);
        full = cache->cached_bytes + n > size;
        pthread_mutex_unlock(&cache->mu);
        if (full)
            return -ENOSPC;
    }
    if (!look || !disk_is_low(cache, CHECK_EVERY))
        return 0;
    evict_shrink_to(cache, 0);
    if (!disk_is_low(cache, CHECK_EVERY))
        return 0;
    pthread_mutex_lock(&cache->mu);
    cache->space_check = CHECK_EVERY; /* the next write looks again */
    pthread_mutex_unlock(&cache->mu);
    return -ENOSPC;
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
    left = keep_left_bytes(cf) > 0;
    size = extent_map_local_bytes(cf->map) > extent_map_dirty_bytes(cf->map) || left ? extent_map_size(cf->map) : 0;
    /* Not what somebody needs whole, nor what could not be had again. */
    if (cf->fd < 0 || cf->upload_gen != 0 || cf->orphan || cf->wanted_whole > 0 || !list_empty(&cf->changes))
        size = 0;
    for (; at < size && extent_map_find(cf->map, at, &ex); at = ex.end) {
        if (spare && ex.start < cf->read_from && ex.end > cf->read_from)
            ex.end = cf->read_from;
        if (!ex.local || ex.base == EXTENT_NEW || (spare && ex.end > cf->read_from && ex.start < cf->read_next))
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

int evict_for_fetch(struct cfile *cf, uint64_t n, bool anyway)
{
    int r = reserve(cf->cache, n, false);

    for (int spare = 1; r == -ENOSPC && spare >= 0; spare--) {
        drop_clean(cf, spare);
        r = reserve(cf->cache, n, false);
    }
    return r && anyway && !disk_is_low(cf->cache, n) ? 0 : r;
}

int evict_reserve(struct cache *cache, uint64_t n)
{
    return reserve(cache, n, false);
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

int evict_for_write(struct cfile *cf, uint64_t n)
{
    int r = reserve(cf->cache, n, true);

    if (r == -ENOSPC) {
        drop_clean(cf, false);
        r = reserve(cf->cache, n, true);
    }
    if (r == -ENOSPC) {
        drop_all(cf->cache);
        r = reserve(cf->cache, n, true);
    }
    return r;
}
