/* reply.c: what the answer of a request says; the errors with their status, number and words. See request.h. */
#include "request.h"
#include "xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct error_info {
    const char *code;
    int status;
    const char *ec, *message;
};

static const struct error_info errors[] = {
    {"AccessDenied", 403, "0003-00000001", "You have no right to access this object or bucket."},
    {"AccessKeyIdAndSecurityTokenNotMatch", 403, "0002-00000905", "The token does not belong to this access key."},
    {"BadRequest", 400, "0010-00000001", "The request could not be understood."},
    {"BucketAlreadyExists", 409, "0015-00000104", "The bucket name is taken."},
    {"BucketNotEmpty", 409, "0015-00000301", "The bucket still holds objects or parts."},
    {"EntityTooLarge", 400, "0044-00000001", "Source object Length exceeds the maximum allowed size."},
    {"EntityTooSmall", 400, "0042-00000207", "A part that is not the last one is below the minimum size."},
    {"FileAlreadyExists", 409, "0026-00000008", "The object exists and may not be overwritten."},
    {"FilePartNotExist", 400, "0042-00000206", "A part of this upload is missing."},
    {"IncompleteBody", 400, "0010-00000002", "The body was shorter than announced."},
    {"InternalError", 500, "0000-00000001", "The server could not carry out the request."},
    {"InvalidAccessKeyId", 403, "0002-00000902", "The access key ID is not known."},
    {"InvalidArgument", 400, "0017-00000001", "An argument is not valid."},
    {"InvalidBucketName", 400, "0015-00000001", "The bucket name is not valid."},
    {"InvalidCRC64", 400, "0016-00000409", "The CRC-64 of the body differs from the one given."},
    {"InvalidDigest", 400, "0016-00000407", "The Content-MD5 given is not that of the body."},
    {"InvalidEncryptionAlgorithmError", 400, "0017-00000402", "The encryption algorithm is not known."},
    {"InvalidObjectName", 400, "0016-00000002", "The object name is not valid."},
    {"InvalidPart", 400, "0042-00000204", "A part was not uploaded or its ETag differs."},
    {"InvalidPartOrder", 400, "0042-00000205", "The parts are not in ascending order."},
    {"InvalidObjectState", 403, "0017-00000903", "The object is archived and not restored."},
    {"InvalidRange", 416, "0039-00000001", "The range lies outside the object."},
    {"InvalidSecurityToken", 403, "0002-00000901", "The security token is not valid."},
    {"InvalidTag", 400, "0051-00000001", "A tag is not valid."},
    {"InvalidTargetType", 400, "0043-00000003", "The target of the symlink is a symlink."},
    {"MalformedXML", 400, "0044-00000101", "The XML of the body is not well-formed or not of the schema."},
    {"MethodNotAllowed", 405, "0047-00000001", "The method is not allowed here."},
    {"MissingArgument", 400, "0016-00000501", "An argument is missing."},
    {"MissingContentLength", 411, "0016-00000503", "The Content-Length header is missing."},
    {"NoSuchBucket", 404, "0015-00000101", "The specified bucket does not exist."},
    {"NoSuchKey", 404, "0026-00000001", "The specified key does not exist."},
    {"NoSuchUpload", 404, "0042-00000203", "The upload does not exist: aborted, completed, or never begun."},
    {"NotImplemented", 400, "0016-00000701", "A header of the request asks for what is not implemented."},
    {"NotSymlink", 400, "0043-00000004", "The object is not a symlink."},
    {"ObjectNotAppendable", 409, "0026-00000006", "The object is not appendable."},
    {"OperationNotSupported", 400, "0026-00000021", "The operation is not supported for this object."},
    {"PartAlreadyExist", 409, "0042-00000301", "The part was uploaded before."},
    {"PartNotSequential", 400, "0042-00000302", "The parts of a sequential upload must come in order."},
    {"PositionNotEqualToLength", 409, "0026-00000016", "The position is not the length of the object."},
    {"PreconditionFailed", 412, "0017-00000601", "A condition of the request does not hold."},
    {"RequestTimeTooSkewed", 403, "0002-00000504", "The clocks of client and server differ too much."},
    {"RequestTimeout", 400, "0010-00000003", "The body did not arrive in time."},
    {"RestoreAlreadyInProgress", 409, "0017-00000904", "The object is being restored."},
    {"SecondLevelDomainForbidden", 403, "0003-00000905", "Use the bucket's own host name."},
    {"SecurityTokenExpired", 403, "0002-00000904", "The security token has expired."},
    {"ServiceUnavailable", 503, "0000-00000002", "The service is busy, try again."},
    {"SignatureDoesNotMatch", 403, "0002-00000102", "The signature differs from the one computed here."},
    {"SymlinkTargetNotExist", 404, "0043-00000002", "The target of the symlink does not exist."},
    {"TooManyBuckets", 400, "0015-00000201", "There are too many buckets."},
    {"XAmzContentSHA256Mismatch", 400, "0016-00000410", "The body is not the one that was signed."},
};

static const struct error_info *error_find(const char *code)
{
    static const struct error_info other = {"", 400, "0000-00000000", "Injected by the test."};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(errors[i].code, code) == 0)
            return &errors[i];
    return &other;
}

static void reply_clear(struct request *rq)
{
    pairs_free(&rq->reply.headers);
    sbuf_free(&rq->reply.body);
    object_unref(rq->reply.object);
    rq->reply = (struct reply){0};
}

/* A value that XML cannot hold (a hostile key) is shown percent-escaped. */
static void add_element(struct sbuf *out, const char *name, const char *value)
{
    struct bytes text = {value, strlen(value)};
    bool odd = !utf8_valid(text);

    for (const char *p = value; *p && !odd; p++)
        odd = (unsigned char)*p < 32 && *p != '\n';
    sbuf_adds(out, "\n  ");
    xml_add_bytes(out, name, text, odd);
}

static void reply_error_va(struct request *rq, int status, const char *code, const char *message, va_list elements)
{
    const struct error_info *info = error_find(code);
    struct sbuf *b = &rq->reply.body;
    const char *name;

    reply_clear(rq);
    rq->reply.status = status ? status : info->status;
    rq->reply.code = code;
    sbuf_adds(b, XML_HEAD "<Error>");
    add_element(b, "Code", code);
    add_element(b, "Message", message ? message : info->message);
    add_element(b, "RequestId", rq->id);
    add_element(b, "HostId", rq->host ? rq->host : "");
    while ((name = va_arg(elements, const char *))) {
        const char *value = va_arg(elements, const char *);
        add_element(b, name, value ? value : "");
    }
    if (strcmp(code, "NoSuchBucket") == 0 && rq->bucket)
        add_element(b, "BucketName", rq->bucket);
    add_element(b, "EC", info->ec);
    sbuf_adds(b, "\n</Error>\n");
    reply_header(rq, "Content-Type", "application/xml");
    reply_header(rq, "x-oss-ec", info->ec);
}

bool reply_error(struct request *rq, const char *code, ...)
{
    va_list elements;

    va_start(elements, code);
    reply_error_va(rq, 0, code, NULL, elements);
    va_end(elements);
    return false;
}

bool reply_error_message(struct request *rq, int status, const char *code, const char *message, ...)
{
    va_list elements;

    va_start(elements, message);
    reply_error_va(rq, status, code, message, elements);
    va_end(elements);
    return false;
}

void reply_status(struct request *rq, int status)
{
    rq->reply.status = status;
}

void reply_xml(struct request *rq)
{
    rq->reply.status = 200;
    reply_header(rq, "Content-Type", "application/xml");
}

void reply_header(struct request *rq, const char *name, const char *value)
{
    pairs_add(&rq->reply.headers, name, value);
}

void reply_headerf(struct request *rq, const char *name, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pairs_add(&rq->reply.headers, name, text);
}

void reply_etag(struct request *rq, const char *etag)
{
    reply_headerf(rq, "ETag", "\"%s\"", etag);
    if (rq->server->options.versioning)
        reply_headerf(rq, "x-oss-version-id", "CAEQ%.20s", etag);
}

void reply_crc(struct request *rq, uint64_t crc, bool of_copy)
{
    enum crc_header rule = rq->server->options.crc_header;

    rq->reply.has_crc = rule == CRC_YES || (rule == CRC_NOT_COPIES && !of_copy);
    rq->reply.crc = crc;
}

bool reply_store_error(struct request *rq, int r)
{
    if (r == -ENOENT)
        return reply_error(rq, "NoSuchBucket", NULL);
    if (r == -EEXIST)
        return reply_error(rq, "FileAlreadyExists", "Key", rq->key.p, NULL);
    fprintf(stderr, "ossd: %s of %s: %s\n", rq->method, rq->target, strerror(-r));
    return reply_error(rq, "InternalError", NULL);
}
