/*
 * upload_headers.c: the headers of each request of an upload: what the object has, what its attributes are, what the
 * rules say (headers.h), and what the service would drop if it were not sent again (ACL, tags, encryption of a copy).
 */
#include "upload.h"

#include "headers.h"
#include "hidden.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *cache_path_of(const struct cache *cache, const char *key)
{
    size_t n = strlen(cache->config.prefix);

    return strncmp(key, cache->config.prefix, n) == 0 ? key + n : key;
}

static bool sends_content(const struct upload *u)
{
    for (size_t i = 0; i < u->plan.n; i++) {
        enum plan_step_kind kind = u->plan.steps[i].kind;

        /* The headers of an appendable object are those that it was made with. */
        if (kind == STEP_PUT || kind == STEP_INITIATE || kind == STEP_COPY || (kind == STEP_APPEND && !u->source))
            return true;
    }
    return false;
}

static int describe(struct upload *u)
{
    const struct cache *cache = u->cf->cache;
    const char *path = cache_path_of(cache, u->target);

    if (u->copy_only || !sends_content(u))
        return 0;
    return S_ISREG(u->attr.mode) ? headers_describe(cache->config.headers, path, &u->headers)
                                 : headers_encryption(cache->config.headers, path, &u->headers);
}

int upload_describe(struct upload *u)
{
    /* A stream has been described when it began, and is compared with this. */
    bool streamed = u->cf->stream && !u->cf->stream->unseen && upload_has_step(u, STEP_INITIATE);

    return u->source && u->source->bare && !streamed ? 0 : describe(u);
}

int upload_follow(struct upload *u, bool *changed)
{
    const struct cache *cache = u->cf->cache;

    *changed = false;
    if (!S_ISREG(u->attr.mode))
        return 0;
    return headers_follow(cache->config.headers, cache_path_of(cache, u->cf->key), cache_path_of(cache, u->target),
                          u->replaced ? &u->replaced->headers : NULL, &u->headers, changed);
}

/* --------------------------------------------------------------------------------- what the service would drop */

int object_acl(struct cache *cache, const char *key, char acl[24], struct oss_error *err)
{
    int r = cache->oss->ops->get_acl(cache->oss, key, acl, err);

    if (r == -EACCES)
        log_err(
            "the ACL of %s cannot be read, so it cannot be kept: grant oss:GetObjectAcl, or mount with keep_acl=no",
            key);
    if (r || !strcmp(acl, "default"))
        *acl = '\0';
    return r == -ENOENT ? 0 : r;
}

/*
 * The ACL of an object that is about to be replaced or copied, if it has one of its own; that of the rules for one
 * that is made. One that the rules gave to a temporary name gives way to that of the object it replaces.
 */
static int find_acl(struct upload *u, struct oss_error *err)
{
    struct cache *cache = u->cf->cache;
    const char *from = u->copy_only ? u->cf->key : u->target;
    const char *ruled =
        hidden_is(cache, u->target) ? "" : headers_acl(cache->config.headers, cache_path_of(cache, u->target));
    int r = 0;

    if (!cache->config.keep_acl) {
        strcpy(u->acl, ruled);
        return 0;
    }
    if (u->source && !u->source->acl_default)
        r = object_acl(cache, from, u->acl, err);
    if (u->replaced && *u->acl && !strcmp(u->acl, headers_acl(cache->config.headers, cache_path_of(cache, from))))
        *u->acl = '\0';
    if (!r && !*u->acl && u->replaced && !u->replaced->acl_default)
        r = object_acl(cache, u->target, u->acl, err);
    if (!r && !u->source && !u->replaced && S_ISREG(u->attr.mode))
        strcpy(u->acl, ruled);
    return r;
}

/* The tags of an object whose bytes become `to`, unless the rules set others. The service's copy keeps them itself.
 */
static int find_tags(struct cache *cache, const char *key, const char *to, char **tagging, struct oss_error *err)
{
    int r;

    if (headers_tagging(cache->config.headers, cache_path_of(cache, to)))
        return 0;
    r = cache->oss->ops->get_tagging(cache->oss, key, tagging, err);
    if (r == -EACCES)
        log_err("the tags of %s cannot be read, so they cannot be kept: grant oss:GetObjectTagging", key);
    return r == -ENOENT ? 0 : r;
}

bool upload_tags(const struct upload *u)
{
    const struct cache *cache = u->cf->cache;

    return (u->tagging && *u->tagging) || headers_tagging(cache->config.headers, cache_path_of(cache, u->target));
}

int see_object(struct cfile *cf, const char *key, struct kvlist *headers, struct oinfo **out, struct oss_error *err)
{
    struct cache *cache = cf->cache;
    struct oss_object object = {0};
    struct oinfo *info;
    int r = cache->oss->ops->head(cache->oss, key, &object, err);

    info = r ? NULL : oinfo_from_object(&object, &cache->config.defaults, false);
    oss_object_free(&object);
    *out = info;
    if (!info)
        return r == -ENOENT ? 0 : r ? r : -ENOMEM;
    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; !r && i < info->headers.n; i++) {
        const struct kv *kv = &info->headers.v[i];

        if (!kv_get(headers, kv->name))
            r = kv_add(headers, kv->name, kv->value);
        if (!r && !kv_get(&cf->headers, kv->name))
            r = kv_add(&cf->headers, kv->name, kv->value); /* and for the next time */
    }
    pthread_mutex_unlock(&cf->mu);
    return r;
}

/* It counts as if it had been known when the plan was made. */
static int see_source(struct upload *u, struct oss_error *err)
{
    struct oinfo *info = NULL;
    int r;

    if (!u->source || !u->source->bare || (u->copy_only && !u->replace))
        return 0;
    r = see_object(u->cf, u->copy_only ? u->cf->key : u->target, &u->headers, &info, err);
    u->tagged = info ? info->tagged : u->tagged;
    oinfo_put(info);
    return r ? r : describe(u);
}

/* Initiate was sent by the stream, with the tags. */
static bool is_begun(struct upload *u, const struct plan_step *step)
{
    bool begun;

    pthread_mutex_lock(&u->cf->mu);
    begun = step->kind == STEP_INITIATE && u->stream && *u->stream->id;
    pthread_mutex_unlock(&u->cf->mu);
    return begun;
}

int upload_find_kept(struct upload *u, const struct plan_step *step, struct oss_error *err)
{
    bool content = step->kind == STEP_PUT || step->kind == STEP_INITIATE || step->kind == STEP_COPY;
    bool copy = step->kind == STEP_COPY_SELF, tags = content || (copy && u->by_hand);
    int r = 0;

    if (content || copy)
        r = see_source(u, err);
    if (!r && (content || copy || (step->kind == STEP_APPEND && !u->source)))
        r = find_acl(u, err);
    if (!r && tags) {
        free(u->tagging);
        u->tagging = NULL;
    }
    if (!r && tags && u->tagged && !is_begun(u, step))
        r = find_tags(u->cf->cache, u->copy_only ? u->cf->key : u->target, u->target, &u->tagging, err);
    return r;
}

/* -------------------------------------------------------------------------------------------- one request */

int upload_carry_storage(const struct kvlist *source, struct kvlist *list)
{
    static const char *const names[] = {"x-oss-storage-class", "x-oss-server-side-encryption",
                                        "x-oss-server-side-data-encryption", "x-oss-server-side-encryption-key-id"};
    int r = 0;

    for (size_t i = 0; !r && i < sizeof(names) / sizeof(*names); i++) {
        const char *value = kv_get(source, names[i]);

        if (value && strcmp(value, "Standard") != 0)
            r = kv_set(list, names[i], value);
    }
    return r;
}

int upload_request_headers(struct upload *u, enum headers_kind kind, struct kvlist *list, bool *forbid)
{
    const struct cache *cache = u->cf->cache;
    bool describes = kind == HEADERS_PUT || kind == HEADERS_APPEND || kind == HEADERS_INITIATE ||
                     (kind == HEADERS_COPY && u->replace);
    bool acl = kind != HEADERS_INITIATE && kind != HEADERS_PART;
    const char *path = cache_path_of(cache, u->target);
    const char *from = kind == HEADERS_COPY || u->copy_only ? cache_path_of(cache, u->cf->key) : NULL;
    int r = describes ? kv_copy(list, &u->headers) : 0;

    *forbid = false;
    if (!r && kind == HEADERS_COPY && !u->replace && u->source)
        r = upload_carry_storage(&u->source->headers, list);
    if (!r && acl && *u->acl)
        r = kv_set(list, "x-oss-object-acl", u->acl);
    if (!r && u->tagging && *u->tagging && (kind == HEADERS_PUT || kind == HEADERS_INITIATE))
        r = kv_set(list, "x-oss-tagging", u->tagging);
    /* No rule is about those, but how their bytes are kept; and a class may cost by the month. */
    if (hidden_is(cache, u->target)) {
        kv_del(list, "x-oss-storage-class");
        return r ? r : headers_encryption(cache->config.headers, cache_path_of(cache, u->cf->key), list);
    }
    /* Links and directories are no uploads of the user's. */
    if (!r && S_ISREG(u->attr.mode))
        r = headers_request(cache->config.headers, path, kind, from, list, forbid);
    return r;
}

int initiate_headers(struct cache *cache, const char *key, bool tagged, const struct kvlist *described,
                     struct kvlist *list, bool *forbid, struct oss_error *err)
{
    char *tagging = NULL;
    int r = kv_copy(list, described);

    *forbid = false;
    if (!r && tagged)
        r = find_tags(cache, key, key, &tagging, err);
    if (!r && tagging && *tagging)
        r = kv_set(list, "x-oss-tagging", tagging);
    if (!r)
        r = headers_request(cache->config.headers, cache_path_of(cache, key), HEADERS_INITIATE, NULL, list, forbid);
    free(tagging);
    return r;
}
