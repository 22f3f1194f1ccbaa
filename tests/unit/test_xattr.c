/* Extended attributes in object headers: both forms, flags, limits, and headers that somebody else filled. */
#include "../../cache/attr.h"
#include "random.h"

#include <errno.h>
#include <linux/limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include <cmocka.h>

#define JSON "x-oss-meta-xattr"

static void expect(const struct kvlist *h, const char *name, const void *value, size_t size)
{
    char *got = NULL;
    ssize_t n = xattr_get(h, name, &got);

    if (n != (ssize_t)size)
        fail_msg("%s has %zd bytes, expected %zu", name, n, size);
    assert_memory_equal(got, value, size);
    assert_int_equal(got[size], '\0');
    free(got);
}

static void expect_none(const struct kvlist *h, const char *name)
{
    char *got = NULL;

    assert_int_equal(xattr_get(h, name, &got), -ENODATA);
    assert_null(got);
}

/* How often `name` is listed. */
static int listed(const struct kvlist *h, const char *name)
{
    char *names = NULL;
    ssize_t n = xattr_list(h, &names);
    int times = 0;

    assert_true(n >= 0);
    for (const char *p = names; p && p < names + n; p += strlen(p) + 1)
        times += !strcmp(p, name);
    assert_true(n == 0 || names[n - 1] == '\0');
    free(names);
    return times;
}

static ssize_t list_size(const struct kvlist *h)
{
    char *names = NULL;
    ssize_t n = xattr_list(h, &names);

    free(names);
    return n;
}

static int set(struct kvlist *h, const char *name, const char *value)
{
    return xattr_set(h, name, value, strlen(value), 0);
}

/* What a header can carry is a header, so that other tools see it; the rest is in the JSON. */
static void test_two_forms(void **state)
{
    static const struct {
        const char *name, *value;
        bool plain;
    } table[] = {
        {"user.color", "red", true},
        {"user.a-1", "x y", true},
        {"user.z", "~!@#$%^&*(){}\"'\\", true},
        {"user.Hue", "red", false},
        {"user.a_b", "v", false},
        {"user.a.b", "v", false},
        {"user.na\xc3\xafve", "v", false},
        {"user.empty", "", false},
        {"user.lead", " v", false},
        {"user.trail", "v ", false},
        {"user.line", "a\nb", false},
        {"user.nine", "\t", false},
        {"user.high", "\xc3\xa9", false},
        {"user.del", "\x7f", false},
        /* The attributes' own headers are not to be had. */
        {"user.mode", "33188", false},
        {"user.uid", "0", false},
        {"user.gid", "0", false},
        {"user.mtime", "1", false},
        {"user.mtime-ns", "1-1", false},
        {"user.xattr", "{}", false},
        {"user.\"\\\x01", "v", false},
    };
    struct kvlist h = {0};
    size_t n = sizeof(table) / sizeof(*table);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        char header[100];
        bool is_header;

        assert_int_equal(set(&h, table[i].name, table[i].value), 0);
        snprintf(header, sizeof(header), "x-oss-meta-%s", table[i].name + 5);
        is_header = strcmp(header, JSON) && kv_get(&h, header);
        if (is_header != table[i].plain)
            fail_msg("%s: a header of its own: %d", table[i].name, is_header);
    }
    for (size_t i = 0; i < n; i++) {
        expect(&h, table[i].name, table[i].value, strlen(table[i].value));
        assert_int_equal(listed(&h, table[i].name), 1);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(xattr_remove(&h, table[i].name), 0);
        assert_int_equal(xattr_remove(&h, table[i].name), -ENODATA);
        expect_none(&h, table[i].name);
        assert_int_equal(listed(&h, table[i].name), 0);
    }
    assert_int_equal(h.n, 0);
    assert_int_equal(list_size(&h), 0);
    kv_free(&h);
}

static void test_changes_form(void **state)
{
    struct kvlist h = {0};
    static const char binary[] = {0, 1, 2, 0, (char)255};

    (void)state;
    assert_int_equal(set(&h, "user.color", "red"), 0);
    assert_non_null(kv_get(&h, "x-oss-meta-color"));
    assert_int_equal(xattr_set(&h, "user.color", binary, sizeof(binary), 0), 0);
    assert_null(kv_get(&h, "x-oss-meta-color"));
    expect(&h, "user.color", binary, sizeof(binary));
    assert_int_equal(listed(&h, "user.color"), 1);
    assert_int_equal(set(&h, "user.color", "blue"), 0);
    assert_null(kv_get(&h, JSON));
    expect(&h, "user.color", "blue", 4);
    assert_int_equal(listed(&h, "user.color"), 1);
    kv_free(&h);
}

static void test_flags(void **state)
{
    static const char *const values[] = {"plain", "not\nplain"};
    struct kvlist h = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *v = values[i];

        assert_int_equal(xattr_set(&h, "user.f", v, strlen(v), XATTR_REPLACE), -ENODATA);
        expect_none(&h, "user.f");
        assert_int_equal(xattr_set(&h, "user.f", v, strlen(v), XATTR_CREATE), 0);
        assert_int_equal(xattr_set(&h, "user.f", "other", 5, XATTR_CREATE), -EEXIST);
        expect(&h, "user.f", v, strlen(v));
        assert_int_equal(xattr_set(&h, "user.f", "other", 5, XATTR_REPLACE), 0);
        expect(&h, "user.f", "other", 5);
        assert_int_equal(xattr_remove(&h, "user.f"), 0);
    }
    assert_int_equal(set(&h, "trusted.x", "v"), -EOPNOTSUPP);
    assert_int_equal(set(&h, "security.capability", "v"), -EOPNOTSUPP);
    assert_int_equal(set(&h, "system.posix_acl_access", "v"), -EOPNOTSUPP);
    assert_int_equal(set(&h, "usercolor", "v"), -EOPNOTSUPP);
    assert_true(set(&h, "user.", "v") < 0); /* no name at all: what is not kept must not be taken */
    assert_int_equal(h.n, 0);
    kv_free(&h);
}

/* A set that does not fit leaves all as it was. */
static void test_limit(void **state)
{
    static char big[OSS_META_MAX * 2];
    struct kvlist h = {0}, before = {0};
    size_t fits = 0;

    (void)state;
    memset(big, 'v', sizeof(big));
    assert_int_equal(set(&h, "user.color", "red"), 0);
    assert_int_equal(xattr_set(&h, "user.Json", "\n", 1, 0), 0);
    assert_int_equal(kv_copy(&before, &h), 0);
    assert_int_equal(xattr_set(&h, "user.big", big, sizeof(big), 0), -ENOSPC);
    assert_int_equal(xattr_set(&h, "user.Big", big, sizeof(big), 0), -ENOSPC);
    assert_int_equal(xattr_set(&h, "user.color", big, sizeof(big), 0), -ENOSPC);
    assert_true(kv_equal(&h, &before));
    for (size_t n = 6000; n < OSS_META_MAX; n++) {
        int r = xattr_set(&h, "user.big", big, n, 0);

        assert_true(r == 0 || r == -ENOSPC);
        if (r == 0)
            fits = n;
        expect(&h, "user.big", big, fits);
    }
    /* Room is left for mode, owner and times. */
    assert_in_range(fits, OSS_META_MAX - 400, OSS_META_MAX - 200);
    kv_free(&h);
    kv_free(&before);
}

static void test_many(void **state)
{
    struct kvlist h = {0};
    char name[40];
    int n = 0, r = 0;

    (void)state;
    while (!r) {
        snprintf(name, sizeof(name), "user.Many%d", n);
        r = xattr_set(&h, name, &n, sizeof(n), 0);
        n += r == 0;
    }
    assert_int_equal(r, -ENOSPC);
    assert_true(n > 100);
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "user.Many%d", i);
        expect(&h, name, &i, sizeof(i));
        assert_int_equal(listed(&h, name), 1);
    }
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "user.Many%d", i);
        assert_int_equal(xattr_remove(&h, name), 0);
    }
    assert_int_equal(h.n, 0);
    kv_free(&h);
}

/* The longest name that the kernel passes on: XATTR_NAME_MAX bytes with its prefix. What is set is listed. */
static void test_long_names(void **state)
{
    struct kvlist h = {0};
    char name[257];

    (void)state;
    for (size_t n = 200; n <= XATTR_NAME_MAX; n++) {
        memset(name, 'n', sizeof(name));
        memcpy(name, "user.", 5);
        name[n] = '\0';
        assert_int_equal(set(&h, name, "v"), 0);
        expect(&h, name, "v", 1);
        if (listed(&h, name) != 1)
            fail_msg("a name of %zu bytes is set, and not listed", n);
        assert_int_equal(xattr_remove(&h, name), 0);
    }
    kv_free(&h);
}

/* As ossfs writes it: the JSON, URL-escaped, base64 values. */
static void test_ossfs_form(void **state)
{
    struct kvlist h = {0};

    (void)state;
    assert_int_equal(kv_set(&h, JSON,
                            "%7B%22user.Name%22%3A%22dmFsdWU%3D%22%2C%22user.two%22%3A%22AAEC%22%2C%22user.e%22%3A"
                            "%22%22%7D"),
                     0);
    expect(&h, "user.Name", "value", 5);
    expect(&h, "user.two", "\0\1\2", 3);
    expect(&h, "user.e", "", 0);
    kv_free(&h);
    /* With blanks, unescaped, lower-case escapes. */
    assert_int_equal(kv_set(&h, JSON, " { \"user.a\\u0041\\/\" : \"dmFsdWU=\" ,\t\"user.b\":\"%62WE=\" } "), 0);
    expect(&h, "user.aA/", "value", 5);
    expect(&h, "user.b", "ma", 2);
    kv_free(&h);
    /* And what we write, ours read; the header holds no byte that a header cannot. */
    assert_int_equal(xattr_set(&h, "user.\"q\\\xc3\xa9\x02", "v\r\n", 3, 0), 0);
    for (const char *c = kv_get(&h, JSON); *c; c++)
        assert_true(*c > ' ' && *c <= '~');
    expect(&h, "user.\"q\\\xc3\xa9\x02", "v\r\n", 3);
    kv_free(&h);
}

static const char *const hostile[] = {
    "",
    " ",
    "{",
    "}",
    "{}",
    "{{",
    "[]",
    "null",
    "{\"",
    "{\"user.a",
    "{\"user.a\"",
    "{\"user.a\":",
    "{\"user.a\":}",
    "{\"user.a\":1}",
    "{\"user.a\":\"",
    "{\"user.a\":\"dg==",
    "{\"user.a\":{\"user.b\":\"dg==\"}}",
    "{\"user.a\":\"!!!!\"}",
    "{\"user.a\":\"d\"}",
    "{\"user.a\":\"====\"}",
    "{\"user.a\\",
    "{\"user.a\\u",
    "{\"user.a\\u00",
    "{\"user.a\\u0\":\"dg==\"}",
    "{\"user.a\\ud800\":\"dg==\"}",
    "{\"user.a\\x\":\"dg==\"}",
    "{,}",
    "{\"user.a\":\"dg==\",}",
    "{\"user.a\":\"dg==\",,\"user.b\":\"dg==\"}",
    "{\"user.a\":\"dg==\"",
    "%",
    "%7",
    "%7B%",
    "%00",
    "%7B%00%22",
    "{\"user.a%00b\":\"dg==\"}",
    "{\"\":\"dg==\"}",
    "{\"\\u0000\":\"dg==\"}",
    "{\"user.\\u0000x\":\"dg==\"}",
    "{\"trusted.a\":\"dg==\"}",
    "{\"security.capability\":\"AQAAAg==\"}",
    "{\"user.a\":\"dg==\",\"user.a\":\"dw==\"}",
};

/* Names that a program may meet: user.*, not empty, no two alike. */
static void check_names(const struct kvlist *h, const char *what)
{
    char *names = NULL, *value = NULL;
    ssize_t n = xattr_list(h, &names);

    if (n < 0)
        fail_msg("%s: listing fails: %s", what, strerror((int)-n));
    for (const char *p = names; p && p < names + n; p += strlen(p) + 1) {
        if (strncmp(p, "user.", 5) || !p[5])
            fail_msg("%s: lists \"%s\"", what, p);
        if (xattr_get(h, p, &value) < 0)
            fail_msg("%s: lists %s, which is not there", what, p);
        free(value);
        for (const char *q = p + strlen(p) + 1; q < names + n; q += strlen(q) + 1)
            if (!strcmp(p, q))
                fail_msg("%s: lists %s twice", what, p);
    }
    free(names);
}

/* Whatever is in the header: it costs nothing but itself, and the next set and remove do what they say. */
static void test_hostile_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
        struct kvlist h = {0};

        assert_int_equal(kv_set(&h, JSON, hostile[i]), 0);
        assert_int_equal(kv_set(&h, "x-oss-meta-color", "red"), 0);
        expect(&h, "user.color", "red", 3);
        check_names(&h, hostile[i]);
        assert_int_equal(set(&h, "user.a", "new\n"), 0);
        expect(&h, "user.a", "new\n", 4);
        check_names(&h, hostile[i]);
        assert_int_equal(xattr_remove(&h, "user.a"), 0);
        expect_none(&h, "user.a");
        kv_free(&h);
    }
}

/* The same attribute in both forms, as two tools may leave it: one of them counts, and removing removes it. */
static void test_both_forms_at_once(void **state)
{
    struct kvlist h = {0};

    (void)state;
    assert_int_equal(kv_set(&h, JSON, "{\"user.color\":\"Ymx1ZQ==\"}"), 0);
    assert_int_equal(kv_set(&h, "x-oss-meta-color", "red"), 0);
    expect(&h, "user.color", "red", 3);
    check_names(&h, "both forms");
    assert_int_equal(xattr_remove(&h, "user.color"), 0);
    expect_none(&h, "user.color");
    kv_free(&h);
}

/* A header beyond what the service stores: no crash, and what fails says so. */
static void test_huge_json(void **state)
{
    size_t n = 4 * OSS_META_MAX;
    char *text = malloc(n + 1), *value = NULL, *names = NULL;
    struct kvlist h = {0};
    ssize_t r;

    (void)state;
    memset(text, 'A', n);
    text[n] = '\0';
    memcpy(text, "{\"user.a\":\"", 11);
    assert_int_equal(kv_set(&h, JSON, text), 0);
    assert_int_equal(kv_set(&h, "x-oss-meta-color", "red"), 0);
    r = xattr_get(&h, "user.a", &value);
    assert_true(r < 0 && !value);
    expect(&h, "user.color", "red", 3);
    r = xattr_list(&h, &names);
    assert_true(r >= 0 || r == -E2BIG || r == -ENOSPC);
    free(names);
    kv_free(&h);
    free(text);
}

/* Names and values of any bytes, against a model. */
static void test_random(void **state)
{
    struct random random = {.state = 42};
    struct {
        char name[12], value[40];
        size_t size;
        bool there;
    } model[8] = {0};
    struct kvlist h = {0};

    (void)state;
    for (int i = 0; i < 8; i++) {
        strcpy(model[i].name, "user.");
        for (int j = 0; j < 3; j++)
            model[i].name[5 + j] =
                (char)(i < 4 ? 'a' + (int)random_below(&random, 26) : (int)random_between(&random, 1, 255));
        model[i].name[8] = (char)('0' + i);
    }
    for (int step = 0; step < 4000; step++) {
        int i = (int)random_below(&random, 8), r;

        if (random_one_in(&random, 4)) {
            r = xattr_remove(&h, model[i].name);
            assert_int_equal(r, model[i].there ? 0 : -ENODATA);
            model[i].there = false;
        } else {
            model[i].size = random_below(&random, sizeof(model[i].value));
            for (size_t k = 0; k < model[i].size; k++)
                model[i].value[k] = (char)(step % 2 ? random_between(&random, '!', '~') : random_below(&random, 256));
            assert_int_equal(xattr_set(&h, model[i].name, model[i].value, model[i].size, 0), 0);
            model[i].there = true;
        }
        for (int k = 0; k < 8; k++) {
            if (model[k].there)
                expect(&h, model[k].name, model[k].value, model[k].size);
            else
                expect_none(&h, model[k].name);
            assert_int_equal(listed(&h, model[k].name), model[k].there);
        }
    }
    kv_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_forms),
        cmocka_unit_test(test_changes_form),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_ossfs_form),
        cmocka_unit_test(test_hostile_json),
        cmocka_unit_test(test_both_forms_at_once),
        cmocka_unit_test(test_huge_json),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
