/*
 * rename_child.h: an object of a directory that is being renamed (rename_dir.c), and its copy. Inside cache/ only.
 */
#ifndef CACHE_RENAME_CHILD_H
#define CACHE_RENAME_CHILD_H

#include "cfile.h"

struct dir_rename;

struct child {
    struct job job;
    struct dir_rename *d;
    struct cfile *big; /* while a multipart copy of it runs */
    char *from;        /* key */
    uint64_t size;
    time_t last_modified;
    char etag[OSS_ETAG_SIZE];
    char storage_class[24];
    char new_etag[OSS_ETAG_SIZE];
    time_t new_modified;
    bool exact; /* new_modified is the object's, not the Date of the reply */
    bool copied;
    bool gone; /* removed by another program since it was listed */
};

/* What is known of the original without asking the service; a reference, or NULL. Blocks for the local disk only. */
struct oinfo *child_known(struct cache *cache, const struct child *child);

/*
 * Copies the object to the key `to` by one request, with the ACL, class and encryption that a copy does not take by
 * itself, as far as the encryption is known without asking. Fills what `child` says of the copy. 0; -ENOENT: somebody
 * has removed the object meanwhile, and there is nothing to be moved; or what the service says, logged. Blocks: on a
 * worker.
 */
int child_copy(struct cache *cache, struct child *child, const char *to);

/*
 * Deletes up to OSS_LIST_MAX objects by one request and frees their keys; `doing` for the log. 0, or a negative
 * errno: some may be left, and the log names what. Blocks.
 */
int rename_delete(struct cache *cache, char **keys, size_t n, const char *doing);

#endif
