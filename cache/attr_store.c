/*
 * The store on disk: two LMDB databases, a young and an old generation. What is put goes into the young one, and so
 * does what is found in the old one; when the young one has its half of the room, the old one is emptied and they
 * change places. Keys are hashes (LMDB's hold 511 bytes, ours 1023); the record holds the full key, so that two of
 * one hash are only a miss.
 *
 * `attributes.state` says which machine boot the file was last written under, or that it was closed well; it is
 * synced before the first write and after the last.
 */
#include "attr_store.h"

#include "attr_record.h"
#include "journal.h"

#include "../oss/base_list.h"
#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT        "ossmount attributes 1"
#define QUEUE_MAX     20000 /* entries that wait to be written; what comes beyond is not noted */
#define BATCH_MS      100   /* company is waited for so long */
#define MAP_MIN       (16u << 20)
#define READERS       512
#define BY_GENERATION "generation"

struct pending {
    struct list link;
    struct oinfo *info; /* a reference; NULL: there is no object */
    bool renew;         /* found in the old generation */
    char key[];
};

struct attr_store {
    MDB_env *env;
    MDB_dbi dbi[2];
    _Atomic unsigned young; /* which of the two */
    uint64_t generation_max;
    char *state_path, *defaults;

    pthread_mutex_t write_mu; /* taken from the taking of a batch until it is written, and by a forget */
    pthread_mutex_t mu;       /* guards what follows; inside write_mu */
    pthread_cond_t cond, settled;
    struct list queue;
    size_t n_queued;
    bool writing, stop;
    pthread_t writer;
};

/* ------------------------------------------------------------------------------------------ the state file */

static int state_text(const struct attr_store *store, const char *how, char *out, size_t size)
{
    return snprintf(out, size, "%s\n%s\n%s\n", FORMAT, store->defaults, how) < (int)size ? 0 : -ENAMETOOLONG;
}

static int write_synced(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r = fd < 0 ? -errno : pwrite_all(fd, text, strlen(text), 0);

    if (!r && fsync(fd))
        r = -errno;
    if (fd >= 0)
        close(fd);
    return r;
}

/* From now on: `how` the store is to be believed. Durable when this returns 0. */
static int state_write(struct attr_store *store, const char *how)
{
    char text[512], path[4096], *slash;
    int fd, r = state_text(store, how, text, sizeof(text));

    if (!r && snprintf(path, sizeof(path), "%s.new", store->state_path) >= (int)sizeof(path))
        r = -ENAMETOOLONG;
    if (r)
        return r;
    unlink(path);
    r = write_synced(path, text);
    if (!r && rename(path, store->state_path))
        r = -errno;
    slash = strrchr(path, '/');
    if (r || !slash)
        return r;
    *slash = '\0';
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        r = -errno;
    if (fd >= 0)
        close(fd);
    return r;
}

static bool state_is(const struct attr_store *store, const char *text, const char *how)
{
    char expected[512];

    return !state_text(store, how, expected, sizeof(expected)) && !strcmp(text, expected);
}

/* May the file be believed: closed well, or written by nobody but a daemon of this boot, under the same defaults? */
static bool state_good(const struct attr_store *store)
{
    char text[512] = "";
    int fd = open(store->state_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    text[n] = '\0';
    return state_is(store, text, "closed") ||
           (strcmp(journal_boot_id(), "unknown") != 0 && state_is(store, text, journal_boot_id()));
}

/* ----------------------------------------------------------------------------------------------- reading */

static MDB_val hash_of(const char *key, uint64_t *hash)
{
    *hash = crc64(0, key, strlen(key));
    return (MDB_val){.mv_size = sizeof(*hash), .mv_data = hash};
}

/* The record under `key`, in a transaction that the caller ends when *txn is set. */
static bool find(struct attr_store *store, const char *key, MDB_txn **txn, MDB_val *record, bool *old)
{
    unsigned young = store->young;
    uint64_t hash;
    MDB_val name = hash_of(key, &hash);

    *txn = NULL;
    if (mdb_txn_begin(store->env, NULL, MDB_RDONLY, txn))
        return false;
    *old = false;
    if (!mdb_get(*txn, store->dbi[young], &name, record))
        return true;
    *old = true;
    return !mdb_get(*txn, store->dbi[!young], &name, record);
}

static void enqueue(struct attr_store *store, const char *key, struct oinfo *info, bool renew)
{
    size_t n = strlen(key) + 1;
    struct pending *p = malloc(sizeof(*p) + n);

    if (!p)
        return;
    p->info = oinfo_get(info);
    p->renew = renew;
    memcpy(p->key, key, n);
    pthread_mutex_lock(&store->mu);
    if (store->n_queued < QUEUE_MAX) {
        list_add_tail(&store->queue, &p->link);
        if (store->n_queued++ == 0)
            pthread_cond_signal(&store->cond);
        p = NULL;
    }
    pthread_mutex_unlock(&store->mu);
    if (p)
        oinfo_put(p->info);
    free(p);
}

struct oinfo *attr_store_get(struct attr_store *store, const char *key, const char *etag, time_t last_modified,
                             uint64_t size)
{
    struct attr_version version = {.etag = etag, .last_modified = last_modified, .size = size};
    struct oinfo *info = NULL;
    MDB_txn *txn;
    MDB_val record;
    bool old, exact = true;

    if (!store)
        return NULL;
    if (find(store, key, &txn, &record, &old))
        info = attr_record_decode(record.mv_data, record.mv_size, key, &version, &exact);
    if (txn)
        mdb_txn_abort(txn);
    if (info && (old || !exact))
        enqueue(store, key, info, exact);
    return info;
}

bool attr_store_has(struct attr_store *store, const char *key)
{
    bool has = false, old;
    MDB_val record;
    MDB_txn *txn;

    if (!store)
        return false;
    if (find(store, key, &txn, &record, &old))
        has = attr_record_of(record.mv_data, record.mv_size, key);
    if (txn)
        mdb_txn_abort(txn);
    return has;
}

/* ----------------------------------------------------------------------------------------------- writing */

void attr_store_put(struct attr_store *store, const char *key, struct oinfo *info)
{
    if (store && (!info || (!info->young && *info->etag)))
        enqueue(store, key, info, false);
}

static int write_one(struct attr_store *store, MDB_txn *txn, const struct pending *p, struct buf *record)
{
    uint64_t hash;
    MDB_val name = hash_of(p->key, &hash), value;

    buf_reset(record);
    if (attr_record_encode(record, p->key, p->info))
        return 0; /* too large, or no memory: not noted */
    value = (MDB_val){.mv_size = record->len, .mv_data = record->data};
    /* What was only found again must not come over what was put meanwhile. */
    return mdb_put(txn, store->dbi[store->young], &name, &value, p->renew ? MDB_NOOVERWRITE : 0);
}

static uint64_t generation_bytes(struct attr_store *store, MDB_txn *txn, unsigned which)
{
    MDB_stat st;

    if (mdb_stat(txn, store->dbi[which], &st))
        return 0;
    return (uint64_t)st.ms_psize * (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages);
}

/* The old generation goes, the young one becomes the old. */
static int turn_over(struct attr_store *store, MDB_txn *txn)
{
    unsigned next = !store->young;
    char text = (char)('0' + next);
    MDB_val name = {.mv_size = strlen(BY_GENERATION), .mv_data = BY_GENERATION};
    MDB_val value = {.mv_size = 1, .mv_data = &text};
    MDB_dbi main_dbi;
    int r = mdb_dbi_open(txn, NULL, 0, &main_dbi);

    if (!r)
        r = mdb_drop(txn, store->dbi[next], 0);
    return r ? r : mdb_put(txn, main_dbi, &name, &value, 0);
}

/* write_mu held. MDB_MAP_FULL and the like lose the batch, nothing else. */
static void write_batch(struct attr_store *store, struct list *batch)
{
    struct buf record = BUF_INIT(ATTR_RECORD_MAX);
    bool over = false;
    MDB_txn *txn = NULL;
    int r = mdb_txn_begin(store->env, NULL, 0, &txn);

    list_for_each (it, batch) {
        if (!r)
            r = write_one(store, txn, list_entry(it, struct pending, link), &record);
        if (r == MDB_KEYEXIST)
            r = 0;
    }
    if (!r) {
        over = generation_bytes(store, txn, store->young) > store->generation_max;
        r = mdb_txn_commit(txn);
    } else if (txn) {
        mdb_txn_abort(txn);
    }
    if (over || r == MDB_MAP_FULL) {
        txn = NULL;
        r = mdb_txn_begin(store->env, NULL, 0, &txn);
        if (!r && (r = turn_over(store, txn)))
            mdb_txn_abort(txn);
        else if (!r && !(r = mdb_txn_commit(txn)))
            store->young = !store->young;
    }
    if (r)
        log_debug("attribute store: %s", mdb_strerror(r));
    buf_free(&record);
}

static void free_batch(struct list *batch)
{
    list_for_each_safe (it, batch) {
        struct pending *p = list_entry(it, struct pending, link);

        oinfo_put(p->info);
        free(p);
    }
    list_init(batch);
}

/* Takes all that is queued. mu held. */
static void take_queue(struct attr_store *store, struct list *batch)
{
    list_init(batch);
    list_splice_tail(batch, &store->queue);
    store->n_queued = 0;
}

static void *write_queue(void *arg)
{
    struct attr_store *store = arg;
    struct list batch;
    bool stop;

    pthread_mutex_lock(&store->mu);
    for (;;) {
        while (!store->stop && store->n_queued == 0)
            pthread_cond_wait(&store->cond, &store->mu);
        if (store->n_queued == 0)
            break;
        store->writing = true;
        stop = store->stop;
        pthread_mutex_unlock(&store->mu);
        if (!stop)
            usleep(BATCH_MS * 1000);
        pthread_mutex_lock(&store->write_mu);
        pthread_mutex_lock(&store->mu);
        take_queue(store, &batch);
        pthread_mutex_unlock(&store->mu);
        write_batch(store, &batch);
        pthread_mutex_unlock(&store->write_mu);
        free_batch(&batch);
        pthread_mutex_lock(&store->mu);
        store->writing = false;
        pthread_cond_broadcast(&store->settled);
    }
    pthread_mutex_unlock(&store->mu);
    return NULL;
}

void attr_store_settle(struct attr_store *store)
{
    if (!store)
        return;
    pthread_mutex_lock(&store->mu);
    while (store->n_queued || store->writing)
        pthread_cond_wait(&store->settled, &store->mu);
    pthread_mutex_unlock(&store->mu);
}

void attr_store_forget(struct attr_store *store, const char *key)
{
    uint64_t hash;
    MDB_val name = hash_of(key, &hash), record;
    MDB_txn *txn = NULL;
    bool old, queued = false;

    if (!store)
        return;
    pthread_mutex_lock(&store->write_mu);
    pthread_mutex_lock(&store->mu);
    list_for_each_safe (it, &store->queue) {
        struct pending *p = list_entry(it, struct pending, link);

        if (strcmp(p->key, key))
            continue;
        list_del(it);
        store->n_queued--;
        oinfo_put(p->info);
        free(p);
        queued = true;
    }
    if (queued)
        pthread_cond_broadcast(&store->settled);
    pthread_mutex_unlock(&store->mu);
    if (find(store, key, &txn, &record, &old)) {
        mdb_txn_abort(txn);
        txn = NULL;
        if (!mdb_txn_begin(store->env, NULL, 0, &txn)) {
            mdb_del(txn, store->dbi[0], &name, NULL);
            mdb_del(txn, store->dbi[1], &name, NULL);
            if (mdb_txn_commit(txn))
                log_warn("attribute store: %s could not be forgotten", key);
            txn = NULL;
        }
    }
    if (txn)
        mdb_txn_abort(txn);
    pthread_mutex_unlock(&store->write_mu);
}

/* ------------------------------------------------------------------------------------------ open and close */

static void store_free(struct attr_store *store)
{
    if (store->env)
        mdb_env_close(store->env);
    pthread_mutex_destroy(&store->write_mu);
    pthread_mutex_destroy(&store->mu);
    pthread_cond_destroy(&store->cond);
    pthread_cond_destroy(&store->settled);
    free(store->state_path);
    free(store->defaults);
    free(store);
}

/* The two databases, and which of them is the young one. */
static int open_generations(struct attr_store *store)
{
    MDB_val name = {.mv_size = strlen(BY_GENERATION), .mv_data = BY_GENERATION}, value;
    MDB_dbi main_dbi;
    MDB_txn *txn = NULL;
    int r = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (!r)
        r = mdb_dbi_open(txn, NULL, 0, &main_dbi);
    if (!r)
        r = mdb_dbi_open(txn, "0", MDB_CREATE, &store->dbi[0]);
    if (!r)
        r = mdb_dbi_open(txn, "1", MDB_CREATE, &store->dbi[1]);
    if (!r && !mdb_get(txn, main_dbi, &name, &value) && value.mv_size == 1)
        store->young = *(const char *)value.mv_data == '1';
    if (r) {
        if (txn)
            mdb_txn_abort(txn);
        return r;
    }
    return mdb_txn_commit(txn);
}

static int open_env(struct attr_store *store, const char *path, uint64_t max_bytes)
{
    size_t map = max_bytes * 2 > MAP_MIN ? (size_t)max_bytes * 2 : MAP_MIN;
    MDB_envinfo info;
    MDB_stat st;
    struct stat file;
    int r = mdb_env_create(&store->env);

    if (!r)
        r = mdb_env_set_mapsize(store->env, map);
    if (!r)
        r = mdb_env_set_maxdbs(store->env, 2);
    if (!r)
        r = mdb_env_set_maxreaders(store->env, READERS);
    if (!r)
        r = mdb_env_open(store->env, path, MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    /* Cut off by somebody: reading beyond its end would be a signal, not an error. */
    if (!r && !mdb_env_info(store->env, &info) && !mdb_env_stat(store->env, &st) &&
        (stat(path, &file) || (uint64_t)file.st_size < (uint64_t)(info.me_last_pgno + 1) * st.ms_psize))
        r = MDB_CORRUPTED;
    return r ? r : open_generations(store);
}

static void remove_files(const char *path)
{
    char lock[4096];

    unlink(path);
    if (snprintf(lock, sizeof(lock), "%s-lock", path) < (int)sizeof(lock))
        unlink(lock);
}

/* The file as it is when it may be believed; else, and when it cannot be opened, a new one. */
static int open_files(struct attr_store *store, const char *path, uint64_t max_bytes)
{
    struct stat st;
    int r;

    if (!state_good(store) || (!lstat(path, &st) && !S_ISREG(st.st_mode)))
        remove_files(path);
    r = state_write(store, journal_boot_id());
    if (r)
        return r;
    r = open_env(store, path, max_bytes);
    if (!r)
        return 0;
    mdb_env_close(store->env);
    store->env = NULL;
    remove_files(path);
    return open_env(store, path, max_bytes);
}

struct attr_store *attr_store_open(const char *dir, const struct attr_defaults *defaults, uint64_t max_bytes)
{
    struct attr_store *store = calloc(1, sizeof(*store));
    char path[4096];
    int r = -ENAMETOOLONG;

    if (!store)
        return NULL;
    pthread_mutex_init(&store->write_mu, NULL);
    pthread_mutex_init(&store->mu, NULL);
    pthread_cond_init(&store->cond, NULL);
    pthread_cond_init(&store->settled, NULL);
    list_init(&store->queue);
    store->generation_max = max_bytes / 2;
    if (snprintf(path, sizeof(path), "%s/attributes", dir) < (int)sizeof(path))
        r = 0;
    if (!r && (asprintf(&store->state_path, "%s.state", path) < 0 ||
               asprintf(&store->defaults, "defaults %u %u %o %o", defaults->uid, defaults->gid, defaults->file_mode,
                        defaults->dir_mode) < 0))
        r = -ENOMEM;
    if (!r)
        r = open_files(store, path, max_bytes);
    if (!r)
        r = pthread_create(&store->writer, NULL, write_queue, store);
    if (r) {
        log_warn("attributes are not kept across mounts: %s: %s", path, mdb_strerror(r < 0 && r > -4096 ? -r : r));
        store_free(store);
        return NULL;
    }
    return store;
}

void attr_store_close(struct attr_store *store)
{
    if (!store)
        return;
    pthread_mutex_lock(&store->mu);
    store->stop = true;
    pthread_cond_signal(&store->cond);
    pthread_mutex_unlock(&store->mu);
    pthread_join(store->writer, NULL);
    if (!mdb_env_sync(store->env, 1))
        state_write(store, "closed");
    store_free(store);
}
