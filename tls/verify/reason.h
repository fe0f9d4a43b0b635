/* From OpenSSL's verification errors to what a verdict says: check, sentence, RFC section, and the error for libssl. */
#ifndef TOKENTLS_TLS_VERIFY_REASON_H
#define TOKENTLS_TLS_VERIFY_REASON_H

#include <stdbool.h>

/*
 * How much a reason says about the certificate itself. When several paths were tried, the highest is reported: that a
 * certificate is revoked is worth more than that no issuer was found on another path.
 */
enum reason_rank { REASON_NO_PATH, REASON_SIGNATURE, REASON_STATUS_UNKNOWN, REASON_CERTIFICATE, REASON_REVOKED };

struct reason {
    int error;         /* X509_V_ERR_* as OpenSSL reports it */
    int reported;      /* X509_V_ERR_* given to libssl, which derives the alert from it (RFC 8446 6.2) */
    const char *check; /* "chain", "signature", "validity", "revocation", "key-usage", "policy", "name", ... */
    const char *reference;
    const char *text; /* for a person */
    enum reason_rank rank;
};

/*
 * Reported when the revocation status could not be determined: libssl makes certificate_unknown of it. The error of a
 * missing or expired CRL would make libssl tell the peer that its CA is unknown or its certificate has expired.
 */
#define REASON_ERROR_STATUS_UNKNOWN X509_V_ERR_CRL_PATH_VALIDATION_ERROR

/* What OpenSSL has no error for. Far above its numbers. */
#define REASON_ERROR_VERSION 10001
#define REASON_ERROR_SERIAL 10002
#define REASON_ERROR_NAME_EMPTY 10003
#define REASON_ERROR_CONSTRAINTS 10004
#define REASON_ERROR_OCSP 10005
#define REASON_ERROR_STAPLE 10006
#define REASON_ERROR_PIN 10007

/* The entry for an error; for one that is not in the table a general one; never NULL. */
const struct reason *reason_find(int error);

/* True when the error says that there is no usable answer about revocation, as opposed to "revoked". */
bool reason_is_status_unknown(int error);

/* CRLReason (RFC 5280 5.3.1) as a word: "keyCompromise"; "unknown reason". Static. */
const char *reason_of_revocation(long number);

#endif
