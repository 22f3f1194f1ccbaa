/*
 * s3.h: the part of the S3 protocol that other people's programs (s3fs, rclone) need, on the same store and port.
 *
 * A request signed the AWS way is checked here and then put into the words of OSS, so that the operations know one
 * dialect only; the answer's headers are put back. AWS signature V4 in the header or the URL, lists V1 and V2, PUT,
 * GET, HEAD, DELETE, multi-delete, copy, multipart with copied parts. Thread-safe, nothing blocks.
 */
#ifndef OSSD_S3_H
#define OSSD_S3_H

#include "request.h"

/* Whether the request speaks S3. Its headers and query have been read. */
bool s3_speaks(const struct request *rq);

/*
 * Checks the signature (unless the server takes all) and translates the headers; false: the reply is made. Sets
 * rq->s3, and rq->sha256 when the body's hash is announced and the server is strict (not with opaque ETags).
 */
bool s3_begin(struct request *rq);

/* The operation of a translated request, one of enum op. */
int s3_classify(const struct request *rq);

/* After the body: the hash that was announced. False: the reply is made. */
bool s3_check_body(struct request *rq);

/* Puts the reply's headers into S3's words, before they are sent. */
void s3_translate_reply(struct request *rq);

/* The pieces, pure: the canonical request of `target` (the path as sent) and the signature in hex. */
void s3_canonical(const struct request *rq, const char *signed_headers, const char *hash, struct sbuf *out);
void s3_sign(const char *canonical, const char *date, const char *region, const char *secret, char signature[65]);

#endif
