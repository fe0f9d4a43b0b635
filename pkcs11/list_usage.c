#include "pkcs11/list_usage.h"

#include "base/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

struct usage {
    uint32_t bit;
    const char *name;
};

/* RFC 5280 4.2.1.3 */
static const struct usage key_usages[] = {{KU_DIGITAL_SIGNATURE, "digitalSignature"},
                                          {KU_NON_REPUDIATION, "nonRepudiation"},
                                          {KU_KEY_ENCIPHERMENT, "keyEncipherment"},
                                          {KU_DATA_ENCIPHERMENT, "dataEncipherment"},
                                          {KU_KEY_AGREEMENT, "keyAgreement"},
                                          {KU_KEY_CERT_SIGN, "keyCertSign"},
                                          {KU_CRL_SIGN, "cRLSign"},
                                          {KU_ENCIPHER_ONLY, "encipherOnly"},
                                          {KU_DECIPHER_ONLY, "decipherOnly"},
                                          {0, NULL}};

/* RFC 5280 4.2.1.12; others are "other". */
static const struct usage extended_usages[] = {{XKU_SSL_SERVER, "serverAuth"},      {XKU_SSL_CLIENT, "clientAuth"},
                                               {XKU_CODE_SIGN, "codeSigning"},      {XKU_SMIME, "emailProtection"},
                                               {XKU_TIMESTAMP, "timeStamping"},     {XKU_OCSP_SIGN, "OCSPSigning"},
                                               {XKU_ANYEKU, "anyExtendedKeyUsage"}, {0, NULL}};

static void put_names(cJSON *into, const char *name, const struct usage *usages, uint32_t bits)
{
    cJSON *array;

    if (bits == UINT32_MAX) {
        (void)cJSON_AddNullToObject(into, name);
        return;
    }
    array = cJSON_AddArrayToObject(into, name);
    for (const struct usage *usage = usages; usage->name != NULL; usage++) {
        if ((bits & usage->bit) != 0)
            (void)cJSON_AddItemToArray(array, cJSON_CreateString(usage->name));
    }
    if (usages == extended_usages && cJSON_GetArraySize(array) == 0)
        (void)cJSON_AddItemToArray(array, cJSON_CreateString("other"));
}

/* Rounded down, so that a certificate that ends today has 0 days and one that ended has -1. */
static int days_left(const X509 *certificate, bool *ret_known)
{
    int days = 0, seconds = 0;

    *ret_known = ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) == 1;
    return seconds < 0 ? days - 1 : days;
}

void list_usage_put(cJSON *into, X509 *certificate)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned length = 0;
    bool known;
    int days = days_left(certificate, &known);

    if (known)
        (void)cJSON_AddNumberToObject(into, "days_left", days);
    else
        (void)cJSON_AddNullToObject(into, "days_left");
    put_names(into, "key_usage", key_usages, X509_get_key_usage(certificate));
    put_names(into, "extended_key_usage", extended_usages, X509_get_extended_key_usage(certificate));
    if (X509_digest(certificate, EVP_sha256(), digest, &length) == 1)
        (void)cJSON_AddStringToObject(into, "sha256", text_hex(digest, length, 0, hex, sizeof(hex)));
    else
        (void)cJSON_AddNullToObject(into, "sha256");
    ERR_clear_error();
}

void list_usage_put_problems(cJSON *into, X509 *certificate)
{
    uint32_t extended = X509_get_extended_key_usage(certificate);
    cJSON *problems = cJSON_AddArrayToObject(into, "problems");

    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) >= 0)
        (void)cJSON_AddItemToArray(problems, cJSON_CreateString("the certificate is not valid yet"));
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
        (void)cJSON_AddItemToArray(problems, cJSON_CreateString("the certificate has expired"));
    if ((X509_get_key_usage(certificate) & KU_DIGITAL_SIGNATURE) == 0)
        (void)cJSON_AddItemToArray(problems, cJSON_CreateString("its key usage does not allow digital signatures"));
    if (extended != UINT32_MAX && (extended & (XKU_SSL_CLIENT | XKU_ANYEKU)) == 0)
        (void)cJSON_AddItemToArray(problems,
                                   cJSON_CreateString("its extended key usage does not name client authentication"));
    ERR_clear_error();
}
