/* What the dated policies offer in the handshake, as a golden list: a published policy does not change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls/policy.h"

#include <openssl/ssl.h>
#include <string.h>

static const char *const suites[] = {
    "TLS_AES_128_GCM_SHA256",        "TLS_CHACHA20_POLY1305_SHA256",  "TLS_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",   "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",   "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
};

static void expect_policy(enum chain_policy which, const char *name)
{
    const struct policy *policy = policy_get(which);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    STACK_OF(SSL_CIPHER) * ciphers;

    assert_string_equal(policy->name, name);
    assert_string_equal(policy->groups, "X25519:P-256:P-384:P-521");
    assert_string_equal(policy->signatures,
                        "ECDSA+SHA256:ed25519:rsa_pss_rsae_sha256:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha384:"
                        "rsa_pss_rsae_sha512:rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:RSA+SHA256:"
                        "RSA+SHA384:RSA+SHA512");
    assert_int_equal(policy->security_level, 2);
    SSL_CTX_set_security_level(ctx, policy->security_level);
    assert_int_equal(SSL_CTX_set_cipher_list(ctx, policy->ciphers_12), 1);
    assert_int_equal(SSL_CTX_set_ciphersuites(ctx, policy->ciphers_13), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(ctx, policy->groups), 1);
    assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, policy->signatures), 1);
    /* as libssl reads the lists: no alias in them may widen with another release */
    ciphers = SSL_CTX_get_ciphers(ctx);
    assert_int_equal(sk_SSL_CIPHER_num(ciphers), sizeof(suites) / sizeof(suites[0]));
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++)
        assert_string_equal(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(ciphers, i)), suites[i]);
    SSL_CTX_free(ctx);
}

static void the_policy_of_2026(void **state)
{
    (void)state;
    expect_policy(CHAIN_POLICY_2026, "2026");
}

/* It widens what certificates may be, nothing in the handshake. */
static void the_legacy_policy(void **state)
{
    (void)state;
    expect_policy(CHAIN_POLICY_LEGACY, "legacy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_policy_of_2026),
        cmocka_unit_test(the_legacy_policy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
