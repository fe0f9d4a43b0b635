#include "tls/verify/paths.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

struct search {
    STACK_OF(X509) * untrusted;
    const STACK_OF(X509) * anchors;
    STACK_OF(X509) * current; /* the path so far, without the leaf */
    int depth;
    int comparisons;
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

static bool reaches_anchor(struct search *search, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(search->anchors); i++) {
        X509 *anchor = sk_X509_value(search->anchors, i);

        if (issued(search, anchor, certificate) || X509_cmp(anchor, certificate) == 0)
            return true;
    }
    return false;
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
