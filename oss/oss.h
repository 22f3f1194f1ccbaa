/*
 * oss.h: the bucket, and nothing else.
 *
 * A `struct oss` is a client of one bucket behind a table of operations (struct oss_ops), so that the tests can
 * put a fault-injecting twin in its place. Every operation blocks until the service has answered, the retries
 * are used up or the deadline has passed: call them on a worker thread (base_pool.h), holding no lock. All are
 * thread-safe. No operation keeps a pointer of the caller's after it has returned.
 *
 * Results. Each operation returns 0 or a negative errno (section "Errors" below) and fills `err`, which may be
 * NULL, on failure. Output structs are valid only after 0; those with lists must be released (…_free), which is
 * safe on an all-zero struct and after a failure.
 *
 * Units: bytes, milliseconds, seconds since 1970 (UTC) where a time_t stands. Keys are raw bytes of UTF-8,
 * NUL-terminated, without a leading '/', never escaped by the caller. ETags are without the quotes, compared as
 * opaque bytes.
 *
 * Errors. ENOENT NoSuchKey, NoSuchBucket, NoSuchUpload, SymlinkTargetNotExist. EACCES AccessDenied, wrong key or
 * signature. ENODATA InvalidObjectState (archived, not restored). EALREADY RestoreAlreadyInProgress. EEXIST
 * FileAlreadyExists (forbid_overwrite). ESTALE 412 (an if_match that does not hold). EPERM FileImmutable. EDQUOT
 * quota. EFBIG EntityTooLarge. EINVAL InvalidArgument and the other 400s. ERANGE 416. ENOTSUP 405, 501,
 * NotImplemented, OperationNotSupported. EBADE PositionNotEqualToLength. EPROTOTYPE ObjectNotAppendable. EILSEQ
 * InvalidObjectName. ETIMEDOUT timeouts. ECANCELED after oss_stop(). EIO the rest. `err.code` has the exact cause.
 */
#ifndef OSS_OSS_H
#define OSS_OSS_H

#include "base_kv.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Limits of the service (OSS documentation, "Limits"; fact sheet section 3). */
#define OSS_KEY_MAX       1023                     /* bytes of a key */
#define OSS_META_MAX      8192                     /* bytes of user metadata, names and values together */
#define OSS_PART_MIN      102400LL                 /* bytes of a part that is not the last */
#define OSS_PART_MAX      (5LL << 30)              /* bytes of a part */
#define OSS_PARTS_MAX     10000                    /* parts of an upload, and the highest part number */
#define OSS_PUT_MAX       (5LL << 30)              /* bytes of PutObject, and of an appendable object */
#define OSS_COPY_MAX      (1LL << 30)              /* bytes of a single copy that every text of the API allows */
#define OSS_OBJECT_MAX    (10000LL * OSS_PART_MAX) /* 48.8 TB */
#define OSS_LIST_MAX      1000                     /* entries of a list page, keys of a batch delete */
#define OSS_ETAG_SIZE     72                       /* room for an ETag and its NUL; a longer one is an error */
#define OSS_UPLOADID_SIZE 256                      /* room for an upload id and its NUL */

/* ------------------------------------------------------------------------------------------------ client */

enum oss_addressing {
    OSS_ADDR_AUTO,    /* path for an IP literal or localhost, else virtual-hosted */
    OSS_ADDR_VIRTUAL, /* bucket.endpoint/key */
    OSS_ADDR_PATH,    /* endpoint/bucket/key */
    OSS_ADDR_CNAME,   /* endpoint/key: the endpoint is bound to the bucket */
};

struct oss_cred; /* cred.h: where the access key comes from */

struct oss_config {
    const char *endpoint; /* "https://oss-cn-hangzhou.aliyuncs.com[:port]"; no scheme: https; a path is refused */
    const char *bucket;
    const char *region; /* "cn-hangzhou"; NULL: taken from the endpoint (V4 only; needed where it cannot be) */
    enum oss_addressing addressing;
    int signature_version;        /* 4 or 1 */
    struct oss_cred *cred;        /* borrowed, outlives the client */
    const char *ca_file;          /* PEM file of trusted certificates, NULL: the system's */
    const char *user_agent;       /* NULL: "ossmount" */
    bool check_crc;               /* send and compare CRC-64 (x-oss-hash-crc64ecma) */
    bool content_md5;             /* send Content-MD5 with put and upload_part too */
    unsigned retries;             /* tries after the first; 0: none */
    int64_t connect_timeout_ms;   /* TCP and TLS */
    int64_t stall_timeout_ms;     /* a transfer without a byte of progress for so long is given up */
    int64_t meta_deadline_ms;     /* a request without a body, all its tries together */
    int64_t transfer_deadline_ms; /* a transfer: no new try begins when none of its bytes moved for so long */
};

/* The defaults: V4, CRC on, 5 retries, 10 s connect, 60 s stall, 30 s metadata, 60 s transfer. */
#define OSS_CONFIG_DEFAULTS                                                                   \
    (struct oss_config)                                                                       \
    {                                                                                         \
        .signature_version = 4, .check_crc = true, .retries = 5, .connect_timeout_ms = 10000, \
        .stall_timeout_ms = 60000, .meta_deadline_ms = 30000, .transfer_deadline_ms = 60000   \
    }

/* What the service, or the way to it, said of a failure; for the log and the user. */
struct oss_error {
    int err;               /* the negative errno that the operation returned */
    int status;            /* HTTP status, 0 when no answer came */
    char code[64];         /* OSS code ("AccessDenied"), or "" */
    char message[256];     /* OSS message, or the transport's own words */
    char request_id[64];   /* or "" */
    int64_t next_position; /* AppendObject's 409: the true length; else -1 */
    time_t date;           /* the server's Date, 0 when there was none */
    unsigned tries;        /* how often it was sent */
    bool ambiguous;        /* a try was sent and its reply was lost: the service may have carried the request out */
};

/* Totals since the client was made, for the status command; read with oss_stats(). */
enum oss_op {
    OSS_OP_HEAD,
    OSS_OP_GET,
    OSS_OP_PUT,
    OSS_OP_COPY,
    OSS_OP_DELETE,
    OSS_OP_DELETE_MANY,
    OSS_OP_APPEND,
    OSS_OP_LIST,
    OSS_OP_INITIATE,
    OSS_OP_PART,
    OSS_OP_PART_COPY,
    OSS_OP_COMPLETE,
    OSS_OP_ABORT,
    OSS_OP_LIST_PARTS,
    OSS_OP_LIST_UPLOADS,
    OSS_OP_PUT_SYMLINK,
    OSS_OP_GET_SYMLINK,
    OSS_OP_GET_ACL,
    OSS_OP_PUT_ACL,
    OSS_OP_GET_TAGGING,
    OSS_OP_PUT_TAGGING,
    OSS_OP_BUCKET_INFO,
    OSS_OP_BUCKET_STAT,
    OSS_OP_RESTORE,
    OSS_OPS
};

/* Kinds of failed tries. */
enum oss_error_class {
    OSS_ERRORS_NETWORK, /* no connection, or a broken one */
    OSS_ERRORS_TIMEOUT,
    OSS_ERRORS_THROTTLED, /* 429, 503 */
    OSS_ERRORS_SERVER,    /* other 5xx */
    OSS_ERRORS_DENIED,    /* 401, 403 */
    OSS_ERRORS_REQUEST,   /* other refusals: a condition that does not hold, for one */
    OSS_ERRORS_DATA,      /* a checksum that does not fit, a reply that makes no sense */
    OSS_ERROR_CLASSES
};
const char *oss_error_class_name(enum oss_error_class klass); /* "network" ... */

#define OSS_LATENCY_BUCKETS 27
/* The upper ends of all buckets but the last, which has none; ms. */
extern const uint32_t oss_latency_bounds[OSS_LATENCY_BUCKETS - 1];

struct oss_op_stats {
    uint64_t requests, retries, failures;  /* tries sent; of these repeated; operations that failed */
    uint64_t bytes_up, bytes_down;         /* bodies */
    uint64_t total_ms;                     /* time of all tries together */
    uint64_t errors[OSS_ERROR_CLASSES];    /* failed tries */
    uint64_t latency[OSS_LATENCY_BUCKETS]; /* tries by their time */
};

struct oss_ops;
struct oss {
    const struct oss_ops *ops;
};

/*
 * Makes the HTTP client. 0 or -EINVAL (with err->message naming what is wrong and what to do: endpoint, bucket
 * name, region missing), -ENOMEM. No request is sent. The strings of `config` are copied.
 */
int oss_open(struct oss **out, const struct oss_config *config, struct oss_error *err);

/* Makes running operations end soon with -ECANCELED and new ones fail at once. Any thread; does not block. */
void oss_stop(struct oss *oss);

/* Frees the client; no operation may be running. NULL is allowed. */
void oss_close(struct oss *oss);

void oss_stats(struct oss *oss, struct oss_op_stats out[OSS_OPS]);

/* The time in ms that the part `part` (0.5: half) of the tries kept under, estimated from the histogram; 0: no try.
 */
double oss_latency_ms(const struct oss_op_stats *stats, double part);
const char *oss_op_name(enum oss_op op); /* "PutObject" ... */

/*
 * A URL with which anybody can GET `key` for `expires` seconds (V4: at most 604800), signed as the client signs; no
 * request is sent. *url is malloc'ed. 0, -EINVAL, -ENOMEM, or the error of the access key's source.
 */
int oss_presign(struct oss *oss, const char *key, long expires, char **url, struct oss_error *err);

/* "PutObject a/b: 403 AccessDenied (message) request id X", for log lines; `out` is always terminated. */
void oss_error_format(const struct oss_error *err, char *out, size_t size);

/* The client for another bucket path is another client. The bucket of this one, as given. */
const char *oss_bucket(const struct oss *oss);

/* ------------------------------------------------------------------------------------------------ objects */

enum oss_type { OSS_TYPE_NORMAL, OSS_TYPE_MULTIPART, OSS_TYPE_APPENDABLE, OSS_TYPE_SYMLINK };

/* An object as HEAD, GET or a write's reply describes it. */
struct oss_object {
    uint64_t size;            /* of the whole object, also after a range GET */
    char etag[OSS_ETAG_SIZE]; /* "" when the reply had none */
    time_t last_modified;     /* 0 when the reply had none */
    time_t date;              /* the server's clock when it answered, 0 when unknown */
    enum oss_type type;
    bool has_crc; /* crc64 is that of the whole object */
    uint64_t crc64;
    int64_t append_position; /* next position of an appendable object, else -1 */
    bool
        callback_failed; /* of put and complete: the object is stored, but its x-oss-callback was not answered well */
    /*
     * What describes the object and must be carried over by a copy or an overwrite: content-type,
     * cache-control, content-disposition, content-encoding, content-language, expires, x-oss-meta-*,
     * x-oss-storage-class, x-oss-server-side-encryption and its -key-id, x-oss-server-side-data-encryption;
     * and what tells its state: x-oss-tagging-count, x-oss-restore, x-oss-version-id. Lower-case names.
     */
    struct kvlist headers;
};
void oss_object_free(struct oss_object *object);

/* Where the bytes of an upload come from. Called on the thread of the operation, again from 0 on each retry. */
struct oss_source {
    /*
     * Exactly n bytes at `offset` of the body into `to`: 0, or a negative errno that ends the operation with it.
     * -EAGAIN counts as no error: the caller begins anew.
     */
    int (*read)(void *arg, uint64_t offset, void *to, size_t n);
    void *arg;
    uint64_t size;  /* of the body */
    bool has_crc;   /* crc64 is known: the source is not read twice; else the client reads it once for the CRC */
    uint64_t crc64; /* of the body */
    /* Or NULL: goes up as the bytes leave; what a try that failed has added is taken off again. */
    atomic_uint_least64_t *sent;
    const struct kvlist *headers; /* of upload_part, which has no options: x-oss-traffic-limit; or NULL */
};

/* Where the bytes of a download go. */
struct oss_sink {
    /*
     * The next n bytes, `offset` counted from the start of the object (not of the range). After a broken
     * connection the operation goes on where it stopped (tied to the ETag), so no byte is delivered twice.
     * 0, or a negative errno that ends the operation with it.
     */
    int (*write)(void *arg, uint64_t offset, const void *data, size_t n);
    void *arg;
};

/* What may go with a write; an all-zero struct, or NULL, is none of it. */
struct oss_put_opts {
    const struct kvlist *headers; /* sent as they are: Content-Type, x-oss-meta-*, x-oss-object-acl, ... */
    bool forbid_overwrite;        /* fail with EEXIST when the key exists (a lost reply is asked for by HEAD) */
    bool content_md5;             /* send Content-MD5 of the body too */
};

struct oss_copy_opts {
    const char *if_match;         /* source ETag, or NULL */
    time_t if_unmodified_since;   /* 412 (ESTALE) when the source was changed later, attributes included; 0: none */
    bool replace;                 /* x-oss-metadata-directive REPLACE with `headers`; else COPY */
    const struct kvlist *headers; /* with replace: the new metadata; always: x-oss-object-acl and the like */
    bool forbid_overwrite;
};

#define OSS_WHOLE UINT64_MAX /* as a length: the whole object, no Range header */

struct oss_part {
    int number; /* 1..10000 */
    uint64_t size;
    char etag[OSS_ETAG_SIZE];
    bool has_crc;
    uint64_t crc64;
};

struct oss_list_opts {
    const char *prefix;       /* or NULL */
    const char *delimiter;    /* "/" or NULL */
    const char *start_after;  /* or NULL */
    const char *continuation; /* token of the page before, or NULL */
    unsigned max_keys;        /* 1..1000; 0: 1000 */
};

struct oss_list_entry {
    char *key; /* raw bytes, unescaped; may be any hostile string but has no NUL in it */
    uint64_t size;
    time_t last_modified;
    char etag[OSS_ETAG_SIZE];
    enum oss_type type;
    char storage_class[24];
};

/*
 * One page. An entry that cannot be read (bad escape, a NUL, no size) is left out and counted in `skipped`; the
 * others stay. A page over the bounds (64 MiB, more than 1000 entries) is -EIO.
 */
struct oss_list {
    struct oss_list_entry *entries;
    size_t n_entries;
    char **prefixes; /* CommonPrefixes, each with its trailing delimiter */
    size_t n_prefixes;
    bool truncated;
    char *next; /* continuation token, NULL when not truncated; truncated without a token is -EIO */
    unsigned skipped;
    time_t date; /* the server's Date, 0 when unknown */
};
void oss_list_free(struct oss_list *list);

struct oss_upload_entry {
    char *key;
    char id[OSS_UPLOADID_SIZE];
    time_t initiated;
};
struct oss_upload_list {
    struct oss_upload_entry *entries;
    size_t n;
    bool truncated;
    char *next_key;
    char *next_id;
};
void oss_upload_list_free(struct oss_upload_list *list);

struct oss_part_list {
    struct oss_part *parts;
    size_t n;
    bool truncated;
    int next_number;
};
void oss_part_list_free(struct oss_part_list *list);

struct oss_bucket_info {
    char location[64]; /* "oss-cn-hangzhou" */
    char acl[24];
    char storage_class[24];
    char versioning[16]; /* "", "Enabled" or "Suspended" */
    bool hierarchical;
    time_t created;
};
struct oss_bucket_stat {
    uint64_t storage; /* bytes */
    uint64_t objects, multipart_uploads;
};

/* -------------------------------------------------------------------------------------------- operations */

struct oss_ops {
    /* HeadObject. A symlink object is followed, as the service does; `out->type` is then OSS_TYPE_SYMLINK. */
    int (*head)(struct oss *oss, const char *key, struct oss_object *out, struct oss_error *err);

    /*
     * GetObject of [offset, offset + length), or of the whole object (offset 0, length OSS_WHOLE). `if_match` is
     * an ETag or NULL. The reply is believed only when status, Content-Range and length fit the question; a 200
     * for a range is read up to what was asked for only if the range begins at 0, else it is -EIO. A range
     * beyond the end delivers what there is. A whole download is compared with the object's CRC-64; on a
     * mismatch the operation ends with -EIO (after the bytes were delivered: the caller must not believe them
     * before the return). `out` may be NULL.
     */
    int (*get)(struct oss *oss, const char *key, uint64_t offset, uint64_t length, const char *if_match,
               const struct oss_sink *sink, struct oss_object *out, struct oss_error *err);

    /*
     * PutObject. `out` (may be NULL): size, etag, crc64, date; last_modified is the server's Date. The CRC goes
     * with the request (a damaged body is refused and the old object stays) and the reply's is compared.
     */
    int (*put)(struct oss *oss, const char *key, const struct oss_source *source, const struct oss_put_opts *opts,
               struct oss_object *out, struct oss_error *err);

    /*
     * AppendObject at `position`. Never repeated after it may have been applied: err->ambiguous tells that, and
     * err->next_position what the service last said of the length. Content-MD5 goes with the request. `out`
     * (may be NULL): size and append_position after it, crc64 of the whole object.
     */
    int (*append)(struct oss *oss, const char *key, uint64_t position, const struct oss_source *source,
                  const struct oss_put_opts *opts, struct oss_object *out, struct oss_error *err);

    /*
     * CopyObject within the bucket; from = to changes the metadata. `out` (may be NULL): etag, last_modified, crc64
     * when the service tells. When a repeat after a lost reply meets 412, the target is asked (HEAD): carrying
     * the metadata that was sent, it is a success.
     */
    int (*copy)(struct oss *oss, const char *from, const char *to, const struct oss_copy_opts *opts,
                struct oss_object *out, struct oss_error *err);

    /* DeleteObject: 0 also when there was none. */
    int (*delete)(struct oss *oss, const char *key, struct oss_error *err);

    /*
     * DeleteMultipleObjects, at most 1000 keys. deleted[i] (may be NULL) tells whether the service named key i as
     * deleted. 0 when the request was answered, whatever became of single keys.
     */
    int (*delete_many)(struct oss *oss, const char *const *keys, size_t n, bool *deleted, struct oss_error *err);

    /* ListObjectsV2, one page, encoding-type=url. */
    int (*list)(struct oss *oss, const struct oss_list_opts *opts, struct oss_list *out, struct oss_error *err);

    /* InitiateMultipartUpload. A lost reply leaves an upload behind: err->ambiguous tells so even after 0. */
    int (*initiate)(struct oss *oss, const char *key, const struct oss_put_opts *opts, char id[OSS_UPLOADID_SIZE],
                    struct oss_error *err);

    /* UploadPart, with the CRC as for put. out: number, size, etag, crc64. */
    int (*upload_part)(struct oss *oss, const char *key, const char *id, int number, const struct oss_source *source,
                       struct oss_part *out, struct oss_error *err);

    /* UploadPartCopy of [offset, offset + length) of `from`, tied to its ETag (required). */
    int (*copy_part)(struct oss *oss, const char *key, const char *id, int number, const char *from,
                     const char *if_match, uint64_t offset, uint64_t length, struct oss_part *out,
                     struct oss_error *err);

    /*
     * CompleteMultipartUpload of the parts (ascending), or of all (parts NULL: x-oss-complete-all). `size` is the
     * expected length and `crc64`, when has_crc, the expected CRC: both are compared with the reply, and with a
     * HEAD when a repeat meets NoSuchUpload (equal: success; else -EIO). opts->headers: x-oss-object-acl only.
     */
    int (*complete)(struct oss *oss, const char *key, const char *id, const struct oss_part *parts, size_t n,
                    uint64_t size, bool has_crc, uint64_t crc64, const struct oss_put_opts *opts,
                    struct oss_object *out, struct oss_error *err);

    /* AbortMultipartUpload: 0 also when the upload is unknown or done. */
    int (*abort)(struct oss *oss, const char *key, const char *id, struct oss_error *err);

    /* ListParts above part number `after`, one page. */
    int (*list_parts)(struct oss *oss, const char *key, const char *id, int after, struct oss_part_list *out,
                      struct oss_error *err);

    /* ListMultipartUploads of a prefix (or NULL), one page; key and id of the last of the page before, or NULL. */
    int (*list_uploads)(struct oss *oss, const char *prefix, const char *key_marker, const char *id_marker,
                        struct oss_upload_list *out, struct oss_error *err);

    /* PutSymlink, GetSymlink: `target` is a raw key of the same bucket. */
    int (*put_symlink)(struct oss *oss, const char *key, const char *target, const struct oss_put_opts *opts,
                       struct oss_object *out, struct oss_error *err);
    int (*get_symlink)(struct oss *oss, const char *key, char target[OSS_KEY_MAX + 1], struct oss_object *out,
                       struct oss_error *err);

    /* GetObjectACL, PutObjectACL: "default", "private", "public-read", "public-read-write". */
    int (*get_acl)(struct oss *oss, const char *key, char acl[24], struct oss_error *err);
    int (*put_acl)(struct oss *oss, const char *key, const char *acl, struct oss_error *err);

    /* GetObjectTagging, as the value of an x-oss-tagging header ("k=v&k2=v2", escaped); "" when untagged. */
    int (*get_tagging)(struct oss *oss, const char *key, char **tagging, struct oss_error *err);
    /* PutObjectTagging of such a value: replaces all tags, "" removes them (DeleteObjectTagging). -EINVAL. */
    int (*put_tagging)(struct oss *oss, const char *key, const char *tagging, struct oss_error *err);

    /*
     * RestoreObject of an archived object for `days` (1 to 365); `tier` "Expedited", "Standard", "Bulk" or NULL. 0:
     * asked for, or (`*done`) readable already. -EALREADY while an earlier restoration goes on. -ENOTSUP for an
     * object that is not archived.
     */
    int (*restore)(struct oss *oss, const char *key, unsigned days, const char *tier, bool *done,
                   struct oss_error *err);

    /* GetBucketInfo, GetBucketStat. */
    int (*bucket_info)(struct oss *oss, struct oss_bucket_info *out, struct oss_error *err);
    int (*bucket_stat)(struct oss *oss, struct oss_bucket_stat *out, struct oss_error *err);
};

#endif
