#include "pkcs11/keyholder/backend.h"

#include "base/clock.h"
#include "base/text.h"
#include "pkcs11/login.h"
#include "pkcs11/pin.h"
#include "pkcs11/token.h"

#include <stdlib.h>

/* A module that could not be loaded is tried again this often: loading one may be slow and noisy. */
#define OPEN_AGAIN_MS 10000

/* Used by the looking thread only, apart from what token.h lets several threads do. */
struct backend {
    const struct keyholder_config *config;
    struct pin_source *pin;
    struct token *token; /* NULL until the module could be loaded */
    uint64_t open_again; /* CLOCK_MONOTONIC ms */
    struct error open_error;
    bool locked;      /* by a person */
    char *identities; /* owned; for prompts */
    token_waiting_fn *waiting;
    void *waiting_arg;
};

/* "finance, trading"; NULL when memory is exhausted: prompts do without. */
static char *join_names(const struct keyholder_config *config)
{
    char *names = NULL;

    for (size_t i = 0; i < config->n_identities; i++) {
        char *longer =
            text_format("%s%s%s", names == NULL ? "" : names, names == NULL ? "" : ", ", config->identities[i].name);

        free(names);
        names = longer;
        if (names == NULL)
            return NULL;
    }
    return names;
}

struct backend *backend_new(const struct keyholder_config *config, int pin_descriptor, struct error *err)
{
    struct backend *backend = calloc(1, sizeof(*backend));

    if (backend == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory for a token");
        return NULL;
    }
    backend->config = config;
    backend->locked = config->locked;
    /* what is wrong here is announced like all that keeps the token from being used */
    if (config->pin_source != NULL &&
        pin_source_new(config->pin_source, pin_descriptor, &backend->pin, &backend->open_error) != ERROR_NONE)
        backend->open_again = CLOCK_NEVER;
    if (backend->pin != NULL && config->pin_withdrawn)
        pin_source_withdraw(backend->pin);
    backend->identities = join_names(config);
    return backend;
}

void backend_on_waiting(struct backend *backend, token_waiting_fn *waiting, void *arg)
{
    backend->waiting = waiting;
    backend->waiting_arg = arg;
}

enum unlock_message_pin backend_takes_pin(const struct backend *backend)
{
    if (backend->pin == NULL || !pin_source_takes(backend->pin))
        return UNLOCK_MESSAGE_REFUSED;
    return pin_source_waits(backend->pin) ? UNLOCK_MESSAGE_WANTED : UNLOCK_MESSAGE_TAKEN;
}

void backend_free(struct backend *backend)
{
    if (backend == NULL)
        return;
    token_free(backend->token);
    pin_source_free(backend->pin);
    free(backend->identities);
    free(backend);
}

bool backend_is_interactive(const struct backend *backend)
{
    return backend->pin != NULL && pin_source_is_interactive(backend->pin);
}

static bool requires_hardware(const struct keyholder_config *config)
{
    for (size_t i = 0; i < config->n_identities; i++) {
        if (config->identities[i].require_hardware)
            return true;
    }
    return false;
}

/* All identities of a keyholder are on one token, so the first one's URI names it. */
static result open_token(struct backend *backend)
{
    const struct keyholder_config *config = backend->config;
    const struct token_config token = {.module = config->module,
                                       .uri = config->identities[0].uri,
                                       .pin = backend->pin,
                                       .state_directory = config->state_directory,
                                       .sessions = config->sessions,
                                       .require_hardware = requires_hardware(config),
                                       .unlock_command = config->unlock_command,
                                       .identities = backend->identities,
                                       .pin_timeout_ms = config->pin_timeout_ms,
                                       .daemon = config->unlock_socket,
                                       .waiting = backend->waiting,
                                       .waiting_arg = backend->waiting_arg};
    result res;

    if (clock_monotonic_ms() < backend->open_again)
        return backend->open_error.category;
    backend->open_error = (struct error)ERROR_INIT;
    res = token_open(&token, &backend->token, &backend->open_error);
    /* a wrong configuration does not get better by trying */
    backend->open_again = res == ERROR_CONFIG ? CLOCK_NEVER : clock_deadline(OPEN_AGAIN_MS);
    if (res == ERROR_NONE && backend->locked)
        (void)!login_lock(backend->token, NULL); /* nobody has logged in yet: nothing can fail */
    return res;
}

static enum token_state refresh(void *self, struct error *why)
{
    struct backend *backend = self;

    if (backend->token == NULL && open_token(backend) != ERROR_NONE) {
        *why = backend->open_error;
        return TOKEN_FAILED;
    }
    return token_refresh(backend->token, why);
}

static unsigned threads(void *self)
{
    struct backend *backend = self;

    return backend->token == NULL ? 1 : token_threads(backend->token);
}

static enum token_event poll_event(void *self)
{
    struct backend *backend = self;

    return token_poll_event(backend->token);
}

static result order(void *self, enum keyholder_order what, struct error *err)
{
    struct backend *backend = self;

    backend->locked = what == KEYHOLDER_ORDER_LOCK;
    if (backend->token == NULL)
        return ERROR_NONE;
    return backend->locked ? login_lock(backend->token, err) : login_clear(backend->token, err);
}

static result give(void *self, struct secret *pin, struct error *err)
{
    struct backend *backend = self;
    result res;

    if (backend->token == NULL) {
        secret_free(pin);
        return error_set(err, ERROR_TOKEN, "%s",
                         backend->open_error.text[0] == '\0' ? "the module is not loaded" : backend->open_error.text);
    }
    res = login_give(backend->token, pin, err);
    if (res == ERROR_NONE)
        backend->locked = false;
    return res;
}

static bool idle(void *self)
{
    struct backend *backend = self;

    return backend->token != NULL && login_idle(backend->token);
}

static result find_key(void *self, const struct keyholder_identity_config *identity, void **ret_key, struct error *err)
{
    struct backend *backend = self;
    struct token_key *key = NULL;
    result res = token_find_key(backend->token, identity->uri, identity->certificate, &key, err);

    if (res == ERROR_NONE)
        *ret_key = key;
    return res;
}

static void key_free(void *key)
{
    token_key_free(key);
}

static void key_info(const void *key, struct token_key_info *ret)
{
    token_key_info(key, ret);
}

static result sign(void *key, const struct keyring_request *request, struct token_signature *ret, struct error *err)
{
    return token_key_sign(key, request->scheme, request->message, request->length, ret, err);
}

const struct keyring_token_ops backend_ops = {.refresh = refresh,
                                              .threads = threads,
                                              .poll_event = poll_event,
                                              .order = order,
                                              .give = give,
                                              .idle = idle,
                                              .find_key = find_key,
                                              .key_free = key_free,
                                              .key_info = key_info,
                                              .sign = sign};
