/* Attributes <-> struct stat. */
#include "fs_internal.h"

#include <string.h>

#define BLOCK_SIZE (1 << 20) /* what programs should read and write at once: one FUSE request */

void attr_to_stat(const struct attr *attr, uint64_t ino, bool detached, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = ino;
    st->st_mode = attr->mode;
    st->st_nlink = !detached; /* 1 for a directory too: its sub-directories are not counted */
    st->st_uid = attr->uid;
    st->st_gid = attr->gid;
    st->st_size = (off_t)attr->size;
    st->st_blocks = (blkcnt_t)((attr->size + 511) / 512);
    st->st_blksize = BLOCK_SIZE;
    st->st_mtim = st->st_atim = attr->mtime;
    st->st_ctim = attr->ctime;
}

static void take_group(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    struct attr *out = arg;

    (void)ttl_ms;
    if (r || !(info->attr.mode & S_ISGID))
        return;
    out->gid = info->attr.gid;
    if (S_ISDIR(out->mode))
        out->mode |= S_ISGID;
}

void attr_of_new(struct fs *fs, const struct fuse_ctx *by, struct inode *parent, mode_t mode, struct attr *out)
{
    char dir[OSS_KEY_MAX + 2], name[256];

    *out = (struct attr){.mode = mode, .uid = by->uid, .gid = by->gid};
    clock_gettime(CLOCK_REALTIME, &out->mtime);
    out->ctime = out->mtime;
    /* The kernel has just walked through the parent, so its attributes are known. */
    if (parent->ino == INODE_ROOT) {
        pthread_mutex_lock(&fs->mu);
        struct oinfo root = {.attr = fs->root_attr};

        pthread_mutex_unlock(&fs->mu);
        take_group(out, 0, &root, 0);
    } else if (!inode_place(fs->inodes, parent, dir, name)) {
        cache_lookup_known(fs->cache, dir, name, take_group, out);
    }
}
