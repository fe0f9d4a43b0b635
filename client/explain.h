/* `connect --explain`: the handshake told on standard error, phase by phase, and what to do when it fails. */
#ifndef TOKENTLS_CLIENT_EXPLAIN_H
#define TOKENTLS_CLIENT_EXPLAIN_H

#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>

#define EXPLAIN_PHASE_MAX 48 /* bytes of a phase's name, with the NUL */

struct explain {
    FILE *out;                     /* NULL: nothing is told */
    char phase[EXPLAIN_PHASE_MAX]; /* the one whose heading was printed last */
};

/*
 * One line of a phase, after the phase's heading when it is another one than before. The signature is that of
 * connection_explain_fn; `arg` is the struct explain. Bytes that are not printable are shown as '?'.
 */
void explain_phase(void *arg, const char *phase, const char *text);

/* As explain_phase() with a format. */
void explain_line(struct explain *explain, const char *phase, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* What a failure is about besides its error. */
struct explain_failure {
    const struct error *err;
    int x509_error;  /* X509_V_ERR_* when we refused the peer's certificate, else 0 */
    bool identity;   /* an identity was named */
    bool pin_source; /* somebody could give a PIN */
};

/* What a person can do next about the failure, as a static sentence; NULL when the error's text says it all. */
const char *explain_advice(const struct explain_failure *failure);

#endif
