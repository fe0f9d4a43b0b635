/* Certificates whose encodings are broken on purpose, on top of verify_world.h. */
#ifndef TOKENTLS_TESTS_VERIFY_FORM_H
#define TOKENTLS_TESTS_VERIFY_FORM_H

#include "verify_world.h"

/* The certificate after a change, signed again and decoded from its encoding. Frees its argument. */
static inline X509 *form_signed(X509 *certificate, EVP_PKEY *key)
{
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return pki_decoded(certificate);
}

/* Puts `der` in the place of the extension's value, or adds the extension. */
static inline void form_set_extension(X509 *certificate, int nid, bool critical, const char *der, int length)
{
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension;
    int at = X509_get_ext_by_NID(certificate, nid, -1);

    if (at >= 0)
        X509_EXTENSION_free(X509_delete_ext(certificate, at));
    assert_int_equal(ASN1_OCTET_STRING_set(octets, (const unsigned char *)der, length), 1);
    extension = X509_EXTENSION_create_by_NID(NULL, nid, critical, octets);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(octets);
}

static inline void form_set_time(ASN1_TIME *time, int type, const char *text)
{
    assert_int_equal(ASN1_STRING_set(time, text, (int)strlen(text)), 1);
    time->type = type;
}

static inline void form_set_serial(X509 *certificate, int type, const char *bytes, int length)
{
    ASN1_INTEGER *serial = X509_get_serialNumber(certificate);

    assert_int_equal(ASN1_STRING_set(serial, bytes, length), 1);
    serial->type = type;
}

/* Leaf and intermediate made from the specifications, then changed by whoever calls; sign with form_finish(). */
static inline void form_begin(struct world *w)
{
    w->request.revocation = CHAIN_REVOCATION_OFF;
    w->root = pki_make(&w->root_spec);
    w->inter_spec.issuer = w->root;
    w->inter = pki_make(&w->inter_spec);
    w->leaf_spec.issuer = w->inter;
    w->leaf = pki_make(&w->leaf_spec);
}

static inline void form_finish(struct world *w)
{
    w->inter = form_signed(w->inter, w->root_key);
    w->leaf = form_signed(w->leaf, w->inter_key);
    world_build(w);
}

/* 2026 refuses with this text, legacy accepts and notes the same. */
static inline void form_expect_rule(struct world *w, const char *text, int x509_error)
{
    struct verdict verdict;
    char line[1024];

    form_finish(w);
    expect(w, text, x509_error);
    w->request.policy = CHAIN_POLICY_LEGACY;
    chain_verify(&w->request, &verdict);
    assert_string_equal(verdict_describe(&verdict, line, sizeof(line)), "accepted");
    assert_int_equal(verdict.n_notes, 1);
    verdict.accepted = false;
    verdict.reason = verdict.notes[0];
    verdict_describe(&verdict, line, sizeof(line));
    assert_string_equal(line, text);
    verdict_free(&verdict);
    world_free(w);
}

/* Both policies refuse. */
static inline void form_expect_broken(struct world *w, const char *text, int x509_error)
{
    form_finish(w);
    expect(w, text, x509_error);
    w->request.policy = CHAIN_POLICY_LEGACY;
    expect(w, text, x509_error);
    world_free(w);
}

static inline void form_expect_good(struct world *w)
{
    struct verdict verdict;

    form_finish(w);
    expect(w, "accepted", X509_V_OK);
    chain_verify(&w->request, &verdict);
    assert_int_equal(verdict.n_notes, 0);
    verdict_free(&verdict);
    world_free(w);
}

#endif
