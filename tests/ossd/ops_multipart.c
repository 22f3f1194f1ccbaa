/* ops_multipart.c: multipart uploads: initiate, part, complete, abort, ListParts. UploadPartCopy is in ops_copy.c. */
#include "callback.h"
#include "crc.h"
#include "ops.h"
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PART_MIN  102400u
#define PART_MAX  (5ull << 30)
#define PARTS_MAX 10000

bool op_initiate_begin(struct request *rq)
{
    if (!ops_no_conditions(rq))
        return false;
    rq->model = object_new(rq->key);
    if (!ops_read_headers(rq, rq->model))
        return false;
    if (request_true(rq, "x-oss-forbid-overwrite")) {
        struct object *old = store_get(rq->server->store, rq->bucket, rq->key);
        object_unref(old);
        if (old)
            return reply_error(rq, "FileAlreadyExists", "Key", rq->key.p, NULL);
    }
    return true;
}

void op_initiate_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    char id[UPLOAD_ID_SIZE];
    bool url;

    if (!ops_wants_url(rq, &url))
        return;
    snprintf(id, sizeof id, "%016llX%016llX", (unsigned long long)random_u64(), (unsigned long long)random_u64());
    struct upload *upload = upload_new(object_ref(rq->model), id);
    upload->initiated = server_now(rq->server);
    upload->sequential = request_query(rq, "sequential") != NULL;
    upload->forbid_overwrite = request_true(rq, "x-oss-forbid-overwrite");
    int r = store_upload_add(rq->server->store, rq->bucket, upload);
    if (r) {
        reply_store_error(rq, r);
        return;
    }
    sbuf_adds(out, XML_HEAD "<InitiateMultipartUploadResult>");
    if (url)
        xml_add(out, "EncodingType", "url");
    xml_add(out, "Bucket", rq->bucket);
    xml_add_bytes(out, "Key", rq->key, url);
    xml_add(out, "UploadId", id);
    sbuf_adds(out, "</InitiateMultipartUploadResult>\n");
    reply_xml(rq);
}

/* ------------------------------------------------------------------------------------------------- parts */

bool op_upload_part_begin(struct request *rq)
{
    bool good = true;
    uint64_t number = ops_query_number(rq, "partNumber", 0, 1, PARTS_MAX, &good);

    if (!good)
        return false;
    if (!number)
        return reply_error(rq, "InvalidArgument", "ArgumentName", "partNumber", NULL);
    if (request_header(rq, "x-oss-server-side-encryption"))
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-server-side-encryption", NULL);
    if (!ops_no_conditions(rq) || !ops_need_length(rq, PART_MAX) || !ops_check_traffic(rq))
        return false;
    rq->upload = ops_find_upload(rq);
    return rq->upload != NULL;
}

static void reply_sequence(struct request *rq, int r, int number)
{
    struct part **parts;
    size_t n = store_upload_parts(rq->server->store, rq->upload, &parts);
    char text[16];

    snprintf(text, sizeof text, "%d", number);
    if (r == -EEXIST && (size_t)number <= n)
        reply_error(rq, "PartAlreadyExist", "PartNumber", text, "ETag", parts[number - 1]->etag, NULL);
    else
        reply_error(rq, "PartNotSequential", "PartNumber", text, NULL);
    parts_free(parts, n);
}

void op_upload_part_end(struct request *rq)
{
    uint64_t number = 0;
    struct object *body = object_new((struct bytes){"", 0});

    parse_u64(request_query(rq, "partNumber"), &number);
    if (!ops_take_body(rq, body))
        goto out;
    struct part *part = part_new((int)number);
    part->segments = body->segments;
    part->n_segments = body->n_segments;
    body->segments = NULL;
    body->n_segments = 0;
    part->size = body->size;
    part->crc = body->crc;
    memcpy(part->etag, body->etag, sizeof part->etag);
    part->mtime = server_now(rq->server);
    int r = store_upload_part(rq->server->store, rq->bucket, rq->upload, part);
    if (r == -EEXIST || r == -ERANGE) {
        reply_sequence(rq, r, (int)number);
        goto out;
    }
    if (r) {
        reply_error(rq, "NoSuchUpload", "UploadId", rq->upload->id, NULL);
        goto out;
    }
    reply_status(rq, 200);
    reply_etag(rq, body->etag);
    reply_crc(rq, body->crc, false);
    if (body->has_md5) {
        char *md5 = base64_encode(body->md5, 16);
        reply_header(rq, "Content-MD5", md5);
        free(md5);
    }
out:
    object_unref(body);
}

void op_list_parts_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    struct part **parts;
    bool url, good = true;
    uint64_t max = ops_query_number(rq, "max-parts", 1000, 1, 1000, &good);
    uint64_t marker = ops_query_number(rq, "part-number-marker", 0, 0, PARTS_MAX, &good);
    size_t i = 0, shown = 0;
    int last = 0;

    if (!good || !ops_wants_url(rq, &url) || !(rq->upload = ops_find_upload(rq)))
        return;
    size_t n = store_upload_parts(rq->server->store, rq->upload, &parts);
    struct sbuf items = {0};
    sbuf_adds(&items, "");
    while (i < n && parts[i]->number <= (int)marker)
        i++;
    for (; i < n && shown < max; i++, shown++) {
        char date[DATE_SIZE];
        date_iso(date, parts[i]->mtime);
        last = parts[i]->number;
        sbuf_adds(&items, "<Part>");
        xml_add_int(&items, "PartNumber", (uint64_t)last);
        xml_add(&items, "LastModified", date);
        sbuf_addf(&items, "<ETag>\"%s\"</ETag>", parts[i]->etag);
        xml_add_int(&items, "Size", parts[i]->size);
        xml_add_int(&items, "HashCrc64ecma", parts[i]->crc);
        sbuf_adds(&items, "</Part>");
    }
    const char *class = object_header(rq->upload->model, "x-oss-storage-class");
    sbuf_adds(out, XML_HEAD "<ListPartsResult>");
    if (url)
        xml_add(out, "EncodingType", "url");
    xml_add(out, "Bucket", rq->bucket);
    xml_add_bytes(out, "Key", rq->key, url);
    xml_add(out, "UploadId", rq->upload->id);
    xml_add(out, "StorageClass", class ? class : "Standard");
    xml_add_int(out, "PartNumberMarker", marker);
    xml_add_int(out, "NextPartNumberMarker", (uint64_t)last);
    xml_add_int(out, "MaxParts", max);
    xml_add(out, "IsTruncated", i < n ? "true" : "false");
    sbuf_add(out, items.p, items.n);
    sbuf_adds(out, "</ListPartsResult>\n");
    reply_xml(rq);
    sbuf_free(&items);
    parts_free(parts, n);
}

/* ---------------------------------------------------------------------------------------------- complete */

bool op_complete_begin(struct request *rq)
{
    enum acl acl;

    return ops_no_conditions(rq) && callback_check(rq) && ops_read_acl(rq, &acl);
}

/* The parts that the body names, each with a reference, out of all; false: the reply is made. */
static bool pick_parts(struct request *rq, struct part **all, size_t n_all, struct part ***picked, size_t *n)
{
    struct xml_part *listed = NULL;
    uint64_t last = 0;
    bool good = true;
    char text[24];

    *n = 0;
    *picked = NULL;
    if (xml_read_complete((struct bytes){rq->body.p, rq->body.n}, &listed, n) || *n == 0) {
        free(listed);
        *n = 0;
        return reply_error(rq, "MalformedXML", NULL);
    }
    size_t count = *n, at = 0;
    *n = 0;
    *picked = xcalloc(count, sizeof **picked);
    for (size_t i = 0; i < count && good; i++) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)listed[i].number);
        if (listed[i].number <= last || listed[i].number > PARTS_MAX) {
            good = reply_error(rq, "InvalidPartOrder", "UploadId", rq->upload->id, NULL);
            break;
        }
        last = listed[i].number;
        while (at < n_all && (uint64_t)all[at]->number < last)
            at++;
        if (at == n_all || (uint64_t)all[at]->number != last || strcmp(all[at]->etag, listed[i].etag))
            good = reply_error(rq, "InvalidPart", "UploadId", rq->upload->id, "PartNumber", text, NULL);
        else
            (*picked)[(*n)++] = part_ref(all[at]);
    }
    free(listed);
    return good;
}

static bool choose_parts(struct request *rq, struct part ***parts, size_t *n)
{
    const char *all_wanted = request_header(rq, "x-oss-complete-all");
    struct part **all;
    size_t n_all = store_upload_parts(rq->server->store, rq->upload, &all);
    bool good;

    if (all_wanted && strcmp(all_wanted, "yes") == 0) {
        *parts = all;
        *n = n_all;
        if (rq->received)
            return reply_error_message(rq, 0, "InvalidArgument", "x-oss-complete-all goes without a body.", NULL);
        return n_all > 0 || reply_error(rq, "InvalidPart", "UploadId", rq->upload->id, NULL);
    }
    good = pick_parts(rq, all, n_all, parts, n);
    parts_free(all, n_all);
    return good;
}

static bool check_sizes(struct request *rq, struct part **parts, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (parts[i]->size < PART_MIN) {
            char number[16], size[24];
            snprintf(number, sizeof number, "%d", parts[i]->number);
            snprintf(size, sizeof size, "%llu", (unsigned long long)parts[i]->size);
            return reply_error(rq, "EntityTooSmall", "ProposedSize", size, "MinSizeAllowed", "102400", "PartNumber",
                               number, "ETag", parts[i]->etag, NULL);
        }
    return true;
}

static struct object *assemble(struct request *rq, struct part **parts, size_t n)
{
    struct object *object = object_clone(rq->upload->model, rq->key);
    EVP_MD_CTX *md5 = EVP_MD_CTX_new();
    unsigned char digest[16];
    size_t segments = 0;

    for (size_t i = 0; i < n; i++)
        segments += parts[i]->n_segments;
    free(object->segments);
    object->segments = xcalloc(segments, sizeof *object->segments);
    EVP_DigestInit_ex(md5, EVP_md5(), NULL);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < parts[i]->n_segments; k++) {
            object->segments[object->n_segments] = parts[i]->segments[k];
            blob_ref(object->segments[object->n_segments++].blob);
        }
        object->crc = crc_combine(object->crc, parts[i]->crc, parts[i]->size);
        object->size += parts[i]->size;
        EVP_DigestUpdate(md5, parts[i]->etag, strlen(parts[i]->etag));
    }
    EVP_DigestFinal_ex(md5, digest, NULL);
    EVP_MD_CTX_free(md5);
    hex_upper(object->etag, digest, 16);
    snprintf(object->etag + 32, sizeof object->etag - 32, "-%zu", n);
    object->type = OBJECT_MULTIPART;
    return object;
}

static void reply_complete(struct request *rq, const struct object *object)
{
    struct sbuf *out = &rq->reply.body, location = {0};
    bool url = false;

    ops_wants_url(rq, &url);
    sbuf_addf(&location, "%s://%s/", rq->server->scheme, rq->host ? rq->host : "");
    escape_url(&location, rq->key, true);
    sbuf_adds(out, XML_HEAD "<CompleteMultipartUploadResult>");
    if (url)
        xml_add(out, "EncodingType", "url");
    xml_add(out, "Location", location.p);
    xml_add(out, "Bucket", rq->bucket);
    xml_add_bytes(out, "Key", rq->key, url);
    sbuf_addf(out, "<ETag>\"%s\"</ETag></CompleteMultipartUploadResult>\n", object->etag);
    reply_xml(rq);
    reply_etag(rq, object->etag);
    reply_crc(rq, object->crc, false);
    sbuf_free(&location);
}

/*
 * With --complete-delay the upload ends at once but the object appears later, whether or not the client is still
 * there: a repeat in between meets NoSuchUpload and an object that is not there yet.
 */
static int complete(struct request *rq, struct object *object)
{
    struct store *store = rq->server->store;
    bool forbid = rq->upload->forbid_overwrite || request_true(rq, "x-oss-forbid-overwrite");
    int64_t delay = rq->server->options.complete_delay_ms;
    struct store_put_opts opts = {.forbid_overwrite = forbid};

    if (!delay)
        return store_upload_complete(store, rq->bucket, rq->upload, object, forbid);
    int r = store_upload_remove(store, rq->bucket, rq->upload);
    if (r) {
        object_unref(object);
        return r;
    }
    if (rq->plan.fault.action == FAULT_LOST)
        shutdown(rq->socket, SHUT_RDWR);
    server_sleep(rq->server, delay);
    object->mtime = server_now(rq->server);
    return store_put(store, rq->bucket, object, &opts);
}

void op_complete_end(struct request *rq)
{
    struct part **parts = NULL;
    size_t n = 0;
    bool url;

    rq->upload = ops_find_upload(rq);
    if (!rq->upload || !ops_wants_url(rq, &url))
        return;
    if (!choose_parts(rq, &parts, &n) || !check_sizes(rq, parts, n))
        goto out;
    struct object *object = assemble(rq, parts, n);
    if (request_header(rq, "x-oss-object-acl"))
        ops_read_acl(rq, &object->acl);
    object->mtime = server_now(rq->server);
    object_ref(object);
    int r = complete(rq, object);
    if (r == -ENOENT)
        reply_error(rq, "NoSuchUpload", "UploadId", rq->upload->id, NULL);
    else if (r)
        reply_store_error(rq, r);
    else {
        reply_complete(rq, object);
        callback_run(rq, object);
    }
    object_unref(object);
out:
    parts_free(parts, n);
}

void op_abort_end(struct request *rq)
{
    rq->upload = ops_find_upload(rq);
    if (!rq->upload)
        return;
    if (store_upload_remove(rq->server->store, rq->bucket, rq->upload))
        reply_error(rq, "NoSuchUpload", "UploadId", rq->upload->id, NULL);
    else
        reply_status(rq, 204);
}
