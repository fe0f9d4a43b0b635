/* Asking a person at the controlling terminal. */
#ifndef TOKENTLS_PKCS11_TERMINAL_H
#define TOKENTLS_PKCS11_TERMINAL_H

#include "base/error.h"
#include "base/secret.h"

#include <stdbool.h>

/*
 * Write `prompt` to /dev/tty and read one line with echo off. Echo is restored also when SIGINT, SIGTERM, SIGHUP,
 * SIGQUIT or SIGTSTP arrives, which then takes its effect (ERROR_PIN if the process survives it). ERROR_PIN: no
 * terminal, end of input. Blocks until the person answers; one caller at a time, others wait. Any thread.
 */
MUST_USE result terminal_read_secret(const char *prompt, struct secret *into, struct error *err);

/* Is there a controlling terminal that could be asked? */
bool terminal_is_there(void);

#endif
