/*
 * attr.h: what an object says about the file it is. Pure, no locks.
 *
 * Attributes are stored as user metadata in the forms that ossfs writes, so that a bucket can be used by both:
 *
 *      x-oss-meta-mode      st_mode with its type bits, decimal
 *      x-oss-meta-uid, -gid decimal
 *      x-oss-meta-mtime     seconds since 1970, decimal
 *      x-oss-meta-mtime-ns  "SECONDS-NANOSECONDS": ours; believed only while SECONDS equals x-oss-meta-mtime, so a
 *                           tool that knows only the field above cannot leave a wrong fraction behind
 *      x-oss-meta-mtime-size  decimal: on an appendable object, whose metadata an append cannot change. The mtime
 * above is believed only while the object has this size; else it is Last-Modified x-oss-meta-xattr     URL-escaped
 * JSON {"user.name":"base64",...}: attributes that fit no header of their own
 *
 * Extended attributes `user.NAME` whose NAME and value a header can carry are x-oss-meta-NAME themselves.
 */
#ifndef CACHE_ATTR_H
#define CACHE_ATTR_H

#include "../oss/oss.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct attr {
    uint32_t mode; /* type and permission bits */
    uint32_t uid, gid;
    struct timespec mtime, ctime;
    uint64_t size; /* bytes */
};

/* What a file without stored attributes looks like. */
struct attr_defaults {
    uint32_t uid, gid;
    uint32_t file_mode, dir_mode; /* permission bits */
};

/*
 * An object as it stands (or stood) in the bucket. Immutable once shared, counted references: a new state is a new
 * struct. Release with oinfo_put().
 */
struct oinfo {
    atomic_uint refs;
    struct attr attr;
    char etag[OSS_ETAG_SIZE];
    time_t last_modified;
    enum oss_type type;
    bool is_marker; /* of a directory: an object stands behind it */
    bool has_crc;
    bool acl_default; /* we wrote it, or have asked: its ACL is `default` */
    /*
     * Last-Modified has a resolution of one second. young: read less than two seconds after it, so another change may
     * have followed that shows in nothing. own: written by us, not read. fuzzy: we were not told the Last-Modified of
     * what we wrote; it is the server's Date then, and may be a second off.
     */
    bool young, own, fuzzy;
    bool bare;   /* made from a listing alone: what headers the object has is not known */
    bool tagged; /* it has tags */
    uint64_t crc64;
    struct kvlist headers;        /* to be carried over; without the attribute headers above except -xattr */
    char *link;                   /* a symlink's target when known, else NULL */
    struct timespec stored_mtime; /* what the object carries: a directory's attr.mtime moves on with its entries */
};

/* A new one with one reference, NULL when out of memory. `object` NULL: a directory without a marker. */
struct oinfo *oinfo_from_object(const struct oss_object *object, const struct attr_defaults *defaults, bool is_dir);
/* A copy that may still be changed. */
struct oinfo *oinfo_clone(const struct oinfo *info);
struct oinfo *oinfo_get(struct oinfo *info);
void oinfo_put(struct oinfo *info); /* NULL is allowed */
/*
 * Is it the same Last-Modified? `fuzzy`: what is known is the server's Date when we wrote, which may be a second off.
 */
bool attr_same_time(time_t known, time_t told, bool fuzzy);
/* Is it of the version that a listing has shown? A change of attributes alone leaves ETag and size as they were. */
bool oinfo_is_version(const struct oinfo *info, const char *etag, time_t last_modified, uint64_t size);

/* Sets the attribute headers of `attr` in `to`. 0 or -ENOMEM. */
int attr_to_headers(struct kvlist *to, const struct attr *attr);

/* The mtime in these headers is that of an appendable object of `size` bytes, and of no longer one. 0 or -ENOMEM. */
int attr_mtime_for_size(struct kvlist *to, uint64_t size);

/* Takes the attribute headers out: what is left is carried over as it is. */
void attr_strip_headers(struct kvlist *headers);

/*
 * Extended attributes kept in object headers. `name` is the full name ("user.color").
 * get: the length, or -ENODATA; *value is malloc'ed (NUL-terminated beyond its length).
 * set: 0, -EOPNOTSUPP for a name outside user.*, -EINVAL for "user." itself, -ENOSPC beyond the service's 8 KB,
 * -ENOMEM. flags: XATTR_CREATE, XATTR_REPLACE. remove: 0 or -ENODATA. list: the names, each with its NUL, malloc'ed;
 * the length or -ENOMEM.
 */
ssize_t xattr_get(const struct kvlist *headers, const char *name, char **value);
int xattr_set(struct kvlist *headers, const char *name, const void *value, size_t size, int flags);
int xattr_remove(struct kvlist *headers, const char *name);
ssize_t xattr_list(const struct kvlist *headers, char **names);

#endif
