/* Extensions whose encodings are empty, malformed, repeated or followed by something (RFC 5280 4.2). */
#include "tls/verify/form.h"
#include "verify_form.h"

#define LEAF "certificate CN=client (depth 0): "
#define INTER "certificate CN=Intermediate (depth 1): "

enum expectation { GOOD, RULE, BROKEN };

struct encoding {
    int nid;
    bool of_intermediate;
    const char *der;
    int length;
    enum expectation expectation;
    const char *text; /* after "certificate ... :" */
};

#define DER(bytes) bytes, (int)sizeof(bytes) - 1

static const struct encoding encodings[] = {
    /* subjectAltName */
    {NID_subject_alt_name, false, DER("\x30\x00"), RULE,
     "extensions: X509v3 Subject Alternative Name without a name (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x04\x00"), BROKEN,
     "extensions: X509v3 Subject Alternative Name cannot be decoded (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER(""), BROKEN,
     "extensions: X509v3 Subject Alternative Name cannot be decoded (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x05\x82\x09zzz"), BROKEN,
     "extensions: X509v3 Subject Alternative Name cannot be decoded (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x03\x82\x01z\x05\x00"), BROKEN,
     "extensions: bytes after the end of X509v3 Subject Alternative Name (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x02\x82\x00"), RULE, "extensions: an empty DNS name (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x05\x82\x03z\0z"), BROKEN,
     "extensions: a DNS name with control or non-ASCII characters (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x05\x81\x03z@\xe4"), BROKEN,
     "extensions: a mail address with control or non-ASCII characters (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x05\x87\x03zzz"), BROKEN,
     "extensions: an IP address of a wrong length in X509v3 Subject Alternative Name (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x05\x82\x03z z"), RULE,
     "extensions: a DNS name with spaces (RFC 5280 4.2.1.6)"},
    {NID_subject_alt_name, false, DER("\x30\x03\x82\x01z"), GOOD, NULL},
    {NID_subject_alt_name, false, DER("\x30\x06\x87\x04zzzz"), GOOD, NULL},
    /* authorityKeyIdentifier */
    {NID_authority_key_identifier, false, DER("\x30\x00"), RULE,
     "extensions: X509v3 Authority Key Identifier is empty (RFC 5280 4.2.1.1)"},
    {NID_authority_key_identifier, false, DER("\x30\x02\x80\x00"), BROKEN,
     "extensions: X509v3 Authority Key Identifier with an empty key identifier (RFC 5280 4.2.1.1)"},
    {NID_authority_key_identifier, false, DER("\x30\x03\x82\x01\x01"), BROKEN,
     "extensions: X509v3 Authority Key Identifier with an issuer or a serial number, not both (RFC 5280 4.2.1.1)"},
    {NID_authority_key_identifier, false, DER("\x31\x00"), BROKEN,
     "extensions: X509v3 Authority Key Identifier cannot be decoded (RFC 5280 4.2.1.1)"},
    /* subjectKeyIdentifier */
    {NID_subject_key_identifier, false, DER("\x04\x00"), RULE,
     "extensions: X509v3 Subject Key Identifier is empty (RFC 5280 4.2.1.2)"},
    {NID_subject_key_identifier, false, DER("\x04\x05zz"), BROKEN,
     "extensions: X509v3 Subject Key Identifier cannot be decoded (RFC 5280 4.2.1.2)"},
    {NID_subject_key_identifier, false, DER("\x04\x02zzz"), BROKEN,
     "extensions: bytes after the end of X509v3 Subject Key Identifier (RFC 5280 4.2.1.2)"},
    {NID_subject_key_identifier, false, DER("\x04\x02zz"), GOOD, NULL},
    /* keyUsage, extendedKeyUsage, basicConstraints */
    {NID_key_usage, false, DER("\x03\x02\x07\x80\x00"), BROKEN,
     "extensions: bytes after the end of X509v3 Key Usage (RFC 5280 4.2.1.3)"},
    {NID_key_usage, false, DER("\x04\x02\x07\x80"), BROKEN,
     "extensions: X509v3 Key Usage cannot be decoded (RFC 5280 4.2.1.3)"},
    {NID_ext_key_usage, false, DER("\x30\x00"), BROKEN,
     "key-usage: its extended key usage does not include clientAuth (RFC 5280 4.2.1.12)"},
    {NID_basic_constraints, false, DER("\x30\x00\x00"), BROKEN,
     "extensions: bytes after the end of X509v3 Basic Constraints (RFC 5280 4.2.1.9)"},
    {NID_basic_constraints, false, DER("\x30\x00"), GOOD, NULL},
    {NID_certificate_policies, false, DER("\x30\x02\x31\x00"), BROKEN,
     "extensions: X509v3 Certificate Policies cannot be decoded (RFC 5280 4.2.1.4)"},
    {NID_crl_distribution_points, false, DER("\x02\x01\x00"), BROKEN,
     "extensions: X509v3 CRL Distribution Points cannot be decoded (RFC 5280 4.2.1.13)"},
    {NID_info_access, false, DER("\x02\x01\x00"), BROKEN,
     "extensions: Authority Information Access cannot be decoded (RFC 5280 4.2.2.1)"},
    /* nameConstraints */
    {NID_name_constraints, true, DER("\x30\x00"), RULE,
     "name-constraints: X509v3 Name Constraints that constrain nothing (RFC 5280 4.2.1.10)"},
    {NID_name_constraints, true, DER("\x30\x02\xa0\x00"), RULE,
     "name-constraints: X509v3 Name Constraints with an empty list (RFC 5280 4.2.1.10)"},
    {NID_name_constraints, true, DER("\x30\x02\x05\x00"), BROKEN,
     "extensions: X509v3 Name Constraints cannot be decoded (RFC 5280 4.2.1.10)"},
    {NID_name_constraints, true, DER("\x30\x0a\xa1\x08\x30\x06\x87\x04zzzz"), BROKEN,
     "name-constraints: an IP address of a wrong length in X509v3 Name Constraints (RFC 5280 4.2.1.10)"},
    {NID_name_constraints, true, DER("\x30\x07\xa1\x05\x30\x03\x82\x01z\x30"), BROKEN,
     "extensions: bytes after the end of X509v3 Name Constraints (RFC 5280 4.2.1.10)"},
    {NID_name_constraints, true, DER("\x30\x07\xa1\x05\x30\x03\x82\x01z"), GOOD, NULL},
    {NID_subject_key_identifier, true, DER("\x30\x00"), BROKEN,
     "extensions: X509v3 Subject Key Identifier cannot be decoded (RFC 5280 4.2.1.2)"},
    {NID_basic_constraints, true, DER("\x04\x00"), BROKEN,
     "extensions: X509v3 Basic Constraints cannot be decoded (RFC 5280 4.2.1.9)"},
};

static void verdict_of(struct world *w, enum chain_policy policy, char *line, size_t size)
{
    struct verdict verdict;

    w->request.policy = policy;
    chain_verify(&w->request, &verdict);
    verdict_describe(&verdict, line, size);
    verdict_free(&verdict);
}

static void each_encoding(void **state)
{
    for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
        const struct encoding *encoding = &encodings[i];
        char strict[1024], legacy[1024], expected[1024];
        WORLD(w);

        form_begin(&w);
        form_set_extension(encoding->of_intermediate ? w.inter : w.leaf, encoding->nid, false, encoding->der,
                           encoding->length);
        form_finish(&w);
        verdict_of(&w, CHAIN_POLICY_2026, strict, sizeof(strict));
        verdict_of(&w, CHAIN_POLICY_LEGACY, legacy, sizeof(legacy));
        (void)snprintf(expected, sizeof(expected), "%s%s", encoding->of_intermediate ? INTER : LEAF, encoding->text);
        if (strcmp(strict, encoding->expectation == GOOD ? "accepted" : expected) != 0 ||
            strcmp(legacy, encoding->expectation == BROKEN ? expected : "accepted") != 0) {
            print_error("encoding %zu\n  2026:   %s\n  legacy: %s\n", i, strict, legacy);
            fail();
        }
        world_free(&w);
    }
}

static void duplicate_extensions(void **state)
{
    X509_EXTENSION *again;
    WORLD(w);

    form_begin(&w);
    again = X509_EXTENSION_dup(X509_get_ext(w.leaf, X509_get_ext_by_NID(w.leaf, NID_subject_alt_name, -1)));
    assert_int_equal(X509_add_ext(w.leaf, again, -1), 1);
    X509_EXTENSION_free(again);
    form_expect_broken(&w,
                       LEAF "extensions: extension 2.5.29.17 X509v3 Subject Alternative Name occurs more than once "
                            "(RFC 5280 4.2)",
                       X509_V_ERR_CERT_REJECTED);
}

/* Nobody knows what they mean, so nobody but us would look. */
static void duplicate_unknown_extensions(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[4] = (struct pki_extension){"1.2.3.4", "DER:0500"};
    w.leaf_spec.extensions[5] = (struct pki_extension){"1.2.3.4", "DER:0101ff"};
    form_begin(&w);
    form_expect_broken(&w, LEAF "extensions: extension 1.2.3.4 occurs more than once (RFC 5280 4.2)",
                       X509_V_ERR_CERT_REJECTED);
}

static void unknown_extension_is_named_when_critical(void **state)
{
    WORLD(w);
    w.inter_spec.extensions[4] = (struct pki_extension){"1.2.3.4", "DER:0500"};
    w.inter_spec.extensions[5] = (struct pki_extension){"1.3.6.1.4.1.99999.1", "critical,DER:0500"};
    form_begin(&w);
    form_expect_broken(&w, INTER "extensions: unknown critical extension 1.3.6.1.4.1.99999.1 (RFC 5280 6.1.4 (o))",
                       X509_V_ERR_CERT_REJECTED);
}

static void unknown_extension_is_not_minded_when_not_critical(void **state)
{
    WORLD(w);
    w.inter_spec.extensions[4] = (struct pki_extension){"1.2.3.4", "DER:0500"};
    w.leaf_spec.extensions[4] = (struct pki_extension){"1.2.3.5", "DER:ffff"};
    form_begin(&w);
    form_expect_good(&w);
}

static void add_unknown_extensions(X509 *certificate, int n)
{
    for (int i = 0; i < n; i++) {
        char name[32];
        X509_EXTENSION *extension;

        (void)snprintf(name, sizeof(name), "1.2.3.%d", 100 + i);
        extension = X509V3_EXT_conf(NULL, NULL, name, "DER:0500");
        assert_non_null(extension);
        assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
        X509_EXTENSION_free(extension);
    }
}

static void extensions_are_limited(void **state)
{
    WORLD(w);
    form_begin(&w);
    add_unknown_extensions(w.leaf, FORM_EXTENSIONS_MAX + 1 - X509_get_ext_count(w.leaf));
    form_expect_broken(&w, LEAF "extensions: 65 extensions, at most 64 are looked at (RFC 5280 4.2)",
                       X509_V_ERR_CERT_REJECTED);
}

static void as_many_extensions_as_allowed(void **state)
{
    WORLD(w);
    form_begin(&w);
    add_unknown_extensions(w.leaf, FORM_EXTENSIONS_MAX - X509_get_ext_count(w.leaf));
    form_expect_good(&w);
}

static void bytes_after_the_certificate(void **state)
{
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;
    unsigned char *der = NULL;
    uint8_t data[4096];
    int length;
    WORLD(w);

    world_build(&w);
    length = i2d_X509(w.root, &der);
    assert_true(length > 0 && (size_t)length + 1 < sizeof(data));
    memcpy(data, der, (size_t)length);
    data[length] = 0x30;
    assert_int_equal(trust_load_memory("anchors", data, (size_t)length + 1, &trust, &err), ERROR_VERIFY);
    assert_string_equal(err.text, "anchors: object 2 is not a certificate (neither PEM nor complete DER)");
    assert_int_equal(trust_load_memory("anchors", data, (size_t)length, &trust, &err), ERROR_NONE);
    trust_free(trust);
    OPENSSL_free(der);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_encoding),
        cmocka_unit_test(duplicate_extensions),
        cmocka_unit_test(duplicate_unknown_extensions),
        cmocka_unit_test(unknown_extension_is_named_when_critical),
        cmocka_unit_test(unknown_extension_is_not_minded_when_not_critical),
        cmocka_unit_test(extensions_are_limited),
        cmocka_unit_test(as_many_extensions_as_allowed),
        cmocka_unit_test(bytes_after_the_certificate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
