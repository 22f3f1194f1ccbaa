/*
 * format.h: numbers, times and names as a person, a script or Prometheus wants them. Pure.
 */
#ifndef FS_FORMAT_H
#define FS_FORMAT_H

#include "../oss/base_buf.h"

#include <stdint.h>
#include <time.h>

#define FORMAT_SIZE 32

/* "0 B", "999 B", "1.0 KiB", "12.3 MiB", "1024 TiB". */
const char *format_bytes(char out[FORMAT_SIZE], uint64_t n);

/* "3 s", "2 min 25 s", "3 h 12 min", "4 d 1 h". */
const char *format_duration(char out[FORMAT_SIZE], int64_t ms);

/* "2026-11-25 21:55:07" of local time. */
const char *format_time(char out[FORMAT_SIZE], time_t t);

/* "340 us" is of no use here: "0 ms", "12 ms", "3.4 s". */
const char *format_latency(char out[FORMAT_SIZE], double ms);

/* "[####----]" of `width` cells between the brackets, for done of total; a total of 0 is full. */
void format_bar(struct buf *out, uint64_t done, uint64_t total, unsigned width);

/*
 * Text of a stranger for a terminal: control characters as \xNN, invalid UTF-8 too; at most `columns` wide (a longer
 * one keeps its end behind "..."), and padded to that width when `pad`. 0 columns: not cut.
 */
void format_name(struct buf *out, const char *name, unsigned columns, int pad);

/* "..." with its quotes, as JSON wants it; invalid UTF-8 as U+FFFD. */
void format_json(struct buf *out, const char *text);

/* A label's value without its quotes, as Prometheus wants it; control characters as U+FFFD. */
void format_label(struct buf *out, const char *text);

/*
 * "90", "30s", "15m", "12h", "7d" as seconds: 0, or -EINVAL for anything else, 0, and what no time_t holds.
 */
int format_read_duration(const char *text, int64_t *seconds);

#endif
