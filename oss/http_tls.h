/*
 * http_tls.h: one store of trusted certificates for all connections of a client.
 *
 * Left to itself, curl reads the whole bundle once for each handle (a megabyte and some ten milliseconds each).
 */
#ifndef OSS_HTTP_TLS_H
#define OSS_HTTP_TLS_H

#include <curl/curl.h>
#include <stddef.h>

struct http_tls;

/*
 * `ca_file`: PEM file, or NULL for the system's (SSL_CERT_FILE and SSL_CERT_DIR are honoured). 0, -ENOMEM, or
 * -EINVAL with a sentence in `why`.
 */
int http_tls_open(struct http_tls **out, const char *ca_file, char *why, size_t why_size);

/* Makes the handle check certificates against the store, which must outlive it. 0 or -EINVAL. */
int http_tls_apply(struct http_tls *tls, CURL *curl);

void http_tls_free(struct http_tls *tls);

#endif
