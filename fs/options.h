/*
 * options.h: the command line.
 *
 * One table (options_table()) says of each option its name, type, unit, range, default and help; parsing, --help
 * and the documents are made from it. Nothing here touches the network or the file system, except that relative
 * paths become absolute by the current directory (the daemon leaves it). Not thread-safe.
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include "message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct options {
    /* what stands outside -o */
    char *source;     /* the first argument as typed: what mount tables show */
    char *bucket;     /* its part before ':' */
    char *prefix;     /* "" or "a/b/", checked: no empty, "." or ".." component */
    char *mountpoint; /* as typed */
    bool foreground, debug, single_thread;
    bool help, version; /* asked for: nothing else is checked then */
    bool fake;          /* mount -f: check, mount nothing */

    /* the bucket and the way to it */
    char *url;         /* NULL: made from region, or taken from ossutil's file, by connect_bucket() */
    char *region;      /* NULL: taken from url */
    char *passwd_file; /* NULL: environment, ~/.passwd-ossfs, ~/.ossutilconfig, /etc/passwd-ossfs */
    char *ram_role, *metadata_url, *credential_process;
    bool public_bucket;
    char *cacert; /* NULL: the system's certificates */
    bool sigv1, use_path_request_style, cname, enable_crc64, keep_acl;

    /* headers of uploads (cache/headers.h), as typed; NULL: not said */
    char *content_type, *cache_control, *content_disposition, *content_encoding, *content_language, *expires;
    char *storage_class, *acl, *sse, *sse_data, *sse_key_id, *tagging, *meta, *callback, *callback_var;
    char *forbid_overwrite, *traffic_limit;
    char *headers; /* file of rules */
    bool enable_content_md5, callback_errors;

    /* limits; bytes and milliseconds, whatever the unit on the command line */
    char *upload;         /* "close" or "background" */
    int64_t upload_delay; /* ms */
    bool defer_temp;
    int64_t retries;
    int64_t connect_timeout, readwrite_timeout, metadata_deadline, transfer_deadline; /* ms */
    int64_t parallel_count;
    int64_t multipart_size, multipart_threshold; /* bytes */
    int64_t append_flush;                        /* ms; 0: only when it is asked for */
    int64_t stat_cache_expire;                   /* ms */
    int64_t max_inodes;
    char *attributes;   /* "full" or "listing" */
    char *excl;         /* "host" or "strict" */
    int64_t cache_size; /* bytes; 0: a tenth of the disk, at most 10 GiB */
    int64_t free_space; /* percent of the disk */

    /* the mount */
    int64_t uid, gid;          /* of what carries no owner */
    bool uid_given, gid_given; /* false: the mounting user's */
    int64_t umask;             /* bits taken from files and directories that carry no mode */
    bool allow_other, read_only;
    char *cache_dir;  /* NULL: the default state directory (state_dir.h) */
    char *logfile;    /* NULL: stderr in the foreground, else syslog */
    int64_t dbglevel; /* enum log_level */
    char *kernel;     /* options handed on to mount(2), "noatime,noexec"; "" when there are none */
};

enum option_type {
    OPTION_TEXT,
    OPTION_PATH,  /* made absolute */
    OPTION_FLAG,  /* NAME, NAME=yes|no|on|off|true|false|1|0 */
    OPTION_COUNT, /* a decimal number; stored as number x scale */
    OPTION_OCTAL,
    OPTION_LEVEL, /* critical, error, warning, info, debug */
};

struct option_spec {
    const char *name;
    enum option_type type;
    const char *unit;     /* "MB", "s", ... or "" */
    int64_t min, max;     /* on the command line, in `unit`; of COUNT and OCTAL */
    int64_t scale;        /* bytes or ms of one `unit`; 1 for the others */
    const char *standard; /* the default, as one would type it; NULL: none. Shown, and parsed first */
    const char *argument; /* what --help writes behind '=', NULL for a plain flag */
    const char *help;
    size_t offset; /* into struct options: char * of TEXT and PATH, bool of FLAG, int64_t of the rest */
};

/* The table, in the order of --help; *n entries. */
const struct option_spec *options_table(size_t *n);

/*
 * Fills `out` from the command line. 0; -EINVAL with one line in `message` that names the option and says what is
 * expected, and never quotes a value that might be a secret; -ENOMEM. Release with options_free() in every case.
 *
 * As mount(8) calls helpers: when argv[0] is mount.SOMETHING, -f means fake, -s sloppy, and -n -v -N -t are
 * accepted.
 */
int options_parse(struct options *out, int argc, char *const argv[], struct message *message);
void options_free(struct options *options);

/* --help, made from the table. */
void options_help(FILE *to);

/* --version: one line. */
void options_version(FILE *to);

#endif
