/*
 * control.h: the second port, for tests: counters, faults, and a look into the store past all rules.
 *
 *   GET  /counters                      POST /reset
 *   GET  /log?since=N[&limit=M]         requests above sequence number N, oldest first
 *   GET  /faults    POST /faults        DELETE /faults
 *        {"op":"PutObject" or "*", "key":"part of it", "skip":0, "count":1 (-1: for ever), "action":...}
 *        action: status ("status", "code"), reset, lost, truncate (["bytes"]), wrong_crc, drop_crc, corrupt_body
 *        corrupt_request, hang, delay ("ms"), bandwidth ("bandwidth", bytes/s), close
 *        garbage ("mode": text html truncated huge deep entities empty; ["status"], ["bytes"])
 *   POST /latency   {"ms":20, "bandwidth":100000000}   of every request; 0: none
 *   POST /outage    {"on":true}          closes all connections, refuses new ones
 *   POST /drop      {}                   closes all connections once
 *   POST /clock     {"offset":seconds} or {"now":unix time}
 *   POST /keyrotate {"id":..., "secret":..., "token":..., "expired":true|false, "life_ms":N}
 *                   life_ms: expired after so long
 *   GET  /objects?bucket=B[&prefix=P]    GET /uploads?bucket=B
 *   GET  /object?bucket=B&key=K          the bytes        DELETE: removes it
 *   PUT  /object?bucket=B&key=K          stores the body under any key; headers as for PutObject, and
 *                                        x-ossd-last-modified (UNIX time), x-ossd-type (Normal ...)
 *                                        x-ossd-etag, x-ossd-target (of a symlink, raw)
 *   POST /plant     {"bucket":B, "prefix":"d/f", "first":0, "count":1000000, "size":0}
 *                                        so many objects of `size` equal bytes (at most 1 MiB), named prefix and
 *                                        seven digits; headers as for PUT /object
 *   GET  /bucket?bucket=B                how many objects and bytes it holds, and uploads      PUT: makes it
 *
 * key_hex=.. may stand for key=.., for keys with any byte. Answers are JSON; 400 with {"error":...} otherwise.
 */
#ifndef OSSD_CONTROL_H
#define OSSD_CONTROL_H

#include "request.h"

struct control;
/* NULL with a line on stderr when it cannot be started. *port is set. */
struct control *control_start(struct server *server, int *port);
void control_stop(struct control *control);

#endif
