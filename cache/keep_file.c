/* What is kept of one cfile: the second half of keep.h. */
#include "hidden.h"
#include "keep_table.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE   (256u << 10) /* of a file that is summed up by whoever releases it */
#define READ_STEP (128u << 10)

uint64_t keep_sign(const char *key, const char *etag, uint64_t size)
{
    uint64_t crc = crc64(0, key, strlen(key) + 1);

    crc = crc64(crc, etag, strlen(etag) + 1);
    return crc64(crc, &size, sizeof(size));
}

static uint64_t sign_of(const struct cfile *cf)
{
    return keep_sign(cf->key, cf->object->etag, cf->object->attr.size);
}

/* ---------------------------------------------------------------------------------------- files that go */

struct doomed {
    struct job job;
    char path[];
};

static void doomed_run(struct job *job)
{
    struct doomed *d = list_entry(job, struct doomed, job);

    unlink(d->path);
    free(d);
}

/* The data file is removed by a worker: it may be large, and locks are held. The entry is in no list any more. */
static void doom(struct cache *cache, struct kept *e)
{
    char path[4096];
    struct doomed *d;

    if (!keep_path(cache->keep, e->number, path, sizeof(path))) {
        d = cache->pool ? malloc(sizeof(*d) + strlen(path) + 1) : NULL;
        if (d) {
            d->job.run = doomed_run;
            strcpy(d->path, path);
            pool_submit(cache->pool, POOL_META, &d->job);
        } else {
            unlink(path);
        }
    }
    free(e);
}

/* ------------------------------------------------------------------------------------------------ taking over */

/* keep->mu held. What was taken is in `record`, whose ranges are the caller's. */
static bool take_over(struct cfile *cf, struct kept *e, struct keep_record *record)
{
    struct keep *keep = cf->cache->keep;
    struct buf raw = KEEP_RAW;
    char path[4096];
    bool good = e->sign == sign_of(cf) && !keep_read_record(keep->fd, e->at, &raw, record) &&
                record->type == KEEP_KEPT && !strcmp(record->key, cf->key) &&
                !strcmp(record->etag, cf->object->etag) && record->size == cf->object->attr.size &&
                !keep_path(keep, e->number, path, sizeof(path)) && (cf->path = strdup(path));

    buf_free(&raw);
    return good;
}

void keep_attach(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    struct keep *keep = cache->keep;
    struct keep_record record = {0};
    struct kept *e;
    bool good = false;

    if (!keep || !cf->object || cf->path || !S_ISREG(cf->attr.mode))
        return;
    pthread_mutex_lock(&keep->mu);
    e = keep_table_find(keep, keep_hash(cf->key));
    if (e) {
        good = take_over(cf, e, &record);
        keep_table_remove(keep, e);
        keep->changed = true;
        if (good)
            list_add_tail(&keep->held, &e->link);
        else
            keep->live_bytes -= e->length;
    }
    pthread_mutex_unlock(&keep->mu);
    if (good) {
        cf->has_data = true;
        e->held = e->bytes;
        cf->kept = e;
        cf->sums = record.sums;
        cf->sums_left = true;
        cf->cached_bytes = e->bytes;
    } else if (e) {
        sums_free(&record.sums);
        cache->cached_bytes -= e->bytes;
        doom(cache, e);
    }
}

/* -------------------------------------------------------------------------------------------------- recording */

/* Is what is here the object, and going to stay so until somebody says otherwise? mu held. */
static bool is_clean(const struct cfile *cf)
{
    return cf->state == CFILE_CLEAN && !cf->orphan && cf->object && cf->has_data && cf->journal_fd < 0 &&
           list_empty(&cf->changes) && S_ISREG(cf->attr.mode) && cf->attr.size == cf->object->attr.size;
}

/* mu held. */
static uint64_t held_bytes(struct cfile *cf)
{
    return extent_map_local_bytes(cf->map) + keep_left_bytes(cf);
}

static bool is_recorded(struct cfile *cf)
{
    return cf->kept && cf->kept->held == held_bytes(cf) && cf->kept->sign == sign_of(cf);
}

bool keep_wanted(struct cfile *cf)
{
    bool wanted;

    if (!cf->cache->keep || !cf->in_table)
        return false;
    pthread_mutex_lock(&cf->mu);
    wanted = is_clean(cf) && held_bytes(cf) > 0 && !is_recorded(cf);
    pthread_mutex_unlock(&cf->mu);
    return wanted;
}

/* The next local range from *at on that has no sum; mu held. */
static bool next_piece(struct cfile *cf, uint64_t *at, struct sum *piece)
{
    struct extent ex;

    while (extent_map_find(cf->map, *at, &ex)) {
        const struct sum *sum = sums_next(&cf->sums, *at);
        uint64_t end = (*at / SUMS_GRID + 1) * SUMS_GRID;

        if (!ex.local || (sum && sum->start <= *at)) {
            *at = ex.local ? sum->end : ex.end;
            continue;
        }
        if (end > ex.end)
            end = ex.end;
        if (sum && end > sum->start)
            end = sum->start;
        *piece = (struct sum){.start = *at, .end = end};
        return true;
    }
    return false;
}

/* Of a range of the data file. 0, -ENODATA when it ends before, a disk error. */
static int sum_up(int fd, struct sum *sum)
{
    char *buffer = malloc(READ_STEP);
    int r = buffer ? 0 : -ENOMEM;

    sum->crc = 0;
    for (uint64_t at = sum->start; !r && at < sum->end;) {
        size_t n = sum->end - at < READ_STEP ? (size_t)(sum->end - at) : READ_STEP;
        ssize_t got = pread(fd, buffer, n, (off_t)at);

        if (got < 0 && errno != EINTR)
            r = -errno;
        else if (got == 0)
            r = -ENODATA;
        if (got <= 0)
            continue;
        sum->crc = crc64(sum->crc, buffer, (size_t)got);
        at += (uint64_t)got;
    }
    free(buffer);
    return r;
}

/*
 * io is shared with writers, which may be at work in the range: they cut it out when they have written, and the
 * change of data_gen tells when they have done so already.
 */
static void sum_piece(struct cfile *cf, struct sum *piece, uint64_t data_gen)
{
    int fd, r;

    pthread_rwlock_rdlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    r = cf->data_gen == data_gen && is_clean(cf) ? cfile_need_fd(cf) : -EAGAIN;
    fd = cf->fd;
    pthread_mutex_unlock(&cf->mu);
    if (!r)
        r = sum_up(fd, piece);
    pthread_mutex_lock(&cf->mu);
    /* A file that was made long ends before: nothing is on the disk there. */
    if (!r && cf->data_gen == data_gen && is_clean(cf))
        r = sums_put(&cf->sums, *piece);
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    if (r && r != -EAGAIN && r != -ENODATA)
        log_debug("%s is not kept: %s", cf->path, strerror(-r));
}

/* mu held. Another data file of that key, now in nobody's table, is the caller's. */
static struct kept *write_record(struct cfile *cf)
{
    struct keep *keep = cf->cache->keep;
    struct keep_record record = {.type = KEEP_KEPT,
                                 .number = strtoull(strrchr(cf->path, '/') + 1, NULL, 16),
                                 .size = cf->object->attr.size,
                                 .etag = cf->object->etag,
                                 .key = cf->key,
                                 .sums = cf->sums};
    struct kept *e = cf->kept ? cf->kept : calloc(1, sizeof(*e)), *other = NULL;
    uint64_t at = 0;
    uint32_t length = 0;
    int r = e ? 0 : -ENOMEM;

    pthread_mutex_lock(&keep->mu);
    if (!r)
        r = keep_write(keep, &record, &at, &length);
    if (!r && !cf->kept) {
        list_init(&e->link);
        list_add_tail(&keep->held, &e->link);
        cf->kept = e;
    }
    if (!r) {
        keep->live_bytes += length - e->length;
        e->hash = keep_hash(cf->key);
        e->sign = sign_of(cf);
        e->number = record.number;
        e->held = held_bytes(cf);
        e->at = at;
        e->length = length;
        e->bytes = 0;
        for (size_t i = 0; i < cf->sums.n; i++)
            e->bytes += cf->sums.v[i].end - cf->sums.v[i].start;
        other = keep_table_find(keep, e->hash);
    }
    if (other) {
        keep_table_remove(keep, other);
        keep->live_bytes -= other->length;
    }
    keep_tidy(keep);
    pthread_mutex_unlock(&keep->mu);
    if (r && !cf->kept)
        free(e);
    if (r)
        log_debug("%s is not kept: %s", cf->path, strerror(-r));
    return other;
}

void keep_now(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    struct kept *other = NULL;
    struct sum piece;
    uint64_t data_gen, at = 0;

    pthread_mutex_lock(&cf->mu);
    data_gen = cf->data_gen;
    while (is_clean(cf) && cf->data_gen == data_gen && next_piece(cf, &at, &piece)) {
        pthread_mutex_unlock(&cf->mu);
        sum_piece(cf, &piece, data_gen);
        at = piece.end;
        pthread_mutex_lock(&cf->mu);
    }
    if (is_clean(cf) && cf->data_gen == data_gen && cf->sums.n)
        other = write_record(cf);
    pthread_mutex_unlock(&cf->mu);
    if (!other)
        return;
    pthread_mutex_lock(&cache->mu);
    cache->cached_bytes -= other->bytes;
    pthread_mutex_unlock(&cache->mu);
    doom(cache, other);
}

static void record_run(struct job *job)
{
    struct cfile *cf = list_entry(job, struct cfile, keep_job);
    struct cache *cache = cf->cache;

    keep_now(cf);
    pthread_mutex_lock(&cf->mu);
    cf->keep_set = false;
    pthread_mutex_unlock(&cf->mu);
    cfile_release_as_is(cf);
    cache_busy(cache, -1);
}

bool keep_begin(struct cfile *cf)
{
    bool large, start;

    pthread_mutex_lock(&cf->mu);
    large = extent_map_local_bytes(cf->map) > AT_ONCE;
    start = large && !cf->keep_set;
    cf->keep_set = cf->keep_set || start;
    pthread_mutex_unlock(&cf->mu);
    if (start) {
        cf->keep_job.run = record_run;
        cache_busy(cf->cache, 1);
        pool_submit(cf->cache->pool, POOL_BULK, &cf->keep_job);
    } else if (!large) {
        keep_now(cf);
    }
    return start;
}

/* ----------------------------------------------------------------------------------------------- no more true */

void keep_changed(struct cfile *cf)
{
    struct keep *keep = cf->cache->keep;
    struct keep_record record = {.type = KEEP_CHANGED};

    if (!cf->kept)
        return;
    record.number = cf->kept->number;
    pthread_mutex_lock(&keep->mu);
    if (keep_write(keep, &record, NULL, NULL))
        log_debug("%s: the record of it is out of date", cf->path); /* which its checksums will tell */
    keep_drop_entry(keep, cf->kept);
    keep_tidy(keep);
    pthread_mutex_unlock(&keep->mu);
    cf->kept = NULL;
}

void keep_drop_key(struct cache *cache, const char *key)
{
    struct keep *keep = cache->keep;
    struct kept *e;

    if (!keep)
        return;
    pthread_mutex_lock(&keep->mu);
    e = keep_table_find(keep, keep_hash(key));
    if (e) {
        keep_table_remove(keep, e);
        keep->live_bytes -= e->length;
        keep->changed = true;
    }
    pthread_mutex_unlock(&keep->mu);
    if (!e)
        return;
    cache->cached_bytes -= e->bytes;
    doom(cache, e);
}

void keep_cut(struct cfile *cf, uint64_t start, uint64_t end)
{
    if (cf->sums.n)
        sums_cut(&cf->sums, start, end);
}

void keep_gone(struct cfile *cf)
{
    struct keep *keep = cf->cache->keep;

    if (cf->kept) {
        pthread_mutex_lock(&keep->mu);
        keep_drop_entry(keep, cf->kept);
        keep->changed = true;
        keep_tidy(keep);
        pthread_mutex_unlock(&keep->mu);
    }
    cf->kept = NULL;
    cf->sums_left = false;
    sums_free(&cf->sums);
}

bool keep_return(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    struct keep *keep = cache->keep;
    struct kept *other;

    if (!keep || !cf->in_table || !is_clean(cf) || !is_recorded(cf))
        return false;
    for (size_t i = 0; i < cf->n_bases; i++)
        if (hidden_is(cache, cf->bases[i].key))
            return false; /* it goes with the cfile */
    pthread_mutex_lock(&keep->mu);
    other = keep_table_find(keep, cf->kept->hash);
    if (other) {
        keep_table_remove(keep, other);
        keep->live_bytes -= other->length;
    }
    keep_table_add(keep, cf->kept);
    pthread_mutex_unlock(&keep->mu);
    cache->cached_bytes += cf->kept->bytes - cf->cached_bytes;
    cf->cached_bytes = 0;
    cf->kept = NULL;
    if (other) {
        cache->cached_bytes -= other->bytes;
        doom(cache, other);
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ what is left */

uint64_t keep_left_bytes(struct cfile *cf)
{
    struct extent ex;
    uint64_t bytes = 0;

    if (!cf->sums_left)
        return 0;
    for (size_t i = 0; i < cf->sums.n; i++)
        for (uint64_t at = cf->sums.v[i].start; extent_map_next_remote(cf->map, at, cf->sums.v[i].end, &ex);
             at = ex.end)
            bytes += ex.end - ex.start;
    cf->sums_left = bytes > 0;
    return bytes;
}

bool keep_boundary(const struct cfile *cf, uint64_t offset, uint64_t *limit)
{
    const struct sum *sum = cf->sums_left ? sums_next(&cf->sums, offset) : NULL;
    uint64_t end;

    if (!sum)
        return false;
    if (sum->start > offset) {
        *limit = sum->start < *limit ? sum->start : *limit;
        return false;
    }
    end = sum->end;
    while (end < *limit && ++sum < cf->sums.v + cf->sums.n && sum->start == end)
        end = sum->end;
    *limit = end < *limit ? end : *limit;
    return true;
}

/* Is the range as it was, and has it anything that is not local yet? mu held. */
static bool still_left(const struct cfile *cf, const struct sum *sum)
{
    const struct sum *now = sums_next(&cf->sums, sum->start);
    struct extent ex;

    return now && now->start == sum->start && now->end == sum->end && now->crc == sum->crc &&
           extent_map_next_remote(cf->map, sum->start, sum->end, &ex);
}

/* The data file cannot be had: as if there had never been one. mu held. */
static void lose_file(struct cfile *cf)
{
    log_warn("%s, kept of %s, cannot be opened: it is read from the bucket", cf->path, cf->key);
    keep_changed(cf);
    sums_cut(&cf->sums, 0, UINT64_MAX);
    if (extent_map_local_bytes(cf->map) > 0)
        return;
    free(cf->path);
    cf->path = NULL;
    cf->has_data = false;
}

/* io is shared: a writer at work in the range makes the sum wrong, or its write comes over what became local. */
static void believe_range(struct cfile *cf, const struct sum *sum)
{
    struct sum found = *sum;
    bool left;
    int fd, r = 0;

    pthread_rwlock_rdlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    left = still_left(cf, sum);
    if (left)
        r = cfile_need_fd(cf);
    if (r)
        lose_file(cf);
    fd = cf->fd;
    pthread_mutex_unlock(&cf->mu);
    if (left && !r) {
        r = sum_up(fd, &found);
        pthread_mutex_lock(&cf->mu);
        left = still_left(cf, sum);
        if (left && (r || found.crc != sum->crc)) {
            if (cf->journal_fd < 0) /* else it may be the writer's */
                log_warn("%s, kept of %s, is damaged at %llu: it is read from the bucket", cf->path, cf->key,
                         (unsigned long long)sum->start);
            keep_changed(cf);
            sums_cut(&cf->sums, sum->start, sum->end);
        } else if (left && extent_map_fetched(cf->map, sum->start, sum->end)) {
            log_debug("%s: no memory for what is kept of it", cf->path); /* it is fetched, then */
        }
        pthread_mutex_unlock(&cf->mu);
    }
    pthread_rwlock_unlock(&cf->io);
}

bool keep_believe(struct cfile *cf, uint64_t start, uint64_t end)
{
    struct extent ex;
    bool remote;

    for (uint64_t at = start; at < end;) {
        const struct sum *sum;
        struct sum copy;

        pthread_mutex_lock(&cf->mu);
        sum = sums_next(&cf->sums, at);
        copy = sum ? *sum : (struct sum){.start = end, .end = end};
        pthread_mutex_unlock(&cf->mu);
        if (copy.start >= end)
            break;
        believe_range(cf, &copy);
        at = copy.end;
    }
    pthread_mutex_lock(&cf->mu);
    remote = extent_map_next_remote(cf->map, start, end, &ex);
    pthread_mutex_unlock(&cf->mu);
    return !remote;
}

void keep_punch(struct cfile *cf, uint64_t from, uint64_t to)
{
    for (size_t i = 0; cf->sums_left && i < cf->sums.n;) {
        struct sum sum = cf->sums.v[i];
        struct extent ex;
        bool remote = extent_map_find(cf->map, sum.start, &ex) && !ex.local && ex.end >= sum.end;

        if (!remote || (sum.end > from && sum.start < to)) {
            i++;
            continue;
        }
        keep_changed(cf);
        fallocate(cf->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)sum.start, (off_t)(sum.end - sum.start));
        sums_cut(&cf->sums, sum.start, sum.end);
    }
}
