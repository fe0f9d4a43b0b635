/* --check: a configuration and the files it names, without starting anything. */
#ifndef TOKENTLS_DAEMON_CHECK_H
#define TOKENTLS_DAEMON_CHECK_H

#include "daemon/program.h"

/*
 * Print everything that can be found wrong, and the warnings, on standard error; with `json` as one object on standard
 * output, {"ok", "errors": [...], "warnings": [...], "configuration": see daemon/config_json.h, or null}. Returns the
 * exit status, 0 or 2.
 */
MUST_USE int check_run(const struct program *program, const char *file, bool json);

#endif
