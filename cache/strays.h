/*
 * strays.h: multipart uploads that no journal of a file speaks of, or no more: those of copies (a rename above the
 * limit of one copy), and those that are to be aborted and could not be. None of them stays in the bucket: the abort
 * is tried again until it has been answered, by the next mount if need be. Inside cache/ only. This comment is the
 * specification of the format on disk.
 *
 * A file of the state directory, uploads/NUMBER, exists while such an upload may be in the bucket. It is a row of
 * records in the frame of journal.h, with the magic 0x5553534f ("OSSU") and version 1:
 *
 *      type       payload                   written
 *      1 INTENT   time (u64), text key      before InitiateMultipartUpload, or when an abort has failed
 *      2 UPLOAD   text upload id            when the id is known
 *
 * Without UPLOAD the reply to Initiate was never seen: the next mount looks for an upload of that key and time.
 */
#ifndef CACHE_STRAYS_H
#define CACHE_STRAYS_H

#include "cfile.h"

struct stray;

/*
 * Noted, on the local disk: an upload of `key`, begun at `intent` (now, or by an earlier daemon); its id is `id`.
 * *out is the caller's. 0 or a negative errno.
 */
int stray_begin(struct cache *cache, const char *key, time_t intent, struct stray **out);
int stray_named(struct stray *stray, const char *id);

/* It is over, completed or aborted: forgotten. NULL is allowed. */
void stray_end(struct stray *stray);
/* It stays noted, for the next mount. NULL is allowed. */
void stray_leave(struct stray *stray);
/*
 * Is to be aborted: now, and when that fails again and again, with growing pauses, until it is over. One whose id is
 * not known is left to the next mount. Takes the stray over. Blocks for the request: on a worker.
 */
void stray_abort(struct stray *stray);
/* The same for an upload that was not noted. Under a hidden key it is left to the removal of that (hidden.h). */
void upload_abort(struct cache *cache, const char *key, const char *id);
/* One may have begun just now, by an Initiate whose reply was lost: left to the next mount, or to that removal. */
void upload_unknown(struct cache *cache, const char *key);

/*
 * At the mount: every upload that is noted goes to `each`, which takes the stray over. `id` "": not known, begun at
 * `intent`.
 */
typedef void stray_found(struct cache *cache, const char *key, const char *id, time_t intent, struct stray *stray);
void strays_recover(struct cache *cache, stray_found *each);

#endif
