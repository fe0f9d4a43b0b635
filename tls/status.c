#include "tls/status.h"

#include "tls/internal.h"
#include "tls/stapler.h"
#include "tls/verify/ocsp.h"

#include <openssl/err.h>

/* What the peer has stapled; borrowed from libssl. */
static void take_staple(struct connection *connection)
{
    const unsigned char *bytes = NULL;
    long length = SSL_get_tlsext_status_ocsp_resp(connection->ssl, &bytes);

    connection->stapling = CHAIN_STAPLING_ASKED;
    connection->staple = (struct chain_response){0};
    if (bytes != NULL && length > 0)
        connection->staple = (struct chain_response){.der = bytes, .length = (size_t)length};
}

void status_note(struct connection *connection)
{
    if (connection->context->server)
        return;
    if (SSL_version(connection->ssl) >= TLS1_3_VERSION) {
        take_staple(connection);
    } else {
        connection->stapling = CHAIN_STAPLING_PENDING;
        connection->staple_due = true;
    }
}

/*
 * After a TLS 1.2 server's first flight, whether it has stapled or not, and before anything of ours depends on it.
 * libssl sends bad_certificate_status_response when this returns 0.
 */
static int on_flight(SSL *ssl, void *arg)
{
    struct connection *connection = SSL_get_app_data(ssl);

    (void)arg;
    if (!connection->staple_due)
        return 1;
    take_staple(connection);
    connection->staple_due = false;
    if (connection->verdict == NULL || !connection->verdict->accepted)
        return 0;
    if (connection->staple.length == 0 && !connection->verdict->staple_pending)
        return 1;
    return connection_await_verdict(connection, SSL_get0_peer_certificate(ssl), SSL_get_peer_cert_chain(ssl));
}

/* The client has asked for our certificate's status. */
static int on_request(SSL *ssl, void *arg)
{
    const struct context *context = arg;
    const uint8_t *der;
    unsigned char *copy;
    size_t length = stapler_get(context->stapler, &der);

    if (length == 0)
        return SSL_TLSEXT_ERR_NOACK;
    copy = OPENSSL_memdup(der, length);
    if (copy == NULL || SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)length) != 1) {
        OPENSSL_free(copy);
        ERR_clear_error();
        return SSL_TLSEXT_ERR_NOACK;
    }
    return SSL_TLSEXT_ERR_OK;
}

bool status_setup(struct context *context)
{
    SSL_CTX *ssl = context->ssl;

    if (context->server)
        return context->stapler == NULL ||
               (SSL_CTX_set_tlsext_status_cb(ssl, on_request) == 1 && SSL_CTX_set_tlsext_status_arg(ssl, context) == 1);
    return SSL_CTX_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp) == 1 &&
           SSL_CTX_set_tlsext_status_cb(ssl, on_flight) == 1;
}
