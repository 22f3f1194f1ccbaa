#include "http_tls.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_tls {
    X509_STORE *store; /* NULL: curl's TLS is not OpenSSL, it loads the certificates itself */
    char *ca_file;     /* or NULL */
};

static bool curl_has_openssl(void)
{
    const char *name = curl_version_info(CURLVERSION_NOW)->ssl_version;

    return name && strncmp(name, "OpenSSL/", 8) == 0;
}

int http_tls_open(struct http_tls **out, const char *ca_file, char *why, size_t why_size)
{
    struct http_tls *tls = calloc(1, sizeof(*tls));
    int ok;

    *out = NULL;
    if (!tls)
        return -ENOMEM;
    if (ca_file) {
        tls->ca_file = strdup(ca_file);
        if (!tls->ca_file)
            goto no_memory;
    }
    if (curl_has_openssl()) {
        tls->store = X509_STORE_new();
        if (!tls->store)
            goto no_memory;
        ok = ca_file ? X509_STORE_load_file(tls->store, ca_file) : X509_STORE_set_default_paths(tls->store);
        if (!ok) {
            http_tls_free(tls);
            snprintf(why, why_size, "%s holds no certificates that can be read: give a PEM file",
                     ca_file ? ca_file : "the system's certificate directory");
            return -EINVAL;
        }
        /* As curl does: a certificate given by the user is trusted, also when it is not self-signed. */
        X509_STORE_set_flags(tls->store, X509_V_FLAG_PARTIAL_CHAIN);
    }
    *out = tls;
    return 0;
no_memory:
    http_tls_free(tls);
    return -ENOMEM;
}

/* curl has made a context for a new connection: give it our store in place of its own, empty one. */
static CURLcode on_context(CURL *curl, void *context, void *arg)
{
    struct http_tls *tls = arg;

    (void)curl;
    SSL_CTX_set1_cert_store(context, tls->store);
    return CURLE_OK;
}

int http_tls_apply(struct http_tls *tls, CURL *curl)
{
    CURLcode c = CURLE_OK;

    if (tls->store) {
        c = c ? c : curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
        c = c ? c : curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
        c = c ? c : curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_context);
        c = c ? c : curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, tls);
    } else if (tls->ca_file) {
        c = c ? c : curl_easy_setopt(curl, CURLOPT_CAINFO, tls->ca_file);
    }
    c = c ? c : curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    c = c ? c : curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    c = c ? c : curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    return c ? -EINVAL : 0;
}

void http_tls_free(struct http_tls *tls)
{
    if (!tls)
        return;
    X509_STORE_free(tls->store);
    free(tls->ca_file);
    free(tls);
}
