/* send.c: see send.h. */
#include "send.h"

#include "ops.h"
#include "s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BLOCK        (256 * 1024)
#define SLOW_BLOCK   (16 * 1024)
#define HUGE_DEFAULT (256ull << 20)

/* A body that cannot be left to the kernel: out of several files, slowed down or damaged. */
struct source {
    struct server *server;
    struct object *object; /* or NULL: the text */
    struct reader *reader;
    struct sbuf text;
    const char *pattern; /* or NULL; repeated for ever */
    uint64_t offset, length, cut;
    bool flip;
    uint64_t bandwidth;
    int64_t started_ms;
};

static uint64_t bandwidth_of(const struct request *rq)
{
    uint64_t global = rq->server->bandwidth, own = rq->plan.bandwidth;

    return own && (!global || own < global) ? own : global;
}

static void throttle(struct server *server, uint64_t bandwidth, uint64_t bytes, int64_t started_ms)
{
    if (bandwidth)
        server_sleep(server, (int64_t)((double)bytes * 1000 / (double)bandwidth) - (clock_ms() - started_ms));
}

void send_throttle(struct request *rq, uint64_t bytes)
{
    throttle(rq->server, bandwidth_of(rq), bytes, rq->started_ms);
}

/* Headers that leave no trace in what is stored, as lines; nothing when there are none. */
static struct sbuf traceless_headers(const struct request *rq)
{
    static const char *const names[] = {"x-oss-traffic-limit", "x-oss-forbid-overwrite", "x-oss-callback",
                                        "x-oss-callback-var", "content-md5"};
    struct sbuf out = {0};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (request_header(rq, names[i]))
            sbuf_addf(&out, "%s: %s\n", names[i], request_header(rq, names[i]));
    return out;
}

void send_record(struct request *rq, uint64_t bytes_out)
{
    const char *range = request_header(rq, "range"), *source_range = request_header(rq, "x-oss-copy-source-range");
    struct stats_entry entry = {.op = rq->op,
                                .status = rq->answered ? rq->reply.status : 0,
                                .bucket = rq->bucket,
                                .code = rq->reply.code,
                                .request_id = rq->id,
                                .key = rq->key.p ? rq->key : (struct bytes){"", 0},
                                .range = range ? range : source_range,
                                .source = request_header(rq, "x-oss-copy-source"),
                                .query = rq->raw_query,
                                .bytes_in = rq->received,
                                .bytes_out = bytes_out,
                                .ms = clock_ms() - rq->started_ms};

    if (rq->recorded)
        return;
    rq->recorded = true;
    struct sbuf sent = traceless_headers(rq);
    entry.sent = sent.p;
    stats_add(rq->server->stats, &entry);
    sbuf_free(&sent);
}

enum MHD_Result send_nothing(struct request *rq)
{
    struct linger now = {1, 0};

    send_record(rq, 0);
    setsockopt(rq->socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    return MHD_NO;
}

/* ----------------------------------------------------------------------------------------------- bodies */

static ssize_t source_read(void *cls, uint64_t position, char *to, size_t n)
{
    struct source *s = cls;
    ssize_t got;

    if (position >= s->cut || s->server->stopping)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n > s->cut - position)
        n = (size_t)(s->cut - position);
    if (s->bandwidth && n > SLOW_BLOCK)
        n = SLOW_BLOCK;
    if (s->pattern) {
        size_t size = strlen(s->pattern);
        for (size_t i = 0; i < n; i++)
            to[i] = s->pattern[(position + i) % size];
        got = (ssize_t)n;
    } else if (s->object) {
        got = reader_read(s->reader, s->offset + position, to, n);
        if (got <= 0)
            return MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        memcpy(to, s->text.p + position, n);
        got = (ssize_t)n;
    }
    if (s->flip && position == 0)
        to[0] ^= 1;
    throttle(s->server, s->bandwidth, position + (uint64_t)got, s->started_ms);
    return got;
}

static ssize_t source_read_endless(void *cls, uint64_t position, char *to, size_t n)
{
    struct source *s = cls;

    return position >= s->cut ? MHD_CONTENT_READER_END_OF_STREAM : source_read(cls, position, to, n);
}

static void source_free(void *cls)
{
    struct source *s = cls;

    reader_free(s->reader);
    object_unref(s->object);
    sbuf_free(&s->text);
    free(s);
}

static struct MHD_Response *respond_slowly(struct request *rq)
{
    struct source *s = xcalloc(1, sizeof *s);
    const struct fault *f = &rq->plan.fault;

    s->server = rq->server;
    s->bandwidth = bandwidth_of(rq);
    s->started_ms = clock_ms();
    s->length = rq->reply.body.n;
    if (rq->reply.object) {
        s->object = object_ref(rq->reply.object);
        s->reader = reader_new(s->object->segments, s->object->n_segments);
        s->offset = rq->reply.offset;
        s->length = rq->reply.length;
    } else {
        s->text = rq->reply.body;
        rq->reply.body = (struct sbuf){0};
    }
    s->flip = f->action == FAULT_CORRUPT_BODY;
    s->cut = s->length;
    if (f->action == FAULT_TRUNCATE)
        s->cut = f->bytes && f->bytes < s->length ? f->bytes : s->length / 2;
    return MHD_create_response_from_callback(s->length, BLOCK, source_read, s, source_free);
}

/* An object in memory, without copying. */
static void iov_free(void *cls)
{
    object_unref(cls);
}

static struct MHD_Response *respond_object(struct request *rq)
{
    struct object *o = rq->reply.object;
    uint64_t offset = rq->reply.offset, length = rq->reply.length, fd_offset;
    struct MHD_Response *response;
    struct iovec *iov;
    int fd;

    if (segments_fd(o->segments, o->n_segments, offset, length, &fd, &fd_offset) == 0)
        return MHD_create_response_from_fd_at_offset64(length, fd, fd_offset);
    int n = segments_iov(o->segments, o->n_segments, offset, length, &iov);
    if (n < 0)
        return respond_slowly(rq);
    response = MHD_create_response_from_iovec((struct MHD_IoVec *)iov, (unsigned)n, iov_free, object_ref(o));
    free(iov);
    return response;
}

static struct MHD_Response *respond_text(struct request *rq)
{
    struct sbuf *b = &rq->reply.body;
    struct MHD_Response *response = MHD_create_response_from_buffer(b->n, b->p, MHD_RESPMEM_MUST_FREE);

    if (response)
        *b = (struct sbuf){0};
    return response;
}

static struct MHD_Response *respond_endless(struct request *rq, const char *pattern)
{
    struct source *s = xcalloc(1, sizeof *s);

    s->pattern = pattern;
    s->cut = rq->plan.fault.bytes ? rq->plan.fault.bytes : HUGE_DEFAULT;
    s->started_ms = clock_ms();
    s->server = rq->server;
    s->bandwidth = bandwidth_of(rq);
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, source_read_endless, s, source_free);
}

/* Replaces the body of a reply by rubbish. */
static struct MHD_Response *respond_garbage(struct request *rq)
{
    struct sbuf *b = &rq->reply.body;
    size_t half = b->n / 2;

    object_unref(rq->reply.object);
    rq->reply.object = NULL;
    if (rq->plan.fault.status)
        rq->reply.status = rq->plan.fault.status;
    switch (rq->plan.fault.mode) {
    case GARBAGE_HUGE:
        return respond_endless(rq, "<Contents><Key>aaaaaaaaaaaaaaaa</Key><Size>1</Size></Contents>");
    case GARBAGE_TRUNCATED:
        b->n = half;
        break;
    case GARBAGE_HTML:
        b->n = 0;
        sbuf_adds(b, "<html><head><title>Welcome</title></head><body><h1>It works<br></body></html>\n");
        break;
    case GARBAGE_DEEP:
        b->n = 0;
        for (int i = 0; i < 100000; i++)
            sbuf_adds(b, "<a>");
        break;
    case GARBAGE_ENTITIES:
        b->n = 0;
        sbuf_adds(b, "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY e0 \"eeeeeeeeee\">");
        for (int i = 1; i < 12; i++)
            sbuf_addf(b, "<!ENTITY e%d \"&e%d;&e%d;&e%d;&e%d;&e%d;&e%d;&e%d;&e%d;\">", i, i - 1, i - 1, i - 1, i - 1,
                      i - 1, i - 1, i - 1, i - 1);
        sbuf_adds(b, "]><ListBucketResult><Name>&e11;</Name></ListBucketResult>");
        break;
    case GARBAGE_EMPTY:
        b->n = 0;
        break;
    default:
        b->n = 0;
        sbuf_adds(b, "This is \x01 not XML \xff\xfe at all.\n");
    }
    return respond_text(rq);
}

static struct MHD_Response *make_response(struct request *rq)
{
    enum fault_action action = rq->plan.fault.action;
    bool head = strcmp(rq->method, "HEAD") == 0;
    bool careful = bandwidth_of(rq) || action == FAULT_TRUNCATE || action == FAULT_CORRUPT_BODY;

    if (action == FAULT_GARBAGE && !head)
        return respond_garbage(rq);
    if (head && rq->reply.object) { /* the length is told, nothing is read */
        struct source *s = xcalloc(1, sizeof *s);
        s->server = rq->server;
        return MHD_create_response_from_callback(rq->reply.length, BLOCK, source_read, s, source_free);
    }
    if (head) {
        if (rq->reply.code) {
            char *text = base64_encode(rq->reply.body.p, rq->reply.body.n);
            reply_header(rq, "x-oss-err", text);
            free(text);
        }
        sbuf_free(&rq->reply.body);
        return respond_text(rq);
    }
    if (rq->reply.object ? rq->reply.length > 0 && careful : rq->reply.body.n > 0 && careful)
        return respond_slowly(rq);
    return rq->reply.object && rq->reply.length ? respond_object(rq) : respond_text(rq);
}

/* ----------------------------------------------------------------------------------------------- headers */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    char *clean = *value ? xstrdup(value) : xstrdup(" "); /* libmicrohttpd refuses empty values */

    for (char *p = clean; *p; p++)
        if (*p == '\r' || *p == '\n' || *p == '\t')
            *p = ' ';
    MHD_add_response_header(response, name, clean);
    free(clean);
}

static void add_headers(struct request *rq, struct MHD_Response *response)
{
    char text[DATE_SIZE];

    add_header(response, "Server", "AliyunOSS");
    date_http(text, server_now(rq->server));
    add_header(response, "Date", text);
    add_header(response, "x-oss-request-id", rq->id);
    snprintf(text, sizeof text, "%lld", (long long)(clock_ms() - rq->started_ms));
    add_header(response, "x-oss-server-time", text);
    for (size_t i = 0; i < rq->reply.headers.n; i++)
        add_header(response, rq->reply.headers.v[i].name, rq->reply.headers.v[i].value);
    if (rq->reply.has_crc && rq->plan.fault.action != FAULT_DROP_CRC) {
        uint64_t crc = rq->reply.crc ^ (rq->plan.fault.action == FAULT_WRONG_CRC);
        snprintf(text, sizeof text, "%llu", (unsigned long long)crc);
        add_header(response, "x-oss-hash-crc64ecma", text);
    }
    if (rq->plan.fault.action == FAULT_CLOSE)
        add_header(response, "Connection", "close");
}

enum MHD_Result send_reply(struct request *rq)
{
    bool head = strcmp(rq->method, "HEAD") == 0;

    if (!rq->reply.status)
        reply_error(rq, "InternalError", NULL);
    if (rq->s3)
        s3_translate_reply(rq);
    uint64_t out = head ? 0 : rq->reply.object ? rq->reply.length : rq->reply.body.n;
    struct MHD_Response *response = make_response(rq);
    if (!response)
        return MHD_NO;
    add_headers(rq, response);
    rq->answered = true;
    send_record(rq, out);
    enum MHD_Result r = MHD_queue_response(rq->connection, (unsigned)rq->reply.status, response);
    MHD_destroy_response(response);
    return r;
}
