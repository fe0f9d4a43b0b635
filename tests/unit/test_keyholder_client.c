/* The worker's client against a keyholder that the test plays, on the other end of a socket pair. */
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/protocol.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define OPERATIONS 8

struct seen {
    struct keyholder_client *client;
    int peer; /* the keyholder's end */
    unsigned identities, gone;
    enum token_state last_state;
    struct error reason;
    unsigned done[OPERATIONS];
    bool release_in_done;
    struct sign_operation *also_release; /* another one, from within done */
    struct buffer out;
    uint8_t received[KEYHOLDER_MESSAGE_MAX];
};

static void on_identity(void *arg, const struct keyholder_identity *identity)
{
    struct seen *seen = arg;

    seen->identities++;
    seen->last_state = identity->state;
}

static void on_gone(void *arg, const struct error *reason)
{
    struct seen *seen = arg;

    seen->gone++;
    seen->reason = *reason;
}

static const struct keyholder_client_events events = {.identity = on_identity, .gone = on_gone};

static int set_up(void **state)
{
    struct seen *seen = calloc(1, sizeof(*seen));
    int fds[2];

    assert_non_null(seen);
    assert_int_equal(packet_pair(fds, KEYHOLDER_MESSAGE_MAX, NULL), ERROR_NONE);
    seen->peer = fds[1];
    seen->client = keyholder_client_new(fds[0], &events, seen, NULL);
    assert_non_null(seen->client);
    buffer_init(&seen->out, KEYHOLDER_MESSAGE_MAX);
    *state = seen;
    return 0;
}

static int tear_down(void **state)
{
    struct seen *seen = *state;

    keyholder_client_free(seen->client);
    if (seen->peer >= 0)
        (void)close(seen->peer);
    buffer_free(&seen->out);
    free(seen);
    return 0;
}

static void say(struct seen *seen)
{
    assert_true(buffer_ok(&seen->out));
    assert_int_equal(packet_send(seen->peer, seen->out.data, seen->out.length, -1, NULL), PACKET_OK);
}

static void say_raw(struct seen *seen, const void *data, size_t length)
{
    assert_int_equal(packet_send(seen->peer, data, length, -1, NULL), PACKET_OK);
}

static void say_identity(struct seen *seen, uint32_t key, enum token_state state, const char *reason)
{
    static const uint8_t der[] = "certificate";
    struct keyholder_identity identity = {.name = "finance", .key = key, .state = state};

    if (state == TOKEN_READY) {
        identity.n_schemes = 1;
        identity.schemes[0] = SCHEME_ECDSA_SHA256;
        identity.n_chain = 1;
        identity.chain[0] = der;
        identity.chain_length[0] = sizeof(der);
    } else {
        identity.category = ERROR_PIN;
        (void)snprintf(identity.reason, sizeof(identity.reason), "%s", reason);
    }
    protocol_encode_identity(&seen->out, &identity);
    say(seen);
}

static void say_started(struct seen *seen, uint64_t id)
{
    protocol_encode_started(&seen->out, id);
    say(seen);
}

static void say_result(struct seen *seen, uint64_t id, bool ok)
{
    struct protocol_result r = {.id = id, .ok = ok};

    if (ok) {
        r.signature = (const uint8_t *)"signature";
        r.signature_length = 9;
        (void)strcpy(r.mechanism, "CKM_ECDSA");
        r.sign_ms = 12;
    } else {
        r.category = ERROR_TOKEN;
        (void)strcpy(r.reason, "CKR_DEVICE_REMOVED");
    }
    protocol_encode_result(&seen->out, &r);
    say(seen);
}

static void say_credit(struct seen *seen, uint32_t credit)
{
    protocol_encode_credit(&seen->out, credit);
    say(seen);
}

/* HELLO, one ready identity with number 0, so much credit. */
static void greet(struct seen *seen, uint32_t credit)
{
    protocol_encode_hello(&seen->out, 2);
    say(seen);
    say_identity(seen, 0, TOKEN_READY, NULL);
    if (credit > 0)
        say_credit(seen, credit);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->gone, 0);
}

/* The next message the client has sent; PACKET_AGAIN is "none" and false. */
static bool hear(struct seen *seen, struct protocol_message *ret)
{
    size_t length = 0;

    if (packet_receive(seen->peer, seen->received, sizeof(seen->received), &length, NULL) != PACKET_OK)
        return false;
    assert_int_equal(protocol_decode(seen->received, length, ret, NULL), ERROR_NONE);
    return true;
}

static uint64_t hear_sign(struct seen *seen)
{
    struct protocol_message m = {.type = PROTOCOL_HELLO};

    assert_true(hear(seen, &m));
    assert_int_equal(m.type, PROTOCOL_SIGN);
    return m.sign.id;
}

static void hear_nothing(struct seen *seen)
{
    struct protocol_message m = {.type = PROTOCOL_HELLO};

    assert_false(hear(seen, &m));
}

/* Which of the test's operations; the number stands in the request's argument. */
struct slot {
    struct seen *seen;
    unsigned number;
};

static void on_done(void *arg, struct sign_operation *operation)
{
    struct slot *slot = arg;
    struct sign_operation *other = slot->seen->also_release;

    slot->seen->done[slot->number]++;
    assert_true(operation->state == SIGN_DONE || operation->state == SIGN_FAILED);
    slot->seen->also_release = NULL;
    keyholder_client_release(other);
    if (slot->seen->release_in_done)
        keyholder_client_release(operation);
}

static struct sign_operation *ask(struct seen *seen, struct slot *slot, uint64_t deadline, struct error *err)
{
    struct sign_request request = {.key = 0,
                                   .scheme = SCHEME_ECDSA_SHA256,
                                   .tunnel = 5,
                                   .deadline = deadline,
                                   .message = (const uint8_t *)"message",
                                   .length = 7,
                                   .done = on_done,
                                   .arg = slot};

    slot->seen = seen;
    return keyholder_client_sign(seen->client, &request, err);
}

static void expect_gone(struct seen *seen, const char *text)
{
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->gone, 1);
    assert_int_equal(seen->reason.category, ERROR_TOKEN);
    if (strstr(seen->reason.text, text) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", seen->reason.text, text);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->gone, 1); /* once */
}

static void test_sign(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct sign_operation *op;
    struct protocol_message m = {.type = PROTOCOL_HELLO};

    greet(seen, 1);
    assert_int_equal(seen->identities, 1);
    assert_int_equal(seen->last_state, TOKEN_READY);
    op = ask(seen, &slot, 1234567, NULL);
    assert_non_null(op);
    assert_int_equal(op->state, SIGN_QUEUED);
    assert_true(hear(seen, &m));
    assert_int_equal(m.type, PROTOCOL_SIGN);
    assert_int_equal(m.sign.tunnel, 5);
    assert_int_equal(m.sign.deadline, 1234567);
    assert_int_equal(m.sign.scheme, SCHEME_ECDSA_SHA256);
    assert_int_equal(m.sign.length, 7);
    assert_memory_equal(m.sign.message, "message", 7);
    say_started(seen, m.sign.id);
    keyholder_client_receive(seen->client);
    assert_int_equal(op->state, SIGN_STARTED);
    assert_int_equal(seen->done[0], 0);
    assert_int_equal(keyholder_client_outstanding(seen->client), 1);
    say_result(seen, m.sign.id, true);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->done[0], 1);
    assert_int_equal(op->state, SIGN_DONE);
    assert_int_equal(op->signature_length, 9);
    assert_memory_equal(op->signature, "signature", 9);
    assert_string_equal(op->mechanism, "CKM_ECDSA");
    assert_int_equal(op->sign_ms, 12);
    assert_int_equal(keyholder_client_outstanding(seen->client), 0);
    keyholder_client_release(op);
    hear_nothing(seen);
}

static void test_failed_result(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct sign_operation *op;

    greet(seen, 1);
    op = ask(seen, &slot, 1, NULL);
    say_result(seen, hear_sign(seen), false); /* before STARTED: refused, expired */
    keyholder_client_receive(seen->client);
    assert_int_equal(op->state, SIGN_FAILED);
    assert_int_equal(op->error.category, ERROR_TOKEN);
    assert_string_equal(op->error.text, "CKR_DEVICE_REMOVED");
    keyholder_client_release(op);
}

/* Beyond the credit requests wait here, in the order of their deadlines; each RESULT lets one go. */
static void test_credit(void **state)
{
    struct seen *seen = *state;
    struct slot slots[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    struct sign_operation *ops[3];
    uint64_t first;

    greet(seen, 1);
    ops[0] = ask(seen, &slots[0], 100, NULL);
    ops[1] = ask(seen, &slots[1], 300, NULL);
    ops[2] = ask(seen, &slots[2], 200, NULL);
    first = hear_sign(seen);
    hear_nothing(seen);
    assert_int_equal(keyholder_client_outstanding(seen->client), 3);
    say_started(seen, first);
    say_result(seen, first, true);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->done[0], 1);
    say_result(seen, hear_sign(seen), false);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->done[2], 1);
    assert_int_equal(seen->done[1], 0);
    say_result(seen, hear_sign(seen), false);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->done[1], 1);
    for (size_t i = 0; i < 3; i++)
        keyholder_client_release(ops[i]);
}

static void test_not_usable(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct error err = ERROR_INIT;
    struct sign_request request = {.key = 1, .message = (const uint8_t *)"m", .length = 1, .done = on_done};

    assert_null(ask(seen, &slot, 1, &err)); /* before HELLO */
    assert_int_equal(err.category, ERROR_TOKEN);
    assert_non_null(strstr(err.text, "announced no key"));
    greet(seen, 1);
    assert_null(keyholder_client_sign(seen->client, &request, &err)); /* counted in HELLO, not announced */
    assert_non_null(strstr(err.text, "number 1"));
    request.key = 4000000000U;
    assert_null(keyholder_client_sign(seen->client, &request, &err));
    request.key = 0;
    request.length = 0;
    assert_null(keyholder_client_sign(seen->client, &request, &err));
    assert_int_equal(err.category, ERROR_PROTOCOL);
    request.length = KEYHOLDER_SIGN_MAX + 1;
    assert_null(keyholder_client_sign(seen->client, &request, &err));
    assert_non_null(strstr(err.text, "65537"));
    say_identity(seen, 0, TOKEN_LOCKED, "PIN was wrong before");
    keyholder_client_receive(seen->client);
    assert_null(ask(seen, &slot, 1, &err));
    assert_int_equal(err.category, ERROR_PIN);
    assert_string_equal(err.text, "PIN was wrong before");
    say_identity(seen, 0, TOKEN_READY, NULL);
    keyholder_client_receive(seen->client);
    {
        struct sign_operation *op = ask(seen, &slot, 1, &err);

        assert_non_null(op);
        keyholder_client_release(op);
    }
    assert_int_equal(seen->done[0], 0);
}

/* Released: never `done`; the keyholder is told, and its RESULT is taken without a word. */
static void test_release(void **state)
{
    struct seen *seen = *state;
    struct slot slots[2] = {{.number = 0}, {.number = 1}};
    struct sign_operation *sent, *waiting;
    struct protocol_message m = {.type = PROTOCOL_HELLO};
    uint64_t id;

    greet(seen, 1);
    sent = ask(seen, &slots[0], 1, NULL);
    waiting = ask(seen, &slots[1], 2, NULL);
    id = hear_sign(seen);
    keyholder_client_release(waiting);
    hear_nothing(seen); /* it had never been sent */
    keyholder_client_release(sent);
    assert_true(hear(seen, &m));
    assert_int_equal(m.type, PROTOCOL_CANCEL);
    assert_true(m.id == id);
    assert_int_equal(keyholder_client_outstanding(seen->client), 0);
    say_started(seen, id); /* it was too late for the CANCEL */
    say_result(seen, id, true);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->gone, 0);
    assert_int_equal(seen->done[0] + seen->done[1], 0);
    sent = ask(seen, &slots[0], 1, NULL); /* and its credit is back */
    (void)hear_sign(seen);
    keyholder_client_release(sent);
    keyholder_client_release(NULL);
}

static void test_release_from_done(void **state)
{
    struct seen *seen = *state;
    struct slot slots[2] = {{.number = 0}, {.number = 1}};

    greet(seen, 2);
    seen->release_in_done = true;
    assert_non_null(ask(seen, &slots[0], 1, NULL));
    seen->also_release = ask(seen, &slots[1], 2, NULL);
    say_result(seen, hear_sign(seen), false);
    keyholder_client_receive(seen->client);
    assert_int_equal(seen->done[0], 1);
    assert_int_equal(seen->done[1], 0);
    assert_int_equal(keyholder_client_outstanding(seen->client), 0);
}

/* The keyholder dies: what is sent and what waits fails, each once, with the reason. */
static void test_death(void **state)
{
    struct seen *seen = *state;
    struct slot slots[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct sign_operation *ops[4];
    struct error err = ERROR_INIT;

    greet(seen, 2);
    for (size_t i = 0; i < 4; i++)
        ops[i] = ask(seen, &slots[i], 100 + i, NULL);
    keyholder_client_release(ops[1]);
    (void)close(seen->peer);
    seen->peer = -1;
    expect_gone(seen, "the keyholder has ended");
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(seen->done[i], i == 1 ? 0 : 1);
        if (i == 1)
            continue;
        assert_int_equal(ops[i]->state, SIGN_FAILED);
        assert_int_equal(ops[i]->error.category, ERROR_TOKEN);
        assert_non_null(strstr(ops[i]->error.text, "keyholder has ended"));
        keyholder_client_release(ops[i]);
    }
    assert_null(ask(seen, &slots[0], 1, &err));
    assert_non_null(strstr(err.text, "keyholder has ended"));
    assert_false(keyholder_client_wants_write(seen->client));
}

/* A RESULT that was sent before the death still counts. */
static void test_last_words(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct sign_operation *op;
    uint64_t id;

    greet(seen, 1);
    op = ask(seen, &slot, 1, NULL);
    id = hear_sign(seen);
    say_started(seen, id);
    say_result(seen, id, true);
    (void)close(seen->peer);
    seen->peer = -1;
    expect_gone(seen, "the keyholder has ended");
    assert_int_equal(op->state, SIGN_DONE);
    assert_int_equal(seen->done[0], 1);
    keyholder_client_release(op);
}

static void test_free_fails_operations(void **state)
{
    struct seen *seen = *state;
    struct slot slots[2] = {{.number = 0}, {.number = 1}};
    struct sign_operation *ops[2];

    greet(seen, 1);
    for (size_t i = 0; i < 2; i++)
        ops[i] = ask(seen, &slots[i], 1, NULL);
    keyholder_client_free(seen->client);
    seen->client = NULL;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(seen->done[i], 1);
        assert_int_equal(ops[i]->state, SIGN_FAILED);
        keyholder_client_release(ops[i]);
    }
    assert_int_equal(seen->gone, 0);
}

static void test_unknown_id(void **state)
{
    struct seen *seen = *state;

    greet(seen, 1);
    say_result(seen, 77, false);
    expect_gone(seen, "not under way");
}

static void test_duplicate_result(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct sign_operation *op;
    uint64_t id;

    greet(seen, 1);
    op = ask(seen, &slot, 1, NULL);
    id = hear_sign(seen);
    say_result(seen, id, false);
    say_result(seen, id, false);
    expect_gone(seen, "not under way");
    assert_int_equal(seen->done[0], 1);
    keyholder_client_release(op);
}

static void test_signature_without_started(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct sign_operation *op;

    greet(seen, 1);
    op = ask(seen, &slot, 1, NULL);
    say_result(seen, hear_sign(seen), true); /* it took too short to be announced */
    keyholder_client_receive(seen->client);
    assert_int_equal(op->state, SIGN_DONE);
    assert_int_equal(op->sign_ms, 12);
    assert_int_equal(op->wait_ms, 0); /* not less, although the token claims a time that has not passed */
    keyholder_client_release(op);
}

static void test_started_twice(void **state)
{
    struct seen *seen = *state;
    struct slot slot = {.number = 0};
    struct sign_operation *op;
    uint64_t id;

    greet(seen, 1);
    op = ask(seen, &slot, 1, NULL);
    id = hear_sign(seen);
    say_started(seen, id);
    say_started(seen, id);
    expect_gone(seen, "does not wait");
    keyholder_client_release(op);
}

static void test_too_much_credit(void **state)
{
    struct seen *seen = *state;

    greet(seen, PROTOCOL_CREDIT_MAX);
    say_credit(seen, 1);
    expect_gone(seen, "credit");
}

static void test_no_greeting(void **state)
{
    struct seen *seen = *state;

    say_credit(seen, 1);
    expect_gone(seen, "before HELLO");
}

static void test_two_greetings(void **state)
{
    struct seen *seen = *state;

    greet(seen, 0);
    protocol_encode_hello(&seen->out, 1);
    say(seen);
    expect_gone(seen, "second HELLO");
}

static void test_identity_out_of_range(void **state)
{
    struct seen *seen = *state;

    greet(seen, 0);
    say_identity(seen, 2, TOKEN_READY, NULL);
    expect_gone(seen, "identity number 2 of 2");
}

static void test_worker_message(void **state)
{
    struct seen *seen = *state;

    greet(seen, 0);
    protocol_encode_cancel(&seen->out, 1);
    say(seen);
    expect_gone(seen, "not for a worker");
}

static void test_garbage(void **state)
{
    struct seen *seen = *state;

    say_raw(seen, "garbage", 7);
    expect_gone(seen, "protocol version 103");
}

static void test_cut_message(void **state)
{
    struct seen *seen = *state;

    greet(seen, 1);
    protocol_encode_started(&seen->out, 1);
    say_raw(seen, seen->out.data, seen->out.length - 1);
    expect_gone(seen, "malformed message of type 6");
}

static void test_too_long_message(void **state)
{
    struct seen *seen = *state;
    uint8_t *big = calloc(1, KEYHOLDER_MESSAGE_MAX + 1);
    int bytes = 0;
    socklen_t length = sizeof(bytes);

    assert_non_null(big);
    assert_int_equal(getsockopt(seen->peer, SOL_SOCKET, SO_SNDBUF, &bytes, &length), 0);
    say_raw(seen, big, KEYHOLDER_MESSAGE_MAX + 1);
    free(big);
    expect_gone(seen, "longer than 196608 bytes");
}

/* The keyholder does not read: requests wait, nothing is lost, nothing blocks. */
static void test_back_pressure(void **state)
{
    enum { COUNT = 200 };
    struct seen *seen = *state;
    static struct slot slots[COUNT];
    static struct sign_operation *ops[COUNT];
    static uint8_t message[KEYHOLDER_SIGN_MAX];
    struct protocol_message m = {.type = PROTOCOL_HELLO};
    unsigned heard = 0;

    greet(seen, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        struct sign_request request = {
            .message = message, .length = sizeof(message), .done = on_done, .arg = &slots[i], .deadline = i};

        slots[i].seen = seen;
        ops[i] = keyholder_client_sign(seen->client, &request, NULL);
        assert_non_null(ops[i]);
    }
    assert_true(keyholder_client_wants_write(seen->client));
    while (heard < COUNT) {
        if (hear(seen, &m)) {
            assert_int_equal(m.type, PROTOCOL_SIGN);
            assert_true(m.sign.deadline == heard); /* the order of the deadlines */
            heard++;
        } else {
            assert_true(keyholder_client_wants_write(seen->client));
            keyholder_client_flush(seen->client);
        }
    }
    assert_false(keyholder_client_wants_write(seen->client));
    for (size_t i = 0; i < COUNT; i++)
        keyholder_client_release(ops[i]);
}

static void test_queue_bound(void **state)
{
    enum { COUNT = 5000 };
    struct seen *seen = *state;
    static struct slot slot;
    static struct sign_operation *ops[COUNT];
    struct error err = ERROR_INIT;
    size_t n = 0;

    greet(seen, 0);
    while (n < COUNT && (ops[n] = ask(seen, &slot, 1, &err)) != NULL)
        n++;
    assert_int_equal(n, 4096);
    assert_int_equal(err.category, ERROR_TOKEN);
    assert_non_null(strstr(err.text, "queue is full"));
    while (n > 0)
        keyholder_client_release(ops[--n]);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_sign),
        CASE(test_failed_result),
        CASE(test_credit),
        CASE(test_not_usable),
        CASE(test_release),
        CASE(test_release_from_done),
        CASE(test_death),
        CASE(test_last_words),
        CASE(test_free_fails_operations),
        CASE(test_unknown_id),
        CASE(test_duplicate_result),
        CASE(test_signature_without_started),
        CASE(test_started_twice),
        CASE(test_too_much_credit),
        CASE(test_no_greeting),
        CASE(test_two_greetings),
        CASE(test_identity_out_of_range),
        CASE(test_worker_message),
        CASE(test_garbage),
        CASE(test_cut_message),
        CASE(test_too_long_message),
        CASE(test_back_pressure),
        CASE(test_queue_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
