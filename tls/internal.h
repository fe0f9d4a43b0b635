/*
 * What the files of this folder share about contexts and connections; not for other folders. connection.c owns the
 * state machine, choice.c the choice of the client certificate, failure.c turns libssl's failures into errors,
 * narrate.c tells the story, judge.c asks for the verdict, sessions.c resumes, established.c is the stream, waiting.c
 * what comes before its first use.
 */
#ifndef TOKENTLS_TLS_INTERNAL_H
#define TOKENTLS_TLS_INTERNAL_H

#include "tls/connection.h"
#include "tls/context.h"
#include "tls/policy.h"
#include "tls/signer.h"
#include "tls/wire.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct remembered; /* tls/verify/remembered.h */
struct sessions;   /* tls/sessions.h */
struct tickets;    /* tls/tickets.h */

struct context {
    SSL_CTX *ssl;
    BIO_METHOD *wire_method;
    struct libctx *libctx;
    char *name;
    bool server;
    struct identity **identities; /* the array is owned, the identities are not */
    size_t n_identities;
    struct trust *trust;
    struct crl_snapshot *crls;
    uint8_t (*spkis)[CHAIN_SPKI_LENGTH]; /* owned; NULL: no pins */
    size_t n_spkis;
    enum chain_order order;
    struct inquiry *inquiry; /* borrowed; NULL: responders are not asked */
    struct stapler *stapler; /* borrowed; NULL: nothing is stapled */
    enum chain_revocation revocation;
    int64_t crl_grace;
    enum chain_policy policy;
    enum context_client_auth client_auth;
    result (*authorise)(void *arg, const struct verdict *verdict, struct error *err);
    void *authorise_arg;
    enum context_version version;
    bool refuse_certificate_request;
    int depth;
    char **alpn_names;   /* owned, NULL-terminated; NULL: none */
    unsigned char *alpn; /* wire form: length, name, ... (RFC 7301 3.1); NULL: none */
    unsigned alpn_length;
    struct remembered *remembered; /* verdicts on peers that may come again */
    uint64_t identities_seen;      /* sum of the identities' generations when the first of them was reached */
    uint64_t schemes_as_of;        /* sum of the identities' reports when choice_refresh() had its say; 0: never */
    bool without_tls_1_3;          /* as of then: no usable identity can sign in it */
    struct sessions *sessions;     /* client; NULL: no resumption */
    struct tickets *tickets;       /* server; NULL: no resumption */
};

enum connection_state {
    CONNECTION_READY,        /* can go on: waits for its turn at handshake priority */
    CONNECTION_WANT_READ,    /* handshake: for the socket */
    CONNECTION_WANT_WRITE,   /* handshake: for the socket */
    CONNECTION_WANT_TOKEN,   /* handshake: job paused for the keyholder */
    CONNECTION_WANT_VERDICT, /* handshake: job paused for chain_verify(), which has its turn next */
    CONNECTION_WANT_STATUS, /* handshake: job paused, chain_verify() is to be run again when responders have answered */
    CONNECTION_ESTABLISHED,
    CONNECTION_CLOSED, /* the peer has ended its direction in order */
    CONNECTION_FAILED
};

struct connection {
    struct loop *loop;
    struct loop_watch *watch; /* handshake only */
    struct loop_timer *timer; /* handshake only */
    struct context *context;
    SSL *ssl;
    struct wire wire;
    enum connection_state state;
    char *server_name;     /* NULL: none */
    bool check_name;       /* the peer's certificate must carry server_name */
    bool job_paused;       /* an ASYNC job of this connection waits to be resumed */
    struct signer *signer; /* owned; NULL once the connection is a stream */
    struct {
        bool signed_on_token;
        char mechanism[48];
        uint32_t sign_ms, wait_ms;
    } proof; /* what came of it */

    /* The verdict; leaf and untrusted are borrowed from libssl while its callback is paused. */
    bool verdict_wanted, verdict_reached;
    bool narrated;           /* the first verdict has been told */
    bool verdict_of_ticket;  /* it is about the client that a ticket names, and counts if that session is resumed */
    bool ticket_in_question; /* the verdict that is wanted is about a ticket: nothing is chosen yet to be told */
    unsigned tickets_tried;
    X509 *leaf;
    STACK_OF(X509) * untrusted;
    struct verdict *verdict;    /* owned; NULL until reached, and once the stream has been used */
    STACK_OF(X509) * peer_path; /* then: the verdict's path; owned */

    /* Stapled OCSP response, borrowed from libssl or, before the handshake, from the session that is offered. */
    enum chain_stapling stapling;
    struct chain_response staple;
    bool staple_due; /* TLS 1.2: the verdict is not final before the server's first flight has ended */

    struct inquiry_wait *wait; /* for OCSP responders; owned; NULL: none */
    unsigned inquiries;        /* made on behalf of this handshake */

    /* The client certificate. */
    bool certificate_requested;
    bool choice_made, choice_good;
    struct identity *identity;    /* borrowed; NULL: none used */
    uint64_t identity_generation; /* when it was taken */
    struct identity *resuming;    /* the identity of the session that is offered; borrowed; NULL: none */

    int alert_received, alert_sent; /* -1: none; only such that end the connection */
    struct error *failure;          /* see failure_of(); NULL: none so far */
    bool refused_by_peer;
    bool shutdown_sent;
    uint64_t bytes_read;   /* application bytes */
    uint64_t waiting_from; /* bytes that had come from the socket when it began to wait */
    bool drained;          /* the last read found no whole record */
    size_t taken;          /* bytes of a write that is to be repeated: libssl has them, the socket has not */
    uint64_t started_us;
    uint32_t handshake_ms;

    connection_done_fn *done;
    connection_explain_fn *explain;
    void *arg;
};

/* Hook the verification, choice and information callbacks into a context's SSL_CTX (connection.c). */
void connection_setup(struct context *context);

/*
 * Within the handshake's job: have the loop reach a verdict on these certificates (borrowed until this returns), and
 * say whether it accepts (connection.c).
 */
bool connection_await_verdict(struct connection *connection, X509 *leaf, STACK_OF(X509) * untrusted);

/* There is no verdict, as at the beginning (connection.c). */
void connection_forget_verdict(struct connection *connection);

/* Who uses the connection has seen the verdict: of its many texts only the path is kept (established.c). */
void established_drop_verdict(struct connection *connection);

/* The connection becomes a stream: set libssl up for carrying many bytes (established.c). */
void established_begin(struct connection *connection);

/* The stream table of an established connection (established.c). */
extern const struct stream_ops established_ops;

#endif
