#include "url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---------------------------------------------------------------------------------------------- escaping */

static bool unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

int url_escape(struct buf *out, const char *raw, size_t n, bool keep_slash)
{
    static const char hex[] = "0123456789ABCDEF";
    char piece[384];
    size_t len = 0;
    int r = 0;

    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)raw[i];

        if (unreserved(c) || (keep_slash && c == '/')) {
            piece[len++] = (char)c;
        } else {
            piece[len++] = '%';
            piece[len++] = hex[c >> 4];
            piece[len++] = hex[c & 15];
        }
        if (len > sizeof piece - 3) {
            r = buf_add(out, piece, len);
            len = 0;
        }
    }
    if (len)
        r = buf_add(out, piece, len);
    return out->err ? out->err : r;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

ssize_t url_unescape(char *text)
{
    char *to = text;

    for (const char *p = text; *p; p++) {
        if (*p == '%') {
            const int high = hex_value(p[1]);
            const int low = high < 0 ? -1 : hex_value(p[2]);

            if (low < 0 || !(high | low))
                return -EINVAL;
            *to++ = (char)(high << 4 | low);
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    return to - text;
}

/* ---------------------------------------------------------------------------------------------- endpoint */

static int refuse(char *why, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int refuse(char *why, size_t size, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (why && size)
        vsnprintf(why, size, format, ap);
    va_end(ap);
    return -EINVAL;
}

/* The scheme, when there is one; NULL when it is neither http nor https. */
static const char *read_scheme(const char *text, bool *tls)
{
    const char *colon = strstr(text, "://");

    *tls = true;
    if (!colon)
        return text;
    if (colon - text == 5 && !strncasecmp(text, "https", 5))
        return colon + 3;
    if (colon - text == 4 && !strncasecmp(text, "http", 4)) {
        *tls = false;
        return colon + 3;
    }
    return NULL;
}

/* ":8080" or nothing; 0 or -1. */
static int read_port(const char *text, unsigned *port)
{
    unsigned value = 0;

    *port = 0;
    if (!*text)
        return 0;
    if (*text++ != ':' || !*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        value = value * 10 + (unsigned)(*text - '0');
        if (value > 65535)
            return -1;
    }
    if (!value)
        return -1;
    *port = value;
    return 0;
}

static bool host_valid(const char *host)
{
    size_t label = 0;

    for (const char *p = host; *p; p++) {
        const bool word = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';

        if (!word && (*p != '.' || !label))
            return false;
        label = word ? label + 1 : 0;
        if (label > 63)
            return false;
    }
    return label > 0;
}

static bool is_ipv4(const char *host)
{
    struct in_addr a;

    return inet_pton(AF_INET, host, &a) == 1;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && !strcmp(text + n - m, end);
}

/* The host part of n bytes, what follows it in `rest`. */
static int read_host(struct url_endpoint *out, char *host, const char **rest)
{
    char *end;

    if (*host == '[') {
        struct in6_addr a;

        end = strchr(host, ']');
        if (!end)
            return -1;
        *end = '\0';
        *rest = end + 1;
        if (inet_pton(AF_INET6, host + 1, &a) != 1)
            return -1;
        /* One spelling for each address. */
        if (!inet_ntop(AF_INET6, &a, out->host, sizeof out->host))
            return -1;
        out->ip = out->ipv6 = true;
        return 0;
    }
    end = host + strcspn(host, ":");
    *rest = end;
    if ((size_t)(end - host) >= sizeof out->host)
        return -1;
    memcpy(out->host, host, (size_t)(end - host)); /* the rest is zero */
    for (char *p = out->host; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + ('a' - 'A'));
    if (!host_valid(out->host))
        return -1;
    out->ip = is_ipv4(out->host);
    out->localhost = !strcmp(out->host, "localhost");
    return 0;
}

int url_endpoint_parse(struct url_endpoint *out, const char *text, char *why, size_t why_size)
{
    static const char example[] = "https://oss-cn-hangzhou.aliyuncs.com";
    char copy[URL_HOST_SIZE + 64];
    const char *host, *rest = "";
    size_t n;

    memset(out, 0, sizeof *out);
    if (!text || !*text)
        return refuse(why, why_size, "the endpoint is empty; write for example url=%s", example);
    host = read_scheme(text, &out->tls);
    if (!host)
        return refuse(why, why_size, "endpoint \"%.100s\": the scheme must be http or https", text);
    n = strlen(host);
    if (n && host[n - 1] == '/')
        n--;
    if (n >= sizeof copy)
        return refuse(why, why_size, "endpoint \"%.100s...\" is too long", text);
    memcpy(copy, host, n);
    copy[n] = '\0';
    if (strchr(copy, '/'))
        return refuse(why, why_size,
                      "endpoint \"%.100s\" has a path; give only the host (the bucket and prefix are an argument of "
                      "their own)",
                      text);
    if (strpbrk(copy, "@?#"))
        return refuse(why, why_size, "endpoint \"%.100s\": only a host and a port are allowed, as in %s", text,
                      example);
    if (read_host(out, copy, &rest) < 0)
        return refuse(why, why_size, "endpoint \"%.100s\" names no valid host; write for example %s", text, example);
    if (read_port(rest, &out->port) < 0)
        return refuse(why, why_size, "endpoint \"%.100s\": the port must be a number from 1 to 65535", text);
    if (ends_with(out->host, ".oss-dls.aliyuncs.com"))
        return refuse(why, why_size,
                      "endpoint \"%.100s\" is that of OSS-HDFS, which speaks another protocol; use "
                      "oss-<region>.aliyuncs.com",
                      text);
    return 0;
}

bool url_region(const struct url_endpoint *endpoint, char out[URL_REGION_SIZE])
{
    static const char internal[] = "-internal";
    const char *label = endpoint->host;
    const char *dot = strchr(label, '.');
    size_t n;

    /* A name of someone else's may begin with "oss-" too. */
    if (endpoint->ip || !dot || !ends_with(endpoint->host, ".aliyuncs.com"))
        return false;
    n = (size_t)(dot - label);
    if (strcmp(dot, ".oss.aliyuncs.com") != 0) {
        if (strcmp(dot, ".aliyuncs.com") != 0 || strncmp(label, "oss-", 4) != 0 ||
            !strncmp(label, "oss-accelerate", 14))
            return false;
        label += 4;
        n -= 4;
    }
    if (n > sizeof internal - 1 && !strncmp(label + n - (sizeof internal - 1), internal, sizeof internal - 1))
        n -= sizeof internal - 1;
    if (!n || n >= URL_REGION_SIZE)
        return false;
    memcpy(out, label, n);
    out[n] = '\0';
    return true;
}

bool url_bucket_valid(const char *bucket)
{
    const size_t n = strlen(bucket);

    if (n < 3 || n > 63 || bucket[0] == '-' || bucket[n - 1] == '-')
        return false;
    for (const char *p = bucket; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-'))
            return false;
    return true;
}

enum oss_addressing url_addressing(const struct url_endpoint *endpoint, enum oss_addressing wanted,
                                   const char *bucket)
{
    if (wanted == OSS_ADDR_CNAME || wanted == OSS_ADDR_PATH)
        return wanted;
    if (endpoint->ip || (bucket && !url_bucket_valid(bucket)))
        return OSS_ADDR_PATH;
    if (endpoint->localhost && wanted == OSS_ADDR_AUTO)
        return OSS_ADDR_PATH;
    return OSS_ADDR_VIRTUAL;
}

/* --------------------------------------------------------------------------------------------------- URLs */

int url_host(struct buf *out, const struct url_endpoint *endpoint, enum oss_addressing how, const char *bucket)
{
    if (bucket && how == OSS_ADDR_VIRTUAL)
        buf_addf(out, "%s.", bucket);
    buf_addf(out, endpoint->ipv6 ? "[%s]" : "%s", endpoint->host);
    if (endpoint->port && endpoint->port != (endpoint->tls ? 443 : 80))
        buf_addf(out, ":%u", endpoint->port);
    return out->err;
}

int url_query(struct buf *out, const struct url_param *query, size_t n_query)
{
    for (size_t i = 0; i < n_query; i++) {
        if (i)
            buf_adds(out, "&");
        url_escape(out, query[i].name, strlen(query[i].name), false);
        if (query[i].value && *query[i].value) {
            buf_adds(out, "=");
            url_escape(out, query[i].value, strlen(query[i].value), false);
        }
    }
    return out->err;
}

int url_build(struct buf *out, const struct url_endpoint *endpoint, enum oss_addressing how, const char *bucket,
              const char *key, const struct url_param *query, size_t n_query)
{
    buf_adds(out, endpoint->tls ? "https://" : "http://");
    url_host(out, endpoint, how, bucket);
    buf_adds(out, "/");
    if (bucket && how == OSS_ADDR_PATH) {
        url_escape(out, bucket, strlen(bucket), false);
        buf_adds(out, "/");
    }
    if (bucket && key)
        url_escape(out, key, strlen(key), true);
    if (n_query) {
        buf_adds(out, "?");
        url_query(out, query, n_query);
    }
    return out->err;
}

int url_copy_source(struct buf *out, const char *bucket, const char *key)
{
    buf_addf(out, "/%s/", bucket);
    return url_escape(out, key, strlen(key), true);
}
