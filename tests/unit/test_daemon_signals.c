/* Signals as events of the loop: in order, not from the handler, and not after their end. */
#include "daemon/signals.h"

#include "net_test.h"

#include <signal.h>

static int heard[8];
static unsigned n_heard;

static void on_signal(void *arg, int number)
{
    assert_ptr_equal(arg, heard);
    assert_true(n_heard < 8);
    heard[n_heard++] = number;
}

static void test_signals(void **state)
{
    struct loop *loop = net_loop();
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(signals_catch(loop, on_signal, heard, &err), ERROR_NONE);
    assert_int_equal(raise(SIGHUP), 0);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(n_heard, 0); /* not from the handler */
    NET_UNTIL(loop, n_heard == 2);
    assert_int_equal(heard[0], SIGHUP);
    assert_int_equal(heard[1], SIGTERM);
    assert_int_equal(raise(SIGPIPE), 0); /* ignored */
    assert_int_equal(raise(SIGINT), 0);
    NET_UNTIL(loop, n_heard == 3);
    assert_int_equal(heard[2], SIGINT);
    signals_release();
    assert_int_equal(raise(SIGHUP), 0); /* nobody listens any more; nothing happens */
    net_turn(loop);
    assert_int_equal(n_heard, 3);
    loop_free(loop);
    signals_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_signals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
