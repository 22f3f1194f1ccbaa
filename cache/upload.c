/*
 * The executor of plans: the only code that makes the bucket hold a file.
 *
 * A plan's steps run phase by phase (plan.h), those of one phase in parallel up to parallel_count, each as a job of
 * the worker pool; the completion of one submits the next, nothing waits. A failed step lets the running ones end,
 * then the multipart upload is aborted and the file keeps what is unsent, in state ERROR, for the next flush and
 * for a retry with growing pauses.
 */
#include "append.h"
#include "strays.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_FIRST_MS 5000
#define RETRY_MAX_MS   300000

int upload_phase(enum plan_step_kind kind)
{
    switch (kind) {
    case STEP_FETCH:
        return 0;
    case STEP_PUT:
    case STEP_APPEND:
    case STEP_COPY:
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
    free(u->tagging);
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

int upload_headers(struct kvlist *out, const struct kvlist *headers, const struct attr *attr)
{
    int r = kv_copy(out, headers);

    if (!r && S_ISDIR(attr->mode) && !kv_get(out, "content-type"))
        r = kv_set(out, "content-type", "application/x-directory");
    return r ? r : attr_to_headers(out, attr);
}

/* On an appendable object the mtime is good for one length only. */
static int pin_mtime(struct upload *u)
{
    bool appendable = upload_has_step(u, STEP_APPEND) ||
                      (upload_has_step(u, STEP_COPY_SELF) && u->source && u->source->type == OSS_TYPE_APPENDABLE);

    return appendable ? attr_mtime_for_size(&u->headers, u->size) : 0;
}

/* Is the object to be replaced, and were those who stand in it not told yet? mu held. */
static bool is_unsaved(const struct upload *u)
{
    return !u->saved && u->cf->object && u->cf->data_gen > u->cf->data_sent_gen;
}

/* Of the plan as it is now; none is started. false: no memory. */
static bool jobs_new(struct upload *u)
{
    free(u->jobs);
    free(u->parts);
    u->jobs = calloc(u->plan.n + 1, sizeof(*u->jobs));
    u->parts = calloc(u->plan.n + 1, sizeof(*u->parts));
    u->next = u->done = 0;
    u->running = 1; /* whoever calls advance() */
    return u->jobs && u->parts;
}

/* Why it may not be planned now, as prepare() answers it, or 0. mu held. */
static int not_yet(const struct upload *u)
{
    if (is_unsaved(u))
        return -EBUSY;
    return append_unfinished(u->cf) ? -EINPROGRESS : 0;
}

/*
 * What is there now becomes the plan. -EINPROGRESS: not in the middle of a write, in a moment. -EBUSY: the content
 * was changed since it was last looked at, and other files stand in the object that is there (share.c).
 */
static int prepare(struct upload *u)
{
    struct cfile *cf = u->cf;
    int r;

    /* Behind io: whoever has marked a write in the journal has written it, and COMMIT speaks of it. */
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    r = not_yet(u);
    if (r) {
        pthread_mutex_unlock(&cf->mu);
        pthread_rwlock_unlock(&cf->io);
        return r;
    }
    u->appended = (struct appended){0};
    cf->upload_queued = false;
    u->data_gen = cf->data_gen;
    u->attr = cf->attr;
    u->size = cf->attr.size;
    u->replace = true;
    u->completed = u->streamed = u->attrs_left = false;
    free(u->target);
    u->target = strdup(cf->key);
    oinfo_put(u->source);
    u->source = oinfo_get(cf->object);
    u->tagged = u->source && (u->source->tagged || (cf->recovered && cf->base_tagged));
    plan_free(&u->plan);
    kv_free(&u->headers);
    r = u->target ? upload_headers(&u->headers, &cf->headers, &u->attr) : -ENOMEM;
    if (!r && (S_ISREG(cf->attr.mode) || !cf->object))
        r = upload_plan_content(u);
    else if (!r && (cf->attr_changed || cf->data_gen > cf->data_sent_gen))
        r = upload_plan_attributes(u);
    if (!r)
        r = upload_describe(u);
    if (!r)
        r = pin_mtime(u);
    if (!r && !(cf->journal_fd >= 0 && cf->journal_committed && cf->data_gen <= cf->data_sent_gen))
        r = journal_commit(cf);
    u->epoch = cf->epoch++;
    cf->upload_gen = cf->gen;
    cf->cut = UINT64_MAX;
    cfile_event(cf, CFILE_ON_BEGIN);
    cf->error = 0;
    cf->absent = false;
    cfile_check(cf);
    if (!jobs_new(u) && !r)
        r = -ENOMEM;
    if (!r)
        r = upload_parts_take(u);
    /* What a stream has sent of it counts. */
    if (u->stream)
        cf->progress.total = upload_plan_bytes(&u->plan);
    else
        progress_begin(cf, upload_plan_bytes(&u->plan));
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    return r;
}

/* ---------------------------------------------------------------------------------------- the executor */

#define PIECE_POLL_MS 20

static void finish(struct upload *u);
static void advance(struct upload *u);

static void start(struct upload *u, int r);
static void start_run(struct job *job);

static void start_saved(void *arg, int r)
{
    struct upload *u = arg;

    u->saved = true;
    space_pause(u->cf->cache, -1);
    start(u, r ? r : u->r);
}

/*
 * The content was changed while the upload was on its way to its plan. One that is beginning anew does not wait for
 * other files' uploads, which may wait for it: another one comes in its place.
 */
static void save_first(struct upload *u, int r)
{
    struct cfile *cf = u->cf;
    bool anew;

    pthread_mutex_lock(&cf->mu);
    anew = cf->upload_gen != 0;
    pthread_mutex_unlock(&cf->mu);
    u->r = anew && !r ? -EAGAIN : r;
    if (anew) {
        finish(u);
        return;
    }
    space_pause(cf->cache, 1);
    space_wake(cf->cache);
    share_save(cf, start_saved, u);
}

/* Plans, and goes to work; `r`: it is known already that it fails with this, for the reason in u->err. */
static void start(struct upload *u, int r)
{
    int planned;

    replace_end(u->cf); /* it may begin anew */
    planned = prepare(u);
    if (planned == -EBUSY) {
        save_first(u, r);
        return;
    }
    if (planned == -EINPROGRESS) {
        u->r = r;
        u->clarify.run = start_run;
        pool_submit_after(u->cf->cache->uploads, POOL_META, &u->clarify, PIECE_POLL_MS);
        return;
    }
    u->r = planned ? planned : r;
    advance(u);
}

static void start_run(struct job *job)
{
    struct upload *u = list_entry(job, struct upload, clarify);

    start(u, u->r);
}

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

static void step_again(void *arg, int r)
{
    struct step_job *s = arg;

    (void)r;
    pool_submit(s->u->cf->cache->uploads, POOL_BULK, &s->job);
}

static void step_run(struct job *job)
{
    struct step_job *s = list_entry(job, struct step_job, job);
    struct oss_error err = {.next_position = -1};
    struct upload *u = s->u;
    const struct plan_step *step = &u->plan.steps[s->index];
    bool known = upload_part_here(u, s->index) || upload_part_had(u, s->index);
    int r = known ? 0 : upload_step(u, s->index, &err);

    if (r == -EINPROGRESS) {
        if (!upload_await_base(u, s->index, step_again, s))
            step_again(s, 0);
        return;
    }
    if (!r && upload_phase(step->kind) == 2 && !u->copy_only && !known) {
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
    if (upload_part_joined(u, i))
        return;
    if (step->kind == STEP_FETCH)
        space_wake(u->cf->cache); /* one that is there already may wait for room, and this upload for it */
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
        bool barrier = u->next > 0 && upload_phase(u->plan.steps[u->next - 1].kind) != upload_phase(step->kind) &&
                       u->done < u->next;

        if (barrier)
            break;
        if (upload_part_here(u, u->next)) {
            u->next++;
            u->done++;
            continue;
        }
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

bool upload_has_step(const struct upload *u, enum plan_step_kind kind)
{
    for (size_t i = 0; i < u->plan.n; i++)
        if (u->plan.steps[i].kind == kind)
            return true;
    return false;
}

/* What the journal has to say of it. mu held. */
static void journal_landed(const struct upload *u)
{
    struct cfile *cf = u->cf;

    if (cf->gen == cf->sent_gen) {
        journal_remove(cf);
    } else if (u->attrs_left && cf->gen == cf->upload_gen) {
        /* SENT would say for a moment that the attributes are, too. */
        journal_key(cf, cf->key, cf->object);
        journal_commit(cf);
    } else {
        journal_sent(cf);
    }
}

/* The bucket holds what was sent: it is the base of all that was not changed since. mu held. */
static int commit(struct upload *u, struct oinfo *info)
{
    struct cfile *cf = u->cf;
    int id, r;

    if (u->appended.moved) {
        r = append_move_map(cf, info, u->appended.from + u->appended.length, u->appended.keep);
    } else {
        id = cfile_add_base(cf, u->target, info);
        r = id < 0 ? id : extent_map_commit(cf->map, u->epoch, id, S_ISREG(info->attr.mode) ? info->attr.size : 0);
    }
    if (r)
        return r;
    if (!u->appended.moved) {
        cfile_prune_bases(cf);
        oinfo_put(cf->object);
        cf->object = oinfo_get(info);
    }
    if (!u->appended.landed)
        cf->append_refused = false;
    cf->sent_gen = cf->upload_gen - u->attrs_left;
    cf->squeezed = cf->segments_refused = false;
    if (cf->segment_next < u->size)
        cf->segment_next = u->size;
    if (u->streamed && !cf->times_set && cf->data_gen == u->data_gen)
        cf->attr.mtime = info->attr.mtime;
    if (u->data_gen > cf->data_sent_gen) {
        cf->data_sent_gen = u->data_gen;
        cf->flushed += u->appended.landed ? u->appended.length : u->size;
    }
    /* Attributes that were changed meanwhile were counted in gen; data alone does not make them differ. */
    cf->attr_changed = u->attrs_left || (cf->gen != cf->upload_gen && cf->attr_changed);
    cf->recovered = false;
    cfile_take_headers(cf, info, cf->gen != cf->upload_gen || u->attrs_left);
    journal_landed(u);
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
    if (pause > RETRY_MAX_MS)
        pause = RETRY_MAX_MS;
    submit = !cf->retry_set && !cf->cache->draining;
    cf->retry_set = cf->retry_set || submit;
    if (cf->failure && submit)
        cf->failure->next_ms = clock_ms() + pause;
    pthread_mutex_unlock(&cf->mu);
    if (!submit)
        return;
    cfile_hold(cf);
    pool_submit_after(cf->cache->pool, POOL_META, &cf->retry, pause);
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
        if (upload_phase(u->plan.steps[i].kind) != 2)
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
                                    .epoch = u->epoch,
                                    .attrs_left = u->attrs_left};
    pthread_mutex_unlock(&cf->mu);
}

/* State, waiters, and what follows. */
static void settle(struct upload *u, struct oinfo *info, int r)
{
    struct cfile *cf = u->cf;
    /* Stored, and so nothing is unsent: but whoever wants to know hears that the application was not told. */
    int told = u->result.callback_failed && cf->cache->config.callback_errors ? -EREMOTEIO : 0;
    struct list served, ended;
    bool moved = u->appended.moved;
    uint64_t gen;
    bool again, timer;

    list_init(&served);
    list_init(&ended);
    if (moved)
        pthread_rwlock_wrlock(&cf->io);
    if (!r && moved)
        r = append_move_bytes(cf, info, u->appended.from + u->appended.length);
    pthread_mutex_lock(&cf->mu);
    if (!r)
        r = commit(u, info);
    if (r && u->appended.landed)
        append_note_landed(u);
    gen = cf->upload_gen;
    cf->upload_gen = 0;
    progress_end(cf);
    if (r == -EAGAIN) {
        /* Cut off meanwhile: those who wait are served by the next one. */
        gen = 0;
        cfile_event(cf, CFILE_ON_CUT);
    } else if (r) {
        cfile_event(cf, r == -ESTALE ? CFILE_ON_CONFLICT : CFILE_ON_FAILED);
        cf->error = r;
        cf->failures++;
        failure_note(cf, &u->err, r);
    } else {
        failure_clear(cf);
        if (u->attrs_left)
            gen = 0; /* who waits, waits for them too */
        cfile_event(cf, u->attrs_left ? CFILE_ON_DONE_PARTLY : CFILE_ON_DONE);
        cf->failures = 0;
    }
    list_for_each_safe (it, &cf->waiters) {
        if (list_entry(it, struct waiter, link)->gen <= gen) {
            list_del(it);
            list_add_tail(&served, it);
        }
    }
    list_splice_tail(&ended, &cf->ended_waiters);
    /* Who came later is served by an upload of its own; a file whose last handle is closed already, too. */
    again = !cf->orphan && (!list_empty(&cf->waiters) || (cf->state == CFILE_DIRTY && cf->opens == 0)) &&
            cfile_upload_want(cf);
    timer = !again && cfile_timer_want(cf); /* attributes that were changed meanwhile, of an open file */
    cfile_check(cf);
    pthread_mutex_unlock(&cf->mu);
    if (moved)
        pthread_rwlock_unlock(&cf->io);
    if (timer)
        cfile_timer_start(cf);
    if (r && r != -EAGAIN)
        schedule_retry(cf);
    evict_account(cf);
    waiters_serve(&served, r ? r : told);
    list_for_each_safe (it, &ended) {
        struct waiter *w = list_entry(it, struct waiter, link);

        w->done(w->arg, 0); /* which may free it */
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
    if (info && cf->data_gen <= cf->data_sent_gen) {
        if (cf->object && !strcmp(cf->object->etag, info->etag))
            again = cfile_take_attributes(cf, info); /* only attributes were changed there, too */
        else if (cf->opens == 0)
            again = cfile_rebase(cf, info) == 0;
    }
    if (again && !cf->fields_changed)
        cf->attr_changed = false; /* we had none of our own */
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
    oinfo_put(info);
    u->rebased = true;
    return again;
}

/* The service does not copy an object that the file stands in: those bytes are fetched and sent. */
static bool without_copies(struct upload *u)
{
    bool refused = u->r == -ENOTSUP || u->r == -EACCES || u->r == -EFBIG || u->r == -EINVAL;
    struct cfile *cf = u->cf;
    bool again = false;

    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; !u->copy_only && refused && i < cf->n_bases; i++) {
        again = again || (cf->bases[i].foreign && !cf->bases[i].no_copy);
        cf->bases[i].no_copy = cf->bases[i].no_copy || cf->bases[i].foreign;
    }
    pthread_mutex_unlock(&cf->mu);
    return again;
}

/* The multipart upload, an earlier daemon's or our own, is over. */
static void drop_resume(struct upload *u)
{
    struct cfile *cf = u->cf;

    pthread_mutex_lock(&cf->mu);
    if (!u->copy_only && (u->resumed || upload_has_step(u, STEP_INITIATE)))
        journal_end(cf, u->upload_id);
    if (cf->resume) {
        journal_state_free(cf->resume);
        free(cf->resume);
        cf->resume = NULL;
    }
    pthread_mutex_unlock(&cf->mu);
}

/* One line for each upload. */
static void log_sent(const struct upload *u)
{
    struct cfile *cf = u->cf;
    int64_t ms;

    if (!u->plan.n || !log_enabled(LOG_LEVEL_INFO))
        return;
    pthread_mutex_lock(&cf->mu);
    ms = cf->progress.since_ms ? clock_ms() - cf->progress.since_ms : 0;
    pthread_mutex_unlock(&cf->mu);
    log_info("%s %s: %llu bytes in %zu requests, %lld ms", u->copy_only ? "copied to" : "sent", u->target,
             (unsigned long long)upload_plan_bytes(&u->plan), u->plan.n, (long long)ms);
}

/*
 * The multipart upload, if there was one, is completed or aborted. A stream's is aborted when the last of its parts
 * has come back.
 */
static void end_upload(struct upload *u)
{
    struct stream *st = u->stream;
    bool own = !st || strcmp(st->id, u->upload_id);

    if (u->stray && u->completed)
        stray_end(u->stray);
    else if (u->stray)
        stray_abort(u->stray);
    else if (own && !u->completed && *u->upload_id)
        upload_abort(u->cf->cache, u->target, u->upload_id);
    u->stray = NULL;
    if (own || u->completed)
        drop_resume(u);
    *u->upload_id = '\0';
    u->stream = NULL;
    if (st)
        stream_finish(st, u->completed);
}

/* The upload was aborted meanwhile, by a lifecycle rule for one: from the start then, once. */
static bool upload_vanished(const struct upload *u)
{
    if (u->r != -ENOENT || u->copy_only || u->begun_anew)
        return false;
    return u->resumed || u->stream || (*u->upload_id && !strcmp(u->err.code, "NoSuchUpload"));
}

/* An earlier daemon left attributes of what has been removed since: they go with it. */
static bool gone_with_object(const struct upload *u)
{
    struct cfile *cf = u->cf;
    bool gone = u->r && !u->copy_only && u->err.status == 404 && !strcmp(u->err.code, "NoSuchKey");

    pthread_mutex_lock(&cf->mu);
    gone = gone && cf->recovered && cf->data_gen <= cf->data_sent_gen;
    pthread_mutex_unlock(&cf->mu);
    return gone;
}

/* An upload of the file, not a copy for a rename, has ended; `gone`: with the object. */
static void file_ended(struct upload *u, struct oinfo *info, bool gone)
{
    struct cfile *cf = u->cf;
    bool conflict = u->r == -ESTALE && cf->recovered;
    bool refresh = !u->r && upload_has_step(u, STEP_COPY_SELF) && refresh_needed(u->source, info);

    if (refresh)
        info->young = true;
    if (u->r)
        note_unclear(u);
    settle(u, info, u->r);
    replace_end(cf);
    if (refresh)
        refresh_later(cf, info);
    if (gone)
        cfile_orphan(cf);
    else if (conflict)
        recover_keep_aside(cf);
    cfile_change_done(&u->change);
}

/* All steps have ended. On a worker, or on the thread that found nothing to do. */
static void finish(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct cache *cache = cf->cache;
    struct oinfo *info = NULL;
    bool lost = upload_vanished(u), gone;

    if (!u->r)
        info = u->plan.n ? upload_result(u) : oinfo_get(u->source);
    if (!u->r && !info)
        u->r = -ENOMEM;
    end_upload(u);
    if (lost) {
        u->resumed = false;
        u->begun_anew = true;
        start(u, 0);
        return;
    }
    if (u->r && by_hand_retry(u)) {
        if (u->copy_only)
            advance(u);
        else
            start(u, 0);
        return;
    }
    if (u->r && (start_over(u) || without_copies(u) || append_retry(u))) {
        start(u, 0);
        return;
    }
    gone = gone_with_object(u);
    if (gone) {
        log_info("%s was removed, and with it the attributes that were to be sent", u->target);
    } else if (u->copy_only && (u->r == -ENOENT || u->r == -ESTALE)) {
        log_info("copying to %s: what was to be renamed is gone", u->target); /* the loser of a race */
    } else if (u->r && u->r != -EAGAIN) {
        if (!u->err.err) /* no request has failed */
            u->err.err = u->r;
        cache_log_error(u->copy_only ? "copying to" : "sending", u->target, &u->err);
        note_refused(cf->cache, &u->err);
    }
    if (!u->r)
        log_sent(u);
    /* The same bytes under a new ETag. */
    if (!u->r && !u->copy_only && u->source && upload_has_step(u, STEP_COPY_SELF)) {
        share_fence(cf);
        share_repoint(cf->cache, u->target, u->source->etag, u->target, info->etag);
    }
    if (u->copy_only) {
        pthread_mutex_lock(&cf->mu);
        progress_end(cf);
        pthread_mutex_unlock(&cf->mu);
        u->copied(u->arg, u->r, info);
    } else {
        file_ended(u, info, gone);
        space_end(cache);
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
        /* Its attributes went with it, unless it was begun before they were known. */
        if (cf->gen == cf->guess.gen)
            cf->attr_changed = cf->guess.attrs_left;
        cf->unclear = cf->recovered = false;
        log_info("%s: the bucket had carried out what it did not answer", cf->key);
    }
    oinfo_put(info);
    return r;
}

/*
 * A file made by one CopyObject has the CRC of what it was copied from, which need not have been known before: that
 * is asked now. Its attributes are sent again.
 */
static void guess_copy(struct cfile *cf, const struct oss_object *now)
{
    struct oss_object from = {0};
    struct oss_error ignored;
    const struct base *base = NULL;
    char etag[OSS_ETAG_SIZE] = "", *key = NULL;
    struct extent ex;

    pthread_mutex_lock(&cf->mu);
    if (!cf->guess.known && extent_map_size(cf->map) == now->size && extent_map_find(cf->map, 0, &ex) && !ex.local &&
        ex.end == now->size && ex.base_offset == 0)
        base = cfile_base(cf, ex.base);
    if (base && (key = strdup(base->key)))
        memcpy(etag, base->info->etag, sizeof(etag));
    pthread_mutex_unlock(&cf->mu);
    if (key && !cf->cache->oss->ops->head(cf->cache->oss, key, &from, &ignored) && !strcmp(from.etag, etag) &&
        from.has_crc && from.crc64 == now->crc64) {
        pthread_mutex_lock(&cf->mu);
        cf->guess = (struct sent_guess){.known = true,
                                        .size = now->size,
                                        .crc64 = now->crc64,
                                        .data_gen = cf->data_gen,
                                        .gen = cf->gen,
                                        .epoch = cf->epoch,
                                        .attrs_left = true};
        pthread_mutex_unlock(&cf->mu);
    }
    oss_object_free(&from);
    free(key);
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
    bool guessed, appends;
    int r = recover_check(cf, &now, &err);

    if (r == -ESTALE && cf->recovered && now.has_crc)
        guess_copy(cf, &now);
    pthread_mutex_lock(&cf->mu);
    appends = append_only(cf) || cf->doubt.open;
    cf->base_tagged = kv_get(&now.headers, "x-oss-tagging-count") != NULL;
    guessed = cf->guess.known && now.has_crc && now.crc64 == cf->guess.crc64 && now.size == cf->guess.size;
    if ((!r || r == -ESTALE) && guessed) {
        r = adopt(cf, &now);
    } else if (appends) {
        pthread_mutex_unlock(&cf->mu);
        r = append_clarify(cf, r, &now, &err);
        pthread_mutex_lock(&cf->mu);
        if (!r)
            cf->unclear = false;
    } else if (!r || (r == -ESTALE && !cf->recovered)) {
        r = cf->unclear = false; /* as before; or somebody else's, and the last writer wins */
    }
    pthread_mutex_unlock(&cf->mu);
    oss_object_free(&now);
    u->err = err;
    start(u, r);
}

/* Goes to its plan; behind a question when it is not clear what the bucket has. */
static void start_clear(struct upload *u, int r)
{
    struct cfile *cf = u->cf;
    bool unclear;

    pthread_mutex_lock(&cf->mu);
    unclear = cf->unclear;
    pthread_mutex_unlock(&cf->mu);
    if (unclear && !r) {
        u->clarify.run = clarify_run;
        pool_submit(cf->cache->uploads, POOL_META, &u->clarify);
        return;
    }
    start(u, r);
}

static void upload_saved(void *arg, int r)
{
    struct upload *u = arg;

    u->saved = true;
    space_pause(u->cf->cache, -1);
    start_clear(u, r);
}

static void upload_begin(struct change *change)
{
    struct upload *u = list_entry(change, struct upload, change);
    struct cfile *cf = u->cf;
    struct cache *cache = cf->cache;
    bool unneeded, replaces, settles;

    pthread_mutex_lock(&cf->mu);
    unneeded = cf->orphan || cf->gen == cf->sent_gen;
    replaces = is_unsaved(u);
    if (unneeded)
        cf->upload_queued = false;
    settles = !unneeded && segment_settle(cf, change);
    pthread_mutex_unlock(&cf->mu);
    if (settles)
        return; /* begun again when they are bases */
    if (unneeded) {
        cfile_change_done(&u->change);
        space_end(cache);
        space_pause(cache, -1);
        upload_free(u);
        return;
    }
    if (replaces) {
        share_save(cf, upload_saved, u);
        return;
    }
    space_pause(cache, -1);
    start_clear(u, 0);
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
    space_pause(cf->cache, 1); /* until its turn has come */
    space_begin(cf->cache);
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
        u->target = strdup(to);
        pthread_mutex_lock(&cf->mu);
        r = u->target ? upload_plan_copy(u) : -ENOMEM;
        pthread_mutex_unlock(&cf->mu);
    }
    if (r) {
        upload_free(u);
        done(arg, r, NULL);
        return;
    }
    advance(u);
}
