/* The state machine of a token's life: which transition each pair of states is, and that none is told twice. */
#include "pkcs11/life.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct error reason = {.category = ERROR_TOKEN, .text = "because"};

static void every_edge(void **state)
{
    static const char *const expected[5][5] = {{"none", "inserted", "inserted", "inserted", "failed"},
                                               {"removed", "none", "locked", "logged-in", "failed"},
                                               {"removed", "logged-out", "none", "logged-in", "failed"},
                                               {"removed", "logged-out", "locked", "none", "failed"},
                                               {"removed", "recovered", "recovered", "recovered", "none"}};

    (void)state;
    for (unsigned from = 0; from < 5; from++) {
        for (unsigned to = 0; to < 5; to++) {
            struct life life = {.known = false};
            enum life_transition transition;

            assert_int_equal(life_enter(&life, (enum token_state)from, NULL), LIFE_FOUND);
            transition = life_enter(&life, (enum token_state)to, &reason);
            assert_string_equal(life_transition_name(transition), expected[from][to]);
            assert_string_equal(life_state_name(&life), token_state_name((enum token_state)to));
            if (from != to)
                assert_string_equal(life_before_name(&life), token_state_name((enum token_state)from));
            assert_int_equal(life.transitions, from == to ? 1 : 2);
        }
    }
}

static void nothing_is_told_twice(void **state)
{
    struct life life = {.known = false};
    time_t since;

    (void)state;
    assert_string_equal(life_state_name(&life), "starting");
    assert_null(life_before_name(&life));
    assert_int_equal(life_enter(&life, TOKEN_ABSENT, &reason), LIFE_FOUND);
    assert_null(life_before_name(&life));
    assert_true(life.since > 0);
    life.since -= 100;
    since = life.since;
    for (int i = 0; i < 3; i++)
        assert_int_equal(life_enter(&life, TOKEN_ABSENT, NULL), LIFE_NONE);
    assert_int_equal(life.since, since);
    assert_int_equal(life.transitions, 1);
    assert_int_equal(life.last, LIFE_FOUND);
    assert_int_equal(life.why.category, ERROR_NONE); /* the reason is that of the last look */
    assert_int_equal(life_enter(&life, TOKEN_READY, NULL), LIFE_INSERTED);
    assert_true(life.since > since);
    assert_string_equal(life_transition_name((enum life_transition)LIFE_TRANSITIONS), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_edge), cmocka_unit_test(nothing_is_told_twice)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
