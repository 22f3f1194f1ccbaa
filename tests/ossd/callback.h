/*
 * callback.h: x-oss-callback of PutObject and CompleteMultipartUpload: the application is asked, and its answer is
 * the uploader's.
 */
#ifndef OSSD_CALLBACK_H
#define OSSD_CALLBACK_H

#include "request.h"

/* Before anything is stored: is the header, if there is one, what it should be? false: the reply is made. */
bool callback_check(struct request *rq);

/*
 * After `object` is stored: POSTs the body that the header describes to its URL (plain HTTP, an IPv4 address or
 * localhost) and makes the application's answer the reply's body; or makes the reply 203 CallbackFailed. Nothing when
 * no callback was asked for. Blocks for 5 s at most.
 */
void callback_run(struct request *rq, const struct object *object);

#endif
