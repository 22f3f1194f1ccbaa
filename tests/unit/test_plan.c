/*
 * The upload planner: each rule in words, the figures that the design promises, and sizes up to the service's
 * maximum. Every plan made here is also judged by plan_check. Random inputs: test_plan_random.c.
 */
#include "failing_alloc.h"

/* The source itself, so that its allocations can be made to fail. */
#include "../../cache/plan.c"

#include "plan_check.h"
#include "random.h"
#include "vectors/part_size.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define KB (1ULL << 10)
#define MB (1ULL << 20)
#define GB (1ULL << 30)
#define TB (1ULL << 40)

/* ----------------------------------------------------------------------------------------------- scenes */

struct scene {
    struct extent_map *map;
    struct plan_base bases[4];
    struct plan_input in;
    struct plan plan;
};

/* A new file, no object. */
static struct scene scene_new(void)
{
    struct scene s = {.map = extent_map_new()};

    s.in = (struct plan_input){.map = s.map, .limits = plan_limits_default};
    return s;
}

/* A file whose object is known and remote. */
static struct scene scene_object(uint64_t size)
{
    struct scene s = scene_new();

    assert_int_equal(extent_map_set_base(s.map, 0, size), 0);
    s.bases[0] = (struct plan_base){.id = 0, .size = size, .copyable = true, .own_key = true};
    s.in.n_bases = 1;
    s.in.exists = true;
    return s;
}

/* Limits small enough to read: parts of 10 to 100, a threshold of 50. */
static void scene_small_limits(struct scene *s)
{
    s->in.limits = (struct plan_limits){.multipart_threshold = 50,
                                        .part_size = 40,
                                        .part_min = 10,
                                        .part_max = 100,
                                        .parts_max = 1000,
                                        .copy_max = 80,
                                        .append_max = 1000,
                                        .object_max = 100000};
}

/* Plans and has the plan judged. */
static int scene_plan(struct scene *s)
{
    const char *problem;
    int r;

    s->in.bases = s->bases;
    plan_free(&s->plan);
    r = plan_make(&s->in, &s->plan);
    problem = plan_check(&s->in, &s->plan, r);
    if (problem)
        fail_msg("%s", problem);
    return r;
}

static void scene_free(struct scene *s)
{
    plan_free(&s->plan);
    extent_map_free(s->map);
}

/* Plans; the steps must be these. */
static void assert_plan(struct scene *s, const char *expected)
{
    char text[4096];

    assert_int_equal(scene_plan(s), 0);
    plan_describe(&s->plan, text, sizeof(text));
    assert_string_equal(text, expected);
}

/* ------------------------------------------------------------------------------------------------ rules */

static void test_nothing(void **state)
{
    struct scene s = scene_object(1000);

    (void)state;
    assert_plan(&s, "");
    extent_map_fetched(s.map, 100, 200);
    assert_plan(&s, "");
    scene_free(&s);
    s = scene_object(0); /* an empty object, opened and not changed */
    assert_plan(&s, "");
    scene_free(&s);
}

static void test_attributes_only(void **state)
{
    struct scene s = scene_object(2 * TB);

    (void)state;
    s.in.attrs_changed = true;
    assert_plan(&s, "copy-self [0, +2199023255552)\n");
    scene_free(&s);
    s = scene_object(0);
    s.in.attrs_changed = true;
    assert_plan(&s, "copy-self [0, +0)\n");
    scene_free(&s);
    s = scene_new(); /* no object yet: the attributes go with it */
    s.in.attrs_changed = true;
    assert_plan(&s, "put [0, +0)\n");
    scene_free(&s);
}

/* What copy_file_range() leaves: a file that stands in another object, whole or in part. */
static void test_copies_of_another_object(void **state)
{
    struct scene s = scene_new();

    (void)state;
    s.bases[0] = (struct plan_base){.id = 7, .size = 3000, .copyable = true};
    s.in.n_bases = 1;
    assert_int_equal(extent_map_share(s.map, 0, 3000, 7, 0), 0);
    assert_plan(&s, "copy-whole [0, +3000) from 7@0\n");
    s.bases[0].copyable = false;
    assert_plan(&s, "fetch [0, +3000) from 7@0\nput [0, +3000)\n");
    s.bases[0] = (struct plan_base){.id = 7, .size = 3001, .copyable = true}; /* not all of it */
    assert_plan(&s, "fetch [0, +3000) from 7@0\nput [0, +3000)\n");
    scene_free(&s);
    s = scene_object(100); /* over a file that is there */
    s.bases[1] = (struct plan_base){.id = 7, .size = 2 * GB, .copyable = true};
    s.in.n_bases = 2;
    assert_int_equal(extent_map_share(s.map, 0, 2 * GB, 7, 0), 0);
    assert_plan(&s, "initiate\n"
                    "copy 1 [0, +1073741824) from 7@0\n"
                    "copy 2 [1073741824, +1073741824) from 7@1073741824\n"
                    "complete [0, +2147483648)\n");
    assert_int_equal(extent_map_truncate(s.map, GB, 1), 0);
    s.bases[1].size = GB;
    assert_plan(&s, "copy-whole [0, +1073741824) from 7@0\n");
    assert_int_equal(extent_map_write(s.map, 5, 10, 1), 0);
    assert_int_equal(scene_plan(&s), 0);
    assert_true(plan_cost(&s.plan).sent < 200 * KB);
    scene_free(&s);
}

/* Where CopyObject has a limit, a longer object is copied in parts, without a byte moved. */
static void test_attributes_of_an_object_over_the_copy_limit(void **state)
{
    struct scene s = scene_object(3 * GB);

    (void)state;
    s.in.attrs_changed = true;
    s.in.limits.copy_self_max = GB;
    assert_plan(&s, "initiate\n"
                    "copy 1 [0, +1073741824) from 0@0\n"
                    "copy 2 [1073741824, +1073741824) from 0@1073741824\n"
                    "copy 3 [2147483648, +1073741824) from 0@2147483648\n"
                    "complete [0, +3221225472)\n");
    s.in.limits.multipart_threshold = 4 * GB; /* not a reason to fetch 3 GB */
    assert_int_equal(scene_plan(&s), 0);
    assert_int_equal(plan_cost(&s.plan).fetched, 0);
    s.in.limits.copy_self_max = 3 * GB;
    assert_plan(&s, "copy-self [0, +3221225472)\n");
    scene_free(&s);
}

static void test_attributes_of_an_object_that_cannot_be_copied(void **state)
{
    struct scene s = scene_object(5000);

    (void)state;
    s.in.attrs_changed = true;
    s.bases[0].copyable = false;
    assert_plan(&s, "fetch [0, +5000) from 0@0\nput [0, +5000)\n");
    scene_free(&s);
}

static void test_put(void **state)
{
    struct scene s = scene_new();

    (void)state;
    assert_plan(&s, "put [0, +0)\n");
    extent_map_write(s.map, 0, 10 * MB, 1);
    s.in.attrs_changed = true; /* they go with the put */
    assert_plan(&s, "put [0, +10485760)\n");
    scene_free(&s);
    s = scene_object(1000); /* emptied */
    extent_map_truncate(s.map, 0, 1);
    assert_plan(&s, "put [0, +0)\n");
    scene_free(&s);
    s = scene_object(1000); /* emptied, and the old base forgotten */
    extent_map_truncate(s.map, 0, 1);
    s.in.n_bases = 0;
    assert_plan(&s, "put [0, +0)\n");
    scene_free(&s);
}

/* What a PUT needs and is remote is fetched before, in as few requests as make sense. */
static void test_put_fetches(void **state)
{
    struct scene s = scene_object(9 * MB);

    (void)state;
    extent_map_write(s.map, 5000, 9000, 1);
    assert_plan(&s, "fetch [0, +9437184) from 0@0\nput [0, +9437184)\n");
    extent_map_fetched(s.map, 9000, 9000 + 200 * KB);
    assert_plan(&s, "fetch [0, +5000) from 0@0\n"
                    "fetch [213800, +9223384) from 0@213800\n"
                    "put [0, +9437184)\n");
    extent_map_truncate(s.map, 100, 1);
    assert_plan(&s, "fetch [0, +100) from 0@0\nput [0, +100)\n");
    scene_free(&s);
}

static void test_threshold(void **state)
{
    struct scene s = scene_new();

    (void)state;
    extent_map_truncate(s.map, 10 * MB - 1, 1);
    assert_plan(&s, "put [0, +10485759)\n");
    extent_map_truncate(s.map, 10 * MB, 1);
    assert_plan(&s, "put [0, +10485760)\n");
    extent_map_truncate(s.map, 10 * MB + 1, 1);
    assert_plan(&s, "initiate\npart 1 [0, +10485760)\npart 2 [10485760, +1)\ncomplete [0, +10485761)\n");
    extent_map_truncate(s.map, 20 * MB, 1);
    assert_plan(&s, "initiate\npart 1 [0, +10485760)\npart 2 [10485760, +10485760)\ncomplete [0, +20971520)\n");
    s.in.limits.multipart_threshold = UINT64_MAX; /* a PUT has the service's limit whatever the user says */
    s.in.limits.part_size = 5 * GB;
    extent_map_truncate(s.map, 5 * GB, 1);
    assert_plan(&s, "put [0, +5368709120)\n");
    extent_map_truncate(s.map, 5 * GB + 1, 1);
    assert_plan(&s, "initiate\npart 1 [0, +5368709120)\npart 2 [5368709120, +1)\ncomplete [0, +5368709121)\n");
    scene_free(&s);
    s = scene_new(); /* a part as long as the file: still the rule */
    s.in.limits.multipart_threshold = 0;
    extent_map_truncate(s.map, 5, 1);
    assert_plan(&s, "initiate\npart 1 [0, +5)\ncomplete [0, +5)\n");
    scene_free(&s);
}

static void test_append(void **state)
{
    struct scene s = scene_new();

    (void)state;
    s.in.only_appends = true;
    assert_plan(&s, "put [0, +0)\n"); /* nothing written: an ordinary empty object */
    extent_map_write(s.map, 0, 100, 1);
    assert_plan(&s, "append [0, +100)\n");
    s.in.attrs_changed = true; /* the append that creates it takes them along */
    assert_plan(&s, "append [0, +100)\n");
    scene_free(&s);

    s = scene_object(20 * MB);
    s.bases[0].appendable = true;
    s.in.only_appends = true;
    assert_plan(&s, "");
    extent_map_write(s.map, 20 * MB, 20 * MB + 7, 1);
    assert_plan(&s, "append [20971520, +7)\n");
    s.in.attrs_changed = true;
    assert_plan(&s, "append [20971520, +7)\ncopy-self [0, +20971527)\n");
    scene_free(&s);

    s = scene_object(0);
    s.bases[0].appendable = true;
    s.in.only_appends = s.in.attrs_changed = true;
    extent_map_write(s.map, 0, 7, 1);
    assert_plan(&s, "append [0, +7)\ncopy-self [0, +7)\n");
    scene_free(&s);
}

static void test_append_where_it_may_not(void **state)
{
    struct scene s = scene_object(60);

    (void)state;
    scene_small_limits(&s);
    s.in.only_appends = true;
    extent_map_write(s.map, 60, 80, 1);
    assert_plan(&s,
                "initiate\ncopy 1 [0, +60) from 0@0\npart 2 [60, +20)\ncomplete [0, +80)\n"); /* a Normal object */
    s.bases[0].appendable = true;
    assert_plan(&s, "append [60, +20)\n");
    s.in.limits.append_max = 79;
    assert_plan(&s, "initiate\ncopy 1 [0, +60) from 0@0\npart 2 [60, +20)\ncomplete [0, +80)\n");
    s.in.limits.append_max = 80;
    s.in.attrs_changed = true;
    s.bases[0].copyable = false; /* no way to correct the attributes after it */
    assert_plan(&s, "fetch [0, +60) from 0@0\ninitiate\npart 1 [0, +40)\npart 2 [40, +40)\ncomplete [0, +80)\n");
    s.in.attrs_changed = false;
    assert_plan(&s, "append [60, +20)\n");
    s.in.only_appends = false;
    assert_plan(&s, "fetch [0, +60) from 0@0\ninitiate\npart 1 [0, +40)\npart 2 [40, +40)\ncomplete [0, +80)\n");
    scene_free(&s);

    s = scene_object(60); /* truncated and written on: the object is no beginning of the file */
    scene_small_limits(&s);
    s.bases[0].appendable = true;
    s.in.only_appends = true;
    extent_map_truncate(s.map, 30, 1);
    extent_map_write(s.map, 30, 70, 1);
    assert_plan(&s, "initiate\ncopy 1 [0, +30) from 0@0\npart 2 [30, +40)\ncomplete [0, +70)\n");
    s.in.n_bases = 0; /* an object of which nothing is known */
    assert_int_equal(scene_plan(&s), 0);
    scene_free(&s);
}

/* ------------------------------------------------------------------------------------------ partial change */

static void test_change_in_the_middle(void **state)
{
    struct scene s = scene_object(300);

    (void)state;
    scene_small_limits(&s);
    extent_map_write(s.map, 148, 152, 1);
    assert_plan(&s, "fetch [142, +6) from 0@142\ninitiate\n"
                    "copy 1 [0, +71) from 0@0\ncopy 2 [71, +71) from 0@71\n"
                    "part 3 [142, +10)\n"
                    "copy 4 [152, +74) from 0@152\ncopy 5 [226, +74) from 0@226\n"
                    "complete [0, +300)\n");
    extent_map_fetched(s.map, 152, 170); /* bytes that are here need no fetch */
    assert_plan(&s, "initiate\n"
                    "copy 1 [0, +74) from 0@0\ncopy 2 [74, +74) from 0@74\n"
                    "part 3 [148, +10)\n"
                    "copy 4 [158, +71) from 0@158\ncopy 5 [229, +71) from 0@229\n"
                    "complete [0, +300)\n");
    scene_free(&s);

    s = scene_object(100); /* three local bytes on one side, two on the other: the fetch is least with both */
    scene_small_limits(&s);
    extent_map_fetched(s.map, 45, 54);
    extent_map_write(s.map, 48, 52, 1);
    assert_plan(&s, "fetch [54, +1) from 0@54\ninitiate\ncopy 1 [0, +45) from 0@0\npart 2 [45, +10)\n"
                    "copy 3 [55, +45) from 0@55\ncomplete [0, +100)\n");
    scene_free(&s);
}

static void test_change_near_the_ends(void **state)
{
    struct scene s = scene_object(100);

    (void)state;
    scene_small_limits(&s);
    extent_map_write(s.map, 0, 1, 1);
    assert_plan(&s, "fetch [1, +9) from 0@1\ninitiate\npart 1 [0, +10)\ncopy 2 [10, +45) from 0@10\n"
                    "copy 3 [55, +45) from 0@55\ncomplete [0, +100)\n");
    scene_free(&s);

    s = scene_object(100); /* what lies before is too short to be a part: it goes along */
    scene_small_limits(&s);
    s.in.limits.copy_max = 100;
    extent_map_write(s.map, 7, 8, 1);
    assert_plan(&s, "fetch [0, +10) from 0@0\ninitiate\npart 1 [0, +10)\ncopy 2 [10, +90) from 0@10\n"
                    "complete [0, +100)\n");
    scene_free(&s);

    s = scene_object(100); /* the last part may be short, sent or copied */
    scene_small_limits(&s);
    s.in.limits.copy_max = 100;
    extent_map_write(s.map, 99, 101, 1);
    assert_plan(&s, "initiate\ncopy 1 [0, +99) from 0@0\npart 2 [99, +2)\ncomplete [0, +101)\n");
    extent_map_write(s.map, 80, 96, 1);
    assert_plan(&s, "fetch [96, +3) from 0@96\ninitiate\ncopy 1 [0, +80) from 0@0\npart 2 [80, +21)\n"
                    "complete [0, +101)\n");
    extent_map_truncate(s.map, 99, 1); /* a remote rest: a copy is as cheap as the fetch, and nothing is sent */
    assert_plan(&s, "initiate\ncopy 1 [0, +80) from 0@0\npart 2 [80, +16)\ncopy 3 [96, +3) from 0@96\n"
                    "complete [0, +99)\n");
    extent_map_fetched(s.map, 90, 99); /* a local rest goes along */
    assert_plan(&s, "initiate\ncopy 1 [0, +80) from 0@0\npart 2 [80, +19)\ncomplete [0, +99)\n");
    scene_free(&s);

    s = scene_object(100); /* neither the change nor the rest is a part: one part together */
    scene_small_limits(&s);
    s.in.limits.copy_max = 100;
    extent_map_write(s.map, 93, 95, 1);
    assert_plan(&s, "fetch [95, +5) from 0@95\ninitiate\ncopy 1 [0, +93) from 0@0\npart 2 [93, +7)\n"
                    "complete [0, +100)\n");
    scene_free(&s);
}

/* The last run may give more than others: it need not stay as long as a part. */
static void test_last_run_gives_up_bytes(void **state)
{
    struct scene s = scene_object(100);

    (void)state;
    scene_small_limits(&s);
    s.in.limits.copy_max = 100;
    extent_map_fetched(s.map, 85, 94);
    extent_map_write(s.map, 84, 85, 1);
    assert_plan(&s, "initiate\ncopy 1 [0, +84) from 0@0\npart 2 [84, +10)\ncopy 3 [94, +6) from 0@94\n"
                    "complete [0, +100)\n");
    extent_map_fetched(s.map, 94, 100); /* what would be left is here: it goes along */
    assert_plan(&s, "initiate\ncopy 1 [0, +84) from 0@0\npart 2 [84, +16)\ncomplete [0, +100)\n");
    scene_free(&s);
}

static void test_short_clean_range_between_dirty_ones(void **state)
{
    struct scene s = scene_object(100);

    (void)state;
    scene_small_limits(&s);
    s.in.limits.copy_max = 100;
    extent_map_write(s.map, 20, 40, 1);
    extent_map_write(s.map, 49, 69, 1);
    assert_plan(&s, "fetch [40, +9) from 0@40\ninitiate\ncopy 1 [0, +20) from 0@0\npart 2 [20, +25)\n"
                    "part 3 [45, +24)\ncopy 4 [69, +31) from 0@69\ncomplete [0, +100)\n");
    extent_map_set_base(s.map, 0, 100);
    extent_map_write(s.map, 20, 40, 1);
    extent_map_write(s.map, 50, 60, 1); /* ten clean bytes are a part */
    assert_plan(&s, "initiate\ncopy 1 [0, +20) from 0@0\npart 2 [20, +20)\ncopy 3 [40, +10) from 0@40\n"
                    "part 4 [50, +10)\ncopy 5 [60, +40) from 0@60\ncomplete [0, +100)\n");
    extent_map_set_base(s.map, 0, 100);
    extent_map_write(s.map, 15, 16, 1); /* both changes want bytes of the range between them: it goes along */
    extent_map_write(s.map, 28, 29, 1);
    assert_plan(&s, "fetch [16, +12) from 0@16\ninitiate\ncopy 1 [0, +15) from 0@0\npart 2 [15, +14)\n"
                    "copy 3 [29, +71) from 0@29\ncomplete [0, +100)\n");
    scene_free(&s);
}

static void test_truncated_object_is_only_copied(void **state)
{
    struct scene s = scene_object(4 * GB);

    (void)state;
    extent_map_truncate(s.map, 2 * GB + 1, 1);
    assert_plan(&s, "initiate\n"
                    "copy 1 [0, +715827883) from 0@0\n"
                    "copy 2 [715827883, +715827883) from 0@715827883\n"
                    "copy 3 [1431655766, +715827883) from 0@1431655766\n"
                    "complete [0, +2147483649)\n");
    scene_free(&s);
}

static void test_base_that_cannot_be_copied(void **state)
{
    struct scene s = scene_object(100);

    (void)state;
    scene_small_limits(&s);
    s.bases[0].copyable = false;
    extent_map_write(s.map, 50, 60, 1);
    assert_plan(&s, "fetch [0, +50) from 0@0\nfetch [60, +40) from 0@60\ninitiate\npart 1 [0, +40)\n"
                    "part 2 [40, +40)\npart 3 [80, +20)\ncomplete [0, +100)\n");
    scene_free(&s);
}

/* 4 KiB changed in 1 GiB: at most 6 requests, 256 KiB up, 256 KiB down; two places: at most 10 requests. */
static void test_budget_of_a_small_change(void **state)
{
    struct scene s = scene_object(GB);
    struct plan_cost cost;

    (void)state;
    extent_map_write(s.map, 512 * MB, 512 * MB + 4 * KB, 1);
    assert_int_equal(scene_plan(&s), 0);
    cost = plan_cost(&s.plan);
    print_message("4 KiB in 1 GiB: %d requests, %d bytes down, %d bytes up\n", (int)cost.requests, (int)cost.fetched,
                  (int)cost.sent);
    assert_true(cost.requests <= 6);
    assert_true(cost.fetched <= 256 * KB && cost.sent <= 256 * KB);
    extent_map_write(s.map, 12 * MB, 12 * MB + 4 * KB, 1);
    assert_int_equal(scene_plan(&s), 0);
    cost = plan_cost(&s.plan);
    print_message("twice, 500 MiB apart: %d requests\n", (int)cost.requests);
    assert_true(cost.requests <= 10);
    scene_free(&s);

    s = scene_object(5 * GB);
    extent_map_write(s.map, 3 * GB, 3 * GB + 4 * KB, 1);
    assert_int_equal(scene_plan(&s), 0);
    cost = plan_cost(&s.plan);
    print_message("4 KiB in 5 GiB: %d requests\n", (int)cost.requests);
    assert_true(cost.requests <= 10 && cost.fetched <= 256 * KB && cost.sent <= 256 * KB);
    scene_free(&s);
}

/* A file of 40 MiB, written 4 KiB at a time with an fsync after each: bytes and requests stay proportional. */
static void test_fsync_happy_writer_of_a_growing_file(void **state)
{
    struct scene s = scene_new();
    uint64_t sent = 0, fetched = 0, requests = 0, flushes = 0;

    (void)state;
    for (uint64_t size = 4 * KB; size <= 40 * MB; size += 4 * KB) {
        struct plan_cost cost;

        extent_map_write(s.map, size - 4 * KB, size, 1);
        s.in.flushed = sent;
        assert_int_equal(scene_plan(&s), 0);
        cost = plan_cost(&s.plan);
        sent += cost.sent;
        fetched += cost.fetched;
        requests += cost.requests;
        flushes++;
        assert_int_equal(extent_map_commit(s.map, 1, 0, size), 0);
        s.bases[0] = (struct plan_base){.id = 0, .size = size, .copyable = true, .own_key = true};
        s.in.n_bases = 1;
        s.in.exists = true;
    }
    print_message("40 MiB in %d flushes: %.1f MiB up, %.1f MiB down, %.2f requests a flush\n", (int)flushes,
                  (double)sent / MB, (double)fetched / MB, (double)requests / (double)flushes);
    assert_true(sent <= 6 * 40 * MB);
    assert_true(requests <= 5 * flushes);
    assert_int_equal(fetched, 0);
    scene_free(&s);
}

static void test_flushed_often_but_nothing_to_copy(void **state)
{
    struct scene s = scene_object(100 * KB);

    (void)state;
    s.in.flushed = 400 * KB;
    extent_map_write(s.map, 100 * KB, 100 * KB + 1, 1);
    assert_plan(&s, "fetch [0, +102400) from 0@0\nput [0, +102401)\n"); /* four times the size is not yet too often */
    s.in.flushed = 10 * MB;
    assert_plan(&s, "initiate\ncopy 1 [0, +102400) from 0@0\npart 2 [102400, +1)\ncomplete [0, +102401)\n");
    extent_map_write(s.map, 5, 6, 1);
    assert_plan(&s, "fetch [0, +102400) from 0@0\nput [0, +102401)\n");
    extent_map_truncate(s.map, 0, 1);
    assert_plan(&s, "put [0, +0)\n");
    scene_free(&s);
}

/* ----------------------------------------------------------------------------------------- many parts, sizes */

/* More dirty ranges than there may be parts: the shortest clean ranges between them are given up first. */
static void test_more_ranges_than_parts(void **state)
{
    struct scene s = scene_object(200 * GB);
    struct random random = {1};
    struct plan_cost cost;
    clock_t begin;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t at = random_below(&random, 200 * GB / (4 * KB)) * 4 * KB;

        extent_map_write(s.map, at, at + 4 * KB, 1);
    }
    assert_int_equal(scene_plan(&s), 0);
    cost = plan_cost(&s.plan);
    print_message("20,000 changes in 200 GiB: %d parts, %.1f GiB up, %.1f GiB copied\n", (int)cost.parts,
                  (double)cost.sent / GB, (double)cost.copied / GB);
    assert_true(cost.parts > 7000);
    assert_true(cost.sent < 90 * GB); /* 80 GiB lie between the 15,000 pairs of changes that are closest */
    scene_free(&s);

    s = scene_object(TB);
    for (int i = 0; i < 200000; i++) {
        uint64_t at = random_below(&random, TB / (4 * KB)) * 4 * KB;

        extent_map_write(s.map, at, at + 4 * KB, 1);
    }
    s.in.bases = s.bases;
    begin = clock();
    assert_int_equal(plan_make(&s.in, &s.plan), 0);
    print_message("a plan of %zu extents: %.2f s\n", extent_map_count(s.map),
                  (double)(clock() - begin) / CLOCKS_PER_SEC);
    assert_true(plan_cost(&s.plan).parts <= 10000);
    scene_free(&s);
}

static void test_every_size_to_the_maximum(void **state)
{
    struct scene s = scene_new();
    uint64_t sizes[] = {1,
                        99 * KB,
                        100 * KB,
                        10 * MB,
                        10 * MB + 1,
                        GB,
                        5 * GB,
                        100000 * MB,
                        100000 * MB + 1,
                        TB,
                        10 * TB,
                        33 * TB,
                        43980465111040,
                        48 * TB,
                        OSS_OBJECT_MAX - 1,
                        OSS_OBJECT_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (uint64_t part = 0; part <= 8 * GB; part = part ? 9 * part : 100 * KB) {
            extent_map_truncate(s.map, 0, 1);
            extent_map_truncate(s.map, sizes[i], 1);
            s.in.limits.part_size = part;
            assert_int_equal(scene_plan(&s), 0);
            assert_true(s.plan.n <= 10002);
        }
    extent_map_truncate(s.map, OSS_OBJECT_MAX + 1, 1);
    assert_int_equal(scene_plan(&s), -EFBIG);
    s.in.limits.object_max = UINT64_MAX;
    assert_int_equal(scene_plan(&s), -EFBIG);
    scene_free(&s);
}

/* Copies of 1 GB cannot make more than 10,000 GB: they get longer, and only then. */
static void test_huge_remote_objects(void **state)
{
    const uint64_t sizes[] = {9000 * GB, 10001 * GB, 30 * TB, OSS_OBJECT_MAX - 20 * GB, OSS_OBJECT_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct scene s = scene_object(sizes[i]);
        struct plan_cost cost;

        extent_map_write(s.map, 12345 * MB, 12345 * MB + 4 * KB, 1);
        assert_int_equal(scene_plan(&s), 0);
        cost = plan_cost(&s.plan);
        print_message("4 KiB in %.1f TiB: %d parts, %llu bytes up\n", (double)sizes[i] / TB, (int)cost.parts,
                      (unsigned long long)cost.sent);
        assert_true(cost.sent <= (sizes[i] < OSS_OBJECT_MAX ? 256 * KB : 5 * GB));
        extent_map_set_base(s.map, 0, OSS_OBJECT_MAX);
        extent_map_truncate(s.map, sizes[i] - 1, 1);
        assert_int_equal(scene_plan(&s), 0);
        assert_int_equal(plan_cost(&s.plan).sent, 0);
        scene_free(&s);
    }
}

/* A whole object copied to another key (a rename, say). */
static void test_copy_to_another_key(void **state)
{
    const uint64_t sizes[] = {GB + 1, 5 * GB, 10000 * GB, 10000 * GB + 1, OSS_OBJECT_MAX};
    struct plan_limits limits = plan_limits_default;
    struct plan plan;
    char text[200];

    (void)state;
    for (uint64_t size = 0; size <= GB; size += GB) {
        assert_int_equal(plan_copy(size, 3, &limits, &plan), 0);
        snprintf(text, sizeof(text), "copy-self [0, +%llu)\n", (unsigned long long)size);
        assert_string_equal((plan_describe(&plan, text + 100, 100), text + 100), text);
        plan_free(&plan);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct scene s = scene_object(sizes[i]);

        s.bases[0].id = 3; /* the same steps as for attributes of an object that one copy cannot reach */
        extent_map_set_base(s.map, 3, sizes[i]);
        s.in.bases = s.bases;
        s.in.attrs_changed = true;
        s.in.limits.copy_self_max = 1;
        assert_int_equal(plan_copy(sizes[i], 3, &limits, &s.plan), 0);
        assert_null(plan_check(&s.in, &s.plan, 0));
        assert_int_equal(plan_cost(&s.plan).copied, sizes[i]);
        scene_free(&s);
    }
    assert_int_equal(plan_copy(OSS_OBJECT_MAX + 1, 3, &limits, &plan), -EFBIG);
    limits.object_max = UINT64_MAX;
    assert_int_equal(plan_copy(OSS_OBJECT_MAX + 1, 3, &limits, &plan), -EFBIG);
    assert_int_equal(plan.n, 0);
    for (long allowed = 0; allowed < 3; allowed++) { /* 8 steps, 16, 32: three times memory is needed */
        failing_alloc_countdown = allowed;
        assert_int_equal(plan_copy(20 * GB, 3, &limits, &plan), -ENOMEM);
        failing_alloc_countdown = -1;
        assert_null(plan.steps);
    }
}

static void test_limits_that_contradict_each_other(void **state)
{
    struct scene s = scene_new();
    struct plan plan;

    (void)state;
    scene_small_limits(&s);
    s.in.limits.part_max = 19;
    assert_int_equal(plan_make(&s.in, &plan), -EINVAL);
    scene_small_limits(&s);
    s.in.limits.copy_max = 19;
    assert_int_equal(plan_make(&s.in, &plan), -EINVAL);
    scene_small_limits(&s);
    s.in.limits.part_min = 0;
    assert_int_equal(plan_make(&s.in, &plan), -EINVAL);
    scene_small_limits(&s);
    s.in.limits.parts_max = 0;
    assert_int_equal(plan_make(&s.in, &plan), -EINVAL);
    assert_int_equal(plan.n, 0);
    scene_free(&s);
}

static void test_part_size_vectors(void **state)
{
    size_t n = sizeof(part_size_cases) / sizeof(part_size_cases[0]), clamped = 0;

    (void)state;
    assert_int_equal(n, PART_SIZE_CASES);
    for (size_t i = 0; i < n; i++) {
        const struct part_size_case *c = &part_size_cases[i];
        struct plan_limits limits = plan_limits_default;
        uint64_t part, parts;

        limits.parts_max = c->max_parts;
        part = plan_part_size(c->total_size, c->preferred_size, &limits);
        if (c->part_size > limits.part_max) { /* the vendor's helper knows no upper limit */
            clamped++;
            assert_int_equal(part, limits.part_max);
            continue;
        }
        assert_int_equal(part, c->part_size);
        parts = part ? (c->total_size + part - 1) / part : 0;
        assert_int_equal(parts, c->part_count);
        assert_int_equal(parts ? c->total_size - (parts - 1) * part : 0, c->last_part_size);
    }
    assert_int_equal(clamped, 4);
}

/* --------------------------------------------------------------------------------------- growing schedule */

/* The schedule as the contract words it, summed part by part; checked at every part. */
static void check_stream(const struct plan_limits *limits, uint64_t cache_size)
{
    uint64_t sum = 0;

    for (int number = 1; number <= (int)limits->parts_max; number++) {
        uint64_t expected = limits->part_size, offset, size;

        for (int i = 0; i < (number - 1) / 400 && expected < limits->part_max; i++)
            expected *= 2;
        if (expected > cache_size / 8)
            expected = cache_size / 8;
        if (expected > limits->part_max)
            expected = limits->part_max;
        if (expected < limits->part_min)
            expected = limits->part_min;
        plan_stream_part(number, limits, cache_size, &offset, &size);
        assert_int_equal(size, expected);
        assert_int_equal(offset, sum);
        sum += size;
    }
    assert_int_equal(plan_stream_reach(limits, cache_size), sum < limits->object_max ? sum : limits->object_max);
}

static void test_stream_schedule(void **state)
{
    struct plan_limits limits = plan_limits_default;
    const uint64_t caches[] = {0, 100 * KB, 10 * MB, 80 * MB, GB, 10 * GB, TB, UINT64_MAX};

    (void)state;
    assert_int_equal(plan_stream_reach(&limits, TB), 34812000 * MB); /* 33 TB */
    print_message("reach with 10 MB and an ample cache: %.2f TiB\n", (double)plan_stream_reach(&limits, TB) / TB);
    for (size_t i = 0; i < sizeof(caches) / sizeof(caches[0]); i++) {
        limits.part_size = 10 * MB;
        check_stream(&limits, caches[i]);
        limits.part_size = 1;
        check_stream(&limits, caches[i]);
        limits.part_size = 5 * GB;
        check_stream(&limits, caches[i]);
        limits.part_size = 1ULL << 50; /* more than a part may have, and doubling it would overflow */
        check_stream(&limits, caches[i]);
    }
    limits.part_size = 3;
    limits.part_min = 2;
    limits.part_max = 50;
    limits.parts_max = 3000;
    check_stream(&limits, 1000);
    check_stream(&limits, 100);
    limits.object_max = 7;
    check_stream(&limits, 100);
    limits.parts_max = 1;
    check_stream(&limits, 100);
}

/* Parts that were sent while the file was written, or by an earlier daemon, are the first ones as they are. */
static void test_parts_that_are_sent(void **state)
{
    static const struct plan_part sent[] = {
        {.offset = 0, .length = 15}, {.offset = 15, .length = 30}, {.offset = 45, .length = 60}};
    struct scene s = scene_new();

    (void)state;
    scene_small_limits(&s);
    s.in.sent = sent;
    s.in.n_sent = 3;
    extent_map_write(s.map, 0, 205, 1);
    assert_plan(&s, "initiate\npart 1 [0, +15)\npart 2 [15, +30)\npart 3 [45, +60)\npart 4 [105, +40)\n"
                    "part 5 [145, +40)\npart 6 [185, +20)\ncomplete [0, +205)\n");
    /* Written again: under their numbers all the same. */
    extent_map_write(s.map, 20, 25, 2);
    assert_plan(&s, "initiate\npart 1 [0, +15)\npart 2 [15, +30)\npart 3 [45, +60)\npart 4 [105, +40)\n"
                    "part 5 [145, +40)\npart 6 [185, +20)\ncomplete [0, +205)\n");
    /* Cut off within the third: that one is planned anew. */
    extent_map_truncate(s.map, 90, 2);
    assert_plan(&s, "initiate\npart 1 [0, +15)\npart 2 [15, +30)\npart 3 [45, +40)\npart 4 [85, +5)\n"
                    "complete [0, +90)\n");
    /* At the end of one: nothing is behind it. */
    extent_map_truncate(s.map, 105, 2);
    assert_plan(&s, "initiate\npart 1 [0, +15)\npart 2 [15, +30)\npart 3 [45, +60)\ncomplete [0, +105)\n");
    /* So small that it goes by PUT, whatever was sent. */
    extent_map_truncate(s.map, 45, 2);
    assert_plan(&s, "put [0, +45)\n");
    scene_free(&s);
}

/* One that is shorter than a part may be is good for the end of the file only; what comes behind it begins there. */
static void test_parts_that_are_sent_of_odd_lengths(void **state)
{
    static const struct plan_part sent[] = {{.offset = 0, .length = 55}, {.offset = 55, .length = 5}};
    struct scene s = scene_new();

    (void)state;
    scene_small_limits(&s);
    s.in.sent = sent;
    s.in.n_sent = 2;
    extent_map_write(s.map, 0, 60, 1);
    assert_plan(&s, "initiate\npart 1 [0, +55)\npart 2 [55, +5)\ncomplete [0, +60)\n");
    extent_map_write(s.map, 60, 80, 1);
    assert_plan(&s, "initiate\npart 1 [0, +55)\npart 2 [55, +25)\ncomplete [0, +80)\n");
    s.in.limits.parts_max = 2; /* no number is left for a third */
    extent_map_write(s.map, 80, 150, 1);
    assert_plan(&s, "initiate\npart 1 [0, +55)\npart 2 [55, +95)\ncomplete [0, +150)\n");
    scene_free(&s);
}

static void test_describe_is_cut_not_overrun(void **state)
{
    struct scene s = scene_new();
    char text[16];

    (void)state;
    extent_map_truncate(s.map, 100 * MB, 1);
    assert_int_equal(scene_plan(&s), 0);
    memset(text, 'x', sizeof(text));
    plan_describe(&s.plan, text, 12);
    assert_memory_equal(text, "initiate\npa\0xxxx", 16);
    plan_describe(&s.plan, text, 1);
    assert_string_equal(text, "");
    plan_describe(&s.plan, NULL, 0);
    scene_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_attributes_only),
        cmocka_unit_test(test_copies_of_another_object),
        cmocka_unit_test(test_attributes_of_an_object_over_the_copy_limit),
        cmocka_unit_test(test_attributes_of_an_object_that_cannot_be_copied),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_put_fetches),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_append_where_it_may_not),
        cmocka_unit_test(test_change_in_the_middle),
        cmocka_unit_test(test_change_near_the_ends),
        cmocka_unit_test(test_last_run_gives_up_bytes),
        cmocka_unit_test(test_short_clean_range_between_dirty_ones),
        cmocka_unit_test(test_truncated_object_is_only_copied),
        cmocka_unit_test(test_base_that_cannot_be_copied),
        cmocka_unit_test(test_budget_of_a_small_change),
        cmocka_unit_test(test_fsync_happy_writer_of_a_growing_file),
        cmocka_unit_test(test_flushed_often_but_nothing_to_copy),
        cmocka_unit_test(test_more_ranges_than_parts),
        cmocka_unit_test(test_every_size_to_the_maximum),
        cmocka_unit_test(test_huge_remote_objects),
        cmocka_unit_test(test_copy_to_another_key),
        cmocka_unit_test(test_limits_that_contradict_each_other),
        cmocka_unit_test(test_part_size_vectors),
        cmocka_unit_test(test_stream_schedule),
        cmocka_unit_test(test_parts_that_are_sent),
        cmocka_unit_test(test_parts_that_are_sent_of_odd_lengths),
        cmocka_unit_test(test_describe_is_cut_not_overrun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
