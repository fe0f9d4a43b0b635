/*
 * Which verified clients may come in: `allow` blocks over the fields of the client's certificate. It says nothing about
 * whether a certificate is valid; only one whose chain was verified is asked about here. Immutable after
 * authorise_new(), so any thread may ask.
 */
#ifndef TOKENTLS_GATEWAY_AUTHORISE_H
#define TOKENTLS_GATEWAY_AUTHORISE_H

#include "base/error.h"

#include <openssl/asn1.h>
#include <openssl/types.h>
#include <openssl/x509.h>
#include <stddef.h>

/* Limits of a configuration, and names of one kind that are looked at in a certificate. */
#define AUTHORISE_RULES_MAX 1024
#define AUTHORISE_VALUES_MAX 65536
#define AUTHORISE_NAMES_MAX 256

struct authorise;

/*
 * What a condition looks at, and how a value is written and compared:
 * CN, OU, ORGANIZATION_IDENTIFIER (2.5.4.97)
 *              an attribute of the subject; exact bytes of its UTF-8 form
 * DNS          dNSName of the subject alternative name; ASCII letters in either case. "*.REST" in the configuration
 *              stands for exactly one label; a wildcard in a certificate is not expanded
 * URI          uniformResourceIdentifier; exact bytes. A path segment "*" in the configuration stands for exactly one
 *              segment; scheme and authority (a SPIFFE ID's trust domain) never have a wildcard
 * EMAIL        rfc822Name; exact before the '@', either case after it (RFC 5280 7.5)
 * POLICY       a certificate policy as dotted OID that is valid for the whole path (RFC 5280 6.1.6); any-policy is
 *              none in particular
 * ISSUER       the certificate's issuer, as RFC 4514 text; compared as RFC 5280 7.1 says (X509_NAME_cmp())
 * ISSUER_SPKI  SHA-256 of the key of the CA that has issued the certificate, on the verified path
 * SERIAL       hex, ':' allowed between bytes; leading zeros do not count. Say the issuer too: serials are its own
 * SPKI         SHA-256 of the SubjectPublicKeyInfo, in hex or base64
 * Bytes of a certificate are compared with their length, so a NUL within a name never ends it.
 */
enum authorise_kind {
    AUTHORISE_CN,
    AUTHORISE_OU,
    AUTHORISE_ORGANIZATION_IDENTIFIER,
    AUTHORISE_DNS,
    AUTHORISE_URI,
    AUTHORISE_EMAIL,
    AUTHORISE_POLICY,
    AUTHORISE_ISSUER,
    AUTHORISE_ISSUER_SPKI_SHA256,
    AUTHORISE_SERIAL,
    AUTHORISE_SPKI_SHA256,
    AUTHORISE_KINDS
};

/* The option's name: "cn", "ou", "organization-identifier", "dns", ..., "spki-sha256". */
const char *authorise_kind_name(enum authorise_kind kind);

struct allow_values {
    const char *const *values;
    size_t n; /* 0: no condition of this kind */
};

/* All kinds that are given must fit, each by any of its values. At least one must be given. */
struct allow_rule {
    const char *name; /* for the log; NULL: its number, from 1 */
    struct allow_values kinds[AUTHORISE_KINDS];
};

/* Who asks: what path validation has accepted. All borrowed for the call. */
struct authorise_client {
    X509 *leaf;
    const STACK_OF(X509) * path;            /* verified, leaf first; NULL: conditions on the issuer's key fit nothing */
    const STACK_OF(ASN1_OBJECT) * policies; /* valid for the whole path; NULL: none */
};

/* Longest name of a rule, bytes. */
#define AUTHORISE_RULE_NAME_MAX 63

/* Whether `value` can be used for `kind`; ERROR_CONFIG says why not. For the configuration, which knows the line. */
MUST_USE result authorise_check_value(enum authorise_kind kind, const char *value, struct error *err);

/*
 * Take the rules (copied). ERROR_CONFIG for a value that cannot be used, a rule without any condition (it would allow
 * everyone) and too many of either; the text counts rules from 1. Without any rule nobody is allowed.
 */
MUST_USE result authorise_new(const struct allow_rule *rules, size_t n_rules, struct authorise **ret,
                              struct error *err);

/* NULL is allowed. */
void authorise_free(struct authorise *authorise);

/*
 * ERROR_NONE when any rule fits the client; *ret_rule (may be NULL) is then the first that does, counted from 0 in the
 * order given. ERROR_VERIFY otherwise: the text names for each rule the first kind that does not fit and what the
 * certificate has there. ERROR_INTERNAL when memory is exhausted. A certificate with an unreadable subject alternative
 * name, or with more than AUTHORISE_NAMES_MAX names of one kind, has none of that kind.
 */
MUST_USE result authorise_check(const struct authorise *authorise, const struct authorise_client *client,
                                size_t *ret_rule, struct error *err);

/* What a rule is called in the log: its name, or its number from 1. Belongs to `authorise`. */
const char *authorise_rule_name(const struct authorise *authorise, size_t rule);

#endif
