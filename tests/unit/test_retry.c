/*
 * When a request is sent again: waits, counts, deadlines. No clock: time is handed in.
 */
#include "../../oss/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct retry started(unsigned retries, int64_t deadline_ms, bool transfer)
{
    struct retry_limits limits = {retries, deadline_ms, transfer};
    struct retry r;

    retry_begin(&r, &limits, 1000);
    return r;
}

static void full_jitter(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 40; n++) {
        int64_t most = n < 7 ? (int64_t)RETRY_BASE_MS << n : RETRY_CAP_MS;
        int64_t least = INT64_MAX, greatest = 0;

        assert_int_equal(retry_delay_ms(n, false, 0, 0), 0);
        assert_int_equal(retry_delay_ms(n, false, 0, (uint32_t)most), most);
        assert_int_equal(retry_delay_ms(n, false, 0, (uint32_t)most + 1), 0);
        for (uint32_t i = 0; i < 2000; i++) {
            int64_t d = retry_delay_ms(n, false, 0, i * 2654435761U);

            assert_in_range(d, 0, most);
            least = d < least ? d : least;
            greatest = d > greatest ? d : greatest;
        }
        /* Spread over the whole range. */
        assert_true(least < most / 20);
        assert_true(greatest > most - most / 20);
    }
}

static void the_first_repeat_is_quick(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++)
        assert_in_range(retry_delay_ms(0, true, 0, i * 40503), 0, RETRY_QUICK_MS);
    assert_int_equal(retry_delay_ms(1, true, 0, 400), 400);
}

static void the_service_may_ask_for_more(void **state)
{
    (void)state;
    assert_int_equal(retry_delay_ms(0, true, 700, 3), 700);
    assert_int_equal(retry_delay_ms(6, false, 700, 9000), 9000);
    /* But not for everything. */
    assert_int_equal(retry_delay_ms(0, false, INT64_MAX, 0), RETRY_CAP_MS);
}

static void counts(void **state)
{
    (void)state;
    for (unsigned retries = 0; retries < 6; retries++) {
        struct retry r = started(retries, 1000000, false);

        for (unsigned i = 0; i < retries; i++)
            assert_true(retry_next_ms(&r, RETRY_SERVICE, 1000, 0, 77) >= 0);
        assert_int_equal(retry_next_ms(&r, RETRY_SERVICE, 1000, 0, 77), -1);
        assert_int_equal(retry_next_ms(&r, RETRY_CONNECTION, 1000, 0, 77), -1);
    }
}

static void never_is_never(void **state)
{
    struct retry r = started(5, 1000000, false);

    (void)state;
    assert_int_equal(retry_next_ms(&r, RETRY_NEVER, 1000, 0, 0), -1);
}

/* A corrected clock is worth one more try, a renewed key a few, at once, and they do not use up the others. */
static void at_once(void **state)
{
    struct retry r = started(1, 1000000, false);

    (void)state;
    assert_int_equal(retry_next_ms(&r, RETRY_CLOCK, 1000, 5000, 12345), 0);
    assert_int_equal(retry_next_ms(&r, RETRY_CLOCK, 1000, 0, 12345), -1);
    for (unsigned i = 0; i < RETRY_KEY_MAX; i++)
        assert_int_equal(retry_next_ms(&r, RETRY_KEY, 1000, 0, 12345), 0);
    assert_int_equal(retry_next_ms(&r, RETRY_KEY, 1000, 0, 12345), -1);
    assert_true(retry_next_ms(&r, RETRY_SERVICE, 1000, 0, 12345) >= 0);
    assert_int_equal(retry_next_ms(&r, RETRY_SERVICE, 1000, 0, 12345), -1);

    r = started(0, 1000000, true);
    assert_int_equal(retry_next_ms(&r, RETRY_CLOCK, 1000, 0, 1), 0);
}

static void damaged_bytes_are_sent_again_a_few_times(void **state)
{
    struct retry r = started(20, 1000000, true);

    (void)state;
    for (unsigned i = 0; i < RETRY_CRC_MAX; i++)
        assert_true(retry_next_ms(&r, RETRY_CRC, 1000, 0, 1) >= 0);
    assert_int_equal(retry_next_ms(&r, RETRY_CRC, 1000, 0, 1), -1);
    assert_true(retry_next_ms(&r, RETRY_SERVICE, 1000, 0, 1) >= 0);
}

static void a_metadata_request_has_one_deadline(void **state)
{
    struct retry r = started(100, 30000, false);

    (void)state;
    retry_moved(&r, 25000);
    /* Repeat 0 waits 100 ms here: in time, on time, too late. */
    assert_int_equal(retry_next_ms(&r, RETRY_SERVICE, 30899, 0, 100), 100);
    r = started(100, 30000, false);
    assert_int_equal(retry_next_ms(&r, RETRY_SERVICE, 30900, 0, 100), -1);
    r = started(100, 30000, false);
    assert_int_equal(retry_next_ms(&r, RETRY_SERVICE, 50000, 0, 0), -1);
    r = started(100, 30000, false);
    assert_int_equal(retry_next_ms(&r, RETRY_SERVICE, 20000, 20000, 0), -1);
}

static void a_transfer_goes_on_while_bytes_move(void **state)
{
    struct retry r = started(100, 60000, true);

    (void)state;
    for (int64_t now = 1000; now < 3000000; now += 59000) {
        r.repeats = 0;
        assert_int_equal(retry_next_ms(&r, RETRY_CONNECTION, now, 0, 0), 0);
        retry_moved(&r, now);
    }
    r = started(100, 60000, true);
    retry_moved(&r, 5000);
    retry_moved(&r, 2000); /* time does not run backwards */
    assert_int_equal(retry_next_ms(&r, RETRY_CONNECTION, 64999, 0, 0), 0);
    r.repeats = 0;
    assert_int_equal(retry_next_ms(&r, RETRY_CONNECTION, 65000, 0, 0), -1);
}

/* One dead connection must not use up the time of a metadata request while repeats are left. */
static void the_time_of_a_try(void **state)
{
    struct retry r = started(2, 30000, false);

    (void)state;
    assert_int_equal(retry_limit_ms(&r, 1000), 15000);
    assert_int_equal(retry_limit_ms(&r, 21000), 5000);
    assert_int_equal(retry_limit_ms(&r, 28000), 2000);
    assert_int_equal(retry_limit_ms(&r, 30000), 1000);
    assert_int_equal(retry_limit_ms(&r, 31000), 1);
    assert_int_equal(retry_limit_ms(&r, 99000), 1);
    assert_true(retry_next_ms(&r, RETRY_CONNECTION, 1000, 0, 0) >= 0);
    assert_true(retry_next_ms(&r, RETRY_CONNECTION, 1000, 0, 0) >= 0);
    assert_int_equal(retry_limit_ms(&r, 11000), 20000);
    r = started(0, 30000, false);
    assert_int_equal(retry_limit_ms(&r, 1000), 30000);
    r = started(2, 30000, true);
    assert_int_equal(retry_limit_ms(&r, 1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_jitter),
        cmocka_unit_test(the_first_repeat_is_quick),
        cmocka_unit_test(the_service_may_ask_for_more),
        cmocka_unit_test(counts),
        cmocka_unit_test(never_is_never),
        cmocka_unit_test(at_once),
        cmocka_unit_test(damaged_bytes_are_sent_again_a_few_times),
        cmocka_unit_test(a_metadata_request_has_one_deadline),
        cmocka_unit_test(a_transfer_goes_on_while_bytes_move),
        cmocka_unit_test(the_time_of_a_try),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
