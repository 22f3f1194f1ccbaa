#include "base_buf.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
    memset(b, 0, sizeof *b);
    b->max = max;
}

void buf_free(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->err = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Makes room for n more bytes and the NUL. */
static int reserve(struct buf *b, size_t n)
{
    size_t size;
    char *data;

    if (b->err)
        return b->err;
    if (n > b->max - b->len || n >= SIZE_MAX - b->len)
        return b->err = -ENOSPC;
    if (b->size > b->len + n)
        return 0;
    /* Doubling keeps many small adds linear; the maximum caps it. */
    size = b->size > SIZE_MAX / 2 ? SIZE_MAX : b->size * 2;
    if (size < 64)
        size = 64;
    if (size - 1 > b->max)
        size = b->max + 1;
    if (size < b->len + n + 1)
        size = b->len + n + 1;
    data = realloc(b->data, size);
    if (!data)
        return b->err = -ENOMEM;
    b->data = data;
    b->size = size;
    return 0;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
    int r = reserve(b, n);

    if (r)
        return r;
    if (n)
        memcpy(b->data + b->len, data, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int buf_adds(struct buf *b, const char *text)
{
    return buf_add(b, text, strlen(text));
}

int buf_addf(struct buf *b, const char *format, ...)
{
    char small[256];
    va_list ap;
    int n, r;

    va_start(ap, format);
    n = vsnprintf(small, sizeof small, format, ap);
    va_end(ap);
    if (n < 0)
        return b->err ? b->err : (b->err = -EINVAL);
    if ((size_t)n < sizeof small)
        return buf_add(b, small, (size_t)n);

    r = reserve(b, (size_t)n);
    if (r)
        return r;
    va_start(ap, format);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

const char *buf_str(const struct buf *b)
{
    return b->data ? b->data : "";
}
