/* Looking for a token in the slots of one or more modules. Any thread. */
#ifndef TOKENTLS_PKCS11_SLOT_H
#define TOKENTLS_PKCS11_SLOT_H

#include "pkcs11/token_internal.h"

/* Slots of a module that are looked at. */
#define SLOT_MAX 256

struct slot_query {
    struct module *const *modules;
    size_t n_modules;
    const struct uri *uri;
    const struct token_slot *bound; /* seen before: its serial number must fit too; NULL: any token of the URI */
    bool require_hardware;
};

/*
 * The slot that holds the one initialised token that fits. ERROR_TOKEN: absent (code CKR_TOKEN_NOT_PRESENT, the text
 * lists what is there, or says that a token with the bound one's label but another serial number is in its place);
 * more than one (lists them with complete URIs); not a hardware slot; or the CK_RV of a module that failed when nothing
 * else was found.
 */
MUST_USE result slot_find(const struct slot_query *query, struct token_slot *ret, struct error *err);

/* Slots of a module with a token present, at most SLOT_MAX; what C_GetSlotList said otherwise. */
CK_RV slot_list(struct module *module, CK_SLOT_ID slots[SLOT_MAX], CK_ULONG *ret_n);

#endif
