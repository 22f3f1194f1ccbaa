#include "base_json.h"

#include "base_buf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32

struct json_reader {
    const char *p, *end;
    json_member *each;
    void *arg;
};

static void skip_blanks(struct json_reader *in)
{
    while (in->p < in->end && (*in->p == ' ' || *in->p == '\t' || *in->p == '\r' || *in->p == '\n'))
        in->p++;
}

/* Takes the character if it is the next one behind blanks. */
static bool take(struct json_reader *in, char c)
{
    skip_blanks(in);
    if (in->p == in->end || *in->p != c)
        return false;
    in->p++;
    return true;
}

static int read_hex4(struct json_reader *in, uint32_t *out)
{
    *out = 0;
    if (in->end - in->p < 4)
        return -EINVAL;
    for (int i = 0; i < 4; i++) {
        char c = *in->p++;
        uint32_t digit;

        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (uint32_t)((c | 32) - 'a' + 10);
        else
            return -EINVAL;
        *out = *out << 4 | digit;
    }
    return 0;
}

static void add_utf8(struct buf *out, uint32_t c)
{
    char bytes[4];
    size_t n = 1;

    if (c < 0x80) {
        bytes[0] = (char)c;
    } else if (c < 0x800) {
        bytes[0] = (char)(0xc0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        bytes[0] = (char)(0xe0 | c >> 12);
        n = 3;
    } else {
        bytes[0] = (char)(0xf0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        bytes[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
    buf_add(out, bytes, n);
}

/* Behind "\u"; a pair of surrogates is one character. */
static int read_unicode(struct json_reader *in, struct buf *out)
{
    uint32_t c, low;

    if (read_hex4(in, &c) < 0 || c == 0)
        return -EINVAL;
    if (c >= 0xd800 && c < 0xe000) {
        if (c >= 0xdc00 || in->end - in->p < 6 || in->p[0] != '\\' || in->p[1] != 'u')
            return -EINVAL;
        in->p += 2;
        if (read_hex4(in, &low) < 0 || low < 0xdc00 || low >= 0xe000)
            return -EINVAL;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    add_utf8(out, c);
    return 0;
}

static int read_string(struct json_reader *in, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

    if (!take(in, '"'))
        return -EINVAL;
    buf_adds(out, "");
    while (in->p < in->end && *in->p != '"') {
        char c = *in->p++;
        const char *hit;

        if ((unsigned char)c < ' ')
            return -EINVAL;
        if (c != '\\') {
            buf_add(out, &c, 1);
            continue;
        }
        if (in->p == in->end)
            return -EINVAL;
        c = *in->p++;
        hit = c ? strchr(from, c) : NULL;
        if (hit)
            buf_add(out, &to[hit - from], 1);
        else if (c != 'u' || read_unicode(in, out) < 0)
            return -EINVAL;
    }
    if (in->p == in->end)
        return -EINVAL;
    in->p++;
    return out->err ? -ENOMEM : 0;
}

static int read_literal(struct json_reader *in)
{
    static const char digits[] = "0123456789+-.eE";
    static const char *const words[] = {"true", "false", "null"};
    const char *from = in->p;

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        size_t n = strlen(words[i]);

        if ((size_t)(in->end - in->p) >= n && memcmp(in->p, words[i], n) == 0) {
            in->p += n;
            return 0;
        }
    }
    while (in->p < in->end && *in->p && strchr(digits, *in->p))
        in->p++;
    return in->p > from ? 0 : -EINVAL;
}

static int read_value(struct json_reader *in, unsigned depth);

/* Behind '{'. The members of the outermost object are what was asked for. */
static int read_object(struct json_reader *in, unsigned depth)
{
    struct buf name = BUF_INIT(65536), value = BUF_INIT(65536);
    int r = 0;

    if (take(in, '}'))
        return 0;
    do {
        buf_reset(&name);
        buf_reset(&value);
        r = read_string(in, &name);
        if (r == 0 && !take(in, ':'))
            r = -EINVAL;
        skip_blanks(in);
        if (r == 0 && in->p < in->end && *in->p == '"') {
            r = read_string(in, &value);
            if (r == 0 && depth == 1)
                r = in->each(in->arg, buf_str(&name), buf_str(&value));
        } else if (r == 0) {
            r = read_value(in, depth);
        }
    } while (r == 0 && take(in, ','));
    if (r == 0 && !take(in, '}'))
        r = -EINVAL;
    if (value.data)
        explicit_bzero(value.data, value.size);
    buf_free(&name);
    buf_free(&value);
    return r;
}

static int read_array(struct json_reader *in, unsigned depth)
{
    int r;

    if (take(in, ']'))
        return 0;
    do
        r = read_value(in, depth);
    while (r == 0 && take(in, ','));
    return r == 0 && !take(in, ']') ? -EINVAL : r;
}

static int read_value(struct json_reader *in, unsigned depth)
{
    struct buf ignored = BUF_INIT(65536);
    int r;

    if (depth >= DEPTH_MAX)
        return -EINVAL;
    if (take(in, '{'))
        return read_object(in, depth + 1);
    if (take(in, '['))
        return read_array(in, depth + 1);
    if (in->p == in->end)
        return -EINVAL;
    if (*in->p != '"')
        return read_literal(in);
    r = read_string(in, &ignored);
    buf_free(&ignored);
    return r;
}

int json_members(const char *text, size_t n, json_member *each, void *arg)
{
    struct json_reader in = {.p = text, .end = text + n, .each = each, .arg = arg};
    int r;

    if (!take(&in, '{'))
        return -EINVAL;
    r = read_object(&in, 1);
    skip_blanks(&in);
    return r == 0 && in.p != in.end ? -EINVAL : r;
}
