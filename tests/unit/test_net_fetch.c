/* net/fetch against real sockets: a server on the same loop that plays a script, hostile ones among them. */
#include "net_test.h"

#include "net/fetch.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_BYTES 100000
#define REQUEST_MAX 80000
#define ANSWERS_MAX 6

/* Each connection gets the next answer; the last one serves all that follow. */
struct answer {
    const char *head;     /* sent once the request is there */
    const char *repeated; /* then this for ever; NULL: close */
    size_t drip;          /* bytes of `head` a turn; 0: all */
    bool hold;            /* do not close */
    bool deaf;            /* answer nothing */
};

struct server {
    struct loop *loop;
    int listening, fd;
    uint16_t port;
    struct loop_watch *accepting, *talking;
    const struct answer *answers;
    size_t n, at;
    size_t sent;
    char request[REQUEST_MAX];
    size_t length;
    unsigned connections;
};

struct outcome {
    int calls;
    int status;
    char body[MAX_BYTES + 1];
    size_t length;
    char type[FETCH_VALUE_MAX], etag[FETCH_VALUE_MAX], modified[FETCH_VALUE_MAX];
    uint64_t max_age_s;
    struct error err;
};

struct scene {
    struct loop *loop;
    struct server server;
    struct outcome outcome;
    struct fetch_config config;
    struct fetch *fetch;
    char url[300];
};

static void hang_up(struct server *server)
{
    loop_watch_free(server->talking);
    server->talking = NULL;
    if (server->fd >= 0)
        (void)close(server->fd);
    server->fd = -1;
}

static bool request_is_there(struct server *server)
{
    const char *end;
    const char *length;

    server->request[server->length] = '\0';
    end = strstr(server->request, "\r\n\r\n");
    if (end == NULL)
        return false;
    length = strstr(server->request, "Content-Length: ");
    return length == NULL || server->length >= (size_t)(end + 4 - server->request) + strtoul(length + 16, NULL, 10);
}

static void talk(void *arg, unsigned events)
{
    struct server *server = arg;
    const struct answer *answer = &server->answers[server->at < server->n ? server->at : server->n - 1];
    size_t size = strlen(answer->head);
    ssize_t n;

    if ((events & LOOP_READ) != 0) {
        n = recv(server->fd, server->request + server->length, sizeof(server->request) - 1 - server->length, 0);
        if (n <= 0) {
            hang_up(server);
            return;
        }
        server->length += (size_t)n;
    }
    if (!request_is_there(server))
        return;
    loop_watch_set(server->talking, answer->deaf ? LOOP_READ : LOOP_READ | LOOP_WRITE);
    if ((events & LOOP_WRITE) == 0)
        return;
    if (server->sent < size) {
        size_t step = answer->drip > 0 && answer->drip < size - server->sent ? answer->drip : size - server->sent;

        n = send(server->fd, answer->head + server->sent, step, MSG_NOSIGNAL);
        server->sent += n > 0 ? (size_t)n : 0;
        return;
    }
    if (answer->repeated != NULL && send(server->fd, answer->repeated, strlen(answer->repeated), MSG_NOSIGNAL) >= 0)
        return;
    if (answer->hold)
        loop_watch_set(server->talking, LOOP_READ);
    else
        hang_up(server);
}

static void take_connection(void *arg, unsigned events)
{
    struct server *server = arg;

    (void)events;
    hang_up(server);
    server->fd = accept4(server->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (server->fd < 0)
        return;
    if (server->connections++ > 0)
        server->at++;
    server->length = 0;
    server->sent = 0;
    server->talking = loop_watch_new(server->loop, server->fd, talk, server, NULL);
    assert_non_null(server->talking);
    loop_watch_set(server->talking, LOOP_READ);
}

static void serve(struct server *server, struct loop *loop)
{
    struct address_socket address;

    *server = (struct server){.loop = loop, .listening = net_listen(16, &address), .fd = -1};
    server->port = address_socket_port(&address);
    server->accepting = loop_watch_new(loop, server->listening, take_connection, server, NULL);
    assert_non_null(server->accepting);
    loop_watch_set(server->accepting, LOOP_READ);
}

static void stop_serving(struct server *server)
{
    hang_up(server);
    loop_watch_free(server->accepting);
    (void)close(server->listening);
}

static void on_done(void *arg, const struct fetch_response *response, const struct error *err)
{
    struct outcome *outcome = arg;

    outcome->calls++;
    if (response == NULL) {
        outcome->err = *err;
        return;
    }
    assert_null(err);
    outcome->status = response->status;
    assert_true(response->length <= MAX_BYTES);
    if (response->length > 0)
        memcpy(outcome->body, response->body, response->length);
    outcome->length = response->length;
    (void)snprintf(outcome->type, sizeof(outcome->type), "%s", response->content_type);
    (void)snprintf(outcome->etag, sizeof(outcome->etag), "%s", response->etag);
    (void)snprintf(outcome->modified, sizeof(outcome->modified), "%s", response->last_modified);
    outcome->max_age_s = response->max_age_s;
}

static struct scene *open_scene(const struct answer *answers, size_t n)
{
    struct scene *scene = calloc(1, sizeof(*scene));

    assert_non_null(scene);
    scene->loop = net_loop();
    serve(&scene->server, scene->loop);
    scene->server.answers = answers;
    scene->server.n = n;
    (void)snprintf(scene->url, sizeof(scene->url), "http://127.0.0.1:%u/ca.crl", scene->server.port);
    scene->config = (struct fetch_config){.loop = scene->loop,
                                          .url = scene->url,
                                          .max_bytes = MAX_BYTES,
                                          .timeout_ms = DEADLINE_MS,
                                          .done = on_done,
                                          .arg = &scene->outcome};
    return scene;
}

static void close_scene(struct scene *scene)
{
    stop_serving(&scene->server);
    loop_free(scene->loop);
    free(scene);
}

static void begin(struct scene *scene)
{
    struct error err = ERROR_INIT;

    scene->fetch = fetch_start(&scene->config, &err);
    if (scene->fetch == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(scene->outcome.calls, 0);
}

static void finish(struct scene *scene)
{
    begin(scene);
    NET_UNTIL(scene->loop, scene->outcome.calls == 1);
    net_turn(scene->loop);
    assert_int_equal(scene->outcome.calls, 1);
}

static void expect_body(const struct scene *scene, const char *body)
{
    if (scene->outcome.err.category != ERROR_NONE)
        fail_msg("%s", scene->outcome.err.text);
    assert_int_equal(scene->outcome.status, 200);
    assert_int_equal(scene->outcome.length, strlen(body));
    assert_memory_equal(scene->outcome.body, body, strlen(body));
}

static void expect_failure(const struct scene *scene, enum error_category category, const char *text)
{
    if (scene->outcome.err.category != category || strstr(scene->outcome.err.text, text) == NULL)
        fail_msg("category %d, \"%s\" does not say \"%s\"", scene->outcome.err.category, scene->outcome.err.text, text);
    assert_memory_equal(scene->outcome.err.text, "http://127.0.0.1:", 17);
}

/* The answers fail in one way. */
static void expect_refusal(const struct answer *answers, size_t n, enum error_category category, const char *text)
{
    struct scene *scene = open_scene(answers, n);

    finish(scene);
    expect_failure(scene, category, text);
    close_scene(scene);
}

#define OK "HTTP/1.1 200 OK\r\n"

static void test_gets(void **state)
{
    static const struct answer answers[] = {
        {.head = OK "Content-Length: 5\r\nContent-Type: application/pkix-crl\r\nETag: \"one\"\r\n"
                    "Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT\r\nCache-Control: public, max-age=60\r\n\r\nhello",
         .hold = true},
    };
    struct scene *scene = open_scene(answers, 1);

    (void)state;
    scene->config.accept = "application/pkix-crl";
    finish(scene);
    expect_body(scene, "hello");
    assert_string_equal(scene->outcome.type, "application/pkix-crl");
    assert_string_equal(scene->outcome.etag, "\"one\"");
    assert_string_equal(scene->outcome.modified, "Fri, 20 Nov 2026 10:00:00 GMT");
    assert_int_equal(scene->outcome.max_age_s, 60);
    assert_memory_equal(scene->server.request, "GET /ca.crl HTTP/1.1\r\nHost: 127.0.0.1:", 38);
    assert_non_null(strstr(scene->server.request, "\r\nAccept: application/pkix-crl\r\n"));
    assert_non_null(strstr(scene->server.request, "\r\nConnection: close\r\n\r\n"));
    assert_null(strstr(scene->server.request, "If-"));
    close_scene(scene);
}

static void test_body_forms(void **state)
{
    static const struct answer answers[][1] = {
        {{.head = OK "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
          .hold = true}},
        {{.head = OK "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", .drip = 1, .hold = true}},
        {{.head = "HTTP/1.0 200 OK\r\n\r\nhello"}},
        {{.head = "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 5\r\n\r\nhello", .hold = true}},
        {{.head = OK "Content-Length: 5\r\n\r\nhello and what follows", .hold = true}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct scene *scene = open_scene(answers[i], 1);

        finish(scene);
        expect_body(scene, "hello");
        close_scene(scene);
    }
}

static void test_posts(void **state)
{
    static const struct answer answers[] = {{.head = OK "Content-Length: 2\r\n\r\nok", .hold = true}};
    struct scene *scene = open_scene(answers, 1);
    uint8_t body[FETCH_REQUEST_MAX];

    (void)state;
    memset(body, 'x', sizeof(body));
    scene->config.body = body;
    scene->config.body_length = sizeof(body);
    scene->config.content_type = "application/ocsp-request";
    finish(scene);
    expect_body(scene, "ok");
    assert_memory_equal(scene->server.request, "POST /ca.crl HTTP/1.1\r\n", 23);
    assert_non_null(strstr(scene->server.request, "\r\nContent-Type: application/ocsp-request\r\n"));
    assert_non_null(strstr(scene->server.request, "\r\nContent-Length: 65536\r\n"));
    assert_memory_equal(scene->server.request + scene->server.length - 8, "xxxxxxxx", 8);
    close_scene(scene);
}

static void test_conditional(void **state)
{
    static const struct answer answers[] = {
        {.head = "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n", .hold = true}};
    struct scene *scene = open_scene(answers, 1);

    (void)state;
    scene->config.if_none_match = "\"one\"";
    scene->config.if_modified_since = "Fri, 20 Nov 2026 10:00:00 GMT";
    finish(scene);
    assert_int_equal(scene->outcome.status, 304);
    assert_int_equal(scene->outcome.length, 0);
    assert_non_null(strstr(scene->server.request, "\r\nIf-None-Match: \"one\"\r\n"));
    assert_non_null(strstr(scene->server.request, "\r\nIf-Modified-Since: Fri, 20 Nov 2026 10:00:00 GMT\r\n"));
    close_scene(scene);
    expect_refusal(answers, 1, ERROR_PROTOCOL, "status 304");
}

static void test_statuses(void **state)
{
    static const struct answer answers[][1] = {
        {{.head = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nsad", .hold = true}},
        {{.head = "HTTP/1.1 204 No Content\r\n\r\n", .hold = true}},
        {{.head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", .hold = true}},
        {{.head = "HTTP/1.1 503 Later\r\n\r\n", .repeated = "endless"}},
    };
    static const char *const texts[] = {"status 404", "status 204", "changes the protocol", "status 503"};

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        expect_refusal(answers[i], 1, ERROR_PROTOCOL, texts[i]);
}

static void test_hostile_answers(void **state)
{
    static const struct {
        struct answer answer;
        enum error_category category;
        const char *text;
    } cases[] = {
        {{.head = OK, .repeated = "X-Endless: header\r\n"}, ERROR_PROTOCOL, "the header has more than 32768 bytes"},
        {{.head = OK "X: ", .repeated = "one endless header field "}, ERROR_PROTOCOL, "the header has more than"},
        {{.head = "", .repeated = "HTTP/1.1 100 Continue\r\n\r\n"}, ERROR_PROTOCOL, "the header has more than"},
        {{.head = OK "\r\n", .repeated = "an endless body"}, ERROR_PROTOCOL, "the body has more than 100000 bytes"},
        {{.head = OK "Content-Length: 100001\r\n\r\n", .hold = true},
         ERROR_PROTOCOL,
         "100001 bytes, 100000 is the limit"},
        {{.head = OK "Content-Length: 99999999999999999999999\r\n\r\n", .hold = true}, ERROR_PROTOCOL, "not an HTTP"},
        {{.head = OK "Transfer-Encoding: chunked\r\n\r\n", .repeated = "1\r\nx\r\n"},
         ERROR_PROTOCOL,
         "more framing than body"},
        {{.head = OK "Transfer-Encoding: chunked\r\n\r\n", .repeated = "20\r\n0123456789abcdef0123456789abcdef\r\n"},
         ERROR_PROTOCOL,
         "the body has more than"},
        {{.head = OK "Transfer-Encoding: chunked\r\n\r\nzz\r\n", .hold = true}, ERROR_PROTOCOL, "not an HTTP"},
        {{.head = OK "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", .hold = true},
         ERROR_PROTOCOL,
         "not an HTTP"},
        {{.head = OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", .hold = true},
         ERROR_PROTOCOL,
         "not an HTTP"},
        {{.head = "SSH-2.0-OpenSSH\r\n", .hold = true}, ERROR_PROTOCOL, "not an HTTP"},
        {{.head = OK "Content-Length: 50\r\n\r\nhello"}, ERROR_CLOSED, "within the body"},
        {{.head = OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"}, ERROR_CLOSED, "within the body"},
        {{.head = OK "Content-Le"}, ERROR_CLOSED, "within the header"},
        {{.head = ""}, ERROR_CLOSED, "without an answer"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_refusal(&cases[i].answer, 1, cases[i].category, cases[i].text);
}

/* The limit counts for the whole, however alive the server seems. */
static void test_deadlines(void **state)
{
    static char slow[200000];
    static const struct answer silent[] = {{.head = "", .deaf = true}};
    static const struct answer drips[] = {{.head = slow, .drip = 1}};
    static const struct answer stops[] = {{.head = OK "Content-Length: 5\r\n\r\nhell", .hold = true}};
    static const struct {
        const struct answer *answer;
        const char *text;
    } cases[] = {{silent, "time-out waiting for the answer"}, {drips, "time-out"}, {stops, "time-out within the body"}};

    (void)state;
    memset(slow, 'x', sizeof(slow) - 1);
    memcpy(slow, OK "Content-Length: 99999\r\n\r\n", sizeof(OK "Content-Length: 99999\r\n\r\n") - 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scene *scene = open_scene(cases[i].answer, 1);

        scene->config.timeout_ms = 150;
        finish(scene);
        expect_failure(scene, ERROR_IO, cases[i].text);
        close_scene(scene);
    }
}

static void test_redirects(void **state)
{
    static const struct answer answers[] = {
        {.head = "HTTP/1.1 301 Moved\r\nLocation: /b\r\nContent-Length: 100\r\n\r\nsome", .hold = true},
        {.head = "HTTP/1.1 302 Found\r\nLocation: /c?d=e\r\n\r\n", .hold = true},
        {.head = "HTTP/1.1 308 Moved\r\nLocation: /f\r\n\r\n", .hold = true},
        {.head = OK "Content-Length: 5\r\n\r\nhello", .hold = true}};
    static const struct answer loop[] = {{.head = "HTTP/1.1 302 Found\r\nLocation: /ca.crl\r\n\r\n", .hold = true}};
    struct scene *scene = open_scene(answers, 4);

    (void)state;
    finish(scene);
    expect_body(scene, "hello");
    assert_int_equal(scene->server.connections, 4);
    assert_memory_equal(scene->server.request, "GET /f HTTP/1.1\r\n", 17);
    close_scene(scene);

    scene = open_scene(loop, 1);
    finish(scene);
    expect_failure(scene, ERROR_PROTOCOL, "more than 3 redirects");
    assert_int_equal(scene->outcome.err.code, 302);
    assert_int_equal(scene->server.connections, 4);
    close_scene(scene);
}

static void test_redirects_refused(void **state)
{
    static const struct answer answers[][1] = {
        {{.head = "HTTP/1.1 302 Found\r\nLocation: https://pki.example/ca.crl\r\n\r\n"}},
        {{.head = "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"}},
        {{.head = "HTTP/1.1 302 Found\r\n\r\n"}},
        {{.head = "HTTP/1.1 302 Found\r\nLocation: //pki.example/\r\n\r\n"}},
        {{.head = "HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n\r\n"}},
        {{.head = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2/\r\n\r\n"}},
        {{.head = "HTTP/1.1 307 Found\r\nLocation: http://169.254.169.254/latest/meta-data\r\n\r\n"}},
    };
    static const char *const texts[] = {"only http://",   "only http://",    "without a usable Location",
                                        "only http://",   "a local address", "a local address",
                                        "a local address"};

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct scene *scene = open_scene(answers[i], 1);

        finish(scene);
        if (strstr(scene->outcome.err.text, texts[i]) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", scene->outcome.err.text, texts[i]);
        close_scene(scene);
    }
}

static void test_post_redirects(void **state)
{
    static const struct answer see_other[] = {{.head = "HTTP/1.1 303 See Other\r\nLocation: /x\r\n\r\n"}};
    static const struct answer again[] = {{.head = "HTTP/1.1 307 Temporary\r\nLocation: /x\r\n\r\n"},
                                          {.head = OK "Content-Length: 2\r\n\r\nok"}};
    struct scene *scene = open_scene(see_other, 1);

    (void)state;
    scene->config.body = (const uint8_t *)"q";
    scene->config.body_length = 1;
    finish(scene);
    expect_failure(scene, ERROR_PROTOCOL, "status 303 to a POST");
    close_scene(scene);
    scene = open_scene(again, 2);
    scene->config.body = (const uint8_t *)"q";
    scene->config.body_length = 1;
    finish(scene);
    expect_body(scene, "ok");
    assert_memory_equal(scene->server.request, "POST /x ", 8);
    assert_memory_equal(scene->server.request + scene->server.length - 5, "\r\n\r\nq", 5);
    close_scene(scene);
}

static void test_reach(void **state)
{
    static const struct answer answers[] = {{.head = OK "Content-Length: 2\r\n\r\nok", .hold = true}};
    static const char *const this_host[] = {"127.0.0.1", NULL};
    static const char *const other[] = {"pki.example", "127.0.0.1:1", NULL};
    struct scene *scene = open_scene(answers, 1);
    struct error err = ERROR_INIT;

    (void)state;
    scene->config.reach = FETCH_FROM_CERTIFICATE;
    finish(scene);
    expect_failure(scene, ERROR_IO, "a local address, to which only the configuration may lead");
    assert_int_equal(scene->server.connections, 0);

    scene->config.hosts = other;
    assert_null(fetch_start(&scene->config, &err));
    assert_non_null(strstr(err.text, "does not allow"));

    scene->outcome = (struct outcome){.calls = 0};
    scene->config.hosts = this_host;
    finish(scene);
    expect_body(scene, "ok");
    close_scene(scene);
}

static void test_start_refuses(void **state)
{
    static const struct answer answers[] = {{.head = ""}};
    static const uint8_t body[FETCH_REQUEST_MAX + 1];
    struct scene *scene = open_scene(answers, 1);
    struct error err = ERROR_INIT;

    (void)state;
    scene->config.url = "https://pki.example/";
    assert_null(fetch_start(&scene->config, &err));
    assert_int_equal(err.category, ERROR_CONFIG);
    scene->config.url = scene->url;
    scene->config.if_none_match = "\"x\"\r\nHost: other";
    assert_null(fetch_start(&scene->config, &err));
    assert_int_equal(err.category, ERROR_USAGE);
    scene->config.if_none_match = NULL;
    scene->config.body = body;
    scene->config.body_length = sizeof(body);
    assert_null(fetch_start(&scene->config, NULL));
    close_scene(scene);
}

static void test_refused_connection(void **state)
{
    static const struct answer answers[] = {{.head = ""}};
    struct scene *scene = open_scene(answers, 1);

    (void)state;
    (void)snprintf(scene->url, sizeof(scene->url), "http://127.0.0.1:1/");
    finish(scene);
    expect_failure(scene, ERROR_IO, "Connection refused");
    close_scene(scene);
}

/* At each stage: nothing is called afterwards, nothing is left (ASan's leak check). */
static void test_cancel(void **state)
{
    static const struct answer answers[] = {{.head = OK "Content-Length: 50\r\n\r\nhello", .drip = 1, .hold = true}};

    (void)state;
    fetch_cancel(NULL);
    for (int stage = 0; stage < 3; stage++) {
        struct scene *scene = open_scene(answers, 1);

        begin(scene);
        if (stage == 1)
            NET_UNTIL(scene->loop, scene->server.connections == 1);
        if (stage == 2)
            NET_UNTIL(scene->loop, scene->server.sent > 40);
        fetch_cancel(scene->fetch);
        net_turn(scene->loop);
        assert_int_equal(scene->outcome.calls, 0);
        close_scene(scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gets),
        cmocka_unit_test(test_body_forms),
        cmocka_unit_test(test_posts),
        cmocka_unit_test(test_conditional),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_hostile_answers),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_redirects_refused),
        cmocka_unit_test(test_post_redirects),
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_start_refuses),
        cmocka_unit_test(test_refused_connection),
        cmocka_unit_test(test_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
