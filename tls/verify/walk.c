#include "tls/verify/walk.h"

#include "base/text.h"
#include "tls/verify/algorithms.h"
#include "tls/verify/crl.h"
#include "tls/verify/extension.h"
#include "tls/verify/finding.h"
#include "tls/verify/further_crls.h"
#include "tls/verify/lookup.h"
#include "tls/verify/name.h"
#include "tls/verify/pin.h"
#include "tls/verify/revocation.h"
#include "tls/verify/trust.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names held against constraints along one path, at the most. */
#define NAME_COMPARISONS_MAX (1 << 20)

/* What OpenSSL does at these points when nobody intervenes. */
static struct {
    X509_STORE_CTX_verify_fn verify;
    X509_STORE_CTX_check_revocation_fn check_revocation;
    X509_STORE_CTX_check_crl_fn check_crl;
    bool usable;
} defaults;
static pthread_once_t defaults_once = PTHREAD_ONCE_INIT;

static void read_defaults(void)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();

    if (store != NULL && ctx != NULL && X509_STORE_CTX_init(ctx, store, NULL, NULL) == 1) {
        defaults.verify = X509_STORE_CTX_get_verify(ctx);
        defaults.check_revocation = X509_STORE_CTX_get_check_revocation(ctx);
        defaults.check_crl = X509_STORE_CTX_get_check_crl(ctx);
    }
    defaults.usable =
        defaults.verify != NULL && defaults.check_revocation != NULL && defaults.check_crl != NULL && finding_setup();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
}

_Static_assert(VERDICT_DEPTHS_MAX == CHAIN_DEPTH_MAX + 2, "leaf, intermediates, anchor");

static void set_place(struct finding_place *place, X509_STORE_CTX *ctx, int error)
{
    *place = (struct finding_place){.error = error,
                                    .depth = X509_STORE_CTX_get_error_depth(ctx),
                                    .certificate = X509_STORE_CTX_get_current_cert(ctx)};
}

/* OpenSSL asks for the status of the trust anchor too; RFC 5280 6.1 does not. */
static bool is_anchor(X509_STORE_CTX *ctx)
{
    return X509_STORE_CTX_get_error_depth(ctx) == sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) - 1;
}

/*
 * Differences between OpenSSL's reading and ours that are no weakness:
 * - the second that notAfter names is still valid (RFC 5280 4.1.2.5), and a CRL is stale after nextUpdate (6.3.3 (a));
 * - the status of a CRL issuer may be covered by the CRL it signs: its path is being validated at that very moment.
 */
static bool is_fine(X509_STORE_CTX *ctx, int error)
{
    const struct chain_request *request = finding_of(ctx)->request;
    X509 *certificate = X509_STORE_CTX_get_current_cert(ctx);
    X509_CRL *crl = X509_STORE_CTX_get0_current_crl(ctx);
    X509 *signer = X509_STORE_CTX_get0_current_issuer(ctx);

    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return certificate != NULL && ASN1_TIME_cmp_time_t(X509_get0_notAfter(certificate), (time_t)request->time) == 0;
    case X509_V_ERR_CRL_HAS_EXPIRED:
        if (crl != NULL && X509_CRL_get0_nextUpdate(crl) != NULL &&
            ASN1_TIME_cmp_time_t(X509_CRL_get0_nextUpdate(crl), (time_t)request->time) == 0)
            return true;
        break;
    case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
        if (X509_STORE_CTX_get0_parent_ctx(ctx) != NULL && signer != NULL &&
            X509_cmp(signer, X509_STORE_CTX_get0_cert(ctx)) == 0)
            return true;
        break;
    default:
        break;
    }
    return reason_is_status_unknown(error) && is_anchor(ctx);
}

/* OpenSSL reports each certificate, from the anchor down, whose signature and dates are good. */
static void pass_link(struct verdict *verdict, X509_STORE_CTX *ctx)
{
    int depth = X509_STORE_CTX_get_error_depth(ctx);

    verdict_pass(verdict, VERDICT_VALIDITY, depth, depth);
    if (!is_anchor(ctx))
        verdict_pass(verdict, VERDICT_SIGNATURE, depth, depth);
}

/* The operator has decided that an expired CRL is better than none for a while. */
static bool is_in_grace(const struct finding *finding, X509_STORE_CTX *ctx)
{
    const X509_CRL *current = X509_STORE_CTX_get0_current_crl(ctx);
    const X509_CRL *crl = current != NULL ? current : finding->crl;
    int64_t end;

    if (finding->request->crl_grace <= 0 || X509_STORE_CTX_get_error(ctx) != X509_V_ERR_CRL_HAS_EXPIRED || crl == NULL)
        return false;
    end = verdict_seconds(X509_CRL_get0_nextUpdate(crl));
    return end > 0 && finding->request->time - end <= finding->request->crl_grace;
}

/* There is no CRL that answers; true when the verdict need not fail for that. */
static bool is_tolerated_status(struct finding *finding, X509_STORE_CTX *ctx)
{
    bool of_crl_issuer = X509_STORE_CTX_get0_parent_ctx(ctx) != NULL;
    int depth = of_crl_issuer ? -1 : X509_STORE_CTX_get_error_depth(ctx);
    bool tolerated;

    if (!revocation_is_settled(finding, depth) && is_in_grace(finding, ctx)) {
        finding->verdict->stale_crl = true;
        finding_from_context(finding, ctx, true);
        return true;
    }
    if (depth >= 0 && depth < VERDICT_DEPTHS_MAX)
        finding->revocation.uncovered |= UINT64_C(1) << depth;
    if (revocation_is_settled(finding, depth))
        return true;
    tolerated = revocation_is_tolerated(finding, depth);
    finding_from_context(finding, ctx, tolerated);
    return tolerated;
}

static int on_error(int ok, X509_STORE_CTX *ctx)
{
    struct finding *finding = finding_of(ctx);
    int error = X509_STORE_CTX_get_error(ctx);
    bool tolerated;

    if (ok > 0 && X509_STORE_CTX_get0_parent_ctx(ctx) == NULL)
        pass_link(finding->verdict, ctx);
    if (ok || error == X509_V_OK)
        return ok;
    tolerated = is_fine(ctx, error);
    if (!tolerated && reason_is_status_unknown(error))
        tolerated = is_tolerated_status(finding, ctx);
    else if (!tolerated)
        finding_from_context(finding, ctx, false);
    if (tolerated)
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
    return tolerated ? 1 : 0;
}

/*
 * Signatures and validity come before revocation: a forged chain must not make us hash CRLs, and an expired certificate
 * is reported as that and not as one without a CRL. So revocation waits until OpenSSL comes to verify().
 */
static int skip_revocation(X509_STORE_CTX *ctx)
{
    const struct chain_request *request = finding_of(ctx)->request;
    struct verdict *verdict = finding_of(ctx)->verdict;
    int last = sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) - 1;

    /* here OpenSSL has built the path and looked at the extensions, and at nothing else */
    if (X509_STORE_CTX_get0_parent_ctx(ctx) != NULL)
        return 1;
    verdict_pass(verdict, VERDICT_CHAIN, 0, last);
    verdict_pass(verdict, VERDICT_EXTENSIONS, 0, last);
    verdict_pass(verdict, VERDICT_CA, 1, last);
    verdict_pass(verdict, VERDICT_CERT_SIGN, 1, last);
    if (request->purpose != CHAIN_PURPOSE_ANY)
        verdict_pass(verdict, VERDICT_PURPOSE, 0, last);
    return 1;
}

/* The work of holding names against constraints, which OpenSSL does for each pair of certificates. */
static bool constraints_are_few(struct finding *finding, STACK_OF(X509) * path)
{
    size_t names = 0, work = 0;

    for (int i = 0; i < sk_X509_num(path); i++) {
        X509 *certificate = sk_X509_value(path, i);
        const struct finding_place place = {
            .error = X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX, .depth = i, .certificate = certificate};

        work += names * extension_count_constraints(certificate);
        names += extension_count_names(certificate);
        if (work > NAME_COMPARISONS_MAX) {
            finding_reject(finding, &place,
                           "too many name constraints for the names below it: %zu comparisons, %d at most", work,
                           NAME_COMPARISONS_MAX);
            return false;
        }
    }
    return true;
}

/* The form of each certificate below the anchor, which RFC 5280 6.1 takes as given. */
static bool forms_are_good(struct finding *finding, STACK_OF(X509) * path)
{
    int n = sk_X509_num(path);

    for (int i = 0; i < n && (i < n - 1 || n == 1); i++) {
        size_t notes = finding->verdict->n_notes;

        if (!finding_check_form(finding, i, sk_X509_value(path, i)))
            return false;
        if (finding->verdict->n_notes == notes)
            verdict_pass(finding->verdict, VERDICT_FORM, i, i);
    }
    return constraints_are_few(finding, path);
}

static bool is_noted(const struct verdict *verdict, int depth, const char *check)
{
    for (size_t i = 0; i < verdict->n_notes; i++) {
        if (verdict->notes[i].depth == depth && strcmp(verdict->notes[i].check, check) == 0)
            return true;
    }
    return verdict->n_notes == VERDICT_NOTES_MAX;
}

/* OpenSSL goes upward from the leaf and stops at the first whose status is not good. */
static void pass_revocation(struct verdict *verdict, X509_STORE_CTX *ctx, bool good)
{
    int n = good ? sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) - 1 : X509_STORE_CTX_get_error_depth(ctx);

    for (int depth = 0; depth < n; depth++) {
        if (!is_noted(verdict, depth, verdict_step_check(VERDICT_REVOCATION)))
            verdict_pass(verdict, VERDICT_REVOCATION, depth, depth);
    }
}

/* A separate CRL issuer decides about others: its path is held to the same as theirs. */
static bool crl_issuers_path_is_good(X509_STORE_CTX *ctx)
{
    STACK_OF(X509) *path = X509_STORE_CTX_get0_chain(ctx);

    for (int i = 0; i + 1 < sk_X509_num(path); i++) {
        if (!finding_check_crl_issuer(finding_of(ctx), i, sk_X509_value(path, i), sk_X509_value(path, i + 1)))
            return false;
    }
    return true;
}

static int verify_then_revocation(X509_STORE_CTX *ctx)
{
    struct finding *finding = finding_of(ctx);
    int ok = defaults.verify(ctx);

    if (ok > 0 && X509_STORE_CTX_get0_parent_ctx(ctx) != NULL)
        return crl_issuers_path_is_good(ctx) ? defaults.check_revocation(ctx) : 0;
    if (ok <= 0)
        return ok;
    if (!forms_are_good(finding, X509_STORE_CTX_get0_chain(ctx)))
        return 0;
    if (!revocation_ask_ocsp(finding, X509_STORE_CTX_get0_chain(ctx)))
        return 0;
    if (finding->request->revocation == CHAIN_REVOCATION_OFF)
        return 1;
    ok = revocation_uses_crls(finding->request) ? defaults.check_revocation(ctx)
                                                : revocation_without_crls(finding, X509_STORE_CTX_get0_chain(ctx));
    pass_revocation(finding->verdict, ctx, ok > 0);
    revocation_note_unanswered(finding, X509_STORE_CTX_get0_chain(ctx));
    return ok;
}

/* Our rules for a CRL; true when OpenSSL's own check may go on. */
static bool crl_is_acceptable(struct finding *finding, X509_STORE_CTX *ctx, X509_CRL *crl)
{
    struct finding_place place;
    char why[128];

    set_place(&place, ctx, X509_V_ERR_CRL_SIGNATURE_FAILURE);
    if (finding->request->policy == CHAIN_POLICY_LEGACY || is_anchor(ctx))
        return true;
    if (!algorithms_2026_crl_signature(crl, why, sizeof(why)))
        (void)0;
    else if (X509_CRL_get0_nextUpdate(crl) == NULL)
        (void)snprintf(why, sizeof(why), "without nextUpdate, so nobody knows whether it is fresh");
    else
        return true;
    if (revocation_is_settled(finding, place.depth))
        return true;
    if (revocation_is_tolerated(finding, place.depth)) {
        finding_note(finding, &place, "the CRL is not acceptable: %s", why);
        return true;
    }
    finding_reject(finding, &place, "the CRL is not acceptable: %s", why);
    return false;
}

static int check_crl(X509_STORE_CTX *ctx, X509_CRL *crl)
{
    struct finding *finding = finding_of(ctx);
    int ok;

    finding->crl = crl;
    if (!crl_is_acceptable(finding, ctx, crl))
        return 0;
    ok = defaults.check_crl(ctx, crl);
    if (ok > 0 && X509_STORE_CTX_get0_parent_ctx(ctx) == NULL && !is_anchor(ctx))
        finding_crl_used(finding, X509_STORE_CTX_get_error_depth(ctx), crl);
    return ok;
}

static bool set_policies(X509_VERIFY_PARAM *param, const char *const *policies)
{
    static const char *const any[] = {"2.5.29.32.0", NULL};

    /* An empty initial set is not "any" to OpenSSL. */
    if (policies == NULL || policies[0] == NULL)
        policies = any;
    for (; *policies != NULL; policies++) {
        ASN1_OBJECT *object = OBJ_txt2obj(*policies, 1);

        if (object == NULL || X509_VERIFY_PARAM_add0_policy(param, object) != 1) {
            ASN1_OBJECT_free(object);
            return false;
        }
    }
    return true;
}

static bool set_parameters(X509_VERIFY_PARAM *param, const struct chain_request *request)
{
    unsigned long flags = X509_V_FLAG_POLICY_CHECK | X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN;
    int depth = request->depth < 0 ? 0 : request->depth > CHAIN_DEPTH_MAX ? CHAIN_DEPTH_MAX : request->depth;

    if (revocation_uses_crls(request))
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL | X509_V_FLAG_EXTENDED_CRL_SUPPORT |
                 X509_V_FLAG_USE_DELTAS;
    if (request->explicit_policy)
        flags |= X509_V_FLAG_EXPLICIT_POLICY;
    if (request->inhibit_any)
        flags |= X509_V_FLAG_INHIBIT_ANY;
    if (request->inhibit_mapping)
        flags |= X509_V_FLAG_INHIBIT_MAP;
    if (X509_VERIFY_PARAM_set_flags(param, flags) != 1 || !set_policies(param, request->policies))
        return false;
    X509_VERIFY_PARAM_set_depth(param, depth);
    X509_VERIFY_PARAM_set_time(param, (time_t)request->time);
    if (request->purpose == CHAIN_PURPOSE_ANY)
        return true;
    return X509_VERIFY_PARAM_set_purpose(param, request->purpose == CHAIN_PURPOSE_CLIENT
                                                    ? X509_PURPOSE_SSL_CLIENT
                                                    : X509_PURPOSE_SSL_SERVER) == 1;
}

static X509_STORE *new_store(struct finding *finding)
{
    X509_STORE *store = X509_STORE_new();

    if (store == NULL)
        return NULL;
    if (!finding_attach(store, finding)) {
        X509_STORE_free(store);
        return NULL;
    }
    lookup_install(store);
    X509_STORE_set_verify_cb(store, on_error);
    X509_STORE_set_check_revocation(store, skip_revocation);
    X509_STORE_set_verify(store, verify_then_revocation);
    X509_STORE_set_check_crl(store, check_crl);
    return store;
}

/* The dated policy, on every certificate below the anchor; `signer` is the next certificate up or NULL. */
static bool algorithms_are_good(struct finding *finding, int depth, X509 *certificate, X509 *signer)
{
    struct finding_place place = {.depth = depth, .certificate = certificate};
    char why[128];

    place.error = depth == 0 ? X509_V_ERR_EE_KEY_TOO_SMALL : X509_V_ERR_CA_KEY_TOO_SMALL;
    if (!algorithms_2026_key(X509_get0_pubkey(certificate), why, sizeof(why))) {
        finding_reject(finding, &place, "%s", why);
        return false;
    }
    place.error = X509_V_ERR_CA_MD_TOO_WEAK;
    if (signer == NULL)
        return true;
    if (!algorithms_2026_certificate_signature(certificate, why, sizeof(why))) {
        finding_reject(finding, &place, "%s", why);
        return false;
    }
    if (!algorithms_2026_key(X509_get0_pubkey(signer), why, sizeof(why))) {
        finding_reject(finding, &place, "signed with a weak key: %s", why);
        return false;
    }
    return true;
}

static void check_path(struct finding *finding, STACK_OF(X509) * path)
{
    int n = sk_X509_num(path);

    for (int i = 0; i < n && !finding->rejected; i++) {
        X509 *certificate = sk_X509_value(path, i);
        X509 *signer = i + 1 < n ? sk_X509_value(path, i + 1) : NULL;

        if (finding->request->policy == CHAIN_POLICY_2026 && (signer != NULL || n == 1) &&
            !algorithms_are_good(finding, i, certificate, signer))
            return;
        if (finding->request->policy == CHAIN_POLICY_2026 && (signer != NULL || n == 1))
            verdict_pass(finding->verdict, VERDICT_ALGORITHMS, i, i);
        if (further_crls_revoke(finding, path, i))
            return;
    }
}

static void check_leaf(struct finding *finding)
{
    const struct chain_request *request = finding->request;
    struct finding_place place = {.certificate = request->leaf};
    char why[200];

    /* TLS 1.3 and ECDHE suites need signatures: RFC 8446 4.4.2.2, RFC 5246 7.4.2. Absent key usage allows all. */
    if (!finding->rejected && request->purpose != CHAIN_PURPOSE_ANY &&
        (X509_get_key_usage(request->leaf) & KU_DIGITAL_SIGNATURE) == 0) {
        place.error = X509_V_ERR_INVALID_PURPOSE;
        finding_reject(finding, &place, "its key usage does not include digitalSignature");
    }
    if (!finding->rejected && request->purpose != CHAIN_PURPOSE_ANY)
        verdict_pass(finding->verdict, VERDICT_DIGITAL_SIGNATURE, 0, 0);
    if (!finding->rejected && request->hostname != NULL &&
        !name_matches(request->leaf, request->hostname, request->policy == CHAIN_POLICY_LEGACY, why, sizeof(why))) {
        place.error =
            name_is_address(request->hostname) ? X509_V_ERR_IP_ADDRESS_MISMATCH : X509_V_ERR_HOSTNAME_MISMATCH;
        finding_reject(finding, &place, "%s", why);
    }
    if (!finding->rejected && request->hostname != NULL)
        verdict_pass(finding->verdict, VERDICT_NAME, 0, 0);
}

/* In addition to everything else: one key of the path must be one of those that are pinned. */
static void check_pins(struct finding *finding, const STACK_OF(X509) * path)
{
    const struct finding_place place = {.error = REASON_ERROR_PIN, .certificate = finding->request->leaf};

    if (finding->rejected || finding->request->n_spkis == 0)
        return;
    if (pin_matches(finding->request, path))
        verdict_pass(finding->verdict, VERDICT_PIN, 0, 0);
    else
        finding_reject(finding, &place, "neither it nor a certificate above it has one of the pinned keys");
}

static void reject_internal(struct finding *finding, int error, const char *text)
{
    const struct finding_place place = {.error = error, .certificate = finding->request->leaf};

    finding_reject(finding, &place, "%s", text);
}

/* The policies that are left at the end of the path. False: no memory. */
static bool keep_policies(struct verdict *verdict, X509_STORE_CTX *ctx)
{
    const X509_POLICY_TREE *tree = X509_STORE_CTX_get0_policy_tree(ctx);
    STACK_OF(X509_POLICY_NODE) *nodes = tree == NULL ? NULL : X509_policy_tree_get0_user_policies(tree);

    if (sk_X509_POLICY_NODE_num(nodes) <= 0)
        return true;
    verdict->policies = sk_ASN1_OBJECT_new_null();
    if (verdict->policies == NULL)
        return false;
    for (int i = 0; i < sk_X509_POLICY_NODE_num(nodes); i++) {
        ASN1_OBJECT *policy = OBJ_dup(X509_policy_node_get0_policy(sk_X509_POLICY_NODE_value(nodes, i)));

        if (policy == NULL || sk_ASN1_OBJECT_push(verdict->policies, policy) <= 0) {
            ASN1_OBJECT_free(policy);
            return false;
        }
    }
    return true;
}

static void run(struct finding *finding, X509_STORE_CTX *ctx)
{
    int ok = X509_verify_cert(ctx);

    finding->verdict->path = X509_STORE_CTX_get1_chain(ctx);
    if (ok > 0 && !finding->rejected) {
        verdict_pass(finding->verdict, VERDICT_NAME_CONSTRAINTS, 0, sk_X509_num(finding->verdict->path) - 2);
        verdict_pass(finding->verdict, VERDICT_POLICIES, 0, sk_X509_num(finding->verdict->path) - 2);
        check_path(finding, finding->verdict->path);
        check_leaf(finding);
        check_pins(finding, finding->verdict->path);
        if (!keep_policies(finding->verdict, ctx))
            reject_internal(finding, X509_V_ERR_OUT_OF_MEM, "out of memory");
    } else if (!finding->rejected) {
        reject_internal(finding, ok == 0 ? X509_STORE_CTX_get_error(ctx) : X509_V_ERR_UNSPECIFIED,
                        "the check could not be finished");
    }
    finding->verdict->accepted = ok > 0 && !finding->rejected && finding->verdict->path != NULL;
    if (!finding->verdict->accepted && !finding->rejected)
        reject_internal(finding, X509_V_ERR_OUT_OF_MEM, "out of memory");
}

enum reason_rank walk_run(const struct chain_request *request, STACK_OF(X509) * untrusted, struct verdict *ret)
{
    struct finding finding = {.request = request, .verdict = ret, .rank = REASON_NO_PATH};
    X509_STORE_CTX *ctx = NULL;
    X509_STORE *store = NULL;

    (void)pthread_once(&defaults_once, read_defaults);
    if (!defaults.usable) {
        reject_internal(&finding, X509_V_ERR_UNSPECIFIED, "OpenSSL could not be prepared");
        return finding.rank;
    }
    store = new_store(&finding);
    ctx = X509_STORE_CTX_new_ex(request->libctx, NULL);
    if (store == NULL || ctx == NULL || X509_STORE_CTX_init(ctx, store, request->leaf, untrusted) != 1)
        reject_internal(&finding, X509_V_ERR_OUT_OF_MEM, "out of memory");
    else if (!set_parameters(X509_STORE_CTX_get0_param(ctx), request))
        reject_internal(&finding, X509_V_ERR_UNSPECIFIED, "the initial policies are not object identifiers");
    else
        run(&finding, ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return finding.rank;
}
