/* json.c: see json.h. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

struct scan {
    const char *p, *end;
};

static void blanks(struct scan *s)
{
    while (s->p < s->end && strchr(" \t\r\n", *s->p) && *s->p)
        s->p++;
}

static bool take(struct scan *s, char c)
{
    blanks(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static void add_utf8(struct sbuf *out, unsigned c)
{
    if (c < 0x80) {
        sbuf_addc(out, (char)c);
    } else if (c < 0x800) {
        sbuf_addc(out, (char)(0xc0 | c >> 6));
        sbuf_addc(out, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        sbuf_addc(out, (char)(0xe0 | c >> 12));
        sbuf_addc(out, (char)(0x80 | (c >> 6 & 63)));
        sbuf_addc(out, (char)(0x80 | (c & 63)));
    } else {
        sbuf_addc(out, (char)(0xf0 | c >> 18));
        sbuf_addc(out, (char)(0x80 | (c >> 12 & 63)));
        sbuf_addc(out, (char)(0x80 | (c >> 6 & 63)));
        sbuf_addc(out, (char)(0x80 | (c & 63)));
    }
}

static bool four_digits(struct scan *s, unsigned *out)
{
    struct sbuf b = {0};
    char hex[5] = {0};

    if (s->end - s->p < 4)
        return false;
    memcpy(hex, s->p, 4);
    bool good = hex_decode(&b, hex);
    if (good)
        *out = (unsigned)(unsigned char)b.p[0] << 8 | (unsigned char)b.p[1];
    sbuf_free(&b);
    s->p += 4;
    return good;
}

static bool escape(struct scan *s, struct sbuf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned code, low;

    if (s->p == s->end)
        return false;
    char c = *s->p++;
    if (c == 'u') {
        if (!four_digits(s, &code))
            return false;
        if (code >= 0xd800 && code < 0xdc00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
            s->p += 2;
            if (!four_digits(s, &low))
                return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        add_utf8(out, code);
        return true;
    }
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return false;
    sbuf_addc(out, to[at - from]);
    return true;
}

static bool string(struct scan *s, struct sbuf *out)
{
    sbuf_reserve(out, 0);
    out->p[out->n] = '\0';
    if (!take(s, '"'))
        return false;
    while (s->p < s->end && *s->p != '"') {
        char c = *s->p++;
        if (c != '\\')
            sbuf_addc(out, c);
        else if (!escape(s, out))
            return false;
    }
    return take(s, '"');
}

static bool value(struct scan *s, struct sbuf *out)
{
    blanks(s);
    if (s->p < s->end && *s->p == '"')
        return string(s, out);
    while (s->p < s->end && !strchr(",} \t\r\n{[", *s->p))
        sbuf_addc(out, *s->p++);
    return out->n > 0;
}

bool json_read(struct bytes text, struct pairs *members)
{
    struct scan s = {text.p, text.p + text.n};
    bool good = take(&s, '{');

    if (good && take(&s, '}'))
        return blanks(&s), s.p == s.end;
    while (good) {
        struct sbuf name = {0}, v = {0};
        good = string(&s, &name) && take(&s, ':') && value(&s, &v);
        if (good)
            pairs_add(members, name.p, v.p);
        sbuf_free(&name);
        sbuf_free(&v);
        if (!good || !take(&s, ','))
            break;
    }
    good = good && take(&s, '}');
    blanks(&s);
    return good && s.p == s.end;
}

const char *json_text(const struct pairs *members, const char *name, const char *missing)
{
    const char *v = pairs_get(members, name);

    return v ? v : missing;
}

int64_t json_int(const struct pairs *members, const char *name, int64_t missing)
{
    const char *v = pairs_get(members, name);

    return v && *v ? strtoll(v, NULL, 10) : missing;
}

bool json_bool(const struct pairs *members, const char *name, bool missing)
{
    const char *v = pairs_get(members, name);

    return v ? strcmp(v, "true") == 0 || strcmp(v, "1") == 0 : missing;
}
