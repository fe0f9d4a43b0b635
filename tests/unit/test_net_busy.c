/* Busy polling: when the loop looks again before it blocks, for how long, and that it gives up. The clock is ours. */
#include "net_test.h"

static uint64_t fake_now;
static unsigned fake_looks; /* how often it was asked for the time: once before polling, then once a look */

static uint64_t fake_clock(void)
{
    fake_looks++;
    return fake_now += 10;
}

#define clock_monotonic_us fake_clock
#include "net/loop.c"

#define BUDGET_US 100

struct scene {
    struct loop *loop;
    struct loop_watch *watch;
    int ours, peer;
    int heard;
};

static void on_data(void *arg, unsigned events)
{
    struct scene *scene = arg;
    char byte;

    (void)events;
    scene->heard += recv(scene->ours, &byte, 1, 0) == 1;
}

static void begin(struct scene *scene, unsigned us)
{
    int fds[2];

    net_pair(fds);
    *scene = (struct scene){.loop = net_loop(), .ours = fds[0], .peer = fds[1]};
    loop_busy_poll(scene->loop, us);
    scene->watch = loop_watch_new(scene->loop, scene->ours, on_data, scene, NULL);
    assert_non_null(scene->watch);
    loop_watch_set(scene->watch, LOOP_READ);
    fake_looks = 0;
}

static void end(struct scene *scene)
{
    loop_watch_free(scene->watch);
    loop_free(scene->loop);
    (void)close(scene->ours);
    (void)close(scene->peer);
}

/* A byte comes and is served by a turn that need not block; then an occasion to poll. */
static bool occasion(struct scene *scene)
{
    int before = scene->heard;

    assert_int_equal(send(scene->peer, "x", 1, MSG_NOSIGNAL), 1);
    run_turn(scene->loop, false);
    assert_int_equal(scene->heard, before + 1);
    fake_looks = 0;
    return poll_busily(scene->loop);
}

static void off_by_default(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene, 0);
    assert_false(occasion(&scene));
    assert_int_equal(fake_looks, 0);
    end(&scene);
}

static void at_rest_there_is_no_polling(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene, BUDGET_US);
    for (int i = 0; i < 10; i++)
        assert_false(poll_busily(scene.loop));
    assert_int_equal(fake_looks, 0);
    assert_false(occasion(&scene)); /* nothing more comes: for the budget, and once */
    assert_int_equal(fake_looks, 1 + BUDGET_US / 10);
    fake_looks = 0;
    assert_false(poll_busily(scene.loop));
    assert_int_equal(fake_looks, 0);
    end(&scene);
}

static void what_comes_is_served_without_blocking(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene, BUDGET_US);
    assert_int_equal(send(scene.peer, "xy", 2, MSG_NOSIGNAL), 2);
    run_turn(scene.loop, true);
    assert_int_equal(scene.heard, 1);
    assert_true(poll_busily(scene.loop));
    assert_int_equal(scene.heard, 2);
    assert_int_equal(fake_looks, 1); /* at the first look */
    end(&scene);
}

static void it_gives_up_and_comes_back(void **state)
{
    struct scene scene;
    unsigned polls = 0;

    (void)state;
    begin(&scene, BUDGET_US);
    for (unsigned i = 0; i < 4000; i++) {
        assert_false(occasion(&scene));
        polls += fake_looks > 0;
    }
    /* after 1, 3, 7 ... 1023 occasions, and then after every 1023 */
    assert_in_range(polls, 10, 14);
    scene.loop->busy.skip = 0; /* the next occasion comes, and this time it pays */
    assert_int_equal(send(scene.peer, "xy", 2, MSG_NOSIGNAL), 2);
    run_turn(scene.loop, false);
    assert_true(poll_busily(scene.loop));
    assert_int_equal(scene.loop->busy.misses, 0);
    assert_false(occasion(&scene));
    assert_true(fake_looks > 0);
    end(&scene);
}

static void a_stop_ends_it(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene, LOOP_BUSY_POLL_MAX_US + 1);
    assert_int_equal(scene.loop->busy.us, LOOP_BUSY_POLL_MAX_US);
    scene.loop->busy.data = true;
    loop_stop(scene.loop);
    assert_true(poll_busily(scene.loop));
    assert_int_equal(fake_looks, 1);
    loop_run(scene.loop); /* returns */
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_by_default),
        cmocka_unit_test(at_rest_there_is_no_polling),
        cmocka_unit_test(what_comes_is_served_without_blocking),
        cmocka_unit_test(it_gives_up_and_comes_back),
        cmocka_unit_test(a_stop_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
