/* What the tests of net/ share: cmocka, a loop with a deadline, and sockets. */
#ifndef TOKENTLS_TESTS_UNIT_NET_TEST_H
#define TOKENTLS_TESTS_UNIT_NET_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/address.h"
#include "net/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 20000

static inline void net_stop(void *arg)
{
    loop_stop(arg);
}

/* Let the loop work for a moment: until nothing is ready, and then until something happens or 2 ms are over. */
static inline void net_turn(struct loop *loop)
{
    struct loop_timer *timer = loop_timer_new(loop, net_stop, loop, NULL);

    assert_non_null(timer);
    loop_run_ready(loop);
    loop_timer_set(timer, 2);
    loop_run(loop);
    loop_timer_free(timer);
}

/* Run the loop until the condition holds; fails after DEADLINE_MS. */
#define NET_UNTIL(loop, condition)                                                                                     \
    do {                                                                                                               \
        uint64_t until_deadline = clock_deadline(DEADLINE_MS);                                                         \
        while (!(condition)) {                                                                                         \
            if (clock_remaining(until_deadline, 1) == 0)                                                               \
                fail_msg("time is up: %s", #condition);                                                                \
            net_turn(loop);                                                                                            \
        }                                                                                                              \
    } while (0)

static inline struct loop *net_loop(void)
{
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new(&err);

    if (loop == NULL)
        fail_msg("%s", err.text);
    return loop;
}

static inline void net_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

/* A listening socket on 127.0.0.1 and a free port. */
static inline int net_listen(int backlog, struct address_socket *ret)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(address_of_socket(fd, ret, NULL), ERROR_NONE);
    return fd;
}

/* A connected pair over TCP loopback, both ends non-blocking. */
static inline void net_tcp_pair(int pair[2])
{
    struct address_socket address;
    int listening = net_listen(1, &address);

    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(pair[0] >= 0);
    assert_int_equal(connect(pair[0], &address.any, address.length), 0);
    (void)fcntl(listening, F_SETFL, 0);
    pair[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(pair[1] >= 0);
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    (void)close(listening);
}

static inline void net_parse(const char *text, struct address *ret)
{
    struct error err = ERROR_INIT;

    if (address_parse(text, ADDRESS_LISTEN, ret, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

#endif
