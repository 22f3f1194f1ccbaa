#include "base_time.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* strftime() and strptime() depend on the locale, so the names are here. */
static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

int64_t clock_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct timespec clock_wall(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return ts;
}

/* The calendar of t, kept within four-digit years so that the fixed sizes hold. */
static struct tm calendar(time_t t)
{
    const time_t last = 253402300799; /* 9999-12-31T23:59:59Z */
    struct tm tm;

    if (t < 0)
        t = 0;
    if (t > last)
        t = last;
    gmtime_r(&t, &tm);
    return tm;
}

void http_date_format(char out[HTTP_DATE_SIZE], time_t t)
{
    struct tm tm = calendar(t);
    char text[128];

    snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
             months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(out, text, HTTP_DATE_SIZE - 1);
    out[HTTP_DATE_SIZE - 1] = '\0';
}

void iso_basic_format(char out[ISO_BASIC_SIZE], time_t t)
{
    struct tm tm = calendar(t);
    char text[128];

    snprintf(text, sizeof text, "%04d%02d%02dT%02d%02d%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
             tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(out, text, ISO_BASIC_SIZE - 1);
    out[ISO_BASIC_SIZE - 1] = '\0';
}

/* Exactly n digits at *p as a number, -1 when they are not there; *p moves past them. */
static int digits(const char **p, int n)
{
    int value = 0;

    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return -1;
        value = value * 10 + (**p - '0');
    }
    return value;
}

static bool skip(const char **p, const char *text)
{
    size_t n = strlen(text);

    if (strncmp(*p, text, n) != 0)
        return false;
    *p += n;
    return true;
}

/* "08:32:21" */
static bool clock_of_day(const char **p, struct tm *tm)
{
    tm->tm_hour = digits(p, 2);
    if (tm->tm_hour < 0 || !skip(p, ":"))
        return false;
    tm->tm_min = digits(p, 2);
    if (tm->tm_min < 0 || !skip(p, ":"))
        return false;
    tm->tm_sec = digits(p, 2);
    return tm->tm_sec >= 0;
}

/* timegm() makes a date of anything; a date that it had to change was none. */
static int to_seconds(struct tm *tm, time_t *out)
{
    const struct tm given = *tm;
    time_t t;

    if (tm->tm_sec == 60) /* a leap second counts as the one before */
        tm->tm_sec = 59;
    t = timegm(tm);
    if (tm->tm_year != given.tm_year || tm->tm_mon != given.tm_mon || tm->tm_mday != given.tm_mday ||
        tm->tm_hour != given.tm_hour || tm->tm_min != given.tm_min ||
        (given.tm_sec != 60 && tm->tm_sec != given.tm_sec))
        return -EINVAL;
    *out = t;
    return 0;
}

int http_date_parse(const char *text, time_t *out)
{
    const char *p = text;
    struct tm tm = {0};
    int day = -1;

    for (int i = 0; i < 7; i++)
        if (!strncmp(p, days[i], 3))
            day = i;
    if (day < 0)
        return -EINVAL;
    p += 3;
    if (!skip(&p, ", "))
        return -EINVAL;
    tm.tm_mday = digits(&p, 2);
    if (tm.tm_mday < 0 || !skip(&p, " "))
        return -EINVAL;
    tm.tm_mon = -1;
    for (int i = 0; i < 12; i++)
        if (!strncmp(p, months[i], 3))
            tm.tm_mon = i;
    if (tm.tm_mon < 0)
        return -EINVAL;
    p += 3;
    if (!skip(&p, " "))
        return -EINVAL;
    tm.tm_year = digits(&p, 4);
    if (tm.tm_year < 0 || !skip(&p, " ") || !clock_of_day(&p, &tm) || !skip(&p, " GMT") || *p)
        return -EINVAL;
    tm.tm_year -= 1900;
    return to_seconds(&tm, out);
}

int iso_date_parse(const char *text, time_t *out)
{
    const char *p = text;
    struct tm tm = {0};

    tm.tm_year = digits(&p, 4);
    if (tm.tm_year < 0 || !skip(&p, "-"))
        return -EINVAL;
    tm.tm_mon = digits(&p, 2);
    if (tm.tm_mon < 0 || !skip(&p, "-"))
        return -EINVAL;
    tm.tm_mday = digits(&p, 2);
    if (tm.tm_mday < 0 || !skip(&p, "T") || !clock_of_day(&p, &tm))
        return -EINVAL;
    if (*p == '.') {
        p++;
        if (digits(&p, 1) < 0)
            return -EINVAL;
        while (*p >= '0' && *p <= '9')
            p++;
    }
    if (!skip(&p, "Z") || *p)
        return -EINVAL;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return to_seconds(&tm, out);
}
