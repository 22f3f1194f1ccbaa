#include "ossd_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_SECONDS 20

struct ossd_server {
    pid_t pid;
    int output; /* its stdout: closed last, so that it never writes into nothing */
    char url[128];
    unsigned control_port;
};

static void die(const char *what)
{
    fprintf(stderr, "ossd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void child_run(int out, const char *const *more)
{
    const char *argv[40] = {getenv("OSSD"),   "--memory",
                            "--port",         "0",
                            "--control-port", "0",
                            "--bucket",       OSSD_BUCKET,
                            "--key",          OSSD_KEY ":" OSSD_SECRET,
                            "--region",       OSSD_REGION};
    size_t n = 12;

    if (!argv[0] || !*argv[0])
        argv[0] = "build/ossd";
    for (; more && *more && n < 39; more++)
        argv[n++] = *more;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* Reads the line that tells the addresses. */
static void addresses_read(struct ossd_server *s)
{
    struct pollfd p = {.fd = s->output, .events = POLLIN};
    time_t until = time(NULL) + START_SECONDS;
    char text[4096] = "", control[128];
    size_t n = 0;

    while (!strchr(text, '\n')) {
        ssize_t got;

        if (time(NULL) > until || n == sizeof(text) - 1)
            die("it does not say where it listens");
        if (poll(&p, 1, 200) <= 0)
            continue;
        got = read(s->output, text + n, sizeof(text) - 1 - n);
        if (got <= 0)
            die("it ended at once");
        n += (size_t)got;
        text[n] = '\0';
    }
    if (sscanf(text, "ossd listening %127s control %127s", s->url, control) != 2 ||
        sscanf(control, "http://127.0.0.1:%u", &s->control_port) != 1)
        die(text);
}

struct ossd_server *ossd_start(const char *const *more)
{
    struct ossd_server *s = calloc(1, sizeof(*s));
    int fd[2];

    if (!s || pipe(fd) < 0)
        die("start");
    fflush(NULL);
    s->pid = fork();
    if (s->pid < 0)
        die("fork");
    if (s->pid == 0) {
        close(fd[0]);
        child_run(fd[1], more);
    }
    close(fd[1]);
    s->output = fd[0];
    addresses_read(s);
    return s;
}

const char *ossd_url(const struct ossd_server *s)
{
    return s->url;
}

int ossd_pid(const struct ossd_server *s)
{
    return s->pid;
}

void ossd_end(struct ossd_server *s)
{
    kill(s->pid, SIGTERM);
    for (int i = 0; waitpid(s->pid, NULL, WNOHANG) == 0; i++) {
        if (i == 200)
            kill(s->pid, SIGKILL);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    close(s->output);
    free(s);
}

static int control_connect(const struct ossd_server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)s->control_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        die("control port");
    return fd;
}

char *ossd_control(const struct ossd_server *s, const char *method, const char *path, const char *body)
{
    int fd = control_connect(s);
    char *text = NULL, *start;
    size_t n = 0, size = 0;
    ssize_t got;

    if (dprintf(fd, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", method,
                path, body ? strlen(body) : 0, body ? body : "") < 0)
        die("control request");
    do {
        if (size - n < 4096 && !(text = realloc(text, size += 65536)))
            die("memory");
        got = read(fd, text + n, size - n - 1);
        if (got > 0)
            n += (size_t)got;
    } while (got > 0);
    close(fd);
    text[n] = '\0';
    start = strstr(text, "\r\n\r\n");
    if (!start || strncmp(text, "HTTP/1.1 20", 11) != 0) {
        fprintf(stderr, "ossd: %s %s %s: %s\n", method, path, body ? body : "", text);
        exit(1);
    }
    memmove(text, start + 4, strlen(start + 4) + 1);
    return text;
}

void ossd_fault(const struct ossd_server *s, const char *op, const char *action, int count, const char *more)
{
    char text[512];

    snprintf(text, sizeof(text), "{\"op\":\"%s\",\"action\":\"%s\",\"count\":%d%s%s}", op, action, count,
             more ? "," : "", more ? more : "");
    free(ossd_control(s, "POST", "/faults", text));
}

void ossd_faults_clear(const struct ossd_server *s)
{
    free(ossd_control(s, "DELETE", "/faults", NULL));
}

uint64_t ossd_requests(const struct ossd_server *s, const char *op)
{
    char *text = ossd_control(s, "GET", "/counters", NULL);
    char name[64];
    const char *p;
    uint64_t n = 0;

    snprintf(name, sizeof(name), "\"%s\":", op);
    p = strstr(text, name);
    if (p)
        n = strtoull(p + strlen(name), NULL, 10);
    free(text);
    return n;
}

void ossd_counters_reset(const struct ossd_server *s)
{
    free(ossd_control(s, "POST", "/reset", NULL));
}
