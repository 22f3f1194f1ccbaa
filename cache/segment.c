#include "hidden.h"
#include "journal.h"
#include "stream.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t stream_limit(const struct cfile *cf)
{
    return cf->segments_refused ? UINT64_MAX : cf->cache->config.cache_size / 2;
}

/* Of all parts of a segment: they are none of the file's own upload, so they need not grow. */
static uint64_t part_size(const struct cfile *cf)
{
    uint64_t offset, size;

    plan_stream_part(1, &cf->cache->config.limits, cf->cache->config.cache_size, &offset, &size);
    return size;
}

/* Where the next one begins. */
static uint64_t next_start(const struct cfile *cf)
{
    const struct stream *st = cf->stream;
    struct extent ex;
    uint64_t at = cf->segment_next > cf->run_start ? cf->segment_next : cf->run_start, own = 0;

    if (st && st->n_parts)
        own = st->parts[st->n_parts - 1]->offset + st->parts[st->n_parts - 1]->part.size;
    at = at > own ? at : own;
    /* Behind one that had failed and begins anew there may be others that have not. */
    while (at < cf->run_end && extent_map_find(cf->map, at, &ex) && ex.base != EXTENT_NEW)
        at = ex.end;
    return at;
}

/* Where the bytes from `at` on that nobody else has end, in the run. */
static uint64_t dirty_until(const struct cfile *cf, uint64_t at)
{
    struct extent ex;

    while (at < cf->run_end && extent_map_find(cf->map, at, &ex) && ex.base == EXTENT_NEW)
        at = ex.end;
    return at < cf->run_end ? at : cf->run_end;
}

void segment_wrote(struct cfile *cf, uint64_t offset, uint64_t n)
{
    if (offset != cf->run_end) {
        segment_close(cf);
        cf->run_start = cf->segment_next = offset;
    }
    cf->run_end = offset + n;
}

bool segment_due(const struct cfile *cf)
{
    uint64_t size = part_size(cf);

    if (cf->segment || cf->segments_refused || cf->orphan || cf->upload_gen != 0 || cf->upload_queued ||
        cf->unclear || cf->unsettled || cf->state != CFILE_DIRTY ||
        (!cf->squeezed && extent_map_dirty_bytes(cf->map) <= cf->cache->config.cache_size / 2))
        return false;
    /* One that is not yet known to have failed may take in all that the schedule has left. */
    if (cf->stream && cf->run_start <= cf->frontier && next_start(cf) + size <= stream_limit(cf))
        return false;
    return next_start(cf) + size <= dirty_until(cf, next_start(cf));
}

/* It will free some, whatever happens; mu held. */
static void count(struct stream *st)
{
    if (!st->counted)
        space_begin(st->cf->cache);
    st->counted = true;
}

struct stream *segment_begin(struct cfile *cf)
{
    const struct cache_config *config = &cf->cache->config;
    uint64_t size = part_size(cf), most = config->cache_size / 4, end;
    struct stream *st = stream_new(cf, true);

    if (!st)
        return NULL;
    if (most > config->limits.copy_max)
        most = config->limits.copy_max;
    st->part_size = size;
    st->start = next_start(cf);
    end = dirty_until(cf, st->start);
    /* No more will come before there is room, nor where others stand behind it. */
    if ((cf->squeezed || end < cf->run_end) && most > end - st->start)
        most = end - st->start;
    st->limit = st->start + (most > size ? most / size * size : size);
    if (cf->squeezed)
        count(st);
    cf->squeezed = false;
    cf->segment = st;
    cf->segments++;
    return st;
}

void segment_close(struct cfile *cf)
{
    struct stream *st = cf->segment;

    if (!st)
        return;
    cf->segment = NULL;
    cf->segment_next = st->start + st->n_parts * st->part_size;
    st->closing = true;
    count(st);
    if (stream_over(st))
        pool_submit(cf->cache->uploads, POOL_META, &st->end);
}

void segment_truncated(struct cfile *cf, uint64_t size)
{
    if (size == 0)
        cf->segments_refused = cf->squeezed = false;
    if (size >= cf->run_end)
        return;
    segment_close(cf);
    cf->run_end = size;
    if (cf->run_start > size)
        cf->run_start = size;
    if (cf->segment_next > size)
        cf->segment_next = size;
}

/* It ends with what is sealed now; mu held. */
static void hurry(struct cfile *cf, struct stream *st)
{
    uint64_t parts = cf->run_end > st->start ? (cf->run_end - st->start) / st->part_size : 0;

    if (parts == 0)
        return;
    if (st->limit > st->start + parts * st->part_size)
        st->limit = st->start + parts * st->part_size;
    count(st);
    stream_go(st);
}

void segment_squeeze(struct cfile *cf)
{
    bool due;

    pthread_mutex_lock(&cf->mu);
    if (cf->segment)
        hurry(cf, cf->segment);
    cf->squeezed = !cf->segment && cf->segments == 0;
    due = segment_due(cf);
    if (!due && cf->squeezed && cf->stream && !cf->segments_refused && cf->upload_gen == 0 && !cf->upload_queued) {
        /* What has left under the file's own key keeps its room until the close. Then rather not so. */
        cf->stream_refused = true;
        stream_drop(cf);
        due = segment_due(cf);
    }
    pthread_mutex_unlock(&cf->mu);
    if (due)
        stream_begin(cf);
}

/* The first of those that should have left; mu held. */
static uint64_t first_unsent(const struct cfile *cf)
{
    uint64_t size = part_size(cf), end;
    struct extent ex;

    for (uint64_t at = cf->run_start; extent_map_next_dirty(cf->map, at, cf->run_end, &ex); at = end) {
        at = ex.start > at ? ex.start : at;
        end = dirty_until(cf, at);
        if (end - at >= size)
            return at;
    }
    return cf->segment_next;
}

void segment_retry(struct cfile *cf)
{
    bool again;

    pthread_mutex_lock(&cf->mu);
    again = cf->segments_refused && cf->segments == 0;
    if (again) {
        cf->segments_refused = false;
        cf->segment_next = first_unsent(cf);
    }
    pthread_mutex_unlock(&cf->mu);
    if (again)
        segment_squeeze(cf);
}

/* The object that has been made becomes a base; mu held. */
static int adopt(struct stream *st, const struct oss_object *made)
{
    struct cfile *cf = st->cf;
    struct oinfo *info = oinfo_from_object(made, &cf->cache->config.defaults, false);
    int id = info ? cfile_add_base(cf, st->key, info) : -ENOMEM;
    int r = id < 0 ? id : 0;

    oinfo_put(info);
    for (size_t i = 0; !r && i < st->n_parts; i++) {
        const struct stream_part *p = st->parts[i];

        /* What was written since is newer, and stays; what was cut off is not in the map any more. */
        r = extent_map_settle(cf->map, p->offset, p->offset + p->part.size, p->epoch, id, p->offset - st->start);
    }
    /* What of it has no copy here any more must be found after a crash. */
    if (!r)
        r = journal_hidden(cf, st->start, st->start + st->n_parts * st->part_size);
    /* An object that nothing refers to goes at once. */
    if (id >= 0)
        cfile_prune_bases(cf);
    return id < 0 ? id : 0;
}

void segment_complete(struct stream *st)
{
    struct cfile *cf = st->cf;
    struct oss *oss = cf->cache->oss;
    struct oss_part *parts = calloc(st->n_parts + 1, sizeof(*parts));
    struct oss_put_opts opts = {.headers = &st->headers};
    struct oss_object made = {0};
    struct oss_error err = {.next_position = -1};
    uint64_t size = 0, crc = 0;
    bool all = parts && st->n_parts > 0, has_crc = true;
    int r = 0;

    for (size_t i = 0; all && i < st->n_parts; i++) {
        parts[i] = st->parts[i]->part;
        all = st->parts[i]->state == PART_SENT;
        has_crc = has_crc && parts[i].has_crc;
        crc = crc64_combine(crc, parts[i].crc64, parts[i].size);
        size += parts[i].size;
    }
    if (all)
        r = oss->ops->complete(oss, st->key, st->id, parts, st->n_parts, size, has_crc, crc, &opts, &made, &err);
    if (r)
        cache_log_error("making the hidden object", st->key, &err);
    made.size = size;
    pthread_mutex_lock(&cf->mu);
    if (all && !r)
        r = adopt(st, &made);
    st->completed = all && !r;
    cf->segments_refused = cf->segments_refused || r;
    pthread_mutex_unlock(&cf->mu);
    oss_object_free(&made);
    free(parts);
    evict_account(cf);
    stream_end(st);
}

struct change *segment_ended(struct stream *st)
{
    struct cfile *cf = st->cf;
    struct change *next = NULL;

    if (!st->completed && st->key)
        hidden_remove(cf->cache, st->key);
    if (--cf->segments == 0) {
        next = cf->unsettled;
        cf->unsettled = NULL;
    }
    return next;
}

bool segment_settle(struct cfile *cf, struct change *change)
{
    segment_close(cf);
    if (cf->segments == 0)
        return false;
    cf->unsettled = change;
    return true;
}
