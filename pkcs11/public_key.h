/* Public keys from the attributes of key objects (PKCS#11 v3.0 2.1.2, 2.3.3, 2.3.5). Any thread. */
#ifndef TOKENTLS_PKCS11_PUBLIC_KEY_H
#define TOKENTLS_PKCS11_PUBLIC_KEY_H

#include "base/error.h"
#include "pkcs11/mechanism.h"
#include "pkcs11/session.h"

#include <openssl/types.h>

/* Kind and size of a key: RSA 2048 to 8192 bits, P-256, P-384, P-521, Ed25519. */
struct public_key_kind {
    enum key_type type;
    unsigned bits;
};

/* ERROR_CONFIG, saying what it is, for a key that is none of these. */
MUST_USE result public_key_kind(EVP_PKEY *key, struct public_key_kind *ret, struct error *err);

/*
 * Make a public key from what a private or public key object shows: modulus and exponent, parameters and point (raw
 * or in an OCTET STRING; curves by OID or as PrintableString "edwards25519"), or CKA_PUBLIC_KEY_INFO. *ret is NULL
 * without an error when the object does not show enough; else owned by the caller.
 */
MUST_USE result public_key_read(const struct session *session, CK_OBJECT_HANDLE object, EVP_PKEY **ret,
                                struct error *err);

#endif
