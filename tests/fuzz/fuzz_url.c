/*
 * Escaping there and back, decoding of anything, endpoint texts, and the dates that come with a reply.
 */
#include "../../oss/base_time.h"
#include "../../oss/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void fuzz_endpoint(const char *text)
{
    struct url_endpoint e;
    char why[200] = "", region[URL_REGION_SIZE];
    struct buf out = BUF_INIT(1 << 20);

    if (url_endpoint_parse(&e, text, why, sizeof why)) {
        check(why[0] && strlen(why) < sizeof why);
        return;
    }
    check(e.host[0] && strlen(e.host) < sizeof e.host && e.port <= 65535);
    /* Nothing that could end a line, a host or a path gets into a URL. */
    check(!strpbrk(e.host, "/?#@ \r\n\t[]"));
    if (url_region(&e, region))
        check(region[0] && strlen(region) < sizeof region);
    check(url_build(&out, &e, url_addressing(&e, OSS_ADDR_AUTO, "bucket"), "bucket", text, NULL, 0) == 0);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    struct buf escaped = BUF_INIT(4 << 20);
    ssize_t n;
    time_t t;

    if (!text)
        return 0;
    check(url_escape(&escaped, text, strlen(text), size % 2) == 0);
    if (escaped.data) {
        check(escaped.len ==
              strspn(escaped.data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%/"));
        check(url_unescape(escaped.data) == (ssize_t)strlen(text));
        check(!strcmp(escaped.data, text));
    }
    fuzz_endpoint(text);
    if (!http_date_parse(text, &t)) {
        char again[HTTP_DATE_SIZE];

        http_date_format(again, t);
        check(strlen(again) == strlen(text));
    }
    iso_date_parse(text, &t);
    n = url_unescape(text);
    check(n < 0 || (size_t)n == strlen(text));
    buf_free(&escaped);
    free(text);
    return 0;
}
