/*
 * Readers of the list replies.
 *
 * Keys are kept as they stand until the document is over, because EncodingType may come after the first of them.
 */
#include "base_time.h"
#include "url.h"
#include "xml.h"
#include "xml_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What all list replies have. */
struct page {
    bool url; /* EncodingType: names are escaped */
    bool truncated;
    bool knows_truncated;
    size_t n; /* entries that began */
};

/* EncodingType and IsTruncated; true when it was one of them, *r then has the result. */
static bool page_end(struct page *page, const struct xml_parse *p, char *text, size_t len, int *r)
{
    if (xml_at(p, 2, NULL, "EncodingType")) {
        page->url = !strcmp(xml_trim(text, len), "url");
    } else if (xml_at(p, 2, NULL, "IsTruncated")) {
        page->knows_truncated = true;
        if (!xml_bool(xml_trim(text, len), &page->truncated))
            *r = -EIO;
    } else {
        return false;
    }
    return true;
}

/* A name as it was before the service escaped it, in place; false when it cannot be one. */
static bool page_name(const struct page *page, char *text)
{
    if (page->url) {
        char *trimmed = xml_trim(text, strlen(text));

        memmove(text, trimmed, strlen(trimmed) + 1);
        if (url_unescape(text) < 0)
            return false;
    }
    return *text && strlen(text) <= OSS_KEY_MAX;
}

/* The same for a marker, which has no limit of its own. */
static bool page_marker(const struct page *page, char *text)
{
    return *text && (!page->url || url_unescape(text) >= 0);
}

/* Sets *to to a copy of the trimmed text. */
static int keep(char **to, char *text, size_t len)
{
    free(*to);
    *to = strdup(xml_trim(text, len));
    return *to ? 0 : -ENOMEM;
}

static enum oss_type read_type(const char *text)
{
    if (!strcmp(text, "Multipart"))
        return OSS_TYPE_MULTIPART;
    if (!strcmp(text, "Appendable"))
        return OSS_TYPE_APPENDABLE;
    if (!strcmp(text, "Symlink"))
        return OSS_TYPE_SYMLINK;
    return OSS_TYPE_NORMAL;
}

/* ----------------------------------------------------------------------------------------------- objects */

struct list_reader {
    struct page page;
    struct oss_list *out;
    size_t size; /* entries allocated */
    struct oss_list_entry entry;
    bool bad;      /* this entry, or prefix, is left out */
    bool has_size; /* of this entry */
    struct xml_strings prefixes;
};

static int list_start(void *arg, const struct xml_parse *p)
{
    struct list_reader *r = arg;

    if (!xml_at(p, 2, NULL, "Contents") && !xml_at(p, 2, NULL, "CommonPrefixes"))
        return 0;
    if (++r->page.n > OSS_LIST_MAX)
        return -EIO;
    free(r->entry.key);
    memset(&r->entry, 0, sizeof r->entry);
    r->bad = r->has_size = false;
    return 0;
}

static int list_add(struct list_reader *r)
{
    struct oss_list *out = r->out;

    if (r->bad || !r->has_size || !r->entry.key) {
        out->skipped++;
        return 0;
    }
    if (out->n_entries == r->size) {
        const size_t size = r->size ? r->size * 2 : 64;
        struct oss_list_entry *grown = reallocarray(out->entries, size, sizeof *grown);

        if (!grown)
            return -ENOMEM;
        out->entries = grown;
        r->size = size;
    }
    out->entries[out->n_entries++] = r->entry;
    r->entry.key = NULL;
    return 0;
}

/* A child of Contents. */
static int list_entry_end(struct list_reader *r, const struct xml_parse *p, char *text, size_t len)
{
    const char *name = p->path[2];
    struct oss_list_entry *e = &r->entry;

    if (!strcmp(name, "Key")) {
        free(e->key);
        e->key = strdup(text);
        return e->key ? 0 : -ENOMEM;
    }
    text = xml_trim(text, len);
    if (!strcmp(name, "Size")) {
        r->has_size = xml_number(text, INT64_MAX, &e->size);
    } else if (!strcmp(name, "ETag")) {
        if (!xml_etag(text, e->etag, sizeof e->etag))
            r->bad = true;
    } else if (!strcmp(name, "LastModified")) {
        if (iso_date_parse(text, &e->last_modified))
            e->last_modified = 0;
    } else if (!strcmp(name, "Type")) {
        e->type = read_type(text);
    } else if (!strcmp(name, "StorageClass")) {
        xml_copy(e->storage_class, sizeof e->storage_class, text);
    }
    return 0;
}

static int list_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct list_reader *r = arg;
    int err = 0;

    if (p->depth == 3 && !strcmp(p->path[1], "Contents"))
        return list_entry_end(r, p, text, len);
    if (xml_at(p, 2, NULL, "Contents"))
        return list_add(r);
    if (xml_at(p, 3, "CommonPrefixes", "Prefix"))
        return xml_strings_add(&r->prefixes, text);
    if (xml_at(p, 2, NULL, "NextContinuationToken"))
        return keep(&r->out->next, text, len);
    page_end(&r->page, p, text, len, &err);
    return err;
}

/* Decodes the names and leaves out those that are none. */
static void list_names(struct list_reader *r)
{
    struct oss_list *out = r->out;
    size_t kept = 0;

    for (size_t i = 0; i < out->n_entries; i++) {
        struct oss_list_entry *e = &out->entries[i];

        if (page_name(&r->page, e->key)) {
            out->entries[kept++] = *e;
        } else {
            free(e->key);
            out->skipped++;
        }
    }
    out->n_entries = kept;

    kept = 0;
    for (size_t i = 0; i < r->prefixes.n; i++) {
        char *text = r->prefixes.v[i];

        if (page_name(&r->page, text)) {
            r->prefixes.v[kept++] = text;
        } else {
            free(text);
            out->skipped++;
        }
    }
    r->prefixes.n = kept;
    out->prefixes = r->prefixes.v;
    out->n_prefixes = kept;
    memset(&r->prefixes, 0, sizeof r->prefixes);
}

int xml_read_list(const char *body, size_t n, struct oss_list *out)
{
    struct list_reader r = {.out = out};
    struct xml_parse p;
    int err;

    memset(out, 0, sizeof *out);
    xml_parse_init(&p, "ListBucketResult", &r);
    p.start = list_start;
    p.end = list_end;
    err = xml_parse(&p, body, n, XML_LIST_MAX);
    if (!err && r.prefixes.n > OSS_LIST_MAX)
        err = -EIO;
    if (!err) {
        list_names(&r);
        out->truncated = r.page.truncated;
        if (!r.page.knows_truncated)
            err = -EIO; /* a page that does not say whether it is the last would hide what follows */
        else if (!out->truncated) {
            free(out->next);
            out->next = NULL;
        } else if (!out->next || !page_marker(&r.page, out->next))
            err = -EIO;
    }
    free(r.entry.key);
    xml_strings_free(&r.prefixes);
    if (err)
        oss_list_free(out);
    return err;
}

void oss_list_free(struct oss_list *list)
{
    for (size_t i = 0; i < list->n_entries; i++)
        free(list->entries[i].key);
    for (size_t i = 0; i < list->n_prefixes; i++)
        free(list->prefixes[i]);
    free(list->entries);
    free(list->prefixes);
    free(list->next);
    memset(list, 0, sizeof *list);
}

/* ----------------------------------------------------------------------------------------------- uploads */

struct uploads_reader {
    struct page page;
    struct oss_upload_list *out;
    size_t size;
    struct oss_upload_entry entry;
    bool bad;
};

static int uploads_start(void *arg, const struct xml_parse *p)
{
    struct uploads_reader *r = arg;

    if (!xml_at(p, 2, NULL, "Upload"))
        return 0;
    if (++r->page.n > OSS_LIST_MAX)
        return -EIO;
    free(r->entry.key);
    memset(&r->entry, 0, sizeof r->entry);
    r->bad = false;
    return 0;
}

static int uploads_add(struct uploads_reader *r)
{
    struct oss_upload_list *out = r->out;

    if (r->bad || !r->entry.key || !r->entry.id[0])
        return 0;
    if (out->n == r->size) {
        const size_t size = r->size ? r->size * 2 : 16;
        struct oss_upload_entry *grown = reallocarray(out->entries, size, sizeof *grown);

        if (!grown)
            return -ENOMEM;
        out->entries = grown;
        r->size = size;
    }
    out->entries[out->n++] = r->entry;
    r->entry.key = NULL;
    return 0;
}

static int uploads_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct uploads_reader *r = arg;
    int err = 0;

    if (xml_at(p, 3, "Upload", "Key")) {
        free(r->entry.key);
        r->entry.key = strdup(text);
        return r->entry.key ? 0 : -ENOMEM;
    }
    if (xml_at(p, 3, "Upload", "UploadId")) {
        if (!xml_fits(xml_trim(text, len), r->entry.id, sizeof r->entry.id))
            r->bad = true;
        return 0;
    }
    if (xml_at(p, 3, "Upload", "Initiated")) {
        if (iso_date_parse(xml_trim(text, len), &r->entry.initiated))
            r->entry.initiated = 0;
        return 0;
    }
    if (xml_at(p, 2, NULL, "Upload"))
        return uploads_add(r);
    if (xml_at(p, 2, NULL, "NextKeyMarker"))
        return keep(&r->out->next_key, text, len);
    if (xml_at(p, 2, NULL, "NextUploadIdMarker"))
        return keep(&r->out->next_id, text, len);
    page_end(&r->page, p, text, len, &err);
    return err;
}

static void uploads_names(struct uploads_reader *r)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->out->n; i++) {
        struct oss_upload_entry *e = &r->out->entries[i];

        if (page_name(&r->page, e->key))
            r->out->entries[kept++] = *e;
        else
            free(e->key);
    }
    r->out->n = kept;
}

int xml_read_uploads(const char *body, size_t n, struct oss_upload_list *out)
{
    struct uploads_reader r = {.out = out};
    struct xml_parse p;
    int err;

    memset(out, 0, sizeof *out);
    xml_parse_init(&p, "ListMultipartUploadsResult", &r);
    p.start = uploads_start;
    p.end = uploads_end;
    err = xml_parse(&p, body, n, XML_LIST_MAX);
    if (!err) {
        uploads_names(&r);
        out->truncated = r.page.truncated;
        if (!r.page.knows_truncated) {
            err = -EIO;
        } else if (!out->truncated) {
            free(out->next_key);
            free(out->next_id);
            out->next_key = out->next_id = NULL;
        } else if (!out->next_key || !page_marker(&r.page, out->next_key)) {
            err = -EIO;
        }
    }
    free(r.entry.key);
    if (err)
        oss_upload_list_free(out);
    return err;
}

void oss_upload_list_free(struct oss_upload_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->entries[i].key);
    free(list->entries);
    free(list->next_key);
    free(list->next_id);
    memset(list, 0, sizeof *list);
}

/* ------------------------------------------------------------------------------------------------- parts */

struct parts_reader {
    struct page page;
    struct oss_part_list *out;
    size_t size;
    struct oss_part part;
    bool has_size;
};

static int parts_start(void *arg, const struct xml_parse *p)
{
    struct parts_reader *r = arg;

    if (!xml_at(p, 2, NULL, "Part"))
        return 0;
    if (++r->page.n > OSS_LIST_MAX)
        return -EIO;
    memset(&r->part, 0, sizeof r->part);
    r->has_size = false;
    return 0;
}

static int parts_add(struct parts_reader *r)
{
    struct oss_part_list *out = r->out;

    if (!r->part.number || !r->part.etag[0] || !r->has_size)
        return -EIO;
    if (out->n == r->size) {
        const size_t size = r->size ? r->size * 2 : 64;
        struct oss_part *grown = reallocarray(out->parts, size, sizeof *grown);

        if (!grown)
            return -ENOMEM;
        out->parts = grown;
        r->size = size;
    }
    out->parts[out->n++] = r->part;
    return 0;
}

static int parts_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct parts_reader *r = arg;
    uint64_t number = 0;
    int err = 0;

    if (xml_at(p, 2, NULL, "Part"))
        return parts_add(r);
    if (page_end(&r->page, p, text, len, &err))
        return err;
    text = xml_trim(text, len);
    if (xml_at(p, 3, "Part", "PartNumber")) {
        if (!xml_number(text, OSS_PARTS_MAX, &number))
            return -EIO;
        r->part.number = (int)number;
    } else if (xml_at(p, 3, "Part", "Size")) {
        if (!xml_number(text, INT64_MAX, &r->part.size))
            return -EIO;
        r->has_size = true;
    } else if (xml_at(p, 3, "Part", "ETag")) {
        if (!xml_etag(text, r->part.etag, sizeof r->part.etag))
            return -EIO;
    } else if (xml_at(p, 3, "Part", "HashCrc64ecma")) {
        if (!xml_number(text, UINT64_MAX, &r->part.crc64))
            return -EIO;
        r->part.has_crc = true;
    } else if (xml_at(p, 2, NULL, "NextPartNumberMarker") && *text) {
        if (!xml_number(text, OSS_PARTS_MAX, &number))
            return -EIO;
        r->out->next_number = (int)number;
    }
    return 0;
}

int xml_read_parts(const char *body, size_t n, struct oss_part_list *out)
{
    struct parts_reader r = {.out = out};
    struct xml_parse p;
    int err;

    memset(out, 0, sizeof *out);
    xml_parse_init(&p, "ListPartsResult", &r);
    p.start = parts_start;
    p.end = parts_end;
    err = xml_parse(&p, body, n, XML_LIST_MAX);
    if (!err) {
        out->truncated = r.page.truncated;
        if (!r.page.knows_truncated || (out->truncated && !out->next_number))
            err = -EIO;
    }
    if (err)
        oss_part_list_free(out);
    return err;
}

void oss_part_list_free(struct oss_part_list *list)
{
    free(list->parts);
    memset(list, 0, sizeof *list);
}

/* ----------------------------------------------------------------------------------------------- deleted */

struct deleted_reader {
    struct page page;
    struct xml_strings keys;
};

static int deleted_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct deleted_reader *r = arg;
    int err = 0;

    if (xml_at(p, 3, "Deleted", "Key"))
        return ++r->page.n > OSS_LIST_MAX ? -EIO : xml_strings_add(&r->keys, text);
    page_end(&r->page, p, text, len, &err);
    return err;
}

static int compare_text(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;

    return strcmp(*x, *y);
}

int xml_read_deleted(const char *body, size_t n, const char *const *keys, size_t n_keys, bool *deleted)
{
    struct deleted_reader r = {0};
    struct xml_parse p;
    size_t kept = 0;
    int err;

    memset(deleted, 0, n_keys * sizeof *deleted);
    xml_parse_init(&p, "DeleteResult", &r);
    p.end = deleted_end;
    err = xml_parse(&p, body, n, XML_LIST_MAX);
    if (!err) {
        for (size_t i = 0; i < r.keys.n; i++) {
            if (page_name(&r.page, r.keys.v[i]))
                r.keys.v[kept++] = r.keys.v[i];
            else
                free(r.keys.v[i]);
        }
        r.keys.n = kept;
        if (kept)
            qsort(r.keys.v, kept, sizeof *r.keys.v, compare_text);
        for (size_t i = 0; i < n_keys && kept; i++)
            deleted[i] = bsearch(&keys[i], r.keys.v, kept, sizeof *r.keys.v, compare_text) != NULL;
    }
    xml_strings_free(&r.keys);
    return err;
}
