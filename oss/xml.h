/*
 * The XML of the service: readers of replies, writers of request bodies.
 *
 * Readers take a complete body and are hard to hurt: a document type declaration, an entity of its own, nesting
 * deeper than 16, text over its bound, a body over its maximum, or anything not well-formed is -EIO; nothing is ever
 * fetched. Names match without their namespace, text is trimmed (except keys, whose blanks count). Each returns 0,
 * -EIO, or -ENOMEM; after a failure the output is empty. All pure and thread-safe.
 *
 * The ..._free functions of oss.h for the three lists are in xml.c.
 */
#ifndef OSS_XML_H
#define OSS_XML_H

#include "base_buf.h"
#include "oss.h"

#include <stdbool.h>
#include <stddef.h>

#define XML_LIST_MAX  (64U << 20) /* bytes of a list page (also uploads, parts, deleted) */
#define XML_REPLY_MAX (1U << 20)  /* bytes of any other reply */

/* Once, before threads (xmlInitParser); oss_open() calls it, more calls do nothing. */
void xml_init(void);

/* ------------------------------------------------------------------------------------------------ errors */

struct xml_field {
    char *name;  /* "HostId", as written */
    char *value; /* trimmed, entities decoded */
};
#define XML_ERROR_FIELDS 32
struct xml_error {
    char code[64];                             /* cut to the room there is, at a character */
    char message[256];                         /* the same */
    struct xml_field fields[XML_ERROR_FIELDS]; /* children other than Code and Message; more are dropped */
    size_t n_fields;
};

/*
 * The error body. Not well-formed but with a closing Error tag: Code and Message are searched as plain text. Any
 * other body that is no OSS error (HTML, cut off, empty) is -EIO.
 */
int xml_read_error(const char *body, size_t n, struct xml_error *out);

/* The same of the base64 text of an x-oss-err header. */
int xml_read_error_base64(const char *text, struct xml_error *out);

/* The value of a field, or NULL. */
const char *xml_error_field(const struct xml_error *e, const char *name);
void xml_error_free(struct xml_error *e);

/* ------------------------------------------------------------------------------------------------ lists */

/* ListObjectsV2: all of `out` except `date`. See struct oss_list for what is skipped and what is an error. */
int xml_read_list(const char *body, size_t n, struct oss_list *out);

/* ListMultipartUploads. An upload whose key or id cannot be read is left out. */
int xml_read_uploads(const char *body, size_t n, struct oss_upload_list *out);

/* ListParts: number, size, ETag, CRC where told. A part that cannot be read is -EIO: a gap would be believed. */
int xml_read_parts(const char *body, size_t n, struct oss_part_list *out);

/* DeleteResult: sets deleted[i] for each of the n_keys keys, true when the reply names it as deleted. */
int xml_read_deleted(const char *body, size_t n, const char *const *keys, size_t n_keys, bool *deleted);

/* --------------------------------------------------------------------------------------- single results */

int xml_read_initiate(const char *body, size_t n, char id[OSS_UPLOADID_SIZE]);

/* CompleteMultipartUploadResult: the ETag without quotes. */
int xml_read_complete(const char *body, size_t n, char etag[OSS_ETAG_SIZE]);

/* CopyObjectResult and CopyPartResult; *last_modified is 0 when it is not told. */
int xml_read_copy(const char *body, size_t n, char etag[OSS_ETAG_SIZE], time_t *last_modified);

/* AccessControlPolicy: the text of Grant. */
int xml_read_acl(const char *body, size_t n, char acl[24]);

/* Tagging, as the value of an x-oss-tagging header; "" when there are none. The caller frees *tagging. */
int xml_read_tagging(const char *body, size_t n, char **tagging);

int xml_read_bucket_info(const char *body, size_t n, struct oss_bucket_info *out);
int xml_read_bucket_stat(const char *body, size_t n, struct oss_bucket_stat *out);

/* ----------------------------------------------------------------------------------------------- writers */

/* Each adds a whole document; 0 or the buffer's sticky error. */
int xml_write_complete(struct buf *out, const struct oss_part *parts, size_t n);

/* `tagging`: the value of an x-oss-tagging header. -EINVAL when it is none. */
int xml_write_tagging(struct buf *out, const char *tagging);

/* Keys are raw; control characters go as numeric references. `quiet`: the reply names no key. */
int xml_write_delete(struct buf *out, const char *const *keys, size_t n, bool quiet);

#endif
