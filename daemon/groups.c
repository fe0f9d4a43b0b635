#include "daemon/groups.h"

#include "base/buffer.h"
#include "base/text.h"
#include "daemon/control_order.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 32
#define KEY_MAX_BYTES (1024 * 1024)

static int hex_value(char c)
{
    if (isdigit((unsigned char)c))
        return c - '0';
    return tolower((unsigned char)c) - 'a' + 10;
}

/* One attribute with its percent-encoding undone, so that two spellings of a token are one token. */
static void put_decoded(struct buffer *out, const char *part, size_t length)
{
    struct buffer text;

    buffer_init(&text, KEY_MAX_BYTES);
    for (size_t i = 0; i < length; i++) {
        if (part[i] == '%' && i + 2 < length && isxdigit((unsigned char)part[i + 1]) &&
            isxdigit((unsigned char)part[i + 2])) {
            buffer_put_u8(&text, (uint8_t)(hex_value(part[i + 1]) << 4 | hex_value(part[i + 2])));
            i += 2;
        } else {
            buffer_put_u8(&text, (uint8_t)part[i]);
        }
    }
    buffer_put_block(out, text.data, text.length);
    if (!buffer_ok(&text))
        out->failed = true;
    buffer_free(&text);
}

/* RFC 7512 2.3: these attributes name an object; all others a token, slot or module. */
static bool names_object(const char *part, size_t length)
{
    static const char *const names[] = {"object=", "id=", "type=", NULL};

    for (size_t i = 0; names[i] != NULL; i++) {
        if (length >= strlen(names[i]) && strncmp(part, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

struct part {
    const char *at;
    size_t length;
};

static int compare_parts(const void *a, const void *b)
{
    const struct part *one = a, *other = b;
    size_t shorter = one->length < other->length ? one->length : other->length;
    int order = memcmp(one->at, other->at, shorter);

    return order != 0 ? order : (one->length > other->length) - (one->length < other->length);
}

/* The token part of the URI (path attributes, sorted) and what its query says about the module. */
static void put_token(struct buffer *out, const char *uri)
{
    const char *path = text_after(uri, "pkcs11:");
    struct part parts[PARTS_MAX];
    size_t n = 0;

    if (path == NULL)
        path = uri;
    while (*path != '\0' && n < PARTS_MAX) {
        size_t length = strcspn(path, ";?&");
        bool query = path > uri && (path[-1] == '?' || path[-1] == '&');

        if (length > 0 && !names_object(path, length) && !(query && strncmp(path, "pin-source=", 11) == 0))
            parts[n++] = (struct part){.at = path, .length = length};
        path += length;
        path += *path != '\0';
    }
    qsort(parts, n, sizeof(parts[0]), compare_parts);
    buffer_put_u32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        put_decoded(out, parts[i].at, parts[i].length);
}

/* What must be equal for two identities to share a process; the whole as hex, NULL when memory is exhausted. */
static char *make_key(const struct settings_identity *identity, const char *uri)
{
    struct buffer key;
    char *out = NULL;

    buffer_init(&key, KEY_MAX_BYTES);
    buffer_put_text(&key, identity->module);
    buffer_put_text(&key, identity->pin_source);
    for (size_t i = 0; i < identity->module_environment.n; i++)
        buffer_put_text(&key, identity->module_environment.items[i]);
    put_token(&key, uri);
    buffer_put_u8(&key, identity->require_hardware);
    if (buffer_ok(&key))
        out = malloc(2 * key.length + 1);
    if (out != NULL)
        text_hex(key.data, key.length, 0, out, 2 * key.length + 1);
    buffer_free(&key);
    return out;
}

static bool is_used(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->n_services; i++) {
        for (size_t k = 0; k < settings->services[i]->identities.n; k++) {
            if (strcmp(settings->services[i]->identities.items[k], name) == 0)
                return true;
        }
    }
    return false;
}

static bool start_group(const struct settings *settings, enum keyholder_purpose purpose,
                        const struct settings_identity *identity, struct groups_one *group)
{
    static const char *const levels[] = {"error", "warning", "notice", "info", "debug"};

    group->config = (struct keyholder_config){
        .purpose = purpose,
        .module = identity->module,
        .module_environment = identity->module_environment.items,
        .pin_source = identity->pin_source,
        .state_directory = settings->global->state_directory,
        .sessions = (unsigned)identity->sessions,
        .sign_timeout_ms = identity->sign_timeout_ms,
        .idle_logout_ms = identity->idle_logout_ms,
        .pin_timeout_ms = identity->pin_timeout_ms,
        .unlock_socket = true,
        .log_level = levels[settings->log.level],
        .log_json = settings->log.format == 1,
        .log_priorities = getenv("JOURNAL_STREAM") != NULL,
    };
    group->identities = calloc(settings->n_identities, sizeof(*group->identities));
    group->members = calloc(settings->n_identities, sizeof(*group->members));
    group->config.identities = group->identities;
    return group->identities != NULL && group->members != NULL;
}

/* What to type when this group's token is withheld or locked; the text belongs to the group. */
static bool add_unlock_command(const struct settings *settings, struct groups_one *group)
{
    const char *socket = settings->control.socket;
    const char *name = group->identities[0].name;

    if (socket == NULL)
        group->unlock_command = text_format("tokentls unlock --state-directory %s", settings->global->state_directory);
    else if (strcmp(socket, CONTROL_ORDER_SOCKET) == 0)
        group->unlock_command = text_format("tokentls unlock %s", name);
    else
        group->unlock_command = text_format("tokentls unlock --socket %s %s", socket, name);
    group->config.unlock_command = group->unlock_command;
    return group->unlock_command != NULL;
}

/* An option that is about the token: all identities on it must have the same value. */
static void require_same(bool same, const char *option, const struct settings_identity *first,
                         const struct settings_identity *identity, struct config_errors *errors)
{
    if (!same)
        config_errors_add(errors, config_line(identity->section, option),
                          "%s of identity \"%s\" must be that of \"%s\", which is on the same token", option,
                          identity->section->title, first->section->title);
}

static void join_group(struct groups_one *group, const struct settings_identity *identity, const char *uri,
                       struct config_errors *errors)
{
    const struct settings_identity *first =
        group->config.n_identities > 0 && group->members != NULL ? group->members[0] : identity;
    const char *name = identity->section->title;

    if (group->members == NULL || group->identities == NULL)
        return; /* start_group() has said so */
    if (group->config.n_identities > 0 && group->members[group->config.n_identities - 1] == identity) {
        config_errors_add(errors, config_line(identity->section, "uri"),
                          "uri: %s names the same token as another one of the list", uri);
        return;
    }
    require_same(first->sign_timeout_ms == identity->sign_timeout_ms, "sign-timeout", first, identity, errors);
    require_same(first->sessions == identity->sessions, "sessions", first, identity, errors);
    require_same(first->idle_logout_ms == identity->idle_logout_ms, "idle-logout", first, identity, errors);
    require_same(first->pin_timeout_ms == identity->pin_timeout_ms, "pin-timeout", first, identity, errors);
    group->members[group->config.n_identities] = identity;
    group->identities[group->config.n_identities++] = (struct keyholder_identity_config){
        .name = name, .uri = uri, .certificate = identity->certificate, .require_hardware = identity->require_hardware};
}

/* The definition: everything a keyholder is told, and who it is. */
static bool define(struct groups_one *group, const char *key, const char *user)
{
    const struct keyholder_config *config = &group->config;
    struct buffer text;
    bool good = false;

    buffer_init(&text, KEY_MAX_BYTES);
    buffer_put_text(&text, key);
    buffer_put_text(&text, user);
    buffer_put_text(&text, config->state_directory);
    buffer_put_text(&text, config->log_level);
    buffer_put_u8(&text, config->log_json);
    buffer_put_u32(&text, config->sessions);
    buffer_put_u64(&text, config->sign_timeout_ms);
    buffer_put_u64(&text, config->idle_logout_ms);
    buffer_put_u64(&text, config->pin_timeout_ms);
    for (size_t i = 0; i < config->n_identities; i++) {
        buffer_put_text(&text, config->identities[i].name);
        buffer_put_text(&text, config->identities[i].uri);
        buffer_put_text(&text, config->identities[i].certificate);
        buffer_put_u8(&text, config->identities[i].require_hardware);
    }
    if (buffer_ok(&text))
        group->definition = malloc(2 * text.length + 1);
    if (group->definition != NULL) {
        text_hex(text.data, text.length, 0, group->definition, 2 * text.length + 1);
        good = true;
    }
    buffer_free(&text);
    return good;
}

static size_t find_key(char *const *keys, size_t n, const char *key)
{
    size_t i = 0;

    while (i < n && (keys[i] == NULL || strcmp(keys[i], key) != 0))
        i++;
    return i;
}

/* What is being made. */
struct making {
    const struct settings *settings;
    enum keyholder_purpose purpose;
    struct config_errors *errors;
    struct groups *groups;
    char **keys; /* owned; by number of the group */
};

/* Put one token of an identity into its group, which may be new. False: out of memory. */
static bool add_token(struct making *making, const struct settings_identity *identity, const char *uri)
{
    struct groups *groups = making->groups;
    char *key = make_key(identity, uri);
    size_t at;

    if (key == NULL)
        return false;
    at = find_key(making->keys, groups->n, key);
    if (at < groups->n) {
        free(key);
    } else {
        making->keys[groups->n++] = key;
        if (!start_group(making->settings, making->purpose, identity, &groups->items[at]))
            return false;
    }
    join_group(&groups->items[at], identity, uri, making->errors);
    return true;
}

static size_t count_tokens(const struct settings *settings)
{
    size_t n = 0;

    for (size_t i = 0; i < settings->n_identities; i++)
        n += settings->identities[i]->uris.n;
    return n;
}

result groups_make(const struct settings *settings, enum keyholder_purpose purpose, struct config_errors *errors,
                   struct groups *ret)
{
    size_t n_tokens = count_tokens(settings);
    char **keys = calloc(n_tokens + 1, sizeof(*keys));
    struct making making = {settings, purpose, errors, ret, keys};
    result r = ERROR_INTERNAL;

    ret->n = 0;
    ret->items = calloc(n_tokens + 1, sizeof(*ret->items));
    if (keys == NULL || ret->items == NULL)
        goto err0;
    for (size_t i = 0; i < settings->n_identities; i++) {
        const struct settings_identity *identity = settings->identities[i];

        for (size_t k = 0; k < identity->uris.n && is_used(settings, identity->section->title); k++) {
            if (!add_token(&making, identity, identity->uris.items[k]))
                goto err0;
        }
    }
    r = ERROR_NONE;
    for (size_t i = 0; i < ret->n && r == ERROR_NONE; i++)
        r = keys[i] != NULL && add_unlock_command(settings, &ret->items[i]) &&
                    define(&ret->items[i], keys[i], settings->global->keyholder_user)
                ? ERROR_NONE
                : ERROR_INTERNAL;
err0:
    for (size_t i = 0; keys != NULL && keys[i] != NULL; i++)
        free(keys[i]);
    free(keys);
    return r;
}

size_t groups_find(const struct groups *groups, const char *identity)
{
    return groups_next(groups, identity, 0);
}

size_t groups_next(const struct groups *groups, const char *identity, size_t from)
{
    for (size_t i = from; i < groups->n; i++) {
        for (size_t k = 0; k < groups->items[i].config.n_identities; k++) {
            if (strcmp(groups->items[i].identities[k].name, identity) == 0)
                return i;
        }
    }
    return groups->n;
}

void groups_free(struct groups *groups)
{
    if (groups == NULL)
        return;
    for (size_t i = 0; i < groups->n; i++) {
        free(groups->items[i].definition);
        free(groups->items[i].unlock_command);
        free(groups->items[i].identities);
        free(groups->items[i].members);
    }
    free(groups->items);
    *groups = (struct groups){0};
}
