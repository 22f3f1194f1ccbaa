/*
 * cred_source.h: where a key can come from, inside oss/ only: cred.c asks, one of these answers.
 *
 * All functions return 0 or a negative errno with err->message saying what to do; none of them logs, and no message
 * quotes a secret. The readers of text are pure.
 */
#ifndef OSS_CRED_SOURCE_H
#define OSS_CRED_SOURCE_H

#include "base_kv.h"
#include "cred.h"

#include <stdatomic.h>

struct cred_found {
    struct oss_key key;
    int64_t life_ms; /* for how long it is good, counted from now; 0: it does not expire */
};

/* What tells one state of a file from another. */
struct cred_stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};
struct cred_stamp cred_stamp_of(const char *path); /* all zero when there is no such file */
bool cred_stamp_equal(const struct cred_stamp *a, const struct cred_stamp *b);

/* What the configuration file of ossutil says besides a key; strings owned, NULL when not said. */
struct cred_profile {
    char *role; /* the key comes from the metadata service: the role's name, "auto", or a URL */
    char *endpoint, *region;
    bool cname; /* the endpoint is a domain of the bucket's own */
};
void cred_profile_free(struct cred_profile *profile);

/* Copies a field of a key; false when it is empty, too long, or holds what an Authorization header may not. */
bool cred_field(char *to, size_t size, const char *from, size_t n);

/*
 * A file with lines [bucket:]id:secret, or the INI file of ossutil (its first line that is neither blank nor a
 * comment begins with '['); `profile` (may be NULL) is filled from the latter, and `out` is left empty when
 * profile->role is set. -ENOENT, -EACCES, -EINVAL, -ENOMEM as oss_cred_open().
 */
int cred_file_read(const char *path, const char *bucket, struct oss_key *out, struct cred_profile *profile,
                   struct cred_stamp *stamp, struct oss_error *err);

/* 1: found; 0: not there, or not complete; -EINVAL: found and unusable. */
int cred_environment(struct oss_key *out, struct oss_error *err);

/* The text of either kind of file. 0, -ENOENT, -EINVAL with the number of the line in *bad, -ENOMEM. */
int cred_passwd_text(const char *text, size_t n, const char *bucket, struct oss_key *out, unsigned *bad);
int cred_ini_text(const char *text, size_t n, const char *bucket, struct oss_key *out, struct cred_profile *profile,
                  unsigned *bad);

/*
 * {"AccessKeyId": ..., "AccessKeySecret": ..., "SecurityToken": ..., "Expiration": ...}: what the metadata service
 * and external processes answer; names without regard to case, '_' and '-'. A "Code" other than Success is an error.
 */
int cred_json(const char *text, size_t n, struct cred_found *out, struct oss_error *err);

/*
 * Runs `command` (an absolute path and arguments, split at blanks, with quotes; no shell) and reads its output.
 * Blocks for at most `timeout_ms`, or until *stop. -EACCES: it is not there, or others may change it. -ETIMEDOUT.
 * -EIO.
 */
int cred_process(const char *command, int64_t timeout_ms, const atomic_bool *stop, struct cred_found *out,
                 struct oss_error *err);

/* "a 'b c' d" into words, in place of a shell. *words is malloc'ed in one block. 0, -EINVAL (a quote is open),
 * -ENOMEM. */
int cred_words(const char *command, char ***words, size_t *n);

/*
 * Asks the metadata service at `base` (NULL: the machine's own) for the key of `role`. Blocks for some seconds at
 * most, or until *stop: -ECANCELED.
 */
int cred_metadata(const char *base, const char *role, const atomic_bool *stop, struct cred_found *out,
                  struct oss_error *err);

#endif
