/*
 * path.h: names <-> keys, and their limits. Pure.
 */
#ifndef FS_PATH_H
#define FS_PATH_H

#include "../oss/oss.h"

#include <stdbool.h>

/* 0; -ENAMETOOLONG over 255 bytes; -EILSEQ when not UTF-8. */
int path_check_name(const char *name);

/*
 * The key of `name` in the directory `dir` (a key with trailing '/', or ""), with a trailing '/' for a directory. 0
 * or -ENAMETOOLONG over the service's 1023 bytes; -EILSEQ where the service takes no such key (a '\' first).
 */
int path_key(const char *dir, const char *name, bool is_dir, char key[OSS_KEY_MAX + 2]);

/* Is this well-formed UTF-8 (no surrogates, nothing overlong)? */
bool path_is_utf8(const char *text);

#endif
