#include "pkcs11/token_internal.h"

/*
 * Which slot it was is not asked: the look that follows takes all of them in. Any other answer than the two that the
 * standard has for CKF_DONT_BLOCK (PKCS#11 v3.0 5.5.4) means a module that has no events.
 */
enum token_event token_poll_event(struct token *token)
{
    enum token_event found = TOKEN_EVENT_UNSUPPORTED;

    for (size_t i = 0; i < token->n_modules; i++) {
        struct module *module = token->modules[i];
        CK_SLOT_ID slot = 0;
        CK_RV rv;

        if (module_is_serial(module))
            continue;
        rv = MODULE_CALL(module, C_WaitForSlotEvent, CKF_DONT_BLOCK, &slot, NULL);
        if (rv == CKR_OK)
            found = TOKEN_EVENT_SLOT;
        else if (rv == CKR_NO_EVENT && found == TOKEN_EVENT_UNSUPPORTED)
            found = TOKEN_EVENT_NONE;
    }
    return found;
}
