#include "mountpoint.h"

#include "mountinfo.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------- removal */

static int run_fusermount(const char *path, bool lazy)
{
    static const char *const names[] = {"fusermount3", "fusermount"};
    char flags[] = "-uqz";
    char *copy = strdup(path);
    int r = copy ? -ENOENT : -ENOMEM;

    if (!lazy)
        flags[3] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && r == -ENOENT; i++) {
        char name[16], end[] = "--";
        char *argv[] = {name, flags, end, copy, NULL};
        int status;
        pid_t pid;

        snprintf(name, sizeof(name), "%s", names[i]);
        r = -posix_spawnp(&pid, name, NULL, NULL, argv, environ);
        if (r < 0)
            continue;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        r = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
    }
    free(copy);
    return r;
}

int mountpoint_remove(const char *path, bool lazy)
{
    if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    if (errno != EPERM)
        return -errno;
    return run_fusermount(path, lazy);
}

/* ----------------------------------------------------------------------------------------------- preparing */

/*
 * realpath() looks at the last component too, which is exactly what a dead mount does not allow; so only its
 * parent is resolved then.
 */
static char *resolve(const char *given)
{
    char *whole = realpath(given, NULL), *copy, *slash, *parent, *out = NULL;
    int e;

    if (whole || (errno != ENOTCONN && errno != ECONNABORTED))
        return whole;
    e = errno;
    copy = strdup(given);
    if (!copy)
        return NULL;
    while (strlen(copy) > 1 && copy[strlen(copy) - 1] == '/')
        copy[strlen(copy) - 1] = '\0';
    slash = strrchr(copy, '/');
    if (slash)
        *slash = '\0';
    parent = realpath(!slash ? "." : *copy ? copy : "/", NULL);
    if (parent && asprintf(&out, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, slash ? slash + 1 : copy) < 0)
        out = NULL;
    free(parent);
    free(copy);
    if (!out)
        errno = e;
    return out;
}

static bool is_empty(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *e;
    unsigned n = 0;

    if (!d)
        return true;
    while (n < 3 && (e = readdir(d)))
        n++;
    closedir(d);
    return n < 3;
}

/* Is the topmost mount there of ours? */
static bool is_ours(const char *path)
{
    struct mounts all;
    const struct mount *m;
    bool ours;

    if (mounts_load(NULL, &all))
        return false;
    m = mounts_at(&all, path);
    ours = m && strcmp(m->type, MOUNT_TYPE_OURS) == 0;
    mounts_free(&all);
    return ours;
}

/* Takes dead mounts of ours away, however many lie on each other. 0 when stat() works afterwards. */
static int revive(const char *path, struct stat *st, struct message *message)
{
    struct statfs alive;

    for (int i = 0; i < 16; i++) {
        int r;

        /* A stat alone may be answered from what the kernel remembers of a dead mount; this never is. */
        if (statfs(path, &alive) == 0 && stat(path, st) == 0)
            return 0;
        if (errno != ENOTCONN && errno != ECONNABORTED)
            return message_set(message, -errno, "mountpoint %s: %s", path, strerror(errno));
        if (!is_ours(path))
            return message_set(message, -ENOTCONN,
                               "mountpoint %s lies below a dead mount that is not of ossmount: unmount it", path);
        r = mountpoint_remove(path, true);
        if (r < 0)
            return message_set(message, -ENOTCONN,
                               "mountpoint %s is a dead mount and cannot be removed (%s): umount -l %s", path,
                               strerror(-r), path);
    }
    return message_set(message, -ENOTCONN, "mountpoint %s is a dead mount: umount -l %s", path, path);
}

int mountpoint_prepare(const char *given, char **path, bool *warning, struct message *message)
{
    struct stat st;
    int r;

    *warning = false;
    *path = resolve(given);
    if (!*path) {
        if (errno == ENOENT)
            return message_set(message, -ENOENT, "mountpoint %s does not exist: mkdir -p %s", given, given);
        return message_set(message, -errno, "mountpoint %s: %s", given, strerror(errno));
    }
    r = revive(*path, &st, message);
    if (r == 0 && !S_ISDIR(st.st_mode))
        r = message_set(message, -ENOTDIR, "mountpoint %s is not a directory", *path);
    if (r == 0 && is_ours(*path))
        r = message_set(message, -EBUSY, "a bucket is mounted on %s already: fusermount3 -u %s first", *path, *path);
    if (r < 0) {
        free(*path);
        *path = NULL;
        return r;
    }
    *warning = !is_empty(*path);
    return 0;
}

/* ------------------------------------------------------------------------------------------------- options */

char *mountpoint_fuse_options(const struct options *o)
{
    char *source, *out = NULL, *to;

    /* libfuse takes "\," for a comma and "\\" for a backslash; mount tables must show what was typed. */
    source = malloc(2 * strlen(o->source) + 1);
    if (!source)
        return NULL;
    to = source;
    for (const char *s = o->source; *s; s++) {
        if (*s == ',' || *s == '\\')
            *to++ = '\\';
        *to++ = *s;
    }
    *to = '\0';
    if (asprintf(&out, "fsname=%s,subtype=ossmount,default_permissions,max_read=%u,%s%s%s%s", source,
                 MOUNTPOINT_MAX_READ, o->read_only ? "ro" : "rw", o->allow_other ? ",allow_other" : "",
                 *o->kernel ? "," : "", o->kernel) < 0)
        out = NULL;
    free(source);
    return out;
}
