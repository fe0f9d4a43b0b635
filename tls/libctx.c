#include "tls/libctx.h"

#include "tls/provider.h"

#include <openssl/crypto.h>
#include <openssl/provider.h>
#include <stdlib.h>

struct libctx {
    OSSL_LIB_CTX *context;
    OSSL_PROVIDER *standard;
    OSSL_PROVIDER *token;
};

struct libctx *libctx_new(struct error *err)
{
    struct libctx *libctx;

    /* Must come before libssl initialises itself: whoever is first decides whether openssl.cnf is read. */
    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1) {
        error_set_openssl(err, ERROR_INTERNAL, "cannot initialise OpenSSL");
        return NULL;
    }
    libctx = calloc(1, sizeof(*libctx));
    if (libctx == NULL) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    libctx->context = OSSL_LIB_CTX_new();
    if (libctx->context == NULL)
        goto err0;
    /* "default" first: where a query names no provider, the one that was added first wins. */
    libctx->standard = OSSL_PROVIDER_load(libctx->context, "default");
    if (libctx->standard == NULL)
        goto err0;
    if (OSSL_PROVIDER_add_builtin(libctx->context, PROVIDER_NAME, provider_init) != 1)
        goto err0;
    libctx->token = OSSL_PROVIDER_load(libctx->context, PROVIDER_NAME);
    if (libctx->token == NULL)
        goto err0;
    return libctx;

err0:
    error_set_openssl(err, ERROR_INTERNAL, "cannot set up an OpenSSL library context");
    libctx_free(libctx);
    return NULL;
}

void libctx_free(struct libctx *libctx)
{
    if (libctx == NULL)
        return;
    if (libctx->token != NULL)
        (void)OSSL_PROVIDER_unload(libctx->token);
    if (libctx->standard != NULL)
        (void)OSSL_PROVIDER_unload(libctx->standard);
    OSSL_LIB_CTX_free(libctx->context);
    free(libctx);
}

OSSL_LIB_CTX *libctx_get(const struct libctx *libctx)
{
    return libctx->context;
}
