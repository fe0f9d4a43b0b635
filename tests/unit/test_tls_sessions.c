/* A client's resumption: what is resumed, and everything that forbids it. The server is plain libssl with tickets. */
#include "tls_fixture.h"

#include "tls/internal.h"

struct server {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void server_new(struct world *w, struct server *server, const char *cn)
{
    EVP_PKEY *key = make_key(P256);
    X509 *leaf = make_leaf(&w->a, key, &(struct leaf){.cn = cn});

    /* plain libssl writes to sockets without MSG_NOSIGNAL */
    (void)signal(SIGPIPE, SIG_IGN);
    w->revoked_serial = ASN1_INTEGER_get(X509_get0_serialNumber(leaf));
    server->context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(server->context, leaf), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server->context, key), 1);
    SSL_CTX_set_verify(server->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(server->context), w->a.certificate), 1);
    assert_int_equal(SSL_CTX_set_session_id_context(server->context, (const uint8_t *)"t", 1), 1);
    X509_free(leaf);
}

static void server_free(struct server *server)
{
    SSL_CTX_free(server->context);
}

static void server_turn(struct server *server)
{
    char byte;

    ERR_clear_error();
    if (!SSL_is_init_finished(server->ssl))
        (void)SSL_accept(server->ssl);
    else if (SSL_read(server->ssl, &byte, 1) == 1)
        assert_int_equal(SSL_write(server->ssl, &byte, 1), 1);
    ERR_clear_error();
}

struct outcome {
    bool good, resumed, signed_on_token;
    char identity[32];
    bool has_verdict;
};

/* One connection with a byte there and back, so that the tickets have arrived. */
static void visit(struct world *w, struct context *context, struct server *server, const char *name,
                  struct outcome *ret)
{
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);
    struct connection_config config;
    struct error err = ERROR_INIT;
    struct side side = {0};
    int fds[2];

    memset(ret, 0, sizeof(*ret));
    make_pair(fds);
    server->ssl = SSL_new(server->context);
    assert_int_equal(SSL_set_fd(server->ssl, fds[1]), 1);
    config = base_config(w, context, fds[0], &side);
    config.server_name = name;
    side.connection = connection_start(&config, &err);
    assert_non_null(side.connection);
    while (!side.done && clock_remaining(deadline, 1) > 0) {
        server_turn(server);
        turn_world(w);
    }
    assert_true(side.done);
    ret->good = side.good;
    if (side.good) {
        struct stream stream = connection_stream(side.connection);
        struct connection_info info;
        uint8_t byte = 'x';
        size_t n;

        connection_info(side.connection, &info);
        ret->has_verdict = info.verdict != NULL && info.peer != NULL && info.verdict->accepted;
        assert_int_equal(stream.ops->write(stream.self, &byte, 1, &n), STREAM_OK);
        do {
            server_turn(server);
            assert_true(clock_remaining(deadline, 1) > 0);
        } while (stream.ops->read(stream.self, &byte, 1, &n) == STREAM_WANT_READ);
        ret->resumed = info.resumed;
        ret->signed_on_token = info.signed_on_token;
        (void)snprintf(ret->identity, sizeof(ret->identity), "%s", info.identity);
    }
    /* an end in order on both sides: a session whose connection was cut must not be resumed (RFC 5246 7.2.1) */
    connection_free(side.connection, false);
    server_turn(server);
    (void)SSL_shutdown(server->ssl);
    SSL_free(server->ssl);
    (void)close(fds[1]);
}

static const enum context_version versions[] = {CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};

static void the_second_visit_is_resumed(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct server server;

    server_new(w, &server, "server");
    for (size_t i = 0; i < 2; i++) {
        struct context_config config = client_config(w, &identity, 1);
        struct context *context;
        struct outcome out;

        config.version = versions[i];
        config.resumption = true;
        context = make_context(&config);
        visit(w, context, &server, "server.test", &out);
        assert_true(out.good && !out.resumed && out.signed_on_token);
        for (int n = 0; n < 3; n++) {
            visit(w, context, &server, "server.test", &out);
            assert_true(out.good && out.resumed && !out.signed_on_token);
            assert_string_equal(out.identity, "card");
            assert_true(out.has_verdict);
        }
        /* another name of the same server is another session */
        visit(w, context, &server, "127.0.0.1", &out);
        assert_true(out.good && !out.resumed);
        context_free(context);

        config.resumption = false;
        context = make_context(&config);
        visit(w, context, &server, "server.test", &out);
        visit(w, context, &server, "server.test", &out);
        assert_true(out.good && !out.resumed && out.signed_on_token);
        context_free(context);
    }
    server_free(&server);
}

static void a_changed_identity_is_not_resumed(void **state)
{
    struct world *w = *state;
    struct wanted wanted = {.kind = P256};
    struct identity *identity = make_identity(w, "card", &wanted);
    struct server server;

    server_new(w, &server, "server");
    for (size_t i = 0; i < 2; i++) {
        struct context_config config = client_config(w, &identity, 1);
        struct context *context;
        struct outcome out;
        X509 *renewed = make_leaf(&w->a, make_key(P256), &(struct leaf){.cn = "renewed"});

        config.version = versions[i];
        config.resumption = true;
        context = make_context(&config);
        visit(w, context, &server, "server.test", &out);
        announce(w, identity, 0, renewed, &wanted);
        visit(w, context, &server, "server.test", &out);
        assert_true(out.good && !out.resumed && out.signed_on_token);
        visit(w, context, &server, "server.test", &out);
        assert_true(out.resumed);
        /* removed and returned */
        wanted.state = TOKEN_LOCKED;
        announce(w, identity, 0, renewed, &wanted);
        wanted.state = TOKEN_ABSENT;
        announce(w, identity, 0, renewed, &wanted);
        visit(w, context, &server, "server.test", &out);
        assert_true(out.good && !out.resumed && out.signed_on_token);
        context_free(context);
        X509_free(renewed);
    }
    server_free(&server);
}

static void a_server_that_forgot_gets_a_full_handshake(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = P256});

    for (size_t i = 0; i < 2; i++) {
        struct context_config config = client_config(w, &identity, 1);
        struct context *context;
        struct server before, after, bad;
        struct outcome out;
        struct ca unknown;

        server_new(w, &before, "server");
        server_new(w, &after, "server");
        config.version = versions[i];
        config.resumption = true;
        context = make_context(&config);
        visit(w, context, &before, "server.test", &out);
        visit(w, context, &after, "server.test", &out);
        assert_true(out.good && !out.resumed && out.signed_on_token && out.has_verdict);
        /* and one that shows a bad certificate then is refused, whatever the session said */
        make_ca(&unknown, "Unknown");
        X509 *leaf = make_leaf(&unknown, make_key(P256), &(struct leaf){.cn = "evil"});
        server_new(w, &bad, "server");
        assert_int_equal(SSL_CTX_use_certificate(bad.context, leaf), 1);
        visit(w, context, &bad, "server.test", &out);
        assert_false(out.good);
        X509_free(leaf);
        X509_free(unknown.certificate);
        EVP_PKEY_free(unknown.key);
        context_free(context);
        server_free(&before);
        server_free(&after);
        server_free(&bad);
    }
}

/* The chain is checked before each use: a server certificate that was revoked meanwhile is not resumed. */
static void a_revoked_server_is_not_resumed(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = P256});

    for (size_t i = 0; i < 2; i++) {
        struct context_config config = client_config(w, &identity, 1);
        struct server server;
        struct context *context;
        struct outcome out;

        server_new(w, &server, "server");
        config.version = versions[i];
        config.resumption = true;
        context = make_context(&config);
        visit(w, context, &server, "server.test", &out);
        visit(w, context, &server, "server.test", &out);
        assert_true(out.resumed);
        crl_snapshot_free(w->crl);
        make_crl(w, w->revoked_serial);
        context->crls = crl_snapshot_ref(w->crl);
        context->revocation = CHAIN_REVOCATION_REQUIRED;
        visit(w, context, &server, "server.test", &out);
        assert_false(out.good);
        context_free(context);
        server_free(&server);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_second_visit_is_resumed),
        TEST(a_changed_identity_is_not_resumed),
        TEST(a_server_that_forgot_gets_a_full_handshake),
        TEST(a_revoked_server_is_not_resumed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
