/* A connection between its handshake and its first use: what the server does meanwhile, and the verdict reached anew.
 */
#include "tls/waiting.h"

#include "tls/internal.h"
#include "tls_fixture.h"

static void start_waiting(struct world *w, struct pair *p, enum context_version version, bool crls)
{
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);

    client.version = version;
    if (crls) {
        client.crls = w->crl;
        client.revocation = CHAIN_REVOCATION_REQUIRED;
    }
    start_pair(w, p, &client, &gateway);
    finish_pair(w, p);
    assert_true(p->client.good && p->server.good);
    waiting_begin(p->client.connection);
}

/* Look until the state is another one than quiet. */
static enum waiting_state look_until(struct world *w, struct pair *p, struct error *err)
{
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);
    enum waiting_state state = WAITING_QUIET;

    while (state == WAITING_QUIET && clock_remaining(deadline, 1) > 0) {
        turn_world(w);
        state = waiting_look(p->client.connection, err);
    }
    return state;
}

static void the_server_takes_us(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct pair p;

    start_waiting(w, &p, CONTEXT_TLS_1_2, false);
    assert_true(waiting_is_proven(p.client.connection));
    assert_int_equal(waiting_look(p.client.connection, &err), WAITING_QUIET);
    free_pair(&p);
    start_waiting(w, &p, CONTEXT_TLS_1_3, false);
    assert_false(waiting_is_proven(p.client.connection));
    assert_int_equal(SSL_key_update(p.server.connection->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(p.server.connection->ssl), 1);
    while (!waiting_is_proven(p.client.connection)) {
        turn_world(w);
        assert_int_equal(waiting_look(p.client.connection, &err), WAITING_QUIET);
    }
    free_pair(&p);
}

static void what_is_said_is_kept(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    char text[64];
    struct pair p;

    start_waiting(w, &p, CONTEXT_TLS_1_3, false);
    write_all(w, &p.server_stream, "220 ready");
    assert_int_equal(look_until(w, &p, &err), WAITING_SPOKEN);
    assert_int_equal(waiting_look(p.client.connection, &err), WAITING_SPOKEN);
    write_all(w, &p.client_stream, "helo");
    assert_int_equal(read_until(w, &p.server_stream, text, sizeof(text)), STREAM_OK);
    assert_string_equal(text, "helo");
    assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_OK);
    assert_string_equal(text, "220 ready");
    free_pair(&p);
}

static void an_end_is_seen_behind_data(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct pair p;

    start_waiting(w, &p, CONTEXT_TLS_1_3, false);
    write_all(w, &p.server_stream, "421 too late");
    assert_int_equal(look_until(w, &p, &err), WAITING_SPOKEN);
    stream_free(&p.server_stream, false);
    p.server.connection = NULL;
    assert_int_equal(waiting_look(p.client.connection, &err), WAITING_CLOSED);
    assert_non_null(strstr(err.text, "the server closed"));
    free_pair(&p);
}

static void ends(void **state)
{
    struct world *w = *state;

    for (int reset = 0; reset < 2; reset++) {
        struct error err = ERROR_INIT;
        struct pair p;

        start_waiting(w, &p, CONTEXT_TLS_1_3, false);
        stream_free(&p.server_stream, reset == 1);
        p.server.connection = NULL;
        assert_int_equal(look_until(w, &p, &err), WAITING_CLOSED);
        assert_int_not_equal(err.text[0], '\0');
        free_pair(&p);
    }
}

static void bytes_that_are_no_tls(void **state)
{
    static const uint8_t garbage[40] = {23, 3, 3, 0, 35};
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct pair p;

    start_waiting(w, &p, CONTEXT_TLS_1_3, false);
    assert_int_equal(send(p.server_stream.ops->fd(p.server_stream.self), garbage, sizeof(garbage), 0),
                     (ssize_t)sizeof(garbage));
    assert_int_equal(look_until(w, &p, &err), WAITING_BROKEN);
    assert_int_not_equal(err.text[0], '\0');
    free_pair(&p);
}

/* Key updates without end would keep the loop busy for nobody. */
static void messages_without_end(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct pair p;
    size_t sent = 0;
    enum waiting_state now = WAITING_QUIET;

    start_waiting(w, &p, CONTEXT_TLS_1_3, false);
    while (now == WAITING_QUIET && sent < (size_t)2 * WAITING_CONTROL_MAX) {
        for (int i = 0; i < 30; i++, sent += 27) {
            assert_int_equal(SSL_key_update(p.server.connection->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
            assert_int_equal(SSL_do_handshake(p.server.connection->ssl), 1);
        }
        turn_world(w);
        now = waiting_look(p.client.connection, &err);
    }
    assert_int_equal(now, WAITING_BROKEN);
    assert_true(sent > WAITING_CONTROL_MAX);
    assert_non_null(strstr(err.text, "unasked"));
    free_pair(&p);
}

static void refused_with_an_alert(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    struct error err = ERROR_INIT;
    struct pair p;

    gateway.trust = w->trust_b;
    start_pair(w, &p, &client, &gateway);
    finish_pair(w, &p);
    assert_true(p.client.good);
    assert_false(p.server.good);
    waiting_begin(p.client.connection);
    assert_false(waiting_is_proven(p.client.connection));
    assert_int_equal(look_until(w, &p, &err), WAITING_REFUSED);
    assert_non_null(strstr(err.text, "refused with the alert"));
    free_pair(&p);
}

/* The chain passes as it did; then a CRL revokes the leaf, and then it is asked again. */
static void judged_again(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct connection_info info;
    const ASN1_INTEGER *serial;
    struct pair p;

    make_crl(w, 1);
    start_waiting(w, &p, CONTEXT_TLS_1_3, true);
    connection_info(p.client.connection, &info);
    assert_null(info.verdict);
    assert_non_null(info.peer_path);
    assert_int_equal(waiting_judge(p.client.connection, &err), ERROR_NONE);
    serial = X509_get0_serialNumber(info.peer);
    crl_snapshot_free(w->crl);
    w->crl = NULL;
    make_crl(w, ASN1_INTEGER_get(serial));
    context_use_crls(p.client_context, w->crl);
    assert_int_equal(waiting_judge(p.client.connection, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "the server is refused now"));
    assert_non_null(strstr(err.text, "revoked"));
    free_pair(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_server_takes_us),   TEST(what_is_said_is_kept), TEST(an_end_is_seen_behind_data), TEST(ends),
        TEST(bytes_that_are_no_tls), TEST(messages_without_end), TEST(refused_with_an_alert),      TEST(judged_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
