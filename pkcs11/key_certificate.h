/* Which certificate belongs to a key: from a file, or from the token. Any thread. */
#ifndef TOKENTLS_PKCS11_KEY_CERTIFICATE_H
#define TOKENTLS_PKCS11_KEY_CERTIFICATE_H

#include "base/error.h"
#include "pkcs11/session.h"

#include <openssl/types.h>

struct key_certificate_query {
    const struct session *session;
    const char *key_uri;
    const char *file;       /* NULL: look on the token */
    CK_OBJECT_HANDLE named; /* certificate object that the URI names; 0: none */
    const CK_ATTRIBUTE *id; /* CKA_ID of the key; NULL: it has none */
    EVP_PKEY *public_key;   /* what the token shows of the key; NULL: nothing */
};

/*
 * Find the leaf (the file's first; the named one; by CKA_ID; by public key) and complete the chain from the file and
 * the token, without the root, at most TOKEN_CHAIN_MAX. The entries of `chain` are the caller's references.
 * ERROR_CONFIG: the file is unusable, or the certificate is not the key's (the text names both); ERROR_TOKEN: there is
 * none, or the token failed.
 */
MUST_USE result key_certificate_find(const struct key_certificate_query *query, X509 **chain, size_t *ret_n,
                                     struct error *err);

#endif
