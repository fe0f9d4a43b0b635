/*
 * Stapled OCSP responses in the handshake (RFC 6066 8, RFC 8446 4.4.2.1): a client asks for one and has it judged, a
 * server sends its own. Only the leaf's: OpenSSL 3.0 has no interface for the further ones that TLS 1.3 allows.
 */
#ifndef TOKENTLS_TLS_STATUS_H
#define TOKENTLS_TLS_STATUS_H

#include <stdbool.h>

struct connection;
struct context;

/* Hook into a context's SSL_CTX: clients ask, servers with a stapler answer. False when libssl refuses. */
bool status_setup(struct context *context);

/* Within libssl's verification callback: note what was stapled, or that it will come only later (TLS 1.2). */
void status_note(struct connection *connection);

#endif
