/*
 * Changes of names: mkdir, rmdir, unlink, symlink, and the rename of a file. (Of a directory: rename_dir.c)
 *
 * Each is a `struct change` of the file's cfile, so that it waits for an upload of the same object that is under way,
 * and whatever comes later waits for it: an unlink cannot be overtaken by the PUT that it should undo.
 */
#include "headers.h"
#include "journal.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A request on a worker for one key, with the callback of the face. */
struct request {
    struct change change;
    struct job job;
    struct cache *cache;
    char *key;
    char *target; /* of a symlink */
    struct attr attr;
    cache_done *done;
    void *arg;
};

static void request_free(struct request *q)
{
    free(q->key);
    free(q->target);
    free(q);
}

static struct request *request_new(struct cache *cache, const char *key, cache_done *done, void *arg)
{
    struct request *q = calloc(1, sizeof(*q));

    if (!q)
        return NULL;
    q->cache = cache;
    q->done = done;
    q->arg = arg;
    q->key = strdup(key);
    if (!q->key) {
        free(q);
        return NULL;
    }
    return q;
}

/*
 * Replies, then frees. The change, when there is one, ends last: who waits for it to end (cache_await_name()) must
 * find that the caller has moved its own names too, or two files would share an inode.
 */
static void request_end(struct request *q, int r)
{
    q->done(q->arg, r);
    if (q->change.cf)
        cfile_change_done(&q->change);
    request_free(q);
}

void put_known(struct cache *cache, const char *key, enum meta_state state, struct oinfo *info)
{
    const char *name;
    char *dir;

    if (key_split(key, &dir, &name))
        return;
    meta_put(cache->meta, dir, name, state, info);
    free(dir);
    if (info && info->own)
        recall_note(cache, key, info);
}

/* The bucket has another object there than was known: it is asked anew. */
static void forget_known(struct cache *cache, const char *key)
{
    const char *name;
    char *dir;

    if (key_split(key, &dir, &name))
        return;
    meta_forget(cache->meta, dir, name);
    free(dir);
}

void touch_parent(struct cache *cache, const char *key)
{
    const char *name;
    char *dir, *parent;

    if (key_split(key, &dir, &name))
        return;
    if (strlen(dir) > strlen(cache->config.prefix) && !key_split(dir, &parent, &name)) {
        meta_touch(cache->meta, parent, name);
        free(parent);
    }
    free(dir);
}

void cache_created(struct cache *cache, const char *key, struct cfile *cf)
{
    struct oinfo *info = cfile_info(cf);

    put_known(cache, key, META_FILE, info);
    touch_parent(cache, key);
    oinfo_put(info);
}

/* The object that a PUT of ours made, as the name cache wants it. */
static struct oinfo *made_info(const struct oss_object *object, const struct attr *attr, bool is_dir,
                               const char *link)
{
    static const struct attr_defaults unused;
    struct oinfo *info = oinfo_from_object(object, &unused, is_dir);

    if (!info)
        return NULL;
    info->attr = *attr;
    info->stored_mtime = attr->mtime;
    info->acl_default = info->own = info->fuzzy = true;
    info->young = false;
    if (!info->last_modified)
        info->last_modified = object->date;
    if (link)
        info->link = strdup(link);
    return info;
}

static int body_of_text(void *arg, uint64_t offset, void *to, size_t n)
{
    memcpy(to, (const char *)arg + offset, n);
    return 0;
}

/* PutObject of a short text (a link's target, nothing for a directory) with attributes. On a worker. */
static int put_text(struct cache *cache, const char *key, char *text, const struct attr *attr, bool is_dir,
                    const char *what)
{
    struct oss_source source = {.read = body_of_text, .arg = text, .size = strlen(text)};
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers};
    struct oss_object object = {0};
    struct oss_error err = {0};
    struct oinfo *info;
    int r = attr_to_headers(&headers, attr);

    if (!r && is_dir)
        r = kv_set(&headers, "content-type", "application/x-directory");
    attr_store_forget(cache->attrs, key);
    if (!r)
        r = headers_encryption(cache->config.headers, cache_path_of(cache, key), &headers);
    if (!r)
        r = cache->oss->ops->put(cache->oss, key, &source, &opts, &object, &err);
    if (r) {
        cache_log_error(what, key, &err);
        note_refused(cache, &err);
    } else {
        for (size_t i = 0; i < headers.n; i++)
            kv_add(&object.headers, headers.v[i].name, headers.v[i].value);
        info = made_info(&object, attr, is_dir, is_dir ? NULL : text);
        put_known(cache, key, is_dir ? META_DIR : META_FILE, info);
        oinfo_put(info);
    }
    oss_object_free(&object);
    kv_free(&headers);
    return r;
}

/* Headers of a new file, as its upload would send them. 0 or -ENOMEM. */
static int headers_of_new(struct cache *cache, const char *key, const struct attr *attr, struct kvlist *out)
{
    const struct headers *rules = cache->config.headers;
    const char *path = cache_path_of(cache, key);
    bool unused;
    int r = headers_describe(rules, path, out);

    if (!r)
        r = attr_to_headers(out, attr);
    if (!r)
        r = headers_request(rules, path, HEADERS_PUT, NULL, out, &unused);
    if (!r && *headers_acl(rules, path))
        r = kv_set(out, "x-oss-object-acl", headers_acl(rules, path));
    return r;
}

/* PutObject of an empty file where there is nothing. On a worker. */
static int claim_key(struct cache *cache, const char *key, const struct attr *attr)
{
    struct oss_source source = {.read = body_of_text};
    struct kvlist headers = {0};
    struct oss_put_opts opts = {.headers = &headers, .forbid_overwrite = true};
    struct oss_object object = {0};
    struct oss_error err = {0};
    struct oinfo *info;
    int r = headers_of_new(cache, key, attr, &headers);

    attr_store_forget(cache->attrs, key);
    if (!r)
        r = cache->oss->ops->put(cache->oss, key, &source, &opts, &object, &err);
    if (r == -EEXIST) {
        forget_known(cache, key);
    } else if (r) {
        cache_log_error("creating", key, &err);
        note_refused(cache, &err);
    } else {
        for (size_t i = 0; i < headers.n; i++)
            kv_add(&object.headers, headers.v[i].name, headers.v[i].value);
        info = made_info(&object, attr, false, NULL);
        put_known(cache, key, META_FILE, info);
        oinfo_put(info);
    }
    oss_object_free(&object);
    kv_free(&headers);
    return r;
}

/* ----------------------------------------------------------------------------------------- mkdir, symlink */

static void claim_run(struct job *job)
{
    struct request *q = list_entry(job, struct request, job);
    int r = claim_key(q->cache, q->key, &q->attr);

    if (!r)
        touch_parent(q->cache, q->key);
    request_end(q, r);
}

static void mkdir_run(struct job *job)
{
    struct request *q = list_entry(job, struct request, job);
    char nothing[] = "";
    int r = put_text(q->cache, q->key, nothing, &q->attr, true, "mkdir");

    if (!r) {
        meta_new_dir(q->cache->meta, q->key);
        touch_parent(q->cache, q->key);
    }
    request_end(q, r);
}

static void symlink_run(struct job *job)
{
    struct request *q = list_entry(job, struct request, job);
    int r = put_text(q->cache, q->key, q->target, &q->attr, false, "symlink");

    if (!r)
        touch_parent(q->cache, q->key);
    request_end(q, r);
}

/*
 * What was before in the queue, or a rename of a directory above, may have taken the name away: the caller resolves
 * its path anew (ESTALE). `makes`: what is made anew needs no file of that name.
 */
static int still_named(struct cfile *cf, const char *key, bool makes)
{
    int r;

    pthread_mutex_lock(&cf->mu);
    r = strcmp(cf->key, key) || (cf->orphan && !makes) ? -ESTALE : 0;
    pthread_mutex_unlock(&cf->mu);
    return r;
}

static void request_begin(struct change *change)
{
    struct request *q = list_entry(change, struct request, change);
    int r = still_named(change->cf, q->key, !change->moves_name);

    if (r)
        request_end(q, r);
    else
        pool_submit(q->cache->pool, POOL_META, &q->job);
}

/* Queues `q` as a change of its key's file. */
static void request_change(struct request *q, struct oinfo *info)
{
    struct cfile *cf = cfile_obtain(q->cache, q->key, info);

    if (!cf) {
        request_end(q, -ENOMEM);
        return;
    }
    if (!q->change.begin)
        q->change.begin = request_begin;
    cfile_change(cf, &q->change);
    cfile_release(cf);
}

void cache_claim(struct cache *cache, const char *key, const struct attr *attr, cache_done *done, void *arg)
{
    struct request *q = request_new(cache, key, done, arg);

    if (!q) {
        done(arg, -ENOMEM);
        return;
    }
    q->attr = *attr;
    q->job.run = claim_run;
    request_change(q, NULL);
}

void cache_mkdir(struct cache *cache, const char *key, const struct attr *attr, cache_done *done, void *arg)
{
    struct request *q = request_new(cache, key, done, arg);

    if (!q) {
        done(arg, -ENOMEM);
        return;
    }
    q->attr = *attr;
    q->job.run = mkdir_run;
    request_change(q, NULL);
}

void cache_symlink(struct cache *cache, const char *key, const char *target, const struct attr *attr,
                   cache_done *done, void *arg)
{
    struct request *q = request_new(cache, key, done, arg);

    if (!q || !(q->target = strdup(target))) {
        if (q)
            request_free(q);
        done(arg, -ENOMEM);
        return;
    }
    q->attr = *attr;
    q->attr.size = strlen(target);
    q->job.run = symlink_run;
    request_change(q, NULL);
}

/* ----------------------------------------------------------------------------------------------- readlink */

#define LINK_MAX_BYTES 4095

struct link_read {
    struct job job;
    struct cache *cache;
    struct oinfo *info;
    cache_link_done *done;
    void *arg;
    uint64_t since; /* meta_now() when it was asked */
    size_t n;
    char target[LINK_MAX_BYTES + 1];
    char key[];
};

static int link_sink(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct link_read *q = arg;

    if (offset + n > LINK_MAX_BYTES)
        return -ENAMETOOLONG;
    memcpy(q->target + offset, data, n);
    q->n = offset + n;
    return 0;
}

static void link_run(struct job *job)
{
    struct link_read *q = list_entry(job, struct link_read, job);
    struct cache *cache = q->cache;
    struct oss_sink sink = {.write = link_sink, .arg = q};
    const char *etag = *q->info->etag ? q->info->etag : NULL;
    struct oss_error err = {0};
    struct oinfo *info;
    const char *name;
    char *dir;
    int r = cache->oss->ops->get(cache->oss, q->key, 0, OSS_WHOLE, etag, &sink, NULL, &err);

    if (r == -ENOENT || r == -ESTALE) {
        forget_known(cache, q->key);
        r = -ESTALE;
    } else if (r) {
        cache_log_error("reading the link", q->key, &err);
    }
    if (!r && strlen(q->target) != q->n)
        r = -EIO; /* a NUL in a link */
    if (!r && (info = oinfo_clone(q->info))) {
        free(info->link);
        info->link = strdup(q->target);
        if (!key_split(q->key, &dir, &name)) {
            meta_answer(cache->meta, dir, name, META_FILE, info, q->since);
            free(dir);
        }
        oinfo_put(info);
    }
    q->done(q->arg, r, q->target);
    oinfo_put(q->info);
    free(q);
    cache_busy(cache, -1);
}

void cache_readlink(struct cache *cache, const char *key, struct oinfo *info, cache_link_done *done, void *arg)
{
    struct link_read *q;

    if (info->link) {
        done(arg, 0, info->link);
        return;
    }
    q = calloc(1, sizeof(*q) + strlen(key) + 1);
    if (!q) {
        done(arg, -ENOMEM, NULL);
        return;
    }
    strcpy(q->key, key);
    q->cache = cache;
    q->info = oinfo_get(info);
    q->done = done;
    q->arg = arg;
    q->since = meta_now(cache->meta);
    q->job.run = link_run;
    cache_busy(cache, 1);
    pool_submit(cache->pool, POOL_META, &q->job);
}

/* -------------------------------------------------------------------------------------------------- rmdir */

int check_empty(struct cache *cache, const char *key)
{
    struct oss_list_opts opts = {.prefix = key, .max_keys = 2};
    struct oss_list list = {0};
    struct oss_error err = {0};
    int r = cache->oss->ops->list(cache->oss, &opts, &list, &err);

    if (r)
        cache_log_error("listing", key, &err);
    for (size_t i = 0; !r && i < list.n_entries; i++)
        if (strcmp(list.entries[i].key, key))
            r = -ENOTEMPTY;
    if (!r && list.skipped)
        r = -ENOTEMPTY;
    oss_list_free(&list);
    return r;
}

bool unsent_below(struct cache *cache, const char *key)
{
    struct cfile **files;
    ssize_t n = cfile_collect(cache, key, &files);
    bool found = n < 0;

    for (ssize_t i = 0; i < n; i++) {
        pthread_mutex_lock(&files[i]->mu);
        if (files[i]->state != CFILE_CLEAN && strcmp(files[i]->key, key))
            found = true;
        pthread_mutex_unlock(&files[i]->mu);
        cfile_release(files[i]);
    }
    free(n < 0 ? NULL : files);
    return found;
}

/* Is `key` all that is below `dir`? From the listing when there is one, else the bucket is asked. */
static bool is_last_entry(struct cache *cache, const char *dir, const char *key)
{
    struct oss_list_opts opts = {.prefix = dir, .max_keys = 2};
    struct oss_list list = {0};
    struct oss_error err;
    size_t entries;
    bool marker, last;

    if (meta_dir_facts(cache->meta, dir, &entries, &marker))
        return entries <= 1 && !marker;
    last = !cache->oss->ops->list(cache->oss, &opts, &list, &err) && list.n_entries == 1 && list.skipped == 0 &&
           !strcmp(list.entries[0].key, key);
    oss_list_free(&list);
    return last;
}

/*
 * A prefix without a marker would vanish with its last entry, which POSIX does not know: the marker is made before
 * the entry goes.
 */
static int keep_parent(struct cache *cache, const char *key)
{
    struct meta_result parent = {0};
    const char *name, *parent_name;
    char *dir, *above, nothing[] = "";
    int r = key_split(key, &dir, &name);

    if (r)
        return r;
    if (strlen(dir) > strlen(cache->config.prefix) && !key_split(dir, &above, &parent_name)) {
        meta_get(cache->meta, above, parent_name, &parent);
        if (!(parent.info && parent.info->is_marker) && is_last_entry(cache, dir, key)) {
            struct attr attr = {.mode = S_IFDIR | cache->config.defaults.dir_mode,
                                .uid = cache->config.defaults.uid,
                                .gid = cache->config.defaults.gid,
                                .mtime = clock_wall()};

            r = put_text(cache, dir, nothing, parent.info ? &parent.info->attr : &attr, true,
                         "keeping the directory");
        }
        oinfo_put(parent.info);
        free(above);
    }
    free(dir);
    return r;
}

/* No answer came, whatever was tried: is the object gone? */
static bool is_gone(struct cache *cache, const char *key)
{
    struct oss_object object = {0};
    struct oss_error err;
    int r = cache->oss->ops->head(cache->oss, key, &object, &err);

    oss_object_free(&object);
    return r == -ENOENT;
}

static int delete_object(struct cache *cache, const char *key)
{
    struct oss_error err = {0};
    int r = keep_parent(cache, key);

    if (r)
        return r;
    r = cache->oss->ops->delete (cache->oss, key, &err);
    if (r && err.ambiguous && is_gone(cache, key))
        r = 0;
    if (r) {
        cache_log_error("deleting", key, &err);
        note_refused(cache, &err);
    }
    return r;
}

static void rmdir_run(struct job *job)
{
    struct request *q = list_entry(job, struct request, job);
    int r = unsent_below(q->cache, q->key) ? -ENOTEMPTY : check_empty(q->cache, q->key);

    if (!r)
        r = delete_object(q->cache, q->key);
    if (!r) {
        cfile_orphan(q->change.cf);
        meta_forget_tree(q->cache->meta, q->key);
        put_known(q->cache, q->key, META_ABSENT, NULL);
        touch_parent(q->cache, q->key);
    }
    request_end(q, r);
}

void cache_rmdir(struct cache *cache, const char *key, cache_done *done, void *arg)
{
    struct request *q = request_new(cache, key, done, arg);

    if (!q) {
        done(arg, -ENOMEM);
        return;
    }
    q->job.run = rmdir_run;
    q->change.moves_name = true;
    request_change(q, NULL);
}

/* ------------------------------------------------------------------------------------------------- unlink */

static void unlinked(struct request *q, int r)
{
    if (!r) {
        put_known(q->cache, q->key, META_ABSENT, NULL); /* first: who no longer finds the file asks the names */
        cfile_orphan(q->change.cf);
        touch_parent(q->cache, q->key);
    } else {
        save_undo(q->change.cf);
    }
    replace_end(q->change.cf);
    request_end(q, r);
}

static void unlink_run(struct job *job)
{
    struct request *q = list_entry(job, struct request, job);

    replace_begin(q->change.cf);
    unlinked(q, delete_object(q->cache, q->key));
}

static void unlink_saved(void *arg, int r)
{
    struct request *q = arg;

    if (r)
        unlinked(q, r);
    else
        pool_submit(q->cache->pool, POOL_META, &q->job);
}

static void unlink_own_saved(void *arg, int r)
{
    struct request *q = arg;

    if (r)
        unlinked(q, r);
    else
        share_save(q->change.cf, unlink_saved, q);
}

static void unlink_begin(struct change *change)
{
    struct request *q = list_entry(change, struct request, change);
    struct cfile *cf = change->cf;
    int r = still_named(cf, q->key, false);
    bool absent;

    pthread_mutex_lock(&cf->mu);
    absent = cf->absent;
    pthread_mutex_unlock(&cf->mu);
    if (r)
        request_end(q, r);
    else if (absent)
        unlinked(q, 0); /* never sent: nothing to delete */
    else
        save_for_handles(cf, unlink_own_saved, q);
}

void cache_unlink(struct cache *cache, const char *key, cache_done *done, void *arg)
{
    struct request *q = request_new(cache, key, done, arg);

    if (!q) {
        done(arg, -ENOMEM);
        return;
    }
    q->job.run = unlink_run;
    q->change.begin = unlink_begin;
    q->change.moves_name = true;
    request_change(q, NULL);
}

/* ------------------------------------------------------------------------------------------------- rename */

struct rename {
    struct change first, second; /* of the two files, in the order of their keys: nobody waits in a circle */
    struct cfile *from, *to;
    struct job job;
    struct cache *cache;
    char *from_key, *to_key;
    struct oinfo *replaced; /* what is at the new name in the bucket, or NULL */
    struct oinfo *made;     /* the copy */
    uint64_t gen;           /* of the attributes that it carries */
    cache_done *done;
    void *arg;
};

static void rename_end(struct rename *n, int r)
{
    if (r && n->second.cf)
        save_undo(n->to);
    n->done(n->arg, r); /* first, as in request_end() */
    if (n->second.cf) {
        replace_end(n->to);
        cfile_change_done(&n->second);
    }
    if (n->first.cf)
        cfile_change_done(&n->first);
    if (n->from)
        cfile_release(n->from);
    if (n->to)
        cfile_release(n->to);
    oinfo_put(n->made);
    oinfo_put(n->replaced);
    free(n->from_key);
    free(n->to_key);
    free(n);
}

/* The bucket has it (or nothing of it yet): the names follow. */
static void rename_names(struct rename *n)
{
    struct cfile *cf = n->from;
    struct oinfo *info;

    put_known(n->cache, n->from_key, META_ABSENT, NULL); /* as in unlinked() */
    if (!n->made && n->replaced) {
        /*
         * Never sent, but no longer without an object: the one that its upload will replace. Known before the journal
         * learns the name, for recovery compares the two.
         */
        pthread_mutex_lock(&cf->mu);
        cf->absent = false;
        oinfo_put(cf->object);
        cf->object = oinfo_get(n->replaced);
        pthread_mutex_unlock(&cf->mu);
    }
    cfile_rekey(cf, n->to_key, n->to);
    if (n->made) {
        pthread_mutex_lock(&cf->mu);
        cfile_moved(cf, n->made, n->gen);
        pthread_mutex_unlock(&cf->mu);
    }
    info = cfile_info(cf);
    put_known(n->cache, n->to_key, META_FILE, info);
    oinfo_put(info);
    touch_parent(n->cache, n->from_key);
    touch_parent(n->cache, n->to_key);
}

/* The old name stays: what was said to stand in the copy stands in the old object. mu held. */
static void stay(struct cfile *cf, const char *to_key)
{
    for (size_t i = 0; i < cf->n_bases; i++) {
        struct base *base = &cf->bases[i];
        char *key = base->foreign || !cf->object || strcmp(base->key, to_key) ? NULL : strdup(cf->key);

        if (!key)
            continue;
        free(base->key);
        base->key = key;
        oinfo_put(base->info);
        base->info = oinfo_get(cf->object);
    }
    journal_key(cf, cf->key, cf->object);
}

static void rename_delete(struct job *job)
{
    struct rename *n = list_entry(job, struct rename, job);
    int r = delete_object(n->cache, n->from_key);
    const char *name;
    char *dir;

    if (!r) {
        rename_names(n);
    } else if (!key_split(n->to_key, &dir, &name)) {
        /* Both names hold the file now: nothing is lost, and the user is told. */
        pthread_mutex_lock(&n->from->mu);
        stay(n->from, n->to_key);
        pthread_mutex_unlock(&n->from->mu);
        meta_forget(n->cache->meta, dir, name);
        free(dir);
    }
    rename_end(n, r);
}

static void rename_copied(void *arg, int r, struct oinfo *info)
{
    struct rename *n = arg;
    char etag[OSS_ETAG_SIZE];
    bool never_sent;

    pthread_mutex_lock(&n->from->mu);
    never_sent = r == -ENOENT && !n->from->object && n->from->gen != n->from->sent_gen;
    pthread_mutex_unlock(&n->from->mu);
    if (never_sent) {
        /* Its upload has failed so far; what waits here goes on under the new name. */
        rename_names(n);
        r = 0;
    }
    if (r == -ENOENT || r == -ESTALE)
        forget_known(n->cache, n->from_key);
    if (r || never_sent) {
        rename_end(n, r);
        return;
    }
    n->made = oinfo_get(info);
    /* Known to the journal before the old name goes: what is unsent belongs to the new one from here on. */
    pthread_mutex_lock(&n->from->mu);
    memcpy(etag, n->from->object ? n->from->object->etag : "", n->from->object ? sizeof(etag) : 1);
    journal_key(n->from, n->to_key, info);
    cfile_repoint(n->from, n->to_key, info);
    pthread_mutex_unlock(&n->from->mu);
    share_fence(n->from);
    share_repoint(n->cache, n->from_key, etag, n->to_key, info->etag);
    pool_submit(n->cache->pool, POOL_META, &n->job);
}

static void nobody_waits(void *arg, int r)
{
    (void)arg;
    (void)r;
}

/* The upload of a temporary name has waited for this: the rename answers for it. */
static void rename_send(struct rename *n)
{
    struct cfile *cf = cfile_hold(n->from);
    cache_done *done = n->done;
    void *arg = n->arg;

    n->done = nobody_waits;
    rename_end(n, 0);
    cfile_flush(cf, done, arg);
    cfile_release(cf);
}

static void rename_saved(void *arg, int r)
{
    struct rename *n = arg;
    bool absent, deferred;

    if (r) {
        rename_end(n, r);
        return;
    }
    pthread_mutex_lock(&n->from->mu);
    absent = n->from->absent;
    deferred = background_deferred(n->from);
    n->gen = n->from->gen;
    pthread_mutex_unlock(&n->from->mu);
    if (absent) {
        /* Not sent yet: its upload will go to the new name, and replace what is there. */
        rename_names(n);
        if (deferred)
            rename_send(n);
        else
            rename_end(n, 0);
        return;
    }
    replace_begin(n->to);
    upload_copy(n->from, n->to_key, n->replaced, rename_copied, n);
}

static void rename_own_saved(void *arg, int r)
{
    struct rename *n = arg;

    if (r)
        rename_end(n, r);
    else
        share_save(n->to, rename_saved, n);
}

static void rename_both(struct change *change)
{
    struct rename *n = list_entry(change, struct rename, second);
    int r = still_named(n->from, n->from_key, false);

    if (!r)
        r = still_named(n->to, n->to_key, false);
    if (r)
        rename_end(n, r);
    else
        save_for_handles(n->to, rename_own_saved, n);
}

static void rename_first(struct change *change)
{
    struct rename *n = list_entry(change, struct rename, first);
    bool is_from = change->cf == n->from;
    /* Under another name by now it would be out of the order in which everybody waits. */
    int r = still_named(change->cf, is_from ? n->from_key : n->to_key, false);

    if (r)
        rename_end(n, r);
    else
        cfile_change(is_from ? n->to : n->from, &n->second);
}

void cache_rename(struct cache *cache, const char *from, const char *to, struct oinfo *info, struct oinfo *replaced,
                  cache_done *done, void *arg)
{
    struct rename *n = calloc(1, sizeof(*n));
    bool from_first = strcmp(from, to) < 0;

    if (!n) {
        done(arg, -ENOMEM);
        return;
    }
    n->cache = cache;
    n->done = done;
    n->arg = arg;
    n->from_key = strdup(from);
    n->to_key = strdup(to);
    n->replaced = oinfo_get(replaced);
    n->from = cfile_obtain(cache, from, info);
    n->to = cfile_obtain(cache, to, NULL);
    n->job.run = rename_delete;
    n->first.begin = rename_first;
    n->second.begin = rename_both;
    n->first.moves_name = n->second.moves_name = true;
    if (!n->from_key || !n->to_key || !n->from || !n->to) {
        rename_end(n, -ENOMEM);
        return;
    }
    cfile_change(from_first ? n->from : n->to, &n->first);
}

/* ---------------------------------------------------------------------------------------- waiting for a name */

/* A change that changes nothing: when it is at the head of the queue, those before it are done. */
struct barrier {
    struct change change;
    cache_done *done;
    void *arg;
};

static void barrier_begin(struct change *change)
{
    struct barrier *b = list_entry(change, struct barrier, change);
    cache_done *done = b->done;
    void *arg = b->arg;

    cfile_change_done(change);
    free(b);
    done(arg, 0);
}

/* Is a change of its name under way, or queued? */
static bool is_moving(struct cfile *cf)
{
    bool moving = false;

    pthread_mutex_lock(&cf->mu);
    list_for_each (it, &cf->changes)
        moving = moving || list_entry(it, struct change, link)->moves_name;
    pthread_mutex_unlock(&cf->mu);
    return moving;
}

bool cfile_too_late(struct cfile *cf)
{
    bool gone;

    pthread_mutex_lock(&cf->mu);
    gone = cf->orphan;
    pthread_mutex_unlock(&cf->mu);
    return gone || is_moving(cf);
}

bool cache_await_name(struct cache *cache, const char *key, cache_done *done, void *arg)
{
    /* Below a directory that is being renamed, what is opened gets its file now: it waits with the others. */
    struct cfile *cf = moving_covers(cache, key) ? cfile_obtain(cache, key, NULL) : cfile_find(cache, key);
    struct barrier *b;

    if (!cf)
        return false;
    b = is_moving(cf) ? calloc(1, sizeof(*b)) : NULL;
    if (b) {
        b->done = done;
        b->arg = arg;
        b->change.begin = barrier_begin;
        cfile_change(cf, &b->change);
    }
    cfile_release(cf);
    return b != NULL;
}
