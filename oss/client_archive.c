/*
 * client_archive.c: RestoreObject; and URLs that are handed to others, for which nothing is asked.
 */
#include "client.h"

#include "base_time.h"
#include "cred.h"
#include "sign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int client_restore(struct oss *oss, const char *key, unsigned days, const char *tier, bool *done,
                   struct oss_error *err)
{
    struct call c;
    int r;

    *done = false;
    call_begin(&c, oss, OSS_OP_RESTORE, "POST", key);
    call_query(&c, "restore", NULL);
    buf_addf(&c.text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><RestoreRequest><Days>%u</Days>", days);
    /* Of the classes only the cold ones take it. */
    if (tier)
        buf_addf(&c.text, "<JobParameters><Tier>%s</Tier></JobParameters>", tier);
    buf_adds(&c.text, "</RestoreRequest>");
    call_text_body(&c);
    call_header(&c, "content-type", "application/xml");
    c.md5_header = true;
    c.success[0] = 202;
    c.success[1] = 200;
    c.check = check_write;
    r = call_run(&c);
    *done = r == 0 && c.reply.status == 200;
    return call_end(&c, r, err);
}

/* "?" and what the signature makes of `rq`. */
static int sign_query(const struct client *c, const struct sign_request *rq, long expires, struct buf *url)
{
    static const struct kvlist none;
    struct buf query = BUF_INIT(url->max);
    int r = c->signature_version == 1 ? sign_v1_presign(rq, &none, expires, &query, NULL)
                                      : sign_v4_presign(rq, &none, expires, &query, NULL);

    if (r == 0)
        r = buf_addf(url, "?%s", buf_str(&query));
    buf_free(&query);
    return r;
}

int oss_presign(struct oss *oss, const char *key, long expires, char **url, struct oss_error *err)
{
    struct client *c = client_of(oss);
    struct oss_key cred;
    struct buf text = BUF_INIT(16384);
    const struct sign_request rq = {
        .method = "GET",
        .bucket = c->bucket,
        .key = key,
        .cred = &cred,
        .region = c->region,
        .when = clock_wall().tv_sec + (time_t)atomic_load(&c->clock_offset),
    };
    int r;

    *url = NULL;
    error_reset(err);
    if (!*key || strlen(key) > OSS_KEY_MAX)
        return error_set(err, -EINVAL, "no key that an object can have");
    if (expires < 1 || (c->signature_version == 4 && expires > 604800))
        return error_set(err, -EINVAL, "a URL is valid for 1 second to 7 days");
    r = oss_cred_get(c->cred, &cred);
    if (r == 0)
        r = url_build(&text, &c->endpoint, c->how, c->bucket, key, NULL, 0);
    if (r == 0)
        r = sign_query(c, &rq, expires, &text);
    if (r == 0 && !(*url = strdup(buf_str(&text))))
        r = -ENOMEM;
    explicit_bzero(&cred, sizeof(cred));
    buf_free(&text);
    return r < 0 ? error_set(err, r, "the URL cannot be signed") : 0;
}
