/* Asking through systemd's password agents, where there is no terminal: systemd-ask-password(1). */
#ifndef TOKENTLS_PKCS11_ASK_PASSWORD_H
#define TOKENTLS_PKCS11_ASK_PASSWORD_H

#include "pkcs11/pin.h"

/*
 * Run `program` (--timeout, --no-tty; nothing is cached by it) and read the PIN that it prints. ERROR_PIN: it cannot be
 * run, nobody has answered in time, or the person has cancelled. Blocks. Any thread.
 */
MUST_USE result ask_password_run(const char *program, const struct pin_prompt *prompt, struct secret *into,
                                 struct error *err);

#endif
