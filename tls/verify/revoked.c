#include "tls/verify/revoked.h"

#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/verdict.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

/* One certificate as CRLs know it. */
struct subject {
    const X509_NAME *issuer;
    const ASN1_INTEGER *serial;
    EVP_PKEY *signer; /* the issuer's key; NULL: any CRL counts */
};

static bool is_delta(const X509_CRL *crl)
{
    return X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
}

static bool is_authentic(const struct subject *subject, X509_CRL *crl)
{
    if (subject->signer == NULL)
        return true;
    if (X509_NAME_cmp(X509_CRL_get_issuer(crl), subject->issuer) == 0)
        return crl_index_verify(crl, subject->signer);
    return crl_index_is_proven(crl);
}

/* A delta that is not older takes a certificate off hold (RFC 5280 5.3.1, removeFromCRL). */
static bool is_taken_off(const struct crl_snapshot *snapshot, const struct subject *subject, const X509_CRL *by)
{
    const STACK_OF(X509_CRL) *all = crl_snapshot_crls(snapshot);

    for (int i = 0; i < sk_X509_CRL_num(all); i++) {
        X509_CRL *crl = sk_X509_CRL_value(all, i);

        if (is_delta(crl) && crl_index_find(crl, subject->issuer, subject->serial) == CRL_INDEX_REMOVED &&
            verdict_seconds(X509_CRL_get0_lastUpdate(crl)) >= verdict_seconds(X509_CRL_get0_lastUpdate(by)) &&
            is_authentic(subject, crl))
            return true;
    }
    return false;
}

/* The CRL that revokes it, or NULL. */
static X509_CRL *find(const struct crl_snapshot *snapshot, const struct subject *subject)
{
    const STACK_OF(X509_CRL) *all = crl_snapshot_crls(snapshot);
    int n = 0, first = crl_snapshot_find(snapshot, subject->issuer, &n);

    for (int i = 0; i < sk_X509_CRL_num(all); i++) {
        X509_CRL *crl = sk_X509_CRL_value(all, i);

        if ((i < first || i >= first + n) && !crl_index_is_indirect(crl))
            continue;
        if (crl_index_find(crl, subject->issuer, subject->serial) == CRL_INDEX_REVOKED && is_authentic(subject, crl) &&
            !is_taken_off(snapshot, subject, crl))
            return crl;
    }
    return NULL;
}

int revoked_in_path(const struct crl_snapshot *snapshot, const STACK_OF(X509) * path, char *why, size_t size)
{
    for (int i = 0; snapshot != NULL && i + 1 < sk_X509_num(path); i++) {
        X509 *certificate = sk_X509_value(path, i);
        const struct subject subject = {.issuer = X509_get_issuer_name(certificate),
                                        .serial = X509_get0_serialNumber(certificate),
                                        .signer = X509_get0_pubkey(sk_X509_value(path, i + 1))};
        X509_CRL *crl = subject.signer == NULL ? NULL : find(snapshot, &subject);
        char name[256], issuer[256];

        if (crl == NULL)
            continue;
        (void)snprintf(why, size, "certificate %.200s (depth %d) is revoked by CRL of %.200s",
                       verdict_subject(certificate, name, sizeof(name)), i,
                       verdict_name(X509_CRL_get_issuer(crl), issuer, sizeof(issuer)));
        return i;
    }
    return -1;
}

static bool is_item_revoked(const struct crl_snapshot *snapshot, const struct revoked_item *item)
{
    const unsigned char *at_name = item->issuer, *at_serial = item->serial;
    X509_NAME *issuer = d2i_X509_NAME(NULL, &at_name, (long)item->issuer_length);
    ASN1_INTEGER *serial = d2i_ASN1_INTEGER(NULL, &at_serial, (long)item->serial_length);
    const struct subject subject = {.issuer = issuer, .serial = serial};
    bool revoked = issuer == NULL || serial == NULL || at_name != item->issuer + item->issuer_length ||
                   at_serial != item->serial + item->serial_length || find(snapshot, &subject) != NULL;

    X509_NAME_free(issuer);
    ASN1_INTEGER_free(serial);
    ERR_clear_error();
    return revoked;
}

bool revoked_any(const struct crl_snapshot *snapshot, const struct revoked_item *items, size_t n)
{
    for (size_t i = 0; snapshot != NULL && i < n; i++) {
        if (is_item_revoked(snapshot, &items[i]))
            return true;
    }
    return false;
}
