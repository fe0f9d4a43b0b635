#include "daemon/blueprint.h"

#include "base/file.h"
#include "daemon/config_text.h"

#include <stdlib.h>
#include <string.h>

static result find_users(struct blueprint *plan, struct config_errors *errors)
{
    const struct settings_global *global = plan->settings->global;
    const struct config_section *top = &plan->config->top;
    struct error err = ERROR_INIT;

    if (global->user != NULL && global->user[0] != '\0') {
        plan->has_user = confinement_find_user(global->user, &plan->user, &err) == ERROR_NONE;
        if (!plan->has_user)
            config_errors_add(errors, config_line(top, "user"), "user: %s", err.text);
    }
    if (global->keyholder_user != NULL && global->keyholder_user[0] != '\0') {
        plan->has_keyholder_user =
            confinement_find_user(global->keyholder_user, &plan->keyholder_user, &err) == ERROR_NONE;
        if (!plan->has_keyholder_user)
            config_errors_add(errors, config_line(top, "keyholder-user"), "keyholder-user: %s", err.text);
    }
    return errors->total == 0 ? ERROR_NONE : ERROR_CONFIG;
}

static result make(const struct program *program, const struct config_source *source, struct config_errors *errors,
                   struct blueprint **ret, struct error *err)
{
    struct blueprint *plan = calloc(1, sizeof(*plan));
    result r;

    if (plan == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    plan->references = 1;
    r = program_read(program, source, errors, &plan->config, &plan->settings);
    if (r == ERROR_NONE)
        r = find_users(plan, errors);
    if (r == ERROR_NONE)
        r = groups_make(plan->settings, program->purpose, errors, &plan->groups);
    if (r == ERROR_NONE)
        r = config_errors_result(errors, err);
    else if (config_errors_result(errors, err) == ERROR_NONE)
        (void)error_set(err, r, "%s: out of memory", source->file);
    if (r != ERROR_NONE) {
        blueprint_free(plan);
        return r;
    }
    *ret = plan;
    return ERROR_NONE;
}

result blueprint_read(const struct program *program, const char *file, struct config_errors *errors,
                      struct blueprint **ret, struct error *err)
{
    struct file_content content = {0};
    struct config_source source = {.file = file, .expand = true};
    result r = file_read(file, CONFIG_TEXT_MAX, &content, err);

    errors->file = file;
    if (r != ERROR_NONE) {
        if (err != NULL)
            err->category = ERROR_CONFIG;
        return ERROR_CONFIG;
    }
    source.text = (const char *)content.data;
    source.length = content.length;
    r = make(program, &source, errors, ret, err);
    file_content_free(&content);
    return r;
}

result blueprint_again(const struct program *program, const struct blueprint *plan, struct config_errors *errors,
                       struct blueprint **ret, struct error *err)
{
    const struct config_source source = {
        .file = plan->config->file, .text = plan->config->text, .length = strlen(plan->config->text)};

    errors->file = plan->config->file;
    return make(program, &source, errors, ret, err);
}

struct blueprint *blueprint_ref(struct blueprint *plan)
{
    plan->references++;
    return plan;
}

void blueprint_free(struct blueprint *plan)
{
    if (plan == NULL || --plan->references > 0)
        return;
    groups_free(&plan->groups);
    if (plan->settings != NULL)
        settings_free(plan->settings);
    free(plan->settings);
    config_free(plan->config);
    free(plan);
}
