#include "tests/mock-module/faults.h"
#include "tests/mock-module/module.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX 64       /* slots of the wrapped module */
#define MECHANISMS_MAX 512 /* mechanisms of a token */
#define MOVED_BY 0x1000    /* added to slot ids while slots__other_slot is on */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool was_absent, was_moved;
static unsigned long was_without;

bool slots_gone(CK_SLOT_ID real)
{
    CK_TOKEN_INFO info;
    unsigned long serial;
    char text[sizeof info.serialNumber + 1] = "";

    if (faults_is_on(FAULT_SLOTS_TOKEN_ABSENT, NULL))
        return true;
    if (!faults_is_on(FAULT_SLOTS_WITHOUT, &serial) || module_real()->C_GetTokenInfo(real, &info) != CKR_OK)
        return false;
    memcpy(text, info.serialNumber, sizeof info.serialNumber);
    return strtoul(text, NULL, 16) == serial;
}

void slots_notice(void)
{
    bool absent = faults_is_on(FAULT_SLOTS_TOKEN_ABSENT, NULL);
    bool moved = faults_is_on(FAULT_SLOTS_OTHER_SLOT, NULL);
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX;
    unsigned long without = 0;
    bool changed, all;

    (void)faults_is_on(FAULT_SLOTS_WITHOUT, &without);
    pthread_mutex_lock(&lock);
    all = absent != was_absent || moved != was_moved;
    changed = all || without != was_without;
    was_without = without;
    was_absent = absent;
    was_moved = moved;
    pthread_mutex_unlock(&lock);
    if (!changed || module_real()->C_GetSlotList(CK_TRUE, slots, &n) != CKR_OK)
        return;
    for (CK_ULONG i = 0; i < n; i++) {
        if (all || slots_gone(slots[i]))
            session_close_slot(slots[i]);
    }
}

CK_SLOT_ID slots_shown(CK_SLOT_ID real)
{
    return faults_is_on(FAULT_SLOTS_OTHER_SLOT, NULL) ? real + MOVED_BY : real;
}

bool slots_hidden(CK_SLOT_ID shown, CK_SLOT_ID *ret_real)
{
    if (!faults_is_on(FAULT_SLOTS_OTHER_SLOT, NULL)) {
        *ret_real = shown;
        return true;
    }
    if (shown < MOVED_BY)
        return false;
    *ret_real = shown - MOVED_BY;
    return true;
}

/* Give a list to a caller who may have asked for its length only (PKCS#11 v3.0 5.2). */
static CK_RV give_list(const CK_ULONG *from, CK_ULONG n, CK_ULONG *to, CK_ULONG *count)
{
    CK_ULONG room = *count;

    *count = n;
    if (!to)
        return CKR_OK;
    if (room < n)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(to, from, n * sizeof *from);
    return CKR_OK;
}

static CK_ULONG without_gone(CK_SLOT_ID *slots, CK_ULONG n)
{
    CK_ULONG kept = 0;

    for (CK_ULONG i = 0; i < n; i++) {
        if (!slots_gone(slots[i]))
            slots[kept++] = slots[i];
    }
    if (kept < n)
        (void)faults_strikes(FAULT_SLOTS_WITHOUT, NULL);
    return kept;
}

static CK_RV get_slot_list(CK_BBOOL token_present, CK_SLOT_ID *list, CK_ULONG *count)
{
    MODULE_CALL;
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    if (!count)
        return CKR_ARGUMENTS_BAD;
    if (faults_strike_at(FAULTS_AT_SLOTS, &rv, &aftermath))
        return rv;
    /* SoftHSM looks for new tokens only when it is asked for the length. */
    rv = module_real()->C_GetSlotList(token_present, NULL, &n);
    n = SLOTS_MAX;
    if (rv == CKR_OK)
        rv = module_real()->C_GetSlotList(token_present, slots, &n);
    if (rv != CKR_OK)
        return rv;
    if (faults_strikes(FAULT_SLOTS_TOKEN_ABSENT, NULL) && token_present)
        n = 0;
    if (token_present)
        n = without_gone(slots, n);
    for (CK_ULONG i = 0; i < n; i++)
        slots[i] = slots_shown(slots[i]);
    if (n > 0)
        (void)faults_strikes(FAULT_SLOTS_OTHER_SLOT, NULL);
    return give_list(slots, n, list, count);
}

static CK_RV get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    MODULE_CALL;
    CK_RV rv;

    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    rv = module_real()->C_GetSlotInfo(slot, info);
    if (rv != CKR_OK)
        return rv;
    if (slots_gone(slot))
        info->flags &= ~(CK_FLAGS)CKF_TOKEN_PRESENT;
    if (faults_strikes(FAULT_SLOTS_REMOVABLE, NULL))
        info->flags |= CKF_REMOVABLE_DEVICE;
    if (faults_strikes(FAULT_SLOTS_HARDWARE, NULL))
        info->flags |= CKF_HW_SLOT;
    return rv;
}

static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    MODULE_CALL;
    static const char evil[] = "a\nb\x1b[2Jc\"d\\e\x80\xff";
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    if (slots_gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    if (faults_strike_at(FAULTS_AT_TOKEN_INFO, &rv, &aftermath))
        return rv;
    rv = module_real()->C_GetTokenInfo(slot, info);
    if (rv != CKR_OK)
        return rv;
    info->flags |= faults_token_flags();
    if (faults_strikes(FAULT_SLOTS_OTHER_SERIAL, NULL))
        memcpy(info->serialNumber, "fa017fa017fa017f", sizeof info->serialNumber);
    if (faults_strikes(FAULT_TOKEN_INFO_OTHER_MAKER, NULL))
        memset(info->manufacturerID, 'x', sizeof info->manufacturerID);
    if (faults_strikes(FAULT_TOKEN_INFO_NO_PIN_SET, NULL))
        info->flags &= ~(CK_FLAGS)CKF_USER_PIN_INITIALIZED;
    if (faults_strikes(FAULT_TOKEN_INFO_EVIL_LABEL, NULL))
        memcpy(info->label, evil, sizeof evil - 1);
    if (faults_is_on(FAULT_OPEN_SESSION_SINGLE, NULL))
        info->ulMaxSessionCount = info->ulMaxRwSessionCount = 1;
    return rv;
}

/* slots__events: one event for each time the token has come or gone since the last call. */
static CK_RV event(CK_SLOT_ID *slot)
{
    static bool absent;
    bool now = faults_is_on(FAULT_SLOTS_TOKEN_ABSENT, NULL), changed;
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX;

    pthread_mutex_lock(&lock);
    changed = absent != now;
    absent = now;
    pthread_mutex_unlock(&lock);
    if (!changed)
        return CKR_NO_EVENT;
    (void)faults_strikes(FAULT_SLOTS_EVENTS, NULL);
    if (slot && module_real()->C_GetSlotList(CK_TRUE, slots, &n) == CKR_OK && n > 0)
        *slot = slots_shown(slots[0]);
    return CKR_OK;
}

static CK_RV wait_for_slot_event(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
    CK_RV rv;

    /* No MODULE_CALL: a module may be waited on while other calls go on. */
    faults_count(COUNTER_WAIT);
    if (faults_strikes(FAULT_SLOTS_WAIT_BLOCKS, NULL))
        faults_hang(FAULT_SLOTS_WAIT_BLOCKS);
    if (faults_strikes(FAULT_SLOTS_NO_EVENTS, NULL))
        return CKR_FUNCTION_NOT_SUPPORTED;
    if (faults_is_on(FAULT_SLOTS_EVENTS, NULL))
        return event(slot);
    rv = module_real()->C_WaitForSlotEvent(flags, slot, reserved);
    if (rv == CKR_OK && slot)
        *slot = slots_shown(*slot);
    return rv;
}

static bool is_pss(CK_MECHANISM_TYPE mechanism)
{
    switch (mechanism) {
    case CKM_RSA_PKCS_PSS:
    case CKM_SHA1_RSA_PKCS_PSS:
    case CKM_SHA224_RSA_PKCS_PSS:
    case CKM_SHA256_RSA_PKCS_PSS:
    case CKM_SHA384_RSA_PKCS_PSS:
    case CKM_SHA512_RSA_PKCS_PSS:
        return true;
    default:
        return false;
    }
}

static bool is_hash_rsa(CK_MECHANISM_TYPE mechanism)
{
    switch (mechanism) {
    case CKM_MD5_RSA_PKCS:
    case CKM_SHA1_RSA_PKCS:
    case CKM_SHA224_RSA_PKCS:
    case CKM_SHA256_RSA_PKCS:
    case CKM_SHA384_RSA_PKCS:
    case CKM_SHA512_RSA_PKCS:
        return true;
    default:
        return is_pss(mechanism) && mechanism != CKM_RSA_PKCS_PSS;
    }
}

/* Is the mechanism taken away by one of the faults mechanism__*? Mechanisms of other key types never are. */
static bool taken_away(CK_MECHANISM_TYPE mechanism, bool strike)
{
    bool (*on)(enum faults_id, unsigned long *) = strike ? faults_strikes : faults_is_on;
    bool rsa = is_hash_rsa(mechanism) || is_pss(mechanism) || mechanism == CKM_RSA_PKCS || mechanism == CKM_RSA_X_509;

    if (!rsa)
        return false;
    return (is_pss(mechanism) && on(FAULT_MECHANISM_NO_PSS, NULL)) ||
           (mechanism != CKM_RSA_X_509 && on(FAULT_MECHANISM_ONLY_X509, NULL)) ||
           (mechanism != CKM_RSA_PKCS && on(FAULT_MECHANISM_ONLY_PKCS1, NULL)) ||
           (!is_hash_rsa(mechanism) && on(FAULT_MECHANISM_ONLY_HASH_RSA, NULL));
}

CK_RV slots_check_mechanism(CK_MECHANISM_TYPE mechanism)
{
    if (taken_away(mechanism, true))
        return CKR_MECHANISM_INVALID;
    if (is_pss(mechanism) && faults_strikes(FAULT_MECHANISM_PSS_LIES, NULL))
        return CKR_MECHANISM_PARAM_INVALID;
    return CKR_OK;
}

static CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    MODULE_CALL;
    CK_MECHANISM_TYPE all[MECHANISMS_MAX];
    CK_ULONG n = MECHANISMS_MAX, kept = 0;
    CK_RV rv;

    if (!count)
        return CKR_ARGUMENTS_BAD;
    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    rv = module_real()->C_GetMechanismList(slot, all, &n);
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < n; i++) {
        if (!taken_away(all[i], false))
            all[kept++] = all[i];
    }
    return give_list(all, kept, list, count);
}

static CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO *info)
{
    MODULE_CALL;

    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    if (taken_away(mechanism, true))
        return CKR_MECHANISM_INVALID;
    return module_real()->C_GetMechanismInfo(slot, mechanism, info);
}

static CK_RV init_token(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG length, CK_BYTE *label)
{
    MODULE_CALL;

    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    return module_real()->C_InitToken(slot, pin, length, label);
}

void slots_install(CK_FUNCTION_LIST *list)
{
    list->C_GetSlotList = get_slot_list;
    list->C_GetSlotInfo = get_slot_info;
    list->C_GetTokenInfo = get_token_info;
    list->C_WaitForSlotEvent = wait_for_slot_event;
    list->C_GetMechanismList = get_mechanism_list;
    list->C_GetMechanismInfo = get_mechanism_info;
    list->C_InitToken = init_token;
}
