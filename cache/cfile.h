/*
 * cfile.h: one file's local state, inside cache/ only.
 *
 * A cfile exists while a file is open, has something unsent, or a change of its object is on its way; and, idle
 * and clean, as long as the cache keeps its data (evict.c). It is found by its key; after an unlink, or when
 * another file was renamed over it, it is an orphan: found by nobody, alive until its last handle is closed, never
 * sent.
 *
 * Its states, what each event makes of them, and what must hold in each: cfile_state.h. A change (write, truncate,
 * attributes) moves CLEAN and ERROR to DIRTY and UPLOADING to REDIRTIED; flush starts or queues an upload and waits
 * for the generation that it saw.
 *
 * Changes of the object (uploads, delete, rename) run one at a time, in order: each is a `struct change` in the
 * queue `changes`, and the one at its head is running.
 *
 * Locks. cache->mu (the table, references) before cf->mu (the state). cf->io (the data file's content) before
 * cf->mu. No lock is held over the network; io is held over the local data file only.
 */
#ifndef CACHE_CFILE_H
#define CACHE_CFILE_H

#include "attr_store.h"
#include "cache.h"
#include "cfile_state.h"
#include "sums.h"

#include "../oss/base_list.h"
#include "../oss/base_pool.h"

#include <pthread.h>

/* A change of the object under way or queued; embedded in what it belongs to. */
struct change {
    struct list link;
    struct cfile *cf; /* set by cfile_change() */
    bool moves_name;  /* the key may mean another file, or none, when it is done */
    /* Begins the change; no lock is held. Must lead to one cfile_change_done(), from whatever thread. */
    void (*begin)(struct change *change);
};

struct waiter {
    struct list link;
    uint64_t gen;
    cache_done *done;
    void *arg;
};

/* An object whose bytes the extent map refers to. */
struct base {
    int id;
    char *key;
    struct oinfo *info;
    bool foreign; /* the object of another file, share.c */
    bool saved;   /* the object's copy, save.c */
    bool no_copy; /* its bytes are to be fetched: it is about to go, or the service does not copy it */
};

/* How far what is on its way has come; since_ms 0: nothing is. */
struct progress {
    atomic_uint_least64_t sent;
    uint64_t total;
    int64_t since_ms;
};

/* Why a file is unsent. */
struct failure {
    struct oss_error err;
    time_t since;    /* of the first in a row */
    int64_t next_ms; /* clock_ms() of the next try, 0: none is set */
};

/*
 * An append that the bucket may have carried out although nobody said so: before these bytes are sent again, the
 * object is asked whether it has them (append.c).
 */
struct append_doubt {
    bool open;
    uint64_t position;     /* where it would have put them */
    uint64_t from, length; /* of them in the file */
    uint64_t crc64;
    uint64_t gen, data_gen; /* what was sent with them, as in the cfile */
};

struct cfile {
    struct cache *cache;

    /* Guarded by cache->mu. */
    struct list hash_link;
    struct list lru; /* in cache->idle while nobody holds a reference */
    unsigned refs;
    bool in_table;
    struct list share_link; /* in cache->sharers */
    uint64_t cached_bytes;  /* what it counts for in cache->cached_bytes */

    /*
     * Guarded by io: the content of the data file. Readers of ranges share it with writers, and with fills, but these
     * two exclude each other: cfile_io_begin(). Who waits for it alone is not passed by those that share it, so
     * nobody may take it twice.
     */
    pthread_rwlock_t io;

    pthread_mutex_t mu;     /* guards all below */
    unsigned io_shared[2];  /* by enum cfile_io: who shares io now */
    char *key;              /* changes only under cache->mu and mu both */
    int fd;                 /* data file, -1 while nobody needs it */
    char *path;             /* of the data file, NULL until it has a name */
    bool has_data;          /* the data file exists */
    enum cfile_state state; /* set by cfile_event() alone */
    bool orphan;
    bool absent; /* there is no object under `key`, and none was ever sent */
    unsigned opens, writers;

    uint64_t gen;        /* counts changes */
    uint64_t sent_gen;   /* the bucket holds the file as of this generation */
    uint64_t upload_gen; /* of the running upload, 0: none */
    uint64_t data_gen;   /* the last change of the content */
    uint64_t data_sent_gen;
    uint64_t cut; /* the smallest size that it was truncated to since the running upload began */
    bool upload_queued;
    int error;
    unsigned failures;        /* in a row */
    struct failure *failure;  /* NULL: none, or no memory for it */
    struct progress progress; /* .sent is counted by whoever sends, without mu */
    bool retry_set;           /* retry is submitted */
    struct job retry;
    bool timer_set;      /* timer is submitted: pending attributes go out when it runs */
    struct job timer;    /* holds a reference */
    bool later_set;      /* later is submitted, background.c */
    struct job later;    /* holds a reference */
    bool overdue;        /* it was to be sent while it was being written again */
    uint64_t synced_gen; /* durable on the local disk as of this generation */

    int journal_fd; /* -1: nothing is journaled */
    uint32_t journal_sequence;
    uint64_t journal_size;
    bool journal_synced;    /* and is durable: SYNCED was written since */
    bool journal_committed; /* the last word on the content there is COMMIT */
    bool journal_over;      /* nothing is unsent, but streams of the file are: it goes with the last of these */
    /* The object may be another than `object`: from an earlier daemon's journal, or a reply was lost for good. */
    bool recovered, unclear;
    bool base_tagged;             /* of a recovered file: the object that is there has tags, which no journal knows */
    struct journal_state *resume; /* its multipart upload, or NULL */
    struct sent_guess {           /* while `unclear`: what the bucket holds if it did what it did not answer */
        bool known;
        uint64_t size, crc64, data_gen, gen;
        uint32_t epoch;
        bool attrs_left; /* without the attributes */
    } guess;

    struct attr attr;
    struct kvlist headers; /* as they shall be, xattrs included */
    bool attr_changed;     /* differs from the object's, in `fields_changed` */
    unsigned fields_changed;
    bool times_set; /* mtime was set by a program after the last write */

    struct kept *kept; /* the record that is true of the data file, or NULL (keep.h) */
    struct sums sums;  /* checksums of what the file contains, where the data file has it */
    bool sums_left;    /* also of ranges that the map calls remote */
    bool keep_set;     /* keep_job is submitted */
    struct job keep_job;

    struct extent_map *map;
    uint64_t unaccounted; /* bytes written since evict_account() */
    uint32_t epoch;
    uint64_t frontier;     /* all before it was written in order, since it was made or emptied */
    struct stream *stream; /* sends the file while it is written, or NULL (stream.h) */
    bool stream_refused;   /* has failed: not again until it is emptied */
    unsigned sending;      /* requests of its streams under way */
    unsigned streams;      /* of the file itself that have not ended, dropped ones too */
    unsigned strays;       /* uploads of its key, of an unknown id, that recovery is about to abort: no stream yet */
    /* Segments (stream.h): what was written last without a gap, and from where on no segment has it. */
    uint64_t run_start, run_end, segment_next;
    struct stream *segment;   /* the one that takes in parts */
    unsigned segments;        /* that are alive */
    bool segments_refused;    /* one has failed: no more until it is sent */
    bool squeezed;            /* the cache is full: whatever may leave it, leaves it */
    bool rescued;             /* kept aside: its hidden objects are removed when they were fetched (rescue.c) */
    struct change *unsettled; /* the upload that waits for the segments to end */
    uint64_t flushed;         /* bytes sent by flushes since open */
    bool written;             /* bytes were written since it was made or emptied */
    bool served;              /* bytes of the base were returned to a reader */

    /* Appending (append.c). */
    uint64_t plain_gen;    /* the last change of the content that was no append */
    bool append_refused;   /* the service appends no more to this object: it is sent whole */
    int64_t append_until;  /* clock_ms(): till then the last append may be a piece of a longer write */
    pid_t append_by;       /* whose */
    bool append_timer_set; /* append_timer is submitted: what was appended goes out when it runs */
    struct job append_timer;
    struct append_doubt doubt;

    struct base *bases;
    size_t n_bases;
    int next_base;
    struct oinfo *object; /* the object under `key` now; NULL: none */

    struct list changes;           /* of struct change; the head is running */
    struct list waiters;           /* of struct waiter */
    struct list ended_waiters;     /* the same, for the end of the running upload, however it ends */
    bool replacing;                /* a request that replaces or deletes the object is under way (replace.c) */
    struct list replace_waiters;   /* the same, for the end of that */
    struct list fetches;           /* of struct fetch, fetch.c */
    unsigned wanted_whole;         /* fetch_all(), or a read in pieces, is at work: nothing may be dropped */
    uint64_t read_from, read_next; /* what was fetched ahead of a sequential reader */
    uint64_t read_window;
    unsigned fetching; /* from the network, of fetches that are not small */
};

/*
 * A directory on its way to another name (rename_dir.c), in cache->moving. While it is shut, every cfile that is made
 * below `from` is held until it has arrived. All guarded by cache->mu.
 */
struct moving {
    struct list link;
    const char *from, *to; /* keys with trailing '/' */
    bool shut;
    struct list late;    /* of struct late: what was made meanwhile */
    struct list waiting; /* other renames that cross it */
};

struct cache {
    struct oss *oss;
    struct cache_config config; /* strings owned */
    struct pool *pool;          /* questions, downloads, changes of names, timers */
    struct pool *uploads;       /* so that what hangs there keeps nobody from looking */
    struct meta *meta;
    struct attr_store *attrs; /* or NULL: none to be had */
    struct names *names;      /* names.c */
    struct keep *keep;        /* or NULL: nothing is kept across mounts */

    pthread_mutex_t mu;
    pthread_cond_t idle_cond;
    struct list *table; /* cfiles by key */
    size_t table_size, n_cfiles;
    struct list idle;    /* least recently used first */
    struct list sharers; /* share.c */
    struct list syncs;   /* background.c: what is to be made durable */
    bool syncing;        /* sync is submitted */
    struct job sync;
    size_t n_idle;
    struct list moving;               /* of struct moving */
    uint64_t cached_bytes;            /* in data files of idle and open files */
    uint64_t fetching;                /* on their way from the bucket; may be in cached_bytes already */
    uint64_t writing;                 /* let in, and being written just now; may be in cached_bytes already */
    uint64_t written;                 /* how many such writes have ended */
    atomic_uint_least64_t read_piece; /* ahead.c: bytes worth one request, 0 while nothing is known */
    uint64_t next_file;
    uint64_t busy; /* changes, fetches and name questions under way */
    bool draining;
    struct list room_waiters;    /* writes and fetches that wait for room, space.c */
    atomic_uint freeing;         /* what is under way that will free some; less only under mu */
    atomic_uint paused;          /* of those, what waits itself for others */
    atomic_bool copies_refused;  /* of appendable objects, by_hand.c */
    uint64_t space_check;        /* bytes written since the free space was last looked at */
    atomic_llong writes_refused; /* when the key was first refused a write, seconds since 1970; 0: never */
};

/* ------------------------------------------------------------------------------------- cfile.c, internal */

/*
 * The cfile of `key` for a change of the object, made when there is none. Referenced. `info` NULL with a new one: a
 * file that does not exist in the bucket, and has nothing unsent either.
 */
struct cfile *cfile_obtain(struct cache *cache, const char *key, struct oinfo *info);

/* What a file with something unsent is here, NULL when there is none such; a reference. */
struct oinfo *cfile_unsent_info(struct cache *cache, const char *key);

/* Its attributes and headers as an oinfo; NULL when out of memory. mu not held. */
struct oinfo *cfile_info(struct cfile *cf);

/* One more reference, cache->mu held. */
void cfile_ref_locked(struct cfile *cf);

/* rename_dir.c: holds a cfile that has just been made, if it is below a directory that is shut. cache->mu held. */
void moving_hold(struct cache *cache, struct cfile *cf);
/* Is the key below a directory that is shut? */
bool moving_covers(struct cache *cache, const char *key);

/* cfile_release() of one that was just recorded (keep.h), or cannot be. */
void cfile_release_as_is(struct cfile *cf);

/* Queues a change; begins it at once when none is running. Holds a reference until it is done. */
void cfile_change(struct cfile *cf, struct change *change);
void cfile_change_done(struct change *change);

/* Names, and opens, the data file when it is not yet. mu held. 0 or a negative errno. */
int cfile_need_path(struct cfile *cf);
int cfile_need_fd(struct cfile *cf);

/*
 * Attributes alone wait for company: what else goes with them takes them along, else they are sent within a second.
 * mu held; true when cfile_timer_start() must follow without it.
 */
bool cfile_timer_want(struct cfile *cf);
void cfile_timer_start(struct cfile *cf);

/* Marks a change, ON_WRITE, ON_TRUNCATE or ON_ATTRIBUTES; mu held. */
void cfile_changed(struct cfile *cf, enum cfile_event event);

/*
 * The file gets the name `key`, which no other cfile in the table has but `other` (or NULL): that one is an orphan
 * from the same moment on, as by cfile_orphan().
 */
void cfile_rekey(struct cfile *cf, const char *key, struct cfile *other);

/* Calls each of a list of struct waiter with `r`, and frees it. No lock held. */
void waiters_serve(struct list *waiters, int r);

/* The file is no more under its name: out of the table, its unsent changes are dropped, waiters get 0. */
void cfile_orphan(struct cfile *cf);

/* What `info` says of attributes and headers is taken over, but for the size and what was changed here. mu held. */
int cfile_take_info(struct cfile *cf, const struct oinfo *info);

/* Starts over from `info`, the object as it is now: nothing local, nothing unsent but attributes. mu held. */
int cfile_rebase(struct cfile *cf, struct oinfo *info);

/*
 * The object under the file's key is now `info`, a copy of the one before that carries the attributes of generation
 * `gen` (0: those of the object): the bases that named the old one follow. mu held.
 */
void cfile_moved(struct cfile *cf, struct oinfo *info, uint64_t gen);

/*
 * `info` is the same bytes with other attributes: they are taken, but for those that were changed here and are not
 * sent. mu held. false when the size differs, or out of memory.
 */
bool cfile_take_attributes(struct cfile *cf, struct oinfo *info);

/*
 * The object has the headers of `info` now: the file's are these, unless they were changed here meanwhile
 * (`changed`): then only those that describe the object, and are no user attributes. mu held.
 */
void cfile_take_headers(struct cfile *cf, const struct oinfo *info, bool changed);

/* The bases that are the object under the file's key are now read from its copy `info` under `key`. mu held. */
void cfile_repoint(struct cfile *cf, const char *key, struct oinfo *info);

/* The cfile of `key` if there is one, referenced. */
struct cfile *cfile_find(struct cache *cache, const char *key);

/* All referenced cfiles whose key begins with `prefix`; *out is malloc'ed. Returns how many, or -ENOMEM. */
ssize_t cfile_collect(struct cache *cache, const char *prefix, struct cfile ***out);
/* The same of all but those that are idle, whose order of use stays as it is. */
ssize_t cfile_collect_used(struct cache *cache, struct cfile ***out);

/* All n bytes at `offset` of the descriptor. 0 or a negative errno. */
int pwrite_all(int fd, const char *from, size_t n, uint64_t offset);

/*
 * io for who writes ranges of the data file: what a program writes, or fills, bytes of the object that the map calls
 * remote. Shared with readers and with others of the kind; alone while the other kind is there. mu not held.
 */
enum cfile_io { CFILE_WRITES, CFILE_FILLS };
void cfile_io_begin(struct cfile *cf, enum cfile_io kind);
void cfile_io_end(struct cfile *cf, enum cfile_io kind);

/* Bytes [offset, +n) of the data file, zeros where it has none. Holds io. 0 or a negative errno. */
int cfile_pread(struct cfile *cf, void *to, size_t n, uint64_t offset);
int cfile_pread_locked(struct cfile *cf, void *to, size_t n, uint64_t offset); /* io is held by the caller */
const struct base *cfile_base(const struct cfile *cf, int id);                 /* mu held; NULL when unknown */
int cfile_add_base(struct cfile *cf, const char *key, struct oinfo *info);     /* mu held; the id or -ENOMEM */
void cfile_prune_bases(struct cfile *cf);                                      /* mu held */

/*
 * Tells the name cache what the object is now. mu held: the names must know before the state says CLEAN, for from
 * then on they are asked.
 */
void cfile_publish(struct cfile *cf);

/* Is this base the object that stands under the file's key now? mu held. */
bool cfile_is_object(const struct cfile *cf, const struct base *base);

/* --------------------------------------------------------------------------------------- background.c */

/* Does a close of the file answer before the bucket has it? mu held. */
bool background_wanted(const struct cfile *cf);
/* Is it closed, of a temporary name, and waiting for its rename? mu held. */
bool background_deferred(const struct cfile *cf);
/* cf->later and cache->sync. */
void background_run(struct job *job);
void background_sync_run(struct job *job);

/* -------------------------------------------------------------------------------------------- share.c */

/* [start, end) of a file stands in the object `info` of `key`, at base_offset. */
struct share {
    uint64_t start, end, base_offset;
    const char *key;
    struct oinfo *info;
};

/* Such a range becomes part of the file, as a write does. No lock held. 0 or a negative errno. */
int cfile_share(struct cfile *cf, const struct share *share);
/* Only in the map, which must reach up to its start. cache->mu and mu held. */
int share_range(struct cfile *cf, const struct share *share);

/*
 * The object of `owner`, whose change this is, is about to be deleted or overwritten: afterwards no other file needs
 * it. done may be called within the call.
 */
void share_save(struct cfile *owner, cache_done *done, void *arg);

/* The object `from` with this ETag is a copy under `to` now (or has another ETag), and may go. No lock held. */
void share_repoint(struct cache *cache, const char *from, const char *etag, const char *to, const char *new_etag);
/* Before share_repoint(), within a change of `owner`: copies from it that have begun are known then. */
void share_fence(struct cfile *owner);

/* ------------------------------------------------------------------------------------------ replace.c */

/*
 * Within a change of `cf`: its object is replaced or deleted from now on, by a request that waits for nothing but the
 * service; and that is over, whether it was or not: what stands in it, here and in other files, says what is there
 * now. mu not held; the end calls those who wait.
 */
void replace_begin(struct cfile *cf);
void replace_end(struct cfile *cf);
/*
 * The object `key`, in which `cf` stands in part, was found gone or another. true: it is being replaced here just
 * now, and `done` is called when that is over, maybe at once: then it is to be looked at again. No lock held.
 */
bool replace_await(struct cfile *cf, const char *key, cache_done *done, void *arg);
/* The same question alone. */
bool replace_under_way(struct cfile *cf, const char *key);

/* ------------------------------------------------------------------------------------------- upload.c */

/* mu held: an upload is needed; queues it if none is queued. Returns true when cfile_upload_start() must follow. */
bool cfile_upload_want(struct cfile *cf);
/* After cfile_upload_want() said so, mu not held. */
void cfile_upload_start(struct cfile *cf);

/*
 * Copies the object of `cf` to the key `to` (rename): through the same executor, single copy or parts. With the
 * file's pending attributes folded in. `replaced` (or NULL) is the object that is there: an ACL of its own stays,
 * unless the file has one. done gets the new object's info (borrowed) or an error.
 */
typedef void copy_done(void *arg, int r, struct oinfo *info);
void upload_copy(struct cfile *cf, const char *to, struct oinfo *replaced, copy_done *done, void *arg);

/* The path below the mount of a key: what the rules for headers are about. */
const char *cache_path_of(const struct cache *cache, const char *key);

/* The ACL that a copy or an overwrite of `key` must send again, "" for none. On a worker. Logs a refusal. */
int object_acl(struct cache *cache, const char *key, char acl[24], struct oss_error *err);

/* ------------------------------------------------------------------------------------------- status.c */

/* An upload of `total` bytes begins, or begins again; mu held. */
void progress_begin(struct cfile *cf, uint64_t total);
/* Bytes that the service moved for us. */
void progress_add(struct cfile *cf, uint64_t n);
void progress_end(struct cfile *cf); /* mu held */

/* The upload failed with r, caused by `err`; or the file is sent after all. mu held. */
void failure_note(struct cfile *cf, const struct oss_error *err, int r);
void failure_clear(struct cfile *cf);

/* A write was refused: if it is the key that may not write, the status says since when. */
void note_refused(struct cache *cache, const struct oss_error *err);

/* aside.c: why a file was kept, for whoever lists it. */
void kept_note(const char *state_dir, const char *id, const char *why);

/* refresh.c: was `before` changed to `now` (we have just done so) too soon to be told from it? */
bool refresh_needed(const struct oinfo *before, const struct oinfo *now);
/* Writes the object once more in a few seconds, if it is still `info` then. */
void refresh_later(struct cfile *cf, struct oinfo *info);

/* -------------------------------------------------------------------------------------------- fetch.c */

/*
 * Brings the beginning of [start, end) into the data file, and more as read-ahead sees fit: 0 when the map should be
 * looked at again.
 */
void fetch_range(struct cfile *cf, uint64_t start, uint64_t end, cache_done *done, void *arg);

/* [start, end) is being read and is there: keeps a sequential reader supplied. */
void fetch_ahead(struct cfile *cf, uint64_t start, uint64_t end);

/* Brings all of [start, end) into the data file. */
void fetch_all(struct cfile *cf, uint64_t start, uint64_t end, cache_done *done, void *arg);

/* -------------------------------------------------------------------------------------------- evict.c */

/* The data file of cf grew or shrank, or it became idle: keeps the bounds. No lock held. */
void evict_account(struct cfile *cf);
/* Drops idle clean files until the cache holds no more than its size, or `bytes`. */
void evict_shrink(struct cache *cache);
void evict_shrink_to(struct cache *cache, uint64_t bytes);
/* The bounds as they are at the mount, for what an earlier one has left. */
void evict_begin(struct cache *cache);
/* May `n` more bytes come for a while? 0 or -ENOSPC. */
int evict_reserve(struct cache *cache, uint64_t n);
/*
 * May `n` bytes be fetched that are to be kept for the user? They leave the cache with their file, and what waits in
 * the cache to be sent must not keep them out: where it is full the disk's free space alone decides. 0 or -ENOSPC.
 */
int evict_for_rescue(struct cache *cache, uint64_t n);
/*
 * May `n` more bytes be fetched into cf? Clean data of open files may go for it. 0: they are counted, until
 * evict_fetched(); -ENOSPC. No lock held.
 */
int evict_for_fetch(struct cfile *cf, uint64_t n);
/*
 * There is nothing left to wait for, and a read does not fail for what was written: the disk's free space alone is
 * looked at. *beyond: there is no room, so that they must not stay longer than they are needed.
 */
int evict_for_fetch_anyway(struct cfile *cf, uint64_t n, bool *beyond);
/* They have come, are accounted for, and their readers have seen them; or they will not come. */
void evict_fetched(struct cfile *cf, uint64_t n, bool beyond);
/*
 * May they be written to cf? Clean data of open files may go for it. 0: they are counted, until evict_written();
 * -ENOSPC. No lock held.
 */
int evict_for_write(struct cfile *cf, uint64_t n);
/* The same, for somebody who will ask once more: nothing is counted. */
int evict_could_write(struct cfile *cf, uint64_t n);
/* They were written, or could not be. Those not `accounted` for are taken to be more of cf until they are. */
void evict_written(struct cfile *cf, uint64_t n, bool accounted);

/* -------------------------------------------------------------------------------------------- space.c */

/*
 * Something has begun (any lock may be held), or is over (none), that makes data clean: room for those who wait for
 * it.
 */
void space_begin(struct cache *cache);
void space_end(struct cache *cache);
/*
 * One of those that have begun waits (by 1), for a change before it or for what is fetched into another file, or goes
 * on (-1). A fetch that a change needs does not wait for it; one that does already is to be woken. Any lock may be
 * held.
 */
void space_pause(struct cache *cache, int by);
/*
 * cfile_await_room() for a fetch, whose bytes are counted (evict_for_fetch()) when `done` is told 0: does not wait
 * while an upload of the file is under way, which may need the bytes.
 */
bool space_await_fetch(struct cfile *cf, uint64_t n, cache_done *done, void *arg);
/* Room was made, or an upload with fetches begins. No lock held. */
void space_wake(struct cache *cache);

/* ---------------------------------------------------------------------------------------- names.c, changes.c */

/*
 * recall.c: fills known->info of an entry that a listing has shown without its attributes, as far as it can be had
 * without a request.
 */
void recall(struct cache *cache, const char *dir, const char *name, struct meta_result *known);
/* Would the listing of this directory tell its attributes, instead of a HEAD of its marker? Then `key` is its key. */
bool recall_by_listing(struct cache *cache, const char *dir, const char *name, char key[OSS_KEY_MAX + 8]);
/* The bucket has told what `key` carries, or we have written it. info NULL: a directory without a marker. */
void recall_note(struct cache *cache, const char *key, struct oinfo *info);
/* The same from the name cache (meta_exact). */
void recall_note_exact(void *arg, const char *dir, const char *name, struct oinfo *info);

struct names *names_new(struct cache *cache);
void names_free(struct names *names);

/* Directory key and name of a key: "a/b/c" -> "a/b/", "c"; "a/b/" -> "a/", "b". Both malloc'ed in one block, *dir. */
int key_split(const char *key, char **dir, const char **name);

/* The end: every cfile goes; the data of what is unsent stays on disk, and is named in the log. */
void cfile_free_all(struct cache *cache);

/*
 * Does a page of a listing go on behind the one before, whose highest name is *last (NULL at first; the caller frees
 * it)? 0; -EIO for a listing that stands still and would never end; -ENOMEM.
 */
int list_advances(const struct oss_list *page, char **last);

/*
 * save.c: before the object that open handles may still read goes, within the change that takes it away: fetches or
 * copies what is not local of it. Who opens it from then on is told so (cfile_too_late()). A copy is removed with the
 * last handle; save_undo(): at once, the object has stayed.
 */
void save_for_handles(struct cfile *cf, cache_done *done, void *arg);
void save_undo(struct cfile *cf);

/* Is anything unsent below the directory `key` that the bucket does not know of? */
bool unsent_below(struct cache *cache, const char *key);

/* 0 when nothing but the marker itself is below the directory `key`; -ENOTEMPTY. Blocks: on a worker. */
int check_empty(struct cache *cache, const char *key);

/* Tells the name cache what `key` is now; and that the directory it is in has changed. */
void put_known(struct cache *cache, const char *key, enum meta_state state, struct oinfo *info);
void touch_parent(struct cache *cache, const char *key);

/* Counts work under way, for cache_drain(). */
void cache_busy(struct cache *cache, int delta);

/* One log line for a failed operation. */
void cache_log_error(const char *what, const char *key, const struct oss_error *err);

#endif
