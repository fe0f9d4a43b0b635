/*
 * One bounded HTTP/1.1 request without blocking, for data that is signed: CRLs and OCSP responses. http:// only, one
 * request a connection, no cookies, no credentials, no proxy. Loop thread only.
 *
 * The other side may be anybody: the head, the body, the whole time and the redirects have limits, and where the URL
 * comes out of a certificate the addresses it may lead to are limited too (docs/threat-model.md).
 */
#ifndef TOKENTLS_NET_FETCH_H
#define TOKENTLS_NET_FETCH_H

#include "base/error.h"
#include "net/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Redirects that are followed, from http to http. */
#define FETCH_REDIRECTS_MAX 3
/* Bytes of a response's status line and header fields (interim responses included), and of chunk framing. */
#define FETCH_HEAD_MAX 32768
/* Bytes of a validator (ETag, Last-Modified) or media type that is kept, with its NUL; longer ones are dropped. */
#define FETCH_VALUE_MAX 256
/* The whole is given up after this time when the configuration sets no limit. */
#define FETCH_TIMEOUT_MAX_MS 300000
/* Bytes of a request's body. */
#define FETCH_REQUEST_MAX 65536

struct fetch;

struct fetch_response {
    int status;                /* 200, or 304 where a validator was sent */
    const uint8_t *body;       /* may be empty; of 304 it is */
    size_t length;             /* bytes */
    const char *content_type;  /* "" where there is none (all three) */
    const char *etag;          /* for if_none_match next time, with its quotes */
    const char *last_modified; /* for if_modified_since next time */
    uint64_t max_age_s;        /* Cache-Control: max-age (RFC 9111 5.2.2.1); 0: none */
};

/*
 * The end: the response, valid during the call, or err. Called exactly once, never from within fetch_start(); the
 * fetch is gone already. ERROR_IO: no connection, time-out. ERROR_CLOSED: the response was cut off. ERROR_PROTOCOL: not
 * HTTP, a limit, a redirect that is not followed, or a status other than those above; code is the status (0: none). The
 * text begins with the URL.
 */
typedef void fetch_done_fn(void *arg, const struct fetch_response *response, const struct error *err);

enum fetch_reach {
    /* The URL stands in the configuration: whatever address its host has. */
    FETCH_CONFIGURED,
    /*
     * The URL comes out of a certificate: not to this machine (loopback, unspecified), not to its link (169.254.0.0/16
     * with the clouds' metadata services, fe80::/10), not to multicast or broadcast addresses.
     */
    FETCH_FROM_CERTIFICATE
};

struct fetch_config {
    struct loop *loop;
    const char *url;
    /*
     * Holds for redirects too; one that leads from a FETCH_CONFIGURED server to another server counts as
     * FETCH_FROM_CERTIFICATE.
     */
    enum fetch_reach reach;
    /*
     * Where it may lead at all, redirects included: NULL-terminated "HOST" or "HOST:PORT" (a literal IPv6 address in
     * brackets), which are then reached at any address. NULL: anywhere `reach` allows. Copied.
     */
    const char *const *hosts;
    const uint8_t *body;           /* POST with this; NULL: GET. Copied */
    size_t body_length;            /* at most FETCH_REQUEST_MAX */
    const char *content_type;      /* of the body: "application/ocsp-request" */
    const char *accept;            /* "application/pkix-crl"; NULL: anything */
    const char *if_none_match;     /* the etag of an earlier response; NULL or "": none */
    const char *if_modified_since; /* the last_modified of one; NULL or "": none */
    size_t max_bytes;              /* of the response's body; required */
    uint64_t timeout_ms;           /* for the whole, redirects included; 0 or more than FETCH_TIMEOUT_MAX_MS: that */
    const char *dns_servers;       /* "IP:PORT,..." instead of /etc/resolv.conf's; NULL: none. Copied */
    fetch_done_fn *done;
    void *arg;
};

/*
 * Start. The returned handle is valid until `done` is called. NULL with *err set: ERROR_CONFIG when the URL is none
 * that is fetched, ERROR_USAGE when a header value may not stand in a request, ERROR_INTERNAL.
 */
MUST_USE struct fetch *fetch_start(const struct fetch_config *config, struct error *err);

/* Give up at any time; `done` is not called. NULL is allowed. */
void fetch_cancel(struct fetch *fetch);

#endif
