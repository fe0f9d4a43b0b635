/* Pinned keys: the SHA-256 of a SubjectPublicKeyInfo (RFC 7469 2.4), written "sha256//BASE64" as in curl. */
#ifndef TOKENTLS_TLS_VERIFY_PIN_H
#define TOKENTLS_TLS_VERIFY_PIN_H

#include "base/error.h"
#include "tls/verify/chain.h"

/* Pins in one list at the most. */
#define PIN_COUNT_MAX 64

/*
 * Parse "sha256//BASE64" (padded base64 of 32 bytes). ERROR_CONFIG with a text that says what is wrong with `text`
 * and how to make one.
 */
MUST_USE result pin_parse(const char *text, uint8_t ret[CHAIN_SPKI_LENGTH], struct error *err);

/* True when the key of a certificate of `path` is one of request->spkis. Any thread. */
bool pin_matches(const struct chain_request *request, const STACK_OF(X509) * path);

/* SHA-256 of the certificate's SubjectPublicKeyInfo; false when memory is exhausted. Any thread. */
MUST_USE bool pin_of(X509 *certificate, OSSL_LIB_CTX *libctx, uint8_t ret[CHAIN_SPKI_LENGTH]);

#endif
