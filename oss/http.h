/*
 * http.h: one try of one HTTP request, over a pool of warm curl handles.
 *
 * A handle keeps its connection between requests; free ones are taken last in, first out, so that a quiet mount
 * uses one connection and the others go cold and are closed. DNS answers and TLS sessions are shared by all.
 * Nothing is repeated here: a request that curl would silently send a second time (a kept connection that died
 * without an answer) comes back as HTTP_LOST, because only the caller knows whether a repeat does harm.
 *
 * HTTP/1.1, no redirects, no cookies, no netrc; the path is sent as it is. A proxy is taken from the standard
 * environment variables (http_proxy, https_proxy, no_proxy), never for this machine itself.
 */
#ifndef OSS_HTTP_H
#define OSS_HTTP_H

#include "base_buf.h"
#include "oss.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEADERS_MAX (64U << 10) /* bytes of all header lines of a reply */

struct http;

struct http_options {
    const char *ca_file;        /* PEM, or NULL for the system's */
    const char *user_agent;     /* or NULL */
    int64_t connect_timeout_ms; /* name, TCP and TLS together */
    int64_t stall_timeout_ms;   /* no byte of a body moved for so long: given up; also the wait for an answer */
    bool tls;                   /* the endpoint is https: certificates are loaded */
    bool local;                 /* the endpoint is this machine: no proxy */
};

/* 0, -ENOMEM, or -EINVAL with a sentence in `why` (the certificate file). The strings are copied. */
int http_open(struct http **out, const struct http_options *options, char *why, size_t why_size);

/* Makes running requests end with HTTP_STOPPED within about a second, new ones at once. Any thread, does not block.
 */
void http_stop(struct http *http);
bool http_stopped(struct http *http);

/* Sleeps; true when http_stop() was called before or meanwhile (it then returns at once). */
bool http_sleep(struct http *http, int64_t ms);

/* Closes all connections and frees the pool; no request may be running. NULL is allowed. */
void http_close(struct http *http);

/* How a try ended. */
enum http_end {
    HTTP_DONE,      /* there is a complete reply; also a failure's reply whose body broke off */
    HTTP_ENOUGH,    /* the caller's data() wanted no more */
    HTTP_CALLER,    /* the caller's source, begin() or data() failed with reply->err */
    HTTP_STOPPED,   /* http_stop() */
    HTTP_REFUSED,   /* a repeat cannot help: certificate, malformed header, out of memory */
    HTTP_UNREACHED, /* no connection: nothing was sent */
    HTTP_LOST,      /* the connection broke before the reply was complete */
    HTTP_TIMEOUT,   /* connecting, no progress, or the limit of the try */
    HTTP_TOO_LARGE, /* the reply passes a bound */
};

/* What begin() makes of a reply's body, besides a negative errno. */
enum { HTTP_COLLECT, HTTP_DELIVER };

struct http_reply {
    enum http_end end;
    int err;               /* 0 for HTTP_DONE and HTTP_ENOUGH, else a negative errno */
    int status;            /* 0: no answer */
    struct kvlist headers; /* of the final reply */
    struct buf body;       /* what was collected */
    bool sent;             /* the server may have the whole request */
    uint64_t up, down;     /* bytes of bodies moved */
    int64_t moved_ms;      /* clock_ms() when the last of them moved; of the start when none did */
    int64_t took_ms;
    char message[256]; /* the transport's own words, "" for HTTP_DONE */
};

/* All pointers are the caller's and stay valid until http_perform() returns. */
struct http_request {
    const char *method;
    const char *url;
    const struct kvlist *headers;    /* sent as they are; control characters are refused (-EINVAL) */
    const struct oss_source *source; /* the body, or NULL: PUT and POST then send a length of 0 */
    bool expect;                     /* ask before the body is sent (Expect: 100-continue) */
    bool fresh;                      /* on a new connection */
    bool bulk;                       /* the reply's body may be large */
    int64_t limit_ms;                /* the whole try; 0: only the stall timeout holds */
    size_t collect_max;              /* bytes of a body that is collected */
    /*
     * Called once, when the headers of the final reply are complete: HTTP_COLLECT, HTTP_DELIVER (the body goes to
     * data()), or a negative errno that ends the try with HTTP_CALLER. NULL: all is collected.
     */
    int (*begin)(void *arg, const struct http_reply *reply);
    /* n bytes of the body: 0, 1 for enough, or a negative errno. */
    int (*data)(void *arg, const void *data, size_t n);
    void *arg;
};

/* Blocks. Fills `reply`, to be released by http_reply_free() in every case; returns reply->err. */
int http_perform(struct http *http, const struct http_request *request, struct http_reply *reply);

/* Safe on an all-zero struct, and twice. */
void http_reply_free(struct http_reply *reply);

#endif
