#include "path.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define NAME_BYTES_MAX 255

bool path_is_utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        uint32_t c = *p++, least;
        int more;

        if (c < 0x80)
            continue;
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1;
            c &= 0x1f;
            least = 0x80;
        } else if ((c & 0xf0) == 0xe0) {
            more = 2;
            c &= 0x0f;
            least = 0x800;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            c &= 0x07;
            least = 0x10000;
        } else {
            return false;
        }
        for (; more > 0; more--, p++) {
            if ((*p & 0xc0) != 0x80)
                return false;
            c = c << 6 | (*p & 0x3f);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
    }
    return true;
}

int path_check_name(const char *name)
{
    if (strlen(name) > NAME_BYTES_MAX)
        return -ENAMETOOLONG;
    return path_is_utf8(name) ? 0 : -EILSEQ;
}

int path_key(const char *dir, const char *name, bool is_dir, char key[OSS_KEY_MAX + 2])
{
    size_t d = strlen(dir), n = strlen(name);

    if (d + n + is_dir > OSS_KEY_MAX)
        return -ENAMETOOLONG;
    if (d == 0 && name[0] == '\\')
        return -EILSEQ;
    memcpy(key, dir, d);
    memcpy(key + d, name, n);
    if (is_dir)
        key[d + n++] = '/';
    key[d + n] = '\0';
    return 0;
}
