/*
 * TLS signature schemes and the PKCS#11 mechanisms that make them. Which of them a key can do is probed, not guessed:
 * hash-and-sign on the token, sign-the-digest, or raw RSA with the padding made here (PKCS#11 v3.0 2.1, 2.3, 6.3).
 */
#ifndef TOKENTLS_PKCS11_MECHANISM_H
#define TOKENTLS_PKCS11_MECHANISM_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * RFC 8446 4.2.3 code points. In TLS 1.2 an ECDSA code point names the hash only (RFC 5246 7.4.1.4.1), so
 * SCHEME_ECDSA_SHA384 with a P-256 key is legal there.
 */
enum signature_scheme {
    SCHEME_RSA_PKCS1_SHA256 = 0x0401,
    SCHEME_RSA_PKCS1_SHA384 = 0x0501,
    SCHEME_RSA_PKCS1_SHA512 = 0x0601,
    SCHEME_ECDSA_SHA256 = 0x0403, /* TLS 1.3: P-256 */
    SCHEME_ECDSA_SHA384 = 0x0503, /* TLS 1.3: P-384 */
    SCHEME_ECDSA_SHA512 = 0x0603, /* TLS 1.3: P-521 */
    SCHEME_RSA_PSS_RSAE_SHA256 = 0x0804,
    SCHEME_RSA_PSS_RSAE_SHA384 = 0x0805,
    SCHEME_RSA_PSS_RSAE_SHA512 = 0x0806,
    SCHEME_ED25519 = 0x0807
};

/* All schemes above, in order of preference; MECHANISM_SCHEMES entries. */
#define MECHANISM_SCHEMES 10
extern const uint16_t mechanism_schemes[MECHANISM_SCHEMES];

/* "ecdsa_secp256r1_sha256" and so on (RFC 8446 names), or "unknown". */
const char *mechanism_scheme_name(uint16_t scheme);

/* The name OpenSSL's SSL_set1_sigalgs_list() takes: "ECDSA+SHA256", "rsa_pss_rsae_sha256", "ed25519"; NULL if unknown.
 */
const char *mechanism_scheme_openssl_name(uint16_t scheme);

enum key_type { KEY_TYPE_RSA = 1, KEY_TYPE_EC = 2, KEY_TYPE_ED25519 = 3 };

/* True when a key of this type can make this scheme at all. */
bool mechanism_scheme_fits(uint16_t scheme, enum key_type type);

/* Largest signature of any key here: RSA-8192. */
#define SIGNATURE_MAX 1024

#endif
