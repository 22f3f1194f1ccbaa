/*
 * Before an object is deleted or overwritten, what open handles may still read of it is saved. What the cache has is
 * there already; a little is fetched; more than that is copied within the bucket to a hidden object (hidden.h), which
 * the file stands in from then on. That one goes with the last handle, or, after a crash, at the next mount.
 */
#include "hidden.h"
#include "keep.h"
#include "upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct saving {
    struct cfile *cf; /* held by the change that waits for this */
    cache_done *done;
    void *arg;
    char key[OSS_KEY_MAX + 2]; /* of the hidden object */
};

/* The next range from `at` on that only the file's object has. mu held. */
static bool next_missing(const struct cfile *cf, uint64_t at, struct extent *ex)
{
    uint64_t size = extent_map_size(cf->map);

    for (; extent_map_next_remote(cf->map, at, size, ex); at = ex->end) {
        const struct base *base = cfile_base(cf, ex->base);

        if (base && cfile_is_object(cf, base))
            return true;
    }
    return false;
}

/* Is it more than should be fetched? What an earlier daemon has left need not be (keep.h). mu held. */
static bool much_is_missing(struct cfile *cf)
{
    struct extent ex;
    uint64_t n = 0;

    for (uint64_t at = 0; next_missing(cf, at, &ex); at = ex.end)
        n += ex.end - ex.start;
    return n > cf->cache->config.save_fetch + keep_left_bytes(cf);
}

static void fetch_missing(void *arg, int r)
{
    struct saving *s = arg;
    struct cfile *cf = s->cf;
    struct extent ex;
    bool found;

    pthread_mutex_lock(&cf->mu);
    found = !r && next_missing(cf, 0, &ex);
    pthread_mutex_unlock(&cf->mu);
    if (found) {
        fetch_all(cf, ex.start, ex.end, fetch_missing, s);
        return;
    }
    /* Another host has replaced or removed it: nobody can read it any more. */
    s->done(s->arg, r == -ESTALE ? 0 : r);
    free(s);
}

static void copied(void *arg, int r, struct oinfo *info)
{
    struct saving *s = arg;
    struct cfile *cf = s->cf;

    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; !r && i < cf->n_bases; i++)
        cf->bases[i].saved = cfile_is_object(cf, &cf->bases[i]);
    if (!r)
        cfile_repoint(cf, s->key, info);
    pthread_mutex_unlock(&cf->mu);
    if (r)
        hidden_remove(cf->cache, s->key);
    fetch_missing(s, 0); /* nothing, unless the service does not copy it */
}

void save_for_handles(struct cfile *cf, cache_done *done, void *arg)
{
    struct saving *s;
    bool needed, copy;

    pthread_mutex_lock(&cf->mu);
    needed = cf->opens > 0;
    copy = needed && cf->object && *cf->object->etag && cf->object->type != OSS_TYPE_SYMLINK && much_is_missing(cf);
    pthread_mutex_unlock(&cf->mu);
    s = needed ? calloc(1, sizeof(*s)) : NULL;
    if (!s) {
        done(arg, needed ? -ENOMEM : 0);
        return;
    }
    *s = (struct saving){.cf = cf, .done = done, .arg = arg};
    if (copy && !hidden_new(cf->cache, s->key))
        upload_copy(cf, s->key, NULL, copied, s);
    else
        fetch_missing(s, 0);
}

void save_undo(struct cfile *cf)
{
    char *hidden = NULL;

    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; i < cf->n_bases; i++) {
        struct base *base = &cf->bases[i];
        char *key = base->saved && cf->object ? strdup(cf->key) : NULL;

        if (!key)
            continue;
        free(hidden);
        hidden = base->key;
        base->key = key;
        base->saved = false;
        oinfo_put(base->info);
        base->info = oinfo_get(cf->object);
    }
    pthread_mutex_unlock(&cf->mu);
    if (hidden)
        hidden_remove(cf->cache, hidden);
    free(hidden);
}
