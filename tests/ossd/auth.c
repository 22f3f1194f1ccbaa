/* auth.c: see auth.h. */
#include "auth.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SKEW_MAX      (15 * 60)
#define V4            "OSS4-HMAC-SHA256"
#define PRESIGNED_MAX 604800

struct key {
    struct key *next;
    char *id, *secret, *token;
    bool expired;
    int64_t dies_ms;           /* monotonic; from then on it is expired. 0: never */
    char day[9];               /* the day of `day_key`, "" for none */
    unsigned char day_key[32]; /* the V4 signing key of that day */
};

struct auth {
    char *region;
    pthread_mutex_t lock;
    struct key *keys; /* lock */
};

/* What a request says of its signature. */
struct claim {
    int version; /* 4 or 1 */
    bool presigned;
    char *id;
    const char *token;
    const char *date;      /* V4: the compact date; V1: the fourth line */
    const char *signature; /* hex or base64 */
    char *additional;      /* V4: names joined by ';', or NULL */
    char *scope;           /* V4: all behind the id */
    char *room;            /* storage for the above */
};

struct auth *auth_new(const char *region)
{
    struct auth *auth = xcalloc(1, sizeof *auth);

    auth->region = xstrdup(region);
    pthread_mutex_init(&auth->lock, NULL);
    return auth;
}

static void key_free(struct key *key)
{
    free(key->id);
    free(key->secret);
    free(key->token);
    free(key);
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    for (struct key *key = auth->keys, *next; key; key = next) {
        next = key->next;
        key_free(key);
    }
    pthread_mutex_destroy(&auth->lock);
    free(auth->region);
    free(auth);
}

void auth_set_key(struct auth *auth, const char *id, const char *secret, const char *token, bool expired,
                  int64_t life_ms)
{
    struct key *key = xcalloc(1, sizeof *key);

    key->id = xstrdup(id);
    key->secret = xstrdup(secret);
    key->token = token && *token ? xstrdup(token) : NULL;
    key->expired = expired;
    key->dies_ms = life_ms ? clock_ms() + life_ms : 0;
    pthread_mutex_lock(&auth->lock);
    for (struct key **at = &auth->keys; *at; at = &(*at)->next)
        if (strcmp((*at)->id, id) == 0) {
            struct key *old = *at;
            *at = old->next;
            key_free(old);
            break;
        }
    key->next = auth->keys;
    auth->keys = key;
    pthread_mutex_unlock(&auth->lock);
}

/* --------------------------------------------------------------------------------------------- version 4 */

struct line {
    char *name, *value;
};

static int line_order(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int r = strcmp(x->name, y->name);

    return r ? r : strcmp(x->value, y->value);
}

static void canonical_query(const struct pairs *query, struct sbuf *out)
{
    struct line *lines = xcalloc(query->n, sizeof *lines);
    size_t n = 0;

    for (size_t i = 0; i < query->n; i++) {
        struct sbuf name = {0}, value = {0};
        if (strcmp(query->v[i].name, "x-oss-signature") == 0)
            continue;
        escape_url(&name, (struct bytes){query->v[i].name, strlen(query->v[i].name)}, false);
        escape_url(&value, (struct bytes){query->v[i].value, strlen(query->v[i].value)}, false);
        lines[n++] = (struct line){name.p, value.p};
    }
    if (n)
        qsort(lines, n, sizeof *lines, line_order);
    for (size_t i = 0; i < n; i++) {
        sbuf_addf(out, "%s%s", i ? "&" : "", lines[i].name);
        if (*lines[i].value)
            sbuf_addf(out, "=%s", lines[i].value);
        free(lines[i].name);
        free(lines[i].value);
    }
    free(lines);
}

static bool signed_always(const char *name)
{
    return strncmp(name, "x-oss-", 6) == 0 || strcmp(name, "content-type") == 0 || strcmp(name, "content-md5") == 0;
}

/* Whether `name` is one of names joined by ';'. */
static bool listed(const char *names, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = names; p && *p; p = strchr(p, ';'), p = p ? p + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == ';' || p[n] == '\0'))
            return true;
    return false;
}

static void canonical_headers(const struct pairs *headers, const char *additional, struct sbuf *out)
{
    struct line *lines = xcalloc(headers->n, sizeof *lines);
    size_t n = 0;

    for (size_t i = 0; i < headers->n; i++)
        if (signed_always(headers->v[i].name) || listed(additional, headers->v[i].name))
            lines[n++] = (struct line){headers->v[i].name, headers->v[i].value};
    if (n)
        qsort(lines, n, sizeof *lines, line_order);
    for (size_t i = 0; i < n; i++)
        sbuf_addf(out, "%s:%s\n", lines[i].name, lines[i].value);
    free(lines);
}

void auth_v4_canonical(const struct auth_request *request, const char *additional, struct sbuf *out)
{
    const char *hash = pairs_get(request->headers, "x-oss-content-sha256");

    sbuf_addf(out, "%s\n/", request->method);
    if (request->bucket) {
        escape_url(out, (struct bytes){request->bucket, strlen(request->bucket)}, true);
        sbuf_addc(out, '/');
        escape_url(out, request->key, true);
    }
    sbuf_addc(out, '\n');
    canonical_query(request->query, out);
    sbuf_addc(out, '\n');
    canonical_headers(request->headers, additional, out);
    sbuf_addf(out, "\n%s\n%s", additional ? additional : "", hash ? hash : "UNSIGNED-PAYLOAD");
}

static void hmac256(const void *key, size_t n, const char *text, unsigned char out[32])
{
    HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)text, strlen(text), out, NULL);
}

static void v4_day_key(const char *day, const char *region, const char *secret, unsigned char key[32])
{
    struct sbuf first = {0};

    sbuf_addf(&first, "aliyun_v4%s", secret);
    hmac256(first.p, first.n, day, key);
    hmac256(key, 32, region, key);
    hmac256(key, 32, "oss", key);
    hmac256(key, 32, "aliyun_v4_request", key);
    sbuf_free(&first);
}

static void v4_finish(const char *canonical, const char *date, const char *region, const unsigned char key[32],
                      struct sbuf *string_to_sign, char signature[65])
{
    unsigned char digest[32];
    char hex[65];

    SHA256((const unsigned char *)canonical, strlen(canonical), digest);
    hex_lower(hex, digest, 32);
    sbuf_addf(string_to_sign, V4 "\n%s\n%.8s/%s/oss/aliyun_v4_request\n%s", date, date, region, hex);
    hmac256(key, 32, string_to_sign->p, digest);
    hex_lower(signature, digest, 32);
}

void auth_v4_sign(const char *canonical, const char *date, const char *region, const char *secret,
                  struct sbuf *string_to_sign, char signature[65])
{
    unsigned char key[32];
    char day[9];

    snprintf(day, sizeof day, "%.8s", date);
    v4_day_key(day, region, secret, key);
    v4_finish(canonical, date, region, key, string_to_sign, signature);
}

/* --------------------------------------------------------------------------------------------- version 1 */

/* The query parameters that are signed; sorted. */
// clang-format off
static const char *const subresources[] = {
    "accessPoint", "accessPointPolicy", "acl", "append", "asyncFetch", "bucketArchiveDirectRead", "bucketInfo",
    "callback", "callback-var", "cname", "comp", "continuation-token", "cors", "delete", "encryption",
    "endTime", "group", "httpsConfig", "inventory", "inventoryId", "lifecycle", "link", "live", "location",
    "logging", "metaQuery", "objectInfo", "objectMeta", "partNumber", "policy", "position", "publicAccessBlock",
    "qos", "qosInfo", "qosRequester", "redundancyTransition", "referer", "regionList", "replication",
    "replicationLocation", "replicationProgress", "requestPayment", "requesterQosInfo", "resourceGroup",
    "resourcePool", "resourcePoolBuckets", "resourcePoolInfo", "response-cache-control",
    "response-content-disposition", "response-content-encoding", "response-content-language",
    "response-content-type", "response-expires", "restore", "seal", "security-token", "sequential", "startTime",
    "stat", "status", "style", "styleName", "symlink", "tagging", "transferAcceleration", "uploadId", "uploads",
    "versionId", "versioning", "versions", "vod", "website", "worm", "wormExtend", "wormId",
    "x-oss-access-point-name", "x-oss-async-process", "x-oss-process", "x-oss-redundancy-transition-taskid",
    "x-oss-request-payer", "x-oss-target-redundancy-type", "x-oss-traffic-limit",
    "x-oss-write-get-object-response"};
// clang-format on

static bool subresource(const char *name)
{
    for (size_t i = 0; i < sizeof subresources / sizeof *subresources; i++)
        if (strcmp(subresources[i], name) == 0)
            return true;
    return strncmp(name, "x-oss-ac-", 9) == 0;
}

static void v1_resource(const struct auth_request *request, struct sbuf *out)
{
    struct line *lines = xcalloc(request->query->n, sizeof *lines);
    size_t n = 0;

    sbuf_addc(out, '/');
    if (request->bucket) {
        sbuf_addf(out, "%s/", request->bucket);
        sbuf_add(out, request->key.p, request->key.n);
    }
    for (size_t i = 0; i < request->query->n; i++)
        if (subresource(request->query->v[i].name))
            lines[n++] = (struct line){request->query->v[i].name, request->query->v[i].value};
    if (n)
        qsort(lines, n, sizeof *lines, line_order);
    for (size_t i = 0; i < n; i++) {
        sbuf_addf(out, "%s%s", i ? "&" : "?", lines[i].name);
        if (*lines[i].value)
            sbuf_addf(out, "=%s", lines[i].value);
    }
    free(lines);
}

void auth_v1_string(const struct auth_request *request, const char *date, struct sbuf *out)
{
    const char *md5 = pairs_get(request->headers, "content-md5");
    const char *type = pairs_get(request->headers, "content-type");
    struct line *lines = xcalloc(request->headers->n, sizeof *lines);
    size_t n = 0;

    sbuf_addf(out, "%s\n%s\n%s\n%s\n", request->method, md5 ? md5 : "", type ? type : "", date);
    for (size_t i = 0; i < request->headers->n; i++)
        if (strncmp(request->headers->v[i].name, "x-oss-", 6) == 0)
            lines[n++] = (struct line){request->headers->v[i].name, request->headers->v[i].value};
    if (n)
        qsort(lines, n, sizeof *lines, line_order);
    for (size_t i = 0; i < n; i++)
        sbuf_addf(out, "%s:%s\n", lines[i].name, lines[i].value);
    free(lines);
    v1_resource(request, out);
}

char *auth_v1_sign(const char *string_to_sign, const char *secret)
{
    unsigned char digest[20];

    HMAC(EVP_sha1(), secret, (int)strlen(secret), (const unsigned char *)string_to_sign, strlen(string_to_sign),
         digest, NULL);
    return base64_encode(digest, sizeof digest);
}

/* ------------------------------------------------------------------------------------------ the claim */

static bool refuse(struct auth_result *out, const char *code, const char *message)
{
    out->code = code;
    out->message = message;
    return false;
}

/* "id/day/region/oss/aliyun_v4_request" into id and scope, in place. */
static bool split_credential(struct claim *claim, char *credential)
{
    char *slash = strchr(credential, '/');

    if (!slash)
        return false;
    *slash = '\0';
    claim->id = credential;
    claim->scope = slash + 1;
    return true;
}

/* The comma-separated items of a V4 Authorization header, in any order, blanks allowed. */
static bool read_v4_header(struct claim *claim, const char *text, struct auth_result *out)
{
    char *save = NULL;

    claim->version = 4;
    claim->room = xstrdup(text);
    for (char *item = strtok_r(claim->room, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        item += strspn(item, " \t");
        if (strncmp(item, "Credential=", 11) == 0) {
            if (!split_credential(claim, item + 11))
                break;
        } else if (strncmp(item, "AdditionalHeaders=", 18) == 0) {
            claim->additional = item + 18;
        } else if (strncmp(item, "Signature=", 10) == 0) {
            claim->signature = item + 10;
        } else {
            return refuse(out, "InvalidArgument", "The Authorization header has an item that is not known.");
        }
    }
    if (!claim->id || !claim->signature)
        return refuse(out, "InvalidArgument", "The Authorization header is malformed.");
    return true;
}

static bool read_header(struct claim *claim, const struct auth_request *rq, const char *text, struct auth_result *out)
{
    const char *oss_date = pairs_get(rq->headers, "x-oss-date"), *date = pairs_get(rq->headers, "date");

    claim->token = pairs_get(rq->headers, "x-oss-security-token");
    if (strncmp(text, V4 " ", sizeof V4) == 0) {
        claim->date = oss_date;
        const char *hash = pairs_get(rq->headers, "x-oss-content-sha256");
        if (!hash || strcmp(hash, "UNSIGNED-PAYLOAD"))
            return refuse(out, "InvalidArgument", "x-oss-content-sha256 must be UNSIGNED-PAYLOAD.");
        return read_v4_header(claim, text + sizeof V4, out);
    }
    if (strncmp(text, "OSS ", 4))
        return refuse(out, "InvalidArgument", "The Authorization header is malformed.");
    claim->version = 1;
    claim->date = oss_date ? oss_date : date;
    claim->room = xstrdup(text + 4);
    char *colon = strrchr(claim->room, ':');
    if (!colon)
        return refuse(out, "InvalidArgument", "The Authorization header is malformed.");
    *colon = '\0';
    claim->id = claim->room;
    claim->signature = colon + 1;
    return true;
}

static bool read_query(struct claim *claim, const struct auth_request *rq, struct auth_result *out)
{
    const char *credential = pairs_get(rq->query, "x-oss-credential");

    claim->presigned = true;
    if (!pairs_get(rq->query, "x-oss-signature-version")) {
        claim->version = 1;
        claim->signature = pairs_get(rq->query, "Signature");
        claim->date = pairs_get(rq->query, "Expires");
        claim->token = pairs_get(rq->query, "security-token");
        const char *id = pairs_get(rq->query, "OSSAccessKeyId");
        if (!claim->signature || !claim->date || !id)
            return refuse(out, "AccessDenied", "OSSAccessKeyId, Expires and Signature are needed together.");
        claim->room = claim->id = xstrdup(id);
        return true;
    }
    claim->version = 4;
    claim->signature = pairs_get(rq->query, "x-oss-signature");
    claim->date = pairs_get(rq->query, "x-oss-date");
    claim->token = pairs_get(rq->query, "x-oss-security-token");
    claim->additional = (char *)pairs_get(rq->query, "x-oss-additional-headers");
    claim->room = xstrdup(credential ? credential : "");
    if (strcmp(pairs_get(rq->query, "x-oss-signature-version"), V4) || !claim->signature ||
        !split_credential(claim, claim->room))
        return refuse(out, "InvalidArgument", "The presigned URL is malformed.");
    return true;
}

static bool read_claim(struct claim *claim, const struct auth_request *rq, struct auth_result *out)
{
    const char *header = pairs_get(rq->headers, "authorization");
    bool query = pairs_has(rq->query, "x-oss-signature") || pairs_has(rq->query, "x-oss-signature-version") ||
                 pairs_has(rq->query, "Signature") || pairs_has(rq->query, "OSSAccessKeyId");

    if (header && query)
        return refuse(out, "InvalidArgument", "Only one of header and query may carry the signature.");
    if (!header && !query) {
        out->anonymous = true;
        return false;
    }
    return header ? read_header(claim, rq, header, out) : read_query(claim, rq, out);
}

/* ------------------------------------------------------------------------------------------- the check */

static bool fresh(time_t date, time_t now, struct auth_result *out)
{
    char text[DATE_SIZE];

    if (date - now <= SKEW_MAX && now - date <= SKEW_MAX)
        return true;
    date_iso(text, date);
    pairs_add(&out->details, "RequestTime", text);
    date_iso(text, now);
    pairs_add(&out->details, "ServerTime", text);
    pairs_addf(&out->details, "MaxAllowedSkewMilliseconds", "%d", SKEW_MAX * 1000);
    return refuse(out, "RequestTimeTooSkewed", NULL);
}

static bool check_v4_time(const struct claim *claim, const struct auth_request *rq, time_t now,
                          struct auth_result *out)
{
    uint64_t seconds;
    time_t date;

    if (!claim->date || !date_parse_compact(claim->date, &date))
        return refuse(out, "InvalidArgument", "x-oss-date is missing or malformed.");
    if (!claim->presigned)
        return fresh(date, now, out);
    if (!parse_u64(pairs_get(rq->query, "x-oss-expires"), &seconds) || seconds < 1 || seconds > PRESIGNED_MAX)
        return refuse(out, "InvalidArgument", "x-oss-expires is missing or out of range.");
    if (date - now > SKEW_MAX)
        return fresh(date, now, out);
    if (now > date + (time_t)seconds)
        return refuse(out, "AccessDenied", "Request has expired.");
    return true;
}

/* Lower case, sorted, without duplicates, present in the request, none empty. */
static bool check_additional(const struct claim *claim, const struct auth_request *rq, struct auth_result *out)
{
    char last[128] = "";

    for (const char *p = claim->additional; p;) {
        size_t n = strcspn(p, ";");
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        if (n == 0 || n >= sizeof name || strcmp(name, last) <= 0 || strpbrk(name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") ||
            !pairs_has(rq->headers, name))
            return refuse(out, "InvalidArgument", "AdditionalHeaders is malformed.");
        memcpy(last, name, sizeof last);
        p = p[n] ? p + n + 1 : NULL;
    }
    return true;
}

static bool check_scope(const struct auth *auth, const struct claim *claim, struct auth_result *out)
{
    struct sbuf expected = {0};

    sbuf_addf(&expected, "%.8s/%s/oss/aliyun_v4_request", claim->date, auth->region);
    bool good = strcmp(expected.p, claim->scope) == 0;
    sbuf_free(&expected);
    return good || refuse(out, "InvalidArgument", "The credential has another date, region or product.");
}

static bool check_v1_time(const struct claim *claim, time_t now, struct auth_result *out)
{
    uint64_t expires;
    time_t date;

    if (claim->presigned) {
        if (!parse_u64(claim->date, &expires) || now > (time_t)expires)
            return refuse(out, "AccessDenied", "Request has expired.");
        return true;
    }
    if (!claim->date || !date_parse_http(claim->date, &date))
        return refuse(out, "AccessDenied", "A valid Date or x-oss-date header is needed.");
    return fresh(date, now, out);
}

static bool check_token(const struct key *key, const struct claim *claim, struct auth_result *out)
{
    if (key->expired || (key->dies_ms && clock_ms() >= key->dies_ms))
        return refuse(out, key->token ? "SecurityTokenExpired" : "InvalidAccessKeyId", NULL);
    if (key->token && !claim->token)
        return refuse(out, "InvalidAccessKeyId", NULL);
    if (!key->token && claim->token)
        return refuse(out, "AccessKeyIdAndSecurityTokenNotMatch", NULL);
    if (key->token && strcmp(key->token, claim->token))
        return refuse(out, "InvalidSecurityToken", NULL);
    return true;
}

static void add_mismatch(struct auth_result *out, const struct claim *claim, const struct sbuf *string_to_sign,
                         const struct sbuf *canonical)
{
    struct sbuf hex = {0};

    for (size_t i = 0; i < string_to_sign->n; i++)
        sbuf_addf(&hex, "%s%02X", i ? " " : "", (unsigned char)string_to_sign->p[i]);
    pairs_add(&out->details, "OSSAccessKeyId", claim->id);
    pairs_add(&out->details, "SignatureProvided", claim->signature);
    pairs_add(&out->details, "StringToSign", string_to_sign->p);
    pairs_add(&out->details, "StringToSignBytes", hex.p ? hex.p : "");
    if (canonical->p)
        pairs_add(&out->details, "CanonicalRequest", canonical->p);
    sbuf_free(&hex);
}

static bool check_signature(struct auth *auth, struct key *key, const struct claim *claim,
                            const struct auth_request *rq, struct auth_result *out)
{
    struct sbuf canonical = {0}, string = {0};
    char hex[65];
    char *expected = hex;
    size_t n;

    if (claim->version == 4) {
        if (strncmp(key->day, claim->date, 8)) {
            snprintf(key->day, sizeof key->day, "%.8s", claim->date);
            v4_day_key(key->day, auth->region, key->secret, key->day_key);
        }
        auth_v4_canonical(rq, claim->additional, &canonical);
        v4_finish(canonical.p, claim->date, auth->region, key->day_key, &string, hex);
    } else {
        auth_v1_string(rq, claim->date, &string);
        expected = auth_v1_sign(string.p, key->secret);
    }
    n = strlen(expected);
    bool good = strlen(claim->signature) == n && memcmp(claim->signature, expected, n) == 0;
    if (!good) {
        refuse(out, "SignatureDoesNotMatch", NULL);
        add_mismatch(out, claim, &string, &canonical);
    }
    if (expected != hex)
        free(expected);
    sbuf_free(&canonical);
    sbuf_free(&string);
    return good;
}

static bool check_claim(struct auth *auth, const struct claim *claim, const struct auth_request *rq, time_t now,
                        struct auth_result *out)
{
    struct key *key;
    bool good;

    if (claim->version == 4)
        good =
            check_v4_time(claim, rq, now, out) && check_additional(claim, rq, out) && check_scope(auth, claim, out);
    else
        good = check_v1_time(claim, now, out);
    if (!good)
        return false;
    pthread_mutex_lock(&auth->lock);
    for (key = auth->keys; key && strcmp(key->id, claim->id); key = key->next)
        ;
    if (!key) {
        refuse(out, "InvalidAccessKeyId", NULL);
        pairs_add(&out->details, "OSSAccessKeyId", claim->id);
    }
    good = key && check_token(key, claim, out) && check_signature(auth, key, claim, rq, out);
    pthread_mutex_unlock(&auth->lock);
    return good;
}

char *auth_secret(struct auth *auth, const char *id, const char *token, struct auth_result *out)
{
    struct claim claim = {.token = token};
    char *secret = NULL;
    struct key *key;

    *out = (struct auth_result){0};
    pthread_mutex_lock(&auth->lock);
    for (key = auth->keys; key && strcmp(key->id, id); key = key->next)
        ;
    if (!key)
        refuse(out, "InvalidAccessKeyId", NULL);
    else if (check_token(key, &claim, out))
        secret = xstrdup(key->secret);
    pthread_mutex_unlock(&auth->lock);
    return secret;
}

void auth_check(struct auth *auth, const struct auth_request *request, time_t now, struct auth_result *out)
{
    struct claim claim = {0};

    *out = (struct auth_result){0};
    if (read_claim(&claim, request, out))
        check_claim(auth, &claim, request, now, out);
    free(claim.room);
}
