/*
 * Readers and writers of XML: what the service sends, what it might, and what a hostile server could.
 */
#include "../../oss/base_time.h"
#include "../../oss/url.h"
#include "../../oss/xml.h"
#include "random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

/* The reader gets a copy without a NUL behind it: the sanitizer sees a read beyond the end. */
static char *exact(const char *text, size_t *n)
{
    char *copy;

    *n = strlen(text);
    copy = malloc(*n ? *n : 1);
    assert_non_null(copy);
    memcpy(copy, text, *n);
    return copy;
}

static int read_list(const char *text, struct oss_list *out)
{
    size_t n;
    char *copy = exact(text, &n);
    int r = xml_read_list(copy, n, out);

    free(copy);
    return r;
}

/* A list is empty after a failure, and may be freed again. */
static void refuse_list(const char *text)
{
    struct oss_list list;

    assert_int_equal(read_list(text, &list), -EIO);
    assert_null(list.entries);
    assert_null(list.prefixes);
    assert_null(list.next);
    oss_list_free(&list);
}

static void test_list(void **state)
{
    struct oss_list list;
    time_t when;

    (void)state;
    assert_int_equal(
        read_list(HEAD
                  "<ListBucketResult>\n  <Name>bkt</Name>\n  <Prefix>fun%2F</Prefix>\n  <MaxKeys>1000</MaxKeys>\n"
                  "  <Delimiter>%2F</Delimiter>\n  <EncodingType>url</EncodingType>\n"
                  "  <IsTruncated>true</IsTruncated>\n"
                  "  <NextContinuationToken>Cg%2BJiYw--</NextContinuationToken>\n"
                  "  <Contents>\n    <Key>fun%2F</Key>\n    <LastModified>2012-02-22T08:32:21.000Z</LastModified>\n"
                  "    <ETag>\"D41D8CD98F00B204E9800998ECF8427E\"</ETag>\n    <Type>Normal</Type>\n"
                  "    <Size>0</Size>\n    <StorageClass>Standard</StorageClass>\n    <Owner><ID>1</ID>"
                  "<DisplayName>Key</DisplayName></Owner>\n  </Contents>\n"
                  "  <Contents><Key>fun%2F%E7%9B%AE+a%20b%26</Key><LastModified>2024-01-02T03:04:05.000Z"
                  "</LastModified><ETag>&quot;5B3C-2&quot;</ETag><Type>Appendable</Type><Size>9223372036854775807"
                  "</Size><StorageClass>IA</StorageClass></Contents>\n"
                  "  <Contents><Key>fun%2Fl</Key><ETag>\"x\"</ETag><Type>Symlink</Type><Size>5</Size></Contents>\n"
                  "  <Contents><Key>fun%2Fm</Key><ETag>\"x\"</ETag><Type>Multipart</Type><Size>6</Size></Contents>\n"
                  "  <CommonPrefixes>\n    <Prefix>fun%2Fa%2F</Prefix>\n  </CommonPrefixes>\n"
                  "  <CommonPrefixes><Prefix>fun%2F%01%2F</Prefix></CommonPrefixes>\n"
                  "  <KeyCount>6</KeyCount>\n</ListBucketResult>",
                  &list),
        0);
    assert_int_equal(list.n_entries, 4);
    assert_string_equal(list.entries[0].key, "fun/");
    assert_int_equal(list.entries[0].size, 0);
    assert_string_equal(list.entries[0].etag, "D41D8CD98F00B204E9800998ECF8427E");
    assert_int_equal(http_date_parse("Wed, 22 Feb 2012 08:32:21 GMT", &when), 0);
    assert_int_equal(list.entries[0].last_modified, when);
    assert_int_equal(list.entries[0].type, OSS_TYPE_NORMAL);
    assert_string_equal(list.entries[0].storage_class, "Standard");
    assert_string_equal(list.entries[1].key, "fun/\xe7\x9b\xae+a b&");
    assert_int_equal(list.entries[1].size, INT64_MAX);
    assert_string_equal(list.entries[1].etag, "5B3C-2");
    assert_int_equal(list.entries[1].type, OSS_TYPE_APPENDABLE);
    assert_int_equal(list.entries[2].type, OSS_TYPE_SYMLINK);
    assert_int_equal(list.entries[2].last_modified, 0);
    assert_int_equal(list.entries[3].type, OSS_TYPE_MULTIPART);
    assert_int_equal(list.n_prefixes, 2);
    assert_string_equal(list.prefixes[0], "fun/a/");
    assert_string_equal(list.prefixes[1], "fun/\x01/");
    assert_true(list.truncated);
    assert_string_equal(list.next, "Cg+JiYw--");
    assert_int_equal(list.skipped, 0);
    oss_list_free(&list);
}

/* No encoding asked for: names are as they stand, blanks included. A namespace does not matter, nor does the order.
 */
static void test_list_plain(void **state)
{
    struct oss_list list;

    (void)state;
    assert_int_equal(read_list("<ListBucketResult xmlns=\"http://doc.oss-cn-hangzhou.aliyuncs.com\">"
                               "<Contents><Size> 3 </Size><Key> a%20b&amp;<![CDATA[<c>]]> </Key></Contents>"
                               "<IsTruncated> false </IsTruncated>"
                               "<NextContinuationToken>x</NextContinuationToken></ListBucketResult>",
                               &list),
                     0);
    assert_int_equal(list.n_entries, 1);
    assert_string_equal(list.entries[0].key, " a%20b&<c> ");
    assert_int_equal(list.entries[0].size, 3);
    assert_string_equal(list.entries[0].etag, "");
    assert_false(list.truncated);
    assert_null(list.next);
    oss_list_free(&list);

    /* EncodingType after the entries counts for them too. */
    assert_int_equal(read_list("<ListBucketResult><Contents><Key>\n a%20b\n</Key><Size>3</Size></Contents>"
                               "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType></ListBucketResult>",
                               &list),
                     0);
    assert_string_equal(list.entries[0].key, "a b");
    oss_list_free(&list);

    assert_int_equal(read_list("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", &list), 0);
    assert_int_equal(list.n_entries + list.n_prefixes, 0);
    oss_list_free(&list);
}

/* One entry that cannot be read is left out and counted; its neighbours stay. */
static void test_list_skips(void **state)
{
    static const char *const bad[] = {
        "<Key>a%</Key><Size>1</Size>",
        "<Key>a%4</Key><Size>1</Size>",
        "<Key>a%zz</Key><Size>1</Size>",
        "<Key>a%00b</Key><Size>1</Size>",
        "<Key></Key><Size>1</Size>",
        "<Key/><Size>1</Size>",
        "<Size>1</Size>",
        "<Key>a</Key>",
        "<Key>a</Key><Size></Size>",
        "<Key>a</Key><Size>-1</Size>",
        "<Key>a</Key><Size>1k</Size>",
        "<Key>a</Key><Size>9223372036854775808</Size>",
        "<Key>a</Key><Size>99999999999999999999999</Size>",
        ("<Key>a</Key><Size>1</Size><ETag>0123456789012345678901234567890123456789012345678901234567890123456789ab"
         "</ETag>"),
        "",
    };
    struct oss_list list;
    char text[4096], key[1100];

    (void)state;
    for (size_t i = 0; i <= sizeof bad / sizeof bad[0]; i++) {
        char last[1200];

        memset(key, 'k', sizeof key);
        key[OSS_KEY_MAX + 1] = '\0';
        snprintf(last, sizeof last, "<Key>%s</Key><Size>1</Size>", key);
        snprintf(text, sizeof text,
                 "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
                 "<Contents><Key>before</Key><Size>1</Size></Contents><Contents>%s</Contents>"
                 "<Contents><Key>after</Key><Size>2</Size></Contents>"
                 "<CommonPrefixes><Prefix>p%%2F</Prefix></CommonPrefixes></ListBucketResult>",
                 i < sizeof bad / sizeof bad[0] ? bad[i] : last);
        assert_int_equal(read_list(text, &list), 0);
        assert_int_equal(list.n_entries, 2);
        assert_string_equal(list.entries[0].key, "before");
        assert_string_equal(list.entries[1].key, "after");
        assert_int_equal(list.entries[1].size, 2);
        assert_int_equal(list.skipped, 1);
        assert_int_equal(list.n_prefixes, 1);
        oss_list_free(&list);
    }
    assert_int_equal(read_list("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
                               "<CommonPrefixes><Prefix>%zz</Prefix></CommonPrefixes>"
                               "<CommonPrefixes><Prefix>ok%2F</Prefix></CommonPrefixes></ListBucketResult>",
                               &list),
                     0);
    assert_int_equal(list.n_prefixes, 1);
    assert_string_equal(list.prefixes[0], "ok/");
    assert_int_equal(list.skipped, 1);
    oss_list_free(&list);
}

/* A page that cannot be believed as a whole. */
static void test_list_refused(void **state)
{
    static const char page[] = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
                               "<Contents><Key>a</Key><Size>1</Size></Contents>"
                               "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    struct oss_list list;

    (void)state;
    assert_int_equal(read_list(page, &list), 0);
    oss_list_free(&list);
    /* Cut off anywhere. */
    for (size_t n = 0; n < sizeof page - 1; n++) {
        char *copy = malloc(n ? n : 1);

        memcpy(copy, page, n);
        assert_int_equal(xml_read_list(copy, n, &list), -EIO);
        free(copy);
    }
    refuse_list("");
    refuse_list("hello");
    refuse_list("<html><body>502</body></html>");
    refuse_list("<Error><Code>NoSuchBucket</Code></Error>");
    refuse_list("<ListBucketResult/>");
    refuse_list("<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>");
    refuse_list("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>");
    refuse_list("<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken> </NextContinuationToken>"
                "</ListBucketResult>");
    refuse_list("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
                "<NextContinuationToken>%0</NextContinuationToken></ListBucketResult>");
    refuse_list("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult><x/>");
    refuse_list("<ListBucketResult><IsTruncated>false</IsTruncated>&#0;</ListBucketResult>");
    refuse_list("<ListBucketResult><IsTruncated>false</IsTruncated>\xff</ListBucketResult>");
    refuse_list("<ListBucketResult><IsTruncated>false</IsTruncated>&nosuch;</ListBucketResult>");
}

static void test_no_document_type(void **state)
{
    struct oss_list list;

    (void)state;
    refuse_list("<!DOCTYPE ListBucketResult><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>");
    refuse_list("<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><ListBucketResult><IsTruncated>false</IsTruncated>"
                "</ListBucketResult>");
    refuse_list("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/hostname\">]><ListBucketResult><IsTruncated>false"
                "</IsTruncated><Contents><Key>&e;</Key><Size>1</Size></Contents></ListBucketResult>");
    refuse_list("<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">"
                "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;\">]>"
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>&d;</Key><Size>1</Size></Contents>"
                "</ListBucketResult>");
    /* What needs no document type is still there. */
    assert_int_equal(
        read_list("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>&lt;&#x41;&#x4e;</Key>"
                  "<Size>1</Size></Contents></ListBucketResult>",
                  &list),
        0);
    assert_string_equal(list.entries[0].key, "<AN");
    oss_list_free(&list);
}

/* Too many entries, too much text, too deep, too large: -EIO, early. */
static void test_bounds(void **state)
{
    struct buf b = BUF_INIT(XML_LIST_MAX + (1u << 20));
    struct oss_list list;
    char etag[OSS_ETAG_SIZE];
    int64_t start;

    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        buf_reset(&b);
        buf_adds(&b, "<ListBucketResult><IsTruncated>false</IsTruncated>");
        for (int i = 0; i < 500 + extra; i++)
            buf_addf(&b, "<Contents><Key>%d</Key><Size>1</Size></Contents>", i);
        for (int i = 0; i < 500; i++)
            buf_addf(&b, "<CommonPrefixes><Prefix>%d/</Prefix></CommonPrefixes>", i);
        buf_adds(&b, "</ListBucketResult>");
        assert_int_equal(xml_read_list(b.data, b.len, &list), extra ? -EIO : 0);
        assert_int_equal(list.n_entries, extra ? 0 : 500);
        oss_list_free(&list);
    }

    buf_reset(&b);
    buf_adds(&b, "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>");
    for (int i = 0; i < 70000; i++)
        buf_adds(&b, "k");
    buf_adds(&b, "</Key><Size>1</Size></Contents></ListBucketResult>");
    assert_int_equal(xml_read_list(b.data, b.len, &list), -EIO);

    buf_reset(&b);
    buf_adds(&b, "<ListBucketResult>");
    for (int i = 0; i < 100000; i++)
        buf_adds(&b, "<a>");
    assert_int_equal(xml_read_list(b.data, b.len, &list), -EIO);

    /* A page of 64 MiB and a byte is not looked at; a reply of 1 MiB and a byte neither. */
    buf_reset(&b);
    while (b.len <= XML_LIST_MAX)
        buf_addf(&b, "%4000s", "");
    start = clock_ms();
    assert_int_equal(xml_read_list(b.data, b.len, &list), -EIO);
    assert_true(clock_ms() - start < 10000);
    buf_reset(&b);
    buf_adds(&b, "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>");
    assert_int_equal(xml_read_complete(b.data, b.len, etag), 0);
    while (b.len <= XML_REPLY_MAX)
        buf_addf(&b, "%1000s", "");
    assert_int_equal(xml_read_complete(b.data, b.len, etag), -EIO);
    buf_free(&b);
}

/* A full page, as the service writes it. */
static void test_full_page(void **state)
{
    struct buf b = BUF_INIT(XML_LIST_MAX);
    struct oss_list list;

    (void)state;
    buf_adds(&b, HEAD "<ListBucketResult>\n  <EncodingType>url</EncodingType>\n  <IsTruncated>false</IsTruncated>\n");
    for (int i = 0; i < 1000; i++)
        buf_addf(&b,
                 "  <Contents>\n    <Key>usr%%2Finclude%%2Fsome%%2Fdirectory%%2Fheader-%06d.h</Key>\n"
                 "    <LastModified>2024-01-02T03:04:05.000Z</LastModified>\n"
                 "    <ETag>\"D41D8CD98F00B204E9800998ECF8427E\"</ETag>\n    <Type>Normal</Type>\n"
                 "    <Size>%d</Size>\n    <StorageClass>Standard</StorageClass>\n  </Contents>\n",
                 i, i);
    buf_adds(&b, "</ListBucketResult>\n");
    assert_int_equal(xml_read_list(b.data, b.len, &list), 0);
    assert_int_equal(list.n_entries, 1000);
    assert_string_equal(list.entries[999].key, "usr/include/some/directory/header-000999.h");
    assert_int_equal(list.entries[999].size, 999);
    oss_list_free(&list);
    buf_free(&b);
}

static void test_uploads(void **state)
{
    struct oss_upload_list list;
    size_t n;
    char *text = exact("<ListMultipartUploadsResult><EncodingType>url</EncodingType><Bucket>b</Bucket><KeyMarker/>"
                       "<UploadIdMarker/><NextKeyMarker>d%2Fz</NextKeyMarker><NextUploadIdMarker>ID2"
                       "</NextUploadIdMarker><MaxUploads>3</MaxUploads><IsTruncated>true</IsTruncated>"
                       "<Upload><Key>d%2Fa</Key><UploadId>ID1</UploadId><StorageClass>Standard</StorageClass>"
                       "<Initiated>2012-02-22T08:32:21.000Z</Initiated></Upload>"
                       "<Upload><Key>d%</Key><UploadId>bad</UploadId></Upload><Upload><Key>d</Key></Upload>"
                       "<Upload><Key>d%2Fz</Key><UploadId>ID2</UploadId></Upload></ListMultipartUploadsResult>",
                       &n);
    time_t when;

    (void)state;
    assert_int_equal(xml_read_uploads(text, n, &list), 0);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.entries[0].key, "d/a");
    assert_string_equal(list.entries[0].id, "ID1");
    assert_int_equal(iso_date_parse("2012-02-22T08:32:21Z", &when), 0);
    assert_int_equal(list.entries[0].initiated, when);
    assert_string_equal(list.entries[1].key, "d/z");
    assert_true(list.truncated);
    assert_string_equal(list.next_key, "d/z");
    assert_string_equal(list.next_id, "ID2");
    oss_upload_list_free(&list);
    for (size_t cut = 0; cut < n; cut += 7) {
        assert_int_equal(xml_read_uploads(text, cut, &list), -EIO);
        assert_null(list.entries);
    }
    free(text);

    text = exact("<ListMultipartUploadsResult><NextKeyMarker/><NextUploadIdMarker/><IsTruncated>false</IsTruncated>"
                 "</ListMultipartUploadsResult>",
                 &n);
    assert_int_equal(xml_read_uploads(text, n, &list), 0);
    assert_int_equal(list.n, 0);
    assert_null(list.next_key);
    oss_upload_list_free(&list);
    free(text);
    text = exact("<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>", &n);
    assert_int_equal(xml_read_uploads(text, n, &list), -EIO);
    free(text);
}

static int read_parts(const char *parts, const char *truncated, const char *next, struct oss_part_list *out)
{
    char text[2048];
    size_t n;
    char *copy;
    int r;

    snprintf(text, sizeof text,
             "<ListPartsResult><Bucket>b</Bucket><Key>k</Key><UploadId>U</UploadId><PartNumberMarker>0"
             "</PartNumberMarker><NextPartNumberMarker>%s</NextPartNumberMarker><MaxParts>1000</MaxParts>"
             "<IsTruncated>%s</IsTruncated>%s</ListPartsResult>",
             next, truncated, parts);
    copy = exact(text, &n);
    r = xml_read_parts(copy, n, out);
    free(copy);
    return r;
}

static void test_parts(void **state)
{
    static const char *const bad[] = {
        "<Part><PartNumber>0</PartNumber><ETag>\"A\"</ETag><Size>1</Size></Part>",
        "<Part><PartNumber>10001</PartNumber><ETag>\"A\"</ETag><Size>1</Size></Part>",
        "<Part><ETag>\"A\"</ETag><Size>1</Size></Part>",
        "<Part><PartNumber>1</PartNumber><Size>1</Size></Part>",
        "<Part><PartNumber>1</PartNumber><ETag>\"A\"</ETag></Part>",
        "<Part><PartNumber>1</PartNumber><ETag>\"A\"</ETag><Size>x</Size></Part>",
        ("<Part><PartNumber>1</PartNumber><ETag>\"A\"</ETag><Size>1</Size><HashCrc64ecma>18446744073709551616"
         "</HashCrc64ecma></Part>"),
    };
    struct oss_part_list list;

    (void)state;
    assert_int_equal(
        read_parts("<Part><PartNumber>1</PartNumber><LastModified>2012-02-22T08:32:21.000Z</LastModified>"
                   "<ETag>&quot;AB&quot;</ETag><Size>102400</Size><HashCrc64ecma>18446744073709551615"
                   "</HashCrc64ecma></Part><Part><PartNumber>10000</PartNumber><ETag>\"CD\"</ETag>"
                   "<Size>0</Size></Part>",
                   "true", "10000", &list),
        0);
    assert_int_equal(list.n, 2);
    assert_int_equal(list.parts[0].number, 1);
    assert_int_equal(list.parts[0].size, 102400);
    assert_string_equal(list.parts[0].etag, "AB");
    assert_true(list.parts[0].has_crc);
    assert_int_equal(list.parts[0].crc64, UINT64_MAX);
    assert_int_equal(list.parts[1].number, 10000);
    assert_false(list.parts[1].has_crc);
    assert_true(list.truncated);
    assert_int_equal(list.next_number, 10000);
    oss_part_list_free(&list);

    assert_int_equal(read_parts("", "false", "", &list), 0);
    assert_int_equal(list.n, 0);
    oss_part_list_free(&list);
    assert_int_equal(read_parts("", "true", "", &list), -EIO);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_parts(bad[i], "false", "1", &list), -EIO);
        assert_null(list.parts);
    }
}

static void test_deleted(void **state)
{
    static const char *const keys[] = {"c", "a/b c", "missing", "\x01", "c"};
    bool deleted[5];
    size_t n;
    char *text = exact("<DeleteResult><EncodingType>url</EncodingType><Deleted><Key>a%2Fb%20c</Key></Deleted>"
                       "<Deleted><Key>%01</Key><DeleteMarker>true</DeleteMarker></Deleted><Deleted><Key>c</Key>"
                       "</Deleted><Deleted><Key>%</Key></Deleted><Deleted><Key>other</Key></Deleted></DeleteResult>",
                       &n);

    (void)state;
    memset(deleted, 1, sizeof deleted);
    assert_int_equal(xml_read_deleted(text, n, keys, 5, deleted), 0);
    assert_true(deleted[0] && deleted[1] && deleted[3] && deleted[4]);
    assert_false(deleted[2]);
    memset(deleted, 1, sizeof deleted);
    assert_int_equal(xml_read_deleted(text, n - 1, keys, 5, deleted), -EIO);
    for (int i = 0; i < 5; i++)
        assert_false(deleted[i]);
    assert_int_equal(xml_read_deleted("<DeleteResult/>", 15, keys, 5, deleted), 0);
    assert_false(deleted[0]);
    free(text);
}

static void test_single_results(void **state)
{
    char id[OSS_UPLOADID_SIZE], etag[OSS_ETAG_SIZE], acl[24], text[1024];
    struct oss_bucket_info info;
    struct oss_bucket_stat stat;
    time_t when;

#define READ(reader, xml, ...) reader(xml, strlen(xml), __VA_ARGS__)
    (void)state;
    assert_int_equal(READ(xml_read_initiate,
                          "<InitiateMultipartUploadResult xmlns=\"x\"><Bucket>b</Bucket><Key>k</Key>"
                          "<UploadId>\n 0004B9 \n</UploadId></InitiateMultipartUploadResult>",
                          id),
                     0);
    assert_string_equal(id, "0004B9");
    assert_int_equal(READ(xml_read_initiate, "<InitiateMultipartUploadResult/>", id), -EIO);
    snprintf(text, sizeof text,
             "<InitiateMultipartUploadResult><UploadId>%0300d</UploadId></InitiateMultipartUploadResult>", 1);
    assert_int_equal(READ(xml_read_initiate, text, id), -EIO);
    assert_string_equal(id, "");

    assert_int_equal(READ(xml_read_complete,
                          "<CompleteMultipartUploadResult><Location>l</Location><ETag>\"AB-2\"</ETag>"
                          "</CompleteMultipartUploadResult>",
                          etag),
                     0);
    assert_string_equal(etag, "AB-2");
    assert_int_equal(READ(xml_read_complete, "<Error><Code>InternalError</Code></Error>", etag), -EIO);
    assert_int_equal(READ(xml_read_complete, "<CompleteMultipartUploadResult/>", etag), -EIO);

    assert_int_equal(READ(xml_read_copy,
                          "<CopyObjectResult><ETag>\"CD\"</ETag><LastModified>2012-02-22T08:32:21.000Z</LastModified>"
                          "</CopyObjectResult>",
                          etag, &when),
                     0);
    assert_string_equal(etag, "CD");
    assert_int_equal(when, 1329899541);
    assert_int_equal(READ(xml_read_copy, "<CopyPartResult><ETag>\"EF\"</ETag></CopyPartResult>", etag, &when), 0);
    assert_string_equal(etag, "EF");
    assert_int_equal(when, 0);
    assert_int_equal(READ(xml_read_copy, "<CopyResult><ETag>\"EF\"</ETag></CopyResult>", etag, &when), -EIO);

    assert_int_equal(READ(xml_read_acl,
                          "<AccessControlPolicy><Owner><ID>1</ID></Owner><AccessControlList><Grant>public-read-write"
                          "</Grant></AccessControlList></AccessControlPolicy>",
                          acl),
                     0);
    assert_string_equal(acl, "public-read-write");
    assert_int_equal(READ(xml_read_acl, "<AccessControlPolicy/>", acl), -EIO);
    assert_int_equal(READ(xml_read_acl,
                          "<AccessControlPolicy><AccessControlList><Grant>a-very-long-word-that-does-not-fit</Grant>"
                          "</AccessControlList></AccessControlPolicy>",
                          acl),
                     -EIO);

    assert_int_equal(
        READ(xml_read_bucket_info,
             "<BucketInfo><Bucket><CreationDate>2013-07-31T10:56:21.000Z</CreationDate><ExtranetEndpoint>"
             "oss-cn-hangzhou.aliyuncs.com</ExtranetEndpoint><Location>oss-cn-hangzhou</Location>"
             "<Name>b</Name><Owner><ID>1</ID></Owner><AccessControlList><Grant>private</Grant>"
             "</AccessControlList><StorageClass>IA</StorageClass><Versioning>Enabled</Versioning>"
             "<HierarchicalNamespace>Enabled</HierarchicalNamespace></Bucket></BucketInfo>",
             &info),
        0);
    assert_string_equal(info.location, "oss-cn-hangzhou");
    assert_string_equal(info.acl, "private");
    assert_string_equal(info.storage_class, "IA");
    assert_string_equal(info.versioning, "Enabled");
    assert_true(info.hierarchical);
    assert_int_equal(info.created, 1375268181);
    assert_int_equal(READ(xml_read_bucket_info, "<BucketInfo><Bucket/></BucketInfo>", &info), 0);
    assert_string_equal(info.versioning, "");
    assert_false(info.hierarchical);

    assert_int_equal(READ(xml_read_bucket_stat,
                          "<BucketStat><Storage>1600</Storage><ObjectCount>230</ObjectCount><MultipartUploadCount>40"
                          "</MultipartUploadCount><LiveChannelCount>4</LiveChannelCount></BucketStat>",
                          &stat),
                     0);
    assert_int_equal(stat.storage, 1600);
    assert_int_equal(stat.objects, 230);
    assert_int_equal(stat.multipart_uploads, 40);
    assert_int_equal(READ(xml_read_bucket_stat, "<BucketStat><Storage>much</Storage></BucketStat>", &stat), -EIO);
}

static void test_tagging(void **state)
{
    char *tagging;

    (void)state;
    assert_int_equal(READ(xml_read_tagging,
                          "<Tagging><TagSet><Tag><Key>a b</Key><Value>c=d&amp;e</Value></Tag><Tag><Key>k</Key>"
                          "<Value></Value></Tag><Tag><Key>l</Key></Tag></TagSet></Tagging>",
                          &tagging),
                     0);
    assert_string_equal(tagging, "a%20b=c%3Dd%26e&k=&l=");
    free(tagging);
    assert_int_equal(READ(xml_read_tagging, "<Tagging><TagSet/></Tagging>", &tagging), 0);
    assert_string_equal(tagging, "");
    free(tagging);
    assert_int_equal(
        READ(xml_read_tagging, "<Tagging><TagSet><Tag><Value>v</Value></Tag></TagSet></Tagging>", &tagging), -EIO);
    assert_null(tagging);
}

static void test_writers(void **state)
{
    static const struct oss_part parts[] = {{.number = 1, .etag = "AB"}, {.number = 10000, .etag = "C&D"}};
    static const char *const keys[] = {"a/b", "<&>\"'", "tab\tnl\ncr\rdel\x7f\x01", "\xe7\x9b\xae"};
    struct buf b = BUF_INIT(1 << 20);

    (void)state;
    assert_int_equal(xml_write_complete(&b, parts, 2), 0);
    assert_string_equal(b.data,
                        HEAD "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;AB&quot;</ETag>"
                             "</Part><Part><PartNumber>10000</PartNumber><ETag>&quot;C&amp;D&quot;</ETag></Part>"
                             "</CompleteMultipartUpload>");
    buf_reset(&b);
    assert_int_equal(xml_write_delete(&b, keys, 4, true), 0);
    assert_string_equal(b.data, HEAD "<Delete><Quiet>true</Quiet><Object><Key>a/b</Key></Object><Object><Key>"
                                     "&lt;&amp;&gt;&quot;'</Key></Object><Object><Key>tab&#x9;nl&#xA;cr&#xD;del&#x7F;"
                                     "&#x1;</Key></Object><Object><Key>\xe7\x9b\xae</Key></Object></Delete>");
    buf_free(&b);

    struct buf small = BUF_INIT(100);

    assert_int_equal(xml_write_delete(&small, keys, 4, false), -ENOSPC);
    buf_free(&small);
}

/* Whatever a key is made of, what the service lists is what was stored. */
static void test_keys_round_trip(void **state)
{
    struct random random = {.state = 9};
    char keys[200][64];

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct buf b = BUF_INIT(1 << 20);
        struct oss_list list;

        buf_adds(&b, "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>");
        for (size_t i = 0; i < 200; i++) {
            const size_t n = random_between(&random, 1, 63);

            for (size_t k = 0; k < n; k++)
                keys[i][k] = (char)random_between(&random, 1, 255);
            keys[i][n] = '\0';
            buf_adds(&b, "<Contents><Key>");
            url_escape(&b, keys[i], n, random_one_in(&random, 2));
            buf_adds(&b, "</Key><Size>1</Size></Contents>");
        }
        buf_adds(&b, "</ListBucketResult>");
        assert_int_equal(xml_read_list(b.data, b.len, &list), 0);
        assert_int_equal(list.n_entries, 200);
        for (size_t i = 0; i < 200; i++)
            assert_string_equal(list.entries[i].key, keys[i]);
        oss_list_free(&list);
        buf_free(&b);
    }
}

/* Bytes of a good page changed at random: any result but a crash, and never more than there was. */
static void test_damaged(void **state)
{
    static const char page[] = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
                               "<Contents><Key>a%20</Key><Size>1</Size><ETag>\"x\"</ETag></Contents>"
                               "<CommonPrefixes><Prefix>p%2F</Prefix></CommonPrefixes>"
                               "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    struct random random = {.state = 11};

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char copy[sizeof page - 1];
        struct oss_list list;
        int r;

        memcpy(copy, page, sizeof copy);
        for (uint64_t k = random_between(&random, 1, 4); k; k--)
            copy[random_below(&random, sizeof copy)] = (char)random_u64(&random);
        r = xml_read_list(copy, sizeof copy, &list);
        assert_true(r == 0 || r == -EIO);
        assert_true(list.n_entries <= 1 && list.n_prefixes <= 1);
        assert_true(r == 0 || !list.entries);
        oss_list_free(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_plain),
        cmocka_unit_test(test_list_skips),
        cmocka_unit_test(test_list_refused),
        cmocka_unit_test(test_no_document_type),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_full_page),
        cmocka_unit_test(test_uploads),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_single_results),
        cmocka_unit_test(test_tagging),
        cmocka_unit_test(test_writers),
        cmocka_unit_test(test_keys_round_trip),
        cmocka_unit_test(test_damaged),
    };

    xml_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
