/* blob.c: see blob.h. */
#include "blob.h"

#include "index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SMALL_MAX   65536u       /* a body that goes into a pack */
#define PACK_MAX    (64u << 20)  /* bytes of a pack */
#define APPEND_MAX  (4u << 20)   /* a body that may be put behind another */
#define CHUNK_SMALL (256u << 10) /* memory of growing blobs */
#define CHUNK_BIG   (4u << 20)   /* memory of large bodies */
#define SPARE_MAX   256          /* big chunks kept for reuse: 1 GiB */
#define NAME_SIZE   17

struct blob {
    atomic_uint refs;
    struct blobs *all;
    uint64_t id;
    unsigned char name[8]; /* the id as the key of `loading` */
    bool growable;
    int fd; /* of a pack while it is written, else -1 */
    pthread_mutex_t lock;
    uint64_t used;               /* lock */
    size_t chunk;                /* memory: bytes of each chunk, fixed once there is one */
    char **chunks;               /* lock; memory: the chunks themselves never move */
    size_t n_chunks, cap_chunks; /* lock */
};

struct blobs {
    int dir; /* -1: memory */
    bool closing;
    atomic_uint_fast64_t next_id;
    struct index *loading; /* id -> blob, NULL after loading; one thread */
    pthread_mutex_t pack_lock;
    struct blob *pack; /* pack_lock */
    /* Big chunks that were let go: fresh pages cost the kernel several times what the rest of a PUT costs. */
    pthread_mutex_t spare_lock;
    char *spare[SPARE_MAX]; /* spare_lock */
    size_t n_spare;         /* spare_lock */
};

static void blob_name(char name[NAME_SIZE], uint64_t id)
{
    snprintf(name, NAME_SIZE, "%016llx", (unsigned long long)id);
}

static struct blob *blob_new(struct blobs *all, uint64_t id)
{
    struct blob *blob = xcalloc(1, sizeof *blob);

    atomic_init(&blob->refs, 1);
    blob->all = all;
    blob->id = id;
    blob->fd = -1;
    for (int i = 0; i < 8; i++)
        blob->name[i] = (unsigned char)(id >> (56 - 8 * i));
    pthread_mutex_init(&blob->lock, NULL);
    return blob;
}

struct blob *blob_ref(struct blob *blob)
{
    atomic_fetch_add(&blob->refs, 1);
    return blob;
}

uint64_t blob_id(const struct blob *blob)
{
    return blob->id;
}

static void chunk_free(struct blobs *all, char *chunk, size_t size)
{
    bool kept = false;

    if (size != CHUNK_BIG) {
        free(chunk);
        return;
    }
    pthread_mutex_lock(&all->spare_lock);
    if (!all->closing && all->n_spare < SPARE_MAX) {
        all->spare[all->n_spare++] = chunk;
        kept = true;
    }
    pthread_mutex_unlock(&all->spare_lock);
    if (!kept)
        munmap(chunk, size);
}

static char *chunk_new(struct blobs *all, size_t size)
{
    char *p = NULL;

    if (size != CHUNK_BIG)
        return xmalloc(size);
    pthread_mutex_lock(&all->spare_lock);
    if (all->n_spare)
        p = all->spare[--all->n_spare];
    pthread_mutex_unlock(&all->spare_lock);
    if (p)
        return p;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    madvise(p, size, MADV_HUGEPAGE);
    return p;
}

void blob_unref(struct blob *blob)
{
    if (!blob || atomic_fetch_sub(&blob->refs, 1) != 1)
        return;
    if (blob->all->dir >= 0 && !blob->all->closing) {
        char name[NAME_SIZE];
        blob_name(name, blob->id);
        unlinkat(blob->all->dir, name, 0);
    }
    if (blob->fd >= 0)
        close(blob->fd);
    for (size_t i = 0; i < blob->n_chunks; i++)
        chunk_free(blob->all, blob->chunks[i], blob->chunk);
    free(blob->chunks);
    pthread_mutex_destroy(&blob->lock);
    free(blob);
}

/* ---------------------------------------------------------------------------------- opening and loading */

/* Notes every file by number, so that blobs_loaded() knows what nobody refers to. */
static void blobs_note_files(struct blobs *blobs)
{
    DIR *d = fdopendir(openat(blobs->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

    if (!d)
        return;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char *end;
        uint64_t id = strtoull(e->d_name, &end, 16);
        if (strlen(e->d_name) == 16 && !*end)
            blob_unref(blob_by_id(blobs, id));
    }
    closedir(d);
}

struct blobs *blobs_open(const char *dir)
{
    struct blobs *blobs = xcalloc(1, sizeof *blobs);

    blobs->dir = -1;
    atomic_init(&blobs->next_id, 1);
    pthread_mutex_init(&blobs->pack_lock, NULL);
    pthread_mutex_init(&blobs->spare_lock, NULL);
    if (!dir)
        return blobs;
    blobs->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (blobs->dir < 0) {
        free(blobs);
        return NULL;
    }
    blobs->loading = index_new();
    blobs_note_files(blobs);
    return blobs;
}

struct blob *blob_by_id(struct blobs *blobs, uint64_t id)
{
    unsigned char name[8];

    for (int i = 0; i < 8; i++)
        name[i] = (unsigned char)(id >> (56 - 8 * i));
    struct blob *blob = index_find(blobs->loading, (struct bytes){(char *)name, 8});
    if (!blob) {
        blob = blob_new(blobs, id);
        index_put(blobs->loading, (struct bytes){(char *)blob->name, 8}, blob);
        if (id >= blobs->next_id)
            blobs->next_id = id + 1;
    }
    return blob_ref(blob);
}

void blobs_loaded(struct blobs *blobs)
{
    struct index *index = blobs->loading;

    if (!index)
        return;
    blobs->loading = NULL;
    for (const struct index_node *node = index_seek(index, (struct bytes){"", 0}, false), *next; node; node = next) {
        next = index_next(node);
        blob_unref(index_value(node));
    }
    index_free(index);
}

void blobs_close(struct blobs *blobs)
{
    if (!blobs)
        return;
    blob_unref(blobs->pack);
    if (blobs->dir >= 0)
        close(blobs->dir);
    while (blobs->n_spare)
        munmap(blobs->spare[--blobs->n_spare], CHUNK_BIG);
    pthread_mutex_destroy(&blobs->pack_lock);
    pthread_mutex_destroy(&blobs->spare_lock);
    free(blobs);
}

void blobs_keep_files(struct blobs *blobs)
{
    blobs->closing = true;
}

/* ---------------------------------------------------------------------------------------------- writing */

struct spool {
    struct blobs *blobs;
    struct blob *blob; /* NULL while the body is held back in `held` */
    int fd;
    bool growable;
    uint64_t expected;
    size_t hold_max; /* held back up to so many bytes */
    uint64_t n;
    struct sbuf held;
};

static int pwrite_all(int fd, const char *data, size_t n, uint64_t offset)
{
    while (n) {
        ssize_t r = pwrite(fd, data, n, (off_t)offset);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -EIO;
        data += r;
        n -= (size_t)r;
        offset += (uint64_t)r;
    }
    return 0;
}

static int blob_open(const struct blob *blob, int flags)
{
    char name[NAME_SIZE];

    blob_name(name, blob->id);
    int fd = openat(blob->all->dir, name, flags | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

/* The chunk with the byte `offset`, made when missing. */
static char *blob_chunk(struct blob *blob, uint64_t offset)
{
    size_t i = (size_t)(offset / blob->chunk);

    pthread_mutex_lock(&blob->lock);
    while (blob->n_chunks <= i) {
        if (blob->n_chunks == blob->cap_chunks) {
            blob->cap_chunks = blob->cap_chunks ? 2 * blob->cap_chunks : 1;
            blob->chunks = xrealloc(blob->chunks, blob->cap_chunks * sizeof *blob->chunks);
        }
        blob->chunks[blob->n_chunks++] = chunk_new(blob->all, blob->chunk);
    }
    char *chunk = blob->chunks[i];
    pthread_mutex_unlock(&blob->lock);
    return chunk;
}

static void memory_write(struct blob *blob, uint64_t offset, const char *data, size_t n)
{
    while (n) {
        size_t at = (size_t)(offset % blob->chunk), now = blob->chunk - at;
        if (now > n)
            now = n;
        memcpy(blob_chunk(blob, offset) + at, data, now);
        data += now;
        n -= now;
        offset += now;
    }
}

struct spool *spool_new(struct blobs *blobs, uint64_t expected, bool growable)
{
    struct spool *spool = xcalloc(1, sizeof *spool);

    spool->blobs = blobs;
    spool->fd = -1;
    spool->growable = growable;
    spool->expected = expected;
    if (growable)
        spool->hold_max = APPEND_MAX;
    else if (expected <= SMALL_MAX)
        spool->hold_max = SMALL_MAX;
    return spool;
}

/* Bytes of each chunk of a body in memory: exact when it is short. */
static size_t spool_chunk(const struct spool *spool, bool last)
{
    if (spool->growable)
        return CHUNK_SMALL;
    if (last)
        return spool->held.n ? spool->held.n : 1;
    if (spool->expected == SPOOL_UNKNOWN)
        return CHUNK_SMALL;
    return spool->expected < CHUNK_BIG ? (size_t)spool->expected : CHUNK_BIG;
}

/* Leaves the held-back state: from now on bytes go to a blob of their own. */
static int spool_begin(struct spool *spool, bool last)
{
    struct blob *blob = blob_new(spool->blobs, atomic_fetch_add(&spool->blobs->next_id, 1));
    int r = 0;

    blob->growable = spool->growable;
    spool->blob = blob;
    if (spool->blobs->dir >= 0) {
        spool->fd = blob_open(blob, O_RDWR | O_CREAT | O_EXCL);
        r = spool->fd < 0 ? spool->fd : pwrite_all(spool->fd, spool->held.p, spool->held.n, 0);
    } else {
        blob->chunk = spool_chunk(spool, last);
        memory_write(blob, 0, spool->held.p, spool->held.n);
    }
    sbuf_free(&spool->held);
    return r;
}

int spool_write(struct spool *spool, const void *data, size_t n)
{
    int r = 0;

    if (!spool->blob) {
        if (spool->n + n <= spool->hold_max) {
            sbuf_add(&spool->held, data, n);
            spool->n += n;
            return 0;
        }
        r = spool_begin(spool, false);
        if (r)
            return r;
    }
    if (spool->fd >= 0)
        r = pwrite_all(spool->fd, data, n, spool->n);
    else
        memory_write(spool->blob, spool->n, data, n);
    spool->n += n;
    return r;
}

/* Puts a short body into the current pack file. */
static int spool_pack(struct spool *spool, struct segment *out)
{
    struct blobs *blobs = spool->blobs;
    size_t n = spool->held.n;
    struct blob *old = NULL;
    int r = 0;

    pthread_mutex_lock(&blobs->pack_lock);
    if (!blobs->pack || blobs->pack->used + n > PACK_MAX) {
        struct blob *pack = blob_new(blobs, atomic_fetch_add(&blobs->next_id, 1));
        pack->fd = blob_open(pack, O_RDWR | O_CREAT | O_EXCL);
        if (pack->fd < 0) {
            r = pack->fd;
            old = pack;
        } else {
            old = blobs->pack;
            blobs->pack = pack;
        }
    }
    if (!r) {
        *out = (struct segment){blob_ref(blobs->pack), blobs->pack->used, n};
        blobs->pack->used += n;
    }
    pthread_mutex_unlock(&blobs->pack_lock);
    blob_unref(old);
    if (r)
        return r;
    r = pwrite_all(out->blob->fd, spool->held.p, n, out->offset);
    if (r)
        blob_unref(out->blob);
    return r;
}

/* Takes [at, at + n) at the end of a blob; false when it cannot grow or somebody else was there before. */
static bool blob_claim(struct blob *blob, uint64_t at, size_t n)
{
    bool ours;

    if (!blob->growable)
        return false;
    pthread_mutex_lock(&blob->lock);
    ours = blob->used == at;
    if (ours)
        blob->used += n;
    pthread_mutex_unlock(&blob->lock);
    return ours;
}

static int spool_extend(struct spool *spool, const struct segment *tail, struct segment *out, bool *merged)
{
    int r = 0;
    uint64_t at = tail->offset + tail->length;

    if (!blob_claim(tail->blob, at, spool->held.n))
        return 0;
    if (spool->blobs->dir >= 0) {
        int fd = blob_open(tail->blob, O_WRONLY);
        r = fd < 0 ? fd : pwrite_all(fd, spool->held.p, spool->held.n, at);
        if (fd >= 0)
            close(fd);
    } else {
        memory_write(tail->blob, at, spool->held.p, spool->held.n);
    }
    if (r)
        return r;
    *merged = true;
    *out = (struct segment){blob_ref(tail->blob), tail->offset, tail->length + spool->held.n};
    return 0;
}

int spool_end(struct spool *spool, const struct segment *tail, struct segment *out, bool *merged)
{
    int r = 0;

    if (merged)
        *merged = false;
    if (!spool->blob && tail) {
        r = spool_extend(spool, tail, out, merged);
        if (r || *merged)
            return r;
    }
    if (!spool->blob && !spool->growable && spool->blobs->dir >= 0)
        return spool_pack(spool, out);
    if (!spool->blob)
        r = spool_begin(spool, true);
    if (r)
        return r;
    spool->blob->used = spool->n;
    *out = (struct segment){spool->blob, 0, spool->n};
    spool->blob = NULL;
    return 0;
}

void spool_free(struct spool *spool)
{
    if (!spool)
        return;
    if (spool->fd >= 0)
        close(spool->fd);
    blob_unref(spool->blob);
    sbuf_free(&spool->held);
    free(spool);
}

/* ---------------------------------------------------------------------------------------------- reading */

struct reader {
    const struct segment *segments;
    size_t n;
    size_t at;      /* the segment that was read last */
    uint64_t start; /* its offset over all segments */
    int fd;         /* of its file, or -1 */
};

struct reader *reader_new(const struct segment *segments, size_t n)
{
    struct reader *reader = xcalloc(1, sizeof *reader);

    *reader = (struct reader){segments, n, 0, 0, -1};
    return reader;
}

static void reader_close(struct reader *reader)
{
    if (reader->fd >= 0)
        close(reader->fd);
    reader->fd = -1;
}

void reader_free(struct reader *reader)
{
    if (!reader)
        return;
    reader_close(reader);
    free(reader);
}

ssize_t reader_read(struct reader *reader, uint64_t offset, void *to, size_t n)
{
    if (offset < reader->start) {
        reader_close(reader);
        reader->at = 0;
        reader->start = 0;
    }
    while (reader->at < reader->n && offset - reader->start >= reader->segments[reader->at].length) {
        reader_close(reader);
        reader->start += reader->segments[reader->at++].length;
    }
    if (reader->at == reader->n)
        return 0;
    const struct segment *s = &reader->segments[reader->at];
    uint64_t in = offset - reader->start, from = s->offset + in;
    if (n > s->length - in)
        n = (size_t)(s->length - in);
    if (s->blob->all->dir < 0) {
        size_t in_chunk = (size_t)(from % s->blob->chunk);
        if (n > s->blob->chunk - in_chunk)
            n = s->blob->chunk - in_chunk;
        memcpy(to, blob_chunk(s->blob, from) + in_chunk, n);
        return (ssize_t)n;
    }
    if (reader->fd < 0)
        reader->fd = blob_open(s->blob, O_RDONLY);
    if (reader->fd < 0)
        return reader->fd;
    ssize_t r = pread(reader->fd, to, n, (off_t)from);
    return r < 0 ? -errno : r == 0 ? -EIO : r;
}

size_t segments_slice(const struct segment *segments, size_t n, uint64_t offset, uint64_t length,
                      struct segment **out)
{
    size_t count = 0;

    *out = xcalloc(n, sizeof **out);
    for (size_t i = 0; i < n && length; i++) {
        const struct segment *s = &segments[i];
        if (offset >= s->length) {
            offset -= s->length;
            continue;
        }
        uint64_t now = s->length - offset < length ? s->length - offset : length;
        (*out)[count++] = (struct segment){blob_ref(s->blob), s->offset + offset, now};
        length -= now;
        offset = 0;
    }
    return count;
}

void segments_free(struct segment *segments, size_t n)
{
    for (size_t i = 0; i < n; i++)
        blob_unref(segments[i].blob);
    free(segments);
}

int segments_fd(const struct segment *segments, size_t n, uint64_t offset, uint64_t length, int *fd,
                uint64_t *fd_offset)
{
    for (size_t i = 0; i < n; i++) {
        const struct segment *s = &segments[i];
        if (offset >= s->length) {
            offset -= s->length;
            continue;
        }
        if (s->blob->all->dir < 0 || s->length - offset < length)
            return -ENOTSUP;
        *fd = blob_open(s->blob, O_RDONLY);
        *fd_offset = s->offset + offset;
        return *fd < 0 ? *fd : 0;
    }
    return -ENOTSUP;
}

int segments_iov(const struct segment *segments, size_t n, uint64_t offset, uint64_t length, struct iovec **iov)
{
    int count = 0, cap = 0;

    *iov = NULL;
    for (size_t i = 0; i < n && length; i++) {
        const struct segment *s = &segments[i];
        if (s->blob->all->dir >= 0)
            return -ENOTSUP;
        if (offset >= s->length) {
            offset -= s->length;
            continue;
        }
        for (uint64_t at = s->offset + offset, end = s->offset + s->length; at < end && length;) {
            size_t in_chunk = (size_t)(at % s->blob->chunk);
            uint64_t now = s->blob->chunk - in_chunk;
            now = now < end - at ? now : end - at;
            now = now < length ? now : length;
            if (count == cap) {
                cap = cap ? 2 * cap : 4;
                *iov = xrealloc(*iov, (size_t)cap * sizeof **iov);
            }
            (*iov)[count++] = (struct iovec){blob_chunk(s->blob, at) + in_chunk, (size_t)now};
            at += now;
            length -= now;
        }
        offset = 0;
    }
    return count;
}
