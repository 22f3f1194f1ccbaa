/*
 * ahead.h: how far it pays to fetch ahead of a reader, and in requests of what size.
 *
 * A read within, or just behind, what was fetched ahead is a sequential reader's (the kernel sends several at a time,
 * in any order). It has a window, which grows while it reads on; any other read ends it. The window goes out in
 * requests, of which parallel_count are under way at a time: a connection stands still for a round trip before each,
 * so requests are the longer the longer that takes compared with the bytes. What it takes is measured.
 */
#ifndef CACHE_AHEAD_H
#define CACHE_AHEAD_H

#include "cfile.h"

/* A read of [start, end) was asked for: the end of what is to be fetched, which may be before `end`. mu held. */
uint64_t ahead_end(struct cfile *cf, uint64_t start, uint64_t end);

/* The most bytes of one request of this reader. mu held. */
uint64_t ahead_piece(const struct cfile *cf);

/* Microseconds of CLOCK_MONOTONIC. */
int64_t ahead_clock(void);
/* A request for n bytes began at, had its first byte at, and ended now: what the next ones are. Any thread. */
void ahead_learn(struct cache *cache, int64_t began, int64_t first, uint64_t n);

#endif
