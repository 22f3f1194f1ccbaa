/*
 * fake_oss.h: a bucket in memory behind struct oss_ops, which fails on request.
 *
 * The operations that cache/ uses do what the service does: objects, ETags that stand for the content, If-Match,
 * multipart uploads, listings, ACLs. PutObject and UploadPart read their source twice, for the CRC and for the
 * body, as the client does, and refuse a body that differs (InvalidCRC64). Nothing is retried here. Thread-safe.
 */
#ifndef TESTS_UNIT_FAKE_OSS_H
#define TESTS_UNIT_FAKE_OSS_H

#include "../../oss/oss.h"

struct fake_oss;

#define FAKE_ANY_OP OSS_OPS

enum fake_kind {
    FAKE_FAIL,  /* not carried out */
    FAKE_LOST,  /* carried out, and reported as a timeout with err->ambiguous */
    FAKE_DELAY, /* carried out, late */
};

struct fake_fault {
    enum fake_kind kind;
    enum oss_op op;   /* FAKE_ANY_OP: whatever it is */
    unsigned nth;     /* the first request to meet it: 1 is the next one that matches */
    unsigned count;   /* how many requests meet it in a row */
    int err;          /* FAKE_FAIL: the negative errno */
    const char *code; /* FAKE_FAIL: the OSS code, NULL: "" */
    unsigned delay_ms;
};

/* Where a request stops while its gate is shut. */
enum fake_gate {
    FAKE_GATE_BEGIN, /* before anything was looked at */
    FAKE_GATE_BODY,  /* put and upload_part: the CRC was made, the body was not read yet; get: half the bytes came */
    FAKE_GATE_END,   /* carried out, not answered */
    FAKE_GATES
};

struct fake_oss *fake_oss_new(void);
void fake_oss_free(struct fake_oss *fake);
struct oss *fake_oss_client(struct fake_oss *fake);

/* One fault at a time; NULL: none. */
void fake_oss_fault(struct fake_oss *fake, const struct fake_fault *fault);
/* How many requests have met a fault since it was set. */
unsigned fake_oss_faults_met(struct fake_oss *fake);
/* Requests since the bucket was made, those that failed included. */
unsigned fake_oss_requests(struct fake_oss *fake, enum oss_op op);

/* Requests of `op` stop at `gate` until it, or all gates, are opened again. */
void fake_oss_shut(struct fake_oss *fake, enum oss_op op, enum fake_gate gate);
void fake_oss_open_one(struct fake_oss *fake, enum oss_op op);
void fake_oss_open(struct fake_oss *fake);
/* Waits, for at most ten seconds, until `n` requests stand at gates. */
bool fake_oss_wait(struct fake_oss *fake, unsigned n);

/* What another host does. Headers may be NULL. 0 or -ENOMEM. */
int fake_oss_store(struct fake_oss *fake, const char *key, const void *data, size_t size,
                   const struct kvlist *headers, const char *acl);
/* The same as an appendable object: appended to what is there, if that is one, else in its place. */
int fake_oss_append(struct fake_oss *fake, const char *key, const void *data, size_t size,
                    const struct kvlist *headers);
void fake_oss_remove(struct fake_oss *fake, const char *key);

/* Are appendable objects refused as the source of copies, but for a change of their own metadata? */
void fake_oss_refuse_appendable_copies(struct fake_oss *fake, bool refuse);
/* Does a copy have an ETag of its own, although its bytes are the same? */
void fake_oss_rename_copies(struct fake_oss *fake, bool rename);
/* Is the object appendable? */
bool fake_oss_appendable(struct fake_oss *fake, const char *key);

/* Copies; -ENOENT when there is no such object. The caller frees *data. */
int fake_oss_content(struct fake_oss *fake, const char *key, char **data, size_t *size);
int fake_oss_headers(struct fake_oss *fake, const char *key, struct kvlist *headers, char acl[24]);

size_t fake_oss_count(struct fake_oss *fake);   /* objects */
size_t fake_oss_uploads(struct fake_oss *fake); /* multipart uploads that were neither completed nor aborted */

/* Called, under the bucket's lock, with every content that any key ever gets. */
typedef void fake_published(void *arg, const char *key, const char *data, size_t size);
void fake_oss_watch(struct fake_oss *fake, fake_published *published, void *arg);

#endif
