/*
 * Files that are appended to, at a bucket in memory: what travels, what a lost reply leaves behind, and what becomes
 * of a file whose object is not what it was thought to be.
 */
#include "cache_rig.h"
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

static struct rig rig;
static char a[512 << 10], b[512 << 10], both[1 << 20];

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

static void add(struct cfile *cf, const char *from, size_t n)
{
    assert_int_equal(cfile_append(cf, from, n, false, 1), n);
}

/* What another host appends; the object is made by it when there is none. */
static void add_elsewhere(const char *key, const char *from, size_t n)
{
    assert_int_equal(fake_oss_append(rig.fake, key, from, n, NULL), 0);
}

static void store(const char *key, const char *data, size_t n)
{
    assert_int_equal(fake_oss_store(rig.fake, key, data, n, NULL, NULL), 0);
}

/* both = the pieces one behind the other; the pieces end with NULL. */
static size_t join(const char *from, size_t n, ...)
{
    va_list ap;
    size_t at = 0;

    va_start(ap, n);
    while (from) {
        memmove(both + at, from, n);
        at += n;
        from = va_arg(ap, const char *);
        n = from ? va_arg(ap, size_t) : 0;
    }
    va_end(ap);
    return at;
}

/* ------------------------------------------------------------------------------------- what travels */

static void only_new_bytes_travel(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        add(cf, a + 1000 * i, 1000);
        assert_int_equal(rig_flush(cf), 0);
        assert_int_equal(requests(OSS_OP_APPEND), i + 1);
    }
    assert_int_equal(requests(FAKE_ANY_OP), 10 + requests(OSS_OP_LIST));
    rig_expect(&rig, "log", a, 10000);
    rig_expect_file(cf, a, 10000);
    assert_true(fake_oss_appendable(rig.fake, "log"));
    cfile_close(cf, true);
}

static void several_writes_are_one_append(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        add(cf, a + 100 * i, 100);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_APPEND), 1);
    rig_expect(&rig, "log", a, 10000);
    cfile_close(cf, true);
}

static void plain_files_do_not_become_appendable(void **state)
{
    struct cfile *cf = rig_create(&rig, "plain");

    (void)state;
    assert_int_equal(cfile_write(cf, a, 100, 0, false), 100);
    add(cf, a + 100, 100);
    assert_int_equal(rig_flush(cf), 0);
    assert_false(fake_oss_appendable(rig.fake, "plain"));
    add(cf, a + 200, 100);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    cf = rig_create(&rig, "empty");
    assert_int_equal(rig_flush(cf), 0);
    add(cf, b, 100);
    assert_int_equal(rig_flush(cf), 0);
    cfile_close(cf, true);
    assert_int_equal(requests(OSS_OP_APPEND), 0);
    rig_expect(&rig, "plain", a, 300);
    rig_expect(&rig, "empty", b, 100);
}

/* Whatever else is done to a file with unsent appends, it is sent as it is. */
static void appends_and_other_changes(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, a, 5000);
    assert_int_equal(rig_flush(cf), 0);
    add(cf, a + 5000, 5000);
    assert_int_equal(cfile_write(cf, a + 10, 20, 10, false), 20);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", a, 10000);
    assert_int_equal(requests(OSS_OP_APPEND), 1);
    add(cf, a + 10000, 10);
    assert_int_equal(cfile_truncate(cf, 5), 0);
    add(cf, a + 5, 10);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", a, 15);
    assert_int_equal(cfile_truncate(cf, 0), 0);
    add(cf, b, 33);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", b, 33);
    rig_expect_file(cf, b, 33);
    cfile_close(cf, true);
}

static void an_empty_appendable_object(void **state)
{
    struct cfile *cf;

    (void)state;
    add_elsewhere("log", "", 0);
    cf = rig_open(&rig, "log");
    assert_non_null(cf);
    add(cf, a, 100);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_APPEND), 1);
    rig_expect(&rig, "log", a, 100);
    cfile_close(cf, true);
}

/* Attributes are fixed when the object is made: a change of them is a request of its own. */
static void attributes_between_appends(void **state)
{
    const struct attr attr = {.mode = 0600, .mtime = {.tv_sec = 1500000000}};
    struct kvlist headers = {0};
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, a, 100);
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 0);
    add(cf, a + 100, 100);
    cfile_set_attr(cf, &attr, CFILE_SET_MTIME);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_APPEND), 2);
    assert_int_equal(requests(OSS_OP_COPY), 1);
    assert_int_equal(fake_oss_headers(rig.fake, "log", &headers, NULL), 0);
    assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), "33152");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mtime"), "1500000000");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mtime-size"), "200");
    kv_free(&headers);
    add(cf, a + 200, 100);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_COPY), 1);
    assert_true(fake_oss_appendable(rig.fake, "log"));
    rig_expect(&rig, "log", a, 300);
    cfile_close(cf, true);
}

/* ------------------------------------------------------------------------------------- lost replies */

static void a_lost_reply_is_asked_for(void **state)
{
    struct fake_fault lost = {.kind = FAKE_LOST, .op = OSS_OP_APPEND, .nth = 1, .count = 1};
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        fake_oss_fault(rig.fake, &lost);
        add(cf, a + 100 * i, 100);
        assert_int_equal(rig_flush(cf), 0);
        rig_expect(&rig, "log", a, 100 * (i + 1));
    }
    /* Sent, sent again, and looked at. */
    assert_int_equal(requests(OSS_OP_APPEND), 10);
    assert_int_equal(requests(OSS_OP_GET), 5);
    cfile_close(cf, true);
}

/* A long one is not fetched again: its CRC says enough. */
static void a_long_lost_append_is_known_by_its_crc(void **state)
{
    struct fake_fault lost = {.kind = FAKE_LOST, .op = OSS_OP_APPEND, .nth = 1, .count = 1};
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, b, 10);
    assert_int_equal(rig_flush(cf), 0);
    fake_oss_fault(rig.fake, &lost);
    add(cf, a, 400000);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(requests(OSS_OP_GET), 0);
    rig_expect(&rig, "log", both, join(b, (size_t)10, a, (size_t)400000, NULL));
    cfile_close(cf, true);
}

/* All tries were lost: the program is told so, and what was carried out is not sent again by a later flush. */
static void what_is_never_answered_is_asked_for_later(void **state)
{
    struct fake_fault lost = {.kind = FAKE_LOST, .op = OSS_OP_APPEND, .nth = 1, .count = 1};
    struct fake_fault dead = {.kind = FAKE_FAIL, .op = OSS_OP_GET, .nth = 1, .count = 1000, .err = -EIO};
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, a, 100);
    assert_int_equal(rig_flush(cf), 0);
    /* Carried out, and then nobody can say so. */
    fake_oss_fault(rig.fake, &lost);
    fake_oss_shut(rig.fake, OSS_OP_APPEND, FAKE_GATE_END);
    add(cf, a + 100, 50);
    {
        struct rig_call *call = rig_flush_begin(cf);

        assert_true(fake_oss_wait(rig.fake, 1));
        fake_oss_fault(rig.fake, &dead);
        fake_oss_open(rig.fake);
        assert_int_equal(rig_wait(call, "flush"), -EIO);
    }
    add(cf, a + 150, 50);
    assert_int_equal(rig_flush(cf), -EIO);
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", a, 200);
    rig_expect_file(cf, a, 200);
    cfile_close(cf, true);
}

static void a_lost_append_of_another_writers_place(void **state)
{
    struct fake_fault fail = {.kind = FAKE_LOST, .op = OSS_OP_APPEND, .nth = 1, .count = 1};
    struct cfile *cf = rig_create(&rig, "log");
    struct rig_call *call;

    (void)state;
    add(cf, a, 100);
    assert_int_equal(rig_flush(cf), 0);
    /* Refused at a wrong place, and that answer is lost; the other writer's record is as long as ours. */
    fake_oss_shut(rig.fake, OSS_OP_APPEND, FAKE_GATE_BEGIN);
    add(cf, a + 100, 50);
    fake_oss_fault(rig.fake, &fail);
    call = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    add_elsewhere("log", b, 50);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "flush"), 0);
    rig_expect(&rig, "log", both, join(a, (size_t)100, b, (size_t)50, a + 100, (size_t)50, NULL));
    rig_expect_file(cf, both, 200);
    cfile_close(cf, true);
}

/* The random overwrite comes after an append of which nobody knows. */
static void a_lost_append_and_then_another_change(void **state)
{
    struct fake_fault lost = {.kind = FAKE_LOST, .op = OSS_OP_APPEND, .nth = 1, .count = 6};
    struct cfile *cf;

    (void)state;
    add_elsewhere("log", a, 100000);
    cf = rig_open(&rig, "log");
    assert_non_null(cf);
    fake_oss_fault(rig.fake, &lost);
    add(cf, a + 100000, 50);
    assert_int_equal(rig_flush(cf), 0);
    fake_oss_fault(rig.fake, &lost);
    add(cf, a + 100050, 50);
    fake_oss_shut(rig.fake, OSS_OP_APPEND, FAKE_GATE_END);
    {
        struct rig_call *call = rig_flush_begin(cf);
        struct fake_fault dead = {.kind = FAKE_FAIL, .op = OSS_OP_GET, .nth = 1, .count = 1, .err = -EIO};

        assert_true(fake_oss_wait(rig.fake, 1));
        fake_oss_fault(rig.fake, &dead);
        fake_oss_open(rig.fake);
        assert_int_equal(rig_wait(call, "flush"), -EIO);
    }
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(cfile_write(cf, b, 10, 0, false), 10);
    assert_int_equal(rig_flush(cf), 0);
    memcpy(both, a, 100100);
    memcpy(both, b, 10);
    rig_expect(&rig, "log", both, 100100);
    cfile_close(cf, true);
}

/* ------------------------------------------------------------------------------------ other writers */

static void others_bytes_come_in_between(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        size_t ours = 10 + 7 * i, theirs = 1 + 31 * (i % 5);

        add(cf, a + 1000 * i, ours);
        if (i) {
            add_elsewhere("log", b + 1000 * i, theirs);
            memcpy(both + n, b + 1000 * i, theirs);
            n += theirs;
        }
        assert_int_equal(rig_flush(cf), 0);
        memcpy(both + n, a + 1000 * i, ours);
        n += ours;
        rig_expect(&rig, "log", both, n);
        if (i % 3)
            rig_expect_file(cf, both, n);
    }
    assert_true(fake_oss_appendable(rig.fake, "log"));
    assert_int_equal(requests(OSS_OP_APPEND), 20 + 19);
    cfile_close(cf, true);
}

/* What is appended here while an append is under way moves too: further than it is long, and less far. */
static void appends_during_an_append_that_moves(void **state)
{
    static const size_t theirs[] = {1, 10, 4000, 70000}, later[] = {1, 300, 5000, 60000};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 4; j++) {
            char key[32];
            struct cfile *cf;
            struct rig_call *call;
            size_t n;

            snprintf(key, sizeof(key), "log-%zu-%zu", i, j);
            cf = rig_create(&rig, key);
            add(cf, a, 1000);
            assert_int_equal(rig_flush(cf), 0);
            add_elsewhere(key, b, theirs[i]);
            fake_oss_shut(rig.fake, OSS_OP_APPEND, FAKE_GATE_BEGIN);
            add(cf, a + 1000, 100);
            call = rig_flush_begin(cf);
            assert_true(fake_oss_wait(rig.fake, 1));
            add(cf, a + 1100, later[j]);
            fake_oss_open(rig.fake);
            assert_int_equal(rig_wait(call, "flush"), 0);
            n = join(a, (size_t)1000, b, theirs[i], a + 1000, (size_t)100, a + 1100, later[j], NULL);
            rig_expect(&rig, key, both, n - later[j]);
            rig_expect_file(cf, both, n);
            assert_int_equal(rig_flush(cf), 0);
            rig_expect(&rig, key, both, n);
            rig_expect_file(cf, both, n);
            cfile_close(cf, true);
        }
    }
}

/* Made here and there at the same time: one object, with everything. */
static void a_new_file_that_others_made_too(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, a, 100);
    add_elsewhere("log", b, 1000);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", both, join(b, (size_t)1000, a, (size_t)100, NULL));
    rig_expect_file(cf, both, 1100);
    assert_true(fake_oss_appendable(rig.fake, "log"));
    cfile_close(cf, true);
}

static void the_object_was_replaced(void **state)
{
    static const size_t sizes[] = {0, 10, 1000, 5000, 100000};

    (void)state;
    for (size_t i = 0; i < 2 * 5; i++) {
        bool appendable = i % 2;
        struct cfile *cf;
        char key[32];

        snprintf(key, sizeof(key), "log-%zu", i);
        cf = rig_create(&rig, key);
        add(cf, a, 1000);
        assert_int_equal(rig_flush(cf), 0);
        add(cf, a + 1000, 300);
        if (appendable)
            fake_oss_remove(rig.fake, key), add_elsewhere(key, b, sizes[i / 2]);
        else
            store(key, b, sizes[i / 2]);
        assert_int_equal(rig_flush(cf), 0);
        rig_expect(&rig, key, both, join(b, sizes[i / 2], a + 1000, (size_t)300, NULL));
        rig_expect_file(cf, both, sizes[i / 2] + 300);
        assert_true(fake_oss_appendable(rig.fake, key) == appendable);
        cfile_close(cf, true);
    }
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
}

static void the_object_is_gone(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, a, 1000);
    assert_int_equal(rig_flush(cf), 0);
    add(cf, a + 1000, 300);
    fake_oss_remove(rig.fake, "log");
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", a + 1000, 300);
    rig_expect_file(cf, a + 1000, 300);
    cfile_close(cf, true);
}

/* A normal object that is appended to: what it has is copied by the service, whoever changed it meanwhile. */
static void appends_to_a_normal_object(void **state)
{
    struct cfile *cf;

    (void)state;
    store("big", a, 100000);
    cf = rig_open(&rig, "big");
    assert_non_null(cf);
    add(cf, b, 50);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "big", both, join(a, (size_t)100000, b, (size_t)50, NULL));
    assert_int_equal(requests(OSS_OP_GET), 0);
    add(cf, b + 50, 50);
    store("big", b, 90000);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "big", both, join(b, (size_t)90000, b + 50, (size_t)50, NULL));
    assert_int_equal(requests(OSS_OP_APPEND), 0);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
}

/* ----------------------------------------------------------------------------------------- the limit */

static void the_service_takes_no_more(void **state)
{
    static const struct {
        int err;
        const char *code;
    } table[] = {{-EINVAL, "InvalidArgument"}, {-EFBIG, "EntityTooLarge"}, {-ENOTSUP, "OperationNotSupported"}};

    (void)state;
    add_elsewhere("log-0", a, 100000);
    add_elsewhere("log-1", a, 100000);
    add_elsewhere("log-2", a, 100000);
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct fake_fault full = {.kind = FAKE_FAIL,
                                  .op = OSS_OP_APPEND,
                                  .nth = 1,
                                  .count = 1000,
                                  .err = table[i].err,
                                  .code = table[i].code};
        char key[32];
        struct cfile *cf;

        snprintf(key, sizeof(key), "log-%zu", i);
        cf = rig_open(&rig, key);
        assert_non_null(cf);
        fake_oss_fault(rig.fake, &full);
        add(cf, b, 100);
        assert_int_equal(rig_flush(cf), 0);
        rig_expect(&rig, key, both, join(a, (size_t)100000, b, (size_t)100, NULL));
        assert_false(fake_oss_appendable(rig.fake, key));
        add(cf, b + 100, 100);
        assert_int_equal(rig_flush(cf), 0);
        rig_expect(&rig, key, both, join(a, (size_t)100000, b, (size_t)200, NULL));
        assert_int_equal(fake_oss_faults_met(rig.fake), 1);
        fake_oss_fault(rig.fake, NULL);
        cfile_close(cf, true);
    }
}

/* Where the service makes no copies of appendable objects, the bytes go through here. */
static void copies_that_are_refused(void **state)
{
    struct fake_fault full = {
        .kind = FAKE_FAIL, .op = OSS_OP_APPEND, .nth = 1, .count = 1, .err = -EINVAL, .code = "InvalidArgument"};
    struct cfile *cf;

    (void)state;
    fake_oss_refuse_appendable_copies(rig.fake, true);
    add_elsewhere("short", a, 20000);
    add_elsewhere("long", a, 150000);
    add_elsewhere("full", a, 150000);
    assert_int_equal(rig_rename(&rig, "short", "short2"), 0);
    assert_int_equal(rig_rename(&rig, "long", "long2"), 0);
    rig_expect(&rig, "short2", a, 20000);
    rig_expect(&rig, "long2", a, 150000);
    rig_expect_absent(&rig, "short");
    rig_expect_absent(&rig, "long");
    cf = rig_open(&rig, "full");
    assert_non_null(cf);
    fake_oss_fault(rig.fake, &full);
    add(cf, b, 100);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "full", both, join(a, (size_t)150000, b, (size_t)100, NULL));
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    cfile_close(cf, true);
}

/* The file is open, appended to here, by others, and renamed. */
static void a_rename_of_what_others_append_to(void **state)
{
    struct cfile *cf = rig_create(&rig, "log");

    (void)state;
    add(cf, a, 1000);
    assert_int_equal(rig_flush(cf), 0);
    add_elsewhere("log", b, 500);
    add(cf, a + 1000, 100);
    assert_int_equal(rig_rename(&rig, "log", "log.1"), 0);
    rig_expect(&rig, "log.1", both, join(a, (size_t)1000, b, (size_t)500, NULL));
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log.1", both, join(a, (size_t)1000, b, (size_t)500, a + 1000, (size_t)100, NULL));
    rig_expect_file(cf, both, 1600);
    rig_expect_absent(&rig, "log");
    cfile_close(cf, true);
}

/* ------------------------------------------------------------------------------------ whole records */

#define LINE 61

struct lines {
    size_t published; /* contents that were looked at */
};

static void lines_are_whole(void *arg, const char *key, const char *data, size_t size)
{
    struct lines *lines = arg;

    (void)key;
    (void)data;
    lines->published++;
    if (size % LINE) {
        fprintf(stderr, "the object ends within a record: %zu bytes\n", size);
        abort();
    }
}

/* The kernel cuts a long write; what another thread wants sent meanwhile does not end in the middle of it. */
static void a_write_in_pieces_is_not_divided(void **state)
{
    struct lines lines = {0};
    struct cfile *cf = rig_create(&rig, "log");
    struct rig_call *call;

    (void)state;
    fake_oss_watch(rig.fake, lines_are_whole, &lines);
    add(cf, a, LINE);
    assert_int_equal(cfile_append(cf, a + LINE, 20, true, 7), 20);
    cfile_append_over(cf, 8);
    call = rig_flush_begin(cf);
    usleep(20000);
    assert_int_equal(cfile_append(cf, a + LINE + 20, 20, true, 7), 20);
    usleep(20000);
    assert_int_equal(cfile_append(cf, a + LINE + 40, 21, false, 7), 21);
    assert_int_equal(rig_wait(call, "flush"), 0);
    rig_expect(&rig, "log", a, 2 * LINE);
    /* What looked like a piece was the whole: the same thread, or time, says so. */
    assert_int_equal(cfile_append(cf, a + 2 * LINE, LINE, true, 7), LINE);
    cfile_append_over(cf, 7);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(cfile_append(cf, a + 3 * LINE, LINE, true, 7), LINE);
    assert_int_equal(rig_flush(cf), 0);
    rig_expect(&rig, "log", a, 4 * LINE);
    assert_int_equal(lines.published, 3);
    fake_oss_watch(rig.fake, NULL, NULL);
    cfile_close(cf, true);
}

/* Records of this host and of another one, and faults of all kinds, by chance: each record once, in its order. */
static void random_appends(void **state)
{
    struct random rng = {.state = 4711};
    char line[LINE + 1];
    unsigned ours = 0, theirs = 0, next[2] = {0, 0};
    struct cfile *cf = rig_create(&rig, "log");
    char *data;
    size_t size;

    (void)state;
    for (unsigned step = 0; step < 3000; step++) {
        struct fake_fault fault = {.nth = 1, .count = 1, .op = random_below(&rng, 4) ? OSS_OP_APPEND : FAKE_ANY_OP};
        int r;

        if (random_below(&rng, 4) == 0) {
            fault.kind = random_below(&rng, 2) ? FAKE_LOST : FAKE_FAIL;
            fault.err = -EIO;
            fault.count = random_below(&rng, 5) ? 1 : 7;
            fake_oss_fault(rig.fake, &fault);
        }
        switch (random_below(&rng, 3)) {
        case 0:
            snprintf(line, sizeof(line), "theirs %08u %*s\n", theirs++, LINE - 17, "");
            add_elsewhere("log", line, LINE);
            break;
        case 1:
            snprintf(line, sizeof(line), "ours   %08u %*s\n", ours++, LINE - 17, "");
            add(cf, line, LINE);
            break;
        default:
            r = rig_flush(cf);
            if (r && r != -EIO && r != -ETIMEDOUT)
                fail_msg("flush: %s", strerror(-r));
        }
    }
    fake_oss_fault(rig.fake, NULL);
    assert_int_equal(rig_flush(cf), 0);
    assert_int_equal(fake_oss_content(rig.fake, "log", &data, &size), 0);
    assert_int_equal(size, (size_t)LINE * (ours + theirs));
    for (size_t at = 0; at < size; at += LINE) {
        unsigned which = data[at] == 'o', number;

        assert_int_equal(data[at + LINE - 1], '\n');
        assert_int_equal(sscanf(data + at + 6, "%u", &number), 1);
        assert_int_equal(number, next[which]);
        next[which]++;
    }
    rig_expect_file(cf, data, size);
    free(data);
    cfile_close(cf, true);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(only_new_bytes_travel),
        TEST(several_writes_are_one_append),
        TEST(plain_files_do_not_become_appendable),
        TEST(appends_and_other_changes),
        TEST(an_empty_appendable_object),
        TEST(attributes_between_appends),
        TEST(a_lost_reply_is_asked_for),
        TEST(a_long_lost_append_is_known_by_its_crc),
        TEST(what_is_never_answered_is_asked_for_later),
        TEST(a_lost_append_of_another_writers_place),
        TEST(a_lost_append_and_then_another_change),
        TEST(others_bytes_come_in_between),
        TEST(appends_during_an_append_that_moves),
        TEST(a_new_file_that_others_made_too),
        TEST(the_object_was_replaced),
        TEST(the_object_is_gone),
        TEST(appends_to_a_normal_object),
        TEST(the_service_takes_no_more),
        TEST(copies_that_are_refused),
        TEST(a_rename_of_what_others_append_to),
        TEST(a_write_in_pieces_is_not_divided),
        TEST(random_appends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
