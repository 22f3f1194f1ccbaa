/*
 * rename_intent.h: what must survive the daemon of a rename of a directory, so that it ends whole whenever it was
 * interrupted: the next mount finishes or undoes it. Inside cache/ only. This comment is the specification of the
 * format on disk.
 *
 * A file of the state directory, renames/NUMBER, exists exactly while a directory is being renamed. It is a row of
 * records in the frame of journal.h, with the magic 0x5253534f ("OSSR") and version 1:
 *
 *      type          payload                                     written
 *      1 INTENT      text from, to: keys with trailing '/'       before the first copy, when nothing is below `to`
 *      2 COPIED      u32 count, (text key, ETag, object)*        when all copies stand, before the first original is
 *                                                                deleted: of the files that are open or unsent here
 *                                                                their old key, the original's ETag, and the copy
 *
 * (text and object as in journal.h.) What recovery makes of it: without COPIED, the copies below `to` are deleted;
 * with it, the originals below `from` that are left, and the journals of files below `from` are given the new names.
 * An object goes only if its other one is there and has the same bytes (size, and ETag or CRC-64) and is no older
 * than a copy can be: so nothing is lost, whoever has changed one of the trees meanwhile. A multipart copy that was
 * under way is aborted. When the bucket cannot be asked, the intent stays for the mount after.
 */
#ifndef CACHE_RENAME_INTENT_H
#define CACHE_RENAME_INTENT_H

#include "cache.h"

#include <stdint.h>

struct rename_intent {
    int fd; /* -1: none */
    uint64_t size;
    char *path;
};

#define RENAME_INTENT_NONE ((struct rename_intent){.fd = -1})

/* A file that is open or unsent below the directory. Strings and info owned by whoever made it. */
struct renamed_file {
    char *key;                /* the old one */
    char etag[OSS_ETAG_SIZE]; /* of the original */
    struct oinfo *copy;
};

/* 0 or a negative errno of the disk: nothing may be copied then. */
int rename_intent_begin(struct cache *cache, const char *from, const char *to, struct rename_intent *out);
/* 0 or a negative errno: nothing may be deleted then. */
int rename_intent_copied(struct rename_intent *intent, const struct renamed_file *files, size_t n);
/* All is done or undone. For RENAME_INTENT_NONE it does nothing. */
void rename_intent_end(struct rename_intent *intent);

/*
 * Ends what earlier daemons have left, before the journals of files are looked at. Asks the bucket, and blocks: two
 * listings of each tree, and the deletes.
 */
void rename_recover(struct cache *cache);

/* For rename_recover(): what an intent says. */
struct renamed {
    char *from, *to;
    bool copied;
    struct renamed_file *files;
    size_t n_files;
};

/* 0; -ENODATA for one that was cut off before anything was copied, -EPROTO for a newer version or none of ours. */
int rename_intent_read(const char *path, struct renamed *out);
void renamed_free(struct renamed *renamed);

#endif
