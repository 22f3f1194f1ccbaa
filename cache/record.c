/* Records as they are on disk; the formats are specified where they are used (journal.h, rename_intent.h). */
#include "record.h"

#include "attr.h"

#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------- writing */

void record_put_int(struct buf *b, uint64_t v, size_t bytes)
{
    unsigned char raw[8];

    for (size_t i = 0; i < bytes; i++)
        raw[i] = (unsigned char)(v >> 8 * i);
    buf_add(b, raw, bytes);
}

void record_put_text(struct buf *b, const char *text)
{
    size_t n = strlen(text);

    record_put_int(b, n, 4);
    buf_add(b, text, n);
}

void record_put_object(struct buf *b, const struct oinfo *object)
{
    record_put_int(b, object != NULL, 1);
    if (!object)
        return;
    record_put_text(b, object->etag);
    record_put_int(b, object->attr.size, 8);
    record_put_int(b, (uint64_t)object->last_modified, 8);
    record_put_int(b, object->type, 1);
    record_put_int(b, object->is_marker, 1);
    record_put_int(b, object->attr.mode, 4);
}

int record_write(int fd, const struct record_head *head, const struct buf *payload, uint64_t *at)
{
    struct buf record = BUF_INIT(RECORD_HEADER + RECORD_PAYLOAD_MAX);
    uint64_t crc;
    ssize_t n;
    int r;

    record_put_int(&record, head->magic, 4);
    record_put_int(&record, head->version, 1);
    record_put_int(&record, head->type, 1);
    record_put_int(&record, 0, 2);
    record_put_int(&record, head->sequence, 4);
    record_put_int(&record, payload ? payload->len : 0, 4);
    crc = record.err ? 0 : crc64(0, record.data, record.len);
    if (payload)
        crc = crc64(crc, payload->data, payload->len);
    record_put_int(&record, crc, 8);
    if (payload && payload->err)
        record.err = payload->err;
    else if (payload && payload->len)
        buf_add(&record, payload->data, payload->len);
    r = record.err;
    n = r ? 0 : pwrite(fd, record.data, record.len, (off_t)*at);
    if (!r && n != (ssize_t)record.len)
        r = n < 0 ? -errno : -ENOSPC;
    if (!r)
        *at += record.len;
    buf_free(&record);
    return r;
}

/* ------------------------------------------------------------------------------------------- reading */

uint64_t record_get_int(struct record_reader *in, size_t bytes)
{
    uint64_t v = 0;

    if ((size_t)(in->end - in->p) < bytes) {
        in->bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)in->p[i] << 8 * i;
    in->p += bytes;
    return v;
}

char *record_get_text(struct record_reader *in)
{
    size_t n = record_get_int(in, 4);
    char *text;

    if (in->bad || (size_t)(in->end - in->p) < n || memchr(in->p, '\0', n) || !(text = malloc(n + 1))) {
        in->bad = true;
        return NULL;
    }
    memcpy(text, in->p, n);
    text[n] = '\0';
    in->p += n;
    return text;
}

void record_get_fixed_text(struct record_reader *in, char *out, size_t size)
{
    char *text = record_get_text(in);

    if (text && strlen(text) < size)
        strcpy(out, text);
    else
        in->bad = true;
    free(text);
}

void record_get_object(struct record_reader *in, struct oinfo **object)
{
    static const struct oss_object nothing;
    static const struct attr_defaults unused;
    struct oinfo *info;

    oinfo_put(*object);
    *object = NULL;
    if (!record_get_int(in, 1) || in->bad)
        return;
    info = oinfo_from_object(&nothing, &unused, false);
    if (!info) {
        in->bad = true;
        return;
    }
    record_get_fixed_text(in, info->etag, sizeof(info->etag));
    info->attr.size = record_get_int(in, 8);
    info->last_modified = (time_t)record_get_int(in, 8);
    info->type = (enum oss_type)record_get_int(in, 1);
    info->is_marker = record_get_int(in, 1);
    info->attr.mode = (uint32_t)record_get_int(in, 4);
    *object = info;
}

bool record_next(const unsigned char *data, size_t size, size_t *at, uint32_t magic, uint32_t sequence,
                 struct record_head *head, struct record_reader *payload)
{
    const unsigned char *p = data + *at;
    struct record_reader in = {.p = p, .end = p + RECORD_HEADER};
    uint64_t length, crc;

    if (size - *at < RECORD_HEADER)
        return false;
    head->magic = (uint32_t)record_get_int(&in, 4);
    head->version = (unsigned)record_get_int(&in, 1);
    head->type = (unsigned)record_get_int(&in, 1);
    record_get_int(&in, 2);
    head->sequence = (uint32_t)record_get_int(&in, 4);
    length = record_get_int(&in, 4);
    crc = record_get_int(&in, 8);
    if (head->magic != magic || head->sequence != sequence || length > RECORD_PAYLOAD_MAX ||
        size - *at - RECORD_HEADER < length)
        return false;
    if (crc64(crc64(0, p, RECORD_HEADER - 8), p + RECORD_HEADER, length) != crc)
        return false;
    *payload = (struct record_reader){.p = p + RECORD_HEADER, .end = p + RECORD_HEADER + length};
    *at += RECORD_HEADER + length;
    return true;
}

int record_read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char chunk[65536];
    ssize_t n;
    int r = fd < 0 ? -errno : 0;

    while (!r && (n = read(fd, chunk, sizeof(chunk))) != 0)
        r = n < 0 ? -errno : buf_add(out, chunk, (size_t)n);
    if (fd >= 0)
        close(fd);
    return r;
}
