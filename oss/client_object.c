/*
 * client_object.c: the operations on one object.
 *
 * After a lost reply the repeat of a guarded request meets what the first try has done. Then the object is asked,
 * and believed to be ours when it is what we sent and no older than the operation.
 */
#include "client.h"

#include "base_time.h"
#include "cred.h"
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------------- HEAD */

static int check_head(struct call *c)
{
    uint64_t size;
    char etag[OSS_ETAG_SIZE];

    if (!kv_get(&c->reply.headers, "x-oss-request-id"))
        return call_fail(c, RETRY_SERVICE, -EIO, "a success without x-oss-request-id is not the service's own");
    if (!reply_header_u64(&c->reply, "content-length", &size))
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply without a length");
    if (reply_etag(&c->reply, etag) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "an ETag that is too long");
    return 0;
}

int client_head(struct oss *oss, const char *key, struct oss_object *out, struct oss_error *err)
{
    struct call c;
    int r;

    call_begin(&c, oss, OSS_OP_HEAD, "HEAD", key);
    c.check = check_head;
    r = call_run(&c);
    if (r == 0)
        r = reply_object(&c.reply, out);
    if (r == 0)
        reply_header_u64(&c.reply, "content-length", &out->size);
    return call_end(&c, r, err);
}

/* Whether an object that HEAD has just described may have been made by an operation begun at `began_ms`. */
static bool made_since(const struct oss_object *object, int64_t began_ms)
{
    int64_t age = object->date - object->last_modified;

    /* Both times are the service's, in whole seconds. */
    return object->date && object->last_modified && age <= (clock_ms() - began_ms) / 1000 + 2;
}

/* ----------------------------------------------------------------------------------------------------- PUT */

/* The key exists after a try of ours was lost: is it our object? On true `now` is filled. */
static bool put_landed(struct call *c, struct oss_object *now)
{
    bool ours;

    if (client_head(&c->client->oss, c->key, now, NULL) < 0)
        return false;
    ours = now->size == c->source->size && now->has_crc && now->crc64 == c->crc64 && now->type == OSS_TYPE_NORMAL &&
           made_since(now, c->began_ms);
    if (!ours)
        oss_object_free(now);
    return ours;
}

int client_put(struct oss *oss, const char *key, const struct oss_source *source, const struct oss_put_opts *opts,
               struct oss_object *out, struct oss_error *err)
{
    struct oss_object landed;
    struct call c;
    bool forbid = opts && opts->forbid_overwrite;
    int r;

    call_begin(&c, oss, OSS_OP_PUT, "PUT", key);
    call_put_opts(&c, opts);
    call_callback(&c);
    c.limits = c.client->transfer;
    c.source = source;
    c.crc_header = c.client->check_crc || forbid;
    c.md5_header |= c.client->content_md5;
    c.check = check_write;
    r = call_run(&c);
    if (r == -EEXIST && forbid && c.err.ambiguous && put_landed(&c, &landed)) {
        r = 0;
        if (out)
            *out = landed;
        else
            oss_object_free(&landed);
    } else if (r == 0 && out) {
        r = reply_written(&c.reply, source->size, out);
        if (c.crc_header) {
            out->has_crc = true;
            out->crc64 = c.crc64;
        }
    }
    if (r == 0)
        r = callback_result(&c, out);
    return call_end(&c, r, err);
}

/* -------------------------------------------------------------------------------------------------- APPEND */

static int check_append(struct call *c)
{
    const uint64_t *position = c->arg;
    uint64_t next, crc;
    int r = check_write(c);

    if (r < 0)
        return r;
    if (!reply_header_u64(&c->reply, "x-oss-next-append-position", &next))
        return call_fail(c, RETRY_NEVER, -EIO, "a reply without the next position");
    if (next != *position + c->source->size)
        return call_fail(c, RETRY_NEVER, -EIO, "the next position is %llu, not %llu", (unsigned long long)next,
                         (unsigned long long)(*position + c->source->size));
    /* Further on, the CRC of what was there before is the caller's to know. */
    if (*position == 0 && c->client->check_crc && reply_header_u64(&c->reply, "x-oss-hash-crc64ecma", &crc) &&
        crc != c->crc64)
        return call_fail(c, RETRY_NEVER, -EIO, "the CRC-64 of what was stored is not that of what was sent");
    return 0;
}

int client_append(struct oss *oss, const char *key, uint64_t position, const struct oss_source *source,
                  const struct oss_put_opts *opts, struct oss_object *out, struct oss_error *err)
{
    struct call c;
    char number[24];
    int r;

    snprintf(number, sizeof(number), "%llu", (unsigned long long)position);
    call_begin(&c, oss, OSS_OP_APPEND, "POST", key);
    call_query(&c, "append", NULL);
    call_query(&c, "position", number);
    call_put_opts(&c, opts);
    c.limits = c.client->transfer;
    c.source = source;
    c.md5_header = true;
    c.once = true;
    c.check = check_append;
    c.arg = &position;
    r = call_run(&c);
    if (r == 0 && out) {
        r = reply_written(&c.reply, position + source->size, out);
        out->type = OSS_TYPE_APPENDABLE;
        out->append_position = (int64_t)out->size;
    }
    return call_end(&c, r, err);
}

/* ---------------------------------------------------------------------------------------------------- COPY */

struct copied {
    char etag[OSS_ETAG_SIZE];
    time_t last_modified;
};

static int check_copy(struct call *c)
{
    struct copied *copied = c->arg;
    int r = check_write(c);

    if (r < 0)
        return r;
    if (xml_read_copy(buf_str(&c->reply.body), c->reply.body.len, copied->etag, &copied->last_modified) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no CopyObjectResult");
    return 0;
}

static bool same_bytes(const struct oss_object *a, const struct oss_object *b)
{
    if (a->size != b->size)
        return false;
    if (a->has_crc && b->has_crc)
        return a->crc64 == b->crc64;
    return *a->etag && strcmp(a->etag, b->etag) == 0;
}

/* The guard refuses a repeat: was it the lost try that changed what is guarded? On true `target` is filled. */
static bool copy_landed(struct call *c, const char *from, const struct oss_copy_opts *opts, struct oss_object *target)
{
    struct oss_object source;
    bool ours;

    if (client_head(&c->client->oss, c->key, target, NULL) < 0)
        return false;
    ours = made_since(target, c->began_ms);
    if (ours && opts->replace) {
        ours = object_carries(target, opts->headers);
    } else if (ours && (!opts->if_match || strcmp(opts->if_match, target->etag) != 0)) {
        ours = strcmp(from, c->key) != 0 && client_head(&c->client->oss, from, &source, NULL) == 0;
        if (ours) {
            ours = same_bytes(&source, target);
            oss_object_free(&source);
        }
    }
    if (!ours)
        oss_object_free(target);
    return ours;
}

static void copy_headers(struct call *c, const char *from, const struct oss_copy_opts *opts)
{
    struct buf source = BUF_INIT(8192);

    if (url_copy_source(&source, c->client->bucket, from) < 0)
        c->r = c->r ? c->r : error_set(&c->err, -ENOMEM, "out of memory");
    call_header(c, "x-oss-copy-source", buf_str(&source));
    buf_free(&source);
    call_header(c, "x-oss-metadata-directive", opts->replace ? "REPLACE" : "COPY");
    if (opts->if_match)
        call_header_quoted(c, "x-oss-copy-source-if-match", opts->if_match);
    if (opts->if_unmodified_since) {
        char date[HTTP_DATE_SIZE];

        http_date_format(date, opts->if_unmodified_since);
        call_header(c, "x-oss-copy-source-if-unmodified-since", date);
    }
    if (opts->forbid_overwrite)
        call_header(c, "x-oss-forbid-overwrite", "true");
    call_headers(c, opts->headers);
}

int client_copy(struct oss *oss, const char *from, const char *to, const struct oss_copy_opts *opts,
                struct oss_object *out, struct oss_error *err)
{
    static const struct oss_copy_opts none;
    struct copied copied = {0};
    struct oss_object target;
    struct call c;
    int r;

    opts = opts ? opts : &none;
    call_begin(&c, oss, OSS_OP_COPY, "PUT", to);
    if (c.r == 0 && (!from || !*from))
        c.r = error_set(&c.err, -EINVAL, "an empty source key");
    if (c.r == 0)
        copy_headers(&c, from, opts);
    c.limits = c.client->transfer;
    c.check = check_copy;
    c.arg = &copied;
    r = call_run(&c);
    if (c.err.ambiguous && (r == -ESTALE || (r == -EEXIST && opts->forbid_overwrite)) &&
        copy_landed(&c, from, opts, &target)) {
        if (out)
            *out = target;
        else
            oss_object_free(&target);
        return call_end(&c, 0, err);
    }
    if (r == 0 && out) {
        r = reply_written(&c.reply, 0, out);
        if (*copied.etag)
            memcpy(out->etag, copied.etag, sizeof(copied.etag));
        if (copied.last_modified)
            out->last_modified = copied.last_modified;
    }
    return call_end(&c, r, err);
}

/* -------------------------------------------------------------------------------------------------- DELETE */

int client_delete(struct oss *oss, const char *key, struct oss_error *err)
{
    struct call c;
    int r;

    call_begin(&c, oss, OSS_OP_DELETE, "DELETE", key);
    c.success[0] = 204;
    c.success[1] = 200;
    c.check = check_write;
    r = call_run(&c);
    if (r == -ENOENT && strcmp(c.err.code, "NoSuchKey") == 0)
        r = 0;
    return call_end(&c, r, err);
}

/* ------------------------------------------------------------------------------------------------ symlinks */

/* The key exists after a try of ours was lost: is it our link? */
static bool symlink_landed(struct call *c, const char *target)
{
    char now[OSS_KEY_MAX + 1];
    struct oss_object object;
    bool ours;

    if (client_get_symlink(&c->client->oss, c->key, now, &object, NULL) < 0)
        return false;
    ours = strcmp(now, target) == 0 && made_since(&object, c->began_ms);
    oss_object_free(&object);
    return ours;
}

int client_put_symlink(struct oss *oss, const char *key, const char *target, const struct oss_put_opts *opts,
                       struct oss_object *out, struct oss_error *err)
{
    struct buf escaped = BUF_INIT(8192);
    struct call c;
    bool landed = false;
    int r;

    call_begin(&c, oss, OSS_OP_PUT_SYMLINK, "PUT", key);
    if (c.r == 0 && (!target || !*target || strlen(target) > OSS_KEY_MAX))
        c.r = error_set(&c.err, target && *target ? -ENAMETOOLONG : -EINVAL, "the target is no key");
    call_query(&c, "symlink", NULL);
    call_put_opts(&c, opts);
    c.md5_header = false;
    if (c.r == 0 && url_escape(&escaped, target, strlen(target), false) < 0)
        c.r = error_set(&c.err, -ENOMEM, "out of memory");
    call_header(&c, "x-oss-symlink-target", buf_str(&escaped));
    buf_free(&escaped);
    c.check = check_write;
    r = call_run(&c);
    if (r == -EEXIST && opts && opts->forbid_overwrite && c.err.ambiguous && symlink_landed(&c, target)) {
        landed = true;
        r = 0;
    }
    if (r == 0 && out) {
        if (landed)
            r = client_get_symlink(oss, key, (char[OSS_KEY_MAX + 1]){0}, out, &c.err);
        else
            r = reply_written(&c.reply, strlen(target), out);
        out->type = OSS_TYPE_SYMLINK;
        out->has_crc = false;
    }
    return call_end(&c, r, err);
}

static int check_symlink(struct call *c)
{
    char *target = c->arg;
    const char *text = kv_get(&c->reply.headers, "x-oss-symlink-target");
    char *raw;
    ssize_t n;

    if (!text || strlen(text) > 3 * OSS_KEY_MAX)
        return call_fail(c, RETRY_SERVICE, -EIO, "a symlink without a target");
    raw = strdup(text);
    if (!raw)
        return -ENOMEM;
    n = url_unescape(raw);
    if (n > 0 && n <= OSS_KEY_MAX)
        memcpy(target, raw, (size_t)n + 1);
    free(raw);
    if (n <= 0 || n > OSS_KEY_MAX)
        return call_fail(c, RETRY_NEVER, -EIO, "a symlink with a target that is no key");
    return 0;
}

int client_get_symlink(struct oss *oss, const char *key, char target[OSS_KEY_MAX + 1], struct oss_object *out,
                       struct oss_error *err)
{
    struct call c;
    int r;

    call_begin(&c, oss, OSS_OP_GET_SYMLINK, "GET", key);
    call_query(&c, "symlink", NULL);
    c.check = check_symlink;
    c.arg = target;
    r = call_run(&c);
    if (r == 0 && out) {
        r = reply_object(&c.reply, out);
        out->type = OSS_TYPE_SYMLINK;
        out->size = strlen(target);
    }
    return call_end(&c, r, err);
}

/* ----------------------------------------------------------------------------------------- ACL and tagging */

static int check_acl(struct call *c)
{
    if (xml_read_acl(buf_str(&c->reply.body), c->reply.body.len, c->arg) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no AccessControlPolicy");
    return 0;
}

int client_get_acl(struct oss *oss, const char *key, char acl[24], struct oss_error *err)
{
    struct call c;

    call_begin(&c, oss, OSS_OP_GET_ACL, "GET", key);
    call_query(&c, "acl", NULL);
    c.check = check_acl;
    c.arg = acl;
    return call_end(&c, call_run(&c), err);
}

int client_put_acl(struct oss *oss, const char *key, const char *acl, struct oss_error *err)
{
    struct call c;

    call_begin(&c, oss, OSS_OP_PUT_ACL, "PUT", key);
    call_query(&c, "acl", NULL);
    call_header(&c, "x-oss-object-acl", acl);
    c.check = check_write;
    return call_end(&c, call_run(&c), err);
}

int client_put_tagging(struct oss *oss, const char *key, const char *tagging, struct oss_error *err)
{
    struct call c;

    call_begin(&c, oss, OSS_OP_PUT_TAGGING, *tagging ? "PUT" : "DELETE", key);
    call_query(&c, "tagging", NULL);
    c.success[1] = 204;
    if (*tagging && xml_write_tagging(&c.text, tagging) < 0 && c.r == 0)
        c.r = error_set(&c.err, -EINVAL, "tags are key=value, joined by &");
    if (*tagging) {
        call_text_body(&c);
        c.md5_header = true;
    }
    c.check = check_write;
    return call_end(&c, call_run(&c), err);
}

static int check_tagging(struct call *c)
{
    char **tagging = c->arg;

    if (xml_read_tagging(buf_str(&c->reply.body), c->reply.body.len, tagging) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no Tagging");
    return 0;
}

int client_get_tagging(struct oss *oss, const char *key, char **tagging, struct oss_error *err)
{
    struct call c;

    *tagging = NULL;
    call_begin(&c, oss, OSS_OP_GET_TAGGING, "GET", key);
    call_query(&c, "tagging", NULL);
    c.check = check_tagging;
    c.arg = tagging;
    return call_end(&c, call_run(&c), err);
}
