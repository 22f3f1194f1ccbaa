/* headers_rules.c: rules for upload headers, as they are written; see headers_rules.h. */
#include "headers_rules.h"

#include "../oss/base_time.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX    7000
#define CALLBACK_MAX (5 << 10)
#define TAGS_MAX     10
#define TRAFFIC_MIN  819200LL
#define TRAFFIC_MAX  838860800LL

const char *const rule_field_names[RULE_FIELDS] = {
    [FIELD_CONTENT_TYPE] = "content_type",
    [FIELD_CACHE_CONTROL] = "cache_control",
    [FIELD_CONTENT_DISPOSITION] = "content_disposition",
    [FIELD_CONTENT_ENCODING] = "content_encoding",
    [FIELD_CONTENT_LANGUAGE] = "content_language",
    [FIELD_EXPIRES] = "expires",
    [FIELD_STORAGE_CLASS] = "storage_class",
    [FIELD_ACL] = "acl",
    [FIELD_SSE] = "sse",
    [FIELD_SSE_DATA] = "sse_data",
    [FIELD_SSE_KEY_ID] = "sse_key_id",
    [FIELD_TAGGING] = "tagging",
    [FIELD_META] = "meta",
    [FIELD_CALLBACK] = "callback",
    [FIELD_CALLBACK_VAR] = "callback_var",
    [FIELD_FORBID_OVERWRITE] = "forbid_overwrite",
    [FIELD_TRAFFIC_LIMIT] = "traffic_limit",
};

const char *const rule_field_headers[RULE_FIELDS] = {
    [FIELD_CONTENT_TYPE] = "content-type",
    [FIELD_CACHE_CONTROL] = "cache-control",
    [FIELD_CONTENT_DISPOSITION] = "content-disposition",
    [FIELD_CONTENT_ENCODING] = "content-encoding",
    [FIELD_CONTENT_LANGUAGE] = "content-language",
    [FIELD_EXPIRES] = "expires",
    [FIELD_STORAGE_CLASS] = "x-oss-storage-class",
    [FIELD_ACL] = "x-oss-object-acl",
    [FIELD_SSE] = "x-oss-server-side-encryption",
    [FIELD_SSE_DATA] = "x-oss-server-side-data-encryption",
    [FIELD_SSE_KEY_ID] = "x-oss-server-side-encryption-key-id",
    [FIELD_TAGGING] = "x-oss-tagging",
    [FIELD_CALLBACK] = "x-oss-callback",
    [FIELD_CALLBACK_VAR] = "x-oss-callback-var",
    [FIELD_FORBID_OVERWRITE] = "x-oss-forbid-overwrite",
    [FIELD_TRAFFIC_LIMIT] = "x-oss-traffic-limit",
};

/* ---------------------------------------------------------------------------------------------------- values */

static int bad(char *why, size_t size, const char *name, const char *expected)
{
    snprintf(why, size, "%s: %s", name, expected);
    return -EINVAL;
}

static int copy(char **out, const char *value)
{
    *out = strdup(value);
    return *out ? 0 : -ENOMEM;
}

static bool one_of(const char *value, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(value, *words) == 0)
            return true;
    return false;
}

/* What a header can hold as it is, and comes back so. */
static bool is_header_value(const char *value)
{
    size_t n = strlen(value);

    if (n == 0 || n > VALUE_MAX || value[0] == ' ' || value[n - 1] == ' ')
        return false;
    for (size_t i = 0; i < n; i++)
        if (value[i] < ' ' || value[i] > '~')
            return false;
    return true;
}

static int set_expires(char **out, const char *value, char *why, size_t size)
{
    char text[HTTP_DATE_SIZE];
    time_t t;

    if (http_date_parse(value, &t) < 0 && iso_date_parse(value, &t) < 0)
        return bad(why, size, "expires",
                   "give a date like 2030-01-31T00:00:00Z or \"Wed, 22 Feb 2012 08:32:21 GMT\"");
    http_date_format(text, t);
    return copy(out, text);
}

static int set_tagging(char **out, const char *value, char *why, size_t size)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-=._:/%&~";
    size_t tags = 1;

    for (const char *p = value; *p; p++) {
        if (*p == '&')
            tags++;
        if ((*p == '&' || *p == '=') && (p == value || p[-1] == '&'))
            tags = TAGS_MAX + 1;
    }
    if (strspn(value, legal) != strlen(value) || tags > TAGS_MAX || value[strlen(value) - 1] == '&')
        return bad(why, size, "tagging", "give at most 10 of key=value, joined by & and URL-escaped");
    return copy(out, value);
}

/* "name=value;name=value" */
static int set_meta(char **out, const char *value, char *why, size_t size)
{
    static const char *const reserved[] = {"mode", "uid", "gid", "mtime", "mtime-ns", "xattr", NULL};

    for (const char *p = value; *p;) {
        size_t n = strcspn(p, ";"), name = strcspn(p, "=;");
        char text[128];

        snprintf(text, sizeof(text), "%.*s", (int)name, p);
        if (name == 0 || name >= n || name >= sizeof(text) ||
            strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != name)
            return bad(why, size, "meta", "give name=value, several joined by ';'; names of a-z, 0-9 and '-'");
        if (one_of(text, reserved))
            return bad(why, size, "meta", "mode, uid, gid, mtime and xattr are kept by the mount itself");
        p += n + (p[n] == ';');
    }
    return copy(out, value);
}

static int set_traffic(char **out, const char *value, char *why, size_t size)
{
    long long n = strlen(value) < 12 && strspn(value, "0123456789") == strlen(value) ? strtoll(value, NULL, 10) : 0;

    if (n < TRAFFIC_MIN || n > TRAFFIC_MAX)
        return bad(why, size, "traffic_limit", "give bits per second, from 819200 to 838860800");
    return copy(out, value);
}

static int set_flag(char **out, const char *value, char *why, size_t size)
{
    static const char *const yes[] = {"yes", "true", "on", "1", NULL}, *const no[] = {"no", "false", "off", "0",
                                                                                      NULL};

    if (!one_of(value, yes) && !one_of(value, no))
        return bad(why, size, "forbid_overwrite", "give yes or no");
    return copy(out, one_of(value, yes) ? "true" : "false");
}

/* JSON, or the base64 of it that the header holds. */
static int set_callback(char **out, const char *name, const char *value, char *why, size_t size)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    size_t n = strlen(value);

    if (*value != '{') {
        if (strspn(value, base64) != n || n % 4 || n > CALLBACK_MAX)
            return bad(why, size, name, "give a JSON object, or the base64 of one, of at most 5 KB");
        return copy(out, value);
    }
    if ((n + 2) / 3 * 4 > CALLBACK_MAX)
        return bad(why, size, name, "it is larger than 5 KB in base64");
    *out = malloc((n + 2) / 3 * 4 + 1);
    if (!*out)
        return -ENOMEM;
    EVP_EncodeBlock((unsigned char *)*out, (const unsigned char *)value, (int)n);
    return 0;
}

static int set_word(char **out, enum rule_field field, const char *value, char *why, size_t size)
{
    static const char *const classes[] = {"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive", NULL};
    static const char *const acls[] = {"default", "private", "public-read", "public-read-write", NULL};
    static const char *const ciphers[] = {"AES256", "KMS", "SM4", NULL}, *const data[] = {"SM4", NULL};

    if (field == FIELD_STORAGE_CLASS && !one_of(value, classes))
        return bad(why, size, "storage_class", "give Standard, IA, Archive, ColdArchive or DeepColdArchive");
    if (field == FIELD_ACL && !one_of(value, acls))
        return bad(why, size, "acl", "give default, private, public-read or public-read-write");
    if (field == FIELD_SSE && !one_of(value, ciphers))
        return bad(why, size, "sse", "give AES256, KMS or SM4");
    if (field == FIELD_SSE_DATA && !one_of(value, data))
        return bad(why, size, "sse_data", "give SM4 (and sse=KMS)");
    return copy(out, value);
}

static int make_value(char **out, enum rule_field field, const char *value, char *why, size_t size)
{
    *out = NULL;
    if (!is_header_value(value))
        return bad(why, size, rule_field_names[field], "printable ASCII only, not empty, no blank at either end");
    switch (field) {
    case FIELD_EXPIRES:
        return set_expires(out, value, why, size);
    case FIELD_TAGGING:
        return set_tagging(out, value, why, size);
    case FIELD_META:
        return set_meta(out, value, why, size);
    case FIELD_TRAFFIC_LIMIT:
        return set_traffic(out, value, why, size);
    case FIELD_FORBID_OVERWRITE:
        return set_flag(out, value, why, size);
    case FIELD_CALLBACK:
    case FIELD_CALLBACK_VAR:
        return set_callback(out, rule_field_names[field], value, why, size);
    default:
        return set_word(out, field, value, why, size);
    }
}

int rule_set(struct rule *rule, const char *name, const char *value, char *why, size_t size)
{
    char *made;
    int r;

    for (int i = 0; i < RULE_FIELDS; i++) {
        if (strcmp(name, rule_field_names[i]) != 0)
            continue;
        r = make_value(&made, (enum rule_field)i, value, why, size);
        if (r < 0)
            return r;
        free(rule->fields[i]);
        rule->fields[i] = made;
        return 0;
    }
    snprintf(why, size,
             "unknown field \"%.40s\": give content_type, cache_control, ..., storage_class, acl, sse, meta", name);
    return -EINVAL;
}

int rule_check(const struct rule *rule, char *why, size_t size)
{
    const char *sse = rule->fields[FIELD_SSE];
    bool kms = sse && strcmp(sse, "KMS") == 0;

    if ((rule->fields[FIELD_SSE_DATA] || rule->fields[FIELD_SSE_KEY_ID]) && !kms)
        return bad(why, size, "sse_data, sse_key_id", "only together with sse=KMS");
    if (rule->fields[FIELD_CALLBACK_VAR] && !rule->fields[FIELD_CALLBACK])
        return bad(why, size, "callback_var", "only together with callback");
    return 0;
}

/* ----------------------------------------------------------------------------------------------------- rules */

struct rule *rules_add(struct rules *rules, const char *glob)
{
    struct rule *v = realloc(rules->v, (rules->n + 1) * sizeof(*v));

    if (!v)
        return NULL;
    rules->v = v;
    v[rules->n] = (struct rule){0};
    if (glob && !(v[rules->n].glob = strdup(glob)))
        return NULL;
    return &v[rules->n++];
}

void rules_free(struct rules *rules)
{
    for (size_t i = 0; i < rules->n; i++) {
        free(rules->v[i].glob);
        for (size_t k = 0; k < RULE_FIELDS; k++)
            free(rules->v[i].fields[k]);
    }
    free(rules->v);
    *rules = (struct rules){0};
}

bool rule_matches(const struct rule *rule, const char *path)
{
    const char *glob = rule->glob, *slash;

    if (!glob)
        return true;
    if (!strchr(glob, '/')) {
        slash = strrchr(path, '/');
        return fnmatch(glob, slash ? slash + 1 : path, 0) == 0;
    }
    return fnmatch(*glob == '/' ? glob + 1 : glob, path, strstr(glob, "**") ? 0 : FNM_PATHNAME) == 0;
}

/*
 * The next word of a line: blanks end it, quotes hold blanks, a backslash takes the next character as it is within
 * quotes. Moves *p behind it. 1, 0 at the end of the line, -EINVAL.
 */
static int word_read(const char **p, const char *end, char *out, size_t size)
{
    size_t n = 0;
    bool quoted = false;

    while (*p < end && (**p == ' ' || **p == '\t' || **p == '\r'))
        ++*p;
    if (*p == end)
        return 0;
    for (; *p < end && (quoted || !isspace((unsigned char)**p)); ++*p) {
        char c = **p;

        if (c == '"') {
            quoted = !quoted;
            continue;
        }
        if (quoted && c == '\\' && *p + 1 < end)
            c = *++*p;
        if (!c || n + 1 >= size)
            return -EINVAL;
        out[n++] = c;
    }
    out[n] = '\0';
    return quoted ? -EINVAL : 1;
}

static int line_read(struct rules *rules, const char *p, const char *end, char *why, size_t size)
{
    char word[VALUE_MAX + 64];
    struct rule *rule;
    size_t fields = 0;
    int r = word_read(&p, end, word, sizeof(word));

    if (r == 0 || (r == 1 && *word == '#'))
        return 0;
    if (r == 1 && (!*word || strlen(word) > 1023))
        r = -EINVAL;
    if (r == 1 && !(rule = rules_add(rules, word)))
        return -ENOMEM;
    while (r == 1 && (r = word_read(&p, end, word, sizeof(word))) == 1) {
        char *value = strchr(word, '=');

        if (!value) {
            snprintf(why, size, "\"%.40s\" is not field=value", word);
            return -EINVAL;
        }
        *value++ = '\0';
        fields++;
        r = rule_set(rule, word, value, why, size);
        if (r < 0)
            return r;
        r = 1;
    }
    if (r < 0)
        snprintf(why, size, "a quote is not closed, or a word is too long");
    else if (fields == 0)
        r = bad(why, size, "no field", "give GLOB field=value ...");
    else
        r = rule_check(rule, why, size);
    return r;
}

int rules_read(struct rules *rules, const char *text, size_t n, char *why, size_t size)
{
    char what[200];
    unsigned line = 0;
    int r = 0;

    for (const char *p = text, *end = text + n; p < end && r == 0;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));

        eol = eol ? eol : end;
        line++;
        what[0] = '\0';
        r = line_read(rules, p, eol, what, sizeof(what));
        if (r == -EINVAL)
            snprintf(why, size, "line %u: %s", line, what);
        p = eol + 1;
    }
    return r;
}
