/*
 * URLs of the service: escaping, endpoint text, region, and how a bucket is addressed.
 *
 * All pure and thread-safe. Functions that add to a buffer return 0 or its sticky error.
 */
#ifndef OSS_URL_H
#define OSS_URL_H

#include "base_buf.h"
#include "oss.h"

#include <stdbool.h>
#include <stddef.h>

#define URL_HOST_SIZE   256
#define URL_REGION_SIZE 64

/* A query parameter, raw. Names are case-sensitive (uploadId), so they are in no kvlist. */
struct url_param {
    const char *name;
    const char *value; /* NULL or "": the name alone, without '=' */
};

struct url_endpoint {
    bool tls;
    char host[URL_HOST_SIZE]; /* lower case, an IPv6 literal without its brackets */
    unsigned port;            /* 0: the scheme's own */
    bool ip;                  /* an IPv4 or IPv6 literal */
    bool ipv6;
    bool localhost;
};

/*
 * Reads "[http://|https://]host[:port][/]"; no scheme means https. 0, or -EINVAL with a sentence in `why` that
 * says what is wrong with the text and what to write instead (a path, user name or query is refused).
 */
int url_endpoint_parse(struct url_endpoint *out, const char *text, char *why, size_t why_size);

/* The region named by the host ("cn-hangzhou"); false where it names none: acceleration, own domain, IP, localhost.
 */
bool url_region(const struct url_endpoint *endpoint, char out[URL_REGION_SIZE]);

/* 3 to 63 of a-z 0-9 '-', neither first nor last a '-'. */
bool url_bucket_valid(const char *bucket);

/*
 * How the bucket is addressed, never OSS_ADDR_AUTO. An IP literal and (unless virtual or cname is asked for)
 * localhost take path style; cname is obeyed everywhere; a bucket name that is no host label takes path style.
 */
enum oss_addressing url_addressing(const struct url_endpoint *endpoint, enum oss_addressing wanted,
                                   const char *bucket);

/* The value of the Host header, with the port when it is not the scheme's own. `bucket` NULL: service request. */
int url_host(struct buf *out, const struct url_endpoint *endpoint, enum oss_addressing how, const char *bucket);

/*
 * The whole URL. `how` comes from url_addressing(). `key` NULL or "": a request to the bucket; `bucket` NULL: to
 * the service. The path must reach the server as it is: an HTTP library has to be told not to squash dots.
 */
int url_build(struct buf *out, const struct url_endpoint *endpoint, enum oss_addressing how, const char *bucket,
              const char *key, const struct url_param *query, size_t n_query);

/* The query part alone, "a=b&c", in the order given, no '?'. */
int url_query(struct buf *out, const struct url_param *query, size_t n_query);

/* "/bucket/escaped key", the value of x-oss-copy-source. */
int url_copy_source(struct buf *out, const char *bucket, const char *key);

/* Adds n bytes with all but A-Z a-z 0-9 - . _ ~ as %XX; with keep_slash '/' stays too. */
int url_escape(struct buf *out, const char *raw, size_t n, bool keep_slash);

/*
 * Decodes %XX in place ('+' stays a plus). The new length, or -EINVAL for a broken escape or an encoded NUL (the
 * text is then undefined).
 */
ssize_t url_unescape(char *text);

#endif
