/* A configuration file as the supervisor reads it: every failure is one of the configuration, and nothing is left. */
#include "daemon_fixture.h"

static char path[256];

static void write_file(const char *text, size_t length)
{
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/b.conf", fixture_folder());
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void expect_refused(const char *file, const char *says)
{
    struct config_errors errors = {0};
    struct blueprint *plan = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(blueprint_read(&fixture_agent, file, &errors, &plan, &err), ERROR_CONFIG);
    assert_int_equal(err.category, ERROR_CONFIG);
    expect_text(err.text, says);
    assert_null(plan);
    config_errors_free(&errors);
}

static void expect_text_refused(const char *text, const char *says)
{
    write_file(text, strlen(text));
    expect_refused(path, says);
    assert_int_equal(unlink(path), 0);
}

#define TUNNEL "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" }\n"

static void test_files_that_cannot_be_read(void **state)
{
    (void)state;
    expect_refused("/nonexistent/x.conf", "/nonexistent/x.conf");
    expect_refused(fixture_folder(), "");
    expect_refused("/dev/null", ""); /* no regular file: it could be without an end */
}

static void test_wrong_texts(void **state)
{
    (void)state;
    expect_text_refused("", "there is no section \"tunnel\"");
    expect_text_refused("user = \"no-such-user-x\"\n" TUNNEL, "b.conf:1: user: there is no user \"no-such-user-x\"");
    expect_text_refused(TUNNEL "keyholder-user = \"no-such-user-x\"\n",
                        "b.conf:2: keyholder-user: there is no user \"no-such-user-x\"");
    expect_text_refused("user = a_b_c\nkeyholder-user = d_e_f\n" TUNNEL, "(and 1 more)");
}

static void test_too_long(void **state)
{
    static char text[1024 * 1024 + 2];

    (void)state;
    memset(text, '#', sizeof(text));
    write_file(text, sizeof(text));
    expect_refused(path, "b.conf");
    assert_int_equal(unlink(path), 0);
}

static void test_references(void **state)
{
    struct blueprint *plan = make_plan(&fixture_agent, "r.conf", "user = \"root\"\n" TUNNEL);

    (void)state;
    assert_true(plan->has_user);
    assert_int_equal(plan->user.uid, 0);
    assert_false(plan->has_keyholder_user);
    assert_ptr_equal(blueprint_ref(plan), plan);
    blueprint_free(plan);
    assert_int_equal(plan->references, 1);
    blueprint_free(plan);
    blueprint_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_wrong_texts),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests(tests, NULL, fixture_remove_folder);
}
