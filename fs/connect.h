/*
 * connect.h: from the options of a command line to a client of the bucket; for the mount and for the commands.
 */
#ifndef FS_CONNECT_H
#define FS_CONNECT_H

#include "../oss/oss.h"
#include "message.h"
#include "options.h"

/*
 * Finds the access key and makes the client; no request is sent. 0, or a negative errno with one line in `message`.
 * Release with oss_close() and then oss_cred_free(), also after a failure (both take NULL).
 */
int connect_bucket(const struct options *o, struct oss_cred **cred, struct oss **oss, struct message *message);

#endif
