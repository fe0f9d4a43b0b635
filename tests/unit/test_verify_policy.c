/*
 * The security policies as a golden table: a published policy does not change, so neither may a line of this. One
 * certificate for each kind of key and signature, and what 2026 and legacy say of it.
 */
#include "verify_world.h"

#include <openssl/ec.h>
#include <openssl/rsa.h>

struct line {
    const char *kind, *parameter; /* as EVP_PKEY has them: bits of RSA, name of a curve */
    const char *digest;           /* of the signature the key makes as an issuer */
    bool in_2026, in_legacy;
    const char *why; /* the end of the reason of 2026, NULL when accepted */
};

static const struct line keys[] = {
    {"RSA", "1024", NULL, false, true, "RSA key of 1024 bits (2048 to 8192 are accepted) (security policy 2026)"},
    {"RSA", "2047", NULL, false, true, "RSA key of 2047 bits (2048 to 8192 are accepted) (security policy 2026)"},
    {"RSA", "2048", NULL, true, true, NULL},
    {"RSA", "3072", NULL, true, true, NULL},
    {"RSA-PSS", "2048", NULL, true, true, NULL},
    {"EC", "prime192v1", NULL, false, true,
     "EC key on curve prime192v1 (P-256, P-384, P-521 are accepted) (security policy 2026)"},
    {"EC", "secp224r1", NULL, false, true,
     "EC key on curve secp224r1 (P-256, P-384, P-521 are accepted) (security policy 2026)"},
    {"EC", "P-256", NULL, true, true, NULL},
    {"EC", "P-384", NULL, true, true, NULL},
    {"EC", "P-521", NULL, true, true, NULL},
    {"EC", "secp256k1", NULL, false, true,
     "EC key on curve secp256k1 (P-256, P-384, P-521 are accepted) (security policy 2026)"},
    {"EC", "brainpoolP256r1", NULL, false, true,
     "EC key on curve brainpoolP256r1 (P-256, P-384, P-521 are accepted) (security policy 2026)"},
    {"ED25519", "", NULL, true, true, NULL},
    {"ED448", "", NULL, true, true, NULL},
};

static const struct line signatures[] = {
    {"RSA", "2048", "MD5", false, true, "signed with md5WithRSAEncryption (security policy 2026)"},
    {"RSA", "2048", "SHA1", false, true, "signed with sha1WithRSAEncryption (security policy 2026)"},
    {"RSA", "2048", "SHA224", false, true, "signed with sha224WithRSAEncryption (security policy 2026)"},
    {"RSA", "2048", "SHA256", true, true, NULL},
    {"RSA", "2048", "SHA384", true, true, NULL},
    {"RSA", "2048", "SHA512", true, true, NULL},
    {"RSA", "2048", "SHA3-256", true, true, NULL},
    {"RSA", "2048", "SHA3-512", true, true, NULL},
    {"RSA-PSS", "2048", "SHA1", false, true, "signed with rsassaPss and sha1 (security policy 2026)"},
    {"RSA-PSS", "2048", "SHA256", true, true, NULL},
    {"RSA-PSS", "2048", "SHA512", true, true, NULL},
    {"EC", "P-256", "SHA1", false, true, "signed with ecdsa-with-SHA1 (security policy 2026)"},
    {"EC", "P-256", "SHA224", false, true, "signed with ecdsa-with-SHA224 (security policy 2026)"},
    {"EC", "P-256", "SHA256", true, true, NULL},
    {"EC", "P-384", "SHA384", true, true, NULL},
    {"EC", "P-521", "SHA512", true, true, NULL},
    {"ED25519", "", NULL, true, true, NULL},
    {"RSA", "1024", "SHA256", false, true,
     "signed with a weak key: RSA key of 1024 bits (2048 to 8192 are accepted) (security policy 2026)"},
    {"EC", "secp256k1", "SHA256", false, true,
     "signed with a weak key: EC key on curve secp256k1 (P-256, P-384, P-521 are accepted) (security policy 2026)"},
};

static EVP_PKEY *generate(const struct line *line)
{
    EVP_PKEY_CTX *ctx;
    EVP_PKEY *key = NULL;

    if (strcmp(line->kind, "EC") == 0)
        return EVP_EC_gen(line->parameter);
    ctx = EVP_PKEY_CTX_new_from_name(NULL, line->kind, NULL);
    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    if (line->parameter[0] != '\0')
        assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, atoi(line->parameter)), 1);
    assert_int_equal(EVP_PKEY_generate(ctx, &key), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static bool verdict_of(struct world *w, enum chain_policy policy, char *line, size_t size)
{
    struct verdict verdict;
    bool accepted;

    w->request.policy = policy;
    chain_verify(&w->request, &verdict);
    verdict_describe(&verdict, line, size);
    accepted = verdict.accepted;
    verdict_free(&verdict);
    return accepted;
}

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void check_line(struct world *w, const struct line *line)
{
    char strict[1024], legacy[1024];
    bool in_2026 = verdict_of(w, CHAIN_POLICY_2026, strict, sizeof(strict));
    bool in_legacy = verdict_of(w, CHAIN_POLICY_LEGACY, legacy, sizeof(legacy));

    if (in_2026 == line->in_2026 && in_legacy == line->in_legacy && (line->why == NULL || ends_with(strict, line->why)))
        return;
    print_error("%s %s %s\n  2026:   %s\n  legacy: %s\n", line->kind, line->parameter,
                line->digest != NULL ? line->digest : "", strict, legacy);
    fail();
}

static void keys_of_leaves(void **state)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        WORLD(w);
        EVP_PKEY_free(w.leaf_key);
        w.leaf_key = w.leaf_spec.key = generate(&keys[i]);
        w.request.revocation = CHAIN_REVOCATION_OFF;
        world_build(&w);
        check_line(&w, &keys[i]);
        world_free(&w);
    }
}

static void signatures_of_intermediates(void **state)
{
    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        WORLD(w);
        if (signatures[i].digest != NULL && EVP_get_digestbyname(signatures[i].digest) == NULL)
            fail_msg("no digest %s", signatures[i].digest);
        EVP_PKEY_free(w.inter_key);
        w.inter_key = w.inter_spec.key = w.leaf_spec.issuer_key = generate(&signatures[i]);
        w.leaf_spec.digest = signatures[i].digest;
        w.request.revocation = CHAIN_REVOCATION_OFF;
        w.no_inter_crl = true;
        world_build(&w);
        check_line(&w, &signatures[i]);
        world_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_leaves),
        cmocka_unit_test(signatures_of_intermediates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
