/* What path validation found: accepted or not, and which certificate, which check, which section of which RFC. */
#ifndef TOKENTLS_TLS_VERIFY_VERDICT_H
#define TOKENTLS_TLS_VERIFY_VERDICT_H

#include "base/error.h"

#include <openssl/asn1.h>
#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct verdict_note {
    int depth;          /* 0: the leaf */
    char subject[256];  /* escaped, one line; the certificate it is about */
    char check[64];     /* "signature", "validity", "revocation", "key-usage", "name", "policy", ... */
    char text[256];     /* what was found, for a person: "revoked since 2026-01-02 (keyCompromise) by CRL of CN=..." */
    char reference[48]; /* "RFC 5280 6.3.3" */
};
#define VERDICT_NOTES_MAX 16

/* A CRL that was used, in the order of use. */
struct verdict_crl {
    int depth;                        /* of the certificate whose status it gave */
    char issuer[256];                 /* escaped, one line */
    char number[44];                  /* CRL number in hex, "" without one (RFC 5280 5.2.3: 20 octets at the most) */
    int64_t this_update, next_update; /* UNIX seconds; next_update 0: absent */
    bool delta;
};
#define VERDICT_CRLS_MAX 16

/* An OCSP answer about a certificate of the path, in the order they were looked at. */
struct verdict_ocsp {
    int depth;                        /* of the certificate it is about */
    const char *status;               /* static: "good", "revoked", "unknown", "unusable" */
    char responder[256];              /* escaped, one line; "" when nobody can be held to it */
    int64_t this_update, next_update; /* UNIX seconds; next_update 0: absent */
    bool delegated;                   /* signed by a responder whom the issuer has authorised */
    bool stapled;                     /* sent by the peer in the handshake */
};
#define VERDICT_OCSPS_MAX 16

/* The checks of one certificate, in the order they are made. */
enum verdict_step {
    VERDICT_CHAIN,
    VERDICT_EXTENSIONS,
    VERDICT_CA,
    VERDICT_CERT_SIGN,
    VERDICT_PURPOSE,
    VERDICT_SIGNATURE,
    VERDICT_VALIDITY,
    VERDICT_FORM,
    VERDICT_REVOCATION,
    VERDICT_NAME_CONSTRAINTS,
    VERDICT_POLICIES,
    VERDICT_ALGORITHMS,
    VERDICT_DIGITAL_SIGNATURE,
    VERDICT_NAME,
    VERDICT_PIN,
    VERDICT_STEPS
};
#define VERDICT_DEPTHS_MAX 34 /* certificates of a path: leaf, CHAIN_DEPTH_MAX intermediates, anchor */

struct verdict {
    bool accepted;
    int x509_error;             /* X509_V_OK, or the X509_V_ERR_* that libssl turns into the alert */
    struct verdict_note reason; /* rejected: the check that failed first */
    size_t n_notes;
    size_t n_crls;
    size_t n_ocsps;
    uint64_t unanswered; /* a bit for each depth of the path, whose signatures and dates are good: an OCSP
                            answer about this certificate would count and is not there */
    bool status_unknown; /* rejected only because nothing says whether a certificate is revoked */
    bool stale_crl;      /* an expired CRL was used within chain_request.crl_grace; there is a note about it */
    bool staple_pending; /* the verdict leans on a stapled response that is still to come */
    bool remembered;     /* reached for an earlier connection, and everything is as it was (tls/verify/remembered.h) */
    uint16_t passed[VERDICT_DEPTHS_MAX]; /* for verdict_passed() */
    STACK_OF(X509) * path; /* the path used (leaf first), as far as it was built; may be NULL; verdict_free() */
    /*
     * Accepted: the certificate policies that are valid for the whole path and within the initial policy set (RFC 5280
     * 6.1.6), in the terms of the anchor's domain; any-policy among them where nothing narrows it. NULL: none.
     */
    STACK_OF(ASN1_OBJECT) * policies;

    /* Last, since they are large and mostly unused: of each the first n_... are set. */
    struct verdict_note notes[VERDICT_NOTES_MAX]; /* what was tolerated (prefer: missing CRL ...) */
    struct verdict_crl crls[VERDICT_CRLS_MAX];
    struct verdict_ocsp ocsps[VERDICT_OCSPS_MAX];
};

/* One line: "certificate CN=x (depth 1): revocation: revoked since ... (RFC 5280 6.3.3)". Returns out. */
char *verdict_describe(const struct verdict *verdict, char *out, size_t size);

/*
 * True when the check was made for the certificate at `depth` and was passed without a note about it. What applies to
 * no certificate of that place, or was not asked for, is never passed.
 */
bool verdict_passed(const struct verdict *verdict, int depth, enum verdict_step step);

/* Record that the certificates at the depths `first` to `last` have passed a check. */
void verdict_pass(struct verdict *verdict, enum verdict_step step, int first, int last);

/* What a check is called in reasons and notes, and where it is defined. Static strings. */
const char *verdict_step_check(enum verdict_step step);
const char *verdict_step_reference(enum verdict_step step);

/* Release path and policies (not the struct, which may be freed or filled again). NULL is allowed. */
void verdict_free(struct verdict *verdict);

/* The subject of a certificate as one escaped line, "serial 0a1b" when it is empty. Returns out. */
char *verdict_subject(X509 *certificate, char *out, size_t size);

/* A name as one escaped line (RFC 2253 order). Returns out. */
char *verdict_name(const X509_NAME *name, char *out, size_t size);

/* "2026-01-02T03:04:05Z", "(unreadable)". Returns out. */
char *verdict_time(const ASN1_TIME *time, char *out, size_t size);

/* UNIX seconds of an ASN.1 time; 0 when it is NULL or unreadable. */
int64_t verdict_seconds(const ASN1_TIME *time);

#endif
