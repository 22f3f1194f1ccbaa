/* What open handles may still read of an object that is deleted or overwritten (save.c). */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LARGE (200u << 10) /* copied in parts */

static struct rig rig;
static char data[LARGE];

static int setup(void **state)
{
    (void)state;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(data, sizeof(data), 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    /* Nothing is left, in the bucket or in the registry, of what was hidden. */
    cache_drain(rig.cache);
    cache_free(rig.cache);
    rig_new_cache(&rig);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    rig_stop(&rig);
    return 0;
}

static struct cfile *open_stored(const char *key, size_t n)
{
    assert_int_equal(fake_oss_store(rig.fake, key, data, n, NULL, NULL), 0);
    return rig_open(&rig, key);
}

static void close_and_drain(struct cfile *cf)
{
    cfile_close(cf, true);
    rig_restart(&rig);
}

static void fail_next(enum oss_op op, int err, const char *code)
{
    const struct fake_fault fault = {.kind = FAKE_FAIL, .op = op, .nth = 1, .count = 1, .err = err, .code = code};

    fake_oss_fault(rig.fake, &fault);
}

static void test_in_one_copy(void **state)
{
    struct cfile *cf = open_stored("f", 60000);

    (void)state;
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), 0);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_COPY), 1);
    rig_expect_absent(&rig, "f");
    assert_int_equal(fake_oss_count(rig.fake), 1);
    rig_expect_file(cf, data, 60000);
    close_and_drain(cf);
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

static void test_in_parts(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);

    (void)state;
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), 0);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_PART_COPY), 4);
    rig_expect_file(cf, data, LARGE);
    close_and_drain(cf);
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

/* What is changed here stays changed, and when nothing of the copy is left it goes before the handle. */
static void test_written_over(void **state)
{
    struct cfile *cf = open_stored("f", 60000);
    static char other[60000];

    (void)state;
    rig_bytes(other, sizeof(other), 2);
    assert_int_equal(cfile_write(cf, other, 1000, 500, false), 1000);
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    memcpy(data + 500, other, 1000);
    rig_expect_file(cf, data, 60000);
    assert_int_equal(cfile_write(cf, other, sizeof(other), 0, false), sizeof(other));
    rig_expect_file(cf, other, sizeof(other));
    close_and_drain(cf);
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

static uint64_t cached(struct cfile *cf)
{
    uint64_t n;

    pthread_mutex_lock(&rig.cache->mu);
    n = cf->cached_bytes;
    pthread_mutex_unlock(&rig.cache->mu);
    return n;
}

/* What is dropped from the disk for want of room can be had again: of a copy, but not of what is gone. */
static void test_evicted(void **state)
{
    struct cfile *large, *small;

    (void)state;
    rig.cache_size = 100u << 10;
    rig_restart(&rig);
    large = open_stored("f", LARGE);
    small = open_stored("g", 10000);
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    assert_int_equal(rig_unlink(&rig, "g"), 0);
    rig_expect_file(large, data, LARGE);
    assert_int_equal(evict_for_write(large, LARGE), -ENOSPC);
    assert_int_equal(evict_for_write(small, LARGE), -ENOSPC);
    assert_int_equal(cached(large), 0);
    assert_int_equal(cached(small), 10000);
    rig_expect_file(large, data, LARGE);
    rig_expect_file(small, data, 10000);
    cfile_close(small, true);
    close_and_drain(large);
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

/* A rename over the file; the other file is what the name means from then on. */
static void test_replaced(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "new", "new", 3, NULL, NULL), 0);
    assert_int_equal(rig_rename(&rig, "new", "f"), 0);
    rig_expect_file(cf, data, LARGE);
    rig_expect(&rig, "f", "new", 3);
    close_and_drain(cf);
    assert_int_equal(fake_oss_count(rig.fake), 1);
}

/* The deletion, or the other file's copy, is refused: the file stands in its object again, and is sent as ever. */
static void test_stays(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);

    (void)state;
    fail_next(OSS_OP_DELETE, -EACCES, "AccessDenied");
    assert_int_equal(rig_unlink(&rig, "f"), -EACCES);
    fake_oss_fault(rig.fake, NULL);
    pthread_mutex_lock(&cf->mu);
    assert_int_equal(cf->n_bases, 1);
    assert_string_equal(cf->bases[0].key, "f");
    pthread_mutex_unlock(&cf->mu);
    assert_int_equal(cfile_write(cf, "x", 1, 100000, false), 1);
    assert_int_equal(rig_flush(cf), 0);
    data[100000] = 'x';
    rig_expect(&rig, "f", data, LARGE);
    close_and_drain(cf);
    assert_int_equal(fake_oss_count(rig.fake), 1);
}

/* No copy is to be had: the bytes are fetched. */
static void test_copy_refused(void **state)
{
    struct cfile *cf = open_stored("f", 60000);

    (void)state;
    fail_next(OSS_OP_COPY, -EACCES, "AccessDenied");
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(fake_oss_count(rig.fake), 0);
    rig_expect_file(cf, data, 60000);
    close_and_drain(cf);
}

/* Another host has replaced the object: nobody can read the old one, and the name goes all the same. */
static void test_replaced_by_another_host(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);
    char byte;

    (void)state;
    assert_int_equal(rig_read(cf, &byte, 1, 0), 1);
    assert_int_equal(fake_oss_store(rig.fake, "f", "other", 5, NULL, NULL), 0);
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    assert_int_equal(fake_oss_count(rig.fake), 0);
    close_and_drain(cf);
}

/* A read that is on its way when the object is deleted finds the copy. */
static void test_read_on_its_way(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);
    struct rig_call *call;
    static char got[1000];

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    call = rig_read_begin(cf, got, sizeof(got), 5000);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "read"), sizeof(got));
    assert_memory_equal(got, data + 5000, sizeof(got));
    close_and_drain(cf);
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_one_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evicted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replaced_by_another_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_on_its_way, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
