#include "daemon/program.h"

#include "base/log.h"
#include "base/options.h"
#include "base/options_table.h"
#include "daemon/check.h"
#include "daemon/network.h"
#include "daemon/supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TOKENTLS_VERSION
#define TOKENTLS_VERSION "0.1.0"
#endif

result program_read(const struct program *program, const struct config_source *source, struct config_errors *errors,
                    struct config **ret_config, struct settings **ret_settings)
{
    struct settings *settings = calloc(1, sizeof(*settings));
    struct config *config = NULL;
    result r = ERROR_INTERNAL;

    if (settings == NULL)
        return ERROR_INTERNAL;
    r = config_parse(program->schema, source, errors, &config);
    if (r != ERROR_NONE)
        goto err0;
    program->check(config, errors, settings);
    if (errors->total > 0) {
        r = ERROR_CONFIG;
        goto err0;
    }
    *ret_config = config;
    *ret_settings = settings;
    return ERROR_NONE;

err0:
    settings_free(settings);
    free(settings);
    config_free(config);
    return r;
}

void program_setup_log(const struct program *program, const struct settings *settings)
{
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO,
                                            LOG_LEVEL_DEBUG};

    log_setup(program->name, levels[settings->log.level], settings->log.format == 1 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT,
              getenv("JOURNAL_STREAM") != NULL);
}

static void print_help(const struct program *program, const struct options *options)
{
    options_help(options, stdout);
    (void)printf("\nThe configuration file (docs/configuration.md explains it):\n\n");
    config_print_help(program->schema, stdout);
}

int program_main(const struct program *program, int argc, char **argv)
{
    const char *file = NULL;
    bool check = false, json = false, version = false;
    const struct options_entry entries[] = {
        OPTIONS_TEXT("config", "FILE", &file, "the configuration file"),
        OPTIONS_FLAG("check", &check, "check the configuration and the files it names, then exit with 0 or 2"),
        OPTIONS_FLAG("json", &json, "with --check: print the outcome and all settings as JSON"),
        OPTIONS_FLAG("version", &version, "print the version"), OPTIONS_END};
    const struct options options = {.program = program->name,
                                    .description = program->description,
                                    .entries = entries,
                                    .epilog = "Signals: SIGTERM and SIGINT drain and end, SIGHUP reads the "
                                              "configuration again.\n"};
    struct options_rest rest;
    struct error err = ERROR_INIT;

    if (argc == 2 && strcmp(argv[1], NETWORK_ROLE) == 0)
        return network_run(program);
    if (argc == 2 && strcmp(argv[1], OPTIONS_TABLE_ARGUMENT) == 0) {
        options_table_print(&options, stdout);
        config_print_table(program->schema, stdout);
        return 0;
    }
    if (options_parse(&options, argc, argv, &rest, &err) == ERROR_NONE && !rest.help && !version && file == NULL)
        (void)error_set(&err, ERROR_USAGE, "--config FILE is missing");
    else if (json && !check && err.category == ERROR_NONE && !rest.help && !version)
        (void)error_set(&err, ERROR_USAGE, "--json is of no use without --check");
    if (err.category != ERROR_NONE) {
        (void)fprintf(stderr, "%s: %s\n", program->name, err.text);
        return error_exit_status(err.category);
    }
    if (rest.help) {
        print_help(program, &options);
        return 0;
    }
    if (version) {
        (void)printf("%s %s\n", program->name, TOKENTLS_VERSION);
        return 0;
    }
    return check ? check_run(program, file, json) : supervisor_run(program, file);
}
