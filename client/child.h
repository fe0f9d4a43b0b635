/* The end of a child process. */
#ifndef TOKENTLS_CLIENT_CHILD_H
#define TOKENTLS_CLIENT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Wait until the child `pid` has ended or `deadline` (CLOCK_MONOTONIC ms, base/clock.h) has come. True: it has ended
 * and is reaped, *ret_status is waitpid()'s. Blocks; any thread that no other waits for the same child.
 */
bool child_wait(pid_t pid, uint64_t deadline, int *ret_status);

/*
 * Ask the child to end (SIGTERM), wait for `patience_ms`, then make it (SIGKILL), and reap it. Returns its status as
 * waitpid() gives it.
 */
int child_end(pid_t pid, uint64_t patience_ms);

#endif
