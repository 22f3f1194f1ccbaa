/* cred_json.c: an access key in JSON, as the metadata service and external processes write it. */
#include "cred_source.h"

#include "base_json.h"
#include "base_time.h"
#include "error.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

struct reading {
    struct cred_found *out;
    char code[64];
    bool bad, has_expiration;
    time_t expiration;
};

/* "access_key_id" is AccessKeyId: programs do not agree. */
static void plain_name(char *to, size_t size, const char *from)
{
    size_t n = 0;

    for (; *from && n + 1 < size; from++)
        if (*from != '_' && *from != '-')
            to[n++] = (char)tolower((unsigned char)*from);
    to[n] = '\0';
}

static int member(void *arg, const char *name, const char *value)
{
    struct reading *r = arg;
    struct oss_key *key = &r->out->key;
    char plain[32];
    size_t n = strlen(value);

    plain_name(plain, sizeof(plain), name);
    if (strcmp(plain, "accesskeyid") == 0) {
        r->bad |= !cred_field(key->id, sizeof(key->id), value, n);
    } else if (strcmp(plain, "accesskeysecret") == 0 || strcmp(plain, "secretaccesskey") == 0) {
        r->bad |= !cred_field(key->secret, sizeof(key->secret), value, n);
    } else if (strcmp(plain, "securitytoken") == 0 || strcmp(plain, "ststoken") == 0 ||
               strcmp(plain, "sessiontoken") == 0) {
        r->bad |= n > 0 && !cred_field(key->token, sizeof(key->token), value, n);
    } else if (strcmp(plain, "expiration") == 0 && n > 0) {
        r->bad |= iso_date_parse(value, &r->expiration) < 0;
        r->has_expiration = true;
    } else if (strcmp(plain, "code") == 0) {
        strncpy(r->code, value, sizeof(r->code) - 1);
    }
    return 0;
}

int cred_json(const char *text, size_t n, struct cred_found *out, struct oss_error *err)
{
    struct reading reading = {.out = out};
    int r;

    *out = (struct cred_found){0};
    r = json_members(text, n, member, &reading);
    if (r == -ENOMEM)
        return error_set(err, r, "out of memory");
    if (r < 0)
        return error_set(err, -EINVAL, "it is not JSON like {\"AccessKeyId\": ..., \"AccessKeySecret\": ...}");
    if (*reading.code && strcasecmp(reading.code, "Success") != 0)
        return error_set(err, -EACCES, "it says Code %s", reading.code);
    if (reading.bad || !*out->key.id || !*out->key.secret) {
        explicit_bzero(out, sizeof(*out));
        return error_set(err, -EINVAL,
                         "AccessKeyId, AccessKeySecret, SecurityToken or Expiration is missing or malformed");
    }
    if (reading.has_expiration) {
        struct timespec now = clock_wall();
        int64_t left = ((int64_t)reading.expiration - (int64_t)now.tv_sec) * 1000 - now.tv_nsec / 1000000;

        out->life_ms = left > 1 ? left : 1;
    }
    return 0;
}
