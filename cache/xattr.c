/*
 * Extended attributes in object headers: the second half of attr.h.
 *
 * What a header can carry (a name of lower-case letters, digits and '-', a value of printable ASCII without
 * blanks at its ends) is a header of its own, so that other tools see it. The rest goes into one header, in the
 * JSON form of ossfs. The JSON here is what that form needs: one flat object of strings.
 */
#include "attr.h"

#include "../oss/base_buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define XATTR_HEADER "x-oss-meta-xattr"
#define META_PREFIX  "x-oss-meta-"
#define USER_PREFIX  "user."

struct pair {
    char *name;
    char *value; /* decoded */
    size_t size;
};
struct pairs {
    struct pair *v;
    size_t n;
};

static void pairs_free(struct pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->v[i].name);
        free(p->v[i].value);
    }
    free(p->v);
    *p = (struct pairs){0};
}

static int pairs_add(struct pairs *p, const char *name, const void *value, size_t size)
{
    struct pair *v = realloc(p->v, (p->n + 1) * sizeof(*v));
    struct pair *e;

    if (!v)
        return -ENOMEM;
    p->v = v;
    e = &v[p->n];
    e->name = strdup(name);
    e->value = calloc(1, size + 1);
    e->size = size;
    if (!e->name || !e->value) {
        free(e->name);
        free(e->value);
        return -ENOMEM;
    }
    if (size)
        memcpy(e->value, value, size);
    p->n++;
    return 0;
}

static void pairs_remove(struct pairs *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->v[i].name, name))
            continue;
        free(p->v[i].name);
        free(p->v[i].value);
        p->v[i] = p->v[--p->n];
        return;
    }
}

static struct pair *pairs_find(const struct pairs *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (!strcmp(p->v[i].name, name))
            return &p->v[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------ the JSON header */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_add(struct buf *out, const unsigned char *data, size_t n)
{
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < n ? (uint32_t)data[i + 1] << 8 : 0) |
                     (i + 2 < n ? (uint32_t)data[i + 2] : 0);
        char quad[4] = {base64_digits[v >> 18], base64_digits[v >> 12 & 63],
                        i + 1 < n ? base64_digits[v >> 6 & 63] : '=', i + 2 < n ? base64_digits[v & 63] : '='};

        buf_add(out, quad, 4);
    }
    return out->err;
}

static int base64_decode(const char *text, size_t n, struct buf *out)
{
    uint32_t v = 0;
    int bits = 0;

    for (size_t i = 0; i < n && text[i] != '='; i++) {
        const char *digit = memchr(base64_digits, text[i], 64);

        if (!digit)
            return -EINVAL;
        v = v << 6 | (uint32_t)(digit - base64_digits);
        bits += 6;
        if (bits >= 8) {
            char c = (char)(v >> (bits - 8));

            bits -= 8;
            buf_add(out, &c, 1);
        }
    }
    return out->err;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static int percent_decode(const char *text, struct buf *out)
{
    for (; *text; text++) {
        char c = *text;

        if (c == '%' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
            c = (char)(hex_digit(text[1]) << 4 | hex_digit(text[2]));
            text += 2;
        }
        buf_add(out, &c, 1);
    }
    return out->err;
}

static int percent_add(struct buf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c))
            buf_add(out, &text[i], 1);
        else
            buf_addf(out, "%%%02X", c);
    }
    return out->err;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* A JSON string at *p (at its quote) into `out`; false when it is none. \u escapes beyond Latin-1 are refused. */
static bool json_string(const char **p, struct buf *out)
{
    const char *s = skip_blanks(*p);

    if (*s++ != '"')
        return false;
    for (; *s && *s != '"'; s++) {
        char c = *s;

        if (c == '\\') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            const char *hit = *++s ? strchr(from, *s) : NULL;

            if (hit)
                c = to[hit - from];
            else if (*s == 'u' && s[1] == '0' && s[2] == '0' && hex_digit(s[3]) >= 0 && hex_digit(s[4]) >= 0) {
                c = (char)(hex_digit(s[3]) << 4 | hex_digit(s[4]));
                s += 4;
            } else
                return false;
        }
        buf_add(out, &c, 1);
    }
    if (*s != '"')
        return false;
    *p = s + 1;
    return !out->err;
}

/* A name that may stand in the form: user.SOMETHING, once. */
static bool pair_welcome(const struct pairs *out, const struct buf *name)
{
    const char *text = buf_str(name);

    return strlen(text) == name->len && name->len > strlen(USER_PREFIX) &&
           !strncmp(text, USER_PREFIX, strlen(USER_PREFIX)) && !pairs_find(out, text);
}

/* A header that is not in the form yields what was read up to the fault: other tools' junk must not hide a file. */
static int pairs_parse(const char *header, struct pairs *out)
{
    struct buf text = BUF_INIT(OSS_META_MAX), name = BUF_INIT(OSS_META_MAX);
    struct buf coded = BUF_INIT(OSS_META_MAX), value = BUF_INIT(OSS_META_MAX);
    const char *p;
    int r = header ? percent_decode(header, &text) : 0;

    p = skip_blanks(buf_str(&text));
    if (!r && *p == '{') {
        do {
            buf_reset(&name);
            buf_reset(&coded);
            buf_reset(&value);
            p++;
            if (!json_string(&p, &name) || *(p = skip_blanks(p)) != ':')
                break;
            p++;
            if (!json_string(&p, &coded) || base64_decode(buf_str(&coded), coded.len, &value))
                break;
            if (pair_welcome(out, &name))
                r = pairs_add(out, buf_str(&name), value.data, value.len);
            p = skip_blanks(p);
        } while (!r && *p == ',');
    }
    buf_free(&text);
    buf_free(&name);
    buf_free(&coded);
    buf_free(&value);
    return r;
}

static int pairs_store(struct kvlist *headers, const struct pairs *pairs)
{
    struct buf json = BUF_INIT(4 * OSS_META_MAX), out = BUF_INIT(16 * OSS_META_MAX);
    int r;

    if (pairs->n == 0) {
        kv_del(headers, XATTR_HEADER);
        return 0;
    }
    for (size_t i = 0; i < pairs->n; i++) {
        buf_adds(&json, i ? ",\"" : "{\"");
        for (const char *c = pairs->v[i].name; *c; c++) {
            if ((unsigned char)*c < ' ' || *c == '"' || *c == '\\')
                buf_addf(&json, "\\u%04x", (unsigned char)*c);
            else
                buf_add(&json, c, 1);
        }
        buf_adds(&json, "\":\"");
        base64_add(&json, (const unsigned char *)pairs->v[i].value, pairs->v[i].size);
        buf_adds(&json, "\"");
    }
    r = buf_adds(&json, "}");
    if (!r)
        r = percent_add(&out, json.data, json.len);
    if (!r)
        r = kv_set(headers, XATTR_HEADER, buf_str(&out));
    buf_free(&json);
    buf_free(&out);
    return r;
}

/* ------------------------------------------------------------------------------------- plain headers */

static const char *const reserved[] = {"mode",       "uid",   "gid",   "mtime", "mtime-ns",
                                       "mtime-size", "xattr", "ctime", "atime"};

/* "user.color" -> "color" when a header of that name may stand for it, else NULL. */
static const char *plain_name(const char *name)
{
    const char *rest = name + strlen(USER_PREFIX);

    if (strncmp(name, USER_PREFIX, strlen(USER_PREFIX)) || !*rest)
        return NULL;
    if (rest[strspn(rest, "abcdefghijklmnopqrstuvwxyz0123456789-")])
        return NULL;
    for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
        if (!strcmp(rest, reserved[i]))
            return NULL;
    return rest;
}

static bool plain_value(const char *value, size_t size)
{
    if (size == 0 || value[0] == ' ' || value[size - 1] == ' ')
        return false;
    for (size_t i = 0; i < size; i++)
        if (value[i] < ' ' || value[i] > '~')
            return false;
    return true;
}

static bool header_name(const char *name, char *out, size_t size)
{
    const char *rest = plain_name(name);

    if (!rest || strlen(rest) + sizeof(META_PREFIX) > size)
        return false;
    strcpy(out, META_PREFIX);
    strcat(out, rest);
    return true;
}

static size_t meta_bytes(const struct kvlist *headers)
{
    size_t n = 0;

    for (size_t i = 0; i < headers->n; i++)
        if (!strncmp(headers->v[i].name, META_PREFIX, strlen(META_PREFIX)))
            n += strlen(headers->v[i].name) + strlen(headers->v[i].value);
    return n;
}

/* ------------------------------------------------------------------------------------------- the face */

ssize_t xattr_get(const struct kvlist *headers, const char *name, char **value)
{
    char header[300];
    const char *text;
    struct pairs pairs = {0};
    struct pair *pair;
    ssize_t r;

    if (header_name(name, header, sizeof(header)) && (text = kv_get(headers, header))) {
        *value = strdup(text);
        return *value ? (ssize_t)strlen(text) : -ENOMEM;
    }
    r = pairs_parse(kv_get(headers, XATTR_HEADER), &pairs);
    if (!r) {
        pair = pairs_find(&pairs, name);
        r = -ENODATA;
        if (pair) {
            *value = pair->value;
            r = (ssize_t)pair->size;
            pair->value = NULL;
        }
    }
    pairs_free(&pairs);
    return r;
}

int xattr_set(struct kvlist *headers, const char *name, const void *value, size_t size, int flags)
{
    char header[300], *old = NULL;
    struct kvlist changed = {0};
    struct pairs pairs = {0};
    bool plain = header_name(name, header, sizeof(header)) && plain_value(value, size);
    bool exists;
    int r;

    if (strncmp(name, USER_PREFIX, strlen(USER_PREFIX)))
        return -EOPNOTSUPP;
    if (!name[strlen(USER_PREFIX)])
        return -EINVAL;
    exists = xattr_get(headers, name, &old) >= 0;
    free(old);
    if (exists && (flags & XATTR_CREATE))
        return -EEXIST;
    if (!exists && (flags & XATTR_REPLACE))
        return -ENODATA;
    r = kv_copy(&changed, headers);
    if (!r && exists)
        r = xattr_remove(&changed, name);
    if (!r && plain) {
        char *text = strndup(value, size);

        r = text ? kv_set(&changed, header, text) : -ENOMEM;
        free(text);
    } else if (!r) {
        r = pairs_parse(kv_get(&changed, XATTR_HEADER), &pairs);
        if (!r)
            r = pairs_add(&pairs, name, value, size);
        if (!r)
            r = pairs_store(&changed, &pairs);
    }
    /* Room for mode, owner and times, which go along with every change. */
    if (!r && meta_bytes(&changed) > OSS_META_MAX - 256)
        r = -ENOSPC;
    pairs_free(&pairs);
    if (r) {
        kv_free(&changed);
        return r;
    }
    kv_free(headers);
    *headers = changed;
    return 0;
}

int xattr_remove(struct kvlist *headers, const char *name)
{
    char header[300];
    struct pairs pairs = {0};
    bool plain = header_name(name, header, sizeof(header)) && kv_get(headers, header);
    bool paired;
    int r = pairs_parse(kv_get(headers, XATTR_HEADER), &pairs);

    /* Another tool may have left it in both forms. */
    paired = pairs_find(&pairs, name) != NULL;
    if (!r && !plain && !paired)
        r = -ENODATA;
    if (!r && paired) {
        pairs_remove(&pairs, name);
        r = pairs_store(headers, &pairs);
    }
    if (!r && plain)
        kv_del(headers, header);
    pairs_free(&pairs);
    return r;
}

ssize_t xattr_list(const struct kvlist *headers, char **names)
{
    struct buf out = BUF_INIT(65536);
    struct pairs pairs = {0};
    int r = pairs_parse(kv_get(headers, XATTR_HEADER), &pairs);

    for (size_t i = 0; !r && i < headers->n; i++) {
        const char *h = headers->v[i].name;
        char full[300];

        if (strncmp(h, META_PREFIX, strlen(META_PREFIX)) || strlen(h) >= sizeof(full))
            continue;
        strcpy(full, USER_PREFIX);
        strcat(full, h + strlen(META_PREFIX));
        if (plain_name(full))
            r = buf_add(&out, full, strlen(full) + 1);
    }
    for (size_t i = 0; !r && i < pairs.n; i++) {
        char header[300];

        if (!header_name(pairs.v[i].name, header, sizeof(header)) || !kv_get(headers, header))
            r = buf_add(&out, pairs.v[i].name, strlen(pairs.v[i].name) + 1);
    }
    pairs_free(&pairs);
    if (r) {
        buf_free(&out);
        return r;
    }
    *names = out.data;
    return (ssize_t)out.len;
}
