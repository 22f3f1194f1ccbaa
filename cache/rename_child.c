#include "rename_child.h"

#include "upload.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct oinfo *child_known(struct cache *cache, const struct child *child)
{
    struct meta_result known = {0};
    const char *name;
    char *dir;

    if (key_split(child->from, &dir, &name))
        return NULL;
    meta_get(cache->meta, dir, name, &known);
    free(dir);
    if (known.info && !known.info->bare &&
        oinfo_is_version(known.info, child->etag, child->last_modified, child->size))
        return known.info;
    oinfo_put(known.info);
    return attr_store_get(cache->attrs, child->from, child->etag, child->last_modified, child->size);
}

#define COPY_TRIES 4

/* The object is another than the listing said: what it is now. */
static int look_again(struct cache *cache, struct child *child, struct oss_error *err)
{
    struct oss *oss = cache->oss;
    struct oss_object object = {0};
    int r = oss->ops->head(oss, child->from, &object, err);

    if (!r) {
        memcpy(child->etag, object.etag, sizeof(child->etag));
        child->last_modified = object.last_modified;
        child->size = object.size;
    }
    oss_object_free(&object);
    return r;
}

static int copy_once(struct cache *cache, struct child *child, const char *to, const struct kvlist *headers,
                     struct oss_object *made, struct oss_error *err)
{
    struct oss *oss = cache->oss;
    struct oss_copy_opts opts = {.if_match = *child->etag ? child->etag : NULL, .headers = headers};

    return oss->ops->copy(oss, child->from, to, &opts, made, err);
}

/*
 * What a copy does not take by itself. The ACL is asked for unless it is known that the object has none of its own;
 * the listing tells the class; the encryption only a HEAD does: it is carried if it is known.
 */
static int carry(struct cache *cache, const struct child *child, struct kvlist *headers, struct oss_error *err)
{
    struct oinfo *known = child_known(cache, child);
    char acl[24] = "";
    int r = known ? upload_carry_storage(&known->headers, headers) : 0;

    if (!r && *child->storage_class && strcmp(child->storage_class, "Standard") != 0)
        r = kv_set(headers, "x-oss-storage-class", child->storage_class);
    if (!r && cache->config.keep_acl && !(known && known->acl_default))
        r = object_acl(cache, child->from, acl, err);
    if (!r && *acl)
        r = kv_set(headers, "x-oss-object-acl", acl);
    oinfo_put(known);
    return r;
}

int child_copy(struct cache *cache, struct child *child, const char *to)
{
    struct kvlist headers = {0};
    struct oss_object made = {0};
    struct oss_error err = {0};
    int r = carry(cache, child, &headers, &err);

    if (!r)
        r = copy_once(cache, child, to, &headers, &made, &err);
    for (int i = 1; r == -ESTALE && i < COPY_TRIES; i++) {
        r = look_again(cache, child, &err);
        if (!r)
            r = copy_once(cache, child, to, &headers, &made, &err);
    }
    if (r && r != -ENOENT)
        cache_log_error("renaming", child->from, &err);
    memcpy(child->new_etag, made.etag, sizeof(child->new_etag));
    child->exact = made.last_modified != 0;
    child->new_modified = child->exact ? made.last_modified : made.date;
    oss_object_free(&made);
    kv_free(&headers);
    return r;
}

int rename_delete(struct cache *cache, char **keys, size_t n, const char *doing)
{
    bool deleted[OSS_LIST_MAX] = {false};
    struct oss *oss = cache->oss;
    struct oss_error err = {0};
    int r = n ? oss->ops->delete_many(oss, (const char *const *)keys, n, deleted, &err) : 0;

    if (r)
        cache_log_error(doing, keys[0], &err);
    for (size_t i = 0; i < n; i++) {
        if (!r && !deleted[i]) {
            log_err("deleting %s: the service did not confirm it", keys[i]);
            r = -EIO;
        }
        free(keys[i]);
    }
    return r;
}
