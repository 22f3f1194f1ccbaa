/* What a user asks of files that are unsent: send all, try again, drop; and of archived objects: restore. */
#include "cfile.h"
#include "status.h"

#include "../oss/base_log.h"
#include "../oss/base_pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------ flush */

struct flush_all {
    struct cache_flush to;
    atomic_size_t left; /* files, and the loop that starts them */
    size_t open;
};

struct flush_one {
    struct flush_all *all;
    struct cfile *cf;
};

static void one_done(struct flush_all *all)
{
    if (atomic_fetch_sub(&all->left, 1) != 1)
        return;
    all->to.done(all->to.arg, all->open);
    free(all);
}

static void flushed(void *arg, int r)
{
    struct flush_one *one = arg;
    struct cfile *cf = one->cf;
    char *key = NULL;

    if (r) {
        pthread_mutex_lock(&cf->mu);
        key = strdup(cf->key);
        pthread_mutex_unlock(&cf->mu);
        one->all->to.one(one->all->to.arg, key ? key : "?", r);
    }
    free(key);
    one_done(one->all);
    free(one);
    cfile_release(cf);
}

/*
 * Which generation is to be waited for, 0: none. What is just being written is not published half-way: of such a file
 * only what a close or an fsync has asked for counts. mu held.
 */
static uint64_t wanted(const struct cfile *cf, bool *open)
{
    bool writing = cf->writers > 0 && cf->data_gen > cf->data_sent_gen;

    *open = false;
    if (cf->orphan || cf->state == CFILE_CLEAN)
        return 0;
    if (!writing || cf->state == CFILE_ERROR || cf->upload_queued)
        return cf->gen;
    *open = cf->upload_gen == 0;
    return cf->upload_gen;
}

static void flush_one(struct flush_all *all, struct cfile *cf)
{
    struct flush_one *one = malloc(sizeof(*one));
    struct waiter *w = malloc(sizeof(*w));
    uint64_t gen = 0;
    bool open = false, start = false;

    pthread_mutex_lock(&cf->mu);
    if (one && w)
        gen = wanted(cf, &open);
    if (gen) {
        *one = (struct flush_one){.all = all, .cf = cf};
        *w = (struct waiter){.gen = gen, .done = flushed, .arg = one};
        list_add_tail(&cf->waiters, &w->link);
        start = gen != cf->upload_gen && cfile_upload_want(cf);
        atomic_fetch_add(&all->left, 1);
    }
    all->open += open;
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
    if (!gen) {
        if (!one || !w)
            all->to.one(all->to.arg, "?", -ENOMEM);
        free(one);
        free(w);
        cfile_release(cf);
    }
}

void cache_flush_all(struct cache *cache, const struct cache_flush *flush)
{
    struct flush_all *all = calloc(1, sizeof(*all));
    struct cfile **files = NULL;
    ssize_t n;

    if (!all) {
        flush->one(flush->arg, "?", -ENOMEM);
        flush->done(flush->arg, 0);
        return;
    }
    all->to = *flush;
    atomic_init(&all->left, 1);
    n = cfile_collect_used(cache, &files);
    if (n < 0)
        flush->one(flush->arg, "?", (int)n);
    for (ssize_t i = 0; i < n; i++)
        flush_one(all, files[i]);
    free(files);
    one_done(all);
}

/* ------------------------------------------------------------------------------------------------ retry */

size_t cache_retry(struct cache *cache, const char *key)
{
    struct cfile **files = NULL;
    ssize_t n = cfile_collect(cache, key ? key : "", &files);
    size_t started = 0;

    for (ssize_t i = 0; i < n; i++) {
        struct cfile *cf = files[i];
        bool start = false;

        pthread_mutex_lock(&cf->mu);
        if (!cf->orphan && cf->state == CFILE_ERROR && (!key || !strcmp(cf->key, key)))
            start = cfile_upload_want(cf);
        pthread_mutex_unlock(&cf->mu);
        if (start)
            cfile_upload_start(cf);
        started += start;
        cfile_release(cf);
    }
    free(files);
    return started;
}

/* ---------------------------------------------------------------------------------------------- discard */

struct discard {
    struct change change;
    cache_done *done;
    void *arg;
};

static void discard_begin(struct change *change)
{
    struct discard *d = list_entry(change, struct discard, change);
    struct cfile *cf = change->cf;
    cache_done *done = d->done;
    void *arg = d->arg;
    const char *name;
    char *dir = NULL;
    int r = 0;

    pthread_mutex_lock(&cf->mu);
    if (cf->orphan || cf->state == CFILE_CLEAN)
        r = -ENOENT;
    else if (cf->opens > 0)
        r = -EBUSY;
    pthread_mutex_unlock(&cf->mu);
    if (!r) {
        log_warn("%s: what was unsent is dropped, as asked", cf->key);
        if (key_split(cf->key, &dir, &name))
            dir = NULL;
        cfile_orphan(cf);
        if (dir)
            meta_forget(cf->cache->meta, dir, name);
        free(dir);
    }
    cfile_change_done(change);
    free(d);
    done(arg, r);
}

void cache_discard(struct cache *cache, const char *key, cache_done *done, void *arg)
{
    struct cfile *cf = cfile_find(cache, key);
    struct discard *d = cf ? calloc(1, sizeof(*d)) : NULL;

    if (!d) {
        if (cf)
            cfile_release(cf);
        done(arg, cf ? -ENOMEM : -ENOENT);
        return;
    }
    *d = (struct discard){.change = {.begin = discard_begin, .moves_name = true}, .done = done, .arg = arg};
    cfile_change(cf, &d->change);
    cfile_release(cf);
}

/* ---------------------------------------------------------------------------------------------- restore */

struct restore {
    struct job job;
    struct cache *cache;
    unsigned days;
    char *tier;
    struct cache_archive found;
    cache_archive_done *done;
    void *arg;
    char key[];
};

/* Of an object's headers. */
static void read_archive(const struct oss_object *object, struct cache_archive *out)
{
    const char *klass = kv_get(&object->headers, "x-oss-storage-class");
    const char *restore = kv_get(&object->headers, "x-oss-restore");

    snprintf(out->storage_class, sizeof(out->storage_class), "%s", klass ? klass : "Standard");
    snprintf(out->restore, sizeof(out->restore), "%s", restore ? restore : "");
    out->ongoing = strstr(out->restore, "ongoing-request=\"true\"") != NULL;
    out->ready = strstr(out->restore, "ongoing-request=\"false\"") || !strstr(out->storage_class, "Archive");
}

static void restore_run(struct job *job)
{
    struct restore *q = list_entry(job, struct restore, job);
    struct oss *oss = q->cache->oss;
    struct cache *cache = q->cache;
    struct oss_object object = {0};
    bool done = false;
    int r = oss->ops->head(oss, q->key, &object, &q->found.err);

    if (!r)
        read_archive(&object, &q->found);
    if (!r && q->days && !q->found.ready && !q->found.ongoing) {
        r = oss->ops->restore(oss, q->key, q->days, q->tier, &done, &q->found.err);
        if (r == -EALREADY)
            r = 0; /* somebody else was faster */
        q->found.asked = !r;
        q->found.ongoing = !r && !done;
        q->found.ready = !r && done;
    }
    oss_object_free(&object);
    q->done(q->arg, r, &q->found);
    free(q->tier);
    free(q);
    cache_busy(cache, -1);
}

void cache_restore(struct cache *cache, const char *key, unsigned days, const char *tier, cache_archive_done *done,
                   void *arg)
{
    static const struct cache_archive nothing;
    struct restore *q = calloc(1, sizeof(*q) + strlen(key) + 1);

    if (!q || (tier && !(q->tier = strdup(tier)))) {
        free(q);
        done(arg, -ENOMEM, &nothing);
        return;
    }
    strcpy(q->key, key);
    q->cache = cache;
    q->days = days;
    q->done = done;
    q->arg = arg;
    q->job.run = restore_run;
    cache_busy(cache, 1);
    pool_submit(cache->pool, POOL_META, &q->job);
}

/* ------------------------------------------------------------------------------------------------ later */

struct later {
    struct job job;
    struct cache *cache;
    void (*run)(void *arg);
    void *arg;
};

static void later_run(struct job *job)
{
    struct later *l = list_entry(job, struct later, job);
    struct cache *cache = l->cache;

    l->run(l->arg);
    free(l);
    cache_busy(cache, -1);
}

void cache_later(struct cache *cache, void (*run)(void *arg), void *arg)
{
    struct later *l = malloc(sizeof(*l));

    if (!l) {
        run(arg); /* it waits here then, rather than never */
        return;
    }
    *l = (struct later){.job = {.run = later_run}, .cache = cache, .run = run, .arg = arg};
    cache_busy(cache, 1);
    pool_submit(cache->pool, POOL_META, &l->job);
}
