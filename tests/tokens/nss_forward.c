/*
 * A PKCS#11 module in front of NSS's softokn, which does not initialise without a parameter string of its own where the
 * standard has pReserved: that string comes from the environment, TOKENTLS_NSS_PARAMETERS. TOKENTLS_NSS_MODULE names
 * softokn, default libsoftokn3.so. Every other call goes to softokn as it is.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST list;

static CK_RV initialize(void *arguments)
{
    /* softokn's structure is longer by one pointer. */
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *reserved;
    } with_parameters = {.standard = {.flags = CKF_OS_LOCKING_OK}};

    if (arguments != NULL)
        with_parameters.standard = *(const CK_C_INITIALIZE_ARGS *)arguments;
    if (with_parameters.standard.pReserved == NULL)
        with_parameters.standard.pReserved = getenv("TOKENTLS_NSS_PARAMETERS");
    return real->C_Initialize(&with_parameters);
}

static CK_RV get_function_list(CK_FUNCTION_LIST **ret)
{
    *ret = &list;
    return CKR_OK;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret)
{
    const char *path = getenv("TOKENTLS_NSS_MODULE");
    void *module = dlopen(path == NULL ? "libsoftokn3.so" : path, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get;

    if (module == NULL) {
        (void)fprintf(stderr, "nss_forward: %s\n", dlerror());
        return CKR_GENERAL_ERROR;
    }
    *(void **)&get = dlsym(module, "C_GetFunctionList");
    if (get == NULL || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    list = *real;
    list.C_Initialize = initialize;
    list.C_GetFunctionList = get_function_list;
    return get_function_list(ret);
}
