/* ops_archive.c: objects of the archive classes: RestoreObject, and who may read before and after it. */
#include "ops.h"
#include "xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_archived(const struct object *object)
{
    const char *class = object_header(object, "x-oss-storage-class");

    return class && strstr(class, "Archive");
}

static bool is_restored(struct request *rq, const struct object *object)
{
    return object->restored_ms && clock_ms() >= object->restored_ms &&
           server_now(rq->server) < object->restored_until;
}

bool ops_readable(struct request *rq, const struct object *object)
{
    if (!is_archived(object) || is_restored(rq, object))
        return true;
    return reply_error(rq, "InvalidObjectState", "ObjectName", object->key.p, NULL);
}

void ops_describe_restore(struct request *rq, const struct object *object)
{
    char date[DATE_SIZE];

    if (!is_archived(object) || !object->restored_ms)
        return;
    if (clock_ms() < object->restored_ms) {
        reply_header(rq, "x-oss-restore", "ongoing-request=\"true\"");
    } else if (is_restored(rq, object)) {
        date_http(date, object->restored_until);
        reply_headerf(rq, "x-oss-restore", "ongoing-request=\"false\", expiry-date=\"%s\"", date);
    }
}

/* Days, and a tier that there is; false: the reply is made. */
static bool read_request(struct request *rq, uint64_t *days)
{
    static const char *const tiers[] = {"", "Expedited", "Standard", "Bulk"};
    struct bytes body = {rq->body.p, rq->body.n};
    char text[32], tier[32];

    *days = 1; /* an empty body asks for one day */
    if (!body.n)
        return true;
    if (xml_read_element(body, "RestoreRequest", "Days", text, sizeof text) ||
        xml_read_element(body, "RestoreRequest", "Tier", tier, sizeof tier) || !parse_u64(text, days) || *days < 1 ||
        *days > 365)
        return reply_error(rq, "MalformedXML", NULL);
    for (size_t i = 0; i < 4; i++)
        if (strcmp(tier, tiers[i]) == 0)
            return true;
    return reply_error(rq, "MalformedXML", NULL);
}

void op_restore_end(struct request *rq)
{
    struct object *old = NULL, *next;
    uint64_t days;
    int r = -ESTALE;

    if (!read_request(rq, &days))
        return;
    while (r == -ESTALE) {
        object_unref(old);
        old = ops_find(rq);
        if (!old)
            return;
        if (!is_archived(old)) {
            reply_error(rq, "OperationNotSupported", "ObjectName", rq->key.p, NULL);
            goto out;
        }
        if (old->restored_ms && clock_ms() < old->restored_ms) {
            reply_error(rq, "RestoreAlreadyInProgress", "ObjectName", rq->key.p, NULL);
            goto out;
        }
        struct store_put_opts opts = {.tied = true, .expected = old};
        next = object_clone(old, rq->key);
        if (!is_restored(rq, old))
            next->restored_ms = clock_ms() + rq->server->options.restore_delay_ms;
        next->restored_until = server_now(rq->server) + (time_t)days * 86400;
        r = store_put(rq->server->store, rq->bucket, next, &opts);
    }
    if (r)
        reply_store_error(rq, r);
    else
        reply_status(rq, is_restored(rq, old) ? 200 : 202);
out:
    object_unref(old);
}
