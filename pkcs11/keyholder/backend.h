/* The token layer (pkcs11/token.h) behind the keyring's table of functions. */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_BACKEND_H
#define TOKENTLS_PKCS11_KEYHOLDER_BACKEND_H

#include "base/error.h"
#include "pkcs11/keyholder/keyring.h"
#include "pkcs11/keyholder/start.h"
#include "pkcs11/keyholder/unlock_message.h"
#include "pkcs11/token.h"

#include <stdbool.h>

struct backend;

/* The table; its `token` is a struct backend. */
extern const struct keyring_token_ops backend_ops;

/*
 * `config` is borrowed; pin_descriptor: as of control.h. The module is loaded at the first look, and tried again later
 * if that fails. A PIN source that cannot be understood shows as a token that has failed. NULL: out of memory.
 */
MUST_USE struct backend *backend_new(const struct keyholder_config *config, int pin_descriptor, struct error *err);

/* Where to say that a person is waited for. Before the first look. */
void backend_on_waiting(struct backend *backend, token_waiting_fn *waiting, void *arg);

/* What it makes of a PIN that a person gives. */
enum unlock_message_pin backend_takes_pin(const struct backend *backend);

/* Logs out and unloads; all keys must have been freed. NULL is allowed. */
void backend_free(struct backend *backend);

/* True when a look at the token may wait for a person who enters a PIN. */
bool backend_is_interactive(const struct backend *backend);

#endif
