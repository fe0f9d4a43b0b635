#include "gateway/authorise.h"

#include "base/text.h"
#include "gateway/allow_value.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_NAMES_MAX 4 /* of a certificate, in a refusal */

struct values {
    struct allow_value *values; /* owned */
    size_t n;
};

struct rule {
    struct values kinds[AUTHORISE_KINDS];
};

struct authorise {
    struct rule *rules; /* owned */
    size_t n;
};

static void values_free(struct values *values)
{
    for (size_t i = 0; i < values->n; i++)
        allow_value_free(&values->values[i]);
    free(values->values);
    *values = (struct values){0};
}

const char *authorise_kind_name(enum authorise_kind kind)
{
    return allow_value_kind_name(kind);
}

result authorise_check_value(enum authorise_kind kind, const char *value, struct error *err)
{
    struct allow_value parsed = {0};
    result failure = allow_value_parse(kind, value, &parsed, err);

    allow_value_free(&parsed);
    return failure;
}

static result take_kind(enum authorise_kind kind, const struct allow_values *from, struct values *ret,
                        struct error *err)
{
    if (from->n == 0)
        return ERROR_NONE;
    if (from->n > AUTHORISE_VALUES_MAX)
        return error_set(err, ERROR_CONFIG, "%s has more than %d values", authorise_kind_name(kind),
                         AUTHORISE_VALUES_MAX);
    ret->values = calloc(from->n, sizeof(*ret->values));
    if (ret->values == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < from->n; i++) {
        result failure = allow_value_parse(kind, from->values[i], &ret->values[i], err);

        if (failure != ERROR_NONE)
            return failure;
        ret->n++;
    }
    return ERROR_NONE;
}

static result take_rule(const struct allow_rule *from, struct rule *ret, struct error *err)
{
    bool any = false;

    for (int kind = 0; kind < AUTHORISE_KINDS; kind++) {
        result failure = take_kind((enum authorise_kind)kind, &from->kinds[kind], &ret->kinds[kind], err);

        if (failure != ERROR_NONE)
            return failure;
        any = any || ret->kinds[kind].n > 0;
    }
    if (!any)
        return error_set(err, ERROR_CONFIG, "it has no condition and would allow everyone");
    return ERROR_NONE;
}

result authorise_new(const struct allow_rule *rules, size_t n_rules, struct authorise **ret, struct error *err)
{
    struct authorise *authorise;
    result failure = ERROR_NONE;

    if (n_rules > AUTHORISE_RULES_MAX)
        return error_set(err, ERROR_CONFIG, "more than %d allow blocks", AUTHORISE_RULES_MAX);
    authorise = calloc(1, sizeof(*authorise));
    if (authorise != NULL)
        authorise->rules = calloc(n_rules + 1, sizeof(*authorise->rules));
    if (authorise == NULL || authorise->rules == NULL) {
        free(authorise);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    for (; authorise->n < n_rules && failure == ERROR_NONE; authorise->n++)
        failure = take_rule(&rules[authorise->n], &authorise->rules[authorise->n], err);
    if (failure != ERROR_NONE) {
        error_prefix(err, "allow block %zu", authorise->n);
        authorise_free(authorise);
        return failure;
    }
    *ret = authorise;
    return ERROR_NONE;
}

void authorise_free(struct authorise *authorise)
{
    if (authorise == NULL)
        return;
    for (size_t i = 0; i < authorise->n; i++) {
        for (int kind = 0; kind < AUTHORISE_KINDS; kind++)
            values_free(&authorise->rules[i].kinds[kind]);
    }
    free(authorise->rules);
    free(authorise);
}

/* Values as a certificate has them, each kind read when a rule first asks for it */

struct presented {
    X509 *leaf;
    bool read[AUTHORISE_KINDS];
    struct values kinds[AUTHORISE_KINDS];
};

static result add_presented(struct values *to, enum authorise_kind kind, const void *bytes, size_t length,
                            struct error *err)
{
    result failure;

    if (to->values == NULL) {
        to->values = calloc(AUTHORISE_NAMES_MAX, sizeof(*to->values));
        if (to->values == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    if (to->n == AUTHORISE_NAMES_MAX)
        return error_set(err, ERROR_VERIFY, "too many names");
    failure = allow_value_set(kind, bytes, length, &to->values[to->n], err);
    if (failure == ERROR_NONE)
        to->n++;
    return failure;
}

/* A value that has no UTF-8 form fits nothing. */
static result read_subject(struct presented *presented, enum authorise_kind kind, struct error *err)
{
    const X509_NAME *subject = X509_get_subject_name(presented->leaf);
    int nid = kind == AUTHORISE_CN ? NID_commonName : NID_organizationalUnitName;
    result failure = ERROR_NONE;

    for (int at = X509_NAME_get_index_by_NID(subject, nid, -1); at >= 0 && failure == ERROR_NONE;
         at = X509_NAME_get_index_by_NID(subject, nid, at)) {
        unsigned char *utf8 = NULL;
        int length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));

        if (length < 0)
            continue;
        failure = add_presented(&presented->kinds[kind], kind, utf8, (size_t)length, err);
        OPENSSL_free(utf8);
    }
    ERR_clear_error();
    return failure;
}

static int san_type(enum authorise_kind kind)
{
    switch (kind) {
    case AUTHORISE_DNS:
        return GEN_DNS;
    case AUTHORISE_URI:
        return GEN_URI;
    default:
        return GEN_EMAIL;
    }
}

static result read_san(struct presented *presented, enum authorise_kind kind, struct error *err)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(presented->leaf, NID_subject_alt_name, NULL, NULL);
    result failure = ERROR_NONE;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && failure == ERROR_NONE; i++) {
        int type;
        const ASN1_STRING *string = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

        if (type == san_type(kind))
            failure = add_presented(&presented->kinds[kind], kind, ASN1_STRING_get0_data(string),
                                    (size_t)ASN1_STRING_length(string), err);
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return failure;
}

/* A negative serial number (RFC 5280 forbids it) fits nothing. */
static result read_serial(struct presented *presented, struct error *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(presented->leaf);
    const uint8_t *bytes = ASN1_STRING_get0_data(serial);
    size_t length = (size_t)ASN1_STRING_length(serial);

    if (ASN1_STRING_type(serial) != V_ASN1_INTEGER)
        return ERROR_NONE;
    while (length > 0 && bytes[0] == 0) {
        bytes++;
        length--;
    }
    return add_presented(&presented->kinds[AUTHORISE_SERIAL], AUTHORISE_SERIAL, bytes, length, err);
}

static result read_spki(struct presented *presented, struct error *err)
{
    unsigned char *der = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(presented->leaf), &der);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    result failure;

    if (length <= 0 || SHA256(der, (size_t)length, digest) == NULL)
        failure = error_set_openssl(err, ERROR_INTERNAL, "cannot hash a public key");
    else
        failure =
            add_presented(&presented->kinds[AUTHORISE_SPKI_SHA256], AUTHORISE_SPKI_SHA256, digest, sizeof(digest), err);
    OPENSSL_free(der);
    return failure;
}

static result read_kind(struct presented *presented, enum authorise_kind kind, struct error *err)
{
    result failure = ERROR_NONE;

    if (presented->read[kind])
        return ERROR_NONE;
    switch (kind) {
    case AUTHORISE_CN:
    case AUTHORISE_OU:
        failure = read_subject(presented, kind, err);
        break;
    case AUTHORISE_DNS:
    case AUTHORISE_URI:
    case AUTHORISE_EMAIL:
        failure = read_san(presented, kind, err);
        break;
    case AUTHORISE_SERIAL:
        failure = read_serial(presented, err);
        break;
    case AUTHORISE_SPKI_SHA256:
        failure = read_spki(presented, err);
        break;
    case AUTHORISE_ISSUER:
    case AUTHORISE_KINDS:
        break;
    }
    if (failure == ERROR_VERIFY) {
        values_free(&presented->kinds[kind]);
        failure = ERROR_NONE;
    }
    presented->read[kind] = failure == ERROR_NONE;
    return failure;
}

static bool fits_issuer(const struct values *wanted, const X509_NAME *issuer)
{
    for (size_t i = 0; i < wanted->n; i++) {
        if (X509_NAME_cmp(wanted->values[i].name, issuer) == 0)
            return true;
    }
    return false;
}

static bool fits(const struct values *wanted, const struct values *have)
{
    for (size_t i = 0; i < wanted->n; i++) {
        for (size_t j = 0; j < have->n; j++) {
            if (allow_value_equal(&wanted->values[i], &have->values[j]))
                return true;
        }
    }
    return false;
}

/* The first kind of the rule that does not fit, AUTHORISE_KINDS when all do. */
static result check_rule(const struct rule *rule, struct presented *presented, enum authorise_kind *ret_missing,
                         struct error *err)
{
    for (int i = 0; i < AUTHORISE_KINDS; i++) {
        enum authorise_kind kind = (enum authorise_kind)i;
        bool fitting;

        if (rule->kinds[kind].n == 0)
            continue;
        if (read_kind(presented, kind, err) != ERROR_NONE)
            return ERROR_INTERNAL;
        if (kind == AUTHORISE_ISSUER)
            fitting = fits_issuer(&rule->kinds[kind], X509_get_issuer_name(presented->leaf));
        else
            fitting = fits(&rule->kinds[kind], &presented->kinds[kind]);
        if (!fitting) {
            *ret_missing = kind;
            return ERROR_NONE;
        }
    }
    *ret_missing = AUTHORISE_KINDS;
    return ERROR_NONE;
}

/* Reasons of a refusal */

struct reason {
    char text[ERROR_TEXT_MAX];
    size_t length;
};

PRINTF_LIKE(2, 3) static void append(struct reason *reason, const char *fmt, ...)
{
    size_t room = sizeof(reason->text) - reason->length;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(reason->text + reason->length, room, fmt, args);
    va_end(args);
    if (n > 0)
        reason->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void append_issuer(struct reason *reason, const X509_NAME *issuer)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *data = NULL;
    char escaped[256];
    long length;

    if (memory == NULL ||
        X509_NAME_print_ex(memory, issuer, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) < 0) {
        BIO_free(memory);
        return;
    }
    length = BIO_get_mem_data(memory, &data);
    text_escape(data, length > 0 ? (size_t)length : 0, escaped, sizeof(escaped));
    append(reason, "issuer \"%s\" is not allowed", escaped);
    BIO_free(memory);
}

static void append_value(struct reason *reason, enum authorise_kind kind, const struct allow_value *value)
{
    char shown[160];

    if (kind == AUTHORISE_SERIAL || kind == AUTHORISE_SPKI_SHA256) {
        text_hex(value->bytes, value->length, 0, shown, sizeof(shown));
        append(reason, " %s", shown);
    } else {
        text_escape(value->bytes, value->length, shown, sizeof(shown));
        append(reason, " \"%s\"", shown);
    }
}

static void append_missing(struct reason *reason, const struct presented *presented, enum authorise_kind kind)
{
    const struct values *have = &presented->kinds[kind];

    if (kind == AUTHORISE_ISSUER) {
        append_issuer(reason, X509_get_issuer_name(presented->leaf));
        return;
    }
    if (have->n == 0) {
        append(reason, "the certificate has no usable %s", authorise_kind_name(kind));
        return;
    }
    append(reason, "%s", authorise_kind_name(kind));
    for (size_t i = 0; i < have->n && i < SHOWN_NAMES_MAX; i++) {
        append(reason, "%s", i > 0 ? "," : "");
        append_value(reason, kind, &have->values[i]);
    }
    append(reason, "%s is not allowed", have->n > SHOWN_NAMES_MAX ? ", ..." : "");
}

static result check_rules(const struct authorise *authorise, struct presented *presented, struct error *err)
{
    struct reason reason = {.length = 0};

    for (size_t i = 0; i < authorise->n; i++) {
        enum authorise_kind missing;
        result failure = check_rule(&authorise->rules[i], presented, &missing, err);

        if (failure != ERROR_NONE)
            return failure;
        if (missing == AUTHORISE_KINDS)
            return ERROR_NONE;
        append(&reason, "%s", i > 0 ? "; " : "");
        if (authorise->n > 1)
            append(&reason, "allow block %zu: ", i + 1);
        append_missing(&reason, presented, missing);
    }
    if (authorise->n == 0)
        append(&reason, "there is no allow block");
    return error_set(err, ERROR_VERIFY, "not authorised: %s", reason.text);
}

result authorise_check(const struct authorise *authorise, X509 *leaf, struct error *err)
{
    struct presented presented = {.leaf = leaf};
    result outcome = check_rules(authorise, &presented, err);

    for (int kind = 0; kind < AUTHORISE_KINDS; kind++)
        values_free(&presented.kinds[kind]);
    return outcome;
}
