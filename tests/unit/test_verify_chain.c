/* Verdicts over a PKI of three levels: which certificate, which check, which words, which error for libssl. */
#include "verify_pki.h"

#include <openssl/rsa.h>
#include <openssl/x509_vfy.h>

/* Unmapped by libssl, so that the alert is certificate_unknown. */
#define STATUS_UNKNOWN X509_V_ERR_CRL_PATH_VALIDATION_ERROR

struct world {
    struct pki_certificate root_spec, inter_spec, leaf_spec;
    struct pki_crl root_crl_spec, inter_crl_spec;
    EVP_PKEY *root_key, *inter_key, *leaf_key;
    X509 *root, *inter, *leaf;
    X509_CRL *crls[8];
    size_t n_crls;
    bool no_root_crl, no_inter_crl;
    struct chain_request request;
};

static void world_specs(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->root_key = pki_key();
    w->inter_key = pki_key();
    w->leaf_key = pki_key();
    w->root_spec = (struct pki_certificate){.cn = "Root",
                                            .key = w->root_key,
                                            .serial = 1,
                                            .extensions = {{"basicConstraints", "critical,CA:TRUE"},
                                                           {"keyUsage", "critical,keyCertSign,cRLSign"},
                                                           {"subjectKeyIdentifier", "hash"}}};
    w->inter_spec = (struct pki_certificate){.cn = "Intermediate",
                                             .key = w->inter_key,
                                             .issuer_key = w->root_key,
                                             .serial = 2,
                                             .extensions = {{"basicConstraints", "critical,CA:TRUE,pathlen:0"},
                                                            {"keyUsage", "critical,keyCertSign,cRLSign"},
                                                            {"subjectKeyIdentifier", "hash"},
                                                            {"authorityKeyIdentifier", "keyid"}}};
    w->leaf_spec = (struct pki_certificate){
        .cn = "client",
        .key = w->leaf_key,
        .issuer_key = w->inter_key,
        .serial = 3,
        .extensions = {{"keyUsage", "critical,digitalSignature"},
                       {"extendedKeyUsage", "clientAuth"},
                       {"subjectAltName", "DNS:a.example,DNS:*.w.example,DNS:p*.x.example,IP:192.0.2.7,IP:2001:db8::7"},
                       {"authorityKeyIdentifier", "keyid"}}};
    w->request = (struct chain_request){.time = PKI_NOW,
                                        .depth = CHAIN_DEPTH_DEFAULT,
                                        .purpose = CHAIN_PURPOSE_CLIENT,
                                        .revocation = CHAIN_REVOCATION_REQUIRED};
}

/* From the specifications, as far as a test has not set things itself. */
static void world_build(struct world *w)
{
    STACK_OF(X509) *untrusted = sk_X509_new_null();

    w->root = w->root != NULL ? w->root : pki_make(&w->root_spec);
    w->inter_spec.issuer = w->root;
    w->inter = w->inter != NULL ? w->inter : pki_decoded(pki_make(&w->inter_spec));
    w->leaf_spec.issuer = w->leaf_spec.issuer != NULL ? w->leaf_spec.issuer : w->inter;
    w->leaf = w->leaf != NULL ? w->leaf : pki_decoded(pki_make(&w->leaf_spec));
    w->root_crl_spec.issuer = w->root;
    w->root_crl_spec.issuer_key = w->root_crl_spec.issuer_key ? w->root_crl_spec.issuer_key : w->root_key;
    w->inter_crl_spec.issuer = w->inter;
    w->inter_crl_spec.issuer_key = w->inter_crl_spec.issuer_key ? w->inter_crl_spec.issuer_key : w->inter_key;
    if (!w->no_root_crl)
        w->crls[w->n_crls++] = pki_make_crl(&w->root_crl_spec);
    if (!w->no_inter_crl)
        w->crls[w->n_crls++] = pki_make_crl(&w->inter_crl_spec);
    assert_true(sk_X509_push(untrusted, w->inter) > 0);
    w->request.leaf = w->leaf;
    w->request.untrusted = untrusted;
    if (w->request.trust == NULL)
        w->request.trust = pki_trust(&w->root, 1);
    w->request.crls = pki_snapshot(w->crls, w->n_crls);
}

static void world_free(struct world *w)
{
    for (size_t i = 0; i < w->n_crls; i++)
        X509_CRL_free(w->crls[i]);
    sk_X509_free(w->request.untrusted);
    trust_free((struct trust *)(uintptr_t)w->request.trust);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w->request.crls);
    X509_free(w->root);
    X509_free(w->inter);
    X509_free(w->leaf);
    EVP_PKEY_free(w->root_key);
    EVP_PKEY_free(w->inter_key);
    EVP_PKEY_free(w->leaf_key);
}

/* The request of a built world gives this verdict; `text` is verdict_describe()'s. */
static void expect(struct world *w, const char *text, int x509_error)
{
    struct verdict verdict;
    char line[1024];

    chain_verify(&w->request, &verdict);
    assert_string_equal(verdict_describe(&verdict, line, sizeof(line)), text);
    assert_int_equal(verdict.x509_error, x509_error);
    assert_int_equal(verdict.accepted, strcmp(text, "accepted") == 0);
    if (verdict.accepted)
        assert_int_equal(verdict.x509_error, X509_V_OK);
    verdict_free(&verdict);
}

static void build_expect_free(struct world *w, const char *text, int x509_error)
{
    world_build(w);
    expect(w, text, x509_error);
    world_free(w);
}

#define WORLD(w)                                                                                                       \
    struct world w;                                                                                                    \
    (void)state;                                                                                                       \
    world_specs(&w)

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

static void missing_crl_of_the_intermediate(void **state)
{
    WORLD(w);
    w.no_inter_crl = true;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it "
                      "(RFC 5280 6.3.3)",
                      STATUS_UNKNOWN);
}

static void missing_crl_of_the_root(void **state)
{
    WORLD(w);
    w.no_root_crl = true;
    build_expect_free(&w,
                      "certificate CN=Intermediate (depth 1): revocation: no CRL of CN=Root covers it "
                      "(RFC 5280 6.3.3)",
                      STATUS_UNKNOWN);
}

static void no_crls_at_all(void **state)
{
    struct crl_snapshot *none;
    WORLD(w);

    world_build(&w);
    none = (struct crl_snapshot *)(uintptr_t)w.request.crls;
    w.request.crls = NULL;
    expect(&w, "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it (RFC 5280 6.3.3)",
           STATUS_UNKNOWN);
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
                      STATUS_UNKNOWN);
}

static void crl_not_yet_valid(void **state)
{
    WORLD(w);
    w.inter_crl_spec.this_update = PKI_NOW + 60;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL of CN=Intermediate is not valid before "
                      "2027-01-15T08:01:00Z (RFC 5280 5.1.2.4)",
                      STATUS_UNKNOWN);
}

static void crl_without_next_update(void **state)
{
    WORLD(w);
    w.inter_crl_spec.next_update = -1;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL is not acceptable: without nextUpdate, so "
                      "nobody knows whether it is fresh (RFC 5280 6.3.3 (g))",
                      STATUS_UNKNOWN);
}

static void crl_with_a_bad_signature(void **state)
{
    EVP_PKEY *key = pki_key();
    WORLD(w);

    w.inter_crl_spec.issuer_key = key;
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL's signature is not its issuer's "
                      "(CRL of CN=Intermediate) (RFC 5280 6.3.3 (g))",
                      STATUS_UNKNOWN);
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
                      STATUS_UNKNOWN);
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

/* A delta is no base: alone it does not answer for anything. */
static void delta_without_base(void **state)
{
    WORLD(w);
    w.inter_crl_spec.extensions[0] = (struct pki_extension){"crlNumber", "DER:020102"};
    w.inter_crl_spec.extensions[1] = (struct pki_extension){"deltaCRL", "critical,DER:020101"};
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it "
                      "(RFC 5280 6.3.3)",
                      STATUS_UNKNOWN);
}

static void crl_for_ca_certificates_only(void **state)
{
    WORLD(w);
    w.inter_crl_spec.extensions[0] = (struct pki_extension){"issuingDistributionPoint", "critical,DER:30038201ff"};
    build_expect_free(&w,
                      "certificate CN=client (depth 0): revocation: the CRL is for other certificates (CRL of "
                      "CN=Intermediate) (RFC 5280 6.3.3 (b))",
                      STATUS_UNKNOWN);
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
           STATUS_UNKNOWN);
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
    build_expect_free(&w,
                      "certificate CN=client (depth 0): extensions: unknown critical extension (RFC 5280 6.1.4 (o))",
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
        cmocka_unit_test(revoked_leaf),
        cmocka_unit_test(revoked_intermediate),
        cmocka_unit_test(revoked_intermediate_in_the_trust_file),
        cmocka_unit_test(intermediate_alone_is_an_anchor),
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
        cmocka_unit_test(delta_without_base),
        cmocka_unit_test(crl_for_ca_certificates_only),
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
