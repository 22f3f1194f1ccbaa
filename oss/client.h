/*
 * client.h: what the files client*.c share: the client, and one call of an operation with all its tries.
 *
 * An operation begins a call on its stack, says what is to be sent and how a reply is checked, runs it, reads the
 * reply, and ends it; everything in between (digest, signature, tries, waits, log, statistics) is call_run().
 */
#ifndef OSS_CLIENT_H
#define OSS_CLIENT_H

#include "base_buf.h"
#include "error.h"
#include "http.h"
#include "oss.h"
#include "retry.h"
#include "stats.h"
#include "url.h"

#include <stdatomic.h>

/* Constant after oss_open(), except the atomic fields. */
struct client {
    struct oss oss; /* first: the struct oss of this client is the client */
    struct http *http;
    struct oss_cred *cred; /* borrowed */
    char *bucket;
    char region[URL_REGION_SIZE];
    struct url_endpoint endpoint;
    enum oss_addressing how;
    int signature_version;
    bool check_crc, content_md5;
    struct retry_limits meta, transfer;
    atomic_int_least64_t clock_offset; /* seconds to add to our clock for the server's */
    struct stats stats[OSS_OPS];
};

static inline struct client *client_of(struct oss *oss)
{
    return (struct client *)(void *)oss;
}

#define CALL_PARAMS 12

struct call {
    struct client *client;
    enum oss_op op;
    const char *method;
    const char *key; /* NULL: the bucket */
    int r;           /* of what was set up so far: sticky */

    /* The question. */
    struct url_param query[CALL_PARAMS];
    size_t n_query;
    struct kvlist headers;           /* the signer adds its own */
    const struct oss_source *source; /* the body: the caller's, or `memory` */
    struct oss_source memory;        /* reads `text` */
    struct buf text;                 /* a body of ours */
    bool crc_header;                 /* send x-oss-hash-crc64ecma of the body, compare the reply's */
    bool md5_header;
    bool once;      /* never repeated after the service may have carried it out */
    int success[2]; /* statuses that are an answer; 0: unused */
    size_t collect_max;
    struct retry_limits limits;

    /* Hooks, with `arg`. Each may set `cause` when it fails, else a failure is final. */
    int (*prepare)(struct call *c); /* before each try */
    int (*begin)(void *call, const struct http_reply *reply);
    int (*data)(void *call, const void *data, size_t n);
    int (*check)(struct call *c); /* a reply with a status of success: is it to be believed? */
    void *arg;

    /* The digest of the body, once known. */
    bool digest_known;
    uint64_t crc64;

    /* The last try. */
    struct buf url;
    struct http_reply reply;
    struct oss_error err;
    struct retry retry;
    enum retry_cause cause;
    bool fresh; /* the next try goes over a new connection */
    /*
     * The connection broke while the body was on its way. A server that refuses at once and closes can destroy its
     * own answer so; the next try asks before it sends (Expect). Always asking would cost a round trip for each part.
     */
    bool broke_sending;
    int64_t began_ms;
};

/* Never fails: what goes wrong is kept in c->r and returned by call_run(). An object's key is checked here. */
void call_begin(struct call *c, struct oss *oss, enum oss_op op, const char *method, const char *key);
void call_begin_bucket(struct call *c, struct oss *oss, enum oss_op op, const char *method);

/* `value` must stay valid; NULL: the name alone. */
void call_query(struct call *c, const char *name, const char *value);
void call_header(struct call *c, const char *name, const char *value);
void call_header_quoted(struct call *c, const char *name, const char *etag);
void call_headers(struct call *c, const struct kvlist *headers);
void call_put_opts(struct call *c, const struct oss_put_opts *opts);
void call_upload_id(struct call *c, const char *id); /* an empty one would address the object itself */

/* Makes c->text the body; after the text was written. */
void call_text_body(struct call *c);

/* After the headers are set: if they ask for a callback, its failure is an answer too. True when they do. */
bool call_callback(struct call *c);
/* After call_run() was good: logs a failed callback and notes it in `out` (filled; NULL is allowed). 0 or -errno. */
int callback_result(struct call *c, struct oss_object *out);

/* A failure of a hook: c->err is set, c->cause too; returns e. */
int call_fail(struct call *c, enum retry_cause cause, int e, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* All tries. 0 or a negative errno, with c->err; the last reply stays in c->reply. */
int call_run(struct call *c);

/* Hands the error to the caller's `err` (may be NULL), counts, frees. Returns r. */
int call_end(struct call *c, int r, struct oss_error *err);

/* One log line of a try: "again in N ms" with delay >= 0. */
void call_log(const struct call *c, int64_t delay_ms);

/* ----------------------------------------------------------------------------------- reading of replies */

/* A decimal number and nothing else. */
bool reply_u64(const char *text, uint64_t *out);
bool reply_header_u64(const struct http_reply *reply, const char *name, uint64_t *out);

/* Date of the reply, 0 when there is none. */
time_t reply_date(const struct http_reply *reply);

/* The ETag without quotes; "" when there is none; -EIO when it is too long. */
int reply_etag(const struct http_reply *reply, char out[OSS_ETAG_SIZE]);

/* All but `size` of a HEAD or GET reply. 0, -ENOMEM, -EIO. */
int reply_object(const struct http_reply *reply, struct oss_object *out);

/* The check of a write: it is the service's own answer, and its CRC, where told, is that of the body. */
int check_write(struct call *c);

/* What a write tells of the object it made: etag, crc64, date; `size` as given. -EIO, -ENOMEM. */
int reply_written(const struct http_reply *reply, uint64_t size, struct oss_object *out);

/* The user metadata and content headers that `sent` holds are those of `object`, and it has no other metadata. */
bool object_carries(const struct oss_object *object, const struct kvlist *sent);

/* ---------------------------------------------------------------------------------------- the operations */

int client_head(struct oss *oss, const char *key, struct oss_object *out, struct oss_error *err);
int client_get(struct oss *oss, const char *key, uint64_t offset, uint64_t length, const char *if_match,
               const struct oss_sink *sink, struct oss_object *out, struct oss_error *err);
int client_put(struct oss *oss, const char *key, const struct oss_source *source, const struct oss_put_opts *opts,
               struct oss_object *out, struct oss_error *err);
int client_append(struct oss *oss, const char *key, uint64_t position, const struct oss_source *source,
                  const struct oss_put_opts *opts, struct oss_object *out, struct oss_error *err);
int client_copy(struct oss *oss, const char *from, const char *to, const struct oss_copy_opts *opts,
                struct oss_object *out, struct oss_error *err);
int client_delete(struct oss *oss, const char *key, struct oss_error *err);
int client_delete_many(struct oss *oss, const char *const *keys, size_t n, bool *deleted, struct oss_error *err);
int client_list(struct oss *oss, const struct oss_list_opts *opts, struct oss_list *out, struct oss_error *err);
int client_initiate(struct oss *oss, const char *key, const struct oss_put_opts *opts, char id[OSS_UPLOADID_SIZE],
                    struct oss_error *err);
int client_upload_part(struct oss *oss, const char *key, const char *id, int number, const struct oss_source *source,
                       struct oss_part *out, struct oss_error *err);
int client_copy_part(struct oss *oss, const char *key, const char *id, int number, const char *from,
                     const char *if_match, uint64_t offset, uint64_t length, struct oss_part *out,
                     struct oss_error *err);
int client_complete(struct oss *oss, const char *key, const char *id, const struct oss_part *parts, size_t n,
                    uint64_t size, bool has_crc, uint64_t crc64, const struct oss_put_opts *opts,
                    struct oss_object *out, struct oss_error *err);
int client_abort(struct oss *oss, const char *key, const char *id, struct oss_error *err);
int client_list_parts(struct oss *oss, const char *key, const char *id, int after, struct oss_part_list *out,
                      struct oss_error *err);
int client_list_uploads(struct oss *oss, const char *prefix, const char *key_marker, const char *id_marker,
                        struct oss_upload_list *out, struct oss_error *err);
int client_put_symlink(struct oss *oss, const char *key, const char *target, const struct oss_put_opts *opts,
                       struct oss_object *out, struct oss_error *err);
int client_get_symlink(struct oss *oss, const char *key, char target[OSS_KEY_MAX + 1], struct oss_object *out,
                       struct oss_error *err);
int client_get_acl(struct oss *oss, const char *key, char acl[24], struct oss_error *err);
int client_put_acl(struct oss *oss, const char *key, const char *acl, struct oss_error *err);
int client_get_tagging(struct oss *oss, const char *key, char **tagging, struct oss_error *err);
int client_put_tagging(struct oss *oss, const char *key, const char *tagging, struct oss_error *err);
int client_restore(struct oss *oss, const char *key, unsigned days, const char *tier, bool *done,
                   struct oss_error *err);
int client_bucket_info(struct oss *oss, struct oss_bucket_info *out, struct oss_error *err);
int client_bucket_stat(struct oss *oss, struct oss_bucket_stat *out, struct oss_error *err);

#endif
