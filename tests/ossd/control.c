/* control.c: see control.h. */
#include "control.h"

#include "crc.h"
#include "json.h"
#include "ops.h"
#include "server.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_MAX (1u << 30)

struct control {
    struct server *server;
    struct MHD_Daemon *daemon;
};

struct call {
    struct server *server;
    struct MHD_Connection *connection;
    bool begun;
    struct sbuf body;
    struct pairs members; /* of a JSON body */
    struct sbuf key;
    bool has_key;
    struct sbuf out;
    int status;
    const char *type;
};

static void fail(struct call *call, const char *why)
{
    call->status = 400;
    call->out.n = 0;
    sbuf_adds(&call->out, "{\"error\":");
    escape_json(&call->out, (struct bytes){why, strlen(why)});
    sbuf_adds(&call->out, "}\n");
}

static void done(struct call *call)
{
    sbuf_adds(&call->out, "{\"ok\":true}\n");
}

static const char *query(struct call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, name);
}

static const char *header(struct call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

static uint64_t query_number(struct call *call, const char *name)
{
    uint64_t v = 0;

    parse_u64(query(call, name), &v);
    return v;
}

static struct bytes call_key(const struct call *call)
{
    return (struct bytes){call->key.p, call->key.n};
}

/* ----------------------------------------------------------------------------------- looking at requests */

static void get_counters(struct call *call)
{
    stats_counters_json(call->server->stats, &call->out);
}

static void post_reset(struct call *call)
{
    stats_reset(call->server->stats);
    done(call);
}

static void get_log(struct call *call)
{
    stats_log_json(call->server->stats, query_number(call, "since"), query_number(call, "limit"), &call->out);
}

/* ------------------------------------------------------------------------------------------------ faults */

static void get_faults(struct call *call)
{
    faults_json(call->server->faults, &call->out);
}

static void delete_faults(struct call *call)
{
    faults_clear(call->server->faults);
    done(call);
}

static bool known_op(const char *name)
{
    if (strcmp(name, "*") == 0)
        return true;
    for (int i = 0; i < OPS; i++)
        if (strcmp(ops[i].name, name) == 0)
            return true;
    return false;
}

static void post_faults(struct call *call)
{
    struct pairs *m = &call->members;
    const char *op = json_text(m, "op", "*"), *key = json_text(m, "key", "");
    const char *code = json_text(m, "code", "InternalError");
    struct fault f = {.skip = json_int(m, "skip", 0),
                      .count = json_int(m, "count", 1),
                      .action = fault_action_parse(json_text(m, "action", "")),
                      .mode = garbage_parse(json_text(m, "mode", "text")),
                      .ms = json_int(m, "ms", 0),
                      .bandwidth = (uint64_t)json_int(m, "bandwidth", 0),
                      .bytes = (uint64_t)json_int(m, "bytes", 0)};

    f.status = (int)json_int(m, "status", f.action == FAULT_STATUS ? 500 : 0);
    if (f.action == FAULT_NONE || f.mode == GARBAGE_MODES || !known_op(op)) {
        fail(call, "op, action or mode is not known");
        return;
    }
    if (f.status && (f.status < 200 || f.status > 599)) {
        fail(call, "the status is out of range");
        return;
    }
    if (strlen(key) >= sizeof f.key || strlen(code) >= sizeof f.code) {
        fail(call, "key or code is too long");
        return;
    }
    snprintf(f.op, sizeof f.op, "%s", op);
    snprintf(f.key, sizeof f.key, "%s", key);
    snprintf(f.code, sizeof f.code, "%s", code);
    sbuf_addf(&call->out, "{\"id\":%llu}\n", (unsigned long long)faults_add(call->server->faults, &f));
}

static void post_latency(struct call *call)
{
    struct server *s = call->server;

    s->latency_ms = json_int(&call->members, "ms", s->latency_ms);
    s->bandwidth = (uint64_t)json_int(&call->members, "bandwidth", (int64_t)s->bandwidth);
    done(call);
}

static void post_outage(struct call *call)
{
    call->server->outage = json_bool(&call->members, "on", true);
    if (call->server->outage)
        server_drop_connections(call->server);
    done(call);
}

static void post_drop(struct call *call)
{
    server_drop_connections(call->server);
    done(call);
}

static void post_clock(struct call *call)
{
    int64_t now = json_int(&call->members, "now", -1);

    call->server->clock_offset = now >= 0 ? now - (int64_t)time(NULL) : json_int(&call->members, "offset", 0);
    done(call);
}

static void post_keyrotate(struct call *call)
{
    const char *id = json_text(&call->members, "id", ""), *secret = json_text(&call->members, "secret", "");

    if (!*id) {
        fail(call, "id is missing");
        return;
    }
    auth_set_key(call->server->auth, id, secret, json_text(&call->members, "token", NULL),
                 json_bool(&call->members, "expired", false), json_int(&call->members, "life_ms", 0));
    done(call);
}

/* ------------------------------------------------------------------------------------------------- store */

static void add_hex(struct sbuf *out, struct bytes s)
{
    char *hex = xmalloc(2 * s.n + 1);

    hex_lower(hex, s.p, s.n);
    sbuf_addf(out, "\"%s\"", hex);
    free(hex);
}

static void add_member(struct sbuf *out, const char *name, const char *value)
{
    sbuf_addf(out, ",\"%s\":", name);
    escape_json(out, (struct bytes){value, strlen(value)});
}

static void add_object(struct sbuf *out, const struct object *o)
{
    const char *name, *value = NULL, *comma = "";

    sbuf_adds(out, "{\"key\":");
    escape_json(out, o->key);
    sbuf_adds(out, ",\"key_hex\":");
    add_hex(out, o->key);
    sbuf_addf(out, ",\"size\":%llu,\"crc64\":\"%llu\",\"last_modified\":%lld,\"segments\":%zu",
              (unsigned long long)o->size, (unsigned long long)o->crc, (long long)o->mtime, o->n_segments);
    add_member(out, "etag", o->etag);
    add_member(out, "type", object_type_name(o->type));
    add_member(out, "acl", acl_name(o->acl));
    add_member(out, "tags", o->tags ? o->tags : "");
    if (o->target)
        add_member(out, "target", o->target);
    sbuf_adds(out, ",\"headers\":{");
    for (; (value = object_next_header(o, value, &name)); comma = ",") {
        sbuf_adds(out, comma);
        escape_json(out, (struct bytes){name, strlen(name)});
        sbuf_addc(out, ':');
        escape_json(out, (struct bytes){value, strlen(value)});
    }
    sbuf_adds(out, "}}");
}

static void get_objects(struct call *call)
{
    const char *bucket = query(call, "bucket"), *prefix = query(call, "prefix");
    struct sbuf after = {0};
    bool more = true, first = true;

    sbuf_addc(&call->out, '[');
    while (more) {
        struct store_list list = {.max = 1000};
        list.prefix = prefix ? (struct bytes){prefix, strlen(prefix)} : (struct bytes){"", 0};
        list.after = (struct bytes){after.p ? after.p : "", after.n};
        if (!bucket || store_list(call->server->store, bucket, &list)) {
            store_list_free(&list);
            sbuf_free(&after);
            fail(call, "no such bucket");
            return;
        }
        for (size_t i = 0; i < list.n_objects; i++, first = false) {
            sbuf_adds(&call->out, first ? "" : ",\n");
            add_object(&call->out, list.objects[i]);
        }
        more = list.truncated;
        after.n = 0;
        sbuf_add(&after, list.last.p, list.last.n);
        store_list_free(&list);
    }
    sbuf_adds(&call->out, "]\n");
    sbuf_free(&after);
}

static void add_upload(struct sbuf *out, struct store *store, struct upload *u)
{
    struct part **parts;
    size_t n = store_upload_parts(store, u, &parts);

    sbuf_adds(out, "{\"key\":");
    escape_json(out, u->model->key);
    sbuf_adds(out, ",\"key_hex\":");
    add_hex(out, u->model->key);
    sbuf_addf(out, ",\"id\":\"%s\",\"initiated\":%lld,\"parts\":[", u->id, (long long)u->initiated);
    for (size_t i = 0; i < n; i++)
        sbuf_addf(out, "%s{\"number\":%d,\"size\":%llu,\"etag\":\"%s\",\"crc64\":\"%llu\"}", i ? "," : "",
                  parts[i]->number, (unsigned long long)parts[i]->size, parts[i]->etag,
                  (unsigned long long)parts[i]->crc);
    sbuf_adds(out, "]}");
    parts_free(parts, n);
}

static void get_uploads(struct call *call)
{
    const char *bucket = query(call, "bucket");
    struct store_upload_list list = {.max = 100000};

    list.prefix = list.delimiter = list.key_marker = (struct bytes){"", 0};
    if (!bucket || store_list_uploads(call->server->store, bucket, &list)) {
        store_upload_list_free(&list);
        fail(call, "no such bucket");
        return;
    }
    sbuf_addc(&call->out, '[');
    for (size_t i = 0; i < list.n_uploads; i++) {
        sbuf_adds(&call->out, i ? ",\n" : "");
        add_upload(&call->out, call->server->store, list.uploads[i]);
    }
    sbuf_adds(&call->out, "]\n");
    store_upload_list_free(&list);
}

static void get_object(struct call *call)
{
    const char *bucket = query(call, "bucket");
    struct object *o = bucket && call->has_key ? store_get(call->server->store, bucket, call_key(call)) : NULL;
    ssize_t got = 0;

    if (!o) {
        fail(call, "no such object");
        call->status = 404;
        return;
    }
    struct reader *reader = reader_new(o->segments, o->n_segments);
    sbuf_reserve(&call->out, o->size);
    while (call->out.n < o->size &&
           (got = reader_read(reader, call->out.n, call->out.p + call->out.n, o->size - call->out.n)) > 0)
        call->out.n += (size_t)got;
    call->type = "application/octet-stream";
    if (got < 0)
        fail(call, "the object cannot be read");
    reader_free(reader);
    object_unref(o);
}

static void delete_object(struct call *call)
{
    const char *bucket = query(call, "bucket");

    if (!bucket || !call->has_key || store_remove(call->server->store, bucket, call_key(call)))
        fail(call, "no such bucket");
    else
        done(call);
}

static enum MHD_Result keep_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    static const char *const skipped[] = {"host",         "content-length", "connection",      "accept",
                                          "user-agent",   "expect",         "accept-encoding", "x-oss-object-acl",
                                          "x-oss-tagging"};
    char lower[256];

    (void)kind;
    snprintf(lower, sizeof lower, "%s", name);
    for (char *p = lower; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++)
        if (strcmp(lower, skipped[i]) == 0)
            return MHD_YES;
    if (strncmp(lower, "x-ossd-", 7))
        pairs_add(cls, lower, value ? value : "");
    return MHD_YES;
}

static void describe_planted(struct call *call, struct object *o)
{
    const char *type = header(call, "x-ossd-type"), *when = header(call, "x-ossd-last-modified");
    const char *acl = header(call, "x-oss-object-acl"), *target = header(call, "x-ossd-target");
    const char *etag = header(call, "x-ossd-etag"), *tags = header(call, "x-oss-tagging");
    struct pairs headers = {0};

    MHD_get_connection_values(call->connection, MHD_HEADER_KIND, keep_header, &headers);
    object_set_headers(o, &headers);
    pairs_free(&headers);
    o->mtime = when ? (time_t)strtoll(when, NULL, 10) : server_now(call->server);
    for (int i = OBJECT_NORMAL; type && i <= OBJECT_SYMLINK; i++)
        if (strcmp(type, object_type_name((enum object_type)i)) == 0)
            o->type = (enum object_type)i;
    if (target) {
        o->type = OBJECT_SYMLINK;
        o->target = xstrdup(target);
        o->size = strlen(target);
    }
    o->acl = acl && acl_parse(acl) != ACL_BAD ? acl_parse(acl) : ACL_DEFAULT;
    o->tags = tags ? xstrdup(tags) : NULL;
    if (etag)
        snprintf(o->etag, sizeof o->etag, "%s", etag);
}

/* An object of these bytes with the call's headers; NULL with *r when they cannot be stored. */
static struct object *planted(struct call *call, struct bytes key, struct bytes data, int *r)
{
    struct object *o = object_new(key);

    o->size = data.n;
    o->crc = crc_update(0, data.p, data.n);
    EVP_Digest(data.p, data.n, o->md5, NULL, EVP_md5(), NULL);
    ops_md5_etag(o->etag, o->md5);
    o->has_md5 = true;
    describe_planted(call, o);
    struct spool *spool = spool_new(store_blobs(call->server->store), data.n, o->type == OBJECT_APPENDABLE);
    *r = spool_write(spool, data.p, data.n);
    o->segments = xcalloc(1, sizeof *o->segments);
    if (!*r)
        *r = spool_end(spool, NULL, o->segments, NULL);
    o->n_segments = !*r;
    spool_free(spool);
    if (!*r)
        return o;
    object_unref(o);
    return NULL;
}

static void put_object(struct call *call)
{
    const char *bucket = query(call, "bucket");
    int r;

    if (!bucket || !call->has_key) {
        fail(call, "bucket or key is missing");
        return;
    }
    struct object *o =
        planted(call, call_key(call), (struct bytes){call->body.p ? call->body.p : "", call->body.n}, &r);
    if (o)
        r = store_put(call->server->store, bucket, o, NULL);
    if (r)
        fail(call, strerror(-r));
    else
        done(call);
}

/* The objects share the bytes of the first one. */
static int plant_many(struct call *call, const char *bucket, const char *prefix, struct bytes data)
{
    int64_t first = json_int(&call->members, "first", 0), count = json_int(&call->members, "count", 1);
    struct object *model;
    struct sbuf key = {0};
    int r;

    model = planted(call, (struct bytes){prefix, strlen(prefix)}, data, &r);
    for (int64_t i = first; model && i < first + count && !r; i++) {
        key.n = 0;
        sbuf_addf(&key, "%s%07lld", prefix, (long long)i);
        r = store_put(call->server->store, bucket, object_clone(model, (struct bytes){key.p, key.n}), NULL);
    }
    object_unref(model);
    sbuf_free(&key);
    return r;
}

static void post_plant(struct call *call)
{
    const char *bucket = json_text(&call->members, "bucket", ""), *prefix = json_text(&call->members, "prefix", "");
    int64_t size = json_int(&call->members, "size", 0);
    char *data;
    int r;

    if (size < 0 || size > 1 << 20) {
        fail(call, "the size is out of range");
        return;
    }
    data = xmalloc((size_t)size + 1);
    memset(data, 'x', (size_t)size);
    r = plant_many(call, bucket, prefix, (struct bytes){data, (size_t)size});
    free(data);
    if (r)
        fail(call, strerror(-r));
    else
        done(call);
}

static void get_bucket(struct call *call)
{
    struct bucket_info info;

    if (!query(call, "bucket") || store_bucket_info(call->server->store, query(call, "bucket"), &info))
        fail(call, "no such bucket");
    else
        sbuf_addf(&call->out, "{\"objects\":%llu,\"bytes\":%llu,\"uploads\":%llu}\n",
                  (unsigned long long)info.objects, (unsigned long long)info.bytes, (unsigned long long)info.uploads);
}

static void put_bucket(struct call *call)
{
    const char *bucket = query(call, "bucket");
    int r = bucket ? store_bucket_add(call->server->store, bucket, ACL_PRIVATE, server_now(call->server)) : -EINVAL;

    if (r)
        fail(call, strerror(-r));
    else
        done(call);
}

/* --------------------------------------------------------------------------------------------- dispatch */

static const struct route {
    const char *method, *path;
    void (*run)(struct call *call);
    bool json;
} routes[] = {
    {"GET", "/counters", get_counters, false},
    {"POST", "/reset", post_reset, false},
    {"GET", "/log", get_log, false},
    {"GET", "/faults", get_faults, false},
    {"POST", "/faults", post_faults, true},
    {"DELETE", "/faults", delete_faults, false},
    {"POST", "/latency", post_latency, true},
    {"POST", "/outage", post_outage, true},
    {"POST", "/drop", post_drop, false},
    {"POST", "/clock", post_clock, true},
    {"POST", "/keyrotate", post_keyrotate, true},
    {"GET", "/objects", get_objects, false},
    {"GET", "/uploads", get_uploads, false},
    {"GET", "/object", get_object, false},
    {"DELETE", "/object", delete_object, false},
    {"PUT", "/object", put_object, false},
    {"POST", "/plant", post_plant, true},
    {"GET", "/bucket", get_bucket, false},
    {"PUT", "/bucket", put_bucket, false},
};

static void dispatch(struct call *call, const char *method, const char *path)
{
    const char *key = query(call, "key"), *hex = query(call, "key_hex");

    call->has_key = key || hex;
    sbuf_adds(&call->key, key && !hex ? key : "");
    sbuf_adds(&call->out, "");
    if (hex && !hex_decode(&call->key, hex)) {
        fail(call, "key_hex is not hexadecimal");
        return;
    }
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].method, method) || strcmp(routes[i].path, path))
            continue;
        if (routes[i].json &&
            !json_read((struct bytes){call->body.p ? call->body.p : "", call->body.n}, &call->members))
            fail(call, "the body is not a flat JSON object");
        else
            routes[i].run(call);
        return;
    }
    fail(call, "no such call");
    call->status = 404;
}

static enum MHD_Result answer(struct call *call)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(call->out.n, call->out.p, MHD_RESPMEM_MUST_FREE);

    call->out = (struct sbuf){0};
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", call->type);
    enum MHD_Result r = MHD_queue_response(call->connection, (unsigned)call->status, response);
    MHD_destroy_response(response);
    return r;
}

static enum MHD_Result on_call(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *data, size_t *size, void **context)
{
    struct control *control = cls;
    struct call *call = *context;

    (void)version;
    if (!call) {
        *context = call = xcalloc(1, sizeof *call);
        call->server = control->server;
        call->connection = connection;
        call->status = 200;
        call->type = "application/json";
        return MHD_YES;
    }
    if (*size) {
        if (call->body.n + *size > BODY_MAX)
            return MHD_NO;
        sbuf_add(&call->body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    dispatch(call, method, url);
    return answer(call);
}

static void on_call_completed(void *cls, struct MHD_Connection *connection, void **context,
                              enum MHD_RequestTerminationCode why)
{
    struct call *call = *context;

    (void)cls;
    (void)connection;
    (void)why;
    if (!call)
        return;
    *context = NULL;
    sbuf_free(&call->body);
    sbuf_free(&call->key);
    sbuf_free(&call->out);
    pairs_free(&call->members);
    free(call);
}

struct control *control_start(struct server *server, int *port)
{
    struct control *control = xcalloc(1, sizeof *control);
    int fd = server_listen(port);

    control->server = server;
    if (fd >= 0)
        control->daemon = MHD_start_daemon(
            MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, (uint16_t)*port, NULL,
            NULL, on_call, control, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_call_completed,
            NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(128 * 1024), MHD_OPTION_END);
    if (!control->daemon) {
        fprintf(stderr, "ossd: control port %d: %s\n", *port, fd < 0 ? strerror(errno) : "did not start");
        if (fd >= 0)
            close(fd);
        free(control);
        return NULL;
    }
    return control;
}

void control_stop(struct control *control)
{
    if (!control)
        return;
    MHD_stop_daemon(control->daemon);
    free(control);
}
