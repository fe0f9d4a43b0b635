/*
 * A private key that a keyholder holds, as the provider sees it: where to send what is to be signed, and the public
 * half. Reference counted, because a handshake keeps the key it started with. One thread only.
 */
#ifndef TOKENTLS_TLS_KEY_H
#define TOKENTLS_TLS_KEY_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"

#include <openssl/types.h>
#include <stdbool.h>

struct key;
struct key_link;

/* Keyholders that hold the same key. */
#define KEY_WAYS_MAX 8

struct key_way {
    struct keyholder_client *client;
    uint32_t number; /* the keyholder's for the key */
    bool usable;     /* signatures are expected to be possible; else it is asked for the reason only */
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes; /* 0: all */
};

/* The ways to a key, shared by all that use it; none yet. Owned by the caller. NULL when memory is exhausted. */
MUST_USE struct key_link *key_link_new(void);

/*
 * These are the ways from now on, at most KEY_WAYS_MAX. Without any, as when the keyholder is gone (its client is about
 * to be freed), signatures with keys of this link fail.
 */
void key_link_set(struct key_link *link, const struct key_way *ways, size_t n);

/* Give the reference up. NULL is allowed. */
void key_link_free(struct key_link *link);

/*
 * A key behind `link` (referenced) with `public_key` (referenced; an RSA, EC or Ed25519 key of the default provider).
 * NULL with *err set: ERROR_CONFIG for another kind of key.
 */
MUST_USE struct key *key_new(struct key_link *link, EVP_PKEY *public_key, struct error *err);

/* Reference counting. key_free(NULL) is allowed. */
struct key *key_ref(struct key *key);
void key_free(struct key *key);

/* Keyholders that have been asked already; zero it first. Compared, never called. */
struct key_tried {
    const struct keyholder_client *clients[KEY_WAYS_MAX];
    size_t n;
};

/*
 * The keyholder to ask for this scheme: of those that were not tried and are usable the one with the fewest operations
 * outstanding; when nobody was tried and none is usable, any, which says why. It counts as tried then. False: none.
 */
MUST_USE bool key_choose(const struct key *key, uint16_t scheme, struct key_tried *tried, struct key_way *ret);

/* RSA, EC or Ed25519. */
enum key_type key_type(const struct key *key);

/* Borrowed. */
EVP_PKEY *key_public(const struct key *key);

/*
 * Wrap for libssl: an EVP_PKEY of the token provider, which `libctx` must have, owned by the caller. NULL with *err set
 * on failure.
 */
MUST_USE EVP_PKEY *key_wrap(struct key *key, OSSL_LIB_CTX *libctx, struct error *err);

#endif
