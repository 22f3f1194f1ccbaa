#include "mountinfo.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_octal(const char *s)
{
    return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7';
}

/* "\040" and the like become the bytes they stand for, in place. */
static void unescape(char *s)
{
    char *to = s;

    while (*s) {
        if (s[0] == '\\' && is_octal(s + 1)) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
}

/* id parent MAJOR:MINOR root MOUNTPOINT options [fields...] - TYPE source superoptions; takes nothing over. */
static bool parse(char *line, struct mount *out)
{
    char *left = line, *right = strstr(line, " - "), *field[5];
    const char *user;

    if (!right)
        return false;
    *right = '\0';
    right += strlen(" - ");
    right[strcspn(right, "\n")] = '\0';
    for (int i = 0; i < 5; i++)
        if (!(field[i] = strsep(&left, " ")))
            return false;
    *out = (struct mount){.id = atoi(field[0]),
                          .parent = atoi(field[1]),
                          .device = field[2],
                          .root = field[3],
                          .path = field[4],
                          .line = line};
    out->type = strsep(&right, " ");
    out->source = strsep(&right, " ");
    if (!out->source)
        return false;
    unescape(out->root);
    unescape(out->path);
    unescape(out->source);
    user = right ? strstr(right, "user_id=") : NULL;
    out->uid = user ? (uid_t)strtoul(user + strlen("user_id="), NULL, 10) : 0;
    return true;
}

static int append(struct mounts *out, const struct mount *m)
{
    struct mount *v = realloc(out->v, (out->n + 1) * sizeof(*v));

    if (!v)
        return -ENOMEM;
    out->v = v;
    v[out->n++] = *m;
    return 0;
}

int mounts_read(FILE *mountinfo, const char *type, struct mounts *out)
{
    char *line = NULL;
    size_t room = 0;
    int r = 0;

    *out = (struct mounts){0};
    while (!r && getline(&line, &room, mountinfo) > 0) {
        struct mount m;

        if (!parse(line, &m) || (type && strcmp(m.type, type) != 0))
            continue;
        r = append(out, &m);
        if (r)
            break;
        line = NULL;
        room = 0;
    }
    free(line);
    if (r)
        mounts_free(out);
    return r;
}

int mounts_load(const char *type, struct mounts *out)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    int r;

    *out = (struct mounts){0};
    if (!f)
        return -errno;
    r = mounts_read(f, type, out);
    fclose(f);
    return r;
}

void mounts_free(struct mounts *mounts)
{
    for (size_t i = 0; i < mounts->n; i++)
        free(mounts->v[i].line);
    free(mounts->v);
    *mounts = (struct mounts){0};
}

const struct mount *mounts_at(const struct mounts *mounts, const char *path)
{
    for (size_t i = mounts->n; i-- > 0;)
        if (strcmp(mounts->v[i].path, path) == 0)
            return &mounts->v[i];
    return NULL;
}

const struct mount *mounts_over(const struct mounts *mounts, const char *path)
{
    const struct mount *found = NULL;

    for (size_t i = 0; i < mounts->n; i++) {
        const struct mount *m = &mounts->v[i];
        size_t n = strlen(m->path);

        if (strncmp(m->path, path, n) == 0 && (path[n] == '/' || path[n] == '\0' || n == 1) &&
            (!found || n >= strlen(found->path)))
            found = m;
    }
    return found;
}
