/*
 * store.h: buckets, objects and multipart uploads, in memory or in a directory that survives restarts.
 *
 * An object is immutable: a change puts another in its place, and who still holds the old one reads the old bytes to
 * the end. One lock guards the maps; no body is read or written under it. In a directory each change is one record
 * of a log (store_log.c), written before it can be seen. Keys are any bytes; the rules for names are the caller's.
 *
 * Errors are negative errno: -ENOENT no such bucket (or what the function says), -EEXIST, -ESTALE.
 */
#ifndef OSSD_STORE_H
#define OSSD_STORE_H

#include "blob.h"

#include <stdatomic.h>

enum object_type { OBJECT_NORMAL, OBJECT_MULTIPART, OBJECT_APPENDABLE, OBJECT_SYMLINK };
const char *object_type_name(enum object_type type);

enum acl { ACL_DEFAULT, ACL_PRIVATE, ACL_PUBLIC_READ, ACL_PUBLIC_READ_WRITE, ACL_BAD };
const char *acl_name(enum acl acl);
enum acl acl_parse(const char *name); /* ACL_BAD when unknown */

#define ETAG_SIZE      48
#define UPLOAD_ID_SIZE 33

struct object {
    atomic_uint refs;
    enum object_type type;
    enum acl acl;
    bool has_md5;
    bool copied; /* made by a server-side copy: see --crc-header=copies */
    unsigned char md5[16];
    uint64_t size, crc;
    time_t mtime;
    char etag[ETAG_SIZE];
    char *headers; /* name NUL value NUL ...: Content-Type, x-oss-meta-* and so on; names in lower case */
    size_t headers_n;
    char *tags;   /* "k=v&k2=v2", escaped, or NULL */
    char *target; /* of a symlink, raw, or NULL */
    /* Of an archived object: when (CLOCK_MONOTONIC) it is restored, 0: not asked for, and until when. In memory only.
     */
    int64_t restored_ms;
    time_t restored_until;
    struct segment *segments;
    size_t n_segments;
    struct bytes key; /* points behind the struct */
};

struct object *object_new(struct bytes key);                              /* one reference, all else zero */
struct object *object_clone(const struct object *from, struct bytes key); /* shares the bytes */
struct object *object_ref(struct object *object);
void object_unref(struct object *object); /* NULL is allowed */
const char *object_header(const struct object *object, const char *name);
/* The next pair after `value` (NULL: the first); NULL at the end. */
const char *object_next_header(const struct object *object, const char *value, const char **name);
void object_set_headers(struct object *object, const struct pairs *headers);

struct part {
    atomic_uint refs;
    int number;
    uint64_t size, crc;
    time_t mtime;
    char etag[ETAG_SIZE];
    struct segment *segments;
    size_t n_segments;
};
struct part *part_new(int number);
struct part *part_ref(struct part *part);
void part_unref(struct part *part);

struct upload {
    atomic_uint refs;
    time_t initiated;
    bool sequential, forbid_overwrite;
    char id[UPLOAD_ID_SIZE];
    struct object *model;      /* what the object will carry; its key is the upload's */
    struct bytes name;         /* key NUL id */
    struct part **parts;       /* by number; the store's lock */
    size_t n_parts, cap_parts; /* the store's lock */
    bool gone;                 /* aborted or completed; the store's lock */
};
struct upload *upload_new(struct object *model /* taken */, const char *id);
void upload_unref(struct upload *upload);

struct store;

/* `dir` NULL: in memory. NULL with a message in `error` when it cannot be opened. */
struct store *store_open(const char *dir, char *error, size_t error_size);
void store_close(struct store *store);
struct blobs *store_blobs(struct store *store);

/* ----------------------------------------------------------------------------------------------- buckets */

struct bucket_info {
    char name[64];
    time_t created;
    enum acl acl;
    uint64_t objects, bytes, uploads, parts, part_bytes;
};
int store_bucket_add(struct store *store, const char *name, enum acl acl, time_t now); /* -EEXIST */
int store_bucket_remove(struct store *store, const char *name);                        /* -ENOTEMPTY */
int store_bucket_set_acl(struct store *store, const char *name, enum acl acl);
int store_bucket_info(struct store *store, const char *name, struct bucket_info *out);
size_t store_buckets(struct store *store, struct bucket_info **out); /* by name; to be freed */
bool store_has_bucket(struct store *store, const char *name, enum acl *acl);

/* ----------------------------------------------------------------------------------------------- objects */

struct object *store_get(struct store *store, const char *bucket, struct bytes key); /* a reference, or NULL */

/*
 * Puts the object (the reference is taken, also on failure) in place of the one of its key. -EEXIST with
 * `forbid_overwrite` when there is one. With `tied`, -ESTALE unless `expected` (NULL: none) is the current one.
 */
struct store_put_opts {
    bool forbid_overwrite;
    bool tied;
    const struct object *expected;
};
int store_put(struct store *store, const char *bucket, struct object *object, const struct store_put_opts *opts);
int store_remove(struct store *store, const char *bucket, struct bytes key); /* 0 also when there was none */

/* One page in key order. */
struct store_list {
    struct bytes prefix, delimiter; /* delimiter.n 0: none */
    struct bytes after;             /* keys beyond this; a common prefix equal to it is passed over */
    size_t max;
    /* out */
    struct object **objects;
    size_t n_objects;
    char **prefixes; /* common prefixes, with their lengths: they may hold any byte */
    size_t *prefix_sizes;
    size_t n_prefixes;
    bool truncated;
    struct sbuf last; /* the last key or common prefix of the page */
};
int store_list(struct store *store, const char *bucket, struct store_list *list);
void store_list_free(struct store_list *list);

/* ----------------------------------------------------------------------------------------------- uploads */

int store_upload_add(struct store *store, const char *bucket, struct upload *upload); /* takes the reference */
struct upload *store_upload_get(struct store *store, const char *bucket, struct bytes key, const char *id);
/* Takes the part. -ENOENT when the upload is gone; sequential: -EEXIST (repeat), -ERANGE (jump). */
int store_upload_part(struct store *store, const char *bucket, struct upload *upload, struct part *part);
/* All parts in order, each with a reference; the count. parts_free() releases them. */
size_t store_upload_parts(struct store *store, struct upload *upload, struct part ***parts);
void parts_free(struct part **parts, size_t n);
int store_upload_remove(struct store *store, const char *bucket, struct upload *upload); /* -ENOENT: gone */
/* Ends the upload and puts the object (taken), in one step. */
int store_upload_complete(struct store *store, const char *bucket, struct upload *upload, struct object *object,
                          bool forbid_overwrite);

/* One page in (key, id) order; each upload with a reference. */
struct store_upload_list {
    struct bytes prefix, delimiter;
    struct bytes key_marker;
    const char *id_marker; /* or NULL */
    size_t max;
    struct upload **uploads;
    size_t n_uploads;
    char **prefixes;
    size_t *prefix_sizes;
    size_t n_prefixes;
    bool truncated;
    struct sbuf last_key;
    char last_id[UPLOAD_ID_SIZE];
};
int store_list_uploads(struct store *store, const char *bucket, struct store_upload_list *list);
void store_upload_list_free(struct store_upload_list *list);

#endif
