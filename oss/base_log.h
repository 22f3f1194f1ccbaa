/*
 * The log: one line for each message, to stderr, a file or syslog.
 *
 * Levels follow dbglevel of the command line. Control characters in a message are written as \xNN, so that an
 * object key cannot forge a line. Callers never pass credentials, signatures or query strings.
 * Thread-safe; log_open() must come before any thread.
 */
#ifndef OSS_BASE_LOG_H
#define OSS_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_CRIT, LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_target {
    LOG_TO_STDERR,
    LOG_TO_SYSLOG,
    LOG_TO_FILE, /* appended to, created with mode 0600 */
};

/* Returns 0 or a negative errno (the file cannot be opened). Before this call messages go to stderr at INFO. */
int log_open(enum log_target target, const char *path, enum log_level level);

/* Closes and opens the file again (log rotation); 0 or a negative errno, the old file stays in use then. */
int log_reopen(void);

void log_set_level(enum log_level level);

/* The next louder level, the quietest after the loudest; says so in a line. */
void log_next_level(void);
bool log_enabled(enum log_level level);

void log_msg(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_crit(...) log_msg(LOG_LEVEL_CRIT, __VA_ARGS__)
#define log_err(...)  log_msg(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                             \
    do {                                           \
        if (log_enabled(LOG_LEVEL_DEBUG))          \
            log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__); \
    } while (0)

#endif
