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
    (void)state;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop(&rig);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_readlink_replaced),
        TEST(test_rename_of_what_is_gone),
        TEST(test_rename_behind_a_rename),
        TEST(test_rename_dir_while_it_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
