/* tokentls: the command line. What each subcommand does stands in its cmd_*.c. */
#include "base/options_table.h"
#include "base/text.h"
#include "client/command.h"

#include <stdio.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#ifndef TOKENTLS_VERSION
#define TOKENTLS_VERSION "0.1.0"
#endif

static const struct command *const commands[] = {
    &cmd_list_command,   &cmd_connect_command, &cmd_probe_command,      &cmd_verify_command,
    &cmd_enroll_command, &cmd_import_command,  &cmd_init_token_command, &cmd_status_command,
    &cmd_unlock_command, &cmd_lock_command,    &cmd_reload_command,     &cmd_doctor_command,
};

static void print_help(FILE *out)
{
    (void)fputs("usage: tokentls COMMAND [options]\n"
                "\n"
                "Authenticate to TLS servers with a key that never leaves its PKCS#11 token.\n"
                "\n"
                "commands:\n",
                out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        (void)fprintf(out, "  %-12s%s\n", commands[i]->name, commands[i]->description);
    (void)fputs("\n"
                "tokentls COMMAND --help explains a command and shows an example.\n"
                "\n"
                "exit status: 0 done, 1 authentication or verification refused, 2 usage or\n"
                "configuration, 3 token or object absent or ambiguous, 4 PIN wrong, blocked or\n"
                "not given, 5 network, 70 internal error\n",
                out);
}

static void print_table(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        options_table_record(stdout, "command", (const char *const[]){commands[i]->name, commands[i]->description}, 2);
}

static int unknown_command(const char *name)
{
    const char *names[ARRAY_SIZE(commands) + 1] = {NULL};
    const char *nearest;
    char shown[64];

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        names[i] = commands[i]->name;
    nearest = text_nearest(name, names);
    text_escape(name, strlen(name), shown, sizeof(shown));
    if (nearest != NULL)
        (void)fprintf(stderr, "tokentls: unknown command \"%s\"; did you mean %s?\n", shown, nearest);
    else
        (void)fprintf(stderr, "tokentls: unknown command \"%s\"; see tokentls --help\n", shown);
    return error_exit_status(ERROR_USAGE);
}

static int run_command(int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i]->name, argv[0]) == 0)
            return commands[i]->run(argc, argv);
    }
    return unknown_command(argv[0]);
}

int main(int argc, char **argv)
{
    int status = 0;

    if (argc < 2) {
        print_help(stderr);
        return error_exit_status(ERROR_USAGE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("tokentls " TOKENTLS_VERSION);
    } else if (strcmp(argv[1], OPTIONS_TABLE_ARGUMENT) == 0) {
        print_table();
    } else if (strcmp(argv[1], "help") == 0 && argc == 3) {
        char help[] = "--help";
        char *arguments[] = {argv[2], help, NULL};

        status = run_command(2, arguments);
    } else if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
    } else {
        status = run_command(argc - 1, argv + 1);
    }
    if (fflush(stdout) != 0 && status == 0) {
        (void)fputs("tokentls: cannot write to standard output\n", stderr);
        status = error_exit_status(ERROR_IO);
    }
    return status;
}
