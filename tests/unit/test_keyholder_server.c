/* The keyholder at work: order, cancelling, removal and return, hanging. */
#include "keyholder_fixture.h"

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

/* Ask for something that is refused and wait for the answer: the reader has seen all that was sent before. */
static void round_trip(struct worker *worker)
{
    const struct sign_request request = {.scheme = SCHEME_ECDSA_SHA256,
                                         .deadline = CLOCK_NEVER,
                                         .message = (const uint8_t *)"nothing",
                                         .length = 7,
                                         .done = on_done,
                                         .arg = &(unsigned){0}};
    struct sign_operation *op = keyholder_client_sign(worker->client, &request, NULL);

    assert_non_null(op);
    PUMP_UNTIL(worker, *(unsigned *)request.arg == 1);
    assert_int_equal(op->error.category, ERROR_VERIFY);
    keyholder_client_release(op);
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
    round_trip(&worker);
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

/* The worker hears that the token is at work on what takes a while, and who waits behind it has not started. */
static void test_long_signatures_are_announced(void **state)
{
    struct worker worker;
    struct sign_operation *busy, *behind;
    unsigned done_busy = 0, done_behind = 0;

    (void)state;
    fake.gate = 0;
    start();
    join_worker(&worker);
    busy = ask(&worker, 1, 1, CLOCK_NEVER, &done_busy);
    behind = ask(&worker, 2, 1, CLOCK_NEVER, &done_behind);
    PUMP_UNTIL(&worker, busy->state == SIGN_STARTED);
    assert_int_equal(behind->state, SIGN_QUEUED);
    open_gate(UINT32_MAX);
    PUMP_UNTIL(&worker, done_busy == 1 && done_behind == 1);
    assert_int_equal(busy->state, SIGN_DONE);
    assert_int_equal(behind->state, SIGN_DONE);
    keyholder_client_release(busy);
    keyholder_client_release(behind);
    keyholder_client_free(worker.client);
}

/* Also with an idle token, which could be faster than the sweep: a passed deadline is never signed. */
static void test_late_requests(void **state)
{
    enum { COUNT = 60 };
    struct worker worker;
    struct sign_operation *ops[COUNT];
    unsigned done = 0;

    (void)state;
    fake.threads = 4;
    start();
    join_worker(&worker);
    for (unsigned i = 0; i < COUNT; i++)
        ops[i] = ask(&worker, (uint8_t)i, i, clock_monotonic_ms(), &done);
    PUMP_UNTIL(&worker, done == COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(ops[i]->state, SIGN_FAILED);
        keyholder_client_release(ops[i]);
    }
    assert_int_equal(peek(&fake.entered), 0);
    keyholder_client_free(worker.client);
}

/* A token for one thread: no signature begins while it is looked at. */
static void test_look_and_sign_apart(void **state)
{
    struct worker worker;
    struct sign_operation *op;
    unsigned done = 0;

    (void)state;
    start();
    join_worker(&worker);
    pthread_mutex_lock(&fake.lock);
    fake.look_blocks = true;
    pthread_mutex_unlock(&fake.lock);
    wait_counter(&fake.looks, peek(&fake.looks) + 1);
    op = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    for (int i = 0; i < 50; i++)
        round_trip(&worker);
    assert_int_equal(peek(&fake.entered), 0);
    pthread_mutex_lock(&fake.lock);
    fake.look_blocks = false;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    PUMP_UNTIL(&worker, done == 1);
    assert_int_equal(op->state, SIGN_DONE);
    assert_int_equal(peek(&fake.most_inside), 1);
    keyholder_client_release(op);
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

/* A URI that fits nothing is an error that is announced; searched for again, but not with each look. */
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
    assert_true(peek(&fake.finds) < peek(&fake.looks));
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "gone");
    PUMP_UNTIL(&worker, worker.state == TOKEN_ABSENT);
    pthread_mutex_lock(&fake.lock);
    fake.key_missing = false;
    fake.state = TOKEN_READY;
    pthread_mutex_unlock(&fake.lock);
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    keyholder_client_free(worker.client);
}

static void write_key(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.key_missing = false;
    pthread_mutex_unlock(&fake.lock);
}

/* A key that is written to the token while that stays where it is: found by the next search. */
static void test_key_written(void **state)
{
    struct worker worker;

    (void)state;
    fake.key_missing = true;
    start();
    join_worker(&worker);
    assert_int_equal(worker.state, TOKEN_FAILED);
    write_key();
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    keyholder_client_free(worker.client);
}

static void tell_event(unsigned n, enum token_state state, enum error_category category, const char *why)
{
    set_state(state, category, why);
    pthread_mutex_lock(&fake.lock);
    fake.events = n;
    pthread_mutex_unlock(&fake.lock);
}

/* Removal and return are noticed by slot events, long before the next poll. */
static void test_slot_events(void **state)
{
    struct worker worker;

    (void)state;
    run.config.poll_ms = 3600000;
    start();
    join_worker(&worker);
    assert_int_equal(worker.state, TOKEN_READY);
    tell_event(1, TOKEN_ABSENT, ERROR_TOKEN, "pulled out");
    PUMP_UNTIL(&worker, worker.state == TOKEN_ABSENT);
    tell_event(1, TOKEN_READY, ERROR_NONE, "");
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    keyholder_client_free(worker.client);
}

/* A module without events is asked once, and polled. */
static void test_no_slot_events(void **state)
{
    struct worker worker;

    (void)state;
    fake.events = UINT32_MAX;
    start();
    join_worker(&worker);
    wait_counter(&fake.asked, 1);
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "pulled out");
    PUMP_UNTIL(&worker, worker.state == TOKEN_ABSENT);
    wait_counter(&fake.looks, 50);
    assert_int_equal(peek(&fake.asked), 1);
    keyholder_client_free(worker.client);
}

/* A module that blocks although it was told not to holds up nothing but the thread that asks; the end is not waited
 * for. */
static void test_slot_events_that_block(void **state)
{
    struct worker worker;
    struct sign_operation *op;
    unsigned done = 0;

    (void)state;
    fake.events_block = true;
    start();
    join_worker(&worker);
    wait_counter(&fake.asked, 1);
    set_state(TOKEN_ABSENT, ERROR_TOKEN, "pulled out");
    PUMP_UNTIL(&worker, worker.state == TOKEN_ABSENT);
    set_state(TOKEN_READY, ERROR_NONE, "");
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    op = ask(&worker, 1, 1, CLOCK_NEVER, &done);
    PUMP_UNTIL(&worker, done == 1);
    assert_int_equal(op->state, SIGN_DONE);
    keyholder_client_release(op);
    keyholder_client_free(worker.client);
    server_stop(run.server);
    assert_int_equal(wait_status(), 0);
    assert_false(server_join(run.server, PATIENCE_MS)); /* within WATCHER_END_MS */
}

/* A connection that needs the key makes the keyholder search at once, without any poll; asking more changes nothing. */
static void test_key_demanded(void **state)
{
    struct worker worker;
    unsigned looks;

    (void)state;
    run.config.poll_ms = 3600000;
    fake.key_missing = true;
    start();
    join_worker(&worker);
    looks = peek(&fake.looks);
    write_key();
    for (int i = 0; i < 100; i++)
        keyholder_client_look(worker.client);
    PUMP_UNTIL(&worker, worker.state == TOKEN_READY);
    assert_int_equal(peek(&fake.looks), looks + 1);
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

/* The end of an order comes after the state that it has led to, at once, and worker and supervisor hear of it. */
static void test_orders(void **state)
{
    struct worker worker;
    struct keyholder_event event;
    struct error err = ERROR_INIT;

    (void)state;
    run.config.poll_ms = 3600000;
    start();
    next_event(&event);
    assert_int_equal(event.state, TOKEN_READY);
    join_worker(&worker);
    assert_int_equal(keyholder_give_order(&run.process, KEYHOLDER_ORDER_LOCK, 7, &err), ERROR_NONE);
    next_event(&event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_STATE);
    assert_int_equal(event.state, TOKEN_LOCKED);
    assert_string_equal(event.text, "locked by a person");
    next_event(&event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_DONE);
    assert_int_equal(event.number, 7);
    assert_int_equal(event.category, ERROR_NONE);
    PUMP_UNTIL(&worker, worker.state == TOKEN_LOCKED);
    fake.order_fails = true;
    assert_int_equal(keyholder_give_order(&run.process, KEYHOLDER_ORDER_CLEAR, 8, &err), ERROR_NONE);
    next_event(&event);
    assert_int_equal(event.state, TOKEN_READY);
    next_event(&event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_DONE);
    assert_int_equal(event.number, 8);
    assert_int_equal(event.category, ERROR_TOKEN);
    assert_string_equal(event.text, "C_Logout failed");
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

/* OpenSC after a card was pulled during a signature: what was ready must not take a minute to be found hung. */
static void test_look_hangs_when_ready(void **state)
{
    struct keyholder_event event;

    (void)state;
    run.config.look_timeout_ms = 3600000;
    run.config.look_ready_timeout_ms = 20;
    start();
    next_event(&event);
    assert_int_equal(event.state, TOKEN_READY);
    pthread_mutex_lock(&fake.lock);
    fake.look_blocks = true;
    pthread_mutex_unlock(&fake.lock);
    do
        next_event(&event);
    while (event.kind == KEYHOLDER_EVENT_STATE);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_HUNG);
    assert_non_null(strstr(event.text, "within 20 ms"));
    assert_int_equal(wait_status(), KEYHOLDER_EXIT_HUNG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_signs),
        CASE(test_order),
        CASE(test_threads),
        CASE(test_cancelled_and_expired),
        CASE(test_long_signatures_are_announced),
        CASE(test_late_requests),
        CASE(test_look_and_sign_apart),
        CASE(test_queue_full),
        CASE(test_credit),
        CASE(test_absent_and_back),
        CASE(test_key_missing),
        CASE(test_key_written),
        CASE(test_key_demanded),
        CASE(test_slot_events),
        CASE(test_no_slot_events),
        CASE(test_slot_events_that_block),
        CASE(test_failure_makes_look),
        CASE(test_orders),
        CASE(test_hang),
        CASE(test_look_hangs),
        CASE(test_look_hangs_when_ready),
    };

    RUN_TESTS(tests);
}
