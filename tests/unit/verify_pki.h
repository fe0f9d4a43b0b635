/* A small PKI made in memory for the tests of tls/verify. Everything fails the running test when it cannot be made. */
#ifndef TOKENTLS_TESTS_VERIFY_PKI_H
#define TOKENTLS_TESTS_VERIFY_PKI_H

#include "tls/verify/chain.h"
#include "tls/verify/crl.h"
#include "tls/verify/trust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/conf.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* 2027-01-15T08:00:00Z: "now" in every test. */
#define PKI_NOW ((int64_t)1800000000)
#define PKI_DAY ((int64_t)86400)
#define PKI_EXTENSIONS_MAX 8

struct pki_extension {
    const char *name, *value; /* as in openssl.cnf */
};

struct pki_certificate {
    const char *cn;
    X509 *issuer; /* NULL: self-signed */
    EVP_PKEY *issuer_key, *key;
    long serial;
    int64_t not_before, not_after; /* 0: a day ago, in a year */
    const char *digest;            /* NULL: SHA256 */
    struct pki_extension extensions[PKI_EXTENSIONS_MAX];
};

struct pki_crl {
    X509 *issuer;
    EVP_PKEY *issuer_key;
    int64_t this_update, next_update; /* 0: a day ago, in a week; next_update < 0: absent */
    long revoked[4];                  /* serial numbers, 0 ends */
    int reason;                       /* of all of them; 0: none */
    X509 *owner;                      /* who has issued them (an indirect CRL); NULL: the CRL's issuer */
    const char *digest;               /* NULL: SHA256 */
    struct pki_extension extensions[PKI_EXTENSIONS_MAX];
};

static inline EVP_PKEY *pki_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    assert_non_null(key);
    return key;
}

static inline void pki_name(X509_NAME *name, const char *cn)
{
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0), 1);
}

static inline const EVP_MD *pki_digest(const char *name, EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "ED25519"))
        return NULL;
    return EVP_get_digestbyname(name != NULL ? name : "SHA256");
}

static inline X509 *pki_make(const struct pki_certificate *spec)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    EVP_PKEY *signer = spec->issuer_key != NULL ? spec->issuer_key : spec->key;
    X509V3_CTX ctx = {.issuer_cert = spec->issuer != NULL ? spec->issuer : x, .subject_cert = x};
    CONF *empty = NCONF_new(NULL);

    assert_non_null(x);
    X509V3_set_nconf(&ctx, empty); /* without one OpenSSL does not parse certificatePolicies */
    pki_name(name, spec->cn);
    assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), spec->serial), 1);
    assert_int_equal(X509_set_subject_name(x, name), 1);
    assert_int_equal(X509_set_issuer_name(x, spec->issuer ? X509_get_subject_name(spec->issuer) : name), 1);
    ASN1_TIME_set(X509_getm_notBefore(x), spec->not_before ? (time_t)spec->not_before : (time_t)(PKI_NOW - PKI_DAY));
    ASN1_TIME_set(X509_getm_notAfter(x), spec->not_after ? (time_t)spec->not_after : (time_t)(PKI_NOW + 365 * PKI_DAY));
    assert_int_equal(X509_set_pubkey(x, spec->key), 1);
    for (size_t i = 0; i < PKI_EXTENSIONS_MAX && spec->extensions[i].name != NULL; i++) {
        X509_EXTENSION *extension = X509V3_EXT_conf(NULL, &ctx, spec->extensions[i].name, spec->extensions[i].value);

        assert_non_null(extension);
        assert_int_equal(X509_add_ext(x, extension, -1), 1);
        X509_EXTENSION_free(extension);
    }
    assert_true(X509_sign(x, signer, pki_digest(spec->digest, signer)) > 0);
    X509_NAME_free(name);
    NCONF_free(empty);
    return x;
}

static inline void pki_revoke(X509_CRL *crl, long serial, int reason, int64_t when)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, (time_t)when);

    assert_int_equal(ASN1_INTEGER_set(number, serial), 1);
    assert_int_equal(X509_REVOKED_set_serialNumber(entry, number), 1);
    assert_int_equal(X509_REVOKED_set_revocationDate(entry, time), 1);
    if (reason != 0) {
        ASN1_ENUMERATED *value = ASN1_ENUMERATED_new();

        assert_int_equal(ASN1_ENUMERATED_set(value, reason), 1);
        assert_int_equal(X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, value, 0, 0), 1);
        ASN1_ENUMERATED_free(value);
    }
    assert_int_equal(X509_CRL_add0_revoked(crl, entry), 1);
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(time);
}

/* Say in the first entry whose certificates all of them are (RFC 5280 5.3.3). */
static inline void pki_own(X509_CRL *crl, const X509 *owner)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *name = GENERAL_NAME_new();

    assert_non_null(name);
    GENERAL_NAME_set0_value(name, GEN_DIRNAME, X509_NAME_dup(X509_get_subject_name(owner)));
    assert_true(sk_GENERAL_NAME_push(names, name) > 0);
    assert_int_equal(X509_REVOKED_add1_ext_i2d(sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), 0),
                                               NID_certificate_issuer, names, 1, 0),
                     1);
    GENERAL_NAMES_free(names);
}

static inline X509_CRL *pki_make_crl(const struct pki_crl *spec)
{
    int64_t this_update = spec->this_update ? spec->this_update : PKI_NOW - PKI_DAY;
    int64_t next_update = spec->next_update ? spec->next_update : PKI_NOW + 7 * PKI_DAY;
    ASN1_TIME *time = ASN1_TIME_set(NULL, (time_t)this_update);
    X509_CRL *crl = X509_CRL_new();
    X509V3_CTX ctx = {.issuer_cert = spec->issuer, .crl = crl};

    assert_non_null(crl);
    assert_int_equal(X509_CRL_set_version(crl, X509_CRL_VERSION_2), 1);
    assert_int_equal(X509_CRL_set_issuer_name(crl, X509_get_subject_name(spec->issuer)), 1);
    assert_int_equal(X509_CRL_set1_lastUpdate(crl, time), 1);
    if (next_update > 0) {
        ASN1_TIME_set(time, (time_t)next_update);
        assert_int_equal(X509_CRL_set1_nextUpdate(crl, time), 1);
    }
    for (size_t i = 0; i < 4 && spec->revoked[i] != 0; i++)
        pki_revoke(crl, spec->revoked[i], spec->reason, PKI_NOW - 2 * PKI_DAY);
    if (spec->owner != NULL)
        pki_own(crl, spec->owner);
    for (size_t i = 0; i < PKI_EXTENSIONS_MAX && spec->extensions[i].name != NULL; i++) {
        X509_EXTENSION *extension = X509V3_EXT_conf(NULL, &ctx, spec->extensions[i].name, spec->extensions[i].value);

        assert_non_null(extension);
        assert_int_equal(X509_CRL_add_ext(crl, extension, -1), 1);
        X509_EXTENSION_free(extension);
    }
    assert_true(X509_CRL_sign(crl, spec->issuer_key, pki_digest(spec->digest, spec->issuer_key)) > 0);
    ASN1_TIME_free(time);
    return crl;
}

/* What the peer would see: decoded from the encoding, as nothing that was put together by hand is. Frees its argument.
 */
static inline X509 *pki_decoded(X509 *x)
{
    unsigned char *der = NULL;
    int length = i2d_X509(x, &der);
    const unsigned char *at = der;
    X509 *decoded = d2i_X509(NULL, &at, length);

    assert_non_null(decoded);
    OPENSSL_free(der);
    X509_free(x);
    return decoded;
}

/* The encodings one after the other; *ret is OPENSSL_malloc'ed. */
static inline size_t pki_encode_crls(X509_CRL *const *crls, size_t n, uint8_t **ret)
{
    uint8_t *all = NULL;
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char *der = NULL;
        int length = i2d_X509_CRL(crls[i], &der);

        assert_true(length > 0);
        all = OPENSSL_realloc(all, used + (size_t)length);
        memcpy(all + used, der, (size_t)length);
        used += (size_t)length;
        OPENSSL_free(der);
    }
    *ret = all;
    return used;
}

static inline struct crl_snapshot *pki_snapshot(X509_CRL *const *crls, size_t n)
{
    struct crl_snapshot *snapshot = NULL;
    struct error err = ERROR_INIT;
    uint8_t *der = NULL;
    size_t length = pki_encode_crls(crls, n, &der);

    assert_int_equal(crl_snapshot_load_memory("test", der, length, &snapshot, &err), ERROR_NONE);
    OPENSSL_free(der);
    return snapshot;
}

static inline struct trust *pki_trust(X509 *const *anchors, size_t n)
{
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;
    uint8_t *all = NULL;
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char *der = NULL;
        int length = i2d_X509(anchors[i], &der);

        assert_true(length > 0);
        all = OPENSSL_realloc(all, used + (size_t)length);
        memcpy(all + used, der, (size_t)length);
        used += (size_t)length;
        OPENSSL_free(der);
    }
    assert_int_equal(trust_load_memory("test", all, used, &trust, &err), ERROR_NONE);
    OPENSSL_free(all);
    return trust;
}

#endif
