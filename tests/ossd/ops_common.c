/* ops_common.c: what the operations share; see ops.h. */
#include "ops.h"
#include "xml.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define META_MAX 8192
#define TAGS_MAX 10

/* ---------------------------------------------------------------------------------- what a request carries */

bool ops_no_conditions(struct request *rq)
{
    static const char *const names[] = {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"};

    for (size_t i = 0; i < 4; i++)
        if (request_header(rq, names[i]))
            return reply_error(rq, "NotImplemented", "Header", names[i], NULL);
    return true;
}

static bool one_of(const char *value, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(value, *names) == 0)
            return true;
    return false;
}

static bool check_meta_name(struct request *rq, const char *name)
{
    const char *p = name + strlen("x-oss-meta-");

    for (const char *c = p; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-')
            return reply_error_message(rq, 0, "InvalidArgument",
                                       "A name of user metadata holds an illegal character.", "ArgumentName", name,
                                       NULL);
    if (!*p)
        return reply_error_message(rq, 0, "InvalidArgument", "A name of user metadata is empty.", "ArgumentName",
                                   name, NULL);
    return true;
}

static bool check_described(struct request *rq)
{
    static const char *const classes[] = {"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive", NULL};
    static const char *const encryptions[] = {"AES256", "KMS", "SM4", NULL};
    const char *class = request_header(rq, "x-oss-storage-class");
    const char *encryption = request_header(rq, "x-oss-server-side-encryption");
    const char *data = request_header(rq, "x-oss-server-side-data-encryption");
    const char *id = request_header(rq, "x-oss-server-side-encryption-key-id");
    bool kms = encryption && strcmp(encryption, "KMS") == 0;

    if (class && !one_of(class, classes))
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-storage-class", "ArgumentValue", class,
                           NULL);
    if (class && (rq->op == OP_APPEND_OBJECT || rq->op == OP_PUT_SYMLINK) && strstr(class, "Cold"))
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-storage-class", "ArgumentValue", class,
                           NULL);
    if (encryption && !one_of(encryption, encryptions))
        return reply_error(rq, "InvalidEncryptionAlgorithmError", NULL);
    if ((data && (!kms || strcmp(data, "SM4"))) || (id && !kms))
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-server-side-encryption-key-id", NULL);
    return true;
}

bool ops_read_acl(struct request *rq, enum acl *acl)
{
    const char *value = request_header(rq, "x-oss-object-acl");

    *acl = value ? acl_parse(value) : ACL_DEFAULT;
    if (*acl == ACL_BAD)
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-object-acl", "ArgumentValue", value, NULL);
    return true;
}

bool ops_check_traffic(struct request *rq)
{
    const char *value = request_header(rq, "x-oss-traffic-limit");
    uint64_t bits;

    if (!value || (parse_u64(value, &bits) && bits >= 819200 && bits <= 838860800))
        return true;
    return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-traffic-limit", "ArgumentValue", value, NULL);
}

static bool legal_tag(const char *text, size_t min, size_t max)
{
    size_t n = strlen(text);

    if (n < min || n > max)
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !((unsigned char)*text & 0x80) && !strchr(" +-=._:/", *text))
            return false;
    return true;
}

bool ops_check_tags(struct request *rq, const struct pairs *tags, char **canonical)
{
    struct sbuf out = {0};

    if (tags->n > TAGS_MAX)
        return reply_error_message(rq, 0, "InvalidTag", "There are more than 10 tags.", NULL);
    for (size_t i = 0; i < tags->n; i++) {
        const struct pair *t = &tags->v[i];
        bool twice = false;
        for (size_t k = 0; k < i; k++)
            twice |= strcmp(tags->v[k].name, t->name) == 0;
        if (twice || !legal_tag(t->name, 1, 128) || !legal_tag(t->value, 0, 256)) {
            sbuf_free(&out);
            return reply_error(rq, "InvalidTag", "TagKey", t->name, "TagValue", t->value, NULL);
        }
        sbuf_adds(&out, i ? "&" : "");
        escape_url(&out, (struct bytes){t->name, strlen(t->name)}, false);
        sbuf_addc(&out, '=');
        escape_url(&out, (struct bytes){t->value, strlen(t->value)}, false);
    }
    *canonical = out.p;
    return true;
}

/* x-oss-tagging: "k=v&k2". */
static bool read_tags(struct request *rq, char **canonical)
{
    const char *value = request_header(rq, "x-oss-tagging");
    struct pairs tags = {0};
    bool good = true;

    *canonical = NULL;
    for (const char *p = value; p && *p && good;) {
        size_t n = strcspn(p, "&"), name = strcspn(p, "=&");
        struct sbuf k = {0}, v = {0};
        good = unescape_url(&k, (struct bytes){p, name}) &&
               (name == n || unescape_url(&v, (struct bytes){p + name + 1, n - name - 1}));
        if (good)
            pairs_add(&tags, k.p, v.p ? v.p : "");
        sbuf_free(&k);
        sbuf_free(&v);
        p += p[n] ? n + 1 : n;
    }
    if (good)
        good = ops_check_tags(rq, &tags, canonical);
    else
        reply_error(rq, "InvalidTag", NULL);
    pairs_free(&tags);
    return good;
}

static bool keeps(const char *name)
{
    static const char *const names[] = {"content-type",
                                        "cache-control",
                                        "content-disposition",
                                        "content-encoding",
                                        "content-language",
                                        "expires",
                                        "x-oss-storage-class",
                                        "x-oss-server-side-encryption",
                                        "x-oss-server-side-encryption-key-id",
                                        "x-oss-server-side-data-encryption",
                                        NULL};

    return strncmp(name, "x-oss-meta-", 11) == 0 || one_of(name, names);
}

bool ops_read_headers(struct request *rq, struct object *object)
{
    struct pairs kept = {0};
    size_t meta = 0;
    bool good = check_described(rq) && ops_read_acl(rq, &object->acl);

    for (size_t i = 0; i < rq->headers.n && good; i++) {
        const struct pair *h = &rq->headers.v[i];
        if (!keeps(h->name))
            continue;
        if (strncmp(h->name, "x-oss-meta-", 11) == 0) {
            good = check_meta_name(rq, h->name);
            meta += strlen(h->name) - strlen("x-oss-meta-") + strlen(h->value);
        }
        pairs_add(&kept, h->name, h->value);
    }
    if (good && meta > META_MAX)
        good = reply_error_message(rq, 0, "InvalidArgument", "The user metadata is larger than 8 KB.", NULL);
    if (good && !pairs_has(&kept, "content-type"))
        pairs_add(&kept, "content-type", "application/octet-stream");
    if (good)
        object_set_headers(object, &kept);
    pairs_free(&kept);
    free(object->tags);
    object->tags = NULL;
    return good && read_tags(rq, &object->tags);
}

bool ops_need_length(struct request *rq, uint64_t max)
{
    if (!rq->has_length && !rq->chunked)
        return reply_error(rq, "MissingContentLength", NULL);
    if (rq->has_length && rq->content_length > max)
        return reply_error_message(rq, 0, "EntityTooLarge", "The body is larger than the service takes.", NULL);
    return true;
}

uint64_t ops_query_number(struct request *rq, const char *name, uint64_t missing, uint64_t min, uint64_t max,
                          bool *good)
{
    const char *text = request_query(rq, name);
    uint64_t v = missing;

    if (!*good || !text || !*text)
        return missing;
    if (!parse_u64(text, &v) || v < min || v > max) {
        *good = reply_error(rq, "InvalidArgument", "ArgumentName", name, "ArgumentValue", text, NULL);
        return missing;
    }
    return v;
}

bool ops_wants_url(struct request *rq, bool *url)
{
    const char *type = request_query(rq, "encoding-type");

    *url = type && strcmp(type, "url") == 0;
    if (type && *type && !*url)
        return reply_error(rq, "InvalidArgument", "ArgumentName", "encoding-type", "ArgumentValue", type, NULL);
    return true;
}

/* -------------------------------------------------------------------------------------- what is there */

struct object *ops_find(struct request *rq)
{
    struct object *object = store_get(rq->server->store, rq->bucket, rq->key);

    if (!object)
        reply_error(rq, "NoSuchKey", "Key", rq->key.p, NULL);
    return object;
}

struct upload *ops_find_upload(struct request *rq)
{
    const char *id = request_query(rq, "uploadId");
    struct upload *upload = id ? store_upload_get(rq->server->store, rq->bucket, rq->key, id) : NULL;

    if (!upload)
        reply_error(rq, "NoSuchUpload", "UploadId", id ? id : "", NULL);
    return upload;
}

void ops_opaque_etag(char etag[ETAG_SIZE], uint64_t crc, uint64_t size)
{
    snprintf(etag, ETAG_SIZE, "%016llX%016llX", (unsigned long long)crc, (unsigned long long)~size);
}

void ops_md5_etag(char etag[ETAG_SIZE], const unsigned char digest[16])
{
    hex_upper(etag, digest, 16);
}

bool ops_take_body(struct request *rq, struct object *object)
{
    struct segment segment;
    int r = spool_end(rq->spool, NULL, &segment, NULL);

    if (r)
        return reply_store_error(rq, r);
    object->segments = xcalloc(1, sizeof segment);
    object->segments[0] = segment;
    object->n_segments = 1;
    object->size = rq->received;
    object->crc = rq->crc;
    object->has_md5 = rq->want_md5;
    if (rq->want_md5) {
        memcpy(object->md5, rq->digest, 16);
        ops_md5_etag(object->etag, rq->digest);
    } else {
        ops_opaque_etag(object->etag, rq->crc, rq->received);
    }
    return true;
}

/* ---------------------------------------------------------------------------------------- conditions */

/* `header` is one ETag or a list of them, with or without quotes, or "*". */
bool ops_etag_matches(const char *header, const char *etag)
{
    size_t n = strlen(etag);

    for (const char *p = header; *p;) {
        p += strspn(p, "\", \t");
        size_t word = strcspn(p, "\", \t");
        if ((word == n && memcmp(p, etag, n) == 0) || (word == 1 && *p == '*'))
            return true;
        p += word;
    }
    return false;
}

bool ops_conditions(struct request *rq, const char *prefix, const struct object *object)
{
    static const char *const names[] = {"if-match", "if-unmodified-since", "if-none-match", "if-modified-since"};
    const char *value[4];
    time_t date;

    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, names[i]);
        value[i] = request_header(rq, name);
    }
    if (value[0] && !ops_etag_matches(value[0], object->etag))
        return reply_error(rq, "PreconditionFailed", "Condition", "If-Match", NULL);
    if (value[1] && date_parse_http(value[1], &date) && object->mtime > date)
        return reply_error(rq, "PreconditionFailed", "Condition", "If-Unmodified-Since", NULL);
    if ((value[2] && ops_etag_matches(value[2], object->etag)) ||
        (value[3] && date_parse_http(value[3], &date) && object->mtime <= date)) {
        rq->reply.status = 304;
        reply_etag(rq, object->etag);
        return false;
    }
    return true;
}

static void describe_encryption(struct request *rq, const struct object *object)
{
    static const char *const names[] = {"x-oss-server-side-encryption", "x-oss-server-side-encryption-key-id",
                                        "x-oss-server-side-data-encryption"};

    for (int i = 0; i < 3; i++) {
        const char *value = object_header(object, names[i]);
        if (value)
            reply_header(rq, names[i], value);
    }
}

void ops_describe(struct request *rq, const struct object *object, const struct object *target)
{
    static const char *const wire[][2] = {{"content-type", "Content-Type"},
                                          {"cache-control", "Cache-Control"},
                                          {"content-disposition", "Content-Disposition"},
                                          {"content-encoding", "Content-Encoding"},
                                          {"content-language", "Content-Language"},
                                          {"expires", "Expires"}};
    const char *name, *value = NULL, *class = object_header(target, "x-oss-storage-class");
    char date[DATE_SIZE];

    date_http(date, object->mtime > target->mtime ? object->mtime : target->mtime);
    reply_header(rq, "Accept-Ranges", "bytes");
    reply_etag(rq, target->etag);
    reply_header(rq, "Last-Modified", date);
    reply_header(rq, "x-oss-object-type", object_type_name(object->type));
    reply_header(rq, "x-oss-storage-class", class ? class : "Standard");
    reply_crc(rq, target->crc, target->copied);
    if (target->has_md5) {
        char *md5 = base64_encode(target->md5, 16);
        reply_header(rq, "Content-MD5", md5);
        free(md5);
    }
    if (object->type == OBJECT_APPENDABLE)
        reply_headerf(rq, "x-oss-next-append-position", "%llu", (unsigned long long)object->size);
    if (object->tags) {
        unsigned n = 1;
        for (const char *p = object->tags; *p; p++)
            n += *p == '&';
        reply_headerf(rq, "x-oss-tagging-count", "%u", n);
    }
    while ((value = object_next_header(object, value, &name))) {
        if (strncmp(name, "x-oss-meta-", 11) == 0)
            reply_header(rq, name, value);
        for (size_t i = 0; i < sizeof wire / sizeof *wire; i++)
            if (strcmp(name, wire[i][0]) == 0)
                reply_header(rq, wire[i][1], value);
    }
    describe_encryption(rq, object);
    ops_describe_restore(rq, target);
}

/* --------------------------------------------------------------------------------------- copy source */

/* "/bucket/escaped-key[?versionId=…]" into bucket and key. */
static bool read_source(struct request *rq, struct sbuf *bucket, struct sbuf *key)
{
    const char *text = request_header(rq, "x-oss-copy-source");
    const char *end = text ? strchr(text, '?') : NULL;
    const char *slash;
    struct sbuf all = {0};
    bool good = text && text[0] == '/' &&
                unescape_url(&all, (struct bytes){text + 1, end ? (size_t)(end - text - 1) : strlen(text + 1)});

    slash = good ? memchr(all.p, '/', all.n) : NULL;
    if (slash) {
        sbuf_add(bucket, all.p, (size_t)(slash - all.p));
        sbuf_adds(key, "");
        sbuf_add(key, slash + 1, all.n - (size_t)(slash + 1 - all.p));
    }
    sbuf_free(&all);
    if (!slash || !key->n || !bucket->n)
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-copy-source", "ArgumentValue",
                           text ? text : "", NULL);
    return true;
}

struct object *ops_copy_source(struct request *rq, bool *same_bucket)
{
    struct sbuf bucket = {0}, key = {0};
    struct object *source = NULL;

    if (!read_source(rq, &bucket, &key))
        goto out;
    *same_bucket = strcmp(bucket.p, rq->bucket) == 0;
    if (!store_has_bucket(rq->server->store, bucket.p, NULL)) {
        reply_error_message(rq, 0, "NoSuchBucket", NULL, "SourceBucket", bucket.p, NULL);
        goto out;
    }
    source = store_get(rq->server->store, bucket.p, (struct bytes){key.p, key.n});
    if (!source) {
        reply_error(rq, "NoSuchKey", "Key", key.p, NULL);
    } else if (!ops_conditions(rq, "x-oss-copy-source-", source) || !ops_readable(rq, source)) {
        object_unref(source);
        source = NULL;
    }
out:
    sbuf_free(&bucket);
    sbuf_free(&key);
    return source;
}

void ops_owner(struct sbuf *out)
{
    sbuf_adds(out, "<Owner><ID>1234567890</ID><DisplayName>1234567890</DisplayName></Owner>");
}
