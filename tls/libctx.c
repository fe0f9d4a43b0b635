#include "tls/libctx.h"

#include "tls/provider.h"
#include "tls/selection.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <stdlib.h>

struct libctx {
    OSSL_LIB_CTX *context;
    OSSL_LIB_CTX *complete;   /* may be `context` */
    OSSL_PROVIDER *standard;  /* in `complete` */
    OSSL_PROVIDER *selection; /* NULL: none */
    OSSL_PROVIDER *token;
    OSSL_LIB_CTX *bare;      /* of libctx_set_aside(); NULL: there is none */
    OSSL_PROVIDER *nothing;  /* in `bare` */
    OSSL_LIB_CTX *set_aside; /* NULL: nothing is */
};

static struct libctx *start(struct error *err)
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
    libctx->complete = OSSL_LIB_CTX_new();
    if (libctx->complete != NULL)
        libctx->standard = OSSL_PROVIDER_load(libctx->complete, "default");
    if (libctx->standard != NULL)
        return libctx;
    error_set_openssl(err, ERROR_INTERNAL, "cannot set up an OpenSSL library context");
    libctx_free(libctx);
    return NULL;
}

/* "default" first: where a query names no provider, the one that was added first wins. */
static struct libctx *add_token(struct libctx *libctx, struct error *err)
{
    if (OSSL_PROVIDER_add_builtin(libctx->complete, PROVIDER_NAME, provider_init) == 1)
        libctx->token = OSSL_PROVIDER_load(libctx->complete, PROVIDER_NAME);
    if (libctx->token != NULL)
        return libctx;
    error_set_openssl(err, ERROR_INTERNAL, "cannot set up an OpenSSL library context");
    libctx_free(libctx);
    return NULL;
}

struct libctx *libctx_new(struct error *err)
{
    struct libctx *libctx = start(err);

    if (libctx == NULL)
        return NULL;
    libctx->context = libctx->complete;
    return add_token(libctx, err);
}

/* With the provider that has nothing: a library context without any would load "default" when asked for something. */
static void add_bare(struct libctx *libctx)
{
    libctx->bare = OSSL_LIB_CTX_new();
    if (libctx->bare != NULL)
        libctx->nothing = OSSL_PROVIDER_load(libctx->bare, "null");
    if (libctx->nothing == NULL) {
        OSSL_LIB_CTX_free(libctx->bare);
        libctx->bare = NULL;
        ERR_clear_error();
    }
}

struct libctx *libctx_new_for_tls(struct error *err)
{
    struct libctx *libctx = start(err);

    if (libctx == NULL)
        return NULL;
    libctx->context = OSSL_LIB_CTX_new();
    if (libctx->context == NULL) {
        error_set_openssl(err, ERROR_INTERNAL, "cannot set up an OpenSSL library context");
        libctx_free(libctx);
        return NULL;
    }
    libctx->selection = selection_load(libctx->context, libctx->standard);
    if (libctx->selection == NULL) {
        /* All that "default" has is slower, but right. */
        OSSL_LIB_CTX_free(libctx->context);
        libctx->context = libctx->complete;
        ERR_clear_error();
    }
    add_bare(libctx);
    return add_token(libctx, err);
}

void libctx_free(struct libctx *libctx)
{
    if (libctx == NULL)
        return;
    if (libctx->token != NULL)
        (void)OSSL_PROVIDER_unload(libctx->token);
    if (libctx->selection != NULL)
        (void)OSSL_PROVIDER_unload(libctx->selection);
    if (libctx->nothing != NULL)
        (void)OSSL_PROVIDER_unload(libctx->nothing);
    OSSL_LIB_CTX_free(libctx->bare);
    if (libctx->context != libctx->complete)
        OSSL_LIB_CTX_free(libctx->context);
    if (libctx->standard != NULL)
        (void)OSSL_PROVIDER_unload(libctx->standard);
    OSSL_LIB_CTX_free(libctx->complete);
    free(libctx);
}

OSSL_LIB_CTX *libctx_get(const struct libctx *libctx)
{
    return libctx->context;
}

OSSL_LIB_CTX *libctx_complete(const struct libctx *libctx)
{
    return libctx->complete;
}

void libctx_adopt(const struct libctx *libctx)
{
    (void)OSSL_LIB_CTX_set0_default(libctx->context);
}

void libctx_set_aside(struct libctx *libctx)
{
    if (libctx->bare != NULL && libctx->set_aside == NULL)
        libctx->set_aside = OSSL_LIB_CTX_set0_default(libctx->bare);
}

void libctx_take_back(struct libctx *libctx)
{
    if (libctx->set_aside == NULL)
        return;
    (void)OSSL_LIB_CTX_set0_default(libctx->set_aside);
    libctx->set_aside = NULL;
}
