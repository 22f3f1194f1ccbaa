/*
 * Renames of directories that an earlier daemon has left half done: the next one finishes or undoes them, and deletes
 * nothing that has no twin.
 */
#include "cache_rig.h"

#include "../../cache/journal.h"
#include "../../cache/rename_intent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
static char a[4000], b[4000], big[100000];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    rig_bytes(b, sizeof(b), 2);
    rig_bytes(big, sizeof(big), 3);
    return 0;
}

static void store(const char *key, const char *data, size_t n)
{
    assert_int_equal(fake_oss_store(rig.fake, key, data, n, NULL, NULL), 0);
}

static void shell(const char *what)
{
    char command[256];

    snprintf(command, sizeof(command), "cd %s && %s", rig.dir, what);
    assert_int_equal(system(command), 0);
}

static unsigned intents(void)
{
    char path[128];
    unsigned n = 0;
    struct dirent *e;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/renames", rig.dir);
    dir = opendir(path);
    while (dir && (e = readdir(dir)))
        n += *e->d_name != '.';
    if (dir)
        closedir(dir);
    return n;
}

/* As a daemon that is killed leaves it. */
static void leave(const char *from, const char *to, bool copied)
{
    struct rename_intent intent;

    assert_int_equal(rename_intent_begin(rig.cache, from, to, &intent), 0);
    if (copied)
        assert_int_equal(rename_intent_copied(&intent, NULL, 0), 0);
    close(intent.fd);
    free(intent.path);
}

static void plant(void)
{
    store("d/", "", 0);
    store("d/1", a, sizeof(a));
    store("d/2", b, sizeof(b));
    store("d/s/3", a, sizeof(a));
    store("e/", "", 0);
    store("e/1", a, sizeof(a));
}

static void test_undo(void **state)
{
    (void)state;
    plant();
    leave("d/", "e/", false);
    assert_int_equal(cache_recover(rig.cache), 0);
    assert_int_equal(intents(), 0);
    assert_int_equal(fake_oss_count(rig.fake), 4);
    rig_expect(&rig, "d/1", a, sizeof(a));
    rig_expect(&rig, "d/2", b, sizeof(b));
    rig_expect_absent(&rig, "e/1");
    rig_expect_absent(&rig, "e/");
}

static void test_finish(void **state)
{
    (void)state;
    plant();
    store("e/2", b, sizeof(b));
    store("e/s/3", a, sizeof(a));
    fake_oss_remove(rig.fake, "d/1"); /* some are deleted already */
    leave("d/", "e/", true);
    assert_int_equal(cache_recover(rig.cache), 0);
    assert_int_equal(intents(), 0);
    assert_int_equal(fake_oss_count(rig.fake), 4);
    rig_expect(&rig, "e/1", a, sizeof(a));
    rig_expect(&rig, "e/2", b, sizeof(b));
    rig_expect(&rig, "e/s/3", a, sizeof(a));
}

/* What others have made or changed in either tree meanwhile has no twin, and stays. */
static void test_keeps_what_differs(void **state)
{
    for (int copied = 0; copied < 2; copied++) {
        rig_teardown(state);
        setup(state);
        store("d/1", a, sizeof(a));
        store("e/1", b, sizeof(b));
        store("d/2", a, sizeof(a));
        store("e/3", a, sizeof(a));
        store("d/4", a, sizeof(a));
        store("e/4", a, sizeof(a) - 1);
        leave("d/", "e/", copied);
        assert_int_equal(cache_recover(rig.cache), 0);
        assert_int_equal(intents(), 0);
        assert_int_equal(fake_oss_count(rig.fake), 6);
        assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_DELETE_MANY), 0);
    }
}

/* More than one page of each listing, and of what is deleted. */
static void test_long_trees(void **state)
{
    char key[64];

    (void)state;
    for (int i = 0; i < 2100; i++) {
        snprintf(key, sizeof(key), "d/%d", i);
        store(key, a, 10);
        snprintf(key, sizeof(key), "e/%d", i);
        if (i % 7)
            store(key, a, 10);
    }
    leave("d/", "e/", false);
    assert_int_equal(cache_recover(rig.cache), 0);
    assert_int_equal(fake_oss_count(rig.fake), 2100);
    assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_DELETE_MANY), 2);
}

static void test_copy_in_parts(void **state)
{
    struct oss *oss = fake_oss_client(rig.fake);
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    struct oss_error err;
    char id[OSS_UPLOADID_SIZE];

    (void)state;
    store("d/big", big, sizeof(big));
    store("d/small", a, sizeof(a));
    assert_int_equal(oss->ops->initiate(oss, "e/big", &opts, id, &err), 0);
    assert_int_equal(oss->ops->initiate(oss, "e/bigger", &opts, id, &err), 0); /* somebody else's */
    leave("d/", "e/", false);
    assert_int_equal(cache_recover(rig.cache), 0);
    assert_int_equal(fake_oss_uploads(rig.fake), 1);
    assert_int_equal(fake_oss_count(rig.fake), 2);
}

/* The bucket is away: the mount after ends it. */
static void test_outage(void **state)
{
    static const enum oss_op ops[] = {OSS_OP_LIST, OSS_OP_DELETE_MANY};

    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        struct fake_fault fault = {.kind = FAKE_FAIL, .op = ops[i], .nth = 1, .count = 1, .err = -EIO};

        rig_teardown(state);
        setup(state);
        plant();
        leave("d/", "e/", false);
        fake_oss_fault(rig.fake, &fault);
        assert_int_equal(cache_recover(rig.cache), 0);
        assert_int_equal(intents(), 1);
        fake_oss_fault(rig.fake, NULL);
        assert_int_equal(cache_recover(rig.cache), 0);
        assert_int_equal(intents(), 0);
        assert_int_equal(fake_oss_count(rig.fake), 4);
    }
}

/* Torn at every byte: before INTENT is whole nothing was copied; a torn COPIED is none. */
static void test_torn(void **state)
{
    struct renamed renamed;
    char path[128], command[400];
    int whole = 0;

    (void)state;
    leave("d/", "e/", true);
    shell("mv renames/* renames/x");
    snprintf(path, sizeof(path), "%s/renames/x", rig.dir);
    for (int cut = 0; cut < 80; cut++) {
        int r;

        snprintf(command, sizeof(command), "head -c %d %s >%s.cut", cut, path, path);
        assert_int_equal(system(command), 0);
        snprintf(command, sizeof(command), "%s.cut", path);
        r = rename_intent_read(command, &renamed);
        assert_true(r == -ENODATA || r == 0);
        if (r == 0) {
            assert_string_equal(renamed.from, "d/");
            assert_string_equal(renamed.to, "e/");
            whole += renamed.copied;
            renamed_free(&renamed);
        }
    }
    assert_true(whole > 0 && whole < 40);
    shell("rm renames/*; printf 'something else that is long enough to be a record' >renames/1");
    store("d/1", a, sizeof(a));
    assert_int_equal(cache_recover(rig.cache), 0);
    rig_expect(&rig, "d/1", a, sizeof(a));
}

/* A file of the directory is unsent, and open: killed in the deletes, its bytes go to the new name. */
static void test_unsent_file(void **state)
{
    struct rig_call *call = rig_call_new();
    struct cfile *cf;

    (void)state;
    store("d/f", a, sizeof(a));
    store("d/g", b, sizeof(b));
    cf = rig_open(&rig, "d/f");
    assert_int_equal(cfile_write(cf, b, 100, 0, false), 100);
    memcpy(a, b, 100);
    fake_oss_shut(rig.fake, OSS_OP_PUT, FAKE_GATE_BEGIN);
    pthread_mutex_lock(&cf->mu);
    assert_int_equal(journal_commit(cf), 0);
    pthread_mutex_unlock(&cf->mu);
    fake_oss_open(rig.fake);
    fake_oss_shut(rig.fake, OSS_OP_DELETE_MANY, FAKE_GATE_END);
    cache_rename_dir(rig.cache, "d/", "e/", rig_done, call);
    assert_true(fake_oss_wait(rig.fake, 1));
    shell("mkdir left && cp -r data renames left");
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "rename"), 0);
    cfile_close(cf, true);
    cache_drain(rig.cache);
    cache_free(rig.cache);
    rig_expect(&rig, "e/f", a, sizeof(a));
    rig_bytes(a, sizeof(a), 1);
    store("e/f", a, sizeof(a)); /* as it was copied */
    shell("rm -r data renames && mv left/* . && rmdir left");
    rig_new_cache(&rig);
    assert_int_equal(cache_recover(rig.cache), 0);
    cache_drain(rig.cache);
    assert_int_equal(intents(), 0);
    memcpy(a, b, 100);
    rig_expect(&rig, "e/f", a, sizeof(a));
    rig_expect_absent(&rig, "d/f");
    assert_int_equal(fake_oss_count(rig.fake), 2);
}

/* A rename that ends leaves no intent, however it ends. */
static void test_no_intent_is_left(void **state)
{
    struct fake_fault fault = {.kind = FAKE_FAIL, .op = OSS_OP_COPY, .nth = 2, .count = 1, .err = -EACCES};
    struct rig_call *call;

    (void)state;
    store("d/1", a, sizeof(a));
    store("d/2", b, sizeof(b));
    fake_oss_fault(rig.fake, &fault);
    call = rig_call_new();
    cache_rename_dir(rig.cache, "d/", "e/", rig_done, call);
    assert_int_equal(rig_wait(call, "rename"), -EACCES);
    cache_drain(rig.cache); /* the intent goes behind the answer */
    assert_int_equal(fake_oss_count(rig.fake), 2);
    assert_int_equal(intents(), 0);
    fake_oss_fault(rig.fake, NULL);
    call = rig_call_new();
    cache_rename_dir(rig.cache, "d/", "e/", rig_done, call);
    assert_int_equal(rig_wait(call, "rename"), 0);
    cache_drain(rig.cache);
    assert_int_equal(intents(), 0);
    rig_expect(&rig, "e/1", a, sizeof(a));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_undo),       TEST(test_finish),        TEST(test_keeps_what_differs),
        TEST(test_long_trees), TEST(test_copy_in_parts), TEST(test_outage),
        TEST(test_torn),       TEST(test_unsent_file),   TEST(test_no_intent_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
