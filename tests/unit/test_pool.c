/*
 * The worker pool: order, limits, classes that do not starve each other, delays, taking back, and the end.
 */
#include "../../oss/base_pool.h"
#include "../../oss/base_time.h"
#include "random.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* How long a test waits for what should come at once, on a busy machine and under sanitizers. */
#define PATIENCE_MS 20000

static const unsigned few[POOL_CLASSES] = {2, 2};
static const unsigned one[POOL_CLASSES] = {1, 1};

static void sleep_ms(int64_t ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void wait_for(atomic_int *value, int at_least)
{
    const int64_t until = clock_ms() + PATIENCE_MS;

    while (atomic_load(value) < at_least) {
        if (clock_ms() > until)
            fail_msg("waited for %d, there are %d", at_least, atomic_load(value));
        sleep_ms(1);
    }
}

/* A job that counts, and may wait for a gate. */
struct counted {
    struct job job;
    atomic_int *counter;
    atomic_int *gate; /* runs until this is not 0, when there is one */
    int64_t ran_at;
    int order; /* value of the counter when it ran */
};

static void run_counted(struct job *job)
{
    struct counted *c = list_entry(job, struct counted, job);

    while (c->gate && !atomic_load(c->gate))
        sleep_ms(1);
    c->ran_at = clock_ms();
    c->order = atomic_fetch_add(c->counter, 1);
}

static struct counted *make(size_t n, atomic_int *counter, atomic_int *gate)
{
    struct counted *c = calloc(n, sizeof *c);

    assert_non_null(c);
    for (size_t i = 0; i < n; i++) {
        c[i].job.run = run_counted;
        c[i].counter = counter;
        c[i].gate = gate;
    }
    return c;
}

static void test_runs_all(void **state)
{
    struct pool *pool = pool_new(few);
    atomic_int done = 0;
    struct counted *c = make(5000, &done, NULL);

    (void)state;
    assert_non_null(pool);
    for (int i = 0; i < 5000; i++)
        pool_submit(pool, i % 2 ? POOL_META : POOL_BULK, &c[i].job);
    pool_free(pool);
    assert_int_equal(done, 5000);
    free(c);
}

static void test_first_in_first_out(void **state)
{
    struct pool *pool = pool_new(one);
    atomic_int done = 0, gate = 0;
    struct counted *c = make(200, &done, &gate);

    (void)state;
    for (int i = 0; i < 200; i++)
        pool_submit(pool, POOL_META, &c[i].job);
    atomic_store(&gate, 1);
    pool_free(pool);
    for (int i = 0; i < 200; i++)
        assert_int_equal(c[i].order, i);
    free(c);
}

/* Never more jobs at once than the class has threads, and all of those when there is work. */
static atomic_int inside, most;

static void run_inside(struct job *job)
{
    struct counted *c = list_entry(job, struct counted, job);
    const int now = atomic_fetch_add(&inside, 1) + 1;
    int seen = atomic_load(&most);

    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        ;
    sleep_ms(3);
    for (int i = 0; i < 10000 && atomic_load(&most) < 7; i++)
        sleep_ms(1);
    atomic_fetch_sub(&inside, 1);
    atomic_fetch_add(c->counter, 1);
}

static void test_limit(void **state)
{
    static const unsigned limit[POOL_CLASSES] = {1, 7};
    struct pool *pool = pool_new(limit);
    atomic_int done = 0;
    struct counted *c = make(200, &done, NULL);

    (void)state;
    atomic_store(&most, 0);
    for (int i = 0; i < 200; i++) {
        c[i].job.run = run_inside;
        pool_submit(pool, POOL_BULK, &c[i].job);
    }
    pool_free(pool);
    assert_int_equal(done, 200);
    assert_int_equal(most, 7);
    free(c);
}

/* 200 transfers that hang: a metadata job runs at once all the same. */
static void test_bulk_does_not_starve_meta(void **state)
{
    struct pool *pool = pool_new(few);
    atomic_int bulk_done = 0, meta_done = 0, gate = 0;
    struct counted *bulk = make(200, &bulk_done, &gate), *meta = make(50, &meta_done, NULL);
    int64_t start, delayed;

    (void)state;
    for (int i = 0; i < 200; i++)
        pool_submit(pool, POOL_BULK, &bulk[i].job);
    start = clock_ms();
    for (int i = 0; i < 50; i++)
        pool_submit_after(pool, POOL_META, &meta[i].job, i % 2 ? 0 : 10);
    wait_for(&meta_done, 50);
    delayed = clock_ms() - start;
    assert_int_equal(bulk_done, 0);
    assert_true(delayed < PATIENCE_MS / 2);
    atomic_store(&gate, 1);
    pool_free(pool);
    assert_int_equal(bulk_done, 200);
    free(bulk);
    free(meta);
}

static void test_delay(void **state)
{
    static const int64_t delays[] = {150, 0, 30, 100, -5, 1, 64, 63, 65, 30};
    struct pool *pool = pool_new(few);
    atomic_int done = 0;
    struct counted *c = make(10, &done, NULL);
    const int64_t start = clock_ms();

    (void)state;
    for (int i = 0; i < 10; i++)
        pool_submit_after(pool, POOL_META, &c[i].job, delays[i]);
    wait_for(&done, 10);
    for (int i = 0; i < 10; i++) {
        const int64_t took = c[i].ran_at - start;

        /* A clock of whole milliseconds may show one less. */
        if (took < delays[i] - 1 || took > delays[i] + PATIENCE_MS / 2)
            fail_msg("a delay of %d ms took %d", (int)delays[i], (int)took);
    }
    pool_free(pool);
    free(c);
}

/* 10,000 of them at random times, half taken back, in order and none early; quick to set and to take back. */
static void test_many_delays(void **state)
{
    enum { N = 10000 };
    struct pool *pool = pool_new(one);
    struct random random = {.state = 4};
    atomic_int done = 0;
    struct counted *c = make(N, &done, NULL);
    int64_t *due = calloc(N, sizeof *due);
    int64_t start, spent;
    int taken = 0;

    (void)state;
    start = clock_ms();
    for (int i = 0; i < N; i++) {
        const int64_t delay = 500 + (int64_t)random_below(&random, 1500);

        pool_submit_after(pool, POOL_META, &c[i].job, delay);
        due[i] = start + delay;
    }
    for (int i = 0; i < N; i += 2)
        if (pool_cancel(pool, &c[i].job))
            taken++;
    spent = clock_ms() - start;
    print_message("10000 set, 5000 taken back: %d ms\n", (int)spent);
    assert_true(spent < PATIENCE_MS / 4);
    wait_for(&done, N - taken);
    for (int i = 1; i < N; i += 2)
        assert_true(c[i].ran_at >= due[i] - 1);
    /* Taken back means not run, now or later. */
    pool_free(pool);
    assert_int_equal(done, N - taken);
    assert_true(taken > 0);
    free(due);
    free(c);
}

static void test_cancel(void **state)
{
    struct pool *pool = pool_new(one);
    atomic_int done = 0, gate = 0;
    struct counted *c = make(4, &done, &gate);

    (void)state;
    pool_submit_after(pool, POOL_META, &c[0].job, 3600000);
    assert_true(pool_cancel(pool, &c[0].job));
    assert_false(pool_cancel(pool, &c[0].job));
    /* It is the caller's again: it may be submitted once more. */
    pool_submit_after(pool, POOL_META, &c[0].job, 7200000);
    assert_true(pool_cancel(pool, &c[0].job));
    pool_submit(pool, POOL_META, &c[0].job);
    pool_submit(pool, POOL_META, &c[1].job);
    assert_false(pool_cancel(pool, &c[0].job));
    assert_false(pool_cancel(pool, &c[1].job));
    pool_submit_after(pool, POOL_META, &c[2].job, 1);
    sleep_ms(50);
    /* Due, and queued behind the one that waits for the gate. */
    const bool taken = pool_cancel(pool, &c[2].job);

    atomic_store(&gate, 1);
    pool_free(pool);
    assert_int_equal(done, taken ? 2 : 3);
    free(c);
}

/* An earlier job than all others is noticed though the timer thread sleeps until the others. */
static void test_earlier_than_the_rest(void **state)
{
    struct pool *pool = pool_new(few);
    atomic_int done = 0, late = 0;
    struct counted *c = make(2, &done, NULL);
    int64_t start;

    (void)state;
    c[0].counter = &late;
    pool_submit_after(pool, POOL_META, &c[0].job, 3600000);
    sleep_ms(20);
    start = clock_ms();
    pool_submit_after(pool, POOL_META, &c[1].job, 20);
    wait_for(&done, 1);
    assert_true(clock_ms() - start < PATIENCE_MS / 2);
    assert_int_equal(late, 0);
    pool_free(pool);
    assert_int_equal(late, 1);
    free(c);
}

/* The end: what is delayed runs at once, in the order of its times, and so does what those jobs submit. */
struct chain {
    struct job job;
    struct pool *pool;
    atomic_int *counter;
    int left;
};

static void run_chain(struct job *job)
{
    struct chain *c = list_entry(job, struct chain, job);

    atomic_fetch_add(c->counter, 1);
    if (!c->left--) {
        free(c);
    } else if (c->left % 3 == 0) {
        pool_submit_after(c->pool, POOL_META, job, 3600000);
    } else {
        pool_submit(c->pool, c->left % 2 ? POOL_BULK : POOL_META, job);
    }
}

static void test_free_drains(void **state)
{
    struct pool *pool = pool_new(one);
    atomic_int done = 0, chained = 0;
    struct counted *c = make(100, &done, NULL);
    const int64_t start = clock_ms();

    (void)state;
    for (int i = 0; i < 100; i++)
        pool_submit_after(pool, POOL_BULK, &c[i].job, 3600000 + (i * 37 % 100) * INT64_C(100000000));
    for (int i = 0; i < 10; i++) {
        struct chain *chain = calloc(1, sizeof *chain);

        chain->job.run = run_chain;
        chain->pool = pool;
        chain->counter = &chained;
        chain->left = 20;
        pool_submit_after(pool, POOL_META, &chain->job, i ? 3600000 : 0);
    }
    sleep_ms(20);
    pool_free(pool);
    assert_true(clock_ms() - start < PATIENCE_MS);
    assert_int_equal(done, 100);
    assert_int_equal(chained, 210);
    for (int i = 0; i < 100; i++)
        assert_int_equal(c[i].order, i * 37 % 100);
    free(c);
}

static void test_free_of_an_unused_pool(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        pool_free(pool_new(few));
    pool_free(NULL);
}

/* Several threads submit, delay and take back at once (for the thread sanitizer above all). */
struct submitter {
    struct pool *pool;
    struct counted *c;
    unsigned seed;
    int taken;
};

static void *submit_many(void *arg)
{
    struct submitter *s = arg;
    struct random random = {.state = s->seed};

    for (int i = 0; i < 1000; i++) {
        const enum pool_class klass = random_one_in(&random, 2) ? POOL_META : POOL_BULK;

        if (random_one_in(&random, 2)) {
            pool_submit(s->pool, klass, &s->c[i].job);
        } else {
            pool_submit_after(s->pool, klass, &s->c[i].job, (int64_t)random_below(&random, 40));
            if (random_one_in(&random, 3) && pool_cancel(s->pool, &s->c[i].job))
                s->taken++;
        }
    }
    return NULL;
}

static void test_many_submitters(void **state)
{
    static const unsigned limit[POOL_CLASSES] = {3, 2};
    struct pool *pool = pool_new(limit);
    struct submitter s[4];
    pthread_t threads[4];
    atomic_int done = 0;
    int taken = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        s[i] = (struct submitter){.pool = pool, .c = make(1000, &done, NULL), .seed = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &s[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        taken += s[i].taken;
    }
    pool_free(pool);
    assert_int_equal(done, 4000 - taken);
    for (int i = 0; i < 4; i++)
        free(s[i].c);
}

/* Signals are for the main thread, and a job has the stack that curl with TLS needs. */
static void run_signal_and_stack(struct job *job)
{
    struct counted *c = list_entry(job, struct counted, job);
    volatile char stack[300 * 1024];
    sigset_t blocked;

    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 1;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    c->order = sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT) && stack[1024];
    atomic_fetch_add(c->counter, 1);
}

static void test_threads_of_the_pool(void **state)
{
    struct pool *pool = pool_new(few);
    atomic_int done = 0;
    struct counted *c = make(1, &done, NULL);
    sigset_t blocked;

    (void)state;
    c->job.run = run_signal_and_stack;
    pool_submit(pool, POOL_META, &c->job);
    pool_free(pool);
    assert_int_equal(c->order, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_false(sigismember(&blocked, SIGTERM));
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_all),        cmocka_unit_test(test_first_in_first_out),
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_bulk_does_not_starve_meta),
        cmocka_unit_test(test_delay),           cmocka_unit_test(test_many_delays),
        cmocka_unit_test(test_cancel),          cmocka_unit_test(test_earlier_than_the_rest),
        cmocka_unit_test(test_free_drains),     cmocka_unit_test(test_free_of_an_unused_pool),
        cmocka_unit_test(test_many_submitters), cmocka_unit_test(test_threads_of_the_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
