/* ops_get.c: GetObject, HeadObject, GetObjectMeta. */
#include "ops.h"

#include <stdlib.h>
#include <string.h>

/* What is asked of a range header, before the object's size is known. */
struct range {
    bool present, legal; /* legal: one range, well-formed, first <= last */
    bool suffix;         /* the last `last` bytes */
    bool open;           /* no end given */
    uint64_t first, last;
};

static bool read_number(const char **p, uint64_t *v)
{
    char text[24];
    size_t n = strspn(*p, "0123456789");

    if (n == 0 || n >= sizeof text)
        return false;
    memcpy(text, *p, n);
    text[n] = '\0';
    *p += n;
    return parse_u64(text, v);
}

static void read_range(const char *text, struct range *r)
{
    const char *p = text;

    *r = (struct range){.present = text != NULL};
    if (!text || strncmp(p, "bytes=", 6))
        return;
    p += 6;
    if (*p == '-') {
        p++;
        r->suffix = true;
        r->legal = read_number(&p, &r->last);
    } else {
        r->legal = read_number(&p, &r->first) && *p == '-';
        if (r->legal && *++p >= '0' && *p <= '9')
            r->legal = read_number(&p, &r->last) && r->first <= r->last;
        else
            r->open = true;
    }
    if (*p && *p != ',') /* of several ranges the first one counts */
        r->legal = false;
}

/*
 * The range that is served: rq->reply.offset and length, 206 when it is one. Outside the object the service answers
 * the whole object, or, when asked for the standard behaviour, cuts the range or refuses it.
 */
static bool choose_range(struct request *rq, uint64_t size)
{
    const char *behavior = request_header(rq, "x-oss-range-behavior");
    bool standard = behavior && strcmp(behavior, "standard") == 0;
    struct range r;

    rq->reply.offset = 0;
    rq->reply.length = size;
    rq->reply.status = 200;
    read_range(request_header(rq, "range"), &r);
    if (!r.present || !r.legal)
        return true;
    if (r.suffix) {
        if (r.last > size && !standard)
            return true;
        r.first = r.last > size ? 0 : size - r.last;
        r.open = true;
        if (r.last == 0)
            r.first = size;
    }
    if (r.open)
        r.last = size ? size - 1 : 0;
    if (r.first >= size) {
        if (!standard)
            return true;
        reply_error(rq, "InvalidRange", NULL);
        reply_headerf(rq, "Content-Range", "bytes */%llu", (unsigned long long)size);
        return false;
    }
    if (r.last >= size) {
        if (!standard)
            return true;
        r.last = size - 1;
    }
    rq->reply.offset = r.first;
    rq->reply.length = r.last - r.first + 1;
    rq->reply.status = 206;
    return true;
}

/* The object whose bytes are served: of a symlink its target. A reference, or NULL with the reply made. */
static struct object *follow(struct request *rq, struct object *object)
{
    struct object *target;

    if (object->type != OBJECT_SYMLINK)
        return object_ref(object);
    target = store_get(rq->server->store, rq->bucket, (struct bytes){object->target, strlen(object->target)});
    if (!target) {
        reply_error(rq, "SymlinkTargetNotExist", "Key", object->target, NULL);
    } else if (target->type == OBJECT_SYMLINK) {
        reply_error(rq, "InvalidTargetType", "Key", object->target, NULL);
        object_unref(target);
        target = NULL;
    }
    return target;
}

/* response-content-type and its kin replace what is stored. */
static bool override_headers(struct request *rq)
{
    static const char *const names[][2] = {
        {"response-content-type", "Content-Type"},         {"response-content-language", "Content-Language"},
        {"response-cache-control", "Cache-Control"},       {"response-content-disposition", "Content-Disposition"},
        {"response-content-encoding", "Content-Encoding"}, {"response-expires", "Expires"}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = request_query(rq, names[i][0]);
        if (!value || !*value)
            continue;
        if (rq->anonymous)
            return reply_error_message(rq, 0, "InvalidRequest", "An anonymous request may not override headers.",
                                       NULL);
        pairs_set(&rq->reply.headers, names[i][1], value);
    }
    return true;
}

/* All of a GET or HEAD but the bytes; false: the reply is made and has no object. */
static bool get_or_head(struct request *rq)
{
    struct object *object = ops_find(rq), *target = NULL;
    bool good = false;

    if (!object)
        return false;
    target = follow(rq, object);
    if (!target || (rq->op == OP_GET_OBJECT && !ops_readable(rq, target)) || !ops_conditions(rq, "", target) ||
        !choose_range(rq, target->size))
        goto out;
    ops_describe(rq, object, target);
    if (!override_headers(rq))
        goto out;
    if (rq->reply.status == 206)
        reply_headerf(rq, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)rq->reply.offset,
                      (unsigned long long)(rq->reply.offset + rq->reply.length - 1),
                      (unsigned long long)target->size);
    rq->reply.object = object_ref(target);
    good = true;
out:
    object_unref(object);
    object_unref(target);
    return good;
}

void op_get_end(struct request *rq)
{
    get_or_head(rq);
}

void op_head_end(struct request *rq)
{
    get_or_head(rq);
}

/* Of a symlink: the link itself. The length is told by an object that is not sent. */
void op_meta_end(struct request *rq)
{
    struct object *object = ops_find(rq);
    char date[DATE_SIZE];

    if (!object)
        return;
    date_http(date, object->mtime);
    reply_status(rq, 200);
    reply_etag(rq, object->etag);
    reply_header(rq, "Last-Modified", date);
    if (object->type != OBJECT_SYMLINK)
        reply_crc(rq, object->crc, object->copied);
    if (strcmp(rq->method, "HEAD") == 0) {
        rq->reply.length = object->size;
        rq->reply.object = object;
    } else {
        object_unref(object);
    }
}
