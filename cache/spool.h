/*
 * spool.h: part of an object in a nameless file, inside cache/ only: to be looked at before it is believed, or to be
 * sent on where the service does not copy by itself.
 */
#ifndef CACHE_SPOOL_H
#define CACHE_SPOOL_H

#include "cfile.h"

struct spool {
    int fd; /* -1: nothing yet */
    uint64_t offset, n;
    uint64_t crc64;
};

#define SPOOL_INIT \
    (struct spool) \
    {              \
        .fd = -1,  \
    }

/*
 * GetObject of [offset, +length), tied to the ETag. 0; -ENOSPC beyond what the cache may take; or the error of the
 * request or the disk. Blocks: on a worker.
 */
int spool_get(struct spool *spool, struct cache *cache, const char *key, const char *etag, uint64_t offset,
              uint64_t length, struct oss_error *err);

/* As the source of an upload. */
struct oss_source spool_source(struct spool *spool);

void spool_free(struct spool *spool);

#endif
