#include "headers.h"

#include "headers_rules.h"
#include "mime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)

struct headers {
    struct rules rules; /* the first: what the options say */
    struct mime *mime;
};

const char *const *headers_fields(size_t *n)
{
    *n = RULE_FIELDS;
    return rule_field_names;
}

/* What the rules say of a field for this path; NULL: nothing. */
static const char *ruled(const struct headers *h, const char *path, enum rule_field field)
{
    for (size_t i = h ? h->rules.n : 0; i-- > 0;)
        if (h->rules.v[i].fields[field] && rule_matches(&h->rules.v[i], path))
            return h->rules.v[i].fields[field];
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------ made */

static int read_file(struct rules *rules, const char *path, char *why, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = malloc(FILE_MAX + 1), what[300] = "";
    ssize_t n = 0, got = 1;
    int r = 0;

    if (fd < 0 || !text) {
        r = fd < 0 ? -errno : -ENOMEM;
        snprintf(why, size, "%s: %s", path, strerror(-r));
    }
    while (r == 0 && got > 0 && n <= FILE_MAX) {
        got = read(fd, text + n, (size_t)(FILE_MAX + 1 - n));
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got < 0)
            r = -errno;
        else
            n += got;
    }
    if (r == 0 && n > FILE_MAX)
        r = -EFBIG;
    if (r == 0) {
        r = rules_read(rules, text, (size_t)n, what, sizeof(what));
        if (r == -EINVAL)
            snprintf(why, size, "%s: %s", path, what);
    } else if (!*why) {
        snprintf(why, size, "%s: %s", path, strerror(-r));
    }
    free(text);
    if (fd >= 0)
        close(fd);
    return r;
}

int headers_new(struct headers **out, const struct kvlist *options, const char *file, const char *mime, char *why,
                size_t size)
{
    struct headers *h = calloc(1, sizeof(*h));
    struct rule *rule = h ? rules_add(&h->rules, NULL) : NULL;
    int r = rule ? 0 : -ENOMEM;

    *out = NULL;
    *why = '\0';
    for (size_t i = 0; r == 0 && options && i < options->n; i++)
        r = rule_set(rule, options->v[i].name, options->v[i].value, why, size);
    if (r == 0)
        r = rule_check(rule, why, size);
    if (r == 0 && file)
        r = read_file(&h->rules, file, why, size);
    if (r == 0 && !(h->mime = mime_load(mime)))
        r = -ENOMEM;
    if (r == -ENOMEM)
        snprintf(why, size, "out of memory");
    if (r < 0) {
        headers_free(h);
        return r;
    }
    *out = h;
    return 0;
}

void headers_free(struct headers *h)
{
    if (!h)
        return;
    rules_free(&h->rules);
    mime_free(h->mime);
    free(h);
}

/* ------------------------------------------------------------------------------------------------- describing */

static bool describes(enum rule_field field)
{
    return field <= FIELD_STORAGE_CLASS || field == FIELD_SSE || field == FIELD_SSE_DATA || field == FIELD_SSE_KEY_ID;
}

static int set_meta(const char *meta, struct kvlist *list)
{
    int r = 0;

    for (const char *p = meta; r == 0 && p && *p;) {
        size_t n = strcspn(p, ";"), name = strcspn(p, "=");
        char header[160], *value = strndup(p + name + 1, n - name - 1);

        snprintf(header, sizeof(header), "x-oss-meta-%.*s", (int)name, p);
        r = value ? kv_set(list, header, value) : -ENOMEM;
        free(value);
        p += n + (p[n] == ';');
    }
    return r;
}

/* Another encryption leaves nothing of the former one. */
static int set_encryption(const struct headers *h, const char *path, struct kvlist *list)
{
    int r = 0;

    if (!ruled(h, path, FIELD_SSE))
        return 0;
    for (int i = FIELD_SSE; i <= FIELD_SSE_KEY_ID; i++) {
        const char *value = ruled(h, path, (enum rule_field)i);

        kv_del(list, rule_field_headers[i]);
        if (!r && value)
            r = kv_set(list, rule_field_headers[i], value);
    }
    return r;
}

int headers_describe(const struct headers *h, const char *path, struct kvlist *list)
{
    int r = 0;

    for (int i = 0; r == 0 && i <= FIELD_STORAGE_CLASS; i++) {
        const char *value = ruled(h, path, (enum rule_field)i);

        if (value)
            r = kv_set(list, rule_field_headers[i], value);
    }
    if (r == 0 && h && !kv_get(list, "content-type"))
        r = kv_set(list, "content-type", mime_of(h->mime, path));
    if (r == 0)
        r = set_meta(ruled(h, path, FIELD_META), list);
    return r ? r : set_encryption(h, path, list);
}

int headers_encryption(const struct headers *h, const char *path, struct kvlist *list)
{
    return set_encryption(h, path, list);
}

/* What a new object under this path would get; NULL: nothing. */
static const char *given(const struct headers *h, const char *path, enum rule_field field)
{
    const char *value = ruled(h, path, field);

    return value || field != FIELD_CONTENT_TYPE ? value : mime_of(h->mime, path);
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

int headers_follow(const struct headers *h, const char *from, const char *to, const struct kvlist *replaced,
                   struct kvlist *list, bool *changed)
{
    /* An object that is known has a type; what is not known cannot be taken over. */
    bool known = replaced && kv_get(replaced, "content-type");
    int r = 0;

    *changed = false;
    if (!h || !kv_get(list, "content-type"))
        return 0;
    for (int i = 0; r == 0 && i < RULE_FIELDS; i++) {
        const char *header = rule_field_headers[i], *now, *wanted;

        if (!describes((enum rule_field)i))
            continue;
        now = kv_get(list, header);
        wanted = given(h, to, (enum rule_field)i);
        if (known && !ruled(h, to, (enum rule_field)i))
            wanted = kv_get(replaced, header);
        /* Of the class and encryption of what was there nothing is taken: that is no matter of the name. */
        if (i >= FIELD_STORAGE_CLASS && known)
            wanted = given(h, to, (enum rule_field)i);
        if (!same(now, given(h, from, (enum rule_field)i)) || same(now, wanted))
            continue;
        *changed = true;
        if (wanted)
            r = kv_set(list, header, wanted);
        else
            kv_del(list, header);
    }
    return r;
}

/* ------------------------------------------------------------------------------------------------ one request */

const char *headers_acl(const struct headers *h, const char *path)
{
    const char *acl = ruled(h, path, FIELD_ACL);

    return acl && strcmp(acl, "default") != 0 ? acl : "";
}

bool headers_tagging(const struct headers *h, const char *path)
{
    return ruled(h, path, FIELD_TAGGING) != NULL;
}

static int add(const struct headers *h, const char *path, enum rule_field field, struct kvlist *list)
{
    const char *value = ruled(h, path, field);

    return value ? kv_set(list, rule_field_headers[field], value) : 0;
}

/* Tags of a copy are those of its source, unless the rules say something else of the new name than of the old one. */
static int copy_tagging(const struct headers *h, const char *path, const char *from, struct kvlist *list)
{
    const char *now = ruled(h, path, FIELD_TAGGING);
    int r;

    if (!now || same(now, ruled(h, from, FIELD_TAGGING)))
        return 0;
    r = kv_set(list, "x-oss-tagging", now);
    return r ? r : kv_set(list, "x-oss-tagging-directive", "Replace");
}

/* What AppendObject does not take. */
static void fit_append(struct kvlist *list)
{
    const char *class = kv_get(list, "x-oss-storage-class");

    if (class && strstr(class, "Cold"))
        kv_del(list, "x-oss-storage-class");
    kv_del(list, "x-oss-server-side-encryption-key-id");
}

int headers_request(const struct headers *h, const char *path, enum headers_kind kind, const char *from,
                    struct kvlist *list, bool *forbid)
{
    bool creates = kind == HEADERS_PUT || kind == HEADERS_APPEND || kind == HEADERS_INITIATE;
    bool carries = kind == HEADERS_PUT || kind == HEADERS_APPEND || kind == HEADERS_PART;
    const char *word = ruled(h, path, FIELD_FORBID_OVERWRITE);
    int r = 0;

    /* An append replaces nothing by its nature: at position 0 it is refused where there is something. */
    *forbid = word && strcmp(word, "true") == 0 && kind != HEADERS_PART && kind != HEADERS_APPEND &&
              !(from && strcmp(from, path) == 0);
    if (creates)
        r = add(h, path, FIELD_TAGGING, list);
    if (!r && carries)
        r = add(h, path, FIELD_TRAFFIC_LIMIT, list);
    if (!r && (kind == HEADERS_PUT || kind == HEADERS_COMPLETE) && ruled(h, path, FIELD_CALLBACK)) {
        r = add(h, path, FIELD_CALLBACK, list);
        if (!r)
            r = add(h, path, FIELD_CALLBACK_VAR, list);
    }
    if (!r && kind == HEADERS_COPY && from)
        r = copy_tagging(h, path, from, list);
    if (!r && kind == HEADERS_APPEND)
        fit_append(list);
    return r;
}
