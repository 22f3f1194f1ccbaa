#include "fake_oss.h"

#include "../../oss/base_list.h"
#include "../../oss/crc64.h"
#include "../../oss/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK      16384 /* bytes handed over at a time */
#define PATIENCE_S 10

struct object {
    struct list link; /* in the order of the keys */
    char *key, *data;
    size_t size;
    char etag[OSS_ETAG_SIZE];
    char acl[24];
    time_t modified;
    enum oss_type type;
    struct kvlist headers;
};

struct part {
    struct list link;
    struct oss_part part;
    char *data;
};

struct upload {
    struct list link, parts;
    char *key;
    char id[OSS_UPLOADID_SIZE];
    struct kvlist headers;
};

struct fake_oss {
    struct oss oss;     /* must be first */
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t cond;
    struct list objects, uploads;
    struct fake_fault fault;
    bool has_fault;
    unsigned seen, met; /* requests that match the fault since it was set; of these those that met it */
    unsigned requests[OSS_OPS + 1];
    struct {
        bool shut;
        enum fake_gate where;
    } gates[OSS_OPS];
    unsigned standing;
    unsigned long next_id;
    bool no_appendable_copies, rename_copies;
    unsigned copies;
    fake_published *published;
    void *arg;
};

static struct fake_oss *of(struct oss *oss)
{
    return (struct fake_oss *)oss;
}

/* --------------------------------------------------------------------------------------- faults and gates */

static void gate(struct fake_oss *fake, enum oss_op op, enum fake_gate where)
{
    pthread_mutex_lock(&fake->mu);
    if (fake->gates[op].shut && fake->gates[op].where == where) {
        fake->standing++;
        pthread_cond_broadcast(&fake->cond);
        while (fake->gates[op].shut)
            pthread_cond_wait(&fake->cond, &fake->mu);
        fake->standing--;
    }
    pthread_mutex_unlock(&fake->mu);
}

static int refuse(struct oss_error *err, int r, int status, const char *code)
{
    if (!err)
        return r;
    error_reset(err);
    err->err = r;
    err->status = status;
    err->tries = 1;
    snprintf(err->code, sizeof(err->code), "%s", code);
    snprintf(err->message, sizeof(err->message), "said by the test");
    return r;
}

/* Counts the request. 0, or what the fault says; *lost: carry it out, and report end() instead. */
static int begin(struct fake_oss *fake, enum oss_op op, bool *lost, struct oss_error *err)
{
    struct fake_fault f = {.kind = FAKE_FAIL};
    bool hit = false;

    *lost = false;
    if (err)
        error_reset(err);
    pthread_mutex_lock(&fake->mu);
    fake->requests[op]++;
    fake->requests[FAKE_ANY_OP]++;
    if (fake->has_fault && (fake->fault.op == op || fake->fault.op == FAKE_ANY_OP)) {
        f = fake->fault;
        fake->seen++;
        hit = fake->seen >= f.nth && fake->seen - f.nth < f.count;
        fake->met += hit;
    }
    pthread_mutex_unlock(&fake->mu);
    gate(fake, op, FAKE_GATE_BEGIN);
    if (!hit)
        return 0;
    if (f.kind == FAKE_DELAY)
        usleep(f.delay_ms * 1000);
    *lost = f.kind == FAKE_LOST;
    return f.kind == FAKE_FAIL ? refuse(err, f.err, f.code ? 400 : 0, f.code ? f.code : "") : 0;
}

/* The reply. */
static int end(struct fake_oss *fake, enum oss_op op, bool lost, int r, struct oss_error *err)
{
    gate(fake, op, FAKE_GATE_END);
    if (r || !lost)
        return r;
    r = refuse(err, -ETIMEDOUT, 0, "");
    if (err)
        err->ambiguous = true;
    return r;
}

void fake_oss_fault(struct fake_oss *fake, const struct fake_fault *fault)
{
    pthread_mutex_lock(&fake->mu);
    fake->has_fault = fault != NULL;
    if (fault)
        fake->fault = *fault;
    fake->seen = fake->met = 0;
    pthread_mutex_unlock(&fake->mu);
}

unsigned fake_oss_faults_met(struct fake_oss *fake)
{
    unsigned met;

    pthread_mutex_lock(&fake->mu);
    met = fake->met;
    pthread_mutex_unlock(&fake->mu);
    return met;
}

unsigned fake_oss_requests(struct fake_oss *fake, enum oss_op op)
{
    unsigned n;

    pthread_mutex_lock(&fake->mu);
    n = fake->requests[op];
    pthread_mutex_unlock(&fake->mu);
    return n;
}

void fake_oss_shut(struct fake_oss *fake, enum oss_op op, enum fake_gate where)
{
    pthread_mutex_lock(&fake->mu);
    fake->gates[op].shut = true;
    fake->gates[op].where = where;
    pthread_mutex_unlock(&fake->mu);
}

void fake_oss_open_one(struct fake_oss *fake, enum oss_op op)
{
    pthread_mutex_lock(&fake->mu);
    fake->gates[op].shut = false;
    pthread_cond_broadcast(&fake->cond);
    pthread_mutex_unlock(&fake->mu);
}

void fake_oss_open(struct fake_oss *fake)
{
    pthread_mutex_lock(&fake->mu);
    for (size_t i = 0; i < OSS_OPS; i++)
        fake->gates[i].shut = false;
    pthread_cond_broadcast(&fake->cond);
    pthread_mutex_unlock(&fake->mu);
}

bool fake_oss_wait(struct fake_oss *fake, unsigned n)
{
    struct timespec until;
    bool there;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&fake->mu);
    while (fake->standing < n && !pthread_cond_timedwait(&fake->cond, &fake->mu, &until))
        ;
    there = fake->standing >= n;
    pthread_mutex_unlock(&fake->mu);
    return there;
}

/* --------------------------------------------------------------------------------------------- the bucket */

/* mu held. */
static struct object *find(struct fake_oss *fake, const char *key)
{
    list_for_each (it, &fake->objects) {
        struct object *o = list_entry(it, struct object, link);

        if (!strcmp(o->key, key))
            return o;
    }
    return NULL;
}

static void object_free(struct object *o)
{
    list_del(&o->link);
    kv_free(&o->headers);
    free(o->key);
    free(o->data);
    free(o);
}

/* The name of a content: the same for the same bytes. */
static void etag_of(char etag[OSS_ETAG_SIZE], const void *data, size_t size)
{
    uint64_t crc = crc64(0, data, size);

    snprintf(etag, OSS_ETAG_SIZE, "%016llX%016llX", (unsigned long long)crc,
             (unsigned long long)(crc * 0x9e3779b97f4a7c15u + size));
}

/* mu held. Takes `data` over. */
static struct object *publish(struct fake_oss *fake, const char *key, char *data, size_t size,
                              const struct kvlist *headers, const char *etag, enum oss_type type)
{
    struct object *old = find(fake, key), *o = calloc(1, sizeof(*o));
    struct list *before = &fake->objects;
    const char *acl = headers ? kv_get(headers, "x-oss-object-acl") : NULL;

    if (!o)
        abort();
    o->key = strdup(key);
    o->data = data;
    o->size = size;
    o->type = type;
    o->modified = time(NULL);
    snprintf(o->acl, sizeof(o->acl), "%s", acl ? acl : "default");
    if (etag)
        snprintf(o->etag, sizeof(o->etag), "%s", etag);
    else
        etag_of(o->etag, data, size);
    if (!o->key || (headers && kv_copy(&o->headers, headers)))
        abort();
    kv_del(&o->headers, "x-oss-object-acl");
    list_init(&o->link);
    if (old)
        object_free(old);
    list_for_each (it, &fake->objects) {
        if (strcmp(list_entry(it, struct object, link)->key, key) > 0) {
            before = it;
            break;
        }
    }
    list_add_tail(before, &o->link);
    if (fake->published)
        fake->published(fake->arg, key, data, size);
    return o;
}

static int describe(const struct object *o, struct oss_object *out)
{
    if (!out)
        return 0;
    *out = (struct oss_object){
        .size = o->size,
        .last_modified = o->modified,
        .date = time(NULL),
        .type = o->type,
        .has_crc = true,
        .crc64 = crc64(0, o->data, o->size),
        .append_position = -1,
    };
    if (o->type == OSS_TYPE_APPENDABLE)
        out->append_position = (int64_t)o->size;
    memcpy(out->etag, o->etag, sizeof(out->etag));
    return 0;
}

int fake_oss_store(struct fake_oss *fake, const char *key, const void *data, size_t size,
                   const struct kvlist *headers, const char *acl)
{
    char *copy = malloc(size + 1);
    struct object *o;

    if (!copy)
        return -ENOMEM;
    memcpy(copy, data, size);
    pthread_mutex_lock(&fake->mu);
    o = publish(fake, key, copy, size, headers, NULL, OSS_TYPE_NORMAL);
    if (acl)
        snprintf(o->acl, sizeof(o->acl), "%s", acl);
    pthread_mutex_unlock(&fake->mu);
    return 0;
}

/* mu held. */
static struct object *append_to(struct fake_oss *fake, const char *key, const void *data, size_t size,
                                const struct kvlist *headers)
{
    struct object *old = find(fake, key);
    size_t before = old && old->type == OSS_TYPE_APPENDABLE ? old->size : 0;
    struct kvlist kept = {0};
    char *all = malloc(before + size + 1);
    struct object *o;

    if (!all || (before ? kv_copy(&kept, &old->headers) : headers ? kv_copy(&kept, headers) : 0))
        abort();
    if (before)
        memcpy(all, old->data, before);
    memcpy(all + before, data, size);
    o = publish(fake, key, all, before + size, &kept, NULL, OSS_TYPE_APPENDABLE);
    kv_free(&kept);
    return o;
}

int fake_oss_append(struct fake_oss *fake, const char *key, const void *data, size_t size,
                    const struct kvlist *headers)
{
    pthread_mutex_lock(&fake->mu);
    append_to(fake, key, data, size, headers);
    pthread_mutex_unlock(&fake->mu);
    return 0;
}

void fake_oss_refuse_appendable_copies(struct fake_oss *fake, bool refuse)
{
    pthread_mutex_lock(&fake->mu);
    fake->no_appendable_copies = refuse;
    pthread_mutex_unlock(&fake->mu);
}

void fake_oss_rename_copies(struct fake_oss *fake, bool rename)
{
    pthread_mutex_lock(&fake->mu);
    fake->rename_copies = rename;
    pthread_mutex_unlock(&fake->mu);
}

bool fake_oss_appendable(struct fake_oss *fake, const char *key)
{
    struct object *o;
    bool is;

    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    is = o && o->type == OSS_TYPE_APPENDABLE;
    pthread_mutex_unlock(&fake->mu);
    return is;
}

void fake_oss_remove(struct fake_oss *fake, const char *key)
{
    struct object *o;

    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    if (o)
        object_free(o);
    pthread_mutex_unlock(&fake->mu);
}

int fake_oss_content(struct fake_oss *fake, const char *key, char **data, size_t *size)
{
    struct object *o;

    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    if (o) {
        *data = malloc(o->size + 1);
        if (!*data)
            abort();
        memcpy(*data, o->data, o->size);
        *size = o->size;
    }
    pthread_mutex_unlock(&fake->mu);
    return o ? 0 : -ENOENT;
}

int fake_oss_headers(struct fake_oss *fake, const char *key, struct kvlist *headers, char acl[24])
{
    struct object *o;

    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    if (o && acl)
        memcpy(acl, o->acl, 24);
    if (o && kv_copy(headers, &o->headers))
        abort();
    pthread_mutex_unlock(&fake->mu);
    return o ? 0 : -ENOENT;
}

static size_t length(struct fake_oss *fake, struct list *list)
{
    size_t n = 0;

    pthread_mutex_lock(&fake->mu);
    list_for_each (it, list)
        n++;
    pthread_mutex_unlock(&fake->mu);
    return n;
}

size_t fake_oss_count(struct fake_oss *fake)
{
    return length(fake, &fake->objects);
}

size_t fake_oss_uploads(struct fake_oss *fake)
{
    return length(fake, &fake->uploads);
}

void fake_oss_watch(struct fake_oss *fake, fake_published *published, void *arg)
{
    pthread_mutex_lock(&fake->mu);
    fake->published = published;
    fake->arg = arg;
    pthread_mutex_unlock(&fake->mu);
}

/* ---------------------------------------------------------------------------------------- object operations */

static int fake_head(struct oss *oss, const char *key, struct oss_object *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_HEAD, &lost, err);
    struct object *o;

    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    if (o) {
        describe(o, out);
        r = kv_copy(&out->headers, &o->headers);
    }
    pthread_mutex_unlock(&fake->mu);
    if (!o)
        r = refuse(err, -ENOENT, 404, "NoSuchKey");
    if (lost && !r)
        oss_object_free(out);
    return end(fake, OSS_OP_HEAD, lost, r, err);
}

static int fake_get(struct oss *oss, const char *key, uint64_t offset, uint64_t len, const char *if_match,
                    const struct oss_sink *sink, struct oss_object *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost, halted = false;
    int r = begin(fake, OSS_OP_GET, &lost, err);
    struct object *o;
    char *data = NULL;
    size_t size = 0;

    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    if (!o) {
        r = refuse(err, -ENOENT, 404, "NoSuchKey");
    } else if (if_match && strcmp(if_match, o->etag)) {
        r = refuse(err, -ESTALE, 412, "PreconditionFailed");
    } else if (len != OSS_WHOLE && offset >= o->size) {
        r = refuse(err, -ERANGE, 416, "InvalidRange");
    } else {
        size = len == OSS_WHOLE || offset + len > o->size ? o->size - offset : len;
        data = malloc(size + 1);
        memcpy(data, o->data + offset, size);
        describe(o, out);
    }
    pthread_mutex_unlock(&fake->mu);
    for (size_t at = 0; !r && at < size;) {
        size_t n = size - at < CHUNK ? size - at : CHUNK;

        if (!halted && at + n > size / 2) {
            halted = true;
            gate(fake, OSS_OP_GET, FAKE_GATE_BODY);
            if (lost)
                break;
        }
        r = sink->write(sink->arg, offset + at, data + at, n);
        at += n;
    }
    free(data);
    return end(fake, OSS_OP_GET, lost, r, err);
}

/* The body, read as the client reads it: once for the CRC, once to be sent. */
static int read_body(struct fake_oss *fake, enum oss_op op, const struct oss_source *source, char **out,
                     struct oss_error *err)
{
    char *data = malloc(source->size + 1);
    uint64_t crc = source->crc64;
    int r = 0;

    for (int pass = source->has_crc; !r && pass < 2; pass++) {
        if (pass == 1)
            gate(fake, op, FAKE_GATE_BODY);
        for (uint64_t at = 0; !r && at < source->size;) {
            size_t n = source->size - at < CHUNK ? (size_t)(source->size - at) : CHUNK;

            r = source->read(source->arg, at, data + at, n);
            at += n;
        }
        if (!r && pass == 0)
            crc = crc64(0, data, source->size);
    }
    if (r)
        refuse(err, r, 0, "");
    else if (crc64(0, data, source->size) != crc)
        r = refuse(err, -EIO, 400, "InvalidCRC64");
    if (r)
        free(data);
    else
        *out = data;
    return r;
}

static int fake_put(struct oss *oss, const char *key, const struct oss_source *source,
                    const struct oss_put_opts *opts, struct oss_object *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_PUT, &lost, err);
    char *data;

    if (!r)
        r = read_body(fake, OSS_OP_PUT, source, &data, err);
    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    if (opts && opts->forbid_overwrite && find(fake, key)) {
        r = refuse(err, -EEXIST, 409, "FileAlreadyExists");
        free(data);
    } else {
        describe(publish(fake, key, data, source->size, opts ? opts->headers : NULL, NULL, OSS_TYPE_NORMAL), out);
    }
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_PUT, lost, r, err);
}

static int fake_append(struct oss *oss, const char *key, uint64_t position, const struct oss_source *source,
                       const struct oss_put_opts *opts, struct oss_object *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_APPEND, &lost, err);
    struct object *o;
    char *data;

    if (!r)
        r = read_body(fake, OSS_OP_APPEND, source, &data, err);
    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    o = find(fake, key);
    if (o && o->type != OSS_TYPE_APPENDABLE) {
        r = refuse(err, -EPROTOTYPE, 409, "ObjectNotAppendable");
    } else if (position != (o ? o->size : 0)) {
        r = refuse(err, -EBADE, 409, "PositionNotEqualToLength");
        if (err)
            err->next_position = o ? (int64_t)o->size : 0;
    } else {
        describe(append_to(fake, key, data, source->size, opts ? opts->headers : NULL), out);
    }
    pthread_mutex_unlock(&fake->mu);
    free(data);
    return end(fake, OSS_OP_APPEND, lost, r, err);
}

static int fake_copy(struct oss *oss, const char *from, const char *to, const struct oss_copy_opts *opts,
                     struct oss_object *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    struct kvlist headers = {0};
    bool lost;
    int r = begin(fake, OSS_OP_COPY, &lost, err);
    struct object *o;
    const char *acl;
    char etag[OSS_ETAG_SIZE], *data;

    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    o = find(fake, from);
    if (!o) {
        r = refuse(err, -ENOENT, 404, "NoSuchKey");
    } else if (opts->if_match && strcmp(opts->if_match, o->etag)) {
        r = refuse(err, -ESTALE, 412, "PreconditionFailed");
    } else if (fake->no_appendable_copies && o->type == OSS_TYPE_APPENDABLE && strcmp(from, to)) {
        r = refuse(err, -ENOTSUP, 400, "OperationNotSupported");
    } else {
        acl = opts->headers ? kv_get(opts->headers, "x-oss-object-acl") : NULL;
        if (kv_copy(&headers, opts->replace ? opts->headers : &o->headers) ||
            (acl && kv_set(&headers, "x-oss-object-acl", acl)))
            abort();
        memcpy(etag, o->etag, sizeof(etag));
        if (fake->rename_copies)
            snprintf(etag, sizeof(etag), "COPY-%u", ++fake->copies);
        data = malloc(o->size + 1);
        memcpy(data, o->data, o->size);
        describe(publish(fake, to, data, o->size, &headers, etag,
                         o->type == OSS_TYPE_APPENDABLE && strcmp(from, to) ? OSS_TYPE_NORMAL : o->type),
                 out);
        kv_free(&headers);
    }
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_COPY, lost, r, err);
}

static int fake_delete(struct oss *oss, const char *key, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_DELETE, &lost, err);

    if (r)
        return r;
    fake_oss_remove(fake, key);
    return end(fake, OSS_OP_DELETE, lost, 0, err);
}

static int fake_delete_many(struct oss *oss, const char *const *keys, size_t n, bool *deleted, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_DELETE_MANY, &lost, err);

    for (size_t i = 0; !r && i < n; i++) {
        fake_oss_remove(fake, keys[i]);
        if (deleted)
            deleted[i] = true;
    }
    return r ? r : end(fake, OSS_OP_DELETE_MANY, lost, 0, err);
}

static int fake_get_acl(struct oss *oss, const char *key, char acl[24], struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    struct kvlist headers = {0};
    bool lost;
    int r = begin(fake, OSS_OP_GET_ACL, &lost, err);

    if (r)
        return r;
    r = fake_oss_headers(fake, key, &headers, acl);
    kv_free(&headers);
    if (r)
        refuse(err, r, 404, "NoSuchKey");
    return end(fake, OSS_OP_GET_ACL, lost, r, err);
}

static int fake_get_symlink(struct oss *oss, const char *key, char target[OSS_KEY_MAX + 1], struct oss_object *out,
                            struct oss_error *err)
{
    bool lost;
    int r = begin(of(oss), OSS_OP_GET_SYMLINK, &lost, err);

    (void)key;
    (void)target;
    (void)out;
    return r ? r : refuse(err, -EINVAL, 400, "NotSymlink");
}

/* ------------------------------------------------------------------------------------------------- listing */

static char *copy_of(const char *text, size_t n)
{
    char *copy = strndup(text, n);

    if (!copy)
        abort();
    return copy;
}

static int fake_list(struct oss *oss, const struct oss_list_opts *opts, struct oss_list *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    const char *prefix = opts->prefix ? opts->prefix : "";
    size_t skip = strlen(prefix), max = opts->max_keys ? opts->max_keys : OSS_LIST_MAX;
    const char *after = opts->continuation ? opts->continuation : "";
    bool lost;
    int r = begin(fake, OSS_OP_LIST, &lost, err);

    if (r)
        return r;
    *out = (struct oss_list){.date = time(NULL)};
    out->entries = calloc(max + 1, sizeof(*out->entries));
    out->prefixes = calloc(max + 1, sizeof(*out->prefixes));
    pthread_mutex_lock(&fake->mu);
    list_for_each (it, &fake->objects) {
        const struct object *o = list_entry(it, struct object, link);
        const char *slash = strncmp(o->key, prefix, skip) ? NULL : strchr(o->key + skip, '/');
        size_t n = slash ? (size_t)(slash - o->key) + 1 : 0;
        struct oss_list_entry *e;

        if (strncmp(o->key, prefix, skip) || strcmp(o->key, after) <= 0)
            continue;
        if (opts->delimiter && slash && *after && !strncmp(o->key, after, n))
            continue; /* of a prefix that the page before ended with */
        if (opts->delimiter && slash && out->n_prefixes && !strncmp(out->prefixes[out->n_prefixes - 1], o->key, n))
            continue;
        if (out->n_entries + out->n_prefixes == max) {
            out->truncated = true;
            break;
        }
        free(out->next);
        out->next = copy_of(o->key, opts->delimiter && slash ? n : strlen(o->key));
        if (opts->delimiter && slash) {
            out->prefixes[out->n_prefixes++] = copy_of(o->key, n);
            continue;
        }
        e = &out->entries[out->n_entries++];
        e->key = copy_of(o->key, strlen(o->key));
        e->size = o->size;
        e->last_modified = o->modified;
        e->type = o->type;
        memcpy(e->etag, o->etag, sizeof(e->etag));
    }
    pthread_mutex_unlock(&fake->mu);
    if (!out->truncated) {
        free(out->next);
        out->next = NULL;
    }
    if (lost)
        oss_list_free(out);
    return end(fake, OSS_OP_LIST, lost, 0, err);
}

/* ----------------------------------------------------------------------------------------- multipart uploads */

static void upload_free(struct upload *u)
{
    list_for_each_safe (it, &u->parts) {
        struct part *p = list_entry(it, struct part, link);

        free(p->data);
        free(p);
    }
    list_del(&u->link);
    kv_free(&u->headers);
    free(u->key);
    free(u);
}

/* mu held. */
static struct upload *find_upload(struct fake_oss *fake, const char *key, const char *id)
{
    list_for_each (it, &fake->uploads) {
        struct upload *u = list_entry(it, struct upload, link);

        if (!strcmp(u->key, key) && !strcmp(u->id, id))
            return u;
    }
    return NULL;
}

static int fake_initiate(struct oss *oss, const char *key, const struct oss_put_opts *opts,
                         char id[OSS_UPLOADID_SIZE], struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    struct upload *u;
    bool lost;
    int r = begin(fake, OSS_OP_INITIATE, &lost, err);

    if (r)
        return r;
    u = calloc(1, sizeof(*u));
    if (!u || !(u->key = strdup(key)) || kv_copy(&u->headers, opts->headers))
        abort();
    list_init(&u->parts);
    pthread_mutex_lock(&fake->mu);
    snprintf(u->id, sizeof(u->id), "upload-%lu", ++fake->next_id);
    list_add_tail(&fake->uploads, &u->link);
    if (!lost)
        memcpy(id, u->id, sizeof(u->id));
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_INITIATE, lost, 0, err);
}

/* mu held. Takes `data` over. */
static int add_part(struct fake_oss *fake, const char *key, const char *id, int number, char *data, size_t size,
                    struct oss_part *out, struct oss_error *err)
{
    struct upload *u = find_upload(fake, key, id);
    struct part *p;

    if (!u) {
        free(data);
        return refuse(err, -ENOENT, 404, "NoSuchUpload");
    }
    list_for_each_safe (it, &u->parts) {
        p = list_entry(it, struct part, link);
        if (p->part.number != number)
            continue;
        list_del(it);
        free(p->data);
        free(p);
    }
    p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    p->data = data;
    p->part = (struct oss_part){.number = number, .size = size, .has_crc = true, .crc64 = crc64(0, data, size)};
    etag_of(p->part.etag, data, size);
    list_add_tail(&u->parts, &p->link);
    *out = p->part;
    return 0;
}

static int fake_upload_part(struct oss *oss, const char *key, const char *id, int number,
                            const struct oss_source *source, struct oss_part *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_PART, &lost, err);
    char *data;

    if (!r)
        r = read_body(fake, OSS_OP_PART, source, &data, err);
    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    r = add_part(fake, key, id, number, data, source->size, out, err);
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_PART, lost, r, err);
}

static int fake_copy_part(struct oss *oss, const char *key, const char *id, int number, const char *from,
                          const char *if_match, uint64_t offset, uint64_t len, struct oss_part *out,
                          struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_PART_COPY, &lost, err);
    struct object *o;
    char *data;

    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    o = find(fake, from);
    if (!o) {
        r = refuse(err, -ENOENT, 404, "NoSuchKey");
    } else if (strcmp(if_match, o->etag)) {
        r = refuse(err, -ESTALE, 412, "PreconditionFailed");
    } else if (fake->no_appendable_copies && o->type == OSS_TYPE_APPENDABLE) {
        r = refuse(err, -ENOTSUP, 400, "OperationNotSupported");
    } else if (offset + len > o->size) {
        r = refuse(err, -ERANGE, 416, "InvalidRange");
    } else {
        data = malloc(len + 1);
        memcpy(data, o->data + offset, len);
        r = add_part(fake, key, id, number, data, len, out, err);
    }
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_PART_COPY, lost, r, err);
}

static struct part *find_part(struct upload *u, const struct oss_part *wanted)
{
    list_for_each (it, &u->parts) {
        struct part *p = list_entry(it, struct part, link);

        if (p->part.number == wanted->number && !strcmp(p->part.etag, wanted->etag))
            return p;
    }
    return NULL;
}

/* mu held. */
static int assemble(struct fake_oss *fake, struct upload *u, const struct oss_part *parts, size_t n, uint64_t size,
                    const struct oss_put_opts *opts, struct oss_object *out, struct oss_error *err)
{
    char *data = malloc(size + 1), etag[OSS_ETAG_SIZE];
    const char *acl = opts && opts->headers ? kv_get(opts->headers, "x-oss-object-acl") : NULL;
    uint64_t at = 0;

    for (size_t i = 0; i < n; i++) {
        struct part *p = find_part(u, &parts[i]);

        if (!p || at + p->part.size > size) {
            free(data);
            return refuse(err, -EINVAL, 400, p ? "InvalidArgument" : "InvalidPart");
        }
        memcpy(data + at, p->data, p->part.size);
        at += p->part.size;
    }
    if (at != size) {
        free(data);
        return refuse(err, -EIO, 200, "");
    }
    etag_of(etag, data, size);
    snprintf(etag + 32, sizeof(etag) - 32, "-%zu", n);
    if (acl && kv_set(&u->headers, "x-oss-object-acl", acl))
        abort();
    describe(publish(fake, u->key, data, size, &u->headers, etag, OSS_TYPE_MULTIPART), out);
    upload_free(u);
    return 0;
}

static int fake_complete(struct oss *oss, const char *key, const char *id, const struct oss_part *parts, size_t n,
                         uint64_t size, bool has_crc, uint64_t crc, const struct oss_put_opts *opts,
                         struct oss_object *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    struct upload *u;
    bool lost;
    int r = begin(fake, OSS_OP_COMPLETE, &lost, err);

    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    u = find_upload(fake, key, id);
    r = u ? assemble(fake, u, parts, n, size, opts, out, err) : refuse(err, -ENOENT, 404, "NoSuchUpload");
    if (!r && has_crc && crc64(0, find(fake, key)->data, size) != crc)
        r = refuse(err, -EIO, 200, "");
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_COMPLETE, lost, r, err);
}

static int fake_abort(struct oss *oss, const char *key, const char *id, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    struct upload *u;
    bool lost;
    int r = begin(fake, OSS_OP_ABORT, &lost, err);

    if (r)
        return r;
    pthread_mutex_lock(&fake->mu);
    u = find_upload(fake, key, id);
    if (u)
        upload_free(u);
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_ABORT, lost, 0, err);
}

static int fake_list_uploads(struct oss *oss, const char *prefix, const char *key_marker, const char *id_marker,
                             struct oss_upload_list *out, struct oss_error *err)
{
    struct fake_oss *fake = of(oss);
    bool lost;
    int r = begin(fake, OSS_OP_LIST_UPLOADS, &lost, err);
    size_t n = fake_oss_uploads(fake);

    (void)key_marker;
    (void)id_marker;
    if (r)
        return r;
    *out = (struct oss_upload_list){.entries = calloc(n + 1, sizeof(*out->entries))};
    pthread_mutex_lock(&fake->mu);
    list_for_each (it, &fake->uploads) {
        struct upload *u = list_entry(it, struct upload, link);

        if (out->n == n || (prefix && strncmp(u->key, prefix, strlen(prefix))))
            continue;
        out->entries[out->n].key = strdup(u->key);
        out->entries[out->n].initiated = time(NULL);
        memcpy(out->entries[out->n++].id, u->id, sizeof(u->id));
    }
    pthread_mutex_unlock(&fake->mu);
    return end(fake, OSS_OP_LIST_UPLOADS, lost, 0, err);
}

/* ---------------------------------------------------------------------------------------------------- making */

static const struct oss_ops fake_ops = {
    .head = fake_head,
    .get = fake_get,
    .put = fake_put,
    .append = fake_append,
    .copy = fake_copy,
    .delete = fake_delete,
    .delete_many = fake_delete_many,
    .list = fake_list,
    .initiate = fake_initiate,
    .upload_part = fake_upload_part,
    .copy_part = fake_copy_part,
    .complete = fake_complete,
    .abort = fake_abort,
    .list_uploads = fake_list_uploads,
    .get_symlink = fake_get_symlink,
    .get_acl = fake_get_acl,
};

struct fake_oss *fake_oss_new(void)
{
    struct fake_oss *fake = calloc(1, sizeof(*fake));

    if (!fake)
        abort();
    fake->oss.ops = &fake_ops;
    list_init(&fake->objects);
    list_init(&fake->uploads);
    pthread_mutex_init(&fake->mu, NULL);
    pthread_cond_init(&fake->cond, NULL);
    return fake;
}

void fake_oss_free(struct fake_oss *fake)
{
    list_for_each_safe (it, &fake->objects)
        object_free(list_entry(it, struct object, link));
    list_for_each_safe (it, &fake->uploads)
        upload_free(list_entry(it, struct upload, link));
    pthread_mutex_destroy(&fake->mu);
    pthread_cond_destroy(&fake->cond);
    free(fake);
}

struct oss *fake_oss_client(struct fake_oss *fake)
{
    return &fake->oss;
}
