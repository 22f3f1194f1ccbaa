/* What is not to be shed; see shed.h. */
#include "shed.h"

#include "mountinfo.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void pin(struct inodes *inodes, struct inode *inode, struct shed_pins *pins)
{
    struct inode **v = inode ? realloc(pins->v, (pins->n + 1) * sizeof(struct inode *)) : NULL;

    if (v) {
        pins->v = v;
        v[pins->n++] = inode;
        inode_opened(inodes, inode, NULL);
    }
    inode_put(inodes, inode);
}

/* ------------------------------------------------------------------------------------- what is mounted on */

static const struct mount *mount_by_id(const struct mounts *mounts, int id)
{
    for (size_t i = 0; i < mounts->n; i++)
        if (mounts->v[i].id == id)
            return &mounts->v[i];
    return NULL;
}

/* The inode at a path below `at` (referenced, taken over), as far as it is known; NULL. `path` is written to. */
static struct inode *walk(struct inodes *inodes, struct inode *at, char *path)
{
    char *name;

    while (at && (name = strsep(&path, "/"))) {
        struct inode *next;

        if (!*name)
            continue;
        next = inode_find(inodes, at, name);
        inode_put(inodes, at);
        at = next;
    }
    return at;
}

/* `on` is a mount of ours, and `m` lies somewhere on it. */
static void pin_covered(struct inodes *inodes, const struct mount *on, const struct mount *m, struct shed_pins *pins)
{
    size_t skip = strcmp(on->path, "/") ? strlen(on->path) : 0;
    char *path = NULL;

    /* `on` may be a part of the file system that was bound elsewhere: its root is not ours. */
    if (strlen(m->path) > skip && asprintf(&path, "%s/%s", on->root, m->path + skip) >= 0)
        pin(inodes, walk(inodes, inode_get(inodes, INODE_ROOT), path), pins);
    free(path);
}

static void pin_mounts(struct inodes *inodes, const struct mounts *mounts, const char *device, struct shed_pins *pins)
{
    for (size_t i = 0; i < mounts->n; i++) {
        const struct mount *m = &mounts->v[i], *on = mount_by_id(mounts, m->parent);

        if (on && !strcmp(on->device, device))
            pin_covered(inodes, on, m, pins);
    }
}

/* ------------------------------------------------------------------------------------- working directories */

/* From what the kernel knows of them without asking us: a question to ourselves could wait for ever. */
static void pin_directories(struct inodes *inodes, const char *device, struct shed_pins *pins)
{
    DIR *proc = opendir("/proc");
    struct dirent *e;

    while (proc && (e = readdir(proc))) {
        struct statx st;
        char path[300], on[24];

        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof(path), "/proc/%s/cwd", e->d_name);
        if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &st))
            continue;
        snprintf(on, sizeof(on), "%u:%u", st.stx_dev_major, st.stx_dev_minor);
        if (!strcmp(on, device))
            pin(inodes, inode_get(inodes, st.stx_ino), pins);
    }
    if (proc)
        closedir(proc);
}

void shed_pin(struct inodes *inodes, const char *mountpoint, struct shed_pins *out)
{
    const struct mount *ours;
    struct mounts mounts;

    *out = (struct shed_pins){0};
    if (mounts_load(NULL, &mounts))
        return;
    ours = mounts_at(&mounts, mountpoint);
    if (ours) {
        pin_mounts(inodes, &mounts, ours->device, out);
        pin_directories(inodes, ours->device, out);
    }
    mounts_free(&mounts);
}

void shed_unpin(struct inodes *inodes, struct shed_pins *pins)
{
    for (size_t i = 0; i < pins->n; i++)
        inode_closed(inodes, pins->v[i]);
    free(pins->v);
    *pins = (struct shed_pins){0};
}
