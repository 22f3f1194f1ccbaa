/*
 * mountinfo.h: the table of mounts, /proc/PID/mountinfo of proc(5).
 *
 * Nothing of the bucket, and no question to the mounts themselves: one of them may be ours, or dead. Reading blocks
 * on proc only; tables are not shared between threads.
 */
#ifndef FS_MOUNTINFO_H
#define FS_MOUNTINFO_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* The type of our mounts, as the kernel tells it. */
#define MOUNT_TYPE_OURS "fuse.ossmount"

/* A line of the table. The texts are the mount's, without their escapes. */
struct mount {
    int id, parent;
    char *device; /* "MAJOR:MINOR" */
    char *root;   /* what of the file system is mounted: "/", or the directory that was bound elsewhere */
    char *path;   /* the mountpoint */
    char *type, *source;
    uid_t uid;  /* of a FUSE mount: who mounted it; else 0 */
    char *line; /* holds the texts */
};
struct mounts {
    struct mount *v;
    size_t n;
};

/* Those of a type (NULL: of any) in their order: a later one lies above. Lines that are none are passed over.
 * 0 or -ENOMEM, and then `out` is empty; release with mounts_free(). */
int mounts_read(FILE *mountinfo, const char *type, struct mounts *out);
/* The same of the table as this process sees it; 0 or a negative errno. */
int mounts_load(const char *type, struct mounts *out);
void mounts_free(struct mounts *mounts);

/* The topmost exactly at `path`, or NULL. It belongs to the table. */
const struct mount *mounts_at(const struct mounts *mounts, const char *path);
/* The one on which `path` (absolute, without symbolic links) lies: the last with the longest mountpoint; or NULL. */
const struct mount *mounts_over(const struct mounts *mounts, const char *path);

#endif
