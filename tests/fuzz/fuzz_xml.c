/*
 * Every reader of oss/xml.h on the same bytes; the first byte chooses one. What a reader accepts must fit its
 * promises: sizes within bounds, texts terminated.
 */
#include "../../oss/xml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void fuzz_list(const char *body, size_t n)
{
    struct oss_list list;
    const int r = xml_read_list(body, n, &list);

    check(r == 0 || (!list.n_entries && !list.n_prefixes && !list.next));
    check(list.n_entries + list.n_prefixes <= OSS_LIST_MAX);
    check(r || list.truncated == (list.next != NULL));
    for (size_t i = 0; i < list.n_entries; i++) {
        const struct oss_list_entry *e = &list.entries[i];

        check(e->key[0] && strlen(e->key) <= OSS_KEY_MAX && e->size <= INT64_MAX);
        check(strlen(e->etag) < sizeof e->etag && strlen(e->storage_class) < sizeof e->storage_class);
    }
    for (size_t i = 0; i < list.n_prefixes; i++)
        check(list.prefixes[i][0] && strlen(list.prefixes[i]) <= OSS_KEY_MAX);
    oss_list_free(&list);
}

static void fuzz_other_lists(const char *body, size_t n)
{
    static const char *const keys[] = {"a", "a/b c", "%"};
    struct oss_upload_list uploads;
    struct oss_part_list parts;
    bool deleted[3];

    xml_read_uploads(body, n, &uploads);
    check(uploads.n <= OSS_LIST_MAX);
    oss_upload_list_free(&uploads);
    xml_read_parts(body, n, &parts);
    for (size_t i = 0; i < parts.n; i++)
        check(parts.parts[i].number >= 1 && parts.parts[i].number <= OSS_PARTS_MAX && parts.parts[i].etag[0]);
    oss_part_list_free(&parts);
    xml_read_deleted(body, n, keys, 3, deleted);
}

static void fuzz_results(const char *body, size_t n)
{
    char id[OSS_UPLOADID_SIZE], etag[OSS_ETAG_SIZE], acl[24], *tagging;
    struct oss_bucket_info info;
    struct oss_bucket_stat stat;
    time_t when;

    check((xml_read_initiate(body, n, id) == 0) == (id[0] != '\0'));
    check((xml_read_complete(body, n, etag) == 0) == (etag[0] != '\0'));
    check((xml_read_copy(body, n, etag, &when) == 0) == (etag[0] != '\0'));
    check((xml_read_acl(body, n, acl) == 0) == (acl[0] != '\0'));
    check((xml_read_tagging(body, n, &tagging) == 0) == (tagging != NULL));
    free(tagging);
    xml_read_bucket_info(body, n, &info);
    xml_read_bucket_stat(body, n, &stat);
}

static void fuzz_error(const char *body, size_t n)
{
    struct xml_error e;
    char *text = strndup(body, n);

    xml_read_error(body, n, &e);
    check(strlen(e.code) < sizeof e.code && strlen(e.message) < sizeof e.message && e.n_fields <= XML_ERROR_FIELDS);
    xml_error_free(&e);
    if (text) {
        xml_read_error_base64(text, &e);
        xml_error_free(&e);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *body = (const char *)data + 1;

    if (!size)
        return 0;
    switch (data[0] % 4) {
    case 0:
        fuzz_list(body, size - 1);
        break;
    case 1:
        fuzz_other_lists(body, size - 1);
        break;
    case 2:
        fuzz_results(body, size - 1);
        break;
    default:
        fuzz_error(body, size - 1);
        break;
    }
    return 0;
}
