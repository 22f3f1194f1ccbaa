/* stats.c: see stats.h. */
#include "stats.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct op_count {
    uint64_t requests, bytes_in, bytes_out, errors;
};

struct stats {
    const char *const *names;
    size_t n;
    pthread_mutex_t lock;
    struct op_count ops[STATS_OPS]; /* lock */
    uint64_t connections, open;     /* lock */
    uint64_t seq;                   /* lock; of the newest request */
    char *ring[STATS_RING];         /* lock; request s is at s % STATS_RING, as the members of a JSON object */
};

struct stats *stats_new(const char *const *op_names, size_t n)
{
    struct stats *stats = xcalloc(1, sizeof *stats);

    stats->names = op_names;
    stats->n = n < STATS_OPS ? n : STATS_OPS;
    pthread_mutex_init(&stats->lock, NULL);
    return stats;
}

void stats_free(struct stats *stats)
{
    if (!stats)
        return;
    for (size_t i = 0; i < STATS_RING; i++)
        free(stats->ring[i]);
    pthread_mutex_destroy(&stats->lock);
    free(stats);
}

void stats_connection(struct stats *stats, bool opened)
{
    pthread_mutex_lock(&stats->lock);
    if (opened) {
        stats->connections++;
        stats->open++;
    } else if (stats->open) {
        stats->open--;
    }
    pthread_mutex_unlock(&stats->lock);
}

static void add_text(struct sbuf *out, const char *name, const char *value)
{
    if (!value)
        return;
    sbuf_addf(out, ",\"%s\":", name);
    escape_json(out, (struct bytes){value, strlen(value)});
}

void stats_add(struct stats *stats, const struct stats_entry *e)
{
    struct sbuf text = {0};

    sbuf_reserve(&text, 255);
    add_text(&text, "op", stats->names[e->op]);
    add_text(&text, "bucket", e->bucket);
    sbuf_adds(&text, ",\"key\":");
    escape_json(&text, e->key);
    sbuf_addf(&text, ",\"status\":%d", e->status);
    add_text(&text, "code", e->code ? e->code : "");
    sbuf_addf(&text, ",\"bytes_in\":%llu,\"bytes_out\":%llu,\"ms\":%lld", (unsigned long long)e->bytes_in,
              (unsigned long long)e->bytes_out, (long long)e->ms);
    add_text(&text, "range", e->range);
    add_text(&text, "source", e->source);
    add_text(&text, "query", e->query);
    add_text(&text, "sent", e->sent);
    add_text(&text, "request_id", e->request_id);
    pthread_mutex_lock(&stats->lock);
    struct op_count *count = &stats->ops[e->op];
    count->requests++;
    count->bytes_in += e->bytes_in;
    count->bytes_out += e->bytes_out;
    count->errors += e->status == 0 || e->status >= 400;
    char **slot = &stats->ring[++stats->seq % STATS_RING], *old = *slot;
    *slot = text.p;
    pthread_mutex_unlock(&stats->lock);
    free(old);
}

void stats_reset(struct stats *stats)
{
    pthread_mutex_lock(&stats->lock);
    memset(stats->ops, 0, sizeof stats->ops);
    stats->connections = 0;
    pthread_mutex_unlock(&stats->lock);
}

void stats_counters_json(struct stats *stats, struct sbuf *out)
{
    struct op_count all = {0};
    struct sbuf by_op = {0};

    pthread_mutex_lock(&stats->lock);
    sbuf_adds(out, "{\"requests\":{");
    for (size_t i = 0; i < stats->n; i++) {
        const struct op_count *c = &stats->ops[i];
        sbuf_addf(out, "\"%s\":%llu,", stats->names[i], (unsigned long long)c->requests);
        sbuf_addf(&by_op, "%s\"%s\":{\"requests\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"errors\":%llu}",
                  i ? "," : "", stats->names[i], (unsigned long long)c->requests, (unsigned long long)c->bytes_in,
                  (unsigned long long)c->bytes_out, (unsigned long long)c->errors);
        all.requests += c->requests;
        all.bytes_in += c->bytes_in;
        all.bytes_out += c->bytes_out;
        all.errors += c->errors;
    }
    sbuf_addf(out,
              "\"total\":%llu},\"bytes_in\":%llu,\"bytes_out\":%llu,\"errors\":%llu,\"connections\":%llu,"
              "\"connections_open\":%llu,\"seq\":%llu,\"by_op\":{%s}}\n",
              (unsigned long long)all.requests, (unsigned long long)all.bytes_in, (unsigned long long)all.bytes_out,
              (unsigned long long)all.errors, (unsigned long long)stats->connections, (unsigned long long)stats->open,
              (unsigned long long)stats->seq, by_op.p);
    pthread_mutex_unlock(&stats->lock);
    sbuf_free(&by_op);
}

void stats_log_json(struct stats *stats, uint64_t since, uint64_t limit, struct sbuf *out)
{
    uint64_t first, n = 0;

    pthread_mutex_lock(&stats->lock);
    first = stats->seq >= STATS_RING ? stats->seq - STATS_RING + 1 : 1;
    if (since + 1 > first)
        first = since + 1;
    sbuf_addc(out, '[');
    for (uint64_t s = first; s <= stats->seq && (!limit || n < limit); s++, n++)
        sbuf_addf(out, "%s{\"seq\":%llu%s}", n ? ",\n" : "", (unsigned long long)s, stats->ring[s % STATS_RING]);
    sbuf_adds(out, "]\n");
    pthread_mutex_unlock(&stats->lock);
}
