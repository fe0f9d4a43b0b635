/* The network process: no PIN, no module, no exec; the supervisor's orders on descriptor 3. */
#ifndef TOKENTLS_DAEMON_NETWORK_H
#define TOKENTLS_DAEMON_NETWORK_H

#include "daemon/program.h"

/* The first argument that makes a program its own network process. */
#define NETWORK_ROLE "--network-process"

/* Run until the supervisor has it drained or is gone. Returns the exit status. */
MUST_USE int network_run(const struct program *program);

#endif
