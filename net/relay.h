/*
 * Carries bytes both ways between two streams: bounded buffers, back-pressure ("stop reading"), half-close passed on
 * each way, idle time-out, truncation passed on as a reset. Loop thread only.
 */
#ifndef TOKENTLS_NET_RELAY_H
#define TOKENTLS_NET_RELAY_H

#include "net/loop.h"
#include "net/stream.h"

/*
 * Bytes moved at once, and kept per direction at the most: what the other side does not take. A direction that has
 * nothing to keep has no memory; until that is written, nothing more is read.
 */
#define RELAY_BUFFER_BYTES 65536

struct relay;

enum relay_end {
    RELAY_END_CLOSED,   /* both directions ended in order */
    RELAY_END_IDLE,     /* idle time-out */
    RELAY_END_FAILED_A, /* stream a failed: see `reason` */
    RELAY_END_FAILED_B,
    RELAY_END_CANCELLED /* relay_cancel(); reported to nobody */
};

struct relay_totals {
    uint64_t a_to_b; /* bytes */
    uint64_t b_to_a; /* bytes */
};

/* Called exactly once, as the last thing the relay does; the streams are freed already. `reason` is valid during the
 * call. */
typedef void relay_done_fn(void *arg, enum relay_end end, const struct relay_totals *totals,
                           const struct error *reason);

struct relay_config {
    struct loop *loop;
    struct stream a, b;       /* taken over, on failure too */
    const uint8_t *head_to_b; /* bytes to send to b before anything from a (PROXY header); copied; may be NULL */
    size_t head_to_b_length;
    uint64_t idle_timeout_ms; /* 0: none */
    relay_done_fn *done;
    void *arg;
};

/* Start; the returned handle is valid until `done` was called. NULL with *err set on failure. */
MUST_USE struct relay *relay_start(const struct relay_config *config, struct error *err);

/* Bytes so far, for status displays. */
void relay_totals(const struct relay *relay, struct relay_totals *ret);

/* End at once with a reset of both sides; `done` is not called. NULL is allowed. */
void relay_cancel(struct relay *relay);

#endif
