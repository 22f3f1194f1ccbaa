#include "explain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * The first row that fits is taken: every part that is given must be found in the error. `words` is looked for in the
 * message without regard to case, since a reply's code does not always tell enough.
 */
static const struct row {
    const char *code;  /* OSS code, or NULL */
    const char *words; /* part of the message, or NULL */
    int status;        /* HTTP status, or 0 */
    int err;           /* negative errno, or 0 */
    const char *advice;
} rows[] = {
    {"InvalidAccessKeyId", NULL, 0, 0,
     "check the access key id (it may be mistyped, disabled or deleted): passwd_file= or OSS_ACCESS_KEY_ID"},
    {"SignatureDoesNotMatch", NULL, 0, 0,
     "check the access key secret (passwd_file= or OSS_ACCESS_KEY_SECRET), and region= if the endpoint does not name "
     "the region"},
    {"SecurityTokenExpired", NULL, 0, 0, "get a new security token: OSS_SESSION_TOKEN has expired"},
    {"InvalidSecurityToken", NULL, 0, 0, "check OSS_SESSION_TOKEN: it does not belong to this access key, or is cut"},
    {"AccessKeyIdAndSecurityTokenNotMatch", NULL, 0, 0,
     "check OSS_SESSION_TOKEN: it does not belong to this access key"},
    {"RequestTimeTooSkewed", NULL, 0, 0, "set the clock of this machine: it is more than 15 minutes off"},
    {"NoSuchBucket", NULL, 0, 0, "check the name of the bucket, and that url= is the endpoint of its region"},
    {"InvalidBucketName", NULL, 0, 0, "check the name of the bucket: 3 to 63 of a-z, 0-9 and '-'"},
    {"SecondLevelDomainForbidden", NULL, 0, 0,
     "leave out use_path_request_style: this endpoint wants the bucket in the host name"},
    {"InvalidArgument", "region", 0, 0, "check region=: it must be that of the bucket, as cn-hangzhou"},
    {"InvalidArgument", "authorization", 0, 0, "check region= and the access key"},
    {"PermanentRedirect", NULL, 0, 0, "give the endpoint of the bucket's region as url=: the bucket lives elsewhere"},
    {"TemporaryRedirect", NULL, 0, 0, "give the endpoint of the bucket's region as url=: the bucket lives elsewhere"},
    {"AccessDenied", "endpoint", 0, 0,
     "give the endpoint of the bucket's region as url=: the bucket lives elsewhere"},
    {"AccessDenied", NULL, 0, 0,
     "check that this key may list the bucket (oss:ListObjects), below the prefix if there is one, and that url= is "
     "the "
     "bucket's own endpoint"},
    {"UserDisable", NULL, 0, 0, "check the account: OSS is disabled for it, or it is in arrears"},
    {"BucketDisable", NULL, 0, 0, "check the bucket in the console: it is disabled"},
    {"TransferAccelerationDisabled", NULL, 0, 0,
     "enable transfer acceleration for the bucket, or give its regional endpoint as url="},
    {NULL, "resolve", 0, 0, "check the host name in url= and the name server of this machine"},
    {NULL, "certificate", 0, 0,
     "check url= and the certificate of the server; cacert=FILE names certificates of one's own to trust, and the "
     "package ca-certificates holds the usual ones"},
    {NULL, "ssl", 0, 0, "check that url= names a TLS port (http:// if it is none)"},
    {NULL, "tls", 0, 0, "check that url= names a TLS port (http:// if it is none)"},
    {NULL, NULL, 0, -ETIMEDOUT,
     "check the network and url= (an -internal endpoint answers only inside its region); connect_timeout= sets the "
     "limit"},
    {NULL, "unreachable", 0, 0, "check the network of this machine: the endpoint cannot be reached"},
    {NULL, "no route", 0, 0, "check the network of this machine: the endpoint cannot be reached"},
    {NULL, "refused", 0, 0, "check host and port in url=: nothing listens there"},
    {NULL, "connect to", 0, 0, "check host and port in url=: nothing listens there, or a firewall is between"},
    {NULL, NULL, 301, 0, "check url=: it redirects, so it is not an endpoint of OSS"},
    {NULL, NULL, 302, 0, "check url=: it redirects, so it is not an endpoint of OSS"},
    {NULL, NULL, 403, 0, "check the access key and its permissions"},
    {NULL, NULL, 404, 0, "check the name of the bucket and url="},
    {NULL, NULL, 429, 0, "try again later: the service limits requests"},
    {NULL, NULL, 500, 0, "try again later: the service has a fault of its own"},
    {NULL, NULL, 502, 0, "try again later, and check for a proxy between here and url="},
    {NULL, NULL, 503, 0, "try again later: the service is overloaded or limits requests"},
    {NULL, NULL, 504, 0, "try again later, and check for a proxy between here and url="},
    {NULL, NULL, 0, -ENOMEM, "free some memory"},
    {NULL, NULL, 0, -ENOSPC, "free space on the disk of the state directory, or give cache_dir=DIR"},
    {NULL, NULL, 0, -EINVAL, "check the options"},
};

const char *explain_advice(const struct oss_error *err)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];

        if ((!row->code || strcmp(row->code, err->code) == 0) &&
            (!row->words || strcasestr(err->message, row->words)) && (!row->status || row->status == err->status) &&
            (!row->err || row->err == err->err))
            return row->advice;
    }
    return "check url=, the network and the log (-d shows each request)";
}

void explain_mount_failure(struct message *out, const struct oss_error *err, const struct options *o)
{
    char cause[512];
    size_t n = 0;

    /* Everything of `err` is bounded by its fields; the line cannot be cut in the middle of the advice. */
    if (err->status)
        n += (size_t)snprintf(cause + n, sizeof(cause) - n, "%d ", err->status);
    if (err->code[0])
        n += (size_t)snprintf(cause + n, sizeof(cause) - n, "%s%s", err->code, err->message[0] ? " (" : "");
    n += (size_t)snprintf(cause + n, sizeof(cause) - n, "%s",
                          err->message[0] ? err->message
                          : err->code[0]  ? ""
                                          : strerror(-err->err));
    if (err->code[0] && err->message[0])
        n += (size_t)snprintf(cause + n, sizeof(cause) - n, ")");
    if (err->request_id[0])
        snprintf(cause + n, sizeof(cause) - n, ", request id %s", err->request_id);
    /* A server's words may hold anything: they must not move the cursor of a terminal or make a second line. */
    for (char *s = cause; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            *s = ' ';
    /* Our own refusals (no status, EINVAL) say themselves what to do. */
    if (err->status == 0 && err->err == -EINVAL && err->message[0])
        message_set(out, err->err, "cannot mount %.80s: %s", o->source, cause);
    else
        message_set(out, err->err, "cannot mount %.80s from %.120s: %s: %s", o->source, o->url, cause,
                    explain_advice(err));
}
