/* The keyholder and those who break its rules: workers, the supervisor, settings. */
#include "keyholder_fixture.h"

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
        status = packet_receive(fd, data, sizeof(data), &length, NULL);
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
        assert_int_equal(packet_receive(fd, data, sizeof(data), &length, NULL), PACKET_OK);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_worker_dies),
        CASE(test_broken_workers),
        CASE(test_unknown_key),
        CASE(test_supervisor_ends),
        CASE(test_supervisor_breaks_protocol),
        CASE(test_wrong_descriptor),
        CASE(test_refused_settings),
    };

    RUN_TESTS(tests);
}
