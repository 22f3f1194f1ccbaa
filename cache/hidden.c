#include "hidden.h"

#include "../oss/base_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES 16

bool cache_reserved_name(const char *name)
{
    return !strcmp(name, HIDDEN_DIR);
}

bool hidden_is(const struct cache *cache, const char *key)
{
    size_t skip = strlen(cache->config.prefix);

    return !strncmp(key, cache->config.prefix, skip) && !strncmp(key + skip, HIDDEN_DIR "/", strlen(HIDDEN_DIR "/"));
}

/* ------------------------------------------------------------------------------------------- the registry */

static int registry_path(const struct cache *cache, const char *name, char *out, size_t size)
{
    return snprintf(out, size, "%s/hidden%s%s", cache->config.state_dir, *name ? "/" : "", name) < (int)size
               ? 0
               : -ENAMETOOLONG;
}

static int registry_add(const struct cache *cache, const char *name)
{
    char path[4096];
    int fd, r = registry_path(cache, "", path, sizeof(path));

    if (!r && mkdir(path, 0700) && errno != EEXIST)
        r = -errno;
    if (!r)
        r = registry_path(cache, name, path, sizeof(path));
    if (r)
        return r;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static void registry_forget(const struct cache *cache, const char *name)
{
    char path[4096];

    if (!registry_path(cache, name, path, sizeof(path)))
        unlink(path);
}

/* One that is not empty: of uploads under it that nobody knows. */
static bool registry_is_unsure(const struct cache *cache, const char *name)
{
    char path[4096];
    struct stat st;

    return !registry_path(cache, name, path, sizeof(path)) && !lstat(path, &st) && st.st_size > 0;
}

void hidden_unsure(struct cache *cache, const char *key)
{
    char path[4096];
    int fd = -1;

    if (!registry_path(cache, strrchr(key, '/') + 1, path, sizeof(path)))
        fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || write(fd, "?", 1) != 1)
        log_warn("%s: an unfinished upload may be left there", key);
    if (fd >= 0)
        close(fd);
}

static int make_key(const struct cache *cache, const char *name, char key[OSS_KEY_MAX + 2])
{
    int n = snprintf(key, OSS_KEY_MAX + 2, "%s" HIDDEN_DIR "/%s", cache->config.prefix, name);

    return n > OSS_KEY_MAX ? -ENAMETOOLONG : 0;
}

int hidden_new(struct cache *cache, char key[OSS_KEY_MAX + 2])
{
    unsigned char random[NAME_BYTES];
    char name[2 * NAME_BYTES + 1];
    int r;

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EIO;
    for (size_t i = 0; i < NAME_BYTES; i++)
        snprintf(name + 2 * i, 3, "%02x", random[i]);
    r = make_key(cache, name, key);
    return r ? r : registry_add(cache, name);
}

/* ------------------------------------------------------------------------------------------- removal */

struct removal {
    struct job job;
    struct cache *cache;
    bool uploads; /* look for unfinished ones as well, whether unsure or not */
    char key[];
};

/* Under a key that nobody else has, every upload is ours. */
static int abort_uploads(struct cache *cache, const char *key, struct oss_error *err)
{
    struct oss_upload_list list = {0};
    int r = cache->oss->ops->list_uploads(cache->oss, key, NULL, NULL, &list, err);

    for (size_t i = 0; !r && i < list.n; i++)
        if (!strcmp(list.entries[i].key, key))
            r = cache->oss->ops->abort(cache->oss, key, list.entries[i].id, err);
    oss_upload_list_free(&list);
    return r;
}

static void removal_run(struct job *job)
{
    struct removal *m = list_entry(job, struct removal, job);
    struct cache *cache = m->cache;
    struct oss_error err = {.next_position = -1};
    bool uploads = m->uploads || registry_is_unsure(cache, strrchr(m->key, '/') + 1);
    int r = uploads ? abort_uploads(cache, m->key, &err) : 0;

    if (!r)
        r = cache->oss->ops->delete (cache->oss, m->key, &err);
    if (r)
        cache_log_error("removing the hidden object", m->key, &err);
    else
        registry_forget(cache, strrchr(m->key, '/') + 1);
    free(m);
}

static void remove_later(struct cache *cache, const char *key, bool uploads)
{
    struct removal *m = cache->pool ? calloc(1, sizeof(*m) + strlen(key) + 1) : NULL;

    if (!m) {
        log_warn("the hidden object %s stays until the next mount", key);
        return;
    }
    strcpy(m->key, key);
    m->cache = cache;
    m->uploads = uploads;
    m->job.run = removal_run;
    pool_submit(cache->pool, POOL_META, &m->job);
}

void hidden_remove(struct cache *cache, const char *key)
{
    remove_later(cache, key, false);
}

int hidden_lost(struct cfile *cf, const char *key)
{
    struct extent ex;

    pthread_mutex_lock(&cf->mu);
    for (uint64_t at = 0; extent_map_next_remote(cf->map, at, UINT64_MAX, &ex); at = ex.end) {
        const struct base *base = cfile_base(cf, ex.base);

        if (base && !strcmp(base->key, key))
            log_err("%s: the bytes from %llu to %llu are lost: the service no longer has %s", cf->key,
                    (unsigned long long)ex.start, (unsigned long long)ex.end, key);
    }
    pthread_mutex_unlock(&cf->mu);
    return -EIO;
}

/* ------------------------------------------------------------------------------------------- the next mount */

static bool is_base(struct cfile **files, size_t n, const char *key)
{
    bool found = false;

    for (size_t i = 0; i < n && !found; i++) {
        pthread_mutex_lock(&files[i]->mu);
        for (size_t k = 0; k < files[i]->n_bases; k++)
            found = found || !strcmp(files[i]->bases[k].key, key);
        pthread_mutex_unlock(&files[i]->mu);
    }
    return found;
}

static bool is_kept(char *const *keep, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(keep[i], key))
            return true;
    return false;
}

void hidden_recover(struct cache *cache, char *const *keep, size_t n_keep)
{
    char path[4096], key[OSS_KEY_MAX + 2];
    struct cfile **files = NULL;
    struct dirent *e;
    ssize_t n;
    DIR *dir;

    if (registry_path(cache, "", path, sizeof(path)) || !(dir = opendir(path)))
        return; /* never had one */
    n = cfile_collect(cache, "", &files);
    while (n >= 0 && (e = readdir(dir))) {
        if (*e->d_name == '.' || strlen(e->d_name) != 2 * NAME_BYTES || make_key(cache, e->d_name, key) ||
            is_kept(keep, n_keep, key) || is_base(files, (size_t)n, key))
            continue;
        log_info("removing the hidden object %s of an earlier daemon", key);
        remove_later(cache, key, true);
    }
    closedir(dir);
    for (ssize_t i = 0; i < n; i++)
        cfile_release(files[i]);
    free(n < 0 ? NULL : files);
}
