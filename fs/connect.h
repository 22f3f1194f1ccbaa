/*
 * connect.h: from the options of a command line to a client of the bucket; for the mount and for the commands.
 */
#ifndef FS_CONNECT_H
#define FS_CONNECT_H

#include "../oss/oss.h"
#include "message.h"
#include "options.h"

/*
 * Finds the access key, fills o->url (and region, cname) from what is given or what ossutil's file says, and makes
 * the client; no request is sent to the bucket. Starts threads: after any fork. 0, or a negative errno with one line
 * in `message`. Release with oss_close() and then oss_cred_free(), also after a failure (both take NULL).
 */
int connect_bucket(struct options *o, struct oss_cred **cred, struct oss **oss, struct message *message);

#endif
