/*
 * The growable buffer: contents, the maximum, the sticky error.
 */
#include "../../oss/base_buf.h"
#include "random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_add(void **state)
{
    struct buf b = BUF_INIT(1000);

    (void)state;
    assert_string_equal(buf_str(&b), "");
    assert_null(b.data);
    assert_int_equal(buf_add(&b, "a\0b", 3), 0);
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "a\0b", 4);
    assert_int_equal(buf_adds(&b, "cd"), 0);
    assert_int_equal(buf_addf(&b, "%d-%s", 42, "x"), 0);
    assert_memory_equal(b.data, "a\0bcd42-x", 10);
    assert_int_equal(buf_add(&b, NULL, 0), 0);
    buf_reset(&b);
    assert_string_equal(buf_str(&b), "");
    assert_int_equal(buf_adds(&b, "again"), 0);
    assert_string_equal(b.data, "again");
    buf_free(&b);
    assert_null(b.data);
    assert_int_equal(b.max, 1000);
    assert_int_equal(buf_adds(&b, "used again"), 0);
    buf_free(&b);
    buf_free(&b);
}

/* An empty piece makes a C string of an empty buffer. */
static void test_empty_piece(void **state)
{
    struct buf b = BUF_INIT(10);

    (void)state;
    assert_int_equal(buf_adds(&b, ""), 0);
    assert_non_null(b.data);
    assert_string_equal(b.data, "");
    buf_free(&b);
}

static void test_maximum(void **state)
{
    for (size_t max = 0; max < 200; max++) {
        struct buf b;

        (void)state;
        buf_init(&b, max);
        for (size_t i = 0; i < max; i++)
            assert_int_equal(buf_add(&b, "x", 1), 0);
        assert_int_equal(b.len, max);
        assert_true(b.size <= max + 1);
        assert_int_equal(buf_add(&b, "", 0), 0);
        assert_int_equal(buf_add(&b, "y", 1), -ENOSPC);
        assert_int_equal(b.len, max);
        /* The error stays, whatever is added. */
        assert_int_equal(buf_add(&b, "", 0), -ENOSPC);
        assert_int_equal(buf_adds(&b, ""), -ENOSPC);
        assert_int_equal(buf_addf(&b, "%s", ""), -ENOSPC);
        assert_int_equal(b.err, -ENOSPC);
        buf_reset(&b);
        assert_int_equal(b.err, 0);
        if (max)
            assert_int_equal(buf_addf(&b, "%*s", (int)max, ""), 0);
        assert_int_equal(buf_addf(&b, "%*s", 300, ""), -ENOSPC);
        assert_int_equal(b.len, max);
        buf_free(&b);
    }
}

static void test_sizes_that_overflow(void **state)
{
    struct buf b = BUF_INIT(SIZE_MAX);

    (void)state;
    assert_int_equal(buf_adds(&b, "abc"), 0);
    assert_int_equal(buf_add(&b, "x", SIZE_MAX), -ENOSPC);
    assert_int_equal(b.len, 3);
    buf_reset(&b);
    assert_int_equal(buf_adds(&b, "abc"), 0);
    assert_int_equal(buf_add(&b, "x", SIZE_MAX - 3), -ENOSPC);
    buf_free(&b);
}

static void test_long_format(void **state)
{
    struct buf b = BUF_INIT(100000);
    char text[5000];

    (void)state;
    for (int n = 250; n < 260; n++) {
        memset(text, 'a' + n % 26, (size_t)n);
        text[n] = '\0';
        buf_reset(&b);
        assert_int_equal(buf_adds(&b, "<"), 0);
        assert_int_equal(buf_addf(&b, "%s", text), 0);
        assert_int_equal(b.len, n + 1);
        assert_string_equal(b.data + 1, text);
    }
    memset(text, 'z', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 20; i++)
        assert_int_equal(buf_addf(&b, "%s", text), i < 19 ? 0 : -ENOSPC);
    buf_free(&b);
}

static void test_against_a_plain_array(void **state)
{
    struct random random = {.state = 1};
    static char want[100000], piece[3000];
    struct buf b = BUF_INIT(sizeof want);

    (void)state;
    for (int round = 0; round < 50; round++) {
        size_t len = 0;

        for (;;) {
            const size_t n = random_below(&random, sizeof piece);
            int r;

            for (size_t i = 0; i < n; i++)
                piece[i] = (char)random_u64(&random);
            r = buf_add(&b, piece, n);
            if (len + n > sizeof want) {
                assert_int_equal(r, -ENOSPC);
                break;
            }
            assert_int_equal(r, 0);
            memcpy(want + len, piece, n);
            len += n;
        }
        assert_int_equal(b.len, len);
        assert_memory_equal(b.data, want, len);
        assert_int_equal(b.data[len], '\0');
        if (round % 2)
            buf_reset(&b);
        else
            buf_free(&b);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add),         cmocka_unit_test(test_empty_piece),
        cmocka_unit_test(test_maximum),     cmocka_unit_test(test_sizes_that_overflow),
        cmocka_unit_test(test_long_format), cmocka_unit_test(test_against_a_plain_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
