/*
 * A growable byte buffer with a maximum from birth.
 *
 * The error is sticky: after -ENOMEM or -ENOSPC (the maximum would be passed) every further add does nothing and
 * returns the same error, so a caller may add many pieces and check once. `data` is always terminated by a NUL
 * that `len` does not count, so a buffer of text is a C string; NULL only while nothing was ever added.
 * Not thread-safe.
 */
#ifndef OSS_BASE_BUF_H
#define OSS_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data;
    size_t len;  /* bytes in use */
    size_t size; /* bytes allocated */
    size_t max;  /* `len` never passes this */
    int err;     /* 0, or the first negative errno */
};

/* An empty buffer that holds at most `max` bytes; safe to free without use. */
#define BUF_INIT(maximum) \
    {                     \
        .max = (maximum)  \
    }
void buf_init(struct buf *b, size_t max);

/* Frees the memory; the buffer is empty and usable again with the same maximum. */
void buf_free(struct buf *b);

/* Empties the buffer and clears the error, keeps the memory. */
void buf_reset(struct buf *b);

/* Each returns 0 or the sticky negative errno. */
int buf_add(struct buf *b, const void *data, size_t n);
int buf_adds(struct buf *b, const char *text);
int buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text, never NULL: "" for a buffer to which nothing was added. */
const char *buf_str(const struct buf *b);

#endif
