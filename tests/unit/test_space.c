/* No room: who waits, for what, and when there is nothing to wait for. */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CACHE (256u << 10)

static struct rig rig;
static char a[CACHE], b[CACHE];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){.cache_size = CACHE};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    return 0;
}

static void write_all(struct cfile *cf, const char *from, size_t n, uint64_t offset)
{
    cf->stream_refused = cf->segments_refused = true; /* sent when it is flushed */
    assert_int_equal(cfile_write(cf, from, n, offset, false), n);
}

/* Nothing is on its way that could free anything. */
static void test_nothing_to_wait_for(void **state)
{
    struct cfile *cf = rig_create(&rig, "a"), *other = rig_create(&rig, "b");

    (void)state;
    write_all(cf, a, CACHE - 20480, 0);
    assert_int_equal(cfile_write(other, b, 12288, 0, false), -ENOSPC);
    assert_false(cfile_await_room(other, 12288, rig_done, NULL));
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    cfile_close(other, true);
}

/* An upload is: the writer waits for it, and what it has sent is dropped although the file is still open. */
static void test_waits_for_upload(void **state)
{
    struct cfile *cf = rig_create(&rig, "a"), *other = rig_create(&rig, "b");
    struct rig_call *flush, *room = rig_call_new();

    (void)state;
    write_all(cf, a, CACHE - 20480, 0);
    fake_oss_shut(rig.fake, OSS_OP_PART, FAKE_GATE_END);
    flush = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(cfile_write(other, b, 100 << 10, 0, false), -ENOSPC);
    assert_true(cfile_await_room(other, 100 << 10, rig_done, room));
    usleep(10000);
    assert_false(rig_is_done(room));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flush, "flush"), 0);
    assert_int_equal(rig_wait(room, "room"), 0);
    write_all(other, b, 100 << 10, 0);
    assert_true(rig.cache->cached_bytes <= CACHE);
    assert_int_equal(rig_flush(other), 0);
    rig_expect(&rig, "a", a, CACHE - 20480);
    rig_expect(&rig, "b", b, 100 << 10);
    rig_expect_file(other, b, 100 << 10);
    cfile_close(other, true);
    rig_expect_file(cf, a, CACHE - 20480); /* fetched again */
    cfile_close(cf, true);
}

/* The upload fails: it frees nothing, and the writer is told. */
static void test_upload_fails(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_COMPLETE, .nth = 1, .count = 100, .err = -EIO, .code = "InternalError"};
    struct cfile *cf = rig_create(&rig, "a"), *other = rig_create(&rig, "b");
    struct rig_call *flush, *room = rig_call_new();

    (void)state;
    write_all(cf, a, CACHE - 20480, 0);
    fake_oss_fault(rig.fake, &fault);
    fake_oss_shut(rig.fake, OSS_OP_PART, FAKE_GATE_END);
    flush = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_true(cfile_await_room(other, 100 << 10, rig_done, room));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flush, "flush"), -EIO);
    assert_int_equal(rig_wait(room, "room"), -ENOSPC);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    cfile_close(other, true);
}

/* A program removes what fills the cache. */
static void test_waits_and_truncated(void **state)
{
    struct cfile *cf = rig_create(&rig, "a"), *other = rig_create(&rig, "b"), *third = rig_create(&rig, "c");
    struct rig_call *flush, *room = rig_call_new();

    (void)state;
    write_all(cf, a, CACHE - 32768, 0);
    write_all(third, a, 8192, 0);
    fake_oss_shut(rig.fake, OSS_OP_PUT, FAKE_GATE_BEGIN);
    flush = rig_flush_begin(third);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_true(cfile_await_room(other, 100 << 10, rig_done, room));
    assert_int_equal(cfile_truncate(cf, 0), 0);
    assert_int_equal(rig_wait(room, "room"), 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flush, "flush"), 0);
    cfile_close(cf, true);
    cfile_close(other, true);
    cfile_close(third, true);
}

static uint64_t cached(bool with_fetching)
{
    uint64_t n;

    pthread_mutex_lock(&rig.cache->mu);
    n = rig.cache->cached_bytes + (with_fetching ? rig.cache->fetching : 0);
    pthread_mutex_unlock(&rig.cache->mu);
    return n;
}

static unsigned waiting(void)
{
    unsigned n = 0;

    pthread_mutex_lock(&rig.cache->mu);
    list_for_each (it, &rig.cache->room_waiters)
        n++;
    pthread_mutex_unlock(&rig.cache->mu);
    return n;
}

/* What a fetch took is given back a moment after its reader was answered. */
static void expect_within_bounds(void)
{
    for (int i = 0; i < 4000 && cached(true) > CACHE; i++)
        usleep(5000);
    assert_true(cached(true) <= CACHE);
}

#define FILES     40
#define FILE_SIZE (32u << 10)

/* Many are read at once, more than the cache holds: what is on its way is counted, and the rest waits for it. */
static void test_fetches_are_counted(void **state)
{
    static char to[FILES][FILE_SIZE];
    char key[FILES][16];
    struct cfile *cf[FILES];
    struct rig_call *call[FILES];
    unsigned fit = CACHE / FILE_SIZE;

    (void)state;
    for (int i = 0; i < FILES; i++) {
        snprintf(key[i], sizeof(key[i]), "f%02d", i);
        assert_int_equal(fake_oss_store(rig.fake, key[i], a + i, FILE_SIZE, NULL, NULL), 0);
    }
    for (int i = 0; i < FILES; i++)
        cf[i] = rig_open(&rig, key[i]);
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BODY);
    for (int i = 0; i < FILES; i++)
        call[i] = rig_read_begin(cf[i], to[i], FILE_SIZE, 0);
    assert_true(fake_oss_wait(rig.fake, fit));
    for (int i = 0; i < 4000 && waiting() < FILES - fit; i++)
        usleep(5000);
    assert_int_equal(waiting(), FILES - fit);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), fit);
    fake_oss_open(rig.fake);
    for (int i = 0; i < FILES; i++) {
        while (!rig_is_done(call[i])) {
            assert_true(cached(false) <= CACHE);
            usleep(100);
        }
        assert_int_equal(rig_wait(call[i], "read"), FILE_SIZE);
        assert_memory_equal(to[i], a + i, FILE_SIZE);
        assert_true(cached(false) <= CACHE);
    }
    expect_within_bounds();
    for (int i = 0; i < FILES; i++)
        cfile_close(cf[i], true);
}

#define LONG (2u << 20)
#define READ (20u << 10)

/* The same within one file, that is longer than the cache. */
static void test_parallel_reads_of_one_file(void **state)
{
    static char whole[LONG], to[LONG];
    struct rig_call *call[LONG / READ];
    struct cfile *cf;

    (void)state;
    rig_bytes(whole, LONG, 3);
    assert_int_equal(fake_oss_store(rig.fake, "long", whole, LONG, NULL, NULL), 0);
    cf = rig_open(&rig, "long");
    for (size_t i = 0; i < LONG / READ; i++)
        call[i] = rig_read_begin(cf, to + i * READ, READ, i * READ);
    for (size_t i = 0; i < LONG / READ; i++)
        assert_int_equal(rig_wait(call[i], "read"), READ);
    assert_memory_equal(to, whole, LONG / READ * READ);
    expect_within_bounds();
    cfile_close(cf, true);
}

/*
 * A read of two pieces, with unsent bytes between them, while what is unsent leaves no room for either: the second
 * must not push out the first. What was read does not stay.
 */
static void test_read_in_pieces_without_room(void **state)
{
    static char object[400u << 10], to[400u << 10];
    struct cfile *cf, *other = rig_create(&rig, "other");

    (void)state;
    rig_bytes(object, sizeof(object), 4);
    assert_int_equal(fake_oss_store(rig.fake, "a", object, sizeof(object), NULL, NULL), 0);
    cf = rig_open(&rig, "a");
    write_all(cf, b, 200u << 10, 100u << 10);
    memcpy(object + (100u << 10), b, 200u << 10);
    write_all(other, a, 32u << 10, 0);
    assert_int_equal(rig_read(cf, to, sizeof(to), 0), sizeof(to));
    assert_memory_equal(to, object, sizeof(to));
    expect_within_bounds();
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(rig_flush(other), 0);
    rig_expect(&rig, "a", object, sizeof(object));
    cfile_close(cf, true);
    cfile_close(other, true);
}

/* A reader jumps to the middle of what is not here, while what it read before fills the cache: that goes, and it
 * ends. */
static void test_jump_in_a_file_beyond_the_cache(void **state)
{
    static char object[4u << 20], to[4096];
    const uint64_t middle = sizeof(object) / 2 + 4096;
    struct cfile *cf;

    (void)state;
    rig_bytes(object, sizeof(object), 4);
    assert_int_equal(fake_oss_store(rig.fake, "a", object, sizeof(object), NULL, NULL), 0);
    cf = rig_open(&rig, "a");
    for (uint64_t at = 0; at < 2 * CACHE; at += sizeof(to)) {
        assert_int_equal(rig_read(cf, to, sizeof(to), at), sizeof(to));
        assert_memory_equal(to, object + at, sizeof(to));
    }
    for (uint64_t at = middle; at < middle + 2 * CACHE; at += 10 * sizeof(to)) {
        assert_int_equal(rig_read(cf, to, sizeof(to), at), sizeof(to));
        assert_memory_equal(to, object + at, sizeof(to));
    }
    expect_within_bounds();
    cfile_close(cf, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_to_wait_for),
        TEST(test_waits_for_upload),
        TEST(test_upload_fails),
        TEST(test_waits_and_truncated),
        TEST(test_fetches_are_counted),
        TEST(test_parallel_reads_of_one_file),
        TEST(test_read_in_pieces_without_room),
        TEST(test_jump_in_a_file_beyond_the_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
