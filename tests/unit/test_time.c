/*
 * The date forms, there and back, and what is no date.
 */
#include "../../oss/base_time.h"
#include "random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_known(void **state)
{
    char http[HTTP_DATE_SIZE], iso[ISO_BASIC_SIZE];
    time_t t = 0;

    (void)state;
    assert_int_equal(http_date_parse("Wed, 22 Feb 2012 08:32:21 GMT", &t), 0);
    assert_int_equal(t, 1329899541);
    http_date_format(http, t);
    assert_string_equal(http, "Wed, 22 Feb 2012 08:32:21 GMT");
    iso_basic_format(iso, t);
    assert_string_equal(iso, "20120222T083221Z");
    assert_int_equal(iso_date_parse("2012-02-22T08:32:21.000Z", &t), 0);
    assert_int_equal(t, 1329899541);
    assert_int_equal(iso_date_parse("2012-02-22T08:32:21Z", &t), 0);
    assert_int_equal(t, 1329899541);
    http_date_format(http, 0);
    assert_string_equal(http, "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_int_equal(http_date_parse("Thu, 29 Feb 2024 23:59:60 GMT", &t), 0);
    assert_int_equal(t, 1709251199);
}

/* The sizes hold whatever is given. */
static void test_extremes(void **state)
{
    static const time_t times[] = {INT64_MIN, -1, 253402300799, 253402300800, INT64_MAX};
    char http[HTTP_DATE_SIZE], iso[ISO_BASIC_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        http_date_format(http, times[i]);
        iso_basic_format(iso, times[i]);
        assert_int_equal(strlen(http), HTTP_DATE_SIZE - 1);
        assert_int_equal(strlen(iso), ISO_BASIC_SIZE - 1);
    }
    assert_string_equal(http, "Fri, 31 Dec 9999 23:59:59 GMT");
}

static void test_refused(void **state)
{
    static const char *const http[] = {
        "",
        "Wed",
        "Wed, 22 Feb 2012 08:32:21",
        "Wed, 22 Feb 2012 08:32:21 GMT ",
        "Wed, 22 Feb 2012 08:32:21 CET",
        "Xyz, 22 Feb 2012 08:32:21 GMT",
        "Wed, 22 Fub 2012 08:32:21 GMT",
        "Wed, 2 Feb 2012 08:32:21 GMT",
        "Wed, 30 Feb 2012 08:32:21 GMT",
        "Wed, 00 Feb 2012 08:32:21 GMT",
        "Wed, 22 Feb 2012 24:32:21 GMT",
        "Wed, 22 Feb 2012 08:60:21 GMT",
        "Wed, 22 Feb 2012 08:32:61 GMT",
        "Wed, 22 Feb 12 08:32:21 GMT",
        "Wednesday, 22-Feb-12 08:32:21 GMT",
        "Wed Feb 22 08:32:21 2012",
    };
    static const char *const iso[] = {
        "",
        "2012",
        "2012-02-22",
        "2012-02-22T08:32:21",
        "2012-02-22T08:32:21.Z",
        "2012-02-22T08:32:21.000",
        "2012-02-22T08:32:21.000Zx",
        "2012-02-22 08:32:21Z",
        "2012-13-22T08:32:21Z",
        "2012-00-22T08:32:21Z",
        "2012-02-30T08:32:21Z",
        "2012-02-22T25:32:21Z",
        "2012-2-22T08:32:21Z",
        "-012-02-22T08:32:21Z",
    };
    time_t t = 42;

    (void)state;
    for (size_t i = 0; i < sizeof http / sizeof http[0]; i++)
        if (http_date_parse(http[i], &t) != -EINVAL)
            fail_msg("taken for a date: %s", http[i]);
    for (size_t i = 0; i < sizeof iso / sizeof iso[0]; i++)
        if (iso_date_parse(iso[i], &t) != -EINVAL)
            fail_msg("taken for a date: %s", iso[i]);
    assert_int_equal(t, 42);
}

static void test_round_trip(void **state)
{
    struct random random = {.state = 2};

    (void)state;
    for (int i = 0; i < 20000; i++) {
        const time_t t = (time_t)random_below(&random, 253402300800);
        char http[HTTP_DATE_SIZE], basic[ISO_BASIC_SIZE], iso[32];
        time_t back;

        http_date_format(http, t);
        assert_int_equal(http_date_parse(http, &back), 0);
        assert_int_equal(back, t);
        iso_basic_format(basic, t);
        snprintf(iso, sizeof iso, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2s.000Z", basic, basic + 4, basic + 6, basic + 9,
                 basic + 11, basic + 13);
        assert_int_equal(iso_date_parse(iso, &back), 0);
        assert_int_equal(back, t);
    }
}

static void test_clocks(void **state)
{
    const int64_t before = clock_ms();
    const struct timespec pause = {.tv_nsec = 20 * 1000000};
    struct timespec wall = clock_wall();

    (void)state;
    nanosleep(&pause, NULL);
    assert_true(clock_ms() - before >= 19);
    assert_true(clock_wall().tv_sec >= wall.tv_sec);
    assert_true(wall.tv_sec > 1700000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),      cmocka_unit_test(test_extremes), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_clocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
