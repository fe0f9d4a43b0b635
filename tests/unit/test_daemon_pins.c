/* PINs that can be read once: taken before anything is started, once, and from nowhere else. */
#include "daemon/pins.h"

#include "daemon_fixture.h"

#include <fcntl.h>

#define IDENTITY(name, source)                                                                                         \
    "identity \"" name "\" { uri = \"pkcs11:token=" name ";object=k\" pin-source = \"" source "\" }\n"
#define TUNNEL(names) "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = {" names "} }\n"

static void expect_pin(const struct pins *pins, const char *source, const char *pin)
{
    const struct secret *secret = pins_find(pins, source);

    assert_non_null(secret);
    assert_int_equal(secret_length(secret), strlen(pin));
    assert_memory_equal(secret_bytes(secret), pin, strlen(pin));
}

static int pipe_with(const char *text)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), strlen(text));
    assert_int_equal(close(fds[1]), 0);
    return fds[0];
}

static void test_variables_are_taken_and_removed(void **state)
{
    struct blueprint *plan = make_plan(&fixture_agent, "a.conf",
                                       IDENTITY("a", "env:TK_PIN_A") IDENTITY("b", "env:TK_PIN_B")
                                           IDENTITY("c", "env:TK_PIN_A") TUNNEL("\"a\", \"b\", \"c\""));
    struct pins pins = {0};
    struct error err = ERROR_INIT;
    char *where;

    (void)state;
    assert_int_equal(setenv("TK_PIN_A", "1234", 1), 0);
    assert_int_equal(setenv("TK_PIN_B", "98765", 1), 0);
    where = getenv("TK_PIN_A");
    /* two groups with one source: it is read once, or the second would find nothing */
    assert_int_equal(pins_take(&pins, &plan->groups, &err), ERROR_NONE);
    expect_pin(&pins, "env:TK_PIN_A", "1234");
    expect_pin(&pins, "env:TK_PIN_B", "98765");
    assert_null(getenv("TK_PIN_A"));
    assert_null(getenv("TK_PIN_B"));
    /* where /proc/PID/environ shows it */
    assert_memory_equal(where, "\0\0\0\0", 4);
    assert_null(pins_find(&pins, "env:TK_PIN_C"));
    assert_null(pins_find(&pins, NULL));
    /* a reload takes nothing twice */
    assert_int_equal(pins_take(&pins, &plan->groups, &err), ERROR_NONE);
    expect_pin(&pins, "env:TK_PIN_A", "1234");
    pins_free(&pins);
    assert_null(pins.items);
    blueprint_free(plan);
}

static void test_descriptors_are_taken_and_closed(void **state)
{
    char text[512];
    int fd = pipe_with("4321\n");
    struct blueprint *plan;
    struct pins pins = {0};
    struct error err = ERROR_INIT;

    (void)state;
    (void)snprintf(text, sizeof(text),
                   "identity \"a\" { uri = \"pkcs11:token=a;object=k\" pin-source = \"fd:%d\" }\n" TUNNEL("\"a\""), fd);
    plan = make_plan(&fixture_agent, "fd.conf", text);
    assert_int_equal(pins_take(&pins, &plan->groups, &err), ERROR_NONE);
    (void)snprintf(text, sizeof(text), "fd:%d", fd);
    expect_pin(&pins, text, "4321");
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    pins_free(&pins);
    blueprint_free(plan);
}

/* A file is the keyholder's to read, each time anew: the supervisor keeps nothing of it. */
static void test_files_are_not_read(void **state)
{
    struct blueprint *plan =
        make_plan(&fixture_agent, "f.conf", IDENTITY("a", "file:/nonexistent/pin") TUNNEL("\"a\""));
    struct pins pins = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(pins_take(&pins, &plan->groups, &err), ERROR_NONE);
    assert_null(pins.items);
    blueprint_free(plan);
}

static void expect_refused(const char *value, const char *says)
{
    struct blueprint *plan = make_plan(&fixture_agent, "m.conf", IDENTITY("a", "env:TK_PIN_X") TUNNEL("\"a\""));
    struct pins pins = {0};
    struct error err = ERROR_INIT;

    if (value != NULL)
        assert_int_equal(setenv("TK_PIN_X", value, 1), 0);
    assert_int_equal(pins_take(&pins, &plan->groups, &err), ERROR_PIN);
    expect_text(err.text, says);
    assert_null(pins.items);
    assert_null(getenv("TK_PIN_X"));
    blueprint_free(plan);
}

static void test_what_is_not_given(void **state)
{
    static char endless[SECRET_MAX + 2];

    (void)state;
    memset(endless, '7', sizeof(endless) - 1);
    expect_refused(NULL, "env:TK_PIN_X: the variable is not set");
    expect_refused("", "the PIN is empty");
    expect_refused(endless, "env:TK_PIN_X");
}

/* An identity that no service uses has no keyholder, and nobody asks for its PIN. */
static void test_unused_identities_are_left_alone(void **state)
{
    struct blueprint *plan = make_plan(
        &fixture_agent, "u.conf",
        "identity \"a\" { uri = \"pkcs11:token=a;object=k\" }\n" IDENTITY("b", "env:TK_PIN_U") TUNNEL("\"a\""));
    struct pins pins = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(pins_take(&pins, &plan->groups, &err), ERROR_NONE);
    assert_null(pins.items);
    blueprint_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variables_are_taken_and_removed),
        cmocka_unit_test(test_descriptors_are_taken_and_closed),
        cmocka_unit_test(test_files_are_not_read),
        cmocka_unit_test(test_what_is_not_given),
        cmocka_unit_test(test_unused_identities_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, fixture_remove_folder);
}
