/*
 * Queues and threads of the classes, and a timer thread for delayed jobs.
 *
 * Delayed jobs are in a hierarchical timer wheel, because it needs no memory of its own (submitting must not fail)
 * and takes and gives back a job in constant time. `wheel_now` is a time in ms up to which all is done. A job due
 * at T is on the level of the highest group of 6 bits in which T differs from wheel_now, in the slot of T's value
 * of that group. So every job of a level is due before every job of the next one, slots of a level are in the order
 * of time, and a job keeps its place while wheel_now advances without passing an occupied slot. Reaching a slot of
 * level 0 means its jobs are due; reaching one of a higher level spreads its jobs over the lower ones.
 */
#include "base_pool.h"

#include "base_time.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define WHEEL_BITS   6
#define WHEEL_SLOTS  (1 << WHEEL_BITS)
#define WHEEL_LEVELS 8                  /* 2^48 ms */
#define DELAY_MAX_MS (INT64_C(1) << 42) /* longer delays are this long: a century */
#define IDLE_MS      60000              /* a thread without work ends after this */
#define RETRY_MS     100                /* between attempts to start a thread for a class that has none */

/* libcurl with TLS runs on it. Sanitizers keep state of their own there. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define STACK_BYTES (2048 * 1024)
#else
#define STACK_BYTES (512 * 1024)
#endif

struct pool_queue {
    struct pool *pool;
    enum pool_class klass;
    unsigned limit;
    pthread_cond_t wake; /* signalled for each queued job, and at the end */
    struct list jobs;    /* pool->lock; first in, first out */
    size_t n_jobs;       /* pool->lock */
    unsigned threads;    /* pool->lock; started, or about to be */
    unsigned idle;       /* pool->lock; of these, waiting on `wake`, including those that a signal has not reached */
};

struct wheel {
    int64_t now;
    uint64_t used[WHEEL_LEVELS]; /* bit s: slot s holds a job */
    struct list slot[WHEEL_LEVELS][WHEEL_SLOTS];
    size_t n;
};

struct pool {
    pthread_mutex_t lock; /* innermost: nothing is called with it that takes another lock */
    pthread_attr_t attr;
    struct pool_queue queue[POOL_CLASSES];
    struct wheel wheel;    /* lock */
    pthread_cond_t timer;  /* the timer thread's: an earlier job, draining, the end */
    pthread_cond_t change; /* pool_free()'s: a job has ended, a thread has ended */
    pthread_t timer_thread;
    size_t running;       /* lock; jobs in run() */
    bool draining;        /* lock; delays count as 0 */
    bool stop;            /* lock; threads end */
    bool starved;         /* lock; some class has jobs and no thread: the timer thread tries again */
    bool has_ended;       /* lock */
    pthread_t last_ended; /* lock; joined by the next thread that ends, the last one by pool_free() */
};

/* ------------------------------------------------------------------------------------------------- wheel */

static void wheel_init(struct wheel *w, int64_t now)
{
    memset(w, 0, sizeof *w);
    w->now = now;
    for (int level = 0; level < WHEEL_LEVELS; level++)
        for (int s = 0; s < WHEEL_SLOTS; s++)
            list_init(&w->slot[level][s]);
}

/* The place of a job due at `due`, which is after w->now. */
static void wheel_place(const struct wheel *w, int64_t due, int *level, int *slot)
{
    const uint64_t diff = (uint64_t)due ^ (uint64_t)w->now;

    *level = (63 - __builtin_clzll(diff)) / WHEEL_BITS;
    *slot = (int)((due >> (*level * WHEEL_BITS)) & (WHEEL_SLOTS - 1));
}

static void wheel_add(struct wheel *w, struct job *job)
{
    int level, slot;

    if (job->due_ms <= w->now)
        job->due_ms = w->now + 1;
    wheel_place(w, job->due_ms, &level, &slot);
    list_add_tail(&w->slot[level][slot], &job->link);
    w->used[level] |= UINT64_C(1) << slot;
    w->n++;
}

static void wheel_remove(struct wheel *w, struct job *job)
{
    int level, slot;

    wheel_place(w, job->due_ms, &level, &slot);
    list_del(&job->link);
    if (list_empty(&w->slot[level][slot]))
        w->used[level] &= ~(UINT64_C(1) << slot);
    w->n--;
}

/* When the first occupied slot begins (no job is due earlier); false when there is none. */
static bool wheel_next(const struct wheel *w, int64_t *when, int *level, int *slot)
{
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        if (w->used[l]) {
            const int shift = l * WHEEL_BITS;

            *level = l;
            *slot = __builtin_ctzll(w->used[l]);
            *when = (w->now >> (shift + WHEEL_BITS) << (shift + WHEEL_BITS)) | ((int64_t)*slot << shift);
            return true;
        }
    }
    return false;
}

/* Moves to `due` what is due at `now`. */
static void wheel_advance(struct wheel *w, int64_t now, struct list *due)
{
    int64_t when;
    int level, slot;

    while (wheel_next(w, &when, &level, &slot) && when <= now) {
        struct list jobs;
        struct list *l;

        list_init(&jobs);
        list_splice_tail(&jobs, &w->slot[level][slot]);
        w->used[level] &= ~(UINT64_C(1) << slot);
        w->now = when;
        while ((l = list_pop(&jobs))) {
            struct job *job = list_entry(l, struct job, link);

            w->n--;
            if (job->due_ms <= when)
                list_add_tail(due, l);
            else
                wheel_add(w, job);
        }
    }
    if (w->now < now)
        w->now = now;
}

/* Moves all to `due`, in the order of time. */
static void wheel_flush(struct wheel *w, struct list *due)
{
    int64_t when;
    int level, slot;

    while (wheel_next(w, &when, &level, &slot))
        wheel_advance(w, when, due);
}

/* ----------------------------------------------------------------------------------------------- threads */

static struct timespec deadline(int64_t ms)
{
    return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
}

/* Each ending thread joins the one that ended before it, so that at any time at most one is left to be joined. */
static void thread_ends(struct pool *pool)
{
    const bool has_before = pool->has_ended;
    const pthread_t before = pool->last_ended;

    pool->has_ended = true;
    pool->last_ended = pthread_self();
    pthread_cond_signal(&pool->change);
    pthread_mutex_unlock(&pool->lock);
    if (has_before)
        pthread_join(before, NULL);
}

/* Waits for a job; NULL when the thread is to end. With the lock. */
static struct job *next_job(struct pool_queue *q)
{
    struct pool *pool = q->pool;
    struct timespec until = deadline(clock_ms() + IDLE_MS);
    int r = 0;

    while (list_empty(&q->jobs)) {
        if (pool->stop || r == ETIMEDOUT)
            return NULL;
        q->idle++;
        r = pthread_cond_timedwait(&q->wake, &pool->lock, &until);
        q->idle--;
    }
    q->n_jobs--;
    return list_entry(list_pop(&q->jobs), struct job, link);
}

static void *worker(void *arg)
{
    struct pool_queue *q = arg;
    struct pool *pool = q->pool;
    struct job *job;

    pthread_setname_np(pthread_self(), q->klass == POOL_META ? "oss-meta" : "oss-bulk");
    pthread_mutex_lock(&pool->lock);
    while ((job = next_job(q))) {
        pool->running++;
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
        pool->running--;
        if (pool->draining)
            pthread_cond_signal(&pool->change);
    }
    q->threads--;
    thread_ends(pool);
    return NULL;
}

/* Signals are for the main thread: one that lands here would not end its read(). */
static int thread_start(struct pool *pool, pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(thread, &pool->attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

/* Whether a further thread has work; it counts as started then, and start_reserved() must follow. With the lock. */
static bool reserve_thread(struct pool_queue *q)
{
    if (q->n_jobs <= q->idle || q->threads >= q->limit)
        return false;
    q->threads++;
    return true;
}

/* Starts a reserved thread; false when none can be had. Without the lock: it takes its time. */
static bool start_reserved(struct pool_queue *q)
{
    struct pool *pool = q->pool;
    pthread_t thread;

    if (!thread_start(pool, &thread, worker, q))
        return true;
    pthread_mutex_lock(&pool->lock);
    q->threads--;
    if (!q->threads && !pool->starved) {
        pool->starved = true;
        pthread_cond_signal(&pool->timer);
    }
    pthread_cond_signal(&pool->change);
    pthread_mutex_unlock(&pool->lock);
    return false;
}

/* With the lock. */
static void enqueue(struct pool *pool, struct job *job)
{
    struct pool_queue *q = &pool->queue[job->klass];

    job->due_ms = 0;
    list_add_tail(&q->jobs, &job->link);
    q->n_jobs++;
    if (q->idle)
        pthread_cond_signal(&q->wake);
}

/* ------------------------------------------------------------------------------------------------- timer */

/* Queues jobs that are due and starts threads for them. With the lock, which is released in between. */
static void timer_run_due(struct pool *pool)
{
    struct list due;
    struct list *l;

    list_init(&due);
    if (pool->draining)
        wheel_flush(&pool->wheel, &due);
    else
        wheel_advance(&pool->wheel, clock_ms(), &due);
    while ((l = list_pop(&due)))
        enqueue(pool, list_entry(l, struct job, link));

    pool->starved = false;
    for (int i = 0; i < POOL_CLASSES; i++) {
        bool started = true;

        while (started && reserve_thread(&pool->queue[i])) {
            pthread_mutex_unlock(&pool->lock);
            started = start_reserved(&pool->queue[i]);
            pthread_mutex_lock(&pool->lock);
        }
    }
}

static void *timer(void *arg)
{
    struct pool *pool = arg;

    pthread_setname_np(pthread_self(), "oss-timer");
    pthread_mutex_lock(&pool->lock);
    while (!pool->stop) {
        int64_t when = 0;
        int level, slot;

        timer_run_due(pool);
        if (pool->stop)
            break;
        const bool waiting = wheel_next(&pool->wheel, &when, &level, &slot);
        if (waiting && (pool->draining || when <= clock_ms()))
            continue;
        if (pool->starved) {
            const int64_t again = clock_ms() + RETRY_MS;

            when = waiting && when < again ? when : again;
        } else if (!waiting) {
            pthread_cond_wait(&pool->timer, &pool->lock);
            continue;
        }
        struct timespec until = deadline(when);
        pthread_cond_timedwait(&pool->timer, &pool->lock, &until);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* --------------------------------------------------------------------------------------------------- face */

struct pool *pool_new(const unsigned limit[POOL_CLASSES])
{
    struct pool *pool = calloc(1, sizeof *pool);
    pthread_condattr_t monotonic;
    int r;

    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->timer, &monotonic);
    pthread_cond_init(&pool->change, &monotonic);
    for (int i = 0; i < POOL_CLASSES; i++) {
        struct pool_queue *q = &pool->queue[i];

        q->pool = pool;
        q->klass = (enum pool_class)i;
        q->limit = limit[i] ? limit[i] : 1;
        pthread_cond_init(&q->wake, &monotonic);
        list_init(&q->jobs);
    }
    pthread_condattr_destroy(&monotonic);
    pthread_attr_init(&pool->attr);
    pthread_attr_setstacksize(&pool->attr, STACK_BYTES);
    wheel_init(&pool->wheel, clock_ms());

    r = thread_start(pool, &pool->timer_thread, timer, pool);
    if (!r)
        return pool;
    pthread_attr_destroy(&pool->attr);
    for (int i = 0; i < POOL_CLASSES; i++)
        pthread_cond_destroy(&pool->queue[i].wake);
    pthread_cond_destroy(&pool->change);
    pthread_cond_destroy(&pool->timer);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
    errno = r;
    return NULL;
}

void pool_submit(struct pool *pool, enum pool_class klass, struct job *job)
{
    struct pool_queue *q = &pool->queue[klass];
    bool start;

    pthread_mutex_lock(&pool->lock);
    job->klass = klass;
    enqueue(pool, job);
    start = reserve_thread(q);
    pthread_mutex_unlock(&pool->lock);
    if (start)
        start_reserved(q);
}

void pool_submit_after(struct pool *pool, enum pool_class klass, struct job *job, int64_t delay_ms)
{
    int64_t when = 0;
    int level, slot;

    if (delay_ms <= 0) {
        pool_submit(pool, klass, job);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    if (pool->draining) {
        pthread_mutex_unlock(&pool->lock);
        pool_submit(pool, klass, job);
        return;
    }
    const bool waiting = wheel_next(&pool->wheel, &when, &level, &slot);

    job->klass = klass;
    job->due_ms = clock_ms() + (delay_ms < DELAY_MAX_MS ? delay_ms : DELAY_MAX_MS);
    wheel_add(&pool->wheel, job);
    /* The timer thread sleeps until the start of the first slot, or without end when there was none. */
    if (!waiting || job->due_ms < when)
        pthread_cond_signal(&pool->timer);
    pthread_mutex_unlock(&pool->lock);
}

bool pool_cancel(struct pool *pool, struct job *job)
{
    bool taken = false;

    pthread_mutex_lock(&pool->lock);
    if (job->due_ms) {
        wheel_remove(&pool->wheel, job);
        job->due_ms = 0;
        taken = true;
    }
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

/* With the lock. */
static bool has_work(const struct pool *pool)
{
    for (int i = 0; i < POOL_CLASSES; i++)
        if (pool->queue[i].n_jobs)
            return true;
    return pool->running || pool->wheel.n;
}

/* With the lock. */
static bool has_threads(const struct pool *pool)
{
    for (int i = 0; i < POOL_CLASSES; i++)
        if (pool->queue[i].threads)
            return true;
    return false;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->draining = true;
    pthread_cond_signal(&pool->timer);
    while (has_work(pool))
        pthread_cond_wait(&pool->change, &pool->lock);
    pool->stop = true;
    pthread_cond_signal(&pool->timer);
    for (int i = 0; i < POOL_CLASSES; i++)
        pthread_cond_broadcast(&pool->queue[i].wake);
    while (has_threads(pool))
        pthread_cond_wait(&pool->change, &pool->lock);
    pthread_mutex_unlock(&pool->lock);

    /* With no job left the timer thread starts no further worker. */
    pthread_join(pool->timer_thread, NULL);
    if (pool->has_ended)
        pthread_join(pool->last_ended, NULL);
    pthread_attr_destroy(&pool->attr);
    for (int i = 0; i < POOL_CLASSES; i++)
        pthread_cond_destroy(&pool->queue[i].wake);
    pthread_cond_destroy(&pool->change);
    pthread_cond_destroy(&pool->timer);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
