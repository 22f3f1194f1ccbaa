/*
 * client_multipart.c: multipart uploads.
 */
#include "client.h"

#include "base_time.h"
#include "cred.h"
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Waits before the looks at an object whose completion was not answered; the service may be at it still. */
static const int64_t look_after_ms[] = {0, 500, 1500, 3000};

static int check_initiate(struct call *c)
{
    int r = check_write(c);

    if (r == 0 && xml_read_initiate(buf_str(&c->reply.body), c->reply.body.len, c->arg) < 0)
        r = call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no InitiateMultipartUploadResult");
    return r;
}

int client_initiate(struct oss *oss, const char *key, const struct oss_put_opts *opts, char id[OSS_UPLOADID_SIZE],
                    struct oss_error *err)
{
    struct call c;

    id[0] = '\0';
    call_begin(&c, oss, OSS_OP_INITIATE, "POST", key);
    call_query(&c, "uploads", NULL);
    call_put_opts(&c, opts);
    c.md5_header = false;
    c.check = check_initiate;
    c.arg = id;
    return call_end(&c, call_run(&c), err);
}

static void part_query(struct call *c, const char *id, int number, char text[12])
{
    if (c->r == 0 && (number < 1 || number > OSS_PARTS_MAX))
        c->r = error_set(&c->err, -EINVAL, "part number %d", number);
    snprintf(text, 12, "%d", number);
    call_query(c, "partNumber", text);
    call_upload_id(c, id);
}

static int check_part(struct call *c)
{
    int r = check_write(c);

    /* Without it the upload cannot be completed. */
    if (r == 0 && !kv_get(&c->reply.headers, "etag"))
        r = call_fail(c, RETRY_SERVICE, -EIO, "a part without an ETag");
    return r;
}

int client_upload_part(struct oss *oss, const char *key, const char *id, int number, const struct oss_source *source,
                       struct oss_part *out, struct oss_error *err)
{
    struct call c;
    char text[12];
    int r;

    call_begin(&c, oss, OSS_OP_PART, "PUT", key);
    part_query(&c, id, number, text);
    call_headers(&c, source->headers);
    c.limits = c.client->transfer;
    c.source = source;
    c.crc_header = c.client->check_crc;
    c.md5_header = c.client->content_md5;
    c.check = check_part;
    r = call_run(&c);
    if (r == 0) {
        *out = (struct oss_part){.number = number, .size = source->size, .has_crc = c.crc_header, .crc64 = c.crc64};
        if (!out->has_crc)
            out->has_crc = reply_header_u64(&c.reply, "x-oss-hash-crc64ecma", &out->crc64);
        r = reply_etag(&c.reply, out->etag);
    }
    return call_end(&c, r, err);
}

/* -------------------------------------------------------------------------------------------- copy of a part */

struct part_copied {
    char range[64]; /* "bytes 0-99/", what Content-Range begins with */
    char etag[OSS_ETAG_SIZE];
};

static int check_part_copy(struct call *c)
{
    struct part_copied *copied = c->arg;
    const char *range = kv_get(&c->reply.headers, "content-range");
    time_t ignored;
    int r = check_write(c);

    if (r < 0)
        return r;
    if (range && strncmp(range, copied->range, strlen(copied->range)) != 0)
        return call_fail(c, RETRY_NEVER, -EIO, "another range was copied than was asked for");
    if (xml_read_copy(buf_str(&c->reply.body), c->reply.body.len, copied->etag, &ignored) < 0 || !*copied->etag)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no CopyPartResult");
    return 0;
}

int client_copy_part(struct oss *oss, const char *key, const char *id, int number, const char *from,
                     const char *if_match, uint64_t offset, uint64_t length, struct oss_part *out,
                     struct oss_error *err)
{
    struct part_copied copied = {0};
    struct buf source = BUF_INIT(8192);
    struct call c;
    char text[12], range[64];
    int r;

    call_begin(&c, oss, OSS_OP_PART_COPY, "PUT", key);
    if (c.r == 0 && (!from || !*from || !if_match || !*if_match || length == 0 || offset + length < offset))
        c.r = error_set(&c.err, -EINVAL, "a copied part needs a source, its ETag and a range");
    part_query(&c, id, number, text);
    if (c.r == 0) {
        if (url_copy_source(&source, c.client->bucket, from) < 0)
            c.r = error_set(&c.err, -ENOMEM, "out of memory");
        call_header(&c, "x-oss-copy-source", buf_str(&source));
        call_header_quoted(&c, "x-oss-copy-source-if-match", if_match);
        snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)offset,
                 (unsigned long long)(offset + length - 1));
        call_header(&c, "x-oss-copy-source-range", range);
        snprintf(copied.range, sizeof(copied.range), "bytes %llu-%llu/", (unsigned long long)offset,
                 (unsigned long long)(offset + length - 1));
    }
    buf_free(&source);
    c.limits = c.client->transfer;
    c.check = check_part_copy;
    c.arg = &copied;
    r = call_run(&c);
    if (r == 0) {
        *out = (struct oss_part){.number = number, .size = length};
        memcpy(out->etag, copied.etag, sizeof(out->etag));
        out->has_crc = reply_header_u64(&c.reply, "x-oss-hash-crc64ecma", &out->crc64);
    }
    return call_end(&c, r, err);
}

/* ------------------------------------------------------------------------------------------------- complete */

struct completion {
    uint64_t size;
    bool has_crc;
    uint64_t crc64;
    char etag[OSS_ETAG_SIZE];
    bool callback; /* the body is an application's */
};

static int check_complete(struct call *c)
{
    struct completion *want = c->arg;
    uint64_t crc;
    int r = check_write(c);

    if (r < 0)
        return r;
    if (!want->callback && xml_read_complete(buf_str(&c->reply.body), c->reply.body.len, want->etag) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no CompleteMultipartUploadResult");
    /* The repeat will meet NoSuchUpload, and then the object itself is asked. */
    if (want->has_crc && reply_header_u64(&c->reply, "x-oss-hash-crc64ecma", &crc) && crc != want->crc64)
        return call_fail(c, RETRY_CRC, -EIO, "the CRC-64 of the object (%llu) is not that of its parts (%llu)",
                         (unsigned long long)crc, (unsigned long long)want->crc64);
    return 0;
}

/*
 * A try was lost and the upload is gone: completed, or aborted by someone. Looks at the object, a few times. 0 with
 * `out` filled when it is ours, else a negative errno.
 */
static int complete_landed(struct call *c, struct oss_object *out)
{
    const struct completion *want = c->arg;
    struct http *http = c->client->http;
    int r = -EIO;

    for (size_t i = 0; i < sizeof(look_after_ms) / sizeof(*look_after_ms); i++) {
        bool ours;

        if (http_sleep(http, look_after_ms[i]))
            return error_set(&c->err, -ECANCELED, "stopped");
        r = client_head(&c->client->oss, c->key, out, &c->err);
        if (r == -ENOENT)
            continue;
        if (r < 0)
            return r;
        ours = out->size == want->size && out->type == OSS_TYPE_MULTIPART &&
               (!want->has_crc || !out->has_crc || out->crc64 == want->crc64);
        if (ours)
            return 0;
        oss_object_free(out);
    }
    return error_set(&c->err, -EIO, "the upload is gone, and the object is not what it should have made");
}

static void complete_body(struct call *c, const struct oss_part *parts, size_t n)
{
    if (!parts) {
        call_header(c, "x-oss-complete-all", "yes");
        return;
    }
    if (n == 0 || n > OSS_PARTS_MAX) {
        if (c->r == 0)
            c->r = error_set(&c->err, -EINVAL, "%zu parts", n);
        return;
    }
    xml_write_complete(&c->text, parts, n);
    call_text_body(c);
    c->md5_header = true;
}

int client_complete(struct oss *oss, const char *key, const char *id, const struct oss_part *parts, size_t n,
                    uint64_t size, bool has_crc, uint64_t crc64, const struct oss_put_opts *opts,
                    struct oss_object *out, struct oss_error *err)
{
    struct completion want = {.size = size, .has_crc = has_crc && client_of(oss)->check_crc, .crc64 = crc64};
    struct oss_object object;
    struct call c;
    int r;

    call_begin(&c, oss, OSS_OP_COMPLETE, "POST", key);
    call_upload_id(&c, id);
    call_put_opts(&c, opts);
    want.callback = call_callback(&c);
    c.limits = c.client->transfer;
    complete_body(&c, parts, n);
    c.check = check_complete;
    c.arg = &want;
    r = call_run(&c);
    if (r == -ENOENT && c.err.ambiguous && strcmp(c.err.code, "NoSuchBucket") != 0) {
        r = complete_landed(&c, &object);
        if (r == 0 && out)
            *out = object;
        else if (r == 0)
            oss_object_free(&object);
    } else if (r == 0 && out) {
        r = reply_written(&c.reply, size, out);
        if (!*out->etag)
            memcpy(out->etag, want.etag, sizeof(out->etag));
    }
    if (r == 0)
        r = callback_result(&c, out);
    if (r == 0 && out)
        out->type = OSS_TYPE_MULTIPART;
    return call_end(&c, r, err);
}

int client_abort(struct oss *oss, const char *key, const char *id, struct oss_error *err)
{
    struct call c;
    int r;

    call_begin(&c, oss, OSS_OP_ABORT, "DELETE", key);
    call_upload_id(&c, id);
    c.success[0] = 204;
    c.success[1] = 200;
    c.check = check_write;
    r = call_run(&c);
    if (r == -ENOENT && strcmp(c.err.code, "NoSuchUpload") == 0)
        r = 0;
    return call_end(&c, r, err);
}

/* ---------------------------------------------------------------------------------------------------- lists */

static int check_parts(struct call *c)
{
    int r = xml_read_parts(buf_str(&c->reply.body), c->reply.body.len, c->arg);

    return r < 0 ? call_fail(c, RETRY_SERVICE, r, "a reply that is no ListPartsResult") : 0;
}

int client_list_parts(struct oss *oss, const char *key, const char *id, int after, struct oss_part_list *out,
                      struct oss_error *err)
{
    struct call c;
    char marker[12];

    *out = (struct oss_part_list){0};
    snprintf(marker, sizeof(marker), "%d", after);
    call_begin(&c, oss, OSS_OP_LIST_PARTS, "GET", key);
    call_upload_id(&c, id);
    call_query(&c, "max-parts", "1000");
    if (after > 0)
        call_query(&c, "part-number-marker", marker);
    call_query(&c, "encoding-type", "url");
    c.collect_max = XML_LIST_MAX;
    c.check = check_parts;
    c.arg = out;
    return call_end(&c, call_run(&c), err);
}

static int check_uploads(struct call *c)
{
    int r = xml_read_uploads(buf_str(&c->reply.body), c->reply.body.len, c->arg);

    return r < 0 ? call_fail(c, RETRY_SERVICE, r, "a reply that is no ListMultipartUploadsResult") : 0;
}

int client_list_uploads(struct oss *oss, const char *prefix, const char *key_marker, const char *id_marker,
                        struct oss_upload_list *out, struct oss_error *err)
{
    struct call c;

    *out = (struct oss_upload_list){0};
    call_begin_bucket(&c, oss, OSS_OP_LIST_UPLOADS, "GET");
    call_query(&c, "uploads", NULL);
    call_query(&c, "max-uploads", "1000");
    call_query(&c, "encoding-type", "url");
    if (prefix && *prefix)
        call_query(&c, "prefix", prefix);
    if (key_marker && *key_marker)
        call_query(&c, "key-marker", key_marker);
    if (id_marker && *id_marker)
        call_query(&c, "upload-id-marker", id_marker);
    c.collect_max = XML_LIST_MAX;
    c.check = check_uploads;
    c.arg = out;
    return call_end(&c, call_run(&c), err);
}
