/*
 * Readers of the replies that hold one result.
 */
#include "base_time.h"
#include "url.h"
#include "xml.h"
#include "xml_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- multipart and copy */

struct text_reader {
    char *out;
    size_t size;
    time_t *date;
};

static int initiate_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct text_reader *r = arg;

    if (!xml_at(p, 2, NULL, "UploadId"))
        return 0;
    return xml_fits(xml_trim(text, len), r->out, r->size) ? 0 : -EIO;
}

int xml_read_initiate(const char *body, size_t n, char id[OSS_UPLOADID_SIZE])
{
    struct text_reader reader = {.out = id, .size = OSS_UPLOADID_SIZE};
    struct xml_parse p;
    int r;

    *id = '\0';
    xml_parse_init(&p, "InitiateMultipartUploadResult", &reader);
    p.end = initiate_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (!r && !*id)
        r = -EIO;
    if (r)
        *id = '\0';
    return r;
}

static int etag_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct text_reader *r = arg;

    if (xml_at(p, 2, NULL, "ETag"))
        return xml_etag(xml_trim(text, len), r->out, r->size) ? 0 : -EIO;
    if (r->date && xml_at(p, 2, NULL, "LastModified") && iso_date_parse(xml_trim(text, len), r->date))
        *r->date = 0;
    return 0;
}

static int read_etag(const char *body, size_t n, const char *root, const char *root2, struct text_reader *reader)
{
    struct xml_parse p;
    int r;

    *reader->out = '\0';
    xml_parse_init(&p, root, reader);
    p.root2 = root2;
    p.end = etag_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (!r && !*reader->out)
        r = -EIO;
    if (r)
        *reader->out = '\0';
    return r;
}

int xml_read_complete(const char *body, size_t n, char etag[OSS_ETAG_SIZE])
{
    struct text_reader reader = {.out = etag, .size = OSS_ETAG_SIZE};

    return read_etag(body, n, "CompleteMultipartUploadResult", NULL, &reader);
}

int xml_read_copy(const char *body, size_t n, char etag[OSS_ETAG_SIZE], time_t *last_modified)
{
    struct text_reader reader = {.out = etag, .size = OSS_ETAG_SIZE, .date = last_modified};

    *last_modified = 0;
    return read_etag(body, n, "CopyObjectResult", "CopyPartResult", &reader);
}

/* ---------------------------------------------------------------------------------------- ACL and tagging */

static int acl_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct text_reader *r = arg;

    if (!xml_at(p, 3, "AccessControlList", "Grant"))
        return 0;
    return xml_fits(xml_trim(text, len), r->out, r->size) ? 0 : -EIO;
}

int xml_read_acl(const char *body, size_t n, char acl[24])
{
    struct text_reader reader = {.out = acl, .size = 24};
    struct xml_parse p;
    int r;

    *acl = '\0';
    xml_parse_init(&p, "AccessControlPolicy", &reader);
    p.end = acl_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (!r && !*acl)
        r = -EIO;
    if (r)
        *acl = '\0';
    return r;
}

struct tagging_reader {
    struct buf out;
    struct buf key, value; /* of this tag */
};

static int tagging_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct tagging_reader *r = arg;

    if (xml_at(p, 4, "Tag", "Key")) {
        buf_reset(&r->key);
        return buf_add(&r->key, text, len);
    }
    if (xml_at(p, 4, "Tag", "Value")) {
        buf_reset(&r->value);
        return buf_add(&r->value, text, len);
    }
    if (!xml_at(p, 3, "TagSet", "Tag"))
        return 0;
    if (!r->key.len)
        return -EIO;
    if (r->out.len)
        buf_adds(&r->out, "&");
    url_escape(&r->out, r->key.data, r->key.len, false);
    buf_adds(&r->out, "=");
    if (r->value.len)
        url_escape(&r->out, r->value.data, r->value.len, false);
    buf_reset(&r->key);
    buf_reset(&r->value);
    return r->out.err;
}

int xml_read_tagging(const char *body, size_t n, char **tagging)
{
    struct tagging_reader reader;
    struct xml_parse p;
    int r;

    *tagging = NULL;
    buf_init(&reader.out, XML_REPLY_MAX);
    buf_init(&reader.key, XML_TEXT_MAX);
    buf_init(&reader.value, XML_TEXT_MAX);
    xml_parse_init(&p, "Tagging", &reader);
    p.end = tagging_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (r == -ENOSPC)
        r = -EIO;
    if (!r) {
        *tagging = strdup(buf_str(&reader.out));
        if (!*tagging)
            r = -ENOMEM;
    }
    buf_free(&reader.out);
    buf_free(&reader.key);
    buf_free(&reader.value);
    return r;
}

/* ------------------------------------------------------------------------------------------------- bucket */

static int info_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct oss_bucket_info *out = arg;
    const char *name = p->path[p->depth - 1];

    text = xml_trim(text, len);
    if (xml_at(p, 4, "AccessControlList", "Grant"))
        xml_copy(out->acl, sizeof out->acl, text);
    if (p->depth != 3 || strcmp(p->path[1], "Bucket") != 0)
        return 0;
    if (!strcmp(name, "Location"))
        xml_copy(out->location, sizeof out->location, text);
    else if (!strcmp(name, "StorageClass"))
        xml_copy(out->storage_class, sizeof out->storage_class, text);
    else if (!strcmp(name, "Versioning"))
        xml_copy(out->versioning, sizeof out->versioning, text);
    else if (!strcmp(name, "HierarchicalNamespace"))
        out->hierarchical = !strcmp(text, "Enabled");
    else if (!strcmp(name, "CreationDate") && iso_date_parse(text, &out->created))
        out->created = 0;
    return 0;
}

int xml_read_bucket_info(const char *body, size_t n, struct oss_bucket_info *out)
{
    struct xml_parse p;
    int r;

    memset(out, 0, sizeof *out);
    xml_parse_init(&p, "BucketInfo", out);
    p.end = info_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (r)
        memset(out, 0, sizeof *out);
    return r;
}

static int stat_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct oss_bucket_stat *out = arg;

    if (p->depth != 2)
        return 0;
    text = xml_trim(text, len);
    if (!strcmp(p->path[1], "Storage"))
        return xml_number(text, UINT64_MAX, &out->storage) ? 0 : -EIO;
    if (!strcmp(p->path[1], "ObjectCount"))
        return xml_number(text, UINT64_MAX, &out->objects) ? 0 : -EIO;
    if (!strcmp(p->path[1], "MultipartUploadCount"))
        return xml_number(text, UINT64_MAX, &out->multipart_uploads) ? 0 : -EIO;
    return 0;
}

int xml_read_bucket_stat(const char *body, size_t n, struct oss_bucket_stat *out)
{
    struct xml_parse p;
    int r;

    memset(out, 0, sizeof *out);
    xml_parse_init(&p, "BucketStat", out);
    p.end = stat_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (r)
        memset(out, 0, sizeof *out);
    return r;
}
