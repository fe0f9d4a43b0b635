#include "pkcs11/token.h"

#include "base/text.h"
#include "pkcs11/login.h"
#include "pkcs11/rv.h"
#include "pkcs11/slot.h"
#include "pkcs11/token_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"absent", "present", "locked", "ready", "failed"};

const char *token_state_name(enum token_state state)
{
    return (size_t)state < sizeof(state_names) / sizeof(state_names[0]) ? state_names[state] : "unknown";
}

static void set_state(struct token *token, enum token_state state, const struct error *why)
{
    (void)pthread_mutex_lock(&token->state_mutex);
    (void)life_enter(&token->life, state, why);
    (void)pthread_mutex_unlock(&token->state_mutex);
}

enum token_state token_state(struct token *token)
{
    enum token_state state;

    (void)pthread_mutex_lock(&token->state_mutex);
    state = token->life.known ? token->life.state : TOKEN_ABSENT;
    (void)pthread_mutex_unlock(&token->state_mutex);
    return state;
}

bool token_slot(struct token *token, struct token_slot *ret)
{
    bool known;

    (void)pthread_mutex_lock(&token->state_mutex);
    known = token->known;
    *ret = token->slot;
    (void)pthread_mutex_unlock(&token->state_mutex);
    return known;
}

/* Every module p11-kit's configuration names, without those that do not start; one at least. */
static result load_all(struct token *token, struct error *err)
{
    char *names[MODULE_MAX];
    size_t n = 0;
    result r = module_configured_names(names, &n, err);

    if (r != ERROR_NONE)
        return r;
    if (n == 0)
        r = error_set(err, ERROR_CONFIG, "no module given, and p11-kit's configuration has none");
    for (size_t i = 0; i < n; i++) {
        r = module_load(names[i], &token->modules[token->n_modules], err);
        token->n_modules += r == ERROR_NONE;
        free(names[i]);
    }
    return token->n_modules > 0 ? ERROR_NONE : r;
}

static result load_modules(struct token *token, const char *module, struct error *err)
{
    result r;

    if (module == NULL)
        module = uri_module_path(token->uri);
    if (module == NULL)
        module = uri_module_name(token->uri);
    if (module == NULL)
        return load_all(token, err);
    r = module_load(module, &token->modules[0], err);
    token->n_modules = r == ERROR_NONE;
    return r;
}

static struct token *allocate(const struct token_config *config, struct error *err)
{
    struct token *token = calloc(1, sizeof(*token));

    if (token == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    token->pool = session_pool_new(err);
    token->state_directory = config->state_directory == NULL ? NULL : strdup(config->state_directory);
    token->unlock_command = strdup(config->unlock_command == NULL ? "tokentls unlock" : config->unlock_command);
    token->identities = config->identities == NULL ? NULL : strdup(config->identities);
    if (token->pool == NULL || token->unlock_command == NULL ||
        (config->state_directory != NULL && token->state_directory == NULL)) {
        session_pool_free(token->pool);
        free(token->unlock_command);
        free(token->identities);
        free(token->state_directory);
        free(token);
        return NULL;
    }
    (void)pthread_mutex_init(&token->refresh_mutex, NULL);
    (void)pthread_mutex_init(&token->login_mutex, NULL);
    (void)pthread_mutex_init(&token->state_mutex, NULL);
    token->pin = config->pin;
    token->pin_timeout_ms = config->pin_timeout_ms;
    token->daemon = config->daemon;
    token->waiting = config->waiting;
    token->waiting_arg = config->waiting_arg;
    token->sessions = config->sessions;
    token->require_hardware = config->require_hardware;
    if (config->writable)
        session_pool_set_writable(token->pool);
    return token;
}

static result open_token(const struct token_config *config, struct module *module, struct token **ret,
                         struct error *err)
{
    struct token *token;
    result r;

    if (config->pin != NULL && config->state_directory == NULL)
        return error_set(err, ERROR_CONFIG, "a PIN source needs a state directory for the login guard");
    token = allocate(config, err);
    if (token == NULL)
        return ERROR_INTERNAL;
    r = uri_parse(config->uri, false, &token->uri, err);
    if (r == ERROR_NONE && module == NULL)
        r = load_modules(token, config->module, err);
    if (r != ERROR_NONE) {
        token_free(token);
        return r;
    }
    if (module != NULL)
        token->modules[token->n_modules++] = module;
    *ret = token;
    return ERROR_NONE;
}

result token_open(const struct token_config *config, struct token **ret_token, struct error *err)
{
    return open_token(config, NULL, ret_token, err);
}

result token_open_module(const struct token_config *config, struct module *module, struct token **ret,
                         struct error *err)
{
    return open_token(config, module, ret, err);
}

/* Only what we have logged in is logged out: another owner of the module may rely on its own login. */
static void log_out(struct token *token)
{
    struct session session;

    if (!session_pool_logged_in(token->pool, session_pool_generation(token->pool)))
        return;
    if (session_checkout(token->pool, 0, &session, NULL) != ERROR_NONE)
        return;
    (void)MODULE_CALL(session.module, C_Logout, session.handle);
    session_checkin(token->pool, &session, true);
}

void token_free(struct token *token)
{
    if (token == NULL)
        return;
    log_out(token);
    session_pool_free(token->pool);
    for (size_t i = 0; i < token->n_modules; i++)
        module_release(token->modules[i]);
    (void)pthread_mutex_destroy(&token->refresh_mutex);
    (void)pthread_mutex_destroy(&token->login_mutex);
    (void)pthread_mutex_destroy(&token->state_mutex);
    uri_free(token->uri);
    free(token->unlock_command);
    free(token->identities);
    free(token->state_directory);
    free(token);
}

/* 0 is CK_EFFECTIVELY_INFINITE, the largest CK_ULONG is CK_UNAVAILABLE_INFORMATION (PKCS#11 v3.0 3.2). */
static unsigned session_limit(const struct token *token, const CK_TOKEN_INFO *info)
{
    CK_ULONG limit = info->ulMaxSessionCount;

    if (limit == 0 || limit > SESSION_MAX)
        limit = SESSION_MAX;
    if (token->sessions != 0 && token->sessions < limit)
        limit = token->sessions;
    return (unsigned)limit;
}

unsigned token_threads(struct token *token)
{
    struct token_slot slot;

    if (!token_slot(token, &slot) || module_is_serial(slot.module) || (slot.slot.flags & CKF_REMOVABLE_DEVICE) != 0)
        return 1;
    return session_limit(token, &slot.info);
}

static void bind(struct token *token, const struct token_slot *found)
{
    session_pool_bind(token->pool, found->module, found->id, session_limit(token, &found->info));
    (void)pthread_mutex_lock(&token->state_mutex);
    token->slot = *found;
    token->known = true;
    (void)pthread_mutex_unlock(&token->state_mutex);
}

/* The same token in the same slot: its flags may have changed. */
static void update(struct token *token, const struct token_slot *found)
{
    (void)pthread_mutex_lock(&token->state_mutex);
    token->slot = *found;
    (void)pthread_mutex_unlock(&token->state_mutex);
}

/* After a loss: end the generation, so that the next try starts anew. */
static void recover(struct token *token, result r, const struct error *err, unsigned long generation)
{
    struct token_slot slot;

    if (r != ERROR_TOKEN || !rv_is_loss(err->code))
        return;
    if (err->code == CKR_CRYPTOKI_NOT_INITIALIZED && token_slot(token, &slot))
        (void)module_reinitialize(slot.module); /* when it fails, the next call says so */
    (void)!session_pool_lost(token->pool, generation, rv_is_removal(err->code));
}

/*
 * Look at all slots and bind to the one that fits, keep it, or unbind. ERROR_TOKEN: absent (code
 * CKR_TOKEN_NOT_PRESENT), ambiguous, another token, or the module failed.
 */
static result scan(struct token *token, struct error *err)
{
    struct token_slot bound, found;
    struct slot_query query = {.modules = token->modules, .n_modules = token->n_modules, .uri = token->uri};
    bool was_bound;
    result r;

    (void)pthread_mutex_lock(&token->refresh_mutex);
    was_bound = session_pool_is_bound(token->pool);
    query.bound = token_slot(token, &bound) ? &bound : NULL;
    query.require_hardware = token->require_hardware;
    r = slot_find(&query, &found, err);
    if (r != ERROR_NONE)
        session_pool_unbind(token->pool);
    else if (!was_bound || found.module != bound.module || found.id != bound.id)
        bind(token, &found);
    else
        update(token, &found);
    (void)pthread_mutex_unlock(&token->refresh_mutex);
    return r;
}

static enum token_state state_after(struct token *token, result r, const struct error *err)
{
    struct token_slot slot;

    if (r == ERROR_PIN)
        return TOKEN_LOCKED;
    if (r == ERROR_TOKEN && err->code == CKR_TOKEN_NOT_PRESENT)
        return TOKEN_ABSENT;
    if (r != ERROR_NONE)
        return TOKEN_FAILED;
    if (token_slot(token, &slot) && (slot.info.flags & CKF_LOGIN_REQUIRED) == 0)
        return TOKEN_READY;
    return token->pin == NULL || atomic_load(&token->idle) ? TOKEN_PRESENT : TOKEN_READY;
}

/* What a caller of the token has seen of its state; a failure that may be of this moment only is left to the poll. */
static void note(struct token *token, result r, const struct error *err)
{
    enum token_state state = state_after(token, r, err);

    if (r == ERROR_NONE && state == TOKEN_READY && token_state(token) != TOKEN_READY)
        set_state(token, state, NULL);
    else if (state == TOKEN_LOCKED || state == TOKEN_ABSENT)
        set_state(token, state, err);
}

result token_acquire(struct token *token, struct session *ret, struct error *err)
{
    result r = ERROR_NONE;

    *ret = (struct session){0};
    if (!session_pool_is_bound(token->pool))
        r = scan(token, err);
    if (r == ERROR_NONE)
        r = session_checkout(token->pool, SESSION_WAIT_MS, ret, err);
    if (r != ERROR_NONE) {
        recover(token, r, err, ret->generation);
        note(token, r, err);
        return r;
    }
    r = login_user(token, ret, err);
    if (r != ERROR_NONE)
        token_release(token, ret, r, err);
    note(token, r, err);
    return r;
}

void token_release(struct token *token, const struct session *session, result r, const struct error *err)
{
    /* First: the handle of a lost session must not be closed, the module may have given its number out again. */
    recover(token, r, err, session->generation);
    session_checkin(token->pool, session, r == ERROR_NONE);
}

/*
 * Do the idle sessions still live, and is the user still logged in? A token may have been out and in between polls. A
 * login that is gone ends the generation here and now: a signature that met the same loss and reports it later must
 * not cost another login, which at a PIN pad is another prompt.
 */
static result check_session(struct token *token, struct error *err)
{
    CK_SESSION_INFO info;
    struct session session;
    bool was_logged_in;
    CK_RV rv;
    result r = session_checkout(token->pool, 0, &session, err);

    if (r != ERROR_NONE) {
        if (err->code == CKR_SESSION_COUNT) /* all in use: their users will notice a loss */
            return ERROR_NONE;
        recover(token, r, err, session.generation);
        return r;
    }
    was_logged_in = session_pool_logged_in(token->pool, session.generation);
    rv = MODULE_CALL(session.module, C_GetSessionInfo, session.handle, &info);
    if (rv == CKR_OK && was_logged_in && info.state != CKS_RO_USER_FUNCTIONS && info.state != CKS_RW_USER_FUNCTIONS)
        rv = CKR_USER_NOT_LOGGED_IN;
    if (rv != CKR_OK)
        r = rv_error(err, ERROR_TOKEN, rv, "C_GetSessionInfo");
    else if (!atomic_load(&token->idle) || pin_source_waits(token->pin))
        r = login_user(token, &session, err);
    token_release(token, &session, r, err);
    return r;
}

/* Why a token that is there and may be used is not logged in. */
static void explain_present(const struct token *token, struct error *err)
{
    if (token->pin == NULL) {
        (void)error_set(err, ERROR_PIN, "not logged in: no PIN source is set");
        return;
    }
    *err = (struct error)ERROR_INIT;
    (void)snprintf(err->text, sizeof(err->text), "logged out because it was idle; the next signature logs in again");
}

enum token_state token_refresh(struct token *token, struct error *why)
{
    struct error err = ERROR_INIT;
    enum token_state state;
    result r = ERROR_NONE;

    for (int attempt = 0; attempt < 2; attempt++) {
        err = (struct error)ERROR_INIT;
        r = scan(token, &err);
        if (r == ERROR_NONE)
            r = check_session(token, &err);
        if (r != ERROR_TOKEN || !rv_is_loss(err.code))
            break;
    }
    state = state_after(token, r, &err);
    if (state == TOKEN_PRESENT)
        explain_present(token, &err);
    if (state == TOKEN_READY)
        err = (struct error)ERROR_INIT;
    set_state(token, state, &err);
    if (why != NULL)
        *why = err;
    return state;
}

static void copy_text(char *out, size_t size, const unsigned char *text, size_t length)
{
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\0'))
        length--;
    (void)text_escape(text, length, out, size);
}

result token_info(struct token *token, struct token_info *ret, struct error *err)
{
    struct token_slot slot;
    struct uri_object object = {.token = &slot.info, .class = (CK_OBJECT_CLASS)-1};
    char *uri;

    if (!token_slot(token, &slot))
        return error_set_code(err, ERROR_TOKEN, CKR_TOKEN_NOT_PRESENT, "the token has not been seen yet");
    uri = uri_format(&object);
    if (uri == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    copy_text(ret->label, sizeof(ret->label), slot.info.label, sizeof(slot.info.label));
    copy_text(ret->serial, sizeof(ret->serial), slot.info.serialNumber, sizeof(slot.info.serialNumber));
    copy_text(ret->manufacturer, sizeof(ret->manufacturer), slot.info.manufacturerID, sizeof(slot.info.manufacturerID));
    copy_text(ret->model, sizeof(ret->model), slot.info.model, sizeof(slot.info.model));
    (void)snprintf(ret->module, sizeof(ret->module), "%s", module_name(slot.module));
    (void)snprintf(ret->uri, sizeof(ret->uri), "%s", uri);
    ret->flags = slot.info.flags;
    ret->slot_id = slot.id;
    free(uri);
    return ERROR_NONE;
}
