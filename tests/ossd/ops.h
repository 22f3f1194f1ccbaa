/*
 * ops.h: the operations: which one a request is, and what each does.
 *
 * ops.c tells them apart and has the table; ops_object.c, ops_copy.c, ops_get.c, ops_multipart.c, ops_list.c and
 * ops_bucket.c carry them out; ops_common.c is what they share.
 */
#ifndef OSSD_OPS_H
#define OSSD_OPS_H

#include "request.h"

enum op {
    OP_PUT_OBJECT,
    OP_GET_OBJECT,
    OP_HEAD_OBJECT,
    OP_GET_OBJECT_META,
    OP_DELETE_OBJECT,
    OP_DELETE_MULTIPLE,
    OP_COPY_OBJECT,
    OP_APPEND_OBJECT,
    OP_INITIATE,
    OP_UPLOAD_PART,
    OP_UPLOAD_PART_COPY,
    OP_COMPLETE,
    OP_ABORT,
    OP_LIST_PARTS,
    OP_LIST_UPLOADS,
    OP_LIST_V2,
    OP_LIST_V1,
    OP_PUT_SYMLINK,
    OP_GET_SYMLINK,
    OP_GET_OBJECT_ACL,
    OP_PUT_OBJECT_ACL,
    OP_GET_TAGGING,
    OP_PUT_TAGGING,
    OP_DELETE_TAGGING,
    OP_GET_BUCKET_INFO,
    OP_GET_BUCKET_STAT,
    OP_GET_BUCKET_ACL,
    OP_PUT_BUCKET_ACL,
    OP_GET_BUCKET_LOCATION,
    OP_LIST_BUCKETS,
    OP_PUT_BUCKET,
    OP_DELETE_BUCKET,
    OP_RESTORE,
    OP_UNKNOWN,
    OPS
};

extern const struct op_info ops[OPS];
const char *const *ops_names(void);

/* Which operation it is, by method, key and query. */
enum op ops_classify(const struct request *rq);
/* True when the name of the bucket is legal; keys likewise (the reply is made when not). */
bool ops_bucket_name_legal(const char *name);
bool ops_check_key(struct request *rq, struct bytes key);
/* For a request without signature: whether bucket and object ACL let it through. */
bool ops_check_anonymous(struct request *rq);

/* ----------------------------------------------------------------------------------- shared: ops_common.c */

/* Refuses If-Match and kin where the service does not have them. */
bool ops_no_conditions(struct request *rq);
/* Content-Type, x-oss-meta-*, ACL, tags ... of the request into the object; false: the reply is made. */
bool ops_read_headers(struct request *rq, struct object *object);
bool ops_read_acl(struct request *rq, enum acl *acl);
bool ops_check_tags(struct request *rq, const struct pairs *tags, char **canonical);
bool ops_need_length(struct request *rq, uint64_t max);
struct object *ops_find(struct request *rq);        /* the request's key, a reference; NULL: NoSuchKey made */
struct upload *ops_find_upload(struct request *rq); /* NULL: NoSuchUpload made */
/* The received body as the object's one segment, with size, CRC, MD5. */
bool ops_take_body(struct request *rq, struct object *object);
void ops_opaque_etag(char etag[ETAG_SIZE], uint64_t crc, uint64_t size);
void ops_md5_etag(char etag[ETAG_SIZE], const unsigned char digest[16]);
bool ops_etag_matches(const char *header, const char *etag);
/* If-Match and kin; `prefix` "" or "x-oss-copy-source-". False: the reply is made (412, 304). */
bool ops_conditions(struct request *rq, const char *prefix, const struct object *object);
/* The headers that describe an object, on GET, HEAD. `target`: the object whose bytes are served. */
void ops_describe(struct request *rq, const struct object *object, const struct object *target);
/* The object that x-oss-copy-source names, a reference, with its conditions held; NULL: the reply is made. */
struct object *ops_copy_source(struct request *rq, bool *same_bucket);
/* ops_archive.c: may its bytes be read or copied? False: the reply is made. And what HEAD tells of a restoration. */
bool ops_readable(struct request *rq, const struct object *object);
void ops_describe_restore(struct request *rq, const struct object *object);
void ops_owner(struct sbuf *out);
uint64_t ops_query_number(struct request *rq, const char *name, uint64_t missing, uint64_t min, uint64_t max,
                          bool *good);
/* x-oss-traffic-limit, if there is one; false: the reply is made. */
bool ops_check_traffic(struct request *rq);
bool ops_wants_url(struct request *rq, bool *url); /* encoding-type */

#define OPS_DECLARE(name)                  \
    bool name##_begin(struct request *rq); \
    void name##_end(struct request *rq)

OPS_DECLARE(op_put_object);
OPS_DECLARE(op_append);
OPS_DECLARE(op_put_symlink);
OPS_DECLARE(op_initiate);
OPS_DECLARE(op_upload_part);
OPS_DECLARE(op_complete);
OPS_DECLARE(op_copy);
void op_upload_part_copy_end(struct request *rq);
void op_get_end(struct request *rq);
void op_head_end(struct request *rq);
void op_meta_end(struct request *rq);
void op_delete_end(struct request *rq);
void op_delete_multiple_end(struct request *rq);
void op_abort_end(struct request *rq);
void op_list_parts_end(struct request *rq);
void op_list_uploads_end(struct request *rq);
void op_list_v2_end(struct request *rq);
void op_list_v1_end(struct request *rq);
void op_get_symlink_end(struct request *rq);
void op_get_acl_end(struct request *rq);
void op_put_acl_end(struct request *rq);
void op_get_tagging_end(struct request *rq);
void op_put_tagging_end(struct request *rq);
void op_delete_tagging_end(struct request *rq);
void op_bucket_info_end(struct request *rq);
void op_bucket_stat_end(struct request *rq);
void op_bucket_acl_end(struct request *rq);
void op_put_bucket_acl_end(struct request *rq);
void op_bucket_location_end(struct request *rq);
void op_list_buckets_end(struct request *rq);
void op_put_bucket_end(struct request *rq);
void op_delete_bucket_end(struct request *rq);
void op_restore_end(struct request *rq);
void op_unknown_end(struct request *rq);

#endif
