/* Keys, certificates and identities of one token as JSON; the tree is described in list.h. One thread. */
#ifndef TOKENTLS_PKCS11_LIST_OBJECT_H
#define TOKENTLS_PKCS11_LIST_OBJECT_H

#include "pkcs11/token_internal.h"

#include <cjson/cJSON.h>

/* Add "keys", "certificates" and "identities" of the token behind `session` to the JSON object `into`. ERROR_TOKEN. */
MUST_USE result list_object_all(struct token *token, const struct session *session, const struct uri *filter,
                                cJSON *into, struct error *err);

/* Add a text that comes from a token: valid UTF-8 stays, the rest is escaped; blanks at the end are dropped. */
void list_object_text(cJSON *into, const char *name, const void *text, size_t length);

#endif
