/* ops_copy.c: CopyObject and UploadPartCopy. No byte is moved: the copy refers to the same blobs. */
#include "crc.h"
#include "ops.h"
#include "xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PART_MAX (5ull << 30)

static bool directive(struct request *rq, const char *name, bool *replace)
{
    const char *value = request_header(rq, name);

    *replace = value && strcasecmp(value, "REPLACE") == 0;
    if (value && !*replace && strcasecmp(value, "COPY"))
        return reply_error(rq, "InvalidArgument", "ArgumentName", name, "ArgumentValue", value, NULL);
    return true;
}

bool op_copy_begin(struct request *rq)
{
    bool replace;

    rq->model = object_new(rq->key);
    return ops_no_conditions(rq) && directive(rq, "x-oss-metadata-directive", &replace) &&
           directive(rq, "x-oss-tagging-directive", &replace) && ops_read_headers(rq, rq->model);
}

/* Whether storage class or encryption of the request differ from the source's: then bytes move in the service. */
static bool moves_bytes(const struct object *source, const struct object *model)
{
    static const char *const names[][2] = {{"x-oss-storage-class", "Standard"}, {"x-oss-server-side-encryption", ""}};

    for (int i = 0; i < 2; i++) {
        const char *a = object_header(source, names[i][0]), *b = object_header(model, names[i][0]);
        if (strcmp(a ? a : names[i][1], b ? b : names[i][1]))
            return true;
    }
    return false;
}

static bool may_copy(struct request *rq, const struct object *source, bool self)
{
    const struct options *o = &rq->server->options;

    if (source->type == OBJECT_APPENDABLE && !self && !o->appendable_copy)
        return reply_error_message(rq, 0, "OperationNotSupported", "An appendable object cannot be copied.", NULL);
    if (source->size > o->copy_max && !(self && !moves_bytes(source, rq->model)))
        return reply_error(rq, "EntityTooLarge", NULL);
    return true;
}

/* The metadata of the source without its encryption, and with the class of the request if it has one. */
static void inherit_headers(struct object *copy, const struct object *source, const struct object *model)
{
    const char *class = object_header(model, "x-oss-storage-class"), *name, *value = NULL;
    struct pairs headers = {0};

    while ((value = object_next_header(source, value, &name)))
        if (strncmp(name, "x-oss-server-side-", 18) && !(class && strcmp(name, "x-oss-storage-class") == 0))
            pairs_add(&headers, name, value);
    if (class)
        pairs_add(&headers, "x-oss-storage-class", class);
    for (value = NULL; (value = object_next_header(model, value, &name));)
        if (strncmp(name, "x-oss-server-side-", 18) == 0)
            pairs_add(&headers, name, value);
    object_set_headers(copy, &headers);
    pairs_free(&headers);
}

static struct object *make_copy(struct request *rq, const struct object *source, bool self)
{
    struct object *copy = object_clone(source, rq->key);
    bool replace = false, replace_tags = false;

    directive(rq, "x-oss-metadata-directive", &replace);
    directive(rq, "x-oss-tagging-directive", &replace_tags);
    copy->acl = rq->model->acl;
    copy->copied = !self;
    copy->mtime = server_now(rq->server);
    if (copy->type == OBJECT_APPENDABLE && !self)
        copy->type = OBJECT_NORMAL;
    if (replace || self) {
        copy->headers_n = rq->model->headers_n;
        free(copy->headers);
        copy->headers = xmemdup(rq->model->headers, rq->model->headers_n);
    } else {
        inherit_headers(copy, source, rq->model);
    }
    if (replace_tags) {
        free(copy->tags);
        copy->tags = rq->model->tags ? xstrdup(rq->model->tags) : NULL;
    }
    return copy;
}

static void reply_copy(struct request *rq, const char *root, const char *etag, time_t mtime)
{
    struct sbuf *out = &rq->reply.body;
    char date[DATE_SIZE];

    date_iso(date, mtime);
    sbuf_addf(out, XML_HEAD "<%s>", root);
    xml_add(out, "LastModified", date);
    sbuf_addf(out, "<ETag>\"%s\"</ETag></%s>\n", etag, root);
    reply_xml(rq);
    reply_etag(rq, etag);
}

void op_copy_end(struct request *rq)
{
    bool same_bucket = false;
    struct object *source = ops_copy_source(rq, &same_bucket), *copy;
    struct store_put_opts opts = {.forbid_overwrite = request_true(rq, "x-oss-forbid-overwrite")};

    if (!source)
        return;
    bool self = same_bucket && bytes_compare(source->key, rq->key) == 0;
    if (!may_copy(rq, source, self))
        goto out;
    copy = make_copy(rq, source, self);
    if (self) { /* an append in between must not be undone */
        opts.tied = true;
        opts.expected = source;
    }
    int r = store_put(rq->server->store, rq->bucket, object_ref(copy), &opts);
    if (r) {
        reply_store_error(rq, r);
    } else {
        reply_copy(rq, "CopyObjectResult", copy->etag, copy->mtime);
        reply_crc(rq, copy->crc, true);
    }
    object_unref(copy);
out:
    object_unref(source);
}

/* ------------------------------------------------------------------------------------------ UploadPartCopy */

static bool copy_range(struct request *rq, const struct object *source, uint64_t *offset, uint64_t *length)
{
    const char *text = request_header(rq, "x-oss-copy-source-range");
    unsigned long long first, last;
    int end = 0;

    *offset = 0;
    *length = source->size;
    if (text) {
        if (sscanf(text, "bytes=%llu-%llu%n", &first, &last, &end) != 2 || text[end] || first > last ||
            last >= source->size)
            return reply_error(rq, "InvalidRange", NULL);
        *offset = first;
        *length = last - first + 1;
        reply_headerf(rq, "Content-Range", "bytes %llu-%llu/%llu", first, last, (unsigned long long)source->size);
    }
    if (*length > PART_MAX)
        return reply_error(rq, "EntityTooLarge", NULL);
    return true;
}

/* The CRC of part of the source, read; -1 when it cannot be. */
static int crc_of(const struct segment *segments, size_t n, uint64_t *crc)
{
    struct reader *reader = reader_new(segments, n);
    char *buffer = xmalloc(256 << 10);
    uint64_t at = 0;
    ssize_t got;

    *crc = 0;
    while ((got = reader_read(reader, at, buffer, 256 << 10)) > 0) {
        *crc = crc_update(*crc, buffer, (size_t)got);
        at += (uint64_t)got;
    }
    free(buffer);
    reader_free(reader);
    return got < 0 ? -1 : 0;
}

static struct part *copied_part(struct request *rq, const struct object *source, int number)
{
    uint64_t offset, length;

    if (source->type == OBJECT_APPENDABLE && !rq->server->options.appendable_copy) {
        reply_error_message(rq, 0, "OperationNotSupported", "An appendable object cannot be copied.", NULL);
        return NULL;
    }
    if (source->type == OBJECT_SYMLINK) {
        reply_error(rq, "InvalidTargetType", NULL);
        return NULL;
    }
    if (!copy_range(rq, source, &offset, &length))
        return NULL;
    struct part *part = part_new(number);
    part->n_segments = segments_slice(source->segments, source->n_segments, offset, length, &part->segments);
    part->size = length;
    part->mtime = server_now(rq->server);
    if (length == source->size) {
        part->crc = source->crc;
    } else if (crc_of(part->segments, part->n_segments, &part->crc)) {
        reply_error(rq, "InternalError", NULL);
        part_unref(part);
        return NULL;
    }
    ops_opaque_etag(part->etag, part->crc, length);
    return part;
}

void op_upload_part_copy_end(struct request *rq)
{
    bool same_bucket, good = true;
    int number = (int)ops_query_number(rq, "partNumber", 0, 1, 10000, &good);
    struct object *source = NULL;

    if (!good)
        return;
    if (!number) {
        reply_error(rq, "InvalidArgument", "ArgumentName", "partNumber", NULL);
        return;
    }
    rq->upload = ops_find_upload(rq);
    if (rq->upload)
        source = ops_copy_source(rq, &same_bucket);
    struct part *part = source ? copied_part(rq, source, number) : NULL;
    if (part) {
        part_ref(part);
        int r = store_upload_part(rq->server->store, rq->bucket, rq->upload, part);
        if (r) {
            reply_error(rq, "NoSuchUpload", "UploadId", rq->upload->id, NULL);
        } else {
            reply_copy(rq, "CopyPartResult", part->etag, part->mtime);
            reply_crc(rq, part->crc, false);
        }
        part_unref(part);
    }
    object_unref(source);
}
