/*
 * The choice of the client certificate by the server's CertificateRequest (RFC 8446 4.3.2, RFC 5246 7.4.4): acceptable
 * issuers, signature schemes that both sides and the token share, key usage, validity, in the configured order.
 */
#ifndef TOKENTLS_TLS_CHOICE_H
#define TOKENTLS_TLS_CHOICE_H

#include "base/error.h"

#include <stdbool.h>

struct connection;
struct context;
struct identity;

/*
 * Before the SSL of a connection is made, which takes it over: allow libssl only the schemes that the tokens of the
 * context's identities can make. Nothing is done unless there was a report on one of them since the last time.
 */
MUST_USE result choice_refresh(struct context *context, struct error *err);

/*
 * Before the handshake, after choice_refresh(): leave out TLS 1.3 where nobody can sign in it, and fail when there are
 * identities and none is usable (the first one's error). A server shows its identities from here on.
 */
MUST_USE result choice_prepare(struct connection *connection, struct error *err);

/*
 * On the loop's stack, when the server has asked: choose, and hand key and chain to libssl. Without identities: go on
 * without a certificate, or refuse. The outcome is in connection->choice_good, identity and failure.
 */
void choice_make(struct connection *connection);

/* After a server's handshake: of several identities, note the one whose certificate libssl has shown. */
void choice_note_shown(struct connection *connection);

/* Can it sign in TLS 1.3 at all (RFC 8446 4.2.3)? It has been announced with a certificate and schemes. */
MUST_USE bool choice_fits_tls_1_3(const struct identity *identity);

/* Why not. */
#define CHOICE_WHY_NOT_TLS_1_3                                                                                         \
    "the token can sign with PKCS#1 v1.5 padding only, or has a key of a curve that its mechanisms do not fit, and "   \
    "TLS 1.3 takes neither"

#endif
