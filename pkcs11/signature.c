#include "pkcs11/signature.h"

#include "pkcs11/plan.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

static bool is_der(const struct token_signature *signature)
{
    const uint8_t *at = signature->bytes;
    ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &at, (long)signature->length);
    bool whole = parsed != NULL && at == signature->bytes + signature->length;

    ECDSA_SIG_free(parsed);
    ERR_clear_error();
    return whole;
}

/* An encoder of our own for two positive INTEGERs would be a second parser's twin: let OpenSSL write it. */
static bool encode(struct token_signature *signature, size_t order)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature->bytes, (int)order, NULL);
    BIGNUM *s = BN_bin2bn(signature->bytes + order, (int)order, NULL);
    uint8_t *at = signature->bytes;
    int length = 0;

    if (sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        goto err0;
    }
    length = i2d_ECDSA_SIG(sig, NULL);
    if (length > 0 && (size_t)length <= sizeof(signature->bytes))
        length = i2d_ECDSA_SIG(sig, &at);
    else
        length = 0;
err0:
    ECDSA_SIG_free(sig);
    if (length <= 0)
        return false;
    signature->length = (size_t)length;
    return true;
}

result signature_to_der(struct token_signature *signature, size_t order, struct error *err)
{
    if (signature->length == 2 * order) {
        if (!encode(signature, order))
            return error_set_openssl(err, ERROR_INTERNAL, "cannot encode an ECDSA signature");
        return ERROR_NONE;
    }
    if (!is_der(signature))
        return error_set(err, ERROR_TOKEN, "the token returned %zu bytes, which is no ECDSA signature of this curve",
                         signature->length);
    return ERROR_NONE;
}

static bool set_padding(EVP_PKEY_CTX *context, uint16_t scheme)
{
    switch (scheme) {
    case SCHEME_RSA_PSS_RSAE_SHA256:
    case SCHEME_RSA_PSS_RSAE_SHA384:
    case SCHEME_RSA_PSS_RSAE_SHA512:
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) > 0;
    default:
        return true;
    }
}

result signature_verify(EVP_PKEY *key, uint16_t scheme, const uint8_t *message, size_t length,
                        const struct token_signature *signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;
    bool good = context != NULL && EVP_DigestVerifyInit(context, &parameters, plan_md(scheme), NULL, key) == 1 &&
                set_padding(parameters, scheme) &&
                EVP_DigestVerify(context, signature->bytes, signature->length, message, length) == 1;

    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good ? ERROR_NONE : ERROR_TOKEN;
}
