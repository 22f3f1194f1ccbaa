/*
 * attr_record.h: one entry of the attribute store as bytes. Pure.
 *
 * Layout, numbers in the byte order of the machine (the store never leaves it):
 *
 *      u64 crc64 of all that follows
 *      struct attr_fixed
 *      key NUL etag NUL link NUL, then n_headers times: name NUL value NUL
 *
 * Whatever does not fit that exactly is no record.
 */
#ifndef CACHE_ATTR_RECORD_H
#define CACHE_ATTR_RECORD_H

#include "attr.h"

#include "../oss/base_buf.h"

#define ATTR_RECORD_MAX 65536

/* Appends the record of `info` (NULL: there is no object) under `key`. 0 or a negative errno. */
int attr_record_encode(struct buf *out, const char *key, const struct oinfo *info);

/* What a version has to be. */
struct attr_version {
    const char *etag;
    time_t last_modified;
    uint64_t size;
};

/*
 * The record as an oinfo when it is whole, is of `key` and of that version; else NULL. *exact: its Last-Modified is
 * the object's own, not only the server's Date when we wrote it.
 */
struct oinfo *attr_record_decode(const void *data, size_t n, const char *key, const struct attr_version *version,
                                 bool *exact);

/* Is it a whole record of that key? */
bool attr_record_of(const void *data, size_t n, const char *key);

#endif
