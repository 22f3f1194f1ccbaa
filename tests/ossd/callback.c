/* callback.c: see callback.h. */
#include "callback.h"

#include "json.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define HEADER_MAX (5u << 10)
#define ANSWER_MAX (1u << 20)

/* The members of the JSON object that the header holds in base64. */
static bool header_members(const char *value, struct pairs *members)
{
    char *text = xmalloc(HEADER_MAX + 1);
    int n = strlen(value) <= HEADER_MAX ? base64_decode(text, HEADER_MAX, value) : -1;
    bool good = n > 0 && json_read((struct bytes){text, (size_t)n}, members);

    free(text);
    return good;
}

bool callback_check(struct request *rq)
{
    const char *callback = request_header(rq, "x-oss-callback"), *var = request_header(rq, "x-oss-callback-var");
    struct pairs members = {0}, vars = {0};
    bool good = true;

    if (callback)
        good = header_members(callback, &members) && *json_text(&members, "callbackUrl", "") &&
               *json_text(&members, "callbackBody", "");
    if (good && var)
        good = callback && header_members(var, &vars);
    for (size_t i = 0; good && i < vars.n; i++)
        good = strncmp(vars.v[i].name, "x:", 2) == 0;
    pairs_free(&members);
    pairs_free(&vars);
    return good || reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-callback", NULL);
}

static void add_value(struct sbuf *out, const char *name, const struct request *rq, const struct object *object,
                      const struct pairs *vars)
{
    const char *type = object_header(object, "content-type"), *own = pairs_get(vars, name);

    if (strcmp(name, "bucket") == 0)
        sbuf_adds(out, rq->bucket);
    else if (strcmp(name, "object") == 0)
        escape_url(out, object->key, false);
    else if (strcmp(name, "etag") == 0)
        sbuf_adds(out, object->etag);
    else if (strcmp(name, "size") == 0)
        sbuf_addf(out, "%llu", (unsigned long long)object->size);
    else if (strcmp(name, "mimeType") == 0)
        sbuf_adds(out, type ? type : "");
    else if (own)
        sbuf_adds(out, own);
}

/* "a=${size}" with the values put in. */
static void fill_body(struct sbuf *out, const char *template, const struct request *rq, const struct object *object,
                      const struct pairs *vars)
{
    while (*template) {
        size_t n = strcspn(template, "}");
        char name[64];

        if (strncmp(template, "${", 2) == 0 && template[n] == '}' && n - 2 < sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)(n - 2), template + 2);
            add_value(out, name, rq, object, vars);
            template += n + 1;
        } else {
            sbuf_addc(out, *template ++);
        }
    }
}

/* A connection to "http://HOST[:PORT]/path", -1 when there is none; *path points into url. */
static int connect_to(const char *url, char host[128], const char **path)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(80)};
    const struct timeval limit = {.tv_sec = 5};
    char *colon;
    size_t n;
    int fd;

    if (strncasecmp(url, "http://", 7))
        return -1;
    n = strcspn(url + 7, "/");
    *path = url[7 + n] ? url + 7 + n : "/";
    snprintf(host, 128, "%.*s", (int)n, url + 7);
    char name[128];
    memcpy(name, host, sizeof name);
    if ((colon = strchr(name, ':'))) {
        *colon = '\0';
        at.sin_port = htons((uint16_t)atoi(colon + 1));
    }
    if (inet_pton(AF_INET, strcmp(name, "localhost") ? name : "127.0.0.1", &at.sin_addr) != 1)
        return -1;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* POSTs; true with the body of a 2xx answer. */
static bool ask(const char *url, const char *type, const struct sbuf *body, struct sbuf *answer)
{
    struct sbuf text = {0}, got = {0};
    char host[128], chunk[4096];
    const char *path, *head;
    int fd = connect_to(url, host, &path), status = 0;
    ssize_t n = 1;

    if (fd < 0)
        return false;
    sbuf_addf(&text, "POST %s HTTP/1.0\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", path, host,
              type, body->n);
    sbuf_add(&text, body->p, body->n);
    bool good = send(fd, text.p, text.n, MSG_NOSIGNAL) == (ssize_t)text.n;
    while (good && got.n < ANSWER_MAX && (n = recv(fd, chunk, sizeof chunk, 0)) > 0)
        sbuf_add(&got, chunk, (size_t)n);
    close(fd);
    sbuf_adds(&got, "");
    head = strstr(got.p, "\r\n\r\n");
    good = good && n == 0 && head && sscanf(got.p, "HTTP/%*s %d", &status) == 1 && status / 100 == 2;
    if (good)
        sbuf_add(answer, head + 4, got.n - (size_t)(head + 4 - got.p));
    sbuf_free(&text);
    sbuf_free(&got);
    return good;
}

void callback_run(struct request *rq, const struct object *object)
{
    const char *header = request_header(rq, "x-oss-callback"), *var = request_header(rq, "x-oss-callback-var");
    struct pairs members = {0}, vars = {0};
    struct sbuf body = {0}, answer = {0};

    if (!header)
        return;
    header_members(header, &members);
    if (var)
        header_members(var, &vars);
    sbuf_adds(&body, "");
    fill_body(&body, json_text(&members, "callbackBody", ""), rq, object, &vars);
    if (ask(json_text(&members, "callbackUrl", ""),
            json_text(&members, "callbackBodyType", "application/x-www-form-urlencoded"), &body, &answer)) {
        rq->reply.body.n = 0;
        sbuf_add(&rq->reply.body, answer.p, answer.n);
        reply_header(rq, "Content-Type", "application/json");
    } else {
        rq->reply.body.n = 0;
        reply_error_message(rq, 203, "CallbackFailed", "Error status : -1.", NULL);
    }
    sbuf_free(&body);
    sbuf_free(&answer);
    pairs_free(&members);
    pairs_free(&vars);
}
