#include "mime.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX_MAX 24
#define LINE_SPACE 4096
#define OFFICE     "application/vnd.openxmlformats-officedocument."

struct entry {
    char suffix[SUFFIX_MAX];
    const char *type; /* owned by struct mime, or constant */
    size_t order;     /* earlier lines win */
};

struct mime {
    struct entry *v;
    size_t n, size;
    char **types; /* what was read */
    size_t n_types;
};

/* These come first: systems disagree about them, and the vendor's tools do not ask them. */
static const char *const fixed[][2] = {
    {"js", "application/javascript"},
    {"xlsx", OFFICE "spreadsheetml.sheet"},
    {"xltx", OFFICE "spreadsheetml.template"},
    {"docx", OFFICE "wordprocessingml.document"},
    {"dotx", OFFICE "wordprocessingml.template"},
    {"pptx", OFFICE "presentationml.presentation"},
    {"ppsx", OFFICE "presentationml.slideshow"},
    {"potx", OFFICE "presentationml.template"},
    {"sldx", OFFICE "presentationml.slide"},
    {"xlam", "application/vnd.ms-excel.addin.macroEnabled.12"},
    {"xlsb", "application/vnd.ms-excel.sheet.binary.macroEnabled.12"},
    {"apk", "application/vnd.android.package-archive"},
};

/* And these last. */
static const char *const fallback[][2] = {
    {"txt", "text/plain"},
    {"log", "text/plain"},
    {"html", "text/html"},
    {"htm", "text/html"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"md", "text/markdown"},
    {"xml", "application/xml"},
    {"json", "application/json"},
    {"pdf", "application/pdf"},
    {"zip", "application/zip"},
    {"tar", "application/x-tar"},
    {"tgz", "application/x-tar"},
    {"gz", "application/gzip"},
    {"7z", "application/x-7z-compressed"},
    {"rar", "application/vnd.rar"},
    {"jar", "application/java-archive"},
    {"wasm", "application/wasm"},
    {"iso", "application/x-iso9660-image"},
    {"doc", "application/msword"},
    {"xls", "application/vnd.ms-excel"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"bmp", "image/bmp"},
    {"webp", "image/webp"},
    {"svg", "image/svg+xml"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ico", "image/vnd.microsoft.icon"},
    {"mp3", "audio/mpeg"},
    {"wav", "audio/x-wav"},
    {"ogg", "audio/ogg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"mov", "video/quicktime"},
    {"avi", "video/x-msvideo"},
    {"webm", "video/webm"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
};

static int add(struct mime *m, const char *suffix, const char *type)
{
    struct entry *e;

    if (!*suffix || strlen(suffix) >= SUFFIX_MAX)
        return 0;
    if (m->n == m->size) {
        size_t size = m->size ? m->size * 2 : 1024;
        struct entry *v = realloc(m->v, size * sizeof(*v));

        if (!v)
            return -1;
        m->v = v;
        m->size = size;
    }
    e = &m->v[m->n];
    for (size_t i = 0; i <= strlen(suffix); i++)
        e->suffix[i] = (char)tolower((unsigned char)suffix[i]);
    e->type = type;
    e->order = m->n++;
    return 0;
}

static int add_table(struct mime *m, const char *const table[][2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (add(m, table[i][0], table[i][1]) < 0)
            return -1;
    return 0;
}

/* A type goes into a header as it is. */
static char *keep_type(struct mime *m, const char *type)
{
    char **types;

    for (const char *p = type; *p; p++)
        if (*p <= ' ' || *p > '~')
            return NULL;
    types = realloc(m->types, (m->n_types + 1) * sizeof(*types));
    if (!types)
        return NULL;
    m->types = types;
    types[m->n_types] = strdup(type);
    return types[m->n_types] ? types[m->n_types++] : NULL;
}

static int add_line(struct mime *m, char *line)
{
    char *rest = NULL, *type = strtok_r(line, " \t\r\n", &rest), *word, *kept = NULL;

    if (!type || *type == '#')
        return 0;
    while ((word = strtok_r(NULL, " \t\r\n", &rest)) && *word != '#') {
        if (!kept && !(kept = keep_type(m, type)))
            return 0;
        if (add(m, word, kept) < 0)
            return -1;
    }
    return 0;
}

static int add_file(struct mime *m, const char *path)
{
    FILE *f = fopen(path, "re");
    char line[LINE_SPACE];
    int r = 0;

    if (!f)
        return 0;
    while (r == 0 && fgets(line, sizeof(line), f))
        r = add_line(m, line);
    fclose(f);
    return r;
}

static int by_suffix(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int r = strcmp(x->suffix, y->suffix);

    return r ? r : (x->order > y->order) - (x->order < y->order);
}

struct mime *mime_load(const char *path)
{
    struct mime *m = calloc(1, sizeof(*m));
    size_t n = 0;

    if (!m)
        return NULL;
    if (add_table(m, fixed, sizeof(fixed) / sizeof(*fixed)) < 0 || add_file(m, path ? path : MIME_SYSTEM) < 0 ||
        add_table(m, fallback, sizeof(fallback) / sizeof(*fallback)) < 0) {
        mime_free(m);
        return NULL;
    }
    qsort(m->v, m->n, sizeof(*m->v), by_suffix);
    for (size_t i = 0; i < m->n; i++)
        if (n == 0 || strcmp(m->v[n - 1].suffix, m->v[i].suffix) != 0)
            m->v[n++] = m->v[i];
    m->n = n;
    return m;
}

void mime_free(struct mime *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n_types; i++)
        free(m->types[i]);
    free(m->types);
    free(m->v);
    free(m);
}

const char *mime_of(const struct mime *m, const char *path)
{
    const char *name = strrchr(path, '/'), *dot;
    struct entry wanted;
    const struct entry *found;

    name = name ? name + 1 : path;
    dot = strrchr(name, '.');
    /* ".profile" is a name, not a suffix. */
    if (!dot || dot == name || strlen(dot + 1) >= SUFFIX_MAX)
        return MIME_UNKNOWN;
    for (size_t i = 0; i <= strlen(dot + 1); i++)
        wanted.suffix[i] = (char)tolower((unsigned char)dot[1 + i]);
    for (size_t low = 0, high = m->n; low < high;) {
        size_t mid = low + (high - low) / 2;
        int r;

        found = &m->v[mid];
        r = strcmp(wanted.suffix, found->suffix);
        if (r == 0)
            return found->type;
        if (r < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return MIME_UNKNOWN;
}
