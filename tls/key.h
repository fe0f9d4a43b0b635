/*
 * A private key that a keyholder holds, as the provider sees it: where to send what is to be signed, and the public
 * half. Reference counted, because a handshake keeps the key it started with. One thread only.
 */
#ifndef TOKENTLS_TLS_KEY_H
#define TOKENTLS_TLS_KEY_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"

#include <openssl/types.h>

struct key;
struct key_link;

/* The way to a keyholder, shared by all keys behind it; owned by the caller. NULL when memory is exhausted. */
MUST_USE struct key_link *key_link_new(struct keyholder_client *client);

/* The keyholder is gone (the client is about to be freed): signatures with keys of this link fail from now on. */
void key_link_cut(struct key_link *link);

/* Give the reference up. NULL is allowed. */
void key_link_free(struct key_link *link);

/*
 * A key behind `link` (referenced) with the keyholder's `number` for it and `public_key` (referenced; an RSA, EC or
 * Ed25519 key of the default provider). NULL with *err set: ERROR_CONFIG for another kind of key.
 */
MUST_USE struct key *key_new(struct key_link *link, uint32_t number, EVP_PKEY *public_key, struct error *err);

/* Reference counting. key_free(NULL) is allowed. */
struct key *key_ref(struct key *key);
void key_free(struct key *key);

/* The keyholder to ask, or NULL when it is gone. */
struct keyholder_client *key_client(const struct key *key);

/* The keyholder's number for it, for sign requests. */
uint32_t key_number(const struct key *key);

/* RSA, EC or Ed25519. */
enum key_type key_type(const struct key *key);

/* Borrowed. */
EVP_PKEY *key_public(const struct key *key);

/* Wrap for libssl: an EVP_PKEY of the token provider, owned by the caller. NULL with *err set on failure. */
MUST_USE EVP_PKEY *key_wrap(struct key *key, OSSL_LIB_CTX *libctx, struct error *err);

#endif
