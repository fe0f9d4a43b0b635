#include "client/probe_attempt.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "net/connector.h"
#include "tls/keylog.h"
#include "tls/libctx.h"
#include "tls/verify/name.h"
#include "tls/wire.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Weak ones too: what a server agrees to is the question, and nothing is sent that needs protection. */
#define CIPHERS "ALL:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=0"
#define SUITES                                                                                                         \
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:"               \
    "TLS_AES_128_CCM_8_SHA256"

/* After a ticket, a handshake without a question, or one of TLS 1.2, a refusal is the application's and comes at once.
 */
#define SHORT_WAIT_MS 1000

/* For the rest of a greeting that is not TLS. */
#define BANNER_WAIT_MS 500

#define RECORD_ALERT 21 /* RFC 8446 5.1 */
#define RECORD_HANDSHAKE 22

struct attempt {
    const struct probe_attempt_config *config;
    struct probe_attempt *ret;
    int fd;
    SSL_CTX *context;
    BIO_METHOD *method;
    struct wire wire;
    SSL *ssl;
    bool finished;        /* the handshake is over */
    struct error outcome; /* of connecting */
};

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct attempt *attempt = arg;

    (void)target;
    attempt->fd = fd;
    attempt->outcome = fd < 0 ? *err : (struct error)ERROR_INIT;
    loop_stop(attempt->config->loop);
}

static result connect_socket(struct attempt *attempt, struct error *err)
{
    const struct connector_config config = {.loop = attempt->config->loop,
                                            .targets = attempt->config->target,
                                            .n_targets = 1,
                                            .timeout_ms = attempt->config->timeout_ms,
                                            .done = connected,
                                            .arg = attempt};
    uint64_t before = clock_monotonic_ms();
    struct address_socket peer;

    if (connector_start(&config, err) == NULL)
        return err->category;
    loop_run(attempt->config->loop);
    attempt->ret->connect_ms = (uint32_t)(clock_monotonic_ms() - before);
    if (attempt->fd >= 0 && address_of_peer(attempt->fd, &peer, NULL) == ERROR_NONE)
        (void)address_socket_text(&peer, attempt->ret->address, sizeof(attempt->ret->address));
    return ERROR_NONE;
}

/* RFC 8446 4.1.3: version, random, session id, cipher suite. */
static void note_server_hello(struct attempt *attempt, const uint8_t *message, size_t length)
{
    struct reader reader;
    const SSL_CIPHER *cipher;
    uint8_t suite[2];

    reader_init(&reader, message, length);
    (void)reader_u32(&reader);
    (void)reader_bytes(&reader, 2 + 32);
    (void)reader_bytes(&reader, reader_u8(&reader));
    attempt->ret->suite = reader_u16(&reader);
    if (!reader_ok(&reader))
        return;
    suite[0] = (uint8_t)(attempt->ret->suite >> 8);
    suite[1] = (uint8_t)attempt->ret->suite;
    cipher = SSL_CIPHER_find(attempt->ssl, suite);
    if (cipher != NULL)
        (void)snprintf(attempt->ret->cipher, sizeof(attempt->ret->cipher), "%s", SSL_CIPHER_get_name(cipher));
}

/* lint: OpenSSL defines the parameters */
static void message_callback(int sent, int version, int type, const void *data, size_t length, SSL *ssl, void *arg)
{
    struct attempt *attempt = arg;
    const uint8_t *message = data;

    (void)version;
    (void)ssl;
    if (sent != 0)
        return;
    if (type == RECORD_ALERT && length == 2 && message[1] != SSL_AD_CLOSE_NOTIFY && message[1] != SSL_AD_USER_CANCELLED)
        attempt->ret->alert = message[1];
    if (type != RECORD_HANDSHAKE || length == 0)
        return;
    if (message[0] == SSL3_MT_SERVER_HELLO)
        note_server_hello(attempt, message, length);
    else if (message[0] == SSL3_MT_NEWSESSION_TICKET)
        attempt->ret->tickets++;
    else if (message[0] == SSL3_MT_HELLO_REQUEST || (message[0] == SSL3_MT_CERTIFICATE_REQUEST && attempt->finished))
        attempt->ret->asked_late = true;
    else if (message[0] == SSL3_MT_CERTIFICATE_REQUEST)
        attempt->ret->asked = true;
}

static int verify_callback(X509_STORE_CTX *store, void *arg)
{
    struct attempt *attempt = arg;

    if (attempt->ret->chain == NULL && X509_STORE_CTX_get0_untrusted(store) != NULL)
        attempt->ret->chain = X509_chain_up_ref(X509_STORE_CTX_get0_untrusted(store));
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

static void copy_issuers(struct probe_request *request, const STACK_OF(X509_NAME) * names)
{
    for (int i = 0; i < sk_X509_NAME_num(names); i++) {
        X509_NAME *copy = X509_NAME_dup(sk_X509_NAME_value(names, i));

        if (copy != NULL && sk_X509_NAME_push(request->issuers, copy) <= 0)
            X509_NAME_free(copy);
    }
}

/* The moment at which libssl knows the whole request. No certificate is given: an empty one is sent. */
static int certificate_callback(SSL *ssl, void *arg)
{
    struct attempt *attempt = arg;
    struct probe_request *request = &attempt->ret->request;
    const unsigned char *types = NULL;
    unsigned char low, high;
    size_t n_types;
    int n;

    if (request->issuers != NULL)
        return 1;
    request->issuers = sk_X509_NAME_new_null();
    if (request->issuers != NULL)
        copy_issuers(request, SSL_get0_peer_CA_list(ssl));
    n = SSL_get_sigalgs(ssl, 0, NULL, NULL, NULL, NULL, NULL);
    for (int i = 0; i < n && request->n_schemes < PROBE_SCHEMES_MAX; i++) {
        (void)SSL_get_sigalgs(ssl, i, NULL, NULL, NULL, &low, &high);
        request->schemes[request->n_schemes++] = (uint16_t)((high << 8) | low);
    }
    n_types = (size_t)SSL_get0_certificate_types(ssl, &types);
    for (size_t i = 0; types != NULL && i < n_types && i < PROBE_TYPES_MAX; i++)
        request->types[request->n_types++] = types[i];
    return 1;
}

static int session_callback(SSL *ssl, SSL_SESSION *session)
{
    struct attempt *attempt = SSL_get_app_data(ssl);

    SSL_SESSION_free(attempt->ret->session);
    attempt->ret->session = session;
    return 1;
}

static result make_context(struct attempt *attempt, struct error *err)
{
    const struct probe_attempt_config *config = attempt->config;
    SSL_CTX *context = SSL_CTX_new_ex(libctx_get(config->libctx), NULL, TLS_client_method());

    attempt->context = context;
    attempt->method = wire_method_new();
    if (context == NULL || attempt->method == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a TLS context");
    (void)SSL_CTX_set_options(context, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_NO_RENEGOTIATION);
    if (SSL_CTX_set_cipher_list(context, config->ciphers != NULL ? config->ciphers : CIPHERS) != 1 ||
        SSL_CTX_set_ciphersuites(context, config->suites != NULL ? config->suites : SUITES) != 1 ||
        SSL_CTX_set_min_proto_version(context, config->least) != 1 ||
        SSL_CTX_set_max_proto_version(context, config->most) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set versions and ciphers");
    if (config->alpn != NULL && SSL_CTX_set_alpn_protos(context, config->alpn, config->alpn_length) != 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set the ALPN protocols");
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_cert_verify_callback(context, verify_callback, attempt);
    SSL_CTX_set_cert_cb(context, certificate_callback, attempt);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, session_callback);
    SSL_CTX_set_post_handshake_auth(context, 1);
    keylog_attach(config->insecure_keylog, context);
    return ERROR_NONE;
}

/*
 * Keep what comes first: libssl tells of an answer that is not TLS that it is wrong, not what it was.
 * lint: OpenSSL defines the parameters
 */
static long note_bytes(BIO *bio, int operation, const char *data, size_t size, int argi, long argl, int ret,
                       size_t *processed)
{
    struct attempt *attempt = (struct attempt *)(void *)BIO_get_callback_arg(bio);
    struct probe_attempt *kept = attempt->ret;
    size_t n = processed != NULL ? *processed : 0;

    (void)size;
    (void)argi;
    (void)argl;
    if (operation != (BIO_CB_READ | BIO_CB_RETURN) || ret <= 0)
        return ret;
    if (n > sizeof(kept->banner) - kept->banner_length)
        n = sizeof(kept->banner) - kept->banner_length;
    memcpy(kept->banner + kept->banner_length, data, n);
    kept->banner_length += n;
    return ret;
}

static result make_ssl(struct attempt *attempt, struct error *err)
{
    const struct probe_attempt_config *config = attempt->config;
    BIO *bio;

    attempt->ssl = SSL_new(attempt->context);
    attempt->wire.fd = attempt->fd;
    bio = attempt->ssl != NULL ? wire_bio(attempt->method, &attempt->wire) : NULL;
    if (bio == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a TLS connection");
    BIO_set_callback_arg(bio, (char *)attempt);
    BIO_set_callback_ex(bio, note_bytes);
    SSL_set_bio(attempt->ssl, bio, bio);
    SSL_set_app_data(attempt->ssl, attempt);
    SSL_set_connect_state(attempt->ssl);
    SSL_set_msg_callback(attempt->ssl, message_callback);
    SSL_set_msg_callback_arg(attempt->ssl, attempt);
    (void)SSL_set_tlsext_status_type(attempt->ssl, TLSEXT_STATUSTYPE_ocsp);
    if (config->server_name != NULL && !name_is_address(config->server_name) &&
        SSL_set_tlsext_host_name(attempt->ssl, config->server_name) != 1)
        return error_set_openssl(err, ERROR_USAGE, "\"%.200s\" cannot be a server name", config->server_name);
    if (config->session != NULL && SSL_set_session(attempt->ssl, config->session) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot offer the session");
    return ERROR_NONE;
}

static bool wait_for(const struct attempt *attempt, int outcome, uint64_t deadline)
{
    struct pollfd fd = {.fd = attempt->fd, .events = outcome == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN};
    uint64_t left;
    int n;

    do {
        left = clock_remaining(deadline, INT_MAX);
        n = left > 0 ? poll(&fd, 1, (int)left) : 0; /* a server that never stops sending is late, too */
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

/* An alert or a handshake record of some version, and not our own ClientHello, which an echo service sends back. */
static bool looks_like_tls(const struct probe_attempt *attempt)
{
    const uint8_t *first = attempt->banner;

    if (attempt->banner_length > 5 && first[0] == RECORD_HANDSHAKE && first[5] == SSL3_MT_CLIENT_HELLO)
        return false;
    return (first[0] == RECORD_HANDSHAKE || first[0] == RECORD_ALERT) && (attempt->banner_length < 2 || first[1] == 3);
}

/* libssl has stopped after the first bytes: take what else is there, for a person to see. */
static void read_banner(struct attempt *attempt)
{
    struct probe_attempt *ret = attempt->ret;
    ssize_t n;

    ret->end = PROBE_NOT_TLS;
    ERR_clear_error();
    if (ret->banner_length == sizeof(ret->banner) ||
        !wait_for(attempt, SSL_ERROR_WANT_READ, clock_deadline(BANNER_WAIT_MS)))
        return;
    n = recv(attempt->fd, ret->banner + ret->banner_length, sizeof(ret->banner) - ret->banner_length, MSG_DONTWAIT);
    if (n > 0)
        ret->banner_length += (size_t)n;
}

static void describe_break(struct attempt *attempt, bool late)
{
    struct probe_attempt *ret = attempt->ret;

    if (ret->banner_length == 0) {
        ret->end = late ? PROBE_SILENT : PROBE_HUNG_UP;
    } else if (!looks_like_tls(ret)) {
        read_banner(attempt);
    } else if (ret->alert >= 0) {
        ret->end = PROBE_REFUSED;
    } else {
        ret->end = PROBE_BROKEN;
        if (late)
            (void)error_set(&ret->error, ERROR_IO, "time-out in the handshake");
        else if (attempt->wire.failure != 0)
            (void)error_set_errno(&ret->error, attempt->wire.failure, "the handshake");
        else if (attempt->wire.ended)
            (void)error_set(&ret->error, ERROR_CLOSED, "the server closed the connection in the handshake");
        else
            (void)error_set_openssl(&ret->error, ERROR_PROTOCOL, "the handshake failed");
    }
    ERR_clear_error();
}

static void shake_hands(struct attempt *attempt)
{
    uint64_t deadline = clock_deadline(attempt->config->timeout_ms), before = clock_monotonic_ms();
    struct probe_attempt *ret = attempt->ret;

    for (;;) {
        int n, outcome;

        ERR_clear_error();
        wire_turn(&attempt->wire);
        n = SSL_do_handshake(attempt->ssl);
        outcome = SSL_get_error(attempt->ssl, n);
        if (attempt->config->hello_only && ret->suite != 0) {
            ret->end = PROBE_CHOSEN;
            break;
        }
        if (outcome == SSL_ERROR_NONE) {
            ret->end = PROBE_FINISHED;
            ret->alert = -1; /* only a warning, then: unrecognized_name of TLS 1.2 */
            break;
        }
        if (outcome != SSL_ERROR_WANT_READ && outcome != SSL_ERROR_WANT_WRITE) {
            describe_break(attempt, false);
            return;
        }
        if (!wait_for(attempt, outcome, deadline)) {
            describe_break(attempt, true);
            return;
        }
    }
    ERR_clear_error();
    ret->handshake_ms = (uint32_t)(clock_monotonic_ms() - before);
}

static void note_group(struct attempt *attempt)
{
    struct probe_attempt *ret = attempt->ret;
    EVP_PKEY *key = NULL;
    const char *name = NULL;
    char group[48];

    if (SSL_get_peer_tmp_key(attempt->ssl, &key) != 1 || key == NULL)
        return;
    if (EVP_PKEY_is_a(key, "DH"))
        (void)snprintf(ret->group, sizeof(ret->group), "DH %d", EVP_PKEY_get_bits(key));
    else if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1)
        (void)snprintf(ret->group, sizeof(ret->group), "%s", group);
    else if ((name = EVP_PKEY_get0_type_name(key)) != NULL)
        (void)snprintf(ret->group, sizeof(ret->group), "%s", name);
    EVP_PKEY_free(key);
}

static void note_outcome(struct attempt *attempt)
{
    struct probe_attempt *ret = attempt->ret;
    const unsigned char *data = NULL;
    unsigned length = 0;
    long staple;

    if (ret->suite != 0)
        ret->version = SSL_version(attempt->ssl);
    if (ret->version == 0)
        return;
    note_group(attempt);
    ret->secure_renegotiation = SSL_get_secure_renegotiation_support(attempt->ssl) == 1;
    SSL_get0_alpn_selected(attempt->ssl, &data, &length);
    (void)text_escape(data != NULL ? (const char *)data : "", length, ret->alpn, sizeof(ret->alpn));
    if (ret->end != PROBE_FINISHED)
        return;
    ret->resumed = SSL_session_reused(attempt->ssl) == 1;
    staple = SSL_get_tlsext_status_ocsp_resp(attempt->ssl, &data);
    if (staple > 0 && data != NULL) {
        ret->staple = malloc((size_t)staple);
        if (ret->staple != NULL) {
            memcpy(ret->staple, data, (size_t)staple);
            ret->staple_length = (size_t)staple;
        }
    }
}

/* One look at what the server says: false when that ended the connection or is all that was waited for. */
static bool look(struct attempt *attempt, int *ret_outcome)
{
    struct probe_attempt *ret = attempt->ret;
    uint8_t byte;
    int n;

    ERR_clear_error();
    wire_turn(&attempt->wire);
    n = SSL_read(attempt->ssl, &byte, 1);
    *ret_outcome = SSL_get_error(attempt->ssl, n);
    ERR_clear_error();
    if (n > 0)
        ret->after = PROBE_AFTER_DATA;
    else if (*ret_outcome == SSL_ERROR_WANT_READ || *ret_outcome == SSL_ERROR_WANT_WRITE)
        return true;
    else
        ret->after = ret->alert >= 0 ? PROBE_AFTER_ALERT : PROBE_AFTER_CLOSE;
    return false;
}

static void watch(struct attempt *attempt)
{
    struct probe_attempt *ret = attempt->ret;
    uint64_t soon = clock_deadline(SHORT_WAIT_MS), deadline = clock_deadline(attempt->config->wait_ms);
    int outcome = SSL_ERROR_WANT_READ;

    if ((!ret->asked || ret->version < TLS1_3_VERSION) && soon < deadline)
        deadline = soon;
    attempt->finished = true;
    while (look(attempt, &outcome)) {
        if (ret->version >= TLS1_3_VERSION && ret->tickets > 0 && ret->after == PROBE_AFTER_NOTHING) {
            ret->after = PROBE_AFTER_TICKET;
            if (!ret->asked)
                return;
            deadline = clock_deadline(SHORT_WAIT_MS) < deadline ? clock_deadline(SHORT_WAIT_MS) : deadline;
        }
        if (!wait_for(attempt, outcome, deadline))
            return;
    }
}

result probe_attempt_run(const struct probe_attempt_config *config, struct probe_attempt *ret, struct error *err)
{
    struct attempt attempt = {.config = config, .ret = ret, .fd = -1};
    result r;

    *ret = (struct probe_attempt){.alert = -1};
    ERR_clear_error();
    r = connect_socket(&attempt, err);
    if (r == ERROR_NONE && attempt.fd < 0) {
        ret->end = PROBE_UNREACHABLE;
        ret->error = attempt.outcome;
        return ret->error.category == ERROR_INTERNAL ? error_set(err, ERROR_INTERNAL, "%s", ret->error.text)
                                                     : ERROR_NONE;
    }
    if (r == ERROR_NONE)
        r = make_context(&attempt, err);
    if (r == ERROR_NONE)
        r = make_ssl(&attempt, err);
    if (r == ERROR_NONE) {
        shake_hands(&attempt);
        note_outcome(&attempt);
        if (ret->end == PROBE_FINISHED && config->wait_ms > 0)
            watch(&attempt);
        if (ret->end == PROBE_FINISHED && ret->after < PROBE_AFTER_ALERT)
            (void)SSL_shutdown(attempt.ssl);
    }
    SSL_free(attempt.ssl);
    SSL_CTX_free(attempt.context);
    BIO_meth_free(attempt.method);
    if (attempt.fd >= 0)
        (void)close(attempt.fd);
    ERR_clear_error();
    return r;
}

void probe_attempt_clear(struct probe_attempt *attempt)
{
    if (attempt == NULL)
        return;
    sk_X509_NAME_pop_free(attempt->request.issuers, X509_NAME_free);
    sk_X509_pop_free(attempt->chain, X509_free);
    free(attempt->staple);
    SSL_SESSION_free(attempt->session);
    *attempt = (struct probe_attempt){.alert = -1};
}
