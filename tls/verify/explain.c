#include "tls/verify/explain.h"

#include "tls/verify/finding.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

/* Signatures calculated for an explanation, at the most. */
#define SIGNATURES_MAX 4

struct search {
    struct finding finding; /* of an explanation */
    X509 *last;             /* whose issuer is missing */
    int depth;              /* of the issuer */
    int signatures;
};

/* Fills search->finding when `candidate` has signed the last certificate and was passed over. */
static bool explains(struct search *search, X509 *candidate)
{
    const struct finding_place place = {
        .error = X509_V_ERR_KEYUSAGE_NO_CERTSIGN, .depth = search->depth, .certificate = candidate};

    if (X509_NAME_cmp(X509_get_subject_name(candidate), X509_get_issuer_name(search->last)) != 0 ||
        X509_cmp(candidate, search->last) == 0 || search->signatures == SIGNATURES_MAX)
        return false;
    search->signatures++;
    if (X509_verify(search->last, X509_get0_pubkey(candidate)) != 1)
        return false;
    if (!finding_check_form(&search->finding, search->depth, candidate))
        return true;
    if ((X509_get_key_usage(candidate) & KU_KEY_CERT_SIGN) != 0)
        return false;
    finding_reject(&search->finding, &place, "%s", "");
    return true;
}

static bool find_among(struct search *search, const STACK_OF(X509) * candidates)
{
    for (int i = 0; i < sk_X509_num(candidates); i++) {
        if (explains(search, sk_X509_value(candidates, i)))
            return true;
    }
    return false;
}

/* OpenSSL names a certificate of the path but not what is wrong with its form. */
static bool explains_itself(struct search *search, const struct verdict *verdict)
{
    int depth = verdict->reason.depth;
    X509 *certificate = depth > 0 ? sk_X509_value(verdict->path, depth) : search->finding.request->leaf;

    return certificate != NULL && !finding_check_form(&search->finding, depth, certificate);
}

void explain_rejection(const struct chain_request *request, STACK_OF(X509) * untrusted, struct verdict *verdict)
{
    struct verdict scratch = {.accepted = false};
    int n = verdict->path != NULL ? sk_X509_num(verdict->path) : 0;
    struct search search = {.finding = {.request = request, .verdict = &scratch},
                            .last = n > 0 ? sk_X509_value(verdict->path, n - 1) : request->leaf,
                            .depth = n > 0 ? n : 1};

    if (explains_itself(&search, verdict) || !finding_check_form(&search.finding, 0, request->leaf) ||
        find_among(&search, untrusted) || find_among(&search, trust_certificates(request->trust))) {
        verdict->reason = scratch.reason;
        verdict->x509_error = scratch.x509_error;
    }
    ERR_clear_error();
}
