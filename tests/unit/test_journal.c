/*
 * The journal: what journal.c writes it reads back, record by record; a tail torn at any byte costs the torn record
 * and no other; what is unknown, damaged or beyond a limit is told apart. Expected bytes are made here, by the
 * specification in journal.h and a bitwise CRC.
 */
#include "../../cache/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BEGIN = 1, DIRTY, COMMIT, INTENT, UPLOAD, PART, END, SENT, KEY, FINAL, UNKNOWN, SHARES = 16 };

/* A cfile made by hand: the journal looks at its fields only. */
static struct cache cache;
static struct cfile file;
static char dir[64], path[128];

static int setup(void **state)
{
    char data[80];

    (void)state;
    strcpy(dir, "/tmp/test-journal-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(data, sizeof(data), "%s/data", dir);
    assert_int_equal(mkdir(data, 0700), 0);
    memset(&cache, 0, sizeof(cache));
    cache.config.state_dir = dir;
    cache.next_file = 0x1234;
    memset(&file, 0, sizeof(file));
    file.cache = &cache;
    file.key = strdup("dir/a \xc3\xa4 b");
    file.fd = file.journal_fd = -1;
    file.map = extent_map_new();
    file.epoch = 1;
    file.gen = file.data_gen = 1;
    file.attr =
        (struct attr){.mode = S_IFREG | 0640, .uid = 12, .gid = UINT32_MAX, .mtime = {-5, 999999999}, .size = 7};
    assert_int_equal(kv_add(&file.headers, "x-oss-meta-a", ""), 0);
    assert_int_equal(kv_add(&file.headers, "content-type", "text/plain"), 0);
    snprintf(path, sizeof(path), "%s/data/%016x.journal", dir, 0x1234);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    if (file.journal_fd >= 0)
        close(file.journal_fd);
    extent_map_free(file.map);
    kv_free(&file.headers);
    oinfo_put(file.object);
    free(file.key);
    free(file.path);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static struct oinfo *object(const char *etag, uint64_t size)
{
    static const struct attr_defaults defaults;
    static const struct oss_object nothing;
    struct oinfo *info = oinfo_from_object(&nothing, &defaults, false);

    assert_non_null(info);
    strcpy(info->etag, etag);
    info->attr.size = size;
    info->attr.mode = S_IFREG | 0604;
    info->last_modified = 1700000000;
    info->type = OSS_TYPE_MULTIPART;
    info->is_marker = true;
    return info;
}

/* ------------------------------------------------------------------------------------ bytes made by hand */

static char raw[1 << 20];
static size_t raw_size;

/* Bit by bit, from the polynomial: no table of the product's. */
static uint64_t slow_crc(const char *data, size_t n)
{
    uint64_t crc = ~UINT64_C(0);

    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT64_C(0xc96c5795d7870f42) : 0);
    }
    return ~crc;
}

static size_t put(char *to, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = (char)(v >> 8 * i);
    return (size_t)n;
}

static size_t put_string(char *to, const char *s)
{
    put(to, strlen(s), 4);
    memcpy(to + 4, s, strlen(s));
    return 4 + strlen(s);
}

static void seal(size_t at, size_t length)
{
    static char both[1 << 20];

    memcpy(both, raw + at, 16);
    memcpy(both + 16, raw + at + 24, length);
    put(raw + at + 16, slow_crc(both, 16 + length), 8);
}

static void add_record(unsigned version, unsigned type, uint32_t sequence, const char *payload, size_t n)
{
    char *p = raw + raw_size;

    p += put(p, 0x4a53534f, 4);
    p += put(p, version, 1);
    p += put(p, type, 1);
    p += put(p, 0, 2);
    p += put(p, sequence, 4);
    p += put(p, n, 4);
    memcpy(p + 8, payload, n);
    seal(raw_size, n);
    raw_size += 24 + n;
}

static const char *boot(void)
{
    static char id[64];
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

    assert_non_null(f);
    assert_non_null(fgets(id, sizeof(id), f));
    fclose(f);
    id[strcspn(id, "\n")] = '\0';
    return id;
}

static void add_begin(const char *boot_id, const char *key)
{
    char p[4096];
    size_t n = put_string(p, boot_id);

    n += put_string(p + n, key);
    memset(p + n, 0, 32);
    n += 32 + put(p + n + 32, 0, 4); /* attr, no headers */
    n += put(p + n, 0, 1);           /* no object */
    add_record(1, BEGIN, 1, p, n);
}

static void store_raw(size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, raw, n), n);
    close(fd);
}

static int read_raw(size_t n, struct journal_state *s)
{
    store_raw(n);
    return journal_read(path, s);
}

static void load_raw(void)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, raw, sizeof(raw));

    assert_true(n >= 0 && (size_t)n < sizeof(raw));
    raw_size = (size_t)n;
    close(fd);
}

/* --------------------------------------------------------------------------------------------- the tests */

static void write_every_record(void)
{
    struct oss_part part = {.number = 1, .size = 100, .etag = "\"E1\"", .has_crc = true, .crc64 = UINT64_MAX};
    struct oinfo *moved = object("\"M\"", 4);

    file.object = object("\"OLD\"", 77);
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    assert_int_equal(extent_map_set_base(file.map, 0, 1000), 0);
    assert_int_equal(extent_map_write(file.map, 10, 20, 1), 0);
    assert_int_equal(extent_map_write(file.map, 500, 1000, 1), 0);
    file.attr.size = 1000;
    assert_int_equal(journal_commit(&file), 0);
    assert_int_equal(journal_intent(&file), 0);
    assert_int_equal(journal_upload(&file, "UPLOADID"), 0);
    journal_part(&file, 0, &part);
    part = (struct oss_part){.number = 10000, .size = 5, .etag = "\"E2\""};
    journal_part(&file, 100, &part);
    assert_int_equal(journal_final(&file, 1000, 0x0123456789abcdef), 0);
    journal_end(&file, "UPLOADID");
    journal_sent(&file);
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    journal_key(&file, "new", moved);
    oinfo_put(moved);
}

static void check_begin(const struct journal_state *s)
{
    assert_true(s->same_boot);
    assert_string_equal(s->key, "dir/a \xc3\xa4 b");
    assert_int_equal(s->attr.mode, S_IFREG | 0640);
    assert_int_equal(s->attr.uid, 12);
    assert_int_equal(s->attr.gid, UINT32_MAX);
    assert_int_equal(s->attr.mtime.tv_sec, -5);
    assert_int_equal(s->attr.mtime.tv_nsec, 999999999);
    assert_int_equal(s->headers.n, 2);
    assert_string_equal(kv_get(&s->headers, "x-oss-meta-a"), "");
    assert_string_equal(kv_get(&s->headers, "content-type"), "text/plain");
}

static void check_old_object(const struct journal_state *s)
{
    assert_non_null(s->object);
    assert_string_equal(s->object->etag, "\"OLD\"");
    assert_int_equal(s->object->attr.size, 77);
    assert_int_equal(s->object->attr.mode, S_IFREG | 0604);
    assert_int_equal(s->object->last_modified, 1700000000);
    assert_int_equal(s->object->type, OSS_TYPE_MULTIPART);
    assert_true(s->object->is_marker);
}

/* What must be known after the first n of the records of write_every_record(). */
static void check_after(const struct journal_state *s, uint32_t n)
{
    assert_int_equal(s->sequence, n);
    assert_int_equal(s->attr.size, n >= 2 ? 1000 : 7);
    assert_int_equal(s->committed, n >= 2 && n < 10);
    assert_int_equal(s->content, n >= 2 && n < 9);
    assert_int_equal(s->n_extents, n >= 2 ? 2 : 0);
    assert_int_equal(s->intent != 0, n == 3);
    assert_string_equal(s->upload_id, n >= 4 && n < 8 ? "UPLOADID" : "");
    assert_int_equal(s->n_parts, n < 5 || n >= 8 ? 0 : n == 5 ? 1 : 2);
    assert_int_equal(s->final, n >= 7 && n < 9);
    if (n < 11) {
        check_begin(s);
        check_old_object(s);
    } else {
        assert_string_equal(s->key, "new");
        assert_string_equal(s->object->etag, "\"M\"");
        assert_int_equal(s->object->attr.size, 4);
    }
    if (s->n_extents) {
        assert_int_equal(s->extents[0][0], 10);
        assert_int_equal(s->extents[0][1], 20);
        assert_int_equal(s->extents[1][0], 500);
        assert_int_equal(s->extents[1][1], 1000);
    }
    if (s->n_parts > 0) {
        assert_int_equal(s->parts[0].part.number, 1);
        assert_int_equal(s->parts[0].part.size, 100);
        assert_string_equal(s->parts[0].part.etag, "\"E1\"");
        assert_true(s->parts[0].part.has_crc);
        assert_true(s->parts[0].part.crc64 == UINT64_MAX);
    }
    if (s->n_parts > 1) {
        assert_int_equal(s->parts[1].part.number, 10000);
        assert_int_equal(s->parts[1].offset, 100);
        assert_false(s->parts[1].part.has_crc);
    }
    if (s->final) {
        assert_int_equal(s->final_size, 1000);
        assert_true(s->final_crc == 0x0123456789abcdef);
    }
}

/* The ends of the records in raw, by their headers. */
static size_t ends_of(size_t ends[], size_t max)
{
    size_t n = 0, at = 0;

    while (at + 24 <= raw_size && n < max) {
        size_t length = 0;

        for (int i = 3; i >= 0; i--)
            length = length << 8 | (unsigned char)raw[at + 12 + (size_t)i];
        at += 24 + length;
        ends[n++] = at;
    }
    assert_int_equal(at, raw_size);
    return n;
}

/* Cut anywhere, the whole records before the cut are read, and nothing of the one that is cut. */
static void test_every_record_torn_anywhere(void **state)
{
    struct journal_state s;
    size_t ends[20], n, whole = 0;

    (void)state;
    write_every_record();
    load_raw();
    n = ends_of(ends, 20);
    assert_int_equal(n, 11);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(raw[(i ? ends[i - 1] : 0) + 5],
                         ((int[]){BEGIN, COMMIT, INTENT, UPLOAD, PART, PART, FINAL, END, SENT, DIRTY, KEY})[i]);
    for (size_t cut = 0; cut <= raw_size; cut++) {
        int r = read_raw(cut, &s);

        whole += whole < n && cut == ends[whole];
        if (!whole) {
            assert_int_equal(r, -ENODATA);
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(s.good_size, ends[whole - 1]);
        check_after(&s, (uint32_t)whole);
        journal_state_free(&s);
    }
}

/* The CRCs that the product writes are those of the specification. */
static void test_written_bytes(void **state)
{
    size_t ends[20], n;
    char crc[8];

    (void)state;
    write_every_record();
    load_raw();
    n = ends_of(ends, 20);
    for (size_t i = 0; i < n; i++) {
        size_t at = i ? ends[i - 1] : 0;

        memcpy(crc, raw + at + 16, 8);
        seal(at, ends[i] - at - 24);
        assert_memory_equal(crc, raw + at + 16, 8);
        assert_memory_equal(raw + at, "OSSJ\1", 5);
        assert_int_equal(raw[at + 8], i + 1);
    }
}

/* A flipped bit ends the reading before its record, wherever it is. */
static void test_flipped_bits(void **state)
{
    struct journal_state s;
    size_t ends[20], n, record = 0;

    (void)state;
    write_every_record();
    load_raw();
    n = ends_of(ends, 20);
    for (size_t at = 0; at < raw_size; at++) {
        int r;

        record += record < n && at == ends[record];
        raw[at] ^= (char)(1 << at % 8);
        r = read_raw(raw_size, &s);
        raw[at] ^= (char)(1 << at % 8);
        /* A length that says more than there is cannot be told from a write that was cut off. */
        if (record)
            assert_int_equal(r, 0);
        else
            assert_true(r == -EINVAL || r == -ENODATA);
        if (r)
            continue;
        assert_int_equal(s.sequence, record);
        journal_state_free(&s);
    }
}

static void test_begin_by_hand(void **state)
{
    struct journal_state s;

    (void)state;
    raw_size = 0;
    add_begin(boot(), "k");
    assert_int_equal(read_raw(raw_size, &s), 0);
    assert_true(s.same_boot);
    assert_string_equal(s.key, "k");
    assert_null(s.object);
    journal_state_free(&s);
    raw_size = 0;
    add_begin("00000000-0000-0000-0000-000000000000", "k");
    assert_int_equal(read_raw(raw_size, &s), 0);
    assert_false(s.same_boot);
    journal_state_free(&s);
    raw_size = 0;
    add_begin("unknown", "k");
    assert_int_equal(read_raw(raw_size, &s), 0);
    assert_false(s.same_boot);
    journal_state_free(&s);
}

/* Of a version or a type that is not known: an error, also behind records that are fine. */
static void test_unknown(void **state)
{
    struct journal_state s;
    size_t begun;

    (void)state;
    raw_size = 0;
    add_begin(boot(), "k");
    begun = raw_size;
    add_record(2, DIRTY, 2, "", 0);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    raw_size = begun;
    add_record(1, UNKNOWN, 2, "", 0);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    raw_size = begun;
    add_record(1, 0, 2, "", 0);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    raw_size = begun;
    add_record(1, 255, 2, "", 0);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    raw_size = 0;
    add_record(2, BEGIN, 1, "whatever", 8);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    assert_null(s.key);
}

/* Whole records, CRC and all, in an order that nobody writes. */
static void test_odd_orders(void **state)
{
    struct journal_state s;
    size_t begun;

    (void)state;
    for (unsigned type = DIRTY; type < UNKNOWN; type++) {
        raw_size = 0;
        add_record(1, type, 1, "", 0);
        assert_true(read_raw(raw_size, &s) < 0);
    }
    raw_size = 0;
    add_begin(boot(), "k");
    begun = raw_size;
    add_record(1, DIRTY, 3, "", 0); /* one is missing: the rest is another's */
    assert_int_equal(read_raw(raw_size, &s), 0);
    assert_int_equal(s.good_size, begun);
    journal_state_free(&s);
    raw_size = 0;
    add_begin(boot(), "k");
    raw[4096] = 0;
    memcpy(raw + begun, raw, begun); /* BEGIN again, same sequence */
    raw_size = 2 * begun;
    assert_int_equal(read_raw(raw_size, &s), 0);
    assert_int_equal(s.sequence, 1);
    journal_state_free(&s);
}

/* Payloads that are shorter than they say, or say too much, with a CRC that fits. */
static void test_hostile_payloads(void **state)
{
    static const char huge[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    char commit[45];
    struct journal_state s;
    size_t begun;

    (void)state;
    raw_size = 0;
    add_begin(boot(), "k");
    begun = raw_size;
    for (unsigned type = COMMIT; type < SHARES + 1; type++) {
        if (type >= UNKNOWN && type < SHARES)
            continue;
        if (type == END)
            continue;
        for (size_t n = 0; n <= sizeof(huge) - 1; n++) {
            if (type == INTENT && n >= 8)
                continue; /* any number is a time */
            if ((type == FINAL && n >= 16) || (type == SHARES && n == 0))
                continue;
            raw_size = begun;
            add_record(1, type, 2, huge, n);
            if (type == SENT && n == 0)
                assert_int_equal(read_raw(raw_size, &s), -EPROTO);
            else
                assert_true(read_raw(raw_size, &s) == -EPROTO);
        }
    }
    /* A NUL within a text, an upload id longer than any. */
    raw_size = begun;
    add_record(1, UPLOAD, 2, "\3\0\0\0a\0b", 7);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    raw_size = begun;
    {
        static char id[OSS_UPLOADID_SIZE + 5];

        put(id, OSS_UPLOADID_SIZE, 4);
        memset(id + 4, 'x', OSS_UPLOADID_SIZE);
        add_record(1, UPLOAD, 2, id, 4 + OSS_UPLOADID_SIZE);
        assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    }
    /* A COMMIT of four thousand million extents in a few bytes. */
    memset(commit, 0, sizeof(commit));
    put(commit + 37, 0xffffffff, 4);
    raw_size = begun;
    add_record(1, COMMIT, 2, commit, 41);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
    /* ... of as many as a payload may hold, of which none is there. */
    put(commit + 37, (64 << 20) / 16, 4);
    raw_size = begun;
    add_record(1, COMMIT, 2, commit, 41);
    assert_int_equal(read_raw(raw_size, &s), -EPROTO);
}

/* A length beyond the limit, or beyond the file, is the end of what is good. */
static void test_lengths(void **state)
{
    static const uint32_t lengths[] = {1, 23, 24, 64u << 20, (64u << 20) + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    struct journal_state s;
    size_t begun;

    (void)state;
    raw_size = 0;
    add_begin(boot(), "k");
    begun = raw_size;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        raw_size = begun;
        add_record(1, DIRTY, 2, "", 0);
        put(raw + begun + 12, lengths[i], 4);
        seal(begun, 0);
        assert_int_equal(read_raw(raw_size, &s), 0);
        assert_int_equal(s.good_size, begun);
        journal_state_free(&s);
    }
}

static void test_files(void **state)
{
    struct journal_state s;
    char link[160];

    (void)state;
    assert_int_equal(journal_read("/nonexistent/journal", &s), -ENOENT);
    assert_int_equal(read_raw(0, &s), -ENODATA);
    assert_int_equal(journal_read(dir, &s), -EISDIR);
    snprintf(link, sizeof(link), "%s/link", dir);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(journal_read(link, &s), -ELOOP);
}

/* BEGIN once, DIRTY only behind a COMMIT, and nothing of a file that nobody can find. */
static void test_when_records_are_written(void **state)
{
    struct journal_state s;
    uint64_t size;

    (void)state;
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    size = file.journal_size;
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    assert_int_equal(file.journal_size, size);
    assert_int_equal(journal_commit(&file), 0);
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    assert_true(file.journal_size > size);
    size = file.journal_size;
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    assert_int_equal(file.journal_size, size);
    assert_int_equal(journal_read(path, &s), 0);
    assert_false(s.committed);
    journal_state_free(&s);
    journal_remove(&file);
    assert_int_equal(access(path, F_OK), -1);
    /* Without a journal these say nothing. */
    assert_int_equal(journal_intent(&file), 0);
    assert_int_equal(journal_upload(&file, "U"), 0);
    assert_int_equal(journal_final(&file, 1, 2), 0);
    journal_end(&file, "UPLOADID");
    journal_sent(&file);
    journal_key(&file, "k", NULL);
    journal_remove(&file);
    file.orphan = true;
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_flags_of_commit(void **state)
{
    struct journal_state s;

    (void)state;
    for (int content = 0; content < 2; content++) {
        for (int attrs = 0; attrs < 2; attrs++) {
            file.data_sent_gen = content ? 0 : 1;
            file.attr_changed = attrs;
            assert_int_equal(journal_commit(&file), 0);
            assert_int_equal(journal_read(path, &s), 0);
            assert_int_equal(s.content, content);
            assert_int_equal(s.attrs, attrs);
            journal_state_free(&s);
        }
    }
}

/* A file that stands in part in another object, and once elsewhere in its own. */
static void test_shares(void **state)
{
    struct journal_state s;

    (void)state;
    list_init(&cache.sharers);
    list_init(&file.share_link);
    file.object = object("\"own\"", 100);
    assert_int_equal(cfile_add_base(&file, file.key, file.object), 0);
    assert_int_equal(extent_map_set_base(file.map, 0, 100), 0);
    {
        struct oinfo *other = object("\"other\"", 5000);
        struct share parts[] = {{.start = 40, .end = 60, .base_offset = 7, .key = "other key", .info = other},
                                {.start = 60, .end = 130, .base_offset = 3, .key = file.key, .info = file.object}};

        assert_int_equal(share_range(&file, &parts[0]), 0);
        assert_int_equal(share_range(&file, &parts[1]), 0);
        oinfo_put(other);
    }
    assert_false(list_empty(&cache.sharers));
    assert_int_equal(journal_commit(&file), 0);
    assert_int_equal(journal_read(path, &s), 0);
    assert_int_equal(s.n_shares, 2);
    assert_int_equal(s.shares[0].start, 40);
    assert_int_equal(s.shares[0].end, 60);
    assert_int_equal(s.shares[0].base_offset, 7);
    assert_string_equal(s.shares[0].key, "other key");
    assert_string_equal(s.shares[0].info->etag, "\"other\"");
    assert_int_equal(s.shares[1].start, 60);
    assert_int_equal(s.shares[1].end, 130);
    assert_int_equal(s.shares[1].base_offset, 3);
    assert_string_equal(s.shares[1].key, file.key);
    journal_state_free(&s);
    /* A later COMMIT without any: they are written over. */
    assert_int_equal(extent_map_write(file.map, 40, 130, 1), 0);
    assert_int_equal(journal_commit(&file), 0);
    assert_int_equal(journal_read(path, &s), 0);
    assert_int_equal(s.n_shares, 0);
    journal_state_free(&s);
    for (size_t i = 0; i < file.n_bases; i++) {
        free(file.bases[i].key);
        oinfo_put(file.bases[i].info);
    }
    free(file.bases);
}

/* A disk that takes nothing: the change must not be made, and the next record finds a place that is whole. */
static void test_disk_full(void **state)
{
    struct journal_state s;
    int full = open("/dev/full", O_WRONLY), real;

    (void)state;
    assert_true(full >= 0);
    assert_int_equal(journal_commit(&file), 0);
    real = file.journal_fd;
    file.journal_fd = full;
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), -ENOSPC);
    assert_true(file.journal_committed);
    assert_int_equal(journal_commit(&file), -ENOSPC);
    file.journal_fd = real;
    close(full);
    assert_int_equal(journal_dirty(&file, 0, UINT64_MAX), 0);
    assert_int_equal(journal_read(path, &s), 0);
    assert_int_equal(s.sequence, 3);
    journal_state_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_record_torn_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_begin_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_odd_orders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_payloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_when_records_are_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flags_of_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
