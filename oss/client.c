/*
 * client.c: the client itself: what it is configured with, its table of operations, its totals.
 */
#include "client.h"

#include "cred.h"
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct oss_ops client_ops = {
    .head = client_head,
    .get = client_get,
    .put = client_put,
    .append = client_append,
    .copy = client_copy,
    .delete = client_delete,
    .delete_many = client_delete_many,
    .list = client_list,
    .initiate = client_initiate,
    .upload_part = client_upload_part,
    .copy_part = client_copy_part,
    .complete = client_complete,
    .abort = client_abort,
    .list_parts = client_list_parts,
    .list_uploads = client_list_uploads,
    .put_symlink = client_put_symlink,
    .get_symlink = client_get_symlink,
    .get_acl = client_get_acl,
    .put_acl = client_put_acl,
    .get_tagging = client_get_tagging,
    .put_tagging = client_put_tagging,
    .restore = client_restore,
    .bucket_info = client_bucket_info,
    .bucket_stat = client_bucket_stat,
};

const char *oss_op_name(enum oss_op op)
{
    static const char *const names[OSS_OPS] = {
        [OSS_OP_HEAD] = "HeadObject",
        [OSS_OP_GET] = "GetObject",
        [OSS_OP_PUT] = "PutObject",
        [OSS_OP_COPY] = "CopyObject",
        [OSS_OP_DELETE] = "DeleteObject",
        [OSS_OP_DELETE_MANY] = "DeleteMultipleObjects",
        [OSS_OP_APPEND] = "AppendObject",
        [OSS_OP_LIST] = "ListObjectsV2",
        [OSS_OP_INITIATE] = "InitiateMultipartUpload",
        [OSS_OP_PART] = "UploadPart",
        [OSS_OP_PART_COPY] = "UploadPartCopy",
        [OSS_OP_COMPLETE] = "CompleteMultipartUpload",
        [OSS_OP_ABORT] = "AbortMultipartUpload",
        [OSS_OP_LIST_PARTS] = "ListParts",
        [OSS_OP_LIST_UPLOADS] = "ListMultipartUploads",
        [OSS_OP_PUT_SYMLINK] = "PutSymlink",
        [OSS_OP_GET_SYMLINK] = "GetSymlink",
        [OSS_OP_GET_ACL] = "GetObjectACL",
        [OSS_OP_PUT_ACL] = "PutObjectACL",
        [OSS_OP_GET_TAGGING] = "GetObjectTagging",
        [OSS_OP_PUT_TAGGING] = "PutObjectTagging",
        [OSS_OP_BUCKET_INFO] = "GetBucketInfo",
        [OSS_OP_BUCKET_STAT] = "GetBucketStat",
        [OSS_OP_RESTORE] = "RestoreObject",
    };

    return (unsigned)op < OSS_OPS ? names[op] : "?";
}

/* ---------------------------------------------------------------------------------------------------- open */

/* Text that goes into a signature's scope: "cn-hangzhou". */
static int region_set(struct client *c, const char *region, struct oss_error *err)
{
    /* The bucket's Location and many a note say "oss-cn-hangzhou". */
    if (strncmp(region, "oss-", 4) == 0)
        region += 4;
    if (!*region || strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region) ||
        strlen(region) >= sizeof(c->region))
        return error_set(err, -EINVAL, "region \"%.64s\" is no region: give one like region=cn-hangzhou", region);
    snprintf(c->region, sizeof(c->region), "%s", region);
    return 0;
}

static int check_numbers(const struct oss_config *config, struct oss_error *err)
{
    if (config->signature_version != 4 && config->signature_version != 1)
        return error_set(err, -EINVAL, "signature version %d: give 4 or 1", config->signature_version);
    if (config->connect_timeout_ms <= 0 || config->stall_timeout_ms <= 0 || config->meta_deadline_ms <= 0 ||
        config->transfer_deadline_ms <= 0)
        return error_set(err, -EINVAL, "a timeout of 0: give at least 1 ms");
    if (!config->cred)
        return error_set(err, -EINVAL, "no access key");
    return 0;
}

static int configure(struct client *c, const struct oss_config *config, struct oss_error *err)
{
    char why[200];
    int r = check_numbers(config, err);

    if (r < 0)
        return r;
    if (!config->bucket || !url_bucket_valid(config->bucket))
        return error_set(err, -EINVAL,
                         "\"%.64s\" is no bucket name: 3 to 63 of a-z, 0-9 and '-', no '-' at either end",
                         config->bucket ? config->bucket : "");
    if (!config->endpoint || !*config->endpoint)
        return error_set(err, -EINVAL, "no endpoint: give one like url=https://oss-cn-hangzhou.aliyuncs.com");
    if (url_endpoint_parse(&c->endpoint, config->endpoint, why, sizeof(why)) < 0)
        return error_set(err, -EINVAL, "%s", why);
    if (config->region && *config->region)
        r = region_set(c, config->region, err);
    else if (!url_region(&c->endpoint, c->region) && config->signature_version == 4)
        r = error_set(err, -EINVAL,
                      "the endpoint %.100s does not tell the region: give the bucket's, like region=cn-hangzhou",
                      c->endpoint.host);
    if (r < 0)
        return r;
    c->how = url_addressing(&c->endpoint, config->addressing, config->bucket);
    c->bucket = strdup(config->bucket);
    if (!c->bucket)
        return error_set(err, -ENOMEM, "out of memory");
    c->cred = config->cred;
    c->signature_version = config->signature_version;
    c->check_crc = config->check_crc;
    c->content_md5 = config->content_md5;
    c->meta = (struct retry_limits){config->retries, config->meta_deadline_ms, false};
    c->transfer = (struct retry_limits){config->retries, config->transfer_deadline_ms, true};
    return 0;
}

static bool is_local(const struct url_endpoint *endpoint)
{
    return endpoint->localhost || (endpoint->ip && !endpoint->ipv6 && strncmp(endpoint->host, "127.", 4) == 0) ||
           strcmp(endpoint->host, "::1") == 0;
}

int oss_open(struct oss **out, const struct oss_config *config, struct oss_error *err)
{
    struct http_options options = {
        .ca_file = config->ca_file,
        .user_agent = config->user_agent,
        .connect_timeout_ms = config->connect_timeout_ms,
        .stall_timeout_ms = config->stall_timeout_ms,
    };
    struct client *c = calloc(1, sizeof(*c));
    char why[200] = "";
    int r;

    *out = NULL;
    error_reset(err);
    if (!c)
        return error_set(err, -ENOMEM, "out of memory");
    xml_init();
    c->oss.ops = &client_ops;
    r = configure(c, config, err);
    if (r == 0) {
        options.tls = c->endpoint.tls;
        options.local = is_local(&c->endpoint);
        r = http_open(&c->http, &options, why, sizeof(why));
        if (r < 0)
            error_set(err, r, "%s", r == -ENOMEM ? "out of memory" : why);
    }
    if (r < 0) {
        oss_close(&c->oss);
        return r;
    }
    *out = &c->oss;
    return 0;
}

void oss_stop(struct oss *oss)
{
    http_stop(client_of(oss)->http);
}

void oss_close(struct oss *oss)
{
    struct client *c;

    if (!oss)
        return;
    c = client_of(oss);
    http_close(c->http);
    free(c->bucket);
    free(c);
}

const char *oss_bucket(const struct oss *oss)
{
    return ((const struct client *)(const void *)oss)->bucket;
}

void oss_stats(struct oss *oss, struct oss_op_stats out[OSS_OPS])
{
    struct client *c = client_of(oss);

    for (size_t i = 0; i < OSS_OPS; i++)
        stats_read(&c->stats[i], &out[i]);
}
