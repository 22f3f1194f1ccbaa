/*
 * retry.h: whether a request is sent again, and when.
 *
 * Pure: the clock and the random number are handed in. One struct retry goes with one operation.
 *
 * The wait before repeat n (n = 0, 1, ...) is drawn from [0, min(200 ms x 2^n, 20 s)], except that the first repeat
 * after a broken connection comes within 50 ms: most often a kept connection had died. A wait that the service
 * asked for (x-oss-qos-delay-time) is the least.
 *
 * A request without a body has one deadline for all its tries. A transfer may take as long as bytes move; it is
 * given up when none has moved for transfer_deadline_ms.
 */
#ifndef OSS_RETRY_H
#define OSS_RETRY_H

#include "oss.h"

#include <stdbool.h>
#include <stdint.h>

#define RETRY_QUICK_MS 50
#define RETRY_BASE_MS  200
#define RETRY_CAP_MS   20000
#define RETRY_KEY_MAX  8 /* other keys tried: those that live for seconds may run out on the way, each anew */
#define RETRY_CRC_MAX  2 /* repeats after a checksum that does not fit: a source that changes will change again */

/* Why the last try is not the end. */
enum retry_cause {
    RETRY_NEVER,      /* a repeat would meet the same */
    RETRY_CONNECTION, /* no connection, or a broken one */
    RETRY_SERVICE,    /* 5xx, 429, a reply that cannot be believed */
    RETRY_CRC,        /* bytes were damaged on the way, or changed at the source */
    RETRY_CLOCK,      /* the clock offset was corrected: once, at once */
    RETRY_KEY,        /* there is another access key now: at once */
};

struct retry_limits {
    unsigned retries;    /* tries after the first */
    int64_t deadline_ms; /* metadata: all tries together; transfer: without progress */
    bool transfer;
};

struct retry {
    struct retry_limits limits;
    int64_t from_ms;  /* the deadline counts from here */
    unsigned repeats; /* that count against limits.retries */
    unsigned crc, keys;
    bool clock;
};

void retry_begin(struct retry *r, const struct retry_limits *limits, int64_t now_ms);

/* Bytes of a body moved at `when_ms`: what a transfer's deadline counts from. */
void retry_moved(struct retry *r, int64_t when_ms);

/*
 * How long the next try may take: the rest of a metadata request's time, but not all of it while repeats are left,
 * so that one dead connection does not use it up. 0: no limit (transfer).
 */
int64_t retry_limit_ms(const struct retry *r, int64_t now_ms);

/* The wait before the next try, or -1: no more. `asked_ms`: what the service asked for, 0 when nothing. */
int64_t retry_next_ms(struct retry *r, enum retry_cause cause, int64_t now_ms, int64_t asked_ms, uint32_t random);

/* The wait for repeat n alone, without deadline and counts. */
int64_t retry_delay_ms(unsigned n, bool quick, int64_t asked_ms, uint32_t random);

#endif
