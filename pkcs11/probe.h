/* Finding out which schemes a key can make, without signing (design: C_GetMechanismInfo and C_SignInit). */
#ifndef TOKENTLS_PKCS11_PROBE_H
#define TOKENTLS_PKCS11_PROBE_H

#include "base/error.h"
#include "pkcs11/token_internal.h"

/*
 * Fill key->plans and key->schemes: for each scheme of the key's type the first rung that the token offers for signing
 * and that C_SignInit accepts with this key (`object`), in a session that is closed afterwards. `session` stays open
 * meanwhile, because closing a token's last session logs out; where there can be only one, C_GetMechanismInfo alone
 * decides, and probe_step_down() corrects it. ERROR_TOKEN: no scheme works, or the token is lost (with its CK_RV).
 */
MUST_USE result probe_key(struct token_key *key, const struct session *session, CK_SLOT_ID slot,
                          CK_OBJECT_HANDLE object, struct error *err);

/*
 * A signature by this plan was refused for its mechanism: take the next rung that the token offers, and remember it
 * with the key. False when there is none. Any thread.
 */
MUST_USE bool probe_step_down(struct token_key *key, const struct plan *refused, struct plan *ret);

#endif
