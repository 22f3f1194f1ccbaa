/*
 * auth.h: who is asking: signature V4 and V1, in the header or in a presigned URL.
 *
 * The server's own reading of the rules (it shares no line with the client, so both cannot make the same mistake).
 * auth_check() is thread-safe and does not block.
 */
#ifndef OSSD_AUTH_H
#define OSSD_AUTH_H

#include "util.h"

struct auth_request {
    const char *method;
    const char *bucket;          /* NULL: a request to the service */
    struct bytes key;            /* raw; empty for a bucket request */
    const struct pairs *query;   /* decoded, in the order sent */
    const struct pairs *headers; /* lower-case names, values trimmed, repeated ones joined by ',' */
};

struct auth_result {
    const char *code;     /* NULL: fine; else the OSS error code */
    const char *message;  /* NULL: the code's usual message */
    bool anonymous;       /* no signature at all */
    struct pairs details; /* extra elements of the error; to be released with pairs_free() */
};

struct auth;
struct auth *auth_new(const char *region);
void auth_free(struct auth *auth);

/*
 * Adds or replaces a key. `token` may be NULL. An expired key, and one that was set longer than life_ms ago (0: no
 * limit), is refused as the service would.
 */
void auth_set_key(struct auth *auth, const char *id, const char *secret, const char *token, bool expired,
                  int64_t life_ms);

/* A copy of the secret (to be freed) of a key that is good with this token (or NULL); NULL: *out says why not. */
char *auth_secret(struct auth *auth, const char *id, const char *token, struct auth_result *out);

void auth_check(struct auth *auth, const struct auth_request *request, time_t now, struct auth_result *out);

/*
 * The pieces, pure. `additional`: names joined by ';', or NULL. `date` is the compact form. Out: the canonical
 * request and the string to sign (appended), and the signature in hex.
 */
void auth_v4_canonical(const struct auth_request *request, const char *additional, struct sbuf *out);
void auth_v4_sign(const char *canonical, const char *date, const char *region, const char *secret,
                  struct sbuf *string_to_sign, char signature[65]);
/* `date` is the fourth line: a date, or the Expires of a presigned URL. */
void auth_v1_string(const struct auth_request *request, const char *date, struct sbuf *out);
char *auth_v1_sign(const char *string_to_sign, const char *secret); /* base64, to be freed */

#endif
