/*
 * Access keys from text and from programs: JSON, the file of ossutil, words of a command, a process.
 */
#include "../../oss/base_json.h"
#include "../../oss/base_time.h"
#include "../../oss/cred_source.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --------------------------------------------------------------------------------------------------- JSON */

static int collect(void *arg, const char *name, const char *value)
{
    strcat(arg, name);
    strcat(arg, "=");
    strcat(arg, value);
    strcat(arg, ";");
    return strcmp(name, "stop") == 0 ? -ESTALE : 0;
}

static void members_of_an_object(void **state)
{
    static const struct {
        const char *text, *expect;
        int r;
    } cases[] = {
        {"{}", "", 0},
        {" { } \n", "", 0},
        {"{\"a\":\"b\"}", "a=b;", 0},
        {"{\"a\" : \"b\" , \"c\":\"\"}", "a=b;c=;", 0},
        {"{\"a\":1,\"b\":-1.5e3,\"c\":true,\"d\":null,\"e\":\"x\"}", "e=x;", 0},
        {"{\"a\":{\"b\":\"deep\"},\"c\":[\"d\",{\"e\":[]}],\"f\":\"g\"}", "f=g;", 0},
        {"{\"a\":\"\\\"\\\\\\/\\n\\t\"}", "a=\"\\/\n\t;", 0},
        {"{\"a\":\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"}", "a=A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80;", 0},
        {"{\"stop\":\"x\",\"a\":\"b\"}", "stop=x;", -ESTALE},
        {"", "", -EINVAL},
        {"[]", "", -EINVAL},
        {"\"a\"", "", -EINVAL},
        {"{\"a\":\"b\"} x", "a=b;", -EINVAL},
        {"{\"a\":\"b\",}", "a=b;", -EINVAL},
        {"{\"a\":\"b\"", "a=b;", -EINVAL},
        {"{\"a\":\"b", "", -EINVAL},
        {"{\"a\":\"\\", "", -EINVAL},
        {"{\"a\":\"\\x\"}", "", -EINVAL},
        {"{\"a\":\"\\u12\"}", "", -EINVAL},
        {"{\"a\":\"\\u0000\"}", "", -EINVAL},
        {"{\"a\":\"\\ud83d\"}", "", -EINVAL},
        {"{\"a\":\"\\ude00\"}", "", -EINVAL},
        {"{\"a\":\"b\nc\"}", "", -EINVAL},
        {"{\"a\":tru}", "", -EINVAL},
        {"{\"a\"}", "", -EINVAL},
        {"{a:\"b\"}", "", -EINVAL},
    };
    char got[256], deep[200] = "{\"a\":";

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        got[0] = '\0';
        assert_int_equal(json_members(cases[i].text, strlen(cases[i].text), collect, got), cases[i].r);
        assert_string_equal(got, cases[i].expect);
    }
    assert_int_equal(json_members("{\"a\":\"b\0\"}", 10, collect, got), -EINVAL);
    for (int i = 0; i < 60; i++)
        strcat(deep, "[");
    assert_int_equal(json_members(deep, strlen(deep), collect, got), -EINVAL);
}

static int key_of(const char *text, struct cred_found *found, struct oss_error *err)
{
    return cred_json(text, strlen(text), found, err);
}

static void a_key_in_json(void **state)
{
    struct oss_error err = {0};
    struct cred_found found;
    char text[400];
    time_t later = clock_wall().tv_sec + 3600;
    struct tm tm;

    (void)state;
    assert_int_equal(key_of("{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\"}", &found, &err), 0);
    assert_string_equal(found.key.id, "i");
    assert_string_equal(found.key.secret, "s");
    assert_string_equal(found.key.token, "");
    assert_int_equal(found.life_ms, 0);
    /* As the vendor's command line tool has it. */
    assert_int_equal(
        key_of("{\"mode\":\"StsToken\",\"access_key_id\":\"i\",\"access_key_secret\":\"s\",\"sts_token\":\"t\"}",
               &found, &err),
        0);
    assert_string_equal(found.key.token, "t");
    gmtime_r(&later, &tm);
    snprintf(text, sizeof(text),
             "{\"Code\":\"Success\",\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\",\"SecurityToken\":\"t\","
             "\"Expiration\":\"%04d-%02d-%02dT%02d:%02d:%02dZ\",\"LastUpdated\":\"x\"}",
             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    assert_int_equal(key_of(text, &found, &err), 0);
    assert_in_range(found.life_ms, 3590000, 3600000);
    /* Past already: it is asked for again at once, not never. */
    assert_int_equal(
        key_of("{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\",\"Expiration\":\"2012-02-22T08:32:21Z\"}", &found,
               &err),
        0);
    assert_int_equal(found.life_ms, 1);

    assert_int_equal(key_of("{\"Code\":\"Fail\",\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\"}", &found, &err),
                     -EACCES);
    assert_non_null(strstr(err.message, "Fail"));
    assert_int_equal(key_of("{\"AccessKeyId\":\"i\"}", &found, &err), -EINVAL);
    assert_int_equal(key_of("{\"AccessKeyId\":\"i d\",\"AccessKeySecret\":\"hush\"}", &found, &err), -EINVAL);
    assert_null(strstr(err.message, "hush"));
    assert_string_equal(found.key.secret, "");
    assert_int_equal(
        key_of("{\"AccessKeyId\":\"i\",\"AccessKeySecret\":\"s\",\"Expiration\":\"soon\"}", &found, &err), -EINVAL);
    assert_int_equal(key_of("access denied", &found, &err), -EINVAL);
}

/* ---------------------------------------------------------------------------------------------------- INI */

static void the_file_of_ossutil(void **state)
{
    static const struct {
        const char *text, *id, *secret, *token, *endpoint, *region, *role;
        bool cname;
        int r;
        unsigned bad;
    } cases[] = {
        {"[Credentials]\nlanguage=EN\nendpoint=oss-cn-hangzhou.aliyuncs.com\naccessKeyID=i\naccessKeySecret=s=\n",
         "i", "s=", "", "oss-cn-hangzhou.aliyuncs.com", NULL, NULL, false, 0, 0},
        {"[Credentials]\r\n access-key-id = i\r\nACCESS_KEY_SECRET= s \r\nstsToken=t\r\n", "i", "s", "t", NULL, NULL,
         NULL, false, 0, 0},
        {"# one\n; two\n\n[default]\naccessKeyId=i\naccessKeySecret=s\nregion=cn-beijing\n[profile "
         "other]\naccessKeyId=x\n",
         "i", "s", "", NULL, "cn-beijing", NULL, false, 0, 0},
        {"[Credentials]\naccessKeyID=i\naccessKeySecret=s\nendpoint=e\n[Bucket-Endpoint]\nb=f\nc=g\n", "i", "s", "",
         "f", NULL, NULL, false, 0, 0},
        {"[Credentials]\naccessKeyID=i\naccessKeySecret=s\n[Bucket-Endpoint]\nb=f\n[Bucket-Cname]\nb=my.domain\n",
         "i", "s", "", "my.domain", NULL, NULL, true, 0, 0},
        {"[Credentials]\nmode=EcsRamRole\necsRoleName=R\nendpoint=e\n", "", "", "", "e", NULL, "R", false, 0, 0},
        {"[Credentials]\nmode=ecsramrole\n", "", "", "", NULL, NULL, "auto", false, 0, 0},
        {"[Credentials]\nendpoint=e\n[AkService]\necsAk=http://100.100.100.200/x/R\n", "", "", "", "e", NULL,
         "http://100.100.100.200/x/R", false, 0, 0},
        {"[Credentials]\naccessKeyID=i\n", "", "", "", NULL, NULL, NULL, false, -ENOENT, 0},
        {"[other]\naccessKeyID=i\naccessKeySecret=s\n", "", "", "", NULL, NULL, NULL, false, -ENOENT, 0},
        {"[Credentials]\naccessKeyID=i j\naccessKeySecret=s\n", "", "", "", NULL, NULL, NULL, false, -EINVAL, 0},
        {"[Credentials]\naccessKeyID=i\nnonsense\n", "", "", "", NULL, NULL, NULL, false, -EINVAL, 3},
        {"[Credentials\naccessKeyID=i\n", "", "", "", NULL, NULL, NULL, false, -EINVAL, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct cred_profile profile;
        struct oss_key key;
        unsigned bad;

        assert_int_equal(cred_ini_text(cases[i].text, strlen(cases[i].text), "b", &key, &profile, &bad), cases[i].r);
        assert_int_equal(bad, cases[i].bad);
        if (cases[i].r == 0) {
            assert_string_equal(key.id, cases[i].id);
            assert_string_equal(key.secret, cases[i].secret);
            assert_string_equal(key.token, cases[i].token);
            assert_string_equal(profile.endpoint ? profile.endpoint : "-",
                                cases[i].endpoint ? cases[i].endpoint : "-");
            assert_string_equal(profile.region ? profile.region : "-", cases[i].region ? cases[i].region : "-");
            assert_string_equal(profile.role ? profile.role : "-", cases[i].role ? cases[i].role : "-");
            assert_int_equal(profile.cname, cases[i].cname);
        }
        cred_profile_free(&profile);
    }
}

/* ------------------------------------------------------------------------------------------------- process */

static void words_of_a_command(void **state)
{
    static const struct {
        const char *command, *words[6];
        int r;
    } cases[] = {
        {"/bin/p", {"/bin/p"}, 0},
        {"  /bin/p  a\tb ", {"/bin/p", "a", "b"}, 0},
        {"/bin/p 'a b' \"c d\" e\\ f", {"/bin/p", "a b", "c d", "e f"}, 0},
        {"/bin/p '' \"x'y\" 'x\"y' a\"b\"c", {"/bin/p", "", "x'y", "x\"y", "abc"}, 0},
        {"/bin/p $HOME `id` ; rm *", {"/bin/p", "$HOME", "`id`", ";", "rm", "*"}, 0},
        {"", {NULL}, 0},
        {"/bin/p 'open", {NULL}, -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char **words;
        size_t n;

        assert_int_equal(cred_words(cases[i].command, &words, &n), cases[i].r);
        for (size_t k = 0; cases[i].r == 0 && k < n; k++)
            assert_string_equal(words[k], cases[i].words[k]);
        assert_true(cases[i].r || n == 6 || !cases[i].words[n]);
        free(words);
    }
}

static char program[64];

static void program_write(const char *text, mode_t mode)
{
    int fd;

    unlink(program);
    fd = open(program, O_WRONLY | O_CREAT | O_EXCL, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int run_program(const char *text, mode_t mode, const char *arguments, struct cred_found *found,
                       struct oss_error *err)
{
    static const atomic_bool go_on = false;
    char command[128];

    program_write(text, mode);
    snprintf(command, sizeof(command), "%s%s", program, arguments);
    return cred_process(command, 1500, &go_on, found, err);
}

static void a_program_that_knows_the_key(void **state)
{
    atomic_bool go_on = false;
    static const char good[] = "#!/bin/sh\necho '{\"AccessKeyId\":\"'$1'\",\"AccessKeySecret\":\"s\"}'\n";
    struct cred_found found;
    struct oss_error err = {0};
    int64_t began;

    (void)state;
    snprintf(program, sizeof(program), "/tmp/test_cred_source.%d", (int)getpid());
    assert_int_equal(run_program(good, 0700, " one", &found, &err), 0);
    assert_string_equal(found.key.id, "one");
    /* It ends while something that it has started still holds its output: that is not waited for without a limit. */
    assert_int_equal(run_program("#!/bin/sh\nsleep 60 &\n", 0700, "", &found, &err), -ETIMEDOUT);
    began = clock_ms();
    assert_int_equal(run_program("#!/bin/sh\nsleep 60\n", 0700, "", &found, &err), -ETIMEDOUT);
    assert_true(clock_ms() - began < 20000);
    assert_non_null(strstr(err.message, "did not end within 1 s"));
    assert_int_equal(run_program("#!/bin/sh\nexit 3\n", 0700, "", &found, &err), -EIO);
    assert_non_null(strstr(err.message, "status 3"));
    assert_int_equal(run_program("#!/bin/sh\necho '{}'\nexit 3\n", 0700, "", &found, &err), -EIO);
    assert_int_equal(run_program("#!/bin/sh\necho '{}'\n", 0700, "", &found, &err), -EINVAL);
    assert_int_equal(run_program("#!/bin/sh\nexec cat /dev/zero\n", 0700, "", &found, &err), -EIO);
    assert_int_equal(run_program(good, 0600, "", &found, &err), -EACCES);
    assert_int_equal(run_program(good, 0722, "", &found, &err), -EACCES);
    assert_non_null(strstr(err.message, "changed by others"));
    unlink(program);
    assert_int_equal(cred_process("true", 1000, &go_on, &found, &err), -EINVAL);
    assert_int_equal(cred_process(program, 1000, &go_on, &found, &err), -EACCES);
}

/* Who unmounts while a service that does not answer is asked is told of no failure. */
static void stopped_while_asking(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const atomic_bool stop = true;
    socklen_t n = sizeof(address);
    struct cred_found found;
    struct oss_error err;
    char base[64];
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    snprintf(base, sizeof(base), "http://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(cred_metadata(base, "auto", &stop, &found, &err), -ECANCELED);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_of_an_object),         cmocka_unit_test(a_key_in_json),
        cmocka_unit_test(the_file_of_ossutil),          cmocka_unit_test(words_of_a_command),
        cmocka_unit_test(a_program_that_knows_the_key), cmocka_unit_test(stopped_while_asking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
