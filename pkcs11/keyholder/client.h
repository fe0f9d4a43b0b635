/*
 * The network process's side of the keyholder protocol (docs/keyholder-protocol.md): one client per worker and
 * keyholder, over one SOCK_SEQPACKET socket. No loop inside: the owner watches keyholder_client_fd() and calls
 * keyholder_client_receive() when it is readable. Owner's thread only; nothing blocks.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_CLIENT_H
#define TOKENTLS_PKCS11_KEYHOLDER_CLIENT_H

#include "base/error.h"
#include "pkcs11/mechanism.h"
#include "pkcs11/token.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keyholder_client;
struct sign_operation;

#define KEYHOLDER_MESSAGE_MAX (192 * 1024) /* bytes of one message; truncated ones are refused */
#define KEYHOLDER_SIGN_MAX (64 * 1024)     /* bytes of a message to be signed (TLS 1.2 transcript) */
#define KEYHOLDER_LOOK_MS 1000             /* between two looks that connections ask for */
#define KEYHOLDER_NAME_MAX 64              /* bytes of an identity's name, with the NUL */

/* What the keyholder says of one configured identity. Valid during the callback only: copy what is kept. */
struct keyholder_identity {
    char name[KEYHOLDER_NAME_MAX];
    uint32_t key;                 /* number to use in sign requests */
    enum token_state state;       /* signatures are possible in TOKEN_READY (and are tried in TOKEN_PRESENT) */
    char reason[ERROR_TEXT_MAX];  /* why it is not ready; empty when ready */
    enum error_category category; /* of that reason: ERROR_TOKEN, ERROR_PIN, ERROR_CONFIG; ERROR_NONE when ready */
    char uri[TOKEN_URI_MAX];
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    const uint8_t *chain[TOKEN_CHAIN_MAX]; /* DER, leaf first; n_chain is 0 while the key has never been seen */
    size_t chain_length[TOKEN_CHAIN_MAX];
    size_t n_chain;
};

struct keyholder_client_events {
    /* An identity was announced, or its state, certificate or schemes changed. */
    void (*identity)(void *arg, const struct keyholder_identity *identity);
    /* The keyholder is gone (crash, kill, protocol error). All operations have failed already. The client is to be
     * freed. */
    void (*gone)(void *arg, const struct error *reason);
};

/* Takes `fd` (SEQPACKET, non-blocking) over, on failure too. `events` must be static. NULL with *err set on failure. */
MUST_USE struct keyholder_client *keyholder_client_new(int fd, const struct keyholder_client_events *events, void *arg,
                                                       struct error *err);

/* Fails every operation in flight (its `done` is called), closes the socket. Not from within a callback. NULL is
 * allowed. */
void keyholder_client_free(struct keyholder_client *client);

/* The socket to watch; stays the client's. */
int keyholder_client_fd(const struct keyholder_client *client);

/* True while messages wait for the socket to become writable; then call keyholder_client_flush(). */
bool keyholder_client_wants_write(const struct keyholder_client *client);
void keyholder_client_flush(struct keyholder_client *client);

/* Read and dispatch all messages there are. Calls events->gone (and then touches nothing) when the socket has ended. */
void keyholder_client_receive(struct keyholder_client *client);

/* Added to a tunnel's number: nobody waits for this signature yet, so it is made when no other is asked for. */
#define KEYHOLDER_BACKGROUND 0x80000000U

struct sign_request {
    uint32_t key;                                              /* struct keyholder_identity.key */
    uint16_t scheme;                                           /* enum signature_scheme */
    uint32_t tunnel;                                           /* for fairness between tunnels; any number */
    uint64_t deadline;                                         /* CLOCK_MONOTONIC ms; not signed after that */
    const uint8_t *message;                                    /* copied */
    size_t length;                                             /* at most KEYHOLDER_SIGN_MAX */
    void (*done)(void *arg, struct sign_operation *operation); /* once, when it has ended, unless freed before */
    void *arg;
};

enum sign_state {
    SIGN_QUEUED,  /* here or in the keyholder, waiting */
    SIGN_STARTED, /* the token has been at work for a while; sign-timeout runs in the keyholder */
    SIGN_DONE,    /* a verified signature is there */
    SIGN_FAILED   /* see error */
};

struct sign_operation {
    enum sign_state state;
    const uint8_t *signature; /* SIGN_DONE: owned by the operation */
    size_t signature_length;
    const char *mechanism; /* "CKM_ECDSA"; owned by the operation */
    uint32_t sign_ms;      /* time on the token */
    uint32_t wait_ms;      /* the rest of the time from request to result: in queues and on the way */
    struct error error;    /* SIGN_FAILED */
};

/*
 * Start a signature. The operation is owned by the caller and must be freed with keyholder_client_release(). NULL with
 * *err set when the queue is full, the key is unknown or the message too long. `done` is never called from within.
 */
MUST_USE struct sign_operation *keyholder_client_sign(struct keyholder_client *client,
                                                      const struct sign_request *request, struct error *err);

/* Free an operation; if it has not ended, CANCEL is sent and it is not signed unless it has started. NULL is allowed.
 */
void keyholder_client_release(struct sign_operation *operation);

/*
 * A connection needs a key of this keyholder that is not usable: have the keyholder look now instead of at its next
 * poll. Sent once within KEYHOLDER_LOOK_MS at most; the outcome is announced as any change is.
 */
void keyholder_client_look(struct keyholder_client *client);

/* Operations not ended yet (queued here or in the keyholder). */
size_t keyholder_client_outstanding(const struct keyholder_client *client);

#endif
