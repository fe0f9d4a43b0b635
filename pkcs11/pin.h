/*
 * Where a PIN comes from. The source is read when a login needs it and the secret is freed right after C_Login; only
 * what cannot be read again (a descriptor, the environment, what a person typed) is kept, in a struct secret.
 */
#ifndef TOKENTLS_PKCS11_PIN_H
#define TOKENTLS_PKCS11_PIN_H

#include "base/error.h"
#include "base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pin_source;

/* Programs that ask a person, unless the source names another: "pinentry:/usr/bin/pinentry-curses", "ask:/PATH". */
#define PIN_PINENTRY_PROGRAM "/usr/bin/pinentry"
#define PIN_ASK_PROGRAM "/usr/bin/systemd-ask-password"

/* Longest wait for a person, in ms, unless the prompt says otherwise. */
#define PIN_PROMPT_TIMEOUT_MS 120000

/* What a person is shown who is asked for a PIN. Texts are single escaped lines; NULL: nothing to say. */
struct pin_prompt {
    const char *token;    /* label */
    const char *identity; /* what it is for; this one or `token` is not NULL */
    const char *error;    /* what became of the last try */
    const char *tries;    /* how many are left, as far as the token says */
    uint64_t timeout_ms;  /* 0: PIN_PROMPT_TIMEOUT_MS. A terminal is waited for without end */
};

/* "PIN of token "demo" for finance": the words all of the ways to ask begin with. */
void pin_prompt_text(const struct pin_prompt *prompt, char *out, size_t size);

/*
 * Parse "file:PATH", "credential:NAME" (in $CREDENTIALS_DIRECTORY, systemd), "env:NAME", "fd:N", "ask[:PROGRAM]"
 * (terminal with echo off; without one systemd-ask-password), "pinentry[:PROGRAM]", "unlock" (pin_source_give()),
 * "pinpad", "none". Nothing is read yet. ERROR_CONFIG with the list of kinds for anything else.
 * `handed_over` >= 0: for env: and fd: the descriptor to read instead, because the parent has taken the PIN out of
 * its environment and hands it over through a pipe (pkcs11/keyholder/start.h).
 */
MUST_USE result pin_source_new(const char *text, int handed_over, struct pin_source **ret, struct error *err);

/* Wipes a kept PIN and closes a descriptor that was not read. NULL is allowed. */
void pin_source_free(struct pin_source *source);

/* "file:/etc/tokentls/pin": what the user wrote, for messages and for the guard's record. Never a PIN. */
const char *pin_source_text(const struct pin_source *source);

/* True for sources that may wait for a person (ask, pinentry, pinpad). */
bool pin_source_is_interactive(const struct pin_source *source);

/* True when the next login with this source waits for a person: one of those, and no PIN is kept. Any thread. */
bool pin_source_asks(struct pin_source *source);

/* True for "pinpad": the PIN is typed on the reader, and pin_source_get() must not be called. */
bool pin_source_is_pad(const struct pin_source *source);

/* True when pin_source_give() is allowed: not for a source that holds its PIN elsewhere (file, credential, pinpad). */
bool pin_source_takes(const struct pin_source *source);

/* True for "unlock": there is no PIN but the one that pin_source_give() brings. */
bool pin_source_waits(const struct pin_source *source);

/* True when there is none now, for want of pin_source_give(). Any thread. */
bool pin_source_lacks(struct pin_source *source);

/*
 * Text that changes when the source may hold another PIN by itself: inode, size and mtime for file:, constant for the
 * others (systemd makes a credential's file anew with each start of a service). For the guard. Fails (ERROR_PIN) when
 * the file cannot be read or is readable by group/others.
 */
MUST_USE result pin_source_version(struct pin_source *source, char *out, size_t size, struct error *err);

/*
 * Get the PIN. ERROR_PIN: not given (cancelled, timed out), empty, file missing or readable by group/others. *ret is
 * owned by the caller. Blocks while a person is asked. Any thread.
 */
MUST_USE result pin_source_get(struct pin_source *source, const struct pin_prompt *prompt, struct secret **ret,
                               struct error *err);

/* A person gives the PIN, which replaces what was kept; `pin` is taken over. Only where pin_source_takes(). */
void pin_source_give(struct pin_source *source, struct secret *pin);

/*
 * What env: or fd: hold was replaced by pin_source_give() in an earlier process and must not be tried any more: until
 * a PIN is given again there is none. No other source has anything to withdraw.
 */
void pin_source_withdraw(struct pin_source *source);

/* The token has refused the PIN: one that a person gave is wiped, so that the next get asks again. Any thread. */
void pin_source_refused(struct pin_source *source);

/* Wipe what a person gave (ask, pinentry, unlock), because the token is locked or was idle. Any thread. */
void pin_source_forget(struct pin_source *source);

#endif
