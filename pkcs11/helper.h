/*
 * A program that asks a person for us (pinentry, systemd-ask-password): started with one end of a socket pair as its
 * standard input and output, with nothing else of ours open, and ended at a deadline whatever it does.
 */
#ifndef TOKENTLS_PKCS11_HELPER_H
#define TOKENTLS_PKCS11_HELPER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct helper;

/*
 * Start `arguments[0]`, an absolute path, NULL at the end of the list. After `timeout_ms` its socket is shut down, so
 * that whoever reads meets the end, and it is terminated. It dies with us. ERROR_PIN: not there or not executable, no
 * process or thread to be had. *ret is the caller's, who must end it with helper_end(). Any thread.
 */
MUST_USE result helper_start(const char *const *arguments, uint64_t timeout_ms, struct helper **ret, struct error *err);

/* Our end of the socket pair; stays the helper's. */
int helper_fd(const struct helper *helper);

/*
 * Close the socket, wait a little for the program to end, kill it if it does not, and free. True when it had ended by
 * itself with status 0; *ret_late (may be NULL) says whether the deadline had come before. NULL is allowed.
 */
bool helper_end(struct helper *helper, bool *ret_late);

#endif
