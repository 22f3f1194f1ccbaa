/*
 * stats.h: what the client counts of its requests, by operation: relaxed atomics, so that counting costs nothing that
 * a request would notice. The numbers of one snapshot need not fit each other to the last request.
 *
 * The face outwards is oss_stats() and oss_latency_ms() of oss.h.
 */
#ifndef OSS_STATS_H
#define OSS_STATS_H

#include "http.h"
#include "oss.h"

#include <stdatomic.h>
#include <stdbool.h>

struct stats {
    atomic_uint_least64_t requests, retries, failures, bytes_up, bytes_down, total_ms;
    atomic_uint_least64_t errors[OSS_ERROR_CLASSES];
    atomic_uint_least64_t latency[OSS_LATENCY_BUCKETS];
};

/* A try has ended, however; `repeat`: it was not the first of its operation. */
void stats_try(struct stats *s, const struct http_reply *reply, bool repeat);

/* It was no success, and no plain answer ("not there") either. */
void stats_error(struct stats *s, enum oss_error_class klass);

/* The operation as a whole has failed. */
void stats_failure(struct stats *s);

/* What kind of failure that was; pure. */
enum oss_error_class stats_class(const struct oss_error *err, enum http_end end);

void stats_read(struct stats *s, struct oss_op_stats *out);

/* The bucket of the histogram that a time of `ms` is counted in; pure. */
unsigned stats_bucket(int64_t ms);

#endif
