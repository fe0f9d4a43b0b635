#include "tls/verify/crl_index.h"

#include "tls/verify/crl_list.h"
#include "tls/verify/crl_parts.h"
#include "tls/verify/crl_signature.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct index {
    struct image *image; /* what all parts point into */
    struct crl_parts parts;
    struct crl_list *list;
    struct crl_signature *signature;
};

static X509_CRL_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;
/* Each thread's CRL of one entry, which OpenSSL has been given last. */
static pthread_key_t shown;
/* Given when memory is exhausted: an entry without a date or reason, which revokes. */
static X509_REVOKED *bare;

static void index_free(struct index *index)
{
    if (index == NULL)
        return;
    crl_signature_free(index->signature);
    crl_list_free(index->list);
    image_free(index->image);
    free(index);
}

struct subject {
    const X509_NAME *issuer; /* NULL: the CRL's own */
    const X509_NAME *own;
};

static bool names_contain(const GENERAL_NAMES *names, const X509_NAME *wanted)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DIRNAME && X509_NAME_cmp(name->d.directoryName, wanted) == 0)
            return true;
    }
    return false;
}

/* crl_list_match_fn. Names that cannot be decoded, for want of memory, are taken to be the ones in question. */
static bool speaks_of(void *arg, const struct der *owner)
{
    const struct subject *subject = arg;
    const unsigned char *at;
    GENERAL_NAMES *names;
    bool good;

    if (owner == NULL)
        return subject->issuer == NULL || X509_NAME_cmp(subject->issuer, subject->own) == 0;
    at = owner->at;
    names = d2i_GENERAL_NAMES(NULL, &at, (long)der_length(owner));
    good = names == NULL || names_contain(names, subject->issuer != NULL ? subject->issuer : subject->own);
    GENERAL_NAMES_free(names);
    return good;
}

static enum crl_index_answer find(const X509_CRL *crl, const struct index *index, const X509_NAME *issuer,
                                  const ASN1_INTEGER *serial, struct crl_entry *ret)
{
    struct subject subject = {.issuer = issuer, .own = X509_CRL_get_issuer(crl)};
    uint8_t der[CRL_SERIAL_MAX + 8];
    unsigned char *at = der;
    struct der in = {.at = der};
    struct der_element number;
    int length = i2d_ASN1_INTEGER(serial, NULL);

    if (length <= 0 || length > (int)sizeof(der))
        return length <= 0 ? CRL_INDEX_REVOKED : CRL_INDEX_NOT_LISTED;
    in.end = der + i2d_ASN1_INTEGER(serial, &at);
    if (der_next(&in, &number) != NULL)
        return CRL_INDEX_REVOKED;
    if (!crl_list_find(index->list, &number.content, speaks_of, &subject, ret))
        return CRL_INDEX_NOT_LISTED;
    return ret->reason == CRL_REASON_REMOVE_FROM_CRL ? CRL_INDEX_REMOVED : CRL_INDEX_REVOKED;
}

static void forget_shown(void *crl)
{
    X509_CRL_free(crl);
}

/*
 * OpenSSL reads members of X509_REVOKED that are private and set when a CRL is decoded: so the entry is decoded as the
 * only one of a CRL.
 */
static X509_REVOKED *show(const struct crl_entry *entry)
{
    /* version 2, an algorithm, no name, 1970: what surrounds the entry is not looked at */
    static const uint8_t head[] = {0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x30, 0x00, 0x17, 0x0d,
                                   '7',  '0',  '0',  '1',  '0',  '1',  '0',  '0',  '0',  '0',  '0',  '0',  'Z'};
    static const uint8_t proof[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x01, 0x00};
    const struct crl_parts parts = {.head = {.at = head, .end = head + sizeof(head)},
                                    .tail = {.at = head, .end = head},
                                    .proof = {.at = proof, .end = proof + sizeof(proof)}};
    const unsigned char *at;
    uint8_t *der = NULL;
    size_t length = 0;
    X509_CRL *crl;
    X509_REVOKED *revoked;

    if (crl_parts_shorten(&parts, &entry->whole, &der, &length, NULL) != ERROR_NONE)
        return bare;
    at = der;
    crl = d2i_X509_CRL(NULL, &at, (long)length);
    free(der);
    revoked = crl == NULL ? NULL : sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), 0);
    if (revoked == NULL) {
        X509_CRL_free(crl);
        return bare;
    }
    forget_shown(pthread_getspecific(shown));
    if (pthread_setspecific(shown, crl) != 0) {
        X509_CRL_free(crl);
        return bare;
    }
    return revoked;
}

/* A CRL that crl_index_decode() has not made: whoever has a listed serial number counts as revoked. */
static int lookup_unindexed(X509_CRL *crl, X509_REVOKED **ret, const ASN1_INTEGER *serial)
{
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(crl);

    for (int i = 0; i < sk_X509_REVOKED_num(revoked); i++) {
        X509_REVOKED *entry = sk_X509_REVOKED_value(revoked, i);

        if (ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(entry), serial) != 0)
            continue;
        if (ret != NULL)
            *ret = entry;
        return 1;
    }
    return 0;
}

/* X509_CRL_METHOD's contract: 0 not listed, 1 revoked, 2 listed as removed from the CRL. */
static int method_lookup(X509_CRL *crl, X509_REVOKED **ret, const ASN1_INTEGER *serial, const X509_NAME *issuer)
{
    const struct index *index = X509_CRL_get_meth_data(crl);
    struct crl_entry entry = {.whole = {.at = NULL}};
    enum crl_index_answer answer;

    if (index == NULL)
        return lookup_unindexed(crl, ret, serial);
    answer = find(crl, index, issuer, serial, &entry);
    if (answer != CRL_INDEX_NOT_LISTED && ret != NULL)
        *ret = entry.whole.at != NULL ? show(&entry) : bare;
    return (int)answer;
}

static int method_init(X509_CRL *crl)
{
    X509_CRL_set_meth_data(crl, NULL);
    return 1;
}

static int method_free(X509_CRL *crl)
{
    index_free(X509_CRL_get_meth_data(crl));
    X509_CRL_set_meth_data(crl, NULL);
    return 1;
}

/* The default method's cannot be called from another one: without an index the CRL's own encoding is cut. */
static bool verify_unindexed(X509_CRL *crl, EVP_PKEY *key)
{
    struct crl_signature *signature = NULL;
    struct crl_parts parts;
    unsigned char *der = NULL;
    int length = i2d_X509_CRL(crl, &der);
    bool good = false;

    if (length > 0 && crl_parts_find(der, (size_t)length, &parts, NULL) == ERROR_NONE)
        signature = crl_signature_new(crl, &parts.tbs, NULL);
    if (signature != NULL)
        good = crl_signature_check(signature, crl, key);
    crl_signature_free(signature);
    OPENSSL_free(der);
    return good;
}

static int method_verify(X509_CRL *crl, EVP_PKEY *key)
{
    struct index *index = X509_CRL_get_meth_data(crl);

    return index != NULL ? crl_signature_check(index->signature, crl, key) : verify_unindexed(crl, key);
}

static void install_method(void)
{
    bare = X509_REVOKED_new();
    if (bare == NULL || pthread_key_create(&shown, forget_shown) != 0)
        return;
    method = X509_CRL_METHOD_new(method_init, method_free, method_lookup, method_verify);
    if (method != NULL)
        X509_CRL_set_default_method(method);
}

/* The CRL as OpenSSL gets to see it; an entry that makes it unusable is not kept from it. */
static result decode_short(const struct index *index, OSSL_LIB_CTX *libctx, X509_CRL **ret, struct error *err)
{
    const unsigned char *at;
    uint8_t *der = NULL;
    size_t length = 0;
    X509_CRL *crl;
    result r = crl_parts_shorten(&index->parts, crl_list_critical(index->list), &der, &length, err);

    if (r != ERROR_NONE)
        return r;
    at = der;
    crl = X509_CRL_new_ex(libctx, NULL);
    if (crl == NULL)
        r = error_set_openssl(err, ERROR_INTERNAL, "out of memory");
    /* On failure d2i_X509_CRL() has freed the CRL. */
    else if (d2i_X509_CRL(&crl, &at, (long)length) == NULL)
        r = error_set_openssl(err, ERROR_VERIFY, "it does not decode");
    free(der);
    if (r == ERROR_NONE)
        *ret = crl;
    return r;
}

static bool lies_in(const struct crl_encoding *encoding)
{
    size_t length;
    const uint8_t *data = encoding->image == NULL ? NULL : image_data(encoding->image, &length);

    return data != NULL && encoding->der >= data && encoding->der + encoding->length <= data + length;
}

/* Everything but the signature. */
static result index_new(const struct crl_encoding *encoding, struct index **ret, struct error *err)
{
    struct index *index = calloc(1, sizeof(*index));
    const uint8_t *der = encoding->der;
    size_t length = encoding->length;
    result r = ERROR_NONE;

    if (index == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (lies_in(encoding)) {
        index->image = image_ref(encoding->image);
    } else {
        r = image_copy(encoding->der, encoding->length, &index->image, err);
        if (r == ERROR_NONE)
            der = image_data(index->image, &length);
    }
    if (r == ERROR_NONE)
        r = crl_parts_find(der, length, &index->parts, err);
    if (r == ERROR_NONE)
        r = crl_list_new(&index->parts, &index->list, err);
    if (r != ERROR_NONE) {
        index_free(index);
        return r;
    }
    *ret = index;
    return ERROR_NONE;
}

result crl_index_decode(const struct crl_encoding *encoding, X509_CRL **ret, struct error *err)
{
    struct index *index = NULL;
    X509_CRL *crl = NULL;
    result r;

    (void)pthread_once(&method_once, install_method);
    if (method == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = index_new(encoding, &index, err);
    if (r != ERROR_NONE || index == NULL)
        return r;
    r = decode_short(index, encoding->libctx, &crl, err);
    if (r != ERROR_NONE) {
        index_free(index);
        return r;
    }
    X509_CRL_set_meth_data(crl, index);
    index->signature = crl_signature_new(crl, &index->parts.tbs, encoding->libctx);
    ERR_clear_error();
    if (index->signature == NULL) {
        X509_CRL_free(crl);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    *ret = crl;
    return ERROR_NONE;
}

bool crl_index_verify(X509_CRL *crl, EVP_PKEY *key)
{
    bool good = X509_CRL_verify(crl, key) == 1;

    ERR_clear_error();
    return good;
}

enum crl_index_answer crl_index_find(X509_CRL *crl, const X509_NAME *issuer, const ASN1_INTEGER *serial)
{
    return (enum crl_index_answer)method_lookup(crl, NULL, serial, issuer);
}

/* The reading functions of OpenSSL take what is not const, and do not change it. */
static const struct index *index_of(const X509_CRL *crl)
{
    return X509_CRL_get_meth_data((X509_CRL *)(uintptr_t)crl);
}

size_t crl_index_entries(const X509_CRL *crl)
{
    const struct index *index = index_of(crl);

    return index != NULL ? crl_list_count(index->list) : 0;
}

bool crl_index_same(const X509_CRL *a, const X509_CRL *b)
{
    const struct index *x = index_of(a), *y = index_of(b);
    size_t length;

    if (x == NULL || y == NULL)
        return false;
    length = der_length(&x->parts.whole);
    return der_length(&y->parts.whole) == length && memcmp(x->parts.whole.at, y->parts.whole.at, length) == 0;
}

bool crl_index_is_indirect(X509_CRL *crl)
{
    const struct index *index = index_of(crl);

    return index != NULL && crl_list_is_indirect(index->list);
}

bool crl_index_has_critical(X509_CRL *crl)
{
    const struct index *index = index_of(crl);

    return X509_CRL_get_ext_by_critical(crl, 1, -1) >= 0 || (index != NULL && crl_list_critical(index->list) != NULL);
}

bool crl_index_is_proven(X509_CRL *crl)
{
    const struct index *index = index_of(crl);

    return index != NULL && crl_signature_is_proven(index->signature);
}

unsigned crl_index_verifications(X509_CRL *crl)
{
    return crl_signature_tries(index_of(crl)->signature);
}
