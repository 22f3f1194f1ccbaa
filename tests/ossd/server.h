/*
 * server.h: the HTTP side of the bucket: from the wire to ops.c and back.
 *
 * libmicrohttpd with one thread for each connection: a handler may sleep, hang or write to disk without disturbing
 * others, and 1000 hanging connections cost 1000 sleeping threads.
 */
#ifndef OSSD_SERVER_H
#define OSSD_SERVER_H

#include "request.h"

/* Binds to 127.0.0.1:port (0: any), listens, and answers the descriptor; -1 with errno. *port is set. */
int server_listen(int *port);

/* Starts the bucket's side; the store, auth and so on are there. False: a line was written to stderr. */
bool server_start(struct server *server);
void server_stop(struct server *server);

/* Shuts all connections down; with `outage` set, new ones are closed as soon as they come. */
void server_drop_connections(struct server *server);

#endif
