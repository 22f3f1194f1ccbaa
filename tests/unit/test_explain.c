/* What a failed mount says. */
#include "../../fs/explain.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    int status;
    const char *code, *message;
    int err;
    const char *words; /* of the advice */
} cases[] = {
    {403, "AccessDenied", "You have no right to access this object.", -EACCES, "oss:ListObjects"},
    {403, "AccessDenied", "The bucket you access must be addressed using the specified endpoint.", -EACCES,
     "endpoint of the bucket's region"},
    {403, "SignatureDoesNotMatch", "The request signature we calculated does not match.", -EACCES, "secret"},
    {403, "InvalidAccessKeyId", "The OSS Access Key Id does not exist.", -EACCES, "access key id"},
    {403, "SecurityTokenExpired", "The security token you provided has expired.", -EACCES, "OSS_SESSION_TOKEN"},
    {403, "RequestTimeTooSkewed", "The difference is too large.", -EACCES, "clock"},
    {403, "SecondLevelDomainForbidden", "Please use virtual hosted style.", -EACCES, "use_path_request_style"},
    {404, "NoSuchBucket", "The specified bucket does not exist.", -ENOENT, "name of the bucket"},
    {301, "PermanentRedirect", "", -EIO, "endpoint of the bucket's region"},
    {403, "", "", -EACCES, "permissions"},
    {503, "ServiceUnavailable", "Please try again.", -EIO, "try again later"},
    {0, "", "Could not resolve host: photos.oss-cn-nowhere.aliyuncs.com", -EIO, "name server"},
    {0, "", "Failed to connect to 127.0.0.1 port 1: Connection refused", -EIO, "nothing listens"},
    {0, "", "Failed to connect to localhost port 1 after 0 ms: Couldn't connect to server", -EIO, "host and port"},
    {0, "", "Failed to connect to 10.0.0.1 port 80 after 10001 ms: Timeout was reached", -ETIMEDOUT, "-internal"},
    {0, "", "SSL certificate problem: self-signed certificate", -EIO, "cacert="},
    {0, "", "error:0A00010B:SSL routines::wrong version number", -EIO, "TLS port"},
    {0, "", "Connection timed out after 10001 milliseconds", -ETIMEDOUT, "-internal"},
    {0, "", "something that nobody has seen before", -EIO, "the log"},
};

static struct oss_error error_of(size_t i)
{
    struct oss_error err = {.err = cases[i].err, .status = cases[i].status};

    snprintf(err.code, sizeof(err.code), "%s", cases[i].code);
    snprintf(err.message, sizeof(err.message), "%s", cases[i].message);
    return err;
}

static void test_advice(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct oss_error err = error_of(i);

        if (!strstr(explain_advice(&err), cases[i].words))
            fail_msg("%s %s: \"%s\" does not say \"%s\"", cases[i].code, cases[i].message, explain_advice(&err),
                     cases[i].words);
    }
}

static char source[] = "photos:/2024", url[] = "https://oss-cn-beijing.aliyuncs.com";
static const struct options options = {.source = source, .url = url};

/* Code, message, request id and what to check, in one line. */
static void test_line(void **state)
{
    struct oss_error err = error_of(0);
    struct message m;

    (void)state;
    strcpy(err.request_id, "68A0FAKE0000000000000001");
    explain_mount_failure(&m, &err, &options);
    assert_non_null(strstr(m.text, "cannot mount photos:/2024 from https://oss-cn-beijing.aliyuncs.com: 403 "
                                   "AccessDenied (You have no right to access this object.), request id "
                                   "68A0FAKE0000000000000001: check that this key may list"));
    err = error_of(11);
    explain_mount_failure(&m, &err, &options);
    assert_non_null(strstr(m.text, ".com: Could not resolve host: photos.oss-cn-nowhere.aliyuncs.com: check"));
    err = (struct oss_error){.err = -ENOSPC};
    explain_mount_failure(&m, &err, &options);
    assert_non_null(strstr(m.text, "No space left on device: free space"));
    err = (struct oss_error){.err = -EINVAL, .message = "region \"x y\" is no region: give one like cn-hangzhou"};
    explain_mount_failure(&m, &err, &options);
    assert_string_equal(m.text, "cannot mount photos:/2024: region \"x y\" is no region: give one like cn-hangzhou");
}

/* All fields full, and full of what a terminal would obey: one line, advice and all. */
static void test_hostile(void **state)
{
    struct oss_error err = {.err = -EACCES, .status = 403};
    struct message m;

    (void)state;
    memset(err.code, '\n', sizeof(err.code) - 1);
    memset(err.message, 033, sizeof(err.message) - 1);
    memset(err.request_id, '\r', sizeof(err.request_id) - 1);
    explain_mount_failure(&m, &err, &options);
    for (const char *s = m.text; *s; s++)
        assert_true((unsigned char)*s >= ' ' && *s != 0x7f);
    assert_non_null(strstr(m.text, "check the access key and its permissions"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
