/*
 * The status of each certificate of a path from OCSP answers and CRLs together: any source that says "revoked"
 * rejects, one fresh "good" is enough, and the order says who is asked first. Part of walk_run().
 */
#ifndef TOKENTLS_TLS_VERIFY_REVOCATION_H
#define TOKENTLS_TLS_VERIFY_REVOCATION_H

#include "tls/verify/chain.h"

struct finding;

/* Why OCSP gave no good answer, bytes of text kept for each certificate. */
#define REVOCATION_WHY_MAX 160

/* What is known so far; a bit for each depth. */
struct revocation {
    uint64_t good;                                    /* a fresh OCSP answer says good */
    uint64_t unknown;                                 /* the responder has said that it does not know the certificate */
    uint64_t uncovered;                               /* no CRL has given an answer */
    char why[VERDICT_DEPTHS_MAX][REVOCATION_WHY_MAX]; /* "" when there was no OCSP answer, or a good one */
};

/* Whether a source counts for this request at all. Any thread. */
bool revocation_uses_ocsp(const struct chain_request *request);
/* As above. Any thread. */
bool revocation_uses_crls(const struct chain_request *request);

/*
 * Judge the OCSP answers of the request for each certificate of `path` below its last, and whether the leaf's demand
 * for a stapled one is met. False when that rejects. Any thread.
 */
bool revocation_ask_ocsp(struct finding *finding, const STACK_OF(X509) * path);

/* True when it does not matter that no CRL covers the certificate at `depth`. */
bool revocation_is_settled(struct finding *finding, int depth);

/* True when a missing status of the certificate at `depth` is tolerated (prefer), which is then to be noted. */
bool revocation_is_tolerated(const struct finding *finding, int depth);

/* Where no CRLs are used: reject or note each certificate below the last that has no good answer. False: rejected. */
bool revocation_without_crls(struct finding *finding, const STACK_OF(X509) * path);

/* Put the certificates that a responder should be asked about into the verdict. */
void revocation_note_unanswered(struct finding *finding, const STACK_OF(X509) * path);

#endif
