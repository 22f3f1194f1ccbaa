/*
 * Waiting for room. A write for which there is none waits, holding no thread, while a change of an object is under
 * way that may free some when it ends: what it sends is clean then, and clean data can be dropped; or while something
 * is on its way from the bucket, which is clean too when its readers have seen it; or while other writes that were
 * let in are not done, which may not take all that they were given, or make something that can leave. When nothing of
 * the kind is under way the write gets ENOSPC. A fetch waits in the same manner. Whoever frees room, or ends without,
 * calls space_wake(): the waiters look again, on a worker.
 */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>

struct room_waiter {
    struct list link; /* in cache->room_waiters, guarded by cache->mu */
    struct job job;
    struct cfile *cf; /* a reference */
    uint64_t n;
    bool reads; /* a fetch, of bytes that an upload of the same file may need */
    bool tried; /* what was refused before has been tried once more for it */
    cache_done *done;
    void *arg;
};

static void look_again(struct job *job);

void space_begin(struct cache *cache)
{
    atomic_fetch_add(&cache->freeing, 1);
}

void space_wake(struct cache *cache)
{
    struct list waiters;

    list_init(&waiters);
    pthread_mutex_lock(&cache->mu);
    list_splice_tail(&waiters, &cache->room_waiters);
    pthread_mutex_unlock(&cache->mu);
    list_for_each_safe (it, &waiters) {
        struct room_waiter *w = list_entry(it, struct room_waiter, link);

        list_del(it);
        w->job.run = look_again;
        pool_submit(cache->pool, POOL_META, &w->job);
    }
}

void space_end(struct cache *cache)
{
    pthread_mutex_lock(&cache->mu);
    atomic_fetch_sub(&cache->freeing, 1);
    pthread_mutex_unlock(&cache->mu);
    space_wake(cache);
}

void space_pause(struct cache *cache, int by)
{
    atomic_fetch_add(&cache->paused, (unsigned)by);
}

static void answer(struct room_waiter *w, int r)
{
    struct cache *cache = w->cf->cache;

    w->done(w->arg, r);
    cfile_release(w->cf);
    free(w);
    cache_busy(cache, -1);
}

/*
 * Will anything free some? For a fetch of a file that is wanted whole, by a change as a rule, nothing that may wait
 * for that change.
 */
static bool is_freeing(const struct room_waiter *w)
{
    struct cache *cache = w->cf->cache;
    unsigned paused = 0;

    if (w->reads) {
        pthread_mutex_lock(&w->cf->mu);
        paused = w->cf->wanted_whole > 0 ? atomic_load(&cache->paused) : 0;
        pthread_mutex_unlock(&w->cf->mu);
    }
    return atomic_load(&cache->freeing) > paused;
}

/* Nothing will free any by itself: what could leave of the file, then of any other, is made to. */
static void squeeze(const struct room_waiter *w)
{
    struct cfile **files;
    ssize_t n;

    segment_squeeze(w->cf);
    if (is_freeing(w))
        return;
    n = cfile_collect_used(w->cf->cache, &files);
    for (ssize_t i = 0; i < n; i++) {
        segment_squeeze(files[i]);
        cfile_release(files[i]);
    }
    free(n < 0 ? NULL : files);
}

static int look(struct room_waiter *w)
{
    return w->reads ? evict_for_fetch(w->cf, w->n) : evict_could_write(w->cf, w->n);
}

/* One look. 0: there is room; -EINPROGRESS: it waits; -EAGAIN: something has ended meanwhile; -ENOSPC. */
static int look_once(struct room_waiter *w)
{
    struct cache *cache = w->cf->cache;
    bool waits, needed, again, busy = is_freeing(w);
    uint64_t written;

    pthread_mutex_lock(&cache->mu);
    written = cache->written;
    pthread_mutex_unlock(&cache->mu);
    if (!look(w))
        return 0;
    if (!is_freeing(w))
        squeeze(w);
    if (!w->tried && !is_freeing(w)) {
        w->tried = true;
        segment_retry(w->cf);
    }
    pthread_mutex_lock(&w->cf->mu);
    needed = w->reads && w->cf->upload_gen != 0; /* they would wait for each other */
    pthread_mutex_unlock(&w->cf->mu);
    pthread_mutex_lock(&cache->mu);
    waits = !needed && (is_freeing(w) || cache->fetching > 0 || cache->writing > 0);
    again = !needed && !waits && (busy || cache->written != written);
    if (waits)
        list_add_tail(&cache->room_waiters, &w->link);
    pthread_mutex_unlock(&cache->mu);
    /* What ended just before it was in the list has woken nobody. */
    return waits ? -EINPROGRESS : again ? -EAGAIN : look(w);
}

static int room_or_wait(struct room_waiter *w)
{
    int r;

    do
        r = look_once(w);
    while (r == -EAGAIN);
    return r;
}

static void look_again(struct job *job)
{
    struct room_waiter *w = list_entry(job, struct room_waiter, job);
    int r = room_or_wait(w);

    if (r != -EINPROGRESS)
        answer(w, r);
}

static bool await(struct cfile *cf, uint64_t n, bool reads, cache_done *done, void *arg)
{
    struct room_waiter *w = calloc(1, sizeof(*w));
    int r;

    if (!w)
        return false;
    *w = (struct room_waiter){.cf = cfile_hold(cf), .n = n, .reads = reads, .done = done, .arg = arg};
    cache_busy(cf->cache, 1);
    r = room_or_wait(w);
    if (r == -ENOSPC) {
        cfile_release(cf);
        free(w);
        cache_busy(cf->cache, -1);
        return false;
    }
    if (!r)
        answer(w, 0);
    return true;
}

bool cfile_await_room(struct cfile *cf, uint64_t n, cache_done *done, void *arg)
{
    return await(cf, n, false, done, arg);
}

bool space_await_fetch(struct cfile *cf, uint64_t n, cache_done *done, void *arg)
{
    return await(cf, n, true, done, arg);
}
