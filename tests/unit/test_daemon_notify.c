/* What the service manager is told, and when nothing is said. */
#include "daemon/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/tokentls-test-XXXXXX";

/* A manager's socket; name begins with '/' or, for the abstract namespace, with '@'. */
static int listen_at(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_true(strlen(name) < sizeof(address.sun_path));
    memcpy(address.sun_path, name, strlen(name));
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    assert_int_equal(
        bind(fd, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
        0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static const char *receive(int fd)
{
    static char text[512];
    ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

    if (n < 0) {
        assert_int_equal(errno, EAGAIN);
        return NULL;
    }
    text[n] = '\0';
    assert_int_equal(strlen(text), n); /* without a NUL at the end */
    return text;
}

static void test_path(void **state)
{
    char path[64];
    int fd;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/notify", folder);
    fd = listen_at(path);
    notify_send("READY=1");
    assert_string_equal(receive(fd), "READY=1");
    notify_send("STOPPING=1");
    assert_string_equal(receive(fd), "STOPPING=1");
    assert_null(receive(fd));
    assert_int_equal(close(fd), 0);
    /* nobody listens any more: nothing happens */
    notify_send("READY=1");
    assert_int_equal(unlink(path), 0);
    notify_send("READY=1");
}

static void test_abstract_name(void **state)
{
    char name[64];
    int fd;

    (void)state;
    (void)snprintf(name, sizeof(name), "@tokentls-test-%d", (int)getpid());
    fd = listen_at(name);
    notify_send("READY=1");
    assert_string_equal(receive(fd), "READY=1");
    (void)close(fd);
}

/* sd_notify(3): RELOADING=1 goes with the time, so that the manager can match it with its request. */
static void test_reloading_has_the_time(void **state)
{
    char name[64], *end = NULL;
    const char *text;
    int fd;

    (void)state;
    (void)snprintf(name, sizeof(name), "@tokentls-test-%d", (int)getpid());
    fd = listen_at(name);
    notify_send("RELOADING=1");
    text = receive(fd);
    assert_non_null(text);
    assert_int_equal(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
    assert_true(strtoull(text + 27, &end, 10) > 0);
    assert_string_equal(end, "");
    (void)close(fd);
}

static void test_nobody_is_told(void **state)
{
    static char endless[300];
    char path[64];
    int fd;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/notify", folder);
    fd = listen_at(path);
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    notify_send("READY=1");
    assert_int_equal(setenv("NOTIFY_SOCKET", "", 1), 0);
    notify_send("READY=1");
    /* relative: it would be somebody else's in another folder */
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", "notify", 1), 0);
    notify_send("READY=1");
    assert_int_equal(chdir("/"), 0);
    memset(endless, 'x', sizeof(endless) - 1);
    endless[0] = '/';
    assert_int_equal(setenv("NOTIFY_SOCKET", endless, 1), 0);
    notify_send("READY=1");
    assert_null(receive(fd));
    (void)close(fd);
    assert_int_equal(unlink(path), 0);
}

/* A manager that does not read must not hold the daemon up. */
static void test_full_socket_does_not_block(void **state)
{
    char name[64];
    int fd;

    (void)state;
    (void)snprintf(name, sizeof(name), "@tokentls-test-%d", (int)getpid());
    fd = listen_at(name);
    for (int i = 0; i < 5000; i++)
        notify_send("WATCHDOG=1");
    assert_string_equal(receive(fd), "WATCHDOG=1");
    (void)close(fd);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_abstract_name),
        cmocka_unit_test(test_nobody_is_told),
        cmocka_unit_test(test_reloading_has_the_time),
        cmocka_unit_test(test_full_socket_does_not_block),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
