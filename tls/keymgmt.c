#include "tls/keymgmt.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

struct keydata {
    struct key *key;
};

struct key *keymgmt_key(const void *keydata)
{
    return keydata == NULL ? NULL : ((const struct keydata *)keydata)->key;
}

static void *keydata_new(void *provider)
{
    (void)provider;
    return calloc(1, sizeof(struct keydata));
}

static void keydata_free(void *keydata)
{
    if (keydata == NULL)
        return;
    key_free(keymgmt_key(keydata));
    free(keydata);
}

static int has(const void *keydata, int selection)
{
    (void)selection;
    return keymgmt_key(keydata) != NULL;
}

/* Both halves belong together by construction, so comparing the public ones answers for the private ones too. */
static int match(const void *a, const void *b, int selection)
{
    const struct key *key_a = keymgmt_key(a);
    const struct key *key_b = keymgmt_key(b);

    if (key_a == NULL || key_b == NULL)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return EVP_PKEY_parameters_eq(key_public(key_a), key_public(key_b)) == 1;
    return EVP_PKEY_eq(key_public(key_a), key_public(key_b)) == 1;
}

static int import(void *keydata, int selection, const OSSL_PARAM params[])
{
    const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, KEYMGMT_PARAM_KEY);
    struct keydata *data = keydata;
    struct key *key;

    (void)selection;
    if (data == NULL || data->key != NULL || param == NULL || param->data_type != OSSL_PARAM_OCTET_STRING ||
        param->data_size != sizeof(struct key *))
        return 0;
    memcpy(&key, param->data, sizeof(key));
    data->key = key_ref(key);
    return 1;
}

static const OSSL_PARAM *import_types(int selection)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(KEYMGMT_PARAM_KEY, NULL, 0), OSSL_PARAM_END};

    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ? types : NULL;
}

/*
 * A selection with the private key must be refused: OpenSSL would take what it gets to "default" and sign there, with
 * the public half only.
 */
static int export(void *keydata, int selection, OSSL_CALLBACK *callback, void *arg)
{
    const struct key *key = keymgmt_key(keydata);

    if (key == NULL || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        return 0;
    return EVP_PKEY_export(key_public(key), selection, callback, arg);
}

static const OSSL_PARAM *export_types(int selection)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
                                       OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
                                       OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                       OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END};

    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ? NULL : types;
}

static int get_params(void *keydata, OSSL_PARAM params[])
{
    const struct key *key = keymgmt_key(keydata);

    return key != NULL && EVP_PKEY_get_params(key_public(key), params) == 1;
}

static const OSSL_PARAM *gettable_params(void *provider)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                        OSSL_PARAM_END};

    (void)provider;
    return params;
}

static const char *ec_operation_name(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : "EC";
}

#define COMMON_FUNCTIONS                                                                                               \
    {OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))keydata_new}, {OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))keydata_free},      \
        {OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))has}, {OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))match},                \
        {OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))import},                                                            \
        {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))import_types},                                                \
        {OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void)) export},                                                           \
        {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))export_types},                                                \
        {OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))get_params},                                                    \
    {                                                                                                                  \
        OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))gettable_params                                             \
    }

static const OSSL_DISPATCH functions[] = {COMMON_FUNCTIONS, {0, NULL}};

static const OSSL_DISPATCH ec_functions[] = {
    COMMON_FUNCTIONS,
    {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))ec_operation_name},
    {0, NULL},
};

const OSSL_ALGORITHM keymgmt_algorithms[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=tokentls", functions, "RSA key in a keyholder"},
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=tokentls", ec_functions, "EC key in a keyholder"},
    {"ED25519:1.3.101.112", "provider=tokentls", functions, "Ed25519 key in a keyholder"},
    {NULL, NULL, NULL, NULL},
};
