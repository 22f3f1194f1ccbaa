/*
 * client_call.c: one operation with all its tries.
 *
 * Each try is signed anew (date, perhaps key) and reads its body from the start. What decides about a repeat is
 * judged in one place, try_judge(): how the try ended, what the service said, and whether it may have carried the
 * request out although no good answer came (err.ambiguous, which stays once it is set).
 */
#include "client.h"

#include "base_log.h"
#include "base_time.h"
#include "crc64.h"
#include "cred.h"
#include "sign.h"
#include "xml.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define DIGEST_CHUNK (64U << 10)

/* ------------------------------------------------------------------------------------------------- set-up */

static void begin(struct call *c, struct oss *oss, enum oss_op op, const char *method)
{
    struct client *client = client_of(oss);

    *c = (struct call){.client = client, .op = op, .method = method, .success = {200, 0}};
    c->limits = client->meta;
    c->collect_max = XML_REPLY_MAX;
    buf_init(&c->text, XML_LIST_MAX);
    buf_init(&c->url, 16384);
    error_reset(&c->err);
}

void call_begin_bucket(struct call *c, struct oss *oss, enum oss_op op, const char *method)
{
    begin(c, oss, op, method);
}

void call_begin(struct call *c, struct oss *oss, enum oss_op op, const char *method, const char *key)
{
    begin(c, oss, op, method);
    c->key = key;
    /* A request with an empty key would be one to the bucket: DELETE of it, at worst. */
    if (!key || !*key)
        c->r = error_set(&c->err, -EINVAL, "an empty key");
    else if (strlen(key) > OSS_KEY_MAX)
        c->r = error_set(&c->err, -ENAMETOOLONG, "a key of more than %d bytes", OSS_KEY_MAX);
    else if (*key == '/' || *key == '\\')
        c->r = error_set(&c->err, -EILSEQ, "a key that begins with a slash");
}

static void keep(struct call *c, int r)
{
    if (r < 0 && c->r == 0)
        c->r = error_set(&c->err, r, r == -ENOMEM ? "out of memory" : "the request cannot be put together");
}

void call_query(struct call *c, const char *name, const char *value)
{
    if (c->n_query == CALL_PARAMS) {
        keep(c, -EINVAL);
        return;
    }
    c->query[c->n_query++] = (struct url_param){name, value};
}

void call_upload_id(struct call *c, const char *id)
{
    if ((!id || !*id) && c->r == 0)
        c->r = error_set(&c->err, -EINVAL, "an empty upload id");
    call_query(c, "uploadId", id);
}

void call_header(struct call *c, const char *name, const char *value)
{
    keep(c, kv_set(&c->headers, name, value));
}

void call_header_quoted(struct call *c, const char *name, const char *etag)
{
    keep(c, kv_setf(&c->headers, name, "\"%s\"", etag));
}

void call_headers(struct call *c, const struct kvlist *headers)
{
    for (size_t i = 0; headers && i < headers->n; i++)
        call_header(c, headers->v[i].name, headers->v[i].value);
}

void call_put_opts(struct call *c, const struct oss_put_opts *opts)
{
    if (!opts)
        return;
    call_headers(c, opts->headers);
    if (opts->forbid_overwrite)
        call_header(c, "x-oss-forbid-overwrite", "true");
    c->md5_header = opts->content_md5;
}

static int text_read(void *arg, uint64_t offset, void *to, size_t n)
{
    const struct call *c = arg;

    memcpy(to, c->text.data + offset, n);
    return 0;
}

void call_text_body(struct call *c)
{
    keep(c, c->text.err);
    c->memory = (struct oss_source){.read = text_read, .arg = c, .size = c->text.len};
    c->source = &c->memory;
}

int call_fail(struct call *c, enum retry_cause cause, int e, const char *format, ...)
{
    char text[sizeof(c->err.message)];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    error_set(&c->err, e, "%s", text);
    c->err.status = c->reply.status;
    c->err.date = reply_date(&c->reply);
    if (kv_get(&c->reply.headers, "x-oss-request-id"))
        snprintf(c->err.request_id, sizeof(c->err.request_id), "%s", kv_get(&c->reply.headers, "x-oss-request-id"));
    c->cause = cause;
    return e;
}

/* ------------------------------------------------------------------------------------------------- digest */

/* Reads the body once for its CRC and, with `md5`, for that. 0 or the source's error. */
static int digest_read(struct call *c, EVP_MD_CTX *md5, char *chunk)
{
    const struct oss_source *s = c->source;
    uint64_t crc = 0;
    int r;

    for (uint64_t at = 0; at < s->size;) {
        size_t n = s->size - at < DIGEST_CHUNK ? (size_t)(s->size - at) : DIGEST_CHUNK;

        if (http_stopped(c->client->http))
            return -ECANCELED;
        r = s->read(s->arg, at, chunk, n);
        if (r < 0)
            return r;
        crc = crc64(crc, chunk, n);
        if (md5 && !EVP_DigestUpdate(md5, chunk, n))
            return -ENOMEM;
        at += n;
    }
    if (!s->has_crc)
        c->crc64 = crc;
    return 0;
}

static int md5_header(struct call *c, EVP_MD_CTX *md5)
{
    unsigned char sum[EVP_MAX_MD_SIZE], text[64];
    unsigned n;

    if (!EVP_DigestFinal_ex(md5, sum, &n))
        return -ENOMEM;
    EVP_EncodeBlock(text, sum, (int)n);
    return kv_set(&c->headers, "content-md5", (const char *)text);
}

/* Finds out what the headers say of the body, once; again after the service found that it was not so. */
static int digest(struct call *c)
{
    const struct oss_source *s = c->source;
    EVP_MD_CTX *md5 = NULL;
    char *chunk = NULL;
    int r = 0;

    if (!s || c->digest_known || (!c->crc_header && !c->md5_header))
        return 0;
    c->crc64 = s->has_crc ? s->crc64 : 0;
    if (c->md5_header || !s->has_crc) {
        chunk = malloc(s->size < DIGEST_CHUNK ? s->size + 1 : DIGEST_CHUNK);
        if (c->md5_header) {
            md5 = EVP_MD_CTX_new();
            if (md5 && !EVP_DigestInit_ex(md5, EVP_md5(), NULL)) {
                EVP_MD_CTX_free(md5);
                md5 = NULL;
            }
        }
        r = chunk && (md5 || !c->md5_header) ? digest_read(c, md5, chunk) : -ENOMEM;
        if (r == 0 && md5)
            r = md5_header(c, md5);
    }
    if (r == 0 && c->crc_header)
        r = kv_setf(&c->headers, "x-oss-hash-crc64ecma", "%llu", (unsigned long long)c->crc64);
    EVP_MD_CTX_free(md5);
    free(chunk);
    if (r < 0)
        return error_set(&c->err, r, r == -ENOMEM ? "out of memory" : "the bytes to send cannot be read");
    c->digest_known = true;
    return 0;
}

/* --------------------------------------------------------------------------------------------------- tries */

static int sign(struct call *c, struct oss_key *key)
{
    struct client *client = c->client;
    struct sign_request s = {
        .method = c->method,
        .bucket = client->bucket,
        .key = c->key,
        .query = c->query,
        .n_query = c->n_query,
        .cred = key,
        .region = client->region,
        .when = clock_wall().tv_sec + (time_t)atomic_load(&client->clock_offset),
    };
    int r;

    if (oss_cred_anonymous(client->cred))
        return 0;
    r = oss_cred_get(client->cred, key);
    if (r == 0)
        r = client->signature_version == 1 ? sign_v1(&s, &c->headers, NULL) : sign_v4(&s, &c->headers, NULL);
    return r < 0 ? error_set(&c->err, r, "the request cannot be signed") : 0;
}

static void account(struct call *c)
{
    const struct http_reply *reply = &c->reply;

    if (reply->end == HTTP_REFUSED && reply->err == -EINVAL)
        return; /* it was no request */
    stats_try(&c->client->stats[c->op], reply, c->err.tries++ > 0);
    if (reply->up || reply->down)
        retry_moved(&c->retry, reply->moved_ms);
}

/* The service's clock is not ours: take its own. */
static enum retry_cause clock_correct(struct call *c)
{
    if (c->err.date == 0)
        return RETRY_NEVER;
    atomic_store(&c->client->clock_offset, (int64_t)(c->err.date - clock_wall().tv_sec));
    return RETRY_CLOCK;
}

/* The key was refused: is there another one by now, or at the source? */
static enum retry_cause key_renew(struct call *c, const struct oss_key *used)
{
    struct oss_key now;
    bool other;

    if (oss_cred_anonymous(c->client->cred))
        return RETRY_NEVER;
    if (oss_cred_get(c->client->cred, &now) < 0)
        return RETRY_NEVER;
    other = strcmp(now.id, used->id) || strcmp(now.secret, used->secret) || strcmp(now.token, used->token);
    explicit_bzero(&now, sizeof(now));
    return other || oss_cred_refresh(c->client->cred) ? RETRY_KEY : RETRY_NEVER;
}

/* A status that tells nothing of what became of the request: it may have been carried out. */
static bool status_ambiguous(int status, const char *code)
{
    return status == 500 || status == 502 || status == 504 || (status == 503 && !*code);
}

static bool is_digest_error(const struct call *c)
{
    return strcmp(c->err.code, "InvalidCRC64") == 0 || strcmp(c->err.code, "InvalidDigest") == 0;
}

static int judge_failure(struct call *c, const struct oss_key *used)
{
    const struct http_reply *reply = &c->reply;
    int r = error_from_reply(&c->err, reply->status, &reply->headers, buf_str(&reply->body), reply->body.len, NULL);

    if (status_ambiguous(c->err.status, c->err.code))
        c->err.ambiguous = true;
    if (error_wants_fresh_connection(c->err.status, c->err.code))
        c->fresh = true;
    if (is_digest_error(c)) {
        c->cause = RETRY_CRC;
        c->digest_known = false;
        c->err.err = -EIO;
        return -EIO;
    }
    if (reply->status == 404 && !*c->err.code && !*c->err.request_id)
        return call_fail(c, RETRY_SERVICE, -EIO, "a 404 that is not the service's own");
    switch (error_retry_class(c->err.status, c->err.code)) {
    case ERROR_RETRY_NO:
        c->cause = RETRY_NEVER;
        break;
    case ERROR_RETRY_YES:
        c->cause = RETRY_SERVICE;
        break;
    case ERROR_RETRY_CLOCK:
        c->cause = clock_correct(c);
        break;
    case ERROR_RETRY_CRED:
        c->cause = key_renew(c, used);
        break;
    }
    return r;
}

/* No reply, or half of one. */
static int judge_transport(struct call *c)
{
    const struct http_reply *reply = &c->reply;
    int r = reply->err;

    if (reply->sent && reply->end != HTTP_REFUSED)
        c->err.ambiguous = true;
    if (reply->end == HTTP_CALLER) {
        /* begin() may have said more of it, and that a repeat is worth it. */
        if (c->err.err != r)
            error_set(&c->err, r, "%s", reply->message);
        return r;
    }
    error_set(&c->err, r, "%s", reply->message);
    if (reply->end == HTTP_UNREACHED || reply->end == HTTP_LOST || reply->end == HTTP_TIMEOUT)
        c->cause = RETRY_CONNECTION;
    if (reply->end == HTTP_LOST && c->source && !reply->sent)
        c->broke_sending = true;
    return r;
}

static bool status_good(const struct call *c)
{
    return c->reply.status == c->success[0] || (c->success[1] && c->reply.status == c->success[1]);
}

static int judge(struct call *c, const struct oss_key *used)
{
    int r = 0;

    c->fresh = false;
    if (c->reply.end != HTTP_DONE && c->reply.end != HTTP_ENOUGH) {
        r = judge_transport(c);
    } else if (status_good(c)) {
        if (c->check)
            r = c->check(c);
        /* The service did carry it out, as far as it goes. */
        if (r < 0)
            c->err.ambiguous = true;
    } else {
        r = judge_failure(c, used);
    }
    if (r < 0 && c->once && c->err.ambiguous)
        c->cause = RETRY_NEVER;
    if (r < 0)
        c->err.err = r;
    return r;
}

/* Not there: an answer, and no failure; nor is that the caller wants to begin anew. */
static bool is_plain_answer(const struct call *c, int r)
{
    bool read = strcmp(c->method, "GET") == 0 || strcmp(c->method, "HEAD") == 0;

    return (r == -ENOENT && (read || c->op == OSS_OP_ABORT)) || r == -ECANCELED || r == -EAGAIN;
}

/* One try. c->cause tells what a failure is worth. */
static int try_once(struct call *c)
{
    struct oss_key key;
    struct http_request q = {
        .method = c->method,
        .url = buf_str(&c->url),
        .headers = &c->headers,
        .expect = c->broke_sending && c->source,
        .fresh = c->fresh,
        .bulk = c->op == OSS_OP_GET || c->op == OSS_OP_LIST,
        .collect_max = c->collect_max,
        .begin = c->begin,
        .data = c->data,
        .arg = c,
    };
    int r;

    http_reply_free(&c->reply);
    c->reply = (struct http_reply){0};
    c->cause = RETRY_NEVER;
    c->err.err = 0;
    if (http_stopped(c->client->http))
        return error_set(&c->err, -ECANCELED, "stopped");
    r = c->prepare ? c->prepare(c) : 0;
    if (r == 0)
        r = digest(c);
    if (r == 0)
        r = sign(c, &key);
    if (r == 0) {
        q.source = c->source;
        q.limit_ms = retry_limit_ms(&c->retry, clock_ms());
        http_perform(c->client->http, &q, &c->reply);
        account(c);
        r = judge(c, &key);
        if (r < 0 && !is_plain_answer(c, r))
            stats_error(&c->client->stats[c->op], stats_class(&c->err, c->reply.end));
    }
    explicit_bzero(&key, sizeof(key));
    return r;
}

/* ----------------------------------------------------------------------------------------------------- run */

/* Where the object ends, or that it is not to be appended to: what an append asks as much as it tells. */
static bool is_append_answer(const struct call *c, int r)
{
    return c->op == OSS_OP_APPEND && (r == -EBADE || r == -EPROTOTYPE);
}

static enum log_level level_of(const struct call *c)
{
    if (is_plain_answer(c, c->err.err))
        return LOG_LEVEL_DEBUG;
    return is_append_answer(c, c->err.err) ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
}

void call_log(const struct call *c, int64_t delay_ms)
{
    enum log_level level = level_of(c);
    char text[512], again[48] = "";

    if (!log_enabled(level))
        return;
    oss_error_format(&c->err, text, sizeof(text));
    if (delay_ms >= 0)
        snprintf(again, sizeof(again), "; again in %lld ms", (long long)delay_ms);
    log_msg(level, "%s %s: %s%s%s", oss_op_name(c->op), c->key ? c->key : c->client->bucket, text,
            c->err.ambiguous ? "; may have been carried out" : "", again);
}

static uint32_t random_number(void)
{
    uint32_t n = 0;

    if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != (ssize_t)sizeof(n))
        n = (uint32_t)clock_ms() * 2654435761U;
    return n;
}

int call_run(struct call *c)
{
    uint64_t asked;
    int64_t delay;
    int r = c->r;

    if (r == 0)
        r = url_build(&c->url, &c->client->endpoint, c->client->how, c->client->bucket, c->key, c->query, c->n_query);
    if (r < 0) {
        if (c->err.err == 0)
            error_set(&c->err, r, "the request cannot be put together");
        return r;
    }
    c->began_ms = clock_ms();
    retry_begin(&c->retry, &c->limits, c->began_ms);
    while ((r = try_once(c)) < 0) {
        asked = 0;
        reply_header_u64(&c->reply, "x-oss-qos-delay-time", &asked);
        if (asked > RETRY_CAP_MS)
            asked = RETRY_CAP_MS;
        delay = c->cause == RETRY_NEVER
                    ? -1
                    : retry_next_ms(&c->retry, c->cause, clock_ms(), (int64_t)asked, random_number());
        call_log(c, delay);
        if (delay < 0)
            break;
        if (http_sleep(c->client->http, delay)) {
            r = error_set(&c->err, -ECANCELED, "stopped");
            break;
        }
    }
    return r;
}

int call_end(struct call *c, int r, struct oss_error *err)
{
    if (r < 0 && !is_plain_answer(c, r) && !is_append_answer(c, r))
        stats_failure(&c->client->stats[c->op]);
    if (r < 0 && c->err.err == 0)
        error_set(&c->err, r, r == -ENOMEM ? "out of memory" : "the reply makes no sense");
    if (r == 0) {
        /* What happened on the way is of interest only so far. */
        unsigned tries = c->err.tries;
        bool ambiguous = c->err.ambiguous;

        error_reset(&c->err);
        c->err.tries = tries;
        c->err.ambiguous = ambiguous;
    }
    c->err.err = r;
    if (err)
        *err = c->err;
    kv_free(&c->headers);
    buf_free(&c->text);
    buf_free(&c->url);
    http_reply_free(&c->reply);
    return r;
}
