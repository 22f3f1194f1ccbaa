/*
 * index.h: an ordered map from byte strings to pointers (a skip list): what listings walk along.
 *
 * Order: unsigned bytes, a prefix first. The key bytes are borrowed: they live in the value that was put with them,
 * and putting another value under the same key takes over its key bytes as well. Not thread-safe: the caller locks.
 */
#ifndef OSSD_INDEX_H
#define OSSD_INDEX_H

#include "util.h"

struct index;
struct index_node;

struct index *index_new(void);
void index_free(struct index *index); /* the values are the caller's */
size_t index_count(const struct index *index);

void *index_find(const struct index *index, struct bytes key);       /* NULL when absent */
void *index_put(struct index *index, struct bytes key, void *value); /* returns the value replaced, or NULL */
void *index_remove(struct index *index, struct bytes key);           /* returns the value removed, or NULL */

/* The first entry with a key >= `key` (> with `after`), NULL at the end; valid until the next change. */
const struct index_node *index_seek(const struct index *index, struct bytes key, bool after);
const struct index_node *index_next(const struct index_node *node);
void *index_value(const struct index_node *node);
struct bytes index_key(const struct index_node *node);

#endif
