/*
 * One PKCS#11 token and the keys of it that are in use: finding it by RFC 7512 URI, presence, login under the guard,
 * the session pool, and signing with recovery. The only code that calls a module. Used inside the keyholder process
 * (and by unit tests); thread-safe unless a function says otherwise. Blocks as long as the module blocks.
 */
#ifndef TOKENTLS_PKCS11_TOKEN_H
#define TOKENTLS_PKCS11_TOKEN_H

#include "base/error.h"
#include "pkcs11/mechanism.h"

#include <openssl/types.h>

struct token;
struct token_key;
struct pin_source; /* pkcs11/pin.h */

/* Limits on what a token can make us hold. */
#define TOKEN_URI_MAX 2048
#define TOKEN_CERTIFICATE_MAX 16384 /* bytes of DER */
#define TOKEN_CHAIN_MAX 10          /* certificates */

enum token_state {
    TOKEN_ABSENT,  /* no slot holds a token that fits the URI, or the one that was bound to */
    TOKEN_PRESENT, /* there, not logged in */
    TOKEN_LOCKED,  /* there, but login is withheld: wrong PIN before, try counter low, PIN locked or not given */
    TOKEN_READY,   /* logged in (or needs no login) */
    TOKEN_FAILED   /* the module or the token fails; the text says how */
};
const char *token_state_name(enum token_state state); /* "absent", "present", "locked", "ready", "failed" */

/*
 * A person is waited for (one escaped line that says what to do), or not any more (NULL). Called by the thread that
 * logs in, which may be any of those that use the token; two such waits never overlap.
 */
typedef void token_waiting_fn(void *arg, const char *text);

struct token_config {
    const char *module;     /* path or p11-kit module name; NULL: module-path/module-name of the URI, else every
                               module p11-kit's configuration names is searched */
    const char *uri;        /* RFC 7512; its token attributes select the token, its object attributes are ignored */
    struct pin_source *pin; /* borrowed; NULL: no login is tried */
    const char *state_directory; /* of the login guard; created if missing; must not be NULL when pin is set */
    unsigned sessions;           /* size of the session pool; 0: from ulMaxSessionCount, at most 8 */
    bool require_hardware;       /* a hardware slot, and keys made there that were never extractable */
    bool writable;               /* for provisioning: its sessions may change the token */
    const char *unlock_command;  /* what a person types to allow one more login; NULL: "tokentls unlock" */
    const char *identities;      /* whom the PIN is asked for, shown in prompts; NULL: not known */
    uint64_t pin_timeout_ms;     /* longest wait for a person; 0: the default of pkcs11/pin.h */
    bool daemon;                 /* messages say how to be asked once more */
    token_waiting_fn *waiting;   /* NULL: nobody is interested */
    void *waiting_arg;
};

/*
 * Load the module and remember what to look for; the token need not be there. ERROR_CONFIG for a URI or module name
 * that cannot be used, ERROR_TOKEN when the module cannot be loaded or initialised. *ret_token is owned by the caller.
 */
MUST_USE result token_open(const struct token_config *config, struct token **ret_token, struct error *err);

/* Log out, close sessions, finalise the module. All keys must have been freed. NULL is allowed. */
void token_free(struct token *token);

/* Signing threads this token bears: 1 for removable slots, CKR_CANT_LOCK modules, single-session tokens; else
 * min(session limit, 8). */
unsigned token_threads(struct token *token);

/*
 * Look whether the token is there (by polling the slot list; C_WaitForSlotEvent without blocking where it works) and
 * log in if a PIN source is set, the guard allows, and nobody has. Returns the state; `why` (may be NULL) gets the
 * reason when the state is not TOKEN_READY. Called at start and by the slot-polling thread.
 */
enum token_state token_refresh(struct token *token, struct error *why);

enum token_event {
    TOKEN_EVENT_NONE,
    TOKEN_EVENT_SLOT,       /* a token was put in or taken out somewhere: look */
    TOKEN_EVENT_UNSUPPORTED /* the module has no events, or bears one thread only: poll, and do not ask again */
};

/*
 * C_WaitForSlotEvent without blocking. A module that blocks all the same keeps the caller for ever: for a thread of its
 * own, which nothing waits for.
 */
enum token_event token_poll_event(struct token *token);

/* The state as last seen, without calling the module. */
enum token_state token_state(struct token *token);

/* What is shown of a token; strings are NUL-terminated, trailing blanks removed, escaped for printing. */
struct token_info {
    char label[128], serial[64], manufacturer[128], model[64], module[256];
    char uri[TOKEN_URI_MAX]; /* complete RFC 7512 URI of the token */
    unsigned long flags;     /* CK_TOKEN_INFO flags */
    unsigned long slot_id;
};
MUST_USE result token_info(struct token *token, struct token_info *ret, struct error *err);

/*
 * Find the one private key that `uri` names, with its certificate chain, and probe its mechanisms. Logs in if the key
 * cannot be seen otherwise. `certificate_file` (PEM or DER, leaf first, may hold the chain; NULL: the certificate is
 * found on the token by CKA_ID, and its issuers on the token and in no file).
 * ERROR_TOKEN: nothing or more than one matches (the text lists the candidates with complete URIs);
 * ERROR_PIN: login was needed and refused; ERROR_CONFIG: certificate file unusable, or it does not belong to the key.
 * *ret_key is owned by the caller (token_key_free); it survives removal and return of the token.
 */
MUST_USE result token_find_key(struct token *token, const char *uri, const char *certificate_file,
                               struct token_key **ret_key, struct error *err);

/* NULL is allowed. */
void token_key_free(struct token_key *key);

struct token_key_info {
    enum key_type type;
    unsigned bits;                       /* RSA modulus or curve size */
    uint16_t schemes[MECHANISM_SCHEMES]; /* usable ones, in order of preference */
    size_t n_schemes;
    const char *uri;    /* complete RFC 7512 URI, owned by the key */
    X509 *const *chain; /* leaf first; owned by the key; n_chain >= 1 */
    size_t n_chain;
    bool sensitive, extractable, always_authenticate;
    bool never_extractable, local; /* local: made on the token, not imported. False when the token does not say */
};
void token_key_info(const struct token_key *key, struct token_key_info *ret);

struct token_signature {
    uint8_t
        bytes[SIGNATURE_MAX]; /* ECDSA as DER Ecdsa-Sig-Value (RFC 3279 2.2.3), RSA and EdDSA raw: as TLS wants it */
    size_t length;
    const char *mechanism; /* static name such as "CKM_ECDSA" */
};

/*
 * Sign `message` (the whole of it; hashing is done here or on the token) with `scheme`: session checkout, login if
 * needed (guarded, single-flight), C_SignInit/C_Sign, context-specific login for CKA_ALWAYS_AUTHENTICATE, one retry
 * after session loss or re-insertion, the next rung of the ladder where the token refuses the mechanism after all
 * (remembered for the key), and verification with the public key before it is returned.
 * ERROR_TOKEN: absent, failed or wrong signature; ERROR_PIN: login refused or withheld. Each text names the CK_RV.
 * lint: six parameters, of which message and length are one.
 */
MUST_USE result token_key_sign(struct token_key *key, uint16_t scheme, const uint8_t *message, size_t length,
                               struct token_signature *ret, struct error *err);

#endif
