/*
 * stream.h: a file that leaves while it is being written, inside cache/ only.
 *
 * Once a file that has nothing in the bucket to build on passes multipart_threshold, its sealed parts (those that the
 * sequential frontier has passed) are sent under a multipart upload of its key while the writer goes on, up to
 * parallel_count at once, cut by the growing schedule of plan_stream_part(). Nothing is completed here: when a flush,
 * fsync or last close comes, the executor (upload.c) plans with the stream's parts and takes the stream over: parts
 * that are sent and were not written since are taken, those on their way are joined, all others are sent under their
 * numbers, and the upload is completed. The epoch of the map that a part's bytes were read in tells what was
 * written since.
 *
 * A stream that fails (or whose file is renamed, removed or emptied) is dropped: its upload is aborted when the last
 * of its parts has come back, and the file is as if it had never streamed. The journal knows INTENT, UPLOAD and PART
 * of it without COMMIT, so that a crash leaves nothing behind and publishes nothing.
 *
 * Segments. A part sent under the file's own key can be read by nobody before the upload is completed, so it stays on
 * disk, and no more than half of cache_size leaves in this way. What is written beyond goes, in segments of up to
 * a quarter of cache_size (at most 1 GiB), to objects under hidden keys (hidden.h): multipart uploads like the
 * other, completed as soon as all their parts are there. A segment that is completed is a base of the extent map, no
 * more and no less: its bytes are clean, so they may be dropped, read again, written over, cut off; the upload
 * of the file copies them (UploadPartCopy, tied to the ETag), and when the map names the base no more, the hidden
 * object is deleted. A segment that fails leaves its range as it was: dirty, here.
 *
 * All here is guarded by cf->mu. A stream lives, with a reference of its file, until it was dropped or ended by the
 * upload that took it and none of its requests is under way.
 */
#ifndef CACHE_STREAM_H
#define CACHE_STREAM_H

#include "cfile.h"

enum stream_part_state {
    PART_NONE,    /* to be sent */
    PART_SENDING, /* on its way */
    PART_SENT,
    PART_STALE, /* was written while it was on its way: sent again at the end only */
};

struct stream_part {
    struct job job;
    struct stream *stream;
    enum stream_part_state state;
    bool cut; /* on its way while the file was cut off: nothing of it is believed */
    uint64_t offset;
    uint32_t epoch; /* its bytes are those of this epoch or of one before, 0: not yet read */
    struct oss_part part;
    struct job *joined; /* a step of the upload that goes on when it has come back */
};

struct stream {
    struct cfile *cf; /* a reference */
    char *key;
    struct attr attr;      /* as sent with Initiate */
    struct kvlist headers; /* the same as headers, without the times */
    char id[OSS_UPLOADID_SIZE];
    bool segment;
    uint64_t start, limit; /* of a segment: where it begins and where it ends at most */
    bool counted;          /* space_begin() was called for it */
    bool closing;          /* it takes in no more parts: completed when all have come back */
    uint64_t part_size;    /* of all parts, the size of the file being known; 0: by the schedule */
    uint64_t reach;        /* the first byte that the schedule does not reach */
    struct stream_part **parts;
    size_t n_parts;   /* cut so far */
    size_t next;      /* all before it are sent or on their way */
    unsigned running; /* requests under way */
    bool unseen;      /* what it is to replace is known from a listing only, and not asked for yet */
    bool initiating, taken, dropped, completed, ending;
    struct job initiate, end;
    struct job *joined; /* a step that waits for Initiate */
};

/* [offset, +n) was written; mu held. true: stream_begin() must follow without it. */
bool stream_wrote(struct cfile *cf, uint64_t offset, uint64_t n);
void stream_begin(struct cfile *cf);

/* May the file grow to `end`? mu held. */
bool stream_reaches(const struct cfile *cf, uint64_t end);

/* The file was cut off at `size`; mu held. */
void stream_truncated(struct cfile *cf, uint64_t size);

/* The file's stream, if it has one, is given up; mu held. */
void stream_drop(struct cfile *cf);

/* Is all over, and this the first to see it? Then stream_end() or segment_complete() must follow. mu held. */
bool stream_over(struct stream *st);

/* Sends what is sealed and may be sent; mu held. */
void stream_go(struct stream *st);

/* A stream or segment with its Initiate under way. mu held; a reference and a busy count are the stream's from now
 * on. */
struct stream *stream_new(struct cfile *cf, bool segment);

/* Nothing of it is under way any more, and nobody knows it. Blocks for the abort. mu not held. */
void stream_end(struct stream *st);

/* --------------------------------------------------------------------------------------- segment.c */

/* The end of what the stream under the file's own key may take. */
uint64_t stream_limit(const struct cfile *cf);

/* [offset, +n) was written; mu held. */
void segment_wrote(struct cfile *cf, uint64_t offset, uint64_t n);

/* Should another one begin? mu held. */
bool segment_due(const struct cfile *cf);

/* The next one. mu held; NULL when out of memory. */
struct stream *segment_begin(struct cfile *cf);

/* The segment of the file takes in no more parts: mu held. */
void segment_close(struct cfile *cf);

/* The file was cut off; mu held. */
void segment_truncated(struct cfile *cf, uint64_t size);

/* Somebody waits for room: what is complete of it leaves now. mu not held. */
void segment_squeeze(struct cfile *cf);

/* The same when nothing else can make room: once more for those that were refused. mu not held. */
void segment_retry(struct cfile *cf);

/* All parts have come back: the object is made, and becomes a base. On a worker, mu not held. */
void segment_complete(struct stream *st);

/* One is over; mu held. Returns the change that goes on then, or NULL. */
struct change *segment_ended(struct stream *st);

/* Waits for all of them: true when `change` will be begun once more. mu held. */
bool segment_settle(struct cfile *cf, struct change *change);

/* ------------------------------------------------------------------------------- for the upload that takes it */

/* The parts in order, from 0 on, those that were never begun left out. malloc'ed; NULL: none, or out of memory. mu
 * held. */
struct plan_part *stream_cut(const struct stream *st, size_t *n);

/* From now on its parts are the upload's business; mu held. */
void stream_take(struct cfile *cf);

/*
 * Is part `number`, or Initiate (0), under way? Then `job` is submitted when it has come back, and true is returned.
 * mu held.
 */
bool stream_join(struct stream *st, int number, struct job *job);

/* Has part `number`, of [offset, +length), been sent as the file is now? Fills `out`. mu held. */
bool stream_sent(const struct stream *st, int number, uint64_t offset, uint64_t length, struct oss_part *out);

/* The upload is over: completed, or to be aborted. mu not held; blocks for the abort: on a worker. */
void stream_finish(struct stream *st, bool completed);

#endif
