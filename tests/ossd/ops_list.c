/* ops_list.c: ListObjects (both versions) and ListMultipartUploads. */
#include "ops.h"
#include "xml.h"

#include <stdlib.h>
#include <string.h>

static struct bytes query_bytes(struct request *rq, const char *name)
{
    const char *text = request_query(rq, name);

    return text ? (struct bytes){text, strlen(text)} : (struct bytes){"", 0};
}

static bool short_enough(struct request *rq, const char *name)
{
    const char *text = request_query(rq, name);

    if (text && strlen(text) >= 1024)
        return reply_error(rq, "InvalidArgument", "ArgumentName", name, "ArgumentValue", text, NULL);
    return true;
}

static bool delimiter_legal(struct request *rq)
{
    struct bytes d = query_bytes(rq, "delimiter");
    size_t first = 1;

    while (first < d.n && ((unsigned char)d.p[first] & 0xc0) == 0x80)
        first++;
    if (d.n > first)
        return reply_error(rq, "InvalidArgument", "ArgumentName", "delimiter", "ArgumentValue", d.p, NULL);
    return true;
}

static void add_prefixes(struct sbuf *out, char **prefixes, const size_t *sizes, size_t n, bool url)
{
    for (size_t i = 0; i < n; i++) {
        sbuf_adds(out, "<CommonPrefixes>");
        xml_add_bytes(out, "Prefix", (struct bytes){prefixes[i], sizes[i]}, url);
        sbuf_adds(out, "</CommonPrefixes>");
    }
}

static void add_contents(struct sbuf *out, const struct store_list *list, bool url, bool owner)
{
    for (size_t i = 0; i < list->n_objects; i++) {
        const struct object *o = list->objects[i];
        const char *class = object_header(o, "x-oss-storage-class");
        char date[DATE_SIZE];
        date_iso(date, o->mtime);
        sbuf_adds(out, "<Contents>");
        xml_add_bytes(out, "Key", o->key, url);
        xml_add(out, "LastModified", date);
        sbuf_addf(out, "<ETag>\"%s\"</ETag>", o->etag);
        xml_add(out, "Type", object_type_name(o->type));
        xml_add_int(out, "Size", o->size);
        xml_add(out, "StorageClass", class ? class : "Standard");
        if (owner)
            ops_owner(out);
        sbuf_adds(out, "</Contents>");
    }
}

/* ---------------------------------------------------------------------------------- continuation tokens */

/* A record of one field, the last key, in base64 with '-' for '='. */
static char *make_token(const struct sbuf *last)
{
    struct sbuf record = {0};
    size_t n = last->n;

    sbuf_addc(&record, 0x0a);
    for (; n >= 128; n >>= 7)
        sbuf_addc(&record, (char)(n | 128));
    sbuf_addc(&record, (char)n);
    sbuf_add(&record, last->p, last->n);
    char *token = base64_encode(record.p, record.n);
    for (char *p = token; *p; p++)
        if (*p == '=')
            *p = '-';
    sbuf_free(&record);
    return token;
}

static bool read_token(const char *token, struct sbuf *key)
{
    size_t size = strlen(token) + 4, n = 0, at = 1;
    char *text = xstrdup(token);
    unsigned char *record = xmalloc(size);
    int shift = 0;

    for (char *p = text; *p; p++)
        if (*p == '-')
            *p = '=';
    int got = base64_decode(record, size, text);
    bool good = got >= 2 && record[0] == 0x0a;
    while (good && at < (size_t)got && shift < 28) {
        unsigned char c = record[at++];
        n |= (size_t)(c & 127) << shift;
        shift += 7;
        if (!(c & 128))
            break;
    }
    good = good && at + n == (size_t)got;
    if (good)
        sbuf_add(key, record + at, n);
    free(record);
    free(text);
    return good;
}

/* ------------------------------------------------------------------------------------------- ListObjects */

/* What both versions read; false: the reply is made. */
static bool read_list(struct request *rq, struct store_list *list, bool *url)
{
    bool good = true;

    list->max = ops_query_number(rq, "max-keys", 100, 1, 1000, &good);
    list->prefix = query_bytes(rq, "prefix");
    list->delimiter = query_bytes(rq, "delimiter");
    return good && ops_wants_url(rq, url) && short_enough(rq, "prefix") && short_enough(rq, "marker") &&
           short_enough(rq, "start-after") && delimiter_legal(rq);
}

void op_list_v2_end(struct request *rq)
{
    const char *token = request_query(rq, "continuation-token"), *owner = request_query(rq, "fetch-owner");
    const char *start = request_query(rq, "start-after");
    struct sbuf *out = &rq->reply.body, after = {0};
    struct store_list list = {0};
    char *next = NULL;
    bool url;

    if (!read_list(rq, &list, &url))
        return;
    if (token && !*token)
        token = NULL;
    if (token && !read_token(token, &after)) {
        reply_error(rq, "InvalidArgument", "ArgumentName", "continuation-token", "ArgumentValue", token, NULL);
        goto out;
    }
    list.after = token ? (struct bytes){after.p, after.n} : query_bytes(rq, "start-after");
    if (store_list(rq->server->store, rq->bucket, &list)) {
        reply_error(rq, "NoSuchBucket", NULL);
        goto out;
    }
    sbuf_adds(out, XML_HEAD "<ListBucketResult>");
    xml_add(out, "Name", rq->bucket);
    xml_add_bytes(out, "Prefix", list.prefix, url);
    if (start && *start)
        xml_add_bytes(out, "StartAfter", query_bytes(rq, "start-after"), url);
    if (token)
        xml_add_bytes(out, "ContinuationToken", query_bytes(rq, "continuation-token"), url);
    xml_add_int(out, "MaxKeys", list.max);
    xml_add_bytes(out, "Delimiter", list.delimiter, url);
    if (url)
        xml_add(out, "EncodingType", "url");
    xml_add(out, "IsTruncated", list.truncated ? "true" : "false");
    if (list.truncated) {
        next = make_token(&list.last);
        xml_add_bytes(out, "NextContinuationToken", (struct bytes){next, strlen(next)}, url);
    }
    add_contents(out, &list, url, owner && strcmp(owner, "true") == 0);
    add_prefixes(out, list.prefixes, list.prefix_sizes, list.n_prefixes, url);
    xml_add_int(out, "KeyCount", list.n_objects + list.n_prefixes);
    sbuf_adds(out, "</ListBucketResult>\n");
    reply_xml(rq);
out:
    free(next);
    sbuf_free(&after);
    store_list_free(&list);
}

void op_list_v1_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    struct store_list list = {0};
    bool url;

    if (!read_list(rq, &list, &url))
        return;
    list.after = query_bytes(rq, "marker");
    if (store_list(rq->server->store, rq->bucket, &list)) {
        reply_error(rq, "NoSuchBucket", NULL);
        goto out;
    }
    sbuf_adds(out, XML_HEAD "<ListBucketResult>");
    xml_add(out, "Name", rq->bucket);
    xml_add_bytes(out, "Prefix", list.prefix, url);
    xml_add_bytes(out, "Marker", list.after, url);
    xml_add_int(out, "MaxKeys", list.max);
    xml_add_bytes(out, "Delimiter", list.delimiter, url);
    if (url)
        xml_add(out, "EncodingType", "url");
    xml_add(out, "IsTruncated", list.truncated ? "true" : "false");
    if (list.truncated)
        xml_add_bytes(out, "NextMarker", (struct bytes){list.last.p, list.last.n}, url);
    add_contents(out, &list, url, true);
    add_prefixes(out, list.prefixes, list.prefix_sizes, list.n_prefixes, url);
    sbuf_adds(out, "</ListBucketResult>\n");
    reply_xml(rq);
out:
    store_list_free(&list);
}

/* --------------------------------------------------------------------------------- ListMultipartUploads */

static void add_uploads(struct sbuf *out, const struct store_upload_list *list, bool url)
{
    for (size_t i = 0; i < list->n_uploads; i++) {
        const struct upload *u = list->uploads[i];
        const char *class = object_header(u->model, "x-oss-storage-class");
        char date[DATE_SIZE];
        date_iso(date, u->initiated);
        sbuf_adds(out, "<Upload>");
        xml_add_bytes(out, "Key", u->model->key, url);
        xml_add(out, "UploadId", u->id);
        xml_add(out, "StorageClass", class ? class : "Standard");
        xml_add(out, "Initiated", date);
        sbuf_adds(out, "</Upload>");
    }
}

void op_list_uploads_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    struct store_upload_list list = {0};
    bool url, good = true;

    list.max = ops_query_number(rq, "max-uploads", 1000, 1, 1000, &good);
    list.prefix = query_bytes(rq, "prefix");
    list.delimiter = query_bytes(rq, "delimiter");
    list.key_marker = query_bytes(rq, "key-marker");
    if (list.key_marker.n)
        list.id_marker = request_query(rq, "upload-id-marker");
    if (!good || !ops_wants_url(rq, &url) || !short_enough(rq, "prefix") || !short_enough(rq, "key-marker") ||
        !delimiter_legal(rq))
        return;
    if (store_list_uploads(rq->server->store, rq->bucket, &list)) {
        reply_error(rq, "NoSuchBucket", NULL);
        goto out;
    }
    sbuf_adds(out, XML_HEAD "<ListMultipartUploadsResult>");
    if (url)
        xml_add(out, "EncodingType", "url");
    xml_add(out, "Bucket", rq->bucket);
    xml_add_bytes(out, "KeyMarker", list.key_marker, url);
    xml_add(out, "UploadIdMarker", list.id_marker ? list.id_marker : "");
    xml_add_bytes(out, "NextKeyMarker", (struct bytes){list.last_key.p, list.truncated ? list.last_key.n : 0}, url);
    xml_add(out, "NextUploadIdMarker", list.truncated ? list.last_id : "");
    xml_add_bytes(out, "Delimiter", list.delimiter, url);
    xml_add_bytes(out, "Prefix", list.prefix, url);
    xml_add_int(out, "MaxUploads", list.max);
    xml_add(out, "IsTruncated", list.truncated ? "true" : "false");
    add_uploads(out, &list, url);
    add_prefixes(out, list.prefixes, list.prefix_sizes, list.n_prefixes, url);
    sbuf_adds(out, "</ListMultipartUploadsResult>\n");
    reply_xml(rq);
out:
    store_upload_list_free(&list);
}
