#include "attr_record.h"

#include "../oss/crc64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct attr_fixed {
    uint64_t size, crc64;
    int64_t last_modified, mtime_seconds, ctime_seconds;
    uint32_t mtime_nanoseconds, mode, uid, gid;
    uint32_t n_headers;
    uint8_t type, is_marker, has_crc, has_link, fuzzy, exists, tagged, unused[1];
};

int attr_record_encode(struct buf *out, const char *key, const struct oinfo *info)
{
    struct attr_fixed fixed;
    size_t at = out->len;
    uint64_t crc = 0;

    memset(&fixed, 0, sizeof(fixed)); /* the CRC is over its padding too */
    if (info) {
        fixed.exists = 1;
        fixed.size = info->attr.size;
        fixed.crc64 = info->crc64;
        fixed.last_modified = info->last_modified;
        fixed.mtime_seconds = info->stored_mtime.tv_sec;
        fixed.mtime_nanoseconds = (uint32_t)info->stored_mtime.tv_nsec;
        fixed.ctime_seconds = info->attr.ctime.tv_sec;
        fixed.mode = info->attr.mode;
        fixed.uid = info->attr.uid;
        fixed.gid = info->attr.gid;
        fixed.n_headers = (uint32_t)info->headers.n;
        fixed.type = (uint8_t)info->type;
        fixed.is_marker = info->is_marker;
        fixed.has_crc = info->has_crc;
        fixed.has_link = info->link != NULL;
        fixed.fuzzy = info->fuzzy;
        fixed.tagged = info->tagged;
    }
    buf_add(out, &crc, sizeof(crc));
    buf_add(out, &fixed, sizeof(fixed));
    buf_add(out, key, strlen(key) + 1);
    buf_add(out, info ? info->etag : "", info ? strlen(info->etag) + 1 : 1);
    buf_add(out, info && info->link ? info->link : "", info && info->link ? strlen(info->link) + 1 : 1);
    for (size_t i = 0; info && i < info->headers.n; i++) {
        buf_add(out, info->headers.v[i].name, strlen(info->headers.v[i].name) + 1);
        buf_add(out, info->headers.v[i].value, strlen(info->headers.v[i].value) + 1);
    }
    if (out->err)
        return out->err;
    crc = crc64(0, out->data + at + sizeof(crc), out->len - at - sizeof(crc));
    memcpy(out->data + at, &crc, sizeof(crc));
    return 0;
}

/* The next NUL-terminated text of the record, NULL beyond its end. */
static const char *take_text(const char **at, const char *end)
{
    const char *text = *at, *nul = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;

    if (nul)
        *at = nul + 1;
    return nul ? text : NULL;
}

/* Checks the whole and reads its beginning; *at is behind it then. */
static bool read_fixed(const void *data, size_t n, const char *key, struct attr_fixed *fixed, const char **at)
{
    const char *p = data, *end = p + n, *found;
    uint64_t crc;

    if (n < sizeof(crc) + sizeof(*fixed))
        return false;
    memcpy(&crc, p, sizeof(crc));
    if (crc != crc64(0, p + sizeof(crc), n - sizeof(crc)))
        return false;
    memcpy(fixed, p + sizeof(crc), sizeof(*fixed));
    *at = p + sizeof(crc) + sizeof(*fixed);
    found = take_text(at, end);
    return found && !strcmp(found, key);
}

bool attr_record_of(const void *data, size_t n, const char *key)
{
    struct attr_fixed fixed;
    const char *at;

    return read_fixed(data, n, key, &fixed, &at);
}

static bool same_version(const struct attr_fixed *fixed, const char *etag, const struct attr_version *version)
{
    return fixed->exists && fixed->size == version->size && *etag && !strcmp(etag, version->etag) &&
           attr_same_time((time_t)fixed->last_modified, version->last_modified, fixed->fuzzy);
}

static int fill(struct oinfo *info, const struct attr_fixed *fixed, const char *etag, const char *at, const char *end)
{
    const char *link = take_text(&at, end);
    int r = 0;

    if (!link || strlen(etag) >= sizeof(info->etag) || fixed->type > OSS_TYPE_SYMLINK)
        return -EINVAL;
    if (fixed->has_link && !(info->link = strdup(link)))
        return -ENOMEM;
    strcpy(info->etag, etag);
    info->attr = (struct attr){
        .mode = fixed->mode,
        .uid = fixed->uid,
        .gid = fixed->gid,
        .mtime = {.tv_sec = fixed->mtime_seconds, .tv_nsec = fixed->mtime_nanoseconds},
        .ctime = {.tv_sec = fixed->ctime_seconds},
        .size = fixed->size,
    };
    info->stored_mtime = info->attr.mtime;
    info->type = fixed->type;
    info->is_marker = fixed->is_marker;
    info->has_crc = fixed->has_crc;
    info->tagged = fixed->tagged;
    info->crc64 = fixed->crc64;
    for (uint32_t i = 0; !r && i < fixed->n_headers; i++) {
        const char *name = take_text(&at, end), *value = take_text(&at, end);

        r = name && value ? kv_add(&info->headers, name, value) : -EINVAL;
    }
    return r;
}

struct oinfo *attr_record_decode(const void *data, size_t n, const char *key, const struct attr_version *version,
                                 bool *exact)
{
    const char *at, *end = (const char *)data + n, *etag;
    struct attr_fixed fixed;
    struct oinfo *info;

    if (!read_fixed(data, n, key, &fixed, &at))
        return NULL;
    etag = take_text(&at, end);
    if (!etag || !same_version(&fixed, etag, version) || !(info = calloc(1, sizeof(*info))))
        return NULL;
    atomic_init(&info->refs, 1);
    if (fill(info, &fixed, etag, at, end)) {
        oinfo_put(info);
        return NULL;
    }
    info->last_modified = version->last_modified;
    *exact = !fixed.fuzzy;
    return info;
}
