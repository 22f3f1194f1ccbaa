/*
 * status.h: what the cache is doing, and what a user may ask of it besides using files: send all, try again, drop.
 * The second half of cache/'s face; the same rules as in cache.h.
 */
#ifndef CACHE_STATUS_H
#define CACHE_STATUS_H

#include "cache.h"

/* One file with something unsent or on its way. */
struct status_file {
    char *key;
    uint64_t size;
    time_t changed;  /* last change here */
    bool open;       /* a program has it open for writing */
    bool attributes; /* only attributes are unsent */

    /* While something is on its way. */
    uint64_t sent, total; /* bytes of this upload; server-side copies included */
    int64_t sending_ms;   /* for so long */

    /* After a failure. */
    struct oss_error err; /* err.err 0: none */
    time_t failed_since;  /* the first of the failures in a row */
    unsigned failures;    /* in a row */
    int64_t next_ms;      /* until it is tried again; -1: not by itself */
};

struct status_list {
    struct status_file *v;
    size_t n;       /* as many as were asked for at most */
    size_t total;   /* how many there are */
    uint64_t bytes; /* sizes of all */
};

struct cache_status {
    struct status_list sending, pending, failed; /* each file is in one of them */
    uint64_t cached_bytes, cache_size;           /* bytes on disk, and their limit */
    uint64_t disk_free, disk_guard;              /* of the file system of the state directory; what is left free */
    size_t files;                                /* with local state: open, unsent, or cached */
    size_t kept_aside;                           /* files in aside/ of the state directory */
    uint64_t hidden_keys;                        /* keys that are no path, and are not shown */
    time_t writes_refused;                       /* the first time that the key might not write, 0: never */
};

/*
 * A snapshot with at most `max` files in each list; in no particular order. Looks at the local disk. 0 or -ENOMEM.
 * Release with cache_status_free(), which is safe on an all-zero struct.
 */
int cache_status(struct cache *cache, size_t max, struct cache_status *out);
void cache_status_free(struct cache_status *status);

/*
 * Sends all that is unsent and not just being written: `one` is told of each file that was not sent, `done` comes
 * once, after all of them, with the number of files that were left out because a program is still writing them.
 */
struct cache_flush {
    void (*one)(void *arg, const char *key, int r);
    void (*done)(void *arg, size_t open);
    void *arg;
};
void cache_flush_all(struct cache *cache, const struct cache_flush *flush);

/* Tries what has failed again, now: the file `key`, or all (NULL). How many. */
size_t cache_retry(struct cache *cache, const char *key);

/*
 * Drops what is unsent of the file `key`; the object in the bucket, if there is one, is what the name means then.
 * -ENOENT when nothing is unsent, -EBUSY while a program has it open.
 */
void cache_discard(struct cache *cache, const char *key, cache_done *done, void *arg);

/* What an archived object answers; `restore` is its x-oss-restore, "" when it has none. */
struct cache_archive {
    char storage_class[24];
    char restore[160];
    bool asked;   /* a restoration was asked for just now */
    bool ongoing; /* it goes on */
    bool ready;   /* it may be read */
    struct oss_error err;
};
typedef void cache_archive_done(void *arg, int r, const struct cache_archive *archive);
/* Looks at the object, and (with `days`) asks for its restoration when it needs one. */
void cache_restore(struct cache *cache, const char *key, unsigned days, const char *tier, cache_archive_done *done,
                   void *arg);

/* Calls run(arg) on a worker: for what may have to wait, and is no request of the cache's own. */
void cache_later(struct cache *cache, void (*run)(void *arg), void *arg);

/* ------------------------------------------------------------------------------------------- kept aside */

/*
 * Files that were kept in a state directory: by a crash or a conflict in aside/, or unsent in data/ after a mount has
 * ended. All of the following look at the directory itself, with or without a daemon.
 */
struct kept {
    char id[32]; /* the number that the file has there */
    char *key;   /* NULL when the journal cannot be read */
    uint64_t size;
    time_t changed;
    bool aside;      /* else: unsent in data/, sent by the next mount */
    bool attributes; /* no content, only attributes */
    bool whole;      /* every byte of the file is here */
    char *why;       /* NULL when not known */
    char *path;      /* of the bytes */
};
struct kept_list {
    struct kept *v;
    size_t n;
};
/* With `unsent` also what is in data/ (while no daemon uses it). 0 or a negative errno. */
int kept_read(const char *state_dir, bool unsent, struct kept_list *out);
void kept_free(struct kept_list *list);

/* Copies the bytes to a new file; 0 or a negative errno (-EEXIST: it is there already). */
int kept_save(const struct kept *kept, const char *to);

/* Removes it for good. */
int kept_discard(const char *state_dir, const struct kept *kept);

/* How many are in aside/. */
size_t kept_count(const char *state_dir);

#endif
