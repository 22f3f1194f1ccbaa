/* What an earlier daemon's journal says of appends. */
#include "append.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (256u << 10)

static int path_in(const struct cache *cache, const char *directory, const char *number, const char *suffix,
                   char path[4096])
{
    int n = snprintf(path, 4096, "%s/%s/%s%s", cache->config.state_dir, directory, number, suffix);

    return n >= 4096 ? -ENAMETOOLONG : 0;
}

static int open_data(const struct cache *cache, const char *number)
{
    char path[4096];
    int r = path_in(cache, "data", number, "", path);
    int fd = r ? r : open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    return fd < 0 && !r ? -errno : fd;
}

static int crc_of(int fd, uint64_t from, uint64_t n, uint64_t *crc)
{
    char *chunk = malloc(CHUNK);
    int r = chunk ? 0 : -ENOMEM;

    *crc = 0;
    for (uint64_t at = 0; !r && at < n;) {
        ssize_t got = pread(fd, chunk, n - at < CHUNK ? (size_t)(n - at) : CHUNK, (off_t)(from + at));

        if (got <= 0) {
            r = got < 0 ? -errno : -EIO;
            break;
        }
        *crc = crc64(*crc, chunk, (size_t)got);
        at += (uint64_t)got;
    }
    free(chunk);
    return r;
}

/* [end, size) of the data file, at its place in a file of its own in aside/, with the journal beside it. */
static int tail_aside(const struct cache *cache, const char *number, int fd, uint64_t end, uint64_t size)
{
    char path[4096], journal[4096];
    int r = path_in(cache, "aside", "", "", path), to;

    if (!r && mkdir(path, 0700) && errno != EEXIST)
        r = -errno;
    if (!r)
        r = path_in(cache, "aside", number, "", path);
    if (r)
        return r;
    to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0)
        return -errno;
    r = append_copy_bytes(fd, end, to, end, size - end);
    if (close(to) && !r)
        r = -errno;
    if (!r)
        r = path_in(cache, "data", number, ".journal", journal);
    if (!r)
        r = path_in(cache, "aside", number, ".journal", path);
    if (!r && link(journal, path) && errno != EEXIST)
        r = -errno;
    return r;
}

bool append_split(struct cache *cache, const char *number, const struct journal_state *s)
{
    uint64_t end = s->append_from + s->append_length, crc = 0;
    int fd = open_data(cache, number);
    struct stat st;
    bool more;
    int r;

    if (fd < 0)
        return false;
    r = fstat(fd, &st) ? -errno : crc_of(fd, s->append_from, s->append_length, &crc);
    if (!r && crc != s->append_crc)
        r = -ESTALE;
    more = !r && (uint64_t)st.st_size > end;
    if (more)
        r = tail_aside(cache, number, fd, end, (uint64_t)st.st_size);
    if (!r && more && ftruncate(fd, (off_t)end))
        r = -errno;
    close(fd);
    if (!r && more)
        log_warn("unsent changes of %s are kept in %s/aside/%s: it was not closed when the daemon ended", s->key,
                 cache->config.state_dir, number);
    return !r;
}

int append_finish_move(struct cache *cache, const char *number, const struct journal_state *s)
{
    int fd, r;

    if (s->n_extents != 1 || s->moved_at == s->extents[0][0])
        return 0;
    fd = open_data(cache, number);
    if (fd < 0)
        return fd;
    r = append_copy_bytes(fd, s->moved_at, fd, s->extents[0][0], s->extents[0][1] - s->extents[0][0]);
    if (!r && ftruncate(fd, (off_t)s->attr.size))
        r = -errno;
    close(fd);
    return r;
}

void append_restore(struct cfile *cf, const struct journal_state *s)
{
    cf->plain_gen = s->content && !s->appends ? cf->gen : 0;
    cf->doubt = (struct append_doubt){.open = s->append,
                                      .position = s->append_position,
                                      .from = s->append_from,
                                      .length = s->append_length,
                                      .crc64 = s->append_crc,
                                      .gen = cf->gen,
                                      .data_gen = cf->data_gen};
}
