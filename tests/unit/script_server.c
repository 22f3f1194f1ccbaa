#include "script_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX    256
#define REQUESTS_MAX 256
#define THREADS_MAX  256

struct script_server {
    int fd;
    unsigned port;
    pthread_t acceptor;
    pthread_t threads[THREADS_MAX]; /* the acceptor's, until it is joined */
    size_t n_threads;
    atomic_bool end;
    atomic_size_t connections;

    pthread_mutex_t lock;
    struct script_step steps[STEPS_MAX]; /* guarded by lock, as all below */
    size_t n_steps, next_step;
    char *requests[REQUESTS_MAX];
    size_t n_requests;
};

struct connection {
    struct script_server *server;
    int fd;
};

static void die(const char *what)
{
    fprintf(stderr, "script server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* Waits for bytes; false at the end of the connection or of the server. */
static bool readable(struct script_server *s, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (!atomic_load(&s->end)) {
        if (poll(&p, 1, 50) > 0)
            return true;
    }
    return false;
}

/* Grows *text by one read; false at the end. */
static bool more(struct script_server *s, int fd, char **text, size_t *n)
{
    char chunk[16384];
    ssize_t got;
    char *grown;

    if (!readable(s, fd))
        return false;
    got = recv(fd, chunk, sizeof(chunk), 0);
    if (got <= 0)
        return false;
    grown = realloc(*text, *n + (size_t)got + 1);
    if (!grown)
        die("memory");
    memcpy(grown + *n, chunk, (size_t)got);
    *n += (size_t)got;
    grown[*n] = '\0';
    *text = grown;
    return true;
}

static size_t content_length(const char *head)
{
    const char *p = strcasestr(head, "\r\ncontent-length:");

    return p ? strtoul(p + 17, NULL, 10) : 0;
}

static void send_all(int fd, const char *data, size_t n, int trickle_ms)
{
    while (n) {
        ssize_t sent = send(fd, data, trickle_ms ? 1 : n, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        data += sent;
        n -= (size_t)sent;
        if (trickle_ms)
            pause_ms(trickle_ms);
    }
}

static bool step_take(struct script_server *s, struct script_step *out)
{
    bool got = false;

    pthread_mutex_lock(&s->lock);
    if (s->next_step < s->n_steps) {
        *out = s->steps[s->next_step++];
        got = true;
    }
    pthread_mutex_unlock(&s->lock);
    return got;
}

static void request_keep(struct script_server *s, char *text)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_requests < REQUESTS_MAX)
        s->requests[s->n_requests++] = text;
    else
        free(text);
    pthread_mutex_unlock(&s->lock);
}

/* Serves one request; true when another may come. */
static bool serve(struct script_server *s, int fd)
{
    struct script_step step;
    char *text = NULL, *end;
    size_t n = 0, whole;
    bool open = true;

    while (!text || !(end = strstr(text, "\r\n\r\n"))) {
        if (!more(s, fd, &text, &n)) {
            free(text);
            return false;
        }
    }
    whole = (size_t)(end + 4 - text) + content_length(text);
    if (!step_take(s, &step)) {
        request_keep(s, text);
        return false;
    }
    if (!step.early && strcasestr(text, "\r\nexpect: 100-continue") && n < whole)
        send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0);
    while (!step.early && n < whole && open)
        open = more(s, fd, &text, &n);
    request_keep(s, text);
    if (!open)
        return false;
    if (step.delay_ms)
        pause_ms(step.delay_ms);
    if (step.reply)
        send_all(fd, step.reply, step.size ? step.size : strlen(step.reply), step.trickle_ms);
    while (step.then == SCRIPT_HANG && !atomic_load(&s->end))
        pause_ms(20);
    if (step.then == SCRIPT_RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    return step.then == SCRIPT_KEEP;
}

static void *connection_run(void *arg)
{
    struct connection *c = arg;

    while (serve(c->server, c->fd))
        ;
    close(c->fd);
    free(c);
    return NULL;
}

static void *accept_run(void *arg)
{
    struct script_server *s = arg;

    while (readable(s, s->fd)) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        struct connection *c;

        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        c = malloc(sizeof(*c));
        if (!c || s->n_threads == THREADS_MAX)
            die("connections");
        *c = (struct connection){s, fd};
        atomic_fetch_add(&s->connections, 1);
        if (pthread_create(&s->threads[s->n_threads++], NULL, connection_run, c) != 0)
            die("thread");
    }
    return NULL;
}

struct script_server *script_start(void)
{
    struct script_server *s = calloc(1, sizeof(*s));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    if (!s)
        die("memory");
    pthread_mutex_init(&s->lock, NULL);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&a, n) < 0 || listen(s->fd, 128) < 0 ||
        getsockname(s->fd, (struct sockaddr *)&a, &n) < 0)
        die("listen");
    s->port = ntohs(a.sin_port);
    if (pthread_create(&s->acceptor, NULL, accept_run, s) != 0)
        die("thread");
    return s;
}

unsigned script_port(const struct script_server *s)
{
    return s->port;
}

void script_add(struct script_server *s, const struct script_step *step)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_steps == STEPS_MAX)
        die("steps");
    s->steps[s->n_steps++] = *step;
    pthread_mutex_unlock(&s->lock);
}

size_t script_requests(struct script_server *s)
{
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = s->n_requests;
    pthread_mutex_unlock(&s->lock);
    return n;
}

const char *script_request(struct script_server *s, size_t i)
{
    const char *text;

    pthread_mutex_lock(&s->lock);
    text = i < s->n_requests ? s->requests[i] : "";
    pthread_mutex_unlock(&s->lock);
    return text;
}

size_t script_connections(struct script_server *s)
{
    return atomic_load(&s->connections);
}

void script_end(struct script_server *s)
{
    atomic_store(&s->end, true);
    pthread_join(s->acceptor, NULL);
    for (size_t i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
    close(s->fd);
    for (size_t i = 0; i < s->n_requests; i++)
        free(s->requests[i]);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
