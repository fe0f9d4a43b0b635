#include "tls/verify/extension.h"

#include "tls/verify/reason.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Octets of an IP address in subjectAltName (RFC 5280 4.2.1.6); with its mask in name constraints twice that
 * (4.2.1.10).
 */
#define IPV4_OCTETS 4
#define IPV6_OCTETS 16

struct extension {
    const struct form_output *output;
    const char *reference;
    const char *name; /* OpenSSL's long name, for a person */
};

PRINTF_LIKE(3, 4)
static void broken(const struct extension *extension, int error, const char *fmt, ...)
{
    const struct form_fault fault = {.severity = FORM_BROKEN, .error = error, .reference = extension->reference};
    va_list args;

    va_start(args, fmt);
    form_vfault(extension->output, &fault, fmt, args);
    va_end(args);
}

PRINTF_LIKE(3, 4)
static void against_rule(const struct extension *extension, int error, const char *fmt, ...)
{
    const struct form_fault fault = {.severity = FORM_RULE, .error = error, .reference = extension->reference};
    va_list args;

    va_start(args, fmt);
    form_vfault(extension->output, &fault, fmt, args);
    va_end(args);
}

/* IA5String without control characters: what two readers read differently is a name for neither. */
static bool is_plain_text(const ASN1_STRING *string)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(string);

    for (int i = 0; i < ASN1_STRING_length(string); i++) {
        if (bytes[i] < ' ' || bytes[i] >= 0x7f)
            return false;
    }
    return true;
}

static bool has_space(const ASN1_STRING *string)
{
    return memchr(ASN1_STRING_get0_data(string), ' ', (size_t)ASN1_STRING_length(string)) != NULL;
}

static const char *text_kind(int type)
{
    switch (type) {
    case GEN_DNS:
        return "DNS name";
    case GEN_EMAIL:
        return "mail address";
    case GEN_URI:
        return "URI";
    default:
        return NULL;
    }
}

static void check_name(const struct extension *extension, const GENERAL_NAME *name, bool constraint)
{
    int type = GEN_OTHERNAME, factor = constraint ? 2 : 1;
    int error = constraint ? X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX : X509_V_ERR_INVALID_EXTENSION;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);

    if (type == GEN_IPADD && ASN1_STRING_length(value) != factor * IPV4_OCTETS &&
        ASN1_STRING_length(value) != factor * IPV6_OCTETS)
        broken(extension, error, "an IP address of a wrong length in %s", extension->name);
    if (text_kind(type) == NULL)
        return;
    if (!is_plain_text(value))
        broken(extension, error, "a %s with control or non-ASCII characters", text_kind(type));
    else if (ASN1_STRING_length(value) == 0 && !constraint)
        against_rule(extension, error, "an empty %s", text_kind(type));
    else if (ASN1_STRING_length(value) > 0 && has_space(value))
        against_rule(extension, error, "a %s with spaces", text_kind(type));
}

static void check_alt_name(const struct extension *extension, const void *value)
{
    const GENERAL_NAMES *names = value;

    if (sk_GENERAL_NAME_num(names) == 0)
        against_rule(extension, X509_V_ERR_EMPTY_SUBJECT_ALT_NAME, "%s without a name", extension->name);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        check_name(extension, sk_GENERAL_NAME_value(names, i), false);
}

static void check_subtrees(const struct extension *extension, const STACK_OF(GENERAL_SUBTREE) * trees)
{
    if (trees != NULL && sk_GENERAL_SUBTREE_num(trees) == 0)
        against_rule(extension, X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX, "%s with an empty list", extension->name);
    for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); i++)
        check_name(extension, sk_GENERAL_SUBTREE_value(trees, i)->base, true);
}

static size_t count_constraints(const NAME_CONSTRAINTS *constraints)
{
    int permitted = sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees);
    int excluded = sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees);

    return (permitted > 0 ? (size_t)permitted : 0) + (excluded > 0 ? (size_t)excluded : 0);
}

static void check_name_constraints(const struct extension *extension, const void *value)
{
    const NAME_CONSTRAINTS *constraints = value;

    if (count_constraints(constraints) > FORM_CONSTRAINTS_MAX) {
        broken(extension, X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX, "%zu name constraints, at most %d are looked at",
               count_constraints(constraints), FORM_CONSTRAINTS_MAX);
        return;
    }
    if (constraints->permittedSubtrees == NULL && constraints->excludedSubtrees == NULL)
        against_rule(extension, X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX, "%s that constrain nothing", extension->name);
    check_subtrees(extension, constraints->permittedSubtrees);
    check_subtrees(extension, constraints->excludedSubtrees);
}

static void check_subject_key(const struct extension *extension, const void *value)
{
    if (ASN1_STRING_length(value) == 0)
        against_rule(extension, X509_V_ERR_INVALID_EXTENSION, "%s is empty", extension->name);
}

static void check_authority_key(const struct extension *extension, const void *value)
{
    const AUTHORITY_KEYID *id = value;

    if ((id->issuer == NULL) != (id->serial == NULL))
        broken(extension, X509_V_ERR_INVALID_EXTENSION, "%s with an issuer or a serial number, not both",
               extension->name);
    else if (id->keyid == NULL && id->issuer == NULL)
        against_rule(extension, X509_V_ERR_INVALID_EXTENSION, "%s is empty", extension->name);
    else if (id->keyid != NULL && ASN1_STRING_length(id->keyid) == 0)
        broken(extension, X509_V_ERR_INVALID_EXTENSION, "%s with an empty key identifier", extension->name);
}

static void check_key_usage(const struct extension *extension, const void *value)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(value);

    for (int i = 0; i < ASN1_STRING_length(value); i++) {
        if (bytes[i] != 0)
            return;
    }
    against_rule(extension, X509_V_ERR_INVALID_EXTENSION, "%s without any usage", extension->name);
}

static void check_extended_key_usage(const struct extension *extension, const void *value)
{
    if (sk_ASN1_OBJECT_num(value) == 0)
        against_rule(extension, X509_V_ERR_INVALID_EXTENSION, "%s without any usage", extension->name);
}

static const struct kind {
    int nid;
    const char *reference;
    void (*check)(const struct extension *extension, const void *value); /* NULL: that it can be read is all */
} kinds[] = {
    {NID_authority_key_identifier, "RFC 5280 4.2.1.1", check_authority_key},
    {NID_subject_key_identifier, "RFC 5280 4.2.1.2", check_subject_key},
    {NID_key_usage, "RFC 5280 4.2.1.3", check_key_usage},
    {NID_certificate_policies, "RFC 5280 4.2.1.4", NULL},
    {NID_policy_mappings, "RFC 5280 4.2.1.5", NULL},
    {NID_subject_alt_name, "RFC 5280 4.2.1.6", check_alt_name},
    {NID_issuer_alt_name, "RFC 5280 4.2.1.7", check_alt_name},
    {NID_basic_constraints, "RFC 5280 4.2.1.9", NULL},
    {NID_name_constraints, "RFC 5280 4.2.1.10", check_name_constraints},
    {NID_policy_constraints, "RFC 5280 4.2.1.11", NULL},
    {NID_ext_key_usage, "RFC 5280 4.2.1.12", check_extended_key_usage},
    {NID_crl_distribution_points, "RFC 5280 4.2.1.13", NULL},
    {NID_inhibit_any_policy, "RFC 5280 4.2.1.14", NULL},
    {NID_freshest_crl, "RFC 5280 4.2.1.15", NULL},
    {NID_info_access, "RFC 5280 4.2.2.1", NULL},
    {NID_sinfo_access, "RFC 5280 4.2.2.2", NULL},
};

static const struct kind *find_kind(const X509_EXTENSION *raw)
{
    int nid = OBJ_obj2nid(X509_EXTENSION_get_object((X509_EXTENSION *)(uintptr_t)raw));

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].nid == nid)
            return &kinds[i];
    }
    return NULL;
}

static void release(const X509V3_EXT_METHOD *method, void *value)
{
    if (method->it != NULL)
        ASN1_item_free(value, ASN1_ITEM_ptr(method->it));
    else
        method->ext_free(value);
}

static void check_one(const struct form_output *output, X509_EXTENSION *raw, const struct kind *kind)
{
    const struct extension extension = {.output = output, .reference = kind->reference, .name = OBJ_nid2ln(kind->nid)};
    const X509V3_EXT_METHOD *method = X509V3_EXT_get(raw);
    const ASN1_STRING *octets = X509_EXTENSION_get_data(raw);
    const unsigned char *start = ASN1_STRING_get0_data(octets), *at = start;
    int length = ASN1_STRING_length(octets);
    void *value = NULL;

    if (method != NULL)
        value = method->it != NULL ? ASN1_item_d2i(NULL, &at, length, ASN1_ITEM_ptr(method->it))
                                   : method->d2i(NULL, &at, length);
    if (value == NULL) {
        broken(&extension, X509_V_ERR_INVALID_EXTENSION, "%s cannot be decoded", extension.name);
        return;
    }
    if (at != start + length)
        broken(&extension, X509_V_ERR_INVALID_EXTENSION, "bytes after the end of %s", extension.name);
    else if (kind->check != NULL)
        kind->check(&extension, value);
    release(method, value);
}

static bool is_repeated(const X509 *certificate, int index)
{
    const ASN1_OBJECT *object = X509_EXTENSION_get_object(X509_get_ext(certificate, index));

    return X509_get_ext_by_OBJ(certificate, object, index) >= 0;
}

void extension_check(const X509 *certificate, const struct form_output *output)
{
    struct form_fault fault = {
        .severity = FORM_BROKEN, .error = X509_V_ERR_INVALID_EXTENSION, .reference = "RFC 5280 4.2"};
    int n = X509_get_ext_count(certificate);

    if (n > FORM_EXTENSIONS_MAX) {
        form_fault(output, &fault, "%d extensions, at most %d are looked at", n, FORM_EXTENSIONS_MAX);
        return;
    }
    for (int i = 0; i < n; i++) {
        X509_EXTENSION *raw = X509_get_ext(certificate, i);
        const struct kind *kind = find_kind(raw);
        char oid[80];

        if (is_repeated(certificate, i)) {
            (void)OBJ_obj2txt(oid, sizeof(oid), X509_EXTENSION_get_object(raw), 1);
            form_fault(output, &fault, "extension %s%s%s occurs more than once", oid, kind != NULL ? " " : "",
                       kind != NULL ? OBJ_nid2ln(kind->nid) : "");
        }
        if (kind != NULL)
            check_one(output, raw, kind);
    }
    ERR_clear_error();
}

bool extension_unknown_critical(const X509 *certificate, char *out, size_t size)
{
    for (int i = 0; i < X509_get_ext_count(certificate); i++) {
        X509_EXTENSION *raw = X509_get_ext(certificate, i);

        if (X509_EXTENSION_get_critical(raw) == 0 || X509_supported_extension(raw) == 1)
            continue;
        (void)OBJ_obj2txt(out, (int)size, X509_EXTENSION_get_object(raw), 1);
        return true;
    }
    return false;
}

size_t extension_count_names(const X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int entries = X509_NAME_entry_count(X509_get_subject_name(certificate));
    int alternative = sk_GENERAL_NAME_num(names);

    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return 1 + (entries > 0 ? (size_t)entries : 0) + (alternative > 0 ? (size_t)alternative : 0);
}

size_t extension_count_constraints(const X509 *certificate)
{
    NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(certificate, NID_name_constraints, NULL, NULL);
    size_t n = constraints != NULL ? count_constraints(constraints) : 0;

    NAME_CONSTRAINTS_free(constraints);
    ERR_clear_error();
    return n;
}
