#include "tls/signature.h"

#include "pkcs11/mechanism.h"
#include "tls/keymgmt.h"
#include "tls/signer.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct signature {
    struct key *key; /* owned reference; NULL before digest_sign_init */
    int bits;        /* of the hash: 256, 384, 512; 0 for none */
    bool pss;
    bool broken; /* asked for something that TLS does not use: sign nothing */
};

/* What a key type, a padding and a hash make together; nid: the AlgorithmIdentifier, for CSRs. */
static const struct scheme_row {
    enum key_type type;
    bool pss;
    int bits;
    uint16_t scheme;
    int nid; /* NID_undef for PSS, whose parameters are explicit */
} scheme_rows[] = {
    {KEY_TYPE_RSA, false, 256, SCHEME_RSA_PKCS1_SHA256, NID_sha256WithRSAEncryption},
    {KEY_TYPE_RSA, false, 384, SCHEME_RSA_PKCS1_SHA384, NID_sha384WithRSAEncryption},
    {KEY_TYPE_RSA, false, 512, SCHEME_RSA_PKCS1_SHA512, NID_sha512WithRSAEncryption},
    {KEY_TYPE_RSA, true, 256, SCHEME_RSA_PSS_RSAE_SHA256, NID_undef},
    {KEY_TYPE_RSA, true, 384, SCHEME_RSA_PSS_RSAE_SHA384, NID_undef},
    {KEY_TYPE_RSA, true, 512, SCHEME_RSA_PSS_RSAE_SHA512, NID_undef},
    {KEY_TYPE_EC, false, 256, SCHEME_ECDSA_SHA256, NID_ecdsa_with_SHA256},
    {KEY_TYPE_EC, false, 384, SCHEME_ECDSA_SHA384, NID_ecdsa_with_SHA384},
    {KEY_TYPE_EC, false, 512, SCHEME_ECDSA_SHA512, NID_ecdsa_with_SHA512},
    {KEY_TYPE_ED25519, false, 0, SCHEME_ED25519, NID_ED25519},
};

static const struct scheme_row *find_scheme(const struct signature *signature)
{
    if (signature->key == NULL || signature->broken)
        return NULL;
    for (size_t i = 0; i < sizeof(scheme_rows) / sizeof(scheme_rows[0]); i++) {
        const struct scheme_row *row = &scheme_rows[i];

        if (row->type == key_type(signature->key) && row->pss == signature->pss && row->bits == signature->bits)
            return row;
    }
    return NULL;
}

/* Bits of a hash by any name OpenSSL has for it; -1 for one that is not used. */
static int hash_bits(const char *name)
{
    static const struct {
        const char *name;
        int bits;
    } hashes[] = {{"SHA2-256", 256}, {"SHA256", 256},   {"SHA-256", 256}, {"SHA2-384", 384}, {"SHA384", 384},
                  {"SHA-384", 384},  {"SHA2-512", 512}, {"SHA512", 512},  {"SHA-512", 512}};

    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
        if (strcasecmp(hashes[i].name, name) == 0)
            return hashes[i].bits;
    return -1;
}

static void *signature_new(void *provider, const char *properties)
{
    (void)provider;
    (void)properties;
    return calloc(1, sizeof(struct signature));
}

static void signature_free(void *context)
{
    struct signature *signature = context;

    if (signature == NULL)
        return;
    key_free(signature->key);
    free(signature);
}

static void *signature_dup(void *context)
{
    const struct signature *from = context;
    struct signature *to = malloc(sizeof(*to));

    if (to == NULL)
        return NULL;
    *to = *from;
    if (to->key != NULL)
        (void)key_ref(to->key);
    return to;
}

/* An integer, or one of OpenSSL's words for it. Returns false when the parameter is neither. */
static bool number_or_word(const OSSL_PARAM *param, const char *word, int meaning, int *ret)
{
    if (param->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_get_int(param, ret) == 1;
    *ret = strcmp(param->data, word) == 0 ? meaning : atoi(param->data);
    return true;
}

static int set_padding(struct signature *signature, const OSSL_PARAM *param)
{
    int padding = 0;

    if (param->data_type == OSSL_PARAM_UTF8_STRING) {
        if (strcmp(param->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0)
            padding = RSA_PKCS1_PSS_PADDING;
        else if (strcmp(param->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0)
            padding = RSA_PKCS1_PADDING;
    } else if (OSSL_PARAM_get_int(param, &padding) != 1) {
        return 0;
    }
    if (key_type(signature->key) != KEY_TYPE_RSA ||
        (padding != RSA_PKCS1_PSS_PADDING && padding != RSA_PKCS1_PADDING)) {
        signature->broken = true;
        return 0;
    }
    signature->pss = padding == RSA_PKCS1_PSS_PADDING;
    return 1;
}

static int set_ctx_params(void *context, const OSSL_PARAM params[])
{
    struct signature *signature = context;
    const OSSL_PARAM *param;
    int salt = 0;

    if (params == NULL)
        return 1;
    if (signature->key == NULL)
        return 0;
    param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
    if (param != NULL && !set_padding(signature, param))
        return 0;
    /* TLS has one salt length only: that of the hash (RFC 8446 4.2.3). */
    param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
    if (param != NULL && (!number_or_word(param, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST, &salt) ||
                          (salt != RSA_PSS_SALTLEN_DIGEST && salt != signature->bits / 8))) {
        signature->broken = true;
        return 0;
    }
    param = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST);
    if (param != NULL && (param->data_type != OSSL_PARAM_UTF8_STRING || hash_bits(param->data) != signature->bits)) {
        signature->broken = true;
        return 0;
    }
    return 1;
}

static const OSSL_PARAM *settable_ctx_params(void *context, void *provider)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
                                        OSSL_PARAM_END};

    (void)context;
    (void)provider;
    return params;
}

/* RSASSA-PSS parameters are explicit (RFC 4055 3.1): hash, MGF1 with it, salt as long as it. */
static X509_ALGOR *pss_algorithm(int bits)
{
    const int hash_nid = bits == 256 ? NID_sha256 : bits == 384 ? NID_sha384 : NID_sha512;
    RSA_PSS_PARAMS *pss = RSA_PSS_PARAMS_new();
    X509_ALGOR *algorithm = X509_ALGOR_new(), *hash = X509_ALGOR_new(), *mask = X509_ALGOR_new();
    ASN1_STRING *encoded_hash = NULL, *encoded = NULL;
    int good = 0;

    if (pss == NULL || algorithm == NULL || hash == NULL || mask == NULL)
        goto err0;
    pss->saltLength = ASN1_INTEGER_new();
    if (pss->saltLength == NULL || ASN1_INTEGER_set(pss->saltLength, bits / 8) != 1 ||
        X509_ALGOR_set0(hash, OBJ_nid2obj(hash_nid), V_ASN1_NULL, NULL) != 1 ||
        ASN1_item_pack(hash, ASN1_ITEM_rptr(X509_ALGOR), &encoded_hash) == NULL)
        goto err0;
    if (X509_ALGOR_set0(mask, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE, encoded_hash) != 1)
        goto err0;
    encoded_hash = NULL;
    pss->hashAlgorithm = hash;
    pss->maskGenAlgorithm = mask;
    hash = mask = NULL;
    if (ASN1_item_pack(pss, ASN1_ITEM_rptr(RSA_PSS_PARAMS), &encoded) == NULL ||
        X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, encoded) != 1)
        goto err0;
    encoded = NULL;
    good = 1;
err0:
    ASN1_STRING_free(encoded);
    ASN1_STRING_free(encoded_hash);
    X509_ALGOR_free(mask);
    X509_ALGOR_free(hash);
    RSA_PSS_PARAMS_free(pss);
    if (!good) {
        X509_ALGOR_free(algorithm);
        algorithm = NULL;
    }
    return algorithm;
}

static X509_ALGOR *plain_algorithm(const struct scheme_row *row)
{
    X509_ALGOR *algorithm = X509_ALGOR_new();

    if (algorithm == NULL)
        return NULL;
    if (X509_ALGOR_set0(algorithm, OBJ_nid2obj(row->nid), row->type == KEY_TYPE_RSA ? V_ASN1_NULL : V_ASN1_UNDEF,
                        NULL) == 1)
        return algorithm;
    X509_ALGOR_free(algorithm);
    return NULL;
}

static int set_algorithm_id(OSSL_PARAM *param, const struct scheme_row *row)
{
    X509_ALGOR *algorithm;
    unsigned char *der = NULL;
    int length;
    int good = 0;

    if (row == NULL)
        return 0;
    algorithm = row->pss ? pss_algorithm(row->bits) : plain_algorithm(row);
    if (algorithm == NULL)
        return 0;
    length = i2d_X509_ALGOR(algorithm, &der);
    good = length > 0 && OSSL_PARAM_set_octet_string(param, der, (size_t)length);
    OPENSSL_free(der);
    X509_ALGOR_free(algorithm);
    return good;
}

static int get_ctx_params(void *context, OSSL_PARAM params[])
{
    OSSL_PARAM *param = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);

    return param == NULL || set_algorithm_id(param, find_scheme(context));
}

static const OSSL_PARAM *gettable_ctx_params(void *context, void *provider)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
                                        OSSL_PARAM_END};

    (void)context;
    (void)provider;
    return params;
}

/* Called twice in a handshake, once only to ask: no I/O here. */
static int digest_sign_init(void *context, const char *hash, void *keydata, const OSSL_PARAM params[])
{
    struct signature *signature = context;
    struct key *key = keymgmt_key(keydata);

    if (key != NULL) {
        (void)key_ref(key);
        key_free(signature->key);
        signature->key = key;
    }
    if (signature->key == NULL)
        return 0;
    signature->pss = false;
    signature->broken = false;
    if (key_type(signature->key) == KEY_TYPE_ED25519) {
        if (hash != NULL && hash[0] != '\0')
            return 0;
        signature->bits = 0;
    } else {
        signature->bits = hash_bits(hash == NULL || hash[0] == '\0' ? "SHA256" : hash);
        if (signature->bits < 0)
            return 0;
    }
    return set_ctx_params(signature, params);
}

/* lint: the parameters are those of OSSL_FUNC_signature_digest_sign(). */
static int digest_sign(void *context, unsigned char *out, size_t *length, size_t size, const unsigned char *message,
                       size_t message_length)
{
    struct signature *signature = context;
    const struct scheme_row *row = find_scheme(signature);
    struct signer_input input = {.key = signature->key, .message = message, .length = message_length};
    int most;

    if (row == NULL)
        return 0;
    most = EVP_PKEY_get_size(key_public(signature->key));
    if (most <= 0)
        return 0;
    if (out == NULL) {
        *length = (size_t)most;
        return 1;
    }
    input.scheme = row->scheme;
    return signer_sign(&input, out, size < (size_t)most ? size : (size_t)most, length);
}

static const OSSL_DISPATCH functions[] = {
    {OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))signature_new},
    {OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))signature_free},
    {OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))signature_dup},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))digest_sign_init},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))digest_sign},
    {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))get_ctx_params},
    {OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))gettable_ctx_params},
    {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))set_ctx_params},
    {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))settable_ctx_params},
    {0, NULL},
};

const OSSL_ALGORITHM signature_algorithms[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=tokentls", functions, "RSA in a keyholder"},
    {"ECDSA", "provider=tokentls", functions, "ECDSA in a keyholder"},
    {"ED25519:1.3.101.112", "provider=tokentls", functions, "Ed25519 in a keyholder"},
    {NULL, NULL, NULL, NULL},
};
