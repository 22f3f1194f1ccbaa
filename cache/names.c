/*
 * Finding names: what the name cache cannot answer is asked of the bucket.
 *
 * A name of which nothing is known costs three requests in parallel, one round trip: HEAD key, HEAD key/ and a
 * listing of one entry below key/. The second such name in one directory lists the directory instead, for then
 * more are to come (a copy into it, a walk): the rest is answered from the listing. What was a file when it was last
 * believed is asked for as one, and as the other only when it is gone. A name that a listing has shown lacks only its
 * attributes: one HEAD, where the attribute store (recall.c) does not know them; and when a program stats one after
 * the other, those of the next names are asked for in advance. Nobody asks twice at the same time: who comes later
 * waits for the first one's answer.
 */
#include "cfile.h"

#include "../oss/base_log.h"
#include "../oss/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_MAX     128 /* names ahead of a program that stats one after the other; META_THREADS at a time */
#define LOOKUP_PAGES_MAX 10  /* pages that a lookup may list before it gives up */

enum probe_kind { PROBE_FILE, PROBE_DIR, PROBE_BELOW, PROBES };

struct probe {
    struct job job;
    struct question *question;
    enum probe_kind kind;
    int r;
    struct oinfo *info;
};

struct name_waiter {
    struct list link;
    cache_lookup_done *done;
    void *arg;
};

/* What is this name? */
struct question {
    struct list link;
    struct cache *cache;
    struct list waiters;
    uint64_t since; /* meta_now() when it was asked */
    bool guess;     /* it was a file when last seen: no more is asked unless that is gone */
    unsigned pending;
    struct probe probes[PROBES];
    char *dir;
    const char *name;
    char key[];
};

struct list_waiter {
    struct list link;
    bool lookup; /* would rather give up than list a long directory */
    cache_done *done;
    void *arg;
};

/* What is in this directory? */
struct listing {
    struct list link;
    struct cache *cache;
    struct job job;
    struct list waiters;
    uint64_t number;
    char dir[];
};

struct names {
    struct cache *cache;
    pthread_mutex_t mu; /* guards the two lists, and the waiters and pending counts in them */
    struct list questions, listings;
    atomic_ullong hidden;
};

struct names *names_new(struct cache *cache)
{
    struct names *names = calloc(1, sizeof(*names));

    if (!names)
        return NULL;
    names->cache = cache;
    list_init(&names->questions);
    list_init(&names->listings);
    pthread_mutex_init(&names->mu, NULL);
    return names;
}

void names_free(struct names *names)
{
    if (!names)
        return;
    pthread_mutex_destroy(&names->mu);
    free(names);
}

uint64_t cache_hidden_keys(struct cache *cache)
{
    return atomic_load(&cache->names->hidden);
}

int key_split(const char *key, char **dir, const char **name)
{
    size_t n = strlen(key), slash;
    char *copy = malloc(n + 2);

    if (!copy)
        return -ENOMEM;
    if (n && key[n - 1] == '/')
        n--;
    for (slash = n; slash && key[slash - 1] != '/'; slash--)
        ;
    /* "a/b/" NUL "c" NUL */
    memcpy(copy, key, slash);
    copy[slash] = '\0';
    memcpy(copy + slash + 1, key + slash, n - slash);
    copy[n + 1] = '\0';
    *dir = copy;
    *name = copy + slash + 1;
    return 0;
}

void cache_log_error(const char *what, const char *key, const struct oss_error *err)
{
    const char *advice = error_advice(err->code);
    char text[640];

    oss_error_format(err, text, sizeof(text));
    log_err("%s of %s failed: %s%s%s", what, key, text, *advice ? "; " : "", advice);
}

/* ------------------------------------------------------------------------------------------- probes */

/* The path of `target` (a key) as seen from the directory of `key`: "../x/y". NULL when out of memory. */
static char *relative_link(const char *prefix, const char *key, const char *target)
{
    size_t common = 0, ups = 0, skip = strlen(prefix);
    char *out;

    if (strncmp(target, prefix, skip))
        skip = 0; /* outside the mount: it will dangle, but says where it points */
    key += strncmp(key, prefix, strlen(prefix)) ? 0 : strlen(prefix);
    target += skip;
    for (size_t i = 0; key[i] && key[i] == target[i]; i++)
        if (key[i] == '/')
            common = i + 1;
    for (const char *p = key + common; (p = strchr(p, '/')); p++)
        ups++;
    out = malloc(3 * ups + strlen(target + common) + 1);
    if (!out)
        return NULL;
    for (size_t i = 0; i < ups; i++)
        memcpy(out + 3 * i, "../", 3);
    strcpy(out + 3 * ups, target + common);
    return out;
}

/* An OSS symlink object: GetSymlink tells what it is, whether its target exists or not. */
static int probe_symlink(struct cache *cache, const char *key, struct oinfo **out)
{
    char target[OSS_KEY_MAX + 1];
    struct oss_object object = {0};
    struct oss_error err;
    int r = cache->oss->ops->get_symlink(cache->oss, key, target, &object, &err);

    if (r)
        return r;
    object.type = OSS_TYPE_SYMLINK;
    *out = oinfo_from_object(&object, &cache->config.defaults, false);
    oss_object_free(&object);
    if (!*out)
        return -ENOMEM;
    (*out)->link = relative_link(cache->config.prefix, key, target);
    (*out)->attr.mode = S_IFLNK | 0777;
    (*out)->attr.size = (*out)->link ? strlen((*out)->link) : 0;
    return (*out)->link ? 0 : -ENOMEM;
}

static int probe_head(struct cache *cache, const char *key, bool is_dir, struct oinfo **out)
{
    struct oss_object object = {0};
    struct oss_error err;
    int r = cache->oss->ops->head(cache->oss, key, &object, &err);

    if (r == -ENOENT && !is_dir && !strcmp(err.code, "SymlinkTargetNotExist"))
        return probe_symlink(cache, key, out);
    if (r)
        return r;
    if (object.type == OSS_TYPE_SYMLINK && !is_dir) {
        r = probe_symlink(cache, key, out);
    } else {
        *out = oinfo_from_object(&object, &cache->config.defaults, is_dir);
        r = *out ? 0 : -ENOMEM;
    }
    oss_object_free(&object);
    return r;
}

static int probe_below(struct cache *cache, const char *prefix)
{
    struct oss_list_opts opts = {.prefix = prefix, .max_keys = 1};
    struct oss_list list = {0};
    struct oss_error err;
    int r = cache->oss->ops->list(cache->oss, &opts, &list, &err);

    if (!r && list.n_entries == 0 && list.skipped == 0)
        r = -ENOENT;
    oss_list_free(&list);
    return r;
}

static bool used(const struct question *q, enum probe_kind kind)
{
    return q->probes[kind].question != NULL;
}

/* The answers together: a directory is shown before a file of its name. */
static int combine(struct question *q, struct oinfo **info)
{
    const struct probe *file = &q->probes[PROBE_FILE], *dir = &q->probes[PROBE_DIR];
    const struct probe *below = &q->probes[PROBE_BELOW];
    /* Where only the marker was asked for, a listing has shown that it is a directory. */
    bool is_dir = used(q, PROBE_DIR) && (!dir->r || (used(q, PROBE_BELOW) ? !below->r : dir->r == -ENOENT));

    if (is_dir) {
        *info = dir->r ? oinfo_from_object(NULL, &q->cache->config.defaults, true) : oinfo_get(dir->info);
        return *info ? 0 : -ENOMEM;
    }
    for (int i = 0; i < PROBES; i++)
        if (used(q, i) && i != PROBE_FILE && q->probes[i].r && q->probes[i].r != -ENOENT && file->r)
            return q->probes[i].r;
    if (!used(q, PROBE_FILE))
        return dir->r;
    *info = oinfo_get(file->info);
    return file->r;
}

static void note_answer(struct question *q, struct oinfo *info)
{
    char key[OSS_KEY_MAX + 8];

    strcpy(key, q->key);
    if (S_ISDIR(info->attr.mode))
        strcat(key, "/");
    recall_note(q->cache, key, info);
}

static void answer(struct question *q)
{
    struct cache *cache = q->cache;
    struct names *names = cache->names;
    struct list waiters;
    struct oinfo *info = NULL;
    int r = combine(q, &info);
    enum meta_state state = META_ABSENT;

    if (info)
        state = S_ISDIR(info->attr.mode) ? META_DIR : META_FILE;
    if (!r || r == -ENOENT)
        meta_answer(cache->meta, q->dir, q->name, state, info, q->since);
    if (info)
        note_answer(q, info);
    list_init(&waiters);
    pthread_mutex_lock(&names->mu);
    list_del(&q->link);
    list_splice_tail(&waiters, &q->waiters);
    pthread_mutex_unlock(&names->mu);
    list_for_each_safe (it, &waiters) {
        struct name_waiter *w = list_entry(it, struct name_waiter, link);

        w->done(w->arg, r, info, r && r != -ENOENT ? 0 : cache->config.stat_ttl_ms);
        free(w);
    }
    oinfo_put(info);
    for (int i = 0; i < PROBES; i++)
        oinfo_put(q->probes[i].info);
    free(q->dir);
    free(q);
    cache_busy(cache, -1);
}

static void probe_run(struct job *job);

/* Those of them for which there is a flag are asked by submit(). names->mu held. */
static void want(struct question *q, const bool wanted[PROBES])
{
    for (int i = 0; i < PROBES; i++) {
        if (!wanted[i])
            continue;
        q->probes[i].kind = i;
        q->probes[i].question = q;
        q->probes[i].job.run = probe_run;
        q->pending++;
    }
}

/* The last one may free q at once. */
static void submit(struct question *q, const bool wanted[PROBES])
{
    struct pool *pool = q->cache->pool;

    for (int i = 0; i < PROBES; i++)
        if (wanted[i])
            pool_submit(pool, POOL_META, &q->probes[i].job);
}

static void probe_run(struct job *job)
{
    static const bool others[PROBES] = {[PROBE_DIR] = true, [PROBE_BELOW] = true};
    struct probe *p = list_entry(job, struct probe, job);
    struct question *q = p->question;
    struct names *names = q->cache->names;
    char key[OSS_KEY_MAX + 8];
    bool last, again;

    strcpy(key, q->key);
    if (p->kind != PROBE_FILE)
        strcat(key, "/");
    if (p->kind == PROBE_BELOW)
        p->r = probe_below(q->cache, key);
    else
        p->r = probe_head(q->cache, key, p->kind == PROBE_DIR, &p->info);
    pthread_mutex_lock(&names->mu);
    last = --q->pending == 0;
    again = last && q->guess && q->probes[PROBE_FILE].r == -ENOENT;
    if (again) {
        q->guess = false;
        want(q, others);
    }
    pthread_mutex_unlock(&names->mu);
    if (again)
        submit(q, others);
    else if (last)
        answer(q);
}

/* ---------------------------------------------------------------------------------------- questions */

static struct question *question_find(struct names *names, const char *dir, const char *name)
{
    list_for_each (it, &names->questions) {
        struct question *q = list_entry(it, struct question, link);

        if (!strcmp(q->name, name) && !strcmp(q->dir, dir))
            return q;
    }
    return NULL;
}

static struct question *question_new(struct cache *cache, const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 1;
    struct question *q = calloc(1, sizeof(*q) + n);

    if (!q)
        return NULL;
    strcpy(q->key, dir);
    strcat(q->key, name);
    if (key_split(q->key, &q->dir, &q->name)) {
        free(q);
        return NULL;
    }
    q->cache = cache;
    q->since = meta_now(cache->meta);
    list_init(&q->waiters);
    list_init(&q->link);
    return q;
}

/* Asks with the probes that `state` leaves open; waiter NULL: in advance, nobody waits yet. */
static void ask(struct cache *cache, const char *dir, const char *name, enum meta_state state,
                struct name_waiter *waiter)
{
    struct names *names = cache->names;
    struct question *q, *fresh = question_new(cache, dir, name);
    struct meta_result known = {0};
    bool wanted[PROBES] = {state != META_DIR, state != META_FILE, state == META_UNKNOWN};

    if (!fresh) {
        if (waiter)
            waiter->done(waiter->arg, -ENOMEM, NULL, 0);
        free(waiter);
        return;
    }
    pthread_mutex_lock(&names->mu);
    q = question_find(names, dir, name);
    if (q && waiter)
        list_add_tail(&q->waiters, &waiter->link);
    /* Nobody is asking: but somebody may have had the answer since the caller looked. */
    if (!q) {
        meta_get(cache->meta, dir, name, &known);
        recall(cache, dir, name, &known);
    }
    if (q || known.state == META_ABSENT || known.info) {
        pthread_mutex_unlock(&names->mu);
        if (!q && waiter) {
            waiter->done(waiter->arg, known.info ? 0 : -ENOENT, known.info, known.ttl_ms);
            free(waiter);
        }
        oinfo_put(known.info);
        free(fresh->dir);
        free(fresh);
        return;
    }
    q = fresh;
    if (waiter)
        list_add_tail(&q->waiters, &waiter->link);
    list_add_tail(&names->questions, &q->link);
    q->guess = state == META_UNKNOWN && known.was == META_FILE;
    if (q->guess)
        wanted[PROBE_DIR] = wanted[PROBE_BELOW] = false;
    want(q, wanted);
    pthread_mutex_unlock(&names->mu);
    cache_busy(cache, 1);
    submit(q, wanted);
}

static void ask_in_advance(struct cache *cache, const char *dir, const char *name, bool asking)
{
    char *names[PREFETCH_MAX];
    enum meta_state states[PREFETCH_MAX];
    size_t n = meta_unknown_after(cache->meta, dir, name, asking, names, states, PREFETCH_MAX);

    for (size_t i = 0; i < n; i++) {
        ask(cache, dir, names[i], states[i], NULL);
        free(names[i]);
    }
}

/* ----------------------------------------------------------------------------------------- listings */

int list_advances(const struct oss_list *page, char **last)
{
    const char *highest = NULL;

    for (size_t i = 0; i < page->n_entries; i++)
        if (!highest || strcmp(page->entries[i].key, highest) > 0)
            highest = page->entries[i].key;
    for (size_t i = 0; i < page->n_prefixes; i++)
        if (!highest || strcmp(page->prefixes[i], highest) > 0)
            highest = page->prefixes[i];
    if (!page->truncated)
        return 0;
    if (!highest || (*last && strcmp(highest, *last) <= 0))
        return -EIO;
    free(*last);
    *last = strdup(highest);
    return *last ? 0 : -ENOMEM;
}

/* Lists to the end, or until it is too long for the lookups that wait. One meta worker is busy with it meanwhile. */
static int list_pages(struct listing *l, struct oss_error *err)
{
    struct cache *cache = l->cache;
    struct names *names = cache->names;
    char *token = NULL, *last = NULL;
    int r;

    for (unsigned page = 1;; page++) {
        struct oss_list_opts opts = {.prefix = l->dir, .delimiter = "/", .continuation = token};
        struct oss_list list = {0};
        bool patient = page < LOOKUP_PAGES_MAX;

        r = cache->oss->ops->list(cache->oss, &opts, &list, err);
        free(token);
        token = NULL;
        if (r)
            break;
        atomic_fetch_add(&names->hidden, meta_list_page(cache->meta, l->dir, l->number, &list));
        r = list_advances(&list, &last);
        token = !r && list.truncated ? list.next : NULL;
        if (token)
            list.next = NULL;
        oss_list_free(&list);
        if (!token)
            break;
        pthread_mutex_lock(&names->mu);
        list_for_each (it, &l->waiters) {
            if (!list_entry(it, struct list_waiter, link)->lookup)
                patient = true;
        }
        pthread_mutex_unlock(&names->mu);
        if (!patient) {
            r = -E2BIG;
            break;
        }
    }
    free(token);
    free(last);
    return r;
}

static void list_dir(struct cache *cache, const char *dir, bool lookup, cache_done *done, void *arg);

static void listing_run(struct job *job)
{
    struct listing *l = list_entry(job, struct listing, job);
    struct cache *cache = l->cache;
    struct list waiters;
    struct oss_error err = {0};
    int r = list_pages(l, &err);

    if (r)
        meta_list_give_up(cache->meta, l->dir, l->number, r == -E2BIG);
    else
        meta_list_end(cache->meta, l->dir, l->number);
    list_init(&waiters);
    pthread_mutex_lock(&cache->names->mu);
    list_del(&l->link);
    list_splice_tail(&waiters, &l->waiters);
    pthread_mutex_unlock(&cache->names->mu);
    list_for_each_safe (it, &waiters) {
        struct list_waiter *w = list_entry(it, struct list_waiter, link);

        if (r == -E2BIG && !w->lookup)
            list_dir(cache, l->dir, false, w->done, w->arg); /* came just when the lookups had given up */
        else
            w->done(w->arg, r);
        free(w);
    }
    free(l);
    cache_busy(cache, -1);
}

static void list_dir(struct cache *cache, const char *dir, bool lookup, cache_done *done, void *arg)
{
    struct names *names = cache->names;
    struct list_waiter *w = calloc(1, sizeof(*w));
    struct listing *l = NULL, *fresh = calloc(1, sizeof(*fresh) + strlen(dir) + 1);

    if (!w || !fresh) {
        free(w);
        free(fresh);
        done(arg, -ENOMEM);
        return;
    }
    *w = (struct list_waiter){.lookup = lookup, .done = done, .arg = arg};
    strcpy(fresh->dir, dir);
    pthread_mutex_lock(&names->mu);
    list_for_each (it, &names->listings) {
        l = list_entry(it, struct listing, link);
        if (!strcmp(l->dir, dir))
            break;
        l = NULL;
    }
    if (l) {
        list_add_tail(&l->waiters, &w->link);
        pthread_mutex_unlock(&names->mu);
        free(fresh);
        return;
    }
    l = fresh;
    l->cache = cache;
    l->job.run = listing_run;
    list_init(&l->waiters);
    list_add_tail(&l->waiters, &w->link);
    list_add_tail(&names->listings, &l->link);
    l->number = meta_list_begin(cache->meta, dir);
    pthread_mutex_unlock(&names->mu);
    cache_busy(cache, 1);
    pool_submit(cache->pool, POOL_META, &l->job);
}

void cache_list(struct cache *cache, const char *dir, cache_done *done, void *arg)
{
    if (meta_listed(cache->meta, dir))
        done(arg, 0);
    else
        list_dir(cache, dir, false, done, arg);
}

int cache_probe(struct cache *cache, struct oss_error *err)
{
    const char *dir = cache->config.prefix;
    struct oss_list_opts opts = {.prefix = dir, .delimiter = "/"};
    struct oss_list list = {0};
    uint64_t number = meta_list_begin(cache->meta, dir);
    int r = cache->oss->ops->list(cache->oss, &opts, &list, err);

    if (r) {
        meta_list_give_up(cache->meta, dir, number, false);
        return r;
    }
    atomic_fetch_add(&cache->names->hidden, meta_list_page(cache->meta, dir, number, &list));
    if (list.truncated)
        meta_list_give_up(cache->meta, dir, number, false);
    else
        meta_list_end(cache->meta, dir, number);
    oss_list_free(&list);
    return 0;
}

/* ------------------------------------------------------------------------------------------ lookups */

/* What is unsent here is newer than all that the bucket can say. */
static struct oinfo *local_info(struct cache *cache, const char *dir, const char *name)
{
    char key[OSS_KEY_MAX + 8];
    struct oinfo *info;

    if (strlen(dir) + strlen(name) > OSS_KEY_MAX)
        return NULL;
    strcpy(key, dir);
    strcat(key, name);
    info = cfile_unsent_info(cache, key);
    if (!info) {
        strcat(key, "/");
        info = cfile_unsent_info(cache, key);
    }
    return info;
}

bool cache_lookup_known(struct cache *cache, const char *dir, const char *name, cache_lookup_done *done, void *arg)
{
    struct oinfo *local = local_info(cache, dir, name);
    struct meta_result known;

    if (local) {
        done(arg, 0, local, cache->config.stat_ttl_ms);
        oinfo_put(local);
        return true;
    }
    meta_get(cache->meta, dir, name, &known);
    recall(cache, dir, name, &known);
    if (known.state == META_ABSENT)
        done(arg, -ENOENT, NULL, known.ttl_ms);
    else if (known.info)
        done(arg, 0, known.info, known.ttl_ms);
    oinfo_put(known.info);
    return known.state == META_ABSENT || known.info;
}

/* A lookup that waits for the listing of its directory. */
struct listed_lookup {
    struct cache *cache;
    struct name_waiter *waiter;
    char *dir;
    const char *name;
};

static void lookup_after_list(void *arg, int r)
{
    struct listed_lookup *l = arg;
    struct name_waiter *w = l->waiter;
    struct meta_result known = {0};

    /* Of a long directory only the beginning was listed, which tells what there is to tell of the directory itself.
     */
    if ((r && r != -E2BIG) || !cache_lookup_known(l->cache, l->dir, l->name, w->done, w->arg)) {
        meta_get(l->cache->meta, l->dir, l->name, &known);
        oinfo_put(known.info);
        ask(l->cache, l->dir, l->name, known.state == META_ABSENT ? META_UNKNOWN : known.state, w);
    } else {
        free(w);
    }
    free(l->dir);
    free(l);
}

/*
 * Is a listing the better question? Of the directory that the name is in, when it is not the first name there that
 * nothing is known of; of the directory that the name is, when its attributes are on disk and need only the proof
 * that the marker is still the same: who looks at a directory mostly goes on to list it.
 */
static bool listing_helps(struct cache *cache, const char *dir, const char *name, const struct meta_result *known,
                          char listed[OSS_KEY_MAX + 8])
{
    if (cache->config.stat_ttl_ms <= 0)
        return false;
    if (known->state == META_DIR)
        return recall_by_listing(cache, dir, name, listed);
    if (known->state != META_UNKNOWN || known->dir_big || strlen(dir) > OSS_KEY_MAX)
        return false;
    strcpy(listed, dir);
    return meta_count_cold(cache->meta, dir) > 0;
}

void cache_lookup(struct cache *cache, const char *dir, const char *name, cache_lookup_done *done, void *arg)
{
    struct name_waiter *w;
    struct listed_lookup *l;
    struct meta_result known;
    char listed[OSS_KEY_MAX + 8];
    bool list_first;

    /* Whoever goes through a directory shall find the next answers there: `name` is gone after our own answer. */
    ask_in_advance(cache, dir, name, false);
    if (cache_lookup_known(cache, dir, name, done, arg))
        return;
    w = calloc(1, sizeof(*w));
    if (!w) {
        done(arg, -ENOMEM, NULL, 0);
        return;
    }
    w->done = done;
    w->arg = arg;
    meta_get(cache->meta, dir, name, &known);
    oinfo_put(known.info);
    list_first = listing_helps(cache, dir, name, &known, listed);
    if (list_first && (l = calloc(1, sizeof(*l)))) {
        char key[OSS_KEY_MAX + 8];

        strcpy(key, dir);
        strcat(key, name);
        *l = (struct listed_lookup){.cache = cache, .waiter = w};
        if (!key_split(key, &l->dir, &l->name)) {
            list_dir(cache, listed, true, lookup_after_list, l);
            return;
        }
        free(l);
    }
    /* First those in advance: the answer to our own question may free the strings. */
    if (known.state != META_UNKNOWN || known.dir_big)
        ask_in_advance(cache, dir, name, true);
    ask(cache, dir, name, known.state, w);
}

/* ---------------------------------------------------------------------------------------- snapshots */

static bool has_name(const struct meta_names *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(meta_names_get(names, i, NULL), name))
            return true;
    return false;
}

/* A file that is open or unsent for longer than a listing lives is in no listing. */
static int add_unsent(struct meta_names *names, size_t listed, struct cfile *cf, const char *name)
{
    bool unsent;

    pthread_mutex_lock(&cf->mu);
    unsent = cf->state != CFILE_CLEAN && !cf->object && !cf->orphan;
    pthread_mutex_unlock(&cf->mu);
    if (!unsent || !*name || strchr(name, '/') || has_name(names, listed, name))
        return 0;
    return meta_names_add(names, name, false);
}

int cache_snapshot(struct cache *cache, const char *dir, struct meta_names *out)
{
    struct cfile **files = NULL;
    size_t listed;
    ssize_t n;
    int r = meta_snapshot(cache->meta, dir, out);

    if (r)
        return r;
    listed = out->n;
    n = cfile_collect(cache, dir, &files);
    if (n < 0)
        r = (int)n;
    for (ssize_t i = 0; i < n; i++) {
        if (!r)
            r = add_unsent(out, listed, files[i], files[i]->key + strlen(dir));
        cfile_release(files[i]);
    }
    free(files);
    if (r)
        meta_names_free(out);
    return r;
}
