/*
 * Extended attributes from whatever header there is: what is listed is there, and a set, a get and a remove on top of
 * it do what they say.
 */
#include "../../cache/attr.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_get(const struct kvlist *h, const char *name, const void *value, size_t size)
{
    char *got = NULL;

    check(xattr_get(h, name, &got) == (ssize_t)size && !memcmp(got, value, size) && got[size] == '\0');
    free(got);
}

static void check_list(const struct kvlist *h)
{
    char *names = NULL, *value = NULL;
    ssize_t n = xattr_list(h, &names);

    check(n >= 0 || n == -ENOSPC);
    for (const char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
        check(!strncmp(p, "user.", 5) && p[5]);
        check(xattr_get(h, p, &value) >= 0);
        free(value);
        for (const char *q = p + strlen(p) + 1; q < names + n; q += strlen(q) + 1)
            check(strcmp(p, q) != 0);
    }
    free(names);
}

/* Name and value are the two parts of the input; set, replaced, removed on top of what is there. */
static void check_changes(struct kvlist *h, const char *name, const char *value, size_t size)
{
    char *got = NULL;
    int r = xattr_set(h, name, value, size, 0);

    if (strncmp(name, "user.", 5) || !name[5]) {
        check(r < 0);
        return;
    }
    check(r == 0 || r == -ENOSPC);
    if (r)
        return;
    check_get(h, name, value, size);
    check_list(h);
    check(xattr_set(h, name, "x\n", 2, 0) == 0 || size < 2);
    check(xattr_remove(h, name) == 0);
    check(xattr_get(h, name, &got) == -ENODATA);
    check(xattr_remove(h, name) == -ENODATA);
    check_list(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *header = malloc(size + 1), name[300] = "user.";
    struct kvlist h = {0};
    size_t n;

    if (!header)
        return 0;
    memcpy(header, data, size);
    header[size] = '\0';
    check(kv_set(&h, "x-oss-meta-xattr", header) == 0);
    check(kv_set(&h, "x-oss-meta-color", "red") == 0);
    check_get(&h, "user.color", "red", 3);
    check_list(&h);
    /* The end of the input is a name, all of it a value. */
    n = size < 20 ? size : 20;
    memcpy(name + 5, header + size - n, n);
    if (strlen(name) > 5)
        check_changes(&h, name, header, size);
    check_changes(&h, "user.color", header, size);
    check_changes(&h, "user.a", "\n", 1);
    check_changes(&h, header, "v", 1);
    kv_free(&h);
    free(header);
    return 0;
}
