/* Appends on their way: append.h says how. */
#include "append.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_PAUSE_MS 1000         /* a write goes on within it, also on a busy machine */
#define LOST_MAX       5            /* tries after a lost reply, for one upload */
#define LOST_PAUSE_MS  50           /* after the first one, then twice as long each time */
#define PLACES_MAX     10000        /* ends of the object that other writers took before us */
#define RETRIES_MAX    5            /* of an upload that found another object than it was planned for */
#define LOOK_MAX       (256u << 10) /* bytes that are rather fetched than asked about */
#define PROOF_MAX      (1u << 20)
#define CHUNK          (64u << 10)

/* -------------------------------------------------------------------------------------- what is unsent */

bool append_only(const struct cfile *cf)
{
    return cf->data_gen > cf->data_sent_gen && cf->plain_gen <= cf->data_sent_gen && S_ISREG(cf->attr.mode) &&
           extent_map_size(cf->map) > 0;
}

bool append_planned(const struct cfile *cf)
{
    return append_only(cf) && !cf->append_refused && cf->attr.size <= cf->cache->config.limits.append_max;
}

bool append_unfinished(const struct cfile *cf)
{
    return cf->append_until && clock_ms() < cf->append_until;
}

void cfile_append_over(struct cfile *cf, pid_t by)
{
    pthread_mutex_lock(&cf->mu);
    if (cf->append_by == by)
        cf->append_until = 0;
    pthread_mutex_unlock(&cf->mu);
}

/* Is what was appended to be sent although nobody asked? mu held. */
static bool sent_by_timer(const struct cfile *cf)
{
    return append_planned(cf) && !cf->orphan && !cf->cache->draining &&
           (!cf->object || cf->object->type == OSS_TYPE_APPENDABLE);
}

bool append_written(struct cfile *cf, const struct append_write *how)
{
    cf->append_until = how->more ? clock_ms() + PIECE_PAUSE_MS : 0;
    cf->append_by = how->by;
    if (cf->append_timer_set || cf->cache->config.append_flush_ms <= 0 || !sent_by_timer(cf))
        return false;
    cf->append_timer_set = true;
    return true;
}

static void timer_run(struct job *job)
{
    struct cfile *cf = list_entry(job, struct cfile, append_timer);
    bool start = false, again;

    pthread_mutex_lock(&cf->mu);
    again = cf->state == CFILE_REDIRTIED && sent_by_timer(cf);
    cf->append_timer_set = again;
    if (cf->state == CFILE_DIRTY && sent_by_timer(cf))
        start = cfile_upload_want(cf);
    pthread_mutex_unlock(&cf->mu);
    if (again)
        append_timer_start(cf);
    if (start)
        cfile_upload_start(cf);
    cfile_release(cf);
}

void append_timer_start(struct cfile *cf)
{
    cf->append_timer.run = timer_run;
    cfile_hold(cf);
    pool_submit_after(cf->cache->pool, POOL_META, &cf->append_timer, cf->cache->config.append_flush_ms);
}

/* -------------------------------------------------------------------------------------------- one append */

struct attempt {
    struct upload *u;
    uint64_t from, length; /* of the bytes in the file */
    uint64_t position;     /* where they are to go */
    uint64_t crc64;        /* of the bytes as they were last read */
    uint64_t at, sum;      /* the reading that is under way: how far, and the CRC so far */
    bool lost;             /* a try at `position` may have been carried out */
    bool moved;            /* other writers' bytes are in between */
    unsigned places;
};

/* Notes the CRC of what is read: the client's last reading of all is what was sent. */
static int read_bytes(void *arg, uint64_t offset, void *to, size_t n)
{
    struct attempt *a = arg;
    int r = cfile_pread(a->u->cf, to, n, a->from + offset);

    if (!r && upload_was_cut(a->u->cf, a->from + offset + n))
        r = -EAGAIN;
    if (r)
        return r;
    if (offset == 0)
        a->at = a->sum = 0;
    if (offset == a->at) {
        a->sum = crc64(a->sum, to, n);
        a->at += n;
        if (a->at == a->length)
            a->crc64 = a->sum;
    }
    return 0;
}

static int read_once(struct attempt *a)
{
    char *chunk = malloc(CHUNK);
    int r = chunk ? 0 : -ENOMEM;

    for (uint64_t at = 0; !r && at < a->length; at += CHUNK)
        r = read_bytes(a, at, chunk, a->length - at < CHUNK ? (size_t)(a->length - at) : CHUNK);
    free(chunk);
    return r;
}

/* The CRC that the whole object must have, if nobody else appended; false when the one of its beginning is unknown.
 */
static bool expected_crc(const struct attempt *a, uint64_t *crc)
{
    const struct oinfo *base = a->u->source;

    if (a->from > 0 && !(base && base->has_crc && base->attr.size == a->from))
        return false;
    *crc = crc64_combine(a->from ? base->crc64 : 0, a->crc64, a->length);
    return true;
}

/* The bytes are in the object, which u->result describes. */
static void note_landed(struct attempt *a)
{
    struct upload *u = a->u;
    uint64_t size = u->result.size;

    a->moved = a->moved || size != a->from + a->length;
    u->appended = (struct appended){.landed = true,
                                    .moved = a->moved,
                                    .from = a->from,
                                    .length = a->length,
                                    .position = a->position,
                                    .size = size,
                                    .crc64 = a->crc64};
}

static int look_at_whole(struct attempt *a, struct oss_error *err)
{
    struct upload *u = a->u;
    struct oss *oss = u->cf->cache->oss;
    struct oss_object now = {0};
    int r = oss->ops->head(oss, u->target, &now, err);

    if (!r && now.size < a->position + a->length)
        r = -ESTALE;
    if (r) {
        oss_object_free(&now);
        return r;
    }
    oss_object_free(&u->result);
    u->result = now;
    return 0;
}

/* The service has answered that it took the bytes. Is the object what we think? */
static int check_reply(struct attempt *a, struct oss_error *err)
{
    struct upload *u = a->u;
    uint64_t crc = 0;
    bool known = !a->moved && expected_crc(a, &crc);
    int r = 0;

    if (!*u->result.etag || (known && u->result.has_crc && u->result.crc64 != crc)) {
        r = look_at_whole(a, err);
        if (!r && known && u->result.size == a->from + a->length && u->result.has_crc && u->result.crc64 != crc) {
            log_warn("%s: what was there before is not what was known of it; it is read anew", u->target);
            a->moved = true;
        }
    }
    if (!r)
        note_landed(a);
    return r;
}

/* After a lost reply the object is long enough to have the bytes: has it? 1, 0 or an error. */
static int is_there(struct attempt *a, struct oss_error *err)
{
    struct upload *u = a->u;
    struct oss_object now = {0};
    uint64_t crc, n;
    int r;

    if (a->length > LOOK_MAX && !a->moved && expected_crc(a, &crc)) {
        r = look_at_whole(a, err);
        if (r)
            return r == -ESTALE || r == -ENOENT ? 0 : r;
        if (u->result.size == a->from + a->length && u->result.has_crc && u->result.crc64 == crc) {
            note_landed(a);
            return 1;
        }
    }
    r = append_look(u->cf->cache, u->target, NULL, a->position, a->length, &n, &crc, &now, err);
    if (r || n != a->length || crc != a->crc64 || now.type != OSS_TYPE_APPENDABLE) {
        oss_object_free(&now);
        return r == -ERANGE || r == -ENOENT ? 0 : r;
    }
    oss_object_free(&u->result);
    u->result = now;
    note_landed(a);
    return 1;
}

/* Refused: the object ends at `next`. 1: the bytes are in it; 0: to be sent again, at a->position; else an error. */
static int refused(struct attempt *a, uint64_t next, struct oss_error *err)
{
    struct cfile *cf = a->u->cf;
    bool older;
    int r;

    pthread_mutex_lock(&cf->mu);
    older = cf->doubt.open;
    pthread_mutex_unlock(&cf->mu);
    if (older || next < a->position || ++a->places > PLACES_MAX)
        return -ESTALE;
    if (a->lost && next >= a->position + a->length) {
        r = is_there(a, err);
        if (r)
            return r;
    }
    a->lost = false;
    if (next > a->position && !a->u->source)
        return -ESTALE; /* there is an object after all, with attributes of its own */
    a->moved = a->moved || next > a->position;
    a->position = next;
    return 0;
}

/* Sends until the bytes are in the object, or it is not known how to go on. */
static int send(struct attempt *a, struct oss_error *err)
{
    struct upload *u = a->u;
    struct cfile *cf = u->cf;
    struct oss *oss = cf->cache->oss;
    const struct oss_source source = {.read = read_bytes, .arg = a, .size = a->length, .sent = &cf->progress.sent};
    struct kvlist headers = {0};
    const struct oss_put_opts opts = {.headers = &headers};
    uint64_t noted = UINT64_MAX;
    unsigned lost = 0;
    bool forbid;
    int r = upload_request_headers(u, HEADERS_APPEND, &headers, &forbid);

    for (;;) {
        if (!r && noted != a->position) {
            pthread_mutex_lock(&cf->mu);
            r = journal_append(cf, a->position, a->from, a->length, a->crc64);
            pthread_mutex_unlock(&cf->mu);
            noted = a->position;
        }
        if (r)
            break;
        r = oss->ops->append(oss, u->target, a->position, &source, &opts, &u->result, err);
        a->lost = a->lost || (r && err->ambiguous);
        if (!r) {
            r = check_reply(a, err);
            break;
        }
        if (r == -EBADE) {
            r = refused(a, err->next_position < 0 ? 0 : (uint64_t)err->next_position, err);
            if (r) {
                r = r > 0 ? 0 : r;
                break;
            }
        } else if (!err->ambiguous || r == -ECANCELED || r == -EAGAIN || lost == LOST_MAX) {
            break;
        } else {
            usleep((useconds_t)(LOST_PAUSE_MS * 1000) << lost++);
            r = 0;
        }
    }
    kv_free(&headers);
    return r;
}

/*
 * Others have appended. While somebody reads the file here, it is worth a request to prove that what is local of its
 * beginning is still the object's: the bytes in between give the CRC of the whole.
 */
static bool prove_beginning(struct attempt *a)
{
    struct upload *u = a->u;
    struct cfile *cf = u->cf;
    uint64_t gap = a->position - a->from, n, crc;
    struct oss_error ignored;
    bool served;

    pthread_mutex_lock(&cf->mu);
    served = cf->served;
    pthread_mutex_unlock(&cf->mu);
    if (!served || gap == 0 || gap > PROOF_MAX || u->appended.size != a->position + a->length || !u->result.has_crc ||
        !u->source || !u->source->has_crc || u->source->attr.size != a->from)
        return false;
    if (append_look(cf->cache, u->target, u->result.etag, a->from, gap, &n, &crc, NULL, &ignored) || n != gap)
        return false;
    crc = crc64_combine(u->source->crc64, crc, gap);
    return crc64_combine(crc, a->crc64, a->length) == u->result.crc64;
}

int append_run(struct upload *u, const struct plan_step *step, struct oss_error *err)
{
    struct cfile *cf = u->cf;
    struct attempt a = {.u = u, .from = step->offset, .length = step->length, .position = step->offset};
    int r = read_once(&a);

    if (!r)
        r = send(&a, err);
    pthread_mutex_lock(&cf->mu);
    if (!r) {
        cf->doubt.open = false;
    } else if (a.lost) {
        cf->doubt = (struct append_doubt){.open = true,
                                          .position = a.position,
                                          .from = a.from,
                                          .length = a.length,
                                          .crc64 = a.crc64,
                                          .gen = cf->upload_gen,
                                          .data_gen = u->data_gen};
        cf->unclear = true;
    }
    pthread_mutex_unlock(&cf->mu);
    if (!r && u->appended.moved) {
        u->appended.keep = prove_beginning(&a);
        log_info("%s: others have appended; %llu bytes went to %llu", u->target, (unsigned long long)a.length,
                 (unsigned long long)a.position);
    }
    return r;
}

/* --------------------------------------------------------------------- another object than was thought */

/* Do the bytes of the doubtful append stand in the object? Then `now` is what it is by now. 1, 0 or an error. */
static int doubt_landed(struct cfile *cf, const char *key, const struct append_doubt *doubt, struct oss_object *now,
                        struct oss_error *err)
{
    struct oss_object object = {0};
    uint64_t n = 0, crc = 0;
    int r;

    if (!doubt->open || now->type != OSS_TYPE_APPENDABLE || now->size < doubt->position + doubt->length)
        return 0;
    r = append_look(cf->cache, key, NULL, doubt->position, doubt->length, &n, &crc, &object, err);
    if (!r && n == doubt->length && crc == doubt->crc64 && object.type == OSS_TYPE_APPENDABLE) {
        oss_object_free(now);
        *now = object;
        return 1;
    }
    oss_object_free(&object);
    return r == -ERANGE || r == -ENOENT ? 0 : r;
}

/* The doubtful append was carried out: what was sent with it is sent. mu held. */
static void doubt_sent(struct cfile *cf, const struct append_doubt *doubt)
{
    cf->data_sent_gen = doubt->data_gen;
    if (cf->gen == doubt->gen && doubt->from == 0 && doubt->position == 0)
        cf->attr_changed = false; /* it made the object */
    log_info("%s: the bucket had carried out what it did not answer", cf->key);
}

/*
 * The file was changed in other ways too since the append that was carried out: its base is the longer object now,
 * and everything dirty stays so.
 */
static int extend_base(struct cfile *cf, const struct append_doubt *doubt, const struct oss_object *now)
{
    struct oinfo *info;

    if (now->size != doubt->position + doubt->length || doubt->position != doubt->from)
        return -ESTALE;
    info = oinfo_from_object(now, &cf->cache->config.defaults, false);
    if (!info)
        return -ENOMEM;
    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; i < cf->n_bases; i++) {
        if (!cfile_is_object(cf, &cf->bases[i]))
            continue;
        oinfo_put(cf->bases[i].info);
        cf->bases[i].info = oinfo_get(info);
    }
    oinfo_put(cf->object);
    cf->object = oinfo_get(info);
    cf->doubt.open = false;
    journal_key(cf, cf->key, cf->object);
    pthread_mutex_unlock(&cf->mu);
    oinfo_put(info);
    return 0;
}

/* What was appended here goes to the end of another object than it was written for; NULL: of a new one. */
static int rebase_on(struct cfile *cf, const struct append_doubt *landed, uint64_t from, struct oss_object *now)
{
    struct oinfo *info = now ? oinfo_from_object(now, &cf->cache->config.defaults, false) : NULL;
    int r = !now || info ? 0 : -ENOMEM;
    bool same;

    if (!r) {
        pthread_rwlock_wrlock(&cf->io);
        pthread_mutex_lock(&cf->mu);
        same =
            info && cf->object && !strcmp(cf->object->etag, info->etag) && cf->object->attr.size == info->attr.size;
        pthread_mutex_unlock(&cf->mu);
        r = append_rebase(cf, info, from, same, true);
        pthread_rwlock_unlock(&cf->io);
    }
    if (!r) {
        pthread_mutex_lock(&cf->mu);
        if (landed)
            doubt_sent(cf, landed);
        cf->doubt.open = false;
        cf->unclear = cf->recovered = false;
        cf->append_refused = false;
        if (!landed)
            log_info("%s: the object is another by now; what was appended here goes to its end", cf->key);
        pthread_mutex_unlock(&cf->mu);
    }
    oinfo_put(info);
    return r;
}

int append_clarify(struct cfile *cf, int r, struct oss_object *now, struct oss_error *err)
{
    char key[OSS_KEY_MAX + 2];
    struct append_doubt doubt;
    bool only, recovered, exists = *now->etag, other_type = false;
    uint64_t from = 0, base_size;
    int landed;

    if (r && r != -ESTALE)
        return r;
    pthread_mutex_lock(&cf->mu);
    doubt = cf->doubt;
    only = append_only(cf) && append_start(cf, &from);
    recovered = cf->recovered;
    base_size = cf->object ? cf->object->attr.size : 0;
    other_type = cf->object && exists && cf->object->type != now->type;
    strcpy(key, cf->key);
    pthread_mutex_unlock(&cf->mu);
    if (!r && !(only && other_type))
        return 0; /* as it was. A late append is met by the next one, which then asks again */
    landed = exists ? doubt_landed(cf, key, &doubt, now, err) : 0;
    if (landed < 0)
        return landed;
    if (landed)
        return only ? rebase_on(cf, &doubt, doubt.from + doubt.length, now) : extend_base(cf, &doubt, now);
    /* From an earlier daemon's time only what is certain: nothing is lost by appending. */
    if (!only || (r && recovered && (!exists || now->type != OSS_TYPE_APPENDABLE || now->size < base_size)))
        return -ESTALE;
    return rebase_on(cf, NULL, from, exists ? now : NULL);
}

/* The service takes no more appends to this object: it is too long, or sealed. */
static bool refuse_appends(struct upload *u)
{
    struct cfile *cf = u->cf;
    bool sure;

    pthread_mutex_lock(&cf->mu);
    sure = !cf->doubt.open;
    cf->append_refused = sure;
    pthread_mutex_unlock(&cf->mu);
    if (sure)
        log_info("%s: no more is appended to this object; it is sent as a whole", u->target);
    return sure;
}

void append_note_landed(const struct upload *u)
{
    const struct appended *a = &u->appended;
    struct cfile *cf = u->cf;

    cf->unclear = true;
    cf->doubt = (struct append_doubt){.open = true,
                                      .position = a->position,
                                      .from = a->from,
                                      .length = a->length,
                                      .crc64 = a->crc64,
                                      .gen = cf->upload_gen,
                                      .data_gen = u->data_gen};
}

bool append_retry(struct upload *u)
{
    struct cfile *cf = u->cf;
    bool appending = u->plan.n > 0 && u->plan.steps[0].kind == STEP_APPEND && !u->appended.landed;
    struct oss_object now = {0};
    struct oss_error err = {.next_position = -1};
    uint64_t from;
    bool only;
    int r;

    if (u->copy_only || u->turns++ >= RETRIES_MAX)
        return false;
    /* Not appendable, but an appendable object: it says so of its own accord, as when it is sealed. */
    if (appending && u->r == -EPROTOTYPE && u->turns > 2)
        return refuse_appends(u);
    if (appending && (u->r == -EINVAL || u->r == -EFBIG || u->r == -ENOTSUP))
        return refuse_appends(u);
    if (u->r != -ESTALE && u->r != -EPROTOTYPE && u->r != -ENOENT)
        return false;
    pthread_mutex_lock(&cf->mu);
    if (u->appended.landed)
        append_note_landed(u);
    only = append_only(cf) && append_start(cf, &from);
    pthread_mutex_unlock(&cf->mu);
    if (!only)
        return false;
    r = append_clarify(cf, recover_check(cf, &now, &err), &now, &err);
    oss_object_free(&now);
    return !r;
}
