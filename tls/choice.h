/*
 * The choice of the client certificate by the server's CertificateRequest (RFC 8446 4.3.2, RFC 5246 7.4.4): acceptable
 * issuers, signature schemes that both sides and the token share, key usage, validity, in the configured order.
 */
#ifndef TOKENTLS_TLS_CHOICE_H
#define TOKENTLS_TLS_CHOICE_H

#include "base/error.h"

struct connection;

/*
 * Before the handshake: allow libssl only the schemes the tokens can make, and fail when there are identities and none
 * is usable (the first one's error).
 */
MUST_USE result choice_prepare(struct connection *connection, struct error *err);

/*
 * On the loop's stack, when the server has asked: choose, and hand key and chain to libssl. Without identities: go on
 * without a certificate, or refuse. The outcome is in connection->choice_good, identity and failure.
 */
void choice_make(struct connection *connection);

/* After a server's handshake: of several identities, note the one whose certificate libssl has shown. */
void choice_note_shown(struct connection *connection);

#endif
