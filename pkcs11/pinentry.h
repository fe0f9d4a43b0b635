/* Asking through pinentry, which speaks the Assuan protocol over its standard input and output. */
#ifndef TOKENTLS_PKCS11_PINENTRY_H
#define TOKENTLS_PKCS11_PINENTRY_H

#include "pkcs11/pin.h"

/*
 * Run `program` and ask: the token's label and identity, tries left, the last error, one GETPIN. What the PIN passes
 * through is locked memory that is wiped: libassuan's context lives in it. ERROR_PIN: it cannot be run, does not speak
 * the protocol, does not answer in time, or the person has cancelled. Blocks. Any thread.
 */
MUST_USE result pinentry_ask(const char *program, const struct pin_prompt *prompt, struct secret *into,
                             struct error *err);

#endif
