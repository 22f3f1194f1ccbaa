/*
 * Request signatures V4 (OSS4-HMAC-SHA256) and V1 (HMAC-SHA1), as header and as presigned URL. All pure and
 * thread-safe.
 *
 * The caller puts all headers it will send into a kvlist and signs last; the signer adds its own. For a repeat the
 * same list may be signed again: what the signer added is replaced.
 */
#ifndef OSS_SIGN_H
#define OSS_SIGN_H

#include "base_buf.h"
#include "base_kv.h"
#include "cred.h"
#include "url.h"

#include <stddef.h>
#include <time.h>

struct sign_request {
    const char *method; /* "GET", upper case */
    const char *bucket; /* NULL: service request */
    const char *key;    /* raw; NULL or "": bucket request */
    const struct url_param *query;
    size_t n_query;
    const char *const *additional; /* V4: names of further headers to sign; any case and order, those absent from
                                      the request or signed anyway are dropped */
    size_t n_additional;
    const struct oss_key *cred;
    const char *region;  /* V4 */
    const char *product; /* V4; NULL: "oss" */
    time_t when;         /* the server's clock as far as we know it */
};

/* The steps of a signature, for tests and debugging; holds no secret except signing_key. */
struct sign_result {
    char scope[160];               /* V4 */
    unsigned char signing_key[32]; /* V4 */
    struct buf canonical;          /* V4: canonical request; V1: canonicalized headers */
    struct buf resource;           /* V1: canonicalized resource */
    char canonical_sha256[65];     /* V4: lower-case hex */
    struct buf to_sign;
    char signature[65];       /* V4: hex; V1: base64 */
    struct buf authorization; /* header forms: the value of Authorization */
};
void sign_result_init(struct sign_result *r);
void sign_result_free(struct sign_result *r);

/*
 * V4 in headers: sets x-oss-date, x-oss-content-sha256 (UNSIGNED-PAYLOAD, unless there already),
 * x-oss-security-token (removed when there is no token) and authorization. `detail` may be NULL, else it must be
 * initialised. 0, -ENOMEM, or -EINVAL (no region, a value that fits nowhere).
 */
int sign_v4(const struct sign_request *rq, struct kvlist *headers, struct sign_result *detail);

/*
 * V4 in the query: adds to `query` the complete query text, rq->query first, signature last, for a URL valid
 * `expires` seconds from rq->when (1..604800, else -EINVAL). `headers` are those the user of the URL must send.
 */
int sign_v4_presign(const struct sign_request *rq, const struct kvlist *headers, long expires, struct buf *query,
                    struct sign_result *detail);

/* V1 in headers: sets date, x-oss-security-token (or removes it) and authorization. An x-oss-date stays and wins. */
int sign_v1(const struct sign_request *rq, struct kvlist *headers, struct sign_result *detail);

/* V1 in the query, valid until rq->when + expires. */
int sign_v1_presign(const struct sign_request *rq, const struct kvlist *headers, long expires, struct buf *query,
                    struct sign_result *detail);

#endif
