/* The keyholder's threads over a token that the test plays: order, refusals, removal, hanging. */
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
    bool look_blocks;
    unsigned looks, finds;
    unsigned order[64]; /* first bytes of the hashes signed, in order */
    unsigned fail_next;
    X509 *certificate;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void enter(void)
{
    fake.inside++;
    if (fake.inside > fake.most_inside)
        fake.most_inside = fake.inside;
}

static enum token_state fake_refresh(void *token, struct error *why)
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

static unsigned fake_threads(void *token)
{
    (void)token;
    return fake.threads;
}

static result fake_find_key(void *token, const struct keyholder_identity_config *identity, void **ret_key,
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

static void fake_key_free(void *key)
{
    (void)key;
}

static void fake_key_info(const void *key, struct token_key_info *ret)
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

static result fake_sign(void *key, const struct keyring_request *request, struct token_signature *ret,
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

static const struct keyring_token_ops token_ops = {.refresh = fake_refresh,
                                                   .threads = fake_threads,
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

static void *run_main(void *arg)
{
    (void)arg;
    run.status = server_run(run.server);
    return NULL;
}

static void start(void)
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

static int wait_status(void)
{
    if (!run.joined)
        assert_int_equal(pthread_join(run.thread, NULL), 0);
    run.joined = true;
    return run.status;
}

static void open_gate(unsigned n)
{
    pthread_mutex_lock(&fake.lock);
    fake.gate = n;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static void set_state(enum token_state state, enum error_category category, const char *why)
{
    pthread_mutex_lock(&fake.lock);
    fake.state = state;
    fake.why_category = category;
    (void)snprintf(fake.why, sizeof(fake.why), "%s", why);
    pthread_mutex_unlock(&fake.lock);
}

/* A counter of the fake. */
static unsigned peek(const unsigned *counter)
{
    unsigned n;

    pthread_mutex_lock(&fake.lock);
    n = *counter;
    pthread_mutex_unlock(&fake.lock);
    return n;
}

/* Until *counter has reached n; it is guarded by the fake's lock. */
static void wait_counter(const unsigned *counter, unsigned n)
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

static X509 *make_certificate(void)
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

static int set_up(void **state)
{
    (void)state;
    fake.state = TOKEN_READY;
    fake.threads = 1;
    fake.key_missing = false;
    fake.gate = UINT32_MAX;
    fake.entered = fake.left = fake.inside = fake.most_inside = fake.looks = fake.finds = fake.fail_next = 0;
    fake.look_blocks = false;
    memset(&run, 0, sizeof(run));
    run.config = (struct server_config){.keyring = {.ops = &token_ops,
                                                    .purpose = KEYHOLDER_PURPOSE_CLIENT,
                                                    .identities = identities,
                                                    .n_identities = 1},
                                        .poll_ms = 10};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pthread_mutex_lock(&fake.lock);
    fake.look_blocks = false;
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

static void on_identity(void *arg, const struct keyholder_identity *identity)
{
    struct worker *worker = arg;

    worker->announced++;
    worker->state = identity->state;
    worker->category = identity->category;
    (void)snprintf(worker->reason, sizeof(worker->reason), "%s", identity->reason);
}

static void on_gone(void *arg, const struct error *reason)
{
    struct worker *worker = arg;

    (void)reason;
    worker->gone++;
}

static const struct keyholder_client_events events = {.identity = on_identity, .gone = on_gone};

/* Serve the client's socket once, waiting for at most what is left until `deadline`. */
static void pump(struct worker *worker, uint64_t deadline)
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

static void join_worker(struct worker *worker)
{
    int fd = -1;

    memset(worker, 0, sizeof(*worker));
    assert_int_equal(keyholder_link(&run.process, &fd, NULL), ERROR_NONE);
    worker->client = keyholder_client_new(fd, &events, worker, NULL);
    assert_non_null(worker->client);
    PUMP_UNTIL(worker, worker->announced > 0);
}

static void on_done(void *arg, struct sign_operation *operation)
{
    unsigned *count = arg;

    (void)operation;
    (*count)++;
}

/* A TLS 1.3 client CertificateVerify whose hash starts with `mark`. */
static size_t make_message(uint8_t *out, uint8_t mark)
{
    memset(out, 0x20, 64);
    memcpy(out + 64, "TLS 1.3, client CertificateVerify", 34);
    memset(out + 98, 0, 32);
    out[98] = mark;
    return 130;
}

static struct sign_operation *ask(struct worker *worker, uint8_t mark, uint32_t tunnel, uint64_t deadline,
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

    if (op == NULL)
        fail_msg("%s", err.text);
    return op;
}

static void next_event(struct keyholder_event *ret)
{
    struct pollfd p = {.fd = run.process.control, .events = POLLIN};

    if (poll(&p, 1, PATIENCE_MS) <= 0)
        fail_msg("the keyholder reports nothing");
    assert_true(keyholder_next_event(&run.process, ret));
}

static void test_signs(void **state)
{
    struct worker worker;
    struct keyholder_event event;
    struct sign_operation *op;
    unsigned done = 0;

    (void)state;
    start();
    next_event(&event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_STATE);
    assert_int_equal(event.state, TOKEN_READY);
    assert_string_equal(event.identity, "finance");
    join_worker(&worker);
    assert_int_equal(worker.state, TOKEN_READY);
    op = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    PUMP_UNTIL(&worker, done == 1);
    assert_int_equal(op->state, SIGN_DONE);
    assert_memory_equal(op->signature, "signed", 6);
    assert_string_equal(op->mechanism, "CKM_FAKE");
    keyholder_client_release(op);
    keyholder_client_free(worker.client);
}

/* One thread: while it is busy the others wait; then the earliest deadline goes first, tunnels take turns. */
static void test_order(void **state)
{
    static const uint8_t expected[] = {9, 1, 4, 2, 5, 3};
    struct worker worker;
    struct sign_operation *ops[6];
    unsigned done = 0;
    uint64_t base = clock_monotonic_ms() + 1000000;

    (void)state;
    fake.gate = 0;
    start();
    join_worker(&worker);
    ops[0] = ask(&worker, 9, 7, base, &done);
    wait_counter(&fake.entered, 1);
    ops[1] = ask(&worker, 3, 1, base + 30, &done);
    ops[2] = ask(&worker, 1, 1, base + 10, &done);
    ops[3] = ask(&worker, 2, 1, base + 20, &done);
    ops[4] = ask(&worker, 5, 2, base + 60, &done);
    ops[5] = ask(&worker, 4, 2, base + 50, &done);
    { /* a request that is refused at once is answered after those before it were queued */
        uint8_t csr[100] = {0x30, 0x82};
        unsigned refused = 0;
        struct sign_request request = {.scheme = SCHEME_ECDSA_SHA256,
                                       .deadline = CLOCK_NEVER,
                                       .message = csr,
                                       .length = sizeof(csr),
                                       .done = on_done,
                                       .arg = &refused};
        struct sign_operation *op = keyholder_client_sign(worker.client, &request, NULL);

        assert_non_null(op);
        PUMP_UNTIL(&worker, refused == 1);
        assert_int_equal(op->state, SIGN_FAILED);
        assert_int_equal(op->error.category, ERROR_VERIFY);
        assert_non_null(strstr(op->error.text, "refused to sign"));
        keyholder_client_release(op);
    }
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done == 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(peek(&fake.order[i]), expected[i]);
        assert_int_equal(ops[i]->state, SIGN_DONE);
        keyholder_client_release(ops[i]);
    }
    assert_int_equal(peek(&fake.most_inside), 1); /* nor was the token looked at meanwhile */
    keyholder_client_free(worker.client);
}

static void test_threads(void **state)
{
    struct worker worker;
    struct sign_operation *ops[6];
    unsigned done = 0;

    (void)state;
    fake.threads = 3;
    fake.gate = 0;
    start();
    join_worker(&worker);
    for (uint8_t i = 0; i < 6; i++)
        ops[i] = ask(&worker, i, i, CLOCK_NEVER, &done);
    wait_counter(&fake.entered, 3);
    wait_counter(&fake.looks, peek(&fake.looks) + 2); /* the token is looked at while signatures hang */
    assert_int_equal(peek(&fake.entered), 3);
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done == 6);
    for (size_t i = 0; i < 6; i++)
        keyholder_client_release(ops[i]);
    keyholder_client_free(worker.client);
}

/* What is cancelled before it starts, or expires while it waits, never reaches the token. */
static void test_cancelled_and_expired(void **state)
{
    struct worker worker;
    struct sign_operation *busy, *cancelled, *expired, *last;
    unsigned done_busy = 0, done_cancelled = 0, done_expired = 0, done_last = 0;

    (void)state;
    fake.gate = 0;
    start();
    join_worker(&worker);
    busy = ask(&worker, 1, 1, CLOCK_NEVER, &done_busy);
    wait_counter(&fake.entered, 1);
    cancelled = ask(&worker, 2, 1, CLOCK_NEVER, &done_cancelled);
    expired = ask(&worker, 3, 1, clock_monotonic_ms(), &done_expired);
    keyholder_client_release(cancelled);
    PUMP_UNTIL(&worker, done_expired == 1); /* told while the token is still busy */
    assert_int_equal(expired->state, SIGN_FAILED);
    assert_non_null(strstr(expired->error.text, "deadline"));
    last = ask(&worker, 4, 1, CLOCK_NEVER, &done_last);
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done_last == 1);
    assert_int_equal(done_busy, 1);
    assert_int_equal(done_cancelled, 0);
    assert_int_equal(peek(&fake.entered), 2);
    assert_int_equal(peek(&fake.order[1]), 4);
    keyholder_client_release(busy);
    keyholder_client_release(expired);
    keyholder_client_release(last);
    keyholder_client_free(worker.client);
}

static void test_queue_full(void **state)
{
    struct worker worker;
    struct sign_operation *ops[4];
    unsigned done = 0, refused = 0;

    (void)state;
    fake.gate = 0;
    run.config.queue_max = 2;
    start();
    join_worker(&worker);
    ops[0] = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    wait_counter(&fake.entered, 1);
    ops[1] = ask(&worker, 2, 1, CLOCK_NEVER, &done);
    ops[2] = ask(&worker, 3, 1, CLOCK_NEVER, &done);
    ops[3] = ask(&worker, 4, 1, CLOCK_NEVER, &refused);
    PUMP_UNTIL(&worker, refused == 1);
    assert_int_equal(ops[3]->state, SIGN_FAILED);
    assert_int_equal(ops[3]->error.category, ERROR_TOKEN);
    assert_non_null(strstr(ops[3]->error.text, "queue is full"));
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done == 3);
    for (size_t i = 0; i < 4; i++)
        keyholder_client_release(ops[i]);
    keyholder_client_free(worker.client);
}

/* The client keeps to its credit by itself; the keyholder never sees more. */
static void test_credit(void **state)
{
    struct worker worker;
    struct sign_operation *ops[40];
    unsigned done = 0;

    (void)state;
    run.config.credit = 3;
    run.config.queue_max = 2; /* of three one is with the token */
    fake.gate = 0;
    start();
    join_worker(&worker);
    ops[0] = ask(&worker, 0, 1, CLOCK_NEVER, &done);
    wait_counter(&fake.entered, 1);
    for (uint8_t i = 1; i < 40; i++)
        ops[i] = ask(&worker, i, 1, CLOCK_NEVER, &done);
    assert_int_equal(keyholder_client_outstanding(worker.client), 40);
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done == 40);
    for (size_t i = 0; i < 40; i++) {
        /* a RESULT and the next SIGN may cross: at that moment two wait and one more comes */
        assert_true(ops[i]->state == SIGN_DONE || strstr(ops[i]->error.text, "queue is full") != NULL);
        keyholder_client_release(ops[i]);
    }
    assert_int_equal(worker.gone, 0);
    keyholder_client_free(worker.client);
}

/* Removal and return: announced to workers and supervisor, refused at once meanwhile, works again afterwards. */
static void test_absent_and_back(void **state)
{
    struct worker worker;
    struct keyholder_event event;
    struct sign_request request = {.message = (const uint8_t *)"m", .length = 1, .done = on_done};
    struct error err = ERROR_INIT;
    struct sign_operation *op;
    unsigned done = 0;

    (void)state;
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "no token is there");
    start();
    next_event(&event);
    assert_int_equal(event.state, TOKEN_ABSENT);
    assert_int_equal(event.category, ERROR_TOKEN);
    assert_string_equal(event.text, "no token is there");
    join_worker(&worker);
    assert_int_equal(worker.state, TOKEN_ABSENT);
    assert_null(keyholder_client_sign(worker.client, &request, &err));
    assert_string_equal(err.text, "no token is there");
    set_state(TOKEN_LOCKED, ERROR_PIN, "the PIN was wrong");
    PUMP_UNTIL(&worker, worker.state == TOKEN_LOCKED);
    assert_int_equal(worker.category, ERROR_PIN);
    assert_int_equal(peek(&fake.finds), 0);
    set_state(TOKEN_READY, ERROR_NONE, "");
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    op = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    PUMP_UNTIL(&worker, done == 1);
    assert_int_equal(op->state, SIGN_DONE);
    keyholder_client_release(op);
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "pulled out");
    PUMP_UNTIL(&worker, worker.state == TOKEN_ABSENT);
    assert_null(keyholder_client_sign(worker.client, &request, &err));
    assert_string_equal(err.text, "pulled out");
    set_state(TOKEN_READY, ERROR_NONE, "");
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    assert_int_equal(peek(&fake.finds), 1); /* a found key outlives its token's absence */
    keyholder_client_free(worker.client);
}

/* A URI that fits nothing stays an error, looked for again only when the token has changed. */
static void test_key_missing(void **state)
{
    struct worker worker;

    (void)state;
    fake.key_missing = true;
    start();
    join_worker(&worker);
    assert_int_equal(worker.state, TOKEN_FAILED);
    assert_int_equal(worker.category, ERROR_TOKEN);
    assert_string_equal(worker.reason, "pkcs11:object=key: nothing matches");
    wait_counter(&fake.looks, 5);
    assert_int_equal(peek(&fake.finds), 1);
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "gone");
    PUMP_UNTIL(&worker, worker.state == TOKEN_ABSENT);
    pthread_mutex_lock(&fake.lock);
    fake.key_missing = false;
    fake.state = TOKEN_READY;
    pthread_mutex_unlock(&fake.lock);
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    assert_int_equal(peek(&fake.finds), 2);
    keyholder_client_free(worker.client);
}

/* A failing signature makes the token looked at now, not at the next poll. */
static void test_failure_makes_look(void **state)
{
    struct worker worker;
    struct sign_operation *op;
    unsigned done = 0;

    (void)state;
    run.config.poll_ms = 3600000;
    fake.fail_next = 1;
    start();
    join_worker(&worker);
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "pulled out");
    op = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    PUMP_UNTIL(&worker, done == 1 && worker.state == TOKEN_ABSENT);
    assert_int_equal(op->state, SIGN_FAILED);
    assert_string_equal(op->error.text, "C_Sign: CKR_DEVICE_REMOVED");
    keyholder_client_release(op);
    keyholder_client_free(worker.client);
}

static void test_hang(void **state)
{
    struct worker worker;
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_STATE};
    struct sign_operation *ops[3];
    unsigned done = 0;

    (void)state;
    fake.gate = 0;
    run.config.sign_timeout_ms = 20;
    start();
    join_worker(&worker);
    for (uint8_t i = 0; i < 3; i++)
        ops[i] = ask(&worker, i, 1, CLOCK_NEVER, &done);
    PUMP_UNTIL(&worker, done == 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ops[i]->state, SIGN_FAILED);
        assert_non_null(strstr(ops[i]->error.text, "sign-timeout of 20 ms"));
        keyholder_client_release(ops[i]);
    }
    while (event.kind == KEYHOLDER_EVENT_STATE)
        next_event(&event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_HUNG);
    assert_string_equal(event.identity, "finance");
    assert_int_equal(wait_status(), KEYHOLDER_EXIT_HUNG);
    assert_false(server_join(run.server, 1)); /* the thread is inside still */
    assert_int_equal(peek(&fake.entered), 1);
    keyholder_client_free(worker.client);
}

static void test_look_hangs(void **state)
{
    struct keyholder_event event;

    (void)state;
    fake.look_blocks = true;
    run.config.look_timeout_ms = 20;
    start();
    next_event(&event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_HUNG);
    assert_non_null(strstr(event.text, "module has not answered"));
    assert_int_equal(wait_status(), KEYHOLDER_EXIT_HUNG);
}

/* Requests of a worker that is gone are not signed; the others' are. */
static void test_worker_dies(void **state)
{
    struct worker dying, living;
    struct sign_operation *ops[3];
    unsigned done_dying = 0, done_living = 0, refused = 0;
    struct sign_operation *op;

    (void)state;
    fake.gate = 0;
    run.config.queue_max = 2;
    start();
    join_worker(&dying);
    join_worker(&living);
    ops[0] = ask(&dying, 1, 1, CLOCK_NEVER, &done_dying);
    wait_counter(&fake.entered, 1);
    ops[1] = ask(&dying, 2, 1, CLOCK_NEVER, &done_dying);
    ops[2] = ask(&dying, 3, 1, CLOCK_NEVER, &done_dying);
    keyholder_client_free(dying.client);
    assert_int_equal(done_dying, 3);
    for (size_t i = 0; i < 3; i++)
        keyholder_client_release(ops[i]);
    do { /* until the keyholder has seen it: the queue was full of the dead one's requests */
        refused = 0;
        op = ask(&living, 8, 1, clock_monotonic_ms(), &refused);
        PUMP_UNTIL(&living, refused == 1);
        refused = strstr(op->error.text, "queue is full") != NULL;
        keyholder_client_release(op);
    } while (refused);
    op = ask(&living, 4, 1, CLOCK_NEVER, &done_living);
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&living, done_living == 1);
    assert_int_equal(op->state, SIGN_DONE);
    assert_int_equal(peek(&fake.entered), 2);
    assert_int_equal(peek(&fake.order[1]), 4);
    keyholder_client_release(op);
    keyholder_client_free(living.client);
}

/* The bare socket of a worker that breaks the protocol. */
static int join_bare(void)
{
    int fd = -1;

    assert_int_equal(keyholder_link(&run.process, &fd, NULL), ERROR_NONE);
    return fd;
}

/* Whatever the keyholder has said until it closes the socket. */
static void expect_cut_off(int fd)
{
    static uint8_t data[KEYHOLDER_MESSAGE_MAX];
    size_t length = 0;
    enum packet_status status;

    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, PATIENCE_MS) <= 0)
            fail_msg("the socket stays open");
        status = packet_receive(fd, data, sizeof(data), &length, NULL, NULL);
    } while (status == PACKET_OK || status == PACKET_AGAIN);
    assert_int_equal(status, PACKET_END);
    (void)close(fd);
}

static void send_bytes(int fd, const void *data, size_t length)
{
    assert_int_equal(packet_send(fd, data, length, -1, NULL), PACKET_OK);
}

static void test_broken_workers(void **state)
{
    static uint8_t big[KEYHOLDER_MESSAGE_MAX + 1];
    struct worker worker;
    struct buffer out;
    uint8_t message[130];
    struct protocol_sign sign = {.id = 1,
                                 .scheme = SCHEME_ECDSA_SHA256,
                                 .deadline = CLOCK_NEVER,
                                 .message = message,
                                 .length = make_message(message, 1)};
    struct sign_operation *op;
    unsigned done = 0;
    int fd;

    (void)state;
    run.config.credit = 2;
    fake.gate = 0;
    start();
    join_worker(&worker); /* goes on working after all of them */
    buffer_init(&out, KEYHOLDER_MESSAGE_MAX);
    fd = join_bare();
    send_bytes(fd, "garbage", 7);
    expect_cut_off(fd);
    fd = join_bare();
    send_bytes(fd, big, sizeof(big));
    expect_cut_off(fd);
    fd = join_bare();
    protocol_encode_credit(&out, 1); /* not a worker's message */
    send_bytes(fd, out.data, out.length);
    expect_cut_off(fd);
    fd = join_bare();
    protocol_encode_sign(&out, &sign);
    send_bytes(fd, out.data, out.length);
    send_bytes(fd, out.data, out.length); /* the same number again */
    expect_cut_off(fd);
    fd = join_bare();
    for (sign.id = 1; sign.id <= 3; sign.id++) { /* more than the credit */
        protocol_encode_sign(&out, &sign);
        send_bytes(fd, out.data, out.length);
    }
    expect_cut_off(fd);
    buffer_free(&out);
    op = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done == 1);
    assert_int_equal(op->state, SIGN_DONE);
    keyholder_client_release(op);
    keyholder_client_free(worker.client);
}

/* A key number that was never announced is refused, not looked up. */
static void test_unknown_key(void **state)
{
    struct protocol_message got = {.type = PROTOCOL_HELLO};
    static uint8_t data[KEYHOLDER_MESSAGE_MAX];
    struct buffer out;
    struct protocol_sign sign = {
        .id = 5, .key = 255, .deadline = CLOCK_NEVER, .message = (const uint8_t *)"m", .length = 1};
    size_t length = 0;
    int fd;

    (void)state;
    start();
    fd = join_bare();
    buffer_init(&out, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_sign(&out, &sign);
    send_bytes(fd, out.data, out.length);
    buffer_free(&out);
    while (got.type != PROTOCOL_RESULT) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, PATIENCE_MS) <= 0)
            fail_msg("no answer");
        assert_int_equal(packet_receive(fd, data, sizeof(data), &length, NULL, NULL), PACKET_OK);
        assert_int_equal(protocol_decode(data, length, &got, NULL), ERROR_NONE);
    }
    assert_true(got.result.id == 5 && !got.result.ok);
    assert_non_null(strstr(got.result.reason, "no key has the number 255"));
    (void)close(fd);
}

static void test_supervisor_ends(void **state)
{
    (void)state;
    start();
    (void)shutdown(run.process.control, SHUT_RDWR);
    assert_int_equal(wait_status(), 0);
}

static void test_supervisor_breaks_protocol(void **state)
{
    (void)state;
    start();
    send_bytes(run.process.control, "{\"type\":\"nothing\"}", 18);
    assert_int_equal(wait_status(), 70);
}

/* What comes with LINK must be what it should be; the keyholder lives on. */
static void test_wrong_descriptor(void **state)
{
    struct worker worker;
    int fds[2];

    (void)state;
    start();
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(keyholder_pass_link(&run.process, fds[0], NULL), ERROR_NONE);
    (void)close(fds[0]);
    (void)close(fds[1]);
    join_worker(&worker);
    assert_int_equal(worker.state, TOKEN_READY);
    keyholder_client_free(worker.client);
}

static void test_refused_settings(void **state)
{
    static const struct keyholder_identity_config twins[] = {{.name = "a", .uri = "pkcs11:"},
                                                             {.name = "a", .uri = "pkcs11:"}};
    static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123";
    static const struct keyholder_identity_config too_long[] = {{.name = long_name, .uri = "pkcs11:"}};
    struct error err = ERROR_INIT;

    (void)state;
    run.config.keyring.identities = twins;
    run.config.keyring.n_identities = 2;
    assert_null(server_new(&run.config, &err));
    assert_non_null(strstr(err.text, "there twice"));
    run.config.keyring.identities = too_long;
    run.config.keyring.n_identities = 1;
    assert_null(server_new(&run.config, &err));
    assert_non_null(strstr(err.text, "longer than 63 bytes"));
    run.config.keyring.n_identities = 0;
    assert_null(server_new(&run.config, &err));
    assert_int_equal(err.category, ERROR_CONFIG);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_signs),
        CASE(test_order),
        CASE(test_threads),
        CASE(test_cancelled_and_expired),
        CASE(test_queue_full),
        CASE(test_credit),
        CASE(test_absent_and_back),
        CASE(test_key_missing),
        CASE(test_failure_makes_look),
        CASE(test_hang),
        CASE(test_look_hangs),
        CASE(test_worker_dies),
        CASE(test_broken_workers),
        CASE(test_unknown_key),
        CASE(test_supervisor_ends),
        CASE(test_supervisor_breaks_protocol),
        CASE(test_wrong_descriptor),
        CASE(test_refused_settings),
    };
    int failed;

    log_setup("test", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, false);
    fake.certificate = make_certificate();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    X509_free(fake.certificate);
    return failed;
}
