/* What is read ahead, in which requests, and how many of these run at once. */
#include "cache_rig.h"

#include "../../cache/ahead.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB     (1u << 20)
#define SIZE    (40u * MIB) /* ten requests of the shortest length */
#define AT_ONCE 2u          /* requests at once */

static struct rig rig;
static char *data, got[4096];

static int setup(void **state)
{
    (void)state;
    rig = (struct rig){0};
    rig_start(&rig);
    rig.cache->config.parallel_count = AT_ONCE;
    data = malloc(SIZE);
    assert_non_null(data);
    rig_bytes(data, SIZE, 1);
    assert_int_equal(fake_oss_store(rig.fake, "f", data, SIZE, NULL, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop(&rig);
    free(data);
    return 0;
}

/*
 * Of a file that is wanted whole parallel_count requests run, and the others wait for their turn; but whoever needs
 * one of these does not.
 */
static void test_at_once(void **state)
{
    struct cfile *cf = rig_open(&rig, "f");
    struct rig_call *whole = rig_call_new(), *far;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    fetch_all(cf, 0, SIZE, rig_done, whole);
    assert_true(fake_oss_wait(rig.fake, AT_ONCE));
    far = rig_read_begin(cf, got, sizeof(got), SIZE - sizeof(got));
    assert_true(fake_oss_wait(rig.fake, AT_ONCE + 1));
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), AT_ONCE + 1);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(far, "the far end"), sizeof(got));
    assert_memory_equal(got, data + SIZE - sizeof(got), sizeof(got));
    assert_int_equal(rig_wait(whole, "the whole file"), 0);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), 10);
    rig_expect_file(cf, data, SIZE);
    assert_int_equal(cf->fetching, 0);
    cfile_close(cf, true);
}

/* What came since the caller looked is no want of memory: he is told to look again. */
static void test_first_bytes_came_meanwhile(void **state)
{
    struct cfile *cf = rig_open(&rig, "f");
    struct rig_call *call = rig_call_new();

    (void)state;
    assert_int_equal(cfile_write(cf, data, 4096, 0, false), 4096);
    fetch_range(cf, 0, SIZE, rig_done, call);
    assert_int_equal(rig_wait(call, "the range"), 0);
    rig_expect_file(cf, data, SIZE);
    cfile_close(cf, true);
}

/* Requests that fail give their turn away too, and what they did not bring comes with the next read. */
static void test_turns_of_failed(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_GET, .nth = 2, .count = 5, .err = -EIO, .code = "InternalError"};
    struct cfile *cf = rig_open(&rig, "f");
    struct rig_call *whole = rig_call_new();

    (void)state;
    fake_oss_fault(rig.fake, &fault);
    fetch_all(cf, 0, SIZE, rig_done, whole);
    rig_wait(whole, "the whole file, or a failure");
    fake_oss_fault(rig.fake, NULL);
    rig_expect_file(cf, data, SIZE);
    cfile_close(cf, true);
    cache_drain(rig.cache);
}

/* A request is the longer the longer the wait for its first byte, within bounds. */
static void test_length(void **state)
{
    struct cfile *cf = rig_open(&rig, "f");
    int64_t now = ahead_clock();

    (void)state;
    assert_int_equal(ahead_piece(cf), 4 * MIB);
    ahead_learn(rig.cache, now - 1000000, now, 100 << 10); /* too short to tell */
    assert_int_equal(ahead_piece(cf), 4 * MIB);
    for (int i = 0; i < 20; i++) {
        now = ahead_clock();
        ahead_learn(rig.cache, now - 1000000000, now - 1000, 4 * MIB); /* a thousand seconds for a millisecond */
    }
    /* While the window is small all connections have a share of it. */
    cf->read_window = 0;
    assert_int_equal(ahead_piece(cf), MIB);
    cf->read_window = 7 * MIB;
    assert_int_equal(ahead_piece(cf), 4 * MIB);
    cf->read_window = 1024 * MIB;
    assert_in_range(ahead_piece(cf), 15 * MIB, 16 * MIB);
    for (int i = 0; i < 20; i++) {
        now = ahead_clock();
        ahead_learn(rig.cache, now - 1000000, now - 1000000, 4 * MIB); /* no wait at all */
    }
    assert_int_equal(ahead_piece(cf), 4 * MIB);
    cfile_close(cf, true);
}

/* The window grows with a reader that goes on, up to two rounds of requests, and ends with a jump. */
static void test_window(void **state)
{
    struct cfile *cf = rig_open(&rig, "f");
    uint64_t end = 0;

    (void)state;
    cf->attr.size = 1024 * MIB;
    assert_int_equal(ahead_end(cf, 0, MIB), MIB);
    assert_int_equal(ahead_end(cf, MIB / 2, 3 * MIB / 2), 5 * MIB / 2);
    for (uint64_t at = MIB; at < 200 * MIB; at += MIB) {
        end = ahead_end(cf, at, at + MIB);
        assert_true(end >= at + MIB);
        assert_in_range(end - at - MIB, 0, 3 * cf->read_window / 2);
    }
    assert_int_equal(cf->read_window, 2 * AT_ONCE * 4 * MIB);
    assert_int_equal(ahead_end(cf, 900 * MIB, 901 * MIB), 901 * MIB);
    assert_int_equal(cf->read_window, 0);
    cf->attr.size = SIZE;
    cfile_close(cf, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_at_once), TEST(test_first_bytes_came_meanwhile),
                                       TEST(test_turns_of_failed), TEST(test_length), TEST(test_window)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
