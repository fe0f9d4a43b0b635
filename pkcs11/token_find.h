/* The parts of token_find_key() that the listing of a token shares. */
#ifndef TOKENTLS_PKCS11_TOKEN_FIND_H
#define TOKENTLS_PKCS11_TOKEN_FIND_H

#include "base/error.h"
#include "pkcs11/session.h"

#include <openssl/types.h>

/*
 * The public key of a private key object: from its own attributes, else from the public key object with the same
 * CKA_ID. *ret is NULL without an error when the token shows neither; else owned by the caller. ERROR_TOKEN.
 */
MUST_USE result token_find_public(const struct session *session, CK_OBJECT_HANDLE object, EVP_PKEY **ret,
                                  struct error *err);

#endif
