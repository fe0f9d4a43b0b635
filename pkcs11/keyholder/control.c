#include "pkcs11/keyholder/control.h"

#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/protocol.h"
#include "pkcs11/keyholder/purpose.h"
#include "pkcs11/token.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL_VERSION 1
#define PATH_LENGTH_MAX 4096

/* Integers are kept exactly in a double up to here; time-outs are far below. */
#define NUMBER_MAX 9007199254740991.0

static bool add_text(cJSON *object, const char *key, const char *value)
{
    return value == NULL || cJSON_AddStringToObject(object, key, value) != NULL;
}

static bool add_number(cJSON *object, const char *key, uint64_t value)
{
    return cJSON_AddNumberToObject(object, key, (double)value) != NULL;
}

static bool add_bool(cJSON *object, const char *key, bool value)
{
    return cJSON_AddBoolToObject(object, key, value) != NULL;
}

static char *print_and_delete(cJSON *object, bool complete)
{
    char *text = complete ? cJSON_PrintUnformatted(object) : NULL;

    cJSON_Delete(object);
    return text;
}

static bool add_identities(cJSON *object, const struct keyholder_config *config)
{
    cJSON *list = cJSON_AddArrayToObject(object, "identities");

    for (size_t i = 0; list != NULL && i < config->n_identities; i++) {
        const struct keyholder_identity_config *identity = &config->identities[i];
        cJSON *entry = cJSON_CreateObject();

        if (entry == NULL || !cJSON_AddItemToArray(list, entry))
            return false;
        if (!add_text(entry, "name", identity->name) || !add_text(entry, "uri", identity->uri) ||
            !add_text(entry, "certificate", identity->certificate) ||
            !add_bool(entry, "require-hardware", identity->require_hardware))
            return false;
    }
    return list != NULL;
}

char *control_encode_config(const struct keyholder_config *config, int pin_descriptor)
{
    cJSON *object = cJSON_CreateObject();
    bool ok = add_text(object, "type", "config") && add_number(object, "version", CONTROL_VERSION) &&
              add_text(object, "purpose", purpose_name(config->purpose)) &&
              add_text(object, "module", config->module) && add_text(object, "pin-source", config->pin_source) &&
              (pin_descriptor < 0 || add_number(object, "pin-descriptor", (uint64_t)pin_descriptor)) &&
              add_text(object, "state-directory", config->state_directory) &&
              add_number(object, "sessions", config->sessions) &&
              add_number(object, "sign-timeout-ms", config->sign_timeout_ms) &&
              add_number(object, "poll-ms", config->poll_ms) && add_text(object, "log-level", config->log_level) &&
              add_bool(object, "log-json", config->log_json) &&
              add_bool(object, "log-priorities", config->log_priorities) &&
              add_bool(object, "allow-login", config->allow_login) && add_bool(object, "locked", config->locked) &&
              add_bool(object, "pin-withdrawn", config->pin_withdrawn) &&
              add_bool(object, "unlock-socket", config->unlock_socket) &&
              add_number(object, "idle-logout-ms", config->idle_logout_ms) &&
              add_number(object, "pin-timeout-ms", config->pin_timeout_ms) &&
              add_text(object, "unlock-command", config->unlock_command) && add_identities(object, config);

    return print_and_delete(object, ok);
}

char *control_encode_link(void)
{
    cJSON *object = cJSON_CreateObject();

    return print_and_delete(object, add_text(object, "type", "link"));
}

char *control_encode_order(enum keyholder_order order, uint64_t number)
{
    cJSON *object = cJSON_CreateObject();
    bool ok = add_text(object, "type", order == KEYHOLDER_ORDER_LOCK ? "lock" : "clear") &&
              add_number(object, "number", number);

    return print_and_delete(object, ok);
}

/* By enum keyholder_event_kind, up to GONE, which nobody sends. */
static const char *const event_names[] = {"state", "hung", "given", "waiting", "done"};

static bool find_kind(const char *name, enum keyholder_event_kind *ret)
{
    for (int kind = KEYHOLDER_EVENT_STATE; name != NULL && kind < KEYHOLDER_EVENT_GONE; kind++) {
        if (strcmp(name, event_names[kind]) == 0) {
            *ret = (enum keyholder_event_kind)kind;
            return true;
        }
    }
    return false;
}

char *control_encode_event(const struct keyholder_event *event)
{
    cJSON *object = cJSON_CreateObject();
    bool ok = add_text(object, "type", event_names[event->kind]) && add_number(object, "number", event->number) &&
              add_text(object, "identity", event->identity) &&
              add_text(object, "state", token_state_name((enum token_state)event->state)) &&
              add_text(object, "category", error_category_name(event->category)) &&
              add_text(object, "text", event->text);

    return print_and_delete(object, ok);
}

/* A member that is a string of at most `max` bytes; NULL when missing; *ok is false when it is something else. */
static const char *get_text(const cJSON *object, const char *key, size_t max, bool *ok)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (item == NULL)
        return NULL;
    if (!cJSON_IsString(item) || strlen(item->valuestring) > max) {
        *ok = false;
        return NULL;
    }
    return item->valuestring;
}

static uint64_t get_number(const cJSON *object, const char *key, double max, bool *ok)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (item == NULL)
        return 0;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max) ||
        floor(item->valuedouble) < item->valuedouble) {
        *ok = false;
        return 0;
    }
    return (uint64_t)item->valuedouble;
}

static bool get_bool(const cJSON *object, const char *key, bool *ok)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (item != NULL && !cJSON_IsBool(item))
        *ok = false;
    return item != NULL && cJSON_IsTrue(item);
}

static bool get_purpose(const cJSON *object, enum keyholder_purpose *ret)
{
    bool ok = true;
    const char *name = get_text(object, "purpose", KEYHOLDER_NAME_MAX, &ok);

    for (int p = KEYHOLDER_PURPOSE_CLIENT; name != NULL && p <= KEYHOLDER_PURPOSE_LIST; p++) {
        if (strcmp(name, purpose_name((enum keyholder_purpose)p)) == 0) {
            *ret = (enum keyholder_purpose)p;
            return true;
        }
    }
    return false;
}

static bool get_identities(const cJSON *object, struct control_config *ret)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "identities");
    int count = cJSON_GetArraySize(list);
    bool ok = cJSON_IsArray(list) && count <= PROTOCOL_IDENTITIES_MAX;

    if (!ok || count == 0)
        return ok;
    ret->identities = calloc((size_t)count, sizeof(ret->identities[0]));
    if (ret->identities == NULL)
        return false;
    for (int i = 0; i < count; i++) {
        const cJSON *entry = cJSON_GetArrayItem(list, i);
        struct keyholder_identity_config *identity = &ret->identities[i];

        identity->name = get_text(entry, "name", KEYHOLDER_NAME_MAX - 1, &ok);
        identity->uri = get_text(entry, "uri", TOKEN_URI_MAX - 1, &ok);
        identity->certificate = get_text(entry, "certificate", PATH_LENGTH_MAX, &ok);
        identity->require_hardware = get_bool(entry, "require-hardware", &ok);
        if (!ok || identity->name == NULL || identity->name[0] == '\0' || identity->uri == NULL)
            return false;
    }
    ret->config.identities = ret->identities;
    ret->config.n_identities = (size_t)count;
    return true;
}

static bool decode_config(cJSON *tree, struct control_config *ret)
{
    struct keyholder_config *config = &ret->config;
    bool ok = true;

    if (get_number(tree, "version", NUMBER_MAX, &ok) != CONTROL_VERSION || !get_purpose(tree, &config->purpose))
        return false;
    config->module = get_text(tree, "module", PATH_LENGTH_MAX, &ok);
    config->pin_source = get_text(tree, "pin-source", PATH_LENGTH_MAX, &ok);
    config->state_directory = get_text(tree, "state-directory", PATH_LENGTH_MAX, &ok);
    config->sessions = (unsigned)get_number(tree, "sessions", 1024, &ok);
    config->sign_timeout_ms = get_number(tree, "sign-timeout-ms", NUMBER_MAX, &ok);
    config->poll_ms = get_number(tree, "poll-ms", NUMBER_MAX, &ok);
    config->log_level = get_text(tree, "log-level", KEYHOLDER_NAME_MAX, &ok);
    config->log_json = get_bool(tree, "log-json", &ok);
    config->log_priorities = get_bool(tree, "log-priorities", &ok);
    config->allow_login = get_bool(tree, "allow-login", &ok);
    config->locked = get_bool(tree, "locked", &ok);
    config->pin_withdrawn = get_bool(tree, "pin-withdrawn", &ok);
    config->unlock_socket = get_bool(tree, "unlock-socket", &ok);
    config->idle_logout_ms = get_number(tree, "idle-logout-ms", NUMBER_MAX, &ok);
    config->pin_timeout_ms = get_number(tree, "pin-timeout-ms", NUMBER_MAX, &ok);
    config->unlock_command = get_text(tree, "unlock-command", 2 * PATH_LENGTH_MAX, &ok);
    ret->pin_descriptor = -1;
    if (cJSON_GetObjectItemCaseSensitive(tree, "pin-descriptor") != NULL)
        ret->pin_descriptor = (int)get_number(tree, "pin-descriptor", 1024, &ok);
    if (ret->pin_descriptor >= 0 && ret->pin_descriptor != CONTROL_PIN_DESCRIPTOR)
        return false;
    return ok && get_identities(tree, ret);
}

void control_config_free(struct control_config *config)
{
    if (config == NULL)
        return;
    free(config->identities);
    cJSON_Delete(config->tree);
    *config = (struct control_config){.pin_descriptor = -1};
}

result control_decode_request(const void *data, size_t length, enum control_request *ret,
                              struct control_config *ret_config, struct error *err)
{
    struct control_config config = {.pin_descriptor = -1};
    cJSON *tree = cJSON_ParseWithLength(data, length);
    bool ok = true;
    const char *type = get_text(tree, "type", KEYHOLDER_NAME_MAX, &ok);

    if (type != NULL && (strcmp(type, "clear") == 0 || strcmp(type, "lock") == 0)) {
        config.number = get_number(tree, "number", NUMBER_MAX, &ok);
        *ret = strcmp(type, "lock") == 0 ? CONTROL_LOCK : CONTROL_CLEAR;
        cJSON_Delete(tree);
        if (!ok || config.number == 0)
            return error_set(err, ERROR_PROTOCOL, "an order without a number");
        *ret_config = config;
        return ERROR_NONE;
    }
    if (type != NULL && strcmp(type, "link") == 0) {
        cJSON_Delete(tree);
        *ret = CONTROL_LINK;
        return ERROR_NONE;
    }
    config.tree = tree;
    if (type == NULL || strcmp(type, "config") != 0 || !decode_config(tree, &config)) {
        control_config_free(&config);
        return error_set(err, ERROR_PROTOCOL, "control message of %zu bytes is neither CONFIG nor LINK nor an order",
                         length);
    }
    *ret_config = config;
    *ret = CONTROL_CONFIG;
    return ERROR_NONE;
}

static bool find_state(const char *name, int *ret)
{
    for (int state = TOKEN_ABSENT; name != NULL && state <= TOKEN_FAILED; state++) {
        if (strcmp(name, token_state_name((enum token_state)state)) == 0) {
            *ret = state;
            return true;
        }
    }
    return false;
}

static bool find_category(const char *name, enum error_category *ret)
{
    for (int category = ERROR_NONE; name != NULL && category <= ERROR_USAGE; category++) {
        if (strcmp(name, error_category_name((enum error_category)category)) == 0) {
            *ret = (enum error_category)category;
            return true;
        }
    }
    return false;
}

result control_decode_event(const void *data, size_t length, struct keyholder_event *ret, struct error *err)
{
    cJSON *tree = cJSON_ParseWithLength(data, length);
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_STATE};
    bool ok = true;
    const char *type = get_text(tree, "type", KEYHOLDER_NAME_MAX, &ok);
    const char *identity = get_text(tree, "identity", sizeof(event.identity) - 1, &ok);
    const char *text = get_text(tree, "text", sizeof(event.text) - 1, &ok);

    ok = ok && find_kind(type, &event.kind);
    event.number = get_number(tree, "number", NUMBER_MAX, &ok);
    ok = ok && find_state(get_text(tree, "state", KEYHOLDER_NAME_MAX, &ok), &event.state) &&
         find_category(get_text(tree, "category", KEYHOLDER_NAME_MAX, &ok), &event.category);
    if (ok) {
        (void)snprintf(event.identity, sizeof(event.identity), "%s", identity == NULL ? "" : identity);
        (void)snprintf(event.text, sizeof(event.text), "%s", text == NULL ? "" : text);
        *ret = event;
    }
    cJSON_Delete(tree);
    return ok ? ERROR_NONE
              : error_set(err, ERROR_PROTOCOL, "control message of %zu bytes is no report of a keyholder", length);
}
