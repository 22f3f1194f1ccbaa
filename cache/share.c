/*
 * Files that stand in part in the objects of other files: what copy_file_range() leaves, until the file's own upload
 * has copied those ranges within the bucket.
 *
 * Such a file is in cache->sharers. An object that others stand in may not go from under them: before it is deleted
 * or overwritten, share_save() waits for the uploads that are copying from it, and brings what else is needed of it
 * into the files' own data; after it was moved, share_repoint() tells where it is now. What another host does to it
 * in the meantime is met by the ETag that every copy is tied to: the upload fails with ESTALE, and nothing is mixed.
 */
#include "journal.h"
#include "keep.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The number of the base, made when there is none. mu held. */
static int foreign_base(struct cfile *cf, const char *key, struct oinfo *info)
{
    int id;

    for (size_t i = 0; i < cf->n_bases; i++)
        if (cf->bases[i].foreign && !strcmp(cf->bases[i].key, key) && !strcmp(cf->bases[i].info->etag, info->etag))
            return cf->bases[i].id;
    id = cfile_add_base(cf, key, info);
    if (id >= 0)
        cf->bases[cf->n_bases - 1].foreign = true;
    return id;
}

/* The number of the base that is the file's own object, or a negative errno. mu held. */
static int own_base(const struct cfile *cf)
{
    for (size_t i = 0; i < cf->n_bases; i++)
        if (cfile_is_object(cf, &cf->bases[i]))
            return cf->bases[i].id;
    return -ESTALE;
}

int share_range(struct cfile *cf, const struct share *share)
{
    bool own = cf->object && !strcmp(cf->key, share->key) && !strcmp(cf->object->etag, share->info->etag);
    int r = own ? own_base(cf) : foreign_base(cf, share->key, share->info);

    if (own && r < 0)
        r = cfile_add_base(cf, cf->key, cf->object); /* nothing else stood in it any more */

    keep_cut(cf, share->start, share->end);
    if (r >= 0)
        r = extent_map_share(cf->map, share->start, share->end, r, share->base_offset);
    if (!r && !own && list_empty(&cf->share_link))
        list_add_tail(&cf->cache->sharers, &cf->share_link);
    cfile_prune_bases(cf);
    return r;
}

int cfile_share(struct cfile *cf, const struct share *share)
{
    struct cache *cache = cf->cache;
    int r = share->end > cache->config.limits.object_max ? -EFBIG : 0;

    pthread_mutex_lock(&cache->mu);
    pthread_mutex_lock(&cf->mu);
    if (!r)
        r = journal_dirty(cf, share->start, share->end);
    if (!r && share->start > cf->attr.size) {
        r = extent_map_truncate(cf->map, share->start, cf->epoch);
        cf->attr.size = r ? cf->attr.size : share->start;
    }
    stream_drop(cf); /* it sends what is here */
    segment_close(cf);
    if (!r)
        r = share_range(cf, share);
    if (!r) {
        if (share->end > cf->attr.size)
            cf->attr.size = share->end;
        clock_gettime(CLOCK_REALTIME_COARSE, &cf->attr.mtime);
        cf->written = true;
        cfile_changed(cf, CFILE_ON_WRITE);
        cf->plain_gen = cf->gen;
    }
    pthread_mutex_unlock(&cf->mu);
    pthread_mutex_unlock(&cache->mu);
    return r;
}

/* ------------------------------------------------------------------------------------------- who shares */

static bool is_of(const struct base *base, const char *key)
{
    return base->foreign && !strcmp(base->key, key);
}

/* The files that stand in objects of `key` (NULL: in any), referenced; *n of them. NULL: none, or no memory. */
static struct cfile **sharers_of(struct cache *cache, const char *key, size_t *n)
{
    struct cfile **v = NULL, **more;

    *n = 0;
    pthread_mutex_lock(&cache->mu);
    list_for_each_safe (it, &cache->sharers) {
        struct cfile *cf = list_entry(it, struct cfile, share_link);
        bool any = false, found = false;

        pthread_mutex_lock(&cf->mu);
        for (size_t i = 0; i < cf->n_bases; i++) {
            any = any || cf->bases[i].foreign;
            found = found || (cf->bases[i].foreign && (!key || is_of(&cf->bases[i], key)));
        }
        pthread_mutex_unlock(&cf->mu);
        if (!any)
            list_del(&cf->share_link); /* sent meanwhile */
        if (found && (more = realloc(v, (*n + 1) * sizeof(struct cfile *)))) {
            v = more;
            cfile_ref_locked(cf);
            v[(*n)++] = cf;
        }
    }
    pthread_mutex_unlock(&cache->mu);
    return v;
}

/* A copy that found the file at rest has told so in the list by now. */
static void fence(struct cfile *cf)
{
    pthread_rwlock_wrlock(&cf->io);
    pthread_rwlock_unlock(&cf->io);
}

/* ------------------------------------------------------------------------------------------- saving */

struct save {
    char *key;
    struct cfile **files;
    size_t n, at;
    struct waiter ended;
    cache_done *done;
    void *arg;
};

static void save_end(struct save *s, int r)
{
    cache_done *done = s->done;
    void *arg = s->arg;

    for (size_t i = 0; i < s->n; i++)
        cfile_release(s->files[i]);
    free(s->files);
    free(s->key);
    free(s);
    done(arg, r);
}

/* The first range that is still only in the object. mu held. */
static bool find_missing(const struct cfile *cf, const char *key, struct extent *ex)
{
    uint64_t size = extent_map_size(cf->map);

    for (uint64_t at = 0; extent_map_next_remote(cf->map, at, size, ex); at = ex->end) {
        const struct base *base = cfile_base(cf, ex->base);

        if (base && is_of(base, key))
            return true;
    }
    return false;
}

/* What is here of the object becomes the file's own, as if it had just been written. No upload is under way; mu held.
 */
static int make_own(struct cfile *cf, const char *key)
{
    struct extent ex;
    int r = 0;

    for (uint64_t at = 0; !r && extent_map_find(cf->map, at, &ex); at = ex.end) {
        const struct base *base = ex.base == EXTENT_NEW ? NULL : cfile_base(cf, ex.base);

        if (base && is_of(base, key))
            r = extent_map_write(cf->map, ex.start, ex.end, cf->epoch);
    }
    cfile_prune_bases(cf);
    if (!r && cf->journal_fd >= 0 && cf->journal_committed)
        r = journal_commit(cf);
    return r;
}

static void save_step(void *arg, int r)
{
    struct save *s = arg;

    while (!r && s->at < s->n) {
        struct cfile *cf = s->files[s->at];
        struct extent missing;
        bool fetch = false;

        pthread_mutex_lock(&cf->mu);
        for (size_t i = 0; i < cf->n_bases; i++)
            cf->bases[i].no_copy = cf->bases[i].no_copy || is_of(&cf->bases[i], s->key);
        if (cf->upload_gen != 0) {
            /* It may be copying from the object just now. */
            s->ended = (struct waiter){.done = save_step, .arg = s};
            list_add_tail(&cf->ended_waiters, &s->ended.link);
            pthread_mutex_unlock(&cf->mu);
            return;
        }
        fetch = find_missing(cf, s->key, &missing);
        if (!fetch) {
            r = make_own(cf, s->key);
            s->at++;
        }
        pthread_mutex_unlock(&cf->mu);
        if (fetch) {
            fetch_all(cf, missing.start, missing.end, save_step, s);
            return;
        }
    }
    save_end(s, r);
}

void share_save(struct cfile *owner, cache_done *done, void *arg)
{
    struct save *s;
    char *key;

    fence(owner);
    pthread_mutex_lock(&owner->mu);
    key = strdup(owner->key);
    pthread_mutex_unlock(&owner->mu);
    s = key ? calloc(1, sizeof(*s)) : NULL;
    if (!s) {
        free(key);
        done(arg, -ENOMEM);
        return;
    }
    *s = (struct save){.key = key, .done = done, .arg = arg};
    s->files = sharers_of(owner->cache, key, &s->n);
    save_step(s, 0);
}

/* ------------------------------------------------------------------------------------------- moving */

void share_fence(struct cfile *owner)
{
    fence(owner);
}

static void repoint(struct cfile *cf, const char *from, const char *etag, const char *to, const char *new_etag)
{
    bool changed = false;

    pthread_mutex_lock(&cf->mu);
    for (size_t i = 0; i < cf->n_bases; i++) {
        struct base *base = &cf->bases[i];
        bool is_it = is_of(base, from) && !strcmp(base->info->etag, etag);
        struct oinfo *info = is_it ? oinfo_clone(base->info) : NULL;
        char *key = info ? strdup(to) : NULL;

        if (key) {
            memcpy(info->etag, new_etag, sizeof(info->etag));
            free(base->key);
            base->key = key;
            oinfo_put(base->info);
            base->info = info;
            changed = true;
        } else {
            oinfo_put(info);
        }
    }
    /* The old key may be gone when an earlier daemon's journal is read. */
    if (changed && cf->journal_fd >= 0 && cf->journal_committed)
        journal_commit(cf);
    pthread_mutex_unlock(&cf->mu);
}

void share_repoint(struct cache *cache, const char *from, const char *etag, const char *to, const char *new_etag)
{
    size_t n;
    struct cfile **files = sharers_of(cache, from, &n);

    for (size_t i = 0; i < n; i++) {
        repoint(files[i], from, etag, to, new_etag);
        cfile_release(files[i]);
    }
    free(files);
}
