/*
 * ossd_load: how fast the local server is: small PUTs (or GETs) over kept-alive connections, signed with V4.
 *
 *   cc -O2 -D_GNU_SOURCE -Itests/ossd -o build/ossd_load tests/bench/ossd_load.c tests/ossd/auth.c tests/ossd/util.c
 * \ -lcrypto -lpthread build/ossd_load PORT [threads [requests-of-each [bytes [PUT|GET [V4|none]]]]]
 *
 * It speaks just enough HTTP for that: one request, one answer, no body in the answer of a PUT.
 */
#include "auth.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct load {
    int port, number;
    long requests;
    size_t bytes;
    const char *method;
    bool sign;
    long failed;
};

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void add_signature(const struct load *l, const char *key, struct sbuf *out)
{
    struct pairs query = {0}, headers = {0};
    struct sbuf canonical = {0}, string = {0};
    struct auth_request rq = {l->method, "test-bucket", {key, strlen(key)}, &query, &headers};
    char date[32], signature[65];
    time_t t = time(NULL);
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(date, sizeof date, "%Y%m%dT%H%M%SZ", &tm);
    pairs_add(&headers, "x-oss-content-sha256", "UNSIGNED-PAYLOAD");
    pairs_add(&headers, "x-oss-date", date);
    auth_v4_canonical(&rq, NULL, &canonical);
    auth_v4_sign(canonical.p, date, "cn-test", "secret", &string, signature);
    sbuf_addf(out,
              "x-oss-content-sha256: UNSIGNED-PAYLOAD\r\nx-oss-date: %s\r\nAuthorization: OSS4-HMAC-SHA256 "
              "Credential=test/%.8s/cn-test/oss/aliyun_v4_request,Signature=%s\r\n",
              date, date, signature);
    pairs_free(&headers);
    sbuf_free(&canonical);
    sbuf_free(&string);
}

/* The status of one answer, which is read to its end; 0 when the connection broke. */
static int read_answer(int fd)
{
    char text[65536];
    size_t n = 0, body = 0;
    const char *end = NULL, *length;

    while (!end) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got <= 0)
            return 0;
        n += (size_t)got;
        text[n] = '\0';
        end = strstr(text, "\r\n\r\n");
    }
    length = strcasestr(text, "content-length: ");
    body = length ? strtoul(length + 16, NULL, 10) : 0;
    for (n -= (size_t)(end + 4 - text); n < body;) {
        ssize_t got = read(fd, text + 16, sizeof text - 16);
        if (got <= 0)
            return 0;
        n += (size_t)got;
    }
    return atoi(text + 9);
}

static void *run(void *arg)
{
    struct load *l = arg;
    char *body = xcalloc(1, l->bytes + 1);
    bool put = strcmp(l->method, "PUT") == 0;
    int fd = dial(l->port);

    for (long i = 0; i < l->requests; i++) {
        struct sbuf rq = {0};
        char key[64];
        snprintf(key, sizeof key, "load/%d/%08ld", l->number, i);
        sbuf_addf(&rq, "%s /test-bucket/%s HTTP/1.1\r\nHost: 127.0.0.1\r\n", l->method, key);
        if (l->sign)
            add_signature(l, key, &rq);
        if (put)
            sbuf_addf(&rq, "Content-Length: %zu\r\n", l->bytes);
        sbuf_adds(&rq, "\r\n");
        struct iovec v[2] = {{rq.p, rq.n}, {body, put ? l->bytes : 0}};
        if (writev(fd, v, 2) != (ssize_t)(v[0].iov_len + v[1].iov_len) || read_answer(fd) != 200)
            l->failed++;
        sbuf_free(&rq);
    }
    close(fd);
    free(body);
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 2;
    struct load *loads = xcalloc((size_t)threads, sizeof *loads);
    pthread_t *ids = xcalloc((size_t)threads, sizeof *ids);
    long failed = 0;

    if (argc < 2) {
        fputs("usage: ossd_load PORT [threads [requests-of-each [bytes [PUT|GET [V4|none]]]]]\n", stderr);
        return 1;
    }
    double start = now();
    for (int i = 0; i < threads; i++) {
        loads[i] = (struct load){.port = atoi(argv[1]),
                                 .number = i,
                                 .requests = argc > 3 ? atol(argv[3]) : 10000,
                                 .bytes = argc > 4 ? strtoul(argv[4], NULL, 10) : 4096,
                                 .method = argc > 5 ? argv[5] : "PUT",
                                 .sign = argc <= 6 || strcmp(argv[6], "none")};
        pthread_create(&ids[i], NULL, run, &loads[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        failed += loads[i].failed;
    }
    double seconds = now() - start;
    printf("%ld requests in %.3f s: %.0f a second, %ld failed\n", loads[0].requests * threads, seconds,
           (double)(loads[0].requests * threads) / seconds, failed);
    free(loads);
    free(ids);
    return failed != 0;
}
