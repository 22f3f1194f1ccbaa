/*
 * A day in the life of a few files, with the n-th request failing, for every n, and in every way that a request can
 * fail: refused, timed out, carried out without an answer.
 *
 * What must hold whatever fails. A flush that returned 0: the object has exactly the file's bytes. A flush that did
 * not: the old object or the new one, never another. What is read is what was written, or an error. Whatever any
 * key ever gets is a content that some file had. Once the fault is gone everything can be done, and in the end the
 * bucket has the files as they are here, nothing else, and no upload is left open.
 */
#include "cache_rig.h"
#include "flavour.h"

#include "../../oss/crc64.h"

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

#define SIZE_MAX_FILE (256u << 10)
#define CONTENTS_MAX  200
#define TRIES         4

/* A file as it should be. */
struct file {
    char key[32];
    struct cfile *cf;
    char *data;
    size_t size;
    uint32_t mode;
    bool exists;
};

struct day {
    struct rig rig;
    struct file files[6];
    uint64_t contents[CONTENTS_MAX]; /* names of all contents that any file had */
    atomic_size_t n_contents;
    atomic_int strangers;
    unsigned failures; /* calls that returned an error */
    const char *what;  /* for messages: the fault */
};

static uint64_t name_of(const char *data, size_t size)
{
    return crc64(0, data, size) * 31 + size;
}

static void remember(struct day *day, const char *data, size_t size)
{
    size_t n = atomic_load(&day->n_contents);

    assert_true(n < CONTENTS_MAX);
    day->contents[n] = name_of(data, size);
    atomic_store(&day->n_contents, n + 1);
}

static bool is_known(struct day *day, const char *data, size_t size)
{
    uint64_t name = name_of(data, size);

    for (size_t i = 0, n = atomic_load(&day->n_contents); i < n; i++)
        if (day->contents[i] == name)
            return true;
    return false;
}

static void published(void *arg, const char *key, const char *data, size_t size)
{
    struct day *day = arg;

    if (is_known(day, data, size))
        return;
    fprintf(stderr, "%s: %s got %zu bytes that no file had\n", day->what, key, size);
    atomic_fetch_add(&day->strangers, 1);
}

/* ---------------------------------------------------------------------------------------------- what is done */

static struct file *file_new(struct day *day, int i, const char *key)
{
    struct file *f = &day->files[i];

    snprintf(f->key, sizeof(f->key), "%s", key);
    f->data = calloc(1, SIZE_MAX_FILE);
    assert_non_null(f->data);
    f->mode = S_IFREG | 0644;
    return f;
}

static void create(struct day *day, struct file *f)
{
    f->cf = rig_create(&day->rig, f->key);
    f->exists = true;
    remember(day, f->data, 0);
}

static void write_at(struct day *day, struct file *f, size_t offset, size_t n, uint64_t seed)
{
    rig_bytes(f->data + offset, n, seed);
    if (offset + n > f->size)
        f->size = offset + n;
    remember(day, f->data, f->size);
    assert_int_equal(cfile_write(f->cf, f->data + offset, n, offset, false), n);
}

static void cut(struct day *day, struct file *f, size_t size)
{
    if (size < f->size)
        memset(f->data + size, 0, f->size - size);
    f->size = size;
    remember(day, f->data, size);
    assert_int_equal(cfile_truncate(f->cf, size), 0);
}

static void expect_bucket(struct day *day, struct file *f)
{
    struct kvlist headers = {0};
    char *data, mode[16];
    size_t size;

    if (fake_oss_content(day->rig.fake, f->key, &data, &size))
        fail_msg("%s: flushed, and the bucket has no %s", day->what, f->key);
    if (size != f->size || memcmp(data, f->data, size))
        fail_msg("%s: flushed, and %s is something else in the bucket (%zu bytes, not %zu)", day->what, f->key, size,
                 f->size);
    free(data);
    assert_int_equal(fake_oss_headers(day->rig.fake, f->key, &headers, NULL), 0);
    snprintf(mode, sizeof(mode), "%u", f->mode);
    assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), mode);
    kv_free(&headers);
}

static void flush(struct day *day, struct file *f)
{
    int r = -EIO;

    for (int i = 0; r && i < TRIES; i++) {
        r = rig_flush(f->cf);
        day->failures += r != 0;
    }
    if (r)
        fail_msg("%s: %s cannot be flushed any more: %s", day->what, f->key, strerror(-r));
    expect_bucket(day, f);
}

static void read_back(struct day *day, struct file *f)
{
    char *data = malloc(SIZE_MAX_FILE);
    int r = -EIO;

    for (int i = 0; r < 0 && i < TRIES; i++) {
        r = rig_read(f->cf, data, SIZE_MAX_FILE, 0);
        day->failures += r < 0;
    }
    if (r < 0)
        fail_msg("%s: %s cannot be read any more: %s", day->what, f->key, strerror(-r));
    if ((size_t)r != f->size || memcmp(data, f->data, f->size))
        fail_msg("%s: %s reads as something else (%d bytes, not %zu)", day->what, f->key, r, f->size);
    free(data);
}

static void chmod_to(struct file *f, uint32_t mode)
{
    const struct attr attr = {.mode = mode};

    f->mode = S_IFREG | mode;
    cfile_set_attr(f->cf, &attr, CFILE_SET_MODE);
}

/* Closed, its data dropped, and opened again as it is in the bucket. */
static void reopen(struct day *day, struct file *f)
{
    cfile_close(f->cf, true);
    evict_shrink_to(day->rig.cache, 0);
    f->cf = NULL;
    for (int i = 0; !f->cf && i < TRIES; i++) {
        f->cf = rig_open(&day->rig, f->key);
        day->failures += !f->cf;
    }
    if (!f->cf)
        fail_msg("%s: %s cannot be opened any more", day->what, f->key);
}

static void unlink_file(struct day *day, struct file *f)
{
    int r = -EIO;

    for (int i = 0; r && i < TRIES; i++) {
        r = rig_unlink(&day->rig, f->key);
        day->failures += r != 0;
    }
    if (r)
        fail_msg("%s: %s cannot be unlinked any more: %s", day->what, f->key, strerror(-r));
    f->exists = false;
    rig_expect_absent(&day->rig, f->key);
}

/* Who has the file of that name open closes it. */
static void forsake(struct day *day, const char *key)
{
    for (size_t i = 0; i < 6; i++) {
        struct file *f = &day->files[i];

        if (!f->cf || strcmp(f->key, key))
            continue;
        cfile_close(f->cf, true);
        f->cf = NULL;
    }
}

static void rename_file(struct day *day, struct file *f, const char *to)
{
    int r = -EIO;

    for (int i = 0; r && i < TRIES; i++) {
        r = rig_rename(&day->rig, f->key, to);
        day->failures += r != 0;
        /* The answer to its DELETE was lost: the file is there, under the new name only. */
        if (r == -ENOENT && i > 0) {
            rig_expect(&day->rig, to, f->data, f->size);
            rig_expect_absent(&day->rig, f->key);
            forsake(day, to);
            snprintf(f->key, sizeof(f->key), "%s", to);
            reopen(day, f);
            return;
        }
    }
    if (r)
        fail_msg("%s: %s cannot be renamed any more: %s", day->what, f->key, strerror(-r));
    snprintf(f->key, sizeof(f->key), "%s", to);
}

/* ------------------------------------------------------------------------------------------------------ the day */

static void morning(struct day *day)
{
    struct kvlist headers = {0};
    struct file *old = file_new(day, 0, "old");

    rig_start(&day->rig);
    fake_oss_watch(day->rig.fake, published, day);
    /* Somebody else's: its ACL has to be asked for, and its bytes. */
    old->size = 50000;
    old->exists = true;
    rig_bytes(old->data, old->size, 99);
    remember(day, old->data, old->size);
    assert_int_equal(kv_set(&headers, "x-oss-meta-mode", "33188"), 0);
    assert_int_equal(fake_oss_store(day->rig.fake, "old", old->data, old->size, &headers, "public-read"), 0);
    kv_free(&headers);
}

static void noon(struct day *day)
{
    struct file *old = &day->files[0], *small = file_new(day, 1, "d/small"), *big = file_new(day, 2, "d/big");
    struct file *temp = file_new(day, 3, "d/.small.tmp"), *empty = file_new(day, 4, "d/empty");

    create(day, small);
    write_at(day, small, 0, 10000, 1);
    flush(day, small);
    write_at(day, small, 5000, 1000, 2);
    flush(day, small);
    create(day, empty);
    flush(day, empty);

    create(day, big);
    write_at(day, big, 0, 100000, 3);
    write_at(day, big, 100000, 100000, 4);
    flush(day, big);
    reopen(day, big);
    write_at(day, big, 100000, 500, 5);
    flush(day, big);
    read_back(day, big);
    cut(day, big, 150000);
    cut(day, big, 160000);
    write_at(day, big, 159000, 3000, 6);
    flush(day, big);
    chmod_to(big, 0600);
    flush(day, big);
    reopen(day, big);
    read_back(day, big);
    rename_file(day, big, "d/big2");
    read_back(day, big);
    write_at(day, big, 0, 10, 7);
    flush(day, big);

    old->cf = NULL;
    for (int i = 0; !old->cf && i < TRIES; i++) {
        old->cf = rig_open(&day->rig, "old");
        day->failures += !old->cf;
    }
    assert_non_null(old->cf);
    write_at(day, old, 10, 3, 8);
    flush(day, old);
    read_back(day, old);

    create(day, temp);
    write_at(day, temp, 0, 20000, 9);
    flush(day, temp);
    rename_file(day, temp, small->key);
    small->exists = false;
    read_back(day, temp);
    write_at(day, temp, 20000, 1, 10);
    flush(day, temp);
    if (small->cf)
        read_back(day, small); /* its name is another's, its handle works */
    unlink_file(day, big);
    read_back(day, big);
}

static void evening(struct day *day)
{
    size_t left = 0;
    char acl[24];
    struct kvlist headers = {0};

    fake_oss_fault(day->rig.fake, NULL);
    for (size_t i = 0; i < 6; i++) {
        struct file *f = &day->files[i];

        if (f->cf && f->exists)
            write_at(day, f, 7, 1, 77); /* never flushed: the last close sends it */
        if (f->cf)
            cfile_close(f->cf, true);
        f->cf = NULL;
    }
    cache_drain(day->rig.cache);
    for (size_t i = 0; i < 6; i++) {
        if (day->files[i].exists) {
            expect_bucket(day, &day->files[i]);
            left++;
        }
    }
    assert_int_equal(fake_oss_count(day->rig.fake), left);
    assert_int_equal(fake_oss_headers(day->rig.fake, "old", &headers, acl), 0);
    assert_string_equal(acl, "public-read");
    kv_free(&headers);
    assert_int_equal(atomic_load(&day->strangers), 0);
}

/* How many requests it takes; `fault` NULL: with none failing. *met: did one meet the fault? */
static unsigned live(const struct fake_fault *fault, const char *what, bool *met)
{
    static struct day day;
    unsigned n;

    memset(&day, 0, sizeof(day));
    day.what = what;
    morning(&day);
    fake_oss_fault(day.rig.fake, fault);
    noon(&day);
    *met = fake_oss_faults_met(day.rig.fake) > 0;
    n = fake_oss_requests(day.rig.fake, FAKE_ANY_OP);
    evening(&day);
    /* An Initiate without an answer leaves one that nobody knows of, and so does an abort that fails, too. */
    assert_true(fake_oss_uploads(day.rig.fake) <= (fault && (fault->kind == FAKE_LOST || fault->count > 1)));
    if (!fault)
        assert_int_equal(day.failures, 0);
    rig_stop(&day.rig);
    for (size_t i = 0; i < 6; i++)
        free(day.files[i].data);
    return n;
}

static void test_nothing_fails(void **state)
{
    bool met;
    unsigned n = live(NULL, "no fault", &met);

    (void)state;
    assert_true(n > 30);
    assert_false(met);
}

static void torture(const char *name, struct fake_fault fault)
{
    char what[100];
    bool met = true;
    unsigned n;

    for (n = 1; met; n += CASES_STEP) {
        fault.nth = n;
        snprintf(what, sizeof(what), "%s, request %u", name, n);
        live(&fault, what, &met);
    }
    /* As many as the day has requests: else nothing was tried. */
    assert_true(n > 30);
}

static void test_refused(void **state)
{
    (void)state;
    torture("refused", (struct fake_fault){
                           .kind = FAKE_FAIL, .op = FAKE_ANY_OP, .count = 1, .err = -EIO, .code = "InternalError"});
}

static void test_refused_twice(void **state)
{
    (void)state;
    torture("refused twice",
            (struct fake_fault){
                .kind = FAKE_FAIL, .op = FAKE_ANY_OP, .count = 2, .err = -EACCES, .code = "AccessDenied"});
}

static void test_timed_out(void **state)
{
    (void)state;
    torture("timed out", (struct fake_fault){.kind = FAKE_FAIL, .op = FAKE_ANY_OP, .count = 1, .err = -ETIMEDOUT});
}

static void test_damaged(void **state)
{
    (void)state;
    torture("damaged", (struct fake_fault){
                           .kind = FAKE_FAIL, .op = FAKE_ANY_OP, .count = 1, .err = -EIO, .code = "InvalidCRC64"});
}

static void test_answer_lost(void **state)
{
    (void)state;
    torture("answer lost", (struct fake_fault){.kind = FAKE_LOST, .op = FAKE_ANY_OP, .count = 1});
}

static void test_late(void **state)
{
    (void)state;
    torture("late", (struct fake_fault){.kind = FAKE_DELAY, .op = FAKE_ANY_OP, .count = 1, .delay_ms = 5});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_fails), cmocka_unit_test(test_refused), cmocka_unit_test(test_refused_twice),
        cmocka_unit_test(test_timed_out),     cmocka_unit_test(test_damaged), cmocka_unit_test(test_answer_lost),
        cmocka_unit_test(test_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
