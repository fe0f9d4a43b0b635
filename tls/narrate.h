/* The story of a handshake for `connect --explain`: nothing is computed unless somebody listens. */
#ifndef TOKENTLS_TLS_NARRATE_H
#define TOKENTLS_TLS_NARRATE_H

#include "base/error.h"

struct connection;

/* One line of phase `phase`; ignored when nobody listens. */
void narrate_line(const struct connection *connection, const char *phase, const char *fmt, ...) PRINTF_LIKE(3, 4);

void narrate_hello(const struct connection *connection);     /* what is offered */
void narrate_chosen(const struct connection *connection);    /* version, cipher, group */
void narrate_verdict(const struct connection *connection);   /* the peer's certificate and each check */
void narrate_staple(const struct connection *connection);    /* a stapled response that was judged, if there is one */
void narrate_request(const struct connection *connection);   /* the server's CertificateRequest */
void narrate_signature(const struct connection *connection); /* what the token did */
void narrate_finished(const struct connection *connection);
void narrate_failure(const struct connection *connection, const struct error *err);

#endif
