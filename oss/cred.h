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

/*
 * Finds the key in this order: the file `passwd_file` (when not NULL: then nothing else is tried), the
 * environment (OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN; empty counts as missing),
 * ~/.passwd-ossfs, /etc/passwd-ossfs.
 *
 * File: lines "[bucket:]id:secret", '#' begins a comment line, blank lines are skipped; the line of `bucket` wins
 * over one without a bucket. It must be a regular file with no permission for others, and none for the group
 * except reading of /etc/passwd-ossfs (mode 600 or 640), as ossfs demands.
 *
 * 0; -ENOENT nothing was found; -EACCES a file that others may read, or may not be read; -EINVAL a malformed line.
 * err->message then says what to do (and never quotes the line).
 */
int oss_cred_open(struct oss_cred **out, const char *passwd_file, const char *bucket, struct oss_error *err);

/* A fixed key, for tests. NULL when out of memory. */
struct oss_cred *oss_cred_fixed(const char *id, const char *secret, const char *token);

/* The key to sign with now. Thread-safe. */
int oss_cred_get(struct oss_cred *cred, struct oss_key *out);

/*
 * The service refused the key as expired or invalid: get a newer one from the source. true when another key is
 * there now (try once more), false when nothing changed.
 */
bool oss_cred_refresh(struct oss_cred *cred);

void oss_cred_free(struct oss_cred *cred);

#endif
