/*
 * CRLs from files and distribution points: decoding, index, look-up, signature, and their use in chain_verify() for a
 * certificate whose issuer has the name of the first CRL, so that the input is really looked at.
 */
#include "tls/verify/chain.h"
#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/trust.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *key;

static X509 *make(const X509_NAME *subject, const X509_NAME *issuer, const char *constraints, long serial)
{
    X509 *certificate = X509_new();
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, constraints);

    if (certificate == NULL || extension == NULL || X509_set_version(certificate, X509_VERSION_3) != 1 ||
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial) != 1 ||
        X509_set_subject_name(certificate, subject) != 1 || X509_set_issuer_name(certificate, issuer) != 1 ||
        ASN1_TIME_set(X509_getm_notBefore(certificate), 1700000000) == NULL ||
        ASN1_TIME_set(X509_getm_notAfter(certificate), 1900000000) == NULL || X509_set_pubkey(certificate, key) != 1 ||
        X509_add_ext(certificate, extension, -1) != 1 || X509_sign(certificate, key, EVP_sha256()) <= 0)
        abort();
    X509_EXTENSION_free(extension);
    return certificate;
}

static struct trust *trust_of(X509 *certificate)
{
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);

    if (length > 0 && trust_load_memory("ca", der, (size_t)length, &trust, &err) != ERROR_NONE)
        trust = NULL;
    OPENSSL_free(der);
    return trust;
}

static void verify(const struct crl_snapshot *snapshot, const X509_NAME *issuer, X509_NAME *subject)
{
    X509 *ca = make(issuer, issuer, "critical,CA:TRUE", 1), *leaf = make(subject, issuer, "CA:FALSE", 7);
    struct trust *trust = trust_of(ca);

    for (int revocation = 0; trust != NULL && revocation < 2; revocation++) {
        const struct chain_request request = {.leaf = leaf,
                                              .trust = trust,
                                              .crls = snapshot,
                                              .time = 1800000000,
                                              .depth = CHAIN_DEPTH_DEFAULT,
                                              .revocation = (enum chain_revocation)revocation};
        struct verdict verdict;

        chain_verify(&request, &verdict);
        /* The input has not been signed with our key: it can withhold an answer, it must not give a good one. */
        if (verdict.accepted && revocation == CHAIN_REVOCATION_REQUIRED)
            abort();
        verdict_free(&verdict);
    }
    trust_free(trust);
    X509_free(ca);
    X509_free(leaf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_snapshot *snapshot = NULL;
    struct error err = ERROR_INIT;
    X509_NAME *subject;

    if (key == NULL)
        key = EVP_EC_gen("P-256");
    if (key == NULL)
        abort();
    if (crl_snapshot_load_memory("input", data, size, &snapshot, &err) != ERROR_NONE)
        return 0;
    subject = X509_NAME_new();
    if (subject == NULL ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"leaf", -1, -1, 0) != 1)
        abort();
    verify(snapshot, X509_CRL_get_issuer(sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0)), subject);
    X509_NAME_free(subject);
    crl_snapshot_free(snapshot);
    return 0;
}
