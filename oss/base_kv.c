#include "base_kv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Not tolower(): names of the protocol do not depend on the locale. */
static char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static struct kv *find(const struct kvlist *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcasecmp(l->v[i].name, name))
            return &l->v[i];
    return NULL;
}

int kv_add(struct kvlist *l, const char *name, const char *value)
{
    char *n = strdup(name);
    char *v = strdup(value ? value : "");

    /* The capacity is the next power of two of n, so it needs no field: it grows when n is one. */
    if (n && v && (l->n & (l->n - 1)) == 0) {
        struct kv *grown = reallocarray(l->v, l->n ? l->n * 2 : 1, sizeof *grown);

        if (grown)
            l->v = grown;
        else {
            free(n);
            n = NULL;
        }
    }
    if (!n || !v) {
        free(n);
        free(v);
        return -ENOMEM;
    }
    for (char *p = n; *p; p++)
        *p = ascii_lower(*p);
    l->v[l->n].name = n;
    l->v[l->n].value = v;
    l->n++;
    return 0;
}

int kv_set(struct kvlist *l, const char *name, const char *value)
{
    struct kv *kv = find(l, name);
    char *v;

    if (!kv)
        return kv_add(l, name, value);
    v = strdup(value ? value : "");
    if (!v)
        return -ENOMEM;
    free(kv->value);
    kv->value = v;
    return 0;
}

int kv_setf(struct kvlist *l, const char *name, const char *format, ...)
{
    char *v = NULL;
    va_list ap;
    int r;

    va_start(ap, format);
    if (vasprintf(&v, format, ap) < 0)
        v = NULL;
    va_end(ap);
    if (!v)
        return -ENOMEM;
    r = kv_set(l, name, v);
    free(v);
    return r;
}

void kv_del(struct kvlist *l, const char *name)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->n; i++) {
        /* `name` may be the name of a pair of the list itself: it is freed after the last comparison with it. */
        if (l->v[i].name != name && strcasecmp(l->v[i].name, name) != 0) {
            struct kv kv = l->v[kept];

            l->v[kept++] = l->v[i];
            l->v[i] = kv;
        }
    }
    for (size_t i = kept; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].value);
    }
    l->n = kept;
}

const char *kv_get(const struct kvlist *l, const char *name)
{
    const struct kv *kv = find(l, name);

    return kv ? kv->value : NULL;
}

int kv_copy(struct kvlist *to, const struct kvlist *from)
{
    struct kvlist copy = {0};
    int r = 0;

    for (size_t i = 0; i < from->n && !r; i++)
        r = kv_add(&copy, from->v[i].name, from->v[i].value);
    kv_free(to);
    if (r)
        kv_free(&copy);
    else
        *to = copy;
    return r;
}

static size_t count(const struct kvlist *l, const struct kv *kv)
{
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name, kv->name) && !strcmp(l->v[i].value, kv->value))
            n++;
    return n;
}

bool kv_equal(const struct kvlist *a, const struct kvlist *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (count(a, &a->v[i]) != count(b, &a->v[i]))
            return false;
    return true;
}

void kv_free(struct kvlist *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].value);
    }
    free(l->v);
    l->v = NULL;
    l->n = 0;
}
