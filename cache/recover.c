/* What earlier daemons left: journal.h says what becomes of it. */
#include "append.h"
#include "hidden.h"
#include "keep.h"
#include "rename_intent.h"
#include "strays.h"

#include "../oss/base_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX       ".journal"
#define CLOCK_MARGIN 120 /* seconds by which our clock and the service's may differ */

/* ------------------------------------------------------------------------------------------- aside */

/* data/NAME -> aside/NAME; 0 also when there is no such file. */
static int move_aside(const struct cache *cache, const char *name)
{
    char from[4096], to[4096];

    if (snprintf(from, sizeof(from), "%s/data/%s", cache->config.state_dir, name) >= (int)sizeof(from) ||
        snprintf(to, sizeof(to), "%s/aside", cache->config.state_dir) >= (int)sizeof(to))
        return -ENAMETOOLONG;
    if (mkdir(to, 0700) && errno != EEXIST)
        return -errno;
    if (snprintf(to, sizeof(to), "%s/aside/%s", cache->config.state_dir, name) >= (int)sizeof(to))
        return -ENAMETOOLONG;
    return rename(from, to) && errno != ENOENT ? -errno : 0;
}

/* A data file with its journal; `why` ends the log line. */
void recover_put_aside(const struct cache *cache, const char *number, const char *key, const char *why)
{
    char journal[64];
    int r;

    snprintf(journal, sizeof(journal), "%s%s", number, SUFFIX);
    r = move_aside(cache, number);
    if (!r)
        r = move_aside(cache, journal);
    if (!r)
        kept_note(cache->config.state_dir, number, why);
    if (r)
        log_err("%s/data/%s (unsent changes of %s) cannot be moved to aside/: %s", cache->config.state_dir, number,
                key, strerror(-r));
    else
        log_warn("unsent changes of %s are kept in %s/aside/%s: %s", key, cache->config.state_dir, number, why);
}

/* What hidden objects have of it is fetched first: true when that is under way. */
static bool rescue_conflict(struct cfile *cf, const char *number, const char *why)
{
    struct journal_state s;
    char path[4096];
    bool hidden = false;

    if (snprintf(path, sizeof(path), "%s/data/%s%s", cf->cache->config.state_dir, number, SUFFIX) >=
            (int)sizeof(path) ||
        journal_read(path, &s))
        return false;
    if (s.n_hidden > 0) {
        pthread_mutex_lock(&cf->mu);
        hidden = cf->rescued = true;
        pthread_mutex_unlock(&cf->mu);
        if (rescue(cf->cache, number, &s, why))
            hidden = false;
    }
    journal_state_free(&s);
    return hidden;
}

void recover_keep_aside(struct cfile *cf)
{
    static const char why[] = "the object in the bucket was changed meanwhile, so nothing was overwritten";
    char number[32] = "", *key = NULL;

    pthread_mutex_lock(&cf->mu);
    if (cf->path && (key = strdup(cf->key)))
        snprintf(number, sizeof(number), "%s", strrchr(cf->path, '/') + 1);
    if (cf->journal_fd >= 0)
        close(cf->journal_fd);
    cf->journal_fd = -1; /* it goes along */
    free(cf->path);
    cf->path = NULL;
    cf->has_data = false; /* who has it open reads on from the descriptor */
    pthread_mutex_unlock(&cf->mu);
    if (key && !rescue_conflict(cf, number, why))
        recover_put_aside(cf->cache, number, key, why);
    free(key);
    cfile_orphan(cf);
}

/* --------------------------------------------------------------------------------- the object meanwhile */

int recover_check(struct cfile *cf, struct oss_object *now, struct oss_error *err)
{
    struct cache *cache = cf->cache;
    struct oinfo *base;
    char key[OSS_KEY_MAX + 2];
    int r;

    pthread_mutex_lock(&cf->mu);
    base = oinfo_get(cf->object);
    snprintf(key, sizeof(key), "%s", cf->key);
    pthread_mutex_unlock(&cf->mu);
    r = cache->oss->ops->head(cache->oss, key, now, err);
    if (r == -ENOENT)
        r = base ? -ESTALE : 0; /* deleted by somebody, or not there as before */
    else if (!r && !(base && !strcmp(base->etag, now->etag) && base->attr.size == now->size))
        r = -ESTALE;
    oinfo_put(base);
    return r;
}

/* ------------------------------------------------------------------------------------------- uploads */

/*
 * An upload whose Initiate we sent, and whose id we may never have learnt. A change of its key's file, so that no
 * upload of that key begins before it is gone, and no stream either: in the service's list they would look alike.
 */
struct orphan {
    struct change change;
    struct job job;
    struct cache *cache;
    struct stray *stray; /* what is noted of it until it is gone */
    time_t intent;       /* 0: the id is known */
    char id[OSS_UPLOADID_SIZE];
    char key[];
};

/* Until it is gone, an upload that a stream of the file began would be taken for it. */
static void count_stray(struct orphan *o, int n)
{
    if (!o->intent)
        return;
    pthread_mutex_lock(&o->change.cf->mu);
    o->change.cf->strays += n;
    pthread_mutex_unlock(&o->change.cf->mu);
}

static void orphan_run(struct job *job)
{
    struct orphan *o = list_entry(job, struct orphan, job);
    struct cache *cache = o->cache;
    struct oss_upload_list list = {0};
    struct oss_error err = {0};

    if (!o->intent) {
        log_info("aborting the upload %s of %s that was left behind", o->id, o->key);
        stray_abort(o->stray);
    } else if (cache->oss->ops->list_uploads(cache->oss, o->key, NULL, NULL, &list, &err)) {
        cache_log_error("looking for an upload that was left behind", o->key, &err);
        stray_leave(o->stray);
    } else {
        /* Ours only if the key is the same to the letter and it began when we said we would begin one. */
        for (size_t i = 0; i < list.n; i++)
            if (!strcmp(list.entries[i].key, o->key) && list.entries[i].initiated >= o->intent - CLOCK_MARGIN &&
                list.entries[i].initiated <= o->intent + CLOCK_MARGIN)
                upload_abort(cache, o->key, list.entries[i].id);
        stray_end(o->stray);
    }
    oss_upload_list_free(&list);
    count_stray(o, -1);
    cfile_change_done(&o->change);
    free(o);
}

static void orphan_begin(struct change *change)
{
    struct orphan *o = list_entry(change, struct orphan, change);

    pool_submit(o->cache->pool, POOL_META, &o->job);
}

/* Takes over what is noted of it. */
static void abort_noted(struct cache *cache, const char *key, const char *id, time_t intent, struct stray *stray)
{
    struct orphan *o = calloc(1, sizeof(*o) + strlen(key) + 1);
    struct cfile *cf = o ? cfile_obtain(cache, key, NULL) : NULL;

    if (!cf) {
        stray_leave(stray);
        free(o);
        return;
    }
    o->stray = stray;
    strcpy(o->key, key);
    strcpy(o->id, id);
    o->cache = cache;
    o->intent = *id ? 0 : intent;
    o->job.run = orphan_run;
    o->change.begin = orphan_begin;
    o->change.cf = cf;
    count_stray(o, 1);
    cfile_change(cf, &o->change);
    cfile_release(cf);
}

static void abort_later(struct cache *cache, const char *key, const char *id, time_t intent)
{
    struct stray *stray;

    /* The journal goes at once, and the daemon may too. */
    if (stray_begin(cache, key, intent, &stray))
        return;
    if (*id)
        stray_named(stray, id);
    abort_noted(cache, key, id, intent, stray);
}

/* Those that were given up before the last one. */
static void abort_earlier(struct cache *cache, const struct journal_state *s)
{
    for (size_t i = 0; i < s->n_left; i++)
        abort_later(cache, s->left[i].key, s->left[i].id, s->left[i].intent);
}

static void abort_left_behind(struct cache *cache, const struct journal_state *s)
{
    abort_earlier(cache, s);
    if (s->intent || *s->upload_id)
        abort_later(cache, s->key, s->upload_id, s->intent);
}

/* ------------------------------------------------------------------------------------------- one file */

/* The extents as COMMIT named them, over the base and the others that it named. cache->mu and mu held. */
static int rebuild_map(struct cfile *cf, const struct journal_state *s)
{
    int r = extent_map_truncate(cf->map, s->attr.size, cf->epoch);

    for (size_t i = 0; !r && i < s->n_extents; i++) {
        if (s->extents[i][0] >= s->extents[i][1] || s->extents[i][1] > s->attr.size)
            return -EPROTO;
        r = extent_map_write(cf->map, s->extents[i][0], s->extents[i][1], cf->epoch);
    }
    for (size_t i = 0; !r && i < s->n_shares; i++)
        r = s->shares[i].end > s->attr.size ? -EPROTO : share_range(cf, &s->shares[i]);
    return r;
}

/* Takes over the journal: what is appended to it from now on follows the last good record. */
static int adopt(struct cfile *cf, const char *path, const struct journal_state *s)
{
    cf->journal_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (cf->journal_fd < 0 || ftruncate(cf->journal_fd, (off_t)s->good_size))
        return -errno;
    cf->journal_sequence = s->sequence;
    cf->journal_size = s->good_size;
    cf->journal_committed = true;
    cf->journal_synced = s->synced;
    return 0;
}

static int restore(struct cache *cache, const char *number, const char *path, struct journal_state *s)
{
    struct cfile *cf = cfile_obtain(cache, s->key, s->object);
    struct journal_state *resume = malloc(sizeof(*resume));
    bool start = false;
    int r = cf && resume ? 0 : -ENOMEM;

    if (cf && cf->gen != 0)
        r = -EEXIST; /* two journals of one key: the older one keeps its bytes aside */
    if (!r) {
        pthread_mutex_lock(&cache->mu);
        pthread_mutex_lock(&cf->mu);
        if (asprintf(&cf->path, "%s/data/%s", cache->config.state_dir, number) < 0) {
            cf->path = NULL;
            r = -ENOMEM;
        }
        if (!r && s->content && (cf->fd = open(cf->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
            r = -errno;
        cf->has_data = cf->fd >= 0;
        if (!r)
            r = adopt(cf, path, s);
        if (!r && s->content)
            r = append_finish_move(cache, number, s);
        if (!r && s->content)
            r = rebuild_map(cf, s);
        if (!r)
            r = kv_copy(&cf->headers, &s->headers);
        if (!r) {
            cf->attr = s->attr;
            if (S_ISREG(cf->attr.mode))
                cf->attr.size = extent_map_size(cf->map);
            cf->written = s->content;
            cf->times_set = true; /* as COMMIT has them, even if its stream's object has others */
            cf->recovered = cf->unclear = true;
            cfile_changed(cf, s->content ? CFILE_ON_WRITE : CFILE_ON_ATTRIBUTES);
            append_restore(cf, s);
            cf->attr_changed = s->attrs;
            cf->fields_changed = ~0u; /* the journal does not tell which */
            cf->guess = (struct sent_guess){.known = s->final,
                                            .size = s->final_size,
                                            .crc64 = s->final_crc,
                                            .data_gen = cf->data_gen,
                                            .gen = cf->gen,
                                            .epoch = cf->epoch,
                                            .attrs_left = s->streamed};
            *resume = *s;
            memset(s, 0, sizeof(*s));
            cf->resume = resume;
            resume = NULL;
            start = cfile_upload_want(cf);
        } else {
            if (cf->journal_fd >= 0)
                close(cf->journal_fd);
            cf->journal_fd = -1;
            free(cf->path);
            cf->path = NULL;
            cf->orphan = true;
        }
        pthread_mutex_unlock(&cf->mu);
        pthread_mutex_unlock(&cache->mu);
    }
    if (start)
        cfile_upload_start(cf);
    if (cf)
        cfile_release(cf);
    free(resume);
    return r;
}

static void remove_pair(struct cache *cache, const char *number)
{
    char path[4096];

    if (snprintf(path, sizeof(path), "%s/data/%s", cache->config.state_dir, number) < (int)sizeof(path))
        unlink(path);
    if (snprintf(path, sizeof(path), "%s/data/%s%s", cache->config.state_dir, number, SUFFIX) < (int)sizeof(path))
        unlink(path);
}

static bool has_bytes(const struct cache *cache, const char *number)
{
    char path[4096];
    struct stat st;

    return snprintf(path, sizeof(path), "%s/data/%s", cache->config.state_dir, number) < (int)sizeof(path) &&
           !stat(path, &st) && st.st_size > 0;
}

/* What a plan and the service can carry; anything else did not come from us. */
static bool plausible(const struct cache *cache, const struct journal_state *s)
{
    size_t n = strlen(s->key);

    if (s->append && (s->append_from > s->attr.size || s->append_length != s->attr.size - s->append_from))
        return false;
    for (size_t i = 0; i < s->n_hidden; i++)
        if (!hidden_is(cache, s->hidden[i].key) || s->hidden[i].end > cache->config.limits.object_max)
            return false;
    return n > 0 && n <= OSS_KEY_MAX && s->attr.size <= cache->config.limits.object_max;
}

/* The unsent content goes aside, while the journal stays for the attributes that were answered before. */
static void content_aside(struct cache *cache, const char *number, const char *journal, const char *key)
{
    char path[4096];
    int r = has_bytes(cache, number) ? move_aside(cache, number) : 0;

    if (r)
        log_err("%s/data/%s (unsent changes of %s) cannot be moved to aside/: %s", cache->config.state_dir, number,
                key, strerror(-r));
    else if (snprintf(path, sizeof(path), "%s/aside/%s%s", cache->config.state_dir, number, SUFFIX) <
             (int)sizeof(path))
        r = link(journal, path);
    kept_note(cache->config.state_dir, number, "it was not closed when the daemon ended");
    log_warn("unsent changes of %s are kept in %s/aside/%s: it was not closed when the daemon ended", key,
             cache->config.state_dir, number);
}

static bool of_this_boot(const char *path)
{
    struct timespec up, now;
    struct stat st;

    return !stat(path, &st) && !clock_gettime(CLOCK_BOOTTIME, &up) && !clock_gettime(CLOCK_REALTIME, &now) &&
           st.st_mtim.tv_sec > now.tv_sec - up.tv_sec;
}

/* The keys of hidden objects that are still needed. */
struct keys {
    char **v;
    size_t n;
};

static int keep_hidden(struct keys *keys, const struct journal_state *s)
{
    for (size_t i = 0; i < s->n_hidden; i++) {
        char **v = realloc(keys->v, (keys->n + 1) * sizeof(*v));

        if (v)
            keys->v = v;
        if (!v || !(v[keys->n] = strdup(s->hidden[i].key)))
            return -ENOMEM;
        keys->n++;
    }
    return 0;
}

static void recover_one(struct cache *cache, const char *number, struct keys *hidden)
{
    struct journal_state s;
    char path[4096];
    const char *why = NULL;
    int r;

    if (snprintf(path, sizeof(path), "%s/data/%s%s", cache->config.state_dir, number, SUFFIX) >= (int)sizeof(path))
        return;
    r = journal_read(path, &s);
    if (r) {
        /* A daemon that dies while it writes BEGIN has changed nothing yet; a machine that does may have. */
        if (r == -ENODATA && of_this_boot(path))
            remove_pair(cache, number);
        else
            recover_put_aside(cache, number, "an unknown file",
                              "its journal cannot be read, or is of a newer version");
        return;
    }
    if (s.committed && s.more && s.same_boot && plausible(cache, &s))
        s.committed = append_split(cache, number, &s);
    if (!s.committed && s.same_boot && s.attrs && !s.content && plausible(cache, &s)) {
        content_aside(cache, number, path, s.key);
        s.committed = true;
        s.n_extents = 0;
    }
    if (!plausible(cache, &s))
        why = "its journal names what no object can be";
    else if (!s.same_boot && !s.synced)
        why = "the machine was started anew since, and what reached the disk is not certain";
    else if (!s.committed)
        why = "it was not closed when the daemon ended";
    if (why) {
        abort_left_behind(cache, &s);
        if (s.n_hidden > 0 && plausible(cache, &s) && has_bytes(cache, number) && !(r = keep_hidden(hidden, &s)))
            r = rescue(cache, number, &s, why);
        if (r)
            log_err("unsent changes of %s are not whole: %s", s.key, strerror(-r));
        if (!s.key) {
            /* on its way */
        } else if (has_bytes(cache, number))
            recover_put_aside(cache, number, s.key, why);
        else
            remove_pair(cache, number);
    } else if (!s.content && !s.attrs) {
        abort_left_behind(cache, &s);
        remove_pair(cache, number);
    } else {
        log_info("sending what an earlier daemon left unsent of %s", s.key);
        if (s.intent && !*s.upload_id)
            abort_later(cache, s.key, "", s.intent);
        abort_earlier(cache, &s);
        r = restore(cache, number, path, &s);
        if (r) {
            abort_left_behind(cache, &s);
            recover_put_aside(cache, number, s.key ? s.key : "a file", strerror(-r));
        }
    }
    journal_state_free(&s);
}

/* ------------------------------------------------------------------------------------------- all files */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(const char *path, char ***out, size_t *count)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    size_t n = 0;
    char **v = NULL;

    if (!dir)
        return -errno;
    while ((e = readdir(dir))) {
        char **more = *e->d_name == '.' ? NULL : realloc(v, (n + 1) * sizeof(*v));

        if (!more)
            continue;
        v = more;
        v[n] = strdup(e->d_name);
        n += v[n] != NULL;
    }
    closedir(dir);
    if (n)
        qsort(v, n, sizeof(*v), by_name); /* numbers grow with time: the oldest first */
    *out = v;
    *count = n;
    return 0;
}

int cache_recover(struct cache *cache)
{
    char path[4096];
    struct keys hidden = {0};
    char **names = NULL;
    size_t n = 0;
    int r;

    if (snprintf(path, sizeof(path), "%s/data", cache->config.state_dir) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    rename_recover(cache); /* first: it tells the names of files that are unsent */
    strays_recover(cache, abort_noted);
    r = read_names(path, &names, &n);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(names[i]);
        bool journaled = i + 1 < n && !strncmp(names[i + 1], names[i], len) && !strcmp(names[i + 1] + len, SUFFIX);

        if (len > strlen(SUFFIX) && !strcmp(names[i] + len - strlen(SUFFIX), SUFFIX)) {
            names[i][len - strlen(SUFFIX)] = '\0';
            recover_one(cache, names[i], &hidden);
        } else if (!journaled && !keep_claim(cache, names[i])) {
            remove_pair(cache, names[i]); /* a copy that nothing is known of */
        }
    }
    keep_claimed(cache);
    evict_begin(cache);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    if (!r)
        hidden_recover(cache, hidden.v, hidden.n);
    for (size_t i = 0; i < hidden.n; i++)
        free(hidden.v[i]);
    free(hidden.v);
    return r;
}
