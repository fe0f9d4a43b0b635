/*
 * Does a certificate suit what a TLS server asks for? Pure: nothing is kept, nothing is freed; any thread.
 */
#ifndef TOKENTLS_TLS_FIT_H
#define TOKENTLS_TLS_FIT_H

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * True when the leaf or a certificate of the rest of its chain (may be NULL or empty) was issued by one of the names
 * (RFC 8446 4.2.4, RFC 5246 7.4.4). No name (NULL or empty): any issuer will do.
 */
bool fit_issuer(const X509 *leaf, const STACK_OF(X509) * chain, const STACK_OF(X509_NAME) * names);

/*
 * True when a key of this size may sign with this scheme in the version (TLS1_2_VERSION, TLS1_3_VERSION): in TLS 1.3 an
 * ECDSA scheme names its curve, and PKCS#1 v1.5 is for certificates only (RFC 8446 4.2.3). That the scheme is one of
 * the key's type is the caller's business.
 */
bool fit_version(const EVP_PKEY *key, uint16_t scheme, int version);

/*
 * True when the key's type is among the n certificate types of a TLS 1.2 request (RFC 5246 7.4.4; RFC 8422 5.4 takes
 * ecdsa_sign for EdDSA as well). No type: false.
 */
bool fit_type(const EVP_PKEY *key, const uint8_t *types, size_t n);

#endif
