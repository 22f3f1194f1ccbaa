/*
 * hidden.h: objects of ours that no listing of a mount shows: bytes that must stand somewhere in the bucket while
 * they are not (or no more) a file. They lie below PREFIX.ossmount-hidden/, under names that never repeat.
 *
 * Crash-safe by a registry: hidden/NAME in the state directory exists from before anything is sent under a key until
 * the object is deleted; one that is not empty says that unfinished uploads may be there besides. What a registry of
 * an earlier daemon names is removed at the next mount, unfinished uploads as well, unless a file that goes on after
 * the crash is based on it.
 */
#ifndef CACHE_HIDDEN_H
#define CACHE_HIDDEN_H

#include "cfile.h"

#define HIDDEN_DIR ".ossmount-hidden"

/*
 * A new key, registered. 0; -ENAMETOOLONG where the mount's prefix leaves no room for it; an errno of the disk. Does
 * not ask the bucket.
 */
int hidden_new(struct cache *cache, char key[OSS_KEY_MAX + 2]);

/*
 * Nobody needs it any more: the object is deleted (0 also when there never was one), then the registry forgets it.
 * Does not wait; any lock may be held. Done at the latest by cache_free(); a failure is logged and made good at the
 * next mount.
 */
void hidden_remove(struct cache *cache, const char *key);

/*
 * An upload may stand under it that nobody will complete or abort: the reply with its id was lost, or its abort
 * failed. hidden_remove() looks for it then. Any lock may be held.
 */
void hidden_unsure(struct cache *cache, const char *key);

/* Is this the key of such an object? */
bool hidden_is(const struct cache *cache, const char *key);

/*
 * The service has lost an object that `cf` is based on: the log names the ranges of the file that are gone with it.
 * Returns -EIO. mu not held.
 */
int hidden_lost(struct cfile *cf, const char *key);

/*
 * At the mount, after the journals were taken up: removes what is left of earlier daemons, but for these keys. Does
 * not wait.
 */
void hidden_recover(struct cache *cache, char *const *keep, size_t n_keep);

#endif
