#include "options.h"

#include "../oss/base_log.h"
#include "../oss/oss.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#ifndef OSSMOUNT_VERSION
#define OSSMOUNT_VERSION "unknown"
#endif

#define MB 1048576

#define AT(member) offsetof(struct options, member)

/* clang-format off */
static const struct option_spec table[] = {
    {"url", OPTION_TEXT, "", 0, 0, 1, NULL, "URL",
     "endpoint, as https://oss-cn-hangzhou.aliyuncs.com; without a scheme https; made from region= when left out",
     AT(url)},
    {"region", OPTION_TEXT, "", 0, 0, 1, NULL, "ID",
     "region that requests are signed for, as cn-hangzhou; needed when the endpoint does not name it", AT(region)},
    {"passwd_file", OPTION_PATH, "", 0, 0, 1, NULL, "FILE",
     "access key, lines [bucket:]id:secret or the file of ossutil, mode 600; else the environment, ~/.passwd-ossfs, "
     "~/.ossutilconfig, /etc/passwd-ossfs",
     AT(passwd_file)},
    {"ram_role", OPTION_TEXT, "", 0, 0, 1, NULL, "ROLE",
     "access key of this ECS machine's RAM role (its name, or auto) from the metadata service, renewed before it expires",
     AT(ram_role)},
    {"metadata_url", OPTION_TEXT, "", 0, 0, 1, NULL, "URL",
     "the metadata service that ram_role asks, instead of http://100.100.100.200", AT(metadata_url)},
    {"credential_process", OPTION_TEXT, "", 0, 0, 1, NULL, "PROGRAM",
     "access key from a program (absolute path, arguments behind blanks; no shell) that writes it in JSON; run again before "
     "it expires",
     AT(credential_process)},
    {"public_bucket", OPTION_FLAG, "", 0, 0, 1, "no", NULL,
     "without an access key, as anybody may: for buckets whose ACL is public", AT(public_bucket)},
    {"sigv1", OPTION_FLAG, "", 0, 0, 1, "no", NULL, "sign with version 1 instead of 4", AT(sigv1)},
    {"use_path_request_style", OPTION_FLAG, "", 0, 0, 1, "no", NULL,
     "ask for ENDPOINT/BUCKET/KEY, as servers other than the public service may need", AT(use_path_request_style)},
    {"cname", OPTION_FLAG, "", 0, 0, 1, "no", NULL, "url is a domain of one's own that is bound to the bucket",
     AT(cname)},
    {"cacert", OPTION_PATH, "", 0, 0, 1, NULL, "FILE", "trusted certificates (PEM) instead of the system's",
     AT(cacert)},
    {"ro", OPTION_FLAG, "", 0, 0, 1, "no", NULL, "mount read-only (rw: the opposite)", AT(read_only)},
    {"allow_other", OPTION_FLAG, "", 0, 0, 1, "no", NULL,
     "let other users in too, as far as the modes of the files allow", AT(allow_other)},
    {"uid", OPTION_COUNT, "", 0, UINT32_MAX - 1, 1, NULL, "N",
     "owner of what carries no owner; the mounting user when left out", AT(uid)},
    {"gid", OPTION_COUNT, "", 0, UINT32_MAX - 1, 1, NULL, "N",
     "group of what carries no group; the mounting user's when left out", AT(gid)},
    {"umask", OPTION_OCTAL, "", 0, 0777, 1, "022", "NNN",
     "permission bits (octal) taken from what carries no mode", AT(umask)},
    {"stat_cache_expire", OPTION_COUNT, "s", 0, 31536000, 1000, "60", "N",
     "how long a listing or an attribute is believed before the bucket is asked again", AT(stat_cache_expire)},
    {"max_inodes", OPTION_COUNT, "", 100, INT64_C(1) << 32, 1, "200000", "N",
     "above so many names that it knows, the kernel is asked to forget those that nobody uses", AT(max_inodes)},
    {"attributes", OPTION_TEXT, "", 0, 0, 1, "full", "full|listing",
     "listing: no object carries modes, owners or times, so a listing tells all and no HEAD is sent", AT(attributes)},
    {"excl", OPTION_TEXT, "", 0, 0, 1, "host", "host|strict",
     "O_EXCL holds on this host, or strict: among all hosts, by an empty PUT at once that replaces nothing", AT(excl)},
    {"cache_dir", OPTION_PATH, "", 0, 0, 1, NULL, "DIR",
     "where unsent and cached data lives; else /var/lib/ossmount (root), ~/.local/state/ossmount", AT(cache_dir)},
    {"cache_size", OPTION_COUNT, "MB", 0, INT64_C(1) << 40, MB, "0", "N",
     "most that the cache may take; 0: a tenth of the disk, at most 10 GiB", AT(cache_size)},
    {"free_space", OPTION_COUNT, "percent", 0, 99, 1, "10", "N", "part of the disk that the cache leaves free",
     AT(free_space)},
    {"multipart_threshold", OPTION_COUNT, "MB", 1, 5120, MB, "10", "N",
     "a larger file is uploaded in parts, up to this size in one request", AT(multipart_threshold)},
    {"multipart_size", OPTION_COUNT, "MB", 1, 5120, MB, "10", "N",
     "size of a part; doubled as often as a file would need more than 10,000", AT(multipart_size)},
    {"append_flush", OPTION_COUNT, "s", 0, 86400, 1000, "5", "N",
     "what was appended to a file that stays open is sent after so long; 0: only when it is closed or synced",
     AT(append_flush)},
    {"parallel_count", OPTION_COUNT, "", 1, 100, 1, "5", "N", "transfers at the same time", AT(parallel_count)},
    {"retries", OPTION_COUNT, "", 0, 100, 1, "5", "N", "how often a failed request is tried again", AT(retries)},
    {"connect_timeout", OPTION_COUNT, "s", 1, 3600, 1000, "10", "N", "limit for making a connection",
     AT(connect_timeout)},
    {"readwrite_timeout", OPTION_COUNT, "s", 1, 3600, 1000, "60", "N",
     "a transfer in which no byte moves for so long is broken off and tried again", AT(readwrite_timeout)},
    {"metadata_deadline", OPTION_COUNT, "s", 1, 86400, 1000, "30", "N",
     "limit for a request without data, all its tries together", AT(metadata_deadline)},
    {"transfer_deadline", OPTION_COUNT, "s", 1, 86400, 1000, "60", "N",
     "a transfer is not tried again when no byte has moved for so long", AT(transfer_deadline)},
    {"enable_crc64", OPTION_FLAG, "", 0, 0, 1, "yes", "yes|no",
     "check every upload and whole download by CRC-64", AT(enable_crc64)},
    {"keep_acl", OPTION_FLAG, "", 0, 0, 1, "yes", "yes|no",
     "carry the ACL of an object over when it is changed (one more request, once for each object)", AT(keep_acl)},
    {"upload", OPTION_TEXT, "", 0, 0, 1, "close", "close|background",
     "when a file is sent: close() and fsync() wait for the bucket, or only for the local disk", AT(upload)},
    {"upload_delay", OPTION_COUNT, "s", 0, 3600, 1000, "1", "N",
     "with upload=background: how long after the close; a file removed or renamed before costs no upload",
     AT(upload_delay)},
    {"defer_temp", OPTION_FLAG, "", 0, 0, 1, "no", NULL,
     "a new file with a name like .name.XXXXXX (rsync, mktemp) is sent when it is renamed, not when it is closed",
     AT(defer_temp)},
    {"content_type", OPTION_TEXT, "", 0, 0, 1, NULL, "TYPE", "Content-Type of new files instead of the one by suffix",
     AT(content_type)},
    {"cache_control", OPTION_TEXT, "", 0, 0, 1, NULL, "TEXT", "Cache-Control of uploads", AT(cache_control)},
    {"content_disposition", OPTION_TEXT, "", 0, 0, 1, NULL, "TEXT", "Content-Disposition of uploads",
     AT(content_disposition)},
    {"content_encoding", OPTION_TEXT, "", 0, 0, 1, NULL, "TEXT", "Content-Encoding of uploads (nothing is encoded by it)",
     AT(content_encoding)},
    {"content_language", OPTION_TEXT, "", 0, 0, 1, NULL, "TEXT", "Content-Language of uploads", AT(content_language)},
    {"expires", OPTION_TEXT, "", 0, 0, 1, NULL, "DATE", "Expires of uploads, as 2030-01-31T00:00:00Z", AT(expires)},
    {"storage_class", OPTION_TEXT, "", 0, 0, 1, NULL, "CLASS",
     "storage class of uploads: Standard, IA, Archive, ColdArchive or DeepColdArchive; else the bucket's", AT(storage_class)},
    {"acl", OPTION_TEXT, "", 0, 0, 1, NULL, "ACL",
     "ACL of new objects: default, private, public-read or public-read-write; that of an existing one stays", AT(acl)},
    {"sse", OPTION_TEXT, "", 0, 0, 1, NULL, "METHOD", "server-side encryption of uploads: AES256, KMS or SM4", AT(sse)},
    {"sse_data", OPTION_TEXT, "", 0, 0, 1, NULL, "METHOD", "with sse=KMS: the data's algorithm, SM4", AT(sse_data)},
    {"sse_key_id", OPTION_TEXT, "", 0, 0, 1, NULL, "ID", "with sse=KMS: the key's id", AT(sse_key_id)},
    {"tagging", OPTION_TEXT, "", 0, 0, 1, NULL, "TAGS", "tags of uploads: key=value&key=value, URL-escaped, at most 10",
     AT(tagging)},
    {"meta", OPTION_TEXT, "", 0, 0, 1, NULL, "PAIRS", "user metadata of uploads: name=value;name=value", AT(meta)},
    {"callback", OPTION_TEXT, "", 0, 0, 1, NULL, "BASE64",
     "what the service calls after an upload, the base64 of the JSON", AT(callback)},
    {"callback_var", OPTION_TEXT, "", 0, 0, 1, NULL, "BASE64", "own variables of the callback, the base64 of the JSON",
     AT(callback_var)},
    {"callback_errors", OPTION_FLAG, "", 0, 0, 1, "no", NULL,
     "a close() whose object is stored but whose callback failed ends with EREMOTEIO; else it is only logged",
     AT(callback_errors)},
    {"forbid_overwrite", OPTION_TEXT, "", 0, 0, 1, NULL, "yes|no", "an upload never replaces an object (EEXIST)",
     AT(forbid_overwrite)},
    {"traffic_limit", OPTION_TEXT, "", 0, 0, 1, NULL, "N",
     "limit of each upload request at the service, bits per second, 819200 to 838860800", AT(traffic_limit)},
    {"headers", OPTION_PATH, "", 0, 0, 1, NULL, "FILE",
     "rules by path for the fields above, content_type to traffic_limit: lines GLOB field=value ...", AT(headers)},
    {"enable_content_md5", OPTION_FLAG, "", 0, 0, 1, "no", "yes|no", "send Content-MD5 with uploads too",
     AT(enable_content_md5)},
    {"dbglevel", OPTION_LEVEL, "", 0, 0, 1, "info", "LEVEL",
     "what is logged: critical, error, warning, info (a line for each upload) or debug; SIGUSR2 changes it",
     AT(dbglevel)},
    {"logfile", OPTION_PATH, "", 0, 0, 1, NULL, "FILE",
     "log here; else to stderr in the foreground and to syslog in the background", AT(logfile)},
};
/* clang-format on */
#define N_TABLE (sizeof(table) / sizeof(table[0]))

/* What mount(8), fstab and systemd add, and what becomes of it. */
static const struct generic {
    const char *name;
    enum { IGNORED, KERNEL, WRITABLE, REMOUNT } what;
} generic[] = {
    {"rw", WRITABLE},         {"auto", IGNORED},
    {"noauto", IGNORED},      {"user", IGNORED},
    {"users", IGNORED},       {"nouser", IGNORED},
    {"owner", IGNORED},       {"group", IGNORED},
    {"_netdev", IGNORED},     {"nofail", IGNORED},
    {"defaults", IGNORED},    {"relatime", IGNORED},
    {"atime", KERNEL},        {"noatime", KERNEL},
    {"dev", KERNEL},          {"nodev", KERNEL},
    {"suid", KERNEL},         {"nosuid", KERNEL},
    {"exec", KERNEL},         {"noexec", KERNEL},
    {"sync", IGNORED},        {"async", IGNORED},
    {"fsname", IGNORED},      {"subtype", IGNORED},
    {"comment", IGNORED},     {"default_permissions", IGNORED},
    {"remount", REMOUNT},     {"_rnetdev", IGNORED},
    {"silent", IGNORED},      {"loud", IGNORED},
    {"dirsync", IGNORED},     {"diratime", IGNORED},
    {"nodiratime", IGNORED},  {"norelatime", IGNORED},
    {"strictatime", IGNORED}, {"nostrictatime", IGNORED},
    {"lazytime", IGNORED},    {"nolazytime", IGNORED},
    {"mand", IGNORED},        {"nomand", IGNORED},
    {"iversion", IGNORED},    {"noiversion", IGNORED},
};
#define N_GENERIC (sizeof(generic) / sizeof(generic[0]))

/* Names under which people have tried to hand over a key, without '_', '-' and case. */
static const char *const secrets[] = {
    "ak",
    "sk",
    "accesskey",
    "accesskeyid",
    "accesskeysecret",
    "accessid",
    "secret",
    "secretkey",
    "secretaccesskey",
    "accesssecret",
    "keyid",
    "keysecret",
    "password",
    "passwd",
    "token",
    "ststoken",
    "securitytoken",
    "sessiontoken",
    "ossaccesskeyid",
    "ossaccesskeysecret",
    "osssessiontoken",
    "credentials",
};
#define N_SECRETS (sizeof(secrets) / sizeof(secrets[0]))

static const struct {
    const char *name;
    enum log_level level;
} levels[] = {
    {"critical", LOG_LEVEL_CRIT}, {"crit", LOG_LEVEL_CRIT}, {"error", LOG_LEVEL_ERR}, {"err", LOG_LEVEL_ERR},
    {"warning", LOG_LEVEL_WARN},  {"warn", LOG_LEVEL_WARN}, {"info", LOG_LEVEL_INFO}, {"information", LOG_LEVEL_INFO},
    {"debug", LOG_LEVEL_DEBUG},   {"dbg", LOG_LEVEL_DEBUG},
};

/* What a parse carries along. */
struct parse {
    struct options *o;
    bool helper; /* called by mount(8) as mount.SOMETHING */
    struct message *message;
};

const struct option_spec *options_table(size_t *n)
{
    *n = N_TABLE;
    return table;
}

/* ------------------------------------------------------------------------------------------------- names */

/* Edit distance of two short words; long ones count as far apart. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);

    if (n >= 64 || strlen(a) >= 64)
        return UINT_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned up = row[j];
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);

            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[n];
}

/* The name that was probably meant, NULL when none is near. */
static const char *nearest_name(const char *name)
{
    unsigned best = (unsigned)strlen(name) / 3 + 1;
    const char *found = NULL;

    for (size_t i = 0; i < N_TABLE + N_GENERIC; i++) {
        const char *candidate = i < N_TABLE ? table[i].name : generic[i - N_TABLE].name;
        unsigned d = distance(name, candidate);

        if (d <= best && d < strlen(candidate)) {
            best = d - (d > 0);
            found = candidate;
        }
    }
    return found;
}

static bool is_secret(const char *name)
{
    char plain[64];
    size_t n = 0;

    for (; *name && n + 1 < sizeof(plain); name++)
        if (*name != '_' && *name != '-')
            plain[n++] = *name;
    plain[n] = '\0';
    for (size_t i = 0; i < N_SECRETS; i++)
        if (strcasecmp(plain, secrets[i]) == 0)
            return true;
    return false;
}

static int unknown_name(const struct parse *p, const char *name)
{
    const char *near = nearest_name(name);

    /* A name with odd characters may be half of a secret that was split at a comma. */
    if (!*name || strlen(name) > 40 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name))
        return message_set(
            p->message, -EINVAL,
            "an option of -o has no name that is known (ossmount --help lists them; a value cannot hold "
            "a comma)");
    if (near)
        return message_set(p->message, -EINVAL,
                           "unknown option \"%s\": did you mean \"%s\"? (ossmount --help lists them all)", name,
                           near);
    return message_set(p->message, -EINVAL, "unknown option \"%s\" (ossmount --help lists them all)", name);
}

/* ------------------------------------------------------------------------------------------------ values */

static int set_text(char **field, const char *value)
{
    char *copy = strdup(value);

    if (!copy)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

/* A relative path becomes absolute without being resolved: the file may not exist yet. */
static int set_path(char **field, const char *value)
{
    char cwd[PATH_MAX];
    char *copy = NULL;

    if (*value == '/')
        return set_text(field, value);
    if (!getcwd(cwd, sizeof(cwd)))
        return -errno;
    if (asprintf(&copy, "%s/%s", cwd, value) < 0)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

static int set_flag(const struct parse *p, const struct option_spec *spec, bool *field, const char *value)
{
    static const char *const yes[] = {"yes", "on", "true", "1"}, *const no[] = {"no", "off", "false", "0"};

    if (!value) {
        *field = true;
        return 0;
    }
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
            *field = strcasecmp(value, yes[i]) == 0;
            return 0;
        }
    }
    return message_set(p->message, -EINVAL, "%s=%.40s: give %s, %s=yes or %s=no", spec->name, value, spec->name,
                       spec->name, spec->name);
}

static int set_number(const struct parse *p, const struct option_spec *spec, int64_t *field, const char *value)
{
    const bool octal = spec->type == OPTION_OCTAL;
    const char *digits = octal ? "01234567" : "0123456789";
    const char *format = octal ? "%s=%.40s: give an octal number from %03llo to %03llo%s%s"
                               : "%s=%.40s: give a whole number from %lld to %lld%s%s";
    long long number;

    errno = 0;
    number = strtoll(value, NULL, octal ? 8 : 10);
    if (!*value || strspn(value, digits) != strlen(value) || errno || number < spec->min || number > spec->max) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        return message_set(p->message, -EINVAL, format, spec->name, value, (long long)spec->min, (long long)spec->max,
                           *spec->unit ? ", in " : "", spec->unit);
#pragma GCC diagnostic pop
    }
    *field = number * spec->scale;
    return 0;
}

static int set_level(const struct parse *p, const struct option_spec *spec, int64_t *field, const char *value)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcasecmp(value, levels[i].name) == 0) {
            *field = levels[i].level;
            return 0;
        }
    }
    return message_set(p->message, -EINVAL, "%s=%.40s: give critical, error, warning, info or debug", spec->name,
                       value);
}

/* Sets the field of one option; `value` is NULL when there was no '='. */
static int set_option(const struct parse *p, const struct option_spec *spec, const char *value)
{
    void *field = (char *)p->o + spec->offset;

    if (spec->type != OPTION_FLAG && (!value || !*value))
        return message_set(p->message, -EINVAL, "%s needs a value: %s=%s", spec->name, spec->name, spec->argument);
    switch (spec->type) {
    case OPTION_TEXT:
        return set_text(field, value);
    case OPTION_PATH:
        return set_path(field, value);
    case OPTION_FLAG:
        return set_flag(p, spec, field, value);
    case OPTION_COUNT:
    case OPTION_OCTAL:
        return set_number(p, spec, field, value);
    case OPTION_LEVEL:
        return set_level(p, spec, field, value);
    }
    return -EINVAL;
}

static int set_defaults(const struct parse *p)
{
    int r = 0;

    for (size_t i = 0; i < N_TABLE && r == 0; i++)
        if (table[i].standard)
            r = set_option(p, &table[i], table[i].standard);
    return r;
}

/* ---------------------------------------------------------------------------------------------- -o a,b=c */

static int add_kernel(struct options *o, const char *name)
{
    char *joined = NULL;

    if (asprintf(&joined, "%s%s%s", o->kernel, *o->kernel ? "," : "", name) < 0)
        return -ENOMEM;
    free(o->kernel);
    o->kernel = joined;
    return 0;
}

/* 1 when `name` is none of the generic options. */
static int set_generic(const struct parse *p, const char *name)
{
    if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0)
        return 0;
    for (size_t i = 0; i < N_GENERIC; i++) {
        if (strcmp(name, generic[i].name) != 0)
            continue;
        if (generic[i].what == KERNEL)
            return add_kernel(p->o, name);
        if (generic[i].what == WRITABLE)
            p->o->read_only = false;
        if (generic[i].what == REMOUNT)
            return message_set(p->message, -EINVAL,
                               "a mount cannot be changed by remount: unmount it, and mount again");
        return 0;
    }
    return 1;
}

/* One "name" or "name=value"; `text` may be written to. */
static int one_option(const struct parse *p, char *text)
{
    char *value = strchr(text, '=');
    int r;

    if (!*text)
        return 0;
    if (value)
        *value++ = '\0';
    for (size_t i = 0; i < N_TABLE; i++) {
        if (strcmp(text, table[i].name) != 0)
            continue;
        r = set_option(p, &table[i], value);
        if (r == 0 && strcmp(text, "uid") == 0)
            p->o->uid_given = true;
        if (r == 0 && strcmp(text, "gid") == 0)
            p->o->gid_given = true;
        return r;
    }
    r = set_generic(p, text);
    if (r <= 0)
        return r;
    if (is_secret(text))
        return message_set(
            p->message, -EINVAL,
            "%s: an access key is not taken from the command line, where every process can read it: use "
            "passwd_file=FILE, or OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET in the environment",
            text);
    return unknown_name(p, text);
}

static int option_list(const struct parse *p, const char *text)
{
    char *copy = strdup(text), *rest = copy, *one;
    int r = copy ? 0 : -ENOMEM;

    while (r == 0 && (one = strsep(&rest, ",")))
        r = one_option(p, one);
    free(copy);
    return r;
}

/* ------------------------------------------------------------------------------------------- the arguments */

/* "a//b/" -> "a/b/"; refuses what could not be a path. */
static int set_prefix(const struct parse *p, const char *text)
{
    size_t n = strlen(text), at = 0;
    char *out;

    if (n + 1 > OSS_KEY_MAX)
        return message_set(p->message, -EINVAL, "the prefix behind ':' is longer than %d bytes", OSS_KEY_MAX - 1);
    out = malloc(n + 2);
    if (!out)
        return -ENOMEM;
    while (*text) {
        size_t part = strcspn(text, "/");

        if ((part == 1 && text[0] == '.') || (part == 2 && text[0] == '.' && text[1] == '.')) {
            free(out);
            return message_set(p->message, -EINVAL, "the prefix behind ':' may not hold \".\" or \"..\"");
        }
        if (part > 0) {
            memcpy(out + at, text, part);
            at += part;
            out[at++] = '/';
        }
        text += part + (text[part] == '/');
    }
    out[at] = '\0';
    free(p->o->prefix);
    p->o->prefix = out;
    return 0;
}

static int set_source(const struct parse *p, const char *text)
{
    const char *colon = strchr(text, ':');
    int r;

    if (strncmp(text, "oss://", 6) == 0 || strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0 ||
        (strchr(text, '/') && (!colon || strchr(text, '/') < colon)))
        return message_set(p->message, -EINVAL,
                           "\"%.80s\" is no bucket: give BUCKET or BUCKET:/PREFIX, and the endpoint as -o url=URL",
                           text);
    r = set_text(&p->o->source, text);
    if (r == 0)
        r = set_text(&p->o->bucket, text);
    if (r < 0)
        return r;
    if (colon)
        p->o->bucket[colon - text] = '\0';
    if (!*p->o->bucket)
        return message_set(p->message, -EINVAL, "no bucket before ':': give BUCKET or BUCKET:/PREFIX");
    return set_prefix(p, colon ? colon + 1 : "");
}

static int positional(const struct parse *p, const char *text)
{
    if (!p->o->source)
        return set_source(p, text);
    if (!p->o->mountpoint) {
        if (!*text)
            return message_set(p->message, -EINVAL, "the mountpoint is empty");
        return set_text(&p->o->mountpoint, text);
    }
    return message_set(p->message, -EINVAL,
                       "one argument too many: give BUCKET[:/PREFIX] and MOUNTPOINT, options behind -o");
}

/* A letter without a value. */
static int letter(const struct parse *p, char c)
{
    switch (c) {
    case 'f':
        *(p->helper ? &p->o->fake : &p->o->foreground) = true;
        return 0;
    case 's':
        p->o->single_thread |= !p->helper;
        return 0;
    case 'd':
        p->o->debug = true;
        return 0;
    case 'h':
        p->o->help = true;
        return 0;
    case 'V':
        p->o->version = true;
        return 0;
    case 'n':
    case 'v':
        if (p->helper)
            return 0;
        break;
    default:
        break;
    }
    return message_set(p->message, -EINVAL, "unknown option -%c (ossmount --help lists them all)", c);
}

/* One argument that begins with '-'; *i is moved on when the next argument is its value. */
static int dashed(const struct parse *p, int argc, char *const argv[], int *i)
{
    const char *a = argv[*i];

    if (a[1] == '-') {
        if (strcmp(a, "--help") == 0)
            return letter(p, 'h');
        if (strcmp(a, "--version") == 0)
            return letter(p, 'V');
        /* Only the name: a value could be a key. */
        return message_set(p->message, -EINVAL,
                           "unknown option %.*s (options are given as -o name=value; ossmount --help lists them)",
                           (int)strcspn(a, "=") > 40 ? 2 : (int)strcspn(a, "="), a);
    }
    for (a++; *a; a++) {
        bool takes_value = *a == 'o' || (p->helper && (*a == 't' || *a == 'N'));
        const char *value = a[1] ? a + 1 : NULL;
        int r;

        if (!takes_value) {
            r = letter(p, *a);
            if (r < 0)
                return r;
            continue;
        }
        if (!value && *i + 1 >= argc)
            return message_set(p->message, -EINVAL, "-%c needs a value", *a);
        if (!value)
            value = argv[++*i];
        return *a == 'o' ? option_list(p, value) : 0;
    }
    return 0;
}

/* What no single option can know. */
static int finish(const struct parse *p)
{
    struct options *o = p->o;

    if (!o->source || !o->mountpoint)
        return message_set(p->message, -EINVAL,
                           "%s: usage: ossmount BUCKET[:/PREFIX] MOUNTPOINT [-f] [-d] [-s] [-o option[,option...]]",
                           o->source ? "no mountpoint" : "no bucket");
    if (o->passwd_file && strstr(o->passwd_file, "LTAI") && strchr(o->passwd_file, ':'))
        return message_set(
            p->message, -EINVAL,
            "passwd_file= takes the name of a file, not the key itself (change that key: others may have "
            "seen it)");
    if (o->public_bucket + !!o->passwd_file + !!o->ram_role + !!o->credential_process > 1)
        return message_set(p->message, -EINVAL,
                           "passwd_file, ram_role, credential_process and public_bucket exclude each other");
    if (o->metadata_url && strncmp(o->metadata_url, "http://", 7) != 0)
        return message_set(p->message, -EINVAL, "metadata_url=%.80s: give one like http://100.100.100.200",
                           o->metadata_url);
    if (strcmp(o->attributes, "full") != 0 && strcmp(o->attributes, "listing") != 0)
        return message_set(p->message, -EINVAL, "attributes=%.40s: give full or listing", o->attributes);
    if (strcmp(o->excl, "host") != 0 && strcmp(o->excl, "strict") != 0)
        return message_set(p->message, -EINVAL, "excl=%.40s: give host or strict", o->excl);
    if (strcmp(o->excl, "strict") == 0 && o->forbid_overwrite && strcmp(o->forbid_overwrite, "no") != 0)
        return message_set(p->message, -EINVAL, "excl=strict and forbid_overwrite exclude each other");
    if (strcmp(o->upload, "close") != 0 && strcmp(o->upload, "background") != 0)
        return message_set(p->message, -EINVAL, "upload=%.40s: give upload=close or upload=background", o->upload);
    if (o->cname && o->use_path_request_style)
        return message_set(p->message, -EINVAL, "cname and use_path_request_style exclude each other");
    if (!o->uid_given)
        o->uid = getuid();
    if (!o->gid_given)
        o->gid = getgid();
    if (o->debug) {
        o->foreground = true;
        o->dbglevel = LOG_LEVEL_DEBUG;
    }
    return 0;
}

int options_parse(struct options *out, int argc, char *const argv[], struct message *message)
{
    struct parse p = {.o = out, .message = message};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    bool only_names = false;
    int r;

    memset(out, 0, sizeof(*out));
    message->text[0] = '\0';
    p.helper = strncmp(name, "mount.", 6) == 0;
    r = set_text(&out->kernel, "");
    if (r == 0)
        r = set_defaults(&p);
    for (int i = 1; i < argc && r == 0; i++) {
        const char *a = argv[i];

        if (!only_names && strcmp(a, "--") == 0)
            only_names = true;
        else if (!only_names && a[0] == '-' && a[1])
            r = dashed(&p, argc, argv, &i);
        else
            r = positional(&p, a);
        if (r == 0 && (out->help || out->version))
            return 0;
    }
    if (r == 0)
        r = finish(&p);
    if (r < 0 && !message->text[0])
        message_set(message, r, "%s", strerror(-r));
    return r;
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < N_TABLE; i++) {
        char **field = (char **)(void *)((char *)o + table[i].offset);

        if (table[i].type == OPTION_TEXT || table[i].type == OPTION_PATH) {
            free(*field);
            *field = NULL;
        }
    }
    free(o->source);
    free(o->bucket);
    free(o->prefix);
    free(o->mountpoint);
    free(o->kernel);
    o->source = o->bucket = o->prefix = o->mountpoint = o->kernel = NULL;
}

/* ---------------------------------------------------------------------------------------------- --help */

/* Writes `text` wrapped to the width, each further line below the first. */
static void wrapped(FILE *to, const char *text, size_t indent, size_t width)
{
    size_t at = indent;

    while (*text) {
        size_t word = strcspn(text, " ");

        if (at > indent && at + 1 + word > width) {
            fprintf(to, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', to);
            at++;
        }
        fwrite(text, 1, word, to);
        at += word;
        text += word + (text[word] == ' ');
    }
    fputc('\n', to);
}

void options_help(FILE *to)
{
    fputs("Mounts a bucket of Alibaba Cloud OSS as a directory.\n\n"
          "  ossmount BUCKET[:/PREFIX] MOUNTPOINT [-f] [-d] [-s] [-o option[,option...]]\n"
          "  mount -t fuse.ossmount BUCKET[:/PREFIX] MOUNTPOINT -o ...\n"
          "  umount MOUNTPOINT (root) or fusermount3 -u MOUNTPOINT\n\n"
          "  -f             stay in the foreground, log to stderr\n"
          "  -d             the same, and log everything\n"
          "  -s             answer the kernel with one thread\n"
          "  -h, --help     this text\n"
          "  -V, --version\n\n"
          "Options, behind -o:\n",
          to);
    for (size_t i = 0; i < N_TABLE; i++) {
        const struct option_spec *spec = &table[i];
        char left[64], text[512];
        int n = snprintf(left, sizeof(left), "  %s%s%s", spec->name, spec->argument ? "=" : "",
                         spec->argument ? spec->argument : "");

        snprintf(text, sizeof(text), "%s%s%s%s%s", spec->help, *spec->unit ? "; in " : "", spec->unit,
                 spec->standard && spec->argument ? "; default " : "",
                 spec->standard && spec->argument ? spec->standard : "");
        if (n > 28)
            fprintf(to, "%s\n%30s", left, "");
        else
            fprintf(to, "%-30s", left);
        wrapped(to, text, 30, 100);
    }
    fputs(
        "\nAlso accepted, as mount(8) and fstab give them: rw auto noauto user users _netdev nofail defaults atime\n"
        "noatime dev nodev suid nosuid exec noexec x-*.\n"
        "An access key is never taken from the command line.\n",
        to);
}

void options_version(FILE *to)
{
    fputs("ossmount " OSSMOUNT_VERSION "\n", to);
}
