/* CK_RV at the border: names for messages, classes for decisions (PKCS#11 v3.0 5.1). Any thread. */
#ifndef TOKENTLS_PKCS11_RV_H
#define TOKENTLS_PKCS11_RV_H

#include "base/error.h"

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* "CKR_PIN_INCORRECT"; "CKR_VENDOR_DEFINED" and "CKR_UNKNOWN" for what has no name. A static string. */
const char *rv_name(CK_RV rv);

/* Record an error of `category` whose text ends in ": CKR_NAME (0x...)" and whose code is rv. Returns category. */
result rv_error(struct error *err, enum error_category category, CK_RV rv, const char *fmt, ...) PRINTF_LIKE(4, 5);

/*
 * True for results after which sessions, login and object handles are gone although the token may be fine: reopen, log
 * in, find again and retry once.
 */
bool rv_is_loss(CK_RV rv);

/* True for the part of rv_is_loss() that says that the token itself went away: look for its slot again. */
bool rv_is_removal(CK_RV rv);

/*
 * It refuses the mechanism, its parameters, or data of this form: another rung of the ladder may do. C_SignInit and
 * C_Sign only.
 */
bool rv_is_mechanism(CK_RV rv);

#endif
