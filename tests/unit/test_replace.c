/*
 * An object is replaced, moved or deleted by ourselves while somebody here still asks for it: nobody is told that it
 * is another host's doing. Every case is a moment that requests held at a gate make as long as it takes.
 */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LARGE (200u << 10) /* sent and copied in parts */
#define SMALL 60000        /* fetched whole, sent by one request */

static struct rig rig;
static char data[LARGE], other[LARGE], got[LARGE];

static int setup(void **state)
{
    (void)state;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(data, sizeof(data), 1);
    rig_bytes(other, sizeof(other), 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cache_drain(rig.cache);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    rig_stop(&rig);
    return 0;
}

static struct cfile *open_stored(const char *key, size_t n)
{
    assert_int_equal(fake_oss_store(rig.fake, key, data, n, NULL, NULL), 0);
    return rig_open(&rig, key);
}

static void write_at(struct cfile *cf, size_t n, uint64_t offset)
{
    assert_int_equal(cfile_write(cf, other, n, offset, false), n);
}

static void wait_requests(enum oss_op op, unsigned n)
{
    for (int i = 0; i < 10000 && fake_oss_requests(rig.fake, op) < n; i++)
        usleep(1000);
    assert_true(fake_oss_requests(rig.fake, op) >= n);
}

static void expect_read(struct rig_call *call, const char *bytes, size_t n)
{
    assert_int_equal(rig_wait(call, "read"), n);
    assert_memory_equal(got, bytes, n);
}

static struct rig_call *chmod_begin(struct cfile *cf)
{
    const struct attr attr = {.mode = S_IFREG | 0600};

    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    return rig_flush_begin(cf);
}

/* All of `from` from its beginning, n bytes. */
static void copy(struct cfile *from, struct cfile *to, uint64_t n)
{
    struct rig_call *call = rig_call_new();

    cache_copy(from, 0, to, 0, n, rig_done, call);
    assert_int_equal(rig_wait(call, "copy_file_range"), n);
}

/* ------------------------------------------------------------------------------------------------ reading */

/* The file's own upload has replaced the object, and is not answered yet. */
static void test_read_while_sent(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);
    struct rig_call *flushed, *read;

    (void)state;
    write_at(cf, 1000, 0);
    fake_oss_shut(rig.fake, OSS_OP_COMPLETE, FAKE_GATE_END);
    flushed = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    read = rig_read_begin(cf, got, 5000, 150000);
    wait_requests(OSS_OP_GET, 1);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flushed, "flush"), 0);
    expect_read(read, data + 150000, 5000);
    cfile_close(cf, true);
}

/* A read asks for the old object when all of it was written over, sent, and not answered yet. */
static void test_read_of_what_was_written_over(void **state)
{
    struct cfile *cf = open_stored("f", SMALL);
    struct rig_call *flushed, *read;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    read = rig_read_begin(cf, got, 5000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    write_at(cf, SMALL, 0);
    fake_oss_shut(rig.fake, OSS_OP_PUT, FAKE_GATE_END);
    flushed = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 2));
    fake_oss_open_one(rig.fake, OSS_OP_GET);
    usleep(20000); /* for an answer that should not be an error */
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flushed, "flush"), 0);
    expect_read(read, other, 5000);
    cfile_close(cf, true);
}

/* Written over only, and not sent: what another host did to the object is of no interest any more. */
static void test_read_of_what_nobody_needs(void **state)
{
    struct cfile *cf = open_stored("f", SMALL);
    struct rig_call *read;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    read = rig_read_begin(cf, got, 5000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    write_at(cf, SMALL, 0);
    assert_int_equal(fake_oss_store(rig.fake, "f", "x", 1, NULL, NULL), 0);
    fake_oss_open(rig.fake);
    expect_read(read, other, 5000);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
}

/* Renamed while a read was about to fetch it whole: the bytes come from where it is now. */
static void test_read_while_renamed(void **state)
{
    struct cfile *cf = open_stored("f", SMALL);
    struct rig_call *read;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    read = rig_read_begin(cf, got, 5000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(rig_rename(&rig, "f", "g"), 0);
    fake_oss_open(rig.fake);
    expect_read(read, data, 5000);
    rig_expect_file(cf, data, SMALL);
    cfile_close(cf, true);
}

/* So with the directory above: the originals are deleted, and that is not answered yet. */
static void test_read_while_dir_renamed(void **state)
{
    struct rig_call *renamed = rig_call_new(), *read;
    struct cfile *cf;

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "d/", "", 0, NULL, NULL), 0);
    cf = open_stored("d/f", SMALL);
    fake_oss_shut(rig.fake, OSS_OP_GET, FAKE_GATE_BEGIN);
    read = rig_read_begin(cf, got, 5000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    fake_oss_shut(rig.fake, OSS_OP_DELETE_MANY, FAKE_GATE_END);
    cache_rename_dir(rig.cache, "d/", "e/", rig_done, renamed);
    assert_true(fake_oss_wait(rig.fake, 2));
    fake_oss_open_one(rig.fake, OSS_OP_GET);
    usleep(20000); /* for an answer that should not be an error */
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(renamed, "rename"), 0);
    expect_read(read, data, 5000);
    cfile_close(cf, true);
}

/* ------------------------------------------------------------------------------------------------ sending */

/* What was to be copied from the old object is cut off before the copy is asked for: the upload begins anew. */
static void test_cut_while_sent(void **state)
{
    struct cfile *cf = open_stored("f", LARGE);
    struct rig_call *flushed;

    (void)state;
    write_at(cf, RIG_PART_MIN, 0);
    fake_oss_shut(rig.fake, OSS_OP_INITIATE, FAKE_GATE_BEGIN);
    flushed = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(cfile_truncate(cf, RIG_PART_MIN), 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flushed, "flush"), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "f", other, RIG_PART_MIN);
    cfile_close(cf, true);
}

/*
 * A file stands in an object whose attributes are changed, which gives it another ETag, and is sent, or read, before
 * that is answered: it waits, and asks no more often than it must.
 */
static void test_sharer_while_attributes_go(void **state)
{
    struct cfile *cf = open_stored("f", LARGE), *to = rig_create(&rig, "to"), *reader = rig_create(&rig, "reader");
    struct rig_call *changed, *flushed, *read;
    unsigned copies, gets;

    (void)state;
    copy(cf, to, LARGE - 5000);
    copy(cf, reader, LARGE - 5000);
    fake_oss_rename_copies(rig.fake, true);
    copies = fake_oss_requests(rig.fake, OSS_OP_PART_COPY);
    gets = fake_oss_requests(rig.fake, OSS_OP_GET);
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_END);
    changed = chmod_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    flushed = rig_flush_begin(to);
    read = rig_read_begin(reader, got, 5000, 100000);
    wait_requests(OSS_OP_PART_COPY, copies + 1);
    wait_requests(OSS_OP_GET, gets + 1);
    usleep(50000); /* for requests that should not come */
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(changed, "chmod"), 0);
    assert_int_equal(rig_wait(flushed, "flush"), 0);
    expect_read(read, data + 100000, 5000);
    assert_true(fake_oss_requests(rig.fake, OSS_OP_PART_COPY) <= copies + 2 * (LARGE / RIG_PART + 1));
    assert_int_equal(rig_flush(reader), 0);
    rig_expect(&rig, "to", data, LARGE - 5000);
    rig_expect(&rig, "reader", data, LARGE - 5000);
    cfile_close(cf, true);
    cfile_close(to, true);
    cfile_close(reader, true);
}

/*
 * An upload began for attributes alone, and bytes were written too before it was planned: the files that stand in the
 * object come first. (The moment in between is made long by a question that is asked of an object in doubt.)
 */
static void test_sharer_while_content_follows(void **state)
{
    struct cfile *cf = open_stored("f", SMALL), *to = rig_create(&rig, "to");
    struct rig_call *changed;

    (void)state;
    copy(cf, to, SMALL);
    pthread_mutex_lock(&cf->mu);
    cf->unclear = true;
    pthread_mutex_unlock(&cf->mu);
    fake_oss_shut(rig.fake, OSS_OP_HEAD, FAKE_GATE_BEGIN);
    changed = chmod_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    write_at(cf, SMALL, 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(changed, "chmod"), 0);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(rig_flush(to), 0);
    rig_expect(&rig, "f", other, SMALL);
    rig_expect(&rig, "to", data, SMALL);
    cfile_close(cf, true);
    cfile_close(to, true);
}

/* ------------------------------------------------------------------------------------------------ opening */

/* An open that comes when the removal has looked who holds the file, and one that comes with what was known before.
 */
static void test_open_while_removed(void **state)
{
    struct rig_call *removed, *waited = rig_call_new();
    struct oinfo *info;
    struct cfile *cf;

    (void)state;
    cfile_close(open_stored("f", SMALL), true);
    assert_int_equal(rig_lookup(&rig, "f", &info), 0);
    fake_oss_shut(rig.fake, OSS_OP_DELETE, FAKE_GATE_BEGIN);
    removed = rig_unlink_begin(&rig, "f");
    assert_true(fake_oss_wait(rig.fake, 1));
    cf = cfile_open(rig.cache, "f", info, NULL, false);
    assert_non_null(cf);
    assert_true(cfile_too_late(cf));
    cfile_close(cf, false);
    assert_true(cache_await_name(rig.cache, "f", rig_done, waited));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(removed, "unlink"), 0);
    assert_int_equal(rig_wait(waited, "the open"), 0);
    assert_int_equal(rig_lookup(&rig, "f", NULL), -ENOENT);
    cf = cfile_open(rig.cache, "f", info, NULL, false);
    assert_true(cfile_too_late(cf));
    cfile_close(cf, false);
    oinfo_put(info);
}

/* What was known before a rename over the file: it is opened as what it is now. */
static void test_open_after_a_rename(void **state)
{
    struct rig_call *ended = rig_call_new();
    struct oinfo *info;
    struct cfile *cf;

    (void)state;
    assert_int_equal(fake_oss_store(rig.fake, "g", other, SMALL, NULL, NULL), 0);
    cfile_close(open_stored("f", SMALL), true);
    assert_int_equal(rig_lookup(&rig, "f", &info), 0);
    assert_int_equal(rig_rename(&rig, "g", "f"), 0);
    if (!cache_await_name(rig.cache, "f", rig_done, ended)) /* it is answered a moment before it is over */
        rig_done(ended, 0);
    assert_int_equal(rig_wait(ended, "the rename's end"), 0);
    cf = cfile_open(rig.cache, "f", info, NULL, false);
    assert_false(cfile_too_late(cf));
    rig_expect_file(cf, other, SMALL);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_GET), 1);
    cfile_close(cf, false);
    oinfo_put(info);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_read_while_sent),
        TEST(test_read_of_what_was_written_over),
        TEST(test_read_of_what_nobody_needs),
        TEST(test_read_while_renamed),
        TEST(test_read_while_dir_renamed),
        TEST(test_cut_while_sent),
        TEST(test_sharer_while_attributes_go),
        TEST(test_sharer_while_content_follows),
        TEST(test_open_while_removed),
        TEST(test_open_after_a_rename),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
