#include "tls/policy.h"

#define SIGNATURES                                                                                                     \
    "ECDSA+SHA256:ed25519:rsa_pss_rsae_sha256:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"      \
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:RSA+SHA256:RSA+SHA384:RSA+SHA512"

/*
 * Both policies offer the same in the handshake: "legacy" widens what chain_verify() accepts in certificates, and no
 * peer in use needs SHA-1 or DSA signatures, RSA key exchange or CBC ciphers in TLS 1.2.
 */
#define COMMON                                                                                                         \
    .ciphers_12 = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"           \
                  "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384",             \
    .ciphers_13 = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384",                        \
    .groups = "X25519:P-256:P-384:P-521", .signatures = SIGNATURES, .security_level = 2

static const struct policy policies[] = {
    [CHAIN_POLICY_2026] = {.name = "2026", COMMON},
    [CHAIN_POLICY_LEGACY] = {.name = "legacy", COMMON},
};

const struct policy *policy_get(enum chain_policy policy)
{
    return &policies[policy == CHAIN_POLICY_LEGACY ? CHAIN_POLICY_LEGACY : CHAIN_POLICY_2026];
}
