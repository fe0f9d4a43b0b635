/*
 * Having a proxy open the way to a server: HTTP CONNECT (RFC 9110 9.3.6, with the Basic authentication of RFC 7617) and
 * SOCKS 5 (RFC 1928, RFC 1929). Names of servers are resolved by the proxy, never here. Loop thread only.
 */
#ifndef TOKENTLS_NET_PROXY_REQUEST_H
#define TOKENTLS_NET_PROXY_REQUEST_H

#include "net/loop.h"
#include "net/proxy.h"

/* Bytes of the head of an HTTP proxy's answer, interim answers included. */
#define PROXY_REQUEST_HEAD_MAX 16384

struct proxy_request;

/*
 * The end, exactly once and never from within proxy_request_start(); the request is gone already. NULL: the next byte
 * on the connection is the server's. Otherwise ERROR_IO or ERROR_PROTOCOL (what it answered is no proxy's answer), and
 * the text says what the proxy said and what to check.
 */
typedef void proxy_request_done_fn(void *arg, const struct error *err);

struct proxy_request_config {
    struct loop *loop;
    int fd;                       /* connected to the proxy; borrowed, non-blocking */
    const struct proxy *proxy;    /* not used after proxy_request_start() */
    const struct address *target; /* ADDRESS_TCP; likewise */
    proxy_request_done_fn *done;
    void *arg;
};

/*
 * Ask the proxy for a connection to the target. It knows no deadline: its user cancels it. NULL with *err set when
 * memory is exhausted.
 */
MUST_USE struct proxy_request *proxy_request_start(const struct proxy_request_config *config, struct error *err);

/* Give up at any time; `done` is not called. NULL is allowed. */
void proxy_request_cancel(struct proxy_request *request);

#endif
