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

static const char table[] = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                            "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
                            "40 22 0:50 / /mnt/a rw,nosuid,nodev shared:9 - fuse.ossmount photos rw,user_id=0\n"
                            "41 22 0:51 / /mnt/with\\040blank\\011tab rw,nosuid - fuse.ossmount photos rw\n"
                            "42 22 0:52 / /mnt/back\\134slash rw - fuse.sshfs host:/ rw\n"
                            "43 22 0:53 / /mnt/twice rw shared:3 master:4 - ext4 /dev/sdb1 rw\n"
                            "44 43 0:54 / /mnt/twice rw - fuse.ossmount photos rw\n"
                            "45 22 0:55 / /mnt/under rw - fuse.ossmount photos rw\n"
                            "46 45 0:56 / /mnt/under rw - tmpfs tmpfs rw\n"
                            "47 22 0:57 /mnt/decoy /mnt/x\\040-\\040fuse.ossmount rw - ext4 /dev/sdc1 rw\n"
                            "a line that is none\n"
                            "\n";

static void type_is(const char *path, const char *wanted)
{
    FILE *f = fmemopen((void *)(uintptr_t)table, sizeof(table) - 1, "r");
    char type[32] = "";
    bool found;

    assert_non_null(f);
    found = mountpoint_type(f, path, type, sizeof(type));
    fclose(f);
    assert_int_equal(found, wanted != NULL);
    if (wanted)
        assert_string_equal(type, wanted);
}

static void test_mountinfo(void **state)
{
    (void)state;
    type_is("/", "ext4");
    type_is("/mnt/a", "fuse.ossmount");
    type_is("/mnt/with blank\ttab", "fuse.ossmount");
    type_is("/mnt/back\\slash", "fuse.sshfs");
    /* The later one lies above. */
    type_is("/mnt/twice", "fuse.ossmount");
    type_is("/mnt/under", "tmpfs");
    type_is("/mnt/x - fuse.ossmount", "ext4");
    type_is("/mnt", NULL);
    type_is("/mnt/a/", NULL);
    type_is("/mnt/b", NULL);
}

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
        cmocka_unit_test(test_mountinfo),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_fuse_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
