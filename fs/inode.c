#include "inode.h"

#include "path.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct inodes {
    pthread_mutex_t mu;
    struct inode **by_ino, **by_name;
    size_t buckets, n;
    uint64_t freed;
    size_t hand; /* the bucket of by_ino that inode_pick() looks at next */
    size_t limit;
    bool told; /* of the limit's passing, and not below it since */
    void (*above)(void *arg);
    void *above_arg;
    struct inode *root;
    char *root_key;
};

#define PICK_BUCKETS 8192 /* looked at in one go, for the lock's sake */

static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

static uint64_t spread(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    return h;
}

static size_t name_bucket(const struct inodes *t, const struct inode *parent, const char *name)
{
    return spread(hash_text(parent->ino, name)) & (t->buckets - 1);
}

static size_t ino_bucket(const struct inodes *t, uint64_t ino)
{
    return spread(ino) & (t->buckets - 1);
}

static struct inode *find_ino(struct inodes *t, uint64_t ino)
{
    struct inode *i = t->by_ino[ino_bucket(t, ino)];

    while (i && i->ino != ino)
        i = i->hash_ino;
    return i;
}

static struct inode *find_name(struct inodes *t, struct inode *parent, const char *name)
{
    struct inode *i = t->by_name[name_bucket(t, parent, name)];

    while (i && (i->parent != parent || strcmp(i->name, name)))
        i = i->hash_name;
    return i;
}

static void link_name(struct inodes *t, struct inode *i)
{
    size_t b = name_bucket(t, i->parent, i->name);

    i->hash_name = t->by_name[b];
    t->by_name[b] = i;
}

static void unlink_name(struct inodes *t, struct inode *i)
{
    struct inode **p = &t->by_name[name_bucket(t, i->parent, i->name)];

    while (*p != i)
        p = &(*p)->hash_name;
    *p = i->hash_name;
}

static void link_ino(struct inodes *t, struct inode *i)
{
    size_t b = ino_bucket(t, i->ino);

    i->hash_ino = t->by_ino[b];
    t->by_ino[b] = i;
    t->n++;
}

static void grow(struct inodes *t)
{
    size_t old = t->buckets;
    struct inode **by_ino = calloc(old * 2, sizeof(struct inode *)),
                 **by_name = calloc(old * 2, sizeof(struct inode *));
    struct inode **from = t->by_ino, *next;

    if (!by_ino || !by_name) {
        free(by_ino);
        free(by_name);
        return; /* longer chains, no harm */
    }
    free(t->by_name);
    t->by_ino = by_ino;
    t->by_name = by_name;
    t->buckets = old * 2;
    t->n = 0;
    for (size_t b = 0; b < old; b++) {
        for (struct inode *i = from[b]; i; i = next) {
            next = i->hash_ino;
            link_ino(t, i);
            if (i->parent)
                link_name(t, i);
        }
    }
    free(from);
}

struct inodes *inodes_new(const char *root_key)
{
    struct inodes *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->buckets = 1024;
    t->limit = SIZE_MAX;
    t->by_ino = calloc(t->buckets, sizeof(struct inode *));
    t->by_name = calloc(t->buckets, sizeof(struct inode *));
    t->root = calloc(1, sizeof(*t->root));
    if (t->root)
        t->root->name = strdup("");
    t->root_key = strdup(root_key);
    if (!t->by_ino || !t->by_name || !t->root || !t->root->name || !t->root_key) {
        free(t->by_ino);
        free(t->by_name);
        if (t->root)
            free(t->root->name);
        free(t->root);
        free(t->root_key);
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->mu, NULL);
    t->root->ino = INODE_ROOT;
    t->root->nlookup = 1;
    t->root->type = S_IFDIR;
    link_ino(t, t->root);
    return t;
}

void inodes_free(struct inodes *t)
{
    struct inode *next;

    if (!t)
        return;
    for (size_t b = 0; b < t->buckets; b++) {
        for (struct inode *i = t->by_ino[b]; i; i = next) {
            next = i->hash_ino;
            free(i->name);
            free(i);
        }
    }
    pthread_mutex_destroy(&t->mu);
    free(t->by_ino);
    free(t->by_name);
    free(t->root_key);
    free(t);
}

static void enter(struct inode *parent)
{
    parent->refs++;
    parent->children++;
}

static void leave(struct inode *parent)
{
    parent->refs--;
    parent->children--;
}

/* Frees the inode when nobody needs it any more, and its parent when that was all it was kept for. */
static void drop(struct inodes *t, struct inode *i)
{
    while (i && i->nlookup == 0 && i->refs == 0 && i != t->root) {
        struct inode *parent = i->parent;
        struct inode **p = &t->by_ino[ino_bucket(t, i->ino)];

        if (parent)
            unlink_name(t, i);
        while (*p != i)
            p = &(*p)->hash_ino;
        *p = i->hash_ino;
        t->freed++;
        if (--t->n <= t->limit)
            t->told = false;
        free(i->name);
        free(i);
        if (parent)
            leave(parent);
        i = parent;
    }
}

struct inode *inode_get(struct inodes *t, uint64_t ino)
{
    struct inode *i;

    pthread_mutex_lock(&t->mu);
    i = find_ino(t, ino);
    if (i) {
        i->refs++;
        i->used = true;
    }
    pthread_mutex_unlock(&t->mu);
    return i;
}

void inode_put(struct inodes *t, struct inode *i)
{
    if (!i)
        return;
    pthread_mutex_lock(&t->mu);
    i->refs--;
    drop(t, i);
    pthread_mutex_unlock(&t->mu);
}

static int key_of(const struct inodes *t, const struct inode *i, char key[OSS_KEY_MAX + 2])
{
    size_t n = strlen(t->root_key), at;

    for (const struct inode *p = i; p != t->root; p = p->parent) {
        if (!p->parent)
            return -ENOENT;
        n += strlen(p->name) + (p != i || p->type == S_IFDIR);
    }
    if (n > OSS_KEY_MAX)
        return -ENAMETOOLONG;
    key[n] = '\0';
    at = n;
    for (const struct inode *p = i; p != t->root; p = p->parent) {
        size_t len = strlen(p->name);

        if (p != i || p->type == S_IFDIR)
            key[--at] = '/';
        at -= len;
        memcpy(key + at, p->name, len);
    }
    memcpy(key, t->root_key, at);
    return 0;
}

int inode_key(struct inodes *t, struct inode *i, char key[OSS_KEY_MAX + 2])
{
    int r;

    pthread_mutex_lock(&t->mu);
    r = key_of(t, i, key);
    pthread_mutex_unlock(&t->mu);
    return r;
}

int inode_place(struct inodes *t, struct inode *i, char dir[OSS_KEY_MAX + 2], char name[256])
{
    int r = -ENOENT;

    pthread_mutex_lock(&t->mu);
    if (i->parent) {
        strcpy(name, i->name); /* names are at most 255 bytes */
        r = key_of(t, i->parent, dir);
    }
    pthread_mutex_unlock(&t->mu);
    return r;
}

static uint64_t number_of(const char *key)
{
    return spread(hash_text(14695981039346656037u, key));
}

static uint64_t number_for(struct inodes *t, const char *key)
{
    uint64_t ino = number_of(key);

    while (ino <= INODE_ROOT || find_ino(t, ino))
        ino++;
    return ino;
}

static void detach(struct inodes *t, struct inode *i)
{
    struct inode *parent = i->parent;

    unlink_name(t, i);
    i->parent = NULL;
    i->detached = true;
    leave(parent);
    drop(t, i);
    drop(t, parent);
}

static struct inode *make(struct inodes *t, struct inode *parent, const char *name, uint32_t type)
{
    struct inode *i = calloc(1, sizeof(*i));
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];

    if (!i || !(i->name = strdup(name))) {
        free(i);
        return NULL;
    }
    i->type = type;
    if (key_of(t, parent, dir) || path_key(dir, name, false, key))
        strcpy(key, "");
    i->ino = number_for(t, key);
    i->parent = parent;
    enter(parent);
    if (t->n >= t->buckets)
        grow(t);
    link_ino(t, i);
    link_name(t, i);
    if (t->n > t->limit && !t->told) {
        t->told = true;
        t->above(t->above_arg);
    }
    return i;
}

struct inode *inode_lookup(struct inodes *t, struct inode *parent, const char *name, uint32_t type)
{
    struct inode *i;

    pthread_mutex_lock(&t->mu);
    i = find_name(t, parent, name);
    if (i && i->type != type) {
        detach(t, i);
        i = NULL;
    }
    if (!i)
        i = make(t, parent, name, type);
    if (i) {
        i->nlookup++;
        i->refs++;
        i->used = true;
    }
    pthread_mutex_unlock(&t->mu);
    return i;
}

struct inode *inode_find(struct inodes *t, struct inode *parent, const char *name)
{
    struct inode *i;

    pthread_mutex_lock(&t->mu);
    i = find_name(t, parent, name);
    if (i)
        i->refs++;
    pthread_mutex_unlock(&t->mu);
    return i;
}

void inode_forget(struct inodes *t, uint64_t ino, uint64_t n)
{
    struct inode *i;

    pthread_mutex_lock(&t->mu);
    i = find_ino(t, ino);
    if (i) {
        i->nlookup -= n < i->nlookup ? n : i->nlookup;
        drop(t, i);
    }
    pthread_mutex_unlock(&t->mu);
}

void inode_detach(struct inodes *t, struct inode *parent, const char *name)
{
    struct inode *i;

    pthread_mutex_lock(&t->mu);
    i = find_name(t, parent, name);
    if (i)
        detach(t, i);
    pthread_mutex_unlock(&t->mu);
}

void inode_rename(struct inodes *t, struct inode *parent, const char *from, struct inode *new_parent, const char *to)
{
    char *name = strdup(to);
    struct inode *i, *target;

    pthread_mutex_lock(&t->mu);
    i = find_name(t, parent, from);
    target = find_name(t, new_parent, to);
    if (target && target != i)
        detach(t, target);
    if (i && !name) {
        detach(t, i); /* the next lookup finds it under its new name */
    } else if (i && target != i) {
        unlink_name(t, i);
        free(i->name);
        i->name = name;
        name = NULL;
        i->parent = new_parent;
        enter(new_parent);
        link_name(t, i);
        leave(parent);
        drop(t, parent);
    }
    pthread_mutex_unlock(&t->mu);
    free(name);
}

void inode_opened(struct inodes *t, struct inode *i, struct cfile *cf)
{
    struct cfile *old = NULL;

    pthread_mutex_lock(&t->mu);
    i->opens++;
    i->refs++;
    if (cf && i->cf != cf) {
        old = i->cf;
        i->cf = cfile_hold(cf);
    }
    pthread_mutex_unlock(&t->mu);
    if (old)
        cfile_release(old);
}

void inode_closed(struct inodes *t, struct inode *i)
{
    struct cfile *old = NULL;

    pthread_mutex_lock(&t->mu);
    if (--i->opens == 0) {
        old = i->cf;
        i->cf = NULL;
    }
    i->refs--;
    drop(t, i);
    pthread_mutex_unlock(&t->mu);
    if (old)
        cfile_release(old);
}

struct cfile *inode_cfile(struct inodes *t, struct inode *i)
{
    struct cfile *cf;

    pthread_mutex_lock(&t->mu);
    cf = i->cf ? cfile_hold(i->cf) : NULL;
    pthread_mutex_unlock(&t->mu);
    return cf;
}

bool inode_note_content(struct inodes *t, struct inode *i, uint32_t hash)
{
    bool same;

    pthread_mutex_lock(&t->mu);
    same = hash != 0 && i->etag_hash == hash;
    i->etag_hash = hash;
    pthread_mutex_unlock(&t->mu);
    return same;
}

size_t inodes_count(struct inodes *t)
{
    size_t n;

    pthread_mutex_lock(&t->mu);
    n = t->n;
    pthread_mutex_unlock(&t->mu);
    return n;
}

uint64_t inodes_freed(struct inodes *t)
{
    uint64_t n;

    pthread_mutex_lock(&t->mu);
    n = t->freed;
    pthread_mutex_unlock(&t->mu);
    return n;
}

/* ------------------------------------------------------------------------------------------- the limit */

void inodes_limit(struct inodes *t, size_t limit, void (*above)(void *arg), void *arg)
{
    t->limit = limit;
    t->above = above;
    t->above_arg = arg;
}

/* Would it be found again under the same number? */
static bool numbered_by_key(const struct inodes *t, const struct inode *i)
{
    char dir[OSS_KEY_MAX + 2], key[OSS_KEY_MAX + 2];

    return !key_of(t, i->parent, dir) && !path_key(dir, i->name, false, key) && number_of(key) == i->ino;
}

static bool may_go(const struct inodes *t, const struct inode *i, enum inode_pick whom)
{
    if (i->nlookup == 0 || i->refs > 0 || !i->parent)
        return false;
    if (whom < INODE_PICK_BUSY && i->parent->refs > i->parent->children + i->parent->opens)
        return false;
    return whom >= INODE_PICK_DIRS || (i->type != S_IFDIR && numbered_by_key(t, i));
}

size_t inode_pick(struct inodes *t, enum inode_pick whom, struct inode_victim *out, size_t max, unsigned *rounds)
{
    size_t n = 0;

    pthread_mutex_lock(&t->mu);
    for (size_t looked = 0; looked < PICK_BUCKETS && n < max; looked++) {
        for (struct inode *i = t->by_ino[t->hand]; i; i = i->hash_ino) {
            bool pick = n < max && !i->used && may_go(t, i, whom);

            if (pick) {
                out[n].parent = i->parent->ino;
                strcpy(out[n++].name, i->name); /* names are at most 255 bytes */
            }
            i->used = pick;
        }
        t->hand = (t->hand + 1) & (t->buckets - 1);
        if (t->hand == 0) {
            ++*rounds;
            break;
        }
    }
    pthread_mutex_unlock(&t->mu);
    return n;
}
