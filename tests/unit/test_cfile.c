/*
 * Files in the cache, at a bucket in memory: what is sent and when, what comes in between, and what a failed request
 * leaves behind. (A failure of every single request: test_cfile_torture.c)
 */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct rig rig;
static char a[512 << 10], b[512 << 10], got[600 << 10];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    return 0;
}

static unsigned requests(enum oss_op op)
{
    return fake_oss_requests(rig.fake, op);
}

/* All is sent when it is flushed; files that leave while they are written are test_stream.c's. */
static void write_all(struct cfile *cf, const char *from, size_t n, uint64_t offset)
{
    cf->stream_refused = true;
    assert_int_equal(cfile_write(cf, from, n, offset, false), n);
}

/* An object of another host's. */
static void store(const char *key, const char *data, size_t n, const char *acl)
{
    struct kvlist headers = {0};

    assert_int_equal(kv_set(&headers, "x-oss-meta-mode", "33188"), 0);
    assert_int_equal(kv_set(&headers, "content-type", "text/x-test"), 0);
    assert_int_equal(fake_oss_store(rig.fake, key, data, n, &headers, acl), 0);
    kv_free(&headers);
}

static void shut(enum oss_op op, enum fake_gate gate)
{
    fake_oss_shut(rig.fake, op, gate);
}

/* Every content that a key gets must be one that the file had at some time. */
static const char *states[8];
static size_t state_sizes[8], n_states;
static atomic_int strangers;

static void check_published(void *arg, const char *key, const char *data, size_t size)
{
    (void)arg;
    (void)key;
    for (size_t i = 0; i < n_states; i++)
        if (state_sizes[i] == size && !memcmp(states[i], data, size))
            return;
    atomic_fetch_add(&strangers, 1);
}

static void watch(void)
{
    n_states = 0;
    atomic_store(&strangers, 0);
    fake_oss_watch(rig.fake, check_published, NULL);
}

static void may_be(const char *data, size_t size)
{
    states[n_states] = data;
    state_sizes[n_states++] = size;
}

/* ----------------------------------------------------------------------------------------- the plain course */

static void test_create(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct kvlist headers = {0};
    struct attr attr = {.mode = 0600};

    (void)state;
    write_all(cf, a, 1000, 0);
    write_all(cf, a + 1000, 500, 1000);
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    rig_expect_absent(&rig, "a");
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 1500);
    assert_int_equal(fake_oss_headers(rig.fake, "a", &headers, NULL), 0);
    assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), "33152");
    kv_free(&headers);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect_file(cf, a, 1500);
    cfile_close(cf, true);
    assert_int_equal(requests(OSS_OP_PUT), 1);
    assert_int_equal(requests(FAKE_ANY_OP), 1);
}

static void test_empty_file(void **state)
{
    struct cfile *cf = rig_create(&rig, "e");
    bool replaces;

    (void)state;
    assert_true(cfile_empty_unpublished(cf, &replaces));
    assert_false(replaces);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "e", "", 0);
    assert_false(cfile_empty_unpublished(cf, &replaces));
    write_all(cf, a, 10, 0);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(cfile_truncate(cf, 0), 0);
    assert_true(cfile_empty_unpublished(cf, &replaces));
    assert_true(replaces);
    write_all(cf, a, 1, 0);
    assert_false(cfile_empty_unpublished(cf, &replaces));
    cfile_close(cf, true);
}

/* Nobody flushes: the last close sends. */
static void test_close_sends(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 100, 0);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    rig_expect(&rig, "a", a, 100);
}

static void test_truncate_and_holes(void **state)
{
    struct cfile *cf;

    (void)state;
    store("o", a, 200 << 10, NULL);
    cf = rig_open(&rig, "o");
    assert_int_equal(cfile_truncate(cf, 150000), 0);
    assert_int_equal(cfile_truncate(cf, 180000), 0);
    write_all(cf, b, 10, 190000);
    assert_int_equal(rig_flush(cf), 0);
    memset(a + 150000, 0, 40000);
    memcpy(a + 190000, b, 10);
    rig_expect(&rig, "o", a, 190010);
    rig_expect_file(cf, a, 190010);
    cfile_close(cf, true);
}

/* What is not changed is copied in the bucket, and the object's ACL and headers stay. */
static void test_small_change_of_big_object(void **state)
{
    struct kvlist headers = {0};
    struct cfile *cf;
    char acl[24];

    (void)state;
    store("o", a, 400 << 10, "public-read");
    cf = rig_open(&rig, "o");
    write_all(cf, b, 100, 200000);
    assert_int_equal(rig_flush(cf), 0);
    memcpy(a + 200000, b, 100);
    rig_expect(&rig, "o", a, 400 << 10);
    assert_int_equal(fake_oss_headers(rig.fake, "o", &headers, acl), 0);
    assert_string_equal(acl, "public-read");
    assert_string_equal(kv_get(&headers, "content-type"), "text/x-test");
    kv_free(&headers);
    assert_true(requests(OSS_OP_PART_COPY) >= 2);
    assert_int_equal(requests(OSS_OP_PUT), 0);
    rig_expect_file(cf, a, 400 << 10);
    cfile_close(cf, true);
}

static void test_attributes_by_themselves(void **state)
{
    struct attr attr = {.mode = 0600, .uid = 7, .gid = 8, .mtime = {.tv_sec = 123, .tv_nsec = 5}};
    struct kvlist headers = {0};
    struct cfile *cf;
    char acl[24];

    (void)state;
    store("o", a, 100, "private");
    cf = rig_open(&rig, "o");
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    cfile_set_attr(cf, &attr, CFILE_SET_UID | CFILE_SET_GID);
    cfile_set_attr(cf, &attr, CFILE_SET_MTIME);
    for (int i = 0; i < 100 && requests(OSS_OP_COPY) == 0; i++)
        usleep(50000);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 1);
    assert_int_equal(fake_oss_headers(rig.fake, "o", &headers, acl), 0);
    assert_string_equal(acl, "private");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), "33152");
    assert_string_equal(kv_get(&headers, "x-oss-meta-uid"), "7");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mtime"), "123");
    assert_string_equal(kv_get(&headers, "content-type"), "text/x-test");
    kv_free(&headers);
    rig_expect(&rig, "o", a, 100);
    cfile_close(cf, true);
}

static void test_limits(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    assert_int_equal(cfile_write(cf, a, 1, 64u << 20, false), -EFBIG);
    assert_int_equal(cfile_write(cf, a, 1, UINT64_MAX, false), -EFBIG);
    assert_int_equal(cfile_truncate(cf, (64u << 20) + 1), -EFBIG);
    assert_int_equal(cfile_write(cf, a, 5, 0, true), 5);
    assert_int_equal(cfile_write(cf, a + 5, 5, 0, true), 5);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 10);
    cfile_close(cf, true);
}

/* Unsent bytes are never dropped: beyond the cache's size a writer is told so, and can go on once they are sent. */
static void test_cache_full(void **state)
{
    struct cfile *cf, *other;

    (void)state;
    rig.cache_size = 256 << 10;
    rig_restart(&rig);
    cf = rig_create(&rig, "a");
    other = rig_create(&rig, "b");
    fake_oss_shut(rig.fake, OSS_OP_INITIATE, FAKE_GATE_BEGIN); /* nothing leaves meanwhile */
    write_all(cf, a, 200 << 10, 0);
    assert_int_equal(cfile_write(other, a, 100 << 10, 0, false), -ENOSPC);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    /* The flush is answered a moment before its upload lets go of the file. */
    for (int i = 0; i < 20000 && cfile_write(other, a, 100 << 10, 0, false) == -ENOSPC; i++)
        usleep(1000);
    assert_int_equal(rig_flush(other), 0);
    rig_expect(&rig, "a", a, 200 << 10);
    rig_expect(&rig, "b", a, 100 << 10);
    cfile_close(other, true);
}

/* -------------------------------------------------------------------------------------------------- reading */

static void test_single_flight(void **state)
{
    struct rig_call *first, *second;
    struct cfile *cf;

    (void)state;
    store("o", a, 1000, NULL);
    cf = rig_open(&rig, "o");
    shut(OSS_OP_GET, FAKE_GATE_BEGIN);
    first = rig_read_begin(cf, got, 500, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    second = rig_read_begin(cf, got + 1000, 500, 400);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(first, "read"), 500);
    assert_int_equal(rig_wait(second, "read"), 500);
    assert_memory_equal(got, a, 500);
    assert_memory_equal(got + 1000, a + 400, 500);
    assert_int_equal(requests(OSS_OP_GET), 1);
    assert_int_equal(rig_read(cf, got, 10, 1000), 0);
    assert_int_equal(rig_read(cf, got, 10, 995), 5);
    cfile_close(cf, true);
}

static void test_read_fails_then_works(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_GET, .nth = 1, .count = 100, .err = -EIO, .code = "InternalError"};
    struct cfile *cf;

    (void)state;
    store("o", a, 300 << 10, NULL);
    cf = rig_open(&rig, "o");
    fake_oss_fault(rig.fake, &fault);
    assert_int_equal(rig_read(cf, got, 100, 0), -EIO);
    fake_oss_fault(rig.fake, NULL);
    rig_expect_file(cf, a, 300 << 10);
    cfile_close(cf, true);
}

/* Nobody has read of the old object: the file is the new one. Somebody has: he gets no mix. */
static void test_replaced_by_another_host(void **state)
{
    struct cfile *cf;

    (void)state;
    store("n", a, 100, NULL);
    store("o", a, 512 << 10, NULL);
    cf = rig_open(&rig, "n");
    store("n", b, 200, NULL);
    assert_int_equal(rig_read(cf, got, 1000, 0), 200);
    assert_memory_equal(got, b, 200);
    cfile_close(cf, true);
    cf = rig_open(&rig, "o");
    cf->cache->config.parallel_count = 1;
    assert_int_equal(rig_read(cf, got, 1000, 0), 1000);
    assert_memory_equal(got, a, 1000);
    evict_shrink_to(rig.cache, 0); /* it is open: nothing happens */
    store("o", b, 512 << 10, NULL);
    for (size_t at = 0; at < 512 << 10; at += 4096) {
        int n = rig_read(cf, got, 4096, at);

        assert_true(n == -ESTALE || (n == 4096 && !memcmp(got, a + at, 4096)));
    }
    cfile_close(cf, true);
}

/*
 * A chmod of a file that is being read: its object is copied onto itself while the first bytes are still on their
 * way. The reader must get the file's bytes, and never a hole where the download had been.
 */
static void read_across_copy(enum fake_gate gate)
{
    const struct attr attr = {.mode = 0600};
    struct rig_call *call;
    struct cfile *cf;

    store("o", a, 60000, NULL);
    cf = rig_open(&rig, "o");
    shut(OSS_OP_GET, gate);
    call = rig_read_begin(cf, got, 60000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 1);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "read"), 60000);
    assert_memory_equal(got, a, 60000);
    rig_expect_file(cf, a, 60000);
    /* And what is published after a change is not the hole either. */
    write_all(cf, b, 1, 0);
    assert_int_equal(rig_flush(cf), 0);
    a[0] = b[0];
    rig_expect(&rig, "o", a, 60000);
    cfile_close(cf, true);
}

static void test_read_across_copy_begun(void **state)
{
    (void)state;
    read_across_copy(FAKE_GATE_BEGIN);
}

static void test_read_across_copy_half(void **state)
{
    (void)state;
    read_across_copy(FAKE_GATE_BODY);
}

static void test_read_across_copy_ended(void **state)
{
    (void)state;
    read_across_copy(FAKE_GATE_END);
}

/* Written while a download of the whole is on its way: what was written stays. */
static void test_write_across_read(void **state)
{
    struct rig_call *call;
    struct cfile *cf;

    (void)state;
    store("o", a, 60000, NULL);
    cf = rig_open(&rig, "o");
    shut(OSS_OP_GET, FAKE_GATE_BODY);
    call = rig_read_begin(cf, got, 60000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    write_all(cf, b, 100, 0);
    write_all(cf, b, 100, 59950);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "read"), 60000);
    memcpy(a, b, 100);
    memcpy(a + 59950, b, 100);
    rig_expect_file(cf, a, 60050);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "o", a, 60050);
    cfile_close(cf, true);
}

static void test_truncate_across_read(void **state)
{
    struct rig_call *call;
    struct cfile *cf;
    int n;

    (void)state;
    store("o", a, 60000, NULL);
    cf = rig_open(&rig, "o");
    shut(OSS_OP_GET, FAKE_GATE_BODY);
    call = rig_read_begin(cf, got, 60000, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(cfile_truncate(cf, 10000), 0);
    assert_int_equal(cfile_truncate(cf, 20000), 0);
    fake_oss_open(rig.fake);
    n = rig_wait(call, "read");
    assert_true(n == 10000 || n == 20000);
    memset(a + 10000, 0, 10000);
    rig_expect_file(cf, a, 20000);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "o", a, 20000);
    cfile_close(cf, true);
}

/* -------------------------------------------------------------------------- changed while it is being sent */

/* The second flush covers the second write: the first upload does not answer it. */
static void write_across_upload(enum oss_op op, enum fake_gate gate, size_t size)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *first, *second;
    char *before = malloc(size);

    memcpy(before, a, size);
    watch();
    may_be(before, size);
    may_be(a, size);
    write_all(cf, a, size, 0);
    shut(op, gate);
    first = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    memcpy(a + size / 2, b, 100);
    write_all(cf, b, 100, size / 2);
    second = rig_flush_begin(cf);
    assert_false(rig_is_done(first));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(first, "the first flush"), 0);
    assert_int_equal(rig_wait(second, "the second flush"), 0);
    rig_expect(&rig, "a", a, size);
    rig_expect_file(cf, a, size);
    assert_int_equal(atomic_load(&strangers), 0);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
    free(before);
}

static void test_write_before_body(void **state)
{
    (void)state;
    write_across_upload(OSS_OP_PUT, FAKE_GATE_BEGIN, 30000);
}

/* The CRC was announced, the body is another: refused (InvalidCRC64), and sent from a copy. */
static void test_write_within_body(void **state)
{
    (void)state;
    write_across_upload(OSS_OP_PUT, FAKE_GATE_BODY, 30000);
    assert_int_equal(requests(OSS_OP_PUT), 3);
}

static void test_write_after_body(void **state)
{
    (void)state;
    write_across_upload(OSS_OP_PUT, FAKE_GATE_END, 30000);
    assert_int_equal(requests(OSS_OP_PUT), 2);
}

static void test_write_within_part(void **state)
{
    (void)state;
    write_across_upload(OSS_OP_PART, FAKE_GATE_BODY, 100000);
}

static void test_write_before_complete(void **state)
{
    (void)state;
    write_across_upload(OSS_OP_COMPLETE, FAKE_GATE_BEGIN, 100000);
}

/*
 * Two writes in order, the first into a part that was sent already, the second into one that was not: an object with
 * the second and without the first is a file that never was.
 */
static void test_parts_of_two_states(void **state)
{
    static char zero[300 << 10], one[300 << 10], two[300 << 10];
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *first;

    (void)state;
    memcpy(zero, a, sizeof(zero));
    memcpy(one, a, sizeof(one));
    memcpy(one, b, 100);
    memcpy(two, one, sizeof(two));
    memcpy(two + sizeof(two) - 100, b, 100);
    watch();
    may_be(zero, sizeof(zero));
    may_be(one, sizeof(one));
    may_be(two, sizeof(two));
    write_all(cf, a, sizeof(zero), 0);
    shut(OSS_OP_PART, FAKE_GATE_END);
    first = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 4)); /* the first four of ten */
    write_all(cf, b, 100, 0);
    write_all(cf, b, 100, sizeof(two) - 100);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(first, "flush"), 0);
    assert_int_equal(atomic_load(&strangers), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", two, sizeof(two));
    cfile_close(cf, true);
}

/*
 * Emptied and written anew while its upload waits for a thread: what is published must be the old file, the empty or
 * the new one, and not the new bytes with zeros up to the old length.
 */
static void truncate_across_upload(size_t size, enum oss_op op)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *first;

    watch();
    may_be(a, size);
    may_be(a, 0);
    may_be(b, 500);
    write_all(cf, a, size, 0);
    shut(op, FAKE_GATE_BEGIN);
    first = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(cfile_truncate(cf, 0), 0);
    write_all(cf, b, 500, 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(first, "flush"), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", b, 500);
    rig_expect_file(cf, b, 500);
    assert_int_equal(atomic_load(&strangers), 0);
    cfile_close(cf, true);
}

static void test_truncate_before_body(void **state)
{
    (void)state;
    truncate_across_upload(30000, OSS_OP_PUT);
}

static void test_truncate_before_parts(void **state)
{
    (void)state;
    truncate_across_upload(100000, OSS_OP_INITIATE);
}

/* ---------------------------------------------------------------------------- names changed while it is sent */

static void unlink_across_upload(enum fake_gate gate)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *flush, *gone;

    write_all(cf, a, 30000, 0);
    shut(OSS_OP_PUT, gate);
    flush = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    gone = rig_unlink_begin(&rig, "a");
    write_all(cf, b, 10, 0);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flush, "flush"), 0);
    assert_int_equal(rig_wait(gone, "unlink"), 0);
    rig_expect_absent(&rig, "a");
    /* The handle goes on, and nothing of it comes back. */
    memcpy(a, b, 10);
    rig_expect_file(cf, a, 30000);
    write_all(cf, b, 20, 40000);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

static void test_unlink_before_body(void **state)
{
    (void)state;
    unlink_across_upload(FAKE_GATE_BEGIN);
}

static void test_unlink_after_body(void **state)
{
    (void)state;
    unlink_across_upload(FAKE_GATE_END);
}

static void test_unlink_reads_on(void **state)
{
    struct cfile *cf;

    (void)state;
    store("o", a, 300 << 10, NULL);
    cf = rig_open(&rig, "o");
    assert_int_equal(rig_read(cf, got, 10, 0), 10);
    assert_int_equal(rig_unlink(&rig, "o"), 0);
    rig_expect_absent(&rig, "o");
    rig_expect_file(cf, a, 300 << 10);
    cfile_close(cf, true);
    assert_int_equal(rig_lookup(&rig, "o", NULL), -ENOENT);
}

static void rename_across_upload(enum fake_gate gate, size_t size, enum oss_op op)
{
    struct cfile *cf = rig_create(&rig, "b"), *over = rig_create(&rig, "a");
    struct rig_call *flush, *moved;

    write_all(over, b, 100, 0);
    assert_int_equal(rig_flush(over), 0);
    write_all(cf, a, size, 0);
    shut(op, gate);
    flush = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    moved = rig_rename_begin(&rig, "b", "a");
    write_all(cf, b, 10, 5000);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(flush, "flush"), 0);
    assert_int_equal(rig_wait(moved, "rename"), 0);
    memcpy(a + 5000, b, 10);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, size);
    rig_expect_absent(&rig, "b");
    rig_expect_file(over, b, 100); /* who had it open keeps it */
    assert_int_equal(rig_flush(over), 0);
    cfile_close(over, true);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    rig_expect(&rig, "a", a, size);
    assert_int_equal(fake_oss_count(rig.fake), 1);
}

static void test_rename_before_body(void **state)
{
    (void)state;
    rename_across_upload(FAKE_GATE_BEGIN, 30000, OSS_OP_PUT);
}

static void test_rename_after_body(void **state)
{
    (void)state;
    rename_across_upload(FAKE_GATE_END, 30000, OSS_OP_PUT);
}

static void test_rename_before_complete(void **state)
{
    (void)state;
    rename_across_upload(FAKE_GATE_BEGIN, 100000, OSS_OP_COMPLETE);
}

static void test_rename_unsent(void **state)
{
    struct cfile *cf = rig_create(&rig, "t");
    unsigned n;

    (void)state;
    write_all(cf, a, 1000, 0);
    assert_int_equal(rig_lookup(&rig, "d", NULL), -ENOENT);
    n = requests(FAKE_ANY_OP);
    assert_int_equal(rig_rename(&rig, "t", "d"), 0);
    assert_int_equal(requests(FAKE_ANY_OP), n);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "d", a, 1000);
    assert_int_equal(fake_oss_count(rig.fake), 1);
    cfile_close(cf, true);
}

/* An unsent file took the name of an object, and is removed before it was ever sent: the object must go with it. */
static void test_rename_unsent_over_object_and_unlink(void **state)
{
    struct cfile *cf;

    (void)state;
    store("d", b, 2000, NULL);
    assert_int_equal(rig_lookup(&rig, "d", NULL), 0);
    cf = rig_create(&rig, "t");
    write_all(cf, a, 1000, 0);
    assert_int_equal(rig_rename(&rig, "t", "d"), 0);
    assert_int_equal(rig_unlink(&rig, "d"), 0);
    rig_expect_absent(&rig, "d");
    cfile_close(cf, true);
}

/* The same, moved on: the name that it leaves must not show the old object again. */
static void test_rename_unsent_over_object_and_on(void **state)
{
    struct cfile *cf;

    (void)state;
    store("d", b, 2000, NULL);
    assert_int_equal(rig_lookup(&rig, "d", NULL), 0);
    cf = rig_create(&rig, "t");
    write_all(cf, a, 1000, 0);
    assert_int_equal(rig_rename(&rig, "t", "d"), 0);
    assert_int_equal(rig_rename(&rig, "d", "e"), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "e", a, 1000);
    rig_expect_absent(&rig, "d");
    cfile_close(cf, true);
}

static void test_rename_carries_pending_attributes(void **state)
{
    const struct attr attr = {.mode = 0600};
    struct kvlist headers = {0};
    struct cfile *cf;
    char acl[24];

    (void)state;
    store("o", a, 100, "public-read");
    cf = rig_open(&rig, "o");
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    assert_int_equal(rig_rename(&rig, "o", "p"), 0);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 1);
    rig_expect(&rig, "p", a, 100);
    rig_expect_absent(&rig, "o");
    assert_int_equal(fake_oss_headers(rig.fake, "p", &headers, acl), 0);
    assert_string_equal(acl, "public-read");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), "33152");
    kv_free(&headers);
    cfile_close(cf, true);
}

/* --------------------------------------------------------------------------------------------------- failures */

/* While it is unsent every flush says so; the old object stays; then it goes. */
static void test_flush_tells_the_truth(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_PUT, .nth = 1, .count = 1000, .err = -EACCES, .code = "AccessDenied"};
    struct cfile *cf;

    (void)state;
    store("o", a, 1000, NULL);
    cf = rig_open(&rig, "o");
    rig_expect_file(cf, a, 1000);
    fake_oss_fault(rig.fake, &fault);
    write_all(cf, b, 500, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_flush(cf), -EACCES);
    rig_expect(&rig, "o", a, 1000);
    write_all(cf, b, 600, 0);
    assert_int_equal(rig_flush(cf), -EACCES);
    memcpy(got, b, 600);
    memcpy(got + 600, a + 600, 400);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "o", got, 1000);
    cfile_close(cf, true);
}

/*
 * The upload of a changed big object was completed, and the answer lost for good. Its parts were copies of an object
 * that is not there any more: sending it again must work all the same.
 */
static void lost_answer(enum oss_op op, bool open)
{
    const struct fake_fault fault = {.kind = FAKE_LOST, .op = op, .nth = 1, .count = 1};
    const struct attr attr = {.mode = 0600};
    struct kvlist headers = {0};
    struct cfile *cf;
    int r;

    store("o", a, 400 << 10, NULL);
    cf = rig_open(&rig, "o");
    if (op == OSS_OP_COMPLETE) {
        write_all(cf, b, 100, 200000);
        memcpy(a + 200000, b, 100);
    } else {
        cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    }
    fake_oss_fault(rig.fake, &fault);
    r = rig_flush(cf);
    assert_int_equal(fake_oss_faults_met(rig.fake), 1);
    fake_oss_fault(rig.fake, NULL);
    if (!open) {
        cfile_close(cf, true);
        cache_drain(rig.cache);
        cf = rig_open(&rig, "o");
        assert_non_null(cf);
    }
    if (r)
        r = rig_flush(cf);
    assert_int_equal(r, 0);
    rig_expect(&rig, "o", a, 400 << 10);
    rig_expect_file(cf, a, 400 << 10);
    if (op == OSS_OP_COPY) {
        assert_int_equal(fake_oss_headers(rig.fake, "o", &headers, NULL), 0);
        assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), "33152");
        kv_free(&headers);
    }
    write_all(cf, b, 10, 0);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
}

static void test_lost_complete(void **state)
{
    (void)state;
    lost_answer(OSS_OP_COMPLETE, true);
}

static void test_lost_complete_closed(void **state)
{
    (void)state;
    lost_answer(OSS_OP_COMPLETE, false);
}

static void test_lost_copy(void **state)
{
    (void)state;
    lost_answer(OSS_OP_COPY, true);
}

/* Four parts end at the same moment: one of their threads ends the upload, and none of the others touches it then. */
static void test_parts_fail_together(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_PART, .nth = 1, .count = 4, .err = -EIO, .code = "InternalError"};
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    for (int round = 0; round < 100; round++) {
        struct rig_call *call;

        write_all(cf, a, 4 * RIG_PART, 0);
        fake_oss_fault(rig.fake, &fault);
        shut(OSS_OP_PART, FAKE_GATE_BEGIN);
        call = rig_flush_begin(cf);
        assert_true(fake_oss_wait(rig.fake, 4));
        fake_oss_open(rig.fake);
        assert_int_equal(rig_wait(call, "flush"), -EIO);
    }
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 4 * RIG_PART);
    cfile_close(cf, true);
}

/* The object was replaced by another host: a change of a part of it must not be mixed into the new one. */
static void test_replaced_under_a_change(void **state)
{
    struct cfile *cf;

    (void)state;
    store("o", a, 400 << 10, NULL);
    cf = rig_open(&rig, "o");
    write_all(cf, b, 100, 200000);
    store("o", b, 400 << 10, NULL);
    assert_int_equal(rig_flush(cf), -ESTALE);
    rig_expect(&rig, "o", b, 400 << 10);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    assert_int_equal(rig_unlink(&rig, "o") == 0 || rig_lookup(&rig, "o", NULL) == 0, true);
    cfile_close(cf, true);
}

/* The ACL cannot be read: who may read the object is not changed by guessing. */
static void test_acl_unreadable(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_GET_ACL, .nth = 1, .count = 9, .err = -EACCES, .code = "AccessDenied"};
    struct cfile *cf;

    (void)state;
    store("o", a, 100, "public-read");
    cf = rig_open(&rig, "o");
    fake_oss_fault(rig.fake, &fault);
    write_all(cf, b, 100, 0);
    assert_int_equal(rig_flush(cf), -EACCES);
    rig_expect(&rig, "o", a, 100);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "o", b, 100);
    cfile_close(cf, true);
}

/* ----------------------------------------------------------------------------------------------- all at once */

#define WRITERS 6
#define ROUNDS  40

struct writer {
    pthread_t thread;
    struct cfile *cf;
    int id;
    int wrong;
};

static void *write_and_flush(void *arg)
{
    struct writer *w = arg;
    uint64_t at = (uint64_t)w->id * 20000;
    char mine[500], *object;
    size_t size;

    for (int i = 0; i < ROUNDS; i++) {
        rig_bytes(mine, sizeof(mine), (uint64_t)(w->id * 1000 + i));
        if (cfile_write(w->cf, mine, sizeof(mine), at, false) != sizeof(mine) || rig_flush(w->cf)) {
            w->wrong++;
            continue;
        }
        /* Nobody else writes here, so after the flush the object has just these bytes in this place. */
        if (fake_oss_content(rig.fake, "a", &object, &size)) {
            w->wrong++;
            continue;
        }
        w->wrong += size < at + sizeof(mine) || memcmp(object + at, mine, sizeof(mine));
        free(object);
    }
    return NULL;
}

static void test_many_writers_flush(void **state)
{
    struct writer writers[WRITERS];
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.cf = cf, .id = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_and_flush, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_int_equal(writers[i].wrong, 0);
    }
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create),
        TEST(test_empty_file),
        TEST(test_close_sends),
        TEST(test_truncate_and_holes),
        TEST(test_small_change_of_big_object),
        TEST(test_attributes_by_themselves),
        TEST(test_limits),
        TEST(test_cache_full),
        TEST(test_single_flight),
        TEST(test_read_fails_then_works),
        TEST(test_replaced_by_another_host),
        TEST(test_read_across_copy_begun),
        TEST(test_read_across_copy_half),
        TEST(test_read_across_copy_ended),
        TEST(test_write_across_read),
        TEST(test_truncate_across_read),
        TEST(test_write_before_body),
        TEST(test_write_within_body),
        TEST(test_write_after_body),
        TEST(test_write_within_part),
        TEST(test_write_before_complete),
        TEST(test_parts_of_two_states),
        TEST(test_truncate_before_body),
        TEST(test_truncate_before_parts),
        TEST(test_unlink_before_body),
        TEST(test_unlink_after_body),
        TEST(test_unlink_reads_on),
        TEST(test_rename_before_body),
        TEST(test_rename_after_body),
        TEST(test_rename_before_complete),
        TEST(test_rename_unsent),
        TEST(test_rename_unsent_over_object_and_unlink),
        TEST(test_rename_unsent_over_object_and_on),
        TEST(test_rename_carries_pending_attributes),
        TEST(test_flush_tells_the_truth),
        TEST(test_lost_complete),
        TEST(test_lost_complete_closed),
        TEST(test_lost_copy),
        TEST(test_parts_fail_together),
        TEST(test_replaced_under_a_change),
        TEST(test_acl_unreadable),
        TEST(test_many_writers_flush),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
