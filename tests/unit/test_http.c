/*
 * The client against replies that are lost, broken, late or hostile, byte for byte; and what it sends.
 */
#include "../../oss/base_log.h"
#include "../../oss/base_time.h"
#include "../../oss/crc64.h"
#include "../../oss/cred.h"
#include "../../oss/oss.h"
#include "script_server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BUCKET      "test-bucket"
#define SECRET      "SecretSecretSecret"
#define TOKEN       "TokenTokenToken"
#define PATIENCE_MS 10000 /* of a machine with much to do; below the times that would tell a fault */
#define DATE        "Date: Wed, 22 Feb 2012 08:32:21 GMT\r\nLast-Modified: Wed, 22 Feb 2012 08:32:21 GMT\r\n"

/* One test: a server, a client of it, the texts made on the way. */
static struct script_server *server;
static struct oss_cred *cred;
static struct oss *oss;
static struct oss_config config;
static char endpoint[64];
static char *texts[128];
static size_t n_texts;

static void client_open(void)
{
    struct oss_error err;

    oss_close(oss);
    assert_int_equal(oss_open(&oss, &config, &err), 0);
}

static int setup(void **state)
{
    (void)state;
    server = script_start();
    cred = oss_cred_fixed("KeyId", SECRET, NULL);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", script_port(server));
    config = OSS_CONFIG_DEFAULTS;
    config.endpoint = endpoint;
    config.bucket = BUCKET;
    config.region = "cn-hangzhou";
    config.cred = cred;
    config.retries = 2;
    oss = NULL;
    client_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    oss_close(oss);
    oss = NULL;
    oss_cred_free(cred);
    script_end(server);
    while (n_texts)
        free(texts[--n_texts]);
    return 0;
}

static char *keep(char *text)
{
    assert_true(n_texts < sizeof(texts) / sizeof(*texts));
    return texts[n_texts++] = text;
}

/* A whole reply of the service; `headers` end with CRLF each. */
static const char *reply(int status, const char *headers, const char *body)
{
    char *text;

    assert_true(asprintf(&text, "HTTP/1.1 %d Text\r\nx-oss-request-id: REQ%d\r\nContent-Length: %zu\r\n%s\r\n%s",
                         status, status, strlen(body), headers, body) > 0);
    return keep(text);
}

static const char *error(int status, const char *code, const char *headers)
{
    char *body;

    assert_true(asprintf(&body, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no %s today</Message></Error>",
                         code, code) > 0);
    return reply(status, headers, keep(body));
}

/* A reply that promises `size` bytes of `body` and breaks off after `n`. */
static void add_broken(const char *headers, const char *body, size_t n)
{
    char *text;
    int len = asprintf(&text, "HTTP/1.1 200 OK\r\nx-oss-request-id: R\r\nContent-Length: %zu\r\n%s\r\n%.*s",
                       strlen(body), headers, (int)n, body);

    assert_true(len > 0);
    keep(text);
    script_add(server, &(struct script_step){.reply = text, .then = SCRIPT_CLOSE});
}

static void add_lost(void)
{
    script_add(server, &(struct script_step){.then = SCRIPT_CLOSE});
}

static const char *crc_header(const char *data)
{
    char *text;

    assert_true(asprintf(&text, "ETag: \"E1\"\r\n" DATE "x-oss-hash-crc64ecma: %llu\r\n",
                         (unsigned long long)crc64(0, data, strlen(data))) > 0);
    return keep(text);
}

static bool sent_has(size_t i, const char *text)
{
    return strcasestr(script_request(server, i), text) != NULL;
}

#define assert_sent(i, text)     assert_true(sent_has(i, text))
#define assert_not_sent(i, text) assert_false(sent_has(i, text))
#define assert_requests(n)       assert_int_equal(script_requests(server), n)

/* ------------------------------------------------------------------------------------- sources and sinks */

struct text_source {
    struct oss_source source;
    const char *text[8]; /* what each reading from the start finds; the last holds on */
    int readings, failing;
};

static int text_read(void *arg, uint64_t offset, void *to, size_t n)
{
    struct text_source *s = arg;

    if (offset == 0 && s->text[s->readings + 1])
        s->readings++;
    if (s->failing)
        return s->failing;
    assert_true(offset + n <= s->source.size);
    memcpy(to, s->text[s->readings] + offset, n);
    return 0;
}

static struct text_source *source_of(const char *text)
{
    static struct text_source s;

    s = (struct text_source){.source = {.read = text_read, .arg = &s, .size = strlen(text)}, .text = {text, text}};
    return &s;
}

struct text_sink {
    struct oss_sink sink;
    char got[256];
    uint64_t first, at;
    int failing;
};

static int text_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct text_sink *s = arg;

    if (s->failing)
        return s->failing;
    /* Each byte once, in order. */
    assert_int_equal(offset, s->at);
    assert_true(s->at - s->first + n < sizeof(s->got));
    memcpy(s->got + (s->at - s->first), data, n);
    s->at += n;
    return 0;
}

static struct text_sink *sink_from(uint64_t offset)
{
    static struct text_sink s;

    s = (struct text_sink){.sink = {.write = text_write, .arg = &s}, .first = offset, .at = offset};
    return &s;
}

static int get(uint64_t offset, uint64_t length, const char *if_match, struct text_sink **sink, struct oss_error *err)
{
    *sink = sink_from(offset);
    return oss->ops->get(oss, "key", offset, length, if_match, &(*sink)->sink, NULL, err);
}

static int put(const char *text, bool forbid, struct oss_error *err)
{
    struct oss_put_opts opts = {.forbid_overwrite = forbid};

    return oss->ops->put(oss, "key", &source_of(text)->source, &opts, NULL, err);
}

/* -------------------------------------------------------------------------------------------- what is sent */

static void a_put_as_it_is_sent(void **state)
{
    struct kvlist meta = {0};
    struct oss_put_opts opts = {.headers = &meta, .content_md5 = true};
    struct oss_object out;
    struct oss_error err;
    char line[128];

    (void)state;
    oss_cred_free(cred);
    config.cred = cred = oss_cred_fixed("KeyId", SECRET, TOKEN);
    client_open();
    kv_add(&meta, "Content-Type", "text/plain");
    kv_add(&meta, "x-oss-meta-uml", "\xc3\xa4 \x7f~");
    kv_add(&meta, "x-oss-meta-none", "");
    script_reply(server, reply(200, crc_header("0123456789"), ""));
    assert_int_equal(oss->ops->put(oss, "a b/../%/\xc3\xa4?x", &source_of("0123456789")->source, &opts, &out, &err),
                     0);
    assert_requests(1);
    assert_true(strncmp(script_request(server, 0), "PUT /test-bucket/a%20b/../%25/%C3%A4%3Fx HTTP/1.1\r\n", 50) == 0);
    assert_sent(0, "\r\nContent-Length: 10\r\n");
    assert_sent(0, "\r\ncontent-type: text/plain\r\n");
    assert_sent(0, "\r\nx-oss-meta-uml: \xc3\xa4 \x7f~\r\n");
    assert_sent(0, "\r\nx-oss-meta-none:");
    assert_sent(0, "\r\ncontent-md5: eB5eJF1ptWaXm4bijSPyxw==\r\n");
    assert_sent(0, "\r\nx-oss-security-token: " TOKEN "\r\n");
    assert_sent(0, "\r\nAuthorization: OSS4-HMAC-SHA256 Credential=KeyId/");
    assert_sent(0, "\r\nUser-Agent: ossmount\r\n");
    snprintf(line, sizeof(line), "\r\nx-oss-hash-crc64ecma: %llu\r\n",
             (unsigned long long)crc64(0, "0123456789", 10));
    assert_sent(0, line);
    assert_sent(0, "\r\n\r\n0123456789");
    assert_not_sent(0, "Expect");
    assert_not_sent(0, "Accept-Encoding");
    assert_not_sent(0, "Transfer-Encoding");
    assert_not_sent(0, SECRET);
    assert_int_equal(out.size, 10);
    assert_string_equal(out.etag, "E1");
    assert_true(out.has_crc && out.crc64 == crc64(0, "0123456789", 10));
    assert_int_equal(out.date, 1329899541);
    oss_object_free(&out);
    kv_free(&meta);
}

static void no_crc_when_it_is_switched_off(void **state)
{
    struct oss_error err;

    (void)state;
    config.check_crc = false;
    client_open();
    script_reply(server, reply(200, crc_header("something else"), ""));
    assert_int_equal(put("0123456789", false, &err), 0);
    assert_not_sent(0, "crc64ecma");
}

/* Whatever ends a header line early would begin one of somebody else's making. */
static void nothing_is_injected(void **state)
{
    static const char *const bad[] = {"a\r\nx-evil: 1", "a\nb", "a\rb", "\001"};
    struct oss_put_opts opts = {0};
    struct oss_copy_opts copy = {0};
    struct oss_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct kvlist meta = {0};

        kv_add(&meta, "x-oss-meta-a", bad[i]);
        opts.headers = &meta;
        assert_int_equal(oss->ops->put(oss, "key", &source_of("x")->source, &opts, NULL, &err), -EINVAL);
        kv_free(&meta);
        copy.if_match = bad[i];
        assert_int_equal(oss->ops->copy(oss, "key", "key", &copy, NULL, &err), -EINVAL);
    }
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"x-oss-meta-a b", "x-oss-meta-a:", "x-oss-meta-\nb"};
        struct kvlist meta = {0};

        kv_add(&meta, names[i], "v");
        opts.headers = &meta;
        assert_int_equal(oss->ops->put(oss, "key", &source_of("x")->source, &opts, NULL, &err), -EINVAL);
        kv_free(&meta);
    }
    assert_int_equal(script_connections(server), 0);
}

/* A request with an empty key or upload id would address, and delete, something else. */
static void no_request_without_a_name(void **state)
{
    char longest[OSS_KEY_MAX + 2];
    struct oss_error err;
    struct oss_object object;
    const char *keys[] = {"a", ""};
    bool deleted[2];

    (void)state;
    memset(longest, 'k', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(oss->ops->delete (oss, "", &err), -EINVAL);
    assert_int_equal(oss->ops->delete (oss, "/a", &err), -EILSEQ);
    assert_int_equal(oss->ops->delete (oss, "\\a", &err), -EILSEQ);
    assert_int_equal(oss->ops->delete (oss, longest, &err), -ENAMETOOLONG);
    assert_int_equal(oss->ops->head(oss, "", &object, &err), -EINVAL);
    assert_int_equal(oss->ops->abort(oss, "a", "", &err), -EINVAL);
    assert_int_equal(oss->ops->upload_part(oss, "a", "", 1, &source_of("x")->source, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->upload_part(oss, "a", "U", 0, &source_of("x")->source, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->upload_part(oss, "a", "U", 10001, &source_of("x")->source, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->complete(oss, "a", "", NULL, 0, 1, false, 0, NULL, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->copy(oss, "", "a", NULL, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->copy_part(oss, "a", "U", 1, "b", NULL, 0, 1, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->delete_many(oss, keys, 2, deleted, &err), -EINVAL);
    assert_int_equal(oss->ops->get(oss, "a", 0, 0, NULL, NULL, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->get(oss, "a", 1, OSS_WHOLE, NULL, NULL, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->get(oss, "a", UINT64_MAX - 2, 4, NULL, NULL, NULL, &err), -EINVAL);
    assert_int_equal(oss->ops->delete_many(oss, keys, 0, deleted, &err), 0);
    assert_int_equal(script_connections(server), 0);
}

static void this_machine_is_not_proxied(void **state)
{
    struct oss_error err;

    (void)state;
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    script_reply(server, reply(200, crc_header("x"), ""));
    assert_int_equal(put("x", false, &err), 0);
    unsetenv("http_proxy");
}

static void connections_are_kept(void **state)
{
    struct oss_error err;

    (void)state;
    for (int i = 0; i < 20; i++) {
        script_reply(server, reply(200, crc_header("x"), ""));
        script_reply(server, error(404, "NoSuchKey", ""));
        assert_int_equal(put("x", false, &err), 0);
        assert_int_equal(oss->ops->head(oss, "key", &(struct oss_object){0}, &err), -ENOENT);
    }
    assert_int_equal(script_connections(server), 1);
}

/* ---------------------------------------------------------------------------------------------- downloads */

static void a_whole_download(void **state)
{
    struct oss_object out;
    struct oss_error err;
    struct text_sink *sink = sink_from(0);

    (void)state;
    script_reply(server, reply(200,
                               keep(strdup("ETag: \"E1\"\r\n" DATE "x-oss-meta-mode: 33188\r\nContent-Type: a/b\r\n"
                                           "x-oss-object-type: Appendable\r\nServer: AliyunOSS\r\n"
                                           "x-oss-next-append-position: 10\r\n")),
                               "0123456789"));
    assert_int_equal(oss->ops->get(oss, "key", 0, OSS_WHOLE, NULL, &sink->sink, &out, &err), 0);
    assert_string_equal(sink->got, "0123456789");
    assert_int_equal(out.size, 10);
    assert_int_equal(out.type, OSS_TYPE_APPENDABLE);
    assert_int_equal(out.append_position, 10);
    assert_int_equal(out.last_modified, 1329899541);
    assert_false(out.has_crc);
    assert_string_equal(kv_get(&out.headers, "x-oss-meta-mode"), "33188");
    assert_string_equal(kv_get(&out.headers, "content-type"), "a/b");
    assert_int_equal(out.headers.n, 2);
    oss_object_free(&out);
    assert_not_sent(0, "Range");
    assert_not_sent(0, "If-Match");
}

static void a_damaged_download(void **state)
{
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    script_reply(server, reply(200, crc_header("0123456789"), "0123456788"));
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), -EIO);
    assert_requests(1);
    /* A range that holds the whole object is as good as the whole. */
    script_reply(
        server, reply(206, keep(strdup("Content-Range: bytes 0-9/10\r\nx-oss-hash-crc64ecma: 1\r\n")), "0123456788"));
    assert_int_equal(get(0, 100, NULL, &sink, &err), -EIO);
}

static void a_download_goes_on_where_it_broke(void **state)
{
    const char *headers = crc_header("0123456789");
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    add_broken(headers, "0123456789", 4);
    script_add(server,
               &(struct script_step){.reply = "HTTP/1.1 206 P\r\nETag: \"E1\"\r\nContent-Range: bytes 4-9/10\r\n"
                                              "Content-Length: 6\r\n\r\n45",
                                     .then = SCRIPT_RESET});
    script_reply(server, reply(206, "ETag: \"E1\"\r\nContent-Range: bytes 6-9/10\r\n", "6789"));
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), 0);
    assert_string_equal(sink->got, "0123456789");
    assert_requests(3);
    assert_not_sent(0, "\r\nRange");
    assert_sent(1, "\r\nRange: bytes=4-9\r\n");
    assert_sent(1, "\r\nIf-Match: \"E1\"\r\n");
    assert_sent(1, "\r\nx-oss-range-behavior: standard\r\n");
    assert_sent(2, "\r\nRange: bytes=6-9\r\n");
    assert_int_equal(err.tries, 3);
}

static void a_download_is_not_mixed(void **state)
{
    static const struct {
        const char *second;
        int r;
    } cases[] = {
        {"HTTP/1.1 206 P\r\nETag: \"E2\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789", -EIO},
        {"HTTP/1.1 206 P\r\nETag: \"E1\"\r\nContent-Range: bytes 4-9/11\r\nContent-Length: 6\r\n\r\n456789", -EIO},
        {"HTTP/1.1 206 P\r\nETag: \"E1\"\r\nContent-Range: bytes 3-9/10\r\nContent-Length: 7\r\n\r\n3456789", -EIO},
        {"HTTP/1.1 206 P\r\nETag: \"E1\"\r\nContent-Range: bytes 4-8/10\r\nContent-Length: 5\r\n\r\n45678", -EIO},
        {"HTTP/1.1 206 P\r\nETag: \"E1\"\r\nContent-Length: 6\r\n\r\n456789", -EIO},
        {"HTTP/1.1 200 P\r\nETag: \"E1\"\r\nContent-Length: 10\r\n\r\n0123456789", -EIO},
        {"HTTP/1.1 412 P\r\nContent-Length: 0\r\n\r\n", -ESTALE},
        {"HTTP/1.1 416 P\r\nContent-Length: 0\r\n\r\n", -ERANGE},
    };
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    config.retries = 1;
    client_open();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        add_broken(crc_header("0123456789"), "0123456789", 4);
        script_reply(server, cases[i].second);
        assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), cases[i].r);
        assert_string_equal(sink->got, "0123");
        assert_requests(2 * i + 2);
    }
    /* Without an ETag nothing ties the rest to the beginning. */
    add_broken("", "0123456789", 4);
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), -EIO);
    assert_requests(2 * sizeof(cases) / sizeof(*cases) + 1);
}

static void ranges(void **state)
{
    static const struct {
        uint64_t offset, length;
        const char *reply, *got;
        int r;
    } cases[] = {
        {2, 3, "206 P\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234", "234", 0},
        {8, 5, "206 P\r\nContent-Range: bytes 8-9/10\r\nContent-Length: 2\r\n\r\n89", "89", 0},
        {0, 5, "200 P\r\nContent-Length: 10\r\n\r\n0123456789", "01234", 0},
        {0, 10, "200 P\r\nContent-Length: 10\r\n\r\n0123456789", "0123456789", 0},
        {0, 20, "200 P\r\nContent-Length: 10\r\n\r\n0123456789", "0123456789", 0},
        {0, 20, "200 P\r\nContent-Length: 0\r\n\r\n", "", 0},
        {2, 3, "200 P\r\nContent-Length: 10\r\n\r\n0123456789", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 1-3/10\r\nContent-Length: 3\r\n\r\n123", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\n2345", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-3/10\r\nContent-Length: 2\r\n\r\n23", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 4\r\n\r\n2345", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-4/4\r\nContent-Length: 3\r\n\r\n234", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-4/*\r\nContent-Length: 3\r\n\r\n234", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-4\r\nContent-Length: 3\r\n\r\n234", "", -EIO},
        {2, 3, "206 P\r\nContent-Range: bytes 2-99999999999999999999/10\r\nContent-Length: 3\r\n\r\n234", "", -EIO},
        {2, 3, "206 P\r\nContent-Length: 3\r\n\r\n234", "", -EIO},
        {20, 3, "416 P\r\nContent-Length: 0\r\n\r\n", "", -ERANGE},
        {0, OSS_WHOLE, "206 P\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n0123456789", "", -EIO},
        {0, OSS_WHOLE, "204 P\r\n\r\n", "", -EIO},
        {0, OSS_WHOLE, "304 P\r\n\r\n", "", -ESTALE},
    };
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    config.retries = 0;
    client_open();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *text;

        assert_true(asprintf(&text, "HTTP/1.1 %s", cases[i].reply) > 0);
        script_reply(server, keep(text));
        assert_int_equal(get(cases[i].offset, cases[i].length, NULL, &sink, &err), cases[i].r);
        assert_string_equal(sink->got, cases[i].got);
    }
    assert_sent(0, "\r\nRange: bytes=2-4\r\n");
    assert_sent(0, "\r\nx-oss-range-behavior: standard\r\n");
}

/* Without a length a reply that breaks off cannot be told from one that is complete. */
static void a_download_without_a_length(void **state)
{
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    config.retries = 0;
    client_open();
    script_add(server, &(struct script_step){.reply = "HTTP/1.1 200 OK\r\n\r\n0123", .then = SCRIPT_CLOSE});
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), -EIO);
    assert_string_equal(sink->got, "");
}

static void the_sink_ends_a_download(void **state)
{
    struct oss_error err;
    struct text_sink *sink = sink_from(0);

    (void)state;
    sink->failing = -ENOSPC;
    script_reply(server, reply(200, crc_header("0123456789"), "0123456789"));
    assert_int_equal(oss->ops->get(oss, "key", 0, OSS_WHOLE, NULL, &sink->sink, NULL, &err), -ENOSPC);
    assert_requests(1);
}

static void if_match_of_the_caller(void **state)
{
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    script_reply(server, error(412, "PreconditionFailed", ""));
    assert_int_equal(get(0, 4, "E7", &sink, &err), -ESTALE);
    assert_sent(0, "\r\nIf-Match: \"E7\"\r\n");
    assert_string_equal(err.code, "PreconditionFailed");
    /* A server that ignores the condition is not believed. */
    script_reply(server, reply(200, crc_header("0123"), "0123"));
    assert_int_equal(get(0, 4, "E7", &sink, &err), -ESTALE);
    assert_string_equal(sink->got, "");
}

/* ---------------------------------------------------------------------------------------------- uploads */

static void the_source_ends_an_upload(void **state)
{
    struct oss_error err;
    struct text_source *s = source_of("0123456789");

    (void)state;
    s->failing = -ENXIO;
    assert_int_equal(oss->ops->put(oss, "key", &s->source, NULL, NULL, &err), -ENXIO);
    assert_requests(0);
    /* Also when it fails at the second reading, half through the request. */
    s->source.has_crc = true;
    assert_int_equal(oss->ops->put(oss, "key", &s->source, NULL, NULL, &err), -ENXIO);
    assert_false(err.ambiguous);
}

static void a_crc_that_does_not_fit_is_sent_again(void **state)
{
    struct oss_error err;

    (void)state;
    script_reply(server, reply(200, crc_header("0123456788"), ""));
    script_reply(server, reply(200, crc_header("0123456789"), ""));
    assert_int_equal(put("0123456789", false, &err), 0);
    assert_requests(2);
    for (int i = 0; i < 3; i++)
        script_reply(server, reply(200, crc_header("0123456788"), ""));
    assert_int_equal(put("0123456789", false, &err), -EIO);
    assert_requests(5);
    assert_true(err.ambiguous);
}

/* A file that changes between its two readings: the service refuses, the client looks again. */
static void a_source_that_changes(void **state)
{
    struct oss_error err;
    struct text_source *s = source_of("first data");
    char line[96];

    (void)state;
    s->text[1] = "other data";
    s->text[2] = "other data";
    s->readings = -1;
    script_reply(server, error(400, "InvalidCRC64", ""));
    script_reply(server, reply(200, crc_header("other data"), ""));
    assert_int_equal(oss->ops->put(oss, "key", &s->source, NULL, NULL, &err), 0);
    snprintf(line, sizeof(line), "x-oss-hash-crc64ecma: %llu\r\n", (unsigned long long)crc64(0, "first data", 10));
    assert_sent(0, line);
    assert_sent(0, "\r\n\r\nother data");
    snprintf(line, sizeof(line), "x-oss-hash-crc64ecma: %llu\r\n", (unsigned long long)crc64(0, "other data", 10));
    assert_sent(1, line);

    /* A CRC that the caller knows is not made up anew. */
    s = source_of("other data");
    s->source.has_crc = true;
    s->source.crc64 = 42;
    for (int i = 0; i < 3; i++)
        script_reply(server, error(400, "InvalidCRC64", ""));
    assert_int_equal(oss->ops->put(oss, "key", &s->source, NULL, NULL, &err), -EIO);
    assert_string_equal(err.code, "InvalidCRC64");
    assert_requests(5);
    for (size_t i = 2; i < 5; i++)
        assert_sent(i, "x-oss-hash-crc64ecma: 42\r\n");
    assert_false(err.ambiguous);
}

/* A portal or proxy that says yes to everything must not make a close() succeed. */
static void a_success_of_somebody_else(void **state)
{
    static const char portal[] = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nfree";
    static const char not_found[] = "HTTP/1.1 404 No\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n";
    struct oss_put_opts opts = {0};
    struct oss_list_opts list_opts = {0};
    struct oss_list list;
    struct oss_object object;
    struct oss_part part;
    struct oss_error err;
    char id[OSS_UPLOADID_SIZE];

    (void)state;
    config.retries = 0;
    client_open();
    for (int i = 0; i < 10; i++)
        script_reply(server, portal);
    assert_int_equal(put("x", false, &err), -EIO);
    assert_int_equal(oss->ops->upload_part(oss, "k", "U", 1, &source_of("x")->source, &part, &err), -EIO);
    assert_int_equal(oss->ops->append(oss, "k", 0, &source_of("x")->source, &opts, NULL, &err), -EIO);
    assert_int_equal(oss->ops->copy(oss, "a", "b", NULL, NULL, &err), -EIO);
    assert_int_equal(oss->ops->delete (oss, "a", &err), -EIO);
    assert_int_equal(oss->ops->initiate(oss, "a", NULL, id, &err), -EIO);
    assert_int_equal(oss->ops->complete(oss, "a", "U", NULL, 0, 1, false, 0, NULL, NULL, &err), -EIO);
    assert_int_equal(oss->ops->list(oss, &list_opts, &list, &err), -EIO);
    oss_list_free(&list);
    assert_int_equal(oss->ops->put_acl(oss, "a", "private", &err), -EIO);
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), -EIO);
    script_reply(server, not_found);
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), -EIO);
    assert_int_equal(err.status, 404);
}

/* ------------------------------------------------------------------------------------------ lost replies */

static void warm_up(void)
{
    struct oss_object object;
    struct oss_error err;

    script_reply(server, error(404, "NoSuchKey", ""));
    assert_int_equal(oss->ops->head(oss, "warm", &object, &err), -ENOENT);
}

/* A kept connection that dies without an answer: curl would send the request again without a word. */
static void an_append_is_never_repeated_behind_our_back(void **state)
{
    struct oss_error err;

    (void)state;
    warm_up();
    add_lost();
    script_reply(server, error(409, "PositionNotEqualToLength", "x-oss-next-append-position: 1\r\n"));
    assert_int_equal(oss->ops->append(oss, "k", 0, &source_of("x")->source, NULL, NULL, &err), -EIO);
    assert_requests(2);
    assert_true(err.ambiguous);
    assert_int_equal(err.next_position, -1);
    assert_int_equal(err.tries, 1);
}

static void when_an_append_is_repeated(void **state)
{
    static const char ok[] = "ETag: \"E\"\r\nx-oss-next-append-position: 6\r\n";
    struct oss_object out;
    struct oss_error err;

    (void)state;
    /* Refused before anything was done: again. */
    script_reply(server, error(503, "ServiceUnavailable", ""));
    script_reply(server, error(400, "InvalidDigest", ""));
    script_reply(server, reply(200, ok, ""));
    assert_int_equal(oss->ops->append(oss, "k", 5, &source_of("x")->source, NULL, &out, &err), 0);
    assert_int_equal(out.append_position, 6);
    assert_int_equal(out.size, 6);
    oss_object_free(&out);
    assert_requests(3);
    assert_sent(2, "POST /test-bucket/k?append&position=5 HTTP/1.1\r\n");
    assert_sent(2, "content-md5: ");
    /* Nobody knows: not again. */
    script_reply(server, error(500, "InternalError", ""));
    assert_int_equal(oss->ops->append(oss, "k", 5, &source_of("x")->source, NULL, NULL, &err), -EIO);
    assert_true(err.ambiguous);
    script_reply(server, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(oss->ops->append(oss, "k", 5, &source_of("x")->source, NULL, NULL, &err), -EIO);
    assert_true(err.ambiguous);
    script_reply(server, reply(200, "x-oss-next-append-position: 7\r\n", ""));
    assert_int_equal(oss->ops->append(oss, "k", 5, &source_of("x")->source, NULL, NULL, &err), -EIO);
    assert_true(err.ambiguous);
    assert_requests(6);
    /* A plain answer. */
    script_reply(server, error(409, "PositionNotEqualToLength", "x-oss-next-append-position: 77\r\n"));
    assert_int_equal(oss->ops->append(oss, "k", 5, &source_of("x")->source, NULL, NULL, &err), -EBADE);
    assert_int_equal(err.next_position, 77);
    assert_false(err.ambiguous);
    script_reply(server, error(409, "ObjectNotAppendable", ""));
    assert_int_equal(oss->ops->append(oss, "k", 5, &source_of("x")->source, NULL, NULL, &err), -EPROTOTYPE);
    assert_requests(8);
}

static void an_initiate_that_was_lost(void **state)
{
    char id[OSS_UPLOADID_SIZE];
    struct oss_error err;

    (void)state;
    warm_up();
    add_lost();
    script_reply(server, reply(200, "",
                               "<InitiateMultipartUploadResult><UploadId>U2</UploadId>"
                               "</InitiateMultipartUploadResult>"));
    assert_int_equal(oss->ops->initiate(oss, "k", NULL, id, &err), 0);
    assert_string_equal(id, "U2");
    assert_true(err.ambiguous);
    assert_requests(3);
    script_reply(server, reply(200, "",
                               "<InitiateMultipartUploadResult><UploadId>U3</UploadId>"
                               "</InitiateMultipartUploadResult>"));
    assert_int_equal(oss->ops->initiate(oss, "k", NULL, id, &err), 0);
    assert_false(err.ambiguous);
}

/* HEAD's description of an object of 10 bytes, as the service gives it now. */
static const char *head_reply(const char *etag, const char *data, const char *type, time_t age, const char *more)
{
    char date[HTTP_DATE_SIZE], modified[HTTP_DATE_SIZE];
    char *text;

    http_date_format(date, time(NULL));
    http_date_format(modified, time(NULL) - age);
    assert_true(
        asprintf(&text,
                 "HTTP/1.1 200 OK\r\nx-oss-request-id: R\r\nContent-Length: %zu\r\nETag: \"%s\"\r\nDate: %s\r\n"
                 "Last-Modified: %s\r\nx-oss-hash-crc64ecma: %llu\r\nx-oss-object-type: %s\r\n%s\r\n",
                 strlen(data), etag, date, modified, (unsigned long long)crc64(0, data, strlen(data)), type,
                 more) > 0);
    return keep(text);
}

static int complete(const char *data, struct oss_object *out, struct oss_error *err)
{
    struct oss_part part = {.number = 1, .size = strlen(data), .etag = "P1"};

    return oss->ops->complete(oss, "k", "U", &part, 1, strlen(data), true, crc64(0, data, strlen(data)), NULL, out,
                              err);
}

static void a_completion_that_was_lost(void **state)
{
    struct oss_object out;
    struct oss_error err;

    (void)state;
    /* Done, and the answer got lost. */
    add_lost();
    script_reply(server, error(404, "NoSuchUpload", ""));
    script_reply(server, head_reply("E-1", "0123456789", "Multipart", 0, ""));
    assert_int_equal(complete("0123456789", &out, &err), 0);
    assert_string_equal(out.etag, "E-1");
    assert_int_equal(out.size, 10);
    oss_object_free(&out);
    assert_requests(3);
    assert_sent(0, "POST /test-bucket/k?uploadId=U HTTP/1.1");
    assert_sent(0, "<PartNumber>1</PartNumber>");
    assert_sent(2, "HEAD /test-bucket/k HTTP/1.1");

    /* The answer came, with another CRC than the parts': the object tells. */
    script_reply(server, reply(200, crc_header("x"),
                               "<CompleteMultipartUploadResult><ETag>\"E-1\"</ETag>"
                               "</CompleteMultipartUploadResult>"));
    script_reply(server, error(404, "NoSuchUpload", ""));
    script_reply(server, head_reply("E-1", "0123456789", "Multipart", 0, ""));
    assert_int_equal(complete("0123456789", NULL, &err), 0);
    assert_requests(6);

    /* The service is at it still: look again. */
    add_lost();
    script_reply(server, error(404, "NoSuchUpload", ""));
    script_reply(server, error(404, "NoSuchKey", ""));
    script_reply(server, head_reply("E-1", "0123456789", "Multipart", 0, ""));
    assert_int_equal(complete("0123456789", NULL, &err), 0);
    assert_requests(10);

    /* Nothing was lost: the upload is just not there. */
    script_reply(server, error(404, "NoSuchUpload", ""));
    assert_int_equal(complete("0123456789", NULL, &err), -ENOENT);
    assert_string_equal(err.code, "NoSuchUpload");
    assert_requests(11);
}

static void a_completion_that_was_aborted(void **state)
{
    struct oss_error err;

    (void)state;
    add_lost();
    script_reply(server, error(404, "NoSuchUpload", ""));
    script_reply(server, error(404, "NoSuchKey", ""));
    script_reply(server, head_reply("E-1", "012345678X", "Multipart", 0, ""));
    script_reply(server, head_reply("E-1", "012345678", "Multipart", 0, ""));
    script_reply(server, head_reply("E-1", "0123456789", "Normal", 0, ""));
    assert_int_equal(complete("0123456789", NULL, &err), -EIO);
    assert_requests(6);
}

static const char copied[] =
    "<CopyObjectResult><ETag>\"E2\"</ETag><LastModified>2012-02-22T08:32:21.000Z</LastModified>"
    "</CopyObjectResult>";

static void a_copy_that_was_lost(void **state)
{
    struct kvlist meta = {0};
    struct oss_copy_opts opts = {.if_match = "E1", .replace = true, .headers = &meta};
    struct oss_object out;
    struct oss_error err;

    (void)state;
    kv_add(&meta, "x-oss-meta-mode", "33188");
    kv_add(&meta, "x-oss-object-acl", "private");
    /* Without a loss. */
    script_reply(server, reply(200, "", copied));
    assert_int_equal(oss->ops->copy(oss, "k/\xc3\xa4 b", "k2", &opts, &out, &err), 0);
    assert_string_equal(out.etag, "E2");
    assert_int_equal(out.last_modified, 1329899541);
    oss_object_free(&out);
    assert_sent(0, "\r\nx-oss-copy-source: /test-bucket/k/%C3%A4%20b\r\n");
    assert_sent(0, "\r\nx-oss-copy-source-if-match: \"E1\"\r\n");
    assert_sent(0, "\r\nx-oss-metadata-directive: REPLACE\r\n");
    assert_sent(0, "\r\nContent-Length: 0\r\n");
    /* Onto itself: it has another ETag now, and what we sent. */
    add_lost();
    script_reply(server, error(412, "PreconditionFailed", ""));
    script_reply(server, head_reply("E2", "0123456789", "Normal", 0, "x-oss-meta-mode: 33188\r\n"));
    assert_int_equal(oss->ops->copy(oss, "k", "k", &opts, &out, &err), 0);
    assert_string_equal(out.etag, "E2");
    oss_object_free(&out);
    /* Somebody else's object. */
    for (int i = 0; i < 4; i++) {
        static const char *const more[] = {"x-oss-meta-mode: 33152\r\n",
                                           "x-oss-meta-mode: 33188\r\nx-oss-meta-a: 1\r\n", "",
                                           "x-oss-meta-mode: 33188\r\n"};

        add_lost();
        script_reply(server, error(412, "PreconditionFailed", ""));
        script_reply(server, head_reply("E2", "0123456789", "Normal", i == 3 ? 60 : 0, more[i]));
        assert_int_equal(oss->ops->copy(oss, "k", "k", &opts, NULL, &err), -ESTALE);
    }
    assert_requests(4 + 4 * 3);
    /* No loss, no doubt. */
    script_reply(server, error(412, "PreconditionFailed", ""));
    assert_int_equal(oss->ops->copy(oss, "k", "k", &opts, NULL, &err), -ESTALE);
    assert_requests(4 + 4 * 3 + 1);
    kv_free(&meta);
}

static void a_copy_to_a_new_name_that_was_lost(void **state)
{
    struct oss_copy_opts opts = {.if_match = "E1", .forbid_overwrite = true};
    struct oss_error err;

    (void)state;
    add_lost();
    script_reply(server, error(409, "FileAlreadyExists", ""));
    script_reply(server, head_reply("E1", "0123456789", "Normal", 0, ""));
    assert_int_equal(oss->ops->copy(oss, "k", "k2", &opts, NULL, &err), 0);
    assert_sent(0, "\r\nx-oss-forbid-overwrite: true\r\n");
    assert_sent(0, "\r\nx-oss-metadata-directive: COPY\r\n");
    /* Another ETag: the source is compared. */
    add_lost();
    script_reply(server, error(409, "FileAlreadyExists", ""));
    script_reply(server, head_reply("E3", "0123456789", "Normal", 0, ""));
    script_reply(server, head_reply("E1", "0123456789", "Multipart", 900, ""));
    assert_int_equal(oss->ops->copy(oss, "k", "k2", &opts, NULL, &err), 0);
    add_lost();
    script_reply(server, error(409, "FileAlreadyExists", ""));
    script_reply(server, head_reply("E3", "012345678X", "Normal", 0, ""));
    script_reply(server, head_reply("E1", "0123456789", "Multipart", 900, ""));
    assert_int_equal(oss->ops->copy(oss, "k", "k2", &opts, NULL, &err), -EEXIST);
    assert_requests(11);
}

static void a_put_that_was_lost(void **state)
{
    struct oss_put_opts opts = {.forbid_overwrite = true};
    struct oss_object out;
    struct oss_error err;

    (void)state;
    add_lost();
    script_reply(server, error(409, "FileAlreadyExists", ""));
    script_reply(server, head_reply("E1", "0123456789", "Normal", 0, ""));
    assert_int_equal(oss->ops->put(oss, "key", &source_of("0123456789")->source, &opts, &out, &err), 0);
    assert_string_equal(out.etag, "E1");
    oss_object_free(&out);
    assert_requests(3);
    /* Others' objects: other bytes, other size, older than our request. */
    for (int i = 0; i < 3; i++) {
        add_lost();
        script_reply(server, error(409, "FileAlreadyExists", ""));
        script_reply(server, head_reply("E1",
                                        i == 0   ? "012345678X"
                                        : i == 1 ? "012345678"
                                                 : "0123456789",
                                        "Normal", i == 2 ? 30 : 0, ""));
        assert_int_equal(put("0123456789", true, &err), -EEXIST);
    }
    assert_requests(12);
    /* Nothing was lost: it was there before. */
    script_reply(server, error(409, "FileAlreadyExists", ""));
    assert_int_equal(put("0123456789", true, &err), -EEXIST);
    assert_requests(13);
}

static void a_symlink_that_was_lost(void **state)
{
    struct oss_put_opts opts = {.forbid_overwrite = true};
    struct oss_object out;
    struct oss_error err;
    char target[OSS_KEY_MAX + 1];
    char now[HTTP_DATE_SIZE], *text;

    (void)state;
    http_date_format(now, time(NULL));
    assert_true(asprintf(&text,
                         "x-oss-symlink-target: a%%2Fb%%20c\r\nETag: \"L\"\r\nDate: %s\r\nLast-Modified: %s\r\n", now,
                         now) > 0);
    keep(text);
    add_lost();
    script_reply(server, error(409, "FileAlreadyExists", ""));
    script_reply(server, reply(200, text, ""));
    script_reply(server, reply(200, text, ""));
    assert_int_equal(oss->ops->put_symlink(oss, "l", "a/b c", &opts, &out, &err), 0);
    assert_string_equal(out.etag, "L");
    oss_object_free(&out);
    assert_sent(0, "PUT /test-bucket/l?symlink HTTP/1.1");
    assert_sent(0, "\r\nx-oss-symlink-target: a%2Fb%20c\r\n");
    script_reply(server, reply(200, text, ""));
    assert_int_equal(oss->ops->get_symlink(oss, "l", target, NULL, &err), 0);
    assert_string_equal(target, "a/b c");
    /* Hostile targets. */
    script_reply(server, reply(200, "x-oss-symlink-target: a%00b\r\n", ""));
    assert_int_equal(oss->ops->get_symlink(oss, "l", target, NULL, &err), -EIO);
    script_reply(server, reply(200, "x-oss-symlink-target: a%zz\r\n", ""));
    assert_int_equal(oss->ops->get_symlink(oss, "l", target, NULL, &err), -EIO);
}

/* ------------------------------------------------------------------------------------------- hostile replies */

static char *blob(const char *before, size_t fill, const char *after)
{
    size_t a = strlen(before), b = strlen(after);
    char *text = malloc(a + fill + b + 1);

    assert_non_null(text);
    memcpy(text, before, a);
    memset(text + a, 'x', fill);
    memcpy(text + a + fill, after, b + 1);
    return keep(text);
}

static void replies_without_end(void **state)
{
    struct oss_object object;
    struct oss_list_opts opts = {0};
    struct oss_list list;
    struct oss_error err;

    (void)state;
    config.retries = 0;
    client_open();
    /* Headers: one long line, and many. */
    script_reply(server, blob("HTTP/1.1 200 OK\r\nx-oss-meta-a: ", 70000, "\r\nContent-Length: 1\r\n\r\n"));
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), -EIO);
    /* An error's body: the status stands. */
    script_reply(server, blob("HTTP/1.1 403 No\r\nContent-Length: 2000000\r\n\r\n", 2000000, ""));
    assert_int_equal(oss->ops->delete (oss, "a", &err), -EACCES);
    assert_int_equal(err.status, 403);
    /* A success's. */
    script_reply(server,
                 blob("HTTP/1.1 200 OK\r\nx-oss-request-id: R\r\nContent-Length: 2000000\r\n\r\n", 2000000, ""));
    assert_int_equal(oss->ops->put_acl(oss, "a", "private", &err), -EIO);
    /* A listing may be larger, but not without end. */
    script_reply(server, blob("HTTP/1.1 200 OK\r\nx-oss-request-id: R\r\n\r\n", (64U << 20) + 4096, ""));
    assert_int_equal(oss->ops->list(oss, &opts, &list, &err), -EIO);
    oss_list_free(&list);
}

static void replies_that_are_none(void **state)
{
    static const char *const bad[] = {
        "garbage\r\n\r\n",
        "HTTP/1.1 999 Yes\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "",
    };
    struct oss_error err;

    (void)state;
    config.retries = 0;
    client_open();
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        script_add(server, &(struct script_step){.reply = bad[i], .then = SCRIPT_CLOSE});
        assert_int_equal(put("x", false, &err), -EIO);
        assert_true(*err.message || err.status);
    }
    assert_requests(sizeof(bad) / sizeof(*bad));
}

static void no_redirect_is_followed(void **state)
{
    static const int status[] = {301, 302, 307, 308};
    struct oss_object object;
    struct oss_error err;
    char headers[96];

    (void)state;
    snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%u/elsewhere\r\n", script_port(server));
    for (size_t i = 0; i < 4; i++) {
        script_reply(server, reply(status[i], headers, ""));
        assert_int_equal(oss->ops->head(oss, "a", &object, &err), -EIO);
        assert_int_equal(err.status, status[i]);
        assert_requests(i + 1);
    }
}

static void interim_replies_are_skipped(void **state)
{
    struct oss_error err;
    char *text;

    (void)state;
    assert_true(asprintf(&text,
                         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nx-oss-hash-crc64ecma: 5\r\n\r\n%s",
                         reply(200, crc_header("x"), "")) > 0);
    script_reply(server, keep(text));
    assert_int_equal(put("x", false, &err), 0);
}

static void an_error_of_head(void **state)
{
    struct oss_object object;
    struct oss_error err;

    (void)state;
    script_reply(server,
                 "HTTP/1.1 404 No\r\nx-oss-request-id: R\r\nContent-Length: 0\r\nx-oss-err: "
                 "PEVycm9yPjxDb2RlPk5vU3VjaEJ1Y2tldDwvQ29kZT48TWVzc2FnZT5ubzwvTWVzc2FnZT48L0Vycm9yPg==\r\n\r\n");
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), -ENOENT);
    assert_string_equal(err.code, "NoSuchBucket");
}

/* ------------------------------------------------------------------------------------------- waits and repeats */

static void throttled(void **state)
{
    struct oss_error err;
    int64_t from = clock_ms();

    (void)state;
    script_reply(server, error(503, "ServiceUnavailable", "x-oss-qos-delay-time: 400\r\n"));
    script_reply(server, error(429, "TooManyRequests", ""));
    script_reply(server, reply(200, crc_header("x"), ""));
    assert_int_equal(put("x", false, &err), 0);
    assert_true(clock_ms() - from >= 400);
    assert_int_equal(err.tries, 3);
    for (int i = 0; i < 3; i++)
        script_reply(server, error(503, "ServiceUnavailable", ""));
    assert_int_equal(put("x", false, &err), -EIO);
    assert_int_equal(err.status, 503);
    assert_string_equal(err.code, "ServiceUnavailable");
    assert_int_equal(err.tries, 3);
    assert_requests(6);
}

static void what_is_not_repeated(void **state)
{
    static const struct {
        int status;
        const char *code;
        int r;
    } cases[] = {
        {403, "AccessDenied", -EACCES},      {403, "SignatureDoesNotMatch", -EACCES},
        {404, "NoSuchBucket", -ENOENT},      {409, "FileImmutable", -EPERM},
        {400, "EntityTooLarge", -EFBIG},     {400, "InvalidArgument", -EINVAL},
        {405, "MethodNotAllowed", -ENOTSUP}, {400, "InvalidObjectName", -EILSEQ},
    };
    struct oss_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        script_reply(server, error(cases[i].status, cases[i].code, ""));
        assert_int_equal(put("x", false, &err), cases[i].r);
        assert_string_equal(err.code, cases[i].code);
        assert_string_equal(err.request_id + 3, cases[i].status == 403   ? "403"
                                                : cases[i].status == 404 ? "404"
                                                : cases[i].status == 409 ? "409"
                                                : cases[i].status == 405 ? "405"
                                                                         : "400");
        assert_requests(i + 1);
    }
}

static void a_clock_that_is_wrong(void **state)
{
    struct oss_error err;
    char date[HTTP_DATE_SIZE], basic[ISO_BASIC_SIZE], headers[64], line[64];
    time_t there = time(NULL) + 7200;

    (void)state;
    http_date_format(date, there);
    snprintf(headers, sizeof(headers), "Date: %s\r\n", date);
    script_reply(server, error(403, "RequestTimeTooSkewed", headers));
    script_reply(server, reply(200, crc_header("x"), ""));
    assert_int_equal(put("x", false, &err), 0);
    iso_basic_format(basic, there);
    snprintf(line, sizeof(line), "x-oss-date: %.11s", basic); /* to the hour */
    assert_not_sent(0, line);
    iso_basic_format(basic, time(NULL) + 7200);
    assert_true(sent_has(1, line) || (snprintf(line, sizeof(line), "x-oss-date: %.11s", basic) && sent_has(1, line)));
    /* Learnt for good; and corrected once, not for ever. */
    script_reply(server, error(403, "RequestTimeTooSkewed", headers));
    script_reply(server, error(403, "RequestTimeTooSkewed", headers));
    assert_int_equal(put("x", false, &err), -EACCES);
    assert_requests(4);
    assert_sent(2, line);
}

static void a_key_that_is_renewed(void **state)
{
    char path[] = "/tmp/test_http.XXXXXX";
    int fd = mkstemp(path);
    const struct oss_cred_config from = {.bucket = BUCKET, .passwd_file = path};
    struct oss_error err;

    (void)state;
    assert_int_equal(write(fd, "OLDKEY:one\n", 11), 11);
    oss_cred_free(cred);
    assert_int_equal(oss_cred_open(&cred, &from, &err), 0);
    config.cred = cred;
    client_open();
    assert_int_equal(pwrite(fd, "NEWKEY:two\n", 11, 0), 11);
    script_reply(server, error(403, "SecurityTokenExpired", ""));
    script_reply(server, reply(200, crc_header("x"), ""));
    assert_int_equal(put("x", false, &err), 0);
    assert_sent(0, "Credential=OLDKEY/");
    assert_sent(1, "Credential=NEWKEY/");
    /* No other key there: no other try. */
    script_reply(server, error(403, "InvalidAccessKeyId", ""));
    assert_int_equal(put("x", false, &err), -EACCES);
    assert_requests(3);
    close(fd);
    unlink(path);
}

static void a_server_that_is_silent(void **state)
{
    struct oss_object object;
    struct oss_error err;
    int64_t from;

    (void)state;
    config.retries = 1;
    config.stall_timeout_ms = 700;
    config.transfer_deadline_ms = 5000;
    config.meta_deadline_ms = 3000;
    client_open();
    for (int i = 0; i < 5; i++)
        script_add(server, &(struct script_step){.then = SCRIPT_HANG});
    from = clock_ms();
    assert_int_equal(put("x", false, &err), -ETIMEDOUT);
    assert_in_range(clock_ms() - from, 1400, PATIENCE_MS);
    assert_int_equal(err.tries, 2);
    assert_true(err.ambiguous);
    /* A metadata request's time holds for all tries. */
    config.stall_timeout_ms = 60000;
    client_open();
    from = clock_ms();
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), -ETIMEDOUT);
    assert_in_range(clock_ms() - from, 1900, PATIENCE_MS);
    assert_int_equal(err.tries, 2);
}

/* A dead connection does not use up the deadline. */
static void a_silent_connection_is_replaced(void **state)
{
    struct oss_object object;
    struct oss_error err;

    (void)state;
    config.meta_deadline_ms = 4000;
    client_open();
    script_add(server, &(struct script_step){.then = SCRIPT_HANG});
    script_reply(server, head_reply("E", "x", "Normal", 0, ""));
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), 0);
    oss_object_free(&object);
}

/* Slow is not silent. */
static void a_slow_download(void **state)
{
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    config.retries = 0;
    config.stall_timeout_ms = 1000;
    client_open();
    script_add(server, &(struct script_step){.reply = reply(200, "", "0123456789"), .trickle_ms = 25});
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), 0);
    assert_string_equal(sink->got, "0123456789");
}

static void nobody_there(void **state)
{
    struct oss_error err;

    (void)state;
    config.endpoint = "http://127.0.0.1:1";
    client_open();
    assert_int_equal(oss->ops->append(oss, "k", 0, &source_of("x")->source, NULL, NULL, &err), -EIO);
    assert_int_equal(err.tries, 3);
    assert_false(err.ambiguous);
    assert_int_equal(err.status, 0);
    assert_true(*err.message);
}

/* When the server has had so many requests. */
static void *stop_soon(void *arg)
{
    const size_t *n = arg;

    for (int i = 0; i < 10000 && script_requests(server) < *n; i++)
        usleep(1000);
    usleep(100000);
    oss_stop(oss);
    return NULL;
}

static void stopped(void **state)
{
    size_t first = 1, second = 2;
    struct oss_object object;
    struct oss_error err;
    pthread_t t;
    int64_t from = clock_ms();

    (void)state;
    script_add(server, &(struct script_step){.then = SCRIPT_HANG});
    pthread_create(&t, NULL, stop_soon, &first);
    assert_int_equal(put("x", false, &err), -ECANCELED);
    assert_true(clock_ms() - from < PATIENCE_MS);
    pthread_join(t, NULL);
    from = clock_ms();
    assert_int_equal(oss->ops->head(oss, "a", &object, &err), -ECANCELED);
    assert_true(clock_ms() - from < PATIENCE_MS);
    assert_requests(1);
    /* In a wait, too. */
    client_open();
    script_reply(server, error(503, "ServiceUnavailable", "x-oss-qos-delay-time: 15000\r\n"));
    pthread_create(&t, NULL, stop_soon, &second);
    from = clock_ms();
    assert_int_equal(put("x", false, &err), -ECANCELED);
    assert_true(clock_ms() - from < PATIENCE_MS);
    pthread_join(t, NULL);
}

static int zero_read(void *arg, uint64_t offset, void *to, size_t n)
{
    (void)arg, (void)offset;
    memset(to, 0, n);
    return 0;
}

/* Refused before the body was sent, and the connection cut: the repeat asks first, and so hears the refusal. */
static void a_large_upload_that_is_refused(void **state)
{
    struct oss_source source = {.read = zero_read, .size = 64U << 20};
    const char *no = error(403, "AccessDenied", "Connection: close\r\n");
    struct oss_error err;

    (void)state;
    for (int i = 0; i < 3; i++)
        script_add(server, &(struct script_step){.reply = no, .then = SCRIPT_RESET, .early = true});
    assert_int_equal(oss->ops->put(oss, "big", &source, NULL, NULL, &err), -EACCES);
    assert_string_equal(err.code, "AccessDenied");
    assert_false(err.ambiguous);
    assert_not_sent(0, "Expect");
    if (script_requests(server) > 1)
        assert_sent(1, "\r\nExpect: 100-continue\r\n");
}

/* Silent in the middle: an upload that nobody reads, a download whose rest does not come. */
static void a_server_that_falls_silent(void **state)
{
    struct oss_source source = {.read = zero_read, .size = 64U << 20};
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    config.retries = 0;
    config.stall_timeout_ms = 700;
    client_open();
    script_add(server, &(struct script_step){.then = SCRIPT_HANG, .early = true});
    assert_int_equal(oss->ops->put(oss, "big", &source, NULL, NULL, &err), -ETIMEDOUT);
    assert_false(err.ambiguous);
    config.retries = 1;
    client_open();
    script_add(server,
               &(struct script_step){.reply = "HTTP/1.1 200 OK\r\nETag: \"E1\"\r\nContent-Length: 10\r\n\r\n0123",
                                     .then = SCRIPT_HANG});
    script_reply(server, reply(206, "ETag: \"E1\"\r\nContent-Range: bytes 4-9/10\r\n", "456789"));
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), 0);
    assert_string_equal(sink->got, "0123456789");
    assert_sent(2, "\r\nRange: bytes=4-9\r\n");
}

/* -------------------------------------------------------------------------------------------- log and totals */

static char *slurp(const char *path)
{
    char *text = calloc(1, 65536);
    int fd = open(path, O_RDONLY);

    assert_true(text && fd >= 0);
    assert_true(read(fd, text, 65535) >= 0);
    close(fd);
    return keep(text);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void the_log(void **state)
{
    char path[] = "/tmp/test_http_log.XXXXXX";
    int fd = mkstemp(path);
    struct oss_object object;
    struct oss_error err;
    char *text;

    (void)state;
    close(fd);
    oss_cred_free(cred);
    config.cred = cred = oss_cred_fixed("KeyId", SECRET, TOKEN);
    client_open();
    assert_int_equal(log_open(LOG_TO_FILE, path, LOG_LEVEL_INFO), 0);
    script_reply(server, error(503, "ServiceUnavailable", ""));
    add_lost();
    script_reply(server, error(403, "AccessDenied", ""));
    assert_int_equal(put("x", false, &err), -EACCES);
    script_reply(server, error(404, "NoSuchKey", ""));
    assert_int_equal(oss->ops->head(oss, "gone", &object, &err), -ENOENT);
    log_open(LOG_TO_STDERR, NULL, LOG_LEVEL_INFO);
    text = slurp(path);
    unlink(path);
    /* One line for each try that failed; not found is an answer. */
    assert_int_equal(count(text, "\n"), 3);
    assert_int_equal(count(text, "PutObject key"), 3);
    assert_non_null(strstr(text, "503 ServiceUnavailable"));
    assert_non_null(strstr(text, "request id REQ503"));
    assert_non_null(strstr(text, "403 AccessDenied"));
    assert_int_equal(count(text, "again in "), 2);
    assert_null(strstr(text, SECRET));
    assert_null(strstr(text, TOKEN));
    assert_null(strstr(text, "Signature"));
    assert_null(strstr(text, "OSS4-HMAC"));
}

static void totals(void **state)
{
    struct oss_op_stats stats[OSS_OPS];
    struct oss_error err;
    struct text_sink *sink;

    (void)state;
    script_reply(server, error(503, "ServiceUnavailable", ""));
    script_reply(server, reply(200, crc_header("0123"), ""));
    script_reply(server, reply(200, crc_header("0123456"), "0123456"));
    script_reply(server, error(403, "AccessDenied", ""));
    assert_int_equal(put("0123", false, &err), 0);
    assert_int_equal(get(0, OSS_WHOLE, NULL, &sink, &err), 0);
    assert_int_equal(put("0123", false, &err), -EACCES);
    oss_stats(oss, stats);
    assert_int_equal(stats[OSS_OP_PUT].requests, 3);
    assert_int_equal(stats[OSS_OP_PUT].retries, 1);
    assert_int_equal(stats[OSS_OP_PUT].failures, 1);
    assert_int_equal(stats[OSS_OP_PUT].bytes_up, 12);
    assert_int_equal(stats[OSS_OP_GET].requests, 1);
    assert_int_equal(stats[OSS_OP_GET].bytes_down, 7);
    assert_int_equal(stats[OSS_OP_GET].failures, 0);
    assert_int_equal(stats[OSS_OP_HEAD].requests, 0);
    for (int i = 0; i < OSS_OPS; i++)
        assert_string_not_equal(oss_op_name(i), "?");
    assert_string_equal(oss_bucket(oss), BUCKET);
}

static void what_open_refuses(void **state)
{
    static const struct {
        const char *endpoint, *bucket, *region, *says;
    } cases[] = {
        {"http://127.0.0.1:80", "ab", "r", "bucket"},
        {"http://127.0.0.1:80", "Bucket", "r", "bucket"},
        {"http://127.0.0.1:80", "-bucket", "r", "bucket"},
        {"http://127.0.0.1:80", "a/b", "r", "bucket"},
        {"http://127.0.0.1:80", NULL, "r", "bucket"},
        {"http://127.0.0.1:80", "bucket", NULL, "region=cn-"},
        {"http://localhost:80", "bucket", "", "region=cn-"},
        {"https://oss-accelerate.aliyuncs.com", "bucket", NULL, "region=cn-"},
        {"http://127.0.0.1:80", "bucket", "cn hangzhou", "region=cn-"},
        {"http://127.0.0.1:80/path", "bucket", "r", ""},
        {"ftp://host", "bucket", "r", ""},
        {"", "bucket", "r", "url="},
        {NULL, "bucket", "r", "url="},
    };
    struct oss *other;
    struct oss_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct oss_config c = config;

        c.endpoint = cases[i].endpoint;
        c.bucket = cases[i].bucket;
        c.region = cases[i].region;
        assert_int_equal(oss_open(&other, &c, &err), -EINVAL);
        assert_null(other);
        assert_true(*err.message);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_int_equal(oss_open(&other, &c, NULL), -EINVAL);
    }
    config.region = NULL;
    config.signature_version = 1;
    assert_int_equal(oss_open(&other, &config, &err), 0);
    oss_close(other);
    config.signature_version = 4;
    config.endpoint = "https://oss-cn-hangzhou.aliyuncs.com";
    assert_int_equal(oss_open(&other, &config, &err), 0);
    oss_close(other);
    config.ca_file = "/dev/null";
    assert_int_equal(oss_open(&other, &config, &err), -EINVAL);
    assert_non_null(strstr(err.message, "/dev/null"));
    config.ca_file = NULL;
    config.signature_version = 2;
    assert_int_equal(oss_open(&other, &config, &err), -EINVAL);
    oss_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_put_as_it_is_sent),
        TEST(no_crc_when_it_is_switched_off),
        TEST(nothing_is_injected),
        TEST(no_request_without_a_name),
        TEST(this_machine_is_not_proxied),
        TEST(connections_are_kept),
        TEST(a_whole_download),
        TEST(a_damaged_download),
        TEST(a_download_goes_on_where_it_broke),
        TEST(a_download_is_not_mixed),
        TEST(ranges),
        TEST(a_download_without_a_length),
        TEST(the_sink_ends_a_download),
        TEST(if_match_of_the_caller),
        TEST(the_source_ends_an_upload),
        TEST(a_crc_that_does_not_fit_is_sent_again),
        TEST(a_source_that_changes),
        TEST(a_success_of_somebody_else),
        TEST(an_append_is_never_repeated_behind_our_back),
        TEST(when_an_append_is_repeated),
        TEST(an_initiate_that_was_lost),
        TEST(a_completion_that_was_lost),
        TEST(a_completion_that_was_aborted),
        TEST(a_copy_that_was_lost),
        TEST(a_copy_to_a_new_name_that_was_lost),
        TEST(a_put_that_was_lost),
        TEST(a_symlink_that_was_lost),
        TEST(replies_without_end),
        TEST(replies_that_are_none),
        TEST(no_redirect_is_followed),
        TEST(interim_replies_are_skipped),
        TEST(an_error_of_head),
        TEST(throttled),
        TEST(what_is_not_repeated),
        TEST(a_clock_that_is_wrong),
        TEST(a_key_that_is_renewed),
        TEST(a_server_that_is_silent),
        TEST(a_silent_connection_is_replaced),
        TEST(a_slow_download),
        TEST(nobody_there),
        TEST(stopped),
        TEST(a_large_upload_that_is_refused),
        TEST(a_server_that_falls_silent),
        TEST(the_log),
        TEST(totals),
        TEST(what_open_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
