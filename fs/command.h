/*
 * command.h: `ossmount COMMAND ...`: a first word that is a command is one; a bucket of that name is mounted as
 * NAME:/.
 *
 * Each command is a function in a cmd_*.c of its own, with the words of main(): argv[0] is the command's name. What
 * it answers is the exit status: 0 done, 1 not done (and a line on stderr says why), 2 a word that it does not know.
 */
#ifndef FS_COMMAND_H
#define FS_COMMAND_H

#include "connect.h"
#include "message.h"
#include "options.h"

#include "../oss/cred.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

struct command {
    const char *name;
    const char *arguments;
    const char *summary; /* one line */
    const char *help;    /* the rest of --help, lines */
    int (*run)(int argc, char **argv);
};

/* The command that is meant; NULL for any other word, and when we are called as mount.SOMETHING. */
const struct command *command_find(const char *self, const char *word);
int command_run(int argc, char **argv);

/* All of them, *n entries: the man page and the completion are made from it. */
const struct command *command_table(size_t *n);

/* For --help of the program. */
void command_list(FILE *to);

/* ------------------------------------------------------------------------------- what the commands share */

/* "ossmount COMMAND: ..." on stderr; returns 1. */
int command_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The next option as getopt_long() finds it, -1 at the end; --help is answered and ends with -2, an unknown one with
 * -3 (after a line on stderr): return command_status() of these.
 */
int command_option(int argc, char **argv, const char *letters, const struct option *options);
int command_status(int c);

/* "usage: ..." when the number of arguments is not within [min, max]; true then. */
bool command_misused(int argc, int min, int max);

/* A bucket named on the command line, with the options of a mount. */
struct command_bucket {
    struct options options;
    struct oss_cred *cred;
    struct oss *oss;
    char *text; /* all that came behind -o, joined */
};
/* Collects one -o. 0 or -ENOMEM. */
int command_bucket_option(struct command_bucket *b, const char *text);
/* Makes the client of SOURCE = BUCKET[:/PREFIX]; no request. 0; else the failure was told and 1 is to be returned. */
int command_bucket_open(struct command_bucket *b, const char *source);
void command_bucket_close(struct command_bucket *b);

/* "403 AccessDenied (...), request id ...: what to check" for a request that failed. */
void command_explain(const struct oss_error *err, char *out, size_t size);

int cmd_status(int argc, char **argv);
int cmd_flush(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_retry(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_uploads(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_url(int argc, char **argv);
int cmd_restore(int argc, char **argv);

#endif
