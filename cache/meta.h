/*
 * meta.h: what is known of names: attributes, listings, absence; each for a time. No network, never blocks beyond
 * a short mutex; all functions are thread-safe.
 *
 * A directory is named by its key prefix ("" or "a/b/"), an entry by directory and name. A directory whose
 * listing is complete and fresh also knows what it does not contain. A change made through this mount is put in
 * at once, and wins over a listing that began before it.
 */
#ifndef CACHE_META_H
#define CACHE_META_H

#include "attr.h"

struct meta;

enum meta_state {
    META_UNKNOWN, /* ask the bucket */
    META_ABSENT,
    META_FILE, /* an object; `info` may still be unknown (from a listing) */
    META_DIR,  /* a prefix, with or without a marker; `info` may still be unknown */
};

/* Which version of an object a listing has shown. */
struct meta_version {
    char etag[OSS_ETAG_SIZE]; /* "": not known */
    time_t last_modified;
    uint64_t size;
    enum oss_type type;
};

struct meta_result {
    enum meta_state state;
    enum meta_state was;         /* with META_UNKNOWN: what it was when that was last believed */
    struct oinfo *info;          /* a reference of the caller's (oinfo_put), or NULL: attributes not known */
    int64_t ttl_ms;              /* for how long this may still be believed; 0 for META_UNKNOWN */
    bool dir_listed;             /* the whole directory is known */
    struct meta_version version; /* of a file: what the listing said of the object */
    bool dir_big;                /* a listing of it was given up as too long: ask for single names */
};

/*
 * `exact` is called when a listing tells the Last-Modified of something that we wrote (until then only the server's
 * Date was known): under the lock, so it must be quick and not call back. May be NULL.
 */
typedef void meta_exact(void *arg, const char *dir, const char *name, struct oinfo *info);
void meta_on_exact(struct meta *meta, meta_exact *exact, void *arg);

/* ttl_ms: how long an answer is believed. max_entries: bound; the least recently used directories go. */
struct meta *meta_new(int64_t ttl_ms, size_t max_entries);
void meta_free(struct meta *meta);

void meta_get(struct meta *meta, const char *dir, const char *name, struct meta_result *out);

/* Counts a lookup in `dir` that nothing here could answer; how many there were before it since the last listing. */
unsigned meta_count_cold(struct meta *meta, const char *dir);

/* The number of the last change: ask before a question to the bucket, pass it to meta_answer() with its reply. */
uint64_t meta_now(struct meta *meta);

/*
 * The bucket says: `name` is this, with these attributes (borrowed; NULL: unknown). Not believed when the entry was
 * changed here after `since`.
 */
void meta_answer(struct meta *meta, const char *dir, const char *name, enum meta_state state, struct oinfo *info,
                 uint64_t since);

/* A change made through this mount says so. */
void meta_put(struct meta *meta, const char *dir, const char *name, enum meta_state state, struct oinfo *info);

/* Forget one entry, or all that is known below a prefix (the directory itself and all below it). */
void meta_forget(struct meta *meta, const char *dir, const char *name);
void meta_forget_tree(struct meta *meta, const char *prefix);

/* A directory that was just made here: complete and empty. */
void meta_new_dir(struct meta *meta, const char *dir);

/* Something was added or removed in the directory through this mount: its own mtime and ctime move on. */
void meta_touch(struct meta *meta, const char *parent, const char *name);

/* ------------------------------------------------------------------------------------------- listings */

/* Begins a listing; the number goes to the two functions below. 0 when out of memory. */
uint64_t meta_list_begin(struct meta *meta, const char *dir);

/* One page of it. Names that are no path are not taken; returns how many were left out. */
unsigned meta_list_page(struct meta *meta, const char *dir, uint64_t listing, const struct oss_list *page);

/* The listing is through to its end: what it did not name is gone. */
void meta_list_end(struct meta *meta, const char *dir, uint64_t listing);

/* The listing is given up: what it named stays known, the rest must be asked for. */
void meta_list_give_up(struct meta *meta, const char *dir, uint64_t listing, bool big);

/* Is the listing of `dir` complete and fresh? */
bool meta_listed(struct meta *meta, const char *dir);

/* The entries of a directory at one moment; all zero: none. For each six bytes and its name. */
struct meta_names {
    size_t n;
    /* meta_names.c alone */
    char *text;   /* of each: its kind, its name, NUL */
    uint32_t *at; /* where it begins */
    size_t size, size_max, n_max;
};
/* 0, -ENOENT when the directory is not listed, -ENOMEM. Release with meta_names_free(). */
int meta_snapshot(struct meta *meta, const char *dir, struct meta_names *out);

/* Room for n names of so many bytes together: it saves time and memory, no more. 0 or -ENOMEM. */
int meta_names_reserve(struct meta_names *names, size_t n, size_t bytes);
int meta_names_add(struct meta_names *names, const char *name, bool is_dir); /* 0 or -ENOMEM */
/* i < n; is_dir may be NULL. Valid until names are added. */
const char *meta_names_get(const struct meta_names *names, size_t i, bool *is_dir);
void meta_names_free(struct meta_names *names);

/*
 * A program looks at `name`, which a listing has shown; `asking`: its attributes are not known and about to be asked
 * for. Hands out those of the next `max` names, in listing order, whose attributes are not known either, to be asked
 * for in advance: none at the first such question in a directory, for one name may be all that the program wants.
 * Each is handed out once until it expires. Of a directory that is too long to be listed again for a lookup also what
 * is not believed any more, as META_UNKNOWN. Caller frees each name.
 */
size_t meta_unknown_after(struct meta *meta, const char *dir, const char *name, bool asking, char **names,
                          enum meta_state *states, size_t max);

/*
 * The marker object of a directory, as its own listing has shown it within the time that listings are believed: 1 and
 * its version; 0: it has none; -ENOENT: not known.
 */
int meta_marker(struct meta *meta, const char *dir, struct meta_version *out);

/*
 * How many entries are left in a listed directory, and has it a marker object? false when not (freshly) listed.
 * For the rule that an implicit directory does not vanish with its last file.
 */
bool meta_dir_facts(struct meta *meta, const char *dir, size_t *entries, bool *marker);

#endif
