/*
 * keep_log.h: the file `kept` of the state directory: what the data files without a journal are. This comment is the
 * specification of the format on disk.
 *
 * The file is a row of records, appended to with one write(2) each, never synced, and now and then written anew
 * without what is no more true (kept.new, renamed over it). All integers are little-endian.
 *
 *      offset  bytes  field
 *      0       4      magic 0x4b53534f ("OSSK")
 *      4       1      version 1
 *      5       1      type
 *      6       2      zero
 *      8       4      length of the payload, at most 64 MiB
 *      12      4      zero
 *      16      8      CRC-64 of bytes 0..15 and the payload
 *      24      ...    payload
 *
 *      type        payload                                       says
 *      KEPT 1      u64 number, u64 size, u32 n, text ETag,       data/NUMBER holds these n ranges of the object `key`
 *                  text key, n times u64 start, end, CRC-64      of this ETag and size, with these checksums
 *      CHANGED 2   u64 number                                    what was said of data/NUMBER is no more true
 *
 *      text: u32 length, bytes, the last of which is NUL. Ranges are in order and disjoint, and none crosses a
 * multiple of 1 MiB.
 *
 * The last record of a number counts. Reading ends at the first record that is cut off, of another version or type,
 * or whose magic or CRC is wrong; the file is cut off there. What is written in the file is never proof by itself: a
 * data file is used only for an object that has the ETag and size now, and each range of it only after its checksum
 * was compared. So no order of writes to the disk, whatever a crash or a power cut makes of it, can make wrong bytes
 * believed; CHANGED and the order of records only spare the reading of what would be found wrong.
 */
#ifndef CACHE_KEEP_LOG_H
#define CACHE_KEEP_LOG_H

#include "sums.h"

#include "../oss/base_buf.h"

#define KEEP_RECORD_MAX (64u << 20) /* of a payload */

enum keep_type { KEEP_KEPT = 1, KEEP_CHANGED = 2 };

/* What a record says; texts and ranges belong to whoever has made it. */
struct keep_record {
    enum keep_type type;
    uint64_t number, size;
    const char *etag, *key;
    struct sums sums;
    uint64_t bytes, end; /* of its ranges: all together, and where the last one ends */
};

/* The record as it stands in the file. 0, -ENOMEM, -ENOSPC when it would be too long. */
int keep_encode(struct buf *out, const struct keep_record *record);

/*
 * Reads the record at `at` of the file into `raw`, to which the texts of `out` point; its ranges are the caller's
 * (sums_free) when 0 is returned. -ENODATA at the end of the file, -EINVAL for no whole record, -ENOMEM, a disk
 * error.
 */
int keep_read_record(int fd, uint64_t at, struct buf *raw, struct keep_record *out);

/* Appends at *end, which moves on. 0 or a negative errno: then it is as if nothing had been written. */
int keep_append(int fd, uint64_t *end, const struct buf *raw);

#endif
