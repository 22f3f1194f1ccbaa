/*
 * Every error vector through error_from_reply(), the errno table, retry classes, and the text for the log.
 */
#include "../../oss/error.h"
#include "../../oss/xml.h"
#include "json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_vector(const struct json *c)
{
    const struct json *in = json_get(c, "input"), *want = json_get(c, "expect");
    const struct json *headers = json_get(in, "headers"), *fields = json_get(want, "fields");
    const struct json *body = json_get(in, "body");
    struct oss_error err = {.tries = 3, .ambiguous = true, .next_position = 77, .code = "old", .message = "old"};
    struct kvlist list = {0};
    struct xml_error doc;
    enum error_retry retry;
    int r;

    for (size_t i = 0; i < headers->n; i++)
        kv_add(&list, headers->names[i], headers->items[i]->text);
    r = error_from_reply(&err, (int)json_int(in, "status"), &list, body->text, body->len, &doc);
    assert_int_equal(r, err.err);
    assert_true(err.err < 0);
    assert_int_equal(err.status, json_int(want, "status"));
    assert_string_equal(err.request_id, json_str(want, "request_id"));
    assert_string_equal(err.code, json_str(want, "code"));
    assert_string_equal(err.message, json_str(want, "message"));
    assert_int_equal(doc.n_fields, fields->n);
    for (size_t i = 0; i < fields->n; i++) {
        assert_non_null(xml_error_field(&doc, fields->names[i]));
        assert_string_equal(xml_error_field(&doc, fields->names[i]), fields->items[i]->text);
    }
    retry = error_retry_class(err.status, err.code);
    assert_int_equal(retry == ERROR_RETRY_YES || retry == ERROR_RETRY_CLOCK, json_bool(want, "retryable"));
    assert_int_equal(err.next_position, json_get(want, "next_position") ? json_int(want, "next_position") : -1);
    assert_int_equal(err.tries, 3);
    assert_true(err.ambiguous);
    assert_int_equal(err.date != 0, json_get(headers, "Date") != NULL);
    xml_error_free(&doc);

    /* Without a place for the fields the rest is the same. */
    struct oss_error again = {.tries = 3, .ambiguous = true};

    error_from_reply(&again, (int)json_int(in, "status"), &list, body->text, body->len, NULL);
    assert_memory_equal(&again, &err, sizeof err);
    kv_free(&list);
}

static void test_vectors(void **state)
{
    struct json *j = json_load("errors.json");
    const struct json *cases = json_get(j, "cases");

    (void)state;
    assert_int_equal(cases->n, 39);
    for (size_t i = 0; i < cases->n; i++) {
        print_message("%s\n", json_str(cases->items[i], "name"));
        check_vector(cases->items[i]);
    }
    json_free(j);
}

/* What oss.h promises to its callers. */
static void test_errno(void **state)
{
    static const struct {
        int status;
        const char *code;
        int err;
    } rows[] = {
        {404, "NoSuchKey", ENOENT},
        {404, "NoSuchBucket", ENOENT},
        {404, "NoSuchUpload", ENOENT},
        {404, "SymlinkTargetNotExist", ENOENT},
        {404, "", ENOENT},
        {403, "AccessDenied", EACCES},
        {403, "InvalidAccessKeyId", EACCES},
        {403, "SignatureDoesNotMatch", EACCES},
        {403, "InvalidObjectState", ENODATA},
        {409, "RestoreAlreadyInProgress", EALREADY},
        {403, "SomethingNew", EACCES},
        {409, "FileAlreadyExists", EEXIST},
        {412, "PreconditionFailed", ESTALE},
        {412, "", ESTALE},
        {304, "", ESTALE},
        {409, "FileImmutable", EPERM},
        {400, "EntityTooLarge", EFBIG},
        {400, "InvalidArgument", EINVAL},
        {400, "MalformedXML", EINVAL},
        {400, "", EINVAL},
        {416, "InvalidRange", ERANGE},
        {405, "MethodNotAllowed", ENOTSUP},
        {501, "", ENOTSUP},
        {400, "NotImplemented", ENOTSUP},
        {400, "OperationNotSupported", ENOTSUP},
        {409, "PositionNotEqualToLength", EBADE},
        {409, "ObjectNotAppendable", EPROTOTYPE},
        {400, "InvalidObjectName", EILSEQ},
        {400, "RequestTimeout", ETIMEDOUT},
        {504, "", ETIMEDOUT},
        {400, "InvalidCRC64", EIO},
        {500, "InternalError", EIO},
        {503, "", EIO},
        {200, "", EIO},
        {0, "", EIO},
        {999, "Unheard", EIO},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(error_errno(rows[i].status, rows[i].code), -rows[i].err);
}

static void test_retry_class(void **state)
{
    (void)state;
    assert_int_equal(error_retry_class(0, ""), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(500, "InternalError"), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(599, ""), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(408, ""), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(429, ""), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(400, "InvalidCRC64"), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(400, "IncompleteBody"), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(400, "BadRequest"), ERROR_RETRY_YES);
    assert_int_equal(error_retry_class(400, ""), ERROR_RETRY_NO);
    assert_int_equal(error_retry_class(403, "RequestTimeTooSkewed"), ERROR_RETRY_CLOCK);
    assert_int_equal(error_retry_class(403, "SecurityTokenExpired"), ERROR_RETRY_CRED);
    assert_int_equal(error_retry_class(403, "InvalidSecurityToken"), ERROR_RETRY_CRED);
    assert_int_equal(error_retry_class(403, "InvalidAccessKeyId"), ERROR_RETRY_CRED);
    assert_int_equal(error_retry_class(401, ""), ERROR_RETRY_CRED);
    assert_int_equal(error_retry_class(403, "AccessDenied"), ERROR_RETRY_NO);
    assert_int_equal(error_retry_class(409, "FileAlreadyExists"), ERROR_RETRY_NO);
    assert_int_equal(error_retry_class(412, ""), ERROR_RETRY_NO);
    assert_true(error_wants_fresh_connection(503, ""));
    assert_true(error_wants_fresh_connection(400, "RequestTimeout"));
    assert_false(error_wants_fresh_connection(400, "InvalidCRC64"));
    assert_false(error_wants_fresh_connection(404, "NoSuchKey"));
}

static void test_set_and_names(void **state)
{
    struct oss_error err = {.status = 503, .code = "X", .request_id = "Y", .tries = 2, .ambiguous = true, .date = 5};

    (void)state;
    assert_int_equal(error_set(&err, -ETIMEDOUT, "no answer for %d s", 60), -ETIMEDOUT);
    assert_int_equal(err.err, -ETIMEDOUT);
    assert_string_equal(err.message, "no answer for 60 s");
    assert_string_equal(err.code, "");
    assert_string_equal(err.request_id, "");
    assert_int_equal(err.status, 0);
    assert_int_equal(err.next_position, -1);
    assert_int_equal(err.tries, 2);
    assert_true(err.ambiguous);
    assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
    error_reset(NULL);
    error_reset(&err);
    assert_int_equal(err.tries, 0);
    assert_int_equal(err.next_position, -1);

    assert_string_equal(error_name(EACCES), "EACCES");
    assert_string_equal(error_name(-EPROTOTYPE), "EPROTOTYPE");
    assert_string_equal(error_name(-ENOTSUP), "ENOTSUP");
    assert_string_equal(error_name(0), "E?");
    assert_string_equal(error_name(99999), "E?");
}

static void test_format(void **state)
{
    struct oss_error err = {.err = -EACCES, .status = 403, .code = "AccessDenied", .message = "No right."};
    char out[256], small[12];

    (void)state;
    strcpy(err.request_id, "ABC");
    oss_error_format(&err, out, sizeof out);
    assert_string_equal(out, "403 AccessDenied (No right.) request id ABC");
    err.tries = 3;
    oss_error_format(&err, out, sizeof out);
    assert_string_equal(out, "403 AccessDenied (No right.) request id ABC after 3 tries");
    oss_error_format(&err, small, sizeof small);
    assert_string_equal(small, "403 AccessD");
    oss_error_format(&err, small, 1);
    assert_string_equal(small, "");

    err = (struct oss_error){.err = -EIO, .status = 502};
    oss_error_format(&err, out, sizeof out);
    assert_string_equal(out, "502");
    err = (struct oss_error){.err = -ETIMEDOUT, .message = "timed out"};
    oss_error_format(&err, out, sizeof out);
    assert_string_equal(out, "timed out");
    err = (struct oss_error){.err = -ECANCELED};
    oss_error_format(&err, out, sizeof out);
    assert_string_equal(out, "ECANCELED");
}

/* A server that says too much: cut to the room there is, at a character; nothing is read past the end of the body. */
static void test_hostile(void **state)
{
    struct kvlist headers = {0};
    struct oss_error err;
    char body[4096], *heap;
    int n;

    (void)state;
    error_reset(&err);
    n = snprintf(body, sizeof body, "<Error><Code>%0*d</Code><Message>%0254d\xc3\xa4\xc3\xa4</Message></Error>", 100,
                 0, 0);
    kv_add(&headers, "x-oss-request-id", body);
    kv_add(&headers, "x-oss-next-append-position", "99999999999999999999");
    kv_add(&headers, "date", "yesterday");
    heap = malloc((size_t)n);
    memcpy(heap, body, (size_t)n);
    assert_int_equal(error_from_reply(&err, 409, &headers, heap, (size_t)n, NULL), -EIO);
    assert_int_equal(strlen(err.code), sizeof err.code - 1);
    assert_int_equal(strlen(err.message), 254);
    assert_int_equal(strlen(err.request_id), sizeof err.request_id - 1);
    assert_int_equal(err.next_position, -1);
    assert_int_equal(err.date, 0);
    free(heap);

    snprintf(body, sizeof body, "%062d\xc3\xa4", 0);
    kv_set(&headers, "x-oss-request-id", body);
    error_from_reply(&err, 409, &headers, NULL, 0, NULL);
    assert_int_equal(strlen(err.request_id), 62);

    kv_set(&headers, "x-oss-err", "!!!!");
    assert_int_equal(error_from_reply(&err, 404, &headers, NULL, 0, NULL), -ENOENT);
    assert_string_equal(err.code, "");
    kv_set(&headers, "x-oss-err", "====");
    assert_int_equal(error_from_reply(&err, 404, &headers, NULL, 0, NULL), -ENOENT);
    kv_free(&headers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),       cmocka_unit_test(test_errno),  cmocka_unit_test(test_retry_class),
        cmocka_unit_test(test_set_and_names), cmocka_unit_test(test_format), cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
