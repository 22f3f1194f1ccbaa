/*
 * Where the access key comes from: files and their modes, the environment, the order, renewal.
 */
#include "../../oss/base_log.h"
#include "../../oss/cred.h"
#include "../../oss/error.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void file_write(const char *name, const char *text, mode_t mode)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/test_cred.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    unsetenv("OSS_ACCESS_KEY_ID");
    unsetenv("OSS_ACCESS_KEY_SECRET");
    unsetenv("OSS_SESSION_TOKEN");
    setenv("HOME", dir, 1);
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"p", ".passwd-ossfs", ".ossutilconfig", "fifo"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        unlink(in_dir(names[i]));
    return rmdir(dir);
}

static int open_file(struct oss_cred **cred, const char *path, const char *bucket, struct oss_error *err)
{
    const struct oss_cred_config config = {.bucket = bucket, .passwd_file = path};

    return oss_cred_open(cred, &config, err);
}

/* Opens file "p" for `bucket`; on success the key is in *key. */
static int try_file(const char *bucket, struct oss_key *key, struct oss_error *err)
{
    struct oss_cred *cred;
    int r = open_file(&cred, in_dir("p"), bucket, err);

    if (r == 0) {
        assert_int_equal(oss_cred_get(cred, key), 0);
        oss_cred_free(cred);
    } else {
        assert_null(cred);
        assert_int_equal(err->err, r);
        assert_true(*err->message);
    }
    return r;
}

static void assert_key(const struct oss_key *key, const char *id, const char *secret)
{
    assert_string_equal(key->id, id);
    assert_string_equal(key->secret, secret);
}

static void lines_of_a_file(void **state)
{
    static const struct {
        const char *text, *bucket, *id, *secret;
    } good[] = {
        {"AK:SK\n", "b", "AK", "SK"},
        {"AK:SK", "b", "AK", "SK"},
        {"# a comment: with : colons : in it\n\n  \nAK:SK\n", "b", "AK", "SK"},
        {"AK:SK\r\n", "b", "AK", "SK"},
        {"  AK:SK \t\n", "b", "AK", "SK"},
        {"AK:SK\nb:AK2:SK2\n", "b", "AK2", "SK2"},
        {"b:AK2:SK2\nAK:SK\n", "b", "AK2", "SK2"},
        {"b:AK2:SK2\nAK:SK\n", "c", "AK", "SK"},
        {"bb:AK2:SK2\nAK:SK\n", "b", "AK", "SK"},
        {"AK1:SK1\nAK2:SK2\n", "b", "AK1", "SK1"},
        {"b:AK1:SK1\nb:AK2:SK2\n", "b", "AK1", "SK1"},
    };
    struct oss_key key;
    struct oss_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        file_write("p", good[i].text, 0600);
        assert_int_equal(try_file(good[i].bucket, &key, &err), 0);
        assert_key(&key, good[i].id, good[i].secret);
        assert_string_equal(key.token, "");
    }
}

static void malformed_lines(void **state)
{
    static const struct {
        const char *text;
        int line;
    } bad[] = {
        {"hushhush\n", 1},     {"AK:SK\nhushhush\n", 2}, {":hushhush\n", 1},       {"hushhush:\n", 1},
        {"b:hushhush:\n", 1},  {"b::hushhush\n", 1},     {":AK:hushhush\n", 1},    {"a:b:c:hushhush\n", 1},
        {"AK:hush hush\n", 1}, {"AK:hushhush\001\n", 1}, {"# x\n\nhushhush\n", 3}, {"AK:hushhush\xc3\xa4\n", 1},
    };
    struct oss_key key;
    struct oss_error err;
    char line[16];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        file_write("p", bad[i].text, 0600);
        assert_int_equal(try_file("b", &key, &err), -EINVAL);
        snprintf(line, sizeof(line), "line %d ", bad[i].line);
        assert_non_null(strstr(err.message, line));
        assert_null(strstr(err.message, "hush"));
    }
}

static void fields_of_every_length(void **state)
{
    char text[600];
    struct oss_key key;
    struct oss_error err;

    (void)state;
    for (int n = 120; n < 135; n++) {
        snprintf(text, sizeof(text), "%0*d:SK\n", n, 7);
        file_write("p", text, 0600);
        assert_int_equal(try_file("b", &key, &err), n < 128 ? 0 : -EINVAL);
    }
    for (int n = 250; n < 260; n++) {
        snprintf(text, sizeof(text), "AK:%0*d\n", n, 7);
        file_write("p", text, 0600);
        assert_int_equal(try_file("b", &key, &err), n < 256 ? 0 : -EINVAL);
    }
}

static void no_line_for_the_bucket(void **state)
{
    struct oss_key key;
    struct oss_error err;

    (void)state;
    file_write("p", "c:AK:SK\n", 0600);
    assert_int_equal(try_file("b", &key, &err), -ENOENT);
    assert_non_null(strstr(err.message, "b"));
    file_write("p", "", 0600);
    assert_int_equal(try_file("b", &key, &err), -ENOENT);
    unlink(in_dir("p"));
    assert_int_equal(try_file("b", &key, &err), -ENOENT);
    assert_non_null(strstr(err.message, in_dir("p")));
}

static void modes_of_a_file(void **state)
{
    struct oss_key key;
    struct oss_error err;

    (void)state;
    for (mode_t mode = 0400; mode < 0700; mode++) {
        bool good = (mode & 077) == 0;

        file_write("p", "AK:SK\n", mode);
        assert_int_equal(try_file("b", &key, &err), good ? 0 : -EACCES);
        if (!good)
            assert_non_null(strstr(err.message, "chmod 600"));
    }
}

static void only_regular_files(void **state)
{
    struct oss_cred *cred;
    struct oss_error err;

    (void)state;
    assert_int_equal(open_file(&cred, dir, "b", &err), -EACCES);
    /* A FIFO without a writer must not hang the mount. */
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    alarm(5);
    assert_int_equal(open_file(&cred, in_dir("fifo"), "b", &err), -EACCES);
    alarm(0);
    assert_int_equal(open_file(&cred, "/dev/null", "b", &err), -EACCES);
}

static int open_default(struct oss_key *key, struct oss_error *err)
{
    struct oss_cred *cred;
    int r = open_file(&cred, NULL, "b", err);

    if (r == 0) {
        assert_int_equal(oss_cred_get(cred, key), 0);
        oss_cred_free(cred);
    }
    return r;
}

static void the_order_of_sources(void **state)
{
    struct oss_key key;
    struct oss_error err;

    (void)state;
    if (access("/etc/passwd-ossfs", F_OK) < 0) {
        assert_int_equal(open_default(&key, &err), -ENOENT);
        assert_non_null(strstr(err.message, "passwd_file="));
        assert_non_null(strstr(err.message, "OSS_ACCESS_KEY_ID"));
    }
    file_write(".passwd-ossfs", "HOMEID:HOMESECRET\n", 0600);
    assert_int_equal(open_default(&key, &err), 0);
    assert_key(&key, "HOMEID", "HOMESECRET");

    /* Half an environment counts as none. */
    setenv("OSS_ACCESS_KEY_ID", "ENVID", 1);
    assert_int_equal(open_default(&key, &err), 0);
    assert_key(&key, "HOMEID", "HOMESECRET");
    setenv("OSS_ACCESS_KEY_SECRET", "", 1);
    assert_int_equal(open_default(&key, &err), 0);
    assert_key(&key, "HOMEID", "HOMESECRET");

    setenv("OSS_ACCESS_KEY_SECRET", "ENVSECRET", 1);
    assert_int_equal(open_default(&key, &err), 0);
    assert_key(&key, "ENVID", "ENVSECRET");
    assert_string_equal(key.token, "");
    setenv("OSS_SESSION_TOKEN", "", 1);
    assert_int_equal(open_default(&key, &err), 0);
    assert_string_equal(key.token, "");
    setenv("OSS_SESSION_TOKEN", "CAIS+/=token", 1);
    assert_int_equal(open_default(&key, &err), 0);
    assert_string_equal(key.token, "CAIS+/=token");
    setenv("OSS_SESSION_TOKEN", "two words", 1);
    assert_int_equal(open_default(&key, &err), -EINVAL);
    assert_null(strstr(err.message, "words"));

    /* A file that is named is the only source. */
    file_write("p", "FILEID:FILESECRET\n", 0600);
    assert_int_equal(try_file("b", &key, &err), 0);
    assert_key(&key, "FILEID", "FILESECRET");
    unlink(in_dir("p"));
    assert_int_equal(try_file("b", &key, &err), -ENOENT);
}

static void an_open_file_at_home_is_an_error(void **state)
{
    struct oss_key key;
    struct oss_error err;

    (void)state;
    file_write(".passwd-ossfs", "HOMEID:HOMESECRET\n", 0644);
    assert_int_equal(open_default(&key, &err), -EACCES);
    assert_non_null(strstr(err.message, ".passwd-ossfs"));
}

static void refresh(void **state)
{
    struct oss_cred *cred;
    struct oss_key key;
    struct oss_error err;

    (void)state;
    file_write("p", "OLD:SK\n", 0600);
    assert_int_equal(open_file(&cred, in_dir("p"), "b", &err), 0);
    assert_false(oss_cred_refresh(cred));
    file_write("p", "NEW:SK\n", 0600);
    assert_true(oss_cred_refresh(cred));
    assert_int_equal(oss_cred_get(cred, &key), 0);
    assert_key(&key, "NEW", "SK");
    assert_false(oss_cred_refresh(cred));

    /* What cannot be read changes nothing. */
    file_write("p", "NEWER:SK\n", 0644);
    assert_false(oss_cred_refresh(cred));
    file_write("p", "half a li", 0600);
    assert_false(oss_cred_refresh(cred));
    unlink(in_dir("p"));
    assert_false(oss_cred_refresh(cred));
    assert_int_equal(oss_cred_get(cred, &key), 0);
    assert_key(&key, "NEW", "SK");
    oss_cred_free(cred);

    cred = oss_cred_fixed("ID", "SECRET", NULL);
    assert_non_null(cred);
    assert_false(oss_cred_refresh(cred));
    assert_int_equal(oss_cred_get(cred, &key), 0);
    assert_key(&key, "ID", "SECRET");
    assert_string_equal(key.token, "");
    oss_cred_free(cred);
    oss_cred_free(NULL);
}

/* A key renewed in place is used without anyone asking, within about a second; also from another directory. */
static void a_changed_file_is_followed(void **state)
{
    struct oss_cred *cred;
    struct oss_key key;
    struct oss_error err;
    char cwd[256];

    (void)state;
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    file_write("p", "OLD:SK\n", 0600);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(open_file(&cred, "p", "b", &err), 0);
    assert_int_equal(chdir("/"), 0);
    file_write("p", "RENEWED:SK\n", 0600);
    usleep(1200000);
    assert_int_equal(oss_cred_get(cred, &key), 0);
    assert_key(&key, "RENEWED", "SK");
    oss_cred_free(cred);
    assert_int_equal(chdir(cwd), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_of_a_file),
        TEST(malformed_lines),
        TEST(fields_of_every_length),
        TEST(no_line_for_the_bucket),
        TEST(modes_of_a_file),
        TEST(only_regular_files),
        TEST(the_order_of_sources),
        TEST(an_open_file_at_home_is_an_error),
        TEST(refresh),
        TEST(a_changed_file_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
