/* What a person, a script or Prometheus reads: numbers, names that may hold anything, durations that are typed. */
#include "../../fs/format.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void bytes(void **state)
{
    static const struct {
        uint64_t n;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {1024 * 1000, "1000 KiB"},
        {1024 * 1024 - 1, "1.0 MiB"},
        {UINT64_C(10) << 30, "10.0 GiB"},
        {UINT64_C(2000) << 40, "2000 TiB"},
        {UINT64_MAX, "16777216 TiB"},
    };
    char out[FORMAT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_string_equal(format_bytes(out, cases[i].n), cases[i].text);
}

static void durations(void **state)
{
    char out[FORMAT_SIZE];

    (void)state;
    assert_string_equal(format_duration(out, -5), "0 s");
    assert_string_equal(format_duration(out, 59999), "59 s");
    assert_string_equal(format_duration(out, 145000), "2 min 25 s");
    assert_string_equal(format_duration(out, 11520000), "3 h 12 min");
    assert_string_equal(format_duration(out, INT64_C(86400000) * 4 + 3600000), "4 d 1 h");
    assert_string_equal(format_latency(out, 12.4), "12 ms");
    assert_string_equal(format_latency(out, 3400), "3.4 s");
}

static void typed_durations(void **state)
{
    static const char *const bad[] = {"", "0", "0d", "d", "7w", "7dd", "-7d", "1.5h", " 7d", "9999999999999"};
    int64_t n = 0;

    (void)state;
    assert_int_equal(format_read_duration("90", &n), 0);
    assert_int_equal(n, 90);
    assert_int_equal(format_read_duration("15m", &n), 0);
    assert_int_equal(n, 900);
    assert_int_equal(format_read_duration("12h", &n), 0);
    assert_int_equal(n, 43200);
    assert_int_equal(format_read_duration("7d", &n), 0);
    assert_int_equal(n, 604800);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(format_read_duration(bad[i], &n), -EINVAL);
}

/* What `add` makes of `text`. */
static void is(void (*add)(struct buf *, const char *), const char *text, const char *wanted)
{
    struct buf b = BUF_INIT(1000);

    add(&b, text);
    assert_string_equal(buf_str(&b), wanted);
    buf_free(&b);
}

static void json(void **state)
{
    (void)state;
    is(format_json, "a\"b\\c", "\"a\\\"b\\\\c\"");
    is(format_json, "\n\x01\x7f", "\"\\u000a\\u0001\\u007f\"");
    is(format_json, "\xc3\xa9 \xf0\x9f\x98\x80", "\"\xc3\xa9 \xf0\x9f\x98\x80\"");
    /* Broken, written too long, a surrogate, beyond the last character, cut off. */
    is(format_json, "\xff", "\"\\ufffd\"");
    is(format_json, "\xc0\x80", "\"\\ufffd\\ufffd\"");
    is(format_json, "\xe0\x80\x80", "\"\\ufffd\\ufffd\\ufffd\"");
    is(format_json, "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
    is(format_json, "\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
    is(format_json, "\xe2\x82", "\"\\ufffd\\ufffd\"");
}

static void label(void **state)
{
    (void)state;
    is(format_label, "/mnt/a\"b\\c\nd\x1b\xff", "/mnt/a\\\"b\\\\c\\nd\xef\xbf\xbd\xef\xbf\xbd");
}

static void name_is(const char *name, unsigned columns, int pad, const char *wanted)
{
    struct buf b = BUF_INIT(1000);

    format_name(&b, name, columns, pad);
    assert_string_equal(buf_str(&b), wanted);
    buf_free(&b);
}

static void names(void **state)
{
    (void)state;
    name_is("a/b", 0, 0, "a/b");
    name_is("a/b", 6, 1, "a/b   ");
    name_is("a\x1b[31m\n", 0, 0, "a\\x1b[31m\\x0a");
    name_is("\xc2\x9b", 0, 0, "\\xc2\\x9b"); /* a control character that is two bytes long */
    name_is("\xff", 0, 0, "\\xff");
    name_is("0123456789", 8, 1, "...56789");
    name_is("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 4, 1, "...\xc3\xa9");
    name_is("0123456789", 2, 1, "89");
    /* An escape that would be cut through is left out whole. */
    name_is("ab\x01", 6, 1, "ab\\x01");
    name_is("abcdefg\x01", 6, 1, "...   ");
}

static void bars(void **state)
{
    static const struct {
        uint64_t done, total;
        const char *bar;
    } cases[] = {
        {0, 10, "[----]"},  {5, 10, "[##--]"},  {9, 10, "[###-]"},
        {10, 10, "[####]"}, {11, 10, "[####]"}, {0, 0, "[####]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct buf b = BUF_INIT(100);

        format_bar(&b, cases[i].done, cases[i].total, 4);
        assert_string_equal(buf_str(&b), cases[i].bar);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes), cmocka_unit_test(durations), cmocka_unit_test(typed_durations),
        cmocka_unit_test(json),  cmocka_unit_test(label),     cmocka_unit_test(names),
        cmocka_unit_test(bars),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
