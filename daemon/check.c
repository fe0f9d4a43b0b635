#include "daemon/check.h"

#include "daemon/blueprint.h"
#include "daemon/network.h"

#include <stdio.h>

int check_run(const struct program *program, const char *file)
{
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;
    result r = blueprint_read(program, file, &errors, &plan, &err);

    if (r == ERROR_NONE) {
        network_check_files(program, plan->settings, &errors);
        for (size_t i = 0; i < plan->settings->warnings.n; i++)
            (void)fprintf(stderr, "warning: %s\n", plan->settings->warnings.text[i]);
    }
    for (size_t i = 0; i < errors.n; i++)
        (void)fprintf(stderr, "%s\n", errors.text[i]);
    if (r != ERROR_NONE && errors.n == 0)
        (void)fprintf(stderr, "%s\n", err.text);
    if (r == ERROR_NONE && errors.total > 0)
        r = ERROR_CONFIG;
    blueprint_free(plan);
    config_errors_free(&errors);
    return error_exit_status(r);
}
