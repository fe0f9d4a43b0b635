/*
 * One TLS connection as a state machine on a loop: handshake with waits for the socket, the token and the verdict,
 * then a struct stream for the relay. The handshake runs in an OpenSSL ASYNC job that pauses while the keyholder signs
 * (WANT_TOKEN) and while the verdict is reached on the loop's own stack (WANT_VERDICT). Loop thread only.
 */
#ifndef TOKENTLS_TLS_CONNECTION_H
#define TOKENTLS_TLS_CONNECTION_H

#include "base/error.h"
#include "net/loop.h"
#include "net/stream.h"
#include "tls/context.h"
#include "tls/verify/chain.h"

struct connection;

/*
 * The handshake has ended; err is NULL on success. Called exactly once, never from within connection_start(), and as
 * the connection's last act of that turn: it may free the connection.
 * Failure categories: ERROR_VERIFY (we refused, or the peer sent an alert), ERROR_TOKEN and ERROR_PIN (no signature),
 * ERROR_IO (time-out, reset), ERROR_CLOSED, ERROR_PROTOCOL (no TLS).
 */
typedef void connection_done_fn(void *arg, const struct error *err);

/* Narration of the handshake for `connect --explain`: called with phase names and one-line texts. May be NULL. */
typedef void connection_explain_fn(void *arg, const char *phase, const char *text);

struct connection_config {
    struct loop *loop;
    struct context *context;
    int fd;                  /* connected, non-blocking socket; taken over, on failure too */
    const char *server_name; /* client: SNI and the name the certificate must carry (SNI is left out for IP literals);
                                NULL is refused unless insecure_no_name */
    bool insecure_no_name;
    uint64_t deadline; /* CLOCK_MONOTONIC ms for the handshake */
    uint32_t tunnel;   /* number for fairness in the keyholder */
    connection_done_fn *done;
    connection_explain_fn *explain;
    void *arg;
};

/* Start the handshake. NULL with *err set when it cannot even start (identity not usable, memory). */
MUST_USE struct connection *connection_start(const struct connection_config *config, struct error *err);

/*
 * Abort and free at any time (also with a job paused: it is resumed with an error first). The socket is closed, with a
 * reset when `reset`. NULL is allowed.
 */
void connection_free(struct connection *connection, bool reset);

/* After a successful handshake: the stream. It takes the connection over (freeing the stream frees the connection). */
struct stream connection_stream(struct connection *connection);

/*
 * True when the peer's refusal of our certificate arrived before any application byte (TLS 1.3 servers refuse after our
 * Finished): valid after the stream has failed.
 */
bool connection_refused_by_peer(const struct connection *connection);

struct connection_info {
    const char *version;     /* "TLSv1.3" */
    const char *cipher;      /* "TLS_AES_256_GCM_SHA384" */
    const char *alpn;        /* "" when none */
    const char *server_name; /* SNI seen or sent; "" when none */
    bool resumed;
    bool hung_up;               /* the peer has gone without having sent a byte */
    bool certificate_requested; /* client: the server asked for one */
    bool signed_on_token;       /* this handshake used a token signature */
    const char *identity;       /* name of the identity used; "" when none */
    const char *mechanism;      /* "CKM_ECDSA"; "" when none */
    uint32_t sign_ms, sign_wait_ms, handshake_ms;
    X509 *own;                     /* server: the certificate it has shown; borrowed; NULL: none */
    X509 *peer;                    /* borrowed; NULL when the peer sent none */
    STACK_OF(X509) * peer_path;    /* verified path, leaf first; borrowed; NULL when none */
    const struct verdict *verdict; /* of the peer's certificate; NULL when none was reached, and once the stream
                                      has been used (16 KiB that an idle connection need not keep) */
};

/* Valid until the connection is freed. */
void connection_info(const struct connection *connection, struct connection_info *ret);

#endif
