#include "rename_intent.h"

#include "cfile.h"
#include "record.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC   0x5253534fu
#define VERSION 1

enum intent_type { INTENT = 1, COPIED };

/* ------------------------------------------------------------------------------------------- writing */

static int write_record(struct rename_intent *intent, enum intent_type type, const struct buf *payload)
{
    const struct record_head head = {.magic = MAGIC, .version = VERSION, .type = type, .sequence = type};
    int r = record_write(intent->fd, &head, payload, &intent->size);

    if (r)
        log_err("%s: %s", intent->path, strerror(-r));
    return r;
}

static int make_path(struct cache *cache, char path[4096])
{
    uint64_t number;

    if (snprintf(path, 4096, "%s/renames", cache->config.state_dir) >= 4096)
        return -ENAMETOOLONG;
    if (mkdir(path, 0700) && errno != EEXIST)
        return -errno;
    number = __atomic_fetch_add(&cache->next_file, 1, __ATOMIC_RELAXED);
    return snprintf(path, 4096, "%s/renames/%" PRIu64, cache->config.state_dir, number) < 4096 ? 0 : -ENAMETOOLONG;
}

int rename_intent_begin(struct cache *cache, const char *from, const char *to, struct rename_intent *out)
{
    struct buf payload = BUF_INIT(4 * OSS_KEY_MAX);
    char path[4096];
    int r = make_path(cache, path);

    *out = RENAME_INTENT_NONE;
    if (!r && !(out->path = strdup(path)))
        r = -ENOMEM;
    if (!r) {
        out->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        r = out->fd < 0 ? -errno : 0;
    }
    record_put_text(&payload, from);
    record_put_text(&payload, to);
    if (!r)
        r = write_record(out, INTENT, &payload);
    buf_free(&payload);
    if (r) {
        log_err("the rename of %s cannot be noted in %s: %s", from, path, strerror(-r));
        rename_intent_end(out);
    }
    return r;
}

int rename_intent_copied(struct rename_intent *intent, const struct renamed_file *files, size_t n)
{
    struct buf payload = BUF_INIT(RECORD_PAYLOAD_MAX);
    int r;

    record_put_int(&payload, n, 4);
    for (size_t i = 0; i < n; i++) {
        record_put_text(&payload, files[i].key);
        record_put_text(&payload, files[i].etag);
        record_put_object(&payload, files[i].copy);
    }
    r = write_record(intent, COPIED, &payload);
    buf_free(&payload);
    return r;
}

void rename_intent_end(struct rename_intent *intent)
{
    if (intent->fd >= 0) {
        unlink(intent->path);
        close(intent->fd);
    }
    free(intent->path);
    *intent = RENAME_INTENT_NONE;
}

/* ------------------------------------------------------------------------------------------- reading */

static void get_files(struct record_reader *in, struct renamed *out)
{
    size_t n = record_get_int(in, 4);

    if (in->bad || n > RECORD_PAYLOAD_MAX / 9 || !(out->files = calloc(n + 1, sizeof(*out->files)))) {
        in->bad = true;
        return;
    }
    for (size_t i = 0; i < n && !in->bad; i++) {
        struct renamed_file *f = &out->files[out->n_files++];

        f->key = record_get_text(in);
        record_get_fixed_text(in, f->etag, sizeof(f->etag));
        record_get_object(in, &f->copy);
    }
}

static bool is_directory(const char *key)
{
    size_t n = key ? strlen(key) : 0;

    return n > 0 && n <= OSS_KEY_MAX && key[n - 1] == '/';
}

int rename_intent_read(const char *path, struct renamed *out)
{
    struct buf file = BUF_INIT(2 * RECORD_PAYLOAD_MAX);
    struct record_reader in;
    struct record_head head;
    uint32_t sequence = 0;
    size_t at = 0;
    int r;

    *out = (struct renamed){0};
    r = record_read_file(path, &file);
    while (!r && record_next((const unsigned char *)buf_str(&file), file.len, &at, MAGIC, sequence + 1, &head, &in)) {
        if (head.version != VERSION || head.type != ++sequence) {
            r = -EPROTO;
        } else if (head.type == INTENT) {
            out->from = record_get_text(&in);
            out->to = record_get_text(&in);
        } else if (head.type == COPIED) {
            get_files(&in, out);
            out->copied = true;
        } else {
            r = -EPROTO;
        }
        if (!r && in.bad)
            r = -EPROTO;
    }
    if (!r && sequence == 0)
        r = file.len < RECORD_HEADER + 4 * OSS_KEY_MAX ? -ENODATA : -EPROTO;
    if (!r && (!is_directory(out->from) || !is_directory(out->to)))
        r = -EPROTO;
    buf_free(&file);
    if (r)
        renamed_free(out);
    return r;
}

void renamed_free(struct renamed *renamed)
{
    for (size_t i = 0; i < renamed->n_files; i++) {
        free(renamed->files[i].key);
        oinfo_put(renamed->files[i].copy);
    }
    free(renamed->files);
    free(renamed->from);
    free(renamed->to);
    *renamed = (struct renamed){0};
}
