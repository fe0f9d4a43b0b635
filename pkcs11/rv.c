#include "pkcs11/rv.h"

#include <stdarg.h>
#include <stdio.h>

#define NAME(rv)                                                                                                       \
    {                                                                                                                  \
        rv, #rv                                                                                                        \
    }

static const struct {
    CK_RV rv;
    const char *name;
} names[] = {
    NAME(CKR_OK),
    NAME(CKR_CANCEL),
    NAME(CKR_HOST_MEMORY),
    NAME(CKR_SLOT_ID_INVALID),
    NAME(CKR_GENERAL_ERROR),
    NAME(CKR_FUNCTION_FAILED),
    NAME(CKR_ARGUMENTS_BAD),
    NAME(CKR_NO_EVENT),
    NAME(CKR_NEED_TO_CREATE_THREADS),
    NAME(CKR_CANT_LOCK),
    NAME(CKR_ATTRIBUTE_READ_ONLY),
    NAME(CKR_ATTRIBUTE_SENSITIVE),
    NAME(CKR_ATTRIBUTE_TYPE_INVALID),
    NAME(CKR_ATTRIBUTE_VALUE_INVALID),
    NAME(CKR_DATA_INVALID),
    NAME(CKR_DATA_LEN_RANGE),
    NAME(CKR_DEVICE_ERROR),
    NAME(CKR_DEVICE_MEMORY),
    NAME(CKR_DEVICE_REMOVED),
    NAME(CKR_ENCRYPTED_DATA_INVALID),
    NAME(CKR_ENCRYPTED_DATA_LEN_RANGE),
    NAME(CKR_FUNCTION_CANCELED),
    NAME(CKR_FUNCTION_NOT_PARALLEL),
    NAME(CKR_FUNCTION_NOT_SUPPORTED),
    NAME(CKR_KEY_HANDLE_INVALID),
    NAME(CKR_KEY_SIZE_RANGE),
    NAME(CKR_KEY_TYPE_INCONSISTENT),
    NAME(CKR_KEY_NOT_NEEDED),
    NAME(CKR_KEY_CHANGED),
    NAME(CKR_KEY_NEEDED),
    NAME(CKR_KEY_INDIGESTIBLE),
    NAME(CKR_KEY_FUNCTION_NOT_PERMITTED),
    NAME(CKR_KEY_NOT_WRAPPABLE),
    NAME(CKR_KEY_UNEXTRACTABLE),
    NAME(CKR_MECHANISM_INVALID),
    NAME(CKR_MECHANISM_PARAM_INVALID),
    NAME(CKR_OBJECT_HANDLE_INVALID),
    NAME(CKR_OPERATION_ACTIVE),
    NAME(CKR_OPERATION_NOT_INITIALIZED),
    NAME(CKR_PIN_INCORRECT),
    NAME(CKR_PIN_INVALID),
    NAME(CKR_PIN_LEN_RANGE),
    NAME(CKR_PIN_EXPIRED),
    NAME(CKR_PIN_LOCKED),
    NAME(CKR_SESSION_CLOSED),
    NAME(CKR_SESSION_COUNT),
    NAME(CKR_SESSION_HANDLE_INVALID),
    NAME(CKR_SESSION_PARALLEL_NOT_SUPPORTED),
    NAME(CKR_SESSION_READ_ONLY),
    NAME(CKR_SESSION_EXISTS),
    NAME(CKR_SESSION_READ_ONLY_EXISTS),
    NAME(CKR_SESSION_READ_WRITE_SO_EXISTS),
    NAME(CKR_SIGNATURE_INVALID),
    NAME(CKR_SIGNATURE_LEN_RANGE),
    NAME(CKR_TEMPLATE_INCOMPLETE),
    NAME(CKR_TEMPLATE_INCONSISTENT),
    NAME(CKR_TOKEN_NOT_PRESENT),
    NAME(CKR_TOKEN_NOT_RECOGNIZED),
    NAME(CKR_TOKEN_WRITE_PROTECTED),
    NAME(CKR_UNWRAPPING_KEY_HANDLE_INVALID),
    NAME(CKR_USER_ALREADY_LOGGED_IN),
    NAME(CKR_USER_NOT_LOGGED_IN),
    NAME(CKR_USER_PIN_NOT_INITIALIZED),
    NAME(CKR_USER_TYPE_INVALID),
    NAME(CKR_USER_ANOTHER_ALREADY_LOGGED_IN),
    NAME(CKR_USER_TOO_MANY_TYPES),
    NAME(CKR_DOMAIN_PARAMS_INVALID),
    NAME(CKR_BUFFER_TOO_SMALL),
    NAME(CKR_SAVED_STATE_INVALID),
    NAME(CKR_INFORMATION_SENSITIVE),
    NAME(CKR_STATE_UNSAVEABLE),
    NAME(CKR_CRYPTOKI_NOT_INITIALIZED),
    NAME(CKR_CRYPTOKI_ALREADY_INITIALIZED),
    NAME(CKR_MUTEX_BAD),
    NAME(CKR_MUTEX_NOT_LOCKED),
    NAME(CKR_FUNCTION_REJECTED),
    NAME(CKR_ACTION_PROHIBITED),
    NAME(CKR_UNWRAPPING_KEY_SIZE_RANGE),
    NAME(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT),
    NAME(CKR_WRAPPED_KEY_INVALID),
    NAME(CKR_WRAPPED_KEY_LEN_RANGE),
    NAME(CKR_WRAPPING_KEY_HANDLE_INVALID),
    NAME(CKR_WRAPPING_KEY_SIZE_RANGE),
    NAME(CKR_WRAPPING_KEY_TYPE_INCONSISTENT),
    NAME(CKR_RANDOM_SEED_NOT_SUPPORTED),
    NAME(CKR_RANDOM_NO_RNG),
    NAME(CKR_CURVE_NOT_SUPPORTED),
    NAME(CKR_NEW_PIN_MODE),
    NAME(CKR_NEXT_OTP),
    /* p11-kit's header does not have these, or with other numbers than the OASIS one. */
    {0x01a, "CKR_COPY_PROHIBITED"},
    {0x042, "CKR_AEAD_DECRYPT_FAILED"},
    {0x1b5, "CKR_EXCEEDED_MAX_ITERATIONS"},
    {0x1b6, "CKR_FIPS_SELF_TEST_FAILED"},
    {0x1b7, "CKR_LIBRARY_LOAD_FAILED"},
    {0x1b8, "CKR_PIN_TOO_WEAK"},
    {0x1b9, "CKR_PUBLIC_KEY_INVALID"},
    {0x201, "CKR_TOKEN_RESOURCE_EXCEEDED"},
    {0x202, "CKR_OPERATION_CANCEL_FAILED"},
    {0x203, "CKR_KEY_EXHAUSTED"},
};

const char *rv_name(CK_RV rv)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].rv == rv)
            return names[i].name;
    return (rv & CKR_VENDOR_DEFINED) != 0 ? "CKR_VENDOR_DEFINED" : "CKR_UNKNOWN";
}

result rv_error(struct error *err, enum error_category category, CK_RV rv, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return error_set_code(err, category, rv, "%s: %s (0x%lx)", text, rv_name(rv), rv);
}

bool rv_is_removal(CK_RV rv)
{
    switch (rv) {
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_TOKEN_NOT_RECOGNIZED:
    case CKR_DEVICE_REMOVED:
    case CKR_SLOT_ID_INVALID:
    case CKR_CRYPTOKI_NOT_INITIALIZED:
        return true;
    default:
        return false;
    }
}

bool rv_is_mechanism(CK_RV rv)
{
    switch (rv) {
    case CKR_MECHANISM_INVALID:
    case CKR_MECHANISM_PARAM_INVALID:
    case CKR_KEY_TYPE_INCONSISTENT:
    case CKR_KEY_FUNCTION_NOT_PERMITTED:
    case CKR_FUNCTION_NOT_SUPPORTED:
    case CKR_DATA_INVALID:
    case CKR_DATA_LEN_RANGE:
        return true;
    default:
        return false;
    }
}

bool rv_is_loss(CK_RV rv)
{
    switch (rv) {
    case CKR_USER_NOT_LOGGED_IN:
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SESSION_CLOSED:
    case CKR_KEY_HANDLE_INVALID:
    case CKR_OBJECT_HANDLE_INVALID:
        return true;
    default:
        return rv_is_removal(rv);
    }
}
