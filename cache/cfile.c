#include "hidden.h"
#include "journal.h"
#include "keep.h"
#include "stream.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_MAX      20000 /* closed files that are known as such: bounds the memory for them */
#define ATTR_DELAY_MS 900   /* pending attributes are folded for so long: sent "within a second" */

void cfile_changed(struct cfile *cf, enum cfile_event event)
{
    cf->gen++;
    if (event == CFILE_ON_ATTRIBUTES)
        cf->attr_changed = true;
    else
        cf->data_gen = cf->gen;
    cfile_event(cf, event);
    cf->error = 0;
    clock_gettime(CLOCK_REALTIME_COARSE, &cf->attr.ctime);
    cfile_check(cf);
}

/* ------------------------------------------------------------------------------------------- the table */

static struct list *bucket_of(struct cache *cache, const char *key)
{
    uint64_t h = 14695981039346656037u;

    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 1099511628211u;
    return &cache->table[(h ^ h >> 32) & (cache->table_size - 1)];
}

static struct cfile *table_find(struct cache *cache, const char *key)
{
    struct list *bucket = bucket_of(cache, key);

    list_for_each (it, bucket) {
        struct cfile *cf = list_entry(it, struct cfile, hash_link);

        if (!strcmp(cf->key, key))
            return cf;
    }
    return NULL;
}

static void table_add(struct cache *cache, struct cfile *cf)
{
    list_add_tail(bucket_of(cache, cf->key), &cf->hash_link);
    cf->in_table = true;
    cache->n_cfiles++;
}

static void table_remove(struct cache *cache, struct cfile *cf)
{
    if (!cf->in_table)
        return;
    list_del(&cf->hash_link);
    cf->in_table = false;
    cache->n_cfiles--;
}

static void bases_clear(struct cfile *cf)
{
    for (size_t i = 0; i < cf->n_bases; i++) {
        free(cf->bases[i].key);
        oinfo_put(cf->bases[i].info);
    }
    free(cf->bases);
    cf->bases = NULL;
    cf->n_bases = 0;
}

/* Nobody holds it and nobody can find it. The data file goes, but for what is unsent. */
static void cfile_destroy(struct cfile *cf, bool keep_data)
{
    if (cf->fd >= 0)
        close(cf->fd);
    if (keep_data && cf->journal_fd >= 0)
        close(cf->journal_fd);
    else
        journal_remove(cf);
    if (cf->path && !keep_data)
        unlink(cf->path);
    keep_gone(cf);
    for (size_t i = 0; i < cf->n_bases && !keep_data; i++)
        if (!cf->rescued && hidden_is(cf->cache, cf->bases[i].key))
            hidden_remove(cf->cache, cf->bases[i].key);
    if (cf->resume)
        journal_state_free(cf->resume);
    free(cf->resume);
    failure_clear(cf);
    bases_clear(cf);
    oinfo_put(cf->object);
    kv_free(&cf->headers);
    extent_map_free(cf->map);
    pthread_rwlock_destroy(&cf->io);
    pthread_mutex_destroy(&cf->mu);
    free(cf->path);
    free(cf->key);
    free(cf);
}

static void timer_run(struct job *job);
static void retry_run(struct job *job);

static struct cfile *cfile_new(struct cache *cache, const char *key)
{
    struct cfile *cf = calloc(1, sizeof(*cf));
    pthread_rwlockattr_t attr;

    if (!cf)
        return NULL;
    cf->cache = cache;
    cf->fd = cf->journal_fd = -1;
    cf->key = strdup(key);
    cf->map = extent_map_new();
    if (!cf->key || !cf->map) {
        free(cf->key);
        extent_map_free(cf->map);
        free(cf);
        return NULL;
    }
    list_init(&cf->hash_link);
    list_init(&cf->lru);
    list_init(&cf->changes);
    list_init(&cf->waiters);
    list_init(&cf->ended_waiters);
    list_init(&cf->replace_waiters);
    list_init(&cf->share_link);
    list_init(&cf->fetches);
    cf->timer.run = timer_run;
    cf->retry.run = retry_run;
    cf->later.run = background_run;
    cf->epoch = 1;
    pthread_mutex_init(&cf->mu, NULL);
    /* Readers and fills that follow each other closely must not keep others out for ever. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&cf->io, &attr);
    pthread_rwlockattr_destroy(&attr);
    return cf;
}

void cfile_ref_locked(struct cfile *cf)
{
    if (cf->refs++ == 0 && !list_empty(&cf->lru)) {
        list_del(&cf->lru);
        cf->cache->n_idle--;
    }
}

struct cfile *cfile_hold(struct cfile *cf)
{
    pthread_mutex_lock(&cf->cache->mu);
    cfile_ref_locked(cf);
    pthread_mutex_unlock(&cf->cache->mu);
    return cf;
}

/* false: nothing was done, because it is to be recorded first. */
static bool release(struct cfile *cf, bool as_is)
{
    struct cache *cache = cf->cache;
    bool drop = false, idle = false;

    pthread_mutex_lock(&cache->mu);
    if (!as_is && cf->refs == 1 && keep_wanted(cf)) {
        pthread_mutex_unlock(&cache->mu);
        return false;
    }
    if (--cf->refs == 0) {
        pthread_mutex_lock(&cf->mu);
        /* What is unsent stays where it can be found. */
        idle = !cf->orphan && cf->state == CFILE_CLEAN &&
               (extent_map_local_bytes(cf->map) > 0 || keep_left_bytes(cf) > 0);
        drop = cf->orphan || (cf->state == CFILE_CLEAN && !idle);
        /* Idle files may be many, descriptors are few. */
        if (idle && cf->fd >= 0) {
            close(cf->fd);
            cf->fd = -1;
        }
        pthread_mutex_unlock(&cf->mu);
    }
    if (drop) {
        table_remove(cache, cf);
        list_del(&cf->share_link);
        cache->cached_bytes -= cf->cached_bytes;
    }
    if (idle) {
        list_add_tail(&cache->idle, &cf->lru);
        cache->n_idle++;
    }
    pthread_mutex_unlock(&cache->mu);
    if (drop)
        cfile_destroy(cf, false);
    if (idle)
        evict_shrink(cache);
    return true;
}

void cfile_release_as_is(struct cfile *cf)
{
    release(cf, true);
}

void cfile_release(struct cfile *cf)
{
    if (!release(cf, false) && !keep_begin(cf))
        release(cf, true);
}

static void destroy_all(struct list *list, bool keep_data)
{
    list_for_each_safe (it, list) {
        list_del(it);
        cfile_destroy(list_entry(it, struct cfile, lru), keep_data);
    }
}

void evict_shrink(struct cache *cache)
{
    evict_shrink_to(cache, cache->config.cache_size);
}

void evict_shrink_to(struct cache *cache, uint64_t bytes)
{
    struct list victims, returned;
    bool more;

    list_init(&victims);
    list_init(&returned);
    keep_shrink(cache, bytes); /* what is there was used before all that is idle */
    pthread_mutex_lock(&cache->mu);
    while ((cache->cached_bytes > bytes || cache->n_idle > IDLE_MAX) && !list_empty(&cache->idle)) {
        struct cfile *cf = list_entry(cache->idle.next, struct cfile, lru);
        bool stays = cache->cached_bytes <= bytes && keep_return(cf);

        list_del(&cf->lru);
        cache->n_idle--;
        table_remove(cache, cf);
        list_del(&cf->share_link);
        cache->cached_bytes -= cf->cached_bytes;
        list_add_tail(stays ? &returned : &victims, &cf->lru);
    }
    pthread_mutex_unlock(&cache->mu);
    more = !list_empty(&returned);
    destroy_all(&victims, false);
    destroy_all(&returned, true);
    if (more)
        keep_shrink(cache, bytes); /* there is a limit of how many, too */
}

/* ----------------------------------------------------------------------------------------- the object */

#define SET_HEADERS 256 /* beside CFILE_SET_… in fields_changed */

static void take_fields(struct attr *to, const struct attr *from, unsigned set)
{
    if (set & CFILE_SET_MODE)
        to->mode = (to->mode & S_IFMT) | (from->mode & 07777);
    if (set & CFILE_SET_UID)
        to->uid = from->uid;
    if (set & CFILE_SET_GID)
        to->gid = from->gid;
    if (set & CFILE_SET_MTIME)
        to->mtime = from->mtime;
}

int cfile_take_info(struct cfile *cf, const struct oinfo *info)
{
    struct attr old = cf->attr;

    if (!cf->attr_changed || !(cf->fields_changed & SET_HEADERS)) {
        struct kvlist headers = {0};
        int r = kv_copy(&headers, &info->headers);

        if (r)
            return r;
        kv_free(&cf->headers);
        cf->headers = headers;
    }
    cf->attr = info->attr;
    cf->attr.size = old.size;
    take_fields(&cf->attr, &old, cf->attr_changed ? cf->fields_changed : 0);
    return 0;
}

int cfile_rebase(struct cfile *cf, struct oinfo *info)
{
    uint64_t size = S_ISREG(info->attr.mode) ? info->attr.size : 0;
    int id = cfile_add_base(cf, cf->key, info);
    int r = id < 0 ? id : cfile_take_info(cf, info);

    if (!r)
        r = extent_map_set_base(cf->map, id, size);
    if (r)
        return r;
    cf->attr.size = info->attr.size;
    cfile_prune_bases(cf);
    oinfo_get(info);
    oinfo_put(cf->object);
    cf->object = info;
    cf->absent = false;
    cf->served = false;
    keep_changed(cf);
    keep_cut(cf, 0, UINT64_MAX);
    if (cf->has_data && !cfile_need_fd(cf) && ftruncate(cf->fd, 0))
        log_err("data file %s: %s", cf->path, strerror(errno));
    return 0;
}

void cfile_take_headers(struct cfile *cf, const struct oinfo *info, bool changed)
{
    struct kvlist headers = {0};
    int r = changed ? kv_copy(&headers, &cf->headers) : kv_copy(&headers, &info->headers);

    for (size_t i = 0; !r && changed && i < info->headers.n; i++) {
        const struct kv *kv = &info->headers.v[i];

        if (strncmp(kv->name, "x-oss-meta-", 11) != 0)
            r = kv_set(&headers, kv->name, kv->value);
    }
    if (r) {
        kv_free(&headers); /* as they were, then */
        return;
    }
    kv_free(&cf->headers);
    cf->headers = headers;
}

void cfile_moved(struct cfile *cf, struct oinfo *info, uint64_t gen)
{
    for (size_t i = 0; i < cf->n_bases; i++) {
        if (!cfile_is_object(cf, &cf->bases[i]))
            continue;
        oinfo_put(cf->bases[i].info);
        cf->bases[i].info = oinfo_get(info);
    }
    oinfo_put(cf->object);
    cf->object = oinfo_get(info);
    cfile_take_headers(cf, info, cf->gen != gen);
    /* Somebody who waits has an upload queued, which will answer. */
    if (gen == cf->gen && cf->data_gen <= cf->data_sent_gen && cf->upload_gen == 0 && list_empty(&cf->waiters)) {
        cf->sent_gen = cf->gen;
        cf->attr_changed = false;
        cfile_event(cf, CFILE_ON_CARRIED);
        cf->error = 0;
        journal_remove(cf);
    } else {
        journal_key(cf, cf->key, cf->object);
    }
    cfile_check(cf);
}

/* ------------------------------------------------------------------------------------- open and close */

static bool replaced(const struct cfile *cf, const struct oinfo *info)
{
    return cf->object && info &&
           (strcmp(cf->object->etag, info->etag) || cf->object->attr.size != info->attr.size ||
            (cf->object->attr.mode ^ info->attr.mode) & S_IFMT);
}

/* What the names know of a key now, referenced, or NULL. *absent: that there is no such file. */
static struct oinfo *known_info(struct cache *cache, const char *key, bool *absent)
{
    struct meta_result known = {0};
    const char *name;
    char *dir;

    *absent = false;
    if (key_split(key, &dir, &name))
        return NULL;
    meta_get(cache->meta, dir, name, &known);
    free(dir);
    *absent = known.state == META_ABSENT;
    return known.info;
}

/*
 * A new cfile begins with `info`, which may be from before a change of ours that has ended since: then with what is
 * there now. One that is gone by now is nobody's. 0 or -ENOMEM.
 */
static int begin_with(struct cfile *cf, struct oinfo *info, bool opened)
{
    bool absent;
    struct oinfo *now = known_info(cf->cache, cf->key, &absent);
    bool other = now && strcmp(now->etag, info->etag) && !((now->attr.mode ^ info->attr.mode) & S_IFMT);
    int r = cfile_rebase(cf, other ? now : info);

    cf->orphan = absent && opened;
    oinfo_put(now);
    return r;
}

bool cfile_take_attributes(struct cfile *cf, struct oinfo *info)
{
    unsigned changed = cf->attr_changed ? cf->fields_changed : 0;
    struct kvlist headers = {0};
    struct attr old = cf->attr;

    if ((S_ISREG(info->attr.mode) && info->attr.size != cf->attr.size) || kv_copy(&headers, &info->headers))
        return false;
    if (changed & SET_HEADERS) {
        kv_free(&headers);
    } else {
        kv_free(&cf->headers);
        cf->headers = headers;
    }
    cf->attr = info->attr;
    take_fields(&cf->attr, &old, changed);
    oinfo_get(info);
    oinfo_put(cf->object);
    cf->object = info;
    return true;
}

/*
 * A clean file meets what the bucket holds now. mu and cache->mu held. Returns false when the object was replaced by
 * another host while the file is being read here: the readers keep what they have, and the key goes to a new cfile.
 */
static bool catch_up(struct cfile *cf, struct oinfo *info)
{
    /* Made for a change of the name only (a mkdir, the target of a rename): now it is somebody's file. */
    if (info && !cf->object && cf->gen == 0 && cf->opens == 0)
        return cfile_rebase(cf, info) == 0;
    if (cf->state != CFILE_CLEAN || !list_empty(&cf->changes) || !info || info == cf->object)
        return true;
    if (!replaced(cf, info)) {
        if (cf->object)
            cfile_take_attributes(cf, info);
        return true;
    }
    if (cf->opens == 0 && list_empty(&cf->fetches))
        return cfile_rebase(cf, info) == 0;
    return cf->writers > 0;
}

/* cache->mu held: the cfile of key, referenced, made when there is none. */
static struct cfile *obtain(struct cache *cache, const char *key, struct oinfo *info, bool opened)
{
    struct cfile *cf = table_find(cache, key);

    if (cf) {
        /* `info` may be from before an upload of ours that has ended since; the names are not. */
        bool same, absent;
        struct oinfo *known = known_info(cache, key, &absent);

        cfile_ref_locked(cf);
        pthread_mutex_lock(&cf->mu);
        if (!known && info && (!cf->object || info->last_modified >= cf->object->last_modified))
            known = oinfo_get(info); /* they have forgotten already: the caller has just been told */
        same = catch_up(cf, known);
        if (!same) {
            table_remove(cache, cf);
            cfile_event(cf, CFILE_ON_GONE);
            cf->orphan = true;
        }
        pthread_mutex_unlock(&cf->mu);
        oinfo_put(known);
        if (same)
            return cf;
        cf->refs--; /* its opens hold others */
    }
    cf = cfile_new(cache, key);
    if (!cf)
        return NULL;
    if (info && begin_with(cf, info, opened)) {
        cfile_destroy(cf, false);
        return NULL;
    }
    cf->refs = 1;
    if (cf->orphan)
        return cf;
    keep_attach(cf);
    table_add(cache, cf);
    moving_hold(cache, cf);
    return cf;
}

struct cfile *cfile_obtain(struct cache *cache, const char *key, struct oinfo *info)
{
    struct cfile *cf;

    pthread_mutex_lock(&cache->mu);
    cf = obtain(cache, key, info, false);
    pthread_mutex_unlock(&cache->mu);
    return cf;
}

struct cfile *cfile_find(struct cache *cache, const char *key)
{
    struct cfile *cf;

    pthread_mutex_lock(&cache->mu);
    cf = table_find(cache, key);
    if (cf)
        cfile_ref_locked(cf);
    pthread_mutex_unlock(&cache->mu);
    return cf;
}

struct cfile *cfile_open(struct cache *cache, const char *key, struct oinfo *info, const struct attr *attr,
                         bool write)
{
    struct cfile *cf, *old = NULL;

    pthread_mutex_lock(&cache->mu);
    if (!info && (old = table_find(cache, key))) {
        /* Left from an object that is gone: a new file begins with nothing of it. */
        pthread_mutex_lock(&old->mu);
        old->orphan = old->state == CFILE_CLEAN && list_empty(&old->changes);
        if (old->orphan) {
            cfile_event(old, CFILE_ON_GONE);
            cfile_ref_locked(old);
            table_remove(cache, old);
        }
        pthread_mutex_unlock(&old->mu);
        old = old->orphan ? old : NULL;
    }
    cf = obtain(cache, key, info, true);
    if (cf) {
        pthread_mutex_lock(&cf->mu);
        if (!info && !cf->object && cf->gen == 0 && attr) {
            cf->absent = true;
            cf->attr = *attr;
            cf->attr.size = 0;
            cfile_changed(cf, CFILE_ON_WRITE);
        }
        if (cf->opens++ == 0)
            cf->flushed = 0;
        cf->writers += write;
        cfile_check(cf);
        pthread_mutex_unlock(&cf->mu);
    }
    pthread_mutex_unlock(&cache->mu);
    if (old)
        cfile_release(old);
    return cf;
}

bool cfile_timer_want(struct cfile *cf)
{
    bool alone = cf->state == CFILE_DIRTY && cf->data_gen <= cf->data_sent_gen && !cf->orphan && !cf->upload_queued;

    /* Answered before the bucket has them, so the journal has them first. */
    if (alone && cf->object)
        journal_commit(cf);
    /* They belong to content that was closed, and waits. */
    if (cf->state == CFILE_DIRTY && cf->journal_committed && cf->data_gen > cf->data_sent_gen &&
        background_wanted(cf))
        journal_commit(cf);
    alone = alone && !cf->timer_set;
    if (alone)
        cf->timer_set = true;
    return alone;
}

void cfile_timer_start(struct cfile *cf)
{
    cfile_hold(cf);
    pool_submit_after(cf->cache->pool, POOL_META, &cf->timer, ATTR_DELAY_MS);
}

static void timer_run(struct job *job)
{
    struct cfile *cf = list_entry(job, struct cfile, timer);
    bool start = false;

    pthread_mutex_lock(&cf->mu);
    cf->timer_set = false;
    if (!cf->orphan && cf->state == CFILE_DIRTY && cf->data_gen <= cf->data_sent_gen)
        start = cfile_upload_want(cf);
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
    cfile_release(cf);
}

static void retry_run(struct job *job)
{
    struct cfile *cf = list_entry(job, struct cfile, retry);
    bool start = false;

    pthread_mutex_lock(&cf->mu);
    cf->retry_set = false;
    if (!cf->orphan && cf->state == CFILE_ERROR && !cf->cache->draining)
        start = cfile_upload_want(cf);
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
    cfile_release(cf);
}

static void nobody_waits(void *arg, int r)
{
    (void)arg; /* a failure was logged */
    (void)r;
}

void cfile_close(struct cfile *cf, bool write)
{
    bool start = false, later = false;

    pthread_mutex_lock(&cf->mu);
    cf->opens--;
    cf->writers -= write;
    if (cf->opens == 0)
        cfile_event(cf, CFILE_ON_RELEASE);
    if (cf->opens == 0 && !cf->orphan && cf->state == CFILE_DIRTY && cf->data_gen > cf->data_sent_gen) {
        later = background_wanted(cf);
        start = !later && cfile_upload_want(cf);
    }
    cfile_check(cf);
    pthread_mutex_unlock(&cf->mu);
    if (later)
        cfile_sync(cf, nobody_waits, NULL);
    if (start)
        cfile_upload_start(cf);
    cfile_release(cf);
}

/* ----------------------------------------------------------------------------------- what it looks like */

void cfile_attr(struct cfile *cf, struct attr *out)
{
    pthread_mutex_lock(&cf->mu);
    *out = cf->attr;
    pthread_mutex_unlock(&cf->mu);
}

int cfile_headers(struct cfile *cf, struct kvlist *out)
{
    int r;

    pthread_mutex_lock(&cf->mu);
    r = kv_copy(out, &cf->headers);
    pthread_mutex_unlock(&cf->mu);
    return r;
}

void cfile_etag(struct cfile *cf, char etag[OSS_ETAG_SIZE])
{
    pthread_mutex_lock(&cf->mu);
    if (cf->object && cf->data_gen <= cf->data_sent_gen)
        memcpy(etag, cf->object->etag, OSS_ETAG_SIZE);
    else
        *etag = '\0';
    pthread_mutex_unlock(&cf->mu);
}

/* mu held. */
static struct oinfo *info_locked(struct cfile *cf)
{
    static const struct oss_object nothing;
    struct oinfo *info =
        cf->object ? oinfo_clone(cf->object) : oinfo_from_object(&nothing, &cf->cache->config.defaults, false);

    if (!info)
        return NULL;
    info->attr = cf->attr;
    info->own = info->own && cf->state == CFILE_CLEAN; /* else the bucket does not hold it so */
    kv_free(&info->headers);
    if (kv_copy(&info->headers, &cf->headers)) {
        oinfo_put(info);
        return NULL;
    }
    return info;
}

struct oinfo *cfile_info(struct cfile *cf)
{
    struct oinfo *info;

    pthread_mutex_lock(&cf->mu);
    info = info_locked(cf);
    pthread_mutex_unlock(&cf->mu);
    return info;
}

struct oinfo *cfile_unsent_info(struct cache *cache, const char *key)
{
    struct oinfo *info = NULL;
    struct cfile *cf;

    pthread_mutex_lock(&cache->mu);
    cf = table_find(cache, key);
    if (cf) {
        pthread_mutex_lock(&cf->mu);
        if (cf->state != CFILE_CLEAN)
            info = info_locked(cf);
        pthread_mutex_unlock(&cf->mu);
    }
    pthread_mutex_unlock(&cache->mu);
    return info;
}

void cfile_publish(struct cfile *cf)
{
    struct oinfo *info = cf->object;
    const char *name;
    char *dir;

    if (cf->orphan || !info || key_split(cf->key, &dir, &name))
        return;
    meta_put(cf->cache->meta, dir, name, S_ISDIR(info->attr.mode) ? META_DIR : META_FILE, info);
    free(dir);
    if (info->own)
        recall_note(cf->cache, cf->key, info);
}

bool cfile_empty_unpublished(struct cfile *cf, bool *replaces)
{
    bool empty;

    pthread_mutex_lock(&cf->mu);
    empty = cf->attr.size == 0 && !cf->written && cf->data_gen > cf->data_sent_gen && !cf->orphan;
    *replaces = cf->object && cf->object->attr.size > 0;
    pthread_mutex_unlock(&cf->mu);
    return empty;
}

/* ----------------------------------------------------------------------------------------- attributes */

/*
 * A time that the object carries already: rsync and tar set a directory's once more when they have filled it, and
 * only here did it move on meanwhile. mu held; true when there is nothing to send.
 */
static bool time_is_stored(struct cfile *cf, unsigned set)
{
    struct timespec stored = cf->object ? cf->object->stored_mtime : cf->attr.mtime;
    struct oinfo *info;

    if (set != CFILE_SET_MTIME || cf->state != CFILE_CLEAN || cf->orphan || !cf->object || !S_ISDIR(cf->attr.mode) ||
        !cf->object->is_marker || stored.tv_sec != cf->attr.mtime.tv_sec || stored.tv_nsec != cf->attr.mtime.tv_nsec)
        return false;
    info = info_locked(cf);
    if (!info)
        return false;
    oinfo_put(cf->object);
    cf->object = info;
    cfile_publish(cf);
    return true;
}

void cfile_set_attr(struct cfile *cf, const struct attr *attr, unsigned set)
{
    bool timer;

    pthread_mutex_lock(&cf->mu);
    take_fields(&cf->attr, attr, set);
    if (time_is_stored(cf, set)) {
        pthread_mutex_unlock(&cf->mu);
        return;
    }
    cf->times_set = cf->times_set || (set & CFILE_SET_MTIME);
    cf->fields_changed = (cf->attr_changed ? cf->fields_changed : 0) | set;
    if (cf->orphan) {
        pthread_mutex_unlock(&cf->mu);
        return;
    }
    cfile_changed(cf, CFILE_ON_ATTRIBUTES);
    timer = cfile_timer_want(cf);
    pthread_mutex_unlock(&cf->mu);
    if (timer)
        cfile_timer_start(cf);
}

int cfile_set_headers(struct cfile *cf, const struct kvlist *headers)
{
    struct kvlist copy = {0};
    bool timer = false;
    int r = kv_copy(&copy, headers);

    if (r)
        return r;
    pthread_mutex_lock(&cf->mu);
    kv_free(&cf->headers);
    cf->headers = copy;
    cf->fields_changed = (cf->attr_changed ? cf->fields_changed : 0) | SET_HEADERS;
    if (!cf->orphan) {
        cfile_changed(cf, CFILE_ON_ATTRIBUTES);
        timer = cfile_timer_want(cf);
    }
    pthread_mutex_unlock(&cf->mu);
    if (timer)
        cfile_timer_start(cf);
    return 0;
}

/* Out of the table, and not to be sent; who waits for that goes to `waiters`. cache->mu held. */
static void orphan_locked(struct cfile *cf, struct list *waiters)
{
    struct cache *cache = cf->cache;

    pthread_mutex_lock(&cf->mu);
    table_remove(cache, cf);
    cfile_event(cf, CFILE_ON_GONE);
    cf->orphan = true;
    stream_drop(cf);
    segment_close(cf); /* no writer will fill it, and no upload ends it */
    journal_remove(cf);
    keep_drop_key(cache, cf->key);
    list_splice_tail(waiters, &cf->waiters);
    pthread_mutex_unlock(&cf->mu);
}

void waiters_serve(struct list *waiters, int r)
{
    list_for_each_safe (it, waiters) {
        struct waiter *w = list_entry(it, struct waiter, link);

        w->done(w->arg, r);
        free(w);
    }
}

void cfile_rekey(struct cfile *cf, const char *key, struct cfile *other)
{
    struct cache *cache = cf->cache;
    char *copy = strdup(key);
    struct list waiters;
    bool in_table;

    if (!copy) {
        log_crit("out of memory: %s goes on under its old name", cf->key);
        return;
    }
    list_init(&waiters);
    pthread_mutex_lock(&cache->mu);
    if (other)
        orphan_locked(other, &waiters);
    pthread_mutex_lock(&cf->mu);
    in_table = cf->in_table;
    table_remove(cache, cf);
    for (size_t i = 0; i < cf->n_bases; i++) {
        char *base_key = cf->bases[i].foreign || strcmp(cf->bases[i].key, cf->key) ? NULL : strdup(copy);

        if (base_key) {
            free(cf->bases[i].key);
            cf->bases[i].key = base_key;
        }
    }
    free(cf->key);
    cf->key = copy;
    cfile_event(cf, CFILE_ON_RENAME);
    stream_drop(cf); /* an upload cannot be completed under another key */
    journal_key(cf, cf->key, cf->object);
    if (in_table)
        table_add(cache, cf);
    pthread_mutex_unlock(&cf->mu);
    pthread_mutex_unlock(&cache->mu);
    waiters_serve(&waiters, 0);
}

void cfile_orphan(struct cfile *cf)
{
    struct cache *cache = cf->cache;
    struct list waiters;

    list_init(&waiters);
    pthread_mutex_lock(&cache->mu);
    orphan_locked(cf, &waiters);
    pthread_mutex_unlock(&cache->mu);
    waiters_serve(&waiters, 0);
}

static ssize_t collect(struct cache *cache, const char *prefix, bool idle, struct cfile ***out)
{
    size_t n = 0, skip = strlen(prefix);
    struct cfile **v;

    pthread_mutex_lock(&cache->mu);
    v = calloc(cache->n_cfiles + 1, sizeof(struct cfile *));
    for (size_t i = 0; v && i < cache->table_size; i++) {
        list_for_each (it, &cache->table[i]) {
            struct cfile *cf = list_entry(it, struct cfile, hash_link);

            if (strncmp(cf->key, prefix, skip) || (!idle && !list_empty(&cf->lru)))
                continue;
            cfile_ref_locked(cf);
            v[n++] = cf;
        }
    }
    pthread_mutex_unlock(&cache->mu);
    *out = v;
    return v ? (ssize_t)n : -ENOMEM;
}

ssize_t cfile_collect(struct cache *cache, const char *prefix, struct cfile ***out)
{
    return collect(cache, prefix, true, out);
}

ssize_t cfile_collect_used(struct cache *cache, struct cfile ***out)
{
    return collect(cache, "", false, out);
}

/* Nobody else is there any more. */
static void free_one(struct cache *cache, struct cfile *cf)
{
    bool stays = cf->state != CFILE_CLEAN;

    if (stays)
        log_err("%s is unsent; its bytes are in %s", cf->key, cf->path ? cf->path : "no file (attributes only)");
    else if (keep_wanted(cf))
        keep_now(cf); /* it is open still */
    stays = stays || keep_return(cf);
    list_del(&cf->lru);
    list_del(&cf->share_link);
    table_remove(cache, cf);
    cfile_destroy(cf, stays);
}

void cfile_free_all(struct cache *cache)
{
    /* The order of use is that of this list. */
    list_for_each_safe (it, &cache->idle)
        free_one(cache, list_entry(it, struct cfile, lru));
    for (size_t i = 0; i < cache->table_size; i++) {
        list_for_each_safe (it, &cache->table[i]) {
            free_one(cache, list_entry(it, struct cfile, hash_link));
        }
    }
}
