#include "tests/mock-module/module.h"
#include "tests/mock-module/faults.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_MODULE "/usr/lib/softhsm/libsofthsm2.so"

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST wrapped;
static atomic_int calls_inside;
static atomic_bool single_threaded; /* C_Initialize was refused for its locking once, then accepted without */
static atomic_bool initialized;

CK_FUNCTION_LIST *module_real(void)
{
    return real;
}

int module_enter(void)
{
    if (atomic_fetch_add(&calls_inside, 1) > 0 && atomic_load(&single_threaded))
        faults_count(COUNTER_CONCURRENT);
    if (atomic_load(&initialized))
        slots_notice();
    return 0;
}

void module_leave(int *unused)
{
    (void)unused;
    atomic_fetch_sub(&calls_inside, 1);
}

static bool wants_locking(const CK_C_INITIALIZE_ARGS *args)
{
    return args && ((args->flags & CKF_OS_LOCKING_OK) || args->CreateMutex);
}

static CK_RV initialize(void *args)
{
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    faults_open();
    faults_count(COUNTER_INITIALIZE);
    if (faults_strike_at(FAULTS_AT_INITIALIZE, &rv, &aftermath))
        return rv;
    if (wants_locking(args) && faults_strikes(FAULT_INITIALIZE_CANT_LOCK, NULL))
        return CKR_CANT_LOCK;
    rv = real->C_Initialize(args);
    if (rv == CKR_OK) {
        atomic_store(&single_threaded, faults_is_on(FAULT_INITIALIZE_CANT_LOCK, NULL));
        atomic_store(&initialized, true);
    }
    return rv;
}

static CK_RV finalize(void *reserved)
{
    CK_RV rv;

    faults_open();
    faults_count(COUNTER_FINALIZE);
    atomic_store(&initialized, false);
    rv = real->C_Finalize(reserved);
    session_forget_all();
    return rv;
}

static CK_RV load(void)
{
    const char *path = getenv("TOKENTLS_FAULTS_MODULE");
    CK_C_GetFunctionList get_list;
    void *handle;
    CK_RV rv;

    if (real)
        return CKR_OK;
    if (!path || !*path)
        path = DEFAULT_MODULE;
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    /* The detour through an object pointer is how POSIX wants functions taken out of dlsym(). */
    if (!handle || (*(void **)&get_list = dlsym(handle, "C_GetFunctionList")) == NULL) {
        fprintf(stderr, "tokentls-faults: cannot load the module to wrap: %s\n", dlerror());
        return CKR_GENERAL_ERROR;
    }
    rv = get_list(&real);
    if (rv != CKR_OK) {
        real = NULL;
        return rv;
    }
    wrapped = *real;
    wrapped.version.major = 2;
    wrapped.version.minor = 40;
    wrapped.C_Initialize = initialize;
    wrapped.C_Finalize = finalize;
    wrapped.C_GetFunctionList = C_GetFunctionList;
    slots_install(&wrapped);
    session_install(&wrapped);
    provision_install(&wrapped);
    return CKR_OK;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    CK_RV rv;

    if (!list)
        return CKR_ARGUMENTS_BAD;
    pthread_mutex_lock(&load_lock);
    rv = load();
    pthread_mutex_unlock(&load_lock);
    if (rv == CKR_OK)
        *list = &wrapped;
    return rv;
}
