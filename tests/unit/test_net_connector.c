#include "net_test.h"

#include "net/connector.h"
#include "net/proxy.h"
#include "net/resolver.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

struct outcome {
    int calls;
    int fd;
    size_t target;
    enum error_category category;
    unsigned long code;
    char text[ERROR_TEXT_MAX];
};

static void on_done(void *arg, int fd, size_t target, const struct error *err)
{
    struct outcome *outcome = arg;

    outcome->calls++;
    outcome->fd = fd;
    outcome->target = target;
    if (err != NULL) {
        outcome->category = err->category;
        outcome->code = err->code;
        (void)snprintf(outcome->text, sizeof(outcome->text), "%s", err->text);
    }
}

/*
 * A DNS server on the loop: "v4.test" has 127.0.0.1 and 127.0.0.2, "both.test" ::1 and 127.0.0.1, "many.test" 40
 * addresses, "empty.test" none; "silent.test" gets no answer, "garbage.test" a broken one, and every other name does
 * not exist.
 */
struct dns {
    struct loop_watch *watch;
    int fd;
    int questions;
    char servers[64];
};

#define DNS_HEADER 12
#define TYPE_A 1
#define TYPE_AAAA 28

static size_t put_answer(uint8_t *at, uint8_t type, const uint8_t *address, uint8_t length)
{
    /* name: pointer to the question; class IN; TTL 0 */
    const uint8_t head[] = {0xc0, DNS_HEADER, 0, type, 0, 1, 0, 0, 0, 0, 0, length};

    memcpy(at, head, sizeof(head));
    memcpy(at + sizeof(head), address, length);
    return sizeof(head) + length;
}

static size_t put_answers(const char *name, uint8_t type, uint8_t *at, uint8_t *ret_count)
{
    uint8_t v4[4] = {127, 0, 0, 1};
    const uint8_t v6[16] = {[15] = 1};
    size_t length = 0;
    uint8_t n = 0;

    if (type == TYPE_AAAA && strcmp(name, "both") == 0) {
        *ret_count = 1;
        return put_answer(at, type, v6, 16);
    }
    if (type == TYPE_A) {
        if (strcmp(name, "v4") == 0)
            n = 2;
        else if (strcmp(name, "both") == 0)
            n = 1;
        else if (strcmp(name, "many") == 0)
            n = 25;
    }
    for (uint8_t i = 0; i < n; i++) {
        v4[3] = (uint8_t)(1 + i);
        length += put_answer(at + length, type, v4, 4);
    }
    *ret_count = n;
    return length;
}

static void on_question(void *arg, unsigned events)
{
    struct dns *dns = arg;
    uint8_t packet[1024];
    char name[64];
    struct sockaddr_in from;
    socklen_t from_length = sizeof(from);
    ssize_t got = recvfrom(dns->fd, packet, 512, 0, (struct sockaddr *)&from, &from_length);
    size_t end = DNS_HEADER, length;

    (void)events;
    if (got <= DNS_HEADER)
        return;
    dns->questions++;
    length = packet[DNS_HEADER];
    assert_true(length < sizeof(name));
    memcpy(name, packet + DNS_HEADER + 1, length);
    name[length] = '\0';
    while (packet[end] != 0)
        end += packet[end] + 1U;
    end += 5; /* the root label, type and class */
    if (strcmp(name, "silent") == 0)
        return;
    packet[2] = 0x84; /* response, authoritative */
    packet[3] = strstr("v4 both many empty garbage", name) != NULL ? 0 : 3;
    memset(packet + 6, 0, 6);
    length = end + put_answers(name, packet[end - 3], packet + end, &packet[7]);
    if (strcmp(name, "garbage") == 0) {
        packet[7] = 200;
        length = end + 3;
        memset(packet + end, 0xff, 3);
    }
    (void)sendto(dns->fd, packet, length, 0, (struct sockaddr *)&from, from_length);
}

static void dns_start(struct dns *dns, struct loop *loop)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct address_socket local;

    *dns = (struct dns){.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    assert_int_equal(bind(dns->fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(address_of_socket(dns->fd, &local, NULL), ERROR_NONE);
    (void)snprintf(dns->servers, sizeof(dns->servers), "127.0.0.1:%u", address_socket_port(&local));
    dns->watch = loop_watch_new(loop, dns->fd, on_question, dns, NULL);
    assert_non_null(dns->watch);
    loop_watch_set(dns->watch, LOOP_READ);
}

static void dns_stop(struct dns *dns)
{
    loop_watch_free(dns->watch);
    (void)close(dns->fd);
}

struct scene {
    struct loop *loop;
    struct dns dns;
    struct outcome outcome;
    struct address targets[4];
    size_t n;
    uint64_t timeout_ms;
    const struct proxy *proxy;
};

static void scene_start(struct scene *scene)
{
    *scene = (struct scene){.loop = net_loop(), .timeout_ms = DEADLINE_MS};
    dns_start(&scene->dns, scene->loop);
}

static void scene_end(struct scene *scene)
{
    dns_stop(&scene->dns);
    loop_free(scene->loop);
}

static void target(struct scene *scene, const char *host, uint16_t port)
{
    char text[200];

    (void)snprintf(text, sizeof(text), strchr(host, ':') ? "%s" : "%s:%u", host, port);
    net_parse(text, &scene->targets[scene->n++]);
}

static struct connector *start(struct scene *scene)
{
    const struct connector_config config = {.loop = scene->loop,
                                            .targets = scene->targets,
                                            .n_targets = scene->n,
                                            .timeout_ms = scene->timeout_ms,
                                            .proxy = scene->proxy,
                                            .dns_servers = scene->dns.servers,
                                            .done = on_done,
                                            .arg = &scene->outcome};
    struct error err = ERROR_INIT;
    struct connector *connector = connector_start(&config, &err);

    if (connector == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(scene->outcome.calls, 0);
    return connector;
}

static void finish(struct scene *scene)
{
    (void)start(scene);
    NET_UNTIL(scene->loop, scene->outcome.calls == 1);
    net_turn(scene->loop);
    assert_int_equal(scene->outcome.calls, 1);
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

/* A port of 127.0.0.1 on which nobody listens: bound, so that nobody gets it meanwhile. */
static int dead_port(uint16_t *ret)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct address_socket local;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(address_of_socket(fd, &local, NULL), ERROR_NONE);
    *ret = address_socket_port(&local);
    return fd;
}

static void expect_text(const struct scene *scene, const char *text)
{
    assert_int_equal(scene->outcome.fd, -1);
    assert_int_equal(scene->outcome.category, ERROR_IO);
    if (strstr(scene->outcome.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", scene->outcome.text, text);
}

static void test_connects(void **state)
{
    const char *const hosts[] = {"127.0.0.1", "localhost", "v4.test", "both.test"};
    struct address_socket local;
    int listening = net_listen(16, &local);

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct scene scene;

        scene_start(&scene);
        target(&scene, hosts[i], address_socket_port(&local));
        finish(&scene);
        if (scene.outcome.fd < 0)
            fail_msg("%s", scene.outcome.text);
        assert_true(fcntl(scene.outcome.fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(scene.outcome.fd, F_GETFL) & O_NONBLOCK);
        assert_int_equal(option(scene.outcome.fd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(option(scene.outcome.fd, SOL_SOCKET, SO_KEEPALIVE), 1);
        (void)close(scene.outcome.fd);
        scene_end(&scene);
    }
    (void)close(listening);
}

static void test_refused_then_next_target(void **state)
{
    struct address_socket local;
    int listening = net_listen(16, &local);
    struct scene scene;
    uint16_t port;
    int dead = dead_port(&port);

    (void)state;
    scene_start(&scene);
    target(&scene, "127.0.0.1", port);
    target(&scene, "nosuch.test", port);
    target(&scene, "unix:/nonexistent/socket", 0);
    target(&scene, "127.0.0.1", address_socket_port(&local));
    finish(&scene);
    assert_true(scene.outcome.fd >= 0);
    assert_int_equal(scene.outcome.target, 3);
    (void)close(scene.outcome.fd);
    (void)close(dead);
    (void)close(listening);
    scene_end(&scene);
}

static void test_everything_refused(void **state)
{
    struct scene scene;
    char expected[300];
    uint16_t port;
    int dead = dead_port(&port);

    (void)state;
    scene_start(&scene);
    target(&scene, "v4.test", port);
    target(&scene, "127.0.0.1", port);
    target(&scene, "unix:/nonexistent/socket", 0);
    finish(&scene);
    (void)snprintf(expected, sizeof(expected),
                   "v4.test:%u: 127.0.0.1: Connection refused; 127.0.0.2: Connection refused; "
                   "127.0.0.1:%u: Connection refused; unix:/nonexistent/socket: No such file or directory",
                   port, port);
    expect_text(&scene, expected);
    assert_int_equal(scene.outcome.code, ENOENT);
    (void)close(dead);
    scene_end(&scene);
}

static void test_names_without_an_address(void **state)
{
    const char *const hosts[] = {"nosuch.test", "empty.test", "garbage.test"};

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct scene scene;
        char expected[64];

        scene_start(&scene);
        target(&scene, hosts[i], 7);
        finish(&scene);
        (void)snprintf(expected, sizeof(expected), "%s:7: cannot resolve: ", hosts[i]);
        expect_text(&scene, expected);
        assert_true(scene.dns.questions > 0);
        scene_end(&scene);
    }
}

/* More addresses than are used: bounded, and the report is cut rather than overrun. */
static void test_many_addresses(void **state)
{
    struct scene scene;
    uint16_t port;
    int dead = dead_port(&port);
    size_t refused = 0;

    (void)state;
    scene_start(&scene);
    target(&scene, "many.test", port);
    finish(&scene);
    expect_text(&scene, "many.test:");
    for (const char *at = scene.outcome.text; (at = strstr(at, "refused")) != NULL; at++)
        refused++;
    assert_int_equal(refused, RESOLVER_ADDRESSES_MAX);
    (void)close(dead);
    scene_end(&scene);
}

static void test_silent_name_server(void **state)
{
    struct address_socket local;
    int listening = net_listen(16, &local);
    struct scene scene;

    (void)state;
    scene_start(&scene);
    scene.timeout_ms = 100;
    target(&scene, "silent.test", 7);
    finish(&scene);
    expect_text(&scene, "silent.test:7: cannot resolve: timed out");
    assert_int_equal(scene.outcome.code, ETIMEDOUT);

    /* It uses up its own share only. */
    scene.outcome = (struct outcome){.fd = -1};
    scene.timeout_ms = 1500;
    target(&scene, "127.0.0.1", address_socket_port(&local));
    finish(&scene);
    assert_true(scene.outcome.fd >= 0);
    assert_int_equal(scene.outcome.target, 1);
    (void)close(scene.outcome.fd);
    (void)close(listening);
    scene_end(&scene);
}

/* An HTTP proxy on the loop: it answers the first request with 503 and the others with 200, or is silent. */
struct http_proxy {
    struct loop *loop;
    struct loop_watch *watch, *clients[4];
    int listening, fds[4];
    size_t n;
    bool silent;
    char asked[4][200];
};

static void on_request(void *arg, unsigned events)
{
    static const char refusal[] = "HTTP/1.1 503 No\r\n\r\n", good[] = "HTTP/1.1 200 OK\r\n\r\n";
    struct http_proxy *proxy = arg;
    size_t i = proxy->n - 1;
    const char *text = i == 0 ? refusal : good;
    ssize_t n = recv(proxy->fds[i], proxy->asked[i], sizeof(proxy->asked[i]) - 1, 0);

    (void)events;
    loop_watch_set(proxy->clients[i], 0);
    if (n > 0 && !proxy->silent)
        assert_int_equal(send(proxy->fds[i], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void on_client(void *arg, unsigned events)
{
    struct http_proxy *proxy = arg;

    (void)events;
    assert_true(proxy->n < 4);
    proxy->fds[proxy->n] = accept4(proxy->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(proxy->fds[proxy->n] >= 0);
    proxy->clients[proxy->n] = loop_watch_new(proxy->loop, proxy->fds[proxy->n], on_request, proxy, NULL);
    loop_watch_set(proxy->clients[proxy->n++], LOOP_READ);
}

static void proxy_start(struct http_proxy *self, struct loop *loop, struct proxy *ret)
{
    struct address_socket local;
    char text[64];

    *self = (struct http_proxy){.loop = loop, .listening = net_listen(4, &local)};
    self->watch = loop_watch_new(loop, self->listening, on_client, self, NULL);
    loop_watch_set(self->watch, LOOP_READ);
    (void)snprintf(text, sizeof(text), "http://127.0.0.1:%u", address_socket_port(&local));
    assert_int_equal(proxy_parse(text, ret, NULL), ERROR_NONE);
}

static void proxy_stop(struct http_proxy *self)
{
    for (size_t i = 0; i < self->n; i++) {
        loop_watch_free(self->clients[i]);
        (void)close(self->fds[i]);
    }
    loop_watch_free(self->watch);
    (void)close(self->listening);
}

static void test_through_a_proxy(void **state)
{
    struct http_proxy server;
    struct proxy proxy;
    struct scene scene;

    (void)state;
    scene_start(&scene);
    proxy_start(&server, scene.loop, &proxy);
    scene.proxy = &proxy;
    target(&scene, "v4.test", 1);
    target(&scene, "nosuch.test", 2);
    finish(&scene);
    assert_true(scene.outcome.fd >= 0);
    assert_int_equal(scene.outcome.target, 1);
    assert_int_equal(scene.dns.questions, 0); /* names are the proxy's business */
    assert_int_equal(server.n, 2);
    assert_memory_equal(server.asked[0], "CONNECT v4.test:1 HTTP/1.1\r\n", 28);
    assert_memory_equal(server.asked[1], "CONNECT nosuch.test:2 HTTP/1.1\r\n", 32);
    (void)close(scene.outcome.fd);
    proxy_stop(&server);
    scene_end(&scene);
}

static void test_proxies_that_fail(void **state)
{
    struct http_proxy server;
    struct proxy proxy;
    struct scene scene;
    char expected[200];
    uint16_t port;
    int dead = dead_port(&port);

    (void)state;
    scene_start(&scene);
    proxy_start(&server, scene.loop, &proxy);
    scene.proxy = &proxy;
    target(&scene, "v4.test", 1);
    finish(&scene);
    (void)snprintf(
        expected, sizeof(expected),
        "v4.test:1 through 127.0.0.1:%u: the proxy answered CONNECT with status 503: it cannot reach the server",
        proxy.address.port);
    expect_text(&scene, expected);

    scene.outcome = (struct outcome){.fd = -1};
    server.silent = true;
    scene.timeout_ms = 150;
    finish(&scene);
    expect_text(&scene, "the proxy does not answer: timed out");
    proxy_stop(&server);

    scene.outcome = (struct outcome){.fd = -1};
    scene.timeout_ms = DEADLINE_MS;
    proxy.address.port = port;
    finish(&scene);
    (void)snprintf(expected, sizeof(expected), "v4.test:1 through 127.0.0.1:%u: Connection refused", port);
    expect_text(&scene, expected);
    (void)close(dead);
    scene_end(&scene);
}

/* Fill a listener's backlog: further connections stay in SYN_SENT, as at a host that drops packets. */
#define FILLERS 64
static int full_listener(struct address_socket *ret, int fillers[FILLERS])
{
    int listening = net_listen(0, ret);

    for (int i = 0; i < FILLERS; i++) {
        struct pollfd one;

        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        one = (struct pollfd){.fd = fillers[i], .events = POLLOUT};
        if (connect(fillers[i], &ret->any, ret->length) != 0 && poll(&one, 1, 300) == 0) {
            for (int j = i + 1; j < FILLERS; j++)
                fillers[j] = -1;
            return listening;
        }
    }
    fail_msg("the backlog does not fill");
    return -1;
}

static void close_fillers(int fillers[FILLERS])
{
    for (int i = 0; i < FILLERS; i++) {
        if (fillers[i] >= 0)
            (void)close(fillers[i]);
    }
}

static void test_time_out_against_a_full_backlog(void **state)
{
    struct address_socket full, local;
    int fillers[FILLERS];
    int silent = full_listener(&full, fillers);
    int listening = net_listen(16, &local);
    struct scene scene;
    char expected[80];

    (void)state;
    scene_start(&scene);
    scene.timeout_ms = 150;
    target(&scene, "127.0.0.1", address_socket_port(&full));
    finish(&scene);
    (void)snprintf(expected, sizeof(expected), "127.0.0.1:%u: Connection timed out", address_socket_port(&full));
    expect_text(&scene, expected);
    assert_int_equal(scene.outcome.code, ETIMEDOUT);

    scene.outcome = (struct outcome){.fd = -1};
    scene.timeout_ms = 1500;
    target(&scene, "127.0.0.1", address_socket_port(&local));
    finish(&scene);
    assert_true(scene.outcome.fd >= 0);
    assert_int_equal(scene.outcome.target, 1);
    (void)close(scene.outcome.fd);
    close_fillers(fillers);
    (void)close(silent);
    (void)close(listening);
    scene_end(&scene);
}

static int unix_listener(struct address *ret)
{
    char text[80];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(text, sizeof(text), "unix:@tokentls-connector-%d", (int)getpid());
    net_parse(text, ret);
    assert_int_equal(bind(fd, (struct sockaddr *)&ret->path, ret->path_length), 0);
    assert_int_equal(listen(fd, 0), 0);
    return fd;
}

/* A UNIX socket gives EAGAIN then; as soon as there is room, the connection succeeds. */
static void test_full_unix_backlog(void **state)
{
    struct scene scene;
    int filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int listening, accepted;

    (void)state;
    scene_start(&scene);
    listening = unix_listener(&scene.targets[0]);
    scene.n = 1;
    assert_int_equal(connect(filler, (struct sockaddr *)&scene.targets[0].path, scene.targets[0].path_length), 0);
    scene.timeout_ms = 60;
    finish(&scene);
    expect_text(&scene, "Resource temporarily unavailable");
    assert_int_equal(scene.outcome.code, EAGAIN);

    scene.outcome = (struct outcome){.fd = -1};
    scene.timeout_ms = DEADLINE_MS;
    (void)start(&scene);
    net_turn(scene.loop);
    assert_int_equal(scene.outcome.calls, 0);
    accepted = accept(listening, NULL, NULL);
    NET_UNTIL(scene.loop, scene.outcome.calls == 1);
    assert_true(scene.outcome.fd >= 0);
    (void)close(scene.outcome.fd);
    (void)close(accepted);
    (void)close(filler);
    (void)close(listening);
    scene_end(&scene);
}

static void cancel(struct scene *scene, struct connector *connector)
{
    connector_cancel(connector);
    net_turn(scene->loop);
    assert_int_equal(scene->outcome.calls, 0);
}

static void test_cancel_in_every_state(void **state)
{
    struct address_socket full;
    int fillers[FILLERS];
    int silent = full_listener(&full, fillers);
    int filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int listening;
    struct connector *connector;
    struct scene scene;

    (void)state;
    scene_start(&scene);
    target(&scene, "silent.test", 7);
    cancel(&scene, start(&scene)); /* before anything */
    connector = start(&scene);
    NET_UNTIL(scene.loop, scene.dns.questions > 0); /* resolving */
    cancel(&scene, connector);

    scene.n = 0;
    target(&scene, "127.0.0.1", address_socket_port(&full));
    connector = start(&scene);
    net_turn(scene.loop); /* connecting */
    cancel(&scene, connector);

    listening = unix_listener(&scene.targets[0]);
    assert_int_equal(connect(filler, (struct sockaddr *)&scene.targets[0].path, scene.targets[0].path_length), 0);
    connector = start(&scene);
    net_turn(scene.loop); /* waiting for a UNIX backlog */
    cancel(&scene, connector);
    connector_cancel(NULL);

    (void)close(filler);
    (void)close(listening);
    close_fillers(fillers);
    (void)close(silent);
    scene_end(&scene);
}

static void test_refused_configuration(void **state)
{
    struct scene scene;
    struct connector_config config;
    struct error err = ERROR_INIT;

    (void)state;
    scene_start(&scene);
    config = (struct connector_config){
        .loop = scene.loop, .targets = scene.targets, .n_targets = 0, .done = on_done, .arg = &scene.outcome};
    assert_null(connector_start(&config, &err));
    assert_int_equal(err.category, ERROR_INTERNAL);
    config.n_targets = CONNECTOR_TARGETS_MAX + 1;
    assert_null(connector_start(&config, &err));
    net_parse("systemd:x", &scene.targets[0]);
    config.n_targets = 1;
    assert_null(connector_start(&config, &err));
    assert_non_null(strstr(err.text, "systemd"));
    net_turn(scene.loop);
    assert_int_equal(scene.outcome.calls, 0);
    scene_end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connects),
        cmocka_unit_test(test_refused_then_next_target),
        cmocka_unit_test(test_everything_refused),
        cmocka_unit_test(test_names_without_an_address),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_silent_name_server),
        cmocka_unit_test(test_through_a_proxy),
        cmocka_unit_test(test_proxies_that_fail),
        cmocka_unit_test(test_time_out_against_a_full_backlog),
        cmocka_unit_test(test_full_unix_backlog),
        cmocka_unit_test(test_cancel_in_every_state),
        cmocka_unit_test(test_refused_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
