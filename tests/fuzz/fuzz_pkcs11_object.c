/*
 * What a token says of its objects. Byte 0: key type; byte 1: length of the first attribute (modulus, EC parameters,
 * label); the rest is every other attribute. The token's answers are the fuzzer's.
 */
#include "pkcs11/certificate.h"
#include "pkcs11/object.h"
#include "pkcs11/public_key.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t input_size;
static bool listed;

static CK_RV get_attribute(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR attribute, CK_ULONG n)
{
    static const CK_KEY_TYPE types[] = {CKK_RSA, CKK_EC, CKK_EC_EDWARDS, CKK_AES};
    CK_KEY_TYPE type = types[input[0] % 4];
    size_t first = input[1] < input_size - 2 ? input[1] : input_size - 2;
    const void *value = input + 2 + first;
    size_t length = input_size - 2 - first;

    (void)session;
    (void)object;
    (void)n;
    if (attribute->type == CKA_MODULUS || attribute->type == CKA_EC_PARAMS || attribute->type == CKA_LABEL) {
        value = input + 2;
        length = first;
    } else if (attribute->type == CKA_KEY_TYPE) {
        value = &type;
        length = sizeof(type);
    }
    if (attribute->pValue != NULL && attribute->ulValueLen < length)
        return CKR_BUFFER_TOO_SMALL;
    if (attribute->pValue != NULL)
        memcpy(attribute->pValue, value, length);
    attribute->ulValueLen = length;
    return CKR_OK;
}

static CK_RV find_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR pattern, CK_ULONG n)
{
    (void)session;
    (void)pattern;
    (void)n;
    listed = false;
    return CKR_OK;
}

static CK_RV find(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR object, CK_ULONG max, CK_ULONG_PTR n)
{
    (void)session;
    (void)max;
    *object = 1;
    *n = listed ? 0 : 1;
    listed = true;
    return CKR_OK;
}

static CK_RV find_final(CK_SESSION_HANDLE session)
{
    (void)session;
    return CKR_OK;
}

static void read_all(const struct session *session)
{
    struct certificate_list list = {.n = 0};
    struct public_key_kind kind;
    CK_TOKEN_INFO token = {0};
    EVP_PKEY *key = NULL;
    X509 *chain[4];
    char *uri = NULL;
    size_t n;

    if (public_key_read(session, 1, &key, NULL) == ERROR_NONE && key != NULL)
        (void)!public_key_kind(key, &kind, NULL);
    if (object_uri(session, &token, 1, &uri, NULL) == ERROR_NONE && strncmp(uri, "pkcs11:", 7) != 0)
        abort();
    if (certificate_read_token(session, NULL, 0, &list, NULL) == ERROR_NONE && list.n > 0) {
        n = certificate_build_chain(list.items[0], &list, chain, 4);
        while (n > 0)
            X509_free(chain[--n]);
    }
    certificate_list_free(&list);
    EVP_PKEY_free(key);
    free(uri);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CK_FUNCTION_LIST functions = {.C_GetAttributeValue = get_attribute,
                                  .C_FindObjectsInit = find_init,
                                  .C_FindObjects = find,
                                  .C_FindObjectsFinal = find_final};
    struct session session = {.handle = 1};

    if (size < 2 || module_adopt(&functions, "fuzz", false, &session.module, NULL) != ERROR_NONE)
        return 0;
    input = data;
    input_size = size;
    read_all(&session);
    module_release(session.module);
    return 0;
}
