#include "tls/verify/crl_index.h"

#include <limits.h>
#include <openssl/asn1t.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Issuer keys a CRL remembers; a CA changes its key once in years, so more of them are not worth the memory. */
#define KEYS_MAX 8
/* Bytes of a public key's numbers: RSA-16384 with its exponent. Larger keys are not remembered. */
#define KEY_BYTES_MAX 2304

struct known_key {
    size_t length;
    uint8_t *bytes; /* owned */
    bool good;
};

struct index {
    OSSL_LIB_CTX *libctx;
    int n;
    X509_REVOKED **entries; /* sorted by serial number; owned by the CRL */
    GENERAL_NAMES **owners; /* certificate issuer that holds for entries[i], NULL: the CRL's; NULL when none has one */
    STACK_OF(GENERAL_NAMES) * names; /* owns what owners point to */
    pthread_mutex_t lock;            /* for what follows */
    struct known_key keys[KEYS_MAX];
    int n_keys;
    unsigned verifications;
};

static X509_CRL_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

struct sortable {
    X509_REVOKED *entry;
    GENERAL_NAMES *owner;
};

/* Any total order will do as long as look-ups use it too: length, bytes, sign. */
static int compare_serials(const ASN1_INTEGER *a, const ASN1_INTEGER *b)
{
    return ASN1_STRING_cmp(a, b);
}

static int compare_entries(const void *a, const void *b)
{
    const struct sortable *x = a, *y = b;

    return compare_serials(X509_REVOKED_get0_serialNumber(x->entry), X509_REVOKED_get0_serialNumber(y->entry));
}

/* RFC 5280 5.3.3: an entry without a certificate issuer extension has the issuer of the entry before it. */
static bool read_owner(struct index *index, X509_REVOKED *entry, GENERAL_NAMES **owner)
{
    GENERAL_NAMES *names;

    if (X509_REVOKED_get_ext_by_NID(entry, NID_certificate_issuer, -1) < 0)
        return true;
    names = X509_REVOKED_get_ext_d2i(entry, NID_certificate_issuer, NULL, NULL);
    if (names == NULL)
        return false;
    if (index->names == NULL)
        index->names = sk_GENERAL_NAMES_new_null();
    if (index->names == NULL || sk_GENERAL_NAMES_push(index->names, names) <= 0) {
        GENERAL_NAMES_free(names);
        return false;
    }
    *owner = names;
    return true;
}

static bool build(struct index *index, STACK_OF(X509_REVOKED) * revoked)
{
    int n = revoked != NULL ? sk_X509_REVOKED_num(revoked) : 0;
    struct sortable *sorted = calloc((size_t)n + 1, sizeof(*sorted));
    GENERAL_NAMES *owner = NULL;
    bool built = false;

    if (sorted == NULL)
        return false;
    for (int i = 0; i < n; i++) {
        sorted[i].entry = sk_X509_REVOKED_value(revoked, i);
        if (!read_owner(index, sorted[i].entry, &owner))
            goto err0;
        sorted[i].owner = owner;
    }
    qsort(sorted, (size_t)n, sizeof(*sorted), compare_entries);
    index->entries = calloc((size_t)n + 1, sizeof(*index->entries));
    if (index->names != NULL)
        index->owners = calloc((size_t)n + 1, sizeof(*index->owners));
    if (index->entries == NULL || (index->names != NULL && index->owners == NULL))
        goto err0;
    for (int i = 0; i < n; i++) {
        index->entries[i] = sorted[i].entry;
        if (index->owners != NULL)
            index->owners[i] = sorted[i].owner;
    }
    index->n = n;
    built = true;
err0:
    free(sorted);
    return built;
}

static void index_free(struct index *index)
{
    if (index == NULL)
        return;
    for (int i = 0; i < index->n_keys; i++)
        free(index->keys[i].bytes);
    (void)pthread_mutex_destroy(&index->lock);
    sk_GENERAL_NAMES_pop_free(index->names, GENERAL_NAMES_free);
    free(index->owners);
    free(index->entries);
    free(index);
}

static bool names_contain(const GENERAL_NAMES *names, const X509_NAME *wanted)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DIRNAME && X509_NAME_cmp(name->d.directoryName, wanted) == 0)
            return true;
    }
    return false;
}

/* True when entry `i` speaks of certificates of `issuer` (NULL: the CRL's own issuer). */
static bool entry_is_of(X509_CRL *crl, const struct index *index, int i, const X509_NAME *issuer)
{
    const X509_NAME *own = X509_CRL_get_issuer(crl);

    if (index->owners == NULL || index->owners[i] == NULL)
        return issuer == NULL || X509_NAME_cmp(issuer, own) == 0;
    return names_contain(index->owners[i], issuer != NULL ? issuer : own);
}

static bool is_removal(const X509_REVOKED *entry)
{
    ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
    bool removal = reason != NULL && ASN1_ENUMERATED_get(reason) == CRL_REASON_REMOVE_FROM_CRL;

    ASN1_ENUMERATED_free(reason);
    return removal;
}

/* A CRL that was put together and never decoded: whoever has a listed serial number counts as revoked. */
static int lookup_unindexed(X509_CRL *crl, X509_REVOKED **ret, const ASN1_INTEGER *serial)
{
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(crl);

    for (int i = 0; i < sk_X509_REVOKED_num(revoked); i++) {
        X509_REVOKED *entry = sk_X509_REVOKED_value(revoked, i);

        if (compare_serials(X509_REVOKED_get0_serialNumber(entry), serial) != 0)
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
    int low = 0, high;

    if (index == NULL)
        return lookup_unindexed(crl, ret, serial);
    high = index->n;
    while (low < high) {
        int middle = low + (high - low) / 2;

        if (compare_serials(X509_REVOKED_get0_serialNumber(index->entries[middle]), serial) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < index->n; low++) {
        X509_REVOKED *entry = index->entries[low];

        if (compare_serials(X509_REVOKED_get0_serialNumber(entry), serial) != 0)
            return 0;
        if (!entry_is_of(crl, index, low, issuer))
            continue;
        if (ret != NULL)
            *ret = entry;
        return is_removal(entry) ? 2 : 1;
    }
    return 0;
}

/* Called by OpenSSL when a CRL has been decoded. */
static int method_init(X509_CRL *crl)
{
    struct index *index = calloc(1, sizeof(*index));

    if (index == NULL)
        return 0;
    if (pthread_mutex_init(&index->lock, NULL) != 0) {
        free(index);
        return 0;
    }
    if (!build(index, X509_CRL_get_REVOKED(crl))) {
        index_free(index);
        return 0;
    }
    X509_CRL_set_meth_data(crl, index);
    return 1;
}

static int method_free(X509_CRL *crl)
{
    index_free(X509_CRL_get_meth_data(crl));
    X509_CRL_set_meth_data(crl, NULL);
    return 1;
}

static bool append_number(EVP_PKEY *key, const char *parameter, uint8_t *out, size_t *used)
{
    BIGNUM *number = NULL;
    bool appended = false;

    if (EVP_PKEY_get_bn_param(key, parameter, &number) == 1 && *used + (size_t)BN_num_bytes(number) <= KEY_BYTES_MAX) {
        *used += (size_t)BN_bn2bin(number, out + *used);
        appended = true;
    }
    BN_free(number);
    return appended;
}

/* The bytes that tell public keys apart; length 0 for a kind of key that is not remembered. */
static size_t key_bytes(EVP_PKEY *key, uint8_t out[KEY_BYTES_MAX])
{
    size_t used = 0, length = 0;

    if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS")) {
        out[used++] = 'R';
        if (!append_number(key, OSSL_PKEY_PARAM_RSA_N, out, &used) ||
            !append_number(key, OSSL_PKEY_PARAM_RSA_E, out, &used))
            return 0;
        return used;
    }
    if (EVP_PKEY_is_a(key, "EC")) {
        char group[64] = "";

        if (EVP_PKEY_get_group_name(key, group, sizeof(group), &length) != 1)
            return 0;
        out[used++] = 'E';
        memcpy(out + used, group, length);
        used += length;
    } else if (EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448")) {
        out[used++] = 'D';
    } else {
        return 0;
    }
    if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, out + used, KEY_BYTES_MAX - used, &length) != 1)
        return 0;
    return used + length;
}

/* -1: this key has not been tried yet. */
static int remembered(struct index *index, const uint8_t *bytes, size_t length)
{
    int known = -1;

    (void)pthread_mutex_lock(&index->lock);
    for (int i = 0; i < index->n_keys && known < 0; i++) {
        if (index->keys[i].length == length && memcmp(index->keys[i].bytes, bytes, length) == 0)
            known = index->keys[i].good ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&index->lock);
    return known;
}

static void remember(struct index *index, const uint8_t *bytes, size_t length, bool good)
{
    uint8_t *copy = malloc(length);

    if (copy == NULL)
        return;
    memcpy(copy, bytes, length);
    (void)pthread_mutex_lock(&index->lock);
    if (index->n_keys < KEYS_MAX) {
        index->keys[index->n_keys++] = (struct known_key){.length = length, .bytes = copy, .good = good};
        copy = NULL;
    }
    (void)pthread_mutex_unlock(&index->lock);
    free(copy);
}

/* The signed part of an encoded CRL (RFC 5280 5.1.1.1): its first element, header included. */
static bool signed_part(const uint8_t *der, long length, const uint8_t **ret, size_t *ret_length)
{
    const unsigned char *at = der, *inner;
    long content = 0;
    int tag = 0, class = 0;

    if ((ASN1_get_object(&at, &content, &tag, &class, length) & 0x80) != 0)
        return false;
    inner = at;
    if ((ASN1_get_object(&at, &content, &tag, &class, content) & 0x80) != 0)
        return false;
    *ret = inner;
    *ret_length = (size_t)(at - inner) + (size_t)content;
    return *ret_length <= INT_MAX;
}

/*
 * The default method's verify function cannot be called from another method, and the structure it hashes is private:
 * so the signed part is handed to ASN1_item_verify_ex() as an opaque SEQUENCE, which encodes to itself.
 */
static bool calculate(X509_CRL *crl, const struct index *index, EVP_PKEY *key)
{
    const ASN1_BIT_STRING *signature = NULL;
    const X509_ALGOR *algorithm = NULL;
    ASN1_TYPE *content = ASN1_TYPE_new();
    ASN1_STRING *bytes = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
    unsigned char *der = NULL;
    const uint8_t *part = NULL;
    size_t part_length = 0;
    int length = i2d_X509_CRL(crl, &der);
    bool good = false;

    if (content == NULL || bytes == NULL || length <= 0 || !signed_part(der, length, &part, &part_length) ||
        ASN1_STRING_set(bytes, part, (int)part_length) != 1)
        goto err0;
    ASN1_TYPE_set(content, V_ASN1_SEQUENCE, bytes);
    bytes = NULL;
    X509_CRL_get0_signature(crl, &signature, &algorithm);
    good = ASN1_item_verify_ex(ASN1_ITEM_rptr(ASN1_ANY), algorithm, signature, content, NULL, key,
                               index != NULL ? index->libctx : NULL, NULL) == 1;
err0:
    OPENSSL_free(der);
    ASN1_STRING_free(bytes);
    ASN1_TYPE_free(content);
    return good;
}

static int method_verify(X509_CRL *crl, EVP_PKEY *key)
{
    struct index *index = X509_CRL_get_meth_data(crl);
    uint8_t bytes[KEY_BYTES_MAX];
    size_t length = index != NULL ? key_bytes(key, bytes) : 0;
    int known = length > 0 ? remembered(index, bytes, length) : -1;
    bool good;

    if (known >= 0)
        return known;
    good = calculate(crl, index, key);
    if (index != NULL) {
        (void)pthread_mutex_lock(&index->lock);
        index->verifications++;
        (void)pthread_mutex_unlock(&index->lock);
    }
    if (length > 0)
        remember(index, bytes, length, good);
    return good ? 1 : 0;
}

static void install_method(void)
{
    method = X509_CRL_METHOD_new(method_init, method_free, method_lookup, method_verify);
    if (method != NULL)
        X509_CRL_set_default_method(method);
}

result crl_index_decode(const uint8_t *der, size_t length, OSSL_LIB_CTX *libctx, X509_CRL **ret, struct error *err)
{
    const unsigned char *at = der;
    struct index *index;
    X509_CRL *crl;

    (void)pthread_once(&method_once, install_method);
    crl = method != NULL ? X509_CRL_new_ex(libctx, NULL) : NULL;
    if (crl == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "out of memory");
    /* On failure d2i_X509_CRL() has freed the CRL. */
    if (length > LONG_MAX || d2i_X509_CRL(&crl, &at, (long)length) == NULL)
        return error_set_openssl(err, ERROR_VERIFY, "it does not decode");
    index = X509_CRL_get_meth_data(crl);
    if (at != der + length || index == NULL) {
        X509_CRL_free(crl);
        return error_set(err, ERROR_VERIFY, "bytes follow it");
    }
    index->libctx = libctx;
    *ret = crl;
    return ERROR_NONE;
}

bool crl_index_verify(X509_CRL *crl, EVP_PKEY *key)
{
    bool good = X509_CRL_verify(crl, key) == 1;

    ERR_clear_error();
    return good;
}

unsigned crl_index_verifications(X509_CRL *crl)
{
    struct index *index = X509_CRL_get_meth_data(crl);
    unsigned n;

    (void)pthread_mutex_lock(&index->lock);
    n = index->verifications;
    (void)pthread_mutex_unlock(&index->lock);
    return n;
}

enum crl_index_answer crl_index_find(X509_CRL *crl, const X509_NAME *issuer, const ASN1_INTEGER *serial)
{
    return (enum crl_index_answer)method_lookup(crl, NULL, serial, issuer);
}

bool crl_index_is_indirect(X509_CRL *crl)
{
    const struct index *index = X509_CRL_get_meth_data(crl);

    return index != NULL && index->owners != NULL;
}

bool crl_index_is_proven(X509_CRL *crl)
{
    struct index *index = X509_CRL_get_meth_data(crl);
    bool proven = false;

    if (index == NULL)
        return false;
    (void)pthread_mutex_lock(&index->lock);
    for (int i = 0; i < index->n_keys && !proven; i++)
        proven = index->keys[i].good;
    (void)pthread_mutex_unlock(&index->lock);
    return proven;
}
