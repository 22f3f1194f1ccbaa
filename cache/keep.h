/*
 * keep.h: clean data outlives the daemon. What the cache holds of objects stays in data/ when the daemon ends, well
 * or not, and is used by the next mount for those objects that have the same ETag and size still.
 *
 * How. While nobody holds a file that is clean, the file `kept` of the state directory says which ranges of the
 * object its data file has, with their checksums (keep_log.h: format, and why no crash can make it lie). At the mount
 * that file is read and nothing else: no request is sent, no data file is opened. What it names waits in a table,
 * least recently used first, and counts for cache_size like any idle file. When a cfile is made for one of these keys
 * it takes over the data file (keep_attach()): its map calls everything remote still, and a fetch of such a range
 * (fetch.c) first compares the checksum of what is on the disk; only if that is wrong does it ask the bucket.
 *
 * So of an attached file there are three kinds of bytes: local as ever; remote; and remote, but probably on the disk:
 * covered by cf->sums (`left`). cf->sums holds for local ranges too, so that a file is not summed up again for a few
 * changed bytes. The invariant: a range in cf->sums has this checksum as long as it is what the file contains.
 * Whoever changes what a range of the file contains, or takes it from the disk, cuts it out.
 *
 * Locks: keep's own mutex guards the table and the file `kept`; it is taken last, inside cache->mu and cf->mu.
 */
#ifndef CACHE_KEEP_H
#define CACHE_KEEP_H

#include "cfile.h"

/* Reads `kept`. NULL when out of memory or when the file cannot be used (logged): nothing is kept then. */
struct keep *keep_open(const char *state_dir);
/* All that is left in the table stays on the disk, in the order of its use. NULL is allowed. */
void keep_close(struct keep *keep);

/* ------------------------------------------------------------------------------- before the mount, in this order */

/* Is data/`name` what a record speaks of, as far as can be seen from outside? Else the caller removes it. */
bool keep_claim(struct cache *cache, const char *name);
/* What was claimed goes into the table, and counts; what was not is forgotten. */
void keep_claimed(struct cache *cache);

/* ------------------------------------------------------------------------------------------------- of a cfile */

/* It has just been made, for cf->object: takes over what is kept of that. cache->mu held, nobody else has it. */
void keep_attach(struct cfile *cf);

/* Nobody but the caller holds it, and it should be recorded first. cache->mu held. */
bool keep_wanted(struct cfile *cf);
/*
 * Records it, small files at once, others on a worker. true: the caller's reference goes to the worker. No lock held.
 */
bool keep_begin(struct cfile *cf);
/* At once, whatever its size. No lock held. */
void keep_now(struct cfile *cf);

/* Before the content changes, or bytes are taken from the disk: the record is no more true. mu held. */
void keep_changed(struct cfile *cf);
/* Bytes of the file in [start, end) were changed, or taken from the disk. mu held. */
void keep_cut(struct cfile *cf, uint64_t start, uint64_t end);
/* There is no such object any more: what the table has of it goes. cache->mu held. */
void keep_drop_key(struct cache *cache, const char *key);
/* The data file goes. mu held, or nobody else has it. */
void keep_gone(struct cfile *cf);
/*
 * The cfile goes, its data file and record stay for the next one of that key. cache->mu held, nobody else has it.
 * false: there is no record that is true of it.
 */
bool keep_return(struct cfile *cf);

/* Drops what is in the table, least recently used first, until the cache holds no more than `bytes`. No lock held. */
void keep_shrink(struct cache *cache, uint64_t bytes);

/* ---------------------------------------------------------------------------------------------- ranges `left` */

/* Bytes that are on the disk and remote for the map. mu held. */
uint64_t keep_left_bytes(struct cfile *cf);
/* Is `offset` (remote) such a byte? *limit is brought down to where that ends, or the next one begins. mu held. */
bool keep_boundary(const struct cfile *cf, uint64_t offset, uint64_t *limit);
/* Checks what is left of [start, end): what is right becomes local. true: nothing is remote there now. No lock held.
 */
bool keep_believe(struct cfile *cf, uint64_t start, uint64_t end);
/* Takes what is left from the disk, but not within [from, to). io (exclusively) and mu held. */
void keep_punch(struct cfile *cf, uint64_t from, uint64_t to);

#endif
