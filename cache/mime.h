/*
 * mime.h: the Content-Type of a name by its suffix. Constant once loaded, so thread-safe.
 */
#ifndef CACHE_MIME_H
#define CACHE_MIME_H

#define MIME_SYSTEM \
    "/etc/mime.types" /* package media-types (Debian), mailcap (Fedora, Arch), mailcap or apache (Alpine) */
#define MIME_UNKNOWN "application/octet-stream" /* what the service stores when it is told nothing */

struct mime;

/*
 * The table of the system (lines "type suffix suffix ..."), `path` NULL: MIME_SYSTEM; and a built-in one for what it
 * does not know, or when it is not there. NULL when out of memory.
 */
struct mime *mime_load(const char *path);
void mime_free(struct mime *mime);

/* By what is behind the last dot of the last component, without regard to case; MIME_UNKNOWN for the rest. */
const char *mime_of(const struct mime *mime, const char *path);

#endif
