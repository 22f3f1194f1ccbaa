/*
 * Attributes without a request: what a listing shows of an entry is its version, and the attribute store knows what a
 * version carries. A directory's own attributes are those of its marker, whose version its own listing shows.
 */
#include "cfile.h"

#include <stdlib.h>
#include <string.h>

/* Key of `name` in `dir`, with a '/' behind it for a directory. false when it would be too long. */
static bool entry_key(const char *dir, const char *name, bool is_dir, char key[OSS_KEY_MAX + 8])
{
    if (strlen(dir) + strlen(name) + is_dir > OSS_KEY_MAX)
        return false;
    strcpy(key, dir);
    strcat(key, name);
    if (is_dir)
        strcat(key, "/");
    return true;
}

/* The user's word (attributes=listing) that there is no more to know of it. */
static struct oinfo *bare_file(struct cache *cache, const struct meta_version *version)
{
    struct oss_object object = {
        .size = version->size, .last_modified = version->last_modified, .type = version->type};
    struct oinfo *info;

    if (version->type == OSS_TYPE_SYMLINK)
        return NULL; /* where it points is in no listing */
    memcpy(object.etag, version->etag, sizeof(object.etag));
    info = oinfo_from_object(&object, &cache->config.defaults, false);
    if (info) {
        info->bare = true;
        info->young = false;
    }
    return info;
}

static struct oinfo *recall_dir(struct cache *cache, const char *key)
{
    struct meta_version marker;
    int r = meta_marker(cache->meta, key, &marker);

    if (r > 0)
        return attr_store_get(cache->attrs, key, marker.etag, marker.last_modified, marker.size);
    if (r == 0 || cache->config.listing_attributes)
        return oinfo_from_object(NULL, &cache->config.defaults, true);
    return NULL;
}

void recall(struct cache *cache, const char *dir, const char *name, struct meta_result *known)
{
    const struct meta_version *v = &known->version;
    char key[OSS_KEY_MAX + 8];

    if (known->info || (known->state != META_FILE && known->state != META_DIR))
        return;
    if (!entry_key(dir, name, known->state == META_DIR, key))
        return;
    if (known->state == META_DIR) {
        known->info = recall_dir(cache, key);
        return;
    }
    if (!*v->etag)
        return;
    known->info = attr_store_get(cache->attrs, key, v->etag, v->last_modified, v->size);
    if (!known->info && cache->config.listing_attributes)
        known->info = bare_file(cache, v);
}

bool recall_by_listing(struct cache *cache, const char *dir, const char *name, char key[OSS_KEY_MAX + 8])
{
    struct meta_version unused;

    return entry_key(dir, name, true, key) && meta_marker(cache->meta, key, &unused) < 0 &&
           attr_store_has(cache->attrs, key);
}

void recall_note(struct cache *cache, const char *key, struct oinfo *info)
{
    bool is_dir = *key && key[strlen(key) - 1] == '/';

    if (info && is_dir && !info->is_marker)
        info = NULL; /* it is only a prefix */
    if (info || is_dir)
        attr_store_put(cache->attrs, key, info);
}

void recall_note_exact(void *arg, const char *dir, const char *name, struct oinfo *info)
{
    struct cache *cache = arg;
    char key[OSS_KEY_MAX + 8];

    if (S_ISREG(info->attr.mode) && entry_key(dir, name, false, key))
        attr_store_put(cache->attrs, key, info);
}
