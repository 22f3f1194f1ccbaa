/* The mountpoint's checks, as far as they need no mount. */
#include "../../fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void prepare_fails(const char *path, int r, const char *words)
{
    char *out = NULL;
    struct message m;
    bool warning;

    assert_int_equal(mountpoint_prepare(path, &out, &warning, &m), r);
    assert_null(out);
    if (!strstr(m.text, words))
        fail_msg("\"%s\" does not say \"%s\"", m.text, words);
}

static void test_prepare(void **state)
{
    char top[] = "/tmp/test_mountpoint.XXXXXX", path[128], link[128], whole[PATH_MAX];
    struct message m;
    bool warning;
    char *out;

    (void)state;
    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/none", top);
    prepare_fails(path, -ENOENT, "does not exist: mkdir -p");
    snprintf(path, sizeof(path), "%s/file", top);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    prepare_fails(path, -ENOTDIR, "is not a directory");
    unlink(path);

    snprintf(path, sizeof(path), "%s/dir", top);
    snprintf(link, sizeof(link), "%s/link", top);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(symlink("dir", link), 0);
    assert_non_null(realpath(path, whole));
    assert_int_equal(mountpoint_prepare(link, &out, &warning, &m), 0);
    assert_string_equal(out, whole);
    assert_false(warning);
    free(out);
    assert_int_equal(chdir(top), 0);
    assert_int_equal(mountpoint_prepare("./dir//", &out, &warning, &m), 0);
    assert_string_equal(out, whole);
    free(out);
    snprintf(path, sizeof(path), "%s/dir/inside", top);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mountpoint_prepare(link, &out, &warning, &m), 0);
    assert_true(warning);
    free(out);
    assert_int_equal(chdir("/"), 0);
    rmdir(path);
    unlink(link);
    snprintf(path, sizeof(path), "%s/dir", top);
    rmdir(path);
    rmdir(top);
}

static void test_fuse_options(void **state)
{
    char source[] = "photos:/a,b\\c", kernel[] = "noatime,noexec", none[] = "";
    struct options o = {.source = source, .kernel = none};
    char *text;

    (void)state;
    text = mountpoint_fuse_options(&o);
    assert_string_equal(text, "fsname=photos:/a\\,b\\\\c,subtype=ossmount,default_permissions,max_read=524288,rw");
    free(text);
    o.kernel = kernel;
    o.read_only = o.allow_other = true;
    text = mountpoint_fuse_options(&o);
    assert_string_equal(
        text, "fsname=photos:/a\\,b\\\\c,subtype=ossmount,default_permissions,max_read=524288,ro,allow_other,noatime,"
              "noexec");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_fuse_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
