/*
 * What a failed reply means: the OSS code or HTTP status as errno (one table, in error_codes.c), whether a repeat may
 * help, and the text for the log. All pure and thread-safe.
 *
 * oss_error_format() of oss.h is in error.c too.
 */
#ifndef OSS_ERROR_H
#define OSS_ERROR_H

#include "oss.h"

#include <stdbool.h>
#include <stddef.h>

struct xml_error;

enum error_retry {
    ERROR_RETRY_NO,
    ERROR_RETRY_YES,   /* with backoff; on a fresh connection where error_wants_fresh_connection() */
    ERROR_RETRY_CLOCK, /* once, after the clock offset was set from err->date (RequestTimeTooSkewed) */
    ERROR_RETRY_CRED,  /* only when a forced refresh brought another key */
};

/* Empties `err`: all zero, next_position -1. NULL is allowed, here and in error_set(). */
void error_reset(struct oss_error *err);

/*
 * A failure of our own or of the transport: err->err = e (negative), err->message; code, status and the rest are
 * emptied, `tries` and `ambiguous` stay. Returns e.
 */
int error_set(struct oss_error *err, int e, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * A reply that is a failure (the caller decides that: 304 and 412 are failures only when asked for): fills err,
 * status, code, message, request_id, next_position and date from the status, the headers and the body; `tries` and
 * `ambiguous` stay. A body that is no OSS error, or is cut off, leaves code and message empty. HEAD: x-oss-err is
 * read. `doc` (may be NULL) receives all fields of the body, to be released by xml_error_free(). Returns err->err,
 * negative.
 */
int error_from_reply(struct oss_error *err, int status, const struct kvlist *headers, const char *body, size_t n,
                     struct xml_error *doc);

/* The negative errno for a reply; `code` may be "". Never 0: an unknown status or code is -EIO. */
int error_errno(int status, const char *code);

/* The codes that are known, sorted: what each of them is here, and what a user can do ("": it says itself). */
struct error_code {
    const char *code;
    int err; /* positive */
    const char *advice;
};
const struct error_code *error_codes(size_t *n);
const struct error_code *error_code_find(const char *code); /* NULL when unknown */
const char *error_advice(const char *code);                 /* "" when there is none */

/* What a repeat can do. Status 0, no answer came: ERROR_RETRY_YES. */
enum error_retry error_retry_class(int status, const char *code);

/* The connection that carried this reply should not be used again (RequestTimeout, IncompleteBody, BadRequest, 5xx).
 */
bool error_wants_fresh_connection(int status, const char *code);

/* "EACCES" for EACCES and -EACCES; "E?" for a number that has no name here. */
const char *error_name(int err);

#endif
