/* Verdicts over a PKI of three levels: which certificate, which check, which words, which error for libssl. */
#include "verify_world.h"

#include <openssl/rsa.h>

static void good(void **state)
{
    struct verdict verdict;
    WORLD(w);

    world_build(&w);
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_int_equal(sk_X509_num(verdict.path), 3);
    assert_int_equal(X509_cmp(sk_X509_value(verdict.path, 2), w.root), 0);
    assert_int_equal(verdict.n_notes, 0);
    assert_int_equal(verdict.n_crls, 2);
    assert_string_equal(verdict.crls[0].issuer, "CN=Intermediate");
    assert_int_equal(verdict.crls[0].depth, 0);
    assert_int_equal(verdict.crls[0].next_update, PKI_NOW + 7 * PKI_DAY);
    assert_string_equal(verdict.crls[1].issuer, "CN=Root");
    verdict_free(&verdict);
    world_free(&w);
}

static void expired_leaf(void **state)
{
    WORLD(w);
    w.leaf_spec.not_before = PKI_NOW - 10 * PKI_DAY;
    w.leaf_spec.not_after = PKI_NOW - 1;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): validity: expired, not valid after 2027-01-15T07:59:59Z "
                      "(RFC 5280 6.1.3 (a)(2))",
                      X509_V_ERR_CERT_HAS_EXPIRED);
}

/* Both are wrong: the date is the certificate's own fault and comes first. */
static void expired_leaf_without_crl(void **state)
{
    WORLD(w);
    w.leaf_spec.not_before = PKI_NOW - 10 * PKI_DAY;
    w.leaf_spec.not_after = PKI_NOW - 1;
    w.no_inter_crl = true;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): validity: expired, not valid after 2027-01-15T07:59:59Z "
                      "(RFC 5280 6.1.3 (a)(2))",
                      X509_V_ERR_CERT_HAS_EXPIRED);
}

static void expired_intermediate(void **state)
{
    WORLD(w);
    w.inter_spec.not_before = PKI_NOW - 10 * PKI_DAY;
    w.inter_spec.not_after = PKI_NOW - PKI_DAY;
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): validity: expired, not valid after "
                      "2027-01-14T08:00:00Z (RFC 5280 6.1.3 (a)(2))",
                      X509_V_ERR_CERT_HAS_EXPIRED);
}

static void not_after_names_a_valid_second(void **state)
{
    WORLD(w);
    w.leaf_spec.not_after = PKI_NOW;
    w.inter_crl_spec.next_update = PKI_NOW;
    build_expect_free(&w, "accepted", X509_V_OK);
}

static void not_yet_valid(void **state)
{
    WORLD(w);
    w.leaf_spec.not_before = PKI_NOW + 1;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): validity: not valid before 2027-01-15T08:00:01Z "
                      "(RFC 5280 6.1.3 (a)(2))",
                      X509_V_ERR_CERT_NOT_YET_VALID);
}

static void unknown_ca(void **state)
{
    EVP_PKEY *key = pki_key();
    const struct pki_certificate spec = {
        .cn = "Other", .key = key, .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    X509 *other = pki_make(&spec);
    WORLD(w);

    w.request.trust = pki_trust(&other, 1);
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): chain: the issuer is unknown (issuer CN=Root) "
                      "(RFC 5280 6.1)",
                      X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
    X509_free(other);
    EVP_PKEY_free(key);
}

/* A namesake of our root with another key has issued the intermediate. */
static void forged_root_name(void **state)
{
    EVP_PKEY *key = pki_key();
    WORLD(w);

    w.root_spec.extensions[2].name = NULL;
    w.inter_spec.extensions[3].name = NULL;
    w.inter_spec.issuer_key = key;
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): signature: the signature is not the issuer's "
                      "(RFC 5280 6.1.3 (a)(1))",
                      X509_V_ERR_CERT_REJECTED);
    EVP_PKEY_free(key);
}

static void self_signed_leaf(void **state)
{
    struct pki_certificate spec;
    WORLD(w);

    spec = w.leaf_spec;
    spec.issuer_key = NULL;
    spec.extensions[3].name = NULL;
    w.leaf = pki_decoded(pki_make(&spec));
    build_expect_free(&w,
                      "certificate CN=client (depth 0): chain: self-signed and not a trust anchor (issuer CN=client) "
                      "(RFC 5280 6.1)",
                      X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
}

static void wrong_extended_key_usage(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[1].value = "serverAuth";
    build_expect_free(&w,
                      "certificate CN=client (depth 0): key-usage: its extended key usage does not include clientAuth "
                      "(RFC 5280 4.2.1.12)",
                      X509_V_ERR_INVALID_PURPOSE);
}

static void wrong_extended_key_usage_of_the_intermediate(void **state)
{
    WORLD(w);
    w.inter_spec.extensions[4] = (struct pki_extension){"extendedKeyUsage", "serverAuth"};
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): key-usage: its extended key usage does not include "
                      "clientAuth (RFC 5280 4.2.1.12)",
                      X509_V_ERR_INVALID_PURPOSE);
}

static void client_certificate_as_server(void **state)
{
    WORLD(w);
    w.request.purpose = CHAIN_PURPOSE_SERVER;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): key-usage: its extended key usage does not include serverAuth "
                      "(RFC 5280 4.2.1.12)",
                      X509_V_ERR_INVALID_PURPOSE);
}

static void key_usage_without_signature(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[0].value = "critical,keyAgreement";
    build_expect_free(&w,
                      "certificate CN=client (depth 0): key-usage: its key usage does not include digitalSignature "
                      "(RFC 5280 4.2.1.12)",
                      X509_V_ERR_INVALID_PURPOSE);
}

static void expect_name(struct world *w, const char *name, const char *text, int error)
{
    w->request.hostname = name;
    expect(w, text, error);
}

static void names(void **state)
{
    static const char *const matching[] = {"a.example", "A.EXAMPLE",   "a.example.",    "x.w.example",
                                           "192.0.2.7", "2001:db8::7", "[2001:db8::7]", "2001:DB8:0:0:0:0:0:7"};
    static const char *const others[] = {"b.example", "example", "x.y.w.example", "w.example",      "px.x.example",
                                         ".example",  "",        "client",        "*.w.example.org"};
    WORLD(w);

    world_build(&w);
    for (size_t i = 0; i < sizeof(matching) / sizeof(matching[0]); i++)
        expect_name(&w, matching[i], "accepted", X509_V_OK);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct verdict verdict;

        w.request.hostname = others[i];
        chain_verify(&w.request, &verdict);
        assert_false(verdict.accepted);
        assert_int_equal(verdict.x509_error, X509_V_ERR_HOSTNAME_MISMATCH);
        assert_string_equal(verdict.reason.check, "name");
        verdict_free(&verdict);
    }
    expect_name(&w, "b.example",
                "certificate CN=client (depth 0): name: it is for a.example, *.w.example, p*.x.example, 192.0.2.7, "
                "2001:db8::7, not for b.example (RFC 9525 6)",
                X509_V_ERR_HOSTNAME_MISMATCH);
    expect_name(&w, "192.0.2.8",
                "certificate CN=client (depth 0): name: it is for a.example, *.w.example, p*.x.example, 192.0.2.7, "
                "2001:db8::7, not for 192.0.2.8 (RFC 9525 6)",
                X509_V_ERR_IP_ADDRESS_MISMATCH);
    world_free(&w);
}

static void common_name_is_not_a_host_name(void **state)
{
    WORLD(w);
    w.leaf_spec.cn = "old.example";
    w.leaf_spec.extensions[2] = w.leaf_spec.extensions[3];
    w.leaf_spec.extensions[3].name = NULL;
    world_build(&w);
    expect_name(&w, "old.example",
                "certificate CN=old.example (depth 0): name: it has no DNS name or address in subjectAltName, so it is "
                "not for old.example (RFC 9525 6)",
                X509_V_ERR_HOSTNAME_MISMATCH);
    w.request.policy = CHAIN_POLICY_LEGACY;
    expect_name(&w, "old.example", "accepted", X509_V_OK);
    world_free(&w);
}

static void sha1_is_refused(void **state)
{
    WORLD(w);
    w.inter_spec.digest = "SHA1";
    world_build(&w);
    expect(&w, "certificate CN=Intermediate (depth 1): algorithms: signed with ecdsa-with-SHA1 (security policy 2026)",
           X509_V_ERR_CA_MD_TOO_WEAK);
    w.request.policy = CHAIN_POLICY_LEGACY;
    expect(&w, "accepted", X509_V_OK);
    world_free(&w);
}

static void sha1_crl_is_refused(void **state)
{
    WORLD(w);
    w.inter_crl_spec.digest = "SHA1";
    world_build(&w);
    expect(&w,
           "certificate CN=client (depth 0): revocation: the CRL is not acceptable: signed with ecdsa-with-SHA1 "
           "(RFC 5280 6.3.3 (g))",
           WORLD_STATUS_UNKNOWN);
    w.request.policy = CHAIN_POLICY_LEGACY;
    expect(&w, "accepted", X509_V_OK);
    world_free(&w);
}

static void replace_key(EVP_PKEY **slot, EVP_PKEY **other, EVP_PKEY *key)
{
    assert_non_null(key);
    EVP_PKEY_free(*slot);
    *slot = *other = key;
}

static void weak_rsa_leaf(void **state)
{
    WORLD(w);
    replace_key(&w.leaf_key, &w.leaf_spec.key, EVP_RSA_gen(1024));
    world_build(&w);
    expect(&w,
           "certificate CN=client (depth 0): algorithms: RSA key of 1024 bits (2048 to 8192 are accepted) "
           "(security policy 2026)",
           X509_V_ERR_EE_KEY_TOO_SMALL);
    w.request.policy = CHAIN_POLICY_LEGACY;
    expect(&w, "accepted", X509_V_OK);
    world_free(&w);
}

static void weak_rsa_root(void **state)
{
    WORLD(w);
    replace_key(&w.root_key, &w.root_spec.key, EVP_RSA_gen(1024));
    w.inter_spec.issuer_key = w.root_key;
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): algorithms: signed with a weak key: RSA key of 1024 bits "
                      "(2048 to 8192 are accepted) (security policy 2026)",
                      X509_V_ERR_CA_MD_TOO_WEAK);
}

static void unusual_curve(void **state)
{
    WORLD(w);
    replace_key(&w.leaf_key, &w.leaf_spec.key, EVP_EC_gen("secp256k1"));
    build_expect_free(&w,
                      "certificate CN=client (depth 0): algorithms: EC key on curve secp256k1 (P-256, P-384, P-521 are "
                      "accepted) (security policy 2026)",
                      X509_V_ERR_EE_KEY_TOO_SMALL);
}

/* What the policy must go on accepting. */
static void strong_algorithms(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct world w;

        world_specs(&w);
        replace_key(&w.inter_key, &w.inter_spec.key,
                    i == 0   ? EVP_RSA_gen(2048)
                    : i == 1 ? EVP_EC_gen("P-384")
                    : i == 2 ? EVP_EC_gen("P-521")
                             : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
        w.leaf_spec.issuer_key = w.inter_key;
        w.inter_crl_spec.digest = w.leaf_spec.digest = i == 2 ? "SHA512" : "SHA384";
        build_expect_free(&w, "accepted", X509_V_OK);
    }
}

/* Root, Intermediate (path length 0), Sub, leaf. */
static void path_length(void **state)
{
    EVP_PKEY *sub_key = pki_key();
    struct pki_certificate spec;
    X509 *sub;
    WORLD(w);

    w.request.revocation = CHAIN_REVOCATION_OFF;
    w.root = pki_make(&w.root_spec);
    w.inter_spec.issuer = w.root;
    w.inter = pki_decoded(pki_make(&w.inter_spec));
    spec = w.inter_spec;
    spec.cn = "Sub";
    spec.issuer = w.inter;
    spec.issuer_key = w.inter_key;
    spec.key = sub_key;
    spec.serial = 4;
    sub = pki_decoded(pki_make(&spec));
    w.leaf_spec.issuer = sub;
    w.leaf_spec.issuer_key = sub_key;
    world_build(&w);
    assert_true(sk_X509_push(w.request.untrusted, sub) > 0);
    expect(&w,
           "certificate CN=Intermediate (depth 2): basic-constraints: more CA certificates below it than its path "
           "length constraint allows (RFC 5280 6.1.4 (l))",
           X509_V_ERR_CERT_REJECTED);
    w.request.depth = 1;
    expect(&w,
           "certificate CN=Intermediate (depth 2): depth: more intermediate certificates than allowed (RFC 5280 6.1)",
           X509_V_ERR_CERT_CHAIN_TOO_LONG);
    X509_free(sub);
    EVP_PKEY_free(sub_key);
    world_free(&w);
}

static void depth_counts_intermediates(void **state)
{
    WORLD(w);
    world_build(&w);
    w.request.depth = 1;
    expect(&w, "accepted", X509_V_OK);
    w.request.depth = 0;
    expect(&w,
           "certificate CN=Intermediate (depth 1): depth: more intermediate certificates than allowed (RFC 5280 6.1)",
           X509_V_ERR_CERT_CHAIN_TOO_LONG);
    world_free(&w);
}

static void intermediate_is_no_ca(void **state)
{
    WORLD(w);
    w.request.revocation = CHAIN_REVOCATION_OFF;
    w.inter_spec.extensions[0].value = "critical,CA:FALSE";
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): basic-constraints: not a CA certificate "
                      "(RFC 5280 6.1.4 (k))",
                      X509_V_ERR_CERT_REJECTED);
}

static void unknown_critical_extension(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[4] = (struct pki_extension){"1.2.3.4", "critical,DER:0500"};
    build_expect_free(
        &w, "certificate CN=client (depth 0): extensions: unknown critical extension 1.2.3.4 (RFC 5280 6.1.4 (o))",
        X509_V_ERR_CERT_REJECTED);
}

static void name_constraints(void **state)
{
    WORLD(w);
    w.inter_spec.extensions[4] = (struct pki_extension){"nameConstraints", "critical,permitted;DNS:other.example"};
    build_expect_free(&w,
                      "certificate CN=client (depth 0): name-constraints: a name outside the permitted ones "
                      "(RFC 5280 6.1.3 (b))",
                      X509_V_ERR_CERT_REJECTED);
}

static void policies(void **state)
{
    const char *const wanted[] = {"1.2.3.4.5", NULL};
    const char *const other[] = {"1.2.3.4.6", NULL};
    const char *const broken[] = {"1.2.x", NULL};
    WORLD(w);

    w.inter_spec.extensions[4] = (struct pki_extension){"certificatePolicies", "DER:3008300606042a030405"};
    w.leaf_spec.extensions[4] = (struct pki_extension){"certificatePolicies", "DER:3008300606042a030405"};
    world_build(&w);
    w.request.explicit_policy = true;
    expect(&w, "accepted", X509_V_OK);
    w.request.policies = wanted;
    expect(&w, "accepted", X509_V_OK);
    w.request.policies = other;
    expect(&w,
           "certificate CN=client (depth 0): policy: no certificate policy is valid for the whole path "
           "(RFC 5280 6.1.5 (g))",
           X509_V_ERR_NO_EXPLICIT_POLICY);
    w.request.policies = broken;
    expect(&w, "certificate CN=client (depth 0): internal: the initial policies are not object identifiers",
           X509_V_ERR_UNSPECIFIED);
    world_free(&w);
}

static void no_policy_where_one_is_required(void **state)
{
    WORLD(w);
    w.request.explicit_policy = true;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): policy: no certificate policy is valid for the whole path "
                      "(RFC 5280 6.1.5 (g))",
                      X509_V_ERR_NO_EXPLICIT_POLICY);
}

static void untrusted_text_is_escaped(void **state)
{
    WORLD(w);
    w.leaf_spec.cn = "evil\nname\033[2J";
    w.leaf_spec.not_after = PKI_NOW - 1;
    w.leaf_spec.not_before = PKI_NOW - PKI_DAY;
    build_expect_free(&w,
                      "certificate CN=evil\\x5c0Aname\\x5c1B[2J (depth 0): validity: expired, not valid after "
                      "2027-01-15T07:59:59Z (RFC 5280 6.1.3 (a)(2))",
                      X509_V_ERR_CERT_HAS_EXPIRED);
}

/* Three certificates of one name and key, of which only one leads to the root: each order must find it. */
static void order_does_not_matter(void **state)
{
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    EVP_PKEY *other_key = pki_key();
    X509 *candidates[3], *other;
    struct pki_certificate spec;
    WORLD(w);

    world_build(&w);
    spec = w.root_spec;
    spec.cn = "Elsewhere";
    spec.key = other_key;
    other = pki_make(&spec);
    spec = w.inter_spec;
    spec.issuer = other;
    spec.issuer_key = other_key;
    candidates[0] = w.inter;
    candidates[1] = pki_decoded(pki_make(&spec));
    spec = w.inter_spec;
    spec.not_after = PKI_NOW + 400 * PKI_DAY;
    spec.extensions[0].value = "critical,CA:TRUE";
    spec.extensions[4] = (struct pki_extension){"extendedKeyUsage", "serverAuth"};
    candidates[2] = pki_decoded(pki_make(&spec));
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        sk_X509_zero(w.request.untrusted);
        for (int j = 0; j < 3; j++)
            assert_true(sk_X509_push(w.request.untrusted, candidates[orders[i][j]]) > 0);
        expect(&w, "accepted", X509_V_OK);
    }
    X509_free(candidates[1]);
    X509_free(candidates[2]);
    X509_free(other);
    EVP_PKEY_free(other_key);
    world_free(&w);
}

/* When each path fails, the most telling reason is given: revoked, not that another path has no anchor. */
static void best_reason_of_several_paths(void **state)
{
    EVP_PKEY *other_key = pki_key();
    struct pki_certificate spec;
    X509 *other, *cross;
    WORLD(w);

    w.root_crl_spec.revoked[0] = 2;
    world_build(&w);
    spec = w.root_spec;
    spec.cn = "Elsewhere";
    spec.key = other_key;
    other = pki_make(&spec);
    spec = w.inter_spec;
    spec.issuer = other;
    spec.issuer_key = other_key;
    cross = pki_decoded(pki_make(&spec));
    assert_true(sk_X509_unshift(w.request.untrusted, cross) > 0);
    expect(&w,
           "certificate CN=Intermediate (depth 1): revocation: revoked since 2027-01-13T08:00:00Z (unspecified) by CRL "
           "of CN=Root (RFC 5280 6.1.3 (a)(3))",
           X509_V_ERR_CERT_REVOKED);
    X509_free(cross);
    X509_free(other);
    EVP_PKEY_free(other_key);
    world_free(&w);
}

static void words_are_parsed(void **state)
{
    enum chain_revocation revocation = CHAIN_REVOCATION_OFF;
    enum chain_policy policy = CHAIN_POLICY_LEGACY;
    enum chain_purpose purpose = CHAIN_PURPOSE_ANY;

    (void)state;
    assert_true(chain_parse_revocation("prefer", &revocation));
    assert_int_equal(revocation, CHAIN_REVOCATION_PREFER);
    assert_true(chain_parse_policy("2026", &policy));
    assert_int_equal(policy, CHAIN_POLICY_2026);
    assert_true(chain_parse_purpose("server", &purpose));
    assert_int_equal(purpose, CHAIN_PURPOSE_SERVER);
    assert_false(chain_parse_revocation("", &revocation));
    assert_false(chain_parse_policy("2027", &policy));
    assert_false(chain_parse_purpose("Server", &purpose));
    assert_int_equal(revocation, CHAIN_REVOCATION_PREFER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(expired_leaf),
        cmocka_unit_test(expired_leaf_without_crl),
        cmocka_unit_test(expired_intermediate),
        cmocka_unit_test(not_after_names_a_valid_second),
        cmocka_unit_test(not_yet_valid),
        cmocka_unit_test(unknown_ca),
        cmocka_unit_test(forged_root_name),
        cmocka_unit_test(self_signed_leaf),
        cmocka_unit_test(wrong_extended_key_usage),
        cmocka_unit_test(wrong_extended_key_usage_of_the_intermediate),
        cmocka_unit_test(client_certificate_as_server),
        cmocka_unit_test(key_usage_without_signature),
        cmocka_unit_test(names),
        cmocka_unit_test(common_name_is_not_a_host_name),
        cmocka_unit_test(sha1_is_refused),
        cmocka_unit_test(sha1_crl_is_refused),
        cmocka_unit_test(weak_rsa_leaf),
        cmocka_unit_test(weak_rsa_root),
        cmocka_unit_test(unusual_curve),
        cmocka_unit_test(strong_algorithms),
        cmocka_unit_test(path_length),
        cmocka_unit_test(depth_counts_intermediates),
        cmocka_unit_test(intermediate_is_no_ca),
        cmocka_unit_test(unknown_critical_extension),
        cmocka_unit_test(name_constraints),
        cmocka_unit_test(policies),
        cmocka_unit_test(no_policy_where_one_is_required),
        cmocka_unit_test(untrusted_text_is_escaped),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(best_reason_of_several_paths),
        cmocka_unit_test(words_are_parsed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
