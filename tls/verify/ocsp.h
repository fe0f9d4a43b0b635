/*
 * OCSP (RFC 6960) without a socket: build a request, judge a response. Everything is an argument, nothing is fetched,
 * no clock is read.
 */
#ifndef TOKENTLS_TLS_VERIFY_OCSP_H
#define TOKENTLS_TLS_VERIFY_OCSP_H

#include "base/error.h"
#include "tls/verify/chain.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crl_snapshot;

/* Bytes of a response that are looked at, at the most; a usual one has 500 to 2,500. */
#define OCSP_RESPONSE_MAX ((size_t)64 << 10)

/* Answers in one response, and certificates sent along with it, that are looked at. */
#define OCSP_ANSWERS_MAX 256
#define OCSP_CERTIFICATES_MAX 8

/* How far apart the clocks of responder and reader may be, in seconds: thisUpdate and nextUpdate are read with it. */
#define OCSP_SKEW_MAX 300

/* Age of an answer without nextUpdate at the most, in seconds: there is always newer information (RFC 6960 4.2.2.1). */
#define OCSP_AGE_MAX 3600

/* Bytes of a nonce (RFC 9654 2.1: 32 are recommended, 1 to 128 allowed). */
#define OCSP_NONCE_LENGTH 32

enum ocsp_status {
    OCSP_GOOD,
    OCSP_REVOKED,
    OCSP_UNKNOWN, /* the responder does not know the certificate; this is not good */
    OCSP_UNUSABLE /* no answer about this certificate that can be relied on */
};

struct ocsp_question {
    X509 *certificate, *issuer;
    int64_t time;                    /* UNIX seconds */
    enum chain_policy policy;        /* for the algorithms of responder and signature */
    const struct crl_snapshot *crls; /* for a delegated responder without id-pkix-ocsp-nocheck; NULL: none */
    bool insist;                     /* without nocheck, a CRL must say that the responder is not revoked */
    const uint8_t *nonce;            /* OCSP_NONCE_LENGTH bytes that the request carried; NULL: none */
    OSSL_LIB_CTX *libctx;            /* NULL: default */
};

struct ocsp_answer {
    enum ocsp_status status;
    bool about_it;                              /* there is an answer whose CertID is the certificate's */
    int64_t this_update, next_update, produced; /* UNIX seconds; 0: absent */
    int64_t revoked_at;                         /* UNIX seconds; OCSP_REVOKED only */
    char responder[256];                        /* subject of who has signed; "" while unknown */
    bool delegated;                             /* signed by somebody whom the issuer has authorised */
    char text[256];                             /* for a person: "revoked since 2026-... (keyCompromise) by ..." */
    char reference[32];                         /* "RFC 6960 4.2.2.2" */
};

/*
 * Judge a response (length bytes of DER) for one certificate: response status, CertID (SHA-1, SHA-256, SHA-384 or
 * SHA-512), nonce, signature by the issuer itself or by a responder whose certificate the issuer's key has signed for
 * that purpose, dates. Always fills *ret. A "revoked" whose time has passed still counts as revoked. Any thread.
 */
void ocsp_judge(const struct ocsp_question *question, const uint8_t *der, size_t length, struct ocsp_answer *ret);

/*
 * A request (DER) about `certificate` with a SHA-1 CertID, the one that each responder understands (RFC 5019 2.1.1),
 * and `nonce` (OCSP_NONCE_LENGTH bytes) unless NULL. *ret is the caller's (OPENSSL_free()), *ret_length in bytes.
 * ERROR_INTERNAL when memory is exhausted. Any thread.
 */
MUST_USE result ocsp_request(const struct ocsp_question *question, uint8_t **ret, size_t *ret_length,
                             struct error *err);

/*
 * The first http: responder that authorityInfoAccess names (RFC 5280 4.2.2.1) in `out` (size bytes); false: none that
 * fits. Any thread.
 */
MUST_USE bool ocsp_responder_url(X509 *certificate, char *out, size_t size);

/* True when the certificate demands a stapled response: TLS feature status_request (RFC 7633 4.2.3). Any thread. */
bool ocsp_is_must_staple(X509 *certificate);

/* Static word: "good", "revoked", "unknown", "unusable". */
const char *ocsp_status_name(enum ocsp_status status);

#endif
