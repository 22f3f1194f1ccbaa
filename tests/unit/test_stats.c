/* The counters of requests: the histogram, its percentiles, and what kind of failure is what. */
#include "../../oss/stats.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void count(struct stats *s, int64_t ms, unsigned times)
{
    struct http_reply reply = {.up = 10, .down = 20, .took_ms = ms};

    for (unsigned i = 0; i < times; i++)
        stats_try(s, &reply, i > 0);
}

static void buckets(void **state)
{
    (void)state;
    assert_int_equal(stats_bucket(0), 0);
    assert_int_equal(stats_bucket(1), 0);
    assert_int_equal(stats_bucket(2), 1);
    assert_int_equal(stats_bucket(60000), OSS_LATENCY_BUCKETS - 2);
    assert_int_equal(stats_bucket(60001), OSS_LATENCY_BUCKETS - 1);
    for (unsigned i = 1; i < OSS_LATENCY_BUCKETS - 1; i++) {
        assert_true(oss_latency_bounds[i] > oss_latency_bounds[i - 1]);
        assert_int_equal(stats_bucket(oss_latency_bounds[i]), i);
        assert_int_equal(stats_bucket(oss_latency_bounds[i] + 1), i + 1);
    }
}

static void totals(void **state)
{
    struct stats s = {0};
    struct oss_op_stats out;

    (void)state;
    count(&s, 4, 3);
    stats_error(&s, OSS_ERRORS_SERVER);
    stats_failure(&s);
    stats_read(&s, &out);
    assert_int_equal(out.requests, 3);
    assert_int_equal(out.retries, 2);
    assert_int_equal(out.failures, 1);
    assert_int_equal(out.bytes_up, 30);
    assert_int_equal(out.bytes_down, 60);
    assert_int_equal(out.total_ms, 12);
    assert_int_equal(out.errors[OSS_ERRORS_SERVER], 1);
    assert_int_equal(out.latency[stats_bucket(4)], 3);
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void percentiles(void **state)
{
    struct stats s = {0};
    struct oss_op_stats out;

    (void)state;
    stats_read(&s, &out);
    assert_true(near(oss_latency_ms(&out, 0.5), 0));
    /* 90 at most 10 ms (from 7), 10 at most 300 ms (from 200). */
    count(&s, 9, 90);
    count(&s, 250, 10);
    stats_read(&s, &out);
    assert_true(near(oss_latency_ms(&out, 0.45), 8.5));
    assert_true(near(oss_latency_ms(&out, 0.9), 10));
    assert_true(near(oss_latency_ms(&out, 0.95), 250));
    assert_true(near(oss_latency_ms(&out, 1), 300));
    /* Beyond the last bound only that bound is known. */
    count(&s, 100000, 900);
    stats_read(&s, &out);
    assert_true(near(oss_latency_ms(&out, 0.99), 60000));
}

static void classes(void **state)
{
    static const struct {
        struct oss_error err;
        enum http_end end;
        enum oss_error_class klass;
    } cases[] = {
        {{.err = -EIO}, HTTP_LOST, OSS_ERRORS_NETWORK},
        {{.err = -EIO}, HTTP_UNREACHED, OSS_ERRORS_NETWORK},
        {{.err = -ETIMEDOUT}, HTTP_TIMEOUT, OSS_ERRORS_TIMEOUT},
        {{.err = -ETIMEDOUT, .status = 400, .code = "RequestTimeout"}, HTTP_DONE, OSS_ERRORS_TIMEOUT},
        {{.err = -EIO, .status = 503, .code = "ServiceUnavailable"}, HTTP_DONE, OSS_ERRORS_THROTTLED},
        {{.err = -EIO, .status = 429}, HTTP_DONE, OSS_ERRORS_THROTTLED},
        {{.err = -EIO, .status = 500, .code = "InternalError"}, HTTP_DONE, OSS_ERRORS_SERVER},
        {{.err = -EIO, .status = 400, .code = "InvalidCRC64"}, HTTP_DONE, OSS_ERRORS_DATA},
        {{.err = -EIO, .status = 200}, HTTP_DONE, OSS_ERRORS_DATA},
        {{.err = -EACCES, .status = 403, .code = "AccessDenied"}, HTTP_DONE, OSS_ERRORS_DENIED},
        {{.err = -ESTALE, .status = 412}, HTTP_DONE, OSS_ERRORS_REQUEST},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(stats_class(&cases[i].err, cases[i].end), cases[i].klass);
    for (unsigned i = 0; i < OSS_ERROR_CLASSES; i++)
        assert_non_null(oss_error_class_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets),
        cmocka_unit_test(totals),
        cmocka_unit_test(percentiles),
        cmocka_unit_test(classes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
