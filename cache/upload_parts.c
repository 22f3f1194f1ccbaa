/*
 * The parts that are in the bucket already when a plan is made: those of a stream (stream.h), which the upload takes
 * over, and those that an earlier daemon's journal names. The plan is cut along them, so that they fit it whatever
 * the schedule would say today; each is used only if its bytes are those that the file has now.
 */
#include "upload.h"

#include "../oss/crc64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (256u << 10)

/* ------------------------------------------------------------------------------------- an earlier daemon's */

static int by_number(const void *a, const void *b)
{
    const struct journal_part *x = *(struct journal_part *const *)a, *y = *(struct journal_part *const *)b;

    if (x->part.number != y->part.number)
        return x->part.number < y->part.number ? -1 : 1;
    return x < y ? -1 : x > y; /* the record that was written first */
}

/* Adds `count` parts of [at, end); false where such parts cannot be. */
static bool add_between(struct plan_part *v, size_t *n, size_t count, uint64_t at, uint64_t end, uint64_t part_min)
{
    if (count == 0 || end <= at)
        return count == 0 && end == at;
    if ((end - at) / count < part_min)
        return false;
    for (size_t i = 0; i < count; i++) {
        uint64_t length = (end - at) / (count - i);

        v[(*n)++] = (struct plan_part){.offset = at, .length = length};
        at += length;
    }
    return true;
}

/* Those that lie in order from 0 on; what is missing between two is cut so that their numbers fit. */
static struct plan_part *given_before(const struct cfile *cf, size_t *n)
{
    const struct journal_state *old = cf->resume;
    struct journal_part **sorted = calloc(old->n_parts + 1, sizeof(struct journal_part *));
    struct plan_part *v = calloc(OSS_PARTS_MAX + 1, sizeof(*v));
    uint64_t end = 0;

    for (size_t i = 0; sorted && i < old->n_parts; i++)
        sorted[i] = &old->parts[i];
    if (sorted)
        qsort(sorted, old->n_parts, sizeof(struct journal_part *), by_number);
    for (size_t i = 0; sorted && v && i < old->n_parts; i++) {
        const struct journal_part *p = sorted[i];

        if (i + 1 < old->n_parts && sorted[i + 1]->part.number == p->part.number)
            continue;
        if (p->part.number <= (int)*n || p->part.number > OSS_PARTS_MAX || p->part.size == 0 ||
            !add_between(v, n, (size_t)p->part.number - 1 - *n, end, p->offset, cf->cache->config.limits.part_min))
            break;
        v[(*n)++] = (struct plan_part){.offset = p->offset, .length = p->part.size};
        end = p->offset + p->part.size;
    }
    free(sorted);
    return v;
}

/* Is anything of [0, end) not from here? Then the plan was one with copies, and will come out as it was. */
static bool has_base(const struct cfile *cf, uint64_t end)
{
    struct extent ex;

    for (uint64_t at = 0; at < end && extent_map_find(cf->map, at, &ex); at = ex.end)
        if (ex.base != EXTENT_NEW)
            return true;
    return false;
}

struct plan_part *upload_parts_given(const struct cfile *cf, size_t *n)
{
    struct plan_part *v;

    *n = 0;
    if (cf->stream)
        return stream_cut(cf->stream, n);
    if (!cf->resume || cf->resume->n_parts == 0)
        return NULL;
    v = given_before(cf, n);
    if (*n > 0 && has_base(cf, v[*n - 1].offset + v[*n - 1].length))
        *n = 0;
    return v;
}

/* The parts that an earlier daemon sent are those of this plan, as far as they fit it. */
static void take_before(struct upload *u)
{
    const struct journal_state *old = u->cf->resume;

    if (!*old->upload_id)
        return;
    for (size_t i = 0; i < u->plan.n; i++) {
        const struct plan_step *step = &u->plan.steps[i];

        if (upload_phase(step->kind) != 2)
            continue;
        for (size_t k = 0; k < old->n_parts; k++) {
            const struct journal_part *p = &old->parts[k];

            if (p->part.number == step->number && p->offset == step->offset && p->part.size == step->length)
                u->jobs[i].had = p->part; /* a later record of the same number wins */
        }
    }
    memcpy(u->upload_id, old->upload_id, sizeof(u->upload_id));
    u->resumed = true;
    u->streamed = u->attrs_left = old->streamed;
}

/* A part may have been written again after it was sent, and the daemon have died before it was sent again. */
static bool bytes_are(struct cfile *cf, uint64_t offset, uint64_t length, uint64_t wanted)
{
    char *chunk = malloc(CHUNK);
    uint64_t crc = 0;
    int r = chunk ? 0 : -ENOMEM;

    for (uint64_t at = 0; !r && at < length; at += CHUNK) {
        size_t n = length - at < CHUNK ? (size_t)(length - at) : CHUNK;

        r = cfile_pread(cf, chunk, n, offset + at);
        if (!r)
            crc = crc64(crc, chunk, n);
    }
    free(chunk);
    return !r && crc == wanted;
}

bool upload_part_had(struct upload *u, size_t i)
{
    const struct plan_step *step = &u->plan.steps[i];
    const struct oss_part *had = &u->jobs[i].had;

    if (!had->number ||
        (step->kind == STEP_PART && !(had->has_crc && bytes_are(u->cf, step->offset, step->length, had->crc64))))
        return false;
    u->parts[i] = *had;
    progress_add(u->cf, step->length);
    return true;
}

/* ------------------------------------------------------------------------------------------- a stream's */

static bool same_headers(const struct kvlist *a, const struct kvlist *b)
{
    bool same = a->n == b->n;

    for (size_t i = 0; same && i < a->n; i++) {
        const char *value = kv_get(b, a->v[i].name);

        same = value && !strcmp(a->v[i].value, value);
    }
    return same;
}

/* What the object will have is what Initiate said. */
static int take_stream(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct stream *st = cf->stream;
    int r;

    kv_del(&u->headers, "x-oss-meta-mtime");
    kv_del(&u->headers, "x-oss-meta-mtime-ns");
    u->attrs_left = cf->times_set || !same_headers(&u->headers, &st->headers);
    kv_free(&u->headers);
    r = kv_copy(&u->headers, &st->headers);
    if (r)
        return r;
    u->attr = st->attr;
    u->attr.size = u->size;
    u->streamed = true;
    u->stream = st;
    memcpy(u->upload_id, st->id, sizeof(u->upload_id));
    stream_take(cf);
    return 0;
}

int upload_parts_take(struct upload *u)
{
    bool multipart = false;

    for (size_t i = 0; i < u->plan.n; i++)
        multipart = multipart || u->plan.steps[i].kind == STEP_INITIATE;
    if (u->cf->resume)
        take_before(u);
    if (u->cf->stream && multipart && !u->cf->stream->unseen)
        return take_stream(u);
    stream_drop(u->cf);
    return 0;
}

bool upload_part_here(struct upload *u, size_t i)
{
    const struct plan_step *step = &u->plan.steps[i];
    bool here;

    if (!u->stream || step->kind != STEP_PART)
        return false;
    pthread_mutex_lock(&u->cf->mu);
    here = stream_sent(u->stream, step->number, step->offset, step->length, &u->parts[i]);
    pthread_mutex_unlock(&u->cf->mu);
    return here;
}

bool upload_part_joined(struct upload *u, size_t i)
{
    const struct plan_step *step = &u->plan.steps[i];
    bool joined, part = upload_phase(step->kind) == 2;

    if (!u->stream || (!part && step->kind != STEP_INITIATE))
        return false;
    pthread_mutex_lock(&u->cf->mu);
    joined = stream_join(u->stream, part ? step->number : 0, &u->jobs[i].job);
    pthread_mutex_unlock(&u->cf->mu);
    return joined;
}
