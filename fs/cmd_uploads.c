/* ossmount uploads: multipart uploads that nobody completed; they cost money and are seen by no listing. */
#include "command.h"
#include "format.h"

#include "../oss/base_time.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wish {
    const char *abort;  /* the id, or NULL */
    int64_t older_than; /* seconds, 0: not asked for */
};

struct found {
    size_t uploads, aborted;
    uint64_t bytes;
    bool failed;
};

static int tell(const char *what, const char *key, const struct oss_error *err)
{
    char cause[1024];

    command_explain(err, cause, sizeof(cause));
    return command_fail("%s%s%s: %s", what, *key ? " " : "", key, cause);
}

/* How many parts there are, and their bytes. */
static int count_parts(struct oss *oss, const struct oss_upload_entry *u, size_t *n, uint64_t *bytes)
{
    struct oss_part_list list = {0};
    struct oss_error err = {0};
    int after = 0, r;

    *n = 0;
    *bytes = 0;
    do {
        oss_part_list_free(&list);
        r = oss->ops->list_parts(oss, u->key, u->id, after, &list, &err);
        for (size_t i = 0; r == 0 && i < list.n; i++)
            *bytes += list.parts[i].size;
        *n += r == 0 ? list.n : 0;
        after = list.next_number > after ? list.next_number : OSS_PARTS_MAX;
    } while (r == 0 && list.truncated && after < OSS_PARTS_MAX);
    oss_part_list_free(&list);
    if (r == -ENOENT)
        return r; /* completed or aborted meanwhile */
    return r < 0 ? tell("parts of", u->key, &err) : 0;
}

static void show(const struct oss_upload_entry *u, size_t parts, uint64_t bytes, const char *end)
{
    struct buf name = BUF_INIT(65536);
    char began[FORMAT_SIZE], size[FORMAT_SIZE];

    format_name(&name, u->key, 0, 0);
    printf("%s  %5zu  %10s  %s  %s%s\n", format_time(began, u->initiated), parts, format_bytes(size, bytes), u->id,
           buf_str(&name), end);
    buf_free(&name);
}

static bool is_meant(const struct wish *wish, const struct oss_upload_entry *u, time_t now)
{
    if (wish->abort)
        return strcmp(wish->abort, u->id) == 0;
    return wish->older_than && u->initiated <= now - wish->older_than;
}

static void one_upload(struct oss *oss, const struct wish *wish, const struct oss_upload_entry *u,
                       struct found *found)
{
    bool meant = is_meant(wish, u, clock_wall().tv_sec);
    struct oss_error err = {0};
    uint64_t bytes;
    size_t parts;
    int r;

    if ((wish->abort || wish->older_than) && !meant)
        return;
    r = count_parts(oss, u, &parts, &bytes);
    if (r == -ENOENT)
        return;
    found->uploads++;
    found->bytes += bytes;
    found->failed = found->failed || r;
    r = meant ? oss->ops->abort(oss, u->key, u->id, &err) : 0;
    if (r < 0)
        found->failed = tell("aborting the upload of", u->key, &err);
    show(u, parts, bytes, !meant ? "" : r < 0 ? "  NOT aborted" : "  aborted");
    found->aborted += meant && r == 0;
}

static int walk(struct oss *oss, const char *prefix, const struct wish *wish, struct found *found)
{
    char *key = NULL, *id = NULL;
    struct oss_error err = {0};
    bool more = true;
    int r = 0;

    while (r == 0 && more) {
        struct oss_upload_list list = {0};

        r = oss->ops->list_uploads(oss, prefix, key, id, &list, &err);
        if (r < 0) {
            tell("listing the uploads", "", &err);
            break;
        }
        for (size_t i = 0; i < list.n; i++)
            one_upload(oss, wish, &list.entries[i], found);
        /* A server that stands still would never end. */
        more = list.truncated && list.next_key &&
               (!key || strcmp(key, list.next_key) || !id || !list.next_id || strcmp(id, list.next_id));
        free(key);
        free(id);
        key = more ? strdup(list.next_key) : NULL;
        id = more && list.next_id ? strdup(list.next_id) : NULL;
        oss_upload_list_free(&list);
    }
    free(key);
    free(id);
    return r;
}

static int list_and_abort(struct command_bucket *b, const struct wish *wish)
{
    struct found found = {0};
    char bytes[FORMAT_SIZE];

    if (walk(b->oss, b->options.prefix, wish, &found) < 0)
        return 1;
    if (wish->abort && !found.uploads)
        return command_fail("no upload has the id %s", wish->abort);
    if (wish->abort || wish->older_than)
        printf("%zu %s aborted, %s freed\n", found.aborted, found.aborted == 1 ? "upload" : "uploads",
               format_bytes(bytes, found.failed ? 0 : found.bytes));
    else
        printf("%zu incomplete %s, %s\n", found.uploads, found.uploads == 1 ? "upload" : "uploads",
               format_bytes(bytes, found.bytes));
    return found.failed ? 1 : 0;
}

/* -1: go on; else the exit status. */
static int read_words(int argc, char **argv, struct command_bucket *bucket, struct wish *wish)
{
    static const struct option options[] = {{"abort", required_argument, NULL, 'a'},
                                            {"abort-older-than", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int c;

    while ((c = command_option(argc, argv, "ho:", options)) >= 0) {
        if (c == 'a')
            wish->abort = optarg;
        else if (c == 't' && format_read_duration(optarg, &wish->older_than) < 0)
            return command_fail("--abort-older-than %s: give a time, as 7d, 12h, 30m", optarg);
        else if (c == 'o' && command_bucket_option(bucket, optarg) < 0)
            return command_fail("out of memory");
    }
    if (c != -1)
        return command_status(c);
    if (command_misused(argc, 1, 1))
        return 2;
    if (wish->abort && wish->older_than)
        return command_fail("--abort and --abort-older-than exclude each other");
    return -1;
}

int cmd_uploads(int argc, char **argv)
{
    struct command_bucket bucket = {0};
    struct wish wish = {0};
    int r = read_words(argc, argv, &bucket, &wish);

    if (r < 0)
        r = command_bucket_open(&bucket, argv[optind]) ? 1 : list_and_abort(&bucket, &wish);
    command_bucket_close(&bucket);
    return r;
}
