/*
 * fault.h: what goes wrong on purpose, for the next requests that match.
 *
 * A fault names an operation ("*": all) and a part of the key (of a listing: of its prefix), skips some matching
 * requests and then hits the next `count`. Faults are looked at in the order in which they were added: delay and
 * bandwidth of all that match add up, of the others the first one counts. Thread-safe.
 */
#ifndef OSSD_FAULT_H
#define OSSD_FAULT_H

#include "util.h"

enum fault_action {
    FAULT_NONE,
    FAULT_STATUS,          /* answered with this status and code, not applied */
    FAULT_RESET,           /* the connection is closed before anything is applied */
    FAULT_LOST,            /* applied, then the connection is closed without an answer */
    FAULT_TRUNCATE,        /* the reply's body ends early, then the connection is closed */
    FAULT_WRONG_CRC,       /* the reply carries a wrong x-oss-hash-crc64ecma */
    FAULT_DROP_CRC,        /* the reply carries none */
    FAULT_CORRUPT_BODY,    /* a byte of the download is flipped */
    FAULT_CORRUPT_REQUEST, /* a byte of the received body is flipped before any check */
    FAULT_HANG,            /* no answer until the faults are cleared or the client goes; not applied */
    FAULT_DELAY,           /* `ms` before the answer */
    FAULT_BANDWIDTH,       /* bytes per second of this request */
    FAULT_GARBAGE,         /* applied; the reply's body is replaced, see `mode` */
    FAULT_CLOSE,           /* answered, with Connection: close */
    FAULT_ACTIONS
};

/* What GARBAGE sends: text, html, a cut-off body, an endless one, deep nesting, entities that explode, nothing. */
enum garbage {
    GARBAGE_TEXT,
    GARBAGE_HTML,
    GARBAGE_TRUNCATED,
    GARBAGE_HUGE,
    GARBAGE_DEEP,
    GARBAGE_ENTITIES,
    GARBAGE_EMPTY,
    GARBAGE_MODES
};

struct fault {
    char op[40], key[1024], code[64];
    int64_t skip, count; /* count -1: for ever */
    enum fault_action action;
    enum garbage mode;
    int status;
    int64_t ms;
    uint64_t bandwidth, bytes; /* bytes: size of a huge answer, or where a truncated body ends; 0: a default */
};

/* What happens to one request. */
struct fault_plan {
    struct fault fault; /* action FAULT_NONE: nothing but the two below */
    int64_t delay_ms;
    uint64_t bandwidth; /* 0: no limit */
    uint64_t hang_generation;
};

struct faults;
struct faults *faults_new(void);
void faults_free(struct faults *faults);

enum fault_action fault_action_parse(const char *name); /* FAULT_NONE when unknown */
enum garbage garbage_parse(const char *name);           /* GARBAGE_MODES when unknown */

uint64_t faults_add(struct faults *faults, const struct fault *fault); /* its id */
void faults_clear(struct faults *faults);                              /* and lets hanging requests go */
void faults_match(struct faults *faults, const char *op, struct bytes key, struct fault_plan *plan);
void faults_json(struct faults *faults, struct sbuf *out);

/* Blocks until the faults are cleared or the peer of the socket has gone. */
void faults_hang(struct faults *faults, int socket, uint64_t generation);

#endif
