#include "tls/connection.h"

#include "base/clock.h"
#include "net/socket.h"
#include "tls/choice.h"
#include "tls/failure.h"
#include "tls/inquiry.h"
#include "tls/internal.h"
#include "tls/judge.h"
#include "tls/libctx.h"
#include "tls/narrate.h"
#include "tls/sessions.h"
#include "tls/status.h"
#include "tls/verify/verdict.h"

#include <arpa/inet.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Longest wait armed at once for a deadline that may never come, in ms. */
#define TIMER_MAX (24ULL * 3600 * 1000)

/* Times that responders are asked for one handshake: a first answer may make a further certificate count. */
#define INQUIRIES_MAX 4

/* Bytes thrown away before a close, so that data in flight does not turn our last alert into a reset. */
#define DRAIN_MAX (64 * 1024)

/* The only place where the state changes, and with it what the loop waits for. */
static void enter(struct connection *connection, enum connection_state state)
{
    static const unsigned interest[] = {
        [CONNECTION_READY] = 0,
        [CONNECTION_WANT_READ] = LOOP_READ,
        [CONNECTION_WANT_WRITE] = LOOP_WRITE,
        [CONNECTION_WANT_TOKEN] = 0,
        [CONNECTION_WANT_VERDICT] = 0,
        [CONNECTION_WANT_STATUS] = 0,
        [CONNECTION_ESTABLISHED] = 0,
        [CONNECTION_CLOSED] = 0,
        [CONNECTION_FAILED] = 0,
    };

    connection->state = state;
    if (connection->watch == NULL)
        return;
    loop_watch_set(connection->watch, interest[state]);
    if (state == CONNECTION_READY || state == CONNECTION_WANT_VERDICT)
        loop_watch_turn(connection->watch);
}

bool connection_await_verdict(struct connection *connection, X509 *leaf, STACK_OF(X509) * untrusted)
{
    connection->leaf = leaf;
    connection->untrusted = untrusted;
    connection->verdict_reached = false;
    connection->verdict_wanted = true;
    while (!connection->verdict_reached && !connection->signer->cancelled)
        if (ASYNC_get_current_job() == NULL || ASYNC_pause_job() != 1)
            break;
    connection->verdict_wanted = false;
    connection->leaf = NULL;
    connection->untrusted = NULL;
    return connection->verdict_reached && connection->verdict != NULL && connection->verdict->accepted;
}

/* The same certificate, byte for byte, as one of the path; NULL: none is. */
static X509 *twin_in(const STACK_OF(X509) * path, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(path); i++)
        if (X509_cmp(sk_X509_value(path, i), certificate) == 0)
            return sk_X509_value(path, i);
    return NULL;
}

/*
 * The path of a remembered verdict holds the certificates as they came with the first connection. libssl keeps what is
 * in this stack for as long as the connection lives, about 5 KiB each: let it keep those.
 */
static void share_certificates(X509_STORE_CTX *store, const STACK_OF(X509) * path)
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);

    for (int i = 0; i < sk_X509_num(sent); i++) {
        X509 *certificate = sk_X509_value(sent, i);
        X509 *twin = twin_in(path, certificate);

        if (twin == NULL || twin == certificate || X509_up_ref(twin) != 1)
            continue;
        (void)sk_X509_set(sent, i, twin);
        if (X509_STORE_CTX_get0_cert(store) == certificate)
            X509_STORE_CTX_set_cert(store, twin);
        X509_free(certificate);
    }
}

/* Inside the job, on its small stack: keep the chain, let the loop reach the verdict, answer with it. */
static int verify_callback(X509_STORE_CTX *store, void *arg)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct connection *connection = SSL_get_app_data(ssl);
    bool accepted;

    (void)arg;
    status_note(connection);
    accepted =
        connection_await_verdict(connection, X509_STORE_CTX_get0_cert(store), X509_STORE_CTX_get0_untrusted(store));
    if (accepted)
        share_certificates(store, connection->verdict->path);
    if (accepted)
        X509_STORE_CTX_set_error(store, X509_V_OK);
    else
        X509_STORE_CTX_set_error(store, connection->verdict == NULL ? X509_V_ERR_UNSPECIFIED
                                                                    : connection->verdict->x509_error);
    return accepted;
}

/* The server has asked for a certificate: leave the job, choose on the loop's stack, and be called again. */
static int certificate_callback(SSL *ssl, void *arg)
{
    struct connection *connection = SSL_get_app_data(ssl);

    (void)arg;
    if (connection->signer->cancelled)
        return 0;
    if (!connection->choice_made)
        return -1;
    return connection->choice_good;
}

static void information_callback(const SSL *ssl, int where, int value)
{
    struct connection *connection = SSL_get_app_data(ssl);
    int level = value >> 8;
    int alert = value & 0xff;

    if ((where & SSL_CB_ALERT) == 0 || connection == NULL || alert == SSL_AD_CLOSE_NOTIFY ||
        alert == SSL_AD_USER_CANCELLED || (level != SSL3_AL_FATAL && SSL_version(ssl) < TLS1_3_VERSION))
        return;
    if ((where & SSL_CB_READ) != 0)
        connection->alert_received = alert;
    else
        connection->alert_sent = alert;
}

void connection_setup(struct context *context)
{
    SSL_CTX_set_cert_verify_callback(context->ssl, verify_callback, NULL);
    SSL_CTX_set_info_callback(context->ssl, information_callback);
    if (!context->server)
        SSL_CTX_set_cert_cb(context->ssl, certificate_callback, NULL);
}

void connection_forget_verdict(struct connection *connection)
{
    if (connection->verdict != NULL)
        verdict_free(connection->verdict);
    free(connection->verdict);
    connection->verdict = NULL;
    connection->verdict_reached = false;
    connection->verdict_of_ticket = false;
}

static void responders_answered(void *arg)
{
    struct connection *connection = arg;

    connection->wait = NULL;
    enter(connection, CONNECTION_WANT_VERDICT);
}

/*
 * True when the verdict has to wait for OCSP responders. They are asked only on behalf of a chain whose signatures lead
 * to an anchor, and at most INQUIRIES_MAX times for each handshake.
 */
static bool ask_responders(struct connection *connection)
{
    const struct verdict *verdict = connection->verdict;
    struct inquiry *inquiry = connection->context->inquiry;

    if (inquiry == NULL || connection->inquiries == INQUIRIES_MAX || verdict->unanswered == 0 ||
        (!verdict->accepted && !verdict->status_unknown))
        return false;
    connection->wait = inquiry_ask(inquiry, verdict, responders_answered, connection);
    connection->inquiries++;
    return connection->wait != NULL;
}

static void reach_verdict(struct connection *connection)
{
    /* There is one already when a session was offered and not taken, or a stapled response was waited for. */
    connection_forget_verdict(connection);
    connection->verdict = malloc(sizeof(*connection->verdict));
    if (connection->verdict == NULL) {
        connection->verdict_reached = true;
        error_set(failure_of(connection), ERROR_INTERNAL, "out of memory");
        return;
    }
    judge_peer(connection, connection->leaf, connection->untrusted, connection->verdict);
    connection->verdict_reached = !ask_responders(connection);
    if (!connection->verdict_reached || connection->ticket_in_question)
        return;
    if (!connection->narrated)
        narrate_chosen(connection);
    if (connection->narrated && connection->verdict->accepted)
        narrate_staple(connection);
    else
        narrate_verdict(connection);
    connection->narrated = true;
}

/* One call of libssl with this connection's signer lent to the thread; returns SSL_get_error()'s answer. */
static int run_handshake(struct connection *connection)
{
    struct signer *before = signer_switch(connection->signer);
    int n, outcome;

    ERR_clear_error();
    wire_turn(&connection->wire);
    n = SSL_do_handshake(connection->ssl);
    outcome = SSL_get_error(connection->ssl, n);
    (void)signer_switch(before);
    libctx_take_back(connection->context->libctx); /* when a ticket failed half-way */
    connection->job_paused = outcome == SSL_ERROR_WANT_ASYNC;
    return outcome;
}

/* A paused job owns memory that only its own end releases: resume it until it has failed. */
static void end_job(struct connection *connection)
{
    if (!connection->job_paused)
        return;
    signer_cancel(connection->signer);
    while (run_handshake(connection) == SSL_ERROR_WANT_ASYNC)
        ;
    ERR_clear_error();
}

static void end_handshake(struct connection *connection)
{
    const struct signer *signer = connection->signer;

    connection->proof.signed_on_token = signer->has_signed;
    connection->proof.sign_ms = signer->sign_ms;
    connection->proof.wait_ms = signer->wait_ms;
    memcpy(connection->proof.mechanism, signer->mechanism, sizeof(connection->proof.mechanism));
    inquiry_cancel(connection->wait);
    connection->wait = NULL;
    loop_watch_free(connection->watch);
    loop_timer_free(connection->timer);
    connection->watch = NULL;
    connection->timer = NULL;
    connection->handshake_ms = (uint32_t)((clock_monotonic_us() - connection->started_us) / 1000);
}

/* The last thing of a turn: `done` may free the connection. */
static void fail(struct connection *connection, const struct error *reason)
{
    struct error copy = *reason;

    end_job(connection);
    enter(connection, CONNECTION_FAILED);
    end_handshake(connection);
    *failure_of(connection) = copy;
    narrate_failure(connection, &copy);
    connection->done(connection->arg, &copy);
}

/* The certificate that this handshake, or the session it resumes, stands for is the one that was judged. */
static bool verdict_is_of_peer(const struct connection *connection)
{
    const X509 *peer = SSL_get0_peer_certificate(connection->ssl);
    const X509 *judged = sk_X509_value(connection->verdict->path, 0);

    return peer != NULL && judged != NULL && X509_cmp(peer, judged) == 0;
}

static bool peer_is_checked(struct connection *connection)
{
    const struct context *context = connection->context;

    /* A ticket was good, but libssl did not take it: this client has proven nothing by it. */
    if (connection->verdict_of_ticket && !SSL_session_reused(connection->ssl))
        connection_forget_verdict(connection);
    if (connection->verdict != NULL && context->server && !verdict_is_of_peer(connection))
        return false;
    if (connection->verdict != NULL)
        return connection->verdict->accepted && !connection->staple_due &&
               (connection->verdict_reached || SSL_session_reused(connection->ssl));
    return context->server && context->client_auth != CONTEXT_CLIENT_AUTH_REQUIRED &&
           SSL_get0_peer_certificate(connection->ssl) == NULL;
}

/* libssl reports success after an empty Certificate too: believe only a signature that was made. */
static bool own_side_is_proven(const struct connection *connection)
{
    int nid = NID_undef;

    if (SSL_session_reused(connection->ssl) || connection->context->n_identities == 0)
        return true;
    if (!connection->context->server && !connection->certificate_requested)
        return true;
    return connection->signer->has_signed && SSL_get_signature_type_nid(connection->ssl, &nid) == 1;
}

static void establish(struct connection *connection)
{
    struct error err = ERROR_INIT;

    if (!peer_is_checked(connection)) {
        error_set(&err, ERROR_VERIFY, "the handshake ended without a verdict on the peer's certificate");
        fail(connection, &err);
        return;
    }
    if (!own_side_is_proven(connection)) {
        error_set(&err, ERROR_VERIFY, "the handshake ended without our signature: sent an empty certificate");
        fail(connection, &err);
        return;
    }
    (void)SSL_clear_mode(connection->ssl, SSL_MODE_ASYNC);
    enter(connection, CONNECTION_ESTABLISHED);
    end_handshake(connection);
    if (SSL_session_reused(connection->ssl))
        connection->identity = connection->resuming;
    else if (connection->context->server)
        choice_note_shown(connection);
    sessions_established(connection);
    narrate_finished(connection);
    connection->done(connection->arg, NULL);
}

static void step(struct connection *connection)
{
    struct error err = ERROR_INIT;
    bool had_signed = connection->signer->has_signed;
    int outcome = run_handshake(connection);

    if (outcome == SSL_ERROR_WANT_X509_LOOKUP) {
        choice_make(connection);
        outcome = run_handshake(connection);
    }
    if (connection->signer->has_signed && !had_signed)
        narrate_signature(connection);
    switch (outcome) {
    case SSL_ERROR_NONE:
        establish(connection);
        break;
    case SSL_ERROR_WANT_READ:
        enter(connection, CONNECTION_WANT_READ);
        break;
    case SSL_ERROR_WANT_WRITE:
        enter(connection, CONNECTION_WANT_WRITE);
        break;
    case SSL_ERROR_WANT_ASYNC:
        enter(connection, connection->verdict_wanted ? CONNECTION_WANT_VERDICT : CONNECTION_WANT_TOKEN);
        break;
    default:
        failure_describe(connection, "the handshake", &err);
        fail(connection, &err);
    }
}

static void turn(void *arg, unsigned events)
{
    struct connection *connection = arg;

    (void)events;
    if (connection->state == CONNECTION_WANT_VERDICT) {
        reach_verdict(connection);
        if (!connection->verdict_reached) {
            enter(connection, CONNECTION_WANT_STATUS);
            return;
        }
    }
    step(connection);
}

static void signature_ended(void *arg)
{
    enter(arg, CONNECTION_READY);
}

static void deadline_passed(void *arg)
{
    static const char *const waits[] = {
        [CONNECTION_READY] = "its turn",        [CONNECTION_WANT_READ] = "the peer",
        [CONNECTION_WANT_WRITE] = "the peer",   [CONNECTION_WANT_TOKEN] = "the token to sign",
        [CONNECTION_WANT_VERDICT] = "its turn", [CONNECTION_WANT_STATUS] = "an OCSP responder",
    };
    struct connection *connection = arg;
    struct error err = ERROR_INIT;

    if (clock_remaining(connection->signer->deadline, 1) > 0) {
        loop_timer_set(connection->timer, clock_remaining(connection->signer->deadline, TIMER_MAX));
        return;
    }
    error_set(&err, ERROR_IO, "time-out: the handshake was waiting for %s", waits[connection->state]);
    fail(connection, &err);
}

static bool is_address(const char *name)
{
    unsigned char address[16];

    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

static result prepare_role(struct connection *connection, const struct connection_config *config, struct error *err)
{
    if (connection->context->server) {
        SSL_set_accept_state(connection->ssl);
        return choice_prepare(connection, err);
    }
    SSL_set_connect_state(connection->ssl);
    if (config->server_name == NULL && !config->insecure_no_name)
        return error_set(err, ERROR_USAGE, "no server name to check the certificate with");
    connection->check_name = !config->insecure_no_name;
    if (config->server_name != NULL) {
        connection->server_name = strdup(config->server_name);
        if (connection->server_name == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
        /* RFC 6066 3: no literal addresses in SNI. */
        if (!is_address(config->server_name) && SSL_set_tlsext_host_name(connection->ssl, config->server_name) != 1)
            return error_set_openssl(err, ERROR_CONFIG, "\"%.200s\" cannot be a server name", config->server_name);
    }
    return choice_prepare(connection, err);
}

static result prepare(struct connection *connection, const struct connection_config *config, struct error *err)
{
    BIO *bio;
    result r;

    r = choice_refresh(config->context, err);
    if (r != ERROR_NONE)
        return r;
    connection->ssl = SSL_new(config->context->ssl);
    bio = connection->ssl == NULL ? NULL : wire_bio(config->context->wire_method, &connection->wire);
    if (bio == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a TLS connection");
    SSL_set_bio(connection->ssl, bio, bio);
    SSL_set_app_data(connection->ssl, connection);
    r = prepare_role(connection, config, err);
    if (r != ERROR_NONE)
        return r;
    connection->watch = loop_watch_new(config->loop, config->fd, turn, connection, err);
    if (connection->watch == NULL)
        return err->category;
    loop_watch_set_priority(connection->watch, LOOP_PRIORITY_HANDSHAKE);
    connection->timer = loop_timer_new(config->loop, deadline_passed, connection, err);
    return connection->timer == NULL ? err->category : ERROR_NONE;
}

struct connection *connection_start(const struct connection_config *config, struct error *err)
{
    struct error unwanted = ERROR_INIT;
    struct connection *connection = calloc(1, sizeof(*connection));

    if (err == NULL)
        err = &unwanted;
    if (connection == NULL) {
        (void)close(config->fd);
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    connection->signer = calloc(1, sizeof(*connection->signer));
    if (connection->signer == NULL) {
        free(connection);
        (void)close(config->fd);
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    connection->loop = config->loop;
    connection->context = config->context;
    connection->wire.fd = config->fd;
    connection->signer->deadline = config->deadline;
    connection->signer->tunnel = config->tunnel;
    connection->signer->ended = signature_ended;
    connection->signer->arg = connection;
    connection->alert_received = -1;
    connection->alert_sent = -1;
    connection->started_us = clock_monotonic_us();
    connection->done = config->done;
    connection->explain = config->explain;
    connection->arg = config->arg;
    ERR_clear_error();
    if (prepare(connection, config, err) != ERROR_NONE) {
        connection_free(connection, true);
        return NULL;
    }
    narrate_hello(connection);
    sessions_offer(connection);
    loop_timer_set(connection->timer, clock_remaining(config->deadline, TIMER_MAX));
    enter(connection, CONNECTION_READY);
    return connection;
}

static void close_socket(int fd, bool reset)
{
    uint8_t waste[4096];
    size_t total = 0;
    ssize_t n;

    if (reset)
        socket_abort_on_close(fd);
    else
        while (total < DRAIN_MAX && (n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT)) > 0)
            total += (size_t)n;
    (void)close(fd);
}

void connection_free(struct connection *connection, bool reset)
{
    if (connection == NULL)
        return;
    inquiry_cancel(connection->wait);
    end_job(connection);
    if (connection->signer != NULL)
        signer_cancel(connection->signer);
    if (!reset && !connection->shutdown_sent &&
        (connection->state == CONNECTION_ESTABLISHED || connection->state == CONNECTION_CLOSED))
        (void)SSL_shutdown(connection->ssl);
    ERR_clear_error();
    SSL_free(connection->ssl);
    loop_watch_free(connection->watch);
    loop_timer_free(connection->timer);
    close_socket(connection->wire.fd, reset);
    wire_clear(&connection->wire);
    connection_forget_verdict(connection);
    sk_X509_pop_free(connection->peer_path, X509_free);
    free(connection->server_name);
    free(connection->signer);
    free(connection->failure);
    free(connection);
}

struct stream connection_stream(struct connection *connection)
{
    established_begin(connection);
    return (struct stream){.ops = &established_ops, .self = connection};
}

bool connection_refused_by_peer(const struct connection *connection)
{
    return connection->refused_by_peer;
}

static const char *alpn_name(const struct connection *connection)
{
    const struct context *context = connection->context;
    const unsigned char *chosen = NULL;
    unsigned length = 0;

    /* The chosen name has no NUL: answer with our own copy of it, which context_new() made. */
    SSL_get0_alpn_selected(connection->ssl, &chosen, &length);
    for (size_t i = 0; length > 0 && context->alpn_names != NULL && context->alpn_names[i] != NULL; i++)
        if (strlen(context->alpn_names[i]) == length && memcmp(context->alpn_names[i], chosen, length) == 0)
            return context->alpn_names[i];
    return "";
}

static const char *shown_server_name(const struct connection *connection)
{
    const char *name = connection->context->server ? SSL_get_servername(connection->ssl, TLSEXT_NAMETYPE_host_name)
                                                   : connection->server_name;

    return name == NULL ? "" : name;
}

void connection_info(const struct connection *connection, struct connection_info *ret)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(connection->ssl);

    *ret = (struct connection_info){
        .version = SSL_get_version(connection->ssl),
        .cipher = cipher == NULL ? "" : SSL_CIPHER_get_name(cipher),
        .alpn = alpn_name(connection),
        .server_name = shown_server_name(connection),
        .resumed = SSL_session_reused(connection->ssl) == 1,
        .hung_up = BIO_number_read(SSL_get_rbio(connection->ssl)) == 0 &&
                   (connection->wire.ended || connection->wire.failure == ECONNRESET),
        .certificate_requested = connection->certificate_requested,
        .signed_on_token = connection->proof.signed_on_token,
        .identity = connection->identity == NULL ? "" : identity_name(connection->identity),
        .mechanism = connection->proof.mechanism,
        .sign_ms = connection->proof.sign_ms,
        .sign_wait_ms = connection->proof.wait_ms,
        .handshake_ms = connection->handshake_ms,
        .own = connection->context->server ? SSL_get_certificate(connection->ssl) : NULL,
        .peer = SSL_get0_peer_certificate(connection->ssl),
        .peer_path = connection->verdict == NULL ? connection->peer_path : connection->verdict->path,
        .verdict = connection->verdict,
    };
}
