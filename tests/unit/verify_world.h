/* Root, intermediate and leaf with the CRLs of both CAs, as specifications that a test changes before it builds them.
 */
#ifndef TOKENTLS_TESTS_VERIFY_WORLD_H
#define TOKENTLS_TESTS_VERIFY_WORLD_H

#include "verify_pki.h"

#include <openssl/x509_vfy.h>

/* Unmapped by libssl, so that the alert is certificate_unknown. */
#define WORLD_STATUS_UNKNOWN X509_V_ERR_CRL_PATH_VALIDATION_ERROR

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

static inline void world_specs(struct world *w)
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
static inline void world_build(struct world *w)
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
    w->request.crls = w->n_crls > 0 ? pki_snapshot(w->crls, w->n_crls) : NULL;
}

static inline void world_free(struct world *w)
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
static inline void expect(struct world *w, const char *text, int x509_error)
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

static inline void build_expect_free(struct world *w, const char *text, int x509_error)
{
    world_build(w);
    expect(w, text, x509_error);
    world_free(w);
}

#define WORLD(w)                                                                                                       \
    struct world w;                                                                                                    \
    (void)state;                                                                                                       \
    world_specs(&w)

#endif
