#include "cache_rig.h"

#include "../../oss/base_log.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_S 20

void rig_new_cache(struct rig *rig)
{
    const struct cache_config config = {
        .oss = fake_oss_client(rig->fake),
        .state_dir = rig->dir,
        .prefix = "",
        .defaults = {.uid = 1000, .gid = 1000, .file_mode = 0644, .dir_mode = 0755},
        .limits = {.multipart_threshold = RIG_THRESHOLD,
                   .part_size = RIG_PART,
                   .part_min = RIG_PART_MIN,
                   .part_max = 1u << 20,
                   .parts_max = 200,
                   .copy_max = 64u << 10,
                   .append_max = OSS_PUT_MAX,
                   .object_max = 64u << 20},
        .parallel_count = 4,
        .stat_ttl_ms = 60000,
        .cache_size = rig->cache_size ? rig->cache_size : 1u << 30,
        .save_fetch = RIG_SAVE,
        .free_percent = 0,
        .keep_acl = true,
    };

    assert_int_equal(cache_new(&rig->cache, &config), 0);
}

void rig_start(struct rig *rig)
{
    log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_CRIT);
    strcpy(rig->dir, "/tmp/cache_rig.XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    rig->fake = fake_oss_new();
    rig_new_cache(rig);
}

/* Drained: nothing is said to free room any more, nor to wait itself. */
static void drain(struct rig *rig)
{
    struct cache *cache = rig->cache;

    cache_drain(cache);
    for (int i = 0; i < 20000 && (atomic_load(&cache->freeing) || atomic_load(&cache->paused)); i++)
        usleep(1000);
    assert_int_equal(atomic_load(&cache->freeing), 0);
    assert_int_equal(atomic_load(&cache->paused), 0);
}

void rig_restart(struct rig *rig)
{
    drain(rig);
    cache_free(rig->cache);
    rig_new_cache(rig);
}

void rig_stop(struct rig *rig)
{
    char command[128];

    fake_oss_fault(rig->fake, NULL);
    fake_oss_watch(rig->fake, NULL, NULL);
    fake_oss_open(rig->fake);
    drain(rig);
    cache_free(rig->cache);
    fake_oss_free(rig->fake);
    snprintf(command, sizeof(command), "rm -rf %s", rig->dir);
    assert_int_equal(system(command), 0);
}

int rig_setup(void **state)
{
    struct rig *rig = *state;

    *rig = (struct rig){0};
    rig_start(rig);
    return 0;
}

int rig_teardown(void **state)
{
    rig_stop(*state);
    return 0;
}

/* ------------------------------------------------------------------------------------------------- waiting */

struct rig_call {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool done;
    int r;
    struct oinfo *info;
    void *to; /* of a read */
};

struct rig_call *rig_call_new(void)
{
    struct rig_call *call = calloc(1, sizeof(*call));

    if (!call)
        abort();
    pthread_mutex_init(&call->mu, NULL);
    pthread_cond_init(&call->cond, NULL);
    return call;
}

void rig_done(void *arg, int r)
{
    struct rig_call *call = arg;

    pthread_mutex_lock(&call->mu);
    if (call->done) {
        fprintf(stderr, "a call was answered twice\n");
        abort();
    }
    call->done = true;
    call->r = r;
    pthread_cond_broadcast(&call->cond);
    pthread_mutex_unlock(&call->mu);
}

static void looked_up(void *arg, int r, struct oinfo *info, int64_t ttl_ms)
{
    (void)ttl_ms;
    ((struct rig_call *)arg)->info = oinfo_get(info);
    rig_done(arg, r);
}

bool rig_is_done(struct rig_call *call)
{
    bool done;

    pthread_mutex_lock(&call->mu);
    done = call->done;
    pthread_mutex_unlock(&call->mu);
    return done;
}

int rig_wait(struct rig_call *call, const char *what)
{
    struct timespec until;
    int r;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&call->mu);
    while (!call->done) {
        if (pthread_cond_timedwait(&call->cond, &call->mu, &until)) {
            fprintf(stderr, "%s hangs\n", what);
            abort();
        }
    }
    r = call->r;
    pthread_mutex_unlock(&call->mu);
    oinfo_put(call->info);
    pthread_cond_destroy(&call->cond);
    pthread_mutex_destroy(&call->mu);
    free(call);
    return r;
}

/* --------------------------------------------------------------------------------------------------- calls */

int rig_lookup(struct rig *rig, const char *key, struct oinfo **info)
{
    struct rig_call *call = rig_call_new();
    const char *name;
    char *dir;

    assert_int_equal(key_split(key, &dir, &name), 0);
    cache_lookup(rig->cache, dir, name, looked_up, call);
    while (!rig_is_done(call))
        usleep(200);
    free(dir);
    if (info) {
        *info = call->info;
        call->info = NULL;
    }
    return rig_wait(call, "lookup");
}

struct cfile *rig_create(struct rig *rig, const char *key)
{
    const struct attr attr = {.mode = S_IFREG | 0644, .uid = 1, .gid = 2, .mtime = {.tv_sec = 1600000000}};
    struct cfile *cf = cfile_open(rig->cache, key, NULL, &attr, true);

    assert_non_null(cf);
    cache_created(rig->cache, key, cf);
    return cf;
}

struct cfile *rig_open(struct rig *rig, const char *key)
{
    struct oinfo *info = NULL;
    struct cfile *cf = rig_lookup(rig, key, &info) ? NULL : cfile_open(rig->cache, key, info, NULL, true);

    oinfo_put(info);
    return cf;
}

struct rig_call *rig_flush_begin(struct cfile *cf)
{
    struct rig_call *call = rig_call_new();

    cfile_flush(cf, rig_done, call);
    return call;
}

int rig_flush(struct cfile *cf)
{
    return rig_wait(rig_flush_begin(cf), "flush");
}

/* The file is held while it is shown: the answer comes with the bytes in the caller's memory. */
static void rig_viewed(void *arg, int r, const struct cfile_view *view)
{
    struct rig_call *call = arg;

    if (!r && view->data)
        memcpy(call->to, view->data, view->n);
    else if (!r && view->n)
        assert_int_equal(pread(view->fd, call->to, view->n, (off_t)view->offset), (ssize_t)view->n);
    rig_done(call, r ? r : (int)view->n);
}

struct rig_call *rig_read_begin(struct cfile *cf, void *to, size_t n, uint64_t offset)
{
    struct rig_call *call = rig_call_new();

    call->to = to;
    cfile_read(cf, n, offset, rig_viewed, call);
    return call;
}

int rig_read(struct cfile *cf, void *to, size_t n, uint64_t offset)
{
    return rig_wait(rig_read_begin(cf, to, n, offset), "read");
}

struct rig_call *rig_unlink_begin(struct rig *rig, const char *key)
{
    struct rig_call *call = rig_call_new();

    cache_unlink(rig->cache, key, rig_done, call);
    return call;
}

int rig_unlink(struct rig *rig, const char *key)
{
    return rig_wait(rig_unlink_begin(rig, key), "unlink");
}

struct rig_call *rig_rename_begin(struct rig *rig, const char *from, const char *to)
{
    struct rig_call *call = rig_call_new();
    struct oinfo *info = NULL, *replaced = NULL;

    if (rig_lookup(rig, from, &info)) {
        rig_done(call, -ENOENT);
    } else {
        int r = rig_lookup(rig, to, &replaced);

        if (r && r != -ENOENT)
            rig_done(call, r);
        else
            cache_rename(rig->cache, from, to, info, replaced, rig_done, call);
    }
    oinfo_put(info);
    oinfo_put(replaced);
    return call;
}

int rig_rename(struct rig *rig, const char *from, const char *to)
{
    return rig_wait(rig_rename_begin(rig, from, to), "rename");
}

/* ----------------------------------------------------------------------------------------------- comparing */

static void compare(const char *what, const char *key, const char *got, size_t n, const char *data, size_t size)
{
    size_t at = 0;

    if (n != size)
        fail_msg("%s %s has %zu bytes, expected %zu", what, key, n, size);
    while (at < size && got[at] == data[at])
        at++;
    if (at < size)
        fail_msg("%s %s differs at byte %zu of %zu: %02x, expected %02x", what, key, at, size, (unsigned char)got[at],
                 (unsigned char)data[at]);
}

void rig_expect(struct rig *rig, const char *key, const char *data, size_t size)
{
    char *got = NULL;
    size_t n = 0;

    if (fake_oss_content(rig->fake, key, &got, &n))
        fail_msg("the bucket has no %s", key);
    compare("the object", key, got, n, data, size);
    free(got);
}

void rig_expect_absent(struct rig *rig, const char *key)
{
    char *got;
    size_t n;

    if (!fake_oss_content(rig->fake, key, &got, &n)) {
        free(got);
        fail_msg("the bucket still has %s", key);
    }
}

void rig_expect_file(struct cfile *cf, const char *data, size_t size)
{
    char *got = malloc(size + 100);
    int n = rig_read(cf, got, size + 100, 0);

    if (n < 0)
        fail_msg("read: %s", strerror(-n));
    compare("the file", cf->key, got, (size_t)n, data, size);
    free(got);
}

void rig_bytes(char *to, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u + seed * 0xd1342543de82ef95u;

        to[i] = (char)((x ^ x >> 29) >> 17);
    }
}
