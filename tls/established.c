/* The stream of an established connection: see net/stream.h. */
#include "tls/failure.h"
#include "tls/internal.h"

#include <openssl/err.h>
#include <stdlib.h>

/* Bytes of a full record, and those that one write gives to libssl at the most: so many records are sent at once. */
#define RECORD_BYTES 16384
#define WRITE_BYTES (4 * RECORD_BYTES)

/* What libssl asks the socket for at once. */
#define READ_BYTES WIRE_CORK_BYTES

/*
 * Nothing is kept for a connection that says nothing. SSL_MODE_RELEASE_BUFFERS lets go only when a read has found the
 * socket empty, which nobody tries after a short read. Does nothing while there is something in the buffers.
 */
static void release_buffers(struct connection *connection)
{
    if (SSL_has_pending(connection->ssl) == 0)
        (void)SSL_free_buffers(connection->ssl);
}

void established_begin(struct connection *connection)
{
    if (connection->signer != NULL)
        signer_cancel(connection->signer);
    free(connection->signer);
    connection->signer = NULL;
    SSL_set_default_read_buffer_len(connection->ssl, READ_BYTES);
    SSL_set_read_ahead(connection->ssl, 1);
    release_buffers(connection);
}

static enum stream_status fail(struct connection *connection, const char *during)
{
    if (connection->state != CONNECTION_FAILED) {
        failure_describe(connection, during, failure_of(connection));
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
    connection->drained = outcome == SSL_ERROR_WANT_READ;
    if (outcome == SSL_ERROR_NONE) {
        connection->bytes_read += n;
        *ret_n = n;
        release_buffers(connection);
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

/*
 * Give libssl the bytes, as whole records; what it has taken is counted in connection->taken. Several records are
 * collected; one alone goes the direct way.
 */
static int give(struct connection *connection, const uint8_t *data, size_t size)
{
    size_t n = 0;
    int outcome;

    ERR_clear_error();
    if (size > RECORD_BYTES)
        wire_cork(&connection->wire);
    do {
        outcome = SSL_get_error(connection->ssl,
                                SSL_write_ex(connection->ssl, data + connection->taken, size - connection->taken, &n));
        if (outcome == SSL_ERROR_NONE)
            connection->taken += n;
    } while (outcome == SSL_ERROR_NONE && connection->taken < size && connection->taken < WRITE_BYTES);
    return outcome;
}

/* What libssl has taken counts as written when the socket has taken it too: until then the write is repeated. */
static enum stream_status established_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct connection *connection = self;
    int outcome = SSL_ERROR_NONE;

    if (connection->state == CONNECTION_FAILED)
        return STREAM_FAILED;
    established_drop_verdict(connection);
    if (connection->taken == 0)
        outcome = give(connection, data, size);
    switch (wire_uncork(&connection->wire)) {
    case WIRE_SENT:
        break;
    case WIRE_WAITS:
        return STREAM_WANT_WRITE;
    case WIRE_FAILED:
        outcome = SSL_ERROR_SYSCALL;
        break;
    }
    if (outcome == SSL_ERROR_SYSCALL && connection->alert_received < 0)
        look_for_alert(connection);
    if (connection->taken == 0 ||
        (outcome != SSL_ERROR_NONE && outcome != SSL_ERROR_WANT_READ && outcome != SSL_ERROR_WANT_WRITE))
        return answer(connection, outcome, "writing");
    *ret_n = connection->taken;
    connection->taken = 0;
    return STREAM_OK;
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

    /* The second: records that were read ahead. A part of one is there for good until the socket brings the rest. */
    return SSL_pending(connection->ssl) > 0 || (!connection->drained && SSL_has_pending(connection->ssl) == 1);
}

static int established_fd(void *self)
{
    return ((struct connection *)self)->wire.fd;
}

static const struct error *established_error(void *self)
{
    return failure_of(self);
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
