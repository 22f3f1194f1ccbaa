/* store_priv.h: what store*.c share; for nobody else. */
#ifndef OSSD_STORE_PRIV_H
#define OSSD_STORE_PRIV_H

#include "index.h"
#include "store.h"

#include <pthread.h>

struct bucket {
    struct bucket *next; /* by name */
    char name[64];
    time_t created;
    enum acl acl;
    uint64_t bytes;        /* of all objects */
    struct index *objects; /* key -> struct object */
    struct index *uploads; /* key NUL id -> struct upload */
};

struct store {
    struct blobs *blobs;
    pthread_mutex_t lock;   /* guards all below, and what is reached from it; the last lock taken */
    struct bucket *buckets; /* by name */
    struct store_log *log;  /* NULL: in memory */
};

struct bucket *bucket_find(struct store *store, const char *name);
struct bucket *bucket_new(struct store *store, const char *name, enum acl acl, time_t created);
void bucket_drop(struct store *store, struct bucket *bucket);

/* Changes of the maps alone, without a record: the loading of the log uses them too. References are taken. */
struct object *bucket_set_object(struct bucket *bucket, struct object *object); /* returns the old one */
struct object *bucket_drop_object(struct bucket *bucket, struct bytes key);
void upload_set_part(struct upload *upload, struct part *part);
void bucket_drop_upload(struct bucket *bucket, struct upload *upload);

/*
 * The log: store_log.c. Each function appends one record and answers when it is written (0 or a negative errno); all
 * are called with the store's lock, and do nothing without a log.
 */
int log_open(struct store *store, const char *path, char *error, size_t error_size);
void log_close(struct store_log *log);
int log_bucket(struct store_log *log, const struct bucket *bucket);
int log_bucket_gone(struct store_log *log, const char *name);
int log_object(struct store_log *log, const char *bucket, const struct object *object);
int log_object_gone(struct store_log *log, const char *bucket, struct bytes key);
int log_upload(struct store_log *log, const char *bucket, const struct upload *upload);
int log_part(struct store_log *log, const char *bucket, const struct upload *upload, const struct part *part);
int log_upload_gone(struct store_log *log, const char *bucket, const struct upload *upload);
int log_complete(struct store_log *log, const char *bucket, const struct upload *upload, const struct object *object);

#endif
