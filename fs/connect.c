#include "connect.h"

#include "explain.h"

#include "../oss/cred.h"

#ifndef OSSMOUNT_VERSION
#define OSSMOUNT_VERSION "unknown"
#endif

int connect_bucket(const struct options *o, struct oss_cred **cred, struct oss **oss, struct message *message)
{
    struct oss_config config = OSS_CONFIG_DEFAULTS;
    struct oss_error err = {0};
    int r;

    r = oss_cred_open(cred, o->passwd_file, o->bucket, &err);
    if (r < 0)
        return message_set(message, r, "cannot mount %.80s: %s", o->source, err.message);
    config.endpoint = o->url;
    config.bucket = o->bucket;
    config.region = o->region;
    config.addressing = o->cname ? OSS_ADDR_CNAME : o->use_path_request_style ? OSS_ADDR_PATH : OSS_ADDR_AUTO;
    config.signature_version = o->sigv1 ? 1 : 4;
    config.cred = *cred;
    config.ca_file = o->cacert;
    config.user_agent = "ossmount/" OSSMOUNT_VERSION;
    config.check_crc = o->enable_crc64;
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
