/* server.c: see server.h. send.c makes the answer; here is the way in. */
#include "server.h"

#include "crc.h"
#include "ops.h"
#include "s3.h"
#include "send.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define POOL_SIZE  (128 * 1024) /* of a connection: its headers, and the buffer that bodies are received in */
#define STACK_SIZE (512 * 1024)
#define XML_MAX    (4u << 20)
#define DRAIN_MAX  (64u << 20) /* a refused body up to this is read before the answer, to keep the connection */
#define SLICE_MS   50
#define WATCH_MS   200

struct connection {
    struct connection *next, **at;
    int socket;
    struct request *waiting; /* lock: more of its body is to come; NULL while a handler runs */
    int64_t since_ms;        /* lock: since then */
    bool given_up;           /* lock */
};

struct connections {
    pthread_mutex_t lock;
    struct connection *first; /* lock */
    pthread_t watcher;        /* there when the daemon is */
};

static EVP_MD *md5_method;

time_t server_now(struct server *server)
{
    return time(NULL) + (time_t)server->clock_offset;
}

void server_sleep(struct server *server, int64_t ms)
{
    for (; ms > 0 && !server->stopping; ms -= SLICE_MS)
        sleep_ms(ms < SLICE_MS ? ms : SLICE_MS);
}

const char *request_header(const struct request *rq, const char *name)
{
    return pairs_get(&rq->headers, name);
}

const char *request_query(const struct request *rq, const char *name)
{
    return pairs_get(&rq->query, name);
}

bool request_true(const struct request *rq, const char *header)
{
    const char *value = request_header(rq, header);

    return value && strcasecmp(value, "true") == 0;
}

/* ----------------------------------------------------------------------------------- reading the request */

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct pairs *headers = cls;
    char *lower = xstrdup(name), *text;
    size_t n;

    (void)kind;
    for (char *p = lower; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    value = value ? value + strspn(value, " \t") : "";
    text = xstrdup(value);
    for (n = strlen(text); n && strchr(" \t", text[n - 1]); n--)
        text[n - 1] = '\0';
    const char *before = pairs_get(headers, lower);
    if (before) { /* repeated lines are one, joined by commas */
        struct sbuf joined = {0};
        sbuf_addf(&joined, "%s,%s", before, text);
        pairs_set(headers, lower, joined.p);
        sbuf_free(&joined);
    } else {
        pairs_add(headers, lower, text);
    }
    free(lower);
    free(text);
    return MHD_YES;
}

static bool read_query(struct request *rq, const char *text)
{
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "&"), name = strcspn(p, "=&");
        struct sbuf k = {0}, v = {0};
        bool good = unescape_url(&k, (struct bytes){p, name});
        if (good && name < n)
            good = unescape_url(&v, (struct bytes){p + name + 1, n - name - 1});
        good = good && strlen(k.p) == k.n && (!v.p || strlen(v.p) == v.n);
        if (good && k.n)
            pairs_add(&rq->query, k.p, v.p ? v.p : "");
        sbuf_free(&k);
        sbuf_free(&v);
        if (!good)
            return reply_error_message(rq, 0, "InvalidArgument", "The query is malformed.", NULL);
        p += n + (p[n] == '&');
    }
    return true;
}

static void read_host(struct request *rq)
{
    const char *host = request_header(rq, "host");
    const char *end = host ? strrchr(host, ':') : NULL;

    if (!host)
        host = "";
    if (!end || strchr(end, ']'))
        end = host + strlen(host);
    rq->host = xmemdup(host, (size_t)(end - host));
}

/* Hosts that have no bucket in them: addresses, names without a dot. */
static bool plain_host(const char *host)
{
    struct in_addr address;

    return host[0] == '[' || !strchr(host, '.') || inet_pton(AF_INET, host, &address) == 1;
}

/* Takes the bucket and the key from host and path. */
static bool read_address(struct request *rq, struct bytes path)
{
    const char *bound = pairs_get(&rq->server->options.cnames, rq->host);
    bool plain = !bound && plain_host(rq->host);

    sbuf_adds(&rq->key_room, "");
    if (path.n == 0 || path.p[0] != '/')
        return reply_error(rq, "BadRequest", NULL);
    path.p++;
    path.n--;
    if (bound) {
        rq->bucket = xstrdup(bound);
    } else if (plain) {
        const char *slash = memchr(path.p, '/', path.n);
        size_t n = slash ? (size_t)(slash - path.p) : path.n;
        if (!n)
            return true;
        struct sbuf name = {0};
        bool good = unescape_url(&name, (struct bytes){path.p, n}) && strlen(name.p) == name.n;
        rq->bucket = name.p;
        path.p += n + (slash != NULL);
        path.n -= n + (slash != NULL);
        if (!good)
            return reply_error(rq, "InvalidBucketName", NULL);
    } else if (strncmp(rq->host, "oss-", 4) == 0 || strncmp(rq->host, "s3.", 3) == 0) {
        return path.n == 0 || reply_error(rq, "SecondLevelDomainForbidden", NULL);
    } else {
        rq->bucket = xmemdup(rq->host, strcspn(rq->host, "."));
    }
    if (!unescape_url(&rq->key_room, path))
        return reply_error(rq, "InvalidObjectName", NULL);
    rq->key = (struct bytes){rq->key_room.p, rq->key_room.n};
    return true;
}

static bool read_target(struct request *rq)
{
    const char *p = rq->target, *question;

    if (strncmp(p, "http://", 7) == 0 || strncmp(p, "https://", 8) == 0) {
        p = strchr(strstr(p, "//") + 2, '/');
        if (!p)
            p = "/";
    }
    question = strchr(p, '?');
    rq->raw_query = xstrdup(question ? question + 1 : "");
    struct bytes path = {p, question ? (size_t)(question - p) : strlen(p)};
    read_host(rq);
    return read_query(rq, rq->raw_query) && read_address(rq, path);
}

static void read_length(struct request *rq)
{
    const char *length = request_header(rq, "content-length"), *coding = request_header(rq, "transfer-encoding");

    rq->chunked = coding && strcasecmp(coding, "chunked") == 0;
    rq->has_length = !rq->chunked && parse_u64(length, &rq->content_length);
}

/* ------------------------------------------------------------------------------------ before the body */

static bool check_rights(struct request *rq)
{
    struct server *server = rq->server;
    struct auth_request who = {rq->method, rq->bucket, rq->key, &rq->query, &rq->headers};
    struct auth_result result;

    if (server->options.no_auth || rq->s3)
        return true;
    auth_check(server->auth, &who, server_now(server), &result);
    rq->anonymous = result.anonymous;
    if (result.code) {
        reply_error_message(rq, 0, result.code, result.message, NULL);
        struct sbuf *b = &rq->reply.body;
        const char *end = "\n</Error>\n";
        b->n -= strlen(end);
        for (size_t i = 0; i < result.details.n; i++) {
            const struct pair *d = &result.details.v[i];
            sbuf_addf(b, "\n  <%s>", d->name);
            escape_xml(b, (struct bytes){d->value, strlen(d->value)});
            sbuf_addf(b, "</%s>", d->name);
        }
        sbuf_adds(b, end);
    }
    pairs_free(&result.details);
    return !result.code;
}

static bool check_request(struct request *rq)
{
    if (!check_rights(rq))
        return false;
    if (!rq->bucket)
        return !rq->anonymous || reply_error(rq, "AccessDenied", NULL);
    if (!ops_bucket_name_legal(rq->bucket))
        return reply_error(rq, "InvalidBucketName", "BucketName", rq->bucket, NULL);
    if (rq->op != OP_PUT_BUCKET && !store_has_bucket(rq->server->store, rq->bucket, NULL))
        return reply_error(rq, "NoSuchBucket", NULL);
    if (rq->anonymous && !ops_check_anonymous(rq))
        return false;
    return !rq->key.n || ops_check_key(rq, rq->key);
}

static void prepare_body(struct request *rq)
{
    enum body_kind kind = ops[rq->op].body;

    rq->want_md5 = request_header(rq, "content-md5") || (kind == BODY_STORE && !rq->server->options.opaque_etag);
    if (rq->want_md5) {
        rq->md5 = EVP_MD_CTX_new();
        EVP_DigestInit_ex(rq->md5, md5_method, NULL);
    }
    if (kind == BODY_STORE)
        rq->spool = spool_new(store_blobs(rq->server->store), rq->has_length ? rq->content_length : SPOOL_UNKNOWN,
                              rq->op == OP_APPEND_OBJECT);
}

/* Whether an answer that is known before the body came should not wait for it. */
static bool answer_at_once(struct request *rq)
{
    const char *expect = request_header(rq, "expect");

    return rq->reply.status && (expect || rq->content_length > DRAIN_MAX);
}

/* What a fault's key is compared with when the request has none. */
static struct bytes list_prefix(const struct request *rq)
{
    const char *prefix = request_query(rq, "prefix");

    return prefix ? (struct bytes){prefix, strlen(prefix)} : (struct bytes){"", 0};
}

static enum MHD_Result request_begin(struct request *rq)
{
    MHD_get_connection_values(rq->connection, MHD_HEADER_KIND, take_header, &rq->headers);
    read_length(rq);
    rq->op = OP_UNKNOWN;
    bool good = read_target(rq);
    if (good && s3_speaks(rq))
        good = s3_begin(rq);
    if (good)
        rq->op = rq->s3 ? s3_classify(rq) : (int)ops_classify(rq);
    faults_match(rq->server->faults, ops[rq->op].name, rq->key.n ? rq->key : list_prefix(rq), &rq->plan);
    if (rq->server->outage)
        return MHD_NO;
    if (good && rq->plan.fault.action == FAULT_STATUS)
        reply_error_message(rq, rq->plan.fault.status, rq->plan.fault.code, NULL, NULL);
    else if (good && check_request(rq) && (!ops[rq->op].begin || ops[rq->op].begin(rq)))
        prepare_body(rq);
    return answer_at_once(rq) ? send_reply(rq) : MHD_YES;
}

/* --------------------------------------------------------------------------------------- the body and after */

static bool take_body(struct request *rq, const char *data, size_t n)
{
    int r;

    switch (ops[rq->op].body) {
    case BODY_NONE:
        return true;
    case BODY_XML:
        if (rq->received > XML_MAX)
            return reply_error(rq, "MalformedXML", NULL);
        sbuf_add(&rq->body, data, n);
        break;
    case BODY_STORE:
        if (rq->received > 5ull << 30)
            return reply_error_message(rq, 0, "EntityTooLarge", "The body is larger than the service takes.", NULL);
        r = spool_write(rq->spool, data, n);
        if (r)
            return reply_store_error(rq, r);
        break;
    }
    rq->crc = crc_update(rq->crc, data, n);
    if (rq->md5)
        EVP_DigestUpdate(rq->md5, data, n);
    if (rq->sha256)
        EVP_DigestUpdate(rq->sha256, data, n);
    return true;
}

static enum MHD_Result request_body(struct request *rq, const char *data, size_t n)
{
    char *flipped = NULL;

    if (rq->plan.fault.action == FAULT_RESET || rq->server->outage)
        return send_nothing(rq);
    if (rq->plan.fault.action == FAULT_CORRUPT_REQUEST && !rq->received) {
        flipped = xmemdup(data, n);
        flipped[0] ^= 1;
    }
    rq->received += n;
    if (!rq->reply.status)
        take_body(rq, flipped ? flipped : data, n);
    free(flipped);
    send_throttle(rq, rq->received);
    return MHD_YES;
}

/* Content-MD5 and x-oss-hash-crc64ecma of the request. */
static bool check_integrity(struct request *rq)
{
    const char *md5 = request_header(rq, "content-md5"), *crc = request_header(rq, "x-oss-hash-crc64ecma");
    unsigned char want[16];
    uint64_t number;

    if (rq->md5)
        EVP_DigestFinal_ex(rq->md5, rq->digest, NULL);
    if (md5 && (base64_decode(want, sizeof want, md5) != 16 || memcmp(want, rq->digest, 16)))
        return reply_error(rq, "InvalidDigest", "ClientDigest", md5, NULL);
    if (ops[rq->op].body != BODY_STORE || !crc)
        return true;
    if (!parse_u64(crc, &number))
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-hash-crc64ecma", "ArgumentValue", crc, NULL);
    return number == rq->crc || reply_error(rq, "InvalidCRC64", NULL);
}

static enum MHD_Result request_end(struct request *rq)
{
    enum fault_action action = rq->plan.fault.action;

    if (action == FAULT_HANG)
        faults_hang(rq->server->faults, rq->socket, rq->plan.hang_generation);
    if (action == FAULT_HANG || action == FAULT_RESET || rq->server->outage)
        return send_nothing(rq);
    if (!rq->reply.status && check_integrity(rq) && s3_check_body(rq))
        ops[rq->op].end(rq);
    server_sleep(rq->server, rq->server->latency_ms + rq->plan.delay_ms);
    return action == FAULT_LOST ? send_nothing(rq) : send_reply(rq);
}

/* ---------------------------------------------------------------------------------- bodies that stop coming */

static struct connection *connection_of(const struct request *rq)
{
    return MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* The body waited for is NULL from now on while a handler runs. False: the request was given up meanwhile. */
static bool wait_for(struct request *rq, struct request *waiting)
{
    struct connections *all = rq->server->connections;
    struct connection *c = connection_of(rq);
    bool good;

    pthread_mutex_lock(&all->lock);
    c->waiting = waiting;
    c->since_ms = clock_ms();
    good = !c->given_up;
    pthread_mutex_unlock(&all->lock);
    return good;
}

/*
 * Answers in the place of a handler, which no piece of the body calls any more; the library itself could only close
 * the connection, without a word. Called with the lock. A connection with TLS is closed so, too.
 */
static void give_up(struct connection *c)
{
    struct request *rq = c->waiting;
    struct sbuf text = {0};

    c->waiting = NULL;
    c->given_up = true;
    reply_error(rq, "RequestTimeout", NULL);
    rq->answered = true;
    sbuf_addf(&text, "HTTP/1.1 %d Bad Request\r\nServer: AliyunOSS\r\nx-oss-request-id: %s\r\n", rq->reply.status,
              rq->id);
    for (size_t i = 0; i < rq->reply.headers.n; i++)
        sbuf_addf(&text, "%s: %s\r\n", rq->reply.headers.v[i].name, rq->reply.headers.v[i].value);
    sbuf_addf(&text, "Content-Length: %zu\r\nConnection: close\r\n\r\n", rq->reply.body.n);
    sbuf_add(&text, rq->reply.body.p, rq->reply.body.n);
    if (!rq->server->options.certificate)
        send(c->socket, text.p, text.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(c->socket, SHUT_RDWR);
    sbuf_free(&text);
}

static void *watch_bodies(void *cls)
{
    struct server *server = cls;
    struct connections *all = server->connections;

    for (; !server->stopping; server_sleep(server, WATCH_MS)) {
        pthread_mutex_lock(&all->lock);
        for (struct connection *c = all->first; c; c = c->next)
            if (c->waiting && clock_ms() - c->since_ms >= server->options.body_timeout_ms)
                give_up(c);
        pthread_mutex_unlock(&all->lock);
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------- callbacks */

static const char *known_method(const char *method)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], method) == 0)
            return names[i];
    return "OTHER";
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    static atomic_uint_fast64_t counter;
    struct request *rq = xcalloc(1, sizeof *rq);

    rq->server = cls;
    rq->connection = connection;
    rq->target = xstrdup(target);
    rq->started_ms = clock_ms();
    rq->op = OP_UNKNOWN;
    rq->method = "OTHER";
    snprintf(rq->id, sizeof rq->id, "%08llX%016llX", (unsigned long long)time(NULL) & 0xffffffff,
             ((unsigned long long)atomic_fetch_add(&counter, 1) + 1) * 0x9E3779B97F4A7C15u);
    rq->socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    return rq;
}

static enum MHD_Result handle(struct request *rq, const char *method, const char *data, size_t *size)
{
    if (!rq->begun) {
        rq->begun = true;
        rq->method = known_method(method);
        return request_begin(rq);
    }
    if (*size) {
        size_t n = *size;
        *size = 0;
        return request_body(rq, data, n);
    }
    return rq->answered ? MHD_YES : request_end(rq);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context)
{
    struct request *rq = *context;
    enum MHD_Result r;

    (void)cls;
    (void)connection;
    (void)url;
    (void)version;
    if (!wait_for(rq, NULL))
        return MHD_NO;
    r = handle(rq, method, data, size);
    if (r == MHD_YES && !rq->answered)
        wait_for(rq, rq);
    return r;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why)
{
    struct request *rq = *context;

    (void)cls;
    (void)connection;
    (void)why;
    if (!rq)
        return;
    *context = NULL;
    wait_for(rq, NULL);
    if (rq->begun)
        send_record(rq, 0);
    spool_free(rq->spool);
    object_unref(rq->model);
    upload_unref(rq->upload);
    EVP_MD_CTX_free(rq->md5);
    EVP_MD_CTX_free(rq->sha256);
    object_unref(rq->reply.object);
    pairs_free(&rq->reply.headers);
    sbuf_free(&rq->reply.body);
    sbuf_free(&rq->body);
    sbuf_free(&rq->key_room);
    pairs_free(&rq->query);
    pairs_free(&rq->headers);
    free(rq->raw_query);
    free(rq->bucket);
    free(rq->host);
    free(rq->target);
    free(rq);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct server *server = cls;
    struct connections *all = server->connections;
    struct connection *c = *context;
    int one = 1;

    stats_connection(server->stats, code == MHD_CONNECTION_NOTIFY_STARTED);
    pthread_mutex_lock(&all->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = c = xcalloc(1, sizeof *c);
        c->socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->next = all->first;
        c->at = &all->first;
        if (c->next)
            c->next->at = &c->next;
        all->first = c;
        if (server->outage)
            shutdown(c->socket, SHUT_RDWR);
    } else if (c) {
        *c->at = c->next;
        if (c->next)
            c->next->at = c->at;
        free(c);
        *context = NULL;
    }
    pthread_mutex_unlock(&all->lock);
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *address, socklen_t size)
{
    struct server *server = cls;

    (void)address;
    (void)size;
    return server->outage ? MHD_NO : MHD_YES;
}

void server_drop_connections(struct server *server)
{
    pthread_mutex_lock(&server->connections->lock);
    for (struct connection *c = server->connections->first; c; c = c->next)
        shutdown(c->socket, SHUT_RDWR);
    pthread_mutex_unlock(&server->connections->lock);
}

/* --------------------------------------------------------------------------------------- start and stop */

int server_listen(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t size = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&address, &size)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

/* A whole file as text, to be freed; NULL when it cannot be read. */
static char *read_file(const char *path)
{
    FILE *f = path ? fopen(path, "re") : NULL;
    struct sbuf b = {0};
    char chunk[4096];
    size_t n;

    if (!f)
        return NULL;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        sbuf_add(&b, chunk, n);
    fclose(f);
    return b.p;
}

bool server_start(struct server *server)
{
    const struct options *o = &server->options;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                     MHD_USE_SUPPRESS_DATE_NO_CLOCK;
    char *certificate = read_file(o->certificate), *key = read_file(o->certificate_key);
    int fd;

    server->port = o->port;
    server->scheme = o->certificate ? "https" : "http";
    server->connections = xcalloc(1, sizeof *server->connections);
    pthread_mutex_init(&server->connections->lock, NULL);
    md5_method = EVP_MD_fetch(NULL, "MD5", NULL);
    if (o->certificate && (!certificate || !key)) {
        fprintf(stderr, "ossd: cannot read %s or %s\n", o->certificate, o->certificate_key);
        goto fail;
    }
    fd = server_listen(&server->port);
    if (fd < 0) {
        fprintf(stderr, "ossd: port %d: %s\n", o->port, strerror(errno));
        goto fail;
    }
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, certificate}, {MHD_OPTION_HTTPS_MEM_KEY, 0, key}, {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    server->daemon = MHD_start_daemon(
        flags | (certificate ? MHD_USE_TLS : 0), (uint16_t)server->port, on_accept, server, on_request, server,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, on_target, server, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)POOL_SIZE, MHD_OPTION_CONNECTION_LIMIT, 4000u, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE,
        MHD_OPTION_ARRAY, certificate ? tls : none, MHD_OPTION_END);
    if (!server->daemon) {
        fprintf(stderr, "ossd: the HTTP server did not start\n");
        close(fd);
    } else if (pthread_create(&server->connections->watcher, NULL, watch_bodies, server)) {
        fprintf(stderr, "ossd: no thread\n");
        MHD_stop_daemon(server->daemon);
        server->daemon = NULL;
    }
fail:
    free(certificate);
    free(key);
    return server->daemon != NULL;
}

void server_stop(struct server *server)
{
    server->outage = true;
    server->stopping = true;
    faults_clear(server->faults);
    if (server->connections)
        server_drop_connections(server);
    if (server->daemon) {
        pthread_join(server->connections->watcher, NULL);
        MHD_stop_daemon(server->daemon);
    }
    if (server->connections) {
        pthread_mutex_destroy(&server->connections->lock);
        free(server->connections);
    }
    EVP_MD_free(md5_method);
}
