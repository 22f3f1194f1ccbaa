/*
 * The members of one flat JSON object, as programs and services hand out access keys. Pure, thread-safe.
 */
#ifndef OSS_BASE_JSON_H
#define OSS_BASE_JSON_H

#include <stddef.h>

/* A member whose value is a string: both decoded, UTF-8. 0 goes on, anything else ends the reading. */
typedef int json_member(void *arg, const char *name, const char *value);

/*
 * Reads the object that `text` is, to its end, and calls `each` for every member of it whose value is a string; what
 * lies deeper and what is no string is checked and passed over. 0; -EINVAL for what is no JSON object, holds a NUL,
 * or is nested deeper than 32; -ENOMEM; or what `each` returned.
 */
int json_members(const char *text, size_t n, json_member *each, void *arg);

#endif
