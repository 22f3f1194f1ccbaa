/*
 * cred_metadata.c: the key of the RAM role of the machine, from the metadata service of ECS.
 *
 * The hardened way first: a token by PUT, which then goes with each question; a service without tokens is asked
 * without. Plain HTTP to a link-local address: no proxy, no redirect, small answers, short limits.
 */
#include "cred_source.h"

#include "base_buf.h"
#include "error.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METADATA_URL  "http://100.100.100.200"
#define TOKEN_PATH    "/latest/api/token"
#define ROLE_PATH     "/latest/meta-data/ram/security-credentials/"
#define TOKEN_TTL     "X-aliyun-ecs-metadata-token-ttl-seconds: 180"
#define TOKEN_HEADER  "X-aliyun-ecs-metadata-token: "
#define CONNECT_MS    3000L
#define WHOLE_MS      10000L
#define ANSWER_MAX    (64U << 10)
#define TOKEN_MAX     1024
#define URL_SPACE     1024
#define ROLE_NAME_MAX 128

struct session {
    CURL *curl;
    const atomic_bool *stop;
    struct buf answer;
    char token[sizeof(TOKEN_HEADER) + TOKEN_MAX]; /* the header, "" without */
    char why[CURL_ERROR_SIZE];
};

static size_t take_answer(char *data, size_t one, size_t n, void *arg)
{
    struct session *s = arg;

    return buf_add(&s->answer, data, one * n) < 0 ? 0 : n;
}

static int watch(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct session *s = arg;

    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return atomic_load(s->stop) ? 1 : 0;
}

static int prepare(struct session *s)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    s->curl = curl_easy_init();
    if (!s->curl)
        return -ENOMEM;
    curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(s->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(s->curl, CURLOPT_TIMEOUT_MS, WHOLE_MS);
    curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, s->why);
    curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(s->curl, CURLOPT_XFERINFODATA, s);
    curl_easy_setopt(s->curl, CURLOPT_NOPROGRESS, 0L);
    return 0;
}

/* One question. The HTTP status, or a negative errno. */
static int ask(struct session *s, const char *method, const char *url, const char *header)
{
    struct curl_slist *headers = NULL;
    long status = 0;
    CURLcode code;

    if (s->answer.data)
        explicit_bzero(s->answer.data, s->answer.size);
    buf_reset(&s->answer);
    s->why[0] = '\0';
    if (*header && !(headers = curl_slist_append(NULL, header)))
        return -ENOMEM;
    curl_easy_setopt(s->curl, CURLOPT_URL, url);
    curl_easy_setopt(s->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, headers);
    code = curl_easy_perform(s->curl);
    curl_easy_setopt(s->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return -ETIMEDOUT;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return -ECANCELED;
    return code == CURLE_OK ? (int)status : -EIO;
}

/* The one line of an answer, without what ends it; false when it is empty, longer, or no header could hold it. */
static bool one_line(const struct buf *answer, char *to, size_t size)
{
    size_t n = answer->len;

    while (n && (answer->data[n - 1] == '\n' || answer->data[n - 1] == '\r' || answer->data[n - 1] == ' '))
        n--;
    return answer->data && cred_field(to, size, answer->data, n);
}

/* -EIO: the service cannot be reached. Without a token it goes on. */
static int get_token(struct session *s, const char *base)
{
    char url[URL_SPACE];
    int status;

    snprintf(url, sizeof(url), "%s" TOKEN_PATH, base);
    status = ask(s, "PUT", url, TOKEN_TTL);
    strcpy(s->token, TOKEN_HEADER);
    if (status != 200 || !one_line(&s->answer, s->token + strlen(TOKEN_HEADER), TOKEN_MAX))
        s->token[0] = '\0';
    return status < 0 ? status : 0;
}

static int refused(struct session *s, int status, const char *url, struct oss_error *err)
{
    if (status < 0)
        return error_set(err, status, "ram_role: the metadata service %.100s cannot be asked: %s", url,
                         *s->why ? s->why : strerror(-status));
    return error_set(err, -EACCES, "ram_role: the metadata service answers %d to %.120s: %s", status, url,
                     status == 404 ? "check the name of the role, and that it is bound to this machine"
                                   : "check whether the role is bound to this machine");
}

/* The URL that answers with the key. */
static int key_url(struct session *s, const char *base, const char *role, char url[URL_SPACE], struct oss_error *err)
{
    char name[ROLE_NAME_MAX];
    int status;

    if (strncmp(role, "http://", 7) == 0) {
        snprintf(url, URL_SPACE, "%s", role);
        return 0;
    }
    if (strcmp(role, "auto") == 0) {
        snprintf(url, URL_SPACE, "%s" ROLE_PATH, base);
        status = ask(s, "GET", url, s->token);
        if (status != 200)
            return refused(s, status, url, err);
        if (!one_line(&s->answer, name, sizeof(name)))
            return error_set(err, -EIO,
                             "ram_role: the metadata service names no role, or several: give ram_role=NAME");
        role = name;
    }
    if (strspn(role, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != strlen(role))
        return error_set(err, -EINVAL, "ram_role: \"%.100s\" is no name of a role", role);
    snprintf(url, URL_SPACE, "%s" ROLE_PATH "%s", base, role);
    return 0;
}

int cred_metadata(const char *base, const char *role, const atomic_bool *stop, struct cred_found *out,
                  struct oss_error *err)
{
    struct session s = {.stop = stop, .answer = BUF_INIT(ANSWER_MAX)};
    struct oss_error why = {0};
    char url[URL_SPACE] = "";
    int status, r = prepare(&s);

    base = base ? base : METADATA_URL;
    if (r < 0) {
        error_set(err, r, "out of memory");
        goto out;
    }
    r = get_token(&s, base);
    if (r < 0) {
        r = refused(&s, r, base, err);
        goto out;
    }
    r = key_url(&s, base, role, url, err);
    if (r < 0)
        goto out;
    status = ask(&s, "GET", url, s.token);
    if (status != 200) {
        r = refused(&s, status, url, err);
        goto out;
    }
    r = cred_json(buf_str(&s.answer), s.answer.len, out, &why);
    if (r < 0)
        error_set(err, r, "ram_role: the answer of %.120s: %s", url, why.message);
out:
    if (s.curl)
        curl_easy_cleanup(s.curl);
    if (s.answer.data)
        explicit_bzero(s.answer.data, s.answer.size);
    explicit_bzero(s.token, sizeof(s.token));
    buf_free(&s.answer);
    return r;
}
