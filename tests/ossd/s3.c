/* s3.c: see s3.h. */
#include "s3.h"

#include "ops.h"

#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define V4       "AWS4-HMAC-SHA256"
#define SKEW_MAX (15 * 60)
#define UNSIGNED "UNSIGNED-PAYLOAD"

/* What a request says of its signature. */
struct claim {
    char *room, *id, *scope; /* id and scope are within room */
    const char *names;       /* SignedHeaders */
    const char *signature, *date, *token, *hash, *expires;
};

bool s3_speaks(const struct request *rq)
{
    const char *authorization = request_header(rq, "authorization");

    return (authorization && strncmp(authorization, V4 " ", sizeof V4) == 0) ||
           pairs_has(&rq->query, "X-Amz-Algorithm") || request_header(rq, "x-amz-date");
}

/* ---------------------------------------------------------------------------------------------- signature */

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_query(const struct request *rq, struct sbuf *out)
{
    char **lines = xcalloc(rq->query.n + 1, sizeof *lines);
    size_t n = 0;

    for (size_t i = 0; i < rq->query.n; i++) {
        const struct pair *q = &rq->query.v[i];
        struct sbuf line = {0};
        if (strcmp(q->name, "X-Amz-Signature") == 0)
            continue;
        escape_url(&line, (struct bytes){q->name, strlen(q->name)}, false);
        sbuf_addc(&line, '=');
        escape_url(&line, (struct bytes){q->value, strlen(q->value)}, false);
        lines[n++] = line.p;
    }
    qsort(lines, n, sizeof *lines, text_order);
    for (size_t i = 0; i < n; i++) {
        sbuf_addf(out, "%s%s", i ? "&" : "", lines[i]);
        free(lines[i]);
    }
    free(lines);
}

/* The headers of a list joined by ';', in its order, which the signer has sorted. */
static void add_headers(const struct request *rq, const char *names, struct sbuf *out)
{
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, ";");
        char *name = xmemdup(p, n);
        const char *value = request_header(rq, name);
        sbuf_addf(out, "%s:%s\n", name, value ? value : "");
        free(name);
        p += n + (p[n] == ';');
    }
}

void s3_canonical(const struct request *rq, const char *signed_headers, const char *hash, struct sbuf *out)
{
    struct sbuf path = {0};

    unescape_url(&path, (struct bytes){rq->target, strcspn(rq->target, "?")});
    sbuf_addf(out, "%s\n", rq->method);
    escape_url(out, (struct bytes){path.p ? path.p : "", path.n}, true);
    sbuf_addc(out, '\n');
    add_query(rq, out);
    sbuf_addc(out, '\n');
    add_headers(rq, signed_headers, out);
    sbuf_addf(out, "\n%s\n%s", signed_headers, hash);
    sbuf_free(&path);
}

static void hmac256(const void *key, size_t n, const char *text, unsigned char out[32])
{
    HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)text, strlen(text), out, NULL);
}

void s3_sign(const char *canonical, const char *date, const char *region, const char *secret, char signature[65])
{
    struct sbuf text = {0};
    unsigned char key[32];
    char hex[65], day[9];

    snprintf(day, sizeof day, "%.8s", date);
    sbuf_addf(&text, "AWS4%s", secret);
    hmac256(text.p, text.n, day, key);
    hmac256(key, 32, region, key);
    hmac256(key, 32, "s3", key);
    hmac256(key, 32, "aws4_request", key);
    sbuf_free(&text);
    unsigned char digest[32];
    SHA256((const unsigned char *)canonical, strlen(canonical), digest);
    hex_lower(hex, digest, 32);
    sbuf_addf(&text, V4 "\n%s\n%s/%s/s3/aws4_request\n%s", date, day, region, hex);
    hmac256(key, 32, text.p, digest);
    hex_lower(signature, digest, 32);
    sbuf_free(&text);
}

static bool split_credential(struct claim *claim)
{
    char *slash = strchr(claim->id, '/');

    if (!slash)
        return false;
    *slash = '\0';
    claim->scope = slash + 1;
    return true;
}

static void read_header(struct claim *claim, const struct request *rq)
{
    const char *text = request_header(rq, "authorization");
    char *save = NULL;

    claim->date = request_header(rq, "x-amz-date");
    claim->token = request_header(rq, "x-amz-security-token");
    claim->hash = request_header(rq, "x-amz-content-sha256");
    claim->room = xstrdup(text && strlen(text) > sizeof V4 ? text + sizeof V4 : "");
    for (char *item = strtok_r(claim->room, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        item += strspn(item, " \t");
        if (strncmp(item, "Credential=", 11) == 0)
            claim->id = item + 11;
        else if (strncmp(item, "SignedHeaders=", 14) == 0)
            claim->names = item + 14;
        else if (strncmp(item, "Signature=", 10) == 0)
            claim->signature = item + 10;
    }
}

static void read_query(struct claim *claim, const struct request *rq)
{
    const char *credential = request_query(rq, "X-Amz-Credential");

    claim->room = claim->id = xstrdup(credential ? credential : "");
    claim->names = request_query(rq, "X-Amz-SignedHeaders");
    claim->signature = request_query(rq, "X-Amz-Signature");
    claim->date = request_query(rq, "X-Amz-Date");
    claim->token = request_query(rq, "X-Amz-Security-Token");
    claim->expires = request_query(rq, "X-Amz-Expires");
    claim->hash = UNSIGNED;
}

static bool check_time(struct request *rq, const struct claim *claim)
{
    time_t date, now = server_now(rq->server);
    uint64_t seconds = 0;

    if (!date_parse_compact(claim->date, &date))
        return reply_error_message(rq, 0, "AccessDenied", "X-Amz-Date is malformed.", NULL);
    if (date - now > SKEW_MAX || (!claim->expires && now - date > SKEW_MAX))
        return reply_error(rq, "RequestTimeTooSkewed", NULL);
    if (claim->expires && (!parse_u64(claim->expires, &seconds) || now > date + (time_t)seconds))
        return reply_error_message(rq, 0, "AccessDenied", "Request has expired.", NULL);
    return true;
}

/* The host, and each header of the service's own, have to be signed. */
static bool check_names(struct request *rq, const struct claim *claim)
{
    struct sbuf all = {0};
    bool good = true;

    sbuf_addf(&all, ";%s;", claim->names);
    for (size_t i = 0; i < rq->headers.n && good; i++) {
        struct sbuf one = {0};
        const char *name = rq->headers.v[i].name;
        sbuf_addf(&one, ";%s;", name);
        good = (strncmp(name, "x-amz-", 6) && strcmp(name, "host")) || strstr(all.p, one.p);
        sbuf_free(&one);
    }
    sbuf_free(&all);
    return good || reply_error_message(rq, 0, "AccessDenied", "A header that must be signed is not.", NULL);
}

static bool check_signature(struct request *rq, const struct claim *claim)
{
    const char *region = rq->server->options.region;
    struct auth_result result;
    struct sbuf scope = {0}, canonical = {0};
    char *secret, signature[65];
    bool good = false;

    sbuf_addf(&scope, "%.8s/%s/s3/aws4_request", claim->date, region);
    if (strcmp(scope.p, claim->scope)) {
        reply_error_message(rq, 0, "InvalidArgument", "The credential has another date, region or service.", NULL);
        goto out;
    }
    secret = auth_secret(rq->server->auth, claim->id, claim->token, &result);
    if (!secret) {
        reply_error_message(rq, 0, result.code, result.message, NULL);
        pairs_free(&result.details);
        goto out;
    }
    s3_canonical(rq, claim->names, claim->hash, &canonical);
    s3_sign(canonical.p, claim->date, region, secret, signature);
    free(secret);
    good = strcmp(signature, claim->signature) == 0 ||
           reply_error(rq, "SignatureDoesNotMatch", "CanonicalRequest", canonical.p, NULL);
out:
    sbuf_free(&scope);
    sbuf_free(&canonical);
    return good;
}

static bool check_claim(struct request *rq)
{
    struct claim claim = {0};
    bool good;

    if (pairs_has(&rq->query, "X-Amz-Algorithm"))
        read_query(&claim, rq);
    else
        read_header(&claim, rq);
    if (!claim.id || !claim.names || !claim.signature || !claim.date || !claim.hash || !split_credential(&claim))
        good = reply_error_message(rq, 0, "InvalidArgument", "The signature is malformed.", NULL);
    else
        good = check_time(rq, &claim) && check_names(rq, &claim) && check_signature(rq, &claim);
    free(claim.room);
    return good;
}

/* -------------------------------------------------------------------------------------------- translation */

static void rename_header(struct pair *header, const char *from, const char *to)
{
    struct sbuf name = {0};

    sbuf_addf(&name, "%s%s", to, header->name + strlen(from));
    free(header->name);
    header->name = name.p;
}

static void translate_header(struct pair *header)
{
    static const char *const same[] = {"x-amz-meta-", "x-amz-copy-source", "x-amz-metadata-directive",
                                       "x-amz-tagging"};

    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strncmp(header->name, same[i], strlen(same[i])) == 0) {
            rename_header(header, "x-amz-", "x-oss-");
            break;
        }
    if (strcmp(header->name, "x-amz-acl") == 0)
        rename_header(header, "x-amz-acl", "x-oss-object-acl");
    if (strcmp(header->name, "x-oss-copy-source") == 0 && header->value[0] != '/') {
        struct sbuf value = {0};
        sbuf_addf(&value, "/%s", header->value);
        free(header->value);
        header->value = value.p;
    }
}

/* S3 lists 1,000 keys unless told, and takes a larger number for 1,000. */
static void translate_query(struct request *rq)
{
    uint64_t n;

    if (!parse_u64(request_query(rq, "max-keys"), &n) || n > 1000)
        pairs_set(&rq->query, "max-keys", "1000");
}

static void expect_hash(struct request *rq)
{
    const char *hash = request_header(rq, "x-amz-content-sha256");

    if (!hash || strlen(hash) != 64 || rq->server->options.opaque_etag)
        return;
    rq->sha256 = EVP_MD_CTX_new();
    EVP_DigestInit_ex(rq->sha256, EVP_sha256(), NULL);
}

bool s3_begin(struct request *rq)
{
    rq->s3 = true;
    if (!rq->server->options.no_auth && !check_claim(rq))
        return false;
    for (size_t i = 0; i < rq->headers.n; i++)
        translate_header(&rq->headers.v[i]);
    pairs_set(&rq->headers, "x-oss-range-behavior", "standard");
    translate_query(rq);
    expect_hash(rq);
    return true;
}

int s3_classify(const struct request *rq)
{
    if (strcmp(rq->method, "HEAD") == 0 && rq->bucket && !rq->key.n)
        return OP_GET_BUCKET_INFO;
    return (int)ops_classify(rq);
}

bool s3_check_body(struct request *rq)
{
    unsigned char digest[32];
    char hex[65];

    if (!rq->sha256 || ops[rq->op].body == BODY_NONE)
        return true;
    EVP_DigestFinal_ex(rq->sha256, digest, NULL);
    hex_lower(hex, digest, 32);
    return strcmp(hex, request_header(rq, "x-amz-content-sha256")) == 0 ||
           reply_error_message(rq, 400, "XAmzContentSHA256Mismatch", "The body is not the one that was signed.",
                               NULL);
}

void s3_translate_reply(struct request *rq)
{
    for (size_t i = 0; i < rq->reply.headers.n; i++)
        if (strncmp(rq->reply.headers.v[i].name, "x-oss-meta-", 11) == 0)
            rename_header(&rq->reply.headers.v[i], "x-oss-", "x-amz-");
    reply_header(rq, "x-amz-request-id", rq->id);
}
