#include "tls/verify/chain.h"

#include "tls/verify/algorithms.h"
#include "tls/verify/explain.h"
#include "tls/verify/paths.h"
#include "tls/verify/trust.h"
#include "tls/verify/walk.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs of the validator for one request at the most (design: issuer orders tried where names are ambiguous). */
#define RUNS_MAX 32

static bool parse_word(const char *text, const char *const *words, int *ret)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

bool chain_parse_revocation(const char *text, enum chain_revocation *ret)
{
    static const char *const words[] = {"required", "prefer", "off", NULL};
    int value;

    if (!parse_word(text, words, &value))
        return false;
    *ret = (enum chain_revocation)value;
    return true;
}

bool chain_parse_policy(const char *text, enum chain_policy *ret)
{
    static const char *const words[] = {"2026", "legacy", NULL};
    int value;

    if (!parse_word(text, words, &value))
        return false;
    *ret = (enum chain_policy)value;
    return true;
}

bool chain_parse_purpose(const char *text, enum chain_purpose *ret)
{
    static const char *const words[] = {"any", "client", "server", NULL};
    int value;

    if (!parse_word(text, words, &value))
        return false;
    *ret = (enum chain_purpose)value;
    return true;
}

bool chain_parse_order(const char *const *words, size_t n, enum chain_order *ret)
{
    static const char *const names[] = {"ocsp", "crl", NULL};
    int first, second;

    if (n < 1 || n > 2 || !parse_word(words[0], names, &first))
        return false;
    if (n == 1) {
        *ret = first == 0 ? CHAIN_ORDER_OCSP : CHAIN_ORDER_CRL;
        return true;
    }
    if (!parse_word(words[1], names, &second) || second == first)
        return false;
    *ret = first == 0 ? CHAIN_ORDER_OCSP_CRL : CHAIN_ORDER_CRL_OCSP;
    return true;
}

/* A key so large that checking its signatures is an attack. */
static bool is_expensive(X509 *certificate)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);

    return key != NULL && EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) > ALGORITHMS_RSA_BITS_MAX;
}

static bool append_usable(STACK_OF(X509) * to, const STACK_OF(X509) * from)
{
    for (int i = 0; i < sk_X509_num(from) && sk_X509_num(to) < CHAIN_UNTRUSTED_MAX; i++) {
        if (!is_expensive(sk_X509_value(from, i)) && sk_X509_push(to, sk_X509_value(from, i)) <= 0)
            return false;
    }
    return true;
}

/* What paths may be built from; certificates borrowed. */
static STACK_OF(X509) * collect_untrusted(const struct chain_request *request)
{
    STACK_OF(X509) *all = sk_X509_new_null();

    if (all == NULL)
        return NULL;
    if (!append_usable(all, request->untrusted) || !append_usable(all, trust_intermediates(request->trust))) {
        sk_X509_free(all);
        return NULL;
    }
    return all;
}

/* The path's certificates first, so that OpenSSL prefers them; the rest behind, for the issuers of CRLs. */
static STACK_OF(X509) * order_for(const STACK_OF(X509) * path, const STACK_OF(X509) * all, bool backward)
{
    STACK_OF(X509) *order = sk_X509_dup(path);
    int n = sk_X509_num(all);

    for (int i = 0; order != NULL && i < n; i++) {
        if (sk_X509_push(order, sk_X509_value(all, backward ? n - 1 - i : i)) <= 0) {
            sk_X509_free(order);
            return NULL;
        }
    }
    return order;
}

static bool is_same_path(const struct verdict *verdict, const STACK_OF(X509) * intermediates)
{
    int n = sk_X509_num(intermediates);

    /* leaf, intermediates, anchor */
    if (sk_X509_num(verdict->path) != n + 2)
        return false;
    for (int i = 0; i < n; i++) {
        if (X509_cmp(sk_X509_value(verdict->path, i + 1), sk_X509_value(intermediates, i)) != 0)
            return false;
    }
    return true;
}

struct attempts {
    const struct chain_request *request;
    STACK_OF(X509) * untrusted;
    struct verdict *best;
    enum reason_rank best_rank;
    int runs;
};

/* What is wrong with the leaf whatever path leads to it; that its issuer has revoked it counts on every path. */
static bool is_the_leafs_own_fault(const struct verdict *verdict)
{
    static const int faults[] = {X509_V_ERR_CERT_REVOKED,       X509_V_ERR_CERT_HAS_EXPIRED,
                                 X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_INVALID_PURPOSE,
                                 X509_V_ERR_HOSTNAME_MISMATCH,  X509_V_ERR_IP_ADDRESS_MISMATCH,
                                 X509_V_ERR_EE_KEY_TOO_SMALL};

    for (size_t i = 0; verdict->reason.depth == 0 && i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (verdict->x509_error == faults[i])
            return true;
    }
    return false;
}

static bool is_final(const struct attempts *attempts)
{
    return attempts->best->accepted || attempts->runs >= RUNS_MAX || is_the_leafs_own_fault(attempts->best);
}

static void attempt(struct attempts *attempts, STACK_OF(X509) * order)
{
    struct verdict *verdict = order != NULL ? calloc(1, sizeof(*verdict)) : NULL;
    enum reason_rank rank;

    if (verdict == NULL)
        return;
    attempts->runs++;
    rank = walk_run(attempts->request, order, verdict);
    if (verdict->accepted || rank > attempts->best_rank || attempts->runs == 1) {
        verdict_free(attempts->best);
        *attempts->best = *verdict;
        attempts->best_rank = rank;
    } else {
        verdict_free(verdict);
    }
    free(verdict);
}

static void attempt_path(struct attempts *attempts, const STACK_OF(X509) * path, bool backward)
{
    STACK_OF(X509) *order = order_for(path, attempts->untrusted, backward);

    attempt(attempts, order);
    sk_X509_free(order);
}

static void attempt_others(struct attempts *attempts)
{
    struct paths paths;

    paths_find(attempts->request->leaf, attempts->untrusted, trust_certificates(attempts->request->trust),
               attempts->request->depth, &paths);
    for (int i = 0; i < paths.n && !is_final(attempts); i++) {
        if (!is_same_path(attempts->best, paths.intermediates[i]))
            attempt_path(attempts, paths.intermediates[i], false);
        /* Who signed a CRL can be ambiguous as well, and OpenSSL takes the first of the name. */
        if (!is_final(attempts) && attempts->best_rank == REASON_STATUS_UNKNOWN)
            attempt_path(attempts, paths.intermediates[i], true);
    }
    paths_free(&paths);
}

/* OpenSSL passes over what it cannot read, or says no more than that. */
static bool needs_explanation(const struct attempts *attempts)
{
    const struct verdict *best = attempts->best;

    if (attempts->best_rank == REASON_NO_PATH || strcmp(best->reason.check, "internal") == 0)
        return true;
    return best->x509_error == X509_V_ERR_CERT_REJECTED &&
           (strcmp(best->reason.check, "extensions") == 0 || strcmp(best->reason.check, "validity") == 0);
}

/* The leaf is one of the pinned certificates or nothing; who issued it does not matter, everything else does. */
static void verify_pinned(const struct chain_request *request, struct verdict *ret)
{
    struct trust *only = trust_pick(request->trust, request->leaf);
    const struct reason *reason = reason_find(REASON_ERROR_PIN);
    struct chain_request narrowed = *request;

    if (only == NULL) {
        ret->x509_error = reason->reported;
        (void)snprintf(ret->reason.check, sizeof(ret->reason.check), "%s", reason->check);
        (void)snprintf(ret->reason.reference, sizeof(ret->reason.reference), "%s", reason->reference);
        (void)snprintf(ret->reason.text, sizeof(ret->reason.text), "it is not one of the pinned certificates");
        verdict_subject(request->leaf, ret->reason.subject, sizeof(ret->reason.subject));
        return;
    }
    narrowed.trust = only;
    narrowed.untrusted = NULL;
    narrowed.revocation = CHAIN_REVOCATION_OFF;
    *ret = (struct verdict){0};
    (void)walk_run(&narrowed, NULL, ret);
    if (ret->accepted)
        verdict_pass(ret, VERDICT_PIN, 0, 0);
    trust_free(only);
    ERR_clear_error();
}

void chain_verify(const struct chain_request *request, struct verdict *ret)
{
    struct attempts attempts = {.request = request, .best = ret, .best_rank = REASON_NO_PATH};

    *ret = (struct verdict){.x509_error = X509_V_ERR_UNSPECIFIED};
    (void)snprintf(ret->reason.check, sizeof(ret->reason.check), "internal");
    (void)snprintf(ret->reason.text, sizeof(ret->reason.text), "out of memory");
    if (trust_is_pinned(request->trust)) {
        verify_pinned(request, ret);
        return;
    }
    attempts.untrusted = collect_untrusted(request);
    if (attempts.untrusted == NULL)
        return;
    attempt(&attempts, attempts.untrusted);
    if (!is_final(&attempts))
        attempt_others(&attempts);
    if (!ret->accepted && needs_explanation(&attempts))
        explain_rejection(request, attempts.untrusted, ret);
    sk_X509_free(attempts.untrusted);
    ERR_clear_error();
}
