/*
 * runtime.h: where the sockets of running mounts lie, and how a mount's socket is found from its mountpoint.
 *
 * The directory depends on the user alone, not on the environment, so that a daemon started by systemd and a command
 * typed in a shell agree: /run/ossmount for root, else /run/user/UID/ossmount, else /tmp/ossmount-UID. It is ours and
 * 0700, or it is not used.
 */
#ifndef FS_RUNTIME_H
#define FS_RUNTIME_H

#include "mountinfo.h"

#include <stdbool.h>
#include <sys/types.h>

#define RUNTIME_NAME_SIZE 64

/* A descriptor of the directory, made when `make`. A negative errno: none, or not to be trusted. */
int runtime_open(uid_t uid, bool make);

/* A connection to the daemon of a mount: the descriptor; -ENOENT when nobody answers there. */
int runtime_connect(const struct mount *mount);

/* A listening socket "DEVICE.PID" in the directory, 0600; what dead daemons left there goes. */
int runtime_listen(int dir, const char *device, char name[RUNTIME_NAME_SIZE]);

/* A path for sockaddr_un of `name` in the directory, whatever the length of its own path. */
void runtime_socket_path(int dir, const char *name, char out[100]);

#endif
