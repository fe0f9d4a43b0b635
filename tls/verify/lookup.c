#include "tls/verify/lookup.h"

#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/finding.h"
#include "tls/verify/trust.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

/* Certificates the peer sent that are tried as signers of a CRL of their name, at the most. */
#define UNTRUSTED_SIGNERS_MAX 4

static bool is_valid_now(X509 *certificate, int64_t now)
{
    return ASN1_TIME_cmp_time_t(X509_get0_notBefore(certificate), (time_t)now) <= 0 &&
           ASN1_TIME_cmp_time_t(X509_get0_notAfter(certificate), (time_t)now) >= 0;
}

/* Two anchors of one name and no key identifier to tell them apart: the signature does. */
static X509 *choose_anchor(const struct chain_request *request, X509 *certificate)
{
    const STACK_OF(X509) *anchors = trust_certificates(request->trust);
    X509 *best = NULL;
    int best_score = -1;

    for (int i = 0; i < sk_X509_num(anchors); i++) {
        X509 *anchor = sk_X509_value(anchors, i);
        int score;

        if (X509_check_issued(anchor, certificate) != X509_V_OK)
            continue;
        if (best == NULL) {
            best = anchor;
            continue;
        }
        if (best_score < 0)
            best_score =
                2 * (X509_verify(certificate, X509_get0_pubkey(best)) == 1) + is_valid_now(best, request->time);
        score = 2 * (X509_verify(certificate, X509_get0_pubkey(anchor)) == 1) + is_valid_now(anchor, request->time);
        if (score > best_score) {
            best = anchor;
            best_score = score;
        }
    }
    ERR_clear_error();
    return best;
}

/* X509_STORE_CTX_get_issuer_fn: 1 and a counted reference when an anchor has issued `certificate`, else 0. */
static int get_issuer(X509 **issuer, X509_STORE_CTX *ctx, X509 *certificate)
{
    X509 *anchor = choose_anchor(finding_of(ctx)->request, certificate);

    if (anchor == NULL || X509_up_ref(anchor) != 1)
        return 0;
    *issuer = anchor;
    return 1;
}

static STACK_OF(X509) * lookup_anchors(X509_STORE_CTX *ctx, const X509_NAME *name)
{
    const STACK_OF(X509) *anchors = trust_certificates(finding_of(ctx)->request->trust);
    STACK_OF(X509) *found = sk_X509_new_null();

    for (int i = 0; found != NULL && i < sk_X509_num(anchors); i++) {
        X509 *anchor = sk_X509_value(anchors, i);

        if (X509_NAME_cmp(X509_get_subject_name(anchor), name) == 0 &&
            !X509_add_cert(found, anchor, X509_ADD_FLAG_UP_REF)) {
            sk_X509_pop_free(found, X509_free);
            return NULL;
        }
    }
    return found;
}

static bool add_crls_of(const struct crl_snapshot *snapshot, const X509_NAME *issuer, STACK_OF(X509_CRL) * found)
{
    int n = 0, first = crl_snapshot_find(snapshot, issuer, &n);

    for (int i = first; i < first + n; i++) {
        X509_CRL *crl = sk_X509_CRL_value(crl_snapshot_crls(snapshot), i);

        if (X509_CRL_up_ref(crl) != 1)
            return false;
        if (sk_X509_CRL_push(found, crl) <= 0) {
            X509_CRL_free(crl);
            return false;
        }
    }
    return true;
}

/* RFC 5280 4.2.1.13: cRLIssuer names whoever signs the CRL when that is not the certificate's issuer. */
static bool add_indirect(const struct crl_snapshot *snapshot, X509 *certificate, const X509_NAME *issuer,
                         STACK_OF(X509_CRL) * found)
{
    CRL_DIST_POINTS *points = X509_get_ext_d2i(certificate, NID_crl_distribution_points, NULL, NULL);
    bool good = true;

    for (int i = 0; good && i < sk_DIST_POINT_num(points); i++) {
        const GENERAL_NAMES *names = sk_DIST_POINT_value(points, i)->CRLissuer;

        for (int j = 0; good && j < sk_GENERAL_NAME_num(names); j++) {
            const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, j);

            if (name->type == GEN_DIRNAME && X509_NAME_cmp(name->d.directoryName, issuer) != 0)
                good = add_crls_of(snapshot, name->d.directoryName, found);
        }
    }
    CRL_DIST_POINTS_free(points);
    return good;
}

static bool signed_by_one_of(X509_CRL *crl, STACK_OF(X509) * certificates, int limit)
{
    for (int i = 0; i < sk_X509_num(certificates) && limit > 0; i++) {
        X509 *certificate = sk_X509_value(certificates, i);
        EVP_PKEY *key = X509_get0_pubkey(certificate);

        if (X509_NAME_cmp(X509_get_subject_name(certificate), X509_CRL_get_issuer(crl)) != 0 || key == NULL)
            continue;
        if (crl_index_verify(crl, key))
            return true;
        limit--;
    }
    return false;
}

/*
 * Two CAs may have had one name (a key change, a namesake). OpenSSL takes the newest CRL of the name, whoever signed
 * it: so if some of the CRLs carry the signature of a certificate at hand, the others are left out.
 */
static void keep_signed(const X509_STORE_CTX *ctx, STACK_OF(X509_CRL) * crls)
{
    int n = sk_X509_CRL_num(crls), n_signed = 0;

    if (n < 2)
        return;
    for (int i = 0; i < n; i++) {
        X509_CRL *crl = sk_X509_CRL_value(crls, i);

        if (signed_by_one_of(crl, X509_STORE_CTX_get0_chain(ctx), CHAIN_DEPTH_MAX) ||
            signed_by_one_of(crl, X509_STORE_CTX_get0_untrusted(ctx), UNTRUSTED_SIGNERS_MAX)) {
            (void)sk_X509_CRL_set(crls, i, sk_X509_CRL_value(crls, n_signed));
            (void)sk_X509_CRL_set(crls, n_signed++, crl);
        }
    }
    while (n_signed > 0 && sk_X509_CRL_num(crls) > n_signed)
        X509_CRL_free(sk_X509_CRL_pop(crls));
}

static STACK_OF(X509_CRL) * lookup_crls(const X509_STORE_CTX *ctx, const X509_NAME *name)
{
    const struct crl_snapshot *snapshot = finding_of(ctx)->request->crls;
    X509 *certificate = X509_STORE_CTX_get_current_cert(ctx);
    STACK_OF(X509_CRL) *found = sk_X509_CRL_new_null();

    if (found == NULL || snapshot == NULL)
        return found;
    if (!add_crls_of(snapshot, name, found) ||
        (certificate != NULL && !add_indirect(snapshot, certificate, name, found))) {
        sk_X509_CRL_pop_free(found, X509_CRL_free);
        return NULL;
    }
    keep_signed(ctx, found);
    ERR_clear_error();
    return found;
}

void lookup_install(X509_STORE *store)
{
    X509_STORE_set_get_issuer(store, get_issuer);
    X509_STORE_set_lookup_certs(store, lookup_anchors);
    X509_STORE_set_lookup_crls(store, lookup_crls);
}
