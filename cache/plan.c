/*
 * How a multipart plan is cut. The file is a row of runs: `copy` runs (the bytes stand, contiguous, in a base that
 * may be copied) and `send` runs (all else; neighbours are always one run). Four passes over that row:
 *
 *      absorb  copy runs too short to be a part become send runs
 *      widen   send runs too short to be a part take bytes of their neighbours, or a neighbour whole
 *      fit     part and copy sizes are chosen so that the parts are few enough; where they cannot be, absorb and
 *              widen again with a higher bar: each absorbed run saves parts and costs its bytes (last: align)
 *      emit    fetches, then the parts of each run
 *
 * Only the shape matters for legality, only the bytes for the cost; so all this needs the map for one walk, and
 * afterwards only to see which bytes are remote.
 */
#include "plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_SIZE     (10ULL << 20) /* of threshold and part */
#define STREAM_GROUP     400           /* parts of a stream that have the same size */
#define THRIFTY_FACTOR   4             /* a file sent so often by flushes is sent by difference */
#define WIDEN_CANDIDATES 32            /* extent borders tried on each side of a short send run */

const struct plan_limits plan_limits_default = {
    .multipart_threshold = DEFAULT_SIZE,
    .part_size = DEFAULT_SIZE,
    .part_min = OSS_PART_MIN,
    .part_max = OSS_PART_MAX,
    .parts_max = OSS_PARTS_MAX,
    .copy_max = OSS_COPY_MAX,
    .append_max = OSS_PUT_MAX,
    .object_max = OSS_OBJECT_MAX,
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* ------------------------------------------------------------------------------------------------- steps */

struct builder {
    struct plan_step *steps;
    size_t n, size;
    int number; /* of the last part */
};

static int add_step(struct builder *b, const struct plan_step *step)
{
    if (b->n == b->size) {
        size_t size = b->size ? 2 * b->size : 8;
        struct plan_step *steps = realloc(b->steps, size * sizeof(*steps));

        if (!steps)
            return -ENOMEM;
        b->steps = steps;
        b->size = size;
    }
    b->steps[b->n++] = *step;
    return 0;
}

static int add_simple(struct builder *b, enum plan_step_kind kind, uint64_t offset, uint64_t length)
{
    return add_step(b, &(struct plan_step){.kind = kind, .offset = offset, .length = length});
}

/*
 * A remote range to fetch. It goes on with the fetch before where the base continues and fewer than part_min local
 * bytes lie between: a second GET would cost more than these.
 */
static int add_fetch(struct builder *b, const struct extent *e, uint64_t part_min)
{
    struct plan_step *last = b->n > 0 ? &b->steps[b->n - 1] : NULL;

    if (last && last->base == e->base && e->start - (last->offset + last->length) < part_min &&
        e->base_offset - last->base_offset == e->start - last->offset) {
        last->length = e->end - last->offset;
        return 0;
    }
    return add_step(b, &(struct plan_step){.kind = STEP_FETCH,
                                           .base = e->base,
                                           .offset = e->start,
                                           .length = e->end - e->start,
                                           .base_offset = e->base_offset});
}

/* Fetches what is remote in the range. Fetches come first in a plan, so the last step is one if there is any. */
static int add_fetches(struct builder *b, const struct plan_input *in, uint64_t start, uint64_t end)
{
    struct extent e;

    while (extent_map_next_remote(in->map, start, end, &e)) {
        int r = add_fetch(b, &e, in->limits.part_min);

        if (r < 0)
            return r;
        start = e.end;
    }
    return 0;
}

/* -------------------------------------------------------------------------------------------------- runs */

struct run {
    uint64_t start, end;
    bool copy;
    int base; /* of a copy run, as base_offset */
    uint64_t base_offset;
};

struct runs {
    struct run *v;
    size_t n, size;
};

static uint64_t run_length(const struct run *run)
{
    return run->end - run->start;
}

/* True when `next`, which begins where `run` ends, has become part of it. */
static bool run_extend(struct run *run, const struct run *next)
{
    if (run->copy != next->copy)
        return false;
    if (run->copy && (run->base != next->base || run->base_offset + run_length(run) != next->base_offset))
        return false;
    run->end = next->end;
    return true;
}

/* Adds what comes behind the last run, to it where it goes on with it. */
static int add_run(struct runs *runs, const struct run *run)
{
    if (runs->n > 0 && run_extend(&runs->v[runs->n - 1], run))
        return 0;
    if (runs->n == runs->size) {
        size_t size = runs->size ? 2 * runs->size : 16;
        struct run *v = realloc(runs->v, size * sizeof(*v));

        if (!v)
            return -ENOMEM;
        runs->v = v;
        runs->size = size;
    }
    runs->v[runs->n++] = *run;
    return 0;
}

static const struct plan_base *find_base(const struct plan_input *in, int id)
{
    for (size_t i = 0; i < in->n_bases; i++)
        if (in->bases[i].id == id)
            return &in->bases[i];
    return NULL;
}

/* The row of runs from `start` on as the map gives it. */
static int collect_runs(const struct plan_input *in, uint64_t start, struct runs *runs)
{
    struct extent e;

    for (uint64_t at = start; extent_map_find(in->map, at, &e); at = e.end) {
        const struct plan_base *base = e.base == EXTENT_NEW ? NULL : find_base(in, e.base);
        struct run run = {.start = at, .end = e.end};
        int r;

        if (base && base->copyable) {
            run.copy = true;
            run.base = e.base;
            run.base_offset = e.base_offset + (at - e.start);
        }
        r = add_run(runs, &run);
        if (r < 0)
            return r;
    }
    return 0;
}

static uint64_t remote_bytes(const struct plan_input *in, uint64_t start, uint64_t end)
{
    struct extent e;
    uint64_t sum = 0;

    while (extent_map_next_remote(in->map, start, end, &e)) {
        sum += e.end - e.start;
        start = e.end;
    }
    return sum;
}

/*
 * The last run may be shorter than a part. Copying it is worth its request only when sending it would take one as
 * well: a fetch. Before it no send run may stay short, that would need bytes of this one anyway.
 */
static bool keep_short_tail(const struct plan_input *in, const struct run *tail, const struct run *before)
{
    if (before && !before->copy && run_length(before) < in->limits.part_min)
        return false;
    return !before || before->copy || remote_bytes(in, tail->start, tail->end) > 0;
}

/* Copy runs shorter than `bar` become send runs. */
static void absorb_runs(const struct plan_input *in, struct runs *runs, uint64_t bar)
{
    size_t n = 0;

    for (size_t i = 0; i < runs->n; i++) {
        struct run run = runs->v[i];
        struct run *before = n > 0 ? &runs->v[n - 1] : NULL;

        if (run.copy && run_length(&run) < bar &&
            !(i + 1 == runs->n && bar == in->limits.part_min && keep_short_tail(in, &run, before)))
            run.copy = false;
        if (!before || !run_extend(before, &run))
            runs->v[n++] = run;
    }
    runs->n = n;
}

/* -------------------------------------------------------------------------------------------------- widen */

/* How many bytes a short send run takes from the run before it and the run behind it. */
struct widening {
    uint64_t before, behind;
    uint64_t fetch; /* remote bytes among them */
};

static void try_widening(const struct plan_input *in, const struct run *run, uint64_t before, uint64_t behind,
                         struct widening *best)
{
    uint64_t fetch =
        remote_bytes(in, run->start - before, run->start) + remote_bytes(in, run->end, run->end + behind);

    if (fetch < best->fetch || (fetch == best->fetch && before + behind < best->before + best->behind))
        *best = (struct widening){.before = before, .behind = behind, .fetch = fetch};
}

/*
 * Takes `want` bytes, between `low` and `high` of them from before. The remote bytes in the window change their
 * growth only where the window's border passes an extent's border, so the least is at one of these, or at the ends.
 */
static void widen_by(const struct plan_input *in, const struct run *run, uint64_t want, uint64_t low, uint64_t high,
                     struct widening *best)
{
    struct extent e;
    uint64_t at;

    try_widening(in, run, high, want - high, best);
    try_widening(in, run, low, want - low, best);
    at = run->start;
    for (int i = 0; i < WIDEN_CANDIDATES && at > 0 && extent_map_find(in->map, at - 1, &e); i++) {
        at = e.start;
        if (run->start - at >= high)
            break;
        if (run->start - at > low)
            try_widening(in, run, run->start - at, want - (run->start - at), best);
    }
    at = run->end;
    for (int i = 0; i < WIDEN_CANDIDATES && extent_map_find(in->map, at, &e); i++) {
        at = e.end;
        if (at - run->end >= want - low)
            break;
        if (at - run->end > want - high)
            try_widening(in, run, want - (at - run->end), at - run->end, best);
    }
}

/*
 * The cheapest widening of `run` to part_min. `before` is NULL at the start of the file; `behind` is the last run
 * when `behind_last`. A neighbour keeps at least part_min (the last: anything), or is taken whole.
 */
static struct widening choose_widening(const struct plan_input *in, const struct run *run, const struct run *before,
                                       const struct run *behind, bool behind_last)
{
    uint64_t part_min = in->limits.part_min;
    uint64_t want = part_min - run_length(run);
    uint64_t spare_before = before ? run_length(before) - part_min : 0;
    uint64_t spare_behind = behind_last ? run_length(behind) : run_length(behind) - part_min;
    uint64_t low = want > spare_behind ? want - spare_behind : 0;
    uint64_t high = least(want, spare_before);
    struct widening best = {.fetch = UINT64_MAX};

    if (low <= high) {
        widen_by(in, run, want, low, high, &best);
        /* A short rest of the file that is here is no reason for one more request. */
        if (behind_last && best.behind > 0 && run_length(behind) - best.behind < part_min &&
            remote_bytes(in, run->end + best.behind, behind->end) == 0)
            best.behind = run_length(behind);
        return best;
    }
    if (before)
        try_widening(in, run, run_length(before), 0, &best);
    try_widening(in, run, 0, run_length(behind), &best);
    return best;
}

/* After it every run but the last is at least part_min long. Every copy run but the last already was. */
static void widen_runs(const struct plan_input *in, struct runs *runs)
{
    struct run *v = runs->v;
    size_t n = 0;

    for (size_t i = 0; i < runs->n; i++) {
        struct run run = v[i];

        if (n > 0 && run_extend(&v[n - 1], &run))
            run = v[--n]; /* the neighbour that was between them is gone */
        if (!run.copy && run_length(&run) < in->limits.part_min && i + 1 < runs->n) {
            struct run *behind = &v[i + 1];
            struct run *before = n > 0 ? &v[n - 1] : NULL;
            struct widening w = choose_widening(in, &run, before, behind, i + 2 == runs->n);

            run.start -= w.before;
            run.end += w.behind;
            behind->start += w.behind;
            behind->base_offset += w.behind;
            if (behind->start == behind->end)
                i++;
            if (before && w.before > 0) {
                before->end -= w.before;
                if (before->start == before->end)
                    n--;
            }
            if (n > 0 && run_extend(&v[n - 1], &run))
                continue;
        }
        v[n++] = run;
    }
    runs->n = n;
}

/* ---------------------------------------------------------------------------------------------------- fit */

struct cut {
    uint64_t part_size, copy_size; /* bytes of one part at most (part_size: where part_min allows) */
};

static uint64_t run_parts(const struct plan_limits *limits, const struct run *run, bool last, const struct cut *cut)
{
    uint64_t length = run_length(run);

    if (run->copy)
        return divide_up(length, cut->copy_size);
    if (last)
        return divide_up(length, cut->part_size);
    /* No part may be short: rather fewer and somewhat longer ones. */
    return least(divide_up(length, cut->part_size), length / limits->part_min);
}

static bool cut_fits(const struct plan_limits *limits, const struct runs *runs, const struct cut *cut)
{
    uint64_t parts = 0;

    for (size_t i = 0; i < runs->n && parts <= limits->parts_max; i++)
        parts += run_parts(limits, &runs->v[i], i + 1 == runs->n, cut);
    return parts <= limits->parts_max;
}

/* Raises the sizes until the parts are few enough: of what is sent first, longer copies may be refused. */
static bool fit_cut(const struct plan_limits *limits, const struct runs *runs, struct cut *cut)
{
    const struct cut widest = {.part_size = limits->part_max, .copy_size = limits->part_max};
    const uint64_t part_size = cut->part_size;

    if (!cut_fits(limits, runs, &widest))
        return false;
    for (;;) {
        if (cut_fits(limits, runs, cut))
            return true;
        if (cut->part_size < limits->part_max) {
            cut->part_size = least(2 * cut->part_size, limits->part_max);
        } else {
            cut->copy_size = limits->part_max;
            cut->part_size = part_size;
        }
    }
}

/*
 * The last resort near the largest object: all borders move to a grid of part_max, which is always few enough parts.
 * A copy run keeps the cells that lie wholly in it.
 */
static int align_runs(const struct plan_limits *limits, struct runs *runs)
{
    const uint64_t cell = limits->part_max;
    struct runs aligned = {0};
    int r = 0;

    for (size_t i = 0; i < runs->n && r == 0; i++) {
        const struct run *run = &runs->v[i];
        uint64_t start = divide_up(run->start, cell) * cell;
        uint64_t end = i + 1 == runs->n ? run->end : run->end / cell * cell;
        struct run copy = {.start = start, .end = end, .copy = true, .base = run->base};

        if (!run->copy || start >= end) {
            r = add_run(&aligned, &(struct run){.start = run->start, .end = run->end});
            continue;
        }
        copy.base_offset = run->base_offset + (start - run->start);
        if (run->start < start)
            r = add_run(&aligned, &(struct run){.start = run->start, .end = start});
        if (r == 0)
            r = add_run(&aligned, &copy);
        if (r == 0 && end < run->end)
            r = add_run(&aligned, &(struct run){.start = end, .end = run->end});
    }
    free(runs->v);
    *runs = aligned;
    return r;
}

/* The runs and sizes of the cheapest legal multipart upload of all from `start` on; -EFBIG when there is none. */
static int cut_runs(const struct plan_input *in, uint64_t start, const struct plan_limits *limits, struct runs *runs,
                    struct cut *cut)
{
    uint64_t size = extent_map_size(in->map);
    int r;

    if (divide_up(size - start, limits->part_max) > limits->parts_max)
        return -EFBIG;
    r = collect_runs(in, start, runs);
    if (r < 0)
        return r;
    cut->part_size = most(plan_part_size(size, limits->part_size, limits), limits->part_min);
    cut->copy_size = least(limits->copy_max, limits->part_max);
    for (uint64_t bar = limits->part_min; bar <= limits->part_max; bar += bar / 16 + 1) {
        absorb_runs(in, runs, bar);
        widen_runs(in, runs);
        if (fit_cut(limits, runs, cut))
            return 0;
    }
    r = align_runs(limits, runs);
    if (r == 0)
        fit_cut(limits, runs, cut);
    return r;
}

/* --------------------------------------------------------------------------------------------------- emit */

static int add_parts(struct builder *b, const struct plan_limits *limits, const struct run *run, bool last,
                     const struct cut *cut)
{
    uint64_t n = run_parts(limits, run, last, cut);
    uint64_t length = run_length(run), at = run->start;

    for (uint64_t i = 0; i < n; i++) {
        struct plan_step step = {.kind = run->copy ? STEP_PART_COPY : STEP_PART, .number = ++b->number, .offset = at};
        int r;

        if (!run->copy && last) /* the grid that the vendor's tools would use */
            step.length = least(cut->part_size, run->end - at);
        else
            step.length = length / n + (i < length % n);
        if (run->copy) {
            step.base = run->base;
            step.base_offset = run->base_offset + (at - run->start);
        }
        at += step.length;
        r = add_step(b, &step);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The first `sent` parts are given (plan_input.sent), what is behind them is in `runs`. */
static int add_multipart(struct builder *b, const struct plan_input *in, size_t sent, const struct runs *runs,
                         const struct cut *cut)
{
    int r = sent > 0 ? add_fetches(b, in, 0, in->sent[sent - 1].offset + in->sent[sent - 1].length) : 0;

    for (size_t i = 0; i < runs->n && r == 0; i++)
        if (!runs->v[i].copy)
            r = add_fetches(b, in, runs->v[i].start, runs->v[i].end);
    if (r == 0)
        r = add_simple(b, STEP_INITIATE, 0, 0);
    for (size_t i = 0; i < sent && r == 0; i++)
        r = add_step(b, &(struct plan_step){.kind = STEP_PART,
                                            .number = ++b->number,
                                            .offset = in->sent[i].offset,
                                            .length = in->sent[i].length});
    for (size_t i = 0; i < runs->n && r == 0; i++)
        r = add_parts(b, &in->limits, &runs->v[i], i + 1 == runs->n, cut);
    if (r == 0)
        r = add_simple(b, STEP_COMPLETE, 0, extent_map_size(in->map));
    return r;
}

static int add_put(struct builder *b, const struct plan_input *in)
{
    uint64_t size = extent_map_size(in->map);
    int r = add_fetches(b, in, 0, size);

    return r < 0 ? r : add_simple(b, STEP_PUT, 0, size);
}

static int add_copy_self(struct builder *b, const struct plan_input *in, const struct plan_base *own)
{
    return add_step(b,
                    &(struct plan_step){.kind = STEP_COPY_SELF, .base = own->id, .length = extent_map_size(in->map)});
}

/* -------------------------------------------------------------------------------------------------- rules */

static int check_limits(const struct plan_limits *limits)
{
    if (limits->part_min == 0 || limits->parts_max == 0 || limits->parts_max > OSS_PARTS_MAX)
        return -EINVAL;
    if (limits->part_max / 2 < limits->part_min || limits->copy_max / 2 < limits->part_min)
        return -EINVAL;
    return 0;
}

/* The base under the file's own key, NULL when there is none. */
static const struct plan_base *own_base(const struct plan_input *in)
{
    for (size_t i = 0; i < in->n_bases && in->exists; i++)
        if (in->bases[i].own_key)
            return &in->bases[i];
    return NULL;
}

/* Are the first `end` bytes of the file those of the base, each in its place? */
static bool stands_in_base(const struct extent_map *map, const struct plan_base *base, uint64_t end)
{
    struct extent e;

    for (uint64_t at = 0; at < end; at = e.end)
        if (!extent_map_find(map, at, &e) || e.base != base->id || e.base_offset != e.start)
            return false;
    return true;
}

/* Does the object already hold exactly the file's bytes? */
static bool is_unchanged(const struct extent_map *map, const struct plan_base *own)
{
    return own && own->size == extent_map_size(map) && extent_map_dirty_bytes(map) == 0 &&
           stands_in_base(map, own, own->size);
}

static bool may_copy_self(const struct plan_input *in, const struct plan_base *own)
{
    return own->copyable && (in->limits.copy_self_max == 0 || extent_map_size(in->map) <= in->limits.copy_self_max);
}

/* The object of another key that the file is a copy of, all of it; NULL when there is none that one request can copy.
 */
static const struct plan_base *whole_copy(const struct plan_input *in)
{
    uint64_t size = extent_map_size(in->map);
    const struct plan_base *base;
    struct extent e;

    if (!extent_map_find(in->map, 0, &e) || e.base == EXTENT_NEW)
        return NULL;
    base = find_base(in, e.base);
    return base && !base->own_key && base->copyable && base->size == size && size <= in->limits.copy_max &&
                   stands_in_base(in->map, base, size)
               ? base
               : NULL;
}

/* Is the file its object with dirty bytes behind it, or with no object all dirty, and the object appendable? */
static bool may_append(const struct plan_input *in, const struct plan_base *own)
{
    uint64_t size = extent_map_size(in->map), at = own ? own->size : 0;
    struct extent e;

    if (!in->only_appends || size <= at || size > in->limits.append_max || (in->exists && !own))
        return false;
    if (own) {
        if (!own->appendable || !stands_in_base(in->map, own, at))
            return false;
        if (in->attrs_changed && !may_copy_self(in, own))
            return false;
    }
    for (; at < size; at = e.end)
        if (!extent_map_find(in->map, at, &e) || e.base != EXTENT_NEW)
            return false;
    return true;
}

static int add_append(struct builder *b, const struct plan_input *in, const struct plan_base *own)
{
    uint64_t at = own ? own->size : 0;
    int r = add_simple(b, STEP_APPEND, at, extent_map_size(in->map) - at);

    /* An append that creates the object gives it its attributes; a later one cannot. */
    if (r == 0 && own && in->attrs_changed)
        r = add_copy_self(b, in, own);
    return r;
}

static bool has_long_copy(const struct runs *runs, uint64_t part_min)
{
    for (size_t i = 0; i < runs->n; i++)
        if (runs->v[i].copy && run_length(&runs->v[i]) >= part_min)
            return true;
    return false;
}

/* How many of the parts that are given lie within the file, as parts of a legal length. */
static size_t parts_within(const struct plan_input *in, uint64_t size)
{
    size_t n = 0;

    for (; n < in->n_sent && n < in->limits.parts_max; n++) {
        uint64_t end = in->sent[n].offset + in->sent[n].length;

        if (end > size || (in->sent[n].length < in->limits.part_min && end < size))
            break;
    }
    return n;
}

/* The whole object anew: by PUT, or by multipart. `by_copy`: only its attributes differ and it may be copied. */
static int add_whole(struct builder *b, const struct plan_input *in, bool by_copy)
{
    uint64_t size = extent_map_size(in->map);
    bool small = size == 0 || size <= least(in->limits.multipart_threshold, OSS_PUT_MAX);
    struct plan_limits limits = in->limits; /* for what is behind the parts that are given */
    size_t sent = small ? 0 : parts_within(in, size);
    struct runs runs = {0};
    struct cut cut;
    int r;

    if (small && !by_copy && !in->only_appends && in->flushed <= THRIFTY_FACTOR * size)
        return add_put(b, in);
    limits.parts_max -= (unsigned)sent;
    r = cut_runs(in, sent > 0 ? in->sent[sent - 1].offset + in->sent[sent - 1].length : 0, &limits, &runs, &cut);
    if (r == 0 && small && !has_long_copy(&runs, in->limits.part_min))
        r = add_put(b, in);
    else if (r == 0)
        r = add_multipart(b, in, sent, &runs, &cut);
    free(runs.v);
    return r;
}

int plan_make(const struct plan_input *in, struct plan *out)
{
    const struct plan_base *own = own_base(in);
    const struct plan_base *other = whole_copy(in);
    bool unchanged = is_unchanged(in->map, own);
    struct builder b = {0};
    int r;

    *out = (struct plan){0};
    r = check_limits(&in->limits);
    if (r == 0 && extent_map_size(in->map) > in->limits.object_max)
        r = -EFBIG;
    if (r < 0)
        goto out;
    if (unchanged && !in->attrs_changed)
        goto out;
    if (unchanged && may_copy_self(in, own))
        r = add_copy_self(&b, in, own);
    else if (other)
        r = add_step(&b, &(struct plan_step){.kind = STEP_COPY, .base = other->id, .length = other->size});
    else if (may_append(in, own))
        r = add_append(&b, in, own);
    else
        r = add_whole(&b, in, unchanged && own->copyable);
out:
    if (r < 0) {
        free(b.steps);
        return r;
    }
    out->steps = b.steps;
    out->n = b.n;
    return 0;
}

int plan_copy(uint64_t size, int base, const struct plan_limits *limits, struct plan *out)
{
    struct run whole = {.end = size, .copy = true, .base = base};
    const struct runs runs = {.v = &whole, .n = 1};
    struct cut cut = {.part_size = limits->part_max, .copy_size = least(limits->copy_max, limits->part_max)};
    struct builder b = {0};
    int r;

    *out = (struct plan){0};
    if (size > limits->object_max || divide_up(size, limits->part_max) > limits->parts_max)
        return -EFBIG;
    if (size <= limits->copy_max) {
        r = add_step(&b, &(struct plan_step){.kind = STEP_COPY_SELF, .base = base, .length = size});
    } else {
        fit_cut(limits, &runs, &cut);
        r = add_simple(&b, STEP_INITIATE, 0, 0);
        if (r == 0)
            r = add_parts(&b, limits, &whole, true, &cut);
        if (r == 0)
            r = add_simple(&b, STEP_COMPLETE, 0, size);
    }
    if (r < 0) {
        free(b.steps);
        return r;
    }
    *out = (struct plan){.steps = b.steps, .n = b.n};
    return 0;
}

void plan_free(struct plan *plan)
{
    free(plan->steps);
    *plan = (struct plan){0};
}

/* -------------------------------------------------------------------------------------------------- sizes */

uint64_t plan_part_size(uint64_t size, uint64_t preferred, const struct plan_limits *limits)
{
    uint64_t part = preferred ? preferred : DEFAULT_SIZE;

    if (size < part)
        return least(size, limits->part_max);
    while (part < limits->part_max && (part < limits->part_min || divide_up(size, part) > limits->parts_max))
        part *= 2;
    return least(part, limits->part_max);
}

/* Size of the parts number 400 x group + 1 and on. */
static uint64_t stream_part_size(unsigned group, const struct plan_limits *limits, uint64_t cache_size)
{
    uint64_t most_allowed = least(cache_size / 8, limits->part_max);
    uint64_t size = limits->part_size ? limits->part_size : DEFAULT_SIZE;

    while (group-- > 0 && size < most_allowed)
        size *= 2;
    return most(least(size, most_allowed), limits->part_min);
}

void plan_stream_part(int number, const struct plan_limits *limits, uint64_t cache_size, uint64_t *offset,
                      uint64_t *size)
{
    unsigned before = (unsigned)number - 1, group = 0;

    *offset = 0;
    for (; before >= STREAM_GROUP; before -= STREAM_GROUP)
        *offset += STREAM_GROUP * stream_part_size(group++, limits, cache_size);
    *size = stream_part_size(group, limits, cache_size);
    *offset += before * *size;
}

uint64_t plan_stream_reach(const struct plan_limits *limits, uint64_t cache_size)
{
    uint64_t offset, size;

    plan_stream_part((int)limits->parts_max, limits, cache_size, &offset, &size);
    return least(offset + size, limits->object_max);
}

/* ------------------------------------------------------------------------------------------------ describe */

/* Adds to the text at *used; beyond its end nothing is written. */
static void describe_add(char *out, size_t size, size_t *used, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void describe_add(char *out, size_t size, size_t *used, const char *format, ...)
{
    va_list args;
    int n;

    if (*used >= size)
        return;
    va_start(args, format);
    n = vsnprintf(out + *used, size - *used, format, args);
    va_end(args);
    if (n > 0)
        *used += (size_t)n;
}

void plan_describe(const struct plan *plan, char *out, size_t size)
{
    static const char *const names[] = {
        [STEP_FETCH] = "fetch",       [STEP_PUT] = "put",
        [STEP_APPEND] = "append",     [STEP_INITIATE] = "initiate",
        [STEP_PART] = "part",         [STEP_PART_COPY] = "copy",
        [STEP_COMPLETE] = "complete", [STEP_COPY_SELF] = "copy-self",
        [STEP_COPY] = "copy-whole",
    };
    size_t used = 0;

    if (size > 0)
        out[0] = '\0';
    for (size_t i = 0; i < plan->n; i++) {
        const struct plan_step *step = &plan->steps[i];

        describe_add(out, size, &used, "%s", names[step->kind]);
        if (step->number > 0)
            describe_add(out, size, &used, " %d", step->number);
        if (step->kind != STEP_INITIATE)
            describe_add(out, size, &used, " [%llu, +%llu)", (unsigned long long)step->offset,
                         (unsigned long long)step->length);
        if (step->kind == STEP_FETCH || step->kind == STEP_PART_COPY || step->kind == STEP_COPY)
            describe_add(out, size, &used, " from %d@%llu", step->base, (unsigned long long)step->base_offset);
        describe_add(out, size, &used, "\n");
    }
}
