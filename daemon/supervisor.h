/*
 * The process that an administrator starts: reads the configuration, opens listeners, starts keyholders and the
 * network process, restarts them, links them with each other, reloads and drains. It handles no traffic.
 */
#ifndef TOKENTLS_DAEMON_SUPERVISOR_H
#define TOKENTLS_DAEMON_SUPERVISOR_H

#include "daemon/program.h"

/* Network processes that drain at the same time; a reload beyond that ends the oldest at once. */
#define SUPERVISOR_DRAINING_MAX 8

/* Run the daemon in the foreground until it is told to stop. Returns the exit status. */
MUST_USE int supervisor_run(const struct program *program, const char *file);

#endif
