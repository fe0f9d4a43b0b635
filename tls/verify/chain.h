/*
 * Path validation (RFC 5280 section 6) with revocation of every certificate below the root, as one function: all of
 * its input is in the request, it does no I/O, and it answers with a verdict that says which certificate, which check
 * and which section of which RFC. Any thread; needs an ordinary thread's stack (not an ASYNC job's).
 */
#ifndef TOKENTLS_TLS_VERIFY_CHAIN_H
#define TOKENTLS_TLS_VERIFY_CHAIN_H

#include "base/error.h"
#include "tls/verify/verdict.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

struct trust;
struct crl_snapshot;

enum chain_purpose { CHAIN_PURPOSE_ANY, CHAIN_PURPOSE_CLIENT, CHAIN_PURPOSE_SERVER };
enum chain_revocation {
    CHAIN_REVOCATION_REQUIRED, /* a fresh good answer for each certificate below the root */
    CHAIN_REVOCATION_PREFER,   /* missing or stale data is accepted and noted in the verdict; "revoked" rejects */
    CHAIN_REVOCATION_OFF
};
/* Who is asked for the status of a certificate, and in which order. Whoever is asked and says "revoked" rejects. */
enum chain_order { CHAIN_ORDER_OCSP_CRL, CHAIN_ORDER_CRL_OCSP, CHAIN_ORDER_OCSP, CHAIN_ORDER_CRL };

/* Whether the peer was asked for a stapled OCSP response (RFC 6066 8, RFC 8446 4.4.2.1). */
enum chain_stapling {
    CHAIN_STAPLING_NOT_ASKED,
    CHAIN_STAPLING_PENDING, /* asked; it will arrive, or not, after this verdict (TLS 1.2): to be verified again */
    CHAIN_STAPLING_ASKED    /* asked; it is in the request, or was not sent */
};
enum chain_policy { CHAIN_POLICY_2026, CHAIN_POLICY_LEGACY }; /* docs/gateway.md lists what each refuses */

/* Parse "required|prefer|off", "2026|legacy", "client|server|any"; false leaves *ret alone. */
MUST_USE bool chain_parse_revocation(const char *text, enum chain_revocation *ret);
MUST_USE bool chain_parse_policy(const char *text, enum chain_policy *ret);
MUST_USE bool chain_parse_purpose(const char *text, enum chain_purpose *ret);

/* Parse n words of "ocsp" and "crl", each at most once and at least one; false leaves *ret alone. */
MUST_USE bool chain_parse_order(const char *const *words, size_t n, enum chain_order *ret);

#define CHAIN_DEPTH_DEFAULT 8 /* intermediate certificates */
#define CHAIN_DEPTH_MAX 32    /* a larger depth in a request counts as this */

/* OCSP responses of one request that are looked at. */
#define CHAIN_RESPONSES_MAX 64

/* An OCSP response (DER, borrowed); length 0: none. */
struct chain_response {
    const uint8_t *der;
    size_t length; /* bytes */
};

/* Bytes of a SHA-256 over a SubjectPublicKeyInfo. */
#define CHAIN_SPKI_LENGTH 32

struct chain_request {
    X509 *leaf;
    STACK_OF(X509) * untrusted; /* what the peer sent besides; may be NULL, may hold anything in any order */
    const struct trust *trust;
    const struct crl_snapshot *crls;        /* NULL: none */
    const struct chain_response *responses; /* about any certificate of the path; CHAIN_RESPONSES_MAX at the most */
    size_t n_responses;
    struct chain_response staple; /* what the peer has stapled for its leaf */
    enum chain_stapling stapling;
    enum chain_order order;
    int64_t time;      /* UNIX seconds */
    int64_t crl_grace; /* seconds that an expired CRL is still used; 0: none */
    int depth;         /* intermediate certificates at the most; CHAIN_DEPTH_DEFAULT */
    enum chain_purpose purpose;
    enum chain_revocation revocation;
    enum chain_policy policy;
    const uint8_t (*spkis)[CHAIN_SPKI_LENGTH]; /* a certificate of the path must have one of these keys; NULL: any */
    size_t n_spkis;
    const char *hostname;        /* DNS name or IP address literal the leaf must carry; NULL: not checked */
    const char *const *policies; /* initial policy set as dotted OIDs, NULL-terminated; NULL: any-policy */
    bool explicit_policy, inhibit_any, inhibit_mapping; /* RFC 5280 6.1.1 (e) (f) (g) inputs */
    bool of_crl_issuer;   /* the leaf is a CRL issuer's: indirect CRLs of yet other issuers are not asked about it */
    OSSL_LIB_CTX *libctx; /* NULL: default */
};

/* Certificates besides the leaf that are looked at; further ones are left aside. */
#define CHAIN_UNTRUSTED_MAX 1000

/*
 * Validate. Always fills *ret (to be released with verdict_free()); a verdict that could not be reached, for want of
 * memory for example, is a rejection.
 */
void chain_verify(const struct chain_request *request, struct verdict *ret);

#endif
