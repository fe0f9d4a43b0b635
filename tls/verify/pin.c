#include "tls/verify/pin.h"

#include "base/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#define PREFIX "sha256//"

/* Base64 of 32 bytes, with its one '='. */
#define BASE64_LENGTH 44

static bool is_base64(const char *text)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return strlen(text) == BASE64_LENGTH && strspn(text, alphabet) == BASE64_LENGTH - 1 &&
           text[BASE64_LENGTH - 1] == '=';
}

result pin_parse(const char *text, uint8_t ret[CHAIN_SPKI_LENGTH], struct error *err)
{
    const char *encoded = text_after(text, PREFIX);
    unsigned char bytes[BASE64_LENGTH / 4 * 3];

    if (encoded == NULL)
        return error_set(err, ERROR_CONFIG, "\"%.100s\" does not begin with " PREFIX, text);
    if (!is_base64(encoded) || EVP_DecodeBlock(bytes, (const unsigned char *)encoded, BASE64_LENGTH) < 0)
        return error_set(err, ERROR_CONFIG,
                         "\"%.100s\" is not " PREFIX " and the %d characters of base64 that a SHA-256 has; "
                         "openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin -outform DER | "
                         "openssl dgst -sha256 -binary | base64 makes them",
                         text, BASE64_LENGTH);
    memcpy(ret, bytes, CHAIN_SPKI_LENGTH);
    return ERROR_NONE;
}

bool pin_of(X509 *certificate, OSSL_LIB_CTX *libctx, uint8_t ret[CHAIN_SPKI_LENGTH])
{
    unsigned char *der = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    size_t digest_length = 0;
    bool good = length > 0 && EVP_Q_digest(libctx, "SHA256", NULL, der, (size_t)length, ret, &digest_length) == 1 &&
                digest_length == CHAIN_SPKI_LENGTH;

    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}

bool pin_matches(const struct chain_request *request, const STACK_OF(X509) * path)
{
    for (int i = 0; i < sk_X509_num(path); i++) {
        uint8_t digest[CHAIN_SPKI_LENGTH];

        if (!pin_of(sk_X509_value(path, i), request->libctx, digest))
            continue;
        for (size_t k = 0; k < request->n_spkis; k++) {
            if (memcmp(digest, request->spkis[k], CHAIN_SPKI_LENGTH) == 0)
                return true;
        }
    }
    return false;
}
