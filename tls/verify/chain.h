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
enum chain_policy { CHAIN_POLICY_2026, CHAIN_POLICY_LEGACY }; /* docs/gateway.md lists what each refuses */

/* Parse "required|prefer|off", "2026|legacy", "client|server|any"; false leaves *ret alone. */
MUST_USE bool chain_parse_revocation(const char *text, enum chain_revocation *ret);
MUST_USE bool chain_parse_policy(const char *text, enum chain_policy *ret);
MUST_USE bool chain_parse_purpose(const char *text, enum chain_purpose *ret);

#define CHAIN_DEPTH_DEFAULT 8 /* intermediate certificates */
#define CHAIN_DEPTH_MAX 32    /* a larger depth in a request counts as this */

struct chain_request {
    X509 *leaf;
    STACK_OF(X509) * untrusted; /* what the peer sent besides; may be NULL, may hold anything in any order */
    const struct trust *trust;
    const struct crl_snapshot *crls; /* NULL: none */
    int64_t time;                    /* UNIX seconds */
    int depth;                       /* intermediate certificates at the most; CHAIN_DEPTH_DEFAULT */
    enum chain_purpose purpose;
    enum chain_revocation revocation;
    enum chain_policy policy;
    const char *hostname;        /* DNS name or IP address literal the leaf must carry; NULL: not checked */
    const char *const *policies; /* initial policy set as dotted OIDs, NULL-terminated; NULL: any-policy */
    bool explicit_policy, inhibit_any, inhibit_mapping; /* RFC 5280 6.1.1 (e) (f) (g) inputs */
    OSSL_LIB_CTX *libctx;                               /* NULL: default */
};

/* Certificates besides the leaf that are looked at; further ones are left aside. */
#define CHAIN_UNTRUSTED_MAX 1000

/*
 * Validate. Always fills *ret (to be released with verdict_free()); a verdict that could not be reached, for want of
 * memory for example, is a rejection.
 */
void chain_verify(const struct chain_request *request, struct verdict *ret);

#endif
