/* The network process: no PIN, no module, no exec; the supervisor's orders on descriptor 3. */
#ifndef TOKENTLS_DAEMON_NETWORK_H
#define TOKENTLS_DAEMON_NETWORK_H

#include "daemon/program.h"

/* The first argument that makes a program its own network process. */
#define NETWORK_ROLE "--network-process"

/* Run until the supervisor has it drained or is gone. Returns the exit status. */
MUST_USE int network_run(const struct program *program);

/*
 * What the supervisor's --check does beyond reading the text: load trust, CRLs, certificates and keys as a worker
 * would, one service after the other. Every problem goes to `errors` with the line of its service.
 */
void network_check_files(const struct program *program, const struct settings *settings, struct config_errors *errors);

#endif
