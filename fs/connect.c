#include "connect.h"

#include "explain.h"

#include "../oss/cred.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef OSSMOUNT_VERSION
#define OSSMOUNT_VERSION "unknown"
#endif

static int open_key(const struct options *o, struct oss_cred **cred, struct message *message)
{
    const struct oss_cred_config config = {
        .bucket = o->bucket,
        .anonymous = o->public_bucket,
        .passwd_file = o->passwd_file,
        .process = o->credential_process,
        .ram_role = o->ram_role,
        .metadata_url = o->metadata_url,
    };
    struct oss_error err = {0};
    int r = oss_cred_open(cred, &config, &err);

    return r < 0 ? message_set(message, r, "cannot mount %.80s: %s", o->source, err.message) : 0;
}

static int set(char **field, const char *value)
{
    if (*field || !value)
        return 0;
    *field = strdup(value);
    return *field ? 0 : -ENOMEM;
}

/* What the command line leaves open. An option that is given wins over ossutil's file. */
static int find_endpoint(struct options *o, struct oss_cred_hints hints, struct message *message)
{
    int r = 0;

    if (!o->url && !o->region && hints.endpoint) {
        o->cname = o->cname || hints.cname;
        r = set(&o->url, hints.endpoint);
    }
    if (r == 0)
        r = set(&o->region, hints.region);
    if (r == 0 && !o->url && !o->region)
        return message_set(
            message, -EINVAL,
            "no endpoint: give -o url=URL, as url=https://oss-cn-hangzhou.aliyuncs.com, or -o region=ID");
    if (r == 0 && !o->url && asprintf(&o->url, "https://oss-%s.aliyuncs.com", o->region) < 0) {
        o->url = NULL;
        r = -ENOMEM;
    }
    return r < 0 ? message_set(message, r, "out of memory") : 0;
}

static int open_client(const struct options *o, struct oss_cred *cred, struct oss **oss, struct message *message)
{
    struct oss_config config = OSS_CONFIG_DEFAULTS;
    struct oss_error err = {0};
    int r;

    config.endpoint = o->url;
    config.bucket = o->bucket;
    config.region = o->region;
    config.addressing = o->cname ? OSS_ADDR_CNAME : o->use_path_request_style ? OSS_ADDR_PATH : OSS_ADDR_AUTO;
    config.signature_version = o->sigv1 ? 1 : 4;
    config.cred = cred;
    config.ca_file = o->cacert;
    config.user_agent = "ossmount/" OSSMOUNT_VERSION;
    config.check_crc = o->enable_crc64;
    config.content_md5 = o->enable_content_md5;
    config.retries = (unsigned)o->retries;
    config.connect_timeout_ms = o->connect_timeout;
    config.stall_timeout_ms = o->readwrite_timeout;
    config.meta_deadline_ms = o->metadata_deadline;
    config.transfer_deadline_ms = o->transfer_deadline;
    r = oss_open(oss, &config, &err);
    if (r < 0)
        explain_mount_failure(message, &err, o);
    return r;
}

int connect_bucket(struct options *o, struct oss_cred **cred, struct oss **oss, struct message *message)
{
    int r = open_key(o, cred, message);

    if (r == 0)
        r = find_endpoint(o, oss_cred_hints(*cred), message);
    if (r == 0)
        r = open_client(o, *cred, oss, message);
    return r;
}
