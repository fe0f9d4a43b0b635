/*
 * OCSP responses: decoding, CertID, signer, dates; by themselves and in chain_verify(). The input has not been signed
 * with our key, so it may withhold an answer but never give one.
 */
#include "tls/verify/ocsp.h"
#include "tls/verify/trust.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1800000000

static EVP_PKEY *key;
static X509 *ca, *leaf;
static struct trust *trust;

static X509 *make(const char *subject, const char *constraints, long serial)
{
    X509 *certificate = X509_new();
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, constraints);
    X509_NAME *name = X509_NAME_new(), *issuer = X509_NAME_new();

    if (certificate == NULL || extension == NULL || name == NULL || issuer == NULL ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)subject, -1, -1, 0) != 1 ||
        X509_NAME_add_entry_by_txt(issuer, "CN", MBSTRING_ASC, (const unsigned char *)"ca", -1, -1, 0) != 1 ||
        X509_set_version(certificate, X509_VERSION_3) != 1 ||
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial) != 1 ||
        X509_set_subject_name(certificate, name) != 1 || X509_set_issuer_name(certificate, issuer) != 1 ||
        ASN1_TIME_set(X509_getm_notBefore(certificate), 1700000000) == NULL ||
        ASN1_TIME_set(X509_getm_notAfter(certificate), 1900000000) == NULL || X509_set_pubkey(certificate, key) != 1 ||
        X509_add_ext(certificate, extension, -1) != 1 || X509_sign(certificate, key, EVP_sha256()) <= 0)
        abort();
    X509_EXTENSION_free(extension);
    X509_NAME_free(name);
    X509_NAME_free(issuer);
    return certificate;
}

static void prepare(void)
{
    struct error err = ERROR_INIT;
    unsigned char *der = NULL;
    int length;

    key = EVP_EC_gen("P-256");
    if (key == NULL)
        abort();
    ca = make("ca", "critical,CA:TRUE", 1);
    leaf = make("leaf", "CA:FALSE", 7);
    length = i2d_X509(ca, &der);
    if (length <= 0 || trust_load_memory("ca", der, (size_t)length, &trust, &err) != ERROR_NONE)
        abort();
    OPENSSL_free(der);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ocsp_question question = {.time = NOW, .nonce = NULL};
    const struct chain_response response = {.der = data, .length = size};
    struct ocsp_answer answer;
    struct verdict verdict;

    if (key == NULL)
        prepare();
    question.certificate = leaf;
    question.issuer = ca;
    ocsp_judge(&question, data, size, &answer);
    if (answer.status != OCSP_UNUSABLE)
        abort();
    chain_verify(&(const struct chain_request){.leaf = leaf,
                                               .trust = trust,
                                               .responses = &response,
                                               .n_responses = 1,
                                               .staple = response,
                                               .stapling = CHAIN_STAPLING_ASKED,
                                               .time = NOW,
                                               .depth = CHAIN_DEPTH_DEFAULT},
                 &verdict);
    if (verdict.accepted)
        abort();
    verdict_free(&verdict);
    return 0;
}
