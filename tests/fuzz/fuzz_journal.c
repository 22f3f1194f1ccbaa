/*
 * journal_read() on arbitrary bytes. A CRC would stop nearly every mutation at the first record, so the input is a
 * row of (type, length, payload) that gets its headers and CRCs here; with an odd first byte it is the file itself.
 */
#include "../../cache/journal.h"
#include "../../oss/crc64.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER_SIZE 24
#define INPUT_MAX   65536

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void put(unsigned char *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(v >> 8 * i);
}

/* Writes the records that the input stands for; returns their bytes. */
static size_t make_records(int fd, const uint8_t *data, size_t size)
{
    size_t at = 0, written = 0;
    uint32_t sequence = 0;

    while (size - at >= 2) {
        unsigned char head[HEADER_SIZE];
        size_t length = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
        const uint8_t *payload = data + at + 2;

        put(head, 0x4a53534f, 4);
        put(head + 4, 1, 1);
        put(head + 5, data[at], 1);
        put(head + 6, 0, 2);
        put(head + 8, ++sequence, 4);
        put(head + 12, length, 4);
        put(head + 16, crc64(crc64(0, head, 16), payload, length), 8);
        check(pwrite(fd, head, sizeof(head), (off_t)written) == (ssize_t)sizeof(head));
        check(pwrite(fd, payload, length, (off_t)(written + HEADER_SIZE)) == (ssize_t)length);
        written += HEADER_SIZE + length;
        at += 2 + length;
    }
    return written;
}

static void look_at(const struct journal_state *s, size_t size)
{
    check(s->key != NULL && s->sequence > 0 && s->good_size <= size);
    check(strlen(s->upload_id) < sizeof(s->upload_id));
    check(!s->object || strlen(s->object->etag) < sizeof(s->object->etag));
    check(s->n_extents == 0 || s->extents != NULL);
    check(s->n_extents <= size / 16 && s->n_parts <= size / HEADER_SIZE && s->headers.n <= size / 8);
    for (size_t i = 0; i < s->n_parts; i++)
        check(strlen(s->parts[i].part.etag) < sizeof(s->parts[i].part.etag));
    for (size_t i = 0; i < s->headers.n; i++)
        check(s->headers.v[i].name && s->headers.v[i].value);
}

static char path[64];

static void clean_up(void)
{
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct journal_state s, zero = {0};
    size_t n;
    int r;

    if (fd < 0) {
        /* By its name below /proc it would be a symbolic link, which is refused. */
        snprintf(path, sizeof(path), "/dev/shm/fuzz-journal-%d", (int)getpid());
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        check(fd >= 0 && atexit(clean_up) == 0);
    }
    if (size < 1 || size > INPUT_MAX)
        return 0;
    check(ftruncate(fd, 0) == 0);
    if (*data % 2) {
        n = size - 1;
        check(pwrite(fd, data + 1, n, 0) == (ssize_t)n);
    } else {
        n = make_records(fd, data + 1, size - 1);
    }
    memset(&s, 0xaa, sizeof(s));
    r = journal_read(path, &s);
    if (r) {
        check(!memcmp(&s, &zero, sizeof(s))); /* nothing is left to be freed */
        return 0;
    }
    look_at(&s, n);
    journal_state_free(&s);
    return 0;
}
