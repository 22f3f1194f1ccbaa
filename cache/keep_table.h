/* keep_table.h: the inside of keep.h, between keep.c (the table and the file) and keep_file.c (of one cfile). */
#ifndef CACHE_KEEP_TABLE_H
#define CACHE_KEEP_TABLE_H

#include "keep.h"
#include "keep_log.h"

#define KEEP_RAW BUF_INIT(KEEP_RECORD_MAX + 1024)

/* A data file of which a record is true. In the table, or of a cfile (then guarded by that one's mu too). */
struct kept {
    struct list link;  /* in keep->order while it is in the table, else in keep->held */
    struct kept *next; /* in its bucket of the table */
    uint64_t hash;     /* keep_hash() of its key */
    uint64_t sign;     /* keep_sign() of what the record is about */
    uint64_t number;   /* of the data file */
    uint64_t bytes;    /* of the ranges */
    uint64_t held;     /* what the cfile had on the disk when it was written */
    uint64_t at;       /* of the record in `kept` */
    union {
        uint64_t data_end; /* while it is read: where the last range ends */
        uint64_t moved_to; /* while the file is written anew */
    };
    uint32_t length; /* of the record */
    bool changed, claimed;
};

struct keep {
    char *state_dir;
    pthread_mutex_t mu; /* guards all below, and the file */
    int fd;
    uint64_t end, live_bytes; /* of the file, and what of it is true */
    bool changed;             /* the file, or the order of use, since it was opened */
    struct kept **table;
    size_t n;
    struct list order; /* in the table: least recently used first */
    struct list held;  /* by cfiles */

    /* Before the mount: what was read. */
    struct kept **read;
    size_t n_read, read_room;
};

uint64_t keep_hash(const char *key);
/* What a record is about, in short: to tell whether it is still the same. */
uint64_t keep_sign(const char *key, const char *etag, uint64_t size);
int keep_path(const struct keep *keep, uint64_t number, char *out, size_t size);

/* All with keep->mu held. */
struct kept *keep_table_find(struct keep *keep, uint64_t hash);
void keep_table_add(struct keep *keep, struct kept *e);
void keep_table_remove(struct keep *keep, struct kept *e);
/* An entry that is not in the table is no more. */
void keep_drop_entry(struct keep *keep, struct kept *e);
/* Appends a record; where it stands, if `at`. 0 or a negative errno. */
int keep_write(struct keep *keep, const struct keep_record *record, uint64_t *at, uint32_t *length);
/* Writes the file anew when little of it is true. */
void keep_tidy(struct keep *keep);

#endif
