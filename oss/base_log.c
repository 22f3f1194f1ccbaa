#include "base_log.h"

#include "base_time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

/* The longest key, each byte as \xNN, and room for the words around it. */
#define LINE_MAX_BYTES 6144
#define MESSAGE_MAX    4096

static const char *const level_names[] = {"crit", "error", "warning", "info", "debug"};
static const int syslog_levels[] = {LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

static atomic_int log_level = LOG_LEVEL_INFO;

/*
 * No lock: log_open() sets these before there are threads, each line is one write() of a file opened to append, and
 * log_reopen() puts the new file under the same descriptor.
 */
static enum log_target log_target = LOG_TO_STDERR;
static int log_fd = -1; /* of the file */
static char *log_path;

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);

    return fd < 0 ? -errno : fd;
}

int log_open(enum log_target target, const char *path, enum log_level level)
{
    char *copy = NULL;
    int fd = -1;

    if (target == LOG_TO_FILE) {
        /* The daemon changes to "/": a relative name would not be found again by log_reopen(). */
        if (path[0] != '/') {
            char *cwd = getcwd(NULL, 0);

            if (!cwd)
                return -errno;
            if (asprintf(&copy, "%s/%s", cwd, path) < 0)
                copy = NULL;
            free(cwd);
        } else {
            copy = strdup(path);
        }
        if (!copy)
            return -ENOMEM;
        fd = open_file(copy);
        if (fd < 0) {
            free(copy);
            return fd;
        }
    }
    if (target == LOG_TO_SYSLOG)
        openlog("ossmount", LOG_PID, LOG_DAEMON);

    if (log_fd >= 0)
        close(log_fd);
    free(log_path);
    log_target = target;
    log_fd = fd;
    log_path = copy;
    log_set_level(level);
    return 0;
}

int log_reopen(void)
{
    int fd, r = 0;

    if (log_target != LOG_TO_FILE)
        return 0;
    fd = open_file(log_path);
    if (fd < 0)
        return fd;
    if (dup3(fd, log_fd, O_CLOEXEC) < 0)
        r = -errno;
    close(fd);
    return r;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void log_next_level(void)
{
    int level = atomic_load_explicit(&log_level, memory_order_relaxed);

    level = level == LOG_LEVEL_DEBUG ? LOG_LEVEL_CRIT : level + 1;
    log_set_level((enum log_level)level);
    log_msg((enum log_level)level, "log level: %s", level_names[level]);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* A control character begins at p: one byte, or a C1 character in UTF-8 (some terminals obey those too). */
static bool is_control(const unsigned char *p)
{
    return *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0);
}

/* Copies text with control characters as \xNN. */
static size_t append_clean(char *line, size_t at, size_t max, const char *text)
{
    static const char hex[] = "0123456789abcdef";

    for (const unsigned char *p = (const unsigned char *)text; *p && at + 4 < max; p++) {
        if (is_control(p)) {
            line[at++] = '\\';
            line[at++] = 'x';
            line[at++] = hex[*p >> 4];
            line[at++] = hex[*p & 15];
        } else {
            line[at++] = (char)*p;
        }
    }
    return at;
}

/* "2026-11-20T10:00:00.123Z warning " */
static size_t append_prefix(char *line, size_t max, enum log_level level)
{
    struct timespec ts = clock_wall();
    struct tm tm;
    int n;

    gmtime_r(&ts.tv_sec, &tm);
    n = snprintf(line, max, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                 tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000, level_names[level]);
    return n < 0 || (size_t)n >= max ? 0 : (size_t)n;
}

static void write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t done = write(fd, data, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return; /* there is no one left to tell */
        data += done;
        n -= (size_t)done;
    }
}

void log_msg(enum log_level level, const char *format, ...)
{
    const int saved_errno = errno;
    char message[MESSAGE_MAX], line[LINE_MAX_BYTES];
    size_t n;
    va_list ap;

    if (!log_enabled(level))
        return;
    va_start(ap, format);
    if (vsnprintf(message, sizeof message, format, ap) < 0)
        message[0] = '\0';
    va_end(ap);

    n = append_prefix(line, sizeof line, level);
    const size_t prefix = n;
    n = append_clean(line, n, sizeof line - 1, message);

    if (log_target == LOG_TO_SYSLOG) {
        syslog(syslog_levels[level], "%.*s", (int)(n - prefix), line + prefix);
    } else {
        line[n++] = '\n';
        write_all(log_target == LOG_TO_FILE ? log_fd : STDERR_FILENO, line, n);
    }
    errno = saved_errno;
}
