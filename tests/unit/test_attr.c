/* What an object says about its file: ossfs's metadata, there and back, and values that are none. */
#include "../../cache/attr.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct attr_defaults defaults = {.uid = 1000, .gid = 100, .file_mode = 0640, .dir_mode = 0750};

/* An info of an object with one header, or none. */
static struct oinfo *with(const char *name, const char *value, bool is_dir)
{
    struct oss_object object = {.size = 42, .last_modified = 1500000000, .type = OSS_TYPE_NORMAL};
    struct oinfo *info;

    strcpy(object.etag, "E");
    if (name)
        assert_int_equal(kv_add(&object.headers, name, value), 0);
    info = oinfo_from_object(&object, &defaults, is_dir);
    assert_non_null(info);
    kv_free(&object.headers);
    return info;
}

static void test_defaults(void **state)
{
    struct oinfo *info = with(NULL, NULL, false);

    (void)state;
    assert_int_equal(info->attr.mode, S_IFREG | 0640);
    assert_int_equal(info->attr.uid, 1000);
    assert_int_equal(info->attr.gid, 100);
    assert_int_equal(info->attr.mtime.tv_sec, 1500000000);
    assert_int_equal(info->attr.mtime.tv_nsec, 0);
    assert_int_equal(info->attr.ctime.tv_sec, 1500000000);
    assert_int_equal(info->attr.size, 42);
    assert_string_equal(info->etag, "E");
    assert_false(info->is_marker);
    oinfo_put(info);
    info = with(NULL, NULL, true);
    assert_int_equal(info->attr.mode, S_IFDIR | 0750);
    assert_int_equal(info->attr.size, 0);
    assert_true(info->is_marker);
    oinfo_put(info);
    info = oinfo_from_object(NULL, &defaults, true);
    assert_int_equal(info->attr.mode, S_IFDIR | 0750);
    assert_false(info->is_marker);
    assert_string_equal(info->etag, "");
    oinfo_put(info);
    oinfo_put(NULL);
}

static void test_mode(void **state)
{
    static const struct {
        const char *text;
        bool is_dir;
        uint32_t mode;
    } table[] = {
        {"33188", false, S_IFREG | 0644},     {"33261", false, S_IFREG | 0755},
        {"420", false, S_IFREG | 0644},       {"35309", false, S_IFREG | 04755},
        {"41471", false, S_IFLNK | 0777},     {"41471", true, S_IFDIR | 0777},
        {"16877", true, S_IFDIR | 0755},      {"17407", true, S_IFDIR | 01777},
        {"16877", false, S_IFREG | 0755},                                      /* a key without '/' is no directory */
        {"33188", true, S_IFDIR | 0644},      {"8630", false, S_IFREG | 0666}, /* nor a device */
        {"49645", false, S_IFREG | 0755},     {"0", false, S_IFREG},
        {"", false, S_IFREG | 0640},          {"-1", false, S_IFREG | 0640},
        {"rw-r--r--", false, S_IFREG | 0640}, {"0x1ff", false, S_IFREG | 0640},
        {"33188 ", false, S_IFREG | 0640},    {" 33188", false, S_IFREG | 0640},
        {"33188,1", false, S_IFREG | 0640},   {"99999999999999999999999", false, S_IFREG | 0640},
        {"nonsense", true, S_IFDIR | 0750},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct oinfo *info = with("x-oss-meta-mode", table[i].text, table[i].is_dir);

        if (info->attr.mode != table[i].mode)
            fail_msg("mode \"%s\" became %o", table[i].text, info->attr.mode);
        oinfo_put(info);
    }
}

static void test_owner(void **state)
{
    static const struct {
        const char *text;
        uint32_t id;
    } table[] = {
        {"0", 0},           {"1", 1},    {"65534", 65534}, {"4294967294", 4294967294u},
        {"4294967295", 77}, /* (uid_t)-1 means none */
        {"4294967296", 77}, {"-1", 77},  {"", 77},         {"root", 77},
        {"12x", 77},        {"1e3", 77}, {"+5", 77},       {"18446744073709551616", 77},
    };
    const struct attr_defaults d = {.uid = 77, .gid = 77};

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct oss_object object = {0};
        struct oinfo *info;

        assert_int_equal(kv_add(&object.headers, "x-oss-meta-uid", table[i].text), 0);
        assert_int_equal(kv_add(&object.headers, "x-oss-meta-gid", table[i].text), 0);
        info = oinfo_from_object(&object, &d, false);
        if (info->attr.uid != table[i].id || info->attr.gid != table[i].id)
            fail_msg("owner \"%s\" became %u, %u", table[i].text, info->attr.uid, info->attr.gid);
        oinfo_put(info);
        kv_free(&object.headers);
    }
}

static void check_mtime(const char *mtime, const char *exact, int64_t seconds, long ns)
{
    struct oss_object object = {.last_modified = 1500000000};
    struct oinfo *info;

    if (mtime)
        assert_int_equal(kv_add(&object.headers, "x-oss-meta-mtime", mtime), 0);
    if (exact)
        assert_int_equal(kv_add(&object.headers, "x-oss-meta-mtime-ns", exact), 0);
    info = oinfo_from_object(&object, &defaults, false);
    if (info->attr.mtime.tv_sec != seconds || info->attr.mtime.tv_nsec != ns)
        fail_msg("mtime \"%s\" with \"%s\" became %lld.%09ld", mtime ? mtime : "-", exact ? exact : "-",
                 (long long)info->attr.mtime.tv_sec, info->attr.mtime.tv_nsec);
    assert_in_range(info->attr.mtime.tv_nsec, 0, 999999999);
    oinfo_put(info);
    kv_free(&object.headers);
}

static void test_mtime(void **state)
{
    (void)state;
    check_mtime("1600000000", NULL, 1600000000, 0);
    check_mtime("0", NULL, 0, 0);
    check_mtime("-5", NULL, -5, 0);
    check_mtime("4294967296", NULL, 4294967296, 0);
    check_mtime("1600000000.25", NULL, 1600000000, 250000000); /* as some tools write it */
    check_mtime("1600000000.1234567891", NULL, 1600000000, 123456789);
    check_mtime("", NULL, 1500000000, 0);
    check_mtime("yesterday", NULL, 1500000000, 0);
    check_mtime("1600000000 ", NULL, 1500000000, 0);
    check_mtime("--5", NULL, 1500000000, 0);
    check_mtime("99999999999999999999", NULL, 1500000000, 0);
    check_mtime("9223372036854775807", NULL, INT64_MAX, 0);
    check_mtime("9223372036854775808", NULL, 1500000000, 0);
}

/* The fraction is believed only beside the seconds that it was written with. */
static void test_mtime_ns(void **state)
{
    (void)state;
    check_mtime("1600000000", "1600000000-000000001", 1600000000, 1);
    check_mtime("1600000000", "1600000000-999999999", 1600000000, 999999999);
    check_mtime("-5", "-5-000000007", -5, 7);
    check_mtime("1600000001", "1600000000-000000001", 1600000001, 0);
    check_mtime("160000000", "1600000000-000000001", 160000000, 0);
    check_mtime("1600000000", "160000000-000000001", 1600000000, 0);
    check_mtime(NULL, "1600000000-000000001", 1500000000, 0);
    check_mtime("1600000000", "1600000000-", 1600000000, 0);
    check_mtime("1600000000", "1600000000", 1600000000, 0);
    check_mtime("1600000000", "", 1600000000, 0);
    check_mtime("1600000000", "-", 1600000000, 0);
    check_mtime("1600000000", "1600000000-x", 1600000000, 0);
    check_mtime("1600000000", "1600000000-9999999999999", 1600000000, 999999999);
}

static void test_there_and_back(void **state)
{
    static const struct attr table[] = {
        {.mode = S_IFREG | 0644, .uid = 1, .gid = 2, .mtime = {1600000000, 0}},
        {.mode = S_IFREG | 07777, .uid = 0, .gid = 4294967294u, .mtime = {1600000000, 123456789}},
        {.mode = S_IFREG, .uid = 65534, .gid = 0, .mtime = {-1, 999999999}},
        {.mode = S_IFLNK | 0777, .uid = 0, .gid = 0, .mtime = {0, 1}},
        {.mode = S_IFREG | 0600, .uid = 0, .gid = 0, .mtime = {253402300800, 5}},
        {.mode = S_IFDIR | 01777, .uid = 3, .gid = 4, .mtime = {1, 0}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct oss_object object = {.last_modified = 7};
        struct oinfo *info;

        /* Over what another state left. */
        assert_int_equal(kv_add(&object.headers, "x-oss-meta-mtime-ns", "1-5"), 0);
        assert_int_equal(kv_add(&object.headers, "x-oss-meta-mode", "1"), 0);
        assert_int_equal(attr_to_headers(&object.headers, &table[i]), 0);
        assert_true((kv_get(&object.headers, "x-oss-meta-mtime-ns") != NULL) == (table[i].mtime.tv_nsec != 0));
        info = oinfo_from_object(&object, &defaults, S_ISDIR(table[i].mode));
        assert_int_equal(info->attr.mode, table[i].mode);
        assert_int_equal(info->attr.uid, table[i].uid);
        assert_int_equal(info->attr.gid, table[i].gid);
        assert_int_equal(info->attr.mtime.tv_sec, table[i].mtime.tv_sec);
        assert_int_equal(info->attr.mtime.tv_nsec, table[i].mtime.tv_nsec);
        oinfo_put(info);
        kv_free(&object.headers);
    }
}

/* On an appendable object the mtime was set for one length, and an append cannot change it. */
static void test_mtime_for_size(void **state)
{
    static const struct {
        const char *size; /* header, NULL: none */
        enum oss_type type;
        uint64_t object;
        bool holds;
    } table[] = {
        {NULL, OSS_TYPE_NORMAL, 5, true},        {"5", OSS_TYPE_NORMAL, 5, true},
        {"4", OSS_TYPE_NORMAL, 5, false},        {NULL, OSS_TYPE_APPENDABLE, 5, false},
        {"5", OSS_TYPE_APPENDABLE, 5, true},     {"5", OSS_TYPE_APPENDABLE, 6, false},
        {"five", OSS_TYPE_APPENDABLE, 5, false}, {"", OSS_TYPE_APPENDABLE, 0, false},
        {"0", OSS_TYPE_APPENDABLE, 0, true},     {"18446744073709551616", OSS_TYPE_APPENDABLE, 0, false},
    };
    const struct attr attr = {.mode = S_IFREG | 0600, .mtime = {1600000000, 70}};
    struct kvlist headers = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct oss_object object = {.size = table[i].object, .last_modified = 7, .type = table[i].type};
        struct oinfo *info;

        assert_int_equal(attr_to_headers(&object.headers, &attr), 0);
        if (table[i].size)
            assert_int_equal(kv_add(&object.headers, "x-oss-meta-mtime-size", table[i].size), 0);
        info = oinfo_from_object(&object, &defaults, false);
        assert_int_equal(info->attr.mtime.tv_sec, table[i].holds ? 1600000000 : 7);
        assert_int_equal(info->attr.mtime.tv_nsec, table[i].holds ? 70 : 0);
        assert_int_equal(info->attr.mode, S_IFREG | 0600);
        assert_int_equal(info->headers.n, 0);
        oinfo_put(info);
        kv_free(&object.headers);
    }
    assert_int_equal(attr_mtime_for_size(&headers, 1ull << 32), 0);
    assert_string_equal(kv_get(&headers, "x-oss-meta-mtime-size"), "4294967296");
    assert_int_equal(kv_add(&headers, "x-oss-meta-color", "red"), 0);
    /* What is set anew is not set for a size. */
    assert_int_equal(attr_to_headers(&headers, &attr), 0);
    assert_null(kv_get(&headers, "x-oss-meta-mtime-size"));
    attr_strip_headers(&headers);
    assert_int_equal(headers.n, 1);
    kv_free(&headers);
}

/* The forms that ossfs reads: decimal, whole seconds. */
static void test_forms(void **state)
{
    const struct attr attr = {.mode = S_IFREG | 0644, .uid = 5, .gid = 6, .mtime = {1600000000, 70}};
    struct kvlist headers = {0};

    (void)state;
    assert_int_equal(attr_to_headers(&headers, &attr), 0);
    assert_int_equal(headers.n, 5);
    assert_string_equal(kv_get(&headers, "x-oss-meta-mode"), "33188");
    assert_string_equal(kv_get(&headers, "x-oss-meta-uid"), "5");
    assert_string_equal(kv_get(&headers, "x-oss-meta-gid"), "6");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mtime"), "1600000000");
    assert_string_equal(kv_get(&headers, "x-oss-meta-mtime-ns"), "1600000000-000000070");
    kv_free(&headers);
}

/* What has to be carried over is kept, what is an attribute or a state of the object is not. */
static void test_headers_kept(void **state)
{
    static const char *const kept[] = {"content-type",        "cache-control",    "x-oss-meta-color",
                                       "x-oss-storage-class", "x-oss-meta-xattr", "x-oss-server-side-encryption",
                                       "x-oss-meta-modesty"};
    static const char *const dropped[] = {"x-oss-meta-mode",  "x-oss-meta-uid",      "x-oss-meta-gid",
                                          "x-oss-meta-mtime", "x-oss-meta-mtime-ns", "x-oss-tagging-count",
                                          "x-oss-restore",    "x-oss-version-id"};
    struct oss_object object = {0};
    struct oinfo *info, *copy;

    (void)state;
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        assert_int_equal(kv_add(&object.headers, kept[i], "v"), 0);
    for (size_t i = 0; i < sizeof(dropped) / sizeof(*dropped); i++)
        assert_int_equal(kv_add(&object.headers, dropped[i], "1"), 0);
    info = oinfo_from_object(&object, &defaults, false);
    kv_free(&object.headers);
    assert_int_equal(info->headers.n, sizeof(kept) / sizeof(*kept));
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
        assert_string_equal(kv_get(&info->headers, kept[i]), "v");
    info->link = strdup("target");
    info->acl_default = info->has_crc = true;
    info->crc64 = 9;
    copy = oinfo_clone(info);
    oinfo_get(info);
    oinfo_put(info);
    oinfo_put(info);
    assert_true(copy->acl_default && copy->has_crc);
    assert_int_equal(copy->crc64, 9);
    assert_string_equal(copy->link, "target");
    assert_string_equal(kv_get(&copy->headers, "x-oss-meta-color"), "v");
    oinfo_put(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_mode),         cmocka_unit_test(test_owner),
        cmocka_unit_test(test_mtime),    cmocka_unit_test(test_mtime_ns),     cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_forms),    cmocka_unit_test(test_headers_kept), cmocka_unit_test(test_mtime_for_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
