/*
 * cache_rig.h: a cache on a bucket in memory, with calls that wait for the callback.
 *
 * Nothing here waits for ever: what does not answer within twenty seconds ends the program with a message.
 */
#ifndef TESTS_UNIT_CACHE_RIG_H
#define TESTS_UNIT_CACHE_RIG_H

#include "../../cache/cfile.h"
#include "fake_oss.h"

#include <pthread.h>

/* Limits of the rig: multipart above 64 KiB, parts of 32 KiB, 4 KiB at least; up to 16 KiB are fetched for handles.
 */
#define RIG_THRESHOLD (64u << 10)
#define RIG_PART      (32u << 10)
#define RIG_PART_MIN  (4u << 10)
#define RIG_SAVE      (16u << 10)

struct rig {
    struct fake_oss *fake;
    struct cache *cache;
    char dir[64];
    uint64_t cache_size; /* 0: 1 GiB */
};

void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);
/* The same as fixtures of cmocka, where *state is the rig; what else it held before is forgotten. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* Another cache in the same directory, when the one before is freed. */
void rig_new_cache(struct rig *rig);
/* The cache is drained and freed, and another one is made in the same directory. */
void rig_restart(struct rig *rig);

/* A call that is under way. */
struct rig_call;
struct rig_call *rig_call_new(void);
cache_done rig_done;
/* What it was answered with. Frees it. */
int rig_wait(struct rig_call *call, const char *what);
bool rig_is_done(struct rig_call *call);

/* A file that is not there yet; the file `key` as a lookup finds it, NULL when there is none. Writable both. */
struct cfile *rig_create(struct rig *rig, const char *key);
struct cfile *rig_open(struct rig *rig, const char *key);

struct rig_call *rig_flush_begin(struct cfile *cf);
int rig_flush(struct cfile *cf);
struct rig_call *rig_read_begin(struct cfile *cf, void *to, size_t n, uint64_t offset);
int rig_read(struct cfile *cf, void *to, size_t n, uint64_t offset);
struct rig_call *rig_unlink_begin(struct rig *rig, const char *key);
int rig_unlink(struct rig *rig, const char *key);
struct rig_call *rig_rename_begin(struct rig *rig, const char *from, const char *to);
int rig_rename(struct rig *rig, const char *from, const char *to);
/* 0 or -ENOENT, without or with the attributes. */
int rig_lookup(struct rig *rig, const char *key, struct oinfo **info);

/* Fails the test unless the bucket has these bytes under the key. */
void rig_expect(struct rig *rig, const char *key, const char *data, size_t size);
void rig_expect_absent(struct rig *rig, const char *key);
/* Fails the test unless reading the file gives these bytes. */
void rig_expect_file(struct cfile *cf, const char *data, size_t size);

/* The i-th byte of stream `seed` for all of [0, n). */
void rig_bytes(char *to, size_t n, uint64_t seed);

#endif
