/* Which certificates suit a request: issuers, schemes by version, TLS 1.2 types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pkcs11/mechanism.h"
#include "tls/fit.h"

#include "verify_pki.h"

#include <openssl/rsa.h>

static X509 *leaf_of(EVP_PKEY *key)
{
    const int64_t now = (int64_t)time(NULL);
    const struct pki_certificate spec = {
        .cn = "leaf", .key = key, .not_before = now - PKI_DAY, .not_after = now + PKI_DAY};

    return pki_make(&spec);
}

static void list(STACK_OF(X509_NAME) * names, const char *cn)
{
    X509_NAME *name = X509_NAME_new();

    pki_name(name, cn);
    assert_true(sk_X509_NAME_push(names, name) > 0);
}

static void test_issuer(void **state)
{
    const int64_t now = (int64_t)time(NULL);
    EVP_PKEY *key = pki_key();
    const struct pki_certificate above = {
        .cn = "above", .key = key, .not_before = now - PKI_DAY, .not_after = now + PKI_DAY};
    X509 *leaf = leaf_of(key), *other = pki_make(&above);
    STACK_OF(X509) *chain = sk_X509_new_null();
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();

    (void)state;
    assert_true(fit_issuer(leaf, NULL, NULL));
    assert_true(fit_issuer(leaf, chain, names));
    list(names, "somebody else");
    assert_false(fit_issuer(leaf, NULL, names));
    assert_false(fit_issuer(leaf, chain, names));
    list(names, "above");
    assert_false(fit_issuer(leaf, chain, names));
    assert_true(sk_X509_push(chain, other) > 0);
    assert_true(fit_issuer(leaf, chain, names));
    assert_false(fit_issuer(leaf, NULL, names));
    list(names, "leaf");
    assert_true(fit_issuer(leaf, NULL, names));
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    sk_X509_pop_free(chain, X509_free);
    X509_free(leaf);
    EVP_PKEY_free(key);
}

static void test_version(void **state)
{
    static const struct {
        const char *curve; /* NULL: RSA */
        uint16_t scheme;
        bool in_1_3;
    } cases[] = {
        {"P-256", SCHEME_ECDSA_SHA256, true},     {"P-256", SCHEME_ECDSA_SHA384, false},
        {"P-256", SCHEME_ECDSA_SHA512, false},    {"P-384", SCHEME_ECDSA_SHA256, false},
        {"P-384", SCHEME_ECDSA_SHA384, true},     {"P-521", SCHEME_ECDSA_SHA384, false},
        {"P-521", SCHEME_ECDSA_SHA512, true},     {NULL, SCHEME_RSA_PKCS1_SHA256, false},
        {NULL, SCHEME_RSA_PKCS1_SHA384, false},   {NULL, SCHEME_RSA_PKCS1_SHA512, false},
        {NULL, SCHEME_RSA_PSS_RSAE_SHA256, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EVP_PKEY *key = cases[i].curve != NULL ? EVP_EC_gen(cases[i].curve) : EVP_RSA_gen(2048);

        assert_non_null(key);
        if (fit_version(key, cases[i].scheme, TLS1_3_VERSION) != cases[i].in_1_3)
            fail_msg("case %zu: TLS 1.3", i);
        assert_true(fit_version(key, cases[i].scheme, TLS1_2_VERSION));
        EVP_PKEY_free(key);
    }
}

static void test_type(void **state)
{
    const uint8_t types[] = {TLS_CT_RSA_SIGN, TLS_CT_ECDSA_SIGN};
    EVP_PKEY *rsa = EVP_RSA_gen(2048), *ec = EVP_EC_gen("P-256");
    EVP_PKEY *ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    (void)state;
    assert_true(fit_type(rsa, types, 1));
    assert_false(fit_type(rsa, types + 1, 1));
    assert_false(fit_type(ec, types, 1));
    assert_true(fit_type(ec, types, 2));
    assert_false(fit_type(ed25519, types, 1));
    assert_true(fit_type(ed25519, types + 1, 1));
    assert_false(fit_type(rsa, NULL, 0));
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ed25519);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_issuer),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
