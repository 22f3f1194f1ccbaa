/*
 * Bringing remote ranges into the data file.
 *
 * Nobody fetches a range twice at the same time: a second reader waits for the first one's download. A sequential
 * reader is kept ahead of (ahead.h): its window is cut into pieces, of which parallel_count are fetched at a time. A
 * small file is fetched whole with its first read, so that its CRC can be compared. Every request is tied to the
 * ETag of the base; a piece becomes readable as it arrives, a whole object only when its CRC was right.
 *
 * A 412 means that the object was replaced. By ourselves (replace.c): then the file knows in a moment what it stands
 * in now, and the readers look again. By another host: while nobody has read bytes of the old one and nothing was
 * changed here, the file moves on to the new object; otherwise the read fails with ESTALE and one log line.
 */
#include "ahead.h"
#include "hidden.h"
#include "keep.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_MAX (256u << 10) /* a request up to this is latency, not bulk */
#define STEP      (128u << 10) /* curl delivers 16 KiB at a time: a write and a wake-up for so many of them */
#define GAP_MAX   (128u << 10) /* local bytes that a request may bring again */

struct fetch_waiter {
    struct list link;
    uint64_t start, end; /* what it waits for; served when the piece has passed `end` */
    cache_done *done;
    void *arg;
};

struct fetch {
    struct list link; /* in cf->fetches, guarded by cf->mu like all below */
    struct job job;
    struct cfile *cf;
    int base;
    uint64_t start, end; /* range of the file */
    uint64_t base_offset;
    char *key; /* of the object that was asked for, and its ETag; NULL: no request was sent */
    char etag[OSS_ETAG_SIZE];
    int r; /* the answer, and its cause */
    struct oss_error err;
    uint64_t pos;         /* readable up to here */
    int no_room;          /* -ENOSPC, when there is nothing left to wait for */
    uint64_t counted;     /* in cache->fetching */
    bool beyond;          /* ... although there is no room: it goes when its readers have seen it */
    bool kept;            /* probably on the disk already, keep.h */
    bool at_once;         /* ... and short: by whoever asks for it */
    bool whole;           /* the whole object: readable only at the end */
    bool bulk;            /* from the network, and not small: counted in cf->fetching while it runs */
    bool queued;          /* ... it waits for its turn */
    int64_t began, first; /* ahead_clock() of the request, and of its first byte; 0: none came */
    bool skipped;         /* a part of it belongs to another base by now, and was not written */
    char *held;           /* bytes from `pos` on that came and are not written yet, n_held of them; or NULL */
    size_t n_held;
    struct list waiters;
};

/* mu held: the running fetch that covers `offset`, or NULL; *limit is where the next one begins. */
static struct fetch *covering(struct cfile *cf, uint64_t offset, uint64_t *limit)
{
    list_for_each (it, &cf->fetches) {
        struct fetch *f = list_entry(it, struct fetch, link);

        if (f->start <= offset && offset < f->end)
            return f;
        if (f->start > offset && f->start < *limit)
            *limit = f->start;
    }
    return NULL;
}

/* Takes out the waiters whose range is readable now; mu held. */
static void take_served(struct fetch *f, struct list *served)
{
    list_for_each_safe (it, &f->waiters) {
        struct fetch_waiter *w = list_entry(it, struct fetch_waiter, link);

        if (w->end <= f->pos || (f->pos == f->end && !f->whole)) {
            list_del(&w->link);
            list_add_tail(served, &w->link);
        }
    }
}

static void wake(struct list *waiters, int r)
{
    list_for_each_safe (it, waiters) {
        struct fetch_waiter *w = list_entry(it, struct fetch_waiter, link);

        w->done(w->arg, r);
        free(w);
    }
}

/* Does it stand where the bytes come from? The file may have been given another range of the same object. */
static bool is_of(const struct fetch *f, const struct extent *ex)
{
    return ex->base == f->base && ex->base_offset - ex->start == f->base_offset - f->start;
}

/*
 * Writes those bytes that are still remote of the same base. Writers, truncation and cache_copy() are kept out, so
 * what is remote stays so while mu is free for the write itself; fetches are of different bytes.
 */
static int fill(struct fetch *f, uint64_t start, const char *data, size_t n)
{
    struct cfile *cf = f->cf;
    uint64_t at = start, end = start + n;
    struct extent ex;
    int fd, r;

    cfile_io_begin(cf, CFILE_FILLS);
    pthread_mutex_lock(&cf->mu);
    r = cfile_need_fd(cf);
    fd = cf->fd;
    while (!r && extent_map_next_remote(cf->map, at, end, &ex)) {
        at = ex.end;
        if (!is_of(f, &ex)) {
            f->skipped = true;
            continue;
        }
        pthread_mutex_unlock(&cf->mu);
        r = pwrite_all(fd, data + (ex.start - start), ex.end - ex.start, ex.start);
        pthread_mutex_lock(&cf->mu);
        if (!r && !f->whole)
            r = extent_map_fetched(cf->map, ex.start, ex.end);
    }
    pthread_mutex_unlock(&cf->mu);
    cfile_io_end(cf, CFILE_FILLS);
    return r;
}

/* n bytes from f->pos on are here: they are written, and who waits for them is woken. */
static int advance(struct fetch *f, const char *data, size_t n)
{
    struct list served;
    int r = fill(f, f->pos, data, n);

    if (r)
        return r;
    list_init(&served);
    pthread_mutex_lock(&f->cf->mu);
    f->pos += n;
    if (!f->whole)
        take_served(f, &served);
    pthread_mutex_unlock(&f->cf->mu);
    wake(&served, 0);
    return 0;
}

static int sink_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct fetch *f = arg;
    uint64_t start = f->start + (offset - f->base_offset);
    int r = 0;

    if (!f->first)
        f->first = ahead_clock();
    if (offset < f->base_offset || start != f->pos + f->n_held || start + n > f->end)
        return -EIO;
    if (!f->held && f->end - start > n)
        f->held = malloc(STEP);
    if (!f->held || f->n_held + n > STEP) {
        r = f->n_held ? advance(f, f->held, f->n_held) : 0;
        f->n_held = 0;
        if (!r && (!f->held || n > STEP))
            return advance(f, data, n);
    }
    if (r)
        return r;
    memcpy(f->held + f->n_held, data, n);
    f->n_held += n;
    if (start + n < f->end && f->n_held < STEP)
        return 0;
    n = f->n_held;
    f->n_held = 0;
    return advance(f, f->held, n);
}

/* The object was replaced: may the file move on to the new one? Asks for it; true when it did. */
static bool move_on(struct cfile *cf, const char *key)
{
    struct cache *cache = cf->cache;
    struct oss_object object = {0};
    struct oss_error err;
    struct oinfo *info = NULL;
    bool moved = false;

    if (!cache->oss->ops->head(cache->oss, key, &object, &err))
        info = oinfo_from_object(&object, &cache->config.defaults, false);
    oss_object_free(&object);
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (info && !cf->orphan && !cf->served && S_ISREG(info->attr.mode) && cf->data_gen <= cf->data_sent_gen &&
        list_empty(&cf->changes) && !strcmp(cf->key, key))
        moved = cfile_rebase(cf, info) == 0;
    if (moved)
        cfile_publish(cf);
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    oinfo_put(info);
    return moved;
}

/*
 * Is the piece, or some of it, still to be had from the object that was asked for? Not when that was renamed, or
 * replaced by ourselves; nor when all of it was written over, cut off, or brought here meanwhile.
 */
static bool still_wanted(struct fetch *f)
{
    struct cfile *cf = f->cf;
    const struct base *base;
    struct extent ex;
    bool same, wanted = false;

    pthread_mutex_lock(&cf->mu);
    base = cfile_base(cf, f->base);
    same = base && !strcmp(base->key, f->key) && !strcmp(base->info->etag, f->etag);
    for (uint64_t at = f->start; same && !wanted && extent_map_next_remote(cf->map, at, f->end, &ex); at = ex.end)
        wanted = is_of(f, &ex);
    pthread_mutex_unlock(&cf->mu);
    return wanted;
}

static void log_failed(struct fetch *f)
{
    bool ahead;

    pthread_mutex_lock(&f->cf->mu);
    ahead = f->cf->orphan && list_empty(&f->waiters);
    pthread_mutex_unlock(&f->cf->mu);
    if (ahead)
        log_info("%s: removed while it was read ahead", f->key);
    else
        cache_log_error("reading", f->key, &f->err);
}

#define WHOLE_TRIES 3 /* of a body whose checksum is wrong: nothing of it was believed, so it may come again */

static int run(struct fetch *f)
{
    struct cache *cache = f->cf->cache;
    struct oss_sink sink = {.write = sink_write, .arg = f};
    const struct base *base;
    int r;

    if (f->no_room || f->end == f->start)
        return f->no_room;
    pthread_mutex_lock(&f->cf->mu);
    base = cfile_base(f->cf, f->base);
    f->key = base ? strdup(base->key) : NULL;
    memcpy(f->etag, base ? base->info->etag : "", base ? sizeof(f->etag) : 1);
    pthread_mutex_unlock(&f->cf->mu);
    if (!base)
        return 0; /* written over or replaced meanwhile: the readers look again */
    if (!f->key)
        return -ENOMEM;
    r = -EIO;
    for (int i = 0; r == -EIO && i < (f->whole ? WHOLE_TRIES : 1); i++) {
        f->pos = f->start;
        f->n_held = 0;
        f->first = 0;
        f->began = ahead_clock();
        r = cache->oss->ops->get(cache->oss, f->key, f->whole ? 0 : f->base_offset,
                                 f->whole ? OSS_WHOLE : f->end - f->start, *f->etag ? f->etag : NULL, &sink, NULL,
                                 &f->err);
        if (!r && f->pos != f->end) {
            snprintf(f->err.message, sizeof(f->err.message), "the object is shorter than it was said to be");
            r = -EIO;
        }
    }
    if (!r && f->first)
        ahead_learn(cache, f->began, f->first, f->end - f->start);
    return r;
}

/* The CRC was right: what is still remote of this base is here now. mu held. */
static int believe_whole(struct fetch *f)
{
    struct extent ex;
    int r = 0;

    for (uint64_t at = f->start; !r && !f->skipped && extent_map_next_remote(f->cf->map, at, f->end, &ex);
         at = ex.end)
        if (is_of(f, &ex))
            r = extent_map_fetched(f->cf->map, ex.start, ex.end);
    return r;
}

/* mu held: this one's turn has come. */
static void begin_turn(struct fetch *f)
{
    f->queued = false;
    f->cf->fetching++;
    pool_submit(f->cf->cache->pool, POOL_BULK, &f->job);
}

/* mu held: one has ended; the next in line begins. */
static void next_turn(struct cfile *cf)
{
    cf->fetching--;
    list_for_each (it, &cf->fetches) {
        struct fetch *f = list_entry(it, struct fetch, link);

        if (cf->fetching >= cf->cache->config.parallel_count)
            return;
        if (f->queued)
            begin_turn(f);
    }
}

static void fetch_end(struct fetch *f)
{
    struct cfile *cf = f->cf;
    struct cache *cache = cf->cache;
    const char *key = f->key;
    struct list served;
    int r = f->r;

    if (key && (r == -ESTALE || r == -ENOENT) && !still_wanted(f))
        r = 0; /* the readers look again */
    if (key && r)
        log_failed(f);
    list_init(&served);
    pthread_mutex_lock(&cf->mu);
    if (!f->r && f->whole)
        r = believe_whole(f);
    list_del(&f->link);
    if (f->bulk)
        next_turn(cf);
    pthread_mutex_unlock(&cf->mu);
    if (r == -ESTALE && key && move_on(cf, key))
        r = 0; /* the readers look again, at the new object */
    if ((r == -ENOENT || r == -ESTALE) && key && hidden_is(cache, key))
        r = hidden_lost(cf, key);
    if (r == -ENOENT)
        r = -ESTALE; /* deleted by another host: the handle is, not the name */
    pthread_mutex_lock(&cf->mu);
    list_splice_tail(&served, &f->waiters);
    pthread_mutex_unlock(&cf->mu);
    evict_account(cf);
    wake(&served, r);
    if (f->counted)
        evict_fetched(cf, f->counted, f->beyond);
    free(f->key);
    free(f->held);
    free(f);
    cfile_release(cf);
    cache_busy(cache, -1);
}

static void end_run(struct job *job)
{
    fetch_end(list_entry(job, struct fetch, job));
}

static void fetch_replaced(void *arg, int r)
{
    struct fetch *f = arg;

    (void)r;
    f->job.run = end_run;
    pool_submit(f->cf->cache->pool, POOL_META, &f->job);
}

static void fetch_now(struct fetch *f)
{
    f->r = f->kept && keep_believe(f->cf, f->start, f->end) ? 0 : run(f);
    if (f->key && (f->r == -ESTALE || f->r == -ENOENT) && replace_await(f->cf, f->key, fetch_replaced, f))
        return;
    fetch_end(f);
}

static void fetch_room(void *arg, int r)
{
    struct fetch *f = arg;

    f->no_room = r;
    if (!r)
        f->counted = f->end - f->start;
    pool_submit(f->cf->cache->pool, POOL_BULK, &f->job);
}

/* There is no room: what nobody waits for is not fetched. */
static void only_what_is_asked(struct fetch *f)
{
    uint64_t end = f->start;

    pthread_mutex_lock(&f->cf->mu);
    list_for_each (it, &f->waiters) {
        struct fetch_waiter *w = list_entry(it, struct fetch_waiter, link);

        end = w->end > end ? w->end : end;
    }
    if (!f->whole)
        f->end = end;
    pthread_mutex_unlock(&f->cf->mu);
}

static void fetch_run(struct job *job)
{
    struct fetch *f = list_entry(job, struct fetch, job);
    uint64_t n = f->end - f->start;
    bool last;

    if (f->kept || f->counted) {
        fetch_now(f); /* what is kept takes no more room than it does */
        return;
    }
    /* An upload that needs some bytes around a short change would wait for itself. */
    pthread_mutex_lock(&f->cf->mu);
    last = f->no_room || f->cf->upload_gen != 0;
    pthread_mutex_unlock(&f->cf->mu);
    f->no_room = last ? 0 : evict_for_fetch(f->cf, n);
    if (f->no_room == -ENOSPC && space_await_fetch(f->cf, n, fetch_room, f))
        return;
    if (last || f->no_room)
        f->no_room = evict_for_fetch_anyway(f->cf, n, &f->beyond);
    if (!f->no_room)
        f->counted = n;
    if (f->beyond)
        only_what_is_asked(f);
    fetch_now(f);
}

/* mu held: a new fetch from the start of `ex` to `end`, of one base. NULL when out of memory. */
static struct fetch *fetch_new(struct cfile *cf, const struct extent *ex, uint64_t end)
{
    struct fetch *f = calloc(1, sizeof(*f));
    const struct base *base = cfile_base(cf, ex->base);

    if (!f)
        return NULL;
    f->job.run = fetch_run;
    f->cf = cf;
    f->base = ex->base;
    f->start = f->pos = ex->start;
    f->end = end;
    f->base_offset = ex->base_offset;
    f->whole = f->start == 0 && f->base_offset == 0 && base && end == base->info->attr.size;
    list_init(&f->waiters);
    list_add_tail(&cf->fetches, &f->link);
    return f;
}

/*
 * mu held: of those of the network that are not small, parallel_count run at once; the others follow when one ends.
 * Where somebody waits it begins anyway: a sequential reader waits for none that is not the first in line. What was
 * begun is taken from the array: it may be gone when mu is free.
 */
static void line_up(struct cfile *cf, struct fetch **fetches, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fetch *f = fetches[i];

        if (!f->bulk)
            continue;
        if (cf->fetching < cf->cache->config.parallel_count || !list_empty(&f->waiters))
            begin_turn(f);
        else
            f->queued = true;
        fetches[i] = NULL;
    }
}

static void submit(struct cfile *cf, struct fetch **fetches, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cfile_hold(cf);
        cache_busy(cf->cache, 1);
    }
    pthread_mutex_lock(&cf->mu);
    line_up(cf, fetches, n);
    pthread_mutex_unlock(&cf->mu);
    for (size_t i = 0; i < n; i++) {
        struct fetch *f = fetches[i];

        if (f && f->at_once)
            fetch_run(&f->job);
        else if (f)
            pool_submit(cf->cache->pool, f->end - f->start <= SMALL_MAX ? POOL_META : POOL_BULK, &f->job);
    }
}

/*
 * Where a piece that begins with `ex` ends: what is remote behind a short gap of local bytes comes with the same
 * request, which costs less than another one. mu held.
 */
static uint64_t piece_end(const struct cfile *cf, const struct extent *ex, uint64_t limit)
{
    struct extent next;
    uint64_t end = ex->end < limit ? ex->end : limit;

    while (end < limit && extent_map_next_remote(cf->map, end, limit, &next) && next.base == ex->base &&
           next.start - end <= GAP_MAX && next.base_offset - ex->base_offset == next.start - ex->start)
        end = next.end;
    return end;
}

/* mu held: fetches for what is remote in [at, until) and not on its way, at most `max` pieces. */
static size_t begin_pieces(struct cfile *cf, uint64_t at, uint64_t until, struct fetch **out, size_t max)
{
    uint64_t most = ahead_piece(cf);
    struct extent ex;
    size_t n = 0;

    while (n < max && extent_map_next_remote(cf->map, at, until, &ex)) {
        uint64_t limit = until < ex.start + most ? until : ex.start + most;
        struct fetch *f = covering(cf, ex.start, &limit);
        bool kept;

        if (f) {
            at = f->end;
            continue;
        }
        kept = keep_boundary(cf, ex.start, &limit);
        limit = piece_end(cf, &ex, limit);
        f = fetch_new(cf, &ex, limit);
        if (!f)
            break;
        f->kept = kept;
        f->bulk = !kept && f->end - f->start > SMALL_MAX;
        f->at_once = kept && cf->attr.size <= SMALL_MAX;
        out[n++] = f;
        at = limit;
    }
    return n;
}

#define PIECES_AT_ONCE 32

void fetch_range(struct cfile *cf, uint64_t start, uint64_t end, cache_done *done, void *arg)
{
    struct fetch *fresh[PIECES_AT_ONCE], *first;
    struct fetch_waiter *w = malloc(sizeof(*w));
    struct extent missing;
    size_t n;
    uint64_t until, ignored = UINT64_MAX;
    bool remote;

    if (!w) {
        done(arg, -ENOMEM);
        return;
    }
    pthread_mutex_lock(&cf->mu);
    until = ahead_end(cf, start, end);
    n = begin_pieces(cf, start, until > end ? until : end, fresh, PIECES_AT_ONCE);
    first = covering(cf, start, &ignored);
    if (first) {
        *w = (struct fetch_waiter){
            .start = start, .end = end < first->end ? end : first->end, .done = done, .arg = arg};
        list_add_tail(&first->waiters, &w->link);
        if (first->queued)
            begin_turn(first);
    }
    /* What came here since the caller looked was not begun: he looks again. */
    remote = extent_map_next_remote(cf->map, start, start + 1, &missing);
    pthread_mutex_unlock(&cf->mu);
    submit(cf, fresh, n);
    if (first)
        return;
    free(w);
    done(arg, remote ? -ENOMEM : 0);
}

void fetch_ahead(struct cfile *cf, uint64_t start, uint64_t end)
{
    struct fetch *fresh[PIECES_AT_ONCE];
    struct extent missing;
    size_t n = 0;
    uint64_t until;

    pthread_mutex_lock(&cf->mu);
    if (extent_map_next_remote(cf->map, end, cf->attr.size, &missing)) {
        until = ahead_end(cf, start, end);
        if (until > missing.start)
            n = begin_pieces(cf, missing.start, until, fresh, PIECES_AT_ONCE);
    }
    pthread_mutex_unlock(&cf->mu);
    submit(cf, fresh, n);
}

/* ------------------------------------------------------------------------------------ the whole of a range */

struct all {
    struct cfile *cf;
    uint64_t start, end;
    cache_done *done;
    void *arg;
};

static void all_step(void *arg, int r)
{
    struct all *all = arg;
    struct cfile *cf = all->cf;
    struct extent missing;
    bool remote;

    pthread_mutex_lock(&cf->mu);
    remote = extent_map_next_remote(cf->map, all->start, all->end, &missing);
    pthread_mutex_unlock(&cf->mu);
    if (!r && remote) {
        fetch_range(cf, missing.start, missing.end, all_step, all);
        return;
    }
    pthread_mutex_lock(&cf->mu);
    cf->wanted_whole--;
    pthread_mutex_unlock(&cf->mu);
    all->done(all->arg, r);
    cfile_release(cf);
    free(all);
}

void fetch_all(struct cfile *cf, uint64_t start, uint64_t end, cache_done *done, void *arg)
{
    struct all *all = malloc(sizeof(*all));

    if (!all) {
        done(arg, -ENOMEM);
        return;
    }
    pthread_mutex_lock(&cf->mu);
    cf->wanted_whole++;
    pthread_mutex_unlock(&cf->mu);
    *all = (struct all){.cf = cfile_hold(cf), .start = start, .end = end, .done = done, .arg = arg};
    all_step(all, 0);
}
