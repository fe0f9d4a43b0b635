/* Proxies: what the configuration may say, and what proxies may answer, each byte on its own. */
#include "net_test.h"

#include "base/secret.h"
#include "net/proxy_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct refusal {
    const char *text, *why;
};

static void urls(void **state)
{
    static const struct {
        const char *text, *host, *user;
        enum proxy_kind kind;
        uint16_t port;
    } good[] = {
        {"http://proxy.example:8080", "proxy.example", "", PROXY_HTTP, 8080},
        {"HTTP://proxy.example/", "proxy.example", "", PROXY_HTTP, 3128},
        {"http://user@[2001:db8::1]:1", "2001:db8::1", "user", PROXY_HTTP, 1},
        {"socks5://[::1]", "::1", "", PROXY_SOCKS5, 1080},
        {"socks5://a@b@192.0.2.1", "192.0.2.1", "a@b", PROXY_SOCKS5, 1080},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct proxy proxy;
        struct error err = ERROR_INIT;

        if (proxy_parse(good[i].text, &proxy, &err) != ERROR_NONE)
            fail_msg("%s: %s", good[i].text, err.text);
        assert_string_equal(proxy.address.host, good[i].host);
        assert_string_equal(proxy.user, good[i].user);
        assert_int_equal(proxy.kind, good[i].kind);
        assert_int_equal(proxy.address.port, good[i].port);
        assert_null(proxy.password);
    }
}

static void urls_refused(void **state)
{
    static const struct refusal bad[] = {
        {"", "a proxy is http://"},
        {"proxy:3128", "a proxy is http://"},
        {"https://proxy:3128", "a proxy is http://"},
        {"socks4://proxy:1080", "a proxy is http://"},
        {"http://", "is wanted"},
        {"http://user@", "is wanted"},
        {"http://@proxy", "user name has 1 to 255"},
        {"http://user:hunter2@proxy:3128", "proxy-password-file"},
        {"http://us\ner@proxy", "control character"},
        {"http://proxy:3128/path", "without a path"},
        {"http://proxy:0", "port"},
        {"http://proxy:70000", "port"},
        {"http://pro xy:1", "host"},
        {"socks5://unix:/run/x", "without a path"},
    };
    char text[400];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct proxy proxy;
        struct error err = ERROR_INIT;

        assert_int_equal(proxy_parse(bad[i].text, &proxy, &err), ERROR_CONFIG);
        if (strstr(err.text, bad[i].why) == NULL)
            fail_msg("%s: \"%s\" is not in: %s", bad[i].text, bad[i].why, err.text);
        assert_null(strstr(err.text, "hunter2"));
    }
    for (size_t i = 0; i < 2; i++) { /* too long: the host, the user */
        struct proxy proxy;
        struct error err = ERROR_INIT;

        (void)snprintf(text, sizeof(text), "http://%0300d%s", 1, i == 0 ? "/" : "@proxy");
        assert_int_equal(proxy_parse(text, &proxy, &err), ERROR_CONFIG);
    }
}

static void write_file(const char *path, const char *content, size_t length, mode_t mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void password_files(void **state)
{
    char folder[] = "/tmp/tokentls-proxy-XXXXXX", path[64], full[300];
    struct secret *secret = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/password", folder);
    memset(full, 'x', sizeof(full));

    assert_int_equal(proxy_read_password(path, &secret, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "No such file"));
    write_file(path, "hunter2\n", 8, 0640);
    assert_int_equal(proxy_read_password(path, &secret, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "chmod 600"));
    write_file(path, "\n", 1, 0600);
    assert_int_equal(proxy_read_password(path, &secret, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "1 to 255"));
    write_file(path, full, 256, 0600);
    assert_int_equal(proxy_read_password(path, &secret, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "1 to 255"));
    write_file(path, "a\0b", 3, 0600);
    assert_int_equal(proxy_read_password(path, &secret, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "NUL"));
    assert_int_equal(proxy_read_password(folder, &secret, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_null(secret);

    write_file(path, "hunter2\nmore\n", 13, 0600);
    assert_int_equal(proxy_read_password(path, &secret, &err), ERROR_NONE);
    assert_int_equal(secret_length(secret), 7);
    secret_free(secret);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* A request to a proxy that this test plays, at the other end of a socket pair. */
struct run {
    struct loop *loop;
    int pair[2]; /* [0]: the request's */
    struct proxy proxy;
    struct secret *password;
    struct address target;
    struct proxy_request *request;
    int calls;
    enum error_category category;
    char text[ERROR_TEXT_MAX];
};

static void on_done(void *arg, const struct error *err)
{
    struct run *run = arg;

    run->calls++;
    run->request = NULL;
    run->category = err == NULL ? ERROR_NONE : err->category;
    (void)snprintf(run->text, sizeof(run->text), "%s", err == NULL ? "" : err->text);
}

static void begin(struct run *run, const char *url, const char *password, const char *target)
{
    struct proxy_request_config config = {.proxy = &run->proxy, .target = &run->target, .done = on_done, .arg = run};
    struct error err = ERROR_INIT;
    char text[64];

    *run = (struct run){.loop = net_loop()};
    net_pair(run->pair);
    assert_int_equal(proxy_parse(url, &run->proxy, NULL), ERROR_NONE);
    assert_int_equal(address_parse(target, ADDRESS_CONNECT, &run->target, NULL), ERROR_NONE);
    if (password != NULL) {
        (void)snprintf(text, sizeof(text), "%s", password);
        run->password = secret_new(&err);
        assert_non_null(run->password);
        assert_int_equal(secret_take(run->password, text, strlen(text), &err), ERROR_NONE);
        run->proxy.password = run->password;
    }
    config.loop = run->loop;
    config.fd = run->pair[0];
    run->request = proxy_request_start(&config, &err);
    if (run->request == NULL)
        fail_msg("%s", err.text);
    memset(&run->proxy, 0xff, sizeof(run->proxy)); /* it is not used any more */
}

static void end(struct run *run)
{
    proxy_request_cancel(run->request);
    secret_free(run->password);
    for (size_t i = 0; i < 2; i++) {
        if (run->pair[i] >= 0)
            assert_int_equal(close(run->pair[i]), 0);
    }
    loop_free(run->loop);
}

/* What has come must be exactly this. */
static void expect_sent(struct run *run, const void *bytes, size_t length)
{
    uint8_t got[1024];
    ssize_t n = -1;

    NET_UNTIL(run->loop, (n = recv(run->pair[1], got, sizeof(got), MSG_PEEK)) >= (ssize_t)length || run->calls > 0);
    assert_int_equal(recv(run->pair[1], got, sizeof(got), 0), length);
    assert_memory_equal(got, bytes, length);
}

/* Byte by byte, so that each may come alone. */
static void answer(struct run *run, const void *bytes, size_t length)
{
    for (size_t i = 0; i < length && run->calls == 0; i++) {
        assert_int_equal(send(run->pair[1], (const uint8_t *)bytes + i, 1, MSG_NOSIGNAL), 1);
        loop_run_ready(run->loop);
    }
}

static void expect_end(struct run *run, enum error_category category, const char *text)
{
    NET_UNTIL(run->loop, run->calls > 0);
    assert_int_equal(run->calls, 1);
    if (run->category != category || strstr(run->text, text) == NULL)
        fail_msg("category %d, \"%s\" instead of %d, \"%s\"", run->category, run->text, category, text);
}

static void next_byte_is_the_servers(struct run *run)
{
    char byte = 0;

    assert_int_equal(recv(run->pair[0], &byte, 1, 0), 1);
    assert_int_equal(byte, 'S');
}

#define TEXT(string) (string), sizeof(string) - 1

static void connect_by_http(void **state)
{
    struct run run;

    (void)state;
    begin(&run, "http://proxy:1", NULL, "gateway.example:8443");
    expect_sent(&run, TEXT("CONNECT gateway.example:8443 HTTP/1.1\r\nHost: gateway.example:8443\r\n\r\n"));
    assert_int_equal(
        send(run.pair[1], TEXT("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nS"), 0), 64);
    expect_end(&run, ERROR_NONE, "");
    next_byte_is_the_servers(&run);
    end(&run);

    begin(&run, "http://user@proxy:1", "hunter2", "[2001:db8::1]:443");
    expect_sent(&run, TEXT("CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
                           "Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n\r\n"));
    answer(&run, TEXT("HTTP/1.0 200 Connection established\r\n\r\n"));
    expect_end(&run, ERROR_NONE, "");
    end(&run);
}

static void http_refusals(void **state)
{
    static const struct {
        const char *answer;
        enum error_category category;
        const char *why;
    } cases[] = {
        {"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno!", ERROR_IO,
         "proxy-password-file"},
        {"HTTP/1.1 403 No\r\n\r\n", ERROR_IO, "status 403: it does not allow"},
        {"HTTP/1.1 503 No\r\n\r\n", ERROR_IO, "status 503: it cannot reach"},
        {"HTTP/1.1 302 Elsewhere\r\nLocation: http://x/\r\n\r\n", ERROR_IO, "status 302"},
        {"HTTP/1.1 101 Switching\r\n\r\n", ERROR_PROTOCOL, "as an HTTP proxy does"},
        {"SSH-2.0-OpenSSH_9\r\n", ERROR_PROTOCOL, "as an HTTP proxy does"},
        {"\x05\x01\r\n", ERROR_PROTOCOL, "as an HTTP proxy does"},
        {"HTTP/1.1 200 OK\n\nS", ERROR_PROTOCOL, "as an HTTP proxy does"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct run run;

        begin(&run, "http://proxy:1", NULL, "gateway.example:8443");
        answer(&run, cases[i].answer, strlen(cases[i].answer));
        expect_end(&run, cases[i].category, cases[i].why);
        end(&run);
    }
}

static void http_without_end(void **state)
{
    struct run run;
    char line[1024];

    (void)state;
    (void)snprintf(line, sizeof(line), "X-Filler: %01000d\r\n", 1);
    begin(&run, "http://proxy:1", NULL, "gateway.example:8443");
    assert_int_equal(send(run.pair[1], TEXT("HTTP/1.1 200 OK\r\n"), 0), 17);
    for (size_t sent = 0; run.calls == 0; sent += strlen(line)) {
        assert_true(sent < 2 * PROXY_REQUEST_HEAD_MAX);
        assert_int_equal(send(run.pair[1], line, strlen(line), MSG_NOSIGNAL), strlen(line));
        net_turn(run.loop);
    }
    expect_end(&run, ERROR_PROTOCOL, "as an HTTP proxy does");
    end(&run);
}

static void closed_early(void **state)
{
    static const char *const urls[] = {"http://proxy:1", "socks5://proxy:1"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct run run;

        begin(&run, urls[i], NULL, "gateway.example:8443");
        loop_run_ready(run.loop);
        assert_int_equal(shutdown(run.pair[1], SHUT_WR), 0);
        expect_end(&run, ERROR_IO, "closed the connection instead of answering");
        end(&run);
    }
}

static void cancelled(void **state)
{
    struct run run;

    (void)state;
    begin(&run, "socks5://proxy:1", NULL, "gateway.example:8443");
    answer(&run, TEXT("\x05"));
    proxy_request_cancel(run.request);
    run.request = NULL;
    loop_run_ready(run.loop);
    assert_int_equal(run.calls, 0);
    end(&run);
}

static void connect_by_socks(void **state)
{
    struct run run;

    (void)state;
    begin(&run, "socks5://proxy:1", NULL, "gateway.example:8443");
    expect_sent(&run, TEXT("\5\1\0"));
    answer(&run, TEXT("\5\0"));
    expect_sent(&run, TEXT("\5\1\0\3\17gateway.example\x20\xfb"));
    assert_int_equal(send(run.pair[1], TEXT("\5\0\0\3\4name\1\2S"), 0), 12);
    expect_end(&run, ERROR_NONE, "");
    next_byte_is_the_servers(&run);
    end(&run);

    begin(&run, "socks5://user@proxy:1", "hunter2", "192.0.2.1:443");
    expect_sent(&run, TEXT("\5\2\0\2"));
    answer(&run, TEXT("\5\2"));
    expect_sent(&run, TEXT("\1\4user\7hunter2"));
    answer(&run, TEXT("\1\0"));
    expect_sent(&run, TEXT("\5\1\0\1\xc0\0\2\1\1\xbb"));
    assert_int_equal(send(run.pair[1], TEXT("\5\0\0\1\1\2\3\4\5\6S"), 0), 11);
    expect_end(&run, ERROR_NONE, "");
    next_byte_is_the_servers(&run);
    end(&run);

    begin(&run, "socks5://user@proxy:1", NULL, "[2001:db8::1]:443"); /* a proxy that wants no password after all */
    expect_sent(&run, TEXT("\5\2\0\2"));
    answer(&run, TEXT("\5\0"));
    expect_sent(&run, TEXT("\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\1\xbb"));
    answer(&run, TEXT("\5\0\0\4\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\x10\1\2"));
    expect_end(&run, ERROR_NONE, "");
    end(&run);
}

static void socks_refusals(void **state)
{
    static const struct {
        const char *answer;
        size_t length;
        enum error_category category;
        const char *why;
        bool user;
    } cases[] = {
        {TEXT("HTTP/1.1 400\r\n"), ERROR_PROTOCOL, "does not speak SOCKS 5", false},
        {TEXT("\4\0"), ERROR_PROTOCOL, "does not speak SOCKS 5", false},
        {TEXT("\5\xff"), ERROR_IO, "wants authentication", false},
        {TEXT("\5\xff"), ERROR_IO, "accepts no user name", true},
        {TEXT("\5\2"), ERROR_PROTOCOL, "not offered", false},
        {TEXT("\5\1"), ERROR_PROTOCOL, "not offered", true},
        {TEXT("\5\2\1\1"), ERROR_IO, "refused the user name or password", true},
        {TEXT("\5\2\5\0"), ERROR_PROTOCOL, "did not answer the password", true},
        {TEXT("\5\0\5\1\0\1\0"), ERROR_IO, "failure of its own", false},
        {TEXT("\5\0\5\2\0\1\0"), ERROR_IO, "does not allow this server", false},
        {TEXT("\5\0\5\4\0\1\0"), ERROR_IO, "cannot reach the server", false},
        {TEXT("\5\0\5\5\0\1\0"), ERROR_IO, "nobody listens there", false},
        {TEXT("\5\0\5\x63\0\1\0"), ERROR_IO, "does not know", false},
        {TEXT("\5\0\4\0\0\1\0"), ERROR_PROTOCOL, "does not speak SOCKS 5", false},
        {TEXT("\5\0\5\0\7\1\0"), ERROR_PROTOCOL, "does not speak SOCKS 5", false},
        {TEXT("\5\0\5\0\0\2\0"), ERROR_PROTOCOL, "unknown kind", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct run run;

        begin(&run, cases[i].user ? "socks5://u@proxy:1" : "socks5://proxy:1", NULL, "gateway.example:8443");
        answer(&run, cases[i].answer, cases[i].length);
        expect_end(&run, cases[i].category, cases[i].why);
        end(&run);
    }
}

static void password_too_long(void **state)
{
    struct run run = {.loop = net_loop()};
    char text[PROXY_CREDENTIAL_MAX + 1];
    struct error err = ERROR_INIT;
    struct proxy_request_config config = {
        .loop = run.loop, .proxy = &run.proxy, .target = &run.target, .done = on_done};

    (void)state;
    memset(text, 'x', sizeof(text));
    net_pair(run.pair);
    config.fd = run.pair[0];
    run.password = secret_new(&err);
    assert_int_equal(secret_take(run.password, text, sizeof(text), &err), ERROR_NONE);
    assert_int_equal(proxy_parse("socks5://u@p", &run.proxy, &err), ERROR_NONE);
    assert_int_equal(address_parse("h:1", ADDRESS_CONNECT, &run.target, &err), ERROR_NONE);
    run.proxy.password = run.password;
    assert_null(proxy_request_start(&config, &err));
    assert_non_null(strstr(err.text, "at most 255"));
    end(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(urls_refused),
        cmocka_unit_test(password_files),
        cmocka_unit_test(connect_by_http),
        cmocka_unit_test(http_refusals),
        cmocka_unit_test(http_without_end),
        cmocka_unit_test(closed_early),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(connect_by_socks),
        cmocka_unit_test(socks_refusals),
        cmocka_unit_test(password_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
