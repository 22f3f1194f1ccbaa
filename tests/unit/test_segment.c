/* Files larger than the cache: what is beyond it leaves in segments, and is read, changed and published all the same.
 */
#include "../../cache/hidden.h"
#include "../../cache/journal.h"
#include "../../cache/stream.h"

#include "cache_rig.h"
#include "flavour.h"
#include "random.h"

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

#define PART  RIG_PART
#define CACHE (8 * PART)
#define SIZE  (40 * PART)

static struct rig rig;
static char a[SIZE], b[SIZE], got[SIZE];
static uint64_t most_cached;

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){.cache_size = CACHE};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    most_cached = 0;
    return 0;
}

static unsigned requests(enum oss_op op)
{
    return fake_oss_requests(rig.fake, op);
}

/* As the file system does: waits for room. 0 or a negative errno. */
static int try_write(struct cfile *cf, const char *from, size_t n, uint64_t offset)
{
    for (;;) {
        ssize_t w = cfile_write(cf, from, n, offset, false);
        struct rig_call *room;
        int r;

        pthread_mutex_lock(&rig.cache->mu);
        if (rig.cache->cached_bytes > most_cached)
            most_cached = rig.cache->cached_bytes;
        pthread_mutex_unlock(&rig.cache->mu);
        if (w != -ENOSPC)
            return w < 0 ? (int)w : 0;
        room = rig_call_new();
        if (!cfile_await_room(cf, n, rig_done, room)) {
            rig_done(room, -ENOSPC);
            return rig_wait(room, "room");
        }
        r = rig_wait(room, "room");
        if (r)
            return r;
    }
}

static void write_all(struct cfile *cf, const char *from, size_t n, uint64_t offset)
{
    for (size_t at = 0; at < n; at += 4096)
        assert_int_equal(try_write(cf, from + at, n - at < 4096 ? n - at : 4096, offset + at), 0);
}

/* The file piece by piece, for it is larger than the cache. */
static void expect_file(struct cfile *cf, const char *data, size_t size)
{
    for (size_t at = 0; at < size; at += 16384) {
        size_t n = size - at < 16384 ? size - at : 16384;

        assert_int_equal(rig_read(cf, got, n, at), n);
        assert_memory_equal(got, data + at, n);
    }
}

/* Until no segment is on its way, but for one that waits to be filled. */
static void await_segments(struct cfile *cf)
{
    bool over = false;

    for (int i = 0; i < 20000 && !over; i++) {
        usleep(1000);
        pthread_mutex_lock(&cf->mu);
        over = cf->segments == (cf->segment != NULL);
        pthread_mutex_unlock(&cf->mu);
    }
    assert_true(over);
}

/* Until nothing is read ahead. */
static void await_fetches(struct cfile *cf)
{
    bool over = false;

    for (int i = 0; i < 20000 && !over; i++) {
        usleep(1000);
        pthread_mutex_lock(&cf->mu);
        over = list_empty(&cf->fetches);
        pthread_mutex_unlock(&cf->mu);
    }
    assert_true(over);
}

/* Until one is completed. */
static void await_base(struct cfile *cf)
{
    bool there = false;

    for (int i = 0; i < 20000 && !there; i++) {
        usleep(1000);
        pthread_mutex_lock(&cf->mu);
        there = cf->n_bases > 0;
        pthread_mutex_unlock(&cf->mu);
    }
}

/* When all is over only the file is there. */
static void expect_clean(size_t objects)
{
    rig_restart(&rig);
    assert_int_equal(fake_oss_count(rig.fake), objects);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

static void test_larger_than_cache(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, SIZE, 0);
    assert_true(most_cached <= CACHE + 4096);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    expect_file(cf, a, SIZE);
    cfile_close(cf, true);
    assert_true(requests(OSS_OP_PART_COPY) > 0);
    /* Nothing was sent twice. */
    assert_true(requests(OSS_OP_PART) <= SIZE / PART + 1);
    expect_clean(1);
}

static void test_close_without_flush(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, SIZE, 0);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    rig_expect(&rig, "a", a, SIZE);
    expect_clean(1);
}

/* What was dropped is read, written over and cut off while the file is still being written. */
static void test_changed_while_written(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 24 * PART, 0);
    expect_file(cf, a, 24 * PART);
    write_all(cf, b, 100, 6 * PART + 77);
    memcpy(a + 6 * PART + 77, b, 100);
    write_all(cf, b, PART, 10 * PART - 5);
    memcpy(a + 10 * PART - 5, b, PART);
    assert_int_equal(cfile_truncate(cf, 20 * PART + 9), 0);
    write_all(cf, a + 20 * PART + 9, SIZE - 20 * PART - 9, 20 * PART + 9);
    expect_file(cf, a, SIZE);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
    expect_clean(1);
}

/* An fsync in the middle: what comes behind builds on it, and may be larger than the cache again. */
static void test_fsync_and_on(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 12 * PART, 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 12 * PART);
    write_all(cf, a + 12 * PART, SIZE - 12 * PART, 12 * PART);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
    expect_clean(1);
}

static void test_unlinked(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 24 * PART, 0);
    assert_int_equal(rig_unlink(&rig, "a"), 0);
    cfile_close(cf, true);
    expect_clean(0);
}

/* Wherever the writer was, also within a segment: what was begun ends with the file. */
static void test_unlinked_anywhere(void **state)
{
    bool within = false;

    (void)state;
    for (size_t n = CACHE / 2; n <= 3 * CACHE; n += PART / 2) {
        struct cfile *cf = rig_create(&rig, "a");
        bool over = false;

        write_all(cf, a, n, 0);
        pthread_mutex_lock(&cf->mu);
        within = within || cf->segment;
        pthread_mutex_unlock(&cf->mu);
        assert_int_equal(rig_unlink(&rig, "a"), 0);
        cfile_close(cf, true);
        for (int i = 0; i < 20000 && !over; i++) {
            usleep(1000);
            pthread_mutex_lock(&rig.cache->mu);
            over = rig.cache->busy == 0;
            pthread_mutex_unlock(&rig.cache->mu);
        }
        if (!over)
            fail_msg("of %zu bytes something never ends", n);
    }
    assert_true(within);
    expect_clean(0);
}

static void test_renamed(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 24 * PART, 0);
    assert_int_equal(rig_rename(&rig, "a", "b"), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "b", a, 24 * PART);
    cfile_close(cf, true);
    expect_clean(1);
}

/* The service has lost a hidden object: the close says so, and the old object is not replaced. */
static void test_lost_segment(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 24 * PART, 0);
    await_base(cf); /* one that still takes in parts may wait for more */
    pthread_mutex_lock(&cf->mu);
    assert_true(cf->n_bases > 0);
    fake_oss_remove(rig.fake, cf->bases[0].key);
    pthread_mutex_unlock(&cf->mu);
    assert_int_equal(rig_flush(cf), -EIO);
    rig_expect_absent(&rig, "a");
    cfile_close(cf, true);
    assert_int_equal(rig_unlink(&rig, "a"), 0);
    expect_clean(0);
}

/* No segment can be made: the writer is told, and what he has written is sent. */
static void refused(enum oss_op op, unsigned nth)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = op, .nth = nth, .count = 1000, .err = -EACCES, .code = "AccessDenied"};
    struct cfile *cf = rig_create(&rig, "a");
    size_t at = 0;
    int r = 0;

    fake_oss_fault(rig.fake, &fault);
    for (; !r && at < SIZE; at += r ? 0 : 4096)
        r = try_write(cf, a + at, 4096, at);
    assert_int_equal(r, -ENOSPC);
    assert_true(at >= CACHE / 2);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, at);
    cfile_close(cf, true);
    expect_clean(1);
}

static void test_no_initiate(void **state)
{
    (void)state;
    refused(OSS_OP_INITIATE, 2);
}

static void test_no_part(void **state)
{
    (void)state;
    refused(OSS_OP_PART, 6);
}

static void test_no_complete(void **state)
{
    (void)state;
    refused(OSS_OP_COMPLETE, 1);
}

/* A request that is refused and then is not any more: whoever writes notices nothing. */
static void refused_once(enum oss_op op, unsigned nth)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = op, .nth = nth, .count = 1, .err = -EACCES, .code = "AccessDenied"};
    struct cfile *cf = rig_create(&rig, "a");

    fake_oss_fault(rig.fake, &fault);
    write_all(cf, a, SIZE, 0);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
    expect_clean(1);
}

static void test_refused_once(void **state)
{
    (void)state;
    refused_once(OSS_OP_INITIATE, 2);
}

static void test_refused_part_once(void **state)
{
    (void)state;
    refused_once(OSS_OP_PART, 6);
}

static void test_refused_complete_once(void **state)
{
    (void)state;
    refused_once(OSS_OP_COMPLETE, 1);
}

/* The reply of a hidden Initiate is lost, or an abort fails: what stands there is looked for with the object. */
static void test_unknown_upload(void **state)
{
    const struct fake_fault fault = {.kind = FAKE_LOST, .op = OSS_OP_INITIATE, .nth = 2, .count = 1, .err = -EIO};
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    fake_oss_fault(rig.fake, &fault);
    write_all(cf, a, SIZE, 0);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
    expect_clean(1);
}

/* Two files that share the cache. */
static void test_two_files(void **state)
{
    struct cfile *one = rig_create(&rig, "a"), *two = rig_create(&rig, "b");

    (void)state;
    for (size_t at = 0; at < 20 * PART; at += 4096) {
        assert_int_equal(try_write(one, a + at, 4096, at), 0);
        assert_int_equal(try_write(two, b + at, 4096, at), 0);
    }
    assert_true(most_cached <= CACHE + 2 * 4096);
    assert_int_equal(rig_flush(one), 0);
    assert_int_equal(rig_flush(two), 0);
    rig_expect(&rig, "a", a, 20 * PART);
    rig_expect(&rig, "b", b, 20 * PART);
    cfile_close(one, true);
    cfile_close(two, true);
    expect_clean(2);
}

static void test_random(void **state)
{
    static char data[SIZE];

    (void)state;
    for (unsigned seed = 0; seed < 40; seed += CASES_STEP) {
        struct random rng = {.state = seed + 1};
        struct cfile *cf = rig_create(&rig, "r");
        size_t size = 0;
        int r = 0;

        for (unsigned i = 0; !r && i < 60; i++) {
            size_t at = size, n = 1 + random_below(&rng, 2 * PART);

            if (random_one_in(&rng, 6)) {
                at = random_below(&rng, size + 1);
                n = 1 + random_below(&rng, 3000);
            } else if (random_one_in(&rng, 15)) {
                size_t cut = size - random_below(&rng, size + 1) / 3;

                assert_int_equal(cfile_truncate(cf, cut), 0);
                size = cut;
                continue;
            }
            n = at + n > SIZE ? SIZE - at : n;
            rig_bytes(b, n, random_below(&rng, 1000));
            for (size_t done = 0; !r && done < n; done += 4096) {
                size_t piece = n - done < 4096 ? n - done : 4096;

                r = try_write(cf, b + done, piece, at + done);
                if (!r) {
                    memcpy(data + at + done, b + done, piece);
                    size = at + done + piece > size ? at + done + piece : size;
                }
            }
        }
        assert_true(r == 0 || r == -ENOSPC); /* what is dirty here and there cannot leave */
        expect_file(cf, data, size);
        assert_int_equal(rig_flush(cf), 0);
        rig_expect(&rig, "r", data, size);
        cfile_close(cf, true);
        assert_int_equal(rig_unlink(&rig, "r"), 0);
    }
    expect_clean(0);
}

/* What the journal says of an unclosed file is what hidden objects have of it, and nothing that was written since. */
static void test_journal_of_unclosed(void **state)
{
    struct cfile *cf = rig_create(&rig, "f");
    const uint64_t over = SIZE / 2 + 7, hole = SIZE / 4 + 5;
    struct journal_state s;
    uint64_t hidden = 0;
    char path[300];

    (void)state;
    write_all(cf, a, SIZE, 0);
    assert_int_equal(try_write(cf, b, 10, over), 0);
    await_segments(cf);
    assert_int_equal(cfile_zero(cf, hole, 10, false), 0);
    pthread_mutex_lock(&cf->mu);
    snprintf(path, sizeof(path), "%s.journal", cf->path);
    pthread_mutex_unlock(&cf->mu);
    assert_int_equal(journal_read(path, &s), 0);
    assert_false(s.committed);
    for (size_t i = 0; i < s.n_hidden; i++) {
        const struct share *one = &s.hidden[i];
        size_t n = one->end - one->start, size;
        char *content;

        assert_false(n > 0 && one->start < over + 10 && one->end > over);
        assert_false(n > 0 && one->start < hole + 10 && one->end > hole);
        assert_int_equal(fake_oss_content(rig.fake, one->key, &content, &size), 0);
        assert_true(one->base_offset + n <= size);
        assert_memory_equal(content + one->base_offset, a + one->start, n);
        hidden += n;
        free(content);
    }
    assert_true(hidden >= SIZE - CACHE - 10);
    journal_state_free(&s);
    assert_int_equal(rig_flush(cf), 0);
    memcpy(a + over, b, 10);
    memset(a + hole, 0, 10);
    rig_expect(&rig, "f", a, SIZE);
    cfile_close(cf, true);
}

/* Who cuts everything off while an fsync has the service copy from a hidden object has not lost anything. */
static void test_cut_off_while_copied(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *flushed;

    (void)state;
    write_all(cf, a, 24 * PART, 0);
    await_segments(cf);
    fake_oss_shut(rig.fake, OSS_OP_PART_COPY, FAKE_GATE_BEGIN);
    flushed = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(cfile_truncate(cf, 0), 0);
    for (int i = 0; i < 20000 && fake_oss_count(rig.fake) > 0; i++)
        usleep(1000);
    assert_int_equal(fake_oss_count(rig.fake), 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flushed, "flush"), 0);
    write_all(cf, b, 10, 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", b, 10);
    cfile_close(cf, true);
    expect_clean(1);
}

/* The data file of what is kept aside is the last copy, although its hidden objects are still there. */
static void test_kept_aside_is_not_dropped(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    uint64_t local, dropped;

    (void)state;
    write_all(cf, a, 24 * PART, 0);
    await_segments(cf);
    assert_int_equal(rig_read(cf, got, PART, 0), PART);
    await_fetches(cf);
    for (int i = 0; i < 2; i++) {
        bool aside = i == 0;

        pthread_mutex_lock(&cf->mu);
        cf->orphan = cf->rescued = aside;
        local = extent_map_local_bytes(cf->map);
        assert_true(local > extent_map_dirty_bytes(cf->map));
        pthread_mutex_unlock(&cf->mu);
        assert_int_equal(evict_for_fetch(cf, 2 * CACHE), -ENOSPC);
        pthread_mutex_lock(&cf->mu);
        dropped = local - extent_map_local_bytes(cf->map);
        cf->orphan = cf->rescued = false;
        pthread_mutex_unlock(&cf->mu);
        if (aside)
            assert_int_equal(dropped, 0);
        else
            assert_true(dropped > 0);
    }
    expect_file(cf, a, 24 * PART);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 24 * PART);
    cfile_close(cf, true);
    expect_clean(1);
}

static void copy_file(const char *from, const char *to)
{
    char command[1000];

    snprintf(command, sizeof(command), "cp --sparse=always '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

/* What was never closed is fetched to be kept aside also while the cache is full of what is unsent. */
static void test_rescue_into_full_cache(void **state)
{
    struct cfile *cf = rig_create(&rig, "f");
    char data[300], journal[400], kept[300], left[400];
    struct journal_state s;
    FILE *file;

    (void)state;
    write_all(cf, a, SIZE, 0);
    await_segments(cf);
    pthread_mutex_lock(&cf->mu);
    snprintf(data, sizeof(data), "%s", cf->path);
    pthread_mutex_unlock(&cf->mu);
    snprintf(journal, sizeof(journal), "%s.journal", data);
    snprintf(kept, sizeof(kept), "%s/data/77", rig.dir);
    snprintf(left, sizeof(left), "%s.journal", kept);
    copy_file(data, kept);
    copy_file(journal, left);
    assert_int_equal(journal_read(left, &s), 0);
    assert_true(s.n_hidden > 0);

    pthread_mutex_lock(&rig.cache->mu);
    rig.cache->cached_bytes += CACHE;
    pthread_mutex_unlock(&rig.cache->mu);
    assert_int_equal(rescue(rig.cache, "77", &s, "it was not closed"), 0);
    snprintf(left, sizeof(left), "%s/aside/77.journal", rig.dir);
    for (int i = 0; i < 20000 && access(left, F_OK); i++)
        usleep(1000);
    pthread_mutex_lock(&rig.cache->mu);
    rig.cache->cached_bytes -= CACHE;
    pthread_mutex_unlock(&rig.cache->mu);

    snprintf(kept, sizeof(kept), "%s/aside/77", rig.dir);
    file = fopen(kept, "r");
    assert_non_null(file);
    assert_int_equal(fread(got, 1, SIZE, file), SIZE);
    fclose(file);
    assert_memory_equal(got, a, SIZE);
    assert_int_equal(rig_unlink(&rig, "f"), 0);
    cfile_close(cf, true);
    expect_clean(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_larger_than_cache),
        TEST(test_close_without_flush),
        TEST(test_changed_while_written),
        TEST(test_fsync_and_on),
        TEST(test_unlinked),
        TEST(test_unlinked_anywhere),
        TEST(test_renamed),
        TEST(test_lost_segment),
        TEST(test_no_initiate),
        TEST(test_no_part),
        TEST(test_no_complete),
        TEST(test_refused_once),
        TEST(test_refused_part_once),
        TEST(test_refused_complete_once),
        TEST(test_unknown_upload),
        TEST(test_two_files),
        TEST(test_random),
        TEST(test_journal_of_unclosed),
        TEST(test_cut_off_while_copied),
        TEST(test_kept_aside_is_not_dropped),
        TEST(test_rescue_into_full_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
