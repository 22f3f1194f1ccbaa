/* Flushes, and the queue of a file's changes: cfile.h says how they go. */
#include "cfile.h"

#include <errno.h>
#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------- flush */

void cfile_flush(struct cfile *cf, cache_done *done, void *arg)
{
    struct waiter *w;
    bool start;

    pthread_mutex_lock(&cf->mu);
    cfile_event(cf, CFILE_ON_FLUSH);
    if (cf->orphan || cf->state == CFILE_CLEAN) {
        pthread_mutex_unlock(&cf->mu);
        done(arg, 0);
        return;
    }
    w = malloc(sizeof(*w));
    if (!w) {
        pthread_mutex_unlock(&cf->mu);
        done(arg, -ENOMEM);
        return;
    }
    *w = (struct waiter){.gen = cf->gen, .done = done, .arg = arg};
    list_add_tail(&cf->waiters, &w->link);
    /* A running upload that covers it is enough. */
    start = cf->state != CFILE_UPLOADING && cfile_upload_want(cf);
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
}

/* -------------------------------------------------------------------------------- changes of the object */

void cfile_change(struct cfile *cf, struct change *change)
{
    bool first;

    change->cf = cfile_hold(cf);
    cache_busy(cf->cache, 1);
    pthread_mutex_lock(&cf->mu);
    first = list_empty(&cf->changes);
    list_add_tail(&cf->changes, &change->link);
    pthread_mutex_unlock(&cf->mu);
    if (first)
        change->begin(change);
}

void cfile_change_done(struct change *change)
{
    struct cfile *cf = change->cf;
    struct cache *cache = cf->cache;
    struct change *next = NULL;

    pthread_mutex_lock(&cf->mu);
    list_del(&change->link);
    if (!list_empty(&cf->changes))
        next = list_entry(cf->changes.next, struct change, link);
    pthread_mutex_unlock(&cf->mu);
    if (next)
        next->begin(next);
    cfile_release(cf);
    cache_busy(cache, -1);
}
