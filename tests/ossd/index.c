/* index.c: a skip list, one level in four; see index.h. */
#include "index.h"

#include <stdlib.h>

#define LEVELS 14

struct index_node {
    struct bytes key;
    void *value;
    struct index_node *next[]; /* one for each level of this node */
};

struct index {
    size_t count;
    uint64_t seed;
    int height;
    struct index_node *first[LEVELS];
};

struct index *index_new(void)
{
    struct index *index = xcalloc(1, sizeof *index);

    index->seed = 88172645463325252u;
    index->height = 1;
    return index;
}

void index_free(struct index *index)
{
    if (!index)
        return;
    for (struct index_node *node = index->first[0], *next; node; node = next) {
        next = node->next[0];
        free(node);
    }
    free(index);
}

size_t index_count(const struct index *index)
{
    return index->count;
}

static int random_level(struct index *index)
{
    int level = 1;

    index->seed ^= index->seed << 13;
    index->seed ^= index->seed >> 7;
    index->seed ^= index->seed << 17;
    for (uint64_t bits = index->seed >> 8; level < LEVELS && (bits & 3) == 0; bits >>= 2)
        level++;
    return level;
}

/*
 * The first node with a key >= key (> with `after`). links[l], when asked for, is the pointer on level l that leads
 * past the key.
 */
static struct index_node *seek(const struct index *index, struct bytes key, bool after, struct index_node ***links)
{
    struct index_node **at = (struct index_node **)index->first;

    for (int level = index->height - 1; level >= 0; level--) {
        for (struct index_node *node = at[level]; node; node = at[level]) {
            int r = bytes_compare(node->key, key);
            if (r > 0 || (r == 0 && !after))
                break;
            at = node->next;
        }
        if (links)
            links[level] = &at[level];
    }
    return at[0];
}

void *index_find(const struct index *index, struct bytes key)
{
    struct index_node *node = seek(index, key, false, NULL);

    return node && bytes_compare(node->key, key) == 0 ? node->value : NULL;
}

void *index_put(struct index *index, struct bytes key, void *value)
{
    struct index_node **links[LEVELS];
    struct index_node *node = seek(index, key, false, links);

    if (node && bytes_compare(node->key, key) == 0) {
        void *old = node->value;
        node->key = key;
        node->value = value;
        return old;
    }
    int level = random_level(index);
    for (; index->height < level; index->height++)
        links[index->height] = &index->first[index->height];
    node = xmalloc(sizeof *node + (size_t)level * sizeof node->next[0]);
    node->key = key;
    node->value = value;
    for (int i = 0; i < level; i++) {
        node->next[i] = *links[i];
        *links[i] = node;
    }
    index->count++;
    return NULL;
}

void *index_remove(struct index *index, struct bytes key)
{
    struct index_node **links[LEVELS];
    struct index_node *node = seek(index, key, false, links);

    if (!node || bytes_compare(node->key, key) != 0)
        return NULL;
    for (int i = 0; i < index->height && *links[i] == node; i++)
        *links[i] = node->next[i];
    void *value = node->value;
    free(node);
    index->count--;
    return value;
}

const struct index_node *index_seek(const struct index *index, struct bytes key, bool after)
{
    return seek(index, key, after, NULL);
}

const struct index_node *index_next(const struct index_node *node)
{
    return node->next[0];
}

void *index_value(const struct index_node *node)
{
    return node->value;
}

struct bytes index_key(const struct index_node *node)
{
    return node->key;
}
