#include "state_dir.h"

#include "../oss/base_time.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock"
#define POLL_MS   50

struct state_dir {
    char *path;
    int lock_fd;
};

/* -------------------------------------------------------------------------------------------------- names */

int state_dir_default_base(char *out, size_t size, uid_t uid)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    const struct passwd *pw;
    int n;

    if (uid == 0) {
        n = snprintf(out, size, "/var/lib/ossmount");
    } else if (xdg && *xdg == '/') {
        n = snprintf(out, size, "%s/ossmount", xdg);
    } else {
        if (!home || *home != '/') {
            pw = getpwuid(uid);
            home = pw ? pw->pw_dir : NULL;
        }
        if (!home || *home != '/')
            return -ENOENT;
        n = snprintf(out, size, "%s/.local/state/ossmount", home);
    }
    return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* FNV-1a; the strings are told apart by their ends. */
static uint64_t hash(uint64_t h, const char *text, size_t n)
{
    for (size_t i = 0; i <= n; i++) {
        h ^= i < n ? (unsigned char)text[i] : 0xff;
        h *= UINT64_C(0x100000001b3);
    }
    return h;
}

/* Copies what is harmless in a file name, the rest as '_'. */
static size_t add_readable(char *out, size_t at, size_t end, const char *text)
{
    for (; *text && at < end; text++)
        out[at++] = isalnum((unsigned char)*text) || strchr(".-", *text) ? *text : '_';
    return at;
}

void state_dir_name(char out[STATE_DIR_NAME_SIZE], const char *endpoint, const char *bucket, const char *prefix)
{
    const char *scheme = strstr(endpoint, "://");
    char host[256];
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t n = 0, at;

    for (const char *s = scheme ? scheme + 3 : endpoint; *s && *s != '/' && n + 1 < sizeof(host); s++)
        host[n++] = (char)tolower((unsigned char)*s);
    host[n] = '\0';
    h = hash(h, host, n);
    h = hash(h, bucket, strlen(bucket));
    h = hash(h, prefix, strlen(prefix));

    /* A leading '.' would hide the directory, "..": worse. Bucket names begin with a letter or digit. */
    at = *bucket == '.' ? (size_t)(out[0] = '_', 1) : 0;
    at = add_readable(out, at, 64, bucket);
    if (*prefix) {
        out[at++] = '-';
        at = add_readable(out, at, 96, prefix);
        while (at > 0 && out[at - 1] == '_')
            at--;
    }
    out[at++] = '@';
    at = add_readable(out, at, STATE_DIR_NAME_SIZE - 18, host);
    snprintf(out + at, STATE_DIR_NAME_SIZE - at, "-%016llx", (unsigned long long)h);
}

/* --------------------------------------------------------------------------------------------- directories */

/* mkdir -p, mode 0700 for what is new. */
static int make_path(const char *path)
{
    char copy[PATH_MAX];

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return -ENAMETOOLONG;
    for (char *s = copy + 1;; s++) {
        char c = *s;

        if (c != '/' && c != '\0')
            continue;
        *s = '\0';
        if (mkdir(copy, 0700) < 0 && errno != EEXIST) {
            struct stat st;
            int e = errno;

            /* On a read-only or foreign parent mkdir may say EROFS or EACCES although the directory is there. */
            if (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode))
                return -e;
        }
        *s = c;
        if (!c)
            return 0;
    }
}

/* The directory that holds those of all mounts. Someone else's, or one in which others may swap names, is refused. */
static int open_base(const char *base, struct message *message)
{
    struct stat st;
    int r = make_path(base), fd;

    if (r < 0)
        return message_set(message, r, "cannot make the state directory %s: %s (cache_dir= chooses another)", base,
                           strerror(-r));
    fd = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        if (r == -ELOOP || r == -ENOTDIR)
            return message_set(message, r,
                               "the state directory %s is not a directory, or a symbolic link: give cache_dir=DIR",
                               base);
        return message_set(message, r, "cannot open the state directory %s: %s", base, strerror(-r));
    }
    if ((st.st_uid != geteuid() && st.st_uid != 0) || ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))) {
        close(fd);
        return message_set(
            message, -EACCES,
            "the state directory %s belongs to someone else, or others may write to it: chown or chmod 700, "
            "or give cache_dir=DIR",
            base);
    }
    return fd;
}

/* The directory of this mount. */
static int open_own(int base_fd, const char *path, const char *name, struct message *message)
{
    struct stat st;
    int fd, r;

    if (mkdirat(base_fd, name, 0700) < 0 && errno != EEXIST)
        return message_set(message, -errno, "cannot make %s: %s", path, strerror(errno));
    fd = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return message_set(message, -errno, "%s: %s (it must be a directory, not a symbolic link)", path,
                           strerror(errno));
    if (fstat(fd, &st) < 0)
        r = message_set(message, -errno, "%s: %s", path, strerror(errno));
    else if (st.st_uid != geteuid())
        r = message_set(message, -EACCES,
                        "%s belongs to another user (uid %u): mount as that user, or give cache_dir=DIR", path,
                        (unsigned)st.st_uid);
    else if ((st.st_mode & 077) && fchmod(fd, 0700) < 0)
        r = message_set(message, -errno, "%s is open to others, and chmod 700 fails: %s", path, strerror(errno));
    else
        return fd;
    close(fd);
    return r;
}

/* ---------------------------------------------------------------------------------------------------- lock */

static void read_pid(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);

    out[n > 0 ? n : 0] = '\0';
    out[strspn(out, "0123456789")] = '\0';
}

static int write_pid(int fd)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) < 0)
        return -errno;
    return pwrite(fd, text, (size_t)n, 0) == n ? 0 : -EIO;
}

/* One try: the locked descriptor; -EAGAIN held by another, whose pid is then in `pid`; another negative errno. */
static int try_lock(int dir_fd, char *pid, size_t size)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    int fd = openat(dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    int r = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        r = -errno;
    else if (!S_ISREG(st.st_mode))
        r = -EINVAL;
    else if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        r = errno == EACCES ? -EAGAIN : -errno;
    else if (fstat(fd, &st) < 0 || st.st_nlink == 0)
        r = -EAGAIN; /* deleted meanwhile: this lock is nobody's */
    if (r == -EAGAIN)
        read_pid(fd, pid, size);
    if (r == 0)
        r = write_pid(fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

static int take_lock(int dir_fd, const char *path, int64_t wait_ms, struct message *message)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    int64_t end = clock_ms() + wait_ms;
    char pid[24] = "";
    int fd;

    while ((fd = try_lock(dir_fd, pid, sizeof(pid))) == -EAGAIN && clock_ms() < end)
        nanosleep(&pause, NULL);
    if (fd == -EAGAIN)
        return message_set(
            message, -EBUSY,
            "this bucket and prefix is in use by process %s: it is mounted already, or that process is still "
            "sending what an earlier mount left; unmount there, or wait for its end",
            *pid ? pid : "(unknown)");
    if (fd < 0)
        return message_set(message, fd, "cannot lock %s/" LOCK_NAME ": %s", path, strerror(-fd));
    return fd;
}

int state_dir_open(struct state_dir **out, const struct state_dir_config *config, struct message *message)
{
    char base[PATH_MAX], name[STATE_DIR_NAME_SIZE];
    struct state_dir *dir = calloc(1, sizeof(*dir));
    int base_fd = -1, fd = -1, r;

    *out = NULL;
    if (!dir)
        return message_set(message, -ENOMEM, "out of memory");
    dir->lock_fd = -1;
    r = config->base ? (snprintf(base, sizeof(base), "%s", config->base) < (int)sizeof(base) ? 0 : -ENAMETOOLONG)
                     : state_dir_default_base(base, sizeof(base), geteuid());
    if (r < 0) {
        message_set(message, r, "no place for the state directory (%s): give cache_dir=DIR", strerror(-r));
        goto out;
    }
    state_dir_name(name, config->endpoint, config->bucket, config->prefix);
    if (asprintf(&dir->path, "%s/%s", base, name) < 0) {
        dir->path = NULL;
        r = message_set(message, -ENOMEM, "out of memory");
        goto out;
    }
    r = base_fd = open_base(base, message);
    if (r >= 0)
        r = fd = open_own(base_fd, dir->path, name, message);
    if (r >= 0)
        r = dir->lock_fd = take_lock(fd, dir->path, config->wait_ms, message);
out:
    if (base_fd >= 0)
        close(base_fd);
    if (fd >= 0)
        close(fd);
    if (r < 0) {
        state_dir_close(dir);
        return r;
    }
    *out = dir;
    return 0;
}

const char *state_dir_path(const struct state_dir *dir)
{
    return dir->path;
}

void state_dir_close(struct state_dir *dir)
{
    if (!dir)
        return;
    if (dir->lock_fd >= 0)
        close(dir->lock_fd);
    free(dir->path);
    free(dir);
}
