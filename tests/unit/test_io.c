/* Programs write into a file while others fetch it: whatever the order, what was written stays. */
#include "cache_rig.h"
#include "flavour.h"
#include "random.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SIZE    (1u << 20)
#define READERS 4
#define WRITERS 2
#define WRITES  300
#define ROUNDS  (100 / CASES_STEP)

static struct rig rig;
static char content[SIZE], got[READERS][SIZE / READERS];

/* Writes into its own share of the file, and of what the file should be. */
struct writer {
    pthread_t thread;
    struct cfile *cf;
    unsigned number, round;
    unsigned wrong;
};

static void *write_about(void *arg)
{
    struct writer *w = arg;
    struct random rng = {w->round * WRITERS + w->number};
    const size_t share = SIZE / WRITERS;

    for (unsigned i = 0; i < WRITES; i++) {
        size_t n = 1 + random_below(&rng, 3000), at = w->number * share + random_below(&rng, share - n);

        rig_bytes(content + at, n, random_u64(&rng));
        w->wrong += cfile_write(w->cf, content + at, n, at, false) != (ssize_t)n;
    }
    return NULL;
}

static void test_write_while_fetched(void **state)
{
    struct cfile *cf = rig_create(&rig, "a");

    (void)state;
    rig_bytes(content, SIZE, 1);
    assert_int_equal(cfile_write(cf, content, SIZE, 0, false), SIZE);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct writer writers[WRITERS];
        struct rig_call *reads[READERS];

        assert_int_equal(rig_flush(cf), 0);
        rig_expect(&rig, "a", content, SIZE);
        cfile_close(cf, true);
        evict_shrink_to(rig.cache, 0);
        cf = rig_open(&rig, "a");
        assert_non_null(cf);
        for (unsigned i = 0; i < READERS; i++)
            reads[i] = rig_read_begin(cf, got[i], SIZE / READERS, i * (SIZE / READERS));
        for (unsigned i = 0; i < WRITERS; i++) {
            writers[i] = (struct writer){.cf = cf, .number = i, .round = round};
            assert_int_equal(pthread_create(&writers[i].thread, NULL, write_about, &writers[i]), 0);
        }
        for (unsigned i = 0; i < WRITERS; i++) {
            pthread_join(writers[i].thread, NULL);
            assert_int_equal(writers[i].wrong, 0);
        }
        for (unsigned i = 0; i < READERS; i++)
            assert_int_equal(rig_wait(reads[i], "read"), SIZE / READERS);
        rig_expect_file(cf, content, SIZE);
    }
    cfile_close(cf, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(test_write_while_fetched, rig_setup, rig_teardown, &rig),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
