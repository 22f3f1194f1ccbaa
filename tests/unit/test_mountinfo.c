/* The table of mounts as the kernel writes it, and which mount a path lies on. */
#include "../../fs/mountinfo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char table[] =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
    "30 22 0:57 / /mnt/a rw,nosuid - fuse.ossmount bucket:/x rw,user_id=1000,group_id=1000\n"
    "31 22 0:58 / /mnt/o\\040d\\134d\\011 rw shared:3 master:1 - fuse.ossmount photos rw,user_id=0,group_id=0\n"
    "32 22 0:59 / /mnt/other rw - fuse.sshfs host:\\040x rw,user_id=7\n"
    "33 30 0:60 / /mnt/a/below rw - fuse.ossmount b rw,user_id=0\n"
    "34 22 0:61 / /mnt/a rw - fuse.ossmount above rw,user_id=0\n"
    "35 22 0:57 /d\\040ir /mnt/bound rw - fuse.ossmount bucket:/x rw\n"
    "45 22 0:55 / /mnt/under rw - fuse.ossmount photos rw\n"
    "46 45 0:56 / /mnt/under rw - tmpfs tmpfs rw\n"
    "47 22 8:17 /mnt/decoy /mnt/x\\040-\\040fuse.ossmount rw - ext4 /dev/sdc1 rw\n"
    "48 22 0:62 / /mnt/short - ext4\n"
    "a line that is none\n"
    "49 22 - fuse.ossmount photos rw\n"
    "\n"
    "50 22 0:63 / /mnt/last - fuse.ossmount last";

static void read_text(const char *text, const char *type, struct mounts *out)
{
    FILE *f = fmemopen((char *)(uintptr_t)text, strlen(text), "r");

    assert_non_null(f);
    assert_int_equal(mounts_read(f, type, out), 0);
    fclose(f);
}

static void test_lines(void **state)
{
    struct mounts m;

    (void)state;
    read_text(table, NULL, &m);
    assert_int_equal(m.n, 12);
    assert_int_equal(m.v[2].id, 30);
    assert_int_equal(m.v[2].parent, 22);
    assert_string_equal(m.v[2].device, "0:57");
    assert_string_equal(m.v[2].root, "/");
    assert_string_equal(m.v[2].path, "/mnt/a");
    assert_string_equal(m.v[2].type, "fuse.ossmount");
    assert_string_equal(m.v[2].source, "bucket:/x");
    assert_int_equal(m.v[2].uid, 1000);
    assert_string_equal(m.v[3].path, "/mnt/o d\\d\t");
    assert_string_equal(m.v[4].source, "host: x");
    assert_string_equal(m.v[7].root, "/d ir");
    assert_int_equal(m.v[7].uid, 0);
    assert_string_equal(m.v[10].path, "/mnt/x - fuse.ossmount");
    assert_string_equal(m.v[11].source, "last");
    mounts_free(&m);
    read_text("\n", NULL, &m);
    assert_int_equal(m.n, 0);
    mounts_free(&m);
}

static void test_of_a_type(void **state)
{
    static const char *const devices[] = {"0:57", "0:58", "0:60", "0:61", "0:57", "0:55", "0:63"};
    struct mounts m;

    (void)state;
    read_text(table, MOUNT_TYPE_OURS, &m);
    assert_int_equal(m.n, sizeof(devices) / sizeof(devices[0]));
    for (size_t i = 0; i < m.n; i++)
        assert_string_equal(m.v[i].device, devices[i]);
    mounts_free(&m);
}

static void device_is(const struct mount *found, const char *device)
{
    if (!device)
        assert_null(found);
    else
        assert_string_equal(found ? found->device : "none", device);
}

static void test_at(void **state)
{
    struct mounts m;

    (void)state;
    read_text(table, NULL, &m);
    device_is(mounts_at(&m, "/"), "8:1");
    device_is(mounts_at(&m, "/mnt/a"), "0:61"); /* the later one lies above */
    device_is(mounts_at(&m, "/mnt/under"), "0:56");
    device_is(mounts_at(&m, "/mnt/x - fuse.ossmount"), "8:17");
    device_is(mounts_at(&m, "/mnt"), NULL);
    device_is(mounts_at(&m, "/mnt/a/"), NULL);
    device_is(mounts_at(&m, "/mnt/b"), NULL);
    mounts_free(&m);
}

static void test_over(void **state)
{
    struct mounts m;

    (void)state;
    read_text(table, MOUNT_TYPE_OURS, &m);
    device_is(mounts_over(&m, "/mnt/a"), "0:61");
    device_is(mounts_over(&m, "/mnt/a/f"), "0:61");
    device_is(mounts_over(&m, "/mnt/ab"), NULL);
    device_is(mounts_over(&m, "/mnt"), NULL);
    device_is(mounts_over(&m, "/"), NULL);
    device_is(mounts_over(&m, "/mnt/a/below/f"), "0:60");
    device_is(mounts_over(&m, "/mnt/o d\\d\t/x"), "0:58");
    mounts_free(&m);
    read_text(table, NULL, &m);
    device_is(mounts_over(&m, "/home"), "8:1");
    mounts_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_of_a_type),
        cmocka_unit_test(test_at),
        cmocka_unit_test(test_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
