/*
 * journal.h: what must survive the daemon, one file beside each data file. This comment is the specification of the
 * format on disk.
 *
 * A file of the state directory, data/NUMBER.journal beside data/NUMBER, exists exactly while a file has something
 * unsent. It is a row of records, only ever appended to. All integers are little-endian.
 *
 *      offset  bytes  field
 *      0       4      magic 0x4a53534f ("OSSJ")
 *      4       1      version 1
 *      5       1      type
 *      6       2      zero
 *      8       4      sequence: 1, 2, 3 ...
 *      12      4      length of the payload, at most 64 MiB
 *      16      8      CRC-64 of bytes 0..15 and the payload
 *      24      ...    payload
 *
 * Reading ends at the first record that is cut off or whose magic, sequence or CRC is wrong: a torn tail is dropped.
 * A record of unknown version or type ends the reading of that journal with an error, and the file is kept aside.
 *
 *      type     payload                                           written
 *      BEGIN    boot id, key, attr, headers, object               before the first change of content or attributes
 *      DIRTY    -                                                 before the first write after a COMMIT
 *      SHARES   (u64 start, end, offset, text key, object)*       just before a COMMIT of a file that stands in part
 *                                                                 in other objects, or elsewhere in its own
 *      COMMIT   attr, headers, flags, extents                     a flush, fsync or last close wants all up to here
 *                                                                 sent: before the first request for it. Flags 0:
 *                                                                 nothing is, but uploads are still to be aborted
 *      HIDDEN   u64 start, end, offset, text key, object          before the range may leave the disk: it is in a
 *                                                                 hidden object as well (hidden.h). Key "": before
 *                                                                 it is written over or cut off, it is there no more
 *      SYNCED   -                                                 the data file as that COMMIT names it was synced,
 *                                                                 and this journal is next (background mode)
 *      INTENT   time                                              before InitiateMultipartUpload; without a COMMIT
 *                                                                 when the file is sent while it is written
 *      UPLOAD   upload id                                         after its reply
 *      PART     number, offset, size, ETag, CRC                   after UploadPart's or UploadPartCopy's reply
 *      FINAL    size, CRC                                         before the request that makes the object (PUT,
 *                                                                 Complete): what the bucket then holds
 *      END      upload id ("": of the INTENT)                     the upload is completed or aborted
 *      SENT     object                                            the bucket holds what COMMIT wanted, and more was
 *                                                                 changed meanwhile (else the journal is removed)
 *      APPEND   position, from, length, CRC                       before AppendObject: of the bytes from `from` on,
 *                                                                 to stand at that position of the object
 *      MOVED    object, flags, at, length                         others have appended, or the object was replaced:
 *                                                                 unsent are `length` bytes behind the object,
 *                                                                 which are at `at` of the data file
 *      KEY      key, object                                       the file was renamed: before the old name goes
 *
 *      text     u32 length, bytes          attr     u32 mode, uid, gid; i64 mtime s, u32 ns; u64 size
 *      headers  u32 count, (text, text)*   object   u8 exists; if 1: text ETag, u64 size, i64 Last-Modified, u8 type,
 *                                                   u8 is a marker, u32 mode
 *      extents  u32 count, (u64 start, u64 end)*: what is dirty. flags: u8, 1: content, 2: attributes, 4: the content
 * was appended only
 *
 * Records are written with one write(2) each and, but for SYNCED, never synced: against the death of the process the
 * page cache is enough. After another boot (the boot id differs) only a COMMIT is believed that SYNCED follows, with
 * no DIRTY behind it; a DIRTY behind SYNCED is itself synced before the first byte is written over. All else is kept
 * aside and reported, never published on a guess.
 *
 * What recovery makes of a journal: COMMIT without a later DIRTY: sent, going on with the parts that are there,
 * unless the object in the bucket is another than the one the changes are based on (then both are kept). Otherwise
 * the changes were never asked to be published: kept aside, whole: what HIDDEN names is fetched first. Behind an
 * APPEND a DIRTY is of more that was appended: what APPEND speaks of is sent, if its CRC is still right, unless the
 * object has it already; the rest is kept aside. Upload ids that are not gone on with are aborted: those of a file
 * without COMMIT, and any before the last one, or before a KEY, that have no END. A PART may be older than the bytes
 * of its range: it is believed where its CRC is that of the bytes on disk.
 */
#ifndef CACHE_JOURNAL_H
#define CACHE_JOURNAL_H

#include "cfile.h"

/*
 * All with cf->mu held; a local write(2) of a few hundred bytes is what they cost. 0, or a negative errno of the
 * disk: the change must not be made then.
 */

/* The kernel's name for this boot; "unknown" when it does not tell. */
const char *journal_boot_id(void);

/* Before the content of [start, end) is changed, or cut off: what hidden objects have of it is no more its own. */
int journal_dirty(struct cfile *cf, uint64_t start, uint64_t end);
/* Before attributes alone become something to be sent; and before an upload begins. */
int journal_commit(struct cfile *cf);
/* What of [start, end) stands in a hidden object, with or without a copy here. */
int journal_hidden(struct cfile *cf, uint64_t start, uint64_t end);
/* Of the multipart upload. */
int journal_intent(struct cfile *cf);
int journal_upload(struct cfile *cf, const char *id);
void journal_part(struct cfile *cf, uint64_t offset, const struct oss_part *part);
int journal_final(struct cfile *cf, uint64_t size, uint64_t crc64);
void journal_end(struct cfile *cf, const char *id); /* "": one whose id was never learnt */
int journal_append(struct cfile *cf, uint64_t position, uint64_t from, uint64_t length, uint64_t crc64);
int journal_moved(struct cfile *cf, const struct oinfo *object, uint64_t at, uint64_t length);
/* The bucket holds what the last COMMIT wanted. */
void journal_sent(struct cfile *cf);
void journal_key(struct cfile *cf, const char *key, const struct oinfo *object);
/* The data file is durable as the last COMMIT names it. The caller syncs the journal. */
int journal_synced(struct cfile *cf);
/*
 * Nothing is unsent any more. While a multipart upload of the file is still to be aborted the journal stays, and says
 * so: it is called again when the last of them has ended.
 */
void journal_remove(struct cfile *cf);

/* ------------------------------------------------------------------------------------------- reading */

struct journal_part {
    uint64_t offset;
    struct oss_part part;
};

/* An upload that may have been left in the bucket. */
struct journal_left {
    char *key;
    time_t intent;              /* when it was begun, if its id is not known: */
    char id[OSS_UPLOADID_SIZE]; /* or "" */
};

struct journal_state {
    bool same_boot;
    bool synced; /* the last COMMIT's content is durable */
    char *key;
    struct attr attr;
    struct kvlist headers;
    struct oinfo *object; /* the base, or NULL; etag, size, last_modified, type, is_marker, mode only */
    bool committed;       /* the last word on the content is COMMIT */
    bool content, attrs;  /* what it wants sent */
    bool appends;         /* the content was appended only */
    uint64_t (*extents)[2];
    size_t n_extents;
    struct share *shares; /* keys owned */
    size_t n_shares;
    bool shares_fresh;    /* the COMMIT that they belong to is still to come */
    struct share *hidden; /* the same: what hidden objects have of what is unsent */
    size_t n_hidden;
    time_t intent; /* of an Initiate without reply, else 0 */
    char upload_id[OSS_UPLOADID_SIZE];
    bool streamed;              /* it was begun before COMMIT: without the times, and the attributes since */
    struct journal_part *parts; /* of upload_id; a later one of the same number wins */
    size_t n_parts;
    struct journal_left *left; /* uploads before that one */
    size_t n_left;
    bool final; /* the last request was under way, and would have made this: */
    uint64_t final_size, final_crc;
    bool append; /* AppendObject was under way: */
    uint64_t append_position, append_from, append_length, append_crc;
    bool more;          /* and more was appended since */
    uint64_t moved_at;  /* where the one extent is in the data file; its own offset when it is there */
    uint32_t sequence;  /* of the last good record */
    uint64_t good_size; /* bytes up to its end */
};

/*
 * 0; -ENODATA for a BEGIN that was cut off (nothing was changed then), -EINVAL for what is no journal, -EPROTO for a
 * newer version, -ENOMEM, errno of the disk.
 */
int journal_read(const char *path, struct journal_state *out);
/*
 * The file was renamed (KEY): a record more behind the last good one of the journal at `path`, which was read to `s`.
 * For use before it is taken up. 0 or a negative errno.
 */
int journal_rename(const char *path, const struct journal_state *s, const char *key, const struct oinfo *object);
void journal_state_free(struct journal_state *state);

/* ------------------------------------------------------------------------------------------- recovery */

/* recover.c; its face is cache_recover() in cache.h. */

/*
 * Is the object in the bucket still the one that the recovered changes are based on? 0; -ESTALE when it is another;
 * or the error of the question. `now` (release it) describes the object when there is one. Blocks: on a worker.
 */
int recover_check(struct cfile *cf, struct oss_object *now, struct oss_error *err);

/* The file's changes are not published but kept for the user, in aside/ of the state directory; says so in the log.
 */
void recover_keep_aside(struct cfile *cf);

/* The data file `number` and its journal, for this reason. */
void recover_put_aside(const struct cache *cache, const char *number, const char *key, const char *why);

/*
 * rescue.c: the same for a file of which hidden objects have a part: that is fetched first. Until it is, the file,
 * its journal and those objects stay as they are, for the next mount if need be. Takes `s` over and leaves it empty.
 * Does not wait. 0 or -ENOMEM.
 */
int rescue(struct cache *cache, const char *number, struct journal_state *s, const char *why);

#endif
