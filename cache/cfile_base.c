/* The objects that a file's bytes stand in. */
#include "hidden.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct base *cfile_base(const struct cfile *cf, int id)
{
    for (size_t i = 0; i < cf->n_bases; i++)
        if (cf->bases[i].id == id)
            return &cf->bases[i];
    return NULL;
}

bool cfile_is_object(const struct cfile *cf, const struct base *base)
{
    return cf->object && !base->foreign && !strcmp(base->key, cf->key) && !strcmp(base->info->etag, cf->object->etag);
}

int cfile_add_base(struct cfile *cf, const char *key, struct oinfo *info)
{
    struct base *v = realloc(cf->bases, (cf->n_bases + 1) * sizeof(*v));
    char *copy = strdup(key);

    if (v)
        cf->bases = v;
    if (!v || !copy) {
        free(copy);
        return -ENOMEM;
    }
    cf->bases[cf->n_bases++] = (struct base){.id = cf->next_base, .key = copy, .info = oinfo_get(info)};
    return cf->next_base++;
}

void cfile_prune_bases(struct cfile *cf)
{
    for (size_t i = 0; i < cf->n_bases;) {
        if (extent_map_uses(cf->map, cf->bases[i].id)) {
            i++;
            continue;
        }
        if (!cf->rescued && hidden_is(cf->cache, cf->bases[i].key))
            hidden_remove(cf->cache, cf->bases[i].key);
        free(cf->bases[i].key);
        oinfo_put(cf->bases[i].info);
        cf->bases[i] = cf->bases[--cf->n_bases];
    }
}

void cfile_repoint(struct cfile *cf, const char *key, struct oinfo *info)
{
    for (size_t i = 0; i < cf->n_bases; i++) {
        char *copy = cfile_is_object(cf, &cf->bases[i]) ? strdup(key) : NULL;

        if (!copy)
            continue;
        free(cf->bases[i].key);
        cf->bases[i].key = copy;
        oinfo_put(cf->bases[i].info);
        cf->bases[i].info = oinfo_get(info);
    }
}
