/*
 * cred_ini.c: the configuration file of ossutil, versions 1 and 2.
 *
 * Version 1 has sections [Credentials], [Bucket-Endpoint], [Bucket-Cname] and [AkService], version 2 [default] or
 * [profile default]. Names are compared without regard to case, '_' and '-'.
 */
#include "cred_source.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct span {
    const char *p;
    size_t n;
};

static struct span trim(const char *p, size_t n)
{
    while (n && isspace((unsigned char)p[n - 1]))
        n--;
    while (n && isspace((unsigned char)*p))
        p++, n--;
    return (struct span){p, n};
}

/* Adds the pair to the list under a plain name: "access-key-id" is accesskeyid. */
static int keep(struct kvlist *found, struct span name, struct span value)
{
    char plain[80], *text;
    size_t n = 0;
    int r;

    for (size_t i = 0; i < name.n && n + 1 < sizeof(plain); i++)
        if (name.p[i] != '_' && name.p[i] != '-')
            plain[n++] = name.p[i];
    plain[n] = '\0';
    text = strndup(value.p, value.n);
    r = text ? kv_set(found, plain, text) : -ENOMEM;
    if (text)
        explicit_bzero(text, value.n);
    free(text);
    return r;
}

enum section { SECTION_OTHER, SECTION_KEYS, SECTION_ENDPOINT, SECTION_CNAME, SECTION_SERVICE };

static enum section section_of(struct span name)
{
    static const struct {
        const char *name;
        enum section section;
    } known[] = {
        {"credentials", SECTION_KEYS},         {"default", SECTION_KEYS},       {"profile default", SECTION_KEYS},
        {"bucket-endpoint", SECTION_ENDPOINT}, {"bucket-cname", SECTION_CNAME}, {"akservice", SECTION_SERVICE},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strlen(known[i].name) == name.n && strncasecmp(known[i].name, name.p, name.n) == 0)
            return known[i].section;
    return SECTION_OTHER;
}

static int pair_read(struct kvlist *found, enum section section, const char *bucket, struct span name,
                     struct span value)
{
    static const struct span endpoint = {"bucketendpoint", 14}, cname = {"bucketcname", 11};
    bool ours = name.n == strlen(bucket) && memcmp(name.p, bucket, name.n) == 0;

    switch (section) {
    case SECTION_KEYS:
    case SECTION_SERVICE:
        return keep(found, name, value);
    case SECTION_ENDPOINT:
        return ours ? keep(found, endpoint, value) : 0;
    case SECTION_CNAME:
        return ours ? keep(found, cname, value) : 0;
    case SECTION_OTHER:
        break;
    }
    return 0;
}

static int line_read(struct kvlist *found, enum section *section, const char *bucket, struct span line)
{
    const char *equals;

    if (line.n == 0 || *line.p == '#' || *line.p == ';')
        return 0;
    if (*line.p == '[') {
        if (line.p[line.n - 1] != ']')
            return -EINVAL;
        *section = section_of(trim(line.p + 1, line.n - 2));
        return 0;
    }
    equals = memchr(line.p, '=', line.n);
    if (!equals || memchr(line.p, '\0', line.n))
        return -EINVAL;
    return pair_read(found, *section, bucket, trim(line.p, (size_t)(equals - line.p)),
                     trim(equals + 1, (size_t)(line.p + line.n - equals - 1)));
}

/* ------------------------------------------------------------------------------------------- what it comes to */

static const char *said(const struct kvlist *found, const char *name)
{
    const char *value = kv_get(found, name);

    return value && *value ? value : NULL;
}

static int copy_said(char **to, const char *value)
{
    *to = value ? strdup(value) : NULL;
    return value && !*to ? -ENOMEM : 0;
}

static int profile_fill(const struct kvlist *found, struct cred_profile *profile)
{
    const char *cname = said(found, "bucketcname"), *own = said(found, "bucketendpoint");
    const char *mode = said(found, "mode"), *role = said(found, "ecsrolename");
    const char *service = said(found, "ecsak");
    int r = copy_said(&profile->endpoint, cname ? cname : own ? own : said(found, "endpoint"));

    profile->cname = cname != NULL;
    if (!r)
        r = copy_said(&profile->region, said(found, "region"));
    if (!r && mode && strcasecmp(mode, "EcsRamRole") == 0)
        r = copy_said(&profile->role, role ? role : "auto");
    else if (!r && service && !said(found, "accesskeyid"))
        r = copy_said(&profile->role, service);
    return r;
}

static int key_fill(const struct kvlist *found, struct oss_key *out)
{
    const char *id = said(found, "accesskeyid"), *secret = said(found, "accesskeysecret");
    const char *token = said(found, "ststoken");

    if (!id || !secret)
        return -ENOENT;
    token = token ? token : said(found, "securitytoken");
    if (!cred_field(out->id, sizeof(out->id), id, strlen(id)) ||
        !cred_field(out->secret, sizeof(out->secret), secret, strlen(secret)) ||
        (token && !cred_field(out->token, sizeof(out->token), token, strlen(token))))
        return -EINVAL;
    return 0;
}

int cred_ini_text(const char *text, size_t n, const char *bucket, struct oss_key *out, struct cred_profile *profile,
                  unsigned *bad)
{
    struct kvlist found = {0};
    enum section section = SECTION_OTHER;
    int r = 0;

    *bad = 0;
    *out = (struct oss_key){0};
    *profile = (struct cred_profile){0};
    for (const char *p = text, *end = text + n; p < end && r == 0;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((eol ? eol : end) - p);

        ++*bad;
        r = line_read(&found, &section, bucket, trim(p, len));
        p += len + 1;
    }
    if (r == 0) {
        *bad = 0;
        r = profile_fill(&found, profile);
    }
    if (r == 0 && !profile->role)
        r = key_fill(&found, out);
    for (size_t i = 0; i < found.n; i++)
        explicit_bzero(found.v[i].value, strlen(found.v[i].value));
    kv_free(&found);
    if (r < 0)
        cred_profile_free(profile);
    return r;
}

void cred_profile_free(struct cred_profile *profile)
{
    free(profile->role);
    free(profile->endpoint);
    free(profile->region);
    *profile = (struct cred_profile){0};
}
