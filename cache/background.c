/*
 * What close() and fsync() mean when they need not wait for the bucket: `upload=background`, and temporary names with
 * `defer_temp`. They answer when the data file and its journal are durable on the local disk; the upload follows,
 * after upload_delay, or after the rename that a temporary name waits for.
 *
 * One worker makes durable all that has come in since it last began: the COMMITs first, then every data file, then
 * SYNCED and every journal, at last the directory. SYNCED is what recovery believes after a power cut (journal.h).
 *
 * Versions of a file are not told apart on disk. So that what was closed or fsynced is not written over before it is
 * sent, an open for writing and whatever changes the content wait for it (cfile_await_sent()), and a COMMIT for the
 * end of a running upload. Where it cannot be sent the file is written on all the same, and the next fsync or close
 * has the word.
 */
#include "journal.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMP_DELAY_MS 60000 /* a temporary name that is never renamed is sent after all */
#define GROUP_MAX     256

struct sync {
    struct list link;
    struct cfile *cf; /* a reference */
    struct waiter ended;
    int data, journal; /* descriptors of our own, or -1 */
    uint64_t gen;
    bool again; /* waits for the end of an upload */
    int r;
    cache_done *done;
    void *arg;
};

/* ".name.XXXXXX", as rsync, mktemp and editors name what they are about to rename. */
static bool is_temporary(const char *key)
{
    const char *slash = strrchr(key, '/'), *name = slash ? slash + 1 : key, *dot = strrchr(name, '.');

    return *name == '.' && dot && dot > name + 1 && strlen(dot + 1) == 6 &&
           strspn(dot + 1, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == 6;
}

bool background_wanted(const struct cfile *cf)
{
    const struct cache_config *config = &cf->cache->config;

    /* What has left the disk for lack of room is not durable here. */
    if (cf->segments > 0)
        return false;
    return config->background || (config->defer_temp && cf->absent && is_temporary(cf->key));
}

bool background_deferred(const struct cfile *cf)
{
    const struct cache_config *config = &cf->cache->config;

    return config->defer_temp && !config->background && cf->absent && cf->opens == 0 && cf->state != CFILE_CLEAN &&
           is_temporary(cf->key);
}

/* ------------------------------------------------------------------------------------------- sent later */

void background_run(struct job *job)
{
    struct cfile *cf = list_entry(job, struct cfile, later);
    bool start = false;

    pthread_mutex_lock(&cf->mu);
    cf->later_set = false;
    if (!cf->orphan && cf->state == CFILE_DIRTY && !cf->cache->draining) {
        /* What was written since was not asked to be sent: the next fsync or close takes it along. */
        cf->overdue = !cf->journal_committed;
        start = cf->journal_committed && cfile_upload_want(cf);
    }
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
    cfile_release(cf);
}

/* It is durable here: sees to it that it is sent. No lock held. */
static void send_later(struct cfile *cf)
{
    const struct cache_config *config = &cf->cache->config;
    int64_t delay = config->background ? config->upload_delay_ms : TEMP_DELAY_MS;
    bool start = false, later = false;

    pthread_mutex_lock(&cf->mu);
    if (!cf->orphan && cf->state == CFILE_DIRTY) {
        start = (cf->overdue || delay == 0) && cfile_upload_want(cf);
        later = !start && !cf->later_set && !cf->upload_queued;
        cf->later_set = cf->later_set || later;
        cf->overdue = false;
    }
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
    if (!later)
        return;
    cfile_hold(cf);
    pool_submit_after(cf->cache->pool, POOL_META, &cf->later, delay);
}

/* ------------------------------------------------------------------------------------------- durable */

static void sync_end(struct sync *s)
{
    struct cfile *cf = s->cf;
    struct cache *cache = cf->cache;

    if (s->data >= 0)
        close(s->data);
    if (s->journal >= 0)
        close(s->journal);
    if (s->r)
        log_err("%s cannot be made durable: %s", cf->key, strerror(-s->r));
    else
        send_later(cf);
    s->done(s->arg, s->r);
    free(s);
    cfile_release(cf);
    cache_busy(cache, -1);
}

static void sync_queue(struct sync *s)
{
    struct cache *cache = s->cf->cache;
    bool first;

    pthread_mutex_lock(&cache->mu);
    list_add_tail(&cache->syncs, &s->link);
    first = !cache->syncing;
    cache->syncing = true;
    pthread_mutex_unlock(&cache->mu);
    if (first)
        pool_submit(cache->pool, POOL_BULK, &cache->sync);
}

static void sync_again(void *arg, int r)
{
    (void)r;
    sync_queue(arg);
}

/* COMMIT, and descriptors of our own: the file may be closed or removed while the disk is waited for. */
static void begin(struct sync *s)
{
    struct cfile *cf = s->cf;

    s->data = s->journal = -1;
    s->again = false;
    s->r = 0;
    pthread_rwlock_wrlock(&cf->io);
    pthread_mutex_lock(&cf->mu);
    if (cf->orphan || cf->state == CFILE_CLEAN) {
        /* nothing is left to be kept */
    } else if (cf->upload_gen != 0 && !cf->journal_committed) {
        s->again = true;
        s->ended = (struct waiter){.done = sync_again, .arg = s};
        list_add_tail(&cf->ended_waiters, &s->ended.link);
    } else {
        s->gen = cf->gen;
        s->r = journal_commit(cf);
        if (!s->r && cf->fd >= 0 && (s->data = fcntl(cf->fd, F_DUPFD_CLOEXEC, 0)) < 0)
            s->r = -errno;
        if (!s->r && (s->journal = fcntl(cf->journal_fd, F_DUPFD_CLOEXEC, 0)) < 0)
            s->r = -errno;
    }
    pthread_mutex_unlock(&cf->mu);
    pthread_rwlock_unlock(&cf->io);
}

/* The data is durable: SYNCED says so, unless it was written to since. */
static void mark(struct sync *s)
{
    struct cfile *cf = s->cf;

    pthread_mutex_lock(&cf->mu);
    if (cf->journal_fd >= 0 && cf->journal_committed && !(s->r = journal_synced(cf)))
        cf->synced_gen = s->gen;
    pthread_mutex_unlock(&cf->mu);
}

static int sync_directory(const struct cache *cache)
{
    char path[4096];
    int fd, r;

    snprintf(path, sizeof(path), "%s/data", cache->config.state_dir);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = fd < 0 || fsync(fd) ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return r;
}

/* All that has come in, as one group. */
static size_t take_group(struct cache *cache, struct sync *group[GROUP_MAX])
{
    struct list *link;
    size_t n = 0;

    pthread_mutex_lock(&cache->mu);
    while (n < GROUP_MAX && (link = list_pop(&cache->syncs)))
        group[n++] = list_entry(link, struct sync, link);
    cache->syncing = n > 0;
    pthread_mutex_unlock(&cache->mu);
    return n;
}

void background_sync_run(struct job *job)
{
    struct cache *cache = list_entry(job, struct cache, sync);
    struct sync *group[GROUP_MAX];
    size_t n;

    while ((n = take_group(cache, group)) > 0) {
        size_t durable = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
            begin(group[i]);
            if (!group[i]->again) /* the others are no longer ours */
                group[durable++] = group[i];
        }
        for (size_t i = 0; i < durable; i++) {
            if (!group[i]->r && group[i]->data >= 0 && fdatasync(group[i]->data))
                group[i]->r = -errno;
            if (!group[i]->r && group[i]->journal >= 0)
                mark(group[i]);
        }
        for (size_t i = 0; i < durable; i++)
            if (!group[i]->r && group[i]->journal >= 0 && fdatasync(group[i]->journal))
                group[i]->r = -errno;
        r = durable > 0 ? sync_directory(cache) : 0;
        for (size_t i = 0; i < durable; i++) {
            group[i]->r = group[i]->r ? group[i]->r : r;
            sync_end(group[i]);
        }
    }
}

/* ------------------------------------------------------------------------------------------- the face */

void cfile_sync(struct cfile *cf, cache_done *done, void *arg)
{
    bool background, durable;
    struct sync *s;

    pthread_mutex_lock(&cf->mu);
    background = background_wanted(cf);
    durable = cf->orphan || cf->state == CFILE_CLEAN || cf->synced_gen == cf->gen;
    pthread_mutex_unlock(&cf->mu);
    if (!background) {
        cfile_flush(cf, done, arg);
        return;
    }
    if (durable) {
        send_later(cf);
        done(arg, 0);
        return;
    }
    s = malloc(sizeof(*s));
    if (!s) {
        done(arg, -ENOMEM);
        return;
    }
    *s = (struct sync){.cf = cfile_hold(cf), .data = -1, .journal = -1, .done = done, .arg = arg};
    cache_busy(cf->cache, 1);
    sync_queue(s);
}

bool cfile_must_await_sent(struct cfile *cf)
{
    bool unsent;

    pthread_mutex_lock(&cf->mu);
    unsent = background_wanted(cf) && !cf->orphan && cf->data_gen > cf->data_sent_gen && cf->journal_committed &&
             cf->state != CFILE_ERROR;
    pthread_mutex_unlock(&cf->mu);
    return unsent;
}

bool cfile_await_sent(struct cfile *cf, cache_done *done, void *arg)
{
    bool unsent = cfile_must_await_sent(cf);

    if (unsent)
        cfile_flush(cf, done, arg);
    return unsent;
}

bool cache_await_sent(struct cache *cache, const char *key, cache_done *done, void *arg)
{
    struct cfile *cf = cache->config.background ? cfile_find(cache, key) : NULL;
    bool unsent = cf && cfile_await_sent(cf, done, arg);

    if (cf)
        cfile_release(cf);
    return unsent;
}
