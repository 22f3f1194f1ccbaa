/*
 * Files that leave while they are being written: what is sent before the close, what the close still has to send, and
 * that nothing that comes in between ever shows in the object.
 */
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

#define PART RIG_PART
#define SIZE (10 * PART)

static struct rig rig;
static char a[SIZE], b[SIZE];

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

static void write_all(struct cfile *cf, const char *from, size_t n, uint64_t offset)
{
    /* As a program does: a piece at a time. */
    for (size_t at = 0; at < n; at += 4096) {
        size_t piece = n - at < 4096 ? n - at : 4096;

        assert_int_equal(cfile_write(cf, from + at, piece, offset + at, false), piece);
    }
}

static unsigned parts_sent(struct cfile *cf)
{
    unsigned n = 0;

    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; cf->stream && i < cf->stream->n_parts; i++)
        n += cf->stream->parts[i]->state == PART_SENT;
    pthread_mutex_unlock(&cf->mu);
    return n;
}

static void wait_sent(struct cfile *cf, unsigned n)
{
    for (int i = 0; i < 10000 && parts_sent(cf) < n; i++)
        usleep(1000);
    assert_int_equal(parts_sent(cf), n);
}

static void wait_no_uploads(void)
{
    for (int i = 0; i < 10000 && fake_oss_uploads(rig.fake) > 0; i++)
        usleep(1000);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

static void fault(enum fake_kind kind, enum oss_op op, unsigned nth, unsigned count, int err, const char *code)
{
    const struct fake_fault f = {.kind = kind, .op = op, .nth = nth, .count = count, .err = err, .code = code};

    fake_oss_fault(rig.fake, &f);
}

/* ----------------------------------------------------------------------------------------- the plain course */

static void test_parts_leave_before_close(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART + 100, 0);
    wait_sent(cf, 5);
    rig_expect_absent(&rig, "a");
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 5 * PART + 100);
    assert_int_equal(requests(OSS_OP_INITIATE), 1);
    assert_int_equal(requests(OSS_OP_PART), 6);
    assert_int_equal(requests(OSS_OP_COMPLETE), 1);
    assert_int_equal(requests(FAKE_ANY_OP), 8);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    rig_expect_file(cf, a, 5 * PART + 100);
    cfile_close(cf, true);
}

/* Up to the threshold it is one PutObject. */
static void test_small_stays_put(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, RIG_THRESHOLD, 0);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    assert_int_equal(requests(OSS_OP_PUT), 1);
    assert_int_equal(requests(FAKE_ANY_OP), 1);
}

static void test_close_without_flush(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, SIZE, 0);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    rig_expect(&rig, "a", a, SIZE);
    assert_int_equal(requests(OSS_OP_PART), 10);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

/* What is on its way when the close comes is waited for, not sent again; the rest goes beside it. */
static void test_close_joins(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *call;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_PART, FAKE_GATE_END);
    write_all(cf, a, 3 * PART + 5, 0);
    assert_true(fake_oss_wait(rig.fake, 3));
    call = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 4)); /* the tail beside the three */
    assert_false(rig_is_done(call));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "flush"), 0);
    rig_expect(&rig, "a", a, 3 * PART + 5);
    assert_int_equal(requests(OSS_OP_PART), 4);
    cfile_close(cf, true);
}

/* The same while Initiate is on its way. */
static void test_close_joins_initiate(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *call;

    (void)state;
    fake_oss_shut(rig.fake, OSS_OP_INITIATE, FAKE_GATE_END);
    write_all(cf, a, 3 * PART, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    call = rig_flush_begin(cf);
    usleep(10000);
    assert_false(rig_is_done(call));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "flush"), 0);
    rig_expect(&rig, "a", a, 3 * PART);
    assert_int_equal(requests(FAKE_ANY_OP), 5);
    cfile_close(cf, true);
}

/* A size that is known beforehand: parts for that size. */
static void test_known_size(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    rig.cache->config.limits.parts_max = 4;
    assert_int_equal(cfile_truncate(cf, SIZE), 0);
    write_all(cf, a, SIZE, 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    assert_int_equal(requests(OSS_OP_PART), 3); /* of 128 KiB */
    assert_int_equal(requests(OSS_OP_INITIATE), 1);
    cfile_close(cf, true);
}

/* Beyond the reach of the schedule a writer is told at once; a file whose size is announced has no such reach. */
static void test_reach(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    rig.cache->config.limits.parts_max = 4;
    write_all(cf, a, 3 * PART, 0);
    wait_sent(cf, 3);
    assert_int_equal(cfile_write(cf, a, 100, 4 * PART - 99, false), -EFBIG);
    write_all(cf, a + 3 * PART, PART, 3 * PART);
    assert_int_equal(cfile_write(cf, a, 1, 4 * PART, false), -EFBIG);
    assert_int_equal(cfile_truncate(cf, SIZE), 0);
    write_all(cf, a + 4 * PART, SIZE - 4 * PART, 4 * PART);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
    wait_no_uploads();
}

/* ------------------------------------------------------------------------------------------- attributes */

static void expect_header(const char *name, const char *value)
{
    struct kvlist headers = {0};
    const char *found;

    assert_int_equal(fake_oss_headers(rig.fake, "a", &headers, NULL), 0);
    found = kv_get(&headers, name);
    if (value)
        assert_string_equal(found, value);
    else
        assert_null(found);
    kv_free(&headers);
}

/* Nobody sets anything: no correction, and the mtime is the object's Last-Modified. */
static void test_no_times(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct oinfo *info = NULL;
    struct attr attr;

    (void)state;
    write_all(cf, a, 3 * PART, 0);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 0);
    expect_header("x-oss-meta-mtime", NULL);
    expect_header("x-oss-meta-mode", "33188");
    cfile_attr(cf, &attr);
    cfile_close(cf, true);
    assert_int_equal(rig_lookup(&rig, "a", &info), 0);
    assert_int_equal(info->attr.mtime.tv_sec, info->last_modified);
    assert_int_equal(attr.mtime.tv_sec, info->last_modified);
    oinfo_put(info);
}

/* As cp -p does: one copy at the end, before the close is answered. */
static void test_times_set_after(void **state)
{
    struct attr attr = {.mode = 0600, .uid = 7, .gid = 8, .mtime = {.tv_sec = 123, .tv_nsec = 5}};
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 3 * PART, 0);
    wait_sent(cf, 3);
    cfile_set_attr(cf, &attr, CFILE_SET_UID | CFILE_SET_GID);
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    cfile_set_attr(cf, &attr, CFILE_SET_MTIME);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 1);
    assert_int_equal(requests(FAKE_ANY_OP), 6);
    expect_header("x-oss-meta-mtime", "123");
    expect_header("x-oss-meta-mode", "33152");
    expect_header("x-oss-meta-uid", "7");
    rig_expect(&rig, "a", a, 3 * PART);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(FAKE_ANY_OP), 6);
    cfile_close(cf, true);
}

/* Set before the first part left: they went with Initiate. */
static void test_mode_set_before(void **state)
{
    struct attr attr = {.mode = 0600};
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    write_all(cf, a, 3 * PART, 0);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 0);
    expect_header("x-oss-meta-mode", "33152");
    cfile_close(cf, true);
}

/* The copy that carries them fails: the close says so, the bytes are there, and the next one sends them. */
static void test_times_fail(void **state)
{
    struct attr attr = {.mtime = {.tv_sec = 123}};
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 3 * PART, 0);
    wait_sent(cf, 3);
    cfile_set_attr(cf, &attr, CFILE_SET_MTIME);
    fault(FAKE_FAIL, OSS_OP_COPY, 1, 1, -EIO, "InternalError");
    assert_int_equal(rig_flush(cf), -EIO);
    rig_expect(&rig, "a", a, 3 * PART);
    assert_int_equal(rig_flush(cf), 0);
    expect_header("x-oss-meta-mtime", "123");
    assert_int_equal(requests(OSS_OP_PART), 3);
    cfile_close(cf, true);
}

/* ------------------------------------------------------------------------------------------- changes */

static void test_rewritten_part(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    wait_sent(cf, 5);
    write_all(cf, b, 10, PART + 7);
    write_all(cf, b, 10, 3 * PART - 5);
    assert_int_equal(rig_flush(cf), 0);
    memcpy(a + PART + 7, b, 10);
    memcpy(a + 3 * PART - 5, b, 10);
    rig_expect(&rig, "a", a, 5 * PART);
    assert_int_equal(requests(OSS_OP_PART), 8); /* parts 2, 3 and 4 again */
    cfile_close(cf, true);
}

/* Rewritten while it is on its way. */
static void rewrite_at(enum fake_gate gate)
{
    struct cfile *cf = rig_create(&rig, "a");

    fake_oss_shut(rig.fake, OSS_OP_PART, gate);
    write_all(cf, a, 3 * PART, 0);
    assert_true(fake_oss_wait(rig.fake, 3));
    write_all(cf, b, 10, PART + 7);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_flush(cf), 0);
    memcpy(a + PART + 7, b, 10);
    rig_expect(&rig, "a", a, 3 * PART);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
}

static void test_rewritten_before(void **state)
{
    (void)state;
    rewrite_at(FAKE_GATE_BEGIN);
}

static void test_rewritten_within(void **state)
{
    (void)state;
    rewrite_at(FAKE_GATE_BODY);
}

static void test_rewritten_after(void **state)
{
    (void)state;
    rewrite_at(FAKE_GATE_END);
}

static void test_truncated(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    wait_sent(cf, 5);
    assert_int_equal(cfile_truncate(cf, 2 * PART + 50), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 2 * PART + 50);
    assert_int_equal(requests(OSS_OP_PART), 6); /* the third, trimmed */
    cfile_close(cf, true);
}

/* Cut and written anew: what was cut is sent again under its numbers. */
static void test_truncated_and_on(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    wait_sent(cf, 5);
    assert_int_equal(cfile_truncate(cf, 2 * PART + 50), 0);
    write_all(cf, b, 3 * PART, 2 * PART + 50);
    wait_sent(cf, 5);
    assert_int_equal(rig_flush(cf), 0);
    memcpy(a + 2 * PART + 50, b, 3 * PART);
    rig_expect(&rig, "a", a, 5 * PART + 50);
    assert_int_equal(requests(OSS_OP_PART), 9);
    cfile_close(cf, true);
}

/* Cut while the parts are on their way, grown with a hole, closed at once: zeros where nothing was written again. */
static void truncate_at(enum fake_gate gate)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *call;

    fake_oss_shut(rig.fake, OSS_OP_PART, gate);
    write_all(cf, a, 4 * PART, 0);
    assert_true(fake_oss_wait(rig.fake, 4));
    assert_int_equal(cfile_truncate(cf, PART + 50), 0);
    assert_int_equal(cfile_truncate(cf, 4 * PART), 0);
    write_all(cf, b, 10, 2 * PART);
    call = rig_flush_begin(cf);
    usleep(5000);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "flush"), 0);
    memset(a + PART + 50, 0, 3 * PART - 50);
    memcpy(a + 2 * PART, b, 10);
    rig_expect(&rig, "a", a, 4 * PART);
    wait_no_uploads();
    cfile_close(cf, true);
}

static void test_truncated_before(void **state)
{
    (void)state;
    truncate_at(FAKE_GATE_BEGIN);
}

static void test_truncated_within(void **state)
{
    (void)state;
    truncate_at(FAKE_GATE_BODY);
}

static void test_truncated_after(void **state)
{
    (void)state;
    truncate_at(FAKE_GATE_END);
}

static void test_emptied(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    wait_sent(cf, 5);
    assert_int_equal(cfile_truncate(cf, 0), 0);
    wait_no_uploads();
    write_all(cf, b, 3 * PART, 0);
    wait_sent(cf, 3);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", b, 3 * PART);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
}

/* Cut to what one PutObject carries. */
static void test_becomes_small(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    wait_sent(cf, 5);
    assert_int_equal(cfile_truncate(cf, PART), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, PART);
    assert_int_equal(requests(OSS_OP_PUT), 1);
    wait_no_uploads();
    cfile_close(cf, true);
}

static void test_unlinked(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    wait_sent(cf, 5);
    assert_int_equal(rig_unlink(&rig, "a"), 0);
    wait_no_uploads();
    write_all(cf, a + 5 * PART, PART, 5 * PART);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect_file(cf, a, 6 * PART);
    cfile_close(cf, true);
    assert_int_equal(fake_oss_count(rig.fake), 0);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

static void renamed_at(enum oss_op op, enum fake_gate gate)
{
    struct cfile *cf = rig_create(&rig, "a");

    fake_oss_shut(rig.fake, op, gate);
    write_all(cf, a, 4 * PART, 0);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_int_equal(rig_rename(&rig, "a", "b"), 0);
    write_all(cf, a + 4 * PART, 2 * PART, 4 * PART);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "b", a, 6 * PART);
    rig_expect_absent(&rig, "a");
    cfile_close(cf, true);
    wait_no_uploads();
}

static void test_renamed(void **state)
{
    (void)state;
    renamed_at(OSS_OP_PART, FAKE_GATE_END);
}

static void test_renamed_at_begin(void **state)
{
    (void)state;
    renamed_at(OSS_OP_INITIATE, FAKE_GATE_BEGIN);
}

static void test_renamed_at_initiate(void **state)
{
    (void)state;
    renamed_at(OSS_OP_INITIATE, FAKE_GATE_END);
}

/* fsync in the middle publishes what is there; what comes then builds on it. */
static void test_fsync_and_on(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    write_all(cf, a, 5 * PART, 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 5 * PART);
    write_all(cf, a + 5 * PART, 3 * PART, 5 * PART);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 8 * PART);
    assert_int_equal(requests(OSS_OP_PART), 8);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
}

/* --------------------------------------------------------------------------------------------- failures */

/* What fails while the file is written is no error of its close. */
static void fails(enum fake_kind kind, enum oss_op op, unsigned nth, int err, const char *code)
{
    struct cfile *cf = rig_create(&rig, "a");

    fault(kind, op, nth, 1, err, code);
    write_all(cf, a, SIZE, 0);
    for (int i = 0; i < 5000 && fake_oss_faults_met(rig.fake) == 0; i++)
        usleep(1000);
    assert_int_equal(fake_oss_faults_met(rig.fake), 1);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
    if (kind == FAKE_FAIL)
        wait_no_uploads();
}

static void test_initiate_fails(void **state)
{
    (void)state;
    fails(FAKE_FAIL, OSS_OP_INITIATE, 1, -EACCES, "AccessDenied");
}

static void test_part_fails(void **state)
{
    (void)state;
    fails(FAKE_FAIL, OSS_OP_PART, 2, -EIO, "InternalError");
}

static void test_part_refused(void **state)
{
    (void)state;
    fails(FAKE_FAIL, OSS_OP_PART, 1, -EACCES, "AccessDenied");
}

static void test_part_without_upload(void **state)
{
    (void)state;
    fails(FAKE_FAIL, OSS_OP_PART, 3, -ENOENT, "NoSuchUpload");
}

static void test_part_damaged(void **state)
{
    (void)state;
    fails(FAKE_FAIL, OSS_OP_PART, 3, -EIO, "InvalidCRC64");
}

static void test_part_lost(void **state)
{
    (void)state;
    fails(FAKE_LOST, OSS_OP_PART, 3, -ETIMEDOUT, "");
}

/* A part that the close has joined fails: it is sent once more. */
static void test_joined_part_fails(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    struct rig_call *call;

    (void)state;
    fault(FAKE_FAIL, OSS_OP_PART, 2, 1, -EIO, "InternalError");
    fake_oss_shut(rig.fake, OSS_OP_PART, FAKE_GATE_BEGIN);
    write_all(cf, a, 3 * PART, 0);
    assert_true(fake_oss_wait(rig.fake, 3));
    call = rig_flush_begin(cf);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "flush"), 0);
    rig_expect(&rig, "a", a, 3 * PART);
    assert_int_equal(requests(OSS_OP_PART), 4);
    assert_int_equal(requests(OSS_OP_INITIATE), 1);
    cfile_close(cf, true);
}

/* The service has forgotten the upload when the close comes: from the start. */
static void test_upload_gone(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");
    char id[OSS_UPLOADID_SIZE];
    struct oss_error err;

    (void)state;
    write_all(cf, a, 4 * PART + 9, 0);
    wait_sent(cf, 4);
    memcpy(id, cf->stream->id, sizeof(id));
    assert_int_equal(rig.cache->oss->ops->abort(rig.cache->oss, "a", id, &err), 0);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, 4 * PART + 9);
    assert_int_equal(requests(OSS_OP_INITIATE), 2);
    cfile_close(cf, true);
}

/* A bucket that is away: the close says so, keeps the bytes, and the next one sends them. */
static void test_outage(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    fault(FAKE_FAIL, FAKE_ANY_OP, 3, 1000000, -EIO, "InternalError");
    write_all(cf, a, SIZE, 0);
    assert_int_equal(rig_flush(cf), -EIO);
    assert_int_equal(rig_flush(cf), -EIO);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "a", a, SIZE);
    cfile_close(cf, true);
}

/* -------------------------------------------------------------------------------------- whatever comes in between */

struct model {
    char data[SIZE];
    size_t size;
};

static void random_step(struct random *rng, struct cfile *cf, struct model *m)
{
    size_t at, n;

    switch (random_below(rng, 12)) {
    default: /* on at the end */
        n = 1 + random_below(rng, PART);
        at = m->size;
        break;
    case 9: /* somewhere */
        at = random_below(rng, m->size + 1);
        n = 1 + random_below(rng, 2000);
        break;
    case 10:
        at = random_below(rng, 3) ? m->size - random_below(rng, m->size + 1) / 4 : random_below(rng, SIZE);
        assert_int_equal(cfile_truncate(cf, at), 0);
        if (at > m->size)
            memset(m->data + m->size, 0, at - m->size);
        m->size = at;
        return;
    case 11:
        usleep((unsigned)random_below(rng, 2000));
        return;
    }
    if (at + n > SIZE)
        n = SIZE - at;
    if (n == 0)
        return;
    rig_bytes(m->data + at, n, random_below(rng, 1000));
    if (at > m->size)
        memset(m->data + m->size, 0, at - m->size);
    write_all(cf, m->data + at, n, at);
    m->size = at + n > m->size ? at + n : m->size;
}

static void test_random(void **state)
{
    static struct model m;

    (void)state;
    for (unsigned seed = 0; seed < 150; seed += CASES_STEP) {
        struct random rng = {.state = seed + 1};
        struct cfile *cf = rig_create(&rig, "r");

        m.size = 0;
        for (unsigned i = 0; i < 40; i++)
            random_step(&rng, cf, &m);
        if (seed % 5 == 0)
            fault(FAKE_FAIL, OSS_OP_PART, 1, 1, -EIO, "InternalError");
        assert_true(rig_flush(cf) == 0 || (seed % 5 == 0 && rig_flush(cf) == 0));
        fake_oss_fault(rig.fake, NULL);
        rig_expect(&rig, "r", m.data, m.size);
        rig_expect_file(cf, m.data, m.size);
        cfile_close(cf, true);
        assert_int_equal(rig_unlink(&rig, "r"), 0);
    }
    wait_no_uploads();
    assert_int_equal(fake_oss_count(rig.fake), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_parts_leave_before_close),
        TEST(test_small_stays_put),
        TEST(test_close_without_flush),
        TEST(test_close_joins),
        TEST(test_close_joins_initiate),
        TEST(test_known_size),
        TEST(test_reach),
        TEST(test_no_times),
        TEST(test_times_set_after),
        TEST(test_mode_set_before),
        TEST(test_times_fail),
        TEST(test_rewritten_part),
        TEST(test_rewritten_before),
        TEST(test_rewritten_within),
        TEST(test_rewritten_after),
        TEST(test_truncated),
        TEST(test_truncated_and_on),
        TEST(test_truncated_before),
        TEST(test_truncated_within),
        TEST(test_truncated_after),
        TEST(test_emptied),
        TEST(test_becomes_small),
        TEST(test_unlinked),
        TEST(test_renamed),
        TEST(test_renamed_at_begin),
        TEST(test_renamed_at_initiate),
        TEST(test_fsync_and_on),
        TEST(test_initiate_fails),
        TEST(test_part_fails),
        TEST(test_part_refused),
        TEST(test_part_without_upload),
        TEST(test_part_damaged),
        TEST(test_part_lost),
        TEST(test_joined_part_fails),
        TEST(test_upload_gone),
        TEST(test_outage),
        TEST(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
