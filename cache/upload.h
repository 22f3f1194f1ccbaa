/*
 * upload.h: a plan on its way, inside cache/ only: what its executor (upload.c) and its steps (upload_step.c) share.
 */
#ifndef CACHE_UPLOAD_H
#define CACHE_UPLOAD_H

#include "headers.h"
#include "journal.h"
#include "stream.h"

struct upload;

struct step_job {
    struct job job;
    struct upload *u;
    size_t index;
    struct oss_part had; /* number != 0: what an earlier daemon sent, if it is this */
};

/* What became of a STEP_APPEND. */
struct appended {
    bool landed;
    bool moved;            /* other writers' bytes are in the object that are not in the file here */
    bool keep;             /* what is local of the beginning is still the object's */
    uint64_t from, length; /* of the bytes in the file */
    uint64_t position;     /* of the bytes in the object */
    uint64_t size;         /* of the object */
    uint64_t crc64;        /* of the bytes */
};

struct upload {
    struct job clarify;
    struct change change; /* of an upload; unused by a copy, which runs inside a rename */
    struct cfile *cf;
    struct plan plan;
    struct step_job *jobs;

    pthread_mutex_t mu; /* guards the five below */
    size_t next;        /* the first step not yet started */
    size_t running;
    size_t done;
    int r;                /* the first error */
    struct oss_error err; /* and its cause */

    char *target;          /* key to write */
    struct attr attr;      /* as sent */
    struct kvlist headers; /* as sent, with the attributes; no ACL */
    uint64_t size, data_gen;
    uint32_t epoch;
    char acl[24];          /* to be sent, "" for none */
    char *tagging;         /* tags to be sent again, or NULL */
    bool tagged;           /* the object has some, which go with its bytes or are sent again */
    bool copy_only;        /* a rename: from the object, to `target` */
    bool replace;          /* with new metadata */
    bool resumed;          /* goes on with an upload of an earlier daemon */
    bool completing;       /* CompleteMultipartUpload was sent */
    bool completed;        /* ... and has answered */
    bool streamed;         /* without times: the stream's Initiate came before the last write */
    bool attrs_left;       /* they have changed since Initiate, and are sent by the next upload */
    bool rebased;          /* has started over once already */
    bool begun_anew;       /* so has it because its multipart upload was gone */
    bool saved;            /* no other file needs the object that is there (share.c) */
    struct stream *stream; /* the one that it has taken over, or NULL */
    bool by_hand;          /* the service does not copy this object: its bytes go through here */
    unsigned turns;        /* how often an append has begun anew on another object */
    struct appended appended;
    bool unsure; /* the source was changed by another host: what the copy carries is not known */
    char upload_id[OSS_UPLOADID_SIZE];
    struct stray *stray;    /* of a copy: what is noted of its multipart upload, or NULL */
    struct oss_part *parts; /* by index of the step */
    struct oss_object result;
    struct oinfo *source;   /* the object as it was when the plan was made, or NULL */
    struct oinfo *replaced; /* what a copy overwrites, or NULL */
    copy_done *copied;
    void *arg;
};

/* Steps of one phase run in parallel, of different phases one after the other (plan.h). */
int upload_phase(enum plan_step_kind kind);

/* ------------------------------------------------------------------------------------- upload_headers.c */

/*
 * The plan is made: what rules and suffix say of an object whose content it sends goes into u->headers; of one of
 * which only a listing is known in upload_find_kept(), when it is known what it has. 0 or -ENOMEM.
 */
int upload_describe(struct upload *u);
/* A rename: what rules and suffix gave follows the name. *changed: the copy must carry u->headers. 0 or -ENOMEM. */
int upload_follow(struct upload *u, bool *changed);
/*
 * Before a step that makes or replaces the object: asks for what the service would drop, and what is not known of the
 * object yet goes into u->headers. On a worker.
 */
int upload_find_kept(struct upload *u, const struct plan_step *step, struct oss_error *err);
/*
 * An object of which only a listing is known: what it has must be known before it is written again. Adds that to
 * `headers`, where they say nothing else, and to the file's own. *info: of the object, NULL when there is none; the
 * caller's. On a worker, mu not held. 0 or a negative errno.
 */
int see_object(struct cfile *cf, const char *key, struct kvlist *headers, struct oinfo **info, struct oss_error *err);
/*
 * Of an InitiateMultipartUpload that comes before the upload itself: `described` and what goes with this request
 * besides; `tagged`: the object that is there has tags, which are asked for. On a worker. 0 or a negative errno.
 */
int initiate_headers(struct cache *cache, const char *key, bool tagged, const struct kvlist *described,
                     struct kvlist *list, bool *forbid, struct oss_error *err);
/* Class and encryption of `source`, which a copy does not take by itself, into `list`. 0 or -ENOMEM. */
int upload_carry_storage(const struct kvlist *source, struct kvlist *list);
/* Does it set tags? */
bool upload_tags(const struct upload *u);
/* All headers of one request but the client's own; *forbid: it must not overwrite. 0 or -ENOMEM. */
int upload_request_headers(struct upload *u, enum headers_kind kind, struct kvlist *list, bool *forbid);

/*
 * Carries out step i of the plan, on a worker: 0 or a negative errno with its cause in `err`. -EAGAIN: the file was
 * cut off meanwhile, or written over where it was to be copied: the upload is to begin anew. -EINPROGRESS: what it
 * copies from is being moved or replaced by ourselves: the step is to be carried out once more, behind
 * upload_await_base(): true when `done` is called for that, false when there is nothing to wait for (any more).
 */
int upload_step(struct upload *u, size_t i, struct oss_error *err);
bool upload_await_base(struct upload *u, size_t i, cache_done *done, void *arg);

/* Was the file cut off before `end` since the plan was made? */
bool upload_was_cut(struct cfile *cf, uint64_t end);

bool upload_has_step(const struct upload *u, enum plan_step_kind kind);

/* upload_result.c: what the object is now, all steps of the plan having ended well. NULL when out of memory. */
struct oinfo *upload_result(const struct upload *u);

/* Plans a copy to another key, of u->source as it is now. cf->mu held. 0 or a negative errno. */
int upload_plan_copy(struct upload *u);

/* ------------------------------------------------------------------------------------------ by_hand.c */

/*
 * Some texts of the API say that an appendable object cannot be copied by the service, but for a change of its own
 * metadata. Where it refuses, the bytes are fetched and sent, in pieces of a part. And one that was appended to by
 * others meanwhile is copied as it is now. True when the upload, or copy, that has failed may begin anew.
 */
bool by_hand_retry(struct upload *u);
/* Is it known from before that copies of u->source are refused? */
bool by_hand_known(const struct upload *u);
/* Bytes of a piece at most. */
uint64_t by_hand_max(const struct cache *cache);
/* The steps that are copies. `from`, `etag`: the base. On a worker. */
int by_hand_copy(struct upload *u, const char *from, const char *etag, uint64_t size, const struct oss_put_opts *opts,
                 struct oss_error *err);
int by_hand_part(struct upload *u, const struct plan_step *step, const char *from, const char *etag,
                 struct oss_part *part, struct oss_error *err);

/* All that goes with a file beside its bytes: its headers and attributes as request headers. 0 or -ENOMEM. */
int upload_headers(struct kvlist *out, const struct kvlist *headers, const struct attr *attr);

/* UploadPart of [offset, +length) of the data file as it is; a body that changes on the way is refused. */
int upload_range(struct cfile *cf, const char *key, const char *id, int number, uint64_t offset, uint64_t length,
                 struct oss_part *part, struct oss_error *err);

/* ------------------------------------------------------------------------------------- upload_parts.c */

/*
 * The parts that are in the bucket before the plan is made: of the file's stream, or of an earlier daemon. malloc'ed,
 * NULL with *n = 0 when there are none. cf->mu held.
 */
struct plan_part *upload_parts_given(const struct cfile *cf, size_t *n);

/* The plan is made: what of it is there, or on its way, is taken. cf->mu held. 0 or -ENOMEM. */
int upload_parts_take(struct upload *u);

/*
 * Step i, a part or Initiate, before it is started: true when it is done already. u->mu may be held, cf->mu not.
 */
bool upload_part_here(struct upload *u, size_t i);

/* The same on a worker, for what must be compared with the bytes on disk first. */
bool upload_part_had(struct upload *u, size_t i);

/* Is it on its way? Then its job is submitted when it has come back. */
bool upload_part_joined(struct upload *u, size_t i);

/*
 * upload_plan.c: fill u->plan, with cf->mu held. 0 or a negative errno. content: of a plain file, or of what is in no
 * bucket yet. attributes: of a link or a directory, one request.
 */
int upload_plan_content(struct upload *u);
int upload_plan_attributes(struct upload *u);

/* The bytes that a plan moves, for the progress. */
uint64_t upload_plan_bytes(const struct plan *plan);

#endif
