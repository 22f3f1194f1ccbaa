/* Holes: where they are, what is punched, and that what is published has zeros there and the rest as it was. */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SIZE (4u << 20)
#define PAGE 4096

static struct rig rig;
static char a[SIZE], zeros[SIZE];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    return 0;
}

static void write_at(struct cfile *cf, size_t n, uint64_t offset)
{
    assert_int_equal(cfile_write(cf, a, n, offset, false), n);
}

static void test_where_holes_are(void **state)
{
    struct cfile *cf = rig_create(&rig, "f");

    (void)state;
    assert_int_equal(cfile_seek(cf, 0, false), -ENXIO);
    assert_int_equal(cfile_seek(cf, 0, true), -ENXIO);
    assert_int_equal(cfile_truncate(cf, SIZE), 0);
    assert_int_equal(cfile_seek(cf, 0, false), -ENXIO);
    assert_int_equal(cfile_seek(cf, 5, true), 5);
    write_at(cf, PAGE, 1u << 20);
    assert_int_equal(cfile_seek(cf, 0, true), 0);
    assert_int_equal(cfile_seek(cf, 0, false), 1u << 20);
    assert_int_equal(cfile_seek(cf, (1u << 20) + 7, false), (1u << 20) + 7);
    assert_int_equal(cfile_seek(cf, 1u << 20, true), (1u << 20) + PAGE);
    assert_int_equal(cfile_seek(cf, (1u << 20) + PAGE, false), -ENXIO);
    assert_int_equal(cfile_seek(cf, SIZE - 1, true), SIZE - 1);
    assert_int_equal(cfile_seek(cf, SIZE, true), -ENXIO);
    assert_int_equal(cfile_seek(cf, SIZE, false), -ENXIO);
    write_at(cf, PAGE, SIZE - PAGE);
    assert_int_equal(cfile_seek(cf, SIZE - PAGE, true), SIZE);
    cfile_close(cf, true);
}

/* What stands in the bucket is data, fetched or not; and nothing is fetched to say so. */
static void test_remote_is_data(void **state)
{
    struct cfile *cf;
    char byte;

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "f", zeros, 1u << 20, NULL, NULL), 0);
    cf = rig_open(&rig, "f");
    assert_int_equal(cfile_seek(cf, 100, false), 100);
    assert_int_equal(cfile_seek(cf, 100, true), 1u << 20);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), 0);
    assert_int_equal(rig_read(cf, &byte, 1, 0), 1);
    assert_int_equal(cfile_seek(cf, 0, false), 0);
    assert_int_equal(cfile_seek(cf, 0, true), 1u << 20);
    assert_int_equal(cfile_zero(cf, 64u << 10, 128u << 10, false), 0);
    assert_int_equal(cfile_seek(cf, 0, true), 64u << 10);
    assert_int_equal(cfile_seek(cf, 64u << 10, false), 192u << 10);
    cfile_close(cf, true);
}

static void punch_and_expect(struct cfile *cf, uint64_t offset, uint64_t n)
{
    assert_int_equal(cfile_zero(cf, offset, n, false), 0);
    memset(a + offset, 0, n);
    rig_expect_file(cf, a, SIZE);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "f", a, SIZE);
}

/* Of a file that is dirty, clean and here, and only in the bucket; at odd offsets too. */
static void test_punch(void **state)
{
    struct cfile *cf = rig_create(&rig, "f");

    (void)state;
    write_at(cf, SIZE, 0);
    punch_and_expect(cf, 1u << 20, 1u << 20);
    punch_and_expect(cf, 12345, 100000);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    cache_free(rig.cache);
    assert_int_equal(cache_recover((rig_new_cache(&rig), rig.cache)), 0);
    cf = rig_open(&rig, "f");
    punch_and_expect(cf, 3u << 20, 70001);
    punch_and_expect(cf, 0, 1);
    punch_and_expect(cf, SIZE - 1, 1);
    cfile_close(cf, true);
}

static void test_ends(void **state)
{
    struct cfile *cf = rig_create(&rig, "f");
    struct attr attr;

    (void)state;
    write_at(cf, 1000, 0);
    assert_int_equal(cfile_zero(cf, 900, 5000, false), 0); /* nothing behind the end */
    assert_int_equal(cfile_zero(cf, 5000, 5000, false), 0);
    cfile_attr(cf, &attr);
    assert_int_equal(attr.size, 1000);
    memset(a + 900, 0, SIZE - 900);
    rig_expect_file(cf, a, 1000);
    assert_int_equal(cfile_zero(cf, 2000, 3000, true), 0);
    cfile_attr(cf, &attr);
    assert_int_equal(attr.size, 5000);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "f", a, 5000);
    assert_int_equal(cfile_zero(cf, UINT64_MAX - 5, 100, true), -EFBIG);
    assert_int_equal(cfile_zero(cf, 0, 65u << 20, true), -EFBIG);
    cfile_close(cf, true);
}

static void test_costs_no_disk(void **state)
{
    struct cfile *cf = rig_create(&rig, "f");
    struct stat st;

    (void)state;
    write_at(cf, SIZE, 0);
    assert_int_equal(cfile_zero(cf, 0, SIZE, false), 0);
    assert_int_equal(stat(cf->path, &st), 0);
    assert_true(st.st_blocks * 512 < 64 << 10);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "f", zeros, SIZE);
    cfile_close(cf, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_where_holes_are), TEST(test_remote_is_data), TEST(test_punch), TEST(test_ends),
        TEST(test_costs_no_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
