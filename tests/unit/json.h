/*
 * A small JSON reader for the test vectors: a whole file into a tree. Bounded in depth and size; a file that is no
 * JSON ends the test program with a message, so that callers need no error paths.
 */
#ifndef TESTS_JSON_H
#define TESTS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    char *text; /* a string's bytes (UTF-8), a number as written */
    size_t len; /* of text */
    size_t n;   /* children */
    char **names;
    struct json **items;
};

/* The file tests/unit/vectors/NAME. */
struct json *json_load(const char *name);
struct json *json_parse(const char *text, size_t n); /* NULL: no JSON */
void json_free(struct json *j);

/* The child, NULL when there is none; j may be NULL. */
const struct json *json_get(const struct json *j, const char *name);

/* The text of a string child, NULL when it is null or missing. */
const char *json_str(const struct json *j, const char *name);

/* The number of a child; ends the program when there is none. */
int64_t json_int(const struct json *j, const char *name);
/* An unsigned number, also one written as a string. */
uint64_t json_u64(const struct json *j, const char *name);
bool json_bool(const struct json *j, const char *name);

#endif
