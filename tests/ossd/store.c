/* store.c: buckets and objects; see store.h. Uploads are in store_upload.c, listings in store_list.c. */
#include "store_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const type_names[] = {"Normal", "Multipart", "Appendable", "Symlink"};
static const char *const acl_names[] = {"default", "private", "public-read", "public-read-write"};

const char *object_type_name(enum object_type type)
{
    return type_names[type];
}

const char *acl_name(enum acl acl)
{
    return acl_names[acl];
}

enum acl acl_parse(const char *name)
{
    for (int i = 0; i < ACL_BAD; i++)
        if (strcmp(name, acl_names[i]) == 0)
            return (enum acl)i;
    return ACL_BAD;
}

/* ----------------------------------------------------------------------------------------------- objects */

struct object *object_new(struct bytes key)
{
    struct object *object = xcalloc(1, sizeof *object + key.n + 1);
    char *room = (char *)(object + 1);

    atomic_init(&object->refs, 1);
    if (key.n)
        memcpy(room, key.p, key.n);
    object->key = (struct bytes){room, key.n};
    return object;
}

struct object *object_clone(const struct object *from, struct bytes key)
{
    struct object *object = object_new(key);

    object->type = from->type;
    object->acl = from->acl;
    object->has_md5 = from->has_md5;
    object->copied = from->copied;
    memcpy(object->md5, from->md5, sizeof object->md5);
    object->size = from->size;
    object->crc = from->crc;
    object->mtime = from->mtime;
    memcpy(object->etag, from->etag, sizeof object->etag);
    if (from->headers_n)
        object->headers = xmemdup(from->headers, from->headers_n);
    object->headers_n = from->headers_n;
    object->tags = from->tags ? xstrdup(from->tags) : NULL;
    object->target = from->target ? xstrdup(from->target) : NULL;
    object->restored_ms = from->restored_ms;
    object->restored_until = from->restored_until;
    object->n_segments = segments_slice(from->segments, from->n_segments, 0, UINT64_MAX, &object->segments);
    return object;
}

struct object *object_ref(struct object *object)
{
    atomic_fetch_add(&object->refs, 1);
    return object;
}

void object_unref(struct object *object)
{
    if (!object || atomic_fetch_sub(&object->refs, 1) != 1)
        return;
    segments_free(object->segments, object->n_segments);
    free(object->headers);
    free(object->tags);
    free(object->target);
    free(object);
}

const char *object_next_header(const struct object *object, const char *value, const char **name)
{
    const char *p = value ? value + strlen(value) + 1 : object->headers;

    if (!p || p == object->headers + object->headers_n)
        return NULL;
    *name = p;
    return p + strlen(p) + 1;
}

const char *object_header(const struct object *object, const char *name)
{
    const char *at, *value = NULL;

    while ((value = object_next_header(object, value, &at)))
        if (strcmp(at, name) == 0)
            return value;
    return NULL;
}

void object_set_headers(struct object *object, const struct pairs *headers)
{
    struct sbuf b = {0};

    for (size_t i = 0; i < headers->n; i++) {
        sbuf_add(&b, headers->v[i].name, strlen(headers->v[i].name) + 1);
        sbuf_add(&b, headers->v[i].value, strlen(headers->v[i].value) + 1);
    }
    free(object->headers);
    object->headers = b.n ? xmemdup(b.p, b.n) : NULL;
    object->headers_n = b.n;
    sbuf_free(&b);
}

/* ----------------------------------------------------------------------------------------------- buckets */

struct bucket *bucket_find(struct store *store, const char *name)
{
    for (struct bucket *b = store->buckets; b; b = b->next)
        if (strcmp(b->name, name) == 0)
            return b;
    return NULL;
}

struct bucket *bucket_new(struct store *store, const char *name, enum acl acl, time_t created)
{
    struct bucket **at = &store->buckets;
    struct bucket *bucket = xcalloc(1, sizeof *bucket);

    while (*at && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    snprintf(bucket->name, sizeof bucket->name, "%s", name);
    bucket->acl = acl;
    bucket->created = created;
    bucket->objects = index_new();
    bucket->uploads = index_new();
    bucket->next = *at;
    *at = bucket;
    return bucket;
}

void bucket_drop(struct store *store, struct bucket *bucket)
{
    struct bucket **at = &store->buckets;
    const struct bytes least = {"", 0};

    while (*at != bucket)
        at = &(*at)->next;
    *at = bucket->next;
    for (const struct index_node *n = index_seek(bucket->objects, least, false); n; n = index_next(n))
        object_unref(index_value(n));
    for (const struct index_node *n = index_seek(bucket->uploads, least, false); n; n = index_next(n))
        upload_unref(index_value(n));
    index_free(bucket->objects);
    index_free(bucket->uploads);
    free(bucket);
}

struct object *bucket_set_object(struct bucket *bucket, struct object *object)
{
    struct object *old = index_put(bucket->objects, object->key, object);

    bucket->bytes += object->size - (old ? old->size : 0);
    return old;
}

struct object *bucket_drop_object(struct bucket *bucket, struct bytes key)
{
    struct object *old = index_remove(bucket->objects, key);

    if (old)
        bucket->bytes -= old->size;
    return old;
}

int store_bucket_add(struct store *store, const char *name, enum acl acl, time_t now)
{
    int r = 0;

    pthread_mutex_lock(&store->lock);
    if (bucket_find(store, name)) {
        r = -EEXIST;
    } else {
        struct bucket *bucket = bucket_new(store, name, acl, now);
        r = log_bucket(store->log, bucket);
        if (r)
            bucket_drop(store, bucket);
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

int store_bucket_remove(struct store *store, const char *name)
{
    int r = 0;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, name);
    if (!bucket)
        r = -ENOENT;
    else if (index_count(bucket->objects) || index_count(bucket->uploads))
        r = -ENOTEMPTY;
    else
        r = log_bucket_gone(store->log, name);
    if (!r)
        bucket_drop(store, bucket);
    pthread_mutex_unlock(&store->lock);
    return r;
}

int store_bucket_set_acl(struct store *store, const char *name, enum acl acl)
{
    int r = -ENOENT;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, name);
    if (bucket) {
        enum acl old = bucket->acl;
        bucket->acl = acl;
        r = log_bucket(store->log, bucket);
        if (r)
            bucket->acl = old;
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

static void bucket_describe(const struct bucket *bucket, struct bucket_info *out)
{
    *out = (struct bucket_info){.created = bucket->created, .acl = bucket->acl, .bytes = bucket->bytes};
    snprintf(out->name, sizeof out->name, "%s", bucket->name);
    out->objects = index_count(bucket->objects);
    out->uploads = index_count(bucket->uploads);
    for (const struct index_node *n = index_seek(bucket->uploads, (struct bytes){"", 0}, false); n;
         n = index_next(n)) {
        const struct upload *upload = index_value(n);
        out->parts += upload->n_parts;
        for (size_t i = 0; i < upload->n_parts; i++)
            out->part_bytes += upload->parts[i]->size;
    }
}

int store_bucket_info(struct store *store, const char *name, struct bucket_info *out)
{
    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, name);
    if (bucket)
        bucket_describe(bucket, out);
    pthread_mutex_unlock(&store->lock);
    return bucket ? 0 : -ENOENT;
}

bool store_has_bucket(struct store *store, const char *name, enum acl *acl)
{
    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, name);
    if (bucket && acl)
        *acl = bucket->acl;
    pthread_mutex_unlock(&store->lock);
    return bucket != NULL;
}

size_t store_buckets(struct store *store, struct bucket_info **out)
{
    size_t n = 0;

    *out = NULL;
    pthread_mutex_lock(&store->lock);
    for (struct bucket *b = store->buckets; b; b = b->next) {
        *out = xrealloc(*out, (n + 1) * sizeof **out);
        bucket_describe(b, &(*out)[n++]);
    }
    pthread_mutex_unlock(&store->lock);
    return n;
}

/* ------------------------------------------------------------------------------------------- get and put */

struct object *store_get(struct store *store, const char *bucket_name, struct bytes key)
{
    struct object *object = NULL;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (bucket)
        object = index_find(bucket->objects, key);
    if (object)
        object_ref(object);
    pthread_mutex_unlock(&store->lock);
    return object;
}

int store_put(struct store *store, const char *bucket_name, struct object *object, const struct store_put_opts *opts)
{
    static const struct store_put_opts none;
    struct object *drop = object;
    int r = 0;

    if (!opts)
        opts = &none;
    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    struct object *now = bucket ? index_find(bucket->objects, object->key) : NULL;
    if (!bucket)
        r = -ENOENT;
    else if (opts->forbid_overwrite && now)
        r = -EEXIST;
    else if (opts->tied && now != opts->expected)
        r = -ESTALE;
    else
        r = log_object(store->log, bucket_name, object);
    if (!r)
        drop = bucket_set_object(bucket, object);
    pthread_mutex_unlock(&store->lock);
    object_unref(drop);
    return r;
}

int store_remove(struct store *store, const char *bucket_name, struct bytes key)
{
    struct object *old = NULL;
    int r = 0;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (!bucket)
        r = -ENOENT;
    else if (index_find(bucket->objects, key))
        r = log_object_gone(store->log, bucket_name, key);
    if (!r)
        old = bucket_drop_object(bucket, key);
    pthread_mutex_unlock(&store->lock);
    object_unref(old);
    return r;
}

/* --------------------------------------------------------------------------------------- open and close */

struct blobs *store_blobs(struct store *store)
{
    return store->blobs;
}

static int store_load(struct store *store, const char *dir, char *error, size_t error_size)
{
    struct sbuf path = {0};
    int r = 0;

    sbuf_addf(&path, "%s/blobs", dir);
    if ((mkdir(dir, 0700) && errno != EEXIST) || (mkdir(path.p, 0700) && errno != EEXIST) ||
        !(store->blobs = blobs_open(path.p))) {
        snprintf(error, error_size, "%s: %s", dir, strerror(errno));
        r = -EIO;
    } else {
        path.n = 0;
        sbuf_addf(&path, "%s/index.log", dir);
        r = log_open(store, path.p, error, error_size);
    }
    if (!r)
        blobs_loaded(store->blobs);
    sbuf_free(&path);
    return r;
}

struct store *store_open(const char *dir, char *error, size_t error_size)
{
    struct store *store = xcalloc(1, sizeof *store);

    pthread_mutex_init(&store->lock, NULL);
    if (!dir) {
        store->blobs = blobs_open(NULL);
    } else if (store_load(store, dir, error, error_size)) {
        store_close(store);
        return NULL;
    }
    return store;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    if (store->blobs)
        blobs_keep_files(store->blobs);
    while (store->buckets)
        bucket_drop(store, store->buckets);
    log_close(store->log);
    if (store->blobs)
        blobs_loaded(store->blobs);
    blobs_close(store->blobs);
    pthread_mutex_destroy(&store->lock);
    free(store);
}
