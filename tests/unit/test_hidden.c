/* Objects that no mount shows: registered before they are made, removed when nobody needs them or at the next mount.
 */
#include "../../cache/hidden.h"

#include "cache_rig.h"

#include <dirent.h>
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

static unsigned registered(void)
{
    char path[512];
    struct dirent *e;
    unsigned n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/hidden", rig.dir);
    dir = opendir(path);
    while (dir && (e = readdir(dir)))
        n += *e->d_name != '.';
    if (dir)
        closedir(dir);
    return n;
}

static void test_keys(void **state)
{
    char one[OSS_KEY_MAX + 2], two[OSS_KEY_MAX + 2];

    (void)state;
    assert_int_equal(hidden_new(rig.cache, one), 0);
    assert_int_equal(hidden_new(rig.cache, two), 0);
    assert_string_not_equal(one, two);
    assert_true(hidden_is(rig.cache, one));
    assert_false(hidden_is(rig.cache, "a"));
    assert_false(hidden_is(rig.cache, HIDDEN_DIR "x/y"));
    assert_int_equal(registered(), 2);
    assert_int_equal(fake_oss_requests(rig.fake, FAKE_ANY_OP), 0);
    assert_int_equal(fake_oss_store(rig.fake, one, "x", 1, NULL, NULL), 0);
    hidden_remove(rig.cache, one);
    hidden_remove(rig.cache, two);
    rig_restart(&rig);
    assert_int_equal(fake_oss_count(rig.fake), 0);
    assert_int_equal(registered(), 0);
}

/* A daemon that died: its objects and uploads go, nobody else's. */
static void test_next_mount(void **state)
{
    struct oss *oss = fake_oss_client(rig.fake);
    char key[OSS_KEY_MAX + 2], id[OSS_UPLOADID_SIZE];
    const struct kvlist none = {0};
    const struct oss_put_opts opts = {.headers = &none};
    struct oss_error err;

    (void)state;
    assert_int_equal(hidden_new(rig.cache, key), 0);
    assert_int_equal(oss->ops->initiate(oss, key, &opts, id, &err), 0);
    assert_int_equal(fake_oss_store(rig.fake, key, "x", 1, NULL, NULL), 0);
    assert_int_equal(fake_oss_store(rig.fake, HIDDEN_DIR "/another-host", "x", 1, NULL, NULL), 0);
    rig_restart(&rig);
    assert_int_equal(fake_oss_count(rig.fake), 2);
    assert_int_equal(cache_recover(rig.cache), 0);
    rig_restart(&rig);
    assert_int_equal(fake_oss_count(rig.fake), 1);
    assert_int_equal(fake_oss_uploads(rig.fake), 0);
    assert_int_equal(registered(), 0);
    rig_expect_absent(&rig, key);
}

/* A service that refuses: the registry keeps the key for the next mount. */
static void test_refused(void **state)
{
    const struct fake_fault fault = {
        .kind = FAKE_FAIL, .op = OSS_OP_DELETE, .nth = 1, .count = 1, .err = -EACCES, .code = "AccessDenied"};
    char key[OSS_KEY_MAX + 2];

    (void)state;
    assert_int_equal(hidden_new(rig.cache, key), 0);
    assert_int_equal(fake_oss_store(rig.fake, key, "x", 1, NULL, NULL), 0);
    fake_oss_fault(rig.fake, &fault);
    hidden_remove(rig.cache, key);
    rig_restart(&rig);
    assert_int_equal(registered(), 1);
    assert_int_equal(cache_recover(rig.cache), 0);
    rig_restart(&rig);
    assert_int_equal(registered(), 0);
    rig_expect_absent(&rig, key);
}

static void test_not_shown(void **state)
{
    struct meta_names names = {0};
    struct rig_call *call = rig_call_new();

    (void)state;
    assert_true(cache_reserved_name(HIDDEN_DIR));
    assert_false(cache_reserved_name("a"));
    assert_int_equal(fake_oss_store(rig.fake, HIDDEN_DIR "/1", "x", 1, NULL, NULL), 0);
    assert_int_equal(fake_oss_store(rig.fake, "a", "x", 1, NULL, NULL), 0);
    cache_list(rig.cache, "", rig_done, call);
    assert_int_equal(rig_wait(call, "list"), 0);
    assert_int_equal(cache_snapshot(rig.cache, "", &names), 0);
    assert_int_equal(names.n, 1);
    meta_names_free(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(test_keys, rig_setup, rig_teardown, &rig),
        cmocka_unit_test_prestate_setup_teardown(test_next_mount, rig_setup, rig_teardown, &rig),
        cmocka_unit_test_prestate_setup_teardown(test_refused, rig_setup, rig_teardown, &rig),
        cmocka_unit_test_prestate_setup_teardown(test_not_shown, rig_setup, rig_teardown, &rig),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
