/*
 * util.h: the primitives of the local server: memory, growing text, name/value lists, escaping, dates.
 *
 * A test server has nothing sensible to do without memory: the x… functions end the program instead of failing.
 * Nothing here blocks or locks.
 */
#ifndef OSSD_UTIL_H
#define OSSD_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xmemdup(const void *p, size_t n); /* with a NUL after it */

/* Bytes of somebody else's; keys may hold any byte. */
struct bytes {
    const char *p;
    size_t n;
};
int bytes_compare(struct bytes a, struct bytes b); /* unsigned byte order, a prefix comes first */
bool bytes_starts(struct bytes s, struct bytes prefix);

/* Growing text; all-zero is empty, `p` is NUL-terminated unless NULL. */
struct sbuf {
    char *p;
    size_t n, cap;
};
void sbuf_reserve(struct sbuf *b, size_t more);
void sbuf_add(struct sbuf *b, const void *data, size_t n);
void sbuf_adds(struct sbuf *b, const char *s);
void sbuf_addc(struct sbuf *b, char c);
void sbuf_addf(struct sbuf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sbuf_free(struct sbuf *b);

/* Name/value pairs in order; both strings are owned by the list. */
struct pair {
    char *name, *value;
};
struct pairs {
    struct pair *v;
    size_t n, cap;
};
void pairs_add(struct pairs *l, const char *name, const char *value);
void pairs_addf(struct pairs *l, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
const char *pairs_get(const struct pairs *l, const char *name); /* NULL when absent */
bool pairs_has(const struct pairs *l, const char *name);
void pairs_set(struct pairs *l, const char *name, const char *value); /* replaces, or adds */
void pairs_free(struct pairs *l);

/* Percent-escapes everything but A-Z a-z 0-9 - . _ ~ (and '/' with keep_slash). */
void escape_url(struct sbuf *out, struct bytes s, bool keep_slash);
/* Undoes %XX; other bytes stay as they are. False for a '%' without two hex digits. */
bool unescape_url(struct sbuf *out, struct bytes s);

/* XML text: the five entities, control characters as numeric references. */
void escape_xml(struct sbuf *out, struct bytes s);
/* JSON string with its quotes: bytes outside printable ASCII as \u00XX. */
void escape_json(struct sbuf *out, struct bytes s);

void hex_lower(char *out, const void *data, size_t n); /* 2n characters and a NUL */
void hex_upper(char *out, const void *data, size_t n);
bool hex_decode(struct sbuf *out, const char *hex);
char *base64_encode(const void *data, size_t n); /* to be freed */
/* -1 for malformed text or more than `cap` bytes. */
int base64_decode(void *out, size_t cap, const char *text);

#define DATE_SIZE 40
void date_http(char out[DATE_SIZE], time_t t); /* Wed, 22 Feb 2012 08:32:21 GMT */
void date_iso(char out[DATE_SIZE], time_t t);  /* 2012-02-22T08:32:21.000Z */
bool date_parse_http(const char *text, time_t *t);
bool date_parse_compact(const char *text, time_t *t); /* 20120222T083221Z */

/* A decimal number without sign, blanks or overflow. */
bool parse_u64(const char *text, uint64_t *out);
bool utf8_valid(struct bytes s);
uint64_t random_u64(void);
int64_t clock_ms(void); /* monotonic */
void sleep_ms(int64_t ms);

#endif
