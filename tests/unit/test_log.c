/*
 * The log file: form of a line, escaping, bounds, levels, rotation, several threads.
 */
#include "../../oss/base_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_log.XXXXXX";
static char path[64], moved[64];

static char *contents(const char *name)
{
    static char text[1 << 20];
    FILE *f = fopen(name, "r");
    size_t n;

    assert_non_null(f);
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

/* What follows the time in the last line. */
static const char *last_line(void)
{
    char *text = contents(path), *line;
    size_t n = strlen(text);
    int y, mo, d, h, mi, s, ms;

    assert_true(n > 0 && text[n - 1] == '\n');
    text[n - 1] = '\0';
    line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    assert_int_equal(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ ", &y, &mo, &d, &h, &mi, &s, &ms), 7);
    assert_int_equal(line[24], ' ');
    return line + 25;
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/log", dir);
    snprintf(moved, sizeof moved, "%s/log.1", dir);
    return log_open(LOG_TO_FILE, path, LOG_LEVEL_INFO);
}

static int remove_dir(void **state)
{
    (void)state;
    log_open(LOG_TO_STDERR, NULL, LOG_LEVEL_INFO);
    unlink(path);
    unlink(moved);
    return rmdir(dir);
}

static void test_lines(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    log_info("hello %d", 5);
    assert_string_equal(last_line(), "info hello 5");
    log_err("GET a: 503");
    assert_string_equal(last_line(), "error GET a: 503");
    log_warn("w");
    assert_string_equal(last_line(), "warning w");
    log_crit("c");
    assert_string_equal(last_line(), "crit c");
    errno = 77;
    log_info("errno stays");
    assert_int_equal(errno, 77);
}

/* A key cannot forge a line, nor send commands to a terminal. */
static void test_control_characters(void **state)
{
    (void)state;
    log_info("a\nb\r\t\x1b[31m\x7f \xc2\x9b \xc3\xa4 \xe7\x9b\xae \xc2");
    assert_string_equal(last_line(), "info a\\x0ab\\x0d\\x09\\x1b[31m\\x7f \\xc2\x9b \xc3\xa4 \xe7\x9b\xae \xc2");
}

static void test_bounds(void **state)
{
    static char text[20000];
    const char *line;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    log_info("%s", text);
    line = last_line();
    assert_true(strlen(line) > 3000 && strlen(line) < 6200);
    memset(text, '\n', sizeof text - 1);
    log_info("%s", text);
    line = last_line();
    assert_true(strlen(line) > 3000 && strlen(line) < 6200);
    assert_null(strchr(line, '\n'));
}

static void test_levels(void **state)
{
    (void)state;
    log_info("before");
    log_debug("not written");
    assert_string_equal(last_line(), "info before");
    assert_false(log_enabled(LOG_LEVEL_DEBUG));
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("written");
    assert_string_equal(last_line(), "debug written");
    log_set_level(LOG_LEVEL_ERR);
    log_warn("not written");
    assert_string_equal(last_line(), "debug written");
    /* By signal: louder and louder, and then quiet; each change is said at the new level. */
    log_next_level();
    assert_string_equal(last_line(), "warning log level: warning");
    log_next_level();
    assert_string_equal(last_line(), "info log level: info");
    log_next_level();
    log_next_level();
    assert_string_equal(last_line(), "crit log level: crit");
    assert_false(log_enabled(LOG_LEVEL_ERR));
    log_set_level(LOG_LEVEL_INFO);
}

static void test_rotation(void **state)
{
    char gone[64];

    (void)state;
    log_info("old file");
    assert_int_equal(rename(path, moved), 0);
    log_info("still the old file");
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(log_reopen(), 0);
    log_info("new file");
    assert_string_equal(last_line(), "info new file");
    assert_non_null(strstr(contents(moved), "still the old file"));
    assert_null(strstr(contents(moved), "new file"));

    /* No directory to open it in: the file that is open stays in use. */
    snprintf(gone, sizeof gone, "%s.gone", dir);
    assert_int_equal(rename(dir, gone), 0);
    assert_int_equal(log_reopen(), -ENOENT);
    assert_int_equal(rename(gone, dir), 0);
    log_info("after a failed reopening");
    assert_string_equal(last_line(), "info after a failed reopening");
    assert_int_equal(log_open(LOG_TO_FILE, "/nowhere/at/all", LOG_LEVEL_INFO), -ENOENT);
}

static void *many(void *arg)
{
    for (int i = 0; i < 300; i++) {
        log_info("thread %s line %d end", (const char *)arg, i);
        if (i % 50 == 0)
            log_reopen();
    }
    return NULL;
}

static void test_threads(void **state)
{
    static char names[4][2] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    char *text;
    int lines = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    text = contents(path);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char name;
        int n, end = 0;

        if (sscanf(line + 25, "info thread %c line %d end%n", &name, &n, &end) == 2) {
            assert_int_equal(line[25 + end], '\0');
            lines++;
        }
    }
    assert_int_equal(lines, 1200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),  cmocka_unit_test(test_control_characters), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_levels), cmocka_unit_test(test_rotation),           cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
