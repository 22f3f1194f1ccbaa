/*
 * The list of pairs: case, order, repeated names, removal.
 */
#include "../../oss/base_kv.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_case(void **state)
{
    struct kvlist l = {0};

    (void)state;
    assert_null(kv_get(&l, "x"));
    assert_int_equal(kv_add(&l, "X-Oss-Meta-\xc3\x84", "Value"), 0);
    assert_string_equal(l.v[0].name, "x-oss-meta-\xc3\x84");
    assert_string_equal(kv_get(&l, "x-OSS-meta-\xc3\x84"), "Value");
    assert_int_equal(kv_add(&l, "empty", NULL), 0);
    assert_string_equal(kv_get(&l, "EMPTY"), "");
    assert_null(kv_get(&l, "x-oss-meta"));
    kv_free(&l);
    assert_int_equal(l.n, 0);
    kv_free(&l);
}

static void test_set_and_delete(void **state)
{
    struct kvlist l = {0};

    (void)state;
    kv_add(&l, "a", "1");
    kv_add(&l, "b", "2");
    kv_add(&l, "A", "3");
    assert_int_equal(l.n, 3);
    assert_string_equal(kv_get(&l, "a"), "1");
    assert_int_equal(kv_set(&l, "A", "4"), 0);
    assert_int_equal(l.n, 3);
    assert_string_equal(l.v[0].value, "4");
    assert_string_equal(l.v[2].value, "3");
    assert_int_equal(kv_setf(&l, "c", "%d-%s", 5, "x"), 0);
    assert_string_equal(kv_get(&l, "c"), "5-x");
    assert_int_equal(kv_set(&l, "c", NULL), 0);
    assert_string_equal(kv_get(&l, "c"), "");
    kv_del(&l, "a");
    assert_int_equal(l.n, 2);
    assert_string_equal(l.v[0].name, "b");
    assert_string_equal(l.v[1].name, "c");
    kv_del(&l, "nothing");
    assert_int_equal(l.n, 2);
    /* The name may be the list's own. */
    kv_del(&l, l.v[0].name);
    assert_int_equal(l.n, 1);
    assert_int_equal(kv_set(&l, "c", kv_get(&l, "c")), 0);
    kv_free(&l);
}

static void test_copy_and_equal(void **state)
{
    struct kvlist a = {0}, b = {0};

    (void)state;
    assert_true(kv_equal(&a, &b));
    kv_add(&a, "x", "1");
    kv_add(&a, "x", "1");
    kv_add(&a, "y", "2");
    assert_false(kv_equal(&a, &b));
    kv_add(&b, "old", "gone");
    assert_int_equal(kv_copy(&b, &a), 0);
    assert_true(kv_equal(&a, &b));
    assert_null(kv_get(&b, "old"));
    kv_set(&b, "x", "changed");
    assert_string_equal(kv_get(&a, "x"), "1");
    assert_false(kv_equal(&a, &b));
    kv_free(&b);

    /* In another order, and with other counts of the same pairs. */
    kv_add(&b, "y", "2");
    kv_add(&b, "x", "1");
    kv_add(&b, "X", "1");
    assert_true(kv_equal(&a, &b));
    kv_free(&b);
    kv_add(&b, "y", "2");
    kv_add(&b, "x", "1");
    kv_add(&b, "y", "2");
    assert_false(kv_equal(&a, &b));
    assert_false(kv_equal(&b, &a));
    kv_free(&a);
    kv_free(&b);
}

/* Adding and removing in any order, against a plain array. */
static void test_random(void **state)
{
    struct random random = {.state = 5};
    struct kvlist l = {0};
    int names[2000], values[2000];
    size_t n = 0;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        const int name = (int)random_below(&random, 40);
        char text[16], value[16];

        snprintf(text, sizeof text, "N%d", name);
        snprintf(value, sizeof value, "%d", round);
        if (random_one_in(&random, 8)) {
            size_t kept = 0;

            kv_del(&l, text);
            for (size_t i = 0; i < n; i++) {
                if (names[i] != name) {
                    names[kept] = names[i];
                    values[kept++] = values[i];
                }
            }
            n = kept;
        } else if (n < 2000) {
            assert_int_equal(kv_add(&l, text, value), 0);
            names[n] = name;
            values[n++] = round;
        }
        assert_int_equal(l.n, n);
        for (size_t i = 0; i < n; i += 1 + n / 10) {
            assert_int_equal(atoi(l.v[i].name + 1), names[i]);
            assert_int_equal(atoi(l.v[i].value), values[i]);
        }
    }
    kv_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_set_and_delete),
        cmocka_unit_test(test_copy_and_equal),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
