/* Multipart uploads that must not stay: strays.h says which, and what is on disk of them. */
#include "strays.h"

#include "hidden.h"
#include "record.h"

#include "../oss/base_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC       0x5553534fu
#define VERSION     1
#define PAYLOAD_MAX 8192
#define PAUSE_MS    1000
#define PAUSE_MAX   300000

enum stray_type { INTENT = 1, UPLOAD };

struct stray {
    struct job job;
    struct cache *cache;
    int64_t pause_ms; /* before the next try; 0: none has failed */
    uint64_t size;    /* of the file */
    int fd;           /* -1 when it was read, or could not be written */
    char id[OSS_UPLOADID_SIZE];
    char *path;
    char key[];
};

static struct stray *stray_new(struct cache *cache, const char *key)
{
    struct stray *s = calloc(1, sizeof(*s) + strlen(key) + 1);

    if (!s)
        return NULL;
    s->cache = cache;
    s->fd = -1;
    strcpy(s->key, key);
    return s;
}

static int write_record(struct stray *s, enum stray_type type, const struct buf *payload)
{
    const struct record_head head = {.magic = MAGIC, .version = VERSION, .type = type, .sequence = type};

    return record_write(s->fd, &head, payload, &s->size);
}

static int make_file(struct stray *s)
{
    struct cache *cache = s->cache;
    char path[4096];
    uint64_t number = __atomic_fetch_add(&cache->next_file, 1, __ATOMIC_RELAXED);

    if (snprintf(path, sizeof(path), "%s/uploads", cache->config.state_dir) >= (int)sizeof(path) - 32)
        return -ENAMETOOLONG;
    if (mkdir(path, 0700) && errno != EEXIST)
        return -errno;
    snprintf(path + strlen(path), 32, "/%" PRIu64, number);
    s->path = strdup(path);
    if (!s->path)
        return -ENOMEM;
    s->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return s->fd < 0 ? -errno : 0;
}

int stray_begin(struct cache *cache, const char *key, time_t intent, struct stray **out)
{
    struct buf payload = BUF_INIT(PAYLOAD_MAX);
    struct stray *s = stray_new(cache, key);
    int r = s ? make_file(s) : -ENOMEM;

    record_put_int(&payload, (uint64_t)intent, 8);
    record_put_text(&payload, key);
    if (!r)
        r = write_record(s, INTENT, &payload);
    buf_free(&payload);
    if (r) {
        log_err("an upload of %s cannot be noted in %s/uploads: %s", key, cache->config.state_dir, strerror(-r));
        stray_end(s);
        s = NULL;
    }
    *out = s;
    return r;
}

int stray_named(struct stray *s, const char *id)
{
    struct buf payload = BUF_INIT(PAYLOAD_MAX);
    int r;

    snprintf(s->id, sizeof(s->id), "%s", id);
    record_put_text(&payload, id);
    r = write_record(s, UPLOAD, &payload);
    buf_free(&payload);
    return r;
}

void stray_leave(struct stray *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->path);
    free(s);
}

void stray_end(struct stray *s)
{
    if (s && s->path)
        unlink(s->path);
    stray_leave(s);
}

/* ------------------------------------------------------------------------------------------- aborting */

static bool is_ending(struct cache *cache)
{
    bool ending;

    pthread_mutex_lock(&cache->mu);
    ending = cache->draining;
    pthread_mutex_unlock(&cache->mu);
    return ending;
}

static void abort_run(struct job *job);

/* It was not aborted: in a while again, or by the next mount. */
static void try_later(struct stray *s)
{
    if (is_ending(s->cache)) {
        stray_leave(s);
        return;
    }
    s->pause_ms = s->pause_ms ? 2 * s->pause_ms : PAUSE_MS;
    if (s->pause_ms > PAUSE_MAX)
        s->pause_ms = PAUSE_MAX;
    s->job.run = abort_run;
    pool_submit_after(s->cache->pool, POOL_META, &s->job, s->pause_ms);
}

void stray_abort(struct stray *s)
{
    struct oss *oss = s->cache->oss;
    struct oss_error err = {0};

    if (!*s->id) {
        stray_leave(s);
        return;
    }
    if (oss->ops->abort(oss, s->key, s->id, &err)) {
        cache_log_error("aborting the upload", s->key, &err);
        try_later(s);
        return;
    }
    if (s->pause_ms)
        log_info("aborted the upload %s of %s at last", s->id, s->key);
    stray_end(s);
}

static void abort_run(struct job *job)
{
    stray_abort(list_entry(job, struct stray, job));
}

void upload_abort(struct cache *cache, const char *key, const char *id)
{
    struct oss *oss = cache->oss;
    struct oss_error err = {0};
    struct stray *s;

    if (!oss->ops->abort(oss, key, id, &err))
        return;
    cache_log_error("aborting the upload", key, &err);
    if (hidden_is(cache, key)) {
        hidden_unsure(cache, key);
        return;
    }
    if (stray_begin(cache, key, time(NULL), &s))
        return; /* and said so */
    stray_named(s, id);
    try_later(s);
}

void upload_unknown(struct cache *cache, const char *key)
{
    struct stray *s;

    if (hidden_is(cache, key))
        hidden_unsure(cache, key);
    else if (!stray_begin(cache, key, time(NULL), &s))
        stray_leave(s);
}

/* ------------------------------------------------------------------------------------------- the next mount */

/* NULL for what is no such file: a daemon that died in writing INTENT has sent nothing. */
static struct stray *read_file(struct cache *cache, const char *path, time_t *intent)
{
    struct buf file = BUF_INIT(2 * PAYLOAD_MAX);
    struct record_reader in;
    struct record_head head;
    struct stray *s = NULL;
    char *key = NULL;
    size_t at = 0;

    if (!record_read_file(path, &file) &&
        record_next((const unsigned char *)buf_str(&file), file.len, &at, MAGIC, INTENT, &head, &in)) {
        *intent = (time_t)record_get_int(&in, 8);
        key = record_get_text(&in);
    }
    if (key && head.version == VERSION && head.type == INTENT && *key && strlen(key) <= OSS_KEY_MAX)
        s = stray_new(cache, key);
    if (s && record_next((const unsigned char *)buf_str(&file), file.len, &at, MAGIC, UPLOAD, &head, &in) &&
        head.version == VERSION && head.type == UPLOAD)
        record_get_fixed_text(&in, s->id, sizeof(s->id));
    if (s)
        s->path = strdup(path);
    buf_free(&file);
    free(key);
    return s;
}

void strays_recover(struct cache *cache, stray_found *each)
{
    char path[4096];
    struct dirent *e;
    DIR *dir;

    if (snprintf(path, sizeof(path), "%s/uploads", cache->config.state_dir) >= (int)sizeof(path) ||
        !(dir = opendir(path)))
        return; /* never had one */
    while ((e = readdir(dir))) {
        struct stray *s;
        time_t intent = 0;

        if (*e->d_name == '.' ||
            snprintf(path, sizeof(path), "%s/uploads/%s", cache->config.state_dir, e->d_name) >= (int)sizeof(path))
            continue;
        s = read_file(cache, path, &intent);
        if (s)
            each(cache, s->key, s->id, intent, s);
        else
            unlink(path);
    }
    closedir(dir);
}
