/*
 * explain.h: why a mount failed, in one line that says what to check. Pure.
 */
#ifndef FS_EXPLAIN_H
#define FS_EXPLAIN_H

#include "../oss/oss.h"
#include "message.h"
#include "options.h"

/*
 * "cannot mount BUCKET: 403 AccessDenied (message), request id X: check that ..."; the code, message and request id
 * are those of `err`, left out where there are none.
 */
void explain_mount_failure(struct message *out, const struct oss_error *err, const struct options *options);

/* Only the advice: "check that ..."; never NULL. Exported for the tests. */
const char *explain_advice(const struct oss_error *err);

#endif
