#include "daemon/config.h"

#include "base/options_table.h"

#include <string.h>

#define WIDTH 80
#define INDENT 8

/* `text` in lines of at most WIDTH columns, each indented. */
static void print_wrapped(const char *text, FILE *out)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");

        if (column != 0 && column + 1 + word > WIDTH) {
            (void)fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            column = (size_t)fprintf(out, "%*s", INDENT, "");
        else
            column += (size_t)fprintf(out, " ");
        column += (size_t)fprintf(out, "%.*s", (int)word, text);
        text += word;
        text += strspn(text, " ");
    }
    (void)fputc('\n', out);
}

char *config_describe_type(const struct config_option *option, char *out, size_t size)
{
    static const char *const plain[] = {
        [CONFIG_TEXT] = "text",           [CONFIG_PATH] = "path",       [CONFIG_LIST] = "list",
        [CONFIG_PATHS] = "list of paths", [CONFIG_BOOL] = "true|false", [CONFIG_DURATION] = "duration",
    };
    size_t used = 0;

    if (option->type == CONFIG_NUMBER) {
        (void)snprintf(out, size, "%snumber %llu..%llu", option->automatic ? "auto|" : "",
                       (unsigned long long)option->min, (unsigned long long)option->max);
        return out;
    }
    if (option->type != CONFIG_CHOICE) {
        (void)snprintf(out, size, "%s", plain[option->type]);
        return out;
    }
    out[0] = '\0';
    for (size_t i = 0; option->choices[i] != NULL && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i == 0 ? "" : "|", option->choices[i]);
    return out;
}

static void print_option(const struct config_option *option, FILE *out)
{
    char type[256];

    (void)fprintf(out, "    %s = %s", option->name, config_describe_type(option, type, sizeof(type)));
    if (option->required)
        (void)fprintf(out, " (required)");
    else if (option->fallback != NULL)
        (void)fprintf(out, " (default: %s)", option->fallback);
    (void)fputc('\n', out);
    print_wrapped(option->help, out);
}

static void print_schema(const struct config_schema *schema, const char *prefix, FILE *out)
{
    char name[128];

    (void)snprintf(name, sizeof(name), "%s%s%s", prefix, prefix[0] == '\0' ? "" : " / ", schema->name);
    if (schema->name[0] == '\0')
        (void)fprintf(out, "  Outside sections:\n");
    else
        (void)fprintf(out, "\n  %s%s%s { ... }%s\n", name, schema->title == NULL ? "" : " ",
                      schema->title == NULL ? "" : schema->title, schema->repeated ? "  may be repeated" : "");
    if (schema->help != NULL)
        print_wrapped(schema->help, out);
    for (const struct config_option *o = schema->options; o->name != NULL; o++)
        print_option(o, out);
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++)
        print_schema(schema->sections[i], name, out);
}

void config_print_help(const struct config_schema *schema, FILE *out)
{
    print_schema(schema, "", out);
}

static void print_records(const struct config_schema *schema, const char *prefix, FILE *out)
{
    char name[128], type[256];

    (void)snprintf(name, sizeof(name), "%s%s%s", prefix, prefix[0] == '\0' ? "" : " / ", schema->name);
    options_table_record(out, "section",
                         (const char *const[]){name, schema->title, schema->repeated ? "repeated" : "", schema->help},
                         4);
    for (const struct config_option *o = schema->options; o->name != NULL; o++)
        options_table_record(out, "setting",
                             (const char *const[]){o->name, config_describe_type(o, type, sizeof(type)),
                                                   o->required ? "required" : "", o->fallback, o->help},
                             5);
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++)
        print_records(schema->sections[i], name, out);
}

void config_print_table(const struct config_schema *schema, FILE *out)
{
    print_records(schema, "", out);
}
