/*
 * Host name to addresses by c-ares, on the loop: /etc/hosts, then DNS as /etc/resolv.conf says. Nothing waits in
 * getaddrinfo(3). Loop thread only.
 */
#ifndef TOKENTLS_NET_RESOLVER_H
#define TOKENTLS_NET_RESOLVER_H

#include "base/error.h"
#include "net/address.h"
#include "net/loop.h"

#include <stddef.h>
#include <stdint.h>

/* Addresses that are used of one name at the most. */
#define RESOLVER_ADDRESSES_MAX 16

struct resolver_lookup;

/*
 * The answer: addresses in the order of RFC 6724, or err (ERROR_IO, "cannot resolve: ..."; then n is 0). Called
 * exactly once, never from within resolver_start(); the lookup is gone already. The addresses are valid during the
 * call.
 */
typedef void resolver_done_fn(void *arg, const struct address_socket *addresses, size_t n, const struct error *err);

struct resolver_config {
    struct loop *loop;
    const char *host;    /* a name, not a literal; copied */
    uint16_t port;       /* put into the addresses; host byte order */
    const char *servers; /* "IP:PORT,..." instead of /etc/resolv.conf's; NULL: none */
    resolver_done_fn *done;
    void *arg;
};

/*
 * Start a lookup, which has no time-out of its own that would suit a connection: the caller cancels it. The system's
 * files are read anew for each lookup, so that a changed resolv.conf counts at once: a confined process needs
 * /etc/resolv.conf (and what it links to), /etc/hosts, /etc/nsswitch.conf, /etc/host.conf and, for unpredictable query
 * numbers, /dev/urandom readable. NULL with *err set on failure.
 */
MUST_USE struct resolver_lookup *resolver_start(const struct resolver_config *config, struct error *err);

/* Give up; `done` is not called. NULL is allowed. */
void resolver_cancel(struct resolver_lookup *lookup);

#endif
