/*
 * What ends a connection, in words: what it means, the likely cause, and the next command to try. TLS alerts, libssl's
 * own errors, Cryptoki results, errors of name resolution and of sockets. All texts are static. Any thread.
 */
#ifndef TOKENTLS_CLIENT_EXPLAIN_HELP_H
#define TOKENTLS_CLIENT_EXPLAIN_HELP_H

#include "base/error.h"

#include <stdbool.h>

struct explain_help {
    const char *words; /* what has happened */
    const char *cause; /* what it usually comes from */
    const char *next;  /* what to type, or whom to ask; never NULL */
};

/* A TLS alert that the peer has sent (RFC 8446 6). False for a number that is none. */
MUST_USE bool explain_help_alert(int alert, struct explain_help *ret);

/* The Cryptoki result that `text` names ("...: CKR_PIN_LOCKED (0xa4)"). False when it names none. */
MUST_USE bool explain_help_cryptoki(const char *text, struct explain_help *ret);

/* An error that libssl has found by itself, as ERR_get_error() packs it. False for other libraries' errors. */
MUST_USE bool explain_help_openssl(unsigned long code, struct explain_help *ret);

/* The reason of c-ares that `text` ends in ("cannot resolve: ..."). False when it is about something else. */
MUST_USE bool explain_help_resolver(const char *text, struct explain_help *ret);

/* An errno of connecting, reading or writing. False for one that says nothing about the network. */
MUST_USE bool explain_help_socket(int errnum, struct explain_help *ret);

/*
 * The first of these that fits an error; where several could, the innermost. False when its own text says all there
 * is.
 */
MUST_USE bool explain_help_find(const struct error *err, struct explain_help *ret);

#endif
