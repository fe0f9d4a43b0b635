/*
 * Changing what is on a token: sessions to do it in, and storing certificates. Used in a
 * short-lived keyholder process that the command line starts; one thread. The token must have been opened `writable`.
 */
#ifndef TOKENTLS_PKCS11_PROVISION_H
#define TOKENTLS_PKCS11_PROVISION_H

#include "base/error.h"
#include "pkcs11/session.h"
#include "pkcs11/token.h"

#include <openssl/types.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A session that may write, with the user logged in if the token wants that. Give it back with token_release() of
 * token_internal.h. ERROR_PIN: login refused, or wanted and no PIN source; ERROR_TOKEN: absent, or write-protected.
 * `err` must not be NULL.
 */
MUST_USE result provision_begin(struct token *token, struct session *ret, struct error *err);

/* What is stored. */
struct provision_certificates {
    X509 *const *items; /* the leaf and its issuers in any order; roots are left out */
    size_t n;
    const uint8_t *id; /* CKA_ID the key must have; NULL: whatever the key's is */
    size_t id_length;
    const char *label; /* of the leaf's object; NULL: the key's */
};

struct provision_stored {
    char key_uri[TOKEN_URI_MAX], certificate_uri[TOKEN_URI_MAX];
    char subject[256];
    size_t n_issuers; /* stored now */
    size_t n_present; /* issuers that were there already */
    size_t n_unused;  /* certificates that are not in the leaf's chain, roots included: not stored */
};

/*
 * Store the one certificate among them whose public key a private key on the token has, under the key's CKA_ID, and its
 * issuers, each once. ERROR_CONFIG: none belongs to a key on the token, or several do, or the key's id is another one,
 * or the leaf is there already; nothing was stored then. ERROR_TOKEN: the token failed; the text says if the leaf was
 * stored before. ERROR_PIN as above.
 */
MUST_USE result provision_import(struct token *token, const struct provision_certificates *what,
                                 struct provision_stored *ret, struct error *err);

#endif
