/* Waiting for children: those that end, those that do not, those that ignore SIGTERM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "client/child.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that ends with 5 at once, waits for SIGTERM, or ignores it; ready once this returns. */
enum habit { ENDS, OBEYS, RESISTS };

static pid_t start(enum habit habit)
{
    int ready[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGTERM, habit == RESISTS ? SIG_IGN : SIG_DFL);
        (void)!write(ready[1], "r", 1);
        while (habit != ENDS)
            pause();
        _exit(5);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]), close(ready[1]);
    return pid;
}

static void test_ends_by_itself(void **state)
{
    int status = -1;

    (void)state;
    assert_true(child_wait(start(ENDS), clock_deadline(30000), &status));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void test_deadline_passes(void **state)
{
    pid_t pid = start(OBEYS);
    int status = -1;

    (void)state;
    assert_false(child_wait(pid, clock_monotonic_ms(), &status));
    assert_false(child_wait(pid, clock_deadline(20), &status));
    status = child_end(pid, 30000);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void test_patience_ends(void **state)
{
    int status = child_end(start(RESISTS), 20);

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_already_reaped(void **state)
{
    pid_t pid = start(ENDS);
    int status;

    (void)state;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(child_wait(pid, clock_deadline(30000), &status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_by_itself),
        cmocka_unit_test(test_deadline_passes),
        cmocka_unit_test(test_patience_ends),
        cmocka_unit_test(test_already_reaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
