#include "daemon/check.h"

#include "daemon/blueprint.h"
#include "daemon/config_json.h"
#include "daemon/files.h"

#include <stdio.h>

static void print_list(const struct config_errors *list, const char *prefix)
{
    for (size_t i = 0; i < list->n; i++)
        (void)fprintf(stderr, "%s%s\n", prefix, list->text[i]);
}

static void put_list(cJSON *into, const char *name, const struct config_errors *list)
{
    cJSON *array = cJSON_AddArrayToObject(into, name);

    for (size_t i = 0; list != NULL && i < list->n; i++)
        (void)cJSON_AddItemToArray(array, cJSON_CreateString(list->text[i]));
}

/* `plan` is NULL when the file could not be understood; `text`: an error that has no line. */
static void print_json(const struct blueprint *plan, const struct config_errors *errors, const char *text)
{
    cJSON *tree = cJSON_CreateObject();
    char *printed;

    (void)cJSON_AddBoolToObject(tree, "ok", plan != NULL && errors->total == 0);
    put_list(tree, "errors", errors);
    if (text != NULL)
        (void)cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(tree, "errors"), cJSON_CreateString(text));
    put_list(tree, "warnings", plan != NULL ? &plan->settings->warnings : NULL);
    (void)cJSON_AddItemToObject(tree, "configuration",
                                plan != NULL ? config_json_tree(plan->config) : cJSON_CreateNull());
    printed = cJSON_Print(tree);
    if (printed != NULL)
        (void)puts(printed);
    cJSON_free(printed);
    cJSON_Delete(tree);
}

int check_run(const struct program *program, const char *file, bool json)
{
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;
    result r = blueprint_read(program, file, &errors, &plan, &err);
    const char *text;

    if (r == ERROR_NONE)
        files_check(program, plan->settings, &errors);
    text = r != ERROR_NONE && errors.n == 0 ? err.text : NULL;
    if (json) {
        print_json(plan, &errors, text);
    } else {
        if (plan != NULL)
            print_list(&plan->settings->warnings, "warning: ");
        print_list(&errors, "");
        if (text != NULL)
            (void)fprintf(stderr, "%s\n", text);
    }
    if (r == ERROR_NONE && errors.total > 0)
        r = ERROR_CONFIG;
    blueprint_free(plan);
    config_errors_free(&errors);
    return error_exit_status(r);
}
