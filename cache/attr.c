#include "attr.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINAL_AFTER_S 2 /* Last-Modified is cut to the second, and Date too */

static const char *const attr_names[] = {
    "x-oss-meta-mode",  "x-oss-meta-uid",      "x-oss-meta-gid",
    "x-oss-meta-mtime", "x-oss-meta-mtime-ns", "x-oss-meta-mtime-size",
};

/* Headers that tell the state of an object and are never sent. */
static const char *const state_names[] = {
    "x-oss-tagging-count",
    "x-oss-restore",
    "x-oss-version-id",
};

static bool name_in(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

static bool parse_u64(const char *text, uint64_t *out)
{
    char *end;

    if (!text || !isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !errno && (*end == '\0' || *end == '.');
}

static bool parse_i64(const char *text, int64_t *out)
{
    uint64_t v;
    bool negative = text && *text == '-';

    if (!parse_u64(negative ? text + 1 : text, &v) || v > INT64_MAX)
        return false;
    *out = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

/* The fraction of `text` behind the last `mark`, 0..999999999, or 0. */
static long parse_fraction(const char *text, char mark)
{
    const char *p = strrchr(text, mark);
    long ns = 0;
    int digits = 0;

    if (!p)
        return 0;
    for (p++; isdigit((unsigned char)*p) && digits < 9; p++, digits++)
        ns = ns * 10 + (*p - '0');
    for (; digits < 9; digits++)
        ns *= 10;
    return ns;
}

static bool parse_mtime(const struct kvlist *headers, struct timespec *out)
{
    const char *text = kv_get(headers, "x-oss-meta-mtime");
    const char *exact = kv_get(headers, "x-oss-meta-mtime-ns");
    int64_t seconds;
    char expect[32];
    int n;

    if (!parse_i64(text, &seconds))
        return false;
    out->tv_sec = seconds;
    out->tv_nsec = parse_fraction(text, '.');
    n = snprintf(expect, sizeof(expect), "%lld-", (long long)seconds);
    if (exact && !strncmp(exact, expect, (size_t)n))
        out->tv_nsec = parse_fraction(exact, '-');
    return true;
}

/* Was the stored mtime set for the object as it is now, and not before something was appended to it? */
static bool mtime_holds(const struct oss_object *object)
{
    const char *text = kv_get(&object->headers, "x-oss-meta-mtime-size");
    uint64_t size;

    if (!text)
        return object->type != OSS_TYPE_APPENDABLE;
    return parse_u64(text, &size) && size == object->size;
}

static void parse_attr(struct attr *attr, const struct oss_object *object, const struct attr_defaults *defaults,
                       bool is_dir)
{
    const struct kvlist *h = &object->headers;
    uint64_t v;

    attr->mode = is_dir ? S_IFDIR | defaults->dir_mode : S_IFREG | defaults->file_mode;
    if (parse_u64(kv_get(h, "x-oss-meta-mode"), &v)) {
        uint32_t type = (uint32_t)v & S_IFMT;

        /* A key's own form says what a directory is; of the rest only links differ from plain files here. */
        if (is_dir)
            type = S_IFDIR;
        else if (type != S_IFLNK)
            type = S_IFREG;
        attr->mode = type | ((uint32_t)v & 07777);
    }
    attr->uid = parse_u64(kv_get(h, "x-oss-meta-uid"), &v) && v < UINT32_MAX ? (uint32_t)v : defaults->uid;
    attr->gid = parse_u64(kv_get(h, "x-oss-meta-gid"), &v) && v < UINT32_MAX ? (uint32_t)v : defaults->gid;
    attr->ctime = (struct timespec){.tv_sec = object->last_modified};
    if (!mtime_holds(object) || !parse_mtime(h, &attr->mtime))
        attr->mtime = attr->ctime;
    attr->size = is_dir ? 0 : object->size;
}

struct oinfo *oinfo_from_object(const struct oss_object *object, const struct attr_defaults *defaults, bool is_dir)
{
    struct oinfo *info = calloc(1, sizeof(*info));

    if (!info)
        return NULL;
    atomic_init(&info->refs, 1);
    if (!object) {
        info->attr.mode = S_IFDIR | defaults->dir_mode;
        info->attr.uid = defaults->uid;
        info->attr.gid = defaults->gid;
        return info;
    }
    parse_attr(&info->attr, object, defaults, is_dir);
    info->stored_mtime = info->attr.mtime;
    memcpy(info->etag, object->etag, sizeof(info->etag));
    info->last_modified = object->last_modified;
    info->young = object->date < object->last_modified + FINAL_AFTER_S;
    info->type = object->type;
    info->is_marker = is_dir;
    info->has_crc = object->has_crc;
    info->crc64 = object->crc64;
    info->tagged = kv_get(&object->headers, "x-oss-tagging-count") != NULL;
    for (size_t i = 0; i < object->headers.n; i++) {
        const struct kv *kv = &object->headers.v[i];

        if (name_in(kv->name, attr_names, sizeof(attr_names) / sizeof(*attr_names)) ||
            name_in(kv->name, state_names, sizeof(state_names) / sizeof(*state_names)))
            continue;
        if (kv_add(&info->headers, kv->name, kv->value)) {
            oinfo_put(info);
            return NULL;
        }
    }
    return info;
}

struct oinfo *oinfo_clone(const struct oinfo *from)
{
    struct oinfo *info = malloc(sizeof(*info));

    if (!info)
        return NULL;
    info->attr = from->attr;
    memcpy(info->etag, from->etag, sizeof(info->etag));
    info->last_modified = from->last_modified;
    info->type = from->type;
    info->is_marker = from->is_marker;
    info->has_crc = from->has_crc;
    info->acl_default = from->acl_default;
    info->young = from->young;
    info->bare = from->bare;
    info->own = from->own;
    info->fuzzy = from->fuzzy;
    info->stored_mtime = from->stored_mtime;
    info->tagged = from->tagged;
    info->crc64 = from->crc64;
    atomic_init(&info->refs, 1);
    info->headers = (struct kvlist){0};
    info->link = NULL;
    if ((from->link && !(info->link = strdup(from->link))) || kv_copy(&info->headers, &from->headers)) {
        oinfo_put(info);
        return NULL;
    }
    return info;
}

struct oinfo *oinfo_get(struct oinfo *info)
{
    if (info)
        atomic_fetch_add_explicit(&info->refs, 1, memory_order_relaxed);
    return info;
}

void oinfo_put(struct oinfo *info)
{
    if (!info || atomic_fetch_sub_explicit(&info->refs, 1, memory_order_acq_rel) != 1)
        return;
    kv_free(&info->headers);
    free(info->link);
    free(info);
}

bool attr_same_time(time_t known, time_t told, bool fuzzy)
{
    time_t d = told - known;

    return d == 0 || (fuzzy && d >= -1 && d <= 1);
}

bool oinfo_is_version(const struct oinfo *info, const char *etag, time_t last_modified, uint64_t size)
{
    return *etag && !strcmp(info->etag, etag) && info->attr.size == size &&
           attr_same_time(info->last_modified, last_modified, info->fuzzy);
}

int attr_to_headers(struct kvlist *to, const struct attr *attr)
{
    int r = kv_setf(to, "x-oss-meta-mode", "%u", attr->mode);

    if (!r)
        r = kv_setf(to, "x-oss-meta-uid", "%u", attr->uid);
    if (!r)
        r = kv_setf(to, "x-oss-meta-gid", "%u", attr->gid);
    if (!r)
        r = kv_setf(to, "x-oss-meta-mtime", "%lld", (long long)attr->mtime.tv_sec);
    if (r)
        return r;
    kv_del(to, "x-oss-meta-mtime-size");
    if (attr->mtime.tv_nsec == 0) {
        kv_del(to, "x-oss-meta-mtime-ns");
        return 0;
    }
    return kv_setf(to, "x-oss-meta-mtime-ns", "%lld-%09ld", (long long)attr->mtime.tv_sec, attr->mtime.tv_nsec);
}

int attr_mtime_for_size(struct kvlist *to, uint64_t size)
{
    return kv_setf(to, "x-oss-meta-mtime-size", "%llu", (unsigned long long)size);
}

void attr_strip_headers(struct kvlist *headers)
{
    for (size_t i = 0; i < sizeof(attr_names) / sizeof(*attr_names); i++)
        kv_del(headers, attr_names[i]);
}
