#include "daemon/config_json.h"

#include <string.h>

static cJSON *list_value(const struct config_list *list)
{
    cJSON *array = cJSON_CreateArray();

    for (size_t i = 0; i < list->n; i++)
        (void)cJSON_AddItemToArray(array, cJSON_CreateString(list->items[i]));
    return array;
}

/* `at`: the value within the section's struct, of the type that its row names. */
static cJSON *option_value(const struct config_option *option, const void *at)
{
    switch (option->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH: {
        const char *const *text = at;

        return *text != NULL ? cJSON_CreateString(*text) : cJSON_CreateNull();
    }
    case CONFIG_LIST:
    case CONFIG_PATHS:
        return list_value(at);
    case CONFIG_BOOL:
        return cJSON_CreateBool(*(const bool *)at);
    case CONFIG_CHOICE: {
        int chosen = *(const int *)at;

        return chosen >= 0 ? cJSON_CreateString(option->choices[chosen]) : cJSON_CreateNull();
    }
    default:
        return cJSON_CreateNumber((double)*(const uint64_t *)at);
    }
}

static cJSON *section_tree(const struct config_section *section)
{
    cJSON *tree = cJSON_CreateObject(), *options, *sections;

    (void)cJSON_AddStringToObject(tree, "kind", section->schema->name);
    if (section->title != NULL)
        (void)cJSON_AddStringToObject(tree, "name", section->title);
    else
        (void)cJSON_AddNullToObject(tree, "name");
    (void)cJSON_AddNumberToObject(tree, "line", section->line);
    options = cJSON_AddObjectToObject(tree, "options");
    for (const struct config_option *option = section->schema->options; option->name != NULL; option++)
        (void)cJSON_AddItemToObject(options, option->name,
                                    option_value(option, (const char *)section->values + option->offset));
    sections = cJSON_AddArrayToObject(tree, "sections");
    for (size_t i = 0; i < section->n_sections; i++)
        (void)cJSON_AddItemToArray(sections, section_tree(&section->sections[i]));
    return tree;
}

cJSON *config_json_tree(const struct config *config)
{
    return section_tree(&config->top);
}
