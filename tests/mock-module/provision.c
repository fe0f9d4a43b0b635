#include "tests/mock-module/faults.h"
#include "tests/mock-module/module.h"

/* lint: the parameters are those of C_GenerateKeyPair */
static CK_RV generate_key_pair(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public,
                               CK_ULONG public_count, CK_ATTRIBUTE *private, CK_ULONG private_count,
                               CK_OBJECT_HANDLE *public_key, CK_OBJECT_HANDLE *private_key)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    faults_count(COUNTER_GENERATE);
    if (faults_strike_at(FAULTS_AT_GENERATE, &rv, &aftermath))
        return rv;
    return module_real()->C_GenerateKeyPair(handle, mechanism, public, public_count, private, private_count, public_key,
                                            private_key);
}

static CK_RV create_object(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    faults_count(COUNTER_CREATE);
    if (faults_strike_at(FAULTS_AT_CREATE, &rv, &aftermath))
        return rv;
    return module_real()->C_CreateObject(handle, template, count, object);
}

static CK_RV destroy_object(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object)
{
    MODULE_CALL;

    faults_count(COUNTER_DESTROY);
    return module_real()->C_DestroyObject(handle, object);
}

static CK_RV init_token(CK_SLOT_ID slot, CK_UTF8CHAR *pin, CK_ULONG length, CK_UTF8CHAR *label)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;
    CK_SLOT_ID real;

    faults_count(COUNTER_INIT_TOKEN);
    if (faults_strike_at(FAULTS_AT_INIT_TOKEN, &rv, &aftermath))
        return rv;
    if (!slots_hidden(slot, &real))
        return CKR_SLOT_ID_INVALID;
    return module_real()->C_InitToken(real, pin, length, label);
}

void provision_install(CK_FUNCTION_LIST *list)
{
    list->C_GenerateKeyPair = generate_key_pair;
    list->C_CreateObject = create_object;
    list->C_DestroyObject = destroy_object;
    list->C_InitToken = init_token;
}
