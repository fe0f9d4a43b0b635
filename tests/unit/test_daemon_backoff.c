/* Back-off, with a clock of the test's own. */
#include "daemon/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_delays_grow_to_the_limit(void **state)
{
    struct backoff backoff = {0};
    uint64_t now = 1000, expected = BACKOFF_FIRST_MS;

    (void)state;
    for (int i = 0; i < 20; i++) {
        backoff_started(&backoff, now);
        assert_int_equal(backoff_ended(&backoff, now + 5), expected);
        now += 5 + expected;
        expected = 2 * expected <= BACKOFF_MAX_MS ? 2 * expected : BACKOFF_MAX_MS;
    }
    assert_int_equal(expected, BACKOFF_MAX_MS);
}

static void test_a_healthy_run_starts_anew(void **state)
{
    struct backoff backoff = {0};

    (void)state;
    backoff_started(&backoff, 0);
    assert_int_equal(backoff_ended(&backoff, 1), BACKOFF_FIRST_MS);
    backoff_started(&backoff, 201);
    assert_int_equal(backoff_ended(&backoff, 202), 2 * BACKOFF_FIRST_MS);
    backoff_started(&backoff, 1000);
    assert_int_equal(backoff_ended(&backoff, 1000 + BACKOFF_HEALTHY_MS - 1), 4 * BACKOFF_FIRST_MS);
    backoff_started(&backoff, 100000);
    assert_int_equal(backoff_ended(&backoff, 100000 + BACKOFF_HEALTHY_MS), BACKOFF_FIRST_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delays_grow_to_the_limit),
        cmocka_unit_test(test_a_healthy_run_starts_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
