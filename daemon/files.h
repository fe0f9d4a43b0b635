/* The files that a configuration names, looked at without starting anything. */
#ifndef TOKENTLS_DAEMON_FILES_H
#define TOKENTLS_DAEMON_FILES_H

#include "daemon/program.h"

/*
 * What the supervisor's --check does beyond reading the text: load trust, CRLs, certificates and keys as a worker
 * would, one service after the other. Every problem goes to `errors` with the line of its service.
 */
void files_check(const struct program *program, const struct settings *settings, struct config_errors *errors);

#endif
