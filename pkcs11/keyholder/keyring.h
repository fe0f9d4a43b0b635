/*
 * The identities of one keyholder: what is configured, the keys that were found for them, and what is announced of
 * each. The token layer below is a table of functions (pkcs11/token.h in the program, a fake in tests).
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_KEYRING_H
#define TOKENTLS_PKCS11_KEYHOLDER_KEYRING_H

#include "base/buffer.h"
#include "base/error.h"
#include "base/secret.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/start.h"
#include "pkcs11/token.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is to be signed with which key. */
struct keyring_request {
    uint32_t key;
    uint16_t scheme;
    const uint8_t *message; /* borrowed */
    size_t length;
};

/* See the functions of the same names in pkcs11/token.h; `token` and `key` are what that layer made. */
struct keyring_token_ops {
    enum token_state (*refresh)(void *token, struct error *why);
    unsigned (*threads)(void *token);
    enum token_event (*poll_event)(void *token);                                 /* NULL: no events */
    result (*order)(void *token, enum keyholder_order order, struct error *err); /* login_clear(), login_lock() */
    result (*give)(void *token, struct secret *pin, struct error *err);          /* login_give() */
    bool (*idle)(void *token);                                                   /* login_idle() */
    result (*find_key)(void *token, const struct keyholder_identity_config *identity, void **ret_key,
                       struct error *err);
    void (*key_free)(void *key);
    void (*key_info)(const void *key, struct token_key_info *ret);
    result (*sign)(void *key, const struct keyring_request *request, struct token_signature *ret, struct error *err);
};

struct keyring_config {
    const struct keyring_token_ops *ops;
    void *token;
    enum keyholder_purpose purpose;
    const struct keyholder_identity_config *identities; /* borrowed, also its strings */
    size_t n_identities;                                /* 1 to PROTOCOL_IDENTITIES_MAX */
};

struct keyring;

/* Between two searches for a key that is missing. */
#define KEYRING_SEARCH_MIN_MS 1000
#define KEYRING_SEARCH_MAX_MS 30000

/* NULL with *err set: out of memory, no identity or too many, two of the same name, a name too long (ERROR_CONFIG). */
MUST_USE struct keyring *keyring_new(const struct keyring_config *config, struct error *err);

/* Frees the keys. NULL is allowed. */
void keyring_free(struct keyring *keyring);

/* Number of identities; any thread, as all functions that only read what never changes. */
size_t keyring_count(const struct keyring *keyring);

/*
 * One look at the token. Step one (blocks in the token layer; one thread at a time; reads and writes nothing that the
 * other functions look at): refresh, and search for keys that are missing: when the token's state has changed, and,
 * since a key or certificate may be written to a token that stays where it is, again after KEYRING_SEARCH_MIN_MS,
 * doubled each time up to KEYRING_SEARCH_MAX_MS. Step two (never blocks) makes the outcome visible to the others and
 * returns true when anything announced has changed.
 */
void keyring_look(struct keyring *keyring);
bool keyring_publish(struct keyring *keyring);

/*
 * Are there slot events to be asked for (the module is loaded)? By the looking thread. / token_poll_event(), by a
 * thread of its own, after that.
 */
bool keyring_has_events(const struct keyring *keyring);
enum token_event keyring_poll_event(const struct keyring *keyring);

/* Have the next look search for keys that are missing, whether or not it is time for that. Any thread. */
void keyring_demand(struct keyring *keyring);

/* Carry out CLEAR or LOCK. Blocks as keyring_look(), by the same thread, which looks afterwards. */
MUST_USE result keyring_order(struct keyring *keyring, enum keyholder_order order, struct error *err);

/* As keyring_order(): a person gives the PIN, which is taken over. */
MUST_USE result keyring_give(struct keyring *keyring, struct secret *pin, struct error *err);

/* As keyring_order(): nobody has signed for long. True when that logged out. No signature may be under way. */
bool keyring_idle(struct keyring *keyring);

/* Signing threads the token bears, as of the last look; at least 1. */
unsigned keyring_threads(const struct keyring *keyring);

/* Increases when what is announced of this identity changes; 0: nothing is known yet. */
uint64_t keyring_version(const struct keyring *keyring, size_t index);

/* Encode the IDENTITY message (protocol.h) / fill the STATE report of an identity whose version is not 0. */
void keyring_encode(const struct keyring *keyring, size_t index, struct buffer *out);
void keyring_event(const struct keyring *keyring, size_t index, struct keyholder_event *ret);

/* The URI it is configured with. */
const char *keyring_uri(const struct keyring *keyring, size_t index);

/* Name for logs; "?" for a number out of range. */
const char *keyring_name(const struct keyring *keyring, uint32_t key);

/*
 * May this be signed now? ERROR_PROTOCOL: no such key; ERROR_TOKEN, ERROR_PIN, ERROR_CONFIG: not usable now;
 * ERROR_VERIFY: not what the key is for (purpose.h).
 */
MUST_USE result keyring_check(const struct keyring *keyring, const struct keyring_request *request, struct error *err);

/* Why this key cannot be used now, or ERROR_NONE. Part of keyring_check(). */
MUST_USE result keyring_usable(const struct keyring *keyring, uint32_t key, struct error *err);

/* True when the last look has found the token ready. The looking thread only. */
bool keyring_was_ready(const struct keyring *keyring);

/* True when each signature of this key may wait for a person: it has no sign-timeout then. */
bool keyring_always_authenticates(const struct keyring *keyring, uint32_t key);

/* Sign with a key that keyring_check() has passed. Blocks; any thread, several at once. */
MUST_USE result keyring_sign(const struct keyring *keyring, const struct keyring_request *request,
                             struct token_signature *ret, struct error *err);

#endif
