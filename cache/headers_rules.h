/*
 * headers_rules.h: the rules as they are written, inside cache/ only: fields and their values checked, a line and a
 * file read. Pure but for headers_file_read().
 */
#ifndef CACHE_HEADERS_RULES_H
#define CACHE_HEADERS_RULES_H

#include "headers.h"

#define RULE_FIELDS 17

enum rule_field {
    FIELD_CONTENT_TYPE,
    FIELD_CACHE_CONTROL,
    FIELD_CONTENT_DISPOSITION,
    FIELD_CONTENT_ENCODING,
    FIELD_CONTENT_LANGUAGE,
    FIELD_EXPIRES,
    FIELD_STORAGE_CLASS,
    FIELD_ACL,
    FIELD_SSE,
    FIELD_SSE_DATA,
    FIELD_SSE_KEY_ID,
    FIELD_TAGGING,
    FIELD_META,
    FIELD_CALLBACK,
    FIELD_CALLBACK_VAR,
    FIELD_FORBID_OVERWRITE,
    FIELD_TRAFFIC_LIMIT,
};

struct rule {
    char *glob;                /* NULL: matches everything */
    char *fields[RULE_FIELDS]; /* as they go into a header, NULL: not set */
};

struct rules {
    struct rule *v;
    size_t n;
};

extern const char *const rule_field_names[RULE_FIELDS];
extern const char *const rule_field_headers[RULE_FIELDS]; /* NULL for meta */

/* A new rule at the end; NULL when out of memory. `glob` is copied, may be NULL. */
struct rule *rules_add(struct rules *rules, const char *glob);
void rules_free(struct rules *rules);

/* Sets one field, checked and brought into the form of its header. 0, -EINVAL with `why`, -ENOMEM. */
int rule_set(struct rule *rule, const char *name, const char *value, char *why, size_t size);

/* Do its fields go together? 0, or -EINVAL with `why`. */
int rule_check(const struct rule *rule, char *why, size_t size);

/* Does the path below the mount match? */
bool rule_matches(const struct rule *rule, const char *path);

/* The text of a rules file. 0; -EINVAL with "line N: ..." in `why`; -ENOMEM. */
int rules_read(struct rules *rules, const char *text, size_t n, char *why, size_t size);

#endif
