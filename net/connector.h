/*
 * Connects to the first of several targets that answers, without blocking: names are resolved by c-ares, every address
 * of a target is tried in order, then the next target. Loop thread only.
 */
#ifndef TOKENTLS_NET_CONNECTOR_H
#define TOKENTLS_NET_CONNECTOR_H

#include "base/error.h"
#include "net/address.h"
#include "net/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Targets of one connector at the most. */
#define CONNECTOR_TARGETS_MAX 64

/* The whole is given up after this time when the configuration sets no limit. */
#define CONNECTOR_TIMEOUT_MAX_MS 300000

struct connector;
struct proxy; /* net/proxy.h */

/*
 * The end: a connected socket (non-blocking, close-on-exec, TCP_NODELAY and keepalive set), which belongs to the
 * callee, and the index of its target; or fd -1 and err. Called exactly once, never from within connector_start(); the
 * connector is gone already.
 * Failure: ERROR_IO; the text lists what was tried, "gateway.example:8443: 192.0.2.1: Connection refused; ...", and the
 * code is the errno of the last attempt (0 for resolution, and for what a proxy says). ERROR_INTERNAL when memory is
 * exhausted.
 */
typedef void connector_done_fn(void *arg, int fd, size_t target, const struct error *err);

struct connector_config {
    struct loop *loop;
    const struct address *targets; /* ADDRESS_TCP or ADDRESS_UNIX, in order of preference; copied */
    size_t n_targets;              /* 1 to CONNECTOR_TARGETS_MAX */
    /*
     * For the whole, in ms; 0 or more than CONNECTOR_TIMEOUT_MAX_MS: that. What is left is shared out evenly among the
     * targets not tried yet, and a target's share among its addresses, so that one silent address does not use it up.
     */
    uint64_t timeout_ms;
    /*
     * Each target is reached through this proxy, which also resolves its name; all of them are ADDRESS_TCP then.
     * Copied, but for the password. NULL: directly.
     */
    const struct proxy *proxy;
    bool refuse_local;       /* pass over addresses that address_socket_is_local() names */
    const char *dns_servers; /* "IP:PORT,..." instead of /etc/resolv.conf's; NULL: none. Copied */
    connector_done_fn *done;
    void *arg;
};

/* Start. The returned handle is valid until `done` is called. NULL with *err set on failure. */
MUST_USE struct connector *connector_start(const struct connector_config *config, struct error *err);

/* Give up at any time; `done` is not called. NULL is allowed. */
void connector_cancel(struct connector *connector);

#endif
