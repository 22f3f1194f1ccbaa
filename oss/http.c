/*
 * http.c: curl, and nothing above it.
 *
 * A handle is configured once; a request sets only what differs, always all of it, so that nothing of one request
 * leaks into the next. Header lines are laid out in memory of the handle that is kept, without an allocation for
 * each line: with small objects the client, not the network, is what costs.
 */
#include "http.h"

#include "base_list.h"
#include "base_time.h"
#include "http_tls.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#if LIBCURL_VERSION_NUM < 0x075000
#error "libcurl 7.80 or newer is needed (CURLOPT_PREREQFUNCTION)"
#endif

/* A connection unused for longer is not trusted: a gateway may have forgotten it, and a request would hang. */
#define KEEP_SECONDS 45L
/*
 * Bodies from here on get the big buffers. Larger ones are no faster (measured, plain and TLS), and a hundred
 * transfers at once must not cost much memory.
 */
#define BULK_BYTES     (256U << 10)
#define BULK_UPLOAD    (128L << 10)
#define BULK_DOWNLOAD  (128L << 10)
#define MEDIUM_UPLOAD  (64L << 10)
#define SMALL_BYTES    (16U << 10)
#define SMALL_UPLOAD   (16L << 10) /* curl's least */
#define SMALL_DOWNLOAD (16L << 10)
#define LINES_MAX      (HTTP_HEADERS_MAX * 2)
#define CODE_ENOUGH    1 /* what data() answers */

struct http {
    struct http_options options; /* constant, strings owned */
    struct http_tls *tls;        /* constant */
    CURLSH *share;
    pthread_mutex_t share_lock[CURL_LOCK_DATA_LAST]; /* curl's */
    atomic_bool stop;

    pthread_mutex_t lock;
    pthread_cond_t wake; /* with lock: http_stop() was called */
    struct list idle;    /* struct handle, warmest first; guarded by lock */
};

/* The fields below `curl` belong to the try in progress, that is to the one thread that holds the handle. */
struct handle {
    struct list link; /* in http->idle; guarded by http->lock */
    int64_t idle_ms;  /* since when it is idle; guarded by http->lock */
    CURL *curl;
    char error[CURL_ERROR_SIZE];

    struct http *http;
    const struct http_request *request;
    struct http_reply *reply;
    struct curl_slist *lines; /* array, with room for lines_size */
    size_t lines_size;
    struct buf text; /* of the lines */
    uint64_t offset; /* of the request's body, read so far */
    int64_t began_ms;
    size_t header_bytes;
    unsigned begun;   /* how often curl began to send the request */
    bool begun_twice; /* curl wanted to repeat it */
    bool headers_done;
    bool deliver;
    bool enough;
    bool stalled;
    bool too_large;
    bool bad_memory;
};

/* ---------------------------------------------------------------------------------------------- callbacks */

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct handle *h = arg;
    const struct oss_source *source = h->request->source;
    uint64_t left;
    int r;

    if (!source)
        return 0;
    left = source->size - h->offset;
    n *= size;
    if (n > left)
        n = (size_t)left;
    if (n == 0)
        return 0;
    r = source->read(source->arg, h->offset, to, n);
    if (r < 0) {
        h->reply->err = r;
        return CURL_READFUNC_ABORT;
    }
    h->offset += n;
    return n;
}

/* curl rewinds only to send the request again, which is not its decision. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct handle *h = arg;

    if (origin == SEEK_SET && (uint64_t)offset == h->offset)
        return CURL_SEEKFUNC_OK;
    h->begun_twice = true;
    return CURL_SEEKFUNC_FAIL;
}

static int on_prereq(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    struct handle *h = arg;

    (void)ip, (void)local_ip, (void)port, (void)local_port;
    if (h->begun++ == 0)
        return CURL_PREREQFUNC_OK;
    h->begun_twice = true;
    return CURL_PREREQFUNC_ABORT;
}

/* "HTTP/1.1 200 OK": 200, or 0. */
static int status_of(const char *line, size_t n)
{
    const char *p = memchr(line, ' ', n);
    int status = 0;

    if (!p || (size_t)(p - line) + 4 > n)
        return 0;
    for (int i = 1; i <= 3; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        status = status * 10 + (p[i] - '0');
    }
    return status;
}

/* Adds "Name: value" of a reply; a line without a colon is dropped, a NUL cuts the value. */
static int header_add(struct kvlist *headers, const char *line, size_t n)
{
    char stack[512];
    char *text = stack;
    char *colon, *value;
    int r;

    if (!memchr(line, ':', n))
        return 0;
    if (n >= sizeof(stack)) {
        text = malloc(n + 1);
        if (!text)
            return -ENOMEM;
    }
    memcpy(text, line, n);
    text[n] = '\0';
    r = 0;
    colon = strchr(text, ':');
    if (colon) {
        *colon = '\0';
        value = colon + 1;
        while (*value == ' ' || *value == '\t')
            value++;
        for (char *end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t'); end--)
            end[-1] = '\0';
        r = kv_add(headers, text, value);
    }
    if (text != stack)
        free(text);
    return r;
}

/* The empty line that ends the headers: 0, or -1 to end the try. */
static int headers_end(struct handle *h)
{
    int r = HTTP_COLLECT;

    if (h->reply->status < 200)
        return 0;
    h->headers_done = true;
    if (h->request->begin)
        r = h->request->begin(h->request->arg, h->reply);
    if (r < 0) {
        h->reply->err = r;
        return -1;
    }
    h->deliver = r == HTTP_DELIVER;
    return 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct handle *h = arg;
    size_t total = n * size;

    n = total;
    h->header_bytes += n;
    h->reply->moved_ms = clock_ms();
    if (h->header_bytes > HTTP_HEADERS_MAX) {
        h->too_large = true;
        return 0;
    }
    if (h->headers_done) /* a trailer */
        return total;
    while (n && (line[n - 1] == '\r' || line[n - 1] == '\n'))
        n--;
    if (n == 0)
        return headers_end(h) < 0 ? 0 : total;
    if (n > 5 && strncasecmp(line, "HTTP/", 5) == 0) {
        kv_free(&h->reply->headers);
        h->reply->status = status_of(line, n);
    } else if (header_add(&h->reply->headers, line, n) < 0) {
        h->bad_memory = true;
        return 0;
    }
    return total;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct handle *h = arg;
    int r;

    n *= size;
    h->reply->down += n;
    h->reply->moved_ms = clock_ms();
    if (h->deliver) {
        r = h->request->data(h->request->arg, data, n);
        if (r < 0)
            h->reply->err = r;
        else if (r == CODE_ENOUGH)
            h->enough = true;
        return r == 0 ? n : 0;
    }
    r = buf_add(&h->reply->body, data, n);
    if (r == -ENOMEM)
        h->bad_memory = true;
    else if (r < 0)
        h->too_large = true;
    return r < 0 ? 0 : n;
}

/* So many bytes of the body have left by now. */
static void moved_up(struct handle *h, uint64_t up)
{
    const struct oss_source *source = h->request->source;

    if (source && source->sent)
        atomic_fetch_add_explicit(source->sent, up - h->reply->up, memory_order_relaxed);
    h->reply->up = up;
}

/* Called at least once a second, whatever happens: here a request notices that it is to stop, or stands still. */
static int on_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
    struct handle *h = arg;
    struct http_reply *reply = h->reply;
    int64_t now;

    (void)dltotal, (void)ultotal, (void)dlnow;
    if (atomic_load_explicit(&h->http->stop, memory_order_relaxed))
        return 1;
    now = clock_ms();
    if ((uint64_t)ulnow != reply->up) {
        moved_up(h, (uint64_t)ulnow);
        reply->moved_ms = now;
    }
    if (now - reply->moved_ms < h->http->options.stall_timeout_ms)
        return 0;
    h->stalled = true;
    return 1;
}

/* ------------------------------------------------------------------------------------------------ handles */

/* Sets an option that curl knows, or that only memory can refuse; the first failure is kept in `c`. */
#define SET(option, value) (c = c ? c : curl_easy_setopt(curl, option, value))

static CURLcode handle_configure(struct handle *h)
{
    struct http *http = h->http;
    CURL *curl = h->curl;
    CURLcode c = CURLE_OK;

    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_SHARE, http->share);
    SET(CURLOPT_ERRORBUFFER, h->error);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, 30L);
    SET(CURLOPT_TCP_KEEPINTVL, 15L);
    SET(CURLOPT_MAXCONNECTS, 1L);
    SET(CURLOPT_MAXAGE_CONN, KEEP_SECONDS);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)http->options.connect_timeout_ms);
    SET(CURLOPT_USERAGENT, http->options.user_agent);
    if (http->options.local)
        SET(CURLOPT_PROXY, "");
    SET(CURLOPT_READFUNCTION, on_read);
    SET(CURLOPT_READDATA, h);
    SET(CURLOPT_SEEKFUNCTION, on_seek);
    SET(CURLOPT_SEEKDATA, h);
    SET(CURLOPT_PREREQFUNCTION, on_prereq);
    SET(CURLOPT_PREREQDATA, h);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, h);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, h);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, h);
    if (c == CURLE_OK && http->tls && http_tls_apply(http->tls, curl) < 0)
        c = CURLE_SSL_ENGINE_SETFAILED;
    return c;
}

static void handle_free(struct handle *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->curl);
    free(h->lines);
    buf_free(&h->text);
    free(h);
}

static struct handle *handle_new(struct http *http)
{
    struct handle *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    list_init(&h->link);
    buf_init(&h->text, LINES_MAX);
    h->http = http;
    h->curl = curl_easy_init();
    if (!h->curl || handle_configure(h) != CURLE_OK) {
        handle_free(h);
        return NULL;
    }
    return h;
}

static struct handle *handle_take(struct http *http)
{
    struct list *l;

    pthread_mutex_lock(&http->lock);
    l = list_pop(&http->idle);
    pthread_mutex_unlock(&http->lock);
    return l ? list_entry(l, struct handle, link) : handle_new(http);
}

/* Puts the handle on top, and frees the one at the bottom when it has gone cold. */
static void handle_put(struct http *http, struct handle *h)
{
    struct handle *cold = NULL;

    pthread_mutex_lock(&http->lock);
    h->idle_ms = clock_ms();
    list_add_head(&http->idle, &h->link);
    cold = list_entry(http->idle.prev, struct handle, link);
    if (h->idle_ms - cold->idle_ms > KEEP_SECONDS * 1000)
        list_del(&cold->link);
    else
        cold = NULL;
    pthread_mutex_unlock(&http->lock);
    handle_free(cold);
}

/* --------------------------------------------------------------------------------------------- the request */

/* Nothing may end a header line early: what follows would be a header, or a request, of someone else's making. */
static bool header_valid(const struct kv *kv)
{
    if (!*kv->name)
        return false;
    for (const char *p = kv->name; *p; p++) {
        if (*p <= ' ' || *p >= 0x7f || *p == ':')
            return false;
    }
    for (const unsigned char *p = (const unsigned char *)kv->value; *p; p++) {
        if (*p < ' ' && *p != '\t')
            return false;
    }
    return true;
}

/* Lays the headers out as curl wants them. 0, -EINVAL, -ENOMEM. */
static int lines_build(struct handle *h)
{
    const struct kvlist *headers = h->request->headers;
    size_t n = headers ? headers->n : 0;
    size_t at = 0;
    int r;

    buf_reset(&h->text);
    if (h->lines_size < n + 1) {
        struct curl_slist *lines = realloc(h->lines, (n + 1) * sizeof(*lines));

        if (!lines)
            return -ENOMEM;
        h->lines = lines;
        h->lines_size = n + 1;
    }
    /* curl adds its own Expect to larger bodies: an empty one takes it away. */
    r = buf_add(&h->text, h->request->expect ? "Expect: 100-continue" : "Expect:", h->request->expect ? 21 : 8);
    for (size_t i = 0; i < n && r == 0; i++) {
        const struct kv *kv = &headers->v[i];

        if (!header_valid(kv))
            return -EINVAL;
        buf_adds(&h->text, kv->name);
        /* The form with ';' is curl's for a header without a value. */
        buf_adds(&h->text, *kv->value ? ": " : ";");
        r = buf_add(&h->text, kv->value, strlen(kv->value) + 1);
    }
    if (r < 0)
        return r == -ENOMEM ? r : -EINVAL;
    for (size_t i = 0; i <= n; i++) {
        h->lines[i].data = h->text.data + at;
        h->lines[i].next = i < n ? &h->lines[i + 1] : NULL;
        at += strlen(h->lines[i].data) + 1;
    }
    return 0;
}

static CURLcode request_set(struct handle *h)
{
    const struct http_request *q = h->request;
    CURL *curl = h->curl;
    CURLcode c = CURLE_OK;
    bool get = strcmp(q->method, "GET") == 0;
    bool head = strcmp(q->method, "HEAD") == 0;
    bool upload = strcmp(q->method, "PUT") == 0 || strcmp(q->method, "POST") == 0;
    uint64_t size = q->source ? q->source->size : 0;

    /* HTTPGET takes back what a request before has set, UPLOAD and NOBODY. */
    SET(CURLOPT_HTTPGET, 1L);
    if (head)
        SET(CURLOPT_NOBODY, 1L);
    if (upload) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
        SET(CURLOPT_UPLOAD_BUFFERSIZE, size >= BULK_BYTES    ? BULK_UPLOAD
                                       : size <= SMALL_BYTES ? SMALL_UPLOAD
                                                             : MEDIUM_UPLOAD);
    }
    SET(CURLOPT_CUSTOMREQUEST, get || head ? NULL : q->method);
    SET(CURLOPT_BUFFERSIZE, q->bulk ? BULK_DOWNLOAD : SMALL_DOWNLOAD);
    SET(CURLOPT_URL, q->url);
    SET(CURLOPT_HTTPHEADER, h->lines);
    SET(CURLOPT_FRESH_CONNECT, q->fresh ? 1L : 0L);
    SET(CURLOPT_TIMEOUT_MS, (long)q->limit_ms);
    return c;
}

static void handle_begin(struct handle *h, const struct http_request *request, struct http_reply *reply)
{
    h->request = request;
    h->reply = reply;
    h->offset = 0;
    h->began_ms = clock_ms();
    h->header_bytes = 0;
    h->begun = 0;
    h->begun_twice = h->headers_done = h->deliver = h->enough = h->stalled = h->too_large = h->bad_memory = false;
    h->error[0] = '\0';
    *reply = (struct http_reply){.moved_ms = h->began_ms};
    buf_init(&reply->body, request->collect_max);
}

static void end_set(struct http_reply *reply, enum http_end end, int err, const char *message)
{
    reply->end = end;
    reply->err = err;
    snprintf(reply->message, sizeof(reply->message), "%s", message);
}

/*
 * Whether the server may have all of the request, and so may carry it out. What counts is what curl took from the
 * source: its own count of what was sent is not kept when it gives a connection up.
 */
static bool fully_sent(const struct handle *h)
{
    return h->begun > 0 && (!h->request->source || h->offset == h->request->source->size);
}

/* What curl's result means when none of our own callbacks ended the try. */
static void end_by_code(struct handle *h, CURLcode c)
{
    struct http_reply *reply = h->reply;
    const char *text = h->error[0] ? h->error : curl_easy_strerror(c);

    switch (c) {
    case CURLE_OK:
        end_set(reply, HTTP_DONE, 0, "");
        break;
    case CURLE_OUT_OF_MEMORY:
        end_set(reply, HTTP_REFUSED, -ENOMEM, text);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        end_set(reply, HTTP_REFUSED, -EIO, text);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        end_set(reply, HTTP_TIMEOUT, -ETIMEDOUT, text);
        break;
    default:
        end_set(reply, h->begun ? HTTP_LOST : HTTP_UNREACHED, -EIO, text);
        break;
    }
}

static void handle_end(struct handle *h, CURLcode c)
{
    const struct oss_source *source = h->request->source;
    struct http_reply *reply = h->reply;
    curl_off_t up = 0;

    if (curl_easy_getinfo(h->curl, CURLINFO_SIZE_UPLOAD_T, &up) == CURLE_OK && up > 0)
        moved_up(h, (uint64_t)up);
    reply->took_ms = clock_ms() - h->began_ms;
    reply->sent = fully_sent(h);
    if (h->enough)
        end_set(reply, HTTP_ENOUGH, 0, "");
    else if (reply->err < 0)
        end_set(reply, HTTP_CALLER, reply->err, "the caller's end of the transfer failed");
    else if (c != CURLE_OK && http_stopped(h->http))
        end_set(reply, HTTP_STOPPED, -ECANCELED, "stopped");
    else if (h->bad_memory)
        end_set(reply, HTTP_REFUSED, -ENOMEM, "out of memory");
    else if (c != CURLE_OK && h->headers_done && reply->status >= 300)
        end_set(reply, HTTP_DONE, 0, ""); /* the status says enough, whatever became of its body */
    else if (h->too_large)
        end_set(reply, HTTP_TOO_LARGE, -EIO, "the reply is larger than any that makes sense");
    else if (h->stalled)
        end_set(reply, HTTP_TIMEOUT, -ETIMEDOUT, "no progress");
    else if (h->begun_twice)
        end_set(reply, HTTP_LOST, -EIO, "the connection was closed before an answer came");
    else
        end_by_code(h, c);
    if (reply->end == HTTP_DONE && !h->headers_done)
        end_set(reply, HTTP_LOST, -EIO, "an answer that is no HTTP");
    /* What a failed try has sent will be sent again. */
    if (source && source->sent && (reply->end != HTTP_DONE || reply->status >= 300))
        atomic_fetch_sub_explicit(source->sent, reply->up, memory_order_relaxed);
}

int http_perform(struct http *http, const struct http_request *request, struct http_reply *reply)
{
    struct handle *h = handle_take(http);
    CURLcode c;
    int r;

    if (!h) {
        *reply = (struct http_reply){.moved_ms = clock_ms()};
        end_set(reply, HTTP_REFUSED, -ENOMEM, "out of memory");
        return reply->err;
    }
    handle_begin(h, request, reply);
    r = lines_build(h);
    if (r < 0) {
        end_set(reply, HTTP_REFUSED, r, "a header with control characters, or headers that are too long");
    } else if (http_stopped(http)) {
        end_set(reply, HTTP_STOPPED, -ECANCELED, "stopped");
    } else {
        c = request_set(h);
        if (c == CURLE_OK)
            c = curl_easy_perform(h->curl);
        handle_end(h, c);
    }
    h->request = NULL;
    h->reply = NULL;
    handle_put(http, h);
    return reply->err;
}

void http_reply_free(struct http_reply *reply)
{
    kv_free(&reply->headers);
    buf_free(&reply->body);
}

/* ------------------------------------------------------------------------------------------------ the pool */

static void share_lock(CURL *curl, curl_lock_data data, curl_lock_access access, void *arg)
{
    struct http *http = arg;

    (void)curl, (void)access;
    pthread_mutex_lock(&http->share_lock[data]);
}

static void share_unlock(CURL *curl, curl_lock_data data, void *arg)
{
    struct http *http = arg;

    (void)curl;
    pthread_mutex_unlock(&http->share_lock[data]);
}

static int share_open(struct http *http)
{
    CURLSH *share = curl_share_init();

    if (!share)
        return -ENOMEM;
    http->share = share;
    if (curl_share_setopt(share, CURLSHOPT_USERDATA, http) != CURLSHE_OK ||
        curl_share_setopt(share, CURLSHOPT_LOCKFUNC, share_lock) != CURLSHE_OK ||
        curl_share_setopt(share, CURLSHOPT_UNLOCKFUNC, share_unlock) != CURLSHE_OK ||
        curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK ||
        curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK)
        return -ENOMEM;
    return 0;
}

static int options_copy(struct http_options *to, const struct http_options *from)
{
    *to = *from;
    to->ca_file = from->ca_file ? strdup(from->ca_file) : NULL;
    to->user_agent = strdup(from->user_agent ? from->user_agent : "ossmount");
    return to->user_agent && (to->ca_file || !from->ca_file) ? 0 : -ENOMEM;
}

static void curl_start(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_open(struct http **out, const struct http_options *options, char *why, size_t why_size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_condattr_t attr;
    struct http *http = calloc(1, sizeof(*http));
    int r;

    *out = NULL;
    if (!http)
        return -ENOMEM;
    pthread_once(&once, curl_start);
    list_init(&http->idle);
    pthread_mutex_init(&http->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&http->wake, &attr);
    pthread_condattr_destroy(&attr);
    for (size_t i = 0; i < CURL_LOCK_DATA_LAST; i++)
        pthread_mutex_init(&http->share_lock[i], NULL);
    r = options_copy(&http->options, options);
    if (r == 0)
        r = share_open(http);
    if (r == 0 && options->tls)
        r = http_tls_open(&http->tls, options->ca_file, why, why_size);
    if (r < 0) {
        http_close(http);
        return r;
    }
    *out = http;
    return 0;
}

void http_stop(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    atomic_store(&http->stop, true);
    pthread_cond_broadcast(&http->wake);
    pthread_mutex_unlock(&http->lock);
}

bool http_stopped(struct http *http)
{
    return atomic_load_explicit(&http->stop, memory_order_relaxed);
}

bool http_sleep(struct http *http, int64_t ms)
{
    struct timespec until;
    int64_t due = clock_ms() + ms;
    bool stop;

    until.tv_sec = due / 1000;
    until.tv_nsec = due % 1000 * 1000000;
    pthread_mutex_lock(&http->lock);
    while (!http_stopped(http) && clock_ms() < due)
        pthread_cond_timedwait(&http->wake, &http->lock, &until);
    stop = http_stopped(http);
    pthread_mutex_unlock(&http->lock);
    return stop;
}

void http_close(struct http *http)
{
    struct list *l;

    if (!http)
        return;
    while ((l = list_pop(&http->idle)))
        handle_free(list_entry(l, struct handle, link));
    if (http->share)
        curl_share_cleanup(http->share);
    http_tls_free(http->tls);
    for (size_t i = 0; i < CURL_LOCK_DATA_LAST; i++)
        pthread_mutex_destroy(&http->share_lock[i]);
    pthread_cond_destroy(&http->wake);
    pthread_mutex_destroy(&http->lock);
    free((char *)(uintptr_t)http->options.ca_file);
    free((char *)(uintptr_t)http->options.user_agent);
    free(http);
}
