/* An indirect CRL revokes although the CA's own CRL covers the certificate and calls it good. */
#include "verify_world.h"

#define INDIRECT_SCOPE "critical,DER:30038401ff"
#define REVOKED                                                                                                        \
    "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (keyCompromise) by CRL of "       \
    "CN=CRL issuer (RFC 5280 6.1.3 (a)(3))"

/* A CRL issuer besides the world's CAs. */
struct signer {
    EVP_PKEY *key;
    X509 *certificate;
    struct pki_certificate spec;
    struct pki_crl crl;
};

static void make_specs(struct world *w, struct signer *s)
{
    world_specs(w);
    w->root = pki_make(&w->root_spec);
    *s = (struct signer){.key = pki_key()};
    s->spec = (struct pki_certificate){.cn = "CRL issuer",
                                       .key = s->key,
                                       .issuer = w->root,
                                       .issuer_key = w->root_key,
                                       .serial = 9,
                                       .extensions = {{"keyUsage", "critical,cRLSign"},
                                                      {"basicConstraints", "critical,CA:FALSE"},
                                                      {"subjectKeyIdentifier", "hash"},
                                                      {"authorityKeyIdentifier", "keyid"}}};
    s->crl = (struct pki_crl){.issuer_key = s->key,
                              .revoked = {3},
                              .reason = 1,
                              .extensions = {{"authorityKeyIdentifier", "keyid"},
                                             {"issuingDistributionPoint", INDIRECT_SCOPE},
                                             {"crlNumber", "DER:020101"}}};
}

static void add_crl(struct world *w, const struct pki_crl *spec)
{
    w->crls[w->n_crls++] = pki_make_crl(spec);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w->request.crls);
    w->request.crls = pki_snapshot(w->crls, w->n_crls);
}

/* The world, with the CRL issuer's certificate among those of the trust file. */
static void build(struct world *w, struct signer *s)
{
    X509 *trusted[2];

    s->certificate = pki_decoded(pki_make(&s->spec));
    trusted[0] = w->root;
    trusted[1] = s->certificate;
    w->request.trust = pki_trust(trusted, 2);
    world_build(w);
    s->crl.issuer = s->certificate;
    s->crl.owner = s->crl.owner != NULL ? s->crl.owner : w->inter;
    add_crl(w, &s->crl);
}

static void clear(struct world *w, struct signer *s)
{
    world_free(w);
    X509_free(s->certificate);
    EVP_PKEY_free(s->key);
}

static void build_expect_clear(struct world *w, struct signer *s, const char *text)
{
    build(w, s);
    expect(w, text, strcmp(text, "accepted") == 0 ? X509_V_OK : X509_V_ERR_CERT_REVOKED);
    clear(w, s);
}

static void nobody_points_to_it(void **state)
{
    struct world w;
    struct signer s;

    (void)state;
    make_specs(&w, &s);
    build(&w, &s);
    expect(&w, REVOKED, X509_V_ERR_CERT_REVOKED);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    expect(&w, REVOKED, X509_V_ERR_CERT_REVOKED);
    w.request.policy = CHAIN_POLICY_LEGACY;
    expect(&w, REVOKED, X509_V_ERR_CERT_REVOKED);
    w.request.revocation = CHAIN_REVOCATION_OFF;
    expect(&w, "accepted", X509_V_OK);
    clear(&w, &s);
}

/* The certificate names both: where the CA's CRL is, and who else says something. */
static void the_certificate_points_to_it(void **state)
{
    static const char points[] = /* URI:http://c; URI:http://d of cRLIssuer CN=CRL issuer */
        "DER:303b300ea00ca00a8608687474703a2f2f633029a00ca00a860868747470"
        "3a2f2f64a219a41730153113301106035504030c0a43524c20697373756572";
    struct world w;
    struct signer s;

    (void)state;
    make_specs(&w, &s);
    w.leaf_spec.extensions[4] = (struct pki_extension){"crlDistributionPoints", points};
    build_expect_clear(&w, &s, REVOKED);
}

static void others_are_not_meant(void **state)
{
    struct world w;
    struct signer s;

    (void)state;
    make_specs(&w, &s);
    s.crl.revoked[0] = 4; /* another serial number */
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    s.crl.owner = w.root; /* the root's certificate with the serial number of the leaf */
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    s.crl.this_update = PKI_NOW + 60; /* it does not hold yet */
    build_expect_clear(&w, &s, "accepted");
}

static void late_it_revokes_still(void **state)
{
    struct world w;
    struct signer s;

    (void)state;
    make_specs(&w, &s);
    s.crl.this_update = PKI_NOW - 9 * PKI_DAY;
    s.crl.next_update = PKI_NOW - PKI_DAY;
    build_expect_clear(&w, &s, REVOKED);
}

static void it_revokes_the_intermediate(void **state)
{
    struct world w;
    struct signer s;

    (void)state;
    make_specs(&w, &s);
    s.crl.revoked[0] = 2;
    s.crl.owner = w.root;
    build_expect_clear(&w, &s,
                       "certificate CN=Intermediate (depth 1): revocation: revoked since 2027-01-13T08:00:00Z "
                       "(keyCompromise) by CRL of CN=CRL issuer (RFC 5280 6.1.3 (a)(3))");
}

/* Whoever is not proven cannot shut anybody out. */
static void its_signer_must_be_valid(void **state)
{
    struct world w;
    struct signer s;
    EVP_PKEY *stranger = pki_key();

    (void)state;
    make_specs(&w, &s);
    s.crl.issuer_key = stranger; /* the signature is another's */
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    s.spec.issuer_key = stranger; /* its certificate is forged */
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    s.spec.extensions[0].value = "critical,digitalSignature";
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    s.spec.not_before = PKI_NOW - 9 * PKI_DAY;
    s.spec.not_after = PKI_NOW - PKI_DAY;
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    w.root_crl_spec.revoked[0] = 9;
    build_expect_clear(&w, &s, "accepted");
    make_specs(&w, &s);
    s.spec.issuer = NULL; /* another anchor: self-signed, and trusted for itself */
    s.spec.issuer_key = NULL;
    s.spec.extensions[1].value = "critical,CA:TRUE";
    s.spec.extensions[0].value = "critical,keyCertSign,cRLSign";
    s.spec.extensions[3].name = NULL;
    build_expect_clear(&w, &s, "accepted");
    EVP_PKEY_free(stranger);
}

/* Two CRL issuers that revoke each other: neither is asked about the other, and there is an end. */
static void two_that_revoke_each_other(void **state)
{
    struct world w;
    struct signer s;
    struct pki_crl self;

    (void)state;
    make_specs(&w, &s);
    build(&w, &s);
    self = s.crl;
    self.revoked[0] = 9;
    self.owner = w.root;
    self.extensions[2].value = "DER:020102";
    add_crl(&w, &self);
    expect(&w, REVOKED, X509_V_ERR_CERT_REVOKED);
    clear(&w, &s);
}

static void a_delta_of_it_lifts_a_hold(void **state)
{
    static const char hold[] =
        "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (certificateHold) by CRL of "
        "CN=CRL issuer (RFC 5280 6.1.3 (a)(3))";
    struct world w;
    struct signer s;
    EVP_PKEY *stranger = pki_key();

    (void)state;
    make_specs(&w, &s);
    s.crl.reason = 6;
    build(&w, &s);
    expect(&w, hold, X509_V_ERR_CERT_REVOKED);
    s.crl.this_update = PKI_NOW - 60;
    s.crl.reason = 8;
    s.crl.extensions[2].value = "DER:020102";
    s.crl.extensions[3] = (struct pki_extension){"deltaCRL", "critical,DER:020101"};
    s.crl.issuer_key = stranger;
    add_crl(&w, &s.crl);
    expect(&w, hold, X509_V_ERR_CERT_REVOKED);
    s.crl.issuer_key = s.key;
    add_crl(&w, &s.crl);
    expect(&w, "accepted", X509_V_OK);
    clear(&w, &s);
    EVP_PKEY_free(stranger);
}

static void a_later_list_lifts_it(void **state)
{
    struct world w;
    struct signer s;

    (void)state;
    make_specs(&w, &s);
    build(&w, &s);
    s.crl.this_update = PKI_NOW - 60;
    s.crl.revoked[0] = 77;
    s.crl.extensions[2].value = "DER:020102";
    add_crl(&w, &s.crl);
    expect(&w, "accepted", X509_V_OK);
    clear(&w, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_points_to_it),         cmocka_unit_test(the_certificate_points_to_it),
        cmocka_unit_test(others_are_not_meant),        cmocka_unit_test(late_it_revokes_still),
        cmocka_unit_test(it_revokes_the_intermediate), cmocka_unit_test(its_signer_must_be_valid),
        cmocka_unit_test(two_that_revoke_each_other),  cmocka_unit_test(a_delta_of_it_lifts_a_hold),
        cmocka_unit_test(a_later_list_lifts_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
