/*
 * Waits for the PROXY protocol header (net/proxy_preface.h) of an accepted connection and takes it from the socket: it,
 * and not a byte more, so that whoever comes next finds all that the client has sent. Loop thread.
 */
#ifndef TOKENTLS_NET_PROXY_WAIT_H
#define TOKENTLS_NET_PROXY_WAIT_H

#include "net/loop.h"
#include "net/proxy_preface.h"

struct proxy_wait;

/*
 * The header is there (`err` NULL), or not to be had: ERROR_PROTOCOL, not a good one; ERROR_CLOSED, the peer has gone;
 * ERROR_IO, the deadline has passed or the socket has failed; then `preface` is NULL. Called once, not from within
 * proxy_wait_start(); it frees the wait.
 */
typedef void proxy_wait_done_fn(void *arg, const struct proxy_preface *preface, const struct error *err);

struct proxy_wait_config {
    struct loop *loop;
    int fd; /* connected, non-blocking; stays the caller's */
    uint64_t timeout_ms;
    proxy_wait_done_fn *done;
    void *arg;
};

/* NULL with *err set (ERROR_INTERNAL): it cannot begin. */
MUST_USE struct proxy_wait *proxy_wait_start(const struct proxy_wait_config *config, struct error *err);

/* True when the peer has sent nothing at all. */
bool proxy_wait_is_silent(const struct proxy_wait *wait);

/* End it; `done` is not called afterwards. NULL is allowed. */
void proxy_wait_free(struct proxy_wait *wait);

#endif
