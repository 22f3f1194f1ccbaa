/* The names of a directory at one moment: a million of them must not cost a million pieces of memory. */
#include "meta.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int meta_names_reserve(struct meta_names *names, size_t n, size_t bytes)
{
    uint32_t *at;
    char *text;

    bytes += 2 * n; /* the kind, and a NUL */
    if (bytes > UINT32_MAX)
        return -ENOMEM;
    if (n > names->n_max) {
        at = reallocarray(names->at, n, sizeof(*at));
        if (!at)
            return -ENOMEM;
        names->at = at;
        names->n_max = n;
    }
    if (bytes > names->size_max) {
        text = realloc(names->text, bytes);
        if (!text)
            return -ENOMEM;
        names->text = text;
        names->size_max = bytes;
    }
    return 0;
}

int meta_names_add(struct meta_names *names, const char *name, bool is_dir)
{
    size_t n = strlen(name), used = names->size - 2 * names->n;
    bool fits = names->n < names->n_max && names->size + n + 2 <= names->size_max;
    int r = fits ? 0 : meta_names_reserve(names, 2 * names->n + 8, 2 * (used + n));

    if (r)
        return r;
    names->at[names->n++] = (uint32_t)names->size;
    names->text[names->size] = is_dir ? '/' : ' ';
    memcpy(names->text + names->size + 1, name, n + 1);
    names->size += n + 2;
    return 0;
}

const char *meta_names_get(const struct meta_names *names, size_t i, bool *is_dir)
{
    const char *at = names->text + names->at[i];

    if (is_dir)
        *is_dir = *at == '/';
    return at + 1;
}

void meta_names_free(struct meta_names *names)
{
    free(names->at);
    free(names->text);
    *names = (struct meta_names){0};
}
