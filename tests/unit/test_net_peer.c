#include "net_test.h"

#include "net/peer.c"

#include <netinet/tcp.h>
#include <sys/wait.h>

#define NOBODY 65534

static void test_unix(void **state)
{
    struct peer_credentials credentials;
    int pair[2];

    (void)state;
    net_pair(pair);
    assert_int_equal(peer_credentials(pair[0], &credentials, NULL), ERROR_NONE);
    assert_int_equal(credentials.uid, getuid());
    assert_int_equal(credentials.gid, getgid());
    assert_int_equal(credentials.pid, getpid());
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_tcp(void **state)
{
    struct peer_credentials credentials = {.uid = 12345};
    struct error err = ERROR_INIT;
    int pair[2];

    (void)state;
    net_tcp_pair(pair);
    if (peer_credentials(pair[1], &credentials, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(credentials.uid, getuid());
    assert_int_equal(credentials.pid, 0);
    assert_int_equal(credentials.gid, (gid_t)-1);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static int accept_from(int listening)
{
    (void)fcntl(listening, F_SETFL, 0);
    return accept4(listening, NULL, NULL, SOCK_CLOEXEC);
}

/* IPv6, and IPv4 that an IPv6 socket sees as mapped. */
static void test_tcp_over_v6(void **state)
{
    (void)state;
    for (int mapped = 0; mapped < 2; mapped++) {
        struct address_socket to = {.in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                                    .length = sizeof(to.in6)};
        struct peer_credentials credentials = {.uid = 12345};
        struct error err = ERROR_INIT;
        int listening = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int client, accepted;

        if (listening < 0)
            skip(); /* a machine without IPv6 */
        if (mapped)
            to.in6.sin6_addr = (struct in6_addr)IN6ADDR_ANY_INIT;
        if (bind(listening, &to.any, to.length) != 0 || listen(listening, 1) != 0) {
            (void)close(listening);
            skip();
        }
        assert_int_equal(address_of_socket(listening, &to, NULL), ERROR_NONE);
        if (mapped)
            to = (struct address_socket){
                .in = {.sin_family = AF_INET, .sin_port = to.in6.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                .length = sizeof(to.in)};
        client = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(client, &to.any, to.length), 0);
        accepted = accept_from(listening);
        if (peer_credentials(accepted, &credentials, &err) != ERROR_NONE)
            fail_msg("%s", err.text);
        assert_int_equal(credentials.uid, getuid());
        (void)close(client);
        (void)close(accepted);
        (void)close(listening);
    }
}

/* A socket without an owner is shown by the kernel with uid 0: it must not pass for root. */
static void test_tcp_closed_by_the_peer(void **state)
{
    struct peer_credentials credentials = {.uid = 12345};
    struct error err = ERROR_INIT;
    int pair[2];

    (void)state;
    net_tcp_pair(pair);
    (void)close(pair[0]);
    assert_int_equal(peer_credentials(pair[1], &credentials, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "no process of this machine owns the connection from 127.0.0.1:"));
    assert_int_equal(credentials.uid, 12345);
    (void)close(pair[1]);
}

/* What the kernel may answer instead of the connection that was asked for. */
static void test_answers_that_are_not_the_peer(void **state)
{
    struct address_socket peer, own;
    struct inet_diag_msg good = {.idiag_family = AF_INET, .idiag_state = TCP_ESTABLISHED, .idiag_inode = 4711};
    struct inet_diag_msg bad;
    int pair[2];

    (void)state;
    net_tcp_pair(pair);
    assert_int_equal(address_of_peer(pair[1], &peer, NULL), ERROR_NONE);
    assert_int_equal(address_of_socket(pair[1], &own, NULL), ERROR_NONE);
    good.id.idiag_sport = peer.in.sin_port;
    good.id.idiag_dport = own.in.sin_port;
    good.id.idiag_src[0] = peer.in.sin_addr.s_addr;
    good.id.idiag_dst[0] = own.in.sin_addr.s_addr;
    assert_true(answers(&good, &peer, &own));

    bad = good;
    bad.idiag_inode = 0; /* orphaned or TIME_WAIT: uid 0 */
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.idiag_state = TCP_LISTEN; /* a listener on the port that the peer had */
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.id.idiag_dport = 0;
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.id.idiag_sport ^= 1;
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.id.idiag_src[0] ^= 1;
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.id.idiag_dst[0] = 0;
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.idiag_family = AF_INET6; /* ::7f00:1 is not 127.0.0.1 */
    assert_false(answers(&bad, &peer, &own));
    bad = good;
    bad.idiag_family = AF_UNIX;
    assert_false(answers(&bad, &peer, &own));
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* An answer that nobody has read is not taken for the next one, and does not stay in the way either. */
static void test_the_answer_to_another_question(void **state)
{
    struct peer_credentials credentials = {.uid = 12345};
    struct address_socket peer, own;
    struct question question;
    struct error err = ERROR_INIT;
    int pair[2];

    (void)state;
    net_tcp_pair(pair);
    assert_int_equal(address_of_peer(pair[1], &peer, NULL), ERROR_NONE);
    assert_int_equal(address_of_socket(pair[1], &own, NULL), ERROR_NONE);
    make_question(&peer, &own, &question);
    assert_int_equal(ask(&question, NULL), ERROR_NONE);
    assert_int_equal(peer_credentials(pair[1], &credentials, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "or one to another question"));
    assert_int_equal(credentials.uid, 12345);
    assert_int_equal(netlink_fd, -1);
    assert_int_equal(peer_credentials(pair[1], &credentials, &err), ERROR_NONE);
    assert_int_equal(credentials.uid, getuid());
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* One descriptor serves all questions, those that are answered with a refusal too. */
static void test_the_descriptor_is_kept(void **state)
{
    struct peer_credentials credentials;
    int pair[2], before;

    (void)state;
    net_tcp_pair(pair);
    assert_int_equal(peer_credentials(pair[1], &credentials, NULL), ERROR_NONE);
    before = netlink_fd;
    assert_true(before >= 0);
    (void)close(pair[0]);
    assert_int_equal(peer_credentials(pair[1], &credentials, NULL), ERROR_VERIFY);
    assert_int_equal(netlink_fd, before);
    (void)close(pair[1]);
}

/* Another user connects: it is that user's uid, not ours. Needs root to become another one. */
static void test_tcp_of_another_user(void **state)
{
    struct address_socket local;
    struct peer_credentials credentials;
    struct error err = ERROR_INIT;
    int listening = net_listen(1, &local), hold[2], accepted, status;
    pid_t pid;

    (void)state;
    if (getuid() != 0) {
        (void)close(listening);
        skip();
    }
    assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char byte;
        int fd;

        (void)close(hold[1]);
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
            _exit(1);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, &local.any, local.length) != 0)
            _exit(2);
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 3); /* until the test has looked */
    }
    (void)close(hold[0]);
    accepted = accept_from(listening);
    assert_true(accepted >= 0);
    if (peer_credentials(accepted, &credentials, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(credentials.uid, NOBODY);
    (void)close(hold[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    (void)close(accepted);
    (void)close(listening);
}

static void test_not_connected(void **state)
{
    struct peer_credentials credentials;
    struct address_socket local;
    int listening = net_listen(1, &local);

    (void)state;
    assert_int_equal(peer_credentials(listening, &credentials, NULL), ERROR_IO);
    (void)close(listening);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tcp_over_v6),
        cmocka_unit_test(test_tcp_closed_by_the_peer),
        cmocka_unit_test(test_answers_that_are_not_the_peer),
        cmocka_unit_test(test_the_answer_to_another_question),
        cmocka_unit_test(test_the_descriptor_is_kept),
        cmocka_unit_test(test_tcp_of_another_user),
        cmocka_unit_test(test_not_connected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
