/* What the commands ask of a running mount. Each answers at once, or hands the work to a worker and answers later. */
#include "control_priv.h"

#include "format.h"
#include "fs.h"
#include "render.h"

#include "../oss/base_time.h"
#include "../oss/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX    5
#define FILES_JSON   1000 /* of each kind */
#define FILES_SCREEN 20
#define NAMES_MAX    100 /* that a flush tells by name */

/* What the work that goes on needs to know. */
struct task {
    struct control *control;
    uint64_t client;
    char *key;
    long seconds;
    /* of a flush */
    pthread_mutex_t mu; /* guards the two below */
    size_t failed;
    struct buf names;
};

static struct task *task_new(struct control *c, uint64_t client, const char *key)
{
    struct task *t = calloc(1, sizeof(*t));

    if (!t || (key && !(t->key = strdup(key)))) {
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->mu, NULL);
    buf_init(&t->names, CONTROL_ANSWER_MAX / 2);
    t->control = control_ref(c);
    t->client = client;
    return t;
}

static void task_end(struct task *t, int r, struct buf *text)
{
    control_answer(t->control, t->client, r, text);
    control_unref(t->control);
    pthread_mutex_destroy(&t->mu);
    buf_free(&t->names);
    free(t->key);
    free(t);
}

static int say(struct buf *text, int r, const char *words)
{
    buf_adds(text, words);
    return r;
}

/* ----------------------------------------------------------------------------------------------- status */

static int ask_status(struct control *c, char **words, size_t n, struct buf *text)
{
    const char *how = n > 1 ? words[1] : "";
    unsigned columns = n > 2 ? (unsigned)strtoul(words[2], NULL, 10) : 80;
    struct cache_status status;
    struct oss_op_stats *ops = calloc(OSS_OPS, sizeof(*ops));
    struct render render = {
        .source = c->config.options->source,
        .mountpoint = c->config.mountpoint,
        .state_dir = c->config.state_dir,
        .pid = getpid(),
        .now = clock_wall().tv_sec,
        .started = c->started,
        .read_only = c->config.options->read_only,
        .inodes = fs_inodes(c->config.fs),
        .max_inodes = (size_t)c->config.options->max_inodes,
        .cache = &status,
        .ops = ops,
    };
    bool screen = strcmp(how, "text") == 0 || strcmp(how, "line") == 0;
    int r = ops ? cache_status(c->config.cache, screen ? FILES_SCREEN : FILES_JSON, &status) : -ENOMEM;

    if (r < 0) {
        free(ops);
        return say(text, r, "out of memory");
    }
    oss_stats(c->config.oss, ops);
    if (strcmp(how, "text") == 0)
        render_screen(text, &render, columns);
    else if (strcmp(how, "line") == 0)
        render_line(text, &render, columns);
    else if (strcmp(how, "json") == 0)
        render_json(text, &render);
    else if (strcmp(how, "metrics") == 0)
        render_metrics(text, &render);
    else
        r = say(text, -EINVAL, "status is text, line, json or metrics");
    cache_status_free(&status);
    free(ops);
    return r;
}

/* ------------------------------------------------------------------------------------------------ flush */

static void flush_one(void *arg, const char *key, int r)
{
    struct task *t = arg;

    pthread_mutex_lock(&t->mu);
    if (t->failed++ < NAMES_MAX) {
        buf_adds(&t->names, "  ");
        format_name(&t->names, key, 0, 0);
        buf_addf(&t->names, ": %s\n", strerror(-r));
    }
    pthread_mutex_unlock(&t->mu);
}

/* The service's own words for what failed, where they are still known. */
static void flush_causes(struct task *t, struct buf *text)
{
    struct cache_status status;
    char cause[512];

    if (cache_status(t->control->config.cache, NAMES_MAX, &status) < 0)
        return;
    for (size_t i = 0; i < status.failed.n; i++) {
        const struct status_file *f = &status.failed.v[i];

        if (!f->err.status && !f->err.message[0])
            continue;
        oss_error_format(&f->err, cause, sizeof(cause));
        buf_adds(text, "  ");
        format_name(text, f->key, 0, 0);
        buf_adds(text, ": ");
        format_name(text, cause, 0, 0);
        buf_adds(text, "\n");
    }
    cache_status_free(&status);
}

static void flush_done(void *arg, size_t open)
{
    struct task *t = arg;
    struct buf text = BUF_INIT(CONTROL_ANSWER_MAX);
    int r = t->failed ? -EIO : 0;

    if (t->failed) {
        buf_addf(&text, "%zu %s not sent:\n", t->failed, t->failed == 1 ? "file was" : "files were");
        buf_add(&text, buf_str(&t->names), t->names.len);
        if (t->failed > NAMES_MAX)
            buf_addf(&text, "  ... and %zu more\n", t->failed - NAMES_MAX);
        buf_adds(&text, "what the bucket said:\n");
        flush_causes(t, &text);
    }
    if (open)
        buf_addf(&text, "%zu %s still being written by a program, and not sent before it closes them\n", open,
                 open == 1 ? "file is" : "files are");
    task_end(t, r, &text);
}

static int ask_flush(struct control *c, uint64_t client, struct buf *text)
{
    struct task *t = task_new(c, client, NULL);
    const struct cache_flush flush = {.one = flush_one, .done = flush_done, .arg = t};

    if (!t)
        return say(text, -ENOMEM, "out of memory");
    cache_flush_all(c->config.cache, &flush);
    return CONTROL_LATER;
}

/* --------------------------------------------------------------------------------- retry, discard, where */

static int ask_retry(struct control *c, char **words, size_t n, struct buf *text)
{
    size_t started = cache_retry(c->config.cache, n > 1 ? words[1] : NULL);

    buf_addf(text, "%zu", started);
    return 0;
}

static void discard_done(void *arg, int r)
{
    struct task *t = arg;
    struct buf text = BUF_INIT(4096);

    buf_adds(&text, r == -EBUSY    ? "a program has it open: close it first"
                    : r == -ENOENT ? "nothing of it is unsent"
                    : r < 0        ? strerror(-r)
                                   : "");
    task_end(t, r, &text);
}

static int ask_discard(struct control *c, uint64_t client, char **words, size_t n, struct buf *text)
{
    struct task *t = n == 2 ? task_new(c, client, words[1]) : NULL;

    if (!t)
        return say(text, n == 2 ? -ENOMEM : -EINVAL, "discard KEY");
    cache_discard(c->config.cache, words[1], discard_done, t);
    return CONTROL_LATER;
}

static void add_value(struct buf *text, const char *name, const char *value)
{
    buf_addf(text, "%s ", name);
    url_escape(text, value, strlen(value), true);
    buf_adds(text, "\n");
}

static int ask_where(struct control *c, struct buf *text)
{
    add_value(text, "mountpoint", c->config.mountpoint);
    add_value(text, "state_dir", c->config.state_dir);
    add_value(text, "source", c->config.options->source);
    add_value(text, "prefix", c->config.options->prefix);
    buf_addf(text, "pid %ld\n", (long)getpid());
    return 0;
}

/* ------------------------------------------------------------------------------------------ url, restore */

/* On a worker: the access key may have to be fetched. */
static void sign_url(void *arg)
{
    struct task *t = arg;
    struct buf text = BUF_INIT(65536);
    struct oss_error err = {0};
    char *url = NULL;
    int r = oss_presign(t->control->config.oss, t->key, t->seconds, &url, &err);

    buf_addf(&text, "%s\n", r < 0 ? err.message : url);
    free(url);
    task_end(t, r, &text);
}

static int ask_url(struct control *c, uint64_t client, char **words, size_t n, struct buf *text)
{
    struct task *t = n == 3 ? task_new(c, client, words[1]) : NULL;

    if (!t)
        return say(text, n == 3 ? -ENOMEM : -EINVAL, "url KEY SECONDS");
    t->seconds = strtol(words[2], NULL, 10);
    cache_later(c->config.cache, sign_url, t);
    return CONTROL_LATER;
}

static void restore_done(void *arg, int r, const struct cache_archive *a)
{
    struct task *t = arg;
    struct buf text = BUF_INIT(65536);
    char cause[512];

    if (r < 0) {
        oss_error_format(&a->err, cause, sizeof(cause));
        buf_adds(&text, a->err.err ? cause : strerror(-r));
    } else {
        add_value(&text, "state", a->ready ? "ready" : a->asked ? "asked" : a->ongoing ? "ongoing" : "archived");
        add_value(&text, "class", a->storage_class);
        add_value(&text, "restore", a->restore);
    }
    task_end(t, r, &text);
}

static int ask_restore(struct control *c, uint64_t client, char **words, size_t n, struct buf *text)
{
    struct task *t = n >= 3 ? task_new(c, client, NULL) : NULL;

    if (!t)
        return say(text, n >= 3 ? -ENOMEM : -EINVAL, "restore KEY DAYS [TIER]");
    cache_restore(c->config.cache, words[1], (unsigned)strtoul(words[2], NULL, 10), n > 3 ? words[3] : NULL,
                  restore_done, t);
    return CONTROL_LATER;
}

/* ------------------------------------------------------------------------------------------------- lines */

/* The words of a line, unescaped in place; 0 for a line that has none, too many, or a broken escape. */
static size_t split(char *line, char **words)
{
    size_t n = 0;
    char *word;

    while ((word = strsep(&line, " \r"))) {
        if (!*word)
            continue;
        if (n == WORDS_MAX || url_unescape(word) < 0)
            return 0;
        words[n++] = word;
    }
    return n;
}

int control_ask(struct control *c, uint64_t client, char *line, struct buf *text)
{
    char *words[WORDS_MAX];
    size_t n = split(line, words);

    if (n == 0)
        return say(text, -EINVAL, "no such question");
    if (strcmp(words[0], "status") == 0)
        return ask_status(c, words, n, text);
    if (strcmp(words[0], "flush") == 0)
        return ask_flush(c, client, text);
    if (strcmp(words[0], "retry") == 0)
        return ask_retry(c, words, n, text);
    if (strcmp(words[0], "discard") == 0)
        return ask_discard(c, client, words, n, text);
    if (strcmp(words[0], "where") == 0)
        return ask_where(c, text);
    if (strcmp(words[0], "url") == 0)
        return ask_url(c, client, words, n, text);
    if (strcmp(words[0], "restore") == 0)
        return ask_restore(c, client, words, n, text);
    return say(text, -EINVAL, "no such question");
}
