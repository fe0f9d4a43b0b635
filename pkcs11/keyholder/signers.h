/*
 * The threads of a keyholder that call into the token layer: signing threads, and the one that looks for the token. A
 * token that bears one thread only is looked at between signatures. Internal to server.c and signers.c.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_SIGNERS_H
#define TOKENTLS_PKCS11_KEYHOLDER_SIGNERS_H

#include "base/error.h"
#include "base/secret.h"
#include "pkcs11/keyholder/link.h"
#include "pkcs11/keyholder/queue.h"
#include "pkcs11/keyholder/server.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A signature that takes less is not announced: two messages, and two processes woken up, for what is over soon. */
#define SIGNERS_STARTED_MS 50

struct signer {
    struct signers *all;
    pthread_t thread;
    struct request *request; /* at work on it; NULL when idle */
    uint64_t since;          /* CLOCK_MONOTONIC ms: then it began with it */
    uint64_t limit;          /* CLOCK_MONOTONIC ms when it counts as hung; CLOCK_NEVER: never */
};

/* All of it is guarded by `lock`; the owner sets up the upper part. */
struct signers {
    pthread_mutex_t lock;
    struct keyring *keyring;
    struct queue *queue;
    uint64_t sign_timeout_ms;
    uint64_t look_timeout_ms, look_ready_timeout_ms;
    uint64_t poll_ms;
    int wake; /* eventfd of the reader: something is to be sent */

    pthread_cond_t work; /* for signing threads */
    pthread_cond_t turn; /* for the looking thread; on CLOCK_MONOTONIC, as the next */
    pthread_cond_t idle; /* for signers_join(): a thread has ended */
    size_t n_alive;      /* threads that have not ended */
    struct signer signers[SERVER_SIGNERS_MAX];
    size_t n_signers;    /* threads started */
    size_t n_running;    /* signatures under way */
    pthread_cond_t rest; /* for the watcher and whoever waits for its end; on CLOCK_MONOTONIC */
    pthread_t looker, watcher;
    bool watcher_started, watching;
    bool looker_started;
    bool looking;
    bool look_wanted;       /* at once, or as soon as a signature has ended */
    uint64_t look_may_take; /* ms; 0: no limit */
    uint64_t look_limit;
    uint64_t demand_again;              /* CLOCK_MONOTONIC ms: not before */
    enum keyholder_order order;         /* for the looking thread */
    uint64_t order_number, done_number; /* of the last order given; of the last that is over */
    struct error done_outcome;
    uint64_t idle_ms;             /* log out after so long without a signature; 0: never. The owner sets it */
    uint64_t last_use;            /* CLOCK_MONOTONIC ms */
    bool pausing;                 /* no signature may start: the token is being logged out */
    struct secret *given;         /* a PIN for the looking thread; owned */
    bool giving;                  /* that, or the looking thread is at work on one */
    bool given_done;              /* its outcome is there for the reader to take */
    struct error given_outcome;   /* of giving; whether it was right shows in the state */
    char waiting[ERROR_TEXT_MAX]; /* for a person; "": for none */
    uint64_t waits;               /* how often that has changed */
    bool stopping;
};

/* Start the looking thread, which starts signing threads as the token bears them. Call once. */
MUST_USE result signers_start(struct signers *signers, struct error *err);

/* As pthread_create(); the thread gets no signals, which are the main thread's business. */
int signers_start_thread(pthread_t *ret, void *(*function)(void *), void *arg);

/* A request was queued; better after the lock was left, since who wakes up wants it. */
void signers_wake(struct signers *signers);

/* With the lock held: send STARTED for what the token has been at work on for SIGNERS_STARTED_MS at `now`. */
void signers_announce(struct signers *signers, uint64_t now);

/* With the lock held: have the looking thread carry it out and look at once. */
void signers_order(struct signers *signers, enum keyholder_order order, uint64_t number);

/*
 * With the lock held: a connection needs a key that is not usable. Looks at once, also for keys that are missing, but
 * not twice within KEYHOLDER_LOOK_MS, so that nobody keeps the token busy by asking.
 */
void signers_demand(struct signers *signers);

/* With the lock held: have the looking thread take the PIN over and log in. False: another one is being tried. */
MUST_USE bool signers_give(struct signers *signers, struct secret *pin);

/* token_waiting_fn; `arg` is the struct signers. Nothing counts as hung while a person is waited for. */
void signers_waiting(void *arg, const char *text);

/* Ask all threads to end after what they do now. Without the lock. */
void signers_stop(struct signers *signers);

/* Wait for them until `deadline` (CLOCK_MONOTONIC ms); false when one has not ended. Without the lock. */
MUST_USE bool signers_join(struct signers *signers, uint64_t deadline);

/*
 * With the lock held: true when a call into the token layer takes longer than allowed at `now`; *ret then says which,
 * `name` and `size` get the identity ("" for a look).
 */
MUST_USE bool signers_hang(const struct signers *signers, uint64_t now, char *name, size_t size, struct error *ret);

#endif
