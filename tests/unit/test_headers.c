/*
 * Headers of uploads: types by suffix, rules and the errors in them, what goes with which request, what follows a
 * rename.
 */
#include "../../cache/headers.h"
#include "../../cache/headers_rules.h"
#include "../../cache/mime.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static const char *file_with(const char *text)
{
    int fd;

    snprintf(path, sizeof(path), "/tmp/test_headers.%d", (int)getpid());
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

/* --------------------------------------------------------------------------------------------------- types */

static void types_by_suffix(void **state)
{
    static const char *const built_in[][2] = {
        {"a.html", "text/html"},
        {"d/e/a.PNG", "image/png"},
        {"a.tar.gz", "application/gzip"},
        {"a.js", "application/javascript"},
        {"a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
        {"a", MIME_UNKNOWN},
        {"a.", MIME_UNKNOWN},
        {".html", MIME_UNKNOWN},
        {"d.html/a", MIME_UNKNOWN},
        {"a.nosuchsuffix", MIME_UNKNOWN},
        {"a.averyveryverylongsuffixthatnobodyhas", MIME_UNKNOWN},
    };
    struct mime *m = mime_load("/nonexistent");

    (void)state;
    assert_non_null(m);
    for (size_t i = 0; i < sizeof(built_in) / sizeof(*built_in); i++)
        assert_string_equal(mime_of(m, built_in[i][0]), built_in[i][1]);
    mime_free(m);
    m = mime_load(file_with(
        "# a comment\ntext/x-first\tfoo FOO2 js # bar\ntext/x-second foo\nbad\x01type baz\n\nlonely/type\n"));
    assert_string_equal(mime_of(m, "a.foo"), "text/x-first");
    assert_string_equal(mime_of(m, "a.foo2"), "text/x-first");
    assert_string_equal(mime_of(m, "a.bar"), MIME_UNKNOWN);
    assert_string_equal(mime_of(m, "a.baz"), MIME_UNKNOWN);
    assert_string_equal(mime_of(m, "a.js"), "application/javascript");
    assert_string_equal(mime_of(m, "a.html"), "text/html");
    mime_free(m);
    unlink(path);
}

/* --------------------------------------------------------------------------------------------------- rules */

static struct headers *made(const char *text)
{
    struct headers *h;
    char why[300];
    int r = headers_new(&h, NULL, file_with(text), "/nonexistent", why, sizeof(why));

    unlink(path);
    if (r)
        fail_msg("refused: %s", why);
    return h;
}

static void refused(const char *text, const char *words)
{
    struct headers *h;
    char why[300];

    assert_int_equal(headers_new(&h, NULL, file_with(text), "/nonexistent", why, sizeof(why)), -EINVAL);
    unlink(path);
    assert_null(h);
    if (!strstr(why, words))
        fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void errors_name_the_line(void **state)
{
    char why[300];
    struct headers *h;

    (void)state;
    refused("*.html\n", "line 1: no field");
    refused("# fine\n\n*.html cache_contrl=x\n", "line 3: unknown field \"cache_contrl\"");
    refused("* cache_control\n", "line 1: \"cache_control\" is not field=value");
    refused("* cache_control=\n", "line 1: cache_control: printable");
    refused("* cache_control=\"a b\n", "line 1: a quote is not closed");
    refused("* storage_class=Cold\n", "line 1: storage_class: give Standard");
    refused("* storage_class=IA\n* acl=public\n", "line 2: acl: give default");
    refused("* sse=DES\n", "sse: give AES256");
    refused("* sse=AES256 sse_key_id=k\n", "only together with sse=KMS");
    refused("* traffic_limit=1000\n", "traffic_limit: give bits per second");
    refused("* traffic_limit=99999999999999999999999\n", "traffic_limit");
    refused("* tagging=a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10&k=11\n", "tagging: give at most 10");
    refused("* tagging=\"a b\"\n", "tagging");
    refused("* tagging==v\n", "tagging");
    refused("* meta=mode=33188\n", "kept by the mount itself");
    refused("* meta=Upper=1\n", "meta: give name=value");
    refused("* expires=tomorrow\n", "expires: give a date");
    refused("* callback=hello!\n", "callback: give a JSON object");
    refused("* callback_var=e30=\n", "callback_var: only together");
    refused("* forbid_overwrite=maybe\n", "forbid_overwrite: give yes or no");
    assert_true(headers_new(&h, NULL, "/nonexistent/rules", "/nonexistent", why, sizeof(why)) == -ENOENT);
    assert_string_equal(why, "/nonexistent/rules: No such file or directory");
}

static const char *described(const struct headers *h, const char *name, const char *header)
{
    static char out[256];
    struct kvlist list = {0};

    assert_int_equal(headers_describe(h, name, &list), 0);
    snprintf(out, sizeof(out), "%s", kv_get(&list, header) ? kv_get(&list, header) : "-");
    kv_free(&list);
    return out;
}

static void the_last_match_wins(void **state)
{
    struct headers *h = made("* cache_control=one\n"
                             "*.html cache_control=two content_type=\"text/html; charset=utf-8\"\n"
                             "logs/** storage_class=IA\n"
                             "/logs/*.html cache_control=\"max-age=60, \\\"x\\\"\"\n"
                             "\"a b.txt\" meta=owner=me;team=x=y expires=2030-01-31T00:00:00Z\n"
                             "pub/** acl=public-read\n");

    (void)state;
    assert_string_equal(described(h, "a.txt", "cache-control"), "one");
    assert_string_equal(described(h, "d/a.html", "cache-control"), "two");
    assert_string_equal(described(h, "d/a.html", "content-type"), "text/html; charset=utf-8");
    assert_string_equal(described(h, "logs/a.html", "cache-control"), "max-age=60, \"x\"");
    assert_string_equal(described(h, "logs/d/a.html", "cache-control"), "two");
    assert_string_equal(described(h, "logs/d/a", "x-oss-storage-class"), "IA");
    assert_string_equal(described(h, "d/logs/a", "x-oss-storage-class"), "-");
    assert_string_equal(described(h, "x/a b.txt", "x-oss-meta-owner"), "me");
    assert_string_equal(described(h, "x/a b.txt", "x-oss-meta-team"), "x=y");
    assert_string_equal(described(h, "x/a b.txt", "expires"), "Thu, 31 Jan 2030 00:00:00 GMT");
    assert_string_equal(headers_acl(h, "pub/d/a"), "public-read");
    assert_string_equal(headers_acl(h, "a"), "");
    headers_free(h);
}

/* Content written over an object: its type stays, what a rule says wins, the rest stays. */
static void what_is_there_already(void **state)
{
    struct headers *h = made("*.html cache_control=new sse=AES256\n");
    struct kvlist list = {0};

    (void)state;
    kv_set(&list, "content-type", "text/odd");
    kv_set(&list, "cache-control", "old");
    kv_set(&list, "content-language", "de");
    kv_set(&list, "x-oss-server-side-encryption", "KMS");
    kv_set(&list, "x-oss-server-side-encryption-key-id", "k");
    assert_int_equal(headers_describe(h, "a.html", &list), 0);
    assert_string_equal(kv_get(&list, "content-type"), "text/odd");
    assert_string_equal(kv_get(&list, "cache-control"), "new");
    assert_string_equal(kv_get(&list, "content-language"), "de");
    assert_string_equal(kv_get(&list, "x-oss-server-side-encryption"), "AES256");
    assert_null(kv_get(&list, "x-oss-server-side-encryption-key-id"));
    kv_free(&list);
    headers_free(h);
}

static void each_request_its_own(void **state)
{
    static const struct {
        enum headers_kind kind;
        const char *from;
        bool tagging, callback, traffic, forbid;
    } cases[] = {
        {HEADERS_PUT, NULL, true, true, true, true},        {HEADERS_APPEND, NULL, true, false, true, false},
        {HEADERS_INITIATE, NULL, true, false, false, true}, {HEADERS_PART, NULL, false, false, true, false},
        {HEADERS_COMPLETE, NULL, false, true, false, true}, {HEADERS_COPY, "a", false, false, false, false},
        {HEADERS_COPY, "b", false, false, false, true},
    };
    struct headers *h = made("* tagging=a=1 callback={} callback_var={} traffic_limit=819200 forbid_overwrite=yes\n");
    struct kvlist list = {0};
    bool forbid;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(headers_request(h, "a", cases[i].kind, cases[i].from, &list, &forbid), 0);
        assert_int_equal(kv_get(&list, "x-oss-tagging") != NULL, cases[i].tagging);
        assert_int_equal(kv_get(&list, "x-oss-callback") != NULL, cases[i].callback);
        assert_int_equal(kv_get(&list, "x-oss-callback-var") != NULL, cases[i].callback);
        assert_int_equal(kv_get(&list, "x-oss-traffic-limit") != NULL, cases[i].traffic);
        assert_int_equal(forbid, cases[i].forbid);
        kv_free(&list);
    }
    headers_free(h);
    /* An object renamed to where other tags are the rule gets those. */
    h = made("*.log tagging=kind=log\n");
    assert_int_equal(headers_request(h, "a.log", HEADERS_COPY, "a.tmp", &list, &forbid), 0);
    assert_string_equal(kv_get(&list, "x-oss-tagging"), "kind=log");
    assert_string_equal(kv_get(&list, "x-oss-tagging-directive"), "Replace");
    kv_free(&list);
    kv_set(&list, "x-oss-storage-class", "ColdArchive");
    kv_set(&list, "x-oss-server-side-encryption-key-id", "k");
    assert_int_equal(headers_request(h, "a", HEADERS_APPEND, NULL, &list, &forbid), 0);
    assert_int_equal(list.n, 0);
    kv_free(&list);
    headers_free(h);
}

static void a_rename_takes_what_the_name_gave(void **state)
{
    static const struct {
        const char *from, *to, *type, *control, *replaced_type, *expect_type, *expect_control;
    } cases[] = {
        /* what a program does: writes beside it, then renames */
        {".a.html.Xy12", "a.html", MIME_UNKNOWN, NULL, NULL, "text/html", "short"},
        {"a.html", "a.html~", "text/html", "short", NULL, MIME_UNKNOWN, NULL},
        {"a.png", "b.png", "image/png", NULL, NULL, NULL, NULL},
        /* somebody has said what it is */
        {"a.tmp", "a.html", "text/odd", "long", NULL, "text/odd", "long"},
        /* what the replaced object was stays */
        {"a.tmp", "page", MIME_UNKNOWN, NULL, "text/html", "text/html", NULL},
        {"a.tmp", "a.html", MIME_UNKNOWN, NULL, "text/odd", "text/odd", "short"},
    };
    struct headers *h = made("*.html cache_control=short\n");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct kvlist list = {0}, replaced = {0};
        bool changed;

        kv_set(&list, "content-type", cases[i].type);
        if (cases[i].control)
            kv_set(&list, "cache-control", cases[i].control);
        if (cases[i].replaced_type)
            kv_set(&replaced, "content-type", cases[i].replaced_type);
        assert_int_equal(
            headers_follow(h, cases[i].from, cases[i].to, cases[i].replaced_type ? &replaced : NULL, &list, &changed),
            0);
        if (cases[i].expect_type) {
            const char *control = kv_get(&list, "cache-control");

            assert_string_equal(kv_get(&list, "content-type"), cases[i].expect_type);
            assert_string_equal(control ? control : "-", cases[i].expect_control ? cases[i].expect_control : "-");
        }
        assert_int_equal(changed, cases[i].expect_type && strcmp(cases[i].type, "text/odd") != 0);
        kv_free(&list);
        kv_free(&replaced);
    }
    headers_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_by_suffix),      cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(the_last_match_wins),  cmocka_unit_test(what_is_there_already),
        cmocka_unit_test(each_request_its_own), cmocka_unit_test(a_rename_takes_what_the_name_gave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
