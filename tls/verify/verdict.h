/* What path validation found: accepted or not, and which certificate, which check, which section of which RFC. */
#ifndef TOKENTLS_TLS_VERIFY_VERDICT_H
#define TOKENTLS_TLS_VERIFY_VERDICT_H

#include "base/error.h"

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

struct verdict {
    bool accepted;
    int x509_error;                               /* X509_V_OK, or the X509_V_ERR_* that libssl turns into the alert */
    struct verdict_note reason;                   /* rejected: the check that failed first */
    struct verdict_note notes[VERDICT_NOTES_MAX]; /* what was tolerated (prefer: missing CRL ...) */
    size_t n_notes;
    struct verdict_crl crls[VERDICT_CRLS_MAX];
    size_t n_crls;
    STACK_OF(X509) * path; /* the path used (leaf first), as far as it was built; may be NULL; verdict_free() */
};

/* One line: "certificate CN=x (depth 1): revocation: revoked since ... (RFC 5280 6.3.3)". Returns out. */
char *verdict_describe(const struct verdict *verdict, char *out, size_t size);

/* Release the path (not the struct, which may be freed or filled again). NULL is allowed. */
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
