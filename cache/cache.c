/* The cache as a whole: made, drained, freed. */
#include "keep.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define META_THREADS 64
#define BULK_THREADS 32
#define TABLE_SIZE   4096
#define META_ENTRIES 2000000 /* some 150 bytes each */
#define STORE_MIN    (UINT64_C(8) << 20)
#define STORE_MAX    (UINT64_C(512) << 20)

void cache_busy(struct cache *cache, int delta)
{
    pthread_mutex_lock(&cache->mu);
    cache->busy += (uint64_t)(int64_t)delta;
    if (cache->busy == 0)
        pthread_cond_broadcast(&cache->idle_cond);
    pthread_mutex_unlock(&cache->mu);
}

static int make_data_dir(const char *state_dir)
{
    char path[4096];

    if (snprintf(path, sizeof(path), "%s/data", state_dir) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    if (mkdir(path, 0700) && errno != EEXIST)
        return -errno;
    return 0;
}

/* Of the attribute store: some 300 bytes an entry. */
static uint64_t store_size(const struct cache_config *config)
{
    uint64_t size = config->cache_size / 16;

    return size < STORE_MIN ? STORE_MIN : size > STORE_MAX ? STORE_MAX : size;
}

int cache_new(struct cache **out, const struct cache_config *config)
{
    static const unsigned limits[POOL_CLASSES] = {[POOL_META] = META_THREADS, [POOL_BULK] = BULK_THREADS};
    struct cache *cache = calloc(1, sizeof(*cache));
    struct timespec now = clock_wall();
    int r;

    if (!cache)
        return -ENOMEM;
    cache->oss = config->oss;
    cache->config = *config;
    cache->config.state_dir = strdup(config->state_dir);
    cache->config.prefix = strdup(config->prefix);
    cache->table_size = TABLE_SIZE;
    cache->table = calloc(TABLE_SIZE, sizeof(*cache->table));
    list_init(&cache->idle);
    list_init(&cache->room_waiters);
    list_init(&cache->moving);
    list_init(&cache->sharers);
    list_init(&cache->syncs);
    cache->sync.run = background_sync_run;
    pthread_mutex_init(&cache->mu, NULL);
    pthread_cond_init(&cache->idle_cond, NULL);
    for (size_t i = 0; cache->table && i < TABLE_SIZE; i++)
        list_init(&cache->table[i]);
    /* Names of data files never repeat within a state directory, nor across mounts. */
    cache->next_file = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    cache->meta = meta_new(config->stat_ttl_ms, META_ENTRIES);
    cache->names = names_new(cache);
    r = cache->config.state_dir && cache->config.prefix && cache->table && cache->meta && cache->names ? 0 : -ENOMEM;
    if (!r)
        r = make_data_dir(cache->config.state_dir);
    if (!r) {
        cache->keep = keep_open(config->state_dir);
        cache->attrs = attr_store_open(config->state_dir, &config->defaults, store_size(config));
        meta_on_exact(cache->meta, recall_note_exact, cache);
    }
    if (!r && (!(cache->pool = pool_new(limits)) || !(cache->uploads = pool_new(limits))))
        r = -errno;
    if (r) {
        cache_free(cache);
        return r;
    }
    *out = cache;
    return 0;
}

static void drained(void *arg, int r)
{
    (void)r; /* logged by the upload itself */
    cache_busy(arg, -1);
}

void cache_drain(struct cache *cache)
{
    struct cfile **files;
    ssize_t n;

    pthread_mutex_lock(&cache->mu);
    cache->draining = true;
    pthread_mutex_unlock(&cache->mu);
    n = cfile_collect_used(cache, &files);
    for (ssize_t i = 0; i < n; i++) {
        cache_busy(cache, 1);
        cfile_flush(files[i], drained, cache);
        cfile_release(files[i]);
    }
    free(n < 0 ? NULL : files);
    pthread_mutex_lock(&cache->mu);
    while (cache->busy)
        pthread_cond_wait(&cache->idle_cond, &cache->mu);
    pthread_mutex_unlock(&cache->mu);
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    pthread_mutex_lock(&cache->mu);
    cache->draining = true; /* nothing is tried again */
    pthread_mutex_unlock(&cache->mu);
    if (cache->pool)
        pool_free(cache->pool); /* runs the timers that are left, which find nothing to do */
    cache->pool = NULL;
    if (cache->uploads)
        pool_free(cache->uploads);
    if (cache->table)
        cfile_free_all(cache);
    names_free(cache->names);
    keep_close(cache->keep);
    meta_free(cache->meta);
    attr_store_close(cache->attrs);
    pthread_cond_destroy(&cache->idle_cond);
    pthread_mutex_destroy(&cache->mu);
    free(cache->table);
    free((char *)cache->config.state_dir);
    free((char *)cache->config.prefix);
    free(cache);
}
