#include "client/command.h"

#include "base/options_table.h"

#include <stdio.h>
#include <string.h>

bool command_options(const struct options *options, int argc, char **argv, struct options_rest *ret, int *ret_status)
{
    struct error err = ERROR_INIT;
    struct options_rest rest;

    if (argc == 2 && strcmp(argv[1], OPTIONS_TABLE_ARGUMENT) == 0) {
        options_table_print(options, stdout);
        *ret_status = 0;
        return false;
    }
    if (options_parse(options, argc, argv, &rest, &err) != ERROR_NONE) {
        *ret_status = command_fail(argv[0], &err);
        return false;
    }
    if (rest.help) {
        options_help(options, stdout);
        *ret_status = 0;
        return false;
    }
    *ret = rest;
    return true;
}

int command_fail(const char *name, const struct error *err)
{
    (void)fprintf(stderr, "tokentls %s: %s\n", name, err->text);
    return error_exit_status(err->category);
}
