/*
 * The moment in which a file's object is replaced or deleted by ourselves. From the request that does it until its
 * reply was taken in, the bucket has another object than the file here says. Who asks for the old one in between, by
 * its ETag, is refused (412, 404): a read of the file, or a file that stands in part in its object (share.c). That is
 * no other host's doing: they wait for the end of the moment and look again, and then the file says what there is.
 *
 * Such a moment waits for nothing but the service, so that everybody may wait for it.
 */
#include "cfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void replace_begin(struct cfile *cf)
{
    pthread_mutex_lock(&cf->mu);
    cf->replacing = true;
    pthread_mutex_unlock(&cf->mu);
}

void replace_end(struct cfile *cf)
{
    struct list served;

    list_init(&served);
    pthread_mutex_lock(&cf->mu);
    cf->replacing = false;
    list_splice_tail(&served, &cf->replace_waiters);
    pthread_mutex_unlock(&cf->mu);
    waiters_serve(&served, 0);
}

/* The file under whose name the object is, referenced; `cf` itself may be an orphan by now. */
static struct cfile *owner_of(struct cfile *cf, const char *key)
{
    bool own;

    pthread_mutex_lock(&cf->mu);
    own = !strcmp(cf->key, key);
    pthread_mutex_unlock(&cf->mu);
    return own ? cfile_hold(cf) : cfile_find(cf->cache, key);
}

bool replace_await(struct cfile *cf, const char *key, cache_done *done, void *arg)
{
    struct cfile *owner = owner_of(cf, key);
    struct waiter *w = owner ? malloc(sizeof(*w)) : NULL;
    bool waits = false;

    if (w) {
        *w = (struct waiter){.done = done, .arg = arg};
        pthread_mutex_lock(&owner->mu);
        waits = owner->replacing;
        if (waits)
            list_add_tail(&owner->replace_waiters, &w->link);
        pthread_mutex_unlock(&owner->mu);
    }
    if (!waits)
        free(w);
    if (owner)
        cfile_release(owner);
    return waits;
}

bool replace_under_way(struct cfile *cf, const char *key)
{
    struct cfile *owner = owner_of(cf, key);
    bool under_way = false;

    if (!owner)
        return false;
    pthread_mutex_lock(&owner->mu);
    under_way = owner->replacing;
    pthread_mutex_unlock(&owner->mu);
    cfile_release(owner);
    return under_way;
}
