/* ops_object.c: PutObject, AppendObject, symlinks, deletes, ACL and tags of an object. */
#include "callback.h"
#include "crc.h"
#include "ops.h"
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PUT_MAX (5ull << 30)

static void reply_stored(struct request *rq, const struct object *object)
{
    reply_status(rq, 200);
    reply_etag(rq, object->etag);
    reply_crc(rq, object->crc, false);
    if (object->has_md5) {
        char *md5 = base64_encode(object->md5, 16);
        reply_header(rq, "Content-MD5", md5);
        free(md5);
    }
    const char *encryption = object_header(object, "x-oss-server-side-encryption");
    if (encryption)
        reply_header(rq, "x-oss-server-side-encryption", encryption);
}

/* What all writes of a whole object check before the body comes. */
static bool begin_write(struct request *rq)
{
    if (!ops_no_conditions(rq))
        return false;
    rq->model = object_new(rq->key);
    if (!ops_read_headers(rq, rq->model) || !ops_check_traffic(rq))
        return false;
    if (request_true(rq, "x-oss-forbid-overwrite")) {
        struct object *old = store_get(rq->server->store, rq->bucket, rq->key);
        object_unref(old);
        if (old)
            return reply_error(rq, "FileAlreadyExists", "Key", rq->key.p, NULL);
    }
    return true;
}

/* Puts rq->model in its place; false: the reply is made. */
static bool put_model(struct request *rq)
{
    struct store_put_opts opts = {.forbid_overwrite = request_true(rq, "x-oss-forbid-overwrite")};

    rq->model->mtime = server_now(rq->server);
    int r = store_put(rq->server->store, rq->bucket, object_ref(rq->model), &opts);
    return r == 0 || reply_store_error(rq, r);
}

bool op_put_object_begin(struct request *rq)
{
    return ops_need_length(rq, PUT_MAX) && callback_check(rq) && begin_write(rq);
}

void op_put_object_end(struct request *rq)
{
    if (ops_take_body(rq, rq->model) && put_model(rq)) {
        reply_stored(rq, rq->model);
        callback_run(rq, rq->model);
    }
}

/* ---------------------------------------------------------------------------------------------- append */

bool op_append_begin(struct request *rq)
{
    uint64_t position;
    const char *text = request_query(rq, "position");

    if (!text || !*text)
        return reply_error(rq, "MissingArgument", "ArgumentName", "position", NULL);
    if (!parse_u64(text, &position))
        return reply_error(rq, "InvalidArgument", "ArgumentName", "position", "ArgumentValue", text, NULL);
    return ops_need_length(rq, PUT_MAX) && begin_write(rq);
}

static void wrong_position(struct request *rq, uint64_t length)
{
    reply_error(rq, "PositionNotEqualToLength", NULL);
    reply_headerf(rq, "x-oss-next-append-position", "%llu", (unsigned long long)length);
}

static bool can_append(struct request *rq, const struct object *old, uint64_t position)
{
    uint64_t length = old ? old->size : 0;

    if (old && old->type != OBJECT_APPENDABLE)
        return reply_error(rq, "ObjectNotAppendable", "Key", rq->key.p, NULL);
    if (length != position) {
        wrong_position(rq, length);
        return false;
    }
    if (length + rq->received > rq->server->options.append_max)
        return reply_error_message(rq, 0, "InvalidArgument", "The object would be too large to be appended to.",
                                   NULL);
    return true;
}

/* The version that holds the old bytes and the body. */
static struct object *appended(struct request *rq, struct object *old, int *r)
{
    struct object *next = object_clone(old ? old : rq->model, rq->key);
    struct segment *tail = next->n_segments ? &next->segments[next->n_segments - 1] : NULL, added;
    bool merged;
    unsigned char mark[8];
    uint64_t seed = random_u64();

    *r = spool_end(rq->spool, tail, &added, &merged);
    if (*r) {
        object_unref(next);
        return NULL;
    }
    if (merged) {
        blob_unref(tail->blob);
        *tail = added;
    } else if (added.length == 0) {
        blob_unref(added.blob);
    } else {
        next->segments = xrealloc(next->segments, (next->n_segments + 1) * sizeof added);
        next->segments[next->n_segments++] = added;
    }
    next->type = OBJECT_APPENDABLE;
    next->has_md5 = false;
    next->copied = false;
    next->crc = crc_combine(next->crc, rq->crc, rq->received);
    next->size += rq->received;
    memcpy(mark, &seed, sizeof mark);
    snprintf(next->etag, sizeof next->etag, "%016llX", (unsigned long long)next->crc);
    hex_upper(next->etag + 16, mark, sizeof mark);
    next->mtime = server_now(rq->server);
    return next;
}

void op_append_end(struct request *rq)
{
    struct object *old = store_get(rq->server->store, rq->bucket, rq->key), *next = NULL;
    uint64_t position = 0;
    int r = 0;

    parse_u64(request_query(rq, "position"), &position);
    if (!can_append(rq, old, position))
        goto out;
    if (!old || rq->received) {
        struct store_put_opts opts = {.tied = true, .expected = old};
        next = appended(rq, old, &r);
        if (next)
            r = store_put(rq->server->store, rq->bucket, object_ref(next), &opts);
    } else {
        next = object_ref(old); /* nothing to add: no change */
    }
    if (r == -ESTALE) { /* somebody else was faster */
        object_unref(old);
        old = store_get(rq->server->store, rq->bucket, rq->key);
        wrong_position(rq, old ? old->size : 0);
        goto out;
    }
    if (r) {
        reply_store_error(rq, r);
        goto out;
    }
    reply_status(rq, 200);
    reply_etag(rq, next->etag);
    reply_crc(rq, next->crc, false);
    reply_headerf(rq, "x-oss-next-append-position", "%llu", (unsigned long long)next->size);
out:
    object_unref(old);
    object_unref(next);
}

/* --------------------------------------------------------------------------------------------- symlinks */

bool op_put_symlink_begin(struct request *rq)
{
    const char *target = request_header(rq, "x-oss-symlink-target");
    struct sbuf raw = {0};
    bool good;

    if (!target || !*target)
        return reply_error(rq, "MissingArgument", "ArgumentName", "x-oss-symlink-target", NULL);
    if (!unescape_url(&raw, (struct bytes){target, strlen(target)}))
        good = reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-symlink-target", NULL);
    else
        good = ops_check_key(rq, (struct bytes){raw.p, raw.n}) && begin_write(rq);
    if (good)
        rq->model->target = xstrdup(raw.p);
    sbuf_free(&raw);
    return good;
}

void op_put_symlink_end(struct request *rq)
{
    struct object *link = rq->model;
    size_t n = strlen(link->target);
    unsigned char digest[16];

    EVP_Digest(link->target, n, digest, NULL, EVP_md5(), NULL);
    link->type = OBJECT_SYMLINK;
    link->size = n; /* what listings tell */
    link->crc = crc_update(0, link->target, n);
    ops_md5_etag(link->etag, digest);
    if (!put_model(rq))
        return;
    reply_status(rq, 200);
    reply_etag(rq, link->etag);
}

void op_get_symlink_end(struct request *rq)
{
    struct object *link = ops_find(rq);
    const char *name, *value = NULL;
    char date[DATE_SIZE];
    struct sbuf target = {0};

    if (!link)
        return;
    if (link->type != OBJECT_SYMLINK) {
        reply_error(rq, "NotSymlink", "Key", rq->key.p, NULL);
        goto out;
    }
    escape_url(&target, (struct bytes){link->target, strlen(link->target)}, false);
    date_http(date, link->mtime);
    reply_status(rq, 200);
    reply_header(rq, "x-oss-symlink-target", target.p);
    reply_etag(rq, link->etag);
    reply_header(rq, "Last-Modified", date);
    while ((value = object_next_header(link, value, &name)))
        if (strncmp(name, "x-oss-meta-", 11) == 0)
            reply_header(rq, name, value);
out:
    sbuf_free(&target);
    object_unref(link);
}

/* ---------------------------------------------------------------------------------------------- deletes */

void op_delete_end(struct request *rq)
{
    int r = store_remove(rq->server->store, rq->bucket, rq->key);

    if (r)
        reply_store_error(rq, r);
    else
        reply_status(rq, 204);
}

void op_delete_multiple_end(struct request *rq)
{
    struct xml_delete list = {0};
    struct sbuf *out = &rq->reply.body;
    bool url;
    int r = 0;

    if (!request_header(rq, "content-md5")) {
        reply_error(rq, "MissingArgument", "ArgumentName", "Content-MD5", NULL);
        return;
    }
    if (!ops_wants_url(rq, &url))
        return;
    if (xml_read_delete((struct bytes){rq->body.p, rq->body.n}, &list) || list.n > 1000) {
        reply_error(rq, "MalformedXML", NULL);
        goto out;
    }
    if (!list.quiet)
        sbuf_addf(out, XML_HEAD "<DeleteResult>%s", url ? "<EncodingType>url</EncodingType>" : "");
    for (size_t i = 0; i < list.n && !r; i++) {
        struct bytes key = {list.keys[i].p, list.keys[i].n};
        r = store_remove(rq->server->store, rq->bucket, key);
        if (list.quiet)
            continue;
        sbuf_adds(out, "<Deleted>");
        xml_add_bytes(out, "Key", key, url);
        sbuf_adds(out, "</Deleted>");
    }
    if (r) {
        reply_store_error(rq, r);
    } else if (list.quiet) {
        reply_status(rq, 200);
    } else {
        sbuf_adds(out, "</DeleteResult>\n");
        reply_xml(rq);
    }
out:
    xml_delete_free(&list);
}

/* ----------------------------------------------------------------------------------------- ACL and tags */

/* Changes a copy of the object with change() and puts it, again when somebody else was faster. */
static bool change_object(struct request *rq, void (*change)(struct object *object, void *arg), void *arg)
{
    int r = -ESTALE;

    while (r == -ESTALE) {
        struct object *old = ops_find(rq);
        if (!old)
            return false;
        struct store_put_opts opts = {.tied = true, .expected = old};
        struct object *next = object_clone(old, rq->key);
        change(next, arg);
        r = store_put(rq->server->store, rq->bucket, next, &opts);
        object_unref(old);
    }
    return r == 0 || reply_store_error(rq, r);
}

static void set_acl(struct object *object, void *arg)
{
    object->acl = *(enum acl *)arg;
}

void op_put_acl_end(struct request *rq)
{
    enum acl acl;

    if (!request_header(rq, "x-oss-object-acl"))
        reply_error(rq, "MissingArgument", "ArgumentName", "x-oss-object-acl", NULL);
    else if (ops_read_acl(rq, &acl) && change_object(rq, set_acl, &acl))
        reply_status(rq, 200);
}

void op_get_acl_end(struct request *rq)
{
    struct object *object = ops_find(rq);
    struct sbuf *out = &rq->reply.body;

    if (!object)
        return;
    sbuf_adds(out, XML_HEAD "<AccessControlPolicy>");
    ops_owner(out);
    sbuf_adds(out, "<AccessControlList>");
    xml_add(out, "Grant", acl_name(object->acl));
    sbuf_adds(out, "</AccessControlList></AccessControlPolicy>\n");
    reply_xml(rq);
    object_unref(object);
}

static void set_tags(struct object *object, void *arg)
{
    char *tags = arg;

    free(object->tags);
    object->tags = tags ? xstrdup(tags) : NULL;
}

void op_put_tagging_end(struct request *rq)
{
    struct pairs tags = {0};
    char *canonical = NULL;

    if (xml_read_tagging((struct bytes){rq->body.p, rq->body.n}, &tags))
        reply_error(rq, "MalformedXML", NULL);
    else if (ops_check_tags(rq, &tags, &canonical) && change_object(rq, set_tags, canonical))
        reply_status(rq, 200);
    free(canonical);
    pairs_free(&tags);
}

void op_delete_tagging_end(struct request *rq)
{
    if (change_object(rq, set_tags, NULL))
        reply_status(rq, 204);
}

void op_get_tagging_end(struct request *rq)
{
    struct object *object = ops_find(rq);
    struct sbuf *out = &rq->reply.body;

    if (!object)
        return;
    sbuf_adds(out, XML_HEAD "<Tagging><TagSet>");
    for (const char *p = object->tags; p && *p;) {
        size_t n = strcspn(p, "&"), name = strcspn(p, "=&");
        struct sbuf k = {0}, v = {0};
        unescape_url(&k, (struct bytes){p, name});
        if (name < n)
            unescape_url(&v, (struct bytes){p + name + 1, n - name - 1});
        sbuf_adds(out, "<Tag>");
        xml_add(out, "Key", k.p);
        xml_add(out, "Value", v.p ? v.p : "");
        sbuf_adds(out, "</Tag>");
        sbuf_free(&k);
        sbuf_free(&v);
        p += p[n] ? n + 1 : n;
    }
    sbuf_adds(out, "</TagSet></Tagging>\n");
    reply_xml(rq);
    object_unref(object);
}
