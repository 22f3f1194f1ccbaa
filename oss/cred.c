/*
 * cred.c: the access key, from a passwd file or the environment.
 *
 * A file is looked at again at most once a second, so that a key renewed in place is used before the old one
 * expires. A file that has become unreadable or malformed changes nothing: the key in use may still be good.
 */
#include "cred.h"

#include "base_log.h"
#include "base_time.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_FILE  "/etc/passwd-ossfs"
#define USER_FILE    ".passwd-ossfs"
#define FILE_MAX     (1 << 20)
#define RECHECK_MS   1000
#define WHERE_TO_GET "see https://ram.console.aliyun.com for access keys"

/* What tells one state of a file from another. */
struct stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

struct oss_cred {
    pthread_mutex_t lock;
    char *path;         /* NULL: the key does not come from a file; constant */
    char *bucket;       /* constant */
    struct oss_key key; /* guarded by lock */
    struct stamp stamp; /* of the file `key` was read from; guarded by lock */
    int64_t checked_ms; /* guarded by lock */
};

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){st->st_dev, st->st_ino, st->st_size, st->st_mtim};
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
           a->mtime.tv_nsec == b->mtime.tv_nsec;
}

/* Copies a piece of a line; false when it is empty, too long, or holds what an Authorization header may not. */
static bool field_copy(char *to, size_t size, const char *from, size_t n)
{
    if (n == 0 || n >= size)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (from[i] <= ' ' || from[i] > '~')
            return false;
    }
    memcpy(to, from, n);
    to[n] = '\0';
    return true;
}

/* What a line of the file says. */
enum line_kind { LINE_NONE, LINE_OTHER, LINE_DEFAULT, LINE_BUCKET, LINE_BAD };

static enum line_kind line_read(const char *line, size_t n, const char *bucket, struct oss_key *key)
{
    const char *colon[2] = {NULL, NULL};
    const char *end, *id;
    size_t colons = 0;

    while (n && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r'))
        n--;
    while (n && (*line == ' ' || *line == '\t'))
        line++, n--;
    if (n == 0 || *line == '#')
        return LINE_NONE;
    end = line + n;
    for (const char *p = line; p < end; p++) {
        if (*p != ':')
            continue;
        if (colons == 2)
            return LINE_BAD;
        colon[colons++] = p;
    }
    if (colons == 0)
        return LINE_BAD;
    id = colons == 2 ? colon[0] + 1 : line;
    key->token[0] = '\0';
    if (!field_copy(key->id, sizeof(key->id), id, (size_t)(colon[colons - 1] - id)) ||
        !field_copy(key->secret, sizeof(key->secret), colon[colons - 1] + 1, (size_t)(end - colon[colons - 1] - 1)))
        return LINE_BAD;
    if (colons == 1)
        return LINE_DEFAULT;
    n = (size_t)(colon[0] - line);
    if (n == 0)
        return LINE_BAD;
    return n == strlen(bucket) && memcmp(line, bucket, n) == 0 ? LINE_BUCKET : LINE_OTHER;
}

/* Finds the key in the text of a file. 0, -ENOENT, or -EINVAL with the number of the line in *bad. */
static int text_read(const char *text, size_t n, const char *bucket, struct oss_key *out, unsigned *bad)
{
    struct oss_key key;
    enum line_kind found = LINE_NONE;
    int r = 0;

    *bad = 0;
    for (const char *p = text, *end = text + n; p < end && r == 0;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((eol ? eol : end) - p);
        enum line_kind kind = line_read(p, len, bucket, &key);

        ++*bad;
        if (kind == LINE_BAD)
            r = -EINVAL;
        else if ((kind == LINE_BUCKET && found != LINE_BUCKET) || (kind == LINE_DEFAULT && found == LINE_NONE)) {
            *out = key;
            found = kind;
        }
        p += len + 1;
    }
    explicit_bzero(&key, sizeof(key));
    if (r == 0 && found == LINE_NONE)
        r = -ENOENT;
    return r;
}

static int file_check(const char *path, const struct stat *st, struct oss_error *err)
{
    mode_t allowed = strcmp(path, SYSTEM_FILE) == 0 ? 0640 : 0600;

    if (!S_ISREG(st->st_mode))
        return error_set(err, -EACCES, "%s is not a regular file: give a file of lines [bucket:]id:secret", path);
    /* What the owner may do besides (0700) harms no one. */
    if (st->st_mode & 07077 & ~allowed)
        return error_set(err, -EACCES, "%s may be used by others (mode %03o): chmod %o %s", path,
                         (unsigned)(st->st_mode & 07777), (unsigned)allowed, path);
    if (st->st_size > FILE_MAX)
        return error_set(err, -EINVAL, "%s is too large for a passwd file", path);
    return 0;
}

/* Reads at most `size` bytes; the count, or a negative errno. */
static ssize_t read_all(int fd, char *to, size_t size)
{
    size_t n = 0;

    while (n < size) {
        ssize_t got = read(fd, to + n, size - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

/* Reads the key for `bucket` from the file; the errors of oss_cred_open(). */
static int file_read(const char *path, const char *bucket, struct oss_key *out, struct stamp *stamp,
                     struct oss_error *err)
{
    struct stat st;
    char *text = NULL;
    size_t size = 0;
    ssize_t n;
    unsigned line;
    /* O_NONBLOCK: a FIFO must not hang the mount. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return error_set(err, -ENOENT, "the passwd file %s does not exist: create it with a line id:secret, mode 600",
                         path);
    if (fd < 0)
        return error_set(err, -EACCES, "the passwd file %s cannot be read: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0) {
        r = error_set(err, -EACCES, "the passwd file %s cannot be read: %s", path, strerror(errno));
        goto out;
    }
    r = file_check(path, &st, err);
    if (r < 0)
        goto out;
    size = (size_t)st.st_size + 1;
    text = malloc(size);
    if (!text) {
        r = error_set(err, -ENOMEM, "out of memory");
        goto out;
    }
    n = read_all(fd, text, size);
    if (n < 0) {
        r = error_set(err, -EACCES, "the passwd file %s cannot be read: %s", path, strerror((int)-n));
        goto out;
    }
    *stamp = stamp_of(&st);
    r = text_read(text, (size_t)n, bucket, out, &line);
    if (r == -EINVAL)
        error_set(err, r, "%s: line %u is not [bucket:]id:secret", path, line);
    else if (r == -ENOENT)
        error_set(err, r, "%s has no line for bucket %s: add id:secret or %s:id:secret", path, bucket, bucket);
out:
    if (text) {
        explicit_bzero(text, size);
        free(text);
    }
    close(fd);
    return r;
}

/* 1: found; 0: not there, or not complete; -EINVAL: found and unusable. */
static int environment_read(struct oss_key *out, struct oss_error *err)
{
    const char *id = getenv("OSS_ACCESS_KEY_ID");
    const char *secret = getenv("OSS_ACCESS_KEY_SECRET");
    const char *token = getenv("OSS_SESSION_TOKEN");

    if (!id || !*id || !secret || !*secret)
        return 0;
    out->token[0] = '\0';
    if (!field_copy(out->id, sizeof(out->id), id, strlen(id)))
        return error_set(err, -EINVAL, "OSS_ACCESS_KEY_ID is not an access key id: check for blanks, " WHERE_TO_GET);
    if (!field_copy(out->secret, sizeof(out->secret), secret, strlen(secret)))
        return error_set(err, -EINVAL, "OSS_ACCESS_KEY_SECRET is not a secret: check for blanks, " WHERE_TO_GET);
    if (token && *token && !field_copy(out->token, sizeof(out->token), token, strlen(token)))
        return error_set(err, -EINVAL, "OSS_SESSION_TOKEN is too long or holds blanks");
    return 1;
}

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

static char *home_path(void)
{
    const char *home = getenv("HOME");
    struct passwd pw, *found = NULL;
    char text[4096];
    char *out;

    if ((!home || *home != '/') && getpwuid_r(geteuid(), &pw, text, sizeof(text), &found) == 0 && found)
        home = found->pw_dir;
    if (!home || *home != '/' || asprintf(&out, "%s/" USER_FILE, home) < 0)
        return NULL;
    return out;
}

/* Tries the file; on 0 the source takes the path over. */
static int open_file(struct oss_cred *cred, char *path, struct oss_error *err)
{
    int r = file_read(path, cred->bucket, &cred->key, &cred->stamp, err);

    if (r == 0)
        cred->path = path;
    else
        free(path);
    return r;
}

static int open_default(struct oss_cred *cred, struct oss_error *err)
{
    char *path;
    int r = environment_read(&cred->key, err);

    if (r)
        return r < 0 ? r : 0;
    r = -ENOENT;
    path = home_path();
    if (path)
        r = open_file(cred, path, err);
    if (r != -ENOENT)
        return r;
    path = strdup(SYSTEM_FILE);
    if (!path)
        return error_set(err, -ENOMEM, "out of memory");
    r = open_file(cred, path, err);
    if (r == -ENOENT)
        error_set(err, r,
                  "no access key for bucket %s: give passwd_file=FILE, or set OSS_ACCESS_KEY_ID and "
                  "OSS_ACCESS_KEY_SECRET, or write id:secret into ~/" USER_FILE " (mode 600)",
                  cred->bucket);
    return r;
}

static struct oss_cred *cred_new(const char *bucket)
{
    struct oss_cred *cred = calloc(1, sizeof(*cred));

    if (!cred)
        return NULL;
    pthread_mutex_init(&cred->lock, NULL);
    cred->bucket = strdup(bucket);
    if (!cred->bucket) {
        oss_cred_free(cred);
        return NULL;
    }
    cred->checked_ms = clock_ms();
    return cred;
}

int oss_cred_open(struct oss_cred **out, const char *passwd_file, const char *bucket, struct oss_error *err)
{
    struct oss_cred *cred = cred_new(bucket);
    char *path;
    int r;

    *out = NULL;
    error_reset(err);
    if (!cred)
        return error_set(err, -ENOMEM, "out of memory");
    if (passwd_file) {
        /* A daemon changes its directory later, and the file is read again. */
        path = path_absolute(passwd_file);
        r = path ? open_file(cred, path, err) : error_set(err, -ENOMEM, "out of memory");
    } else {
        r = open_default(cred, err);
    }
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

static bool key_equal(const struct oss_key *a, const struct oss_key *b)
{
    return strcmp(a->id, b->id) == 0 && strcmp(a->secret, b->secret) == 0 && strcmp(a->token, b->token) == 0;
}

/* Reads the file again, holding no lock meanwhile; true when another key is in use now. */
static bool file_reread(struct oss_cred *cred)
{
    struct oss_key key;
    struct stamp stamp;
    struct oss_error err;
    bool changed = false;

    error_reset(&err);
    if (file_read(cred->path, cred->bucket, &key, &stamp, &err) < 0) {
        log_warn("access key not renewed: %s", err.message);
    } else {
        pthread_mutex_lock(&cred->lock);
        changed = !key_equal(&key, &cred->key);
        if (changed) {
            explicit_bzero(&cred->key, sizeof(cred->key));
            cred->key = key;
        }
        cred->stamp = stamp;
        pthread_mutex_unlock(&cred->lock);
        if (changed)
            log_info("access key renewed from %s", cred->path);
    }
    explicit_bzero(&key, sizeof(key));
    return changed;
}

/* Reads the file again when it was changed; the state of a file that cannot be read is remembered, to warn once. */
static void file_follow(struct oss_cred *cred)
{
    struct stamp now = {0};
    struct stat st;
    bool same, due;

    pthread_mutex_lock(&cred->lock);
    due = clock_ms() - cred->checked_ms >= RECHECK_MS;
    if (due)
        cred->checked_ms = clock_ms();
    pthread_mutex_unlock(&cred->lock);
    if (!due)
        return;
    if (stat(cred->path, &st) == 0)
        now = stamp_of(&st);
    pthread_mutex_lock(&cred->lock);
    same = stamp_equal(&now, &cred->stamp);
    cred->stamp = now;
    pthread_mutex_unlock(&cred->lock);
    if (!same)
        file_reread(cred);
}

int oss_cred_get(struct oss_cred *cred, struct oss_key *out)
{
    if (cred->path)
        file_follow(cred);
    pthread_mutex_lock(&cred->lock);
    *out = cred->key;
    pthread_mutex_unlock(&cred->lock);
    return 0;
}

bool oss_cred_refresh(struct oss_cred *cred)
{
    return cred->path && file_reread(cred);
}

void oss_cred_free(struct oss_cred *cred)
{
    if (!cred)
        return;
    explicit_bzero(&cred->key, sizeof(cred->key));
    pthread_mutex_destroy(&cred->lock);
    free(cred->path);
    free(cred->bucket);
    free(cred);
}
