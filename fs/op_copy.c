/* copy_file_range. */
#include "fs_internal.h"

#include <errno.h>

static void copied(void *arg, int r)
{
    struct call *call = arg;

    /* No room: told so the kernel reads and writes instead, and a write waits for some. */
    if (r < 0)
        call_reply_err(call, r == -ENOSPC ? -EXDEV : r);
    else
        call_reply_written(call, (size_t)r);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
                        fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
    struct fs *fs = fs_of(req);
    struct file *from = file_get(fi_in), *to = file_get(fi_out);
    struct call *call = call_new(fs, req);

    (void)ino_in;
    (void)ino_out;
    (void)flags; /* none are known */
    to->wrote = true;
    if (call)
        cache_copy(from->cf, (uint64_t)off_in, to->cf, (uint64_t)off_out, len, copied, call);
    file_put(fs, from);
    file_put(fs, to);
}
