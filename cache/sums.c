#include "sums.h"

#include "../oss/crc64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void sums_free(struct sums *sums)
{
    free(sums->v);
    *sums = (struct sums){0};
}

/* The index of the first range that ends behind `offset`. */
static size_t search(const struct sums *sums, uint64_t offset)
{
    size_t low = 0, high = sums->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (sums->v[middle].end <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct sum *sums_next(const struct sums *sums, uint64_t offset)
{
    size_t i = search(sums, offset);

    return i < sums->n ? &sums->v[i] : NULL;
}

void sums_cut(struct sums *sums, uint64_t start, uint64_t end)
{
    size_t from = search(sums, start), to = from;

    while (to < sums->n && sums->v[to].start < end)
        to++;
    if (to == from)
        return;
    memmove(&sums->v[from], &sums->v[to], (sums->n - to) * sizeof(*sums->v));
    sums->n -= to - from;
}

static uint64_t cell(uint64_t offset)
{
    return offset / SUMS_GRID;
}

/* Joins v[i] and v[i + 1] when they are neighbours in one cell. */
static void join(struct sums *sums, size_t i)
{
    struct sum *a, *b;

    if (i + 1 >= sums->n)
        return;
    a = &sums->v[i];
    b = a + 1;
    if (a->end != b->start || cell(a->start) != cell(b->start))
        return;
    a->crc = crc64_combine(a->crc, b->crc, b->end - b->start);
    a->end = b->end;
    memmove(b, b + 1, (sums->n - i - 2) * sizeof(*b));
    sums->n--;
}

int sums_put(struct sums *sums, struct sum sum)
{
    size_t i;

    if (sum.start >= sum.end || cell(sum.start) != cell(sum.end - 1))
        return -EINVAL;
    sums_cut(sums, sum.start, sum.end);
    if (sums->n == sums->room) {
        size_t room = sums->room ? sums->room * 2 : 1;
        struct sum *v = realloc(sums->v, room * sizeof(*v));

        if (!v)
            return -ENOMEM;
        sums->v = v;
        sums->room = room;
    }
    i = search(sums, sum.start);
    memmove(&sums->v[i + 1], &sums->v[i], (sums->n - i) * sizeof(*sums->v));
    sums->v[i] = sum;
    sums->n++;
    join(sums, i);
    if (i > 0)
        join(sums, i - 1);
    return 0;
}
