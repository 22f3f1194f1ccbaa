/*
 * The attribute store: what is put is found for exactly its version, also by the next daemon; what may be wrong is
 * not found: another version, another boot, other defaults, a damaged record, a file cut off.
 */
#include "../../cache/attr_record.h"
#include "../../cache/attr_store.h"
#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ROOM (UINT64_C(8) << 20)

static const struct attr_defaults defaults = {.uid = 1, .gid = 2, .file_mode = 0644, .dir_mode = 0755};
static char dir[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/test_attr_store.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static struct oinfo *info_of(const char *etag, uint64_t size, time_t modified, uint32_t mode)
{
    struct oss_object object = {.size = size, .last_modified = modified, .date = modified + 10, .has_crc = true};
    struct oinfo *info;

    snprintf(object.etag, sizeof(object.etag), "%s", etag);
    object.crc64 = 77;
    assert_int_equal(kv_set(&object.headers, "content-type", "text/plain"), 0);
    assert_int_equal(kv_set(&object.headers, "x-oss-meta-mtime", "1234567890"), 0);
    assert_int_equal(kv_set(&object.headers, "x-oss-meta-color", "blue"), 0);
    info = oinfo_from_object(&object, &defaults, false);
    oss_object_free(&object);
    assert_non_null(info);
    info->attr.mode = mode;
    return info;
}

static void put(struct attr_store *store, const char *key, const char *etag, time_t modified, uint32_t mode)
{
    struct oinfo *info = info_of(etag, 10, modified, mode);

    attr_store_put(store, key, info);
    oinfo_put(info);
}

/* The mode that is noted, 0 for a miss. */
static uint32_t mode_of(struct attr_store *store, const char *key, const char *etag, time_t modified)
{
    struct oinfo *info = attr_store_get(store, key, etag, modified, 10);
    uint32_t mode = info ? info->attr.mode : 0;

    oinfo_put(info);
    return mode;
}

static struct attr_store *open_store(void)
{
    struct attr_store *store = attr_store_open(dir, &defaults, ROOM);

    assert_non_null(store);
    return store;
}

static void path_of(const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", dir, name);
}

/* ----------------------------------------------------------------------------------------------- records */

static void test_record_round_trip(void **state)
{
    struct buf record = BUF_INIT(ATTR_RECORD_MAX);
    struct oinfo *info = info_of("E1", 10, 1000, S_IFLNK | 0777), *back;
    struct attr_version version = {.etag = "E1", .last_modified = 1000, .size = 10};
    bool exact = false;

    (void)state;
    info->link = strdup("../target");
    info->tagged = true;
    assert_int_equal(attr_record_encode(&record, "a/b", info), 0);
    back = attr_record_decode(record.data, record.len, "a/b", &version, &exact);
    assert_non_null(back);
    assert_true(exact);
    assert_int_equal(back->attr.mode, S_IFLNK | 0777);
    assert_int_equal(back->attr.mtime.tv_sec, 1234567890);
    assert_int_equal(back->attr.size, 10);
    assert_int_equal(back->attr.uid, 1);
    assert_int_equal(back->last_modified, 1000);
    assert_true(back->has_crc && back->crc64 == 77);
    assert_false(back->acl_default);
    assert_true(back->tagged);
    assert_string_equal(back->link, "../target");
    assert_true(kv_equal(&back->headers, &info->headers));
    oinfo_put(back);
    assert_null(attr_record_decode(record.data, record.len, "a/c", &version, &exact));
    oinfo_put(info);
    buf_free(&record);
}

/* Every single damaged byte and every length but the right one is a miss, and reads nothing beyond the record. */
static void test_record_damage(void **state)
{
    struct buf record = BUF_INIT(ATTR_RECORD_MAX);
    struct oinfo *info = info_of("E1", 10, 1000, S_IFREG | 0600);
    struct attr_version version = {.etag = "E1", .last_modified = 1000, .size = 10};
    bool exact;

    (void)state;
    assert_int_equal(attr_record_encode(&record, "key", info), 0);
    for (size_t n = 0; n < record.len; n++) {
        char *cut = malloc(n + 1);

        memcpy(cut, record.data, n);
        assert_null(attr_record_decode(cut, n, "key", &version, &exact));
        free(cut);
    }
    for (size_t i = 0; i < record.len; i++) {
        record.data[i] ^= 1;
        assert_null(attr_record_decode(record.data, record.len, "key", &version, &exact));
        assert_false(attr_record_of(record.data, record.len, "key"));
        record.data[i] ^= 1;
    }
    assert_true(attr_record_of(record.data, record.len, "key"));
    oinfo_put(info);
    buf_free(&record);
}

/* ----------------------------------------------------------------------------------------------- versions */

static void test_only_the_same_version(void **state)
{
    struct attr_store *store = open_store();

    (void)state;
    put(store, "f", "E1", 1000, S_IFREG | 0600);
    attr_store_settle(store);
    assert_int_equal(mode_of(store, "f", "E1", 1000), S_IFREG | 0600);
    assert_int_equal(mode_of(store, "f", "E2", 1000), 0);
    assert_int_equal(mode_of(store, "f", "E1", 1001), 0);
    assert_int_equal(mode_of(store, "f", "E1", 999), 0);
    assert_null(attr_store_get(store, "f", "E1", 1000, 11));
    assert_int_equal(mode_of(store, "g", "E1", 1000), 0);
    attr_store_close(store);
}

/* Read within two seconds of Last-Modified: it may have been changed again since, unseen. */
static void test_young_is_not_taken(void **state)
{
    struct attr_store *store = open_store();
    struct oss_object object = {.size = 10, .last_modified = 1000, .etag = "E1"};

    (void)state;
    for (time_t date = 1000; date <= 1003; date++) {
        struct oinfo *info;

        object.date = date;
        info = oinfo_from_object(&object, &defaults, false);
        assert_int_equal(info->young, date < 1002);
        attr_store_put(store, date < 1002 ? "young" : "old", info);
        oinfo_put(info);
    }
    attr_store_settle(store);
    assert_int_equal(mode_of(store, "young", "E1", 1000), 0);
    assert_int_equal(mode_of(store, "old", "E1", 1000), S_IFREG | 0644);
    attr_store_close(store);
}

/* Of what we wrote only the server's Date is known: a second off is the same; once told, it is exact. */
static void test_our_own_writes(void **state)
{
    struct attr_store *store = open_store();
    struct oinfo *info = info_of("E1", 10, 1000, S_IFREG | 0600);

    (void)state;
    info->fuzzy = info->own = true;
    attr_store_put(store, "f", info);
    oinfo_put(info);
    attr_store_settle(store);
    assert_int_equal(mode_of(store, "f", "E1", 1002), 0);
    assert_int_equal(mode_of(store, "f", "E1", 998), 0);
    assert_int_equal(mode_of(store, "f", "E1", 1001), S_IFREG | 0600);
    attr_store_settle(store);
    assert_int_equal(mode_of(store, "f", "E1", 1001), S_IFREG | 0600);
    assert_int_equal(mode_of(store, "f", "E1", 1000), 0);
    attr_store_close(store);
}

static void test_forget(void **state)
{
    struct attr_store *store = open_store();

    (void)state;
    put(store, "f", "E1", 1000, S_IFREG | 0600);
    attr_store_forget(store, "f"); /* still queued */
    attr_store_settle(store);
    assert_int_equal(mode_of(store, "f", "E1", 1000), 0);
    put(store, "f", "E1", 1000, S_IFREG | 0600);
    put(store, "g", "E1", 1000, S_IFREG | 0601);
    attr_store_settle(store);
    attr_store_forget(store, "f");
    assert_int_equal(mode_of(store, "f", "E1", 1000), 0);
    assert_false(attr_store_has(store, "f"));
    assert_int_equal(mode_of(store, "g", "E1", 1000), S_IFREG | 0601);
    attr_store_close(store);
}

static void test_no_object(void **state)
{
    struct attr_store *store = open_store();

    (void)state;
    assert_false(attr_store_has(store, "d/"));
    attr_store_put(store, "d/", NULL);
    attr_store_settle(store);
    assert_true(attr_store_has(store, "d/"));
    assert_null(attr_store_get(store, "d/", "", 0, 0));
    attr_store_close(store);
    assert_false(attr_store_has(NULL, "d/"));
    assert_null(attr_store_get(NULL, "f", "E1", 1000, 10));
    attr_store_forget(NULL, "f");
    attr_store_put(NULL, "f", NULL);
    attr_store_close(NULL);
}

/* ------------------------------------------------------------------------------------------- across mounts */

static void test_the_next_daemon_finds_it(void **state)
{
    struct attr_store *store = open_store();

    (void)state;
    put(store, "f", "E1", 1000, S_IFREG | 0600);
    attr_store_close(store);
    store = open_store();
    assert_int_equal(mode_of(store, "f", "E1", 1000), S_IFREG | 0600);
    attr_store_close(store);
}

static void test_killed(void **state)
{
    struct attr_store *store;
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        store = open_store();
        put(store, "f", "E1", 1000, S_IFREG | 0600);
        attr_store_settle(store);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    store = open_store();
    assert_int_equal(mode_of(store, "f", "E1", 1000), S_IFREG | 0600);
    attr_store_close(store);
}

/* Killed while it writes without pause: every record that is found is whole and right. */
static void test_killed_while_writing(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        struct attr_store *store;
        unsigned found = 0;
        int written[2];
        pid_t pid;
        char key[32];

        assert_int_equal(pipe(written), 0);
        pid = fork();
        if (pid == 0) {
            store = open_store();
            for (unsigned i = 0;; i = (i + 1) % 5000) {
                snprintf(key, sizeof(key), "k%u", i);
                put(store, key, "E1", 1000 + i, S_IFREG | (i & 0777));
                if (i % 1000)
                    continue;
                attr_store_settle(store);
                if (write(written[1], "x", 1) != 1)
                    _exit(1);
            }
        }
        for (int i = 0; i < 2; i++)
            assert_int_equal(read(written[0], key, 1), 1);
        usleep(37000 * (useconds_t)round);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(written[0]);
        close(written[1]);
        store = open_store();
        for (unsigned i = 0; i < 5000; i++) {
            struct oinfo *info;

            snprintf(key, sizeof(key), "k%u", i);
            info = attr_store_get(store, key, "E1", 1000 + i, 10);
            if (info)
                assert_int_equal(info->attr.mode, S_IFREG | (i & 0777));
            found += info != NULL;
            oinfo_put(info);
        }
        attr_store_close(store);
        assert_true(found > 0);
    }
}

static void set_state(const char *last_line)
{
    char path[128], text[512], *line;
    FILE *f;
    size_t n;

    path_of("attributes.state", path, sizeof(path));
    f = fopen(path, "r+");
    assert_non_null(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    line = strrchr(text, '\n');
    *line = '\0';
    line = strrchr(text, '\n') + 1;
    rewind(f);
    *line = '\0';
    fprintf(f, "%s%s\n", text, last_line);
    assert_int_equal(ftruncate(fileno(f), ftell(f)), 0);
    fclose(f);
}

/* Not closed well, and the machine has started anew since: nothing of it is believed. */
static void test_another_boot(void **state)
{
    struct attr_store *store = open_store();

    (void)state;
    put(store, "f", "E1", 1000, S_IFREG | 0600);
    attr_store_close(store);
    set_state("00000000-1111-2222-3333-444444444444");
    store = open_store();
    assert_int_equal(mode_of(store, "f", "E1", 1000), 0);
    attr_store_close(store);
}

static void test_other_defaults(void **state)
{
    struct attr_defaults others = defaults;
    struct attr_store *store = open_store();

    (void)state;
    put(store, "f", "E1", 1000, S_IFREG | 0600);
    attr_store_close(store);
    others.uid = 99;
    store = attr_store_open(dir, &others, ROOM);
    assert_non_null(store);
    assert_int_equal(mode_of(store, "f", "E1", 1000), 0);
    attr_store_close(store);
}

static void test_deleted_or_damaged_file(void **state)
{
    char path[128];
    int fd;

    (void)state;
    path_of("attributes", path, sizeof(path));
    for (int how = 0; how < 5; how++) {
        struct attr_store *store = open_store();

        for (unsigned i = 0; i < 2000; i++) {
            char key[32];

            snprintf(key, sizeof(key), "k%u", i);
            put(store, key, "E1", 1000, S_IFREG | 0600);
        }
        attr_store_close(store);
        if (how == 0)
            assert_int_equal(unlink(path), 0);
        if (how == 1)
            assert_int_equal(truncate(path, 9000), 0);
        if (how == 2)
            assert_int_equal(truncate(path, 0), 0);
        if (how == 3) {
            fd = open(path, O_WRONLY | O_TRUNC);
            assert_int_equal(write(fd, "no database", 11), 11);
            close(fd);
        }
        if (how == 4) {
            unlink(path);
            assert_int_equal(symlink("/dev/null", path), 0);
        }
        store = open_store();
        assert_int_equal(mode_of(store, "k1", "E1", 1000), 0);
        put(store, "k1", "E1", 1000, S_IFREG | 0600);
        attr_store_settle(store);
        assert_int_equal(mode_of(store, "k1", "E1", 1000), S_IFREG | 0600);
        attr_store_close(store);
    }
}

/* Many more than fit: the file keeps its bound, and what was asked for lately is still there. */
static void test_bounded(void **state)
{
    struct attr_store *store = attr_store_open(dir, &defaults, UINT64_C(1) << 20);
    char key[64], path[128];
    struct stat st;

    (void)state;
    assert_non_null(store);
    for (unsigned i = 0; i < 30000; i++) {
        snprintf(key, sizeof(key), "a/long/enough/directory/k%u", i);
        put(store, key, "E1", 1000, S_IFREG | 0600);
        if (i % 500 == 0) {
            put(store, "favourite", "E1", 1000, S_IFREG | 0600);
            attr_store_settle(store);
            assert_int_equal(mode_of(store, "favourite", "E1", 1000), S_IFREG | 0600);
        }
    }
    attr_store_settle(store);
    assert_int_equal(mode_of(store, key, "E1", 1000), S_IFREG | 0600);
    assert_int_equal(mode_of(store, "a/long/enough/directory/k0", "E1", 1000), 0);
    path_of("attributes", path, sizeof(path));
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size <= 16 << 20);
    assert_int_equal(st.st_mode & 0777, 0600);
    attr_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_round_trip),
        cmocka_unit_test(test_record_damage),
        cmocka_unit_test_setup_teardown(test_only_the_same_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_young_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_our_own_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_object, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_next_daemon_finds_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_while_writing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_boot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted_or_damaged_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
