#include "tls/verify/further_crls.h"

#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/crl_store.h"
#include "tls/verify/finding.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

/* Certificates of the CRL issuer's name that are tried, at the most: of each source, so that no peer crowds out ours.
 */
#define SIGNERS_TRIED_MAX 8

/* The certificate that is asked about. */
struct subject {
    struct finding *finding;
    const STACK_OF(X509) * path;
    int depth;
    X509 *certificate, *anchor;
};

static bool is_delta(const X509_CRL *crl)
{
    return X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
}

static enum crl_index_answer ask(const struct subject *subject, X509_CRL *crl)
{
    return crl_index_find(crl, X509_get_issuer_name(subject->certificate),
                          X509_get0_serialNumber(subject->certificate));
}

/* What the same issuer has said later: a delta takes it off hold (RFC 5280 5.3.1), a newer list has it no more. */
static bool is_lifted(const struct subject *subject, X509_CRL *by, EVP_PKEY *key)
{
    const struct crl_snapshot *snapshot = subject->finding->request->crls;
    int64_t said = verdict_seconds(X509_CRL_get0_lastUpdate(by));
    int n = 0, first = crl_snapshot_find(snapshot, X509_CRL_get_issuer(by), &n);

    for (int i = first; i < first + n; i++) {
        X509_CRL *crl = sk_X509_CRL_value(crl_snapshot_crls(snapshot), i);
        int64_t since = verdict_seconds(X509_CRL_get0_lastUpdate(crl));
        enum crl_index_answer answer = ask(subject, crl);
        bool removed = is_delta(crl) && since >= said && answer == CRL_INDEX_REMOVED;
        bool gone = since > said && answer == CRL_INDEX_NOT_LISTED && crl_store_same_scope(crl, by) && !is_delta(crl);

        if ((removed || gone) && since <= subject->finding->request->time && crl_index_verify(crl, key))
            return true;
    }
    return false;
}

/* Older than the base in use, a delta says nothing new. */
static X509_CRL *find_delta(const struct subject *subject)
{
    const struct finding *finding = subject->finding;
    const struct crl_snapshot *snapshot = finding->request->crls;
    EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(subject->path, subject->depth + 1));
    int64_t base = 0;
    int n = 0, first = crl_snapshot_find(snapshot, X509_get_issuer_name(subject->certificate), &n);

    for (size_t i = 0; i < finding->verdict->n_crls; i++) {
        const struct verdict_crl *used = &finding->verdict->crls[i];

        if (used->depth == subject->depth && !used->delta && used->this_update > base)
            base = used->this_update;
    }
    for (int i = first; i < first + n; i++) {
        X509_CRL *crl = sk_X509_CRL_value(crl_snapshot_crls(snapshot), i);
        int64_t since = verdict_seconds(X509_CRL_get0_lastUpdate(crl));

        if (is_delta(crl) && since >= base && since <= finding->request->time &&
            ask(subject, crl) == CRL_INDEX_REVOKED && crl_index_verify(crl, key) && !is_lifted(subject, crl, key))
            return crl;
    }
    return NULL;
}

static bool is_above(const struct subject *subject, X509 *signer)
{
    for (int i = subject->depth + 1; i < sk_X509_num(subject->path); i++) {
        if (X509_cmp(sk_X509_value(subject->path, i), signer) == 0)
            return true;
    }
    return false;
}

/*
 * RFC 5280 6.3.3 (f). Its own status is asked as far as it is known: that it is not must not turn "revoked" into
 * "good". No third CRL issuer is asked about it, who might be asked about a fourth, or about the first.
 */
static bool signers_path_is_good(const struct subject *subject, X509 *signer)
{
    const struct chain_request *request = subject->finding->request;
    struct chain_request about = {.leaf = signer,
                                  .untrusted = request->untrusted,
                                  .trust = request->trust,
                                  .crls = request->crls,
                                  .order = CHAIN_ORDER_CRL,
                                  .time = request->time,
                                  .depth = request->depth,
                                  .purpose = CHAIN_PURPOSE_ANY,
                                  .revocation = CHAIN_REVOCATION_PREFER,
                                  .policy = request->policy,
                                  .of_crl_issuer = true,
                                  .libctx = request->libctx};
    struct verdict *verdict;
    X509 *last;
    bool good;

    if (is_above(subject, signer))
        return true;
    verdict = calloc(1, sizeof(*verdict));
    if (verdict == NULL)
        return false;
    chain_verify(&about, verdict);
    last = verdict->accepted ? sk_X509_value(verdict->path, sk_X509_num(verdict->path) - 1) : NULL;
    good = last != NULL && X509_cmp(last, subject->anchor) == 0;
    verdict_free(verdict);
    free(verdict);
    return good;
}

static bool is_signed_by(const struct subject *subject, X509_CRL *crl, const STACK_OF(X509) * certificates)
{
    int tried = 0;

    for (int i = 0; i < sk_X509_num(certificates) && tried < SIGNERS_TRIED_MAX; i++) {
        X509 *signer = sk_X509_value(certificates, i);
        EVP_PKEY *key = X509_get0_pubkey(signer);

        if (key == NULL || X509_NAME_cmp(X509_get_subject_name(signer), X509_CRL_get_issuer(crl)) != 0 ||
            (X509_get_key_usage(signer) & KU_CRL_SIGN) == 0)
            continue;
        tried++;
        if (crl_index_verify(crl, key) && signers_path_is_good(subject, signer))
            return !is_lifted(subject, crl, key);
    }
    return false;
}

static X509_CRL *find_indirect(const struct subject *subject)
{
    const struct chain_request *request = subject->finding->request;
    const STACK_OF(X509_CRL) *all = crl_snapshot_crls(request->crls);
    const X509_NAME *issuer = X509_get_issuer_name(subject->certificate);

    for (int i = 0; i < sk_X509_CRL_num(all); i++) {
        X509_CRL *crl = sk_X509_CRL_value(all, i);

        if (!crl_index_is_indirect(crl) || X509_NAME_cmp(X509_CRL_get_issuer(crl), issuer) == 0 ||
            verdict_seconds(X509_CRL_get0_lastUpdate(crl)) > request->time || ask(subject, crl) != CRL_INDEX_REVOKED)
            continue;
        if (is_signed_by(subject, crl, trust_certificates(request->trust)) ||
            is_signed_by(subject, crl, trust_intermediates(request->trust)) ||
            is_signed_by(subject, crl, subject->path) || is_signed_by(subject, crl, request->untrusted))
            return crl;
    }
    return NULL;
}

bool further_crls_revoke(struct finding *finding, const STACK_OF(X509) * path, int depth)
{
    const struct subject subject = {.finding = finding,
                                    .path = path,
                                    .depth = depth,
                                    .certificate = sk_X509_value(path, depth),
                                    .anchor = sk_X509_value(path, sk_X509_num(path) - 1)};
    X509_CRL *crl;

    if (!revocation_uses_crls(finding->request) || finding->request->crls == NULL || depth + 1 >= sk_X509_num(path))
        return false;
    crl = find_delta(&subject);
    if (crl == NULL && !finding->request->of_crl_issuer)
        crl = find_indirect(&subject);
    ERR_clear_error();
    if (crl == NULL)
        return false;
    finding_reject_revoked(finding, depth, subject.certificate, crl);
    return true;
}
