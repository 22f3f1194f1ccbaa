/*
 * render.h: the status of one mount as a screen, one line, JSON or Prometheus text. Pure.
 */
#ifndef FS_RENDER_H
#define FS_RENDER_H

#include "../cache/status.h"
#include "../oss/base_buf.h"
#include "../oss/oss.h"

#include <stdbool.h>
#include <sys/types.h>

struct render {
    const char *source, *mountpoint, *state_dir;
    pid_t pid;
    time_t now, started;
    bool read_only;
    size_t inodes, max_inodes;
    const struct cache_status *cache;
    const struct oss_op_stats *ops; /* OSS_OPS of them */
};

/* Several lines, none wider than `columns` as far as names can be cut. */
void render_screen(struct buf *out, const struct render *r, unsigned columns);

/* What is on its way, in one line of at most `columns`, without its end: for a command that waits. */
void render_line(struct buf *out, const struct render *r, unsigned columns);

/* One object in one line. */
void render_json(struct buf *out, const struct render *r);

/* The text format 0.0.4 of Prometheus. */
void render_metrics(struct buf *out, const struct render *r);

#endif
