/*
 * The parser, the error body, and the writers. The readers of lists and results are in xml_list.c and xml_result.c.
 */
#include "xml.h"

#include "url.h"
#include "xml_parse.h"

#include <errno.h>
#include <libxml/parser.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void xml_init(void)
{
    xmlInitParser();
}

/* ------------------------------------------------------------------------------------------------ parser */

void xml_parse_init(struct xml_parse *p, const char *root, void *arg)
{
    memset(p, 0, sizeof *p);
    p->root = root;
    p->arg = arg;
    buf_init(&p->text, XML_TEXT_MAX);
}

static void stop(struct xml_parse *p, int err)
{
    if (!p->err)
        p->err = err;
    xmlStopParser(p->ctxt);
}

static void on_start(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int n_namespaces,
                     const xmlChar **namespaces, int n_attributes, int n_defaulted, const xmlChar **attributes)
{
    struct xml_parse *p = user;
    int r;

    (void)prefix, (void)uri, (void)n_namespaces, (void)namespaces;
    (void)n_attributes, (void)n_defaulted, (void)attributes;
    if (p->err)
        return;
    if (p->depth == XML_DEPTH) {
        stop(p, -EIO);
        return;
    }
    /* The name is in the parser's dictionary, so it stays as long as the parser. */
    p->path[p->depth++] = (const char *)name;
    buf_reset(&p->text);
    if (p->depth == 1 && strcmp(p->path[0], p->root) != 0 && (!p->root2 || strcmp(p->path[0], p->root2) != 0)) {
        stop(p, -EIO);
        return;
    }
    r = p->start ? p->start(p->arg, p) : 0;
    if (r)
        stop(p, r);
}

static void on_end(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    struct xml_parse *p = user;
    char none[1] = "";
    int r;

    (void)name, (void)prefix, (void)uri;
    if (p->err)
        return;
    r = p->end(p->arg, p, p->text.data ? p->text.data : none, p->text.len);
    buf_reset(&p->text);
    p->depth--;
    if (r)
        stop(p, r);
}

static void on_text(void *user, const xmlChar *text, int n)
{
    struct xml_parse *p = user;
    int r;

    if (p->err)
        return;
    r = buf_add(&p->text, text, (size_t)n);
    if (r)
        stop(p, r == -ENOSPC ? -EIO : r);
}

/* The service sends no document type; what comes with one (entities above all) is not for us. */
static void on_doctype(void *user, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    (void)name, (void)external, (void)system;
    stop(user, -EIO);
}

int xml_parse(struct xml_parse *p, const char *body, size_t n, size_t max)
{
    xmlParserCtxt *ctxt = NULL;
    int r = -EIO;

    if (!n || n > max)
        goto out;
    ctxt = xmlNewParserCtxt();
    if (!ctxt || !ctxt->sax) {
        r = -ENOMEM;
        goto out;
    }
    memset(ctxt->sax, 0, sizeof *ctxt->sax);
    ctxt->sax->initialized = XML_SAX2_MAGIC;
    ctxt->sax->startElementNs = on_start;
    ctxt->sax->endElementNs = on_end;
    ctxt->sax->characters = on_text;
    ctxt->sax->cdataBlock = on_text;
    ctxt->sax->internalSubset = on_doctype;
    ctxt->userData = p;
    p->ctxt = ctxt;
    xmlFreeDoc(
        xmlCtxtReadMemory(ctxt, body, (int)n, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING));
    if (p->err)
        r = p->err;
    else if (ctxt->errNo == XML_ERR_NO_MEMORY)
        r = -ENOMEM;
    else if (ctxt->wellFormed)
        r = 0;
out:
    if (ctxt)
        xmlFreeParserCtxt(ctxt);
    p->ctxt = NULL;
    buf_free(&p->text);
    return r;
}

bool xml_at(const struct xml_parse *p, int depth, const char *parent, const char *name)
{
    return p->depth == depth && !strcmp(p->path[depth - 1], name) &&
           (!parent || (depth > 1 && !strcmp(p->path[depth - 2], parent)));
}

/* ------------------------------------------------------------------------------------------------- texts */

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

char *xml_trim(char *text, size_t len)
{
    while (len && blank(text[len - 1]))
        len--;
    text[len] = '\0';
    while (blank(*text))
        text++;
    return text;
}

bool xml_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        const unsigned digit = (unsigned)(*text - '0');

        if (*text < '0' || *text > '9' || value > (max - digit) / 10 || digit > max)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool xml_bool(const char *text, bool *out)
{
    *out = !strcmp(text, "true");
    return *out || !strcmp(text, "false");
}

bool xml_fits(const char *text, char *out, size_t size)
{
    const size_t n = strlen(text);

    if (n >= size)
        return false;
    memcpy(out, text, n + 1);
    return true;
}

bool xml_etag(const char *text, char *out, size_t size)
{
    size_t n = strlen(text);

    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        text++;
        n -= 2;
    }
    if (n >= size)
        return false;
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

void xml_copy(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);

    if (n >= size) {
        n = size - 1;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(out, text, n);
    out[n] = '\0';
}

int xml_strings_add(struct xml_strings *s, const char *text)
{
    if (s->n == s->size) {
        const size_t size = s->size ? s->size * 2 : 64;
        char **v = reallocarray(s->v, size, sizeof *v);

        if (!v)
            return -ENOMEM;
        s->v = v;
        s->size = size;
    }
    s->v[s->n] = strdup(text);
    if (!s->v[s->n])
        return -ENOMEM;
    s->n++;
    return 0;
}

void xml_strings_free(struct xml_strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    memset(s, 0, sizeof *s);
}

/* ------------------------------------------------------------------------------------------------ errors */

static int error_end(void *arg, const struct xml_parse *p, char *text, size_t len)
{
    struct xml_error *e = arg;
    struct xml_field *field;

    if (p->depth != 2)
        return 0;
    text = xml_trim(text, len);
    if (xml_at(p, 2, NULL, "Code")) {
        xml_copy(e->code, sizeof e->code, text);
    } else if (xml_at(p, 2, NULL, "Message")) {
        xml_copy(e->message, sizeof e->message, text);
    } else if (e->n_fields < XML_ERROR_FIELDS) {
        field = &e->fields[e->n_fields];
        field->name = strdup(p->path[1]);
        field->value = strdup(text);
        if (!field->name || !field->value) {
            free(field->name);
            free(field->value);
            return -ENOMEM;
        }
        e->n_fields++;
    }
    return 0;
}

/* The text between <name> and </name> of a body that XML cannot read. */
static void plain_search(const char *body, const char *name, char *out, size_t size)
{
    char tag[32], *text;
    const char *start, *end;

    snprintf(tag, sizeof tag, "<%s>", name);
    start = strstr(body, tag);
    if (!start)
        return;
    start += strlen(tag);
    snprintf(tag, sizeof tag, "</%s>", name);
    end = strstr(start, tag);
    if (!end)
        return;
    text = strndup(start, (size_t)(end - start));
    if (!text)
        return;
    xml_copy(out, size, xml_trim(text, strlen(text)));
    free(text);
}

/* A service that puts a key with a control character into its message writes what is no XML. */
static int error_plain(const char *body, size_t n, struct xml_error *out)
{
    char *text = strndup(body, n); /* ends at a NUL: what follows one is nobody's text */
    int r = -EIO;

    if (!text)
        return -ENOMEM;
    if (strstr(text, "<Error") && strstr(text, "</Error>")) {
        plain_search(text, "Code", out->code, sizeof out->code);
        plain_search(text, "Message", out->message, sizeof out->message);
        if (out->code[0])
            r = 0;
    }
    free(text);
    return r;
}

int xml_read_error(const char *body, size_t n, struct xml_error *out)
{
    struct xml_parse p;
    int r;

    memset(out, 0, sizeof *out);
    xml_parse_init(&p, "Error", out);
    p.end = error_end;
    r = xml_parse(&p, body, n, XML_REPLY_MAX);
    if (!r)
        return 0;
    xml_error_free(out);
    return r == -EIO && n && n <= XML_REPLY_MAX ? error_plain(body, n, out) : r;
}

int xml_read_error_base64(const char *text, struct xml_error *out)
{
    const size_t n = strlen(text);
    unsigned char *body;
    int len, r = -EIO;

    memset(out, 0, sizeof *out);
    if (!n || n % 4 || n > XML_REPLY_MAX)
        return -EIO;
    body = malloc(n / 4 * 3 + 1);
    if (!body)
        return -ENOMEM;
    len = EVP_DecodeBlock(body, (const unsigned char *)text, (int)n);
    if (len > 0) {
        /* The padding counts as decoded zero bytes. */
        for (size_t i = n; i > n - 2 && text[i - 1] == '='; i--)
            len--;
        r = xml_read_error((const char *)body, (size_t)len, out);
    }
    free(body);
    return r;
}

const char *xml_error_field(const struct xml_error *e, const char *name)
{
    for (size_t i = 0; i < e->n_fields; i++)
        if (!strcmp(e->fields[i].name, name))
            return e->fields[i].value;
    return NULL;
}

void xml_error_free(struct xml_error *e)
{
    for (size_t i = 0; i < e->n_fields; i++) {
        free(e->fields[i].name);
        free(e->fields[i].value);
    }
    memset(e, 0, sizeof *e);
}

/* ----------------------------------------------------------------------------------------------- writers */

static void add_escaped(struct buf *out, const char *text)
{
    while (*text) {
        /* All that stands for itself at once. */
        size_t n = 0;

        while ((unsigned char)text[n] >= 0x20 && !strchr("&<>\"\x7f", text[n]))
            n++;
        buf_add(out, text, n);
        text += n;
        if (!*text)
            return;
        if (*text == '&')
            buf_adds(out, "&amp;");
        else if (*text == '<')
            buf_adds(out, "&lt;");
        else if (*text == '>')
            buf_adds(out, "&gt;");
        else if (*text == '"')
            buf_adds(out, "&quot;");
        else
            buf_addf(out, "&#x%X;", (unsigned char)*text);
        text++;
    }
}

static const char declaration[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

int xml_write_complete(struct buf *out, const struct oss_part *parts, size_t n)
{
    buf_addf(out, "%s<CompleteMultipartUpload>", declaration);
    for (size_t i = 0; i < n; i++) {
        buf_addf(out, "<Part><PartNumber>%d</PartNumber><ETag>&quot;", parts[i].number);
        add_escaped(out, parts[i].etag);
        buf_adds(out, "&quot;</ETag></Part>");
    }
    return buf_adds(out, "</CompleteMultipartUpload>");
}

/* One decoded piece of "k=v&k2". */
static int add_unescaped(struct buf *out, const char *piece, size_t n)
{
    char *text = strndup(piece, n);
    int r = text ? 0 : -ENOMEM;

    if (r == 0 && url_unescape(text) != (ssize_t)strlen(text))
        r = -EINVAL;
    if (r == 0)
        add_escaped(out, text);
    free(text);
    return r;
}

int xml_write_tagging(struct buf *out, const char *tagging)
{
    int r = 0;

    buf_addf(out, "%s<Tagging><TagSet>", declaration);
    for (const char *p = tagging; r == 0 && *p;) {
        size_t n = strcspn(p, "&"), name = strcspn(p, "=&");

        buf_adds(out, "<Tag><Key>");
        r = name ? add_unescaped(out, p, name) : -EINVAL;
        buf_adds(out, "</Key><Value>");
        if (r == 0 && name < n)
            r = add_unescaped(out, p + name + 1, n - name - 1);
        buf_adds(out, "</Value></Tag>");
        p += n + (p[n] == '&');
    }
    buf_adds(out, "</TagSet></Tagging>");
    return r ? r : out->err;
}

int xml_write_delete(struct buf *out, const char *const *keys, size_t n, bool quiet)
{
    buf_addf(out, "%s<Delete><Quiet>%s</Quiet>", declaration, quiet ? "true" : "false");
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, "<Object><Key>");
        add_escaped(out, keys[i]);
        buf_adds(out, "</Key></Object>");
    }
    return buf_adds(out, "</Delete>");
}
