/* A CA that signs its CRLs with another key, certified by the root under the CA's own name. */
#include "verify_world.h"

struct signer {
    EVP_PKEY *key;
    X509 *certificate;
};

/* World whose intermediate's CRL has been signed by `signer`, made from `spec` (its name, key and issuer are set here).
 */
static void build(struct world *w, struct signer *signer, struct pki_certificate *spec)
{
    w->root = pki_make(&w->root_spec);
    spec->cn = "Intermediate";
    spec->key = signer->key;
    spec->issuer = w->root;
    spec->issuer_key = w->root_key;
    spec->extensions[0] = (struct pki_extension){"keyUsage", "critical,cRLSign"};
    spec->extensions[1] = (struct pki_extension){"subjectKeyIdentifier", "hash"};
    spec->extensions[2] = (struct pki_extension){"authorityKeyIdentifier", "keyid"};
    signer->certificate = pki_decoded(pki_make(spec));
    w->no_inter_crl = true;
    world_build(w);
    w->inter_crl_spec.issuer = signer->certificate;
    w->inter_crl_spec.issuer_key = signer->key;
    w->inter_crl_spec.extensions[0] = (struct pki_extension){"authorityKeyIdentifier", "keyid"};
    w->crls[w->n_crls++] = pki_make_crl(&w->inter_crl_spec);
    crl_snapshot_free((struct crl_snapshot *)(uintptr_t)w->request.crls);
    w->request.crls = pki_snapshot(w->crls, w->n_crls);
    assert_true(sk_X509_push(w->request.untrusted, signer->certificate) > 0);
}

static void clear(struct world *w, struct signer *signer)
{
    world_free(w);
    X509_free(signer->certificate);
    EVP_PKEY_free(signer->key);
}

static void test_good(void **state)
{
    struct signer signer = {.key = pki_key()};
    struct pki_certificate spec = {.serial = 9};
    WORLD(w);

    build(&w, &signer, &spec);
    expect(&w, "accepted", X509_V_OK);
    clear(&w, &signer);
}

static void test_it_can_revoke(void **state)
{
    struct signer signer = {.key = pki_key()};
    struct pki_certificate spec = {.serial = 9};
    struct verdict verdict;
    WORLD(w);

    w.inter_crl_spec.revoked[0] = 3;
    build(&w, &signer, &spec);
    chain_verify(&w.request, &verdict);
    assert_int_equal(verdict.x509_error, X509_V_ERR_CERT_REVOKED);
    verdict_free(&verdict);
    clear(&w, &signer);
}

static void refused(const char *key, long serial, enum chain_policy policy, const char *text)
{
    struct signer signer = {.key = EVP_EC_gen(key)};
    struct pki_certificate spec = {.serial = serial};
    struct world w;
    struct verdict verdict;

    assert_non_null(signer.key);
    world_specs(&w);
    w.request.policy = policy;
    build(&w, &signer, &spec);
    chain_verify(&w.request, &verdict);
    assert_int_equal(verdict.accepted, text == NULL);
    if (text != NULL && strstr(verdict.reason.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", verdict.reason.text, text);
    verdict_free(&verdict);
    clear(&w, &signer);
}

/* What would refuse a certificate of the path refuses the CRL issuer's, and so leaves the status unknown. */
static void test_form_and_policy(void **state)
{
    (void)state;
    refused("P-256", 0, CHAIN_POLICY_2026, "the CRL's issuer CN=Intermediate is not valid");
    refused("P-192", 9, CHAIN_POLICY_2026, "the CRL's issuer CN=Intermediate is not valid");
    refused("P-192", 9, CHAIN_POLICY_LEGACY, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_it_can_revoke),
        cmocka_unit_test(test_form_and_policy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
