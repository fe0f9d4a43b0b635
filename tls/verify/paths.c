#include "tls/verify/paths.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

/* Certificates whose signature by an anchor is calculated, at the most. */
#define ANCHOR_SIGNATURES_MAX 64

struct search {
    STACK_OF(X509) * untrusted;
    const STACK_OF(X509) * anchors;
    STACK_OF(X509) * current; /* the path so far, without the leaf */
    int depth;
    int comparisons;
    struct {
        X509 *certificate; /* borrowed */
        bool by_anchor;
    } tops[ANCHOR_SIGNATURES_MAX];
    int n_tops;
    struct paths *found;
};

static bool issued(struct search *search, X509 *issuer, X509 *subject)
{
    search->comparisons++;
    return X509_check_issued(issuer, subject) == X509_V_OK;
}

static bool is_full(const struct search *search)
{
    return search->found->n == PATHS_MAX || search->comparisons >= PATHS_COMPARISONS_MAX;
}

static bool is_signed_by_anchor(struct search *search, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(search->anchors); i++) {
        X509 *anchor = sk_X509_value(search->anchors, i);

        if (X509_cmp(anchor, certificate) == 0)
            return true;
        if (issued(search, anchor, certificate) && X509_verify(certificate, X509_get0_pubkey(anchor)) == 1)
            return true;
    }
    return false;
}

/*
 * Here the signature is calculated, once for each certificate: whoever has nothing that an anchor signed gets no
 * second run of the validator, however many candidates are sent.
 */
static bool reaches_anchor(struct search *search, X509 *certificate)
{
    bool by_anchor;

    for (int i = 0; i < search->n_tops; i++) {
        if (search->tops[i].certificate == certificate)
            return search->tops[i].by_anchor;
    }
    if (search->n_tops == ANCHOR_SIGNATURES_MAX)
        return false;
    by_anchor = is_signed_by_anchor(search, certificate);
    search->tops[search->n_tops].certificate = certificate;
    search->tops[search->n_tops++].by_anchor = by_anchor;
    return by_anchor;
}

static bool is_on_path(const struct search *search, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(search->current); i++) {
        if (X509_cmp(sk_X509_value(search->current, i), certificate) == 0)
            return true;
    }
    return false;
}

/* Recursion is as deep as the path: at most search->depth + 1. */
static void extend(struct search *search, X509 *last)
{
    if (reaches_anchor(search, last) && !is_full(search)) {
        STACK_OF(X509) *path = sk_X509_dup(search->current);

        if (path != NULL)
            search->found->intermediates[search->found->n++] = path;
    }
    if (sk_X509_num(search->current) == search->depth)
        return;
    for (int i = 0; i < sk_X509_num(search->untrusted) && !is_full(search); i++) {
        X509 *next = sk_X509_value(search->untrusted, i);

        if (!issued(search, next, last) || X509_cmp(next, last) == 0 || is_on_path(search, next))
            continue;
        if (sk_X509_push(search->current, next) <= 0)
            return;
        extend(search, next);
        (void)sk_X509_pop(search->current);
    }
}

void paths_find(X509 *leaf, STACK_OF(X509) * untrusted, const STACK_OF(X509) * anchors, int depth, struct paths *ret)
{
    struct search search = {
        .untrusted = untrusted, .anchors = anchors, .current = sk_X509_new_null(), .depth = depth, .found = ret};

    ret->n = 0;
    if (search.current != NULL)
        extend(&search, leaf);
    sk_X509_free(search.current);
    ERR_clear_error();
}

void paths_free(struct paths *paths)
{
    for (int i = 0; i < paths->n; i++)
        sk_X509_free(paths->intermediates[i]);
    paths->n = 0;
}
