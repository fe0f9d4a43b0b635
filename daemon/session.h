/*
 * What the agent's tunnels and the gateway's services share about one worker's connections: the targets and the TLS
 * context of a service, and for each accepted connection its admission, its handles, its line in the log and its one
 * end. Loop thread of the worker only.
 */
#ifndef TOKENTLS_DAEMON_SESSION_H
#define TOKENTLS_DAEMON_SESSION_H

#include "daemon/record.h"
#include "daemon/worker.h"
#include "net/connector.h"
#include "net/proxy_wait.h"
#include "net/relay.h"
#include "tls/connection.h"
#include "tls/context.h"

struct session;

/* A service in one worker: the first member of the tunnel's and the gateway's own struct service. */
struct session_service {
    struct worker *worker;
    size_t index;
    const char *kind; /* the key of its name in the log: "tunnel" or "gateway" */
    const struct settings_service *settings;
    struct context *context;
    struct identity **identities;
    struct address *targets;
    const struct proxy *proxy; /* on the way to the targets; borrowed; NULL: none */
    struct session *sessions;
    struct crl_snapshot *crls; /* the last one published; NULL: still those of the start */
    struct loop_timer *tally;  /* counts the bytes of connections that go on */
};

/*
 * One accepted connection: the first member of a tunnel's or gateway's own struct. What is set tells how far it is: a
 * connector, a connection, then a relay alone.
 */
struct session {
    struct session *next, *previous;
    struct session_service *service;
    int fd;                   /* an accepted plaintext connection until something takes it over; -1: none */
    struct proxy_wait *proxy; /* for the PROXY header of a load balancer; owned; NULL: none */
    struct connector *connector;
    struct connection *connection;
    struct relay *relay;
    struct loop_watch *near, *far; /* while a connection that was ready waits for its first byte */
    struct loop_timer *waiting;    /* as well */
    bool handshaking;              /* counted as such */
    bool check;                    /* a failed handshake is nobody's failure: somebody looks whether we are there */
    STACK_OF(X509) * path;         /* of the peer, while close-on-revocation watches it; owned; NULL: it does not */
    uint64_t handshake_us;         /* when it began, CLOCK_MONOTONIC */
    struct relay_totals counted;   /* of the bytes, so far */
    struct record record;
};

/*
 * Fill `service`, which is zeroed memory, for the service with this number: resolves its targets. On failure
 * session_service_close() is still due. ERROR_CONFIG, ERROR_INTERNAL.
 */
MUST_USE result session_service_open(struct session_service *service, struct worker *worker, size_t index,
                                     const char *kind, struct error *err);

/*
 * Make the service's TLS context from `config`, in which only what the two kinds of service set differently is filled:
 * server, alpn, authorisation, certificate files. Errors are those of context_new().
 */
MUST_USE result session_service_context(struct session_service *service, struct context_config *config,
                                        struct error *err);

/*
 * Verify peers with these CRLs from here on. With close-on-revocation, sessions whose peer they revoke at any level of
 * its chain end ("revoked").
 */
void session_service_use_crls(struct session_service *service, struct crl_snapshot *crls);

/* End the established sessions that this identity was used for ("removed"): its token is gone. */
void session_service_removed(struct session_service *service, const struct identity *identity);

/* End every session ("ended") and free what the service holds, not the service. */
void session_service_close(struct session_service *service);

/*
 * Admit an accepted connection: a new session of `size` zeroed bytes (at least sizeof(struct session)) on the record,
 * or NULL when a limit or memory is reached: then the connection was reset, with a line in the log. The session does
 * not own `fd` until its field says so.
 */
MUST_USE struct session *session_accept(struct session_service *service, size_t size, int fd,
                                        const struct address_socket *peer);

/*
 * After a good handshake: have close-on-revocation watch the peer's path. True when CRLs that came during the handshake
 * revoke it: then the session has been ended.
 */
MUST_USE bool session_watch_revocation(struct session *session, const struct connection_info *info);

/*
 * Call the service's targets in their order; `done` as in connector.h. A failure to begin ends the session. The second
 * form calls `n` others (borrowed, at least until the session ends) instead.
 */
void session_connect(struct session *session, connector_done_fn *done);
void session_connect_to(struct session *session, const struct address *targets, size_t n, connector_done_fn *done);

/*
 * Wait for the PROXY header on session->fd, for handshake-timeout at the most; `done` as in net/proxy_wait.h, with the
 * session. A failure to begin ends the session.
 */
void session_await_proxy(struct session *session, proxy_wait_done_fn *done);

/* The wait is over: session->fd is to be taken over by the handshake. More than once is allowed. */
void session_proxy_ended(struct session *session);

/*
 * Start the TLS handshake of `config`, in which fd (taken over), server_name and done are set. `done` is called as in
 * connection.h, with the session, and calls session_handshaken() first. A failure to begin ends the session.
 */
void session_handshake(struct session *session, struct connection_config *config);

/*
 * Count how the handshake of a connection of this service, which took `us` microseconds, has ended, and have missing
 * CRLs fetched; `info` is filled in for the caller's use. For a connection that is no session's yet.
 */
void session_service_handshaken(struct session_service *service, struct connection *connection, const struct error *err,
                                uint64_t us, struct connection_info *info);

/* Note on the record and in the meters how the handshake has ended; `info` is filled in for the caller's use. */
void session_handshaken(struct session *session, const struct error *err, struct connection_info *info);

/* The TLS side is done with its handshake; whoever waits for a place may have this one. More than once is allowed. */
void session_handshake_ended(struct session *session);

/*
 * Relay between the streams of `config` (a, b and the head; taken over) until one ends, and then end the session. A
 * failure to begin ends it too, and so does a token that has been removed meanwhile, with on-removal = close.
 */
void session_relay(struct session *session, struct relay_config *config);

/* End after a failed handshake ("check", if that is what it was): closes in order, since a reset might overtake our
 * alert. */
void session_refuse(struct session *session, const struct error *err);

/* Reset what is still open, write the line and free. `reason` may be NULL and may lie in the session. */
void session_end(struct session *session, enum record_result how, const char *reason);

#endif
