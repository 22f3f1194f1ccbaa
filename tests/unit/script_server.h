/*
 * script_server.h: a TCP server on loopback that answers with what a test wrote down, byte for byte.
 *
 * Each request that arrives, on whatever connection, takes the next step; without a step left the connection is
 * closed. For replies that no honest server gives, and for what a client sends.
 */
#ifndef TESTS_UNIT_SCRIPT_SERVER_H
#define TESTS_UNIT_SCRIPT_SERVER_H

#include <stdbool.h>
#include <stddef.h>

enum script_then {
    SCRIPT_KEEP,  /* the connection stays open */
    SCRIPT_CLOSE, /* it is closed in order */
    SCRIPT_RESET, /* it is reset */
    SCRIPT_HANG,  /* nothing more happens on it until the server ends */
};

struct script_step {
    const char *reply; /* raw, or NULL for none */
    size_t size;       /* of the reply; 0: strlen */
    enum script_then then;
    bool early;     /* answer when the headers have come, before the body is read */
    int delay_ms;   /* before the answer */
    int trickle_ms; /* pause after each byte of the answer */
};

struct script_server;

/* Never fails: ends the test program with a message. */
struct script_server *script_start(void);
unsigned script_port(const struct script_server *s);

/* The strings stay the caller's. */
void script_add(struct script_server *s, const struct script_step *step);
#define script_reply(s, text) script_add(s, &(struct script_step){.reply = (text)})

/* Requests so far; the text of request i (headers and body), a copy that lives as long as the server. */
size_t script_requests(struct script_server *s);
const char *script_request(struct script_server *s, size_t i);
size_t script_connections(struct script_server *s);
void script_end(struct script_server *s);

#endif
