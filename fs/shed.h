/*
 * shed.h: above `max_inodes` the kernel is asked to forget what it has looked up and nobody uses.
 *
 * The kernel keeps an inode until it is short of memory itself, and each costs us some 150 bytes and its name. It is
 * asked by FUSE_NOTIFY_INVAL_ENTRY, a name at a time, from one thread: the kernel takes the lock of the directory for
 * it, which may be held by an operation that waits for our answer. So this thread holds no lock of ours and nobody
 * waits for it; directories in which an operation is known to be on its way are left for later.
 *
 * What must not go although the kernel would let it go (shed_pins.c): what is mounted on (the kernel would take that
 * mount away), and directories that processes are in (their getcwd() would fail until the next lookup).
 */
#ifndef FS_SHED_H
#define FS_SHED_H

#include "inode.h"

struct shed;
struct fuse_session;

/* Sets the limit of `inodes` (borrowed); before any lookup. NULL when out of memory. */
struct shed *shed_new(struct inodes *inodes, size_t limit);

/* `mountpoint` as the kernel tells it, borrowed like `session`. 0 or a negative errno; then nothing is ever shed. */
int shed_start(struct shed *shed, struct fuse_session *session, const char *mountpoint);

/*
 * No name is begun any more: true when the kernel is through with the last one too. Only then may the loop over the
 * kernel's requests end: the lock that the thread would wait for is held by one of them, and a process that waits so
 * can be neither killed nor ended. Quick; to be asked again.
 */
bool shed_leave(struct shed *shed);

/* Ends the thread. After the loop, and before the session is unmounted: its descriptor goes there. NULL is allowed.
 */
void shed_end(struct shed *shed);
void shed_free(struct shed *shed); /* NULL is allowed */

/* ------------------------------------------------------------------------------------------------ shed_pins.c */

/* Inodes that are held as if they were open, so that inode_pick() passes them over. */
struct shed_pins {
    struct inode **v;
    size_t n;
};

/*
 * Pins what is mounted on in the file system at `mountpoint`, and the working directories in it. Sends no request to
 * it. What cannot be seen is not pinned: mounts of other namespaces, processes of other users if we are not root.
 */
void shed_pin(struct inodes *inodes, const char *mountpoint, struct shed_pins *out);
void shed_unpin(struct inodes *inodes, struct shed_pins *pins);

#endif
