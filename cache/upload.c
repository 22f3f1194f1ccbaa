/*
 * The executor of plans: the only code that makes the bucket hold a file.
 *
 * A plan's steps run phase by phase (plan.h), those of one phase in parallel up to parallel_count, each as a job of
 * the worker pool; the completion of one submits the next, nothing waits. A failed step lets the running ones end,
 * then the multipart upload is aborted and the file keeps what is unsent, in state ERROR, for the next flush and
 * for a retry with growing pauses.
 *
 * Content that changes while it is sent. A writer is not stopped; a part or a body whose CRC no longer fits what was
 * announced is refused by the service (InvalidCRC64) and nothing is stored. Such a step is sent again from a copy
 * that is made while writers are kept out for the moment of a local copy.
 */
#include "journal.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_FIRST_MS 5000
#define RETRY_MAX_MS   300000
#define COPY_CHUNK     (1u << 20)

struct upload;

struct step_job {
    struct job job;
    struct upload *u;
    size_t index;
};

struct upload {
    struct job clarify;
    struct change change; /* of an upload; unused by a copy, which runs inside a rename */
    struct cfile *cf;
    struct plan plan;
    struct step_job *jobs;

    pthread_mutex_t mu; /* guards the five below */
    size_t next;        /* the first step not yet started */
    size_t running;
    size_t done;
    int r;                /* the first error */
    struct oss_error err; /* and its cause */

    char *target;          /* key to write */
    struct attr attr;      /* as sent */
    struct kvlist headers; /* as sent, with the attributes; no ACL */
    uint64_t size, data_gen;
    uint32_t epoch;
    char acl[24];    /* to be sent, "" for none */
    bool copy_only;  /* a rename: from the object, to `target` */
    bool replace;    /* with new metadata */
    bool resumed;    /* goes on with an upload of an earlier daemon */
    bool completing; /* CompleteMultipartUpload was sent */
    bool rebased;    /* has started over once already */
    char upload_id[OSS_UPLOADID_SIZE];
    struct oss_part *parts; /* by index of the step */
    struct oss_object result;
    struct oinfo *source;   /* the object as it was when the plan was made, or NULL */
    struct oinfo *replaced; /* what a copy overwrites, or NULL */
    copy_done *copied;
    void *arg;
};

static int phase(enum plan_step_kind kind)
{
    switch (kind) {
    case STEP_FETCH:
        return 0;
    case STEP_PUT:
    case STEP_APPEND:
    case STEP_INITIATE:
        return 1;
    case STEP_PART:
    case STEP_PART_COPY:
        return 2;
    case STEP_COMPLETE:
        return 3;
    case STEP_COPY_SELF:
        return 4;
    }
    return 5;
}

static void upload_free(struct upload *u)
{
    if (!u)
        return;
    plan_free(&u->plan);
    kv_free(&u->headers);
    oss_object_free(&u->result);
    oinfo_put(u->source);
    oinfo_put(u->replaced);
    pthread_mutex_destroy(&u->mu);
    free(u->target);
    free(u->parts);
    free(u->jobs);
    free(u);
}

static struct upload *upload_new(struct cfile *cf)
{
    struct upload *u = calloc(1, sizeof(*u));

    if (!u)
        return NULL;
    u->cf = cf;
    pthread_mutex_init(&u->mu, NULL);
    return u;
}

/* ----------------------------------------------------------------------------------------- preparation */

static int plan_for(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct plan_base *bases = calloc(cf->n_bases + 1, sizeof(*bases));
    struct plan_input in = {
        .map = cf->map,
        .exists = cf->object != NULL,
        .attrs_changed = cf->attr_changed,
        .flushed = cf->flushed,
        .limits = cf->cache->config.limits,
    };
    int r;

    if (!bases)
        return -ENOMEM;
    in.bases = bases;
    for (size_t i = 0; i < cf->n_bases; i++) {
        const struct base *b = &cf->bases[i];

        bases[in.n_bases++] = (struct plan_base){
            .id = b->id,
            .size = b->info->attr.size,
            .appendable = b->info->type == OSS_TYPE_APPENDABLE,
            .copyable = *b->info->etag && b->info->type != OSS_TYPE_SYMLINK,
            .own_key = cfile_is_object(cf, b),
        };
    }
    /* Content that is empty from birth has no extents that could tell that it is new. */
    if (cf->data_gen > cf->data_sent_gen && extent_map_size(cf->map) == 0 && cf->object == NULL)
        in.attrs_changed = true;
    r = plan_make(&in, &u->plan);
    free(bases);
    return r;
}

/* A link or a directory has attributes only: one request changes them, or makes the marker that was not there. */
static int plan_for_other(struct upload *u)
{
    struct cfile *cf = u->cf;

    u->plan.steps = calloc(1, sizeof(*u->plan.steps));
    if (!u->plan.steps)
        return -ENOMEM;
    u->plan.n = 1;
    u->plan.steps[0].kind = S_ISDIR(cf->attr.mode) && !cf->object->is_marker ? STEP_PUT : STEP_COPY_SELF;
    return 0;
}

static int headers_for(struct upload *u)
{
    int r = kv_copy(&u->headers, &u->cf->headers);

    if (!r && S_ISDIR(u->attr.mode) && !kv_get(&u->headers, "content-type"))
        r = kv_set(&u->headers, "content-type", "application/x-directory");
    return r ? r : attr_to_headers(&u->headers, &u->attr);
}

/* The parts that an earlier daemon sent are those of this plan, as far as they fit it. mu held. */
static void go_on(struct upload *u)
{
    const struct journal_state *old = u->cf->resume;

    if (!*old->upload_id)
        return;
    for (size_t i = 0; i < u->plan.n; i++) {
        const struct plan_step *step = &u->plan.steps[i];

        if (phase(step->kind) != 2)
            continue;
        for (size_t k = 0; k < old->n_parts; k++) {
            const struct journal_part *p = &old->parts[k];

            if (p->part.number == step->number && p->offset == step->offset && p->part.size == step->length)
                u->parts[i] = p->part; /* a later record of the same number wins */
        }
    }
    memcpy(u->upload_id, old->upload_id, sizeof(u->upload_id));
    u->resumed = true;
}

/* What is there now becomes the plan. */
static int prepare(struct upload *u)
{
    struct cfile *cf = u->cf;
    int r;

    /* Behind io: whoever has marked a write in the journal has written it, and COMMIT speaks of it. */
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    cf->upload_queued = false;
    u->data_gen = cf->data_gen;
    u->attr = cf->attr;
    u->size = cf->attr.size;
    u->replace = true;
    free(u->target);
    u->target = strdup(cf->key);
    oinfo_put(u->source);
    u->source = oinfo_get(cf->object);
    plan_free(&u->plan);
    kv_free(&u->headers);
    r = u->target ? headers_for(u) : -ENOMEM;
    if (!r)
        r = S_ISREG(cf->attr.mode) || !cf->object ? plan_for(u) : plan_for_other(u);
    if (!r && !(cf->journal_fd >= 0 && cf->journal_committed && cf->data_gen <= cf->data_sent_gen))
        r = journal_commit(cf);
    u->epoch = cf->epoch++;
    cf->upload_gen = cf->gen;
    cf->cut = UINT64_MAX;
    cf->state = CFILE_UPLOADING;
    cf->error = 0;
    cf->absent = false;
    cfile_check(cf);
    free(u->jobs);
    free(u->parts);
    u->jobs = calloc(u->plan.n + 1, sizeof(*u->jobs));
    u->parts = calloc(u->plan.n + 1, sizeof(*u->parts));
    u->next = u->done = 0;
    u->running = 1; /* whoever calls advance() */
    if (!r)
        r = u->jobs && u->parts ? 0 : -ENOMEM;
    if (!r && cf->resume)
        go_on(u);
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    return r;
}

int object_acl(struct cache *cache, const char *key, char acl[24], struct oss_error *err)
{
    int r = cache->oss->ops->get_acl(cache->oss, key, acl, err);

    if (r == -EACCES)
        log_err(
            "the ACL of %s cannot be read, so it cannot be kept: grant oss:GetObjectAcl, or mount with keep_acl=no",
            key);
    if (r || !strcmp(acl, "default"))
        *acl = '\0';
    return r == -ENOENT ? 0 : r;
}

/* The ACL of an object that is about to be replaced or copied, if it has one of its own. On a worker. */
static int find_acl(struct upload *u, struct oss_error *err)
{
    struct cache *cache = u->cf->cache;
    int r = 0;

    if (!cache->config.keep_acl)
        return 0;
    if (u->source && !u->source->acl_default)
        r = object_acl(cache, u->copy_only ? u->cf->key : u->target, u->acl, err);
    if (!r && !*u->acl && u->replaced && !u->replaced->acl_default)
        r = object_acl(cache, u->target, u->acl, err);
    return r;
}

static int with_acl(struct upload *u, struct kvlist *headers)
{
    int r = kv_copy(headers, &u->headers);

    return !r && *u->acl ? kv_set(headers, "x-oss-object-acl", u->acl) : r;
}

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
static bool was_cut(struct cfile *cf, uint64_t end)
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
        return !r && was_cut(b->cf, b->offset + offset + n) ? -EAGAIN : r;
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
    if (!r && was_cut(cf, b->offset + length))
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
    struct oss_source source = {.read = body_read, .arg = &body, .size = step->length};
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    int r = part ? 0 : with_acl(u, &headers);

    for (int attempt = 0; !r && attempt < 2; attempt++) {
        if (!part && (r = announce_put(u, &source)))
            break;
        if (part)
            r = oss->ops->upload_part(oss, u->target, u->upload_id, step->number, &source, part, err);
        else
            r = oss->ops->put(oss, u->target, &source, &opts, &u->result, err);
        if (!r || strcmp(err->code, "InvalidCRC64") || attempt)
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
    struct oss_put_opts opts = {.headers = &u->headers};
    int r = 0;

    if (*u->upload_id)
        return 0; /* gone on with */
    if (!u->copy_only) {
        pthread_mutex_lock(&cf->mu);
        r = journal_intent(cf);
        pthread_mutex_unlock(&cf->mu);
    }
    if (!r)
        r = oss->ops->initiate(oss, u->target, &opts, u->upload_id, err);
    if (!r && !u->copy_only) {
        pthread_mutex_lock(&cf->mu);
        r = journal_upload(cf, u->upload_id);
        pthread_mutex_unlock(&cf->mu);
    }
    return r;
}

static int run_part_copy(struct upload *u, const struct plan_step *step, struct oss_part *part, struct oss_error *err)
{
    struct cfile *cf = u->cf;
    struct oss *oss = cf->cache->oss;
    char etag[OSS_ETAG_SIZE] = "", *from = NULL;
    const struct base *base;
    int r;

    pthread_mutex_lock(&cf->mu);
    base = cfile_base(cf, step->base);
    if (base) {
        from = strdup(base->key);
        memcpy(etag, base->info->etag, sizeof(etag));
    }
    pthread_mutex_unlock(&cf->mu);
    if (!base)
        return -ESTALE;
    if (!from)
        return -ENOMEM;
    r = oss->ops->copy_part(oss, u->target, u->upload_id, step->number, from, etag, step->base_offset, step->length,
                            part, err);
    free(from);
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
        if (phase(step->kind) != 2)
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
    cf->state = CFILE_UPLOADING;
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
    struct kvlist acl = {0};
    struct oss_put_opts opts = {.headers = &acl};
    struct oss_part *parts = calloc(u->plan.n, sizeof(*parts));
    bool has_crc = true;
    uint64_t crc = 0;
    size_t n = 0;
    int r = parts ? 0 : -ENOMEM;

    if (!r && !u->copy_only)
        r = send_changes(u, err);
    for (size_t i = 0; !r && i < u->plan.n; i++) {
        if (phase(u->plan.steps[i].kind) != 2)
            continue;
        parts[n++] = u->parts[i];
        has_crc = has_crc && u->parts[i].has_crc;
        crc = crc64_combine(crc, u->parts[i].crc64, u->plan.steps[i].length);
    }
    if (!r && *u->acl)
        r = kv_set(&acl, "x-oss-object-acl", u->acl);
    if (!r && has_crc && !u->copy_only) {
        pthread_mutex_lock(&u->cf->mu);
        r = journal_final(u->cf, u->size, crc);
        pthread_mutex_unlock(&u->cf->mu);
    }
    u->completing = !r;
    if (!r)
        r = oss->ops->complete(oss, u->target, u->upload_id, parts, n, u->size, has_crc, crc, &opts, &u->result, err);
    if (!r)
        *u->upload_id = '\0'; /* nothing left to abort */
    kv_free(&acl);
    free(parts);
    return r;
}

static int run_copy(struct upload *u, struct oss_error *err)
{
    struct oss *oss = u->cf->cache->oss;
    struct kvlist headers = {0};
    struct oss_copy_opts opts = {.replace = u->replace, .headers = &headers};
    char *from = NULL;
    int r = 0;

    if (u->replace)
        r = with_acl(u, &headers);
    else if (*u->acl)
        r = kv_set(&headers, "x-oss-object-acl", u->acl);
    if (u->source && *u->source->etag)
        opts.if_match = u->source->etag;
    pthread_mutex_lock(&u->cf->mu);
    from = strdup(u->cf->key);
    pthread_mutex_unlock(&u->cf->mu);
    if (!r)
        r = from ? oss->ops->copy(oss, from, u->target, &opts, &u->result, err) : -ENOMEM;
    free(from);
    kv_free(&headers);
    return r;
}

static int run_append(struct upload *u, const struct plan_step *step, struct oss_error *err)
{
    struct oss *oss = u->cf->cache->oss;
    struct body body = {.cf = u->cf, .offset = step->offset, .copy = -1};
    struct oss_source source = {.read = body_read, .arg = &body, .size = step->length};
    struct oss_put_opts opts = {.headers = &u->headers};

    return oss->ops->append(oss, u->target, step->offset, &source, &opts, &u->result, err);
}

/* Parts take their time: just before what an earlier daemon left replaces the object, another look at that. */
static int check_again(struct upload *u, struct oss_error *err)
{
    struct oss_object now = {0};
    int r = recover_check(u->cf, &now, err);

    oss_object_free(&now);
    return r;
}

static int run_step(struct upload *u, size_t i, struct oss_error *err)
{
    const struct plan_step *step = &u->plan.steps[i];
    int r = 0;

    if (phase(step->kind) == 2 && u->parts[i].number == step->number)
        return 0; /* an earlier daemon has sent it */
    if (u->cf->recovered && step->kind == STEP_COMPLETE)
        r = check_again(u, err);
    if (r)
        return r;
    /* Whatever makes or replaces the object first sees to its ACL. */
    if (step->kind == STEP_PUT || step->kind == STEP_INITIATE || step->kind == STEP_COPY_SELF)
        r = find_acl(u, err);
    if (r)
        return r;
    switch (step->kind) {
    case STEP_PUT:
        return send(u, step, NULL, err);
    case STEP_APPEND:
        return run_append(u, step, err);
    case STEP_INITIATE:
        return run_initiate(u, err);
    case STEP_PART:
        return send(u, step, &u->parts[i], err);
    case STEP_PART_COPY:
        return run_part_copy(u, step, &u->parts[i], err);
    case STEP_COMPLETE:
        return run_complete(u, err);
    case STEP_COPY_SELF:
        return run_copy(u, err);
    case STEP_FETCH:
        break; /* is no job */
    }
    return -EINVAL;
}

/* ---------------------------------------------------------------------------------------- the executor */

static void finish(struct upload *u);
static void advance(struct upload *u);

/* `err` has the cause; NULL when it is known elsewhere. */
static void step_ended(struct upload *u, int r, const struct oss_error *err)
{
    pthread_mutex_lock(&u->mu);
    u->done++;
    if (r && !u->r) {
        u->r = r;
        u->err = err ? *err : (struct oss_error){.err = r, .next_position = -1};
    }
    pthread_mutex_unlock(&u->mu);
    advance(u);
}

static void step_run(struct job *job)
{
    struct step_job *s = list_entry(job, struct step_job, job);
    struct oss_error err = {.next_position = -1};
    struct upload *u = s->u;
    const struct plan_step *step = &u->plan.steps[s->index];
    int r = run_step(u, s->index, &err);

    if (!r && phase(step->kind) == 2 && !u->copy_only) {
        pthread_mutex_lock(&u->cf->mu);
        journal_part(u->cf, step->offset, &u->parts[s->index]);
        pthread_mutex_unlock(&u->cf->mu);
    }
    step_ended(u, r, &err);
}

static void step_fetched(void *arg, int r)
{
    struct step_job *s = arg;

    step_ended(s->u, r, NULL);
}

static void step_start(struct upload *u, size_t i)
{
    const struct plan_step *step = &u->plan.steps[i];
    struct step_job *s = &u->jobs[i];
    bool bulk = step->kind == STEP_PART || step->kind == STEP_PUT || step->kind == STEP_APPEND ||
                step->kind == STEP_PART_COPY;

    s->u = u;
    s->index = i;
    s->job.run = step_run;
    if (step->kind == STEP_FETCH)
        fetch_all(u->cf, step->offset, step->offset + step->length, step_fetched, s);
    else
        pool_submit(u->cf->cache->uploads, bulk ? POOL_BULK : POOL_META, &s->job);
}

/*
 * Starts what may start. The caller's own count is in `running` until here, so that nobody else can find nothing
 * running and finish under it; who takes the last one away finishes.
 */
static void advance(struct upload *u)
{
    bool last;

    pthread_mutex_lock(&u->mu);
    while (!u->r && u->next < u->plan.n && u->running - 1 < u->cf->cache->config.parallel_count) {
        const struct plan_step *step = &u->plan.steps[u->next];
        /* Of an earlier phase something is still running: all before `next` are started, not all done. */
        bool barrier =
            u->next > 0 && phase(u->plan.steps[u->next - 1].kind) != phase(step->kind) && u->done < u->next;

        if (barrier)
            break;
        u->running++;
        u->next++;
        pthread_mutex_unlock(&u->mu);
        step_start(u, (size_t)(step - u->plan.steps));
        pthread_mutex_lock(&u->mu);
    }
    u->running--;
    last = u->running == 0;
    pthread_mutex_unlock(&u->mu);
    if (last)
        finish(u);
}

static bool has_step(const struct upload *u, enum plan_step_kind kind)
{
    for (size_t i = 0; i < u->plan.n; i++)
        if (u->plan.steps[i].kind == kind)
            return true;
    return false;
}

/* What the object is now. NULL when out of memory. */
static struct oinfo *new_info(const struct upload *u)
{
    static const struct oss_object nothing;
    struct oinfo *info = u->source && u->copy_only && !u->replace
                             ? oinfo_clone(u->source)
                             : oinfo_from_object(&nothing, &u->cf->cache->config.defaults, false);
    const struct oss_object *result = &u->result;

    if (!info)
        return NULL;
    memcpy(info->etag, result->etag, sizeof(info->etag));
    info->last_modified = result->last_modified ? result->last_modified : result->date;
    info->has_crc = result->has_crc;
    info->crc64 = result->crc64;
    info->acl_default = !*u->acl; /* without one in the request the service sets `default` */
    info->type = has_step(u, STEP_INITIATE) ? OSS_TYPE_MULTIPART : OSS_TYPE_NORMAL;
    if (u->source && has_step(u, STEP_COPY_SELF))
        info->type = u->source->type;
    if (has_step(u, STEP_APPEND))
        info->type = OSS_TYPE_APPENDABLE;
    if (u->copy_only && !u->replace)
        return info;
    info->attr = u->attr;
    info->is_marker = S_ISDIR(u->attr.mode);
    if (u->source && u->source->link)
        info->link = strdup(u->source->link);
    for (size_t i = 0; i < u->headers.n; i++) {
        const struct kv *kv = &u->headers.v[i];

        if (kv_add(&info->headers, kv->name, kv->value)) {
            oinfo_put(info);
            return NULL;
        }
    }
    kv_del(&info->headers, "x-oss-meta-mode");
    kv_del(&info->headers, "x-oss-meta-uid");
    kv_del(&info->headers, "x-oss-meta-gid");
    kv_del(&info->headers, "x-oss-meta-mtime");
    kv_del(&info->headers, "x-oss-meta-mtime-ns");
    return info;
}

/* The bucket holds what was sent: it is the base of all that was not changed since. mu held. */
static int commit(struct upload *u, struct oinfo *info)
{
    struct cfile *cf = u->cf;
    int id = cfile_add_base(cf, u->target, info);
    int r = id < 0 ? id : extent_map_commit(cf->map, u->epoch, id, S_ISREG(info->attr.mode) ? info->attr.size : 0);

    if (r)
        return r;
    cfile_prune_bases(cf);
    oinfo_put(cf->object);
    cf->object = oinfo_get(info);
    cf->sent_gen = cf->upload_gen;
    if (u->data_gen > cf->data_sent_gen) {
        cf->data_sent_gen = u->data_gen;
        cf->flushed += u->size;
    }
    /* Attributes that were changed meanwhile were counted in gen; data alone does not make them differ. */
    cf->attr_changed = cf->gen != cf->upload_gen && cf->attr_changed;
    cf->recovered = false;
    if (cf->gen == cf->upload_gen)
        journal_remove(cf);
    else
        journal_sent(cf);
    cfile_publish(cf);
    return 0;
}

static void schedule_retry(struct cfile *cf)
{
    int64_t pause = RETRY_FIRST_MS;
    bool submit;

    pthread_mutex_lock(&cf->mu);
    for (unsigned i = 1; i < cf->failures && pause < RETRY_MAX_MS; i++)
        pause *= 2;
    submit = !cf->retry_set && !cf->cache->draining;
    cf->retry_set = cf->retry_set || submit;
    pthread_mutex_unlock(&cf->mu);
    if (!submit)
        return;
    cfile_hold(cf);
    pool_submit_after(cf->cache->pool, POOL_META, &cf->retry, pause < RETRY_MAX_MS ? pause : RETRY_MAX_MS);
}

/*
 * The request that makes the object may have been carried out although it failed for us: the next upload looks first.
 * What a COMPLETE would have made is known to the last bit; of a PUT that is sent again whole it does not matter.
 */
static void note_unclear(struct upload *u)
{
    struct cfile *cf = u->cf;
    bool has_crc = true;
    uint64_t crc = 0;

    for (size_t i = 0; i < u->plan.n; i++) {
        if (phase(u->plan.steps[i].kind) != 2)
            continue;
        has_crc = has_crc && u->parts[i].has_crc;
        crc = crc64_combine(crc, u->parts[i].crc64, u->plan.steps[i].length);
    }
    if (!u->completing || !has_crc)
        return;
    pthread_mutex_lock(&cf->mu);
    cf->unclear = true;
    cf->guess = (struct sent_guess){.known = true,
                                    .size = u->size,
                                    .crc64 = crc,
                                    .data_gen = u->data_gen,
                                    .gen = cf->upload_gen,
                                    .epoch = u->epoch};
    pthread_mutex_unlock(&cf->mu);
}

/* State, waiters, and what follows. */
static void settle(struct upload *u, struct oinfo *info, int r)
{
    struct cfile *cf = u->cf;
    struct list served;
    uint64_t gen;
    bool again, timer;

    list_init(&served);
    pthread_mutex_lock(&cf->mu);
    if (!r)
        r = commit(u, info);
    gen = cf->upload_gen;
    cf->upload_gen = 0;
    if (r == -EAGAIN) {
        /* Cut off meanwhile: those who wait are served by the next one. */
        gen = 0;
        cf->state = CFILE_DIRTY;
    } else if (r) {
        cf->state = CFILE_ERROR;
        cf->error = r;
        cf->failures++;
    } else {
        cf->state = cf->gen == cf->sent_gen ? CFILE_CLEAN : CFILE_DIRTY;
        cf->failures = 0;
    }
    list_for_each_safe (it, &cf->waiters) {
        if (list_entry(it, struct waiter, link)->gen <= gen) {
            list_del(it);
            list_add_tail(&served, it);
        }
    }
    /* Who came later is served by an upload of its own; a file whose last handle is closed already, too. */
    again = !cf->orphan && (!list_empty(&cf->waiters) || (cf->state == CFILE_DIRTY && cf->opens == 0)) &&
            cfile_upload_want(cf);
    timer = !again && cfile_timer_want(cf); /* attributes that were changed meanwhile, of an open file */
    cfile_check(cf);
    pthread_mutex_unlock(&cf->mu);
    if (timer)
        cfile_timer_start(cf);
    if (r && r != -EAGAIN)
        schedule_retry(cf);
    evict_account(cf);
    list_for_each_safe (it, &served) {
        struct waiter *w = list_entry(it, struct waiter, link);

        w->done(w->arg, r);
        free(w);
    }
    if (again)
        cfile_upload_start(cf);
}

/* An attribute change met an object that another host replaced: it is meant for the new one. */
static bool start_over(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct cache *cache = cf->cache;
    struct oss_object object = {0};
    struct oss_error err;
    struct oinfo *info;
    bool again = false;

    if (u->copy_only || u->cf->recovered || u->rebased || u->r != -ESTALE || u->plan.n != 1 ||
        u->plan.steps[0].kind != STEP_COPY_SELF)
        return false;
    if (cache->oss->ops->head(cache->oss, u->target, &object, &err))
        return false;
    info = oinfo_from_object(&object, &cache->config.defaults, S_ISDIR(u->attr.mode));
    oss_object_free(&object);
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (info && cf->data_gen <= cf->data_sent_gen && cf->opens == 0)
        again = cfile_rebase(cf, info) == 0;
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    oinfo_put(info);
    u->rebased = true;
    return again;
}

/* The multipart upload, an earlier daemon's or our own, is over. */
static void drop_resume(struct upload *u)
{
    struct cfile *cf = u->cf;

    pthread_mutex_lock(&cf->mu);
    if (!u->copy_only && (u->resumed || has_step(u, STEP_INITIATE)))
        journal_end(cf);
    if (cf->resume) {
        journal_state_free(cf->resume);
        free(cf->resume);
        cf->resume = NULL;
    }
    pthread_mutex_unlock(&cf->mu);
}

/* All steps have ended. On a worker, or on the thread that found nothing to do. */
static void finish(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct oss *oss = cf->cache->oss;
    struct oinfo *info = NULL;
    struct oss_error ignored;

    if (u->resumed && u->r == -ENOENT) {
        /* The upload was aborted meanwhile, by a lifecycle rule for one: from the start then. */
        *u->upload_id = '\0';
        drop_resume(u);
        u->resumed = false;
        u->r = prepare(u);
        advance(u);
        return;
    }
    if (u->r && *u->upload_id && oss->ops->abort(oss, u->target, u->upload_id, &ignored))
        cache_log_error("aborting the upload", u->target, &ignored);
    *u->upload_id = '\0';
    drop_resume(u);
    if (u->r && start_over(u)) {
        u->r = prepare(u);
        advance(u);
        return;
    }
    if (u->r && u->r != -EAGAIN)
        cache_log_error(u->copy_only ? "copying to" : "sending", u->target, &u->err);
    if (!u->r)
        info = u->plan.n ? new_info(u) : oinfo_get(u->source);
    if (!u->r && !info)
        u->r = -ENOMEM;
    if (u->copy_only) {
        u->copied(u->arg, u->r, info);
    } else {
        bool conflict = u->r == -ESTALE && cf->recovered;

        if (u->r)
            note_unclear(u);
        settle(u, info, u->r);
        if (conflict)
            recover_keep_aside(cf);
        cfile_change_done(&u->change);
    }
    oinfo_put(info);
    upload_free(u);
}

/* ---------------------------------------------------------------------------------------------- the face */

/* The bucket holds what was guessed: the base of what is still to be sent. mu held. */
static int adopt(struct cfile *cf, struct oss_object *now)
{
    struct oinfo *info = oinfo_from_object(now, &cf->cache->config.defaults, false);
    int id = info ? cfile_add_base(cf, cf->key, info) : -ENOMEM;
    int r = id < 0 ? id : extent_map_commit(cf->map, cf->guess.epoch, id, now->size);

    if (!r) {
        cfile_prune_bases(cf);
        oinfo_put(cf->object);
        cf->object = oinfo_get(info);
        cf->data_sent_gen = cf->guess.data_gen;
        cf->epoch++;
        /* Its attributes went with it. */
        if (cf->gen == cf->guess.gen)
            cf->attr_changed = false;
        cf->unclear = cf->recovered = false;
        log_info("%s: the bucket had carried out what it did not answer", cf->key);
    }
    oinfo_put(info);
    return r;
}

/*
 * Did the bucket do what it did not answer? And for what an earlier daemon left: is the object still the one that it
 * had?
 */
static void clarify_run(struct job *job)
{
    struct upload *u = list_entry(job, struct upload, clarify);
    struct cfile *cf = u->cf;
    struct oss_object now = {0};
    struct oss_error err = {.next_position = -1};
    bool guessed;
    int r = recover_check(cf, &now, &err);

    pthread_mutex_lock(&cf->mu);
    guessed = cf->guess.known && now.has_crc && now.crc64 == cf->guess.crc64 && now.size == cf->guess.size;
    if ((!r || r == -ESTALE) && guessed)
        r = adopt(cf, &now);
    else if (!r || (r == -ESTALE && !cf->recovered))
        r = cf->unclear = false; /* as before; or somebody else's, and the last writer wins */
    pthread_mutex_unlock(&cf->mu);
    oss_object_free(&now);
    u->r = prepare(u);
    if (r && !u->r) {
        u->r = r;
        u->err = err;
    }
    advance(u);
}

static void upload_begin(struct change *change)
{
    struct upload *u = list_entry(change, struct upload, change);
    struct cfile *cf = u->cf;
    bool unneeded, unclear;

    pthread_mutex_lock(&cf->mu);
    unneeded = cf->orphan || cf->gen == cf->sent_gen;
    unclear = cf->unclear;
    if (unneeded)
        cf->upload_queued = false;
    pthread_mutex_unlock(&cf->mu);
    if (unclear && !unneeded) {
        u->clarify.run = clarify_run;
        pool_submit(cf->cache->uploads, POOL_META, &u->clarify);
        return;
    }
    if (unneeded) {
        cfile_change_done(&u->change);
        upload_free(u);
        return;
    }
    u->r = prepare(u);
    advance(u);
}

bool cfile_upload_want(struct cfile *cf)
{
    if (cf->upload_queued)
        return false;
    cf->upload_queued = true;
    return true;
}

void cfile_upload_start(struct cfile *cf)
{
    struct upload *u = upload_new(cf);

    while (!u) { /* a few hundred bytes; the bytes of a file hang on them */
        sleep(1);
        u = upload_new(cf);
    }
    u->change.begin = upload_begin;
    cfile_change(cf, &u->change);
}

void upload_copy(struct cfile *cf, const char *to, struct oinfo *replaced, copy_done *done, void *arg)
{
    struct upload *u = upload_new(cf);
    int r = u ? 0 : -ENOMEM;

    if (!r) {
        u->copy_only = true;
        u->copied = done;
        u->replaced = oinfo_get(replaced);
        u->arg = arg;
        pthread_mutex_lock(&cf->mu);
        u->source = oinfo_get(cf->object);
        u->attr = cf->attr;
        u->size = u->source ? u->source->attr.size : 0;
        u->target = strdup(to);
        r = u->target ? headers_for(u) : -ENOMEM;
        /* Only what the object itself lacks; unsent content follows by its own upload. */
        u->attr.size = u->size;
        u->replace = cf->attr_changed && cf->data_gen <= cf->data_sent_gen;
        if (!r)
            r = plan_copy(u->source && u->source->is_marker ? 0 : u->size,
                          cf->n_bases ? cf->bases[cf->n_bases - 1].id : 0, &cf->cache->config.limits, &u->plan);
        pthread_mutex_unlock(&cf->mu);
    }
    if (!r) {
        u->jobs = calloc(u->plan.n + 1, sizeof(*u->jobs));
        u->parts = calloc(u->plan.n + 1, sizeof(*u->parts));
        u->running = 1;
        r = u->jobs && u->parts ? 0 : -ENOMEM;
    }
    if (r) {
        upload_free(u);
        done(arg, r, NULL);
        return;
    }
    advance(u);
}
