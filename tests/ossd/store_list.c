/* store_list.c: pages of objects and of uploads, with common prefixes; see store.h. */
#include "store_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What both listings share: the common prefix of a key, or 0 bytes. */
static size_t common_prefix(struct bytes key, struct bytes prefix, struct bytes delimiter)
{
    if (!delimiter.n || key.n < prefix.n + delimiter.n)
        return 0;
    const char *at = memmem(key.p + prefix.n, key.n - prefix.n, delimiter.p, delimiter.n);
    return at ? (size_t)(at - key.p) + delimiter.n : 0;
}

/* The smallest byte string greater than all that begin with s, in `out`; false when there is none. */
static bool beyond_prefix(struct sbuf *out, struct bytes s)
{
    while (s.n && (unsigned char)s.p[s.n - 1] == 255)
        s.n--;
    out->n = 0;
    sbuf_add(out, s.p, s.n);
    if (s.n)
        out->p[s.n - 1]++;
    return s.n > 0;
}

static void add_prefix(char ***prefixes, size_t **sizes, size_t *n, struct bytes prefix)
{
    if ((*n & (*n - 1)) == 0) {
        size_t cap = *n ? 2 * *n : 1;
        *prefixes = xrealloc(*prefixes, cap * sizeof **prefixes);
        *sizes = xrealloc(*sizes, cap * sizeof **sizes);
    }
    (*prefixes)[*n] = xmemdup(prefix.p, prefix.n);
    (*sizes)[(*n)++] = prefix.n;
}

static void remember(struct sbuf *last, struct bytes s)
{
    last->n = 0;
    sbuf_add(last, s.p, s.n);
}

static void list_objects(struct index *objects, struct store_list *l)
{
    struct sbuf jump = {0};
    bool after = l->after.n && bytes_compare(l->after, l->prefix) >= 0;
    const struct index_node *node = index_seek(objects, after ? l->after : l->prefix, after);

    while (node) {
        struct bytes key = index_key(node);
        if (!bytes_starts(key, l->prefix))
            break;
        size_t common = common_prefix(key, l->prefix, l->delimiter);
        struct bytes group = {key.p, common};
        bool passed = common && bytes_compare(group, l->after) == 0;
        if (!passed && l->n_objects + l->n_prefixes == l->max) {
            l->truncated = true;
            break;
        }
        if (!common) {
            l->objects[l->n_objects++] = object_ref(index_value(node));
            remember(&l->last, key);
            node = index_next(node);
            continue;
        }
        if (!passed) {
            add_prefix(&l->prefixes, &l->prefix_sizes, &l->n_prefixes, group);
            remember(&l->last, group);
        }
        node = beyond_prefix(&jump, group) ? index_seek(objects, (struct bytes){jump.p, jump.n}, false) : NULL;
    }
    sbuf_free(&jump);
}

int store_list(struct store *store, const char *bucket_name, struct store_list *list)
{
    list->objects = xcalloc(list->max, sizeof *list->objects);
    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (bucket && list->max)
        list_objects(bucket->objects, list);
    pthread_mutex_unlock(&store->lock);
    return bucket ? 0 : -ENOENT;
}

static void free_prefixes(char **prefixes, size_t *sizes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(prefixes[i]);
    free(prefixes);
    free(sizes);
}

void store_list_free(struct store_list *list)
{
    for (size_t i = 0; i < list->n_objects; i++)
        object_unref(list->objects[i]);
    free(list->objects);
    free_prefixes(list->prefixes, list->prefix_sizes, list->n_prefixes);
    sbuf_free(&list->last);
}

/* Where the walk over uploads begins: names are key NUL id. */
static const struct index_node *first_upload(struct index *uploads, const struct store_upload_list *l)
{
    struct sbuf name = {0};
    const struct index_node *node;

    if (!l->key_marker.n || bytes_compare(l->key_marker, l->prefix) < 0)
        return index_seek(uploads, l->prefix, false);
    sbuf_add(&name, l->key_marker.p, l->key_marker.n);
    sbuf_add(&name, l->id_marker && *l->id_marker ? "\0" : "\1", 1);
    if (l->id_marker)
        sbuf_adds(&name, l->id_marker);
    node = index_seek(uploads, (struct bytes){name.p, name.n}, l->id_marker && *l->id_marker);
    sbuf_free(&name);
    return node;
}

static void list_uploads(struct index *uploads, struct store_upload_list *l)
{
    struct sbuf jump = {0};
    const struct index_node *node = first_upload(uploads, l);

    while (node) {
        struct upload *upload = index_value(node);
        struct bytes key = upload->model->key;
        if (!bytes_starts(key, l->prefix))
            break;
        size_t common = common_prefix(key, l->prefix, l->delimiter);
        struct bytes group = {key.p, common};
        bool passed = common && bytes_compare(group, l->key_marker) == 0;
        if (!passed && l->n_uploads + l->n_prefixes == l->max) {
            l->truncated = true;
            break;
        }
        if (!common) {
            atomic_fetch_add(&upload->refs, 1);
            l->uploads[l->n_uploads++] = upload;
            remember(&l->last_key, key);
            memcpy(l->last_id, upload->id, UPLOAD_ID_SIZE);
            node = index_next(node);
            continue;
        }
        if (!passed) {
            add_prefix(&l->prefixes, &l->prefix_sizes, &l->n_prefixes, group);
            remember(&l->last_key, group);
            l->last_id[0] = '\0';
        }
        node = beyond_prefix(&jump, group) ? index_seek(uploads, (struct bytes){jump.p, jump.n}, false) : NULL;
    }
    sbuf_free(&jump);
}

int store_list_uploads(struct store *store, const char *bucket_name, struct store_upload_list *list)
{
    list->uploads = xcalloc(list->max, sizeof *list->uploads);
    pthread_mutex_lock(&store->lock);
    struct bucket *bucket = bucket_find(store, bucket_name);
    if (bucket && list->max)
        list_uploads(bucket->uploads, list);
    pthread_mutex_unlock(&store->lock);
    return bucket ? 0 : -ENOENT;
}

void store_upload_list_free(struct store_upload_list *list)
{
    for (size_t i = 0; i < list->n_uploads; i++)
        upload_unref(list->uploads[i]);
    free(list->uploads);
    free_prefixes(list->prefixes, list->prefix_sizes, list->n_prefixes);
    sbuf_free(&list->last_key);
}
