/*
 * One token on which an identity's key is, as its keyholder announces it: state, certificate chain, what can be signed.
 * Part of tls/identity.c. One thread only.
 */
#ifndef TOKENTLS_TLS_PLACE_H
#define TOKENTLS_TLS_PLACE_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>

struct libctx; /* tls/libctx.h */

/* Zeroed: nothing is known. */
struct place {
    bool known;                      /* something was announced, or the keyholder has ended */
    enum token_state state;          /* TOKEN_FAILED once the keyholder is gone */
    struct keyholder_client *client; /* NULL once it is gone */
    uint32_t number;                 /* the keyholder's for the key */
    char *uri;                       /* owned */
    X509 *leaf;                      /* owned; NULL: the key has never been seen */
    STACK_OF(X509) * chain;          /* owned; the rest of it */
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    struct error reason; /* why it cannot be used, naming the identity; ERROR_NONE when it can */
};

/* Take an announcement of `client` for the identity of this name. A failure shows in place->reason. */
void place_take(struct place *place, struct libctx *libctx, struct keyholder_client *client,
                const struct keyholder_identity *announced);

/* The keyholder is gone: unusable with this reason until the next place_take(). */
void place_gone(struct place *place, const char *name, const struct error *reason);

/* Can it be signed there now, as far as is known? */
bool place_is_usable(const struct place *place);

/* Do both show the same leaf and chain? Both have one. */
bool place_same_chain(const struct place *a, const struct place *b);

/* Release what it owns and zero it. */
void place_clear(struct place *place);

#endif
