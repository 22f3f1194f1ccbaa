/* ops.c: tells the operations apart and checks who may use them; see ops.h. */
#include "ops.h"

#include <string.h>

const struct op_info ops[OPS] = {
    [OP_PUT_OBJECT] = {"PutObject", BODY_STORE, ACCESS_WRITE, op_put_object_begin, op_put_object_end},
    [OP_GET_OBJECT] = {"GetObject", BODY_NONE, ACCESS_READ, NULL, op_get_end},
    [OP_HEAD_OBJECT] = {"HeadObject", BODY_NONE, ACCESS_READ, NULL, op_head_end},
    [OP_GET_OBJECT_META] = {"GetObjectMeta", BODY_NONE, ACCESS_READ, NULL, op_meta_end},
    [OP_DELETE_OBJECT] = {"DeleteObject", BODY_NONE, ACCESS_WRITE, NULL, op_delete_end},
    [OP_DELETE_MULTIPLE] = {"DeleteMultipleObjects", BODY_XML, ACCESS_OWNER, NULL, op_delete_multiple_end},
    [OP_COPY_OBJECT] = {"CopyObject", BODY_NONE, ACCESS_OWNER, op_copy_begin, op_copy_end},
    [OP_APPEND_OBJECT] = {"AppendObject", BODY_STORE, ACCESS_WRITE, op_append_begin, op_append_end},
    [OP_INITIATE] = {"InitiateMultipartUpload", BODY_NONE, ACCESS_OWNER, op_initiate_begin, op_initiate_end},
    [OP_UPLOAD_PART] = {"UploadPart", BODY_STORE, ACCESS_OWNER, op_upload_part_begin, op_upload_part_end},
    [OP_UPLOAD_PART_COPY] = {"UploadPartCopy", BODY_NONE, ACCESS_OWNER, NULL, op_upload_part_copy_end},
    [OP_COMPLETE] = {"CompleteMultipartUpload", BODY_XML, ACCESS_OWNER, op_complete_begin, op_complete_end},
    [OP_ABORT] = {"AbortMultipartUpload", BODY_NONE, ACCESS_OWNER, NULL, op_abort_end},
    [OP_LIST_PARTS] = {"ListParts", BODY_NONE, ACCESS_OWNER, NULL, op_list_parts_end},
    [OP_LIST_UPLOADS] = {"ListMultipartUploads", BODY_NONE, ACCESS_OWNER, NULL, op_list_uploads_end},
    [OP_LIST_V2] = {"ListObjectsV2", BODY_NONE, ACCESS_READ, NULL, op_list_v2_end},
    [OP_LIST_V1] = {"ListObjects", BODY_NONE, ACCESS_READ, NULL, op_list_v1_end},
    [OP_PUT_SYMLINK] = {"PutSymlink", BODY_NONE, ACCESS_WRITE, op_put_symlink_begin, op_put_symlink_end},
    [OP_GET_SYMLINK] = {"GetSymlink", BODY_NONE, ACCESS_READ, NULL, op_get_symlink_end},
    [OP_GET_OBJECT_ACL] = {"GetObjectACL", BODY_NONE, ACCESS_OWNER, NULL, op_get_acl_end},
    [OP_PUT_OBJECT_ACL] = {"PutObjectACL", BODY_NONE, ACCESS_OWNER, NULL, op_put_acl_end},
    [OP_GET_TAGGING] = {"GetObjectTagging", BODY_NONE, ACCESS_OWNER, NULL, op_get_tagging_end},
    [OP_PUT_TAGGING] = {"PutObjectTagging", BODY_XML, ACCESS_OWNER, NULL, op_put_tagging_end},
    [OP_DELETE_TAGGING] = {"DeleteObjectTagging", BODY_NONE, ACCESS_OWNER, NULL, op_delete_tagging_end},
    [OP_GET_BUCKET_INFO] = {"GetBucketInfo", BODY_NONE, ACCESS_OWNER, NULL, op_bucket_info_end},
    [OP_GET_BUCKET_STAT] = {"GetBucketStat", BODY_NONE, ACCESS_OWNER, NULL, op_bucket_stat_end},
    [OP_GET_BUCKET_ACL] = {"GetBucketAcl", BODY_NONE, ACCESS_OWNER, NULL, op_bucket_acl_end},
    [OP_PUT_BUCKET_ACL] = {"PutBucketAcl", BODY_NONE, ACCESS_OWNER, NULL, op_put_bucket_acl_end},
    [OP_GET_BUCKET_LOCATION] = {"GetBucketLocation", BODY_NONE, ACCESS_OWNER, NULL, op_bucket_location_end},
    [OP_LIST_BUCKETS] = {"ListBuckets", BODY_NONE, ACCESS_OWNER, NULL, op_list_buckets_end},
    [OP_PUT_BUCKET] = {"PutBucket", BODY_XML, ACCESS_OWNER, NULL, op_put_bucket_end},
    [OP_DELETE_BUCKET] = {"DeleteBucket", BODY_NONE, ACCESS_OWNER, NULL, op_delete_bucket_end},
    [OP_RESTORE] = {"RestoreObject", BODY_XML, ACCESS_OWNER, NULL, op_restore_end},
    [OP_UNKNOWN] = {"Unknown", BODY_NONE, ACCESS_OWNER, NULL, op_unknown_end},
};

const char *const *ops_names(void)
{
    static const char *names[OPS];

    for (int i = 0; i < OPS; i++)
        names[i] = ops[i].name;
    return names;
}

/* Sub-resources of the service that this server does not have: not to be taken for the plain operation. */
static bool asks_for_more(const struct request *rq)
{
    static const char *const others[] = {"cors",           "lifecycle",
                                         "logging",        "website",
                                         "referer",        "policy",
                                         "versioning",     "versions",
                                         "replication",    "encryption",
                                         "inventory",      "worm",
                                         "requestPayment", "transferAcceleration",
                                         "seal",           "x-oss-dir",
                                         "x-oss-rename",   "x-oss-delete",
                                         "x-oss-process",  "x-oss-async-process",
                                         "live",           "qos",
                                         "metaQuery",      "style",
                                         "resourceGroup",  "accessPoint",
                                         "regions",        "publicAccessBlock",
                                         "asyncFetch"};

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (pairs_has(&rq->query, others[i]))
            return true;
    return false;
}

static enum op classify_object(const struct request *rq)
{
    const char *m = rq->method;
    const struct pairs *q = &rq->query;
    bool tagging = pairs_has(q, "tagging"), acl = pairs_has(q, "acl"), symlink = pairs_has(q, "symlink");
    bool upload = pairs_has(q, "uploadId");

    if (strcmp(m, "PUT") == 0) {
        bool copy = pairs_has(&rq->headers, "x-oss-copy-source");
        if (upload || pairs_has(q, "partNumber"))
            return copy ? OP_UPLOAD_PART_COPY : OP_UPLOAD_PART;
        return symlink   ? OP_PUT_SYMLINK
               : acl     ? OP_PUT_OBJECT_ACL
               : tagging ? OP_PUT_TAGGING
               : copy    ? OP_COPY_OBJECT
                         : OP_PUT_OBJECT;
    }
    if (strcmp(m, "GET") == 0)
        return upload                       ? OP_LIST_PARTS
               : symlink                    ? OP_GET_SYMLINK
               : acl                        ? OP_GET_OBJECT_ACL
               : tagging                    ? OP_GET_TAGGING
               : pairs_has(q, "objectMeta") ? OP_GET_OBJECT_META
                                            : OP_GET_OBJECT;
    if (strcmp(m, "HEAD") == 0)
        return pairs_has(q, "objectMeta") ? OP_GET_OBJECT_META : OP_HEAD_OBJECT;
    if (strcmp(m, "DELETE") == 0)
        return upload ? OP_ABORT : tagging ? OP_DELETE_TAGGING : OP_DELETE_OBJECT;
    if (strcmp(m, "POST") == 0) {
        if (pairs_has(q, "append"))
            return OP_APPEND_OBJECT;
        if (pairs_has(q, "uploads"))
            return OP_INITIATE;
        if (upload)
            return OP_COMPLETE;
        if (pairs_has(q, "restore"))
            return OP_RESTORE;
    }
    return OP_UNKNOWN;
}

static enum op classify_bucket(const struct request *rq)
{
    const char *m = rq->method, *type = pairs_get(&rq->query, "list-type");
    const struct pairs *q = &rq->query;

    if (strcmp(m, "GET") == 0)
        return pairs_has(q, "uploads")      ? OP_LIST_UPLOADS
               : pairs_has(q, "bucketInfo") ? OP_GET_BUCKET_INFO
               : pairs_has(q, "stat")       ? OP_GET_BUCKET_STAT
               : pairs_has(q, "acl")        ? OP_GET_BUCKET_ACL
               : pairs_has(q, "location")   ? OP_GET_BUCKET_LOCATION
               : type && !strcmp(type, "2") ? OP_LIST_V2
                                            : OP_LIST_V1;
    if (strcmp(m, "PUT") == 0)
        return pairs_has(q, "acl") ? OP_PUT_BUCKET_ACL : OP_PUT_BUCKET;
    if (strcmp(m, "DELETE") == 0)
        return OP_DELETE_BUCKET;
    if (strcmp(m, "POST") == 0 && pairs_has(q, "delete"))
        return OP_DELETE_MULTIPLE;
    return OP_UNKNOWN;
}

enum op ops_classify(const struct request *rq)
{
    if (asks_for_more(rq))
        return OP_UNKNOWN;
    if (!rq->bucket)
        return strcmp(rq->method, "GET") ? OP_UNKNOWN : OP_LIST_BUCKETS;
    return rq->key.n ? classify_object(rq) : classify_bucket(rq);
}

void op_unknown_end(struct request *rq)
{
    if (asks_for_more(rq))
        reply_error_message(rq, 0, "NotImplemented", "This server does not have this operation.", NULL);
    else
        reply_error(rq, "MethodNotAllowed", "Method", rq->method, NULL);
}

/* ------------------------------------------------------------------------------------- names and rights */

bool ops_bucket_name_legal(const char *name)
{
    size_t n = strlen(name);

    if (n < 3 || n > 63 || name[0] == '-' || name[n - 1] == '-')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

bool ops_check_key(struct request *rq, struct bytes key)
{
    if (key.n >= 1 && key.n <= 1023 && key.p[0] != '/' && key.p[0] != '\\' && !memchr(key.p, 0, key.n) &&
        utf8_valid(key))
        return true;
    return reply_error(rq, "InvalidObjectName", "ObjectName", key.p, NULL);
}

bool ops_check_anonymous(struct request *rq)
{
    enum access access = ops[rq->op].access;
    enum acl acl = ACL_PRIVATE;

    if (rq->bucket)
        store_has_bucket(rq->server->store, rq->bucket, &acl);
    if (rq->key.n && access == ACCESS_READ) {
        struct object *object = store_get(rq->server->store, rq->bucket, rq->key);
        if (object && object->acl != ACL_DEFAULT)
            acl = object->acl;
        object_unref(object);
    }
    if ((access == ACCESS_READ && (acl == ACL_PUBLIC_READ || acl == ACL_PUBLIC_READ_WRITE)) ||
        (access == ACCESS_WRITE && acl == ACL_PUBLIC_READ_WRITE))
        return true;
    return reply_error(rq, "AccessDenied", NULL);
}
