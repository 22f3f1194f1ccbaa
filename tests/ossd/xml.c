/* xml.c: see xml.h. */
#include "xml.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

/*
 * SDKs send control characters of keys as numeric references, which XML 1.0 forbids. They are moved to the last
 * private code points for the parser and moved back afterwards.
 */
#define PRIVATE_LEAD "\xf4\x8f\xbc"

static void hide_controls(struct sbuf *out, struct bytes s)
{
    for (size_t i = 0; i < s.n; i++) {
        size_t end = i + 2;
        unsigned code = 0;
        bool reference = i + 3 < s.n && s.p[i] == '&' && s.p[i + 1] == '#';
        if (reference) {
            char digits[12] = {0};
            while (end < s.n && end - i < sizeof digits && s.p[end] != ';')
                end++;
            memcpy(digits, s.p + i + 2, end - i - 2);
            bool hex = digits[0] == 'x' || digits[0] == 'X';
            char *stop;
            code = (unsigned)strtoul(digits + hex, &stop, hex ? 16 : 10);
            reference = end < s.n && s.p[end] == ';' && !*stop && stop > digits + hex && code > 0 && code < 32 &&
                        code != 9 && code != 10 && code != 13;
        }
        if (!reference) {
            sbuf_addc(out, s.p[i]);
            continue;
        }
        sbuf_adds(out, PRIVATE_LEAD);
        sbuf_addc(out, (char)(0x80 + code));
        i = end;
    }
}

static void show_controls(struct sbuf *b)
{
    char *to = b->p;

    for (size_t i = 0; i < b->n; i++) {
        unsigned char code = i + 3 < b->n ? (unsigned char)b->p[i + 3] : 0;
        if (code > 0x80 && code < 0xa0 && memcmp(b->p + i, PRIVATE_LEAD, 3) == 0) {
            *to++ = (char)(code - 0x80);
            i += 3;
        } else {
            *to++ = b->p[i];
        }
    }
    b->n = (size_t)(to - b->p);
    *to = '\0';
}

static xmlDoc *parse(struct bytes body, const char *root)
{
    struct sbuf text = {0};

    hide_controls(&text, body);
    xmlDoc *doc = text.n
                      ? xmlReadMemory(text.p, (int)text.n, NULL, NULL,
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA)
                      : NULL;
    sbuf_free(&text);
    xmlNode *top = doc ? xmlDocGetRootElement(doc) : NULL;
    if (!top || doc->intSubset || strcmp((const char *)top->name, root)) {
        xmlFreeDoc(doc);
        return NULL;
    }
    return doc;
}

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

static const xmlNode *child(const xmlNode *parent, const char *name)
{
    for (const xmlNode *node = parent->children; node; node = node->next)
        if (is_element(node, name))
            return node;
    return NULL;
}

/* The text of the child of this name; false when there is none. */
static bool child_text(const xmlNode *parent, const char *name, struct sbuf *out)
{
    const xmlNode *node = child(parent, name);

    sbuf_reserve(out, 0);
    out->n = 0;
    out->p[0] = '\0';
    if (!node)
        return false;
    for (const xmlNode *text = node->children; text; text = text->next)
        if (text->type == XML_TEXT_NODE || text->type == XML_CDATA_SECTION_NODE)
            sbuf_adds(out, (const char *)text->content);
    return true;
}

static int read_part(const xmlNode *node, struct xml_part *part)
{
    struct sbuf text = {0};
    int r = -1;

    if (!child_text(node, "PartNumber", &text) || !parse_u64(text.p, &part->number))
        goto out;
    if (!child_text(node, "ETag", &text))
        goto out;
    const char *p = text.p + strspn(text.p, "\" \n\t\r");
    size_t n = strcspn(p, "\" \n\t\r");
    if (n >= sizeof part->etag)
        n = sizeof part->etag - 1;
    memcpy(part->etag, p, n);
    part->etag[n] = '\0';
    r = 0;
out:
    sbuf_free(&text);
    return r;
}

int xml_read_complete(struct bytes body, struct xml_part **parts, size_t *n)
{
    xmlDoc *doc = parse(body, "CompleteMultipartUpload");
    size_t cap = 0;
    int r = doc ? 0 : -1;

    *parts = NULL;
    *n = 0;
    const xmlNode *node = doc ? xmlDocGetRootElement(doc)->children : NULL;
    for (; node && !r; node = node->next) {
        if (!is_element(node, "Part"))
            continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 64;
            *parts = xrealloc(*parts, cap * sizeof **parts);
        }
        r = read_part(node, &(*parts)[(*n)++]);
    }
    xmlFreeDoc(doc);
    return r;
}

int xml_read_delete(struct bytes body, struct xml_delete *out)
{
    xmlDoc *doc = parse(body, "Delete");
    struct sbuf quiet = {0};
    int r = doc ? 0 : -1;

    *out = (struct xml_delete){0};
    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    if (root && child_text(root, "Quiet", &quiet))
        out->quiet = strcmp(quiet.p, "true") == 0;
    for (const xmlNode *node = root ? root->children : NULL; node && !r; node = node->next) {
        struct sbuf key = {0};
        if (!is_element(node, "Object"))
            continue;
        if ((out->n & (out->n - 1)) == 0)
            out->keys = xrealloc(out->keys, (out->n ? 2 * out->n : 1) * sizeof *out->keys);
        if (!child_text(node, "Key", &key) || !key.n)
            r = -1;
        show_controls(&key);
        out->keys[out->n++] = key;
    }
    if (!out->n)
        r = -1;
    sbuf_free(&quiet);
    xmlFreeDoc(doc);
    return r;
}

void xml_delete_free(struct xml_delete *d)
{
    for (size_t i = 0; i < d->n; i++)
        sbuf_free(&d->keys[i]);
    free(d->keys);
}

int xml_read_tagging(struct bytes body, struct pairs *tags)
{
    xmlDoc *doc = parse(body, "Tagging");
    const xmlNode *set = doc ? child(xmlDocGetRootElement(doc), "TagSet") : NULL;
    struct sbuf key = {0}, value = {0};
    int r = set ? 0 : -1;

    for (const xmlNode *node = set ? set->children : NULL; node && !r; node = node->next) {
        if (!is_element(node, "Tag"))
            continue;
        if (!child_text(node, "Key", &key))
            r = -1;
        child_text(node, "Value", &value);
        pairs_add(tags, key.p, value.p);
    }
    sbuf_free(&key);
    sbuf_free(&value);
    xmlFreeDoc(doc);
    return r;
}

/* The first element of this name below `parent`, at any depth. */
static const xmlNode *descendant(const xmlNode *parent, const char *name)
{
    const xmlNode *found = child(parent, name);

    for (const xmlNode *node = parent->children; node && !found; node = node->next)
        found = node->type == XML_ELEMENT_NODE ? descendant(node, name) : NULL;
    return found;
}

int xml_read_element(struct bytes body, const char *root, const char *name, char *out, size_t size)
{
    xmlDoc *doc = parse(body, root);
    struct sbuf text = {0};

    out[0] = '\0';
    if (!doc)
        return -1;
    const xmlNode *found = descendant(xmlDocGetRootElement(doc), name);
    if (found && child_text(found->parent, name, &text) && text.n < size)
        memcpy(out, text.p, text.n + 1);
    sbuf_free(&text);
    xmlFreeDoc(doc);
    return 0;
}

/* ----------------------------------------------------------------------------------------------- writing */

void xml_add_bytes(struct sbuf *out, const char *name, struct bytes value, bool url)
{
    sbuf_addf(out, "<%s>", name);
    if (url)
        escape_url(out, value, false);
    else
        escape_xml(out, value);
    sbuf_addf(out, "</%s>", name);
}

void xml_add(struct sbuf *out, const char *name, const char *value)
{
    xml_add_bytes(out, name, (struct bytes){value, strlen(value)}, false);
}

void xml_add_int(struct sbuf *out, const char *name, uint64_t value)
{
    sbuf_addf(out, "<%s>%llu</%s>", name, (unsigned long long)value, name);
}
