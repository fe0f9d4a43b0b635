/*
 * A client's cache of TLS sessions, one per context: bound to the server name and to the identity and its generation,
 * used once each, and only while the server's chain still passes today's check. Loop thread only.
 */
#ifndef TOKENTLS_TLS_SESSIONS_H
#define TOKENTLS_TLS_SESSIONS_H

#include "base/error.h"

struct connection;
struct context;
struct sessions;

/* Make the cache of `context` and hook it into its SSL_CTX. *ret is owned by the caller. */
MUST_USE result sessions_new(struct context *context, struct sessions **ret, struct error *err);

/* NULL is allowed. */
void sessions_free(struct sessions *sessions);

/*
 * Before the handshake: offer a session if there is one that may be used. The connection then holds the verdict on the
 * server's chain, reached anew.
 */
void sessions_offer(struct connection *connection);

/* After the handshake and all its checks: keep the session of a TLS 1.2 connection. */
void sessions_established(struct connection *connection);

#endif
