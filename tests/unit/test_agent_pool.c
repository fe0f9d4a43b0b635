/* How many connections are kept ready, when they are made and for how long they are kept: a clock of its own. */
#include "agent/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define WANTED 10
#define LONGEST 30000

/* 7000 ms after the machine's start: no time is 0. */
#define START 7000

static struct pool fresh_pool(void)
{
    struct pool pool;

    pool_init(&pool, WANTED, LONGEST, 4711);
    return pool;
}

static void test_fills_up_and_no_further(void **state)
{
    struct pool pool = fresh_pool();

    (void)state;
    assert_int_equal(pool_to_make(&pool, START, 0, 0, false), POOL_MAKING_MAX);
    assert_int_equal(pool_to_make(&pool, START, 0, 3, false), POOL_MAKING_MAX - 3);
    assert_int_equal(pool_to_make(&pool, START, 0, POOL_MAKING_MAX, false), 0);
    assert_int_equal(pool_to_make(&pool, START, WANTED - 2, 0, false), 2);
    assert_int_equal(pool_to_make(&pool, START, WANTED - 2, 1, false), 1);
    assert_int_equal(pool_to_make(&pool, START, WANTED - 2, 2, false), 0);
    assert_int_equal(pool_to_make(&pool, START, WANTED, 0, false), 0);
    assert_int_equal(pool_to_make(&pool, START, WANTED + 5, 1, false), 0);
}

static void test_nothing_is_wanted(void **state)
{
    struct pool pool;

    (void)state;
    pool_init(&pool, 0, LONGEST, 0);
    assert_int_equal(pool_to_make(&pool, START, 0, 0, false), 0);
}

static void test_yields_to_clients(void **state)
{
    struct pool pool = fresh_pool();

    (void)state;
    assert_int_equal(pool_to_make(&pool, START, 0, 0, true), POOL_MAKING_BUSY);
    assert_int_equal(pool_to_make(&pool, START, 0, POOL_MAKING_BUSY, true), 0);
    assert_int_equal(pool_to_make(&pool, START, 0, POOL_MAKING_MAX, true), 0);
}

static void test_waits_longer_and_longer(void **state)
{
    struct pool pool = fresh_pool();
    uint64_t now = START, nominal = POOL_DELAY_FIRST_MS;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        uint64_t wait = pool_failed(&pool, now);

        assert_in_range(wait, nominal - nominal / 4, nominal + nominal / 4);
        assert_int_equal(pool_to_make(&pool, now + wait - 1, 0, 0, false), 0);
        now += wait;
        assert_int_equal(pool_to_make(&pool, now, 0, 0, false), 1); /* one goes ahead */
        assert_int_equal(pool_to_make(&pool, now, 0, 1, false), 0);
        nominal = nominal * 2 > POOL_DELAY_MAX_MS ? POOL_DELAY_MAX_MS : nominal * 2;
    }
    assert_int_equal(nominal, POOL_DELAY_MAX_MS);
}

/* Four were under way when the first failed: that is one failure. */
static void test_a_burst_counts_once(void **state)
{
    struct pool pool = fresh_pool();
    uint64_t wait = pool_failed(&pool, START);

    (void)state;
    assert_int_not_equal(wait, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pool_failed(&pool, START + wait - 1), 0);
    assert_int_equal(pool.delay_ms, POOL_DELAY_FIRST_MS);
    assert_int_equal(pool_to_make(&pool, START + wait, 0, 0, false), 1);
}

static void test_goes_on_when_one_has_lived(void **state)
{
    struct pool pool = fresh_pool();
    uint64_t now = START + pool_failed(&pool, START);
    struct pool_item item;

    (void)state;
    pool_made(&pool, now, true, &item);
    assert_int_equal(pool_to_make(&pool, now, 1, 0, false), 0); /* it may be refused yet */
    assert_false(pool_has_lived(&pool, now + POOL_YOUNG_MS - 1, &item));
    now += POOL_YOUNG_MS;
    assert_true(pool_has_lived(&pool, now, &item));
    assert_true(pool_recovered(&pool));
    assert_false(pool_recovered(&pool));
    assert_int_equal(pool_to_make(&pool, now, 1, 0, false), POOL_MAKING_MAX);
    assert_in_range(pool_failed(&pool, now), 1, 2 * POOL_DELAY_FIRST_MS); /* from the beginning */
}

static void test_a_change_shortens_the_wait(void **state)
{
    struct pool pool = fresh_pool();
    uint64_t now = START;

    (void)state;
    for (unsigned i = 0; i < 12; i++)
        now += pool_failed(&pool, now);
    (void)pool_failed(&pool, now);
    pool_hurry(&pool, now);
    assert_int_equal(pool_to_make(&pool, now, 0, 0, false), 0);
    assert_int_equal(pool_to_make(&pool, now + POOL_HURRY_MS, 0, 0, false), 1);
    assert_true(pool_failed(&pool, now + POOL_HURRY_MS) > POOL_DELAY_MAX_MS / 2); /* it is not forgotten */
}

static void test_trial(void **state)
{
    struct pool pool = fresh_pool();
    struct pool_item item;

    (void)state;
    pool_made(&pool, START, false, &item);
    assert_int_equal(pool_fate(&pool, START, &item), POOL_FATE_TRIAL);
    assert_int_equal(pool_fate(&pool, START + POOL_TRIAL_MS - 1, &item), POOL_FATE_TRIAL);
    assert_int_equal(pool_fate(&pool, START + POOL_TRIAL_MS, &item), POOL_FATE_GOOD);
    item.proven = true;
    assert_int_equal(pool_fate(&pool, START, &item), POOL_FATE_GOOD);
}

/* Each ends at a time of its own within the last quarter, and is replaced before. */
static void test_ages(void **state)
{
    struct pool pool = fresh_pool();
    uint64_t shortest = UINT64_MAX, longest = 0;

    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        struct pool_item item;
        uint64_t aged = 0, over = 0;

        pool_made(&pool, START, true, &item);
        for (uint64_t age = 0; over == 0; age += 10) {
            enum pool_fate fate = pool_fate(&pool, START + age, &item);

            if (fate == POOL_FATE_AGED && aged == 0)
                aged = age;
            if (fate == POOL_FATE_OVER)
                over = age;
            assert_true(age <= LONGEST);
        }
        assert_true(aged != 0 && aged < over);
        assert_in_range(over, LONGEST * 3 / 4, LONGEST);
        shortest = over < shortest ? over : shortest;
        longest = over > longest ? over : longest;
    }
    assert_true(longest - shortest > LONGEST / 8);
}

static void test_learns_what_the_server_bears(void **state)
{
    struct pool pool = fresh_pool();
    struct pool_item item;
    uint64_t now = START + 10000;

    (void)state;
    pool_made(&pool, START, true, &item);
    assert_false(pool_closed(&pool, now, &item));
    assert_int_equal(pool.life_ms, 7500);
    assert_int_equal(pool.delay_ms, 0); /* that is no failure */
    item.made_at = now;
    assert_int_equal(pool_fate(&pool, now + 7500, &item), POOL_FATE_OVER);
    /* one that was older teaches nothing new */
    item.made_at = now - 20000;
    assert_false(pool_closed(&pool, now, &item));
    assert_int_equal(pool.life_ms, 7500);
    item.made_at = now - 4000;
    assert_false(pool_closed(&pool, now, &item));
    assert_int_equal(pool.life_ms, 3000);
}

static void test_too_young_is_a_refusal(void **state)
{
    struct pool pool = fresh_pool();
    struct pool_item item;

    (void)state;
    pool_made(&pool, START, true, &item);
    assert_true(pool_closed(&pool, START + POOL_YOUNG_MS - 1, &item));
    assert_int_equal(pool.life_ms, LONGEST);
    assert_false(pool_closed(&pool, START + POOL_YOUNG_MS, &item));
    assert_int_equal(pool.life_ms, POOL_YOUNG_MS * 3 / 4);
}

/* The server may have been restarted, or told to bear more: it is tried again, slowly, up to what is configured. */
static void test_grows_back(void **state)
{
    struct pool pool = fresh_pool();
    struct pool_item item;
    uint64_t now = START + 8000;

    (void)state;
    pool_made(&pool, START, true, &item);
    assert_false(pool_closed(&pool, now, &item));
    assert_int_equal(pool.life_ms, 6000);
    pool_grow(&pool, now + POOL_GROW_MS - 1);
    assert_int_equal(pool.life_ms, 6000);
    now += POOL_GROW_MS;
    pool_grow(&pool, now);
    assert_int_equal(pool.life_ms, 6750);
    pool_grow(&pool, now + 1);
    assert_int_equal(pool.life_ms, 6750);
    item.made_at = now - 20000; /* a close starts the wait anew, whatever its age */
    assert_false(pool_closed(&pool, now + 1000, &item));
    pool_grow(&pool, now + POOL_GROW_MS);
    assert_int_equal(pool.life_ms, 6750);
    for (unsigned i = 0; i < 40; i++) {
        now += 2 * POOL_GROW_MS;
        pool_grow(&pool, now);
    }
    assert_int_equal(pool.life_ms, LONGEST);
}

static void test_when_to_look_again(void **state)
{
    struct pool pool = fresh_pool();
    struct pool_item item;
    uint64_t wait;

    (void)state;
    assert_in_range(pool_next(&pool, START), 1, 500);
    wait = pool_failed(&pool, START);
    assert_int_equal(pool_next(&pool, START), wait < 500 ? wait : 500);
    assert_int_equal(pool_next(&pool, START + wait - 1), 1);
    assert_in_range(pool_next(&pool, START + wait), 1, 500);
    pool_made(&pool, START, true, &item);
    assert_false(pool_closed(&pool, START + POOL_YOUNG_MS, &item));
    assert_true(pool_next(&pool, START + wait) < POOL_YOUNG_MS / 8);
    pool.life_ms = 1;
    assert_int_equal(pool_next(&pool, START + wait), 1); /* never 0 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fills_up_and_no_further),
        cmocka_unit_test(test_nothing_is_wanted),
        cmocka_unit_test(test_yields_to_clients),
        cmocka_unit_test(test_waits_longer_and_longer),
        cmocka_unit_test(test_a_burst_counts_once),
        cmocka_unit_test(test_goes_on_when_one_has_lived),
        cmocka_unit_test(test_a_change_shortens_the_wait),
        cmocka_unit_test(test_trial),
        cmocka_unit_test(test_ages),
        cmocka_unit_test(test_learns_what_the_server_bears),
        cmocka_unit_test(test_too_young_is_a_refusal),
        cmocka_unit_test(test_grows_back),
        cmocka_unit_test(test_when_to_look_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
