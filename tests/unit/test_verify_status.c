/* OCSP and CRLs together in chain_verify(): sources, order, required and prefer, stapling, pins. */
#include "ocsp_make.h"

#include "tls/verify/pin.h"

#include <stdio.h>
#include <unistd.h>

#define INTER_CRL_MISSING "certificate CN=client (depth 0): revocation: no CRL of CN=Intermediate covers it"

struct answers {
    uint8_t *der[2];
    struct chain_response responses[2];
};

/* Responses about leaf and intermediate with this status; negative: none. */
static void answer(struct world *w, struct answers *a, int leaf, int inter)
{
    struct ocsp_make about_leaf = {
        .issuer = w->inter, .signer_key = w->inter_key, .answers = {{.certificate = w->leaf, .status = leaf}}};
    struct ocsp_make about_inter = {
        .issuer = w->root, .signer_key = w->root_key, .answers = {{.certificate = w->inter, .status = inter}}};

    *a = (struct answers){0};
    w->request.responses = a->responses;
    w->request.n_responses = 0;
    if (leaf >= 0) {
        a->responses[w->request.n_responses].length = ocsp_make(&about_leaf, &a->der[0]);
        a->responses[w->request.n_responses++].der = a->der[0];
    }
    if (inter >= 0) {
        a->responses[w->request.n_responses].length = ocsp_make(&about_inter, &a->der[1]);
        a->responses[w->request.n_responses++].der = a->der[1];
    }
}

static void done(struct world *w, struct answers *a)
{
    OPENSSL_free(a->der[0]);
    OPENSSL_free(a->der[1]);
    world_free(w);
}

#define GOOD V_OCSP_CERTSTATUS_GOOD
#define REVOKED V_OCSP_CERTSTATUS_REVOKED
#define UNKNOWN V_OCSP_CERTSTATUS_UNKNOWN

static uint64_t unanswered(struct world *w)
{
    struct verdict verdict;

    chain_verify(&w->request, &verdict);
    verdict_free(&verdict);
    return verdict.unanswered;
}

static void ocsp_instead_of_crls(void **state)
{
    struct answers a;
    struct verdict verdict;
    WORLD(w);

    w.no_root_crl = w.no_inter_crl = true;
    world_build(&w);
    assert_int_equal(unanswered(&w), 3);
    answer(&w, &a, GOOD, GOOD);
    expect(&w, "accepted", X509_V_OK);
    chain_verify(&w.request, &verdict);
    assert_int_equal(verdict.n_notes, 0);
    assert_int_equal(verdict.unanswered, 0);
    assert_int_equal(verdict.n_ocsps, 2);
    assert_int_equal(verdict.ocsps[0].depth, 0);
    assert_string_equal(verdict.ocsps[0].status, "good");
    assert_string_equal(verdict.ocsps[0].responder, "CN=Intermediate");
    assert_int_equal(verdict.ocsps[1].depth, 1);
    assert_true(verdict_passed(&verdict, 0, VERDICT_REVOCATION));
    assert_true(verdict_passed(&verdict, 1, VERDICT_REVOCATION));
    verdict_free(&verdict);
    w.request.order = CHAIN_ORDER_OCSP;
    expect(&w, "accepted", X509_V_OK);
    w.request.order = CHAIN_ORDER_CRL;
    expect(&w, INTER_CRL_MISSING " (RFC 5280 6.3.3)", WORLD_STATUS_UNKNOWN);
    done(&w, &a);
}

static void each_certificate_needs_an_answer(void **state)
{
    struct answers a;
    WORLD(w);

    w.no_root_crl = w.no_inter_crl = true;
    world_build(&w);
    answer(&w, &a, GOOD, -1);
    expect(&w, "certificate CN=Intermediate (depth 1): revocation: no CRL of CN=Root covers it (RFC 5280 6.3.3)",
           WORLD_STATUS_UNKNOWN);
    assert_int_equal(unanswered(&w), 2);
    w.request.order = CHAIN_ORDER_OCSP;
    expect(&w, "certificate CN=Intermediate (depth 1): revocation: no OCSP response about it (RFC 6960 3.2)",
           WORLD_STATUS_UNKNOWN);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    expect(&w, "accepted", X509_V_OK);
    done(&w, &a);
}

static void any_source_that_says_revoked_rejects(void **state)
{
    static const char by_ocsp[] = "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z "
                                  "(unspecified) by OCSP response of CN=Intermediate (RFC 6960 2.2)";
    static const char by_crl[] = "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z "
                                 "(unspecified) by CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))";
    struct answers a;
    WORLD(w);

    world_build(&w);
    answer(&w, &a, REVOKED, GOOD);
    for (enum chain_order order = CHAIN_ORDER_OCSP_CRL; order <= CHAIN_ORDER_OCSP; order++) {
        w.request.order = order;
        w.request.revocation = CHAIN_REVOCATION_REQUIRED;
        expect(&w, by_ocsp, X509_V_ERR_CERT_REVOKED);
        w.request.revocation = CHAIN_REVOCATION_PREFER;
        expect(&w, by_ocsp, X509_V_ERR_CERT_REVOKED);
    }
    w.request.order = CHAIN_ORDER_CRL;
    expect(&w, "accepted", X509_V_OK);
    w.request.order = CHAIN_ORDER_OCSP_CRL;
    w.request.revocation = CHAIN_REVOCATION_OFF;
    expect(&w, "accepted", X509_V_OK);
    done(&w, &a);

    world_specs(&w);
    w.inter_crl_spec.revoked[0] = 3;
    world_build(&w);
    answer(&w, &a, GOOD, GOOD);
    expect(&w, by_crl, X509_V_ERR_CERT_REVOKED);
    w.request.order = CHAIN_ORDER_CRL_OCSP;
    expect(&w, by_crl, X509_V_ERR_CERT_REVOKED);
    done(&w, &a);
}

static void revoked_intermediate(void **state)
{
    struct answers a;
    WORLD(w);

    world_build(&w);
    answer(&w, &a, GOOD, REVOKED);
    expect(&w,
           "certificate CN=Intermediate (depth 1): revocation: revoked since 2027-01-13T08:00:00Z (unspecified) by "
           "OCSP response of CN=Root (RFC 6960 2.2)",
           X509_V_ERR_CERT_REVOKED);
    done(&w, &a);
}

/* The responder has answered, and it was not "good": that is not missing data. */
static void unknown_is_not_good(void **state)
{
    struct answers a;
    WORLD(w);

    w.no_inter_crl = true;
    world_build(&w);
    answer(&w, &a, UNKNOWN, -1);
    expect(&w, INTER_CRL_MISSING "; OCSP: the responder CN=Intermediate does not know the certificate (RFC 5280 6.3.3)",
           WORLD_STATUS_UNKNOWN);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    expect(&w, INTER_CRL_MISSING "; OCSP: the responder CN=Intermediate does not know the certificate (RFC 5280 6.3.3)",
           WORLD_STATUS_UNKNOWN);
    w.request.order = CHAIN_ORDER_OCSP;
    expect(&w,
           "certificate CN=client (depth 0): revocation: the responder CN=Intermediate does not know the certificate "
           "(RFC 6960 3.2)",
           WORLD_STATUS_UNKNOWN);
    done(&w, &a);
}

/* Another source may know better. */
static void unknown_but_a_crl_covers_it(void **state)
{
    struct answers a;
    WORLD(w);

    world_build(&w);
    answer(&w, &a, UNKNOWN, -1);
    expect(&w, "accepted", X509_V_OK);
    done(&w, &a);
}

static void who_is_to_be_asked(void **state)
{
    struct answers a;
    WORLD(w);

    w.no_inter_crl = true;
    world_build(&w);
    w.request.order = CHAIN_ORDER_OCSP_CRL;
    assert_int_equal(unanswered(&w), 3);
    w.request.order = CHAIN_ORDER_CRL_OCSP;
    assert_int_equal(unanswered(&w), 1);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    assert_int_equal(unanswered(&w), 1);
    w.request.order = CHAIN_ORDER_CRL;
    assert_int_equal(unanswered(&w), 0);
    w.request.order = CHAIN_ORDER_OCSP_CRL;
    w.request.revocation = CHAIN_REVOCATION_OFF;
    assert_int_equal(unanswered(&w), 0);
    answer(&w, &a, -1, -1);
    done(&w, &a);
}

/* Nobody is asked on behalf of a stranger: no path to an anchor, no question. */
static void strangers_ask_nobody(void **state)
{
    EVP_PKEY *key = pki_key();
    WORLD(w);

    w.no_root_crl = w.no_inter_crl = true;
    w.leaf_spec.issuer_key = key; /* forged: the name is right, the signature is not */
    world_build(&w);
    assert_int_equal(unanswered(&w), 0);
    world_free(&w);
    EVP_PKEY_free(key);
}

static void stale_answer(void **state)
{
    struct answers a = {0};
    struct ocsp_make spec;
    WORLD(w);

    w.no_inter_crl = true;
    world_build(&w);
    spec = (struct ocsp_make){
        .issuer = w.inter,
        .signer_key = w.inter_key,
        .answers = {{.certificate = w.leaf, .this_update = PKI_NOW - 9 * PKI_DAY, .next_update = PKI_NOW - PKI_DAY}}};
    a.responses[0].length = ocsp_make(&spec, &a.der[0]);
    a.responses[0].der = a.der[0];
    w.request.responses = a.responses;
    w.request.n_responses = 1;
    expect(&w, INTER_CRL_MISSING "; OCSP: it has expired, its nextUpdate was 2027-01-14T08:00:00Z (RFC 5280 6.3.3)",
           WORLD_STATUS_UNKNOWN);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    expect(&w, "accepted", X509_V_OK);
    done(&w, &a);
}

static void must_staple_leaf(struct world *w)
{
    world_specs(w);
    w->leaf_spec.extensions[4] = (struct pki_extension){"tlsfeature", "status_request"};
    world_build(w);
}

#define STAPLING "certificate CN=client (depth 0): stapling: it demands a stapled OCSP response (must-staple)"

static void must_staple(void **state)
{
    struct answers a;
    struct verdict verdict;
    struct world w;

    (void)state;
    must_staple_leaf(&w);
    answer(&w, &a, GOOD, -1);
    w.request.n_responses = 0;
    expect(&w, "accepted", X509_V_OK); /* nobody asked for a staple: RFC 7633 does not apply */
    w.request.stapling = CHAIN_STAPLING_ASKED;
    expect(&w, STAPLING ", and none was sent (RFC 7633 4.2.3)", WORLD_STATUS_UNKNOWN);
    w.request.revocation = CHAIN_REVOCATION_OFF;
    expect(&w, STAPLING ", and none was sent (RFC 7633 4.2.3)", WORLD_STATUS_UNKNOWN);
    w.request.revocation = CHAIN_REVOCATION_REQUIRED;
    w.request.staple = a.responses[0];
    expect(&w, "accepted", X509_V_OK);
    w.request.staple.length--;
    expect(&w, STAPLING ", but: the OCSP response cannot be read (RFC 7633 4.2.3)", WORLD_STATUS_UNKNOWN);
    w.request.staple.length = 0;
    w.request.stapling = CHAIN_STAPLING_PENDING;
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_true(verdict.staple_pending);
    verdict_free(&verdict);
    done(&w, &a);
}

static void stapled(void **state)
{
    struct answers a;
    struct verdict verdict;
    WORLD(w);

    w.no_inter_crl = true;
    world_build(&w);
    w.request.stapling = CHAIN_STAPLING_PENDING;
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_true(verdict.staple_pending);
    verdict_free(&verdict);
    w.request.stapling = CHAIN_STAPLING_ASKED;
    expect(&w, INTER_CRL_MISSING " (RFC 5280 6.3.3)", WORLD_STATUS_UNKNOWN);
    answer(&w, &a, GOOD, -1);
    w.request.n_responses = 0;
    w.request.staple = a.responses[0];
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_int_equal(verdict.n_ocsps, 1);
    assert_true(verdict.ocsps[0].stapled);
    verdict_free(&verdict);
    done(&w, &a);

    world_specs(&w);
    world_build(&w);
    answer(&w, &a, REVOKED, -1);
    w.request.n_responses = 0;
    w.request.staple = a.responses[0];
    w.request.stapling = CHAIN_STAPLING_ASKED;
    expect(&w,
           "certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (unspecified) by OCSP "
           "response of CN=Intermediate (RFC 6960 2.2)",
           X509_V_ERR_CERT_REVOKED);
    /* with a CRL that covers it, nothing is open while the staple is on its way */
    w.request.staple.length = 0;
    w.request.stapling = CHAIN_STAPLING_PENDING;
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    assert_false(verdict.staple_pending);
    verdict_free(&verdict);
    done(&w, &a);
}

/* Another certificate's good answer, replayed. */
static void stapled_answer_about_another(void **state)
{
    struct answers a;
    WORLD(w);

    w.no_inter_crl = true;
    world_build(&w);
    answer(&w, &a, -1, GOOD);
    w.request.n_responses = 0;
    w.request.staple = a.responses[0];
    w.request.stapling = CHAIN_STAPLING_ASKED;
    expect(&w, INTER_CRL_MISSING "; OCSP: the OCSP response is about another certificate (RFC 5280 6.3.3)",
           WORLD_STATUS_UNKNOWN);
    done(&w, &a);
}

static void orders(void **state)
{
    const char *const both[] = {"crl", "ocsp"}, *const twice[] = {"crl", "crl"}, *const other[] = {"CRL"};
    enum chain_order order = CHAIN_ORDER_OCSP_CRL;

    (void)state;
    assert_true(chain_parse_order(both, 2, &order));
    assert_int_equal(order, CHAIN_ORDER_CRL_OCSP);
    assert_true(chain_parse_order(both, 1, &order));
    assert_int_equal(order, CHAIN_ORDER_CRL);
    assert_true(chain_parse_order(both + 1, 1, &order));
    assert_int_equal(order, CHAIN_ORDER_OCSP);
    assert_false(chain_parse_order(twice, 2, &order));
    assert_false(chain_parse_order(other, 1, &order));
    assert_false(chain_parse_order(both, 0, &order));
    assert_int_equal(order, CHAIN_ORDER_OCSP);
}

#define NOT_PINNED                                                                                                     \
    "certificate CN=client (depth 0): pin: neither it nor a certificate above it has one of the pinned keys "          \
    "(RFC 7469 2.6)"

static void pinned_keys(void **state)
{
    uint8_t pins[2][CHAIN_SPKI_LENGTH] = {{1}, {2}};
    X509 *path[3];
    WORLD(w);

    world_build(&w);
    w.request.spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])pins;
    w.request.n_spkis = 2;
    expect(&w, NOT_PINNED, X509_V_ERR_CERT_REJECTED);
    path[0] = w.leaf;
    path[1] = w.inter;
    path[2] = w.root;
    for (int i = 0; i < 3; i++) {
        assert_true(pin_of(path[i], NULL, pins[1]));
        expect(&w, "accepted", X509_V_OK);
    }
    /* a pin replaces nothing: the chain must be good as well */
    w.request.time = PKI_NOW + 4000 * PKI_DAY;
    expect(&w,
           "certificate CN=Root (depth 2): validity: expired, not valid after 2028-01-15T08:00:00Z (RFC 5280 6.1.3 "
           "(a)(2))",
           X509_V_ERR_CERT_HAS_EXPIRED);
    world_free(&w);
}

static void pins_as_text(void **state)
{
    uint8_t pin[CHAIN_SPKI_LENGTH];
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(pin_parse("sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", pin, &err), ERROR_NONE);
    for (uint8_t i = 0; i < CHAIN_SPKI_LENGTH; i++)
        assert_int_equal(pin[i], i);
    assert_int_equal(pin_parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", pin, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "does not begin with sha256//"));
    assert_int_equal(pin_parse("sha256//AAEC", pin, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "44 characters"));
    assert_int_equal(pin_parse("sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8A", pin, &err), ERROR_CONFIG);
    assert_int_equal(pin_parse("sha256//AAECAwQFBgcICQoLDA0OD AREhMUFRYXGBkaGxwdHh8=", pin, &err), ERROR_CONFIG);
}

static void write_certificates(char path[], X509 *const *certificates, size_t n)
{
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");

    for (size_t i = 0; i < n; i++)
        assert_int_equal(i2d_X509_fp(file, certificates[i]), 1);
    assert_int_equal(fclose(file), 0);
}

static void pinned_certificates(void **state)
{
    char path[] = "/tmp/tokentls-pin-XXXXXX";
    struct error err = ERROR_INIT;
    struct trust *pinned = NULL;
    const struct trust *before;
    X509 *partners[2];
    WORLD(w);

    w.no_root_crl = w.no_inter_crl = true;
    world_build(&w);
    partners[0] = w.root;
    partners[1] = w.leaf; /* issued by somebody whom nobody here knows */
    write_certificates(path, partners, 2);
    assert_int_equal(trust_load_pinned(path, NULL, &pinned, &err), ERROR_NONE);
    before = w.request.trust;
    w.request.trust = pinned;
    expect(&w, "accepted", X509_V_OK);
    w.request.hostname = "b.example";
    expect(&w,
           "certificate CN=client (depth 0): name: it is for a.example, *.w.example, p*.x.example, 192.0.2.7, "
           "2001:db8::7, not for b.example (RFC 9525 6)",
           X509_V_ERR_HOSTNAME_MISMATCH);
    w.request.hostname = NULL;
    w.request.purpose = CHAIN_PURPOSE_SERVER;
    expect(&w,
           "certificate CN=client (depth 0): key-usage: its extended key usage does not include serverAuth "
           "(RFC 5280 4.2.1.12)",
           X509_V_ERR_INVALID_PURPOSE);
    w.request.purpose = CHAIN_PURPOSE_CLIENT;
    w.request.time = PKI_NOW + 4000 * PKI_DAY;
    expect(&w,
           "certificate CN=client (depth 0): validity: expired, not valid after 2028-01-15T08:00:00Z "
           "(RFC 5280 6.1.3 (a)(2))",
           X509_V_ERR_CERT_HAS_EXPIRED);
    w.request.time = PKI_NOW;
    /* a pinned CA does not vouch for what it has issued */
    w.request.leaf = w.inter;
    expect(&w, "certificate CN=Intermediate (depth 0): pin: it is not one of the pinned certificates (RFC 7469 2.6)",
           X509_V_ERR_CERT_REJECTED);
    w.request.trust = before;
    trust_free(pinned);
    assert_int_equal(unlink(path), 0);
    world_free(&w);
}

static void pinned_self_signed(void **state)
{
    char path[] = "/tmp/tokentls-pin-XXXXXX";
    struct error err = ERROR_INIT;
    struct trust *pinned = NULL;
    struct pki_certificate spec;
    X509 *partner;
    const struct trust *before;
    WORLD(w);

    world_build(&w);
    spec = w.leaf_spec;
    spec.issuer = NULL;
    spec.issuer_key = NULL;
    spec.extensions[3].name = NULL;
    partner = pki_decoded(pki_make(&spec));
    write_certificates(path, &partner, 1);
    assert_int_equal(trust_load_pinned(path, NULL, &pinned, &err), ERROR_NONE);
    before = w.request.trust;
    w.request.trust = pinned;
    w.request.leaf = partner;
    expect(&w, "accepted", X509_V_OK);
    w.request.trust = before;
    w.request.leaf = w.leaf;
    trust_free(pinned);
    X509_free(partner);
    assert_int_equal(unlink(path), 0);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ocsp_instead_of_crls),
        cmocka_unit_test(each_certificate_needs_an_answer),
        cmocka_unit_test(any_source_that_says_revoked_rejects),
        cmocka_unit_test(revoked_intermediate),
        cmocka_unit_test(unknown_is_not_good),
        cmocka_unit_test(unknown_but_a_crl_covers_it),
        cmocka_unit_test(who_is_to_be_asked),
        cmocka_unit_test(strangers_ask_nobody),
        cmocka_unit_test(stale_answer),
        cmocka_unit_test(must_staple),
        cmocka_unit_test(stapled),
        cmocka_unit_test(stapled_answer_about_another),
        cmocka_unit_test(orders),
        cmocka_unit_test(pinned_keys),
        cmocka_unit_test(pins_as_text),
        cmocka_unit_test(pinned_certificates),
        cmocka_unit_test(pinned_self_signed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
