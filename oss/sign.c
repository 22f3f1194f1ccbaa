#include "sign.h"

#include "base_time.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CANONICAL_MAX (256U * 1024)
#define DAY_SIZE      9 /* "20120222" */
#define UNSIGNED      "UNSIGNED-PAYLOAD"
#define ALGORITHM_V4  "OSS4-HMAC-SHA256"
#define EXPIRES_MAX   604800

void sign_result_init(struct sign_result *r)
{
    memset(r, 0, sizeof *r);
    buf_init(&r->canonical, CANONICAL_MAX);
    buf_init(&r->resource, CANONICAL_MAX);
    buf_init(&r->to_sign, CANONICAL_MAX);
    buf_init(&r->authorization, CANONICAL_MAX);
}

void sign_result_free(struct sign_result *r)
{
    OPENSSL_cleanse(r->signing_key, sizeof r->signing_key);
    buf_free(&r->canonical);
    buf_free(&r->resource);
    buf_free(&r->to_sign);
    buf_free(&r->authorization);
}

static void result_reset(struct sign_result *r)
{
    r->scope[0] = r->canonical_sha256[0] = r->signature[0] = '\0';
    buf_reset(&r->canonical);
    buf_reset(&r->resource);
    buf_reset(&r->to_sign);
    buf_reset(&r->authorization);
}

/* ----------------------------------------------------------------------------------------------- digests */

static int hmac(const EVP_MD *md, const void *key, size_t key_len, const void *data, size_t n,
                unsigned char out[EVP_MAX_MD_SIZE])
{
    unsigned len = 0;

    return HMAC(md, key, (int)key_len, data, n, out, &len) ? 0 : -ENOMEM;
}

static void to_hex(char *out, const unsigned char *data, size_t n)
{
    static const char hex[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *out++ = hex[data[i] >> 4];
        *out++ = hex[data[i] & 15];
    }
    *out = '\0';
}

/* ------------------------------------------------------------------------------------------- signing key */

/* Derived anew for each request: 4 microseconds, against process-wide state that would hold the secret. */
static int signing_key(const char *secret, const char *day, const char *region, const char *product,
                       unsigned char out[32])
{
    static const char prefix[] = "aliyun_v4";
    const char *const steps[] = {day, region, product, "aliyun_v4_request"};
    unsigned char key[EVP_MAX_MD_SIZE];
    char first[sizeof prefix + 256];
    const void *with = first;
    size_t with_len;
    int r = 0;

    with_len = (size_t)snprintf(first, sizeof first, "%s%s", prefix, secret);
    if (with_len >= sizeof first)
        r = -EINVAL;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && !r; i++) {
        r = hmac(EVP_sha256(), with, with_len, steps[i], strlen(steps[i]), key);
        with = key;
        with_len = 32;
    }
    if (!r)
        memcpy(out, key, 32);
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(key, sizeof key);
    return r;
}

/* ---------------------------------------------------------------------------------------- sorted headers */

static bool is_oss_header(const char *name)
{
    return !strncasecmp(name, "x-oss-", 6);
}

/* Signed in V4 whether asked for or not. */
static bool always_signed(const char *name)
{
    return is_oss_header(name) || !strcasecmp(name, "content-type") || !strcasecmp(name, "content-md5");
}

static bool asked_for(const struct sign_request *rq, const char *name)
{
    for (size_t i = 0; i < rq->n_additional; i++)
        if (!strcasecmp(rq->additional[i], name))
            return true;
    return false;
}

/* By name; equal names stay in the order of the list, since `v` points into it. */
static int compare_kv(const void *a, const void *b)
{
    const struct kv *const *x = a;
    const struct kv *const *y = b;
    const int r = strcmp((*x)->name, (*y)->name);

    return r ? r : (*x > *y) - (*x < *y);
}

/* The pairs of `headers`, sorted by name. The caller frees; NULL is out of memory. */
static const struct kv **sorted(const struct kvlist *headers)
{
    const struct kv **v = calloc(headers->n + 1, sizeof(void *));

    if (!v)
        return NULL;
    for (size_t i = 0; i < headers->n; i++)
        v[i] = &headers->v[i];
    qsort(v, headers->n, sizeof(void *), compare_kv);
    return v;
}

static void add_trimmed(struct buf *out, const char *text)
{
    size_t n;

    text += strspn(text, " \t");
    n = strlen(text);
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    buf_add(out, text, n);
}

/* ---------------------------------------------------------------------------------------------------- V4 */

/* "a;b": the additional names that the request has and that are not signed anyway, sorted, each once. */
static void add_additional(struct buf *out, const struct sign_request *rq, const struct kv *const *v)
{
    const char *last = NULL;

    for (; *v; v++) {
        if (!asked_for(rq, (*v)->name) || always_signed((*v)->name) || (last && !strcmp(last, (*v)->name)))
            continue;
        if (last)
            buf_adds(out, ";");
        buf_adds(out, (*v)->name);
        last = (*v)->name;
    }
}

/* One line for each signed name; the values of a repeated name are joined. */
static void add_signed_headers(struct buf *out, const struct sign_request *rq, const struct kv *const *v)
{
    while (*v) {
        const char *name = (*v)->name;
        const bool is_signed = always_signed(name) || asked_for(rq, name);

        if (is_signed)
            buf_addf(out, "%s:", name);
        for (bool first = true; *v && !strcmp((*v)->name, name); v++, first = false) {
            if (!is_signed)
                continue;
            if (!first)
                buf_adds(out, ",");
            add_trimmed(out, (*v)->value);
        }
        if (is_signed)
            buf_adds(out, "\n");
    }
}

static int compare_text(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;

    return strcmp(*x, *y);
}

/* Parameters sorted by escaped name, then value. Sorting "name=value" would not do: '=' is behind '-' and digits. */
static int canonical_query(struct buf *out, const struct url_param *query, size_t n)
{
    struct buf piece = BUF_INIT(CANONICAL_MAX);
    char **v = calloc(n + 1, sizeof *v);
    int r = v ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && !r; i++) {
        buf_reset(&piece);
        url_escape(&piece, query[i].name, strlen(query[i].name), false);
        /* \1 is in no escaped text and sorts before everything that is. */
        buf_adds(&piece, "\1");
        r = url_escape(&piece, query[i].value ? query[i].value : "", query[i].value ? strlen(query[i].value) : 0,
                       false);
        if (!r) {
            v[i] = strdup(buf_str(&piece));
            if (!v[i])
                r = -ENOMEM;
        }
    }
    if (!r) {
        qsort(v, n, sizeof *v, compare_text);
        for (size_t i = 0; i < n; i++) {
            char *value = strchr(v[i], '\1');

            *value++ = '\0';
            if (i)
                buf_adds(out, "&");
            buf_adds(out, v[i]);
            if (*value)
                buf_addf(out, "=%s", value);
        }
        r = out->err;
    }
    for (size_t i = 0; v && i < n; i++)
        free(v[i]);
    free(v);
    buf_free(&piece);
    return r;
}

/* "/bucket/key" escaped, whatever the addressing. */
static void canonical_uri(struct buf *out, const struct sign_request *rq)
{
    buf_adds(out, "/");
    if (!rq->bucket)
        return;
    url_escape(out, rq->bucket, strlen(rq->bucket), true);
    buf_adds(out, "/");
    if (rq->key)
        url_escape(out, rq->key, strlen(rq->key), true);
}

/* Canonical request, string to sign and signature into `d`; its scope is there already. */
static int sign_v4_core(const struct sign_request *rq, const char *stamp, const struct url_param *query,
                        size_t n_query, const struct kvlist *headers, struct sign_result *d)
{
    const char *payload = kv_get(headers, "x-oss-content-sha256");
    const struct kv **v = sorted(headers);
    unsigned char digest[EVP_MAX_MD_SIZE];
    char day[DAY_SIZE];
    int r;

    if (!v)
        return -ENOMEM;
    buf_addf(&d->canonical, "%s\n", rq->method);
    canonical_uri(&d->canonical, rq);
    buf_adds(&d->canonical, "\n");
    r = canonical_query(&d->canonical, query, n_query);
    if (r)
        goto out;
    buf_adds(&d->canonical, "\n");
    add_signed_headers(&d->canonical, rq, v);
    buf_adds(&d->canonical, "\n");
    add_additional(&d->canonical, rq, v);
    r = buf_addf(&d->canonical, "\n%s", payload ? payload : UNSIGNED);
    if (r)
        goto out;

    if (!EVP_Digest(d->canonical.data, d->canonical.len, digest, NULL, EVP_sha256(), NULL)) {
        r = -ENOMEM;
        goto out;
    }
    to_hex(d->canonical_sha256, digest, 32);
    r = buf_addf(&d->to_sign, ALGORITHM_V4 "\n%s\n%s\n%s", stamp, d->scope, d->canonical_sha256);
    if (r)
        goto out;

    memcpy(day, stamp, DAY_SIZE - 1);
    day[DAY_SIZE - 1] = '\0';
    r = signing_key(rq->cred->secret, day, rq->region, rq->product ? rq->product : "oss", d->signing_key);
    if (!r)
        r = hmac(EVP_sha256(), d->signing_key, 32, d->to_sign.data, d->to_sign.len, digest);
    if (!r)
        to_hex(d->signature, digest, 32);
out:
    free(v);
    return r;
}

/* The scope, and the check that there is all that V4 needs. */
static int v4_scope(const struct sign_request *rq, const char *stamp, struct sign_result *d)
{
    int n;

    if (!rq->region || !*rq->region)
        return -EINVAL;
    n = snprintf(d->scope, sizeof d->scope, "%.8s/%s/%s/aliyun_v4_request", stamp, rq->region,
                 rq->product ? rq->product : "oss");
    return n < 0 || (size_t)n >= sizeof d->scope ? -EINVAL : 0;
}

static int set_token(struct kvlist *headers, const struct oss_key *cred)
{
    if (cred->token[0])
        return kv_set(headers, "x-oss-security-token", cred->token);
    kv_del(headers, "x-oss-security-token");
    return 0;
}

int sign_v4(const struct sign_request *rq, struct kvlist *headers, struct sign_result *detail)
{
    struct sign_result local, *d = detail ? detail : &local;
    const struct kv **v = NULL;
    char stamp[ISO_BASIC_SIZE];
    size_t before;
    int r;

    sign_result_init(&local);
    result_reset(d);
    iso_basic_format(stamp, rq->when);
    if ((r = v4_scope(rq, stamp, d)) || (r = kv_set(headers, "x-oss-date", stamp)) ||
        (r = set_token(headers, rq->cred)))
        goto out;
    if (!kv_get(headers, "x-oss-content-sha256") && (r = kv_set(headers, "x-oss-content-sha256", UNSIGNED)))
        goto out;
    if ((r = sign_v4_core(rq, stamp, rq->query, rq->n_query, headers, d)))
        goto out;

    v = sorted(headers);
    if (!v) {
        r = -ENOMEM;
        goto out;
    }
    buf_addf(&d->authorization, ALGORITHM_V4 " Credential=%s/%s,", rq->cred->id, d->scope);
    before = d->authorization.len;
    add_additional(&d->authorization, rq, v);
    if (d->authorization.len > before) {
        /* There are some: write them again with their name in front. */
        d->authorization.len = before;
        buf_adds(&d->authorization, "AdditionalHeaders=");
        add_additional(&d->authorization, rq, v);
        buf_adds(&d->authorization, ",");
    }
    r = buf_addf(&d->authorization, "Signature=%s", d->signature);
    if (!r)
        r = kv_set(headers, "authorization", buf_str(&d->authorization));
out:
    free(v);
    sign_result_free(&local);
    return r;
}

int sign_v4_presign(const struct sign_request *rq, const struct kvlist *headers, long expires, struct buf *query,
                    struct sign_result *detail)
{
    struct sign_result local, *d = detail ? detail : &local;
    struct buf credential = BUF_INIT(CANONICAL_MAX), additional = BUF_INIT(CANONICAL_MAX);
    struct url_param *params = calloc(rq->n_query + 7, sizeof *params);
    const struct kv **v = sorted(headers);
    char stamp[ISO_BASIC_SIZE], seconds[24];
    size_t n = rq->n_query;
    int r = params && v ? 0 : -ENOMEM;

    sign_result_init(&local);
    result_reset(d);
    iso_basic_format(stamp, rq->when);
    if (!r && (expires < 1 || expires > EXPIRES_MAX))
        r = -EINVAL;
    if (r || (r = v4_scope(rq, stamp, d)))
        goto out;
    if (n)
        memcpy(params, rq->query, n * sizeof *params);
    if ((r = buf_addf(&credential, "%s/%s", rq->cred->id, d->scope)))
        goto out;
    snprintf(seconds, sizeof seconds, "%ld", expires);
    add_additional(&additional, rq, v);
    if ((r = additional.err))
        goto out;
    params[n++] = (struct url_param){"x-oss-signature-version", ALGORITHM_V4};
    params[n++] = (struct url_param){"x-oss-credential", buf_str(&credential)};
    params[n++] = (struct url_param){"x-oss-date", stamp};
    params[n++] = (struct url_param){"x-oss-expires", seconds};
    if (additional.len)
        params[n++] = (struct url_param){"x-oss-additional-headers", buf_str(&additional)};
    if (rq->cred->token[0])
        params[n++] = (struct url_param){"x-oss-security-token", rq->cred->token};
    if ((r = sign_v4_core(rq, stamp, params, n, headers, d)))
        goto out;
    params[n++] = (struct url_param){"x-oss-signature", d->signature};
    r = url_query(query, params, n);
out:
    free(params);
    free(v);
    buf_free(&credential);
    buf_free(&additional);
    sign_result_free(&local);
    return r;
}

/* ---------------------------------------------------------------------------------------------------- V1 */

/* The query parameters that V1 signs, in the order of strcmp(); also all that begin with x-oss-ac-. */
static const char *const sub_resources[] = {
    "accessPoint",
    "accessPointPolicy",
    "acl",
    "append",
    "asyncFetch",
    "bucketArchiveDirectRead",
    "bucketInfo",
    "callback",
    "callback-var",
    "cname",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "group",
    "httpsConfig",
    "inventory",
    "inventoryId",
    "lifecycle",
    "link",
    "live",
    "location",
    "logging",
    "metaQuery",
    "objectInfo",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "qosRequester",
    "redundancyTransition",
    "referer",
    "regionList",
    "replication",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "requesterQosInfo",
    "resourceGroup",
    "resourcePool",
    "resourcePoolBuckets",
    "resourcePoolInfo",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "startTime",
    "stat",
    "status",
    "style",
    "styleName",
    "symlink",
    "tagging",
    "transferAcceleration",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "wormExtend",
    "wormId",
    "x-oss-access-point-name",
    "x-oss-async-process",
    "x-oss-process",
    "x-oss-redundancy-transition-taskid",
    "x-oss-request-payer",
    "x-oss-target-redundancy-type",
    "x-oss-traffic-limit",
    "x-oss-write-get-object-response",
};

static bool is_sub_resource(const char *name)
{
    if (!strncmp(name, "x-oss-ac-", 9))
        return true;
    return bsearch(&name, sub_resources, sizeof sub_resources / sizeof sub_resources[0], sizeof sub_resources[0],
                   compare_text) != NULL;
}

static int compare_param(const void *a, const void *b)
{
    const struct url_param *x = a;
    const struct url_param *y = b;

    return strcmp(x->name, y->name);
}

/* "/bucket/key?acl&uploadId=x", all of it raw. */
static int v1_resource(struct buf *out, const struct sign_request *rq, const char *token)
{
    struct url_param *v = calloc(rq->n_query + 2, sizeof *v);
    size_t n = 0;

    if (!v)
        return -ENOMEM;
    for (size_t i = 0; i < rq->n_query; i++)
        if (is_sub_resource(rq->query[i].name))
            v[n++] = rq->query[i];
    if (token)
        v[n++] = (struct url_param){"security-token", token};
    qsort(v, n, sizeof *v, compare_param);

    buf_adds(out, "/");
    if (rq->bucket)
        buf_addf(out, "%s/%s", rq->bucket, rq->key ? rq->key : "");
    for (size_t i = 0; i < n; i++) {
        buf_addf(out, "%c%s", i ? '&' : '?', v[i].name);
        if (v[i].value && *v[i].value)
            buf_addf(out, "=%s", v[i].value);
    }
    free(v);
    return out->err;
}

static void add_or_nothing(struct buf *out, const char *text)
{
    add_trimmed(out, text ? text : "");
    buf_adds(out, "\n");
}

/* `date` is the fourth line; `token` NULL unless it is signed as a parameter. */
static int sign_v1_core(const struct sign_request *rq, const struct kvlist *headers, const char *date,
                        const char *token, struct sign_result *d)
{
    const struct kv **v = sorted(headers);
    unsigned char digest[EVP_MAX_MD_SIZE];
    int r;

    if (!v)
        return -ENOMEM;
    for (size_t i = 0; v[i]; i++) {
        if (!is_oss_header(v[i]->name))
            continue;
        buf_addf(&d->canonical, "%s:", v[i]->name);
        add_trimmed(&d->canonical, v[i]->value);
        buf_adds(&d->canonical, "\n");
    }
    free(v);
    if ((r = d->canonical.err) || (r = v1_resource(&d->resource, rq, token)))
        return r;

    buf_addf(&d->to_sign, "%s\n", rq->method);
    add_or_nothing(&d->to_sign, kv_get(headers, "content-md5"));
    add_or_nothing(&d->to_sign, kv_get(headers, "content-type"));
    r = buf_addf(&d->to_sign, "%s\n%s%s", date, buf_str(&d->canonical), buf_str(&d->resource));
    if (!r)
        r = hmac(EVP_sha1(), rq->cred->secret, strlen(rq->cred->secret), d->to_sign.data, d->to_sign.len, digest);
    if (!r)
        EVP_EncodeBlock((unsigned char *)d->signature, digest, 20);
    return r;
}

int sign_v1(const struct sign_request *rq, struct kvlist *headers, struct sign_result *detail)
{
    struct sign_result local, *d = detail ? detail : &local;
    char date[HTTP_DATE_SIZE];
    const char *oss_date;
    int r;

    sign_result_init(&local);
    result_reset(d);
    http_date_format(date, rq->when);
    if ((r = kv_set(headers, "date", date)) || (r = set_token(headers, rq->cred)))
        goto out;
    oss_date = kv_get(headers, "x-oss-date");
    if ((r = sign_v1_core(rq, headers, oss_date ? oss_date : date, NULL, d)))
        goto out;
    r = buf_addf(&d->authorization, "OSS %s:%s", rq->cred->id, d->signature);
    if (!r)
        r = kv_set(headers, "authorization", buf_str(&d->authorization));
out:
    sign_result_free(&local);
    return r;
}

int sign_v1_presign(const struct sign_request *rq, const struct kvlist *headers, long expires, struct buf *query,
                    struct sign_result *detail)
{
    struct sign_result local, *d = detail ? detail : &local;
    const char *token = rq->cred->token[0] ? rq->cred->token : NULL;
    struct url_param *params = calloc(rq->n_query + 4, sizeof *params);
    size_t n = rq->n_query;
    char when[24];
    int r = params ? 0 : -ENOMEM;

    sign_result_init(&local);
    result_reset(d);
    if (!r && expires < 1)
        r = -EINVAL;
    if (r)
        goto out;
    snprintf(when, sizeof when, "%lld", (long long)rq->when + expires);
    if ((r = sign_v1_core(rq, headers, when, token, d)))
        goto out;
    if (n)
        memcpy(params, rq->query, n * sizeof *params);
    if (token)
        params[n++] = (struct url_param){"security-token", token};
    params[n++] = (struct url_param){"OSSAccessKeyId", rq->cred->id};
    params[n++] = (struct url_param){"Expires", when};
    params[n++] = (struct url_param){"Signature", d->signature};
    r = url_query(query, params, n);
out:
    free(params);
    sign_result_free(&local);
    return r;
}
