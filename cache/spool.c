#include "spool.h"

#include "../oss/crc64.h"
#include "../oss/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int spool_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    struct spool *spool = arg;
    int r = offset == spool->offset + spool->n ? pwrite_all(spool->fd, data, n, spool->n) : -EIO;

    if (r)
        return r;
    spool->crc64 = crc64(spool->crc64, data, n);
    spool->n += n;
    return 0;
}

int spool_get(struct spool *spool, struct cache *cache, const char *key, const char *etag, uint64_t offset,
              uint64_t length, struct oss_error *err)
{
    const struct oss_sink sink = {.write = spool_write, .arg = spool};
    int r = evict_reserve(cache, length);

    if (!r) {
        spool->fd = open(cache->config.state_dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        r = spool->fd < 0 ? -errno : 0;
    }
    if (r)
        return error_set(err, r, "no room for %llu bytes in the cache", (unsigned long long)length);
    spool->offset = offset;
    r = length ? cache->oss->ops->get(cache->oss, key, offset, length, etag, &sink, NULL, err) : 0;
    if (!r && spool->n != length)
        r = error_set(err, -EIO, "%llu bytes came of %llu", (unsigned long long)spool->n, (unsigned long long)length);
    return r;
}

static int spool_read(void *arg, uint64_t offset, void *to, size_t n)
{
    const struct spool *spool = arg;
    char *p = to;

    while (n > 0) {
        ssize_t got = pread(spool->fd, p, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? -errno : -EIO;
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

struct oss_source spool_source(struct spool *spool)
{
    return (struct oss_source){
        .read = spool_read, .arg = spool, .size = spool->n, .has_crc = true, .crc64 = spool->crc64};
}

void spool_free(struct spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    *spool = SPOOL_INIT;
}
