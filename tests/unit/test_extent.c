/*
 * The extent map: single cases in words, random operations against a byte-by-byte model, the promise that a failed
 * allocation changes nothing, and that no map ever claims a byte to be where it is not.
 */
#include "failing_alloc.h"

/* The source itself, so that its allocations can be made to fail. */
#include "../../cache/extent.c"

#include "extent_model.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* "local/base@offset" of each extent, as text: "[0,10) dirty 1; [10,20) clean 0@10; [20,30) remote 0@20". */
static const char *map_text(const struct extent_map *map)
{
    static char text[1024];
    struct extent e;
    int used = 0;

    text[0] = '\0';
    extent_map_check(map);
    for (uint64_t at = 0; extent_map_find(map, at, &e); at = e.end) {
        used += snprintf(text + used, sizeof(text) - (size_t)used, "%s[%llu,%llu) ", at ? "; " : "",
                         (unsigned long long)e.start, (unsigned long long)e.end);
        if (e.base == EXTENT_NEW)
            used += snprintf(text + used, sizeof(text) - (size_t)used, "dirty %u", e.epoch);
        else
            used += snprintf(text + used, sizeof(text) - (size_t)used, "%s %d@%llu", e.local ? "clean" : "remote",
                             e.base, (unsigned long long)e.base_offset);
    }
    return text;
}

static void test_empty(void **state)
{
    struct extent_map *map = extent_map_new();
    struct extent e;

    (void)state;
    assert_int_equal(extent_map_size(map), 0);
    assert_int_equal(extent_map_count(map), 0);
    assert_false(extent_map_find(map, 0, &e));
    assert_false(extent_map_next_dirty(map, 0, UINT64_MAX, &e));
    assert_false(extent_map_next_remote(map, 0, UINT64_MAX, &e));
    assert_false(extent_map_uses(map, 0));
    assert_int_equal(extent_map_write(map, 5, 5, 1), 0);
    assert_int_equal(extent_map_fetched(map, 0, 10), 0);
    assert_int_equal(extent_map_drop(map, 0, 10), 0);
    assert_int_equal(extent_map_truncate(map, 0, 1), 0);
    assert_int_equal(extent_map_commit(map, 1, 0, 0), 0);
    assert_string_equal(map_text(map), "");
    assert_false(extent_map_uses(map, 0));
    extent_map_free(map);
    extent_map_free(NULL);
}

static void test_write(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    extent_map_write(map, 10, 20, 1);
    assert_string_equal(map_text(map), "[0,20) dirty 1"); /* the gap before it is zeros, dirty too */
    extent_map_set_base(map, 0, 100);
    assert_string_equal(map_text(map), "[0,100) remote 0@0");
    assert_int_equal(extent_map_local_bytes(map), 0);
    extent_map_write(map, 40, 50, 1);
    extent_map_write(map, 50, 60, 1);
    assert_string_equal(map_text(map), "[0,40) remote 0@0; [40,60) dirty 1; [60,100) remote 0@60");
    extent_map_write(map, 50, 55, 2);
    assert_string_equal(map_text(map), "[0,40) remote 0@0; [40,50) dirty 1; [50,55) dirty 2; [55,60) dirty 1; "
                                       "[60,100) remote 0@60");
    extent_map_write(map, 120, 130, 2);
    extent_map_write(map, 30, 100, 2);
    assert_string_equal(map_text(map), "[0,30) remote 0@0; [30,130) dirty 2");
    assert_int_equal(extent_map_dirty_bytes(map), 100);
    extent_map_free(map);
}

static void test_share(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    assert_int_equal(extent_map_share(map, 1, 5, 3, 0), -EINVAL); /* bytes that nobody has named lie before it */
    assert_int_equal(extent_map_share(map, 0, 0, 3, 7), 0);
    assert_string_equal(map_text(map), "");
    extent_map_set_base(map, 0, 100);
    extent_map_write(map, 40, 60, 1);
    assert_int_equal(extent_map_share(map, 50, 70, 3, 1000), 0);
    assert_string_equal(map_text(map),
                        "[0,40) remote 0@0; [40,50) dirty 1; [50,70) remote 3@1000; [70,100) remote 0@70");
    assert_int_equal(extent_map_share(map, 70, 120, 3, 1020), 0);
    assert_string_equal(map_text(map), "[0,40) remote 0@0; [40,50) dirty 1; [50,120) remote 3@1000");
    assert_int_equal(extent_map_share(map, 0, 120, 4, 5), 0);
    assert_string_equal(map_text(map), "[0,120) remote 4@5");
    assert_false(extent_map_uses(map, 0) || extent_map_uses(map, 3));
    assert_true(extent_map_uses(map, 4));
    extent_map_free(map);
}

static void test_fetch_and_drop(void **state)
{
    struct extent_map *map = extent_map_new();
    struct extent e;

    (void)state;
    extent_map_set_base(map, 7, 100);
    extent_map_fetched(map, 20, 40);
    extent_map_write(map, 40, 50, 3);
    assert_string_equal(map_text(map),
                        "[0,20) remote 7@0; [20,40) clean 7@20; [40,50) dirty 3; [50,100) remote 7@50");
    assert_true(extent_map_next_remote(map, 25, 60, &e));
    assert_int_equal(e.start, 50);
    assert_int_equal(e.end, 60);
    assert_int_equal(e.base_offset, 50);
    assert_true(extent_map_next_dirty(map, 45, 1000, &e));
    assert_int_equal(e.start, 45);
    assert_int_equal(e.end, 50);
    extent_map_fetched(map, 0, 1000);
    assert_string_equal(map_text(map), "[0,40) clean 7@0; [40,50) dirty 3; [50,100) clean 7@50");
    extent_map_drop(map, 30, 60); /* dirty bytes are nowhere else: they stay */
    assert_string_equal(map_text(map), "[0,30) clean 7@0; [30,40) remote 7@30; [40,50) dirty 3; [50,60) remote 7@50; "
                                       "[60,100) clean 7@60");
    extent_map_free(map);
}

static void test_truncate(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    extent_map_set_base(map, 0, 100);
    extent_map_truncate(map, 60, 1);
    extent_map_truncate(map, 80, 1); /* what was cut off comes back as zeros, not as the old bytes */
    assert_string_equal(map_text(map), "[0,60) remote 0@0; [60,80) dirty 1");
    extent_map_truncate(map, 80, 2);
    extent_map_truncate(map, 0, 2);
    assert_string_equal(map_text(map), "");
    assert_false(extent_map_uses(map, 0));
    extent_map_free(map);
}

/* Written, truncated and extended again while the upload of epoch 1 was running. */
static void test_commit(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    extent_map_set_base(map, 0, 50);
    extent_map_write(map, 40, 100, 1);
    /* the upload of 100 bytes begins; from here on epoch 2 */
    extent_map_write(map, 10, 20, 2);
    extent_map_truncate(map, 70, 2);
    extent_map_truncate(map, 90, 2);
    extent_map_write(map, 110, 120, 2);
    extent_map_commit(map, 1, 1, 100);
    assert_string_equal(map_text(map), "[0,10) remote 1@0; [10,20) dirty 2; [20,40) remote 1@20; [40,70) clean 1@40; "
                                       "[70,120) dirty 2");
    assert_false(extent_map_uses(map, 0));
    assert_true(extent_map_uses(map, 1));
    extent_map_commit(map, 2, 5, 120);
    assert_string_equal(map_text(map),
                        "[0,10) remote 5@0; [10,20) clean 5@10; [20,40) remote 5@20; [40,120) clean 5@40");
    extent_map_free(map);
}

static void test_commit_after_truncation_below(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    extent_map_write(map, 0, 100, 1);
    extent_map_truncate(map, 30, 2);
    extent_map_commit(map, 1, 0, 100);
    assert_string_equal(map_text(map), "[0,30) clean 0@0");
    extent_map_truncate(map, 0, 2);
    extent_map_commit(map, 2, 1, 100);
    assert_string_equal(map_text(map), "");
    extent_map_free(map);
}

/* Ranges of two bases that touch are one extent only when they are contiguous in one base. */
static void test_neighbours_of_two_bases(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    extent_map_set_base(map, 0, 30);
    extent_map_truncate(map, 60, 1);
    extent_map_commit(map, 1, 1, 10);
    /* beyond the committed size nothing is claimed, even if the caller's word about later epochs were wrong */
    assert_string_equal(map_text(map), "[0,10) remote 1@0; [10,30) remote 0@10; [30,60) dirty 1");
    extent_map_commit(map, 1, 2, 60);
    assert_string_equal(map_text(map), "[0,30) remote 2@0; [30,60) clean 2@30");
    extent_map_free(map);
}

static void test_clone_is_independent(void **state)
{
    struct extent_map *map = extent_map_new(), *copy;

    (void)state;
    extent_map_set_base(map, 0, 100);
    extent_map_write(map, 10, 20, 1);
    copy = extent_map_clone(map);
    extent_map_write(map, 0, 100, 2);
    assert_string_equal(map_text(copy), "[0,10) remote 0@0; [10,20) dirty 1; [20,100) remote 0@20");
    assert_string_equal(map_text(map), "[0,100) dirty 2");
    extent_map_free(map);
    extent_map_write(copy, 20, 30, 1);
    assert_string_equal(map_text(copy), "[0,10) remote 0@0; [10,30) dirty 1; [30,100) remote 0@30");
    extent_map_free(copy);
}

/* --------------------------------------------------------------------------------- random, against a model */

/* One operation with all its random choices, so that it can be applied to several maps and to the model. */
struct operation {
    int kind;
    uint64_t start, end;
    uint32_t epoch;
    int base;
};

static struct operation random_operation(struct random *random, uint64_t limit)
{
    struct operation op = {.kind = (int)random_below(random, 12)};

    op.start = random_below(random, limit + 1);
    op.end = random_one_in(random, 3) ? random_between(random, op.start, limit) : op.start + random_below(random, 9);
    if (op.end > limit)
        op.end = limit;
    op.epoch = (uint32_t)random_between(random, 1, 4);
    op.base = (int)random_below(random, 6);
    return op;
}

static int operation_apply(const struct operation *op, struct extent_map *map)
{
    switch (op->kind) {
    case 0:
        return extent_map_set_base(map, op->base, op->end);
    case 1:
        return extent_map_truncate(map, op->start, op->epoch);
    case 2:
        return extent_map_commit(map, op->epoch, op->base, op->end);
    case 3:
    case 4:
    case 5:
        return extent_map_fetched(map, op->start, op->end);
    case 6:
    case 7:
        return extent_map_drop(map, op->start, op->end);
    default:
        return extent_map_write(map, op->start, op->end, op->epoch);
    }
}

static void operation_apply_model(const struct operation *op, struct model *m)
{
    switch (op->kind) {
    case 0:
        model_set_base(m, op->base, op->end);
        break;
    case 1:
        model_truncate(m, op->start, op->epoch);
        break;
    case 2:
        model_commit(m, op->epoch, op->base, op->end);
        break;
    case 3:
    case 4:
    case 5:
        model_fetched(m, op->start, op->end);
        break;
    case 6:
    case 7:
        model_drop(m, op->start, op->end);
        break;
    default:
        model_write(m, op->start, op->end, op->epoch);
    }
}

static void assert_agrees(const struct model *m, const struct extent_map *map, struct random *random, uint64_t seed,
                          int step)
{
    uint64_t at = random_below(random, m->size + 2), end = at + random_below(random, m->size + 2);
    const char *difference;

    extent_map_check(map);
    difference = model_differs(m, map, at, end);
    if (difference)
        fail_msg("seed %llu, step %d: %s", (unsigned long long)seed, step, difference);
    for (int base = 0; base < 6; base++)
        assert_true(extent_map_uses(map, base) == model_uses(m, base));
}

static void test_random_operations(void **state)
{
    static struct model m;
    const int seeds = 300, steps = 200;

    (void)state;
    print_message("seeds 1..%d, %d steps each\n", seeds, steps);
    for (uint64_t seed = 1; seed <= (uint64_t)seeds; seed++) {
        struct random random = {seed};
        struct extent_map *map = extent_map_new();
        uint64_t limit = random_between(&random, 1, MODEL_MAX);

        m.size = 0;
        for (int step = 0; step < steps; step++) {
            struct operation op = random_operation(&random, limit);

            assert_int_equal(operation_apply(&op, map), 0);
            operation_apply_model(&op, &m);
            assert_agrees(&m, map, &random, seed, step);
            if (random_one_in(&random, 20)) {
                struct extent_map *copy = extent_map_clone(map);

                extent_map_free(map);
                map = copy;
                assert_agrees(&m, map, &random, seed, step);
            }
        }
        extent_map_free(map);
    }
}

/* Fails each allocation of each operation in turn: the map must be as it was, and work when tried again. */
static void test_random_operations_out_of_memory(void **state)
{
    static struct model m;
    const int seeds = 60, steps = 120;
    long failed = 0;

    (void)state;
    print_message("seeds 1..%d, %d steps each\n", seeds, steps);
    for (uint64_t seed = 1; seed <= (uint64_t)seeds; seed++) {
        struct random random = {seed};
        struct extent_map *map = extent_map_new();

        m.size = 0;
        for (int step = 0; step < steps; step++) {
            struct operation op = random_operation(&random, 100);
            int r = -ENOMEM;

            for (long allowed = 0; r == -ENOMEM; allowed++) {
                struct extent_map *fresh = extent_map_clone(map); /* with nothing in reserve */

                extent_map_free(map);
                map = fresh;
                failing_alloc_failed = 0;
                failing_alloc_countdown = allowed;
                r = operation_apply(&op, map);
                failing_alloc_countdown = -1;
                assert_int_equal(r, failing_alloc_failed ? -ENOMEM : 0);
                failed += failing_alloc_failed;
                if (r == 0)
                    operation_apply_model(&op, &m);
                assert_agrees(&m, map, &random, seed, step);
                assert_true(allowed < 10);
            }
        }
        extent_map_free(map);
    }
    print_message("%ld allocations failed\n", failed);
    assert_true(failed > 1000);
}

static void test_new_and_clone_out_of_memory(void **state)
{
    struct extent_map *map = extent_map_new(), *copy = NULL;
    long allowed;

    (void)state;
    for (uint64_t i = 0; i < 20; i++)
        extent_map_write(map, 10 * i, 10 * i + 10, (uint32_t)i);
    extent_map_commit(map, 3, 0, 200);
    for (allowed = 0; !copy; allowed++) {
        failing_alloc_countdown = allowed;
        copy = extent_map_clone(map);
        failing_alloc_countdown = -1;
    }
    assert_int_equal(allowed, 1 + 2 + (long)extent_map_count(map)); /* all went wrong once: map, bases, nodes */
    extent_map_check(copy);
    extent_map_free(copy);
    extent_map_free(map);
    failing_alloc_countdown = 0;
    assert_null(extent_map_new());
    failing_alloc_countdown = -1;
}

/* ------------------------------------------------------------------------------- random, with the bytes */

#define BYTES 200
#define BASES 64

/* A file, every object it ever stood in, and an upload that may be running. */
struct world {
    struct extent_map *map;
    unsigned char file[BYTES];
    uint64_t size;
    unsigned char base[BASES][BYTES];
    int n_bases;
    uint32_t epoch;
    bool uploading;
    unsigned char snapshot[BYTES];
    uint64_t snapshot_size;
};

/* Every byte that the map calls clean or remote stands in its base. */
static void world_check(const struct world *w)
{
    struct extent e;

    assert_int_equal(extent_map_size(w->map), w->size);
    for (uint64_t at = 0; extent_map_find(w->map, at, &e); at = e.end)
        if (e.base != EXTENT_NEW)
            assert_memory_equal(w->base[e.base] + e.base_offset, w->file + e.start, e.end - e.start);
}

static void world_upload(struct world *w)
{
    if (!w->uploading) {
        w->uploading = true;
        memcpy(w->snapshot, w->file, BYTES);
        w->snapshot_size = w->size;
        w->epoch++;
        return;
    }
    w->uploading = false;
    memcpy(w->base[w->n_bases], w->snapshot, BYTES);
    assert_int_equal(extent_map_commit(w->map, w->epoch - 1, w->n_bases++, w->snapshot_size), 0);
}

static void world_step(struct world *w, struct random *random)
{
    uint64_t start = random_below(random, BYTES), end = random_between(random, start, BYTES);

    switch (random_below(random, 8)) {
    case 0:
        if (start > w->size)
            memset(w->file + w->size, 0, start - w->size);
        w->size = start;
        assert_int_equal(extent_map_truncate(w->map, start, w->epoch), 0);
        break;
    case 1:
        assert_int_equal(extent_map_fetched(w->map, start, end), 0);
        break;
    case 2:
        assert_int_equal(extent_map_drop(w->map, start, end), 0);
        break;
    case 3:
        world_upload(w);
        break;
    case 4: /* an upload that fails leaves everything to the next */
        w->uploading = w->uploading && !random_one_in(random, 4);
        break;
    default:
        if (end > start + 20)
            end = start + 20;
        if (start > w->size && end > start)
            memset(w->file + w->size, 0, start - w->size);
        for (uint64_t i = start; i < end; i++)
            w->file[i] = (unsigned char)random_u64(random);
        if (end > w->size && end > start)
            w->size = end;
        assert_int_equal(extent_map_write(w->map, start, end, w->epoch), 0);
    }
}

static void test_random_uploads_keep_the_bytes(void **state)
{
    static struct world w;
    const uint64_t seeds = 400;

    (void)state;
    print_message("seeds 1..%llu\n", (unsigned long long)seeds);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct random random = {seed};

        memset(&w, 0, sizeof(w));
        w.map = extent_map_new();
        w.epoch = 1;
        while (w.n_bases < BASES) {
            world_step(&w, &random);
            extent_map_check(w.map);
            world_check(&w);
        }
        extent_map_free(w.map);
    }
}

/* -------------------------------------------------------------------------------------------------- speed */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_many_random_writes(void **state)
{
    struct extent_map *map = extent_map_new();
    struct random random = {1};
    const int writes = 250000;
    double begin = seconds(), spent;
    struct extent e;

    (void)state;
    extent_map_set_base(map, 0, 1ULL << 40);
    for (int i = 0; i < writes; i++) {
        uint64_t at = random_below(&random, 1ULL << 28) * 4096;

        assert_int_equal(extent_map_write(map, at, at + 4096, 1), 0);
    }
    spent = seconds() - begin;
    print_message("%d random writes: %.2f s, %zu extents\n", writes, spent, extent_map_count(map));
    extent_map_check(map);
    assert_true(extent_map_count(map) > 480000);
    if (!SANITIZED)
        assert_true(spent < 15); /* of the processor; a list in place of the tree would need minutes */
    begin = seconds();
    for (int i = 0; i < writes; i++)
        assert_true(extent_map_next_dirty(map, random_below(&random, 1ULL << 39), 1ULL << 40, &e));
    print_message("%d searches: %.2f s\n", writes, seconds() - begin);
    extent_map_free(map);
}

static void test_a_million_appends_are_one_extent(void **state)
{
    struct extent_map *map = extent_map_new();

    (void)state;
    for (uint64_t at = 0; at < 1000000; at++)
        assert_int_equal(extent_map_write(map, 4096 * at, 4096 * (at + 1), 1), 0);
    assert_int_equal(extent_map_count(map), 1);
    assert_int_equal(extent_map_dirty_bytes(map), 4096000000);
    extent_map_check(map);
    extent_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_fetch_and_drop),
        cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_commit_after_truncation_below),
        cmocka_unit_test(test_neighbours_of_two_bases),
        cmocka_unit_test(test_clone_is_independent),
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_random_operations_out_of_memory),
        cmocka_unit_test(test_new_and_clone_out_of_memory),
        cmocka_unit_test(test_random_uploads_keep_the_bytes),
        cmocka_unit_test(test_many_random_writes),
        cmocka_unit_test(test_a_million_appends_are_one_extent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
