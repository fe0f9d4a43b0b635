/*
 * Making a key pair on a token: its private half never leaves it. For a short-lived keyholder process; one thread. The
 * token must have been opened `writable`.
 */
#ifndef TOKENTLS_PKCS11_GENERATE_H
#define TOKENTLS_PKCS11_GENERATE_H

#include "base/error.h"
#include "pkcs11/token.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a CKA_ID, and of a label, that are taken. */
#define GENERATE_ID_MAX 64
#define GENERATE_LABEL_MAX 128

/* What a command line offers: "rsa2048|rsa3072|...". */
#define GENERATE_ALGORITHMS "rsa2048|rsa3072|rsa4096|p256|p384|p521|ed25519"

struct generate_request {
    const char *algorithm; /* one of GENERATE_ALGORITHMS */
    const char *label;     /* 1 to GENERATE_LABEL_MAX bytes */
    bool successor;    /* `label` is that of the key to be replaced: take the first free one of label-2, label-3 ... */
    const uint8_t *id; /* NULL: 20 random bytes */
    size_t id_length;  /* 1 to GENERATE_ID_MAX */
};

/*
 * Make the pair: CKA_TOKEN, CKA_PRIVATE, CKA_SENSITIVE, not CKA_EXTRACTABLE, CKA_SIGN and nothing else; what the token
 * made is read back and destroyed if it is anything less. ERROR_CONFIG: label or id are taken (the text names by what)
 * or no algorithm of that name; ERROR_TOKEN: the token cannot, is write-protected or failed, and what was half done is
 * destroyed again; ERROR_PIN. *ret is owned by the caller (token_key_free()); it has a public key and no certificate.
 */
MUST_USE result generate_key_pair(struct token *token, const struct generate_request *request, struct token_key **ret,
                                  struct error *err);

/* The public half; borrowed. */
EVP_PKEY *generate_public(const struct token_key *key);

/* Destroy both halves of a pair that generate_key_pair() has made. ERROR_TOKEN: they may still be there. */
MUST_USE result generate_discard(struct token *token, const struct token_key *key, struct error *err);

#endif
