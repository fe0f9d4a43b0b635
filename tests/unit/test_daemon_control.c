/* The control socket: what a request is, who is heard, and that slow and silent callers do not stay. */
#include "base/text.h"
#include "daemon/control_socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_good_requests(void **state)
{
    static const struct {
        const char *text;
        struct control_order order;
    } cases[] = {
        {"{\"order\":\"status\"}\n", {.kind = CONTROL_ORDER_STATUS}},
        {" { \"order\" : \"reload\" } ", {.kind = CONTROL_ORDER_RELOAD}},
        {"{\"identity\":\"a b\",\"order\":\"unlock\"}", {.kind = CONTROL_ORDER_UNLOCK, .identity = "a b"}},
        {"{\"order\":\"lock\",\"all\":true}", {.kind = CONTROL_ORDER_LOCK, .all = true}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct control_order got, again;
        char *text;

        assert_int_equal(control_order_parse(cases[i].text, strlen(cases[i].text), &got, NULL), ERROR_NONE);
        assert_int_equal(got.kind, cases[i].order.kind);
        assert_int_equal(got.all, cases[i].order.all);
        assert_string_equal(got.identity, cases[i].order.identity);
        text = control_order_text(&got);
        assert_int_equal(control_order_parse(text, strlen(text), &again, NULL), ERROR_NONE);
        assert_int_equal(again.kind, got.kind);
        assert_string_equal(again.identity, got.identity);
        free(text);
    }
}

static void test_bad_requests(void **state)
{
    static const char *const wrong[] = {
        "",
        "\n",
        "null",
        "[]",
        "\"status\"",
        "{}",
        "{\"order\":\"stop\"}",
        "{\"order\":1}",
        "{\"order\":\"status\"} x",
        "{\"order\":\"status\",\"order\":\"status\"}",
        "{\"order\":\"status\",\"identity\":\"a\"}",
        "{\"order\":\"status\",\"all\":true}",
        "{\"order\":\"status\",\"pin\":\"1\"}",
        "{\"order\":\"unlock\"}",
        "{\"order\":\"unlock\",\"identity\":\"\"}",
        "{\"order\":\"unlock\",\"identity\":7}",
        "{\"order\":\"unlock\",\"identity\":\"a\\nb\"}",
        "{\"order\":\"unlock\",\"identity\":\"a\",\"all\":true}",
        "{\"order\":\"unlock\",\"all\":true,\"identity\":\"a\"}",
        "{\"order\":\"unlock\",\"all\":false}",
        "{\"order\":\"unlock\",\"identity\":\"a2345678901234567890123456789012345678901234567890123456789012345\"}",
    };
    struct control_order order = {.kind = CONTROL_ORDER_LOCK, .identity = "untouched"};
    char big[CONTROL_ORDER_MAX + 2];
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (control_order_parse(wrong[i], strlen(wrong[i]), &order, &err) != ERROR_PROTOCOL)
            fail_msg("accepted: %s", wrong[i]);
    }
    (void)snprintf(big, sizeof(big), "%-*s", (int)sizeof(big) - 1, "{\"order\":\"status\"}");
    big[sizeof(big) - 1] = ' ';
    assert_int_equal(control_order_parse(big, sizeof(big), &order, &err), ERROR_PROTOCOL);
    assert_int_equal(control_order_parse("{\"order\":\"status\"}\0x", 20, &order, &err), ERROR_PROTOCOL);
    assert_non_null(strstr(err.text, "NUL"));
    assert_string_equal(order.identity, "untouched");
}

static struct scene {
    struct loop *loop;
    struct control_socket *socket;
    char folder[32], path[64];
    struct address address;
    uint64_t caller;
    unsigned requests;
} scene;

static void requested(void *arg, uint64_t caller, const struct control_order *order)
{
    (void)arg;
    (void)order;
    scene.caller = caller;
    scene.requests++;
}

static void overdue(void *arg, uint64_t caller)
{
    (void)arg;
    control_socket_answer(scene.socket, caller, "late");
}

static int set_up(void **state)
{
    struct control_socket_config config = {.request = requested, .overdue = overdue};
    struct error err = ERROR_INIT;
    char text[80];

    (void)state;
    memset(&scene, 0, sizeof(scene));
    (void)strcpy(scene.folder, "/tmp/tokentls-XXXXXX");
    assert_non_null(mkdtemp(scene.folder));
    (void)snprintf(scene.path, sizeof(scene.path), "%s/c", scene.folder);
    (void)snprintf(text, sizeof(text), "unix:%s", scene.path);
    assert_int_equal(address_parse(text, ADDRESS_LISTEN, &scene.address, &err), ERROR_NONE);
    config.loop = scene.loop = loop_new(&err);
    scene.socket = control_socket_new(&config, &err);
    assert_non_null(scene.socket);
    assert_int_equal(control_socket_prepare(scene.socket, &scene.address, &err), ERROR_NONE);
    assert_int_equal(control_socket_commit(scene.socket, &err), ERROR_NONE);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    control_socket_free(scene.socket);
    loop_free(scene.loop);
    assert_int_equal(access(scene.path, F_OK), -1);
    assert_int_equal(rmdir(scene.folder), 0);
    return 0;
}

static int dial(const char *request)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)&scene.address.path, scene.address.path_length), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    loop_run_ready(scene.loop);
    return fd;
}

static void expect(int fd, const char *text)
{
    char got[512] = "";

    loop_run_ready(scene.loop);
    assert_true(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT) > 0);
    assert_non_null(strstr(got, text));
    assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), 0);
    (void)close(fd);
}

static void test_answers(void **state)
{
    struct stat status;
    int fd = dial("{\"order\":");

    (void)state;
    assert_int_equal(stat(scene.path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(scene.requests, 0);
    assert_int_equal(send(fd, "\"status\"}\n", 10, MSG_NOSIGNAL), 10);
    loop_run_ready(scene.loop);
    assert_int_equal(scene.requests, 1);
    control_socket_answer(scene.socket, scene.caller, "fine");
    expect(fd, "fine\n");
    control_socket_answer(scene.socket, scene.caller, "nobody is there any more");
    expect(dial("{}\n"), "not understood");
    assert_int_equal(scene.requests, 1);
    /* who hangs up is forgotten; who only ends its own direction is answered */
    fd = dial("{\"order\":\"status\"}\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    loop_run_ready(scene.loop);
    control_socket_answer(scene.socket, scene.caller, "still");
    expect(fd, "still\n");
    fd = dial("{\"order\":\"status\"}\n");
    (void)close(fd);
    loop_run_ready(scene.loop);
    control_socket_answer(scene.socket, scene.caller, "gone");
}

/* More callers than places wait until one is free. */
static void test_places(void **state)
{
    int fds[CONTROL_SOCKET_CALLERS_MAX], late;

    (void)state;
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++)
        fds[i] = dial("{\"order\":\"status\"}\n");
    assert_int_equal(scene.requests, CONTROL_SOCKET_CALLERS_MAX);
    late = dial("{\"order\":\"status\"}\n");
    assert_int_equal(scene.requests, CONTROL_SOCKET_CALLERS_MAX);
    control_socket_answer(scene.socket, scene.caller, "one");
    loop_run_ready(scene.loop);
    assert_int_equal(scene.requests, CONTROL_SOCKET_CALLERS_MAX + 1);
    control_socket_answer(scene.socket, scene.caller, "two");
    expect(late, "two\n");
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++)
        (void)close(fds[i]);
}

/* A reload that fails keeps the socket; one that names none removes it. */
static void test_changes(void **state)
{
    struct address nowhere;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(address_parse("unix:/nowhere/at/all", ADDRESS_LISTEN, &nowhere, &err), ERROR_NONE);
    assert_int_equal(control_socket_prepare(scene.socket, &nowhere, &err), ERROR_IO);
    assert_int_equal(control_socket_prepare(scene.socket, NULL, &err), ERROR_NONE);
    control_socket_abandon(scene.socket);
    assert_int_equal(control_socket_commit(scene.socket, &err), ERROR_NONE);
    expect(dial("{}\n"), "not understood");
    assert_int_equal(control_socket_prepare(scene.socket, NULL, &err), ERROR_NONE);
    assert_int_equal(control_socket_commit(scene.socket, &err), ERROR_NONE);
    assert_int_equal(access(scene.path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changes, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
