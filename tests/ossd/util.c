/* util.c: see util.h. */
#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void *must(void *p)
{
    if (!p) {
        fputs("ossd: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *xmalloc(size_t n)
{
    return must(malloc(n ? n : 1));
}

void *xcalloc(size_t n, size_t size)
{
    return must(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
    return must(realloc(p, n ? n : 1));
}

char *xmemdup(const void *p, size_t n)
{
    char *copy = xmalloc(n + 1);

    if (n)
        memcpy(copy, p, n);
    copy[n] = '\0';
    return copy;
}

char *xstrdup(const char *s)
{
    return xmemdup(s, strlen(s));
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int r = n ? memcmp(a.p, b.p, n) : 0;

    if (r)
        return r;
    return a.n < b.n ? -1 : a.n > b.n;
}

bool bytes_starts(struct bytes s, struct bytes prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* ------------------------------------------------------------------------------------------------- text */

void sbuf_reserve(struct sbuf *b, size_t more)
{
    size_t need = b->n + more + 1;

    if (need <= b->cap)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    b->p = xrealloc(b->p, cap);
    b->cap = cap;
}

void sbuf_add(struct sbuf *b, const void *data, size_t n)
{
    sbuf_reserve(b, n);
    if (n)
        memcpy(b->p + b->n, data, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void sbuf_adds(struct sbuf *b, const char *s)
{
    sbuf_add(b, s, strlen(s));
}

void sbuf_addc(struct sbuf *b, char c)
{
    sbuf_add(b, &c, 1);
}

static void sbuf_vaddf(struct sbuf *b, const char *format, va_list args)
{
    va_list again;

    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n < 0)
        return;
    sbuf_reserve(b, (size_t)n);
    vsnprintf(b->p + b->n, (size_t)n + 1, format, args);
    b->n += (size_t)n;
}

void sbuf_addf(struct sbuf *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    sbuf_vaddf(b, format, args);
    va_end(args);
}

void sbuf_free(struct sbuf *b)
{
    free(b->p);
    *b = (struct sbuf){0};
}

/* ------------------------------------------------------------------------------------------------ pairs */

static void pairs_take(struct pairs *l, char *name, char *value)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->v = xrealloc(l->v, l->cap * sizeof *l->v);
    }
    l->v[l->n++] = (struct pair){name, value};
}

void pairs_add(struct pairs *l, const char *name, const char *value)
{
    pairs_take(l, xstrdup(name), xstrdup(value));
}

void pairs_addf(struct pairs *l, const char *name, const char *format, ...)
{
    struct sbuf b = {0};
    va_list args;

    va_start(args, format);
    sbuf_vaddf(&b, format, args);
    va_end(args);
    sbuf_reserve(&b, 0);
    b.p[b.n] = '\0';
    pairs_take(l, xstrdup(name), b.p);
}

const char *pairs_get(const struct pairs *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].name, name) == 0)
            return l->v[i].value;
    return NULL;
}

bool pairs_has(const struct pairs *l, const char *name)
{
    return pairs_get(l, name) != NULL;
}

void pairs_set(struct pairs *l, const char *name, const char *value)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].name, name) == 0) {
            free(l->v[i].value);
            l->v[i].value = xstrdup(value);
            return;
        }
    pairs_add(l, name, value);
}

void pairs_free(struct pairs *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].value);
    }
    free(l->v);
    *l = (struct pairs){0};
}

/* --------------------------------------------------------------------------------------------- escaping */

static bool plain(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

void escape_url(struct sbuf *out, struct bytes s, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";

    sbuf_reserve(out, 3 * s.n);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (plain(c) || (c == '/' && keep_slash)) {
            out->p[out->n++] = (char)c;
        } else {
            out->p[out->n++] = '%';
            out->p[out->n++] = digits[c >> 4];
            out->p[out->n++] = digits[c & 15];
        }
    }
    out->p[out->n] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool unescape_url(struct sbuf *out, struct bytes s)
{
    bool good = true;

    sbuf_reserve(out, s.n);
    for (size_t i = 0; i < s.n && good; i++) {
        char c = s.p[i];
        if (c == '%') {
            good = i + 2 < s.n && hex_value(s.p[i + 1]) >= 0 && hex_value(s.p[i + 2]) >= 0;
            if (good)
                c = (char)(hex_value(s.p[i + 1]) << 4 | hex_value(s.p[i + 2]));
            i += 2;
        }
        out->p[out->n++] = c;
    }
    out->p[out->n] = '\0';
    return good;
}

void escape_xml(struct sbuf *out, struct bytes s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '&')
            sbuf_adds(out, "&amp;");
        else if (c == '<')
            sbuf_adds(out, "&lt;");
        else if (c == '>')
            sbuf_adds(out, "&gt;");
        else if (c == '"')
            sbuf_adds(out, "&quot;");
        else if (c < 32 || c == 127)
            sbuf_addf(out, "&#x%X;", c);
        else
            sbuf_addc(out, (char)c);
    }
}

void escape_json(struct sbuf *out, struct bytes s)
{
    sbuf_addc(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            sbuf_addf(out, "\\%c", c);
        else if (c < 32 || c >= 127)
            sbuf_addf(out, "\\u%04x", c);
        else
            sbuf_addc(out, (char)c);
    }
    sbuf_addc(out, '"');
}

static void hex_with(char *out, const void *data, size_t n, const char *digits)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

void hex_lower(char *out, const void *data, size_t n)
{
    hex_with(out, data, n, "0123456789abcdef");
}

void hex_upper(char *out, const void *data, size_t n)
{
    hex_with(out, data, n, "0123456789ABCDEF");
}

bool hex_decode(struct sbuf *out, const char *hex)
{
    for (; *hex; hex += 2) {
        if (hex_value(hex[0]) < 0 || hex_value(hex[1]) < 0)
            return false;
        sbuf_addc(out, (char)(hex_value(hex[0]) << 4 | hex_value(hex[1])));
    }
    return true;
}

char *base64_encode(const void *data, size_t n)
{
    char *out = xmalloc(4 * ((n + 2) / 3) + 1);

    out[0] = '\0';
    EVP_EncodeBlock((unsigned char *)out, data, (int)n);
    return out;
}

int base64_decode(void *out, size_t cap, const char *text)
{
    size_t n = strlen(text);

    if (n == 0 || n % 4 || 3 * (n / 4) > cap + 2)
        return -1;
    unsigned char *room = xmalloc(3 * (n / 4));
    int got = EVP_DecodeBlock(room, (const unsigned char *)text, (int)n);
    if (got > 0 && text[n - 1] == '=')
        got -= text[n - 2] == '=' ? 2 : 1;
    if (got >= 0 && (size_t)got <= cap)
        memcpy(out, room, (size_t)got);
    else
        got = -1;
    free(room);
    return got;
}

/* ------------------------------------------------------------------------------------------------ dates */

void date_http(char out[DATE_SIZE], time_t t)
{
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(out, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

void date_iso(char out[DATE_SIZE], time_t t)
{
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(out, DATE_SIZE, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
}

static bool date_parse(const char *text, const char *format, time_t *t)
{
    struct tm tm = {0};
    const char *end = strptime(text, format, &tm);

    if (!end || *end)
        return false;
    *t = timegm(&tm);
    return true;
}

bool date_parse_http(const char *text, time_t *t)
{
    return date_parse(text, "%a, %d %b %Y %H:%M:%S GMT", t);
}

bool date_parse_compact(const char *text, time_t *t)
{
    return strlen(text) == 16 && date_parse(text, "%Y%m%dT%H%M%SZ", t);
}

/* ---------------------------------------------------------------------------------------- small things */

bool parse_u64(const char *text, uint64_t *out)
{
    uint64_t v = 0;

    if (!text || !*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool utf8_valid(struct bytes s)
{
    const unsigned char *p = (const unsigned char *)s.p;

    for (size_t i = 0; i < s.n;) {
        unsigned c = p[i++];
        if (c < 0x80)
            continue;
        unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        if (c < 0xc2 || c > 0xf4 || s.n - i < more)
            return false;
        uint32_t code = c & (0x3fu >> more);
        for (unsigned k = 0; k < more; k++, i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            code = code << 6 | (p[i] & 0x3f);
        }
        if ((more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
            (more == 3 && (code < 0x10000 || code > 0x10ffff)))
            return false;
    }
    return true;
}

uint64_t random_u64(void)
{
    uint64_t v;

    if (getrandom(&v, sizeof v, 0) != sizeof v)
        v = (uint64_t)clock_ms() * 0x9e3779b97f4a7c15u;
    return v;
}

int64_t clock_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms)
{
    struct timespec ts = {ms / 1000, (ms % 1000) * 1000000};

    if (ms > 0)
        while (nanosleep(&ts, &ts) && errno == EINTR)
            ;
}
