/*
 * Renames of directories that an earlier daemon did not end (rename_intent.h says what becomes of them).
 *
 * Both trees are listed side by side: keys come in byte order, so that what follows the two prefixes does too, and a
 * page of each is all that is in memory, however many objects there are.
 */
#include "journal.h"
#include "rename_child.h"
#include "rename_intent.h"

#include "../oss/base_log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------- a tree, key by key */

struct tree {
    struct cache *cache;
    const char *prefix;
    struct oss_list page;
    size_t next;
    char *token, *last;
    bool ended;
};

static void tree_end(struct tree *t)
{
    oss_list_free(&t->page);
    free(t->token);
    free(t->last);
}

/* The entry that is next, NULL in *out at the end. 0 or a negative errno. */
static int tree_peek(struct tree *t, struct oss_list_entry **out)
{
    *out = NULL;
    while (t->next == t->page.n_entries && !t->ended) {
        struct oss_list_opts opts = {.prefix = t->prefix, .continuation = t->token};
        struct oss *oss = t->cache->oss;
        struct oss_error err = {0};
        int r;

        oss_list_free(&t->page);
        t->next = 0;
        r = oss->ops->list(oss, &opts, &t->page, &err);
        if (r)
            cache_log_error("listing", t->prefix, &err);
        else
            r = list_advances(&t->page, &t->last);
        if (r)
            return r;
        free(t->token);
        t->token = t->page.next;
        t->page.next = NULL;
        t->ended = !t->token;
    }
    if (t->next == t->page.n_entries)
        return 0;
    *out = &t->page.entries[t->next];
    return strncmp((*out)->key, t->prefix, strlen(t->prefix)) ? -EIO : 0;
}

/* ------------------------------------------------------------------------------------- what is to be deleted */

struct batch {
    struct cache *cache;
    char *keys[OSS_LIST_MAX];
    size_t n;
};

static int batch_send(struct batch *b)
{
    int r = rename_delete(b->cache, b->keys, b->n, "deleting what a rename has left");

    b->n = 0;
    return r;
}

static int batch_add(struct batch *b, const char *key)
{
    int r = b->n == OSS_LIST_MAX ? batch_send(b) : 0;

    if (r)
        return r;
    attr_store_forget(b->cache->attrs, key);
    b->keys[b->n] = strdup(key);
    return b->keys[b->n] ? (b->n++, 0) : -ENOMEM;
}

/* ------------------------------------------------------------------------------------------- both trees */

static int crc_of(struct cache *cache, const char *key, bool *known, uint64_t *crc)
{
    struct oss_object object = {0};
    struct oss_error err = {0};
    int r = cache->oss->ops->head(cache->oss, key, &object, &err);

    *known = !r && object.has_crc;
    *crc = object.crc64;
    if (r)
        cache_log_error("comparing", key, &err);
    oss_object_free(&object);
    return r == -ENOENT ? 0 : r;
}

/* Is `to` a copy of `from`? 1, 0, or a negative errno. */
static int is_copy(struct cache *cache, const struct oss_list_entry *from, const struct oss_list_entry *to)
{
    uint64_t a, b;
    bool known;
    int r;

    if (from->size != to->size || from->last_modified > to->last_modified)
        return 0;
    if (*from->etag && !strcmp(from->etag, to->etag))
        return 1;
    r = crc_of(cache, from->key, &known, &a);
    if (!r && known)
        r = crc_of(cache, to->key, &known, &b);
    return r ? r : known && a == b;
}

/* A copy in parts that was under way. */
static int abort_copies(struct cache *cache, const char *key)
{
    struct oss_upload_list list = {0};
    struct oss_error err = {0};
    int r = cache->oss->ops->list_uploads(cache->oss, key, NULL, NULL, &list, &err);

    for (size_t i = 0; !r && i < list.n; i++)
        if (!strcmp(list.entries[i].key, key))
            r = cache->oss->ops->abort(cache->oss, key, list.entries[i].id, &err);
    if (r)
        cache_log_error("aborting a copy that was left behind", key, &err);
    oss_upload_list_free(&list);
    return r;
}

/* An original of which a copy may be on its way yet: the key is what it would have there. */
static int look_for_copies(struct cache *cache, const struct renamed *renamed, const struct oss_list_entry *from)
{
    const char *rest = from->key + strlen(renamed->from);
    char key[OSS_KEY_MAX + 2];

    if (renamed->copied || from->size <= cache->config.limits.copy_max)
        return 0;
    if (snprintf(key, sizeof(key), "%s%s", renamed->to, rest) > OSS_KEY_MAX)
        return 0;
    return abort_copies(cache, key);
}

static int compare(struct batch *b, const struct renamed *renamed, struct tree *from, struct tree *to)
{
    struct oss_list_entry *old, *new;
    int r, order, same;

    while (!(r = tree_peek(from, &old)) && !(r = tree_peek(to, &new)) && old) {
        order = new ? strcmp(old->key + strlen(renamed->from), new->key + strlen(renamed->to)) : -1;
        if (order == 0) {
            same = is_copy(b->cache, old, new);
            if (same > 0)
                r = batch_add(b, renamed->copied ? old->key : new->key);
            else if (same < 0)
                r = same;
            else
                log_info("%s and %s differ: both are kept", old->key, new->key);
        }
        if (!r && order <= 0)
            r = look_for_copies(b->cache, renamed, old);
        if (r)
            break;
        from->next += order <= 0;
        to->next += order >= 0;
    }
    return r;
}

static int end_rename(struct cache *cache, const struct renamed *renamed)
{
    struct tree from = {.cache = cache, .prefix = renamed->from}, to = {.cache = cache, .prefix = renamed->to};
    struct batch *batch = calloc(1, sizeof(*batch));
    int r, sent;

    if (!batch)
        return -ENOMEM;
    batch->cache = cache;
    r = compare(batch, renamed, &from, &to);
    sent = batch_send(batch);
    tree_end(&from);
    tree_end(&to);
    free(batch);
    meta_forget_tree(cache->meta, renamed->from);
    meta_forget_tree(cache->meta, renamed->to);
    return r ? r : sent;
}

/* ------------------------------------------------------------------------------------ journals of files */

/* The object that the changes are based on, where it is now. */
static const struct oinfo *copy_of(const struct renamed *renamed, const struct journal_state *s)
{
    for (size_t i = 0; i < renamed->n_files; i++) {
        const struct renamed_file *f = &renamed->files[i];

        if (f->copy && s->object && !strcmp(f->key, s->key) && !strcmp(f->etag, s->object->etag))
            return f->copy;
    }
    return s->object;
}

static void move_journal(const char *path, const struct renamed *renamed)
{
    char key[2 * OSS_KEY_MAX + 4];
    struct journal_state s;
    size_t skip = strlen(renamed->from);
    int r;

    if (journal_read(path, &s))
        return; /* whoever takes it up will say so */
    if (!strncmp(s.key, renamed->from, skip) && strlen(s.key) <= OSS_KEY_MAX) {
        snprintf(key, sizeof(key), "%s%s", renamed->to, s.key + skip);
        r = journal_rename(path, &s, key, copy_of(renamed, &s));
        if (r)
            log_err("%s: unsent changes of %s stay under the old name: %s", path, s.key, strerror(-r));
    }
    journal_state_free(&s);
}

static void move_journals(struct cache *cache, const struct renamed *renamed)
{
    static const char suffix[] = ".journal";
    char path[4096];
    struct dirent *e;
    DIR *dir;

    if (snprintf(path, sizeof(path), "%s/data", cache->config.state_dir) >= (int)sizeof(path) ||
        !(dir = opendir(path)))
        return;
    while ((e = readdir(dir))) {
        size_t n = strlen(e->d_name);

        if (n > strlen(suffix) && !strcmp(e->d_name + n - strlen(suffix), suffix) &&
            snprintf(path, sizeof(path), "%s/data/%s", cache->config.state_dir, e->d_name) < (int)sizeof(path))
            move_journal(path, renamed);
    }
    closedir(dir);
}

/* ------------------------------------------------------------------------------------------- all of them */

static void recover_one(struct cache *cache, const char *path)
{
    struct renamed renamed;
    int r = rename_intent_read(path, &renamed);

    if (r == -ENODATA) {
        unlink(path); /* nothing was copied yet */
        return;
    }
    if (r) {
        log_err("%s cannot be read: a rename may be left half done: %s", path, strerror(-r));
        return;
    }
    log_info("%s the rename of %s to %s that an earlier daemon began", renamed.copied ? "finishing" : "undoing",
             renamed.from, renamed.to);
    if (renamed.copied)
        move_journals(cache, &renamed);
    r = end_rename(cache, &renamed);
    if (r)
        log_err("the rename of %s to %s stays half done until the next mount: %s", renamed.from, renamed.to,
                strerror(-r));
    else
        unlink(path);
    renamed_free(&renamed);
}

void rename_recover(struct cache *cache)
{
    char path[4096];
    struct dirent *e;
    DIR *dir;

    if (snprintf(path, sizeof(path), "%s/renames", cache->config.state_dir) >= (int)sizeof(path) ||
        !(dir = opendir(path)))
        return; /* never had one */
    while ((e = readdir(dir))) {
        if (*e->d_name != '.' &&
            snprintf(path, sizeof(path), "%s/renames/%s", cache->config.state_dir, e->d_name) < (int)sizeof(path))
            recover_one(cache, path);
    }
    closedir(dir);
}
