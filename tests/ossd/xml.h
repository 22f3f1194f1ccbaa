/*
 * xml.h: the XML of OSS: reads request bodies (libxml2, no entities, no network), writes replies.
 *
 * The readers answer 0, or -1 for anything malformed. Bodies are bounded by the caller.
 */
#ifndef OSSD_XML_H
#define OSSD_XML_H

#include "util.h"

struct xml_part {
    uint64_t number;
    char etag[64]; /* without the quotes */
};
int xml_read_complete(struct bytes body, struct xml_part **parts, size_t *n); /* to be freed */

struct xml_delete {
    bool quiet;
    struct sbuf *keys; /* each released with sbuf_free(), the array with free(): xml_delete_free() */
    size_t n;
};
int xml_read_delete(struct bytes body, struct xml_delete *out);
void xml_delete_free(struct xml_delete *d);

int xml_read_tagging(struct bytes body, struct pairs *tags);

/* The text of the first element of this name, or "" when there is none; for CreateBucketConfiguration. */
int xml_read_element(struct bytes body, const char *root, const char *name, char *out, size_t size);

#define XML_HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
/* <name>value</name>, the value escaped; url: percent-escaped first. */
void xml_add(struct sbuf *out, const char *name, const char *value);
void xml_add_bytes(struct sbuf *out, const char *name, struct bytes value, bool url);
void xml_add_int(struct sbuf *out, const char *name, uint64_t value);

#endif
