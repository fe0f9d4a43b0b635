/* Listening sockets over reloads: opened once, shared, closed by the last user, refused with the line they stand in. */
#include "daemon/sockets.h"

#include "daemon_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define TUNNEL(name, listen) "tunnel \"" name "\" { connect = \"h:2\"\n listen = \"" listen "\" }\n"

/* Text with every "DIR" replaced by the test's folder. */
static const char *in_folder(const char *text)
{
    static char out[2048];
    const char *at;
    size_t used = 0;

    while ((at = strstr(text, "DIR")) != NULL) {
        used += (size_t)snprintf(out + used, sizeof(out) - used, "%.*s%s", (int)(at - text), text, fixture_folder());
        text = at + 3;
    }
    (void)snprintf(out + used, sizeof(out) - used, "%s", text);
    return out;
}

static struct blueprint *plan_of(const char *text)
{
    return make_plan(&fixture_agent, "s.conf", in_folder(text));
}

static bool can_connect(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", fixture_folder(), name);
    r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    (void)close(fd);
    return r == 0;
}

static void test_reload_keeps_what_stays(void **state)
{
    struct blueprint *first = plan_of(TUNNEL("a", "unix:DIR/a") TUNNEL("b", "unix:DIR/b"));
    struct blueprint *second = plan_of(TUNNEL("new", "unix:DIR/b") TUNNEL("c", "unix:DIR/c"));
    const struct listener_sockets *const *one = NULL, *const *two = NULL;
    struct sockets sockets = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(sockets_acquire(&sockets, first, &one, &err), ERROR_NONE);
    assert_int_equal(sockets_acquire(&sockets, second, &two, &err), ERROR_NONE);
    assert_ptr_equal(one[1], two[0]); /* the same socket, so no connection is lost between */
    assert_ptr_not_equal(one[0], two[1]);
    sockets_release(&sockets, one);
    assert_false(can_connect("a"));
    assert_true(can_connect("b"));
    assert_true(can_connect("c"));
    sockets_release(&sockets, two);
    assert_null(sockets.items);
    assert_false(can_connect("b"));
    assert_false(can_connect("c"));
    blueprint_free(first);
    blueprint_free(second);
}

/* Port 0 means a port of one's own each time, so nothing is shared. */
static void test_any_port_is_never_shared(void **state)
{
    struct blueprint *plan = plan_of(TUNNEL("a", "127.0.0.1:0"));
    const struct listener_sockets *const *one = NULL, *const *two = NULL;
    struct sockets sockets = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(sockets_acquire(&sockets, plan, &one, &err), ERROR_NONE);
    assert_int_equal(sockets_acquire(&sockets, plan, &two, &err), ERROR_NONE);
    assert_ptr_not_equal(one[0], two[0]);
    sockets_release(&sockets, two);
    sockets_release(&sockets, one);
    assert_null(sockets.items);
    blueprint_free(plan);
}

static void expect_refused(const char *text, const char *where, const char *says)
{
    struct blueprint *plan = plan_of(text);
    const struct listener_sockets *const *list = NULL;
    struct sockets sockets = {0};
    struct error err = ERROR_INIT;
    result r = sockets_acquire(&sockets, plan, &list, &err);

    assert_true(r == ERROR_IO || r == ERROR_CONFIG);
    assert_int_equal(r, err.category);
    expect_text(err.text, where);
    expect_text(err.text, says);
    assert_null(list);
    assert_null(sockets.items); /* what had been opened before is closed again */
    assert_int_not_equal(sockets_acquire(&sockets, plan, &list, NULL), ERROR_NONE);
    blueprint_free(plan);
}

static void test_systemd_name_is_missing(void **state)
{
    (void)state;
    assert_int_equal(unsetenv("LISTEN_FDS"), 0);
    expect_refused(TUNNEL("a", "unix:DIR/a") TUNNEL("b", "systemd:bank"), "s.conf:4: ", "bank");
    assert_false(can_connect("a"));
}

static void test_folder_is_missing(void **state)
{
    (void)state;
    expect_refused(TUNNEL("a", "unix:DIR/none/a"), "s.conf:2: ", "none/a");
}

/* Somebody listens there: it is not taken away from him. */
static void test_live_socket_is_left_alone(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/live", fixture_folder());
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    expect_refused(TUNNEL("a", "unix:DIR/live"), "s.conf:2: ", "live");
    assert_true(can_connect("live"));
    (void)close(fd);
    assert_int_equal(unlink(address.sun_path), 0);
}

/* The end of the daemon: everything is closed whoever uses it, and a late release does no harm. */
static void test_free_closes_everything(void **state)
{
    struct blueprint *plan = plan_of(TUNNEL("a", "unix:DIR/a"));
    const struct listener_sockets *const *list = NULL;
    struct sockets sockets = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(sockets_acquire(&sockets, plan, &list, &err), ERROR_NONE);
    sockets_free(&sockets);
    assert_false(can_connect("a"));
    sockets_release(&sockets, list);
    sockets_release(&sockets, NULL);
    blueprint_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reload_keeps_what_stays),   cmocka_unit_test(test_any_port_is_never_shared),
        cmocka_unit_test(test_systemd_name_is_missing),   cmocka_unit_test(test_folder_is_missing),
        cmocka_unit_test(test_live_socket_is_left_alone), cmocka_unit_test(test_free_closes_everything),
    };

    return cmocka_run_group_tests(tests, NULL, fixture_remove_folder);
}
