/* Order and fairness of the signing queue, and the heap below it. */
#include "pkcs11/keyholder/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct number {
    struct heap_node node;
    unsigned value;
};

static bool number_before(const struct heap_node *a, const struct heap_node *b)
{
    return ((const struct number *)a)->value < ((const struct number *)b)->value;
}

/* A generator of its own: the same numbers in each run. */
static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1103515245U + 12345U;
    return *seed >> 16;
}

static void test_heap_any_order(void **state)
{
    enum { COUNT = 500 };
    struct number numbers[COUNT];
    struct heap heap;
    unsigned seed = 7, last = 0;
    size_t left = COUNT;

    (void)state;
    heap_init(&heap, number_before);
    assert_null(heap_first(&heap));
    for (size_t i = 0; i < COUNT; i++) {
        numbers[i].value = next_random(&seed) % 1000;
        assert_int_equal(heap_add(&heap, &numbers[i].node, NULL), ERROR_NONE);
    }
    for (size_t i = 0; i < COUNT; i += 3) { /* remove from the middle, change others */
        heap_remove(&heap, &numbers[i].node);
        left--;
        if (i + 1 < COUNT) {
            numbers[i + 1].value = next_random(&seed) % 1000;
            heap_moved(&heap, &numbers[i + 1].node);
        }
    }
    for (; left > 0; left--) {
        struct number *first = (struct number *)heap_first(&heap);

        assert_non_null(first);
        assert_true(first->value >= last);
        last = first->value;
        heap_remove(&heap, &first->node);
    }
    assert_null(heap_first(&heap));
    heap_free(&heap);
}

static void add(struct queue *queue, struct queue_item *item, uint32_t tunnel, uint64_t deadline)
{
    *item = (struct queue_item){.tunnel = tunnel, .deadline = deadline};
    assert_int_equal(queue_add(queue, item, NULL), ERROR_NONE);
}

static void test_earliest_deadline_first(void **state)
{
    static const uint64_t deadlines[] = {50, 10, 40, 10, UINT64_MAX, 20};
    static const size_t expected[] = {1, 3, 5, 2, 0, 4}; /* equal deadlines in order of arrival */
    struct queue *queue = queue_new(10, NULL);
    struct queue_item items[6];

    (void)state;
    for (size_t i = 0; i < 6; i++)
        add(queue, &items[i], 1, deadlines[i]);
    assert_int_equal(queue_count(queue), 6);
    for (size_t i = 0; i < 6; i++)
        assert_ptr_equal(queue_take(queue), &items[expected[i]]);
    assert_null(queue_take(queue));
    assert_int_equal(queue_count(queue), 0);
    queue_free(queue);
}

/* A tunnel with 100 requests of early deadlines does not hold up another tunnel's two late ones. */
static void test_tunnels_take_turns(void **state)
{
    struct queue *queue = queue_new(200, NULL);
    struct queue_item busy[100], quiet[2];
    struct queue_item *taken[102];

    (void)state;
    for (size_t i = 0; i < 100; i++)
        add(queue, &busy[i], 1, 100 + i);
    add(queue, &quiet[0], 2, 9000);
    add(queue, &quiet[1], 2, 9001);
    for (size_t i = 0; i < 102; i++)
        taken[i] = queue_take(queue);
    assert_ptr_equal(taken[0], &busy[0]); /* same turn: the earlier deadline */
    assert_ptr_equal(taken[1], &quiet[0]);
    assert_ptr_equal(taken[2], &busy[1]);
    assert_ptr_equal(taken[3], &quiet[1]);
    assert_ptr_equal(taken[4], &busy[2]);
    assert_ptr_equal(taken[101], &busy[99]);
    queue_free(queue);
}

/* Leaving (an empty tunnel) and coming back with an earlier deadline gives no second place in the same turn. */
static void test_coming_back_gains_nothing(void **state)
{
    struct queue *queue = queue_new(10, NULL);
    struct queue_item a, b, c;

    (void)state;
    add(queue, &a, 1, 10);
    add(queue, &b, 2, 500);
    assert_ptr_equal(queue_take(queue), &a);
    add(queue, &c, 1, 5);
    assert_ptr_equal(queue_take(queue), &b);
    assert_ptr_equal(queue_take(queue), &c);
    queue_free(queue);
}

/* What nobody waits for goes when no other is there, however long it has stood back; and then in turns, too. */
static void test_background_stands_back(void **state)
{
    struct queue *queue = queue_new(20, NULL);
    struct queue_item ahead[3], other, real[3];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        add(queue, &ahead[i], QUEUE_BACKGROUND | 1, 10 + i);
    add(queue, &other, QUEUE_BACKGROUND | 2, 5000);
    add(queue, &real[0], 1, 9000);
    add(queue, &real[1], 1, 9001);
    assert_ptr_equal(queue_take(queue), &real[0]);
    assert_ptr_equal(queue_take(queue), &real[1]);
    assert_ptr_equal(queue_take(queue), &ahead[0]);
    add(queue, &real[2], 7, 20000);
    assert_ptr_equal(queue_take(queue), &real[2]);
    assert_ptr_equal(queue_take(queue), &other);
    assert_ptr_equal(queue_take(queue), &ahead[1]);
    assert_ptr_equal(queue_take(queue), &ahead[2]);
    assert_null(queue_take(queue));
    /* the clock of turns was not turned back by those */
    add(queue, &real[0], 1, 10);
    add(queue, &real[1], 2, 500);
    assert_ptr_equal(queue_take(queue), &real[0]);
    add(queue, &real[2], 1, 5);
    assert_ptr_equal(queue_take(queue), &real[1]);
    assert_ptr_equal(queue_take(queue), &real[2]);
    queue_free(queue);
}

static void test_full(void **state)
{
    struct queue *queue = queue_new(2, NULL);
    struct queue_item items[3] = {{.tunnel = 1}, {.tunnel = 2}, {.tunnel = 3}};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(queue_add(queue, &items[0], &err), ERROR_NONE);
    assert_int_equal(queue_add(queue, &items[1], &err), ERROR_NONE);
    assert_int_equal(queue_add(queue, &items[2], &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "queue is full"));
    assert_null(items[2].owner);
    queue_remove(queue, &items[0]);
    assert_null(items[0].owner);
    assert_int_equal(queue_add(queue, &items[2], &err), ERROR_NONE);
    queue_free(queue);
}

static void test_expired(void **state)
{
    struct queue *queue = queue_new(10, NULL);
    struct queue_item early, late, other;

    (void)state;
    assert_null(queue_take_expired(queue, UINT64_MAX));
    add(queue, &late, 1, 300);
    add(queue, &other, 2, 200);
    add(queue, &early, 1, 100);
    assert_null(queue_take_expired(queue, 99));
    assert_ptr_equal(queue_take_expired(queue, 100), &early);
    assert_null(queue_take_expired(queue, 199));
    assert_ptr_equal(queue_take_expired(queue, 250), &other);
    assert_null(queue_take_expired(queue, 250));
    assert_ptr_equal(queue_take(queue), &late);
    queue_free(queue);
}

/* Random additions, removals and takings: every item comes out once, and no tunnel that waits is passed over twice. */
static void test_random(void **state)
{
    enum { ITEMS = 400, TUNNELS = 7 };
    static struct queue_item items[ITEMS];
    struct queue *queue = queue_new(ITEMS, NULL);
    unsigned seed = 42;
    size_t seen = 0, removed = 0;
    unsigned passed[TUNNELS] = {0}, waiting[TUNNELS] = {0};

    (void)state;
    for (size_t i = 0; i < ITEMS; i++) {
        add(queue, &items[i], next_random(&seed) % TUNNELS, next_random(&seed));
        waiting[items[i].tunnel]++;
        if (next_random(&seed) % 4 == 0) {
            waiting[items[i].tunnel]--;
            queue_remove(queue, &items[i]);
            removed++;
        }
    }
    for (;;) {
        struct queue_item *item = queue_take(queue);

        if (item == NULL)
            break;
        seen++;
        assert_null(item->owner);
        for (unsigned t = 0; t < TUNNELS; t++)
            passed[t] = waiting[t] == 0 || t == item->tunnel ? 0 : passed[t] + 1;
        for (unsigned t = 0; t < TUNNELS; t++)
            assert_true(passed[t] < 2 * TUNNELS);
        waiting[item->tunnel]--;
    }
    assert_int_equal(seen + removed, ITEMS);
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_any_order),
        cmocka_unit_test(test_earliest_deadline_first),
        cmocka_unit_test(test_tunnels_take_turns),
        cmocka_unit_test(test_coming_back_gains_nothing),
        cmocka_unit_test(test_background_stands_back),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_expired),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
