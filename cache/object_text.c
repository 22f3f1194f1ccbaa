/*
 * object_text.c: what the bucket says of an object beyond what a file has, as texts: ETag, CRC, type, class, version,
 * tags, ACL, headers. Read by asking (it is what the bucket holds now, whatever is cached or unsent here); changed by
 * the one request that changes it, after what is unsent has gone out.
 */
#include "headers_rules.h"
#include "journal.h"

#include "../oss/base_time.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text_job {
    struct job job;
    struct cache *cache;
    char *key, *name, *value; /* value NULL: remove */
    cache_text_done *told;
    cache_done *done;
    struct cfile *cf; /* of a change */
    void *arg;
};

static void text_free(struct text_job *t)
{
    if (t->cf)
        cfile_release(t->cf);
    free(t->key);
    free(t->name);
    free(t->value);
    free(t);
}

/* ---------------------------------------------------------------------------------------------------- reading */

static const char *header_of(const char *name)
{
    static const char *const others[][2] = {{"version_id", "x-oss-version-id"}, {"restore", "x-oss-restore"}};

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (strcmp(name, others[i][0]) == 0)
            return others[i][1];
    for (int i = 0; i <= FIELD_SSE_KEY_ID; i++)
        if (i != FIELD_ACL && strcmp(name, rule_field_names[i]) == 0)
            return rule_field_headers[i];
    return NULL;
}

/* From the answer to HEAD; NULL: there is no such thing. `out` may hold the text. */
static const char *text_of(const struct oss_object *object, const char *name, char out[64])
{
    static const char *const types[] = {"Normal", "Multipart", "Appendable", "Symlink"};
    const char *header = header_of(name), *value = header ? kv_get(&object->headers, header) : NULL;

    if (strcmp(name, "etag") == 0)
        return object->etag;
    if (strcmp(name, "type") == 0)
        return types[object->type];
    if (strcmp(name, "storage_class") == 0 && !value)
        return "Standard";
    if (strcmp(name, "size") == 0)
        snprintf(out, 64, "%llu", (unsigned long long)object->size);
    else if (strcmp(name, "crc64") == 0 && object->has_crc)
        snprintf(out, 64, "%llu", (unsigned long long)object->crc64);
    else if (strcmp(name, "last_modified") == 0)
        http_date_format(out, object->last_modified);
    else
        return value;
    return out;
}

static void read_run(struct job *job)
{
    struct text_job *t = list_entry(job, struct text_job, job);
    struct cache *cache = t->cache;
    const struct oss_ops *ops = cache->oss->ops;
    struct oss_object object = {0};
    struct oss_error err = {0};
    char *tagging = NULL, acl[24], room[64] = "";
    const char *text = NULL;
    int r;

    if (strcmp(t->name, "acl") == 0) {
        r = ops->get_acl(cache->oss, t->key, acl, &err);
        text = acl;
    } else if (strcmp(t->name, "tagging") == 0) {
        r = ops->get_tagging(cache->oss, t->key, &tagging, &err);
        text = tagging && *tagging ? tagging : NULL;
    } else {
        r = ops->head(cache->oss, t->key, &object, &err);
        text = r ? NULL : text_of(&object, t->name, room);
    }
    if (r == -ENOENT || (!r && !text))
        r = -ENODATA;
    else if (r)
        cache_log_error(t->name, t->key, &err);
    t->told(t->arg, r, text);
    oss_object_free(&object);
    free(tagging);
    text_free(t);
    cache_busy(cache, -1);
}

static bool known_name(const char *name)
{
    static const char *const others[] = {"etag", "crc64", "type", "size", "last_modified", "acl", "tagging"};

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (strcmp(name, others[i]) == 0)
            return true;
    return header_of(name) != NULL;
}

static struct text_job *text_new(struct cache *cache, const char *key, const char *name, void *arg)
{
    struct text_job *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->cache = cache;
    t->arg = arg;
    t->key = strdup(key);
    t->name = strdup(name);
    if (!t->key || !t->name) {
        text_free(t);
        return NULL;
    }
    return t;
}

void cache_object_text(struct cache *cache, const char *key, const char *name, cache_text_done *done, void *arg)
{
    struct text_job *t = known_name(name) ? text_new(cache, key, name, arg) : NULL;

    if (!t) {
        done(arg, known_name(name) ? -ENOMEM : -ENODATA, NULL);
        return;
    }
    t->told = done;
    t->job.run = read_run;
    cache_busy(cache, 1);
    pool_submit(cache->pool, POOL_META, &t->job);
}

/* --------------------------------------------------------------------------------------------------- changing */

static void change_end(struct text_job *t, int r)
{
    cache_done *done = t->done;
    void *arg = t->arg;
    struct cache *cache = t->cache;

    text_free(t);
    done(arg, r);
    cache_busy(cache, -1);
}

/* What we know of the object's ACL and tags is no longer so. */
static void note_change(struct text_job *t)
{
    struct cfile *cf = t->cf;
    struct oinfo *info;

    pthread_mutex_lock(&cf->mu);
    info = cf->object && !strcmp(cf->key, t->key) ? oinfo_clone(cf->object) : NULL;
    if (info) {
        if (strcmp(t->name, "acl") == 0)
            info->acl_default = false;
        else
            info->tagged = t->value && *t->value;
        oinfo_put(cf->object);
        cf->object = oinfo_get(info);
        if (cf->state == CFILE_CLEAN)
            put_known(cf->cache, cf->key, S_ISDIR(cf->attr.mode) ? META_DIR : META_FILE, info);
    }
    pthread_mutex_unlock(&cf->mu);
    oinfo_put(info);
}

/* ACL and tags: a request of their own, which changes neither content nor ETag. */
static void change_run(struct job *job)
{
    struct text_job *t = list_entry(job, struct text_job, job);
    struct oss *oss = t->cache->oss;
    struct oss_error err = {0};
    int r;

    attr_store_forget(t->cache->attrs, t->key);
    if (strcmp(t->name, "acl") == 0)
        r = oss->ops->put_acl(oss, t->key, t->value ? t->value : "default", &err);
    else
        r = oss->ops->put_tagging(oss, t->key, t->value ? t->value : "", &err);
    if (r)
        cache_log_error(t->name, t->key, &err);
    else
        note_change(t);
    change_end(t, r);
}

static void change_flushed(void *arg, int r)
{
    struct text_job *t = arg;
    bool header = strcmp(t->name, "acl") != 0 && strcmp(t->name, "tagging") != 0;

    if (r || header) {
        change_end(t, r);
        return;
    }
    t->job.run = change_run;
    pool_submit(t->cache->pool, POOL_META, &t->job);
}

/* The value as its header has it; NULL stays NULL. -EOPNOTSUPP: nothing that could be set. */
static int check_value(const char *name, const char *value, char **out)
{
    struct rule rule = {0};
    char why[200];
    int r = -EOPNOTSUPP;

    *out = NULL;
    for (int i = 0; i <= FIELD_TAGGING && r; i++) {
        if ((i >= FIELD_SSE && i <= FIELD_SSE_KEY_ID) || strcmp(name, rule_field_names[i]) != 0)
            continue;
        if (!value)
            return 0;
        r = rule_set(&rule, name, value, why, sizeof(why));
        *out = rule.fields[i];
        break;
    }
    return r;
}

static int set_header(struct cfile *cf, const char *name, const char *value)
{
    const char *header = header_of(name);
    struct kvlist headers = {0};
    int r = cfile_headers(cf, &headers);

    if (!value && strcmp(name, "storage_class") == 0)
        value = "Standard";
    if (!r && value)
        r = kv_set(&headers, header, value);
    else if (!r)
        kv_del(&headers, header);
    if (!r)
        r = cfile_set_headers(cf, &headers);
    kv_free(&headers);
    return r;
}

void cfile_set_object_text(struct cfile *cf, const char *name, const char *value, cache_done *done, void *arg)
{
    char *checked = NULL, *key;
    struct text_job *t;
    int r = check_value(name, value, &checked);

    if (r) {
        done(arg, r);
        return;
    }
    pthread_mutex_lock(&cf->mu);
    key = strdup(cf->key);
    pthread_mutex_unlock(&cf->mu);
    t = key ? text_new(cf->cache, key, name, arg) : NULL;
    free(key);
    if (!t) {
        free(checked);
        done(arg, -ENOMEM);
        return;
    }
    t->cf = cfile_hold(cf);
    t->value = checked;
    t->done = done;
    cache_busy(cf->cache, 1);
    if (header_of(name) && strcmp(name, "tagging") != 0 && (r = set_header(cf, name, checked))) {
        change_end(t, r);
        return;
    }
    cfile_flush(cf, change_flushed, t);
}
