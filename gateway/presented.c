#include "gateway/presented.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define PRESENTED_OID_MAX 256 /* characters; longer ones are left out */

void presented_values_free(struct presented_values *values)
{
    for (size_t i = 0; i < values->n; i++)
        allow_value_free(&values->values[i]);
    free(values->values);
    *values = (struct presented_values){0};
}

static result add_presented(struct presented_values *to, enum authorise_kind kind, const void *bytes, size_t length,
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

static int subject_attribute(enum authorise_kind kind)
{
    switch (kind) {
    case AUTHORISE_CN:
        return NID_commonName;
    case AUTHORISE_OU:
        return NID_organizationalUnitName;
    default:
        return NID_organizationIdentifier;
    }
}

/* A value that has no UTF-8 form fits nothing. */
static result read_subject(struct presented *presented, enum authorise_kind kind, struct error *err)
{
    const X509_NAME *subject = X509_get_subject_name(presented->client->leaf);
    int nid = subject_attribute(kind);
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
    GENERAL_NAMES *names = X509_get_ext_d2i(presented->client->leaf, NID_subject_alt_name, NULL, NULL);
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
    const ASN1_INTEGER *serial = X509_get0_serialNumber(presented->client->leaf);
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

static result read_spki(struct presented *presented, enum authorise_kind kind, X509 *certificate, struct error *err)
{
    unsigned char *der = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    result failure;

    if (length <= 0 || SHA256(der, (size_t)length, digest) == NULL)
        failure = error_set_openssl(err, ERROR_INTERNAL, "cannot hash a public key");
    else
        failure = add_presented(&presented->kinds[kind], kind, digest, sizeof(digest), err);
    OPENSSL_free(der);
    return failure;
}

/* A leaf that is a trust anchor itself has no issuer on the path. */
static result read_issuer_spki(struct presented *presented, struct error *err)
{
    const STACK_OF(X509) *path = presented->client->path;

    if (sk_X509_num(path) < 2)
        return ERROR_NONE;
    return read_spki(presented, AUTHORISE_ISSUER_SPKI_SHA256, sk_X509_value(path, 1), err);
}

/* As dotted text. any-policy in the valid set names no policy, so it fits no condition. */
static result read_policies(struct presented *presented, struct error *err)
{
    const STACK_OF(ASN1_OBJECT) *policies = presented->client->policies;
    result failure = ERROR_NONE;

    for (int i = 0; i < sk_ASN1_OBJECT_num(policies) && failure == ERROR_NONE; i++) {
        const ASN1_OBJECT *policy = sk_ASN1_OBJECT_value(policies, i);
        char dotted[PRESENTED_OID_MAX];
        int length = OBJ_obj2txt(dotted, sizeof(dotted), policy, 1);

        if (length > 0 && (size_t)length < sizeof(dotted) && OBJ_obj2nid(policy) != NID_any_policy)
            failure = add_presented(&presented->kinds[AUTHORISE_POLICY], AUTHORISE_POLICY, dotted, (size_t)length, err);
    }
    ERR_clear_error();
    return failure;
}

result presented_read(struct presented *presented, enum authorise_kind kind, struct error *err)
{
    result failure = ERROR_NONE;

    if (presented->read[kind])
        return ERROR_NONE;
    switch (kind) {
    case AUTHORISE_CN:
    case AUTHORISE_OU:
    case AUTHORISE_ORGANIZATION_IDENTIFIER:
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
        failure = read_spki(presented, kind, presented->client->leaf, err);
        break;
    case AUTHORISE_ISSUER_SPKI_SHA256:
        failure = read_issuer_spki(presented, err);
        break;
    case AUTHORISE_POLICY:
        failure = read_policies(presented, err);
        break;
    case AUTHORISE_ISSUER:
    case AUTHORISE_KINDS:
        break;
    }
    if (failure == ERROR_VERIFY) {
        presented_values_free(&presented->kinds[kind]);
        failure = ERROR_NONE;
    }
    presented->read[kind] = failure == ERROR_NONE;
    return failure;
}

void presented_free(struct presented *presented)
{
    for (int kind = 0; kind < AUTHORISE_KINDS; kind++)
        presented_values_free(&presented->kinds[kind]);
}
