/*
 * Asking OCSP responders about the certificates of a path, without blocking: one request for each certificate at a
 * time whoever waits for it, answers kept until their nextUpdate, responders that fail left alone for a while. What is
 * kept, what is under way and how long it may take have limits. One loop's thread only.
 */
#ifndef TOKENTLS_TLS_INQUIRY_H
#define TOKENTLS_TLS_INQUIRY_H

#include "base/error.h"
#include "net/loop.h"
#include "tls/verify/chain.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inquiry;
struct inquiry_wait;
struct libctx;
struct trust;

/* Certificates of which something is known; the one not asked for the longest time makes room. */
#define INQUIRY_ENTRIES_MAX 2048
/* Bytes of all answers together. */
#define INQUIRY_BYTES_MAX ((size_t)8 << 20)
/* Requests under way at the same time, and for one handshake. */
#define INQUIRY_REQUESTS_MAX 32
#define INQUIRY_REQUESTS_EACH 4
/* An answer without nextUpdate is kept so long, in seconds. */
#define INQUIRY_KEEP_S 60
/* After a failure a responder is not asked about this certificate again for the first time, doubled up to the second.
 */
#define INQUIRY_BACKOFF_MS 1000
#define INQUIRY_BACKOFF_MAX_MS 300000

struct inquiry_config {
    struct loop *loop;
    struct libctx *libctx;
    enum chain_policy policy;
    const char *responder;    /* http URL that is asked; NULL: the one that each certificate names */
    const char *const *hosts; /* as in net/fetch.h: where responders named in certificates may be; NULL: see there */
    bool trust_names;         /* the certificates are our own: what they name counts as configured */
    bool nonce;               /* send one */
    uint64_t timeout_ms;      /* for one request */
    const char *dns_servers;  /* as in net/fetch.h */
    /* No answer that can be used; `text` says from whom about whom and why. */
    void (*problem)(void *arg, const char *text);
    void *arg;
};

/* The strings of the configuration are copied, hosts too. NULL with *err set: ERROR_INTERNAL. */
MUST_USE struct inquiry *inquiry_new(const struct inquiry_config *config, struct error *err);

/* Nobody may be waiting any more. NULL is allowed. */
void inquiry_free(struct inquiry *inquiry);

/*
 * The answers at hand about `leaf`, `untrusted` and the intermediates of `trust` (both may be NULL): their number,
 * and in `ret` (CHAIN_RESPONSES_MAX) the responses, valid until the loop's next turn. Without an inquiry: 0.
 */
size_t inquiry_collect(struct inquiry *inquiry, X509 *leaf, const STACK_OF(X509) * untrusted, const struct trust *trust,
                       struct chain_response *ret);

typedef void inquiry_done_fn(void *arg);

/*
 * Ask about the certificates of the verdict's path that it names as unanswered. `done` is called once, never from
 * within this call, when all that were asked have answered or failed; the wait is gone then. NULL when there is nobody
 * to ask: no responder is known, or it has failed a moment ago, or a limit is reached.
 */
MUST_USE struct inquiry_wait *inquiry_ask(struct inquiry *inquiry, const struct verdict *verdict, inquiry_done_fn *done,
                                          void *arg);

/* The same about one certificate, even if there is an answer that is still good. */
MUST_USE struct inquiry_wait *inquiry_ask_again(struct inquiry *inquiry, X509 *certificate, X509 *issuer,
                                                inquiry_done_fn *done, void *arg);

/* Stop waiting; `done` is not called. The requests go on for whoever else may come. NULL is allowed. */
void inquiry_cancel(struct inquiry_wait *wait);

#endif
