/* What one run of path validation has found so far, reachable from OpenSSL's callbacks. */
#ifndef TOKENTLS_TLS_VERIFY_FINDING_H
#define TOKENTLS_TLS_VERIFY_FINDING_H

#include "base/error.h"
#include "tls/verify/chain.h"
#include "tls/verify/reason.h"
#include "tls/verify/revocation.h"

#include <openssl/x509_vfy.h>

struct finding {
    const struct chain_request *request;
    struct verdict *verdict; /* being filled */
    enum reason_rank rank;   /* of verdict->reason, once rejected */
    bool rejected;
    struct revocation revocation;
    X509_CRL *crl;                  /* being looked at; OpenSSL forgets its current one when it complains of dates */
    struct verdict_note crl_issuer; /* why the path of a CRL issuer failed; check "" when it did not */
};

/* Where in the path something was found. */
struct finding_place {
    int error; /* X509_V_ERR_* */
    int depth; /* 0: the leaf */
    X509 *certificate;
    const char *reference; /* more precise than that of the reason table; NULL: that one */
};

/* Once per process, before the first finding_attach(). False when OpenSSL refuses. */
MUST_USE bool finding_setup(void);

/* Make the finding known to the callbacks of every context made from `store`, which must not outlive it. */
MUST_USE bool finding_attach(X509_STORE *store, struct finding *finding);
struct finding *finding_of(const X509_STORE_CTX *ctx);

/* Reject with the words of the reason table and, after them or instead of them, the formatted text. The first counts.
 */
void finding_reject(struct finding *finding, const struct finding_place *place, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Reject because `crl` lists the certificate, with date and reason. */
void finding_reject_revoked(struct finding *finding, int depth, X509 *certificate, X509_CRL *crl);

/* Record what was tolerated; dropped silently when the verdict has no room for more notes. */
void finding_note(struct finding *finding, const struct finding_place *place, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Record the error OpenSSL reports in `ctx` with its details (dates, CRL, reason of revocation): as a rejection, or as
 * a note when `tolerated`. An error in the path of a CRL's issuer is kept for the error that follows from it.
 */
void finding_from_context(struct finding *finding, X509_STORE_CTX *ctx, bool tolerated);

/*
 * Check the form of the path's certificate at `depth`: what the policy refuses is a rejection (false), what it
 * tolerates a note.
 */
bool finding_check_form(struct finding *finding, int depth, X509 *certificate);

/*
 * The same, and the security policy, for a certificate in the path of a separate CRL issuer; `signer` stands above it.
 * What is refused makes that path fail: the reason is kept for the error that follows from it.
 */
bool finding_check_crl_issuer(struct finding *finding, int depth, X509 *certificate, X509 *signer);

/* Record that a CRL was used for the certificate at `depth`. */
void finding_crl_used(struct finding *finding, int depth, X509_CRL *crl);

#endif
