#include "error.h"

#include "base_time.h"
#include "xml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The one place where the service's words become an errno. A code wins over its status; a status stands in where
 * there is no code (HEAD) or one that is not listed.
 */
static const struct {
    int status;
    int err;
} by_status[] = {
    {304, ESTALE}, /* a condition that does not hold */
    {400, EINVAL}, {401, EACCES}, {403, EACCES}, {404, ENOENT}, {405, ENOTSUP}, {408, ETIMEDOUT},
    {411, EINVAL}, {412, ESTALE}, {413, EFBIG},  {416, ERANGE}, {501, ENOTSUP}, {504, ETIMEDOUT},
};

/* What a repeat can do, where the status alone does not tell. */
static const struct {
    int status;
    const char *code;
    enum error_retry retry;
} retry_by_code[] = {
    {400, "RequestTimeout", ERROR_RETRY_YES},
    {400, "BadRequest", ERROR_RETRY_YES},
    {400, "IncompleteBody", ERROR_RETRY_YES},
    {400, "InvalidCRC64", ERROR_RETRY_YES}, /* the body was damaged on its way, our source is right */
    {403, "RequestTimeTooSkewed", ERROR_RETRY_CLOCK},
    {403, "SecurityTokenExpired", ERROR_RETRY_CRED},
    {403, "InvalidSecurityToken", ERROR_RETRY_CRED},
    {403, "InvalidAccessKeyId", ERROR_RETRY_CRED},
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

int error_errno(int status, const char *code)
{
    const struct error_code *found = error_code_find(code);

    if (found)
        return -found->err;
    for (size_t i = 0; i < COUNT(by_status); i++)
        if (by_status[i].status == status)
            return -by_status[i].err;
    return -EIO;
}

enum error_retry error_retry_class(int status, const char *code)
{
    for (size_t i = 0; i < COUNT(retry_by_code); i++)
        if (retry_by_code[i].status == status && !strcmp(retry_by_code[i].code, code))
            return retry_by_code[i].retry;
    if (!status || status == 408 || status == 429)
        return ERROR_RETRY_YES;
    if (status >= 500)
        return ERROR_RETRY_YES;
    if (status == 401)
        return ERROR_RETRY_CRED;
    return ERROR_RETRY_NO;
}

bool error_wants_fresh_connection(int status, const char *code)
{
    return status >= 500 || status == 408 ||
           (status == 400 && error_retry_class(status, code) == ERROR_RETRY_YES && strcmp(code, "InvalidCRC64") != 0);
}

/* strerrorname_np() is in glibc only. */
#define NAME(e) \
    {           \
        e, #e   \
    }
static const struct {
    int err;
    const char *name;
} names[] = {
    NAME(E2BIG),        NAME(EACCES),       NAME(EADDRINUSE),   NAME(EADDRNOTAVAIL), NAME(EAGAIN),
    NAME(EALREADY),     NAME(EBADE),        NAME(EBADF),        NAME(EBADMSG),       NAME(EBUSY),
    NAME(ECANCELED),    NAME(ECONNABORTED), NAME(ECONNREFUSED), NAME(ECONNRESET),    NAME(EDEADLK),
    NAME(EDESTADDRREQ), NAME(EDOM),         NAME(EDQUOT),       NAME(EEXIST),        NAME(EFAULT),
    NAME(EFBIG),        NAME(EHOSTDOWN),    NAME(EHOSTUNREACH), NAME(EILSEQ),        NAME(EINPROGRESS),
    NAME(EINTR),        NAME(EINVAL),       NAME(EIO),          NAME(EISDIR),        NAME(EKEYEXPIRED),
    NAME(EKEYREJECTED), NAME(ELOOP),        NAME(EMFILE),       NAME(EMLINK),        NAME(EMSGSIZE),
    NAME(ENAMETOOLONG), NAME(ENETDOWN),     NAME(ENETUNREACH),  NAME(ENFILE),        NAME(ENODATA),
    NAME(ENODEV),       NAME(ENOENT),       NAME(ENOKEY),       NAME(ENOLCK),        NAME(ENOMEM),
    NAME(ENOSPC),       NAME(ENOSYS),       NAME(ENOTCONN),     NAME(ENOTDIR),       NAME(ENOTEMPTY),
    NAME(ENOTSUP),      NAME(ENOTTY),       NAME(ENXIO),        NAME(EOVERFLOW),     NAME(EPERM),
    NAME(EPIPE),        NAME(EPROTO),       NAME(EPROTOTYPE),   NAME(ERANGE),        NAME(EREMOTEIO),
    NAME(EROFS),        NAME(ESHUTDOWN),    NAME(ESPIPE),       NAME(ESRCH),         NAME(ESTALE),
    NAME(ETIMEDOUT),    NAME(ETXTBSY),      NAME(EXDEV),
};
#undef NAME

const char *error_name(int err)
{
    const int e = err < 0 ? -err : err;

    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i].err == e)
            return names[i].name;
    return "E?";
}

/* ----------------------------------------------------------------------------------------------- filling */

/* All but what belongs to the operation as a whole. */
static void forget_reply(struct oss_error *err)
{
    const unsigned tries = err->tries;
    const bool ambiguous = err->ambiguous;

    error_reset(err);
    err->tries = tries;
    err->ambiguous = ambiguous;
}

void error_reset(struct oss_error *err)
{
    if (!err)
        return;
    memset(err, 0, sizeof *err);
    err->next_position = -1;
}

/* Copies as much as fits, and cuts at a UTF-8 character. */
static void copy_text(char *to, size_t size, const char *text)
{
    size_t n = strlen(text);

    if (n >= size) {
        n = size - 1;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(to, text, n);
    to[n] = '\0';
}

int error_set(struct oss_error *err, int e, const char *format, ...)
{
    va_list ap;

    if (!err)
        return e;
    forget_reply(err);
    err->err = e;
    va_start(ap, format);
    if (vsnprintf(err->message, sizeof err->message, format, ap) < 0)
        err->message[0] = '\0';
    va_end(ap);
    return e;
}

static int64_t read_position(const char *text)
{
    char *end;
    long long value;

    if (!text || *text < '0' || *text > '9')
        return -1;
    errno = 0;
    value = strtoll(text, &end, 10);
    return errno || *end ? -1 : value;
}

int error_from_reply(struct oss_error *err, int status, const struct kvlist *headers, const char *body, size_t n,
                     struct xml_error *doc)
{
    struct oss_error local;
    struct xml_error *parsed;
    const char *value;
    int r = -EIO;

    error_reset(&local);
    if (!err)
        err = &local;
    forget_reply(err);
    err->status = status;

    /* Too large for the stack of a worker to hold it besides the caller's; no memory means no details. */
    parsed = doc ? doc : malloc(sizeof *parsed);
    if (parsed) {
        if (n)
            r = xml_read_error(body, n, parsed);
        else if ((value = kv_get(headers, "x-oss-err")))
            r = xml_read_error_base64(value, parsed);
        else
            memset(parsed, 0, sizeof *parsed);
        if (!r) {
            copy_text(err->code, sizeof err->code, parsed->code);
            copy_text(err->message, sizeof err->message, parsed->message);
            if ((value = xml_error_field(parsed, "RequestId")))
                copy_text(err->request_id, sizeof err->request_id, value);
        }
        if (!doc) {
            xml_error_free(parsed);
            free(parsed);
        }
    }

    /* The header's is the one that the service's own log has. */
    if ((value = kv_get(headers, "x-oss-request-id")) && *value)
        copy_text(err->request_id, sizeof err->request_id, value);
    err->next_position = read_position(kv_get(headers, "x-oss-next-append-position"));
    value = kv_get(headers, "date");
    if (!value || http_date_parse(value, &err->date))
        err->date = 0;
    return err->err = error_errno(status, err->code);
}

void oss_error_format(const struct oss_error *err, char *out, size_t size)
{
    int n;

    if (!size)
        return;
    if (!err->status)
        n = snprintf(out, size, "%s", err->message[0] ? err->message : error_name(err->err));
    else
        n = snprintf(out, size, "%d%s%s%s%s%s%s%s", err->status, err->code[0] ? " " : "", err->code,
                     err->message[0] ? " (" : "", err->message, err->message[0] ? ")" : "",
                     err->request_id[0] ? " request id " : "", err->request_id);
    if (n < 0)
        out[0] = '\0';
    else if (err->tries > 1 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, " after %u tries", err->tries);
}
