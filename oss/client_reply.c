/*
 * client_reply.c: what the headers of a reply say, with the distrust they deserve.
 */
#include "client.h"

#include "base_time.h"
#include "crc64.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool reply_u64(const char *text, uint64_t *out)
{
    uint64_t n = 0;

    if (!text || !*text)
        return false;
    for (; *text; text++) {
        unsigned digit = (unsigned)(*text - '0');

        if (digit > 9 || n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return true;
}

bool reply_header_u64(const struct http_reply *reply, const char *name, uint64_t *out)
{
    return reply_u64(kv_get(&reply->headers, name), out);
}

static time_t header_date(const struct http_reply *reply, const char *name)
{
    const char *text = kv_get(&reply->headers, name);
    time_t t;

    return text && http_date_parse(text, &t) == 0 ? t : 0;
}

time_t reply_date(const struct http_reply *reply)
{
    return header_date(reply, "date");
}

int reply_etag(const struct http_reply *reply, char out[OSS_ETAG_SIZE])
{
    const char *text = kv_get(&reply->headers, "etag");
    size_t n;

    out[0] = '\0';
    if (!text)
        return 0;
    n = strlen(text);
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        text++;
        n -= 2;
    }
    if (n >= OSS_ETAG_SIZE)
        return -EIO;
    memcpy(out, text, n);
    out[n] = '\0';
    return 0;
}

static enum oss_type type_of(const char *text)
{
    if (!text)
        return OSS_TYPE_NORMAL;
    if (strcasecmp(text, "Multipart") == 0)
        return OSS_TYPE_MULTIPART;
    if (strcasecmp(text, "Appendable") == 0)
        return OSS_TYPE_APPENDABLE;
    if (strcasecmp(text, "Symlink") == 0)
        return OSS_TYPE_SYMLINK;
    return OSS_TYPE_NORMAL;
}

/* Whether struct oss_object keeps a header of this (lower-case) name. */
static bool header_is_kept(const char *name)
{
    static const char *const kept[] = {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
        "x-oss-restore",
        "x-oss-server-side-data-encryption",
        "x-oss-server-side-encryption",
        "x-oss-server-side-encryption-key-id",
        "x-oss-storage-class",
        "x-oss-tagging-count",
        "x-oss-version-id",
    };

    if (strncmp(name, "x-oss-meta-", 11) == 0)
        return true;
    for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++) {
        if (strcmp(name, kept[i]) == 0)
            return true;
    }
    return false;
}

int reply_object(const struct http_reply *reply, struct oss_object *out)
{
    uint64_t n;
    int r;

    *out = (struct oss_object){.append_position = -1};
    r = reply_etag(reply, out->etag);
    out->last_modified = header_date(reply, "last-modified");
    out->date = reply_date(reply);
    out->type = type_of(kv_get(&reply->headers, "x-oss-object-type"));
    out->has_crc = reply_header_u64(reply, "x-oss-hash-crc64ecma", &out->crc64);
    if (reply_header_u64(reply, "x-oss-next-append-position", &n) && n <= INT64_MAX)
        out->append_position = (int64_t)n;
    for (size_t i = 0; i < reply->headers.n && r == 0; i++) {
        const struct kv *kv = &reply->headers.v[i];

        if (header_is_kept(kv->name))
            r = kv_add(&out->headers, kv->name, kv->value);
    }
    if (r < 0)
        oss_object_free(out);
    return r;
}

int reply_written(const struct http_reply *reply, uint64_t size, struct oss_object *out)
{
    int r;

    *out = (struct oss_object){.size = size, .append_position = -1};
    r = reply_etag(reply, out->etag);
    out->date = reply_date(reply);
    out->last_modified = out->date;
    out->has_crc = reply_header_u64(reply, "x-oss-hash-crc64ecma", &out->crc64);
    return r;
}

int check_write(struct call *c)
{
    const struct http_reply *reply = &c->reply;
    char etag[OSS_ETAG_SIZE];
    uint64_t crc;

    /* A portal or proxy that answers 200 to everything must not make a close() succeed. */
    if (!kv_get(&reply->headers, "x-oss-request-id"))
        return call_fail(c, RETRY_SERVICE, -EIO, "a success without x-oss-request-id is not the service's own");
    if (reply_etag(reply, etag) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "an ETag that is too long");
    if (c->source && reply->up < c->source->size)
        return call_fail(c, RETRY_SERVICE, -EIO, "a success before all bytes were sent");
    if (c->crc_header && reply_header_u64(reply, "x-oss-hash-crc64ecma", &crc) && crc != c->crc64) {
        c->digest_known = false;
        return call_fail(c, RETRY_CRC, -EIO,
                         "the CRC-64 of what was stored (%llu) is not that of what was sent (%llu)",
                         (unsigned long long)crc, (unsigned long long)c->crc64);
    }
    return 0;
}

static bool is_metadata(const char *name)
{
    return strncmp(name, "x-oss-meta-", 11) == 0;
}

/* Headers that an object hands back as they were sent. */
static bool is_returned(const char *name)
{
    return is_metadata(name) || strcmp(name, "content-type") == 0 || strcmp(name, "cache-control") == 0 ||
           strcmp(name, "content-disposition") == 0 || strcmp(name, "content-encoding") == 0 ||
           strcmp(name, "content-language") == 0 || strcmp(name, "expires") == 0;
}

bool object_carries(const struct oss_object *object, const struct kvlist *sent)
{
    for (size_t i = 0; sent && i < sent->n; i++) {
        const char *is;

        if (!is_returned(sent->v[i].name))
            continue;
        is = kv_get(&object->headers, sent->v[i].name);
        if (!is || strcmp(is, sent->v[i].value) != 0)
            return false;
    }
    for (size_t i = 0; i < object->headers.n; i++) {
        const char *name = object->headers.v[i].name;

        if (is_metadata(name) && (!sent || !kv_get(sent, name)))
            return false;
    }
    return true;
}

void oss_object_free(struct oss_object *object)
{
    kv_free(&object->headers);
}
