/*
 * Every field of every signature vector, and what the vectors do not show: repeated signing, order, bad input.
 */
#include "../../oss/sign.h"
#include "../../oss/url.h"
#include "json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#define MANY 16

/* A vector's input as the signer takes it. */
struct input {
    struct sign_request rq;
    struct oss_key key;
    struct url_param query[MANY];
    const char *additional[MANY];
    struct kvlist headers;
};

static time_t read_stamp(const char *text)
{
    struct tm tm = {0};

    assert_int_equal(sscanf(text, "%4d%2d%2dT%2d%2d%2dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                            &tm.tm_min, &tm.tm_sec),
                     6);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return timegm(&tm);
}

static void input_read(struct input *in, const struct json *c)
{
    const struct json *j = json_get(c, "input"), *query = json_get(j, "query"), *headers = json_get(j, "headers");
    const struct json *additional = json_get(j, "additional_headers");

    memset(in, 0, sizeof *in);
    strcpy(in->key.id, json_str(j, "access_key_id"));
    strcpy(in->key.secret, json_str(j, "access_key_secret"));
    if (json_str(j, "security_token"))
        strcpy(in->key.token, json_str(j, "security_token"));
    in->rq.method = json_str(j, "method");
    in->rq.bucket = json_str(j, "bucket");
    in->rq.key = json_str(j, "key");
    assert_true(query->n <= MANY);
    for (size_t i = 0; i < query->n; i++)
        in->query[i] = (struct url_param){query->items[i]->items[0]->text, query->items[i]->items[1]->text};
    in->rq.query = in->query;
    in->rq.n_query = query->n;
    for (size_t i = 0; additional && i < additional->n; i++)
        in->additional[i] = additional->items[i]->text;
    in->rq.additional = in->additional;
    in->rq.n_additional = additional ? additional->n : 0;
    in->rq.cred = &in->key;
    in->rq.region = json_str(j, "region");
    in->rq.product = json_str(j, "product");
    in->rq.when = json_str(j, "datetime") ? read_stamp(json_str(j, "datetime")) : (time_t)json_int(j, "unix_time");
    for (size_t i = 0; i < headers->n; i++)
        assert_int_equal(kv_add(&in->headers, headers->names[i], headers->items[i]->text), 0);
}

static bool is_presign(const struct json *c)
{
    return !strcmp(json_str(json_get(c, "input"), "kind"), "presign");
}

/* The list holds what the caller gave, what the signer should add, the Authorization, and nothing else. */
static void check_headers(const struct input *in, const struct kvlist *before, const struct json *expect)
{
    const struct json *added = json_get(expect, "headers_added_by_signer");
    size_t n = before->n + 1;

    for (size_t i = 0; i < before->n; i++)
        assert_string_equal(kv_get(&in->headers, before->v[i].name), before->v[i].value);
    for (size_t i = 0; i < added->n; i++) {
        assert_string_equal(kv_get(&in->headers, added->names[i]), added->items[i]->text);
        n += !kv_get(before, added->names[i]);
    }
    assert_int_equal(in->headers.n, n);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The pieces of the text, sorted. */
static size_t split(char *text, const char *at, char *v[MANY])
{
    size_t n = 0;

    for (char *p = strtok(text, at); p; p = strtok(NULL, at)) {
        assert_true(n < MANY);
        v[n++] = p;
    }
    qsort(v, n, sizeof *v, compare);
    return n;
}

static void check_presigned(const struct json *c, const struct json *expect, const struct buf *query)
{
    const struct json *added = json_get(expect, "query_added_by_signer");
    const char *want_url = json_str(expect, "url_sdk_order"), *mark = strchr(want_url, '?');
    const char *base = json_str(json_get(c, "input"), "url");
    char *want = strdup(mark + 1), *got = strdup(buf_str(query)), *v[MANY], *w[MANY];
    size_t n;

    assert_int_equal(strlen(base), mark - want_url);
    assert_memory_equal(base, want_url, strlen(base));
    for (size_t i = 0; i < added->n; i++) {
        struct buf piece = BUF_INIT(65536);
        const struct url_param one = {added->names[i], added->items[i]->text};

        url_query(&piece, &one, 1);
        assert_non_null(strstr(got, buf_str(&piece)));
        buf_free(&piece);
    }
    /* The order of parameters in a URL is free. */
    n = split(want, "&", v);
    assert_int_equal(split(got, "&", w), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(w[i], v[i]);
    free(want);
    free(got);
}

static void check_hex(const unsigned char *data, size_t n, const char *want)
{
    for (size_t i = 0; i < n; i++) {
        char text[3];

        snprintf(text, sizeof text, "%02x", data[i]);
        assert_memory_equal(text, want + 2 * i, 2);
    }
    assert_int_equal(strlen(want), 2 * n);
}

/*
 * The same in the SDK's spelling: other order, a blank after each comma, and additional names in an order of its own
 * (see the vector's note), so these are compared sorted.
 */
static void check_authorization(const struct input *in, const struct sign_result *d, const char *want)
{
    const char *mine = strstr(buf_str(&d->authorization), ",AdditionalHeaders=");
    struct buf text = BUF_INIT(65536);
    char *got, *wanted, *v[MANY], *w[MANY];
    size_t n;

    buf_addf(&text, "OSS4-HMAC-SHA256 Credential=%s/%s, Signature=%s", in->key.id, d->scope, d->signature);
    assert_memory_equal(buf_str(&text), want, text.len);
    want += text.len;
    buf_free(&text);
    assert_int_equal(mine != NULL, *want != '\0');
    if (!mine)
        return;
    assert_memory_equal(want, ", AdditionalHeaders=", 20);
    mine += 19;
    got = strndup(mine, strcspn(mine, ","));
    wanted = strdup(want + 20);
    n = split(got, ";", v);
    assert_int_equal(split(wanted, ";", w), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(v[i], w[i]);
    free(got);
    free(wanted);
}

static void check_v4(const struct json *c)
{
    const struct json *expect = json_get(c, "expect");
    struct sign_result d;
    struct kvlist before = {0};
    struct buf query = BUF_INIT(65536);
    struct input in;

    input_read(&in, c);
    kv_copy(&before, &in.headers);
    sign_result_init(&d);
    if (is_presign(c)) {
        assert_int_equal(
            sign_v4_presign(&in.rq, &in.headers, (long)json_int(json_get(c, "input"), "expires"), &query, &d), 0);
        assert_true(kv_equal(&in.headers, &before));
        check_presigned(c, expect, &query);
    } else {
        assert_int_equal(sign_v4(&in.rq, &in.headers, &d), 0);
        check_headers(&in, &before, expect);
        assert_string_equal(buf_str(&d.authorization), json_str(expect, "authorization_compact"));
        assert_string_equal(kv_get(&in.headers, "authorization"), json_str(expect, "authorization_compact"));
        check_authorization(&in, &d, json_str(expect, "authorization"));
    }
    assert_string_equal(d.scope, json_str(expect, "scope"));
    check_hex(d.signing_key, 32, json_str(expect, "signing_key_hex"));
    assert_string_equal(buf_str(&d.canonical), json_str(expect, "canonical_request"));
    assert_string_equal(d.canonical_sha256, json_str(expect, "canonical_request_sha256"));
    assert_string_equal(buf_str(&d.to_sign), json_str(expect, "string_to_sign"));
    assert_string_equal(d.signature, json_str(expect, "signature"));
    sign_result_free(&d);
    buf_free(&query);
    kv_free(&before);
    kv_free(&in.headers);
}

static void check_v1(const struct json *c)
{
    const struct json *expect = json_get(c, "expect");
    struct sign_result d;
    struct kvlist before = {0};
    struct buf query = BUF_INIT(65536);
    struct input in;

    input_read(&in, c);
    kv_copy(&before, &in.headers);
    sign_result_init(&d);
    if (is_presign(c)) {
        assert_int_equal(
            sign_v1_presign(&in.rq, &in.headers, (long)json_int(json_get(c, "input"), "expires_in"), &query, &d), 0);
        assert_true(kv_equal(&in.headers, &before));
        check_presigned(c, expect, &query);
    } else {
        assert_int_equal(sign_v1(&in.rq, &in.headers, &d), 0);
        check_headers(&in, &before, expect);
        assert_string_equal(buf_str(&d.authorization), json_str(expect, "authorization"));
        assert_string_equal(kv_get(&in.headers, "authorization"), json_str(expect, "authorization"));
    }
    assert_string_equal(buf_str(&d.canonical), json_str(expect, "canonicalized_headers"));
    assert_string_equal(buf_str(&d.resource), json_str(expect, "canonicalized_resource"));
    assert_string_equal(buf_str(&d.to_sign), json_str(expect, "string_to_sign"));
    assert_string_equal(d.signature, json_str(expect, "signature"));
    sign_result_free(&d);
    buf_free(&query);
    kv_free(&before);
    kv_free(&in.headers);
}

static void run_vectors(const char *file, size_t count, void (*check)(const struct json *c))
{
    struct json *j = json_load(file);
    const struct json *cases = json_get(j, "cases");

    assert_int_equal(cases->n, count);
    assert_int_equal(json_int(j, "count"), count);
    for (size_t i = 0; i < cases->n; i++) {
        print_message("%s\n", json_str(cases->items[i], "name"));
        check(cases->items[i]);
    }
    json_free(j);
}

static void test_v4_vectors(void **state)
{
    (void)state;
    run_vectors("sign_v4.json", 38, check_v4);
}

static void test_v1_vectors(void **state)
{
    (void)state;
    run_vectors("sign_v1.json", 20, check_v1);
}

static const struct oss_key plain_key = {.id = "id", .secret = "secret"};
static const struct oss_key sts_key = {.id = "id", .secret = "secret", .token = "token"};

static struct sign_request request(const struct oss_key *key)
{
    return (struct sign_request){
        .method = "GET", .bucket = "b", .key = "k", .cred = key, .region = "cn-x", .when = 1744888712};
}

/* A repeat signs the same list: no header twice, and the date, the token and the signature are the new ones. */
static void test_signing_again(void **state)
{
    struct sign_request rq = request(&sts_key);
    struct kvlist again = {0}, once = {0};

    (void)state;
    assert_int_equal(sign_v4(&rq, &again, NULL), 0);
    assert_string_equal(kv_get(&again, "x-oss-security-token"), "token");
    rq.cred = &plain_key;
    rq.when += 100;
    assert_int_equal(sign_v4(&rq, &again, NULL), 0);
    assert_int_equal(sign_v4(&rq, &once, NULL), 0);
    assert_true(kv_equal(&again, &once));
    kv_free(&again);
    kv_free(&once);

    rq.cred = &sts_key;
    assert_int_equal(sign_v1(&rq, &again, NULL), 0);
    rq.cred = &plain_key;
    rq.when += 100;
    assert_int_equal(sign_v1(&rq, &again, NULL), 0);
    assert_int_equal(sign_v1(&rq, &once, NULL), 0);
    assert_true(kv_equal(&again, &once));
    kv_free(&again);
    kv_free(&once);
}

/* "a-b" sorts before "a=..." as a name though '-' and '=' would put them the other way round as text. */
static void test_query_order(void **state)
{
    static const struct url_param query[] = {{"a-b", "1"}, {"a", "2"}, {"a1", NULL}, {"B", "x y"}, {"a", "1"}};
    struct sign_request rq = request(&plain_key);
    struct kvlist headers = {0};
    struct sign_result d;

    (void)state;
    rq.query = query;
    rq.n_query = 5;
    sign_result_init(&d);
    assert_int_equal(sign_v4(&rq, &headers, &d), 0);
    assert_non_null(strstr(buf_str(&d.canonical), "\nB=x%20y&a=1&a=2&a-b=1&a1\n"));
    sign_result_free(&d);
    kv_free(&headers);
}

/* Values are trimmed, repeated names joined in their order, an absent or doubled additional name is dropped. */
static void test_header_lines(void **state)
{
    static const char *const additional[] = {"Range", "host", "range", "absent"};
    struct sign_request rq = request(&plain_key);
    struct kvlist headers = {0};
    struct sign_result d;

    (void)state;
    rq.additional = additional;
    rq.n_additional = 4;
    kv_add(&headers, "x-oss-meta-b", "  two words\t");
    kv_add(&headers, "Range", "bytes=0-1");
    kv_add(&headers, "x-oss-meta-a", "z");
    kv_add(&headers, "x-oss-meta-a", "y");
    kv_add(&headers, "user-agent", "unsigned");
    sign_result_init(&d);
    assert_int_equal(sign_v4(&rq, &headers, &d), 0);
    assert_non_null(strstr(buf_str(&d.canonical), "\nrange:bytes=0-1\nx-oss-content-sha256:UNSIGNED-PAYLOAD\n"));
    assert_non_null(strstr(buf_str(&d.canonical), "\nx-oss-meta-a:z,y\nx-oss-meta-b:two words\n\nrange\n"));
    assert_non_null(strstr(buf_str(&d.authorization), ",AdditionalHeaders=range,Signature="));
    assert_null(strstr(buf_str(&d.canonical), "user-agent"));
    sign_result_free(&d);
    kv_free(&headers);
}

static void test_bad_input(void **state)
{
    struct sign_request rq = request(&plain_key);
    struct kvlist headers = {0};
    struct buf query = BUF_INIT(65536);

    (void)state;
    assert_int_equal(sign_v4_presign(&rq, &headers, 0, &query, NULL), -EINVAL);
    assert_int_equal(sign_v4_presign(&rq, &headers, 604801, &query, NULL), -EINVAL);
    assert_int_equal(sign_v4_presign(&rq, &headers, 604800, &query, NULL), 0);
    rq.region = NULL;
    assert_int_equal(sign_v4(&rq, &headers, NULL), -EINVAL);
    assert_null(kv_get(&headers, "authorization"));
    rq.region = "";
    assert_int_equal(sign_v4(&rq, &headers, NULL), -EINVAL);
    assert_int_equal(sign_v1(&rq, &headers, NULL), 0);
    buf_free(&query);
    kv_free(&headers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v4_vectors),  cmocka_unit_test(test_v1_vectors),   cmocka_unit_test(test_signing_again),
        cmocka_unit_test(test_query_order), cmocka_unit_test(test_header_lines), cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
