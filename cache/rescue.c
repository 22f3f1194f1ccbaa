/*
 * What was never closed is kept aside for the user, whole: the parts of it that had left the disk for hidden objects
 * (stream.h) are fetched from there before these are deleted. The daemon may die meanwhile: the journal and the
 * registry of hidden.h stay until the file is in aside/, and the next mount begins anew. What the service has lost is
 * named in the log, and the rest is kept without it.
 */
#include "hidden.h"
#include "journal.h"

#include "../oss/base_log.h"
#include "../oss/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rescue {
    struct job job;
    struct cache *cache;
    char number[32];
    const char *why;
    struct journal_state s;
};

struct fill {
    int fd;
    uint64_t from, n; /* in the object: the beginning, and how much has come */
    uint64_t to;      /* in the file */
};

static int fill_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct fill *fill = arg;
    int r = offset == fill->from + fill->n ? pwrite_all(fill->fd, data, n, fill->to + fill->n) : -EIO;

    fill->n += r ? 0 : n;
    return r;
}

static int fetch(struct rescue *q, int fd, const struct share *share, struct oss_error *err)
{
    struct oss *oss = q->cache->oss;
    uint64_t length = share->end - share->start;
    struct fill fill = {.fd = fd, .from = share->base_offset, .to = share->start};
    const struct oss_sink sink = {.write = fill_write, .arg = &fill};
    int r;

    if (length == 0)
        return 0;
    r = evict_for_rescue(q->cache, length);
    if (r)
        return error_set(err, r, "no room for %llu bytes on the disk", (unsigned long long)length);
    r = oss->ops->get(oss, share->key, share->base_offset, length, share->info->etag, &sink, NULL, err);
    if (!r && fill.n != length)
        r = error_set(err, -EIO, "%llu bytes came of %llu", (unsigned long long)fill.n, (unsigned long long)length);
    return r;
}

static void rescue_run(struct job *job)
{
    struct rescue *q = list_entry(job, struct rescue, job);
    struct cache *cache = q->cache;
    struct oss_error err = {.next_position = -1};
    char path[4096];
    int fd = -1, r = 0;

    if (snprintf(path, sizeof(path), "%s/data/%s", cache->config.state_dir, q->number) < (int)sizeof(path))
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        r = error_set(&err, -EIO, "%s cannot be opened", path);
    for (size_t i = 0; !r && i < q->s.n_hidden; i++) {
        r = fetch(q, fd, &q->s.hidden[i], &err);
        if (r == -ENOENT || r == -ESTALE) {
            r = 0; /* the rest is kept all the same */
            log_err("%s: the bytes from %llu to %llu are lost: the service no longer has %s", q->s.key,
                    (unsigned long long)q->s.hidden[i].start, (unsigned long long)q->s.hidden[i].end,
                    q->s.hidden[i].key);
            q->why = "it was not sent, and the service has lost a part of it";
        }
    }
    if (fd >= 0 && close(fd) && !r)
        r = error_set(&err, -EIO, "%s cannot be written", path);
    if (r) {
        cache_log_error("fetching what was unsent and not on the disk", q->s.key, &err);
        log_err("unsent changes of %s stay in %s until a mount can fetch the rest", q->s.key, path);
    } else {
        recover_put_aside(cache, q->number, q->s.key, q->why);
        /* Several ranges may be of one object. */
        for (size_t i = 0; i < q->s.n_hidden; i++)
            hidden_remove(cache, q->s.hidden[i].key);
    }
    journal_state_free(&q->s);
    free(q);
    cache_busy(cache, -1);
}

int rescue(struct cache *cache, const char *number, struct journal_state *s, const char *why)
{
    struct rescue *q = calloc(1, sizeof(*q));

    if (!q)
        return -ENOMEM;
    snprintf(q->number, sizeof(q->number), "%s", number);
    q->job.run = rescue_run;
    q->cache = cache;
    q->why = why;
    q->s = *s;
    memset(s, 0, sizeof(*s));
    cache_busy(cache, 1);
    pool_submit(cache->pool, POOL_BULK, &q->job);
    return 0;
}
