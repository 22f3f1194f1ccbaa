/*
 * error_codes.c: what each code of the service means here: the errno, and what to do. The log, the man page and
 * error_errno() take it from this one table.
 */
#include "error.h"

#include <errno.h>
#include <string.h>

/* Sorted by code. */
static const struct error_code codes[] = {
    {"AccessDenied", EACCES, "grant the access key the permission for this operation (RAM policy, bucket policy)"},
    {"AccessForbidden", EACCES, "check the policies of the bucket"},
    {"AccessKeyIdAndSecurityTokenNotMatch", EACCES, "use the security token that came with this access key"},
    {"BadRequest", EIO, "it was repeated; check for a proxy that changes requests"},
    {"BucketAlreadyExists", EEXIST, ""},
    {"BucketDisable", EACCES, "the bucket is disabled: see the console"},
    {"BucketNotEmpty", ENOTEMPTY, ""},
    {"CallbackFailed", EREMOTEIO,
     "the object is stored; check callbackUrl, and that it answers 2xx with JSON in 5 s"},
    {"EntityTooLarge", EFBIG, "larger than one request may be: lower multipart_threshold"},
    {"EntityTooSmall", EIO, "a part was below 100 KB: report this"},
    {"FileAlreadyExists", EEXIST, "forbid_overwrite is set and the object exists"},
    {"FileImmutable", EPERM, "a retention policy (WORM) protects the object until it ends"},
    {"FilePartNotExist", EIO, "a part is gone (aborted by a lifecycle rule?): the upload begins anew"},
    {"IncompleteBody", EIO, "it was repeated; check the network, or a proxy that cuts bodies"},
    {"InternalError", EIO, "the service failed, it was repeated: give its support the request id"},
    {"InvalidAccessKeyId", EACCES, "check the access key id: it may be mistyped, disabled or deleted"},
    {"InvalidArgument", EINVAL,
     "a header or limit is refused: check storage_class, acl, sse and the rules of headers="},
    {"InvalidCRC64", EIO, "bytes were damaged on their way, it was repeated: check memory, network and proxies"},
    {"InvalidDigest", EIO, "bytes were damaged on their way, it was repeated: check memory, network and proxies"},
    {"InvalidEncryptionAlgorithmError", EINVAL, "check sse=: AES256, KMS or (in some regions) SM4"},
    {"InvalidEncryptionRequest", EINVAL, "check sse, sse_data and sse_key_id: they do not go together"},
    {"InvalidObjectName", EILSEQ, "the name is no key: 1 to 1023 bytes of UTF-8, no / or \\ in front"},
    {"InvalidObjectState", ENODATA, "the object is archived: `ossmount restore` asks for it"},
    {"InvalidPart", EIO, "a part is not what was sent (another program at this upload?): it begins anew"},
    {"InvalidPartOrder", EIO, "parts out of order: report this"},
    {"InvalidRange", ERANGE, ""},
    {"InvalidRequest", EINVAL, "check the options for upload headers"},
    {"InvalidSecurityToken", EACCES, "use the whole security token that came with this access key"},
    {"InvalidTag", EINVAL, "check tagging=: at most 10 tags, keys to 128 and values to 256 characters"},
    {"InvalidTargetType", EINVAL, "a symlink of the bucket points to another symlink"},
    {"KmsServiceNotEnabled", EACCES, "enable KMS for the account, or use sse=AES256"},
    {"MalformedXML", EINVAL, "report this"},
    {"MethodNotAllowed", ENOTSUP, ""},
    {"MissingArgument", EINVAL, "report this"},
    {"MissingContentLength", EIO, "a proxy took the Content-Length away"},
    {"NoSuchBucket", ENOENT, "the bucket was deleted"},
    {"NoSuchKey", ENOENT, ""},
    {"NoSuchUpload", ENOENT, "the upload was aborted (by a lifecycle rule?): it begins anew"},
    {"NoSuchVersion", ENOENT, ""},
    {"NotImplemented", ENOTSUP, "the server does not know this request: is it OSS?"},
    {"ObjectNotAppendable", EPROTOTYPE, "the object was replaced by one that cannot be appended to"},
    {"OperationNotSupported", ENOTSUP, "the object's type or storage class does not allow it"},
    {"PartAlreadyExist", EEXIST, ""},
    {"PartNotSequential", EIO, "report this"},
    {"PositionNotEqualToLength", EBADE, "another program appended meanwhile"},
    {"PreconditionFailed", ESTALE, "the object was replaced by another program meanwhile"},
    {"QuotaExceeded", EDQUOT, "raise the quota of the bucket, or delete something"},
    {"RequestTimeTooSkewed", EACCES, "set the clock of this machine: it is more than 15 minutes off"},
    {"RequestTimeout", ETIMEDOUT, "the body came too slowly: check the network, lower parallel_count"},
    {"RestoreAlreadyInProgress", EALREADY, "it is being restored: wait"},
    {"SecondLevelDomainForbidden", EACCES, "leave out use_path_request_style"},
    {"SecurityTokenExpired", EACCES, "get a new security token; ram_role and credential_process do so by themselves"},
    {"SecurityTokenNotSupported", EACCES, "this operation does not take temporary keys"},
    {"SignatureDoesNotMatch", EACCES, "check the access key secret, and region="},
    {"SymlinkTargetNotExist", ENOENT, ""},
    {"TooManyBuckets", EDQUOT, ""},
    {"TransferAccelerationDisabled", EACCES, "enable transfer acceleration, or use the regional endpoint"},
    {"UserDisable", EACCES, "OSS is disabled for the account, or it is in arrears"},
};

const struct error_code *error_codes(size_t *n)
{
    *n = sizeof(codes) / sizeof(*codes);
    return codes;
}

const struct error_code *error_code_find(const char *code)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (strcmp(codes[i].code, code) == 0)
            return &codes[i];
    return NULL;
}

const char *error_advice(const char *code)
{
    const struct error_code *found = error_code_find(code);

    return found ? found->advice : "";
}
