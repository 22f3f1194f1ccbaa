/*
 * guard SECONDS COMMAND [ARG...]: runs a daemon that outlives neither its limit nor the test process.
 *
 * The daemon is killed after SECONDS, and when the guard ends; the guard is killed when the thread that started it
 * ends. Exits as the daemon does, with 128 + n after a signal n. One small program where timeout(1) and two
 * setpriv(1) would be loaded and linked thousands of times in a run.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t daemon_pid;

static void time_is_up(int signal)
{
    (void)signal;
    kill(daemon_pid, SIGKILL);
}

static int become(char *const *command, pid_t guard)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != guard)
        return 125; /* it had ended before */
    execvp(command[0], command);
    fprintf(stderr, "guard: cannot run %s\n", command[0]);
    return 127;
}

int main(int argc, char **argv)
{
    pid_t self = getpid();
    int status;

    if (argc < 3 || atoi(argv[1]) <= 0) {
        fprintf(stderr, "usage: guard SECONDS COMMAND [ARG...]\n");
        return 125;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    daemon_pid = fork();
    if (daemon_pid < 0) {
        perror("guard: fork");
        return 125;
    }
    if (daemon_pid == 0)
        _exit(become(argv + 2, self));
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = time_is_up}, NULL);
    alarm((unsigned)atoi(argv[1]));
    while (waitpid(daemon_pid, &status, 0) < 0)
        if (errno != EINTR)
            return 125;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
