#include "tls/verify/revocation.h"

#include "tls/verify/finding.h"
#include "tls/verify/ocsp.h"

#include <stdio.h>
#include <string.h>

static uint64_t bit(int depth)
{
    return depth >= 0 && depth < VERDICT_DEPTHS_MAX ? UINT64_C(1) << depth : 0;
}

_Static_assert(VERDICT_DEPTHS_MAX <= 64, "a bit for each depth");

bool revocation_uses_ocsp(const struct chain_request *request)
{
    return request->revocation != CHAIN_REVOCATION_OFF && request->order != CHAIN_ORDER_CRL;
}

bool revocation_uses_crls(const struct chain_request *request)
{
    return request->revocation != CHAIN_REVOCATION_OFF && request->order != CHAIN_ORDER_OCSP;
}

/* What an answer is worth, more first. */
static int worth(const struct ocsp_answer *answer)
{
    static const int values[] = {[OCSP_REVOKED] = 4, [OCSP_GOOD] = 3, [OCSP_UNKNOWN] = 2, [OCSP_UNUSABLE] = 1};

    return answer->about_it || answer->status != OCSP_UNUSABLE ? values[answer->status] : 0;
}

static void note_used(struct verdict *verdict, int depth, const struct ocsp_answer *answer, bool stapled)
{
    struct verdict_ocsp *used = &verdict->ocsps[verdict->n_ocsps];

    if (verdict->n_ocsps == VERDICT_OCSPS_MAX)
        return;
    verdict->n_ocsps++;
    *used = (struct verdict_ocsp){.depth = depth,
                                  .status = ocsp_status_name(answer->status),
                                  .this_update = answer->this_update,
                                  .next_update = answer->next_update,
                                  .delegated = answer->delegated,
                                  .stapled = stapled};
    (void)snprintf(used->responder, sizeof(used->responder), "%s", answer->responder);
}

/* The best answer about the certificate at `depth`, from the stapled response or the others. */
static void judge(const struct finding *finding, const STACK_OF(X509) * path, int depth, bool stapled,
                  struct ocsp_answer *ret)
{
    const struct chain_request *request = finding->request;
    const struct ocsp_question question = {.certificate = sk_X509_value(path, depth),
                                           .issuer = sk_X509_value(path, depth + 1),
                                           .time = request->time,
                                           .policy = request->policy,
                                           .crls = request->crls,
                                           .insist = request->revocation == CHAIN_REVOCATION_REQUIRED,
                                           .libctx = request->libctx};
    const struct chain_response *responses = stapled ? &request->staple : request->responses;
    size_t n = stapled ? (request->staple.length > 0 ? 1 : 0) : request->n_responses;

    *ret = (struct ocsp_answer){.status = OCSP_UNUSABLE};
    for (size_t i = 0; i < n && i < CHAIN_RESPONSES_MAX; i++) {
        struct ocsp_answer answer;

        ocsp_judge(&question, responses[i].der, responses[i].length, &answer);
        if (answer.about_it)
            note_used(finding->verdict, depth, &answer, stapled);
        if (worth(&answer) > worth(ret) || ret->text[0] == '\0')
            *ret = answer;
    }
}

/* Record what an answer says; false when it says "revoked". */
static bool take(struct finding *finding, X509 *certificate, int depth, const struct ocsp_answer *answer)
{
    struct revocation *revocation = &finding->revocation;
    const struct finding_place place = {
        .error = X509_V_ERR_CERT_REVOKED, .depth = depth, .certificate = certificate, .reference = "RFC 6960 2.2"};

    switch (answer->status) {
    case OCSP_REVOKED:
        finding_reject(finding, &place, "%s", answer->text);
        return false;
    case OCSP_GOOD:
        revocation->good |= bit(depth);
        return true;
    case OCSP_UNKNOWN:
        revocation->unknown |= bit(depth);
        break;
    case OCSP_UNUSABLE:
        /* A response about others says nothing, unless it was stapled as the leaf's. */
        if (!answer->about_it && depth > 0)
            return true;
        break;
    }
    (void)snprintf(revocation->why[depth], REVOCATION_WHY_MAX, "%.*s", REVOCATION_WHY_MAX - 1, answer->text);
    return true;
}

/* RFC 7633: the leaf's key may be used only with a current answer about it in the handshake. */
static bool staple_is_good(struct finding *finding, X509 *leaf, const struct ocsp_answer *staple)
{
    const struct chain_request *request = finding->request;
    const struct finding_place place = {.error = REASON_ERROR_STAPLE, .certificate = leaf};

    if (request->stapling == CHAIN_STAPLING_NOT_ASKED || !ocsp_is_must_staple(leaf) || staple->status == OCSP_GOOD)
        return true;
    if (request->stapling == CHAIN_STAPLING_PENDING) {
        finding->verdict->staple_pending = true;
        return true;
    }
    if (request->staple.length == 0)
        finding_reject(finding, &place, "it demands a stapled OCSP response (must-staple), and none was sent");
    else
        finding_reject(finding, &place, "it demands a stapled OCSP response (must-staple), but: %s", staple->text);
    return false;
}

bool revocation_ask_ocsp(struct finding *finding, const STACK_OF(X509) * path)
{
    const struct chain_request *request = finding->request;
    int n = sk_X509_num(path) - 1 < VERDICT_DEPTHS_MAX ? sk_X509_num(path) - 1 : VERDICT_DEPTHS_MAX;
    struct ocsp_answer answer;

    if (n < 1)
        return true;
    judge(finding, path, 0, true, &answer);
    if (revocation_uses_ocsp(request) && request->staple.length > 0 &&
        !take(finding, sk_X509_value(path, 0), 0, &answer))
        return false;
    if (!staple_is_good(finding, sk_X509_value(path, 0), &answer))
        return false;
    for (int depth = 0; revocation_uses_ocsp(request) && request->n_responses > 0 && depth < n; depth++) {
        judge(finding, path, depth, false, &answer);
        if (!take(finding, sk_X509_value(path, depth), depth, &answer))
            return false;
    }
    return true;
}

bool revocation_is_settled(struct finding *finding, int depth)
{
    if ((finding->revocation.good & bit(depth)) != 0)
        return true;
    if (depth != 0 || finding->request->stapling != CHAIN_STAPLING_PENDING || !revocation_uses_ocsp(finding->request))
        return false;
    finding->verdict->staple_pending = true;
    return true;
}

bool revocation_is_tolerated(const struct finding *finding, int depth)
{
    return finding->request->revocation == CHAIN_REVOCATION_PREFER && (finding->revocation.unknown & bit(depth)) == 0;
}

bool revocation_without_crls(struct finding *finding, const STACK_OF(X509) * path)
{
    for (int depth = 0; depth < sk_X509_num(path) - 1; depth++) {
        struct finding_place place = {.error = REASON_ERROR_OCSP, .depth = depth};
        const char *why = depth < VERDICT_DEPTHS_MAX ? finding->revocation.why[depth] : "";

        if (revocation_is_settled(finding, depth))
            continue;
        place.certificate = sk_X509_value(path, depth);
        finding->revocation.uncovered |= bit(depth);
        if (revocation_is_tolerated(finding, depth)) {
            finding_note(finding, &place, "%s", why);
            continue;
        }
        finding_reject(finding, &place, "%s", why);
        return false;
    }
    return true;
}

void revocation_note_unanswered(struct finding *finding, const STACK_OF(X509) * path)
{
    const struct chain_request *request = finding->request;
    const struct revocation *known = &finding->revocation;

    for (int depth = 0; revocation_uses_ocsp(request) && depth < sk_X509_num(path) - 1; depth++) {
        bool first = request->order != CHAIN_ORDER_CRL_OCSP;

        if ((known->good & bit(depth)) == 0 && (first || (known->uncovered & bit(depth)) != 0))
            finding->verdict->unanswered |= bit(depth);
    }
}
