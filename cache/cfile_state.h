/*
 * cfile_state.h: the table of a file's states, inside cache/ only: what each event makes of each state, what the
 * journal says before it takes effect, and who is answered. cfile_event() applies it, and is the only place where
 * cf->state is set; a cell that is missing, or there twice, does not compile. The table is of files that are not
 * orphans: for these the state has no meaning any more, and no event is refused.
 */
#ifndef CACHE_CFILE_STATE_H
#define CACHE_CFILE_STATE_H

#include <stdbool.h>

struct cfile;

/*
 *      state      meaning                                        unsent  upload  flush waiters  error
 *      CLEAN      the bucket holds what is here                  no      no      no             0
 *      DIRTY      something was changed since                    yes     no*     no*            0
 *      UPLOADING  what was changed is on its way                 yes     yes     any            0
 *      REDIRTIED  ... and was changed again since                yes     yes     any            0
 *      ERROR      the last upload failed; what was changed stays yes     no*     no*            < 0
 *
 *      * or the upload is queued behind another change of the object (`upload_queued`): then waiters may be there.
 *      unsent: gen != sent_gen. upload: upload_gen != 0. UPLOADING: gen == upload_gen; REDIRTIED: gen > upload_gen.
 */
#define CFILE_STATES(STATE) STATE(CLEAN) STATE(DIRTY) STATE(UPLOADING) STATE(REDIRTIED) STATE(ERROR)

/*
 *      WRITE        content was written, or shared by copy_file_range; a new file was made
 *      TRUNCATE     content was cut off or made longer
 *      ATTRIBUTES   mode, owner, times or headers were set
 *      FLUSH        close or fsync wants all up to here in the bucket
 *      RELEASE      the last handle was closed
 *      GONE         unlinked, or another file was renamed over it: an orphan from now on
 *      RENAME       the file has another key
 *      CARRIED      the copy that renamed it took along all that was pending
 *      BEGIN        an upload begins, or begins anew with what is there now
 *      DONE         the bucket holds what was sent
 *      DONE_PARTLY  ... but for attributes that came after its Initiate
 *      FAILED       it ended with an error
 *      CONFLICT     the object was another than the one the changes are based on (412)
 *      CUT          the file was cut off while it was sent: nothing was stored
 *      CRASH        the daemon died, and the journal's last word on the content was no COMMIT
 *      CRASH_ASKED  the daemon died behind a COMMIT; the state is what the next daemon begins with
 */
#define CFILE_EVENTS(EVENT) \
    EVENT(WRITE)            \
    EVENT(TRUNCATE)         \
    EVENT(ATTRIBUTES)       \
    EVENT(FLUSH)            \
    EVENT(RELEASE)          \
    EVENT(GONE)             \
    EVENT(RENAME)           \
    EVENT(CARRIED)          \
    EVENT(BEGIN)            \
    EVENT(DONE)             \
    EVENT(DONE_PARTLY)      \
    EVENT(FAILED)           \
    EVENT(CONFLICT)         \
    EVENT(CUT)              \
    EVENT(CRASH)            \
    EVENT(CRASH_ASKED)

/* What goes into the journal (journal.h): of a change and of BEGIN before it takes effect, else with it. */
enum cfile_note {
    NOTE_NONE,
    NOTE_DIRTY,   /* BEGIN or DIRTY, unless it is the last word already */
    NOTE_COMMIT,  /* of ATTRIBUTES: not while content is unsent, whose COMMIT takes them along */
    NOTE_KEY,     /* of a file that has a journal */
    NOTE_SENT,    /* more is unsent; what was sent is the base of it */
    NOTE_REMOVED, /* the journal goes */
    NOTE_ASIDE,   /* it goes to aside/ with the data; after CONFLICT only what an earlier daemon left does */
};

/* Who is answered, and what. */
enum cfile_reply {
    REPLY_NONE,
    REPLY_HERE,   /* the caller at once: it is in the cache */
    REPLY_BUCKET, /* the caller, by the end of an upload: of the one on its way if it sends all, else of another */
    REPLY_CLEAN,  /* the caller at once: nothing is unsent. GONE: all who wait */
    REPLY_SENT,   /* who waited for what was sent: 0 */
    REPLY_ERRNO,  /* who waited for it: the error */
};

/*
 * CELL(state, event, next state, note, reply), or NEVER(state, event): cannot happen. Uploads, removal and rename
 * of one object run one after the other, so that the last two never meet a running upload.
 */
/* clang-format off */
#define CFILE_TABLE(CELL, NEVER)                                        \
    CELL(CLEAN,     WRITE,       DIRTY,     NOTE_DIRTY,   REPLY_HERE)   \
    CELL(DIRTY,     WRITE,       DIRTY,     NOTE_DIRTY,   REPLY_HERE)   \
    CELL(UPLOADING, WRITE,       REDIRTIED, NOTE_DIRTY,   REPLY_HERE)   \
    CELL(REDIRTIED, WRITE,       REDIRTIED, NOTE_DIRTY,   REPLY_HERE)   \
    CELL(ERROR,     WRITE,       DIRTY,     NOTE_DIRTY,   REPLY_HERE)   \
                                                                        \
    CELL(CLEAN,     TRUNCATE,    DIRTY,     NOTE_DIRTY,   REPLY_HERE)   \
    CELL(DIRTY,     TRUNCATE,    DIRTY,     NOTE_DIRTY,   REPLY_HERE)   \
    CELL(UPLOADING, TRUNCATE,    REDIRTIED, NOTE_DIRTY,   REPLY_HERE)   \
    CELL(REDIRTIED, TRUNCATE,    REDIRTIED, NOTE_DIRTY,   REPLY_HERE)   \
    CELL(ERROR,     TRUNCATE,    DIRTY,     NOTE_DIRTY,   REPLY_HERE)   \
                                                                        \
    CELL(CLEAN,     ATTRIBUTES,  DIRTY,     NOTE_COMMIT,  REPLY_HERE)   \
    CELL(DIRTY,     ATTRIBUTES,  DIRTY,     NOTE_COMMIT,  REPLY_HERE)   \
    CELL(UPLOADING, ATTRIBUTES,  REDIRTIED, NOTE_NONE,    REPLY_HERE)   \
    CELL(REDIRTIED, ATTRIBUTES,  REDIRTIED, NOTE_NONE,    REPLY_HERE)   \
    CELL(ERROR,     ATTRIBUTES,  DIRTY,     NOTE_COMMIT,  REPLY_HERE)   \
                                                                        \
    CELL(CLEAN,     FLUSH,       CLEAN,     NOTE_NONE,    REPLY_CLEAN)  \
    CELL(DIRTY,     FLUSH,       DIRTY,     NOTE_NONE,    REPLY_BUCKET) \
    CELL(UPLOADING, FLUSH,       UPLOADING, NOTE_NONE,    REPLY_BUCKET) \
    CELL(REDIRTIED, FLUSH,       REDIRTIED, NOTE_NONE,    REPLY_BUCKET) \
    CELL(ERROR,     FLUSH,       ERROR,     NOTE_NONE,    REPLY_BUCKET) \
                                                                        \
    CELL(CLEAN,     RELEASE,     CLEAN,     NOTE_NONE,    REPLY_HERE)   \
    CELL(DIRTY,     RELEASE,     DIRTY,     NOTE_NONE,    REPLY_HERE)   \
    CELL(UPLOADING, RELEASE,     UPLOADING, NOTE_NONE,    REPLY_HERE)   \
    CELL(REDIRTIED, RELEASE,     REDIRTIED, NOTE_NONE,    REPLY_HERE)   \
    CELL(ERROR,     RELEASE,     ERROR,     NOTE_NONE,    REPLY_HERE)   \
                                                                        \
    CELL(CLEAN,     GONE,        CLEAN,     NOTE_NONE,    REPLY_CLEAN)  \
    CELL(DIRTY,     GONE,        DIRTY,     NOTE_REMOVED, REPLY_CLEAN)  \
    NEVER(UPLOADING, GONE)                                              \
    NEVER(REDIRTIED, GONE)                                              \
    CELL(ERROR,     GONE,        ERROR,     NOTE_REMOVED, REPLY_CLEAN)  \
                                                                        \
    CELL(CLEAN,     RENAME,      CLEAN,     NOTE_NONE,    REPLY_NONE)   \
    CELL(DIRTY,     RENAME,      DIRTY,     NOTE_KEY,     REPLY_NONE)   \
    NEVER(UPLOADING, RENAME)                                            \
    NEVER(REDIRTIED, RENAME)                                            \
    CELL(ERROR,     RENAME,      ERROR,     NOTE_KEY,     REPLY_NONE)   \
                                                                        \
    CELL(CLEAN,     CARRIED,     CLEAN,     NOTE_NONE,    REPLY_NONE)   \
    CELL(DIRTY,     CARRIED,     CLEAN,     NOTE_REMOVED, REPLY_NONE)   \
    NEVER(UPLOADING, CARRIED)                                           \
    NEVER(REDIRTIED, CARRIED)                                           \
    CELL(ERROR,     CARRIED,     CLEAN,     NOTE_REMOVED, REPLY_NONE)   \
                                                                        \
    NEVER(CLEAN, BEGIN)                                                 \
    CELL(DIRTY,     BEGIN,       UPLOADING, NOTE_COMMIT,  REPLY_NONE)   \
    CELL(UPLOADING, BEGIN,       UPLOADING, NOTE_COMMIT,  REPLY_NONE)   \
    CELL(REDIRTIED, BEGIN,       UPLOADING, NOTE_COMMIT,  REPLY_NONE)   \
    CELL(ERROR,     BEGIN,       UPLOADING, NOTE_COMMIT,  REPLY_NONE)   \
                                                                        \
    NEVER(CLEAN, DONE)                                                  \
    NEVER(DIRTY, DONE)                                                  \
    CELL(UPLOADING, DONE,        CLEAN,     NOTE_REMOVED, REPLY_SENT)   \
    CELL(REDIRTIED, DONE,        DIRTY,     NOTE_SENT,    REPLY_SENT)   \
    NEVER(ERROR, DONE)                                                  \
                                                                          \
    NEVER(CLEAN, DONE_PARTLY)                                           \
    NEVER(DIRTY, DONE_PARTLY)                                           \
    CELL(UPLOADING, DONE_PARTLY, DIRTY,     NOTE_COMMIT,  REPLY_NONE)   \
    CELL(REDIRTIED, DONE_PARTLY, DIRTY,     NOTE_SENT,    REPLY_NONE)   \
    NEVER(ERROR, DONE_PARTLY)                                           \
                                                                          \
    NEVER(CLEAN, FAILED)                                                \
    NEVER(DIRTY, FAILED)                                                \
    CELL(UPLOADING, FAILED,      ERROR,     NOTE_NONE,    REPLY_ERRNO)  \
    CELL(REDIRTIED, FAILED,      ERROR,     NOTE_NONE,    REPLY_ERRNO)  \
    NEVER(ERROR, FAILED)                                                \
                                                                          \
    NEVER(CLEAN, CONFLICT)                                              \
    NEVER(DIRTY, CONFLICT)                                              \
    CELL(UPLOADING, CONFLICT,    ERROR,     NOTE_ASIDE,   REPLY_ERRNO)  \
    CELL(REDIRTIED, CONFLICT,    ERROR,     NOTE_ASIDE,   REPLY_ERRNO)  \
    NEVER(ERROR, CONFLICT)                                              \
                                                                          \
    NEVER(CLEAN, CUT)                                                   \
    NEVER(DIRTY, CUT)                                                   \
    CELL(UPLOADING, CUT,         DIRTY,     NOTE_NONE,    REPLY_NONE)   \
    CELL(REDIRTIED, CUT,         DIRTY,     NOTE_NONE,    REPLY_NONE)   \
    NEVER(ERROR, CUT)                                                   \
                                                                          \
    CELL(CLEAN,     CRASH,       CLEAN,     NOTE_NONE,    REPLY_NONE)   \
    CELL(DIRTY,     CRASH,       CLEAN,     NOTE_ASIDE,   REPLY_NONE)   \
    NEVER(UPLOADING, CRASH)                                             \
    CELL(REDIRTIED, CRASH,       CLEAN,     NOTE_ASIDE,   REPLY_NONE)   \
    CELL(ERROR,     CRASH,       CLEAN,     NOTE_ASIDE,   REPLY_NONE)   \
                                                                        \
    NEVER(CLEAN, CRASH_ASKED)                                           \
    CELL(DIRTY,     CRASH_ASKED, DIRTY,     NOTE_NONE,    REPLY_NONE)   \
    CELL(UPLOADING, CRASH_ASKED, DIRTY,     NOTE_NONE,    REPLY_NONE)   \
    CELL(REDIRTIED, CRASH_ASKED, DIRTY,     NOTE_NONE,    REPLY_NONE)   \
    CELL(ERROR,     CRASH_ASKED, DIRTY,     NOTE_NONE,    REPLY_NONE)
/* clang-format on */

#define CFILE_STATE_ENUM(name) CFILE_##name,
enum cfile_state { CFILE_STATES(CFILE_STATE_ENUM) CFILE_N_STATES };
#undef CFILE_STATE_ENUM

#define CFILE_EVENT_ENUM(name) CFILE_ON_##name,
enum cfile_event { CFILE_EVENTS(CFILE_EVENT_ENUM) CFILE_N_EVENTS };
#undef CFILE_EVENT_ENUM

struct cfile_cell {
    bool possible;
    enum cfile_state next;
    enum cfile_note note;
    enum cfile_reply reply;
};

extern const struct cfile_cell cfile_table[CFILE_N_STATES][CFILE_N_EVENTS];

/*
 * The event has happened to the file: its state is the next one. mu held (of a file that nobody else knows yet: not).
 * One that cannot happen aborts in builds without NDEBUG, else it is logged and the state stays.
 */
void cfile_event(struct cfile *cf, enum cfile_event event);

/* Aborts when the invariants above do not hold, in builds without NDEBUG. mu held. */
void cfile_check(const struct cfile *cf);

#endif
