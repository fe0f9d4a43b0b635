/*
 * What the files of one token share: token.c (life), login.c (PIN and guard), token_find.c (keys), token_key.c
 * (signatures). Not for anybody else, save unit tests.
 */
#ifndef TOKENTLS_PKCS11_TOKEN_INTERNAL_H
#define TOKENTLS_PKCS11_TOKEN_INTERNAL_H

#include "pkcs11/guard.h"
#include "pkcs11/life.h"
#include "pkcs11/module.h"
#include "pkcs11/pin.h"
#include "pkcs11/plan.h"
#include "pkcs11/session.h"
#include "pkcs11/token.h"
#include "pkcs11/uri.h"

#include <pthread.h>
#include <stdatomic.h>

/* What a slot scan found, and what the token is bound to. */
struct token_slot {
    struct module *module;
    CK_SLOT_ID id;
    CK_SLOT_INFO slot;
    CK_TOKEN_INFO info;
};

/* Lock order: refresh_mutex, login_mutex, then state_mutex or the pool's; neither of the last two within the other. */
struct token {
    struct module *modules[MODULE_MAX]; /* one, unless every configured module is searched */
    size_t n_modules;
    struct uri *uri;
    struct pin_source *pin; /* borrowed; NULL: no login */
    char *state_directory;
    unsigned sessions;
    bool require_hardware;
    struct session_pool *pool;
    char *unlock_command; /* owned */
    char *identities;     /* owned; for prompts, NULL: not known */
    uint64_t pin_timeout_ms;
    bool daemon; /* outlives its user: messages say how to be asked again */
    token_waiting_fn *waiting;
    void *waiting_arg;
    atomic_bool held; /* locked by a person: no login, and nothing signed with one there is */
    atomic_bool idle; /* logged out by login_idle(): only a signature logs in again */

    pthread_mutex_t refresh_mutex; /* one scan at a time */
    pthread_mutex_t login_mutex;   /* one login at a time; guards what follows */
    bool login_refused;            /* by this process: an interactive source is not asked again */
    struct error refusal;
    bool accepted; /* by this process: the PIN of this version was right */
    char accepted_version[GUARD_VERSION_MAX];

    pthread_mutex_t state_mutex; /* guards the rest; no module call under it */
    struct life life;
    bool known; /* `slot.info` has been seen, so its serial number is binding */
    struct token_slot slot;
};

/* As token_open(), with a module that is given (its ownership passes on success). */
MUST_USE result token_open_module(const struct token_config *config, struct module *module, struct token **ret,
                                  struct error *err);

/* Copy what the token is bound to; false when it was never seen. */
MUST_USE bool token_slot(struct token *token, struct token_slot *ret);

/*
 * Find the token if it is not bound, take a session, and log in if there is a PIN source. On success the session must
 * go back with token_release(). `err` must not be NULL. After ERROR_TOKEN with a code of rv_is_loss() another try is
 * worth it.
 */
MUST_USE result token_acquire(struct token *token, struct session *ret, struct error *err);

/* Give a session back after an outcome: reusable after ERROR_NONE, lost with all others after rv_is_loss(err->code). */
void token_release(struct token *token, const struct session *session, result r, const struct error *err);

/* A key of a token; not changed after token_find_key() but for plans, handle and generation. */
struct token_key {
    struct token *token;
    enum key_type type;
    unsigned bits;
    EVP_PKEY *public_key;
    CK_ATTRIBUTE pattern[3]; /* class, label, id of the object; the values are owned */
    CK_ULONG n_pattern;
    struct plan plans[MECHANISM_SCHEMES];
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    char *uri;
    X509 *chain[TOKEN_CHAIN_MAX];
    size_t n_chain;
    bool sensitive, extractable, always_authenticate, never_extractable, local;

    pthread_mutex_t mutex; /* guards the two below, and changes of `plans` once the key has been found */
    CK_OBJECT_HANDLE handle;
    unsigned long generation; /* that `handle` belongs to; 0: none */
};

#endif
