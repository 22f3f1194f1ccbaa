/*
 * The bounded parser under the readers of xml.h; for xml*.c only.
 */
#ifndef OSS_XML_PARSE_H
#define OSS_XML_PARSE_H

#include "base_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define XML_DEPTH    16
#define XML_TEXT_MAX 65536 /* bytes of text in one element */

struct xml_parse {
    const char *path[XML_DEPTH]; /* local names of the open elements, path[0] is the root */
    int depth;                   /* open elements, the current one included */

    const char *root; /* the name that the root must have; the second, or NULL */
    const char *root2;

    /* An element opens; path and depth are at it. NULL: of no interest. 0, or an error that ends the parsing. */
    int (*start)(void *arg, const struct xml_parse *p);
    /* An element closes; `text` is what stood since its last child, the callee may change it. */
    int (*end)(void *arg, const struct xml_parse *p, char *text, size_t len);
    void *arg;

    struct buf text; /* the parser's */
    void *ctxt;      /* the parser's */
    int err;         /* the parser's */
};

/* Sets up for documents of that root; the callbacks are the caller's to set. */
void xml_parse_init(struct xml_parse *p, const char *root, void *arg);

/* The whole document. 0; -EIO not well-formed, over `max` bytes, another root; -ENOMEM; or the callbacks' error. */
int xml_parse(struct xml_parse *p, const char *body, size_t n, size_t max);

/* The current element has this depth (root: 1), this name and, if `parent` is not NULL, this parent. */
bool xml_at(const struct xml_parse *p, int depth, const char *parent, const char *name);

/* The text without blanks at both ends, cut in place. */
char *xml_trim(char *text, size_t len);

/* Decimal digits only, without overflow. */
bool xml_number(const char *text, uint64_t max, uint64_t *out);

/* "true" or "false". */
bool xml_bool(const char *text, bool *out);

/* Copies the whole text; false when it does not fit. */
bool xml_fits(const char *text, char *out, size_t size);

/* Copies without the quotes; false when it does not fit. */
bool xml_etag(const char *text, char *out, size_t size);

/* Copies what fits, cut at a UTF-8 character. */
void xml_copy(char *out, size_t size, const char *text);

/* A growing vector of texts. */
struct xml_strings {
    char **v;
    size_t n, size;
};
int xml_strings_add(struct xml_strings *s, const char *text);
void xml_strings_free(struct xml_strings *s);

#endif
