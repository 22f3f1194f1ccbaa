/* Names and keys: what is UTF-8, and the limits of the service. */
#include "../../fs/path.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The table of well-formed byte sequences of the Unicode standard (table 3-7), at its edges. */
static void test_utf8(void **state)
{
    static const struct {
        const char *text;
        bool well_formed;
    } table[] = {
        {"", true},
        {"plain", true},
        {"\x01\x7f", true},
        {"\x80", false},
        {"\xbf", false},
        {"\xc0\x80", false}, /* overlong NUL */
        {"\xc0\xaf", false}, /* overlong '/' */
        {"\xc1\xbf", false},
        {"\xc2\x7f", false},
        {"\xc2\x80", true},
        {"\xc2\xc0", false},
        {"\xc2", false},
        {"\xdf\xbf", true},
        {"\xe0\x80\x80", false},
        {"\xe0\x80\xaf", false}, /* overlong '/' */
        {"\xe0\x9f\xbf", false},
        {"\xe0\xa0\x80", true},
        {"\xe0\xa0", false},
        {"\xe0", false},
        {"\xe4\xb8\xad\xe6\x96\x87", true},
        {"\xec\xbf\xbf", true},
        {"\xed\x9f\xbf", true},
        {"\xed\xa0\x80", false}, /* surrogates */
        {"\xed\xbf\xbf", false},
        {"\xee\x80\x80", true},
        {"\xef\xbf\xbd", true},
        {"\xef\xbf\xbf", true}, /* U+FFFF: no character, but well-formed */
        {"\xf0\x80\x80\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf0\x90\x80\x80", true},
        {"\xf0\x9f\x98\x80", true},
        {"\xf0\x9f\x98", false},
        {"\xf0\x9f\x98\x80\x80", false},
        {"\xf4\x8f\xbf\xbf", true},
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xf8\x88\x80\x80\x80", false},
        {"\xfe", false},
        {"\xff", false},
        {"a\xe4\xb8z", false}, /* broken off by another character */
        {"ok\xc3\xa9ok\xff", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (path_is_utf8(table[i].text) != table[i].well_formed)
            fail_msg("line %zu of the table: \"%s\"", i, table[i].text);
        assert_int_equal(path_check_name(table[i].text), table[i].well_formed ? 0 : -EILSEQ);
    }
}

/* Every code point, encoded by the rule and read back; every surrogate refused. */
static void test_utf8_all_code_points(void **state)
{
    (void)state;
    for (uint32_t c = 1; c <= 0x10ffff; c++) {
        char text[5] = {0};
        int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
        uint32_t rest = c;

        for (int i = n - 1; i > 0; i--, rest >>= 6)
            text[i] = (char)(0x80 | (rest & 0x3f));
        text[0] = (char)(first[n] | rest);
        if (n == 1)
            text[0] = (char)c;
        if (path_is_utf8(text) != (c < 0xd800 || c > 0xdfff))
            fail_msg("U+%04X", (unsigned)c);
    }
}

static void test_name_length(void **state)
{
    char name[300];

    (void)state;
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    assert_int_equal(path_check_name(name), 0);
    name[255] = 'n';
    name[256] = '\0';
    assert_int_equal(path_check_name(name), -ENAMETOOLONG);
    /* Bytes count, not characters. */
    for (int i = 0; i < 128; i++)
        memcpy(name + 2 * i, "\xc3\xa9", 2);
    name[256] = '\0';
    assert_int_equal(path_check_name(name), -ENAMETOOLONG);
    name[254] = '\0';
    assert_int_equal(path_check_name(name), 0);
}

static void test_key(void **state)
{
    char key[OSS_KEY_MAX + 2];

    (void)state;
    assert_int_equal(path_key("", "a", false, key), 0);
    assert_string_equal(key, "a");
    assert_int_equal(path_key("", "a", true, key), 0);
    assert_string_equal(key, "a/");
    assert_int_equal(path_key("x/y/", "b", false, key), 0);
    assert_string_equal(key, "x/y/b");
    assert_int_equal(path_key("x/y/", "b", true, key), 0);
    assert_string_equal(key, "x/y/b/");
    /* A key may not begin with '\', but may have it further on. */
    assert_int_equal(path_key("", "\\a", false, key), -EILSEQ);
    assert_int_equal(path_key("", "\\a", true, key), -EILSEQ);
    assert_int_equal(path_key("d/", "\\a", false, key), 0);
    assert_string_equal(key, "d/\\a");
    assert_int_equal(path_key("", "a\\", false, key), 0);
}

static void test_key_length(void **state)
{
    char dir[OSS_KEY_MAX + 1], key[OSS_KEY_MAX + 2];

    (void)state;
    memset(dir, 'd', sizeof(dir));
    dir[1019] = '/';
    dir[1020] = '\0';
    assert_int_equal(path_key(dir, "abc", false, key), 0);
    assert_int_equal(strlen(key), 1023);
    assert_int_equal(path_key(dir, "abcd", false, key), -ENAMETOOLONG);
    assert_int_equal(path_key(dir, "ab", true, key), 0);
    assert_int_equal(strlen(key), 1023);
    assert_int_equal(path_key(dir, "abc", true, key), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8), cmocka_unit_test(test_utf8_all_code_points), cmocka_unit_test(test_name_length),
        cmocka_unit_test(test_key),  cmocka_unit_test(test_key_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
