#include "stream.h"

#include "append.h"
#include "hidden.h"
#include "strays.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void part_run(struct job *job);
static void initiate_run(struct job *job);
static void end_run(struct job *job);

/* ------------------------------------------------------------------------------------------- life and death */

static void stream_free(struct stream *st)
{
    for (size_t i = 0; i < st->n_parts; i++)
        free(st->parts[i]);
    free(st->parts);
    kv_free(&st->headers);
    free(st->key);
    free(st);
}

/* What Initiate says of the file, and how its parts are cut. */
static int begin_own(struct stream *st)
{
    struct cfile *cf = st->cf;
    const struct plan_limits *limits = &cf->cache->config.limits;
    int r = upload_headers(&st->headers, &cf->headers, &cf->attr);

    st->key = strdup(cf->key);
    st->unseen = cf->object && cf->object->bare;
    if (!r && st->key && !st->unseen)
        r = headers_describe(cf->cache->config.headers, cache_path_of(cf->cache, st->key), &st->headers);
    if (r || !st->key)
        return -ENOMEM;
    /* What is known only when the last byte is written does not go with Initiate. */
    kv_del(&st->headers, "x-oss-meta-mtime");
    kv_del(&st->headers, "x-oss-meta-mtime-ns");
    st->attr = cf->attr;
    st->reach = plan_stream_reach(limits, cf->cache->config.cache_size);
    if (cf->attr.size > cf->frontier) {
        st->part_size = plan_part_size(cf->attr.size, limits->part_size, limits);
        st->reach = limits->object_max;
    }
    return 0;
}

struct stream *stream_new(struct cfile *cf, bool segment)
{
    struct stream *st = calloc(1, sizeof(*st));

    if (!st)
        return NULL;
    st->cf = cf;
    st->segment = segment;
    st->initiate.run = initiate_run;
    st->end.run = end_run;
    if (!segment && begin_own(st)) {
        stream_free(st);
        return NULL;
    }
    st->initiating = true;
    st->running = 1;
    cf->sending++;
    cf->streams += !segment;
    pool_submit(cf->cache->uploads, POOL_META, &st->initiate);
    return st;
}

void stream_end(struct stream *st)
{
    struct cfile *cf = st->cf;
    struct cache *cache = cf->cache;
    bool counted = st->counted;
    struct change *next = NULL;

    if (!st->completed && *st->id)
        upload_abort(cache, st->key, st->id);
    pthread_mutex_lock(&cf->mu);
    if (st->segment)
        next = segment_ended(st);
    /* One whose id was never learnt is the last INTENT, unless another has begun since. */
    else if (!st->completed && (*st->id || (!cf->stream && cf->upload_gen == 0)))
        journal_end(cf, st->id);
    cf->streams -= !st->segment;
    if (cf->journal_over && cf->streams == 0)
        journal_remove(cf);
    pthread_mutex_unlock(&cf->mu);
    stream_free(st);
    if (next)
        next->begin(next);
    if (counted)
        space_end(cache);
    cfile_release(cf);
    cache_busy(cache, -1);
}

static void end_run(struct job *job)
{
    struct stream *st = list_entry(job, struct stream, end);

    if (st->segment && !st->dropped)
        segment_complete(st);
    else
        stream_end(st);
}

bool stream_over(struct stream *st)
{
    bool over = st->running == 0 && (st->dropped || st->closing) && !st->ending;

    st->ending = st->ending || over;
    return over;
}

void stream_drop(struct cfile *cf)
{
    struct stream *st = cf->stream;

    if (!st)
        return;
    cf->stream = NULL;
    progress_end(cf);
    st->dropped = true;
    if (stream_over(st))
        pool_submit(cf->cache->pool, POOL_META, &st->end);
}

void stream_finish(struct stream *st, bool completed)
{
    struct cfile *cf = st->cf;
    bool last;

    pthread_mutex_lock(&cf->mu);
    st->dropped = true;
    st->completed = completed;
    last = stream_over(st);
    pthread_mutex_unlock(&cf->mu);
    if (last)
        stream_end(st);
}

/* ------------------------------------------------------------------------------------------- the parts */

/* How far the writer has come. */
static uint64_t sealed(const struct stream *st)
{
    return st->segment ? st->cf->run_end : st->cf->frontier;
}

/* The next part of the schedule; NULL when there is none (or no memory). */
static struct stream_part *cut_part(struct stream *st)
{
    const struct cache_config *config = &st->cf->cache->config;
    struct stream_part *p, **v;
    uint64_t offset, size;

    if (st->n_parts >= config->limits.parts_max)
        return NULL;
    if (st->part_size) {
        offset = st->start + st->n_parts * st->part_size;
        size = st->part_size;
    } else {
        plan_stream_part((int)st->n_parts + 1, &config->limits, config->cache_size, &offset, &size);
    }
    if (offset + size > sealed(st) || offset + size > (st->segment ? st->limit : stream_limit(st->cf)))
        return NULL;
    v = realloc(st->parts, (st->n_parts + 1) * sizeof(struct stream_part *));
    if (v)
        st->parts = v;
    p = v ? calloc(1, sizeof(*p)) : NULL;
    if (!p)
        return NULL;
    p->stream = st;
    p->job.run = part_run;
    p->offset = offset;
    p->part.number = (int)st->n_parts + 1;
    p->part.size = size;
    st->parts[st->n_parts++] = p;
    return p;
}

void stream_go(struct stream *st)
{
    struct cfile *cf = st->cf;

    while (*st->id && !st->closing && cf->sending < cf->cache->config.parallel_count) {
        struct stream_part *p = st->next < st->n_parts ? st->parts[st->next] : cut_part(st);

        if (!p || p->offset + p->part.size > sealed(st))
            break;
        st->next++;
        if (p->state != PART_NONE)
            continue;
        p->state = PART_SENDING;
        p->cut = false;
        p->epoch = 0;
        st->running++;
        cf->sending++;
        pool_submit(cf->cache->uploads, POOL_BULK, &p->job);
    }
    if (st->segment && !st->closing && st->start + st->n_parts * st->part_size >= st->limit)
        segment_close(cf);
}

/* A request of it has come back; mu held, and is given up. On a worker. */
static void came_back(struct stream *st, struct job *joined)
{
    struct cfile *cf = st->cf;
    bool over;

    st->running--;
    cf->sending--;
    if (cf->stream)
        stream_go(cf->stream);
    if (cf->segment)
        stream_go(cf->segment);
    over = stream_over(st);
    pthread_mutex_unlock(&cf->mu);
    if (joined)
        pool_submit(cf->cache->uploads, POOL_BULK, joined);
    if (over)
        end_run(&st->end);
}

/* Are all bytes of it here, and nowhere else? mu held. */
static bool all_dirty(const struct cfile *cf, uint64_t at, uint64_t end)
{
    struct extent ex;

    for (; at < end && extent_map_find(cf->map, at, &ex); at = ex.end)
        if (ex.base != EXTENT_NEW)
            return false;
    return at >= end;
}

/* Was any of it written since its bytes were read? mu held. */
static bool written_since(const struct cfile *cf, uint64_t at, uint64_t end, uint32_t epoch)
{
    struct extent ex;

    for (; extent_map_next_dirty(cf->map, at, end, &ex); at = ex.end)
        if (ex.epoch > epoch)
            return true;
    return false;
}

/* What a failed request means for the stream; mu held. */
static void failed(struct stream *st, int r, const struct oss_error *err)
{
    struct cfile *cf = st->cf;

    if (st->dropped || st->taken)
        return;
    log_warn("%s%s: a part could not be sent before the close (%s)", cf->key,
             st->segment ? " (beyond the cache)" : "", *err->code ? err->code : strerror(-r));
    if (!st->segment) {
        cf->stream_refused = true;
        stream_drop(cf);
        return;
    }
    cf->segments_refused = true;
    segment_close(cf);
    st->dropped = true;
}

static void part_run(struct job *job)
{
    struct stream_part *p = list_entry(job, struct stream_part, job);
    struct stream *st = p->stream;
    struct cfile *cf = st->cf;
    struct oss_error err = {.next_position = -1};
    struct oss_part sent = {0};
    bool needed, changed;
    int r = 0;

    pthread_mutex_lock(&cf->mu);
    needed = !st->dropped && !p->cut && all_dirty(cf, p->offset, p->offset + p->part.size);
    /* Whoever writes from now on marks the map with a later one, even if his bytes come in time. */
    if (needed)
        p->epoch = cf->epoch++;
    pthread_mutex_unlock(&cf->mu);
    if (needed)
        r = upload_range(cf, st->key, st->id, p->part.number, p->offset, p->part.size, &sent, &err);
    pthread_mutex_lock(&cf->mu);
    /* A body that changed on its way was refused. */
    changed = r == -EAGAIN || !strcmp(err.code, "InvalidCRC64") || !strcmp(err.code, "InvalidDigest");
    if (!needed || p->cut || (st->taken && p->offset + p->part.size > cf->cut)) {
        p->state = PART_NONE;
        if (st->next >= (size_t)p->part.number)
            st->next = (size_t)p->part.number - 1;
    } else if (r) {
        p->state = PART_STALE;
        if (!changed)
            failed(st, r, &err);
    } else {
        p->part = sent;
        p->state = PART_SENT;
        if (!st->dropped && !st->segment)
            journal_part(cf, p->offset, &sent);
    }
    job = p->joined;
    p->joined = NULL;
    came_back(st, job);
}

/* What no listing shows of the object that is to be replaced goes with the new one. */
static int see_replaced(struct stream *st, struct oss_error *err)
{
    struct cfile *cf = st->cf;
    struct kvlist seen = {0};
    struct oinfo *info;
    int r = see_object(cf, st->key, &seen, &info, err);

    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; !r && i < seen.n; i++)
        if (!kv_get(&st->headers, seen.v[i].name))
            r = kv_add(&st->headers, seen.v[i].name, seen.v[i].value);
    if (!r)
        r = headers_describe(cf->cache->config.headers, cache_path_of(cf->cache, st->key), &st->headers);
    /* The upload will find it known. */
    if (!r && info && cf->object && cf->object->bare && !strcmp(cf->object->etag, info->etag)) {
        info->attr = cf->object->attr;
        oinfo_put(cf->object);
        cf->object = oinfo_get(info);
    }
    st->unseen = r != 0;
    pthread_mutex_unlock(&cf->mu);
    oinfo_put(info);
    kv_free(&seen);
    return r;
}

static void initiate_run(struct job *job)
{
    struct stream *st = list_entry(job, struct stream, initiate);
    struct cfile *cf = st->cf;
    struct oss *oss = cf->cache->oss;
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    struct oss_error err = {.next_position = -1};
    char id[OSS_UPLOADID_SIZE] = "", key[OSS_KEY_MAX + 2];
    int r = 0;
    bool tagged;

    if (st->segment && !(r = hidden_new(cf->cache, key)) && !(st->key = strdup(key)))
        r = -ENOMEM;
    if (!r && st->unseen)
        r = see_replaced(st, &err);
    pthread_mutex_lock(&cf->mu);
    tagged = cf->object && cf->object->tagged;
    if (!r)
        r = st->dropped ? -ECANCELED : st->segment ? 0 : journal_intent(cf);
    if (!r && st->segment)
        r = headers_encryption(cf->cache->config.headers, cache_path_of(cf->cache, cf->key), &headers);
    pthread_mutex_unlock(&cf->mu);
    if (!r && !st->segment)
        r = initiate_headers(cf->cache, st->key, tagged, &st->headers, &headers, &opts.forbid_overwrite, &err);
    if (!r)
        r = oss->ops->initiate(oss, st->key, &opts, id, &err);
    if (err.ambiguous)
        upload_unknown(cf->cache, st->key);
    pthread_mutex_lock(&cf->mu);
    st->initiating = false;
    if (!r) {
        memcpy(st->id, id, sizeof(st->id));
        /* One that was dropped meanwhile may be of another key than the file: its INTENT has that. */
        r = st->segment || st->dropped ? 0 : journal_upload(cf, id);
    }
    if (r)
        failed(st, r, &err);
    job = st->joined;
    st->joined = NULL;
    came_back(st, job);
    kv_free(&headers);
}

/* ------------------------------------------------------------------------------------------- the writer's side */

/* mu held. */
static bool may_begin(const struct cfile *cf)
{
    const struct cache_config *config = &cf->cache->config;
    uint64_t offset, size;

    if (cf->frontier <= config->limits.multipart_threshold || cf->stream_refused || cf->orphan || cf->n_bases > 0 ||
        cf->segments > 0 || background_wanted(cf) || cf->upload_gen != 0 || cf->upload_queued || cf->unclear ||
        append_planned(cf) || cf->state != CFILE_DIRTY || cf->strays > 0)
        return false;
    plan_stream_part(1, &config->limits, config->cache_size, &offset, &size);
    return cf->frontier >= size;
}

bool stream_wrote(struct cfile *cf, uint64_t offset, uint64_t n)
{
    if (offset <= cf->frontier && offset + n > cf->frontier)
        cf->frontier = offset + n;
    segment_wrote(cf, offset, n);
    if (cf->stream)
        stream_go(cf->stream);
    if (cf->segment)
        stream_go(cf->segment);
    return (!cf->stream && may_begin(cf)) || segment_due(cf);
}

void stream_begin(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    struct stream *st = NULL;

    cfile_hold(cf);
    cache_busy(cache, 1);
    pthread_mutex_lock(&cf->mu);
    if (!cf->stream && may_begin(cf))
        st = cf->stream = stream_new(cf, false);
    else if (segment_due(cf))
        st = segment_begin(cf);
    if (st && !cf->progress.since_ms)
        progress_begin(cf, 0);
    pthread_mutex_unlock(&cf->mu);
    if (st)
        return;
    cache_busy(cache, -1);
    cfile_release(cf);
}

bool stream_reaches(const struct cfile *cf, uint64_t end)
{
    return !cf->stream || end <= cf->attr.size || end <= cf->stream->reach;
}

void stream_truncated(struct cfile *cf, uint64_t size)
{
    struct stream *st = cf->stream;

    if (size < cf->frontier)
        cf->frontier = size;
    segment_truncated(cf, size);
    if (size == 0) {
        cf->stream_refused = false;
        stream_drop(cf);
        return;
    }
    for (size_t i = st ? st->n_parts : 0; i > 0 && st->parts[i - 1]->offset + st->parts[i - 1]->part.size > size;
         i--) {
        struct stream_part *p = st->parts[i - 1];

        if (p->state == PART_SENDING)
            p->cut = true;
        else
            p->state = PART_NONE;
        if (st->next > i - 1)
            st->next = i - 1;
    }
}

/* ------------------------------------------------------------------------------------------- the upload's side */

struct plan_part *stream_cut(const struct stream *st, size_t *n)
{
    struct plan_part *v = calloc(st->n_parts + 1, sizeof(*v));

    *n = 0;
    for (size_t i = 0; v && i < st->n_parts; i++) {
        v[i] = (struct plan_part){.offset = st->parts[i]->offset, .length = st->parts[i]->part.size};
        if (st->parts[i]->state != PART_NONE)
            *n = i + 1;
    }
    return v;
}

void stream_take(struct cfile *cf)
{
    cf->stream->taken = true;
    cf->stream = NULL;
}

bool stream_join(struct stream *st, int number, struct job *job)
{
    struct stream_part *p = number > 0 && (size_t)number <= st->n_parts ? st->parts[number - 1] : NULL;

    if (number == 0 && st->initiating) {
        st->joined = job;
        return true;
    }
    if (!p || p->state != PART_SENDING)
        return false;
    p->joined = job;
    return true;
}

bool stream_sent(const struct stream *st, int number, uint64_t offset, uint64_t length, struct oss_part *out)
{
    const struct stream_part *p = number > 0 && (size_t)number <= st->n_parts ? st->parts[number - 1] : NULL;

    if (!p || p->state != PART_SENT || p->offset != offset || p->part.size != length ||
        written_since(st->cf, offset, offset + length, p->epoch))
        return false;
    *out = p->part;
    return true;
}
