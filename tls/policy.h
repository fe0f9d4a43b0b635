/* The dated TLS settings: what each security policy offers and accepts. */
#ifndef TOKENTLS_TLS_POLICY_H
#define TOKENTLS_TLS_POLICY_H

#include "tls/verify/chain.h"

struct policy {
    const char *name;
    const char *ciphers_12; /* SSL_CTX_set_cipher_list(): ECDHE and AEAD only */
    const char *ciphers_13; /* SSL_CTX_set_ciphersuites() */
    const char *groups;     /* SSL_CTX_set1_groups_list() */
    const char *signatures; /* SSL_CTX_set1_sigalgs_list() and what a server asks of client certificates */
    int security_level;
};

/* The settings of a policy; static. */
const struct policy *policy_get(enum chain_policy policy);

#endif
