/*
 * The steps of a plan: what each of them asks of the bucket. Each runs on a worker and waits for nothing but its
 * answer.
 *
 * Content that changes while it is sent. A writer is not stopped; a part or a body whose CRC no longer fits what was
 * announced is refused by the service (InvalidCRC64) and nothing is stored. Such a step is sent again from a copy
 * that is made while writers are kept out for the moment of a local copy. Parts that were overtaken by a write are
 * sent again before the upload is completed.
 */
#include "append.h"
#include "hidden.h"
#include "strays.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPY_CHUNK (1u << 20)

/* ------------------------------------------------------------------------------------------ the steps */

struct body {
    struct cfile *cf;
    uint64_t offset; /* of the body in the file */
    int copy;        /* descriptor of a copy of the range, or -1 */
};

/*
 * Was the file cut off before `end` since the plan was made? Zeros that nobody wrote must not go out in place of what
 * was cut: the upload begins anew (EAGAIN).
 */
bool upload_was_cut(struct cfile *cf, uint64_t end)
{
    bool cut;

    pthread_mutex_lock(&cf->mu);
    cut = end > cf->cut;
    pthread_mutex_unlock(&cf->mu);
    return cut;
}

static int body_read(void *arg, uint64_t offset, void *to, size_t n)
{
    struct body *b = arg;
    char *p = to;
    int r;

    if (b->copy < 0) {
        r = cfile_pread(b->cf, to, n, b->offset + offset);
        return !r && upload_was_cut(b->cf, b->offset + offset + n) ? -EAGAIN : r;
    }
    while (n > 0) {
        ssize_t got = pread(b->copy, p, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            memset(p, 0, n);
            break;
        }
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* For a stream: what is cut off meanwhile is not believed anyway. */
static int range_read(void *arg, uint64_t offset, void *to, size_t n)
{
    struct body *b = arg;

    return cfile_pread(b->cf, to, n, b->offset + offset);
}

int upload_range(struct cfile *cf, const char *key, const char *id, int number, uint64_t offset, uint64_t length,
                 struct oss_part *part, struct oss_error *err)
{
    struct oss *oss = cf->cache->oss;
    struct body body = {.cf = cf, .offset = offset, .copy = -1};
    struct kvlist headers = {0};
    struct oss_source source = {
        .read = range_read, .arg = &body, .size = length, .sent = &cf->progress.sent, .headers = &headers};
    bool forbid;
    int r = headers_request(cf->cache->config.headers, cache_path_of(cf->cache, key), HEADERS_PART, NULL, &headers,
                            &forbid);

    if (!r)
        r = oss->ops->upload_part(oss, key, id, number, &source, part, err);
    kv_free(&headers);
    return r;
}

/* A copy of the range in a nameless file, made while writers are kept out. */
static int body_copy(struct body *b, uint64_t length)
{
    struct cfile *cf = b->cf;
    char *chunk = malloc(COPY_CHUNK);
    int r = 0;

    b->copy = open(cf->cache->config.state_dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (!chunk || b->copy < 0) {
        r = chunk ? -errno : -ENOMEM;
        free(chunk);
        return r;
    }
    pthread_rwlock_wrlock(&cf->io);
    for (uint64_t at = 0; !r && at < length;) {
        size_t n = length - at < COPY_CHUNK ? (size_t)(length - at) : COPY_CHUNK;
        ssize_t got = cf->fd < 0 ? 0 : pread(cf->fd, chunk, n, (off_t)(b->offset + at));

        if (got < 0)
            r = -errno;
        if (got <= 0)
            break;
        r = pwrite_all(b->copy, chunk, (size_t)got, at);
        at += (uint64_t)got;
    }
    if (!r && upload_was_cut(cf, b->offset + length))
        r = -EAGAIN;
    pthread_rwlock_unlock(&cf->io);
    free(chunk);
    return r;
}

/* What a PUT will make the object, for the journal; the client needs the CRC anyway. */
static int announce_put(struct upload *u, struct oss_source *source)
{
    struct cfile *cf = u->cf;
    size_t size = source->size < COPY_CHUNK ? (size_t)source->size : COPY_CHUNK;
    char *chunk = malloc(size + 1);
    int r = chunk ? 0 : -ENOMEM;

    source->crc64 = 0;
    for (uint64_t at = 0; !r && at < source->size; at += size) {
        size_t n = source->size - at < size ? (size_t)(source->size - at) : size;

        r = source->read(source->arg, at, chunk, n);
        if (!r)
            source->crc64 = crc64(source->crc64, chunk, n);
    }
    free(chunk);
    source->has_crc = !r;
    pthread_mutex_lock(&cf->mu);
    if (!r)
        r = journal_final(cf, source->size, source->crc64);
    pthread_mutex_unlock(&cf->mu);
    return r;
}

/* PutObject or UploadPart of a range of the data file; once more from a copy when a writer came in between. */
static int send(struct upload *u, const struct plan_step *step, struct oss_part *part, struct oss_error *err)
{
    struct oss *oss = u->cf->cache->oss;
    struct body body = {.cf = u->cf, .offset = step->offset, .copy = -1};
    struct oss_source source = {.read = body_read, .arg = &body, .size = step->length, .sent = &u->cf->progress.sent};
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    int r = upload_request_headers(u, part ? HEADERS_PART : HEADERS_PUT, &headers, &opts.forbid_overwrite);

    source.headers = &headers;

    for (int attempt = 0; !r && attempt < 2; attempt++) {
        if (!part && (r = announce_put(u, &source)))
            break;
        if (part)
            r = oss->ops->upload_part(oss, u->target, u->upload_id, step->number, &source, part, err);
        else
            r = oss->ops->put(oss, u->target, &source, &opts, &u->result, err);
        if (!r || (strcmp(err->code, "InvalidCRC64") && strcmp(err->code, "InvalidDigest")) || attempt)
            break;
        r = body_copy(&body, step->length);
    }
    if (body.copy >= 0)
        close(body.copy);
    kv_free(&headers);
    return r;
}

static int run_initiate(struct upload *u, struct oss_error *err)
{
    struct cfile *cf = u->cf;
    struct oss *oss = cf->cache->oss;
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    int r;

    if (u->stream) {
        pthread_mutex_lock(&cf->mu);
        memcpy(u->upload_id, u->stream->id, sizeof(u->upload_id));
        pthread_mutex_unlock(&cf->mu);
    }
    if (*u->upload_id)
        return 0; /* gone on with */
    r = upload_request_headers(u, HEADERS_INITIATE, &headers, &opts.forbid_overwrite);
    if (!r && !u->copy_only) {
        pthread_mutex_lock(&cf->mu);
        r = journal_intent(cf);
        pthread_mutex_unlock(&cf->mu);
    }
    if (!r && u->copy_only && !hidden_is(cf->cache, u->target))
        r = stray_begin(cf->cache, u->target, time(NULL), &u->stray);
    if (!r)
        r = oss->ops->initiate(oss, u->target, &opts, u->upload_id, err);
    if (err->ambiguous)
        upload_unknown(cf->cache, u->target);
    if (r && u->stray) {
        stray_end(u->stray);
        u->stray = NULL;
    }
    if (!r && u->stray)
        r = stray_named(u->stray, u->upload_id);
    if (!r && !u->copy_only) {
        pthread_mutex_lock(&cf->mu);
        r = journal_upload(cf, u->upload_id);
        pthread_mutex_unlock(&cf->mu);
    }
    kv_free(&headers);
    return r;
}

/*
 * Where a base stands now, and the ETag that ties a copy to it. 0; -EAGAIN when all that stood in it was written over
 * or cut off since the plan was made; -ENOMEM.
 */
static int find_base(struct cfile *cf, int id, char **key, char etag[OSS_ETAG_SIZE], bool *foreign)
{
    const struct base *base;

    pthread_mutex_lock(&cf->mu);
    base = cfile_base(cf, id);
    *key = base ? strdup(base->key) : NULL;
    *foreign = base && base->foreign;
    memcpy(etag, base ? base->info->etag : "", base ? OSS_ETAG_SIZE : 1);
    pthread_mutex_unlock(&cf->mu);
    return !base ? -EAGAIN : *key ? 0 : -ENOMEM;
}

static bool is_base(struct cfile *cf, int id)
{
    bool is;

    pthread_mutex_lock(&cf->mu);
    is = cfile_base(cf, id) != NULL;
    pthread_mutex_unlock(&cf->mu);
    return is;
}

/*
 * A copy from a base was refused because the object is gone or another one: -EINPROGRESS when that is our own doing;
 * else -ESTALE, and what is known of its name is asked for anew.
 */
static int base_is_stale(struct cfile *cf, int id, const char *key, const char *etag, bool foreign)
{
    /* In this order: when it is over, the file has been told where the base is now. */
    bool replacing = foreign && replace_under_way(cf, key);
    char *now, now_etag[OSS_ETAG_SIZE];
    bool moved = find_base(cf, id, &now, now_etag, &foreign) || strcmp(now, key) || strcmp(now_etag, etag);
    const char *name;
    char *dir;

    free(now);
    if (replacing || moved)
        return -EINPROGRESS;
    if (foreign && !key_split(key, &dir, &name)) {
        meta_forget(cf->cache->meta, dir, name);
        free(dir);
    }
    return -ESTALE;
}

static int run_part_copy(struct upload *u, const struct plan_step *step, struct oss_part *part, struct oss_error *err)
{
    struct cfile *cf = u->cf;
    struct oss *oss = cf->cache->oss;
    char etag[OSS_ETAG_SIZE], *from;
    bool foreign;
    int r = find_base(cf, step->base, &from, etag, &foreign);

    if (!r && u->by_hand && !foreign)
        r = by_hand_part(u, step, from, etag, part, err);
    else if (!r)
        r = oss->ops->copy_part(oss, u->target, u->upload_id, step->number, from, etag, step->base_offset,
                                step->length, part, err);
    if (from && hidden_is(cf->cache, from) && (r == -ESTALE || (r == -ENOENT && !strcmp(err->code, "NoSuchKey"))))
        r = is_base(cf, step->base) ? hidden_lost(cf, from) : -EAGAIN; /* what stood in it was cut off meanwhile */
    if (from && foreign && (r == -ESTALE || (r == -ENOENT && !strcmp(err->code, "NoSuchKey"))))
        r = base_is_stale(cf, step->base, from, etag, foreign);
    free(from);
    return r;
}

/* Those of an object of its own, made like a new one of bytes that are in the bucket already. */
static int made_headers(struct upload *u, struct kvlist *headers, bool *forbid)
{
    int r = upload_request_headers(u, HEADERS_PUT, headers, forbid);

    kv_del(headers, "x-oss-callback");
    kv_del(headers, "x-oss-callback-var");
    kv_del(headers, "x-oss-traffic-limit");
    return r;
}

/* The file is a copy of another one: one request makes it, with attributes of its own. */
static int run_copy_whole(struct upload *u, const struct plan_step *step, struct oss_error *err)
{
    struct cfile *cf = u->cf;
    struct oss *oss = cf->cache->oss;
    struct kvlist headers = {0};
    char etag[OSS_ETAG_SIZE], *from;
    struct oss_copy_opts opts = {.replace = true, .headers = &headers, .if_match = etag};
    bool foreign;
    int r = find_base(cf, step->base, &from, etag, &foreign);

    if (!r)
        r = made_headers(u, &headers, &opts.forbid_overwrite);
    if (!r)
        r = kv_set(&headers, "x-oss-tagging-directive", "Replace"); /* it has none of its source's */
    if (!r)
        r = oss->ops->copy(oss, from, u->target, &opts, &u->result, err);
    if (from && (r == -ESTALE || r == -ENOENT))
        r = base_is_stale(cf, step->base, from, etag, foreign);
    kv_free(&headers);
    free(from);
    if (!r)
        progress_add(cf, step->length);
    return r;
}

/*
 * Writes that came while the parts were on their way: parts that went before a write and parts that went after it
 * would together be a file that never was. mu held. Marks the parts to be sent again, and takes what was written
 * until now into this upload; false when there is nothing to do, or nothing can be done (the file has another length
 * by now, or the write is in a part that the service copied): what then goes out is each part's state at its own
 * moment, until the next flush.
 */
static bool take_in_changes(struct upload *u, bool *again)
{
    struct cfile *cf = u->cf;
    bool any = false;
    struct extent ex;

    if (cf->data_gen == u->data_gen || cf->attr.size != u->size)
        return false;
    for (size_t i = 0; i < u->plan.n; i++) {
        const struct plan_step *step = &u->plan.steps[i];
        uint64_t at = step->offset, end = step->offset + step->length;

        again[i] = false;
        if (upload_phase(step->kind) != 2)
            continue;
        for (; !again[i] && extent_map_next_dirty(cf->map, at, end, &ex); at = ex.end)
            again[i] = ex.epoch > u->epoch;
        if (again[i] && step->kind != STEP_PART)
            return false;
        any = any || again[i];
    }
    if (!any || journal_commit(cf))
        return false;
    u->epoch = cf->epoch++;
    u->data_gen = cf->data_gen;
    cf->upload_gen = cf->gen;
    cfile_event(cf, CFILE_ON_BEGIN);
    cfile_check(cf);
    return true;
}

#define ROUNDS 3 /* for a writer that never stops */

static int send_changes(struct upload *u, struct oss_error *err)
{
    struct cfile *cf = u->cf;
    bool *again = calloc(u->plan.n, sizeof(*again));
    bool more = again != NULL;
    int r = again ? 0 : -ENOMEM;

    for (int round = 0; !r && more && round < ROUNDS; round++) {
        pthread_rwlock_wrlock(&cf->io);
        pthread_mutex_lock(&cf->mu);
        more = take_in_changes(u, again);
        pthread_mutex_unlock(&cf->mu);
        pthread_rwlock_unlock(&cf->io);
        for (size_t i = 0; !r && more && i < u->plan.n; i++)
            if (again[i])
                r = send(u, &u->plan.steps[i], &u->parts[i], err);
    }
    free(again);
    return r;
}

static int run_complete(struct upload *u, struct oss_error *err)
{
    struct oss *oss = u->cf->cache->oss;
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    struct oss_part *parts = calloc(u->plan.n, sizeof(*parts));
    bool has_crc = true;
    uint64_t crc = 0;
    size_t n = 0;
    int r = parts ? 0 : -ENOMEM;

    if (!r && !u->copy_only)
        r = send_changes(u, err);
    for (size_t i = 0; !r && i < u->plan.n; i++) {
        if (upload_phase(u->plan.steps[i].kind) != 2)
            continue;
        parts[n++] = u->parts[i];
        has_crc = has_crc && u->parts[i].has_crc;
        crc = crc64_combine(crc, u->parts[i].crc64, u->plan.steps[i].length);
    }
    if (!r)
        r = upload_request_headers(u, HEADERS_COMPLETE, &headers, &opts.forbid_overwrite);
    if (!r && has_crc && !u->copy_only) {
        pthread_mutex_lock(&u->cf->mu);
        r = journal_final(u->cf, u->size, crc);
        pthread_mutex_unlock(&u->cf->mu);
    }
    u->completing = !r;
    if (!r)
        r = oss->ops->complete(oss, u->target, u->upload_id, parts, n, u->size, has_crc, crc, &opts, &u->result, err);
    u->completed = !r;
    kv_free(&headers);
    free(parts);
    return r;
}

static int run_copy(struct upload *u, const struct plan_step *step, struct oss_error *err)
{
    struct oss *oss = u->cf->cache->oss;
    struct kvlist headers = {0};
    struct oss_copy_opts opts = {.replace = u->replace, .headers = &headers};
    char etag[OSS_ETAG_SIZE] = "", *from = NULL;
    struct oss_put_opts by_hand = {.headers = &headers};
    int r = u->by_hand ? made_headers(u, &headers, &by_hand.forbid_overwrite)
                       : upload_request_headers(u, HEADERS_COPY, &headers, &opts.forbid_overwrite);

    by_hand.forbid_overwrite = by_hand.forbid_overwrite && u->copy_only; /* else it is the object itself */
    if (!r && u->appended.moved)
        r = attr_mtime_for_size(&headers, u->appended.size);
    if (u->appended.landed)
        memcpy(etag, u->result.etag, sizeof(etag));
    else if (u->source)
        memcpy(etag, u->source->etag, sizeof(etag));
    opts.if_match = *etag ? etag : NULL;
    /* What an earlier daemon left may have been carried out, unheard: then it is the same once more. */
    if (u->source && u->source->last_modified && !u->appended.landed && !u->cf->recovered)
        opts.if_unmodified_since = u->source->last_modified + u->source->fuzzy;
    pthread_mutex_lock(&u->cf->mu);
    from = strdup(u->cf->key);
    pthread_mutex_unlock(&u->cf->mu);
    if (!r && !from)
        r = -ENOMEM;
    if (!r && u->by_hand)
        r = by_hand_copy(u, from, etag, step->length, &by_hand, err);
    else if (!r)
        r = oss->ops->copy(oss, from, u->target, &opts, &u->result, err);
    if (r == -ESTALE && u->copy_only && !u->by_hand) {
        /* The same bytes with attributes that another host has given them: they go along, unseen. */
        opts.if_unmodified_since = 0;
        u->unsure = true;
        r = oss->ops->copy(oss, from, u->target, &opts, &u->result, err);
    }
    free(from);
    kv_free(&headers);
    return r;
}

/* Parts take their time: just before what an earlier daemon left replaces the object, another look at that. */
static int check_again(struct upload *u, struct oss_error *err)
{
    struct oss_object now = {0};
    int r = recover_check(u->cf, &now, err);

    oss_object_free(&now);
    return r;
}

bool upload_await_base(struct upload *u, size_t i, cache_done *done, void *arg)
{
    char *key, etag[OSS_ETAG_SIZE];
    bool foreign;
    bool waits = !find_base(u->cf, u->plan.steps[i].base, &key, etag, &foreign);

    if (waits && !u->copy_only)
        replace_end(u->cf); /* nobody is to wait for who waits */
    waits = waits && replace_await(u->cf, key, done, arg);
    free(key);
    return waits;
}

int upload_step(struct upload *u, size_t i, struct oss_error *err)
{
    const struct plan_step *step = &u->plan.steps[i];
    int r = 0;

    if (u->cf->recovered && step->kind == STEP_COMPLETE)
        r = check_again(u, err);
    if (r)
        return r;
    r = upload_find_kept(u, step, err);
    if (r)
        return r;
    if (upload_phase(step->kind) != 2)
        attr_store_forget(u->cf->cache->attrs, u->target);
    if (upload_phase(step->kind) != 2 && step->kind != STEP_INITIATE && !u->copy_only)
        replace_begin(u->cf);
    switch (step->kind) {
    case STEP_PUT:
        return send(u, step, NULL, err);
    case STEP_APPEND:
        return append_run(u, step, err);
    case STEP_INITIATE:
        return run_initiate(u, err);
    case STEP_PART:
        return send(u, step, &u->parts[i], err);
    case STEP_PART_COPY:
        return run_part_copy(u, step, &u->parts[i], err);
    case STEP_COMPLETE:
        return run_complete(u, err);
    case STEP_COPY_SELF:
        return run_copy(u, step, err);
    case STEP_COPY:
        return run_copy_whole(u, step, err);
    case STEP_FETCH:
        break; /* is no job */
    }
    return -EINVAL;
}
