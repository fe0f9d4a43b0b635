#include "tests/mock-module/attributes.h"
#include "tests/mock-module/faults.h"
#include "tests/mock-module/module.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_MAX 1024    /* sessions of this process that are kept track of */
#define SIGNATURE_SPACE 2048 /* bytes: more than any key's signature */
#define PIN_MAX 256

struct session {
    CK_SESSION_HANDLE handle;
    CK_SLOT_ID slot; /* of the wrapped module */
    CK_MECHANISM_TYPE mechanism;
    bool open;
    bool signing;             /* between C_SignInit and C_Sign */
    bool wants_context_login; /* of the signature begun: key__always_authenticate */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct session sessions[SESSIONS_MAX];
static CK_SESSION_HANDLE last_signer; /* 0: none; for login__lost_on_interleave */

/* The PIN of the last C_Login that worked; what a context-specific login is compared with. A test token's PIN. */
static CK_BYTE good_pin[PIN_MAX];
static CK_ULONG good_pin_length;

/* With the lock held. */
static struct session *find(CK_SESSION_HANDLE handle)
{
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i].open && sessions[i].handle == handle)
            return &sessions[i];
    }
    return NULL;
}

static unsigned count_open(void)
{
    unsigned n = 0;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < SESSIONS_MAX; i++)
        n += sessions[i].open;
    pthread_mutex_unlock(&lock);
    return n;
}

static void remember(CK_SESSION_HANDLE handle, CK_SLOT_ID slot)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        if (!sessions[i].open) {
            sessions[i] = (struct session){.handle = handle, .slot = slot, .open = true};
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

static void forget(CK_SESSION_HANDLE handle)
{
    struct session *session;

    pthread_mutex_lock(&lock);
    session = find(handle);
    if (session)
        session->open = false;
    pthread_mutex_unlock(&lock);
}

static void forget_slot(CK_SLOT_ID slot)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        if (sessions[i].slot == slot)
            sessions[i].open = false;
    }
    pthread_mutex_unlock(&lock);
}

void session_forget_all(void)
{
    pthread_mutex_lock(&lock);
    memset(sessions, 0, sizeof sessions);
    last_signer = 0;
    pthread_mutex_unlock(&lock);
}

void session_close_slot(CK_SLOT_ID real)
{
    (void)module_real()->C_CloseAllSessions(real);
    forget_slot(real);
}

/* A copy of what is known of a session; false when it is not open (and counted as stale). */
static bool look_up(CK_SESSION_HANDLE handle, struct session *ret)
{
    struct session *session;

    pthread_mutex_lock(&lock);
    session = find(handle);
    if (session)
        *ret = *session;
    pthread_mutex_unlock(&lock);
    if (!session)
        faults_count(COUNTER_STALE_SESSION);
    return session != NULL;
}

static void suffer(CK_SESSION_HANDLE handle, enum faults_aftermath aftermath)
{
    struct session session;

    switch (aftermath) {
    case FAULTS_AFTER_NOTHING:
        return;
    case FAULTS_AFTER_LOGOUT:
        (void)module_real()->C_Logout(handle);
        return;
    case FAULTS_AFTER_CLOSE:
        (void)module_real()->C_CloseSession(handle);
        forget(handle);
        return;
    case FAULTS_AFTER_CLOSE_ALL:
        if (look_up(handle, &session))
            session_close_slot(session.slot);
        return;
    case FAULTS_AFTER_FINALIZE:
        (void)module_real()->C_Finalize(NULL);
        session_forget_all();
        return;
    }
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify, CK_SESSION_HANDLE *ret)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    unsigned long limit;
    CK_RV rv = CKR_OK;

    faults_count(COUNTER_OPEN_SESSION);
    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    if (slots_gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    if (faults_strike_at(FAULTS_AT_OPEN_SESSION, &rv, &aftermath))
        return rv;
    if (faults_is_on(FAULT_OPEN_SESSION_COUNT, &limit) && count_open() >= limit &&
        faults_strikes(FAULT_OPEN_SESSION_COUNT, NULL))
        return CKR_SESSION_COUNT;
    if (count_open() >= 1 && faults_strikes(FAULT_OPEN_SESSION_SINGLE, NULL))
        return CKR_SESSION_COUNT;
    rv = module_real()->C_OpenSession(slot, flags, application, notify, ret);
    if (rv == CKR_OK)
        remember(*ret, slot);
    return rv;
}

static CK_RV close_session(CK_SESSION_HANDLE handle)
{
    MODULE_CALL;

    faults_count(COUNTER_CLOSE_SESSION);
    forget(handle);
    return module_real()->C_CloseSession(handle);
}

static CK_RV close_all_sessions(CK_SLOT_ID slot)
{
    MODULE_CALL;

    if (!slots_hidden(slot, &slot))
        return CKR_SLOT_ID_INVALID;
    forget_slot(slot);
    return module_real()->C_CloseAllSessions(slot);
}

static CK_RV get_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    MODULE_CALL;
    CK_RV rv = module_real()->C_GetSessionInfo(handle, info);

    if (rv == CKR_OK)
        info->slotID = slots_shown(info->slotID);
    return rv;
}

/* CKU_CONTEXT_SPECIFIC under key__always_authenticate, which SoftHSM does not know of (PKCS#11 v3.0 5.6.8). */
static CK_RV context_login(CK_SESSION_HANDLE handle, const CK_BYTE *pin, CK_ULONG length)
{
    struct session *session;
    CK_RV rv = CKR_OPERATION_NOT_INITIALIZED;

    pthread_mutex_lock(&lock);
    session = find(handle);
    if (session && session->signing) {
        bool right = pin && length == good_pin_length && memcmp(pin, good_pin, length) == 0;

        rv = right ? CKR_OK : CKR_PIN_INCORRECT;
        session->wants_context_login = !right;
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV user_login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG length)
{
    char *typed = getenv("TOKENTLS_FAULTS_PIN"); /* what the person types on the pin pad */
    CK_RV rv;

    if (!pin && typed && faults_is_on(FAULT_LOGIN_PINPAD, NULL)) {
        pin = (CK_BYTE *)typed;
        length = strlen(typed);
    }
    rv = module_real()->C_Login(handle, user, pin, length);
    /* The worst moment: the token has counted the try, the caller never hears of it. */
    if (faults_strikes(FAULT_LOGIN_CRASH, NULL))
        abort();
    if (rv == CKR_OK && user == CKU_USER && pin && length <= PIN_MAX) {
        pthread_mutex_lock(&lock);
        memcpy(good_pin, pin, length);
        good_pin_length = length;
        pthread_mutex_unlock(&lock);
    }
    return rv;
}

static CK_RV login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG length)
{
    MODULE_CALL;
    bool context = user == CKU_CONTEXT_SPECIFIC;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    faults_count(context ? COUNTER_LOGIN_CONTEXT : COUNTER_LOGIN);
    if (faults_strike_at(FAULTS_AT_LOGIN, &rv, &aftermath))
        suffer(handle, aftermath);
    else if (context && faults_is_on(FAULT_KEY_ALWAYS_AUTHENTICATE, NULL))
        rv = context_login(handle, pin, length);
    else
        rv = user_login(handle, user, pin, length);
    if (rv != CKR_OK)
        faults_count(COUNTER_LOGIN_FAILED);
    return rv;
}

static CK_RV logout(CK_SESSION_HANDLE handle)
{
    MODULE_CALL;

    faults_count(COUNTER_LOGOUT);
    return module_real()->C_Logout(handle);
}

static CK_RV find_objects_init(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    faults_count(COUNTER_FIND_OBJECTS_INIT);
    if (faults_strike_at(FAULTS_AT_FIND, &rv, &aftermath))
        return rv;
    return module_real()->C_FindObjectsInit(handle, template, count);
}

static CK_RV find_objects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *objects, CK_ULONG max, CK_ULONG *count)
{
    MODULE_CALL;
    CK_RV rv;

    if (count && faults_strikes(FAULT_FIND_OBJECTS_NONE, NULL)) {
        *count = 0;
        return CKR_OK;
    }
    rv = module_real()->C_FindObjects(handle, objects, max, count);
    if (rv == CKR_OK && faults_is_on(FAULT_KEY_NO_PUBLIC, NULL))
        attributes_hide_public(handle, objects, count);
    return rv;
}

static CK_RV get_attribute_value(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                                 CK_ULONG count)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    CK_RV rv = CKR_OK;

    if (faults_strike_at(FAULTS_AT_GET_ATTRIBUTE, &rv, &aftermath))
        return rv;
    return attributes_get(handle, object, template, count);
}

static CK_RV sign_init(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    MODULE_CALL;
    enum faults_aftermath aftermath;
    struct session *session, known;
    CK_SESSION_HANDLE before;
    CK_RV rv = CKR_OK;

    faults_count(COUNTER_SIGN_INIT);
    (void)look_up(handle, &known);
    if (faults_strike_at(FAULTS_AT_SIGN_INIT, &rv, &aftermath)) {
        suffer(handle, aftermath);
        return rv;
    }
    pthread_mutex_lock(&lock);
    before = last_signer;
    last_signer = handle;
    pthread_mutex_unlock(&lock);
    if (before != 0 && before != handle && faults_strikes(FAULT_LOGIN_LOST_ON_INTERLEAVE, NULL)) {
        (void)module_real()->C_Logout(handle);
        return CKR_USER_NOT_LOGGED_IN;
    }
    rv = mechanism ? slots_check_mechanism(mechanism->mechanism) : CKR_ARGUMENTS_BAD;
    if (rv == CKR_OK)
        rv = module_real()->C_SignInit(handle, mechanism, key);
    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&lock);
    session = find(handle);
    if (session) {
        session->mechanism = mechanism->mechanism;
        session->signing = true;
        session->wants_context_login = faults_is_on(FAULT_KEY_ALWAYS_AUTHENTICATE, NULL);
    }
    pthread_mutex_unlock(&lock);
    return CKR_OK;
}

/* A failed C_Sign ends the operation: let the wrapped module end it too, and throw the signature away. */
static void end_operation(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG length)
{
    CK_BYTE signature[SIGNATURE_SPACE];
    CK_ULONG signature_length = sizeof signature;

    (void)module_real()->C_Sign(handle, data, length, signature, &signature_length);
}

static size_t put_integer(CK_BYTE *out, const CK_BYTE *value, size_t length)
{
    size_t pad;

    for (; length > 1 && *value == 0; length--)
        value++;
    pad = (size_t)(*value >> 7);
    out[0] = 2; /* INTEGER */
    out[1] = (CK_BYTE)(length + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, value, length);
    return 2 + pad + length;
}

/* r || s becomes SEQUENCE { INTEGER r, INTEGER s }, as some modules answer though PKCS#11 says otherwise. */
static CK_RV to_der(CK_BYTE *signature, CK_ULONG *length, CK_ULONG room)
{
    CK_BYTE body[SIGNATURE_SPACE];
    size_t n, half = *length / 2, head = 2;

    if (*length > 132) /* P-521; more would need longer lengths */
        return CKR_FUNCTION_FAILED;
    n = put_integer(body, signature, half);
    n += put_integer(body + n, signature + half, half);
    if (n > 127)
        head = 3;
    if (head + n > room)
        return CKR_BUFFER_TOO_SMALL;
    signature[0] = 0x30; /* SEQUENCE */
    if (head == 3)
        signature[1] = 0x81;
    signature[head - 1] = (CK_BYTE)n;
    memcpy(signature + head, body, n);
    *length = head + n;
    return CKR_OK;
}

static CK_RV spoil(const struct session *session, CK_BYTE *signature, CK_ULONG *length, CK_ULONG room)
{
    if (faults_strikes(FAULT_SIGN_WRONG_SIGNATURE, NULL))
        signature[*length / 2] ^= 1;
    if (faults_strikes(FAULT_SIGN_SHORT, NULL))
        --*length;
    if (faults_strikes(FAULT_SIGN_EMPTY, NULL))
        *length = 0;
    if (faults_strikes(FAULT_SIGN_LENGTH_LIES, NULL))
        *length = room + 4096;
    if (session->mechanism == CKM_ECDSA && faults_strikes(FAULT_SIGN_DER_ECDSA, NULL))
        return to_der(signature, length, room);
    return CKR_OK;
}

static CK_RV ask_length(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG length, CK_ULONG *ret_length)
{
    struct session session;
    CK_RV rv = module_real()->C_Sign(handle, data, length, NULL, ret_length);

    if (rv == CKR_OK && ret_length && look_up(handle, &session) && session.mechanism == CKM_ECDSA &&
        faults_is_on(FAULT_SIGN_DER_ECDSA, NULL))
        *ret_length += 9; /* the sequence's head and two integers' heads and signs */
    return rv;
}

static CK_RV sign(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature, CK_ULONG *ret_length)
{
    MODULE_CALL;
    struct session session = {0}, *known;
    enum faults_aftermath aftermath;
    CK_ULONG room;
    CK_RV rv = CKR_OK;

    if (!signature || !ret_length)
        return ask_length(handle, data, length, ret_length);
    faults_count(COUNTER_SIGN);
    room = *ret_length;
    (void)look_up(handle, &session);
    if (faults_strike_at(FAULTS_AT_SIGN, &rv, &aftermath)) {
        end_operation(handle, data, length);
        suffer(handle, aftermath);
        return rv;
    }
    if (session.wants_context_login) {
        end_operation(handle, data, length);
        rv = CKR_USER_NOT_LOGGED_IN;
    } else {
        rv = module_real()->C_Sign(handle, data, length, signature, ret_length);
        if (rv == CKR_OK)
            rv = spoil(&session, signature, ret_length, room);
    }
    pthread_mutex_lock(&lock);
    known = find(handle);
    if (known && rv != CKR_BUFFER_TOO_SMALL)
        known->signing = known->wants_context_login = false;
    pthread_mutex_unlock(&lock);
    return rv;
}

void session_install(CK_FUNCTION_LIST *list)
{
    list->C_OpenSession = open_session;
    list->C_CloseSession = close_session;
    list->C_CloseAllSessions = close_all_sessions;
    list->C_GetSessionInfo = get_session_info;
    list->C_Login = login;
    list->C_Logout = logout;
    list->C_FindObjectsInit = find_objects_init;
    list->C_FindObjects = find_objects;
    list->C_GetAttributeValue = get_attribute_value;
    list->C_SignInit = sign_init;
    list->C_Sign = sign;
}
