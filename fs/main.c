/*
 * ossmount: a bucket of Alibaba Cloud OSS as a directory. The map of the program:
 *
 *      fs/      the FUSE daemon: answers the kernel                  this directory; face fs.h
 *        |      main, options, explain, connect, daemon, signals, notify, state_dir, mountpoint: start and end
 *        |      control, render: the socket that a running mount answers on
 *        |      command, ask, cmd_*: `ossmount status` and its kin
 *        |      inode, shed, path, attributes, one op_*.c for each kind of request
 *        v
 *      cache/   local copies of files: what was written and is not yet sent, what was read; face cache.h
 *        |      extent (which bytes are where), plan (the cheapest correct upload), upload (runs plans), meta
 *        v
 *      oss/     the bucket: signed, checked, repeated HTTP requests; face oss.h
 *               base_*: buffers, log, clocks, and the pool of threads on which every request runs
 *
 * Calls go downwards only. A request of the kernel becomes a handler of fs/, which queues what must wait (a transfer
 * of cache/, a request of oss/) and returns; the completion replies, from whichever thread it is on. close() and
 * fsync() reply when the bucket has answered.
 *
 * The life of the process: options; fork (background); log; access key; client; state directory and its lock; first
 * questions to the bucket; mount; the word to the parent that it may go; loop; unmount; send what is unsent; end.
 * Whatever fails before the mount is one line on stderr and exit status 1, with nothing mounted.
 */
#include "command.h"
#include "connect.h"
#include "control.h"
#include "daemon.h"
#include "explain.h"
#include "fs.h"
#include "message.h"
#include "mountpoint.h"
#include "notify.h"
#include "options.h"
#include "signals.h"
#include "state_dir.h"

#include "../oss/base_log.h"
#include "../oss/cred.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a new mount waits for a daemon that is still sending what an earlier one left. */
#define LOCK_WAIT_MS 10000

/* Everything between the fork and the end. */
struct program {
    struct options options;
    struct daemon daemon;
    struct message message; /* why it failed, for stderr */
    char *mountpoint;
    struct oss_cred *cred;
    struct oss *oss;
    struct state_dir *state;
    struct fs *fs;
    struct fuse_session *session;
    struct control *control;
};

/* What libfuse said last, before the mount: it belongs into our one line. */
static char fuse_words[256];

static void fuse_to_message(enum fuse_log_level level, const char *format, va_list ap)
{
    (void)level;
    vsnprintf(fuse_words, sizeof(fuse_words), format, ap);
    fuse_words[strcspn(fuse_words, "\n")] = '\0';
}

static void fuse_to_log(enum fuse_log_level level, const char *format, va_list ap)
{
    char text[512];

    vsnprintf(text, sizeof(text), format, ap);
    text[strcspn(text, "\n")] = '\0';
    log_msg(level <= FUSE_LOG_ERR      ? LOG_LEVEL_ERR
            : level <= FUSE_LOG_NOTICE ? LOG_LEVEL_WARN
                                       : LOG_LEVEL_DEBUG,
            "%s", text);
}

static int open_log(struct program *p)
{
    const struct options *o = &p->options;
    enum log_target target = o->logfile ? LOG_TO_FILE : o->foreground ? LOG_TO_STDERR : LOG_TO_SYSLOG;
    int r = log_open(target, o->logfile, (enum log_level)o->dbglevel);

    return r < 0 ? message_set(&p->message, r, "cannot open the log file %s: %s", o->logfile, strerror(-r)) : 0;
}

static int open_state(struct program *p)
{
    const struct options *o = &p->options;
    const struct state_dir_config config = {
        .base = o->cache_dir, .endpoint = o->url, .bucket = o->bucket, .prefix = o->prefix, .wait_ms = LOCK_WAIT_MS};

    return state_dir_open(&p->state, &config, &p->message);
}

/* Asks the bucket; a wrong key, name, endpoint, clock or certificate ends here. */
static int open_fs(struct program *p)
{
    const struct fs_config config = {
        .oss = p->oss, .prefix = p->options.prefix, .state_dir = state_dir_path(p->state), .options = &p->options};
    struct oss_error err = {0};
    int r = fs_new(&p->fs, &config, &err);

    if (r < 0) {
        err.err = r;
        explain_mount_failure(&p->message, &err, &p->options);
    }
    return r;
}

/* Called again until the loop has ended. */
static void end_session(void *program)
{
    struct program *p = program;

    if (fs_leave(p->fs))
        fuse_session_exit(p->session);
}

static int mount_it(struct program *p)
{
    char name[] = "ossmount", dash_o[] = "-o";
    char *fuse_options = mountpoint_fuse_options(&p->options);
    char *argv[] = {name, dash_o, fuse_options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    int r = 0;

    if (!fuse_options)
        return message_set(&p->message, -ENOMEM, "out of memory");
    fuse_set_log_func(fuse_to_message);
    p->session = fuse_session_new(&args, fs_ops(), sizeof(struct fuse_lowlevel_ops), p->fs);
    if (!p->session) {
        r = message_set(&p->message, -EINVAL, "libfuse refuses the options: %s", fuse_words);
        goto out;
    }
    fs_set_session(p->fs, p->session, p->mountpoint);
    signals_serving(end_session, p);
    if (fuse_session_mount(p->session, p->mountpoint) != 0)
        r = message_set(&p->message, -EIO, "cannot mount on %s: %s (%s)", p->mountpoint,
                        *fuse_words ? fuse_words : "fusermount3 refused",
                        access("/dev/fuse", R_OK | W_OK) < 0 ? "/dev/fuse is missing or not permitted: modprobe fuse"
                        : p->options.allow_other && getuid() != 0
                            ? "allow_other needs the line user_allow_other in /etc/fuse.conf"
                            : "check that you may write to the mountpoint, and that fuse3 is installed");
out:
    fuse_set_log_func(fuse_to_log);
    fuse_opt_free_args(&args);
    free(fuse_options);
    return r;
}

static int run_loop(struct program *p)
{
    struct fuse_loop_config *config;
    int r;

    if (p->options.single_thread)
        return fuse_session_loop(p->session);
    config = fuse_loop_cfg_create();
    if (!config)
        return -ENOMEM;
    /* A descriptor for each thread: requests are then not handed out under one lock of the kernel. */
    fuse_loop_cfg_set_clone_fd(config, 1);
    r = fuse_session_loop_mt(p->session, config);
    fuse_loop_cfg_destroy(config);
    return r;
}

/* Without it the mount works as well, only the commands do not. */
static void open_control(struct program *p)
{
    const struct control_config config = {
        .cache = fs_cache(p->fs),
        .fs = p->fs,
        .oss = p->oss,
        .options = &p->options,
        .mountpoint = p->mountpoint,
        .state_dir = state_dir_path(p->state),
    };
    struct message message;

    if (control_start(&p->control, &config, &message) < 0)
        log_warn("%s", message.text);
}

/* In the process that stays. 0 when it was mounted and has ended well; else `message` says why not. */
static int serve(struct program *p)
{
    int r = open_log(p);

    notify_starting(p->options.source);
    if (r == 0)
        r = connect_bucket(&p->options, &p->cred, &p->oss, &p->message);
    if (r == 0 && (r = signals_start(!p->options.foreground || p->options.logfile)) < 0)
        message_set(&p->message, r, "no thread: %s", strerror(-r));
    if (r == 0)
        r = open_state(p);
    if (r == 0)
        r = open_fs(p);
    if (r == 0)
        r = mount_it(p);
    if (r == 0) {
        fs_mounted(p->fs, p->mountpoint);
        log_info("%s is mounted on %s", p->options.source, p->mountpoint);
        open_control(p);
        notify_ready(p->options.source, p->mountpoint);
        daemon_ready(&p->daemon);
        r = run_loop(p);
        /* An end by a signal or by unmounting is a good end. */
        if (r < 0)
            log_err("the loop over the kernel's requests ended: %s", strerror(-r));
        else
            r = 0;
        signals_draining();
        fs_left(p->fs);
        control_detach(p->control);
        /* First the mount goes, then what is unsent is sent: whoever unmounts need not wait to see it gone. */
        fuse_session_unmount(p->session);
        notify_draining(fs_cache(p->fs));
        fs_drain(p->fs);
        notify_drained();
        log_info("%s is unmounted", p->options.source);
    }
    return r;
}

static void program_free(struct program *p)
{
    signals_draining();
    control_stop(p->control);
    if (p->fs)
        fs_free(p->fs);
    if (p->session)
        fuse_session_destroy(p->session);
    oss_close(p->oss);
    oss_cred_free(p->cred);
    /* The lock last: the next mount may begin now. */
    state_dir_close(p->state);
    signals_stop();
    free(p->mountpoint);
    options_free(&p->options);
}

/* Everything that needs no network. 0: go on; else the exit status + 1. */
static int prepare(struct program *p, int argc, char **argv)
{
    bool hidden = false;

    if (options_parse(&p->options, argc, argv, &p->message) < 0)
        return 1 + 1;
    if (p->options.help || p->options.version) {
        (p->options.help ? options_help : options_version)(stdout);
        if (p->options.help) {
            puts("\nCommands (ossmount COMMAND --help tells more; a bucket of such a name is mounted as NAME:/):");
            command_list(stdout);
        }
        return (fflush(stdout) == 0 ? 0 : 1) + 1;
    }
    if (p->options.fake)
        return 0 + 1;
    if (mountpoint_prepare(p->options.mountpoint, &p->mountpoint, &hidden, &p->message) < 0)
        return 1 + 1;
    if (hidden)
        fprintf(stderr, "ossmount: %s is not empty: what is in it is hidden while the bucket is mounted\n",
                p->mountpoint);
    notify_open(p->options.foreground);
    return p->options.foreground ? 0 : daemon_start(&p->daemon, &p->message);
}

int main(int argc, char **argv)
{
    struct program p = {.daemon = {.ready_fd = -1}};
    int r;

    daemon_harden();
    if (argc > 1 && command_find(argv[0], argv[1]))
        return command_run(argc - 1, argv + 1);
    r = prepare(&p, argc, argv);
    if (r == 0)
        r = (serve(&p) == 0 ? 0 : 1) + 1;
    if (p.message.text[0])
        fprintf(stderr, "ossmount: %s\n", p.message.text);
    program_free(&p);
    return r < 0 ? 1 : r - 1;
}
