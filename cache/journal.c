#include "append.h"
#include "hidden.h"
#include "keep.h"
#include "record.h"

#include "../oss/base_buf.h"
#include "../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC       0x4a53534fu
#define VERSION     1
#define HEADER_SIZE RECORD_HEADER
#define PAYLOAD_MAX RECORD_PAYLOAD_MAX

enum record_type {
    RECORD_BEGIN = 1,
    RECORD_DIRTY,
    RECORD_COMMIT,
    RECORD_INTENT,
    RECORD_UPLOAD,
    RECORD_PART,
    RECORD_END,
    RECORD_SENT,
    RECORD_KEY,
    RECORD_FINAL,
    RECORD_APPEND,
    RECORD_MOVED,
    RECORD_SHARES = 16,
    RECORD_SYNCED,
    RECORD_HIDDEN,
};

#define WANTS_CONTENT 1
#define WANTS_ATTRS   2
#define WANTS_APPEND  4

/* ------------------------------------------------------------------------------------------- writing */

static int append(struct cfile *cf, enum record_type type, const struct buf *payload)
{
    struct record_head head = {
        .magic = MAGIC, .version = VERSION, .type = type, .sequence = cf->journal_sequence + 1};
    int r = record_write(cf->journal_fd, &head, payload, &cf->journal_size);

    if (r)
        log_err("journal of %s: %s", cf->key, strerror(-r)); /* the next one takes its place */
    else
        cf->journal_sequence++;
    return r;
}

static void put_attr(struct buf *b, const struct attr *attr)
{
    record_put_int(b, attr->mode, 4);
    record_put_int(b, attr->uid, 4);
    record_put_int(b, attr->gid, 4);
    record_put_int(b, (uint64_t)attr->mtime.tv_sec, 8);
    record_put_int(b, (uint64_t)attr->mtime.tv_nsec, 4);
    record_put_int(b, attr->size, 8);
}

static void put_headers(struct buf *b, const struct kvlist *headers)
{
    record_put_int(b, headers->n, 4);
    for (size_t i = 0; i < headers->n; i++) {
        record_put_text(b, headers->v[i].name);
        record_put_text(b, headers->v[i].value);
    }
}

static void put_extents(struct buf *b, const struct extent_map *map)
{
    uint64_t at = 0, size = extent_map_size(map);
    size_t count_at, n = 0;
    struct extent ex;

    record_put_int(b, 0, 4);
    count_at = b->len - 4;
    for (; extent_map_next_dirty(map, at, size, &ex); at = ex.end, n++) {
        record_put_int(b, ex.start, 8);
        record_put_int(b, ex.end, 8);
    }
    for (size_t i = 0; !b->err && i < 4; i++)
        b->data[count_at + i] = (char)(n >> 8 * i);
}

/* What stands in no object of the file's own, or elsewhere in it. Returns how many ranges. */
static size_t put_shares(struct buf *b, const struct cfile *cf)
{
    struct extent ex;
    size_t n = 0;

    for (uint64_t at = 0; extent_map_find(cf->map, at, &ex); at = ex.end) {
        const struct base *base = ex.base == EXTENT_NEW ? NULL : cfile_base(cf, ex.base);

        if (!base || (cfile_is_object(cf, base) && ex.base_offset == ex.start))
            continue;
        record_put_int(b, ex.start, 8);
        record_put_int(b, ex.end, 8);
        record_put_int(b, ex.base_offset, 8);
        record_put_text(b, base->key);
        record_put_object(b, base->info);
        n++;
    }
    return n;
}

const char *journal_boot_id(void)
{
    static char id[64]; /* the same for all who fill it */
    FILE *f;

    if (*id)
        return id;
    f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!f || !fgets(id, sizeof(id), f))
        strcpy(id, "unknown");
    if (f)
        fclose(f);
    id[strcspn(id, "\n")] = '\0';
    return id;
}

static int journal_path(const struct cfile *cf, char *out, size_t size)
{
    return snprintf(out, size, "%s.journal", cf->path) >= (int)size ? -ENAMETOOLONG : 0;
}

static void discard(struct cfile *cf)
{
    char path[4096];

    if (!journal_path(cf, path, sizeof(path)))
        unlink(path);
    close(cf->journal_fd);
    cf->journal_fd = -1;
}

static int begin(struct cfile *cf)
{
    struct buf payload = BUF_INIT(PAYLOAD_MAX);
    char path[4096];
    int r = cfile_need_path(cf);

    if (!r)
        r = journal_path(cf, path, sizeof(path));
    if (r)
        return r;
    cf->journal_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (cf->journal_fd < 0) {
        r = -errno;
        log_err("%s: %s", path, strerror(errno));
        return r;
    }
    cf->journal_sequence = 0;
    cf->journal_size = 0;
    cf->journal_committed = cf->journal_synced = cf->journal_over = false;
    record_put_text(&payload, journal_boot_id());
    record_put_text(&payload, cf->key);
    put_attr(&payload, &cf->attr);
    put_headers(&payload, &cf->headers);
    record_put_object(&payload, cf->object);
    r = append(cf, RECORD_BEGIN, &payload);
    buf_free(&payload);
    if (r)
        discard(cf);
    return r;
}

static int mark_dirty(struct cfile *cf)
{
    int r;

    keep_changed(cf);
    if (cf->orphan)
        return 0;
    if (cf->journal_fd < 0)
        return begin(cf);
    if (!cf->journal_committed)
        return 0;
    r = append(cf, RECORD_DIRTY, NULL);
    /* What is durable must not be believed once it is written over. */
    if (!r && cf->journal_synced && fdatasync(cf->journal_fd))
        r = -errno;
    if (!r)
        cf->journal_committed = cf->journal_synced = cf->journal_over = false;
    return r;
}

/* What of the range stands in a hidden object does so no more. */
static int note_unhidden(struct cfile *cf, uint64_t start, uint64_t end)
{
    struct buf payload = BUF_INIT(64);
    bool any = false;
    struct extent ex;
    int r = 0;

    for (uint64_t at = start; !any && cf->n_bases > 0 && at < end && extent_map_find(cf->map, at, &ex); at = ex.end) {
        const struct base *base = ex.base == EXTENT_NEW ? NULL : cfile_base(cf, ex.base);

        any = base && hidden_is(cf->cache, base->key);
    }
    if (!any || cf->journal_fd < 0)
        return 0;
    record_put_int(&payload, start, 8);
    record_put_int(&payload, end, 8);
    record_put_int(&payload, 0, 8);
    record_put_text(&payload, "");
    record_put_object(&payload, NULL);
    r = append(cf, RECORD_HIDDEN, &payload);
    buf_free(&payload);
    return r;
}

int journal_dirty(struct cfile *cf, uint64_t start, uint64_t end)
{
    int r = mark_dirty(cf);

    return r ? r : note_unhidden(cf, start, end);
}

static uint64_t wanted(const struct cfile *cf)
{
    return (cf->data_gen > cf->data_sent_gen ? WANTS_CONTENT : 0) | (cf->attr_changed ? WANTS_ATTRS : 0) |
           (append_only(cf) ? WANTS_APPEND : 0);
}

int journal_commit(struct cfile *cf)
{
    struct buf payload = BUF_INIT(PAYLOAD_MAX), shares = BUF_INIT(PAYLOAD_MAX);
    int r = cf->journal_fd < 0 ? begin(cf) : 0;

    if (!r && put_shares(&shares, cf) > 0)
        r = append(cf, RECORD_SHARES, &shares);
    buf_free(&shares);
    if (r)
        return r;
    put_attr(&payload, &cf->attr);
    put_headers(&payload, &cf->headers);
    record_put_int(&payload, wanted(cf), 1);
    put_extents(&payload, cf->map);
    r = append(cf, RECORD_COMMIT, &payload);
    buf_free(&payload);
    if (!r)
        cf->journal_committed = true;
    if (!r && wanted(cf))
        cf->journal_over = false;
    return r;
}

int journal_hidden(struct cfile *cf, uint64_t start, uint64_t end)
{
    struct extent ex;
    int r = 0;

    if (cf->journal_fd < 0)
        return 0;
    for (uint64_t at = start; !r && at < end && extent_map_find(cf->map, at, &ex); at = ex.end) {
        const struct base *base = ex.base == EXTENT_NEW ? NULL : cfile_base(cf, ex.base);
        struct buf payload = BUF_INIT(8192);
        uint64_t from = ex.start > start ? ex.start : start;

        if (!base || !hidden_is(cf->cache, base->key))
            continue;
        record_put_int(&payload, from, 8);
        record_put_int(&payload, ex.end < end ? ex.end : end, 8);
        record_put_int(&payload, ex.base_offset + (from - ex.start), 8);
        record_put_text(&payload, base->key);
        record_put_object(&payload, base->info);
        r = append(cf, RECORD_HIDDEN, &payload);
        buf_free(&payload);
    }
    return r;
}

int journal_intent(struct cfile *cf)
{
    struct buf payload = BUF_INIT(64);
    int r;

    if (cf->journal_fd < 0)
        return 0;
    record_put_int(&payload, (uint64_t)time(NULL), 8);
    r = append(cf, RECORD_INTENT, &payload);
    buf_free(&payload);
    return r;
}

int journal_upload(struct cfile *cf, const char *id)
{
    struct buf payload = BUF_INIT(2 * OSS_UPLOADID_SIZE);
    int r;

    if (cf->journal_fd < 0)
        return 0;
    record_put_text(&payload, id);
    r = append(cf, RECORD_UPLOAD, &payload);
    buf_free(&payload);
    return r;
}

void journal_part(struct cfile *cf, uint64_t offset, const struct oss_part *part)
{
    struct buf payload = BUF_INIT(256);

    if (cf->journal_fd < 0)
        return;
    record_put_int(&payload, (uint64_t)part->number, 4);
    record_put_int(&payload, offset, 8);
    record_put_int(&payload, part->size, 8);
    record_put_text(&payload, part->etag);
    record_put_int(&payload, part->has_crc, 1);
    record_put_int(&payload, part->crc64, 8);
    append(cf, RECORD_PART, &payload); /* one that is missing is sent again, no more */
    buf_free(&payload);
}

int journal_final(struct cfile *cf, uint64_t size, uint64_t crc)
{
    struct buf payload = BUF_INIT(64);
    int r;

    if (cf->journal_fd < 0)
        return 0;
    record_put_int(&payload, size, 8);
    record_put_int(&payload, crc, 8);
    r = append(cf, RECORD_FINAL, &payload);
    buf_free(&payload);
    return r;
}

int journal_append(struct cfile *cf, uint64_t position, uint64_t from, uint64_t length, uint64_t crc)
{
    struct buf payload = BUF_INIT(64);
    int r;

    if (cf->journal_fd < 0)
        return 0;
    record_put_int(&payload, position, 8);
    record_put_int(&payload, from, 8);
    record_put_int(&payload, length, 8);
    record_put_int(&payload, crc, 8);
    r = append(cf, RECORD_APPEND, &payload);
    buf_free(&payload);
    return r;
}

int journal_moved(struct cfile *cf, const struct oinfo *object, uint64_t at, uint64_t length)
{
    struct buf payload = BUF_INIT(1024);
    int r;

    if (cf->journal_fd < 0)
        return 0;
    record_put_object(&payload, object);
    record_put_int(&payload, wanted(cf), 1);
    record_put_int(&payload, at, 8);
    record_put_int(&payload, length, 8);
    r = append(cf, RECORD_MOVED, &payload);
    buf_free(&payload);
    return r;
}

void journal_end(struct cfile *cf, const char *id)
{
    struct buf payload = BUF_INIT(2 * OSS_UPLOADID_SIZE);

    if (cf->journal_fd < 0)
        return;
    record_put_text(&payload, id);
    append(cf, RECORD_END, &payload);
    buf_free(&payload);
}

void journal_sent(struct cfile *cf)
{
    struct buf payload = BUF_INIT(1024);

    if (cf->journal_fd < 0)
        return;
    record_put_object(&payload, cf->object);
    append(cf, RECORD_SENT, &payload);
    buf_free(&payload);
}

void journal_key(struct cfile *cf, const char *key, const struct oinfo *object)
{
    struct buf payload = BUF_INIT(8192);

    if (cf->journal_fd < 0)
        return;
    record_put_text(&payload, key);
    record_put_object(&payload, object);
    append(cf, RECORD_KEY, &payload);
    buf_free(&payload);
}

int journal_rename(const char *path, const struct journal_state *s, const char *key, const struct oinfo *object)
{
    struct record_head head = {.magic = MAGIC, .version = VERSION, .type = RECORD_KEY, .sequence = s->sequence + 1};
    struct buf payload = BUF_INIT(8192);
    uint64_t at = s->good_size;
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    int r = fd < 0 ? -errno : 0;

    record_put_text(&payload, key);
    record_put_object(&payload, object);
    if (!r && ftruncate(fd, (off_t)at))
        r = -errno;
    if (!r)
        r = record_write(fd, &head, &payload, &at);
    if (fd >= 0)
        close(fd);
    buf_free(&payload);
    return r;
}

int journal_synced(struct cfile *cf)
{
    int r = append(cf, RECORD_SYNCED, NULL);

    if (!r)
        cf->journal_synced = true;
    return r;
}

/* The end but for what is to be aborted: KEY tells what the next change is based on. */
static bool put_over(struct cfile *cf)
{
    struct buf payload = BUF_INIT(PAYLOAD_MAX);
    int r;

    journal_key(cf, cf->key, cf->object);
    put_attr(&payload, &cf->attr);
    put_headers(&payload, &cf->headers);
    record_put_int(&payload, 0, 1);
    record_put_int(&payload, 0, 4);
    r = append(cf, RECORD_COMMIT, &payload);
    buf_free(&payload);
    return r == 0;
}

void journal_remove(struct cfile *cf)
{
    if (cf->journal_fd < 0)
        return;
    if (cf->streams > 0 && put_over(cf))
        cf->journal_over = cf->journal_committed = true;
    else
        discard(cf);
}

/* ------------------------------------------------------------------------------------------- reading */

static void get_attr(struct record_reader *in, struct attr *attr)
{
    attr->mode = (uint32_t)record_get_int(in, 4);
    attr->uid = (uint32_t)record_get_int(in, 4);
    attr->gid = (uint32_t)record_get_int(in, 4);
    attr->mtime.tv_sec = (time_t)record_get_int(in, 8);
    attr->mtime.tv_nsec = (long)record_get_int(in, 4);
    attr->size = record_get_int(in, 8);
    attr->ctime = attr->mtime;
}

static void get_headers(struct record_reader *in, struct kvlist *headers)
{
    size_t n = record_get_int(in, 4);

    kv_free(headers);
    for (size_t i = 0; i < n && !in->bad; i++) {
        char *name = record_get_text(in), *value = record_get_text(in);

        if (!name || !value || kv_add(headers, name, value))
            in->bad = true;
        free(name);
        free(value);
    }
}

static void get_extents(struct record_reader *in, struct journal_state *s)
{
    size_t n = record_get_int(in, 4);

    free(s->extents);
    s->extents = NULL;
    s->n_extents = 0;
    if (in->bad || n > PAYLOAD_MAX / 16 || !(s->extents = calloc(n + 1, sizeof(*s->extents)))) {
        in->bad = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        s->extents[i][0] = record_get_int(in, 8);
        s->extents[i][1] = record_get_int(in, 8);
    }
    s->n_extents = n;
}

/* The upload is not gone on with, but may still be there: under the key that the file has until now. */
static void leave_upload(struct record_reader *in, struct journal_state *s)
{
    struct journal_left *v, *left;

    if (!s->intent && !*s->upload_id)
        return;
    v = realloc(s->left, (s->n_left + 1) * sizeof(*v));
    if (!v) {
        in->bad = true;
        return;
    }
    s->left = v;
    left = &v[s->n_left];
    *left = (struct journal_left){.key = strdup(s->key), .intent = s->intent};
    memcpy(left->id, s->upload_id, sizeof(left->id));
    if (left->key)
        s->n_left++;
    else
        in->bad = true;
}

static void free_shares(struct share **v, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        free((char *)(*v)[i].key);
        oinfo_put((*v)[i].info);
    }
    free(*v);
    *v = NULL;
    *n = 0;
}

static void forget_shares(struct journal_state *s)
{
    free_shares(&s->shares, &s->n_shares);
}

static void get_share(struct record_reader *in, struct share *one)
{
    *one = (struct share){.start = record_get_int(in, 8), .key = NULL};
    one->end = record_get_int(in, 8);
    one->base_offset = record_get_int(in, 8);
    one->key = record_get_text(in);
    record_get_object(in, &one->info);
    if (!one->key || one->start >= one->end)
        in->bad = true;
}

/* Takes [start, end) out of what is hidden. */
static void unhide(struct record_reader *in, struct journal_state *s, uint64_t start, uint64_t end)
{
    size_t n = s->n_hidden;

    for (size_t i = 0; i < n; i++) {
        struct share *one = &s->hidden[i], tail = *one;

        if (one->end <= start || one->start >= end)
            continue;
        if (one->end > end) {
            tail.start = end;
            tail.base_offset += end - one->start;
            tail.key = strdup(one->key);
            if (!tail.key) {
                in->bad = true;
                return;
            }
            oinfo_get(tail.info);
            s->hidden[s->n_hidden++] = tail; /* there is room: get_hidden() */
        }
        one->end = one->start < start ? start : one->start;
    }
}

static void get_hidden(struct record_reader *in, struct journal_state *s)
{
    /* Each may be split once. */
    struct share *v = realloc(s->hidden, (2 * s->n_hidden + 1) * sizeof(*v)), one;

    get_share(in, &one);
    if (v)
        s->hidden = v;
    if (!v || in->bad) {
        in->bad = true;
    } else {
        unhide(in, s, one.start, one.end);
        if (!in->bad && *one.key && one.info) {
            v[s->n_hidden++] = one;
            return;
        }
        in->bad = in->bad || *one.key;
    }
    free((char *)one.key);
    oinfo_put(one.info);
}

static void get_shares(struct record_reader *in, struct journal_state *s)
{
    forget_shares(s);
    while (in->p < in->end && !in->bad) {
        struct share *v = realloc(s->shares, (s->n_shares + 1) * sizeof(*v)), *one;

        if (!v) {
            in->bad = true;
            return;
        }
        s->shares = v;
        one = &v[s->n_shares++];
        get_share(in, one);
        in->bad = in->bad || !one->info;
    }
    s->shares_fresh = true;
}

static void forget_upload(struct journal_state *s)
{
    s->intent = 0;
    *s->upload_id = '\0';
    free(s->parts);
    s->parts = NULL;
    s->n_parts = 0;
}

/* Of the upload named, of the last one when none is. */
static void get_end(struct record_reader *in, struct journal_state *s)
{
    char *id = in->p < in->end ? record_get_text(in) : NULL;

    if (!id || !*id || !strcmp(id, s->upload_id))
        forget_upload(s);
    for (size_t i = 0; id && *id && i < s->n_left; i++) {
        if (strcmp(s->left[i].id, id))
            continue;
        free(s->left[i].key);
        s->left[i] = s->left[--s->n_left];
        break;
    }
    free(id);
}

/* An upload cannot be completed under another name. */
static void get_key(struct record_reader *in, struct journal_state *s)
{
    char *key = record_get_text(in);

    if (key && strcmp(key, s->key)) {
        leave_upload(in, s);
        forget_upload(s);
    }
    free(s->key);
    s->key = key;
    record_get_object(in, &s->object);
}

static void get_part(struct record_reader *in, struct journal_state *s)
{
    struct journal_part *v = realloc(s->parts, (s->n_parts + 1) * sizeof(*v)), *p;

    if (!v) {
        in->bad = true;
        return;
    }
    s->parts = v;
    p = &v[s->n_parts];
    *p = (struct journal_part){.part.number = (int)record_get_int(in, 4)};
    p->offset = record_get_int(in, 8);
    p->part.size = record_get_int(in, 8);
    record_get_fixed_text(in, p->part.etag, sizeof(p->part.etag));
    p->part.has_crc = record_get_int(in, 1);
    p->part.crc64 = record_get_int(in, 8);
    s->n_parts += !in->bad;
}

static void get_begin(struct record_reader *in, struct journal_state *s)
{
    char *boot = record_get_text(in);

    s->same_boot = boot && !strcmp(boot, journal_boot_id()) && strcmp(boot, "unknown");
    free(boot);
    s->key = record_get_text(in);
    get_attr(in, &s->attr);
    get_headers(in, &s->headers);
    record_get_object(in, &s->object);
}

static void get_commit(struct record_reader *in, struct journal_state *s)
{
    uint64_t flags;

    get_attr(in, &s->attr);
    get_headers(in, &s->headers);
    flags = record_get_int(in, 1);
    s->content = flags & WANTS_CONTENT;
    s->attrs = flags & WANTS_ATTRS;
    s->appends = flags & WANTS_APPEND;
    get_extents(in, s);
    if (!s->shares_fresh)
        forget_shares(s);
    s->shares_fresh = false;
    s->moved_at = s->n_extents ? s->extents[0][0] : 0;
    s->committed = true;
    s->final = s->append = s->more = false;
}

/* What APPEND spoke of is in the bucket: what came behind it was never asked for. */
static void append_ended(struct journal_state *s)
{
    s->committed = s->committed && !s->more;
    s->append = s->more = false;
}

static void get_append(struct record_reader *in, struct journal_state *s)
{
    s->append_position = record_get_int(in, 8);
    s->append_from = record_get_int(in, 8);
    s->append_length = record_get_int(in, 8);
    s->append_crc = record_get_int(in, 8);
    s->append = !in->bad;
}

static void get_moved(struct record_reader *in, struct journal_state *s)
{
    uint64_t flags, length, start;

    append_ended(s);
    record_get_object(in, &s->object);
    flags = record_get_int(in, 1);
    s->content = flags & WANTS_CONTENT;
    s->attrs = flags & WANTS_ATTRS;
    s->appends = flags & WANTS_APPEND;
    s->moved_at = record_get_int(in, 8);
    length = record_get_int(in, 8);
    start = s->object ? s->object->attr.size : 0;
    free(s->extents);
    s->extents = calloc(1, sizeof(*s->extents));
    s->n_extents = s->extents != NULL;
    if (!s->extents || start + length < start) {
        in->bad = true;
        return;
    }
    s->extents[0][0] = start;
    s->extents[0][1] = s->attr.size = start + length;
}

/* false: a type that this version does not know. */
static bool apply(struct journal_state *s, enum record_type type, struct record_reader *in)
{
    /* BEGIN is the first one, and only that. */
    if ((type == RECORD_BEGIN) != (s->sequence == 0))
        return false;
    switch (type) {
    case RECORD_BEGIN:
        get_begin(in, s);
        return true;
    case RECORD_DIRTY:
        s->more = s->append;
        s->committed = s->committed && s->append;
        s->final = s->synced = false;
        return true;
    case RECORD_COMMIT:
        get_commit(in, s);
        return true;
    case RECORD_INTENT:
        leave_upload(in, s);
        forget_upload(s);
        s->intent = (time_t)record_get_int(in, 8);
        s->streamed = !s->committed;
        return true;
    case RECORD_UPLOAD:
        record_get_fixed_text(in, s->upload_id, sizeof(s->upload_id));
        s->intent = 0;
        return true;
    case RECORD_PART:
        get_part(in, s);
        return true;
    case RECORD_END:
        get_end(in, s);
        return true;
    case RECORD_SENT:
        record_get_object(in, &s->object);
        /* What COMMIT wanted is in the bucket; a DIRTY after it stays to be answered for. */
        s->content = s->attrs = s->final = false;
        free_shares(&s->hidden, &s->n_hidden);
        append_ended(s);
        return true;
    case RECORD_APPEND:
        get_append(in, s);
        return true;
    case RECORD_MOVED:
        get_moved(in, s);
        return true;
    case RECORD_FINAL:
        s->final_size = record_get_int(in, 8);
        s->final_crc = record_get_int(in, 8);
        s->final = true;
        return true;
    case RECORD_SYNCED:
        s->synced = s->committed;
        return true;
    case RECORD_SHARES:
        get_shares(in, s);
        return true;
    case RECORD_HIDDEN:
        get_hidden(in, s);
        return true;
    case RECORD_KEY:
        get_key(in, s);
        return true;
    }
    return false;
}

/* Can this be the beginning of a BEGIN record, cut off as a write that was never finished leaves it? */
static bool begun(const unsigned char *data, size_t size)
{
    struct record_reader in = {.p = data, .end = data + size};
    uint64_t length;

    if (size < HEADER_SIZE)
        return true;
    if (record_get_int(&in, 4) != MAGIC || record_get_int(&in, 1) != VERSION ||
        record_get_int(&in, 1) != RECORD_BEGIN || record_get_int(&in, 2) != 0 || record_get_int(&in, 4) != 1)
        return false;
    length = record_get_int(&in, 4);
    return length <= PAYLOAD_MAX && length > size - HEADER_SIZE;
}

static int replay(const unsigned char *data, size_t size, struct journal_state *s)
{
    struct record_reader in;
    struct record_head head;
    size_t at = 0;

    for (; record_next(data, size, &at, MAGIC, s->sequence + 1, &head, &in); s->sequence++, s->good_size = at) {
        if (head.version != VERSION || !apply(s, (enum record_type)head.type, &in) || in.bad)
            return -EPROTO;
    }
    if (s->key)
        return 0;
    return begun(data, size) ? -ENODATA : -EINVAL;
}

int journal_read(const char *path, struct journal_state *out)
{
    struct buf file = BUF_INIT(1u << 30);
    int r;

    memset(out, 0, sizeof(*out));
    r = record_read_file(path, &file);
    if (!r)
        r = replay((const unsigned char *)buf_str(&file), file.len, out);
    buf_free(&file);
    if (r)
        journal_state_free(out);
    return r;
}

void journal_state_free(struct journal_state *s)
{
    free(s->key);
    kv_free(&s->headers);
    oinfo_put(s->object);
    free(s->extents);
    forget_shares(s);
    free_shares(&s->hidden, &s->n_hidden);
    free(s->parts);
    for (size_t i = 0; i < s->n_left; i++)
        free(s->left[i].key);
    free(s->left);
    memset(s, 0, sizeof(*s));
}
