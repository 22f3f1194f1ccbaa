/* The thread and its connections; what they ask for is in control_ask.c. */
#include "control_priv.h"

#include "runtime.h"

#include "../oss/base_log.h"
#include "../oss/base_time.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define STALL_MS 10000 /* a client that takes nothing of its answer for so long is cut off */

/* What was asked for earlier is answered, from whatever thread. */
struct answer {
    struct list link;
    uint64_t client;
    int r;
    struct buf text;
};

/* --------------------------------------------------------------------------------------------- references */

struct control *control_ref(struct control *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void control_unref(struct control *c)
{
    if (atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    while (!list_empty(&c->answers)) {
        struct answer *a = list_entry(list_pop(&c->answers), struct answer, link);

        buf_free(&a->text);
        free(a);
    }
    if (c->listen_fd >= 0)
        close(c->listen_fd);
    if (c->event_fd >= 0)
        close(c->event_fd);
    if (c->dir_fd >= 0)
        close(c->dir_fd);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

static void wake(struct control *c)
{
    const uint64_t one = 1;

    while (write(c->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void control_answer(struct control *c, uint64_t client, int r, struct buf *text)
{
    struct answer *a = malloc(sizeof(*a));

    if (!a) {
        buf_free(text);
        return; /* the client waits until it is tired of it */
    }
    *a = (struct answer){.client = client, .r = r, .text = *text};
    *text = (struct buf)BUF_INIT(text->max);
    pthread_mutex_lock(&c->mu);
    list_add_tail(&c->answers, &a->link);
    pthread_mutex_unlock(&c->mu);
    wake(c);
}

/* --------------------------------------------------------------------------------------------- connections */

static void client_close(struct client *k)
{
    close(k->fd);
    buf_free(&k->out);
    free(k->line);
    *k = (struct client){.fd = -1};
}

/* "ok BYTES" or "error ERRNO BYTES", and the text. */
static void client_answer(struct client *k, int r, const struct buf *text)
{
    k->busy = false;
    k->moved_ms = clock_ms();
    if (r < 0)
        buf_addf(&k->out, "error %d ", -r);
    else
        buf_adds(&k->out, "ok ");
    buf_addf(&k->out, "%zu\n", text->len);
    if (buf_add(&k->out, buf_str(text), text->len) < 0 || text->err)
        k->broken = true;
}

static void client_write(struct client *k)
{
    while (!k->broken && k->written < k->out.len) {
        ssize_t n = send(k->fd, k->out.data + k->written, k->out.len - k->written, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            k->broken = errno != EAGAIN;
            return;
        }
        k->written += (size_t)n;
        k->moved_ms = clock_ms();
    }
    if (k->written == k->out.len) {
        buf_free(&k->out);
        k->written = 0;
    }
}

/* There is a line, and nothing of the one before is left to be answered. */
static bool may_ask(const struct client *k)
{
    return !k->busy && k->out.len == 0 && memchr(k->line, '\n', k->n);
}

/* One line: whoever sends many is served in turn with the others. */
static void client_ask(struct control *c, struct client *k)
{
    char *end = memchr(k->line, '\n', k->n);
    struct buf text = BUF_INIT(CONTROL_ANSWER_MAX);
    size_t used;
    int r;

    if (!end || !may_ask(k))
        return;
    *end = '\0';
    used = (size_t)(end - k->line) + 1;
    k->busy = true;
    r = control_ask(c, k->id, k->line, &text);
    if (r != CONTROL_LATER)
        client_answer(k, r, &text);
    buf_free(&text);
    memmove(k->line, k->line + used, k->n - used);
    k->n -= used;
}

static void client_read(struct client *k)
{
    ssize_t n;

    if (k->n == CONTROL_LINE) {
        k->broken = true; /* a line without an end, or more questions than are taken at a time */
        return;
    }
    n = recv(k->fd, k->line + k->n, CONTROL_LINE - k->n, MSG_DONTWAIT);
    if (n > 0)
        k->n += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        k->broken = true;
}

static bool peer_may(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static void accept_one(struct control *c)
{
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    for (size_t i = 0; i < CONTROL_CLIENTS && peer_may(fd); i++) {
        struct client *k = &c->clients[i];

        if (k->fd >= 0)
            continue;
        *k = (struct client){.fd = fd, .id = ++c->next_id, .line = malloc(CONTROL_LINE), .moved_ms = clock_ms()};
        buf_init(&k->out, CONTROL_ANSWER_MAX + 64);
        if (k->line)
            return;
        *k = (struct client){.fd = -1};
        break;
    }
    close(fd);
}

static void take_answers(struct control *c)
{
    uint64_t n;
    struct list answers;

    if (read(c->event_fd, &n, sizeof(n)) < 0) {
        /* Nothing was there: the list says what there is. */
    }
    list_init(&answers);
    pthread_mutex_lock(&c->mu);
    list_splice_tail(&answers, &c->answers);
    pthread_mutex_unlock(&c->mu);
    list_for_each_safe (it, &answers) {
        struct answer *a = list_entry(it, struct answer, link);

        for (size_t i = 0; i < CONTROL_CLIENTS; i++)
            if (c->clients[i].fd >= 0 && c->clients[i].id == a->client)
                client_answer(&c->clients[i], a->r, &a->text);
        buf_free(&a->text);
        free(a);
    }
}

/* ------------------------------------------------------------------------------------------------ the thread */

static bool stopped(struct control *c)
{
    bool stop;

    pthread_mutex_lock(&c->mu);
    stop = c->stop;
    pthread_mutex_unlock(&c->mu);
    return stop;
}

static bool detached(struct control *c)
{
    bool gone;

    pthread_mutex_lock(&c->mu);
    gone = c->detached;
    pthread_mutex_unlock(&c->mu);
    return gone;
}

static void serve_clients(struct control *c, const struct pollfd *polled)
{
    for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
        struct client *k = &c->clients[i];

        if (k->fd < 0)
            continue;
        if (polled[i].fd == k->fd && (polled[i].revents & POLLIN))
            client_read(k);
        else if (polled[i].fd == k->fd && (polled[i].revents & (POLLHUP | POLLERR)))
            k->broken = true;
        client_ask(c, k);
        client_write(k);
        if (k->out.len > 0 && clock_ms() - k->moved_ms > STALL_MS)
            k->broken = true;
        if (k->broken)
            client_close(k);
    }
}

static void *control_main(void *arg)
{
    struct control *c = arg;
    struct pollfd p[CONTROL_CLIENTS + 2];

    while (!stopped(c)) {
        bool writing = false, ready = false;

        for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
            const struct client *k = &c->clients[i];

            /* Who waits for an answer is looked at only for its end. */
            p[i] = (struct pollfd){.fd = k->fd, .events = k->busy ? 0 : POLLIN};
            if (k->fd >= 0 && k->busy)
                p[i].events = k->n < CONTROL_LINE ? POLLIN : 0;
            if (k->fd >= 0 && k->out.len > 0)
                p[i].events = POLLOUT;
            writing = writing || (k->fd >= 0 && k->out.len > 0);
            ready = ready || (k->fd >= 0 && may_ask(k));
        }
        p[CONTROL_CLIENTS] = (struct pollfd){.fd = c->event_fd, .events = POLLIN};
        p[CONTROL_CLIENTS + 1] = (struct pollfd){.fd = detached(c) ? -1 : c->listen_fd, .events = POLLIN};
        if (poll(p, CONTROL_CLIENTS + 2, ready ? 0 : writing ? 1000 : -1) < 0 && errno != EINTR)
            break;
        take_answers(c);
        serve_clients(c, p);
        if (p[CONTROL_CLIENTS + 1].revents & POLLIN)
            accept_one(c);
    }
    for (size_t i = 0; i < CONTROL_CLIENTS; i++)
        if (c->clients[i].fd >= 0)
            client_close(&c->clients[i]);
    return NULL;
}

/* -------------------------------------------------------------------------------------------------- the face */

/* The mount's device number, which names the socket. */
static int find_device(const char *mountpoint, char device[24])
{
    struct mounts mounts;
    const struct mount *m;
    int r = mounts_load(MOUNT_TYPE_OURS, &mounts);

    if (r < 0)
        return r;
    m = mounts_at(&mounts, mountpoint);
    if (m)
        snprintf(device, 24, "%s", m->device);
    else
        r = -ENOENT;
    mounts_free(&mounts);
    return r;
}

static int control_open(struct control *c)
{
    char device[24];
    int r = find_device(c->config.mountpoint, device);

    if (r < 0)
        return r;
    c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->event_fd < 0)
        return -errno;
    c->dir_fd = runtime_open(geteuid(), true);
    if (c->dir_fd < 0)
        return c->dir_fd;
    c->listen_fd = runtime_listen(c->dir_fd, device, c->name);
    if (c->listen_fd < 0)
        return c->listen_fd;
    return fcntl(c->listen_fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int control_start(struct control **out, const struct control_config *config, struct message *message)
{
    struct control *c = calloc(1, sizeof(*c));
    int r;

    *out = NULL;
    if (!c)
        return message_set(message, -ENOMEM, "out of memory");
    atomic_init(&c->refs, 1);
    c->config = *config;
    c->started = clock_wall().tv_sec;
    c->dir_fd = c->event_fd = c->listen_fd = -1;
    list_init(&c->answers);
    pthread_mutex_init(&c->mu, NULL);
    for (size_t i = 0; i < CONTROL_CLIENTS; i++)
        c->clients[i].fd = -1;
    r = control_open(c);
    if (r == 0)
        r = -pthread_create(&c->thread, NULL, control_main, c);
    if (r < 0) {
        control_detach(c);
        control_unref(c);
        return message_set(message, r, "no control socket, so that the commands do not work: %s", strerror(-r));
    }
    *out = c;
    return 0;
}

void control_detach(struct control *c)
{
    bool gone;

    if (!c)
        return;
    pthread_mutex_lock(&c->mu);
    gone = c->detached;
    c->detached = true;
    pthread_mutex_unlock(&c->mu);
    if (!gone && c->listen_fd >= 0)
        unlinkat(c->dir_fd, c->name, 0);
    if (c->event_fd >= 0)
        wake(c);
}

void control_stop(struct control *c)
{
    if (!c)
        return;
    control_detach(c);
    pthread_mutex_lock(&c->mu);
    c->stop = true;
    pthread_mutex_unlock(&c->mu);
    wake(c);
    pthread_join(c->thread, NULL);
    control_unref(c);
}
