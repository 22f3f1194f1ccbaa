/* Copies that the service does not make: upload.h says when. */
#include "append.h"
#include "spool.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TURNS_MAX 5

uint64_t by_hand_max(const struct cache *cache)
{
    const struct plan_limits *limits = &cache->config.limits;

    return limits->part_size > 2 * limits->part_min ? limits->part_size : 2 * limits->part_min;
}

static bool is_appendable(const struct upload *u)
{
    return u->source && u->source->type == OSS_TYPE_APPENDABLE;
}

bool by_hand_known(const struct upload *u)
{
    return is_appendable(u) && atomic_load(&u->cf->cache->copies_refused);
}

/* The copy is planned anew. */
static bool copy_again(struct upload *u)
{
    struct cfile *cf = u->cf;
    int r;

    pthread_mutex_lock(&cf->mu);
    r = upload_plan_copy(u);
    pthread_mutex_unlock(&cf->mu);
    u->r = r;
    return !r;
}

static bool refused(struct upload *u)
{
    bool copies = upload_has_step(u, STEP_COPY_SELF) || upload_has_step(u, STEP_PART_COPY);

    if (u->by_hand || !copies || !is_appendable(u) || (u->r != -ENOTSUP && u->r != -EINVAL && u->r != -EPROTOTYPE))
        return false;
    log_info("%s: the service does not copy appendable objects; they go through here", u->target);
    u->by_hand = true;
    /* Of its own metadata it may well be another matter. */
    if (u->copy_only || upload_has_step(u, STEP_PART_COPY))
        atomic_store(&u->cf->cache->copies_refused, true);
    if (u->copy_only)
        return copy_again(u);
    if (!u->appended.landed)
        return true;
    u->r = -ESTALE; /* what was appended is not to be sent again */
    return append_retry(u);
}

/* A rename of an object that others append to: it goes as it is now, and the file here grows with it. */
static bool outgrown(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct cache *cache = cf->cache;
    struct oss_object now = {0};
    struct oss_error err;
    struct oinfo *info = NULL;
    char key[OSS_KEY_MAX + 2];
    uint64_t from;
    bool fits;
    int r;

    if (!u->copy_only || u->r != -ESTALE || !is_appendable(u) || u->turns++ >= TURNS_MAX)
        return false;
    pthread_mutex_lock(&cf->mu);
    strcpy(key, cf->key);
    fits = append_start(cf, &from);
    pthread_mutex_unlock(&cf->mu);
    if (!fits || cache->oss->ops->head(cache->oss, key, &now, &err))
        return false;
    if (now.type == OSS_TYPE_APPENDABLE && now.size >= u->source->attr.size)
        info = oinfo_from_object(&now, &cache->config.defaults, false);
    oss_object_free(&now);
    if (!info)
        return false;
    pthread_rwlock_wrlock(&cf->io);
    r = append_rebase(cf, info, from, false, true);
    pthread_rwlock_unlock(&cf->io);
    oinfo_put(info);
    return !r && copy_again(u);
}

bool by_hand_retry(struct upload *u)
{
    return refused(u) || outgrown(u);
}

int by_hand_copy(struct upload *u, const char *from, const char *etag, uint64_t size, const struct oss_put_opts *opts,
                 struct oss_error *err)
{
    struct cache *cache = u->cf->cache;
    struct spool spool = SPOOL_INIT;
    struct oss_object now = {0};
    struct oss_source source;
    int r = spool_get(&spool, cache, from, etag, 0, size, err);

    /* In its own place it must not undo what others appended since: a request's time is left for that. */
    if (!r && !strcmp(from, u->target)) {
        r = cache->oss->ops->head(cache->oss, from, &now, err);
        if (!r && strcmp(now.etag, etag))
            r = -ESTALE;
        oss_object_free(&now);
    }
    source = spool_source(&spool);
    if (!r)
        r = cache->oss->ops->put(cache->oss, u->target, &source, opts, &u->result, err);
    spool_free(&spool);
    return r;
}

int by_hand_part(struct upload *u, const struct plan_step *step, const char *from, const char *etag,
                 struct oss_part *part, struct oss_error *err)
{
    struct oss *oss = u->cf->cache->oss;
    struct spool spool = SPOOL_INIT;
    struct oss_source source;
    int r = spool_get(&spool, u->cf->cache, from, etag, step->base_offset, step->length, err);

    source = spool_source(&spool);
    if (!r)
        r = oss->ops->upload_part(oss, u->target, u->upload_id, step->number, &source, part, err);
    spool_free(&spool);
    return r;
}
