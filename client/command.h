/*
 * The subcommands of `tokentls`: each cmd_NAME.c exports one struct command and main.c lists them in a table. A
 * command parses its own arguments with base/options.h and returns the exit status.
 */
#ifndef TOKENTLS_CLIENT_COMMAND_H
#define TOKENTLS_CLIENT_COMMAND_H

#include "base/error.h"
#include "base/options.h"

#include <stdbool.h>

struct command {
    const char *name; /* as typed */
    /* argv[0] is the name. Returns the exit status (docs/configuration.md): 0, 1, 2, 3, 4, 5 or 70. */
    int (*run)(int argc, char **argv);
    const char *description; /* one line for `tokentls --help` */
};

extern const struct command cmd_connect_command;
extern const struct command cmd_enroll_command;
extern const struct command cmd_import_command;
extern const struct command cmd_init_token_command;
extern const struct command cmd_doctor_command;
extern const struct command cmd_list_command;
extern const struct command cmd_lock_command;
extern const struct command cmd_probe_command;
extern const struct command cmd_reload_command;
extern const struct command cmd_status_command;
extern const struct command cmd_unlock_command;
extern const struct command cmd_verify_command;

/*
 * Parse a command's arguments. True: go on. False: the command is over with *ret_status, because --help was printed
 * (0) or the command line was wrong and said so on standard error (2).
 */
MUST_USE bool command_options(const struct options *options, int argc, char **argv, struct options_rest *ret,
                              int *ret_status);

/* Print "tokentls NAME: text" to standard error and return the exit status of the error's category. */
int command_fail(const char *name, const struct error *err);

#endif
