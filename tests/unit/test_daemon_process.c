/* Ending child processes: gently, then by force, and always reaped. */
#include "daemon/process.h"

/* The patience of the real one is for modules that log out; here only its end matters. */
#undef PROCESS_PATIENCE_MS
#define PROCESS_PATIENCE_MS 20

#include "daemon/process.c" // NOLINT(bugprone-suspicious-include): the unit under test

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>

/* A child that says when it runs and then waits; exits with `status` on SIGTERM, or ignores it when that is < 0. */
static int exit_status;

static void on_term(int number)
{
    (void)number;
    _exit(exit_status);
}

static pid_t child(int status)
{
    int fds[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        exit_status = status;
        (void)signal(SIGTERM, status < 0 ? SIG_IGN : on_term);
        (void)!write(fds[1], "x", 1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(fds[0], &byte, 1), 1);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return pid;
}

static void expect_reaped(pid_t pid)
{
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_end_is_noticed_once(void **state)
{
    int status = -7;
    pid_t pid = child(5);

    (void)state;
    assert_false(process_has_ended(pid, &status));
    assert_int_equal(status, -7);
    assert_int_equal(kill(pid, SIGTERM), 0);
    while (!process_has_ended(pid, &status))
        (void)sched_yield();
    assert_int_equal(process_exit_status(status), 5);
    expect_reaped(pid);
    assert_false(process_has_ended(pid, &status)); /* no child any more */
}

static void test_signal_shows_in_the_status(void **state)
{
    int status = 0;
    pid_t pid = child(0);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (!process_has_ended(pid, &status))
        (void)sched_yield();
    assert_int_equal(process_exit_status(status), 128 + SIGKILL);
}

static void test_end(void **state)
{
    pid_t gentle = child(0), deaf = child(-1);

    (void)state;
    process_end(gentle);
    expect_reaped(gentle);
    process_end(deaf);
    expect_reaped(deaf);
}

/* To kill(2), 0 means a whole group: tried in one of its own. */
static void test_no_process(void **state)
{
    int status = 0;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        if (setpgid(0, 0) != 0)
            _exit(1);
        process_end(0);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(process_exit_status(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end_is_noticed_once),
        cmocka_unit_test(test_signal_shows_in_the_status),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_no_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
