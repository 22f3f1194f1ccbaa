/*
 * client_bucket.c: requests to the bucket itself.
 */
#include "client.h"

#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int check_list(struct call *c)
{
    struct oss_list *list = c->arg;
    int r = xml_read_list(buf_str(&c->reply.body), c->reply.body.len, list);

    if (r < 0)
        return call_fail(c, r == -ENOMEM ? RETRY_NEVER : RETRY_SERVICE, r, "a reply that is no ListBucketResult");
    list->date = reply_date(&c->reply);
    return 0;
}

int client_list(struct oss *oss, const struct oss_list_opts *opts, struct oss_list *out, struct oss_error *err)
{
    struct call c;
    char max[12];

    *out = (struct oss_list){0};
    snprintf(max, sizeof(max), "%u", opts->max_keys ? opts->max_keys : OSS_LIST_MAX);
    call_begin_bucket(&c, oss, OSS_OP_LIST, "GET");
    if (opts->max_keys > OSS_LIST_MAX)
        c.r = error_set(&c.err, -EINVAL, "max-keys %u", opts->max_keys);
    call_query(&c, "list-type", "2");
    call_query(&c, "encoding-type", "url");
    call_query(&c, "max-keys", max);
    if (opts->prefix && *opts->prefix)
        call_query(&c, "prefix", opts->prefix);
    if (opts->delimiter && *opts->delimiter)
        call_query(&c, "delimiter", opts->delimiter);
    if (opts->start_after && *opts->start_after)
        call_query(&c, "start-after", opts->start_after);
    if (opts->continuation && *opts->continuation)
        call_query(&c, "continuation-token", opts->continuation);
    c.collect_max = XML_LIST_MAX;
    c.check = check_list;
    c.arg = out;
    return call_end(&c, call_run(&c), err);
}

struct deletion {
    const char *const *keys;
    size_t n;
    bool *deleted;
};

static int check_delete_many(struct call *c)
{
    const struct deletion *d = c->arg;
    int r = check_write(c);

    if (r < 0 || !d->deleted)
        return r;
    r = xml_read_deleted(buf_str(&c->reply.body), c->reply.body.len, d->keys, d->n, d->deleted);
    return r < 0 ? call_fail(c, RETRY_SERVICE, r, "a reply that is no DeleteResult") : 0;
}

int client_delete_many(struct oss *oss, const char *const *keys, size_t n, bool *deleted, struct oss_error *err)
{
    struct deletion d = {keys, n, deleted};
    struct call c;

    if (n == 0) {
        error_reset(err);
        return 0;
    }
    call_begin_bucket(&c, oss, OSS_OP_DELETE_MANY, "POST");
    if (n > OSS_LIST_MAX)
        c.r = error_set(&c.err, -EINVAL, "%zu keys are more than %d", n, OSS_LIST_MAX);
    for (size_t i = 0; i < n && c.r == 0; i++) {
        if (!keys[i] || !*keys[i] || strlen(keys[i]) > OSS_KEY_MAX)
            c.r = error_set(&c.err, -EINVAL, "a key that is empty or too long");
    }
    call_query(&c, "delete", NULL);
    call_query(&c, "encoding-type", "url");
    if (c.r == 0) {
        xml_write_delete(&c.text, keys, n, !deleted);
        call_text_body(&c);
        call_header(&c, "content-type", "application/xml");
    }
    c.md5_header = true;
    c.collect_max = XML_LIST_MAX;
    c.check = check_delete_many;
    c.arg = &d;
    return call_end(&c, call_run(&c), err);
}

static int check_info(struct call *c)
{
    if (xml_read_bucket_info(buf_str(&c->reply.body), c->reply.body.len, c->arg) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no BucketInfo");
    return 0;
}

int client_bucket_info(struct oss *oss, struct oss_bucket_info *out, struct oss_error *err)
{
    struct call c;

    call_begin_bucket(&c, oss, OSS_OP_BUCKET_INFO, "GET");
    call_query(&c, "bucketInfo", NULL);
    c.check = check_info;
    c.arg = out;
    return call_end(&c, call_run(&c), err);
}

static int check_stat(struct call *c)
{
    if (xml_read_bucket_stat(buf_str(&c->reply.body), c->reply.body.len, c->arg) < 0)
        return call_fail(c, RETRY_SERVICE, -EIO, "a reply that is no BucketStat");
    return 0;
}

int client_bucket_stat(struct oss *oss, struct oss_bucket_stat *out, struct oss_error *err)
{
    struct call c;

    call_begin_bucket(&c, oss, OSS_OP_BUCKET_STAT, "GET");
    call_query(&c, "stat", NULL);
    c.check = check_stat;
    c.arg = out;
    return call_end(&c, call_run(&c), err);
}
