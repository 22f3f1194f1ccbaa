/*
 * store_log.c: the file DIR/index.log, which makes a store in a directory survive restarts and kill -9.
 *
 * Format: the 8 bytes "ossdlog1", then records: length of the body (32 bits), check (the low 32 bits of the body's
 * CRC-64), body. Integers have the machine's order (a store is not moved between machines); strings and byte strings
 * are a 32-bit length and the bytes. The body begins with a letter:
 *
 *   B bucket name, acl, created          b bucket name (removed)
 *   O bucket name, object                o bucket name, key (removed)
 *   U bucket name, upload                u bucket name, key, id (aborted)
 *   P bucket name, key, id, part         C bucket name, key, id, object (completed: u and O in one step)
 *
 * One write() for each record, after the bytes that it refers to were written; a torn or damaged tail ends the
 * reading and is cut off. Bodies refer to blobs by number. At start the log is rewritten when most of it is out of
 * date. Nothing is fsynced: it survives the end of the process, not that of the machine.
 */
#include "crc.h"
#include "store_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "ossdlog1"

struct store_log {
    int fd;
    uint64_t size;
    struct sbuf record; /* the one being made */
};

/* ----------------------------------------------------------------------------------------------- writing */

static void put_int(struct sbuf *b, uint64_t v)
{
    sbuf_add(b, &v, sizeof v);
}

static void put_bytes(struct sbuf *b, const void *p, size_t n)
{
    uint32_t size = (uint32_t)n;

    sbuf_add(b, &size, sizeof size);
    sbuf_add(b, p, n);
}

static void put_text(struct sbuf *b, const char *s)
{
    put_bytes(b, s, strlen(s));
}

/* NULL and "" differ. */
static void put_optional(struct sbuf *b, const char *s)
{
    sbuf_addc(b, s ? 1 : 0);
    if (s)
        put_text(b, s);
}

static void put_segments(struct sbuf *b, const struct segment *segments, size_t n)
{
    put_int(b, n);
    for (size_t i = 0; i < n; i++) {
        put_int(b, blob_id(segments[i].blob));
        put_int(b, segments[i].offset);
        put_int(b, segments[i].length);
    }
}

static void put_object(struct sbuf *b, const struct object *o)
{
    put_bytes(b, o->key.p, o->key.n);
    sbuf_addc(b, (char)o->type);
    sbuf_addc(b, (char)o->acl);
    sbuf_addc(b, o->has_md5);
    sbuf_addc(b, o->copied);
    sbuf_add(b, o->md5, sizeof o->md5);
    put_int(b, o->size);
    put_int(b, o->crc);
    put_int(b, (uint64_t)o->mtime);
    put_text(b, o->etag);
    put_bytes(b, o->headers, o->headers_n);
    put_optional(b, o->tags);
    put_optional(b, o->target);
    put_segments(b, o->segments, o->n_segments);
}

static void put_part(struct sbuf *b, const struct part *p)
{
    put_int(b, (uint64_t)p->number);
    put_int(b, p->size);
    put_int(b, p->crc);
    put_int(b, (uint64_t)p->mtime);
    put_text(b, p->etag);
    put_segments(b, p->segments, p->n_segments);
}

static void put_upload(struct sbuf *b, const struct upload *u)
{
    put_text(b, u->id);
    put_int(b, (uint64_t)u->initiated);
    sbuf_addc(b, u->sequential);
    sbuf_addc(b, u->forbid_overwrite);
    put_object(b, u->model);
}

static struct sbuf *record_begin(struct store_log *log, char letter, const char *bucket)
{
    struct sbuf *b = &log->record;

    b->n = 0;
    sbuf_add(b, "\0\0\0\0\0\0\0\0", 8);
    sbuf_addc(b, letter);
    put_text(b, bucket);
    return b;
}

static int record_end(struct store_log *log)
{
    struct sbuf *b = &log->record;
    uint32_t size = (uint32_t)(b->n - 8), check = (uint32_t)crc_update(0, b->p + 8, b->n - 8);

    memcpy(b->p, &size, 4);
    memcpy(b->p + 4, &check, 4);
    for (size_t done = 0; done < b->n;) {
        ssize_t n = pwrite(log->fd, b->p + done, b->n - done, (off_t)(log->size + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int r = n < 0 ? -errno : -EIO;
            if (ftruncate(log->fd, (off_t)log->size))
                return -EIO;
            return r;
        }
        done += (size_t)n;
    }
    log->size += b->n;
    return 0;
}

int log_bucket(struct store_log *log, const struct bucket *bucket)
{
    if (!log)
        return 0;
    struct sbuf *b = record_begin(log, 'B', bucket->name);
    put_int(b, bucket->acl);
    put_int(b, (uint64_t)bucket->created);
    return record_end(log);
}

int log_bucket_gone(struct store_log *log, const char *name)
{
    if (!log)
        return 0;
    record_begin(log, 'b', name);
    return record_end(log);
}

int log_object(struct store_log *log, const char *bucket, const struct object *object)
{
    if (!log)
        return 0;
    put_object(record_begin(log, 'O', bucket), object);
    return record_end(log);
}

int log_object_gone(struct store_log *log, const char *bucket, struct bytes key)
{
    if (!log)
        return 0;
    put_bytes(record_begin(log, 'o', bucket), key.p, key.n);
    return record_end(log);
}

int log_upload(struct store_log *log, const char *bucket, const struct upload *upload)
{
    if (!log)
        return 0;
    put_upload(record_begin(log, 'U', bucket), upload);
    return record_end(log);
}

static struct sbuf *upload_record(struct store_log *log, char letter, const char *bucket, const struct upload *upload)
{
    struct sbuf *b = record_begin(log, letter, bucket);

    put_bytes(b, upload->model->key.p, upload->model->key.n);
    put_text(b, upload->id);
    return b;
}

int log_part(struct store_log *log, const char *bucket, const struct upload *upload, const struct part *part)
{
    if (!log)
        return 0;
    put_part(upload_record(log, 'P', bucket, upload), part);
    return record_end(log);
}

int log_upload_gone(struct store_log *log, const char *bucket, const struct upload *upload)
{
    if (!log)
        return 0;
    upload_record(log, 'u', bucket, upload);
    return record_end(log);
}

int log_complete(struct store_log *log, const char *bucket, const struct upload *upload, const struct object *object)
{
    if (!log)
        return 0;
    put_object(upload_record(log, 'C', bucket, upload), object);
    return record_end(log);
}

/* ----------------------------------------------------------------------------------------------- reading */

/* What is left of a record; `bad` once it was too short, and then everything reads as zero. */
struct input {
    struct store *store;
    const char *p;
    size_t n;
    bool bad;
};

static const char *get_raw(struct input *in, size_t n)
{
    const char *p = in->p;

    if (in->bad || in->n < n) {
        in->bad = true;
        return NULL;
    }
    in->p += n;
    in->n -= n;
    return p;
}

static uint64_t get_int(struct input *in)
{
    uint64_t v = 0;
    const char *p = get_raw(in, sizeof v);

    if (p)
        memcpy(&v, p, sizeof v);
    return v;
}

static unsigned get_byte(struct input *in)
{
    const char *p = get_raw(in, 1);

    return p ? (unsigned char)*p : 0;
}

static struct bytes get_bytes(struct input *in)
{
    uint32_t n = 0;
    const char *p = get_raw(in, sizeof n);

    if (p)
        memcpy(&n, p, sizeof n);
    p = get_raw(in, n);
    return p ? (struct bytes){p, n} : (struct bytes){"", 0};
}

static void get_text(struct input *in, char *out, size_t size)
{
    struct bytes s = get_bytes(in);

    if (s.n >= size)
        in->bad = true;
    else
        memcpy(out, s.p, s.n);
    out[s.n < size ? s.n : 0] = '\0';
}

static char *get_optional(struct input *in)
{
    if (!get_byte(in))
        return NULL;
    struct bytes s = get_bytes(in);
    return xmemdup(s.p, s.n);
}

static size_t get_segments(struct input *in, struct segment **out)
{
    uint64_t n = get_int(in);

    if (n > in->n / 24)
        in->bad = true;
    if (in->bad)
        return 0;
    *out = xcalloc(n, sizeof **out);
    for (uint64_t i = 0; i < n; i++) {
        (*out)[i].blob = blob_by_id(in->store->blobs, get_int(in));
        (*out)[i].offset = get_int(in);
        (*out)[i].length = get_int(in);
    }
    return n;
}

static struct object *get_object(struct input *in)
{
    struct object *o = object_new(get_bytes(in));

    o->type = get_byte(in) & 3;
    o->acl = get_byte(in) & 3;
    o->has_md5 = get_byte(in);
    o->copied = get_byte(in);
    const char *md5 = get_raw(in, sizeof o->md5);
    if (md5)
        memcpy(o->md5, md5, sizeof o->md5);
    o->size = get_int(in);
    o->crc = get_int(in);
    o->mtime = (time_t)get_int(in);
    get_text(in, o->etag, sizeof o->etag);
    struct bytes headers = get_bytes(in);
    o->headers = headers.n ? xmemdup(headers.p, headers.n) : NULL;
    o->headers_n = headers.n;
    o->tags = get_optional(in);
    o->target = get_optional(in);
    o->n_segments = get_segments(in, &o->segments);
    return o;
}

static struct part *get_part(struct input *in)
{
    struct part *p = part_new((int)get_int(in));

    p->size = get_int(in);
    p->crc = get_int(in);
    p->mtime = (time_t)get_int(in);
    get_text(in, p->etag, sizeof p->etag);
    p->n_segments = get_segments(in, &p->segments);
    return p;
}

static struct upload *get_upload(struct input *in)
{
    char id[UPLOAD_ID_SIZE];

    get_text(in, id, sizeof id);
    time_t initiated = (time_t)get_int(in);
    bool sequential = get_byte(in), forbid = get_byte(in);
    struct upload *u = upload_new(get_object(in), id);
    u->initiated = initiated;
    u->sequential = sequential;
    u->forbid_overwrite = forbid;
    return u;
}

static struct upload *get_upload_name(struct input *in, struct bucket *bucket)
{
    struct bytes key = get_bytes(in), id = get_bytes(in);
    struct sbuf name = {0};

    sbuf_add(&name, key.p, key.n);
    sbuf_add(&name, "", 1);
    sbuf_add(&name, id.p, id.n);
    struct upload *upload = bucket ? index_find(bucket->uploads, (struct bytes){name.p, name.n}) : NULL;
    sbuf_free(&name);
    return upload;
}

static void apply_bucket(struct input *in, const char *name, struct bucket *bucket)
{
    enum acl acl = get_int(in) & 3;
    time_t created = (time_t)get_int(in);

    if (bucket)
        bucket->acl = acl;
    else
        bucket_new(in->store, name, acl, created);
}

static void apply_object(struct input *in, struct bucket *bucket)
{
    struct object *object = get_object(in);

    object_unref(bucket && !in->bad ? bucket_set_object(bucket, object) : object);
}

static void apply_upload(struct input *in, struct bucket *bucket)
{
    struct upload *upload = get_upload(in);

    if (bucket && !in->bad)
        index_put(bucket->uploads, upload->name, upload);
    else
        upload_unref(upload);
}

static void apply_part(struct input *in, struct upload *upload)
{
    struct part *part = get_part(in);

    if (upload && !in->bad)
        upload_set_part(upload, part);
    else
        part_unref(part);
}

static bool apply(struct store *store, const char *body, size_t n)
{
    struct input in = {store, body, n, false};
    char name[64];
    unsigned letter = get_byte(&in);
    struct upload *upload;

    get_text(&in, name, sizeof name);
    struct bucket *bucket = bucket_find(store, name);
    switch (letter) {
    case 'B':
        apply_bucket(&in, name, bucket);
        break;
    case 'b':
        if (bucket)
            bucket_drop(store, bucket);
        break;
    case 'O':
        apply_object(&in, bucket);
        break;
    case 'o':
        if (bucket)
            object_unref(bucket_drop_object(bucket, get_bytes(&in)));
        break;
    case 'U':
        apply_upload(&in, bucket);
        break;
    case 'P':
        upload = get_upload_name(&in, bucket);
        apply_part(&in, upload);
        break;
    case 'u':
    case 'C':
        upload = get_upload_name(&in, bucket);
        if (upload)
            bucket_drop_upload(bucket, upload);
        if (letter == 'C')
            apply_object(&in, bucket);
        break;
    default:
        return false;
    }
    return !in.bad;
}

/* Applies all whole records; the offset behind the last one. */
static uint64_t replay(struct store *store, const char *p, uint64_t size, uint64_t *records)
{
    uint64_t at = 8;

    *records = 0;
    while (size - at >= 8) {
        uint32_t n, check;
        memcpy(&n, p + at, 4);
        memcpy(&check, p + at + 4, 4);
        if (n > size - at - 8 || check != (uint32_t)crc_update(0, p + at + 8, n) || !apply(store, p + at + 8, n))
            break;
        at += 8 + n;
        ++*records;
    }
    return at;
}

/* ------------------------------------------------------------------------------------------- open, close */

static int write_all(struct store *store, struct store_log *log)
{
    const struct bytes least = {"", 0};
    int r = 0;

    for (struct bucket *b = store->buckets; b && !r; b = b->next) {
        r = log_bucket(log, b);
        for (const struct index_node *n = index_seek(b->objects, least, false); n && !r; n = index_next(n))
            r = log_object(log, b->name, index_value(n));
        for (const struct index_node *n = index_seek(b->uploads, least, false); n && !r; n = index_next(n)) {
            struct upload *upload = index_value(n);
            r = log_upload(log, b->name, upload);
            for (size_t i = 0; i < upload->n_parts && !r; i++)
                r = log_part(log, b->name, upload, upload->parts[i]);
        }
    }
    return r;
}

static uint64_t live_records(const struct store *store)
{
    uint64_t n = 0;

    for (struct bucket *b = store->buckets; b; b = b->next)
        n += 1 + index_count(b->objects) + index_count(b->uploads);
    return n;
}

/* Writes a log of what is there now beside the old one and puts it in its place. */
static int rewrite(struct store *store, struct store_log *log, const char *path)
{
    struct sbuf beside = {0};
    struct store_log fresh = {.size = 8};
    int r = 0;

    sbuf_addf(&beside, "%s.new", path);
    fresh.fd = open(beside.p, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fresh.fd < 0 || flock(fresh.fd, LOCK_EX | LOCK_NB) || pwrite(fresh.fd, MAGIC, 8, 0) != 8)
        r = -EIO;
    if (!r)
        r = write_all(store, &fresh);
    if (!r && rename(beside.p, path))
        r = -errno;
    if (r) {
        if (fresh.fd >= 0)
            close(fresh.fd);
    } else {
        close(log->fd);
        log->fd = fresh.fd;
        log->size = fresh.size;
    }
    sbuf_free(&fresh.record);
    sbuf_free(&beside);
    return r;
}

static int load(struct store *store, struct store_log *log, const char *path)
{
    struct stat st;
    uint64_t records;

    if (fstat(log->fd, &st))
        return -errno;
    if (st.st_size == 0) {
        log->size = 8;
        return pwrite(log->fd, MAGIC, 8, 0) == 8 ? 0 : -EIO;
    }
    if (st.st_size < 8)
        return -EINVAL;
    char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, log->fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    bool ours = memcmp(p, MAGIC, 8) == 0;
    if (ours)
        log->size = replay(store, p, (uint64_t)st.st_size, &records);
    munmap(p, (size_t)st.st_size);
    if (!ours)
        return -EINVAL;
    if (records > 1000 && records / 2 > live_records(store))
        return rewrite(store, log, path);
    return ftruncate(log->fd, (off_t)log->size) ? -errno : 0;
}

int log_open(struct store *store, const char *path, char *error, size_t error_size)
{
    struct store_log *log = xcalloc(1, sizeof *log);
    int r = 0;

    store->log = log;
    log->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log->fd < 0)
        r = -errno;
    else if (flock(log->fd, LOCK_EX | LOCK_NB))
        r = -EBUSY;
    else
        r = load(store, log, path);
    if (r)
        snprintf(error, error_size, "%s: %s", path,
                 r == -EBUSY    ? "another server uses this directory"
                 : r == -EINVAL ? "not a log of this server"
                                : strerror(-r));
    return r;
}

void log_close(struct store_log *log)
{
    if (!log)
        return;
    if (log->fd >= 0)
        close(log->fd);
    sbuf_free(&log->record);
    free(log);
}
