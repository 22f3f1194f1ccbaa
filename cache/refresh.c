/*
 * Two changes of an object within one second leave the same Last-Modified, and where only attributes were changed the
 * same ETag and size: whoever has seen the first would take the second for it. So when we have changed somebody
 * else's object within moments of its last change, it is written once more a little later, and gets a Last-Modified
 * of its own. (Our own changes need no such thing: nobody but us can have noted what was there before them as final.)
 */
#include "cfile.h"

#include <stdlib.h>

#define APART_S  3 /* a Last-Modified that is so much later than the one before is believed to be another by all */
#define DELAY_MS 3200

struct refresh {
    struct job job;
    struct cfile *cf;   /* a hold */
    struct oinfo *info; /* the object as it was written */
};

bool refresh_needed(const struct oinfo *before, const struct oinfo *now)
{
    return before && !before->own && before->last_modified && now->last_modified - before->last_modified < APART_S;
}

static void refresh_run(struct job *job)
{
    struct refresh *f = list_entry(job, struct refresh, job);
    struct cfile *cf = f->cf;
    struct cache *cache = cf->cache;
    bool start = false;

    pthread_mutex_lock(&cf->mu);
    if (cf->state == CFILE_CLEAN && !cf->orphan && cf->object == f->info) {
        cf->fields_changed = 0;
        cfile_changed(cf, CFILE_ON_ATTRIBUTES);
        start = cfile_upload_want(cf);
    }
    pthread_mutex_unlock(&cf->mu);
    if (start)
        cfile_upload_start(cf);
    oinfo_put(f->info);
    free(f);
    cfile_release(cf);
    cache_busy(cache, -1);
}

void refresh_later(struct cfile *cf, struct oinfo *info)
{
    struct refresh *f = calloc(1, sizeof(*f));

    if (!f)
        return; /* it is not noted as final either */
    f->job.run = refresh_run;
    f->cf = cfile_hold(cf);
    f->info = oinfo_get(info);
    cache_busy(cf->cache, 1);
    pool_submit_after(cf->cache->pool, POOL_META, &f->job, DELAY_MS);
}
