#include "keep_log.h"

#include "../oss/crc64.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAGIC       0x4b53534fu
#define VERSION     1
#define HEADER_SIZE 24

static void put_int(struct buf *b, uint64_t v, size_t bytes)
{
    unsigned char raw[8];

    for (size_t i = 0; i < bytes; i++)
        raw[i] = (unsigned char)(v >> 8 * i);
    buf_add(b, raw, bytes);
}

/* With its NUL, so that it can be shown where it is read. */
static void put_text(struct buf *b, const char *text)
{
    put_int(b, strlen(text) + 1, 4);
    buf_add(b, text, strlen(text) + 1);
}

static uint64_t get_int(const char *p, size_t bytes)
{
    uint64_t v = 0;

    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)(unsigned char)p[i] << 8 * i;
    return v;
}

static uint64_t sum_of(const struct buf *b)
{
    uint64_t crc = crc64(0, b->data, 16);

    return crc64(crc, b->data + HEADER_SIZE, b->len - HEADER_SIZE);
}

int keep_encode(struct buf *out, const struct keep_record *record)
{
    static const char zeros[HEADER_SIZE - 6]; /* the length and the CRC are filled in at the end */
    uint64_t crc;

    buf_reset(out);
    put_int(out, MAGIC, 4);
    put_int(out, VERSION, 1);
    put_int(out, record->type, 1);
    buf_add(out, zeros, sizeof(zeros));
    put_int(out, record->number, 8);
    if (record->type == KEEP_KEPT) {
        put_int(out, record->size, 8);
        put_int(out, record->sums.n, 4);
        put_text(out, record->etag);
        put_text(out, record->key);
        for (size_t i = 0; i < record->sums.n; i++) {
            put_int(out, record->sums.v[i].start, 8);
            put_int(out, record->sums.v[i].end, 8);
            put_int(out, record->sums.v[i].crc, 8);
        }
    }
    if (out->err)
        return out->err;
    for (size_t i = 0; i < 4; i++)
        out->data[8 + i] = (char)((out->len - HEADER_SIZE) >> 8 * i);
    crc = sum_of(out);
    for (size_t i = 0; i < 8; i++)
        out->data[16 + i] = (char)(crc >> 8 * i);
    return 0;
}

/* ------------------------------------------------------------------------------------------- reading */

static int read_all(int fd, char *to, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* Makes room for n bytes in all; the buffer says they are there. */
static int make_room(struct buf *raw, size_t n)
{
    static const char zeros[4096];

    while (raw->len < n && !raw->err)
        buf_add(raw, zeros, n - raw->len < sizeof(zeros) ? n - raw->len : sizeof(zeros));
    return raw->err;
}

struct cursor {
    const char *p, *end;
};

static const char *take(struct cursor *c, size_t n)
{
    const char *p = c->p;

    if (!p || n > (size_t)(c->end - p)) {
        c->p = NULL;
        return NULL;
    }
    c->p += n;
    return p;
}

static uint64_t take_int(struct cursor *c, size_t bytes)
{
    const char *p = take(c, bytes);

    return p ? get_int(p, bytes) : 0;
}

static const char *take_text(struct cursor *c)
{
    size_t n = take_int(c, 4);
    const char *text = n ? take(c, n) : NULL;

    if (!text || memchr(text, '\0', n) != text + n - 1)
        c->p = NULL;
    return text;
}

static int take_ranges(struct cursor *c, size_t n, struct keep_record *out)
{
    uint64_t last = 0;

    for (size_t i = 0; i < n; i++) {
        struct sum sum;
        int r;

        sum.start = take_int(c, 8);
        sum.end = take_int(c, 8);
        sum.crc = take_int(c, 8);
        if (!c->p || sum.start < last || sum.end > out->size)
            return -EINVAL;
        r = sums_put(&out->sums, sum);
        if (r)
            return r;
        last = sum.end;
        out->bytes += sum.end - sum.start;
    }
    out->end = last;
    return c->p == c->end ? 0 : -EINVAL;
}

static int decode(const struct buf *raw, struct keep_record *out)
{
    struct cursor c = {.p = raw->data + HEADER_SIZE, .end = raw->data + raw->len};
    size_t n;
    int r = 0;

    out->type = (enum keep_type)(unsigned char)raw->data[5];
    out->number = take_int(&c, 8);
    if (out->type == KEEP_KEPT) {
        out->size = take_int(&c, 8);
        n = take_int(&c, 4);
        out->etag = take_text(&c);
        out->key = take_text(&c);
        r = take_ranges(&c, n, out);
    } else if (out->type != KEEP_CHANGED || c.p != c.end) {
        r = -EINVAL;
    }
    if (r)
        sums_free(&out->sums);
    return r;
}

int keep_read_record(int fd, uint64_t at, struct buf *raw, struct keep_record *out)
{
    size_t length;
    int r;

    *out = (struct keep_record){0};
    buf_reset(raw);
    r = make_room(raw, HEADER_SIZE);
    if (!r)
        r = read_all(fd, raw->data, HEADER_SIZE, at);
    if (r)
        return r;
    length = get_int(raw->data + 8, 4);
    if (get_int(raw->data, 4) != MAGIC || raw->data[4] != VERSION || length > KEEP_RECORD_MAX)
        return -EINVAL;
    r = make_room(raw, HEADER_SIZE + length);
    if (!r)
        r = read_all(fd, raw->data + HEADER_SIZE, length, at + HEADER_SIZE);
    if (r)
        return r;
    return get_int(raw->data + 16, 8) == sum_of(raw) ? decode(raw, out) : -EINVAL;
}

int keep_append(int fd, uint64_t *end, const struct buf *raw)
{
    ssize_t n = raw->err ? 0 : pwrite(fd, raw->data, raw->len, (off_t)*end);

    if (raw->err)
        return raw->err;
    if (n != (ssize_t)raw->len)
        return n < 0 ? -errno : -ENOSPC; /* the next one takes its place */
    *end += raw->len;
    return 0;
}
