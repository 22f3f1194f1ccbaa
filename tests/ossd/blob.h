/*
 * blob.h: where the bytes are: numbered blobs, in memory or as files of one directory.
 *
 * A blob is written once and shared by whatever refers to it (objects, parts, copies: struct segment); it goes, with
 * its file, when the last reference does. Only its end may grow later (AppendObject), which nobody who holds an older
 * segment notices. In a directory, bodies up to 64 KiB share pack files: one write each instead of one file each.
 * All functions are thread-safe unless said; errors are negative errno.
 */
#ifndef OSSD_BLOB_H
#define OSSD_BLOB_H

#include "util.h"

#include <sys/uio.h>

struct blobs; /* all of them */
struct blob;

struct segment {
    struct blob *blob; /* holds a reference */
    uint64_t offset, length;
};

/* `dir` NULL: in memory. The directory exists. */
struct blobs *blobs_open(const char *dir);
/* No other thread may be inside. */
/* From now on a blob that goes leaves its file: to be called before the objects are freed at the end. */
void blobs_keep_files(struct blobs *blobs);
void blobs_close(struct blobs *blobs);

/*
 * Loading: between blobs_open() and blobs_loaded() blob_by_id() answers a reference to the blob of that number;
 * blobs_loaded() removes the files that nobody refers to.
 */
struct blob *blob_by_id(struct blobs *blobs, uint64_t id);
void blobs_loaded(struct blobs *blobs);

struct blob *blob_ref(struct blob *blob);
void blob_unref(struct blob *blob); /* NULL is allowed */
uint64_t blob_id(const struct blob *blob);

/* ------------------------------------------------------------------------------------------------ writing */

struct spool; /* a body on its way in; one thread at a time */

#define SPOOL_UNKNOWN UINT64_MAX
/* `expected` bytes or SPOOL_UNKNOWN; `growable`: for an appendable object. */
struct spool *spool_new(struct blobs *blobs, uint64_t expected, bool growable);
int spool_write(struct spool *spool, const void *data, size_t n);
/*
 * Ends the body. With `tail` (the last segment of an appendable object) a short body is put behind it where
 * possible: then *merged is true and *out stands for both. The caller owns out->blob.
 */
int spool_end(struct spool *spool, const struct segment *tail, struct segment *out, bool *merged);
void spool_free(struct spool *spool); /* also before the end: what was written is dropped. NULL is allowed */

/* ------------------------------------------------------------------------------------------------ reading */

struct reader; /* walks along segments; one thread at a time */
/* The segments are borrowed until reader_free(). */
struct reader *reader_new(const struct segment *segments, size_t n);
/* Bytes read (less than n only at a boundary, 0 at the end), or a negative errno. `offset` over all segments. */
ssize_t reader_read(struct reader *reader, uint64_t offset, void *to, size_t n);
void reader_free(struct reader *reader);

/* A range within one file: 0 and a descriptor of the caller's, or -ENOTSUP. */
int segments_fd(const struct segment *segments, size_t n, uint64_t offset, uint64_t length, int *fd,
                uint64_t *fd_offset);
/* A range in memory: the count and *iov (to be freed), or -ENOTSUP. Valid while the segments are. */
int segments_iov(const struct segment *segments, size_t n, uint64_t offset, uint64_t length, struct iovec **iov);

/* The part [offset, offset + length) of segments as segments of their own, each with a reference; count returned. */
size_t segments_slice(const struct segment *segments, size_t n, uint64_t offset, uint64_t length,
                      struct segment **out);
void segments_free(struct segment *segments, size_t n);

#endif
