/*
 * append.h: files that only grow at their end, inside cache/ only (append.c, append_base.c).
 *
 * A file qualifies while every change of its content since the bucket last had it came through O_APPEND
 * (append_only()), and while its object is appendable or there is none. Then only the new bytes travel: AppendObject
 * at the end of what the object is known to hold. The service takes them only at its true end, so two writers never
 * overwrite each other: one is refused and told where the end is now.
 *
 * A lost reply is neither success nor failure. The append is sent again at the same place; if that is refused because
 * the object is longer by now, the bytes there are fetched and compared: ours, then it was carried out; another
 * writer's, then ours follow at the new end. (Two writers of the same bytes at the same place cannot be told apart.)
 * What is still not known when all tries are used up, or when the daemon dies, is asked before the next send.
 *
 * When other writers' bytes came in between, the file here moves: what it was based on, theirs, ours, and behind that
 * what was appended here meanwhile. An object that was replaced by another one gets what was appended here at its own
 * end, as any process would that opens the file anew; an object that is gone is made again of that alone.
 */
#ifndef CACHE_APPEND_H
#define CACHE_APPEND_H

#include "upload.h"

/* How an append came. */
struct append_write {
    bool more; /* a further piece of the same write is to follow at once */
    pid_t by;  /* thread */
};

/* mu held, after the bytes are in the map. True when append_timer_start() must follow without it. */
bool append_written(struct cfile *cf, const struct append_write *how);
void append_timer_start(struct cfile *cf);

/* Is the content unsent, and everything unsent of it appended? mu held. */
bool append_only(const struct cfile *cf);

/* ... and, as far as is known, to be sent as such? mu held. */
bool append_planned(const struct cfile *cf);

/* May the last append be the piece of a write whose next piece is about to come? mu held. */
bool append_unfinished(const struct cfile *cf);

/*
 * STEP_APPEND, on a worker. 0: the bucket has the bytes, u->appended says where. -ESTALE, -EPROTOTYPE, -EINVAL ...:
 * append_retry() may know what to do. What became of it may be unknown: cf->doubt then.
 */
int append_run(struct upload *u, const struct plan_step *step, struct oss_error *err);

/*
 * The bucket has what was appended, but the upload fails all the same, or it cannot be noted here: the next one asks.
 * mu held.
 */
void append_note_landed(const struct upload *u);

/* The upload has failed: true when the file has been brought in line with the bucket and it may begin anew. */
bool append_retry(struct upload *u);

/*
 * Before what is unsent of a file is sent: does the bucket have an append already of which nobody knows, or is the
 * object another than the file is based on? `r` and `now` are recover_check()'s. 0: the file is in line with the
 * bucket; else an error. Blocks: on a worker.
 */
int append_clarify(struct cfile *cf, int r, struct oss_object *now, struct oss_error *err);

/* ------------------------------------------------------------------------------------------ append_base.c */

/*
 * The file is based on `info` from now on (NULL: there is no object), with its bytes from `from` on behind that.
 * `keep`: the bytes before are those of the object too, what is local of them stays so. Its attributes are taken over
 * with `attributes`. io held for writing, mu not. 0 or a negative errno.
 */
int append_rebase(struct cfile *cf, struct oinfo *info, uint64_t from, bool keep, bool attributes);

/*
 * The two halves of it: first the bytes move (io held for writing, mu not), then the map (mu held too), which cannot
 * fail but for memory.
 */
int append_move_bytes(struct cfile *cf, struct oinfo *info, uint64_t from);
int append_move_map(struct cfile *cf, struct oinfo *info, uint64_t from, bool keep);

/* Where the appended bytes begin, when the file is its object and nothing but appended bytes behind it; mu held. */
bool append_start(const struct cfile *cf, uint64_t *from);

/* What is at [offset, +length) of `key`; *crc64 of the bytes, *n of them came. `object` and `etag` may be NULL. */
int append_look(struct cache *cache, const char *key, const char *etag, uint64_t offset, uint64_t length, uint64_t *n,
                uint64_t *crc64, struct oss_object *object, struct oss_error *err);

/* [from, +n) of one descriptor to `to` of another, or of the same where they do not overlap. */
int append_copy_bytes(int from_fd, uint64_t from, int to_fd, uint64_t to, uint64_t n);

/* --------------------------------------------------------------------------------------- append_recover.c */

/*
 * A journal says that an append was under way and more was appended since: that one was due, the rest was not and
 * goes aside. false when the data file is not what it was then: nothing is to be believed.
 */
bool append_split(struct cache *cache, const char *number, const struct journal_state *s);

/* A move of what is unsent was cut off: its bytes come to stand where they belong. 0 or a negative errno. */
int append_finish_move(struct cache *cache, const char *number, const struct journal_state *s);

/* What the journal says of appends, for the file that was made from it. mu held. */
void append_restore(struct cfile *cf, const struct journal_state *s);

#endif
