/* The stream of an established connection: see net/stream.h. */
#include "tls/failure.h"
#include "tls/internal.h"

#include <openssl/err.h>
#include <stdlib.h>

static enum stream_status fail(struct connection *connection, const char *during)
{
    if (connection->state != CONNECTION_FAILED) {
        failure_describe(connection, during, &connection->failure);
        connection->refused_by_peer = !connection->context->server && connection->certificate_requested &&
                                      connection->alert_received >= 0 && connection->bytes_read == 0;
        connection->state = CONNECTION_FAILED;
    }
    return STREAM_FAILED;
}

static enum stream_status answer(struct connection *connection, int outcome, const char *during)
{
    switch (outcome) {
    case SSL_ERROR_WANT_READ:
        return STREAM_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return STREAM_WANT_WRITE;
    default:
        return fail(connection, during);
    }
}

/* see internal.h */
void established_drop_verdict(struct connection *connection)
{
    struct verdict *verdict = connection->verdict;

    if (verdict == NULL)
        return;
    connection->peer_path = verdict->path;
    verdict->path = NULL;
    verdict_free(verdict);
    free(verdict);
    connection->verdict = NULL;
}

static enum stream_status established_read(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct connection *connection = self;
    size_t n = 0;
    int outcome;

    if (connection->state == CONNECTION_FAILED)
        return STREAM_FAILED;
    if (connection->state == CONNECTION_CLOSED)
        return STREAM_CLOSED;
    established_drop_verdict(connection);
    ERR_clear_error();
    wire_turn(&connection->wire);
    outcome = SSL_get_error(connection->ssl, SSL_read_ex(connection->ssl, data, size, &n));
    if (outcome == SSL_ERROR_NONE) {
        connection->bytes_read += n;
        *ret_n = n;
        return STREAM_OK;
    }
    if (outcome == SSL_ERROR_ZERO_RETURN) {
        connection->state = CONNECTION_CLOSED;
        return STREAM_CLOSED;
    }
    return answer(connection, outcome, "reading");
}

/*
 * A server that refuses our certificate in TLS 1.3 sends its alert and closes while we may be writing: look for the
 * alert before the write's own error is believed. SSL_peek() loses no application bytes.
 */
static void look_for_alert(struct connection *connection)
{
    uint8_t byte;
    size_t n;

    ERR_clear_error();
    wire_turn(&connection->wire);
    (void)SSL_peek_ex(connection->ssl, &byte, 1, &n);
}

static enum stream_status established_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct connection *connection = self;
    size_t n = 0;
    int outcome;

    if (connection->state == CONNECTION_FAILED)
        return STREAM_FAILED;
    established_drop_verdict(connection);
    ERR_clear_error();
    outcome = SSL_get_error(connection->ssl, SSL_write_ex(connection->ssl, data, size, &n));
    if (outcome == SSL_ERROR_NONE) {
        *ret_n = n;
        return STREAM_OK;
    }
    if (outcome == SSL_ERROR_SYSCALL && connection->alert_received < 0)
        look_for_alert(connection);
    return answer(connection, outcome, "writing");
}

static enum stream_status established_shutdown_write(void *self)
{
    struct connection *connection = self;
    int n;

    if (connection->state == CONNECTION_FAILED)
        return STREAM_FAILED;
    if (connection->shutdown_sent)
        return STREAM_OK;
    ERR_clear_error();
    n = SSL_shutdown(connection->ssl);
    if (n >= 0) {
        connection->shutdown_sent = true;
        return STREAM_OK;
    }
    return answer(connection, SSL_get_error(connection->ssl, n), "closing");
}

static bool established_pending(void *self)
{
    const struct connection *connection = self;

    return SSL_pending(connection->ssl) > 0;
}

static int established_fd(void *self)
{
    return ((struct connection *)self)->wire.fd;
}

static const struct error *established_error(void *self)
{
    return &((struct connection *)self)->failure;
}

static void established_free(void *self, bool reset)
{
    connection_free(self, reset);
}

const struct stream_ops established_ops = {
    .read = established_read,
    .write = established_write,
    .shutdown_write = established_shutdown_write,
    .pending = established_pending,
    .fd = established_fd,
    .error = established_error,
    .free = established_free,
};
