/* libssl's failures, turned into errors that say who refused what. */
#ifndef TOKENTLS_TLS_FAILURE_H
#define TOKENTLS_TLS_FAILURE_H

#include "base/error.h"

struct connection;

/*
 * Where the reason why the connection has failed stands, ERROR_NONE so far; never NULL. It is made when it is asked
 * for: a connection that is well need not keep a kilobyte for it. Belongs to the connection.
 */
struct error *failure_of(struct connection *connection);

/*
 * Why the last call of libssl has failed, into *err: our own refusal first, then the token, the verdict, the peer's
 * alert, the socket, the protocol. Empties the OpenSSL queue. `during`: "the handshake", "reading".
 */
void failure_describe(const struct connection *connection, const char *during, struct error *err);

/* "certificate revoked (alert 44)"; static text for the words, so valid for ever. */
const char *failure_alert_words(int alert);

/* What a person can do about an alert that the peer sent; "" when there is nothing to say. */
const char *failure_alert_advice(int alert);

#endif
