/*
 * A small ordered list of (name, value) pairs: HTTP headers, user metadata, query parameters.
 *
 * Names are compared without case and stored in lower case. The list owns copies. An all-zero struct is an empty
 * list. Not thread-safe. Functions that add return 0 or -ENOMEM.
 */
#ifndef OSS_BASE_KV_H
#define OSS_BASE_KV_H

#include <stdbool.h>
#include <stddef.h>

struct kv {
    char *name;  /* lower case */
    char *value; /* "" when there is none */
};

struct kvlist {
    struct kv *v;
    size_t n;
};

/* Adds the pair, also when the name is there already. */
int kv_add(struct kvlist *l, const char *name, const char *value);

/* Sets the value of the first pair of that name, adds the pair when there is none. */
int kv_set(struct kvlist *l, const char *name, const char *value);
int kv_setf(struct kvlist *l, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Removes every pair of that name. */
void kv_del(struct kvlist *l, const char *name);

/* The value of the first pair of that name, NULL when there is none; valid until the list changes. */
const char *kv_get(const struct kvlist *l, const char *name);

/* Replaces `to` by a copy of `from`; on -ENOMEM `to` is empty. */
int kv_copy(struct kvlist *to, const struct kvlist *from);

/* Same pairs, in whatever order. */
bool kv_equal(const struct kvlist *a, const struct kvlist *b);

void kv_free(struct kvlist *l);

#endif
