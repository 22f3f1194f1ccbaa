/* The state directory: who may have it, and that one mount at a time does. */
#include "../../fs/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char top[64];

static int setup(void **state)
{
    (void)state;
    strcpy(top, "/tmp/test_state_dir.XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", top);
    return system(command);
}

static int open_in(struct state_dir **out, const char *base, int64_t wait_ms, struct message *m)
{
    const struct state_dir_config config = {
        .base = base, .endpoint = "http://localhost", .bucket = "photos", .prefix = "", .wait_ms = wait_ms};

    m->text[0] = '\0';
    return state_dir_open(out, &config, m);
}

static void test_names(void **state)
{
    char a[STATE_DIR_NAME_SIZE], b[STATE_DIR_NAME_SIZE], prefix[1024];

    (void)state;
    state_dir_name(a, "https://oss-cn-beijing.aliyuncs.com", "photos", "2024/may/");
    assert_int_equal(strncmp(a, "photos-2024_may@oss-cn-beijing.aliyuncs.com-", 44), 0);
    assert_int_equal(strspn(a + 44, "0123456789abcdef"), 16);
    state_dir_name(b, "http://OSS-cn-beijing.aliyuncs.com/", "photos", "2024/may/");
    assert_string_equal(a, b);
    /* What reads the same must still differ. */
    state_dir_name(b, "https://oss-cn-beijing.aliyuncs.com", "photos", "2024_may/");
    assert_string_not_equal(a, b);
    state_dir_name(b, "https://oss-cn-beijing.aliyuncs.com", "photos-2024", "may/");
    assert_string_not_equal(a, b);
    state_dir_name(a, "localhost:80", "ab", "c/");
    state_dir_name(b, "localhost:80", "abc", "/");
    assert_string_not_equal(a, b);
    /* The longest of everything fits, and stays one component. */
    memset(prefix, 'x', sizeof(prefix) - 1);
    prefix[sizeof(prefix) - 1] = '\0';
    state_dir_name(a, prefix, prefix, prefix);
    assert_true(strlen(a) < STATE_DIR_NAME_SIZE);
    assert_true(strlen(a) > 20);
    state_dir_name(a, "h", "..", "../");
    assert_null(strchr(a, '/'));
    assert_int_not_equal(a[0], '.');
}

static void test_default_base(void **state)
{
    char base[256];

    (void)state;
    assert_int_equal(state_dir_default_base(base, sizeof(base), 0), 0);
    assert_string_equal(base, "/var/lib/ossmount");
    setenv("XDG_STATE_HOME", "/x/state", 1);
    setenv("HOME", "/home/u", 1);
    assert_int_equal(state_dir_default_base(base, sizeof(base), 1000), 0);
    assert_string_equal(base, "/x/state/ossmount");
    setenv("XDG_STATE_HOME", "relative", 1);
    assert_int_equal(state_dir_default_base(base, sizeof(base), 1000), 0);
    assert_string_equal(base, "/home/u/.local/state/ossmount");
    unsetenv("XDG_STATE_HOME");
    assert_int_equal(state_dir_default_base(base, 8, 1000), -ENAMETOOLONG);
}

static void test_made(void **state)
{
    struct state_dir *dir, *again;
    char base[128], path[512];
    struct message m;
    struct stat st;

    (void)state;
    snprintf(base, sizeof(base), "%s/a/b", top);
    assert_int_equal(open_in(&dir, base, 0, &m), 0);
    assert_int_equal(stat(state_dir_path(dir), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(base, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    snprintf(path, sizeof(path), "%s/lock", state_dir_path(dir));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    state_dir_close(dir);

    /* What an earlier version or an umask left open is closed. */
    snprintf(path, sizeof(path), "%s/photos@localhost-", base);
    assert_int_equal(open_in(&dir, base, 0, &m), 0);
    assert_int_equal(chmod(state_dir_path(dir), 0755), 0);
    snprintf(path, sizeof(path), "%s", state_dir_path(dir));
    state_dir_close(dir);
    assert_int_equal(open_in(&again, base, 0, &m), 0);
    assert_string_equal(state_dir_path(again), path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    state_dir_close(again);
}

static void test_refused(void **state)
{
    char base[128], name[STATE_DIR_NAME_SIZE], path[512], other[128];
    struct state_dir *dir;
    struct message m;

    (void)state;
    /* A symbolic link in the place of the directory of all mounts, of the mount's own, of the lock. */
    snprintf(base, sizeof(base), "%s/base", top);
    snprintf(other, sizeof(other), "%s/other", top);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(symlink(other, base), 0);
    assert_true(open_in(&dir, base, 0, &m) < 0);
    assert_null(dir);
    assert_non_null(strstr(m.text, "symbolic link"));
    assert_int_equal(unlink(base), 0);

    assert_int_equal(mkdir(base, 0700), 0);
    state_dir_name(name, "http://localhost", "photos", "");
    snprintf(path, sizeof(path), "%s/%s", base, name);
    assert_int_equal(symlink(other, path), 0);
    assert_true(open_in(&dir, base, 0, &m) < 0);
    assert_non_null(strstr(m.text, "symbolic link"));
    assert_int_equal(unlink(path), 0);

    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/%s/lock", base, name);
    assert_int_equal(symlink(other, path), 0);
    assert_true(open_in(&dir, base, 0, &m) < 0);
    assert_non_null(strstr(m.text, "cannot lock"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(open_in(&dir, base, 0, &m) < 0);
    assert_int_equal(unlink(path), 0);

    /* Others may write there and swap the names. */
    assert_int_equal(chmod(base, 0777), 0);
    assert_int_equal(open_in(&dir, base, 0, &m), -EACCES);
    assert_int_equal(chmod(base, 01777), 0);
    assert_int_equal(open_in(&dir, base, 0, &m), 0);
    state_dir_close(dir);

    snprintf(path, sizeof(path), "%s/file", top);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_true(open_in(&dir, path, 0, &m) < 0);
    assert_true(open_in(&dir, "/proc/nowhere", 0, &m) < 0);
    assert_non_null(strstr(m.text, "cache_dir="));
}

static void test_foreign_owner(void **state)
{
    char base[128], name[STATE_DIR_NAME_SIZE], path[512];
    struct state_dir *dir;
    struct message m;

    (void)state;
    if (geteuid() != 0) {
        print_message("only root can give a directory away\n");
        return;
    }
    snprintf(base, sizeof(base), "%s/base", top);
    state_dir_name(name, "http://localhost", "photos", "");
    snprintf(path, sizeof(path), "%s/%s", base, name);
    assert_int_equal(mkdir(base, 0700), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chown(path, 12345, 12345), 0);
    assert_int_equal(open_in(&dir, base, 0, &m), -EACCES);
    assert_non_null(strstr(m.text, "uid 12345"));
    assert_int_equal(chown(path, 0, 0), 0);
    assert_int_equal(chown(base, 12345, 12345), 0);
    assert_int_equal(open_in(&dir, base, 0, &m), -EACCES);
}

/* A process that holds the lock for so long, or until it is killed. */
static pid_t holder(useconds_t microseconds)
{
    int fds[2];
    char ready;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        struct state_dir *dir;
        struct message m;

        if (open_in(&dir, top, 0, &m) < 0 || write(fds[1], "+", 1) != 1)
            _exit(1);
        usleep(microseconds);
        _exit(0);
    }
    assert_int_equal(read(fds[0], &ready, 1), 1);
    close(fds[0]);
    close(fds[1]);
    return pid;
}

static void test_lock(void **state)
{
    struct state_dir *dir;
    struct message m;
    char pid_text[64];
    pid_t pid;

    (void)state;
    /* Another process holds it: its pid is named. */
    pid = holder(20000000);
    assert_int_equal(open_in(&dir, top, 200, &m), -EBUSY);
    snprintf(pid_text, sizeof(pid_text), "process %d:", (int)pid);
    if (!strstr(m.text, pid_text))
        fail_msg("\"%s\" does not name %s", m.text, pid_text);
    /* However it ends, the lock goes with it. */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(open_in(&dir, top, 0, &m), 0);
    state_dir_close(dir);

    /* A daemon that is draining is waited for. */
    pid = holder(300000);
    assert_int_equal(open_in(&dir, top, 10000, &m), 0);
    waitpid(pid, NULL, 0);

    /* Another prefix of the same bucket is another mount. */
    {
        const struct state_dir_config other = {
            .base = top, .endpoint = "http://localhost", .bucket = "photos", .prefix = "a/"};
        struct state_dir *second;

        assert_int_equal(state_dir_open(&second, &other, &m), 0);
        state_dir_close(second);
    }
    state_dir_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_default_base),
        cmocka_unit_test_setup_teardown(test_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
