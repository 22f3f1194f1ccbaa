/*
 * record.h: records on disk, as the journal of a file and the intent of a rename are made of; inside cache/ only.
 * Frame: magic, version, type, zero, sequence, length, CRC-64 of all that and the payload (journal.h has the table).
 * All integers are little-endian. No function here locks; those that take a descriptor touch the local disk.
 */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include "../oss/base_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_HEADER      24
#define RECORD_PAYLOAD_MAX (64u << 20)

struct oinfo;

struct record_head {
    uint32_t magic;
    unsigned version, type;
    uint32_t sequence;
};

/* ------------------------------------------------------------------------------------------- writing */

/* Fields of a payload; an error stays in the buffer. */
void record_put_int(struct buf *b, uint64_t v, size_t bytes);
void record_put_text(struct buf *b, const char *text);
void record_put_object(struct buf *b, const struct oinfo *object); /* NULL: there is none */

/*
 * One record at *at, which moves on: whole, or not at all as far as a reader can tell. payload NULL: empty. 0 or a
 * negative errno; the next one takes the place of one that failed.
 */
int record_write(int fd, const struct record_head *head, const struct buf *payload, uint64_t *at);

/* ------------------------------------------------------------------------------------------- reading */

/* What is left of a payload; `bad` once it was too short or senseless. */
struct record_reader {
    const unsigned char *p, *end;
    bool bad;
};

uint64_t record_get_int(struct record_reader *in, size_t bytes);
/* malloc'ed; NULL when the payload is too short or holds a NUL (or out of memory). */
char *record_get_text(struct record_reader *in);
void record_get_fixed_text(struct record_reader *in, char *out, size_t size);
/* Puts the one before. ETag, size, Last-Modified, type, marker and mode only. */
void record_get_object(struct record_reader *in, struct oinfo **object);

/*
 * The record at *at, which moves on. false at the end: a torn tail, another magic, sequence or CRC. The version is
 * the caller's to look at.
 */
bool record_next(const unsigned char *data, size_t size, size_t *at, uint32_t magic, uint32_t sequence,
                 struct record_head *head, struct record_reader *payload);

/* The whole file behind what is in `out`. 0 or a negative errno. */
int record_read_file(const char *path, struct buf *out);

#endif
