/*
 * The worker pool: threads that run blocking jobs, in classes that never starve each other.
 *
 * Each class has its own queue (first in, first out) and its own limit of threads; bulk transfers can therefore
 * never take the threads of the metadata requests. Threads start on demand and end after an idle minute.
 * A job is owned by whoever submits it until run() is called, which may free it. A job may submit jobs; it must
 * not wait for another job of the pool.
 */
#ifndef OSS_BASE_POOL_H
#define OSS_BASE_POOL_H

#include "base_list.h"

#include <stdint.h>

enum pool_class {
    POOL_META, /* requests without a body, small reads: latency counts */
    POOL_BULK, /* transfers */
    POOL_CLASSES
};

struct pool;

struct job {
    void (*run)(struct job *job); /* set by the submitter */
    struct list link;             /* the pool's */
    int64_t due_ms;               /* the pool's */
    enum pool_class klass;        /* the pool's */
};

/* NULL with errno set when memory or the timer thread cannot be had. limit[] is threads for each class, >= 1. */
struct pool *pool_new(const unsigned limit[POOL_CLASSES]);

/* Queues the job. Never fails and never blocks beyond a short mutex: with no thread to be had it runs later. */
void pool_submit(struct pool *pool, enum pool_class klass, struct job *job);

/* The same, not before `delay_ms` have passed. */
void pool_submit_after(struct pool *pool, enum pool_class klass, struct job *job, int64_t delay_ms);

/*
 * Takes a delayed job back; true when it will not run (the caller owns it again), false when it is already
 * queued, running or done.
 */
bool pool_cancel(struct pool *pool, struct job *job);

/*
 * Runs what is queued (delayed jobs become due at once), also what those jobs submit, until nothing is left; then
 * ends all threads and frees the pool. Blocks. The caller sees to it that jobs end (oss_stop() of the client).
 */
void pool_free(struct pool *pool);

#endif
