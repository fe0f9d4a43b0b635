/* What an announcement of the keyholder means for a program that runs once, and where PIN tries are recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/holder.c" /* for judge() */

static struct keyholder_identity told(enum token_state state, enum error_category category)
{
    struct keyholder_identity identity = {.state = state, .category = category};

    if (category != ERROR_NONE)
        (void)snprintf(identity.reason, sizeof(identity.reason), "the keyholder's reason");
    return identity;
}

static void assert_judged(struct keyholder_identity identity, bool has_pin_source, enum error_category wanted)
{
    struct error err;
    bool decided = false;

    judge(&identity, has_pin_source, &decided, &err);
    assert_true(decided);
    assert_int_equal(err.category, wanted);
}

static void assert_waits(struct keyholder_identity identity, bool has_pin_source)
{
    struct error err;
    bool decided = true;

    judge(&identity, has_pin_source, &decided, &err);
    assert_false(decided);
}

static void test_judge(void **state)
{
    (void)state;
    assert_judged(told(TOKEN_READY, ERROR_NONE), true, ERROR_NONE);
    assert_judged(told(TOKEN_READY, ERROR_NONE), false, ERROR_NONE); /* a key that wants no login */
    assert_judged(told(TOKEN_ABSENT, ERROR_TOKEN), true, ERROR_TOKEN);
    assert_judged(told(TOKEN_ABSENT, ERROR_TOKEN), false, ERROR_TOKEN);
    assert_judged(told(TOKEN_FAILED, ERROR_TOKEN), false, ERROR_TOKEN);
    assert_judged(told(TOKEN_LOCKED, ERROR_PIN), true, ERROR_PIN);
    assert_judged(told(TOKEN_PRESENT, ERROR_CONFIG), false, ERROR_CONFIG);
    assert_waits(told(TOKEN_PRESENT, ERROR_NONE), true); /* still logging in */
}

/* Without a PIN source a key that is not seen is not "absent": nobody could look. */
static void test_nobody_gives_a_pin(void **state)
{
    struct keyholder_identity identity = told(TOKEN_PRESENT, ERROR_TOKEN);
    struct error err;
    bool decided;

    (void)state;
    assert_judged(identity, true, ERROR_TOKEN);
    assert_judged(identity, false, ERROR_PIN);
    assert_judged(told(TOKEN_PRESENT, ERROR_NONE), false, ERROR_PIN);
    judge(&identity, false, &decided, &err);
    assert_non_null(strstr(err.text, "no terminal"));
}

static void test_state_directory(void **state)
{
    char out[128], small[8];
    struct error err = ERROR_INIT;

    (void)state;
    setenv("HOME", "/home-of-nobody", 1);
    setenv("XDG_STATE_HOME", "/state", 1);
    assert_int_equal(holder_state_directory(out, sizeof out, &err), ERROR_NONE);
    assert_string_equal(out, "/state/tokentls");
    setenv("XDG_STATE_HOME", "relative", 1); /* the specification wants it ignored */
    assert_int_equal(holder_state_directory(out, sizeof out, &err), ERROR_NONE);
    assert_string_equal(out, "/home-of-nobody/.local/state/tokentls");
    assert_int_equal(holder_state_directory(small, sizeof small, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "too long"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_nobody_gives_a_pin),
        cmocka_unit_test(test_state_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
