/*
 * How a scheme is signed on a particular token: which mechanism, how much of the work is done here. Ladder: the token
 * hashes and signs; it signs a digest; raw RSA over a padding made here. Any thread.
 */
#ifndef TOKENTLS_PKCS11_PLAN_H
#define TOKENTLS_PKCS11_PLAN_H

#include "base/error.h"
#include "pkcs11/mechanism.h"

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>

enum plan_input {
    PLAN_MESSAGE,     /* the token gets the whole message */
    PLAN_DIGEST,      /* its hash */
    PLAN_DIGEST_INFO, /* its hash as DigestInfo */
    PLAN_PADDED_PKCS1,
    PLAN_PADDED_PSS /* a block as long as the modulus */
};

struct plan {
    uint16_t scheme;
    enum plan_input input;
    CK_MECHANISM_TYPE type;
    const char *name; /* "CKM_ECDSA"; static */
    unsigned step;    /* rung of the scheme's ladder, from 0 */
};

/* Steps of the longest ladder. */
#define PLAN_STEPS 3

/* Rung `step` (0..PLAN_STEPS-1) of the scheme's ladder; false when there is none. */
MUST_USE bool plan_step(uint16_t scheme, unsigned step, struct plan *ret);

/* The mechanism as C_SignInit takes it; `mechanism` points into the struct, so it must not be copied. */
struct plan_mechanism {
    CK_MECHANISM mechanism;
    CK_RSA_PKCS_PSS_PARAMS pss;
};
void plan_mechanism_init(const struct plan *plan, struct plan_mechanism *ret);

/* What C_Sign gets: `data` is the message itself or `bytes`. */
struct plan_data {
    const uint8_t *data;
    size_t length;
    uint8_t bytes[SIGNATURE_MAX];
};
struct plan_message {
    const uint8_t *bytes;
    size_t length;
    unsigned key_bits;
};
MUST_USE result plan_prepare(const struct plan *plan, const struct plan_message *message, struct plan_data *ret,
                             struct error *err);

/* The scheme's hash, or NULL for Ed25519. */
const EVP_MD *plan_md(uint16_t scheme);

#endif
