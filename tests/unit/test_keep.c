/* What is kept across mounts: the ranges with their checksums, the records on disk, and a cache that comes again. */
#include "../../cache/keep.h"
#include "../../cache/keep_log.h"
#include "../../oss/crc64.h"
#include "cache_rig.h"
#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ------------------------------------------------------------------------------------------------- ranges */

#define FILE_SIZE (3u * SUMS_GRID + 1234)

static void check_sums(const struct sums *sums, const char *data)
{
    uint64_t last = 0;

    for (size_t i = 0; i < sums->n; i++) {
        const struct sum *s = &sums->v[i];

        assert_true(s->start >= last && s->start < s->end);
        assert_int_equal(s->start / SUMS_GRID, (s->end - 1) / SUMS_GRID);
        assert_true(i == 0 || s->start > last || s->start % SUMS_GRID == 0); /* else they were joined */
        assert_true(s->crc == crc64(0, data + s->start, s->end - s->start));
        last = s->end;
    }
}

/* Whatever is put and cut, each range has the checksum of its bytes, and what is covered is what a bitmap says. */
static void test_sums(void **state)
{
    char *data = malloc(FILE_SIZE), *covered = calloc(1, FILE_SIZE / 512 + 1);
    struct sums sums = {0};
    struct random random = {.state = 7};

    (void)state;
    rig_bytes(data, FILE_SIZE, 7);
    for (unsigned i = 0; i < 400; i++) {
        uint64_t start = random_below(&random, FILE_SIZE / 512) * 512;
        uint64_t cell_end = (start / SUMS_GRID + 1) * SUMS_GRID;
        uint64_t end = start + (1 + random_below(&random, 600)) * 512;
        bool cut = random_below(&random, 4) == 0;

        if (!cut && end > cell_end)
            end = cell_end;
        if (end > FILE_SIZE / 512 * 512)
            end = FILE_SIZE / 512 * 512;
        if (cut) {
            data[start]++;
            sums_cut(&sums, start, end);
        } else {
            assert_int_equal(sums_put(&sums, (struct sum){start, end, crc64(0, data + start, end - start)}), 0);
        }
        for (uint64_t at = start; at < end; at += 512)
            covered[at / 512] = !cut;
        check_sums(&sums, data);
        /* What touches the range goes with it: never more is covered than should be, and all that was just put is. */
        for (size_t k = 0; k < sums.n; k++)
            for (uint64_t at = sums.v[k].start; at < sums.v[k].end; at += 512)
                assert_true(covered[at / 512]);
        if (!cut)
            assert_true(sums_next(&sums, start)->start <= start && sums_next(&sums, start)->end >= end);
    }
    assert_int_equal(sums_put(&sums, (struct sum){5, 5, 0}), -EINVAL);
    assert_int_equal(sums_put(&sums, (struct sum){SUMS_GRID - 1, SUMS_GRID + 1, 0}), -EINVAL);
    sums_free(&sums);
    free(covered);
    free(data);
}

/* ------------------------------------------------------------------------------------------------- records */

static int temp_file(void)
{
    char name[] = "/tmp/ossmount-keep-XXXXXX";
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    unlink(name);
    return fd;
}

/* Every byte of a record is covered: changed, or cut off anywhere, it is none. */
static void test_records(void **state)
{
    struct sum ranges[] = {{0, 100, 1}, {4096, SUMS_GRID, 2}, {SUMS_GRID, SUMS_GRID + 5, UINT64_MAX}};
    struct keep_record kept = {.type = KEEP_KEPT,
                               .number = 0x123456789abcdef0,
                               .size = SUMS_GRID + 5,
                               .etag = "\"ETAG\"",
                               .key = "a/b c",
                               .sums = {.v = ranges, .n = 3}};
    struct keep_record changed = {.type = KEEP_CHANGED, .number = 9}, found;
    struct buf raw = BUF_INIT(1 << 20), again = BUF_INIT(1 << 20);
    int fd = temp_file();
    uint64_t end = 0, second;

    (void)state;
    assert_int_equal(keep_encode(&raw, &kept), 0);
    assert_int_equal(keep_append(fd, &end, &raw), 0);
    second = end;
    assert_int_equal(keep_encode(&again, &changed), 0);
    assert_int_equal(keep_append(fd, &end, &again), 0);
    assert_int_equal(keep_read_record(fd, 0, &again, &found), 0);
    assert_int_equal(found.type, KEEP_KEPT);
    assert_true(found.number == kept.number && found.size == kept.size);
    assert_string_equal(found.etag, kept.etag);
    assert_string_equal(found.key, kept.key);
    assert_int_equal(found.sums.n, 3);
    assert_memory_equal(found.sums.v, ranges, sizeof(ranges));
    assert_true(found.bytes == 100 + SUMS_GRID - 4096 + 5 && found.end == SUMS_GRID + 5);
    sums_free(&found.sums);
    assert_int_equal(keep_read_record(fd, second, &again, &found), 0);
    assert_true(found.type == KEEP_CHANGED && found.number == 9);
    assert_int_equal(keep_read_record(fd, end, &again, &found), -ENODATA);
    for (size_t i = 0; i < raw.len; i++) {
        char wrong = (char)(raw.data[i] ^ 0x40);

        assert_int_equal(pwrite(fd, &wrong, 1, (off_t)i), 1);
        assert_true(keep_read_record(fd, 0, &again, &found) < 0);
        assert_int_equal(pwrite(fd, &raw.data[i], 1, (off_t)i), 1);
    }
    for (size_t i = raw.len; i-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)i), 0);
        assert_int_equal(keep_read_record(fd, 0, &again, &found), -ENODATA);
        assert_null(found.sums.v);
    }
    buf_free(&raw);
    buf_free(&again);
    close(fd);
}

/* ------------------------------------------------------------------------------------------------- a cache */

static int set_up(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    rig_start(rig);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    rig_stop(*state);
    free(*state);
    return 0;
}

static void make_file(struct rig *rig, const char *key, size_t size, uint64_t seed)
{
    char *data = malloc(size);
    struct cfile *cf = rig_create(rig, key);

    rig_bytes(data, size, seed);
    assert_int_equal(cfile_write(cf, data, size, 0, false), (ssize_t)size);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    free(data);
}

static void expect_file(struct rig *rig, const char *key, size_t size, uint64_t seed)
{
    char *data = malloc(size);
    struct cfile *cf = rig_open(rig, key);

    assert_non_null(cf);
    rig_bytes(data, size, seed);
    rig_expect_file(cf, data, size);
    cfile_close(cf, true);
    free(data);
}

static void again(struct rig *rig)
{
    rig_restart(rig);
    assert_int_equal(cache_recover(rig->cache), 0);
}

static uint64_t cached_bytes(struct rig *rig)
{
    uint64_t n;

    pthread_mutex_lock(&rig->cache->mu);
    n = rig->cache->cached_bytes;
    pthread_mutex_unlock(&rig->cache->mu);
    return n;
}

/* Nothing is fetched, and it counts from the start. */
static void test_comes_again(void **state)
{
    struct rig *rig = *state;
    unsigned gets;

    make_file(rig, "a", 5000, 1);
    make_file(rig, "b", 3u << 20, 2);
    for (int i = 0; i < 3; i++) {
        again(rig);
        assert_true(cached_bytes(rig) == 5000 + (3u << 20));
        gets = fake_oss_requests(rig->fake, OSS_OP_GET);
        expect_file(rig, "a", 5000, 1);
        expect_file(rig, "b", 3u << 20, 2);
        assert_int_equal(fake_oss_requests(rig->fake, OSS_OP_GET), gets);
        assert_true(cached_bytes(rig) == 5000 + (3u << 20));
    }
}

/* What was written over what was only probably on the disk is the file, whatever the checksums say. */
static void test_written_over(void **state)
{
    struct rig *rig = *state;
    size_t size = 2u << 20;
    char *data = malloc(size);
    struct cfile *cf;

    make_file(rig, "f", size, 3);
    rig_bytes(data, size, 3);
    again(rig);
    cf = rig_open(rig, "f");
    memcpy(data + 5000, "changed", 7);
    assert_int_equal(cfile_write(cf, "changed", 7, 5000, false), 7);
    rig_expect_file(cf, data, size);
    assert_int_equal(cfile_truncate(cf, size - 99), 0);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    rig_expect(rig, "f", data, size - 99);
    again(rig);
    cf = rig_open(rig, "f");
    rig_expect_file(cf, data, size - 99);
    cfile_close(cf, true);
    free(data);
}

/* A smaller cache keeps what was used last, from its first moment. */
static void test_smaller(void **state)
{
    struct rig *rig = *state;
    char name[32];
    unsigned gets;

    for (unsigned i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        make_file(rig, name, 10000, i);
    }
    again(rig);
    expect_file(rig, "f3", 10000, 3);
    rig->cache_size = 35000;
    again(rig);
    assert_true(cached_bytes(rig) == 30000);
    gets = fake_oss_requests(rig->fake, OSS_OP_GET);
    expect_file(rig, "f3", 10000, 3);
    expect_file(rig, "f9", 10000, 9);
    expect_file(rig, "f8", 10000, 8);
    assert_int_equal(fake_oss_requests(rig->fake, OSS_OP_GET), gets);
    expect_file(rig, "f7", 10000, 7);
    assert_int_equal(fake_oss_requests(rig->fake, OSS_OP_GET), gets + 1);
}

/* Made and removed without end, the record file stays small. */
static void test_record_file_is_bounded(void **state)
{
    struct rig *rig = *state;
    char path[128];
    struct stat st;

    make_file(rig, "stays", 100, 1);
    for (unsigned i = 0; i < 3; i++) {
        make_file(rig, "goes", 100, i);
        assert_int_equal(rig_unlink(rig, "goes"), 0);
    }
    again(rig);
    expect_file(rig, "stays", 100, 1);
    again(rig);
    snprintf(path, sizeof(path), "%s/kept", rig->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 0 && st.st_size < 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_records),
        cmocka_unit_test_setup_teardown(test_comes_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_written_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_smaller, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_record_file_is_bounded, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
