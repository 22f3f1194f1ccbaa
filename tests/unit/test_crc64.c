/*
 * The checksum against the vectors, against a bit-by-bit form, and the carry-less form against the table.
 */
#include "../../oss/crc64.h"
#include "json.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1u << 20)

static unsigned char *pattern(size_t offset, size_t n)
{
    unsigned char *p = malloc(n + 1);

    assert_non_null(p);
    for (size_t k = 0; k < n; k++) {
        const size_t i = offset + k;

        p[k] = (unsigned char)(31 * i + 17 * (i >> 8) + 7);
    }
    return p;
}

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* The bytes that a vector describes; malloc'ed. */
static unsigned char *vector_data(const struct json *data, size_t *n)
{
    const char *kind = json_str(data, "kind");
    const char *text = json_str(data, "value");
    unsigned char *p;

    if (!strcmp(kind, "ascii") || !strcmp(kind, "utf8")) {
        *n = json_get(data, "value")->len;
        p = malloc(*n + 1);
        memcpy(p, text, *n);
    } else if (!strcmp(kind, "hex") || !strcmp(kind, "repeat_hex")) {
        const size_t times = kind[0] == 'r' ? (size_t)json_int(data, "times") : 1;
        const size_t unit = strlen(text) / 2;

        *n = unit * times;
        p = malloc(*n + 1);
        for (size_t i = 0; i < *n; i++)
            p[i] = (unsigned char)(hex(text[i % unit * 2]) << 4 | hex(text[i % unit * 2 + 1]));
    } else if (!strcmp(kind, "lcg")) {
        uint64_t x = json_u64(data, "seed");

        *n = (size_t)json_int(data, "n");
        p = malloc(*n + 1);
        for (size_t i = 0; i < *n; i++) {
            x = (x * 1103515245 + 12345) & 0x7fffffff;
            p[i] = (unsigned char)(x >> 16);
        }
    } else {
        assert_string_equal(kind, "formula");
        *n = (size_t)json_int(data, "n");
        if (!strcmp(json_str(data, "formula"), "byte[i] = i")) {
            p = malloc(*n + 1);
            for (size_t i = 0; i < *n; i++)
                p[i] = (unsigned char)i;
        } else {
            p = pattern(json_get(data, "offset") ? (size_t)json_int(data, "offset") : 0, *n);
        }
    }
    assert_non_null(p);
    return p;
}

static void test_single(void **state)
{
    struct json *j = json_load("crc64.json");
    const struct json *cases = json_get(j, "single");

    (void)state;
    assert_int_equal(cases->n, 14);
    for (size_t i = 0; i < cases->n; i++) {
        const struct json *c = cases->items[i];
        size_t n;
        unsigned char *data = vector_data(json_get(c, "data"), &n);
        char text[17];

        assert_int_equal(n, json_int(c, "length"));
        assert_int_equal(crc64(0, data, n), json_u64(c, "crc64"));
        assert_int_equal(crc64_table(0, data, n), json_u64(c, "crc64"));
        snprintf(text, sizeof text, "%016llx", (unsigned long long)crc64(0, data, n));
        assert_string_equal(text, json_str(c, "crc64_hex"));
        free(data);
    }
    json_free(j);
}

static void test_running(void **state)
{
    struct json *j = json_load("crc64.json");
    const struct json *steps = json_get(json_get(j, "incremental"), "steps");
    const struct json *cont = json_get(json_get(j, "continue_from"), "cases");
    unsigned char *data = pattern(0, MIB);
    uint64_t crc = 0;
    size_t at = 0;

    (void)state;
    assert_int_equal(steps->n, 8);
    for (size_t i = 0; i < steps->n; i++) {
        const size_t to = (size_t)json_int(steps->items[i], "bytes_so_far");

        crc = crc64(crc, data + at, to - at);
        at = to;
        assert_int_equal(crc, json_u64(steps->items[i], "crc64"));
    }
    assert_int_equal(cont->n, 4);
    for (size_t i = 0; i < cont->n; i++) {
        const struct json *c = cont->items[i];
        const size_t first = (size_t)json_int(c, "first_bytes"), rest = (size_t)json_int(c, "rest_bytes");

        assert_int_equal(crc64(0, data, first), json_u64(c, "crc_first"));
        assert_int_equal(crc64(json_u64(c, "crc_first"), data + first, rest), json_u64(c, "crc_after_rest"));
    }
    free(data);
    json_free(j);
}

static void test_combine(void **state)
{
    struct json *j = json_load("crc64.json");
    const struct json *combine = json_get(j, "combine"), *raw = json_get(j, "combine_raw");

    (void)state;
    assert_int_equal(combine->n, 7);
    for (size_t i = 0; i < combine->n; i++) {
        const struct json *c = combine->items[i], *parts = json_get(c, "parts"), *running = json_get(c, "running");
        uint64_t crc = 0, total = 0;

        for (size_t k = 0; k < parts->n; k++) {
            const struct json *part = parts->items[k];
            size_t n;
            unsigned char *data = vector_data(json_get(part, "data"), &n);

            assert_int_equal(n, json_int(part, "size"));
            assert_int_equal(crc64(0, data, n), json_u64(part, "crc64"));
            crc = crc64_combine(crc, json_u64(part, "crc64"), n);
            assert_int_equal(crc, strtoull(running->items[k]->text, NULL, 10));
            total += n;
            free(data);
        }
        assert_int_equal(crc, json_u64(c, "crc64"));
        assert_int_equal(total, json_int(c, "total"));
    }
    assert_int_equal(raw->n, 6);
    for (size_t i = 0; i < raw->n; i++) {
        const struct json *c = raw->items[i];

        assert_int_equal(crc64_combine(json_u64(c, "crc1"), json_u64(c, "crc2"), json_u64(c, "len2")),
                         json_u64(c, "crc64"));
    }
    json_free(j);
}

/* The definition, one bit at a time. */
static uint64_t by_bits(uint64_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? UINT64_C(0xc96c5795d7870f42) : 0);
    }
    return ~crc;
}

/* Every length to 700 (all branches of the folding loops several times over) at each of 16 alignments. */
static void test_lengths_and_alignments(void **state)
{
    static unsigned char data[700 + 64];
    struct random random = {.state = 64};

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)random_u64(&random);
    for (size_t n = 0; n <= 700; n++) {
        for (size_t shift = 0; shift < 16; shift++) {
            const uint64_t start = random_u64(&random), want = crc64_table(start, data + shift, n);

            assert_int_equal(crc64(start, data + shift, n), want);
            if (shift == n % 16)
                assert_int_equal(by_bits(start, data + shift, n), want);
        }
    }
}

/* A copy on the heap that ends where the data ends: the sanitizer sees a read beyond it. */
static void test_reads_nothing_beyond(void **state)
{
    (void)state;
    for (size_t n = 0; n < 300; n++) {
        unsigned char *data = malloc(n);

        memset(data, (int)n, n);
        assert_int_equal(crc64(0, data, n), crc64_table(0, data, n));
        free(data);
    }
}

static void test_replace(void **state)
{
    struct random random = {.state = 7};
    static unsigned char data[20000], part[5000];

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)random_u64(&random);
    for (int round = 0; round < 200; round++) {
        const uint64_t whole = crc64(0, data, sizeof data);
        const size_t n = random_below(&random, sizeof part + 1), at = random_below(&random, sizeof data - n + 1);
        const uint64_t was = crc64(0, data + at, n);

        for (size_t i = 0; i < n; i++)
            part[i] = (unsigned char)random_u64(&random);
        memcpy(data + at, part, n);
        assert_int_equal(crc64_replace(whole, was, crc64(0, part, n), sizeof data - at - n),
                         crc64(0, data, sizeof data));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_combine),
        cmocka_unit_test(test_lengths_and_alignments),
        cmocka_unit_test(test_reads_nothing_beyond),
        cmocka_unit_test(test_replace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
