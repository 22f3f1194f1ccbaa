/*
 * Escaping, endpoint text, region, and the URL and Host of each way to address a bucket.
 */
#include "../../oss/url.h"
#include "json.h"
#include "random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct url_endpoint endpoint(const char *text)
{
    struct url_endpoint e;
    char why[256] = "";

    if (url_endpoint_parse(&e, text, why, sizeof why))
        fail_msg("%s: %s", text, why);
    return e;
}

static void test_escape(void **state)
{
    struct buf out = BUF_INIT(4096);
    char all[256];

    (void)state;
    url_escape(&out, "a+b/c d~-._\xe7\x9b\xae", 14, true);
    assert_string_equal(buf_str(&out), "a%2Bb/c%20d~-._%E7%9B%AE");
    buf_reset(&out);
    url_escape(&out, "a/b", 3, false);
    assert_string_equal(buf_str(&out), "a%2Fb");

    /* Every byte there and back, and only the unreserved ones as themselves. */
    buf_reset(&out);
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = '\0';
    url_escape(&out, all, 255, false);
    assert_int_equal(out.len, 66 + 3 * (255 - 66));
    assert_int_equal(url_unescape(out.data), 255);
    assert_string_equal(out.data, all);
    buf_free(&out);

    struct buf small = BUF_INIT(5);

    assert_int_equal(url_escape(&small, "a b c", 5, false), -ENOSPC);
    buf_free(&small);
}

static void test_unescape(void **state)
{
    static const char *const bad[] = {"%", "a%4", "%zz", "%4g", "a%00b", "%%41", "%-1"};
    char text[64];

    (void)state;
    strcpy(text, "a%2fb%2B+%41");
    assert_int_equal(url_unescape(text), 6);
    assert_string_equal(text, "a/b++A");
    strcpy(text, "");
    assert_int_equal(url_unescape(text), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        strcpy(text, bad[i]);
        assert_int_equal(url_unescape(text), -EINVAL);
    }
}

static void test_round_trip(void **state)
{
    struct random random = {.state = 3};

    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct buf out = BUF_INIT(65536);
        char raw[400];
        const size_t n = random_below(&random, sizeof raw);

        for (size_t i = 0; i < n; i++)
            raw[i] = (char)random_between(&random, 1, 255);
        raw[n] = '\0';
        assert_int_equal(url_escape(&out, raw, n, round % 2), 0);
        if (n) {
            assert_int_equal(url_unescape(out.data), n);
            assert_memory_equal(out.data, raw, n + 1);
        }
        buf_free(&out);
    }
}

static void test_endpoint(void **state)
{
    struct url_endpoint e;

    (void)state;
    e = endpoint("oss-cn-hangzhou.aliyuncs.com");
    assert_true(e.tls);
    assert_string_equal(e.host, "oss-cn-hangzhou.aliyuncs.com");
    assert_int_equal(e.port, 0);
    assert_false(e.ip || e.ipv6 || e.localhost);
    e = endpoint("HTTP://OSS-cn-Hangzhou.aliyuncs.com:8080/");
    assert_false(e.tls);
    assert_string_equal(e.host, "oss-cn-hangzhou.aliyuncs.com");
    assert_int_equal(e.port, 8080);
    e = endpoint("http://127.0.0.1:1");
    assert_true(e.ip && !e.ipv6);
    assert_int_equal(e.port, 1);
    e = endpoint("[0:0::1]:65535");
    assert_true(e.ip && e.ipv6 && e.tls);
    assert_string_equal(e.host, "::1");
    assert_int_equal(e.port, 65535);
    e = endpoint("https://[fe80::1]");
    assert_int_equal(e.port, 0);
    e = endpoint("http://LOCALHOST:99");
    assert_true(e.localhost);
    assert_string_equal(e.host, "localhost");
    e = endpoint("my_host");
    assert_false(e.ip || e.localhost);
}

static void test_endpoint_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {NULL, "empty"},
        {"", "empty"},
        {"ftp://host", "scheme"},
        {"s3://bucket", "scheme"},
        {"https://host/bucket", "path"},
        {"host/bucket/", "path"},
        {"https://", "no valid host"},
        {"https://user@host", "only a host"},
        {"https://host?x", "only a host"},
        {"https://host#x", "only a host"},
        {"https://host:", "port"},
        {"https://host:0", "port"},
        {"https://host:65536", "port"},
        {"https://host:8o80", "port"},
        {"https://host:99999999999999999999", "port"},
        {"https://[::1", "no valid host"},
        {"https://[::g]", "no valid host"},
        {"https://[::1]x", "port"},
        {"https://::1", "no valid host"},
        {"https://a..b", "no valid host"},
        {"https://.a", "no valid host"},
        {"https://a.", "no valid host"},
        {"https://a b", "no valid host"},
        {"https://h\xc3\xa4", "no valid host"},
        {"https://host\r\nX: y", "no valid host"},
        {"cn-hangzhou.oss-dls.aliyuncs.com", "OSS-HDFS"},
    };
    struct url_endpoint e;
    char why[256], longer[600];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        why[0] = '\0';
        assert_int_equal(url_endpoint_parse(&e, rows[i].text, why, sizeof why), -EINVAL);
        if (!strstr(why, rows[i].why))
            fail_msg("%s: \"%s\" does not say %s", rows[i].text, why, rows[i].why);
    }
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(url_endpoint_parse(&e, longer, why, sizeof why), -EINVAL);
    for (size_t i = 60; i < 300; i += 60)
        longer[i] = '.';
    longer[300] = '\0';
    assert_int_equal(url_endpoint_parse(&e, longer, why, sizeof why), -EINVAL);
    longer[255] = '\0';
    assert_int_equal(url_endpoint_parse(&e, longer, why, sizeof why), 0);
    assert_int_equal(url_endpoint_parse(&e, "a b", NULL, 0), -EINVAL);
}

static void test_region(void **state)
{
    static const struct {
        const char *endpoint, *region;
    } rows[] = {
        {"oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"},
        {"http://oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"},
        {"oss-ap-southeast-1.aliyuncs.com:443", "ap-southeast-1"},
        {"oss-cn-shanghai-finance-1-internal.aliyuncs.com", "cn-shanghai-finance-1"},
        {"cn-beijing.oss.aliyuncs.com", "cn-beijing"},
        {"oss-accelerate.aliyuncs.com", NULL},
        {"oss-accelerate-overseas.aliyuncs.com", NULL},
        {"img.example.com", NULL},
        {"oss-cn-hangzhou.example.com", NULL},
        {"bucket.oss-cn-hangzhou.aliyuncs.com", NULL},
        {"oss.aliyuncs.com", NULL},
        {"oss-.aliyuncs.com", NULL},
        {"127.0.0.1", NULL},
        {"[::1]", NULL},
        {"localhost", NULL},
    };
    char region[URL_REGION_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct url_endpoint e = endpoint(rows[i].endpoint);

        assert_int_equal(url_region(&e, region), rows[i].region != NULL);
        if (rows[i].region)
            assert_string_equal(region, rows[i].region);
    }
}

static void test_bucket_names(void **state)
{
    static const char *const good[] = {"abc", "a-b", "123",
                                       "a123456789012345678901234567890123456789012345678901234567890b2"};
    static const char *const bad[] = {
        "",    "ab",  "-abc", "abc-", "Abc",
        "a_b", "a.b", "a/b",  "a b",  "a123456789012345678901234567890123456789012345678901234567890123"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(url_bucket_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(url_bucket_valid(bad[i]));
}

static void test_addressing(void **state)
{
    static const struct {
        const char *endpoint;
        enum oss_addressing wanted;
        const char *bucket;
        enum oss_addressing how;
    } rows[] = {
        {"oss-cn-hangzhou.aliyuncs.com", OSS_ADDR_AUTO, "bucket", OSS_ADDR_VIRTUAL},
        {"oss-cn-hangzhou.aliyuncs.com", OSS_ADDR_AUTO, "Bad_Name", OSS_ADDR_PATH},
        {"oss-cn-hangzhou.aliyuncs.com", OSS_ADDR_PATH, "bucket", OSS_ADDR_PATH},
        {"oss-cn-hangzhou.aliyuncs.com", OSS_ADDR_VIRTUAL, "bucket", OSS_ADDR_VIRTUAL},
        {"img.example.com", OSS_ADDR_CNAME, "bucket", OSS_ADDR_CNAME},
        {"127.0.0.1", OSS_ADDR_AUTO, "bucket", OSS_ADDR_PATH},
        {"127.0.0.1", OSS_ADDR_VIRTUAL, "bucket", OSS_ADDR_PATH},
        {"127.0.0.1", OSS_ADDR_CNAME, "bucket", OSS_ADDR_CNAME},
        {"[::1]", OSS_ADDR_AUTO, "bucket", OSS_ADDR_PATH},
        {"localhost", OSS_ADDR_AUTO, "bucket", OSS_ADDR_PATH},
        {"localhost", OSS_ADDR_VIRTUAL, "bucket", OSS_ADDR_VIRTUAL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct url_endpoint e = endpoint(rows[i].endpoint);

        assert_int_equal(url_addressing(&e, rows[i].wanted, rows[i].bucket), rows[i].how);
    }
}

static void check_build(const char *at, enum oss_addressing wanted, const char *bucket, const char *key,
                        const char *url, const char *host)
{
    static const struct url_param query[] = {{"partNumber", "1"}, {"uploads", NULL}, {"prefix", "a/b c"}};
    struct buf out = BUF_INIT(65536);
    struct url_endpoint e = endpoint(at);
    const enum oss_addressing how = url_addressing(&e, wanted, bucket);

    assert_int_equal(url_build(&out, &e, how, bucket, key, NULL, 0), 0);
    assert_string_equal(buf_str(&out), url);
    buf_reset(&out);
    assert_int_equal(url_build(&out, &e, how, bucket, key, query, 3), 0);
    assert_memory_equal(buf_str(&out), url, strlen(url));
    assert_string_equal(buf_str(&out) + strlen(url), "?partNumber=1&uploads&prefix=a%2Fb%20c");
    buf_reset(&out);
    assert_int_equal(url_host(&out, &e, how, bucket), 0);
    assert_string_equal(buf_str(&out), host);
    buf_free(&out);
}

static void test_build(void **state)
{
    (void)state;
    check_build("oss-x.aliyuncs.com", OSS_ADDR_AUTO, "bkt", "a b/c", "https://bkt.oss-x.aliyuncs.com/a%20b/c",
                "bkt.oss-x.aliyuncs.com");
    check_build("oss-x.aliyuncs.com", OSS_ADDR_AUTO, "bkt", NULL, "https://bkt.oss-x.aliyuncs.com/",
                "bkt.oss-x.aliyuncs.com");
    check_build("oss-x.aliyuncs.com", OSS_ADDR_AUTO, NULL, NULL, "https://oss-x.aliyuncs.com/", "oss-x.aliyuncs.com");
    check_build("oss-x.aliyuncs.com:443", OSS_ADDR_PATH, "bkt", "k", "https://oss-x.aliyuncs.com/bkt/k",
                "oss-x.aliyuncs.com");
    check_build("http://127.0.0.1:8080", OSS_ADDR_AUTO, "bkt", "d/f.txt", "http://127.0.0.1:8080/bkt/d/f.txt",
                "127.0.0.1:8080");
    check_build("http://127.0.0.1:8080", OSS_ADDR_AUTO, "bkt", "", "http://127.0.0.1:8080/bkt/", "127.0.0.1:8080");
    check_build("http://[::1]:80", OSS_ADDR_AUTO, "bkt", "k", "http://[::1]/bkt/k", "[::1]");
    check_build("https://[::1]:80", OSS_ADDR_AUTO, "bkt", "k", "https://[::1]:80/bkt/k", "[::1]:80");
    check_build("http://img.example.com", OSS_ADDR_CNAME, "bkt", "d/f", "http://img.example.com/d/f",
                "img.example.com");
    /* Nothing is normalised. */
    check_build("http://h", OSS_ADDR_CNAME, "bkt", "a//b/../c/./d", "http://h/a//b/../c/./d", "h");
}

static void test_copy_source(void **state)
{
    struct buf out = BUF_INIT(4096);

    (void)state;
    assert_int_equal(url_copy_source(&out, "bkt", "a/b c?d"), 0);
    assert_string_equal(buf_str(&out), "/bkt/a/b%20c%3Fd");
    buf_free(&out);
}

/* The URL of each signature vector, from endpoint, bucket and key. */
static void test_vector_urls(void **state)
{
    static const char *const files[] = {"sign_v4.json", "sign_v1.json"};

    (void)state;
    for (size_t f = 0; f < 2; f++) {
        struct json *j = json_load(files[f]);
        const struct json *cases = json_get(j, "cases");

        for (size_t i = 0; i < cases->n; i++) {
            const struct json *in = json_get(cases->items[i], "input");
            const char *want = json_str(in, "url"), *bucket = json_str(in, "bucket");
            const char *host = strstr(want, "://") + 3;
            const size_t bucket_len = bucket ? strlen(bucket) : 0;
            const bool virtual = bucket && !strncmp(host, bucket, bucket_len) && host[bucket_len] == '.';
            const bool cname = strstr(host, "img.example.com") == host;
            const char *start = virtual ? host + bucket_len + 1 : host;
            struct buf out = BUF_INIT(65536);
            char at[512];

            snprintf(at, sizeof at, "%.*s%.*s", (int)(host - want), want, (int)strcspn(start, "/"), start);
            struct url_endpoint e = endpoint(at);
            const enum oss_addressing how = url_addressing(&e, cname ? OSS_ADDR_CNAME : OSS_ADDR_AUTO, bucket);

            assert_int_equal(url_build(&out, &e, how, bucket, json_str(in, "key"), NULL, 0), 0);
            assert_string_equal(buf_str(&out), want);
            buf_free(&out);
        }
        json_free(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_unescape),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_endpoint),
        cmocka_unit_test(test_endpoint_refused),
        cmocka_unit_test(test_region),
        cmocka_unit_test(test_bucket_names),
        cmocka_unit_test(test_addressing),
        cmocka_unit_test(test_build),
        cmocka_unit_test(test_copy_source),
        cmocka_unit_test(test_vector_urls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
