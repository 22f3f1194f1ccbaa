/*
 * extent.h: which bytes of a file are where. Pure: no I/O, no locks (the owner of the map names its lock).
 *
 * A map covers [0, size) of one file without gaps. Each extent says whether the data file holds its bytes
 * (`local`), and where else they stand: in a base (an object in the bucket, named by a small number that the
 * owner gives out, at base_offset), or nowhere else (EXTENT_NEW: bytes written here and not yet in the bucket).
 *
 *      local  base           meaning
 *      no     >= 0           remote: must be fetched before it can be read
 *      yes    >= 0           clean: a copy of what the base holds
 *      yes    EXTENT_NEW     dirty: written here, `epoch` tells in which upload epoch
 *      no     EXTENT_NEW     impossible
 *
 * Neighbours that say the same are always merged. All offsets are bytes; ranges are [start, end).
 * Memory is proportional to the number of extents; an operation costs O(log n) and what it replaces.
 */
#ifndef CACHE_EXTENT_H
#define CACHE_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENT_NEW (-1)

struct extent {
    uint64_t start, end;
    bool local;
    int base;             /* number of a base, or EXTENT_NEW */
    uint64_t base_offset; /* of `start` in the base; 0 for EXTENT_NEW */
    uint32_t epoch;       /* of EXTENT_NEW; 0 otherwise */
};

struct extent_map;

/* An empty map of size 0; NULL when out of memory. */
struct extent_map *extent_map_new(void);
struct extent_map *extent_map_clone(const struct extent_map *map); /* NULL when out of memory */
void extent_map_free(struct extent_map *map);                      /* NULL is allowed */

uint64_t extent_map_size(const struct extent_map *map);

/* The whole map becomes [0, size) of `base`, not local. Every function that changes returns 0 or -ENOMEM, and on
 * -ENOMEM the map is as it was. */
int extent_map_set_base(struct extent_map *map, int base, uint64_t size);

/* [start, end) was written: dirty in `epoch`. Grows the map; a gap between the old size and start is dirty zeros. */
int extent_map_write(struct extent_map *map, uint64_t start, uint64_t end, uint32_t epoch);

/*
 * [start, end) stands in `base` at base_offset, and is not local. start is at most the size (-EINVAL); the map grows.
 */
int extent_map_share(struct extent_map *map, uint64_t start, uint64_t end, int base, uint64_t base_offset);

/* Cuts off, or grows with dirty zeros of `epoch`. */
int extent_map_truncate(struct extent_map *map, uint64_t size, uint32_t epoch);

/* [start, end) came from where it is remote: those parts of it that are remote become clean; others stay. */
int extent_map_fetched(struct extent_map *map, uint64_t start, uint64_t end);

/* The clean parts of [start, end) are dropped from the data file: they become remote. */
int extent_map_drop(struct extent_map *map, uint64_t start, uint64_t end);

/*
 * An upload of the map as it was when `epoch` was the current epoch has succeeded and made `base` of `size` bytes:
 * whatever is not dirty of a later epoch now stands in `base` at its own offset. Bytes beyond `size` are dirty of a
 * later epoch by construction.
 */
int extent_map_commit(struct extent_map *map, uint32_t epoch, int base, uint64_t size);

/*
 * What of [start, end) is dirty of `epoch` or of one before stands in `base` too now, from base_offset on: it becomes
 * clean.
 */
int extent_map_settle(struct extent_map *map, uint64_t start, uint64_t end, uint32_t epoch, int base,
                      uint64_t base_offset);

/* The extent that holds `offset`; false at or beyond the size. */
bool extent_map_find(const struct extent_map *map, uint64_t offset, struct extent *out);

/* The first remote part within [start, end), cut to that range; false when there is none. */
bool extent_map_next_remote(const struct extent_map *map, uint64_t start, uint64_t end, struct extent *out);

/* The first dirty part within [start, end), cut to that range; false when there is none. */
bool extent_map_next_dirty(const struct extent_map *map, uint64_t start, uint64_t end, struct extent *out);

/* Does any extent name `base`? (when not, the owner may forget it) */
bool extent_map_uses(const struct extent_map *map, int base);

uint64_t extent_map_local_bytes(const struct extent_map *map);
uint64_t extent_map_dirty_bytes(const struct extent_map *map);
size_t extent_map_count(const struct extent_map *map);

/* Aborts with a message when the table above or the order is broken; for tests and debug builds. */
void extent_map_check(const struct extent_map *map);

#endif
