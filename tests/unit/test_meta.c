/*
 * What is known of names: who is believed when the bucket and this mount disagree, for how long, and how much is
 * kept.
 */
#include "../../cache/meta.h"
#include "random.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG_MS 600000

static struct meta *meta;

static int setup(void **state)
{
    (void)state;
    meta = meta_new(LONG_MS, 1000);
    return meta ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    meta_free(meta);
    return 0;
}

static struct oinfo *info_of(const char *etag, uint64_t size, time_t modified, uint32_t mode)
{
    static const struct attr_defaults defaults = {.file_mode = 0644, .dir_mode = 0755};
    struct oss_object object = {.size = size, .last_modified = modified, .date = modified + 5};
    struct oinfo *info;

    snprintf(object.etag, sizeof(object.etag), "%s", etag);
    info = oinfo_from_object(&object, &defaults, S_ISDIR(mode));
    assert_non_null(info);
    info->attr.mode = mode;
    return info;
}

static void put_file(const char *dir, const char *name, const char *etag)
{
    struct oinfo *info = info_of(etag, 10, 1000, S_IFREG | 0600);

    meta_put(meta, dir, name, META_FILE, info);
    oinfo_put(info);
}

static void answer_file(const char *dir, const char *name, const char *etag, uint64_t since)
{
    struct oinfo *info = info_of(etag, 10, 1000, S_IFREG | 0600);

    meta_answer(meta, dir, name, META_FILE, info, since);
    oinfo_put(info);
}

static enum meta_state state_of(const char *dir, const char *name)
{
    struct meta_result known;

    meta_get(meta, dir, name, &known);
    oinfo_put(known.info);
    return known.state;
}

/* The ETag of what is known, "" when its attributes are not known, NULL when it is not even that. */
static const char *etag_of(const char *dir, const char *name)
{
    static char etag[OSS_ETAG_SIZE];
    struct meta_result known;

    meta_get(meta, dir, name, &known);
    snprintf(etag, sizeof(etag), "%s", known.info ? known.info->etag : "");
    oinfo_put(known.info);
    return known.state == META_UNKNOWN ? NULL : etag;
}

/* A page: names, "name/" for a prefix, as keys below `dir`. ETag "E", 10 bytes, modified at 1000. */
static unsigned page_of(struct meta *m, const char *dir, uint64_t listing, const char *const *names)
{
    struct oss_list page = {0};
    unsigned left_out;
    size_t room = 1;

    while (names[room - 1])
        room++;
    page.entries = calloc(room, sizeof(*page.entries));
    page.prefixes = calloc(room, sizeof(*page.prefixes));
    assert_true(page.entries && page.prefixes);
    for (; *names; names++) {
        size_t n = strlen(dir) + strlen(*names) + 1;
        bool prefix = **names && (*names)[strlen(*names) - 1] == '/';
        char *key = malloc(n);

        assert_non_null(key);
        snprintf(key, n, "%s%s", **names == '!' ? "" : dir, *names + (**names == '!'));
        if (prefix) {
            page.prefixes[page.n_prefixes++] = key;
        } else {
            page.entries[page.n_entries] =
                (struct oss_list_entry){.key = key, .size = 10, .last_modified = 1000, .etag = "E"};
            page.n_entries++;
        }
    }
    left_out = meta_list_page(m, dir, listing, &page);
    oss_list_free(&page);
    return left_out;
}

static unsigned page(const char *dir, uint64_t listing, const char *const *names)
{
    return page_of(meta, dir, listing, names);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void list(const char *dir, const char *const *names)
{
    uint64_t listing = meta_list_begin(meta, dir);

    assert_true(listing > 0);
    page(dir, listing, names);
    meta_list_end(meta, dir, listing);
}

/* "a b/ c": what a snapshot has, sorted. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void expect_snapshot(const char *dir, const char *expected)
{
    struct meta_names names;
    const char *sorted[100];
    char text[1000] = "";

    assert_int_equal(meta_snapshot(meta, dir, &names), 0);
    assert_true(names.n <= 100);
    for (size_t i = 0; i < names.n; i++)
        sorted[i] = meta_names_get(&names, i, NULL);
    qsort(sorted, names.n, sizeof(*sorted), by_name);
    for (size_t i = 0; i < names.n; i++) {
        strcat(text, i ? " " : "");
        strcat(text, sorted[i]);
        strcat(text, sorted[i][-1] == '/' ? "/" : "");
    }
    meta_names_free(&names);
    assert_string_equal(text, expected);
}

/* ---------------------------------------------------------------------------------------------- single names */

/* What the listing said of the ETag is what it said, whatever its form. */
static void test_etags(void **state)
{
    static const char *const etags[] = {"0123456789ABCDEF0123456789ABCDEF",
                                        "0123456789abcdef0123456789ABCDEF",
                                        "0123456789ABCDEF0123456789ABCDEF-12",
                                        "0123456789ABCDEF",
                                        "F",
                                        ""};
    struct meta_result known;

    (void)state;
    for (size_t i = 0; i < sizeof(etags) / sizeof(*etags); i++) {
        struct oinfo *info = info_of(etags[i], 10, 1000, S_IFREG | 0600);

        meta_answer(meta, "", "a", META_FILE, info, meta_now(meta));
        meta_get(meta, "", "a", &known);
        assert_string_equal(known.version.etag, etags[i]);
        oinfo_put(known.info);
        oinfo_put(info);
    }
}

/* Many names, added one by one or with room made for them before. */
static void test_names(void **state)
{
    struct meta_names names = {0};
    char name[300];
    bool is_dir;

    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(meta_names_reserve(&names, round ? 1000 : 0, round ? 255000 : 0), 0);
        for (int i = 0; i < 1000; i++) {
            snprintf(name, sizeof(name), "%0*d", 1 + i % 255, i);
            assert_int_equal(meta_names_add(&names, name, i % 3 == 0), 0);
        }
        assert_int_equal(names.n, 1000);
        for (int i = 0; i < 1000; i++) {
            snprintf(name, sizeof(name), "%0*d", 1 + i % 255, i);
            assert_string_equal(meta_names_get(&names, (size_t)i, &is_dir), name);
            assert_int_equal(is_dir, i % 3 == 0);
        }
        meta_names_free(&names);
        assert_int_equal(names.n, 0);
    }
}

static void test_nothing_known(void **state)
{
    struct meta_names names;
    struct meta_result known;

    (void)state;
    meta_get(meta, "", "a", &known);
    assert_int_equal(known.state, META_UNKNOWN);
    assert_int_equal(known.ttl_ms, 0);
    assert_false(known.dir_listed || known.dir_big);
    assert_false(meta_listed(meta, ""));
    assert_int_equal(meta_snapshot(meta, "", &names), -ENOENT);
    meta_forget(meta, "x/", "y");
    meta_forget_tree(meta, "x/");
    meta_touch(meta, "x/", "y");
}

static void test_answer_and_put(void **state)
{
    struct meta_result known;
    uint64_t since;

    (void)state;
    answer_file("d/", "a", "A", meta_now(meta));
    meta_get(meta, "d/", "a", &known);
    assert_int_equal(known.state, META_FILE);
    assert_string_equal(known.info->etag, "A");
    assert_in_range(known.ttl_ms, LONG_MS - 5000, LONG_MS);
    assert_false(known.dir_listed);
    oinfo_put(known.info);
    assert_int_equal(state_of("", "a"), META_UNKNOWN);
    assert_int_equal(state_of("d", "/a"), META_UNKNOWN);
    meta_answer(meta, "d/", "b", META_ABSENT, NULL, meta_now(meta));
    assert_int_equal(state_of("d/", "b"), META_ABSENT);
    /* A question from before a change of ours: its answer comes too late. */
    since = meta_now(meta);
    put_file("d/", "a", "NEW");
    put_file("d/", "b", "NEW");
    meta_put(meta, "d/", "c", META_ABSENT, NULL);
    answer_file("d/", "a", "OLD", since);
    meta_answer(meta, "d/", "b", META_ABSENT, NULL, since);
    answer_file("d/", "c", "OLD", since);
    assert_string_equal(etag_of("d/", "a"), "NEW");
    assert_string_equal(etag_of("d/", "b"), "NEW");
    assert_int_equal(state_of("d/", "c"), META_ABSENT);
    /* One from after it is believed. */
    answer_file("d/", "c", "BACK", meta_now(meta));
    assert_string_equal(etag_of("d/", "c"), "BACK");
    meta_forget(meta, "d/", "c");
    assert_int_equal(state_of("d/", "c"), META_UNKNOWN);
}

static void test_touch(void **state)
{
    struct oinfo *dir = info_of("", 0, 1000, S_IFDIR | 0755);
    struct meta_result known;

    (void)state;
    meta_put(meta, "", "d", META_DIR, dir);
    meta_touch(meta, "", "d");
    meta_get(meta, "", "d", &known);
    assert_true(known.info->attr.mtime.tv_sec > 1000000000);
    assert_true(known.info->attr.ctime.tv_sec > 1000000000);
    assert_int_equal(dir->attr.mtime.tv_sec, 1000); /* what others hold does not change under them */
    oinfo_put(known.info);
    oinfo_put(dir);
}

/* --------------------------------------------------------------------------------------------------- listings */

static void test_listing(void **state)
{
    struct meta_result known;
    size_t entries;
    bool marker;

    (void)state;
    assert_false(meta_dir_facts(meta, "d/", &entries, &marker));
    list("d/", NAMES("", "a", "b", "sub/"));
    assert_true(meta_listed(meta, "d/"));
    assert_false(meta_listed(meta, "d/sub/"));
    expect_snapshot("d/", "a b sub/");
    assert_int_equal(state_of("d/", "a"), META_FILE);
    assert_string_equal(etag_of("d/", "a"), ""); /* attributes have to be asked for */
    assert_int_equal(state_of("d/", "sub"), META_DIR);
    meta_get(meta, "d/", "none", &known);
    assert_int_equal(known.state, META_ABSENT);
    assert_true(known.dir_listed && known.ttl_ms > 0);
    assert_true(meta_dir_facts(meta, "d/", &entries, &marker));
    assert_int_equal(entries, 3);
    assert_true(marker);
    list("d/", NAMES("b"));
    expect_snapshot("d/", "b");
    assert_true(meta_dir_facts(meta, "d/", &entries, &marker));
    assert_int_equal(entries, 1);
    assert_false(marker);
    assert_int_equal(state_of("d/", "a"), META_ABSENT);
}

/* Attributes stay while the listing says that the object is the same. */
static void test_listing_keeps_attributes(void **state)
{
    struct oinfo *other;

    (void)state;
    answer_file("", "same", "E", meta_now(meta));
    answer_file("", "changed", "F", meta_now(meta));
    other = info_of("E", 11, 1000, S_IFREG | 0600);
    meta_answer(meta, "", "longer", META_FILE, other, meta_now(meta));
    oinfo_put(other);
    other = info_of("E", 10, 1001, S_IFREG | 0600);
    meta_answer(meta, "", "later", META_FILE, other, meta_now(meta));
    meta_put(meta, "", "ours", META_FILE, other); /* our clock reading of the server: a second off is the same */
    oinfo_put(other);
    other = info_of("E", 10, 1002, S_IFREG | 0600);
    meta_put(meta, "", "ours2", META_FILE, other);
    oinfo_put(other);
    list("", NAMES("changed", "later", "longer", "ours", "ours2", "same"));
    assert_string_equal(etag_of("", "same"), "E");
    assert_string_equal(etag_of("", "changed"), "");
    assert_string_equal(etag_of("", "longer"), "");
    assert_string_equal(etag_of("", "later"), "");
    assert_string_equal(etag_of("", "ours"), "E");
    assert_string_equal(etag_of("", "ours2"), "");
}

/* A change made here while a listing is under way wins, wherever the listing has got to. */
static void test_changes_within_a_listing(void **state)
{
    uint64_t listing;

    (void)state;
    put_file("", "old", "E");
    put_file("", "gone", "E");
    listing = meta_list_begin(meta, "");
    meta_put(meta, "", "gone", META_ABSENT, NULL); /* removed before its page came */
    put_file("", "new", "N");                      /* made after its page was made */
    page("", listing, NAMES("changed", "gone", "late"));
    put_file("", "changed", "C");
    meta_put(meta, "", "late", META_ABSENT, NULL);
    page("", listing, NAMES("old", "zzz/"));
    meta_put(meta, "", "zzz", META_ABSENT, NULL);
    assert_false(meta_listed(meta, ""));
    meta_list_end(meta, "", listing);
    expect_snapshot("", "changed new old");
    assert_string_equal(etag_of("", "changed"), "C");
    assert_string_equal(etag_of("", "new"), "N");
    assert_string_equal(etag_of("", "old"), "E");
    assert_int_equal(state_of("", "gone"), META_ABSENT);
    assert_int_equal(state_of("", "late"), META_ABSENT);
    assert_int_equal(state_of("", "zzz"), META_ABSENT);
    /* The next listing is younger than all of it. */
    list("", NAMES("late", "old"));
    expect_snapshot("", "late old");
}

/* What was changed here, and forgotten while a listing is under way, must not be told by that listing. */
static void test_forgotten_within_a_listing(void **state)
{
    uint64_t listing = meta_list_begin(meta, "");

    (void)state;
    page("", listing, NAMES("a"));
    put_file("", "b", "B"); /* behind the page: the listing does not have it */
    meta_forget(meta, "", "b");
    meta_list_end(meta, "", listing);
    assert_int_not_equal(state_of("", "b"), META_ABSENT);
}

static void test_tree_forgotten_within_a_listing(void **state)
{
    uint64_t listing = meta_list_begin(meta, "d/");

    (void)state;
    page("d/", listing, NAMES("a", "b"));
    put_file("d/sub/", "x", "X");
    put_file("dd", "x", "X");
    meta_forget_tree(meta, "d/");
    page("d/", listing, NAMES("c"));
    meta_list_end(meta, "d/", listing);
    assert_false(meta_listed(meta, "d/"));
    assert_int_equal(state_of("d/", "a"), META_UNKNOWN);
    assert_int_equal(state_of("d/", "c"), META_UNKNOWN);
    assert_int_equal(state_of("d/sub/", "x"), META_UNKNOWN);
    assert_string_equal(etag_of("dd", "x"), "X");
}

/* A directory made here is empty, whatever an older listing or answer of one of the same name says. */
static void test_new_dir(void **state)
{
    uint64_t listing = meta_list_begin(meta, "d/"), since = meta_now(meta);
    size_t entries;
    bool marker;

    (void)state;
    page("d/", listing, NAMES("old"));
    meta_new_dir(meta, "d/");
    page("d/", listing, NAMES("older"));
    meta_list_end(meta, "d/", listing);
    assert_true(meta_listed(meta, "d/"));
    expect_snapshot("d/", "");
    assert_int_equal(state_of("d/", "old"), META_ABSENT);
    assert_true(meta_dir_facts(meta, "d/", &entries, &marker));
    assert_true(entries == 0 && marker);
    answer_file("d/", "old", "OLD", since);
    assert_int_equal(state_of("d/", "old"), META_ABSENT);
    put_file("d/", "x", "X");
    expect_snapshot("d/", "x");
}

static void test_give_up(void **state)
{
    uint64_t listing = meta_list_begin(meta, "");
    struct meta_result known;

    (void)state;
    page("", listing, NAMES("a"));
    meta_list_give_up(meta, "", listing, false);
    assert_false(meta_listed(meta, ""));
    meta_get(meta, "", "a", &known);
    assert_true(known.state == META_FILE && !known.dir_big);
    assert_int_equal(state_of("", "b"), META_UNKNOWN);
    listing = meta_list_begin(meta, "");
    meta_list_give_up(meta, "", listing, true);
    meta_get(meta, "", "b", &known);
    assert_true(known.state == META_UNKNOWN && known.dir_big);
    /* What comes late of a listing that was given up, or overtaken by another, says nothing. */
    page("", listing, NAMES("late"));
    meta_list_end(meta, "", listing);
    assert_false(meta_listed(meta, ""));
    assert_int_equal(state_of("", "late"), META_UNKNOWN);
    listing = meta_list_begin(meta, "");
    list("", NAMES("x"));
    page("", listing, NAMES("y"));
    meta_list_end(meta, "", listing);
    expect_snapshot("", "x");
}

/* `d` beside `d/`: the directory is shown, on one page or on two. */
static void test_file_beside_directory(void **state)
{
    uint64_t listing;

    (void)state;
    list("", NAMES("d", "d/"));
    expect_snapshot("", "d/");
    listing = meta_list_begin(meta, "");
    page("", listing, NAMES("d", "d-x"));
    page("", listing, NAMES("d/"));
    meta_list_end(meta, "", listing);
    expect_snapshot("", "d/ d-x");
    listing = meta_list_begin(meta, "");
    page("", listing, NAMES("d/"));
    page("", listing, NAMES("d"));
    meta_list_end(meta, "", listing);
    expect_snapshot("", "d/");
    list("", NAMES("d"));
    expect_snapshot("", "d");
}

static void test_no_path(void **state)
{
    char longest[258];
    uint64_t listing = meta_list_begin(meta, "p/");

    (void)state;
    assert_int_equal(page("p/", listing, NAMES("", "ok", "ok2/")), 0);
    assert_int_equal(page("p/", listing, NAMES(".")), 1);
    assert_int_equal(page("p/", listing, NAMES("..")), 1);
    assert_int_equal(page("p/", listing, NAMES("../")), 1);
    assert_int_equal(page("p/", listing, NAMES("./")), 1);
    assert_int_equal(page("p/", listing, NAMES("/")), 1);
    assert_int_equal(page("p/", listing, NAMES("/x")), 1);
    assert_int_equal(page("p/", listing, NAMES("a/b")), 1);
    assert_int_equal(page("p/", listing, NAMES("a//")), 1);
    assert_int_equal(page("p/", listing, NAMES("!x", "!q/", "!p")), 3); /* not below p/ at all */
    assert_int_equal(page("p/", listing, NAMES("...")), 0);
    memset(longest, 'l', sizeof(longest));
    longest[256] = '\0';
    assert_int_equal(page("p/", listing, NAMES(longest)), 1);
    longest[255] = '\0';
    assert_int_equal(page("p/", listing, NAMES(longest)), 0);
    meta_list_end(meta, "p/", listing);
    assert_int_equal(state_of("p/", longest), META_FILE);
    meta_put(meta, "p/", longest, META_ABSENT, NULL);
    expect_snapshot("p/", "... ok ok2/");
}

/* What a listing says of a directory's own attributes is nothing: those that are known stay. */
static void test_directory_keeps_attributes(void **state)
{
    struct oinfo *dir = info_of("D", 0, 1000, S_IFDIR | 0700);
    struct meta_result known;

    (void)state;
    meta_answer(meta, "", "d", META_DIR, dir, meta_now(meta));
    oinfo_put(dir);
    list("", NAMES("d/", "e/"));
    meta_get(meta, "", "d", &known);
    assert_non_null(known.info);
    assert_int_equal(known.info->attr.mode, S_IFDIR | 0700);
    oinfo_put(known.info);
}

/* ------------------------------------------------------------------------------------------------------ time */

static void test_expiry(void **state)
{
    struct meta_result known;

    (void)state;
    meta_free(meta);
    meta = meta_new(600, 1000);
    list("", NAMES("a", "d/"));
    answer_file("", "f", "F", meta_now(meta));
    meta_answer(meta, "", "n", META_ABSENT, NULL, meta_now(meta));
    meta_get(meta, "", "f", &known);
    assert_true(known.ttl_ms <= 600);
    oinfo_put(known.info);
    usleep(700000);
    assert_int_equal(state_of("", "a"), META_UNKNOWN);
    assert_int_equal(state_of("", "d"), META_UNKNOWN);
    assert_int_equal(state_of("", "f"), META_UNKNOWN);
    assert_int_equal(state_of("", "n"), META_UNKNOWN);
    meta_get(meta, "", "f", &known);
    assert_int_equal(known.was, META_FILE);
    meta_get(meta, "", "d", &known);
    assert_int_equal(known.was, META_DIR);
    meta_get(meta, "", "never", &known);
    assert_int_equal(known.was, META_UNKNOWN);
    assert_false(meta_listed(meta, ""));
    /* A fresh listing brings back what has not changed, and an older one begins nothing. */
    list("", NAMES("a", "f"));
    assert_int_equal(state_of("", "a"), META_FILE);
    assert_int_equal(state_of("", "d"), META_ABSENT);
}

/* With no time at all nothing is believed, but a listing can still be read once. */
static void test_no_ttl(void **state)
{
    (void)state;
    meta_free(meta);
    meta = meta_new(0, 1000);
    list("", NAMES("a"));
    put_file("", "b", "B");
    assert_int_equal(state_of("", "a"), META_UNKNOWN);
    assert_int_equal(state_of("", "b"), META_UNKNOWN);
    assert_false(meta_listed(meta, ""));
    expect_snapshot("", "a b");
}

/* ---------------------------------------------------------------------------------------------------- bounds */

/* Directories that were not used for longest go first, whole: a listing is never half. */
static void test_shedding(void **state)
{
    char dir[20], name[20];
    int left = 0;

    (void)state;
    for (int d = 0; d < 50; d++) {
        uint64_t listing;

        snprintf(dir, sizeof(dir), "d%d/", d);
        listing = meta_list_begin(meta, dir);
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof(name), "f%d", i);
            page(dir, listing, NAMES(name));
        }
        meta_list_end(meta, dir, listing);
        assert_true(meta_listed(meta, dir)); /* the one in use stays */
        state_of("d0/", "f0");               /* and so does one that is used */
    }
    for (int d = 0; d < 50; d++) {
        snprintf(dir, sizeof(dir), "d%d/", d);
        if (!meta_listed(meta, dir)) {
            assert_int_equal(state_of(dir, "f0"), META_UNKNOWN);
            assert_int_equal(state_of(dir, "none"), META_UNKNOWN);
            continue;
        }
        left++;
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof(name), "f%d", i);
            assert_int_equal(state_of(dir, name), META_FILE);
        }
    }
    assert_in_range(left, 5, 10);
    assert_true(meta_listed(meta, "d0/"));
}

static void test_one_huge_directory(void **state)
{
    uint64_t listing = meta_list_begin(meta, "");
    char name[20];

    (void)state;
    put_file("other/", "x", "X");
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        page("", listing, NAMES(name));
    }
    meta_list_end(meta, "", listing);
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(state_of("", name), META_FILE);
    }
    assert_int_equal(state_of("other/", "x"), META_UNKNOWN);
}

static void test_cold(void **state)
{
    (void)state;
    assert_int_equal(meta_count_cold(meta, "d/"), 0);
    assert_int_equal(meta_count_cold(meta, "d/"), 1);
    assert_int_equal(meta_count_cold(meta, "e/"), 0);
    list("d/", NAMES("a"));
    assert_int_equal(meta_count_cold(meta, "d/"), 0);
}

/* In advance: none at first, then more and more, each once, none that is known. */
static void test_unknown_after(void **state)
{
    static const size_t expected[] = {0, 30, 64, 64, 64, 64};
    char name[20], *names[64];
    enum meta_state states[64];
    bool seen[400] = {false};
    uint64_t listing = meta_list_begin(meta, "");
    int at = 0;

    (void)state;
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "f%03d%s", i, i % 10 == 5 ? "/" : "");
        page("", listing, NAMES(name));
    }
    assert_int_equal(meta_unknown_after(meta, "", "f000", true, names, states, 64), 0); /* not complete yet */
    meta_list_end(meta, "", listing);
    answer_file("", "f003", "E", meta_now(meta));
    meta_put(meta, "", "f004", META_ABSENT, NULL);
    assert_int_equal(meta_unknown_after(meta, "", "none", true, names, states, 64), 0);
    assert_int_equal(meta_unknown_after(meta, "", "f003", false, names, states, 64), 0); /* nobody asks yet */
    for (int round = 0; round < 6; round++) {
        size_t n;

        snprintf(name, sizeof(name), "f%03d", at);
        n = meta_unknown_after(meta, "", name, true, names, states, 64);
        assert_int_equal(n, expected[round]);
        for (size_t i = 0; i < n; i++) {
            int number = atoi(names[i] + 1);

            assert_true(number > at && !seen[number] && number != 3 && number != 4);
            assert_int_equal(states[i], number % 10 == 5 ? META_DIR : META_FILE);
            seen[number] = true;
            free(names[i]);
        }
        for (at++; seen[at] || at == 3 || at == 4; at++)
            ;
    }
    assert_int_equal(meta_unknown_after(meta, "", "f399", true, names, states, 64), 0);
}

/* Of a directory that is not listed again for a lookup what was listed is asked for all the same. */
static void test_unknown_after_long(void **state)
{
    char name[20], *names[64];
    enum meta_state states[64];
    uint64_t listing;
    size_t n;

    (void)state;
    meta_free(meta);
    meta = meta_new(600, 1000);
    listing = meta_list_begin(meta, "");
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "f%03d", i);
        page("", listing, NAMES(name));
    }
    meta_list_end(meta, "", listing);
    usleep(700000);
    assert_int_equal(meta_unknown_after(meta, "", "f010", true, names, states, 64), 0);
    assert_int_equal(meta_unknown_after(meta, "", "f011", true, names, states, 64), 0);
    meta_list_give_up(meta, "", meta_list_begin(meta, ""), true);
    assert_int_equal(meta_unknown_after(meta, "", "f012", true, names, states, 64), 0);
    n = meta_unknown_after(meta, "", "f013", true, names, states, 64);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "f%03d", (int)(14 + i));
        assert_string_equal(names[i], name);
        assert_int_equal(states[i], META_UNKNOWN);
        free(names[i]);
    }
}

/* ------------------------------------------------------------------------------------------------ all at once */

#define SHARED 30

static atomic_bool stop;

static void *list_all_the_time(void *arg)
{
    struct meta *m = arg;

    while (!atomic_load(&stop)) {
        uint64_t listing = meta_list_begin(m, "d/");
        struct meta_names names;

        page_of(m, "d/", listing, NAMES("f0", "f1", "f2", "f3", "f4", "sub/"));
        if (listing % 5)
            meta_list_end(m, "d/", listing);
        else
            meta_list_give_up(m, "d/", listing, listing % 2);
        if (!meta_snapshot(m, "d/", &names))
            meta_names_free(&names);
    }
    return NULL;
}

static void *change_all_the_time(void *arg)
{
    struct random random = {.state = (uint64_t)(uintptr_t)arg};
    struct oinfo *info = info_of("E", 10, 1000, S_IFREG | 0600);
    char name[16], *names[8];
    enum meta_state states[8];

    for (int i = 0; i < 3000; i++) {
        struct meta_result known;
        uint64_t since = meta_now(meta);
        size_t n;

        snprintf(name, sizeof(name), "f%d", (int)random_below(&random, SHARED));
        switch (random_below(&random, 8)) {
        case 0:
            meta_put(meta, "d/", name, META_FILE, info);
            break;
        case 1:
            meta_put(meta, "d/", name, META_ABSENT, NULL);
            break;
        case 2:
            meta_answer(meta, "d/", name, META_FILE, info, since);
            break;
        case 3:
            meta_forget(meta, "d/", name);
            break;
        case 4:
            n = meta_unknown_after(meta, "d/", name, true, names, states, 8);
            while (n)
                free(names[--n]);
            break;
        case 5:
            meta_touch(meta, "d/", name);
            break;
        case 6:
            if (random_one_in(&random, 10))
                meta_forget_tree(meta, "d/");
            meta_put(meta, name, "x", META_FILE, info);
            break;
        default:
            meta_get(meta, "d/", name, &known);
            oinfo_put(known.info);
        }
    }
    oinfo_put(info);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t lister, changers[3];

    (void)state;
    meta_free(meta);
    meta = meta_new(LONG_MS, 20); /* sheds all the time */
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&lister, NULL, list_all_the_time, meta), 0);
    for (uintptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&changers[i], NULL, change_all_the_time, (void *)(i + 1)), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(changers[i], NULL);
    atomic_store(&stop, true);
    pthread_join(lister, NULL);
    list("d/", NAMES("f1", "sub/"));
    list("d/", NAMES("f1", "sub/"));
    expect_snapshot("d/", "f1 sub/");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_known),
        TEST(test_etags),
        TEST(test_names),
        TEST(test_answer_and_put),
        TEST(test_touch),
        TEST(test_listing),
        TEST(test_listing_keeps_attributes),
        TEST(test_changes_within_a_listing),
        TEST(test_forgotten_within_a_listing),
        TEST(test_tree_forgotten_within_a_listing),
        TEST(test_new_dir),
        TEST(test_give_up),
        TEST(test_file_beside_directory),
        TEST(test_no_path),
        TEST(test_directory_keeps_attributes),
        TEST(test_expiry),
        TEST(test_no_ttl),
        TEST(test_shedding),
        TEST(test_one_huge_directory),
        TEST(test_cold),
        TEST(test_unknown_after),
        TEST(test_unknown_after_long),
        TEST(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
