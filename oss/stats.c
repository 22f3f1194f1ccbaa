#include "stats.h"

#include <errno.h>
#include <string.h>

const uint32_t oss_latency_bounds[OSS_LATENCY_BUCKETS - 1] = {
    1,   2,   3,   5,   7,    10,   15,   20,   30,   50,   70,    100,   150,
    200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10000, 20000, 60000,
};

const char *oss_error_class_name(enum oss_error_class klass)
{
    static const char *const names[OSS_ERROR_CLASSES] = {
        [OSS_ERRORS_NETWORK] = "network", [OSS_ERRORS_TIMEOUT] = "timeout", [OSS_ERRORS_THROTTLED] = "throttled",
        [OSS_ERRORS_SERVER] = "server",   [OSS_ERRORS_DENIED] = "denied",   [OSS_ERRORS_REQUEST] = "request",
        [OSS_ERRORS_DATA] = "data",
    };

    return (unsigned)klass < OSS_ERROR_CLASSES ? names[klass] : "?";
}

static void add(atomic_uint_least64_t *counter, uint64_t n)
{
    if (n)
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t get(atomic_uint_least64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

unsigned stats_bucket(int64_t ms)
{
    unsigned i = 0;

    while (i < OSS_LATENCY_BUCKETS - 1 && ms > (int64_t)oss_latency_bounds[i])
        i++;
    return i;
}

void stats_try(struct stats *s, const struct http_reply *reply, bool repeat)
{
    add(&s->requests, 1);
    add(&s->retries, repeat);
    add(&s->bytes_up, reply->up);
    add(&s->bytes_down, reply->down);
    add(&s->total_ms, (uint64_t)reply->took_ms);
    add(&s->latency[stats_bucket(reply->took_ms)], 1);
}

void stats_error(struct stats *s, enum oss_error_class klass)
{
    add(&s->errors[klass], 1);
}

void stats_failure(struct stats *s)
{
    add(&s->failures, 1);
}

enum oss_error_class stats_class(const struct oss_error *err, enum http_end end)
{
    if (end == HTTP_TIMEOUT || err->err == -ETIMEDOUT)
        return OSS_ERRORS_TIMEOUT;
    if (end == HTTP_UNREACHED || end == HTTP_LOST)
        return OSS_ERRORS_NETWORK;
    if (err->status == 429 || err->status == 503)
        return OSS_ERRORS_THROTTLED;
    if (err->status >= 500)
        return OSS_ERRORS_SERVER;
    if (!strcmp(err->code, "InvalidCRC64") || !strcmp(err->code, "InvalidDigest") || err->status < 300)
        return OSS_ERRORS_DATA;
    if (err->status == 401 || err->status == 403)
        return OSS_ERRORS_DENIED;
    return OSS_ERRORS_REQUEST;
}

void stats_read(struct stats *s, struct oss_op_stats *out)
{
    *out = (struct oss_op_stats){
        .requests = get(&s->requests),
        .retries = get(&s->retries),
        .failures = get(&s->failures),
        .bytes_up = get(&s->bytes_up),
        .bytes_down = get(&s->bytes_down),
        .total_ms = get(&s->total_ms),
    };
    for (unsigned i = 0; i < OSS_ERROR_CLASSES; i++)
        out->errors[i] = get(&s->errors[i]);
    for (unsigned i = 0; i < OSS_LATENCY_BUCKETS; i++)
        out->latency[i] = get(&s->latency[i]);
}

double oss_latency_ms(const struct oss_op_stats *stats, double part)
{
    uint64_t total = 0, below = 0;
    double wanted;

    for (unsigned i = 0; i < OSS_LATENCY_BUCKETS; i++)
        total += stats->latency[i];
    if (!total)
        return 0;
    wanted = part * (double)total;
    for (unsigned i = 0; i < OSS_LATENCY_BUCKETS - 1; i++) {
        uint64_t n = stats->latency[i];
        double from = i ? oss_latency_bounds[i - 1] : 0;

        if (n && (double)(below + n) >= wanted)
            return from + (oss_latency_bounds[i] - from) * (wanted - (double)below) / (double)n;
        below += n;
    }
    return oss_latency_bounds[OSS_LATENCY_BUCKETS - 2]; /* at least that */
}
