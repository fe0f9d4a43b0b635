/* Candidate paths where names and key identifiers leave a choice of issuers (RFC 5280 6 leaves building to us). */
#ifndef TOKENTLS_TLS_VERIFY_PATHS_H
#define TOKENTLS_TLS_VERIFY_PATHS_H

#include <openssl/types.h>
#include <openssl/x509.h>

/* Paths that are found at the most, and comparisons of a certificate with a possible issuer made for them. */
#define PATHS_MAX 32
#define PATHS_COMPARISONS_MAX 16384

struct paths {
    STACK_OF(X509) *
        intermediates[PATHS_MAX]; /* of one path each, from the leaf's issuer upward; certificates borrowed */
    int n;
};

/*
 * Find paths from `leaf` to one of `anchors` through at most `depth` of `untrusted`, by names, key identifiers and key
 * usage; of the signatures only the anchor's is checked. What does not fit into the limits is left out. The
 * certificates must outlive *ret. Any thread.
 */
void paths_find(X509 *leaf, STACK_OF(X509) * untrusted, const STACK_OF(X509) * anchors, int depth, struct paths *ret);

/* Free the stacks (not the certificates). */
void paths_free(struct paths *paths);

#endif
