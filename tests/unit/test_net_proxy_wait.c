/* Waiting for a PROXY header: it is taken from the socket, and not one byte of what follows it. */
#include "net_test.h"

#include "net/proxy_wait.h"

#include <stdio.h>

#define LINE "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
#define V2 "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\2\7\xc6\x33\x64\1\xdc\4\1\xbb\4\0\1x"
#define HELLO "\x16\3\1\0\5hello"

struct outcome {
    struct proxy_wait *wait;
    bool done, good, silent;
    struct proxy_preface preface;
    struct error err;
};

static void ended(void *arg, const struct proxy_preface *preface, const struct error *err)
{
    struct outcome *outcome = arg;

    assert_false(outcome->done);
    outcome->done = true;
    outcome->good = err == NULL;
    outcome->silent = proxy_wait_is_silent(outcome->wait);
    if (preface != NULL)
        outcome->preface = *preface;
    if (err != NULL)
        outcome->err = *err;
    proxy_wait_free(outcome->wait);
    outcome->wait = NULL;
}

static void begin(struct loop *loop, int fd, uint64_t ms, struct outcome *outcome)
{
    const struct proxy_wait_config config = {.loop = loop, .fd = fd, .timeout_ms = ms, .done = ended, .arg = outcome};

    *outcome = (struct outcome){.done = false};
    outcome->wait = proxy_wait_start(&config, NULL);
    assert_non_null(outcome->wait);
}

static void make_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void must_be_left(int fd, const char *text, size_t length)
{
    char rest[64];

    assert_int_equal(recv(fd, rest, sizeof(rest), MSG_DONTWAIT), (ssize_t)length);
    assert_memory_equal(rest, text, length);
    assert_int_equal(recv(fd, rest, sizeof(rest), MSG_DONTWAIT), -1);
}

/* Cut after each byte: the first part is there before the rest comes, with the client's bytes behind it. */
static void every_cut_leaves_the_clients_bytes(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
    } headers[] = {{LINE, sizeof(LINE) - 1}, {V2, sizeof(V2) - 1}};
    struct loop *loop = net_loop();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (size_t cut = 0; cut <= headers[i].length; cut++) {
            char all[128];
            size_t length = headers[i].length + sizeof(HELLO) - 1;
            struct outcome outcome;
            int fds[2];

            memcpy(all, headers[i].bytes, headers[i].length);
            memcpy(all + headers[i].length, HELLO, sizeof(HELLO) - 1);
            make_pair(fds);
            begin(loop, fds[1], DEADLINE_MS, &outcome);
            assert_int_equal(send(fds[0], all, cut, 0), (ssize_t)cut);
            loop_run_ready(loop);
            assert_int_equal(outcome.done, cut == headers[i].length);
            assert_int_equal(send(fds[0], all + cut, length - cut, 0), (ssize_t)(length - cut));
            NET_UNTIL(loop, outcome.done);
            assert_true(outcome.good && outcome.preface.passed_on);
            assert_int_equal(address_socket_port(&outcome.preface.source), 56324);
            must_be_left(fds[1], HELLO, sizeof(HELLO) - 1);
            (void)close(fds[0]);
            (void)close(fds[1]);
        }
    }
    loop_free(loop);
}

static void one_that_is_not_good(void **state)
{
    struct loop *loop = net_loop();
    struct outcome outcome;
    int fds[2];

    (void)state;
    make_pair(fds);
    begin(loop, fds[1], DEADLINE_MS, &outcome);
    assert_int_equal(send(fds[0], HELLO, 1, 0), 1);
    NET_UNTIL(loop, outcome.done);
    assert_int_equal(outcome.err.category, ERROR_PROTOCOL);
    assert_non_null(strstr(outcome.err.text, "begins with TLS"));
    (void)close(fds[0]);
    (void)close(fds[1]);
    loop_free(loop);
}

static void who_goes_away(void **state)
{
    struct loop *loop = net_loop();

    (void)state;
    for (size_t sent = 0; sent < 2; sent++) {
        struct outcome outcome;
        int fds[2];

        make_pair(fds);
        begin(loop, fds[1], DEADLINE_MS, &outcome);
        assert_int_equal(send(fds[0], LINE, sent * 7, 0), (ssize_t)sent * 7);
        loop_run_ready(loop);
        (void)close(fds[0]);
        NET_UNTIL(loop, outcome.done);
        assert_int_equal(outcome.err.category, ERROR_CLOSED);
        assert_int_equal(outcome.silent, sent == 0);
        assert_string_equal(outcome.err.text, sent == 0 ? "the peer closed the connection without a PROXY header"
                                                        : "the peer closed the connection within the PROXY header");
        (void)close(fds[1]);
    }
    loop_free(loop);
}

static void who_says_nothing(void **state)
{
    struct loop *loop = net_loop();
    struct outcome outcome;
    int fds[2];

    (void)state;
    make_pair(fds);
    begin(loop, fds[1], 1, &outcome);
    NET_UNTIL(loop, outcome.done);
    assert_int_equal(outcome.err.category, ERROR_IO);
    assert_string_equal(outcome.err.text, "time-out: no PROXY header has come");
    /* given up by the caller */
    begin(loop, fds[1], DEADLINE_MS, &outcome);
    proxy_wait_free(outcome.wait);
    proxy_wait_free(NULL);
    assert_int_equal(send(fds[0], LINE, 5, 0), 5);
    loop_run_ready(loop);
    assert_false(outcome.done);
    (void)close(fds[0]);
    (void)close(fds[1]);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_cut_leaves_the_clients_bytes),
                                       cmocka_unit_test(one_that_is_not_good), cmocka_unit_test(who_goes_away),
                                       cmocka_unit_test(who_says_nothing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
