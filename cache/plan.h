/*
 * plan.h: the upload planner. Pure: given what is where and the limits, the cheapest correct way to make the
 * bucket hold the file, as a list of steps that upload.c executes. No I/O, no locks.
 */
#ifndef CACHE_PLAN_H
#define CACHE_PLAN_H

#include "extent.h"

#include "../oss/oss.h"

enum plan_step_kind {
    STEP_FETCH,     /* one GET: the remote bytes of [offset, +length) come into the data file, from base `base` at
                       base_offset. It may pass over local bytes between them: these are never overwritten. */
    STEP_PUT,       /* PutObject of [0, length) from the data file */
    STEP_APPEND,    /* AppendObject of [offset, +length) at position `offset` */
    STEP_INITIATE,  /* InitiateMultipartUpload */
    STEP_PART,      /* UploadPart `number`: [offset, +length) from the data file */
    STEP_PART_COPY, /* UploadPartCopy `number`: [offset, +length) of the file, from base `base` at base_offset */
    STEP_COMPLETE,  /* CompleteMultipartUpload of all parts above */
    STEP_COPY_SELF, /* CopyObject onto itself, metadata REPLACE, tied to the ETag */
    STEP_COPY,      /* CopyObject of the whole of base `base`, which is another object, metadata REPLACE, the same */
};

/*
 * Order: a step may begin when every step before it of an earlier phase has ended. Phases: FETCH; PUT, APPEND, COPY,
 * INITIATE; PART and PART_COPY (in parallel among themselves); COMPLETE; COPY_SELF. Steps are listed in this order.
 */
struct plan_step {
    enum plan_step_kind kind;
    int number; /* part number, 1..10000 */
    int base;   /* of FETCH, PART_COPY, COPY_SELF and COPY */
    uint64_t offset, length;
    uint64_t base_offset;
};

struct plan {
    struct plan_step *steps;
    size_t n; /* 0: nothing to do */
};

struct plan_base {
    int id; /* the number in the extent map */
    uint64_t size;
    bool appendable;
    bool copyable; /* may be the source of UploadPartCopy and CopyObject */
    bool own_key;  /* it is the object under the file's own key now */
};

struct plan_limits {
    uint64_t multipart_threshold; /* bytes; a file larger than this goes by multipart; at most 5 GB */
    uint64_t part_size;           /* preferred, bytes; at least 100 KB is used whatever is given */
    uint64_t part_min, part_max;  /* OSS_PART_MIN, OSS_PART_MAX; scaled down by tests only */
    unsigned parts_max;           /* OSS_PARTS_MAX */
    uint64_t copy_max;            /* of one UploadPartCopy: OSS_COPY_MAX; up to part_max where parts_max demands it */
    uint64_t copy_self_max;       /* of COPY_SELF; 0: none, as the newer texts of the API say. An object over it is
                                     copied in parts: plan again with it when the service refused (EFBIG) */
    uint64_t append_max;          /* of an appendable object: OSS_PUT_MAX */
    uint64_t object_max;          /* OSS_OBJECT_MAX */
};
/* The service's limits with 10 MB threshold and part size. part_max and copy_max are at least twice part_min. */
extern const struct plan_limits plan_limits_default;

/* A part of a multipart upload that has begun already. */
struct plan_part {
    uint64_t offset, length;
};

struct plan_input {
    const struct extent_map *map;
    const struct plan_base *bases;
    size_t n_bases;
    bool exists;        /* an object stands under the file's own key. When no base says own_key, its bytes are not
                           the file's: whatever the map says, the file must be sent */
    bool attrs_changed; /* mode, owner, times or user metadata differ from the object's */
    bool only_appends;  /* every write since the base came through an O_APPEND descriptor */
    uint64_t flushed;   /* bytes that flushes since open have sent already (the fsync-happy writer) */
    /*
     * How the file was cut while it was written, or by an earlier daemon: parts 1 .. n_sent, from 0 on without gaps,
     * each of a legal length. If the plan is multipart, those that lie within the file are its first parts, as PART,
     * whatever the map says of them; what is behind them is planned as always.
     */
    const struct plan_part *sent;
    size_t n_sent;
    struct plan_limits limits;
};

/*
 * Fills `out` (release with plan_free; empty after an error). 0; -EFBIG the file is over object_max, or no legal part
 * size reaches it; -EINVAL limits that contradict each other; -ENOMEM. The first rule that fits:
 *
 *      the object has the file's bytes, attributes too     nothing
 *      the object has the file's bytes                     COPY_SELF; as below where the base is not copyable
 *      another object has them all, and is at most         COPY
 *      copy_max long
 *      only_appends, base appendable or no object,         APPEND of the bytes beyond the base's size, and COPY_SELF
 *      total <= append_max, size > 0                       when an old object's attributes changed
 *      size <= multipart_threshold                         FETCH what is remote, PUT; but the next rule with
 *                                                          only_appends, or once flushes have sent over 4 x size,
 *                                                          if a range can be copied
 *      else                                                FETCH, INITIATE, PART and PART_COPY, COMPLETE
 *
 * In the last: clean or remote ranges of a copyable base of at least part_min (the last: of any length) are copied,
 * all else is sent, in parts of plan_part_size() of the file. What is to be sent and shorter than part_min takes in
 * its neighbours' bytes, those that cost the least fetching. When this would pass parts_max, parts grow to part_max,
 * then copies do, then ever longer clean ranges are fetched and sent.
 * The bytes of the file must not change between the planning and the steps, or the steps must read a snapshot.
 */
int plan_make(const struct plan_input *in, struct plan *out);
void plan_free(struct plan *plan);

/*
 * A copy of a whole object of `size` bytes to another key: one COPY_SELF (which then copies to that key), or above
 * copy_max INITIATE, PART_COPY from `base`, COMPLETE. 0, -EFBIG, -ENOMEM.
 */
int plan_copy(uint64_t size, int base, const struct plan_limits *limits, struct plan *out);

/*
 * Part size for data of known size: doubles `preferred` (0: 10 MB) while size > preferred x parts_max or
 * preferred < part_min; clamped to part_max. size < preferred: size. As the vendor's determine_part_size does
 * (fact sheet section 9.1), and clamped where that leaves the legal range. 0 for size 0.
 */
uint64_t plan_part_size(uint64_t size, uint64_t preferred, const struct plan_limits *limits);

/*
 * The growing schedule for a file whose size is unknown while it is written: offset and size of part `number`
 * (1..parts_max): min(part_size x 2^floor((number - 1) / 400), cache_size / 8, part_max), at least part_min.
 */
void plan_stream_part(int number, const struct plan_limits *limits, uint64_t cache_size, uint64_t *offset,
                      uint64_t *size);

/* The first byte that the schedule cannot reach: a write at or beyond it is EFBIG. */
uint64_t plan_stream_reach(const struct plan_limits *limits, uint64_t cache_size);

/* One line for each step, for the log and the tests. */
void plan_describe(const struct plan *plan, char *out, size_t size);

#endif
