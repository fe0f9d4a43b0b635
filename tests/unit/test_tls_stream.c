/* The stream of an established connection: bytes, half-close, truncation, alerts after the handshake, ALPN. */
#include "tls_fixture.h"

static const enum context_version versions[] = {CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};

static void start_mutual(struct world *w, struct pair *p, enum context_version version)
{
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);

    client.version = version;
    start_pair(w, p, &client, &gateway);
    finish_pair(w, p);
    assert_true(p->client.good && p->server.good);
}

static void half_close_goes_both_ways(void **state)
{
    struct world *w = *state;
    char text[64];

    for (size_t i = 0; i < 2; i++) {
        struct pair p;
        uint8_t byte = 0;
        size_t n;

        start_mutual(w, &p, versions[i]);
        write_all(w, &p.client_stream, "question");
        assert_int_equal(p.client_stream.ops->shutdown_write(p.client_stream.self), STREAM_OK);
        assert_int_equal(p.client_stream.ops->shutdown_write(p.client_stream.self), STREAM_OK);
        assert_int_equal(read_until(w, &p.server_stream, text, sizeof(text)), STREAM_CLOSED);
        assert_string_equal(text, "question");
        assert_int_equal(p.server_stream.ops->read(p.server_stream.self, &byte, 1, &n), STREAM_CLOSED);
        /* the other direction is open still */
        write_all(w, &p.server_stream, "answer");
        assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_OK);
        assert_string_equal(text, "answer");
        assert_int_equal(p.server_stream.ops->shutdown_write(p.server_stream.self), STREAM_OK);
        assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_CLOSED);
        assert_false(connection_refused_by_peer(p.client.connection));
        free_pair(&p);
    }
}

static void an_end_without_close_notify_is_truncation(void **state)
{
    struct world *w = *state;
    char text[64];

    for (size_t i = 0; i < 2; i++) {
        const struct error *err;
        struct pair p;

        start_mutual(w, &p, versions[i]);
        write_all(w, &p.server_stream, "half an ans");
        assert_int_equal(shutdown(p.server_stream.ops->fd(p.server_stream.self), SHUT_WR), 0);
        assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_FAILED);
        assert_string_equal(text, "half an ans");
        err = p.client_stream.ops->error(p.client_stream.self);
        assert_int_equal(err->category, ERROR_CLOSED);
        assert_non_null(strstr(err->text, "truncated"));
        assert_false(connection_refused_by_peer(p.client.connection));
        free_pair(&p);
    }
}

static void freeing_in_order_is_an_end(void **state)
{
    struct world *w = *state;
    char text[64];
    struct pair p;

    start_mutual(w, &p, CONTEXT_TLS_1_3);
    stream_free(&p.server_stream, false);
    p.server.connection = NULL;
    assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_CLOSED);
    free_pair(&p);

    start_mutual(w, &p, CONTEXT_TLS_1_3);
    stream_free(&p.server_stream, true);
    p.server.connection = NULL;
    assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_FAILED);
    free_pair(&p);
}

static void garbage_after_the_handshake(void **state)
{
    struct world *w = *state;
    const struct error *err;
    char text[64];
    struct pair p;

    start_mutual(w, &p, CONTEXT_TLS_1_3);
    assert_int_equal(send(p.server_stream.ops->fd(p.server_stream.self),
                          "\x17\x03\x03\x00\x14"
                          "aaaaaaaaaaaaaaaaaaaa",
                          25, MSG_NOSIGNAL),
                     25);
    assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_FAILED);
    err = p.client_stream.ops->error(p.client_stream.self);
    assert_int_equal(err->category, ERROR_PROTOCOL);
    assert_false(connection_refused_by_peer(p.client.connection));
    /* and the server is told with an alert, which is no refusal of a certificate after bytes were read */
    assert_int_equal(read_until(w, &p.server_stream, text, sizeof(text)), STREAM_FAILED);
    err = p.server_stream.ops->error(p.server_stream.self);
    assert_int_equal(err->code, SSL_AD_BAD_RECORD_MAC);
    free_pair(&p);
}

/* A write that meets the peer's refusal reports the refusal, not the broken pipe. */
static void a_refusal_met_while_writing(void **state)
{
    struct world *w = *state;
    struct identity *identity =
        make_identity(w, "client", &(struct wanted){.kind = P256, .leaf = {.extended_usage = "serverAuth"}});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    enum stream_status status;
    struct pair p;
    size_t n;

    start_pair(w, &p, &client, &gateway);
    run_until(w, &p.server.done);
    assert_false(p.server.good);
    connection_free(p.server.connection, false);
    p.server.connection = NULL;
    run_until(w, &p.client.done);
    assert_true(p.client.good);
    p.client_stream = connection_stream(p.client.connection);
    do
        status = p.client_stream.ops->write(p.client_stream.self, (const uint8_t *)"x", 1, &n);
    while (status == STREAM_OK);
    assert_int_equal(status, STREAM_FAILED);
    assert_int_equal(p.client_stream.ops->error(p.client_stream.self)->code, SSL_AD_UNSUPPORTED_CERTIFICATE);
    assert_true(connection_refused_by_peer(p.client.connection));
    free_pair(&p);
}

static void much_data_and_back_pressure(void **state)
{
    enum { BLOCK = 16384, BLOCKS = 256 };
    struct world *w = *state;
    uint8_t *data = malloc(BLOCK);
    uint8_t *in = malloc(BLOCK);
    size_t written = 0, got = 0;
    bool blocked = false;
    struct pair p;

    start_mutual(w, &p, CONTEXT_TLS_1_3);
    while (got < (size_t)BLOCK * BLOCKS) {
        enum stream_status status = STREAM_OK;
        size_t n;

        while (written < (size_t)BLOCK * BLOCKS && status == STREAM_OK) {
            for (size_t i = 0; i < BLOCK; i++)
                data[i] = (uint8_t)((written + i) * 7 / 5);
            status = p.client_stream.ops->write(p.client_stream.self, data, BLOCK, &n);
            if (status == STREAM_OK)
                written += n;
        }
        blocked = blocked || status == STREAM_WANT_WRITE;
        while ((status = p.server_stream.ops->read(p.server_stream.self, in, 1000, &n)) == STREAM_OK) {
            for (size_t i = 0; i < n; i++)
                if (in[i] != (uint8_t)((got + i) * 7 / 5))
                    fail_msg("wrong byte at %zu", got + i);
            got += n;
        }
        assert_int_equal(status, STREAM_WANT_READ);
        assert_false(p.server_stream.ops->pending(p.server_stream.self));
    }
    assert_true(blocked);
    free_pair(&p);
    free(data);
    free(in);
}

static void alpn(void **state)
{
    static const char *const h2[] = {"h2", "http/1.1", NULL};
    static const char *const http[] = {"http/1.1", NULL};
    static const char *const fix[] = {"fix", NULL};
    static const struct {
        const char *const *client, *const *server;
        const char *chosen; /* NULL: refused */
    } cases[] = {{h2, h2, "h2"},  {h2, http, "http/1.1"}, {http, h2, "http/1.1"}, {h2, fix, NULL},
                 {NULL, fix, ""}, {h2, NULL, ""},         {NULL, NULL, ""}};
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct context_config client = client_config(w, NULL, 0);
        struct context_config gateway = server_config(w, &server);
        struct connection_info info;
        struct pair p;

        gateway.client_auth = CONTEXT_CLIENT_AUTH_NONE;
        client.alpn = cases[i].client;
        gateway.alpn = cases[i].server;
        start_pair(w, &p, &client, &gateway);
        run_until(w, &p.client.done);
        run_until(w, &p.server.done);
        assert_int_equal(p.client.good, cases[i].chosen != NULL);
        assert_int_equal(p.server.good, cases[i].chosen != NULL);
        if (cases[i].chosen == NULL) {
            assert_int_equal(p.client.err.code, SSL_AD_NO_APPLICATION_PROTOCOL);
            assert_int_equal(p.client.err.category, ERROR_VERIFY);
            assert_non_null(strstr(p.client.err.text, "share no ALPN protocol"));
        } else {
            connection_info(p.client.connection, &info);
            assert_string_equal(info.alpn, cases[i].chosen);
            connection_info(p.server.connection, &info);
            assert_string_equal(info.alpn, cases[i].chosen);
        }
        free_pair(&p);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(half_close_goes_both_ways),
        TEST(an_end_without_close_notify_is_truncation),
        TEST(freeing_in_order_is_an_end),
        TEST(garbage_after_the_handshake),
        TEST(a_refusal_met_while_writing),
        TEST(much_data_and_back_pressure),
        TEST(alpn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
