/* Ending child processes. */
#ifndef TOKENTLS_DAEMON_PROCESS_H
#define TOKENTLS_DAEMON_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* How long a child may take after SIGTERM before it is killed. */
#define PROCESS_PATIENCE_MS 2000

/* True when `pid` has ended; then it is reaped and *ret_status is what waitpid(2) says. Does not block. */
bool process_has_ended(pid_t pid, int *ret_status);

/* SIGTERM, a wait of at most PROCESS_PATIENCE_MS, SIGKILL; reaps. pid <= 0: nothing. */
void process_end(pid_t pid);

/* The exit status as a shell shows it: 128 + signal when it was killed. */
int process_exit_status(int status);

#endif
