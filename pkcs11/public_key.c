#include "pkcs11/public_key.h"

#include "pkcs11/object.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <string.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define ED25519_BYTES 32

/* CKA_EC_PARAMS as DER: what tells the curves apart. */
static const struct {
    const char *group; /* OpenSSL's name; NULL: Ed25519 */
    uint8_t length;
    uint8_t der[16];
} curves[] = {
    {"P-256", 10, {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
    {"P-384", 7, {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}},
    {"P-521", 7, {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}},
    {NULL, 5, {0x06, 0x03, 0x2b, 0x65, 0x70}},
    /* The OID of RFC 8032's draft days, which some tokens still have, and the curve's name (PKCS#11 v3.0 2.3.5). */
    {NULL, 11, {0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01}},
    {NULL, 14, {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'}},
};
#define N_CURVES (sizeof(curves) / sizeof(curves[0]))

result public_key_kind(EVP_PKEY *key, struct public_key_kind *ret, struct error *err)
{
    unsigned bits = (unsigned)EVP_PKEY_get_bits(key);
    const char *type = EVP_PKEY_get0_type_name(key);

    if (EVP_PKEY_is_a(key, "RSA") && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX)
        *ret = (struct public_key_kind){KEY_TYPE_RSA, bits};
    else if (EVP_PKEY_is_a(key, "EC") && (bits == 256 || bits == 384 || bits == 521))
        *ret = (struct public_key_kind){KEY_TYPE_EC, bits};
    else if (EVP_PKEY_is_a(key, "ED25519"))
        *ret = (struct public_key_kind){KEY_TYPE_ED25519, 256};
    else
        return error_set(err, ERROR_CONFIG,
                         "a %s key of %u bits cannot be used: RSA 2048 to 8192, P-256, P-384, P-521 or Ed25519",
                         type == NULL ? "?" : type, bits);
    return ERROR_NONE;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *builder)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY *key = NULL;

    if (context == NULL || params == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(context);
    return key;
}

static EVP_PKEY *make_rsa(const struct object_value *modulus, const struct object_value *exponent)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    BIGNUM *n = BN_bin2bn(modulus->data, (int)modulus->length, NULL);
    BIGNUM *e = BN_bin2bn(exponent->data, (int)exponent->length, NULL);
    EVP_PKEY *key = NULL;

    if (builder != NULL && n != NULL && e != NULL && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        key = from_params("RSA", builder);
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    BN_free(e);
    return key;
}

static EVP_PKEY *make_point(size_t curve, const uint8_t *point, size_t length)
{
    OSSL_PARAM_BLD *builder;
    EVP_PKEY *key = NULL;

    if (curves[curve].group == NULL)
        return length == ED25519_BYTES ? EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, point, ED25519_BYTES)
                                       : NULL;
    builder = OSSL_PARAM_BLD_new();
    if (builder != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curves[curve].group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, length) == 1)
        key = from_params("EC", builder);
    OSSL_PARAM_BLD_free(builder);
    return key;
}

/* PKCS#11 wants the point in an OCTET STRING; many tokens give it raw. A raw EC point begins with 02, 03 or 04. */
static EVP_PKEY *make_ec(const struct object_value *params, const struct object_value *point)
{
    const unsigned char *at = point->data;
    ASN1_OCTET_STRING *wrapped;
    EVP_PKEY *key = NULL;
    size_t curve;

    for (curve = 0; curve < N_CURVES; curve++)
        if (params->length == curves[curve].length && memcmp(params->data, curves[curve].der, params->length) == 0)
            break;
    if (curve == N_CURVES)
        return NULL;
    wrapped = d2i_ASN1_OCTET_STRING(NULL, &at, (long)point->length);
    if (wrapped != NULL && at == point->data + point->length)
        key = make_point(curve, ASN1_STRING_get0_data(wrapped), (size_t)ASN1_STRING_length(wrapped));
    ASN1_OCTET_STRING_free(wrapped);
    return key != NULL ? key : make_point(curve, point->data, point->length);
}

/* Two attributes and what is made of them. */
static result read_pair(const struct session *session, CK_OBJECT_HANDLE object, const CK_ATTRIBUTE_TYPE types[2],
                        EVP_PKEY **ret, struct error *err)
{
    struct object_value a = {0}, b = {0};
    result r = object_read(session, object, types[0], &a, err);

    if (r == ERROR_NONE)
        r = object_read(session, object, types[1], &b, err);
    if (r == ERROR_NONE && a.data != NULL && b.data != NULL)
        *ret = types[0] == CKA_MODULUS ? make_rsa(&a, &b) : make_ec(&a, &b);
    object_value_free(&a);
    object_value_free(&b);
    return r;
}

static result read_info(const struct session *session, CK_OBJECT_HANDLE object, EVP_PKEY **ret, struct error *err)
{
    struct object_value info;
    const unsigned char *at;
    result r = object_read(session, object, CKA_PUBLIC_KEY_INFO, &info, err);

    if (r != ERROR_NONE)
        return r;
    at = info.data;
    if (info.data != NULL)
        *ret = d2i_PUBKEY(NULL, &at, (long)info.length);
    object_value_free(&info);
    return ERROR_NONE;
}

result public_key_read(const struct session *session, CK_OBJECT_HANDLE object, EVP_PKEY **ret, struct error *err)
{
    static const CK_ATTRIBUTE_TYPE rsa[2] = {CKA_MODULUS, CKA_PUBLIC_EXPONENT}, ec[2] = {CKA_EC_PARAMS, CKA_EC_POINT};
    CK_ULONG type = object_read_ulong(session, object, CKA_KEY_TYPE, (CK_ULONG)-1);
    EVP_PKEY *key = NULL;
    result r = ERROR_NONE;

    if (type == CKK_RSA)
        r = read_pair(session, object, rsa, &key, err);
    else if (type == CKK_EC || type == CKK_EC_EDWARDS)
        r = read_pair(session, object, ec, &key, err);
    if (r == ERROR_NONE && key == NULL)
        r = read_info(session, object, &key, err);
    ERR_clear_error();
    if (r == ERROR_NONE)
        *ret = key;
    return r;
}
