/* libssl's failures, turned into errors that say who refused what. */
#ifndef TOKENTLS_TLS_FAILURE_H
#define TOKENTLS_TLS_FAILURE_H

#include "base/error.h"

struct connection;

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
