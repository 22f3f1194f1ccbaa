/*
 * ossd: an OSS-compatible server on this machine, for tests, demonstrations and offline work.
 *
 * It is strict (signatures, names, limits, checksums), counts requests, and breaks on demand. It shares no line with
 * the client. The map:
 *
 *   main.c      options, start and end          server.c   HTTP: from the wire to an operation
 *   ops*.c      the operations                  send.c     the answer on the wire, with its faults
 *   reply.c     errors and headers              auth.c     signatures V4 and V1
 *   s3.c        the same in the words of S3, for other people's programs
 *   store*.c    buckets, objects, uploads       blob.c     their bytes: memory, files, packs
 *   index.c     ordered map for listings        crc.c      CRC-64
 *   fault.c     what breaks, and when           stats.c    counters and the log of requests
 *   control.c   the second port (its header has the calls)  xml.c, json.c, util.c  texts
 */
#include "control.h"
#include "ops.h"
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <libxml/parser.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char usage[] =
    "usage: ossd [option]...\n"
    "  --memory              keep everything in memory (default)\n"
    "  --dir DIR, --store DIR  keep everything in DIR; it is there again at the next start\n"
    "  --port N              port of the bucket, 0: any (default)\n"
    "  --control-port N      port of the control calls, 0: any (default)\n"
    "  --bucket NAME         make this bucket; may be repeated (default: test-bucket)\n"
    "  --key ID:SECRET[:TOKEN]  accept this key; may be repeated (default: test:secret)\n"
    "  --no-auth             accept requests without a signature, or with any\n"
    "  --region REGION       (default: cn-test)\n"
    "  --cname HOST=BUCKET   a host that stands for a bucket; may be repeated\n"
    "  --tls CERT KEY        HTTPS, with these PEM files\n"
    "  --etag=md5|opaque     ETag of a PUT: the MD5 (default), or made from the CRC, which is faster\n"
    "  --appendable-copy=yes|no   whether appendable objects can be copied (default: yes)\n"
    "  --append-max=BYTES    largest appendable object (default: 5 GiB)\n"
    "  --copy-max=BYTES      largest CopyObject (default: 1 GiB)\n"
    "  --crc-header=yes|no|copies  whether replies carry x-oss-hash-crc64ecma; copies: not those about copied "
    "objects\n"
    "  --complete-delay=MS   CompleteMultipartUpload takes so long in the service\n"
    "  --restore-delay=MS    the restoration of an archived object takes so long\n"
    "  --body-timeout=MS     a body that stops coming for so long is answered RequestTimeout (default: 60000)\n"
    "  --versioning          the bucket says that it keeps versions (it does not)\n"
    "  --exit-with-stdin     end when standard input does\n"
    "  --write-port-file FILE  write \"PORT CONTROL-PORT\" to FILE once both are open\n"
    "All ports are on 127.0.0.1.\n";

struct setup {
    struct options options;
    struct pairs keys, buckets;
    bool ok, help;
};

static bool yes_or_no(const char *text, bool *out)
{
    *out = strcmp(text, "yes") == 0;
    return *out || strcmp(text, "no") == 0;
}

static bool number(const char *text, uint64_t max, uint64_t *out)
{
    return parse_u64(text, out) && *out <= max;
}

enum {
    OPT_MEMORY = 1,
    OPT_DIR,
    OPT_PORT,
    OPT_CONTROL,
    OPT_BUCKET,
    OPT_KEY,
    OPT_NO_AUTH,
    OPT_REGION,
    OPT_CNAME,
    OPT_TLS,
    OPT_ETAG,
    OPT_APPEND,
    OPT_APPEND_MAX,
    OPT_COPY_MAX,
    OPT_CRC,
    OPT_DELAY,
    OPT_RESTORE,
    OPT_BODY,
    OPT_VERSIONING,
    OPT_STDIN,
    OPT_PORT_FILE,
    OPT_HELP
};

static bool take_cname(struct options *o, const char *text)
{
    const char *is = strchr(text, '=');
    struct sbuf host = {0};

    if (!is)
        return false;
    sbuf_add(&host, text, (size_t)(is - text));
    pairs_set(&o->cnames, host.p, is + 1);
    sbuf_free(&host);
    return true;
}

static bool take_crc(struct options *o, const char *text)
{
    static const char *const names[] = {"yes", "no", "copies"};

    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            o->crc_header = (enum crc_header)i;
            return true;
        }
    return false;
}

/* The options that change what the service does. */
static bool take_behaviour(struct options *o, int option)
{
    uint64_t n = 0;
    bool good = true;

    switch (option) {
    case OPT_ETAG:
        o->opaque_etag = strcmp(optarg, "opaque") == 0;
        good = o->opaque_etag || strcmp(optarg, "md5") == 0;
        break;
    case OPT_APPEND:
        good = yes_or_no(optarg, &o->appendable_copy);
        break;
    case OPT_APPEND_MAX:
        good = parse_u64(optarg, &o->append_max);
        break;
    case OPT_COPY_MAX:
        good = parse_u64(optarg, &o->copy_max);
        break;
    case OPT_CRC:
        good = take_crc(o, optarg);
        break;
    case OPT_DELAY:
        good = number(optarg, 3600000, &n);
        o->complete_delay_ms = (int64_t)n;
        break;
    case OPT_RESTORE:
        good = number(optarg, 3600000, &n);
        o->restore_delay_ms = (int64_t)n;
        break;
    case OPT_BODY:
        good = number(optarg, 3600000, &n);
        o->body_timeout_ms = (int64_t)n;
        break;
    case OPT_VERSIONING:
        o->versioning = true;
        break;
    default:
        break;
    }
    return good;
}

/* `argv` is where the second value of --tls is found. */
static bool take_option(struct setup *setup, int option, char **argv)
{
    struct options *o = &setup->options;
    uint64_t n = 0;
    bool good = true;

    switch (option) {
    case OPT_MEMORY:
        o->dir = NULL;
        break;
    case OPT_DIR:
        o->dir = optarg;
        break;
    case OPT_PORT:
        good = number(optarg, 65535, &n);
        o->port = (int)n;
        break;
    case OPT_CONTROL:
        good = number(optarg, 65535, &n);
        o->control_port = (int)n;
        break;
    case OPT_BUCKET:
        good = ops_bucket_name_legal(optarg);
        pairs_add(&setup->buckets, optarg, "");
        break;
    case OPT_KEY:
        good = strchr(optarg, ':') != NULL;
        pairs_add(&setup->keys, optarg, "");
        break;
    case OPT_NO_AUTH:
        o->no_auth = true;
        break;
    case OPT_REGION:
        o->region = optarg;
        break;
    case OPT_CNAME:
        good = take_cname(o, optarg);
        break;
    case OPT_TLS:
        o->certificate = optarg;
        o->certificate_key = argv[optind] ? argv[optind++] : NULL;
        good = o->certificate_key != NULL;
        break;
    case OPT_STDIN:
        o->exit_with_stdin = true;
        break;
    case OPT_PORT_FILE:
        o->port_file = optarg;
        break;
    case OPT_HELP:
        setup->help = true;
        break;
    case '?':
        return false;
    default:
        good = take_behaviour(o, option);
    }
    if (!good)
        fprintf(stderr, "ossd: the value \"%s\" is not valid\n", optarg);
    return good;
}

static bool read_options(struct setup *setup, int argc, char **argv)
{
    static const struct option table[] = {{"memory", no_argument, NULL, OPT_MEMORY},
                                          {"dir", required_argument, NULL, OPT_DIR},
                                          {"store", required_argument, NULL, OPT_DIR},
                                          {"port", required_argument, NULL, OPT_PORT},
                                          {"control-port", required_argument, NULL, OPT_CONTROL},
                                          {"bucket", required_argument, NULL, OPT_BUCKET},
                                          {"key", required_argument, NULL, OPT_KEY},
                                          {"no-auth", no_argument, NULL, OPT_NO_AUTH},
                                          {"region", required_argument, NULL, OPT_REGION},
                                          {"cname", required_argument, NULL, OPT_CNAME},
                                          {"tls", required_argument, NULL, OPT_TLS},
                                          {"etag", required_argument, NULL, OPT_ETAG},
                                          {"appendable-copy", required_argument, NULL, OPT_APPEND},
                                          {"append-max", required_argument, NULL, OPT_APPEND_MAX},
                                          {"copy-max", required_argument, NULL, OPT_COPY_MAX},
                                          {"crc-header", required_argument, NULL, OPT_CRC},
                                          {"complete-delay", required_argument, NULL, OPT_DELAY},
                                          {"restore-delay", required_argument, NULL, OPT_RESTORE},
                                          {"body-timeout", required_argument, NULL, OPT_BODY},
                                          {"versioning", no_argument, NULL, OPT_VERSIONING},
                                          {"exit-with-stdin", no_argument, NULL, OPT_STDIN},
                                          {"write-port-file", required_argument, NULL, OPT_PORT_FILE},
                                          {"help", no_argument, NULL, OPT_HELP},
                                          {NULL, 0, NULL, 0}};
    int option;

    setup->options = (struct options){.region = "cn-test",
                                      .appendable_copy = true,
                                      .append_max = 5ull << 30,
                                      .copy_max = 1ull << 30,
                                      .body_timeout_ms = 60000};
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
        if (!take_option(setup, option, argv))
            return false;
    if (optind != argc) {
        fprintf(stderr, "ossd: unexpected argument \"%s\"\n", argv[optind]);
        return false;
    }
    if (!setup->keys.n)
        pairs_add(&setup->keys, "test:secret", "");
    if (!setup->buckets.n)
        pairs_add(&setup->buckets, "test-bucket", "");
    return true;
}

static void add_keys(struct auth *auth, const struct pairs *keys)
{
    for (size_t i = 0; i < keys->n; i++) {
        char *id = xstrdup(keys->v[i].name), *secret = strchr(id, ':');
        *secret++ = '\0';
        char *token = strchr(secret, ':');
        if (token)
            *token++ = '\0';
        auth_set_key(auth, id, secret, token, false, 0);
        free(id);
    }
}

static bool add_buckets(struct server *server, const struct pairs *buckets)
{
    for (size_t i = 0; i < buckets->n; i++) {
        int r = store_bucket_add(server->store, buckets->v[i].name, ACL_PRIVATE, server_now(server));
        if (r && r != -EEXIST) {
            fprintf(stderr, "ossd: bucket %s: %s\n", buckets->v[i].name, strerror(-r));
            return false;
        }
    }
    return true;
}

/* Beside and renamed, so that who waits for the file never reads half of it. */
static bool write_port_file(const char *path, int port, int control_port)
{
    struct sbuf beside = {0};
    bool good = false;

    sbuf_addf(&beside, "%s.new", path);
    FILE *f = fopen(beside.p, "we");
    if (f) {
        good = fprintf(f, "%d %d\n", port, control_port) > 0;
        good = fclose(f) == 0 && good && rename(beside.p, path) == 0;
    }
    if (!good)
        fprintf(stderr, "ossd: %s: %s\n", path, strerror(errno));
    sbuf_free(&beside);
    return good;
}

/* Until SIGTERM or SIGINT, or the end of standard input when that was asked for. */
static void wait_for_end(int signals, bool with_stdin)
{
    struct pollfd p[2] = {{.fd = signals, .events = POLLIN}, {.fd = with_stdin ? 0 : -1, .events = POLLIN}};
    char text[256];

    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return;
        if (p[0].revents)
            return;
        if (p[1].revents && read(0, text, sizeof text) <= 0)
            return;
    }
}

static bool serve(struct server *server, const struct setup *setup, int signals)
{
    int control_port = server->options.control_port;
    struct control *control = NULL;
    bool good = add_buckets(server, &setup->buckets) && server_start(server);

    if (good) {
        control = control_start(server, &control_port);
        good = control &&
               (!server->options.port_file || write_port_file(server->options.port_file, server->port, control_port));
    }
    if (good) {
        printf("ossd listening %s://127.0.0.1:%d control http://127.0.0.1:%d\n", server->scheme, server->port,
               control_port);
        fflush(stdout);
        wait_for_end(signals, server->options.exit_with_stdin);
    }
    control_stop(control);
    server_stop(server);
    return good;
}

static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct setup setup = {0};
    struct server server = {0};
    char error[512];
    sigset_t signals;
    bool good = read_options(&setup, argc, argv);

    if (!good || setup.help) {
        fputs(usage, setup.help ? stdout : stderr);
        goto out;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* before any thread */
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    xmlInitParser();
    int fd = signalfd(-1, &signals, SFD_CLOEXEC);
    server.options = setup.options;
    server.store = store_open(setup.options.dir, error, sizeof error);
    if (!server.store) {
        fprintf(stderr, "ossd: %s\n", error);
        good = false;
        goto out;
    }
    server.auth = auth_new(setup.options.region);
    add_keys(server.auth, &setup.keys);
    server.faults = faults_new();
    server.stats = stats_new(ops_names(), OPS);
    good = serve(&server, &setup, fd);
    store_close(server.store);
    auth_free(server.auth);
    faults_free(server.faults);
    stats_free(server.stats);
    close(fd);
    xmlCleanupParser();
out:
    pairs_free(&setup.keys);
    pairs_free(&setup.buckets);
    pairs_free(&setup.options.cnames);
    return good ? 0 : 1;
}
