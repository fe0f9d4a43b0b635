#include "tls/verify/reason.h"

#include <openssl/x509_vfy.h>
#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define NO_PATH(e, t)                                                                                                  \
    {                                                                                                                  \
        (e), (e), "chain", "RFC 5280 6.1", (t), REASON_NO_PATH                                                         \
    }
/* bad_certificate: a certificate was corrupt or contained signatures that did not verify */
#define BAD(e, c, r, t)                                                                                                \
    {                                                                                                                  \
        (e), X509_V_ERR_CERT_REJECTED, (c), (r), (t), REASON_CERTIFICATE                                               \
    }
#define SIGNATURE(e, t)                                                                                                \
    {                                                                                                                  \
        (e), X509_V_ERR_CERT_REJECTED, "signature", "RFC 5280 6.1.3 (a)(1)", (t), REASON_SIGNATURE                     \
    }
#define SAME(e, c, r, t)                                                                                               \
    {                                                                                                                  \
        (e), (e), (c), (r), (t), REASON_CERTIFICATE                                                                    \
    }
#define STATUS(e, r, t)                                                                                                \
    {                                                                                                                  \
        (e), REASON_ERROR_STATUS_UNKNOWN, "revocation", (r), (t), REASON_STATUS_UNKNOWN                                \
    }

static const struct reason reasons[] = {
    NO_PATH(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, "the issuer is unknown"),
    NO_PATH(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "the issuer is unknown"),
    NO_PATH(X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, "the issuer is unknown"),
    NO_PATH(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "self-signed and not a trust anchor"),
    NO_PATH(X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, "the chain ends here, at a certificate that is not a trust anchor"),
    {X509_V_ERR_CERT_UNTRUSTED, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "chain", "RFC 5280 6.1",
     "not trusted for this purpose", REASON_NO_PATH},
    SAME(X509_V_ERR_CERT_CHAIN_TOO_LONG, "depth", "RFC 5280 6.1", "more intermediate certificates than allowed"),

    SIGNATURE(X509_V_ERR_CERT_SIGNATURE_FAILURE, "the signature is not the issuer's"),
    SIGNATURE(X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE, "the signature is not the issuer's"),
    SIGNATURE(X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY, "the issuer's public key cannot be decoded"),

    SAME(X509_V_ERR_CERT_NOT_YET_VALID, "validity", "RFC 5280 6.1.3 (a)(2)", "not yet valid"),
    SAME(X509_V_ERR_CERT_HAS_EXPIRED, "validity", "RFC 5280 6.1.3 (a)(2)", "expired"),
    BAD(X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD, "validity", "RFC 5280 4.1.2.5", "notBefore is malformed"),
    BAD(X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD, "validity", "RFC 5280 4.1.2.5", "notAfter is malformed"),

    {X509_V_ERR_CERT_REVOKED, X509_V_ERR_CERT_REVOKED, "revocation", "RFC 5280 6.1.3 (a)(3)", "revoked",
     REASON_REVOKED},
    STATUS(X509_V_ERR_UNABLE_TO_GET_CRL, "RFC 5280 6.3.3", "no CRL covers it"),
    STATUS(X509_V_ERR_CRL_HAS_EXPIRED, "RFC 5280 6.3.3 (a)", "the CRL has expired"),
    STATUS(X509_V_ERR_CRL_NOT_YET_VALID, "RFC 5280 5.1.2.4", "the CRL is not yet valid"),
    STATUS(X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD, "RFC 5280 5.1.2.4", "thisUpdate of the CRL is malformed"),
    STATUS(X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD, "RFC 5280 5.1.2.5", "nextUpdate of the CRL is malformed"),
    STATUS(X509_V_ERR_CRL_SIGNATURE_FAILURE, "RFC 5280 6.3.3 (g)", "the CRL's signature is not its issuer's"),
    STATUS(X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE, "RFC 5280 6.3.3 (g)", "the CRL's signature is not its issuer's"),
    STATUS(X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER, "RFC 5280 6.3.3 (f)", "the CRL's issuer is unknown"),
    STATUS(X509_V_ERR_KEYUSAGE_NO_CRL_SIGN, "RFC 5280 6.3.3 (f)", "the CRL's issuer may not sign CRLs"),
    STATUS(X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION, "RFC 5280 5.2", "the CRL has an unknown critical extension"),
    STATUS(X509_V_ERR_DIFFERENT_CRL_SCOPE, "RFC 5280 6.3.3 (b)", "the CRL is for other certificates"),
    STATUS(X509_V_ERR_CRL_PATH_VALIDATION_ERROR, "RFC 5280 6.3.3 (f)", "the CRL issuer's certificate is not valid"),
    STATUS(REASON_ERROR_OCSP, "RFC 6960 3.2", "no OCSP response about it"),
    {REASON_ERROR_STAPLE, REASON_ERROR_STATUS_UNKNOWN, "stapling", "RFC 7633 4.2.3",
     "it demands a stapled OCSP response", REASON_CERTIFICATE},

    BAD(REASON_ERROR_PIN, "pin", "RFC 7469 2.6", "not one of the pinned keys or certificates"),
    BAD(REASON_ERROR_VERSION, "version", "RFC 5280 4.1.2.1", "a version that does not fit"),
    BAD(REASON_ERROR_SERIAL, "serial-number", "RFC 5280 4.1.2.2", "a serial number that may not be"),
    BAD(REASON_ERROR_NAME_EMPTY, "names", "RFC 5280 4.1.2.6", "it does not say whose it is"),
    BAD(X509_V_ERR_EMPTY_SUBJECT_ALT_NAME, "extensions", "RFC 5280 4.2.1.6", "subjectAltName without a name"),
    BAD(REASON_ERROR_CONSTRAINTS, "basic-constraints", "RFC 5280 4.2.1.9", "contradicts itself about being a CA"),
    BAD(X509_V_ERR_INVALID_CA, "basic-constraints", "RFC 5280 6.1.4 (k)", "not a CA certificate"),
    BAD(X509_V_ERR_INVALID_NON_CA, "basic-constraints", "RFC 5280 4.2.1.9", "a CA certificate where none may be"),
    BAD(X509_V_ERR_PATH_LENGTH_EXCEEDED, "basic-constraints", "RFC 5280 6.1.4 (l)",
        "more CA certificates below it than its path length constraint allows"),
    BAD(X509_V_ERR_KEYUSAGE_NO_CERTSIGN, "key-usage", "RFC 5280 6.1.4 (n)", "may not sign certificates"),
    SAME(X509_V_ERR_INVALID_PURPOSE, "key-usage", "RFC 5280 4.2.1.12", "may not be used for this purpose"),
    BAD(X509_V_ERR_CERT_REJECTED, "key-usage", "RFC 5280 4.2.1.12", "rejected for this purpose"),
    BAD(X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION, "extensions", "RFC 5280 6.1.4 (o)", "unknown critical extension"),
    BAD(X509_V_ERR_INVALID_EXTENSION, "extensions", "RFC 5280 4.2", "malformed or inconsistent extension"),
    BAD(X509_V_ERR_PROXY_CERTIFICATES_NOT_ALLOWED, "extensions", "RFC 3820", "proxy certificates are not accepted"),

    BAD(X509_V_ERR_INVALID_POLICY_EXTENSION, "extensions", "RFC 5280 4.2.1.4", "malformed policy extension"),
    {X509_V_ERR_NO_EXPLICIT_POLICY, X509_V_ERR_NO_EXPLICIT_POLICY, "policy", "RFC 5280 6.1.5 (g)",
     "no certificate policy is valid for the whole path", REASON_CERTIFICATE},

    BAD(X509_V_ERR_PERMITTED_VIOLATION, "name-constraints", "RFC 5280 6.1.3 (b)", "a name outside the permitted ones"),
    BAD(X509_V_ERR_EXCLUDED_VIOLATION, "name-constraints", "RFC 5280 6.1.3 (c)", "a name that is excluded"),
    BAD(X509_V_ERR_SUBTREE_MINMAX, "name-constraints", "RFC 5280 4.2.1.10", "minimum or maximum is not supported"),
    BAD(X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE, "name-constraints", "RFC 5280 4.2.1.10", "unsupported kind of name"),
    BAD(X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX, "name-constraints", "RFC 5280 4.2.1.10", "malformed constraint"),
    BAD(X509_V_ERR_UNSUPPORTED_NAME_SYNTAX, "name-constraints", "RFC 5280 4.2.1.6", "malformed name"),

    SAME(X509_V_ERR_HOSTNAME_MISMATCH, "name", "RFC 9525 6", "the name is not the certificate's"),
    SAME(X509_V_ERR_IP_ADDRESS_MISMATCH, "name", "RFC 9525 6", "the address is not the certificate's"),
    SAME(X509_V_ERR_EE_KEY_TOO_SMALL, "algorithms", "security policy 2026", "weak key"),
    SAME(X509_V_ERR_CA_KEY_TOO_SMALL, "algorithms", "security policy 2026", "weak key"),
    SAME(X509_V_ERR_CA_MD_TOO_WEAK, "algorithms", "security policy 2026", "weak signature algorithm"),
    SAME(X509_V_ERR_OUT_OF_MEM, "internal", "", "out of memory"),
    SAME(X509_V_ERR_UNSPECIFIED, "internal", "", "the check could not be finished"),
};

static const struct reason other = {
    X509_V_ERR_UNSPECIFIED, X509_V_ERR_CERT_REJECTED, "certificate", "RFC 5280 6.1", "not valid", REASON_CERTIFICATE};

const struct reason *reason_find(int error)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (reasons[i].error == error)
            return &reasons[i];
    }
    return &other;
}

bool reason_is_status_unknown(int error)
{
    return reason_find(error)->rank == REASON_STATUS_UNKNOWN;
}

const char *reason_of_revocation(long number)
{
    static const char *const names[] = {
        "unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
        "superseded",    "cessationOfOperation", "certificateHold", NULL,
        "removeFromCRL", "privilegeWithdrawn",   "aACompromise"};

    if (number < 0 || number >= (long)ARRAY_SIZE(names) || names[number] == NULL)
        return "unknown reason";
    return names[number];
}
