/* OCSP responses made in memory. Everything fails the running test when it cannot be made. */
#ifndef TOKENTLS_TESTS_OCSP_MAKE_H
#define TOKENTLS_TESTS_OCSP_MAKE_H

#include "verify_world.h"

#include "tls/verify/ocsp.h"

#include <openssl/ocsp.h>

#define OCSP_MAKE_MAX 4

struct ocsp_make_answer {
    X509 *certificate;                /* NULL: ends the list */
    int status;                       /* V_OCSP_CERTSTATUS_* */
    int reason;                       /* of a revocation */
    int64_t this_update, next_update; /* 0: an hour ago, in a day; next_update < 0: absent */
    const char *digest;               /* of the CertID; NULL: SHA1 */
    bool critical;                    /* with an unknown critical extension */
};

struct ocsp_make {
    X509 *issuer;
    X509 *signer; /* NULL: the issuer */
    EVP_PKEY *signer_key;
    struct ocsp_make_answer answers[OCSP_MAKE_MAX];
    const uint8_t *nonce; /* OCSP_NONCE_LENGTH bytes; NULL: none */
    const char *digest;   /* of the signature; NULL: SHA256 */
    bool by_key;          /* ResponderID is the key's hash */
    bool leave_out;       /* the signer's certificate is not sent */
};

static inline void ocsp_make_one(OCSP_BASICRESP *basic, X509 *issuer, const struct ocsp_make_answer *answer)
{
    const EVP_MD *digest = EVP_get_digestbyname(answer->digest != NULL ? answer->digest : "SHA1");
    OCSP_CERTID *id = OCSP_cert_to_id(digest, answer->certificate, issuer);
    int64_t this_update = answer->this_update != 0 ? answer->this_update : PKI_NOW - 3600;
    int64_t next_update = answer->next_update != 0 ? answer->next_update : PKI_NOW + PKI_DAY;
    ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)this_update);
    ASN1_TIME *until = next_update < 0 ? NULL : ASN1_TIME_set(NULL, (time_t)next_update);
    ASN1_TIME *since = ASN1_TIME_set(NULL, (time_t)(PKI_NOW - 2 * PKI_DAY));
    OCSP_SINGLERESP *single;

    /* lint: the parameters are OpenSSL's. */
    single = OCSP_basic_add1_status(basic, id, answer->status, answer->reason, since, from, until);
    assert_non_null(single);
    if (answer->critical) {
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        X509_EXTENSION *extension;

        assert_int_equal(ASN1_OCTET_STRING_set(value, (const unsigned char *)"\x05", 2), 1);
        extension = X509_EXTENSION_create_by_NID(NULL, NID_id_pkix_OCSP_archiveCutoff, 1, value);
        assert_int_equal(OCSP_SINGLERESP_add_ext(single, extension, -1), 1);
        X509_EXTENSION_free(extension);
        ASN1_OCTET_STRING_free(value);
    }
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    ASN1_TIME_free(since);
    OCSP_CERTID_free(id);
}

/* The response in DER; *ret is OPENSSL_malloc'ed. */
static inline size_t ocsp_make(const struct ocsp_make *spec, uint8_t **ret)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    unsigned long flags = (spec->by_key ? OCSP_RESPID_KEY : 0) | (spec->leave_out ? OCSP_NOCERTS : 0);
    OCSP_RESPONSE *response;
    unsigned char *der = NULL;
    int length;

    for (size_t i = 0; i < OCSP_MAKE_MAX && spec->answers[i].certificate != NULL; i++)
        ocsp_make_one(basic, spec->issuer, &spec->answers[i]);
    if (spec->nonce != NULL)
        assert_int_equal(OCSP_basic_add1_nonce(basic, (unsigned char *)(uintptr_t)spec->nonce, OCSP_NONCE_LENGTH), 1);
    assert_int_equal(OCSP_basic_sign(basic, spec->signer != NULL ? spec->signer : spec->issuer, spec->signer_key,
                                     EVP_get_digestbyname(spec->digest != NULL ? spec->digest : "SHA256"), NULL, flags),
                     1);
    response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    length = i2d_OCSP_RESPONSE(response, &der);
    assert_true(length > 0);
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    *ret = der;
    return (size_t)length;
}

#endif
