/*
 * The upload planner on random inputs: each plan is judged by plan_check and carried out on bytes in memory; the
 * object that comes out must be the file. And sizes of the real service, and failing allocations.
 */
#include "failing_alloc.h"

/* The sources themselves: to fail the planner's allocations. */
#include "../../cache/extent.c"
#include "../../cache/plan.c"

#include "plan_check.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define BYTES 400
#define BASES 4

/* A file, the bases that it may stand in, the local copy (rubbish where it is not local), and the plan's input. */
struct world {
    struct extent_map *map;
    unsigned char file[2 * BYTES], local[2 * BYTES];
    unsigned char content[BASES][BYTES];
    struct plan_base bases[BASES];
    struct plan_input in;
};

static void random_bytes(struct random *random, unsigned char *bytes, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)random_u64(random);
}

/* Makes [start, ...) of the file a range of a base: what a copy within the bucket does, at any offset. */
static void world_place(struct world *w, uint64_t start, uint64_t length, int base, uint64_t base_offset)
{
    if (length == 0)
        return;
    assert_int_equal(extent_map_share(w->map, start, start + length, base, base_offset), 0);
    memcpy(w->file + start, w->content[base] + base_offset, length);
}

static void world_write(struct world *w, struct random *random, uint64_t start, uint64_t end)
{
    uint64_t size = extent_map_size(w->map);

    if (start >= end)
        return;
    if (start > size)
        memset(w->file + size, 0, start - size);
    random_bytes(random, w->file + start, end - start);
    assert_int_equal(extent_map_write(w->map, start, end, (uint32_t)random_between(random, 1, 2)), 0);
}

static void world_change(struct world *w, struct random *random)
{
    uint64_t size = extent_map_size(w->map);
    uint64_t start = random_below(random, size + 1), end = start + random_below(random, 1 + BYTES / 8);
    int base = (int)random_below(random, BASES);
    uint64_t base_offset = random_below(random, w->bases[base].size + 1);

    if (end > BYTES)
        end = start > BYTES ? start : BYTES;
    switch (random_below(random, 9)) {
    case 0:
        start = random_below(random, BYTES);
        if (start > size)
            memset(w->file + size, 0, start - size);
        assert_int_equal(extent_map_truncate(w->map, start, 1), 0);
        break;
    case 1:
    case 2:
        assert_int_equal(extent_map_fetched(w->map, start, end), 0);
        break;
    case 3:
        assert_int_equal(extent_map_drop(w->map, start, end), 0);
        break;
    case 4:
    case 5:
        if (start + (w->bases[base].size - base_offset) < 2 * BYTES)
            world_place(w, start, random_below(random, w->bases[base].size - base_offset + 1), base, base_offset);
        break;
    default:
        world_write(w, random, start, random_one_in(random, 2) ? start + (end - start) / 10 : end);
    }
}

/* Limits in which everything happens within 400 bytes. */
static struct plan_limits random_limits(struct random *random)
{
    struct plan_limits l = {.part_min = random_between(random, 1, 20)};

    l.part_max = random_between(random, 2 * l.part_min, 8 * l.part_min);
    l.copy_max = random_between(random, 2 * l.part_min, random_one_in(random, 3) ? 400 : 6 * l.part_min);
    l.part_size = random_below(random, 60);
    l.parts_max =
        (unsigned)(random_one_in(random, 3) ? random_between(random, 1, 12) : random_between(random, 5, 500));
    l.multipart_threshold = random_one_in(random, 3) ? random_below(random, 400) : random_below(random, 40);
    l.append_max = random_below(random, 600);
    l.object_max = random_one_in(random, 20) ? random_below(random, 500) : UINT64_MAX;
    l.copy_self_max = random_one_in(random, 2) ? 0 : random_between(random, 1, 300);
    return l;
}

static void world_new(struct world *w, struct random *random)
{
    uint64_t changes = random_below(random, 9);
    int own = (int)random_below(random, BASES);

    w->map = extent_map_new();
    for (int i = 0; i < BASES; i++) {
        w->bases[i] = (struct plan_base){.id = i,
                                         .size = random_below(random, BYTES),
                                         .appendable = random_one_in(random, 2),
                                         .copyable = !random_one_in(random, 5),
                                         .own_key = i == own && !random_one_in(random, 5)};
        random_bytes(random, w->content[i], w->bases[i].size);
    }
    w->in = (struct plan_input){.map = w->map,
                                .bases = w->bases,
                                .n_bases = BASES,
                                .exists = !random_one_in(random, 4),
                                .attrs_changed = random_one_in(random, 3),
                                .only_appends = random_one_in(random, 3),
                                .flushed = random_one_in(random, 3) ? random_below(random, 4000) : 0,
                                .limits = random_limits(random)};
    if (!random_one_in(random, 3)) {
        int whole = random_one_in(random, 4) ? (int)random_below(random, BASES) : own;

        world_place(w, 0, w->bases[whole].size, whole, 0);
    }
    while (changes-- > 0)
        world_change(w, random);
    if (random_one_in(random, 4))
        world_write(w, random, extent_map_size(w->map), random_between(random, 0, BYTES));
    for (uint64_t i = 0; i < extent_map_size(w->map); i++)
        w->local[i] = (unsigned char)~w->file[i];
    for (struct extent e = {0}; extent_map_find(w->map, e.end, &e);)
        if (e.local)
            memcpy(w->local + e.start, w->file + e.start, e.end - e.start);
}

/* Carries the plan out: the object's size, its bytes in `object`. */
static uint64_t world_execute(struct world *w, const struct plan *plan, unsigned char *object)
{
    uint64_t size = 0;
    struct extent e;

    for (int i = 0; i < BASES && w->in.exists; i++)
        if (w->bases[i].own_key)
            memcpy(object, w->content[i], size = w->bases[i].size);
    for (size_t i = 0; i < plan->n; i++) {
        const struct plan_step *s = &plan->steps[i];
        uint64_t end = s->offset + s->length;

        switch (s->kind) {
        case STEP_FETCH:
            for (uint64_t at = s->offset; extent_map_next_remote(w->map, at, end, &e); at = e.end)
                memcpy(w->local + e.start, w->content[s->base] + s->base_offset + (e.start - s->offset),
                       e.end - e.start);
            break;
        case STEP_INITIATE:
            size = 0;
            break;
        case STEP_PUT:
        case STEP_APPEND:
        case STEP_PART:
            memcpy(object + s->offset, w->local + s->offset, s->length);
            size = end;
            break;
        case STEP_PART_COPY:
            memcpy(object + s->offset, w->content[s->base] + s->base_offset, s->length);
            size = end;
            break;
        case STEP_COPY:
            memcpy(object, w->content[s->base], s->length);
            size = s->length;
            break;
        case STEP_COMPLETE:
        case STEP_COPY_SELF:
            break;
        }
    }
    return size;
}

static void test_random_plans_make_the_file(void **state)
{
    static struct world w;
    static unsigned char object[2 * BYTES];
    const uint64_t inputs = 200000;
    uint64_t kinds[9] = {0}, too_big = 0, nothing = 0;

    (void)state;
    print_message("seeds 1..%llu\n", (unsigned long long)inputs);
    for (uint64_t seed = 1; seed <= inputs; seed++) {
        struct random random = {seed};
        struct plan plan;
        const char *problem;
        int r;

        world_new(&w, &random);
        r = plan_make(&w.in, &plan);
        problem = plan_check(&w.in, &plan, r);
        if (problem)
            fail_msg("seed %llu: %s", (unsigned long long)seed, problem);
        too_big += r == -EFBIG;
        if (r == 0 && (world_execute(&w, &plan, object) != extent_map_size(w.map) ||
                       memcmp(object, w.file, extent_map_size(w.map)) != 0))
            fail_msg("seed %llu: the object is not the file", (unsigned long long)seed);
        for (size_t i = 0; i < plan.n; i++)
            kinds[plan.steps[i].kind]++;
        nothing += r == 0 && plan.n == 0;
        plan_free(&plan);
        extent_map_free(w.map);
    }
    print_message(
        "nothing %d, fetch %d, put %d, append %d, initiate %d, part %d, copy %d, copy-self %d, whole %d, EFBIG %d\n",
        (int)nothing, (int)kinds[STEP_FETCH], (int)kinds[STEP_PUT], (int)kinds[STEP_APPEND],
        (int)kinds[STEP_INITIATE], (int)kinds[STEP_PART], (int)kinds[STEP_PART_COPY], (int)kinds[STEP_COPY_SELF],
        (int)kinds[STEP_COPY], (int)too_big);
    for (int kind = 0; kind < 9; kind++)
        assert_true(kinds[kind] > 500); /* the inputs are such that every rule is tried */
    assert_true(nothing > 500 && too_big > 500);
}

/* A change of any length, near or far beyond the end, of a file of any size. */
static void change_at_scale(struct extent_map *map, struct random *random)
{
    uint64_t at = random_below(random, extent_map_size(map) + 1);
    uint64_t end = at + (random_u64(random) >> random_between(random, 20, 60)) % (16ULL << 30);

    if (end > OSS_OBJECT_MAX)
        end = OSS_OBJECT_MAX;
    switch (random_below(random, 4)) {
    case 0:
        assert_int_equal(extent_map_fetched(map, at, end), 0);
        break;
    case 1:
        assert_int_equal(extent_map_truncate(map, end, 1), 0);
        break;
    default:
        assert_int_equal(extent_map_write(map, at, end, 1), 0);
    }
}

/* The service's own limits, sizes from 1 byte to 48.8 TB. */
static void test_random_plans_of_real_sizes(void **state)
{
    const uint64_t inputs = 10000;
    size_t longest = 0;

    (void)state;
    print_message("seeds 1..%llu\n", (unsigned long long)inputs);
    for (uint64_t seed = 1; seed <= inputs; seed++) {
        struct random random = {seed};
        uint64_t size = (random_u64(&random) >> random_between(&random, 18, 63)) % (OSS_OBJECT_MAX + 1);
        struct extent_map *map = extent_map_new();
        struct plan_base base = {.size = size, .copyable = true, .own_key = true};
        struct plan_input in = {
            .map = map, .bases = &base, .n_bases = 1, .exists = true, .limits = plan_limits_default};
        struct plan plan;
        const char *problem;

        assert_int_equal(extent_map_set_base(map, 0, size), 0);
        for (uint64_t n = random_below(&random, 8); n > 0; n--)
            change_at_scale(map, &random);
        if (random_one_in(&random, 4))
            in.limits.part_size = random_u64(&random) >> random_between(&random, 30, 60);
        assert_int_equal(plan_make(&in, &plan), 0);
        problem = plan_check(&in, &plan, 0);
        if (problem)
            fail_msg("seed %llu: %s", (unsigned long long)seed, problem);
        longest = plan.n > longest ? plan.n : longest;
        plan_free(&plan);
        extent_map_free(map);
    }
    print_message("longest plan: %zu steps\n", longest);
}

static void test_random_plans_out_of_memory(void **state)
{
    static struct world w;
    long failed = 0;

    (void)state;
    print_message("seeds 1..2000\n");
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct random random = {seed};
        struct plan plan;
        int r = -ENOMEM;

        world_new(&w, &random);
        for (long allowed = 0; r == -ENOMEM; allowed++) {
            failing_alloc_failed = 0;
            failing_alloc_countdown = allowed;
            r = plan_make(&w.in, &plan);
            failing_alloc_countdown = -1;
            failed += failing_alloc_failed;
            assert_true((r == -ENOMEM) == (failing_alloc_failed > 0));
            assert_true(r == 0 || (plan.n == 0 && !plan.steps));
        }
        plan_free(&plan);
        plan_free(&plan); /* safe twice */
        extent_map_free(w.map);
    }
    print_message("%ld allocations failed\n", failed);
    assert_true(failed > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans_make_the_file),
        cmocka_unit_test(test_random_plans_of_real_sizes),
        cmocka_unit_test(test_random_plans_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
