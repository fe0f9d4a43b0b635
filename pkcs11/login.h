/* Logging in: one at a time, under the PIN guard, and never twice with the same wrong PIN. */
#ifndef TOKENTLS_PKCS11_LOGIN_H
#define TOKENTLS_PKCS11_LOGIN_H

#include "base/error.h"
#include "base/secret.h"
#include "pkcs11/session.h"

#include <stdbool.h>

struct token;

/*
 * Make sure that the user is logged in: nothing happens without a PIN source, when the token needs no login, or when
 * somebody has logged in before. ERROR_PIN: refused by the token or withheld by the guard; ERROR_TOKEN with its CK_RV:
 * the session or the token is lost. Any thread; waits while another thread logs in.
 */
MUST_USE result login_user(struct token *token, const struct session *session, struct error *err);

/* C_Login(CKU_CONTEXT_SPECIFIC) for the operation that C_SignInit has begun in this session. Errors as above. */
MUST_USE result login_context(struct token *token, const struct session *session, struct error *err);

/*
 * A person allows logins again: ends login_lock(), and allows one more attempt of this token's PIN source if there is
 * one. ERROR_TOKEN: the token was never seen, so that there is no record to clear; ERROR_PIN: that cannot be recorded.
 */
MUST_USE result login_clear(struct token *token, struct error *err);

/*
 * A person gives the PIN itself: as login_clear(), and from here on the PIN source holds this one. `pin` is taken over,
 * also on failure. ERROR_CONFIG: the source has its PIN from elsewhere, or the token is logged in; ERROR_TOKEN,
 * ERROR_PIN as login_clear().
 */
MUST_USE result login_give(struct token *token, struct secret *pin, struct error *err);

/*
 * Nobody has signed for long: log out if logged in, and wipe a PIN that a person gave. Nothing but the next signature
 * (token_key_sign()) logs in again. True when that was done. No signature may be under way.
 */
bool login_idle(struct token *token);

/*
 * A person wants this token to be used no more: log out, and fail with ERROR_PIN whatever needs a session from here
 * on, until login_clear(); a PIN that a person gave is wiped. ERROR_TOKEN: C_Logout failed; the lock stands even so.
 * Any thread; waits while another one logs in.
 */
MUST_USE result login_lock(struct token *token, struct error *err);

#endif
