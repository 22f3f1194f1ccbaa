/*
 * The extent map as anyone would write it first: one cell for each byte. What the map must agree with.
 */
#ifndef TESTS_UNIT_EXTENT_MODEL_H
#define TESTS_UNIT_EXTENT_MODEL_H

#include "../../cache/extent.h"

#include <string.h>

#define MODEL_MAX 512 /* bytes of the file */

struct cell {
    bool local;
    int base;
    uint64_t base_offset;
    uint32_t epoch;
};

struct model {
    struct cell cells[MODEL_MAX];
    uint64_t size;
};

static inline void model_set_base(struct model *m, int base, uint64_t size)
{
    m->size = size;
    for (uint64_t i = 0; i < size; i++)
        m->cells[i] = (struct cell){.base = base, .base_offset = i};
}

static inline void model_write(struct model *m, uint64_t start, uint64_t end, uint32_t epoch)
{
    if (start >= end)
        return;
    for (uint64_t i = start < m->size ? start : m->size; i < end; i++)
        m->cells[i] = (struct cell){.local = true, .base = EXTENT_NEW, .epoch = epoch};
    if (end > m->size)
        m->size = end;
}

static inline void model_truncate(struct model *m, uint64_t size, uint32_t epoch)
{
    model_write(m, m->size, size, epoch);
    m->size = size;
}

static inline void model_fetched(struct model *m, uint64_t start, uint64_t end)
{
    for (uint64_t i = start; i < end && i < m->size; i++)
        m->cells[i].local = true;
}

static inline void model_drop(struct model *m, uint64_t start, uint64_t end)
{
    for (uint64_t i = start; i < end && i < m->size; i++)
        if (m->cells[i].base != EXTENT_NEW)
            m->cells[i].local = false;
}

static inline void model_commit(struct model *m, uint32_t epoch, int base, uint64_t size)
{
    for (uint64_t i = 0; i < size && i < m->size; i++)
        if (m->cells[i].base != EXTENT_NEW || m->cells[i].epoch <= epoch)
            m->cells[i] = (struct cell){.local = m->cells[i].local, .base = base, .base_offset = i};
}

/* Does byte i + 1 go on with what byte i says? */
static inline bool model_continues(const struct model *m, uint64_t i)
{
    const struct cell *a = &m->cells[i], *b = &m->cells[i + 1];

    return a->local == b->local && a->base == b->base && a->epoch == b->epoch &&
           (a->base == EXTENT_NEW || a->base_offset + 1 == b->base_offset);
}

static inline bool model_extent_equals(const struct model *m, uint64_t start, uint64_t end, const struct extent *e)
{
    const struct cell *c = &m->cells[start];

    return e->start == start && e->end == end && e->local == c->local && e->base == c->base &&
           e->base_offset == c->base_offset && e->epoch == c->epoch;
}

/* What extent_map_next_remote (or _dirty) must answer. */
static inline bool model_next(const struct model *m, uint64_t start, uint64_t end, bool dirty, uint64_t *from,
                              uint64_t *to)
{
    uint64_t i = start;

    if (end > m->size)
        end = m->size;
    while (i < end && (dirty ? m->cells[i].base != EXTENT_NEW : m->cells[i].local))
        i++;
    if (i >= end)
        return false;
    *from = i;
    while (i + 1 < end && model_continues(m, i))
        i++;
    *to = i + 1;
    return true;
}

/* NULL, or in words what the map says otherwise than the model. `at` and `end` choose the range of the searches. */
static inline const char *model_differs(const struct model *m, const struct extent_map *map, uint64_t at,
                                        uint64_t end)
{
    uint64_t local = 0, dirty = 0, start = 0, from = 0, to = 0;
    size_t count = 0;
    struct extent e;
    bool found;

    if (extent_map_size(map) != m->size)
        return "size";
    for (uint64_t i = 0; i < m->size; i++) {
        local += m->cells[i].local;
        dirty += m->cells[i].base == EXTENT_NEW;
        if (i + 1 < m->size && model_continues(m, i))
            continue;
        count++;
        if (!extent_map_find(map, i, &e) || !model_extent_equals(m, start, i + 1, &e))
            return "extent";
        if (e.base != EXTENT_NEW && !extent_map_uses(map, e.base))
            return "uses";
        start = i + 1;
    }
    if (extent_map_find(map, m->size, &e))
        return "extent at the size";
    if (extent_map_count(map) != count)
        return "count";
    if (extent_map_local_bytes(map) != local || extent_map_dirty_bytes(map) != dirty)
        return "sum of bytes";
    for (int kind = 0; kind < 2; kind++) {
        found = model_next(m, at, end, kind == 1, &from, &to);
        if (found != (kind ? extent_map_next_dirty(map, at, end, &e) : extent_map_next_remote(map, at, end, &e)))
            return "search finds";
        if (found && !model_extent_equals(m, from, to, &e))
            return "search result";
    }
    return NULL;
}

/* Does any byte name the base? */
static inline bool model_uses(const struct model *m, int base)
{
    for (uint64_t i = 0; i < m->size; i++)
        if (m->cells[i].base == base)
            return true;
    return false;
}

#endif
