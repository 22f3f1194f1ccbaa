/* Files that stand in objects of other files while those are read, written, replaced and sent. */
#include "../../cache/stream.h"

#include "cache_rig.h"
#include "flavour.h"
#include "random.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PART  RIG_PART
#define CACHE (8 * PART)
#define SIZE  (16 * PART)

static struct rig rig;
static char source[SIZE], content[SIZE], got[SIZE];

static int start(void **state, uint64_t cache_size)
{
    *state = &rig;
    rig = (struct rig){.cache_size = cache_size};
    rig_start(&rig);
    rig_bytes(source, SIZE, 1);
    rig_bytes(content, SIZE, 2);
    return 0;
}

static int setup(void **state)
{
    return start(state, 0);
}

static int setup_small_cache(void **state)
{
    return start(state, CACHE);
}

static struct cfile *open_source(size_t n)
{
    struct cfile *cf;

    assert_int_equal(fake_oss_store(rig.fake, "source", source, n, NULL, NULL), 0);
    cf = rig_open(&rig, "source");
    assert_non_null(cf);
    return cf;
}

static void copy(struct cfile *from, uint64_t from_offset, struct cfile *to, uint64_t to_offset, uint64_t n)
{
    while (n > 0) {
        struct rig_call *call = rig_call_new();
        int copied;

        cache_copy(from, from_offset, to, to_offset, n, rig_done, call);
        copied = rig_wait(call, "copy_file_range");
        assert_true(copied > 0 && (uint64_t)copied <= n);
        from_offset += (unsigned)copied;
        to_offset += (unsigned)copied;
        n -= (unsigned)copied;
    }
}

static void write_at(struct cfile *cf, const char *from, size_t n, uint64_t offset)
{
    assert_int_equal(cfile_write(cf, from, n, offset, false), n);
}

/* What is on its way for one range of an object is not taken for another range of the same object. */
static void test_another_range_while_fetched(void **state)
{
    struct cfile *from = open_source(SIZE), *to = rig_create(&rig, "f");
    struct rig_call *read;

    (void)state;
    copy(from, 0, to, 0, 2 * PART);
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    read = rig_read_begin(to, got, 2 * PART, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    copy(from, 4 * PART, to, 0, 2 * PART);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(read, "read"), 2 * PART);
    rig_expect_file(to, source + 4 * PART, 2 * PART);
    assert_int_equal(rig_flush(to), 0);
    rig_expect(&rig, "f", source + 4 * PART, 2 * PART);
    cfile_close(to, true);
    cfile_close(from, true);
}

#define READS 200

static void *read_about(void *arg)
{
    struct random rng = {7};

    for (unsigned i = 0; i < READS; i++) {
        static char any[SIZE];
        size_t n = 1 + random_below(&rng, PART), at = random_below(&rng, SIZE - n);

        if (rig_read(arg, any, n, at) < 0)
            return arg;
    }
    return NULL;
}

/* Ranges come and go, of the source and of the file itself, while somebody reads: in the end it is what was copied.
 */
static void test_copies_while_read(void **state)
{
    struct cfile *from = open_source(SIZE), *to = rig_create(&rig, "f");
    struct random rng = {3};

    (void)state;
    write_at(to, content, SIZE, 0);
    for (unsigned round = 0; round < 40 / CASES_STEP; round++) {
        pthread_t reader;
        void *failed;

        assert_int_equal(rig_flush(to), 0);
        rig_expect(&rig, "f", content, SIZE);
        cfile_close(to, true);
        evict_shrink_to(rig.cache, 0);
        to = rig_open(&rig, "f");
        assert_int_equal(pthread_create(&reader, NULL, read_about, to), 0);
        for (unsigned i = 0; i < 30; i++) {
            size_t n = 1 + random_below(&rng, 2 * PART), at = random_below(&rng, SIZE - n);
            size_t target = random_below(&rng, SIZE - n);
            bool own = random_one_in(&rng, 3);

            if (own && at < target + n && target < at + n)
                continue;
            copy(own ? to : from, at, to, target, n);
            memcpy(content + target, own ? content + at : source + at, n);
        }
        pthread_join(reader, &failed);
        assert_null(failed);
        rig_expect_file(to, content, SIZE);
    }
    cfile_close(to, true);
    cfile_close(from, true);
}

/* Two files are copied into each other at the same time. */
static void test_copies_across(void **state)
{
    struct cfile *one = open_source(SIZE), *two = rig_create(&rig, "f");

    (void)state;
    write_at(two, content, SIZE, 0);
    assert_int_equal(rig_flush(two), 0);
    for (unsigned i = 0; i < 200 / CASES_STEP; i++) {
        struct rig_call *there = rig_call_new(), *back = rig_call_new();

        cache_copy(one, 0, two, SIZE / 2, SIZE / 4, rig_done, there);
        cache_copy(two, 0, one, SIZE / 2, SIZE / 4, rig_done, back);
        assert_int_equal(rig_wait(there, "copy there"), SIZE / 4);
        assert_int_equal(rig_wait(back, "copy back"), SIZE / 4);
    }
    memcpy(content + SIZE / 2, source, SIZE / 4);
    memcpy(source + SIZE / 2, content, SIZE / 4);
    rig_expect_file(one, source, SIZE);
    rig_expect_file(two, content, SIZE);
    cfile_close(one, true);
    cfile_close(two, true);
}

/* A hidden object that was being made of what the file was does not take the place of what was copied since. */
static void test_copy_over_a_segment(void **state)
{
    struct cfile *from = open_source(PART), *to = rig_create(&rig, "f");

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_COMPLETE, FAKE_GATE_BEGIN);
    for (size_t at = PART; at < 6 * PART; at += PART) /* with a hole before: no part of its own */
        write_at(to, content + at, PART, at);
    assert_true(fake_oss_wait(rig.fake, 1));
    copy(from, 0, to, PART, PART / 2);
    /* The source is replaced: what is needed of it becomes the file's own. */
    write_at(from, content, 1, 0);
    assert_int_equal(rig_flush(from), 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_flush(to), 0);
    memset(content, 0, PART);
    memcpy(content + PART, source, PART / 2);
    rig_expect(&rig, "f", content, 6 * PART);
    cfile_close(to, true);
    cfile_close(from, true);
}

/* One that is being filled ends with what stands elsewhere now: nothing of that is to be sent. */
static void test_copy_into_a_segment(void **state)
{
    struct cfile *from = open_source(PART), *to = rig_create(&rig, "f");
    bool open;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_INITIATE, FAKE_GATE_END);
    for (size_t at = PART; at < 6 * PART; at += PART)
        write_at(to, content + at, PART, at);
    assert_true(fake_oss_wait(rig.fake, 1));
    copy(from, 0, to, PART, PART);
    pthread_mutex_lock(&to->mu);
    open = to->segment != NULL;
    pthread_mutex_unlock(&to->mu);
    assert_false(open);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_flush(to), 0);
    memset(content, 0, PART);
    memcpy(content + PART, source, PART);
    rig_expect(&rig, "f", content, 6 * PART);
    cfile_close(to, true);
    cfile_close(from, true);
}

/* What a change of the source has to fetch does not wait for room that this very change would make. */
static void test_source_larger_than_the_cache(void **state)
{
    struct cfile *from = open_source(SIZE), *to = rig_create(&rig, "f");

    (void)state;
    copy(from, 0, to, 0, SIZE);
    write_at(from, content, 1, 0);
    assert_int_equal(rig_flush(from), 0);
    assert_int_equal(rig_flush(to), 0);
    rig_expect(&rig, "f", source, SIZE);
    source[0] = content[0];
    rig_expect(&rig, "source", source, SIZE);
    cfile_close(to, true);
    cfile_close(from, true);
}

#define TEST(name)             cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
#define TEST_SMALL_CACHE(name) cmocka_unit_test_setup_teardown(name, setup_small_cache, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_another_range_while_fetched),
        TEST(test_copies_while_read),
        TEST(test_copies_across),
        TEST_SMALL_CACHE(test_copy_over_a_segment),
        TEST_SMALL_CACHE(test_copy_into_a_segment),
        TEST_SMALL_CACHE(test_source_larger_than_the_cache),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
