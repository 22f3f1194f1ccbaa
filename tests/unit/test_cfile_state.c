/*
 * The table of a file's states, cell by cell: against a second account of it, against what cfile_event() does, and
 * against what real files do when the event really happens to them.
 */
#include "cache_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The next state by its first letter, for each state in order; '-': cannot happen. */
static const char letters[] = "CDURE";
static const char *const expected[CFILE_N_EVENTS] = {
    [CFILE_ON_WRITE] = "DDRRD",       [CFILE_ON_TRUNCATE] = "DDRRD",    [CFILE_ON_ATTRIBUTES] = "DDRRD",
    [CFILE_ON_FLUSH] = "CDURE",       [CFILE_ON_RELEASE] = "CDURE",     [CFILE_ON_GONE] = "CD--E",
    [CFILE_ON_RENAME] = "CD--E",      [CFILE_ON_CARRIED] = "CC--C",     [CFILE_ON_BEGIN] = "-UUUU",
    [CFILE_ON_DONE] = "--CD-",        [CFILE_ON_DONE_PARTLY] = "--DD-", [CFILE_ON_FAILED] = "--EE-",
    [CFILE_ON_CONFLICT] = "--EE-",    [CFILE_ON_CUT] = "--DD-",         [CFILE_ON_CRASH] = "CC-CC",
    [CFILE_ON_CRASH_ASKED] = "-DDDD",
};

/* What a file without anything but a state becomes, in a process that may die of it: the state, or -1. */
static int apply(enum cfile_state state, enum cfile_event event, bool orphan)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        char key[] = "f";
        struct cfile cf = {.key = key, .state = state, .orphan = orphan};

        signal(SIGABRT, SIG_DFL);
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        cfile_event(&cf, event);
        _exit(cf.state);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) == SIGABRT ? -1 : -2;
}

static void test_cells(void **state)
{
    (void)state;
    for (int s = 0; s < CFILE_N_STATES; s++) {
        for (int e = 0; e < CFILE_N_EVENTS; e++) {
            const struct cfile_cell *cell = &cfile_table[s][e];
            char wanted = expected[e][s];

            assert_int_equal(cell->possible, wanted != '-');
            if (cell->possible)
                assert_int_equal(letters[cell->next], wanted);
            assert_int_equal(apply(s, e, false), cell->possible ? (int)cell->next : -1);
            assert_int_equal(apply(s, e, true), cell->next); /* nothing is refused to an orphan */
        }
    }
}

/* ------------------------------------------------------------------------------------------- real files */

static struct rig rig;
static char a[200000];

static int setup(void **state)
{
    *state = &rig;
    rig = (struct rig){0};
    rig_start(&rig);
    rig_bytes(a, sizeof(a), 1);
    return 0;
}

static void shut(enum oss_op op)
{
    fake_oss_shut(rig.fake, op, FAKE_GATE_BEGIN);
}

static enum cfile_state state_of(struct cfile *cf)
{
    enum cfile_state s;

    pthread_mutex_lock(&cf->mu);
    s = cf->state;
    cfile_check(cf);
    pthread_mutex_unlock(&cf->mu);
    return s;
}

/*
 * What the journal says last of the file: the type of the record, those of uploads left out (journal.h); 0: there is
 * no journal.
 */
static int last_note(struct cfile *cf)
{
    unsigned char head[24];
    char path[300];
    int fd, last = 0;

    pthread_mutex_lock(&cf->mu);
    snprintf(path, sizeof(path), "%s.journal", cf->journal_fd < 0 ? "/nonexistent" : cf->path);
    pthread_mutex_unlock(&cf->mu);
    fd = open(path, O_RDONLY);
    for (off_t at = 0; fd >= 0 && pread(fd, head, sizeof(head), at) == (ssize_t)sizeof(head);) {
        if (head[5] <= 3 || head[5] == 8 || head[5] == 9)
            last = head[5];
        at += 24 + (head[12] | head[13] << 8 | head[14] << 16);
    }
    if (fd >= 0)
        close(fd);
    return last;
}

static void check_note(struct cfile *cf, enum cfile_note note, int before)
{
    static const int types[] = {[NOTE_COMMIT] = 3, [NOTE_KEY] = 9, [NOTE_SENT] = 8, [NOTE_REMOVED] = 0};
    int now = last_note(cf);

    if (note == NOTE_NONE || note == NOTE_ASIDE)
        assert_int_equal(now, before);
    else if (note == NOTE_DIRTY)
        assert_true(now == 1 || now == 2);
    else
        assert_int_equal(now, types[note]);
}

static struct fake_fault fail_with(enum oss_op op, int err, unsigned count)
{
    return (struct fake_fault){.kind = FAKE_FAIL, .op = op, .nth = 1, .count = count, .err = err, .code = "Test"};
}

/* A file in a state; `waits`: for its upload, which stands at a gate. */
struct scene {
    char key[16];
    struct cfile *cf;
    struct rig_call *waits;
    bool open;
};

/* A failed upload is not tried again by itself: the test would race with it. */
static void no_retries(bool none)
{
    pthread_mutex_lock(&rig.cache->mu);
    rig.cache->draining = none;
    pthread_mutex_unlock(&rig.cache->mu);
}

static void reach(struct scene *scene, enum cfile_state state, const struct fake_fault *fault)
{
    static unsigned count;
    struct cfile *cf;

    *scene = (struct scene){.open = true};
    snprintf(scene->key, sizeof(scene->key), "d%u/f", ++count);
    assert_int_equal(fake_oss_store(rig.fake, scene->key, a, 3000, NULL, NULL), 0);
    cf = scene->cf = rig_open(&rig, scene->key);
    assert_non_null(cf);
    if (state != CFILE_CLEAN)
        assert_int_equal(cfile_write(cf, a, 100, 500, false), 100);
    if (state == CFILE_UPLOADING || state == CFILE_REDIRTIED) {
        fake_oss_fault(rig.fake, fault);
        shut(OSS_OP_PUT);
        scene->waits = rig_flush_begin(cf);
        assert_true(fake_oss_wait(rig.fake, 1));
    }
    if (state == CFILE_REDIRTIED)
        assert_int_equal(cfile_write(cf, a, 100, 700, false), 100);
    if (state == CFILE_ERROR) {
        const struct fake_fault refused = fail_with(OSS_OP_PUT, -EACCES, 1);

        fake_oss_fault(rig.fake, &refused);
        no_retries(true);
        assert_int_equal(rig_flush(cf), -EACCES);
        no_retries(false);
        fake_oss_fault(rig.fake, NULL);
    }
    assert_int_equal(state_of(cf), state);
}

/* All that was held goes on; in the end everything is sent. */
static void leave(struct scene *scene)
{
    fake_oss_fault(rig.fake, NULL);
    fake_oss_open(rig.fake);
    if (scene->waits)
        rig_wait(scene->waits, "the first flush");
    if (scene->open) {
        assert_int_equal(rig_flush(scene->cf), 0);
        assert_int_equal(state_of(scene->cf), CFILE_CLEAN);
        cfile_close(scene->cf, true);
    }
    cache_drain(rig.cache);
    no_retries(false);
}

/* The events that one deed brings, in order, lead through the table from `state` to what the file is now. */
static void check_path(struct cfile *cf, enum cfile_state state, enum cfile_event first, bool begins)
{
    state = cfile_table[state][first].next;
    if (begins) {
        assert_true(cfile_table[state][CFILE_ON_BEGIN].possible);
        state = cfile_table[state][CFILE_ON_BEGIN].next;
    }
    assert_int_equal(state_of(cf), state);
}

static void change(struct cfile *cf, enum cfile_event event)
{
    const struct attr attr = {.mode = 0600};

    if (event == CFILE_ON_WRITE)
        assert_int_equal(cfile_write(cf, a, 10, 5, false), 10);
    else if (event == CFILE_ON_TRUNCATE)
        assert_int_equal(cfile_truncate(cf, 2000), 0);
    else
        cfile_set_attr(cf, &attr, CFILE_SET_MODE);
}

static void test_changes(void **state)
{
    static const enum cfile_event events[] = {CFILE_ON_WRITE, CFILE_ON_TRUNCATE, CFILE_ON_ATTRIBUTES};

    (void)state;
    for (int s = 0; s < CFILE_N_STATES; s++) {
        for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
            const struct cfile_cell *cell = &cfile_table[s][events[i]];
            /* Content is unsent in all but CLEAN: attributes go with it. */
            bool alone = events[i] != CFILE_ON_ATTRIBUTES || s == CFILE_CLEAN;
            struct scene scene;
            int before;

            reach(&scene, s, NULL);
            before = last_note(scene.cf);
            change(scene.cf, events[i]);
            check_path(scene.cf, s, events[i], false);
            check_note(scene.cf, alone ? cell->note : NOTE_NONE, before);
            assert_int_equal(cell->reply, REPLY_HERE);
            leave(&scene);
        }
    }
}

static void test_flush(void **state)
{
    (void)state;
    for (int s = 0; s < CFILE_N_STATES; s++) {
        enum cfile_reply reply = cfile_table[s][CFILE_ON_FLUSH].reply;
        bool begins = s == CFILE_DIRTY || s == CFILE_ERROR;
        struct rig_call *call;
        struct scene scene;

        reach(&scene, s, NULL);
        shut(OSS_OP_PUT);
        call = rig_flush_begin(scene.cf);
        if (begins)
            assert_true(fake_oss_wait(rig.fake, 1));
        check_path(scene.cf, s, CFILE_ON_FLUSH, begins);
        if (begins)
            check_note(scene.cf, cfile_table[s][CFILE_ON_BEGIN].note, -1);
        assert_int_equal(reply, s == CFILE_CLEAN ? REPLY_CLEAN : REPLY_BUCKET);
        assert_int_equal(rig_is_done(call), reply == REPLY_CLEAN);
        fake_oss_open(rig.fake);
        assert_int_equal(rig_wait(call, "flush"), 0);
        leave(&scene);
    }
}

static void test_release(void **state)
{
    (void)state;
    for (int s = 0; s < CFILE_N_STATES; s++) {
        struct scene scene;

        reach(&scene, s, NULL);
        shut(OSS_OP_PUT);
        scene.open = false;
        cfile_hold(scene.cf);
        cfile_close(scene.cf, true);
        if (s == CFILE_DIRTY)
            assert_true(fake_oss_wait(rig.fake, 1));
        check_path(scene.cf, s, CFILE_ON_RELEASE, s == CFILE_DIRTY);
        leave(&scene);
        cfile_release(scene.cf);
        rig_restart(&rig);
    }
}

/* Removed, or renamed; what is on its way ends first. */
static void test_names(void **state)
{
    static const enum cfile_state states[] = {CFILE_CLEAN, CFILE_DIRTY, CFILE_ERROR};

    (void)state;
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
        enum cfile_state s = states[i];
        struct scene scene;

        reach(&scene, s, NULL);
        assert_int_equal(rig_unlink(&rig, scene.key), 0);
        assert_true(scene.cf->orphan);
        assert_int_equal(scene.cf->state, cfile_table[s][CFILE_ON_GONE].next);
        check_note(scene.cf, cfile_table[s][CFILE_ON_GONE].note, 0);
        assert_int_equal(rig_flush(scene.cf), 0);
        cfile_close(scene.cf, true);
        reach(&scene, s, NULL);
        assert_int_equal(rig_rename(&rig, scene.key, "g"), 0);
        check_path(scene.cf, s, CFILE_ON_RENAME, false);
        check_note(scene.cf, cfile_table[s][CFILE_ON_RENAME].note, 0);
        leave(&scene);
        assert_int_equal(rig_unlink(&rig, "g"), 0);
    }
}

/* Attributes alone, which the copy takes along, whether they were sent in vain before or not. */
static void test_carried(void **state)
{
    const struct fake_fault refused = fail_with(OSS_OP_COPY, -EACCES, 1);

    (void)state;
    for (int failed = 0; failed < 2; failed++) {
        enum cfile_state s = failed ? CFILE_ERROR : CFILE_DIRTY;
        struct scene scene;

        reach(&scene, CFILE_CLEAN, NULL);
        change(scene.cf, CFILE_ON_ATTRIBUTES);
        if (failed) {
            fake_oss_fault(rig.fake, &refused);
            no_retries(true);
            assert_int_equal(rig_flush(scene.cf), -EACCES);
            no_retries(false);
            fake_oss_fault(rig.fake, NULL);
            assert_int_equal(state_of(scene.cf), CFILE_ERROR);
        }
        assert_int_equal(rig_rename(&rig, scene.key, "g"), 0);
        check_path(scene.cf, s, CFILE_ON_CARRIED, false);
        check_note(scene.cf, cfile_table[s][CFILE_ON_CARRIED].note, -1);
        leave(&scene);
        assert_int_equal(rig_unlink(&rig, "g"), 0);
    }
}

/* The end of an upload. `err` of the request; what is left to be sent begins at once where somebody waits for it. */
static void ends(enum cfile_state s, enum cfile_event event, int err)
{
    const struct fake_fault fault = fail_with(OSS_OP_PUT, err, 1);
    enum cfile_reply reply = cfile_table[s][event].reply;
    unsigned before = fake_oss_requests(rig.fake, OSS_OP_PUT);
    struct scene scene;

    reach(&scene, s, err ? &fault : NULL);
    no_retries(true);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(scene.waits, "the upload"), reply == REPLY_ERRNO ? err : 0);
    scene.waits = NULL;
    if (event == CFILE_ON_CUT) {
        /* Nobody was answered: an upload of its own has served who waited. */
        assert_int_equal(reply, REPLY_NONE);
        assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_PUT), before + 2);
        assert_int_equal(state_of(scene.cf), CFILE_CLEAN);
    } else {
        check_path(scene.cf, s, event, false);
        check_note(scene.cf, cfile_table[s][event].note, last_note(scene.cf));
    }
    leave(&scene);
}

static void test_ends(void **state)
{
    (void)state;
    for (int s = CFILE_UPLOADING; s <= CFILE_REDIRTIED; s++) {
        ends(s, CFILE_ON_DONE, 0);
        ends(s, CFILE_ON_FAILED, -EACCES);
        ends(s, CFILE_ON_CONFLICT, -ESTALE);
        ends(s, CFILE_ON_CUT, -EAGAIN);
    }
}

/* Attributes that came after Initiate follow by themselves, and who waits, waits for them. */
static void test_done_partly(void **state)
{
    struct cfile *cf = rig_create(&rig, "s");
    struct rig_call *call;

    (void)state;
    assert_int_equal(cfile_write(cf, a, sizeof(a), 0, false), sizeof(a));
    while (fake_oss_requests(rig.fake, OSS_OP_PART) == 0)
        usleep(1000);
    change(cf, CFILE_ON_ATTRIBUTES);
    shut(OSS_OP_COPY);
    call = rig_flush_begin(cf);
    assert_true(fake_oss_wait(rig.fake, 1));
    assert_false(rig_is_done(call));
    rig_expect(&rig, "s", a, sizeof(a));
    check_path(cf, CFILE_UPLOADING, CFILE_ON_DONE_PARTLY, true);
    check_note(cf, cfile_table[CFILE_UPLOADING][CFILE_ON_DONE_PARTLY].note, -1);
    fake_oss_open(rig.fake);
    assert_int_equal(rig_wait(call, "flush"), 0);
    assert_int_equal(state_of(cf), CFILE_CLEAN);
    cfile_close(cf, true);
}

/* The upload was gone: another begins, of the same file, which has been written to since or not. */
static void test_begin_anew(void **state)
{
    struct fake_fault gone = fail_with(OSS_OP_PART, -ENOENT, 1);

    (void)state;
    gone.code = "NoSuchUpload";
    for (int again = 0; again < 2; again++) {
        enum cfile_state s = again ? CFILE_REDIRTIED : CFILE_UPLOADING;
        unsigned before = fake_oss_requests(rig.fake, OSS_OP_INITIATE);
        struct rig_call *call;
        struct scene scene;

        reach(&scene, CFILE_CLEAN, NULL);
        assert_int_equal(cfile_truncate(scene.cf, 0), 0);
        assert_int_equal(cfile_write(scene.cf, a, 100, 100000, false), 100); /* in no order: no stream */
        fake_oss_fault(rig.fake, &gone);
        shut(OSS_OP_PART);
        call = rig_flush_begin(scene.cf);
        assert_true(fake_oss_wait(rig.fake, 1));
        if (again)
            assert_int_equal(cfile_write(scene.cf, a, 100, 90000, false), 100);
        assert_int_equal(state_of(scene.cf), s);
        fake_oss_open(rig.fake);
        assert_int_equal(rig_wait(call, "flush"), 0);
        /* Begun anew it has sent all: from there the end of the upload leads to CLEAN, from REDIRTIED to DIRTY. */
        assert_int_equal(fake_oss_requests(rig.fake, OSS_OP_INITIATE), before + 2);
        check_path(scene.cf, cfile_table[s][CFILE_ON_BEGIN].next, CFILE_ON_DONE, false);
        leave(&scene);
    }
}

/* ------------------------------------------------------------------------------------------- crashes */

static void shell(const char *what)
{
    char command[256];

    snprintf(command, sizeof(command), "cd %s && %s", rig.dir, what);
    assert_int_equal(system(command), 0);
}

/* The daemon dies in this state, after `attributes` alone in its place: what the next one has of the file. */
static void crash(enum cfile_state s, bool attributes, enum cfile_event event)
{
    const struct cfile_cell *cell = &cfile_table[s][event];
    struct scene scene;
    struct cfile *cf;

    reach(&scene, attributes ? CFILE_CLEAN : s, NULL);
    if (attributes)
        change(scene.cf, CFILE_ON_ATTRIBUTES);
    if (s == CFILE_ERROR && event == CFILE_ON_CRASH) {
        /* After a failed upload that was overtaken the last word is DIRTY: as if it were written now. */
        change(scene.cf, CFILE_ON_WRITE);
        cell = &cfile_table[CFILE_DIRTY][event];
    }
    shell("rm -rf left aside && cp -r data left");
    leave(&scene);
    cache_free(rig.cache);
    assert_int_equal(fake_oss_store(rig.fake, scene.key, a, 3000, NULL, NULL), 0);
    shell("rm -r data && mv left data");
    rig_new_cache(&rig);
    shut(attributes ? OSS_OP_COPY : OSS_OP_PUT);
    assert_int_equal(cache_recover(rig.cache), 0);
    cf = cfile_find(rig.cache, scene.key);
    if (cell->next == CFILE_DIRTY) {
        assert_true(fake_oss_wait(rig.fake, 1));
        assert_non_null(cf);
        check_path(cf, s, event, true);
    } else {
        assert_null(cf);
    }
    shell(cell->note == NOTE_ASIDE ? "ls aside/*.journal >/dev/null" : "! ls aside/*.journal 2>/dev/null");
    fake_oss_open(rig.fake);
    if (cf)
        cfile_release(cf);
    cache_drain(rig.cache);
}

static void test_crash(void **state)
{
    (void)state;
    crash(CFILE_CLEAN, false, CFILE_ON_CRASH);
    crash(CFILE_DIRTY, false, CFILE_ON_CRASH);
    crash(CFILE_REDIRTIED, false, CFILE_ON_CRASH);
    crash(CFILE_ERROR, false, CFILE_ON_CRASH);
    crash(CFILE_DIRTY, true, CFILE_ON_CRASH_ASKED);
    crash(CFILE_UPLOADING, false, CFILE_ON_CRASH_ASKED);
    crash(CFILE_ERROR, false, CFILE_ON_CRASH_ASKED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells),
        TEST(test_changes),
        TEST(test_flush),
        TEST(test_release),
        TEST(test_names),
        TEST(test_carried),
        TEST(test_ends),
        TEST(test_done_partly),
        TEST(test_begin_anew),
        TEST(test_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
