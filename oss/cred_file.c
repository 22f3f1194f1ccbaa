/*
 * cred_file.c: an access key from a file or the environment.
 */
#include "cred_source.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_FILE  "/etc/passwd-ossfs"
#define FILE_MAX     (1 << 20)
#define WHERE_TO_GET "see https://ram.console.aliyun.com for access keys"

static struct cred_stamp stamp_of(const struct stat *st)
{
    return (struct cred_stamp){st->st_dev, st->st_ino, st->st_size, st->st_mtim};
}

struct cred_stamp cred_stamp_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? stamp_of(&st) : (struct cred_stamp){0};
}

bool cred_stamp_equal(const struct cred_stamp *a, const struct cred_stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
           a->mtime.tv_nsec == b->mtime.tv_nsec;
}

bool cred_field(char *to, size_t size, const char *from, size_t n)
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
    if (!cred_field(key->id, sizeof(key->id), id, (size_t)(colon[colons - 1] - id)) ||
        !cred_field(key->secret, sizeof(key->secret), colon[colons - 1] + 1, (size_t)(end - colon[colons - 1] - 1)))
        return LINE_BAD;
    if (colons == 1)
        return LINE_DEFAULT;
    n = (size_t)(colon[0] - line);
    if (n == 0)
        return LINE_BAD;
    return n == strlen(bucket) && memcmp(line, bucket, n) == 0 ? LINE_BUCKET : LINE_OTHER;
}

int cred_passwd_text(const char *text, size_t n, const char *bucket, struct oss_key *out, unsigned *bad)
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

/* Its first line that says something begins a section. */
static bool is_ini(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        const char *eol = memchr(text + i, '\n', n - i);
        size_t end = eol ? (size_t)(eol - text) : n;

        while (i < end && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r'))
            i++;
        if (i < end && text[i] != '#' && text[i] != ';')
            return text[i] == '[';
        i = end + 1;
    }
    return false;
}

static int file_text(const char *path, const char *text, size_t n, const char *bucket, struct oss_key *out,
                     struct cred_profile *profile, struct oss_error *err)
{
    struct cred_profile ignored = {0};
    unsigned line;
    int r;

    if (is_ini(text, n)) {
        r = cred_ini_text(text, n, bucket, out, profile ? profile : &ignored, &line);
        cred_profile_free(&ignored);
        if (r == -EINVAL && line)
            return error_set(err, r, "%s: line %u is neither [section] nor name=value", path, line);
        if (r == -EINVAL)
            return error_set(err, r, "%s: accessKeyID, accessKeySecret or stsToken is malformed", path);
        if (r == -ENOENT)
            return error_set(err, r, "%s has no accessKeyID and accessKeySecret in [Credentials]", path);
    } else {
        r = cred_passwd_text(text, n, bucket, out, &line);
        if (r == -EINVAL)
            return error_set(err, r, "%s: line %u is not [bucket:]id:secret", path, line);
        if (r == -ENOENT)
            return error_set(err, r, "%s has no line for bucket %s: add id:secret or %s:id:secret", path, bucket,
                             bucket);
    }
    return r < 0 ? error_set(err, r, "out of memory") : 0;
}

int cred_file_read(const char *path, const char *bucket, struct oss_key *out, struct cred_profile *profile,
                   struct cred_stamp *stamp, struct oss_error *err)
{
    struct stat st;
    char *text = NULL;
    size_t size = 0;
    ssize_t n;
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
    r = file_text(path, text, (size_t)n, bucket, out, profile, err);
out:
    if (text) {
        explicit_bzero(text, size);
        free(text);
    }
    close(fd);
    return r;
}

int cred_environment(struct oss_key *out, struct oss_error *err)
{
    const char *id = getenv("OSS_ACCESS_KEY_ID");
    const char *secret = getenv("OSS_ACCESS_KEY_SECRET");
    const char *token = getenv("OSS_SESSION_TOKEN");

    if (!id || !*id || !secret || !*secret)
        return 0;
    out->token[0] = '\0';
    if (!cred_field(out->id, sizeof(out->id), id, strlen(id)))
        return error_set(err, -EINVAL, "OSS_ACCESS_KEY_ID is not an access key id: check for blanks, " WHERE_TO_GET);
    if (!cred_field(out->secret, sizeof(out->secret), secret, strlen(secret)))
        return error_set(err, -EINVAL, "OSS_ACCESS_KEY_SECRET is not a secret: check for blanks, " WHERE_TO_GET);
    if (token && *token && !cred_field(out->token, sizeof(out->token), token, strlen(token)))
        return error_set(err, -EINVAL, "OSS_SESSION_TOKEN is too long or holds blanks");
    return 1;
}
