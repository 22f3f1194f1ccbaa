#include "ahead.h"

#include <time.h>

#define WHOLE_MAX  (1u << 20) /* files up to this are fetched whole */
#define WINDOW_MIN (1u << 20)
#define SLACK      (4u << 20) /* by which the kernel's requests may come out of order */

/* Of a request: near, far away, and while the window of a far one is small. A GiB of the first kind is 260 requests.
 */
#define PIECE_NEAR  (4u << 20)
#define PIECE_MAX   (16u << 20)
#define PIECE_SMALL (1u << 20)

#define WORTH     8            /* moving the bytes shall take so many times as long as the wait for the first one */
#define LEARN_MIN (512u << 10) /* shorter answers come at once, which says nothing of the line */

static uint64_t longest(const struct cfile *cf)
{
    uint64_t piece = atomic_load_explicit(&cf->cache->read_piece, memory_order_relaxed);

    return piece < PIECE_NEAR ? PIECE_NEAR : piece;
}

uint64_t ahead_piece(const struct cfile *cf)
{
    uint64_t most = longest(cf), share;

    if (most == PIECE_NEAR)
        return most;
    /* Far away all connections begin at once, with short pieces; these grow with the window. */
    share = (cf->read_window / cf->cache->config.parallel_count + PIECE_SMALL - 1) / PIECE_SMALL * PIECE_SMALL;
    return share < PIECE_SMALL ? PIECE_SMALL : share < most ? share : most;
}

/*
 * When the reader has come through half of the window, the next one begins, twice as long, or four times where it is
 * far: there the way to the full width is itself made of round trips.
 */
uint64_t ahead_end(struct cfile *cf, uint64_t start, uint64_t end)
{
    uint64_t size = cf->attr.size, piece = longest(cf), most = piece * cf->cache->config.parallel_count * 2;

    if (most > cf->cache->config.cache_size / 4)
        most = cf->cache->config.cache_size / 4;
    if (size <= WHOLE_MAX)
        return size;
    if (cf->read_next == 0 || start < cf->read_from || start > cf->read_next) {
        cf->read_window = 0;
        cf->read_from = start;
        cf->read_next = end;
    } else if (start > cf->read_from && end + cf->read_window / 2 >= cf->read_next) {
        cf->read_window = cf->read_window ? cf->read_window * (piece > PIECE_NEAR ? 4 : 2) : WINDOW_MIN;
        if (cf->read_window > most)
            cf->read_window = most;
        cf->read_from = start > SLACK ? start - SLACK : 0;
        cf->read_next = (end > cf->read_next ? end : cf->read_next) + cf->read_window;
    }
    return cf->read_next < size ? cf->read_next : size;
}

int64_t ahead_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void ahead_learn(struct cache *cache, int64_t began, int64_t first, uint64_t n)
{
    int64_t wait = first - began, move = ahead_clock() - first;
    uint64_t old = atomic_load_explicit(&cache->read_piece, memory_order_relaxed), found;

    if (n < LEARN_MIN || wait < 0 || move < 0)
        return;
    found = (uint64_t)wait * WORTH * n / (uint64_t)(move + 1);
    if (found > PIECE_MAX)
        found = PIECE_MAX;
    /* One answer alone may have been held up by something else. */
    atomic_store_explicit(&cache->read_piece, old ? old / 2 + found / 2 : found, memory_order_relaxed);
}
