#include "client/command.h"

static int run(int argc, char **argv)
{
    const struct options_entry entries[] = {OPTIONS_END};
    const struct options options = {.program = "tokentls verify", .entries = entries};
    const struct error err = {.category = ERROR_INTERNAL, .text = "not available in this build"};
    struct options_rest rest;
    int status;

    if (!command_options(&options, argc, argv, &rest, &status))
        return status;
    return command_fail(argv[0], &err);
}

const struct command cmd_verify_command = {"verify", run, "check a certificate chain and say why it is refused"};
