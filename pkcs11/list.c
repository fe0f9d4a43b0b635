#include "pkcs11/list.h"

#include "base/text.h"
#include "pkcs11/list_object.h"
#include "pkcs11/rv.h"
#include "pkcs11/slot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct listing_run {
    const struct list_config *config;
    struct uri *uri; /* NULL: everything */
};

static void put_error(cJSON *into, result r, const struct error *err)
{
    list_object_text(into, "error", r == ERROR_NONE ? NULL : err->text, strlen(err->text));
}

static const char *pin_state(CK_FLAGS flags)
{
    if ((flags & CKF_USER_PIN_INITIALIZED) == 0)
        return "not-initialized";
    if ((flags & CKF_USER_PIN_LOCKED) != 0)
        return "locked";
    if ((flags & CKF_USER_PIN_FINAL_TRY) != 0)
        return "final-try";
    if ((flags & CKF_USER_PIN_COUNT_LOW) != 0)
        return "count-low";
    return (flags & CKF_USER_PIN_TO_BE_CHANGED) != 0 ? "to-be-changed" : "ok";
}

static void put_token(cJSON *into, const struct token_slot *slot, const char *uri)
{
    CK_FLAGS flags = slot->info.flags;

    list_object_text(into, "label", slot->info.label, sizeof(slot->info.label));
    list_object_text(into, "serial", slot->info.serialNumber, sizeof(slot->info.serialNumber));
    list_object_text(into, "manufacturer", slot->info.manufacturerID, sizeof(slot->info.manufacturerID));
    list_object_text(into, "model", slot->info.model, sizeof(slot->info.model));
    (void)cJSON_AddNumberToObject(into, "slot_id", (double)slot->id);
    (void)cJSON_AddStringToObject(into, "uri", uri);
    (void)cJSON_AddBoolToObject(into, "login_required", (flags & CKF_LOGIN_REQUIRED) != 0);
    (void)cJSON_AddBoolToObject(into, "protected_authentication_path",
                                (flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0);
    (void)cJSON_AddBoolToObject(into, "hardware", (slot->slot.flags & CKF_HW_SLOT) != 0);
    (void)cJSON_AddBoolToObject(into, "removable", (slot->slot.flags & CKF_REMOVABLE_DEVICE) != 0);
    (void)cJSON_AddBoolToObject(into, "write_protected", (flags & CKF_WRITE_PROTECTED) != 0);
    (void)cJSON_AddStringToObject(into, "pin", pin_state(flags));
}

/* Open the one token again by URI and slot: two tokens may have the same attributes. NULL with *err set on failure. */
static struct token *open_token(const struct listing_run *run, const struct token_slot *slot, const char *uri,
                                bool login, struct error *err)
{
    char *exact = text_format("%s;slot-id=%lu", uri, slot->id);
    struct token_config config = {.module = module_name(slot->module),
                                  .uri = exact,
                                  .pin = login ? run->config->pin : NULL,
                                  .state_directory = run->config->state_directory,
                                  .unlock_command = run->config->unlock_command};
    struct token *token = NULL;

    if (exact == NULL)
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
    else
        (void)!token_open(&config, &token, err);
    free(exact);
    return token;
}

static result list_objects(const struct listing_run *run, struct token *token, cJSON *into, struct error *err)
{
    struct session session;
    result r = token_acquire(token, &session, err);

    if (r != ERROR_NONE)
        return r;
    (void)cJSON_AddBoolToObject(into, "logged_in", session_pool_logged_in(token->pool, session.generation));
    r = list_object_all(token, &session, run->uri, into, err);
    token_release(token, &session, r, err);
    return r;
}

static void add_token(const struct listing_run *run, const struct token_slot *slot, cJSON *tokens)
{
    struct uri_object object = {.token = &slot->info, .class = (CK_OBJECT_CLASS)-1};
    struct error err = ERROR_INIT, ignored = ERROR_INIT;
    cJSON *into = cJSON_CreateObject();
    char *uri = uri_format(&object);
    struct token *token = NULL;
    bool login = run->config->pin != NULL;
    result r = uri == NULL ? error_set(&err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;

    if (r == ERROR_NONE) {
        put_token(into, slot, uri);
        token = open_token(run, slot, uri, login, &err);
        r = token == NULL ? err.category : list_objects(run, token, into, &err);
    }
    /* A refused login still leaves the public objects to be shown. */
    if (r == ERROR_PIN) {
        token_free(token);
        token = open_token(run, slot, uri, false, &ignored);
        if (token != NULL)
            (void)!list_objects(run, token, into, &ignored);
    }
    put_error(into, r, &err);
    token_free(token);
    free(uri);
    (void)cJSON_AddItemToArray(tokens, into);
}

static result add_tokens(const struct listing_run *run, struct module *module, const CK_INFO *library, cJSON *tokens,
                         struct error *err)
{
    CK_SLOT_ID slots[SLOT_MAX];
    CK_ULONG n = 0;
    CK_RV rv = slot_list(module, slots, &n);

    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "C_GetSlotList");
    for (CK_ULONG i = 0; i < n; i++) {
        struct token_slot slot = {.module = module, .id = slots[i]};

        if (MODULE_CALL(module, C_GetSlotInfo, slot.id, &slot.slot) != CKR_OK ||
            MODULE_CALL(module, C_GetTokenInfo, slot.id, &slot.info) != CKR_OK ||
            (slot.info.flags & CKF_TOKEN_INITIALIZED) == 0)
            continue;
        if (run->uri == NULL || (uri_match_module(run->uri, library) && uri_match_slot(run->uri, slot.id, &slot.slot) &&
                                 uri_match_token(run->uri, &slot.info)))
            add_token(run, &slot, tokens);
    }
    return ERROR_NONE;
}

static void add_module(const struct listing_run *run, const char *name, cJSON *modules)
{
    struct error err = ERROR_INIT;
    cJSON *into = cJSON_CreateObject(), *tokens;
    struct module *module = NULL;
    CK_INFO info = {0};
    char version[16];
    result r = module_load(name, &module, &err);

    (void)cJSON_AddStringToObject(into, "module", name);
    if (r == ERROR_NONE && MODULE_CALL(module, C_GetInfo, &info) == CKR_OK) {
        (void)snprintf(version, sizeof(version), "%u.%u", info.libraryVersion.major, info.libraryVersion.minor);
        list_object_text(into, "description", info.libraryDescription, sizeof(info.libraryDescription));
        list_object_text(into, "manufacturer", info.manufacturerID, sizeof(info.manufacturerID));
        (void)cJSON_AddStringToObject(into, "version", version);
    }
    tokens = cJSON_AddArrayToObject(into, "tokens");
    if (r == ERROR_NONE)
        r = add_tokens(run, module, &info, tokens, &err);
    put_error(into, r, &err);
    module_release(module);
    (void)cJSON_AddItemToArray(modules, into);
}

static result add_configured(const struct listing_run *run, cJSON *modules, struct error *err)
{
    char *names[MODULE_MAX];
    size_t n = 0;
    result r = module_configured_names(names, &n, err);

    for (size_t i = 0; r == ERROR_NONE && i < n; i++) {
        add_module(run, names[i], modules);
        free(names[i]);
    }
    return r;
}

static result run_list(const struct listing_run *run, cJSON *modules, struct error *err)
{
    const char *named = NULL;

    if (run->config->n_modules == 0 && run->uri != NULL)
        named = uri_module_path(run->uri) != NULL ? uri_module_path(run->uri) : uri_module_name(run->uri);
    if (named != NULL)
        add_module(run, named, modules);
    else if (run->config->n_modules == 0)
        return add_configured(run, modules, err);
    for (size_t i = 0; i < run->config->n_modules; i++)
        add_module(run, run->config->modules[i], modules);
    return ERROR_NONE;
}

result list_build(const struct list_config *config, cJSON **ret, struct error *err)
{
    struct listing_run run = {.config = config};
    cJSON *tree = cJSON_CreateObject();
    cJSON *modules = cJSON_AddArrayToObject(tree, "modules");
    result r = modules == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;

    if (r == ERROR_NONE && config->uri != NULL)
        r = uri_parse(config->uri, false, &run.uri, err);
    if (r == ERROR_NONE)
        r = run_list(&run, modules, err);
    uri_free(run.uri);
    if (r != ERROR_NONE) {
        cJSON_Delete(tree);
        return r;
    }
    *ret = tree;
    return ERROR_NONE;
}
