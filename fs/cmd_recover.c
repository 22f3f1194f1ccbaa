/*
 * ossmount recover: files that a crash or a failure kept. With a mount its daemon tells where they are, and drops or
 * sends what is its own; without one the options of the mount tell, and the lock of the directory keeps a mount away.
 */
#include "ask.h"
#include "command.h"
#include "format.h"
#include "state_dir.h"

#include "../cache/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct recover {
    struct ask ask;           /* fd -1: no mount */
    struct state_dir *locked; /* without a mount */
    char *state_dir, *prefix;
    struct kept_list kept;
    const char *to; /* --to */
};

/* ------------------------------------------------------------------------------------------ where it is */

static int by_mount(struct recover *r)
{
    struct buf text = BUF_INIT(1U << 20);
    int got = 0, done = ask_simple(&r->ask, &got, &text, "where");

    if (done < 0 || got < 0 || !(r->state_dir = ask_value(&text, "state_dir")) ||
        !(r->prefix = ask_value(&text, "prefix")))
        done = command_fail("%s does not answer", r->ask.mountpoint);
    buf_free(&text);
    return done ? 1 : 0;
}

/* The directory that a mount with these words would use. */
static int by_options(struct recover *r, struct command_bucket *bucket, const char *source)
{
    struct message message = {0};
    int done = command_bucket_open(bucket, source);
    const struct options *o = &bucket->options;
    const struct state_dir_config config = {
        .base = o->cache_dir, .endpoint = o->url, .bucket = o->bucket, .prefix = o->prefix};

    if (done)
        return done;
    if (state_dir_open(&r->locked, &config, &message) < 0)
        return command_fail("%s", message.text);
    r->state_dir = strdup(state_dir_path(r->locked));
    r->prefix = strdup(o->prefix);
    return r->state_dir && r->prefix ? 0 : command_fail("out of memory");
}

static int find_state(struct recover *r, struct command_bucket *bucket, const char *where)
{
    struct message message;
    int done, found = ask_open(&r->ask, where, &message);

    if (found == 0)
        done = by_mount(r);
    else if (found == -ENOENT && *where != '/' && *where != '.')
        done = by_options(r, bucket, where);
    else
        return command_fail("%s", message.text);
    if (done == 0 && (found = kept_read(r->state_dir, r->locked != NULL, &r->kept)) < 0)
        done = command_fail("%s: %s", r->state_dir, strerror(-found));
    return done;
}

static const struct kept *find_kept(const struct recover *r, const char *id)
{
    for (size_t i = 0; i < r->kept.n; i++)
        if (strcmp(r->kept.v[i].id, id) == 0)
            return &r->kept.v[i];
    command_fail("nothing that is kept has the ID %s", id);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ list */

/* The name as it is below the mountpoint. */
static const char *name_of(const struct recover *r, const struct kept *k)
{
    size_t n = strlen(r->prefix);

    return !k->key ? "(its record cannot be read)" : strncmp(k->key, r->prefix, n) ? k->key : k->key + n;
}

static void show_one(const struct recover *r, const struct kept *k, bool all)
{
    struct buf name = BUF_INIT(65536);
    char size[FORMAT_SIZE], changed[FORMAT_SIZE];

    format_name(&name, name_of(r, k), 0, 0);
    printf("%-20s %10s  %s  %s\n", k->id, k->attributes ? "attributes" : format_bytes(size, k->size),
           format_time(changed, k->changed), buf_str(&name));
    printf("%20s %s\n", "", !k->aside ? "unsent: the next mount sends it" : k->why ? k->why : "why is not known");
    if (all) {
        printf("%20s %s\n", "",
               k->attributes ? "only attributes were changed"
               : k->whole    ? "all of its bytes are here"
                             : "perhaps not all of its bytes are here: what was not written or read reads as zeros");
        printf("%20s %s\n", "", k->path);
    }
    buf_free(&name);
}

/* What the daemon itself still holds: it tells it in its status. */
static void show_unsent(struct recover *r)
{
    struct buf text = BUF_INIT(64U << 20);
    const char *part;
    int got;

    if (ask_simple(&r->ask, &got, &text, "status", "text", "100") < 0 || got < 0) {
        buf_free(&text);
        return;
    }
    /* From "failed N" to the next line that is not indented. */
    part = strstr(buf_str(&text), "\nfailed ");
    if (part) {
        const char *end = strchr(++part, '\n');

        while (end && end[1] == ' ')
            end = strchr(end + 1, '\n');
        printf("\n%.*s(ossmount retry tries again; discard takes the name; the files can be read below %s)\n",
               (int)(end ? end + 1 - part : (long)strlen(part)), part, r->ask.mountpoint);
    }
    buf_free(&text);
}

static int list(struct recover *r)
{
    for (size_t i = 0; i < r->kept.n; i++)
        show_one(r, &r->kept.v[i], false);
    if (!r->kept.n)
        puts("nothing is kept");
    if (r->ask.fd >= 0)
        show_unsent(r);
    return 0;
}

static int show(struct recover *r, const char *id)
{
    const struct kept *k = find_kept(r, id);

    if (k)
        show_one(r, k, true);
    return k ? 0 : 1;
}

/* ------------------------------------------------------------------------------------ save, send, discard */

static int save(struct recover *r, const char *id, const char *to)
{
    const struct kept *k = find_kept(r, id);
    int done;

    if (!k)
        return 1;
    if (k->attributes)
        return command_fail("%s has no bytes: only attributes were changed", id);
    done = kept_save(k, to);
    if (done == -EEXIST)
        return command_fail("%s is there already", to);
    if (done < 0)
        return command_fail("%s: %s", to, strerror(-done));
    if (!k->whole)
        fprintf(stderr, "ossmount recover: perhaps not all of the file's bytes were kept; the rest reads as zeros\n");
    return 0;
}

/* Writes it through the mount, whose close() tells the truth. */
static int write_through(const struct kept *k, const char *path)
{
    char chunk[65536];
    int from = open(k->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), to = -1, done = from < 0 ? -errno : 0;
    ssize_t n = 1;

    if (done == 0 && (to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
        done = -errno;
    while (done == 0 && n > 0) {
        errno = 0;
        n = read(from, chunk, sizeof(chunk));
        if (n < 0 || (n > 0 && write(to, chunk, (size_t)n) != n))
            done = errno ? -errno : -EIO;
    }
    if (from >= 0)
        close(from);
    if (to >= 0 && close(to) < 0 && done == 0)
        done = -errno;
    return done;
}

static int send_kept(struct recover *r, const char *id)
{
    const struct kept *k = find_kept(r, id);
    char path[PATH_MAX + OSS_KEY_MAX];
    int done;

    if (!k)
        return 1;
    if (r->ask.fd < 0)
        return command_fail("sending needs the mount: mount the bucket, and name the mountpoint");
    if (!k->key && !r->to)
        return command_fail("the record of %s cannot be read: give its name with --to PATH", id);
    if (!k->whole)
        return command_fail(
            "perhaps not all bytes of %s were kept, and nothing is published on a guess: save it, look "
            "at it, and copy it to %s yourself",
            id, r->ask.mountpoint);
    snprintf(path, sizeof(path), "%s/%s", r->ask.mountpoint, r->to ? r->to : name_of(r, k));
    done = write_through(k, path);
    if (done < 0)
        return command_fail("%s: %s; it stays kept", path, strerror(-done));
    done = kept_discard(r->state_dir, k);
    return done < 0 ? command_fail("sent, but %s cannot be removed: %s", k->path, strerror(-done)) : 0;
}

/* What the daemon holds unsent, by its name. */
static int discard_unsent(struct recover *r, const char *name)
{
    struct buf text = BUF_INIT(65536);
    char *key = NULL;
    int got = 0, done;

    if (asprintf(&key, "%s%s", r->prefix, name) < 0)
        return command_fail("out of memory");
    done = ask_simple(&r->ask, &got, &text, "discard", key);
    if (done < 0)
        done = command_fail("%s does not answer", r->ask.mountpoint);
    else if (got < 0)
        done = command_fail("%s: %s", name, buf_str(&text));
    free(key);
    buf_free(&text);
    return done;
}

static int discard(struct recover *r, const char *id)
{
    const struct kept *k = NULL;
    int done;

    for (size_t i = 0; i < r->kept.n && !k; i++)
        k = strcmp(r->kept.v[i].id, id) == 0 ? &r->kept.v[i] : NULL;
    if (!k && r->ask.fd >= 0)
        return discard_unsent(r, id);
    if (!k && !(k = find_kept(r, id)))
        return 1;
    done = kept_discard(r->state_dir, k);
    return done < 0 ? command_fail("%s: %s", k->path, strerror(-done)) : 0;
}

/* ------------------------------------------------------------------------------------------------- words */

static int carry_out(struct recover *r, char **words, int n)
{
    const char *verb = n > 0 ? words[0] : "list";

    if (strcmp(verb, "list") == 0 && n <= 1)
        return list(r);
    if (strcmp(verb, "show") == 0 && n == 2)
        return show(r, words[1]);
    if (strcmp(verb, "save") == 0 && n == 3)
        return save(r, words[1], words[2]);
    if (strcmp(verb, "send") == 0 && n == 2)
        return send_kept(r, words[1]);
    if (strcmp(verb, "discard") == 0 && n == 2)
        return discard(r, words[1]);
    command_fail("\"%s\": list, show ID, save ID FILE, send ID or discard ID (ossmount recover --help)", verb);
    return 2;
}

int cmd_recover(int argc, char **argv)
{
    static const struct option options[] = {
        {"to", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct recover r = {.ask = {.fd = -1}};
    struct command_bucket bucket = {0};
    int c, done = -1;

    while (done < 0 && (c = command_option(argc, argv, "ho:", options)) != -1) {
        if (c < 0)
            done = command_status(c);
        else if (c == 't')
            r.to = optarg;
        else if (command_bucket_option(&bucket, optarg) < 0)
            done = command_fail("out of memory");
    }
    if (done < 0 && command_misused(argc, 1, 4))
        done = 2;
    if (done < 0 && (done = find_state(&r, &bucket, argv[optind])) == 0)
        done = carry_out(&r, argv + optind + 1, argc - optind - 1);
    kept_free(&r.kept);
    ask_close(&r.ask);
    free(r.state_dir);
    free(r.prefix);
    state_dir_close(r.locked);
    command_bucket_close(&bucket);
    return done;
}
