#include "format.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *format_bytes(char out[FORMAT_SIZE], uint64_t n)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)n;
    size_t i = 0;

    if (n < 1024) {
        snprintf(out, FORMAT_SIZE, "%u B", (unsigned)n);
        return out;
    }
    /* 1023.96 would be written as 1024.0. */
    for (value /= 1024; value >= 1023.95 && i + 1 < sizeof(units) / sizeof(*units); i++)
        value /= 1024;
    snprintf(out, FORMAT_SIZE, value < 1000 ? "%.1f %s" : "%.0f %s", value, units[i]);
    return out;
}

const char *format_duration(char out[FORMAT_SIZE], int64_t ms)
{
    long long s = ms < 0 ? 0 : ms / 1000;

    if (s < 60)
        snprintf(out, FORMAT_SIZE, "%lld s", s);
    else if (s < 3600)
        snprintf(out, FORMAT_SIZE, "%lld min %lld s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, FORMAT_SIZE, "%lld h %lld min", s / 3600, s % 3600 / 60);
    else
        snprintf(out, FORMAT_SIZE, "%lld d %lld h", s / 86400, s % 86400 / 3600);
    return out;
}

const char *format_time(char out[FORMAT_SIZE], time_t t)
{
    struct tm tm;

    if (!localtime_r(&t, &tm) || !strftime(out, FORMAT_SIZE, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(out, FORMAT_SIZE, "?");
    return out;
}

const char *format_latency(char out[FORMAT_SIZE], double ms)
{
    if (ms < 1000)
        snprintf(out, FORMAT_SIZE, "%.0f ms", ms);
    else
        snprintf(out, FORMAT_SIZE, "%.1f s", ms / 1000);
    return out;
}

void format_bar(struct buf *out, uint64_t done, uint64_t total, unsigned width)
{
    unsigned full = total == 0 || done >= total ? width : (unsigned)((double)done / (double)total * width);

    buf_adds(out, "[");
    for (unsigned i = 0; i < width; i++)
        buf_adds(out, i < full ? "#" : "-");
    buf_adds(out, "]");
}

/* ------------------------------------------------------------------------------------------------- text */

/* Bytes of the well-formed character at p, 0 when there is none. */
static size_t character(const unsigned char *p)
{
    size_t n = *p < 0x80                 ? 1
               : *p >= 0xc2 && *p < 0xe0 ? 2
               : *p >= 0xe0 && *p < 0xf0 ? 3
               : *p >= 0xf0 && *p < 0xf5 ? 4
                                         : 0;

    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* Written longer than need be, a surrogate, or beyond the last character. */
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

static bool is_control(const unsigned char *p)
{
    return *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0);
}

/* One character (or broken byte) as it is shown; its width, and in *n how many bytes of p it is. */
static unsigned shown(const unsigned char *p, char cell[16], size_t *n)
{
    *n = character(p);
    if (*n && !is_control(p)) {
        memcpy(cell, p, *n);
        cell[*n] = '\0';
        return 1;
    }
    *n = *n ? *n : 1;
    cell[0] = '\0';
    for (size_t i = 0; i < *n; i++)
        snprintf(cell + 4 * i, 16 - 4 * i, "\\x%02x", p[i]);
    return (unsigned)(4 * *n);
}

static unsigned width_of(const char *name)
{
    unsigned width = 0;
    char cell[16];
    size_t n;

    for (const unsigned char *p = (const unsigned char *)name; *p; p += n)
        width += shown(p, cell, &n);
    return width;
}

void format_name(struct buf *out, const char *name, unsigned columns, int pad)
{
    const unsigned char *p = (const unsigned char *)name;
    unsigned width = width_of(name), at = 0;
    char cell[16];
    size_t n;

    if (columns && width > columns) {
        /* The end of a path says more than its beginning. */
        for (; *p && width > (columns > 3 ? columns - 3 : columns); p += n)
            width -= shown(p, cell, &n);
        buf_adds(out, columns > 3 ? "..." : "");
        at = columns > 3 ? 3 : 0;
    }
    for (; *p; p += n) {
        at += shown(p, cell, &n);
        buf_adds(out, cell);
    }
    for (; pad && at < columns; at++)
        buf_adds(out, " ");
}

void format_json(struct buf *out, const char *text)
{
    buf_adds(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = character(p);

        if (*p == '"' || *p == '\\')
            buf_addf(out, "\\%c", *p);
        else if (n == 1 && is_control(p))
            buf_addf(out, "\\u%04x", *p);
        else if (n)
            buf_add(out, p, n);
        else
            buf_adds(out, "\\ufffd");
        p += n ? n : 1;
    }
    buf_adds(out, "\"");
}

void format_label(struct buf *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = character(p);

        if (*p == '"' || *p == '\\')
            buf_addf(out, "\\%c", *p);
        else if (*p == '\n')
            buf_adds(out, "\\n");
        else if (n && !is_control(p))
            buf_add(out, p, n);
        else
            buf_adds(out, "\xef\xbf\xbd");
        p += n ? n : 1;
    }
}

int format_read_duration(const char *text, int64_t *seconds)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t digits = strspn(text, "0123456789");
    int64_t n;

    if (digits == 0 || digits > 12 || (text[digits] && text[digits + 1]))
        return -EINVAL;
    n = strtoll(text, NULL, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        if (units[i].letter != text[digits] || n == 0)
            continue;
        *seconds = n * units[i].seconds;
        return 0;
    }
    return -EINVAL;
}
