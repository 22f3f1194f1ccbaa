/* No room: who waits, for what, and when there is nothing to wait for. */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CACHE (256u << 10)

static struct rig rig;
static char a[CACHE], b[CACHE];

static int setup(void **state)
{
    (void)state;
    rig = (struct rig){.cache_size = CACHE};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop(&rig);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_to_wait_for),
        TEST(test_waits_for_upload),
        TEST(test_upload_fails),
        TEST(test_waits_and_truncated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
