/*
 * One worker thread of the network process: a loop, an OpenSSL library context, a client per keyholder, and the
 * services with their listeners. Workers share nothing but counters and immutable snapshots. Everything but
 * worker_new(), worker_start(), worker_join() and worker_free() is for the worker's own thread.
 */
#ifndef TOKENTLS_DAEMON_WORKER_H
#define TOKENTLS_DAEMON_WORKER_H

#include "daemon/groups.h"
#include "daemon/program.h"
#include "net/listener.h"
#include "net/loop.h"

#include <openssl/x509.h>
#include <stdatomic.h>

struct crl_snapshot;
struct crls_slot;
struct identity;
struct libctx;
struct ticket_keys;
struct trust;
struct worker;

/*
 * Connections whose handshake is not done, in all workers together: what peers that say nothing can make us hold, at
 * about 80 KiB each.
 */
#define WORKER_HANDSHAKES_MAX 2048

/* What all workers know of one service. */
struct worker_shared_service {
    struct crl_snapshot *crls; /* NULL: none */
    int fds[LISTENER_SOCKETS_MAX];
    size_t n_fds;
    struct ticket_keys *ticket_keys; /* of its file; NULL: those of all services */
    atomic_uint connections;
    atomic_uint ahead;        /* connections to the other side that are ready for clients to come */
    atomic_ullong stale_crls; /* connections accepted on an expired CRL within crl-grace */
    struct meters *meters;    /* NULL: nothing is counted */
};

struct worker_shared {
    const struct program *program;
    const struct settings *settings;
    const struct groups *groups;
    struct worker_shared_service *services; /* by number in the settings */
    struct meters **identity_meters;        /* by number in the settings; NULL, or its items: nothing is counted */
    struct ticket_keys *ticket_keys;        /* of gateways without a file; NULL: none */
    unsigned generation;                    /* to count open connections under */
    atomic_uint handshakes;
    unsigned n_workers;
    atomic_uint n_deaf; /* workers that accept no more; the last one closes the listeners' descriptors */
    /* Called from a worker's thread. idle: draining, and its last connection has ended. */
    void (*idle)(void *arg, unsigned worker);
    void (*link_lost)(void *arg, unsigned worker, size_t group);
    void (*deaf)(void *arg); /* no worker accepts any more */
    /* A peer's path (leaf first), whose signatures are good, lacked a CRL. */
    void (*want_crls)(void *arg, size_t service, const STACK_OF(X509) * path);
    void *arg;
};

/* Make a worker with all contexts (reads trust and certificate files); no thread yet. NULL with *err set. */
MUST_USE struct worker *worker_new(struct worker_shared *shared, unsigned index, struct error *err);

/* Start its thread. */
MUST_USE result worker_start(struct worker *worker, struct error *err);

/* Orders, from the main thread; carried out in order on the worker's. ERROR_INTERNAL when memory is exhausted. */
MUST_USE result worker_post_link(struct worker *worker, size_t group, int fd, struct error *err); /* takes fd over */
MUST_USE result worker_post_go(struct worker *worker, struct error *err);    /* accept connections */
MUST_USE result worker_post_drain(struct worker *worker, struct error *err); /* accept no more; report idle */
MUST_USE result worker_post_abort(struct worker *worker, struct error *err); /* end every connection; report idle */

/*
 * Use the CRLs of the slot's publication (daemon/crls.h) from here on, and close what they revoke if the service says
 * so; then crls_applied(). The slot stays until then.
 */
MUST_USE result worker_post_crls(struct worker *worker, struct crls_slot *slot, struct error *err);

/* End the loop and the thread (if started), then free everything. NULL is allowed. */
void worker_free(struct worker *worker);

/* For services. */
struct loop *worker_loop(const struct worker *worker);
struct libctx *worker_libctx(const struct worker *worker);
const struct settings_service *worker_settings(const struct worker *worker, size_t index);
struct trust *worker_trust(const struct worker *worker, size_t index);       /* borrowed; NULL: none */
struct crl_snapshot *worker_crls(const struct worker *worker, size_t index); /* borrowed; NULL: none */

/* The worker's identities of a service in the order of its settings; `out` has room for settings->identities.n. */
void worker_identities(const struct worker *worker, size_t index, struct identity **out);

/* One more connection of a service was accepted on an expired CRL; how many that makes since the start. */
uint64_t worker_count_stale_crl(struct worker *worker, size_t index);
/* The meters of a service, and of an identity by its name; NULL: nothing is counted. */
struct meters *worker_meters(const struct worker *worker, size_t index);
struct meters *worker_identity_meters(const struct worker *worker, const char *name);
struct ticket_keys *worker_ticket_keys(const struct worker *worker, size_t index); /* borrowed; NULL: none */
unsigned worker_generation(const struct worker *worker);                           /* to count open connections under */

/* A service with crl-fetch: have the CRLs fetched that the certificates of this path name. */
void worker_want_crls(const struct worker *worker, size_t index, const STACK_OF(X509) * path);

/* This worker's part of `n` of something that a service has; those of all workers make `n`. */
uint64_t worker_share(const struct worker *worker, uint64_t n);

/* Of one service, in all workers together: connections to the other side that are ready for clients to come. */
atomic_uint *worker_ahead(const struct worker *worker, size_t index);

/* Handshakes of clients' connections that are under way, in all workers together. */
unsigned worker_handshakes(const struct worker *worker);

enum worker_admission { WORKER_ADMITTED, WORKER_CONNECTIONS_LIMIT, WORKER_HANDSHAKES_LIMIT };

/* Count a new connection of a service whose handshake begins. What was admitted must be ended with both calls below. */
MUST_USE enum worker_admission worker_admit(struct worker *worker, size_t index);
void worker_handshake_ended(struct worker *worker);
void worker_connection_ended(struct worker *worker, size_t index);

#endif
