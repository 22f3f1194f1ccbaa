#include "command.h"

#include "explain.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
    {"status", "[MOUNTPOINT] [--watch[=SECONDS]] [--json | --metrics]", "what is being sent, waits, or has failed",
     "Without MOUNTPOINT: all mounts.\n\n"
     "  -w, --watch[=SECONDS]  refreshed in place, every second if no number is given\n"
     "  -j, --json             one JSON object in one line for each mount\n"
     "  -m, --metrics          Prometheus text; with several mounts name one\n",
     cmd_status},
    {"flush", "MOUNTPOINT", "returns when everything is in the bucket",
     "Fails, and names the files, when something could not be sent. A file that a program is\n"
     "still writing is not published half-way: it is named and left out.\n\n"
     "  -q, --quiet            no progress on a terminal\n",
     cmd_flush},
    {"umount", "MOUNTPOINT [--force]", "flush, then unmount, and wait for the end",
     "Nothing is unmounted when something could not be sent.\n\n"
     "  -f, --force            unmount at once, even if it is busy; what is unsent is sent in the\n"
     "                         background, or stays for the next mount\n"
     "  -q, --quiet            no progress on a terminal\n",
     cmd_umount},
    {"retry", "MOUNTPOINT [PATH]", "try failed uploads again, now", "All of them, or that of the one file PATH.\n",
     cmd_retry},
    {"recover", "MOUNTPOINT|BUCKET[:/PREFIX] [list | show ID | save ID FILE | send ID | discard ID]",
     "what a crash or a failure kept aside",
     "list (what is done without a word) tells the ID of each. show tells all that is known of\n"
     "one, save copies its bytes to a FILE, send puts them into the bucket under their name\n"
     "(through the mount, so a mount is needed), discard removes them for good.\n"
     "While the bucket is not mounted, give BUCKET and the options of the mount: they tell where\n"
     "its state is.\n\n"
     "  -o OPTIONS             as for the mount (url=, region=, cache_dir= count)\n"
     "  --to PATH              send: under another name below the mountpoint\n",
     cmd_recover},
    {"uploads", "BUCKET[:/PREFIX] [--abort ID | --abort-older-than AGE]",
     "multipart uploads that were never completed",
     "Lists them with their parts and sizes: they are billed until they are aborted.\n\n"
     "  --abort ID             abort this one\n"
     "  --abort-older-than AGE abort what began longer ago, as 7d, 12h, 30m\n"
     "  -o OPTIONS             as for a mount\n",
     cmd_uploads},
    {"check", "BUCKET[:/PREFIX]", "key, endpoint, region, clock, permissions, speed",
     "Does what a mount does, with objects of its own that are removed again, and says what is\n"
     "wrong and how to mend it.\n\n"
     "  --size MB              bytes for the measurement of throughput; 8, 0: none\n"
     "  -o OPTIONS             as for a mount; with ro nothing is written\n",
     cmd_check},
    {"url", "PATH|BUCKET:/KEY [--expires TIME]", "a URL with which anybody can read the file",
     "PATH is a file below a mountpoint, and needs no options; else give those of a mount.\n\n"
     "  --expires TIME         how long it is valid, as 30m, 1h, 7d; 1h\n"
     "  -o OPTIONS             as for a mount\n",
     cmd_url},
    {"restore", "PATH [--days N] [--tier TIER] [--no-wait]", "make an archived file readable",
     "Asks for the restoration and waits until the file can be read; it goes on when you do not.\n\n"
     "  --days N               for how long it stays readable; 1\n"
     "  --tier TIER            Expedited, Standard or Bulk: of the cold classes\n"
     "  --no-wait              ask, and return\n",
     cmd_restore},
};
#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

const struct command *command_table(size_t *n)
{
    *n = N_COMMANDS;
    return commands;
}

static const struct command *current; /* a process runs one command */

static const struct command *find(const char *word)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, word) == 0)
            return &commands[i];
    return NULL;
}

const struct command *command_find(const char *self, const char *word)
{
    const char *slash = strrchr(self, '/');

    /* mount(8) hands over a bucket, whatever it is called. */
    return strncmp(slash ? slash + 1 : self, "mount.", 6) == 0 ? NULL : find(word);
}

int command_run(int argc, char **argv)
{
    current = find(argv[0]);
    log_open(LOG_TO_STDERR, NULL, LOG_LEVEL_CRIT);
    return current->run(argc, argv);
}

void command_list(FILE *to)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  ossmount %-10s %s\n", commands[i].name, commands[i].summary);
}

/* ------------------------------------------------------------------------------------------------ words */

int command_fail(const char *format, ...)
{
    va_list ap;

    fprintf(stderr, "ossmount %s: ", current->name);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    return 1;
}

int command_option(int argc, char **argv, const char *letters, const struct option *options)
{
    int c = getopt_long(argc, argv, letters, options, NULL);

    if (c == 'h') {
        printf("ossmount %s %s\n\n%c%s.\n%s", current->name, current->arguments,
               current->summary[0] - ('a' <= current->summary[0] && current->summary[0] <= 'z' ? 'a' - 'A' : 0),
               current->summary + 1, current->help);
        return -2;
    }
    if (c == '?') {
        fprintf(stderr, "ossmount %s --help tells the options\n", current->name);
        return -3;
    }
    return c;
}

int command_status(int c)
{
    return c == -2 ? (fflush(stdout) == 0 ? 0 : 1) : 2;
}

bool command_misused(int argc, int min, int max)
{
    int n = argc - optind;

    if (n >= min && n <= max)
        return false;
    fprintf(stderr, "usage: ossmount %s %s\nossmount %s --help tells more\n", current->name, current->arguments,
            current->name);
    return true;
}

/* ------------------------------------------------------------------------------------------------ buckets */

int command_bucket_option(struct command_bucket *b, const char *text)
{
    char *joined = NULL;

    if (asprintf(&joined, "%s%s%s", b->text ? b->text : "", b->text ? "," : "", text) < 0)
        return -ENOMEM;
    free(b->text);
    b->text = joined;
    return 0;
}

int command_bucket_open(struct command_bucket *b, const char *source)
{
    char name[] = "ossmount", nowhere[] = "/", dash_o[] = "-o", nothing[] = "", end[] = "--";
    char *what = strdup(source);
    char *argv[] = {name, dash_o, b->text ? b->text : nothing, end, what, nowhere, NULL};
    struct message message = {0};
    int r = what ? options_parse(&b->options, 6, argv, &message) : -ENOMEM;

    if (r == 0)
        r = connect_bucket(&b->options, &b->cred, &b->oss, &message);
    free(what);
    return r < 0 ? command_fail("%s", message.text[0] ? message.text : strerror(-r)) : 0;
}

void command_bucket_close(struct command_bucket *b)
{
    oss_close(b->oss);
    oss_cred_free(b->cred);
    options_free(&b->options);
    free(b->text);
}

void command_explain(const struct oss_error *err, char *out, size_t size)
{
    char cause[512];

    oss_error_format(err, cause, sizeof(cause));
    /* A server's words must not move the cursor. */
    for (char *s = cause; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            *s = ' ';
    snprintf(out, size, "%s: %s", cause, explain_advice(err));
}
