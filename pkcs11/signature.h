/* Signatures as tokens return them and as TLS wants them. Any thread. */
#ifndef TOKENTLS_PKCS11_SIGNATURE_H
#define TOKENTLS_PKCS11_SIGNATURE_H

#include "base/error.h"
#include "pkcs11/token.h"

#include <openssl/types.h>

/*
 * ECDSA: turn r||s (PKCS#11 v3.0 2.3.1, two halves of `order` bytes) into a DER Ecdsa-Sig-Value in place; what is DER
 * already stays. ERROR_TOKEN: neither.
 */
MUST_USE result signature_to_der(struct token_signature *signature, size_t order, struct error *err);

/* ERROR_TOKEN unless the signature over `message` verifies with the public key. */
MUST_USE result signature_verify(EVP_PKEY *key, uint16_t scheme, const uint8_t *message, size_t length,
                                 const struct token_signature *signature);

#endif
