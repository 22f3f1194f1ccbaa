#include "render.h"

#include "format.h"

#include "../oss/error.h"

#include <stdio.h>
#include <string.h>

#define SCREEN_FILES 10 /* of each kind; the rest is a number */

/* Milliseconds until all is sent at the pace so far; -1: cannot be told. */
static int64_t time_left(uint64_t sent, uint64_t total, int64_t ms)
{
    if (sent == 0 || ms <= 0 || sent > total)
        return -1;
    return (int64_t)((double)(total - sent) / (double)sent * (double)ms);
}

static uint64_t rate(uint64_t sent, int64_t ms)
{
    return ms > 0 ? (uint64_t)((double)sent * 1000 / (double)ms) : 0;
}

static uint64_t errors_of(const struct oss_op_stats *s)
{
    uint64_t n = 0;

    for (unsigned k = 0; k < OSS_ERROR_CLASSES; k++)
        n += s->errors[k];
    return n;
}

/* "403 AccessDenied (words), request id X", or the errno's name. */
static void add_cause(struct buf *out, const struct oss_error *err)
{
    char text[512];

    oss_error_format(err, text, sizeof(text));
    /* The service's words may hold anything. */
    format_name(out, err->err && !err->status && !err->message[0] ? strerror(-err->err) : text, 0, 0);
}

/* ----------------------------------------------------------------------------------------------- screen */

static void screen_more(struct buf *out, const struct status_list *list, size_t shown)
{
    if (list->total > shown)
        buf_addf(out, "  ... and %zu more\n", list->total - shown);
}

/* "  name  [####----]  41 %  1.2 GiB of 3.0 GiB  12.3 MiB/s  2 min 25 s left" */
static void screen_sending(struct buf *out, const struct status_file *f, unsigned columns)
{
    char sent[FORMAT_SIZE], total[FORMAT_SIZE], pace[FORMAT_SIZE], left[FORMAT_SIZE], tail[160];
    /* All has left, and the bucket has not answered: how long that takes nobody knows. */
    int64_t ms = f->sent == f->total ? -1 : time_left(f->sent, f->total, f->sending_ms);
    unsigned percent = f->total ? (unsigned)((double)f->sent / (double)f->total * 100) : 0;
    unsigned bar = columns >= 120 ? 30 : columns >= 90 ? 20 : 10, room;

    if (!f->total) {
        buf_adds(out, "  ");
        format_name(out, f->key, columns > 20 ? columns - 20 : 0, 0);
        buf_adds(out, "  attributes\n");
        return;
    }
    snprintf(tail, sizeof(tail), " %3u %%  %s of %s  %s/s%s%s", percent, format_bytes(sent, f->sent),
             format_bytes(total, f->total), format_bytes(pace, rate(f->sent, f->sending_ms)), ms < 0 ? "" : "  ",
             ms < 0 ? "" : format_duration(left, ms));
    room = columns > strlen(tail) + bar + 12 ? columns - (unsigned)strlen(tail) - bar - 12 : 8;
    buf_adds(out, "  ");
    format_name(out, f->key, room, 1);
    buf_adds(out, " ");
    format_bar(out, f->sent, f->total, bar);
    buf_addf(out, "%s%s\n", tail,
             f->open && f->sent == f->total ? "  being written"
             : ms >= 0                      ? " left"
             : f->sent == f->total          ? "  finishing"
                                            : "");
    if (f->err.err) {
        buf_adds(out, "    tried before: ");
        add_cause(out, &f->err);
        buf_adds(out, "\n");
    }
}

static void screen_pending(struct buf *out, const struct status_file *f, time_t now, unsigned columns)
{
    char size[FORMAT_SIZE], since[FORMAT_SIZE];

    buf_adds(out, "  ");
    format_name(out, f->key, columns > 60 ? columns - 50 : 10, 1);
    buf_addf(out, "  %s, changed %s ago%s\n", f->attributes ? "attributes" : format_bytes(size, f->size),
             format_duration(since, (int64_t)(now - f->changed) * 1000), f->open ? ", still open" : "");
}

static void screen_failed(struct buf *out, const struct status_file *f, unsigned columns)
{
    char size[FORMAT_SIZE], since[FORMAT_SIZE], next[FORMAT_SIZE];

    buf_adds(out, "  ");
    format_name(out, f->key, columns > 30 ? columns - 15 : 0, 0);
    buf_addf(out, "  %s\n    ", f->attributes ? "attributes" : format_bytes(size, f->size));
    add_cause(out, &f->err);
    buf_addf(out, "\n    since %s, %u %s, %s%s\n", f->failed_since ? format_time(since, f->failed_since) : "?",
             f->failures, f->failures == 1 ? "failure" : "failures",
             f->next_ms < 0 ? "not tried again by itself" : "again in ",
             f->next_ms < 0 ? "" : format_duration(next, f->next_ms));
}

static void screen_requests(struct buf *out, const struct render *r)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], up[FORMAT_SIZE], down[FORMAT_SIZE];
    bool any = false;

    for (unsigned i = 0; i < OSS_OPS; i++) {
        const struct oss_op_stats *s = &r->ops[i];

        if (!s->requests)
            continue;
        if (!any)
            buf_adds(out, "requests                    number retries  errors      p50      p90      p99         up "
                          "      down\n");
        any = true;
        buf_addf(out, "  %-24s %7llu %7llu %7llu %8s %8s %8s %10s %10s\n", oss_op_name((enum oss_op)i),
                 (unsigned long long)s->requests, (unsigned long long)s->retries, (unsigned long long)errors_of(s),
                 format_latency(a, oss_latency_ms(s, 0.5)), format_latency(b, oss_latency_ms(s, 0.9)),
                 format_latency(c, oss_latency_ms(s, 0.99)), format_bytes(up, s->bytes_up),
                 format_bytes(down, s->bytes_down));
    }
}

static void screen_head(struct buf *out, const struct render *r)
{
    const struct cache_status *c = r->cache;
    char up[FORMAT_SIZE], used[FORMAT_SIZE], limit[FORMAT_SIZE], unsent[FORMAT_SIZE], free_now[FORMAT_SIZE],
        since[FORMAT_SIZE];
    size_t n = c->sending.total + c->pending.total + c->failed.total;

    format_name(out, r->source, 0, 0);
    buf_adds(out, " on ");
    format_name(out, r->mountpoint, 0, 0);
    buf_addf(out, "%s, for %s, process %ld\n", r->read_only ? ", read-only" : "",
             format_duration(up, (int64_t)(r->now - r->started) * 1000), (long)r->pid);
    buf_addf(out, "cache  %s of %s, disk free %s", format_bytes(used, c->cached_bytes),
             format_bytes(limit, c->cache_size), format_bytes(free_now, c->disk_free));
    if (n)
        buf_addf(out, "; unsent: %zu %s, %s\n", n, n == 1 ? "file" : "files",
                 format_bytes(unsent, c->sending.bytes + c->pending.bytes + c->failed.bytes));
    else
        buf_adds(out, "; all is sent\n");
    buf_addf(out, "inodes %zu of %zu\n", r->inodes, r->max_inodes);
    if (c->disk_free < c->disk_guard)
        buf_addf(out, "       the disk has less than the %s that free_space= leaves free\n",
                 format_bytes(used, c->disk_guard));
    if (c->writes_refused)
        buf_addf(out, "writes are refused since %s: the access key may not write (mount with -o ro?)\n",
                 format_time(since, c->writes_refused));
}

void render_screen(struct buf *out, const struct render *r, unsigned columns)
{
    const struct cache_status *c = r->cache;

    if (columns < 40)
        columns = 80;
    screen_head(out, r);
    if (c->sending.total)
        buf_addf(out, "sending %zu\n", c->sending.total);
    for (size_t i = 0; i < c->sending.n && i < SCREEN_FILES; i++)
        screen_sending(out, &c->sending.v[i], columns);
    screen_more(out, &c->sending, SCREEN_FILES);
    if (c->pending.total)
        buf_addf(out, "waiting %zu\n", c->pending.total);
    for (size_t i = 0; i < c->pending.n && i < SCREEN_FILES; i++)
        screen_pending(out, &c->pending.v[i], r->now, columns);
    screen_more(out, &c->pending, SCREEN_FILES);
    if (c->failed.total)
        buf_addf(out, "failed %zu\n", c->failed.total);
    for (size_t i = 0; i < c->failed.n && i < SCREEN_FILES; i++)
        screen_failed(out, &c->failed.v[i], columns);
    screen_more(out, &c->failed, SCREEN_FILES);
    if (c->kept_aside)
        buf_addf(out, "kept aside %zu: ossmount recover %s\n", c->kept_aside, r->mountpoint);
    if (c->hidden_keys)
        buf_addf(out, "not shown: %llu keys that are no path\n", (unsigned long long)c->hidden_keys);
    screen_requests(out, r);
}

void render_line(struct buf *out, const struct render *r, unsigned columns)
{
    const struct cache_status *c = r->cache;
    uint64_t sent = 0, total = 0;
    int64_t ms = 0, wait;
    char a[FORMAT_SIZE], b[FORMAT_SIZE], p[FORMAT_SIZE], t[FORMAT_SIZE];
    size_t files = c->sending.total + c->pending.total;

    for (size_t i = 0; i < c->sending.n; i++) {
        sent += c->sending.v[i].sent;
        total += c->sending.v[i].total;
        if (c->sending.v[i].sending_ms > ms)
            ms = c->sending.v[i].sending_ms;
    }
    format_bar(out, sent, total, columns >= 100 ? 30 : 15);
    buf_addf(out, " %s of %s, %zu %s", format_bytes(a, sent), format_bytes(b, total), files,
             files == 1 ? "file" : "files");
    wait = time_left(sent, total, ms);
    if (wait >= 0)
        buf_addf(out, ", %s/s, %s left", format_bytes(p, rate(sent, ms)), format_duration(t, wait));
    if (c->failed.total)
        buf_addf(out, ", %zu failed", c->failed.total);
}

/* ------------------------------------------------------------------------------------------------- JSON */

static void json_text(struct buf *out, const char *name, const char *value)
{
    buf_addf(out, "\"%s\":", name);
    format_json(out, value);
}

static void json_files(struct buf *out, const char *name, const struct status_list *list, time_t now)
{
    buf_addf(out, ",\"%s\":{\"count\":%zu,\"bytes\":%llu,\"files\":[", name, list->total,
             (unsigned long long)list->bytes);
    for (size_t i = 0; i < list->n; i++) {
        const struct status_file *f = &list->v[i];

        buf_adds(out, i ? ",{" : "{");
        json_text(out, "key", f->key);
        buf_addf(out, ",\"size\":%llu,\"changed\":%lld,\"open\":%s,\"attributes_only\":%s",
                 (unsigned long long)f->size, (long long)f->changed, f->open ? "true" : "false",
                 f->attributes ? "true" : "false");
        if (f->sending_ms || f->total)
            buf_addf(out, ",\"sent\":%llu,\"total\":%llu,\"started\":%lld,\"bytes_per_second\":%llu",
                     (unsigned long long)f->sent, (unsigned long long)f->total,
                     (long long)(now - f->sending_ms / 1000), (unsigned long long)rate(f->sent, f->sending_ms));
        if (f->err.err) {
            buf_adds(out, ",\"error\":{");
            json_text(out, "errno", error_name(f->err.err));
            buf_addf(out, ",\"status\":%d,", f->err.status);
            json_text(out, "code", f->err.code);
            buf_adds(out, ",");
            json_text(out, "message", f->err.message);
            buf_adds(out, ",");
            json_text(out, "request_id", f->err.request_id);
            buf_addf(out, ",\"since\":%lld,\"failures\":%u,\"next_try\":", (long long)f->failed_since, f->failures);
            if (f->next_ms < 0)
                buf_adds(out, "null}");
            else
                buf_addf(out, "%lld}", (long long)now + (long long)(f->next_ms / 1000));
        }
        buf_adds(out, "}");
    }
    buf_adds(out, "]}");
}

static void json_requests(struct buf *out, const struct render *r)
{
    bool any = false;

    buf_adds(out, ",\"requests\":{");
    for (unsigned i = 0; i < OSS_OPS; i++) {
        const struct oss_op_stats *s = &r->ops[i];

        if (!s->requests)
            continue;
        buf_addf(out,
                 "%s\"%s\":{\"requests\":%llu,\"retries\":%llu,\"failures\":%llu,\"bytes_up\":%llu,"
                 "\"bytes_down\":%llu,\"total_ms\":%llu,\"p50_ms\":%.1f,\"p90_ms\":%.1f,\"p99_ms\":%.1f,\"errors\":{",
                 any ? "," : "", oss_op_name((enum oss_op)i), (unsigned long long)s->requests,
                 (unsigned long long)s->retries, (unsigned long long)s->failures, (unsigned long long)s->bytes_up,
                 (unsigned long long)s->bytes_down, (unsigned long long)s->total_ms, oss_latency_ms(s, 0.5),
                 oss_latency_ms(s, 0.9), oss_latency_ms(s, 0.99));
        any = true;
        for (unsigned k = 0; k < OSS_ERROR_CLASSES; k++)
            buf_addf(out, "%s\"%s\":%llu", k ? "," : "", oss_error_class_name((enum oss_error_class)k),
                     (unsigned long long)s->errors[k]);
        buf_adds(out, "}}");
    }
    buf_adds(out, "}");
}

void render_json(struct buf *out, const struct render *r)
{
    const struct cache_status *c = r->cache;

    buf_adds(out, "{");
    json_text(out, "source", r->source);
    buf_adds(out, ",");
    json_text(out, "mountpoint", r->mountpoint);
    buf_adds(out, ",");
    json_text(out, "state_dir", r->state_dir);
    buf_addf(out, ",\"pid\":%ld,\"time\":%lld,\"started\":%lld,\"read_only\":%s", (long)r->pid, (long long)r->now,
             (long long)r->started, r->read_only ? "true" : "false");
    buf_addf(out,
             ",\"inodes\":{\"count\":%zu,\"limit\":%zu},\"cache\":{\"bytes\":%llu,\"limit\":%llu,\"files\":%zu,"
             "\"disk_free\":%llu,\"disk_guard\":%llu}"
             ",\"kept_aside\":%zu,\"hidden_keys\":%llu,\"writes_refused_since\":",
             r->inodes, r->max_inodes, (unsigned long long)c->cached_bytes, (unsigned long long)c->cache_size,
             c->files, (unsigned long long)c->disk_free, (unsigned long long)c->disk_guard, c->kept_aside,
             (unsigned long long)c->hidden_keys);
    if (c->writes_refused)
        buf_addf(out, "%lld", (long long)c->writes_refused);
    else
        buf_adds(out, "null");
    json_files(out, "sending", &c->sending, r->now);
    json_files(out, "pending", &c->pending, r->now);
    json_files(out, "failed", &c->failed, r->now);
    json_requests(out, r);
    buf_adds(out, "}\n");
}

/* ------------------------------------------------------------------------------------------- Prometheus */

struct metrics {
    struct buf *out;
    const struct render *r;
    const char *mount; /* the label's text */
};

static void metric_head(const struct metrics *m, const char *name, const char *type, const char *help)
{
    buf_addf(m->out, "# HELP ossmount_%s %s\n# TYPE ossmount_%s %s\n", name, help, name, type);
}

static void gauge(const struct metrics *m, const char *name, const char *help, uint64_t value)
{
    metric_head(m, name, "gauge", help);
    buf_addf(m->out, "ossmount_%s{mount=\"%s\"} %llu\n", name, m->mount, (unsigned long long)value);
}

static void per_operation(const struct metrics *m, const char *name, const char *help, size_t member)
{
    metric_head(m, name, "counter", help);
    for (unsigned i = 0; i < OSS_OPS; i++)
        if (m->r->ops[i].requests)
            buf_addf(m->out, "ossmount_%s{mount=\"%s\",operation=\"%s\"} %llu\n", name, m->mount,
                     oss_op_name((enum oss_op)i),
                     (unsigned long long)*(const uint64_t *)(const void *)((const char *)&m->r->ops[i] + member));
}

static void error_counters(const struct metrics *m)
{
    metric_head(m, "request_errors_total", "counter", "Failed tries, by operation and kind.");
    for (unsigned i = 0; i < OSS_OPS; i++)
        for (unsigned k = 0; k < OSS_ERROR_CLASSES; k++)
            if (m->r->ops[i].errors[k])
                buf_addf(m->out, "ossmount_request_errors_total{mount=\"%s\",operation=\"%s\",kind=\"%s\"} %llu\n",
                         m->mount, oss_op_name((enum oss_op)i), oss_error_class_name((enum oss_error_class)k),
                         (unsigned long long)m->r->ops[i].errors[k]);
}

static void histogram(const struct metrics *m, enum oss_op op)
{
    const struct oss_op_stats *s = &m->r->ops[op];
    uint64_t n = 0;

    for (unsigned i = 0; i < OSS_LATENCY_BUCKETS; i++) {
        n += s->latency[i];
        buf_addf(m->out, "ossmount_request_duration_seconds_bucket{mount=\"%s\",operation=\"%s\",le=\"", m->mount,
                 oss_op_name(op));
        if (i + 1 < OSS_LATENCY_BUCKETS)
            buf_addf(m->out, "%g\"} %llu\n", oss_latency_bounds[i] / 1000.0, (unsigned long long)n);
        else
            buf_addf(m->out, "+Inf\"} %llu\n", (unsigned long long)n);
    }
    buf_addf(m->out, "ossmount_request_duration_seconds_sum{mount=\"%s\",operation=\"%s\"} %.3f\n", m->mount,
             oss_op_name(op), (double)s->total_ms / 1000);
    buf_addf(m->out, "ossmount_request_duration_seconds_count{mount=\"%s\",operation=\"%s\"} %llu\n", m->mount,
             oss_op_name(op), (unsigned long long)n);
}

void render_metrics(struct buf *out, const struct render *r)
{
    const struct cache_status *c = r->cache;
    struct buf label = BUF_INIT(65536);
    struct metrics m = {.out = out, .r = r};
    uint64_t sent = 0, total = 0;

    format_label(&label, r->mountpoint);
    m.mount = buf_str(&label);
    for (size_t i = 0; i < c->sending.n; i++) {
        sent += c->sending.v[i].sent;
        total += c->sending.v[i].total;
    }
    gauge(&m, "start_time_seconds", "When the daemon began, seconds since 1970.", (uint64_t)r->started);
    gauge(&m, "inodes", "Inodes in memory: names that the kernel knows.", r->inodes);
    gauge(&m, "inodes_limit", "Above so many the kernel is asked to forget.", r->max_inodes);
    gauge(&m, "sending_files", "Files whose upload is on its way.", c->sending.total);
    gauge(&m, "sending_bytes", "Bytes of the uploads on their way.", total);
    gauge(&m, "sending_sent_bytes", "Bytes of them that have left.", sent);
    gauge(&m, "pending_files", "Unsent files that wait, or are still being written.", c->pending.total);
    gauge(&m, "pending_bytes", "Their sizes.", c->pending.bytes);
    gauge(&m, "failed_files", "Files whose last upload failed.", c->failed.total);
    gauge(&m, "failed_bytes", "Their sizes.", c->failed.bytes);
    gauge(&m, "kept_aside_files", "Files that a crash or a conflict kept aside.", c->kept_aside);
    gauge(&m, "cache_bytes", "Local data.", c->cached_bytes);
    gauge(&m, "cache_limit_bytes", "What it may take.", c->cache_size);
    gauge(&m, "disk_free_bytes", "Free space of the disk that it is on.", c->disk_free);
    gauge(&m, "hidden_keys", "Keys that are not shown because they are no path.", c->hidden_keys);
    per_operation(&m, "requests_total", "Tries, by operation.", offsetof(struct oss_op_stats, requests));
    per_operation(&m, "request_retries_total", "Tries after the first.", offsetof(struct oss_op_stats, retries));
    per_operation(&m, "request_failures_total", "Operations that failed after all tries.",
                  offsetof(struct oss_op_stats, failures));
    per_operation(&m, "sent_bytes_total", "Bytes of bodies sent.", offsetof(struct oss_op_stats, bytes_up));
    per_operation(&m, "received_bytes_total", "Bytes of bodies received.", offsetof(struct oss_op_stats, bytes_down));
    error_counters(&m);
    metric_head(&m, "request_duration_seconds", "histogram", "Time of tries, by operation.");
    for (unsigned i = 0; i < OSS_OPS; i++)
        if (r->ops[i].requests)
            histogram(&m, (enum oss_op)i);
    buf_free(&label);
}
