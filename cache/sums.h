/*
 * sums.h: checksums of ranges of a data file, so that its bytes can be believed by a later mount (keep.h). Pure: no
 * I/O, no locks (the owner names its lock).
 *
 * Ranges are disjoint, in order, never empty, and none crosses a multiple of SUMS_GRID: that bounds what must be read
 * to check one, and what one wrong byte costs. Neighbours within a grid cell are joined.
 */
#ifndef CACHE_SUMS_H
#define CACHE_SUMS_H

#include <stddef.h>
#include <stdint.h>

#define SUMS_GRID (1u << 20)

struct sum {
    uint64_t start, end, crc; /* CRC-64 of bytes [start, end) */
};

/* All zero: empty. */
struct sums {
    struct sum *v;
    size_t n, room;
};

void sums_free(struct sums *sums);

/* Whatever touches [start, end) goes. Needs no memory. */
void sums_cut(struct sums *sums, uint64_t start, uint64_t end);

/* Adds one range instead of what touches it. 0; -EINVAL when it is empty or crosses the grid; -ENOMEM. */
int sums_put(struct sums *sums, struct sum sum);

/* The first range that ends behind `offset`: it holds it or begins behind it; NULL: none. */
const struct sum *sums_next(const struct sums *sums, uint64_t offset);

#endif
