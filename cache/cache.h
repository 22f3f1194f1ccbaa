/*
 * cache.h: the face of cache/: local copies of files, what is known of names, and every change on its way to the
 * bucket. Knows no FUSE and no inode: files are named by their object key (the mount's prefix included),
 * directories by their key with its trailing '/' ("" for the root of a bucket).
 *
 * Blocking. No function here waits for the network, unless its comment says so: it answers through a callback
 * `done`, once, from whatever thread (also from within the call), with no lock held. Local disk is touched by
 * read, write, truncate. All functions are thread-safe.
 *
 * Errors are negative errno values, as oss.h lists them, plus those of the local disk.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "attr.h"
#include "meta.h"
#include "plan.h"

#include "../oss/oss.h"

struct cache;
struct cfile;
struct headers;

struct cache_config {
    struct oss *oss;       /* borrowed */
    const char *state_dir; /* exists, 0700, locked by the caller */
    const char *prefix;    /* key of the root directory: "" or "a/b/" */
    struct attr_defaults defaults;
    struct plan_limits limits;
    unsigned parallel_count; /* parts and ranges in flight for one file */
    int64_t stat_ttl_ms;     /* how long names and attributes are believed */
    uint64_t cache_size;     /* bytes of clean data kept, and of unsent data before writers must wait or fail */
    uint64_t save_fetch;     /* bytes fetched for open handles before their object goes; more is copied (save.c) */
    unsigned free_percent;   /* of the file system that state_dir is on */
    int64_t append_flush_ms; /* what was appended to an open file is sent after so long; 0: not before it is asked */
    bool listing_attributes; /* no object carries attributes: what a listing says is all there is to know */
    bool background;         /* close and fsync answer when the local disk has it; it is sent later */
    int64_t upload_delay_ms; /* so much later */
    bool defer_temp;         /* the same for new files of temporary names, until they are renamed */
    bool keep_acl;           /* read and send again the ACL of objects that we did not create */
    const struct headers
        *headers;         /* borrowed: what goes with uploads (headers.h); NULL: nothing but what is carried over */
    bool callback_errors; /* a flush whose object is stored, but whose callback failed, ends with -EREMOTEIO */
};

/* 0, or a negative errno (state directory, memory, threads). Starts threads. */
int cache_new(struct cache **out, const struct cache_config *config);

/*
 * Takes up what an earlier daemon left unsent in the state directory (journal.h says what becomes of it). Before the
 * mount, once. Does not wait for the uploads. 0 or a negative errno of the state directory.
 */
int cache_recover(struct cache *cache);

/* Sends all that is unsent and waits for it, in bounded time (the client's deadlines). Blocks. */
void cache_drain(struct cache *cache);

/* After cache_drain(); no callback may be outstanding. What could not be sent stays in the state directory. */
void cache_free(struct cache *cache);

typedef void cache_done(void *arg, int r);

/* -------------------------------------------------------------------------------------------- names */

/*
 * The first page of the root listing. Blocks; for use before the mount. Fills the cache; err tells what the bucket
 * said.
 */
int cache_probe(struct cache *cache, struct oss_error *err);

typedef void cache_lookup_done(void *arg, int r, struct oinfo *info, int64_t ttl_ms);
/*
 * Finds `name` in directory `dir`. 0 with the attributes (borrowed; S_IFDIR tells a directory) and for how long they
 * may be believed; -ENOENT, also with a time. A file that is open or unsent here is answered from what it is here.
 */
void cache_lookup(struct cache *cache, const char *dir, const char *name, cache_lookup_done *done, void *arg);

/* The same, only if it needs no request: true when `done` was called. */
bool cache_lookup_known(struct cache *cache, const char *dir, const char *name, cache_lookup_done *done, void *arg);

/* Sees to it that the listing of `dir` is complete and fresh; cache_snapshot() has it then. */
void cache_list(struct cache *cache, const char *dir, cache_done *done, void *arg);

/*
 * The entries of `dir` as they are now, what is unsent here included. After cache_list(). 0, -ENOENT when it is not
 * listed, -ENOMEM. Release with meta_names_free().
 */
int cache_snapshot(struct cache *cache, const char *dir, struct meta_names *out);

/* A file was made here: names know of it before the bucket does. */
void cache_created(struct cache *cache, const char *key, struct cfile *cf);

/* Is this a name that no file or directory of a mount may have? What is there is ours (hidden.h), and not shown. */
bool cache_reserved_name(const char *name);

/* How many keys were not shown because they are no path. */
uint64_t cache_hidden_keys(struct cache *cache);

/* ------------------------------------------------------------------------------------------- changes */

/* The directory's marker is made with these attributes; -EEXIST is the caller's to check. */
void cache_mkdir(struct cache *cache, const char *key, const struct attr *attr, cache_done *done, void *arg);

/* The empty file `key` is made in the bucket, if no host has made one: else -EEXIST, and the name is asked for anew.
 */
void cache_claim(struct cache *cache, const char *key, const struct attr *attr, cache_done *done, void *arg);

/* -ENOTEMPTY when the bucket has anything below it (asked), or unsent files are. */
void cache_rmdir(struct cache *cache, const char *key, cache_done *done, void *arg);

/* Answers after the bucket has. Open handles of the file go on working. */
void cache_unlink(struct cache *cache, const char *key, cache_done *done, void *arg);

/* A symlink in ossfs's form. */
void cache_symlink(struct cache *cache, const char *key, const char *target, const struct attr *attr,
                   cache_done *done, void *arg);

typedef void cache_link_done(void *arg, int r, const char *target);
/* -ESTALE: `info` is no longer what is there; the name is to be looked up anew. */
void cache_readlink(struct cache *cache, const char *key, struct oinfo *info, cache_link_done *done, void *arg);

/*
 * A file (or symlink) takes the name `to`, over what may be there (a file). The other file's open handles go on
 * working. `info` is what is known of `from`, `replaced` of `to` (NULL: nothing is there).
 */
void cache_rename(struct cache *cache, const char *from, const char *to, struct oinfo *info, struct oinfo *replaced,
                  cache_done *done, void *arg);

/*
 * A directory with all below it, keys with trailing '/'. The target must not exist or be an empty directory (the
 * caller has checked the kind, this asks the bucket for its emptiness: -ENOTEMPTY). All copies are made before
 * anything is deleted; a failed copy undoes the others.
 */
void cache_rename_dir(struct cache *cache, const char *from, const char *to, cache_done *done, void *arg);

/* --------------------------------------------------------------------------------------------- files */

/*
 * The local state of the file `key`, made when there is none. `info` is the object in the bucket (borrowed), or NULL
 * for a file that does not exist there yet: then `attr` is what it begins with, and it is unsent from birth.
 * Two opens of one key share one cfile; when the object was replaced meanwhile by another host and nobody writes the
 * file here, a new open sees the new object and older ones keep theirs. NULL when out of memory. Each open is ended
 * by cfile_close().
 */
struct cfile *cfile_open(struct cache *cache, const char *key, struct oinfo *info, const struct attr *attr,
                         bool write);

/*
 * A removal or rename of `key` that is still on its way (its caller was interrupted) must end before the name is
 * opened, or the open would join a file that is about to go. true: `done` is called when it has ended, and then the
 * name is to be looked up anew; false: nothing of the kind, `done` is not called.
 */
bool cache_await_name(struct cache *cache, const char *key, cache_done *done, void *arg);

/*
 * Asked of an open of a file that was looked up before: is its removal or rename under way, which may not have seen
 * this open, or is it gone by now? Then the open is to be ended, cache_await_name() asked, and the name looked up
 * anew.
 */
bool cfile_too_late(struct cfile *cf);

/*
 * Ends an open (with the same `write`). The last one sends what is unsent (in the background; failures are logged
 * and listed) and keeps clean data for later.
 */
void cfile_close(struct cfile *cf, bool write);

/* Keeps an open file's state in memory without being an open. */
struct cfile *cfile_hold(struct cfile *cf);
void cfile_release(struct cfile *cf);

void cfile_attr(struct cfile *cf, struct attr *out);

/* A copy of the object headers that stand for extended attributes, as they are here now. 0 or -ENOMEM. */
int cfile_headers(struct cfile *cf, struct kvlist *out);

/* The ETag of the object that the file is based on, "" when there is none or the content was changed here. */
void cfile_etag(struct cfile *cf, char etag[OSS_ETAG_SIZE]);

/* What a read brings: `n` bytes, at `data`, or where that is NULL, at `offset` of the data file `fd`. */
struct cfile_view {
    size_t n;
    const void *data;
    int fd;
    uint64_t offset;
};
/* r: 0 or a negative errno. The view is good within the call only, in which the file must not be called. */
typedef void cfile_viewed(void *arg, int r, const struct cfile_view *view);

/*
 * [offset, offset + n), less only at the end of the file. The data file itself is shown, so that its pages can go to
 * the kernel without a copy through our memory. `viewed` may be called within the call.
 */
void cfile_read(struct cfile *cf, size_t n, uint64_t offset, cfile_viewed *viewed, void *arg);

/* Writes at `offset`, or at the end when `append`: the bytes written (n), or -EFBIG, -ENOSPC, a disk error. */
ssize_t cfile_write(struct cfile *cf, const void *from, size_t n, uint64_t offset, bool append);

/*
 * The same at the end, by one call of a program: `more` when the kernel may have cut it and another piece, of the
 * same thread `by`, is to follow at once. What is between two such calls is never divided on its way to the bucket.
 */
ssize_t cfile_append(struct cfile *cf, const void *from, size_t n, bool more, pid_t by);
/* The thread does something else: no piece follows. */
void cfile_append_over(struct cfile *cf, pid_t by);

/*
 * An appendable object that others append to: `info` is what the bucket has now. When it is what the file is based on
 * and more, the file grows with it: true, and `done` follows; else false.
 */
bool cfile_follow(struct cfile *cf, struct oinfo *info, cache_done *done, void *arg);
bool cache_follow(struct cache *cache, const char *key, struct oinfo *info, cache_done *done, void *arg);
/* May the file grow by what others append? Then the bucket is worth asking, also while it is open. */
bool cfile_may_grow(struct cfile *cf);

/*
 * After a write of n bytes got -ENOSPC: true when room may come, from an upload that is under way; then `done` is
 * called when the write should be tried again (0), or there is nothing left to wait for (-ENOSPC). false: nothing to
 * wait for.
 */
bool cfile_await_room(struct cfile *cf, uint64_t n, cache_done *done, void *arg);

int cfile_truncate(struct cfile *cf, uint64_t size);

/*
 * [offset, offset + n) becomes zeros, which cost no disk; the file grows by what is beyond its end only when `grow`.
 * 0, -EFBIG, a disk error.
 */
int cfile_zero(struct cfile *cf, uint64_t offset, uint64_t n, bool grow);

/* The first byte from `offset` on that is in a hole (at the latest the end), or that is not; -ENXIO. */
int64_t cfile_seek(struct cfile *cf, uint64_t offset, bool hole);

/*
 * Bytes [from_offset, +n) of `from` become those of `to` at to_offset: done gets how many did, 0 at the end of
 * `from`, maybe less than asked for. By server-side copies, when `to` is sent, where they pay. The files may be one.
 */
void cache_copy(struct cfile *from, uint64_t from_offset, struct cfile *to, uint64_t to_offset, uint64_t n,
                cache_done *done, void *arg);

/* Which fields of an attr a change sets. */
#define CFILE_SET_MODE  1
#define CFILE_SET_UID   2
#define CFILE_SET_GID   4
#define CFILE_SET_MTIME 8
/* Takes effect here at once; sent with the file's next upload, or by itself within a second. */
void cfile_set_attr(struct cfile *cf, const struct attr *attr, unsigned set);

/* Replaces the headers that stand for extended attributes. 0 or -ENOMEM. */
int cfile_set_headers(struct cfile *cf, const struct kvlist *headers);

/* Sends what is unsent, all that was changed before the call; 0 when the bucket holds it. */
void cfile_flush(struct cfile *cf, cache_done *done, void *arg);

/* ------------------------------------------------------------------------------------- the object itself */

typedef void cache_text_done(void *arg, int r, const char *text);
/*
 * What the bucket says of the object `key` now, as text (borrowed): etag, crc64, type, size, last_modified,
 * version_id, restore, storage_class, content_type, cache_control, content_disposition, content_encoding,
 * content_language, expires, sse, sse_data, sse_key_id, acl, tagging. One request. -ENODATA: it has no such thing,
 * there is no such object.
 */
void cache_object_text(struct cache *cache, const char *key, const char *name, cache_text_done *done, void *arg);

/*
 * Changes storage_class, content_type, cache_control, content_disposition, content_encoding, content_language,
 * expires, acl or tagging (value NULL: removes it); sends what is unsent first, and is done when the bucket has
 * answered. -EOPNOTSUPP for another name, -EINVAL for a value that cannot be.
 */
void cfile_set_object_text(struct cfile *cf, const char *name, const char *value, cache_done *done, void *arg);

/*
 * What close() and fsync() wait for: as cfile_flush(); in background mode, and for a deferred temporary name, that it
 * is durable on the local disk.
 */
void cfile_sync(struct cfile *cf, cache_done *done, void *arg);

/*
 * In background mode, before `key` is opened for writing: what was closed and is not sent yet is sent first. true:
 * `done` is called when that has ended, well or not; false: nothing of the kind.
 */
bool cache_await_sent(struct cache *cache, const char *key, cache_done *done, void *arg);
/* The same before an open file is written to or cut off: what was closed or fsynced of it is sent first. */
bool cfile_await_sent(struct cfile *cf, cache_done *done, void *arg);
/* Is there anything to wait for? */
bool cfile_must_await_sent(struct cfile *cf);

/*
 * Is the content empty, not yet published, and not written since it was emptied or made? `replaces` tells
 * whether the object in the bucket has bytes. For the rule of the empty flush.
 */
bool cfile_empty_unpublished(struct cfile *cf, bool *replaces);

#endif
