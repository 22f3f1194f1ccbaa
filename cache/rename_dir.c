/*
 * Rename of a directory: list, copy everything in parallel, and only when all copies stand delete what was copied, in
 * batches. A failed copy deletes the other copies again. In between both trees exist; at no moment is a file in
 * neither place.
 *
 * The local files below the directory are held for that time: a change that does nothing but stand at the head of
 * each one's queue, so that no upload goes to the old name behind our back. They take their new names at the end.
 *
 * When all are held the directory is shut (struct moving): every file that becomes known below it from then on is
 * held from birth, until the caller has moved the inodes, so that nothing made meanwhile stays behind under the old
 * name. Files come to be between the first hold and the last one: those that nobody changes are held when the
 * directory is shut; if one of them is being changed, all holds are given up and taken anew. So whoever waits for a
 * held file waits for a rename that waits for nobody. Renames of directories inside each other run one at a time.
 *
 * An intent on disk (rename_intent.h) stands from the first copy until the names have moved: whatever interrupts it,
 * the next mount finishes or undoes it. What fails while the daemon lives, its caller is told, and nobody comes back
 * to it.
 */
#include "rename_child.h"
#include "rename_intent.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define COPIES_AT_ONCE 48

struct dir_rename;

/* Taken one after the other in the order of their keys, as the rename of a file does: nobody waits in a circle. */
struct hold {
    struct change change;
    struct dir_rename *d;
    struct cfile *cf; /* a reference */
    char *key;        /* as it was at the beginning, for the order */
    bool target;
    atomic_int turns; /* of the two that come by when it is held: the second one goes on */
};

/* A file that became known below a directory that is shut. */
struct late {
    struct list link;
    struct change change;
};

struct dir_rename {
    struct moving moving;
    struct cache *cache;
    char *from, *to; /* keys with trailing '/' */
    cache_done *done;
    void *arg;
    struct job job;
    struct hold *holds;
    size_t n_holds;
    struct child *children;
    size_t n_children, room;
    struct rename_intent intent;

    size_t held;        /* of one thread at a time */
    unsigned rounds;    /* in which not all could be held */
    pthread_mutex_t mu; /* guards the three below */
    size_t next, running;
    int r;
};

/* -------------------------------------------------------------------------------- the directory is shut */

static bool is_below(const char *key, const char *prefix)
{
    return !strncmp(key, prefix, strlen(prefix));
}

static bool is_inside(const char *key, const char *prefix)
{
    return is_below(key, prefix) && key[strlen(prefix)];
}

/* The first change of a file that has none, so that it is held at once. cache->mu held. */
static int hold_late(struct moving *m, struct cfile *cf)
{
    struct late *late = calloc(1, sizeof(*late));

    if (!late) {
        log_crit("out of memory: %s may stay under its old name", cf->key);
        return -ENOMEM;
    }
    late->change.cf = cf;
    late->change.moves_name = true;
    cfile_ref_locked(cf);
    cf->cache->busy++;
    list_add_tail(&cf->changes, &late->change.link);
    list_add_tail(&m->late, &late->link);
    return 0;
}

void moving_hold(struct cache *cache, struct cfile *cf)
{
    list_for_each (it, &cache->moving) {
        struct moving *m = list_entry(it, struct moving, link);

        if (m->shut && is_below(cf->key, m->from))
            hold_late(m, cf);
    }
}

bool moving_covers(struct cache *cache, const char *key)
{
    bool covers = false;

    pthread_mutex_lock(&cache->mu);
    list_for_each (it, &cache->moving) {
        struct moving *m = list_entry(it, struct moving, link);

        covers = covers || (m->shut && is_below(key, m->from));
    }
    pthread_mutex_unlock(&cache->mu);
    return covers;
}

static bool cross(const struct moving *m, const char *key)
{
    return is_below(m->from, key) || is_below(key, m->from) || is_below(m->to, key) || is_below(key, m->to);
}

/* Behind a rename above or below this one. cache->mu held. */
static bool must_wait(struct dir_rename *d)
{
    list_for_each (it, &d->cache->moving) {
        struct moving *m = list_entry(it, struct moving, link);

        if (cross(m, d->from) || cross(m, d->to)) {
            list_add_tail(&m->waiting, &d->moving.link);
            return true;
        }
    }
    return false;
}

/* From now on nothing below is held from birth; who came too late to be held goes to the new name. */
static void reopen(struct dir_rename *d, struct list *late, struct list *waiting)
{
    pthread_mutex_lock(&d->cache->mu);
    list_del(&d->moving.link);
    list_splice_tail(late, &d->moving.late);
    list_splice_tail(waiting, &d->moving.waiting);
    pthread_mutex_unlock(&d->cache->mu);
}

static void let_go(struct dir_rename *d, struct list *late)
{
    for (size_t i = 0; i < d->n_holds; i++) {
        cfile_release(d->holds[i].cf);
        free(d->holds[i].key);
        if (i < d->held)
            cfile_change_done(&d->holds[i].change);
    }
    free(d->holds);
    d->holds = NULL;
    d->n_holds = d->held = 0;
    list_for_each_safe (it, late) {
        struct late *l = list_entry(it, struct late, link);

        list_del(it);
        cfile_change_done(&l->change);
        free(l);
    }
}

static void dir_free(struct dir_rename *d)
{
    for (size_t i = 0; i < d->n_children; i++)
        free(d->children[i].from);
    pthread_mutex_destroy(&d->mu);
    free(d->children);
    free(d->holds);
    free(d->from);
    free(d->to);
    free(d);
}

static void turn_away(struct dir_rename *d);
static void dir_start(struct dir_rename *d);

static void dir_end(struct dir_rename *d)
{
    struct list late, waiting;

    list_init(&late);
    list_init(&waiting);
    /* The caller moves its inodes: a key that is made of them from then on is one of the new name. */
    d->done(d->arg, d->r);
    if (!d->r)
        turn_away(d);
    rename_intent_end(&d->intent);
    reopen(d, &late, &waiting);
    let_go(d, &late);
    list_for_each_safe (it, &waiting) {
        struct dir_rename *other = list_entry(list_entry(it, struct moving, link), struct dir_rename, moving);
        bool moved = !d->r && (is_inside(other->from, d->from) || is_inside(other->to, d->from));

        list_del(it);
        if (moved) {
            other->done(other->arg, -ESTALE);
            cache_busy(other->cache, -1);
            dir_free(other);
        } else {
            dir_start(other);
        }
    }
    cache_busy(d->cache, -1);
    dir_free(d);
}

/* "from/x/y" -> "to/x/y", malloc'ed. */
static char *new_key(const struct dir_rename *d, const char *key)
{
    const char *rest = key + strlen(d->from);
    char *out = malloc(strlen(d->to) + strlen(rest) + 1);

    if (out) {
        strcpy(out, d->to);
        strcat(out, rest);
    }
    return out;
}

/* Deletes the keys of all children for which copied is set: the originals, or to undo the copies. */
static int delete_children(struct dir_rename *d, bool originals)
{
    char *keys[OSS_LIST_MAX];
    int failed, r = 0;

    for (size_t i = 0; i < d->n_children;) {
        size_t n = 0;

        for (; i < d->n_children && n < OSS_LIST_MAX; i++) {
            char *key = NULL;

            if (d->children[i].copied)
                key = originals ? strdup(d->children[i].from) : new_key(d, d->children[i].from);
            if (key)
                keys[n++] = key;
        }
        if (n == 0)
            break;
        failed = rename_delete(d->cache, keys, n, "deleting what was renamed");
        r = failed ? failed : r;
    }
    return r;
}

/* Listings come in the byte order of their keys. */
static int by_from(const void *key, const void *child)
{
    return strcmp(key, ((const struct child *)child)->from);
}

/* Files that are open or unsent here take their new names. */
static void rekey_files(struct dir_rename *d)
{
    struct cfile **files;
    ssize_t n = cfile_collect(d->cache, d->from, &files);

    for (ssize_t i = 0; i < n; i++) {
        struct cfile *cf = files[i];
        struct child *child = NULL;
        struct oinfo *info = NULL;
        char *key = new_key(d, cf->key);

        if (d->n_children)
            child = bsearch(cf->key, d->children, d->n_children, sizeof(*d->children), by_from);
        if (key)
            cfile_rekey(cf, key, NULL);
        pthread_mutex_lock(&cf->mu);
        if (child && cf->object && (info = oinfo_clone(cf->object))) {
            memcpy(info->etag, child->new_etag, sizeof(info->etag));
            info->last_modified = child->new_modified;
            cfile_moved(cf, info, 0);
        }
        pthread_mutex_unlock(&cf->mu);
        oinfo_put(info);
        free(key);
        cfile_release(cf);
    }
    free(n < 0 ? NULL : files);
}

/*
 * Who came to the old name since: the file that waits there was made for the waiting only, and what waits finds that
 * its name has gone on. One that holds something nevertheless goes along.
 */
static void turn_away(struct dir_rename *d)
{
    struct cfile **files;
    ssize_t n = cfile_collect(d->cache, d->from, &files);

    for (ssize_t i = 0; i < n; i++) {
        char *key = new_key(d, files[i]->key);
        bool empty;

        pthread_mutex_lock(&files[i]->mu);
        empty = files[i]->state == CFILE_CLEAN;
        pthread_mutex_unlock(&files[i]->mu);
        if (empty)
            cfile_orphan(files[i]);
        if (key)
            cfile_rekey(files[i], key, NULL);
        free(key);
        cfile_release(files[i]);
    }
    free(n < 0 ? NULL : files);
}

/* Files that stand in objects below the old name stand in their copies now. */
static void repoint_sharers(struct dir_rename *d)
{
    for (size_t i = 0; i < d->n_holds; i++)
        share_fence(d->holds[i].cf);
    for (size_t i = 0; i < d->n_children; i++) {
        struct child *child = &d->children[i];
        char *to = new_key(d, child->from);

        if (to && child->copied)
            share_repoint(d->cache, child->from, child->etag, to, child->new_etag);
        free(to);
    }
}

static void move_names(struct dir_rename *d)
{
    struct meta *meta = d->cache->meta;
    struct meta_result old = {0};
    const char *name;
    char *dir;

    if (!key_split(d->from, &dir, &name)) {
        meta_get(meta, dir, name, &old);
        free(dir);
    }
    meta_forget_tree(meta, d->from);
    meta_forget_tree(meta, d->to);
    put_known(d->cache, d->from, META_ABSENT, NULL);
    put_known(d->cache, d->to, META_DIR, old.info);
    touch_parent(d->cache, d->from);
    touch_parent(d->cache, d->to);
    oinfo_put(old.info);
}

/* Of a local file that stands in one of the originals: where its object is now. 0 or -ENOMEM. */
static int renamed_file(struct dir_rename *d, struct cfile *cf, struct renamed_file *out)
{
    const struct child *child;
    int r = 0;

    pthread_mutex_lock(&cf->mu);
    child = cf->object ? bsearch(cf->key, d->children, d->n_children, sizeof(*d->children), by_from) : NULL;
    *out = (struct renamed_file){.key = strdup(cf->key)};
    if (child && child->copied && (out->copy = oinfo_clone(cf->object))) {
        memcpy(out->etag, cf->object->etag, sizeof(out->etag));
        memcpy(out->copy->etag, child->new_etag, sizeof(out->copy->etag));
        out->copy->last_modified = child->new_modified;
    }
    if (!out->key || (child && child->copied && !out->copy))
        r = -ENOMEM;
    pthread_mutex_unlock(&cf->mu);
    return r;
}

/* From here on the next daemon would finish it. 0 or a negative errno. */
static int note_copied(struct dir_rename *d)
{
    struct cfile **files;
    struct renamed_file *v;
    ssize_t n;
    int r = 0;

    if (d->n_children == 0)
        return 0; /* nothing has an original to be deleted */
    n = cfile_collect(d->cache, d->from, &files);
    v = n < 0 ? NULL : calloc((size_t)n + 1, sizeof(*v));
    for (ssize_t i = 0; i < n; i++) {
        if (v && !r)
            r = renamed_file(d, files[i], &v[i]);
        cfile_release(files[i]);
    }
    if (!v)
        r = -ENOMEM;
    if (!r)
        r = rename_intent_copied(&d->intent, v, (size_t)n);
    for (ssize_t i = 0; v && i < n; i++) {
        free(v[i].key);
        oinfo_put(v[i].copy);
    }
    free(v);
    free(n < 0 ? NULL : files);
    return r;
}

/*
 * What the originals carry, so do the copies: no stat of them needs a request. Of a file that was just written the
 * memory knows it before the store does.
 */
static void remember_children(struct dir_rename *d)
{
    for (size_t i = 0; i < d->n_children; i++) {
        const struct child *child = &d->children[i];
        struct oinfo *old = child->copied ? child_known(d->cache, child) : NULL;
        struct oinfo *new = old && !old->young ? oinfo_clone(old) : NULL;
        char *to = new ? new_key(d, child->from) : NULL;

        if (to && *child->new_etag && child->new_modified) {
            memcpy(new->etag, child->new_etag, sizeof(new->etag));
            new->last_modified = child->new_modified;
            new->fuzzy = !child->exact;
            new->own = true;
            new->young = false;
            attr_store_put(d->cache->attrs, to, new);
        }
        free(to);
        oinfo_put(new);
        oinfo_put(old);
    }
}

/* A copy has failed. */
static void undo(struct dir_rename *d)
{
    if (delete_children(d, false))
        log_err("rename of %s failed, and copies of its files are left below %s", d->from, d->to);
    meta_forget_tree(d->cache->meta, d->to);
}

static void finish(struct dir_rename *d)
{
    repoint_sharers(d);
    for (size_t i = 0; i < d->n_holds; i++)
        replace_begin(d->holds[i].cf);
    d->r = delete_children(d, true);
    if (d->r) {
        /* Some are under both names now: nothing is lost, the user is told, and the bucket is asked anew. */
        meta_forget_tree(d->cache->meta, d->from);
        meta_forget_tree(d->cache->meta, d->to);
        return;
    }
    /* What was pending for the directory that was there is pending for nothing now. */
    for (size_t i = 0; i < d->n_holds; i++)
        if (d->holds[i].target)
            cfile_orphan(d->holds[i].cf);
    rekey_files(d);
    remember_children(d);
    move_names(d);
}

/* All copies have ended. */
static void finish_run(struct job *job)
{
    struct dir_rename *d = list_entry(job, struct dir_rename, job);

    if (!d->r)
        d->r = note_copied(d);
    if (d->r)
        undo(d);
    else
        finish(d);
    for (size_t i = 0; i < d->n_holds; i++)
        replace_end(d->holds[i].cf);
    dir_end(d);
}

/* ------------------------------------------------------------------------------------------- the copies */

static void start_children(struct dir_rename *d);

static void child_ended(struct child *child, int r)
{
    struct dir_rename *d = child->d;

    child->copied = !r && !child->gone;
    pthread_mutex_lock(&d->mu);
    if (r && !d->r)
        d->r = r;
    pthread_mutex_unlock(&d->mu);
    start_children(d);
}

static void big_copied(void *arg, int r, struct oinfo *info)
{
    struct child *child = arg;

    if (!r) {
        memcpy(child->new_etag, info->etag, sizeof(child->new_etag));
        child->new_modified = info->last_modified;
        child->exact = !info->fuzzy;
    }
    cfile_release(child->big);
    child->big = NULL;
    child_ended(child, r);
}

/* Above the limit of a single copy: in parts, by the one executor. */
static int copy_big(struct child *child, const char *to)
{
    struct cache *cache = child->d->cache;
    struct oss_object object = {0};
    struct oss_error err = {0};
    struct oinfo *info = NULL;
    int r = cache->oss->ops->head(cache->oss, child->from, &object, &err);

    if (r) {
        cache_log_error("renaming", child->from, &err);
    } else {
        info = oinfo_from_object(&object, &cache->config.defaults, false);
        child->big = info ? cfile_obtain(cache, child->from, info) : NULL;
        r = child->big ? 0 : -ENOMEM;
    }
    oss_object_free(&object);
    oinfo_put(info);
    if (!r)
        upload_copy(child->big, to, NULL, big_copied, child);
    return r;
}

static void child_run(struct job *job)
{
    struct child *child = list_entry(job, struct child, job);
    char *to = new_key(child->d, child->from);
    bool big = child->size > (uint64_t)child->d->cache->config.limits.copy_max;
    int r;

    if (!to)
        r = -ENOMEM;
    else if (strlen(to) > OSS_KEY_MAX)
        r = -ENAMETOOLONG;
    else
        r = 0;
    if (!r) {
        /* Empty markers look alike within a second: what was kept of another one at that key is not its. */
        attr_store_forget(child->d->cache->attrs, to);
        r = big ? copy_big(child, to) : child_copy(child->d->cache, child, to);
    }
    free(to);
    child->gone = r == -ENOENT;
    if (!big || r)
        child_ended(child, child->gone ? 0 : r);
}

/* The caller's own count is in `running` until here: who takes the last one away goes on. */
static void start_children(struct dir_rename *d)
{
    bool last;

    pthread_mutex_lock(&d->mu);
    while (!d->r && d->next < d->n_children && d->running <= COPIES_AT_ONCE) {
        struct child *child = &d->children[d->next++];

        d->running++;
        child->d = d;
        child->job.run = child_run;
        pool_submit(d->cache->pool, POOL_META, &child->job);
    }
    last = --d->running == 0;
    pthread_mutex_unlock(&d->mu);
    if (!last)
        return;
    d->job.run = finish_run;
    pool_submit(d->cache->pool, POOL_META, &d->job);
}

/* ------------------------------------------------------------------------------------------- the listing */

static int add_children(struct dir_rename *d, struct oss_list *page)
{
    for (size_t i = 0; i < page->n_entries; i++) {
        struct oss_list_entry *e = &page->entries[i];

        if (strncmp(e->key, d->from, strlen(d->from)))
            return -EIO;
        if (d->n_children == d->room) {
            size_t room = d->room ? 2 * d->room : 64;
            struct child *v = realloc(d->children, room * sizeof(*v));

            if (!v)
                return -ENOMEM;
            d->children = v;
            d->room = room;
        }
        d->children[d->n_children] =
            (struct child){.from = e->key, .size = e->size, .last_modified = e->last_modified};
        memcpy(d->children[d->n_children].etag, e->etag, sizeof(e->etag));
        memcpy(d->children[d->n_children].storage_class, e->storage_class, sizeof(e->storage_class));
        e->key = NULL; /* ours now */
        d->n_children++;
    }
    return page->skipped ? -EIO : 0; /* what cannot be named cannot be moved */
}

static int list_children(struct dir_rename *d)
{
    struct oss *oss = d->cache->oss;
    struct oss_error err = {0};
    char *token = NULL, *last = NULL;
    int r;

    do {
        struct oss_list_opts opts = {.prefix = d->from, .continuation = token};
        struct oss_list page = {0};

        r = oss->ops->list(oss, &opts, &page, &err);
        free(token);
        token = NULL;
        if (r)
            cache_log_error("listing", d->from, &err);
        else if (!(r = list_advances(&page, &last)))
            r = add_children(d, &page);
        if (!r && page.truncated) {
            token = page.next;
            page.next = NULL;
        }
        oss_list_free(&page);
    } while (!r && token);
    free(token);
    free(last);
    return r;
}

static void list_run(struct job *job)
{
    struct dir_rename *d = list_entry(job, struct dir_rename, job);

    d->r = unsent_below(d->cache, d->to) ? -ENOTEMPTY : check_empty(d->cache, d->to);
    if (!d->r)
        d->r = list_children(d);
    if (!d->r && d->n_children == 0 && !unsent_below(d->cache, d->from))
        d->r = -ENOENT; /* another host has removed it, or moved it */
    if (!d->r && d->n_children)
        d->r = rename_intent_begin(d->cache, d->from, d->to, &d->intent);
    d->running = 1;
    start_children(d);
}

/* ------------------------------------------------------------------------------------------- the holds */

#define ROUNDS_MAX 100

static void take_holds(struct dir_rename *d);
static int add_all_holds(struct dir_rename *d);

static void hold_begin(struct change *change)
{
    struct hold *h = list_entry(change, struct hold, change);
    struct dir_rename *d = h->d;

    if (atomic_fetch_add(&h->turns, 1) == 1)
        take_holds(d);
}

/* cache->mu held. */
static bool holds(struct dir_rename *d, struct cfile *cf)
{
    struct change *first;
    bool ours;

    pthread_mutex_lock(&cf->mu);
    first = list_empty(&cf->changes) ? NULL : list_entry(cf->changes.next, struct change, link);
    ours = first && first->begin == hold_begin && list_entry(first, struct hold, change)->d == d;
    if (!first)
        ours = hold_late(&d->moving, cf) == 0;
    pthread_mutex_unlock(&cf->mu);
    return ours;
}

/* false: somebody is changing a file below it that came to be meanwhile. */
static bool shut(struct dir_rename *d)
{
    struct cache *cache = d->cache;
    bool all = true;

    pthread_mutex_lock(&cache->mu);
    for (size_t i = 0; all && i < cache->table_size; i++) {
        list_for_each (it, &cache->table[i]) {
            struct cfile *cf = list_entry(it, struct cfile, hash_link);

            all = all && (!is_below(cf->key, d->from) || holds(d, cf));
        }
    }
    d->moving.shut = all;
    pthread_mutex_unlock(&cache->mu);
    return all;
}

/* Not all could be held: from the start. true when there is something to wait for again. */
static bool hold_anew(struct dir_rename *d)
{
    struct list late;

    list_init(&late);
    pthread_mutex_lock(&d->cache->mu);
    list_splice_tail(&late, &d->moving.late);
    pthread_mutex_unlock(&d->cache->mu);
    let_go(d, &late);
    d->r = ++d->rounds < ROUNDS_MAX ? add_all_holds(d) : -EBUSY;
    return d->r == 0;
}

/* A file that took another name while it was waited for would be out of the order in which everybody waits. */
static bool in_order(const struct hold *h)
{
    bool same;

    pthread_mutex_lock(&h->cf->mu);
    same = h->key && !strcmp(h->cf->key, h->key);
    pthread_mutex_unlock(&h->cf->mu);
    return same;
}

/* One after the other; a hold that is not to be had at once goes on from hold_begin(). */
static void take_holds(struct dir_rename *d)
{
    for (;;) {
        bool right = d->held == 0 || in_order(&d->holds[d->held - 1]);
        struct hold *h;

        if (right && d->held == d->n_holds && shut(d)) {
            pool_submit(d->cache->pool, POOL_META, &d->job);
            return;
        }
        if (!right || d->held == d->n_holds) {
            if (hold_anew(d))
                continue;
            dir_end(d);
            return;
        }
        h = &d->holds[d->held++];
        cfile_change(h->cf, &h->change);
        if (atomic_fetch_add(&h->turns, 1) == 0)
            return;
    }
}

static int by_key(const void *a, const void *b)
{
    const char *x = ((const struct hold *)a)->key, *y = ((const struct hold *)b)->key;

    return strcmp(x ? x : "", y ? y : ""); /* NULL: out of memory */
}

/* All local files below `prefix` are to be held; `target`: they are what the renamed directory replaces. */
static int add_holds(struct dir_rename *d, const char *prefix, bool target)
{
    struct cfile **files = NULL;
    ssize_t n = cfile_collect(d->cache, prefix, &files);
    struct hold *v = n < 0 ? NULL : realloc(d->holds, (d->n_holds + (size_t)n + 1) * sizeof(*v));

    if (v)
        d->holds = v;
    for (ssize_t i = 0; i < n; i++) {
        if (!v) {
            cfile_release(files[i]);
            continue;
        }
        pthread_mutex_lock(&files[i]->mu);
        v[d->n_holds] = (struct hold){.d = d, .cf = files[i], .key = strdup(files[i]->key), .target = target};
        pthread_mutex_unlock(&files[i]->mu);
        v[d->n_holds].change.begin = hold_begin;
        v[d->n_holds++].change.moves_name = true;
    }
    free(files);
    return v ? 0 : -ENOMEM;
}

/* The list links of the changes point into the array: it does not move from here on. */
static int add_all_holds(struct dir_rename *d)
{
    int r = add_holds(d, d->from, false);

    if (!r)
        r = add_holds(d, d->to, true);
    if (r) {
        for (size_t i = 0; i < d->n_holds; i++) {
            cfile_release(d->holds[i].cf);
            free(d->holds[i].key);
        }
        d->n_holds = 0;
        return r;
    }
    qsort(d->holds, d->n_holds, sizeof(*d->holds), by_key);
    return 0;
}

static void dir_start(struct dir_rename *d)
{
    struct cache *cache = d->cache;
    bool waits;

    pthread_mutex_lock(&cache->mu);
    waits = must_wait(d);
    if (!waits)
        list_add_tail(&cache->moving, &d->moving.link);
    pthread_mutex_unlock(&cache->mu);
    if (waits)
        return;
    d->r = add_all_holds(d);
    if (d->r)
        dir_end(d);
    else
        take_holds(d);
}

void cache_rename_dir(struct cache *cache, const char *from, const char *to, cache_done *done, void *arg)
{
    struct dir_rename *d = calloc(1, sizeof(*d));

    if (d) {
        d->from = strdup(from);
        d->to = strdup(to);
    }
    if (!d || !d->from || !d->to) {
        if (d) {
            free(d->from);
            free(d->to);
        }
        free(d);
        done(arg, -ENOMEM);
        return;
    }
    pthread_mutex_init(&d->mu, NULL);
    d->cache = cache;
    d->done = done;
    d->arg = arg;
    d->job.run = list_run;
    d->intent = RENAME_INTENT_NONE;
    d->moving.from = d->from;
    d->moving.to = d->to;
    list_init(&d->moving.link);
    list_init(&d->moving.late);
    list_init(&d->moving.waiting);
    cache_busy(cache, 1);
    dir_start(d);
}
