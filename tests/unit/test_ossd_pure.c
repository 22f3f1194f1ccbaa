/*
 * The pure parts of the local server: its own CRC-64 against the vectors, its ordered map against a model, its
 * escaping and parsing. They are compiled in here, since the server has no library.
 */
#include "../ossd/crc.c"
#include "../ossd/index.c"
#include "../ossd/util.c"

#include "json.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

/* One bit at a time, as the definition says. */
static uint64_t crc_by_bits(uint64_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (; n; n--, p++) {
        crc ^= *p;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xC96C5795D7870F42u : 0);
    }
    return ~crc;
}

static void crc_lengths_and_offsets(void **state)
{
    unsigned char data[1400];
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[i] = (unsigned char)(seed >> 56);
    }
    assert_int_equal(crc_update(0, "123456789", 9), 0x995dc9bbdf1939fau);
    for (size_t n = 0; n < 1300; n++) {
        const unsigned char *p = data + n % 17;
        uint64_t want = crc_by_bits(n, p, n);
        assert_int_equal(crc_update(n, p, n), want);
        assert_int_equal(crc_update_table(n, p, n), want);
        size_t cut = n * 7 / 13;
        assert_int_equal(crc_update(crc_update(n, p, cut), p + cut, n - cut), want);
        assert_int_equal(crc_combine(crc_update(n, p, cut), crc_update(0, p + cut, n - cut), n - cut), want);
    }
}

static void crc_vectors(void **state)
{
    struct json *all = json_load("crc64.json");
    const struct json *raw = json_get(all, "combine_raw");
    const struct json *steps = json_get(json_get(all, "incremental"), "steps");
    unsigned char *pattern = xmalloc(1 << 20);

    (void)state;
    for (size_t i = 0; i < 1 << 20; i++)
        pattern[i] = (unsigned char)(31 * i + 17 * (i >> 8) + 7);
    assert_true(raw->n > 3 && steps->n > 3);
    for (size_t i = 0; i < raw->n; i++)
        assert_int_equal(crc_combine(json_u64(raw->items[i], "crc1"), json_u64(raw->items[i], "crc2"),
                                     json_u64(raw->items[i], "len2")),
                         json_u64(raw->items[i], "crc64"));
    for (size_t i = 0; i < steps->n; i++)
        assert_int_equal(crc_update(0, pattern, json_u64(steps->items[i], "bytes_so_far")),
                         json_u64(steps->items[i], "crc64"));
    free(pattern);
    json_free(all);
}

/* ----------------------------------------------------------------------------------------------- the map */

#define KEYS 600

struct entry {
    char key[8];
    size_t n;
    bool present;
};

static int entry_order(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return bytes_compare((struct bytes){x->key, x->n}, (struct bytes){y->key, y->n});
}

/* The map holds exactly the present entries, in order, and seeks as the sorted array does. */
static void compare(struct index *index, struct entry *sorted, size_t n, size_t probe)
{
    const struct index_node *node = index_seek(index, (struct bytes){"", 0}, false);
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        if (!sorted[i].present)
            continue;
        assert_non_null(node);
        assert_ptr_equal(index_value(node), &sorted[i]);
        node = index_next(node);
        count++;
    }
    assert_null(node);
    assert_int_equal(index_count(index), count);
    for (int after = 0; after < 2; after++) {
        size_t i = probe + (size_t)after;
        while (i < n && !sorted[i].present)
            i++;
        node = index_seek(index, (struct bytes){sorted[probe].key, sorted[probe].n}, after);
        assert_ptr_equal(node ? index_value(node) : NULL, i < n ? &sorted[i] : NULL);
    }
}

static void index_against_a_model(void **state)
{
    struct entry *sorted = xcalloc(KEYS, sizeof *sorted);
    struct index *index = index_new();
    uint64_t seed = 42;
    size_t n = 0;

    (void)state;
    /* All keys of up to three bytes out of eight, unsigned order included. */
    for (size_t i = 0; i < KEYS; i++) {
        static const char letters[] = "\0/a\x7f\x80z\xff~";
        struct entry *e = &sorted[n++];
        e->n = i < 8 ? 1 : i < 72 ? 2 : 3;
        for (size_t k = 0, v = i; k < e->n; k++, v /= 8)
            e->key[k] = letters[v % 8];
    }
    qsort(sorted, n, sizeof *sorted, entry_order);
    for (size_t i = 1; i < n; i++) /* no key twice */
        if (entry_order(&sorted[i - 1], &sorted[i]) == 0)
            memmove(&sorted[i], &sorted[i + 1], (--n - i) * sizeof *sorted), i--;
    for (int turn = 0; turn < 4000; turn++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        struct entry *e = &sorted[(seed >> 33) % n];
        struct bytes key = {e->key, e->n};
        void *was = e->present ? e : NULL;
        assert_ptr_equal(index_find(index, key), was);
        if (seed >> 60 < 9) {
            assert_ptr_equal(index_put(index, key, e), was);
            e->present = true;
        } else {
            assert_ptr_equal(index_remove(index, key), was);
            e->present = false;
        }
        if (turn % 16 == 0)
            compare(index, sorted, n, (seed >> 20) % n);
    }
    index_free(index);
    free(sorted);
}

/* ------------------------------------------------------------------------------------------------- texts */

static void escapes(void **state)
{
    char all[256];
    struct sbuf out = {0}, back = {0};

    (void)state;
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    escape_url(&out, (struct bytes){all, 256}, false);
    assert_non_null(strstr(out.p, "%2F"));
    assert_null(strchr(out.p, '/'));
    assert_true(unescape_url(&back, (struct bytes){out.p, out.n}));
    assert_int_equal(back.n, 256);
    assert_memory_equal(back.p, all, 256);
    for (const char *const *p = (const char *const[]){"%", "%1", "%zz", "a%4", NULL}; *p; p++) {
        back.n = 0;
        assert_false(unescape_url(&back, (struct bytes){*p, strlen(*p)}));
        assert_int_equal(strlen(back.p), back.n); /* what was read so far is a string */
    }
    sbuf_free(&out);
    escape_xml(&out, (struct bytes){"<&>\"\x01", 5});
    assert_string_equal(out.p, "&lt;&amp;&gt;&quot;&#x1;");
    sbuf_free(&out);
    escape_json(&out, (struct bytes){"a\"\\\n\xff", 5});
    assert_string_equal(out.p, "\"a\\\"\\\\\\u000a\\u00ff\"");
    sbuf_free(&out);
    sbuf_free(&back);
}

static void utf8(void **state)
{
    static const char *const good[] = {"",  "abc", "\xc2\x80", "\xe7\x9b\xae", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf",
                                       NULL};
    static const char *const bad[] = {"\x80",
                                      "\xc2",
                                      "\xc0\xaf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xe7\x9b",
                                      "a\xe7z\xae",
                                      NULL};

    (void)state;
    for (int i = 0; good[i]; i++)
        assert_true(utf8_valid((struct bytes){good[i], strlen(good[i])}));
    for (int i = 0; bad[i]; i++)
        assert_false(utf8_valid((struct bytes){bad[i], strlen(bad[i])}));
}

static void numbers_dates_base64(void **state)
{
    char text[DATE_SIZE];
    unsigned char bytes[16];
    uint64_t v;
    time_t t = 0;

    (void)state;
    assert_true(parse_u64("18446744073709551615", &v) && v == UINT64_MAX);
    assert_false(parse_u64("18446744073709551616", &v));
    assert_false(parse_u64("", &v) || parse_u64("-1", &v) || parse_u64("1 ", &v) || parse_u64("+1", &v));
    assert_true(date_parse_http("Wed, 22 Feb 2012 08:32:21 GMT", &t) && t == 1329899541);
    date_http(text, t);
    assert_string_equal(text, "Wed, 22 Feb 2012 08:32:21 GMT");
    date_iso(text, t);
    assert_string_equal(text, "2012-02-22T08:32:21.000Z");
    assert_true(date_parse_compact("20120222T083221Z", &t) && t == 1329899541);
    assert_false(date_parse_compact("20120222T083221", &t) || date_parse_http("yesterday", &t));
    assert_int_equal(base64_decode(bytes, 16, "eB5eJF1ptWaXm4bijSPyxw=="), 16);
    assert_int_equal(base64_decode(bytes, 16, "eB5eJF1ptWaXm4bijSPyxw"), -1);
    assert_int_equal(base64_decode(bytes, 15, "eB5eJF1ptWaXm4bijSPyxw=="), -1);
    assert_int_equal(base64_decode(bytes, 16, ""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_lengths_and_offsets),
        cmocka_unit_test(crc_vectors),
        cmocka_unit_test(index_against_a_model),
        cmocka_unit_test(escapes),
        cmocka_unit_test(utf8),
        cmocka_unit_test(numbers_dates_base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
