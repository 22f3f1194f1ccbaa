/* ossmount url: a presigned URL, signed by the daemon of the mount, or here with the options of a mount. */
#include "ask.h"
#include "command.h"
#include "format.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int url_of_path(const char *path, int64_t seconds)
{
    struct buf text = BUF_INIT(1U << 20);
    char *prefix = NULL, *key = NULL, number[24];
    struct message message;
    struct ask a;
    int r = ask_open(&a, path, &message), status = 1;

    snprintf(number, sizeof(number), "%lld", (long long)seconds);
    if (r < 0)
        command_fail("%s", message.text);
    else if (!*a.below)
        command_fail("%s is the mountpoint: name a file", path);
    else if (ask_simple(&a, &r, &text, "where") < 0 || r < 0 || !(prefix = ask_value(&text, "prefix")) ||
             asprintf(&key, "%s%s", prefix, a.below) < 0 || ask_simple(&a, &r, &text, "url", key, number) < 0)
        command_fail("%s does not answer", a.mountpoint);
    else if (r < 0)
        command_fail("%s", buf_str(&text));
    else
        status = fputs(buf_str(&text), stdout) < 0;
    free(prefix);
    free(key);
    buf_free(&text);
    ask_close(&a);
    return status;
}

static int url_of_key(struct command_bucket *b, const char *source, int64_t seconds)
{
    struct oss_error err = {0};
    char *url = NULL, *key = NULL;
    size_t n;
    int r = command_bucket_open(b, source);

    if (r)
        return r;
    /* What is a prefix for a mount is a key here, and ends as it was typed. */
    key = strdup(b->options.prefix);
    n = key ? strlen(key) : 0;
    if (n && source[strlen(source) - 1] != '/')
        key[n - 1] = '\0';
    if (!n)
        r = command_fail("%s names no key: give BUCKET:/KEY", source);
    else if (oss_presign(b->oss, key, (long)seconds, &url, &err) < 0)
        r = command_fail("%s", err.message);
    else
        printf("%s\n", url);
    free(url);
    free(key);
    return r;
}

/* "bucket:/key", and no file of that name. */
static bool names_bucket(const char *text)
{
    const char *colon = strchr(text, ':');

    return colon && *text != '/' && *text != '.' && !memchr(text, '/', (size_t)(colon - text)) &&
           access(text, F_OK) < 0;
}

/* -1: go on; else the exit status. */
static int read_words(int argc, char **argv, struct command_bucket *bucket, int64_t *seconds)
{
    static const struct option options[] = {
        {"expires", required_argument, NULL, 'e'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int c;

    while ((c = command_option(argc, argv, "ho:", options)) >= 0) {
        if (c == 'e' && format_read_duration(optarg, seconds) < 0)
            return command_fail("--expires %s: give a time, as 30m, 1h, 7d", optarg);
        if (c == 'o' && command_bucket_option(bucket, optarg) < 0)
            return command_fail("out of memory");
    }
    if (c != -1)
        return command_status(c);
    return command_misused(argc, 1, 1) ? 2 : -1;
}

int cmd_url(int argc, char **argv)
{
    struct command_bucket bucket = {0};
    int64_t seconds = 3600;
    int r = read_words(argc, argv, &bucket, &seconds);

    if (r < 0 && (bucket.text || names_bucket(argv[optind])))
        r = url_of_key(&bucket, argv[optind], seconds);
    else if (r < 0)
        r = url_of_path(argv[optind], seconds);
    command_bucket_close(&bucket);
    return r;
}
