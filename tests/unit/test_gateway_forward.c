/* A gateway with real sockets: the backend hears of nobody who was refused, and whoever was let in is reset when it
 * fails. */
#include "gateway/forward.h"

#include "gateway/gateway_config.h"
#include "gateway/proxy_header.h"
#include "service_fixture.h"

struct scene {
    struct world *w;
    struct worker worker;
    struct service *service;
    int listening; /* the backend */
    unsigned port;
    int backend; /* its connection; -1: none */
    struct context *client_context;
    struct side client;
    struct stream stream; /* the client's, once established */
    char certificate[128], key[128];
};

static void write_key(const char *path, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    static const struct leaf leaf = {.cn = "gateway"};
    struct scene *scene = calloc(1, sizeof(*scene));
    struct address_socket address;
    void *world = NULL;
    X509 *certificate;

    (void)setup_world(&world);
    scene->w = world;
    scene->worker = (struct worker){.w = world, .trust = scene->w->trust};
    scene->listening = net_listen(8, &address);
    scene->port = ntohs(address.in.sin_port);
    scene->backend = -1;
    path_in(scene->w, "server.pem", scene->certificate, sizeof(scene->certificate));
    path_in(scene->w, "server.key", scene->key, sizeof(scene->key));
    certificate = make_leaf(&scene->w->a, make_key(P256), &leaf);
    write_certificates(scene->w, "server.pem", certificate, NULL);
    write_key(scene->key, make_key(P256));
    X509_free(certificate);
    *state = scene;
    return log_begin(NULL);
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    void *world = scene->w;

    stream_free(&scene->stream, true);
    connection_free(scene->client.connection, true);
    forward_close(scene->service);
    worker_release(&scene->worker);
    context_free(scene->client_context);
    if (scene->backend >= 0)
        (void)close(scene->backend);
    (void)close(scene->listening);
    free(scene);
    (void)teardown_world(&world);
    return log_end(NULL);
}

static result configure(struct scene *scene, unsigned port, const char *more, struct error *err)
{
    char text[2048];

    (void)snprintf(text, sizeof(text),
                   "gateway \"g\" { listen = \"0.0.0.0:1\" backend = \"127.0.0.1:%u\"\n"
                   "certificate = \"%s\" key = \"%s\" client-trust = \"/unused\" revocation = off\n%s }\n",
                   port, scene->certificate, scene->key, more);
    worker_configure(&scene->worker, &gateway_config_schema, gateway_config_check, text);
    return forward_open(&scene->worker, 0, &scene->service, err);
}

static void open_gateway(struct scene *scene, unsigned port, const char *more)
{
    struct error err = ERROR_INIT;

    if (configure(scene, port, more, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

/* A TCP connection of which the gateway has one end. */
static int connect_client(struct scene *scene)
{
    struct address_socket peer = {.length = 0};
    int fds[2];

    net_tcp_pair(fds);
    assert_int_equal(address_of_peer(fds[1], &peer, NULL), ERROR_NONE);
    forward_accepted(scene->service, fds[1], &peer);
    return fds[0];
}

/* A TLS client with this certificate; NULL: without one. */
static void start_client(struct scene *scene, const struct wanted *wanted)
{
    struct identity *identity = wanted == NULL ? NULL : make_identity(scene->w, "alice", wanted);
    struct context_config config = client_config(scene->w, &identity, wanted == NULL ? 0 : 1);

    scene->client_context = make_context(&config);
    start_side(scene->w, scene->client_context, connect_client(scene), &scene->client);
}

/* Handshake; the backend's connection is accepted. */
static void establish(struct scene *scene, const struct wanted *wanted)
{
    start_client(scene, wanted);
    run_until(scene->w, &scene->client.done);
    if (!scene->client.good)
        fail_msg("%s", scene->client.err.text);
    scene->stream = connection_stream(scene->client.connection);
    scene->client.connection = NULL;
    WORLD_UNTIL(scene->w, (scene->backend = try_accept(scene->listening)) >= 0);
}

/* The line says how and why, nothing is counted any more, and the backend was not called. */
static void expect_end(struct scene *scene, const char *how, const char *why)
{
    WORLD_UNTIL(scene->w, scene->worker.connections == 0);
    assert_int_equal(scene->worker.handshakes, 0);
    log_expect("connection ended gateway=g peer=127.0.0.1:");
    log_expect(how);
    log_expect(why);
    assert_int_equal(try_accept(scene->listening), -1);
}

/* What the client sees of a connection that it took for established: a failure, no end. */
static void expect_client_fails(struct scene *scene)
{
    char got[16];

    WORLD_UNTIL(scene->w, scene->client.done);
    if (!scene->client.good)
        return;
    scene->stream = connection_stream(scene->client.connection);
    scene->client.connection = NULL;
    assert_int_equal(read_until(scene->w, &scene->stream, got, sizeof(got)), STREAM_FAILED);
}

static const struct wanted client_key = {.kind = P256};

static void test_carries_both_ways(void **state)
{
    struct scene *scene = *state;
    char got[64];

    open_gateway(scene, scene->port, "allow { cn = \"alice\" }");
    establish(scene, &client_key);
    write_all(scene->w, &scene->stream, "order");
    expect_read(scene->w, scene->backend, "order"); /* and no header before it */
    assert_int_equal(write(scene->backend, "filled!", 7), 7);
    assert_int_equal(read_until(scene->w, &scene->stream, got, sizeof(got)), STREAM_OK);
    assert_string_equal(got, "filled!");
    assert_int_equal(shutdown(scene->backend, SHUT_WR), 0);
    assert_int_equal(read_until(scene->w, &scene->stream, got, sizeof(got)), STREAM_CLOSED);
    WORLD_UNTIL(scene->w, scene->stream.ops->shutdown_write(scene->stream.self) == STREAM_OK);
    assert_int_equal(wait_end(scene->w, scene->backend), 0);
    WORLD_UNTIL(scene->w, scene->worker.connections == 0);
    log_expect(" far=127.0.0.1:");
    log_expect(" tls=TLSv1.3 subject=\"CN=alice\" serial=");
    log_expect(" bytes_in=5 bytes_out=7 ");
    log_expect(" result=closed\n");
}

/* The gateway's own backend does not answer: who arrives has been sent elsewhere by the block that let him in. */
static void test_a_block_has_its_own_backend(void **state)
{
    struct scene *scene = *state;
    char more[200];

    (void)snprintf(more, sizeof(more),
                   "allow { cn = \"bob\" }\nallow { cn = \"alice\"\nname = desk\nbackend = {\"127.0.0.1:%u\"} }\n"
                   "allow { cn = \"alice\" }",
                   scene->port);
    open_gateway(scene, closed_port(), more);
    establish(scene, &client_key);
    write_all(scene->w, &scene->stream, "order");
    expect_read(scene->w, scene->backend, "order");
    assert_int_equal(close(scene->backend), 0);
    scene->backend = -1;
    stream_free(&scene->stream, true);
    WORLD_UNTIL(scene->w, scene->worker.connections == 0);
    log_expect(" allow=desk ");
}

static void test_a_block_without_a_backend_of_its_own(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, closed_port(), "allow { cn = \"bob\" backend = \"127.0.0.1:1\" }\nallow { cn = \"alice\" }");
    start_client(scene, &client_key);
    expect_client_fails(scene);
    expect_end(scene, " allow=2 ", "refused");
}

/* A forged identity gives way to the client's. */
static void test_http(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, scene->port, "allow-any-valid = true\nforward = http");
    establish(scene, &client_key);
    write_all(scene->w, &scene->stream, "GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AA==:\r\n\r\n");
    expect_read(scene->w, scene->backend, "GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :MII");
}

static void test_header_comes_first(void **state)
{
    static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";
    struct scene *scene = *state;
    uint8_t head[4096];
    ssize_t used = 0, n;

    open_gateway(scene, scene->port, "allow-any-valid = true\nforward = proxy-v2");
    establish(scene, &client_key);
    write_all(scene->w, &scene->stream, "order");
    while (used < 16 || used < 16 + (head[14] << 8 | head[15]) + 5) {
        WORLD_UNTIL(scene->w, (n = try_read(scene->backend, (char *)head + used, sizeof(head) - (size_t)used)) > 0);
        used += n;
    }
    assert_memory_equal(head, signature, 12);
    assert_int_equal(head[12], 0x21);
    assert_int_equal(head[13], 0x11); /* IPv4, TCP */
    assert_memory_equal(head + 16, "\x7f\0\0\1\x7f\0\0\1", 8);
    assert_int_equal(used, 16 + (head[14] << 8 | head[15]) + 5);
    assert_memory_equal(head + used - 5, "order", 5);
    assert_non_null(memmem(head, (size_t)used, "\x22\0\5alice", 8));
}

static void test_no_certificate(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, scene->port, "allow-any-valid = true");
    start_client(scene, NULL);
    expect_client_fails(scene);
    expect_end(scene, " result=refused ", " reason=");
}

/* client-auth = optional lets such a client in, as nobody. */
static void test_no_certificate_is_optional(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, scene->port, "client-auth = optional\nallow-any-valid = true");
    establish(scene, NULL);
    assert_int_equal(scene->worker.handshakes, 0);
    assert_int_equal(scene->worker.connections, 1);
}

static void test_not_allowed(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, scene->port, "allow { cn = \"bob\" }\nallow { cn = \"alice\" ou = \"x\" }");
    start_client(scene, &client_key);
    expect_client_fails(scene);
    expect_end(scene, " result=refused ", "certificate CN=alice (depth 0)");
}

static void test_not_trusted(void **state)
{
    struct scene *scene = *state;

    scene->worker.trust = scene->w->trust_b;
    open_gateway(scene, scene->port, "allow-any-valid = true");
    start_client(scene, &client_key);
    expect_client_fails(scene);
    expect_end(scene, " result=refused ", " reason=");
}

static void test_expired(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, scene->port, "allow-any-valid = true");
    start_client(scene, &(struct wanted){.kind = P256, .leaf = {.from = -3 * DAY, .until = -DAY}});
    expect_client_fails(scene);
    expect_end(scene, " result=refused ", "expired");
}

static void test_backend_is_not_there(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, closed_port(), "allow-any-valid = true");
    start_client(scene, &client_key);
    expect_client_fails(scene);
    expect_end(scene, " result=failed ", "refused");
    log_expect_no(" far=");
}

static void test_backend_resets(void **state)
{
    struct scene *scene = *state;
    char got[16];

    open_gateway(scene, scene->port, "allow-any-valid = true");
    establish(scene, &client_key);
    (void)setsockopt(scene->backend, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    (void)close(scene->backend);
    scene->backend = -1;
    assert_int_equal(read_until(scene->w, &scene->stream, got, sizeof(got)), STREAM_FAILED);
    expect_end(scene, " result=lost ", " reason=");
}

static void test_client_speaks_no_tls(void **state)
{
    struct scene *scene = *state;
    int fd;

    open_gateway(scene, scene->port, "allow-any-valid = true");
    fd = connect_client(scene);
    assert_int_equal(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
    expect_end(scene, " result=failed ", " reason=");
    (void)close(fd);
}

static void test_client_is_silent(void **state)
{
    struct scene *scene = *state;
    int fd;

    open_gateway(scene, scene->port, "allow-any-valid = true\nhandshake-timeout = \"10ms\"");
    fd = connect_client(scene);
    expect_end(scene, " result=failed ", "time");
    assert_int_equal(wait_end(scene->w, fd), 0); /* no reset, which might overtake an alert */
    (void)close(fd);
}

static void expect_limit(struct scene *scene, enum worker_admission admission, const char *why)
{
    int fd;

    log_forget();
    scene->worker.admission = admission;
    fd = connect_client(scene);
    assert_int_equal(wait_end(scene->w, fd), -ECONNRESET);
    expect_end(scene, " result=limit ", why);
    (void)close(fd);
}

static void test_limits(void **state)
{
    struct scene *scene = *state;

    open_gateway(scene, scene->port, "allow-any-valid = true");
    expect_limit(scene, WORKER_CONNECTIONS_LIMIT, "reason=\"max-connections is reached\"");
    expect_limit(scene, WORKER_HANDSHAKES_LIMIT, "reason=\"too many handshakes are going on\"");
}

static void test_close_ends_everything(void **state)
{
    struct scene *scene = *state;
    char got[16];
    int silent;

    open_gateway(scene, scene->port, "allow-any-valid = true");
    establish(scene, &client_key);
    write_all(scene->w, &scene->stream, "abc");
    expect_read(scene->w, scene->backend, "abc");
    silent = connect_client(scene);
    assert_int_equal(scene->worker.connections, 2);
    forward_close(scene->service);
    scene->service = NULL;
    assert_int_equal(read_until(scene->w, &scene->stream, got, sizeof(got)), STREAM_FAILED);
    assert_int_equal(wait_end(scene->w, scene->backend), -ECONNRESET);
    assert_int_equal(wait_end(scene->w, silent), -ECONNRESET);
    log_expect(" bytes_in=3 bytes_out=0 ");
    log_expect(" result=ended reason=\"the daemon ends it\"");
    (void)close(silent);
}

static void test_files_cannot_be_used(void **state)
{
    struct scene *scene = *state;
    struct error err = ERROR_INIT;

    write_key(scene->key, make_key(P384)); /* another one's */
    assert_int_equal(configure(scene, scene->port, "allow-any-valid = true", &err), ERROR_CONFIG);
    expect_text(err.text, "server.key");
    assert_null(scene->service);
}

static void test_paths(void **state)
{
    struct scene *scene = *state;
    struct confinement_paths paths = {0};
    struct error err = ERROR_INIT;

    open_gateway(scene, scene->port, "allow-any-valid = true");
    assert_int_equal(forward_add_paths(worker_settings(&scene->worker, 0), &paths, &err), ERROR_NONE);
    assert_int_equal(paths.n, 2);
    assert_string_equal(paths.items[0], scene->certificate);
    assert_string_equal(paths.items[1], scene->key);
    confinement_paths_free(&paths);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_carries_both_ways),
        TEST(test_a_block_has_its_own_backend),
        TEST(test_a_block_without_a_backend_of_its_own),
        TEST(test_http),
        TEST(test_header_comes_first),
        TEST(test_no_certificate),
        TEST(test_no_certificate_is_optional),
        TEST(test_not_allowed),
        TEST(test_not_trusted),
        TEST(test_expired),
        TEST(test_backend_is_not_there),
        TEST(test_backend_resets),
        TEST(test_client_speaks_no_tls),
        TEST(test_client_is_silent),
        TEST(test_limits),
        TEST(test_close_ends_everything),
        TEST(test_files_cannot_be_used),
        TEST(test_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
