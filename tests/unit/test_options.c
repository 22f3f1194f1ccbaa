/* The command line: every option, every refusal, and that no refusal shows a secret. */
#include "../../fs/options.h"

#include "../../oss/base_log.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS_MAX 16

/* Parses "ossmount ARG..."; the list ends with NULL. */
static int parse_as(const char *self, struct options *o, struct message *m, va_list ap)
{
    char *argv[ARGS_MAX] = {(char *)(uintptr_t)self};
    int argc = 1;
    char *a;

    while ((a = va_arg(ap, char *))) {
        assert_true(argc < ARGS_MAX);
        argv[argc++] = a;
    }
    return options_parse(o, argc, argv, m);
}

static void good(struct options *o, ...)
{
    struct message m;
    va_list ap;
    int r;

    va_start(ap, o);
    r = parse_as("ossmount", o, &m, ap);
    va_end(ap);
    if (r != 0)
        fail_msg("refused: %s", m.text);
    assert_string_equal(m.text, "");
}

/* The command line must be refused with a message that holds `words`. */
static void refused(const char *words, ...)
{
    struct options o;
    struct message m;
    va_list ap;
    int r;

    va_start(ap, words);
    r = parse_as("/usr/bin/ossmount", &o, &m, ap);
    va_end(ap);
    assert_int_equal(r, -EINVAL);
    if (!strstr(m.text, words))
        fail_msg("\"%s\" does not say \"%s\"", m.text, words);
    assert_null(strchr(m.text, '\n'));
    assert_null(strstr(m.text, "hush"));
    options_free(&o);
}

/* One -o list behind a command line that is otherwise good. */
static void option(struct options *o, const char *list)
{
    good(o, "photos", "/mnt", "-o", "url=http://127.0.0.1:1", "-o", list, NULL);
}
static void bad_option(const char *words, const char *list)
{
    refused(words, "photos", "/mnt", "-o", "url=http://127.0.0.1:1", "-o", list, NULL);
}

static void test_defaults(void **state)
{
    struct options o;

    (void)state;
    good(&o, "photos", "/mnt/p", "-o", "url=http://localhost:8080", NULL);
    assert_string_equal(o.source, "photos");
    assert_string_equal(o.bucket, "photos");
    assert_string_equal(o.prefix, "");
    assert_string_equal(o.mountpoint, "/mnt/p");
    assert_string_equal(o.url, "http://localhost:8080");
    assert_string_equal(o.kernel, "");
    assert_null(o.region);
    assert_null(o.passwd_file);
    assert_null(o.cacert);
    assert_null(o.cache_dir);
    assert_null(o.logfile);
    assert_false(o.foreground || o.debug || o.single_thread || o.help || o.version || o.fake);
    assert_false(o.sigv1 || o.use_path_request_style || o.cname || o.allow_other || o.read_only);
    assert_true(o.enable_crc64);
    assert_true(o.keep_acl);
    assert_int_equal(o.retries, 5);
    assert_int_equal(o.connect_timeout, 10000);
    assert_int_equal(o.readwrite_timeout, 60000);
    assert_int_equal(o.metadata_deadline, 30000);
    assert_int_equal(o.transfer_deadline, 60000);
    assert_int_equal(o.parallel_count, 5);
    assert_int_equal(o.multipart_size, 10 * 1048576);
    assert_int_equal(o.multipart_threshold, 10 * 1048576);
    assert_int_equal(o.stat_cache_expire, 60000);
    assert_int_equal(o.max_inodes, 200000);
    assert_int_equal(o.cache_size, 0);
    assert_int_equal(o.free_space, 10);
    assert_int_equal(o.uid, getuid());
    assert_int_equal(o.gid, getgid());
    assert_false(o.uid_given || o.gid_given);
    assert_int_equal(o.umask, 022);
    assert_int_equal(o.dbglevel, LOG_LEVEL_INFO);
    options_free(&o);
}

static void test_each_option(void **state)
{
    struct options o;

    (void)state;
    good(&o, "-o",
         "url=https://oss-cn-beijing.aliyuncs.com,region=cn-beijing,passwd_file=/etc/p,sigv1,use_path_request_style,"
         "uid=12,gid=0,umask=0077,allow_other,ro,retries=0,connect_timeout=1,readwrite_timeout=3600",
         "photos", "/mnt", "-oparallel_count=100,multipart_size=1,multipart_threshold=5120,cacert=/ca,dbglevel=error",
         "-o",
         "logfile=/log,cache_dir=/var/cache/x,enable_crc64=no,stat_cache_expire=0,cache_size=1024,free_space=99",
         "-o", "keep_acl=no,metadata_deadline=7,transfer_deadline=8,max_inodes=100", NULL);
    assert_string_equal(o.url, "https://oss-cn-beijing.aliyuncs.com");
    assert_string_equal(o.region, "cn-beijing");
    assert_string_equal(o.passwd_file, "/etc/p");
    assert_true(o.sigv1 && o.use_path_request_style && o.allow_other && o.read_only);
    assert_int_equal(o.uid, 12);
    assert_int_equal(o.gid, 0);
    assert_true(o.uid_given && o.gid_given);
    assert_int_equal(o.umask, 077);
    assert_int_equal(o.retries, 0);
    assert_int_equal(o.connect_timeout, 1000);
    assert_int_equal(o.readwrite_timeout, 3600000);
    assert_int_equal(o.parallel_count, 100);
    assert_int_equal(o.multipart_size, 1048576);
    assert_int_equal(o.multipart_threshold, INT64_C(5) << 30);
    assert_string_equal(o.cacert, "/ca");
    assert_int_equal(o.dbglevel, LOG_LEVEL_ERR);
    assert_string_equal(o.logfile, "/log");
    assert_string_equal(o.cache_dir, "/var/cache/x");
    assert_false(o.enable_crc64);
    assert_false(o.keep_acl);
    assert_int_equal(o.stat_cache_expire, 0);
    assert_int_equal(o.cache_size, INT64_C(1) << 30);
    assert_int_equal(o.free_space, 99);
    assert_int_equal(o.max_inodes, 100);
    assert_int_equal(o.metadata_deadline, 7000);
    assert_int_equal(o.transfer_deadline, 8000);
    options_free(&o);
}

static void test_flags(void **state)
{
    static const struct {
        const char *text;
        bool value;
    } cases[] = {{"cname", true},        {"cname=yes", true},      {"cname=1", true},  {"cname=on", true},
                 {"cname=TRUE", true},   {"cname=no", false},      {"cname=0", false}, {"cname=off", false},
                 {"cname=false", false}, {"cname,cname=no", false}};
    struct options o;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        option(&o, cases[i].text);
        assert_int_equal(o.cname, cases[i].value);
        options_free(&o);
    }
    bad_option("cname=yes", "cname=maybe");
    bad_option("enable_crc64=yes or enable_crc64=no", "enable_crc64=2");
    /* The last word counts, as for mount(8). */
    option(&o, "ro,rw");
    assert_false(o.read_only);
    options_free(&o);
    option(&o, "rw,ro");
    assert_true(o.read_only);
    options_free(&o);
}

/* Each bound of the table is accepted, and one beyond is refused by a message with range and unit. */
static void test_ranges(void **state)
{
    const struct option_spec *table;
    size_t n;

    (void)state;
    table = options_table(&n);
    for (size_t i = 0; i < n; i++) {
        const struct option_spec *spec = &table[i];
        const char *format = spec->type == OPTION_OCTAL ? "%s=%llo" : "%s=%lld";
        struct options o;
        char text[128], range[128];

        if (spec->type != OPTION_COUNT && spec->type != OPTION_OCTAL)
            continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), format, spec->name, (long long)spec->min);
        option(&o, text);
        assert_int_equal(*(int64_t *)(void *)((char *)&o + spec->offset), spec->min * spec->scale);
        options_free(&o);
        snprintf(text, sizeof(text), format, spec->name, (long long)spec->max);
        option(&o, text);
        assert_int_equal(*(int64_t *)(void *)((char *)&o + spec->offset), spec->max * spec->scale);
        options_free(&o);
        snprintf(text, sizeof(text), format, spec->name, (long long)spec->max + 1);
        snprintf(range, sizeof(range), spec->type == OPTION_OCTAL ? "from %03llo to %03llo" : "from %lld to %lld",
                 (long long)spec->min, (long long)spec->max);
#pragma GCC diagnostic pop
        bad_option(range, text);
        if (*spec->unit)
            bad_option(spec->unit, text);
    }
}

static void test_bad_values(void **state)
{
    (void)state;
    bad_option("retries=-1: give a whole number from 0 to 100", "retries=-1");
    bad_option("retries= ", "retries= 5");
    bad_option("retries=5x", "retries=5x");
    bad_option("retries=+5", "retries=+5");
    bad_option("retries=0x5", "retries=0x5");
    bad_option("retries=99999999999999999999999", "retries=99999999999999999999999");
    bad_option("from 1 to 5120, in MB", "multipart_size=10M");
    bad_option("from 1 to 5120, in MB", "multipart_threshold=5121");
    bad_option("from 1 to 5120, in MB", "multipart_threshold=0");
    bad_option("octal number from 000 to 777", "umask=8");
    bad_option("octal number", "umask=1000");
    bad_option("critical, error, warning, info or debug", "dbglevel=loud");
    bad_option("retries needs a value: retries=N", "retries");
    bad_option("url needs a value: url=URL", "url=");
    bad_option("passwd_file needs a value: passwd_file=FILE", "passwd_file");
    bad_option("exclude each other", "cname,use_path_request_style");
    bad_option("give host or strict", "excl=yes");
    bad_option("exclude each other", "excl=strict,forbid_overwrite=yes");
}

static void test_unknown(void **state)
{
    (void)state;
    bad_option("unknown option \"regoin\": did you mean \"region\"?", "regoin=cn-test");
    bad_option("did you mean \"allow_other\"?", "allow_others");
    bad_option("did you mean \"multipart_size\"?", "multipart-size=3");
    bad_option("did you mean \"noatime\"?", "noatim");
    bad_option("unknown option \"frobnicate\" (", "frobnicate");
    bad_option("unknown option \"nonempty\" (", "nonempty");
    /* An option of another program is no reason to guess. */
    bad_option("no name that is known", "hush/secret+part=");
    refused("unknown option -x", "photos", "/mnt", "-x", NULL);
    refused("unknown option --verbose", "photos", "/mnt", "--verbose", NULL);
    refused("unknown option -n", "photos", "/mnt", "-n", NULL);
    refused("-o needs a value", "photos", "/mnt", "-o", NULL);
}

/* A key on the command line is refused, and never repeated by the message. */
static void test_secrets(void **state)
{
    static const char *const names[] = {
        "access_key_id=hush",         "accessKeySecret=hush", "AK=hush",      "secret=hush", "sk=hush", "token=hush",
        "OSS_ACCESS_KEY_SECRET=hush", "security-token=hush",  "password=hush"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        bad_option("not taken from the command line", names[i]);
    bad_option("name of a file", "passwd_file=LTAI5hushhush:hush");
    refused("unknown option --access-key", "photos", "/mnt", "--access-key=hush", NULL);
}

static void test_generic(void **state)
{
    struct options o;

    (void)state;
    option(&o, "rw,auto,noauto,user,users,_netdev,nofail,defaults,atime,noatime,dev,nodev,suid,nosuid,exec,noexec,"
               "x-systemd.automount,x-systemd.device-timeout=5,fsname=a,subtype=b,,");
    assert_string_equal(o.kernel, "atime,noatime,dev,nodev,suid,nosuid,exec,noexec");
    assert_false(o.read_only);
    options_free(&o);
}

static void test_prefix(void **state)
{
    static const struct {
        const char *source, *bucket, *prefix;
    } cases[] = {
        {"photos", "photos", ""},
        {"photos:", "photos", ""},
        {"photos:/", "photos", ""},
        {"photos:/2024", "photos", "2024/"},
        {"photos:/2024/", "photos", "2024/"},
        {"photos:2024/may", "photos", "2024/may/"},
        {"photos:///a//b//", "photos", "a/b/"},
        {"photos:/a:b,c d", "photos", "a:b,c d/"},
        {"photos:/.a/..b/...", "photos", ".a/..b/.../"},
    };
    char text[1100];
    struct options o;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        good(&o, cases[i].source, "/mnt", "-o", "region=cn-test", NULL);
        assert_string_equal(o.source, cases[i].source);
        assert_string_equal(o.bucket, cases[i].bucket);
        assert_string_equal(o.prefix, cases[i].prefix);
        options_free(&o);
    }
    refused("\".\" or \"..\"", "photos:/a/../b", "/mnt", "-o", "region=cn-test", NULL);
    refused("\".\" or \"..\"", "photos:.", "/mnt", "-o", "region=cn-test", NULL);
    refused("no bucket before ':'", ":/a", "/mnt", "-o", "region=cn-test", NULL);
    refused("is no bucket", "photos/2024", "/mnt", "-o", "region=cn-test", NULL);
    refused("is no bucket", "https://photos.oss-cn-hangzhou.aliyuncs.com", "/mnt", NULL);
    memset(text, 'x', sizeof(text));
    memcpy(text, "photos:", 7);
    text[7 + 1022] = '\0';
    good(&o, text, "/mnt", "-o", "region=cn-test", NULL);
    options_free(&o);
    text[7 + 1022] = 'x';
    text[7 + 1023] = '\0';
    refused("longer than 1022 bytes", text, "/mnt", "-o", "region=cn-test", NULL);
}

static void test_letters(void **state)
{
    struct options o;

    (void)state;
    good(&o, "photos", "-fs", "-ourl=http://h", "/mnt", NULL);
    assert_true(o.foreground && o.single_thread);
    assert_false(o.debug);
    options_free(&o);
    good(&o, "-d", "-o", "url=http://h,dbglevel=error", "--", "photos", "-mnt", NULL);
    assert_true(o.foreground && o.debug);
    assert_int_equal(o.dbglevel, LOG_LEVEL_DEBUG);
    assert_string_equal(o.mountpoint, "-mnt");
    options_free(&o);
    refused("no bucket: usage: ossmount BUCKET", NULL, NULL);
    refused("no mountpoint: usage: ossmount BUCKET", "photos", NULL);
    refused("one argument too many", "photos", "/mnt", "/mnt2", NULL);
    refused("mountpoint is empty", "photos", "", NULL);
    good(&o, "photos", "/mnt", "-o", "region=cn-shanghai", NULL);
    assert_null(o.url);
    options_free(&o);
}

static void one_source_of_keys(void **state)
{
    static const char *const each[] = {"passwd_file=/p", "ram_role=auto", "credential_process=/bin/p a",
                                       "public_bucket"};
    char two[128];
    struct options o;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        good(&o, "photos", "/mnt", "-o", each[i], NULL);
        options_free(&o);
        for (size_t k = i + 1; k < 4; k++) {
            snprintf(two, sizeof(two), "%s,%s", each[i], each[k]);
            refused("exclude each other", "photos", "/mnt", "-o", two, NULL);
        }
    }
    refused("metadata_url=https://h: give one like http://", "photos", "/mnt", "-o", "metadata_url=https://h", NULL);
}

static void test_help(void **state)
{
    const struct option_spec *table;
    struct options o;
    char *text = NULL;
    size_t size = 0, n;
    FILE *f;

    (void)state;
    good(&o, "--help", NULL);
    assert_true(o.help);
    options_free(&o);
    good(&o, "-h", "-o", "nothing-else-is-looked-at", NULL);
    assert_true(o.help);
    options_free(&o);
    good(&o, "-V", NULL);
    assert_true(o.version);
    options_free(&o);
    good(&o, "--version", NULL);
    assert_true(o.version);
    options_free(&o);

    f = open_memstream(&text, &size);
    assert_non_null(f);
    options_help(f);
    fclose(f);
    table = options_table(&n);
    assert_true(n > 20);
    for (size_t i = 0; i < n; i++) {
        char line[64];

        snprintf(line, sizeof(line), "\n  %s%s", table[i].name, table[i].argument ? "=" : " ");
        if (!strstr(text, line))
            fail_msg("--help does not name %s", table[i].name);
        assert_true(*table[i].help);
        /* Whatever takes a value says what value. */
        assert_true(table[i].type == OPTION_FLAG || table[i].argument);
    }
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strlen(line) > 110)
            fail_msg("too wide: %s", line);
    free(text);
}

/* As mount(8) calls /sbin/mount.fuse.ossmount SOURCE TARGET [-sfnv] [-o ...] [-t TYPE]. */
static void as_helper(struct options *o, ...)
{
    struct message m;
    va_list ap;

    va_start(ap, o);
    assert_int_equal(parse_as("/sbin/mount.fuse.ossmount", o, &m, ap), 0);
    va_end(ap);
}

static void test_mount_helper(void **state)
{
    struct options o;

    (void)state;
    as_helper(&o, "photos:/a", "/mnt", "-n", "-v", "-s", "-t", "fuse.ossmount", "-o", "rw,region=cn-test", NULL);
    assert_false(o.foreground || o.single_thread || o.fake);
    assert_string_equal(o.prefix, "a/");
    options_free(&o);
    as_helper(&o, "photos", "/mnt", "-f", "-o", "ro,region=cn-test", NULL);
    assert_true(o.fake && o.read_only);
    assert_false(o.foreground);
    options_free(&o);
}

/* The daemon leaves the current directory: what was meant relative to it must not change. */
static void test_relative_paths(void **state)
{
    char cwd[PATH_MAX], wanted[PATH_MAX + 16];
    struct options o;

    (void)state;
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    option(&o, "logfile=a/b.log,cache_dir=.,passwd_file=p");
    snprintf(wanted, sizeof(wanted), "%s/a/b.log", cwd);
    assert_string_equal(o.logfile, wanted);
    snprintf(wanted, sizeof(wanted), "%s/.", cwd);
    assert_string_equal(o.cache_dir, wanted);
    snprintf(wanted, sizeof(wanted), "%s/p", cwd);
    assert_string_equal(o.passwd_file, wanted);
    options_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_each_option),    cmocka_unit_test(test_flags),
        cmocka_unit_test(test_ranges),   cmocka_unit_test(test_bad_values),     cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_secrets),  cmocka_unit_test(test_generic),        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_letters),  cmocka_unit_test(test_relative_paths), cmocka_unit_test(one_source_of_keys),
        cmocka_unit_test(test_help),     cmocka_unit_test(test_mount_helper),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
