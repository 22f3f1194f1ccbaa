/*
 * headers.h: which headers go with the uploads of a path: the options of the mount, the rules of a file, and the
 * Content-Type by suffix. Constant once made, so thread-safe; no network.
 *
 * A field has the name of the option ("cache_control"); headers_fields() lists them. Rules file: one rule a line,
 *
 *      GLOB  field=value  field="value with blanks" ...
 *
 * '#' begins a comment line. A GLOB without '/' is matched against the last component of the path, one with '/'
 * against the whole path below the mount ('*' does not match '/', "**" does). Of each field the last rule that
 * matches and sets it wins; an option counts as a rule before all others, "**".
 *
 * What an object has already when its content is written anew: a rule wins over Content-*, Cache-Control, Expires,
 * storage class, encryption, tags and user metadata of the same name; what no rule speaks of stays. The Content-Type
 * by suffix is only for objects that have none. The ACL of an existing object is never changed by a rule. A change of
 * attributes alone (chmod, mv) changes none of these, except that what a rule or the suffix gave to a file under its
 * old name follows the new one: programs write "x.tmp" and rename it to "x.html".
 */
#ifndef CACHE_HEADERS_H
#define CACHE_HEADERS_H

#include "../oss/base_kv.h"

#include <stdbool.h>
#include <stddef.h>

struct headers; /* NULL is allowed in all functions that take a const one: no rules, no types */

/* The requests that headers go with. */
enum headers_kind { HEADERS_PUT, HEADERS_APPEND, HEADERS_INITIATE, HEADERS_PART, HEADERS_COMPLETE, HEADERS_COPY };

/* The names of all fields, in the order of the documents; *n of them. */
const char *const *headers_fields(size_t *n);

/*
 * `options`: fields by name. `file`: the rules, NULL for none. `mime`: a table of types, NULL for the system's. 0;
 * -EINVAL with one line in `why`, "FILE:LINE: ..." or "cache_control: ..."; errno of the file; -ENOMEM.
 */
int headers_new(struct headers **out, const struct kvlist *options, const char *file, const char *mime, char *why,
                size_t size);
void headers_free(struct headers *headers);

/*
 * Of an object whose content is written: changes `list`, what the object has (empty: it is new), to what it shall
 * have. Only what describes it and comes back with it: the rest is headers_request()'s. 0 or -ENOMEM.
 */
int headers_describe(const struct headers *headers, const char *path, struct kvlist *list);

/*
 * Of an object renamed from -> to: what rules gave follows. `replaced`: what the object has that is there (or NULL);
 * where it is known its own values are taken. *changed tells whether `list` was changed. 0 or -ENOMEM.
 */
int headers_follow(const struct headers *headers, const char *from, const char *to, const struct kvlist *replaced,
                   struct kvlist *list, bool *changed);

/*
 * What goes with one request besides, by its kind: adds to `list`, or takes from it what this kind does not carry.
 * `from`: the path that a COPY is made from, else NULL. *forbid: the request must not overwrite. 0 or -ENOMEM.
 */
int headers_request(const struct headers *headers, const char *path, enum headers_kind kind, const char *from,
                    struct kvlist *list, bool *forbid);

/* The ACL of an object that is made under this path, "" for none. */
const char *headers_acl(const struct headers *headers, const char *path);

/* Does the upload of this path set tags? Then those of the object need not be asked for. */
bool headers_tagging(const struct headers *headers, const char *path);

/* Encryption only, for what is no file (directory markers, symlinks). 0 or -ENOMEM. */
int headers_encryption(const struct headers *headers, const char *path, struct kvlist *list);

#endif
