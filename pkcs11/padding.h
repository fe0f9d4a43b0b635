/*
 * RSA paddings made here, for tokens that sign less than a whole scheme (RFC 8017 9.1.1, 9.2), and message digests.
 * Any thread.
 */
#ifndef TOKENTLS_PKCS11_PADDING_H
#define TOKENTLS_PKCS11_PADDING_H

#include "base/error.h"

#include <openssl/types.h>
#include <stddef.h>
#include <stdint.h>

struct padding_digest {
    const EVP_MD *md;
    uint8_t bytes[64];
    size_t length;
};

/* Hash a message with `md` (at most 64 bytes of output). ERROR_INTERNAL only. */
MUST_USE result padding_hash(const EVP_MD *md, const uint8_t *message, size_t length, struct padding_digest *ret,
                             struct error *err);

/* DER DigestInfo of a SHA-2 digest, the input of CKM_RSA_PKCS. out holds `size` bytes. ERROR_INTERNAL: too small. */
MUST_USE result padding_digest_info(const struct padding_digest *digest, uint8_t *out, size_t size, size_t *ret_length,
                                    struct error *err);

/* EMSA-PKCS1-v1_5 for a modulus of `size` bytes: fills out[size]. ERROR_INTERNAL: the modulus is too short. */
MUST_USE result padding_pkcs1(const struct padding_digest *digest, uint8_t *out, size_t size, struct error *err);

/*
 * EMSA-PSS with MGF1, the digest's hash throughout, and a random salt as long as the digest, for a modulus of `bits`
 * bits: fills out[(bits + 7) / 8]. ERROR_INTERNAL: the modulus is too short or there is no randomness.
 */
MUST_USE result padding_pss(const struct padding_digest *digest, unsigned bits, uint8_t *out, struct error *err);

#endif
