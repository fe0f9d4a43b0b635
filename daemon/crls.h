/*
 * The CRLs of all services in the network process. What comes (files the supervisor passes, answers of distribution
 * points) is decoded and checked by a thread of its own, so that handshakes go on; its result is an immutable snapshot
 * that all workers share. Main thread only, save where it says otherwise.
 */
#ifndef TOKENTLS_DAEMON_CRLS_H
#define TOKENTLS_DAEMON_CRLS_H

#include "daemon/settings.h"
#include "net/loop.h"
#include "tls/verify/crl.h"
#include "tls/verify/crl_store.h"

/* CRLs of one service that are listed for people at the most. */
#define CRLS_ROWS_MAX 64
/* Bytes that may wait to be decoded. */
#define CRLS_WAITING_MAX ((size_t)1 << 30)

struct crls;

struct crls_publication;
struct worker;

/* A worker's part of a publication: what it is told by. */
struct crls_slot {
    struct crls_publication *publication;
    struct worker *worker;
};

/* A new snapshot on its way to the workers. */
struct crls_publication {
    size_t service;
    struct crl_snapshot *snapshot; /* borrowed; workers take references of their own */
    const struct crl_store_row *rows;
    size_t n_rows;                                /* CRLS_ROWS_MAX at the most */
    size_t n_crls;                                /* all of them */
    struct crls_slot slots[SETTINGS_WORKERS_MAX]; /* by number of the worker */
};

/*
 * Hand the snapshot to every worker, each of which calls crls_applied() when it uses it. `n_workers` of crls_config are
 * waited for.
 */
typedef void crls_publish_fn(void *arg, struct crls_publication *publication);

struct crls_config {
    const struct settings *settings;
    struct loop *loop;
    bool client; /* the agent: a service without a trust file has the system's */
    unsigned n_workers;
    crls_publish_fn *publish;
    void *arg;
};

/*
 * How an offer ended, on the main thread. err NULL: it was taken, or was there already; next_update is the earliest of
 * its CRLs (UNIX seconds; 0: none). Else why it was refused.
 */
typedef void crls_outcome_fn(void *arg, int64_t next_update, const struct error *err);

/* An answer of a distribution point. */
struct crls_offer {
    size_t service;
    const char *source; /* its URL; copied */
    const uint8_t *data;
    size_t length;            /* bytes; copied */
    bool untrusted;           /* as in crl_store_input */
    const uint8_t *issuers;   /* DER certificates, one after the other, as in crl_store_input; copied; NULL: none */
    size_t issuers_length;    /* bytes */
    crls_outcome_fn *outcome; /* NULL: none */
    void *arg;
};

/* Trust and stores of every service; no thread yet. NULL with *err set (FILE:LINE in front). */
MUST_USE struct crls *crls_new(const struct crls_config *config, struct error *err);

/* Load the files of every service. Blocks; before anything is offered. Errors have FILE:LINE in front. */
MUST_USE result crls_load(struct crls *crls, struct error *err);

/* The snapshot of a service as crls_load() has made it; borrowed; NULL: the service has no source of CRLs. */
struct crl_snapshot *crls_first(const struct crls *crls, size_t service);

/*
 * The rows of a service as crls_load() and crls_take_cached() have left it, `max` at the most; returns how many there
 * are in all. Before anything else is offered.
 */
size_t crls_rows(const struct crls *crls, size_t service, struct crl_store_row *out, size_t max);

/* Have a file decoded that has changed: `fd` is read to its end and stays the caller's. Problems are logged. */
void crls_take_file(struct crls *crls, size_t service, const char *path, int fd);

/* Have an answer decoded. ERROR_INTERNAL: memory, or too much waits already; `outcome` is not called then. */
MUST_USE result crls_take(struct crls *crls, const struct crls_offer *offer, struct error *err);

/*
 * At the start, after crls_load(): as crls_take() with `untrusted`, at once; a refusal is logged, and nothing is when
 * it cannot be read. True when it is in the snapshot now; its earliest nextUpdate goes to *ret_next_update.
 */
MUST_USE bool crls_take_cached(struct crls *crls, const struct crls_offer *offer, int64_t *ret_next_update);

/* A worker uses the snapshot of this publication. Any thread. The last one logs what was loaded. */
void crls_applied(const struct crls_publication *publication);

/* After the workers have ended: stop the thread (waits for what it is decoding) and free. NULL is allowed. */
void crls_free(struct crls *crls);

#endif
