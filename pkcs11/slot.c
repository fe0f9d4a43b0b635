#include "pkcs11/slot.h"

#include "pkcs11/listing.h"
#include "pkcs11/rv.h"

#include <stdlib.h>
#include <string.h>

struct scan {
    const struct slot_query *query;
    struct token_slot match;
    size_t n_matches;
    struct listing matches, others; /* URIs of tokens that fit, and of the rest */
    bool swapped;                   /* the URI fits, the bound serial number does not */
    struct token_slot swap;
    CK_RV failed; /* of a module, CKR_OK if none */
    struct module *failed_module;
};

CK_RV slot_list(struct module *module, CK_SLOT_ID slots[SLOT_MAX], CK_ULONG *ret_n)
{
    CK_ULONG n = 0;
    /* The first call, without a buffer, is where a module looks for new slots (PKCS#11 v3.0 5.5.1). */
    CK_RV rv = MODULE_CALL(module, C_GetSlotList, CK_TRUE, NULL, &n);

    if (rv != CKR_OK)
        return rv;
    n = SLOT_MAX;
    rv = MODULE_CALL(module, C_GetSlotList, CK_TRUE, slots, &n);
    if (rv == CKR_OK)
        *ret_n = n < SLOT_MAX ? n : SLOT_MAX;
    return rv;
}

static void list_token(struct listing *listing, const CK_TOKEN_INFO *info)
{
    struct uri_object object = {.token = info, .class = (CK_OBJECT_CLASS)-1};
    char *uri = uri_format(&object);

    listing_add(listing, uri);
    free(uri);
}

static bool same_token(const CK_TOKEN_INFO *a, const CK_TOKEN_INFO *b)
{
    return memcmp(a->serialNumber, b->serialNumber, sizeof(a->serialNumber)) == 0 &&
           memcmp(a->model, b->model, sizeof(a->model)) == 0 &&
           memcmp(a->manufacturerID, b->manufacturerID, sizeof(a->manufacturerID)) == 0;
}

static void look_at_slot(struct scan *scan, const CK_INFO *library, const struct token_slot *slot)
{
    const struct slot_query *query = scan->query;

    /* A blank token has no label and no serial number to speak of: nothing can be meant by it. */
    if ((slot->info.flags & CKF_TOKEN_INITIALIZED) == 0)
        return;
    if (!uri_match_module(query->uri, library) || !uri_match_slot(query->uri, slot->id, &slot->slot) ||
        !uri_match_token(query->uri, &slot->info)) {
        list_token(&scan->others, &slot->info);
        return;
    }
    if (query->bound != NULL && !same_token(&query->bound->info, &slot->info)) {
        scan->swapped = true;
        scan->swap = *slot;
        return;
    }
    list_token(&scan->matches, &slot->info);
    scan->match = *slot;
    scan->n_matches++;
}

static CK_RV look_at_module(struct scan *scan, struct module *module)
{
    CK_SLOT_ID slots[SLOT_MAX];
    CK_ULONG n = 0;
    CK_INFO library = {0};
    CK_RV rv = MODULE_CALL(module, C_GetInfo, &library);

    if (rv == CKR_OK)
        rv = slot_list(module, slots, &n);
    for (CK_ULONG i = 0; rv == CKR_OK && i < n; i++) {
        struct token_slot slot = {.module = module, .id = slots[i]};

        /* A token may leave between the calls, and one broken reader must not hide the others. */
        if (MODULE_CALL(module, C_GetSlotInfo, slot.id, &slot.slot) == CKR_OK &&
            MODULE_CALL(module, C_GetTokenInfo, slot.id, &slot.info) == CKR_OK)
            look_at_slot(scan, &library, &slot);
    }
    return rv;
}

static result nothing(struct scan *scan, struct error *err)
{
    const char *uri = uri_text(scan->query->uri);

    if (scan->swapped) {
        struct listing now = {0}, before = {0};

        list_token(&now, &scan->swap.info);
        list_token(&before, &scan->query->bound->info);
        return error_set_code(err, ERROR_TOKEN, CKR_TOKEN_NOT_PRESENT,
                              "another token with the same name is in its place: %.380s is there, but this identity is "
                              "bound to %.380s; put that one back, or restart to bind to the new one",
                              listing_text(&now), listing_text(&before));
    }
    if (scan->failed != CKR_OK)
        return rv_error(err, ERROR_TOKEN, scan->failed, "module %s", module_name(scan->failed_module));
    return error_set_code(err, ERROR_TOKEN, CKR_TOKEN_NOT_PRESENT, "no token fits %.200s; tokens present: %s", uri,
                          listing_text(&scan->others));
}

static result check_hardware(const struct slot_query *query, const struct token_slot *slot, struct error *err)
{
    if (!query->require_hardware || (slot->slot.flags & CKF_HW_SLOT) != 0)
        return ERROR_NONE;
    return error_set(err, ERROR_TOKEN, "the token is in a software slot, but hardware is required");
}

result slot_find(const struct slot_query *query, struct token_slot *ret, struct error *err)
{
    struct scan scan = {.query = query};
    result r;

    for (size_t i = 0; i < query->n_modules; i++) {
        CK_RV rv = look_at_module(&scan, query->modules[i]);

        if (rv == CKR_CRYPTOKI_NOT_INITIALIZED && module_reinitialize(query->modules[i]) == CKR_OK)
            rv = look_at_module(&scan, query->modules[i]);
        if (rv != CKR_OK) {
            scan.failed = rv;
            scan.failed_module = query->modules[i];
        }
    }
    if (scan.n_matches == 0)
        return nothing(&scan, err);
    if (scan.n_matches > 1)
        return error_set(err, ERROR_TOKEN, "more than one token fits %.200s: %s", uri_text(query->uri),
                         listing_text(&scan.matches));
    r = check_hardware(query, &scan.match, err);
    if (r == ERROR_NONE)
        *ret = scan.match;
    return r;
}
