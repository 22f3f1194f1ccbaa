/*
 * stats.h: what was asked: counters by operation, and the last requests one by one.
 *
 * A request is counted before its answer leaves, so that who has the answer finds it counted; bytes_out is therefore
 * the length of the body that the answer announces. Thread-safe.
 */
#ifndef OSSD_STATS_H
#define OSSD_STATS_H

#include "util.h"

#define STATS_OPS  48
#define STATS_RING 131072 /* requests kept */

struct stats_entry {
    int op;
    int status; /* 0: no answer was sent */
    const char *bucket, *code, *request_id;
    struct bytes key;
    const char *range, *source, *query; /* or NULL: Range or copy-source-range, copy source, raw query */
    const char *sent; /* or NULL: "name: value" lines of headers that leave no trace in what is stored */
    uint64_t bytes_in, bytes_out;
    int64_t ms;
};

struct stats;
struct stats *stats_new(const char *const *op_names, size_t n);
void stats_free(struct stats *stats);
void stats_connection(struct stats *stats, bool opened);
void stats_add(struct stats *stats, const struct stats_entry *entry);
void stats_reset(struct stats *stats); /* the counters; the log keeps its sequence */
void stats_counters_json(struct stats *stats, struct sbuf *out);
/* Requests with a sequence number above `since`, at most `limit` (0: all there are). */
void stats_log_json(struct stats *stats, uint64_t since, uint64_t limit, struct sbuf *out);

#endif
