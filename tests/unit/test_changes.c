/*
 * Names that change while something else is on its way: what the loser of a race is told, and that nothing of what
 * was closed goes.
 */
#include "cache_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rig rig;
static char a[4000], b[5000];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    return 0;
}

static void store(const char *key, const char *data, size_t n, const char *mode)
{
    struct kvlist headers = {0};

    assert_int_equal(kv_set(&headers, "x-oss-meta-mode", mode), 0);
    assert_int_equal(fake_oss_store(rig.fake, key, data, n, &headers, NULL), 0);
    kv_free(&headers);
}

static struct rig_call *rename_dir_begin(const char *from, const char *to)
{
    struct rig_call *call = rig_call_new();

    cache_rename_dir(rig.cache, from, to, rig_done, call);
    return call;
}

/* ------------------------------------------------------------------------------------------------- links */

static char target[64];

static void take_link(void *arg, int r, const char *text)
{
    *target = '\0';
    if (!r)
        strcpy(target, text);
    rig_done(arg, r);
}

static int read_link(const char *key, struct oinfo *info)
{
    struct rig_call *call = rig_call_new();

    cache_readlink(rig.cache, key, info, take_link, call);
    return rig_wait(call, "readlink");
}

/* A link that was replaced, or removed, since it was looked up: the name is to be looked up anew, and then it works.
 */
static void test_readlink_replaced(void **state)
{
    struct oinfo *old, *now;

    (void)state;
    store("l", "first", 5, "41471");
    assert_int_equal(rig_lookup(&rig, "l", &old), 0);
    store("l", "second", 6, "41471");
    assert_int_equal(read_link("l", old), -ESTALE);
    assert_int_equal(rig_lookup(&rig, "l", &now), 0);
    assert_int_equal(read_link("l", now), 0);
    assert_string_equal(target, "second");
    fake_oss_remove(rig.fake, "l");
    oinfo_put(old);
    old = oinfo_clone(now);
    free(old->link);
    old->link = NULL;
    assert_int_equal(read_link("l", old), -ESTALE);
    assert_int_equal(rig_lookup(&rig, "l", NULL), -ENOENT);
    oinfo_put(old);
    oinfo_put(now);
}

/* ------------------------------------------------------------------------------------------------ renames */

/* The file is gone when the copy is asked for. */
static void test_rename_of_what_is_gone(void **state)
{
    struct oinfo *info;
    struct rig_call *call;

    (void)state;
    store("f", a, sizeof(a), "33188");
    assert_int_equal(rig_lookup(&rig, "f", &info), 0);
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_BEGIN);
    call = rig_rename_begin(&rig, "f", "g");
    assert_true(fake_oss_wait(rig.fake, 1));
    fake_oss_remove(rig.fake, "f");
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "rename"), -ENOENT);
    assert_int_equal(rig_lookup(&rig, "f", NULL), -ENOENT);
    rig_expect_absent(&rig, "g");
    oinfo_put(info);
}

/* Two renames of one file at once: the second finds that the name is no longer what it was. */
static void test_rename_behind_a_rename(void **state)
{
    struct rig_call *first, *second, *removal;

    (void)state;
    store("f", a, sizeof(a), "33188");
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_BEGIN);
    first = rig_rename_begin(&rig, "f", "g");
    assert_true(fake_oss_wait(rig.fake, 1));
    second = rig_rename_begin(&rig, "f", "h");
    removal = rig_unlink_begin(&rig, "f");
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(first, "rename"), 0);
    assert_int_equal(rig_wait(second, "rename"), -ESTALE);
    assert_int_equal(rig_wait(removal, "unlink"), -ESTALE);
    rig_expect(&rig, "g", a, sizeof(a));
    rig_expect_absent(&rig, "h");
}

/* The old name's removal is carried out and never answered: the rename has happened, and says so. */
static void test_rename_with_a_lost_delete(void **state)
{
    struct fake_fault lost = {.kind = FAKE_LOST, .op = OSS_OP_DELETE, .nth = 1, .count = 10};

    (void)state;
    store("f", a, sizeof(a), "33188");
    fake_oss_fault(rig.fake, &lost);
    assert_int_equal(rig_rename(&rig, "f", "g"), 0);
    assert_int_equal(rig_unlink(&rig, "g"), 0);
    assert_int_equal(fake_oss_count(rig.fake), 0);
    /* Not carried out: the file is under both names, and the caller is told. */
    store("f", a, sizeof(a), "33188");
    lost = (struct fake_fault){.kind = FAKE_FAIL, .op = OSS_OP_DELETE, .nth = 1, .count = 10, .err = -ETIMEDOUT};
    fake_oss_fault(rig.fake, &lost);
    assert_int_equal(rig_lookup(&rig, "f", NULL), -ENOENT);
    meta_forget(rig.cache->meta, "", "f");
    assert_int_equal(rig_rename(&rig, "f", "g"), -ETIMEDOUT);
    rig_expect(&rig, "f", a, sizeof(a));
    rig_expect(&rig, "g", a, sizeof(a));
}

/* A directory one of whose files is removed, and another replaced, by another host while it is renamed. */
static void test_rename_dir_while_it_changes(void **state)
{
    struct rig_call *call;

    (void)state;
    store("d/", "", 0, "16877");
    store("d/goes", a, sizeof(a), "33188");
    store("d/new", a, sizeof(a), "33188");
    store("d/stays", a, sizeof(a), "33188");
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_BEGIN);
    call = rename_dir_begin("d/", "e/");
    assert_true(fake_oss_wait(rig.fake, 4));
    fake_oss_remove(rig.fake, "d/goes");
    store("d/new", b, sizeof(b), "33188");
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "rename"), 0);
    rig_expect_absent(&rig, "e/goes");
    rig_expect(&rig, "e/new", b, sizeof(b));
    rig_expect(&rig, "e/stays", a, sizeof(a));
    rig_expect_absent(&rig, "d/stays");
    rig_expect_absent(&rig, "d/new");
}

/* A file that is opened, and one that is changed, below a directory on its way: they wait, and go along. */
static void test_change_below_a_moving_dir(void **state)
{
    const struct attr attr = {.mode = S_IFREG | 0600};
    struct rig_call *call, *flushed, *opened = rig_call_new();
    struct oinfo *info;
    struct cfile *cf;

    (void)state;
    store("d/", "", 0, "16877");
    store("d/f", a, sizeof(a), "33188");
    assert_int_equal(rig_lookup(&rig, "d/f", &info), 0);
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_BEGIN);
    call = rename_dir_begin("d/", "e/");
    assert_true(fake_oss_wait(rig.fake, 2));
    assert_true(cache_await_name(rig.cache, "d/new", rig_done, opened));
    cf = cfile_open(rig.cache, "d/f", info, NULL, true);
    assert_non_null(cf);
    cfile_set_attr(cf, &attr, CFILE_SET_MODE);
    assert_int_equal(cfile_write(cf, b, sizeof(b), 0, false), sizeof(b));
    flushed = rig_flush_begin(cf);
    assert_false(rig_is_done(flushed));
    assert_false(rig_is_done(opened));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "rename"), 0);
    assert_int_equal(rig_wait(flushed, "flush"), 0);
    assert_int_equal(rig_wait(opened, "the open that waits"), 0);
    rig_expect(&rig, "e/f", b, sizeof(b));
    rig_expect_absent(&rig, "d/f");
    assert_int_equal(fake_oss_count(rig.fake), 2);
    cfile_close(cf, true);
    oinfo_put(info);
}

/* What is made by a request of its own: the caller is to look its name up anew. */
static void test_mkdir_below_a_moving_dir(void **state)
{
    const struct attr attr = {.mode = S_IFDIR | 0755};
    struct rig_call *call, *made = rig_call_new();

    (void)state;
    store("d/", "", 0, "16877");
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_BEGIN);
    call = rename_dir_begin("d/", "e/");
    assert_true(fake_oss_wait(rig.fake, 1));
    cache_mkdir(rig.cache, "d/x/", &attr, rig_done, made);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "rename"), 0);
    assert_int_equal(rig_wait(made, "mkdir"), -ESTALE);
    rig_expect_absent(&rig, "d/x/");
}

/* Of a directory inside one that is on its way; of one that has just arrived. */
static void test_rename_of_dirs_that_cross(void **state)
{
    struct rig_call *outer, *inner, *next;

    (void)state;
    store("d/x/f", a, sizeof(a), "33188");
    fake_oss_shut(rig.fake, OSS_OP_COPY, FAKE_GATE_BEGIN);
    outer = rename_dir_begin("d/", "e/");
    assert_true(fake_oss_wait(rig.fake, 1));
    inner = rename_dir_begin("d/x/", "d/y/");
    next = rename_dir_begin("e/", "g/");
    assert_false(rig_is_done(inner));
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(outer, "rename"), 0);
    assert_int_equal(rig_wait(inner, "rename"), -ESTALE);
    assert_int_equal(rig_wait(next, "rename"), 0);
    rig_expect(&rig, "g/x/f", a, sizeof(a));
    assert_int_equal(fake_oss_count(rig.fake), 1);
    assert_int_equal(rig_wait(rename_dir_begin("d/", "e/"), "rename of nothing"), -ENOENT);
}

/* Renames of files into and out of a directory that is being renamed, again and again: nobody waits in a circle. */
struct mover {
    pthread_t thread;
    const char *from, *to;
    bool dir;
    int wrong;
};

static void *move_about(void *arg)
{
    struct mover *m = arg;

    for (int i = 0; i < 60; i++) {
        const char *from = i % 2 ? m->to : m->from, *to = i % 2 ? m->from : m->to;
        int r = m->dir ? rig_wait(rename_dir_begin(from, to), "rename") : rig_rename(&rig, from, to);

        m->wrong += r && r != -ENOENT && r != -ESTALE && r != -ENOTEMPTY;
    }
    return NULL;
}

static void test_renames_in_and_out(void **state)
{
    struct mover movers[] = {
        {.from = "d/", .to = "e/", .dir = true},
        {.from = "a", .to = "d/z"},
        {.from = "d/a", .to = "z"},
        {.from = "d/b", .to = "d/c"},
        {.from = "e/", .to = "d/x/", .dir = true},
        {.from = "e/m", .to = "a"},
    };
    const size_t n = sizeof(movers) / sizeof(*movers);

    (void)state;
    store("d/", "", 0, "16877");
    store("a", a, sizeof(a), "33188");
    store("d/a", a, sizeof(a), "33188");
    store("d/b", b, sizeof(b), "33188");
    store("d/m", b, sizeof(b), "33188");
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pthread_create(&movers[i].thread, NULL, move_about, &movers[i]), 0);
    for (size_t i = 0; i < n; i++) {
        pthread_join(movers[i].thread, NULL);
        assert_int_equal(movers[i].wrong, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_readlink_replaced),           TEST(test_rename_of_what_is_gone),
        TEST(test_rename_behind_a_rename),      TEST(test_rename_with_a_lost_delete),
        TEST(test_rename_dir_while_it_changes), TEST(test_change_below_a_moving_dir),
        TEST(test_mkdir_below_a_moving_dir),    TEST(test_rename_of_dirs_that_cross),
        TEST(test_renames_in_and_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
