#include "tls/waiting.h"

#include "tls/failure.h"
#include "tls/internal.h"
#include "tls/judge.h"
#include "tls/verify/verdict.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>

static uint64_t received(const struct connection *connection)
{
    return BIO_number_read(SSL_get_rbio(connection->ssl)) - connection->waiting_from;
}

void waiting_begin(struct connection *connection)
{
    established_drop_verdict(connection);
    connection->waiting_from = BIO_number_read(SSL_get_rbio(connection->ssl));
}

static enum waiting_state broken(struct connection *connection, struct error *err)
{
    failure_describe(connection, "waiting to be used", failure_of(connection));
    connection->state = CONNECTION_FAILED;
    *err = *failure_of(connection);
    if (connection->alert_received >= 0)
        return WAITING_REFUSED;
    return connection->wire.ended || connection->wire.failure == ECONNRESET ? WAITING_CLOSED : WAITING_BROKEN;
}

static enum waiting_state closed(struct connection *connection, struct error *err)
{
    connection->state = CONNECTION_CLOSED;
    error_set(err, ERROR_CLOSED, "the server closed the connection");
    return WAITING_CLOSED;
}

/* Behind data that nobody has read libssl does not look: the kernel knows whether there is an end. */
static enum waiting_state look_past_data(struct connection *connection, struct error *err)
{
    struct pollfd socket = {.fd = connection->wire.fd, .events = POLLRDHUP};

    if (poll(&socket, 1, 0) > 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
        return closed(connection, err);
    return WAITING_SPOKEN;
}

static enum waiting_state look_at_controls(struct connection *connection, struct error *err)
{
    if (received(connection) <= WAITING_CONTROL_MAX)
        return WAITING_QUIET;
    error_set(failure_of(connection), ERROR_PROTOCOL, "the server has sent more than %d bytes of TLS messages unasked",
              WAITING_CONTROL_MAX);
    connection->state = CONNECTION_FAILED;
    *err = *failure_of(connection);
    return WAITING_BROKEN;
}

enum waiting_state waiting_look(struct connection *connection, struct error *err)
{
    uint8_t byte;
    size_t n;
    int outcome;

    if (SSL_pending(connection->ssl) > 0)
        return look_past_data(connection, err);
    ERR_clear_error();
    wire_turn(&connection->wire);
    outcome = SSL_get_error(connection->ssl, SSL_peek_ex(connection->ssl, &byte, 1, &n));
    switch (outcome) {
    case SSL_ERROR_NONE:
        return look_past_data(connection, err);
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return look_at_controls(connection, err);
    case SSL_ERROR_ZERO_RETURN:
        return closed(connection, err);
    default:
        return broken(connection, err);
    }
}

bool waiting_is_proven(const struct connection *connection)
{
    return SSL_version(connection->ssl) < TLS1_3_VERSION || SSL_session_reused(connection->ssl) == 1 ||
           !connection->certificate_requested || received(connection) > 0;
}

result waiting_judge(struct connection *connection, struct error *err)
{
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(connection->ssl);
    struct verdict *verdict = calloc(1, sizeof(*verdict));
    const unsigned char *staple = NULL;
    long length = SSL_get_tlsext_status_ocsp_resp(connection->ssl, &staple);
    char text[ERROR_TEXT_MAX];
    result r = ERROR_NONE;

    if (verdict == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (sk_X509_num(sent) < 1)
        sent = connection->peer_path;
    if (sk_X509_num(sent) < 1) {
        free(verdict);
        return error_set(err, ERROR_VERIFY, "the server's certificate is not known any more");
    }
    connection->stapling = CHAIN_STAPLING_ASKED;
    connection->staple = (struct chain_response){.der = staple, .length = length > 0 ? (size_t)length : 0};
    judge_peer(connection, sk_X509_value(sent, 0), sent, verdict);
    connection->stapling = CHAIN_STAPLING_NOT_ASKED;
    connection->staple = (struct chain_response){0};
    if (!verdict->accepted)
        r = error_set(err, ERROR_VERIFY, "the server is refused now: %s",
                      verdict_describe(verdict, text, sizeof(text)));
    verdict_free(verdict);
    free(verdict);
    return r;
}

int waiting_fd(const struct connection *connection)
{
    return connection->wire.fd;
}
