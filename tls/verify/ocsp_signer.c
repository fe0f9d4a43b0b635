#include "tls/verify/ocsp_signer.h"

#include "tls/verify/adopt.h"
#include "tls/verify/algorithms.h"
#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/form.h"
#include "tls/verify/verdict.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WHY_MAX 160

static bool refuse(struct ocsp_answer *ret, const char *reference, const char *fmt, ...) PRINTF_LIKE(3, 4);

static bool refuse(struct ocsp_answer *ret, const char *reference, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, args);
    va_end(args);
    (void)snprintf(ret->reference, sizeof(ret->reference), "%s", reference);
    return false;
}

/* ResponderID: the subject, or the SHA-1 hash of the public key's bits (RFC 6960 4.2.1). */
static bool is_named(const struct ocsp_question *question, const OCSP_BASICRESP *basic, X509 *certificate)
{
    const ASN1_OCTET_STRING *hash = NULL;
    const X509_NAME *name = NULL;
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(certificate);
    unsigned char digest[SHA_DIGEST_LENGTH];
    size_t length = 0;

    if (OCSP_resp_get0_id(basic, &hash, &name) != 1)
        return false;
    if (name != NULL)
        return X509_NAME_cmp(name, X509_get_subject_name(certificate)) == 0;
    return hash != NULL && bits != NULL && ASN1_STRING_length(hash) == SHA_DIGEST_LENGTH &&
           EVP_Q_digest(question->libctx, "SHA1", NULL, ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits),
                        digest, &length) == 1 &&
           memcmp(ASN1_STRING_get0_data(hash), digest, sizeof(digest)) == 0;
}

/* No certificate or response may make us calculate with a key larger than the policy's. */
static bool is_affordable(EVP_PKEY *key)
{
    return key != NULL && EVP_PKEY_get_bits(key) <= ALGORITHMS_RSA_BITS_MAX;
}

static bool has_signed(const struct ocsp_question *question, const OCSP_BASICRESP *basic, X509 *certificate)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    bool good = is_affordable(key) &&
                ASN1_item_verify_ex(ASN1_ITEM_rptr(OCSP_RESPDATA), OCSP_resp_get0_tbs_sigalg(basic),
                                    (ASN1_BIT_STRING *)(uintptr_t)OCSP_resp_get0_signature(basic),
                                    OCSP_resp_get0_respdata(basic), NULL, key, question->libctx, NULL) == 1;

    ERR_clear_error();
    return good;
}

static void note_fault(void *arg, const struct form_fault *fault)
{
    char *why = arg;

    if (fault->severity == FORM_BROKEN && why[0] == '\0')
        (void)snprintf(why, WHY_MAX, "%s", fault->text);
}

static bool is_for_ocsp(X509 *responder)
{
    uint32_t extended = X509_get_extended_key_usage(responder), usage = X509_get_key_usage(responder);

    return extended != UINT32_MAX && (extended & XKU_OCSP_SIGN) != 0 && (usage & KU_DIGITAL_SIGNATURE) != 0;
}

static bool is_fresh(X509_CRL *crl, int64_t now)
{
    int64_t next = verdict_seconds(X509_CRL_get0_nextUpdate(crl));

    return verdict_seconds(X509_CRL_get0_lastUpdate(crl)) <= now && next >= now;
}

enum listed { LISTED_REVOKED, LISTED_GOOD, LISTED_NOWHERE };

/* What the CRLs at hand say of a responder. Only a complete one of the issuer itself can say that it is good. */
static enum listed look_up(const struct ocsp_question *question, X509 *responder)
{
    int n = 0;
    int first =
        question->crls == NULL ? 0 : crl_snapshot_find(question->crls, X509_get_subject_name(question->issuer), &n);
    enum listed listed = LISTED_NOWHERE;

    for (int i = first; i < first + n; i++) {
        X509_CRL *crl = sk_X509_CRL_value(crl_snapshot_crls(question->crls), i);
        X509_REVOKED *entry = NULL;
        bool partial = X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0 ||
                       X509_CRL_get_ext_by_NID(crl, NID_issuing_distribution_point, -1) >= 0 ||
                       crl_index_has_critical(crl);

        if (!crl_index_verify(crl, X509_get0_pubkey(question->issuer)))
            continue;
        if (X509_CRL_get0_by_cert(crl, &entry, responder) == 1)
            return LISTED_REVOKED;
        if (!partial && is_fresh(crl, question->time))
            listed = LISTED_GOOD;
    }
    return listed;
}

static bool status_is_good(const struct ocsp_question *question, X509 *responder, struct ocsp_answer *ret)
{
    enum listed listed = look_up(question, responder);

    ERR_clear_error();
    if (listed == LISTED_REVOKED)
        return refuse(ret, "RFC 6960 4.2.2.2.1", "the responder's certificate is revoked");
    if (listed == LISTED_GOOD || !question->insist || X509_get_ext_by_NID(responder, NID_id_pkix_OCSP_noCheck, -1) >= 0)
        return true;
    return refuse(ret, "RFC 6960 4.2.2.2.1",
                  "nothing says whether the responder's certificate is revoked: no id-pkix-ocsp-nocheck, no CRL");
}

/* The certificate is of the responder that the response names; may it speak for the issuer? */
static bool is_authorised(const struct ocsp_question *question, X509 *responder, struct ocsp_answer *ret)
{
    EVP_PKEY *issuer_key = X509_get0_pubkey(question->issuer);
    char why[WHY_MAX] = "";
    bool strict = question->policy != CHAIN_POLICY_LEGACY;

    verdict_subject(responder, ret->responder, sizeof(ret->responder));
    if (X509_check_issued(question->issuer, responder) != X509_V_OK || !is_affordable(issuer_key) ||
        X509_verify(responder, issuer_key) != 1)
        return refuse(ret, "RFC 6960 4.2.2.2", "its signer is neither the issuer nor certified by the issuer's key");
    if (!is_for_ocsp(responder))
        return refuse(ret, "RFC 6960 4.2.2.2", "its signer's certificate is not for signing OCSP responses");
    if (verdict_seconds(X509_get0_notBefore(responder)) > question->time ||
        verdict_seconds(X509_get0_notAfter(responder)) < question->time)
        return refuse(ret, "RFC 6960 3.2", "the responder's certificate is not within its validity");
    form_check(responder, false, note_fault, why);
    if (why[0] != '\0')
        return refuse(ret, "RFC 6960 4.2.2.2", "the responder's certificate is malformed: %s", why);
    if (strict && (!algorithms_2026_key(X509_get0_pubkey(responder), why, sizeof(why)) ||
                   !algorithms_2026_certificate_signature(responder, why, sizeof(why))))
        return refuse(ret, "security policy 2026", "the responder's certificate is weak: %s", why);
    return status_is_good(question, responder, ret);
}

/* One of the certificates that came along. */
static bool check_delegated(const struct ocsp_question *question, const OCSP_BASICRESP *basic, struct ocsp_answer *ret)
{
    const STACK_OF(X509) *sent = OCSP_resp_get0_certs(basic);

    (void)refuse(ret, "RFC 6960 4.2.2.2", "it is not signed by the issuer, and its signer's certificate is missing");
    for (int i = 0; i < sk_X509_num(sent) && i < OCSP_CERTIFICATES_MAX; i++) {
        X509 *responder;
        bool good;

        if (!is_named(question, basic, sk_X509_value(sent, i)) ||
            X509_cmp(sk_X509_value(sent, i), question->issuer) == 0)
            continue;
        responder = adopt_certificate(question->libctx, sk_X509_value(sent, i));
        if (responder == NULL)
            continue;
        good = is_authorised(question, responder, ret);
        if (good && !has_signed(question, basic, responder))
            good = refuse(ret, "RFC 6960 3.2", "its signature is not the responder's");
        X509_free(responder);
        ERR_clear_error();
        if (good) {
            ret->delegated = true;
            return true;
        }
    }
    return false;
}

bool ocsp_signer_check(const struct ocsp_question *question, const OCSP_BASICRESP *basic, struct ocsp_answer *ret)
{
    char why[WHY_MAX];

    if (question->policy != CHAIN_POLICY_LEGACY &&
        !algorithms_2026_signature(OCSP_resp_get0_tbs_sigalg(basic), why, sizeof(why)))
        return refuse(ret, "security policy 2026", "the response is weak: %s", why);
    if (!is_named(question, basic, question->issuer))
        return check_delegated(question, basic, ret);
    if (has_signed(question, basic, question->issuer)) {
        verdict_subject(question->issuer, ret->responder, sizeof(ret->responder));
        return true;
    }
    /* A key change leaves the name: the signer may be a namesake whom the issuer has certified. */
    if (check_delegated(question, basic, ret))
        return true;
    if (ret->responder[0] == '\0')
        (void)refuse(ret, "RFC 6960 3.2", "its signature is not the issuer's");
    return false;
}
