#include "plan_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* What is being judged, and the step that the judge is at. */
struct judge {
    const struct plan_input *in;
    const struct plan *plan;
    size_t at;
    uint64_t size;
    const struct plan_base *own;
    bool unchanged;
};

static char problem[512];

__attribute__((format(printf, 2, 3))) static bool wrong(const struct judge *j, const char *format, ...)
{
    char text[300];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(problem, sizeof(problem), "step %zu of %zu: %s", j->at, j->plan->n, text);
    return false;
}

static const struct plan_base *base_of(const struct plan_input *in, int id)
{
    for (size_t i = 0; i < in->n_bases; i++)
        if (in->bases[i].id == id)
            return &in->bases[i];
    return NULL;
}

static const struct plan_step *current(const struct judge *j)
{
    return j->at < j->plan->n ? &j->plan->steps[j->at] : NULL;
}

static bool is_at(const struct judge *j, enum plan_step_kind kind)
{
    return current(j) && current(j)->kind == kind;
}

static bool copyable_extent(const struct plan_input *in, const struct extent *e)
{
    return e->base != EXTENT_NEW && base_of(in, e->base) && base_of(in, e->base)->copyable;
}

/* Do the bytes [start, end) of the file stand in `base`, from `base_offset` on? */
static bool stands_at(const struct plan_input *in, uint64_t start, uint64_t end, int base, uint64_t base_offset)
{
    struct extent e;

    for (uint64_t at = start; at < end; at = e.end) {
        if (!extent_map_find(in->map, at, &e) || e.base != base)
            return false;
        if (e.base_offset + (at - e.start) != base_offset + (at - start))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------- fetches */

/* The fetches: each begins and ends with remote bytes of its base; those it passes over are local. */
static bool judge_fetches(struct judge *j)
{
    uint64_t end = 0;

    for (; is_at(j, STEP_FETCH); j->at++) {
        const struct plan_step *s = current(j);
        uint64_t stop = s->offset + s->length, at = s->offset;
        struct extent e;

        if (s->length == 0 || stop > j->size || s->offset < end)
            return wrong(j, "fetch empty, out of order or beyond the end");
        while (extent_map_next_remote(j->in->map, at, stop, &e)) {
            if (at == s->offset ? e.start != at : e.start - at >= j->in->limits.part_min)
                return wrong(j, "fetch begins with, or passes over too many local bytes");
            if (e.base != s->base || e.base_offset - s->base_offset != e.start - s->offset)
                return wrong(j, "fetch of bytes that stand elsewhere");
            at = e.end;
        }
        if (at != stop)
            return wrong(j, "fetch ends with local bytes");
        end = stop;
    }
    return true;
}

/* Every remote byte of [start, end), which is sent, is fetched before. *fetch: where to look on, ranges ascend. */
static bool judge_sent(struct judge *j, uint64_t start, uint64_t end, size_t *fetch)
{
    const struct plan_step *steps = j->plan->steps;
    struct extent e;

    while (extent_map_next_remote(j->in->map, start, end, &e)) {
        while (*fetch < j->plan->n && steps[*fetch].kind == STEP_FETCH &&
               steps[*fetch].offset + steps[*fetch].length <= e.start)
            ++*fetch;
        if (*fetch >= j->plan->n || steps[*fetch].kind != STEP_FETCH || steps[*fetch].offset > e.start)
            return wrong(j, "sends remote bytes at %llu that were not fetched", (unsigned long long)e.start);
        start = e.end;
        if (steps[*fetch].offset + steps[*fetch].length < e.end)
            start = steps[*fetch].offset + steps[*fetch].length;
    }
    return true;
}

/* --------------------------------------------------------------------------------------------- multipart */

/* Counts so high that the planner may have to do what it otherwise must not? A generous estimate. */
static bool pressed(const struct judge *j)
{
    const struct plan_limits *l = &j->in->limits;
    uint64_t part = plan_part_size(j->size, l->part_size, l);
    uint64_t least = part < l->part_min ? l->part_min : part;

    return 2 * extent_map_count(j->in->map) + j->size / least + j->size / l->copy_max + 4 > l->parts_max;
}

/*
 * [start, end) is sent. A copyable range in it is waste, unless too short to be left when its two neighbours have
 * each taken what they lack: at most part_min - 1 bytes, and part_min must remain.
 */
static bool judge_waste(struct judge *j, uint64_t start, uint64_t end)
{
    uint64_t part_min = j->in->limits.part_min;
    uint64_t from = 0, delta = 0;
    int base = EXTENT_NEW;
    struct extent e;

    if (pressed(j))
        return true;
    for (uint64_t at = start; at < end && extent_map_find(j->in->map, at, &e); at = e.end) {
        uint64_t stop = e.end < end ? e.end : end;

        if (!copyable_extent(j->in, &e)) {
            base = EXTENT_NEW;
            continue;
        }
        if (base != e.base || delta != e.base_offset - e.start) {
            from = at;
            base = e.base;
            delta = e.base_offset - e.start;
        }
        if (stop - from >= 3 * part_min - 2)
            return wrong(j, "sends %llu bytes at %llu that could be copied", (unsigned long long)(stop - from),
                         (unsigned long long)from);
    }
    return true;
}

/* The row of parts: numbers, cover, sizes. */
static bool judge_part(struct judge *j, int number, uint64_t offset)
{
    const struct plan_limits *l = &j->in->limits;
    const struct plan_step *s = current(j);
    bool last = s->offset + s->length == j->size;

    if (s->number != number)
        return wrong(j, "number %d instead of %d", s->number, number);
    if (s->offset != offset || s->length == 0 || s->length > j->size - offset)
        return wrong(j, "gap, overlap, empty or beyond the end");
    if (s->length > l->part_max || (s->length < l->part_min && !last))
        return wrong(j, "part of %llu bytes", (unsigned long long)s->length);
    if (s->kind == STEP_PART)
        return true;
    if (!base_of(j->in, s->base) || !base_of(j->in, s->base)->copyable)
        return wrong(j, "copies from a base that does not allow it");
    if (s->base_offset + s->length > base_of(j->in, s->base)->size)
        return wrong(j, "copies from beyond the base's end");
    if (!stands_at(j->in, s->offset, s->offset + s->length, s->base, s->base_offset))
        return wrong(j, "copies other bytes than the file's");
    return true;
}

/* Neighbours that could have been one request. */
static bool judge_split(struct judge *j, const struct plan_step *s, const struct plan_step *next)
{
    const struct plan_limits *l = &j->in->limits;
    uint64_t part = plan_part_size(j->size, l->part_size, l);

    if (s->kind != next->kind)
        return true;
    if (s->kind == STEP_PART && s->length + next->length <= (part < l->part_min ? l->part_min : part))
        return wrong(j, "two parts that could be one");
    if (s->kind == STEP_PART_COPY && s->base == next->base && s->base_offset + s->length == next->base_offset &&
        s->length + next->length <= (l->copy_max < l->part_max ? l->copy_max : l->part_max))
        return wrong(j, "two copies that could be one");
    return true;
}

/* Copies over copy_max are right only when copies within it would have been too many parts. */
static bool judge_long_copies(struct judge *j, size_t first, size_t end)
{
    const struct plan_step *steps = j->plan->steps;
    uint64_t copy_max = j->in->limits.copy_max, parts = 0, run = 0;
    bool longer = false;

    for (size_t i = first; i < end; i++) {
        if (steps[i].kind == STEP_PART) {
            parts++;
            continue;
        }
        longer |= steps[i].length > copy_max;
        run += steps[i].length;
        if (i + 1 < end && steps[i + 1].kind == STEP_PART_COPY && steps[i + 1].base == steps[i].base &&
            steps[i + 1].base_offset == steps[i].base_offset + steps[i].length)
            continue;
        parts += (run + copy_max - 1) / copy_max;
        run = 0;
    }
    j->at = end;
    return !longer || parts > j->in->limits.parts_max ? true : wrong(j, "copies over copy_max without need");
}

static bool judge_multipart(struct judge *j)
{
    size_t fetch = 0, first;
    uint64_t offset = 0, sent_from = 0;
    int number = 0;

    if (!is_at(j, STEP_INITIATE))
        return wrong(j, "initiate expected");
    first = ++j->at;
    for (; is_at(j, STEP_PART) || is_at(j, STEP_PART_COPY); j->at++) {
        const struct plan_step *s = current(j);

        if (!judge_part(j, ++number, offset))
            return false;
        offset += s->length;
        if (s->kind == STEP_PART) {
            if (!judge_sent(j, s->offset, offset, &fetch) || !judge_waste(j, sent_from, offset))
                return false;
        } else {
            sent_from = offset;
        }
        if (j->at > first && !judge_split(j, s - 1, s))
            return false;
    }
    if (offset != j->size)
        return wrong(j, "the parts end at %llu", (unsigned long long)offset);
    if (number == 0 || (unsigned)number > j->in->limits.parts_max)
        return wrong(j, "%d parts", number);
    if (!judge_long_copies(j, first, j->at))
        return false;
    if (!is_at(j, STEP_COMPLETE))
        return wrong(j, "complete expected");
    j->at++;
    return true;
}

/* No fetch for bytes that no part sends: a fetch lies within neighbouring parts. */
static bool judge_needless_fetches(struct judge *j)
{
    const struct plan_step *steps = j->plan->steps;
    size_t part = 0;

    for (size_t i = 0; i < j->plan->n && steps[i].kind == STEP_FETCH; i++) {
        uint64_t at = steps[i].offset, end = at + steps[i].length;

        for (; part < j->plan->n && at < end; part++) {
            uint64_t stop = steps[part].offset + steps[part].length;

            if ((steps[part].kind != STEP_PART && steps[part].kind != STEP_PUT) || stop <= at)
                continue;
            if (steps[part].offset > at)
                break;
            at = stop;
            if (stop > end)
                break;
        }
        j->at = i;
        if (at < end)
            return wrong(j, "fetches what is not sent");
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------- rules */

static bool judge_copy_self(struct judge *j)
{
    const struct plan_step *s = current(j);

    if (!is_at(j, STEP_COPY_SELF) || !j->own || !j->own->copyable)
        return wrong(j, "copy onto itself expected, or not possible");
    if (s->base != j->own->id || s->length != j->size)
        return wrong(j, "copy onto itself of something else");
    j->at++;
    return true;
}

static bool copy_self_allowed(const struct judge *j)
{
    return j->own->copyable && (j->in->limits.copy_self_max == 0 || j->size <= j->in->limits.copy_self_max);
}

/* Another object that has all of the file's bytes, and that one request can copy. */
static const struct plan_base *whole_elsewhere(const struct judge *j)
{
    for (size_t i = 0; i < j->in->n_bases; i++) {
        const struct plan_base *b = &j->in->bases[i];

        if (j->size > 0 && j->size <= j->in->limits.copy_max && b->copyable && !b->own_key && b->size == j->size &&
            stands_at(j->in, 0, j->size, b->id, 0))
            return b;
    }
    return NULL;
}

static bool judge_copy(struct judge *j, const struct plan_base *from)
{
    const struct plan_step *s = current(j);

    if (!is_at(j, STEP_COPY) || s->base != from->id || s->length != j->size)
        return wrong(j, "copy of the whole of another object expected");
    j->at++;
    return true;
}

static bool append_expected(const struct judge *j)
{
    uint64_t from = j->own ? j->own->size : 0;
    struct extent e;

    if (!j->in->only_appends || j->size == 0 || j->size > j->in->limits.append_max)
        return false;
    if (j->in->exists) {
        if (!j->own || !j->own->appendable || j->size <= from || !stands_at(j->in, 0, from, j->own->id, 0))
            return false;
        if (j->in->attrs_changed && !copy_self_allowed(j))
            return false;
    }
    for (uint64_t at = from; at < j->size; at = e.end)
        if (!extent_map_find(j->in->map, at, &e) || e.base != EXTENT_NEW)
            return false;
    return true;
}

static bool judge_append(struct judge *j)
{
    const struct plan_step *s = current(j);
    uint64_t from = j->own ? j->own->size : 0;

    if (!is_at(j, STEP_APPEND) || s->offset != from || s->length != j->size - from)
        return wrong(j, "append of the new bytes expected");
    j->at++;
    return j->own && j->in->attrs_changed ? judge_copy_self(j) : true;
}

static bool judge_put(struct judge *j)
{
    const struct plan_step *s = current(j);
    size_t fetch = 0;

    if (!is_at(j, STEP_PUT) || s->offset != 0 || s->length != j->size)
        return wrong(j, "put of the whole file expected");
    j->at++;
    return judge_sent(j, 0, j->size, &fetch);
}

/* Is there a range that a multipart upload could copy, with all that its neighbours might need taken off? */
static bool long_copyable_range(const struct judge *j, uint64_t length)
{
    struct extent e, first = {.base = EXTENT_NEW};

    for (uint64_t at = 0; extent_map_find(j->in->map, at, &e); at = e.end) {
        if (!copyable_extent(j->in, &e)) {
            first.base = EXTENT_NEW;
            continue;
        }
        if (first.base != e.base || e.base_offset - first.base_offset != e.start - first.start)
            first = e;
        if (e.end - first.start >= length)
            return true;
    }
    return false;
}

static bool judge_whole(struct judge *j)
{
    const struct plan_limits *l = &j->in->limits;
    bool by_copy = j->unchanged && j->own->copyable;
    bool small = j->size == 0 || (j->size <= l->multipart_threshold && j->size <= OSS_PUT_MAX);
    bool thrifty = by_copy || j->in->only_appends || j->in->flushed > 4 * j->size;
    struct plan_cost cost;

    if (!judge_fetches(j))
        return false;
    if (small && is_at(j, STEP_PUT)) {
        if (thrifty && !pressed(j) && long_copyable_range(j, 3 * l->part_min))
            return wrong(j, "a put, where little had to be sent");
        return judge_put(j);
    }
    if (small && !thrifty)
        return wrong(j, "put expected");
    if (!judge_multipart(j))
        return false;
    cost = plan_cost(j->plan);
    if (small && cost.copied < l->part_min)
        return wrong(j, "multipart that copies nothing instead of a put");
    return true;
}

static bool judge_plan(struct judge *j)
{
    bool good;

    if (j->unchanged && !j->in->attrs_changed)
        return j->plan->n == 0 ? true : wrong(j, "steps where nothing changed");
    if (j->unchanged && copy_self_allowed(j))
        good = judge_copy_self(j);
    else if (whole_elsewhere(j))
        good = judge_copy(j, whole_elsewhere(j));
    else if (append_expected(j))
        good = judge_append(j);
    else
        good = judge_whole(j);
    if (!good)
        return false;
    if (j->at != j->plan->n)
        return wrong(j, "a step too many");
    return judge_needless_fetches(j);
}

static bool judge_error(struct judge *j, int r)
{
    const struct plan_limits *l = &j->in->limits;

    if (j->plan->n != 0 || j->plan->steps)
        return wrong(j, "error with steps");
    if (r == -EFBIG && (j->size > l->object_max || j->size > l->parts_max * l->part_max))
        return true;
    return wrong(j, "error %d", r);
}

const char *plan_check(const struct plan_input *in, const struct plan *plan, int r)
{
    struct judge j = {.in = in, .plan = plan, .size = extent_map_size(in->map)};

    for (size_t i = 0; i < in->n_bases && in->exists; i++)
        if (in->bases[i].own_key)
            j.own = &in->bases[i];
    j.unchanged = j.own && j.own->size == j.size && stands_at(in, 0, j.size, j.own->id, 0);
    if (r < 0)
        return judge_error(&j, r) ? NULL : problem;
    if (j.size > in->limits.object_max) {
        wrong(&j, "over object_max, but a plan");
        return problem;
    }
    return judge_plan(&j) ? NULL : problem;
}

struct plan_cost plan_cost(const struct plan *plan)
{
    struct plan_cost cost = {.requests = plan->n};

    for (size_t i = 0; i < plan->n; i++) {
        const struct plan_step *s = &plan->steps[i];

        cost.parts += s->number > 0;
        if (s->kind == STEP_FETCH)
            cost.fetched += s->length;
        else if (s->kind == STEP_PART_COPY || s->kind == STEP_COPY)
            cost.copied += s->length;
        else if (s->kind == STEP_PART || s->kind == STEP_PUT || s->kind == STEP_APPEND)
            cost.sent += s->length;
    }
    return cost;
}
