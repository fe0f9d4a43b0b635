/*
 * Where a PIN comes from. The source is read when a login needs it and the secret is freed right after C_Login; only
 * sources that can be read once (a descriptor, the environment, a prompt) are kept, in a struct secret.
 */
#ifndef TOKENTLS_PKCS11_PIN_H
#define TOKENTLS_PKCS11_PIN_H

#include "base/error.h"
#include "base/secret.h"

#include <stdbool.h>

struct pin_source;

/*
 * Parse "file:PATH", "credential:NAME" (in $CREDENTIALS_DIRECTORY, systemd), "env:NAME", "fd:N", "ask" (terminal with
 * echo off), "none". Nothing is read yet. ERROR_CONFIG with the list of kinds for anything else.
 * `handed_over` >= 0: for env: and fd: the descriptor to read instead, because the parent has taken the PIN out of
 * its environment and hands it over through a pipe (pkcs11/keyholder/start.h).
 */
MUST_USE result pin_source_new(const char *text, int handed_over, struct pin_source **ret, struct error *err);

/* Wipes a kept PIN and closes a descriptor that was not read. NULL is allowed. */
void pin_source_free(struct pin_source *source);

/* "file:/etc/tokentls/pin": what the user wrote, for messages and for the guard's record. Never a PIN. */
const char *pin_source_text(const struct pin_source *source);

/* True for sources that may wait for a person ("ask"). */
bool pin_source_is_interactive(const struct pin_source *source);

/*
 * Text that changes when the source may hold another PIN by itself: inode, size and mtime for file: and credential:,
 * constant for the others. For the guard. Fails (ERROR_PIN) when the file cannot be read or is readable by
 * group/others.
 */
MUST_USE result pin_source_version(struct pin_source *source, char *out, size_t size, struct error *err);

/*
 * Get the PIN. `token_label` and `hint` (last error, tries left; may be NULL) are for prompts. ERROR_PIN: not given,
 * empty, file missing or readable by group/others. *ret is owned by the caller.
 */
MUST_USE result pin_source_get(struct pin_source *source, const char *token_label, const char *hint,
                               struct secret **ret, struct error *err);

/* The token has refused the PIN: a typed one that is kept is wiped, so that the next get asks again. Any thread. */
void pin_source_refused(struct pin_source *source);

#endif
