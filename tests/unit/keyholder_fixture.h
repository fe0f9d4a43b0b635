/*
 * A keyholder's threads within the test, over a token that the test plays; included by the tests of server.c, each of
 * which has its own. All waiting has a deadline.
 */
#ifndef TOKENTLS_TESTS_UNIT_KEYHOLDER_FIXTURE_H
#define TOKENTLS_TESTS_UNIT_KEYHOLDER_FIXTURE_H

#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/control.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/protocol.h"
#include "pkcs11/keyholder/server.h"

#include "base/clock.h"
#include "base/log.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* An event that does not come within this time fails the test. */
#define PATIENCE_MS 20000

/* The token: signatures wait at a gate until the test lets them through. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum token_state state;
    char why[64];
    enum error_category why_category;
    unsigned threads;
    bool key_missing;
    unsigned gate;          /* signatures that may pass; UINT32_MAX: all */
    unsigned entered, left; /* signatures that have begun and ended */
    unsigned inside;        /* calls inside now, and the most there ever were */
    unsigned most_inside;
    bool look_blocks, order_fails;
    unsigned looks, finds;
    bool events_block;
    unsigned events, asked; /* slot events that wait to be told; how often was asked */
    unsigned order[64];     /* first bytes of the hashes signed, in order */
    unsigned fail_next;
    X509 *certificate;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline void enter(void)
{
    fake.inside++;
    if (fake.inside > fake.most_inside)
        fake.most_inside = fake.inside;
}

static inline enum token_state fake_refresh(void *token, struct error *why)
{
    enum token_state state;

    (void)token;
    pthread_mutex_lock(&fake.lock);
    enter();
    fake.looks++;
    pthread_cond_broadcast(&fake.changed);
    while (fake.look_blocks)
        pthread_cond_wait(&fake.changed, &fake.lock);
    state = fake.state;
    if (state != TOKEN_READY)
        (void)error_set(why, fake.why_category, "%s", fake.why);
    fake.inside--;
    pthread_mutex_unlock(&fake.lock);
    return state;
}

static inline unsigned fake_threads(void *token)
{
    (void)token;
    return fake.threads;
}

static inline result fake_find_key(void *token, const struct keyholder_identity_config *identity, void **ret_key,
                                   struct error *err)
{
    bool missing;

    (void)token;
    pthread_mutex_lock(&fake.lock);
    fake.finds++;
    missing = fake.key_missing;
    pthread_mutex_unlock(&fake.lock);
    if (missing)
        return error_set(err, ERROR_TOKEN, "%s: nothing matches", identity->uri);
    *ret_key = &fake;
    return ERROR_NONE;
}

static inline void fake_key_free(void *key)
{
    (void)key;
}

static inline void fake_key_info(const void *key, struct token_key_info *ret)
{
    (void)key;
    *ret = (struct token_key_info){.type = KEY_TYPE_EC,
                                   .bits = 256,
                                   .schemes = {SCHEME_ECDSA_SHA256},
                                   .n_schemes = 1,
                                   .uri = "pkcs11:token=fake;object=key",
                                   .chain = &fake.certificate,
                                   .n_chain = 1};
}

static inline result fake_sign(void *key, const struct keyring_request *request, struct token_signature *ret,
                               struct error *err)
{
    bool fails;

    (void)key;
    pthread_mutex_lock(&fake.lock);
    enter();
    fake.order[fake.entered++ % 64] = request->message[98];
    pthread_cond_broadcast(&fake.changed);
    while (fake.gate == 0)
        pthread_cond_wait(&fake.changed, &fake.lock);
    if (fake.gate != UINT32_MAX)
        fake.gate--;
    fails = fake.fail_next > 0;
    if (fails)
        fake.fail_next--;
    fake.inside--;
    fake.left++;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    if (fails)
        return error_set(err, ERROR_TOKEN, "C_Sign: CKR_DEVICE_REMOVED");
    memcpy(ret->bytes, "signed", 6);
    ret->length = 6;
    ret->mechanism = "CKM_FAKE";
    return ERROR_NONE;
}

static inline enum token_event fake_poll_event(void *token)
{
    enum token_event event = TOKEN_EVENT_NONE;

    (void)token;
    pthread_mutex_lock(&fake.lock);
    fake.asked++;
    pthread_cond_broadcast(&fake.changed);
    while (fake.events_block)
        pthread_cond_wait(&fake.changed, &fake.lock);
    if (fake.events == UINT32_MAX) {
        event = TOKEN_EVENT_UNSUPPORTED;
    } else if (fake.events > 0) {
        fake.events--;
        event = TOKEN_EVENT_SLOT;
    }
    pthread_mutex_unlock(&fake.lock);
    return event;
}

static inline result fake_order(void *token, enum keyholder_order order, struct error *err)
{
    result r = ERROR_NONE;

    (void)token;
    pthread_mutex_lock(&fake.lock);
    enter();
    fake.state = order == KEYHOLDER_ORDER_LOCK ? TOKEN_LOCKED : TOKEN_READY;
    fake.why_category = ERROR_PIN;
    (void)snprintf(fake.why, sizeof(fake.why), "locked by a person");
    if (fake.order_fails)
        r = error_set(err, ERROR_TOKEN, "C_Logout failed");
    fake.inside--;
    pthread_mutex_unlock(&fake.lock);
    return r;
}

static const struct keyring_token_ops token_ops = {.refresh = fake_refresh,
                                                   .order = fake_order,
                                                   .threads = fake_threads,
                                                   .poll_event = fake_poll_event,
                                                   .find_key = fake_find_key,
                                                   .key_free = fake_key_free,
                                                   .key_info = fake_key_info,
                                                   .sign = fake_sign};

static const struct keyholder_identity_config identities[] = {{.name = "finance", .uri = "pkcs11:object=key"}};

/* A running server, the supervisor's end of its control socket, and the settings of the next start. */
static struct {
    struct server_config config;
    struct keyholder_process process;
    int control; /* the server's end */
    struct server *server;
    pthread_t thread;
    int status;
    bool joined;
} run;

static inline void *run_main(void *arg)
{
    (void)arg;
    run.status = server_run(run.server);
    return NULL;
}

static inline void start(void)
{
    int pair[2];
    struct error err = ERROR_INIT;

    assert_int_equal(packet_pair(pair, KEYHOLDER_MESSAGE_MAX, NULL), ERROR_NONE);
    run.process.control = pair[0];
    run.control = pair[1];
    run.config.control = pair[1];
    run.server = server_new(&run.config, &err);
    if (run.server == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(pthread_create(&run.thread, NULL, run_main, NULL), 0);
}

static inline int wait_status(void)
{
    if (!run.joined)
        assert_int_equal(pthread_join(run.thread, NULL), 0);
    run.joined = true;
    return run.status;
}

static inline void open_gate(unsigned n)
{
    pthread_mutex_lock(&fake.lock);
    fake.gate = n;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static inline void set_state(enum token_state state, enum error_category category, const char *why)
{
    pthread_mutex_lock(&fake.lock);
    fake.state = state;
    fake.why_category = category;
    (void)snprintf(fake.why, sizeof(fake.why), "%s", why);
    pthread_mutex_unlock(&fake.lock);
}

/* A counter of the fake. */
static inline unsigned peek(const unsigned *counter)
{
    unsigned n;

    pthread_mutex_lock(&fake.lock);
    n = *counter;
    pthread_mutex_unlock(&fake.lock);
    return n;
}

/* Until *counter has reached n; it is guarded by the fake's lock. */
static inline void wait_counter(const unsigned *counter, unsigned n)
{
    uint64_t deadline = clock_deadline(PATIENCE_MS);
    struct timespec at;

    pthread_mutex_lock(&fake.lock);
    while (*counter < n && clock_monotonic_ms() < deadline) {
        (void)clock_gettime(CLOCK_REALTIME, &at);
        at.tv_sec++;
        (void)pthread_cond_timedwait(&fake.changed, &fake.lock, &at);
    }
    if (*counter < n)
        fail_msg("%u of %u events", *counter, n);
    pthread_mutex_unlock(&fake.lock);
}

static inline X509 *make_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    assert_non_null(key);
    assert_int_equal(X509_set_version(certificate, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600));
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    EVP_PKEY_free(key);
    return certificate;
}

static inline int set_up(void **state)
{
    (void)state;
    fake.state = TOKEN_READY;
    fake.threads = 1;
    fake.key_missing = false;
    fake.gate = UINT32_MAX;
    fake.entered = fake.left = fake.inside = fake.most_inside = fake.looks = fake.finds = fake.fail_next = 0;
    fake.look_blocks = fake.order_fails = fake.events_block = false;
    fake.events = fake.asked = 0;
    memset(&run, 0, sizeof(run));
    run.config = (struct server_config){.keyring = {.ops = &token_ops,
                                                    .purpose = KEYHOLDER_PURPOSE_CLIENT,
                                                    .identities = identities,
                                                    .n_identities = 1},
                                        .poll_ms = 10};
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    pthread_mutex_lock(&fake.lock);
    fake.look_blocks = fake.events_block = false;
    pthread_mutex_unlock(&fake.lock);
    open_gate(UINT32_MAX);
    if (run.server == NULL)
        return 0;
    if (!run.joined)
        server_stop(run.server);
    (void)wait_status();
    assert_true(server_join(run.server, PATIENCE_MS));
    server_free(run.server);
    (void)close(run.process.control);
    (void)close(run.control);
    return 0;
}

/* A worker: either a real client or, where the protocol is to be broken, its bare socket. */
struct worker {
    struct keyholder_client *client;
    unsigned announced, gone;
    enum token_state state;
    enum error_category category;
    char reason[ERROR_TEXT_MAX];
};

static inline void on_identity(void *arg, const struct keyholder_identity *identity)
{
    struct worker *worker = arg;

    worker->announced++;
    worker->state = identity->state;
    worker->category = identity->category;
    (void)snprintf(worker->reason, sizeof(worker->reason), "%s", identity->reason);
}

static inline void on_gone(void *arg, const struct error *reason)
{
    struct worker *worker = arg;

    (void)reason;
    worker->gone++;
}

static const struct keyholder_client_events events = {.identity = on_identity, .gone = on_gone};

/* Serve the client's socket once, waiting for at most what is left until `deadline`. */
static inline void pump(struct worker *worker, uint64_t deadline)
{
    struct pollfd p = {.fd = keyholder_client_fd(worker->client), .events = POLLIN};

    if (keyholder_client_wants_write(worker->client))
        p.events |= POLLOUT;
    if (poll(&p, 1, (int)clock_remaining(deadline, PATIENCE_MS)) <= 0)
        fail_msg("nothing came from the keyholder");
    if ((p.revents & POLLOUT) != 0)
        keyholder_client_flush(worker->client);
    if ((p.revents & (POLLIN | POLLHUP)) != 0)
        keyholder_client_receive(worker->client);
}

#define PUMP_UNTIL(worker, condition)                                                                                  \
    do {                                                                                                               \
        uint64_t pump_deadline = clock_deadline(PATIENCE_MS);                                                          \
        while (!(condition))                                                                                           \
            pump((worker), pump_deadline);                                                                             \
    } while (0)

static inline void join_worker(struct worker *worker)
{
    int fd = -1;

    memset(worker, 0, sizeof(*worker));
    assert_int_equal(keyholder_link(&run.process, &fd, NULL), ERROR_NONE);
    worker->client = keyholder_client_new(fd, &events, worker, NULL);
    assert_non_null(worker->client);
    PUMP_UNTIL(worker, worker->announced > 0);
}

static inline void on_done(void *arg, struct sign_operation *operation)
{
    unsigned *count = arg;

    (void)operation;
    (*count)++;
}

/* A TLS 1.3 client CertificateVerify whose hash starts with `mark`. */
static inline size_t make_message(uint8_t *out, uint8_t mark)
{
    memset(out, 0x20, 64);
    memcpy(out + 64, "TLS 1.3, client CertificateVerify", 34);
    memset(out + 98, 0, 32);
    out[98] = mark;
    return 130;
}

static inline struct sign_operation *ask(struct worker *worker, uint8_t mark, uint32_t tunnel, uint64_t deadline,
                                         unsigned *count)
{
    uint8_t message[130];
    struct sign_request request = {.scheme = SCHEME_ECDSA_SHA256,
                                   .tunnel = tunnel,
                                   .deadline = deadline,
                                   .message = message,
                                   .length = make_message(message, mark),
                                   .done = on_done,
                                   .arg = count};
    struct error err = ERROR_INIT;
    struct sign_operation *op = keyholder_client_sign(worker->client, &request, &err);

    if (op == NULL) {
        fail_msg("%s", err.text);
        abort(); /* not reached; for the analyser */
    }
    return op;
}

static inline void next_event(struct keyholder_event *ret)
{
    struct pollfd p = {.fd = run.process.control, .events = POLLIN};

    if (poll(&p, 1, PATIENCE_MS) <= 0)
        fail_msg("the keyholder reports nothing");
    assert_true(keyholder_next_event(&run.process, ret));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

/* Of main(): the fake's certificate is there while the tests run. */
#define RUN_TESTS(tests)                                                                                               \
    do {                                                                                                               \
        int failed;                                                                                                    \
        log_setup("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, false);                                                    \
        fake.certificate = make_certificate();                                                                         \
        failed = cmocka_run_group_tests(tests, NULL, NULL);                                                            \
        X509_free(fake.certificate);                                                                                   \
        return failed;                                                                                                 \
    } while (0)

#endif
