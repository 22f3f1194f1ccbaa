/*
 * cred_process.c: an access key from a program of the user's own.
 *
 * The program is run directly, never by a shell, in a process group of its own, so that a hanging one can be ended
 * with all that it has started. Its errors go where ours do; its output is the key and goes nowhere.
 */
#include "cred_source.h"

#include "base_buf.h"
#include "base_time.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (64U << 10)
#define WORDS_MAX  64
#define STEP_MS    50

/* --------------------------------------------------------------------------------------------------- words */

/* One word at *p, written to *to; false when a quote stays open. */
static bool word_read(const char **p, char **to)
{
    char quote = '\0';

    for (; **p && (quote || (**p != ' ' && **p != '\t')); ++*p) {
        char c = **p;

        if (quote && c == quote) {
            quote = '\0';
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
        } else {
            if (c == '\\' && quote != '\'' && (*p)[1])
                c = *++*p;
            *(*to)++ = c;
        }
    }
    *(*to)++ = '\0';
    return !quote;
}

int cred_words(const char *command, char ***words, size_t *n)
{
    char **list = malloc((WORDS_MAX + 1) * sizeof(*list) + strlen(command) + WORDS_MAX + 1);
    char *to;

    *words = list;
    *n = 0;
    if (!list)
        return -ENOMEM;
    to = (char *)(list + WORDS_MAX + 1);
    for (const char *p = command;;) {
        p += strspn(p, " \t");
        if (!*p)
            break;
        list[*n] = to;
        if (*n == WORDS_MAX || !word_read(&p, &to)) {
            free(list);
            *words = NULL;
            return -EINVAL;
        }
        ++*n;
    }
    list[*n] = NULL;
    return 0;
}

/* --------------------------------------------------------------------------------------------------- process */

static int program_check(const char *path, struct oss_error *err)
{
    struct stat st;

    if (*path != '/')
        return error_set(err, -EINVAL, "credential_process: give the whole path of the program, not %.100s", path);
    if (stat(path, &st) < 0)
        return error_set(err, -EACCES, "credential_process: %.150s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
        return error_set(err, -EACCES, "credential_process: %.150s is no program: chmod +x it", path);
    /* Who may change the program has the key, and is us. */
    if ((st.st_mode & 022) || (st.st_uid != 0 && st.st_uid != geteuid()))
        return error_set(err, -EACCES, "credential_process: %.150s may be changed by others (mode %03o): chmod go-w",
                         path, (unsigned)(st.st_mode & 07777));
    return 0;
}

static int start(char **words, int out, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, normal;
    int e;

    sigemptyset(&none);
    sigemptyset(&normal);
    sigaddset(&normal, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
#endif
#endif
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &normal);
    posix_spawnattr_setpgroup(&attr, 0);
    e = posix_spawn(pid, words[0], &actions, &attr, words, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -e;
}

/* Reads to the end of the output. 0, -ETIMEDOUT, -ECANCELED, -EIO. */
static int collect(int fd, int64_t deadline_ms, const atomic_bool *stop, struct buf *out)
{
    char chunk[4096];

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (atomic_load(stop))
            return -ECANCELED;
        if (clock_ms() >= deadline_ms)
            return -ETIMEDOUT;
        if (poll(&p, 1, STEP_MS) <= 0)
            continue;
        n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            break;
        if (n < 0 || buf_add(out, chunk, (size_t)n) < 0)
            return -EIO;
    }
    explicit_bzero(chunk, sizeof(chunk));
    return 0;
}

/* Waits for the end; 0 for a good one. */
static int await(pid_t pid, int64_t deadline_ms, const atomic_bool *stop, int *status)
{
    const struct timespec step = {.tv_nsec = 5 * 1000000L};
    pid_t done;

    while ((done = waitpid(pid, status, WNOHANG)) == 0 || (done < 0 && errno == EINTR)) {
        if (atomic_load(stop) || clock_ms() >= deadline_ms)
            return atomic_load(stop) ? -ECANCELED : -ETIMEDOUT;
        nanosleep(&step, NULL);
    }
    return done == pid && WIFEXITED(*status) && WEXITSTATUS(*status) == 0 ? 0 : -EIO;
}

static int run(char **words, int64_t timeout_ms, const atomic_bool *stop, struct buf *out, struct oss_error *err)
{
    int64_t deadline_ms = clock_ms() + timeout_ms;
    int fds[2], status = 0, r;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set(err, -EIO, "credential_process: no pipe: %s", strerror(errno));
    r = start(words, fds[1], &pid);
    close(fds[1]);
    if (r < 0) {
        close(fds[0]);
        return error_set(err, -EACCES, "credential_process: %.150s cannot be run: %s", words[0], strerror(-r));
    }
    r = collect(fds[0], deadline_ms, stop, out);
    close(fds[0]);
    if (r == 0)
        r = await(pid, deadline_ms, stop, &status);
    if (r == -EIO && out->err == 0)
        return error_set(err, r, "credential_process: %.150s ended with %s %d", words[0],
                         WIFSIGNALED(status) ? "signal" : "status",
                         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (r == 0)
        return 0;
    kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (r == -ETIMEDOUT)
        return error_set(err, r, "credential_process: %.150s did not end within %lld s", words[0],
                         (long long)timeout_ms / 1000);
    return error_set(err, r, "credential_process: %.150s was ended: %s", words[0],
                     r == -ECANCELED ? "stopped" : "it writes too much");
}

int cred_process(const char *command, int64_t timeout_ms, const atomic_bool *stop, struct cred_found *out,
                 struct oss_error *err)
{
    struct buf text = BUF_INIT(OUTPUT_MAX);
    struct oss_error why = {0};
    char **words;
    size_t n;
    int r = cred_words(command, &words, &n);

    if (r < 0)
        return error_set(err, r, r == -ENOMEM ? "out of memory" : "credential_process: a quote is not closed");
    r = n == 0 ? error_set(err, -EINVAL, "credential_process: no program") : program_check(words[0], err);
    if (r == 0)
        r = run(words, timeout_ms, stop, &text, err);
    if (r == 0 && (r = cred_json(buf_str(&text), text.len, out, &why)) < 0)
        error_set(err, r, "credential_process: the output of %.100s: %s", words[0], why.message);
    if (text.data)
        explicit_bzero(text.data, text.size);
    buf_free(&text);
    free(words);
    return r;
}
