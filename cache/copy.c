/*
 * copy_file_range() within the bucket. Nothing is sent during the call: ranges of the source that stand in its object
 * become ranges of the target that stand there too, and the target's upload then plans them as server-side copies,
 * tied to the object's ETag. That costs the same requests as copying at once, leaves nothing behind when the target
 * is never closed, and lets the plan see the whole file: of a whole small object it makes one CopyObject. (share.c
 * sees to it that the object stays for so long.)
 *
 * What is not worth a copy (short, or here anyway and short), or cannot be one (changed here and not sent, an object
 * that is being replaced) goes through the local files, fetched first where it is remote.
 *
 * The copy is a change of the target: no upload of it runs meanwhile. Nothing is held while it waits for the source.
 */
#include "cfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX 0x7ffff000u   /* what a program can be told to have copied */
#define CHUNK      (1u << 20)    /* copied at a time between local files */
#define LOCAL_MAX  (64u << 20)   /* of those in one call: the caller comes again for the rest */
#define FETCH_MAX  (32ULL << 20) /* fetched before it is copied on */

struct copy {
    struct change change; /* of `to` */
    struct change settle; /* of `from`: what is on its way there ends first */
    struct job job;
    struct cfile *from, *to;
    uint64_t from_offset, to_offset; /* of what is next */
    uint64_t left, copied, local;
    cache_done *done;
    void *arg;
};

enum piece_kind { PIECE_NONE, PIECE_SHARE, PIECE_LOCAL, PIECE_FETCH };

struct piece {
    uint64_t length;
    struct share share; /* of SHARE; its key and info are the piece's own */
};

static void copy_end(struct copy *c, int r)
{
    struct cfile *from = c->from, *to = c->to;
    cache_done *done = c->done;
    void *arg = c->arg;

    if (c->copied)
        r = (int)c->copied;
    cfile_change_done(&c->change);
    free(c);
    evict_account(to);
    done(arg, r);
    cfile_release(from);
    cfile_release(to);
}

/* Is no change of the source's object under way, nor queued? mu of `from` held. */
static bool at_rest(const struct copy *c)
{
    const struct list *changes = &c->from->changes;

    if (c->from->orphan)
        return false;
    return list_empty(changes) || (changes->next == &c->change.link && changes->prev == &c->change.link);
}

/* How far the bytes from `at` on stand in one piece of one base, whether here or not. mu held. */
static uint64_t run_end(const struct extent_map *map, const struct extent *first, uint64_t limit, bool *here)
{
    struct extent ex = *first, next;

    *here = ex.local;
    while (ex.end < limit && extent_map_find(map, ex.end, &next) && next.base == ex.base &&
           next.base_offset == ex.base_offset + (ex.end - ex.start)) {
        *here = *here && next.local;
        ex = next;
    }
    return ex.end < limit ? ex.end : limit;
}

/* Is a server-side copy of the run possible, and the cheapest? mu of `from` held; `empty`: the target is. */
static bool may_share(const struct copy *c, const struct base *base, uint64_t length, bool here, bool empty)
{
    const struct oinfo *info = base->info;
    bool whole = c->from_offset == 0 && length == info->attr.size && c->to_offset == 0 && empty;

    if (!at_rest(c) || !cfile_is_object(c->from, base) || !*info->etag || info->type == OSS_TYPE_SYMLINK)
        return false;
    return length >= c->from->cache->config.limits.part_min || (whole && !here);
}

/* What comes next. io and mu of `from` held. */
static enum piece_kind look(struct copy *c, bool empty, struct piece *piece)
{
    struct cfile *from = c->from;
    uint64_t at = c->from_offset, limit = at + c->left;
    const struct base *base;
    struct extent ex;
    uint64_t end;
    bool here;

    if (c->left == 0 || !extent_map_find(from->map, at, &ex))
        return PIECE_NONE;
    if (ex.base != EXTENT_NEW)
        ex.base_offset += at - ex.start;
    ex.start = at;
    base = ex.base == EXTENT_NEW ? NULL : cfile_base(from, ex.base);
    end = base ? run_end(from->map, &ex, limit, &here) : ex.end;
    if (base && may_share(c, base, end - at, here, empty)) {
        char *key = strdup(base->key);

        if (key) {
            piece->length = end - at;
            piece->share = (struct share){.start = c->to_offset,
                                          .end = c->to_offset + piece->length,
                                          .key = key,
                                          .info = oinfo_get(base->info),
                                          .base_offset = ex.base_offset};
            return PIECE_SHARE;
        }
    }
    end = ex.end < limit ? ex.end : limit;
    piece->length = end - at;
    if (piece->length > (ex.local ? CHUNK : FETCH_MAX))
        piece->length = ex.local ? CHUNK : FETCH_MAX;
    return ex.local ? PIECE_LOCAL : PIECE_FETCH;
}

static void advance(struct copy *c, uint64_t n)
{
    c->from_offset += n;
    c->to_offset += n;
    c->copied += n;
    c->left -= n;
}

/*
 * io of both. What is local of the source stays so, and whoever is about to replace its object waits until it is
 * shared; nobody fills the target from where it stood before. In the order of their addresses, for two may copy into
 * each other.
 */
static void io_begin(const struct copy *c)
{
    if (c->from < c->to)
        pthread_rwlock_rdlock(&c->from->io);
    cfile_io_begin(c->to, CFILE_WRITES);
    if (c->from > c->to)
        pthread_rwlock_rdlock(&c->from->io);
}

static void io_end(const struct copy *c)
{
    cfile_io_end(c->to, CFILE_WRITES);
    if (c->from != c->to)
        pthread_rwlock_unlock(&c->from->io);
}

/* One piece. 1: there may be more; 0: the end, or enough for one call; -EAGAIN: *fetch bytes are to be fetched first.
 */
static int copy_piece(struct copy *c, char *chunk, uint64_t *fetch)
{
    struct cfile *from = c->from, *to = c->to;
    struct piece piece;
    enum piece_kind kind;
    bool empty;
    int r = 0;

    pthread_mutex_lock(&to->mu);
    empty = to->attr.size == 0;
    pthread_mutex_unlock(&to->mu);
    io_begin(c);
    pthread_mutex_lock(&from->mu);
    kind = look(c, empty, &piece);
    pthread_mutex_unlock(&from->mu);
    if (kind == PIECE_SHARE)
        r = cfile_share(to, &piece.share);
    else if (kind == PIECE_LOCAL)
        r = cfile_pread_locked(from, chunk, piece.length, c->from_offset);
    io_end(c);
    if (kind == PIECE_SHARE) {
        free((char *)piece.share.key);
        oinfo_put(piece.share.info);
    }
    if (kind == PIECE_LOCAL && !r) {
        ssize_t n = cfile_write(to, chunk, piece.length, c->to_offset, false);

        r = n < 0 ? (int)n : 0;
        c->local += piece.length;
    }
    if (r || kind == PIECE_NONE)
        return r;
    if (kind == PIECE_FETCH) {
        *fetch = piece.length;
        return -EAGAIN;
    }
    advance(c, piece.length);
    return c->local < LOCAL_MAX;
}

static void copy_fetched(void *arg, int r);
static void target_sent(void *arg, int r);

/*
 * What was fsynced of the target meanwhile, and is not sent, is not written over (background.c): the caller comes
 * again for the rest, or the copy begins anew behind the upload.
 */
static void make_way(struct copy *c)
{
    if (c->copied) {
        copy_end(c, 0);
        return;
    }
    cfile_change_done(&c->change);
    target_sent(c, 0);
}

static void copy_run(struct job *job)
{
    struct copy *c = list_entry(job, struct copy, job);
    char *chunk = malloc(CHUNK);
    uint64_t fetch = 0;
    bool blocked = false;
    int r = chunk ? 1 : -ENOMEM;

    while (r == 1 && !(blocked = cfile_must_await_sent(c->to)))
        r = copy_piece(c, chunk, &fetch);
    free(chunk);
    if (blocked)
        make_way(c);
    else if (r == -EAGAIN)
        fetch_all(c->from, c->from_offset, c->from_offset + fetch, copy_fetched, c);
    else
        copy_end(c, r);
}

static void copy_fetched(void *arg, int r)
{
    struct copy *c = arg;

    if (r)
        copy_end(c, r);
    else
        pool_submit(c->from->cache->pool, POOL_BULK, &c->job);
}

static void copy_begin(struct change *change)
{
    struct copy *c = list_entry(change, struct copy, change);

    pool_submit(c->from->cache->pool, POOL_BULK, &c->job);
}

/* What was on its way of the source has ended: of what it is now, the object tells. */
static void source_settled(struct change *change)
{
    struct copy *c = list_entry(change, struct copy, settle);

    cfile_change_done(change);
    cfile_change(c->to, &c->change);
}

/* What was fsynced of the target before is in the bucket, or could not be sent. */
static void target_sent(void *arg, int r)
{
    struct copy *c = arg;
    bool busy;

    (void)r;
    if (cfile_await_sent(c->to, target_sent, c))
        return;
    pthread_mutex_lock(&c->from->mu);
    busy = c->from != c->to && !list_empty(&c->from->changes);
    pthread_mutex_unlock(&c->from->mu);
    if (busy)
        cfile_change(c->from, &c->settle);
    else
        cfile_change(c->to, &c->change);
}

void cache_copy(struct cfile *from, uint64_t from_offset, struct cfile *to, uint64_t to_offset, uint64_t n,
                cache_done *done, void *arg)
{
    struct copy *c = malloc(sizeof(*c));

    if (!c) {
        done(arg, -ENOMEM);
        return;
    }
    *c = (struct copy){
        .change.begin = copy_begin,
        .settle.begin = source_settled,
        .job.run = copy_run,
        .from = cfile_hold(from),
        .to = cfile_hold(to),
        .from_offset = from_offset,
        .to_offset = to_offset,
        .left = n < ANSWER_MAX ? n : ANSWER_MAX,
        .done = done,
        .arg = arg,
    };
    target_sent(c, 0);
}
