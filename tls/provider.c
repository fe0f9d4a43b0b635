#include "tls/provider.h"

#include "tls/keymgmt.h"
#include "tls/signature.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

static const OSSL_PARAM *gettable_params(void *provider)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
                                        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL), OSSL_PARAM_END};

    (void)provider;
    return params;
}

static int get_params(void *provider, OSSL_PARAM params[])
{
    OSSL_PARAM *param;

    (void)provider;
    param = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME);
    if (param != NULL && !OSSL_PARAM_set_utf8_ptr(param, "keys held by tokentls-keyholder"))
        return 0;
    param = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
    return param == NULL || OSSL_PARAM_set_int(param, 1);
}

static const OSSL_ALGORITHM *query_operation(void *provider, int operation, int *no_cache)
{
    (void)provider;
    *no_cache = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmt_algorithms;
    case OSSL_OP_SIGNATURE:
        return signature_algorithms;
    default:
        return NULL;
    }
}

static const OSSL_DISPATCH functions[] = {
    {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))gettable_params},
    {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params},
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation},
    {0, NULL},
};

int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context)
{
    /* OpenSSL asks for a context of the provider's own; there is no state, so the handle stands in. */
    union {
        const OSSL_CORE_HANDLE *core;
        void *context;
    } self = {.core = handle};

    (void)in;
    *context = self.context;
    *out = functions;
    return 1;
}
