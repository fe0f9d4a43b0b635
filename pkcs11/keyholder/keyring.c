#include "pkcs11/keyholder/keyring.h"

#include "base/clock.h"
#include "pkcs11/keyholder/protocol.h"
#include "pkcs11/keyholder/purpose.h"

#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A key with what is announced of it; immutable once it is in the ring. */
struct found {
    void *key;
    struct token_key_info info;
    uint8_t *der[TOKEN_CHAIN_MAX]; /* owned, OPENSSL_free() */
    size_t der_length[TOKEN_CHAIN_MAX];
    size_t n_der;
};

/* State of an identity: as last looked at, or as published. */
struct condition {
    enum token_state state;
    struct error reason; /* ERROR_NONE when ready */
};

struct identity {
    const struct keyholder_identity_config *config;
    struct found *found;    /* published: read by all threads, set once */
    uint64_t version;       /* published */
    struct condition shown; /* published */

    struct found *seen;      /* the looking thread's own, until it is published */
    struct error find_error; /* the looking thread's own */
    struct condition now;    /* the looking thread's own, until it is published */
    uint64_t search_again;   /* the looking thread's own: CLOCK_MONOTONIC ms */
    uint64_t search_pause;   /* the looking thread's own: ms */
};

struct keyring {
    struct keyring_config config;
    struct identity *identities;
    unsigned threads;      /* published */
    unsigned threads_seen; /* the looking thread's own */
    atomic_bool demanded;  /* by any thread: search now */
    bool looked;           /* the looking thread's own */
    enum token_state last; /* the looking thread's own: the token's state at the last look */
};

static void found_free(const struct keyring *keyring, struct found *found)
{
    if (found == NULL)
        return;
    for (size_t i = 0; i < found->n_der; i++)
        OPENSSL_free(found->der[i]);
    keyring->config.ops->key_free(found->key);
    free(found);
}

void keyring_free(struct keyring *keyring)
{
    if (keyring == NULL)
        return;
    for (size_t i = 0; i < keyring->config.n_identities; i++) {
        struct identity *identity = &keyring->identities[i];

        if (identity->seen != identity->found)
            found_free(keyring, identity->seen);
        found_free(keyring, identity->found);
    }
    free(keyring->identities);
    free(keyring);
}

static result check_names(const struct keyring_config *config, struct error *err)
{
    if (config->n_identities == 0 || config->n_identities > PROTOCOL_IDENTITIES_MAX)
        return error_set(err, ERROR_CONFIG, "a keyholder serves 1 to %d identities, not %zu", PROTOCOL_IDENTITIES_MAX,
                         config->n_identities);
    for (size_t i = 0; i < config->n_identities; i++) {
        const char *name = config->identities[i].name;

        if (name[0] == '\0' || strlen(name) >= KEYHOLDER_NAME_MAX)
            return error_set(err, ERROR_CONFIG, "identity name \"%s\" is empty or longer than %d bytes", name,
                             KEYHOLDER_NAME_MAX - 1);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(name, config->identities[j].name) == 0)
                return error_set(err, ERROR_CONFIG, "identity \"%s\" is there twice", name);
        }
    }
    return ERROR_NONE;
}

struct keyring *keyring_new(const struct keyring_config *config, struct error *err)
{
    struct keyring *keyring;

    if (check_names(config, err) != ERROR_NONE)
        return NULL;
    keyring = calloc(1, sizeof(*keyring));
    if (keyring == NULL)
        goto err0;
    keyring->config = *config;
    keyring->threads = 1;
    keyring->threads_seen = 1;
    keyring->identities = calloc(config->n_identities, sizeof(keyring->identities[0]));
    if (keyring->identities == NULL)
        goto err1;
    for (size_t i = 0; i < config->n_identities; i++)
        keyring->identities[i].config = &config->identities[i];
    return keyring;
err1:
    free(keyring);
err0:
    (void)error_set(err, ERROR_INTERNAL, "out of memory for identities");
    return NULL;
}

size_t keyring_count(const struct keyring *keyring)
{
    return keyring->config.n_identities;
}

static result encode_chain(struct found *found, struct error *err)
{
    if (found->info.n_chain == 0 || found->info.n_chain > TOKEN_CHAIN_MAX)
        return error_set(err, ERROR_CONFIG, "a chain of %zu certificates, 1 to %d are possible", found->info.n_chain,
                         TOKEN_CHAIN_MAX);
    for (size_t i = 0; i < found->info.n_chain; i++) {
        int length = i2d_X509(found->info.chain[i], &found->der[i]);

        if (length <= 0)
            return error_set_openssl(err, ERROR_INTERNAL, "certificate %zu cannot be encoded", i);
        found->der_length[i] = (size_t)length;
        found->n_der = i + 1;
        if (length > TOKEN_CERTIFICATE_MAX)
            return error_set(err, ERROR_CONFIG, "certificate %zu has %d bytes, the limit is %d", i, length,
                             TOKEN_CERTIFICATE_MAX);
    }
    if (found->info.n_schemes == 0)
        return error_set(err, ERROR_TOKEN, "%s: the token has no mechanism for a TLS signature with this key",
                         found->info.uri);
    return ERROR_NONE;
}

static struct found *find(struct keyring *keyring, const struct keyholder_identity_config *config, struct error *err)
{
    const struct keyring_token_ops *ops = keyring->config.ops;
    struct found *found = calloc(1, sizeof(*found));

    if (found == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory for a key");
        return NULL;
    }
    if (ops->find_key(keyring->config.token, config, &found->key, err) != ERROR_NONE) {
        free(found);
        return NULL;
    }
    ops->key_info(found->key, &found->info);
    if (encode_chain(found, err) != ERROR_NONE) {
        found_free(keyring, found);
        return NULL;
    }
    return found;
}

/* An identity is as good as its token, and not usable before its key was found. */
static void judge(struct identity *identity, enum token_state state, const struct error *why)
{
    bool usable = state == TOKEN_READY || state == TOKEN_PRESENT;

    identity->now.state = state;
    identity->now.reason = *why;
    if (state == TOKEN_READY)
        identity->now.reason = (struct error)ERROR_INIT;
    if (usable && identity->seen == NULL) {
        identity->now.state = TOKEN_FAILED;
        identity->now.reason = identity->find_error;
    } else if (!usable && why->category == ERROR_NONE) {
        (void)error_set(&identity->now.reason, state == TOKEN_LOCKED ? ERROR_PIN : ERROR_TOKEN, "the token is %s",
                        token_state_name(state));
    }
}

/* The key is missing: is it time to search? `fresh`: something has changed, or somebody needs it. */
static bool is_due(struct identity *identity, bool fresh)
{
    uint64_t now = clock_monotonic_ms();

    if (fresh)
        identity->search_pause = KEYRING_SEARCH_MIN_MS;
    else if (now < identity->search_again)
        return false;
    else if (identity->search_pause < KEYRING_SEARCH_MAX_MS / 2)
        identity->search_pause *= 2;
    else
        identity->search_pause = KEYRING_SEARCH_MAX_MS;
    identity->search_again = now + identity->search_pause;
    return true;
}

bool keyring_has_events(const struct keyring *keyring)
{
    return keyring->config.ops->poll_event != NULL && keyring->looked && keyring->last != TOKEN_FAILED;
}

enum token_event keyring_poll_event(const struct keyring *keyring)
{
    return keyring->config.ops->poll_event(keyring->config.token);
}

void keyring_demand(struct keyring *keyring)
{
    atomic_store(&keyring->demanded, true);
}

void keyring_look(struct keyring *keyring)
{
    struct error why = ERROR_INIT;
    enum token_state state = keyring->config.ops->refresh(keyring->config.token, &why);
    bool usable = state == TOKEN_READY || state == TOKEN_PRESENT;
    bool fresh = !keyring->looked || state != keyring->last;

    fresh = (usable && atomic_exchange(&keyring->demanded, false)) || fresh;
    keyring->looked = true;
    keyring->last = state;
    keyring->threads_seen = keyring->config.ops->threads(keyring->config.token);
    for (size_t i = 0; i < keyring->config.n_identities; i++) {
        struct identity *identity = &keyring->identities[i];

        if (usable && identity->seen == NULL && is_due(identity, fresh)) {
            identity->find_error = (struct error)ERROR_INIT;
            identity->seen = find(keyring, identity->config, &identity->find_error);
        }
        judge(identity, state, &why);
    }
}

bool keyring_was_ready(const struct keyring *keyring)
{
    return keyring->looked && keyring->last == TOKEN_READY;
}

result keyring_order(struct keyring *keyring, enum keyholder_order order, struct error *err)
{
    return keyring->config.ops->order(keyring->config.token, order, err);
}

result keyring_give(struct keyring *keyring, struct secret *pin, struct error *err)
{
    return keyring->config.ops->give(keyring->config.token, pin, err);
}

bool keyring_idle(struct keyring *keyring)
{
    return keyring->config.ops->idle(keyring->config.token);
}

static bool same_condition(const struct condition *a, const struct condition *b)
{
    return a->state == b->state && a->reason.category == b->reason.category &&
           strcmp(a->reason.text, b->reason.text) == 0;
}

bool keyring_publish(struct keyring *keyring)
{
    bool changed = false;

    keyring->threads = keyring->threads_seen == 0 ? 1 : keyring->threads_seen;
    for (size_t i = 0; i < keyring->config.n_identities; i++) {
        struct identity *identity = &keyring->identities[i];

        if (identity->version > 0 && identity->seen == identity->found &&
            same_condition(&identity->shown, &identity->now))
            continue;
        if (identity->found == NULL)
            identity->found = identity->seen; /* written once: signing threads read it without a lock */
        identity->shown = identity->now;
        identity->version++;
        changed = true;
    }
    return changed;
}

unsigned keyring_threads(const struct keyring *keyring)
{
    return keyring->threads;
}

uint64_t keyring_version(const struct keyring *keyring, size_t index)
{
    return keyring->identities[index].version;
}

void keyring_encode(const struct keyring *keyring, size_t index, struct buffer *out)
{
    const struct identity *identity = &keyring->identities[index];
    struct keyholder_identity message = {
        .key = (uint32_t)index, .state = identity->shown.state, .category = identity->shown.reason.category};

    (void)snprintf(message.name, sizeof(message.name), "%s", identity->config->name);
    (void)snprintf(message.reason, sizeof(message.reason), "%s", identity->shown.reason.text);
    if (identity->found == NULL) {
        (void)snprintf(message.uri, sizeof(message.uri), "%s", identity->config->uri);
    } else {
        (void)snprintf(message.uri, sizeof(message.uri), "%s", identity->found->info.uri);
        memcpy(message.schemes, identity->found->info.schemes, sizeof(message.schemes));
        message.n_schemes = identity->found->info.n_schemes;
        message.n_chain = identity->found->n_der;
        for (size_t i = 0; i < message.n_chain; i++) {
            message.chain[i] = identity->found->der[i];
            message.chain_length[i] = identity->found->der_length[i];
        }
    }
    protocol_encode_identity(out, &message);
}

void keyring_event(const struct keyring *keyring, size_t index, struct keyholder_event *ret)
{
    const struct identity *identity = &keyring->identities[index];

    *ret = (struct keyholder_event){.kind = KEYHOLDER_EVENT_STATE,
                                    .state = (int)identity->shown.state,
                                    .category = identity->shown.reason.category};
    (void)snprintf(ret->identity, sizeof(ret->identity), "%s", identity->config->name);
    (void)snprintf(ret->text, sizeof(ret->text), "%s", identity->shown.reason.text);
}

const char *keyring_uri(const struct keyring *keyring, size_t index)
{
    return keyring->identities[index].config->uri;
}

const char *keyring_name(const struct keyring *keyring, uint32_t key)
{
    return key < keyring->config.n_identities ? keyring->identities[key].config->name : "?";
}

result keyring_usable(const struct keyring *keyring, uint32_t key, struct error *err)
{
    const struct identity *identity;

    if (key >= keyring->config.n_identities)
        return error_set(err, ERROR_PROTOCOL, "no key has the number %u", (unsigned)key);
    identity = &keyring->identities[key];
    if (identity->found != NULL && (identity->shown.state == TOKEN_READY || identity->shown.state == TOKEN_PRESENT))
        return ERROR_NONE;
    if (identity->version == 0)
        return error_set(err, ERROR_TOKEN, "the token has not been looked for yet");
    return error_set(err, identity->shown.reason.category, "%s", identity->shown.reason.text);
}

result keyring_check(const struct keyring *keyring, const struct keyring_request *request, struct error *err)
{
    result res = keyring_usable(keyring, request->key, err);
    const struct found *found;
    struct purpose_request purpose;

    if (res != ERROR_NONE)
        return res;
    found = keyring->identities[request->key].found;
    purpose = (struct purpose_request){.purpose = keyring->config.purpose,
                                       .scheme = request->scheme,
                                       .schemes = found->info.schemes,
                                       .n_schemes = found->info.n_schemes,
                                       .leaf = found->der[0],
                                       .leaf_length = found->der_length[0],
                                       .message = request->message,
                                       .length = request->length};
    return purpose_check(&purpose, err);
}

bool keyring_always_authenticates(const struct keyring *keyring, uint32_t key)
{
    return keyring->identities[key].found->info.always_authenticate;
}

result keyring_sign(const struct keyring *keyring, const struct keyring_request *request, struct token_signature *ret,
                    struct error *err)
{
    return keyring->config.ops->sign(keyring->identities[request->key].found->key, request, ret, err);
}
