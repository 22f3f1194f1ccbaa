#include "cache.h"

#include "../oss/base_list.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX 255
#define MD5_BYTES      16
#define FIRST_AHEAD    32 /* names that the second question for attributes in a directory takes along */

struct entry {
    struct entry *hash_next;
    struct list link; /* in dir->entries, in the order of arrival */
    struct dir *dir;
    struct oinfo *info; /* NULL: attributes unknown */
    union {
        unsigned char md5[MD5_BYTES];
        char *text;
    } etag; /* of the listing, as etag_kind says */
    uint64_t size;
    time_t last_modified;
    int64_t expires_ms;
    uint64_t changed; /* change number of the last change made here; 0: the bucket's word only */
    uint64_t seen;    /* the last listing that named it */
    uint32_t hash;
    uint8_t state;       /* enum meta_state */
    uint8_t type;        /* enum oss_type, of the listing */
    uint8_t etag_kind;   /* enum etag_kind */
    bool local_info : 1; /* `info` was made here, its last_modified is the server's Date at our write */
    bool asked : 1;      /* handed out by meta_unknown_after() */
    char name[];
};

enum etag_kind { ETAG_NONE /* of a directory, or not known */, ETAG_MD5, ETAG_TEXT };

struct dir {
    struct dir *hash_next;
    struct list lru;
    struct list entries;
    size_t n_entries;
    size_t n_present;         /* entries that are not META_ABSENT */
    int64_t listed_until_ms;  /* fresh and complete until then; 0: not listed */
    uint64_t listing;         /* the listing under way, 0 for none */
    int64_t big_until_ms;     /* too long to be listed for a lookup, until then */
    bool marker, marker_seen; /* known by the last listing; named by the one under way */
    struct meta_version marker_version;
    int64_t marker_until_ms; /* what the two lines above say is believed until then */
    unsigned cold;           /* lookups without an answer */
    unsigned scan;           /* questions for attributes since the last listing */
    uint32_t hash;
    char key[];
};

struct meta {
    pthread_mutex_t mu; /* guards everything below */
    int64_t ttl_ms;
    size_t max_entries, n_entries;
    uint64_t change;    /* the last change or listing number given out */
    uint64_t forgotten; /* when something was last forgotten: an older answer is not believed */
    struct list lru;    /* of directories, the most recently used last */
    struct dir **dirs;
    size_t n_dirs, dir_buckets;
    struct entry **table;
    size_t entry_buckets;
    meta_exact *exact;
    void *exact_arg;
};

static uint32_t hash_bytes(uint32_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static uint32_t mix(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    return h;
}

/* -------------------------------------------------------------------------------------------- ETags */

/* Nearly all are the 32 upper-case hexadecimal digits of an MD5: half as many bytes, and no piece of memory. */

static const char digits[] = "0123456789ABCDEF";

static bool pack_md5(const char *text, unsigned char md5[MD5_BYTES])
{
    if (strlen(text) != 2 * (size_t)MD5_BYTES || strspn(text, digits) != 2 * (size_t)MD5_BYTES)
        return false;
    for (size_t i = 0; i < MD5_BYTES; i++)
        md5[i] =
            (unsigned char)((strchr(digits, text[2 * i]) - digits) << 4 | (strchr(digits, text[2 * i + 1]) - digits));
    return true;
}

/* NULL or "": none. One that there is no memory for is none. */
static void etag_set(struct entry *e, const char *text)
{
    if (e->etag_kind == ETAG_TEXT)
        free(e->etag.text);
    e->etag_kind = ETAG_NONE;
    if (!text || !*text)
        return;
    if (pack_md5(text, e->etag.md5))
        e->etag_kind = ETAG_MD5;
    else if ((e->etag.text = strdup(text)))
        e->etag_kind = ETAG_TEXT;
}

/* "" when there is none. */
static void etag_get(const struct entry *e, char out[OSS_ETAG_SIZE])
{
    snprintf(out, OSS_ETAG_SIZE, "%s", e->etag_kind == ETAG_TEXT ? e->etag.text : "");
    if (e->etag_kind != ETAG_MD5)
        return;
    for (size_t i = 0; i < MD5_BYTES; i++) {
        out[2 * i] = digits[e->etag.md5[i] >> 4];
        out[2 * i + 1] = digits[e->etag.md5[i] & 15];
    }
    out[2 * MD5_BYTES] = '\0';
}

/* ------------------------------------------------------------------------------------------- tables */

struct meta *meta_new(int64_t ttl_ms, size_t max_entries)
{
    struct meta *meta = calloc(1, sizeof(*meta));

    if (!meta)
        return NULL;
    meta->ttl_ms = ttl_ms;
    meta->max_entries = max_entries;
    meta->dir_buckets = 256;
    meta->entry_buckets = 1024;
    meta->dirs = calloc(meta->dir_buckets, sizeof(*meta->dirs));
    meta->table = calloc(meta->entry_buckets, sizeof(*meta->table));
    if (!meta->dirs || !meta->table) {
        free(meta->dirs);
        free(meta->table);
        free(meta);
        return NULL;
    }
    list_init(&meta->lru);
    pthread_mutex_init(&meta->mu, NULL);
    return meta;
}

void meta_on_exact(struct meta *meta, meta_exact *exact, void *arg)
{
    meta->exact = exact;
    meta->exact_arg = arg;
}

static void entry_free(struct meta *meta, struct entry *e)
{
    struct entry **p = &meta->table[e->hash & (meta->entry_buckets - 1)];

    while (*p != e)
        p = &(*p)->hash_next;
    *p = e->hash_next;
    list_del(&e->link);
    e->dir->n_entries--;
    if (e->state != META_ABSENT)
        e->dir->n_present--;
    meta->n_entries--;
    oinfo_put(e->info);
    etag_set(e, NULL);
    free(e);
}

static void dir_empty(struct meta *meta, struct dir *d)
{
    while (!list_empty(&d->entries))
        entry_free(meta, list_entry(d->entries.next, struct entry, link));
}

static void dir_free(struct meta *meta, struct dir *d)
{
    struct dir **p = &meta->dirs[d->hash & (meta->dir_buckets - 1)];

    dir_empty(meta, d);
    while (*p != d)
        p = &(*p)->hash_next;
    *p = d->hash_next;
    list_del(&d->lru);
    meta->n_dirs--;
    free(d);
}

void meta_free(struct meta *meta)
{
    if (!meta)
        return;
    while (!list_empty(&meta->lru))
        dir_free(meta, list_entry(meta->lru.next, struct dir, lru));
    pthread_mutex_destroy(&meta->mu);
    free(meta->dirs);
    free(meta->table);
    free(meta);
}

static void grow_dirs(struct meta *meta)
{
    size_t n = meta->dir_buckets * 2;
    struct dir **table = calloc(n, sizeof(struct dir *));

    if (!table)
        return; /* longer chains, no harm */
    for (size_t i = 0; i < meta->dir_buckets; i++) {
        struct dir *next;

        for (struct dir *d = meta->dirs[i]; d; d = next) {
            next = d->hash_next;
            d->hash_next = table[d->hash & (n - 1)];
            table[d->hash & (n - 1)] = d;
        }
    }
    free(meta->dirs);
    meta->dirs = table;
    meta->dir_buckets = n;
}

static void grow_entries(struct meta *meta)
{
    size_t n = meta->entry_buckets * 2;
    struct entry **table = calloc(n, sizeof(struct entry *));

    if (!table)
        return;
    for (size_t i = 0; i < meta->entry_buckets; i++) {
        struct entry *next;

        for (struct entry *e = meta->table[i]; e; e = next) {
            next = e->hash_next;
            e->hash_next = table[e->hash & (n - 1)];
            table[e->hash & (n - 1)] = e;
        }
    }
    free(meta->table);
    meta->table = table;
    meta->entry_buckets = n;
}

static struct dir *dir_find(struct meta *meta, const char *key, bool make)
{
    uint32_t hash = mix(hash_bytes(2166136261u, key));
    size_t n = strlen(key) + 1;
    struct dir *d;

    for (d = meta->dirs[hash & (meta->dir_buckets - 1)]; d; d = d->hash_next) {
        if (d->hash == hash && !strcmp(d->key, key)) {
            list_del(&d->lru);
            list_add_tail(&meta->lru, &d->lru);
            return d;
        }
    }
    if (!make || !(d = calloc(1, sizeof(*d) + n)))
        return NULL;
    memcpy(d->key, key, n);
    d->hash = hash;
    list_init(&d->entries);
    list_init(&d->lru);
    if (++meta->n_dirs > meta->dir_buckets)
        grow_dirs(meta);
    d->hash_next = meta->dirs[hash & (meta->dir_buckets - 1)];
    meta->dirs[hash & (meta->dir_buckets - 1)] = d;
    list_add_tail(&meta->lru, &d->lru);
    return d;
}

static uint32_t entry_hash(const struct dir *d, const char *name)
{
    return mix(hash_bytes(d->hash, name));
}

static struct entry *entry_find(struct meta *meta, struct dir *d, const char *name)
{
    uint32_t hash = entry_hash(d, name);

    for (struct entry *e = meta->table[hash & (meta->entry_buckets - 1)]; e; e = e->hash_next)
        if (e->hash == hash && e->dir == d && !strcmp(e->name, name))
            return e;
    return NULL;
}

/* The bound is kept by whole directories, never the one in use; one huge directory may pass it alone. */
static void shed(struct meta *meta, const struct dir *keep)
{
    list_for_each_safe (it, &meta->lru) {
        struct dir *d = list_entry(it, struct dir, lru);

        if (meta->n_entries <= meta->max_entries)
            return;
        if (d != keep && !d->listing)
            dir_free(meta, d);
    }
}

static struct entry *entry_make(struct meta *meta, struct dir *d, const char *name)
{
    struct entry *e = entry_find(meta, d, name);
    size_t n = strlen(name) + 1;

    if (e || !(e = calloc(1, sizeof(*e) + n)))
        return e;
    memcpy(e->name, name, n);
    e->dir = d;
    e->hash = entry_hash(d, name);
    e->state = META_ABSENT;
    if (++meta->n_entries > meta->entry_buckets)
        grow_entries(meta);
    e->hash_next = meta->table[e->hash & (meta->entry_buckets - 1)];
    meta->table[e->hash & (meta->entry_buckets - 1)] = e;
    list_add_tail(&d->entries, &e->link);
    d->n_entries++;
    return e;
}

static void entry_set_state(struct entry *e, enum meta_state state)
{
    if (e->state == META_ABSENT && state != META_ABSENT)
        e->dir->n_present++;
    if (e->state != META_ABSENT && state == META_ABSENT)
        e->dir->n_present--;
    e->state = (uint8_t)state;
}

static void entry_set_info(struct entry *e, struct oinfo *info)
{
    oinfo_get(info);
    oinfo_put(e->info);
    e->info = info;
    e->asked = false;
}

static int64_t dir_left_ms(const struct dir *d, int64_t now)
{
    return d->listed_until_ms > now ? d->listed_until_ms - now : 0;
}

/* ------------------------------------------------------------------------------------------- entries */

void meta_get(struct meta *meta, const char *dir, const char *name, struct meta_result *out)
{
    int64_t now = clock_ms();
    struct dir *d;
    struct entry *e;

    *out = (struct meta_result){.state = META_UNKNOWN};
    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    e = d ? entry_find(meta, d, name) : NULL;
    if (d) {
        out->dir_listed = dir_left_ms(d, now) > 0;
        out->dir_big = d->big_until_ms > now;
    }
    if (e && e->etag_kind) {
        out->version =
            (struct meta_version){.last_modified = e->last_modified, .size = e->size, .type = (enum oss_type)e->type};
        etag_get(e, out->version.etag);
    }
    if (e && e->expires_ms > now) {
        out->state = e->state;
        out->info = oinfo_get(e->info);
        out->ttl_ms = e->expires_ms - now;
    } else if (out->dir_listed) {
        /* The listing is younger than what was known of the attributes: it tells the kind, no more. */
        out->state = e ? e->state : META_ABSENT;
        out->ttl_ms = dir_left_ms(d, now);
    } else if (e) {
        out->was = e->state;
    }
    pthread_mutex_unlock(&meta->mu);
}

unsigned meta_count_cold(struct meta *meta, const char *dir)
{
    unsigned before = 0;
    struct dir *d;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, true);
    if (d)
        before = d->cold++;
    pthread_mutex_unlock(&meta->mu);
    return before;
}

uint64_t meta_now(struct meta *meta)
{
    uint64_t now;

    pthread_mutex_lock(&meta->mu);
    now = meta->change;
    pthread_mutex_unlock(&meta->mu);
    return now;
}

static void put(struct meta *meta, const char *dir, const char *name, enum meta_state state, struct oinfo *info,
                bool local, uint64_t since)
{
    struct dir *d;
    struct entry *e;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, true);
    e = d ? entry_make(meta, d, name) : NULL;
    if (e && (local || (e->changed <= since && meta->forgotten <= since))) {
        entry_set_state(e, state);
        entry_set_info(e, info);
        etag_set(e, info ? info->etag : NULL);
        e->size = info ? info->attr.size : 0;
        e->last_modified = info ? info->last_modified : 0;
        e->type = info ? (uint8_t)info->type : OSS_TYPE_NORMAL;
        e->expires_ms = clock_ms() + meta->ttl_ms;
        e->local_info = local;
        if (local)
            e->changed = ++meta->change;
        shed(meta, d);
    }
    pthread_mutex_unlock(&meta->mu);
}

void meta_answer(struct meta *meta, const char *dir, const char *name, enum meta_state state, struct oinfo *info,
                 uint64_t since)
{
    put(meta, dir, name, state, info, false, since);
}

void meta_put(struct meta *meta, const char *dir, const char *name, enum meta_state state, struct oinfo *info)
{
    put(meta, dir, name, state, info, true, 0);
}

void meta_forget(struct meta *meta, const char *dir, const char *name)
{
    struct dir *d;
    struct entry *e;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    e = d ? entry_find(meta, d, name) : NULL;
    if (e)
        entry_free(meta, e);
    if (d) {
        d->listed_until_ms = 0; /* else its silence would say that the name is absent */
        d->listing = 0;         /* it may have passed the name before */
    }
    meta->forgotten = ++meta->change;
    pthread_mutex_unlock(&meta->mu);
}

void meta_forget_tree(struct meta *meta, const char *prefix)
{
    size_t n = strlen(prefix);

    pthread_mutex_lock(&meta->mu);
    meta->forgotten = ++meta->change;
    list_for_each_safe (it, &meta->lru) {
        struct dir *d = list_entry(it, struct dir, lru);

        if (strncmp(d->key, prefix, n))
            continue;
        if (d->listing) {
            dir_empty(meta, d);
            d->listed_until_ms = 0;
            d->listing = 0; /* its pages are no longer wanted */
        } else {
            dir_free(meta, d);
        }
    }
    pthread_mutex_unlock(&meta->mu);
}

void meta_new_dir(struct meta *meta, const char *dir)
{
    struct dir *d;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, true);
    if (d) {
        dir_empty(meta, d);
        d->listing = 0;
        d->listed_until_ms = clock_ms() + meta->ttl_ms;
        d->marker = true;
        meta->forgotten = ++meta->change;
    }
    pthread_mutex_unlock(&meta->mu);
}

void meta_touch(struct meta *meta, const char *parent, const char *name)
{
    struct timespec now = clock_wall();
    struct oinfo *info;
    struct dir *d;
    struct entry *e;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, parent, false);
    e = d ? entry_find(meta, d, name) : NULL;
    if (e && e->info && (info = oinfo_clone(e->info))) {
        info->attr.mtime = info->attr.ctime = now;
        oinfo_put(e->info);
        e->info = info;
    }
    pthread_mutex_unlock(&meta->mu);
}

/* ------------------------------------------------------------------------------------------ listings */

uint64_t meta_list_begin(struct meta *meta, const char *dir)
{
    uint64_t listing = 0;
    struct dir *d;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, true);
    if (d) {
        listing = ++meta->change;
        d->listing = listing;
        d->marker_seen = false;
    }
    pthread_mutex_unlock(&meta->mu);
    return listing;
}

/* Valid as a component of a path: 1..255 bytes, no '/', not "." or "..". */
static bool name_ok(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n <= NAME_BYTES_MAX && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* Attributes stay when key, ETag, size and Last-Modified do. */
static bool same_object(const struct entry *e, const struct oss_list_entry *listed)
{
    char etag[OSS_ETAG_SIZE];

    etag_get(e, etag);
    if (e->state != META_FILE || e->size != listed->size || !*etag || strcmp(etag, listed->etag))
        return false;
    return attr_same_time(e->last_modified, listed->last_modified, e->local_info);
}

/* A listing has told the Last-Modified of what we wrote. */
static void note_exact(struct meta *meta, struct entry *e, time_t last_modified)
{
    struct oinfo *info = e->info && e->info->fuzzy ? oinfo_clone(e->info) : NULL;

    e->local_info = false;
    e->last_modified = last_modified;
    if (!info)
        return;
    info->fuzzy = false;
    info->last_modified = last_modified;
    entry_set_info(e, info);
    if (meta->exact)
        meta->exact(meta->exact_arg, e->dir->key, e->name, info);
    oinfo_put(info);
}

static void take_file(struct meta *meta, struct dir *d, uint64_t listing, const char *name,
                      const struct oss_list_entry *listed, int64_t expires)
{
    struct entry *e = entry_make(meta, d, name);

    if (!e || e->changed > listing)
        return;
    if (e->seen == listing && e->state == META_DIR)
        return; /* `d` beside `d/`: the directory is shown */
    e->seen = listing;
    e->expires_ms = expires;
    if (same_object(e, listed)) {
        if (e->info && e->info->young)
            entry_set_info(e, NULL); /* it may have been changed again within that second */
        else if (e->local_info)
            note_exact(meta, e, listed->last_modified);
        return;
    }
    entry_set_state(e, META_FILE);
    entry_set_info(e, NULL);
    etag_set(e, listed->etag);
    e->size = listed->size;
    e->last_modified = listed->last_modified;
    e->type = (uint8_t)listed->type;
    e->local_info = false;
}

static void take_marker(struct dir *d, const struct oss_list_entry *e)
{
    d->marker_seen = true;
    d->marker_version = (struct meta_version){.last_modified = e->last_modified, .size = e->size, .type = e->type};
    memcpy(d->marker_version.etag, e->etag, sizeof(e->etag));
}

static void take_dir(struct meta *meta, struct dir *d, uint64_t listing, const char *name, int64_t expires)
{
    struct entry *e = entry_make(meta, d, name);

    if (!e || e->changed > listing)
        return;
    e->seen = listing;
    if (e->state == META_DIR && e->expires_ms > clock_ms()) {
        /* A listing says nothing about a directory's own attributes: what is known of them keeps its own time. */
        if (!e->info)
            e->expires_ms = expires;
        return;
    }
    entry_set_state(e, META_DIR);
    entry_set_info(e, NULL);
    e->expires_ms = expires;
}

unsigned meta_list_page(struct meta *meta, const char *dir, uint64_t listing, const struct oss_list *page)
{
    int64_t expires = clock_ms() + meta->ttl_ms;
    size_t skip = strlen(dir);
    unsigned left_out = page->skipped;
    struct dir *d;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    if (!d || d->listing != listing)
        goto out;
    for (size_t i = 0; i < page->n_entries; i++) {
        const struct oss_list_entry *e = &page->entries[i];

        if (strncmp(e->key, dir, skip))
            left_out++;
        else if (!e->key[skip])
            take_marker(d, e);
        else if (!name_ok(e->key + skip))
            left_out++;
        else
            take_file(meta, d, listing, e->key + skip, e, expires);
    }
    for (size_t i = 0; i < page->n_prefixes; i++) {
        char *p = page->prefixes[i];
        size_t n = strlen(p);

        if (strncmp(p, dir, skip) || n == 0 || p[n - 1] != '/') {
            left_out++;
            continue;
        }
        p[n - 1] = '\0';
        if (cache_reserved_name(p + skip))
            ; /* ours, and no file */
        else if (name_ok(p + skip))
            take_dir(meta, d, listing, p + skip, expires);
        else
            left_out++;
        p[n - 1] = '/';
    }
    /* The marker's key is before all others: the first page tells. */
    d->marker = d->marker_seen;
    d->marker_until_ms = expires;
    shed(meta, d);
out:
    pthread_mutex_unlock(&meta->mu);
    return left_out;
}

void meta_list_end(struct meta *meta, const char *dir, uint64_t listing)
{
    struct dir *d;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    if (d && d->listing == listing) {
        list_for_each_safe (it, &d->entries) {
            struct entry *e = list_entry(it, struct entry, link);

            if (e->seen != listing && e->changed <= listing)
                entry_free(meta, e);
        }
        d->listing = 0;
        d->cold = d->scan = 0;
        d->listed_until_ms = clock_ms() + meta->ttl_ms;
    }
    pthread_mutex_unlock(&meta->mu);
}

void meta_list_give_up(struct meta *meta, const char *dir, uint64_t listing, bool big)
{
    struct dir *d;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    if (d && d->listing == listing) {
        d->listing = 0;
        if (big)
            d->big_until_ms = clock_ms() + meta->ttl_ms;
    }
    pthread_mutex_unlock(&meta->mu);
}

bool meta_listed(struct meta *meta, const char *dir)
{
    struct dir *d;
    bool listed;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    listed = d && dir_left_ms(d, clock_ms()) > 0;
    pthread_mutex_unlock(&meta->mu);
    return listed;
}

/* mu held. 0 or -ENOMEM. */
static int take_names(const struct dir *d, struct meta_names *out)
{
    size_t bytes = 0;
    int r;

    list_for_each (it, &d->entries)
        bytes += strlen(list_entry(it, struct entry, link)->name);
    r = meta_names_reserve(out, d->n_present, bytes);
    list_for_each (it, &d->entries) {
        const struct entry *e = list_entry(it, struct entry, link);

        if (!r && e->state != META_ABSENT)
            r = meta_names_add(out, e->name, e->state == META_DIR);
    }
    return r;
}

int meta_snapshot(struct meta *meta, const char *dir, struct meta_names *out)
{
    struct dir *d;
    int r = -ENOENT;

    *out = (struct meta_names){0};
    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    if (d && d->listed_until_ms)
        r = take_names(d, out);
    pthread_mutex_unlock(&meta->mu);
    if (r)
        meta_names_free(out);
    return r;
}

size_t meta_unknown_after(struct meta *meta, const char *dir, const char *name, bool asking, char **names,
                          enum meta_state *states, size_t max)
{
    int64_t now = clock_ms();
    struct dir *d;
    struct entry *e;
    size_t n = 0, looked = 0;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    e = d && (dir_left_ms(d, now) > 0 || d->big_until_ms > now) ? entry_find(meta, d, name) : NULL;
    if (e && asking) {
        e->asked = true;
        d->scan++;
    }
    if (e && d->scan >= 2) {
        if (d->scan == 2 && max > FIRST_AHEAD)
            max = FIRST_AHEAD;
        for (struct list *it = e->link.next; it != &d->entries && looked < max; it = it->next, looked++) {
            struct entry *other = list_entry(it, struct entry, link);
            bool stale = other->expires_ms <= now;

            if (other->state == META_ABSENT || other->asked || (stale ? d->big_until_ms <= now : other->info != NULL))
                continue;
            names[n] = strdup(other->name);
            if (!names[n])
                break;
            states[n++] = stale ? META_UNKNOWN : other->state;
            other->asked = true;
        }
    }
    pthread_mutex_unlock(&meta->mu);
    return n;
}

int meta_marker(struct meta *meta, const char *dir, struct meta_version *out)
{
    struct dir *d;
    int r = -ENOENT;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    if (d && d->marker_until_ms > clock_ms()) {
        r = d->marker;
        *out = d->marker_version;
    }
    pthread_mutex_unlock(&meta->mu);
    return r;
}

bool meta_dir_facts(struct meta *meta, const char *dir, size_t *entries, bool *marker)
{
    struct dir *d;
    bool listed;

    pthread_mutex_lock(&meta->mu);
    d = dir_find(meta, dir, false);
    listed = d && dir_left_ms(d, clock_ms()) > 0;
    if (listed) {
        *entries = d->n_present;
        *marker = d->marker;
    }
    pthread_mutex_unlock(&meta->mu);
    return listed;
}
