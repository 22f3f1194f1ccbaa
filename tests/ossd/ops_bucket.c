/* ops_bucket.c: what is asked of a bucket, and of the service. */
#include "ops.h"
#include "xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MAX 100

static bool describe_bucket(struct request *rq, struct bucket_info *info)
{
    if (store_bucket_info(rq->server->store, rq->bucket, info))
        return reply_error(rq, "NoSuchBucket", NULL);
    return true;
}

static void add_endpoints(struct request *rq, struct sbuf *out)
{
    sbuf_addf(out, "<ExtranetEndpoint>oss-%s.aliyuncs.com</ExtranetEndpoint>", rq->server->options.region);
    sbuf_addf(out, "<IntranetEndpoint>oss-%s-internal.aliyuncs.com</IntranetEndpoint>", rq->server->options.region);
    sbuf_addf(out, "<Location>oss-%s</Location>", rq->server->options.region);
}

void op_bucket_info_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    struct bucket_info info;
    char date[DATE_SIZE];

    if (!describe_bucket(rq, &info))
        return;
    date_iso(date, info.created);
    sbuf_adds(out, XML_HEAD "<BucketInfo><Bucket><AccessMonitor>Disabled</AccessMonitor>");
    xml_add(out, "CreationDate", date);
    add_endpoints(rq, out);
    xml_add(out, "Name", info.name);
    ops_owner(out);
    sbuf_addf(out, "<AccessControlList><Grant>%s</Grant></AccessControlList>", acl_name(info.acl));
    if (rq->server->options.versioning)
        xml_add(out, "Versioning", "Enabled");
    sbuf_adds(out, "<StorageClass>Standard</StorageClass><DataRedundancyType>LRS</DataRedundancyType>"
                   "<CrossRegionReplication>Disabled</CrossRegionReplication>"
                   "<TransferAcceleration>Disabled</TransferAcceleration><Comment></Comment>"
                   "<ServerSideEncryptionRule><SSEAlgorithm>None</SSEAlgorithm></ServerSideEncryptionRule>"
                   "<BlockPublicAccess>false</BlockPublicAccess></Bucket></BucketInfo>\n");
    reply_xml(rq);
}

void op_bucket_stat_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    struct bucket_info info;

    if (!describe_bucket(rq, &info))
        return;
    sbuf_adds(out, XML_HEAD "<BucketStat>");
    xml_add_int(out, "Storage", info.bytes + info.part_bytes);
    xml_add_int(out, "ObjectCount", info.objects);
    xml_add_int(out, "MultipartUploadCount", info.uploads);
    xml_add_int(out, "MultipartPartCount", info.parts);
    xml_add_int(out, "MultipartPartStorage", info.part_bytes);
    xml_add_int(out, "LiveChannelCount", 0);
    xml_add_int(out, "DeleteMarkerCount", 0);
    xml_add_int(out, "LastModifiedTime", (uint64_t)server_now(rq->server));
    xml_add_int(out, "StandardStorage", info.bytes);
    xml_add_int(out, "StandardObjectCount", info.objects);
    sbuf_adds(out, "</BucketStat>\n");
    reply_xml(rq);
}

void op_bucket_acl_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    struct bucket_info info;

    if (!describe_bucket(rq, &info))
        return;
    sbuf_adds(out, XML_HEAD "<AccessControlPolicy>");
    ops_owner(out);
    sbuf_addf(out, "<AccessControlList><Grant>%s</Grant></AccessControlList></AccessControlPolicy>\n",
              acl_name(info.acl));
    reply_xml(rq);
}

/* x-oss-acl; false: the reply is made. */
static bool read_bucket_acl(struct request *rq, enum acl *acl)
{
    const char *value = request_header(rq, "x-oss-acl");

    *acl = value ? acl_parse(value) : ACL_PRIVATE;
    if (*acl == ACL_BAD || *acl == ACL_DEFAULT)
        return reply_error(rq, "InvalidArgument", "ArgumentName", "x-oss-acl", "ArgumentValue", value, NULL);
    return true;
}

void op_put_bucket_acl_end(struct request *rq)
{
    enum acl acl;

    if (!read_bucket_acl(rq, &acl))
        return;
    int r = store_bucket_set_acl(rq->server->store, rq->bucket, acl);
    if (r)
        reply_store_error(rq, r);
    else
        reply_status(rq, 200);
}

void op_bucket_location_end(struct request *rq)
{
    sbuf_addf(&rq->reply.body, XML_HEAD "<LocationConstraint>oss-%s</LocationConstraint>\n",
              rq->server->options.region);
    reply_xml(rq);
}

void op_put_bucket_end(struct request *rq)
{
    struct bucket_info *all;
    enum acl acl;
    char class[32];

    if (!read_bucket_acl(rq, &acl))
        return;
    if (rq->body.n && xml_read_element((struct bytes){rq->body.p, rq->body.n}, "CreateBucketConfiguration",
                                       "StorageClass", class, sizeof class)) {
        reply_error(rq, "MalformedXML", NULL);
        return;
    }
    size_t n = store_buckets(rq->server->store, &all);
    free(all);
    if (n >= BUCKETS_MAX && !store_has_bucket(rq->server->store, rq->bucket, NULL)) {
        reply_error(rq, "TooManyBuckets", NULL);
        return;
    }
    int r = store_bucket_add(rq->server->store, rq->bucket, acl, server_now(rq->server));
    if (r == -EEXIST) /* the owner may repeat it */
        r = request_header(rq, "x-oss-acl") ? store_bucket_set_acl(rq->server->store, rq->bucket, acl) : 0;
    if (r)
        reply_store_error(rq, r);
    else
        reply_status(rq, 200);
}

void op_delete_bucket_end(struct request *rq)
{
    int r = store_bucket_remove(rq->server->store, rq->bucket);

    if (r == -ENOTEMPTY)
        reply_error(rq, "BucketNotEmpty", "BucketName", rq->bucket, NULL);
    else if (r)
        reply_store_error(rq, r);
    else
        reply_status(rq, 204);
}

void op_list_buckets_end(struct request *rq)
{
    struct sbuf *out = &rq->reply.body;
    const char *prefix = request_query(rq, "prefix"), *marker = request_query(rq, "marker");
    struct bucket_info *all;
    bool good = true, truncated = false;
    uint64_t max = ops_query_number(rq, "max-keys", 100, 1, 1000, &good), shown = 0;
    const char *last = "";

    if (!good)
        return;
    size_t n = store_buckets(rq->server->store, &all);
    struct sbuf items = {0};
    sbuf_adds(&items, "");
    for (size_t i = 0; i < n; i++) {
        char date[DATE_SIZE];
        if ((prefix && strncmp(all[i].name, prefix, strlen(prefix))) || (marker && strcmp(all[i].name, marker) <= 0))
            continue;
        if (shown == max) {
            truncated = true;
            break;
        }
        shown++;
        last = all[i].name;
        date_iso(date, all[i].created);
        sbuf_adds(&items, "<Bucket>");
        xml_add(&items, "CreationDate", date);
        add_endpoints(rq, &items);
        xml_add(&items, "Name", all[i].name);
        xml_add(&items, "Region", rq->server->options.region);
        sbuf_adds(&items, "<StorageClass>Standard</StorageClass></Bucket>");
    }
    sbuf_adds(out, XML_HEAD "<ListAllMyBucketsResult>");
    ops_owner(out);
    xml_add(out, "Prefix", prefix ? prefix : "");
    xml_add(out, "Marker", marker ? marker : "");
    xml_add_int(out, "MaxKeys", max);
    xml_add(out, "IsTruncated", truncated ? "true" : "false");
    if (truncated)
        xml_add(out, "NextMarker", last);
    sbuf_addf(out, "<Buckets>%s</Buckets></ListAllMyBucketsResult>\n", items.p);
    reply_xml(rq);
    sbuf_free(&items);
    free(all);
}
