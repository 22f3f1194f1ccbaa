#include "runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

/* --------------------------------------------------------------------------------------------- the directory */

/* `path` must be a directory of `uid` that nobody else can enter. */
static int open_trusted(const char *path, uid_t uid, bool make)
{
    struct stat st;
    int fd;

    if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || st.st_uid != uid || (st.st_mode & 077)) {
        close(fd);
        return -EACCES;
    }
    return fd;
}

int runtime_open(uid_t uid, bool make)
{
    char path[64];
    struct stat st;
    int fd;

    if (uid == 0) {
        snprintf(path, sizeof(path), "/run/ossmount");
        fd = open_trusted(path, uid, make);
        if (fd >= 0)
            return fd;
    } else {
        snprintf(path, sizeof(path), "/run/user/%lu", (unsigned long)uid);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid && !(st.st_mode & 022)) {
            snprintf(path, sizeof(path), "/run/user/%lu/ossmount", (unsigned long)uid);
            fd = open_trusted(path, uid, make);
            if (fd >= 0)
                return fd;
        }
    }
    snprintf(path, sizeof(path), "/tmp/ossmount-%lu", (unsigned long)uid);
    return open_trusted(path, uid, make);
}

void runtime_socket_path(int dir, const char *name, char out[100])
{
    snprintf(out, 100, "/proc/self/fd/%d/%s", dir, name);
}

/* --------------------------------------------------------------------------------------------- sockets */

static int socket_at(int dir, const char *name, struct sockaddr_un *address)
{
    char path[100];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    runtime_socket_path(dir, name, path);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
    return fd < 0 ? -errno : fd;
}

/* Only a daemon of the mount's own user (or root) may answer for it. */
static bool peer_is(int fd, uid_t uid)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && (peer.uid == uid || peer.uid == 0);
}

static int connect_to(int dir, const char *name, uid_t uid)
{
    struct sockaddr_un address;
    struct stat st;
    int fd, r = 0;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISSOCK(st.st_mode))
        return -ENOENT;
    fd = socket_at(dir, name, &address);
    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        r = -errno;
    else if (!peer_is(fd, uid))
        r = -EACCES;
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

int runtime_connect(const struct mount *mount)
{
    int place = runtime_open(mount->uid, false), fd = -ENOENT;
    size_t n = strlen(mount->device);
    struct dirent *e;
    DIR *dir;

    if (place < 0)
        return place;
    dir = fdopendir(place);
    while (dir && fd < 0 && (e = readdir(dir)))
        if (strncmp(e->d_name, mount->device, n) == 0 && e->d_name[n] == '.')
            fd = connect_to(dirfd(dir), e->d_name, mount->uid);
    if (dir)
        closedir(dir);
    else
        close(place);
    /* A socket that nobody listens at is left from a daemon that was killed. */
    return fd == -ECONNREFUSED ? -ENOENT : fd;
}

/* Nobody listens at it, and whoever made it is gone. */
static bool is_dead(int dir, const char *name, pid_t pid)
{
    struct sockaddr_un address;
    int fd = socket_at(dir, name, &address);
    bool dead = false;

    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        dead = false;
    else if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        dead = errno == ECONNREFUSED && kill(pid, 0) < 0 && errno == ESRCH;
    if (fd >= 0)
        close(fd);
    return dead;
}

/* Names of daemons that do not live any more. */
static void sweep(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        const char *dot = strrchr(e->d_name, '.');
        long pid = dot && dot > e->d_name ? strtol(dot + 1, NULL, 10) : 0;

        if (pid > 0 && is_dead(dir, e->d_name, (pid_t)pid))
            unlinkat(dir, e->d_name, 0);
    }
    if (d)
        closedir(d);
    else if (copy >= 0)
        close(copy);
}

int runtime_listen(int dir, const char *device, char name[RUNTIME_NAME_SIZE])
{
    struct sockaddr_un address;
    int fd, r = 0;

    sweep(dir);
    snprintf(name, RUNTIME_NAME_SIZE, "%s.%ld", device, (long)getpid());
    fd = socket_at(dir, name, &address);
    if (fd < 0)
        return fd;
    /* One of our own pid was left by a daemon that had it before. */
    unlinkat(dir, name, 0);
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        fchmodat(dir, name, 0600, 0) < 0 || listen(fd, BACKLOG) < 0)
        r = -errno;
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}
