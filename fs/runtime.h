/*
 * runtime.h: where the sockets of running mounts lie, and how a mount's socket is found from its mountpoint.
 *
 * The directory depends on the user alone, not on the environment, so that a daemon started by systemd and a command
 * typed in a shell agree: /run/ossmount for root, else /run/user/UID/ossmount, else /tmp/ossmount-UID. It is ours and
 * 0700, or it is not used.
 */
#ifndef FS_RUNTIME_H
#define FS_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#define RUNTIME_NAME_SIZE 64

/* A descriptor of the directory, made when `make`. A negative errno: none, or not to be trusted. */
int runtime_open(uid_t uid, bool make);

/* A mount as the kernel tells it. */
struct runtime_mount {
    char *path;   /* the mountpoint */
    char *source; /* "bucket:/prefix" */
    char device[24];
    uid_t uid; /* who mounted it */
};
struct runtime_mounts {
    struct runtime_mount *v;
    size_t n;
};

/* All mounts of ours in a mountinfo file, in its order: a later one lies above. 0 or -ENOMEM. */
int runtime_read_mounts(FILE *mountinfo, struct runtime_mounts *out);
/* The same of this process; 0 or a negative errno. */
int runtime_mounts(struct runtime_mounts *out);
void runtime_mounts_free(struct runtime_mounts *mounts);

/* The mount on which `path` (absolute, without symbolic links) lies: the last one with the longest mountpoint. */
const struct runtime_mount *runtime_find(const struct runtime_mounts *mounts, const char *path);

/* A connection to the daemon of a mount: the descriptor; -ENOENT when nobody answers there. */
int runtime_connect(const struct runtime_mount *mount);

/* A listening socket "DEVICE.PID" in the directory, 0600; what dead daemons left there goes. */
int runtime_listen(int dir, const char *device, char name[RUNTIME_NAME_SIZE]);

/* A path for sockaddr_un of `name` in the directory, whatever the length of its own path. */
void runtime_socket_path(int dir, const char *name, char out[100]);

#endif
