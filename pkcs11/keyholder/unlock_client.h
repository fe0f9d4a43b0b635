/* Giving a keyholder a PIN, over its own socket. Blocks, with deadlines. */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_UNLOCK_CLIENT_H
#define TOKENTLS_PKCS11_KEYHOLDER_UNLOCK_CLIENT_H

#include "base/secret.h"
#include "pkcs11/keyholder/unlock_message.h"

/* Longest path of a keyholder's socket, with the NUL. */
#define UNLOCK_CLIENT_PATH_MAX 108

/*
 * What the keyholder at `path` says of itself; *ret is the caller's (unlock_message_free_hello()). ERROR_IO: nobody
 * listens; ERROR_VERIFY: it refuses this user, or belongs to a user who is neither root, nor ours, nor the owner of the
 * folder; ERROR_PROTOCOL.
 */
MUST_USE result unlock_client_ask(const char *path, struct unlock_message_hello *ret, struct error *err);

/* The socket in `folder` of the keyholder that has this identity: its path. ERROR_TOKEN: none has. */
MUST_USE result unlock_client_find(const char *folder, const char *identity, char ret_path[UNLOCK_CLIENT_PATH_MAX],
                                   struct error *err);

/* Give the PIN and wait for what becomes of it: ERROR_NONE when the identity can be used, else as the keyholder says.
 */
MUST_USE result unlock_client_give(const char *path, const char *identity, const struct secret *pin, struct error *err);

#endif
