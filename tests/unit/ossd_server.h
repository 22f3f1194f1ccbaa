/*
 * ossd_server.h: the local OSS server, as a child of a test program.
 *
 * The program is $OSSD, by default build/ossd. It keeps everything in memory, listens on free ports of 127.0.0.1,
 * and dies with the test. One bucket, one key pair. What goes wrong here ends the test program with a message.
 */
#ifndef TESTS_UNIT_OSSD_SERVER_H
#define TESTS_UNIT_OSSD_SERVER_H

#include <stddef.h>
#include <stdint.h>

#define OSSD_BUCKET "test-bucket"
#define OSSD_KEY    "test"
#define OSSD_SECRET "secret"
#define OSSD_REGION "cn-hangzhou"

struct ossd_server;

/* `more`: further arguments, ended by NULL; or NULL. */
struct ossd_server *ossd_start(const char *const *more);
const char *ossd_url(const struct ossd_server *s);
int ossd_pid(const struct ossd_server *s);
void ossd_end(struct ossd_server *s);

/* A request to the control port; the body of the answer, to be freed. */
char *ossd_control(const struct ossd_server *s, const char *method, const char *path, const char *body);

/* The next `count` (-1: all) requests of `op` go wrong; `more` is further JSON like "\"status\":503", or NULL. */
void ossd_fault(const struct ossd_server *s, const char *op, const char *action, int count, const char *more);
void ossd_faults_clear(const struct ossd_server *s);

/* Requests counted since the start or the last reset of the counters. */
uint64_t ossd_requests(const struct ossd_server *s, const char *op);
void ossd_counters_reset(const struct ossd_server *s);

#endif
