/*
 * ossmount check: what a mount will ask of the bucket is asked one by one, with objects of its own, and each answer
 * is one line. What is wrong with key, endpoint, region or clock shows at the first question; nothing else is asked
 * then.
 */
#include "command.h"
#include "format.h"

#include "../oss/base_time.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SKEW_WARN  60 /* seconds */
#define TRIPS      5  /* for the round trip */
#define TEXT       "written by ossmount check, to be removed\n"
#define TEXT_BYTES (sizeof(TEXT) - 1)

struct check {
    struct command_bucket bucket;
    struct oss *oss;
    uint64_t size; /* of the measurement, bytes */
    char key[OSS_KEY_MAX + 2], copy[OSS_KEY_MAX + 2], log[OSS_KEY_MAX + 2];
    char upload[OSS_UPLOADID_SIZE];
    time_t server_now; /* 0: not told */
    bool made;         /* there may be objects of ours */
    unsigned failed, optional;
};

/* -------------------------------------------------------------------------------------------- data */

static int source_read(void *arg, uint64_t offset, void *to, size_t n)
{
    (void)arg;
    for (size_t i = 0; i < n; i++)
        ((char *)to)[i] = TEXT[(offset + i) % TEXT_BYTES];
    return 0;
}

static struct oss_source source(uint64_t size)
{
    return (struct oss_source){.read = source_read, .size = size};
}

static int sink_write(void *arg, uint64_t offset, const void *data, size_t n)
{
    uint64_t *got = arg;

    for (size_t i = 0; i < n; i++)
        if (((const char *)data)[i] != TEXT[(offset + i) % TEXT_BYTES])
            return -EBADMSG;
    *got += n;
    return 0;
}

/* ------------------------------------------------------------------------------------------ questions */

static int ask_list(struct check *c, struct oss_error *err)
{
    const struct oss_list_opts opts = {.prefix = c->bucket.options.prefix, .delimiter = "/", .max_keys = 1};
    struct oss_list list = {0};
    int r = c->oss->ops->list(c->oss, &opts, &list, err);

    if (r == 0)
        c->server_now = list.date;
    oss_list_free(&list);
    return r;
}

static int ask_put(struct check *c, struct oss_error *err)
{
    struct oss_source s = source(TEXT_BYTES);

    c->made = true;
    return c->oss->ops->put(c->oss, c->key, &s, NULL, NULL, err);
}

static int ask_get(struct check *c, struct oss_error *err)
{
    uint64_t got = 0;
    const struct oss_sink sink = {.write = sink_write, .arg = &got};

    return c->oss->ops->get(c->oss, c->key, 0, OSS_WHOLE, NULL, &sink, NULL, err);
}

static int ask_get_acl(struct check *c, struct oss_error *err)
{
    char acl[24];

    return c->oss->ops->get_acl(c->oss, c->key, acl, err);
}

static int ask_put_acl(struct check *c, struct oss_error *err)
{
    return c->oss->ops->put_acl(c->oss, c->key, "private", err);
}

static int ask_copy(struct check *c, struct oss_error *err)
{
    const struct oss_copy_opts opts = {0};

    return c->oss->ops->copy(c->oss, c->key, c->copy, &opts, NULL, err);
}

static int ask_append(struct check *c, struct oss_error *err)
{
    struct oss_source s = source(TEXT_BYTES);

    return c->oss->ops->append(c->oss, c->log, 0, &s, NULL, NULL, err);
}

static int ask_multipart(struct check *c, struct oss_error *err)
{
    struct oss_source s = source(TEXT_BYTES);
    struct oss_part part;
    int r = c->oss->ops->initiate(c->oss, c->key, NULL, c->upload, err);

    return r < 0 ? r : c->oss->ops->upload_part(c->oss, c->key, c->upload, 1, &s, &part, err);
}

static int ask_list_parts(struct check *c, struct oss_error *err)
{
    struct oss_part_list list = {0};
    int r = *c->upload ? c->oss->ops->list_parts(c->oss, c->key, c->upload, 0, &list, err) : -ECANCELED;

    oss_part_list_free(&list);
    return r;
}

static int ask_abort(struct check *c, struct oss_error *err)
{
    int r = *c->upload ? c->oss->ops->abort(c->oss, c->key, c->upload, err) : -ECANCELED;

    if (r == 0)
        *c->upload = '\0';
    return r;
}

static int ask_list_uploads(struct check *c, struct oss_error *err)
{
    struct oss_upload_list list = {0};
    int r = c->oss->ops->list_uploads(c->oss, c->key, NULL, NULL, &list, err);

    oss_upload_list_free(&list);
    return r;
}

static int ask_tagging(struct check *c, struct oss_error *err)
{
    char *tagging = NULL;
    int r = c->oss->ops->get_tagging(c->oss, c->key, &tagging, err);

    free(tagging);
    return r;
}

static int ask_delete(struct check *c, struct oss_error *err)
{
    const char *const rest[] = {c->copy, c->log};
    int r = c->oss->ops->delete (c->oss, c->key, err);

    return r < 0 ? r : c->oss->ops->delete_many(c->oss, rest, 2, NULL, err);
}

/* In this order: each may use what those before it have made. */
static const struct question {
    const char *action; /* what is to be granted */
    const char *what;
    const char *why;
    bool writes;   /* not asked of a read-only mount */
    bool optional; /* a mount works without it */
    int (*ask)(struct check *c, struct oss_error *err);
} questions[] = {
    {"oss:ListObjects", "ListObjectsV2", "directories cannot be read", false, false, ask_list},
    {"oss:PutObject", "PutObject", "files cannot be written (or mount with -o ro)", true, false, ask_put},
    {"oss:GetObject", "GetObject", "files cannot be read", true, false, ask_get},
    {"oss:GetObjectAcl", "GetObjectACL", "a changed object's ACL cannot be kept (or mount with -o keep_acl=no)", true,
     false, ask_get_acl},
    {"oss:PutObjectAcl", "PutObjectACL", "a changed object's ACL cannot be kept (or mount with -o keep_acl=no)", true,
     false, ask_put_acl},
    {"oss:PutObject", "CopyObject", "chmod, chown, mv and cp -p do not work", true, false, ask_copy},
    {"oss:PutObject", "AppendObject", "appended files are sent whole", true, true, ask_append},
    {"oss:PutObject", "UploadPart", "large files cannot be written", true, false, ask_multipart},
    {"oss:ListParts", "ListParts", "ossmount uploads cannot tell sizes", true, true, ask_list_parts},
    {"oss:AbortMultipartUpload", "AbortMultipartUpload", "failed uploads stay, and are billed", true, false,
     ask_abort},
    {"oss:ListMultipartUploads", "ListMultipartUploads", "an upload whose beginning was not answered stays", true,
     true, ask_list_uploads},
    {"oss:GetObjectTagging", "GetObjectTagging", "tags cannot be shown", true, true, ask_tagging},
    {"oss:DeleteObject", "DeleteObject", "files cannot be removed or renamed", true, false, ask_delete},
};
#define N_QUESTIONS (sizeof(questions) / sizeof(*questions))

/* ---------------------------------------------------------------------------------------------- lines */

static void line(const char *verdict, const char *what, const char *more)
{
    struct buf text = BUF_INIT(65536);

    format_name(&text, more, 0, 0);
    printf("%-7s %-26s %s\n", verdict, what, buf_str(&text));
    fflush(stdout);
    buf_free(&text);
}

static void advice(const char *text)
{
    printf("        -> %s\n", text);
}

/* Does the answer mean that there is no use in asking on? Anything but a refusal of this one action. */
static bool is_fundamental(const struct oss_error *err)
{
    return strcmp(err->code, "AccessDenied") != 0 || strcasestr(err->message, "endpoint");
}

static void ask_one(struct check *c, const struct question *q)
{
    struct oss_error err = {0};
    char text[1024], took[FORMAT_SIZE];
    int64_t began = clock_ms();
    int r = q->ask(c, &err);

    if (r == 0) {
        snprintf(text, sizeof(text), "%s, %s", q->what, format_latency(took, (double)(clock_ms() - began)));
        line("ok", q->action, text);
        return;
    }
    if (r == -ECANCELED)
        return; /* what it needs was refused before */
    *(q->optional ? &c->optional : &c->failed) += 1;
    oss_error_format(&err, text, sizeof(text));
    line(q->optional ? "no" : "FAILED", q->action, text);
    snprintf(text, sizeof(text), "grant %s on acs:oss:*:*:%s%s%s to this key, else %s", q->action,
             c->bucket.options.bucket, q->ask == ask_list || q->ask == ask_list_uploads ? "" : "/",
             q->ask == ask_list || q->ask == ask_list_uploads ? "" : "*", q->why);
    advice(text);
}

/* Key, endpoint, region and clock, by the first request. False: it is no use to go on. */
static bool ask_first(struct check *c)
{
    struct oss_error err = {0};
    char text[1024];
    int64_t began = clock_ms();
    int r = ask_list(c, &err);
    int64_t took = clock_ms() - began;
    long skew;

    if (r < 0 && is_fundamental(&err)) {
        command_explain(&err, text, sizeof(text));
        line("FAILED", "endpoint and key", text);
        c->failed++;
        return false;
    }
    snprintf(text, sizeof(text), "%s answers, first request %lld ms", c->bucket.options.url, (long long)took);
    line("ok", "endpoint and key", text);
    if (r == -EACCES)
        c->server_now = err.date;
    skew = c->server_now ? labs((long)(c->server_now - clock_wall().tv_sec)) : 0;
    snprintf(text, sizeof(text), "%ld s apart from the service's", skew);
    line(skew > SKEW_WARN ? "no" : "ok", "clock", text);
    if (skew > SKEW_WARN) {
        advice("set the clock of this machine: beyond 15 minutes every request is refused");
        c->optional++;
    }
    return true;
}

static void ask_bucket(struct check *c)
{
    struct oss_bucket_info info = {0};
    struct oss_error err = {0};
    const char *region = c->bucket.options.region, *location = info.location;
    char text[1024];

    if (c->oss->ops->bucket_info(c->oss, &info, &err) < 0) {
        oss_error_format(&err, text, sizeof(text));
        line("no", "oss:GetBucketInfo", text);
        advice(
            "grant oss:GetBucketInfo to have region and versioning of the bucket looked at; a mount works without");
        c->optional++;
        return;
    }
    if (strncmp(location, "oss-", 4) == 0)
        location += 4;
    if (region && strncmp(region, "oss-", 4) == 0)
        region += 4;
    snprintf(text, sizeof(text), "%s, %s, ACL %s%s%s", info.location, info.storage_class, info.acl,
             *info.versioning ? ", versioning " : "", info.versioning);
    if (region && strcmp(region, location) != 0) {
        line("FAILED", "region", text);
        snprintf(text, sizeof(text), "the bucket is in %s, the options say %s: give region=%s and its endpoint",
                 location, region, location);
        advice(text);
        c->failed++;
    } else {
        line("ok", "bucket", text);
    }
    if (strcmp(info.versioning, "Enabled") == 0)
        advice(
            "each overwrite and each removal keeps the old version, which is billed: a lifecycle rule can end them");
    if (info.hierarchical)
        advice("the bucket has a hierarchical namespace; it is used like a flat one");
}

/* ----------------------------------------------------------------------------------------------- speed */

static int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void measure_trips(struct check *c)
{
    int64_t ms[TRIPS];
    char text[128];

    for (int i = 0; i < TRIPS; i++) {
        struct oss_error err;
        int64_t began = clock_ms();

        if (ask_list(c, &err) < 0)
            return;
        ms[i] = clock_ms() - began;
    }
    qsort(ms, TRIPS, sizeof(*ms), by_number);
    snprintf(text, sizeof(text), "%lld ms (median of %d requests)", (long long)ms[TRIPS / 2], TRIPS);
    line("ok", "round trip", text);
}

static void tell_speed(const char *what, uint64_t size, int64_t ms)
{
    char text[128], pace[FORMAT_SIZE], bytes[FORMAT_SIZE];

    snprintf(text, sizeof(text), "%s/s (%s over one connection)",
             format_bytes(pace, (uint64_t)((double)size * 1000 / (double)(ms ? ms : 1))), format_bytes(bytes, size));
    line("ok", what, text);
}

static void measure_throughput(struct check *c)
{
    struct oss_source s = source(c->size);
    uint64_t got = 0;
    const struct oss_sink sink = {.write = sink_write, .arg = &got};
    struct oss_error err = {0};
    int64_t began = clock_ms();

    if (c->oss->ops->put(c->oss, c->key, &s, NULL, NULL, &err) < 0)
        return;
    tell_speed("upload", c->size, clock_ms() - began);
    began = clock_ms();
    if (c->oss->ops->get(c->oss, c->key, 0, OSS_WHOLE, NULL, &sink, NULL, &err) == 0)
        tell_speed("download", got, clock_ms() - began);
}

/* ------------------------------------------------------------------------------------------------- all */

/* Names that nobody has. */
static void make_keys(struct check *c)
{
    const char *prefix = c->bucket.options.prefix;
    uint64_t number = 0;

    if (getrandom(&number, sizeof(number), 0) < 0)
        number = (uint64_t)clock_ms();
    snprintf(c->key, sizeof(c->key), "%.900s.ossmount-check-%016llx", prefix, (unsigned long long)number);
    snprintf(c->copy, sizeof(c->copy), "%.900s.ossmount-check-%016llx-copy", prefix, (unsigned long long)number);
    snprintf(c->log, sizeof(c->log), "%.900s.ossmount-check-%016llx-log", prefix, (unsigned long long)number);
}

/* What is left when the key may write and not remove. */
static void clean_up(struct check *c)
{
    struct oss_error err = {0};

    if (*c->upload)
        c->oss->ops->abort(c->oss, c->key, c->upload, &err);
    if (c->made && ask_delete(c, &err) < 0) {
        line("FAILED", "removing the test objects", "");
        printf("        -> remove what begins with %s\n", c->key);
        c->failed++;
    }
}

static int check(struct check *c)
{
    bool read_only = c->bucket.options.read_only;

    make_keys(c);
    if (ask_first(c)) {
        ask_bucket(c);
        for (size_t i = 0; i < N_QUESTIONS; i++) {
            /* Removing comes last, after what is measured with the object. */
            if (questions[i].ask == ask_delete && c->size && !read_only && !c->failed) {
                measure_trips(c);
                measure_throughput(c);
            }
            if (!read_only || !questions[i].writes)
                ask_one(c, &questions[i]);
            /* Without an object nothing can be asked of it. */
            if (questions[i].ask == ask_put && c->failed)
                break;
        }
        if (read_only)
            measure_trips(c);
        if (c->made)
            clean_up(c);
    }
    if (c->failed)
        printf("%u %s wrong\n", c->failed, c->failed == 1 ? "thing is" : "things are");
    else
        printf("the bucket can be mounted%s%s\n", read_only ? " read-only" : "",
               c->optional ? ", with the limits above" : "");
    return c->failed ? 1 : 0;
}

int cmd_check(int argc, char **argv)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    struct check c = {.size = 8 << 20};
    int o, r;

    while ((o = command_option(argc, argv, "ho:", options)) >= 0) {
        if (o == 's' && (strspn(optarg, "0123456789") != strlen(optarg) || atoi(optarg) > 1024))
            return command_fail("--size %s: 0 to 1024 MB", optarg);
        if (o == 's')
            c.size = (uint64_t)atoi(optarg) << 20;
        if (o == 'o' && command_bucket_option(&c.bucket, optarg) < 0)
            return command_fail("out of memory");
    }
    if (o != -1 || command_misused(argc, 1, 1)) {
        command_bucket_close(&c.bucket);
        return o != -1 ? command_status(o) : 2;
    }
    r = command_bucket_open(&c.bucket, argv[optind]);
    c.oss = c.bucket.oss;
    r = r ? 1 : check(&c);
    command_bucket_close(&c.bucket);
    return r;
}
