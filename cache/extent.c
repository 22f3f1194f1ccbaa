/*
 * The map is an AVL tree of extents ordered by their start. All changes are made of two moves: split the tree at
 * an offset, and join two trees around a node; both cost O(log n). What lies between two splits is taken out as a
 * list, changed, merged where neighbours have become alike, and joined back.
 *
 * A change must leave the map as it was when memory runs out. So the nodes that a change may need (at most three:
 * two cut extents and a new one) are put into the map's `spare` list before the first pointer moves.
 */
#include "extent.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KIND_REMOTE = 1,
    KIND_CLEAN = 2,
    KIND_DIRTY = 4,
};

struct node {
    struct node *left, *right; /* as a list element: right is the next, left unused */
    struct extent e;
    unsigned char height; /* of the subtree, a leaf has 1 */
    unsigned char kinds;  /* KIND_* of all extents in the subtree, so that searches skip what cannot match */
};

/* How many extents name a base, so that extent_map_uses() need not walk. Few bases: a plain array. */
struct base_ref {
    int base;
    size_t extents;
};

struct extent_map {
    struct node *root;
    uint64_t size;
    uint64_t local_bytes, dirty_bytes;
    size_t count;
    struct node *spare; /* list through `right` */
    size_t n_spare;
    struct base_ref *refs; /* those with extents > 0, in no order */
    size_t n_refs, refs_size;
};

#define SPARE_KEEP 4 /* nodes kept for the next change instead of being freed */

static unsigned extent_kind(const struct extent *e)
{
    if (e->base == EXTENT_NEW)
        return KIND_DIRTY;
    return e->local ? KIND_CLEAN : KIND_REMOTE;
}

/* May `b`, which begins where `a` ends, be one extent with it? */
static bool extent_continues(const struct extent *a, const struct extent *b)
{
    if (a->end != b->start || a->local != b->local || a->base != b->base || a->epoch != b->epoch)
        return false;
    return a->base == EXTENT_NEW || a->base_offset + (a->end - a->start) == b->base_offset;
}

/* ------------------------------------------------------------------------------------------- bookkeeping */

static struct base_ref *ref_find(const struct extent_map *map, int base)
{
    for (size_t i = 0; i < map->n_refs; i++)
        if (map->refs[i].base == base)
            return &map->refs[i];
    return NULL;
}

/* The extent joins the map (its sums, that is). The room for a new base was made by refs_reserve(). */
static void account_add(struct extent_map *map, const struct extent *e)
{
    uint64_t length = e->end - e->start;
    struct base_ref *ref;

    map->count++;
    if (e->local)
        map->local_bytes += length;
    if (e->base == EXTENT_NEW) {
        map->dirty_bytes += length;
        return;
    }
    ref = ref_find(map, e->base);
    if (!ref) {
        assert(map->refs && map->n_refs < map->refs_size);
        ref = &map->refs[map->n_refs++];
        *ref = (struct base_ref){.base = e->base};
    }
    ref->extents++;
}

static void account_remove(struct extent_map *map, const struct extent *e)
{
    uint64_t length = e->end - e->start;
    struct base_ref *ref;

    map->count--;
    if (e->local)
        map->local_bytes -= length;
    if (e->base == EXTENT_NEW) {
        map->dirty_bytes -= length;
        return;
    }
    ref = ref_find(map, e->base);
    assert(map->refs && ref);
    if (--ref->extents == 0)
        *ref = map->refs[--map->n_refs];
}

/* Room for one more base. */
static int refs_reserve(struct extent_map *map)
{
    struct base_ref *refs;
    size_t size = map->refs_size ? 2 * map->refs_size : 4;

    if (map->n_refs < map->refs_size)
        return 0;
    refs = realloc(map->refs, size * sizeof(*refs));
    if (!refs)
        return -ENOMEM;
    map->refs = refs;
    map->refs_size = size;
    return 0;
}

static int nodes_reserve(struct extent_map *map, size_t n)
{
    while (map->n_spare < n) {
        struct node *node = malloc(sizeof(*node));

        if (!node)
            return -ENOMEM;
        node->right = map->spare;
        map->spare = node;
        map->n_spare++;
    }
    return 0;
}

/* A node from the reserve, in no tree, not yet accounted. */
static struct node *node_take(struct extent_map *map, const struct extent *e)
{
    struct node *node = map->spare;

    map->spare = node->right;
    map->n_spare--;
    node->e = *e;
    node->right = NULL;
    return node;
}

static void node_release(struct extent_map *map, struct node *node)
{
    if (map->n_spare >= SPARE_KEEP) {
        free(node);
        return;
    }
    node->right = map->spare;
    map->spare = node;
    map->n_spare++;
}

/* -------------------------------------------------------------------------------------------------- tree */

static int tree_height(const struct node *t)
{
    return t ? t->height : 0;
}

static struct node *tree_update(struct node *t)
{
    int left = tree_height(t->left), right = tree_height(t->right);

    t->height = (unsigned char)(1 + (left > right ? left : right));
    t->kinds = (unsigned char)extent_kind(&t->e);
    if (t->left)
        t->kinds |= t->left->kinds;
    if (t->right)
        t->kinds |= t->right->kinds;
    return t;
}

static struct node *tree_rotate_left(struct node *t)
{
    struct node *top = t->right;

    t->right = top->left;
    top->left = tree_update(t);
    return tree_update(top);
}

static struct node *tree_rotate_right(struct node *t)
{
    struct node *top = t->left;

    t->left = top->right;
    top->right = tree_update(t);
    return tree_update(top);
}

/* The heights of the children differ by at most two. */
static struct node *tree_balance(struct node *t)
{
    struct node *left = t->left, *right = t->right;

    if (right && right->height > tree_height(left) + 1) {
        if (right->left && right->left->height > tree_height(right->right))
            t->right = tree_rotate_right(right);
        return tree_rotate_left(t);
    }
    if (left && left->height > tree_height(right) + 1) {
        if (left->right && left->right->height > tree_height(left->left))
            t->left = tree_rotate_left(left);
        return tree_rotate_right(t);
    }
    return tree_update(t);
}

/* One tree of `left`, `middle` and `right`, in this order; O(difference of heights). */
static struct node *tree_join(struct node *left, struct node *middle, struct node *right)
{
    if (left && left->height > tree_height(right) + 1) {
        left->right = tree_join(left->right, middle, right);
        return tree_balance(left);
    }
    if (right && right->height > tree_height(left) + 1) {
        right->left = tree_join(left, middle, right->left);
        return tree_balance(right);
    }
    middle->left = left;
    middle->right = right;
    return tree_update(middle);
}

/* What begins before `at` goes left, the rest right; an extent across `at` is cut with a reserved node. */
static void tree_split(struct extent_map *map, struct node *t, uint64_t at, struct node **left, struct node **right)
{
    struct node *below;

    if (!t) {
        *left = *right = NULL;
        return;
    }
    if (at <= t->e.start) {
        tree_split(map, t->left, at, left, &below);
        *right = tree_join(below, t, t->right);
    } else if (at >= t->e.end) {
        tree_split(map, t->right, at, &below, right);
        *left = tree_join(t->left, t, below);
    } else {
        struct extent tail = t->e;
        struct node *node;

        tail.start = at;
        if (tail.base != EXTENT_NEW)
            tail.base_offset += at - t->e.start;
        account_remove(map, &t->e);
        t->e.end = at;
        account_add(map, &t->e);
        node = node_take(map, &tail);
        account_add(map, &tail);
        *right = tree_join(NULL, node, t->right);
        *left = tree_join(t->left, t, NULL);
    }
}

/* Takes the last node out of the tree (not empty) and returns the rest. */
static struct node *tree_pull_last(struct node *t, struct node **last)
{
    if (!t->right) {
        *last = t;
        return t->left;
    }
    return tree_join(t->left, t, tree_pull_last(t->right, last));
}

static struct node *tree_pull_first(struct node *t, struct node **first)
{
    if (!t->left) {
        *first = t;
        return t->right;
    }
    return tree_join(tree_pull_first(t->left, first), t, t->right);
}

/* The tree is not empty. */
static const struct node *tree_last(const struct node *t)
{
    while (t->right)
        t = t->right;
    return t;
}

/* The tree is not empty. */
static const struct node *tree_first(const struct node *t)
{
    while (t->left)
        t = t->left;
    return t;
}

/* The nodes in order as a list, with `rest` behind them. */
static struct node *tree_to_list(struct node *t, struct node *rest)
{
    struct node *left;

    if (!t)
        return rest;
    left = t->left;
    t->right = tree_to_list(t->right, rest);
    return tree_to_list(left, t);
}

/* A balanced tree of the first `n` nodes of the list, which moves on behind them. */
static struct node *tree_from_list(struct node **list, size_t n)
{
    struct node *left, *t;

    if (n == 0)
        return NULL;
    left = tree_from_list(list, n / 2);
    t = *list;
    *list = t->right;
    t->right = tree_from_list(list, n - n / 2 - 1);
    t->left = left;
    return tree_update(t);
}

static void list_free(struct node *list)
{
    while (list) {
        struct node *next = list->right;

        free(list);
        list = next;
    }
}

/* ------------------------------------------------------------------------------------------- inner parts */

static struct node *map_node_at(const struct extent_map *map, uint64_t offset)
{
    struct node *t = map->root;

    while (t && (offset < t->e.start || offset >= t->e.end))
        t = offset < t->e.start ? t->left : t->right;
    return t;
}

/* The first extent of one of `kinds` that ends behind `start`. */
static const struct node *tree_find_kind(const struct node *t, uint64_t start, unsigned kinds)
{
    const struct node *found;

    if (!t || !(t->kinds & kinds))
        return NULL;
    if (t->e.end > start) {
        found = tree_find_kind(t->left, start, kinds);
        if (found)
            return found;
        if (extent_kind(&t->e) & kinds)
            return t;
    }
    return tree_find_kind(t->right, start, kinds);
}

static bool map_find_kind(const struct extent_map *map, uint64_t start, uint64_t end, unsigned kind,
                          struct extent *out)
{
    const struct node *node = start < end ? tree_find_kind(map->root, start, kind) : NULL;

    if (!node || node->e.start >= end)
        return false;
    *out = node->e;
    if (out->start < start) {
        if (out->base != EXTENT_NEW)
            out->base_offset += start - out->start;
        out->start = start;
    }
    if (out->end > end)
        out->end = end;
    return true;
}

/* Merges list neighbours that say the same; returns the number of nodes left. */
static size_t map_merge_list(struct extent_map *map, struct node *list)
{
    size_t n = list ? 1 : 0;

    while (list && list->right) {
        struct node *next = list->right;

        if (!extent_continues(&list->e, &next->e)) {
            list = next;
            n++;
            continue;
        }
        account_remove(map, &next->e);
        account_remove(map, &list->e);
        list->e.end = next->e.end;
        account_add(map, &list->e);
        list->right = next->right;
        node_release(map, next);
    }
    return n;
}

/* The map becomes `left`, the nodes of `list` (accounted, at least one, already in order) and `right`. */
static void map_stitch(struct extent_map *map, struct node *left, struct node *list, struct node *right)
{
    struct node *head = list, *tail = list, *middle;
    size_t n;

    assert(list);
    if (left && extent_continues(&tree_last(left)->e, &list->e)) {
        left = tree_pull_last(left, &head);
        head->right = list;
    }
    while (tail->right)
        tail = tail->right;
    if (right && extent_continues(&tail->e, &tree_first(right)->e)) {
        right = tree_pull_first(right, &tail->right);
        tail->right->right = NULL;
    }
    n = map_merge_list(map, head);
    list = head->right;
    if (n == 1) {
        map->root = tree_join(left, head, right);
        return;
    }
    middle = tree_from_list(&list, n - 2);
    map->root = tree_join(tree_join(left, head, middle), list, right);
}

/* What happens to each extent of a range. */
struct change {
    void (*apply)(struct extent *e, const struct change *change);
    uint32_t epoch;
    int base;
    uint64_t start, base_offset; /* what stands at `start` of the map stands at base_offset of the base */
};

/* Applies the change to [start, end), which is not empty. Two nodes and the base were reserved. */
static void map_change(struct extent_map *map, uint64_t start, uint64_t end, const struct change *change)
{
    struct node *left, *middle, *right, *list;

    tree_split(map, map->root, start, &left, &middle);
    tree_split(map, middle, end, &middle, &right);
    list = tree_to_list(middle, NULL);
    for (struct node *node = list; node; node = node->right) {
        account_remove(map, &node->e);
        change->apply(&node->e, change);
        account_add(map, &node->e);
    }
    map_stitch(map, left, list, right);
}

static void apply_fetched(struct extent *e, const struct change *change)
{
    (void)change;
    e->local = true;
}

static void apply_drop(struct extent *e, const struct change *change)
{
    (void)change;
    if (e->base != EXTENT_NEW)
        e->local = false;
}

static void apply_commit(struct extent *e, const struct change *change)
{
    if (e->base == EXTENT_NEW && e->epoch > change->epoch)
        return;
    e->base = change->base;
    e->base_offset = e->start;
    e->epoch = 0;
}

static void apply_settle(struct extent *e, const struct change *change)
{
    if (e->base != EXTENT_NEW || e->epoch > change->epoch)
        return;
    e->base = change->base;
    e->base_offset = change->base_offset + (e->start - change->start);
    e->epoch = 0;
}

/* Frees every node of the tree and leaves the sums at zero. */
static void map_clear(struct extent_map *map)
{
    list_free(tree_to_list(map->root, NULL));
    map->root = NULL;
    map->size = map->local_bytes = map->dirty_bytes = 0;
    map->count = map->n_refs = 0;
}

/* ----------------------------------------------------------------------------------------- the interface */

struct extent_map *extent_map_new(void)
{
    return calloc(1, sizeof(struct extent_map));
}

void extent_map_free(struct extent_map *map)
{
    if (!map)
        return;
    map_clear(map);
    list_free(map->spare);
    free(map->refs);
    free(map);
}

/* False when out of memory; what was copied so far hangs at *copy all the same. */
static bool tree_clone(const struct node *t, struct node **copy)
{
    *copy = NULL;
    if (!t)
        return true;
    *copy = malloc(sizeof(**copy));
    if (!*copy)
        return false;
    **copy = *t;
    (*copy)->right = NULL;
    return tree_clone(t->left, &(*copy)->left) && tree_clone(t->right, &(*copy)->right);
}

struct extent_map *extent_map_clone(const struct extent_map *map)
{
    struct extent_map *copy = malloc(sizeof(*copy));

    if (!copy)
        return NULL;
    *copy = *map;
    copy->root = copy->spare = NULL;
    copy->n_spare = 0;
    copy->refs = NULL;
    copy->n_refs = copy->refs_size = 0;
    if (map->n_refs > 0) {
        copy->refs = malloc(map->n_refs * sizeof(*copy->refs));
        if (!copy->refs)
            goto fail;
        memcpy(copy->refs, map->refs, map->n_refs * sizeof(*copy->refs));
        copy->n_refs = copy->refs_size = map->n_refs;
    }
    if (!tree_clone(map->root, &copy->root))
        goto fail;
    return copy;
fail:
    extent_map_free(copy);
    return NULL;
}

uint64_t extent_map_size(const struct extent_map *map)
{
    return map->size;
}

int extent_map_set_base(struct extent_map *map, int base, uint64_t size)
{
    struct extent e = {.start = 0, .end = size, .base = base};
    int r;

    r = nodes_reserve(map, 1);
    if (r == 0)
        r = refs_reserve(map);
    if (r < 0)
        return r;
    map_clear(map);
    if (size > 0) {
        map->root = tree_join(NULL, node_take(map, &e), NULL);
        account_add(map, &e);
    }
    map->size = size;
    return 0;
}

/* The common writes need no surgery: into bytes that are dirty already, or on at the end of them. */
static bool map_write_in_place(struct extent_map *map, uint64_t start, uint64_t end, uint32_t epoch)
{
    struct node *node;

    if (map->size == 0)
        return false;
    node = map_node_at(map, start < map->size ? start : map->size - 1);
    if (node->e.base != EXTENT_NEW || node->e.epoch != epoch)
        return false;
    if (end <= node->e.end)
        return true;
    if (node->e.end != map->size)
        return false;
    map->local_bytes += end - map->size;
    map->dirty_bytes += end - map->size;
    node->e.end = map->size = end;
    return true;
}

/* What is in [e.start, e.end) makes room for `e`. Three nodes, and the base, were reserved. */
static void map_replace(struct extent_map *map, const struct extent *e)
{
    struct node *left, *middle, *right, *list;

    tree_split(map, map->root, e->start, &left, &middle);
    tree_split(map, middle, e->end, &middle, &right);
    list = node_take(map, e);
    account_add(map, e);
    for (struct node *old = tree_to_list(middle, NULL), *next; old; old = next) {
        next = old->right;
        account_remove(map, &old->e);
        node_release(map, old);
    }
    map_stitch(map, left, list, right);
    if (e->end > map->size)
        map->size = e->end;
}

int extent_map_write(struct extent_map *map, uint64_t start, uint64_t end, uint32_t epoch)
{
    int r;

    if (start >= end)
        return 0;
    if (start > map->size)
        start = map->size;
    if (map_write_in_place(map, start, end, epoch))
        return 0;
    r = nodes_reserve(map, 3);
    if (r == 0)
        map_replace(map,
                    &(struct extent){.start = start, .end = end, .local = true, .base = EXTENT_NEW, .epoch = epoch});
    return r;
}

int extent_map_share(struct extent_map *map, uint64_t start, uint64_t end, int base, uint64_t base_offset)
{
    int r;

    if (start > map->size)
        return -EINVAL;
    if (start >= end)
        return 0;
    r = nodes_reserve(map, 3);
    if (r == 0)
        r = refs_reserve(map);
    if (r == 0)
        map_replace(map, &(struct extent){.start = start, .end = end, .base = base, .base_offset = base_offset});
    return r;
}

int extent_map_truncate(struct extent_map *map, uint64_t size, uint32_t epoch)
{
    struct node *rest;
    int r;

    if (size >= map->size)
        return extent_map_write(map, map->size, size, epoch);
    r = nodes_reserve(map, 1);
    if (r < 0)
        return r;
    tree_split(map, map->root, size, &map->root, &rest);
    for (struct node *node = tree_to_list(rest, NULL), *next; node; node = next) {
        next = node->right;
        account_remove(map, &node->e);
        node_release(map, node);
    }
    map->size = size;
    return 0;
}

/* The change for those of `kind` in the range; nothing to do, and nothing to allocate, where there is none. */
static int map_change_kind(struct extent_map *map, uint64_t start, uint64_t end, unsigned kind,
                           void (*apply)(struct extent *, const struct change *))
{
    struct change change = {.apply = apply};
    struct extent first;
    int r;

    if (!map_find_kind(map, start, end, kind, &first))
        return 0;
    r = nodes_reserve(map, 2);
    if (r < 0)
        return r;
    map_change(map, first.start, end < map->size ? end : map->size, &change);
    return 0;
}

int extent_map_fetched(struct extent_map *map, uint64_t start, uint64_t end)
{
    return map_change_kind(map, start, end, KIND_REMOTE, apply_fetched);
}

int extent_map_drop(struct extent_map *map, uint64_t start, uint64_t end)
{
    return map_change_kind(map, start, end, KIND_CLEAN, apply_drop);
}

int extent_map_commit(struct extent_map *map, uint32_t epoch, int base, uint64_t size)
{
    struct change change = {.apply = apply_commit, .epoch = epoch, .base = base};
    uint64_t end = size < map->size ? size : map->size; /* it may have been truncated meanwhile */
    int r;

    if (end == 0)
        return 0;
    r = nodes_reserve(map, 2);
    if (r == 0)
        r = refs_reserve(map);
    if (r < 0)
        return r;
    map_change(map, 0, end, &change);
    return 0;
}

int extent_map_settle(struct extent_map *map, uint64_t start, uint64_t end, uint32_t epoch, int base,
                      uint64_t base_offset)
{
    const struct change change = {
        .apply = apply_settle, .epoch = epoch, .base = base, .start = start, .base_offset = base_offset};
    int r;

    if (end > map->size)
        end = map->size;
    if (start >= end)
        return 0;
    r = nodes_reserve(map, 2);
    if (r == 0)
        r = refs_reserve(map);
    if (r == 0)
        map_change(map, start, end, &change);
    return r;
}

bool extent_map_find(const struct extent_map *map, uint64_t offset, struct extent *out)
{
    const struct node *node = map_node_at(map, offset);

    if (!node)
        return false;
    *out = node->e;
    return true;
}

bool extent_map_next_remote(const struct extent_map *map, uint64_t start, uint64_t end, struct extent *out)
{
    return map_find_kind(map, start, end, KIND_REMOTE, out);
}

bool extent_map_next_dirty(const struct extent_map *map, uint64_t start, uint64_t end, struct extent *out)
{
    return map_find_kind(map, start, end, KIND_DIRTY, out);
}

bool extent_map_uses(const struct extent_map *map, int base)
{
    return ref_find(map, base) != NULL;
}

uint64_t extent_map_local_bytes(const struct extent_map *map)
{
    return map->local_bytes;
}

uint64_t extent_map_dirty_bytes(const struct extent_map *map)
{
    return map->dirty_bytes;
}

size_t extent_map_count(const struct extent_map *map)
{
    return map->count;
}

/* ----------------------------------------------------------------------------------------------- checker */

/* What the walk has seen so far. */
struct walk {
    const struct node *last;
    uint64_t local_bytes, dirty_bytes;
    size_t count, based;
};

static void check_that(bool holds, const char *what, const struct node *node)
{
    if (holds)
        return;
    fprintf(stderr, "extent map broken: %s", what);
    if (node)
        fprintf(stderr, " at [%llu, %llu) local %d base %d@%llu epoch %u", (unsigned long long)node->e.start,
                (unsigned long long)node->e.end, node->e.local, node->e.base, (unsigned long long)node->e.base_offset,
                node->e.epoch);
    fputc('\n', stderr);
    abort();
}

static void check_extent(const struct extent_map *map, const struct node *node, struct walk *walk)
{
    const struct extent *e = &node->e;

    check_that(e->start < e->end, "empty extent", node);
    check_that(e->start == (walk->last ? walk->last->e.end : 0), "gap or overlap", node);
    check_that(!walk->last || !extent_continues(&walk->last->e, e), "neighbours not merged", node);
    if (e->base == EXTENT_NEW) {
        check_that(e->local, "neither local nor in a base", node);
        check_that(e->base_offset == 0, "dirty extent with a base offset", node);
    } else {
        check_that(e->base >= 0, "no such base number", node);
        check_that(e->epoch == 0, "clean or remote extent with an epoch", node);
        check_that(ref_find(map, e->base), "base without a count", node);
        walk->based++;
    }
    walk->last = node;
    walk->count++;
    walk->local_bytes += e->local ? e->end - e->start : 0;
    walk->dirty_bytes += e->base == EXTENT_NEW ? e->end - e->start : 0;
}

static void check_tree(const struct extent_map *map, const struct node *t, struct walk *walk)
{
    int left, right;
    unsigned kinds;

    if (!t)
        return;
    left = tree_height(t->left);
    right = tree_height(t->right);
    kinds = extent_kind(&t->e) | (t->left ? t->left->kinds : 0U) | (t->right ? t->right->kinds : 0U);
    check_tree(map, t->left, walk);
    check_extent(map, t, walk);
    check_tree(map, t->right, walk);
    check_that(left - right <= 1 && right - left <= 1, "tree out of balance", t);
    check_that(t->height == 1 + (left > right ? left : right), "wrong height", t);
    check_that(t->kinds == kinds, "wrong kinds", t);
}

void extent_map_check(const struct extent_map *map)
{
    struct walk walk = {0};
    size_t based = 0, spare = 0;

    check_tree(map, map->root, &walk);
    check_that(map->size == (walk.last ? walk.last->e.end : 0), "size is not the end of the last extent", walk.last);
    check_that(map->count == walk.count, "wrong count", NULL);
    check_that(map->local_bytes == walk.local_bytes, "wrong sum of local bytes", NULL);
    check_that(map->dirty_bytes == walk.dirty_bytes, "wrong sum of dirty bytes", NULL);
    for (size_t i = 0; i < map->n_refs; i++) {
        check_that(map->refs[i].extents > 0, "base counted with no extent", NULL);
        based += map->refs[i].extents;
    }
    check_that(based == walk.based, "wrong count of extents in bases", NULL);
    for (const struct node *node = map->spare; node; node = node->right)
        spare++;
    check_that(spare == map->n_spare, "wrong number of spare nodes", NULL);
}
