/*
 * How the pool's threads come and go: idle ones end, and a thread that cannot be had is asked for again. The source
 * is included, with the two functions of the system that decide this replaced.
 */
#include "../../oss/base_time.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static atomic_int refuse_threads; /* so many pthread_create() to come fail */
static atomic_int created, refused;

static int test_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    if (atomic_load(&refuse_threads) > 0) {
        atomic_fetch_sub(&refuse_threads, 1);
        atomic_fetch_add(&refused, 1);
        return EAGAIN;
    }
    atomic_fetch_add(&created, 1);
    return pthread_create(thread, attr, run, arg);
}

/* A long wait ends after 50 ms: what happens after an idle minute happens at once. */
static int test_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
    const int64_t soon = clock_ms() + 50;
    struct timespec ts = *until;

    if (ts.tv_sec * 1000 + ts.tv_nsec / 1000000 > soon)
        ts = (struct timespec){.tv_sec = soon / 1000, .tv_nsec = soon % 1000 * 1000000};
    return pthread_cond_timedwait(cond, lock, &ts);
}

#define pthread_create         test_pthread_create
#define pthread_cond_timedwait test_timedwait
#include "../../oss/base_pool.c"
#undef pthread_create
#undef pthread_cond_timedwait

#define PATIENCE_MS 20000

static const unsigned limit[POOL_CLASSES] = {4, 4};

static void sleep_ms(int64_t ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

struct counted {
    struct job job;
    atomic_int *counter;
    atomic_int *gate;
};

static void run_counted(struct job *job)
{
    struct counted *c = list_entry(job, struct counted, job);

    while (c->gate && !atomic_load(c->gate))
        sleep_ms(1);
    atomic_fetch_add(c->counter, 1);
}

static void submit(struct pool *pool, struct counted *c, atomic_int *counter, atomic_int *gate)
{
    *c = (struct counted){.job.run = run_counted, .counter = counter, .gate = gate};
    pool_submit(pool, POOL_META, &c->job);
}

static unsigned threads_of(struct pool *pool)
{
    unsigned n = 0;

    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < POOL_CLASSES; i++)
        n += pool->queue[i].threads;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

static void wait_for(atomic_int *value, int at_least)
{
    const int64_t until = clock_ms() + PATIENCE_MS;

    while (atomic_load(value) < at_least) {
        assert_true(clock_ms() < until);
        sleep_ms(1);
    }
}

static void wait_for_threads(struct pool *pool, unsigned n)
{
    const int64_t until = clock_ms() + PATIENCE_MS;

    while (threads_of(pool) != n) {
        assert_true(clock_ms() < until);
        sleep_ms(1);
    }
}

static int reset(void **state)
{
    (void)state;
    atomic_store(&refuse_threads, 0);
    atomic_store(&created, 0);
    atomic_store(&refused, 0);
    return 0;
}

static void test_on_demand_and_idle(void **state)
{
    struct pool *pool = pool_new(limit);
    struct counted c[8];
    atomic_int done = 0, gate = 0;

    (void)state;
    assert_int_equal(threads_of(pool), 0);
    for (int round = 1; round <= 3; round++) {
        atomic_store(&gate, 0);
        for (int i = 0; i < 8; i++)
            submit(pool, &c[i], &done, &gate);
        wait_for_threads(pool, 4);
        atomic_store(&gate, 1);
        wait_for(&done, 8 * round);
        wait_for_threads(pool, 0);
    }
    pool_free(pool);
    assert_int_equal(created, 1 + 3 * 4); /* the timer thread, and four in each round */
}

/* One after the other needs one thread. */
static void test_an_idle_thread_is_used_again(void **state)
{
    struct pool *pool = pool_new(limit);
    struct counted c[20];
    atomic_int done = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        submit(pool, &c[i], &done, NULL);
        wait_for(&done, i + 1);
        sleep_ms(2);
    }
    pool_free(pool);
    assert_true(created <= 1 + 4);
}

/* No thread at all: the job waits until the system has one again. */
static void test_no_thread_to_be_had(void **state)
{
    struct pool *pool = pool_new(limit);
    struct counted c[3];
    atomic_int done = 0;

    (void)state;
    atomic_store(&refuse_threads, 1000);
    for (int i = 0; i < 3; i++)
        submit(pool, &c[i], &done, NULL);
    wait_for(&refused, 5);
    assert_int_equal(done, 0);
    atomic_store(&refuse_threads, 0);
    wait_for(&done, 3);
    pool_free(pool);
}

/* Fewer than wanted: those that are there do the work, and the end waits for nobody who never came. */
static void test_fewer_threads_than_wanted(void **state)
{
    struct pool *pool = pool_new(limit);
    struct counted c[20];
    atomic_int done = 0, gate = 0;

    (void)state;
    submit(pool, &c[0], &done, &gate);
    wait_for_threads(pool, 1);
    atomic_store(&refuse_threads, 1000);
    for (int i = 1; i < 20; i++)
        submit(pool, &c[i], &done, &gate);
    assert_int_equal(threads_of(pool), 1);
    atomic_store(&gate, 1);
    pool_free(pool);
    assert_int_equal(done, 20);
}

/* The end of the pool while no thread can be had, and then one can. */
static void test_free_without_threads(void **state)
{
    struct pool *pool = pool_new(limit);
    struct counted c[5];
    atomic_int done = 0;

    (void)state;
    atomic_store(&refuse_threads, 8);
    for (int i = 0; i < 5; i++)
        submit(pool, &c[i], &done, NULL);
    pool_free(pool);
    assert_int_equal(done, 5);
}

static void test_no_timer_thread(void **state)
{
    (void)state;
    atomic_store(&refuse_threads, 1);
    errno = 0;
    assert_null(pool_new(limit));
    assert_int_equal(errno, EAGAIN);
}

/* The wheel against a sorted array, over times from milliseconds to years. */
static void test_wheel(void **state)
{
    static struct job jobs[300];
    uint64_t random = 88172645463325252;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct wheel w;
        struct list due;
        struct list *l;
        int64_t now = 1 + (int64_t)(random % 100000000), last = 0;
        size_t seen = 0, in = 0;

        wheel_init(&w, now);
        for (int i = 0; i < 300; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            jobs[i].due_ms = now + (int64_t)(random >> (20 + random % 43));
            if (jobs[i].due_ms <= now)
                jobs[i].due_ms = now + 1;
            wheel_add(&w, &jobs[i]);
            in++;
            if (i % 7 == 0) {
                wheel_remove(&w, &jobs[i]);
                in--;
            }
            if (i % 10 == 9) {
                /* Time passes: what is due comes, and nothing else. */
                now += 1 + (int64_t)(random % 5000);
                list_init(&due);
                wheel_advance(&w, now, &due);
                while ((l = list_pop(&due))) {
                    assert_true(list_entry(l, struct job, link)->due_ms <= now);
                    seen++;
                }
                for (int k = 0; k <= i; k++)
                    if (!list_empty(&jobs[k].link))
                        assert_true(jobs[k].due_ms > now);
            }
        }
        assert_int_equal(w.n, in - seen);
        list_init(&due);
        wheel_flush(&w, &due);
        while ((l = list_pop(&due))) {
            const int64_t when = list_entry(l, struct job, link)->due_ms;

            assert_true(when >= last);
            last = when;
            seen++;
        }
        assert_int_equal(seen, in);
        assert_int_equal(w.n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_on_demand_and_idle, reset),
        cmocka_unit_test_setup(test_an_idle_thread_is_used_again, reset),
        cmocka_unit_test_setup(test_no_thread_to_be_had, reset),
        cmocka_unit_test_setup(test_fewer_threads_than_wanted, reset),
        cmocka_unit_test_setup(test_free_without_threads, reset),
        cmocka_unit_test_setup(test_no_timer_thread, reset),
        cmocka_unit_test(test_wheel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
