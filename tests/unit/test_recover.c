/*
 * What an earlier daemon left, taken up by the next one: its journals are copied while a request of its stands still,
 * as a kill would leave them.
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

static struct rig rig;
static char a[100000];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    return 0;
}

static void shell(const char *what)
{
    char command[256];

    snprintf(command, sizeof(command), "cd %s && %s", rig.dir, what);
    assert_int_equal(system(command), 0);
}

/* Writes `a` to `key`; leaves the journal as it is when a request `op` stands at `gate`: `flushed`, or still open. */
static void leave_behind(const char *key, enum oss_op op, enum fake_gate gate, bool flushed)
{
    struct cfile *cf = rig_create(&rig, key);
    struct rig_call *call = NULL;

    fake_oss_shut(rig.fake, op, gate);
    assert_int_equal(cfile_write(cf, a, sizeof(a), 0, false), sizeof(a));
    if (flushed)
        call = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    shell("cp -r data left");
    fake_oss_open(rig.fake);
    if (call)
        assert_int_equal(rig_wait(call, "flush"), 0);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    cache_free(rig.cache);
    fake_oss_remove(rig.fake, key);
    shell("rm -r data && mv left data");
    rig_new_cache(&rig);
}

static void begin_upload(const char *key)
{
    struct oss *oss = fake_oss_client(rig.fake);
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    struct oss_error err;
    char id[OSS_UPLOADID_SIZE];

    assert_int_equal(oss->ops->initiate(oss, key, &opts, id, &err), 0);
}

/*
 * The reply to Initiate was lost: the upload that nobody knows is aborted, and only that one, however late the list
 * of uploads comes: the one that takes up the file begins behind it.
 */
static void test_unknown_upload(void **state)
{
    unsigned before;

    (void)state;
    leave_behind("m", OSS_OP_INITIATE, FAKE_GATE_END, true);
    begin_upload("m");
    before = fake_oss_requests(rig.fake, OSS_OP_INITIATE);
    fake_oss_shut(rig.fake, OSS_OP_LIST_UPLOADS, FAKE_GATE_BEGIN);
    assert_int_equal(cache_recover(rig.cache), 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    usleep(200000); /* for an Initiate that should not come */
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_INITIATE), before);
    fake_oss_open(rig.fake);
    cache_drain(rig.cache);
    rig_expect(&rig, "m", a, sizeof(a));
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_INITIATE), before + 1);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_ABORT), 1);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

static void wait_no_changes(struct cfile *cf)
{
    bool over = false;

    for (int i = 0; i < 10000 && !over; i++) {
        usleep(1000);
        pthread_mutex_lock(&cf->mu);
        over = list_empty(&cf->changes);
        pthread_mutex_unlock(&cf->mu);
    }
    assert_true(over);
}

static void wait_requests(enum oss_op op, unsigned n)
{
    for (int i = 0; i < 10000 && fake_oss_requests(rig.fake, op) < n; i++)
        usleep(1000);
    assert_true(fake_oss_requests(rig.fake, op) >= n);
}

/* A file of that key that is written at once does not stream before that upload is gone: it would go with it. */
static void test_unknown_upload_and_new_stream(void **state)
{
    unsigned initiates, parts;
    struct cfile *cf;

    (void)state;
    /* The reply to the Initiate of a file that was never closed was lost, with its upload. */
    leave_behind("m", OSS_OP_INITIATE, FAKE_GATE_END, false);
    begin_upload("m");
    initiates = fake_oss_requests(rig.fake, OSS_OP_INITIATE);
    parts = fake_oss_requests(rig.fake, OSS_OP_PART);
    fake_oss_shut(rig.fake, OSS_OP_LIST_UPLOADS, FAKE_GATE_BEGIN);
    assert_int_equal(cache_recover(rig.cache), 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    cf = rig_create(&rig, "m");
    assert_int_equal(cfile_write(cf, a, 90000, 0, false), 90000);
    usleep(200000); /* for an Initiate that should not come */
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_INITIATE), initiates);
    fake_oss_open(rig.fake);
    wait_no_changes(cf);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_ABORT), 1);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    assert_int_equal(cfile_write(cf, a + 90000, sizeof(a) - 90000, 90000, false), sizeof(a) - 90000);
    wait_requests(OSS_OP_PART, parts + 3);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    rig_expect(&rig, "m", a, sizeof(a));
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_INITIATE), initiates + 1);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_PART), parts + 4);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_ABORT), 1);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

/* An upload that somebody aborts under way begins anew, once. */
static void test_aborted_upload(void **state)
{
    struct fake_fault gone = {
        .kind = FAKE_FAIL, .op = OSS_OP_PART, .nth = 2, .count = 1, .err = -ENOENT, .code = "NoSuchUpload"};
    struct cfile *cf = rig_create(&rig, "m");

    (void)state;
    assert_int_equal(cfile_write(cf, a, sizeof(a), 0, false), sizeof(a));
    fake_oss_fault(rig.fake, &gone);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "m", a, sizeof(a));
    assert_int_equal(cfile_write(cf, a, 10, 0, false), 10);
    assert_int_equal(cfile_write(cf, a, 10, 70000, false), 10);
    gone.nth = 1;
    gone.count = 100;
    fake_oss_fault(rig.fake, &gone);
    assert_int_equal(rig_flush(cf), -ENOENT);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unknown_upload),
        TEST(test_unknown_upload_and_new_stream),
        TEST(test_aborted_upload),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
