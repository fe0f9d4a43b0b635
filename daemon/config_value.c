#include "daemon/config_value.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static bool store_text(const struct config_value_context *context, const struct config_option *option, const char *text,
                       char **out)
{
    *out = option->type == CONFIG_PATH && text[0] != '\0' ? config_resolve(context->config, text) : strdup(text);
    return *out != NULL;
}

static bool store_list(const struct config_value_context *context, const struct config_option *option,
                       const char *const *texts, size_t n, struct config_list *out)
{
    out->items = calloc(n + 1, sizeof(*out->items));
    if (out->items == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (texts[i][0] == '\0')
            config_errors_add(context->errors, context->line, "%s has an empty value", option->name);
        out->items[i] = option->type == CONFIG_PATHS ? config_resolve(context->config, texts[i]) : strdup(texts[i]);
        if (out->items[i] == NULL)
            return false;
        out->n++;
    }
    return true;
}

static void store_bool(const struct config_value_context *context, const struct config_option *option, const char *text,
                       bool *out)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        *out = text[0] == 't';
    else
        config_errors_add(context->errors, context->line, "%s must be true or false, not \"%s\"", option->name, text);
}

static void store_number(const struct config_value_context *context, const struct config_option *option,
                         const char *text, uint64_t *out)
{
    if (option->automatic && strcmp(text, "auto") == 0)
        *out = 0;
    else if (!text_parse_number(text, option->min, option->max, out))
        config_errors_add(context->errors, context->line, "%s must be %sa number from %llu to %llu, not \"%s\"",
                          option->name, option->automatic ? "\"auto\" or " : "", (unsigned long long)option->min,
                          (unsigned long long)option->max, text);
}

static void store_duration(const struct config_value_context *context, const struct config_option *option,
                           const char *text, uint64_t *out)
{
    uint64_t ms;

    if (!text_parse_duration(text, &ms)) {
        config_errors_add(context->errors, context->line,
                          "%s must be a duration such as \"250ms\", \"10s\", \"5m\", \"2h\"%s, not \"%s\"",
                          option->name, option->min == 0 ? " or \"0\" (none)" : "", text);
    } else if (ms < option->min || (option->max != 0 && ms > option->max)) {
        config_errors_add(context->errors, context->line, "%s must be from %llums to %llums, not \"%s\"", option->name,
                          (unsigned long long)option->min, (unsigned long long)option->max, text);
    } else {
        *out = ms;
    }
}

static void store_choice(const struct config_value_context *context, const struct config_option *option,
                         const char *text, int *out)
{
    char type[256];
    const char *nearest = text_nearest(text, option->choices);

    for (int i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *out = i;
            return;
        }
    }
    config_errors_add(context->errors, context->line, "%s must be %s, not \"%s\"%s%s%s", option->name,
                      config_describe_type(option, type, sizeof(type)), text,
                      nearest == NULL ? "" : "; did you mean \"", nearest == NULL ? "" : nearest,
                      nearest == NULL ? "" : "\"?");
}

static bool store(const struct config_value_context *context, const struct config_option *option,
                  const char *const *texts, size_t n, void *out)
{
    switch (option->type) {
    case CONFIG_TEXT:
    case CONFIG_PATH:
        return n == 0 || store_text(context, option, texts[0], out);
    case CONFIG_LIST:
    case CONFIG_PATHS:
        return store_list(context, option, texts, n, out);
    case CONFIG_BOOL:
        if (n > 0)
            store_bool(context, option, texts[0], out);
        break;
    case CONFIG_NUMBER:
        if (n > 0)
            store_number(context, option, texts[0], out);
        break;
    case CONFIG_DURATION:
        if (n > 0)
            store_duration(context, option, texts[0], out);
        break;
    case CONFIG_CHOICE:
        if (n > 0)
            store_choice(context, option, texts[0], out);
        break;
    }
    return true;
}

bool config_value_set(const struct config_value_context *context, const struct config_option *option,
                      const char *const *texts, size_t n, void *values)
{
    void *out = (char *)values + option->offset;

    if (option->required && (n == 0 || texts[0][0] == '\0'))
        config_errors_add(context->errors, context->line, "%s is missing%s", option->name,
                          n == 0 ? "" : ": it is empty");
    if (n == 0 && option->fallback != NULL)
        return store(context, option, &option->fallback, 1, out);
    return store(context, option, texts, n, out);
}

void config_value_free_all(const struct config_schema *schema, void *values)
{
    for (const struct config_option *o = schema->options; o->name != NULL; o++) {
        void *value = (char *)values + o->offset;

        if (o->type == CONFIG_TEXT || o->type == CONFIG_PATH) {
            free(*(char **)value);
        } else if (o->type == CONFIG_LIST || o->type == CONFIG_PATHS) {
            struct config_list *list = value;

            for (size_t i = 0; i < list->n; i++)
                free((char *)(uintptr_t)list->items[i]);
            free(list->items);
        }
    }
}
