/* Handshakes in both roles over socketpairs in one loop: who signs, who refuses, and what the other side is told. */
#include "tls_fixture.h"

#include "tls/internal.h"

static void expect_good(struct pair *p, const char *what)
{
    if (!p->client.good || !p->server.good)
        print_error("%s: client \"%s\", server \"%s\"\n", what, p->client.err.text, p->server.err.text);
    assert_true(p->client.good);
    assert_true(p->server.good);
}

static void exchange(struct world *w, struct pair *p)
{
    char text[64];

    write_all(w, &p->client_stream, "ping");
    assert_int_equal(read_until(w, &p->server_stream, text, sizeof(text)), STREAM_OK);
    assert_string_equal(text, "ping");
    write_all(w, &p->server_stream, "pong");
    assert_int_equal(read_until(w, &p->client_stream, text, sizeof(text)), STREAM_OK);
    assert_string_equal(text, "pong");
}

static void matrix(struct world *w, enum context_version version)
{
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});

    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct identity *identity = make_identity(w, kind_names[kind], &(struct wanted){.kind = kind});
        struct context_config client = client_config(w, &identity, 1);
        struct context_config gateway = server_config(w, &server);
        struct connection_info info;
        struct pair p;

        client.version = version;
        start_pair(w, &p, &client, &gateway);
        finish_pair(w, &p);
        expect_good(&p, kind_names[kind]);
        connection_info(p.client.connection, &info);
        assert_true(info.signed_on_token);
        assert_true(info.certificate_requested);
        assert_string_equal(info.identity, kind_names[kind]);
        assert_string_equal(info.mechanism, "CKM_FAKE");
        assert_string_equal(info.version, version == CONTEXT_TLS_1_2 ? "TLSv1.2" : "TLSv1.3");
        assert_int_equal(info.sign_ms, 7);
        assert_int_equal(info.sign_wait_ms, 3);
        connection_info(p.server.connection, &info);
        assert_true(info.signed_on_token);
        assert_non_null(info.peer);
        assert_non_null(info.verdict);
        assert_ptr_equal(info.peer_path, info.verdict->path);
        assert_string_equal(info.server_name, "server.test");
        exchange(w, &p);
        connection_info(p.server.connection, &info);
        assert_null(info.verdict);
        assert_int_equal(sk_X509_num(info.peer_path), 2);
        free_pair(&p);
        /* and the same key as a server's */
        gateway = server_config(w, &identity);
        start_pair(w, &p, &client, &gateway);
        finish_pair(w, &p);
        expect_good(&p, kind_names[kind]);
        exchange(w, &p);
        free_pair(&p);
    }
}

static void every_key_in_tls_1_2(void **state)
{
    matrix(*state, CONTEXT_TLS_1_2);
}

static void every_key_in_tls_1_3(void **state)
{
    matrix(*state, CONTEXT_TLS_1_3);
}

/* ---- a token that takes its time ---- */

#define PENDING 200

static void many_handshakes_wait_for_a_slow_token(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    struct side *clients = calloc(PENDING, sizeof(*clients));
    struct side *servers = calloc(PENDING, sizeof(*servers));
    struct pair established;

    start_pair(w, &established, &client, &gateway);
    finish_pair(w, &established);
    expect_good(&established, "before");
    w->holder.hold = true;
    for (size_t i = 0; i < PENDING; i++) {
        int fds[2];

        make_pair(fds);
        start_side(w, established.client_context, fds[0], &clients[i]);
        start_side(w, established.server_context, fds[1], &servers[i]);
    }
    while (keyholder_client_outstanding(&w->holder) < PENDING)
        turn_world(w);
    /* all servers wait for their signature; an established connection does not notice */
    exchange(w, &established);
    for (size_t i = 0; i < PENDING; i++)
        assert_false(clients[i].done || servers[i].done);
    w->holder.hold = false;
    for (size_t i = 0; i < PENDING; i++) {
        run_until(w, &clients[i].done);
        run_until(w, &servers[i].done);
        assert_true(clients[i].good && servers[i].good);
        connection_free(clients[i].connection, false);
        connection_free(servers[i].connection, false);
    }
    assert_int_equal(w->holder.n_signed, 2 * PENDING + 2);
    free_pair(&established);
    free(clients);
    free(servers);
}

static void start_plain(struct world *w, struct pair *p, enum context_version version)
{
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);

    client.version = version;
    start_pair(w, p, &client, &gateway);
}

static void freeing_while_the_token_signs(void **state)
{
    static const enum context_version versions[] = {CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};
    struct world *w = *state;

    for (size_t i = 0; i < 2; i++) {
        struct pair p;

        /* the server's signature, then the client's */
        w->holder.hold = true;
        start_plain(w, &p, versions[i]);
        while (keyholder_client_outstanding(&w->holder) < 1)
            turn_world(w);
        assert_int_equal(w->holder.n_cancelled, 3 * i);
        connection_free(p.server.connection, i == 0);
        p.server.connection = NULL;
        assert_int_equal(w->holder.n_cancelled, 3 * i + 1);
        run_until(w, &p.client.done);
        assert_false(p.client.good);
        free_pair(&p);

        w->holder.hold = true;
        start_plain(w, &p, versions[i]);
        while (keyholder_client_outstanding(&w->holder) < 1)
            turn_world(w);
        assert_true(fake_end_one(&w->holder));
        while (keyholder_client_outstanding(&w->holder) < 1)
            turn_world(w);
        connection_free(p.client.connection, false);
        p.client.connection = NULL;
        assert_int_equal(w->holder.n_cancelled, 3 * i + 2);
        run_until(w, &p.server.done);
        assert_false(p.server.good);
        free_pair(&p);

        /* both at once, in the middle */
        start_plain(w, &p, versions[i]);
        while (keyholder_client_outstanding(&w->holder) < 1)
            turn_world(w);
        free_pair(&p);
        assert_int_equal(w->holder.n_cancelled, 3 * i + 3);
        w->holder.hold = false;
    }
}

/* Frees both connections after so many turns of the loop: before the handshake steps of that turn, or among them. */
struct reaper {
    struct world *world;
    struct pair *pair;
    struct loop_timer *timer;
    struct loop_watch *among;
    int turns, phase;
    bool later;
    bool freed;
    unsigned seen[2]; /* bit mask of the states in which client and server were freed */
};

static void reap_now(void *arg, unsigned events)
{
    struct reaper *reaper = arg;
    struct pair *p = reaper->pair;

    (void)events;
    reaper->seen[0] |= 1U << p->client.connection->state;
    reaper->seen[1] |= 1U << p->server.connection->state;
    free_pair(p);
    reaper->freed = true;
}

static void reap(void *arg)
{
    struct reaper *reaper = arg;

    if (reaper->turns-- > 0) {
        if ((reaper->turns + reaper->phase) % 3 == 0)
            (void)fake_end_one(&reaper->world->holder);
        loop_timer_set(reaper->timer, 0);
        return;
    }
    if (reaper->later)
        loop_watch_turn(reaper->among);
    else
        reap_now(reaper, 0);
}

static void freeing_at_every_turn(void **state)
{
    struct world *w = *state;
    struct reaper reaper = {.world = w};
    struct error err = ERROR_INIT;
    unsigned all = 1U << CONNECTION_READY | 1U << CONNECTION_WANT_READ | 1U << CONNECTION_WANT_TOKEN |
                   1U << CONNECTION_WANT_VERDICT | 1U << CONNECTION_ESTABLISHED;

    int fds[2];

    make_pair(fds);
    reaper.timer = loop_timer_new(w->loop, reap, &reaper, &err);
    reaper.among = loop_watch_new(w->loop, fds[0], reap_now, &reaper, &err);
    loop_watch_set_priority(reaper.among, LOOP_PRIORITY_HANDSHAKE);
    for (int n = 0; n < 360; n++) {
        struct pair p;

        w->holder.hold = true;
        start_plain(w, &p, n % 2 == 0 ? CONTEXT_TLS_1_2 : CONTEXT_TLS_1_3);
        reaper.pair = &p;
        reaper.turns = n / 12;
        reaper.phase = n / 2 % 3;
        reaper.later = n / 6 % 2 == 1;
        reaper.freed = false;
        loop_timer_set(reaper.timer, 0);
        run_until(w, &reaper.freed);
        assert_int_equal(w->holder.n_live, 0);
        while (w->n_identities > 0)
            identity_free(w->identities[--w->n_identities]);
        w->n_keys = 0;
    }
    assert_int_equal(reaper.seen[0] & all, all);
    assert_int_equal(reaper.seen[1] & all, all);
    loop_timer_free(reaper.timer);
    loop_watch_free(reaper.among);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void a_wrong_signature_ends_the_handshake(void **state)
{
    static const enum context_version versions[] = {CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};
    struct world *w = *state;

    for (size_t i = 0; i < 2; i++) {
        struct pair p;

        w->holder.hold = true;
        start_plain(w, &p, versions[i]);
        while (!fake_end_one(&w->holder))
            turn_world(w);
        w->holder.corrupt = true;
        while (!fake_end_one(&w->holder))
            turn_world(w);
        w->holder.hold = false;
        run_until(w, &p.server.done);
        assert_false(p.server.good);
        assert_int_equal(p.server.err.category, ERROR_VERIFY);
        assert_non_null(strstr(p.server.err.text, "signature does not fit"));
        w->holder.corrupt = false;
        free_pair(&p);
    }
}

static void a_refusing_token_is_the_reason(void **state)
{
    struct world *w = *state;
    struct pair p;

    w->holder.hold = true;
    start_plain(w, &p, CONTEXT_TLS_1_3);
    while (!fake_end_one(&w->holder))
        turn_world(w);
    w->holder.refuse = "CKR_DEVICE_REMOVED";
    w->holder.hold = false;
    run_until(w, &p.client.done);
    assert_false(p.client.good);
    assert_int_equal(p.client.err.category, ERROR_TOKEN);
    assert_string_equal(p.client.err.text, "CKR_DEVICE_REMOVED");
    run_until(w, &p.server.done);
    assert_false(p.server.good);
    free_pair(&p);
}

static void a_keyholder_that_ends_is_the_reason(void **state)
{
    struct world *w = *state;
    struct error reason = ERROR_INIT;
    struct error err = ERROR_INIT;
    struct pair p;

    w->holder.hold = true;
    start_plain(w, &p, CONTEXT_TLS_1_3);
    while (keyholder_client_outstanding(&w->holder) < 1)
        turn_world(w);
    error_set(&reason, ERROR_TOKEN, "keyholder killed");
    identity_gone(w->identities[0], &w->holder, &reason);
    assert_int_equal(identity_usable(w->identities[0], &err), ERROR_TOKEN);
    assert_string_equal(err.text, "identity \"client\": keyholder killed");
    w->holder.hold = false;
    run_until(w, &p.client.done);
    assert_int_equal(p.client.err.category, ERROR_TOKEN);
    assert_non_null(strstr(p.client.err.text, "keyholder"));
    free_pair(&p);
}

static void the_deadline_says_what_was_awaited(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config gateway = server_config(w, &server);
    struct context *context = make_context(&gateway);
    struct connection_config config;
    struct error err = ERROR_INIT;
    struct side side = {0};
    int fds[2];

    make_pair(fds);
    config = base_config(w, context, fds[0], &side);
    config.deadline = clock_monotonic_ms() + 20;
    side.connection = connection_start(&config, &err);
    assert_non_null(side.connection);
    run_until(w, &side.done);
    assert_false(side.good);
    assert_int_equal(side.err.category, ERROR_IO);
    assert_string_equal(side.err.text, "time-out: the handshake was waiting for the peer");
    connection_free(side.connection, true);
    (void)close(fds[1]);
    context_free(context);
}

static void the_deadline_holds_for_the_token_too(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, NULL, 0);
    struct context_config gateway = server_config(w, &server);
    struct context *client_context = make_context(&client);
    struct context *server_context = make_context(&gateway);
    struct connection_config config;
    struct side side = {0}, other;
    struct error err = ERROR_INIT;
    int fds[2];

    w->holder.hold = true;
    make_pair(fds);
    start_side(w, client_context, fds[1], &other);
    config = base_config(w, server_context, fds[0], &side);
    config.deadline = clock_monotonic_ms() + 300;
    side.connection = connection_start(&config, &err);
    run_until(w, &side.done);
    assert_string_equal(side.err.text, "time-out: the handshake was waiting for the token to sign");
    assert_int_equal(w->holder.n_cancelled, 1);
    assert_int_equal(w->holder.n_live, 0);
    connection_free(side.connection, true);
    connection_free(other.connection, true);
    context_free(client_context);
    context_free(server_context);
}

/* ---- peers that are slow or speak something else ---- */

static void shuttle(int from, int to)
{
    char byte;

    if (recv(from, &byte, 1, MSG_DONTWAIT) == 1)
        assert_int_equal(send(to, &byte, 1, MSG_NOSIGNAL), 1);
}

static void a_peer_that_sends_byte_by_byte(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = RSA2048});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    struct pair p = {0};
    int left[2], right[2];
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);

    p.client_context = make_context(&client);
    p.server_context = make_context(&gateway);
    make_pair(left);
    make_pair(right);
    start_side(w, p.client_context, left[0], &p.client);
    start_side(w, p.server_context, right[1], &p.server);
    while ((!p.client.done || !p.server.done) && clock_remaining(deadline, 1) > 0) {
        shuttle(left[1], right[0]);
        shuttle(right[0], left[1]);
        turn_world(w);
    }
    expect_good(&p, "byte by byte");
    free_pair(&p);
    (void)close(left[1]);
    (void)close(right[0]);
}

/* A wire with a fault: forwards what there is, and turns bits of the byte number `at`. Returns the bytes moved. */
static size_t carry(int from, int to, size_t *at, uint8_t mask)
{
    uint8_t data[4096];
    ssize_t n = recv(from, data, sizeof(data), MSG_DONTWAIT);

    if (n <= 0)
        return 0;
    if (*at < (size_t)n) {
        data[*at] ^= mask;
        *at = SIZE_MAX;
    } else if (*at != SIZE_MAX) {
        *at -= (size_t)n;
    }
    (void)!send(to, data, (size_t)n, MSG_NOSIGNAL);
    return (size_t)n;
}

/* Whatever byte of a handshake is wrong, both sides come to an end that they can explain, and nothing is left. */
static void wrong_bytes_on_the_wire(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    size_t n_failed = 0;

    for (size_t round = 0; round < 240; round++) {
        struct pair p = {0};
        int left[2], right[2], idle = 0;
        size_t up = round % 2 == 0 ? round * 4 : SIZE_MAX;
        size_t down = round % 2 == 0 ? SIZE_MAX : round * 4;
        uint8_t mask = (uint8_t)(1U << (round / 2 % 8));

        client.version = round % 4 < 2 ? CONTEXT_TLS_1_2 : CONTEXT_TLS_1_3;
        p.client_context = make_context(&client);
        p.server_context = make_context(&gateway);
        make_pair(left);
        make_pair(right);
        start_side(w, p.client_context, left[0], &p.client);
        start_side(w, p.server_context, right[1], &p.server);
        while (idle < 3 && !(p.client.done && p.server.done)) {
            turn_world(w);
            idle = carry(left[1], right[0], &up, mask) + carry(right[0], left[1], &down, mask) > 0 ? 0 : idle + 1;
        }
        /* who still waits for bytes that a wrong length promised sees the end */
        (void)close(left[1]);
        (void)close(right[0]);
        run_until(w, &p.client.done);
        run_until(w, &p.server.done);
        n_failed += !p.client.good || !p.server.good;
        assert_true(p.client.good || p.client.err.text[0] != '\0');
        assert_true(p.server.good || p.server.err.text[0] != '\0');
        assert_true(p.client.good || p.client.err.category != ERROR_INTERNAL);
        assert_true(p.server.good || p.server.err.category != ERROR_INTERNAL);
        free_pair(&p);
    }
    assert_true(n_failed > 100);
}

/* What a server says to a peer that sends `bytes` and then ends its direction. */
static void speak(struct world *w, const char *bytes, size_t length, struct error *ret)
{
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config gateway = server_config(w, &server);
    struct context *context = make_context(&gateway);
    struct side side;
    int fds[2];

    make_pair(fds);
    start_side(w, context, fds[0], &side);
    assert_int_equal(send(fds[1], bytes, length, MSG_NOSIGNAL), (ssize_t)length);
    assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
    run_until(w, &side.done);
    assert_false(side.good);
    *ret = side.err;
    connection_free(side.connection, false);
    (void)close(fds[1]);
    context_free(context);
}

static void garbage_is_a_protocol_error(void **state)
{
    struct error err;

    speak(*state, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, &err);
    assert_int_equal(err.category, ERROR_PROTOCOL);
    assert_non_null(strstr(err.text, "does not speak TLS"));
    assert_non_null(strstr(err.text, "http request"));
    speak(*state, "\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff", 10, &err);
    assert_int_equal(err.category, ERROR_PROTOCOL);
    speak(*state, "SSH-2.0-OpenSSH_9.2p1\r\n", 23, &err);
    assert_int_equal(err.category, ERROR_PROTOCOL);
}

static void an_early_end_is_closed(void **state)
{
    struct error err;

    speak(*state, "", 0, &err);
    assert_int_equal(err.category, ERROR_CLOSED);
    assert_string_equal(err.text, "the handshake: the peer closed the connection");
    speak(*state, "\x16\x03\x01\x01\x00\x01", 6, &err);
    assert_int_equal(err.category, ERROR_CLOSED);
}

static void a_server_name_is_demanded(void **state)
{
    struct world *w = *state;
    struct context_config client = client_config(w, NULL, 0);
    struct context *context = make_context(&client);
    struct connection_config config;
    struct error err = ERROR_INIT;
    struct side side = {0};
    int fds[2];

    make_pair(fds);
    config = base_config(w, context, fds[0], &side);
    config.server_name = NULL;
    assert_null(connection_start(&config, &err));
    assert_int_equal(err.category, ERROR_USAGE);
    /* taken over, on failure too */
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    (void)close(fds[1]);
    context_free(context);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_key_in_tls_1_2),
        TEST(every_key_in_tls_1_3),
        TEST(many_handshakes_wait_for_a_slow_token),
        TEST(freeing_while_the_token_signs),
        TEST(freeing_at_every_turn),
        TEST(a_wrong_signature_ends_the_handshake),
        TEST(a_refusing_token_is_the_reason),
        TEST(a_keyholder_that_ends_is_the_reason),
        TEST(the_deadline_says_what_was_awaited),
        TEST(the_deadline_holds_for_the_token_too),
        TEST(a_peer_that_sends_byte_by_byte),
        TEST(wrong_bytes_on_the_wire),
        TEST(garbage_is_a_protocol_error),
        TEST(an_early_end_is_closed),
        TEST(a_server_name_is_demanded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
