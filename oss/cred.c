/*
 * cred.c: the access key in use, and its renewal.
 *
 * Files are looked at again at most once a second, so that a key renewed in place is used before the old one
 * expires. A key that expires is renewed by a thread of its own when three quarters of what was left of its life have
 * passed: so there are several tries before the end, the last ones in quick succession. Whoever needs a key that has
 * run out, or that the service refused, renews it at once and waits for that. However many ask, one asks the source.
 *
 * A source that fails changes nothing: the key in use may still be good.
 */
#include "cred_source.h"

#include "base_log.h"
#include "base_time.h"
#include "error.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYSTEM_FILE  "/etc/passwd-ossfs"
#define USER_FILE    ".passwd-ossfs"
#define OSSUTIL_FILE ".ossutilconfig"
#define RECHECK_MS   1000 /* a file is looked at no more often */
#define ASK_MS       250  /* a source is asked no more often, while it has nothing new */
#define MARGIN_MS                                                                                     \
    5000 /* a key counts as run out so long before its end, or at 7/8 of its life: requests take time \
          */
#define PROCESS_MS 15000
#define FAILED_MAX 60000 /* the longest pause after a failure */

enum cred_kind { CRED_FIXED, CRED_FILE, CRED_PROCESS, CRED_METADATA };

struct oss_cred {
    /* Constant after oss_cred_open(). */
    enum cred_kind kind;
    bool anonymous;
    char *bucket;
    char *from;                  /* path of the file, command, or role */
    char *metadata_url;          /* or NULL */
    struct cred_profile profile; /* what the file said besides the key */
    bool has_thread;
    pthread_t thread;
    atomic_bool stop;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t cond;  /* of the monotonic clock: a renewal has ended, or `stop` */
    struct oss_key key;
    uint64_t serial;         /* counts the keys */
    struct cred_stamp stamp; /* of the file `key` was read from */
    int64_t checked_ms;      /* when the file was looked at, or the source asked */
    int64_t expires_ms;      /* when it runs out, the margin taken off; 0: never */
    int64_t renew_ms;        /* when the thread renews it; 0: never */
    unsigned failures;       /* in a row */
    bool renewing;
};

/* --------------------------------------------------------------------------------------------------- sources */

static int source_read(struct oss_cred *cred, struct cred_found *found, struct cred_stamp *stamp,
                       struct oss_error *err)
{
    *found = (struct cred_found){0};
    *stamp = (struct cred_stamp){0};
    switch (cred->kind) {
    case CRED_FILE:
        return cred_file_read(cred->from, cred->bucket, &found->key, NULL, stamp, err);
    case CRED_PROCESS:
        return cred_process(cred->from, PROCESS_MS, &cred->stop, found, err);
    case CRED_METADATA:
        return cred_metadata(cred->metadata_url, cred->from, &cred->stop, found, err);
    case CRED_FIXED:
        break;
    }
    return error_set(err, -ENOENT, "the key is fixed");
}

/* Three quarters of what is left, but no busy loop near the end. */
static void plan_renewal(struct oss_cred *cred, int64_t now_ms)
{
    int64_t left = cred->expires_ms - now_ms, pause = left / 4 * 3;

    cred->renew_ms = 0;
    if (!cred->expires_ms)
        return;
    if (cred->failures) {
        int64_t most = (int64_t)1000 << (cred->failures < 7 ? cred->failures - 1 : 6);

        most = most < FAILED_MAX ? most : FAILED_MAX;
        pause = left > 0 && left / 4 < most ? left / 4 : most;
    }
    cred->renew_ms = now_ms + (pause > ASK_MS ? pause : ASK_MS);
}

static bool key_equal(const struct oss_key *a, const struct oss_key *b)
{
    return strcmp(a->id, b->id) == 0 && strcmp(a->secret, b->secret) == 0 && strcmp(a->token, b->token) == 0;
}

/* Takes over what the source said; true when it is another key. lock held. */
static bool take(struct oss_cred *cred, const struct cred_found *found, const struct cred_stamp *stamp)
{
    bool changed = !key_equal(&found->key, &cred->key);
    int64_t now_ms = clock_ms();

    if (changed) {
        explicit_bzero(&cred->key, sizeof(cred->key));
        cred->key = found->key;
        cred->serial++;
    }
    cred->stamp = *stamp;
    cred->expires_ms = 0;
    if (found->life_ms)
        cred->expires_ms =
            now_ms + found->life_ms - (found->life_ms / 8 < MARGIN_MS ? found->life_ms / 8 : MARGIN_MS);
    cred->failures = 0;
    plan_renewal(cred, now_ms);
    return changed;
}

/* Asks the source, or waits for whoever is at it. Blocks; lock not held. True when another key is in use now. */
static bool renew(struct oss_cred *cred)
{
    struct cred_found found;
    struct cred_stamp stamp;
    struct oss_error err = {0};
    bool changed = false;
    uint64_t serial;
    int r;

    pthread_mutex_lock(&cred->lock);
    serial = cred->serial;
    if (cred->renewing) {
        while (cred->renewing)
            pthread_cond_wait(&cred->cond, &cred->lock);
        changed = cred->serial != serial;
        pthread_mutex_unlock(&cred->lock);
        return changed;
    }
    cred->renewing = true;
    pthread_mutex_unlock(&cred->lock);
    r = source_read(cred, &found, &stamp, &err);
    pthread_mutex_lock(&cred->lock);
    cred->checked_ms = clock_ms();
    if (r == 0) {
        changed = take(cred, &found, &stamp);
    } else {
        cred->failures++;
        plan_renewal(cred, clock_ms());
    }
    cred->renewing = false;
    pthread_cond_broadcast(&cred->cond);
    pthread_mutex_unlock(&cred->lock);
    explicit_bzero(&found, sizeof(found));
    if (r < 0 && r != -ECANCELED)
        log_warn("access key not renewed: %s", err.message);
    else if (changed)
        log_info("access key renewed from %s", cred->kind == CRED_FILE      ? cred->from
                                               : cred->kind == CRED_PROCESS ? "credential_process"
                                                                            : "ram_role");
    return changed;
}

static void *renewal_main(void *arg)
{
    struct oss_cred *cred = arg;
    struct timespec until;

    pthread_mutex_lock(&cred->lock);
    while (!atomic_load(&cred->stop)) {
        if (cred->renew_ms && clock_ms() >= cred->renew_ms && !cred->renewing) {
            pthread_mutex_unlock(&cred->lock);
            renew(cred);
            pthread_mutex_lock(&cred->lock);
            continue;
        }
        if (!cred->renew_ms || cred->renewing) {
            pthread_cond_wait(&cred->cond, &cred->lock);
            continue;
        }
        until.tv_sec = cred->renew_ms / 1000;
        until.tv_nsec = cred->renew_ms % 1000 * 1000000;
        pthread_cond_timedwait(&cred->cond, &cred->lock, &until);
    }
    pthread_mutex_unlock(&cred->lock);
    return NULL;
}

/* Signals are for others: a thread begun early would take them with their default action. */
static int start_thread(struct oss_cred *cred)
{
    sigset_t all, before;
    int e;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    e = pthread_create(&cred->thread, NULL, renewal_main, cred);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    cred->has_thread = e == 0;
    return -e;
}

/* ------------------------------------------------------------------------------------------------------ open */

static char *path_absolute(const char *path)
{
    char cwd[PATH_MAX];
    char *out;

    if (*path == '/')
        return strdup(path);
    if (!getcwd(cwd, sizeof(cwd)) || asprintf(&out, "%s/%s", cwd, path) < 0)
        return NULL;
    return out;
}

static char *home_path(const char *name)
{
    const char *home = getenv("HOME");
    struct passwd pw, *found = NULL;
    char text[4096];
    char *out;

    if ((!home || *home != '/') && getpwuid_r(geteuid(), &pw, text, sizeof(text), &found) == 0 && found)
        home = found->pw_dir;
    if (!home || *home != '/' || asprintf(&out, "%s/%s", home, name) < 0)
        return NULL;
    return out;
}

/* The key comes from `from`, a program or the metadata service; it is taken over, also on failure. */
static int open_source(struct oss_cred *cred, enum cred_kind kind, char *from, struct oss_error *err)
{
    struct cred_found found;
    struct cred_stamp stamp;
    int r;

    free(cred->from);
    cred->from = from;
    cred->kind = kind;
    if (!from)
        return error_set(err, -ENOMEM, "out of memory");
    r = source_read(cred, &found, &stamp, err);
    if (r == 0) {
        take(cred, &found, &stamp);
        r = start_thread(cred);
        if (r < 0)
            error_set(err, r, "no thread to renew the access key: %s", strerror(-r));
    }
    explicit_bzero(&found, sizeof(found));
    return r;
}

/* Tries the file, whose path is taken over. */
static int open_file(struct oss_cred *cred, char *path, struct oss_error *err)
{
    int r = cred_file_read(path, cred->bucket, &cred->key, &cred->profile, &cred->stamp, err);

    if (r == 0 && cred->profile.role) {
        free(path);
        return open_source(cred, CRED_METADATA, strdup(cred->profile.role), err);
    }
    if (r == 0) {
        cred->from = path;
        cred->kind = CRED_FILE;
    } else {
        free(path);
    }
    return r;
}

static int open_default(struct oss_cred *cred, struct oss_error *err)
{
    char *paths[] = {home_path(USER_FILE), home_path(OSSUTIL_FILE), strdup(SYSTEM_FILE)};
    int r = cred_environment(&cred->key, err);
    bool more = r == 0;

    if (r > 0)
        r = 0;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        if (more && paths[i]) {
            r = open_file(cred, paths[i], err);
            more = r == -ENOENT;
        } else {
            free(paths[i]);
        }
    }
    if (more)
        r = error_set(
            err, -ENOENT,
            "no access key for bucket %s: give passwd_file=FILE, ram_role=NAME or credential_process=PROGRAM, "
            "or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or write id:secret into ~/" USER_FILE " (mode 600)",
            cred->bucket);
    return r;
}

static struct oss_cred *cred_new(const char *bucket)
{
    struct oss_cred *cred = calloc(1, sizeof(*cred));
    pthread_condattr_t monotonic;

    if (!cred)
        return NULL;
    pthread_mutex_init(&cred->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&cred->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    cred->bucket = strdup(bucket);
    if (!cred->bucket) {
        oss_cred_free(cred);
        return NULL;
    }
    cred->checked_ms = clock_ms();
    return cred;
}

static int open_wanted(struct oss_cred *cred, const struct oss_cred_config *config, struct oss_error *err)
{
    int wanted = config->anonymous + !!config->passwd_file + !!config->process + !!config->ram_role;
    char *path;

    if (wanted > 1)
        return error_set(err, -EINVAL,
                         "give one of passwd_file, credential_process, ram_role and public_bucket, not several");
    if (config->metadata_url && !(cred->metadata_url = strdup(config->metadata_url)))
        return error_set(err, -ENOMEM, "out of memory");
    cred->anonymous = config->anonymous;
    if (config->anonymous)
        return 0;
    if (config->process)
        return open_source(cred, CRED_PROCESS, strdup(config->process), err);
    if (config->ram_role)
        return open_source(cred, CRED_METADATA, strdup(config->ram_role), err);
    if (!config->passwd_file)
        return open_default(cred, err);
    /* A daemon changes its directory later, and the file is read again. */
    path = path_absolute(config->passwd_file);
    return path ? open_file(cred, path, err) : error_set(err, -ENOMEM, "out of memory");
}

int oss_cred_open(struct oss_cred **out, const struct oss_cred_config *config, struct oss_error *err)
{
    struct oss_cred *cred = cred_new(config->bucket);
    int r;

    *out = NULL;
    error_reset(err);
    if (!cred)
        return error_set(err, -ENOMEM, "out of memory");
    r = open_wanted(cred, config, err);
    if (r < 0) {
        oss_cred_free(cred);
        return r;
    }
    *out = cred;
    return 0;
}

struct oss_cred *oss_cred_fixed(const char *id, const char *secret, const char *token)
{
    struct oss_cred *cred = cred_new("");

    if (!cred)
        return NULL;
    snprintf(cred->key.id, sizeof(cred->key.id), "%s", id);
    snprintf(cred->key.secret, sizeof(cred->key.secret), "%s", secret);
    snprintf(cred->key.token, sizeof(cred->key.token), "%s", token ? token : "");
    return cred;
}

struct oss_cred_hints oss_cred_hints(const struct oss_cred *cred)
{
    const struct cred_profile *p = &cred->profile;

    return (struct oss_cred_hints){.endpoint = p->endpoint, .region = p->region, .cname = p->cname};
}

/* ------------------------------------------------------------------------------------------------------- use */

/* Is the key to be renewed before it is used? The state of a file that cannot be read is remembered, to warn once. */
static bool must_renew(struct oss_cred *cred)
{
    struct cred_stamp now;
    int64_t now_ms = clock_ms();
    bool due;

    pthread_mutex_lock(&cred->lock);
    if (cred->kind == CRED_FILE) {
        due = now_ms - cred->checked_ms >= RECHECK_MS;
        if (due)
            cred->checked_ms = now_ms;
    } else {
        due = cred->expires_ms && now_ms >= cred->expires_ms && now_ms - cred->checked_ms >= ASK_MS;
    }
    pthread_mutex_unlock(&cred->lock);
    if (!due || cred->kind != CRED_FILE)
        return due;
    now = cred_stamp_of(cred->from);
    pthread_mutex_lock(&cred->lock);
    due = !cred_stamp_equal(&now, &cred->stamp);
    cred->stamp = now;
    pthread_mutex_unlock(&cred->lock);
    return due;
}

int oss_cred_get(struct oss_cred *cred, struct oss_key *out)
{
    if (cred->kind != CRED_FIXED && must_renew(cred))
        renew(cred);
    pthread_mutex_lock(&cred->lock);
    *out = cred->key;
    pthread_mutex_unlock(&cred->lock);
    return 0;
}

bool oss_cred_anonymous(const struct oss_cred *cred)
{
    return cred->anonymous;
}

bool oss_cred_refresh(struct oss_cred *cred)
{
    return cred->kind != CRED_FIXED && renew(cred);
}

void oss_cred_free(struct oss_cred *cred)
{
    if (!cred)
        return;
    if (cred->has_thread) {
        pthread_mutex_lock(&cred->lock);
        atomic_store(&cred->stop, true);
        pthread_cond_broadcast(&cred->cond);
        pthread_mutex_unlock(&cred->lock);
        pthread_join(cred->thread, NULL);
    }
    explicit_bzero(&cred->key, sizeof(cred->key));
    pthread_cond_destroy(&cred->cond);
    pthread_mutex_destroy(&cred->lock);
    cred_profile_free(&cred->profile);
    free(cred->from);
    free(cred->metadata_url);
    free(cred->bucket);
    free(cred);
}
