/* A tunnel with real sockets: every failure resets the application's connection, says why, and counts back. */
#include "agent/tunnel.h"

#include "agent/agent_config.h"
#include "service_fixture.h"

struct scene {
    struct world *w;
    struct worker worker;
    struct service *service;
    int listening; /* the upstream */
    unsigned port;
    int app; /* the application's end; -1: none */
    struct context *server_context;
    struct side server;
    struct stream upstream;
};

static int setup(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct address_socket address;
    void *world = NULL;

    (void)setup_world(&world);
    scene->w = world;
    scene->worker = (struct worker){.w = world, .trust = scene->w->trust};
    scene->listening = net_listen(8, &address);
    scene->port = ntohs(address.in.sin_port);
    scene->app = -1;
    *state = scene;
    return log_begin(NULL);
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    void *world = scene->w;

    tunnel_close(scene->service);
    worker_release(&scene->worker);
    if (scene->app >= 0)
        (void)close(scene->app);
    (void)close(scene->listening);
    stream_free(&scene->upstream, true);
    connection_free(scene->server.connection, true);
    context_free(scene->server_context);
    free(scene);
    (void)teardown_world(&world);
    return log_end(NULL);
}

/* A tunnel to `port` with more options. */
static void open_tunnel(struct scene *scene, unsigned port, const char *more)
{
    struct error err = ERROR_INIT;
    char text[1024];

    (void)snprintf(text, sizeof(text),
                   "identity \"id\" { uri = \"pkcs11:token=t;object=k\" }\n"
                   "tunnel \"bank\" { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:%u\"\n"
                   "server-name = \"server.test\"\nrevocation = off\n%s%s }\n",
                   port, scene->worker.identity == NULL ? "" : "identity = \"id\"\n", more);
    worker_configure(&scene->worker, &agent_config_schema, agent_config_check, text);
    if (tunnel_open(&scene->worker, 0, &scene->service, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

/* The application connects over TCP. */
static void connect_app(struct scene *scene)
{
    struct address_socket peer = {.length = 0};
    int fds[2];

    net_tcp_pair(fds);
    scene->app = fds[0];
    assert_int_equal(address_of_peer(fds[1], &peer, NULL), ERROR_NONE);
    tunnel_accepted(scene->service, fds[1], &peer);
}

static int accept_upstream(struct scene *scene)
{
    int fd = -1;

    WORLD_UNTIL(scene->w, (fd = try_accept(scene->listening)) >= 0);
    return fd;
}

/* The upstream is a TLS server that asks for a certificate; `trust` judges it. */
static void serve_tls(struct scene *scene, struct trust *trust)
{
    static const struct wanted wanted = {.kind = P256};
    struct identity *identity = make_identity(scene->w, "server", &wanted);
    struct context_config config = server_config(scene->w, &identity);

    config.trust = trust;
    if (scene->worker.identity == NULL)
        config.client_auth = CONTEXT_CLIENT_AUTH_NONE;
    scene->server_context = make_context(&config);
    start_side(scene->w, scene->server_context, accept_upstream(scene), &scene->server);
}

static void serve_and_establish(struct scene *scene)
{
    serve_tls(scene, scene->w->trust);
    run_until(scene->w, &scene->server.done);
    if (!scene->server.good)
        fail_msg("%s", scene->server.err.text);
    scene->upstream = connection_stream(scene->server.connection);
    scene->server.connection = NULL;
    WORLD_UNTIL(scene->w, scene->worker.handshakes == 0);
}

static void use_identity(struct scene *scene, const struct wanted *wanted)
{
    scene->worker.identity = make_identity(scene->w, "id", wanted);
}

/* The application was reset, the line says how and why, nothing is counted any more. */
static void expect_reset(struct scene *scene, const char *how, const char *why)
{
    assert_int_equal(wait_end(scene->w, scene->app), -ECONNRESET);
    log_expect("connection ended tunnel=bank ");
    log_expect(how);
    log_expect(why);
    assert_int_equal(scene->worker.handshakes, 0);
    assert_int_equal(scene->worker.connections, 0);
}

static void test_carries_both_ways(void **state)
{
    struct scene *scene = *state;
    char got[64];

    use_identity(scene, &(struct wanted){.kind = P256});
    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    assert_int_equal(write(scene->app, "order", 5), 5); /* before there is a connection: it waits in the kernel */
    serve_and_establish(scene);
    assert_int_equal(read_until(scene->w, &scene->upstream, got, sizeof(got)), STREAM_OK);
    assert_string_equal(got, "order");
    write_all(scene->w, &scene->upstream, "filled!");
    expect_read(scene->w, scene->app, "filled!");
    assert_int_equal(shutdown(scene->app, SHUT_WR), 0);
    assert_int_equal(read_until(scene->w, &scene->upstream, got, sizeof(got)), STREAM_CLOSED);
    WORLD_UNTIL(scene->w, scene->upstream.ops->shutdown_write(scene->upstream.self) == STREAM_OK);
    assert_int_equal(wait_end(scene->w, scene->app), 0);
    WORLD_UNTIL(scene->w, scene->worker.connections == 0);
    log_expect("tunnel=bank peer=127.0.0.1:");
    log_expect(" far=127.0.0.1:");
    log_expect(" identity=id tls=TLSv1.3 subject=\"CN=server\" serial=");
    log_expect(" mechanism=CKM_FAKE ");
    log_expect(" bytes_in=5 bytes_out=7 ");
    log_expect(" result=closed\n");
}

static void test_upstream_is_not_there(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, closed_port(), "");
    connect_app(scene);
    expect_reset(scene, " result=failed ", "refused");
    log_expect_no(" far=");
}

static void test_upstream_hangs_up(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    (void)close(accept_upstream(scene));
    expect_reset(scene, " result=failed ", " reason=");
    log_expect(" far=127.0.0.1:");
}

static void test_upstream_speaks_no_tls(void **state)
{
    struct scene *scene = *state;
    int fd;

    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    fd = accept_upstream(scene);
    assert_int_equal(write(fd, "220 ready\r\n", 11), 11);
    expect_reset(scene, " result=failed ", " reason=");
    (void)close(fd);
}

static void test_upstream_is_silent(void **state)
{
    struct scene *scene = *state;
    int fd;

    open_tunnel(scene, scene->port, "handshake-timeout = \"10ms\"");
    connect_app(scene);
    fd = accept_upstream(scene);
    expect_reset(scene, " result=failed ", "time");
    (void)close(fd);
}

static void test_upstream_is_not_trusted(void **state)
{
    struct scene *scene = *state;

    scene->worker.trust = scene->w->trust_b;
    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    serve_tls(scene, scene->w->trust);
    expect_reset(scene, " result=refused ", " reason=");
}

static void test_upstream_has_another_name(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, scene->port, "");
    ((struct agent_config_tunnel *)(uintptr_t)worker_settings(&scene->worker, 0))->server_name[0] = 'x';
    connect_app(scene);
    serve_tls(scene, scene->w->trust);
    expect_reset(scene, " result=refused ", "xerver.test");
}

/* A TLS 1.3 server judges our certificate when for us the handshake is done. */
static void test_upstream_refuses_us(void **state)
{
    struct scene *scene = *state;

    use_identity(scene, &(struct wanted){.kind = P256});
    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    serve_tls(scene, scene->w->trust_b);
    run_until(scene->w, &scene->server.done);
    assert_false(scene->server.good);
    connection_free(scene->server.connection, false);
    scene->server.connection = NULL;
    expect_reset(scene, " result=refused ", " reason=");
}

static void test_token_refuses(void **state)
{
    struct scene *scene = *state;

    use_identity(scene, &(struct wanted){.kind = P256, .state = TOKEN_LOCKED});
    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    expect_reset(scene, " result=failed ", "wrong PIN before");
}

static void test_upstream_resets(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    serve_and_establish(scene);
    stream_free(&scene->upstream, true);
    scene->upstream = (struct stream){.ops = NULL};
    expect_reset(scene, " result=lost ", " reason=");
}

static void test_application_resets(void **state)
{
    struct scene *scene = *state;
    char got[16];

    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    serve_and_establish(scene);
    (void)setsockopt(scene->app, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    (void)close(scene->app);
    scene->app = -1;
    assert_int_equal(read_until(scene->w, &scene->upstream, got, sizeof(got)), STREAM_FAILED);
    assert_int_equal(scene->worker.connections, 0);
    log_expect(" result=lost ");
}

static void test_idle(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, scene->port, "idle-timeout = \"10ms\"");
    connect_app(scene);
    serve_and_establish(scene);
    WORLD_UNTIL(scene->w, scene->worker.connections == 0);
    log_expect(" result=idle");
}

static void expect_limit(struct scene *scene, enum worker_admission admission, const char *why)
{
    log_forget();
    scene->worker.admission = admission;
    connect_app(scene);
    expect_reset(scene, " result=limit ", why);
    assert_int_equal(try_accept(scene->listening), -1); /* nobody was bothered */
    (void)close(scene->app);
    scene->app = -1;
}

static void test_limits(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, scene->port, "");
    expect_limit(scene, WORKER_CONNECTIONS_LIMIT, "reason=\"max-connections is reached\"");
    expect_limit(scene, WORKER_HANDSHAKES_LIMIT, "reason=\"too many handshakes are going on\"");
    assert_int_equal(scene->worker.n_asked, 2);
}

static void test_allowed_uid(void **state)
{
    struct scene *scene = *state;
    char option[64];

    (void)snprintf(option, sizeof(option), "allow-uid = {\"%u\", \"%u\"}", (unsigned)geteuid() + 1,
                   (unsigned)geteuid());
    open_tunnel(scene, scene->port, option);
    connect_app(scene);
    serve_and_establish(scene);
    assert_int_equal(scene->worker.connections, 1);
}

static void test_other_uid_is_refused(void **state)
{
    struct scene *scene = *state;
    char option[64], says[64];

    (void)snprintf(option, sizeof(option), "allow-uid = \"%u\"", (unsigned)geteuid() + 1);
    (void)snprintf(says, sizeof(says), "reason=\"uid %u is not in allow-uid\"", (unsigned)geteuid());
    open_tunnel(scene, scene->port, option);
    connect_app(scene);
    expect_reset(scene, " result=refused ", says);
    assert_int_equal(try_accept(scene->listening), -1);
}

/* Who has gone already cannot be asked who he was. */
static void accept_orphan(struct scene *scene)
{
    struct address_socket peer = {.length = 0};
    int fds[2];

    net_tcp_pair(fds);
    assert_int_equal(address_of_peer(fds[1], &peer, NULL), ERROR_NONE);
    (void)close(fds[0]);
    tunnel_accepted(scene->service, fds[1], &peer);
}

static void test_unknown_caller_is_refused(void **state)
{
    struct scene *scene = *state;
    char option[64];

    /* uid 0 stands in the list, because the kernel shows it for orphans */
    (void)snprintf(option, sizeof(option), "allow-uid = {\"0\", \"%u\"}", (unsigned)geteuid() + 1);
    open_tunnel(scene, scene->port, option);
    accept_orphan(scene);
    assert_int_equal(scene->worker.connections, 0);
    log_expect(" result=refused ");
    log_expect_no(" uid=");
    assert_int_equal(try_accept(scene->listening), -1);
}

/* Without a list everybody may: then it is only not known for the log. */
static void test_unknown_caller_without_a_list(void **state)
{
    struct scene *scene = *state;

    open_tunnel(scene, scene->port, "");
    accept_orphan(scene);
    assert_int_equal(scene->worker.connections, 1);
    (void)close(accept_upstream(scene));
    WORLD_UNTIL(scene->w, scene->worker.connections == 0);
    log_expect_no(" uid=");
}

static void test_close_ends_everything(void **state)
{
    struct scene *scene = *state;
    char got[16];
    int established, waiting, silent;

    open_tunnel(scene, scene->port, "");
    connect_app(scene);
    serve_and_establish(scene);
    assert_int_equal(write(scene->app, "abc", 3), 3);
    assert_int_equal(read_until(scene->w, &scene->upstream, got, sizeof(got)), STREAM_OK);
    established = scene->app;
    connect_app(scene);
    waiting = scene->app; /* in its handshake */
    silent = accept_upstream(scene);
    connect_app(scene); /* and this one connects */
    assert_int_equal(scene->worker.connections, 3);
    tunnel_close(scene->service);
    scene->service = NULL;
    assert_int_equal(wait_end(scene->w, established), -ECONNRESET);
    assert_int_equal(wait_end(scene->w, waiting), -ECONNRESET);
    assert_int_equal(wait_end(scene->w, scene->app), -ECONNRESET);
    assert_int_equal(wait_end(scene->w, silent), -ECONNRESET); /* the upstream of the second */
    log_expect(" bytes_in=3 bytes_out=0 ");
    log_expect(" result=ended reason=\"the daemon ends it\"");
    (void)close(established);
    (void)close(waiting);
    (void)close(silent);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_carries_both_ways),
        TEST(test_upstream_is_not_there),
        TEST(test_upstream_hangs_up),
        TEST(test_upstream_speaks_no_tls),
        TEST(test_upstream_is_silent),
        TEST(test_upstream_is_not_trusted),
        TEST(test_upstream_has_another_name),
        TEST(test_upstream_refuses_us),
        TEST(test_token_refuses),
        TEST(test_upstream_resets),
        TEST(test_application_resets),
        TEST(test_idle),
        TEST(test_limits),
        TEST(test_allowed_uid),
        TEST(test_other_uid_is_refused),
        TEST(test_unknown_caller_is_refused),
        TEST(test_unknown_caller_without_a_list),
        TEST(test_close_ends_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
