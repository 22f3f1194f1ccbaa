/*
 * cred.h: where the access key comes from.
 *
 * A source is asked before each try of a request, so that a renewed key is used without a remount. The secret is
 * never logged, and is wiped from memory when it is replaced.
 */
#ifndef OSS_CRED_H
#define OSS_CRED_H

#include "oss.h"

struct oss_key {
    char id[128];
    char secret[256];
    char token[4096]; /* security token, "" when there is none */
};

/* At most one of anonymous, passwd_file, process, ram_role; none: the search below. Strings are copied. */
struct oss_cred_config {
    const char *bucket;
    bool anonymous;           /* requests go out unsigned */
    const char *passwd_file;  /* this file alone */
    const char *process;      /* a program (absolute path) and its arguments, that writes a key in JSON */
    const char *ram_role;     /* of this machine: its name, "auto", or the URL that answers with the key */
    const char *metadata_url; /* NULL: that of ECS */
};

/*
 * Finds the key, by what `config` names or else in this order: the environment (OSS_ACCESS_KEY_ID,
 * OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN; empty counts as missing), ~/.passwd-ossfs, ~/.ossutilconfig,
 * /etc/passwd-ossfs. Blocks for a program or the metadata service, and starts a thread then: after any fork.
 *
 * File: lines "[bucket:]id:secret", '#' begins a comment line, blank lines are skipped; the line of `bucket` wins
 * over one without a bucket. Or the INI file of ossutil, with accessKeyID, accessKeySecret, stsToken in [Credentials]
 * or [default]; mode=EcsRamRole there means ram_role. It must be a regular file with no permission for others, and
 * none for the group except reading of /etc/passwd-ossfs (mode 600 or 640), as ossfs demands.
 *
 * 0; -ENOENT nothing was found; -EACCES a file that others may read, or may not be read, a program that fails or that
 * others may change, a role that is not there; -EINVAL a malformed line or answer; -ETIMEDOUT, -EIO.
 * err->message then says what to do (and never quotes the line).
 */
int oss_cred_open(struct oss_cred **out, const struct oss_cred_config *config, struct oss_error *err);

/* A fixed key, for tests. NULL when out of memory. */
struct oss_cred *oss_cred_fixed(const char *id, const char *secret, const char *token);

/* What the file of ossutil says besides the key; NULL where it says nothing. Valid while `cred` is. */
struct oss_cred_hints {
    const char *endpoint, *region;
    bool cname; /* the endpoint is a domain of the bucket's own */
};
struct oss_cred_hints oss_cred_hints(const struct oss_cred *cred);

/* No key: requests go out unsigned. */
bool oss_cred_anonymous(const struct oss_cred *cred);

/*
 * The key to sign with now. Thread-safe. Blocks only when the key in use has expired: until the source has answered
 * (or failed: then it is the old key).
 */
int oss_cred_get(struct oss_cred *cred, struct oss_key *out);

/*
 * The service refused the key as expired or invalid: get a newer one from the source. true when another key is
 * there now (try once more), false when nothing changed. Blocks while the source is asked.
 */
bool oss_cred_refresh(struct oss_cred *cred);

void oss_cred_free(struct oss_cred *cred);

#endif
