/* Logging in: one at a time, under the PIN guard, and never twice with the same wrong PIN. */
#ifndef TOKENTLS_PKCS11_LOGIN_H
#define TOKENTLS_PKCS11_LOGIN_H

#include "base/error.h"
#include "pkcs11/session.h"

struct token;

/*
 * Make sure that the user is logged in: nothing happens without a PIN source, when the token needs no login, or when
 * somebody has logged in before. ERROR_PIN: refused by the token or withheld by the guard; ERROR_TOKEN with its CK_RV:
 * the session or the token is lost. Any thread; waits while another thread logs in.
 */
MUST_USE result login_user(struct token *token, const struct session *session, struct error *err);

/* C_Login(CKU_CONTEXT_SPECIFIC) for the operation that C_SignInit has begun in this session. Errors as above. */
MUST_USE result login_context(struct token *token, const struct session *session, struct error *err);

/* A person allows one more attempt of this token's PIN source. */
MUST_USE result login_clear(struct token *token, struct error *err);

#endif
