/* What the bucket holds when an upload has ended well. */
#include "upload.h"

#include <stdlib.h>
#include <string.h>

struct oinfo *upload_result(const struct upload *u)
{
    static const struct oss_object nothing;
    struct oinfo *info = u->source && u->copy_only && !u->replace
                             ? oinfo_clone(u->source)
                             : oinfo_from_object(&nothing, &u->cf->cache->config.defaults, false);
    const struct oss_object *result = &u->result;

    if (!info)
        return NULL;
    memcpy(info->etag, result->etag, sizeof(info->etag));
    info->last_modified = result->last_modified ? result->last_modified : result->date;
    info->has_crc = result->has_crc;
    info->crc64 = result->crc64;
    info->tagged = upload_tags(u) || (u->tagged && u->streamed) ||
                   (u->tagged && upload_has_step(u, STEP_COPY_SELF) && !u->by_hand);
    info->acl_default = !*u->acl; /* without one in the request the service sets `default` */
    info->own = !u->unsure;
    info->young = u->unsure || u->streamed || upload_has_step(u, STEP_APPEND);
    info->fuzzy = !upload_has_step(u, STEP_COPY_SELF) && !(u->copy_only && !upload_has_step(u, STEP_COMPLETE));
    info->bare = false;
    info->type = upload_has_step(u, STEP_INITIATE) ? OSS_TYPE_MULTIPART : OSS_TYPE_NORMAL;
    if (u->source && upload_has_step(u, STEP_COPY_SELF) && !u->by_hand)
        info->type = u->source->type;
    if (u->appended.landed && !u->by_hand) {
        info->type = OSS_TYPE_APPENDABLE;
        if (u->source && !upload_has_step(u, STEP_COPY_SELF))
            info->acl_default = u->source->acl_default; /* an append does not touch it */
    }
    if (u->copy_only && !u->replace)
        return info;
    info->attr = u->attr;
    if (u->streamed)
        info->attr.mtime = (struct timespec){.tv_sec = info->last_modified}; /* it carries no other */
    if (u->appended.landed)
        info->attr.size = u->appended.size;
    info->stored_mtime = info->attr.mtime;
    info->is_marker = S_ISDIR(u->attr.mode);
    if (u->source && u->source->link)
        info->link = strdup(u->source->link);
    for (size_t i = 0; i < u->headers.n; i++) {
        const struct kv *kv = &u->headers.v[i];

        if (kv_add(&info->headers, kv->name, kv->value)) {
            oinfo_put(info);
            return NULL;
        }
    }
    attr_strip_headers(&info->headers);
    return info;
}
