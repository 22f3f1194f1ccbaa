/* header_options.c: the options for headers of uploads, on their way from the command line to cache/headers.c. */
#include "fs_internal.h"

#include "../cache/headers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The text of the option of that name, NULL when it was not given. */
static const char *given(const struct options *o, const char *name)
{
    size_t n;
    const struct option_spec *table = options_table(&n);

    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0 && table[i].type == OPTION_TEXT)
            return *(char *const *)(const void *)((const char *)o + table[i].offset);
    return NULL;
}

int header_options(const struct options *o, struct headers **out, struct oss_error *err)
{
    struct kvlist fields = {0};
    size_t n;
    const char *const *names = headers_fields(&n);
    int r = 0;

    *out = NULL;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const char *value = given(o, names[i]);

        if (value)
            r = kv_add(&fields, names[i], value);
    }
    if (r == 0)
        r = headers_new(out, &fields, o->headers, NULL, err->message, sizeof(err->message));
    kv_free(&fields);
    /* Whatever is wrong with them is for the user to mend, and the message says what. */
    if (r < 0)
        err->err = r = r == -ENOMEM ? r : -EINVAL;
    return r;
}
