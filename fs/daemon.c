#include "daemon.h"

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAK_CHECK 1
#endif
#endif

void daemon_harden(void)
{
    const struct rlimit none = {0, 0};
    struct rlimit files;

    setrlimit(RLIMIT_CORE, &none);
    /* A descriptor for each open file, one more for each unsent one, and the connections. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
#ifndef LEAK_CHECK
    /* The leak checker attaches to its own process, which this forbids. */
    prctl(PR_SET_DUMPABLE, 0);
#endif
#ifdef M_ARENA_MAX
    /* Each arena keeps what it once needed; with one for each thread the daemon would look much larger than it is. */
    mallopt(M_ARENA_MAX, 2);
#endif
    umask(077);
}

/* The parent: waits for the child's word, or its end. */
static int await(pid_t pid, int fd, struct message *message)
{
    char word;
    ssize_t n;
    int status;

    while ((n = read(fd, &word, 1)) < 0 && errno == EINTR)
        ;
    close(fd);
    if (n == 1)
        return 0 + 1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status)) {
        message_set(message, 0, "ended by signal %d (%s) while mounting", WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
        return 1 + 1;
    }
    /* It has said itself why. Without its word it is a failure, whatever its status. */
    return (WEXITSTATUS(status) ? WEXITSTATUS(status) : 1) + 1;
}

int daemon_start(struct daemon *daemon, struct message *message)
{
    pid_t parent = getpid(), pid;
    int fds[2];

    /* Whoever waits for the end of a pipe or of a lock of ours must not wait for the daemon. */
    syscall(SYS_close_range, 3, ~0U, 0);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return message_set(message, -errno, "no pipe: %s", strerror(errno));
    pid = fork();
    if (pid < 0) {
        int e = errno;

        close(fds[0]);
        close(fds[1]);
        return message_set(message, -e, "no process: %s", strerror(e));
    }
    if (pid > 0) {
        close(fds[1]);
        return await(pid, fds[0], message);
    }
    close(fds[0]);
    /* Until it is ready, the child is part of the command: it ends with it. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        raise(SIGTERM);
    daemon->ready_fd = fds[1];
    return 0;
}

void daemon_ready(struct daemon *daemon)
{
    int null;

    if (daemon->ready_fd < 0)
        return;
    prctl(PR_SET_PDEATHSIG, 0);
    setsid();
    if (chdir("/") < 0) {
        /* The current directory then stays busy; nothing else depends on it. */
    }
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    while (write(daemon->ready_fd, "+", 1) < 0 && errno == EINTR)
        ;
    close(daemon->ready_fd);
    daemon->ready_fd = -1;
}
