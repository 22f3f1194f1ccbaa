/*
 * upload.h: a plan on its way, inside cache/ only: what its executor (upload.c) and its steps (upload_step.c) share.
 */
#ifndef CACHE_UPLOAD_H
#define CACHE_UPLOAD_H

#include "journal.h"

struct upload;

struct step_job {
    struct job job;
    struct upload *u;
    size_t index;
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
    char acl[24];    /* to be sent, "" for none */
    bool copy_only;  /* a rename: from the object, to `target` */
    bool replace;    /* with new metadata */
    bool resumed;    /* goes on with an upload of an earlier daemon */
    bool completing; /* CompleteMultipartUpload was sent */
    bool rebased;    /* has started over once already */
    char upload_id[OSS_UPLOADID_SIZE];
    struct oss_part *parts; /* by index of the step */
    struct oss_object result;
    struct oinfo *source;   /* the object as it was when the plan was made, or NULL */
    struct oinfo *replaced; /* what a copy overwrites, or NULL */
    copy_done *copied;
    void *arg;
};

/* Steps of one phase run in parallel, of different phases one after the other (plan.h). */
int upload_phase(enum plan_step_kind kind);

/*
 * Carries out step i of the plan, on a worker: 0 or a negative errno with its cause in `err`. -EAGAIN: the file was
 * cut off meanwhile, the upload is to begin anew.
 */
int upload_step(struct upload *u, size_t i, struct oss_error *err);

#endif
