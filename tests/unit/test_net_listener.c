#include "net_test.h"

#include "net/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/tokentls-listener-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails when a test has left a file */
}

static void in_folder(const char *name, struct address *ret)
{
    char text[160];

    (void)snprintf(text, sizeof(text), "unix:%s/%s", folder, name);
    net_parse(text, ret);
}

static const struct listener_options usual = {.mode = 0600, .loopback_only = true};

static void open_it(const struct address *address, struct listener_sockets *ret)
{
    struct error err = ERROR_INIT;

    if (listener_open(address, &usual, ret, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

static void refuse(const struct address *address, const struct listener_options *options, enum error_category category,
                   const char *why)
{
    struct listener_sockets sockets = {.n = 0};
    struct error err = ERROR_INIT;

    assert_int_equal(listener_open(address, options, &sockets, &err), category);
    assert_int_equal(sockets.n, 0);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static int connect_to(const struct address_socket *to)
{
    int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &to->any, to->length), 0);
    return fd;
}

static void test_open_tcp(void **state)
{
    struct listener_sockets sockets;
    struct address_socket local;
    struct address address;

    (void)state;
    net_parse("127.0.0.1:0", &address);
    open_it(&address, &sockets);
    assert_int_equal(sockets.n, 1);
    assert_true(fcntl(sockets.fds[0], F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(sockets.fds[0], F_GETFL) & O_NONBLOCK);
    assert_int_equal(address_of_socket(sockets.fds[0], &local, NULL), ERROR_NONE);
    (void)close(connect_to(&local));

    /* The port is taken now. */
    address.port = address_socket_port(&local);
    refuse(&address, &usual, ERROR_IO, "Address already in use");
    listener_close(&sockets);
    assert_int_equal(sockets.n, 0);
    open_it(&address, &sockets); /* SO_REUSEADDR: at once again */
    listener_close(&sockets);
}

static void test_open_localhost(void **state)
{
    struct listener_sockets sockets;
    struct address_socket local;
    struct address address;

    (void)state;
    net_parse("localhost:0", &address);
    open_it(&address, &sockets);
    assert_in_range(sockets.n, 1, 2);
    for (size_t i = 0; i < sockets.n; i++) {
        assert_int_equal(address_of_socket(sockets.fds[i], &local, NULL), ERROR_NONE);
        assert_true(address_socket_is_loopback(&local));
        (void)close(connect_to(&local));
    }
    listener_close(&sockets);
}

static void test_refused_tcp(void **state)
{
    const struct listener_options anyone = {.mode = 0600};
    struct listener_sockets sockets;
    struct address address;

    (void)state;
    net_parse("gateway.example:0", &address);
    refuse(&address, &anyone, ERROR_CONFIG, "give an IP address");
    net_parse("0.0.0.0:0", &address);
    refuse(&address, &usual, ERROR_CONFIG, "insecure-listen");
    net_parse("[::]:0", &address);
    refuse(&address, &usual, ERROR_CONFIG, "insecure-listen");
    net_parse("[fe80::1%nosuchif0]:0", &address);
    refuse(&address, &anyone, ERROR_CONFIG, "no such interface");
    net_parse("192.0.2.77:0", &address);
    refuse(&address, &anyone, ERROR_IO, "cannot listen on 192.0.2.77:0: Cannot assign");
    net_parse("0.0.0.0:0", &address);
    assert_int_equal(listener_open(&address, &anyone, &sockets, NULL), ERROR_NONE);
    listener_close(&sockets);
}

static void test_unix_mode_and_removal(void **state)
{
    const mode_t modes[] = {0600, 0660, 0666};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct listener_options options = {.mode = modes[i], .loopback_only = true};
        struct listener_sockets sockets;
        struct address address;
        struct stat status;

        in_folder("mode", &address);
        assert_int_equal(listener_open(&address, &options, &sockets, NULL), ERROR_NONE);
        assert_int_equal(lstat(address.path.sun_path, &status), 0);
        assert_int_equal(status.st_mode & 07777, modes[i]);
        (void)close(connect_to(&sockets.file));
        listener_close(&sockets);
        assert_int_equal(lstat(address.path.sun_path, &status), -1);
    }
}

static void test_unix_stale_and_live(void **state)
{
    struct listener_sockets first, second;
    struct address address;

    (void)state;
    in_folder("sock", &address);
    open_it(&address, &first);
    refuse(&address, &usual, ERROR_IO, "Address already in use"); /* somebody answers */
    listener_drop(&first);                                        /* as a crash does: the file stays */
    open_it(&address, &second);
    listener_close(&second);
}

static void test_unix_foreign_file_is_left_alone(void **state)
{
    struct listener_sockets sockets, other;
    struct address address;
    struct stat status;
    int fd;

    (void)state;
    in_folder("file", &address);
    fd = open(address.path.sun_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    refuse(&address, &usual, ERROR_IO, "File exists");
    assert_int_equal(lstat(address.path.sun_path, &status), 0);
    assert_int_equal(unlink(address.path.sun_path), 0);

    /* A file that somebody else has put there meanwhile is not ours to remove. */
    open_it(&address, &sockets);
    assert_int_equal(unlink(address.path.sun_path), 0);
    open_it(&address, &other);
    listener_close(&sockets);
    assert_int_equal(lstat(address.path.sun_path, &status), 0);
    listener_close(&other);

    in_folder("nosuch/sock", &address);
    refuse(&address, &usual, ERROR_IO, "No such file");
}

static void test_unix_abstract(void **state)
{
    struct listener_sockets sockets;
    struct address address;
    char text[80];

    (void)state;
    (void)snprintf(text, sizeof(text), "unix:@tokentls-test-%d", (int)getpid());
    net_parse(text, &address);
    open_it(&address, &sockets);
    refuse(&address, &usual, ERROR_IO, "Address already in use");
    listener_close(&sockets);
    open_it(&address, &sockets);
    listener_close(&sockets);
}

/* In a process of its own, where descriptors 3 to 6 and the environment can be what systemd makes of them. */
static int systemd_child(void)
{
    struct address_socket local, again;
    struct listener_sockets sockets, second;
    struct listener_options options = {.mode = 0600, .loopback_only = true};
    struct error err = ERROR_INIT;
    struct address address;
    char number[32];
    int listening = net_listen(1, &local), dummy[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, dummy) != 0)
        return 10;
    listening = fcntl(listening, F_DUPFD, 100);
    dummy[0] = fcntl(dummy[0], F_DUPFD, 100);
    if (dup2(listening, 3) != 3 || dup2(listening, 4) != 4 || dup2(dummy[0], 5) != 5)
        return 11;
    net_parse("systemd:fix", &address);
    if (listener_open(&address, &options, &sockets, &err) != ERROR_CONFIG || strstr(err.text, "no sockets") == NULL)
        return 12;
    (void)setenv("LISTEN_FDS", "3", 1);
    (void)setenv("LISTEN_FDNAMES", "other:fix:pair", 1);
    (void)setenv("LISTEN_PID", "1", 1);
    if (listener_open(&address, &options, &sockets, &err) != ERROR_CONFIG || strstr(err.text, "no sockets") == NULL)
        return 13;
    (void)snprintf(number, sizeof(number), "%d", (int)getpid());
    (void)setenv("LISTEN_PID", number, 1);
    if (listener_open(&address, &options, &sockets, &err) != ERROR_NONE || sockets.n != 1)
        return 14;
    if (!(fcntl(4, F_GETFD) & FD_CLOEXEC) || !(fcntl(sockets.fds[0], F_GETFD) & FD_CLOEXEC))
        return 15;
    if (address_of_socket(sockets.fds[0], &again, NULL) != ERROR_NONE ||
        address_socket_port(&again) != address_socket_port(&local))
        return 16;
    listener_close(&sockets);
    if (listener_open(&address, &options, &second, &err) != ERROR_NONE) /* as after a reload */
        return 17;
    net_parse("systemd:pair", &address);
    if (listener_open(&address, &options, &second, &err) != ERROR_CONFIG ||
        strstr(err.text, "not a listening stream socket") == NULL)
        return 18;
    net_parse("systemd:fi", &address);
    if (listener_open(&address, &options, &second, &err) != ERROR_CONFIG || strstr(err.text, "no socket of") == NULL)
        return 19;
    return 0;
}

static void test_systemd(void **state)
{
    pid_t pid = fork();
    int status;

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(systemd_child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

struct host {
    struct loop *loop;
    struct listener *listener;
    struct listener_sockets sockets;
    struct address_socket local;
    int accepted;
    int problems;
    unsigned long problem_code;
    int last_fd;
    char peer[ADDRESS_TEXT_MAX];
    bool free_on_accept, pause_on_accept;
};

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

static void on_accepted(void *arg, int fd, const struct address_socket *peer)
{
    struct host *host = arg;

    host->accepted++;
    address_socket_text(peer, host->peer, sizeof(host->peer));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    (void)close(fd);
    if (host->pause_on_accept)
        listener_pause(host->listener);
    if (host->free_on_accept) {
        listener_free(host->listener);
        host->listener = NULL;
    }
}

static void on_problem(void *arg, const struct error *problem)
{
    struct host *host = arg;

    host->problems++;
    host->problem_code = problem->code;
}

static void host_start(struct host *host)
{
    struct listener_config config;
    struct address address;

    *host = (struct host){.loop = net_loop()};
    net_parse("127.0.0.1:0", &address);
    open_it(&address, &host->sockets);
    assert_int_equal(address_of_socket(host->sockets.fds[0], &host->local, NULL), ERROR_NONE);
    config = (struct listener_config){.loop = host->loop,
                                      .fds = host->sockets.fds,
                                      .n_fds = host->sockets.n,
                                      .accepted = on_accepted,
                                      .problem = on_problem,
                                      .arg = host};
    host->listener = listener_new(&config, NULL);
    assert_non_null(host->listener);
}

static void host_end(struct host *host)
{
    listener_free(host->listener);
    listener_close(&host->sockets);
    loop_free(host->loop);
}

static void test_accept_pause_resume(void **state)
{
    struct host host;
    struct address_socket own;
    char text[ADDRESS_TEXT_MAX];
    int fds[3 * LISTENER_ACCEPTS_PER_EVENT];
    const int n = 3 * LISTENER_ACCEPTS_PER_EVENT;

    (void)state;
    host_start(&host);
    fds[0] = connect_to(&host.local);
    NET_UNTIL(host.loop, host.accepted == 1);
    assert_int_equal(address_of_socket(fds[0], &own, NULL), ERROR_NONE);
    assert_string_equal(host.peer, address_socket_text(&own, text, sizeof(text)));
    (void)close(fds[0]);

    listener_pause(host.listener);
    listener_pause(host.listener);
    for (int i = 0; i < n; i++)
        fds[i] = connect_to(&host.local); /* the backlog holds them */
    net_turn(host.loop);
    assert_int_equal(host.accepted, 1);
    host.pause_on_accept = true; /* from within the callback: exactly one more */
    listener_resume(host.listener);
    NET_UNTIL(host.loop, host.accepted == 2);
    net_turn(host.loop);
    assert_int_equal(host.accepted, 2);
    host.pause_on_accept = false;
    listener_resume(host.listener);
    NET_UNTIL(host.loop, host.accepted == 1 + n);
    for (int i = 0; i < n; i++)
        (void)close(fds[i]);
    assert_int_equal(host.problems, 0);
    host_end(&host);
}

/* The second of two that listen on one descriptor, and its will. */
struct second {
    struct listener *listener;
    unsigned accepted, asked;
    bool willing;
};

static void second_accepted(void *arg, int fd, const struct address_socket *peer)
{
    (void)peer;
    ((struct second *)arg)->accepted++;
    (void)close(fd);
}

static bool second_willing(void *arg)
{
    struct second *second = arg;

    second->asked++;
    return second->willing;
}

/* Who is not willing leaves it to the other one; where there is no other, it is not left for ever. */
static void test_leaves_connections_to_others(void **state)
{
    struct host host;
    struct second second = {.willing = false};
    struct listener_config config;
    int fds[20];

    (void)state;
    host_start(&host);
    config = (struct listener_config){.loop = host.loop,
                                      .fds = host.sockets.fds,
                                      .n_fds = host.sockets.n,
                                      .accepted = second_accepted,
                                      .willing = second_willing,
                                      .arg = &second};
    second.listener = listener_new(&config, NULL);
    assert_non_null(second.listener);
    for (unsigned i = 0; i < 20; i++) {
        fds[i] = connect_to(&host.local);
        NET_UNTIL(host.loop, host.accepted == (int)i + 1);
    }
    assert_int_equal(second.accepted, 0);
    listener_pause(host.listener); /* as good as dead */
    second.asked = 0;
    (void)close(fds[0]);
    fds[0] = connect_to(&host.local);
    NET_UNTIL(host.loop, second.accepted == 1);
    assert_in_range(second.asked, LISTENER_YIELD_MS,
                    LISTENER_YIELD_MS + 1); /* and once for the next, which is not there */
    second.willing = true;
    second.asked = 0;
    (void)close(fds[1]);
    fds[1] = connect_to(&host.local);
    NET_UNTIL(host.loop, second.accepted == 2);
    assert_in_range(second.asked, 1, 2); /* at once */
    for (unsigned i = 0; i < 20; i++)
        (void)close(fds[i]);
    listener_free(second.listener);
    host_end(&host);
}

static void test_free_from_the_callback(void **state)
{
    struct host host;
    int fds[3];

    (void)state;
    host_start(&host);
    host.free_on_accept = true;
    for (int i = 0; i < 3; i++)
        fds[i] = connect_to(&host.local);
    NET_UNTIL(host.loop, host.accepted == 1);
    net_turn(host.loop);
    assert_int_equal(host.accepted, 1);
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    host_end(&host);
    listener_free(NULL);
}

static void test_out_of_descriptors(void **state)
{
    struct rlimit limit, low;
    struct host host;
    int fd, spare;

    (void)state;
    host_start(&host);
    fd = connect_to(&host.local);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    spare = dup(fd); /* the lowest free number is the limit */
    assert_true(spare >= 0);
    (void)close(spare);
    low.rlim_cur = (rlim_t)spare;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    NET_UNTIL(host.loop, host.problems == 2); /* one report a pause, and it tries again by itself */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(host.problem_code, EMFILE);
    assert_int_equal(host.accepted, 0);
    NET_UNTIL(host.loop, host.accepted == 1);
    (void)close(fd);
    host_end(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_tcp),
        cmocka_unit_test(test_open_localhost),
        cmocka_unit_test(test_refused_tcp),
        cmocka_unit_test_setup_teardown(test_unix_mode_and_removal, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_unix_stale_and_live, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_unix_foreign_file_is_left_alone, make_folder, remove_folder),
        cmocka_unit_test(test_unix_abstract),
        cmocka_unit_test(test_systemd),
        cmocka_unit_test(test_accept_pause_resume),
        cmocka_unit_test(test_leaves_connections_to_others),
        cmocka_unit_test(test_free_from_the_callback),
        cmocka_unit_test(test_out_of_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
