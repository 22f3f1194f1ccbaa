/*
 * Allocation that fails on demand, for a test that includes the source of the module under test: include this
 * before it, and its malloc, calloc and realloc are these. free() stays, so the sanitizers see every leak.
 */
#ifndef TESTS_UNIT_FAILING_ALLOC_H
#define TESTS_UNIT_FAILING_ALLOC_H

#include <stdbool.h>
#include <stdlib.h>

static long failing_alloc_countdown = -1; /* allocations that still succeed; -1: all of them */
static long failing_alloc_failed;         /* allocations that were made to fail */

static bool failing_alloc_now(void)
{
    if (failing_alloc_countdown < 0)
        return false;
    if (failing_alloc_countdown > 0) {
        failing_alloc_countdown--;
        return false;
    }
    failing_alloc_failed++;
    return true;
}

static inline void *failing_malloc(size_t size)
{
    return failing_alloc_now() ? NULL : malloc(size);
}

static inline void *failing_calloc(size_t n, size_t size)
{
    return failing_alloc_now() ? NULL : calloc(n, size);
}

static inline void *failing_realloc(void *old, size_t size)
{
    return failing_alloc_now() ? NULL : realloc(old, size);
}

#define malloc  failing_malloc
#define calloc  failing_calloc
#define realloc failing_realloc

#endif
