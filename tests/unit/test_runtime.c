/* The table of mounts as the kernel writes it, and which mount a path lies on. */
#include "../../fs/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void read_text(const char *text, struct runtime_mounts *out)
{
    FILE *f = fmemopen((char *)(uintptr_t)text, strlen(text), "r");

    assert_non_null(f);
    assert_int_equal(runtime_read_mounts(f, out), 0);
    fclose(f);
}

static const char table[] =
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "30 22 0:57 / /mnt/a rw,nosuid - fuse.ossmount bucket:/x rw,user_id=1000,group_id=1000\n"
    "31 22 0:58 / /mnt/o\\040d\\134d rw shared:3 master:1 - fuse.ossmount photos rw,user_id=0,group_id=0\n"
    "32 22 0:59 / /mnt/other rw - fuse.sshfs host: rw,user_id=0\n"
    "33 30 0:60 / /mnt/a/below rw - fuse.ossmount b rw,user_id=0\n"
    "34 22 0:61 / /mnt/a rw - fuse.ossmount above rw,user_id=0\n"
    "broken line\n";

static void lines(void **state)
{
    struct runtime_mounts m;

    (void)state;
    read_text(table, &m);
    assert_int_equal(m.n, 4);
    assert_string_equal(m.v[0].path, "/mnt/a");
    assert_string_equal(m.v[0].source, "bucket:/x");
    assert_string_equal(m.v[0].device, "0:57");
    assert_int_equal(m.v[0].uid, 1000);
    assert_string_equal(m.v[1].path, "/mnt/o d\\d");
    runtime_mounts_free(&m);
    read_text("\n", &m);
    assert_int_equal(m.n, 0);
    runtime_mounts_free(&m);
}

static void device_of(const struct runtime_mounts *m, const char *path, const char *device)
{
    const struct runtime_mount *found = runtime_find(m, path);

    if (!device)
        assert_null(found);
    else
        assert_string_equal(found ? found->device : "none", device);
}

static void found(void **state)
{
    struct runtime_mounts m;

    (void)state;
    read_text(table, &m);
    device_of(&m, "/mnt/a", "0:61"); /* the later one lies above */
    device_of(&m, "/mnt/a/f", "0:61");
    device_of(&m, "/mnt/ab", NULL);
    device_of(&m, "/mnt", NULL);
    device_of(&m, "/", NULL);
    device_of(&m, "/mnt/a/below/f", "0:60");
    device_of(&m, "/mnt/o d\\d/x", "0:58");
    runtime_mounts_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
