#include "notify.h"

#include "format.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A process has one manager, so there is one of these. */
static struct {
    struct sockaddr_un address; /* set before any thread */
    socklen_t size;             /* 0: nobody listens */
    struct cache *cache;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool drained; /* by lock */
} notify = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

void notify_open(bool listen)
{
    const char *name = getenv("NOTIFY_SOCKET");
    size_t n = name ? strlen(name) : 0;

    /* A path, or '@' for an abstract name: what is sent is not ended by a NUL there. */
    if (listen && n > 1 && n < sizeof(notify.address.sun_path) && (*name == '/' || *name == '@')) {
        notify.address.sun_family = AF_UNIX;
        memcpy(notify.address.sun_path, name, n);
        if (*name == '@')
            notify.address.sun_path[0] = '\0';
        notify.size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*name == '/'));
    }
    unsetenv("NOTIFY_SOCKET");
}

static void tell(const char *text)
{
    int fd;

    if (notify.size == 0)
        return;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* A manager that does not read loses a message; the next one says the same. */
    if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                         (const struct sockaddr *)(const void *)&notify.address, notify.size) < 0)
        log_debug("the service manager was not told: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* A name must not begin a line of its own. */
static void tell_line(const char *head, const char *words, const char *source, const char *mountpoint)
{
    char text[1024];

    snprintf(text, sizeof(text), "%sSTATUS=%s %s%s%s", head, words, source, *mountpoint ? " on " : "", mountpoint);
    for (char *s = text + strlen(head); *s; s++)
        if ((unsigned char)*s < ' ')
            *s = '?';
    tell(text);
}

void notify_starting(const char *source)
{
    tell_line("", "mounting", source, "");
}

void notify_ready(const char *source, const char *mountpoint)
{
    tell_line("READY=1\n", "serving", source, mountpoint);
}

/* ----------------------------------------------------------------------------------------------- draining */

static void tell_progress(void)
{
    struct cache_status status = {0};
    char text[256], bytes[FORMAT_SIZE];

    if (cache_status(notify.cache, 1, &status) < 0)
        return;
    snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%lld\nSTATUS=unmounted; still to be sent: %zu files, %s",
             NOTIFY_EXTEND_MS * 1000LL, status.sending.total + status.pending.total,
             format_bytes(bytes, status.sending.bytes + status.pending.bytes));
    cache_status_free(&status);
    tell(text);
}

static void *thread_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&notify.lock);
    while (!notify.drained) {
        struct timespec until;

        pthread_mutex_unlock(&notify.lock);
        tell_progress();
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += NOTIFY_EVERY_MS / 1000;
        pthread_mutex_lock(&notify.lock);
        while (!notify.drained && pthread_cond_timedwait(&notify.wake, &notify.lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&notify.lock);
    return NULL;
}

void notify_draining(struct cache *cache)
{
    if (notify.size == 0)
        return;
    tell("STOPPING=1");
    notify.cache = cache;
    notify.started = pthread_create(&notify.thread, NULL, thread_main, NULL) == 0;
}

void notify_drained(void)
{
    if (!notify.started)
        return;
    pthread_mutex_lock(&notify.lock);
    notify.drained = true;
    pthread_cond_signal(&notify.wake);
    pthread_mutex_unlock(&notify.lock);
    pthread_join(notify.thread, NULL);
    notify.started = false;
    tell("STATUS=all that could be sent is sent");
}
