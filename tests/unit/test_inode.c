/* The table of inodes: counts, names that move, numbers that stay. */
#include "../../fs/inode.h"
#include "random.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct inodes *t;
static struct inode *root;

static int setup(void **state)
{
    (void)state;
    t = inodes_new("pre/");
    root = t ? inode_get(t, INODE_ROOT) : NULL;
    return root ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    inode_put(t, root);
    inodes_free(t);
    return 0;
}

/* As LOOKUP answers: counted by the kernel, no reference kept. */
static uint64_t lookup(struct inode *parent, const char *name, uint32_t type)
{
    struct inode *i = inode_lookup(t, parent, name, type);
    uint64_t ino;

    assert_non_null(i);
    ino = i->ino;
    inode_put(t, i);
    return ino;
}

static void expect_key(uint64_t ino, int r, const char *expected)
{
    struct inode *i = inode_get(t, ino);
    char key[OSS_KEY_MAX + 2];

    assert_non_null(i);
    assert_int_equal(inode_key(t, i, key), r);
    if (!r)
        assert_string_equal(key, expected);
    inode_put(t, i);
}

static bool known(uint64_t ino)
{
    struct inode *i = inode_get(t, ino);

    inode_put(t, i);
    return i != NULL;
}

static uint64_t found(struct inode *parent, const char *name)
{
    struct inode *i = inode_find(t, parent, name);
    uint64_t ino = i ? i->ino : 0;

    inode_put(t, i);
    return ino;
}

static void test_lookup_and_forget(void **state)
{
    uint64_t a = lookup(root, "a", S_IFREG);

    (void)state;
    assert_true(a > INODE_ROOT);
    assert_int_equal(lookup(root, "a", S_IFREG), a);
    assert_int_equal(lookup(root, "a", S_IFREG), a);
    assert_int_equal(inodes_count(t), 2);
    expect_key(a, 0, "pre/a");
    inode_forget(t, a, 2);
    assert_true(known(a));
    inode_forget(t, a, 1);
    assert_false(known(a));
    assert_int_equal(inodes_count(t), 1);
    /* The kernel cannot take more than it has, nor the root. */
    a = lookup(root, "a", S_IFREG);
    inode_forget(t, a, 100);
    assert_false(known(a));
    inode_forget(t, a, 1);
    inode_forget(t, INODE_ROOT, 100);
    assert_true(known(INODE_ROOT));
    expect_key(INODE_ROOT, 0, "pre/");
}

/* A directory stays while something below it is known, and an inode while somebody works on it. */
static void test_kept_by_children_and_references(void **state)
{
    uint64_t d = lookup(root, "d", S_IFDIR), e, f;
    struct inode *dir = inode_get(t, d), *sub, *file;

    (void)state;
    e = lookup(dir, "e", S_IFDIR);
    sub = inode_get(t, e);
    f = lookup(sub, "f", S_IFREG);
    inode_put(t, sub);
    inode_put(t, dir);
    inode_forget(t, d, 1);
    inode_forget(t, e, 1);
    assert_int_equal(inodes_count(t), 4);
    expect_key(f, 0, "pre/d/e/f");
    file = inode_get(t, f);
    inode_forget(t, f, 1);
    expect_key(f, 0, "pre/d/e/f");
    inode_put(t, file);
    assert_int_equal(inodes_count(t), 1);
}

static void test_place(void **state)
{
    uint64_t d = lookup(root, "d", S_IFDIR);
    struct inode *dir = inode_get(t, d), *i = inode_lookup(t, dir, "x", S_IFREG);
    char key[OSS_KEY_MAX + 2], name[256];

    (void)state;
    assert_int_equal(inode_place(t, i, key, name), 0);
    assert_string_equal(key, "pre/d/");
    assert_string_equal(name, "x");
    assert_int_equal(inode_place(t, dir, key, name), 0);
    assert_string_equal(key, "pre/");
    assert_string_equal(name, "d");
    assert_int_equal(inode_place(t, root, key, name), -ENOENT);
    inode_detach(t, dir, "x");
    assert_int_equal(inode_place(t, i, key, name), -ENOENT);
    inode_put(t, i);
    inode_put(t, dir);
}

static void test_long_key(void **state)
{
    struct inode *at = root, *next;
    char name[256], key[OSS_KEY_MAX + 2];
    int depth = 0, r = 0;

    (void)state;
    memset(name, 'n', 255);
    name[255] = '\0';
    for (; depth < 5 && !r; depth++) {
        next = inode_lookup(t, at, name, S_IFDIR);
        if (at != root)
            inode_put(t, at);
        at = next;
        r = inode_key(t, at, key);
        if (!r)
            assert_int_equal(strlen(key), 4 + 256 * (depth + 1));
    }
    assert_int_equal(r, -ENAMETOOLONG);
    assert_int_equal(depth, 4);
    inode_put(t, at);
}

static void test_detach(void **state)
{
    uint64_t d = lookup(root, "d", S_IFDIR), f, again;
    struct inode *dir = inode_get(t, d), *file;

    (void)state;
    f = lookup(dir, "f", S_IFREG);
    file = inode_get(t, f);
    inode_detach(t, dir, "f");
    inode_detach(t, dir, "f");
    inode_detach(t, dir, "never");
    assert_int_equal(found(dir, "f"), 0);
    expect_key(f, -ENOENT, NULL);
    assert_true(file->detached);
    /* Who comes next under the name is another file, with another number. */
    again = lookup(dir, "f", S_IFREG);
    assert_int_not_equal(again, f);
    expect_key(again, 0, "pre/d/f");
    expect_key(f, -ENOENT, NULL);
    inode_forget(t, f, 1);
    assert_true(known(f));
    inode_put(t, file);
    assert_false(known(f));
    /* What is below a detached directory has no key either. */
    inode_detach(t, root, "d");
    expect_key(again, -ENOENT, NULL);
    inode_forget(t, again, 1);
    inode_put(t, dir);
    inode_forget(t, d, 1);
    assert_int_equal(inodes_count(t), 1);
}

static void test_another_type(void **state)
{
    uint64_t f = lookup(root, "x", S_IFREG), d = lookup(root, "x", S_IFDIR);

    (void)state;
    assert_int_not_equal(f, d);
    expect_key(f, -ENOENT, NULL);
    expect_key(d, 0, "pre/x/");
    assert_int_equal(found(root, "x"), d);
    inode_forget(t, f, 1);
    inode_forget(t, d, 1);
    assert_int_equal(inodes_count(t), 1);
}

static void test_rename(void **state)
{
    uint64_t d = lookup(root, "d", S_IFDIR), e = lookup(root, "e", S_IFDIR), f, over;
    struct inode *from = inode_get(t, d), *to = inode_get(t, e);

    (void)state;
    f = lookup(from, "f", S_IFREG);
    over = lookup(to, "g", S_IFREG);
    inode_rename(t, from, "f", to, "g");
    assert_int_equal(found(from, "f"), 0);
    assert_int_equal(found(to, "g"), f);
    expect_key(f, 0, "pre/e/g");
    expect_key(over, -ENOENT, NULL);
    /* Onto itself, and of what is not known: what was there is gone all the same. */
    inode_rename(t, to, "g", to, "g");
    assert_int_equal(found(to, "g"), f);
    inode_rename(t, from, "unknown", to, "g");
    assert_int_equal(found(to, "g"), 0);
    expect_key(f, -ENOENT, NULL);
    inode_forget(t, f, 1);
    inode_forget(t, over, 1);
    /* The counts of the parents went with it: nothing is left over, nothing went too early. */
    inode_put(t, from);
    inode_put(t, to);
    inode_forget(t, d, 1);
    assert_false(known(d));
    inode_forget(t, e, 1);
    assert_int_equal(inodes_count(t), 1);
}

static void test_rename_directory(void **state)
{
    uint64_t d = lookup(root, "d", S_IFDIR), e = lookup(root, "e", S_IFDIR), f;
    struct inode *dir = inode_get(t, d), *to = inode_get(t, e);

    (void)state;
    f = lookup(dir, "f", S_IFREG);
    inode_rename(t, root, "d", to, "moved");
    expect_key(d, 0, "pre/e/moved/");
    expect_key(f, 0, "pre/e/moved/f");
    assert_int_equal(found(dir, "f"), f);
    inode_put(t, dir);
    inode_put(t, to);
    inode_forget(t, e, 1);
    inode_forget(t, d, 1);
    assert_true(known(e));
    inode_forget(t, f, 1);
    assert_int_equal(inodes_count(t), 1);
}

/* The number is that of the key: the same in the next mount, whatever was looked up before. */
static void test_numbers_are_stable(void **state)
{
    uint64_t numbers[100], dir_number;
    char name[20];

    (void)state;
    for (int round = 0; round < 3; round++) {
        uint64_t d;
        struct inode *dir;

        t = round ? inodes_new("pre/") : t;
        root = round ? inode_get(t, INODE_ROOT) : root;
        d = lookup(root, "d", S_IFDIR);
        dir = inode_get(t, d);
        if (round)
            assert_int_equal(d, dir_number);
        dir_number = d;
        for (int i = 0; i < 100; i++) {
            int n = round % 2 ? 99 - i : i;
            uint64_t ino;

            snprintf(name, sizeof(name), "f%d", n);
            ino = lookup(dir, name, S_IFREG);
            if (round)
                assert_int_equal(ino, numbers[n]);
            numbers[n] = ino;
        }
        inode_put(t, dir);
        if (round < 2) {
            inode_put(t, root);
            inodes_free(t);
        }
    }
}

/* The number of a name is taken by one that was renamed away, or removed, and is still in use. */
static void test_numbers_collide(void **state)
{
    uint64_t first = lookup(root, "a", S_IFREG), second, third;

    (void)state;
    inode_rename(t, root, "a", root, "b");
    second = lookup(root, "a", S_IFREG);
    assert_int_not_equal(second, first);
    inode_detach(t, root, "a");
    third = lookup(root, "a", S_IFREG);
    assert_true(third != first && third != second);
    assert_int_equal(found(root, "b"), first);
    assert_int_equal(lookup(root, "a", S_IFREG), third);
    inode_forget(t, second, 1);
    assert_false(known(second));
    expect_key(first, 0, "pre/b");
    expect_key(third, 0, "pre/a");
}

#define MANY 100000

static void test_many(void **state)
{
    uint64_t *numbers = calloc(MANY, sizeof(*numbers));
    char name[32], key[40];

    (void)state;
    assert_non_null(numbers);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "file%d", i);
        numbers[i] = lookup(root, name, S_IFREG);
    }
    assert_int_equal(inodes_count(t), MANY + 1);
    for (int i = 0; i < MANY; i += 7) {
        snprintf(name, sizeof(name), "file%d", i);
        snprintf(key, sizeof(key), "pre/file%d", i);
        assert_int_equal(found(root, name), numbers[i]);
        expect_key(numbers[i], 0, key);
    }
    for (int i = 0; i < MANY; i++)
        inode_forget(t, numbers[i], 1);
    assert_int_equal(inodes_count(t), 1);
    free(numbers);
}

static void test_note_content(void **state)
{
    struct inode *i = inode_lookup(t, root, "a", S_IFREG);

    (void)state;
    assert_false(inode_note_content(t, i, 5));
    assert_true(inode_note_content(t, i, 5));
    assert_false(inode_note_content(t, i, 6));
    assert_false(inode_note_content(t, i, 0));
    assert_false(inode_note_content(t, i, 0));
    assert_false(inode_note_content(t, i, 6));
    inode_put(t, i);
}

/* Asks for `max` of them; their names, one after the other, in `names` (of at least 64 names of 16 bytes). */
static size_t pick(enum inode_pick whom, size_t max, char (*names)[16])
{
    struct inode_victim victims[64];
    unsigned rounds = 0;
    size_t n = 0, got;

    assert_true(max <= 64);
    while (n < max && rounds < 2) {
        got = inode_pick(t, whom, victims, max - n, &rounds);
        for (size_t i = 0; i < got; i++)
            snprintf(names[n++], 16, "%s", victims[i].name);
    }
    return n;
}

static bool picked(char (*names)[16], size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return true;
    return false;
}

/* Not the root, nor what is open, worked on, detached, or not the kernel's; directories only without children. */
static void test_pick_whom(void **state)
{
    struct inode *dir = inode_lookup(t, root, "d", S_IFDIR), *empty = inode_lookup(t, root, "empty", S_IFDIR);
    struct inode *open = inode_lookup(t, root, "open", S_IFREG), *gone = inode_lookup(t, root, "gone", S_IFREG);
    char names[64][16];
    size_t n;

    (void)state;
    lookup(dir, "a", S_IFREG);
    lookup(dir, "l", S_IFLNK);
    lookup(root, "busy", S_IFREG);
    inode_opened(t, open, NULL);
    inode_put(t, open);
    inode_detach(t, root, "gone");
    inode_put(t, gone);
    inode_put(t, empty);
    inode_put(t, root); /* the test's own: an operation on the root */
    assert_int_equal(pick(INODE_PICK_FILES, 64, names), 1);
    assert_true(picked(names, 1, "busy"));
    inode_put(t, dir);
    n = pick(INODE_PICK_FILES, 64, names);
    assert_true(n >= 2 && picked(names, n, "a") && picked(names, n, "l"));
    assert_false(picked(names, n, "open") || picked(names, n, "gone") || picked(names, n, "empty"));
    n = pick(INODE_PICK_DIRS, 64, names);
    assert_true(picked(names, n, "empty"));
    assert_false(picked(names, n, "open") || picked(names, n, "gone") || picked(names, n, "d"));
    root = inode_get(t, INODE_ROOT);
    n = pick(INODE_PICK_DIRS, 64, names);
    assert_true(picked(names, n, "a"));
    assert_false(picked(names, n, "empty") || picked(names, n, "busy")); /* an operation is on its way in there */
    n = pick(INODE_PICK_BUSY, 64, names);
    assert_true(picked(names, n, "empty") && picked(names, n, "busy"));
    assert_false(picked(names, n, "open"));
    inode_closed(t, open);
    n = pick(INODE_PICK_BUSY, 64, names);
    assert_true(picked(names, n, "open"));
}

/* A directory that is open does not keep what is in it; one with an operation on its way does. */
static void test_pick_in_an_open_directory(void **state)
{
    struct inode *dir = inode_lookup(t, root, "d", S_IFDIR);
    char names[64][16];

    (void)state;
    lookup(dir, "a", S_IFREG);
    inode_opened(t, dir, NULL);
    assert_int_equal(pick(INODE_PICK_FILES, 64, names), 0);
    inode_put(t, dir);
    assert_int_equal(pick(INODE_PICK_FILES, 1, names), 1);
    assert_string_equal(names[0], "a");
    inode_closed(t, dir);
}

/* What got its number under another name would come back under another number: last. */
static void test_pick_moved(void **state)
{
    char names[64][16];
    size_t n;

    (void)state;
    inode_put(t, root);
    lookup(root, "a", S_IFREG);
    inode_rename(t, root, "a", root, "b");
    lookup(root, "a", S_IFREG); /* its number is taken */
    lookup(root, "c", S_IFREG);
    n = pick(INODE_PICK_FILES, 64, names);
    assert_true(picked(names, n, "c"));
    assert_false(picked(names, n, "a") || picked(names, n, "b"));
    n = pick(INODE_PICK_DIRS, 64, names);
    assert_true(picked(names, n, "a") && picked(names, n, "b"));
    root = inode_get(t, INODE_ROOT);
}

/* Who was used since the last round stays; of a table that does not change, everyone has his turn. */
static void test_pick_least_used(void **state)
{
    char names[64][16], name[16];
    size_t n;

    (void)state;
    inode_put(t, root);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        lookup(root, name, S_IFREG);
    }
    assert_int_equal(pick(INODE_PICK_FILES, 10, names), 10);
    n = pick(INODE_PICK_FILES, 64, names); /* those ten were just asked for, the rest was not */
    assert_true(n >= 30);
    for (int i = 0; i < 40; i += 2) {
        snprintf(name, sizeof(name), "f%d", i);
        inode_put(t, inode_get(t, found(root, name)));
    }
    n = pick(INODE_PICK_FILES, 20, names);
    assert_int_equal(n, 20);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(picked(names, 20, name), i % 2);
    }
    root = inode_get(t, INODE_ROOT);
}

static void count_up(void *arg)
{
    ++*(int *)arg;
}

static void test_limit(void **state)
{
    int told = 0;
    uint64_t numbers[20];
    char name[16];

    (void)state;
    inodes_limit(t, 10, count_up, &told);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        numbers[i] = lookup(root, name, S_IFREG);
        assert_int_equal(told, i >= 9); /* the root counts too */
    }
    for (int i = 0; i < 20; i++)
        inode_forget(t, numbers[i], 1);
    assert_int_equal(inodes_freed(t), 20);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        lookup(root, name, S_IFREG);
    }
    assert_int_equal(told, 2);
}

/* The promise: 300 bytes and the name. */
static void test_size(void **state)
{
    (void)state;
    /* malloc's own 16 bytes for each of two pieces; at most four entries of the two tables for each inode. */
    assert_true(sizeof(struct inode) + 2 * 16 + 4 * sizeof(void *) <= 300);
}

/* Against a model: parents and lookup counts of forty names in eight directories, moved about. */
static void test_random(void **state)
{
    struct random random = {.state = 7};
    struct inode *dirs[8];
    uint64_t held[8][5] = {0}, count[8][5] = {0};
    char name[16], to[16];

    (void)state;
    for (int d = 0; d < 8; d++) {
        snprintf(name, sizeof(name), "d%d", d);
        dirs[d] = inode_lookup(t, root, name, S_IFDIR);
    }
    for (int step = 0; step < 20000; step++) {
        int d = (int)random_below(&random, 8), n = (int)random_below(&random, 5);
        int e = (int)random_below(&random, 8), m = (int)random_below(&random, 5);

        snprintf(name, sizeof(name), "n%d", n);
        snprintf(to, sizeof(to), "n%d", m);
        switch (random_below(&random, 4)) {
        case 0:
        case 1: {
            uint64_t ino = lookup(dirs[d], name, S_IFREG);

            assert_true(!held[d][n] || held[d][n] == ino);
            held[d][n] = ino;
            count[d][n]++;
            break;
        }
        case 2:
            if (count[d][n]) {
                inode_forget(t, held[d][n], count[d][n]);
                assert_false(known(held[d][n]));
                held[d][n] = count[d][n] = 0;
            }
            break;
        case 3:
            if (!count[d][n] || (d == e && n == m))
                break;
            inode_rename(t, dirs[d], name, dirs[e], to);
            if (count[e][m])
                inode_forget(t, held[e][m], count[e][m]);
            held[e][m] = held[d][n];
            count[e][m] = count[d][n];
            held[d][n] = count[d][n] = 0;
            break;
        }
        assert_int_equal(found(dirs[d], name), held[d][n]);
        assert_int_equal(found(dirs[e], to), held[e][m]);
    }
    for (int d = 0; d < 8; d++) {
        for (int n = 0; n < 5; n++)
            inode_forget(t, held[d][n], count[d][n]);
        inode_forget(t, dirs[d]->ino, 1);
        inode_put(t, dirs[d]);
    }
    assert_int_equal(inodes_count(t), 1);
}

static void *come_and_go(void *arg)
{
    struct random random = {.state = (uint64_t)(uintptr_t)arg};
    char name[16], key[OSS_KEY_MAX + 2];

    for (int i = 0; i < 5000; i++) {
        struct inode *inode;
        uint64_t ino;

        snprintf(name, sizeof(name), "n%d", (int)random_below(&random, 20));
        inode = inode_lookup(t, root, name, random_one_in(&random, 20) ? S_IFDIR : S_IFREG);
        ino = inode->ino;
        inode_key(t, inode, key);
        if (random_one_in(&random, 10))
            inode_detach(t, root, name);
        else if (random_one_in(&random, 5))
            inode_rename(t, root, name, root, "n0");
        inode_put(t, inode);
        inode_forget(t, ino, 1);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(inodes_count(t), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lookup_and_forget),
        TEST(test_kept_by_children_and_references),
        TEST(test_place),
        TEST(test_long_key),
        TEST(test_detach),
        TEST(test_another_type),
        TEST(test_rename),
        TEST(test_rename_directory),
        TEST(test_numbers_are_stable),
        TEST(test_numbers_collide),
        TEST(test_many),
        TEST(test_note_content),
        TEST(test_pick_whom),
        TEST(test_pick_in_an_open_directory),
        TEST(test_pick_moved),
        TEST(test_pick_least_used),
        TEST(test_limit),
        TEST(test_size),
        TEST(test_random),
        TEST(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
