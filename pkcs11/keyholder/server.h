/*
 * The keyholder's work: one reader (the thread that calls server_run()) polls the supervisor's and the workers' sockets
 * into one queue, signing threads take from it, a thread of its own looks for the token. One lock guards all of it
 * and is never held while the token layer is called.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_SERVER_H
#define TOKENTLS_PKCS11_KEYHOLDER_SERVER_H

#include "base/error.h"
#include "pkcs11/keyholder/keyring.h"
#include "pkcs11/keyholder/unlock_message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVER_LINKS_MAX 64   /* workers */
#define SERVER_SIGNERS_MAX 8  /* signing threads */
#define SERVER_QUEUE_MAX 1024 /* requests waiting, of all workers */
#define SERVER_CREDIT 64      /* requests outstanding, of one worker */

struct server_config {
    struct keyring_config keyring;  /* borrowed */
    int control;                    /* the supervisor's socket; stays the caller's */
    uint64_t sign_timeout_ms;       /* from the start of a signature; 0: none */
    uint64_t look_timeout_ms;       /* of one look at the token, login included; 0: none (a person enters the PIN) */
    uint64_t look_ready_timeout_ms; /* the same when the look before has found the token ready */
    uint64_t poll_ms;               /* between two looks; > 0 */
    uint64_t idle_logout_ms;        /* 0: never */
    size_t queue_max;               /* 0: SERVER_QUEUE_MAX */
    uint32_t credit;                /* 0: SERVER_CREDIT */
};

struct server;

/* NULL with *err set: what keyring_new() refuses, or the system's limits. No thread is started yet. */
MUST_USE struct server *server_new(const struct server_config *config, struct error *err);

/*
 * Listen on a socket of our own in `folder` for a PIN that a person gives (unlock_socket.h); `pin` and `source` are
 * told callers. ERROR_IO, ERROR_CONFIG. Before server_run().
 */
MUST_USE result server_listen(struct server *server, const char *folder, enum unlock_message_pin pin,
                              const char *source, struct error *err);

/* token_waiting_fn; `arg` is a struct server. */
void server_waiting(void *arg, const char *text);

/*
 * Serve until the supervisor's socket ends or server_stop(): 0; until a call into the token layer has exceeded its
 * time-out: KEYHOLDER_EXIT_HUNG, after all requests were answered and HUNG was reported; 70 when threads cannot be
 * started or the supervisor breaks the protocol. Call once.
 */
MUST_USE int server_run(struct server *server);

/* Make server_run() return. Any thread; safe in a signal handler. */
void server_stop(struct server *server);

/*
 * Wait until all threads have ended, for at most `ms`. False: one is still inside the token layer, and the server must
 * not be freed. Call after server_run().
 */
MUST_USE bool server_join(struct server *server, uint64_t ms);

/* After server_join() was true (or without server_run()). NULL is allowed. */
void server_free(struct server *server);

#endif
