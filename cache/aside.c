/*
 * What is kept in a state directory: read, copied, removed. The directories are opened once and not through symbolic
 * links, since root may look at a directory of somebody else's.
 */
#include "journal.h"
#include "status.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL    ".journal"
#define WHY        ".why"
#define COPY_CHUNK (1u << 20)
#define PLACE_PATH 64

/* aside/ or data/, or a negative errno. */
static int open_place(const char *state_dir, bool aside)
{
    int top = open(state_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd;

    if (top < 0)
        return -errno;
    fd = openat(top, aside ? "aside" : "data", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    close(top);
    return fd;
}

/* The number at the beginning of a name of ours; false for any other name. */
static bool id_of(const char *name, char id[32])
{
    size_t n = strspn(name, "0123456789abcdef");

    if (n == 0 || n >= 32 || (name[n] && strcmp(name + n, JOURNAL) && strcmp(name + n, WHY)))
        return false;
    memcpy(id, name, n);
    id[n] = '\0';
    return true;
}

static int open_file(int place, const char *id, const char *suffix)
{
    char name[64];
    struct stat st;
    int fd;

    snprintf(name, sizeof(name), "%s%s", id, suffix);
    fd = openat(place, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    return fd;
}

void kept_note(const char *state_dir, const char *id, const char *why)
{
    int place = open_place(state_dir, true), fd = -1;
    char name[64];

    if (place < 0)
        return;
    snprintf(name, sizeof(name), "%s" WHY, id);
    fd = openat(place, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && write(fd, why, strlen(why)) < 0) {
        /* The log has it. */
    }
    if (fd >= 0)
        close(fd);
    close(place);
}

static char *read_why(int place, const char *id)
{
    char text[512];
    int fd = open_file(place, id, WHY);
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return NULL;
    text[n] = '\0';
    return strdup(text);
}

/* Is every byte of [0, size) named by the ranges, in order? */
static bool covers(const struct journal_state *s)
{
    uint64_t at = 0;

    for (size_t i = 0; i < s->n_extents && s->extents[i][0] <= at; i++)
        if (s->extents[i][1] > at)
            at = s->extents[i][1];
    return at >= s->attr.size;
}

static void read_journal(int place, struct kept *k)
{
    struct journal_state s;
    char path[PLACE_PATH + 64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s" JOURNAL, place, k->id);
    if (journal_read(path, &s))
        return;
    k->key = strdup(s.key);
    if (k->attributes)
        k->size = s.attr.size;
    /* Written over an older object and never closed: nothing tells which bytes are here. */
    k->whole = !k->attributes && (!s.object || s.object->attr.size == 0 || (s.committed && covers(&s)));
    journal_state_free(&s);
}

static int read_one(const char *state_dir, int place, bool aside, const char *id, struct kept *k)
{
    struct stat st = {0};
    char name[64];

    *k = (struct kept){.aside = aside};
    snprintf(k->id, sizeof(k->id), "%s", id);
    k->attributes = fstatat(place, id, &st, AT_SYMLINK_NOFOLLOW) < 0;
    k->size = k->attributes ? 0 : (uint64_t)st.st_size;
    snprintf(name, sizeof(name), "%s" JOURNAL, id);
    if (k->attributes && fstatat(place, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -ENOENT; /* gone meanwhile */
    k->changed = st.st_mtim.tv_sec;
    read_journal(place, k);
    k->why = read_why(place, id);
    if (asprintf(&k->path, "%s/%s/%s", state_dir, aside ? "aside" : "data", id) < 0) {
        k->path = NULL;
        return -ENOMEM;
    }
    return 0;
}

static void kept_clear(struct kept *k)
{
    free(k->key);
    free(k->why);
    free(k->path);
}

static bool has(const struct kept_list *list, size_t from, const char *id)
{
    for (size_t i = from; i < list->n; i++)
        if (!strcmp(list->v[i].id, id))
            return true;
    return false;
}

static int by_id(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;

    return x->aside != y->aside ? (int)y->aside - (int)x->aside : strcmp(x->id, y->id);
}

static int read_place(const char *state_dir, bool aside, struct kept_list *out)
{
    int place = open_place(state_dir, aside), r = 0;
    size_t first = out->n;
    struct dirent *e;
    char id[32];
    DIR *dir;

    if (place < 0)
        return place == -ENOENT ? 0 : place;
    dir = fdopendir(dup(place));
    while (dir && !r && (e = readdir(dir))) {
        struct kept *v;

        /* In data/ only what has a journal is unsent; the rest are copies. */
        if (!id_of(e->d_name, id) || (!aside && !strstr(e->d_name, JOURNAL)) || has(out, first, id))
            continue;
        v = realloc(out->v, (out->n + 1) * sizeof(*v));
        if (!v) {
            r = -ENOMEM;
            break;
        }
        out->v = v;
        r = read_one(state_dir, place, aside, id, &v[out->n]);
        if (r)
            kept_clear(&v[out->n]);
        else
            out->n++;
        r = r == -ENOENT ? 0 : r;
    }
    if (dir)
        closedir(dir);
    close(place);
    return r;
}

int kept_read(const char *state_dir, bool unsent, struct kept_list *out)
{
    int r;

    *out = (struct kept_list){0};
    r = read_place(state_dir, true, out);
    if (!r && unsent)
        r = read_place(state_dir, false, out);
    if (r)
        kept_free(out);
    else if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), by_id);
    return r;
}

void kept_free(struct kept_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        kept_clear(&list->v[i]);
    free(list->v);
    *list = (struct kept_list){0};
}

static int copy_all(int from, int to)
{
    char *chunk = malloc(COPY_CHUNK);
    int r = chunk ? 0 : -ENOMEM;
    ssize_t n = 1;

    for (uint64_t at = 0; !r && n > 0; at += (uint64_t)n) {
        n = pread(from, chunk, COPY_CHUNK, (off_t)at);
        if (n < 0)
            r = -errno;
        else
            r = pwrite_all(to, chunk, (size_t)n, at);
    }
    free(chunk);
    return r;
}

int kept_save(const struct kept *kept, const char *to)
{
    char dir[4096], *slash;
    int place, from, fd, r;

    if (snprintf(dir, sizeof(dir), "%s", kept->path) >= (int)sizeof(dir) || !(slash = strrchr(dir, '/')))
        return -ENAMETOOLONG;
    *slash = '\0';
    place = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0)
        return -errno;
    from = open_file(place, kept->id, "");
    close(place);
    if (from < 0)
        return from;
    fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : copy_all(from, fd);
    /* Where it goes may be a file system that tells of a failure only now. */
    if (fd >= 0 && !r && fsync(fd) < 0 && errno != EINVAL)
        r = -errno;
    if (fd >= 0 && close(fd) < 0 && !r)
        r = -errno;
    if (fd >= 0 && r)
        unlink(to);
    close(from);
    return r;
}

int kept_discard(const char *state_dir, const struct kept *kept)
{
    static const char *const suffixes[] = {"", WHY, JOURNAL};
    int place = open_place(state_dir, kept->aside), r = 0;
    char name[64];

    if (place < 0)
        return place;
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes) && !r; i++) {
        snprintf(name, sizeof(name), "%s%s", kept->id, suffixes[i]);
        if (unlinkat(place, name, 0) < 0 && errno != ENOENT)
            r = -errno;
    }
    close(place);
    return r;
}

size_t kept_count(const char *state_dir)
{
    int place = open_place(state_dir, true);
    DIR *dir = place < 0 ? NULL : fdopendir(place);
    struct dirent *e;
    size_t n = 0;
    char id[32];

    /* Each has a journal. */
    while (dir && (e = readdir(dir)))
        n += id_of(e->d_name, id) && strstr(e->d_name, JOURNAL);
    if (dir)
        closedir(dir);
    else if (place >= 0)
        close(place);
    return n;
}
