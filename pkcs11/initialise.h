/*
 * Initialising a token: its label, its SO PIN and its user PIN (PKCS#11 v3.0 5.5.7, 5.5.8). For a short-lived keyholder
 * process; one thread; loads the module itself.
 */
#ifndef TOKENTLS_PKCS11_INITIALISE_H
#define TOKENTLS_PKCS11_INITIALISE_H

#include "base/error.h"
#include "pkcs11/token.h"

struct pin_source; /* pkcs11/pin.h */

struct initialise_request {
    const char *module;        /* path or p11-kit name */
    const char *label;         /* of the token to be; 1 to 32 bytes */
    const char *erase;         /* label of the initialised token whose content is to be destroyed; NULL: a blank one */
    struct pin_source *so_pin; /* what becomes the SO PIN; of a token that is erased, its SO PIN */
    struct pin_source *pin;    /* what becomes the user PIN */
    const char *state_directory; /* of the guard, which covers the SO PIN too */
    const char *unlock_command;  /* for messages */
};

struct initialise_outcome {
    char uri[TOKEN_URI_MAX];
};

/*
 * ERROR_CONFIG: the label is impossible or another token has it; ERROR_TOKEN: no blank token, or several, or no token
 * of the label to be erased, or the token failed; ERROR_PIN: a source gives no PIN, a PIN's length does not fit the
 * token, the SO PIN is wrong (it is tried once), or the guard withholds it. A text says so when the token was
 * initialised before it failed.
 */
MUST_USE result initialise_token(const struct initialise_request *request, struct initialise_outcome *ret,
                                 struct error *err);

#endif
