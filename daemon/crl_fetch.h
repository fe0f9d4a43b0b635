/*
 * Fetches CRLs over HTTP on the network process's main loop: those of the configuration at the start and from then on,
 * those that certificates name when a connection was in want of one. What comes is offered to the store
 * (daemon/crls.h), which believes signatures only. Main thread, save where it says otherwise.
 */
#ifndef TOKENTLS_DAEMON_CRL_FETCH_H
#define TOKENTLS_DAEMON_CRL_FETCH_H

#include "daemon/crl_wish.h"
#include "daemon/crls.h"

/* URLs of one service's configuration, and URLs out of certificates of all services together, at the most. */
#define CRL_FETCH_URLS_MAX 64
#define CRL_FETCH_POINTS_MAX 256
/* One fetch: all bytes of the CRL, and the time for it. */
#define CRL_FETCH_BYTES_MAX ((size_t)64 << 20)
#define CRL_FETCH_TIMEOUT_MS 60000
/* Fetches at the same time. */
#define CRL_FETCH_PARALLEL_MAX 4
/* After a failure: first and longest wait; it doubles in between. */
#define CRL_FETCH_RETRY_MS 10000
#define CRL_FETCH_RETRY_MAX_MS 600000

struct crl_fetch;

/* An answer that was taken, for the disk: `data` as crl_fetch_remember() wants it back. Borrowed. */
typedef void crl_fetch_save_fn(void *arg, const char *key, const uint8_t *data, size_t length);

struct crl_fetch_config {
    struct loop *loop;
    const struct settings *settings;
    struct crls *crls;
    crl_fetch_save_fn *save;
    void *arg;
};

/* NULL with *err set: memory. Nothing is fetched before crl_fetch_begin(). */
MUST_USE struct crl_fetch *crl_fetch_new(const struct crl_fetch_config *config, struct error *err);

/* An answer of an earlier process; before crl_fetch_begin(). It is verified like a new one. */
void crl_fetch_remember(struct crl_fetch *fetch, const uint8_t *data, size_t length);

/* Fetch what the configuration names, and again before it expires. */
void crl_fetch_begin(struct crl_fetch *fetch);

/* Fetch what certificates name, unless that was tried a short while ago. Takes the wish over. Any thread. */
void crl_fetch_wish(struct crl_fetch *fetch, struct crl_wish *wish);

/* Cancel everything and free. NULL is allowed. */
void crl_fetch_free(struct crl_fetch *fetch);

#endif
