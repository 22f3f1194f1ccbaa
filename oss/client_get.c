/*
 * client_get.c: GetObject, going on after a broken connection.
 *
 * The first good reply fixes what is downloaded: ETag, size, where the range ends. Each later try asks for the rest
 * of exactly that (Range, If-Match), so no byte comes twice and no two versions are mixed.
 */
#include "client.h"

#include "crc64.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct get {
    uint64_t offset, length; /* as asked for */
    const char *if_match;
    const struct oss_sink *sink;
    bool ranged;              /* this try has a Range header */
    bool known;               /* a good reply came: the fields below hold */
    uint64_t at, end;         /* the next byte of the object to deliver, and the first one not to */
    struct oss_object object; /* of the first good reply */
    uint64_t crc64;           /* of what was delivered */
};

/* The first byte that is not asked for, as far as is known. */
static uint64_t wanted_end(const struct get *g)
{
    return g->length == OSS_WHOLE ? UINT64_MAX : g->offset + g->length;
}

static int get_prepare(struct call *c)
{
    struct get *g = c->arg;
    uint64_t end = g->known ? g->end : wanted_end(g);
    int r = 0;

    if (g->at > g->offset && !*g->object.etag)
        return call_fail(c, RETRY_NEVER, -EIO,
                         "the download broke off, and without an ETag it cannot be gone on with");
    g->ranged = g->length != OSS_WHOLE || g->at > 0;
    if (g->ranged) {
        r = kv_setf(&c->headers, "range", "bytes=%llu-%llu", (unsigned long long)g->at,
                    (unsigned long long)(end - 1));
        /* Else the service answers a range it does not like with the whole object. */
        if (r == 0)
            r = kv_set(&c->headers, "x-oss-range-behavior", "standard");
    }
    if (r == 0 && g->known && *g->object.etag)
        r = kv_setf(&c->headers, "if-match", "\"%s\"", g->object.etag);
    else if (r == 0 && g->if_match)
        r = kv_setf(&c->headers, "if-match", "\"%s\"", g->if_match);
    return r;
}

/* "bytes a-b/total" */
static bool content_range_read(const char *text, uint64_t *first, uint64_t *last, uint64_t *total)
{
    uint64_t *out[3] = {first, last, total};
    static const char stop[3] = {'-', '/', '\0'};
    char digits[24];

    if (!text || strncmp(text, "bytes ", 6) != 0)
        return false;
    text += 6;
    for (int i = 0; i < 3; i++) {
        size_t n = stop[i] ? strcspn(text, "-/") : strlen(text);

        if (n >= sizeof(digits) || text[n] != stop[i])
            return false;
        memcpy(digits, text, n);
        digits[n] = '\0';
        if (!reply_u64(digits, out[i]))
            return false;
        text += n + 1;
    }
    return *first <= *last && *last < *total;
}

/* What the reply brings: total size of the object, and up to where. 0 or -EIO. */
static int range_check(struct call *c, const struct http_reply *reply, uint64_t *total, uint64_t *end)
{
    const struct get *g = c->arg;
    uint64_t first, last, length;
    bool has_length = reply_header_u64(reply, "content-length", &length);
    uint64_t want = g->known ? g->end : wanted_end(g);

    if (reply->status == 200) {
        if (!has_length)
            return call_fail(c, RETRY_SERVICE, -EIO, "a reply without a length");
        if (g->at > 0)
            return call_fail(c, RETRY_SERVICE, -EIO, "the whole object in answer to a range");
        *total = length;
        *end = want < length ? want : length;
        return 0;
    }
    if (!g->ranged)
        return call_fail(c, RETRY_SERVICE, -EIO, "a part of the object in answer to the whole");
    if (!content_range_read(kv_get(&reply->headers, "content-range"), &first, &last, total))
        return call_fail(c, RETRY_SERVICE, -EIO, "a range without a Content-Range that makes sense");
    *end = want < *total ? want : *total;
    if (first != g->at || last + 1 != *end || (has_length && length != last + 1 - first))
        return call_fail(c, RETRY_SERVICE, -EIO, "another range than was asked for");
    return 0;
}

static int get_begin(void *arg, const struct http_reply *reply)
{
    struct call *c = arg;
    struct get *g = c->arg;
    char etag[OSS_ETAG_SIZE];
    uint64_t total = 0, end = 0;
    int r;

    if (reply->status != 200 && reply->status != 206)
        return HTTP_COLLECT;
    if (reply_etag(reply, etag) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "an ETag that is too long");
    r = range_check(c, reply, &total, &end);
    if (r < 0)
        return r;
    if (g->known) {
        if (total != g->object.size || end != g->end || strcmp(etag, g->object.etag) != 0)
            return call_fail(c, RETRY_NEVER, -EIO, "another object than the download began with");
        return HTTP_DELIVER;
    }
    if (g->if_match && *etag && strcmp(etag, g->if_match) != 0)
        return call_fail(c, RETRY_NEVER, -ESTALE, "the object is no longer the one asked for");
    r = reply_object(reply, &g->object);
    if (r < 0)
        return r;
    g->object.size = total;
    g->end = end;
    g->known = true;
    return HTTP_DELIVER;
}

/* There is a checksum of the whole object only: of a range it would be summed up for nothing. */
static bool can_compare(const struct call *c)
{
    const struct get *g = c->arg;

    return c->client->check_crc && g->object.has_crc && g->offset == 0 && g->end == g->object.size;
}

static int get_data(void *arg, const void *data, size_t n)
{
    struct call *c = arg;
    struct get *g = c->arg;
    uint64_t left = g->end - g->at;
    bool more = n > left;
    int r = 0;

    if (more)
        n = (size_t)left;
    if (n) {
        if (can_compare(c))
            g->crc64 = crc64(g->crc64, data, n);
        r = g->sink->write(g->sink->arg, g->at, data, n);
        g->at += n;
    }
    if (r < 0)
        return r;
    /* A 200 in answer to a range from 0 goes on beyond it. */
    return more || (g->at == g->end && c->reply.status == 200 && g->end < g->object.size);
}

static int get_check(struct call *c)
{
    struct get *g = c->arg;

    if (g->at != g->end)
        return call_fail(c, RETRY_CONNECTION, -EIO, "the reply is shorter than it said");
    if (can_compare(c) && g->crc64 != g->object.crc64)
        return call_fail(c, RETRY_NEVER, -EIO, "the CRC-64 of the download (%llu) is not the object's (%llu)",
                         (unsigned long long)g->crc64, (unsigned long long)g->object.crc64);
    return 0;
}

int client_get(struct oss *oss, const char *key, uint64_t offset, uint64_t length, const char *if_match,
               const struct oss_sink *sink, struct oss_object *out, struct oss_error *err)
{
    struct get g = {.offset = offset, .length = length, .if_match = if_match, .sink = sink, .at = offset};
    struct call c;
    int r;

    call_begin(&c, oss, OSS_OP_GET, "GET", key);
    if (c.r == 0 &&
        (length == 0 || (length == OSS_WHOLE && offset) || (length != OSS_WHOLE && offset + length < offset)))
        c.r = error_set(&c.err, -EINVAL, "no range");
    c.limits = c.client->transfer;
    c.success[1] = 206;
    c.prepare = get_prepare;
    c.begin = get_begin;
    c.data = get_data;
    c.check = get_check;
    c.arg = &g;
    r = call_run(&c);
    if (r == 0 && out)
        *out = g.object;
    else
        oss_object_free(&g.object);
    return call_end(&c, r, err);
}
