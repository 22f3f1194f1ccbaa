#include "signals.h"

#include "../oss/base_log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Wakes the loop; its handler does nothing. */
#define WAKE SIGUSR1
/* A process has one set of signals, so there is one of these. */
static struct {
    pthread_mutex_t lock;
    enum { STARTING, SERVING, DRAINING } where; /* by lock */
    void (*end)(void *arg);                     /* by lock */
    void *arg;                                  /* by lock */
    bool spared;                                /* by lock; the next one while draining does not end the process */
    bool started, reopens;                      /* set before the thread is */
    atomic_bool stop;                           /* the next signal ends the thread */
    pthread_t thread, loop;
} signals = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void nothing(int sig)
{
    (void)sig;
}

static void wanted(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR2);
}

/* True while the loop has to be woken again: it may have been just before going to sleep. */
static bool end_loop(void)
{
    bool serving;

    pthread_mutex_lock(&signals.lock);
    serving = signals.where == SERVING;
    if (serving) {
        signals.end(signals.arg);
        signals.spared = false;
    }
    pthread_mutex_unlock(&signals.lock);
    if (serving)
        pthread_kill(signals.loop, WAKE);
    return serving;
}

/* The end was asked for while starting or draining, or again. */
static void end_now(int sig)
{
    bool draining, spared;

    pthread_mutex_lock(&signals.lock);
    draining = signals.where == DRAINING;
    spared = signals.spared;
    signals.spared = false;
    pthread_mutex_unlock(&signals.lock);
    /* A service manager sends one to whatever is left after an unmount: that is no wish to lose time or files. */
    if (draining && spared) {
        log_info("signal %d: what is unsent is still being sent; a second one ends that", sig);
        return;
    }
    if (draining)
        log_warn("ended by a second signal: what is unsent stays in the state directory");
    _exit(128 + sig);
}

static void *thread_main(void *arg)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000000L};
    sigset_t set;
    int sig;

    (void)arg;
    wanted(&set);
    while (sigwait(&set, &sig) == 0 && !atomic_load(&signals.stop)) {
        if (sig == SIGUSR2) {
            log_next_level();
            continue;
        }
        if (sig == SIGHUP && signals.reopens) {
            log_reopen();
            continue;
        }
        if (!end_loop()) {
            end_now(sig);
            continue;
        }
        log_info("ending: signal %d", sig);
        while (end_loop())
            nanosleep(&pause, NULL);
    }
    return NULL;
}

int signals_start(bool reopens)
{
    struct sigaction wake = {.sa_handler = nothing}, ignore = {.sa_handler = SIG_IGN};
    sigset_t set;
    int r;

    /* Without SA_RESTART: the wake-up is the interruption. */
    sigaction(WAKE, &wake, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    wanted(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signals.reopens = reopens;
    signals.loop = pthread_self();
    r = -pthread_create(&signals.thread, NULL, thread_main, NULL);
    signals.started = r == 0;
    return r;
}

void signals_serving(void (*end)(void *arg), void *arg)
{
    pthread_mutex_lock(&signals.lock);
    signals.where = SERVING;
    signals.spared = true;
    signals.end = end;
    signals.arg = arg;
    pthread_mutex_unlock(&signals.lock);
}

void signals_draining(void)
{
    pthread_mutex_lock(&signals.lock);
    signals.where = DRAINING;
    pthread_mutex_unlock(&signals.lock);
}

void signals_stop(void)
{
    if (!signals.started)
        return;
    atomic_store(&signals.stop, true);
    pthread_kill(signals.thread, SIGUSR2);
    pthread_join(signals.thread, NULL);
    signals.started = false;
}
