/*
 * The dated security policy: which keys and signature algorithms are good enough. A policy never changes once it has
 * been published; a stricter one gets a later name. docs/verify.md holds the table.
 */
#ifndef TOKENTLS_TLS_VERIFY_ALGORITHMS_H
#define TOKENTLS_TLS_VERIFY_ALGORITHMS_H

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

/* Each policy refuses RSA keys beyond this: verifying with larger ones costs more than a handshake should. */
#define ALGORITHMS_RSA_BITS_MAX 8192

/*
 * 2026: RSA of 2048 to ALGORITHMS_RSA_BITS_MAX bits with an exponent of at least 3, P-256, P-384, P-521 as named
 * curves, Ed25519, Ed448. True when `key` (NULL: could not be decoded) is one of these; else `why` (size bytes) says
 * what it is. Any thread.
 */
bool algorithms_2026_key(EVP_PKEY *key, char *why, size_t size);

/* 2026: SHA-256, SHA-384, SHA-512 or their SHA-3 kin under RSA, RSA-PSS or ECDSA, or EdDSA. As above. Any thread. */
bool algorithms_2026_certificate_signature(X509 *certificate, char *why, size_t size);
bool algorithms_2026_crl_signature(const X509_CRL *crl, char *why, size_t size);
bool algorithms_2026_signature(const X509_ALGOR *algorithm, char *why, size_t size);

#endif
