/*
 * attr_store.h: what objects carry (mode, owner, times, headers), kept on disk across mounts, so that a stat needs no
 * HEAD. An answer is bound to the exact version of the object: key, ETag, Last-Modified and size, all of which a
 * listing brings; while these stay, so does the rest, so nothing here expires.
 *
 * It is a cache: bounded, may be deleted between mounts, and every failure of it is a miss. It lies on the local disk
 * in the state directory (LMDB), written by one thread of its own in batches, never synced while mounted; after a
 * kill -9 it is whole, after a power cut (another boot, and not closed cleanly) it is dropped unread.
 *
 * Thread-safe. Every function takes NULL for a store that could not be opened.
 */
#ifndef CACHE_ATTR_STORE_H
#define CACHE_ATTR_STORE_H

#include "attr.h"

struct attr_store;

/*
 * Opens or makes the store in the directory `dir`, which the caller has locked; NULL (logged) when it cannot be had.
 * `defaults`: what stands for attributes that an object does not carry; under others the store begins anew.
 * max_bytes: of the file, kept by dropping what was not asked for longest.
 */
struct attr_store *attr_store_open(const char *dir, const struct attr_defaults *defaults, uint64_t max_bytes);

/* Writes what is queued, syncs, and notes that it was closed well. Blocks. */
void attr_store_close(struct attr_store *store);

/*
 * What the object `key` carries at exactly this version: a new reference, NULL when it is not known. Reads the local
 * page cache or disk, waits for nobody.
 */
struct oinfo *attr_store_get(struct attr_store *store, const char *key, const char *etag, time_t last_modified,
                             uint64_t size);

/* Is anything noted under this key, of whatever version (also that there was no object)? */
bool attr_store_has(struct attr_store *store, const char *key);

/*
 * Notes `info`, or with NULL that there is no object `key` (of a directory: it is only a prefix). Not taken when it
 * is not final: read within two seconds of Last-Modified (`young`). Queued; does not block.
 */
void attr_store_put(struct attr_store *store, const char *key, struct oinfo *info);

/*
 * To be called before every request that makes or changes the object, so that a crash between its success and the
 * next put leaves nothing wrong behind: within one second the version may stay the same. May wait for a local write.
 */
void attr_store_forget(struct attr_store *store, const char *key);

/* Waits until what is queued is written. For tests, and the end. */
void attr_store_settle(struct attr_store *store);

#endif
