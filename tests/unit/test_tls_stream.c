/* The stream of an established connection: bytes, half-close, truncation, alerts after the handshake, ALPN. */
#include "tls_fixture.h"

#include "tls/internal.h"
#include "tls/ticket_keys.h"

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

/* A direction under test: pseudo-random bytes in pieces of pseudo-random sizes, checked where they come out. */
struct flow {
    struct stream *from, *to;
    size_t written, got, put_off; /* put_off: size of the write that is to be repeated; 0: none */
    uint32_t random;
    bool waited;
};

enum { FLOW_BYTES = 4 * 1024 * 1024, PIECE_MAX = 90000 };

static uint8_t flow_byte(size_t at)
{
    return (uint8_t)((at * 2654435761U) >> 13);
}

static size_t flow_size(struct flow *flow, size_t limit)
{
    flow->random = flow->random * 1664525U + 1013904223U;
    return 1 + (flow->random >> 8) % (limit < PIECE_MAX ? limit : PIECE_MAX);
}

static void flow_write(struct flow *flow, uint8_t *piece)
{
    enum stream_status status = STREAM_OK;
    size_t n;

    while (flow->written < FLOW_BYTES && status == STREAM_OK) {
        size_t size = flow->put_off > 0 ? flow->put_off : flow_size(flow, FLOW_BYTES - flow->written);

        for (size_t i = 0; i < size; i++)
            piece[i] = flow_byte(flow->written + i);
        status = flow->from->ops->write(flow->from->self, piece, size, &n);
        memset(piece, 0, size); /* whoever puts a write off has not kept the pointer */
        if (status == STREAM_OK)
            flow->written += n;
        flow->put_off = status == STREAM_OK ? 0 : size;
    }
    flow->waited = flow->waited || status == STREAM_WANT_WRITE;
    assert_true(status == STREAM_OK || status == STREAM_WANT_WRITE);
}

static void flow_read(struct flow *flow, uint8_t *piece)
{
    enum stream_status status;
    size_t n;

    while ((status = flow->to->ops->read(flow->to->self, piece, flow_size(flow, PIECE_MAX), &n)) == STREAM_OK) {
        for (size_t i = 0; i < n; i++)
            if (piece[i] != flow_byte(flow->got + i))
                fail_msg("wrong byte at %zu", flow->got + i);
        flow->got += n;
    }
    assert_true(status == STREAM_WANT_READ || (status == STREAM_CLOSED && flow->got == FLOW_BYTES));
    assert_false(flow->to->ops->pending(flow->to->self));
}

/* Records that are collected, put off, read ahead and cut anywhere arrive whole and in order, both ways at once. */
static void pieces_of_any_size_both_ways(void **state)
{
    struct world *w = *state;
    uint8_t *piece = malloc(PIECE_MAX);

    assert_non_null(piece);
    for (size_t i = 0; i < 2; i++) {
        struct pair p;
        struct flow flows[2];
        bool ended[2] = {false, false};

        start_mutual(w, &p, versions[i]);
        flows[0] = (struct flow){.from = &p.client_stream, .to = &p.server_stream, .random = 1};
        flows[1] = (struct flow){.from = &p.server_stream, .to = &p.client_stream, .random = 2};
        while (flows[0].got < FLOW_BYTES || flows[1].got < FLOW_BYTES) {
            for (int j = 0; j < 2; j++) {
                flow_write(&flows[j], piece);
                if (flows[j].written == FLOW_BYTES && !ended[j])
                    ended[j] = flows[j].from->ops->shutdown_write(flows[j].from->self) == STREAM_OK;
            }
            flow_read(&flows[0], piece);
            flow_read(&flows[1], piece);
        }
        assert_true(flows[0].waited && flows[1].waited);
        for (int j = 0; j < 2; j++) {
            size_t n;

            assert_int_equal(flows[j].from->ops->shutdown_write(flows[j].from->self), STREAM_OK);
            assert_int_equal(flows[j].to->ops->read(flows[j].to->self, piece, 1, &n), STREAM_CLOSED);
        }
        free_pair(&p);
    }
    free(piece);
}

/* The last records and the connection's end behind them are one read of the socket: the records come first. */
static void what_was_read_ahead_comes_before_the_end(void **state)
{
    struct world *w = *state;

    for (size_t i = 0; i < 2; i++) {
        struct pair p;
        char text[64] = "";
        size_t n = 0;

        start_mutual(w, &p, versions[i]);
        write_all(w, &p.server_stream, "one ");
        write_all(w, &p.server_stream, "two ");
        write_all(w, &p.server_stream, "three");
        assert_int_equal(shutdown(p.server_stream.ops->fd(p.server_stream.self), SHUT_WR), 0);
        assert_int_equal(p.client_stream.ops->read(p.client_stream.self, (uint8_t *)text, 63, &n), STREAM_OK);
        assert_int_equal(n, 4);
        assert_true(p.client_stream.ops->pending(p.client_stream.self)); /* the descriptor does not tell of them */
        assert_int_equal(read_until(w, &p.client_stream, text, sizeof(text)), STREAM_FAILED);
        assert_string_equal(text, "two three");
        assert_non_null(strstr(p.client_stream.ops->error(p.client_stream.self)->text, "truncated"));
        free_pair(&p);
    }
}

static X509 *peer_of(const struct connection *connection)
{
    struct connection_info info;

    connection_info(connection, &info);
    return info.peer;
}

/* What libssl keeps of a peer that comes again are the certificates of its first connection, however long that lasts.
 */
static void the_certificates_of_a_peer_are_held_once(void **state)
{
    struct world *w = *state;

    for (size_t i = 0; i < 2; i++) {
        struct pair first, second = {0};
        char text[64];
        int fds[2];

        start_mutual(w, &first, versions[i]);
        make_pair(fds);
        start_side(w, first.client_context, fds[0], &second.client);
        start_side(w, first.server_context, fds[1], &second.server);
        finish_pair(w, &second);
        assert_true(second.client.good && second.server.good);
        assert_non_null(peer_of(first.client.connection));
        assert_ptr_equal(peer_of(first.client.connection), peer_of(second.client.connection));
        assert_ptr_equal(peer_of(first.server.connection), peer_of(second.server.connection));
        assert_ptr_not_equal(peer_of(second.client.connection), peer_of(second.server.connection));
        stream_free(&first.client_stream, false);
        stream_free(&first.server_stream, false);
        first.client.connection = first.server.connection = NULL;
        write_all(w, &second.client_stream, "still there");
        assert_int_equal(read_until(w, &second.server_stream, text, sizeof(text)), STREAM_OK);
        assert_non_null(X509_get0_pubkey(peer_of(second.server.connection)));
        connection_free(second.client.connection, false);
        connection_free(second.server.connection, false);
        free_pair(&first);
    }
}

/* What OpenSSL has allocated, in bytes: each block has its length in front. */
#define LENGTH_ROOM 16
static _Atomic size_t held;

static void *counted_malloc(size_t size, const char *file, int line)
{
    size_t *block = malloc(size + LENGTH_ROOM);

    (void)file;
    (void)line;
    if (block == NULL)
        return NULL;
    *block = size;
    held += size;
    return (char *)block + LENGTH_ROOM;
}

static void counted_free(void *data, const char *file, int line)
{
    size_t *block = data == NULL ? NULL : (size_t *)(void *)((char *)data - LENGTH_ROOM);

    (void)file;
    (void)line;
    if (block != NULL)
        held -= *block;
    free(block);
}

static void *counted_realloc(void *data, size_t size, const char *file, int line)
{
    size_t before = data == NULL ? 0 : *(size_t *)(void *)((char *)data - LENGTH_ROOM);
    void *moved = counted_malloc(size, file, line);

    if (moved == NULL)
        return NULL;
    if (data != NULL)
        memcpy(moved, data, before < size ? before : size);
    counted_free(data, file, line);
    return moved;
}

/* How much libssl would let go of if it were told to. */
static size_t buffered(struct pair *pair)
{
    size_t before = held;

    assert_int_equal(SSL_free_buffers(pair->client.connection->ssl), 1);
    assert_int_equal(SSL_free_buffers(pair->server.connection->ssl), 1);
    return before - held;
}

/* As the relay reads: not again after what was expected has come. */
static void read_once(struct stream *stream, const char *expected)
{
    uint8_t data[64];
    size_t n = 0;
    enum stream_status status;

    do
        status = stream->ops->read(stream->self, data, sizeof(data), &n);
    while (status == STREAM_WANT_READ);
    assert_int_equal(status, STREAM_OK);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(data, expected, n);
}

/* With tickets, which come before the first bytes in TLS 1.3. */
static void start_with_tickets(struct world *w, struct pair *pair, struct ticket_keys *keys,
                               enum context_version version)
{
    struct identity *identity = make_identity(w, "client", &(struct wanted){.kind = P256});
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);

    client.version = version;
    client.resumption = gateway.resumption = true;
    gateway.ticket_keys = keys;
    start_pair(w, pair, &client, &gateway);
    finish_pair(w, pair);
    assert_true(pair->client.good && pair->server.good);
}

static void no_buffers_are_kept_for_who_says_nothing(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct ticket_keys *keys = ticket_keys_new(&err);

    assert_non_null(keys);
    for (size_t i = 0; i < 2; i++) {
        struct pair pair;

        start_with_tickets(w, &pair, keys, versions[i]);
        assert_int_equal(buffered(&pair), 0);
        write_all(w, &pair.client_stream, "question");
        read_once(&pair.server_stream, "question");
        write_all(w, &pair.server_stream, "answer");
        read_once(&pair.client_stream, "answer");
        assert_int_equal(buffered(&pair), 0);
        free_pair(&pair);
    }
    ticket_keys_free(keys);
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
        TEST(pieces_of_any_size_both_ways),
        TEST(what_was_read_ahead_comes_before_the_end),
        TEST(the_certificates_of_a_peer_are_held_once),
        TEST(no_buffers_are_kept_for_who_says_nothing),
        TEST(alpn),
    };

    if (CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free) != 1)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
