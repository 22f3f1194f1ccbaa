/*
 * Clocks and the three date forms of the protocol. All pure except the two clock readers; all thread-safe.
 */
#ifndef OSS_BASE_TIME_H
#define OSS_BASE_TIME_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t clock_ms(void);

/* CLOCK_REALTIME. */
struct timespec clock_wall(void);

/* "Wed, 22 Feb 2012 08:32:21 GMT" (RFC 7231) <-> seconds since 1970. Parse: 0 or -EINVAL. */
#define HTTP_DATE_SIZE 30
void http_date_format(char out[HTTP_DATE_SIZE], time_t t);
int http_date_parse(const char *text, time_t *out);

/* "2012-02-22T08:32:21.000Z" and "2012-02-22T08:32:21Z" -> seconds. 0 or -EINVAL. */
int iso_date_parse(const char *text, time_t *out);

/* "20120222T083221Z", the form of x-oss-date in signature V4. */
#define ISO_BASIC_SIZE 17
void iso_basic_format(char out[ISO_BASIC_SIZE], time_t t);

#endif
