/* The file system as a whole: made, connected to the kernel, drained, freed. */
#include "fs_internal.h"
#include "mountpoint.h"

#include "../cache/headers.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CACHE_DEFAULT_MAX (10ULL << 30)

/*
 * Of the kernel for one reader, and so the size of its requests. Four times its default take a third off the cost of
 * a read (measured).
 */
#define READ_AHEAD_KB (MOUNTPOINT_MAX_READ >> 10)

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_EXPORT_SUPPORT);
    conn->want |= conn->capable &
                  (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_AUTO_INVAL_DATA |
                   FUSE_CAP_ASYNC_READ | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_WRITE);
    conn->max_write = REQUEST_MAX;
    conn->max_read = MOUNTPOINT_MAX_READ;
    conn->max_readahead = REQUEST_MAX;
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    conn->time_gran = 1;
}

const struct fuse_lowlevel_ops *fs_ops(void)
{
    static const struct fuse_lowlevel_ops ops = {
        .init = op_init,
        .lookup = op_lookup,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .getattr = op_getattr,
        .setattr = op_setattr,
        .statfs = op_statfs,
        .opendir = op_opendir,
        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
        .releasedir = op_releasedir,
        .fsyncdir = op_fsyncdir,
        .mkdir = op_mkdir,
        .rmdir = op_rmdir,
        .mknod = op_mknod,
        .create = op_create,
        .open = op_open,
        .read = op_read,
        .write = op_write,
        .flush = op_flush,
        .fsync = op_fsync,
        .release = op_release,
        .fallocate = op_fallocate,
        .lseek = op_lseek,
        .copy_file_range = op_copy_file_range,
        .unlink = op_unlink,
        .rename = op_rename,
        .symlink = op_symlink,
        .readlink = op_readlink,
        .link = op_link,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .setxattr = op_setxattr,
        .removexattr = op_removexattr,
    };

    return &ops;
}

static uint64_t cache_size(const struct options *options, const char *state_dir)
{
    struct statvfs fs;
    uint64_t tenth = CACHE_DEFAULT_MAX;

    if (options->cache_size > 0)
        return (uint64_t)options->cache_size;
    if (!statvfs(state_dir, &fs))
        tenth = (uint64_t)fs.f_blocks * fs.f_frsize / 10;
    return tenth < CACHE_DEFAULT_MAX ? tenth : CACHE_DEFAULT_MAX;
}

static void fill_config(struct fs *fs, const struct fs_config *config, struct cache_config *out)
{
    const struct options *o = config->options;

    fs->defaults = (struct attr_defaults){
        .uid = o->uid_given ? (uint32_t)o->uid : getuid(),
        .gid = o->gid_given ? (uint32_t)o->gid : getgid(),
        .file_mode = 0666 & ~(uint32_t)o->umask,
        .dir_mode = 0777 & ~(uint32_t)o->umask,
    };
    *out = (struct cache_config){
        .oss = config->oss,
        .state_dir = config->state_dir,
        .prefix = config->prefix,
        .defaults = fs->defaults,
        .limits = plan_limits_default,
        .parallel_count = (unsigned)o->parallel_count,
        .stat_ttl_ms = o->stat_cache_expire,
        .cache_size = cache_size(o, config->state_dir),
        .save_fetch = 64u << 20,
        .free_percent = (unsigned)o->free_space,
        .append_flush_ms = o->append_flush,
        .listing_attributes = strcmp(o->attributes, "listing") == 0,
        /* Without a key it can be neither read nor set. */
        .keep_acl = o->keep_acl && !o->public_bucket,
        .background = strcmp(o->upload, "background") == 0,
        .upload_delay_ms = o->upload_delay,
        .defer_temp = o->defer_temp,
        .headers = fs->headers,
        .callback_errors = o->callback_errors,
    };
    out->limits.multipart_threshold = (uint64_t)o->multipart_threshold;
    out->limits.part_size = (uint64_t)o->multipart_size;
}

/* GetBucketInfo: wrong names and keys show here; who may not ask for it may still use the bucket. */
static int check_bucket(struct oss *oss, struct oss_error *err)
{
    struct oss_bucket_info info = {0};
    int r = oss->ops->bucket_info(oss, &info, err);

    if (!r && info.hierarchical)
        log_warn("bucket %s has a hierarchical namespace; it is used like a flat one", oss_bucket(oss));
    return r == -EACCES && !strcmp(err->code, "AccessDenied") ? 0 : r;
}

int fs_new(struct fs **out, const struct fs_config *config, struct oss_error *err)
{
    struct fs *fs = calloc(1, sizeof(*fs));
    struct cache_config cache_config;
    int r = -ENOMEM;

    memset(err, 0, sizeof(*err));
    if (!fs)
        goto out;
    pthread_mutex_init(&fs->mu, NULL);
    list_init(&fs->files);
    list_init(&fs->dirs);
    fs->oss = config->oss;
    fs->options = config->options;
    fs->ttl_ms = config->options->stat_cache_expire;
    r = header_options(config->options, &fs->headers, err);
    if (r)
        goto out;
    fill_config(fs, config, &cache_config);
    fs->root_attr = (struct attr){
        .mode = S_IFDIR | fs->defaults.dir_mode,
        .uid = fs->defaults.uid,
        .gid = fs->defaults.gid,
    };
    clock_gettime(CLOCK_REALTIME, &fs->root_attr.mtime);
    fs->root_attr.ctime = fs->root_attr.mtime;
    if (config->options->public_bucket && config->options->keep_acl && !config->options->read_only)
        log_info("without an access key the ACL of an object that is changed becomes that of the bucket");
    /* Whoever comes without a key may not ask. */
    r = config->options->public_bucket ? 0 : check_bucket(config->oss, err);
    if (r)
        goto out;
    r = cache_new(&fs->cache, &cache_config);
    if (!r)
        r = cache_probe(fs->cache, err);
    if (r)
        goto out;
    fs->inodes = inodes_new(config->prefix);
    fs->shed = fs->inodes ? shed_new(fs->inodes, (size_t)config->options->max_inodes) : NULL;
    fs->calls = calls_new();
    r = fs->shed && fs->calls ? cache_recover(fs->cache) : -ENOMEM;
out:
    if (r && !err->err) {
        err->err = r;
        if (!*err->message)
            strncpy(err->message, strerror(-r), sizeof(err->message) - 1);
    }
    if (r) {
        fs_free(fs);
        return r;
    }
    *out = fs;
    return 0;
}

void fs_set_session(struct fs *fs, struct fuse_session *session, const char *mountpoint)
{
    int r = shed_start(fs->shed, session, mountpoint);

    if (r)
        log_warn("no thread: max_inodes is not kept: %s", strerror(-r));
}

bool fs_leave(struct fs *fs)
{
    bool left = shed_leave(fs->shed);

    if (!left)
        calls_give_up(fs->calls);
    return left;
}

void fs_left(struct fs *fs)
{
    shed_end(fs->shed);
}

size_t fs_inodes(struct fs *fs)
{
    return inodes_count(fs->inodes);
}

int device_of(const char *path, dev_t *device)
{
    struct statx found;

    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &found) < 0)
        return -errno;
    *device = makedev(found.stx_dev_major, found.stx_dev_minor);
    return 0;
}

/*
 * Before the kernel's first request is answered: from then on the value is the smaller one of this and max_readahead.
 * Only root may, and somebody may have set more. Without it reading costs more.
 */
static void read_ahead_raise(dev_t device)
{
    char path[80];
    unsigned now;
    FILE *f;

    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));
    f = fopen(path, "r+e");
    if (f && fscanf(f, "%u", &now) == 1 && now < READ_AHEAD_KB) {
        rewind(f);
        fprintf(f, "%u\n", READ_AHEAD_KB);
    }
    if (!f || fclose(f))
        log_debug("%s: %s", path, strerror(errno));
}

void fs_mounted(struct fs *fs, const char *mountpoint)
{
    int r = device_of(mountpoint, &fs->device);

    if (r < 0)
        log_info("the device of %s: %s", mountpoint, strerror(-r));
    else
        read_ahead_raise(fs->device);
}

struct cache *fs_cache(struct fs *fs)
{
    return fs->cache;
}

void fs_drain(struct fs *fs)
{
    /* First what is on its way, with the callbacks that may still open or end a handle; then the handles. */
    cache_drain(fs->cache);
    files_end(fs);
    dirs_end(fs);
    cache_drain(fs->cache);
}

void fs_free(struct fs *fs)
{
    if (!fs)
        return;
    cache_free(fs->cache); /* its last callbacks still answer calls */
    headers_free(fs->headers);
    calls_free(fs->calls);
    shed_free(fs->shed);
    inodes_free(fs->inodes);
    pthread_mutex_destroy(&fs->mu);
    free(fs);
}
