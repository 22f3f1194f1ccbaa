#include "retry.h"

/* A try gets at least so much of a metadata request's time. */
#define TRY_MIN_MS 2000

void retry_begin(struct retry *r, const struct retry_limits *limits, int64_t now_ms)
{
    *r = (struct retry){.limits = *limits, .from_ms = now_ms};
}

void retry_moved(struct retry *r, int64_t when_ms)
{
    if (r->limits.transfer && when_ms > r->from_ms)
        r->from_ms = when_ms;
}

int64_t retry_limit_ms(const struct retry *r, int64_t now_ms)
{
    int64_t left = r->from_ms + r->limits.deadline_ms - now_ms;
    int64_t limit = left;

    if (r->limits.transfer)
        return 0;
    if (r->repeats < r->limits.retries) {
        limit = left / 2;
        if (limit < TRY_MIN_MS)
            limit = left < TRY_MIN_MS ? left : TRY_MIN_MS;
    }
    return limit > 1 ? limit : 1;
}

int64_t retry_delay_ms(unsigned n, bool quick, int64_t asked_ms, uint32_t random)
{
    int64_t most = RETRY_CAP_MS;
    int64_t delay;

    if (quick && n == 0)
        most = RETRY_QUICK_MS;
    else if (n < 10 && ((int64_t)RETRY_BASE_MS << n) < RETRY_CAP_MS)
        most = (int64_t)RETRY_BASE_MS << n;
    delay = random % (most + 1);
    if (asked_ms > RETRY_CAP_MS)
        asked_ms = RETRY_CAP_MS;
    return delay > asked_ms ? delay : asked_ms;
}

/* Takes one repeat of the kind; false when there is none left. */
static bool repeat_take(struct retry *r, enum retry_cause cause)
{
    bool first;

    switch (cause) {
    case RETRY_NEVER:
        return false;
    case RETRY_CLOCK:
        first = !r->clock;
        r->clock = true;
        return first;
    case RETRY_KEY:
        return r->keys++ < RETRY_KEY_MAX;
    case RETRY_CRC:
        if (r->crc >= RETRY_CRC_MAX)
            return false;
        r->crc++;
        break;
    case RETRY_CONNECTION:
    case RETRY_SERVICE:
        break;
    }
    return r->repeats < r->limits.retries;
}

int64_t retry_next_ms(struct retry *r, enum retry_cause cause, int64_t now_ms, int64_t asked_ms, uint32_t random)
{
    bool at_once = cause == RETRY_CLOCK || cause == RETRY_KEY;
    int64_t delay = 0;

    if (!repeat_take(r, cause))
        return -1;
    if (!at_once) {
        delay = retry_delay_ms(r->repeats, cause == RETRY_CONNECTION || cause == RETRY_CRC, asked_ms, random);
        r->repeats++;
    }
    return now_ms + delay - r->from_ms < r->limits.deadline_ms ? delay : -1;
}
