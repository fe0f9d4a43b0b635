#include "tls/fit.h"

#include "pkcs11/mechanism.h"

#include <string.h>

bool fit_issuer(const X509 *leaf, const STACK_OF(X509) * chain, const STACK_OF(X509_NAME) * names)
{
    int n = sk_X509_NAME_num(names), n_chain = chain != NULL ? sk_X509_num(chain) : 0;

    if (n <= 0)
        return true;
    for (int i = -1; i < n_chain; i++) {
        const X509 *certificate = i < 0 ? leaf : sk_X509_value(chain, i);

        for (int j = 0; j < n; j++)
            if (X509_NAME_cmp(X509_get_issuer_name(certificate), sk_X509_NAME_value(names, j)) == 0)
                return true;
    }
    return false;
}

bool fit_version(const EVP_PKEY *key, uint16_t scheme, int version)
{
    int bits = EVP_PKEY_get_bits(key);

    if (version < TLS1_3_VERSION)
        return true;
    switch (scheme) {
    case SCHEME_ECDSA_SHA256:
        return bits == 256;
    case SCHEME_ECDSA_SHA384:
        return bits == 384;
    case SCHEME_ECDSA_SHA512:
        return bits == 521;
    case SCHEME_RSA_PKCS1_SHA256:
    case SCHEME_RSA_PKCS1_SHA384:
    case SCHEME_RSA_PKCS1_SHA512:
        return false;
    default:
        return true;
    }
}

bool fit_type(const EVP_PKEY *key, const uint8_t *types, size_t n)
{
    unsigned char wanted = EVP_PKEY_is_a(key, "RSA") ? TLS_CT_RSA_SIGN : TLS_CT_ECDSA_SIGN;

    return n > 0 && memchr(types, wanted, n) != NULL;
}
