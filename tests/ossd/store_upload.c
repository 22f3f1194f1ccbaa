/* store_upload.c: multipart uploads; see store.h. */
#include "store_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct part *part_new(int number)
{
    struct part *part = xcalloc(1, sizeof *part);

    atomic_init(&part->refs, 1);
    part->number = number;
    return part;
}

struct part *part_ref(struct part *part)
{
    atomic_fetch_add(&part->refs, 1);
    return part;
}

void part_unref(struct part *part)
{
    if (!part || atomic_fetch_sub(&part->refs, 1) != 1)
        return;
    segments_free(part->segments, part->n_segments);
    free(part);
}

void parts_free(struct part **parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        part_unref(parts[i]);
    free(parts);
}

/* The name under which an upload is found: key NUL id. */
static void upload_name(struct sbuf *out, struct bytes key, const char *id)
{
    sbuf_add(out, key.p, key.n);
    sbuf_add(out, "", 1);
    sbuf_adds(out, id);
}

struct upload *upload_new(struct object *model, const char *id)
{
    struct upload *upload = xcalloc(1, sizeof *upload);
    struct sbuf name = {0};

    atomic_init(&upload->refs, 1);
    upload->model = model;
    strncpy(upload->id, id, UPLOAD_ID_SIZE - 1);
    upload_name(&name, model->key, upload->id);
    upload->name = (struct bytes){name.p, name.n};
    return upload;
}

void upload_unref(struct upload *upload)
{
    if (!upload || atomic_fetch_sub(&upload->refs, 1) != 1)
        return;
    parts_free(upload->parts, upload->n_parts);
    object_unref(upload->model);
    free((char *)upload->name.p);
    free(upload);
}

/* The place of the first part with a number of at least this. */
static size_t part_place(const struct upload *upload, int number)
{
    size_t low = 0, high = upload->n_parts;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (upload->parts[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void upload_set_part(struct upload *upload, struct part *part)
{
    size_t at = part_place(upload, part->number);

    if (at < upload->n_parts && upload->parts[at]->number == part->number) {
        part_unref(upload->parts[at]);
        upload->parts[at] = part;
        return;
    }
    if (upload->n_parts == upload->cap_parts) {
        upload->cap_parts = upload->cap_parts ? 2 * upload->cap_parts : 8;
        upload->parts = xrealloc(upload->parts, upload->cap_parts * sizeof *upload->parts);
    }
    memmove(upload->parts + at + 1, upload->parts + at, (upload->n_parts - at) * sizeof *upload->parts);
    upload->parts[at] = part;
    upload->n_parts++;
}

void bucket_drop_upload(struct bucket *bucket, struct upload *upload)
{
    upload->gone = true;
    index_remove(bucket->uploads, upload->name);
    upload_unref(upload);
}

int store_upload_add(struct store *store, const char *bucket_name, struct upload *upload)
{
    int r = -ENOENT;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (bucket)
        r = log_upload(store->log, bucket_name, upload);
    if (!r)
        index_put(bucket->uploads, upload->name, upload);
    pthread_mutex_unlock(&store->lock);
    if (r)
        upload_unref(upload);
    return r;
}

struct upload *store_upload_get(struct store *store, const char *bucket_name, struct bytes key, const char *id)
{
    struct sbuf name = {0};
    struct upload *upload = NULL;

    upload_name(&name, key, id);
    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (bucket)
        upload = index_find(bucket->uploads, (struct bytes){name.p, name.n});
    if (upload)
        atomic_fetch_add(&upload->refs, 1);
    pthread_mutex_unlock(&store->lock);
    sbuf_free(&name);
    return upload;
}

int store_upload_part(struct store *store, const char *bucket_name, struct upload *upload, struct part *part)
{
    int r = 0;

    pthread_mutex_lock(&store->lock);
    if (upload->gone)
        r = -ENOENT;
    else if (upload->sequential && part->number <= (int)upload->n_parts)
        r = -EEXIST;
    else if (upload->sequential && part->number > (int)upload->n_parts + 1)
        r = -ERANGE;
    else
        r = log_part(store->log, bucket_name, upload, part);
    if (!r)
        upload_set_part(upload, part);
    pthread_mutex_unlock(&store->lock);
    if (r)
        part_unref(part);
    return r;
}

size_t store_upload_parts(struct store *store, struct upload *upload, struct part ***parts)
{
    pthread_mutex_lock(&store->lock);
    size_t n = upload->n_parts;
    *parts = xcalloc(n, sizeof **parts);
    for (size_t i = 0; i < n; i++)
        (*parts)[i] = part_ref(upload->parts[i]);
    pthread_mutex_unlock(&store->lock);
    return n;
}

int store_upload_remove(struct store *store, const char *bucket_name, struct upload *upload)
{
    int r = -ENOENT;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (bucket && !upload->gone)
        r = log_upload_gone(store->log, bucket_name, upload);
    if (!r)
        bucket_drop_upload(bucket, upload);
    pthread_mutex_unlock(&store->lock);
    return r;
}

int store_upload_complete(struct store *store, const char *bucket_name, struct upload *upload, struct object *object,
                          bool forbid_overwrite)
{
    struct object *drop = object;
    int r = 0;

    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (!bucket || upload->gone)
        r = -ENOENT;
    else if (forbid_overwrite && index_find(bucket->objects, object->key))
        r = -EEXIST;
    else
        r = log_complete(store->log, bucket_name, upload, object);
    if (!r) {
        bucket_drop_upload(bucket, upload);
        drop = bucket_set_object(bucket, object);
    }
    pthread_mutex_unlock(&store->lock);
    object_unref(drop);
    return r;
}
