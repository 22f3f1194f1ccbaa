#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES (4 << 20)
#define DEPTH_MAX      32

struct reader {
    const char *p, *end;
    int depth;
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

static void *need(void *p)
{
    if (!p)
        die("json: out of memory");
    return p;
}

static void blanks(struct reader *r)
{
    while (r->p < r->end && strchr(" \t\r\n", *r->p) && *r->p)
        r->p++;
}

static bool take(struct reader *r, const char *word)
{
    const size_t n = strlen(word);

    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n))
        return false;
    r->p += n;
    return true;
}

static bool hex4(struct reader *r, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d;

        if (r->p == r->end)
            return false;
        d = strchr(digits, *r->p >= 'A' && *r->p <= 'F' ? *r->p + 32 : *r->p);
        if (!d || !*d)
            return false;
        *out = *out << 4 | (unsigned)(d - digits);
        r->p++;
    }
    return true;
}

static size_t utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* What follows a backslash, as UTF-8; 0 is an error. */
static size_t escape(struct reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned c, low;
    const char *f;

    if (r->p == r->end)
        return 0;
    if (*r->p != 'u') {
        f = *r->p ? strchr(from, *r->p) : NULL;
        if (!f)
            return 0;
        r->p++;
        *out = to[f - from];
        return 1;
    }
    r->p++;
    if (!hex4(r, &c))
        return 0;
    if (c >= 0xd800 && c < 0xdc00) {
        if (!take(r, "\\u") || !hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
            return 0;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    return utf8(out, c);
}

static char *string(struct reader *r, size_t *len)
{
    char *text;

    if (!take(r, "\""))
        return NULL;
    text = need(malloc((size_t)(r->end - r->p) + 1));
    *len = 0;
    while (r->p < r->end && *r->p != '"') {
        if (*r->p == '\\') {
            size_t n;

            r->p++;
            n = escape(r, text + *len);
            if (!n)
                break;
            *len += n;
        } else {
            text[(*len)++] = *r->p++;
        }
    }
    if (!take(r, "\"")) {
        free(text);
        return NULL;
    }
    text[*len] = '\0';
    return need(realloc(text, *len + 1));
}

static struct json *value(struct reader *r);

/* The children of an array or object, after its opening bracket. */
static bool children(struct reader *r, struct json *j, bool named, const char *close)
{
    blanks(r);
    if (take(r, close))
        return true;
    for (;;) {
        struct json *item;
        char *name = NULL;
        size_t len;

        blanks(r);
        if (named) {
            name = string(r, &len);
            blanks(r);
            if (!name || !take(r, ":")) {
                free(name);
                return false;
            }
        }
        item = value(r);
        if (!item) {
            free(name);
            return false;
        }
        j->items = need(reallocarray(j->items, j->n + 1, sizeof *j->items));
        j->names = need(reallocarray(j->names, j->n + 1, sizeof *j->names));
        j->items[j->n] = item;
        j->names[j->n++] = name;
        blanks(r);
        if (take(r, close))
            return true;
        if (!take(r, ","))
            return false;
    }
}

static bool fill(struct reader *r, struct json *j)
{
    const char *start = r->p;

    if (take(r, "null"))
        return true;
    if (take(r, "false"))
        return j->type = JSON_FALSE, true;
    if (take(r, "true"))
        return j->type = JSON_TRUE, true;
    if (take(r, "["))
        return j->type = JSON_ARRAY, children(r, j, false, "]");
    if (take(r, "{"))
        return j->type = JSON_OBJECT, children(r, j, true, "}");
    if (r->p < r->end && *r->p == '"')
        return j->type = JSON_STRING, (j->text = string(r, &j->len)) != NULL;
    while (r->p < r->end && *r->p && strchr("+-.eE0123456789", *r->p))
        r->p++;
    j->type = JSON_NUMBER;
    j->len = (size_t)(r->p - start);
    j->text = need(strndup(start, j->len));
    return j->len > 0;
}

static struct json *value(struct reader *r)
{
    struct json *j = need(calloc(1, sizeof *j));
    bool ok;

    blanks(r);
    ok = ++r->depth <= DEPTH_MAX && fill(r, j);
    r->depth--;
    if (ok)
        return j;
    json_free(j);
    return NULL;
}

struct json *json_parse(const char *text, size_t n)
{
    struct reader r = {.p = text, .end = text + n};
    struct json *j = value(&r);

    blanks(&r);
    if (j && r.p != r.end) {
        json_free(j);
        j = NULL;
    }
    return j;
}

struct json *json_load(const char *name)
{
    char path[256];
    struct json *j;
    char *text;
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "tests/unit/vectors/%s", name);
    f = fopen(path, "rb");
    if (!f)
        die("json: cannot open %s: run the tests from the top directory", path);
    text = need(malloc(FILE_MAX_BYTES));
    n = fread(text, 1, FILE_MAX_BYTES, f);
    fclose(f);
    j = n < FILE_MAX_BYTES ? json_parse(text, n) : NULL;
    free(text);
    if (!j)
        die("json: %s is not JSON", path);
    return j;
}

void json_free(struct json *j)
{
    if (!j)
        return;
    for (size_t i = 0; i < j->n; i++) {
        free(j->names[i]);
        json_free(j->items[i]);
    }
    free(j->names);
    free(j->items);
    free(j->text);
    free(j);
}

const struct json *json_get(const struct json *j, const char *name)
{
    for (size_t i = 0; j && i < j->n; i++)
        if (j->names[i] && !strcmp(j->names[i], name))
            return j->items[i];
    return NULL;
}

const char *json_str(const struct json *j, const char *name)
{
    const struct json *child = json_get(j, name);

    return child && child->type == JSON_STRING ? child->text : NULL;
}

int64_t json_int(const struct json *j, const char *name)
{
    const struct json *child = json_get(j, name);

    if (!child || child->type != JSON_NUMBER)
        die("json: no number %s", name);
    return strtoll(child->text, NULL, 10);
}

uint64_t json_u64(const struct json *j, const char *name)
{
    const struct json *child = json_get(j, name);

    if (!child || !child->text)
        die("json: no number %s", name);
    return strtoull(child->text, NULL, 10);
}

bool json_bool(const struct json *j, const char *name)
{
    const struct json *child = json_get(j, name);

    if (!child || (child->type != JSON_TRUE && child->type != JSON_FALSE))
        die("json: no boolean %s", name);
    return child->type == JSON_TRUE;
}
