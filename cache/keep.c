/* The table of what is kept, and the file `kept`: the first half of keep.h. */
#include "keep_table.h"

#include "../oss/base_log.h"
#include "../oss/crc64.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUCKETS     65536u
#define KEPT_MAX    200000      /* bounds the memory: some 100 bytes each */
#define GARBAGE_MAX (4u << 20)  /* in `kept`, beside as much again as there is of use */
#define SLACK       (64u << 10) /* a data file may take so much more than is said of it: its file system's blocks */

/* -------------------------------------------------------------------------------------------- the table */

static struct kept **bucket_of(struct keep *keep, uint64_t hash)
{
    return &keep->table[hash % BUCKETS];
}

uint64_t keep_hash(const char *key)
{
    return crc64(0, key, strlen(key));
}

void keep_table_add(struct keep *keep, struct kept *e)
{
    struct kept **bucket = bucket_of(keep, e->hash);

    e->next = *bucket;
    *bucket = e;
    list_del(&e->link);
    list_add_tail(&keep->order, &e->link);
    keep->n++;
}

void keep_table_remove(struct keep *keep, struct kept *e)
{
    struct kept **at = bucket_of(keep, e->hash);

    while (*at && *at != e)
        at = &(*at)->next;
    if (*at)
        *at = e->next;
    e->next = NULL;
    list_del(&e->link);
    keep->n--;
}

struct kept *keep_table_find(struct keep *keep, uint64_t hash)
{
    struct kept *e = *bucket_of(keep, hash);

    while (e && e->hash != hash)
        e = e->next;
    return e;
}

void keep_drop_entry(struct keep *keep, struct kept *e)
{
    keep->live_bytes -= e->length;
    list_del(&e->link);
    free(e);
}

int keep_path(const struct keep *keep, uint64_t number, char *out, size_t size)
{
    return snprintf(out, size, "%s/data/%016llx", keep->state_dir, (unsigned long long)number) >= (int)size
               ? -ENAMETOOLONG
               : 0;
}

/* ------------------------------------------------------------------------------------------ the file anew */

static int copy_record(struct keep *keep, struct kept *e, int to, uint64_t *end, struct buf *raw)
{
    struct keep_record record;
    uint64_t at = *end;
    int r = keep_read_record(keep->fd, e->at, raw, &record);

    if (!r)
        sums_free(&record.sums);
    if (!r)
        r = keep_append(to, end, raw);
    e->moved_to = at;
    return r;
}

static int copy_list(struct keep *keep, struct list *list, int to, uint64_t *end, struct buf *raw)
{
    int r = 0;

    for (struct list *it = list->next; !r && it != list; it = it->next)
        r = copy_record(keep, list_entry(it, struct kept, link), to, end, raw);
    return r;
}

static void take_new_places(struct list *list)
{
    list_for_each (it, list) {
        struct kept *e = list_entry(it, struct kept, link);

        e->at = e->moved_to;
    }
}

/* What is true of the file alone, in the order of its use. mu held; as it was when that fails. */
static void rewrite(struct keep *keep)
{
    struct buf raw = KEEP_RAW;
    char path[4096], fresh[4096];
    uint64_t end = 0;
    int to = -1, r = 0;

    if (snprintf(path, sizeof(path), "%s/kept", keep->state_dir) >= (int)sizeof(path) ||
        snprintf(fresh, sizeof(fresh), "%s/kept.new", keep->state_dir) >= (int)sizeof(fresh))
        r = -ENAMETOOLONG;
    if (!r) {
        unlink(fresh);
        to = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        r = to < 0 ? -errno : 0;
    }
    if (!r)
        r = copy_list(keep, &keep->order, to, &end, &raw);
    if (!r)
        r = copy_list(keep, &keep->held, to, &end, &raw);
    if (!r && rename(fresh, path))
        r = -errno;
    if (!r) {
        take_new_places(&keep->order);
        take_new_places(&keep->held);
        close(keep->fd);
        keep->fd = to;
        keep->end = keep->live_bytes = end;
        to = -1;
    } else {
        log_warn("%s: what is cached is not noted in short: %s", path, strerror(-r));
    }
    if (to >= 0)
        close(to);
    buf_free(&raw);
}

int keep_write(struct keep *keep, const struct keep_record *record, uint64_t *at, uint32_t *length)
{
    struct buf raw = KEEP_RAW;
    uint64_t start = keep->end;
    int r = keep_encode(&raw, record);

    if (!r)
        r = keep_append(keep->fd, &keep->end, &raw);
    if (!r && at) {
        *at = start;
        *length = (uint32_t)raw.len;
    }
    keep->changed = true;
    buf_free(&raw);
    return r;
}

void keep_tidy(struct keep *keep)
{
    /* Not before it is known what of it is true. */
    if (!keep->read && keep->end > 2 * keep->live_bytes + GARBAGE_MAX)
        rewrite(keep);
}

/* ---------------------------------------------------------------------------------------------- reading it */

static int by_number(const void *a, const void *b)
{
    const struct kept *x = *(struct kept *const *)a, *y = *(struct kept *const *)b;

    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_place(const void *a, const void *b)
{
    const struct kept *x = *(struct kept *const *)a, *y = *(struct kept *const *)b;

    return x->at < y->at ? -1 : x->at > y->at;
}

static int remember(struct keep *keep, const struct keep_record *record, uint64_t at, size_t length)
{
    struct kept *e;

    if (keep->n_read == keep->read_room) {
        size_t room = keep->read_room ? keep->read_room * 2 : 256;
        struct kept **v = realloc(keep->read, room * sizeof(struct kept *));

        if (!v)
            return -ENOMEM;
        keep->read = v;
        keep->read_room = room;
    }
    e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    list_init(&e->link);
    e->number = record->number;
    e->at = at;
    e->length = (uint32_t)length;
    if (record->type == KEEP_KEPT) {
        e->hash = keep_hash(record->key);
        e->bytes = record->bytes;
        e->data_end = record->end;
        e->sign = keep_sign(record->key, record->etag, record->size);
    } else {
        e->changed = true;
    }
    keep->read[keep->n_read++] = e;
    return 0;
}

static void forget_read(struct keep *keep, struct kept *e)
{
    keep->changed = true;
    free(e);
}

/* Of each number the last word alone; none of those that were changed since. */
static void last_words(struct keep *keep)
{
    size_t n = 0;

    if (keep->n_read)
        qsort(keep->read, keep->n_read, sizeof(*keep->read), by_number);
    for (size_t i = 0; i < keep->n_read; i++) {
        struct kept *e = keep->read[i];

        if (e->changed || (i + 1 < keep->n_read && keep->read[i + 1]->number == e->number))
            forget_read(keep, e);
        else
            keep->read[n++] = e;
    }
    keep->n_read = n;
}

static int read_records(struct keep *keep)
{
    struct buf raw = KEEP_RAW;
    struct keep_record record;
    int r;

    while (!(r = keep_read_record(keep->fd, keep->end, &raw, &record))) {
        r = remember(keep, &record, keep->end, raw.len);
        sums_free(&record.sums);
        if (r)
            break;
        keep->end += raw.len;
    }
    buf_free(&raw);
    if (r == -EINVAL)
        log_info("%s/kept is torn at %llu: what it says behind that is not believed", keep->state_dir,
                 (unsigned long long)keep->end);
    if (r != -ENOMEM && ftruncate(keep->fd, (off_t)keep->end))
        return -errno;
    last_words(keep);
    return r == -ENOMEM ? r : 0;
}

static void keep_free(struct keep *keep)
{
    struct list *it;

    while ((it = list_pop(&keep->order)) || (it = list_pop(&keep->held)))
        free(list_entry(it, struct kept, link));
    for (size_t i = 0; i < keep->n_read; i++)
        free(keep->read[i]);
    free(keep->read);
    if (keep->fd >= 0)
        close(keep->fd);
    pthread_mutex_destroy(&keep->mu);
    free(keep->table);
    free(keep->state_dir);
    free(keep);
}

static int open_file(struct keep *keep)
{
    char path[4096];
    struct stat st;

    if (snprintf(path, sizeof(path), "%s/kept", keep->state_dir) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    if (!lstat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        unlink(path);
    keep->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return keep->fd < 0 ? -errno : read_records(keep);
}

struct keep *keep_open(const char *state_dir)
{
    struct keep *keep = calloc(1, sizeof(*keep));
    int r;

    if (!keep)
        return NULL;
    keep->fd = -1;
    pthread_mutex_init(&keep->mu, NULL);
    list_init(&keep->order);
    list_init(&keep->held);
    keep->state_dir = strdup(state_dir);
    keep->table = calloc(BUCKETS, sizeof(struct kept *));
    r = keep->state_dir && keep->table ? open_file(keep) : -ENOMEM;
    if (r) {
        log_warn("what is cached is not kept across mounts: %s/kept: %s", state_dir, strerror(-r));
        keep_free(keep);
        return NULL;
    }
    return keep;
}

void keep_close(struct keep *keep)
{
    if (!keep)
        return;
    if (keep->changed)
        rewrite(keep);
    keep_free(keep);
}

/* ------------------------------------------------------------------------------------------------ the mount */

/* What nobody knows of, which a fetch may have brought since the record, is taken from the disk: it would not count.
 */
static int punch_rest(struct keep *keep, const struct kept *e, const char *path, uint64_t size)
{
    struct buf raw = KEEP_RAW;
    struct keep_record record = {0};
    uint64_t at = 0;
    int fd = -1, r = keep_read_record(keep->fd, e->at, &raw, &record);

    if (!r)
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (!r && fd < 0)
        r = -errno;
    for (size_t i = 0; !r && i <= record.sums.n; i++) {
        uint64_t end = i < record.sums.n ? record.sums.v[i].start : size;

        if (end > at && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(end - at)))
            r = -errno;
        at = i < record.sums.n ? record.sums.v[i].end : at;
    }
    if (fd >= 0)
        close(fd);
    sums_free(&record.sums);
    buf_free(&raw);
    return r;
}

static struct kept *read_of(struct keep *keep, uint64_t number)
{
    struct kept wanted = {.number = number};
    size_t low = 0, high = keep->n_read;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (keep->read[middle]->number < wanted.number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < keep->n_read && keep->read[low]->number == number ? keep->read[low] : NULL;
}

bool keep_claim(struct cache *cache, const char *name)
{
    struct keep *keep = cache->keep;
    char path[4096], *end;
    unsigned long long number = strtoull(name, &end, 16);
    struct kept *e;
    struct stat st;
    uint64_t next;

    if (!keep || *end || strlen(name) != 16 || keep_path(keep, number, path, sizeof(path)) ||
        strcmp(strrchr(path, '/') + 1, name) != 0)
        return false;
    e = read_of(keep, number);
    if (!e || lstat(path, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < e->data_end)
        return false;
    if ((uint64_t)st.st_blocks * 512 > e->bytes + SLACK && punch_rest(keep, e, path, (uint64_t)st.st_size))
        return false;
    e->claimed = true;
    /* The clock may have been set back. What was unsent may be on its way already, and ask for numbers. */
    next = __atomic_load_n(&cache->next_file, __ATOMIC_RELAXED);
    while (number >= next && !__atomic_compare_exchange_n(&cache->next_file, &next, number + 1, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    return true;
}

/* Of two data files of one key the younger one stays. */
static void claim_one(struct cache *cache, struct kept *e)
{
    struct kept *older = keep_table_find(cache->keep, e->hash);
    char path[4096];

    if (older) {
        if (!keep_path(cache->keep, older->number, path, sizeof(path)))
            unlink(path);
        cache->cached_bytes -= older->bytes;
        keep_table_remove(cache->keep, older);
        keep_drop_entry(cache->keep, older);
    }
    keep_table_add(cache->keep, e);
    cache->keep->live_bytes += e->length;
    cache->cached_bytes += e->bytes;
}

void keep_claimed(struct cache *cache)
{
    struct keep *keep = cache->keep;

    if (!keep)
        return;
    if (keep->n_read)
        qsort(keep->read, keep->n_read, sizeof(*keep->read), by_place);
    pthread_mutex_lock(&cache->mu);
    pthread_mutex_lock(&keep->mu);
    for (size_t i = 0; i < keep->n_read; i++)
        if (keep->read[i]->claimed)
            claim_one(cache, keep->read[i]);
        else
            forget_read(keep, keep->read[i]);
    free(keep->read);
    keep->read = NULL;
    keep->n_read = keep->read_room = 0;
    keep_tidy(keep);
    pthread_mutex_unlock(&keep->mu);
    pthread_mutex_unlock(&cache->mu);
}

/* ----------------------------------------------------------------------------------------------- the bounds */

void keep_shrink(struct cache *cache, uint64_t bytes)
{
    struct keep *keep = cache->keep;
    char path[4096];

    for (; keep;) {
        struct kept *e = NULL;

        pthread_mutex_lock(&cache->mu);
        pthread_mutex_lock(&keep->mu);
        if ((cache->cached_bytes > bytes || keep->n > KEPT_MAX) && !list_empty(&keep->order)) {
            e = list_entry(keep->order.next, struct kept, link);
            cache->cached_bytes -= e->bytes;
            keep_table_remove(keep, e);
            keep->live_bytes -= e->length;
            keep->changed = true;
        }
        pthread_mutex_unlock(&keep->mu);
        pthread_mutex_unlock(&cache->mu);
        if (!e)
            return;
        if (!keep_path(keep, e->number, path, sizeof(path)))
            unlink(path);
        free(e);
    }
}
