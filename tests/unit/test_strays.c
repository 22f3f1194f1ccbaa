/*
 * Multipart uploads that nobody needs any more: none stays in the bucket, whatever fails, and whenever the daemon
 * dies.
 */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LARGE (200u << 10) /* sent and copied in parts */

static struct rig rig;
static char data[LARGE];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(data, sizeof(data), 1);
    return 0;
}

static void shell(const char *what)
{
    char command[256];

    snprintf(command, sizeof(command), "cd %s && %s", rig.dir, what);
    assert_int_equal(system(command), 0);
}

static void expect_none(void)
{
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    shell("test -z \"$(ls uploads)\"");
}

/* The daemon ends, and the next one takes up what is there. */
static void next_mount(void)
{
    cache_drain(rig.cache);
    cache_free(rig.cache);
    fake_oss_fault(rig.fake, NULL);
    rig_new_cache(&rig);
    assert_int_equal(cache_recover(rig.cache), 0);
    cache_drain(rig.cache);
}

static void fail_all(void)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = FAKE_ANY_OP, .nth = 1, .count = 100000, .err = -EACCES, .code = "AccessDenied"};

    fake_oss_fault(rig.fake, &fault);
}

/* All requests behind the first parts of the file fail, the abort too. */
static struct cfile *give_up(void)
{
    struct cfile *cf = rig_create(&rig, "f");
    struct rig_call *flushed;

    fake_oss_shut(rig.fake, OSS_OP_PART, FAKE_GATE_END);
    assert_int_equal(cfile_write(cf, data, sizeof(data), 0, false), sizeof(data));
    flushed = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    fail_all();
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flushed, "flush"), -EACCES);
    assert_int_equal(fake_oss_uploads(rig.fake), 1);
    return cf;
}

/* The abort is tried again by itself, and needs nobody to ask for the file. */
static void test_abort_fails(void **state)
{
    struct cfile *cf = give_up();

    (void)state;
    fake_oss_fault(rig.fake, NULL);
    for (int i = 0; i < 10000 && fake_oss_uploads(rig.fake); i++)
        usleep(1000);
    expect_none();
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    rig_expect(&rig, "f", data, sizeof(data));
}

/* No abort came through as long as the daemon was there. */
static void test_abort_fails_till_the_end(void **state)
{
    (void)state;
    cfile_close(give_up(), true);
    next_mount();
    expect_none();
    rig_expect(&rig, "f", data, sizeof(data));
}

/* A rename in parts whose daemon dies in the middle: what it had noted is put back as it was then. */
static void test_rename_dies(void **state)
{
    struct rig_call *renamed;

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "f", data, sizeof(data), NULL, NULL), 0);
    fake_oss_shut(rig.fake, OSS_OP_PART_COPY, FAKE_GATE_END);
    renamed = rig_rename_begin(&rig, "f", "g");
    assert_true(fake_oss_wait(rig.fake, 1));
    shell("cp -r uploads left");
    fail_all();
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(renamed, "rename"), -EACCES);
    assert_int_equal(fake_oss_uploads(rig.fake), 1);
    cache_drain(rig.cache);
    cache_free(rig.cache);
    shell("rm -r uploads && mv left uploads");
    fake_oss_fault(rig.fake, NULL);
    rig_new_cache(&rig);
    assert_int_equal(cache_recover(rig.cache), 0);
    cache_drain(rig.cache);
    expect_none();
    rig_expect(&rig, "f", data, sizeof(data));
    rig_expect_absent(&rig, "g");
}

/* The reply to its Initiate is never seen. */
static void test_rename_with_a_lost_initiate(void **state)
{
    const struct fake_fault lost = {.kind = FAKE_LOST, .op = OSS_OP_INITIATE, .nth = 1, .count = 1};

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "f", data, sizeof(data), NULL, NULL), 0);
    fake_oss_fault(rig.fake, &lost);
    assert_int_equal(rig_rename(&rig, "f", "g"), -ETIMEDOUT);
    assert_int_equal(fake_oss_uploads(rig.fake), 1);
    next_mount();
    expect_none();
    rig_expect(&rig, "f", data, sizeof(data));
}

/* Nothing stays noted of what goes well, or is refused. */
static void test_rename_as_ever(void **state)
{
    const struct fake_fault refused = {
        .kind = FAKE_FAIL, .op = OSS_OP_INITIATE, .nth = 1, .count = 1, .err = -EACCES, .code = "AccessDenied"};

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "f", data, sizeof(data), NULL, NULL), 0);
    assert_int_equal(rig_rename(&rig, "f", "g"), 0);
    expect_none();
    fake_oss_fault(rig.fake, &refused);
    assert_int_equal(rig_rename(&rig, "g", "f"), -EACCES);
    expect_none();
    rig_expect(&rig, "g", data, sizeof(data));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_abort_fails),    TEST(test_abort_fails_till_the_end),
        TEST(test_rename_dies),    TEST(test_rename_with_a_lost_initiate),
        TEST(test_rename_as_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
