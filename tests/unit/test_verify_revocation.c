/* Revocation: revoked, missing, stale and foreign CRLs, deltas, and what required, prefer and off make of them. */
#include "verify_world.h"

static void revoked_leaf(void **state)
{
    WORLD(w);
    w.inter_crl_spec.revoked[0] = 99;
    w.inter_crl_spec.revoked[1] = 3;
    w.inter_crl_spec.reason = 1;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (keyCompromise) "
                      "by CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))",
                      X509_V_ERR_CERT_REVOKED);
}

static void revoked_intermediate(void **state)
{
    WORLD(w);
    w.root_crl_spec.revoked[0] = 2;
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): revocation: revoked since 2027-01-13T08:00:00Z "
                      "(unspecified) by CRL of CN=Root (RFC 5280 6.1.3 (a)(3))",
                      X509_V_ERR_CERT_REVOKED);
}

/* A file "intermediate, root" as trust must not make the intermediate an anchor that nobody checks. */
static void revoked_intermediate_in_the_trust_file(void **state)
{
    X509 *anchors[2];
    WORLD(w);

    w.root_crl_spec.revoked[0] = 2;
    w.root = pki_make(&w.root_spec);
    w.inter_spec.issuer = w.root;
    w.inter = pki_decoded(pki_make(&w.inter_spec));
    anchors[0] = w.inter;
    anchors[1] = w.root;
    w.request.trust = pki_trust(anchors, 2);
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): revocation: revoked since 2027-01-13T08:00:00Z "
                      "(unspecified) by CRL of CN=Root (RFC 5280 6.1.3 (a)(3))",
                      X509_V_ERR_CERT_REVOKED);
}

static void intermediate_alone_is_an_anchor(void **state)
{
    WORLD(w);
    w.no_root_crl = true;
    w.root = pki_make(&w.root_spec);
    w.inter_spec.issuer = w.root;
    w.inter = pki_decoded(pki_make(&w.inter_spec));
    w.request.trust = pki_trust(&w.inter, 1);
    build_expect_free(&w, "accepted", X509_V_OK);
}

static void missing_crl_of_the_intermediate(void **state)
{
    WORLD(w);
    w.no_inter_crl = true;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it "
                      "(RFC 5280 6.3.3)",
                      WORLD_STATUS_UNKNOWN);
}

static void missing_crl_of_the_root(void **state)
{
    WORLD(w);
    w.no_root_crl = true;
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): revocation: no CRL of CN=Root covers it "
                      "(RFC 5280 6.3.3)",
                      WORLD_STATUS_UNKNOWN);
}

static void no_crls_at_all(void **state)
{
    struct crl_snapshot *none;
    WORLD(w);

    world_build(&w);
    none = (struct crl_snapshot *)(uintptr_t)w.request.crls;
    w.request.crls = NULL;
    expect(&w, "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it (RFC 5280 6.3.3)",
           WORLD_STATUS_UNKNOWN);
    w.request.crls = none;
    world_free(&w);
}

static void expired_crl(void **state)
{
    WORLD(w);
    w.inter_crl_spec.this_update = PKI_NOW - 9 * PKI_DAY;
    w.inter_crl_spec.next_update = PKI_NOW - 1;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL of CN=Intermediate has expired, its "
                      "nextUpdate was 2027-01-15T07:59:59Z (RFC 5280 6.3.3 (a))",
                      WORLD_STATUS_UNKNOWN);
}

static void crl_not_yet_valid(void **state)
{
    WORLD(w);
    w.inter_crl_spec.this_update = PKI_NOW + 60;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL of CN=Intermediate is not valid before "
                      "2027-01-15T08:01:00Z (RFC 5280 5.1.2.4)",
                      WORLD_STATUS_UNKNOWN);
}

static void crl_without_next_update(void **state)
{
    WORLD(w);
    w.inter_crl_spec.next_update = -1;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL is not acceptable: without nextUpdate, so "
                      "nobody knows whether it is fresh (RFC 5280 6.3.3 (g))",
                      WORLD_STATUS_UNKNOWN);
}

static void crl_with_a_bad_signature(void **state)
{
    EVP_PKEY *key = pki_key();
    WORLD(w);

    w.inter_crl_spec.issuer_key = key;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL's signature is not its issuer's "
                      "(CRL of CN=Intermediate) (RFC 5280 6.3.3 (g))",
                      WORLD_STATUS_UNKNOWN);
    EVP_PKEY_free(key);
}

/* A namesake's newer CRL, which revokes serial 3 of its own, must not hide the right one nor count. */
static void crl_of_another_ca_with_the_same_name(void **state)
{
    EVP_PKEY *key = pki_key();
    struct pki_crl other;
    WORLD(w);

    world_build(&w);
    other = w.inter_crl_spec;
    other.issuer_key = key;
    other.this_update = PKI_NOW - 60;
    other.revoked[0] = 3;
    w.crls[w.n_crls++] = pki_make_crl(&other);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w.request.crls);
    w.request.crls = pki_snapshot(w.crls, w.n_crls);
    expect(&w, "accepted", X509_V_OK);
    world_free(&w);
    EVP_PKEY_free(key);
}

static void crl_signer_without_crl_sign(void **state)
{
    WORLD(w);
    w.inter_spec.extensions[1].value = "critical,keyCertSign";
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL's issuer may not sign CRLs "
                      "(CRL of CN=Intermediate) (RFC 5280 6.3.3 (f))",
                      WORLD_STATUS_UNKNOWN);
}

static void prefer_accepts_missing_data_with_a_note(void **state)
{
    struct verdict verdict;
    WORLD(w);

    w.request.revocation = CHAIN_REVOCATION_PREFER;
    w.no_inter_crl = true;
    world_build(&w);
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_int_equal(verdict.x509_error, X509_V_OK);
    assert_int_equal(verdict.n_notes, 1);
    assert_int_equal(verdict.notes[0].depth, 0);
    assert_string_equal(verdict.notes[0].subject, "CN=client");
    assert_string_equal(verdict.notes[0].check, "revocation");
    assert_string_equal(verdict.notes[0].text, "no CRL of CN=Intermediate covers it");
    verdict_free(&verdict);
    world_free(&w);
}

static void prefer_accepts_a_stale_crl(void **state)
{
    WORLD(w);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    w.inter_crl_spec.this_update = PKI_NOW - 9 * PKI_DAY;
    w.inter_crl_spec.next_update = PKI_NOW - 1;
    build_expect_free(&w, "accepted", X509_V_OK);
}

static void prefer_rejects_what_a_stale_crl_revokes(void **state)
{
    WORLD(w);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    w.inter_crl_spec.this_update = PKI_NOW - 9 * PKI_DAY;
    w.inter_crl_spec.next_update = PKI_NOW - 1;
    w.inter_crl_spec.revoked[0] = 3;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (unspecified) "
                      "by CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))",
                      X509_V_ERR_CERT_REVOKED);
}

static void off_asks_nobody(void **state)
{
    WORLD(w);
    w.request.revocation = CHAIN_REVOCATION_OFF;
    w.inter_crl_spec.revoked[0] = 3;
    build_expect_free(&w, "accepted", X509_V_OK);
}

static void delta_revokes(bool freshest, bool hold_released, const char *text, int error)
{
    struct pki_crl delta;
    struct world w;

    world_specs(&w);
    w.inter_crl_spec.extensions[0] = (struct pki_extension){"crlNumber", "DER:020101"};
    if (freshest)
        w.inter_crl_spec.extensions[1] = (struct pki_extension){"freshestCRL", "URI:http://crl.example/delta"};
    if (hold_released) {
        w.inter_crl_spec.revoked[0] = 3;
        w.inter_crl_spec.reason = 6;
    }
    world_build(&w);
    delta = w.inter_crl_spec;
    delta.this_update = PKI_NOW - 60;
    delta.revoked[0] = 3;
    delta.reason = hold_released ? 8 : 1;
    delta.extensions[0].value = "DER:020102";
    delta.extensions[1] = (struct pki_extension){"deltaCRL", "critical,DER:020101"};
    w.crls[w.n_crls++] = pki_make_crl(&delta);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w.request.crls);
    w.request.crls = pki_snapshot(w.crls, w.n_crls);
    expect(&w, text, error);
    world_free(&w);
}

static void delta_with_freshest_crl(void **state)
{
    (void)state;
    delta_revokes(true, false,
                  "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (keyCompromise) by "
                  "CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))",
                  X509_V_ERR_CERT_REVOKED);
}

static void delta_nobody_points_to(void **state)
{
    (void)state;
    delta_revokes(false, false,
                  "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (keyCompromise) by "
                  "CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))",
                  X509_V_ERR_CERT_REVOKED);
}

static void delta_releases_a_hold(void **state)
{
    (void)state;
    delta_revokes(true, true, "accepted", X509_V_OK);
}

/* Two deltas in one folder, and nobody points to them: the later one takes the client off hold. */
static void later_delta_releases_what_an_earlier_one_held(void **state)
{
    struct pki_crl delta;
    WORLD(w);

    w.inter_crl_spec.extensions[0] = (struct pki_extension){"crlNumber", "DER:020101"};
    world_build(&w);
    delta = w.inter_crl_spec;
    delta.this_update = PKI_NOW - 120;
    delta.revoked[0] = 3;
    delta.reason = 6;
    delta.extensions[0].value = "DER:020102";
    delta.extensions[1] = (struct pki_extension){"deltaCRL", "critical,DER:020101"};
    w.crls[w.n_crls++] = pki_make_crl(&delta);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w.request.crls);
    w.request.crls = pki_snapshot(w.crls, w.n_crls);
    expect(&w,
           "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (certificateHold) by "
           "CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))",
           X509_V_ERR_CERT_REVOKED);
    delta.this_update = PKI_NOW - 60;
    delta.reason = 8;
    delta.extensions[0].value = "DER:020103";
    w.crls[w.n_crls++] = pki_make_crl(&delta);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w.request.crls);
    w.request.crls = pki_snapshot(w.crls, w.n_crls);
    expect(&w, "accepted", X509_V_OK);
    world_free(&w);
}

/* A delta is no base: alone it does not answer for anything. */
static void delta_without_base(void **state)
{
    WORLD(w);
    w.inter_crl_spec.extensions[0] = (struct pki_extension){"crlNumber", "DER:020102"};
    w.inter_crl_spec.extensions[1] = (struct pki_extension){"deltaCRL", "critical,DER:020101"};
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it "
                      "(RFC 5280 6.3.3)",
                      WORLD_STATUS_UNKNOWN);
}

static void crl_for_ca_certificates_only(void **state)
{
    WORLD(w);
    w.inter_crl_spec.extensions[0] = (struct pki_extension){"issuingDistributionPoint", "critical,DER:30038201ff"};
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL is for other certificates (CRL of "
                      "CN=Intermediate) (RFC 5280 6.3.3 (b))",
                      WORLD_STATUS_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revoked_leaf),
        cmocka_unit_test(revoked_intermediate),
        cmocka_unit_test(revoked_intermediate_in_the_trust_file),
        cmocka_unit_test(intermediate_alone_is_an_anchor),
        cmocka_unit_test(missing_crl_of_the_intermediate),
        cmocka_unit_test(missing_crl_of_the_root),
        cmocka_unit_test(no_crls_at_all),
        cmocka_unit_test(expired_crl),
        cmocka_unit_test(crl_not_yet_valid),
        cmocka_unit_test(crl_without_next_update),
        cmocka_unit_test(crl_with_a_bad_signature),
        cmocka_unit_test(crl_of_another_ca_with_the_same_name),
        cmocka_unit_test(crl_signer_without_crl_sign),
        cmocka_unit_test(prefer_accepts_missing_data_with_a_note),
        cmocka_unit_test(prefer_accepts_a_stale_crl),
        cmocka_unit_test(prefer_rejects_what_a_stale_crl_revokes),
        cmocka_unit_test(off_asks_nobody),
        cmocka_unit_test(delta_with_freshest_crl),
        cmocka_unit_test(delta_nobody_points_to),
        cmocka_unit_test(delta_releases_a_hold),
        cmocka_unit_test(later_delta_releases_what_an_earlier_one_held),
        cmocka_unit_test(delta_without_base),
        cmocka_unit_test(crl_for_ca_certificates_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
