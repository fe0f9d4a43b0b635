/*
 * The named faults: one row each, chosen by a control file that may change while the process runs. See README.md for
 * the grammar of the control file.
 */
#ifndef TOKENTLS_TESTS_MOCK_MODULE_FAULTS_H
#define TOKENTLS_TESTS_MOCK_MODULE_FAULTS_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* Where a fault strikes. */
enum faults_point {
    FAULTS_AT_INITIALIZE,
    FAULTS_AT_SLOTS,      /* C_GetSlotList */
    FAULTS_AT_TOKEN_INFO, /* C_GetTokenInfo */
    FAULTS_AT_OPEN_SESSION,
    FAULTS_AT_LOGIN,
    FAULTS_AT_FIND, /* C_FindObjectsInit */
    FAULTS_AT_GET_ATTRIBUTE,
    FAULTS_AT_GENERATE,   /* C_GenerateKeyPair */
    FAULTS_AT_CREATE,     /* C_CreateObject */
    FAULTS_AT_INIT_TOKEN, /* C_InitToken */
    FAULTS_AT_SIGN_INIT,
    FAULTS_AT_SIGN /* C_Sign with a buffer; the question for the length is no turn */
};

enum faults_kind {
    FAULTS_RETURN, /* returns `value` as CK_RV, then does what `aftermath` says to the wrapped module */
    FAULTS_SLOW,   /* waits as many ms as its argument says (default `value`), then goes on */
    FAULTS_SERIAL, /* the same, one call after the other over all processes that share the counters file */
    FAULTS_HANG,   /* waits until the control file no longer names it */
    FAULTS_CRASH,  /* abort() */
    FAULTS_FLAGS,  /* sets the bits `value` in CK_TOKEN_INFO.flags */
    FAULTS_SPECIAL /* asked for by its id where it matters */
};

/* What else has happened to the token when a fault of kind RETURN strikes. */
enum faults_aftermath {
    FAULTS_AFTER_NOTHING,
    FAULTS_AFTER_LOGOUT,    /* the login is gone */
    FAULTS_AFTER_CLOSE,     /* this session is gone */
    FAULTS_AFTER_CLOSE_ALL, /* all sessions of the token are gone, and with them the login */
    FAULTS_AFTER_FINALIZE   /* the module is not initialised any more */
};

/* X(id, name, point, kind, value, aftermath): at each point the first RETURN that is on wins, in this order. */
/* clang-format off */
#define FAULTS_TABLE(X)                                                                                                \
    X(INITIALIZE_SLOW, "initialize__slow", INITIALIZE, SLOW, 1000, NOTHING)                                            \
    X(INITIALIZE_HANG, "initialize__hang", INITIALIZE, HANG, 0, NOTHING)                                               \
    X(CRASH_IN_INIT, "crash_in_init", INITIALIZE, CRASH, 0, NOTHING)                                                   \
    X(INITIALIZE_FAIL, "initialize__fail", INITIALIZE, RETURN, CKR_GENERAL_ERROR, NOTHING)                             \
    X(INITIALIZE_CANT_LOCK, "initialize__cant_lock", INITIALIZE, SPECIAL, 0, NOTHING)                                  \
    X(SLOTS_SLOW, "slots__slow", SLOTS, SLOW, 1000, NOTHING)                                                           \
    X(SLOTS_HANG, "slots__hang", SLOTS, HANG, 0, NOTHING)                                                              \
    X(SLOTS_FAIL, "slots__fail", SLOTS, RETURN, CKR_DEVICE_ERROR, NOTHING)                                             \
    X(SLOTS_TOKEN_ABSENT, "slots__token_absent", SLOTS, SPECIAL, 0, NOTHING)                                           \
    X(SLOTS_WITHOUT, "slots__without", SLOTS, SPECIAL, 0, NOTHING)                                                     \
    X(SLOTS_OTHER_SERIAL, "slots__other_serial", TOKEN_INFO, SPECIAL, 0, NOTHING)                                      \
    X(SLOTS_OTHER_SLOT, "slots__other_slot", SLOTS, SPECIAL, 0, NOTHING)                                               \
    X(SLOTS_REMOVABLE, "slots__removable", SLOTS, SPECIAL, 0, NOTHING)                                                 \
    X(SLOTS_WAIT_BLOCKS, "slots__wait_blocks", SLOTS, SPECIAL, 0, NOTHING)                                             \
    X(SLOTS_EVENTS, "slots__events", SLOTS, SPECIAL, 0, NOTHING)                                                       \
    X(SLOTS_NO_EVENTS, "slots__no_events", SLOTS, SPECIAL, 0, NOTHING)                                                 \
    X(SLOTS_HARDWARE, "slots__hardware", SLOTS, SPECIAL, 0, NOTHING)                                                   \
    X(TOKEN_INFO_FAIL, "token_info__fail", TOKEN_INFO, RETURN, CKR_DEVICE_ERROR, NOTHING)                              \
    X(TOKEN_INFO_NOT_RECOGNIZED, "token_info__not_recognized", TOKEN_INFO, RETURN, CKR_TOKEN_NOT_RECOGNIZED, NOTHING)  \
    X(TOKEN_INFO_OTHER_MAKER, "token_info__other_maker", TOKEN_INFO, SPECIAL, 0, NOTHING)                              \
    X(TOKEN_INFO_NO_PIN_SET, "token_info__no_pin_set", TOKEN_INFO, SPECIAL, 0, NOTHING)                                \
    X(TOKEN_INFO_EVIL_LABEL, "token_info__evil_label", TOKEN_INFO, SPECIAL, 0, NOTHING)                                \
    X(LOGIN_FINAL_TRY, "login__final_try", TOKEN_INFO, FLAGS, CKF_USER_PIN_FINAL_TRY, NOTHING)                         \
    X(LOGIN_COUNT_LOW, "login__count_low", TOKEN_INFO, FLAGS, CKF_USER_PIN_COUNT_LOW, NOTHING)                         \
    X(LOGIN_LOCKED, "login__locked", TOKEN_INFO, FLAGS, CKF_USER_PIN_LOCKED, NOTHING)                                  \
    X(LOGIN_TO_BE_CHANGED, "login__to_be_changed", TOKEN_INFO, FLAGS, CKF_USER_PIN_TO_BE_CHANGED, NOTHING)             \
    X(TOKEN_WRITE_PROTECTED, "token_info__write_protected", TOKEN_INFO, FLAGS, CKF_WRITE_PROTECTED, NOTHING)           \
    X(LOGIN_PINPAD, "login__pinpad", TOKEN_INFO, FLAGS, CKF_PROTECTED_AUTHENTICATION_PATH, NOTHING)                    \
    X(OPEN_SESSION_COUNT, "open_session__count", OPEN_SESSION, SPECIAL, 1, NOTHING)                                    \
    X(OPEN_SESSION_SINGLE, "open_session__single", OPEN_SESSION, SPECIAL, 0, NOTHING)                                  \
    X(OPEN_SESSION_FAIL, "open_session__fail", OPEN_SESSION, RETURN, CKR_DEVICE_ERROR, NOTHING)                        \
    X(LOGIN_SLOW, "login__slow", LOGIN, SLOW, 1000, NOTHING)                                                           \
    X(LOGIN_HANG, "login__hang", LOGIN, HANG, 0, NOTHING)                                                              \
    X(LOGIN_CRASH, "login__crash", LOGIN, SPECIAL, 0, NOTHING)                                                         \
    X(LOGIN_PIN_INCORRECT, "login__pin_incorrect", LOGIN, RETURN, CKR_PIN_INCORRECT, NOTHING)                          \
    X(LOGIN_PIN_LOCKED, "login__pin_locked", LOGIN, RETURN, CKR_PIN_LOCKED, NOTHING)                                   \
    X(LOGIN_PIN_EXPIRED, "login__pin_expired", LOGIN, RETURN, CKR_PIN_EXPIRED, NOTHING)                                \
    X(LOGIN_PIN_NOT_INITIALIZED, "login__pin_not_initialized", LOGIN, RETURN, CKR_USER_PIN_NOT_INITIALIZED, NOTHING)   \
    X(LOGIN_FUNCTION_FAILED, "login__function_failed", LOGIN, RETURN, CKR_FUNCTION_FAILED, NOTHING)                    \
    X(LOGIN_GENERAL_ERROR, "login__general_error", LOGIN, RETURN, CKR_GENERAL_ERROR, NOTHING)                          \
    X(LOGIN_DEVICE_REMOVED, "login__device_removed", LOGIN, RETURN, CKR_DEVICE_REMOVED, CLOSE_ALL)                     \
    X(LOGIN_FUNCTION_CANCELED, "login__function_canceled", LOGIN, RETURN, CKR_FUNCTION_CANCELED, NOTHING)              \
    X(LOGIN_LOST_ON_INTERLEAVE, "login__lost_on_interleave", SIGN_INIT, SPECIAL, 0, NOTHING)                           \
    X(FIND_OBJECTS_SLOW, "find_objects__slow", FIND, SLOW, 1000, NOTHING)                                              \
    X(FIND_OBJECTS_HANG, "find_objects__hang", FIND, HANG, 0, NOTHING)                                                 \
    X(FIND_OBJECTS_FAIL, "find_objects__fail", FIND, RETURN, CKR_DEVICE_ERROR, NOTHING)                                \
    X(FIND_OBJECTS_NONE, "find_objects__none", FIND, SPECIAL, 0, NOTHING)                                              \
    X(GET_ATTRIBUTE_FAIL, "get_attribute__fail", GET_ATTRIBUTE, RETURN, CKR_DEVICE_ERROR, NOTHING)                     \
    X(GENERATE_SLOW, "generate__slow", GENERATE, SLOW, 1500, NOTHING)                                                  \
    X(GENERATE_FAIL, "generate__fail", GENERATE, RETURN, CKR_DEVICE_ERROR, NOTHING)                                    \
    X(GENERATE_CRASH, "generate__crash", GENERATE, CRASH, 0, NOTHING)                                                  \
    X(CREATE_OBJECT_FAIL, "create_object__fail", CREATE, RETURN, CKR_DEVICE_MEMORY, NOTHING)                           \
    X(INIT_TOKEN_FAIL, "init_token__fail", INIT_TOKEN, RETURN, CKR_DEVICE_ERROR, NOTHING)                              \
    X(KEY_ALWAYS_AUTHENTICATE, "key__always_authenticate", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                         \
    X(KEY_EXTRACTABLE, "key__extractable", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                         \
    X(KEY_WAS_EXTRACTABLE, "key__was_extractable", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                 \
    X(KEY_IMPORTED, "key__imported", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                               \
    X(KEY_NO_SIGN, "key__no_sign", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                                 \
    X(KEY_NO_ATTRIBUTES, "key__no_attributes", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                     \
    X(KEY_NO_PUBLIC, "key__no_public", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                             \
    X(KEY_CURVE_OID, "key__curve_oid", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                             \
    X(KEY_CURVE_NAME, "key__curve_name", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                           \
    X(KEY_CURVE_OLD_OID, "key__curve_old_oid", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                     \
    X(KEY_POINT_RAW, "key__point_raw", GET_ATTRIBUTE, SPECIAL, 0, NOTHING)                                             \
    X(MECHANISM_NO_PSS, "mechanism__no_pss", SIGN_INIT, SPECIAL, 0, NOTHING)                                           \
    X(MECHANISM_ONLY_X509, "mechanism__only_x509", SIGN_INIT, SPECIAL, 0, NOTHING)                                     \
    X(MECHANISM_ONLY_PKCS1, "mechanism__only_pkcs1", SIGN_INIT, SPECIAL, 0, NOTHING)                                   \
    X(MECHANISM_ONLY_HASH_RSA, "mechanism__only_hash_rsa", SIGN_INIT, SPECIAL, 0, NOTHING)                             \
    X(MECHANISM_PSS_LIES, "mechanism__pss_lies", SIGN_INIT, SPECIAL, 0, NOTHING)                                       \
    X(SIGN_INIT_KEY_HANDLE_INVALID, "sign_init__key_handle_invalid", SIGN_INIT, RETURN, CKR_KEY_HANDLE_INVALID,        \
      NOTHING)                                                                                                         \
    X(SIGN_INIT_SESSION_INVALID, "sign_init__session_invalid", SIGN_INIT, RETURN, CKR_SESSION_HANDLE_INVALID, CLOSE)   \
    X(SIGN_INIT_USER_NOT_LOGGED_IN, "sign_init__user_not_logged_in", SIGN_INIT, RETURN, CKR_USER_NOT_LOGGED_IN,        \
      LOGOUT)                                                                                                          \
    X(SIGN_INIT_FUNCTION_FAILED, "sign_init__function_failed", SIGN_INIT, RETURN, CKR_FUNCTION_FAILED, NOTHING)        \
    X(SIGN_SLOW, "sign__slow", SIGN, SLOW, 300, NOTHING)                                                               \
    X(SIGN_SERIAL, "sign__serial", SIGN, SERIAL, 300, NOTHING)                                                         \
    X(SIGN_HANG, "sign__hang", SIGN, HANG, 0, NOTHING)                                                                 \
    X(CRASH, "crash", SIGN, CRASH, 0, NOTHING)                                                                         \
    X(SIGN_DEVICE_REMOVED, "sign__device_removed", SIGN, RETURN, CKR_DEVICE_REMOVED, CLOSE_ALL)                        \
    X(SIGN_TOKEN_NOT_PRESENT, "sign__token_not_present", SIGN, RETURN, CKR_TOKEN_NOT_PRESENT, CLOSE_ALL)               \
    X(SIGN_SESSION_INVALID, "sign__session_invalid", SIGN, RETURN, CKR_SESSION_HANDLE_INVALID, CLOSE)                  \
    X(SIGN_SESSION_CLOSED, "sign__session_closed", SIGN, RETURN, CKR_SESSION_CLOSED, CLOSE)                            \
    X(SIGN_HSM_RESTART, "sign__hsm_restart", SIGN, RETURN, CKR_DEVICE_ERROR, CLOSE_ALL)                                \
    X(SIGN_NOT_INITIALIZED, "sign__not_initialized", SIGN, RETURN, CKR_CRYPTOKI_NOT_INITIALIZED, FINALIZE)             \
    X(SIGN_DEVICE_ERROR, "sign__device_error", SIGN, RETURN, CKR_DEVICE_ERROR, NOTHING)                                \
    X(SIGN_DEVICE_MEMORY, "sign__device_memory", SIGN, RETURN, CKR_DEVICE_MEMORY, NOTHING)                             \
    X(SIGN_FUNCTION_FAILED, "sign__function_failed", SIGN, RETURN, CKR_FUNCTION_FAILED, NOTHING)                       \
    X(SIGN_FUNCTION_CANCELED, "sign__function_canceled", SIGN, RETURN, CKR_FUNCTION_CANCELED, NOTHING)                 \
    X(SIGN_GENERAL_ERROR, "sign__general_error", SIGN, RETURN, CKR_GENERAL_ERROR, NOTHING)                             \
    X(SIGN_HOST_MEMORY, "sign__host_memory", SIGN, RETURN, CKR_HOST_MEMORY, NOTHING)                                   \
    X(SIGN_USER_NOT_LOGGED_IN, "sign__user_not_logged_in", SIGN, RETURN, CKR_USER_NOT_LOGGED_IN, LOGOUT)               \
    X(SIGN_KEY_HANDLE_INVALID, "sign__key_handle_invalid", SIGN, RETURN, CKR_KEY_HANDLE_INVALID, NOTHING)              \
    X(SIGN_OPERATION_NOT_INITIALIZED, "sign__operation_not_initialized", SIGN, RETURN, CKR_OPERATION_NOT_INITIALIZED,  \
      NOTHING)                                                                                                         \
    X(SIGN_VENDOR_ERROR, "sign__vendor_error", SIGN, RETURN, CKR_VENDOR_DEFINED | 0x42, NOTHING)                       \
    X(SIGN_WRONG_SIGNATURE, "sign__wrong_signature", SIGN, SPECIAL, 0, NOTHING)                                        \
    X(SIGN_DER_ECDSA, "sign__der_ecdsa", SIGN, SPECIAL, 0, NOTHING)                                                    \
    X(SIGN_SHORT, "sign__short", SIGN, SPECIAL, 0, NOTHING)                                                            \
    X(SIGN_EMPTY, "sign__empty", SIGN, SPECIAL, 0, NOTHING)                                                            \
    X(SIGN_LENGTH_LIES, "sign__length_lies", SIGN, SPECIAL, 0, NOTHING)
/* clang-format on */

enum faults_id {
#define FAULTS_ENUM(id, name, point, kind, value, aftermath) FAULT_##id,
    FAULTS_TABLE(FAULTS_ENUM)
#undef FAULTS_ENUM
        FAULTS_COUNT
};

/* Calls and broken rules that are counted besides the hits of each fault. */
enum faults_counter {
    COUNTER_INITIALIZE = FAULTS_COUNT,
    COUNTER_FINALIZE,
    COUNTER_OPEN_SESSION,
    COUNTER_CLOSE_SESSION,
    COUNTER_LOGIN,
    COUNTER_LOGIN_CONTEXT, /* CKU_CONTEXT_SPECIFIC */
    COUNTER_LOGIN_FAILED,  /* any C_Login that did not return CKR_OK */
    COUNTER_LOGOUT,
    COUNTER_FIND_OBJECTS_INIT,
    COUNTER_GENERATE, /* C_GenerateKeyPair */
    COUNTER_CREATE,   /* C_CreateObject */
    COUNTER_DESTROY,  /* C_DestroyObject */
    COUNTER_INIT_TOKEN,
    COUNTER_SIGN_INIT,
    COUNTER_SIGN,          /* asked for a signature, not for its length */
    COUNTER_WAIT,          /* C_WaitForSlotEvent */
    COUNTER_CONCURRENT,    /* two calls at once though initialize__cant_lock was answered */
    COUNTER_STALE_SESSION, /* C_SignInit or C_Sign on a session that is not open */
    COUNTERS_END
};

/* Map the counters, read the control file. Idempotent; before threads. */
void faults_open(void);

/*
 * True when this turn of the fault strikes: it is in the control file and its `after` and `times` allow it. Counts the
 * turn, and the hit. *ret_argument (may be NULL) is its argument, or the table's value. Any thread.
 */
bool faults_strikes(enum faults_id id, unsigned long *ret_argument);

/* As faults_strikes() without counting: for states that are asked about in many places. */
bool faults_is_on(enum faults_id id, unsigned long *ret_argument);

/*
 * Let every fault of the kinds SLOW, SERIAL, HANG, CRASH and RETURN at this point strike. True when one of kind RETURN
 * did: then *ret_rv is what the function must return, and *ret_aftermath what must happen to the wrapped module.
 */
bool faults_strike_at(enum faults_point point, CK_RV *ret_rv, enum faults_aftermath *ret_aftermath);

/* CK_TOKEN_INFO.flags that faults of kind FLAGS set now. */
CK_FLAGS faults_token_flags(void);

/* Wait here until the control file no longer names `id`. */
void faults_hang(enum faults_id id);

void faults_count(enum faults_counter counter);

#endif
