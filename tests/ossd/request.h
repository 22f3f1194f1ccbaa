/*
 * request.h: one request from its first line to its answer, and the server that it belongs to.
 *
 * A request is handled by one thread from beginning to end (one thread for each connection), so nothing in it is
 * locked. server.c reads it from the wire, ops_*.c carry it out, reply.c describes the answer.
 */
#ifndef OSSD_REQUEST_H
#define OSSD_REQUEST_H

#include "auth.h"
#include "fault.h"
#include "stats.h"
#include "store.h"
#include "util.h"

#include <microhttpd.h>
#include <openssl/evp.h>

enum crc_header { CRC_YES, CRC_NO, CRC_NOT_COPIES };

struct options {
    const char *dir; /* NULL: memory */
    int port, control_port;
    const char *region;
    const char *certificate, *certificate_key; /* PEM files, NULL: plain HTTP */
    bool opaque_etag;
    bool appendable_copy;
    uint64_t copy_max;   /* bytes of a CopyObject */
    uint64_t append_max; /* bytes of an appendable object */
    enum crc_header crc_header;
    int64_t complete_delay_ms;
    int64_t restore_delay_ms; /* how long a restoration takes */
    int64_t body_timeout_ms;  /* how long a body may stop coming */
    bool versioning;          /* says so, and gives each version an id; old versions are not kept */
    bool no_auth;
    bool exit_with_stdin;
    const char *port_file;
    struct pairs cnames; /* host -> bucket */
};

struct server {
    struct options options;
    struct store *store;
    struct auth *auth;
    struct faults *faults;
    struct stats *stats;
    struct MHD_Daemon *daemon;
    const char *scheme;
    int port;
    _Atomic int64_t latency_ms;   /* of every request */
    _Atomic uint64_t bandwidth;   /* bytes per second of every connection, 0: no limit */
    _Atomic int64_t clock_offset; /* seconds: the server's clock minus this machine's */
    atomic_bool outage;
    atomic_bool stopping;
    struct connections *connections; /* server.c */
};
time_t server_now(struct server *server);
void server_sleep(struct server *server, int64_t ms); /* ends early when the server does */

enum body_kind { BODY_NONE, BODY_XML, BODY_STORE };

/* What a bucket's or object's ACL must allow for a request without signature. */
enum access { ACCESS_OWNER, ACCESS_READ, ACCESS_WRITE };

struct request;
struct op_info {
    const char *name;
    enum body_kind body;
    enum access access;
    bool (*begin)(struct request *rq); /* by the headers alone; false: the reply is made. May be NULL */
    void (*end)(struct request *rq);   /* the body has come and its checks were passed: makes the reply */
};

struct reply {
    int status;       /* 0: not made yet */
    const char *code; /* OSS code of an error, static */
    struct pairs headers;
    struct sbuf body;
    struct object *object; /* the body is [offset, offset + length) of this */
    uint64_t offset, length;
    bool has_crc;
    uint64_t crc;
};

struct request {
    struct server *server;
    struct MHD_Connection *connection;
    int socket;
    char *target; /* the raw request target */
    const char *method;
    struct pairs query, headers;
    char *raw_query;
    char *host;   /* without the port */
    char *bucket; /* NULL: the service */
    struct sbuf key_room;
    struct bytes key;
    int op;
    bool anonymous;
    bool s3; /* speaks S3; its signature was checked */
    struct fault_plan plan;
    char id[25];
    int64_t started_ms;
    bool begun, answered, recorded;

    /* the body */
    bool chunked, has_length;
    uint64_t content_length, received;
    bool want_md5;
    uint64_t crc;
    EVP_MD_CTX *md5, *sha256; /* sha256: S3 only */
    unsigned char digest[16]; /* after the end, with want_md5 */
    struct sbuf body;         /* BODY_XML */
    struct spool *spool;      /* BODY_STORE */
    struct object *model;     /* what begin() made of the headers */
    struct upload *upload;    /* uploadId */

    struct reply reply;
};

const char *request_header(const struct request *rq, const char *name); /* or NULL */
const char *request_query(const struct request *rq, const char *name);  /* or NULL */
bool request_true(const struct request *rq, const char *header);        /* "true" */

/* ------------------------------------------------------------------------------------------ replies: reply.c */

/*
 * Makes the reply an error; name/value pairs of further elements follow, ended by NULL. Answers false, so that
 * `return reply_error(…)` ends a check.
 */
bool reply_error(struct request *rq, const char *code, ...) __attribute__((sentinel));
/* The same with another message and, when not 0, another status. */
bool reply_error_message(struct request *rq, int status, const char *code, const char *message, ...)
    __attribute__((sentinel));
void reply_status(struct request *rq, int status);
void reply_xml(struct request *rq); /* 200, the body is reply.body */
void reply_header(struct request *rq, const char *name, const char *value);
void reply_headerf(struct request *rq, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void reply_etag(struct request *rq, const char *etag);
void reply_crc(struct request *rq, uint64_t crc, bool of_copy);
/* -errno of the store as an error. */
bool reply_store_error(struct request *rq, int r);

#endif
