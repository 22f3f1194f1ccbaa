/* send.h: sends what a reply describes (request.h), with the faults that belong to it. */
#ifndef OSSD_SEND_H
#define OSSD_SEND_H

#include "request.h"

/* Queues the reply; what the access handler returns. */
enum MHD_Result send_reply(struct request *rq);
/* Closes the connection without an answer. */
enum MHD_Result send_nothing(struct request *rq);
/* Counts the request, once. */
void send_record(struct request *rq, uint64_t bytes_out);
/* Sleeps as long as `bytes` moved so far are ahead of the bandwidth. */
void send_throttle(struct request *rq, uint64_t bytes);

#endif
