/*
 * The client at the local server: what each operation does, and what becomes of it when something goes wrong once,
 * for good, or in the middle of many threads.
 */
#include "../../oss/base_log.h"
#include "../../oss/base_time.h"
#include "../../oss/crc64.h"
#include "../../oss/cred.h"
#include "../../oss/oss.h"
#include "flavour.h"
#include "ossd_server.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 40000 /* of a machine with much to do; a fault would tell by never ending */

static struct ossd_server *server;
static struct oss_cred *cred;
static struct oss_config config;
static struct oss *oss;

static struct oss *client_open(const struct oss_config *c)
{
    struct oss *out;
    struct oss_error err;
    int r = oss_open(&out, c, &err);

    if (r < 0)
        fprintf(stderr, "oss_open: %s\n", err.message);
    assert_int_equal(r, 0);
    return out;
}

static int group_setup(void **state)
{
    (void)state;
    log_open(LOG_TO_STDERR, NULL, getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_CRIT);
    server = ossd_start(NULL);
    cred = oss_cred_fixed(OSSD_KEY, OSSD_SECRET, NULL);
    config = OSS_CONFIG_DEFAULTS;
    config.endpoint = ossd_url(server);
    config.bucket = OSSD_BUCKET;
    config.region = OSSD_REGION;
    config.cred = cred;
    oss = client_open(&config);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    oss_close(oss);
    oss_cred_free(cred);
    ossd_end(server);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    ossd_faults_clear(server);
    return 0;
}

/* ------------------------------------------------------------------------------------------- bytes in memory */

/* The i-th byte of stream `seed`. */
static unsigned char byte_at(uint64_t seed, uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ULL + seed * 0xd1342543de82ef95ULL;

    return (unsigned char)((x ^ x >> 29) >> 17);
}

static int stream_read(void *arg, uint64_t offset, void *to, size_t n)
{
    uint64_t seed = *(const uint64_t *)arg;

    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = byte_at(seed, offset + i);
    return 0;
}

static struct oss_source stream(const uint64_t *seed, uint64_t size)
{
    return (struct oss_source){.read = stream_read, .arg = (void *)(uintptr_t)seed, .size = size};
}

static uint64_t stream_crc(uint64_t seed, uint64_t size)
{
    uint64_t crc = 0;

    for (uint64_t i = 0; i < size; i++)
        crc = crc64(crc, &(unsigned char){byte_at(seed, i)}, 1);
    return crc;
}

/* Compares what comes with a stream, and that each byte comes once. */
struct expect {
    struct oss_sink sink;
    uint64_t seed, shift; /* byte i of the object is byte i - shift of the stream */
    uint64_t at;
    bool wrong;
};

static int expect_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct expect *e = arg;

    if (offset != e->at)
        e->wrong = true;
    for (size_t i = 0; i < n; i++) {
        if (((const unsigned char *)data)[i] != byte_at(e->seed, offset + i - e->shift))
            e->wrong = true;
    }
    e->at = offset + n;
    return 0;
}

static int put_stream(struct oss *o, const char *key, uint64_t seed, uint64_t size, struct oss_object *out,
                      struct oss_error *err)
{
    struct oss_source source = stream(&seed, size);

    return o->ops->put(o, key, &source, NULL, out, err);
}

/* Whether object `key` holds exactly the stream. */
static bool holds_of(struct oss *o, const char *key, uint64_t seed, uint64_t size)
{
    struct expect e = {.sink = {.write = expect_write}, .seed = seed};
    struct oss_object object;
    bool same;

    e.sink.arg = &e;
    if (o->ops->get(o, key, 0, OSS_WHOLE, NULL, &e.sink, &object, NULL) < 0)
        return false;
    same = object.size == size && e.at == size && !e.wrong;
    oss_object_free(&object);
    return same;
}

static bool holds(const char *key, uint64_t seed, uint64_t size)
{
    return holds_of(oss, key, seed, size);
}

/* ------------------------------------------------------------------------------------------- what operations do */

static void objects(void **state)
{
    static const char *const keys[] = {"plain",
                                       "dir/",
                                       "a//b",
                                       "a/../b",
                                       "..",
                                       "a b+c%d?e&f=g#h;i@j",
                                       "\xe4\xb8\xad\xe6\x96\x87/\xf0\x9f\x90\xb1",
                                       "~-._!*'()",
                                       "\"<&>'",
                                       "x\x01y"};
    struct oss_object out, head;
    struct oss_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        uint64_t size = i * 1000;

        assert_int_equal(put_stream(oss, keys[i], i, size, &out, &err), 0);
        assert_int_equal(out.size, size);
        assert_true(out.has_crc && out.crc64 == stream_crc(i, size));
        assert_true(out.date > 0 && out.last_modified == out.date && *out.etag);
        assert_true(holds(keys[i], i, size));
        assert_int_equal(oss->ops->head(oss, keys[i], &head, &err), 0);
        assert_int_equal(head.size, size);
        assert_string_equal(head.etag, out.etag);
        assert_int_equal(head.type, OSS_TYPE_NORMAL);
        assert_true(head.has_crc && head.crc64 == out.crc64);
        assert_int_equal(head.append_position, -1);
        oss_object_free(&head);
        oss_object_free(&out);
        assert_int_equal(oss->ops->delete (oss, keys[i], &err), 0);
        assert_int_equal(oss->ops->delete (oss, keys[i], &err), 0);
        assert_int_equal(oss->ops->head(oss, keys[i], &head, &err), -ENOENT);
        assert_int_equal(err.status, 404);
        assert_string_equal(err.code, "NoSuchKey");
        assert_true(*err.request_id);
    }
}

static void metadata(void **state)
{
    struct kvlist sent = {0};
    struct oss_put_opts opts = {.headers = &sent, .content_md5 = true};
    struct oss_copy_opts copy = {.replace = true};
    struct oss_object head;
    struct oss_error err;
    uint64_t seed = 1;
    struct oss_source source = stream(&seed, 100);

    (void)state;
    kv_add(&sent, "Content-Type", "text/x-a");
    kv_add(&sent, "Cache-Control", "no-cache");
    kv_add(&sent, "x-oss-meta-mode", "33188");
    kv_add(&sent, "x-oss-meta-name", "\xc3\xa4 b");
    assert_int_equal(oss->ops->put(oss, "meta", &source, &opts, NULL, &err), 0);
    assert_int_equal(oss->ops->head(oss, "meta", &head, &err), 0);
    for (size_t i = 0; i < sent.n; i++)
        assert_string_equal(kv_get(&head.headers, sent.v[i].name), sent.v[i].value);
    /* A copy carries it over, or replaces it. */
    copy.replace = false;
    copy.if_match = head.etag;
    assert_int_equal(oss->ops->copy(oss, "meta", "meta2", &copy, NULL, &err), 0);
    oss_object_free(&head);
    assert_int_equal(oss->ops->head(oss, "meta2", &head, &err), 0);
    assert_string_equal(kv_get(&head.headers, "x-oss-meta-mode"), "33188");
    kv_set(&sent, "x-oss-meta-mode", "33152");
    kv_del(&sent, "x-oss-meta-name");
    copy = (struct oss_copy_opts){.replace = true, .headers = &sent, .if_match = head.etag};
    assert_int_equal(oss->ops->copy(oss, "meta2", "meta2", &copy, NULL, &err), 0);
    oss_object_free(&head);
    assert_int_equal(oss->ops->head(oss, "meta2", &head, &err), 0);
    assert_string_equal(kv_get(&head.headers, "x-oss-meta-mode"), "33152");
    assert_null(kv_get(&head.headers, "x-oss-meta-name"));
    assert_string_equal(kv_get(&head.headers, "content-type"), "text/x-a");
    assert_true(holds("meta2", 1, 100));
    copy.if_match = "0000";
    assert_int_equal(oss->ops->copy(oss, "meta2", "meta2", &copy, NULL, &err), -ESTALE);
    copy = (struct oss_copy_opts){.forbid_overwrite = true};
    assert_int_equal(oss->ops->copy(oss, "meta", "meta2", &copy, NULL, &err), -EEXIST);
    opts.forbid_overwrite = true;
    assert_int_equal(oss->ops->put(oss, "meta", &source, &opts, NULL, &err), -EEXIST);
    oss_object_free(&head);
    kv_free(&sent);
}

static void ranges(void **state)
{
    static const struct {
        uint64_t offset, length, end;
        int r;
    } cases[] = {{0, 1, 1, 0},        {0, 5000, 5000, 0},   {4999, 1, 5000, 0},    {4999, 100, 5000, 0},
                 {17, 1234, 1251, 0}, {0, 999999, 5000, 0}, {5000, 1, 0, -ERANGE}, {0, OSS_WHOLE, 5000, 0}};
    struct oss_object out;
    struct oss_error err;

    (void)state;
    assert_int_equal(put_stream(oss, "range", 7, 5000, NULL, &err), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct expect e = {.sink = {.write = expect_write}, .seed = 7, .at = cases[i].offset};

        e.sink.arg = &e;
        assert_int_equal(oss->ops->get(oss, "range", cases[i].offset, cases[i].length, NULL, &e.sink, &out, &err),
                         cases[i].r);
        if (cases[i].r)
            continue;
        assert_int_equal(e.at, cases[i].end);
        assert_false(e.wrong);
        assert_int_equal(out.size, 5000);
        oss_object_free(&out);
    }
    assert_int_equal(oss->ops->get(oss, "range", 0, 5, "0000", NULL, NULL, &err), -ESTALE);
}

static void appends(void **state)
{
    struct oss_object out;
    struct oss_error err;
    uint64_t seed = 3, position = 0;

    (void)state;
    for (uint64_t n = 1; n < 2000; n = n * 3 + 1) {
        struct oss_source source = stream(&seed, n);

        assert_int_equal(oss->ops->append(oss, "log", position, &source, NULL, &out, &err), 0);
        position += n;
        assert_int_equal(out.append_position, position);
        assert_int_equal(out.size, position);
        oss_object_free(&out);
        assert_int_equal(oss->ops->append(oss, "log", position + 1, &source, NULL, &out, &err), -EBADE);
        assert_int_equal(err.next_position, position);
        assert_false(err.ambiguous);
    }
    assert_int_equal(oss->ops->head(oss, "log", &out, &err), 0);
    assert_int_equal(out.type, OSS_TYPE_APPENDABLE);
    assert_int_equal(out.append_position, position);
    oss_object_free(&out);
    assert_int_equal(put_stream(oss, "normal", 1, 10, NULL, &err), 0);
    assert_int_equal(oss->ops->append(oss, "normal", 10,
                                      &(struct oss_source){.read = stream_read, .arg = &seed, .size = 1}, NULL, NULL,
                                      &err),
                     -EPROTOTYPE);
}

static void listings(void **state)
{
    struct oss_list_opts opts = {.prefix = "list/", .delimiter = "/", .max_keys = 7};
    struct oss_list list;
    struct oss_error err;
    char key[64], *next = NULL;
    size_t entries = 0, prefixes = 0, pages = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof(key), i % 2 ? "list/d %02d/x" : "list/f&%02d\x02", i);
        assert_int_equal(put_stream(oss, key, 1, (uint64_t)i, NULL, &err), 0);
    }
    do {
        opts.continuation = next;
        assert_int_equal(oss->ops->list(oss, &opts, &list, &err), 0);
        for (size_t i = 0; i < list.n_entries; i++) {
            snprintf(key, sizeof(key), "list/f&%02zu\x02", 2 * entries);
            assert_string_equal(list.entries[i].key, key);
            assert_int_equal(list.entries[i].size, 2 * entries);
            entries++;
        }
        for (size_t i = 0; i < list.n_prefixes; i++)
            prefixes++;
        assert_true(list.date > 0);
        free(next);
        next = list.truncated ? strdup(list.next) : NULL;
        oss_list_free(&list);
        pages++;
    } while (next);
    assert_int_equal(entries, 10);
    assert_int_equal(prefixes, 10);
    assert_int_equal(pages, 3);
}

static void deletes_of_many(void **state)
{
    const char *keys[] = {"del/\"<a>&", "del/\x03", "del/none", "del/ b "};
    bool deleted[4] = {false};
    struct oss_object out;
    struct oss_error err;

    (void)state;
    for (int i = 0; i < 4; i++) {
        if (i != 2)
            assert_int_equal(put_stream(oss, keys[i], 1, 1, NULL, &err), 0);
    }
    assert_int_equal(oss->ops->delete_many(oss, keys, 4, deleted, &err), 0);
    for (int i = 0; i < 4; i++) {
        assert_true(deleted[i]);
        assert_int_equal(oss->ops->head(oss, keys[i], &out, &err), -ENOENT);
    }
    assert_int_equal(oss->ops->delete_many(oss, keys, 4, NULL, &err), 0);
}

static void multipart(void **state)
{
    char id[OSS_UPLOADID_SIZE];
    struct oss_part parts[3];
    struct oss_part_list list;
    struct oss_upload_list uploads;
    struct oss_object out;
    struct oss_error err;
    uint64_t seed = 5, crc;
    struct oss_source first = stream(&seed, 150000), last = stream(&seed, 77);

    (void)state;
    assert_int_equal(put_stream(oss, "base", 9, 300000, &out, &err), 0);
    assert_int_equal(oss->ops->initiate(oss, "multi", NULL, id, &err), 0);
    assert_false(err.ambiguous);
    assert_int_equal(oss->ops->upload_part(oss, "multi", id, 1, &first, &parts[0], &err), 0);
    assert_int_equal(oss->ops->copy_part(oss, "multi", id, 2, "base", "0000", 100, 200000, &parts[1], &err), -ESTALE);
    assert_int_equal(oss->ops->copy_part(oss, "multi", id, 2, "base", out.etag, 100, 200000, &parts[1], &err), 0);
    assert_int_equal(oss->ops->upload_part(oss, "multi", id, 7, &last, &parts[2], &err), 0);
    oss_object_free(&out);
    assert_int_equal(parts[1].size, 200000);
    assert_int_equal(oss->ops->list_parts(oss, "multi", id, 0, &list, &err), 0);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.parts[2].number, 7);
    assert_string_equal(list.parts[2].etag, parts[2].etag);
    oss_part_list_free(&list);
    assert_int_equal(oss->ops->list_parts(oss, "multi", id, 2, &list, &err), 0);
    assert_int_equal(list.n, 1);
    oss_part_list_free(&list);
    assert_int_equal(oss->ops->list_uploads(oss, "mul", NULL, NULL, &uploads, &err), 0);
    assert_int_equal(uploads.n, 1);
    assert_string_equal(uploads.entries[0].id, id);
    oss_upload_list_free(&uploads);
    crc = stream_crc(5, 150000);
    for (uint64_t i = 100; i < 200100; i++)
        crc = crc64(crc, &(unsigned char){byte_at(9, i)}, 1);
    crc = crc64_combine(crc, parts[2].crc64, 77);
    assert_int_equal(oss->ops->complete(oss, "multi", id, parts, 3, 350077, true, crc, NULL, &out, &err), 0);
    assert_int_equal(out.type, OSS_TYPE_MULTIPART);
    assert_int_equal(out.size, 350077);
    assert_true(*out.etag);
    oss_object_free(&out);
    assert_int_equal(oss->ops->head(oss, "multi", &out, &err), 0);
    assert_true(out.has_crc && out.crc64 == crc && out.size == 350077 && out.type == OSS_TYPE_MULTIPART);
    oss_object_free(&out);
    assert_int_equal(oss->ops->complete(oss, "multi", id, parts, 3, 350077, true, crc, NULL, NULL, &err), -ENOENT);
    assert_int_equal(oss->ops->abort(oss, "multi", id, &err), 0);
    /* All parts that are there, without naming them. */
    assert_int_equal(oss->ops->initiate(oss, "all", NULL, id, &err), 0);
    assert_int_equal(oss->ops->upload_part(oss, "all", id, 1, &first, &parts[0], &err), 0);
    assert_int_equal(oss->ops->complete(oss, "all", id, NULL, 0, 150000, true, parts[0].crc64, NULL, NULL, &err), 0);
    assert_true(holds("all", 5, 150000));
    assert_int_equal(oss->ops->initiate(oss, "none", NULL, id, &err), 0);
    assert_int_equal(oss->ops->abort(oss, "none", id, &err), 0);
    assert_int_equal(oss->ops->upload_part(oss, "none", id, 1, &first, &parts[0], &err), -ENOENT);
    assert_string_equal(err.code, "NoSuchUpload");
}

static void the_rest(void **state)
{
    struct kvlist tags = {0};
    struct oss_put_opts opts = {.headers = &tags};
    struct oss_bucket_info info;
    struct oss_bucket_stat stat;
    struct oss_object out;
    struct oss_error err;
    char target[OSS_KEY_MAX + 1], acl[24], *tagging;
    uint64_t seed = 1;
    struct oss_source source = stream(&seed, 10);

    (void)state;
    kv_add(&tags, "x-oss-tagging", "a=b&c%20d=e%2Bf");
    assert_int_equal(oss->ops->put(oss, "tagged", &source, &opts, NULL, &err), 0);
    assert_int_equal(oss->ops->get_tagging(oss, "tagged", &tagging, &err), 0);
    assert_string_equal(tagging, "a=b&c%20d=e%2Bf");
    free(tagging);
    assert_int_equal(oss->ops->get_acl(oss, "tagged", acl, &err), 0);
    assert_string_equal(acl, "default");
    assert_int_equal(oss->ops->put_acl(oss, "tagged", "public-read", &err), 0);
    assert_int_equal(oss->ops->get_acl(oss, "tagged", acl, &err), 0);
    assert_string_equal(acl, "public-read");
    assert_int_equal(oss->ops->put_symlink(oss, "link", "tagged", NULL, &out, &err), 0);
    assert_int_equal(out.type, OSS_TYPE_SYMLINK);
    oss_object_free(&out);
    assert_int_equal(oss->ops->get_symlink(oss, "link", target, &out, &err), 0);
    assert_string_equal(target, "tagged");
    oss_object_free(&out);
    assert_int_equal(oss->ops->head(oss, "link", &out, &err), 0);
    assert_int_equal(out.type, OSS_TYPE_SYMLINK);
    assert_int_equal(out.size, 10);
    oss_object_free(&out);
    assert_int_equal(oss->ops->get_symlink(oss, "tagged", target, NULL, &err), -EINVAL);
    assert_string_equal(err.code, "NotSymlink");
    assert_int_equal(oss->ops->bucket_info(oss, &info, &err), 0);
    assert_string_equal(info.location, "oss-" OSSD_REGION);
    assert_int_equal(oss->ops->bucket_stat(oss, &stat, &err), 0);
    assert_true(stat.objects > 0 && stat.storage > 0);
    kv_free(&tags);
}

static void signature_v1(void **state)
{
    struct oss_config v1 = config;
    struct oss_list_opts opts = {.prefix = "v1"};
    struct oss_list list;
    struct oss_error err;
    struct oss *o;

    (void)state;
    v1.signature_version = 1;
    v1.region = NULL;
    o = client_open(&v1);
    assert_int_equal(put_stream(o, "v1/\xc3\xa4 ?&", 1, 1000, NULL, &err), 0);
    assert_true(holds_of(o, "v1/\xc3\xa4 ?&", 1, 1000));
    assert_int_equal(o->ops->list(o, &opts, &list, &err), 0);
    assert_int_equal(list.n_entries, 1);
    oss_list_free(&list);
    oss_close(o);
}

static void ways_to_address_a_bucket(void **state)
{
    static const char *const args[] = {"--cname", "localhost=" OSSD_BUCKET, NULL};
    static const enum oss_addressing ways[] = {OSS_ADDR_AUTO, OSS_ADDR_PATH, OSS_ADDR_VIRTUAL, OSS_ADDR_CNAME};
    struct oss_config other = config;
    struct ossd_server *s = ossd_start(args); /* there, localhost is the bucket's own domain */
    struct oss_bucket_info info;
    struct oss_error err;
    char url[64];

    (void)state;
    other.endpoint = url;
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        struct oss *o;

        other.addressing = ways[i];
        snprintf(url, sizeof(url), "http://localhost:%s",
                 strrchr(ossd_url(ways[i] == OSS_ADDR_CNAME ? s : server), ':') + 1);
        for (other.signature_version = 1; other.signature_version <= 4; other.signature_version += 3) {
            o = client_open(&other);
            assert_int_equal(put_stream(o, "way/ \xc3\xa4", i, 1000, NULL, &err), 0);
            assert_true(holds_of(o, "way/ \xc3\xa4", i, 1000));
            assert_int_equal(o->ops->bucket_info(o, &info, &err), 0);
            oss_close(o);
        }
    }
    ossd_end(s);
}

static void wrong_keys_and_buckets(void **state)
{
    struct oss_config other = config;
    struct oss_bucket_info info;
    struct oss_error err;
    struct oss *o;

    (void)state;
    other.cred = oss_cred_fixed(OSSD_KEY, "wrong", NULL);
    o = client_open(&other);
    assert_int_equal(o->ops->bucket_info(o, &info, &err), -EACCES);
    assert_string_equal(err.code, "SignatureDoesNotMatch");
    oss_close(o);
    oss_cred_free(other.cred);
    other.cred = oss_cred_fixed("nobody", "wrong", NULL);
    o = client_open(&other);
    assert_int_equal(o->ops->bucket_info(o, &info, &err), -EACCES);
    assert_string_equal(err.code, "InvalidAccessKeyId");
    assert_int_equal(err.tries, 1);
    oss_close(o);
    oss_cred_free(other.cred);
    other = config;
    other.bucket = "no-such-bucket";
    o = client_open(&other);
    assert_int_equal(o->ops->bucket_info(o, &info, &err), -ENOENT);
    assert_string_equal(err.code, "NoSuchBucket");
    oss_close(o);
}

/* -------------------------------------------------------------------------------------- keys, clocks, networks */

static void control(const char *method, const char *path, const char *body)
{
    free(ossd_control(server, method, path, body));
}

static void security_tokens(void **state)
{
    struct oss_config other = config;
    struct oss_error err;
    struct oss *o;

    (void)state;
    control("POST", "/keyrotate", "{\"id\":\"sts\",\"secret\":\"abc\",\"token\":\"to/ken+==\"}");
    for (int version = 1; version <= 4; version += 3) {
        other.signature_version = version;
        other.cred = oss_cred_fixed("sts", "abc", "to/ken+==");
        o = client_open(&other);
        assert_int_equal(put_stream(o, "token", 1, 100, NULL, &err), 0);
        oss_close(o);
        oss_cred_free(other.cred);
        other.cred = oss_cred_fixed("sts", "abc", "another");
        o = client_open(&other);
        assert_int_equal(put_stream(o, "token", 1, 100, NULL, &err), -EACCES);
        oss_close(o);
        oss_cred_free(other.cred);
    }
}

/* The key expires while the mount runs, and somebody has put a new one into the file. */
static void a_key_that_expires(void **state)
{
    char path[] = "/tmp/test_client.XXXXXX";
    int fd = mkstemp(path);
    const struct oss_cred_config from = {.bucket = OSSD_BUCKET, .passwd_file = path};
    struct oss_config other = config;
    struct oss_error err;
    struct oss *o;

    (void)state;
    control("POST", "/keyrotate", "{\"id\":\"k1\",\"secret\":\"s1\"}");
    assert_int_equal(pwrite(fd, "k1:s1\n", 6, 0), 6);
    assert_int_equal(oss_cred_open(&other.cred, &from, &err), 0);
    o = client_open(&other);
    assert_int_equal(put_stream(o, "key", 1, 100, NULL, &err), 0);
    control("POST", "/keyrotate", "{\"id\":\"k1\",\"secret\":\"s1\",\"expired\":true}");
    assert_int_equal(put_stream(o, "key", 1, 100, NULL, &err), -EACCES);
    assert_int_equal(err.tries, 1);
    control("POST", "/keyrotate", "{\"id\":\"k2\",\"secret\":\"s2\"}");
    assert_int_equal(pwrite(fd, "k2:s2\n", 6, 0), 6);
    assert_int_equal(put_stream(o, "key", 1, 100, NULL, &err), 0);
    oss_close(o);
    oss_cred_free(other.cred);
    close(fd);
    unlink(path);
}

static void a_clock_that_is_wrong(void **state)
{
    struct oss *o = client_open(&config);
    struct oss_error err;

    (void)state;
    for (int i = 0; i < 3; i++) {
        static const char *const offsets[] = {"{\"offset\":7200}", "{\"offset\":-90000}", "{\"offset\":0}"};

        control("POST", "/clock", offsets[i]);
        assert_int_equal(put_stream(o, "clock", 1, 100, NULL, &err), 0);
        assert_int_equal(err.tries, 2);
        assert_int_equal(put_stream(o, "clock", 1, 100, NULL, &err), 0);
        assert_int_equal(err.tries, 1);
    }
    oss_close(o);
}

/* Kept connections that the server has closed cost nobody anything; not even an append. */
static void dropped_connections(void **state)
{
    struct oss_error err;
    struct oss_object out;
    uint64_t seed = 1;
    struct oss_source source = stream(&seed, 10);

    (void)state;
    assert_int_equal(oss->ops->delete (oss, "dropped", &err), 0);
    for (uint64_t i = 0; i < 20; i++) {
        control("POST", "/drop", NULL);
        usleep(20000);
        assert_int_equal(oss->ops->append(oss, "dropped", 10 * i, &source, NULL, &out, &err), 0);
        assert_int_equal(out.size, 10 * i + 10);
        oss_object_free(&out);
    }
}

static void an_outage(void **state)
{
    struct oss_error err;

    (void)state;
    control("POST", "/outage", "{\"on\":true}");
    assert_int_equal(put_stream(oss, "outage", 1, 100, NULL, &err), -EIO);
    assert_int_equal(err.tries, config.retries + 1);
    control("POST", "/outage", "{\"on\":false}");
    assert_int_equal(put_stream(oss, "outage", 1, 100, NULL, &err), 0);
}

static void certificates(void **state)
{
    char dir[] = "/tmp/test_client.XXXXXX";
    char cert[64], key[64], command[400], url[64];
    const char *args[] = {"--tls", cert, key, NULL};
    struct oss_config tls = config;
    struct ossd_server *s;
    struct oss_error err;
    struct oss *o;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    snprintf(key, sizeof(key), "%s/key.pem", dir);
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -keyout %s -out %s -days 2 -subj /CN=ossd "
             "-addext subjectAltName=IP:127.0.0.1 2>/dev/null",
             key, cert);
    assert_int_equal(system(command), 0);
    s = ossd_start(args);
    tls.endpoint = ossd_url(s);
    assert_int_equal(strncmp(tls.endpoint, "https://", 8), 0);
    /* Nobody vouches for it: nothing is sent, and nothing tried again. */
    o = client_open(&tls);
    assert_int_equal(put_stream(o, "tls", 1, 100000, NULL, &err), -EIO);
    assert_int_equal(err.tries, 1);
    assert_non_null(strstr(err.message, "certificate"));
    assert_false(err.ambiguous);
    oss_close(o);
    tls.ca_file = cert;
    o = client_open(&tls);
    assert_int_equal(put_stream(o, "tls", 1, 100000, NULL, &err), 0);
    assert_true(holds_of(o, "tls", 1, 100000));
    oss_close(o);
    /* The right certificate under another name. */
    snprintf(url, sizeof(url), "https://localhost:%s", strrchr(tls.endpoint, ':') + 1);
    tls.endpoint = url;
    o = client_open(&tls);
    assert_int_equal(put_stream(o, "tls", 1, 100000, NULL, &err), -EIO);
    assert_int_equal(err.tries, 1);
    oss_close(o);
    ossd_end(s);
    unlink(cert);
    unlink(key);
    rmdir(dir);
}

/* --------------------------------------------------------------------------------------------- fault matrix */

/* What the operations of the matrix work on; made anew for each cell, without faults. */
static struct fixture {
    char base_etag[OSS_ETAG_SIZE], self_etag[OSS_ETAG_SIZE];
    char id[OSS_UPLOADID_SIZE], new_id[OSS_UPLOADID_SIZE];
    struct oss_part part;
    uint64_t length; /* of log */
    unsigned number; /* of the cell: each has names of its own where a rest would disturb */
    char fresh[32];
} fx;

enum { OLD_SEED = 21, NEW_SEED = 22, BASE_SIZE = 3000, NEW_SIZE = 200000 };

static void fixture_make(void)
{
    struct oss_object out;
    struct oss_error err;
    uint64_t seed = OLD_SEED;
    struct oss_source piece = stream(&seed, 1000), part = stream(&seed, 150000);

    fx.number++;
    snprintf(fx.fresh, sizeof(fx.fresh), "fresh-%u", fx.number);
    assert_int_equal(put_stream(oss, "m/base", OLD_SEED, BASE_SIZE, &out, &err), 0);
    memcpy(fx.base_etag, out.etag, sizeof(out.etag));
    oss_object_free(&out);
    assert_int_equal(put_stream(oss, "m/self", OLD_SEED, BASE_SIZE, &out, &err), 0);
    memcpy(fx.self_etag, out.etag, sizeof(out.etag));
    oss_object_free(&out);
    assert_int_equal(put_stream(oss, "m/target", OLD_SEED, 10, NULL, &err), 0);
    assert_int_equal(oss->ops->delete (oss, "m/log", &err), 0);
    assert_int_equal(oss->ops->append(oss, "m/log", 0, &piece, NULL, NULL, &err), 0);
    assert_int_equal(oss->ops->initiate(oss, "m/multi", NULL, fx.id, &err), 0);
    assert_int_equal(oss->ops->upload_part(oss, "m/multi", fx.id, 1, &part, &fx.part, &err), 0);
    assert_int_equal(oss->ops->put_symlink(oss, "m/link", "m/base", NULL, NULL, &err), 0);
}

static void fixture_drop(void)
{
    assert_int_equal(oss->ops->abort(oss, "m/multi", fx.id, NULL), 0);
}

static int run_head(struct oss *o, struct oss_error *err)
{
    struct oss_object out;
    int r = o->ops->head(o, "m/base", &out, err);

    if (r == 0) {
        r = out.size == BASE_SIZE && strcmp(out.etag, fx.base_etag) == 0 ? 0 : 1;
        oss_object_free(&out);
    }
    return r;
}

static int run_get(struct oss *o, struct oss_error *err)
{
    struct expect e = {.sink = {.write = expect_write}, .seed = OLD_SEED};
    int r;

    e.sink.arg = &e;
    r = o->ops->get(o, "m/base", 0, OSS_WHOLE, NULL, &e.sink, NULL, err);
    return r == 0 && (e.at != BASE_SIZE || e.wrong) ? 1 : r;
}

static int run_get_range(struct oss *o, struct oss_error *err)
{
    struct expect e = {.sink = {.write = expect_write}, .seed = OLD_SEED, .at = 100};
    int r;

    e.sink.arg = &e;
    r = o->ops->get(o, "m/base", 100, 1000, fx.base_etag, &e.sink, NULL, err);
    return r == 0 && (e.at != 1100 || e.wrong) ? 1 : r;
}

static int run_put(struct oss *o, struct oss_error *err)
{
    return put_stream(o, "m/target", NEW_SEED, NEW_SIZE, NULL, err);
}

static int run_put_new(struct oss *o, struct oss_error *err)
{
    struct oss_put_opts opts = {.forbid_overwrite = true};
    uint64_t seed = NEW_SEED;
    struct oss_source source = stream(&seed, NEW_SIZE);

    return o->ops->put(o, fx.fresh, &source, &opts, NULL, err);
}

static int run_append(struct oss *o, struct oss_error *err)
{
    uint64_t seed = NEW_SEED;
    struct oss_source source = stream(&seed, 5000);

    return o->ops->append(o, "m/log", 1000, &source, NULL, NULL, err);
}

static int run_copy(struct oss *o, struct oss_error *err)
{
    struct oss_copy_opts opts = {.if_match = fx.base_etag};

    return o->ops->copy(o, "m/base", "m/target", &opts, NULL, err);
}

static int run_copy_new(struct oss *o, struct oss_error *err)
{
    struct oss_copy_opts opts = {.forbid_overwrite = true};

    return o->ops->copy(o, "m/base", fx.fresh, &opts, NULL, err);
}

static int run_copy_self(struct oss *o, struct oss_error *err)
{
    struct kvlist meta = {0};
    struct oss_copy_opts opts = {.if_match = fx.self_etag, .replace = true, .headers = &meta};
    int r;

    kv_add(&meta, "x-oss-meta-mode", "12345");
    r = o->ops->copy(o, "m/self", "m/self", &opts, NULL, err);
    kv_free(&meta);
    return r;
}

static int run_delete(struct oss *o, struct oss_error *err)
{
    return o->ops->delete (o, "m/target", err);
}

static int run_delete_many(struct oss *o, struct oss_error *err)
{
    const char *keys[] = {"m/target", "m/none"};
    bool deleted[2];
    int r = o->ops->delete_many(o, keys, 2, deleted, err);

    return r == 0 && !(deleted[0] && deleted[1]) ? 1 : r;
}

static int run_list(struct oss *o, struct oss_error *err)
{
    struct oss_list_opts opts = {.prefix = "m/"};
    struct oss_list list;
    int r = o->ops->list(o, &opts, &list, err);
    size_t n = list.n_entries;

    oss_list_free(&list);
    return r == 0 && n < 4 ? 1 : r;
}

static int run_initiate(struct oss *o, struct oss_error *err)
{
    int r = o->ops->initiate(o, "m/other", NULL, fx.new_id, err);

    if (r == 0)
        assert_int_equal(oss->ops->abort(oss, "m/other", fx.new_id, NULL), 0);
    return r;
}

static int run_part(struct oss *o, struct oss_error *err)
{
    uint64_t seed = NEW_SEED;
    struct oss_source source = stream(&seed, NEW_SIZE);
    struct oss_part part;

    return o->ops->upload_part(o, "m/multi", fx.id, 2, &source, &part, err);
}

static int run_part_copy(struct oss *o, struct oss_error *err)
{
    struct oss_part part;

    return o->ops->copy_part(o, "m/multi", fx.id, 2, "m/base", fx.base_etag, 10, 500, &part, err);
}

static int run_complete(struct oss *o, struct oss_error *err)
{
    return o->ops->complete(o, "m/multi", fx.id, &fx.part, 1, fx.part.size, true, fx.part.crc64, NULL, NULL, err);
}

static int run_abort(struct oss *o, struct oss_error *err)
{
    return o->ops->abort(o, "m/multi", fx.id, err);
}

static int run_list_parts(struct oss *o, struct oss_error *err)
{
    struct oss_part_list list;
    int r = o->ops->list_parts(o, "m/multi", fx.id, 0, &list, err);
    size_t n = list.n;

    oss_part_list_free(&list);
    return r == 0 && n != 1 ? 1 : r;
}

static int run_list_uploads(struct oss *o, struct oss_error *err)
{
    struct oss_upload_list list;
    int r = o->ops->list_uploads(o, "m/multi", NULL, NULL, &list, err);
    size_t n = list.n;

    oss_upload_list_free(&list);
    return r == 0 && n != 1 ? 1 : r;
}

static int run_put_symlink(struct oss *o, struct oss_error *err)
{
    struct oss_put_opts opts = {.forbid_overwrite = true};

    return o->ops->put_symlink(o, fx.fresh, "m/base", &opts, NULL, err);
}

static int run_get_symlink(struct oss *o, struct oss_error *err)
{
    char target[OSS_KEY_MAX + 1];
    int r = o->ops->get_symlink(o, "m/link", target, NULL, err);

    return r == 0 && strcmp(target, "m/base") ? 1 : r;
}

static int run_get_acl(struct oss *o, struct oss_error *err)
{
    char acl[24];

    return o->ops->get_acl(o, "m/base", acl, err);
}

static int run_put_acl(struct oss *o, struct oss_error *err)
{
    return o->ops->put_acl(o, "m/base", "private", err);
}

static int run_get_tagging(struct oss *o, struct oss_error *err)
{
    char *tagging;
    int r = o->ops->get_tagging(o, "m/base", &tagging, err);

    free(tagging);
    return r;
}

static int run_bucket_info(struct oss *o, struct oss_error *err)
{
    struct oss_bucket_info info;

    return o->ops->bucket_info(o, &info, err);
}

static int run_bucket_stat(struct oss *o, struct oss_error *err)
{
    struct oss_bucket_stat stat;

    return o->ops->bucket_stat(o, &stat, err);
}

/* Whether the operation was carried out (once), as far as can be seen; what is wrong either way fails the test. */
static bool is_put(void)
{
    if (holds("m/target", NEW_SEED, NEW_SIZE))
        return true;
    assert_true(holds("m/target", OLD_SEED, 10));
    return false;
}

static bool is_put_new(void)
{
    struct oss_object out;

    if (oss->ops->head(oss, fx.fresh, &out, NULL) == -ENOENT)
        return false;
    oss_object_free(&out);
    assert_true(holds(fx.fresh, NEW_SEED, NEW_SIZE));
    return true;
}

static bool is_appended(void)
{
    struct expect e = {.sink = {.write = expect_write}, .seed = NEW_SEED, .shift = 1000, .at = 1000};
    struct oss_object out;
    uint64_t size;

    assert_int_equal(oss->ops->head(oss, "m/log", &out, NULL), 0);
    size = out.size;
    oss_object_free(&out);
    if (size == 1000)
        return false;
    assert_int_equal(size, 6000);
    e.sink.arg = &e;
    assert_int_equal(oss->ops->get(oss, "m/log", 1000, 5000, NULL, &e.sink, NULL, NULL), 0);
    assert_true(e.at == 6000 && !e.wrong);
    return true;
}

static bool is_copied(void)
{
    if (holds("m/target", OLD_SEED, BASE_SIZE))
        return true;
    assert_true(holds("m/target", OLD_SEED, 10));
    return false;
}

static bool is_copied_new(void)
{
    struct oss_object out;

    if (oss->ops->head(oss, fx.fresh, &out, NULL) == -ENOENT)
        return false;
    oss_object_free(&out);
    assert_true(holds(fx.fresh, OLD_SEED, BASE_SIZE));
    return true;
}

static bool is_copied_self(void)
{
    struct oss_object out;
    const char *mode;
    bool is;

    assert_int_equal(oss->ops->head(oss, "m/self", &out, NULL), 0);
    mode = kv_get(&out.headers, "x-oss-meta-mode");
    is = mode && strcmp(mode, "12345") == 0;
    oss_object_free(&out);
    assert_true(holds("m/self", OLD_SEED, BASE_SIZE));
    return is;
}

static bool is_deleted(void)
{
    struct oss_object out;

    if (oss->ops->head(oss, "m/target", &out, NULL) == -ENOENT)
        return true;
    oss_object_free(&out);
    return false;
}

static bool has_part(void)
{
    struct oss_part_list list;
    size_t n;

    assert_int_equal(oss->ops->list_parts(oss, "m/multi", fx.id, 1, &list, NULL), 0);
    n = list.n;
    oss_part_list_free(&list);
    return n == 1;
}

static bool is_aborted(void)
{
    struct oss_part_list list;
    int r = oss->ops->list_parts(oss, "m/multi", fx.id, 1, &list, NULL);

    oss_part_list_free(&list);
    return r == -ENOENT;
}

static bool is_completed(void)
{
    if (!is_aborted())
        return false;
    assert_true(holds("m/multi", OLD_SEED, 150000));
    return true;
}

static bool is_linked(void)
{
    char target[OSS_KEY_MAX + 1];

    return oss->ops->get_symlink(oss, fx.fresh, target, NULL, NULL) == 0 && strcmp(target, "m/base") == 0;
}

enum {
    BODY_UP = 1,   /* carries bytes */
    BODY_DOWN = 2, /* brings bytes */
    XML_DOWN = 4,  /* brings XML */
    ONCE = 8,      /* append */
    CRC_KNOWN = 16 /* the reply's CRC is compared */
};

static const struct op {
    enum oss_op op;
    int (*run)(struct oss *o, struct oss_error *err); /* 0, a negative errno, or 1: succeeded with a wrong result */
    bool (*done)(void);                               /* NULL: changes nothing */
    int traits;
} ops[] = {
    {OSS_OP_HEAD, run_head, NULL, 0},
    {OSS_OP_GET, run_get, NULL, BODY_DOWN | CRC_KNOWN},
    {OSS_OP_GET, run_get_range, NULL, BODY_DOWN},
    {OSS_OP_PUT, run_put, is_put, BODY_UP | CRC_KNOWN},
    {OSS_OP_PUT, run_put_new, is_put_new, BODY_UP | CRC_KNOWN},
    {OSS_OP_APPEND, run_append, is_appended, BODY_UP | ONCE},
    {OSS_OP_COPY, run_copy, is_copied, XML_DOWN},
    {OSS_OP_COPY, run_copy_new, is_copied_new, XML_DOWN},
    {OSS_OP_COPY, run_copy_self, is_copied_self, XML_DOWN},
    {OSS_OP_DELETE, run_delete, is_deleted, 0},
    {OSS_OP_DELETE_MANY, run_delete_many, is_deleted, BODY_UP | XML_DOWN},
    {OSS_OP_LIST, run_list, NULL, XML_DOWN},
    {OSS_OP_INITIATE, run_initiate, NULL, XML_DOWN},
    {OSS_OP_PART, run_part, has_part, BODY_UP | CRC_KNOWN},
    {OSS_OP_PART_COPY, run_part_copy, has_part, XML_DOWN},
    {OSS_OP_COMPLETE, run_complete, is_completed, BODY_UP | XML_DOWN | CRC_KNOWN},
    {OSS_OP_ABORT, run_abort, is_aborted, 0},
    {OSS_OP_LIST_PARTS, run_list_parts, NULL, XML_DOWN},
    {OSS_OP_LIST_UPLOADS, run_list_uploads, NULL, XML_DOWN},
    {OSS_OP_PUT_SYMLINK, run_put_symlink, is_linked, 0},
    {OSS_OP_GET_SYMLINK, run_get_symlink, NULL, 0},
    {OSS_OP_GET_ACL, run_get_acl, NULL, XML_DOWN},
    {OSS_OP_PUT_ACL, run_put_acl, NULL, 0},
    {OSS_OP_GET_TAGGING, run_get_tagging, NULL, XML_DOWN},
    {OSS_OP_BUCKET_INFO, run_bucket_info, NULL, XML_DOWN},
    {OSS_OP_BUCKET_STAT, run_bucket_stat, NULL, XML_DOWN},
};
#define N_OPS (sizeof(ops) / sizeof(*ops))

/* One cell: the fault strikes `count` times; the result must be `r`, and the bucket show `done` (-1: whatever). */
static void cell(struct oss *o, const struct op *op, const char *action, int count, const char *more, int r, int done)
{
    struct oss_error err;
    int got;

    fixture_make();
    ossd_fault(server, oss_op_name(op->op), action, count, more);
    got = op->run(o, &err);
    ossd_faults_clear(server);
    if (got != r)
        fail_msg("%s (case %zu), %s %s: %d (%d %s %s), expected %d", oss_op_name(op->op), (size_t)(op - ops), action,
                 more ? more : "", got, err.status, err.code, err.message, r);
    if (op->done && done >= 0 && op->done() != done)
        fail_msg("%s (case %zu), %s %s: %s", oss_op_name(op->op), (size_t)(op - ops), action, more ? more : "",
                 done ? "not carried out" : "carried out");
    if ((op->traits & ONCE) && (strcmp(action, "lost") == 0 || strcmp(action, "reset") == 0) && !err.ambiguous)
        fail_msg("%s, %s: not called ambiguous", oss_op_name(op->op), action);
    fixture_drop();
}

/* Whatever goes wrong once, nobody notices; only an append that may have been done is the caller's to sort out. */
static void once(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OPS; i += CASES_STEP) {
        const struct op *op = &ops[i];
        int lost = op->traits & ONCE ? -EIO : 0;

        cell(oss, op, "status", 1, "\"status\":503,\"code\":\"ServiceUnavailable\"", 0, 1);
        cell(oss, op, "status", 1, "\"status\":429,\"code\":\"TooManyRequests\"", 0, 1);
        cell(oss, op, "status", 1, "\"status\":500,\"code\":\"InternalError\"", lost, lost ? 0 : 1);
        cell(oss, op, "reset", 1, NULL, lost, lost ? 0 : 1);
        cell(oss, op, "lost", 1, NULL, lost, 1);
        cell(oss, op, "drop_crc", 1, NULL, 0, 1);
        cell(oss, op, "close", 1, NULL, 0, 1);
        cell(oss, op, "delay", 1, "\"ms\":50", 0, 1);
        if (op->traits & (BODY_DOWN | XML_DOWN))
            cell(oss, op, "truncate", 1, NULL, 0, 1);
        if (op->traits & BODY_UP)
            cell(oss, op, "corrupt_request", 1, NULL, 0, 1);
        /* A download that does not fit its CRC cannot be taken back; an upload can be sent again. */
        if (op->traits & CRC_KNOWN)
            cell(oss, op, "wrong_crc", 1, NULL, op->op == OSS_OP_GET ? -EIO : 0, 1);
        if ((op->traits & (BODY_DOWN | CRC_KNOWN)) == (BODY_DOWN | CRC_KNOWN))
            cell(oss, op, "corrupt_body", 1, NULL, -EIO, -1);
        if (op->traits & XML_DOWN) {
            static const char *const modes[] = {"text", "html", "truncated", "deep", "entities", "empty"};

            for (size_t m = 0; m < sizeof(modes) / sizeof(*modes); m++) {
                char more[32];

                snprintf(more, sizeof(more), "\"mode\":\"%s\"", modes[m]);
                cell(oss, op, "garbage", 1, more, 0, 1);
            }
        }
    }
}

/* What goes wrong each time: an error, in time, and the old state or the new, never a mixture. */
static void always(void **state)
{
    struct oss_config few = config;
    struct oss *o;

    (void)state;
    few.retries = 1;
    o = client_open(&few);
    for (size_t i = CASES_STEP - 1; i < N_OPS; i += CASES_STEP) {
        const struct op *op = &ops[i];

        cell(o, op, "status", -1, "\"status\":403,\"code\":\"AccessDenied\"", -EACCES, 0);
        cell(o, op, "status", -1, "\"status\":503,\"code\":\"ServiceUnavailable\"", -EIO, 0);
        cell(o, op, "status", -1, "\"status\":400,\"code\":\"InvalidArgument\"", -EINVAL, 0);
        cell(o, op, "reset", -1, NULL, -EIO, 0);
        if (op->op != OSS_OP_PUT || op->run != run_put_new)
            cell(o, op, "lost", -1, NULL, -EIO, -1);
        if (op->traits & BODY_UP && op->op != OSS_OP_DELETE_MANY && op->op != OSS_OP_COMPLETE)
            cell(o, op, "corrupt_request", -1, NULL, -EIO, 0);
        if (op->traits & XML_DOWN && op->op != OSS_OP_COMPLETE)
            cell(o, op, "garbage", -1, "\"mode\":\"huge\",\"bytes\":3000000", -EIO, -1);
    }
    oss_close(o);
}

/* A refusal is asked for once. */
static void refusals_are_not_repeated(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OPS; i++) {
        struct oss_error err;
        uint64_t before;

        fixture_make();
        before = ossd_requests(server, oss_op_name(ops[i].op));
        ossd_fault(server, oss_op_name(ops[i].op), "status", -1, "\"status\":403,\"code\":\"AccessDenied\"");
        assert_int_equal(ops[i].run(oss, &err), -EACCES);
        ossd_faults_clear(server);
        assert_int_equal(ossd_requests(server, oss_op_name(ops[i].op)), before + 1);
        assert_int_equal(err.tries, 1);
        assert_string_equal(err.code, "AccessDenied");
        fixture_drop();
    }
}

struct cell_thread {
    pthread_t thread;
    struct oss *o;
    const struct op *op;
    int r;
    int64_t ms;
};

static void *cell_run(void *arg)
{
    struct cell_thread *c = arg;
    int64_t from = clock_ms();

    c->r = c->op->run(c->o, NULL);
    c->ms = clock_ms() - from;
    return NULL;
}

/* A server that never answers costs the deadline, not more, whatever was asked. */
static void silence(void **state)
{
    struct oss_config hasty = config;
    struct cell_thread t[N_OPS];

    (void)state;
    hasty.retries = 1;
    hasty.stall_timeout_ms = 800;
    hasty.transfer_deadline_ms = 3000;
    hasty.meta_deadline_ms = 3000;
    fixture_make();
    ossd_fault(server, "*", "hang", -1, NULL);
    for (size_t i = 0; i < N_OPS; i++) {
        t[i] = (struct cell_thread){.o = client_open(&hasty), .op = &ops[i]};
        pthread_create(&t[i].thread, NULL, cell_run, &t[i]);
    }
    for (size_t i = 0; i < N_OPS; i++) {
        pthread_join(t[i].thread, NULL);
        oss_close(t[i].o);
        if (t[i].r != -ETIMEDOUT || t[i].ms > PATIENCE_MS)
            fail_msg("%s: %d after %lld ms", oss_op_name(t[i].op->op), t[i].r, (long long)t[i].ms);
    }
    ossd_faults_clear(server);
    fixture_drop();
}

/* Stopping ends what runs, in all operations at once. */
static void stop(void **state)
{
    struct cell_thread t[N_OPS];
    struct oss *o = client_open(&config);
    int64_t from;

    (void)state;
    fixture_make();
    ossd_fault(server, "*", "hang", -1, NULL);
    for (size_t i = 0; i < N_OPS; i++) {
        t[i] = (struct cell_thread){.o = o, .op = &ops[i]};
        pthread_create(&t[i].thread, NULL, cell_run, &t[i]);
    }
    usleep(500000);
    from = clock_ms();
    oss_stop(o);
    for (size_t i = 0; i < N_OPS; i++) {
        pthread_join(t[i].thread, NULL);
        assert_int_equal(t[i].r, -ECANCELED);
    }
    assert_true(clock_ms() - from < PATIENCE_MS);
    oss_close(o);
    ossd_faults_clear(server);
    fixture_drop();
}

static uint64_t errors_of_puts(void)
{
    struct oss_op_stats stats[OSS_OPS];
    uint64_t n = 0;

    oss_stats(oss, stats);
    for (int i = 0; i < OSS_ERROR_CLASSES; i++)
        n += stats[OSS_OP_PUT].errors[i];
    return n;
}

static int changes_its_mind(void *arg, uint64_t offset, void *to, size_t n)
{
    memset(to, 'x', n);
    return offset + n > 100000 ? *(int *)arg : 0;
}

/* A body that its source gives up ends the operation with what the source says; to begin anew is no error. */
static void source_that_fails(void **state)
{
    static const int answers[] = {-EIO, -EAGAIN};
    struct oss_object out = {0};
    struct oss_error err;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int answer = answers[i];
        const struct oss_source source = {
            .read = changes_its_mind, .arg = &answer, .size = 200000, .has_crc = true, .crc64 = 1};
        uint64_t before = errors_of_puts();

        assert_int_equal(oss->ops->put(oss, "k", &source, NULL, &out, &err), answer);
        assert_int_equal(errors_of_puts() - before, answer == -EIO);
    }
    assert_int_equal(oss->ops->head(oss, "k", &out, &err), -ENOENT);
}

/* --------------------------------------------------------------------------------------------- many threads */

#define THREADS 32
#define ROUNDS  12

struct worker {
    pthread_t thread;
    unsigned number;
    const char *failed;
    struct oss_error err;
};

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    char key[64];

    for (unsigned i = 0; i < ROUNDS && !w->failed; i++) {
        uint64_t size = (w->number * 7919 + i * 104729) % (i % 4 == 3 ? 400000 : 20000);
        struct oss_object head;

        snprintf(key, sizeof(key), "t/%u/%u", w->number, i);
        if (put_stream(oss, key, w->number * 100 + i, size, NULL, &w->err) < 0)
            w->failed = "put";
        else if (oss->ops->head(oss, key, &head, &w->err) < 0)
            w->failed = "head";
        else {
            if (head.size != size)
                w->failed = "size";
            oss_object_free(&head);
        }
        if (!w->failed && !holds(key, w->number * 100 + i, size))
            w->failed = "get";
        if (!w->failed && oss->ops->delete (oss, key, &w->err) < 0)
            w->failed = "delete";
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct worker workers[THREADS] = {0};
    struct oss_op_stats stats[OSS_OPS];
    uint64_t repeats = 0;

    (void)state;
    ossd_fault(server, "PutObject", "status", 20, "\"skip\":3,\"status\":503,\"code\":\"ServiceUnavailable\"");
    ossd_fault(server, "PutObject", "reset", 10, "\"skip\":40");
    ossd_fault(server, "PutObject", "lost", 10, "\"skip\":60");
    ossd_fault(server, "PutObject", "wrong_crc", 5, "\"skip\":80");
    ossd_fault(server, "PutObject", "corrupt_request", 5, "\"skip\":90");
    ossd_fault(server, "GetObject", "truncate", 20, "\"skip\":10");
    ossd_fault(server, "GetObject", "reset", 10, "\"skip\":50");
    ossd_fault(server, "HeadObject", "reset", 10, "\"skip\":50");
    ossd_fault(server, "DeleteObject", "lost", 10, "\"skip\":50");
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].number = i;
        pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        if (workers[i].failed)
            fail_msg("thread %u: %s: %d %s %s", i, workers[i].failed, workers[i].err.err, workers[i].err.code,
                     workers[i].err.message);
    }
    oss_stats(oss, stats);
    for (int i = 0; i < OSS_OPS; i++)
        repeats += stats[i].retries;
    assert_true(repeats >= 90);
}

#define TEST(f) cmocka_unit_test_teardown(f, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(objects),
        TEST(metadata),
        TEST(ranges),
        TEST(appends),
        TEST(listings),
        TEST(deletes_of_many),
        TEST(multipart),
        TEST(the_rest),
        TEST(signature_v1),
        TEST(ways_to_address_a_bucket),
        TEST(wrong_keys_and_buckets),
        TEST(security_tokens),
        TEST(a_key_that_expires),
        TEST(a_clock_that_is_wrong),
        TEST(dropped_connections),
        TEST(an_outage),
        TEST(certificates),
        TEST(once),
        TEST(always),
        TEST(refusals_are_not_repeated),
        TEST(silence),
        TEST(stop),
        TEST(source_that_fails),
        TEST(many_threads),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
