/*
 * The snapshot: one pass over the table of files, each looked at for a moment under its own lock. Copies are bounded,
 * so that ten thousand unsent files cost no more than a walk.
 */
#include "status.h"

#include "cfile.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* ------------------------------------------------------------------------- what the executor tells us */

void progress_begin(struct cfile *cf, uint64_t total)
{
    atomic_store_explicit(&cf->progress.sent, 0, memory_order_relaxed);
    cf->progress.total = total;
    if (!cf->progress.since_ms)
        cf->progress.since_ms = clock_ms();
}

void progress_add(struct cfile *cf, uint64_t n)
{
    atomic_fetch_add_explicit(&cf->progress.sent, n, memory_order_relaxed);
}

void progress_end(struct cfile *cf)
{
    cf->progress.since_ms = 0;
}

void failure_note(struct cfile *cf, const struct oss_error *err, int r)
{
    if (!cf->failure && (cf->failure = calloc(1, sizeof(*cf->failure))))
        cf->failure->since = clock_wall().tv_sec;
    if (!cf->failure)
        return; /* errno is in cf->error */
    cf->failure->err = *err;
    cf->failure->err.err = r;
    cf->failure->next_ms = 0;
}

void failure_clear(struct cfile *cf)
{
    free(cf->failure);
    cf->failure = NULL;
}

void note_refused(struct cache *cache, const struct oss_error *err)
{
    long long none = 0;

    if (err->err == -EACCES && !strcmp(err->code, "AccessDenied") &&
        atomic_compare_exchange_strong(&cache->writes_refused, &none, (long long)clock_wall().tv_sec))
        log_warn(
            "AccessDenied: this access key may not write everything here: if it may only read, mount with -o ro; "
            "`ossmount check` tells what is to be granted");
}

/* ------------------------------------------------------------------------------------------- the snapshot */

/* mu held. 0 or -ENOMEM. */
static int describe(const struct cfile *cf, int64_t now, struct status_file *out)
{
    *out = (struct status_file){
        .key = strdup(cf->key),
        .size = cf->attr.size,
        .changed = cf->attr.ctime.tv_sec,
        .open = cf->writers > 0,
        .attributes = cf->data_gen <= cf->data_sent_gen,
        .failures = cf->failures,
        .next_ms = -1,
    };
    if (cf->progress.since_ms) {
        out->sending_ms = now - cf->progress.since_ms;
        out->sent = atomic_load_explicit(&((struct cfile *)(uintptr_t)cf)->progress.sent, memory_order_relaxed);
        out->total = cf->stream ? cf->attr.size : cf->progress.total; /* while it is written: as far as it goes */
        if (out->sent > out->total)
            out->sent = out->total; /* a part was sent twice, for a change that came in between */
    }
    if (cf->failure) {
        out->err = cf->failure->err;
        out->failed_since = cf->failure->since;
        if (cf->failure->next_ms)
            out->next_ms = cf->failure->next_ms > now ? cf->failure->next_ms - now : 0;
    } else if (cf->state == CFILE_ERROR) {
        out->err.err = cf->error;
    }
    return out->key ? 0 : -ENOMEM;
}

static int add(struct status_list *list, size_t max, const struct cfile *cf, int64_t now)
{
    struct status_file *v;
    int r;

    list->total++;
    list->bytes += cf->attr.size;
    if (list->n == max)
        return 0;
    /* Room comes in powers of two. */
    if ((list->n & (list->n - 1)) == 0) {
        v = realloc(list->v, (list->n ? list->n * 2 : 1) * sizeof(*v));
        if (!v)
            return -ENOMEM;
        list->v = v;
    }
    r = describe(cf, now, &list->v[list->n]);
    list->n += r == 0;
    return r;
}

/* The list that a file belongs to, NULL for a clean one. mu held. */
static struct status_list *list_of(const struct cfile *cf, struct cache_status *out)
{
    if (cf->progress.since_ms)
        return &out->sending;
    if (cf->state == CFILE_CLEAN)
        return NULL;
    return cf->state == CFILE_ERROR || cf->failure ? &out->failed : &out->pending;
}

static int walk(struct cache *cache, size_t max, struct cache_status *out)
{
    int64_t now = clock_ms();
    int r = 0;

    for (size_t i = 0; i < cache->table_size && !r; i++) {
        list_for_each (it, &cache->table[i]) {
            struct cfile *cf = list_entry(it, struct cfile, hash_link);
            struct status_list *list;

            pthread_mutex_lock(&cf->mu);
            list = list_of(cf, out);
            if (list && !r)
                r = add(list, max, cf, now);
            pthread_mutex_unlock(&cf->mu);
        }
    }
    return r;
}

int cache_status(struct cache *cache, size_t max, struct cache_status *out)
{
    struct statvfs disk;
    int r;

    *out = (struct cache_status){.cache_size = cache->config.cache_size};
    pthread_mutex_lock(&cache->mu);
    out->cached_bytes = cache->cached_bytes;
    out->files = cache->n_cfiles;
    r = walk(cache, max, out);
    pthread_mutex_unlock(&cache->mu);
    if (!statvfs(cache->config.state_dir, &disk)) {
        out->disk_free = (uint64_t)disk.f_bavail * disk.f_frsize;
        out->disk_guard = (uint64_t)disk.f_blocks * disk.f_frsize / 100 * cache->config.free_percent;
    }
    out->kept_aside = kept_count(cache->config.state_dir);
    out->hidden_keys = cache_hidden_keys(cache);
    out->writes_refused = (time_t)atomic_load(&cache->writes_refused);
    if (r)
        cache_status_free(out);
    return r;
}

static void list_free(struct status_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->v[i].key);
    free(list->v);
}

void cache_status_free(struct cache_status *status)
{
    list_free(&status->sending);
    list_free(&status->pending);
    list_free(&status->failed);
    *status = (struct cache_status){0};
}
