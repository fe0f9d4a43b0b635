/* The one line that each connection leaves in the log when it ends. Loop thread of its connection. */
#ifndef TOKENTLS_DAEMON_RECORD_H
#define TOKENTLS_DAEMON_RECORD_H

#include "net/address.h"
#include "net/relay.h"
#include "pkcs11/keyholder/client.h"

#include <openssl/types.h>

struct connection_info; /* tls/connection.h */

enum record_result {
    RECORD_CLOSED,  /* ended in order by both sides */
    RECORD_IDLE,    /* idle time-out */
    RECORD_LOST,    /* failed after it was established */
    RECORD_FAILED,  /* never established: network, time-out, token */
    RECORD_REFUSED, /* never established: we or the peer refused the other's certificate or authorisation */
    RECORD_LIMIT,   /* not taken: a limit */
    RECORD_ENDED,   /* by us: drained */
    RECORD_REVOKED, /* by us: a certificate of the peer's chain was revoked meanwhile */
    RECORD_REMOVED, /* by us: the token was removed, and on-removal is close */
    RECORD_CHECK    /* never established: somebody has looked whether we are there (a load balancer) */
};

/* What a tunnel that keeps connections ready (`warm`) had for this one. */
enum record_warm { RECORD_WARM_NONE /* it keeps none */, RECORD_WARM_MISSED, RECORD_WARM_USED };

struct record {
    const char *kind;          /* "tunnel" or "gateway": the key of `service` */
    const char *service;       /* its name */
    char *peer;                /* text of the accepted connection's address; owned; NULL: unknown */
    char *via;                 /* of the load balancer that has told of the peer; owned; NULL: it came by itself */
    const struct address *far; /* upstream or backend; must outlive it; NULL while none was reached */
    int64_t uid, pid;          /* of a local caller; -1: unknown */
    enum record_warm warm;
    uint32_t warm_ms; /* RECORD_WARM_USED: how long it had waited */
    bool has_tls;     /* what follows is filled */
    char version[16], mechanism[32], identity[KEYHOLDER_NAME_MAX], alpn[64];
    X509 *certificate; /* of the peer: a reference to what libssl keeps as well; NULL when it sent none */
    const char *allow; /* the allow block that let the client in; NULL: none was asked. Must outlive it */
    bool resumed, signed_on_token;
    uint32_t sign_ms, sign_wait_ms, handshake_ms;
    struct relay_totals totals; /* a: the accepted side */
    uint64_t started_us;        /* CLOCK_MONOTONIC */
};

/*
 * Begin: now, from this peer. `kind` and `service` must outlive the record. Ends with record_free(). Texts for which
 * there is no memory are left out of the line.
 */
void record_begin(struct record *record, const char *kind, const char *service, const struct address_socket *peer);

/* The connection is another one's, which a load balancer has told of: that is the peer from here on. */
void record_pass_on(struct record *record, const struct address_socket *peer);

/* Keep what the handshake showed. */
void record_note_tls(struct record *record, const struct connection_info *info);

/* Back to before that: another handshake follows. The far side is forgotten too. */
void record_forget_tls(struct record *record);

/* What a failed start is called: ERROR_VERIFY is refused, everything else failed. */
enum record_result record_result_of(const struct error *err);

/*
 * What the end of a relay is called. ERROR_VERIFY is refused here too: a TLS 1.3 server refuses our certificate when
 * for us the handshake is done.
 */
enum record_result record_result_of_relay(enum relay_end end, const struct error *reason);

/* Write the line; `reason` may be NULL. */
void record_write(const struct record *record, enum record_result end, const char *reason);

/* Release what the record owns. */
void record_free(struct record *record);

#endif
