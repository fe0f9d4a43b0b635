/* The fields of certificates that break the profile of RFC 5280 4.1: what each policy says, and what it does not mind.
 */
#include "verify_form.h"

#define LEAF "certificate CN=client (depth 0): "
#define INTER "certificate CN=Intermediate (depth 1): "

static void untouched_is_good(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_expect_good(&w);
}

static void serial_zero(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.leaf, V_ASN1_INTEGER, "\0", 1);
    form_expect_rule(&w, LEAF "serial-number: the serial number is zero (RFC 5280 4.1.2.2)", X509_V_ERR_CERT_REJECTED);
}

static void serial_negative(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.leaf, V_ASN1_NEG_INTEGER, "\1", 1);
    form_expect_rule(&w, LEAF "serial-number: the serial number is negative (RFC 5280 4.1.2.2)",
                     X509_V_ERR_CERT_REJECTED);
}

static void serial_negative_of_the_intermediate(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.inter, V_ASN1_NEG_INTEGER, "\1", 1);
    form_expect_rule(&w, INTER "serial-number: the serial number is negative (RFC 5280 4.1.2.2)",
                     X509_V_ERR_CERT_REJECTED);
}

static void serial_too_long(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.leaf, V_ASN1_INTEGER, "\1bcdefghijklmnopqrstu", 21);
    form_expect_rule(&w, LEAF "serial-number: the serial number has 21 octets, more than 20 (RFC 5280 4.1.2.2)",
                     X509_V_ERR_CERT_REJECTED);
}

/* 20 octets of magnitude with the first bit set are encoded as 21. */
static void serial_too_long_by_its_sign(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.leaf, V_ASN1_INTEGER, "\200bcdefghijklmnopqrst", 20);
    form_expect_rule(&w, LEAF "serial-number: the serial number has 21 octets, more than 20 (RFC 5280 4.1.2.2)",
                     X509_V_ERR_CERT_REJECTED);
}

static void serial_of_twenty_octets(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.leaf, V_ASN1_INTEGER, "\177bcdefghijklmnopqrst", 20);
    form_expect_good(&w);
}

/* The anchor is trusted as it is. */
static void serial_zero_of_the_root(void **state)
{
    WORLD(w);
    w.root_spec.serial = 0;
    form_begin(&w);
    form_expect_good(&w);
}

static void times_that_cannot_be_read(void **state)
{
    static const struct {
        int type;
        const char *text, *reason;
    } cases[] = {
        {V_ASN1_UTCTIME, "2701140800Z", "is not of the form YYMMDDHHMMSSZ (RFC 5280 4.1.2.5.1)"},
        {V_ASN1_UTCTIME, "270114080000+0000", "is not of the form YYMMDDHHMMSSZ (RFC 5280 4.1.2.5.1)"},
        {V_ASN1_UTCTIME, "270114080000", "is not of the form YYMMDDHHMMSSZ (RFC 5280 4.1.2.5.1)"},
        {V_ASN1_UTCTIME, "271314080000Z", "is not of the form YYMMDDHHMMSSZ (RFC 5280 4.1.2.5.1)"},
        {V_ASN1_GENERALIZEDTIME, "20270114080000.5Z", "is not of the form YYYYMMDDHHMMSSZ (RFC 5280 4.1.2.5.2)"},
        {V_ASN1_GENERALIZEDTIME, "202701140800Z", "is not of the form YYYYMMDDHHMMSSZ (RFC 5280 4.1.2.5.2)"},
        {V_ASN1_GENERALIZEDTIME, "20270114080000-0100", "is not of the form YYYYMMDDHHMMSSZ (RFC 5280 4.1.2.5.2)"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[200];
        WORLD(w);

        form_begin(&w);
        form_set_time(X509_getm_notBefore(w.leaf), cases[i].type, cases[i].text);
        (void)snprintf(text, sizeof(text), LEAF "validity: notBefore %s", cases[i].reason);
        form_expect_broken(&w, text, X509_V_ERR_CERT_REJECTED);
    }
}

static void not_after_that_cannot_be_read(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_time(X509_getm_notAfter(w.inter), V_ASN1_UTCTIME, "2801140800Z");
    form_expect_broken(&w, INTER "validity: notAfter is not of the form YYMMDDHHMMSSZ (RFC 5280 4.1.2.5.1)",
                       X509_V_ERR_CERT_REJECTED);
}

/* RFC 5280 4.1.2.5 obliges us to read it, and CAs not to write it. */
static void generalized_time_before_2050(void **state)
{
    struct verdict verdict;
    WORLD(w);

    form_begin(&w);
    form_set_time(X509_getm_notBefore(w.leaf), V_ASN1_GENERALIZEDTIME, "20270114080000Z");
    form_finish(&w);
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_int_equal(verdict.n_notes, 1);
    assert_string_equal(verdict.notes[0].check, "validity");
    assert_string_equal(verdict.notes[0].text, "notBefore before 2050 as GeneralizedTime instead of UTCTime");
    assert_string_equal(verdict.notes[0].reference, "RFC 5280 4.1.2.5");
    verdict_free(&verdict);
    world_free(&w);
}

static void no_end_of_validity(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_time(X509_getm_notAfter(w.leaf), V_ASN1_GENERALIZEDTIME, "99991231235959Z");
    form_expect_good(&w);
}

static void remove_extensions(X509 *certificate)
{
    while (X509_get_ext_count(certificate) > 0)
        X509_EXTENSION_free(X509_delete_ext(certificate, 0));
}

static void old_intermediate(long version, const char *text)
{
    void *unused = NULL, **state = &unused;
    WORLD(w);

    form_begin(&w);
    remove_extensions(w.inter);
    remove_extensions(w.leaf);
    assert_int_equal(X509_set_version(w.inter, version), 1);
    form_expect_broken(&w, text, X509_V_ERR_CERT_REJECTED);
}

static void version_1_ca(void **state)
{
    (void)state;
    old_intermediate(X509_VERSION_1, INTER "basic-constraints: of version 1, which cannot say that it is a CA "
                                           "(RFC 5280 6.1.4 (k))");
}

static void version_2_ca(void **state)
{
    (void)state;
    old_intermediate(X509_VERSION_2, INTER "basic-constraints: of version 2, which cannot say that it is a CA "
                                           "(RFC 5280 6.1.4 (k))");
}

static void version_1_with_extensions(void **state)
{
    WORLD(w);
    form_begin(&w);
    assert_int_equal(X509_set_version(w.leaf, X509_VERSION_1), 1);
    form_expect_rule(&w, LEAF "version: version 1 with extensions, which are of version 3 (RFC 5280 4.1.2.1)",
                     X509_V_ERR_CERT_REJECTED);
}

static void version_that_does_not_exist(void **state)
{
    WORLD(w);
    form_begin(&w);
    assert_int_equal(X509_set_version(w.leaf, 6), 1);
    form_expect_broken(&w, LEAF "version: version 7, which does not exist (RFC 5280 4.1.2.1)",
                       X509_V_ERR_CERT_REJECTED);
}

/* Nothing in a leaf of version 1 contradicts RFC 5280; it has no purpose either that could be refused. */
static void version_1_leaf(void **state)
{
    WORLD(w);
    form_begin(&w);
    remove_extensions(w.leaf);
    assert_int_equal(X509_set_version(w.leaf, X509_VERSION_1), 1);
    form_expect_good(&w);
}

static void empty_name(X509 *certificate, bool issuer)
{
    X509_NAME *name = X509_NAME_new();

    assert_int_equal(issuer ? X509_set_issuer_name(certificate, name) : X509_set_subject_name(certificate, name), 1);
    X509_NAME_free(name);
}

static void empty_subject(void **state)
{
    WORLD(w);
    form_begin(&w);
    empty_name(w.leaf, false);
    form_expect_rule(&w,
                     "certificate serial 03 (depth 0): names: an empty subject, but subjectAltName is not critical "
                     "(RFC 5280 4.1.2.6)",
                     X509_V_ERR_CERT_REJECTED);
}

static void empty_subject_without_other_names(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[2] = (struct pki_extension){"nsComment", "none"};
    form_begin(&w);
    empty_name(w.leaf, false);
    form_expect_rule(&w,
                     "certificate serial 03 (depth 0): names: neither a subject nor subjectAltName (RFC 5280 4.1.2.6)",
                     X509_V_ERR_CERT_REJECTED);
}

static void empty_subject_with_critical_names(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[2].value = "critical,DNS:a.example";
    form_begin(&w);
    empty_name(w.leaf, false);
    form_expect_good(&w);
}

static void empty_subject_of_a_ca(void **state)
{
    WORLD(w);
    form_begin(&w);
    empty_name(w.inter, false);
    empty_name(w.leaf, true);
    form_finish(&w);
    expect(&w, LEAF "names: an empty issuer (RFC 5280 4.1.2.4)", X509_V_ERR_CERT_REJECTED);
    world_free(&w);
}

static void path_length_without_ca(void **state)
{
    WORLD(w);
    form_begin(&w);
    /* SEQUENCE { INTEGER 0 } */
    form_set_extension(w.leaf, NID_basic_constraints, true, "\x30\x03\x02\x01\x00", 5);
    form_expect_rule(&w, LEAF "basic-constraints: a path length constraint, but it is not a CA (RFC 5280 4.2.1.9)",
                     X509_V_ERR_CERT_REJECTED);
}

static void certificate_signing_without_ca(void **state)
{
    WORLD(w);
    w.leaf_spec.extensions[0].value = "critical,digitalSignature,keyCertSign";
    form_begin(&w);
    form_expect_rule(&w,
                     LEAF "basic-constraints: it may sign certificates (keyCertSign), but it is not a CA "
                          "(RFC 5280 4.2.1.9)",
                     X509_V_ERR_CERT_REJECTED);
}

/* OpenSSL only says that it knows no issuer. */
static void ca_that_may_not_sign_certificates(void **state)
{
    WORLD(w);
    w.inter_spec.extensions[0].value = "critical,CA:TRUE";
    w.inter_spec.extensions[1].value = "critical,cRLSign";
    form_begin(&w);
    form_expect_broken(&w, INTER "key-usage: may not sign certificates (RFC 5280 6.1.4 (n))", X509_V_ERR_CERT_REJECTED);
}

static void root_that_may_not_sign_certificates(void **state)
{
    WORLD(w);
    w.root_spec.extensions[1].value = "critical,cRLSign";
    form_begin(&w);
    form_expect_broken(&w, "certificate CN=Root (depth 2): key-usage: may not sign certificates (RFC 5280 6.1.4 (n))",
                       X509_V_ERR_CERT_REJECTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untouched_is_good),
        cmocka_unit_test(serial_zero),
        cmocka_unit_test(serial_negative),
        cmocka_unit_test(serial_negative_of_the_intermediate),
        cmocka_unit_test(serial_too_long),
        cmocka_unit_test(serial_too_long_by_its_sign),
        cmocka_unit_test(serial_of_twenty_octets),
        cmocka_unit_test(serial_zero_of_the_root),
        cmocka_unit_test(times_that_cannot_be_read),
        cmocka_unit_test(not_after_that_cannot_be_read),
        cmocka_unit_test(generalized_time_before_2050),
        cmocka_unit_test(no_end_of_validity),
        cmocka_unit_test(version_1_ca),
        cmocka_unit_test(version_2_ca),
        cmocka_unit_test(version_1_with_extensions),
        cmocka_unit_test(version_that_does_not_exist),
        cmocka_unit_test(version_1_leaf),
        cmocka_unit_test(empty_subject),
        cmocka_unit_test(empty_subject_without_other_names),
        cmocka_unit_test(empty_subject_with_critical_names),
        cmocka_unit_test(empty_subject_of_a_ca),
        cmocka_unit_test(path_length_without_ca),
        cmocka_unit_test(certificate_signing_without_ca),
        cmocka_unit_test(ca_that_may_not_sign_certificates),
        cmocka_unit_test(root_that_may_not_sign_certificates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
